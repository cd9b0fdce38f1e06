/*
 * fp4/host/compare.h - are two quantized tensors the same bytes, and if not, where do they part?
 *
 * What a kernel author calls on the kernel's output and the reference's: the first block that
 * differs is named with its place, both scales, both codes and both values, the rest is counted.
 *
 *     fp4_difference d;
 *     if (!fp4_ref_same(&got, &expected, &d)) {
 *         char text[FP4_DIFFERENCE_TEXT];
 *         puts(fp4_difference_text(&d, text, sizeof(text)));
 *     }
 */
#ifndef FP4_HOST_COMPARE_H
#define FP4_HOST_COMPARE_H

#include <fp4/host/quant.h>

#include <stdio.h>

/** One side of the first difference. */
typedef struct fp4_difference_side {
    uint8_t sf;      /* scale byte of the block */
    uint8_t code;    /* code of the element */
    uint8_t padding; /* scale byte at first_padding */
    float scale;     /* what sf decodes to */
    float value;     /* the element decoded, second-level scale included */
    float row_dec;   /* second-level scale of the row */
} fp4_difference_side;

/** How two tensors differ. status FP4_OK and all counts 0: they are the same. */
typedef struct fp4_difference {
    fp4_status status; /* of the comparison: anything else, and nothing was compared */
    fp4_format format;
    size_t blocks;  /* blocks with another scale byte or any other code */
    size_t scales;  /* blocks with another scale byte */
    size_t codes;   /* elements with another code */
    size_t padding; /* bytes of scale padding that differ (tensors of one layout only) */
    size_t rows;    /* rows with another second-level scale: all of them where global_dec differs */

    /* The first differing block in row order; where blocks == 0, the first differing row. The
       element is the block's first that differs, or its first where only the scale does. */
    size_t row, col;      /* of the element */
    size_t sf_col;        /* of the block: its elements start at sf_col * block */
    size_t first_padding; /* offset of the first differing padding byte */
    fp4_difference_side got, expected;
} fp4_difference;

static inline fp4_difference_side fp4_difference_side_(const fp4_tensor *t, size_t row, size_t col)
{
    const size_t block = fp4_format_block(t->format);
    float decoded[32];
    fp4_difference_side side;

    fp4_ref_decode_(decoded, t, row, col / block * block, block, FP4_CODE_FIRST);
    side.sf = t->sf[fp4_sf_offset(t->layout, row, col / block, t->cols / block)];
    side.code = fp4_ref_code_(t, row, col);
    side.scale = fp4_sf_to_f32(t->format, side.sf);
    side.value = decoded[col % block];
    side.row_dec = t->row_dec != NULL ? t->row_dec[row] : t->global_dec;
    side.padding = 0;
    return side;
}

/* Counts one block; remembers it where it is the first that differs. */
static inline void fp4_compare_block_(const fp4_tensor *got, const fp4_tensor *expected, size_t row,
                                      size_t sf_col, fp4_difference *d)
{
    const size_t block = fp4_format_block(got->format), sf_cols = got->cols / block;
    const int scale = got->sf[fp4_sf_offset(got->layout, row, sf_col, sf_cols)] !=
                      expected->sf[fp4_sf_offset(expected->layout, row, sf_col, sf_cols)];
    size_t codes = 0, first = 0, i;

    for (i = block; i-- > 0;) {
        const size_t col = sf_col * block + i;
        if (fp4_ref_code_(got, row, col) != fp4_ref_code_(expected, row, col)) {
            codes++;
            first = i;
        }
    }
    if (!scale && codes == 0) {
        return;
    }
    if (d->blocks == 0) {
        d->row = row;
        d->sf_col = sf_col;
        d->col = sf_col * block + first;
        d->got = fp4_difference_side_(got, row, d->col);
        d->expected = fp4_difference_side_(expected, row, d->col);
    }
    d->blocks++;
    d->scales += (size_t)scale;
    d->codes += codes;
}

static inline void fp4_compare_padding_(const fp4_tensor *got, const fp4_tensor *expected,
                                        fp4_difference *d)
{
    const size_t sf_cols = got->cols / fp4_format_block(got->format);
    const size_t bytes = fp4_sf_bytes(got->layout, got->rows, sf_cols);
    size_t at;

    for (at = 0; at < bytes; at++) {
        if (got->sf[at] != expected->sf[at] &&
            (fp4_sf_row(got->layout, at, sf_cols) >= got->rows ||
             fp4_sf_col(got->layout, at, sf_cols) >= sf_cols) &&
            d->padding++ == 0) {
            d->first_padding = at;
            d->got.padding = got->sf[at];
            d->expected.padding = expected->sf[at];
        }
    }
}

/**
 * Compares two tensors of one format and shape byte by byte; their layouts may differ.
 *
 * errors   FP4_BAD_TYPE, FP4_BAD_SHAPE where format or shape differ; FP4_SMALL_BUFFER, FP4_NULL;
 *          *d is untouched then. Differences are no error: they are counted in *d.
 */
static inline fp4_status fp4_ref_compare(const fp4_tensor *got, const fp4_tensor *expected,
                                         fp4_difference *d)
{
    fp4_difference found;
    fp4_status status;
    size_t row, sf_col;

    if (got == NULL || expected == NULL || d == NULL) {
        return FP4_NULL;
    }
    status = fp4_ref_check_tensor_(got);
    status = status != FP4_OK ? status : fp4_ref_check_tensor_(expected);
    if (status != FP4_OK) {
        return status;
    }
    if (got->format != expected->format) {
        return FP4_BAD_TYPE;
    }
    if (got->rows != expected->rows || got->cols != expected->cols) {
        return FP4_BAD_SHAPE;
    }
    memset(&found, 0, sizeof(found));
    found.format = got->format;
    for (row = 0; row < got->rows && got->cols != 0; row++) {
        const float da = got->row_dec != NULL ? got->row_dec[row] : got->global_dec;
        const float db = expected->row_dec != NULL ? expected->row_dec[row] : expected->global_dec;
        for (sf_col = 0; sf_col < got->cols / fp4_format_block(got->format); sf_col++) {
            fp4_compare_block_(got, expected, row, sf_col, &found);
        }
        if (fp4_f32_bits(da) != fp4_f32_bits(db) && found.rows++ == 0 && found.blocks == 0) {
            found.row = row;
            found.got = fp4_difference_side_(got, row, 0);
            found.expected = fp4_difference_side_(expected, row, 0);
        }
    }
    if (got->layout == expected->layout && got->layout != FP4_LAYOUT_LINEAR && got->cols != 0) {
        fp4_compare_padding_(got, expected, &found);
    }
    *d = found;
    return FP4_OK;
}

/**
 * 1 if the tensors are the same bytes, second-level scales (of what has columns) and padding
 * included; else 0, and *d,
 * where d is not null, says why: the differences, or in d->status what forbade to compare.
 */
static inline int fp4_ref_same(const fp4_tensor *got, const fp4_tensor *expected, fp4_difference *d)
{
    fp4_difference found;

    memset(&found, 0, sizeof(found));
    found.status = fp4_ref_compare(got, expected, &found);
    if (d != NULL) {
        *d = found;
    }
    return found.status == FP4_OK && found.blocks + found.rows + found.padding == 0;
}

/** Bytes that hold any text of fp4_difference_text. */
#define FP4_DIFFERENCE_TEXT 768

/** The difference in words, in `text`, which is returned; cut off at `bytes` > 0, terminated. */
static inline const char *fp4_difference_text(const fp4_difference *d, char *text, size_t bytes)
{
    static const char *const names[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4/32", "MXFP4/16"};
    const char *name = (unsigned)d->format <= FP4_MXFP4_16 ? names[d->format] : "?";
    int used = 0;

    if (d->status != FP4_OK) {
        snprintf(text, bytes, "not compared: %s", fp4_status_text(d->status));
        return text;
    }
    if (d->blocks + d->padding + d->rows == 0) {
        snprintf(text, bytes, "%s: no difference", name);
        return text;
    }
    used = snprintf(text, bytes,
                    "%s: differ in %zu blocks (%zu scale bytes, %zu codes), the second-level scale "
                    "of %zu rows, %zu padding bytes",
                    name, d->blocks, d->scales, d->codes, d->rows, d->padding);
    if (d->blocks + d->rows != 0 && used >= 0 && (size_t)used < bytes) {
        used += snprintf(
            text + used, bytes - (size_t)used,
            "\n  first at row %zu, col %zu (block %zu of the row)"
            "\n    got       scale 0x%02x = %.9g, code 0x%x, second level %.9g, value %.9g"
            "\n    expected  scale 0x%02x = %.9g, code 0x%x, second level %.9g, value %.9g",
            d->row, d->col, d->sf_col, d->got.sf, (double)d->got.scale, d->got.code,
            (double)d->got.row_dec, (double)d->got.value, d->expected.sf, (double)d->expected.scale,
            d->expected.code, (double)d->expected.row_dec, (double)d->expected.value);
    }
    if (d->padding != 0 && used >= 0 && (size_t)used < bytes) {
        snprintf(text + used, bytes - (size_t)used,
                 "\n  first padding byte at offset %zu: got 0x%02x, expected 0x%02x",
                 d->first_padding, d->got.padding, d->expected.padding);
    }
    return text;
}

#endif /* FP4_HOST_COMPARE_H */

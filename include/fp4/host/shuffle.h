/*
 * fp4/host/shuffle.h - matrices with their rows in the order that TensorRT-LLM's and FlashInfer's
 * matrix multiplications want them in, their scales, and the way back. Bytes move, values stay.
 *
 * shape    batches x rows x ..., the rows of each matrix shuffled on their own, in whole shuffle
 *          blocks: rows % fp4_shuffle_block(epilogue_tile_m) == 0. Any alignment; no overlap.
 * errors   FP4_BAD_SHAPE where rows are not whole shuffle blocks, epilogue_tile_m is 0 or a size
 *          overflows, FP4_BAD_TYPE, FP4_SMALL_BUFFER, FP4_NULL; then nothing is written.
 */
#ifndef FP4_HOST_SHUFFLE_H
#define FP4_HOST_SHUFFLE_H

#include <fp4/host/layout.h>

static inline fp4_status fp4_ref_check_rows_(size_t batches, size_t rows, size_t epilogue_tile_m)
{
    return epilogue_tile_m == 0 || rows % fp4_shuffle_block(epilogue_tile_m) != 0 ||
                   fp4_overflows_(batches, rows)
               ? FP4_BAD_SHAPE
               : FP4_OK;
}

static inline fp4_status fp4_ref_move_rows_(const void *in, size_t in_bytes, void *out,
                                            size_t out_bytes, size_t batches, size_t rows,
                                            size_t row_bytes, size_t epilogue_tile_m, int reverse)
{
    const fp4_status status = fp4_ref_check_rows_(batches, rows, epilogue_tile_m);
    size_t row, bytes;

    if (status != FP4_OK || fp4_overflows_(batches * rows, row_bytes)) {
        return FP4_BAD_SHAPE;
    }
    bytes = batches * rows * row_bytes;
    if (bytes == 0) {
        return FP4_OK;
    }
    if (in == NULL || out == NULL) {
        return FP4_NULL;
    }
    if (in_bytes < bytes || out_bytes < bytes) {
        return FP4_SMALL_BUFFER;
    }
    for (row = 0; row < batches * rows; row++) { /* a matrix has whole shuffle blocks */
        const size_t from = reverse ? fp4_shuffle_row_to(row, epilogue_tile_m)
                                    : fp4_shuffle_row_from(row, epilogue_tile_m);
        memcpy((uint8_t *)out + row * row_bytes, (const uint8_t *)in + from * row_bytes, row_bytes);
    }
    return FP4_OK;
}

/** Rows of row_bytes bytes, shuffled. FlashInfer's shuffle_matrix_a, of a batch too. */
static inline fp4_status fp4_ref_shuffle_rows(const void *in, size_t in_bytes, void *out,
                                              size_t out_bytes, size_t batches, size_t rows,
                                              size_t row_bytes, size_t epilogue_tile_m)
{
    return fp4_ref_move_rows_(in, in_bytes, out, out_bytes, batches, rows, row_bytes,
                              epilogue_tile_m, 0);
}

/** The inverse. */
static inline fp4_status fp4_ref_unshuffle_rows(const void *in, size_t in_bytes, void *out,
                                                size_t out_bytes, size_t batches, size_t rows,
                                                size_t row_bytes, size_t epilogue_tile_m)
{
    return fp4_ref_move_rows_(in, in_bytes, out, out_bytes, batches, rows, row_bytes,
                              epilogue_tile_m, 1);
}

static inline fp4_status fp4_ref_move_sf_(const void *in, size_t in_bytes, void *out,
                                          size_t out_bytes, size_t element, size_t batches,
                                          size_t rows, size_t sf_cols, size_t epilogue_tile_m,
                                          int reverse)
{
    const fp4_layout from = reverse ? FP4_LAYOUT_128X4 : FP4_LAYOUT_LINEAR;
    const fp4_layout to = reverse ? FP4_LAYOUT_LINEAR : FP4_LAYOUT_128X4;
    fp4_status status = fp4_ref_check_rows_(batches, rows, epilogue_tile_m);
    size_t b, r, c;

    status = status != FP4_OK
                 ? status
                 : fp4_ref_check_sf_(from, element, batches, rows, sf_cols, in, in_bytes);
    status = status != FP4_OK
                 ? status
                 : fp4_ref_check_sf_(to, element, batches, rows, sf_cols, out, out_bytes);
    if (status != FP4_OK || out == NULL || batches * rows * sf_cols == 0) {
        return status;
    }
    memset(out, 0, batches * fp4_sf_bytes(to, rows, sf_cols) * element);
    for (b = 0; b < batches; b++) {
        for (r = 0; r < rows; r++) {
            const size_t shuffled = fp4_shuffle_row_to(r, epilogue_tile_m);
            for (c = 0; c < sf_cols; c++) {
                const size_t linear = (b * rows + r) * sf_cols + c;
                const size_t tiled =
                    fp4_sf_offset_batched(FP4_LAYOUT_128X4, b, shuffled, c, rows, sf_cols);
                memcpy((uint8_t *)out + (reverse ? linear : tiled) * element,
                       (const uint8_t *)in + (reverse ? tiled : linear) * element, element);
            }
        }
    }
    return FP4_OK;
}

/**
 * Linear scales to the 128x4 layout, by the rows of the shuffled matrix; padding is 0x00.
 * FlashInfer's shuffle_matrix_sf_a, which wants rows % 128 == 0; of a batch too.
 *
 * shape    as in host/layout.h, but for the rows.
 */
static inline fp4_status fp4_ref_shuffle_sf(const void *linear, size_t linear_bytes, void *out,
                                            size_t out_bytes, size_t element, size_t batches,
                                            size_t rows, size_t sf_cols, size_t epilogue_tile_m)
{
    return fp4_ref_move_sf_(linear, linear_bytes, out, out_bytes, element, batches, rows, sf_cols,
                            epilogue_tile_m, 0);
}

/** The inverse; the padding is dropped. */
static inline fp4_status fp4_ref_unshuffle_sf(const void *in, size_t in_bytes, void *linear,
                                              size_t linear_bytes, size_t element, size_t batches,
                                              size_t rows, size_t sf_cols, size_t epilogue_tile_m)
{
    return fp4_ref_move_sf_(in, in_bytes, linear, linear_bytes, element, batches, rows, sf_cols,
                            epilogue_tile_m, 1);
}

/**
 * All of a quantized matrix, shuffled: codes, scales and, where it has them, row_dec. What
 * FlashInfer's nvfp4_quantize(do_shuffle=True) does behind the quantization, with epilogue_tile_m
 * = 128; it wants rows % 128 == 0, and its columns are whole tiles of scales.
 *
 * shape    t: linear. out: the same format and shape, 128x4; row_dec where t has it, else it is
 *          not looked at. out->global_dec becomes t's.
 * errors   also FP4_BAD_TYPE where t is not linear, out not 128x4, or formats differ.
 */
static inline fp4_status fp4_ref_shuffle(const fp4_tensor *t, size_t epilogue_tile_m,
                                         fp4_tensor *out)
{
    size_t block, row_bytes, sf_cols;
    fp4_status status;

    if (t == NULL || out == NULL) {
        return FP4_NULL;
    }
    if (t->format != out->format || (unsigned)t->format > FP4_MXFP4_16 ||
        t->layout != FP4_LAYOUT_LINEAR || out->layout != FP4_LAYOUT_128X4) {
        return FP4_BAD_TYPE;
    }
    block = fp4_format_block(t->format);
    if (t->rows != out->rows || t->cols != out->cols || t->cols % block != 0) {
        return FP4_BAD_SHAPE;
    }
    row_bytes = fp4_q_bytes(t->format, 1, t->cols);
    sf_cols = t->cols / block;
    status = fp4_ref_check_rows_(1, t->rows, epilogue_tile_m);
    if (status != FP4_OK || fp4_overflows_(t->rows, row_bytes)) {
        return FP4_BAD_SHAPE;
    }
    if (t->rows * row_bytes != 0 && (t->q == NULL || out->q == NULL)) {
        return FP4_NULL;
    }
    if (t->q_bytes < t->rows * row_bytes || out->q_bytes < t->rows * row_bytes) {
        return FP4_SMALL_BUFFER;
    }
    if (t->row_dec != NULL && t->rows != 0) {
        if (out->row_dec == NULL) {
            return FP4_NULL;
        }
        if (t->row_dec_bytes / sizeof(float) < t->rows ||
            out->row_dec_bytes / sizeof(float) < t->rows) {
            return FP4_SMALL_BUFFER;
        }
    }
    status = fp4_ref_shuffle_sf(t->sf, t->sf_bytes, out->sf, out->sf_bytes, 1, 1, t->rows, sf_cols,
                                epilogue_tile_m);
    if (status != FP4_OK) {
        return status;
    }
    if (t->row_dec != NULL) {
        fp4_ref_shuffle_rows(t->row_dec, t->row_dec_bytes, out->row_dec, out->row_dec_bytes, 1,
                             t->rows, sizeof(float), epilogue_tile_m);
    }
    out->global_dec = t->global_dec;
    return fp4_ref_shuffle_rows(t->q, t->q_bytes, out->q, out->q_bytes, 1, t->rows, row_bytes,
                                epilogue_tile_m);
}

#endif /* FP4_HOST_SHUFFLE_H */

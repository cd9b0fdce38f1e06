/*
 * fp4/host/fake.h - fake quantization on the host: what is left of a matrix after 4 (or 8) bits, as
 * floats.
 *
 *     rule                  a block's scale                     an element
 *     FP4_FAKE_NVFP4, ...   the format's (scale.h)              decoded from its code: what
 *                                                               fp4_ref_dequantize_to makes of
 *                                                               fp4_ref_..._quantize
 *     FP4_FAKE_MODELOPT     ModelOpt's, dynamic; with amaxes    as modelopt.h has it
 *                           given its static one
 *     FP4_FAKE_CAST         none                                the nearest value of e2m1
 */
#ifndef FP4_HOST_FAKE_H
#define FP4_HOST_FAKE_H

#include <fp4/host/quant.h>
#include <fp4/modelopt.h>

/** A rule. The first are those of the formats. */
typedef enum fp4_fake_rule {
    FP4_FAKE_NVFP4 = FP4_NVFP4,
    FP4_FAKE_MXFP4 = FP4_MXFP4,
    FP4_FAKE_MXFP8 = FP4_MXFP8,
    FP4_FAKE_NVFP4_32 = FP4_NVFP4_32,
    FP4_FAKE_MXFP4_16 = FP4_MXFP4_16,
    FP4_FAKE_MODELOPT,
    FP4_FAKE_CAST
} fp4_fake_rule;

/**
 * How to fake.
 *
 * global   NVFP4: global_enc, positive and finite, and so its reciprocal (above 2^-128): of rows r
 *          globals[r / global_rows], of all globals[0] where global_rows is 0, or, where globals,
 *          aligned as floats are, is null, `global` for all.
 *          MODELOPT: likewise the largest amax of the tensor, if fp8_max is not 0 or there is no
 *          amax. Else, and of other rules, not looked at.
 * amax     null, or the amax of each block, row-major: not negative, not NaN, which is not checked.
 *          What exceeds it is clipped.
 * block    MODELOPT: the length of its blocks, which divides the columns; without amax 16, 32, 64
 *          or 128. Others: not used.
 * fp8_max  MODELOPT with amax: 448 or 256, or 0 for scales that are not rounded to e4m3.
 */
typedef struct fp4_fake {
    fp4_fake_rule rule;
    float global;
    const float *globals;
    size_t global_rows;
    const float *amax;
    size_t block;
    float fp8_max;
} fp4_fake;

/* Elements that share a scale. */
static inline size_t fp4_fake_block_(const fp4_fake *f)
{
    return f->rule < FP4_FAKE_MODELOPT ? fp4_format_block((fp4_format)f->rule)
           : f->rule == FP4_FAKE_CAST  ? 1
                                       : f->block;
}

static inline int fp4_fake_has_global_(const fp4_fake *f)
{
    return f->rule == FP4_FAKE_MODELOPT
               ? f->amax == NULL || f->fp8_max != 0.0f
               : f->rule < FP4_FAKE_MODELOPT && fp4_format_is_nvfp4((fp4_format)f->rule);
}

static inline fp4_status fp4_fake_check_(const fp4_matrix *x, const fp4_fake *f)
{
    size_t row, block;

    if (f == NULL) {
        return FP4_NULL;
    }
    if ((unsigned)f->rule > FP4_FAKE_CAST) {
        return FP4_BAD_TYPE;
    }
    block = fp4_fake_block_(f);
    if (block == 0 || x->cols % block != 0) {
        return FP4_BAD_SHAPE;
    }
    if (f->rule == FP4_FAKE_MODELOPT && f->amax == NULL &&
        (block < 16 || block > 128 || (block & (block - 1)) != 0)) {
        return FP4_BAD_SHAPE;
    }
    if (f->rule == FP4_FAKE_MODELOPT && f->amax != NULL && f->fp8_max != 0.0f &&
        f->fp8_max != 448.0f && f->fp8_max != 256.0f) {
        return FP4_BAD_SCALE;
    }
    for (row = 0; row < x->rows && x->cols != 0 && fp4_fake_has_global_(f); row++) {
        const float global = fp4_ref_global_of_(f->globals, f->global_rows, row, f->global);
        if (f->rule == FP4_FAKE_MODELOPT ? !(global >= 0.0f) : !fp4_invertible_(global)) {
            return FP4_BAD_SCALE;
        }
    }
    return FP4_OK;
}

/* A block by the rule of a format, in place; bits[i]: whether element i was clipped. */
static inline void fp4_fake_format_(float *x, uint8_t *bits, size_t n, fp4_format format,
                                    float amax, float global_enc)
{
    const fp4_ref_rule_ rule = fp4_ref_rule_of_(format);
    const fp4_scale scale = fp4_ref_scale_(rule, amax, global_enc);
    const float sf = fp4_sf_to_f32(format, scale.bits);
    const float dec = rule == FP4_REF_NVFP4_ ? fp4_nvfp4_global_dec(global_enc) : 1.0f;
    const float most = format == FP4_MXFP8 ? FP4_E4M3_MAX : FP4_E2M1_MAX;
    size_t i;

    for (i = 0; i < n; i++) {
        const float product = fp4_mul_rn(x[i], scale.enc);
        const float magnitude = fp4_bits_f32(fp4_f32_bits(product) & 0x7fffffffu);
        x[i] = format == FP4_MXFP8 ? fp4_e4m3_to_f32(fp4_f32_to_e4m3(product))
                                   : fp4_e2m1_to_f32(fp4_f32_to_e2m1(product));
        bits[i] = !fp4_is_nan(product) && magnitude > most;
    }
    fp4_ref_times_scales_(x, n, sf, dec, FP4_CODE_FIRST);
}

/* A block by ModelOpt's rules, in place. */
static inline void fp4_fake_modelopt_(float *x, uint8_t *bits, size_t n, const fp4_fake *f,
                                      float amax, float global_amax)
{
    const float scale = f->rule == FP4_FAKE_CAST ? 1.0f
                        : f->amax == NULL        ? fp4_modelopt_dynamic_scale(amax, global_amax)
                        : f->fp8_max == 0.0f     ? fp4_modelopt_scale_f32(amax)
                                             : fp4_modelopt_scale(amax, global_amax, f->fp8_max);
    size_t i;

    for (i = 0; i < n; i++) {
        bits[i] = (uint8_t)fp4_modelopt_is_clipped(x[i], fp4_modelopt_divisor(scale));
        x[i] = fp4_modelopt_fake_static(x[i], scale);
    }
}

/* Bits from bit `at` of a bit string of zeros on: element i is bit i % 8 of byte i / 8. */
static inline void fp4_fake_put_bits_(uint8_t *to, size_t at, const uint8_t *bits, size_t n)
{
    size_t i;

    for (i = at; i < at + n; i++) {
        to[i / 8] = (uint8_t)(to[i / 8] | bits[i - at] << i % 8);
    }
}

/* The amax of a block: none, given, or found (by ModelOpt's rules NaN of nothing but NaN). */
static inline float fp4_fake_amax_(const fp4_matrix *x, const fp4_fake *f, size_t row, size_t col,
                                   size_t block)
{
    float amax = 0.0f;

    if (f->rule == FP4_FAKE_CAST) {
        return amax;
    }
    if (f->amax == NULL) {
        return f->rule == FP4_FAKE_MODELOPT ? fp4_ref_amax_of_numbers_(x, row, col, block)
                                            : fp4_ref_amax_of_(x, row, col, block);
    }
    memcpy(&amax, f->amax + (row * x->cols + col) / block, sizeof amax);
    return amax;
}

/* Part of a block: n elements from column col of row, `amax` that of the whole block. */
static inline void fp4_fake_part_(const fp4_matrix *x, const fp4_fake *f, size_t row, size_t col,
                                  size_t n, float amax, fp4_dtype dtype, uint8_t *y,
                                  uint8_t *clipped)
{
    const float global = fp4_fake_has_global_(f)
                             ? fp4_ref_global_of_(f->globals, f->global_rows, row, f->global)
                             : 1.0f;
    float chunk[FP4_REF_CHUNK_];
    uint8_t bits[FP4_REF_CHUNK_];

    fp4_ref_load_(chunk, x, row, col, n);
    if (f->rule < FP4_FAKE_MODELOPT) {
        fp4_fake_format_(chunk, bits, n, (fp4_format)f->rule, amax, global);
    } else {
        fp4_fake_modelopt_(chunk, bits, n, f, amax, global);
    }
    fp4_ref_store_(y, dtype, chunk, n);
    if (clipped != NULL) {
        fp4_fake_put_bits_(clipped, row * x->cols + col, bits, n);
    }
}

/**
 * Fake-quantizes x to y.
 *
 * shape    x: rows x cols of any dtype, cols whole blocks. y: as many elements of f32, f16 or
 *          bf16, row r at element r * row_stride, any alignment; may not overlap x. clipped: null,
 *          or at least ceil(rows * cols / 8) bytes: bit i % 8 of byte i / 8 is 1 where element i =
 *          row * cols + col was beyond the largest code: |x * enc| > 6, of MXFP8 448, of MODELOPT
 *          |x| / scale. NaN is not. Bits behind the last are 0. Where an NVFP4 scale byte
 *          underflows to 0, y is 0 and enc is FLT_MAX: every |x| above 1.8e-38 is clipped. Where a
 *          static MODELOPT scale is 0, y is 0 too, but here the scale counts as 1: |x| > 6.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written.
 */
static inline fp4_status fp4_ref_fake_quantize(fp4_matrix x, const fp4_fake *f, fp4_dtype dtype,
                                               void *y, size_t y_bytes, size_t row_stride,
                                               uint8_t *clipped, size_t clipped_bytes)
{
    const size_t size = fp4_dtype_bytes(dtype), bits_bytes = (x.rows * x.cols + 7) / 8;
    fp4_status status = fp4_ref_check_matrix_(&x);
    size_t row, col, block, at, n;

    status = status != FP4_OK ? status : fp4_fake_check_(&x, f);
    if (status != FP4_OK) {
        return status;
    }
    if ((unsigned)dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (row_stride < x.cols) {
        return FP4_BAD_STRIDE;
    }
    if (x.rows == 0 || x.cols == 0) {
        return FP4_OK;
    }
    status = fp4_ref_check_output_(y, dtype, y_bytes, x.rows, x.cols, row_stride);
    if (status != FP4_OK || (clipped != NULL && clipped_bytes < bits_bytes)) {
        return status != FP4_OK ? status : FP4_SMALL_BUFFER;
    }
    if (clipped != NULL) {
        memset(clipped, 0, bits_bytes);
    }
    block = fp4_fake_block_(f);
    for (row = 0; row < x.rows; row++) {
        uint8_t *out = (uint8_t *)y + row * row_stride * size;
        for (col = 0; col < x.cols; col += block) {
            const float amax = fp4_fake_amax_(&x, f, row, col, block);
            for (at = 0; at < block; at += n) {
                n = fp4_ref_chunk_(block - at);
                fp4_fake_part_(&x, f, row, col + at, n, amax, dtype, out + (col + at) * size,
                               clipped);
            }
        }
    }
    return FP4_OK;
}

#endif /* FP4_HOST_FAKE_H */

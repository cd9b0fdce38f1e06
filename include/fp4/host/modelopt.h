/*
 * fp4/host/modelopt.h - whole matrices quantized as NVIDIA ModelOpt's tensors are, byte for byte,
 * and fake-quantized by those of its rules that host/fake.h does not have.
 *
 *     function                         ModelOpt's               rules (modelopt.h)
 *     fp4_ref_modelopt_nvfp4_quantize  NVFP4QTensor.quantize    fp4_modelopt_nvfp4_sf, _code
 *     fp4_ref_modelopt_nvfp4_static    the same, static         fp4_modelopt_nvfp4_static_sf, _code
 *     fp4_ref_modelopt_mxfp4_quantize  MXFP4QTensor.quantize    fp4_modelopt_mxfp4_sf, _code
 *     fp4_ref_modelopt_mxfp8_quantize  MXFP8QTensor.quantize    fp4_modelopt_mxfp8_sf, _code
 *     fp4_ref_modelopt_dequantize      dequantize of the three  fp4_modelopt_nvfp4_value, ...
 *     fp4_ref_modelopt_qdq             nvfp4_scalar_qdq         fp4_modelopt_qdq_scale
 *     fp4_ref_modelopt_convert         fused_amax_convert       fp4_modelopt_convert
 *     fp4_ref_modelopt_scales          compute_fp4_scales       fp4_modelopt_scale
 *
 * The same contract as in host/quant.h: shapes, blocks of either length, padding of 0x00, statuses,
 * and nothing written where one is not FP4_OK. Amaxes, globals and scales are aligned as floats
 * are. What differs where codes are written:
 *
 * range    NaN enters the amax of its block. An NVFP4 block then is 0x7f with codes of 7, an MXFP4
 *          block 0xff with codes of 8, and an MXFP8 block has scale byte 0.
 *          global_dec: positive and finite; nothing takes its reciprocal.
 * layout   ModelOpt writes scale bytes in FP4_LAYOUT_LINEAR; the others are there too.
 */
#ifndef FP4_HOST_MODELOPT_H
#define FP4_HOST_MODELOPT_H

#include <fp4/host/quant.h>

/* The largest |x| of a block, NaN where there is one: as magnitudes, NaNs are above infinity. */
static inline float fp4_ref_modelopt_amax_(const float *x, size_t n)
{
    uint32_t most = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        most = fp4_max_u32(most, fp4_f32_bits(x[i]) & 0x7fffffffu);
    }
    return fp4_bits_f32(most);
}

/* What a static quantizer has: the amax of each block of x, row-major, and those of the tensor. */
typedef struct fp4_ref_modelopt_given_ {
    const float *amax;
    float global_amax, fp8_max;
} fp4_ref_modelopt_given_;

/* A block's codes, one a byte, and its scale byte; static_sf: that of a static quantizer, or -1. */
static inline uint8_t fp4_ref_modelopt_block_(uint8_t *code, const float *x, size_t n,
                                              fp4_format format, float global_dec, int static_sf)
{
    const float amax = fp4_ref_modelopt_amax_(x, n);
    uint8_t sf;
    size_t i;

    if (fp4_format_is_nvfp4(format)) {
        sf = static_sf >= 0 ? (uint8_t)static_sf : fp4_modelopt_nvfp4_sf(amax, global_dec);
        for (i = 0; i < n; i++) {
            code[i] = fp4_modelopt_nvfp4_code(x[i], fp4_modelopt_nvfp4_dec(sf, global_dec));
        }
    } else if (format == FP4_MXFP8) {
        sf = fp4_modelopt_mxfp8_sf(amax);
        for (i = 0; i < n; i++) {
            code[i] = fp4_modelopt_mxfp8_code(x[i], sf);
        }
    } else {
        sf = fp4_modelopt_mxfp4_sf(amax);
        for (i = 0; i < n; i++) {
            code[i] = fp4_modelopt_mxfp4_code(x[i], sf);
        }
    }
    return sf;
}

/* The scale byte of block i by a static quantizer; -1 where there is none. */
static inline int fp4_ref_modelopt_static_sf_(const fp4_ref_modelopt_given_ *given, size_t i)
{
    float amax;

    if (given == NULL) {
        return -1;
    }
    memcpy(&amax, given->amax + i, sizeof amax);
    return fp4_modelopt_nvfp4_static_sf(amax, given->global_amax, given->fp8_max);
}

/* One row: codes, scale bytes, and zeros where t is wider than x. */
static inline void fp4_ref_modelopt_row_(const fp4_matrix *x, const fp4_ref_modelopt_given_ *given,
                                         const fp4_tensor *t, size_t row)
{
    const size_t block = fp4_format_block(t->format);
    const size_t sf_cols = t->cols / block;
    uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols);
    uint8_t code[FP4_REF_CHUNK_];
    float chunk[FP4_REF_CHUNK_];
    size_t col, n, i;

    for (col = 0; col < x->cols; col += n) {
        n = fp4_ref_chunk_(x->cols - col);
        fp4_ref_load_(chunk, x, row, col, n);
        for (i = 0; i < n; i += block) {
            t->sf[fp4_sf_offset(t->layout, row, (col + i) / block, sf_cols)] =
                fp4_ref_modelopt_block_(
                    code + i, chunk + i, block, t->format, t->global_dec,
                    fp4_ref_modelopt_static_sf_(given, (row * x->cols + col + i) / block));
        }
        if (t->format == FP4_MXFP8) {
            memcpy(q + col, code, n);
        } else {
            fp4_ref_pack_(q + col / 2, code, n);
        }
    }
    memset(q + fp4_q_bytes(t->format, 1, x->cols), 0, fp4_q_bytes(t->format, 1, t->cols - x->cols));
}

/* t is one of two formats; the rules follow from which, and from whether amaxes are given. */
static inline fp4_status fp4_ref_modelopt_quantize_(fp4_matrix x,
                                                    const fp4_ref_modelopt_given_ *given,
                                                    float global_dec, fp4_tensor *t,
                                                    fp4_format format, fp4_format or_format)
{
    const fp4_status status = fp4_ref_check_(&x, t, format, or_format);
    ptrdiff_t row, rows;

    if (status != FP4_OK) {
        return status;
    }
    if (t->row_dec != NULL) {
        return FP4_BAD_TYPE;
    }
    if (!fp4_is_positive_finite_(global_dec)) {
        return FP4_BAD_SCALE;
    }
    if (given != NULL && given->amax == NULL && x.rows != 0 && x.cols != 0) {
        return FP4_NULL;
    }
    t->global_dec = global_dec;
    rows = fp4_ref_begin_(t);
    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        fp4_ref_modelopt_row_(&x, given, t, (size_t)row);
    }
    return FP4_OK;
}

/**
 * NVFP4 with one global scale, in decode sense: fp4_modelopt_global_dec of the tensor's amax, which
 * ModelOpt calls weight_scale_2. Sets t->global_dec to it.
 */
static inline fp4_status fp4_ref_modelopt_nvfp4_quantize(fp4_matrix x, float global_dec,
                                                         fp4_tensor *t)
{
    return fp4_ref_modelopt_quantize_(x, NULL, global_dec, t, FP4_NVFP4, FP4_NVFP4_32);
}

/**
 * NVFP4 with amaxes that are given: what ModelOpt exports for a static quantizer. Sets
 * t->global_dec to fp4_modelopt_global_dec(global_amax, fp8_max).
 *
 * amax     of each block of x, row-major: x.rows * x.cols / block; not negative. What exceeds it is
 *          clipped. NaN in x that is not in an amax: codes of 7, its neighbours stay.
 * fp8_max  448 or 256.
 * errors   also FP4_BAD_SCALE for another fp8_max, or a global_amax whose global_dec is not
 *          positive and finite, as of 0; FP4_NULL.
 */
static inline fp4_status fp4_ref_modelopt_nvfp4_static(fp4_matrix x, const float *amax,
                                                       float global_amax, float fp8_max,
                                                       fp4_tensor *t)
{
    const fp4_ref_modelopt_given_ given = {amax, global_amax, fp8_max};
    const int is_known = fp8_max == 448.0f || fp8_max == 256.0f;

    return fp4_ref_modelopt_quantize_(
        x, &given, is_known ? fp4_modelopt_global_dec(global_amax, fp8_max) : 0.0f, t, FP4_NVFP4,
        FP4_NVFP4_32);
}

/** MXFP4. */
static inline fp4_status fp4_ref_modelopt_mxfp4_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_modelopt_quantize_(x, NULL, 1.0f, t, FP4_MXFP4, FP4_MXFP4_16);
}

/** MXFP8. */
static inline fp4_status fp4_ref_modelopt_mxfp8_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_modelopt_quantize_(x, NULL, 1.0f, t, FP4_MXFP8, FP4_MXFP8);
}

/**
 * compute_fp4_scales: n amaxes to scales, by the largest amax of the tensor; fp8_max is 448 or 256,
 * or 0 for scales that are not rounded to e4m3 (then global_amax is not used).
 *
 * errors   FP4_NULL, FP4_BAD_SCALE for another fp8_max, or a global_amax that is negative or NaN;
 *          nothing written.
 */
static inline fp4_status fp4_ref_modelopt_scales(const float *amax, size_t n, float global_amax,
                                                 float fp8_max, float *scales)
{
    fp4_modelopt_level level = {1.0f, 1.0f};
    size_t i;

    if (fp8_max != 0.0f && ((fp8_max != 448.0f && fp8_max != 256.0f) || !(global_amax >= 0.0f))) {
        return FP4_BAD_SCALE;
    }
    if (n != 0 && (amax == NULL || scales == NULL)) {
        return FP4_NULL;
    }
    if (fp8_max != 0.0f) {
        level = fp4_modelopt_level_of(global_amax, fp8_max);
    }
    for (i = 0; i < n; i++) {
        scales[i] = fp8_max == 0.0f ? fp4_modelopt_scale_f32(amax[i])
                                    : fp4_modelopt_scale_at(amax[i], level);
    }
    return FP4_OK;
}

/* ---------------------------------------------------------------- dequantize */

/* n elements from column col of row, as f32. n > 0 and col are whole blocks. */
static inline void fp4_ref_modelopt_decode_(float *out, const fp4_tensor *t, size_t row, size_t col,
                                            size_t n)
{
    const size_t block = fp4_format_block(t->format);
    size_t i;

    for (i = 0; i < n; i++) {
        const uint8_t sf = t->sf[fp4_sf_offset(t->layout, row, (col + i) / block, t->cols / block)];
        const uint8_t code = fp4_ref_code_(t, row, col + i);

        out[i] = fp4_format_is_nvfp4(t->format)
                     ? fp4_modelopt_nvfp4_value(code, fp4_modelopt_nvfp4_dec(sf, t->global_dec))
                 : t->format == FP4_MXFP8 ? fp4_modelopt_mxfp8_value(code, sf)
                                          : fp4_modelopt_mxfp4_value(code, sf);
        out[i] = out[i] != out[i] ? fp4_bits_f32(0x7fffffffu) : out[i]; /* a GPU's NaN */
    }
}

/**
 * Every element back as NVFP4QTensor, MXFP4QTensor and MXFP8QTensor have it, in f32, then rounded
 * to dtype. What differs from fp4_ref_dequantize_to with FP4_SCALES_FIRST: code 8 of NVFP4 is +0;
 * scale byte 0 of the MX formats is 2^-127 - 2^-149, and 255 infinity.
 *
 * shape    y: t->rows x t->cols elements of f32, f16 or bf16, row r at element r * row_stride, any
 *          alignment.
 * range    t->global_dec: NVFP4 +0 or positive, finite; else not looked at. t->row_dec: null.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written.
 */
static inline fp4_status fp4_ref_modelopt_dequantize(const fp4_tensor *t, fp4_dtype dtype, void *y,
                                                     size_t y_bytes, size_t row_stride)
{
    fp4_status status;
    size_t row, col, n;

    if (t == NULL) {
        return FP4_NULL;
    }
    if ((unsigned)dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    status = fp4_ref_check_tensor_(t);
    if (status != FP4_OK) {
        return status;
    }
    if (t->row_dec != NULL) {
        return FP4_BAD_TYPE;
    }
    if (fp4_format_is_nvfp4(t->format) && fp4_f32_bits(t->global_dec) >= 0x7f800000u) {
        return FP4_BAD_SCALE;
    }
    if (row_stride < t->cols) {
        return FP4_BAD_STRIDE;
    }
    if (t->rows == 0 || t->cols == 0) {
        return FP4_OK;
    }
    status = fp4_ref_check_output_(y, dtype, y_bytes, t->rows, t->cols, row_stride);
    for (row = 0; status == FP4_OK && row < t->rows; row++) {
        for (col = 0; col < t->cols; col += n) {
            const size_t at = (row * row_stride + col) * fp4_dtype_bytes(dtype);
            float chunk[FP4_REF_CHUNK_];
            n = fp4_ref_chunk_(t->cols - col);
            fp4_ref_modelopt_decode_(chunk, t, row, col, n);
            fp4_ref_store_((uint8_t *)y + at, dtype, chunk, n);
        }
    }
    return status;
}

/* ---------------------------------------------------------------- fake quantization */

/* A rule for fakes: which, what it takes for row r, and the length of its blocks. */
typedef struct fp4_ref_modelopt_rule_ {
    int is_qdq;
    const float *globals; /* null: convert without a global amax */
    size_t global_rows, block;
} fp4_ref_modelopt_rule_;

/* n elements of a block whose amax this is, in place. */
static inline void fp4_ref_modelopt_fake_part_(float *x, size_t n, float amax, size_t row,
                                               const fp4_ref_modelopt_rule_ *rule)
{
    const float global = fp4_ref_global_of_(rule->globals, rule->global_rows, row, 1.0f);
    const float qdq = fp4_modelopt_qdq_scale(amax, global);
    const fp4_modelopt_factors factors = rule->globals != NULL
                                             ? fp4_modelopt_convert_scale(amax, global)
                                             : fp4_modelopt_convert_scale_alone(amax);
    size_t i;

    for (i = 0; i < n; i++) {
        x[i] = rule->is_qdq ? fp4_modelopt_fake_static(x[i], qdq)
                            : fp4_modelopt_convert(x[i], factors);
    }
}

/* A block: n elements from column col of row, to y. */
static inline void fp4_ref_modelopt_fake_block_(const fp4_matrix *x, size_t row, size_t col,
                                                size_t n, const fp4_ref_modelopt_rule_ *rule,
                                                fp4_dtype dtype, uint8_t *y)
{
    const float amax = fp4_ref_amax_of_numbers_(x, row, col, n);
    float chunk[FP4_REF_CHUNK_];
    size_t at, here;

    for (at = 0; at < n; at += here) {
        here = fp4_ref_chunk_(n - at);
        fp4_ref_load_(chunk, x, row, col + at, here);
        fp4_ref_modelopt_fake_part_(chunk, here, amax, row, rule);
        fp4_ref_store_(y + at * fp4_dtype_bytes(dtype), dtype, chunk, here);
    }
}

static inline fp4_status fp4_ref_modelopt_fake_(const fp4_matrix *x,
                                                const fp4_ref_modelopt_rule_ *rule, fp4_dtype dtype,
                                                void *y, size_t y_bytes, size_t row_stride)
{
    fp4_status status = fp4_ref_check_matrix_(x);
    size_t row, col, n;

    if (status != FP4_OK) {
        return status;
    }
    if ((unsigned)dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (rule->block == 0) {
        return FP4_BAD_SHAPE;
    }
    if (row_stride < x->cols) {
        return FP4_BAD_STRIDE;
    }
    if (x->rows == 0 || x->cols == 0) {
        return FP4_OK;
    }
    for (row = 0; rule->globals != NULL && row < x->rows; row++) {
        const float global = fp4_ref_global_of_(rule->globals, rule->global_rows, row, 1.0f);
        if (!(global >= 0.0f) || (rule->is_qdq && global > FP4_F32_MAX)) {
            return FP4_BAD_SCALE;
        }
    }
    status = fp4_ref_check_output_(y, dtype, y_bytes, x->rows, x->cols, row_stride);
    for (row = 0; status == FP4_OK && row < x->rows; row++) {
        uint8_t *out = (uint8_t *)y + row * row_stride * fp4_dtype_bytes(dtype);
        for (col = 0; col < x->cols; col += n) {
            n = x->cols - col < rule->block ? x->cols - col : rule->block;
            fp4_ref_modelopt_fake_block_(x, row, col, n, rule, dtype,
                                         out + col * fp4_dtype_bytes(dtype));
        }
    }
    return status;
}

/**
 * nvfp4_scalar_qdq: fakes x to y, its amaxes found.
 *
 * shape    x: rows x cols of any dtype. y: as many elements of f32, f16 or bf16, row r at element r
 *          * row_stride, any alignment; may not overlap x.
 * block    any length; where it does not divide the columns, the last block of a row is shorter
 *          (ModelOpt fills it up with zeros: another amax only where the rest is nothing but NaN).
 * range    global_dec: 0 or positive, finite: the largest amax / 2688. NaN is left out of amaxes;
 *          that of a block of nothing else is NaN.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written.
 */
static inline fp4_status fp4_ref_modelopt_qdq(fp4_matrix x, size_t block, float global_dec,
                                              fp4_dtype dtype, void *y, size_t y_bytes,
                                              size_t row_stride)
{
    const fp4_ref_modelopt_rule_ rule = {1, &global_dec, 0, block};
    return fp4_ref_modelopt_fake_(&x, &rule, dtype, y, y_bytes, row_stride);
}

/**
 * fused_amax_convert of e2m1 with e4m3 scales: fakes x to y, its amaxes found. ModelOpt has blocks
 * of 8, 16 and 32. With e8m0 scales: see fp4_modelopt_convert.
 *
 * globals  null: without a global amax. Else of row r globals[r / global_rows], or globals[0] for
 *          all where global_rows is 0; 0 or positive, infinity too.
 *
 * The rest is as above. A block of nothing but NaN becomes -6.
 */
static inline fp4_status fp4_ref_modelopt_convert(fp4_matrix x, size_t block, const float *globals,
                                                  size_t global_rows, fp4_dtype dtype, void *y,
                                                  size_t y_bytes, size_t row_stride)
{
    const fp4_ref_modelopt_rule_ rule = {0, globals, global_rows, block};
    return fp4_ref_modelopt_fake_(&x, &rule, dtype, y, y_bytes, row_stride);
}

#endif /* FP4_HOST_MODELOPT_H */

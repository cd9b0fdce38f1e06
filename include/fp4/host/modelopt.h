/*
 * fp4/host/modelopt.h - whole matrices quantized as NVIDIA ModelOpt's tensors are, byte for byte.
 *
 *     function                         ModelOpt's                rules (modelopt.h)
 *     fp4_ref_modelopt_nvfp4_quantize  NVFP4QTensor.quantize     fp4_modelopt_nvfp4_sf, _code
 *     fp4_ref_modelopt_mxfp4_quantize  MXFP4QTensor.quantize     fp4_modelopt_mxfp4_sf, _code
 *     fp4_ref_modelopt_mxfp8_quantize  MXFP8QTensor.quantize     fp4_modelopt_mxfp8_sf, _code
 *
 * The same contract as in host/quant.h: shapes, blocks of either length, padding of 0x00, statuses,
 * and nothing written where one is not FP4_OK. What differs:
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

/* A block's codes, one a byte, and its scale byte. */
static inline uint8_t fp4_ref_modelopt_block_(uint8_t *code, const float *x, size_t n,
                                              fp4_format format, float global_dec)
{
    const float amax = fp4_ref_modelopt_amax_(x, n);
    uint8_t sf;
    size_t i;

    if (fp4_format_is_nvfp4(format)) {
        sf = fp4_modelopt_nvfp4_sf(amax, global_dec);
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

/* One row: codes, scale bytes, and zeros where t is wider than x. */
static inline void fp4_ref_modelopt_row_(const fp4_matrix *x, const fp4_tensor *t, size_t row)
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
                fp4_ref_modelopt_block_(code + i, chunk + i, block, t->format, t->global_dec);
        }
        if (t->format == FP4_MXFP8) {
            memcpy(q + col, code, n);
        } else {
            fp4_ref_pack_(q + col / 2, code, n);
        }
    }
    memset(q + fp4_q_bytes(t->format, 1, x->cols), 0, fp4_q_bytes(t->format, 1, t->cols - x->cols));
}

/* t is one of two formats; the rules follow from which. */
static inline fp4_status fp4_ref_modelopt_quantize_(fp4_matrix x, float global_dec, fp4_tensor *t,
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
    if (!fp4_positive_finite_(global_dec)) {
        return FP4_BAD_SCALE;
    }
    t->global_dec = global_dec;
    rows = fp4_ref_begin_(t);
    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        fp4_ref_modelopt_row_(&x, t, (size_t)row);
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
    return fp4_ref_modelopt_quantize_(x, global_dec, t, FP4_NVFP4, FP4_NVFP4_32);
}

/** MXFP4. */
static inline fp4_status fp4_ref_modelopt_mxfp4_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_modelopt_quantize_(x, 1.0f, t, FP4_MXFP4, FP4_MXFP4_16);
}

/** MXFP8. */
static inline fp4_status fp4_ref_modelopt_mxfp8_quantize(fp4_matrix x, fp4_tensor *t)
{
    return fp4_ref_modelopt_quantize_(x, 1.0f, t, FP4_MXFP8, FP4_MXFP8);
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

#endif /* FP4_HOST_MODELOPT_H */

/*
 * fp4/host/gemv.h - a quantized matrix times a vector: the host twin of examples/09_gemv.cu, which
 * sums in the same order.
 *
 *     y[row] = ( sum over col of x[col] * code * decode(sf) ) * second-level scale
 *
 * The order. A row is cut into pieces of 16 elements; piece p belongs to thread p % FP4_GEMV_THREADS.
 * Each piece: s = fma(code * 2^-14, x, s) in ascending order from +0. Each thread: its pieces in
 * ascending order, sum = fma(s, decode(sf), sum) from +0. Then the threads as row.h has it: lanes of
 * a warp as a butterfly, then the warps. At last (sum * 2^14) * scale. The power of two is what the
 * fastest way to decode leaves; it changes nothing where nothing underflows.
 */
#ifndef FP4_HOST_GEMV_H
#define FP4_HOST_GEMV_H

#include <fp4/host/ops.h>

#define FP4_GEMV_THREADS 128 /* that share a row */

/* The sum over a row, times 2^-14. */
static inline float fp4_ref_gemv_sum_(const fp4_tensor *t, size_t row, const fp4_matrix *x)
{
    const size_t block = fp4_format_block(t->format), sf_cols = t->cols / block;
    const uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols);
    float sum[FP4_GEMV_THREADS] = {0.0f}, code[FP4_REF_CHUNK_], v[FP4_REF_CHUNK_];
    size_t col, n, i, piece;

    for (col = 0; col < t->cols; col += n) {
        n = fp4_ref_chunk_(t->cols - col);
        fp4_ref_load_(v, x, 0, col, n);
        fp4_ref_e2m1_(code, q + col / 2, n);
        for (piece = 0; piece < n / 16; piece++) {
            const size_t sf_col = (col + 16 * piece) / block;
            const uint8_t sf = t->sf[fp4_sf_offset(t->layout, row, sf_col, sf_cols)];
            float *of_thread = &sum[(col / 16 + piece) % FP4_GEMV_THREADS];
            float s = 0.0f;
            for (i = 16 * piece; i < 16 * piece + 16; i++) {
                s = fp4_fma_rn(fp4_mul_rn(code[i], 6.103515625e-05f /* 2^-14 */), v[i], s);
            }
            *of_thread = fp4_fma_rn(s, fp4_sf_to_f32(t->format, sf), *of_thread);
        }
    }
    for (i = 0; i < FP4_GEMV_THREADS / 32; i++) { /* sum[i] has been read by then */
        sum[i] = fp4_ref_butterfly_(sum + 32 * i, 32);
    }
    return fp4_ref_butterfly_(sum, FP4_GEMV_THREADS / 32);
}

/**
 * t times x.
 *
 * shape    t: rows x cols of any FP4 format, scales in any layout. x: 1 x cols of f16 or bf16. y:
 *          rows elements of f32, f16 or bf16, any alignment.
 * range    a NaN among the scale bytes or in x makes its rows NaN; what overflows is infinite.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written. rows = 0 is fine; cols = 0 gives zeros.
 */
static inline fp4_status fp4_ref_gemv(const fp4_tensor *t, fp4_matrix x, fp4_dtype dtype, void *y,
                                      size_t y_bytes)
{
    fp4_status status;
    ptrdiff_t row, rows;

    if (t == NULL) {
        return FP4_NULL;
    }
    if (t->format == FP4_MXFP8 || (unsigned)dtype >= FP4_E4M3 ||
        (x.dtype != FP4_F16 && x.dtype != FP4_BF16)) {
        return FP4_BAD_TYPE;
    }
    if (x.rows != 1 || x.cols != t->cols) {
        return FP4_BAD_SHAPE;
    }
    status = fp4_ref_check_tensor_(t);
    status = status != FP4_OK ? status : fp4_ref_check_dec_(t);
    status = status != FP4_OK ? status : fp4_ref_check_matrix_(&x);
    if (status != FP4_OK || t->rows == 0) {
        return status;
    }
    status = fp4_ref_check_output_(y, dtype, y_bytes, 1, t->rows, t->rows);
    if (status != FP4_OK) {
        return status;
    }
    rows = (ptrdiff_t)t->rows;
    FP4_REF_PARALLEL_ROWS_
    for (row = 0; row < rows; row++) {
        const float dec = t->row_dec != NULL ? t->row_dec[row] : t->global_dec;
        const float sum = fp4_mul_rn(fp4_ref_gemv_sum_(t, (size_t)row, &x), 16384.0f);
        const float of_row = fp4_mul_rn(sum, dec);
        fp4_ref_narrow_((uint8_t *)y + (size_t)row * fp4_dtype_bytes_(dtype), dtype, &of_row, 1);
    }
    return FP4_OK;
}

#endif /* FP4_HOST_GEMV_H */

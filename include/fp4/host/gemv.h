/*
 * fp4/host/gemv.h - a quantized matrix times a vector: the host twin of examples/09_gemv.cu.
 *
 *     y[row] = ( sum over col of x[col] * code * decode(sf) ) * second-level scale
 *
 * How it is summed. The vector is cut into pieces of 16 elements, each with a unit of its own, a
 * power of two; an element becomes an integer:
 *
 *     unit = 2^(e - 21), e the exponent of the piece's amax (at least -97)
 *     X    = x / unit, to the nearest integer, ties to even; |X| <= 2^22
 *
 * This is where elements lose: each at most 2^-22 of the largest of its piece, whatever its own
 * size. A bf16 or f16 element is exact unless it is 2^14 or 2^11 times smaller than that one, or
 * more; one that is 2^23 times smaller is gone, which floats added one by one would have kept. With
 * 2 * code an integer too, the sum over a piece is exact, in whatever order,
 *
 *     S    = sum of (2 * code) * X, below 2^31
 *
 * and, rounded to f32 once, multiplied by its scale: sum = fma(S * (unit / 256), decode(sf), sum).
 * Piece p belongs to lane p / 4 % 32; each lane adds its pieces in ascending order from +0, then
 * the lanes add as a butterfly (xor 16, 8, 4, 2, 1). At last (sum * 128) * second-level scale. Sums
 * are 128 times smaller on the way so that nothing overflows before y does.
 */
#ifndef FP4_HOST_GEMV_H
#define FP4_HOST_GEMV_H

#include <fp4/host/ops.h>

/* A piece of the vector in integers, and their unit / 256: NaN where an element is no number. */
typedef struct fp4_ref_gemv_piece_ {
    int32_t x[16];
    float unit_256th;
} fp4_ref_gemv_piece_;

static inline fp4_ref_gemv_piece_ fp4_ref_gemv_piece_of_(const float *x)
{
    const uint32_t amax = fp4_f32_bits(fp4_ref_amax_(x, 16));
    const uint32_t exponent = fp4_max_u32(amax >> 23, 30u); /* biased by 127 */
    const float per_unit = fp4_bits_f32((275u - exponent) << 23);
    fp4_ref_gemv_piece_ p;
    size_t i;

    p.unit_256th = fp4_bits_f32((exponent - 29u) << 23);
    for (i = 0; i < 16; i++) {
        /* adding 1.5 * 2^23 rounds to an integer, and leaves it in the mantissa */
        const float shifted = fp4_fma_rn(x[i], per_unit, 12582912.0f);
        p.x[i] = (int32_t)(fp4_f32_bits(shifted) - 0x4b400000u);
        if ((fp4_f32_bits(x[i]) & 0x7f800000u) == 0x7f800000u) {
            p.unit_256th = fp4_bits_f32(0x7fc00000u);
            p.x[i] = 0;
        }
    }
    return p;
}

/* The sum over a row. */
static inline float fp4_ref_gemv_sum_(const fp4_tensor *t, size_t row, const fp4_matrix *x)
{
    const size_t block = fp4_format_block(t->format), sf_cols = t->cols / block;
    const uint8_t *q = t->q + fp4_q_bytes(t->format, row, t->cols);
    float sum[32] = {0.0f}, v[FP4_REF_CHUNK_];
    size_t col, n, i, piece;

    for (col = 0; col < t->cols; col += n) {
        n = fp4_ref_chunk_(t->cols - col);
        fp4_ref_load_(v, x, 0, col, n);
        for (piece = 0; piece < n / 16; piece++) {
            const fp4_ref_gemv_piece_ p = fp4_ref_gemv_piece_of_(v + 16 * piece);
            const size_t at = col / 16 + piece, sf_at = at * 16 / block;
            const uint8_t sf = t->sf[fp4_sf_offset(t->layout, row, sf_at, sf_cols)];
            float code[16];
            int32_t s = 0;
            fp4_ref_e2m1_(code, q + at * 8, 16);
            for (i = 0; i < 16; i++) {
                s += (int32_t)(2.0f * code[i]) * p.x[i];
            }
            sum[at / 4 % 32] = fp4_fma_rn(fp4_mul_rn((float)s, p.unit_256th),
                                          fp4_sf_to_f32(t->format, sf), sum[at / 4 % 32]);
        }
    }
    return fp4_ref_butterfly_(sum, 32);
}

/**
 * t times x.
 *
 * shape    t: rows x cols of any FP4 format, scales in any layout. x: 1 x cols of f32, f16 or bf16.
 *          y: rows elements of f32, f16 or bf16, any alignment; overlaps no input.
 * range    a NaN or infinity in x makes all of y NaN, a NaN scale byte its row; where a sum
 *          overflows, its row is infinite or NaN, whatever it would have become.
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
    if (t->format == FP4_MXFP8 || (unsigned)dtype >= FP4_E4M3 || x.dtype == FP4_E4M3) {
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
        float of_row = 0.0f; /* a sum of nothing, whatever the scale */
        if (t->cols != 0) {
            of_row = fp4_mul_rn(fp4_mul_rn(fp4_ref_gemv_sum_(t, (size_t)row, &x), 128.0f),
                                t->row_dec != NULL ? t->row_dec[row] : t->global_dec);
        }
        of_row = of_row != of_row ? fp4_bits_f32(0x7fffffffu) : of_row; /* a GPU's NaN */
        fp4_ref_store_((uint8_t *)y + (size_t)row * fp4_dtype_bytes(dtype), dtype, &of_row, 1);
    }
    return FP4_OK;
}

#endif /* FP4_HOST_GEMV_H */

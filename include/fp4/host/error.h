/*
 * fp4/host/error.h - how far a quantized tensor is from what it was made of.
 */
#ifndef FP4_HOST_ERROR_H
#define FP4_HOST_ERROR_H

#include <fp4/host/quant.h>

#include <math.h>

/** Error of x' (decoded) against x, over all elements of x; sums in double, row by row. */
typedef struct fp4_error {
    double max_abs;   /* max |x' - x|; NaN where one is NaN */
    double mse;       /* mean (x' - x)^2 */
    double sqnr_db;   /* 10 log10( sum x^2 / sum (x' - x)^2 ); +inf where nothing is lost */
    double saturated; /* share of elements with the largest code and |x'| < |x| */
    double zeroed;    /* share of elements with x' = 0 and x != 0 */
} fp4_error;

typedef struct fp4_error_sums_ {
    double max_abs, noise, signal;
    size_t saturated, zeroed;
} fp4_error_sums_;

/* Adds n <= FP4_REF_CHUNK_ elements from (row, col), whole blocks. */
static inline void fp4_error_add_(fp4_error_sums_ *sums, const fp4_matrix *x, const fp4_tensor *t,
                                  size_t row, size_t col, size_t n)
{
    float original[FP4_REF_CHUNK_], decoded[FP4_REF_CHUNK_];
    size_t i;

    fp4_ref_load_(original, x, row, col, n);
    fp4_ref_decode_(decoded, t, row, col, n, FP4_CODE_FIRST);
    for (i = 0; i < n; i++) {
        const double from = (double)original[i], to = (double)decoded[i], error = to - from;
        const uint8_t code = fp4_ref_code_(t, row, col + i);
        const int largest = t->format == FP4_MXFP8 ? (code & 0x7f) == 0x7e : (code & 7) == 7;
        sums->max_abs = fabs(error) > sums->max_abs || error != error ? fabs(error) : sums->max_abs;
        sums->noise += error * error;
        sums->signal += from * from;
        sums->saturated += (size_t)(largest && fabs(to) < fabs(from));
        sums->zeroed += (size_t)(to == 0.0 && from != 0.0);
    }
}

/**
 * The error of t against x, from which it was quantized.
 *
 * shape    t: x's rows; x's cols or more.
 * range    an empty matrix: all 0, sqnr_db = +inf. NaN and infinity in x spoil the first three.
 * errors   as for fp4_ref_dequantize; *error is untouched then.
 */
static inline fp4_status fp4_ref_error(fp4_matrix x, const fp4_tensor *t, fp4_error *error)
{
    fp4_error_sums_ sums = {0.0, 0.0, 0.0, 0, 0};
    fp4_status status;
    const double count = (double)x.rows * (double)x.cols;
    size_t row, col, n;

    if (t == NULL || error == NULL) {
        return FP4_NULL;
    }
    status = fp4_ref_check_(&x, t, t->format, t->format);
    status = status != FP4_OK ? status : fp4_ref_check_dec_(t);
    if (status != FP4_OK) {
        return status;
    }
    for (row = 0; row < x.rows; row++) {
        for (col = 0; col < x.cols; col += n) {
            n = fp4_ref_chunk_(x.cols - col);
            fp4_error_add_(&sums, &x, t, row, col, n);
        }
    }
    error->max_abs = sums.max_abs;
    error->mse = count > 0.0 ? sums.noise / count : 0.0;
    error->sqnr_db = sums.noise == 0.0 ? (double)INFINITY : 10.0 * log10(sums.signal / sums.noise);
    error->saturated = count > 0.0 ? (double)sums.saturated / count : 0.0;
    error->zeroed = count > 0.0 ? (double)sums.zeroed / count : 0.0;
    return FP4_OK;
}

#endif /* FP4_HOST_ERROR_H */

/*
 * fp4/host/tensor.h - what the host reference works on: an input matrix and a quantized tensor, as
 * views of memory that the caller owns, and the status every reference function returns.
 *
 * Both are small structs passed by value or filled in place. Nothing in fp4/host allocates or
 * prints.
 */
#ifndef FP4_HOST_TENSOR_H
#define FP4_HOST_TENSOR_H

#include <fp4/fp4.h>

/* The flags of -ffast-math that change bytes, as far as a compiler tells: of clang's
   -funsafe-math-optimizations nothing can be seen. */
#if (defined(__FAST_MATH__) || defined(__RECIPROCAL_MATH__) || defined(__ASSOCIATIVE_MATH__) || \
     (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ != 0) || defined(_M_FP_FAST)) && \
    !defined(FP4_ALLOW_FAST_MATH)
#error "fp4/host is a bit-exact reference: no -ffast-math, or define FP4_ALLOW_FAST_MATH"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "fp4/host needs float arithmetic in float (FLT_EVAL_METHOD 0)"
#endif

/**
 * What a reference function answers. Anything but FP4_OK means that it has written nothing.
 *
 * BAD_SHAPE     cols not whole blocks, shapes that differ, or a size over 2^64
 * BAD_STRIDE    a row stride smaller than the number of columns
 * SMALL_BUFFER  a buffer is smaller than what would be written or read
 * NULL          a null pointer where data is needed
 * BAD_SCALE     a scale that is negative, NaN or infinite, or of which an encoder needs the
 *               reciprocal and that is 0 or has an infinite one (up to 2^-128; in decode sense
 *               FLT_MAX, whose reciprocal has one)
 * BAD_TYPE      a format, layout or element type unknown, or not for this function
 */
typedef enum fp4_status {
    FP4_OK = 0,
    FP4_BAD_SHAPE,
    FP4_BAD_STRIDE,
    FP4_SMALL_BUFFER,
    FP4_NULL,
    FP4_BAD_SCALE,
    FP4_BAD_TYPE
} fp4_status;

/** One line of English for a status. */
static inline const char *fp4_status_text(fp4_status status)
{
    switch (status) {
    case FP4_OK:
        return "ok";
    case FP4_BAD_SHAPE:
        return "bad shape: columns are not whole blocks, shapes differ, or the size overflows";
    case FP4_BAD_STRIDE:
        return "bad stride: the row stride is smaller than the number of columns";
    case FP4_SMALL_BUFFER:
        return "a buffer is too small";
    case FP4_NULL:
        return "null pointer";
    case FP4_BAD_SCALE:
        return "bad scale: negative, not finite, or without a finite reciprocal";
    case FP4_BAD_TYPE:
        return "unknown or unsuitable format, layout or element type";
    }
    return "unknown status";
}

/**
 * A matrix to read: rows x cols elements, row r starting at element r * row_stride of data.
 * Any alignment. Made by one of the functions below, whose names say what data points to.
 */
typedef struct fp4_matrix {
    const void *data;
    fp4_dtype dtype;
    size_t rows, cols, row_stride; /* in elements */
    float dec; /* e4m3 only: the value of an element is decode(code) * dec; otherwise 1 */
} fp4_matrix;

static inline fp4_matrix fp4_matrix_of_(const void *data, fp4_dtype dtype, size_t rows, size_t cols,
                                        size_t row_stride, float dec)
{
    fp4_matrix m;
    m.data = data;
    m.dtype = dtype;
    m.rows = rows;
    m.cols = cols;
    m.row_stride = row_stride;
    m.dec = dec;
    return m;
}

/** A matrix of floats. */
static inline fp4_matrix fp4_matrix_f32(const float *x, size_t rows, size_t cols, size_t row_stride)
{
    return fp4_matrix_of_(x, FP4_F32, rows, cols, row_stride, 1.0f);
}

/** A matrix of IEEE halves: __half, _Float16, or uint16_t with their bits. */
static inline fp4_matrix fp4_matrix_f16(const void *x, size_t rows, size_t cols, size_t row_stride)
{
    return fp4_matrix_of_(x, FP4_F16, rows, cols, row_stride, 1.0f);
}

/** A matrix of bfloat16: __nv_bfloat16, or uint16_t with their bits. */
static inline fp4_matrix fp4_matrix_bf16(const void *x, size_t rows, size_t cols, size_t row_stride)
{
    return fp4_matrix_of_(x, FP4_BF16, rows, cols, row_stride, 1.0f);
}

/** A matrix of e4m3, __nv_fp8_e4m3 or bytes, with their own dequantization scale:
    x = decode(code) * dec. */
static inline fp4_matrix fp4_matrix_e4m3(const void *x, size_t rows, size_t cols, size_t row_stride,
                                         float dec)
{
    return fp4_matrix_of_(x, FP4_E4M3, rows, cols, row_stride, dec);
}

/**
 * A quantized matrix: codes, block scales in one of the layouts, second-level scale.
 *
 *     x[r][c] ~ ( code * decode(sf) ) * ( row_dec ? row_dec[r] : global_dec )
 *
 * shape    q: rows * cols / 2 bytes row-major for FP4, rows * cols for MXFP8, the even element in
 *          the low nibble. sf: fp4_sf_bytes(layout, rows, cols / block) bytes, padding included.
 *          q_bytes, sf_bytes: what the buffers hold; more than needed is fine and stays untouched.
 *          row_dec: rows floats, where the second-level scale is per row or per token, else null.
 */
typedef struct fp4_tensor {
    fp4_format format;
    fp4_layout layout;
    size_t rows, cols;
    uint8_t *q;
    size_t q_bytes;
    uint8_t *sf;
    size_t sf_bytes;
    float global_dec;
    float *row_dec;
    size_t row_dec_bytes;
} fp4_tensor;

/** A view with global_dec = 1 and no row_dec; set these fields where the tensor has them. */
static inline fp4_tensor fp4_tensor_view(fp4_format format, fp4_layout layout, size_t rows,
                                         size_t cols, uint8_t *q, size_t q_bytes, uint8_t *sf,
                                         size_t sf_bytes)
{
    fp4_tensor t;
    t.format = format;
    t.layout = layout;
    t.rows = rows;
    t.cols = cols;
    t.q = q;
    t.q_bytes = q_bytes;
    t.sf = sf;
    t.sf_bytes = sf_bytes;
    t.global_dec = 1.0f;
    t.row_dec = NULL;
    t.row_dec_bytes = 0;
    return t;
}

/** A scale byte as the factor that it stands for. */
static inline float fp4_sf_to_f32(fp4_format format, uint8_t sf)
{
    return fp4_format_is_nvfp4(format) ? fp4_e4m3_to_f32(sf) : fp4_e8m0_to_f32(sf);
}

#endif /* FP4_HOST_TENSOR_H */

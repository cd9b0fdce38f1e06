/*
 * tests/gpu/launch.h - the launchers of the examples, callable from C: one function for each input
 * type, format and layout.
 *
 *     launch_rows      examples/01_quantize.cu            compiled 36 times by launch_rows.cu
 *     launch_columns   examples/02_quantize_colmajor.cu   compiled 36 times by launch_columns.cu
 */
#ifndef FP4_TESTS_GPU_LAUNCH_H
#define FP4_TESTS_GPU_LAUNCH_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

/** The examples' quantize_scale. */
typedef struct launch_scale {
    const float *device;
    float value;
    int is_dec;
    size_t row_step, batch_step;
} launch_scale;

/** The examples' quantize_args. A column-major matrix: row_stride is that from column to column,
    batches, batch_stride and q_cols are not used, x_dec is a number. */
typedef struct launch_args {
    uint8_t *q, *sf;
    const void *x;
    size_t batches, rows, cols, q_cols, row_stride, batch_stride;
    launch_scale global, x_dec;
} launch_args;

typedef cudaError_t (*launch_function)(const launch_args *args, int pdl, cudaStream_t stream);

/* What the functions are called, and X(input, format, layout) for all of them, in the order of
   fp4_dtype, fp4_format and fp4_layout. */
#define LAUNCH_ROWS(input, format, layout) launch_rows_##input##_##format##_##layout
#define LAUNCH_COLUMNS(input, format, layout) launch_columns_##input##_##format##_##layout
#define LAUNCH_EACH_LAYOUT(X, input, format) \
    X(input, format, FP4_LAYOUT_128X4) \
    X(input, format, FP4_LAYOUT_8X4) X(input, format, FP4_LAYOUT_LINEAR)
#define LAUNCH_EACH_FORMAT(X, input) \
    LAUNCH_EACH_LAYOUT(X, input, nvfp4) \
    LAUNCH_EACH_LAYOUT(X, input, mxfp4) LAUNCH_EACH_LAYOUT(X, input, mxfp8)
#define LAUNCH_EACH(X) \
    LAUNCH_EACH_FORMAT(X, f32) \
    LAUNCH_EACH_FORMAT(X, f16) LAUNCH_EACH_FORMAT(X, bf16) LAUNCH_EACH_FORMAT(X, e4m3)

#define LAUNCH_DECLARE_(input, format, layout) \
    cudaError_t LAUNCH_ROWS(input, format, layout)(const launch_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_COLUMNS(input, format, layout)(const launch_args *, int, cudaStream_t);

#if defined(__cplusplus)
extern "C" {
#endif
LAUNCH_EACH(LAUNCH_DECLARE_)
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_LAUNCH_H */

/*
 * tests/gpu/launch.h - the launchers of the examples, callable from C: one function for each input
 * type, format and layout.
 *
 *     launch_rows      examples/01_quantize.cu            compiled 36 times by launch_rows.cu
 *     launch_columns   examples/02_quantize_colmajor.cu   compiled 36 times by launch_columns.cu
 *
 * and, of kernels that compute something first and take the layout as an argument, one for each
 * input type, format and operation:
 *
 *     launch_norm      examples/03_rmsnorm.cu     rmsnorm, add_rmsnorm, layernorm   45 times
 *     launch_gated     examples/04_silu_mul.cu    silu, gelu_tanh                   30 times
 *     launch_token     examples/05_per_token.cu                                      6 times
 *
 * and of those that lead back, for each format and output type, or input type, output type and
 * rule:
 *
 *     launch_dequantize, launch_blocks    examples/06_dequantize.cu     15 times
 *     launch_fake                         examples/07_fake_quant.cu     63 times
 *
 * and of those that read and do not quantize, for each input type, or input type, format and output
 * type:
 *
 *     launch_amax, launch_scales    examples/08_amax.cu     3 times
 *     launch_gemv                   examples/09_gemv.cu    36 times
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
   fp4_dtype, fp4_format and fp4_layout. Two levels, so that INPUT and its like are replaced before
   they are joined. */
#define LAUNCH_ROWS_(input, format, layout) launch_rows_##input##_##format##_##layout
#define LAUNCH_ROWS(input, format, layout) LAUNCH_ROWS_(input, format, layout)
#define LAUNCH_COLUMNS_(input, format, layout) launch_columns_##input##_##format##_##layout
#define LAUNCH_COLUMNS(input, format, layout) LAUNCH_COLUMNS_(input, format, layout)
#define LAUNCH_EACH_LAYOUT(X, input, format) \
    X(input, format, FP4_LAYOUT_128X4) \
    X(input, format, FP4_LAYOUT_8X4) X(input, format, FP4_LAYOUT_LINEAR)
#define LAUNCH_EACH_FORMAT(X, input) \
    LAUNCH_EACH_LAYOUT(X, input, nvfp4) \
    LAUNCH_EACH_LAYOUT(X, input, mxfp4) LAUNCH_EACH_LAYOUT(X, input, mxfp8)
#define LAUNCH_EACH(X) \
    LAUNCH_EACH_FORMAT(X, f32) \
    LAUNCH_EACH_FORMAT(X, f16) LAUNCH_EACH_FORMAT(X, bf16) LAUNCH_EACH_FORMAT(X, e4m3)

/** The examples' norm_args, gated_args and token_args in one: each takes what it has. token_args'
    base_dec and base_device are global and global_device. */
typedef struct launch_fused_args {
    const void *x, *weight, *bias;
    void *residual;
    size_t rows, cols, x_stride, residual_stride;
    float eps;
    int interleaved, rounded;
    const float *global_device;
    float global;
    int global_is_dec;
    uint8_t *q, *sf;
    int layout;
    uint8_t *sf_linear;
    void *y;
    float *token_dec;
} launch_fused_args;

typedef cudaError_t (*launch_fused_function)(const launch_fused_args *args, int pdl,
                                             cudaStream_t stream);

/* The same for these: X(input, format, operation). On the CPU, where compiling is what takes time,
   a Latin square of them, in which any two words meet. */
#define LAUNCH_FUSED_(input, format, op) launch_##op##_##input##_##format
#define LAUNCH_FUSED(input, format, op) LAUNCH_FUSED_(input, format, op)
#define LAUNCH_FORMATS_(X, input, a, b, c) \
    X(input, nvfp4, a) \
    X(input, mxfp4, b) X(input, mxfp8, c) X(input, nvfp4_32, b) X(input, mxfp4_16, a)
#if defined(FP4_SIMT)
#define LAUNCH_NORM_EACH(X) \
    LAUNCH_FORMATS_(X, f32, rmsnorm, add_rmsnorm, layernorm) \
    LAUNCH_FORMATS_(X, f16, add_rmsnorm, layernorm, rmsnorm) \
    LAUNCH_FORMATS_(X, bf16, layernorm, rmsnorm, add_rmsnorm)
#define LAUNCH_GATED_EACH(X) \
    LAUNCH_FORMATS_(X, f32, silu, gelu_tanh, silu) \
    LAUNCH_FORMATS_(X, f16, gelu_tanh, silu, gelu_tanh) \
    LAUNCH_FORMATS_(X, bf16, silu, gelu_tanh, silu)
#else
#define LAUNCH_INPUTS_(X, op) \
    LAUNCH_FORMATS_(X, f32, op, op, op) \
    LAUNCH_FORMATS_(X, f16, op, op, op) LAUNCH_FORMATS_(X, bf16, op, op, op)
#define LAUNCH_NORM_EACH(X) \
    LAUNCH_INPUTS_(X, rmsnorm) LAUNCH_INPUTS_(X, add_rmsnorm) LAUNCH_INPUTS_(X, layernorm)
#define LAUNCH_GATED_EACH(X) LAUNCH_INPUTS_(X, silu) LAUNCH_INPUTS_(X, gelu_tanh)
#endif
#define LAUNCH_TOKEN_EACH(X) \
    X(f32, nvfp4, token) \
    X(f16, nvfp4, token) \
    X(bf16, nvfp4, token) X(f32, nvfp4_32, token) X(f16, nvfp4_32, token) X(bf16, nvfp4_32, token)

/** 06_dequantize's dequantize_args; global.is_dec: not is_enc. */
typedef struct launch_back_args {
    void *y;
    const uint8_t *q, *sf;
    launch_scale global;
    int association, layout;
    size_t batches, rows, cols, row_stride, batch_stride;
} launch_back_args;

/** Its blocks_args. */
typedef struct launch_blocks_args {
    void *y;
    const uint8_t *q;
    const void *sf;
    int sf_type;
    launch_scale global;
    int association;
    size_t n, block;
} launch_blocks_args;

/** 07_fake_quant's fake_args. */
typedef struct launch_fake_args {
    void *y;
    const void *x;
    size_t rows, cols, x_stride, y_stride;
    const float *global_device;
    size_t global_rows;
    float global;
    const float *amax;
    size_t block;
    float fp8_max;
    uint8_t *clipped;
} launch_fake_args;

typedef cudaError_t (*launch_back_function)(const launch_back_args *args, int pdl,
                                            cudaStream_t stream);
typedef cudaError_t (*launch_blocks_function)(const launch_blocks_args *args, int pdl,
                                              cudaStream_t stream);
typedef cudaError_t (*launch_fake_function)(const launch_fake_args *args, int pdl,
                                            cudaStream_t stream);

/* X(format, output), and X(input, output, rule): on the CPU again those in which any two words
   meet. */
#define LAUNCH_BACK_(format, output) launch_dequantize_##format##_##output
#define LAUNCH_BACK(format, output) LAUNCH_BACK_(format, output)
#define LAUNCH_BLOCKS_(format, output) launch_blocks_##format##_##output
#define LAUNCH_BLOCKS(format, output) LAUNCH_BLOCKS_(format, output)
#define LAUNCH_FAKE_(input, output, rule) launch_fake_##input##_##output##_##rule
#define LAUNCH_FAKE(input, output, rule) LAUNCH_FAKE_(input, output, rule)
#define LAUNCH_EACH_OUTPUT_(X, format) X(format, f32) X(format, f16) X(format, bf16)
#define LAUNCH_BACK_EACH(X) \
    LAUNCH_EACH_OUTPUT_(X, nvfp4) \
    LAUNCH_EACH_OUTPUT_(X, mxfp4) \
    LAUNCH_EACH_OUTPUT_(X, mxfp8) LAUNCH_EACH_OUTPUT_(X, nvfp4_32) LAUNCH_EACH_OUTPUT_(X, mxfp4_16)
/* a, b, c: the outputs of f32, f16 and bf16 */
#define LAUNCH_RULES_(X, a, b, c, rule) X(f32, a, rule) X(f16, b, rule) X(bf16, c, rule)
#if defined(FP4_SIMT)
#define LAUNCH_FAKE_EACH(X) \
    LAUNCH_RULES_(X, f32, f16, bf16, nvfp4) \
    LAUNCH_RULES_(X, f16, bf16, f32, mxfp4) \
    LAUNCH_RULES_(X, bf16, f32, f16, mxfp8) \
    LAUNCH_RULES_(X, f16, bf16, f32, nvfp4_32) \
    LAUNCH_RULES_(X, f32, f16, bf16, mxfp4_16) \
    LAUNCH_RULES_(X, f32, f16, bf16, modelopt) LAUNCH_RULES_(X, bf16, f32, f16, cast)
#else
#define LAUNCH_EACH_RULE_(X, a, b, c) \
    LAUNCH_RULES_(X, a, b, c, nvfp4) \
    LAUNCH_RULES_(X, a, b, c, mxfp4) \
    LAUNCH_RULES_(X, a, b, c, mxfp8) \
    LAUNCH_RULES_(X, a, b, c, nvfp4_32) \
    LAUNCH_RULES_(X, a, b, c, mxfp4_16) \
    LAUNCH_RULES_(X, a, b, c, modelopt) LAUNCH_RULES_(X, a, b, c, cast)
#define LAUNCH_FAKE_EACH(X) \
    LAUNCH_EACH_RULE_(X, f32, f16, bf16) \
    LAUNCH_EACH_RULE_(X, f16, bf16, f32) LAUNCH_EACH_RULE_(X, bf16, f32, f16)
#endif

/** 08_amax's amax_args. */
typedef struct launch_amax_args {
    const void *x;
    size_t rows, cols, x_stride;
    float *block_amax;
    size_t block;
    float *amax, *global_enc, *global_dec;
    uint32_t *workspace;
} launch_amax_args;

/** Its scales_args. */
typedef struct launch_scales_args {
    float *scales;
    const float *amax;
    size_t n;
    const float *global_device;
    float global, fp8_max;
} launch_scales_args;

/** 09_gemv's gemv_args. */
typedef struct launch_gemv_args {
    void *y;
    const uint8_t *q, *sf;
    const void *x;
    size_t rows, cols;
    int layout;
    const float *global_device;
    float global_dec;
} launch_gemv_args;

typedef cudaError_t (*launch_amax_function)(const launch_amax_args *args, int pdl,
                                            cudaStream_t stream);
typedef cudaError_t (*launch_scales_function)(const launch_scales_args *args, int pdl,
                                              cudaStream_t stream);
typedef cudaError_t (*launch_gemv_function)(const launch_gemv_args *args, int pdl,
                                            cudaStream_t stream);

/* X(input), and X(input, format, output); on the CPU those in which any two words meet. */
#define LAUNCH_AMAX_(input) launch_amax_##input
#define LAUNCH_AMAX(input) LAUNCH_AMAX_(input)
#define LAUNCH_SCALES_(input) launch_scales_##input
#define LAUNCH_SCALES(input) LAUNCH_SCALES_(input)
#define LAUNCH_GEMV_(input, format, output) launch_gemv_##input##_##format##_##output
#define LAUNCH_GEMV(input, format, output) LAUNCH_GEMV_(input, format, output)
#define LAUNCH_AMAX_EACH(X) X(f32) X(f16) X(bf16)
/* a, b, c: the outputs of f32, f16 and bf16 */
#define LAUNCH_TIMES_(X, format, a, b, c) X(f32, format, a) X(f16, format, b) X(bf16, format, c)
#if defined(FP4_SIMT)
#define LAUNCH_GEMV_EACH(X) \
    LAUNCH_TIMES_(X, nvfp4, f32, f16, bf16) \
    LAUNCH_TIMES_(X, mxfp4, f16, bf16, f32) \
    LAUNCH_TIMES_(X, nvfp4_32, bf16, f32, f16) LAUNCH_TIMES_(X, mxfp4_16, f32, f16, bf16)
#else
#define LAUNCH_EACH_TIMES_(X, a, b, c) \
    LAUNCH_TIMES_(X, nvfp4, a, b, c) \
    LAUNCH_TIMES_(X, mxfp4, a, b, c) \
    LAUNCH_TIMES_(X, nvfp4_32, a, b, c) LAUNCH_TIMES_(X, mxfp4_16, a, b, c)
#define LAUNCH_GEMV_EACH(X) \
    LAUNCH_EACH_TIMES_(X, f32, f16, bf16) \
    LAUNCH_EACH_TIMES_(X, f16, bf16, f32) LAUNCH_EACH_TIMES_(X, bf16, f32, f16)
#endif

#define LAUNCH_DECLARE_AMAX_(input) \
    cudaError_t LAUNCH_AMAX(input)(const launch_amax_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_SCALES(input)(const launch_scales_args *, int, cudaStream_t);
#define LAUNCH_DECLARE_GEMV_(input, format, output) \
    cudaError_t LAUNCH_GEMV(input, format, output)(const launch_gemv_args *, int, cudaStream_t);
#define LAUNCH_DECLARE_BACK_(format, output) \
    cudaError_t LAUNCH_BACK(format, output)(const launch_back_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_BLOCKS(format, output)(const launch_blocks_args *, int, cudaStream_t);
#define LAUNCH_DECLARE_FAKE_(input, output, rule) \
    cudaError_t LAUNCH_FAKE(input, output, rule)(const launch_fake_args *, int, cudaStream_t);
#define LAUNCH_DECLARE_FUSED_(input, format, op) \
    cudaError_t LAUNCH_FUSED(input, format, op)(const launch_fused_args *, int, cudaStream_t);
#define LAUNCH_DECLARE_(input, format, layout) \
    cudaError_t LAUNCH_ROWS(input, format, layout)(const launch_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_COLUMNS(input, format, layout)(const launch_args *, int, cudaStream_t);

#if defined(__cplusplus)
extern "C" {
#endif
LAUNCH_EACH(LAUNCH_DECLARE_)
LAUNCH_NORM_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_GATED_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_TOKEN_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_BACK_EACH(LAUNCH_DECLARE_BACK_)
LAUNCH_FAKE_EACH(LAUNCH_DECLARE_FAKE_)
LAUNCH_AMAX_EACH(LAUNCH_DECLARE_AMAX_)
LAUNCH_GEMV_EACH(LAUNCH_DECLARE_GEMV_)
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_LAUNCH_H */

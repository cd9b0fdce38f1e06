/*
 * tests/gpu/launch.h - the launchers of the examples, callable from C: one function for each input
 * type, format and layout.
 *
 *     launch_rows      examples/01_quantize.cu            compiled 36 times by launch_rows.cu
 *     launch_columns   examples/02_quantize_colmajor.cu   compiled 36 times by launch_columns.cu
 *
 * the README's kernel, alone and as its example launches it:
 *
 *     launch_first    examples/00_first.cu    once
 *
 * and, of kernels that compute something first and take the layout as an argument, one for each
 * input type, format and operation:
 *
 *     launch_norm      examples/03_rmsnorm.cu     rmsnorm, add_rmsnorm, layernorm   45 times
 *     launch_gated     examples/04_silu_mul.cu    silu, gelu_tanh, swiglu_oai       45 times
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
 *
 * and of that of many experts, for each input type, format and activation:
 *
 *     launch_experts    examples/10_experts.cu    27 times
 *
 * and of those that move bytes, whatever they stand for, once:
 *
 *     launch_interleave, launch_shuffle, launch_shuffle_tensor    examples/11_shuffle.cu
 *     launch_packbits, launch_segment_packbits                    examples/14_packbits.cu
 *
 * and, for each type of elements:
 *
 *     launch_kv_quantize, launch_kv_dequantize    examples/12_kv_cache.cu     3 times
 *
 * and of those of KV caches, for each input type:
 *
 *     launch_append    examples/13_kv_append.cu    3 times
 *
 * and of ModelOpt's quantized tensors, for each type of elements and format:
 *
 *     launch_modelopt         examples/15_modelopt.cu                   15 times
 *     launch_modelopt_back    examples/06_dequantize.cu, by its rule    15 times
 */
#ifndef FP4_TESTS_GPU_LAUNCH_H
#define FP4_TESTS_GPU_LAUNCH_H

#include <cuda_runtime_api.h>
#include <fp4/experts.h>
#include <stddef.h>
#include <stdint.h>

#include <fp4/kv_cache.h>

/** Those of 00_first's kernel. threads: of a CTA; 0: as its launcher has it. */
typedef struct launch_first_args {
    uint8_t *q, *sf;
    const uint16_t *x, *w;
    int rows, cols;
    float eps, global_enc;
    unsigned threads;
} launch_first_args;

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
    base_dec and base_device are global and global_device. few, four_rows: rows are taken as few
    ones, and four of them by a CTA, wherever they can, or never: FEW is more than any matrix
    has, or 0, FOURS and BESIDE 1, or more than any has; 2 of four_rows: one after the other, but
    each of up to 128 rows at the end alone, else none of them. */
typedef struct launch_fused_args {
    const void *x, *weight, *bias;
    void *residual;
    size_t rows, cols, x_stride, residual_stride;
    float eps;
    int interleaved, rounded, few, four_rows;
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
    LAUNCH_FORMATS_(X, f32, silu, gelu_tanh, swiglu_oai) \
    LAUNCH_FORMATS_(X, f16, gelu_tanh, swiglu_oai, silu) \
    LAUNCH_FORMATS_(X, bf16, swiglu_oai, silu, gelu_tanh)
#else
#define LAUNCH_INPUTS_(X, op) \
    LAUNCH_FORMATS_(X, f32, op, op, op) \
    LAUNCH_FORMATS_(X, f16, op, op, op) LAUNCH_FORMATS_(X, bf16, op, op, op)
#define LAUNCH_NORM_EACH(X) \
    LAUNCH_INPUTS_(X, rmsnorm) LAUNCH_INPUTS_(X, add_rmsnorm) LAUNCH_INPUTS_(X, layernorm)
#define LAUNCH_GATED_EACH(X) \
    LAUNCH_INPUTS_(X, silu) LAUNCH_INPUTS_(X, gelu_tanh) LAUNCH_INPUTS_(X, swiglu_oai)
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

/** 10_experts' experts_args. in_turn: on a GPU a single CTA takes all tiles. */
typedef struct launch_experts_args {
    uint8_t *q, *sf;
    const void *x;
    size_t groups, rows, cols, q_cols, x_stride, x_group_stride, x_rows;
    const int32_t *counts;
    const int32_t *offsets, *sources;
    fp4_experts_starts starts;
    size_t sf_rows;
    const float *global_device;
    size_t global_step;
    float global;
    int global_is_dec;
    int interleaved, rounded;
    fp4_rest rest;
    int32_t *sf_starts;
    uint32_t *errors;
    int in_turn;
} launch_experts_args;

typedef cudaError_t (*launch_experts_function)(const launch_experts_args *args, int pdl,
                                               cudaStream_t stream);

/* X(input, format, activation); on the CPU those in which any two words meet. */
#define LAUNCH_EXPERTS_(input, format, act) launch_experts_##input##_##format##_##act
#define LAUNCH_EXPERTS(input, format, act) LAUNCH_EXPERTS_(input, format, act)
/* a, b, c: the activations of nvfp4, mxfp4 and mxfp8 */
#define LAUNCH_OF_EXPERTS_(X, input, a, b, c) \
    X(input, nvfp4, a) X(input, mxfp4, b) X(input, mxfp8, c)
#if defined(FP4_SIMT)
#define LAUNCH_EXPERTS_EACH(X) \
    LAUNCH_OF_EXPERTS_(X, f32, none, silu, gelu_tanh) \
    LAUNCH_OF_EXPERTS_(X, f16, gelu_tanh, none, swiglu_oai) \
    LAUNCH_OF_EXPERTS_(X, bf16, silu, swiglu_oai, none)
#else
#define LAUNCH_ALL_EXPERTS_(X, input) \
    LAUNCH_OF_EXPERTS_(X, input, none, none, none) \
    LAUNCH_OF_EXPERTS_(X, input, silu, silu, silu) \
    LAUNCH_OF_EXPERTS_(X, input, gelu_tanh, gelu_tanh, gelu_tanh) \
    LAUNCH_OF_EXPERTS_(X, input, swiglu_oai, swiglu_oai, swiglu_oai)
#define LAUNCH_EXPERTS_EACH(X) \
    LAUNCH_ALL_EXPERTS_(X, f32) LAUNCH_ALL_EXPERTS_(X, f16) LAUNCH_ALL_EXPERTS_(X, bf16)
#endif

#define LAUNCH_DECLARE_EXPERTS_(input, format, act) \
    cudaError_t LAUNCH_EXPERTS(input, format, act)(const launch_experts_args *, int, cudaStream_t);
/** 11_shuffle's interleave_args. */
typedef struct launch_interleave_args {
    void *out;
    const void *in;
    size_t element, batches, rows, sf_cols;
    int layout;
    size_t epilogue_tile_m;
    int reverse;
} launch_interleave_args;

/** Its shuffle_args. */
typedef struct launch_shuffle_args {
    void *out;
    const void *in;
    size_t batches, rows, row_bytes, epilogue_tile_m;
    int reverse;
} launch_shuffle_args;

/** Its shuffle_tensor_args. */
typedef struct launch_shuffle_tensor_args {
    uint8_t *q_out, *sf_out;
    float *row_dec_out;
    const uint8_t *q, *sf;
    const float *row_dec;
    size_t batches, rows, q_row_bytes, sf_cols, epilogue_tile_m;
} launch_shuffle_tensor_args;

/** 14_packbits' packbits_args. */
typedef struct launch_packbits_args {
    uint8_t *out;
    const uint8_t *x;
    size_t n;
    int order;
} launch_packbits_args;

/** Its segment_packbits_args. */
typedef struct launch_segment_packbits_args {
    uint8_t *out;
    size_t out_bytes;
    const uint8_t *x;
    size_t n;
    const void *indptr;
    void *new_indptr;
    size_t index_bytes, segments;
    int order;
    uint32_t *workspace, *errors;
} launch_segment_packbits_args;

/** 12_kv_cache's quantize_kv_tensor and dequantize_kv_tensor in one: each takes what it has. */
typedef struct launch_kv_tensor {
    const void *x;
    void *y;
    uint8_t *q, *sf;
    size_t x_stride;
    fp4_kv_strides y_strides;
    fp4_kv_pages pages;
    const float *scale_device;
    int sense;
    float scale;
    float *global_dec;
} launch_kv_tensor;

/** Likewise its arguments. */
typedef struct launch_kv_args {
    launch_kv_tensor of[2]; /* K and V */
    const void *tables;
    int tables_are_64;
    size_t table_stride, max_pages;
    const int32_t *seq_lens;
    size_t batches, max_tokens;
    uint32_t *skipped;
} launch_kv_args;

typedef cudaError_t (*launch_kv_function)(const launch_kv_args *args, int pdl, cudaStream_t stream);

#define LAUNCH_KV_QUANTIZE_(input) launch_kv_quantize_##input
#define LAUNCH_KV_QUANTIZE(input) LAUNCH_KV_QUANTIZE_(input)
#define LAUNCH_KV_DEQUANTIZE_(input) launch_kv_dequantize_##input
#define LAUNCH_KV_DEQUANTIZE(input) LAUNCH_KV_DEQUANTIZE_(input)
#define LAUNCH_KV_EACH(X) X(f32) X(f16) X(bf16)

#define LAUNCH_DECLARE_KV_(input) \
    cudaError_t LAUNCH_KV_QUANTIZE(input)(const launch_kv_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_KV_DEQUANTIZE(input)(const launch_kv_args *, int, cudaStream_t);
/** 13_kv_append's append_tensor. */
typedef struct launch_append_tensor {
    const void *x;
    size_t x_token, x_head;
    uint8_t *q, *sf;
    fp4_kv_pages pages;
    const float *scale_device;
    int sense;
    float scale;
} launch_append_tensor;

/** Its append_args. */
typedef struct launch_append_args {
    launch_append_tensor k, v;
    size_t tokens;
    const void *slots, *positions, *tables;
    int slots_are_64, positions_are_64, tables_are_64;
    const int32_t *batch_indices, *indptr;
    size_t batches, max_pages, table_stride;
    const float *cos_sin;
    size_t max_position, rotary;
    int style, rounded;
    void *k_out;
    size_t k_out_token, k_out_head;
    uint32_t *skipped;
} launch_append_args;

typedef cudaError_t (*launch_append_function)(const launch_append_args *args, int pdl,
                                              cudaStream_t stream);

/* X(input) */
#define LAUNCH_APPEND_(input) launch_append_##input
#define LAUNCH_APPEND(input) LAUNCH_APPEND_(input)
#define LAUNCH_APPEND_EACH(X) X(f32) X(f16) X(bf16)

/** 15_modelopt's modelopt_args; of 06_dequantize's dequantize_args what matters. */
typedef struct launch_modelopt_args {
    uint8_t *q, *sf;
    const void *x;
    size_t rows, cols, x_stride;
    int layout;
    const float *amax_device;
    float amax, fp8_max;
    const float *block_amax;
    float *global_dec;
} launch_modelopt_args;

typedef struct launch_modelopt_back_args {
    void *y;
    const uint8_t *q, *sf;
    size_t rows, cols, y_stride;
    int layout;
    const float *global_device;
    float global_dec;
} launch_modelopt_back_args;

typedef cudaError_t (*launch_modelopt_function)(const launch_modelopt_args *args, int pdl,
                                                cudaStream_t stream);
typedef cudaError_t (*launch_modelopt_back_function)(const launch_modelopt_back_args *args, int pdl,
                                                     cudaStream_t stream);

/* X(type, format): on the CPU each of both. */
#define LAUNCH_MODELOPT_(type, format) launch_modelopt_##type##_##format
#define LAUNCH_MODELOPT(type, format) LAUNCH_MODELOPT_(type, format)
#define LAUNCH_MODELOPT_BACK_(type, format) launch_modelopt_back_##type##_##format
#define LAUNCH_MODELOPT_BACK(type, format) LAUNCH_MODELOPT_BACK_(type, format)
#if defined(FP4_SIMT)
#define LAUNCH_MODELOPT_EACH(X) \
    X(f32, nvfp4) \
    X(bf16, nvfp4) X(bf16, mxfp4) X(f16, mxfp8) X(f16, nvfp4_32) X(f32, mxfp4_16)
#else
#define LAUNCH_MODELOPT_TYPES_(X, format) X(f32, format) X(f16, format) X(bf16, format)
#define LAUNCH_MODELOPT_EACH(X) \
    LAUNCH_MODELOPT_TYPES_(X, nvfp4) \
    LAUNCH_MODELOPT_TYPES_(X, mxfp4) \
    LAUNCH_MODELOPT_TYPES_(X, mxfp8) \
    LAUNCH_MODELOPT_TYPES_(X, nvfp4_32) LAUNCH_MODELOPT_TYPES_(X, mxfp4_16)
#endif

#define LAUNCH_DECLARE_MODELOPT_(type, format) \
    cudaError_t LAUNCH_MODELOPT(type, format)(const launch_modelopt_args *, int, cudaStream_t); \
    cudaError_t LAUNCH_MODELOPT_BACK(type, format)(const launch_modelopt_back_args *, int, \
                                                   cudaStream_t);
#define LAUNCH_DECLARE_APPEND_(input) \
    cudaError_t LAUNCH_APPEND(input)(const launch_append_args *, int, cudaStream_t);
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
cudaError_t launch_first(const launch_first_args *a, cudaStream_t stream);
LAUNCH_EACH(LAUNCH_DECLARE_)
LAUNCH_NORM_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_GATED_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_TOKEN_EACH(LAUNCH_DECLARE_FUSED_)
LAUNCH_BACK_EACH(LAUNCH_DECLARE_BACK_)
LAUNCH_FAKE_EACH(LAUNCH_DECLARE_FAKE_)
LAUNCH_AMAX_EACH(LAUNCH_DECLARE_AMAX_)
LAUNCH_GEMV_EACH(LAUNCH_DECLARE_GEMV_)
LAUNCH_EXPERTS_EACH(LAUNCH_DECLARE_EXPERTS_)
cudaError_t launch_interleave(const launch_interleave_args *args, int pdl, cudaStream_t stream);
cudaError_t launch_shuffle(const launch_shuffle_args *args, int pdl, cudaStream_t stream);
cudaError_t launch_shuffle_tensor(const launch_shuffle_tensor_args *args, int pdl,
                                  cudaStream_t stream);
cudaError_t launch_packbits(const launch_packbits_args *args, int pdl, cudaStream_t stream);
cudaError_t launch_segment_packbits(const launch_segment_packbits_args *args, int pdl,
                                    cudaStream_t stream);
size_t launch_segment_workspace_bytes(size_t segments);
size_t launch_segment_workspace_zeros(void); /* bytes that are 0 before and behind a launch */
LAUNCH_KV_EACH(LAUNCH_DECLARE_KV_)
LAUNCH_APPEND_EACH(LAUNCH_DECLARE_APPEND_)
LAUNCH_MODELOPT_EACH(LAUNCH_DECLARE_MODELOPT_)
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_LAUNCH_H */

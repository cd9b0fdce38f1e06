/*
 * tests/gpu/parts.h - the building blocks of fp4/device, one kernel for each, callable from C.
 *
 * parts.cu is compiled once for each way in which they can come out:
 *
 *     gpu_parts_default    as the target has it
 *     gpu_parts_portable   without any instruction that sm_75 lacks
 *     gpu_parts_fast_math  with --use_fast_math
 *     gpu_parts_native     as on a target with FP4 instructions, which are emulated one by one
 *                          (native/fp4/device/ptx.cuh): the way around the instructions is tested
 *
 * All pointers are device memory; launches are asynchronous, on the default stream.
 */
#ifndef FP4_TESTS_GPU_PARTS_H
#define FP4_TESTS_GPU_PARTS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

/** From f32. The result of one element in a type of its own. */
typedef enum parts_encoder {
    TO_E2M1X8,           /* uint8_t */
    TO_E2M1X8_BELOW_7,   /* uint8_t */
    TO_E2M1X8_TIES_DOWN, /* uint8_t */
    TO_E2M1X8_UP,        /* uint8_t; of x times 2^124, without the product */
    TO_E2M1X8_FAR_DOWN,  /* uint8_t; 2^-111 */
    TO_E2M1X8_SR,        /* uint8_t; by PARTS_RANDOM of its bits */
    TO_E2M1X16_LOW,      /* uint8_t; the eight are the lower half of sixteen */
    TO_E2M1X16_HIGH,     /* uint8_t */
    TO_E2M1X2,           /* uint8_t */
    TO_E4M3X8,           /* uint8_t */
    TO_E4M3X2,           /* uint8_t */
    TO_E4M3,             /* uint8_t */
    TO_E8M0_UP,          /* uint8_t */
    TO_F16X8,            /* uint16_t */
    TO_F16X2,            /* uint16_t */
    TO_BF16X8,           /* uint16_t */
    TO_BF16X2,           /* uint16_t */
    TO_F16X16_LOW,       /* uint16_t */
    TO_F16X16_HIGH,      /* uint16_t */
    TO_BF16X16_LOW,      /* uint16_t */
    TO_BF16X16_HIGH,     /* uint16_t */
    TO_U32X16_LOW,       /* uint32_t */
    TO_U32X16_HIGH,      /* uint32_t */
    TO_RCP_NEWTON,       /* float */
    TO_RCP_RN,           /* float: the instruction that it stands for */
    TO_RSQRT,            /* float */
    PARTS_ENCODERS
} parts_encoder;

/** To f32: eight elements from so many words. */
typedef enum parts_decoder {
    FROM_E2M1X8,       /* 1 word */
    FROM_E2M1X8_UNITS, /* 1 word; times the unit */
    FROM_E2M1X8_F16,   /* 1 word; by way of f16 */
    FROM_E2M1X8_BF16,  /* 1 word */
    FROM_E2M1X8_U8,    /* 1 word; bytes, twice the values, plus 128 */
    FROM_E4M3X8,       /* 2 words */
    FROM_E4M3,         /* 2 words, a byte at a time */
    FROM_F16X8,        /* 4 words */
    FROM_BF16X8,       /* 4 words */
    PARTS_DECODERS
} parts_decoder;

/** A function that quantizes: lanes that share a block, elements a lane, block. */
typedef enum parts_quantizer {
    QUANTIZE_NVFP4,        /* 1 x 16 */
    QUANTIZE_NVFP4_X8,     /* 2 x 8 */
    QUANTIZE_NVFP4_X4,     /* 4 x 4 */
    QUANTIZE_NVFP4_SCALED, /* 1 x 16 */
    QUANTIZE_NVFP4_SCALED_X8,
    QUANTIZE_NVFP4_SCALED_X4,
    QUANTIZE_NVFP4_QUAD, /* 1 x 16: four lanes have four blocks between them (mma.cuh) */
    QUANTIZE_NVFP4_SCALED_QUAD,
    QUANTIZE_MXFP4,        /* 1 x 32 */
    QUANTIZE_MXFP4_X16,    /* 2 x 16 */
    QUANTIZE_MXFP4_X8,     /* 4 x 8 */
    QUANTIZE_MXFP4_SCALED, /* 1 x 32 */
    QUANTIZE_MXFP4_SCALED_X16,
    QUANTIZE_MXFP4_SCALED_X8,
    QUANTIZE_MXFP4_QUAD, /* 1 x 32 */
    QUANTIZE_MXFP4_SCALED_QUAD,
    QUANTIZE_MXFP8,        /* 1 x 32 */
    QUANTIZE_MXFP8_X16,    /* 2 x 16 */
    QUANTIZE_MXFP8_X8,     /* 4 x 8 */
    QUANTIZE_MXFP8_SCALED, /* 1 x 32 */
    QUANTIZE_MXFP8_SCALED_X16,
    QUANTIZE_MXFP8_SCALED_X8,
    QUANTIZE_MXFP8_QUAD, /* 1 x 32 */
    QUANTIZE_MXFP8_SCALED_QUAD,
    QUANTIZE_TO_NVFP4, /* by format.cuh: 16 elements a lane */
    QUANTIZE_SCALED_TO_NVFP4,
    QUANTIZE_TO_MXFP4,
    QUANTIZE_SCALED_TO_MXFP4,
    QUANTIZE_TO_MXFP8,
    QUANTIZE_SCALED_TO_MXFP8,
    QUANTIZE_TO_NVFP4_32,
    QUANTIZE_SCALED_TO_NVFP4_32,
    QUANTIZE_TO_MXFP4_16,
    QUANTIZE_SCALED_TO_MXFP4_16,
    PARTS_QUANTIZERS
} parts_quantizer;

/** A function that dequantizes: elements a lane. Those of 8 in two steps, by a factor. */
typedef enum parts_dequantizer {
    DEQUANTIZE_NVFP4,                 /* 16 */
    DEQUANTIZE_NVFP4_SCALES_FIRST,    /* 16 */
    DEQUANTIZE_NVFP4_X8,              /* 8 */
    DEQUANTIZE_NVFP4_SCALES_FIRST_X8, /* 8 */
    DEQUANTIZE_MXFP4,                 /* 32 */
    DEQUANTIZE_MXFP4_X16,             /* 16 */
    DEQUANTIZE_MXFP4_X8,              /* 8 */
    DEQUANTIZE_MXFP8,                 /* 32 */
    DEQUANTIZE_MXFP8_X16,             /* 16 */
    DEQUANTIZE_MXFP8_X8,              /* 8 */
    DEQUANTIZE_NVFP4_UNITS_X8,        /* 8, by fp4_e2m1x8_times_e4m3_to_units */
    DEQUANTIZE_E2M1_X8,               /* 8, by global_dec alone */
    PARTS_DEQUANTIZERS
} parts_dequantizer;

/** A function that decodes 16 elements to words of two. */
typedef enum parts_packer {
    NVFP4_TO_F16X16,
    NVFP4_TO_BF16X16,
    MXFP4_TO_BF16X16,
    PARTS_PACKERS
} parts_packer;

/** Eight bits that depend on 32. */
#define PARTS_RANDOM(bits) ((uint8_t)((bits)*0x9e3779b1u >> 24))

typedef enum parts_reducer {
    AMAX,
    AMAX_OF_NUMBERS, /* fragments of 16 */
    AMAX_OR_NAN,
    AMAX_OR_NAN_BF16, /* of the upper halves of the floats' bits; fragments of 16 */
    AMAX_OR_NAN_F16,
    SUMSQ, /* on top of the float that is in the output */
    SUM,   /* the same */
    MAX,   /* of x, NaN left out */
    GROUP_MAX,
    GROUP_MAX_OR_NAN,
    GROUP_SUM,
    WARP_MAX,
    WARP_SUM,
    WARP_ANY /* 1 where fp4_ptx_any finds a float that is not 0, else 0 */
} parts_reducer;

/** What reduce_cta leaves of a CTA. */
typedef enum parts_cta {
    CTA_SUM,
    CTA_MAX,        /* of x, NaN left out */
    CTA_MAX_OR_NAN, /* of |x| */
    CTA_SUM_OF,     /* the same by the functions that are told the number of threads */
    CTA_MAX_OF,
    CTA_MAX_OR_NAN_OF,
    TEAM_MAX_OR_NAN, /* of the threads of one y */
    PARTS_CTA
} parts_cta;

/** Element by element. */
typedef enum parts_arithmetic {
    ADD,    /* x + y */
    SHIFT,  /* x + term */
    FMA,    /* x * y + z */
    ADD_32, /* the same by halves of fragments of 32 */
    SHIFT_32,
    FMA_32,
    TURN,   /* fp4_rope_turn_x16 of x and y; z the cosines, x the sines */
    NEOX_X, /* the same of fp4_rope_neox_x16, the first halves of its pairs */
    NEOX_Y, /* the second */
    GPTJ,   /* fp4_rope_gptj_x16 of x; the first eight of z the cosines, of y the sines */
    PARTS_ARITHMETIC
} parts_arithmetic;

typedef enum parts_activation {
    SILU,
    SILU_KNOWN, /* where the first of sixteen is NaN, zeros instead of the others */
    GELU_TANH,
    GELU_TANH_KNOWN,
    OAI_GATE,
    OAI_GATE_KNOWN,
    SILU_VOTED,
    SWISH_VOTED, /* of slope 1.702 */
    GELU_TANH_VOTED,
    OAI_GATE_VOTED,
    OAI_UP,      /* of an activated gate of -0.75 */
    OAI_UP_BF16, /* the same of x rounded to bf16, */
    OAI_UP_F16,  /* to f16 */
    SILU_TABLE,  /* of x rounded to bf16; zeros where the table does not have all sixteen */
    GELU_TANH_TABLE,
    OAI_GATE_TABLE,
    EXP, /* fp4_exp of each */
    PARTS_ACTIVATIONS
} parts_activation;

typedef struct gpu_parts {
    const char *name;

    /* FP4_ARCH_CVT_E2M1, _CVT_E4M3, _CVT_F16X2, _MAX_NAN, _MAX_ABS_X2, fp4_is_native(),
       fp4_is_native_e4m3(), and the architecture, to eight ints. */
    cudaError_t (*describe)(int *out);

    /* The floats with bits first, first + 1, ... : element k of each eight at place (k + turn) % 8
       of the fragment; the results in the order of the bits. */
    cudaError_t (*encode)(parts_encoder how, uint32_t first, size_t count, unsigned turn,
                          void *out);

    /* x: eights of elements. */
    cudaError_t (*decode)(parts_decoder how, const uint32_t *words, size_t eights, float *out);

    /* n results of fp4_ptx_dot_u8u8, or where b is signed of fp4_ptx_dot_u8s8. */
    cudaError_t (*dot)(int is_signed, const uint32_t *a, const uint32_t *b, const uint32_t *sum,
                       size_t n, uint32_t *out);

    /* dtype as fp4_dtype, count 8, 16, 32, or 0: 16 by way of fp4_load_u32xN and
       fp4_<type>x16_to_f32x16, or 1: 16 by fp4_load_x16. Fragments follow each other, in x as in
       out. */
    cudaError_t (*load)(int dtype, int count, int cs, const void *x, size_t fragments, float *out);

    /* Codes of 4 or 8 bits, count 8, 16, 32; or words, bits = 32, count 4, 8, 16, without cs.
       Fragment i goes from q[i * words] to out + i * stride. */
    cudaError_t (*store)(int bits, int count, int cs, const uint32_t *q, size_t fragments,
                         uint8_t *out, size_t stride);

    /* Fragments of 16 by fp4_store_x16. */
    cudaError_t (*store_elements)(int dtype, const float *x, size_t fragments, void *out);

    /* fp4_store_u32x16_by_four: lane i stores 64 bytes, behind those of lane i - 1. */
    cudaError_t (*store_by_four)(const uint32_t *w, size_t lanes, uint8_t *out);

    /* Elements of 16 or 32 bits: of each 32 the even ones, then the odd ones. */
    cudaError_t (*deinterleave)(int bits, const uint32_t *x, size_t fragments, uint32_t *out);

    /* layout as fp4_layout. The words of `rows` rows by fp4_store_sf_word: for each row so many
       words, w[row * words + k] those of scale columns first + 4k on. */
    cudaError_t (*store_sf_words)(int layout, uint8_t *sf, size_t rows, uint32_t sf_cols,
                                  uint32_t first, uint32_t words, const uint32_t *w);

    /* fp4_sf_words of every thread; threads: a multiple of 32. lanes 1, 2, 4, 8. */
    cudaError_t (*sf_words)(int lanes, const uint32_t *bytes, size_t threads, uint32_t *out);

    /* layout as fp4_layout: 128x4 or 8x4. */
    cudaError_t (*pad)(int layout, uint8_t *sf, size_t rows, size_t sf_cols, const unsigned grid[3],
                       const unsigned cta[3]);

    /* Fragments of 8, 16, 32, one result each. */
    cudaError_t (*reduce)(parts_reducer how, int count, const float *x, size_t fragments,
                          float *out);

    /* Groups of `width` lanes, a result in each lane; lanes: a multiple of 32. */
    cudaError_t (*reduce_lanes)(parts_reducer how, int width, const float *x, size_t lanes,
                                float *out);

    /* CTAs of this shape: everything of parts_cta, to out[what * n + i] of thread i of n. Those
       that are told the number of threads only in one dimension; else they leave 0. */
    cudaError_t (*reduce_cta)(const unsigned cta[3], unsigned ctas, const float *x, float *out);

    /* fp4_grid_max, x[i] that of CTA i, by one thread of each. Which CTAs were the last to come:
       *last counts them. */
    cudaError_t (*grid_max)(const unsigned grid[3], const float *x, uint32_t *workspace, float *max,
                            uint32_t *last);

    /* f32 fragments of 32: (x * y) * factor by fp4_mul_xN and fp4_scale_xN, N = 8, 16, 32. */
    cudaError_t (*multiply)(int count, const float *x, const float *y, float factor, size_t n,
                            float *out);

    /* Rows of so many pieces of 16, one to a CTA, whose threads take `each` pieces at a time:
       fp4_row_sum of the pieces' sums, to each thread of the row; and scale bytes, one for `lanes`
       pieces, to the layout. Rows from `rows` to `padded` are padding. */
    cudaError_t (*row)(int layout, unsigned threads, unsigned each, size_t rows, size_t padded,
                       uint32_t pieces, uint32_t lanes, const float *x, const uint8_t *bytes,
                       float *sums, uint8_t *sf);

    /* Fragments of 16. */
    cudaError_t (*combine)(parts_arithmetic how, const float *x, const float *y, const float *z,
                           float term, size_t n, float *out);

    /* Fragments of 16. */
    cudaError_t (*activate)(parts_activation how, const float *x, size_t n, float *out);

    /* Blocks with a global_enc and a mul each; codes as in memory; the scale byte of every lane. */
    cudaError_t (*quantize)(parts_quantizer how, const float *x, const float *global_enc,
                            const float *mul, size_t blocks, uint8_t *q, uint8_t *sf_of_lanes);

    /* format as fp4_format, all of them, 16 elements a lane: blocks with their amax known, and any
       blocks; mul: null for the functions without. Codes and scale bytes as above; what known
       leaves in *care of every lane. */
    cudaError_t (*quantize_known)(int format, const float *x, const float *global_enc,
                                  const float *mul, size_t blocks, uint8_t *q, uint8_t *sf_of_lanes,
                                  uint32_t *care_of_lanes);
    cudaError_t (*quantize_any)(int format, const float *x, const float *global_enc,
                                const float *mul, size_t blocks, uint8_t *q, uint8_t *sf_of_lanes);

    /* The same formats: blocks with an amax and a global_enc each. */
    cudaError_t (*quantize_given)(int format, const float *x, const float *global_enc,
                                  const float *amax, size_t blocks, uint8_t *q,
                                  uint8_t *sf_of_lanes);

    /* Fragments of 16 with a factor each; their bits. */
    cudaError_t (*clipped)(const float *x, const float *enc, float most, size_t n, uint32_t *out);

    /* Fragments of 16 with a scale each; their bits, or zeros where nobody wants them. */
    cudaError_t (*modelopt_fake)(const float *x, const float *scale, int wants_clipped, size_t n,
                                 float *out, uint32_t *clipped);

    /* format as fp4_format: NVFP4, MXFP4, MXFP8. Blocks by ModelOpt's rules; codes and scale bytes
       as above, the first by the block's global_dec. */
    cudaError_t (*modelopt_quantize)(int format, const float *x, const float *global_dec,
                                     size_t blocks, uint8_t *q, uint8_t *sf);

    /* format as there. Lanes of 16 elements whose scale byte is given, and lanes of 8 back; a
       global_dec each. */
    cudaError_t (*modelopt_encode)(int format, const float *x, const uint8_t *sf,
                                   const float *global_dec, size_t lanes, uint8_t *q);
    cudaError_t (*modelopt_dequantize)(int format, const uint8_t *q, const uint8_t *sf,
                                       const float *global_dec, size_t lanes, float *out);

    /* Of amaxes, by the largest amax of the tensor: the static scale, the dynamic, that of qdq; the
       factors of fused_amax_convert, and 0.7 of the amax by them, negative of every third; these
       three without that largest one. Nine times n. */
    cudaError_t (*modelopt_scales)(const float *amax, float global_amax, size_t n, float *out);

    /* format as fp4_format: NVFP4, MXFP4. Lanes of 16 elements, rounded stochastically by four
       words each; the scale byte of every lane. */
    cudaError_t (*quantize_sr)(int format, const float *x, float global_enc, const uint32_t *random,
                               size_t lanes, uint8_t *q, uint8_t *sf_of_lanes);

    /* Lanes of 16 codes and a scale byte to eight words. */
    cudaError_t (*pack)(parts_packer how, const uint32_t *q, const uint8_t *sf, size_t lanes,
                        uint32_t *out);

    /* format as fp4_format: NVFP4, MXFP4. Lanes of 16 elements of e4m3, quantized by a table that
       each CTA makes; the scale byte of every lane. */
    cudaError_t (*requantize)(int format, const uint8_t *x, float dec, float global_enc,
                              size_t lanes, uint8_t *q, uint8_t *sf_of_lanes);

    /* Lanes with a scale byte and a global_dec each. */
    cudaError_t (*dequantize)(parts_dequantizer how, const uint32_t *q, const uint8_t *sf,
                              const float *global_dec, size_t lanes, float *out);
} gpu_parts;

#if defined(__cplusplus)
extern "C" {
#endif
extern const gpu_parts gpu_parts_default, gpu_parts_portable, gpu_parts_fast_math, gpu_parts_native;
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_PARTS_H */

/*
 * fp4/types.h - the vocabulary: formats, layouts, register fragments, blocks, numeric constants.
 *
 *     format   elements    block   scale byte   second-level scale   largest value of a block
 *     NVFP4    e2m1 (FP4)  16      e4m3         f32                  6 * 448 * global_dec
 *     MXFP4    e2m1 (FP4)  32      e8m0         none                 6 * 2^127
 *     MXFP8    e4m3 (FP8)  32      e8m0         none                 448 * 2^127
 *
 * A block is always the 16 or 32 consecutive elements of a row that share a scale byte. Directions
 * are in the names: what ends in `enc` multiplies before elements are rounded, what ends in `dec`
 * multiplies after they are decoded.
 */
#ifndef FP4_TYPES_H
#define FP4_TYPES_H

#include <fp4/config.h>

#define FP4_NVFP4_BLOCK 16 /* elements that share an e4m3 scale byte */
#define FP4_MXFP4_BLOCK 32 /* elements that share an e8m0 scale byte */
#define FP4_MXFP8_BLOCK 32

#define FP4_E2M1_MAX 6.0f   /* largest e2m1: 1.1b * 2^2 */
#define FP4_E4M3_MAX 448.0f /* largest e4m3: 1.110b * 2^8 (1.111b * 2^8 is the NaN) */
#define FP4_F32_MAX 3.402823466385288598e+38f

/** What a tensor is quantized to. */
typedef enum fp4_format { FP4_NVFP4 = 0, FP4_MXFP4 = 1, FP4_MXFP8 = 2 } fp4_format;

/** Where the scale bytes of a matrix live (layout.h). The values are FlashInfer's SfLayout. */
typedef enum fp4_layout {
    FP4_LAYOUT_128X4 = 0,
    FP4_LAYOUT_8X4 = 1,
    FP4_LAYOUT_LINEAR = 2
} fp4_layout;

/** 8, 16, 32 consecutive elements of a row in registers, by value. */
typedef struct fp4_f32x8 {
    float v[8];
} fp4_f32x8;

typedef struct fp4_f32x16 {
    float v[16];
} fp4_f32x16;

typedef struct fp4_f32x32 {
    float v[32];
} fp4_f32x32;

/** A block's scale: the byte to store, and the factor for its elements before encoding. */
typedef struct fp4_scale {
    uint8_t bits;
    float enc;
} fp4_scale;

/** A quantized block. Element i of an FP4 block is bits [4*(i%8), 4*(i%8)+4) of q[i/8], so that in
    memory (little endian) the even element is the low nibble of its byte. Element i of an MXFP8
    block is byte i%4 of q[i/4]. */
typedef struct fp4_nvfp4_block {
    uint32_t q[2];
    uint8_t sf; /* e4m3 */
} fp4_nvfp4_block;

typedef struct fp4_mxfp4_block {
    uint32_t q[4];
    uint8_t sf; /* e8m0 */
} fp4_mxfp4_block;

typedef struct fp4_mxfp8_block {
    uint32_t q[8];
    uint8_t sf; /* e8m0 */
} fp4_mxfp8_block;

FP4_STATIC_ASSERT(sizeof(float) == 4 && sizeof(uint32_t) == 4, "float and uint32_t are 32 bits");
FP4_STATIC_ASSERT(sizeof(size_t) == 8, "sizes and offsets are 64-bit");
FP4_STATIC_ASSERT(sizeof(fp4_f32x16) == 64, "fragments have no padding");
FP4_STATIC_ASSERT(sizeof(fp4_nvfp4_block) == 12 && sizeof(fp4_mxfp4_block) == 20 &&
                      sizeof(fp4_mxfp8_block) == 36,
                  "blocks are their codes and one padded byte");

#endif /* FP4_TYPES_H */

/*
 * fp4/types.h - the vocabulary: formats, layouts, register fragments, blocks, numeric constants.
 *
 *     format     elements    block   scale byte   second-level scale   largest value of a block
 *     NVFP4      e2m1 (FP4)  16      e4m3         f32                  6 * 448 * global_dec
 *     NVFP4_32   e2m1 (FP4)  32      e4m3         f32                  6 * 448 * global_dec
 *     MXFP4      e2m1 (FP4)  32      e8m0         none                 6 * 2^127
 *     MXFP4_16   e2m1 (FP4)  16      e8m0         none                 6 * 2^127
 *     MXFP8      e4m3 (FP8)  32      e8m0         none                 448 * 2^127
 *
 * A block is always the 16 or 32 consecutive elements of a row that share a scale byte. NVFP4_32
 * and MXFP4_16 are the rules of NVFP4 and MXFP4 over blocks of the other's length. Directions are
 * in the names: what ends in `enc` multiplies before elements are rounded, what ends in `dec`
 * multiplies after they are decoded.
 */
#ifndef FP4_TYPES_H
#define FP4_TYPES_H

#include <fp4/config.h>

#define FP4_NVFP4_BLOCK 16 /* elements that share an e4m3 scale byte */
#define FP4_MXFP4_BLOCK 32 /* elements that share an e8m0 scale byte */
#define FP4_MXFP8_BLOCK 32
#define FP4_NVFP4_32_BLOCK 32
#define FP4_MXFP4_16_BLOCK 16

#define FP4_E2M1_MAX 6.0f   /* largest e2m1: 1.1b * 2^2 */
#define FP4_E4M3_MAX 448.0f /* largest e4m3: 1.110b * 2^8 (1.111b * 2^8 is the NaN) */
#define FP4_F32_MAX 3.402823466385288598e+38f

/** What a tensor is quantized to. */
typedef enum fp4_format {
    FP4_NVFP4 = 0,
    FP4_MXFP4 = 1,
    FP4_MXFP8 = 2,
    FP4_NVFP4_32 = 3,
    FP4_MXFP4_16 = 4
} fp4_format;

/** Elements that share a scale byte. */
FP4_HD_CONST uint32_t fp4_format_block(fp4_format format)
{
    return format == FP4_NVFP4 || format == FP4_MXFP4_16 ? 16 : 32;
}

/** Lanes that share a scale byte where each has 16 elements of a row, side by side. */
FP4_HD_CONST uint32_t fp4_format_lanes(fp4_format format)
{
    return fp4_format_block(format) / 16;
}

/** 1 where a scale byte is e4m3 and there is a second-level scale; else it is e8m0, without one. */
FP4_HD_CONST int fp4_format_is_nvfp4(fp4_format format)
{
    return format == FP4_NVFP4 || format == FP4_NVFP4_32;
}

/** Bits of a code: 4 of e2m1, 8 of e4m3. */
FP4_HD_CONST uint32_t fp4_format_bits(fp4_format format)
{
    return format == FP4_MXFP8 ? 8 : 4;
}

/** Bytes of codes of a rows x cols matrix of whole blocks. */
FP4_HD_CONST size_t fp4_q_bytes(fp4_format format, size_t rows, size_t cols)
{
    return format == FP4_MXFP8 ? rows * cols : rows * (cols / 2);
}

/** Type of elements in memory, before they are quantized or after they are dequantized. */
typedef enum fp4_dtype { FP4_F32 = 0, FP4_F16 = 1, FP4_BF16 = 2, FP4_E4M3 = 3 } fp4_dtype;

/** Bytes of an element. */
FP4_HD_CONST uint32_t fp4_dtype_bytes(fp4_dtype dtype)
{
    return dtype == FP4_F32 ? 4 : dtype == FP4_E4M3 ? 1 : 2;
}

/** Where the scale bytes of a matrix live (layout.h). The values are FlashInfer's SfLayout. */
typedef enum fp4_layout {
    FP4_LAYOUT_128X4 = 0,
    FP4_LAYOUT_8X4 = 1,
    FP4_LAYOUT_LINEAR = 2
} fp4_layout;

/**
 * In which order the two scales of NVFP4 multiply a decoded code; each product is rounded to f32.
 * Formats without a second level have one order. Where sf * global_dec rounds to a normal number,
 * the results are an ulp apart at most. Where it is subnormal or 0, FP4_SCALES_FIRST loses bits of
 * the scales, or all of them; where it is infinite, so is every code, and the zeros are NaN, though
 * code * sf * global_dec may be in range.
 */
typedef enum fp4_association {
    FP4_CODE_FIRST = 0,  /* (code * sf) * global_dec: one rounding, code * sf being exact */
    FP4_SCALES_FIRST = 1 /* code * (sf * global_dec): FlashInfer's e2m1_and_ufp8sf_scale_to_float,
                            ModelOpt's NVFP4QTensor, torchao */
} fp4_association;

/** 4, 8, 16, 32 consecutive elements of a row in registers, by value. */
typedef struct fp4_f32x4 {
    float v[4];
} fp4_f32x4;

typedef struct fp4_f32x8 {
    float v[8];
} fp4_f32x8;

typedef struct fp4_f32x16 {
    float v[16];
} fp4_f32x16;

typedef struct fp4_f32x32 {
    float v[32];
} fp4_f32x32;

/** 8, 16, 32, 64 bytes of codes or elements in registers, as they lie in memory. */
typedef struct fp4_u32x2 {
    uint32_t v[2];
} fp4_u32x2;

typedef struct fp4_u32x4 {
    uint32_t v[4];
} fp4_u32x4;

typedef struct fp4_u32x8 {
    uint32_t v[8];
} fp4_u32x8;

typedef struct fp4_u32x16 {
    uint32_t v[16];
} fp4_u32x16;

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

/** One thread's part of a block that several lanes share: its codes, and the block's scale byte.
    The number is that of the 32-bit words; four e2m1 codes fill half of one. */
typedef struct fp4_part1 {
    uint32_t q[1];
    uint8_t sf;
} fp4_part1;

typedef struct fp4_part2 {
    uint32_t q[2];
    uint8_t sf;
} fp4_part2;

typedef struct fp4_part4 {
    uint32_t q[4];
    uint8_t sf;
} fp4_part4;

/** The halves of a fragment, and a fragment of two halves. */
FP4_HD fp4_f32x8 fp4_low_x8(fp4_f32x16 x)
{
    const fp4_f32x8 half = {{x.v[0], x.v[1], x.v[2], x.v[3], x.v[4], x.v[5], x.v[6], x.v[7]}};
    return half;
}

FP4_HD fp4_f32x8 fp4_high_x8(fp4_f32x16 x)
{
    const fp4_f32x8 half = {{x.v[8], x.v[9], x.v[10], x.v[11], x.v[12], x.v[13], x.v[14], x.v[15]}};
    return half;
}

FP4_HD fp4_f32x16 fp4_low_x16(fp4_f32x32 x)
{
    fp4_f32x16 half;
    int i;
    for (i = 0; i < 16; i++) {
        half.v[i] = x.v[i];
    }
    return half;
}

FP4_HD fp4_f32x16 fp4_high_x16(fp4_f32x32 x)
{
    fp4_f32x16 half;
    int i;
    for (i = 0; i < 16; i++) {
        half.v[i] = x.v[16 + i];
    }
    return half;
}

FP4_HD fp4_f32x16 fp4_join_x8(fp4_f32x8 low, fp4_f32x8 high)
{
    fp4_f32x16 x;
    int i;
    for (i = 0; i < 8; i++) {
        x.v[i] = low.v[i];
        x.v[8 + i] = high.v[i];
    }
    return x;
}

FP4_HD fp4_f32x32 fp4_join_x16(fp4_f32x16 low, fp4_f32x16 high)
{
    fp4_f32x32 x;
    int i;
    for (i = 0; i < 16; i++) {
        x.v[i] = low.v[i];
        x.v[16 + i] = high.v[i];
    }
    return x;
}

FP4_STATIC_ASSERT(sizeof(fp4_f32x16) == 64, "fragments have no padding");
FP4_STATIC_ASSERT(sizeof(fp4_nvfp4_block) == 12 && sizeof(fp4_mxfp4_block) == 20 &&
                      sizeof(fp4_mxfp8_block) == 36,
                  "blocks are their codes and one padded byte");

#endif /* FP4_TYPES_H */

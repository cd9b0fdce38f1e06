/*
 * fp4/device/cvt.cuh - packed conversions between f32 fragments and e2m1, e4m3, f16, bf16: the
 * instruction where the target has it, else the fastest exact arithmetic known to us. Equal to the
 * scalar functions of e2m1.h and e4m3.h on every input.
 *
 * How e2m1 is reached without the instruction. Give its magnitudes their codes as new names, the
 * integers 0..7, and the map from one to the other is made of three straight lines:
 *
 *     magnitude a    0 .. 2    2 .. 4    4 .. 6
 *     code           2a        a + 2     a/2 + 4
 *
 * Each is half as steep as the one before, so the map is the smallest of the three everywhere:
 *
 *     code(a) = min(2a, a + 2, a/2 + 4)
 *
 * Rounding to nearest even never decreases, so it may be done before the min; and adding 2^23 to a
 * small float rounds it to an integer, ties to even, that then stands in the low bits of the sum.
 * So three fused multiply-adds, each rounding once, and one integer min of three (bits of positive
 * floats order as integers) give the code: no comparison, no select, nothing that depends on the
 * exponent. A tie of e2m1 is a tie between integers, and the even code wins in both.
 */
#ifndef FP4_DEVICE_CVT_CUH
#define FP4_DEVICE_CVT_CUH

#include <fp4/device/ptx.cuh>
#include <fp4/e2m1.h>
#include <fp4/e4m3.h>
#include <fp4/e8m0.h>
#include <fp4/f16.h>

/* ------------------------------------------------------------ to e2m1, without the instruction */

/* 2^23 + the code of |x|, as the bits of a float. |x| < 7 and no NaN: above, the third line leads
   on past 7. */
FP4_D uint32_t fp4_e2m1_code_(float x)
{
    const float a = fp4_ptx_abs(x);
    const float line0 = fp4_fma_rn(a, 2.0f, 8388608.0f);
    const float line1 = fp4_fma_rn(a, 1.0f, 8388608.0f + 2.0f);
    const float line2 = fp4_fma_rn(a, 0.5f, 8388608.0f + 4.0f);

    return (uint32_t)fp4_ptx_min3((int32_t)fp4_f32_bits(line0), (int32_t)fp4_f32_bits(line1),
                                  (int32_t)fp4_f32_bits(line2));
}

/* Eight sign bits to bit 3 of each nibble. The top bytes of the even and of the odd elements are
   gathered, four to a register; a shift interleaves them. */
FP4_D uint32_t fp4_signs_x8_(fp4_f32x8 x)
{
    const uint32_t e02 = fp4_ptx_bytes(fp4_f32_bits(x.v[0]), fp4_f32_bits(x.v[2]), 0x0073u);
    const uint32_t e46 = fp4_ptx_bytes(fp4_f32_bits(x.v[4]), fp4_f32_bits(x.v[6]), 0x7300u);
    const uint32_t e13 = fp4_ptx_bytes(fp4_f32_bits(x.v[1]), fp4_f32_bits(x.v[3]), 0x0073u);
    const uint32_t e57 = fp4_ptx_bytes(fp4_f32_bits(x.v[5]), fp4_f32_bits(x.v[7]), 0x7300u);
    const uint32_t even = fp4_ptx_bytes(e02, e46, 0x7610u);
    const uint32_t odd = fp4_ptx_bytes(e13, e57, 0x7610u);

    return ((even >> 4) & 0x08080808u) | (odd & 0x80808080u);
}

/**
 * Eight codes where the caller knows that every |x| < 7 and that none is NaN: the fast path of the
 * block quantizers, which know both from the block's amax.
 */
FP4_D uint32_t fp4_f32x8_to_e2m1x8_below_7(fp4_f32x8 x)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_ptx_e2m1x8(x.v[0], x.v[1], x.v[2], x.v[3], x.v[4], x.v[5], x.v[6], x.v[7]);
#else
    /* The codes are added up at their places: code i at 16^i. Of the eight 0x4b000000, the bits of
       2^23, the sum keeps 0x4b000000 + 16 * 0x4b000000 modulo 2^32, taken off in advance. */
    uint32_t q = fp4_e2m1_code_(x.v[7]);
    int i;

#pragma unroll
    for (i = 6; i > 0; i--) {
        q = q * (16u * FP4_ONE) + fp4_e2m1_code_(x.v[i]);
    }
    q = q * (16u * FP4_ONE) + (fp4_e2m1_code_(x.v[0]) - 0xfb000000u);
    return q + fp4_signs_x8_(x);
#endif
}

/**
 * Eight floats to eight e2m1 codes, element i in bits [4i, 4i+4): nearest even, saturating, NaN to
 * +6.
 *
 * cost     4 instructions where fp4_is_native(); else about 8 an element.
 */
FP4_D uint32_t fp4_f32x8_to_e2m1x8(fp4_f32x8 x)
{
#if !FP4_ARCH_CVT_E2M1
    int i;

    /* min returns the number where x is NaN, so NaN becomes +6; the sign of all others stays */
#pragma unroll
    for (i = 0; i < 8; i++) {
        x.v[i] = fp4_ptx_max(fp4_ptx_min(x.v[i], 6.0f), -6.0f);
    }
#endif
    return fp4_f32x8_to_e2m1x8_below_7(x);
}

/**
 * Two floats to one byte of e2m1, x0 in the low nibble. For single pairs; eight at a time cost
 * less.
 */
FP4_D uint8_t fp4_f32x2_to_e2m1x2(float x0, float x1)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_ptx_e2m1x2(x0, x1);
#else
    return (uint8_t)(fp4_f32_to_e2m1(x0) | fp4_f32_to_e2m1(x1) << 4);
#endif
}

/** Sixteen floats to two words of eight e2m1 codes. */
FP4_D fp4_u32x2 fp4_f32x16_to_e2m1x16(fp4_f32x16 x)
{
    const fp4_u32x2 q = {{fp4_f32x8_to_e2m1x8(fp4_low_x8(x)), fp4_f32x8_to_e2m1x8(fp4_high_x8(x))}};
    return q;
}

/* ------------------------------------------------------------ to e4m3 */

/* The e4m3 code of x in bits 31..24, without the instruction. From 2^-6 on, the bits of |x| rounded
   to three of the mantissa and less 120 exponents are the code, from bit 20 on. Below, the code
   counts units of 2^-9, the last place of numbers like 2^14 + |x|: the sum ends in the code. */
FP4_D uint32_t fp4_e4m3_code_(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t a = fp4_min_u32(bits & 0x7fffffffu, 0x43e00000u); /* 448 */
    const uint32_t from_2_to_minus_6 = (a - (120u << 23) + 0x7ffffu + ((a >> 20) & 1u)) << 4;
    const uint32_t below = fp4_f32_bits(fp4_add_rn(fp4_bits_f32(a), 16384.0f)) << 24;
    const uint32_t code = a < 0x3c800000u ? below : from_2_to_minus_6;

    return fp4_is_nan(x) ? 0x7f000000u : (code & 0x7f000000u) | (bits & 0x80000000u);
}

/** Two floats to two e4m3 codes, x0 in the low byte: nearest even, saturating, NaN to 0x7f. */
FP4_D uint16_t fp4_f32x2_to_e4m3x2(float x0, float x1)
{
#if FP4_ARCH_CVT_E4M3
    return fp4_ptx_e4m3x2(x0, x1);
#else
    return (uint16_t)fp4_ptx_bytes(fp4_e4m3_code_(x0), fp4_e4m3_code_(x1), 0x0073u);
#endif
}

/** Eight floats to two words of four e4m3 codes. */
FP4_D fp4_u32x2 fp4_f32x8_to_e4m3x8(fp4_f32x8 x)
{
    fp4_u32x2 q;
    int i;

#pragma unroll
    for (i = 0; i < 2; i++) {
        const float *v = &x.v[4 * i];
#if FP4_ARCH_CVT_E4M3
        q.v[i] = (uint32_t)fp4_ptx_e4m3x2(v[0], v[1]) | (uint32_t)fp4_ptx_e4m3x2(v[2], v[3]) << 16;
#else
        q.v[i] = fp4_ptx_bytes(fp4_ptx_bytes(fp4_e4m3_code_(v[0]), fp4_e4m3_code_(v[1]), 0x0073u),
                               fp4_ptx_bytes(fp4_e4m3_code_(v[2]), fp4_e4m3_code_(v[3]), 0x0073u),
                               0x5410u);
#endif
    }
    return q;
}

/* ------------------------------------------------------------ to f16 and bf16 */

/** Two floats to two bf16, x0 in the lower half: nearest even, NaN to 0x7fff. */
FP4_D uint32_t fp4_cvt_f32x2_to_bf16x2(float x0, float x1)
{
#if FP4_ARCH_CVT_BF16
    return fp4_ptx_bf16x2(x0, x1);
#else
    return (uint32_t)fp4_f32_to_bf16(x0) | (uint32_t)fp4_f32_to_bf16(x1) << 16;
#endif
}

/** Eight floats to eight f16 in four words, the lower element in the lower half: nearest even. */
FP4_D fp4_u32x4 fp4_f32x8_to_f16x8(fp4_f32x8 x)
{
    fp4_u32x4 w;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        w.v[i] = (uint32_t)fp4_ptx_f32_to_f16(x.v[2 * i]) |
                 (uint32_t)fp4_ptx_f32_to_f16(x.v[2 * i + 1]) << 16;
    }
    return w;
}

/** Eight floats to eight bf16 in four words, the lower element in the lower half: nearest even. */
FP4_D fp4_u32x4 fp4_f32x8_to_bf16x8(fp4_f32x8 x)
{
    fp4_u32x4 w;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        w.v[i] = fp4_cvt_f32x2_to_bf16x2(x.v[2 * i], x.v[2 * i + 1]);
    }
    return w;
}

FP4_D fp4_u32x8 fp4_join_words_(fp4_u32x4 a, fp4_u32x4 b)
{
    const fp4_u32x8 w = {{a.v[0], a.v[1], a.v[2], a.v[3], b.v[0], b.v[1], b.v[2], b.v[3]}};
    return w;
}

/** Sixteen floats to sixteen f16, two to a word: nearest even. */
FP4_D fp4_u32x8 fp4_f32x16_to_f16x16(fp4_f32x16 x)
{
    return fp4_join_words_(fp4_f32x8_to_f16x8(fp4_low_x8(x)), fp4_f32x8_to_f16x8(fp4_high_x8(x)));
}

/** Sixteen floats to sixteen bf16, two to a word: nearest even. */
FP4_D fp4_u32x8 fp4_f32x16_to_bf16x16(fp4_f32x16 x)
{
    return fp4_join_words_(fp4_f32x8_to_bf16x8(fp4_low_x8(x)), fp4_f32x8_to_bf16x8(fp4_high_x8(x)));
}

/** Sixteen floats to their words. */
FP4_D fp4_u32x16 fp4_f32x16_to_u32x16(fp4_f32x16 x)
{
    fp4_u32x16 w;
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        w.v[i] = fp4_f32_bits(x.v[i]);
    }
    return w;
}

/* ------------------------------------------------------------ back to f32 */

/** Two halves in one register to two floats. */
FP4_D void fp4_f16x2_to_f32x2(uint32_t h, float *x0, float *x1)
{
    *x0 = fp4_ptx_f16_to_f32((uint16_t)h);
    *x1 = fp4_ptx_f16_to_f32((uint16_t)(h >> 16));
}

/** Eight e2m1 codes, element i in bits [4i, 4i+4), to eight floats. Exact. */
FP4_D fp4_f32x8 fp4_e2m1x8_to_f32x8(uint32_t q)
{
    fp4_f32x8 x;
    int i;

#if FP4_ARCH_CVT_E2M1
#pragma unroll
    for (i = 0; i < 4; i++) {
        fp4_f16x2_to_f32x2(fp4_ptx_e2m1x2_to_f16x2(q >> (8 * i)), &x.v[2 * i], &x.v[2 * i + 1]);
    }
#else
    /* f16 is e2m1 with more bits: a magnitude code in bits 11..9 of a half is that value times
       2^-14, code 1 as a subnormal, which halves always have. Elements i and i + 4 share a
       register. */
#pragma unroll
    for (i = 0; i < 4; i++) {
        const uint32_t at_bit_12 = i < 3 ? q << (12 - 4 * i) : q;
        const uint32_t h = (at_bit_12 & 0x80008000u) | ((at_bit_12 >> 3) & 0x0e000e00u);
        fp4_f16x2_to_f32x2(h, &x.v[i], &x.v[i + 4]);
        x.v[i] = fp4_mul_rn(x.v[i], 16384.0f);
        x.v[i + 4] = fp4_mul_rn(x.v[i + 4], 16384.0f);
    }
#endif
    return x;
}

/** Eight e4m3 codes in two words to eight floats. Exact; 0x7f and 0xff give NaN. */
FP4_D fp4_f32x8 fp4_e4m3x8_to_f32x8(fp4_u32x2 q)
{
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        const uint32_t pair = q.v[i / 2] >> (16 * (i % 2));
#if FP4_ARCH_CVT_E4M3
        fp4_f16x2_to_f32x2(fp4_ptx_e4m3x2_to_f16x2((uint16_t)pair), &x.v[2 * i], &x.v[2 * i + 1]);
#else
        x.v[2 * i] = fp4_e4m3_to_f32((uint8_t)pair);
        x.v[2 * i + 1] = fp4_e4m3_to_f32((uint8_t)(pair >> 8));
#endif
    }
    return x;
}

/* The lower of two e4m3 codes to f32. */
FP4_D float fp4_low_e4m3_to_f32_(uint16_t q)
{
#if FP4_ARCH_CVT_E4M3
    return fp4_ptx_f16_to_f32((uint16_t)fp4_ptx_e4m3x2_to_f16x2(q));
#else
    return fp4_e4m3_to_f32((uint8_t)q);
#endif
}

/** One e4m3 code to f32. Exact; 0x7f and 0xff give NaN. */
FP4_D float fp4_cvt_e4m3_to_f32(uint8_t code)
{
    return fp4_low_e4m3_to_f32_(code);
}

/** f32 to one e4m3 code: nearest even, saturating, NaN to 0x7f. */
FP4_D uint8_t fp4_cvt_f32_to_e4m3(float x)
{
    return (uint8_t)fp4_f32x2_to_e4m3x2(x, 0.0f);
}

/** |x| to e8m0, rounded up, saturating, NaN to 255. */
FP4_D uint8_t fp4_cvt_f32_to_e8m0_up(float x)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_ptx_e8m0_up(x);
#else
    return fp4_f32_to_e8m0_up(x);
#endif
}

#endif /* FP4_DEVICE_CVT_CUH */

/*
 * fp4/device/cvt.cuh - packed conversions between f32 fragments and e2m1, e4m3, f16, bf16: the
 * instruction where the target has it, else the fastest exact arithmetic known to us. Equal to the
 * scalar functions of e2m1.h and e4m3.h on every input.
 *
 * How e2m1 is reached without the instruction. f16 is e2m1 with more bits: of a number that e2m1
 * has, times 2^-14, bits 11..9 of the f16 are the code and bit 15 is the sign. (Code 1 is a
 * subnormal, which halves always have.) So convert to f16, add half a code, bit 8, and cut off.
 *
 * Two things are wrong with that. It sends every tie up, and half of them have to go down, to the
 * even code; and what was no tie may have become one when it was rounded to f16. So the number is
 * first multiplied by 1 + 2^-9. A tie bears that without being rounded, and then lies just halfway
 * between two halves. Of these the conversion takes the even one: the lower one where the tie has
 * to go down, the upper one where it has to go up. Now all that goes up is at least 1 to 4 places
 * above the tie, and all that goes down at least one place below that; so a product of halves, two
 * at a time, with 1 - 5 * 2^-11 takes the former to the tie or above it and the latter below, where
 * half a code sends them.
 *
 *     tie, and where it has to go          .25    .75    1.25   1.75   2.5    3.5    5
 *                                          down   up     down   up     down   up     down
 *     its product, in places above it      .5     1.5    2.5    3.5    2.5    3.5    2.5
 *     converted                            0      2      2      4      2      4      2
 *     the least of all that go up          1      2      3      4      3      4      3
 *     its second product, not rounded      .37    .12    -.13   -.38   -.13   -.38   -.13
 *
 * A place is the last one of an f16 there. No operation reorders, and the floats next to a tie keep
 * their sides of the middle.
 *
 * 2^-14, 1 + 2^-9 and a power of two that x is to be multiplied by are one factor: a power of two
 * moves no rounding, unless something underflows, and what does has code 0. (sm_75 converts to f16
 * one at a time; it has not been timed.)
 */
#ifndef FP4_DEVICE_CVT_CUH
#define FP4_DEVICE_CVT_CUH

#include <fp4/device/ptx.cuh>
#include <fp4/e2m1.h>
#include <fp4/e4m3.h>
#include <fp4/e8m0.h>
#include <fp4/f16.h>

/* ------------------------------------------------------------ to f16 and bf16, two at a time */

/** Two floats to two f16, x0 in the lower half: nearest even, NaN to 0x7fff. */
FP4_D uint32_t fp4_cvt_f32x2_to_f16x2(float x0, float x1)
{
#if FP4_ARCH_CVT_F16X2
    return fp4_ptx_f16x2(x0, x1);
#else
    return (uint32_t)fp4_ptx_f32_to_f16(x0) | (uint32_t)fp4_ptx_f32_to_f16(x1) << 16;
#endif
}

/** Two floats to two bf16, x0 in the lower half: nearest even, NaN to 0x7fff. */
FP4_D uint32_t fp4_cvt_f32x2_to_bf16x2(float x0, float x1)
{
#if FP4_ARCH_CVT_F16X2
    return fp4_ptx_bf16x2(x0, x1);
#else
    return (uint32_t)fp4_f32_to_bf16(x0) | (uint32_t)fp4_f32_to_bf16(x1) << 16;
#endif
}

/* ------------------------------------------------------------ to e2m1, without the instruction */

/* What all are multiplied by: 2^-14 * (1 + 2^-9); for ties toward zero 2^-14, less one unit in the
   last place. */
#define FP4_E2M1_MOVED_ (6.103515625e-05f + 1.1920928955078125e-07f)
#define FP4_E2M1_BELOW_ (6.103515625e-05f - 3.637978807091713e-12f)

/* Two elements to halves: bit 15 the sign, bits 11..9 the code once bit 8 is added, bits 14..12
   clear. factor: FP4_E2M1_MOVED_, times a power of two by which x is still to be multiplied; down:
   FP4_E2M1_BELOW_, which takes ties below the middle, where cutting off leaves them. */
FP4_D uint32_t fp4_e2m1_halves_(float x0, float x1, float factor, int down)
{
    const float y0 = fp4_mul_rn(x0, factor), y1 = fp4_mul_rn(x1, factor);

    return down ? fp4_ptx_f16x2_rz(y0, y1)
                : fp4_ptx_mul_f16x2(fp4_cvt_f32x2_to_f16x2(y0, y1), 0x3bfb3bfbu);
}

/* The top bytes of four elements' halves. */
FP4_D uint32_t fp4_e2m1_bytes_(float x0, float x1, float x2, float x3, float factor, int down)
{
    return fp4_ptx_bytes(fp4_e2m1_halves_(x0, x1, factor, down),
                         fp4_e2m1_halves_(x2, x3, factor, down), 0x7531u);
}

/* Codes from the top bytes of elements 0, 2, 4, 6 and of 1, 3, 5, 7: bit 7 the sign, bits 3..1 the
   code, once `half` is added, which is bit 0 of each nibble or nothing. */
FP4_D uint32_t fp4_e2m1_join_(uint32_t even, uint32_t odd, uint32_t half)
{
    const uint32_t codes = (fp4_ptx_pick_bits(0x0f0f0f0fu, even, odd << 4) + half) >> 1;
    const uint32_t signs = fp4_ptx_pick_bits(0x08080808u, even >> 4, odd);

    return fp4_ptx_pick_bits(0x77777777u, codes, signs);
}

FP4_D uint32_t fp4_e2m1_codes_(fp4_f32x8 x, float factor, int down)
{
    const uint32_t even = fp4_e2m1_bytes_(x.v[0], x.v[2], x.v[4], x.v[6], factor, down);
    const uint32_t odd = fp4_e2m1_bytes_(x.v[1], x.v[3], x.v[5], x.v[7], factor, down);
    return fp4_e2m1_join_(even, odd, 0x11111111u);
}

/* ------------------------------------------------------------ to e2m1 */

/**
 * Eight codes where the caller knows that every |x| < 7 and that none is NaN: the fast path of the
 * block quantizers, which know both from the block's amax. Otherwise all eight are unspecified.
 */
FP4_D uint32_t fp4_f32x8_to_e2m1x8_below_7(fp4_f32x8 x)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_ptx_e2m1x8(x.v[0], x.v[1], x.v[2], x.v[3], x.v[4], x.v[5], x.v[6], x.v[7]);
#else
    return fp4_e2m1_codes_(x, FP4_E2M1_MOVED_, 0);
#endif
}

/**
 * The same, ties toward zero, as ModelOpt's MXFP4 has them. For the instruction, which sends ties
 * to even codes, numbers from 1.375 times a power of two on are moved one unit in the last place
 * down: ties among them, which go up, then lie below the middle. (Powers of two move too; the tie
 * among them goes down anyway.)
 */
FP4_D uint32_t fp4_f32x8_to_e2m1x8_ties_down_below_7(fp4_f32x8 x)
{
#if FP4_ARCH_CVT_E2M1
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        const float moved = fp4_fma_rn(x.v[i], -4.33489e-08f /* -2^-24 / 1.375 */, x.v[i]);
        /* -0 keeps its sign */
        x.v[i] = fp4_bits_f32(fp4_f32_bits(moved) | (fp4_f32_bits(x.v[i]) & 0x80000000u));
    }
    return fp4_f32x8_to_e2m1x8_below_7(x);
#else
    return fp4_e2m1_codes_(x, FP4_E2M1_BELOW_, 1);
#endif
}

/**
 * The codes of x * power, where every |x * power| < 7 and none is NaN: of blocks whose scale is a
 * power of two.
 *
 * range    power: a power of two from 2^-111 to 2^124.
 * cost     without the instruction one multiplication fewer an element than the product and then
 *          fp4_f32x8_to_e2m1x8_below_7.
 */
FP4_D uint32_t fp4_f32x8_times_power_to_e2m1x8_below_7(fp4_f32x8 x, float power)
{
#if FP4_ARCH_CVT_E2M1
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        x.v[i] = fp4_mul_rn(x.v[i], power);
    }
    return fp4_f32x8_to_e2m1x8_below_7(x);
#else
    return fp4_e2m1_codes_(x, fp4_mul_rn(FP4_E2M1_MOVED_, power), 0);
#endif
}

/**
 * Eight floats to eight e2m1 codes, element i in bits [4i, 4i+4): nearest even, saturating, NaN to
 * +6.
 *
 * cost     4 instructions where fp4_is_native(); else about 5 an element.
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

/* Four elements to bytes for fp4_e2m1_join_, rounded up where the random bytes carry into the code:
   an f16 that is cut off has 9 bits below it, and they are added to the 8 upper ones. */
FP4_D uint32_t fp4_e2m1_bytes_sr_(float x0, float x1, float x2, float x3, uint32_t r02,
                                  uint32_t r13)
{
    const float unit = 6.103515625e-05f; /* 2^-14 */
    const uint32_t h01 = fp4_ptx_f16x2_rz(fp4_mul_rn(x0, unit), fp4_mul_rn(x1, unit));
    const uint32_t h23 = fp4_ptx_f16x2_rz(fp4_mul_rn(x2, unit), fp4_mul_rn(x3, unit));

    return fp4_ptx_bytes(h01 + r02, h23 + r13, 0x7531u);
}

/**
 * Eight floats to eight e2m1 codes with stochastic rounding: fp4_f32_to_e2m1_sr of element i and
 * byte i of random. Emulated on every target.
 */
FP4_D uint32_t fp4_f32x8_to_e2m1x8_sr(fp4_f32x8 x, fp4_u32x2 random)
{
    const uint32_t low = random.v[0], high = random.v[1];
    int i;

    /* min returns the number where x is NaN, so NaN becomes +6 */
#pragma unroll
    for (i = 0; i < 8; i++) {
        x.v[i] = fp4_ptx_max(fp4_ptx_min(x.v[i], 6.0f), -6.0f);
    }
    return fp4_e2m1_join_(fp4_e2m1_bytes_sr_(x.v[0], x.v[2], x.v[4], x.v[6],
                                             (low & 0x00ff00ffu) << 1, (high & 0x00ff00ffu) << 1),
                          fp4_e2m1_bytes_sr_(x.v[1], x.v[3], x.v[5], x.v[7], low >> 7 & 0x01fe01feu,
                                             high >> 7 & 0x01fe01feu),
                          0);
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

/** Eight floats to eight f16 in four words, the lower element in the lower half: nearest even. */
FP4_D fp4_u32x4 fp4_f32x8_to_f16x8(fp4_f32x8 x)
{
    fp4_u32x4 w;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        w.v[i] = fp4_cvt_f32x2_to_f16x2(x.v[2 * i], x.v[2 * i + 1]);
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

/* ------------------------------------------------------------ e2m1 back to f16 and bf16 */

/* A byte for each of the lower four codes of q, out of a table of the eight magnitudes. */
FP4_D uint32_t fp4_e2m1_look_up_(uint32_t low, uint32_t high, uint32_t q)
{
    return fp4_ptx_bytes_or_signs(low, high, q & 0x77777777u);
}

/* Bit 7 of four bytes: the signs of the lower four codes of q. A selector of bytes has its fourth
   bit where a code has its sign: set, it gives eight times the sign of the byte, here 1. */
FP4_D uint32_t fp4_e2m1_signs_(uint32_t q)
{
    return fp4_ptx_bytes_or_signs(0x80808080u, 0x80808080u, q) << 7 & 0x80808080u;
}

/** Eight e2m1 codes to eight f16, two to a word, the lower element in the lower half. Exact. */
FP4_D fp4_u32x4 fp4_e2m1x8_to_f16x8(uint32_t q)
{
    fp4_u32x4 w;
    int i;

#if FP4_ARCH_CVT_E2M1
#pragma unroll
    for (i = 0; i < 4; i++) {
        w.v[i] = fp4_ptx_e2m1x2_to_f16x2(q >> (8 * i));
    }
#else
#pragma unroll
    for (i = 0; i < 2; i++) { /* an f16 of a value of e2m1 has nothing in its lower byte */
        const uint32_t four = q >> (16 * i);
        const uint32_t top =
            fp4_e2m1_look_up_(0x3e3c3800u, 0x46444240u, four) | fp4_e2m1_signs_(four);
        w.v[2 * i] = fp4_ptx_bytes(top, 0, 0x1404u);
        w.v[2 * i + 1] = fp4_ptx_bytes(top, 0, 0x3424u);
    }
#endif
    return w;
}

/** Eight e2m1 codes to eight bf16, two to a word, the lower element in the lower half. Exact. */
FP4_D fp4_u32x4 fp4_e2m1x8_to_bf16x8(uint32_t q)
{
    fp4_u32x4 w;
    int i;

#pragma unroll
    for (i = 0; i < 2; i++) {
        const uint32_t four = q >> (16 * i);
        const uint32_t top =
            fp4_e2m1_look_up_(0x3f3f3f00u, 0x40404040u, four) | fp4_e2m1_signs_(four);
        const uint32_t low = fp4_e2m1_look_up_(0xc0800000u, 0xc0804000u, four);
        w.v[2 * i] = fp4_ptx_bytes(low, top, 0x5140u);
        w.v[2 * i + 1] = fp4_ptx_bytes(low, top, 0x7362u);
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

/** What fp4_e2m1x8_to_units counts in. */
FP4_D float fp4_e2m1_unit(void)
{
    return FP4_ARCH_CVT_E2M1 ? 1.0f : 16384.0f; /* 2^14 */
}

/*
 * Eight e2m1 codes to halves in units of fp4_e2m1_unit(), two a word: elements 0 and 1, 2 and 3,
 * ..., or, without the instruction, 0 and 2, 1 and 3, 4 and 6, 5 and 7.
 *
 * Without it: a code at bits 3..1 and its sign at bit 7 of the top byte of a half is that value
 * times 2^-14, code 1 as a subnormal, which halves always have. The bytes of `even` and of `odd`
 * are such top bytes.
 */
FP4_D fp4_u32x4 fp4_e2m1x8_to_halves_(uint32_t q)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_e2m1x8_to_f16x8(q);
#else
    const uint32_t even = fp4_ptx_pick_bits(0x80808080u, q << 4, q << 1) & 0x8e8e8e8eu;
    const uint32_t odd = fp4_ptx_pick_bits(0x80808080u, q, q >> 3) & 0x8e8e8e8eu;
    fp4_u32x4 h;
    int i;

#pragma unroll
    for (i = 0; i < 2; i++) {
        const uint32_t two_bytes = i == 0 ? 0x1404u : 0x3424u; /* each above a zero */
        h.v[2 * i] = fp4_ptx_bytes(even, 0, two_bytes);
        h.v[2 * i + 1] = fp4_ptx_bytes(odd, 0, two_bytes);
    }
    return h;
#endif
}

/* Such halves to floats. */
FP4_D fp4_f32x8 fp4_halves_to_f32x8_(fp4_u32x4 h)
{
    const int apart = FP4_ARCH_CVT_E2M1 ? 1 : 2;
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        const int low = apart == 1 ? 2 * i : i / 2 * 4 + i % 2;
        fp4_f16x2_to_f32x2(h.v[i], &x.v[low], &x.v[low + apart]);
    }
    return x;
}

/* Times a half, both of `by`. */
FP4_D fp4_u32x4 fp4_scale_halves_(fp4_u32x4 h, uint32_t by)
{
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        h.v[i] = fp4_ptx_mul_f16x2(h.v[i], by);
    }
    return h;
}

/**
 * Eight e2m1 codes to eight floats, in units of fp4_e2m1_unit(), for callers that multiply by
 * something else anyway.
 */
FP4_D fp4_f32x8 fp4_e2m1x8_to_units(uint32_t q)
{
    return fp4_halves_to_f32x8_(fp4_e2m1x8_to_halves_(q));
}

/** Eight e2m1 codes, element i in bits [4i, 4i+4), to eight floats. Exact. */
FP4_D fp4_f32x8 fp4_e2m1x8_to_f32x8(uint32_t q)
{
    const fp4_u32x4 h = fp4_e2m1x8_to_halves_(q);

    return fp4_halves_to_f32x8_(FP4_ARCH_CVT_E2M1 ? h
                                                  : fp4_scale_halves_(h, 0x74007400u)); /* 2^14 */
}

/* Elements 0 and 1 of four e4m3 codes to two halves, or, is_upper, elements 2 and 3. Without the
   instruction: an e4m3 below its sign and a zero, as a half, is its value times 2^-8; the two
   codes of NaN get all bits of the top byte. */
FP4_D uint32_t fp4_e4m3x4_to_f16x2_(uint32_t q, int is_upper)
{
#if FP4_ARCH_CVT_E4M3
    return fp4_ptx_e4m3x2_to_f16x2((uint16_t)(is_upper ? q >> 16 : q));
#else
    const uint32_t above_zeros = is_upper ? 0x3424u : 0x1404u;
    const uint32_t top = fp4_ptx_bytes(q, 0, above_zeros);
    const uint32_t h = fp4_ptx_pick_bits(0x80008000u, top, top >> 1) & 0xbf80bf80u;
    const uint32_t nans = ((q & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u;

    return fp4_ptx_mul_f16x2(h, 0x5c005c00u) | fp4_ptx_bytes(nans - (nans >> 7), 0, above_zeros);
#endif
}

/* An e4m3 code to an f16, in both halves of a word. */
FP4_D uint32_t fp4_e4m3_to_two_f16_(uint8_t code)
{
    return fp4_e4m3x4_to_f16x2_(code * 0x101u, 0);
}

/**
 * Eight e2m1 codes times one e4m3 scale to eight floats, in units of fp4_e2m1_unit(). Exact: these
 * products are multiples of 1/2 * 2^-9 up to 6 * 448, and so, in units of 2^14 too, are halves: of
 * 2^-24 and below 1 there.
 */
FP4_D fp4_f32x8 fp4_e2m1x8_times_e4m3_to_units(uint32_t q, uint8_t sf)
{
    return fp4_halves_to_f32x8_(
        fp4_scale_halves_(fp4_e2m1x8_to_halves_(q), fp4_e4m3_to_two_f16_(sf)));
}

/** What fp4_e2m1x8_to_u8x8 makes of a code that is 0. */
enum { FP4_E2M1_U8_ZERO = 140 };

/**
 * Two words of tables for fp4_e2m1x8_to_u8x8, once for each thread.
 *
 * threads  of CTAs with at most 1024 in x, as all are: the compiler does not know that adding
 *          threadIdx.x / 1024 changes nothing, and so keeps in registers what it would otherwise
 *          make anew for each use.
 */
FP4_D fp4_u32x2 fp4_e2m1_u8_table(void)
{
    const fp4_u32x2 table = {
        {0x8f8e8d8cu + (threadIdx.x >> 10), 0x76757473u + (threadIdx.x >> 10)}};
    return table;
}

/**
 * Eight e2m1 codes to eight unsigned bytes, four a word: twice their values, which are integers
 * from -12 to 12, plus FP4_E2M1_U8_ZERO. For sums of products of integers (fp4_ptx_dot_u8u8). -0
 * counts as 0.
 *
 * A selector of bytes has three bits and one more in each place, just as e2m1; where that one is
 * set it gives eight times the sign bit of the byte. So the codes select from 140 + m, m a
 * magnitude, which gives 255 where one is negative; and, with their signs turned round, from
 * 115 + m, which gives 0 where one is not. The difference is 140 + m or 140 - m, with no borrow
 * from the next byte: one subtraction of two words.
 */
FP4_D fp4_u32x2 fp4_e2m1x8_to_u8x8(uint32_t q, fp4_u32x2 table)
{
    const uint32_t turned = q ^ 0x88888888u;
    fp4_u32x2 w;

    w.v[0] = fp4_ptx_bytes_or_signs(table.v[0], 0x98949290u, q) -
             fp4_ptx_bytes_or_signs(table.v[1], 0x7f7b7977u, turned);
    w.v[1] = fp4_ptx_bytes_or_signs(table.v[0], 0x98949290u, q >> 16) -
             fp4_ptx_bytes_or_signs(table.v[1], 0x7f7b7977u, turned >> 16);
    return w;
}

/** Eight e4m3 codes in two words to eight floats. Exact; 0x7f and 0xff give NaN. */
FP4_D fp4_f32x8 fp4_e4m3x8_to_f32x8(fp4_u32x2 q)
{
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        fp4_f16x2_to_f32x2(fp4_e4m3x4_to_f16x2_(q.v[i / 2], i % 2), &x.v[2 * i], &x.v[2 * i + 1]);
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

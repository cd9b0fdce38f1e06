/*
 * fp4/e2m1.h - the 4-bit element of NVFP4 and MXFP4.
 *
 *     bit 3    2 1        0            code   0    1    2    3    4    5    6    7
 *     sign     exponent   mantissa     value  0   0.5   1   1.5   2    3    4    6
 *
 * Codes 8..15 are the same values with a minus sign, -0 included. No infinity, no NaN. Exponent
 * bias 1: a code >= 2 is (1 + m/2) * 2^(e-1), codes 0 and 1 are the subnormals m/2. Two codes share
 * a byte: the element with the lower index is the low nibble.
 *
 * Rounding compares the magnitude, as an integer, with seven thresholds (stochastic rounding does
 * three exact float operations): no rounding mode, no flush-to-zero setting and no fast-math flag
 * can change a result. These scalar functions are the definition; every packed or hardware
 * conversion in fp4/device must equal them.
 */
#ifndef FP4_E2M1_H
#define FP4_E2M1_H

#include <fp4/bits.h>

/**
 * f32 to e2m1, to nearest, ties to even, saturating.
 *
 *     |x|    <= .25  <.75  <=1.25  <1.75  <=2.5  <3.5  <=5   >5
 *     value    0      .5     1      1.5     2     3     4     6
 *
 * range    |x| > 6 and infinity give +-6. NaN gives +6 (code 7), its sign dropped. -0, and a
 *          negative x that rounds to zero, give code 8.
 * source   PTX ISA, cvt.rn.satfinite.e2m1x2.f32; NVIDIA cuda_fp4.hpp, compared on all 2^32 inputs.
 */
FP4_HD uint8_t fp4_f32_to_e2m1(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;

    /* The thresholds are the midpoints between neighbouring values. A tie belongs to the even code:
       a midpoint whose lower neighbour is even (0.25, 1.25, 2.5, 5) is passed only by what exceeds
       it, one whose upper neighbour is even (0.75, 1.75, 3.5) by what equals it too. NaN passes all
       seven. */
    const uint32_t code = (uint32_t)(magnitude > 0x3e800000u)    /* 0.25 -> 0.5 */
                          + (uint32_t)(magnitude >= 0x3f400000u) /* 0.75 -> 1   */
                          + (uint32_t)(magnitude > 0x3fa00000u)  /* 1.25 -> 1.5 */
                          + (uint32_t)(magnitude >= 0x3fe00000u) /* 1.75 -> 2   */
                          + (uint32_t)(magnitude > 0x40200000u)  /* 2.5  -> 3   */
                          + (uint32_t)(magnitude >= 0x40600000u) /* 3.5  -> 4   */
                          + (uint32_t)(magnitude > 0x40a00000u); /* 5    -> 6   */
    const uint32_t sign = magnitude > 0x7f800000u ? 0u : (bits >> 28) & 8u;

    return (uint8_t)(sign | code);
}

/**
 * f32 to e2m1, toward zero, saturating: the largest value that is not larger in magnitude.
 *
 * range    |x| > 6 and infinity give +-6, NaN gives +6, |x| < 0.5 gives zero with the sign of x.
 * source   NVIDIA cuda_fp4.hpp with cudaRoundZero, compared on all 2^32 inputs. No GPU has it as an
 *          instruction.
 */
FP4_HD uint8_t fp4_f32_to_e2m1_rz(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t code = (uint32_t)(magnitude >= 0x3f000000u)    /* 0.5 */
                          + (uint32_t)(magnitude >= 0x3f800000u)  /* 1   */
                          + (uint32_t)(magnitude >= 0x3fc00000u)  /* 1.5 */
                          + (uint32_t)(magnitude >= 0x40000000u)  /* 2   */
                          + (uint32_t)(magnitude >= 0x40400000u)  /* 3   */
                          + (uint32_t)(magnitude >= 0x40800000u)  /* 4   */
                          + (uint32_t)(magnitude >= 0x40c00000u); /* 6  */
    const uint32_t sign = magnitude > 0x7f800000u ? 0u : (bits >> 28) & 8u;

    return (uint8_t)(sign | code);
}

/**
 * f32 to e2m1 with stochastic rounding: up with the probability of the distance already covered.
 *
 *     position of |x| between two values in 256ths, truncated, + random >= 256 -> the upper value
 *
 * range    random: 8 random bits. 0 always rounds toward zero. A value of e2m1 keeps its code for
 *          every random; over all 256, |x| in between rounds up floor(256 * position) times.
 *          |x| >= 6 and infinity give +-6, NaN gives +6.
 * source   PTX ISA, cvt.rs.satfinite.e2m1x4.f32, which takes 8 of its 32 random bits an element.
 *          Emulated: not compared with that instruction, for want of an sm_100a or sm_103a GPU.
 *          (Transformer Engine's software form adds in f32, which rounds up a shade more often.)
 */
FP4_HD uint8_t fp4_f32_to_e2m1_sr(float x, uint8_t random)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t sign = magnitude > 0x7f800000u ? 0u : (bits >> 28) & 8u;
    const float a = fp4_bits_f32(magnitude);
    uint32_t position; /* 256 * (code + how far |x| is on its way to the next code), truncated */

    if (magnitude >= 0x40c00000u) {
        return (uint8_t)(sign | 7u);
    }
    /* codes 0..3 are 0.5 apart, 4 and 5 are 1 apart, 6 is 2 below 7; every operation is exact */
    if (magnitude < 0x40000000u) {
        position = (uint32_t)(a * 512.0f);
    } else if (magnitude < 0x40800000u) {
        position = 4u * 256u + (uint32_t)((a - 2.0f) * 256.0f);
    } else {
        position = 6u * 256u + (uint32_t)((a - 4.0f) * 128.0f);
    }
    return (uint8_t)(sign | ((position + random) >> 8));
}

/**
 * e2m1 to f32, exact. Bits 4..7 of code are ignored; code 8 is -0.
 *
 * The eight magnitudes, doubled to be integers, stand in the nibbles of one constant.
 */
FP4_HD float fp4_e2m1_to_f32(uint8_t code)
{
    const uint32_t doubled = (0xc8643210u >> (4u * (code & 7u))) & 15u;
    const uint32_t magnitude = fp4_f32_bits((float)(int32_t)doubled * 0.5f);

    return fp4_bits_f32(((uint32_t)(code & 8u) << 28) | magnitude);
}

#endif /* FP4_E2M1_H */

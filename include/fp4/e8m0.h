/*
 * fp4/e8m0.h - e8m0: the block scale of MXFP4 and MXFP8, a power of two.
 *
 *     byte b    0        1        127    254      255
 *     value     2^-127   2^-126   1      2^127    NaN          no zero, no sign, no infinity
 *
 * Two families round to it, and they take different numbers:
 *
 *     fp4_f32_to_e8m0_up, _rz         of a value to represent: the quotient amax / largest element
 *     fp4_amax_to_e8m0_floor, _ceil,  of the amax itself, from whose exponent they subtract emax,
 *     _even                           the exponent of the largest element (2 for e2m1, 8 for e4m3)
 *
 * Which stack uses which stands in scale.h. Integer arithmetic only.
 */
#ifndef FP4_E8M0_H
#define FP4_E8M0_H

#include <fp4/bits.h>

/**
 * |x| rounded up to a power of two: ceil(log2 |x|) + 127.
 *
 * range    zero and everything up to 2^-127 give 0; above 2^127, and infinity, 254 (saturating).
 *          NaN gives 255. The sign of x is ignored.
 * source   PTX ISA, cvt.rp.satfinite.ue8m0x2.f32; NVIDIA cuda_fp8.hpp with cudaRoundPosInf,
 *          compared on all 2^32 inputs.
 */
FP4_HD uint8_t fp4_f32_to_e8m0_up(float x)
{
    const uint32_t magnitude = fp4_f32_bits(x) & 0x7fffffffu;

    /* Adding all ones below the exponent carries into it unless the mantissa is zero. Below 2^-126
       the mantissa stands for itself: 2^-127 is half of its range. */
    const uint32_t below_next = magnitude < 0x800000u ? 0x3fffffu : 0x7fffffu;
    const uint32_t exponent = fp4_min_u32((magnitude + below_next) >> 23, 254u);

    return (uint8_t)(magnitude > 0x7f800000u ? 255u : exponent);
}

/**
 * |x| rounded toward zero to a power of two: floor(log2 |x|) + 127.
 *
 * range    everything below 2^-126 gives 0, infinity 254, NaN 255. The sign of x is ignored.
 * source   PTX ISA, cvt.rz.satfinite.ue8m0x2.f32; NVIDIA cuda_fp8.hpp with cudaRoundZero,
 *          compared on all 2^32 inputs.
 */
FP4_HD uint8_t fp4_f32_to_e8m0_rz(float x)
{
    const uint32_t magnitude = fp4_f32_bits(x) & 0x7fffffffu;

    return (uint8_t)(magnitude > 0x7f800000u ? 255u : fp4_min_u32(magnitude >> 23, 254u));
}

/* The exponent field less emax, clamped to a byte; 255 where amax is not finite. */
FP4_HD uint8_t fp4_e8m0_less_emax_(uint32_t exponent, uint32_t emax, uint32_t magnitude)
{
    const uint32_t byte = exponent > emax ? exponent - emax : 0u;
    return (uint8_t)(magnitude >= 0x7f800000u ? 255u : byte);
}

/**
 * OCP's rule: the power of two at or below amax, less emax.
 *
 * range    amax / scale lies in [2^emax, 2^(emax+1)), whose upper part (above 6 for e2m1, above 448
 *          for e4m3) saturates. Never below byte 0. Infinity and NaN give 255. The sign of amax is
 *          ignored.
 * source   OCP Microscaling Formats v1.0, section 6.3; torchao's ScaleCalculationMode.FLOOR.
 */
FP4_HD uint8_t fp4_amax_to_e8m0_floor(float amax, uint32_t emax)
{
    const uint32_t magnitude = fp4_f32_bits(amax) & 0x7fffffffu;
    return fp4_e8m0_less_emax_(magnitude >> 23, emax, magnitude);
}

/**
 * The power of two at or above amax, less emax. Never clips; wastes up to a binade.
 *
 * range    as for fp4_amax_to_e8m0_floor.
 * source   torchao's ScaleCalculationMode.CEIL.
 */
FP4_HD uint8_t fp4_amax_to_e8m0_ceil(float amax, uint32_t emax)
{
    const uint32_t magnitude = fp4_f32_bits(amax) & 0x7fffffffu;
    return fp4_e8m0_less_emax_((magnitude + 0x7fffffu) >> 23, emax, magnitude);
}

/**
 * The power of two at or below amax rounded to the element's precision, less emax: goes up a binade
 * from the point where amax would round up to it.
 *
 * range    as for fp4_amax_to_e8m0_floor. mbits: mantissa bits of the element (e2m1 1, e4m3 3).
 *          The largest finite amax rounds up to the byte for 2^128 less emax, not to NaN: torchao
 *          writes 255 there.
 * source   torchao's ScaleCalculationMode.EVEN; compressed-tensors' MXFP4.
 */
FP4_HD uint8_t fp4_amax_to_e8m0_even(float amax, uint32_t emax, uint32_t mbits)
{
    const uint32_t magnitude = fp4_f32_bits(amax) & 0x7fffffffu;
    return fp4_e8m0_less_emax_((magnitude + (0x400000u >> mbits)) >> 23, emax, magnitude);
}

/** e8m0 to f32, exact: 2^(byte-127). Byte 0 is the subnormal 2^-127, 255 is NaN (0x7fffffff). */
FP4_HD float fp4_e8m0_to_f32(uint8_t byte)
{
    const uint32_t normal = (uint32_t)byte << 23;
    const uint32_t finite = byte == 0 ? 0x400000u : normal;
    return fp4_bits_f32(byte == 255 ? 0x7fffffffu : finite);
}

/** 2^(127-byte), exact: 2^127 for byte 0, the subnormals 2^-127 and 2^-128 for 254 and 255. */
FP4_HD float fp4_e8m0_to_enc(uint8_t byte)
{
    const uint32_t normal = (254u - byte) << 23;
    return fp4_bits_f32(byte < 254 ? normal : 0x400000u >> (byte - 254));
}

#endif /* FP4_E8M0_H */

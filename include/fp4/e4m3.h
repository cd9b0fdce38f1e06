/*
 * fp4/e4m3.h - FP8 e4m3 (FN): the element of MXFP8 and the block scale of NVFP4.
 *
 *     bit 7    6 5 4 3    2 1 0
 *     sign     exponent   mantissa      bias 7
 *
 *     0x00  0        0x01  2^-9 (smallest)    0x08  2^-6 (smallest normal)
 *     0x38  1        0x7e  448  (largest)     0x7f  NaN; no infinity
 *
 * Integer arithmetic, but for one exact product with a power of two in decoding.
 */
#ifndef FP4_E4M3_H
#define FP4_E4M3_H

#include <fp4/bits.h>

/**
 * f32 to e4m3, to nearest, ties to even, saturating.
 *
 * range    |x| > 448 and infinity give +-448 (0x7e, 0xfe). |x| <= 2^-10 gives zero with the sign
 *          of x. NaN gives 0x7f, its sign dropped.
 * source   PTX ISA, cvt.rn.satfinite.e4m3x2.f32; NVIDIA cuda_fp8.hpp, compared on all 2^32 inputs.
 */
FP4_HD uint8_t fp4_f32_to_e4m3(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t rounded = fp4_narrow_(magnitude, 127u - 6u, 20u, 0x7eu);

    return (uint8_t)(magnitude > 0x7f800000u ? 0x7fu : ((bits >> 24) & 0x80u) | rounded);
}

/** e4m3 to f32, exact. 0x7f and 0xff give NaN (0x7fffffff). */
FP4_HD float fp4_e4m3_to_f32(uint8_t code)
{
    const uint32_t magnitude = code & 0x7fu;
    const uint32_t nan = magnitude == 0x7fu ? 0x7fffffffu : 0u;
    const uint32_t sign = magnitude == 0x7fu ? 0u : (uint32_t)(code & 0x80u) << 24;

    return fp4_bits_f32(fp4_widen_(magnitude, 3u, 7u) | sign | nan);
}

#endif /* FP4_E4M3_H */

/*
 * fp4/f16.h - IEEE half precision (f16) and bfloat16 (bf16) to f32 and back.
 *
 *     f32    s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm     bias 127
 *     bf16   s eeeeeeee mmmmmmm                     bias 127   the upper half of the f32
 *     f16    s eeeee mmmmmmmmmm                     bias 15    largest 65504, smallest 2^-24
 *
 * Values travel as their 16 bits in a uint16_t, so that no CUDA type header is forced on anyone.
 * Integer arithmetic, but for one exact product with a power of two in decoding: no rounding mode,
 * no flush-to-zero setting and no fast-math flag changes a result. Corners are as NVIDIA's
 * cuda_fp16.h and cuda_bf16.h have them.
 */
#ifndef FP4_F16_H
#define FP4_F16_H

#include <fp4/bits.h>

/**
 * f32 to f16, to nearest, ties to even.
 *
 * range    |x| >= 65520 gives infinity; below 2^-25, and at it, zero with the sign of x.
 *          NaN gives 0x7fff whatever its sign.
 * source   cuda_fp16.hpp, __float2half_rn on the host; compared on all 2^32 inputs by
 *          test-exhaustive.
 */
FP4_HD uint16_t fp4_f32_to_f16(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t rounded = fp4_narrow_(magnitude, 127u - 14u, 13u, 0x7c00u);

    return (uint16_t)(magnitude > 0x7f800000u ? 0x7fffu : ((bits >> 16) & 0x8000u) | rounded);
}

/**
 * f16 to f32, exact.
 *
 * range    NaN gives 0x7fffffff whatever its sign and payload.
 * source   cuda_fp16.hpp, __half2float on the host; compared on all 65,536 codes.
 */
FP4_HD float fp4_f16_to_f32(uint16_t h)
{
    const uint32_t magnitude = h & 0x7fffu;
    const uint32_t infinity = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
    const uint32_t nan = magnitude > 0x7c00u ? 0x7fffffffu : 0u;
    const uint32_t sign = magnitude > 0x7c00u ? 0u : (uint32_t)(h & 0x8000u) << 16;

    return fp4_bits_f32(fp4_widen_(magnitude, 10u, 15u) | sign | infinity | nan);
}

/**
 * f32 to bf16, to nearest, ties to even.
 *
 * range    overflows to infinity, underflows gradually. NaN gives 0x7fff whatever its sign.
 * source   cuda_bf16.hpp, __float2bfloat16_rn on the host; compared on all 2^32 inputs by
 *          test-exhaustive.
 */
FP4_HD uint16_t fp4_f32_to_bf16(float x)
{
    const uint32_t bits = fp4_f32_bits(x);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t rounded = ((bits >> 16) & 0x8000u) | fp4_shift_rn_(magnitude, 16u);

    return (uint16_t)(magnitude > 0x7f800000u ? 0x7fffu : rounded);
}

/** bf16 to f32: its bits are the upper half. Exact; a NaN keeps its sign and payload. */
FP4_HD float fp4_bf16_to_f32(uint16_t b)
{
    return fp4_bits_f32((uint32_t)b << 16);
}

#endif /* FP4_F16_H */

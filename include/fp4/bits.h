/*
 * fp4/bits.h - floats as bits, and arithmetic whose rounding is part of its name.
 *
 * The only bit casts in the library, and the only portable header that asks whether it is compiled
 * for the device. Every floating-point operation that decides a byte is one of the functions below,
 * so that --use_fast_math (approximate division) and contraction to fma cannot change a result on
 * the device. On the host the operators round to nearest even as IEEE 754 says; fp4/host refuses
 * -ffast-math.
 */
#ifndef FP4_BITS_H
#define FP4_BITS_H

#include <fp4/config.h>

/** The 32 bits of x: sign 31, exponent 30..23 (bias 127), mantissa 22..0. */
FP4_HD uint32_t fp4_f32_bits(float x)
{
#if defined(__CUDA_ARCH__)
    return __float_as_uint(x);
#else
    union { /* C's way to look at bits; gcc, clang, nvcc and MSVC have it in C++ too */
        float f;
        uint32_t u;
    } cast;
    cast.f = x;
    return cast.u;
#endif
}

/** The float that has these 32 bits. */
FP4_HD float fp4_bits_f32(uint32_t bits)
{
#if defined(__CUDA_ARCH__)
    return __uint_as_float(bits);
#else
    union {
        uint32_t u;
        float f;
    } cast;
    cast.u = bits;
    return cast.f;
#endif
}

/** a * b, to nearest even, never fused with an addition. */
FP4_HD float fp4_mul_rn(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

/** a + b, to nearest even, never fused with a multiplication. */
FP4_HD float fp4_add_rn(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);
#else
    /* gcc fuses across statements unless told -std=c11 or -ffp-contract=off: it must not see where
       a and b come from. clang fuses within an expression only. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
    __asm__("" : "+x"(a), "+x"(b));
#elif defined(__GNUC__) && !defined(__clang__)
    __asm__("" : "+g"(a), "+g"(b));
#endif
    return a + b;
#endif
}

/** a / b, to nearest even, also under --use_fast_math. */
FP4_HD float fp4_div_rn(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return __fdiv_rn(a, b);
#else
    return a / b;
#endif
}

/** 1 / x, to nearest even, also under --use_fast_math. */
FP4_HD float fp4_rcp_rn(float x)
{
#if defined(__CUDA_ARCH__)
    return __frcp_rn(x);
#else
    return 1.0f / x;
#endif
}

/** The smaller of a and b, which is not NaN; b where a is. */
FP4_HD float fp4_min(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return fminf(a, b);
#else
    return a < b ? a : b;
#endif
}

/** The smaller of two integers. */
FP4_HD uint32_t fp4_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/** The larger of two integers. */
FP4_HD uint32_t fp4_max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/** 1 where x is a NaN. Asked of the bits, since -ffinite-math-only lets a compiler drop x != x. */
FP4_HD int fp4_is_nan(float x)
{
    return (fp4_f32_bits(x) & 0x7fffffffu) > 0x7f800000u;
}

/**
 * The key by which a block's amax is taken: the bits of |x|, or 0 where x is NaN.
 *
 * Keys order as unsigned integers just as the magnitudes order as floats, so the amax of a block is
 * fp4_bits_f32(the largest key) - exact, the same in any order, and NaN never enters it.
 */
FP4_HD uint32_t fp4_amax_key(float x)
{
    const uint32_t magnitude = fp4_f32_bits(x) & 0x7fffffffu;
    return magnitude & (0u - (uint32_t)(magnitude <= 0x7f800000u)); /* all ones, or 0 for NaN */
}

/**
 * value / 2^drop, to nearest, ties to even: the rounding step of every narrowing conversion here.
 *
 * range    1 <= drop <= 31, value < 2^31 - 2^(drop-1).
 *          Adding just under half a unit, and one more where the kept part is odd, carries exactly
 *          when the dropped part is over half, or is half and the kept part odd.
 */
FP4_HD uint32_t fp4_shift_rn_(uint32_t value, uint32_t drop)
{
    return (value + ((1u << (drop - 1u)) - 1u) + ((value >> drop) & 1u)) >> drop;
}

#endif /* FP4_BITS_H */

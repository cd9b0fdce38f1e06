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
    /* gcc fuses across statements unless told -std=c11 or -ffp-contract=off: the way through memory
       keeps it from seeing a product. Not for inner loops. */
    volatile float x = a, y = b;
    return x + y;
#endif
}

/**
 * a * b + c, rounded once.
 *
 * Without an instruction for it: the product is exact in double, the sum is rounded to odd, so that
 * rounding it to float cannot fall into a tie that it was not.
 */
FP4_HD float fp4_fma_rn(float a, float b, float c)
{
#if defined(__CUDA_ARCH__)
    return __fmaf_rn(a, b, c);
#elif defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return __builtin_fmaf(a, b, c);
#else
    union {
        double d;
        unsigned long long u;
    } sum;
    const double product = (double)a * (double)b;
    double of_c, error;

    sum.d = product + (double)c;
    of_c = sum.d - product;
    error = (product - (sum.d - of_c)) + ((double)c - of_c);
    if ((error > 0.0 || error < 0.0) && sum.u % 2 == 0) { /* infinity and NaN have no error */
        sum.u += (error > 0.0) == (sum.d > 0.0) ? 1ull : ~0ull;
    }
    return (float)sum.d;
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

/** The larger of a and b. b must not be NaN; it is the result where a is. Of zeros of both signs
    either, on host and device not the same: for a ReLU write fp4_max(x, 0.0f), +0 on both. */
FP4_HD float fp4_max(float a, float b)
{
#if defined(__CUDA_ARCH__)
    return fmaxf(a, b);
#else
    return a > b ? a : b;
#endif
}

/** The smaller of a and b. b must not be NaN; it is the result where a is. Of zeros of both signs
    either, as in fp4_max. */
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

/** x, but at least low and at most high, which are not NaN. NaN stays NaN, as with torch.clamp (in
    fp4_min(fp4_max(x, low), high) it becomes low), and a zero keeps its sign. */
FP4_HD float fp4_clamp(float x, float low, float high)
{
    return fp4_is_nan(x) ? x : x < low ? low : x > high ? high : x;
}

/* 1 where 0 < x <= FLT_MAX, asked of the bits: zero wraps; negative, infinite, NaN are above. */
FP4_HD int fp4_is_positive_finite_(float x)
{
    return fp4_f32_bits(x) - 1u < 0x7f7fffffu;
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

/**
 * |x|, given by its bits, rounded to a narrower float: its bits in that format.
 *
 * range    min_exponent: the f32 exponent field of the format's smallest normal. drop: how many of
 *          f32's 23 mantissa bits it lacks. largest: where larger results end. Not for NaN.
 *
 * From the smallest normal on, `drop` bits go; below it one more for each binade, until nothing is
 * left. For normals the hidden bit, shifted down, supplies the 1 by which the narrow exponent field
 * exceeds exponent - min_exponent, and a carry out of the mantissa moves into the exponent by
 * itself.
 */
FP4_HD uint32_t fp4_narrow_(uint32_t magnitude, uint32_t min_exponent, uint32_t drop,
                            uint32_t largest)
{
    const uint32_t exponent = magnitude >> 23;
    const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    const uint32_t is_normal = exponent >= min_exponent;
    const uint32_t more = fp4_min_u32(drop + min_exponent - exponent, 25u);
    const uint32_t base = is_normal ? (exponent - min_exponent) << (23u - drop) : 0u;

    return fp4_min_u32(base + fp4_shift_rn_(significand, is_normal ? drop : more), largest);
}

/**
 * The f32 bits of a narrower float's magnitude, infinities and NaN aside: significand times a power
 * of two, an exact product. The subnormals share the exponent of the smallest normals. It selects
 * only between constants, so that loops over it vectorise.
 */
FP4_HD uint32_t fp4_widen_(uint32_t magnitude, uint32_t mantissa_bits, uint32_t bias)
{
    const uint32_t hidden = 1u << mantissa_bits;
    const uint32_t exponent = fp4_max_u32(magnitude >> mantissa_bits, 1u);
    const uint32_t significand = (magnitude & (hidden - 1u)) | (magnitude < hidden ? 0u : hidden);
    const float unit = fp4_bits_f32((exponent + 127u - bias - mantissa_bits) << 23);

    return fp4_f32_bits((float)(int32_t)significand * unit);
}

#endif /* FP4_BITS_H */

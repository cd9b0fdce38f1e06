/*
 * tests/oracle.h - what rounding means, said a second time and in another way.
 *
 * The library rounds by adding to bits and shifting them, or by comparing with written-out
 * thresholds. Here a format is the list of its values, computed from the definition of a binary
 * floating-point number, and the nearest of them is found by comparing distances. Everything is
 * exact: an f32 is an integer times a power of two, which a double holds, and so are twice an f32
 * and the sum of two neighbouring values. No arithmetic on subnormals is done and no f32 is
 * converted by the processor, so that the oracle also stands under -Ofast, which flushes them.
 *
 * C11 and C++11.
 */
#ifndef FP4_TESTS_ORACLE_H
#define FP4_TESTS_ORACLE_H

#include <stdint.h>
#include <string.h>

/* 2^exponent for -1022 <= exponent <= 1023, by its bits. */
static inline double oracle_power(int exponent)
{
    const uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double power;

    memcpy(&power, &bits, sizeof power);
    return power;
}

/* |x| of the f32 with these bits; 2^128 where it is infinite. Not for NaN. */
static inline double oracle_magnitude(uint32_t f32_bits)
{
    const uint32_t mantissa = f32_bits & 0x7fffffu;
    const int exponent = (int)((f32_bits >> 23) & 0xffu);

    return exponent == 0 ? (double)mantissa * oracle_power(-149)
                         : (double)(mantissa | 0x800000u) * oracle_power(exponent - 150);
}

/* 1 where the f32 with these bits is a NaN. */
static inline int oracle_is_nan(uint32_t f32_bits)
{
    return (f32_bits & 0x7f800000u) == 0x7f800000u && (f32_bits & 0x7fffffu) != 0;
}

/* The bits of the f32 that equals a double, where there is one; infinity for 2^128. */
static inline uint32_t oracle_f32_bits(double magnitude)
{
    uint64_t bits;
    int exponent;

    memcpy(&bits, &magnitude, sizeof bits);
    exponent = (int)(bits >> 52) - 1023;
    if (magnitude == 0) {
        return 0;
    }
    if (exponent < -126) { /* a subnormal f32: count its units */
        return (uint32_t)(magnitude * oracle_power(149));
    }
    return ((uint32_t)(exponent + 127) << 23) | (uint32_t)(bits >> 29 & 0x7fffffu);
}

/* The value of a code without its sign bit, in a format with `mantissa_bits` and this bias. */
static inline double oracle_value(unsigned code, int mantissa_bits, int bias)
{
    const unsigned mantissa = code & ((1u << mantissa_bits) - 1u);
    const int exponent = (int)(code >> mantissa_bits);

    return exponent == 0 ? (double)mantissa * oracle_power(1 - bias - mantissa_bits)
                         : (double)(mantissa + (1u << mantissa_bits)) *
                               oracle_power(exponent - bias - mantissa_bits);
}

/**
 * A format as the ascending list of its non-negative values; the code is the index.
 *
 * f16 and bf16 have one entry more than finite values: the value that would come next. What is
 * nearest to it has overflowed, and its index is the code of infinity.
 */
typedef struct oracle_format {
    const double *value;
    unsigned count;
} oracle_format;

enum { ORACLE_BF16_COUNT = 0x7f81 };

/* The formats' lists. Each is filled on its first use, before any thread is started. */
static inline oracle_format oracle_format_of_(double *value, unsigned count, int mantissa_bits,
                                              int bias)
{
    oracle_format format;

    if (value[count - 1u] == 0) {
        unsigned code;
        for (code = 0; code < count; code++) {
            value[code] = oracle_value(code, mantissa_bits, bias);
        }
    }
    format.value = value;
    format.count = count;
    return format;
}

static inline oracle_format oracle_e2m1(void)
{
    static double value[8];
    return oracle_format_of_(value, 8, 1, 1);
}

static inline oracle_format oracle_e4m3(void)
{
    static double value[0x7f];
    return oracle_format_of_(value, 0x7f, 3, 7);
}

static inline oracle_format oracle_f16(void)
{
    static double value[0x7c01];
    return oracle_format_of_(value, 0x7c01, 10, 15);
}

static inline oracle_format oracle_bf16(void)
{
    static double value[ORACLE_BF16_COUNT];
    return oracle_format_of_(value, ORACLE_BF16_COUNT, 7, 127);
}

/* The powers of two 2^-127 .. 2^127: byte b stands for value[b]. */
static inline oracle_format oracle_e8m0(void)
{
    static double value[255];
    oracle_format format;

    if (value[254] == 0) {
        int byte;
        for (byte = 0; byte < 255; byte++) {
            value[byte] = oracle_power(byte - 127);
        }
    }
    format.value = value;
    format.count = 255;
    return format;
}

/** The last code whose value is not larger than x; 0 where all are. */
static inline unsigned oracle_toward_zero(oracle_format format, double x)
{
    unsigned low = 0, high = format.count; /* value[low] <= x < value[high] */

    while (high - low > 1u) {
        const unsigned middle = (low + high) / 2u;
        if (format.value[middle] <= x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/** Given the code below or at x: that one or the next, whichever is nearer, and the even one of
    two equally near. */
static inline unsigned oracle_nearest_from(oracle_format format, unsigned below, double x)
{
    double twice_midpoint;

    if (below + 1u == format.count) {
        return below;
    }
    twice_midpoint = format.value[below] + format.value[below + 1u];
    if (2.0 * x == twice_midpoint) {
        return below + (below & 1u);
    }
    return 2.0 * x < twice_midpoint ? below : below + 1u;
}

/** The code nearest to x >= 0, the even one of two, the last one beyond all. */
static inline unsigned oracle_nearest(oracle_format format, double x)
{
    return oracle_nearest_from(format, oracle_toward_zero(format, x), x);
}

/** The first code whose value is not smaller than x; the last one beyond all. */
static inline unsigned oracle_up(oracle_format format, double x)
{
    const unsigned below = oracle_toward_zero(format, x);
    return format.value[below] >= x || below + 1u == format.count ? below : below + 1u;
}

/** e2m1 with stochastic rounding, given the code below or at the f32 with these bits.
    The distance from that code's value is counted in 256ths of the step to the next, all in
    integers: |x| = m * 2^e, and both values are multiples of half a step. */
static inline unsigned oracle_e2m1_sr_from(unsigned below, uint32_t f32_bits, unsigned random)
{
    static const int steps_before[8] = {0, 1, 2, 3, 2, 3, 2, 3}; /* value / step to the next */
    static const int log2_step[8] = {-1, -1, -1, -1, 0, 0, 1, 1};
    const uint32_t exponent = (f32_bits >> 23) & 0xffu;
    const uint64_t m = (f32_bits & 0x7fffffu) | (exponent ? 0x800000u : 0u);
    const int shift = (int)(exponent ? exponent : 1u) - 150 + 8 - log2_step[below & 7u];
    uint64_t position; /* floor(256 * |x| / step) */

    if (below == 7u) {
        return 7u;
    }
    position = shift >= 0 ? m << shift : shift > -64 ? m >> -shift : 0u;
    return below + (position - 256u * (unsigned)steps_before[below] + random >= 256u ? 1u : 0u);
}

#endif /* FP4_TESTS_ORACLE_H */

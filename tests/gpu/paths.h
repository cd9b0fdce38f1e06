/*
 * tests/gpu/paths.h - the ways in which parts.cu is compiled, and how results are compared on the
 * host.
 */
#ifndef FP4_TESTS_GPU_PATHS_H
#define FP4_TESTS_GPU_PATHS_H

#include <fp4/fp4.h>

#include "gpu.h"
#include "parts.h"

/* On the CPU (tests/simt) a program is of one target, and there is no --use_fast_math. */
#if defined(FP4_SIMT)
enum { PATHS = 1, FAST_MATH = PATHS };

static const gpu_parts *const paths[PATHS] = {&gpu_parts_default};
#else
enum { PATHS = 4, FAST_MATH = 2 };

static const gpu_parts *const paths[PATHS] = {&gpu_parts_default, &gpu_parts_portable,
                                              &gpu_parts_fast_math, &gpu_parts_native};
#endif

/** The bits of x, one pattern for all NaNs: which of them comes out is nobody's business. */
static inline uint32_t path_value_bits(float x)
{
    return fp4_is_nan(x) ? 0x7fffffffu : host_bits_of(x);
}

/** Fails where floats on the device are not the expected ones, NaN for NaN. */
static inline void path_expect_floats(gpu_buffer got, const float *expected, const char *what,
                                      const char *path)
{
    float *values = (float *)gpu_copy_of(got);

    for (size_t i = 0; i < got.size / sizeof(float); i++) {
        CHECK_EQ(path_value_bits(values[i]), path_value_bits(expected[i]), "%s, %s: float %zu",
                 what, path, i);
    }
    free(values);
}

static inline float *path_floats(gpu_buffer b)
{
    return (float *)(void *)b.bytes;
}

static inline uint32_t *path_words(gpu_buffer b)
{
    return (uint32_t *)(void *)b.bytes;
}

/** x, or a zero of its sign where it is a subnormal: what -ftz=true makes of every value. */
static inline float path_flushed(float x)
{
    const uint32_t bits = host_bits_of(x);
    return (bits & 0x7f800000u) == 0 ? host_bits(bits & 0x80000000u) : x;
}

/** fl(a * b), as --use_fast_math has it where `flush`: what is below 2^-126 after rounding to 24
    bits, as if exponents had no end, is flushed. (So an H200 does it.) */
static inline float path_mul(float a, float b, int flush)
{
    const double product = (double)path_flushed(a) * (double)path_flushed(b);

    if (!flush) {
        return host_mul(a, b);
    }
    if (fabs(product) < 0x1p-100) {
        const float rounded = (float)(product * 0x1p100);
        return fabsf(rounded) < 0x1p-26f ? copysignf(0.0f, rounded) : rounded * 0x1p-100f;
    }
    return host_mul(path_flushed(a), path_flushed(b));
}

static inline float path_reciprocal(float x, int flush)
{
    return flush ? path_flushed(host_div(1.0f, path_flushed(x))) : host_div(1.0f, x);
}

#endif /* FP4_TESTS_GPU_PATHS_H */

/*
 * tests/gpu/elements.h - matrices of f32, f16 or bf16 that a kernel has written: all bytes of the
 * buffer, the gaps between rows too, against an image of it on the host. And amaxes to give a
 * kernel for its blocks.
 */
#ifndef FP4_TESTS_GPU_ELEMENTS_H
#define FP4_TESTS_GPU_ELEMENTS_H

#include "gpu.h"

/** The bits of an element, one pattern for all NaNs of f32: which of them comes out is nobody's
    business. Of the other types it is always the same. */
static inline uint32_t element_bits(const uint8_t *at, fp4_dtype dtype)
{
    uint32_t bits = 0;

    memcpy(&bits, at, host_dtype_bytes(dtype));
    return dtype == FP4_F32 && (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fffffffu : bits;
}

/** Fails where an element is not the expected one. */
static inline void elements_expect(const uint8_t *got, const uint8_t *expected, size_t n,
                                   fp4_dtype dtype, const char *text, int poison)
{
    const size_t size = host_dtype_bytes(dtype);

    if (n == 0 || memcmp(got, expected, n * size) == 0) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(element_bits(got + i * size, dtype), element_bits(expected + i * size, dtype),
                 "%s; element %zu of %zu, filled with 0x%02x before", text, i, n, poison);
    }
}

/** The same of a buffer on the device, which starts on an element, and of its guards. */
static inline void elements_expect_buffer(gpu_buffer b, const uint8_t *expected, fp4_dtype dtype,
                                          const char *text, int poison)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);

    elements_expect(got, expected, b.size / host_dtype_bytes(dtype), dtype, text, poison);
    gpu_expect_guards(b, text);
    free(got);
}

/** An input is what it was. */
static inline void elements_expect_input(gpu_buffer b, const void *expected, const char *text)
{
    uint8_t *after = (uint8_t *)gpu_copy_of(b);

    host_expect_bytes(after, (const uint8_t *)expected, b.size, text);
    gpu_expect_guards(b, text);
    free(after);
}

/** An amax to give for a block: its own, more, less, and such as have a way of their own. */
static inline float elements_amax(float amax, uint64_t *state)
{
    static const float of[] = {1.0f, 1.0f, 0.5f, 0.125f, 2.0f, 0.9f, 0x1p-12f, 0x1p20f};
    const uint32_t which = host_below(state, 24);

    return which < 2    ? 0.0f
           : which == 2 ? INFINITY
           : which == 3 ? host_bits(host_below(state, 0x7f800000u))
           : which == 4 ? FP4_F32_MAX
                        : amax * of[which % 8];
}

#endif /* FP4_TESTS_GPU_ELEMENTS_H */

/*
 * tests/gpu/tools.h - kernels that the tests need beside those they test. All pointers are device
 * memory; everything is asynchronous.
 */
#ifndef FP4_TESTS_GPU_TOOLS_H
#define FP4_TESTS_GPU_TOOLS_H

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

/** How two buffers differ: the number of bytes, and the first of them. Starts as {0, ~0}. */
typedef struct gpu_difference {
    unsigned long long count, first;
} gpu_difference;

/** Adds to *d how got[i] differs from expected[i % period]. Pointers and period: multiples of 16;
    i counts from `offset`, a multiple of 16 too. */
cudaError_t gpu_compare(const void *got, const void *expected, size_t bytes, size_t period,
                        size_t offset, gpu_difference *d);

/** to[i] = from[i % period]. Pointers and period: multiples of 16. */
cudaError_t gpu_repeat(void *to, size_t bytes, const void *from, size_t period);

enum { GPU_COPIES = 3 };

/** What a kernel in a chain of programmatic dependent launches copies, and how long it sleeps
    before it does, in clock cycles. */
typedef struct gpu_copy {
    uint8_t *to[GPU_COPIES];
    const uint8_t *from[GPU_COPIES];
    size_t bytes[GPU_COPIES];
    unsigned sleep;
} gpu_copy;

/**
 * The worst kernel to stand behind: lets its dependents start at once, then waits for those before
 * it, sleeps, and only then writes what the dependents read.
 */
cudaError_t gpu_produce(const gpu_copy *copy, cudaStream_t stream);

/** The worst to stand in front of: starts early, waits, sleeps, and still reads while its
    dependents have long been started. */
cudaError_t gpu_consume(const gpu_copy *copy, cudaStream_t stream);

#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_TOOLS_H */

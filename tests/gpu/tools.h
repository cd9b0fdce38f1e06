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

/** What a kernel in a chain of programmatic dependent launches copies, how long it sleeps before it
    does, in clock cycles, and what a consumer fills with 0xff. */
typedef struct gpu_copy {
    uint8_t *to[GPU_COPIES];
    const uint8_t *from[GPU_COPIES];
    size_t bytes[GPU_COPIES];
    unsigned sleep;
    uint8_t *fill;
    size_t fill_bytes;
} gpu_copy;

/**
 * The worst kernel to stand behind: lets its dependents start at once, then waits for those before
 * it, sleeps, and only then writes what the dependents read.
 */
cudaError_t gpu_produce(const gpu_copy *copy, cudaStream_t stream);

/** The worst to stand in front of: starts early, waits, fills, lets its dependents start, sleeps,
    and still reads while they have long been started. */
cudaError_t gpu_consume(const gpu_copy *copy, cudaStream_t stream);

/** A bug for each of compute-sanitizer's tools, harmless without them. */
typedef enum gpu_bug {
    READ_PAST_THE_END,     /* memcheck: memory[bytes] */
    READ_OF_UNINITIALIZED, /* initcheck: memory[0] */
    RACE_IN_SHARED_MEMORY  /* racecheck: a barrier is missing */
} gpu_bug;

/** memory: `bytes` bytes; 64 threads read and write, and leave what they have read in out[64]. */
cudaError_t gpu_plant(gpu_bug bug, const uint8_t *memory, size_t bytes, uint8_t *out);

#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_GPU_TOOLS_H */

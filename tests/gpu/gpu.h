/*
 * tests/gpu/gpu.h - what the GPU tests share: the device, guarded device memory.
 *
 * Each test is a process of its own, and no CUDA call is made before it starts. Without a device a
 * test fails. FP4_GPU_REDUCED in the environment shrinks the tests for compute-sanitizer
 * (sanitize.sh), which then sees the ends of all buffers itself: they have no guards. What is drawn
 * at random is other than in the full set.
 */
#ifndef FP4_TESTS_GPU_GPU_H
#define FP4_TESTS_GPU_GPU_H

#include <cuda_runtime_api.h>

#include "host_util.h"
#include "tools.h"

/** Stops the test where a call of the runtime does not succeed. */
#define GPU_OK(call) \
    do { \
        const cudaError_t error_ = (call); \
        cr_assert(error_ == cudaSuccess, "%s: %s", #call, cudaGetErrorString(error_)); \
    } while (0)

/** A test on the device. */
#define GPU_TEST(suite, name) Test(suite, name, .init = gpu_begin)

static inline void gpu_begin(void)
{
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);

    cr_assert(error == cudaSuccess && devices > 0, "This test needs a GPU: %s",
              error == cudaSuccess ? "there is none" : cudaGetErrorString(error));
    GPU_OK(cudaSetDevice(0));
}

/** Waits for the device; what a kernel did wrong shows here. */
static inline void gpu_finish(const char *what)
{
    const cudaError_t error = cudaDeviceSynchronize();
    cr_assert(error == cudaSuccess, "%s: %s", what, cudaGetErrorString(error));
}

/** A stream whose launches are captured, not run, until gpu_capture_end. */
static inline cudaStream_t gpu_capture_begin(void)
{
    cudaStream_t stream;

    GPU_OK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    GPU_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    return stream;
}

/** How many launches have been captured. The stream is no more. */
static inline size_t gpu_capture_end(cudaStream_t stream)
{
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamEndCapture(stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    GPU_OK(cudaGraphDestroy(graph));
    GPU_OK(cudaStreamDestroy(stream));
    return nodes;
}

static inline int gpu_is_reduced(void)
{
    return getenv("FP4_GPU_REDUCED") != NULL;
}

/* ---------------------------------------------------------------- device memory */

enum { GPU_GUARD = 1024, GPU_CANARY = 0xc5 };

/** Device memory between two guards. Starts `shift` bytes off 256-byte alignment. */
typedef struct gpu_buffer {
    uint8_t *memory, *bytes;
    size_t size, before, after; /* of the memory itself, and of the guards */
} gpu_buffer;

static inline gpu_buffer gpu_buffer_new(size_t size, size_t shift)
{
    const size_t guard = gpu_is_reduced() ? 0 : GPU_GUARD;
    gpu_buffer b;
    void *memory = NULL;

    b.size = size;
    b.before = guard + shift;
    b.after = guard;
    GPU_OK(cudaMalloc(&memory, b.before + size + b.after + (size == 0)));
    b.memory = (uint8_t *)memory;
    b.bytes = b.memory + b.before;
    GPU_OK(cudaMemset(b.memory, GPU_CANARY, b.before));
    GPU_OK(cudaMemset(b.bytes + size, GPU_CANARY, b.after));
    return b;
}

/** The same with a copy of host memory in it. */
static inline gpu_buffer gpu_buffer_of(const void *host, size_t size, size_t shift)
{
    const gpu_buffer b = gpu_buffer_new(size, shift);

    GPU_OK(cudaMemcpy(b.bytes, host, size, cudaMemcpyHostToDevice));
    return b;
}

static inline void gpu_poison(gpu_buffer b, int byte)
{
    GPU_OK(cudaMemset(b.bytes, byte, b.size));
}

static inline void gpu_download(void *host, gpu_buffer b)
{
    GPU_OK(cudaMemcpy(host, b.bytes, b.size, cudaMemcpyDeviceToHost));
}

/** A copy in host memory, for the caller to free. */
static inline void *gpu_copy_of(gpu_buffer b)
{
    void *host = host_zeros(b.size);

    gpu_download(host, b);
    return host;
}

/** Fails where something was written since gpu_poison. text: of which call. */
static inline void gpu_expect_poison(gpu_buffer b, int byte, const char *what, const char *text)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);

    for (size_t i = 0; i < b.size; i++) {
        CHECK_EQ(got[i], byte, "byte %zu of the %s was written: %s", i, what, text);
    }
    free(got);
}

static inline void gpu_expect_canaries(const uint8_t *from, size_t n, const char *what)
{
    uint8_t got[2 * GPU_GUARD];

    cr_assert(n <= sizeof got);
    GPU_OK(cudaMemcpy(got, from, n, cudaMemcpyDeviceToHost));
    for (size_t i = 0; i < n; i++) {
        CHECK_EQ(got[i], GPU_CANARY, "%s: byte %zu of %zu of its guard was written", what, i, n);
    }
}

/** Fails where something was written before or after the buffer. */
static inline void gpu_expect_guards(gpu_buffer b, const char *what)
{
    if (b.before != 0) {
        gpu_expect_canaries(b.memory, b.before, what);
    }
    if (b.after != 0) {
        gpu_expect_canaries(b.bytes + b.size, b.after, what);
    }
}

static inline void gpu_buffer_free(gpu_buffer b)
{
    GPU_OK(cudaFree(b.memory));
}

/* ---------------------------------------------------------------- comparing on the device */

/** Places for differences, to be counted by gpu_compare. */
static inline gpu_buffer gpu_differences_new(size_t n)
{
    gpu_difference *none = (gpu_difference *)host_zeros(n * sizeof *none);
    gpu_buffer b;

    for (size_t i = 0; i < n; i++) {
        none[i].first = ~0ull;
    }
    b = gpu_buffer_of(none, n * sizeof *none, 0);
    free(none);
    return b;
}

static inline gpu_difference *gpu_difference_at(gpu_buffer b, size_t i)
{
    return (gpu_difference *)(void *)b.bytes + i;
}

#endif /* FP4_TESTS_GPU_GPU_H */

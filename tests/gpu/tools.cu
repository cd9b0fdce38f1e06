/* tests/gpu/tools.cu - see tools.h. */
#include "kernel.h"
#include "tools.h"

#include <fp4/device/ptx.cuh>

enum { THREADS = 256, CTAS = 1024, COPY_CTAS = 8 };

/* ------------------------------------------------------------------------------ memory */

static __device__ size_t thread_number()
{
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static __device__ size_t thread_count()
{
    return (size_t)gridDim.x * blockDim.x;
}

/* Threads of 16 bytes at a time: no more than there are, and some at least. */
static unsigned ctas_of(size_t bytes)
{
    const size_t ctas = bytes / (16 * THREADS) + 1;
    return ctas < CTAS ? (unsigned)ctas : (unsigned)CTAS;
}

static __device__ void compare_bytes(const uint8_t *got, const uint8_t *expected, size_t n,
                                     unsigned long long at, gpu_difference *d)
{
    for (size_t i = 0; i < n; i++) {
        if (got[i] != expected[i]) {
            atomicAdd(&d->count, 1ull);
            atomicMin(&d->first, at + i);
        }
    }
}

static __global__ void compare(const uint8_t *got, const uint8_t *expected, size_t bytes,
                               size_t period, size_t offset, gpu_difference *d)
{
    for (size_t i = thread_number() * 16; i < bytes; i += thread_count() * 16) {
        const uint8_t *e = expected + (offset + i) % period;
        if (i + 16 > bytes) {
            compare_bytes(got + i, e, bytes - i, offset + i, d);
            return;
        }
        const uint4 a = *(const uint4 *)(got + i), b = *(const uint4 *)e;
        if (a.x != b.x || a.y != b.y || a.z != b.z || a.w != b.w) {
            compare_bytes(got + i, e, 16, offset + i, d);
        }
    }
}

extern "C" cudaError_t gpu_compare(const void *got, const void *expected, size_t bytes,
                                   size_t period, size_t offset, gpu_difference *d)
{
    GPU_LAUNCH(compare, ctas_of(bytes), THREADS, (const uint8_t *)got, (const uint8_t *)expected,
               bytes, period, offset, d);
    return cudaGetLastError();
}

static __global__ void repeat(uint8_t *to, size_t bytes, const uint8_t *from, size_t period)
{
    for (size_t i = thread_number() * 16; i < bytes; i += thread_count() * 16) {
        if (i + 16 <= bytes) {
            *(uint4 *)(to + i) = *(const uint4 *)(from + i % period);
        } else {
            for (size_t j = i; j < bytes; j++) {
                to[j] = from[j % period];
            }
        }
    }
}

extern "C" cudaError_t gpu_repeat(void *to, size_t bytes, const void *from, size_t period)
{
    GPU_LAUNCH(repeat, ctas_of(bytes), THREADS, (uint8_t *)to, bytes, (const uint8_t *)from,
               period);
    return cudaGetLastError();
}

static __global__ void plant(gpu_bug bug, const uint8_t *memory, size_t bytes, uint8_t *out)
{
    __shared__ uint8_t shared[64];

    shared[threadIdx.x] = (uint8_t)threadIdx.x;
    if (bug != RACE_IN_SHARED_MEMORY) {
        __syncthreads();
    }
    out[threadIdx.x] = shared[63 - threadIdx.x] ^ (bug == READ_PAST_THE_END       ? memory[bytes]
                                                   : bug == READ_OF_UNINITIALIZED ? memory[0]
                                                                                  : 0);
}

extern "C" cudaError_t gpu_plant(gpu_bug bug, const uint8_t *memory, size_t bytes, uint8_t *out)
{
    GPU_LAUNCH(plant, 1, 64, bug, memory, bytes, out);
    return cudaGetLastError();
}

/* ------------------------------------------------------------------------------ chains */

static __device__ void sleep_and_copy(const gpu_copy &copy)
{
    const long long start = clock64();

    while (clock64() - start < copy.sleep) {
    }
    for (int k = 0; k < GPU_COPIES; k++) {
        for (size_t i = thread_number(); i < copy.bytes[k]; i += thread_count()) {
            copy.to[k][i] = copy.from[k][i];
        }
    }
}

static __global__ void produce(const gpu_copy copy)
{
    fp4_pdl_trigger();
    fp4_pdl_wait();
    sleep_and_copy(copy);
}

static __global__ void consume(const gpu_copy copy)
{
    fp4_pdl_wait();
    for (size_t i = thread_number(); i < copy.fill_bytes; i += thread_count()) {
        copy.fill[i] = 0xff;
    }
    __threadfence();
    fp4_pdl_trigger();
    sleep_and_copy(copy);
}

static cudaError_t launch(const void *kernel, const gpu_copy *copy, cudaStream_t stream)
{
    gpu_copy by_value = *copy;
    void *arguments[] = {&by_value};
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3(COPY_CTAS);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

extern "C" cudaError_t gpu_produce(const gpu_copy *copy, cudaStream_t stream)
{
    return launch((const void *)produce, copy, stream);
}

extern "C" cudaError_t gpu_consume(const gpu_copy *copy, cudaStream_t stream)
{
    return launch((const void *)consume, copy, stream);
}

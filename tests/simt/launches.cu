/*
 * tests/simt/launches.cu - what one.sh makes of the ways to write a launch; each adds what it
 * should to a sum. With BEYOND the last writes one byte behind its buffer, with SHARED one behind
 * an array in shared memory, with DYNAMIC one behind the launch's, and the sanitizer must say so.
 */
#include <fp4/device/quant.cuh>

#include <stdio.h>
#include <stdlib.h>

static __global__ void add(unsigned *sum, unsigned each)
{
    atomicAdd(sum, each);
}

static __global__ void nothing(void)
{
}

__global__ void later(unsigned *sum); /* a __global__ that is declared, */

static __device__ unsigned twice(unsigned x) /* and one in a comment */
{
    return 2 * x;
}

namespace mine
{
static __global__ void add(unsigned *sum)
{
    atomicAdd(sum, twice(5));
}
} // namespace mine

template <class T, class U> static __global__ void add_any(T *sum, U value)
{
    atomicAdd(sum, (T)value);
}

template <int N> static __global__ void add_constant(unsigned *sum)
{
    __shared__ unsigned shared[32];

    shared[threadIdx.x] = N;
    __syncthreads();
    atomicAdd(sum, shared[31 - threadIdx.x]);
}

static __global__ void write(uint8_t *bytes, unsigned n)
{
    if (threadIdx.x < n) {
        bytes[threadIdx.x] = (uint8_t)fp4_f32_to_e2m1((float)threadIdx.x);
    }
}

static __attribute__((noinline)) void set(float *x, unsigned i)
{
    x[i] = 1.0f;
}

static __global__ void share(unsigned last)
{
    __shared__ __align__(16) float a[8];
    __shared__ alignas(128) float b[32];

    if ((size_t)b % 128 != 0 || (size_t)a % 16 != 0) {
        __trap();
    }
    set(a, threadIdx.x < last ? 0 : last);
    set(b, threadIdx.x % 32);
}

extern __shared__ __align__(16) uint8_t outside[];

namespace mine
{
template <class T> static __global__ void reverse(T *sum, unsigned n)
{
    extern __shared__ alignas(16) T inside[]; /* the same bytes */

    inside[threadIdx.x] = (T)threadIdx.x;
    __syncthreads();
    if (threadIdx.x < n) {
        atomicAdd(sum, inside[n - 1 - threadIdx.x] + outside[4] + (unsigned)((T *)outside)[0]);
    }
}
} // namespace mine

__global__ void later(unsigned *sum)
{
    atomicAdd(sum, 10000000u);
}

#if !defined(NO_MAIN)
static __global__ void by_address(unsigned *sum)
{
    atomicAdd(sum, 20000000u);
}

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "%s\n", cudaGetErrorString(error));
        exit(1);
    }
}

int main(void)
{
    const unsigned ctas = 3;
    cudaLaunchConfig_t config = {};
    unsigned *sum, each = 1000000;
    void *arguments[] = {&sum, &each}, *instance = (void *)add_constant<9>;
    cudaEvent_t start, stop;
    cudaStream_t stream;
    uint8_t *bytes;
    float ms = -1.0f;

    must(cudaMallocManaged(&sum, sizeof *sum));
    must(cudaMalloc(&bytes, 100));
    must(cudaStreamCreate(&stream));
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    must(cudaEventRecord(start));
    *sum = 0;
    add<<<ctas, 2>>>(sum, 1);                    /* 6 */
    add<<<dim3(ctas, 2), dim3(1, 2)>>>(sum, 10); /* 120 */
    add<<<1, 1, 0, stream>>>(                    /* over */
                             sum /* some */, 1000 /* lines */);
    nothing<<<1, 32>>>();
    add_constant<32><<<1, 32>>>(sum); /* 1024, of which 1<<<1 is none */
    mine::add<<<1, 2>>>(sum);         // 20, and none of add<<<1, 2>>>(sum)
    add_any<<<1, 1>>>(sum, 300.0f);   /* 300 */
    add_any<<<1, 1>>>(sum, ")\"("[0] == ')' ? 3000u : 0u);
    later<<<1, 1>>>(sum);
    must(cudaLaunchKernel((const void *)by_address, dim3(1), dim3(1), arguments));
    config.gridDim = dim3(1);
    config.blockDim = dim3(32);
    must(cudaLaunchKernelExC(&config,
                             ctas == 3 ? (const void *)&add_constant<(8 > 4) + 7> : instance,
                             arguments));                              /* 256 */
    must(cudaLaunchKernelExC(&config, instance, arguments));           /* 288 */
    must(cudaLaunchKernelEx(&config, add_any<unsigned, int>, sum, 2)); /* 64 */
    share<<<1, 64>>>(7);
#if defined(SHARED)
    share<<<1, 64>>>(8);
#endif
    must(cudaFuncSetAttribute(mine::reverse<unsigned>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              8 * sizeof(unsigned)));
    mine::reverse<unsigned><<<2, 8, 8 * sizeof(unsigned), stream>>>(sum, 8); /* 72 */
#if defined(DYNAMIC)
    mine::reverse<unsigned><<<2, 9, 8 * sizeof(unsigned)>>>(sum, 8);
#endif
    config.blockDim = dim3(2);
    must(cudaLaunchKernelEx(&config, add, sum, 100000u)); /* 200000 */
    must(cudaLaunchKernel((const void *)add, dim3(1), dim3(1), arguments));
    must(cudaLaunchKernel(add, dim3(1), dim3(1), arguments, 0, stream)); /* 2000000 */
#if defined(BEYOND)
    write<<<1, 128>>>(bytes, 101);
#else
    write<<<1, 128>>>(bytes, 100);
#endif
    must(cudaEventRecord(stop));
    must(cudaEventElapsedTime(&ms, start, stop));
    must(cudaDeviceSynchronize());
    printf("<<< %u >>>\n", *sum);
    return !(*sum == 6 + 120 + 1000 + 1024 + 20 + 300 + 3000 + 256 + 288 + 64 + 72 + 32200000 &&
             ms >= 0.0f);
}
#endif

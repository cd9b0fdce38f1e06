/*
 * tests/simt/races.cu - a kernel that reverses each CTA's part of x through shared memory, and
 * multiplies by a constant. With RACE there is no barrier between, with UNWRITTEN a part of x that
 * nobody has written, with ACROSS a part of y that two CTAs write: track.cpp must say so. And a
 * kernel with a * b + c, which is rounded once or twice.
 */
#include <fp4/bits.h>

#include <stdio.h>

#define CTAS 3
#define THREADS 64

__constant__ float factors[2] = {0.0f, 2.0f};

static __global__ void reverse(float *y, const float *x, int apart)
{
    __shared__ float shared[THREADS];
    extern __shared__ float more[];
    const int i = blockIdx.x * THREADS + threadIdx.x;

    shared[threadIdx.x] = x[i];
    more[THREADS - 1 - threadIdx.x] = factors[1];
#if !defined(RACE)
    __syncthreads();
#endif
    y[blockIdx.x * apart + threadIdx.x] = shared[THREADS - 1 - threadIdx.x] * more[threadIdx.x];
}

static __global__ void fuse(float *out, float a, float b, float c)
{
    *out = a * b + c;
}

static __global__ void keep_apart(float *out, float a, float b, float c)
{
    *out = fp4_add_rn(fp4_mul_rn(a, b), c);
}

int main(void)
{
    const float three = 3.0f;
    float *x, *y, *sums, host[CTAS * THREADS];

    if (cudaMalloc(&x, sizeof host) != cudaSuccess || cudaMalloc(&y, sizeof host) != cudaSuccess ||
        cudaMallocManaged(&sums, 2 * sizeof(float)) != cudaSuccess ||
        cudaMemcpyToSymbol(factors, &three, sizeof three, sizeof three) != cudaSuccess ||
        cudaMemcpyToSymbol(factors, &three, sizeof three, 5) == cudaSuccess) {
        return 1;
    }
    for (int i = 0; i < CTAS * THREADS; i++) {
        host[i] = (float)i;
    }
#if defined(UNWRITTEN)
    cudaMemcpy(x, host, sizeof host - 1, cudaMemcpyHostToDevice);
#else
    cudaMemcpy(x, host, sizeof host, cudaMemcpyHostToDevice);
#endif
#if defined(ACROSS)
    reverse<<<CTAS, THREADS, THREADS * sizeof(float)>>>(y, x, THREADS - 1);
#else
    reverse<<<CTAS, THREADS, THREADS * sizeof(float)>>>(y, x, THREADS);
#endif
    cudaMemcpy(host, y, sizeof host, cudaMemcpyDeviceToHost);
    for (int i = 0; i < CTAS * THREADS; i++) {
        if (host[i] != three * (float)(i / THREADS * THREADS + THREADS - 1 - i % THREADS)) {
            printf("element %d is %g\n", i, (double)host[i]);
            return 1;
        }
    }
    fuse<<<1, 1>>>(sums, 1.0f + 0x1p-12f, 1.0f + 0x1p-12f, -1.0f);
    keep_apart<<<1, 1>>>(sums + 1, 1.0f + 0x1p-12f, 1.0f + 0x1p-12f, -1.0f);
    printf("no races; a * b + c is rounded %s\n", sums[0] == 0x1p-11f ? "twice" : "once");
    return sums[1] != 0x1p-11f;
}

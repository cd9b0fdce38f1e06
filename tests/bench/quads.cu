/*
 * quads.cu - what quantizing accumulators costs (device/mma.cuh): blocks that stay in registers,
 * again and again, stored to the same place. RESULTS.md has its numbers.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude tests/bench/quads.cu -o quads && ./quads
 */
#include <fp4/device/load.cuh>
#include <fp4/device/mma.cuh>

#include <stdio.h>
#include <stdlib.h>

enum { THREADS = 128, CTAS = 132 * 16, TURNS = 2000, REPEATS = 5 };

/* Nothing of a turn may be taken for the next. */
#define TURN(fragment, elements) \
    const size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; \
    fragment t = fp4_load_f32x##elements(x + i * elements); \
    for (int turn = 0; turn < TURNS; \
         turn++, t.v[turn % 16 == 0 ? 0 : 1] += 0.001f, fp4_ptx_opaque(turn))

#define QUAD(name, fragment, elements, quantize, store, codes) \
    static __global__ void __launch_bounds__(THREADS) \
        name(uint8_t *q, uint8_t *sf, const float *x, float global_enc) \
    { \
        (void)global_enc; \
        TURN(fragment, elements) \
        { \
            const auto b = quantize; \
            store(q + i * codes, b.q); \
            sf[i] = b.sf; \
        } \
    }

QUAD(nvfp4_quad, fp4_f32x16, 16, fp4_nvfp4_quantize_scaled_quad(t, 0.5f, global_enc),
     fp4_store_e2m1x16, 8)
QUAD(mxfp4_quad, fp4_f32x32, 32, fp4_mxfp4_quantize_scaled_quad(t, 0.5f), fp4_store_e2m1x32, 16)
QUAD(mxfp8_quad, fp4_f32x32, 32, fp4_mxfp8_quantize_scaled_quad(t, 0.5f), fp4_store_e4m3x32, 32)

/* A shared block at a time, codes byte by byte to where they belong. */
static __global__ void __launch_bounds__(THREADS)
    nvfp4_shared(uint8_t *q, uint8_t *sf, const float *x, float global_enc)
{
    const uint32_t lane = threadIdx.x % 4;
    TURN(fp4_f32x16, 16)
    {
#pragma unroll
        for (uint32_t b = 0; b < 4; b++) {
            const fp4_f32x4 v = {{t.v[4 * b], t.v[4 * b + 1], t.v[4 * b + 2], t.v[4 * b + 3]}};
            const fp4_part1 p = fp4_nvfp4_quantize_scaled_x4(v, 0.5f, global_enc);
            uint8_t *at = q + i / 4 * 32 + 8 * b;
            at[lane] = (uint8_t)p.q[0];
            at[4 + lane] = (uint8_t)(p.q[0] >> 8);
            if (lane == b) {
                sf[i] = p.sf;
            }
        }
    }
}

static void measure(const char *name, int elements,
                    void (*kernel)(uint8_t *, uint8_t *, const float *, float), uint8_t *q,
                    uint8_t *sf, const float *x)
{
    cudaEvent_t start, stop;
    float best = 1e9f, ms;

    cudaEventCreate(&start);
    cudaEventCreate(&stop);
    for (int i = 0; i < REPEATS; i++) {
        cudaEventRecord(start);
        kernel<<<CTAS, THREADS>>>(q, sf, x, 64.0f);
        cudaEventRecord(stop);
        cudaEventSynchronize(stop);
        cudaEventElapsedTime(&ms, start, stop);
        best = ms < best ? ms : best;
    }
    printf("%-30s %6.0f * 10^9 elements a second\n", name,
           1e-6 * CTAS * THREADS * (double)elements * TURNS / best);
}

int main(void)
{
    const size_t n = (size_t)CTAS * THREADS * 32;
    float *x = NULL;
    uint8_t *q = NULL, *sf = NULL;

    cudaMallocManaged(&x, n * sizeof(float));
    cudaMalloc(&q, n);
    cudaMalloc(&sf, n);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(rand() % 2001 - 1000) * 0.001f;
    }
    measure("fp4_nvfp4_quantize_scaled_x4", 16, nvfp4_shared, q, sf, x);
    measure("fp4_nvfp4_quantize_scaled_quad", 16, nvfp4_quad, q, sf, x);
    measure("fp4_mxfp4_quantize_scaled_quad", 32, mxfp4_quad, q, sf, x);
    measure("fp4_mxfp8_quantize_scaled_quad", 32, mxfp8_quad, q, sf, x);
    if (cudaDeviceSynchronize() != cudaSuccess || cudaGetLastError() != cudaSuccess) {
        fprintf(stderr, "quads: a launch failed\n");
        return 1;
    }
    return 0;
}

/*
 * gpu_cuda_fp4.cu - the baseline: what a user writes today with the conversions of NVIDIA's
 * cuda_fp4.h and cuda_fp8.h. bf16 to NVFP4 or MXFP4, the word FORMAT by -D; linear scales, one
 * block a thread. The bytes are those of fp4's kernels, which the benchmark checks.
 */
#include "gpu_bench.h"

#include <cuda_bf16.h>
#include <cuda_fp4.h>
#include <cuda_fp8.h>

#include <cfloat>

#define BLOCK_nvfp4 16
#define BLOCK_mxfp4 32
#define BLOCK_OF_(format) BLOCK_##format
#define BLOCK_OF(format) BLOCK_OF_(format)

enum { BLOCK = BLOCK_OF(FORMAT), CUDA_FP4_THREADS = 256 };

static __device__ float encode_factor(float amax, float global_enc, uint8_t *sf)
{
    if (BLOCK == 16) {
        *sf = __nv_cvt_float_to_fp8(amax * (global_enc * (1.0f / 6.0f)), __NV_SATFINITE, __NV_E4M3);
        __nv_fp8_e4m3 decoded;
        decoded.__x = *sf;
        return fminf(1.0f / ((float)decoded * (1.0f / global_enc)), FLT_MAX);
    }
    *sf = __nv_cvt_float_to_e8m0(amax * (1.0f / 6.0f), __NV_SATFINITE, cudaRoundPosInf);
    return ldexpf(1.0f, 127 - *sf);
}

static __global__ void __launch_bounds__(CUDA_FP4_THREADS)
    cuda_fp4(uint2 *q, uint8_t *sf, const uint4 *x, const float *global_enc, size_t blocks)
{
    const size_t i = (size_t)blockIdx.x * CUDA_FP4_THREADS + threadIdx.x;
    uint4 words[BLOCK / 8];
    float v[BLOCK], amax = 0.0f;
    uint32_t codes[BLOCK / 8] = {};

    if (i >= blocks) {
        return;
    }
#pragma unroll
    for (int j = 0; j < BLOCK / 8; j++) {
        words[j] = x[i * (BLOCK / 8) + j];
    }
#pragma unroll
    for (int j = 0; j < BLOCK; j++) {
        v[j] = __bfloat162float(((const __nv_bfloat16 *)words)[j]);
        amax = fmaxf(amax, fabsf(v[j]));
    }
    const float enc = encode_factor(amax, BLOCK == 16 ? *global_enc : 1.0f, &sf[i]);
#pragma unroll
    for (int j = 0; j < BLOCK; j += 2) {
        const float2 pair = make_float2(v[j] * enc, v[j + 1] * enc);
        const uint32_t code = __nv_cvt_float2_to_fp4x2(pair, __NV_E2M1, cudaRoundNearest);
        codes[j / 8] |= code << (j % 8 * 4);
    }
#pragma unroll
    for (int j = 0; j < BLOCK / 16; j++) {
        q[i * (BLOCK / 16) + j] = make_uint2(codes[2 * j], codes[2 * j + 1]);
    }
}

static cudaError_t launch_cuda_fp4(const bench_buffers *b, cudaStream_t stream)
{
    size_t blocks = b->rows * b->cols / BLOCK;
    void *q = b->q, *sf = b->sf;
    const void *x = b->x, *global_enc = b->global_enc;
    void *arguments[] = {&q, &sf, &x, &global_enc, &blocks};
    const unsigned ctas = (unsigned)((blocks + CUDA_FP4_THREADS - 1) / CUDA_FP4_THREADS);

    return cudaLaunchKernel((const void *)cuda_fp4, dim3(ctas), dim3(CUDA_FP4_THREADS), arguments,
                            0, stream);
}

BENCH_KERNELS({"cuda_fp4.h",
               "bf16",
               BENCH_TEXT(FORMAT),
               {TRAFFIC_TO_CODES, 2, 4, BLOCK, BLOCK == 16, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0},
               0,
               1,
               launch_cuda_fp4,
               NULL,
               0});

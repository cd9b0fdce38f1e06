/*
 * tests/simt/include/cuda_bf16.h - of NVIDIA's header of this name what most kernels use: types,
 * conversions, and operations that round once.
 */
#ifndef FP4_TESTS_SIMT_CUDA_BF16_H
#define FP4_TESTS_SIMT_CUDA_BF16_H

#include "simt_halves.h"

typedef simt_half<fp4_f32_to_bf16, fp4_bf16_to_f32> __nv_bfloat16;
typedef simt_half2<__nv_bfloat16> __nv_bfloat162;
typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

SIMT_HALVES(__nv_bfloat16, __nv_bfloat162, bfloat16, bfloat162)

#endif /* FP4_TESTS_SIMT_CUDA_BF16_H */

/*
 * tests/simt/include/cuda_fp16.h - of NVIDIA's header of this name what most kernels use: types,
 * conversions, and operations that round once.
 */
#ifndef FP4_TESTS_SIMT_CUDA_FP16_H
#define FP4_TESTS_SIMT_CUDA_FP16_H

#include "simt_halves.h"

typedef simt_half<fp4_f32_to_f16, fp4_f16_to_f32> __half;
typedef simt_half2<__half> __half2;
typedef __half half;
typedef __half2 half2;

SIMT_HALVES(__half, __half2, half, half2)

#endif /* FP4_TESTS_SIMT_CUDA_FP16_H */

/* An NVFP4 block has 16 elements: 8 are no block, but one lane's part of one. */
/* expect: conversion from "fp4_f32x8" to "fp4_f32x16" */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>

__global__ void not_x8_as_block(const uint16_t *x, float global_enc, uint8_t *sf)
{
#if defined(RIGHT)
    *sf = fp4_nvfp4_quantize(fp4_load_bf16x16(x), global_enc).sf;
#else
    *sf = fp4_nvfp4_quantize(fp4_load_bf16x8(x), global_enc).sf;
#endif
}

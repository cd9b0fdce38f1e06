/* An MXFP4 block has 32 elements, not NVFP4's 16. */
/* expect: conversion from "fp4_f32x16" to "fp4_f32x32" */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>

__global__ void not_x16_as_x32(const uint16_t *x, uint8_t *sf)
{
#if defined(RIGHT)
    *sf = fp4_mxfp4_quantize(fp4_load_bf16x32(x)).sf;
#else
    *sf = fp4_mxfp4_quantize(fp4_load_bf16x16(x)).sf;
#endif
}

/* What a lane holds of a shared block is no block. */
/* expect: conversion from "fp4_part1" to "const fp4_nvfp4_block" */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>

__global__ void not_part_as_block(const uint16_t *x, float global_enc, uint8_t *sf)
{
#if defined(RIGHT)
    const fp4_part1 b = fp4_nvfp4_quantize_x8(fp4_load_bf16x8(x), global_enc);
#else
    const fp4_nvfp4_block b = fp4_nvfp4_quantize_x8(fp4_load_bf16x8(x), global_enc);
#endif
    *sf = b.sf;
}

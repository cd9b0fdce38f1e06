/* Floats are not words as they lie in memory: y is narrowed before it is stored. */
/* expect: conversion from "const fp4_f32x16" to "fp4_u32x8" */
#include <fp4/device/load.cuh>
#include <fp4/device/store.cuh>

__global__ void not_f32_as_words(const uint16_t *x, uint16_t *y)
{
    const fp4_f32x16 v = fp4_load_bf16x16(x);
#if defined(RIGHT)
    fp4_store_u32x8(y, fp4_f32x16_to_bf16x16(v));
#else
    fp4_store_u32x8(y, v);
#endif
}

/*
 * tests/gpu/native/fp4/device/ptx.cuh - stands in front of the library's file of this name and adds
 * what a target with FP4 instructions has, each emulated by the scalar header: on a GPU without
 * them, the rest of fp4/device then takes the way it takes on one that has them.
 */
#ifndef FP4_TESTS_GPU_NATIVE_PTX_CUH
#define FP4_TESTS_GPU_NATIVE_PTX_CUH

#define FP4_ARCH_CVT_E2M1 0
#include_next <fp4/device/ptx.cuh>
#undef FP4_ARCH_CVT_E2M1
#define FP4_ARCH_CVT_E2M1 1

#include <fp4/e2m1.h>
#include <fp4/e8m0.h>

FP4_D uint32_t fp4_ptx_e2m1x8(float x0, float x1, float x2, float x3, float x4, float x5, float x6,
                              float x7)
{
    const float x[8] = {x0, x1, x2, x3, x4, x5, x6, x7};
    uint32_t q = 0;

    for (int i = 0; i < 8; i++) {
        q |= (uint32_t)fp4_f32_to_e2m1(x[i]) << (4 * i);
    }
    return q;
}

FP4_D uint8_t fp4_ptx_e2m1x2(float x0, float x1)
{
    return (uint8_t)(fp4_f32_to_e2m1(x0) | fp4_f32_to_e2m1(x1) << 4);
}

FP4_D uint32_t fp4_ptx_e2m1x2_to_f16x2(uint32_t q)
{
    const uint32_t low = fp4_ptx_f32_to_f16(fp4_e2m1_to_f32((uint8_t)q));
    const uint32_t high = fp4_ptx_f32_to_f16(fp4_e2m1_to_f32((uint8_t)(q >> 4)));

    return low | high << 16;
}

FP4_D uint8_t fp4_ptx_e8m0_up(float x)
{
    return fp4_f32_to_e8m0_up(x);
}

#endif /* FP4_TESTS_GPU_NATIVE_PTX_CUH */

/*
 * cuda_fp4.cu - kernels of blocks.cu, name by name, with the conversions of NVIDIA's cuda_fp4.h and
 * cuda_fp8.h: device.sh compares their instructions with ours.
 */
#include <cuda_fp4.h>
#include <stdint.h>

#define KERNEL extern "C" __global__ void

static __device__ __forceinline__ uint32_t fp4x2(float x0, float x1)
{
    return __nv_cvt_float2_to_fp4x2(make_float2(x0, x1), __NV_E2M1, cudaRoundNearest);
}

static __device__ __forceinline__ uint32_t fp8x2(float x0, float x1)
{
    return __nv_cvt_float2_to_fp8x2(make_float2(x0, x1), __NV_SATFINITE, __NV_E4M3);
}

KERNEL to_e2m1x2(const float2 *x, uint8_t *q)
{
    const float2 a = *x;
    *q = (uint8_t)fp4x2(a.x, a.y);
}

KERNEL to_e2m1x8(const float4 *x, uint32_t *q)
{
    const float4 a = x[0], b = x[1];
    *q = fp4x2(a.x, a.y) | fp4x2(a.z, a.w) << 8 | fp4x2(b.x, b.y) << 16 | fp4x2(b.z, b.w) << 24;
}

KERNEL to_e4m3x8(const float4 *x, uint2 *q)
{
    const float4 a = x[0], b = x[1];
    *q = make_uint2(fp8x2(a.x, a.y) | fp8x2(a.z, a.w) << 16, fp8x2(b.x, b.y) | fp8x2(b.z, b.w)
                                                                                   << 16);
}

KERNEL to_e8m0(const float *x, uint8_t *sf)
{
    *sf = __nv_cvt_float_to_e8m0(*x, __NV_SATFINITE, cudaRoundPosInf);
}

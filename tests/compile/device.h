/* For two_tu_a.c and two_tu_b.c under nvcc: every device header, and a kernel that uses them. */
#include <fp4/device/dequant.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

static __global__ void round_trip(uint8_t *q, float *y, const uint16_t *x)
{
    const fp4_nvfp4_block b = fp4_nvfp4_quantize(fp4_load_bf16x16(x), 1.0f);
    const fp4_f32x16 v = fp4_nvfp4_dequantize(b.q, b.sf, 1.0f);

    fp4_store_e2m1x16(q, b.q);
    y[threadIdx.x] = v.v[0];
}

/* Keeps the kernel. */
static const void *const fp4_use_kernel __attribute__((used)) = (const void *)round_trip;

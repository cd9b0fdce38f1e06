/* Stored are a block's codes, not the floats they came from. */
/* expect: "const float [*]" is incompatible with parameter of type "const uint32_t [*]" */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

__global__ void not_floats_as_codes(const uint16_t *x, float global_enc, uint8_t *q)
{
    const fp4_f32x16 v = fp4_load_bf16x16(x);
    const fp4_nvfp4_block b = fp4_nvfp4_quantize(v, global_enc);
#if defined(RIGHT)
    fp4_store_e2m1x16(q, b.q);
#else
    fp4_store_e2m1x16(q, v.v);
    *q = b.sf;
#endif
}

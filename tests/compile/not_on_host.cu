/* Device functions are refused in host code: the host has its own, in fp4/host. */
/* expect: calling a __device__ function.* from a __host__ function */
#include <fp4/device/quant.cuh>

uint8_t not_on_host(fp4_f32x16 x, float global_enc);

uint8_t not_on_host(fp4_f32x16 x, float global_enc)
{
#if defined(RIGHT)
    return fp4_nvfp4_scale(x.v[0], global_enc).bits;
#else
    return fp4_nvfp4_quantize(x, global_enc).sf;
#endif
}

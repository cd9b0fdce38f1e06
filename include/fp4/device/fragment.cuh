/*
 * fp4/device/fragment.cuh - arithmetic on whole fragments, each operation rounded once.
 *
 * What a fused kernel does between load and quantize, as far as the library has names for it; the
 * elements are plain floats in x.v[], so anything else is a loop.
 */
#ifndef FP4_DEVICE_FRAGMENT_CUH
#define FP4_DEVICE_FRAGMENT_CUH

#include <fp4/device/ptx.cuh>
#include <fp4/types.h>

/** x * factor. */
FP4_D fp4_f32x8 fp4_scale_x8(fp4_f32x8 x, float factor)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i += 2) {
        fp4_ptx_mul_x2(&x.v[i], factor, factor);
    }
    return x;
}

FP4_D fp4_f32x16 fp4_scale_x16(fp4_f32x16 x, float factor)
{
    return fp4_join_x8(fp4_scale_x8(fp4_low_x8(x), factor), fp4_scale_x8(fp4_high_x8(x), factor));
}

FP4_D fp4_f32x32 fp4_scale_x32(fp4_f32x32 x, float factor)
{
    return fp4_join_x16(fp4_scale_x16(fp4_low_x16(x), factor),
                        fp4_scale_x16(fp4_high_x16(x), factor));
}

/** x * y, element by element; exact where both come from 16-bit types. */
FP4_D fp4_f32x8 fp4_mul_x8(fp4_f32x8 x, fp4_f32x8 y)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i += 2) {
        fp4_ptx_mul_x2(&x.v[i], y.v[i], y.v[i + 1]);
    }
    return x;
}

FP4_D fp4_f32x16 fp4_mul_x16(fp4_f32x16 x, fp4_f32x16 y)
{
    return fp4_join_x8(fp4_mul_x8(fp4_low_x8(x), fp4_low_x8(y)),
                       fp4_mul_x8(fp4_high_x8(x), fp4_high_x8(y)));
}

FP4_D fp4_f32x32 fp4_mul_x32(fp4_f32x32 x, fp4_f32x32 y)
{
    return fp4_join_x16(fp4_mul_x16(fp4_low_x16(x), fp4_low_x16(y)),
                        fp4_mul_x16(fp4_high_x16(x), fp4_high_x16(y)));
}

/** x + y, element by element. */
FP4_D fp4_f32x16 fp4_add_x16(fp4_f32x16 x, fp4_f32x16 y)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i += 2) {
        fp4_ptx_add_x2(&x.v[i], y.v[i], y.v[i + 1]);
    }
    return x;
}

FP4_D fp4_f32x32 fp4_add_x32(fp4_f32x32 x, fp4_f32x32 y)
{
    return fp4_join_x16(fp4_add_x16(fp4_low_x16(x), fp4_low_x16(y)),
                        fp4_add_x16(fp4_high_x16(x), fp4_high_x16(y)));
}

/** x + term. */
FP4_D fp4_f32x16 fp4_shift_x16(fp4_f32x16 x, float term)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i += 2) {
        fp4_ptx_add_x2(&x.v[i], term, term);
    }
    return x;
}

FP4_D fp4_f32x32 fp4_shift_x32(fp4_f32x32 x, float term)
{
    return fp4_join_x16(fp4_shift_x16(fp4_low_x16(x), term), fp4_shift_x16(fp4_high_x16(x), term));
}

/** x * y + z, element by element, rounded once. */
FP4_D fp4_f32x16 fp4_fma_x16(fp4_f32x16 x, fp4_f32x16 y, fp4_f32x16 z)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i += 2) {
        fp4_ptx_fma_x2(&x.v[i], &y.v[i], &z.v[i]);
    }
    return x;
}

FP4_D fp4_f32x32 fp4_fma_x32(fp4_f32x32 x, fp4_f32x32 y, fp4_f32x32 z)
{
    return fp4_join_x16(fp4_fma_x16(fp4_low_x16(x), fp4_low_x16(y), fp4_low_x16(z)),
                        fp4_fma_x16(fp4_high_x16(x), fp4_high_x16(y), fp4_high_x16(z)));
}

#endif /* FP4_DEVICE_FRAGMENT_CUH */

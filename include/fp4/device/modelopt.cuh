/*
 * fp4/device/modelopt.cuh - ModelOpt's fake quantization (modelopt.h) of 16 elements in registers,
 * with packed conversions. Equal to its scalar functions on every input.
 *
 * threads  none needed.
 */
#ifndef FP4_DEVICE_MODELOPT_CUH
#define FP4_DEVICE_MODELOPT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/fragment.cuh>
#include <fp4/modelopt.h>

/*
 * |x| / divisor, as far as it decides: a quotient near a boundary between values of e2m1, or near 6,
 * is the correctly rounded one; others are on the right side of all of them, or NaN where they
 * overflow. That takes a correctly rounded reciprocal and one step of Newton's, exact by fma, where
 * nothing underflows. tests/exhaustive.cpp compares them for all mantissas of the divisor.
 */
FP4_D fp4_f32x16 fp4_modelopt_quotients_(fp4_f32x16 x, float divisor)
{
    const int is_moderate = divisor >= 1e-18f && divisor <= 1e18f;
    const float reciprocal = fp4_rcp_rn(divisor);
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = is_moderate ? fp4_modelopt_quotient_(fp4_ptx_abs(x.v[i]), divisor, reciprocal)
                             : fp4_div_rn(fp4_ptx_abs(x.v[i]), divisor);
    }
    return x;
}

/* Eight quotients to values of e2m1 times scale, with the signs of x: NaN is negative, no -0. */
FP4_D fp4_f32x8 fp4_modelopt_fake_x8_(fp4_f32x8 quotients, fp4_f32x8 x, float scale)
{
    fp4_f32x8 y = fp4_e2m1x8_to_units_(fp4_f32x8_to_e2m1x8(quotients));
    int i;

    y = fp4_scale_x8(fp4_scale_x8(y, fp4_e2m1_unit_()), scale);
#pragma unroll
    for (i = 0; i < 8; i++) {
        y.v[i] = x.v[i] >= 0.0f ? y.v[i] : fp4_add_rn(-y.v[i], 0.0f);
    }
    return y;
}

/**
 * 16 elements of a block with a scale as fp4_modelopt_fake_dynamic has them.
 *
 * range    scale: positive and finite. 1 gives what fp4_modelopt_cast does.
 */
FP4_D fp4_f32x16 fp4_modelopt_fake_dynamic_x16(fp4_f32x16 x, float scale)
{
    const fp4_f32x16 quotients = fp4_modelopt_quotients_(x, scale);

    return fp4_join_x8(fp4_modelopt_fake_x8_(fp4_low_x8(quotients), fp4_low_x8(x), scale),
                       fp4_modelopt_fake_x8_(fp4_high_x8(quotients), fp4_high_x8(x), scale));
}

/** 16 elements of a block with a scale as fp4_modelopt_fake_static has them: 0 makes zeros. */
FP4_D fp4_f32x16 fp4_modelopt_fake_static_x16(fp4_f32x16 x, float scale)
{
    const fp4_f32x16 zeros = {};

    return scale == 0.0f ? zeros : fp4_modelopt_fake_dynamic_x16(x, fp4_modelopt_divisor(scale));
}

/** 1 in bit i where fp4_modelopt_is_clipped(x[i], divisor). */
FP4_D uint32_t fp4_modelopt_clipped_x16(fp4_f32x16 x, float divisor)
{
    const fp4_f32x16 quotients = fp4_modelopt_quotients_(x, divisor);
    uint32_t bits = 0;
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        bits |= (uint32_t)(!fp4_is_nan(x.v[i]) && !(quotients.v[i] <= FP4_E2M1_MAX)) << i;
    }
    return bits;
}

#endif /* FP4_DEVICE_MODELOPT_CUH */

/*
 * fp4/device/modelopt.cuh - ModelOpt's rules (modelopt.h) on blocks in registers, equal to its
 * scalar functions on every input: fake quantization with packed conversions and no division an
 * element, and the blocks of its quantized tensors, which are not made for speed.
 *
 *     fp4_modelopt_fake_x16                                     16 elements with a scale
 *     fp4_modelopt_nvfp4_quantize, _mxfp4_quantize, _mxfp8_quantize   a block
 *
 * threads  none needed.
 */
#ifndef FP4_DEVICE_MODELOPT_CUH
#define FP4_DEVICE_MODELOPT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/fragment.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/modelopt.h>

/** fp4_modelopt_scale_at with the target's own e4m3 conversion. */
FP4_D float fp4_modelopt_cvt_scale_at(float amax, fp4_modelopt_level level)
{
    const uint8_t sf = fp4_cvt_f32_to_e4m3(fp4_modelopt_units_(amax, level));
    return fp4_mul_rn(fp4_cvt_e4m3_to_f32(sf), level.from_e4m3);
}

/** fp4_modelopt_dynamic_scale_at with the target's own e4m3 conversion. */
FP4_D float fp4_modelopt_cvt_dynamic_scale_at(float amax, float dynamic_dec)
{
    const uint8_t sf = fp4_cvt_f32_to_e4m3(fp4_modelopt_dynamic_units_(amax, dynamic_dec));
    return fp4_modelopt_dynamic_from_(fp4_cvt_e4m3_to_f32(sf), dynamic_dec);
}

/*
 * x / divisor, as far as it decides: a quotient near a boundary between values of e2m1, or near 6,
 * is the correctly rounded one; others are on the right side of all of them, and none reaches 7.
 * NaN is -6.5. It takes a correctly rounded reciprocal and one step of Newton's, exact by fma,
 * where nothing overflows or underflows: a divisor of 2^-64 up to 2^64. If it is elsewhere, both
 * are moved: it to 2^-53 .. 2^32, exactly, and an element that gets too large or too small on the
 * way had a quotient far from every boundary, above 2^96 or below 2^-94. tests/exhaustive.cpp
 * compares them for all mantissas of the divisor.
 */
FP4_D fp4_f32x16 fp4_modelopt_quotients_(fp4_f32x16 x, float divisor)
{
    float reciprocal, most;
    int i;

    if (!fp4_is_moderate_(divisor)) {
        const float by = divisor < 1.0f ? 0x1p+96f : 0x1p-96f;
        x = fp4_scale_x16(x, by);
        divisor = fp4_mul_rn(divisor, by);
    }
    reciprocal = fp4_rcp_newton_(divisor);
    most = fp4_mul_rn(divisor, 6.5f);
#pragma unroll
    for (i = 0; i < 16; i++) { /* max returns the number where x is NaN */
        const float a = fp4_ptx_min(fp4_ptx_max(x.v[i], -most), most);
        x.v[i] = fp4_modelopt_quotient_(a, divisor, reciprocal);
    }
    return x;
}

/**
 * 16 elements of a block with scale dec, as fp4_modelopt_fake_static has them, which for a scale
 * of fp4_modelopt_dynamic_scale is fp4_modelopt_fake_dynamic; with 1, fp4_modelopt_cast.
 *
 * clipped  where wants_clipped bit i is 1 if fp4_modelopt_is_clipped(x[i], the divisor of dec);
 *          else 0.
 */
FP4_D fp4_f32x16 fp4_modelopt_fake_x16(fp4_f32x16 x, float dec, int wants_clipped,
                                       uint32_t *clipped)
{
    const float divisor = fp4_modelopt_divisor(dec);
    const int is_moderate = fp4_is_moderate_(divisor);
    const float unit = dec == 0.0f ? 0.0f : fp4_e2m1_unit();
    const float by = is_moderate ? fp4_mul_rn(unit, divisor) : unit;
    const fp4_f32x16 q = fp4_modelopt_quotients_(x, divisor);
    fp4_f32x16 y = fp4_join_x8(fp4_e2m1x8_to_units(fp4_f32x8_to_e2m1x8_below_7(fp4_low_x8(q))),
                               fp4_e2m1x8_to_units(fp4_f32x8_to_e2m1x8_below_7(fp4_high_x8(q))));
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) { /* and no -0 */
        y.v[i] = fp4_fma_rn(y.v[i], by, 0.0f);
    }
    if (!is_moderate) { /* whose product with the unit may be none */
        y = fp4_shift_x16(fp4_scale_x16(y, divisor), 0.0f);
    }
    *clipped = 0;
    if (wants_clipped) {
#pragma unroll
        for (i = 0; i < 16; i++) {
            *clipped |= (uint32_t)(fp4_ptx_abs(q.v[i]) > FP4_E2M1_MAX && !fp4_is_nan(x.v[i])) << i;
        }
    }
    return y;
}

/* ------------------------------------------------------------ blocks of quantized tensors */

/** A block of NVFP4QTensor; global_dec: fp4_modelopt_global_dec of the tensor's amax. */
FP4_D fp4_nvfp4_block fp4_modelopt_nvfp4_quantize(fp4_f32x16 x, float global_dec)
{
    const uint8_t sf = fp4_modelopt_nvfp4_sf(fp4_amax_or_nan_x16(x), global_dec);
    const float dec = fp4_modelopt_nvfp4_dec(sf, global_dec);
    fp4_nvfp4_block block = {{0, 0}, sf};
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        block.q[i / 8] |= (uint32_t)fp4_modelopt_nvfp4_code(x.v[i], dec) << (4 * (i % 8));
    }
    return block;
}

/** A block of MXFP4QTensor. */
FP4_D fp4_mxfp4_block fp4_modelopt_mxfp4_quantize(fp4_f32x32 x)
{
    const uint8_t sf = fp4_modelopt_mxfp4_sf(fp4_amax_or_nan_x32(x));
    fp4_mxfp4_block block = {{0, 0, 0, 0}, sf};
    int i;

#pragma unroll
    for (i = 0; i < 32; i++) {
        block.q[i / 8] |= (uint32_t)fp4_modelopt_mxfp4_code(x.v[i], sf) << (4 * (i % 8));
    }
    return block;
}

/** A block of MXFP8QTensor. */
FP4_D fp4_mxfp8_block fp4_modelopt_mxfp8_quantize(fp4_f32x32 x)
{
    const uint8_t sf = fp4_modelopt_mxfp8_sf(fp4_amax_or_nan_x32(x));
    fp4_mxfp8_block block = {{0, 0, 0, 0, 0, 0, 0, 0}, sf};
    int i;

#pragma unroll
    for (i = 0; i < 32; i++) {
        block.q[i / 4] |= (uint32_t)fp4_modelopt_mxfp8_code(x.v[i], sf) << (8 * (i % 4));
    }
    return block;
}

#endif /* FP4_DEVICE_MODELOPT_CUH */

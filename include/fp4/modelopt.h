/*
 * fp4/modelopt.h - the rules of NVIDIA ModelOpt's fake quantization, which are not ours: a block of
 * floats becomes what is left of it after 4 bits, in floats. For comparing with models that were
 * calibrated or trained with them.
 *
 *     ModelOpt's function               here
 *     compute_fp4_scales                fp4_modelopt_scale; fp4_modelopt_scale_f32 if not quantized
 *     static_blockwise_fp4_cast         fp4_modelopt_cast
 *     static_blockwise_fp4_fake_quant   fp4_modelopt_fake_static
 *     fp4_fake_quant_block              fp4_modelopt_dynamic_scale, fp4_modelopt_fake_dynamic
 *
 * A scale is a float, what codes are multiplied by. Where these differ from each other and from
 * ours (scale.h): a static scale of 0 makes zeros of the block, a dynamic one below 1e-5 becomes 1;
 * NaN becomes -6 times the scale; no result is -0; elements are divided by the scale, not
 * multiplied by its reciprocal.
 *
 * source   ModelOpt a2fbac7: tensor_quant.py, fp4_kernel.py, fp4_kernel_hopper.py. Divisions by and
 *          of Python's numbers are multiplications in PyTorch, on GPUs, and so here. The kernels
 *          are written in Triton, whose division may be an ulp or two off; here it is rounded
 *          correctly. tests/test_modelopt.c compares with what all of them gave on an H200.
 */
#ifndef FP4_MODELOPT_H
#define FP4_MODELOPT_H

#include <fp4/e2m1.h>
#include <fp4/scale.h>

/** The scale of a block from its amax, not quantized: amax / 6. */
FP4_HD float fp4_modelopt_scale_f32(float amax)
{
    return fp4_mul_rn(amax, FP4_E2M1_MAX_RECIPROCAL);
}

/**
 * The scale of a block from its amax, through an e4m3 with a second level for the tensor.
 *
 * range    amax, global_amax (the largest amax): not negative; up to FLT_MAX * 256/448 if fp8_max
 *          is 256, above that NaN. fp8_max: 448; or 256, to leave room for blocks that are scaled
 *          up by 6/4 ("four over six"). The result may be 0.
 */
FP4_HD float fp4_modelopt_scale(float amax, float global_amax, float fp8_max)
{
    const float room = fp4_div_rn(448.0f, fp8_max);
    const float most = fp4_mul_rn(fp4_mul_rn(global_amax, room), FP4_E2M1_MAX_RECIPROCAL);
    const float bounded = most <= 5.96046448e-08f ? 1.0f : most; /* 2^-24 */
    const float to_e4m3 = fp4_mul_rn(fp4_div_rn(1.0f, bounded), 448.0f);
    const uint8_t sf = fp4_f32_to_e4m3(fp4_mul_rn(fp4_modelopt_scale_f32(amax), to_e4m3));

    return fp4_mul_rn(fp4_e4m3_to_f32(sf), fp4_div_rn(1.0f, to_e4m3));
}

/* |x| / scale to the nearest value of e2m1, ties to even, times scale, with the sign of x. */
FP4_HD float fp4_modelopt_fake_(float x, float scale)
{
    const float magnitude = fp4_bits_f32(fp4_f32_bits(x) & 0x7fffffffu);
    const float nearest = fp4_e2m1_to_f32(fp4_f32_to_e2m1(fp4_div_rn(magnitude, scale)));
    const float y = fp4_mul_rn(nearest, scale);

    return x >= 0.0f ? y : fp4_add_rn(-y, 0.0f); /* no -0 */
}

/** x to the nearest value of e2m1, saturating. */
FP4_HD float fp4_modelopt_cast(float x)
{
    return fp4_modelopt_fake_(x, 1.0f);
}

/** What elements of a block whose scale is given are divided by: 1 for 0, infinity and NaN. */
FP4_HD float fp4_modelopt_divisor(float scale)
{
    return fp4_f32_bits(scale) - 1u < 0x7f7fffffu ? scale : 1.0f;
}

/** An element of a block whose scale is given. Infinite and NaN scales count as 1. */
FP4_HD float fp4_modelopt_fake_static(float x, float scale)
{
    return scale == 0.0f ? 0.0f : fp4_modelopt_fake_(x, fp4_modelopt_divisor(scale));
}

/* a / divisor by its reciprocal, correctly rounded; see device/modelopt.cuh. */
FP4_HD float fp4_modelopt_quotient_(float a, float divisor, float reciprocal)
{
    const float q = fp4_mul_rn(a, reciprocal);
    return fp4_fma_rn(fp4_fma_rn(-q, divisor, a), reciprocal, q);
}

/** 1 where |x| / divisor is more than e2m1 has. */
FP4_HD int fp4_modelopt_is_clipped(float x, float divisor)
{
    return fp4_div_rn(fp4_bits_f32(fp4_f32_bits(x) & 0x7fffffffu), divisor) > FP4_E2M1_MAX;
}

/** The scale of a block from its amax and that of the tensor, as the dynamic quantizer has it. */
FP4_HD float fp4_modelopt_dynamic_scale(float amax, float global_amax)
{
    const float given = fp4_div_rn(global_amax, 2688.0f);
    const float global_dec = given <= 0.0f ? 1e-12f : given;
    const float f32 = fp4_div_rn(amax, fp4_mul_rn(6.0f, global_dec));
    const float scale = fp4_mul_rn(fp4_e4m3_to_f32(fp4_f32_to_e4m3(f32)), global_dec);

    return scale >= 1e-5f ? scale : 1.0f;
}

/** An element of a block with such a scale. */
FP4_HD float fp4_modelopt_fake_dynamic(float x, float scale)
{
    return fp4_modelopt_fake_(x, scale);
}

#endif /* FP4_MODELOPT_H */

/*
 * fp4/device/activation.cuh - SiLU and GELU of fragments: the values of fp4_silu and fp4_gelu_tanh
 * (activation.h), and the same faster where the largest magnitude is known and not beyond 87.
 *
 * What is faster: first, nothing is bounded. Where any element is beyond what the exponential
 * takes, element 0 comes out NaN: a block with NaN in it asks for care (quant.cuh), and the careful
 * way takes any element. Second, the division. Its divisor, 1 + e^y, lies between 1 and 2^126, so
 * that the reciprocal needs no slow path: one Newton step on the hardware's approximation rounds it
 * correctly, and from a correctly rounded reciprocal one residual makes a correctly rounded
 * quotient (Markstein).
 *
 * threads  none needed.
 */
#ifndef FP4_DEVICE_ACTIVATION_CUH
#define FP4_DEVICE_ACTIVATION_CUH

#include <fp4/activation.h>
#include <fp4/device/quant.cuh>

/* a / (1 + e^x), x within +-87, a finite. The residual is taken with this sign so that -0 stays. */
FP4_D float fp4_over_one_plus_exp_(float a, float x)
{
    const float divisor = fp4_add_rn(fp4_exp_(x), 1.0f);
    const float reciprocal = fp4_rcp_newton_(divisor);
    const float quotient = fp4_mul_rn(a, reciprocal);
    const float too_much = fp4_fma_rn(quotient, divisor, -a);

    return fp4_fma_rn(too_much, -reciprocal, quotient);
}

FP4_D float fp4_silu_near_(float x)
{
    return fp4_over_one_plus_exp_(x, -x);
}

FP4_D float fp4_gelu_tanh_near_(float x)
{
    const float y = fp4_mul_rn(x, fp4_gelu_slope_(x));
    return fp4_over_one_plus_exp_(x, fp4_ptx_min(fp4_ptx_max(y, -FP4_EXP_END_), FP4_EXP_END_));
}

/* y; NaN unless amax <= 87. */
FP4_D float fp4_if_near_(float y, float amax)
{
    return amax <= FP4_EXP_END_ ? y : fp4_bits_f32(0x7fffffffu);
}

/**
 * SiLU of sixteen floats whose largest magnitude is amax, NaN if one of them is: as fp4_silu_x16
 * where amax <= 87; elsewhere element 0 is NaN, and the others are anything.
 */
FP4_D fp4_f32x16 fp4_silu_known_x16(fp4_f32x16 x, float amax)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_silu_near_(x.v[i]);
    }
    x.v[0] = fp4_if_near_(x.v[0], amax);
    return x;
}

/** GELU in the same way. */
FP4_D fp4_f32x16 fp4_gelu_tanh_known_x16(fp4_f32x16 x, float amax)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_gelu_tanh_near_(x.v[i]);
    }
    x.v[0] = fp4_if_near_(x.v[0], amax);
    return x;
}

/** SiLU of any sixteen floats. */
FP4_D fp4_f32x16 fp4_silu_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_silu(x.v[i]);
    }
    return x;
}

/** GELU of any sixteen floats. */
FP4_D fp4_f32x16 fp4_gelu_tanh_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_gelu_tanh(x.v[i]);
    }
    return x;
}

#endif /* FP4_DEVICE_ACTIVATION_CUH */

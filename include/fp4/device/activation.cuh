/*
 * fp4/device/activation.cuh - SiLU and GELU of fragments: the values of fp4_silu and fp4_gelu_tanh
 * (activation.h), and the same faster where no element is +inf.
 *
 * What is faster: the division. Its divisor, 1 + e^y, lies between 1 and 2^126, so that the
 * reciprocal needs no slow path: one Newton step on the hardware's approximation rounds it
 * correctly, and from a correctly rounded reciprocal one residual makes a correctly rounded
 * quotient (Markstein).
 *
 * range    as activation.h says; but +inf gives NaN in the _finite functions. A kernel that
 *          quantizes may call them all the same: NaN in a block asks for care (quant.cuh), and the
 *          careful way takes the others.
 * threads  none needed.
 */
#ifndef FP4_DEVICE_ACTIVATION_CUH
#define FP4_DEVICE_ACTIVATION_CUH

#include <fp4/activation.h>
#include <fp4/device/quant.cuh>

/* The larger of x and -87, NaN where x is NaN. */
FP4_D float fp4_bounded_below_(float x)
{
#if FP4_ARCH_MAX_NAN
    return fp4_ptx_max_nan(x, -FP4_EXP_END_);
#else
    return fp4_at_least_(x, -FP4_EXP_END_);
#endif
}

/* a / (1 + e^x), x within +-87, a finite. The residual is taken with this sign so that -0 stays. */
FP4_D float fp4_over_one_plus_exp_(float a, float x)
{
    const float divisor = fp4_add_rn(fp4_exp_(x), 1.0f);
    const float reciprocal = fp4_rcp_newton_(divisor);
    const float quotient = fp4_mul_rn(a, reciprocal);
    const float too_much = fp4_fma_rn(quotient, divisor, -a);

    return fp4_fma_rn(too_much, -reciprocal, quotient);
}

FP4_D float fp4_silu_finite_(float x)
{
    const float a = fp4_bounded_below_(x);
    return fp4_over_one_plus_exp_(a, fp4_ptx_max(-a, -FP4_EXP_END_));
}

FP4_D float fp4_gelu_tanh_finite_(float x)
{
    const float a = fp4_bounded_below_(x);
    const float y = fp4_mul_rn(a, fp4_gelu_slope_(a));
    return fp4_over_one_plus_exp_(a, fp4_ptx_min(fp4_ptx_max(y, -FP4_EXP_END_), FP4_EXP_END_));
}

/** SiLU of sixteen floats, none of them +inf. */
FP4_D fp4_f32x16 fp4_silu_finite_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_silu_finite_(x.v[i]);
    }
    return x;
}

/** GELU of sixteen floats, none of them +inf. */
FP4_D fp4_f32x16 fp4_gelu_tanh_finite_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_gelu_tanh_finite_(x.v[i]);
    }
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

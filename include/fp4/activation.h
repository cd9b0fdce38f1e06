/*
 * fp4/activation.h - e^x, SiLU, swish, GELU and the gate of gpt-oss with the same bits on every
 * machine.
 *
 *     fp4_exp(x)         e^x
 *     fp4_silu(x)        x / (1 + e^-x)
 *     fp4_swish(x, b)    x / (1 + e^(-b x))
 *     fp4_gelu_tanh(x)   x/2 * (1 + tanh( sqrt(2/pi) * (x + 0.044715 x^3) ))
 *
 *     fp4_swiglu_oai_gate(x)        swish of min(x, 7), of slope 1.702
 *     fp4_swiglu_oai_up(act, up)    act * (up within +-7, plus 1)
 *
 * The exponential of a C library and that of a GPU differ in their last bits, which would make a
 * kernel that ends in codes incomparable with anything. These are made of additions,
 * multiplications, divisions and fused multiply-adds, each rounded to nearest even.
 *
 * How e^x is reached: x = (n + f) * ln 2 with an integer n and |f| <= 1/2, so e^x = 2^n * 2^f.
 * Adding 1.5 * 2^23 to x * log2(e) rounds it to n, which then stands in the low bits of the sum;
 * 2^f is a polynomial of degree 5 (largest relative error 1.1e-7, none at 0); 2^n is added to its
 * exponent.
 *
 * tanh(y) = 1 - 2 / (1 + e^2y), so GELU is x / (1 + e^-2y): SiLU with another exponent.
 */
#ifndef FP4_ACTIVATION_H
#define FP4_ACTIVATION_H

#include <fp4/bits.h>

/** Where e^x ends: its exponent is that of a normal float up to here. Of 1 + e^-x nothing but 1 is
    left long before. */
#define FP4_EXP_END 87.0f

/* e^x for |x| <= 87; for NaN anything. */
FP4_HD float fp4_exp_(float x)
{
    const float rounder = 12582912.0f; /* 1.5 * 2^23 */
    const float log2_e = 1.44269502f;
    const float sum = fp4_fma_rn(x, log2_e, rounder);
    const float f = fp4_fma_rn(x, log2_e, -fp4_add_rn(sum, -rounder));
    float p = 0.00132647273f;

    p = fp4_fma_rn(p, f, 0.00967151299f);
    p = fp4_fma_rn(p, f, 0.0555073358f);
    p = fp4_fma_rn(p, f, 0.240222424f);
    p = fp4_fma_rn(p, f, 0.693147004f);
    p = fp4_fma_rn(p, f, 1.0f);
    return fp4_bits_f32(fp4_f32_bits(p) + (fp4_f32_bits(sum) << 23));
}

/* The larger of x and low, NaN where x is NaN. */
FP4_HD float fp4_at_least_(float x, float low)
{
    return x < low ? low : x;
}

/**
 * e^x, for a softmax and for activations that are not here.
 *
 * range    to within 1.5e-6 of its value for |x| <= 87, 1 at 0; beyond, where it is the square of
 *          e^(x/2), to within 3e-6 and what rounding to a subnormal costs. Infinite from 88.73 on,
 *          0 below -104; NaN of NaN.
 */
FP4_HD float fp4_exp(float x)
{
    const float end = 2.0f * FP4_EXP_END;
    const float bounded = fp4_min(fp4_at_least_(x, -end), end);
    const int is_near = x >= -FP4_EXP_END && x <= FP4_EXP_END;
    const float y = fp4_exp_(is_near ? x : fp4_mul_rn(bounded, 0.5f));

    return is_near ? y : fp4_is_nan(x) ? x : fp4_mul_rn(y, y);
}

/* 1 + e^x, for x beyond +-87 what it is there; for NaN anything but NaN. */
FP4_HD float fp4_one_plus_exp_(float x)
{
    const float bounded = fp4_min(fp4_at_least_(x, -FP4_EXP_END), FP4_EXP_END);
    return fp4_fma_rn(fp4_exp_(bounded), 1.0f, 1.0f);
}

/**
 * SiLU, also called swish: x / (1 + e^-x).
 *
 * range    to within 3e-7 of its value down to -5, 3e-6 down to -87; from there on, -inf included,
 *          what it is at -87: -1.4e-36, where the true value lies between that and 0.
 *          +inf gives +inf, NaN NaN.
 */
FP4_HD float fp4_silu(float x)
{
    const float a = fp4_at_least_(x, -FP4_EXP_END);
    return fp4_div_rn(a, fp4_one_plus_exp_(-a));
}

/**
 * Swish with a slope: x * sigmoid(b x) = x / (1 + e^(-b x)). QuickGELU has b = 1.702, SiLU 1, with
 * the same bits as fp4_silu.
 *
 * range    b: positive, finite; b * x is rounded. To within 1e-6 of its value down to b * x = -5,
 *          1e-5 down to -87; from there on, -inf included, -1.4e-36. +inf gives +inf, NaN NaN.
 */
FP4_HD float fp4_swish(float x, float b)
{
    const float y = fp4_mul_rn(x, b);
    return fp4_div_rn(y < -FP4_EXP_END ? -FP4_EXP_END : x, fp4_one_plus_exp_(-y));
}

/* -2 sqrt(2/pi) * (1 + 0.044715 a^2): minus twice what tanh is taken of, over a. */
FP4_HD float fp4_gelu_slope_(float a)
{
    return fp4_fma_rn(fp4_mul_rn(a, a), -0.0713548139f, -1.59576917f);
}

/**
 * GELU as transformers have it: x/2 * (1 + tanh( sqrt(2/pi) * (x + 0.044715 x^3) )).
 *
 * range    to within 3e-6 of its value down to -5, to within 1e-12 in all below. +inf gives +inf,
 *          -inf -1.4e-36, NaN NaN.
 * source   "gelu_tanh" of FlashInfer, "gelu_pytorch_tanh" of transformers.
 */
FP4_HD float fp4_gelu_tanh(float x)
{
    const float a = fp4_at_least_(x, -FP4_EXP_END);
    return fp4_div_rn(a, fp4_one_plus_exp_(fp4_mul_rn(a, fp4_gelu_slope_(a))));
}

/** The constants of the gated activation of gpt-oss. */
#define FP4_SWIGLU_OAI_SLOPE 1.702f
#define FP4_SWIGLU_OAI_LIMIT 7.0f

/**
 * The gated activation of gpt-oss is fp4_swiglu_oai_up(fp4_swiglu_oai_gate(gate), up): swish of the
 * gate, which is bounded above, times up, which is bounded on both sides and has 1 added.
 *
 * range    of the gate: as fp4_swish, and of +inf what it is at 7. NaN of a NaN in either.
 * source   gpt-oss (swiglu), transformers (GptOssExperts), vLLM (swigluoai_and_mul), with gate and
 *          up interleaved.
 */
FP4_HD float fp4_swiglu_oai_gate(float x)
{
    return fp4_swish(x > FP4_SWIGLU_OAI_LIMIT ? FP4_SWIGLU_OAI_LIMIT : x, FP4_SWIGLU_OAI_SLOPE);
}

FP4_HD float fp4_swiglu_oai_up(float act, float up)
{
    const float bounded = fp4_clamp(up, -FP4_SWIGLU_OAI_LIMIT, FP4_SWIGLU_OAI_LIMIT);
    return fp4_mul_rn(act, fp4_add_rn(bounded, 1.0f));
}

#endif /* FP4_ACTIVATION_H */

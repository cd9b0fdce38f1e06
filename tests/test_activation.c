/*
 * fp4/activation.h: SiLU, swish and GELU against the same in double, with the accuracy that is
 * claimed there; what bounds the gate of gpt-oss; and fp4_fma_rn, on whose single rounding they and
 * every sum rest, against the C library's.
 */
#include <fp4/activation.h>

#include <math.h>

#include "check.h"
#include "host_util.h"

static double silu(double x)
{
    return x / (1 + exp(-x));
}

/* x/2 * (1 + tanh(y)) as x / (1 + e^-2y), which loses nothing where tanh nears -1. */
static double gelu_tanh(double x)
{
    const double y = 0.79788456080286535588 * (x + 0.044715 * x * x * x); /* sqrt(2/pi) */
    return x / (1 + exp(-2 * y));
}

/* Every 997th float between two of one sign, as a function of what is seen at it. */
static void sweep(float from, float to, void (*see)(float))
{
    for (uint32_t bits = host_bits_of(from); bits < host_bits_of(to); bits += 997) {
        see(host_bits(bits));
    }
    see(to);
}

static void check_exp(float x)
{
    const double exact = exp((double)x);
    CHECK(fabs((double)fp4_exp_(x) - exact) <= 1.5e-6 * exact, "e^%.9g is %.9g, not %.12g",
          (double)x, (double)fp4_exp_(x), exact);
}

/* Half of the smallest f32 on top: what rounding a subnormal costs. */
static void check_silu(float x)
{
    const double exact = silu((double)x), got = (double)fp4_silu(x);
    CHECK(fabs(got - exact) <= (x >= -5.0f ? 3e-7 : 3e-6) * fabs(exact) + 0x1p-150,
          "silu(%.9g) is %.9g, not %.12g", (double)x, got, exact);
}

/* Slopes of QuickGELU, and far from 1. */
static void check_swish(float x)
{
    static const float slopes[] = {1.702f, 0.01f, 300.0f};

    for (int i = 0; i < 3; i++) {
        const double b = (double)slopes[i], exact = (double)x / (1 + exp(-b * (double)x));
        const double got = (double)fp4_swish(x, slopes[i]), y = b * (double)x;
        CHECK(y <= -86.99 || fabs(got - exact) <= (y >= -5 ? 1e-6 : 1e-5) * fabs(exact) + 0x1p-150,
              "swish(%.9g, %g) is %.9g, not %.12g", (double)x, b, got, exact);
    }
    CHECK_EQ(host_bits_of(fp4_swish(x, 1.0f)), host_bits_of(fp4_silu(x)), "of slope 1: %.9g",
             (double)x);
}

static void check_gelu(float x)
{
    const double exact = gelu_tanh((double)x), got = (double)fp4_gelu_tanh(x);
    CHECK(fabs(got - exact) <= (x >= -5.0f ? 3e-6 * fabs(exact) : 1e-12) + 0x1p-150,
          "gelu_tanh(%.9g) is %.9g, not %.12g", (double)x, got, exact);
}

Test(activation, exp_is_near_the_exponential_and_exact_at_0)
{
    sweep(0.0f, 87.0f, check_exp);
    sweep(-0.0f, -87.0f, check_exp);
    CHECK_EQ(host_bits_of(fp4_exp_(0.0f)), 0x3f800000u, "e^0");
    CHECK_EQ(host_bits_of(fp4_exp_(-0.0f)), 0x3f800000u, "e^-0");
}

static void check_public_exp(float x)
{
    const double exact = exp((double)x), got = (double)fp4_exp(x);
    const int is_near = fabsf(x) <= 87.0f;
    CHECK((is_near && got == (double)fp4_exp_(x)) ||
              (!is_near && fabs(got - exact) <= 3e-6 * exact + 0x1p-149) ||
              (got == INFINITY && exact > 3.4028e38),
          "e^%.9g is %.9g, not %.12g", (double)x, got, exact);
}

Test(activation, exp_of_any_float_is_what_it_says)
{
    static const float far[] = {89.0f, 174.0f, 175.0f, 1e10f, FP4_F32_MAX, INFINITY};

    sweep(0.0f, 88.8f, check_public_exp);
    sweep(-0.0f, -200.0f, check_public_exp);
    for (int i = 0; i < 6; i++) {
        CHECK(fp4_exp(far[i]) == INFINITY, "e^%g", (double)far[i]);
        CHECK_EQ(host_bits_of(fp4_exp(-20.0f - far[i])), 0u, "e^%g", (double)(-20.0f - far[i]));
    }
    for (uint32_t bits = 0x7f800001u; bits < 0x80000000u; bits += 65521) {
        CHECK(isnan(fp4_exp(host_bits(bits))), "e^NaN, %08x", bits);
        CHECK(isnan(fp4_exp(host_bits(bits | 0x80000000u))), "e^-NaN, %08x", bits);
    }
}

Test(activation, silu_is_as_near_as_it_says)
{
    sweep(0.0f, FP4_F32_MAX, check_silu);
    sweep(-0.0f, -87.0f, check_silu);
    for (int i = 0; i < 8; i++) { /* from there on what it is at -87, where the value lies above */
        static const float below[] = {-87.0f, -87.1f, -88.0f,       -100.0f,
                                      -1e4f,  -1e30f, -FP4_F32_MAX, -INFINITY};
        CHECK_EQ(host_bits_of(fp4_silu(below[i])), host_bits_of(fp4_silu(-87.0f)), "%g",
                 (double)below[i]);
    }
    CHECK(fabs((double)fp4_silu(-87.0f) + 1.4e-36) < 0.05e-36, "at -87: %g",
          (double)fp4_silu(-87.0f));
}

static float quick_gelu(float x)
{
    return fp4_swish(x, 1.702f);
}

Test(activation, swish_is_as_near_as_it_says)
{
    sweep(0.0f, FP4_F32_MAX, check_swish);
    sweep(-0.0f, -FP4_F32_MAX, check_swish);
    CHECK(fabs((double)fp4_swish(-INFINITY, 1.702f) + 1.4e-36) < 0.05e-36, "at -inf: %g",
          (double)fp4_swish(-INFINITY, 1.702f));
    CHECK_EQ(host_bits_of(fp4_swish(-60.0f, 1.702f)), host_bits_of(fp4_silu(-87.0f)), "at -60");
}

/* One's own bits up to 7, and those of 7 from there on. */
static void check_oai_gate(float x)
{
    const float bounded = x > 7.0f ? 7.0f : x;
    CHECK_EQ(host_bits_of(fp4_swiglu_oai_gate(x)), host_bits_of(fp4_swish(bounded, 1.702f)),
             "of %.9g", (double)x);
}

Test(activation, swiglu_oai_bounds_gate_and_up)
{
    static const float ups[][2] = {{7.0f, 8.0f},      {0x1.cp2f + 0x1p-20f, 8.0f},
                                   {INFINITY, 8.0f},  {6.5f, 7.5f},
                                   {0.0f, 1.0f},      {-0.0f, 1.0f},
                                   {0x1p-149f, 1.0f}, {-1.0f, 0.0f},
                                   {-7.0f, -6.0f},    {-FP4_F32_MAX, -6.0f},
                                   {0x1p-24f, 1.0f},  {0x1.8p-23f, 1.0f + 0x1p-22f}};

    sweep(0.0f, INFINITY, check_oai_gate);
    sweep(-0.0f, -INFINITY, check_oai_gate);
    for (size_t i = 0; i < sizeof ups / sizeof ups[0]; i++) {
        CHECK_EQ(host_bits_of(fp4_swiglu_oai_up(0.75f, ups[i][0])), host_bits_of(0.75f * ups[i][1]),
                 "up %a", (double)ups[i][0]);
    }
    CHECK(isnan(fp4_swiglu_oai_up(0.0f, NAN)) && isnan(fp4_swiglu_oai_up(NAN, -1.0f)), "NaN");
    CHECK_EQ(host_bits_of(fp4_swiglu_oai_up(-2.0f, -1.0f)), 0x80000000u, "-2 of -1");
    CHECK(isnan(fp4_swiglu_oai_gate(NAN)), "gate NaN");
}

Test(activation, gelu_is_as_near_as_it_says)
{
    sweep(0.0f, FP4_F32_MAX, check_gelu);
    sweep(-0.0f, -FP4_F32_MAX, check_gelu);
    CHECK(fabs((double)fp4_gelu_tanh(-INFINITY) + 1.4e-36) < 0.05e-36, "at -inf: %g",
          (double)fp4_gelu_tanh(-INFINITY));
}

Test(activation, specials_are_what_they_say)
{
    static float (*const functions[])(float) = {fp4_silu, fp4_gelu_tanh, quick_gelu};

    for (int i = 0; i < 3; i++) {
        CHECK_EQ(host_bits_of(functions[i](0.0f)), 0u, "function %d of 0", i);
        CHECK_EQ(host_bits_of(functions[i](-0.0f)), 0x80000000u, "function %d of -0", i);
        CHECK(functions[i](INFINITY) == INFINITY, "function %d of inf", i);
        for (int n = 0; n < 4; n++) {
            static const uint32_t nans[] = {0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu};
            CHECK(isnan(functions[i](host_bits(nans[n]))), "function %d of NaN %08x", i, nans[n]);
        }
        for (uint32_t bits = 1; bits < 0x00800000u; bits += 4099) { /* half of a subnormal */
            const float x = host_bits(bits);
            CHECK(fabs((double)functions[i](x) - (double)x / 2) <= 0x1p-149, "function %d of %g", i,
                  (double)x);
        }
    }
}

Test(activation, positive_inputs_give_ever_larger_values_up_to_their_own)
{
    static float (*const functions[])(float) = {fp4_silu, fp4_gelu_tanh};

    for (int i = 0; i < 2; i++) {
        float last = 0;
        for (uint32_t bits = 0x30000000u; bits < 0x7f800000u; bits += 9973) {
            const float x = host_bits(bits), value = functions[i](x);
            CHECK(value > last && value <= x, "function %d of %.9g is %.9g, after %.9g", i,
                  (double)x, (double)value, (double)last);
            last = value;
        }
        CHECK_EQ(host_bits_of(functions[i](100.0f)), host_bits_of(100.0f), "function %d", i);
    }
}

/* ---------------------------------------------------------------- fma */

static void check_fma(float a, float b, float c)
{
    const float got = fp4_fma_rn(a, b, c), expected = fmaf(a, b, c);
    CHECK(isnan(expected) ? isnan(got) : host_bits_of(got) == host_bits_of(expected),
          "%a * %a + %a is %a, not %a", (double)a, (double)b, (double)c, (double)got,
          (double)expected);
}

Test(activation, fma_rounds_once_whatever_the_bits)
{
    uint64_t state = 5;

    for (int i = 0; i < 1000000; i++) {
        const float a = host_bits(host_random(&state)), b = host_bits(host_random(&state));
        check_fma(a, b, host_bits(host_random(&state)));
    }
    for (int i = 0; i < 1000000; i++) { /* c within 2^30 of the product, few bits in all */
        const uint32_t mask = 0xffffffffu << host_below(&state, 24);
        const float a = host_bits((host_random(&state) & 0x87ffffffu & mask) | 0x38000000u);
        const float b = host_bits((host_random(&state) & 0x87ffffffu & mask) | 0x38000000u);
        const double c = (double)(a * b) * oracle_power((int)host_below(&state, 60) - 30);
        check_fma(a, b, (float)(host_random(&state) & 1u ? -c : c));
    }
}

Test(activation, fma_rounds_ties_and_cancellations_once)
{
    uint64_t state = 6;

    for (int i = 0; i < 300000; i++) {
        /* a * b is an odd multiple of half an ulp of the sum, or that and a sliver of c */
        const uint32_t odd = host_random(&state) >> 9 | 1u;
        const float a = host_bits(0x3f800000u | (host_random(&state) >> 9));
        const float b = host_bits(0x3f800000u | (host_random(&state) >> 9));
        const float tie = (float)odd * 0x1p-23f,
                    unit = host_below(&state, 2) ? 0x1p-24f : 0x1.8p-23f;
        check_fma(tie, unit, 1.0f);
        check_fma(1.0f, unit, tie + 1.0f);
        check_fma(a, b, -(a * b)); /* the rounding error of the product, exactly */
        check_fma(a, b, -host_bits(host_bits_of(a * b) + host_below(&state, 3) - 1u));
        check_fma(a, unit, host_bits(host_bits_of(a) + 1u));
        check_fma(a, 0x1p-126f, b * 0x1p-140f);             /* in the subnormals */
        check_fma(a * 0x1p-70f, b * 0x1p-79f, 0x1p-149f);   /* about half of the smallest */
        check_fma(a * 0x1p64f, b * 0x1p63f, -b * 0x1p126f); /* about the largest */
    }
    check_fma(INFINITY, 0.0f, 1.0f);
    check_fma(INFINITY, 1.0f, -INFINITY);
    check_fma(INFINITY, 1.0f, 5.0f);
    check_fma(FP4_F32_MAX, FP4_F32_MAX, -INFINITY);
    check_fma(0.0f, -1.0f, 0.0f);
    check_fma(0.0f, -1.0f, -0.0f);
    check_fma(-1.0f, 1.0f, 1.0f);
}

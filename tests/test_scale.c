/* fp4/scale.h: from an amax to the scale byte and the encode factor, for every format and rule. */
#include <fp4/e2m1.h>
#include <fp4/scale.h>

#include "check.h"
#include "oracle.h"

/* The formulas once more, in long double: a product of two floats is exact there, a quotient has so
   many more bits that rounding it to f32 gives the correctly rounded quotient, and fl() is the only
   rounding. */
static float fl(long double x)
{
    return (float)x;
}

static float at_most_flt_max(float x)
{
    return x > FP4_F32_MAX ? FP4_F32_MAX : x;
}

static uint32_t u32(float x)
{
    return fp4_f32_bits(x);
}

static float f32(uint32_t bits)
{
    return fp4_bits_f32(bits);
}

static fp4_scale nvfp4_expected(float amax, float global_enc)
{
    const float to_e4m3 = fl((long double)global_enc * fl(1.0L / 6));
    const float target = at_most_flt_max(fl((long double)amax * to_e4m3));
    const unsigned code = oracle_nearest(oracle_e4m3(), oracle_magnitude(u32(target)));
    const float global_dec = fl(1.0L / global_enc);
    const float dec = fl((long double)oracle_value(code, 3, 7) * global_dec);
    fp4_scale scale;

    scale.bits = (uint8_t)code;
    /* 1/0 is over FLT_MAX, and so is, by C's fmin, the NaN of a zero byte and an infinite dec */
    scale.enc = dec > 0 ? at_most_flt_max(fl(1.0L / dec)) : FP4_F32_MAX;
    return scale;
}

static void check_nvfp4(float amax, float global_enc)
{
    const fp4_scale got = fp4_nvfp4_scale(amax, global_enc);
    const fp4_scale expected = nvfp4_expected(amax, global_enc);

    CHECK_EQ(got.bits, expected.bits, "byte of amax %08x, global_enc %08x", u32(amax),
             u32(global_enc));
    CHECK_EQ(u32(got.enc), u32(expected.enc), "enc of amax %08x, global_enc %08x", u32(amax),
             u32(global_enc));
}

/* The next of a fixed sequence of pseudo-random 32-bit numbers. */
static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

/* A positive finite float of any exponent, subnormals included. */
static float random_positive(uint64_t *state)
{
    return f32(1u + next_random(state) % 0x7f7fffffu);
}

Test(scale, constants_are_the_correctly_rounded_ones)
{
    CHECK_EQ(u32(FP4_E2M1_MAX_RECIPROCAL), u32(fl(1.0L / 6)), "1/6");
    CHECK_EQ(u32(FP4_E2M1_MAX_RECIPROCAL), 0x3e2aaaabu, "1/6");
    CHECK_EQ(u32(FP4_E4M3_MAX_RECIPROCAL), u32(fl(1.0L / 448)), "1/448");
    CHECK_EQ(u32(FP4_E4M3_MAX_RECIPROCAL), 0x3b124925u, "1/448");
    CHECK_EQ(u32(FP4_F32_MAX), 0x7f7fffffu, "FLT_MAX");
    CHECK(FP4_E2M1_MAX == 6.0f && FP4_E4M3_MAX == 448.0f, "largest elements");
}

/* ---------------------------------------------------------------- NVFP4: the second level */

Test(scale, global_enc_maps_the_amax_onto_2688)
{
    static const struct {
        uint32_t amax, enc;
    } known[] = {
        {0x45280000u, 0x3f800000u}, /* 2688 -> 1 */
        {0x3f800000u, 0x45280000u}, /* 1 -> 2688 */
        {0x44a80000u, 0x40000000u}, /* 1344 -> 2 */
        {0x00000000u, 0x3f800000u}, /* a tensor of zeros: 1 */
        {0x7f800000u, 0x3f800000u}, /* an infinity in it: 1 */
        {0x7fc00000u, 0x3f800000u}, /* NaN: 1 */
        {0x00000001u, 0x7f7fffffu}, /* subnormal: the quotient overflows, FLT_MAX */
        {0x05000000u, 0x7f7fffffu}, /* 2^-117: overflows */
        {0x7f7fffffu, 0x05280001u}, /* FLT_MAX: 2688 * 2^-128, times 1 + 2^-24, rounds up */
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        CHECK_EQ(u32(fp4_nvfp4_global_enc(f32(known[i].amax))), known[i].enc, "amax %08x",
                 known[i].amax);
    }
    for (uint32_t amax = 1; amax < 0x7f800000u; amax += 0x3039u) {
        CHECK_EQ(u32(fp4_nvfp4_global_enc(f32(amax))),
                 u32(at_most_flt_max(fl(2688.0L / f32(amax)))), "amax %08x", amax);
    }
}

Test(scale, global_dec_is_the_reciprocal_and_turns_round)
{
    uint64_t state = 1;

    CHECK_EQ(u32(fp4_nvfp4_global_dec(2688.0f)), u32(fl(1.0L / 2688)), "1 / 2688");
    CHECK_EQ(u32(fp4_nvfp4_global_dec(FP4_F32_MAX)), 0x00200000u, "2^-128, a subnormal");
    CHECK_EQ(u32(fp4_nvfp4_global_enc_from_dec(1.0f / 2688.0f)), u32(2688.0f), "2688 again");
    CHECK_EQ(u32(fp4_nvfp4_global_enc_from_dec(f32(1u))), 0x7f7fffffu, "overflow stays finite");
    CHECK_EQ(u32(fp4_nvfp4_global_enc_from_dec(f32(0x00200000u))), 0x7f7fffffu, "2^-128");
    CHECK_EQ(u32(fp4_nvfp4_global_enc_from_dec(FP4_F32_MAX)), 0x00200000u, "FLT_MAX");
    for (int i = 0; i < 100000; i++) {
        const float x = random_positive(&state);
        CHECK_EQ(u32(fp4_nvfp4_global_dec(x)), u32(fl(1.0L / x)), "%08x", u32(x));
        CHECK_EQ(u32(fp4_nvfp4_global_enc_from_dec(x)), u32(at_most_flt_max(fl(1.0L / x))), "%08x",
                 u32(x));
    }
}

Test(scale, token_scales)
{
    static const float tensor_dec = 1.0f / 2688.0f;
    uint64_t state = 2;

    /* a row of ones, zeros, an infinity, the smallest, the largest */
    CHECK_EQ(u32(fp4_nvfp4_token_enc(1.0f, tensor_dec)), u32(2688.0f), "ones");
    CHECK_EQ(u32(fp4_nvfp4_token_dec(1.0f, 2688.0f)), u32(tensor_dec), "ones");
    CHECK_EQ(u32(fp4_nvfp4_token_enc(0.0f, tensor_dec)), 0x7f7fffffu, "zeros");
    CHECK_EQ(u32(fp4_nvfp4_token_dec(0.0f, FP4_F32_MAX)), 0u, "zeros decode by 0");
    CHECK_EQ(u32(fp4_nvfp4_token_enc(f32(0x7f800000u), tensor_dec)), u32(1.0f), "infinity");
    CHECK_EQ(u32(fp4_nvfp4_token_dec(f32(0x7f800000u), 1.0f)), u32(1.0f), "infinity");
    CHECK_EQ(u32(fp4_nvfp4_token_enc(f32(1u), tensor_dec)), 0x7f7fffffu, "smallest");
    CHECK_EQ(u32(fp4_nvfp4_token_dec(f32(1u), FP4_F32_MAX)), 0x00200000u, "smallest: 2^-128");
    CHECK_EQ(u32(fp4_nvfp4_token_enc(FP4_F32_MAX, FP4_F32_MAX)), u32(1.0f),
             "1 where the quotient underflows");
    for (int i = 0; i < 100000; i++) {
        const float amax = random_positive(&state), base_dec = random_positive(&state);
        const float base_enc = fl(1.0L / base_dec);
        const float enc = base_enc > FP4_F32_MAX
                              ? FP4_F32_MAX
                              : at_most_flt_max(fl((long double)base_enc / amax));
        CHECK_EQ(u32(fp4_nvfp4_token_enc(amax, base_dec)), u32(enc == 0 ? 1.0f : enc),
                 "amax %08x, base_dec %08x", u32(amax), u32(base_dec));
        CHECK_EQ(u32(fp4_nvfp4_token_dec(amax, base_dec)), u32(base_enc), "amax %08x, enc %08x",
                 u32(amax), u32(base_dec));
    }
}

/* ---------------------------------------------------------------- NVFP4: blocks */

Test(scale, nvfp4_known_blocks)
{
    static const struct {
        float amax, global_enc;
        uint8_t bits;
        float enc;
    } known[] = {
        {6.0f, 1.0f, 0x38, 1.0f},
        {3.0f, 1.0f, 0x30, 2.0f},
        {12.0f, 1.0f, 0x40, 0.5f},
        {2688.0f, 1.0f, 0x7e, 1.0f / 448.0f},
        {1.0f, 2688.0f, 0x7e, 6.0f},
        /* 5.5 / 6 = 0.9167 lies between 0.875 and 0.9375 */
        {5.5f, 1.0f, 0x37, 1.0f / 0.9375f},
        /* saturation: 3000 / 6 = 500; twice and 2^30 times what the global scale was made for */
        {3000.0f, 1.0f, 0x7e, 1.0f / 448.0f},
        {5376.0f, 1.0f, 0x7e, 1.0f / 448.0f},
        {1073741824.0f, 2688.0f, 0x7e, 6.0f},
        {FP4_F32_MAX, FP4_F32_MAX, 0x7e, 1.70141183460469231732e38f / 224.0f}, /* 2^128 / 448 */
        /* subnormal scale bytes: m * 2^-9 */
        {6.0f / 512.0f, 1.0f, 0x01, 512.0f},
        {18.0f / 512.0f, 1.0f, 0x03, 512.0f / 3.0f},
        {42.0f / 512.0f, 1.0f, 0x07, 512.0f / 7.0f},
        {48.0f / 512.0f, 1.0f, 0x08, 64.0f},
        /* half of the smallest is a tie, which goes to 0; beyond it, the smallest */
        {6.0f / 1024.0f, 1.0f, 0x00, FP4_F32_MAX},
        {6.001f / 1024.0f, 1.0f, 0x01, 512.0f},
        /* zeros */
        {0.0f, 1.0f, 0x00, FP4_F32_MAX},
        {0.0f, FP4_F32_MAX, 0x00, FP4_F32_MAX},
        {0.0f, 1e-38f, 0x00, FP4_F32_MAX},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const fp4_scale got = fp4_nvfp4_scale(known[i].amax, known[i].global_enc);
        CHECK_EQ(got.bits, known[i].bits, "byte of amax %g, global_enc %g", (double)known[i].amax,
                 (double)known[i].global_enc);
        CHECK_EQ(u32(got.enc), u32(known[i].enc), "enc of amax %g, global_enc %g",
                 (double)known[i].amax, (double)known[i].global_enc);
    }
    CHECK_EQ(fp4_nvfp4_scale(f32(0x7f800000u), 1.0f).bits, 0x7eu, "infinity");
    CHECK_EQ(u32(fp4_nvfp4_scale(f32(0x7f800000u), 1.0f).enc), u32(1.0f / 448.0f), "infinity");
}

Test(scale, nvfp4_equals_the_formula_in_long_double)
{
    static const float global_encs[] = {1.0f, 2688.0f, 0.37f, 1e-30f, 1e30f, 1e-40f, FP4_F32_MAX};
    uint64_t state = 3;

    for (int g = 0; g < 7; g++) {
        /* every exponent, mantissas on both sides of where the byte changes */
        for (uint32_t amax = 0; amax <= 0x7f800000u; amax += 0x00011111u) {
            check_nvfp4(f32(amax), global_encs[g]);
        }
    }
    for (int i = 0; i < 300000; i++) {
        const float tensor_amax = random_positive(&state);
        const float fraction = (float)(next_random(&state) >> 8) / 16777216.0f;
        check_nvfp4(tensor_amax * fraction, fp4_nvfp4_global_enc(tensor_amax));
        check_nvfp4(random_positive(&state), tensor_amax);
    }
}

Test(scale, nvfp4_rounds_in_the_stated_order)
{
    /* Another association of amax * global_enc / 6 differs in the last bit, which shows in the byte
       only beside a midpoint: the amax that lands on one, and its neighbours. */
    uint64_t state = 5;

    for (int i = 0; i < 3000; i++) {
        const float enc =
            fp4_nvfp4_global_enc(f32(0x10000000u + next_random(&state) % 0x60000000u));
        for (uint32_t code = 0; code < 0x7eu; code++) {
            const double middle = (oracle_value(code, 3, 7) + oracle_value(code + 1u, 3, 7)) / 2;
            const uint32_t at = u32((float)(6 * middle / (double)enc));
            for (uint32_t ulp = 0; ulp < 5; ulp++) {
                check_nvfp4(f32(at + ulp - 2u), enc);
            }
        }
    }
}

Test(scale, nvfp4_gives_every_byte_where_it_should)
{
    /* with global_enc 1 the byte is e4m3(amax / 6): take amax = 6 times a byte's value, 6 times the
       midpoint to the next, and either side of the midpoint */
    for (uint32_t code = 0; code < 0x7eu; code++) {
        const double below = oracle_value(code, 3, 7), above = oracle_value(code + 1u, 3, 7);
        const float at = (float)(6 * below), middle = (float)(3 * (below + above));
        CHECK_EQ(fp4_nvfp4_scale(at, 1.0f).bits, code, "amax %g", (double)at);
        CHECK_EQ(fp4_nvfp4_scale(middle * 0.999999f, 1.0f).bits, code, "under %g", (double)middle);
        CHECK_EQ(fp4_nvfp4_scale(middle, 1.0f).bits, code + (code & 1u), "at %g", (double)middle);
        CHECK_EQ(fp4_nvfp4_scale(middle * 1.000001f, 1.0f).bits, code + 1u, "over %g",
                 (double)middle);
    }
}

Test(scale, the_block_with_the_tensors_amax_uses_the_whole_range)
{
    /* its byte is 448 and its largest element 6, from where 2688 / amax is finite on; below, the
       global scale stops at FLT_MAX */
    for (uint32_t amax = 0x04f80000u; amax < 0x7f800000u; amax += 0x7777u) {
        const float enc = fp4_nvfp4_global_enc(f32(amax));
        const fp4_scale scale = fp4_nvfp4_scale(f32(amax), enc);
        if (enc < FP4_F32_MAX) {
            CHECK_EQ(scale.bits, 0x7eu, "amax %08x", amax);
            CHECK_EQ(fp4_f32_to_e2m1(f32(amax) * scale.enc), 7u, "amax %08x", amax);
        }
        CHECK_EQ(fp4_nvfp4_scale(f32(amax) * 1.5f, enc).bits & 0x80u, 0u, "amax %08x", amax);
        CHECK(fp4_nvfp4_scale(f32(amax) * 1.5f, enc).bits <= 0x7eu, "amax %08x: NaN byte", amax);
    }
}

/* What becomes of an element: decode(code) * scale * global_dec, in double. */
static double nvfp4_round_trip(float x, fp4_scale scale, float global_enc)
{
    const float value = fp4_e2m1_to_f32(fp4_f32_to_e2m1(x * scale.enc));
    return (double)value * (double)fp4_e4m3_to_f32(scale.bits) / (double)global_enc;
}

Test(scale, nvfp4_error_is_within_half_the_largest_step)
{
    uint64_t state = 4;

    for (int i = 0; i < 200000; i++) {
        const float tensor_amax = f32(0x10000000u + next_random(&state) % 0x60000000u);
        const float enc = fp4_nvfp4_global_enc(tensor_amax);
        const float amax = tensor_amax * (float)(1 + next_random(&state) % 1000u) / 1000.0f;
        const fp4_scale scale = fp4_nvfp4_scale(amax, enc);
        const float x = amax * ((float)(next_random(&state) >> 7) / 16777216.0f - 1.0f);
        const double step = 2.0 * (double)fp4_e4m3_to_f32(scale.bits) / (double)enc;
        const double error = nvfp4_round_trip(x, scale, enc) - (double)x;
        if (scale.bits >= 8u) { /* a normal byte is within 1/16 of what was wanted */
            CHECK(error <= step * 0.500001 && error >= -step * 0.500001,
                  "x %g, amax %g, tensor %g: off by %g, step %g", (double)x, (double)amax,
                  (double)tensor_amax, error, step);
        }
    }
}

Test(scale, zero_and_tiny_blocks_have_no_nan_and_no_infinity)
{
    static const float global_encs[] = {1.0f, 2688.0f, 1e-38f, 1e-40f, FP4_F32_MAX};

    for (int g = 0; g < 5; g++) {
        for (uint32_t amax = 0; amax < 0x05800000u;
             amax = amax < 64u ? amax + 1u : amax + 0x2345u) {
            const fp4_scale scale = fp4_nvfp4_scale(f32(amax), global_encs[g]);
            const float own_enc = fp4_nvfp4_global_enc(f32(amax));
            const fp4_scale own = fp4_nvfp4_scale(f32(amax), own_enc);
            CHECK(scale.bits <= 0x7eu && own.bits <= 0x7eu, "amax %08x", amax);
            CHECK(scale.enc > 0 && scale.enc <= FP4_F32_MAX, "amax %08x", amax);
            CHECK(own.enc > 0 && own.enc <= FP4_F32_MAX, "amax %08x", amax);
            CHECK_EQ(fp4_f32_to_e2m1(0.0f * scale.enc), 0x0u, "zero in a block of %08x", amax);
            CHECK_EQ(fp4_f32_to_e2m1(-0.0f * scale.enc), 0x8u, "-0 in a block of %08x", amax);
        }
    }
    /* the byte is 0 while elements are not: the factor is FLT_MAX, they saturate and decode to 0 */
    CHECK_EQ(fp4_nvfp4_scale(1e-20f, 1.0f).bits, 0u, "underflow");
    CHECK_EQ(u32(fp4_nvfp4_scale(1e-20f, 1.0f).enc), 0x7f7fffffu, "underflow");
    CHECK_EQ(fp4_f32_to_e2m1(1e-20f * fp4_nvfp4_scale(1e-20f, 1.0f).enc), 7u, "saturates");
    CHECK_EQ(fp4_f32_to_e2m1(1e-38f * fp4_nvfp4_scale(1e-38f, 1.0f).enc), 5u, "3.4 is not 6");
    CHECK(nvfp4_round_trip(1e-20f, fp4_nvfp4_scale(1e-20f, 1.0f), 1.0f) == 0, "decodes to 0");
}

Test(scale, nan_and_infinite_elements)
{
    const float inf = f32(0x7f800000u), nan = f32(0xffc00001u);
    const fp4_scale of_inf = fp4_nvfp4_scale(inf, 2688.0f), of_nans = fp4_nvfp4_scale(0.0f, 1.0f);

    /* an infinity is the amax: 448, itself 6, and what is finite zero or nearly so */
    CHECK_EQ(of_inf.bits, 0x7eu, "infinity");
    CHECK_EQ(fp4_f32_to_e2m1(inf * of_inf.enc), 0x7u, "infinity");
    CHECK_EQ(fp4_f32_to_e2m1(-inf * of_inf.enc), 0xfu, "-infinity");
    CHECK_EQ(fp4_mxfp4_scale(inf).bits, 254u, "MXFP4 infinity");
    CHECK_EQ(fp4_f32_to_e2m1(inf * fp4_mxfp4_scale(inf).enc), 0x7u, "MXFP4 infinity");
    CHECK_EQ(fp4_f32_to_e2m1(1e30f * fp4_mxfp4_scale(inf).enc), 0x0u, "MXFP4, beside it");
    CHECK_EQ(fp4_mxfp8_scale(inf).bits, 254u, "MXFP8 infinity");
    /* NaNs leave the amax alone: a block of nothing else is a block of zeros, whose codes are +6 */
    CHECK_EQ(fp4_amax_key(nan), 0u, "NaN");
    CHECK_EQ(fp4_f32_to_e2m1(nan * of_nans.enc), 0x7u, "a block of NaNs");
    CHECK_EQ(of_nans.bits, 0u, "a block of NaNs");
    /* torchao's rules say that such a block is NaN */
    CHECK_EQ(fp4_mxfp4_scale_floor(inf).bits, 255u, "floor");
    CHECK_EQ(fp4_mxfp4_scale_ceil(inf).bits, 255u, "ceil");
    CHECK_EQ(fp4_mxfp4_scale_even(inf).bits, 255u, "even");
    CHECK_EQ(fp4_mxfp8_scale_floor(inf).bits, 255u, "floor");
    CHECK_EQ(fp4_mxfp8_scale_ceil(inf).bits, 255u, "ceil");
    CHECK_EQ(fp4_mxfp8_scale_even(inf).bits, 255u, "even");
}

/* ---------------------------------------------------------------- MXFP4 and MXFP8 */

typedef fp4_scale (*mx_rule)(float);

/* up, floor, ceil, even */
static const mx_rule mxfp4_rules[] = {fp4_mxfp4_scale, fp4_mxfp4_scale_floor, fp4_mxfp4_scale_ceil,
                                      fp4_mxfp4_scale_even};
static const mx_rule mxfp8_rules[] = {fp4_mxfp8_scale, fp4_mxfp8_scale_floor, fp4_mxfp8_scale_ceil,
                                      fp4_mxfp8_scale_even};
static const char *const rule_names[] = {"up", "floor", "ceil", "even"};

Test(scale, mx_known_blocks)
{
    static const struct {
        float amax;
        uint8_t mxfp4[4], mxfp8[4]; /* up, floor, ceil, even */
    } known[] = {
        {0.0f, {0, 0, 0, 0}, {0, 0, 0, 0}},
        {1.0f, {125, 125, 125, 125}, {119, 119, 119, 119}},
        {1.2f, {125, 125, 126, 125}, {119, 119, 120, 119}},
        {1.42f, {125, 125, 126, 125}, {119, 119, 120, 119}},
        {1.5f, {125, 125, 126, 125}, {119, 119, 120, 119}},
        {1.5000001f, {126, 125, 126, 125}, {119, 119, 120, 119}},
        {1.7499f, {126, 125, 126, 125}, {119, 119, 120, 119}},
        {1.75f, {126, 125, 126, 126}, {119, 119, 120, 119}},
        {1.7500001f, {126, 125, 126, 126}, {120, 119, 120, 119}},
        {1.9374999f, {126, 125, 126, 126}, {120, 119, 120, 119}},
        {1.9375f, {126, 125, 126, 126}, {120, 119, 120, 120}},
        {2.0f, {126, 126, 126, 126}, {120, 120, 120, 120}},
        {2.7f, {126, 126, 127, 126}, {120, 120, 121, 120}},
        {3.0f, {126, 126, 127, 126}, {120, 120, 121, 120}},
        {3.0000002f, {127, 126, 127, 126}, {120, 120, 121, 120}},
        {5.5f, {127, 127, 128, 127}, {121, 121, 122, 121}},
        {6.0f, {127, 127, 128, 127}, {121, 121, 122, 121}},
        {6.0000005f, {128, 127, 128, 127}, {121, 121, 122, 121}},
        {7.0f, {128, 127, 128, 128}, {121, 121, 122, 121}},
        {7.9999995f, {128, 127, 128, 128}, {122, 121, 122, 122}},
        {448.0f, {134, 133, 134, 134}, {127, 127, 128, 127}},
        {448.00003f, {134, 133, 134, 134}, {128, 127, 128, 127}},
        /* the largest: FLT_MAX / 6 and / 448 are a little under 2^126 and 2^120 */
        {FP4_F32_MAX, {253, 252, 253, 253}, {247, 246, 247, 247}},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        for (int rule = 0; rule < 4; rule++) {
            const fp4_scale mxfp4 = mxfp4_rules[rule](known[i].amax);
            const fp4_scale mxfp8 = mxfp8_rules[rule](known[i].amax);
            CHECK_EQ(mxfp4.bits, known[i].mxfp4[rule], "MXFP4 %s %.9g", rule_names[rule],
                     (double)known[i].amax);
            CHECK_EQ(mxfp8.bits, known[i].mxfp8[rule], "MXFP8 %s %.9g", rule_names[rule],
                     (double)known[i].amax);
            CHECK((double)mxfp4.enc == oracle_power(127 - mxfp4.bits), "MXFP4 %s %.9g",
                  rule_names[rule], (double)known[i].amax);
            CHECK((double)mxfp8.enc == oracle_power(127 - mxfp8.bits), "MXFP8 %s %.9g",
                  rule_names[rule], (double)known[i].amax);
        }
    }
}

Test(scale, mx_amax_lands_where_each_rule_says)
{
    /* amax / scale for every mantissa, from the definition of each rule: `up` takes the smallest
       scale that does not clip, `floor` leaves the power of two below amax on the element's largest
       power, `ceil` the power above, `even` moves on where amax rounds up to the next power */
    static const struct {
        double over, from, to; /* over < r, or from <= r; r <= to, or r < to where from is set */
    } mxfp4[] = {{3, 0, 6}, {0, 4, 8}, {2, 0, 4}, {0, 3.5, 7}},
      mxfp8[] = {{224, 0, 448}, {0, 256, 512}, {128, 0, 256}, {0, 248, 496}};
    static const uint32_t exponents[] = {12, 127, 254};

    for (int e = 0; e < 3; e++) {
        for (uint32_t mantissa = 0; mantissa < 0x800000u; mantissa += e == 1 ? 1u : 97u) {
            const float amax = f32(exponents[e] << 23 | mantissa);
            for (int rule = 0; rule < 4; rule++) {
                const double r4 = (double)amax * oracle_power(127 - mxfp4_rules[rule](amax).bits);
                const double r8 = (double)amax * oracle_power(127 - mxfp8_rules[rule](amax).bits);
                const int closed = mxfp4[rule].from == 0;
                CHECK(r4 > mxfp4[rule].over && r4 >= mxfp4[rule].from && r4 <= mxfp4[rule].to &&
                          (closed || r4 < mxfp4[rule].to),
                      "MXFP4 %s %08x: at %.9g", rule_names[rule], u32(amax), r4);
                CHECK(r8 > mxfp8[rule].over && r8 >= mxfp8[rule].from && r8 <= mxfp8[rule].to &&
                          (closed || r8 < mxfp8[rule].to),
                      "MXFP8 %s %08x: at %.9g", rule_names[rule], u32(amax), r8);
            }
        }
    }
}

Test(scale, mx_up_equals_its_formula_over_the_whole_range)
{
    /* every exponent, and below them the subnormals, where the product is rounded once more */
    for (uint32_t amax = 0; amax <= 0x7f800000u; amax += amax < 0x08000000u ? 0x0fffu : 0x7fffu) {
        const float by_6 = fl((long double)f32(amax) * fl(1.0L / 6));
        const float by_448 = fl((long double)f32(amax) * fl(1.0L / 448));
        CHECK_EQ(fp4_mxfp4_scale(f32(amax)).bits,
                 oracle_up(oracle_e8m0(), oracle_magnitude(u32(by_6))), "MXFP4 %08x", amax);
        CHECK_EQ(fp4_mxfp8_scale(f32(amax)).bits,
                 oracle_up(oracle_e8m0(), oracle_magnitude(u32(by_448))), "MXFP8 %08x", amax);
    }
}

Test(scale, mx_tiny_blocks_have_byte_zero)
{
    /* 6 * 2^-127 and 448 * 2^-127 are the largest that byte 0 takes without clipping */
    const float largest4 = (float)(6 * oracle_power(-127));
    const float largest8 = (float)(448 * oracle_power(-127));

    for (int rule = 0; rule < 4; rule++) {
        CHECK_EQ(mxfp4_rules[rule](f32(1u)).bits, 0u, "MXFP4 %s", rule_names[rule]);
        CHECK_EQ(mxfp4_rules[rule](f32(0x00400000u)).bits, 0u, "MXFP4 %s", rule_names[rule]);
        CHECK_EQ(u32(mxfp4_rules[rule](0.0f).enc), 0x7f000000u, "MXFP4 %s: 2^127",
                 rule_names[rule]);
        CHECK_EQ(mxfp8_rules[rule](f32(1u)).bits, 0u, "MXFP8 %s", rule_names[rule]);
        CHECK_EQ(u32(mxfp8_rules[rule](0.0f).enc), 0x7f000000u, "MXFP8 %s: 2^127",
                 rule_names[rule]);
    }
    CHECK_EQ(fp4_mxfp4_scale(largest4).bits, 0u, "6 * 2^-127");
    CHECK_EQ(fp4_mxfp4_scale(largest4 * 1.001f).bits, 1u, "over 6 * 2^-127");
    CHECK_EQ(fp4_f32_to_e2m1(largest4 * fp4_mxfp4_scale(largest4).enc), 7u, "6 * 2^-127");
    CHECK_EQ(fp4_mxfp8_scale(largest8).bits, 0u, "448 * 2^-127");
    CHECK_EQ(fp4_mxfp8_scale(largest8 * 1.001f).bits, 1u, "over 448 * 2^-127");
    CHECK_EQ(fp4_f32_to_e4m3(largest8 * fp4_mxfp8_scale(largest8).enc), 0x7eu, "448 * 2^-127");
}

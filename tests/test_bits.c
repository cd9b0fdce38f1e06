/* fp4/bits.h: bit casts, NaN, the amax key, the rounding shift. */
#include <fp4/bits.h>

#include "check.h"

#include <math.h>

Test(bits, round_trip_through_float)
{
    /* every sign, exponent and a spread of mantissas, signalling NaNs included */
    for (uint32_t high = 0; high < 0x10000u; high++) {
        static const uint32_t low[] = {0u, 1u, 0x7fffu, 0x8000u, 0xffffu};
        for (int i = 0; i < 5; i++) {
            const uint32_t bits = high << 16 | low[i];
            CHECK_EQ(fp4_f32_bits(fp4_bits_f32(bits)), bits, "bits %08x", bits);
        }
    }
    CHECK_EQ(fp4_f32_bits(1.0f), 0x3f800000u, "one");
    CHECK_EQ(fp4_f32_bits(-0.0f), 0x80000000u, "minus zero");
}

Test(bits, arithmetic_rounds_to_nearest_even)
{
    /* 1 + 2^-23 squared is 1 + 2^-22 + 2^-46: the last term is dropped.
       (1 + 2^-12)^2 = 1 + 2^-11 + 2^-24 is a tie, which goes to the even 1 + 2^-11. */
    CHECK_EQ(fp4_f32_bits(fp4_mul_rn(fp4_bits_f32(0x3f800001u), fp4_bits_f32(0x3f800001u))),
             0x3f800002u, "(1 + 2^-23)^2");
    CHECK_EQ(fp4_f32_bits(fp4_mul_rn(fp4_bits_f32(0x3f800800u), fp4_bits_f32(0x3f800800u))),
             0x3f801000u, "(1 + 2^-12)^2");
    /* 1/3 = 0.0101..b: the 24 bits 101010..1010 and the rest 1010.. above half, so up */
    CHECK_EQ(fp4_f32_bits(fp4_div_rn(1.0f, 3.0f)), 0x3eaaaaabu, "1 / 3");
    CHECK_EQ(fp4_f32_bits(fp4_div_rn(1.0f, 0.0f)), 0x7f800000u, "1 / 0");
    CHECK_EQ(fp4_f32_bits(fp4_mul_rn(fp4_bits_f32(1u), 0.5f)), 0u, "half of 2^-149 ties to zero");
    CHECK_EQ(fp4_f32_bits(fp4_mul_rn(fp4_bits_f32(3u), 0.5f)), 2u, "1.5 * 2^-149 ties to 2");
}

Test(bits, a_sum_of_a_product_rounds_twice_under_every_flag)
{
    /* (1 + 2^-12)^2 - (1 + 2^-11): the product rounds to 1 + 2^-11, the sum to 0. Fused into one
       operation, as gcc does it with -std=gnu17 -mfma, it would be 2^-24. */
    static volatile float v = 1.000244140625f, w = -1.00048828125f;

    CHECK_EQ(fp4_f32_bits(fp4_add_rn(fp4_mul_rn(v, v), w)), 0u, "v * v + w");
    CHECK_EQ(fp4_f32_bits(fp4_add_rn(w, fp4_mul_rn(v, v))), 0u, "w + v * v");
    CHECK_EQ(fp4_f32_bits(fp4_add_rn(1.0f, 5.9604644775390625e-8f)), 0x3f800000u, "1 + 2^-24 ties");
    CHECK_EQ(fp4_f32_bits(fp4_rcp_rn(3.0f)), 0x3eaaaaabu, "1 / 3");
    CHECK_EQ(fp4_f32_bits(fp4_rcp_rn(0.0f)), 0x7f800000u, "1 / 0");
}

Test(bits, min_and_max)
{
    const float nan = fp4_bits_f32(0x7fc00000u);

    CHECK(fp4_min(1.0f, 2.0f) == 1.0f && fp4_min(2.0f, 1.0f) == 1.0f, "smaller of 1 and 2");
    CHECK(fp4_min(fp4_bits_f32(0x7f800000u), 3.0f) == 3.0f, "smaller of infinity and 3");
    CHECK(fp4_min(nan, 3.0f) == 3.0f, "NaN gives the other");
    CHECK_EQ(fp4_min_u32(3u, 0xffffffffu), 3u, "integers are unsigned");
    CHECK_EQ(fp4_max_u32(3u, 0xffffffffu), 0xffffffffu, "integers are unsigned");
}

Test(bits, clamp_keeps_nan)
{
    CHECK_EQ(fp4_f32_bits(fp4_clamp(-9.0f, -7.0f, 5.0f)), fp4_f32_bits(-7.0f), "below");
    CHECK_EQ(fp4_f32_bits(fp4_clamp(9.0f, -7.0f, 5.0f)), fp4_f32_bits(5.0f), "above");
    CHECK_EQ(fp4_f32_bits(fp4_clamp(-0.0f, -7.0f, 5.0f)), 0x80000000u, "between");
    CHECK_EQ(fp4_f32_bits(fp4_clamp(INFINITY, -INFINITY, 5.0f)), fp4_f32_bits(5.0f), "infinity");
    CHECK_EQ(fp4_f32_bits(fp4_clamp(-0.0f, -7.0f, 0.0f)), 0x80000000u, "-0 at the upper end");
    CHECK_EQ(fp4_f32_bits(fp4_clamp(-0.0f, 0.0f, 5.0f)), 0x80000000u, "-0 at the lower end");
    CHECK(isnan(fp4_clamp(NAN, -7.0f, 5.0f)), "NaN");
}

Test(bits, nan_is_told_by_its_bits)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        const uint32_t infinity = sign << 31 | 0x7f800000u;
        CHECK(!fp4_is_nan(fp4_bits_f32(infinity)), "infinity");
        CHECK(!fp4_is_nan(fp4_bits_f32(infinity - 1u)), "the largest finite value");
        CHECK(!fp4_is_nan(fp4_bits_f32(sign << 31)), "zero");
        for (uint32_t bit = 0; bit < 23; bit++) {
            CHECK(fp4_is_nan(fp4_bits_f32(infinity | 1u << bit)), "payload bit %u", bit);
        }
        CHECK(fp4_is_nan(fp4_bits_f32(infinity | 0x7fffffu)), "all payload bits");
    }
}

Test(bits, amax_key_orders_as_the_magnitude_and_drops_nan)
{
    static const uint32_t rising[] = {0u,          1u,          0x007fffffu, 0x00800000u,
                                      0x3f7fffffu, 0x3f800000u, 0x3f800001u, 0x40c00000u,
                                      0x7f7fffffu, 0x7f800000u};

    for (int i = 0; i < 10; i++) {
        CHECK_EQ(fp4_amax_key(fp4_bits_f32(rising[i])), rising[i], "key of %08x", rising[i]);
        CHECK_EQ(fp4_amax_key(fp4_bits_f32(rising[i] | 0x80000000u)), rising[i], "key of -%08x",
                 rising[i]);
    }
    CHECK_EQ(fp4_amax_key(fp4_bits_f32(0x7f800001u)), 0u, "signalling NaN");
    CHECK_EQ(fp4_amax_key(fp4_bits_f32(0x7fffffffu)), 0u, "NaN");
    CHECK_EQ(fp4_amax_key(fp4_bits_f32(0xffc00000u)), 0u, "negative NaN");
}

Test(bits, shift_rounds_to_nearest_even)
{
    for (uint32_t drop = 1; drop <= 12; drop++) {
        const uint32_t unit = 1u << drop;
        for (uint32_t value = 0; value < 0x4000u; value++) {
            const uint32_t quotient = value / unit, rest = value % unit;
            const uint32_t up = 2u * rest > unit || (2u * rest == unit && quotient % 2u == 1u);
            CHECK_EQ(fp4_shift_rn_(value, drop), quotient + up, "%u / 2^%u", value, drop);
        }
    }
    /* the ends of the stated range */
    CHECK_EQ(fp4_shift_rn_(0x7f800000u, 16u), 0x7f80u, "infinity to bf16");
    CHECK_EQ(fp4_shift_rn_(0x3fffffffu, 31u), 0u, "just under half of 2^31");
}

/* fp4/e8m0.h: powers of two, and the five ways of arriving at one. */
#include <fp4/e8m0.h>

#include "check.h"
#include "oracle.h"

static float f32(uint32_t bits)
{
    return fp4_bits_f32(bits);
}

Test(e8m0, decodes_every_byte_exactly)
{
    for (uint32_t byte = 0; byte < 255; byte++) {
        CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32((uint8_t)byte)),
                 oracle_f32_bits(oracle_power((int)byte - 127)), "byte %02x", byte);
    }
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32(0u)), 0x00400000u, "2^-127, a subnormal f32");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32(1u)), 0x00800000u, "2^-126");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32(127u)), 0x3f800000u, "1");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32(254u)), 0x7f000000u, "2^127");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_f32(255u)), 0x7fffffffu, "NaN");
}

Test(e8m0, encode_factor_is_the_reciprocal)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_enc((uint8_t)byte)),
                 oracle_f32_bits(oracle_power(127 - (int)byte)), "byte %02x", byte);
    }
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_enc(0u)), 0x7f000000u, "2^127");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_enc(253u)), 0x00800000u, "2^-126");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_enc(254u)), 0x00400000u, "2^-127, a subnormal f32");
    CHECK_EQ(fp4_f32_bits(fp4_e8m0_to_enc(255u)), 0x00200000u, "2^-128, a subnormal f32");
}

Test(e8m0, round_trips_every_byte)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        CHECK_EQ(fp4_f32_to_e8m0_up(fp4_e8m0_to_f32((uint8_t)byte)), byte, "up %02x", byte);
        CHECK_EQ(fp4_f32_to_e8m0_rz(fp4_e8m0_to_f32((uint8_t)byte)), byte, "toward zero %02x",
                 byte);
    }
}

Test(e8m0, up_and_toward_zero_part_right_beside_every_power)
{
    for (uint32_t byte = 0; byte < 255; byte++) {
        const uint32_t at = oracle_f32_bits(oracle_power((int)byte - 127));
        const uint32_t before = byte ? byte - 1u : 0u, after = byte < 254u ? byte + 1u : 254u;
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t s = sign << 31; /* has no say */
            CHECK_EQ(fp4_f32_to_e8m0_up(f32(s | (at - 1u))), byte, "up, under 2^%d",
                     (int)byte - 127);
            CHECK_EQ(fp4_f32_to_e8m0_up(f32(s | at)), byte, "up, at 2^%d", (int)byte - 127);
            CHECK_EQ(fp4_f32_to_e8m0_up(f32(s | (at + 1u))), after, "up, over 2^%d",
                     (int)byte - 127);
            CHECK_EQ(fp4_f32_to_e8m0_rz(f32(s | (at - 1u))), before, "toward zero, under 2^%d",
                     (int)byte - 127);
            CHECK_EQ(fp4_f32_to_e8m0_rz(f32(s | at)), byte, "toward zero, at 2^%d",
                     (int)byte - 127);
            CHECK_EQ(fp4_f32_to_e8m0_rz(f32(s | (at + 1u))), byte, "toward zero, over 2^%d",
                     (int)byte - 127);
        }
    }
}

Test(e8m0, has_no_zero_no_infinity_and_no_sign)
{
    static const struct {
        uint32_t bits;
        uint8_t up, toward_zero;
    } corner[] = {
        {0x00000000u, 0, 0},     /* zero */
        {0x00000001u, 0, 0},     /* 2^-149 */
        {0x00200000u, 0, 0},     /* 2^-128 */
        {0x00400000u, 0, 0},     /* 2^-127, the value of byte 0 */
        {0x00400001u, 1, 0},     /* the next */
        {0x007fffffu, 1, 0},     /* the largest subnormal */
        {0x00800000u, 1, 1},     /* 2^-126 */
        {0x7f000000u, 254, 254}, /* 2^127 */
        {0x7f000001u, 254, 254}, /* saturates */
        {0x7f7fffffu, 254, 254}, /* FLT_MAX */
        {0x7f800000u, 254, 254}, /* infinity */
        {0x7f800001u, 255, 255}, /* NaN */
        {0x7fffffffu, 255, 255}, /* NaN */
    };

    for (int i = 0; i < 13; i++) {
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t bits = sign << 31 | corner[i].bits;
            CHECK_EQ(fp4_f32_to_e8m0_up(f32(bits)), corner[i].up, "up %08x", bits);
            CHECK_EQ(fp4_f32_to_e8m0_rz(f32(bits)), corner[i].toward_zero, "toward zero %08x",
                     bits);
        }
    }
}

Test(e8m0, every_bfloat16_and_its_neighbours_round_as_defined)
{
    for (uint32_t pattern = 0; pattern < 0x10000u; pattern++) {
        for (uint32_t ulp = 0; ulp < 3; ulp++) {
            const uint32_t bits = (pattern << 16) + ulp - 1u;
            const int nan = oracle_is_nan(bits);
            const double x = oracle_magnitude(bits);
            CHECK_EQ(fp4_f32_to_e8m0_up(f32(bits)), nan ? 255u : oracle_up(oracle_e8m0(), x),
                     "up %08x", bits);
            CHECK_EQ(fp4_f32_to_e8m0_rz(f32(bits)),
                     nan ? 255u : oracle_toward_zero(oracle_e8m0(), x), "toward zero %08x", bits);
        }
    }
}

/* ------------------------------------------------- the rules that act on the amax of the block */

/* MXFP4's byte for an amax under each rule, as the peers' own code gives it. */
static const struct {
    float amax;
    uint8_t floor, ceil, even;
} known[] = {
    {0.0f, 0, 0, 0},        {1.0f, 125, 125, 125},       {1.2f, 125, 126, 125},
    {1.42f, 125, 126, 125}, {1.5f, 125, 126, 125},       {1.7499f, 125, 126, 125},
    {1.75f, 125, 126, 126}, {2.0f, 126, 126, 126},       {2.7f, 126, 127, 126},
    {3.0f, 126, 127, 126},  {3.0000002f, 126, 127, 126}, {5.5f, 127, 128, 127},
    {6.0f, 127, 128, 127},  {7.0f, 127, 128, 128},       {7.9999995f, 127, 128, 128},
};

Test(e8m0, amax_rules_give_the_known_bytes)
{
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const float amax = known[i].amax;
        CHECK_EQ(fp4_amax_to_e8m0_floor(amax, 2u), known[i].floor, "floor %g", (double)amax);
        CHECK_EQ(fp4_amax_to_e8m0_ceil(amax, 2u), known[i].ceil, "ceil %g", (double)amax);
        CHECK_EQ(fp4_amax_to_e8m0_even(amax, 2u, 1u), known[i].even, "even %g", (double)amax);
    }
    /* e4m3: emax 8, and the binade is left at 1.9375 = (1.875 + 2) / 2 */
    CHECK_EQ(fp4_amax_to_e8m0_floor(448.0f, 8u), 127, "floor 448");
    CHECK_EQ(fp4_amax_to_e8m0_ceil(448.0f, 8u), 128, "ceil 448");
    CHECK_EQ(fp4_amax_to_e8m0_even(448.0f, 8u, 3u), 127, "even 448");
    CHECK_EQ(fp4_amax_to_e8m0_even(495.99997f, 8u, 3u), 127, "even under 496");
    CHECK_EQ(fp4_amax_to_e8m0_even(496.0f, 8u, 3u), 128, "even 496");
}

static uint32_t clamped(int exponent, int emax)
{
    const int byte = exponent - emax + 127;
    return byte < 0 ? 0u : (uint32_t)byte;
}

Test(e8m0, amax_rules_follow_their_definitions_over_all_exponents)
{
    /* mantissas: a power, beside it, T8's 1.2 2.7 5.5 6 7, and where `even` changes its mind */
    static const uint32_t mantissa[] = {0u,        1u,        0x19999au, 0x2ccccdu, 0x300000u,
                                        0x35c28fu, 0x3fffffu, 0x400000u, 0x400001u, 0x5fffffu,
                                        0x600000u, 0x600001u, 0x77ffffu, 0x780000u, 0x780001u,
                                        0x7ffffeu, 0x7fffffu};
    static const struct {
        uint32_t emax, mbits;
    } element[] = {{2, 1}, {8, 3}};

    for (int e = 0; e < 2; e++) {
        const uint32_t emax = element[e].emax, mbits = element[e].mbits;
        /* where the element's rounding leaves the binade: half a unit of its mantissa below 2 */
        const double leaves = 2.0 - oracle_power(-(int)mbits - 1);
        for (uint32_t exponent = 1; exponent < 255; exponent++) {
            for (int i = 0; i < 17; i++) {
                const uint32_t bits = exponent << 23 | mantissa[i];
                const float amax = f32(bits);
                const int power = (int)exponent - 127;
                const double fraction = (double)amax / oracle_power(power);
                CHECK_EQ(fp4_amax_to_e8m0_floor(amax, emax), clamped(power, (int)emax),
                         "floor %08x emax %u", bits, emax);
                CHECK_EQ(fp4_amax_to_e8m0_ceil(amax, emax),
                         clamped(power + (fraction > 1.0), (int)emax), "ceil %08x emax %u", bits,
                         emax);
                CHECK_EQ(fp4_amax_to_e8m0_even(amax, emax, mbits),
                         clamped(power + (fraction >= leaves), (int)emax), "even %08x emax %u",
                         bits, emax);
            }
        }
    }
}

Test(e8m0, amax_rules_give_byte_zero_below_and_nan_beyond)
{
    /* subnormals and the first normals, whose exponent less emax would be negative */
    static const uint32_t small[] = {0u,          1u,          0x00400000u, 0x007fffffu,
                                     0x00800000u, 0x00ffffffu, 0x01000000u};
    static const uint32_t beyond[] = {0x7f800000u, 0x7f800001u, 0x7fc00000u, 0x7fffffffu};

    for (int i = 0; i < 7; i++) {
        const float amax = f32(small[i]);
        CHECK_EQ(fp4_amax_to_e8m0_floor(amax, 2u), 0, "floor %08x", small[i]);
        CHECK_EQ(fp4_amax_to_e8m0_ceil(amax, 2u), 0, "ceil %08x", small[i]);
        CHECK_EQ(fp4_amax_to_e8m0_even(amax, 2u, 1u), 0, "even %08x", small[i]);
    }
    for (int i = 0; i < 4; i++) {
        const float amax = f32(beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_floor(amax, 2u), 255, "floor %08x", beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_ceil(amax, 2u), 255, "ceil %08x", beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_even(amax, 2u, 1u), 255, "even %08x", beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_floor(amax, 8u), 255, "floor %08x, e4m3", beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_ceil(amax, 8u), 255, "ceil %08x, e4m3", beyond[i]);
        CHECK_EQ(fp4_amax_to_e8m0_even(amax, 8u, 3u), 255, "even %08x, e4m3", beyond[i]);
    }
    /* the largest finite amax stays finite: its exponent field is 254, rounded up 255 */
    CHECK_EQ(fp4_amax_to_e8m0_floor(f32(0x7f7fffffu), 2u), 252, "floor FLT_MAX");
    CHECK_EQ(fp4_amax_to_e8m0_ceil(f32(0x7f7fffffu), 2u), 253, "ceil FLT_MAX");
    CHECK_EQ(fp4_amax_to_e8m0_even(f32(0x7f7fffffu), 2u, 1u), 253, "even FLT_MAX");
}

Test(e8m0, amax_rules_ignore_the_sign)
{
    for (uint64_t i = 0; i <= 0x7fffffffu; i += i % 0x800000u < 3 ? 1 : 65521) {
        const uint32_t bits = (uint32_t)i;
        const float amax = f32(bits), negative = f32(bits | 0x80000000u);

        CHECK_EQ(fp4_amax_to_e8m0_floor(negative, 2u), fp4_amax_to_e8m0_floor(amax, 2u),
                 "floor -%08x", bits);
        CHECK_EQ(fp4_amax_to_e8m0_ceil(negative, 2u), fp4_amax_to_e8m0_ceil(amax, 2u), "ceil -%08x",
                 bits);
        CHECK_EQ(fp4_amax_to_e8m0_even(negative, 2u, 1u), fp4_amax_to_e8m0_even(amax, 2u, 1u),
                 "even -%08x", bits);
    }
}

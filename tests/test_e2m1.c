/* fp4/e2m1.h: the sixteen codes, their rounding to nearest, toward zero and at random. */
#include <fp4/e2m1.h>
#include <fp4/f16.h>

#include "check.h"
#include "oracle.h"

static const float value[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};

/* f32 bits of what is halfway between value[i] and value[i + 1], and the codes about it. */
static const struct {
    uint32_t bits;
    uint8_t below, tie, above;
} midpoint[7] = {
    {0x3e800000u, 0, 0, 1}, /* 0.25 */
    {0x3f400000u, 1, 2, 2}, /* 0.75 */
    {0x3fa00000u, 2, 2, 3}, /* 1.25 */
    {0x3fe00000u, 3, 4, 4}, /* 1.75 */
    {0x40200000u, 4, 4, 5}, /* 2.5  */
    {0x40600000u, 5, 6, 6}, /* 3.5  */
    {0x40a00000u, 6, 6, 7}, /* 5    */
};

static uint8_t encode(uint32_t bits)
{
    return fp4_f32_to_e2m1(fp4_bits_f32(bits));
}

Test(e2m1, decodes_the_sixteen_values)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        const uint32_t sign = byte & 8u ? 0x80000000u : 0u;
        const uint32_t bits = fp4_f32_bits(fp4_e2m1_to_f32((uint8_t)byte));
        CHECK_EQ(bits, sign | fp4_f32_bits(value[byte & 7u]), "byte %02x", byte);
    }
}

Test(e2m1, round_trips_every_code)
{
    for (uint8_t code = 0; code < 16; code++) {
        const float x = fp4_e2m1_to_f32(code);
        CHECK_EQ(fp4_f32_to_e2m1(x), code, "nearest of %g", (double)x);
        CHECK_EQ(fp4_f32_to_e2m1_rz(x), code, "toward zero of %g", (double)x);
        for (uint32_t random = 0; random < 256; random++) {
            CHECK_EQ(fp4_f32_to_e2m1_sr(x, (uint8_t)random), code, "stochastic of %g with %02x",
                     (double)x, random);
        }
    }
}

Test(e2m1, rounds_ties_to_even)
{
    for (int i = 0; i < 7; i++) {
        const uint32_t at = midpoint[i].bits;
        CHECK(fp4_bits_f32(at) == (value[i] + value[i + 1]) / 2, "midpoint %d", i);
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t minus = sign << 31, code = sign << 3;
            CHECK_EQ(encode(minus | (at - 1u)), code | midpoint[i].below, "under midpoint %d", i);
            CHECK_EQ(encode(minus | at), code | midpoint[i].tie, "midpoint %d", i);
            CHECK_EQ(encode(minus | (at + 1u)), code | midpoint[i].above, "over midpoint %d", i);
        }
    }
}

Test(e2m1, saturates)
{
    static const uint32_t large[] = {0x40c00000u, 0x40c00001u, 0x40e00000u, 0x43e00000u,
                                     0x477fe000u, 0x7f7fffffu, 0x7f800000u};

    for (int i = 0; i < 7; i++) {
        CHECK_EQ(encode(large[i]), 0x7u, "%08x", large[i]);
        CHECK_EQ(encode(large[i] | 0x80000000u), 0xfu, "-%08x", large[i]);
        CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(large[i])), 0x7u, "toward zero %08x", large[i]);
        CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(large[i] | 0x80000000u)), 0xfu,
                 "toward zero -%08x", large[i]);
        for (uint32_t random = 0; random < 256; random++) {
            CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(large[i]), (uint8_t)random), 0x7u,
                     "stochastic %08x", large[i]);
            CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(large[i] | 0x80000000u), (uint8_t)random),
                     0xfu, "stochastic -%08x", large[i]);
        }
    }
}

Test(e2m1, nan_is_plus_six)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t bit = 0; bit < 24; bit++) {
            const uint32_t payload = bit == 23 ? 0x7fffffu : 1u << bit;
            const uint32_t bits = sign << 31 | 0x7f800000u | payload;
            CHECK_EQ(encode(bits), 0x7u, "nearest %08x", bits);
            CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(bits)), 0x7u, "toward zero %08x", bits);
            CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(bits), (uint8_t)bit), 0x7u, "stochastic %08x",
                     bits);
        }
    }
}

Test(e2m1, keeps_the_sign_of_zero)
{
    /* zero, the smallest and largest subnormal, the smallest normal, and the largest that rounds
       to zero */
    static const uint32_t small[] = {0u, 1u, 0x007fffffu, 0x00800000u, 0x3e800000u};

    for (int i = 0; i < 5; i++) {
        CHECK_EQ(encode(small[i]), 0x0u, "%08x", small[i]);
        CHECK_EQ(encode(small[i] | 0x80000000u), 0x8u, "-%08x", small[i]);
        CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(small[i] | 0x80000000u)), 0x8u,
                 "toward zero -%08x", small[i]);
        CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(small[i] | 0x80000000u), 0u), 0x8u,
                 "stochastic -%08x", small[i]);
    }
}

/* All three roundings of one input against the oracle; random bits from the input. */
static void check_against_oracle(uint32_t bits)
{
    const float x = fp4_bits_f32(bits);
    const uint8_t random = (uint8_t)((bits * 2654435761u) >> 24);
    unsigned nearest = 7u, toward_zero = 7u, stochastic = 7u; /* NaN */

    if (!oracle_is_nan(bits)) {
        const unsigned sign = bits >> 31 << 3;
        const unsigned below = oracle_toward_zero(oracle_e2m1(), oracle_magnitude(bits));
        nearest = sign | oracle_nearest_from(oracle_e2m1(), below, oracle_magnitude(bits));
        toward_zero = sign | below;
        stochastic = sign | oracle_e2m1_sr_from(below, bits, random);
    }
    CHECK_EQ(fp4_f32_to_e2m1(x), nearest, "nearest %08x", bits);
    CHECK_EQ(fp4_f32_to_e2m1_rz(x), toward_zero, "toward zero %08x", bits);
    CHECK_EQ(fp4_f32_to_e2m1_sr(x, random), stochastic, "stochastic %08x with %02x", bits, random);
}

Test(e2m1, every_half_and_bfloat16_goes_to_the_nearest_value)
{
    for (uint32_t pattern = 0; pattern < 0x10000u; pattern++) {
        check_against_oracle(fp4_f32_bits(fp4_f16_to_f32((uint16_t)pattern)));
        check_against_oracle(pattern << 16);
        check_against_oracle(pattern << 16 | 1u);
        check_against_oracle((pattern << 16) - 1u);
    }
}

Test(e2m1, neighbourhoods_of_values_and_midpoints_round_right)
{
    for (int i = 0; i < 8; i++) {
        const uint32_t at_value = fp4_f32_bits(value[i]);
        for (uint32_t step = 0; step < 2000; step++) {
            for (uint32_t sign = 0; sign < 2; sign++) {
                check_against_oracle(sign << 31 | (at_value + step));
                check_against_oracle(sign << 31 | (at_value ? at_value - step : step));
                if (i < 7) {
                    check_against_oracle(sign << 31 | (midpoint[i].bits + step));
                    check_against_oracle(sign << 31 | (midpoint[i].bits - step));
                }
            }
        }
    }
}

Test(e2m1, toward_zero_truncates)
{
    for (int i = 1; i < 8; i++) {
        const uint32_t at = fp4_f32_bits(value[i]);
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t minus = sign << 31, code = sign << 3;
            CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(minus | (at - 1u))), code | (uint32_t)(i - 1),
                     "under %g", (double)value[i]);
            CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(minus | at)), code | (uint32_t)i, "at %g",
                     (double)value[i]);
            CHECK_EQ(fp4_f32_to_e2m1_rz(fp4_bits_f32(minus | (at + 1u))), code | (uint32_t)i,
                     "over %g", (double)value[i]);
        }
    }
}

Test(e2m1, is_monotonic)
{
    unsigned nearest = 0, toward_zero = 0, stochastic[256] = {0};

    /* every 2^12-th float from 0 to infinity */
    for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 0x1000u) {
        const float x = fp4_bits_f32(bits);
        CHECK(fp4_f32_to_e2m1(x) >= nearest, "nearest falls at %08x", bits);
        CHECK(fp4_f32_to_e2m1_rz(x) >= toward_zero, "toward zero falls at %08x", bits);
        nearest = fp4_f32_to_e2m1(x);
        toward_zero = fp4_f32_to_e2m1_rz(x);
        for (uint32_t random = 0; random < 256; random += 15) {
            const unsigned code = fp4_f32_to_e2m1_sr(x, (uint8_t)random);
            CHECK(code >= stochastic[random], "stochastic with %02x falls at %08x", random, bits);
            stochastic[random] = code;
        }
    }
    CHECK_EQ(nearest, 7u, "the end");
}

/* ------------------------------------------------------------------------ stochastic rounding */

Test(e2m1, stochastic_equals_exact_counting_for_every_random_byte)
{
    /* around each value, each midpoint and each 256th between two values, and outside them all */
    for (uint32_t random = 0; random < 256; random++) {
        for (unsigned below = 0; below < 8; below++) {
            for (uint32_t part = 0; part < 256; part += below < 7u ? 1u : 64u) {
                const float next = below < 7u ? value[below + 1u] : 12.0f;
                const float x = value[below] + (next - value[below]) * (float)part / 256.0f;
                for (int ulp = -1; ulp <= 1; ulp++) {
                    const uint32_t bits = fp4_f32_bits(x) + (uint32_t)ulp;
                    const double magnitude = oracle_magnitude(bits);
                    unsigned code;
                    if (oracle_is_nan(bits)) { /* 0 less an ulp */
                        continue;
                    }
                    code = oracle_e2m1_sr_from(oracle_toward_zero(oracle_e2m1(), magnitude), bits,
                                               random);
                    CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(bits), (uint8_t)random), code,
                             "%08x with %02x", bits, random);
                    CHECK_EQ(fp4_f32_to_e2m1_sr(fp4_bits_f32(bits | 0x80000000u), (uint8_t)random),
                             8u | code, "-%08x with %02x", bits, random);
                }
            }
        }
    }
}

Test(e2m1, stochastic_rounds_up_as_often_as_the_distance_says)
{
    /* x is part/256 of the way from one value to the next: exactly `part` of the 256 random bytes
       take it up, so that the mean of the results is x. An ulp less is one byte less. */
    for (unsigned below = 0; below < 7; below++) {
        const float step = value[below + 1u] - value[below];
        for (uint32_t part = 0; part < 256; part++) {
            const float x = value[below] + step * (float)part / 256.0f;
            const float less = fp4_bits_f32(fp4_f32_bits(x) - 1u);
            unsigned up = 0, up_less = 0;
            double sum = 0;
            for (uint32_t random = 0; random < 256; random++) {
                const uint8_t code = fp4_f32_to_e2m1_sr(x, (uint8_t)random);
                CHECK(code == below || code == below + 1u, "%g with %02x leaves its interval",
                      (double)x, random);
                up += code == below + 1u;
                sum += (double)fp4_e2m1_to_f32(code);
                up_less += part != 0u && fp4_f32_to_e2m1_sr(less, (uint8_t)random) == below + 1u;
            }
            CHECK_EQ(up, part, "times up for %g", (double)x);
            CHECK(sum == 256.0 * (double)x, "mean %g of %g", sum / 256.0, (double)x);
            CHECK_EQ(up_less, part ? part - 1u : 0u, "times up an ulp under %g", (double)x);
        }
    }
}

Test(e2m1, stochastic_is_a_function_of_its_arguments_alone)
{
    /* zero random bits truncate; a larger random byte never gives a smaller code; the sign of x
       does not enter the magnitude; a second call gives the same */
    for (uint32_t pattern = 0; pattern < 0x7f80u; pattern++) {
        const uint32_t bits = pattern << 16 | (pattern & 0xffu) << 8;
        const float x = fp4_bits_f32(bits), minus_x = fp4_bits_f32(bits | 0x80000000u);
        unsigned last = 0;
        CHECK_EQ(fp4_f32_to_e2m1_sr(x, 0u), fp4_f32_to_e2m1_rz(x), "%08x", bits);
        for (uint32_t random = 0; random < 256; random += 5) {
            const unsigned code = fp4_f32_to_e2m1_sr(x, (uint8_t)random);
            CHECK(code >= last, "%08x falls at random byte %02x", bits, random);
            CHECK_EQ(fp4_f32_to_e2m1_sr(minus_x, (uint8_t)random), 8u | code, "-%08x", bits);
            CHECK_EQ(fp4_f32_to_e2m1_sr(x, (uint8_t)random), code, "%08x again", bits);
            last = code;
        }
    }
}

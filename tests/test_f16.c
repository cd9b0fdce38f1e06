/* fp4/f16.h: half and bfloat16. */
#include <fp4/f16.h>

#include "check.h"
#include "oracle.h"

static const uint32_t sign_bit = 0x80000000u;

Test(f16, decodes_its_landmarks)
{
    static const struct {
        uint16_t half;
        uint32_t bits;
    } landmark[] = {
        {0x0000, 0x00000000u}, {0x0001, 0x33800000u},                        /* 2^-24 */
        {0x0002, 0x34000000u}, {0x03ff, 0x387fc000u},                        /* largest subnormal */
        {0x0400, 0x38800000u},                                               /* 2^-14 */
        {0x3c00, 0x3f800000u}, {0x3555, 0x3eaaa000u}, {0x7bff, 0x477fe000u}, /* 65504 */
        {0x7c00, 0x7f800000u},
    };

    for (int i = 0; i < 9; i++) {
        CHECK_EQ(fp4_f32_bits(fp4_f16_to_f32(landmark[i].half)), landmark[i].bits, "half %04x",
                 landmark[i].half);
        CHECK_EQ(fp4_f32_bits(fp4_f16_to_f32(landmark[i].half | 0x8000u)),
                 sign_bit | landmark[i].bits, "half %04x", landmark[i].half | 0x8000u);
    }
}

Test(f16, decodes_every_code_exactly)
{
    for (uint32_t half = 0; half < 0x10000u; half++) {
        const uint32_t magnitude = half & 0x7fffu;
        uint32_t expected = 0x7fffffffu; /* NaN */
        if (magnitude < 0x7c00u) {
            expected = oracle_f32_bits(oracle_value(magnitude, 10, 15));
        } else if (magnitude == 0x7c00u) {
            expected = 0x7f800000u;
        }
        if (magnitude <= 0x7c00u && half & 0x8000u) {
            expected |= sign_bit;
        }
        CHECK_EQ(fp4_f32_bits(fp4_f16_to_f32((uint16_t)half)), expected, "half %04x", half);
    }
}

Test(f16, round_trips_every_code)
{
    for (uint32_t half = 0; half < 0x10000u; half++) {
        const int nan = (half & 0x7fffu) > 0x7c00u;
        CHECK_EQ(fp4_f32_to_f16(fp4_f16_to_f32((uint16_t)half)), nan ? 0x7fffu : half, "half %04x",
                 half);
    }
}

Test(f16, rounds_ties_to_even)
{
    /* midpoints between neighbours, the last of them between 65504 and infinity's 65536 */
    for (uint32_t below = 0; below < 0x7c00u; below++) {
        const double middle = (oracle_value(below, 10, 15) + oracle_value(below + 1u, 10, 15)) / 2;
        const uint32_t at = oracle_f32_bits(middle);
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t minus = sign << 31, code = sign << 15;
            CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(minus | (at - 1u))), code | below,
                     "under the midpoint %08x", at);
            CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(minus | at)), code | (below + (below & 1u)),
                     "midpoint %08x", at);
            CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(minus | (at + 1u))), code | (below + 1u),
                     "over the midpoint %08x", at);
        }
    }
}

Test(f16, overflows_underflows_and_canonizes_nan)
{
    static const struct {
        uint32_t bits;
        uint16_t half;
    } corner[] = {
        {0x00000001u, 0x0000}, {0x007fffffu, 0x0000}, {0x33000000u, 0x0000}, /* 2^-25, a tie */
        {0x33000001u, 0x0001}, {0x477fefffu, 0x7bff},                        /* under 65520 */
        {0x477ff000u, 0x7c00},                                               /* 65520 */
        {0x47800000u, 0x7c00}, {0x7f7fffffu, 0x7c00}, {0x7f800000u, 0x7c00},
    };

    for (int i = 0; i < 9; i++) {
        CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(corner[i].bits)), corner[i].half, "%08x",
                 corner[i].bits);
        CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(sign_bit | corner[i].bits)), 0x8000u | corner[i].half,
                 "-%08x", corner[i].bits);
    }
    for (uint32_t bit = 0; bit < 23; bit++) {
        const uint32_t nan = 0x7f800000u | 1u << bit;
        CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(nan)), 0x7fffu, "%08x", nan);
        CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(sign_bit | nan)), 0x7fffu, "%08x", sign_bit | nan);
    }
}

Test(f16, every_bfloat16_and_its_neighbours_go_to_the_nearest_half)
{
    for (uint32_t pattern = 0; pattern < 0x10000u; pattern++) {
        for (uint32_t ulp = 0; ulp < 3; ulp++) {
            const uint32_t bits = (pattern << 16) + ulp - 1u;
            const uint32_t expected =
                oracle_is_nan(bits)
                    ? 0x7fffu
                    : (bits >> 16 & 0x8000u) | oracle_nearest(oracle_f16(), oracle_magnitude(bits));
            CHECK_EQ(fp4_f32_to_f16(fp4_bits_f32(bits)), expected, "%08x", bits);
        }
    }
}

Test(f16, bfloat16_is_the_upper_half)
{
    for (uint32_t pattern = 0; pattern < 0x10000u; pattern++) {
        const int nan = (pattern & 0x7fffu) > 0x7f80u;
        const float x = fp4_bf16_to_f32((uint16_t)pattern);
        CHECK_EQ(fp4_f32_bits(x), pattern << 16, "bfloat16 %04x", pattern);
        CHECK_EQ(fp4_f32_to_bf16(x), nan ? 0x7fffu : pattern, "bfloat16 %04x and back", pattern);
    }
}

Test(f16, bfloat16_rounds_ties_to_even)
{
    /* between neighbours in every binade, subnormals too, up to overflow */
    for (uint32_t below = 0; below < 0x7f80u; below++) {
        const uint32_t at = below << 16 | 0x8000u;
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t minus = sign << 31, code = sign << 15;
            CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(minus | (at - 1u))), code | below,
                     "under the midpoint %08x", at);
            CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(minus | at)), code | (below + (below & 1u)),
                     "midpoint %08x", at);
            CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(minus | (at + 1u))), code | (below + 1u),
                     "over the midpoint %08x", at);
            CHECK_EQ(oracle_nearest(oracle_bf16(), oracle_magnitude(at - 1u)), below,
                     "the oracle under %08x", at);
        }
    }
    for (uint32_t bit = 0; bit < 23; bit++) {
        const uint32_t nan = 0x7f800000u | 1u << bit;
        CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(nan)), 0x7fffu, "%08x", nan);
        CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(sign_bit | nan)), 0x7fffu, "%08x", sign_bit | nan);
    }
    CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(0x7f800000u)), 0x7f80u, "infinity");
    CHECK_EQ(fp4_f32_to_bf16(fp4_bits_f32(0x7f7fffffu)), 0x7f80u, "FLT_MAX overflows");
}

Test(f16, is_monotonic)
{
    uint32_t last_half = 0, last_bfloat16 = 0;

    for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 0x400u) {
        const uint32_t half = fp4_f32_to_f16(fp4_bits_f32(bits));
        const uint32_t bfloat16 = fp4_f32_to_bf16(fp4_bits_f32(bits));
        CHECK(half >= last_half, "half falls at %08x", bits);
        CHECK(bfloat16 >= last_bfloat16, "bfloat16 falls at %08x", bits);
        last_half = half;
        last_bfloat16 = bfloat16;
    }
    CHECK_EQ(last_half, 0x7c00u, "the end");
    CHECK_EQ(last_bfloat16, 0x7f80u, "the end");
}

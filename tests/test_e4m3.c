/* fp4/e4m3.h: the 256 codes and rounding to them. */
#include <fp4/e4m3.h>
#include <fp4/f16.h>

#include "check.h"
#include "oracle.h"

static uint8_t encode(uint32_t bits)
{
    return fp4_f32_to_e4m3(fp4_bits_f32(bits));
}

Test(e4m3, decodes_its_landmarks)
{
    static const struct {
        uint8_t code;
        float value;
    } landmark[] = {
        {0x00, 0.0f},           {0x01, 0.001953125f}, {0x02, 0.00390625f},  {0x03, 0.005859375f},
        {0x07, 0.01367187500f}, {0x08, 0.015625f},    {0x09, 0.017578125f}, {0x0f, 0.029296875f},
        {0x10, 0.03125f},       {0x30, 0.5f},         {0x38, 1.0f},         {0x39, 1.125f},
        {0x3c, 1.5f},           {0x40, 2.0f},         {0x77, 240.0f},       {0x78, 256.0f},
        {0x7d, 416.0f},         {0x7e, 448.0f},
    };

    for (size_t i = 0; i < sizeof landmark / sizeof landmark[0]; i++) {
        const uint8_t code = landmark[i].code;
        CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32(code)), fp4_f32_bits(landmark[i].value), "code %02x",
                 code);
        CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32(code | 0x80u)), fp4_f32_bits(-landmark[i].value),
                 "code %02x", code | 0x80u);
    }
    CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32(0x7fu)), 0x7fffffffu, "NaN");
    CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32(0xffu)), 0x7fffffffu, "negative NaN");
}

Test(e4m3, decodes_every_code_exactly)
{
    for (uint32_t code = 0; code < 0x7fu; code++) {
        const uint32_t bits = oracle_f32_bits(oracle_value(code, 3, 7));
        CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32((uint8_t)code)), bits, "code %02x", code);
        CHECK_EQ(fp4_f32_bits(fp4_e4m3_to_f32((uint8_t)(code | 0x80u))), bits | 0x80000000u,
                 "code %02x", code | 0x80u);
    }
}

Test(e4m3, round_trips_every_code)
{
    for (uint32_t code = 0; code < 256; code++) {
        CHECK_EQ(fp4_f32_to_e4m3(fp4_e4m3_to_f32((uint8_t)code)), code == 0xffu ? 0x7fu : code,
                 "code %02x", code);
    }
}

Test(e4m3, rounds_ties_to_even)
{
    for (uint32_t below = 0; below < 0x7eu; below++) {
        const double middle = (oracle_value(below, 3, 7) + oracle_value(below + 1u, 3, 7)) / 2;
        const uint32_t at = oracle_f32_bits(middle);
        for (uint32_t sign = 0; sign < 2; sign++) {
            const uint32_t minus = sign << 31, code = sign << 7;
            CHECK_EQ(encode(minus | (at - 1u)), code | below, "under the midpoint %08x", at);
            CHECK_EQ(encode(minus | at), code | (below + (below & 1u)), "midpoint %08x", at);
            CHECK_EQ(encode(minus | (at + 1u)), code | (below + 1u), "over the midpoint %08x", at);
        }
    }
}

Test(e4m3, saturates)
{
    /* 448 and its successors; 464, which would tie with 480 if there were one; f16's largest */
    static const uint32_t large[] = {0x43e00000u, 0x43e00001u, 0x43e7ffffu, 0x43e80000u,
                                     0x43e80001u, 0x43f00000u, 0x44000000u, 0x477fe000u,
                                     0x7f7fffffu, 0x7f800000u};

    for (int i = 0; i < 10; i++) {
        CHECK_EQ(encode(large[i]), 0x7eu, "%08x", large[i]);
        CHECK_EQ(encode(large[i] | 0x80000000u), 0xfeu, "-%08x", large[i]);
    }
}

Test(e4m3, nan_loses_its_sign)
{
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t bit = 0; bit < 24; bit++) {
            const uint32_t payload = bit == 23 ? 0x7fffffu : 1u << bit;
            const uint32_t bits = sign << 31 | 0x7f800000u | payload;
            CHECK_EQ(encode(bits), 0x7fu, "%08x", bits);
        }
    }
}

Test(e4m3, underflows_gradually_and_keeps_the_sign_of_zero)
{
    /* 2^-10 is half of the smallest value: a tie with zero */
    static const struct {
        uint32_t bits;
        uint8_t code;
    } small[] = {
        {0u, 0},          {1u, 0},          {0x007fffffu, 0}, {0x00800000u, 0},
        {0x3a7fffffu, 0}, {0x3a800000u, 0}, {0x3a800001u, 1}, {0x3b000000u, 1},
        {0x3b3fffffu, 1}, {0x3b400000u, 2}, {0x3c700000u, 8}, /* 7.5 * 2^-9 ties to the normal */
    };

    for (int i = 0; i < 11; i++) {
        CHECK_EQ(encode(small[i].bits), small[i].code, "%08x", small[i].bits);
        CHECK_EQ(encode(small[i].bits | 0x80000000u), 0x80u | small[i].code, "-%08x",
                 small[i].bits);
    }
}

static void check_against_oracle(uint32_t bits)
{
    const unsigned expected =
        oracle_is_nan(bits)
            ? 0x7fu
            : (bits >> 31 << 7 | oracle_nearest(oracle_e4m3(), oracle_magnitude(bits)));
    CHECK_EQ(encode(bits), expected, "%08x", bits);
}

Test(e4m3, every_half_and_bfloat16_goes_to_the_nearest_value)
{
    for (uint32_t pattern = 0; pattern < 0x10000u; pattern++) {
        check_against_oracle(fp4_f32_bits(fp4_f16_to_f32((uint16_t)pattern)));
        check_against_oracle(pattern << 16);
        check_against_oracle(pattern << 16 | 1u);
        check_against_oracle((pattern << 16) - 1u);
    }
}

Test(e4m3, is_monotonic)
{
    uint8_t last = 0;

    for (uint32_t bits = 0; bits <= 0x7f800000u; bits += 0x800u) {
        const uint8_t code = encode(bits);
        CHECK(code >= last, "falls at %08x", bits);
        last = code;
    }
    CHECK_EQ(last, 0x7eu, "the end");
}

/*
 * fp4/rope.h, fp4/host/rope.h: which elements make a pair; the turn against long double and against
 * its formula; whole heads against a loop that knows nothing of pairs' indices; what is refused.
 */
#include <fp4/host/rope.h>

#include "check.h"
#include "host_util.h"

/* ---------------------------------------------------------------- pairs */

Test(rope, every_element_has_a_partner_and_a_pair)
{
    for (size_t rotary = 2; rotary <= 80; rotary += 2) {
        for (size_t i = 0; i < rotary / 2; i++) {
            const size_t pairs[2][2] = {{i, i + rotary / 2}, {2 * i, 2 * i + 1}};
            for (int style = FP4_ROPE_NEOX; style <= FP4_ROPE_GPTJ; style++) {
                const fp4_rope_style s = (fp4_rope_style)style;
                const size_t x = pairs[style][0], y = pairs[style][1];
                CHECK_EQ(fp4_rope_pair(s, x, rotary), i, "style %d, x of %zu", style, i);
                CHECK_EQ(fp4_rope_pair(s, y, rotary), i, "style %d, y of %zu", style, i);
                CHECK_EQ(fp4_rope_partner(s, x, rotary), y, "style %d, x of %zu", style, i);
                CHECK_EQ(fp4_rope_partner(s, y, rotary), x, "style %d, y of %zu", style, i);
                CHECK_EQ(fp4_rope_is_y(s, x, rotary), 0, "style %d, x of %zu", style, i);
                CHECK_EQ(fp4_rope_is_y(s, y, rotary), 1, "style %d, y of %zu", style, i);
            }
        }
    }
}

/* ---------------------------------------------------------------- one turn */

/* fma( own, cos, fl(partner * sin) ), without the library's fma: exact in long double where that
   has 64 bits, and by the C library where it has not. */
static float turn_of(float own, float partner, float c, float s)
{
    return fmaf(own, c, host_mul(partner, s));
}

static float random_f32(uint64_t *state, int low, int high)
{
    const float x = host_random_scale(state, low, high);
    return host_random(state) & 1 ? -x : x;
}

Test(rope, a_turn_is_as_near_as_it_says)
{
    uint64_t state = 1;

    for (int i = 0; i < 2000000; i++) {
        const int spread = 1 + i % 30;
        const float x = random_f32(&state, -spread, spread),
                    y = random_f32(&state, -spread, spread);
        const double angle = 1e4 * host_random(&state) * oracle_power(-32);
        const float c = (float)cos(angle), s = (float)sin(angle);
        const float got = fp4_rope_turn(x, y, c, s);
        const long double exact = (long double)x * c + (long double)y * s;
        const long double bound = 0x1p-24L * (fabsl((long double)y * s) + fabsl(got)) + 0x1p-149L;
        CHECK_EQ(host_bits_of(got), host_bits_of(turn_of(x, y, c, s)), "%a %a %a %a", (double)x,
                 (double)y, (double)c, (double)s);
        CHECK(fabsl(got - exact) <= bound, "%a %a %a %a gives %a", (double)x, (double)y, (double)c,
              (double)s, (double)got);
    }
}

Test(rope, by_no_angle_and_by_a_quarter_nothing_is_lost)
{
    uint64_t state = 2;

    for (int i = 0; i < 1000; i++) {
        const float x = random_f32(&state, -40, 40), y = random_f32(&state, -40, 40);
        CHECK_EQ(host_bits_of(fp4_rope_turn(x, y, 1.0f, -0.0f)), host_bits_of(x), "%a", (double)x);
        CHECK_EQ(host_bits_of(fp4_rope_turn(x, y, 0.0f, 1.0f)), host_bits_of(y), "%a", (double)y);
        CHECK_EQ(host_bits_of(fp4_rope_turn(x, y, 0.0f, -1.0f)), host_bits_of(-y), "%a", (double)y);
    }
}

/* ---------------------------------------------------------------- the table */

Test(rope, the_table_has_cosines_before_sines)
{
    enum { POSITIONS = 50, ROTARY = 12 };
    float table[POSITIONS * ROTARY];

    CHECK_EQ(fp4_ref_rope_table(1e4, POSITIONS, ROTARY, table, sizeof table), FP4_OK, "table");
    for (int position = 0; position < POSITIONS; position++) {
        for (int pair = 0; pair < ROTARY / 2; pair++) {
            const double angle = position * exp(-2.0 * pair / ROTARY * log(1e4));
            const double c = (double)table[position * ROTARY + pair];
            const double s = (double)table[position * ROTARY + ROTARY / 2 + pair];
            CHECK(fabs(c - cos(angle)) <= 6e-8 && fabs(s - sin(angle)) <= 6e-8,
                  "position %d, pair %d", position, pair);
        }
    }
}

Test(rope, a_bad_table_is_refused_and_nothing_is_written)
{
    float table[8] = {7, 7, 7, 7, 7, 7, 7, 7};

    CHECK_EQ(fp4_ref_rope_table(1e4, 2, 0, table, sizeof table), FP4_BAD_SHAPE, "no rotary");
    CHECK_EQ(fp4_ref_rope_table(1e4, 2, 3, table, sizeof table), FP4_BAD_SHAPE, "odd");
    CHECK_EQ(fp4_ref_rope_table(1e4, SIZE_MAX / 2, 4, table, sizeof table), FP4_BAD_SHAPE, "huge");
    CHECK_EQ(fp4_ref_rope_table(1e4, SIZE_MAX / 4 + 1, 4, table, sizeof table), FP4_BAD_SHAPE,
             "wraps to 0");
    CHECK_EQ(fp4_ref_rope_table(1e4, SIZE_MAX / 8, 4, table, sizeof table), FP4_BAD_SHAPE, "bytes");
    CHECK_EQ(fp4_ref_rope_table(0, 2, 4, table, sizeof table), FP4_BAD_SCALE, "0");
    CHECK_EQ(fp4_ref_rope_table(5e-324, 2, 4, table, sizeof table), FP4_BAD_SCALE, "tiny");
    CHECK_EQ(fp4_ref_rope_table(NAN, 2, 4, table, sizeof table), FP4_BAD_SCALE, "NaN");
    CHECK_EQ(fp4_ref_rope_table(INFINITY, 2, 4, table, sizeof table), FP4_BAD_SCALE, "infinity");
    CHECK_EQ(fp4_ref_rope_table(1.1e300, 2, 4, table, sizeof table), FP4_BAD_SCALE, "1.1e300");
    CHECK_EQ(fp4_ref_rope_table(1e4, 2, 4, NULL, sizeof table), FP4_NULL, "null");
    CHECK_EQ(fp4_ref_rope_table(1e4, 2, 4, table, sizeof table - 1), FP4_SMALL_BUFFER, "small");
    for (size_t i = 0; i < 8; i++) {
        CHECK_EQ(host_bits_of(table[i]), host_bits_of(7.0f), "element %zu", i);
    }
    CHECK_EQ(fp4_ref_rope_table(1e4, 0, 4, NULL, 0), FP4_OK, "no positions");
    CHECK_EQ(fp4_ref_rope_table(1, 2, 4, table, sizeof table), FP4_OK, "1");
    CHECK_EQ(fp4_ref_rope_table(1e300, 2, 4, table, sizeof table), FP4_OK, "1e300");
}

/* ---------------------------------------------------------------- whole heads */

static uint32_t bits_at(const uint8_t *from, fp4_dtype dtype)
{
    uint32_t bits = 0;

    memcpy(&bits, from, host_dtype_bytes(dtype));
    return bits;
}

/* To f16 or bf16 by search for the nearest, to f32 as it is. */
static uint32_t rounded(float x, fp4_dtype dtype)
{
    return dtype == FP4_F32   ? host_bits_of(x)
           : dtype == FP4_F16 ? fp4_f32_to_f16(x) /* test_f16.c */
                              : fp4_f32_to_bf16(x);
}

/* Heads with gaps, every second position outside the table; NeoX and GPT-J; all types. */
static void check_heads(fp4_dtype dtype, size_t dim, size_t rotary, int style, int is_64,
                        uint64_t seed)
{
    enum { TOKENS = 7, HEADS = 3, POSITIONS = 11 };
    static const int64_t all[TOKENS] = {3, -1, 0, 11, 10, INT64_MIN, 5};
    const size_t size = host_dtype_bytes(dtype);
    const fp4_heads x = {NULL, dtype, TOKENS, HEADS, dim, HEADS * (dim + 3) + 5, dim + 3};
    const size_t bytes = ((TOKENS - 1) * x.token_stride + (HEADS - 1) * x.head_stride + dim) * size;
    const host_buffer in = host_buffer_new(bytes, 1), out = host_buffer_new(bytes, 1);
    float *table = (float *)host_zeros(POSITIONS * rotary * sizeof(float));
    const fp4_rope rope = {table, POSITIONS, rotary, (fp4_rope_style)style};
    int32_t narrow[TOKENS];
    const fp4_integers positions = {is_64 ? (const void *)all : (const void *)narrow, is_64};
    fp4_heads from = x, to = x;
    size_t skipped = 90;
    uint8_t *expected = (uint8_t *)host_zeros(bytes);
    char text[128];

    snprintf(text, sizeof text, "dtype %d, dim %zu, rotary %zu, style %d, 64-bit %d", (int)dtype,
             dim, rotary, style, is_64);
    for (size_t i = 0; i < TOKENS; i++) {
        narrow[i] = all[i] < 0 ? -1 : (int32_t)all[i];
    }
    CHECK_EQ(
        fp4_ref_rope_table(500.0, POSITIONS, rotary, table, POSITIONS * rotary * sizeof(float)),
        FP4_OK, "%s", text);
    host_fill(in.bytes, fp4_matrix_of_(in.bytes, dtype, 1, bytes / size, bytes / size, 1.0f), &seed,
              HOST_NARROW, 16);
    from.data = in.bytes;
    to.data = out.bytes;
    CHECK_EQ(fp4_ref_rope(from, positions, rope, to, bytes, &skipped), FP4_OK, "%s", text);
    CHECK_EQ(skipped, 93, "%s", text);

    memset(expected, 0x7f, bytes);
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t h = 0; h < HEADS && all[t] >= 0 && all[t] < POSITIONS; h++) {
            const size_t at = t * x.token_stride + h * x.head_stride;
            const fp4_matrix m = fp4_matrix_of_(in.bytes + at * size, dtype, 1, dim, dim, 1.0f);
            memcpy(expected + at * size, in.bytes + at * size, dim * size);
            for (size_t i = 0; i < rotary / 2; i++) {
                const float c = table[(size_t)all[t] * rotary + i];
                const float s = table[(size_t)all[t] * rotary + rotary / 2 + i];
                const size_t px = style ? 2 * i : i, py = style ? 2 * i + 1 : i + rotary / 2;
                const float vx = host_element(&m, 0, px), vy = host_element(&m, 0, py);
                const uint32_t nx = rounded(fmaf(vx, c, -host_mul(vy, s)), dtype);
                const uint32_t ny = rounded(fmaf(vy, c, host_mul(vx, s)), dtype);
                memcpy(expected + (at + px) * size, &nx, size);
                memcpy(expected + (at + py) * size, &ny, size);
            }
        }
    }
    for (size_t i = 0; i < bytes / size; i++) {
        CHECK_EQ(bits_at(out.bytes + i * size, dtype), bits_at(expected + i * size, dtype),
                 "%s, element %zu", text, i);
    }
    host_buffer_free(in, text);
    host_buffer_free(out, text);
    free(table);
    free(expected);
}

Test(rope, heads_are_turned_and_the_rest_stays)
{
    static const size_t dims[][2] = {{2, 2},    {16, 16}, {64, 64},     {80, 80},  {128, 128},
                                     {128, 64}, {96, 34}, {1040, 1038}, {576, 64}, {192, 6}};
    uint64_t seed = 10;

    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        for (int dtype = FP4_F32; dtype <= FP4_BF16; dtype++) {
            for (int style = 0; style < 2; style++) {
                check_heads((fp4_dtype)dtype, dims[i][0], dims[i][1], style, (int)(seed % 2), seed);
                seed++;
            }
        }
    }
}

Test(rope, what_is_bad_is_refused_and_nothing_is_written)
{
    float in[2 * 2 * 8] = {0}, out[2 * 2 * 8], table[4 * 8] = {0};
    const int32_t at[2] = {0, 3};
    const fp4_heads x = {in, FP4_F32, 2, 2, 8, 16, 8};
    fp4_heads y = x;
    const fp4_rope rope = {table, 4, 8, FP4_ROPE_NEOX};
    const fp4_integers positions = {at, 0};
    size_t skipped = 99;

    y.data = out;
    memset(out, 0x7f, sizeof out);
#define REFUSED(what, expected, change) \
    do { \
        fp4_heads a = x, b = y; \
        fp4_rope r = rope; \
        fp4_integers p = positions; \
        size_t bytes = sizeof out; \
        change; \
        CHECK_EQ(fp4_ref_rope(a, p, r, b, bytes, &skipped), expected, what); \
    } while (0)
    REFUSED("e4m3", FP4_BAD_TYPE, a.dtype = b.dtype = FP4_E4M3);
    REFUSED("no type", FP4_BAD_TYPE, a.dtype = b.dtype = (fp4_dtype)9);
    REFUSED("two types", FP4_BAD_TYPE, b.dtype = FP4_F16);
    REFUSED("no style", FP4_BAD_TYPE, r.style = (fp4_rope_style)2);
    REFUSED("odd", FP4_BAD_SHAPE, r.rotary = 7);
    REFUSED("none", FP4_BAD_SHAPE, r.rotary = 0);
    REFUSED("longer than a head", FP4_BAD_SHAPE, r.rotary = 10);
    REFUSED("a table without end", FP4_BAD_SHAPE, r.positions = SIZE_MAX / 2);
    REFUSED("a table whose bytes overflow", FP4_BAD_SHAPE, r.positions = SIZE_MAX / 16);
    REFUSED("another number of tokens", FP4_BAD_SHAPE, b.tokens = 1);
    REFUSED("another number of heads", FP4_BAD_SHAPE, b.heads = 1);
    REFUSED("another dim", FP4_BAD_SHAPE, b.dim = 7);
    REFUSED("heads that overlap", FP4_BAD_STRIDE, a.head_stride = 7);
    REFUSED("tokens that overlap", FP4_BAD_STRIDE, b.token_stride = 7);
    REFUSED("heads of neighbouring tokens", FP4_BAD_STRIDE, b.token_stride = b.head_stride);
    REFUSED("a token within heads", FP4_BAD_STRIDE, b.token_stride = 12);
    REFUSED("tokens without end", FP4_BAD_SHAPE, a.token_stride = SIZE_MAX);
    REFUSED("tokens that wrap to 0", FP4_BAD_SHAPE, a.token_stride = SIZE_MAX / 2 + 1);
    REFUSED("a sum that wraps with dim", FP4_BAD_SHAPE, a.token_stride = SIZE_MAX / 4 + 1;
            a.head_stride = SIZE_MAX / 4 - 3);
    REFUSED("a table that wraps to 0", FP4_BAD_SHAPE, r.positions = SIZE_MAX / 8 + 1);
    REFUSED("no dim", FP4_BAD_SHAPE, a.dim = b.dim = 0);
    REFUSED("heads without end", FP4_BAD_SHAPE, a.head_stride = SIZE_MAX / 2 + 1);
    REFUSED("a sum without end", FP4_BAD_SHAPE, a.head_stride = a.token_stride = SIZE_MAX / 4 + 1);
    REFUSED("bytes without end", FP4_BAD_SHAPE, a.head_stride = SIZE_MAX / 4);
    REFUSED("no x", FP4_NULL, a.data = NULL);
    REFUSED("no y", FP4_NULL, b.data = NULL);
    REFUSED("no positions", FP4_NULL, p.data = NULL);
    REFUSED("no table", FP4_NULL, r.cos_sin = NULL);
    REFUSED("small", FP4_SMALL_BUFFER, bytes -= 1);
    for (size_t i = 0; i < 2 * 2 * 8; i++) {
        CHECK_EQ(host_bits_of(out[i]), 0x7f7f7f7fu, "element %zu", i);
    }
    CHECK_EQ(skipped, 99, "skipped");
    REFUSED("as it is", FP4_OK, (void)bytes);
    CHECK_EQ(skipped, 99, "skipped");
    REFUSED("no heads, no data", FP4_OK, a.heads = b.heads = 0; a.data = b.data = NULL; bytes = 0);
    REFUSED("one head needs no stride", FP4_OK, a.heads = b.heads = 1; a.head_stride = 0);
    REFUSED("no heads", FP4_OK, a.heads = b.heads = 0; bytes = 0);
    REFUSED("heads of tokens", FP4_OK, b.token_stride = 8; b.head_stride = 16);
    REFUSED("the same x for all tokens", FP4_OK, a.token_stride = a.head_stride);
    REFUSED("no tokens", FP4_OK, a.tokens = b.tokens = 0; p.data = a.data = b.data = NULL;
            bytes = 0);
#undef REFUSED
}

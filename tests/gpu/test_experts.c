/*
 * tests/gpu/test_experts.c - the launcher of 10_experts against its host twin, every byte: masked
 * and packed, gathered and not, counts and offsets in bounds and out of them, what is no expert's
 * zero or left alone; few rows and many, few experts and many.
 */
#include "experts.h"

/* ---------------------------------------------------------------- drawn cases */

/* Widths for each kernel, ragged ones too; whole blocks of either length. */
static const size_t all_cols[] = {32, 64, 96, 160, 288, 512, 544, 1024, 1056, 2048, 4128};
enum { COLS = sizeof all_cols / sizeof(size_t) };

/* A case with everything drawn; about `elements` of them in x. */
static experts_case draw_case(const experts_unit *unit, int is_packed, size_t elements,
                              uint64_t *state)
{
    const size_t cols = all_cols[host_below(state, COLS)], rows = elements / cols + 1;
    const size_t groups = 1 + host_below(state, is_packed ? 12 : 5);
    const size_t step = 16 / host_dtype_bytes(unit->dtype);
    experts_case c =
        experts_case_of(unit, is_packed, groups, is_packed ? rows : rows / groups + 1, cols);

    c.q_cols += host_below(state, 4) == 0 ? 32 * (1 + host_below(state, 5)) : 0;
    c.gap = step * host_below(state, 3);
    c.group_gap = step * host_below(state, 3);
    c.has_sources = is_packed && host_below(state, 2);
    c.x_rows = c.has_sources
                   ? host_below(state, 8) == 0 ? 0 : 1 + host_below(state, (uint32_t)c.rows)
                   : c.rows + host_below(state, 3);
    c.starts = (fp4_experts_starts)host_below(state, 2);
    c.sf_rows = host_below(state, 3) == 0
                    ? 128 * host_below(state, (uint32_t)(c.rows / 128 + c.groups + 3))
                    : fp4_experts_sf_rows(c.starts, c.rows, c.groups);
    c.global_step = host_below(state, 2);
    c.on_device = host_below(state, 4) != 0;
    c.is_dec = host_below(state, 3) == 0;
    c.rounded = host_below(state, 3) == 0;
    c.interleaved = (c.rows + c.cols / 16) % 3 == 0;
    c.rest = (fp4_rest)host_below(state, 2);
    c.has_starts = is_packed && host_below(state, 2);
    c.has_errors = host_below(state, 4) != 0;
    c.pdl = (int)host_below(state, 2);
    c.in_turn = host_below(state, 3) == 0;
    return c;
}

static void run_drawn(int is_packed, int is_wild, uint64_t seed)
{
    const int few = gpu_is_reduced();
    uint64_t state = seed;

    for (size_t u = 0; u < EXPERTS_UNITS; u++) {
        for (int i = 0; i < (few ? 5 : 60); i++) {
            const size_t elements =
                host_below(&state, 3) == 0 ? (few ? 100000 : 1000000) : (few ? 20000 : 200000);
            const experts_case c = draw_case(&experts_units[u], is_packed, elements, &state);
            experts_run_new(&c, is_wild, (host_data)host_below(&state, HOST_DATA), &state);
        }
    }
}

GPU_TEST(experts, masked)
{
    run_drawn(0, 0, 1000);
}

GPU_TEST(experts, packed)
{
    run_drawn(1, 0, 1010);
}

GPU_TEST(experts, masked_by_anything)
{
    run_drawn(0, 1, 1020);
}

GPU_TEST(experts, packed_by_anything)
{
    run_drawn(1, 1, 1030);
}

/* ---------------------------------------------------------------- rows */

/* Every count from none to more than a tile, in matrices of a tile, a row less and one more. */
GPU_TEST(experts, every_count)
{
    const size_t step = gpu_is_reduced() ? 13 : 1;
    uint64_t state = 1040;

    for (size_t count = 0; count <= 129; count += count < 34 && step > 1 ? 3 : step) {
        const experts_unit *unit = &experts_units[host_below(&state, EXPERTS_UNITS)];
        for (size_t i = 0; i < 6; i++) {
            experts_case c = experts_case_of(unit, 0, 2, 127 + i / 2, i % 3 == 0 ? 544 : 96);
            experts_operands o;
            c.rest = (fp4_rest)(i % 2);
            o = experts_operands_new(&c, 0, HOST_NARROW, &state);
            o.numbers[0] = (int32_t)(count < c.rows ? count : c.rows);
            o.numbers[1] = (int32_t)(c.rows - (size_t)o.numbers[0]);
            host_fill(o.x,
                      fp4_matrix_of_(NULL, unit->dtype, 2 * c.rows, experts_x_stride(&c),
                                     experts_x_stride(&c), 1.0f),
                      &state, HOST_NARROW, 16);
            experts_run(&c, &o);
            experts_operands_free(o);
        }
    }
}

/* As many experts as there can be, with few rows, with none, and one of them with all. */
GPU_TEST(experts, many_of_them)
{
    static const size_t groups[] = {1, 2, 127, 128, 129, 383, 511, 512};
    uint64_t state = 1050;

    for (size_t i = 0; i < 4 * sizeof groups / sizeof(size_t); i++) {
        const experts_unit *unit = &experts_units[i % EXPERTS_UNITS];
        const size_t n = groups[i / 4];
        experts_case c = experts_case_of(unit, 1, n, 700, 64);
        experts_operands o;
        if (gpu_is_reduced() && i % 4 != i / 4 % 4) { /* each number once, the rest changing */
            continue;
        }
        c.rest = (fp4_rest)(i % 2);
        c.starts = (fp4_experts_starts)(i / 2 % 2);
        c.sf_rows = fp4_experts_sf_rows(c.starts, c.rows, c.groups);
        o = experts_operands_new(&c, 0, HOST_NARROW, &state);
        experts_run(&c, &o);
        for (size_t g = 0; g <= n; g++) { /* one or none each */
            o.numbers[g] = (int32_t)(700 * g / n);
        }
        experts_run(&c, &o);
        for (size_t g = 0; g <= n; g++) { /* one has all */
            o.numbers[g] = g > n / 2 ? 700 : 0;
        }
        experts_run(&c, &o);
        experts_operands_free(o);
        c = experts_case_of(unit, 0, n, 3, 32);
        c.rest = (fp4_rest)(i % 2);
        experts_run_new(&c, 0, HOST_NARROW, &state);
    }
}

/* One expert has half of the rows, a third of them have none. */
GPU_TEST(experts, skewed)
{
    const size_t rows = gpu_is_reduced() ? 600 : 8192;
    uint64_t state = 1060;

    for (size_t i = 0; i < 2 * EXPERTS_UNITS; i++) {
        experts_case c = experts_case_of(&experts_units[i / 2], 1, 24, rows, 1024);
        experts_operands o;
        c.rest = (fp4_rest)(i % 2);
        c.has_sources = (int)(i / 2 % 2);
        o = experts_operands_new(&c, 0, HOST_NARROW, &state);
        o.numbers[0] = 0;
        for (size_t g = 0; g < 24; g++) {
            const size_t some = g == 5 ? rows / 2 : g % 3 == 0 ? 0 : rows / 2 / 15;
            o.numbers[g + 1] = g == 23 ? (int32_t)rows : o.numbers[g] + (int32_t)some;
        }
        experts_run(&c, &o);
        experts_operands_free(o);
    }
}

/* Packed without rows, without experts, without either: scales, starts and errors are there all the
   same, and rows that are nobody's. */
GPU_TEST(experts, packed_without_rows_or_experts)
{
    static const size_t rows[] = {0, 0, 5, 300, 0}, groups[] = {1, 40, 0, 0, 0};
    uint64_t state = 1065;

    for (size_t i = 0; i < 10 * EXPERTS_UNITS; i++) {
        const size_t j = i / 2 % 5;
        experts_case c = experts_case_of(&experts_units[i / 10], 1, groups[j], rows[j], 96);
        experts_operands o;
        c.rest = (fp4_rest)(i % 2);
        c.starts = (fp4_experts_starts)(j % 2);
        c.sf_rows = i % 3 == 0 ? 0 : 256;
        c.global_step = groups[j] != 0;
        c.has_starts = c.has_errors = 1;
        o = experts_operands_new(&c, 0, HOST_NARROW, &state);
        for (size_t g = 0; g <= groups[j]; g++) {
            o.numbers[g] = i % 4 == 3 ? 7 - (int32_t)g : 0;
        }
        experts_run(&c, &o);
        experts_operands_free(o);
    }
}

/* ---------------------------------------------------------------- values */

/* Gates beyond what the fast exponential takes, infinities and NaN, in all places. */
GPU_TEST(experts, values_of_all_kinds)
{
    uint64_t state = 1070;

    for (size_t i = 0; i < 2 * HOST_DATA * EXPERTS_UNITS; i++) {
        experts_case c = experts_case_of(&experts_units[i / 2 / HOST_DATA], i % 2, 3, 70,
                                         i % 3 == 0 ? 1024 : 160);
        c.rounded = (int)(i / 4 % 2);
        c.interleaved = (int)(i / 8 % 2);
        c.has_sources = i % 2;
        experts_run_new(&c, 0, (host_data)(i / 2 % HOST_DATA), &state);
    }
}

static const float no_scales[] = {0.0f, -1.0f, INFINITY, NAN, 0x1p-149f, FP4_F32_MAX};
enum { NO_SCALES = sizeof no_scales / sizeof(float) };

/* Launches with other scales than the host twin knows. Bytes count where `is_own` is null or not
   set: those of q, then those of sf. */
static void run_without_scales(const experts_case *c, const experts_operands *o,
                               const experts_operands *on_host, const uint8_t *is_own)
{
    const experts_expected e = experts_expect(c, on_host, 0x7f);
    const experts_device d = experts_device_new(c, o);
    uint8_t *q, *sf;

    experts_poison(&d, 0x7f);
    GPU_OK(c->unit->launch(&d.args, 0, 0));
    gpu_finish(experts_text(c));
    q = (uint8_t *)gpu_copy_of(d.q);
    sf = (uint8_t *)gpu_copy_of(d.sf);
    for (size_t i = 0; i < d.q.size + d.sf.size; i++) {
        if (is_own == NULL || !is_own[i]) {
            const size_t at = i < d.q.size ? i : i - d.q.size;
            CHECK_EQ((i < d.q.size ? q : sf)[at], (i < d.q.size ? e.q : e.sf)[at],
                     "byte %zu of %s of %s", at, i < d.q.size ? "q" : "sf", experts_text(c));
        }
    }
    gpu_expect_guards(d.q, experts_text(c));
    gpu_expect_guards(d.sf, experts_text(c));
    free(q);
    free(sf);
    experts_expected_free(e);
    experts_device_free(d);
}

/* Which bytes are those of one expert: what the host twin writes for it alone. */
static uint8_t *bytes_of(experts_case c, experts_operands o, size_t group)
{
    const size_t q_bytes = experts_q_bytes(&c), sf_bytes = experts_sf_bytes(&c);
    uint8_t *is_own = (uint8_t *)host_zeros(q_bytes + sf_bytes);
    experts_expected zero, ones;

    o.numbers = (int32_t *)host_zeros((c.groups + 1) * sizeof(int32_t));
    o.numbers[group] = 50;
    c.rest = FP4_REST_LEAVE;
    zero = experts_expect(&c, &o, 0x00);
    ones = experts_expect(&c, &o, 0xff);
    for (size_t i = 0; i < q_bytes + sf_bytes; i++) {
        is_own[i] =
            i < q_bytes ? zero.q[i] == ones.q[i] : zero.sf[i - q_bytes] == ones.sf[i - q_bytes];
    }
    experts_expected_free(zero);
    experts_expected_free(ones);
    free(o.numbers);
    return is_own;
}

/* A second-level scale that is none leaves zero what is no expert's, and spoils no other expert. */
GPU_TEST(experts, scales_that_are_none)
{
    uint64_t state = 1080;

    for (size_t i = 0; i < 4 * NO_SCALES * EXPERTS_UNITS; i++) {
        experts_case c = experts_case_of(&experts_units[i / 4 / NO_SCALES], i % 2, 4, 150, 96);
        experts_operands o = experts_operands_new(&c, 0, HOST_NARROW, &state);
        experts_operands spoilt = o;
        uint8_t *is_own = NULL;
        spoilt.scales = (float *)host_zeros(4 * sizeof(float));
        memset(o.numbers, 0, 5 * sizeof(int32_t));
        for (size_t g = 0; g < 4; g++) {
            spoilt.scales[g] = no_scales[i / 4 % NO_SCALES];
        }
        if (i % 4 >= 2) {
            c.is_packed = c.has_starts = 0;
            c.rows = c.x_rows = 60;
            experts_operands_free(o);
            o = experts_operands_new(&c, 0, HOST_NARROW, &state);
            o.numbers[2] = 50;
            spoilt.numbers = o.numbers;
            spoilt.sources = o.sources;
            spoilt.x = o.x;
            for (size_t g = 0; g < 4; g++) {
                spoilt.scales[g] = g == 2 ? no_scales[i / 4 % NO_SCALES] : o.scales[g];
            }
            is_own = bytes_of(c, o, 2);
        }
        run_without_scales(&c, &spoilt, &o, is_own);
        free(is_own);
        free(spoilt.scales);
        experts_operands_free(o);
    }
}

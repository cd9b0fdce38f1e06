/*
 * tests/gpu/test_reduce.c - amax, max and sum of fragments, lanes, warps and CTAs against a model
 * on the host that does the same steps in the same order, bit for bit; and products and sums of
 * fragments. In every way they can be compiled.
 */
#include <fp4/row.h>

#include "paths.h"

#include <float.h>

enum { LANES = 32, MOST_THREADS = 1024 };

/* ---------------------------------------------------------------- data */

/* Floats of a few binades, none subnormal, so that --use_fast_math changes nothing; with specials:
   one in sixteen NaN or infinite. */
static float *numbers(size_t n, int with_specials, uint64_t seed)
{
    static const float special[] = {INFINITY, -INFINITY, NAN, -NAN};
    float *x = (float *)host_zeros(n * sizeof(float));
    uint64_t state = seed;

    for (size_t i = 0; i < n; i++) {
        x[i] = host_random_scale(&state, -12, 12);
        x[i] = host_random(&state) & 1u ? -x[i] : x[i];
        if (with_specials && host_below(&state, 16) == 0) {
            x[i] = special[host_below(&state, 4)];
        }
    }
    return x;
}

/* ---------------------------------------------------------------- the model */

/* The larger of two numbers, the number of a number and a NaN; or NaN. */
static float larger(float a, float b, int or_nan)
{
    if (isnan(a) || isnan(b)) {
        return or_nan ? NAN : isnan(a) ? b : a;
    }
    return a > b ? a : b;
}

static float combined(parts_reducer how, float a, float b)
{
    if (how == GROUP_SUM || how == WARP_SUM) {
        return a + b;
    }
    if (how == WARP_ANY) {
        return a != 0.0f || b != 0.0f ? 1.0f : 0.0f;
    }
    return larger(a, b, how == GROUP_MAX_OR_NAN);
}

/* Each lane with the one half a group away, then half of that: all lanes of x, in groups. */
static void butterfly(parts_reducer how, float *x, size_t lanes, size_t width)
{
    float before[MOST_THREADS];

    for (size_t step = width / 2; step > 0; step /= 2) {
        memcpy(before, x, lanes * sizeof(float));
        for (size_t lane = 0; lane < lanes; lane++) {
            x[lane] = combined(how, before[lane], before[lane ^ step]);
        }
    }
}

/* A CTA: the warps, then the warps' results as so many lanes, rounded up to a power of two; where
   there is no warp, zeros, but no number where the largest may be below 0. */
static float of_cta(parts_reducer how, const float *x, size_t threads)
{
    float lanes[MOST_THREADS], warps[LANES] = {0};
    size_t places = 1;

    while (places * LANES < threads) {
        places *= 2;
    }
    memcpy(lanes, x, threads * sizeof(float));
    butterfly(how, lanes, threads, LANES);
    for (size_t warp = 0; warp < places; warp++) {
        warps[warp] = warp < threads / LANES ? lanes[warp * LANES] : how == WARP_MAX ? NAN : 0.0f;
    }
    butterfly(how, warps, places, places);
    return warps[0];
}

/* ---------------------------------------------------------------- fragments */

static float of_fragment(parts_reducer how, const float *x, size_t count, float start)
{
    const int has_none = how == AMAX_OF_NUMBERS || how == MAX; /* of nothing but NaN */
    float result = how == SUMSQ || how == SUM ? start : has_none ? NAN : 0.0f;

    for (size_t i = 0; i < count; i++) {
        const uint16_t half = (uint16_t)(host_bits_of(x[i]) >> 16);
        const float v = how == AMAX_OR_NAN_BF16  ? fp4_bf16_to_f32(half)
                        : how == AMAX_OR_NAN_F16 ? fp4_f16_to_f32(half)
                                                 : x[i];
        result = how == SUMSQ ? fmaf(v, v, result)
                 : how == SUM ? result + v
                 : how == MAX ? larger(result, v, 0)
                              : larger(result, fabsf(v), how != AMAX && how != AMAX_OF_NUMBERS);
    }
    return result;
}

static void reduce_fragments(parts_reducer how, size_t count, const char *what)
{
    const size_t n = gpu_is_reduced() ? 100 : 20000;
    const int is_sum = how == SUMSQ || how == SUM;
    float *x = numbers(n * count, !is_sum, count), *start = numbers(n, 0, 99);
    float *expected = (float *)host_zeros(n * sizeof(float));
    gpu_buffer in, out;

    for (size_t i = 0; i < count; i++) { /* fragments of nothing but NaN, and but one number */
        x[i] = is_sum ? x[i] : NAN;
        x[count + i] = is_sum || i + 1 == count ? x[i] : -NAN;
        x[2 * count + i] = is_sum || how == MAX || i % 2 ? 0.0f : -0.0f;
    }
    x[2 * count - 1] = -2.5f;
    for (size_t i = 3 * count; i < n / 4 * count && how == MAX; i++) {
        x[i] = -fabsf(x[i]);
    }
    for (size_t i = 0; i < n; i++) {
        expected[i] = of_fragment(how, x + i * count, count, start[i]);
    }
    in = gpu_buffer_of(x, n * count * sizeof(float), 0);
    out = gpu_buffer_new(n * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        GPU_OK(cudaMemcpy(out.bytes, start, out.size, cudaMemcpyHostToDevice));
        GPU_OK(paths[p]->reduce(how, (int)count, path_floats(in), n, path_floats(out)));
        path_expect_floats(out, expected, what, paths[p]->name);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
    free(start);
    free(expected);
}

GPU_TEST(reduce, fragments)
{
    reduce_fragments(AMAX, 8, "amax_x8");
    reduce_fragments(AMAX, 16, "amax_x16");
    reduce_fragments(AMAX, 32, "amax_x32");
    reduce_fragments(AMAX_OF_NUMBERS, 16, "amax_of_numbers_x16");
    reduce_fragments(AMAX_OR_NAN, 8, "amax_or_nan_x8");
    reduce_fragments(AMAX_OR_NAN, 16, "amax_or_nan_x16");
    reduce_fragments(AMAX_OR_NAN, 32, "amax_or_nan_x32");
    reduce_fragments(SUMSQ, 8, "sumsq_x8");
    reduce_fragments(SUMSQ, 16, "sumsq_x16");
    reduce_fragments(SUMSQ, 32, "sumsq_x32");
    reduce_fragments(SUM, 8, "sum_x8");
    reduce_fragments(SUM, 16, "sum_x16");
    reduce_fragments(SUM, 32, "sum_x32");
    reduce_fragments(MAX, 8, "max_x8");
    reduce_fragments(MAX, 16, "max_x16");
    reduce_fragments(MAX, 32, "max_x32");
}

/* Each of the 65536 halves at each place of a fragment, between others. */
static void reduce_halves(parts_reducer how, const char *what)
{
    const size_t n = gpu_is_reduced() ? 4096 : 16 * 65536;
    float *x = (float *)host_zeros(n * 16 * sizeof(float));
    float *expected = (float *)host_zeros(n * sizeof(float));
    const gpu_buffer out = gpu_buffer_new(n * sizeof(float), 0);
    gpu_buffer in;

    for (size_t i = 0; i < n; i++) {
        const uint32_t code = (uint32_t)(i / 16 * (gpu_is_reduced() ? 257 : 1)) & 0xffffu;
        for (size_t k = 0; k < 16; k++) {
            x[i * 16 + k] = host_bits(k == i % 16 ? code << 16 : k % 2 ? 0x80010000u : 0x00020000u);
        }
        expected[i] = of_fragment(how, x + i * 16, 16, 0.0f);
    }
    in = gpu_buffer_of(x, n * 16 * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x55);
        GPU_OK(paths[p]->reduce(how, 16, path_floats(in), n, path_floats(out)));
        path_expect_floats(out, expected, what, paths[p]->name);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
    free(expected);
}

GPU_TEST(reduce, every_half)
{
    reduce_halves(AMAX_OR_NAN_BF16, "amax_or_nan_bf16x16");
    reduce_halves(AMAX_OR_NAN_F16, "amax_or_nan_f16x16");
}

/* The amax and the NaN of each place of a fragment arrive. */
GPU_TEST(reduce, every_place_of_a_fragment_counts)
{
    float x[32 * 32], expected[2][32];
    const gpu_buffer out = gpu_buffer_new(sizeof expected[0], 0);

    for (size_t count = 8; count <= 32; count *= 2) {
        for (size_t p = 0; p < 2 * PATHS; p++) {
            const int is_nan = p >= PATHS;
            gpu_buffer in;
            for (size_t i = 0; i < count * count; i++) {
                x[i] = i % count == i / count ? (is_nan ? -NAN : -3.0f) : 1.5f;
                expected[0][i / count] = is_nan ? 1.5f : 3.0f;
                expected[1][i / count] = is_nan ? NAN : 3.0f;
            }
            in = gpu_buffer_of(x, sizeof x, 0);
            gpu_poison(out, 0);
            memset(expected[0] + count, 0, (32 - count) * sizeof(float));
            memset(expected[1] + count, 0, (32 - count) * sizeof(float));
            GPU_OK(paths[p % PATHS]->reduce(AMAX, (int)count, path_floats(in), count,
                                            path_floats(out)));
            path_expect_floats(out, expected[0], "amax", paths[p % PATHS]->name);
            if (count == 16) {
                GPU_OK(paths[p % PATHS]->reduce(AMAX_OF_NUMBERS, 16, path_floats(in), count,
                                                path_floats(out)));
                path_expect_floats(out, expected[0], "amax_of_numbers", paths[p % PATHS]->name);
            }
            GPU_OK(paths[p % PATHS]->reduce(AMAX_OR_NAN, (int)count, path_floats(in), count,
                                            path_floats(out)));
            path_expect_floats(out, expected[1], "amax_or_nan", paths[p % PATHS]->name);
            gpu_buffer_free(in);
        }
    }
    gpu_buffer_free(out);
}

/* ---------------------------------------------------------------- lanes */

static void reduce_groups(parts_reducer how, size_t width, int with_specials, const char *what)
{
    const size_t lanes = LANES * (gpu_is_reduced() ? 8 : 2000);
    float *x = numbers(lanes, with_specials, width), *expected;
    gpu_buffer in, out;

    for (size_t i = 0; i < LANES; i++) { /* a group of nothing but NaN */
        x[i] = with_specials ? NAN : x[i];
    }
    for (size_t i = 0; i < lanes && how == GROUP_MAX_OR_NAN; i++) {
        x[i] = fabsf(x[i]); /* it takes magnitudes */
    }
    expected = (float *)host_zeros(lanes * sizeof(float));
    memcpy(expected, x, lanes * sizeof(float));
    for (size_t i = 0; i < lanes; i += LANES) {
        butterfly(how, expected + i, LANES, width);
    }
    in = gpu_buffer_of(x, lanes * sizeof(float), 0);
    out = gpu_buffer_new(lanes * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->reduce_lanes(how, (int)width, path_floats(in), lanes, path_floats(out)));
        path_expect_floats(out, expected, what, paths[p]->name);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
    free(expected);
}

GPU_TEST(reduce, groups_of_lanes)
{
    for (size_t width = 2; width <= LANES; width *= 2) {
        reduce_groups(GROUP_MAX, width, 1, "group_max");
        reduce_groups(GROUP_MAX_OR_NAN, width, 1, "group_max_or_nan");
        reduce_groups(GROUP_MAX_OR_NAN, width, 0, "group_max_or_nan of numbers");
        reduce_groups(GROUP_SUM, width, 0, "group_sum");
        reduce_groups(GROUP_SUM, width, 1, "group_sum with NaN and infinity");
    }
    reduce_groups(WARP_MAX, LANES, 1, "warp_max");
    reduce_groups(WARP_SUM, LANES, 0, "warp_sum");
}

/* No lane, each lane alone, all. */
GPU_TEST(reduce, any_lane_of_a_warp)
{
    enum { WARPS = LANES + 2 };
    float x[WARPS * LANES], expected[WARPS * LANES];
    const gpu_buffer out = gpu_buffer_new(sizeof expected, 0);
    gpu_buffer in;

    for (size_t warp = 0; warp < WARPS; warp++) {
        for (size_t lane = 0; lane < LANES; lane++) {
            x[warp * LANES + lane] = warp == lane || warp == LANES + 1 ? -2.0f : 0.0f;
            expected[warp * LANES + lane] = x[warp * LANES + lane];
        }
        butterfly(WARP_ANY, expected + warp * LANES, LANES, LANES);
    }
    in = gpu_buffer_of(x, sizeof x, 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->reduce_lanes(WARP_ANY, LANES, path_floats(in), WARPS * LANES,
                                      path_floats(out)));
        path_expect_floats(out, expected, "any", paths[p]->name);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
}

/* ---------------------------------------------------------------- CTAs */

/* Whether the CTA is of teams; with barriers of their own there are 15. */
static int has_teams(const unsigned cta[3])
{
    return cta[0] % LANES == 0 && cta[2] == 1 && (cta[1] <= 15 || cta[0] == LANES);
}

static float cta_result(parts_cta what, const float *x, const float *magnitudes, size_t threads)
{
    switch (what) {
    case CTA_SUM:
    case CTA_SUM_OF:
        return of_cta(WARP_SUM, x, threads);
    case CTA_MAX:
    case CTA_MAX_OF:
        return of_cta(WARP_MAX, x, threads);
    default:
        return of_cta(GROUP_MAX_OR_NAN, magnitudes, threads);
    }
}

/* With NaN: one CTA in three has one, and one in three only one number. Without: one in three has
   nothing above 0. */
static float *cta_numbers(size_t threads, unsigned ctas, int with_nan)
{
    float *x = numbers(threads * ctas, 0, threads);

    for (size_t i = 0; i < threads * ctas; i++) {
        const size_t cta = i / threads;
        const int is_here = i % threads == 7 * cta % threads;
        if (with_nan) {
            x[i] = (cta % 3 == 1 && is_here) || (cta % 3 == 2 && !is_here) ? NAN : fabsf(x[i]);
        } else if (cta % 3 == 1) {
            x[i] = -fabsf(x[i]);
        }
    }
    return x;
}

static void reduce_shape(const unsigned cta[3], int with_nan)
{
    const size_t threads = (size_t)cta[0] * cta[1] * cta[2];
    const int is_flat = cta[0] == threads;
    const unsigned ctas = gpu_is_reduced() ? 3 : 40;
    const size_t n = threads * ctas;
    float *x = cta_numbers(threads, ctas, with_nan);
    float *magnitudes = (float *)host_zeros(n * sizeof(float));
    float *expected = (float *)host_zeros(PARTS_CTA * n * sizeof(float));
    gpu_buffer in, out = gpu_buffer_new(PARTS_CTA * n * sizeof(float), 0);
    char what[96];

    snprintf(what, sizeof what, "CTAs of %u x %u x %u, n = %zu, %s NaN", cta[0], cta[1], cta[2], n,
             with_nan ? "with" : "without");
    for (size_t i = 0; i < n; i++) {
        magnitudes[i] = fabsf(x[i]);
    }
    for (size_t i = 0; i < PARTS_CTA * n;) {
        const parts_cta result = (parts_cta)(i / n);
        const int is_there =
            result == TEAM_MAX_OR_NAN ? has_teams(cta) : result < CTA_SUM_OF || is_flat;
        const size_t together = result == TEAM_MAX_OR_NAN ? cta[0] : threads;
        const float value =
            is_there ? cta_result(result, x + i % n, magnitudes + i % n, together) : 0.0f;
        for (size_t k = 0; k < together; k++) {
            expected[i++] = value;
        }
    }
    in = gpu_buffer_of(x, n * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->reduce_cta(cta, ctas, path_floats(in), path_floats(out)));
        path_expect_floats(out, expected, what, paths[p]->name);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
    free(magnitudes);
    free(expected);
}

GPU_TEST(reduce, ctas_of_every_number_of_warps_and_their_teams)
{
    static const unsigned shapes[][3] = {{8, 4, 1},   {16, 2, 3},  {4, 4, 64},  {32, 32, 1},
                                         {2, 16, 32}, {1, 1, 64},  {64, 15, 1}, {96, 5, 1},
                                         {256, 4, 1}, {32, 16, 1}, {64, 16, 1}};

    for (unsigned warps = 1; warps <= 32; warps++) {
        const unsigned cta[3] = {32 * warps, 1, 1};
        reduce_shape(cta, 0);
        reduce_shape(cta, 1);
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        reduce_shape(shapes[i], 0);
        reduce_shape(shapes[i], 1);
    }
}

/* ---------------------------------------------------------------- grids */

/* Grids of every dimension, the largest anywhere, launch after launch with one workspace, which is
   0 again each time; one CTA is the last. */
GPU_TEST(reduce, grids)
{
    static const unsigned grids[][3] = {{1, 1, 1}, {7, 1, 1}, {3, 5, 2}, {1, 1, 33}, {1000, 1, 1}};
    static const float special[] = {0.0f, INFINITY, 0x1p-126f, FLT_MAX};
    enum { MOST_CTAS = 1000, ROUNDS = 8 };
    static const uint32_t zeros[2] = {0, 0};
    const gpu_buffer workspace = gpu_buffer_of(zeros, sizeof zeros, 8);
    const gpu_buffer max = gpu_buffer_new(sizeof(float), 4), last = gpu_buffer_new(4, 4);
    uint64_t state = 51;

    for (size_t i = 0; i < ROUNDS * sizeof grids / sizeof grids[0]; i++) {
        const unsigned *grid = grids[i / ROUNDS];
        const size_t ctas = (size_t)grid[0] * grid[1] * grid[2];
        float x[MOST_CTAS], expected = 0.0f, got;
        gpu_buffer in;
        for (size_t cta = 0; cta < ctas; cta++) {
            x[cta] = i % ROUNDS == 1 ? 0.0f : host_random_scale(&state, -12, 12);
        }
        if (i % 2 == 0) {
            x[host_below(&state, (uint32_t)ctas)] = special[i / 2 % 4];
        }
        for (size_t cta = 0; cta < ctas; cta++) {
            expected = fmaxf(expected, x[cta]);
        }
        in = gpu_buffer_of(x, ctas * sizeof(float), 0);
        for (size_t p = 0; p < PATHS; p++) {
            uint32_t words[2], count;
            gpu_poison(max, 0x7f);
            gpu_poison(last, 0);
            GPU_OK(paths[p]->grid_max(grid, path_floats(in), path_words(workspace),
                                      path_floats(max), path_words(last)));
            gpu_finish(paths[p]->name);
            gpu_download(&got, max);
            gpu_download(words, workspace);
            gpu_download(&count, last);
            CHECK_EQ(host_bits_of(got), host_bits_of(expected), "%s, %zu CTAs, round %zu",
                     paths[p]->name, ctas, i % ROUNDS);
            CHECK_EQ(words[0] | words[1], 0, "%s, %zu CTAs: the workspace", paths[p]->name, ctas);
            CHECK_EQ(count, 1, "%s, %zu CTAs: which are the last", paths[p]->name, ctas);
        }
        gpu_buffer_free(in);
    }
    gpu_expect_guards(workspace, "the workspace");
    gpu_expect_guards(max, "the result");
    gpu_buffer_free(workspace);
    gpu_buffer_free(max);
    gpu_buffer_free(last);
}

/* ---------------------------------------------------------------- rows */

/* What row.h says of a sum: pieces, then threads, then the CTA of fp4_row_threads. */
static float of_row(const float *x, size_t pieces)
{
    const size_t threads = fp4_row_threads(pieces * FP4_ROW_PIECE);
    float sums[MOST_THREADS] = {0};

    for (size_t piece = 0; piece < pieces; piece++) {
        sums[piece % threads] += of_fragment(SUM, x + piece * FP4_ROW_PIECE, FP4_ROW_PIECE, 0.0f);
    }
    return of_cta(WARP_SUM, sums, threads);
}

/* The row's sum in every thread, its scale bytes where layout.h says, the padding of the rows. */
static void expect_rows(fp4_layout layout, size_t pieces, size_t lanes, unsigned each)
{
    enum { ROWS = 5 };
    const size_t sf_cols = pieces / lanes, padded = fp4_sf_rows_padded(layout, ROWS);
    const size_t n = ROWS * pieces * FP4_ROW_PIECE;
    const size_t sf_bytes = fp4_sf_bytes(layout, ROWS, sf_cols);
    const size_t threads =
        each == 1 ? (pieces + 31) / 32 * 32 : fp4_row_threads(pieces * FP4_ROW_PIECE);
    float *x = numbers(n, 0, pieces), *sums = (float *)host_zeros(ROWS * threads * sizeof(float));
    uint8_t *bytes = (uint8_t *)host_zeros(ROWS * sf_cols), *got;
    uint8_t *expected = (uint8_t *)host_zeros(sf_bytes);
    const gpu_buffer out = gpu_buffer_new(ROWS * threads * sizeof(float), 0);
    const gpu_buffer sf = gpu_buffer_new(sf_bytes, 0);
    gpu_buffer in, in_bytes;
    uint64_t state = pieces;
    char what[96];

    snprintf(what, sizeof what, "layout %d, %zu pieces, %u of %zu threads each, blocks of %zu",
             (int)layout, pieces, each, threads, lanes);
    for (size_t i = 0; i < ROWS * sf_cols; i++) {
        bytes[i] = (uint8_t)host_random(&state);
        expected[fp4_sf_offset(layout, i / sf_cols, i % sf_cols, sf_cols)] = bytes[i];
    }
    for (size_t i = 0; i < ROWS * threads; i++) {
        sums[i] = of_row(x + i / threads * pieces * FP4_ROW_PIECE, pieces);
    }
    in = gpu_buffer_of(x, n * sizeof(float), 0);
    in_bytes = gpu_buffer_of(bytes, ROWS * sf_cols, 0);
    for (size_t p = 0; p < PATHS; p++) {
        gpu_poison(out, 0x7f);
        gpu_poison(sf, 0x7f);
        GPU_OK(paths[p]->row((int)layout, (unsigned)threads, each, ROWS, padded, (uint32_t)pieces,
                             (uint32_t)lanes, path_floats(in), in_bytes.bytes, path_floats(out),
                             sf.bytes));
        path_expect_floats(out, sums, what, paths[p]->name);
        got = (uint8_t *)gpu_copy_of(sf);
        host_expect_bytes(got, expected, sf_bytes, what);
        gpu_expect_guards(sf, what);
        free(got);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(in_bytes);
    gpu_buffer_free(out);
    gpu_buffer_free(sf);
    free(x);
    free(sums);
    free(bytes);
    free(expected);
}

/* Up to 1024 pieces a thread can have but one of them, and the CTA more threads than the order of
   the sum knows. */
GPU_TEST(reduce, rows_of_pieces)
{
    static const size_t pieces[] = {1,   2,   24,  32,  34,   64,   96,   128, 130,
                                    160, 320, 448, 512, 1000, 1024, 1500, 2048};

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        const unsigned each = fp4_row_each(pieces[i] * FP4_ROW_PIECE);
        for (size_t lanes = 1; lanes <= 2; lanes++) {
            for (int layout = FP4_LAYOUT_128X4; layout <= FP4_LAYOUT_LINEAR; layout++) {
                if (pieces[i] % lanes == 0) {
                    expect_rows((fp4_layout)layout, pieces[i], lanes, FP4_ROW_EACH);
                }
                if (pieces[i] % lanes == 0 && pieces[i] <= FP4_ROW_EACH * FP4_ROW_THREADS) {
                    expect_rows((fp4_layout)layout, pieces[i], lanes, 1);
                }
                if (pieces[i] % lanes == 0 && each > 1 && each < FP4_ROW_EACH) {
                    expect_rows((fp4_layout)layout, pieces[i], lanes, each);
                }
            }
        }
    }
}

/* ---------------------------------------------------------------- products */

GPU_TEST(reduce, products_of_fragments)
{
    const size_t n = 32 * (gpu_is_reduced() ? 10 : 5000);
    float *x = numbers(n, 1, 1), *y = numbers(n, 1, 2);
    float *expected = (float *)host_zeros(n * sizeof(float));
    const gpu_buffer in_x = gpu_buffer_of(x, n * sizeof(float), 0);
    const gpu_buffer in_y = gpu_buffer_of(y, n * sizeof(float), 0);
    const gpu_buffer out = gpu_buffer_new(n * sizeof(float), 0);
    const float factor = 0.7f;

    for (size_t i = 0; i < n; i++) {
        expected[i] = host_mul(host_mul(x[i], y[i]), factor);
    }
    for (size_t p = 0; p < PATHS; p++) {
        for (size_t count = 8; count <= 32; count *= 2) {
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->multiply((int)count, path_floats(in_x), path_floats(in_y), factor,
                                      n / count, path_floats(out)));
            path_expect_floats(out, expected, "mul, then scale", paths[p]->name);
        }
    }
    gpu_buffer_free(in_x);
    gpu_buffer_free(in_y);
    gpu_buffer_free(out);
    free(x);
    free(y);
    free(expected);
}

/* Element i of fragments of 16. */
static float combined_element(parts_arithmetic how, const float *x, const float *y, const float *z,
                              float term, size_t i)
{
    const size_t pair = i / 16 * 16 + i % 16 / 2;

    switch (how) {
    case ADD:
    case ADD_32:
        return x[i] + y[i];
    case SHIFT:
    case SHIFT_32:
        return x[i] + term;
    case FMA:
    case FMA_32:
        return fmaf(x[i], y[i], z[i]);
    case TURN:
        return fmaf(x[i], z[i], host_mul(y[i], x[i]));
    case NEOX_X:
        return fmaf(x[i], z[i], -host_mul(y[i], x[i]));
    case NEOX_Y:
        return fmaf(y[i], z[i], host_mul(x[i], x[i]));
    case GPTJ:
        return i % 2 ? fmaf(x[i], z[pair], host_mul(x[i - 1], y[pair]))
                     : fmaf(x[i], z[pair], -host_mul(x[i + 1], y[pair]));
    case PARTS_ARITHMETIC:
        break;
    }
    return NAN;
}

GPU_TEST(reduce, sums_of_fragments)
{
    static const char *const names[] = {
        "add_x16", "shift_x16",     "fma_x16",     "add_x32",     "shift_x32",
        "fma_x32", "rope_turn_x16", "rope_neox_x", "rope_neox_y", "rope_gptj_x16"};
    const size_t n = 16 * (gpu_is_reduced() ? 20 : 10000);
    float *x = numbers(n, 1, 3), *y = numbers(n, 1, 4), *z = numbers(n, 1, 5);
    float *expected = (float *)host_zeros(n * sizeof(float));
    const gpu_buffer in_x = gpu_buffer_of(x, n * sizeof(float), 0);
    const gpu_buffer in_y = gpu_buffer_of(y, n * sizeof(float), 0);
    const gpu_buffer in_z = gpu_buffer_of(z, n * sizeof(float), 0);
    const gpu_buffer out = gpu_buffer_new(n * sizeof(float), 0);
    const float term = -0.7f;

    for (int how = 0; how < PARTS_ARITHMETIC; how++) {
        for (size_t i = 0; i < n; i++) {
            expected[i] = combined_element((parts_arithmetic)how, x, y, z, term, i);
        }
        for (size_t p = 0; p < PATHS; p++) {
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->combine((parts_arithmetic)how, path_floats(in_x), path_floats(in_y),
                                     path_floats(in_z), term, n / 16, path_floats(out)));
            path_expect_floats(out, expected, names[how], paths[p]->name);
        }
    }
    gpu_buffer_free(in_x);
    gpu_buffer_free(in_y);
    gpu_buffer_free(in_z);
    gpu_buffer_free(out);
    free(x);
    free(y);
    free(z);
    free(expected);
}

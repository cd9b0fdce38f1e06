/*
 * tests/gpu/test_reduce.c - amax, max and sum of fragments, lanes, warps and CTAs against a model
 * on the host that does the same steps in the same order, bit for bit; and products of fragments.
 * In every way they can be compiled.
 */
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

/* A CTA: the warps, then the warps' results as the lanes of one warp, zeros where there is none. */
static float of_cta(parts_reducer how, const float *x, size_t threads)
{
    float lanes[MOST_THREADS], warps[LANES] = {0};

    memcpy(lanes, x, threads * sizeof(float));
    butterfly(how, lanes, threads, LANES);
    for (size_t warp = 0; warp < threads / LANES; warp++) {
        warps[warp] = lanes[warp * LANES];
    }
    butterfly(how, warps, LANES, LANES);
    return warps[0];
}

/* ---------------------------------------------------------------- fragments */

static float of_fragment(parts_reducer how, const float *x, size_t count, float start)
{
    float result = how == SUMSQ ? start : 0.0f;

    for (size_t i = 0; i < count; i++) {
        result = how == SUMSQ ? fmaf(x[i], x[i], result)
                              : larger(result, fabsf(x[i]), how == AMAX_OR_NAN);
    }
    return result;
}

static void reduce_fragments(parts_reducer how, size_t count, const char *what)
{
    const size_t n = gpu_is_reduced() ? 100 : 20000;
    float *x = numbers(n * count, how != SUMSQ, count), *start = numbers(n, 0, 99);
    float *expected = (float *)host_zeros(n * sizeof(float));
    gpu_buffer in, out;

    for (size_t i = 0; i < count; i++) { /* fragments of nothing but NaN, and but one number */
        x[i] = how == SUMSQ ? x[i] : NAN;
        x[count + i] = how == SUMSQ || i + 1 == count ? x[i] : -NAN;
        x[2 * count + i] = how == SUMSQ || i % 2 ? 0.0f : -0.0f;
    }
    x[2 * count - 1] = -2.5f;
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
    reduce_fragments(AMAX_OR_NAN, 8, "amax_or_nan_x8");
    reduce_fragments(AMAX_OR_NAN, 16, "amax_or_nan_x16");
    reduce_fragments(AMAX_OR_NAN, 32, "amax_or_nan_x32");
    reduce_fragments(SUMSQ, 8, "sumsq_x8");
    reduce_fragments(SUMSQ, 16, "sumsq_x16");
    reduce_fragments(SUMSQ, 32, "sumsq_x32");
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

/* ---------------------------------------------------------------- CTAs */

static void reduce_shape(const unsigned cta[3])
{
    enum { SUM, MAX, SUM_AGAIN, RESULTS };
    const size_t threads = (size_t)cta[0] * cta[1] * cta[2];
    const unsigned ctas = gpu_is_reduced() ? 2 : 40;
    const size_t n = threads * ctas;
    float *x = numbers(n, 0, threads), *magnitudes = (float *)host_zeros(n * sizeof(float));
    float *expected = (float *)host_zeros(RESULTS * n * sizeof(float));
    gpu_buffer in, out = gpu_buffer_new(RESULTS * n * sizeof(float), 0);
    char what[96];

    snprintf(what, sizeof what, "cta_sum, cta_max, cta_sum of %u x %u x %u", cta[0], cta[1],
             cta[2]);
    for (size_t i = 0; i < n; i++) {
        magnitudes[i] = fabsf(x[i]);
    }
    for (size_t c = 0; c < n; c += threads) {
        const float sum = of_cta(WARP_SUM, x + c, threads);
        const float max = of_cta(WARP_MAX, magnitudes + c, threads);
        const float sum_again = of_cta(WARP_SUM, magnitudes + c, threads);
        for (size_t i = c; i < c + threads; i++) {
            expected[SUM * n + i] = sum;
            expected[MAX * n + i] = max;
            expected[SUM_AGAIN * n + i] = sum_again;
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

GPU_TEST(reduce, ctas_of_every_number_of_warps)
{
    static const unsigned shapes[][3] = {{8, 4, 1},   {16, 2, 3},  {4, 4, 64},
                                         {32, 32, 1}, {2, 16, 32}, {1, 1, 64}};

    for (unsigned warps = 1; warps <= 32; warps += gpu_is_reduced() ? 15 : 1) {
        const unsigned cta[3] = {32 * warps, 1, 1};
        reduce_shape(cta);
    }
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        reduce_shape(shapes[i]);
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

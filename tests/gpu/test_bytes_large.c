/*
 * tests/gpu/test_bytes_large.c - the launchers of 11_shuffle and 14_packbits where offsets pass
 * 2^32 bytes. Inputs repeat themselves, as in test_launch_large.c. Needs up to 9 GB of device
 * memory. Reduced, the same with less, for a CPU to try it.
 */
#include <fp4/host/packbits.h>
#include <fp4/host/shuffle.h>

#include "bytes.h"

/* How many periods: more than 2^32 bytes of them. */
static size_t periods_of(size_t bytes)
{
    return gpu_is_reduced() ? 7 : ((size_t)1 << 32) / bytes + 100;
}

/* Device memory full of a period. */
static gpu_buffer repeated(const void *period, size_t period_bytes, size_t periods)
{
    const gpu_buffer one = gpu_buffer_of(period, period_bytes, 0);
    const gpu_buffer all = gpu_buffer_new(periods * period_bytes, 0);

    GPU_OK(gpu_repeat(all.bytes, all.size, one.bytes, period_bytes));
    gpu_finish("repeating a period");
    gpu_buffer_free(one);
    return all;
}

/* All of a buffer, again and again what is expected of a period. */
static void compare(gpu_buffer got, const void *expected, size_t period_bytes, const char *what)
{
    const gpu_buffer period = gpu_buffer_of(expected, period_bytes, 0);
    const gpu_buffer found = gpu_differences_new(1);
    gpu_difference d;

    GPU_OK(gpu_compare(got.bytes, period.bytes, got.size, period_bytes, 0,
                       gpu_difference_at(found, 0)));
    gpu_download(&d, found);
    CHECK_EQ(d.count, 0, "%s: the first difference in byte %zu", what, (size_t)d.first);
    gpu_expect_guards(got, what);
    gpu_buffer_free(period);
    gpu_buffer_free(found);
}

/* A batch of one matrix, shuffled into tiles and back: whole pieces, and ragged rows. */
GPU_TEST(launch_large, scales_beyond_2_32)
{
    enum { ROWS = 128 };
    static const size_t cols[] = {1024, 90};
    uint64_t state = 1;

    for (int i = 0; i < 2; i++) {
        const size_t linear = ROWS * cols[i],
                     tiled = host_sf_bytes(FP4_LAYOUT_128X4, ROWS, cols[i]);
        uint8_t *x = bytes_random(linear, &state), *expected = (uint8_t *)host_zeros(tiled);
        const gpu_buffer in = repeated(x, linear, periods_of(linear));
        const gpu_buffer out = gpu_buffer_new(periods_of(linear) * tiled, 0);
        launch_interleave_args a;
        memset(&a, 0, sizeof a);
        a.in = in.bytes;
        a.out = out.bytes;
        a.element = 1;
        a.batches = periods_of(linear);
        a.rows = ROWS;
        a.sf_cols = cols[i];
        a.layout = FP4_LAYOUT_128X4;
        a.epilogue_tile_m = 128;
        cr_assert(fp4_ref_shuffle_sf(x, linear, expected, tiled, 1, 1, ROWS, cols[i], 128) ==
                  FP4_OK);
        gpu_poison(out, 0x7f);
        GPU_OK(launch_interleave(&a, 0, 0));
        gpu_finish("to tiles");
        compare(out, expected, tiled, "to tiles");
        gpu_poison(in, 0x7f);
        a.in = out.bytes;
        a.out = in.bytes;
        a.reverse = 1;
        GPU_OK(launch_interleave(&a, 0, 0));
        gpu_finish("and back");
        compare(in, x, linear, "and back");
        gpu_buffer_free(in);
        gpu_buffer_free(out);
        free(x);
        free(expected);
    }
}

/* Rows of pieces of 16 bytes and of 8, and of neither. */
GPU_TEST(launch_large, rows_beyond_2_32)
{
    enum { ROWS = 64 };
    static const size_t lengths[] = {4096, 1000, 999};
    uint64_t state = 2;

    for (int i = 0; i < 3; i++) {
        const size_t bytes = ROWS * lengths[i];
        uint8_t *x = bytes_random(bytes, &state), *expected = (uint8_t *)host_zeros(bytes);
        const gpu_buffer in = repeated(x, bytes, periods_of(bytes));
        const gpu_buffer out = gpu_buffer_new(in.size, 0);
        launch_shuffle_args a;
        memset(&a, 0, sizeof a);
        a.in = in.bytes;
        a.out = out.bytes;
        a.batches = periods_of(bytes);
        a.rows = ROWS;
        a.row_bytes = lengths[i];
        a.epilogue_tile_m = 64;
        cr_assert(fp4_ref_shuffle_rows(x, bytes, expected, bytes, 1, ROWS, lengths[i], 64) ==
                  FP4_OK);
        gpu_poison(out, 0x7f);
        GPU_OK(launch_shuffle(&a, 0, 0));
        gpu_finish("rows");
        compare(out, expected, bytes, "rows");
        gpu_buffer_free(in);
        gpu_buffer_free(out);
        free(x);
        free(expected);
    }
}

/* Aligned, and from byte 3 of the period on. */
GPU_TEST(launch_large, bits_beyond_2_32)
{
    enum { PERIOD = 1 << 16 };
    uint64_t state = 3;
    uint8_t *x = bytes_random(PERIOD, &state), turned[PERIOD], expected[PERIOD / 8];
    const gpu_buffer in = repeated(x, PERIOD, periods_of(PERIOD) + 1);
    const gpu_buffer out = gpu_buffer_new(periods_of(PERIOD) * (PERIOD / 8), 0);

    for (size_t i = 0; i < PERIOD; i++) {
        x[i] = x[i] < 128 ? 0 : x[i];
    }
    for (size_t shift = 0; shift <= 3; shift += 3) {
        const gpu_buffer period = gpu_buffer_of(x, PERIOD, 0);
        launch_packbits_args a = {out.bytes, in.bytes + shift, out.size * 8, FP4_BITS_BIG};
        GPU_OK(gpu_repeat(in.bytes, in.size, period.bytes, PERIOD));
        for (size_t i = 0; i < PERIOD; i++) {
            turned[i] = x[(i + shift) % PERIOD];
        }
        cr_assert(fp4_ref_packbits(turned, PERIOD, FP4_BITS_BIG, expected, sizeof expected) ==
                  FP4_OK);
        gpu_poison(out, 0x7f);
        GPU_OK(launch_packbits(&a, 0, 0));
        gpu_finish("bits");
        compare(out, expected, sizeof expected, "bits");
        gpu_buffer_free(period);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
}

/* Segments of 65,531 bytes and of 5. */
GPU_TEST(launch_large, segments_beyond_2_32)
{
    enum { PAIRS = 16, LONG = 65531, SHORT = 5, MADE = 8193, PERIOD = PAIRS * (LONG + SHORT) };
    const size_t periods = periods_of(PERIOD), segments = 2 * PAIRS * periods;
    int64_t *indptr = (int64_t *)host_zeros((segments + 1) * sizeof(int64_t));
    int64_t *made = (int64_t *)host_zeros((segments + 1) * sizeof(int64_t));
    uint8_t *expected = (uint8_t *)host_zeros(PAIRS * MADE), *x;
    const size_t workspace_bytes = launch_segment_workspace_bytes(segments);
    void *zeros = host_zeros(workspace_bytes);
    const uint32_t none = 0;
    const gpu_buffer workspace = gpu_buffer_of(zeros, workspace_bytes, 0);
    const gpu_buffer errors = gpu_buffer_of(&none, sizeof none, 0);
    gpu_buffer in, out, of, made_of;
    launch_segment_packbits_args a;
    uint64_t state = 4;

    for (size_t s = 0; s < segments; s++) {
        indptr[s + 1] = indptr[s] + (s % 2 == 0 ? LONG : SHORT);
        made[s + 1] = made[s] + (s % 2 == 0 ? MADE - 1 : 1);
    }
    x = bytes_random(PERIOD, &state);
    for (size_t i = 0; i < PERIOD; i++) {
        x[i] = x[i] < 128 ? 0 : x[i];
    }
    cr_assert(fp4_ref_segment_packbits(x, PERIOD, indptr, 8, 2 * PAIRS, FP4_BITS_LITTLE, expected,
                                       PAIRS * MADE, NULL) == FP4_OK);
    in = repeated(x, PERIOD, periods);
    out = gpu_buffer_new(periods * (PAIRS * MADE), 0);
    of = gpu_buffer_of(indptr, (segments + 1) * sizeof(int64_t), 0);
    made_of = gpu_buffer_new(of.size, 0);
    memset(&a, 0, sizeof a);
    a.out = out.bytes;
    a.out_bytes = out.size;
    a.x = in.bytes;
    a.n = in.size;
    a.indptr = of.bytes;
    a.new_indptr = made_of.bytes;
    a.index_bytes = 8;
    a.segments = segments;
    a.order = FP4_BITS_LITTLE;
    a.workspace = workspace_bytes == 0 ? NULL : (uint32_t *)(void *)workspace.bytes;
    a.errors = (uint32_t *)(void *)errors.bytes;
    gpu_poison(out, 0x7f);
    GPU_OK(launch_segment_packbits(&a, 0, 0));
    gpu_finish("segments");
    compare(out, expected, PAIRS * MADE, "segments");
    bytes_expect(made_of, made, "new_indptr");
    bytes_expect(errors, &none, "errors");
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    gpu_buffer_free(of);
    gpu_buffer_free(made_of);
    gpu_buffer_free(workspace);
    gpu_buffer_free(errors);
    free(x);
    free(expected);
    free(indptr);
    free(made);
    free(zeros);
}

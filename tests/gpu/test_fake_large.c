/*
 * tests/gpu/test_fake_large.c - the launcher of 07_fake_quant where indices pass 2^31 elements and
 * 2^32 bytes. The input repeats itself every so many rows, as in test_launch_large.c. Needs up to
 * 11 GB of device memory.
 */
#include "fake.h"

enum { PERIOD = 1920 };

/* Device memory full of a period. */
static gpu_buffer repeated(const void *period, size_t period_bytes, size_t bytes)
{
    const gpu_buffer one = gpu_buffer_of(period, period_bytes, 0), all = gpu_buffer_new(bytes, 0);

    GPU_OK(gpu_repeat(all.bytes, bytes, one.bytes, period_bytes));
    gpu_finish("repeating rows");
    gpu_buffer_free(one);
    return all;
}

/* All of a buffer, again and again what is expected of the rows of a period. */
static void compare(const fake_case *c, gpu_buffer got, const uint8_t *expected,
                    size_t period_bytes, const char *what)
{
    const gpu_buffer period = gpu_buffer_of(expected, period_bytes, 0);
    const gpu_buffer found = gpu_differences_new(1);
    gpu_difference d;

    GPU_OK(gpu_compare(got.bytes, period.bytes, got.size, period_bytes, 0,
                       gpu_difference_at(found, 0)));
    gpu_download(&d, found);
    CHECK_EQ(d.count, 0, "%s: %s, the first difference in byte %zu", fake_text(c), what,
             (size_t)d.first);
    gpu_expect_guards(got, fake_text(c));
    gpu_buffer_free(period);
    gpu_buffer_free(found);
}

/* Rows without gaps, and then the same elements as one row; f16 or bf16, in which NaN is always the
   same. */
static void run_large(fake_case c)
{
    const size_t x_row = c.cols * host_dtype_bytes(c.unit->input);
    const size_t y_row = c.cols * host_dtype_bytes(c.unit->output);
    const size_t amax_row = c.cols / fake_block(&c) * sizeof(float);
    const int has_amax = c.is_static && c.unit->rule != FP4_FAKE_CAST;
    fake_case period = c;
    fake_operands o;
    fake_expected e;
    gpu_buffer x, y, amax, clipped;
    fake_device d;
    uint64_t state = 6;

    period.rows = PERIOD;
    o = fake_operands_random(&period, &state);
    e = fake_expect(&period, &o, 0x7f);
    d = fake_device_new(&period, &o);
    x = repeated(o.x, PERIOD * x_row, c.rows * x_row);
    amax = repeated(o.amax, PERIOD * amax_row, (has_amax ? c.rows : PERIOD) * amax_row);
    y = gpu_buffer_new(c.rows * y_row, 0);
    clipped = gpu_buffer_new(c.rows * c.cols / 8, 0);
    d.args.x = x.bytes;
    d.args.y = y.bytes;
    d.args.rows = c.rows;
    d.args.amax = has_amax ? (const float *)(const void *)amax.bytes : NULL;
    d.args.clipped = clipped.bytes;
    for (int is_flat = 0; is_flat < 2; is_flat++) {
        if (is_flat) {
            d.args.cols = d.args.x_stride = d.args.y_stride = c.rows * c.cols;
            d.args.rows = 1;
        }
        gpu_poison(y, 0x7f);
        gpu_poison(clipped, 0x7f);
        GPU_OK(c.unit->launch(&d.args, 0, 0));
        gpu_finish(fake_text(&c));
        compare(&c, y, e.y, PERIOD * y_row, is_flat ? "y, as one row" : "y");
        compare(&c, clipped, e.clipped, PERIOD * c.cols / 8, is_flat ? "bits, as one row" : "bits");
    }
    gpu_buffer_free(x);
    gpu_buffer_free(y);
    gpu_buffer_free(amax);
    gpu_buffer_free(clipped);
    fake_device_free(d);
    fake_expected_free(e);
    fake_operands_free(o);
}

/* 2,149,588,992 elements: passes 2^31 elements and 2^32 bytes in row 262,144; of ModelOpt both
   kernels. */
GPU_TEST(launch_large, faked_beyond_2_32)
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        fake_case c = fake_case_of(unit, 262401, 8192);
        if (unit->input != FP4_BF16 || unit->output != FP4_BF16) {
            continue;
        }
        c.is_static = u % 2 == 0 || unit->rule == FP4_FAKE_MODELOPT;
        run_large(c);
        if (unit->rule == FP4_FAKE_MODELOPT) {
            c.block = 8;
            run_large(c);
        }
    }
}

/* More rows than 65,535 times 8, of one block; and one of 2^24 columns and a bit. */
GPU_TEST(launch_large, faked_rows_beyond_a_grid_and_wide_rows)
{
    uint64_t state = 1;

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        fake_case c = fake_case_of(&fake_units[u], 600001, 32);
        fake_operands o;
        if (c.unit->input == FP4_F16 && c.unit->output == FP4_BF16) {
            c.is_static = (int)(u % 2);
            o = fake_operands_random(&c, &state);
            fake_run(&c, &o);
            fake_operands_free(o);
            c.rows = 2;
            c.cols = c.x_stride = c.y_stride = ((size_t)1 << 24) + 32;
            o = fake_operands_random(&c, &state);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

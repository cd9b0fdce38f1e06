/*
 * tests/gpu/test_dequantize_large.c - the launchers of 06_dequantize where indices pass 2^31
 * elements and 2^32 bytes. The input repeats itself every so many rows, as in test_launch_large.c:
 * the host reference dequantizes these, and the device compares all bytes with them. Needs up to
 * 11 GB of device memory.
 */
#include "back.h"

enum { PERIOD = 15 * 128 };

/* Codes and scale bytes of a period; in f32, where its bits are nobody's business, without NaN. */
static back_input period_of(const back_case *period)
{
    uint64_t state = 5;
    back_input in = back_input_random(period, &state);

    for (size_t i = 0; i < back_sf_bytes(period) && period->c.dtype == FP4_F32; i++) {
        in.sf[i] &= 0x77;
    }
    for (size_t i = 0; i < back_q_bytes(period) && period->c.dtype == FP4_F32; i++) {
        in.q[i] &= 0x77;
    }
    return in;
}

/* Device memory full of a period. */
static gpu_buffer repeated(const uint8_t *period, size_t period_bytes, size_t bytes)
{
    const gpu_buffer one = gpu_buffer_of(period, period_bytes, 0), all = gpu_buffer_new(bytes, 0);

    GPU_OK(gpu_repeat(all.bytes, bytes, one.bytes, period_bytes));
    gpu_finish("repeating rows");
    gpu_buffer_free(one);
    return all;
}

/* The row of the period that the first one of a matrix repeats: matrices follow each other in codes
   and scale bytes. */
static void compare_matrix(const back_case *b, const back_device *d, size_t batch,
                           gpu_buffer expected)
{
    const size_t size = host_dtype_bytes(b->c.dtype), row_bytes = b->c.cols * size;
    const size_t bytes = b->c.rows * row_bytes, phase = batch * b->c.rows % PERIOD;
    const gpu_buffer found = gpu_differences_new(1);
    gpu_difference difference;

    GPU_OK(gpu_compare(d->y.bytes + batch * b->c.batch_stride * size, expected.bytes, bytes,
                       expected.size, phase * row_bytes, gpu_difference_at(found, 0)));
    gpu_download(&difference, found);
    CHECK_EQ(difference.count, 0, "%s: matrix %zu, the first difference in row %zu", back_text(b),
             batch, (size_t)difference.first / row_bytes - phase);
    gpu_buffer_free(found);
}

/* Rows of each matrix: whole tiles, or the matrix is alone. */
static void run_large(back_case b)
{
    back_case period = b;
    back_input in;
    back_device d;
    gpu_buffer expected;
    uint8_t *image;

    period.c.rows = PERIOD;
    period.c.batches = 1;
    in = period_of(&period);
    image = back_expected(&period, &in, 0x7f);
    expected = gpu_buffer_of(image, case_x_bytes(&period.c), 0);
    d = back_device_new(&period, &in);
    gpu_buffer_free(d.y);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    d.q = repeated(in.q, back_q_bytes(&period), back_q_bytes(&b));
    d.sf = repeated(in.sf, back_sf_bytes(&period), back_sf_bytes(&b));
    d.y = gpu_buffer_new(case_x_bytes(&b.c), 0);
    gpu_poison(d.y, 0x7f);
    d.args.y = d.y.bytes;
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.batches = b.c.batches;
    d.args.rows = b.c.rows;
    GPU_OK(b.unit->launch(&d.args, 0, 0));
    gpu_finish(back_text(&b));
    for (size_t batch = 0; batch < b.c.batches; batch++) {
        compare_matrix(&b, &d, batch, expected);
    }
    gpu_expect_guards(d.y, back_text(&b));
    gpu_buffer_free(expected);
    back_device_free(d);
    back_input_free(in);
    free(image);
}

/* 2,149,588,992 elements, 4.3 GB out: passes 2^31 elements and 2^32 bytes in row 262,144. */
GPU_TEST(launch_large, dequantized_beyond_2_32)
{
    for (int layout = 0; layout < 3; layout++) {
        run_large(
            back_case_of(back_unit_of(FP4_NVFP4, FP4_BF16), (fp4_layout)layout, 262401, 8192));
    }
    run_large(back_case_of(back_unit_of(FP4_MXFP8, FP4_F32), FP4_LAYOUT_128X4, 262401, 8192));
}

/* Three matrices, the last of which lies beyond 2^31 elements. */
GPU_TEST(launch_large, dequantized_batches_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        back_case b =
            back_case_of(back_unit_of(FP4_MXFP4, FP4_F16), (fp4_layout)layout, 1016 * 128, 8192);
        b.c.batches = 3;
        b.c.batch_stride = (size_t)130048 * 8192 + 64;
        run_large(b);
    }
}

/* More rows than 65,535 times 8, of one block; as many matrices of one row. */
GPU_TEST(launch_large, dequantized_rows_and_batches_beyond_a_grid)
{
    uint64_t state = 1;

    for (size_t i = 0; i < BACK_UNITS; i++) {
        const size_t block = fp4_format_block(back_units[i].format);
        back_case b = back_case_of(&back_units[i], (fp4_layout)(i % 3), 600001, block);
        back_input in = back_input_random(&b, &state);
        b.c.scale = 1.0f;
        back_run(&b, &in);
        back_input_free(in);
        b.c.rows = 1;
        b.c.batches = 70001;
        b.c.batch_stride = 2 * block;
        in = back_input_random(&b, &state);
        back_run(&b, &in);
        back_input_free(in);
    }
}

/* Two rows of 2^24 columns and a bit. */
GPU_TEST(launch_large, dequantized_wide_rows)
{
    uint64_t state = 2;

    for (int i = 0; i < 3; i++) {
        back_case b = back_case_of(back_unit_of(FP4_NVFP4, (fp4_dtype)i), (fp4_layout)i, 2,
                                   ((size_t)1 << 24) + 32);
        back_input in = back_input_random(&b, &state);
        back_run(&b, &in);
        back_input_free(in);
    }
}

/* n codes in one run, of which every so many are the same. */
static void run_large_blocks(size_t n, size_t period, size_t block)
{
    const back_unit *unit = back_unit_of(FP4_NVFP4, FP4_F16);
    uint8_t *q = (uint8_t *)host_zeros(period / 2), *sf = (uint8_t *)host_zeros(period / block);
    uint8_t *y = (uint8_t *)host_zeros(period * 2);
    const gpu_buffer found = gpu_differences_new(1), out = gpu_buffer_new(n * 2, 0);
    gpu_buffer in_q, in_sf, expected;
    launch_blocks_args a;
    gpu_difference difference;
    uint64_t state = block;

    for (size_t i = 0; i < period / 2; i++) {
        q[i] = (uint8_t)host_random(&state);
    }
    for (size_t i = 0; i < period / block; i++) {
        sf[i] = (uint8_t)host_random(&state);
    }
    cr_assert(fp4_ref_dequantize_blocks(q, period, block, sf, FP4_SF_E4M3, 0.3f, FP4_CODE_FIRST,
                                        FP4_F16, y) == FP4_OK);
    in_q = repeated(q, period / 2, n / 2);
    in_sf = repeated(sf, period / block, n / block);
    expected = gpu_buffer_of(y, period * 2, 0);
    gpu_poison(out, 0x7f);
    memset(&a, 0, sizeof a);
    a.y = out.bytes;
    a.q = in_q.bytes;
    a.sf = in_sf.bytes;
    a.sf_type = FP4_SF_E4M3;
    a.global.value = 0.3f;
    a.global.is_dec = 1;
    a.n = n;
    a.block = block;
    GPU_OK(unit->launch_blocks(&a, 0, 0));
    gpu_finish("blocks");
    GPU_OK(
        gpu_compare(out.bytes, expected.bytes, n * 2, period * 2, 0, gpu_difference_at(found, 0)));
    gpu_download(&difference, found);
    CHECK_EQ(difference.count, 0, "blocks of %zu, the first difference in element %zu", block,
             (size_t)difference.first / 2);
    gpu_expect_guards(out, "blocks");
    gpu_buffer_free(found);
    gpu_buffer_free(out);
    gpu_buffer_free(in_q);
    gpu_buffer_free(in_sf);
    gpu_buffer_free(expected);
    free(q);
    free(sf);
    free(y);
}

/* 2,149,588,992 codes. */
GPU_TEST(launch_large, dequantized_blocks_beyond_2_31)
{
    run_large_blocks((size_t)262401 * 8192, (size_t)PERIOD * 8192, 24);
    run_large_blocks((size_t)262401 * 8192, (size_t)PERIOD * 8192, 32);
}

/*
 * tests/gpu/test_launch_large.c - the launchers where indices pass 2^31 elements, 2^31 and 2^32
 * bytes, or the limits of a grid.
 *
 * The input repeats itself every so many rows, so that the host reference quantizes these rows and
 * the device compares all bytes of the output with them. The period divides no power of two: an
 * index that has lost its upper bits reads, or writes, other values than it should. Needs up to
 * 24 GB of device memory.
 */
#include "cases.h"

enum { TILE_ROWS = 128, PERIOD = 15 * TILE_ROWS };

typedef struct large {
    gpu_case c, period; /* all of it, and the rows that repeat */
    case_device d;
    uint8_t *x, *q, *sf; /* of a period */
} large;

/* The row of the period that row `row` of a matrix repeats. */
static size_t phase_of(const large *l, size_t batch, size_t row)
{
    return (batch * (l->c.batch_stride / l->c.row_stride) + row) % l->period.rows;
}

/* Rows of the output, from a whole tile on, against the host reference. At most to the end of a
   tile or of the matrix. */
static void compare_rows(const large *l, size_t batch, size_t first, size_t rows)
{
    const size_t size = host_dtype_bytes(l->c.dtype),
                 row_q = fp4_q_bytes(l->c.format, 1, l->c.q_cols);
    const size_t q_at = batch * case_q_bytes(&l->c) + first * row_q;
    const size_t sf_at =
        batch * case_sf_bytes(&l->c) + fp4_sf_offset(l->c.layout, first, 0, case_sf_cols(&l->c));
    gpu_case c = l->c;
    uint8_t *memory, *q, *sf;

    c.rows = rows;
    c.batches = 1;
    memory = (uint8_t *)host_zeros(2 * (case_q_bytes(&c) + case_sf_bytes(&c)));
    q = memory;
    sf = q + 2 * case_q_bytes(&c);
    GPU_OK(cudaMemcpy(q, l->d.q.bytes + q_at, case_q_bytes(&c), cudaMemcpyDeviceToHost));
    GPU_OK(cudaMemcpy(sf, l->d.sf.bytes + sf_at, case_sf_bytes(&c), cudaMemcpyDeviceToHost));
    case_expected(&c, l->x + phase_of(l, batch, first) * c.row_stride * size, 0,
                  q + case_q_bytes(&c), sf + case_sf_bytes(&c));
    case_compare(&c, first, q, sf, q + case_q_bytes(&c), sf + case_sf_bytes(&c), 0x7f);
    free(memory);
}

/* Says where a difference is, and what it is. */
static void report(const large *l, size_t batch, gpu_difference d, size_t row, const char *what)
{
    const size_t first = row / TILE_ROWS * TILE_ROWS, left = l->c.rows - first;

    CHECK_EQ(d.count, 0, "%s: matrix %zu, the first in row %zu, %s", what, batch, row,
             case_text(&l->c));
    compare_rows(l, batch, first, left < TILE_ROWS ? left : TILE_ROWS);
}

static void compare_matrix(const large *l, size_t batch, gpu_buffer q, gpu_buffer sf)
{
    const size_t row_q = fp4_q_bytes(l->c.format, 1, l->c.q_cols);
    const size_t row_sf = fp4_sf_cols_padded(l->c.layout, case_sf_cols(&l->c));
    const size_t whole = l->c.rows / TILE_ROWS * TILE_ROWS, phase = phase_of(l, batch, 0);
    const gpu_buffer found = gpu_differences_new(2);
    gpu_difference d[2];

    GPU_OK(gpu_compare(l->d.q.bytes + batch * case_q_bytes(&l->c), q.bytes, case_q_bytes(&l->c),
                       q.size, phase * row_q, gpu_difference_at(found, 0)));
    GPU_OK(gpu_compare(l->d.sf.bytes + batch * case_sf_bytes(&l->c), sf.bytes, whole * row_sf,
                       sf.size, phase * row_sf, gpu_difference_at(found, 1)));
    gpu_download(d, found);
    if (d[0].count != 0) {
        report(l, batch, d[0], (size_t)d[0].first / row_q - phase, "codes");
    }
    if (d[1].count != 0) {
        report(l, batch, d[1], ((size_t)d[1].first / row_sf - phase) / TILE_ROWS * TILE_ROWS,
               "scales");
    }
    if (whole < l->c.rows) {
        compare_rows(l, batch, whole, l->c.rows - whole);
    }
    gpu_buffer_free(found);
}

static void run_large(gpu_case c, size_t period_rows)
{
    const size_t size = host_dtype_bytes(c.dtype);
    const size_t period_bytes = period_rows * c.row_stride * size;
    large l;
    gpu_case all_of_period;
    gpu_buffer x, q, sf;
    uint8_t *pool = cases_pool(c.dtype, 61);
    uint64_t state = c.rows;

    c.batch_stride = c.batches == 1 ? c.rows * c.row_stride : c.batch_stride;
    l.c = l.period = c;
    l.period.rows = period_rows;
    l.period.batches = 1;
    all_of_period = l.period;
    all_of_period.cols = c.row_stride; /* the gaps too */
    l.x = case_x_of_pool(&all_of_period, pool, 61, &state);
    l.q = (uint8_t *)host_zeros(case_q_bytes(&l.period));
    l.sf = (uint8_t *)host_zeros(case_sf_bytes(&l.period));
    case_expected(&l.period, l.x, 0, l.q, l.sf);
    x = gpu_buffer_of(l.x, period_bytes, 0);
    q = gpu_buffer_of(l.q, case_q_bytes(&l.period), 0);
    sf = gpu_buffer_of(l.sf, case_sf_bytes(&l.period), 0);

    l.d.x = gpu_buffer_new(case_x_bytes(&c), 0);
    GPU_OK(gpu_repeat(l.d.x.bytes, l.d.x.size, x.bytes, x.size));
    l.d.q = gpu_buffer_new(c.batches * case_q_bytes(&c), 0);
    l.d.sf = gpu_buffer_new(c.batches * case_sf_bytes(&c), 0);
    gpu_poison(l.d.q, 0x7f);
    gpu_poison(l.d.sf, 0x7f);
    memset(&l.d.args, 0, sizeof l.d.args);
    l.d.args.q = l.d.q.bytes;
    l.d.args.sf = l.d.sf.bytes;
    l.d.args.x = l.d.x.bytes;
    l.d.args.batches = c.batches;
    l.d.args.rows = c.rows;
    l.d.args.cols = c.cols;
    l.d.args.q_cols = c.q_cols;
    l.d.args.row_stride = c.row_stride;
    l.d.args.batch_stride = c.batch_stride;
    l.d.args.global.value = c.scale;
    l.d.args.x_dec.value = c.x_dec;
    GPU_OK(case_launcher(&c)(&l.d.args, 0, 0));
    gpu_finish(case_text(&c));

    for (size_t batch = 0; batch < c.batches; batch++) {
        compare_matrix(&l, batch, q, sf);
    }
    gpu_expect_guards(l.d.q, case_text(&c));
    gpu_expect_guards(l.d.sf, case_text(&c));
    gpu_buffer_free(l.d.x);
    gpu_buffer_free(l.d.q);
    gpu_buffer_free(l.d.sf);
    gpu_buffer_free(x);
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    free(l.x);
    free(l.q);
    free(l.sf);
    free(pool);
}

/* 2,149,588,992 elements, 4.3 GB in: passes 2^31 elements and 2^32 bytes in row 262,144. */
GPU_TEST(launch_large, elements_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        run_large(case_of(FP4_BF16, FP4_NVFP4, (fp4_layout)layout, 262401, 8192), PERIOD);
    }
}

/* The same in f32, 8.6 GB, with 32-element blocks and an output wider than the input. */
GPU_TEST(launch_large, wider_output_of_f32)
{
    gpu_case c = case_of(FP4_F32, FP4_MXFP4, FP4_LAYOUT_8X4, 262401, 8192);

    c.q_cols = 8192 + 96;
    run_large(c, PERIOD);
}

/* 4,300,808,192 elements of one byte, in and out: passes 2^32 in both. */
GPU_TEST(launch_large, bytes_beyond_2_32)
{
    run_large(case_of(FP4_E4M3, FP4_MXFP8, FP4_LAYOUT_128X4, 525001, 8192), PERIOD);
    run_large(case_of(FP4_E4M3, FP4_MXFP8, FP4_LAYOUT_LINEAR, 525001, 8192), PERIOD);
}

/* Few elements far apart: the last row starts at element 4.6 * 2^30, byte 9.2 * 2^30. */
GPU_TEST(launch_large, strides_beyond_2_32)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_BF16, FP4_NVFP4, (fp4_layout)layout, 70001, 64);
        c.row_stride = 65536;
        run_large(c, 3 * TILE_ROWS);
    }
}

/* Three matrices, the last of which lies beyond 2^31 elements. */
GPU_TEST(launch_large, batches_beyond_2_31)
{
    gpu_case c = case_of(FP4_F16, FP4_NVFP4, FP4_LAYOUT_128X4, 130000, 8192);

    c.batches = 3;
    c.batch_stride = (size_t)130048 * 8192;
    run_large(c, PERIOD);
    c.format = FP4_MXFP8;
    c.layout = FP4_LAYOUT_LINEAR;
    run_large(c, PERIOD);
}

/* 2.2 * 10^9 scale bytes, 17.6 GB of codes, from an input of one block a row. */
GPU_TEST(launch_large, scales_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_E4M3, FP4_NVFP4, (fp4_layout)layout, 4300033, 16);
        c.q_cols = 8192;
        run_large(c, PERIOD);
    }
}

/* More rows than 65,535 times 8, of one block; as many matrices of one row. */
GPU_TEST(launch_large, rows_and_batches_beyond_a_grid)
{
    uint8_t *pool = cases_pool(FP4_BF16, 61);
    uint64_t state = 1;

    for (int i = 0; i < 9; i++) {
        const fp4_format format = (fp4_format)(i / 3);
        const size_t block = fp4_format_block(format);
        gpu_case c = case_of(FP4_BF16, format, (fp4_layout)(i % 3), 600001, block);
        uint8_t *x = case_x_of_pool(&c, pool, 61, &state);
        case_run(&c, x);
        free(x);
        c.rows = 1;
        c.batches = 70001;
        c.batch_stride = 2 * block;
        x = case_x_of_pool(&c, pool, 61, &state);
        case_run(&c, x);
        free(x);
        if (i / 3 == i % 3) {
            c.columns = 1;
            c.rows = 600001;
            c.batches = 1;
            c.row_stride = 600004;
            x = case_x_of_pool(&c, pool, 61, &state);
            case_run(&c, x);
            free(x);
        }
    }
    free(pool);
}

/* e4m3 to four bits where each CTA takes several turns. */
GPU_TEST(launch_large, turns)
{
    for (int i = 0; i < 6; i++) {
        gpu_case c =
            case_of(FP4_E4M3, i / 3 == 0 ? FP4_NVFP4 : FP4_MXFP4, (fp4_layout)(i % 3), 65537, 8192);
        run_large(c, PERIOD);
        c.rows = 70001;
        c.cols = c.q_cols = 1056;
        c.row_stride = i % 2 == 0 ? 1056 : 1088;
        run_large(c, PERIOD);
    }
}

/* Two rows of 2^24 columns and a bit. */
GPU_TEST(launch_large, wide_rows)
{
    uint8_t *pool = cases_pool(FP4_F16, 61);
    uint64_t state = 2;

    for (int i = 0; i < 9; i++) {
        gpu_case c =
            case_of(FP4_F16, (fp4_format)(i / 3), (fp4_layout)(i % 3), 2, ((size_t)1 << 24) + 32);
        uint8_t *x;
        c.row_stride += 8;
        x = case_x_of_pool(&c, pool, 61, &state);
        case_run(&c, x);
        free(x);
    }
    free(pool);
}

/* Column-major: the last column starts beyond 2^31 elements. */
GPU_TEST(launch_large, columns_beyond_2_31)
{
    const size_t rows = 1000, cols = 96, stride = 23000000;
    gpu_case c = case_of(FP4_BF16, FP4_NVFP4, FP4_LAYOUT_128X4, rows, cols), narrow = c;
    uint8_t *pool = cases_pool(FP4_BF16, 61), *x, *q, *sf, *got_q, *got_sf;
    uint64_t state = 3;
    case_device d;

    /* the columns next to each other on the host, far apart on the device */
    c.columns = narrow.columns = 1;
    c.row_stride = stride;
    narrow.row_stride = rows;
    x = case_x_of_pool(&narrow, pool, 61, &state);
    q = (uint8_t *)host_zeros(2 * case_q_bytes(&c));
    sf = (uint8_t *)host_zeros(2 * case_sf_bytes(&c));
    got_q = q + case_q_bytes(&c);
    got_sf = sf + case_sf_bytes(&c);
    case_expected(&narrow, x, 0, q, sf);
    d = case_device_new(&narrow, x);
    gpu_buffer_free(d.x);
    d.x = gpu_buffer_new(case_x_bytes(&c), 0);
    gpu_poison(d.x, 0xff); /* NaNs */
    gpu_poison(d.q, 0x7f);
    gpu_poison(d.sf, 0x7f);
    GPU_OK(
        cudaMemcpy2D(d.x.bytes, stride * 2, x, rows * 2, rows * 2, cols, cudaMemcpyHostToDevice));
    d.args.x = d.x.bytes;
    d.args.row_stride = stride;
    GPU_OK(case_launcher(&c)(&d.args, 0, 0));
    gpu_finish(case_text(&c));
    gpu_download(got_q, d.q);
    gpu_download(got_sf, d.sf);
    case_compare(&c, 0, got_q, got_sf, q, sf, 0x7f);
    case_device_free(d);
    free(x);
    free(q);
    free(sf);
    free(pool);
}

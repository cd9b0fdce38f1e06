/*
 * tests/simt/test_large.c - the launchers where indices pass 2^31 elements and 2^32 bytes, as far
 * as a CPU can: buffers of gigabytes of which few pages are ever touched, and of large grids only
 * the first CTAs and the last (simt_run_only).
 */
#include "cases.h"
#include "simt.h"

enum { ROWS = 128 };

/* Rows of matrix `batch`, from a whole tile on, against the host reference. */
static void compare_rows(const gpu_case *all, const case_device *d, size_t batch, size_t first,
                         size_t rows)
{
    const size_t size = host_dtype_bytes(all->dtype);
    const size_t q_at =
        batch * case_q_bytes(all) + first * fp4_q_bytes(all->format, 1, all->q_cols);
    const size_t sf_at =
        batch * case_sf_bytes(all) + fp4_sf_offset(all->layout, first, 0, case_sf_cols(all));
    const uint8_t *x = d->x.bytes + (batch * all->batch_stride + first * all->row_stride) * size;
    gpu_case c = *all;
    uint8_t *q, *sf;

    c.rows = rows;
    c.batches = 1;
    q = (uint8_t *)host_zeros(case_q_bytes(&c));
    sf = (uint8_t *)host_zeros(case_sf_bytes(&c));
    case_expected(&c, x, 0, q, sf);
    case_compare(&c, first, d->q.bytes + q_at, d->sf.bytes + sf_at, q, sf, 0);
    free(q);
    free(sf);
}

/* Any bits into rows of x. */
static void fill_rows(const gpu_case *c, const case_device *d, size_t batch, size_t first,
                      size_t rows, uint64_t *state)
{
    const size_t size = host_dtype_bytes(c->dtype);

    for (size_t row = first; row < first + rows; row++) {
        uint8_t *x = d->x.bytes + (batch * c->batch_stride + row * c->row_stride) * size;
        for (size_t i = 0; i < c->cols * size; i++) {
            x[i] = (uint8_t)host_random(state);
        }
    }
}

/* The buffers of a case, untouched: zeros. */
static case_device sparse_new(const gpu_case *c)
{
    gpu_case small = *c;
    case_device d;

    small.rows = 0;
    d = case_device_new(&small, (const uint8_t *)"");
    gpu_buffer_free(d.x);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    d.x = gpu_buffer_new(case_x_bytes(c), 0);
    d.q = gpu_buffer_new(c->batches * case_q_bytes(c), 0);
    d.sf = gpu_buffer_new(c->batches * case_sf_bytes(c), 0);
    d.args.x = d.x.bytes;
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.rows = c->rows;
    return d;
}

/* The first tile of rows of the first matrix and the last one of the last: at most so many CTAs,
   where a CTA takes 512 pieces of 16 elements. */
static void run_ends(const gpu_case *c)
{
    const size_t last = (c->rows - 1) / ROWS * ROWS;
    case_device d = sparse_new(c);
    uint64_t state = c->rows;

    fill_rows(c, &d, 0, 0, ROWS, &state);
    fill_rows(c, &d, c->batches - 1, last, c->rows - last, &state);
    simt_run_only(64 + c->q_cols / 16 * ROWS / 512 * 2);
    GPU_OK(case_launcher(c)(&d.args, 0, 0));
    simt_run_only(0);
    compare_rows(c, &d, 0, 0, ROWS);
    compare_rows(c, &d, c->batches - 1, last, c->rows - last);
    case_device_free(d);
}

/* 4.6 * 10^9 elements of bf16 between the first row and the last. */
GPU_TEST(simt_large, strides_beyond_2_32)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_BF16, FP4_NVFP4, (fp4_layout)layout, 4200, 64);
        c.row_stride = 1100000;
        run_ends(&c);
    }
}

/* 4,300,808,192 elements of one byte, in and out: passes 2^32 in both. */
GPU_TEST(simt_large, bytes_beyond_2_32)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_E4M3, FP4_MXFP8, (fp4_layout)layout, 525001, 8192);
        run_ends(&c);
        c.row_stride = c.cols + 64; /* no longer one run of elements */
        run_ends(&c);
    }
}

/* 2.2 * 10^9 scale bytes, 17.6 GB of codes, from an input of one block a row. */
GPU_TEST(simt_large, scales_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_E4M3, FP4_NVFP4, (fp4_layout)layout, 4300033, 16);
        c.q_cols = 8192;
        run_ends(&c);
    }
}

/* Three matrices, the last of which lies beyond 2^31 elements. */
GPU_TEST(simt_large, batches_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_F16, FP4_NVFP4, (fp4_layout)layout, 130000, 8192);
        c.batches = 3;
        c.batch_stride = (size_t)130048 * 8192;
        run_ends(&c);
    }
}

/* Column-major: the last column starts beyond 2^32 elements; all CTAs. */
GPU_TEST(simt_large, columns_beyond_2_31)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(FP4_BF16, FP4_NVFP4, (fp4_layout)layout, 1000, 96);
        const size_t size = host_dtype_bytes(c.dtype);
        uint8_t *q = (uint8_t *)host_zeros(case_q_bytes(&c));
        uint8_t *sf = (uint8_t *)host_zeros(case_sf_bytes(&c));
        uint64_t state = 3;
        case_device d;

        c.columns = 1;
        c.row_stride = 75000000; /* a block of 16 columns passes 2^31 bytes */
        d = sparse_new(&c);
        for (size_t col = 0; col < c.cols; col++) {
            for (size_t i = 0; i < c.rows * size; i++) {
                d.x.bytes[col * c.row_stride * size + i] = (uint8_t)host_random(&state);
            }
        }
        GPU_OK(case_launcher(&c)(&d.args, 0, 0));
        case_expected(&c, d.x.bytes, 0, q, sf);
        case_compare(&c, 0, d.q.bytes, d.sf.bytes, q, sf, 0);
        case_device_free(d);
        free(q);
        free(sf);
    }
}

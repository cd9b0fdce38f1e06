/*
 * tests/simt/test_large.c - the launchers where indices pass 2^31 elements and 2^32 bytes, as far
 * as a CPU can: buffers of gigabytes of which few pages are ever touched, and of large grids only
 * the first CTAs and the last (simt_run_only).
 */
#include "back.h"
#include "cases.h"
#include "fake.h"
#include "fused.h"
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

/* ---------------------------------------------------------------- fused */

/* One row of outputs against the host twin, its scales wherever they are. */
static void compare_fused_row(const fused_case *all, const fused_device *d,
                              const fused_operands *before, size_t row)
{
    fused_case c = *all;
    fused_operands o;
    fused_expected e;

    c.rows = 1;
    o = fused_operands_new(&c);
    memcpy(o.in[FUSED_X], d->b[FUSED_X].bytes + row * fused_row_stride(all, FUSED_X),
           fused_row_bytes(all, FUSED_X));
    memcpy(o.in[FUSED_WEIGHT], before->in[FUSED_WEIGHT], fused_bytes(&c, FUSED_WEIGHT));
    e = fused_expected_new(&c, &o);
    for (int i = FUSED_Q; i < FUSED_GLOBAL; i++) {
        const fused_buffer which = (fused_buffer)i;
        if (which != FUSED_SF && fused_has(&c, which)) {
            host_expect_bytes(d->b[i].bytes + row * fused_row_stride(all, which), e.out[i],
                              fused_row_bytes(all, which), fused_text(all));
        }
    }
    for (size_t col = 0; col < fused_sf_cols(&c); col++) {
        const size_t at = fp4_sf_offset(c.layout, row, col, fused_sf_cols(&c));
        CHECK_EQ(d->b[FUSED_SF].bytes[at], e.out[FUSED_SF_LINEAR][col], "scale %zu of row %zu, %s",
                 col, row, fused_text(all));
    }
    fused_expected_free(e);
    fused_operands_free(o);
}

/* The first rows and the last: as many CTAs. The rest of their tile is padding. */
static void run_fused_ends(const fused_case *c)
{
    const size_t ends[] = {0, c->rows - 1};
    fused_case small = *c;
    fused_operands o;
    fused_device d;
    uint64_t state = c->rows;

    small.rows = 0;
    o = fused_operands_new(&small);
    for (size_t i = 0; i < fused_bytes(c, FUSED_WEIGHT) / 2; i++) {
        const uint16_t weight = fp4_f32_to_bf16(host_random_scale(&state, -2, 2));
        memcpy(o.in[FUSED_WEIGHT] + 2 * i, &weight, sizeof weight);
    }
    d = fused_device_new(&small, &o);
    for (int i = 0; i < FUSED_GLOBAL; i++) {
        const fused_buffer which = (fused_buffer)i;
        if (fused_has(c, which) && which != FUSED_WEIGHT) { /* untouched: zeros */
            gpu_buffer_free(d.b[i]);
            d.b[i] = gpu_buffer_new(fused_bytes(c, which), 0);
        }
    }
    d.args.x = d.b[FUSED_X].bytes;
    d.args.q = d.b[FUSED_Q].bytes;
    d.args.sf = d.b[FUSED_SF].bytes;
    d.args.y = d.b[FUSED_Y].bytes;
    d.args.token_dec = (float *)(void *)d.b[FUSED_TOKEN_DEC].bytes;
    d.args.rows = c->rows;
    for (size_t i = 0; i < 2; i++) {
        uint8_t *x = d.b[FUSED_X].bytes + ends[i] * fused_row_stride(c, FUSED_X);
        for (size_t at = 0; at < fused_row_bytes(c, FUSED_X) / 2; at++) {
            const uint16_t value = fp4_f32_to_bf16(host_random_scale(&state, -9, 2));
            memcpy(x + 2 * at, &value, sizeof value);
        }
    }
    simt_run_only(9);
    simt_have_processors(1 << 20);
    GPU_OK(c->unit->launch(&d.args, 0, 0));
    simt_have_processors(SIMT_PROCESSORS);
    simt_run_only(0);
    compare_fused_row(c, &d, &o, ends[0]);
    compare_fused_row(c, &d, &o, ends[1]);
    fused_device_free(d);
    fused_operands_free(o);
}

/* The launcher of an example for bf16. */
static const fused_unit *bf16_unit(int is_norm, fused_op op)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        if (u->dtype == FP4_BF16 && u->op == op && (!is_norm || u->format == FP4_MXFP4)) {
            return u;
        }
    }
    cr_assert_fail("no launcher for operation %d", (int)op);
    return NULL;
}

/* 8.6 * 10^9 elements: passes 2^32 bytes of codes. The last tile of 128 rows has 122 that the
   matrix has. And few elements far apart. */
GPU_TEST(simt_large, fused_beyond_2_32)
{
    const fused_unit *const units[] = {bf16_unit(1, FUSED_rmsnorm), bf16_unit(0, FUSED_silu),
                                       bf16_unit(0, FUSED_token)};

    for (size_t i = 0; i < 9; i++) {
        fused_case c = fused_case_of(units[i / 3], (fp4_layout)(i % 3), 1050106, 8192);
        c.has_y = c.unit->op != FUSED_token;
        run_fused_ends(&c);
        c = fused_case_of(c.unit, c.layout, 4090, 64);
        c.x_stride = 1100000;
        run_fused_ends(&c);
    }
}

/* ---------------------------------------------------------------- the way back */

/* Rows of matrix `batch`, from a whole tile on, against the host reference. */
static void compare_back(const back_case *all, const back_device *d, size_t batch, size_t first,
                         size_t rows)
{
    const size_t size = host_dtype_bytes(all->c.dtype);
    const size_t y_at = (batch * all->c.batch_stride + first * all->c.row_stride) * size;
    back_case b = *all;
    back_input in;
    uint8_t *image;

    b.c.rows = rows;
    b.c.batches = 1;
    in.q = d->q.bytes + batch * case_q_bytes(&all->c) +
           first * fp4_q_bytes(all->c.format, 1, all->c.cols);
    in.sf = d->sf.bytes + batch * case_sf_bytes(&all->c) +
            fp4_sf_offset(all->c.layout, first, 0, case_sf_cols(&all->c));
    image = back_expected(&b, &in, 0);
    elements_expect(d->y.bytes + y_at, image, case_x_bytes(&b.c) / size, b.c.dtype, back_text(all),
                    0);
    free(image);
}

/* The first tile of rows of the first matrix and the last one of the last. The codes and scale
   bytes between are zeros that nobody has touched. */
static void run_back_ends(const back_case *b)
{
    const size_t last = (b->c.rows - 1) / ROWS * ROWS, batch = b->c.batches - 1;
    const size_t q_row = fp4_q_bytes(b->c.format, 1, b->c.cols);
    const size_t last_q = batch * case_q_bytes(&b->c) + last * q_row;
    const size_t last_sf =
        batch * case_sf_bytes(&b->c) + fp4_sf_offset(b->c.layout, last, 0, case_sf_cols(&b->c));
    back_case small = *b;
    const back_input none = {(uint8_t *)host_zeros(0), (uint8_t *)host_zeros(0)};
    uint64_t state = b->c.rows;
    back_device d;

    small.c.rows = 0;
    d = back_device_new(&small, &none);
    gpu_buffer_free(d.y);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    d.y = gpu_buffer_new(case_x_bytes(&b->c), 0);
    d.q = gpu_buffer_new(back_q_bytes(b), 0);
    d.sf = gpu_buffer_new(back_sf_bytes(b), 0);
    d.args.y = d.y.bytes;
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.rows = b->c.rows;
    for (size_t i = 0; i < ROWS * q_row; i++) {
        d.q.bytes[i] = (uint8_t)host_random(&state);
        d.q.bytes[last_q + i % ((b->c.rows - last) * q_row)] = (uint8_t)host_random(&state);
    }
    for (size_t i = 0; i < ROWS * case_sf_cols(&b->c); i++) {
        d.sf.bytes[i] = (uint8_t)host_random(&state);
        d.sf.bytes[last_sf + i % (d.sf.size - last_sf)] = (uint8_t)host_random(&state);
    }
    simt_run_only(64 + b->c.cols / 4 * ROWS / 4 / 128 * 2);
    GPU_OK(b->unit->launch(&d.args, 0, 0));
    simt_run_only(0);
    compare_back(b, &d, 0, 0, ROWS);
    compare_back(b, &d, batch, last, b->c.rows - last);
    back_device_free(d);
    back_input_free(none);
}

/* 4,300,808,192 elements: passes 2^32 of them, and of their codes' bytes. Three matrices. Rows far
   apart. */
GPU_TEST(simt_large, dequantized_beyond_2_32)
{
    static const fp4_format formats[] = {FP4_MXFP8, FP4_NVFP4, FP4_MXFP4_16};

    for (int i = 0; i < 3; i++) {
        back_case b =
            back_case_of(back_unit_of(formats[i], (fp4_dtype)i), (fp4_layout)i, 525001, 8192);
        run_back_ends(&b);
        b.c.rows = 130000;
        b.c.batches = 3;
        b.c.batch_stride = (size_t)130048 * 8192;
        run_back_ends(&b);
        b = back_case_of(b.unit, b.c.layout, 4200, 64);
        b.c.row_stride = 1100000;
        run_back_ends(&b);
    }
}

/* The first rows and the last of a matrix of zeros that nobody has touched. */
static void run_fake_ends(const fake_case *c)
{
    const size_t x_row = c->x_stride * host_dtype_bytes(c->unit->input);
    const size_t y_row = c->y_stride * host_dtype_bytes(c->unit->output);
    const size_t ends[] = {0, c->rows - 4};
    fake_case four = *c;
    fake_operands o[2];
    fake_device d;
    gpu_buffer x, y;
    uint64_t state = c->rows;

    four.rows = 4;
    x = gpu_buffer_new(fake_x_bytes(c), 0);
    y = gpu_buffer_new(fake_y_bytes(c), 0);
    for (size_t i = 0; i < 2; i++) {
        o[i] = fake_operands_random(&four, &state);
        memcpy(x.bytes + ends[i] * x_row, o[i].x, fake_x_bytes(&four));
    }
    d = fake_device_new(&four, &o[0]);
    d.args.x = x.bytes;
    d.args.y = y.bytes;
    d.args.rows = c->rows;
    simt_run_only(4 + c->cols / 128);
    GPU_OK(c->unit->launch(&d.args, 0, 0));
    simt_run_only(0);
    for (size_t i = 0; i < 2; i++) {
        const fake_expected e = fake_expect(&four, &o[i], 0);
        elements_expect(y.bytes + ends[i] * y_row, e.y,
                        fake_y_bytes(&four) / host_dtype_bytes(c->unit->output), c->unit->output,
                        fake_text(c), 0);
        fake_expected_free(e);
        fake_operands_free(o[i]);
    }
    gpu_buffer_free(x);
    gpu_buffer_free(y);
    fake_device_free(d);
}

/* 4.3 * 10^9 elements, and few far apart. Of cast with a column more the kernel that takes them one
   by one. */
GPU_TEST(simt_large, faked_beyond_2_32)
{
    for (size_t u = 0; u < FAKE_UNITS; u += 2) {
        fake_case c = fake_case_of(&fake_units[u], 525004, 8192);
        run_fake_ends(&c);
        c = fake_case_of(&fake_units[u], 4204, 64);
        c.x_stride = c.y_stride = 1100000;
        run_fake_ends(&c);
        if (c.unit->rule == FP4_FAKE_CAST) {
            c = fake_case_of(&fake_units[u], 525004, 8193);
            run_fake_ends(&c);
        }
    }
}

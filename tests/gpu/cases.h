/*
 * tests/gpu/cases.h - one call of an example's launcher with everything that can be asked of it,
 * and its bytes against those of the host reference.
 */
#ifndef FP4_TESTS_GPU_CASES_H
#define FP4_TESTS_GPU_CASES_H

#include <fp4/host/compare.h>

#include "gpu.h"
#include "launch.h"

/* ---------------------------------------------------------------- names */

/* All launchers, [dtype][format][layout] flattened. */
#define CASES_ROWS_(input, format, layout) LAUNCH_ROWS(input, format, layout),
#define CASES_COLUMNS_(input, format, layout) LAUNCH_COLUMNS(input, format, layout),
static const launch_function cases_rows[36] = {LAUNCH_EACH(CASES_ROWS_)};
static const launch_function cases_columns[36] = {LAUNCH_EACH(CASES_COLUMNS_)};

static const char *const cases_dtype[] = {"f32", "f16", "bf16", "e4m3"};
static const char *const cases_format[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4_32", "MXFP4_16"};
static const char *const cases_layout[] = {"128x4", "8x4", "linear"};

/* ---------------------------------------------------------------- cases */

/** Where the global scale comes from. */
typedef enum cases_scale {
    SCALE_HOST,
    SCALE_DEVICE,
    SCALE_ROWS,    /* one a row, the same in each matrix */
    SCALE_BATCHES, /* one a matrix */
    SCALE_ALL,     /* one for each row of each matrix */
    SCALE_KINDS
} cases_scale;

static const char *const cases_scale_name[] = {"host", "device", "rows", "batches", "all"};

typedef struct gpu_case {
    fp4_dtype dtype;
    fp4_format format;
    fp4_layout layout;
    int columns; /* column-major: row_stride is the column stride; batches 1, q_cols cols */
    size_t batches, rows, cols, q_cols, row_stride, batch_stride;
    size_t shift; /* x, q and scales off the alignment of cudaMalloc, in units of what they need */
    int pdl;
    cases_scale global;
    int is_dec;
    float scale;            /* global scale; that of rows and matrices is within a factor of 8 */
    cases_scale x_dec_from; /* SCALE_HOST, SCALE_DEVICE, SCALE_BATCHES */
    float x_dec;
} gpu_case;

static inline const char *case_text(const gpu_case *c)
{
    static char text[512];

    snprintf(text, sizeof text,
             "%s %s %s%s, %zu x %zu x %zu in %zu, strides %zu %zu, shift %zu, pdl %d, global %s %s "
             "%a, x_dec %s %a",
             cases_dtype[c->dtype], cases_format[c->format], cases_layout[c->layout],
             c->columns ? ", column-major" : "", c->batches, c->rows, c->cols, c->q_cols,
             c->row_stride, c->batch_stride, c->shift, c->pdl, cases_scale_name[c->global],
             c->is_dec ? "dec" : "enc", (double)c->scale, cases_scale_name[c->x_dec_from],
             (double)c->x_dec);
    return text;
}

static inline size_t case_block(const gpu_case *c)
{
    return fp4_format_block(c->format);
}

static inline size_t case_sf_cols(const gpu_case *c)
{
    return c->q_cols / case_block(c);
}

/** Bytes of one matrix' codes and of its scales. */
static inline size_t case_q_bytes(const gpu_case *c)
{
    return fp4_q_bytes(c->format, c->rows, c->q_cols);
}

static inline size_t case_sf_bytes(const gpu_case *c)
{
    return fp4_sf_bytes(c->layout, c->rows, case_sf_cols(c));
}

/** Bytes that x spans. */
static inline size_t case_x_bytes(const gpu_case *c)
{
    const size_t one = c->columns ? host_span(c->cols, c->rows, c->row_stride)
                                  : host_span(c->rows, c->cols, c->row_stride);
    return c->batches == 0 || one == 0
               ? 0
               : ((c->batches - 1) * c->batch_stride + one) * host_dtype_bytes(c->dtype);
}

/* ---------------------------------------------------------------- scales */

/* The global scale of a row as it is given, and in encode sense. */
static inline float case_scale(const gpu_case *c, size_t batch, size_t row)
{
    static const float factor[] = {1.0f, 1.5f, 0.375f, 7.0f, 0.125f, 5.25f, 3.0f, 0.75f};
    const size_t b = c->global == SCALE_BATCHES || c->global == SCALE_ALL ? batch : 0;
    const size_t r = c->global == SCALE_ROWS || c->global == SCALE_ALL ? row : 0;

    return b + r == 0 ? c->scale : c->scale * factor[(3 * b + r) % 8];
}

static inline float case_global_enc(const gpu_case *c, size_t batch, size_t row)
{
    const float scale = case_scale(c, batch, row);
    return c->is_dec ? fp4_nvfp4_global_enc_from_dec(scale) : scale;
}

static inline float case_x_dec(const gpu_case *c, size_t batch)
{
    return c->dtype != FP4_E4M3                               ? 1.0f
           : c->x_dec_from == SCALE_BATCHES && batch % 2 == 1 ? c->x_dec * 0.375f
                                                              : c->x_dec;
}

/* The scale for the launcher, its device memory in *memory. Between the values lie NaNs. */
static inline launch_scale case_launch_scale(const gpu_case *c, gpu_buffer *memory)
{
    const int by_row = c->global == SCALE_ROWS || c->global == SCALE_ALL;
    const int by_batch = c->global == SCALE_BATCHES || c->global == SCALE_ALL;
    const size_t row_step = by_row ? 1 + c->rows % 2 : 0;
    const size_t batch_step = by_batch ? row_step * c->rows + 1 : 0;
    const size_t n = (by_batch ? c->batches * batch_step : 0) + row_step * c->rows + 1;
    float *values = (float *)host_zeros(n * sizeof(float));
    launch_scale s;

    memset(&s, 0, sizeof s);
    memset(values, 0xff, n * sizeof(float));
    for (size_t b = 0; b < (by_batch ? c->batches : 1); b++) {
        for (size_t r = 0; r < (by_row ? c->rows : 1); r++) {
            values[b * batch_step + r * row_step] = case_scale(c, b, r);
        }
    }
    *memory = gpu_buffer_of(values, n * sizeof(float), 4);
    free(values);
    s.is_dec = c->is_dec;
    if (c->global == SCALE_HOST) {
        s.value = c->scale;
    } else {
        s.device = (const float *)(void *)memory->bytes;
        s.value = host_bits(0x7fc00000u);
        s.row_step = row_step;
        s.batch_step = batch_step;
    }
    return s;
}

static inline launch_scale case_launch_x_dec(const gpu_case *c, gpu_buffer *memory)
{
    const size_t n = c->x_dec_from == SCALE_BATCHES ? c->batches : 1;
    float *values = (float *)host_zeros(n * sizeof(float));
    launch_scale s;

    memset(&s, 0, sizeof s);
    for (size_t b = 0; b < n; b++) {
        values[b] = case_x_dec(c, b);
    }
    *memory = gpu_buffer_of(values, n * sizeof(float), 0);
    free(values);
    s.value = c->x_dec;
    if (c->x_dec_from != SCALE_HOST) {
        s.device = (const float *)(void *)memory->bytes;
        s.value = host_bits(0x7fc00000u);
        s.batch_step = c->x_dec_from == SCALE_BATCHES;
    }
    return s;
}

/* ---------------------------------------------------------------- the host reference */

/* One matrix of x as the reference reads it: row-major. The copy of a column-major one is in *copy,
   for the caller to free. */
static inline fp4_matrix case_matrix(const gpu_case *c, const uint8_t *x, size_t batch, void **copy)
{
    const size_t size = host_dtype_bytes(c->dtype);
    fp4_matrix m;

    m.data = x + batch * c->batch_stride * size;
    m.dtype = c->dtype;
    m.rows = c->rows;
    m.cols = c->cols;
    m.row_stride = c->row_stride;
    m.dec = case_x_dec(c, batch);
    *copy = NULL;
    if (c->columns) {
        uint8_t *to = (uint8_t *)host_zeros(c->rows * c->cols * size);
        for (size_t row = 0; row < c->rows; row++) {
            for (size_t col = 0; col < c->cols; col++) {
                memcpy(to + (row * c->cols + col) * size, x + (col * c->row_stride + row) * size,
                       size);
            }
        }
        m.data = *copy = to;
        m.row_stride = c->cols;
    }
    return m;
}

static inline fp4_tensor case_tensor(const gpu_case *c, uint8_t *q, uint8_t *sf)
{
    return fp4_tensor_view(c->format, c->layout, c->rows, c->q_cols, q, case_q_bytes(c), sf,
                           case_sf_bytes(c));
}

/* One matrix quantized on the host. */
static inline void case_expected(const gpu_case *c, const uint8_t *x, size_t batch, uint8_t *q,
                                 uint8_t *sf)
{
    const int by_row = c->global == SCALE_ROWS || c->global == SCALE_ALL;
    float *scales = (float *)host_zeros(2 * c->rows * sizeof(float));
    void *copy;
    const fp4_matrix m = case_matrix(c, x, batch, &copy);
    fp4_tensor t = case_tensor(c, q, sf);
    fp4_status status;

    if (c->format == FP4_MXFP4 || c->format == FP4_MXFP4_16) {
        status = fp4_ref_mxfp4_quantize(m, &t);
    } else if (c->format == FP4_MXFP8) {
        status = fp4_ref_mxfp8_quantize(m, &t);
    } else if (by_row) {
        for (size_t row = 0; row < c->rows; row++) {
            scales[row] = case_global_enc(c, batch, row);
        }
        t.row_dec = scales + c->rows;
        t.row_dec_bytes = c->rows * sizeof(float);
        status = fp4_ref_nvfp4_quantize_rows(m, scales, &t);
    } else {
        status = fp4_ref_nvfp4_quantize(m, case_global_enc(c, batch, 0), &t);
    }
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), case_text(c));
    free(copy);
    free(scales);
}

/* Fails in the words of fp4_ref_compare where a matrix differs. */
static inline void case_compare(const gpu_case *c, size_t batch, uint8_t *got_q, uint8_t *got_sf,
                                uint8_t *expected_q, uint8_t *expected_sf, int poison)
{
    const fp4_tensor got = case_tensor(c, got_q, got_sf);
    const fp4_tensor expected = case_tensor(c, expected_q, expected_sf);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;

    if (memcmp(got_q, expected_q, got.q_bytes) == 0 &&
        memcmp(got_sf, expected_sf, got.sf_bytes) == 0) {
        return;
    }
    memset(&d, 0, sizeof d);
    cr_assert(fp4_ref_compare(&got, &expected, &d) == FP4_OK);
    cr_expect_fail("%s; matrix %zu, outputs filled with 0x%02x before, device (a) and host (b): %s",
                   case_text(c), batch, poison, fp4_difference_text(&d, text, sizeof text));
    if (++check_failures_ == CHECK_FAILURES_SHOWN) {
        cr_assert_fail("stopped after %d failures", check_failures_);
    }
}

/* ---------------------------------------------------------------- the run */

static inline launch_function case_launcher(const gpu_case *c)
{
    const size_t at = ((size_t)c->dtype * 3 + (size_t)c->format) * 3 + (size_t)c->layout;
    return c->columns ? cases_columns[at] : cases_rows[at];
}

/** A case's buffers on the device. */
typedef struct case_device {
    gpu_buffer x, q, sf, global, x_dec;
    launch_args args;
} case_device;

static inline case_device case_device_new(const gpu_case *c, const uint8_t *x)
{
    const size_t q_align = c->columns || c->format == FP4_MXFP8 ? 16 : 8;
    case_device d;

    d.x = gpu_buffer_of(x, case_x_bytes(c), c->shift * (c->columns ? 4 : 16));
    d.q = gpu_buffer_new(c->batches * case_q_bytes(c), c->shift * q_align);
    d.sf = gpu_buffer_new(c->batches * case_sf_bytes(c),
                          c->shift * (c->layout == FP4_LAYOUT_LINEAR ? 1 : 16));
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.x = d.x.bytes;
    d.args.batches = c->batches;
    d.args.rows = c->rows;
    d.args.cols = c->cols;
    d.args.q_cols = c->q_cols;
    d.args.row_stride = c->row_stride;
    d.args.batch_stride = c->batch_stride;
    d.args.global = case_launch_scale(c, &d.global);
    d.args.x_dec = case_launch_x_dec(c, &d.x_dec);
    return d;
}

static inline void case_device_free(case_device d)
{
    gpu_buffer_free(d.x);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    gpu_buffer_free(d.global);
    gpu_buffer_free(d.x_dec);
}

/** Launches the case twice, over outputs full of 0x7f and full of 0xff, and compares every byte of
    them with the host reference; x: case_x_bytes of host memory. */
static inline void case_run(const gpu_case *c, const uint8_t *x)
{
    static const int poisons[] = {0x7f, 0xff};
    const size_t q_bytes = case_q_bytes(c), sf_bytes = case_sf_bytes(c);
    const case_device d = case_device_new(c, x);
    uint8_t *q = (uint8_t *)host_zeros(c->batches * q_bytes);
    uint8_t *sf = (uint8_t *)host_zeros(c->batches * sf_bytes);
    uint8_t *x_after;

    for (size_t batch = 0; batch < c->batches; batch++) {
        case_expected(c, x, batch, q + batch * q_bytes, sf + batch * sf_bytes);
    }
    for (size_t p = 0; p < 2; p++) {
        uint8_t *got_q, *got_sf;
        gpu_poison(d.q, poisons[p]);
        gpu_poison(d.sf, poisons[p]);
        GPU_OK(case_launcher(c)(&d.args, c->pdl, 0));
        gpu_finish(case_text(c));
        got_q = (uint8_t *)gpu_copy_of(d.q);
        got_sf = (uint8_t *)gpu_copy_of(d.sf);
        for (size_t batch = 0; batch < c->batches; batch++) {
            case_compare(c, batch, got_q + batch * q_bytes, got_sf + batch * sf_bytes,
                         q + batch * q_bytes, sf + batch * sf_bytes, poisons[p]);
        }
        free(got_q);
        free(got_sf);
    }
    gpu_expect_guards(d.q, case_text(c));
    gpu_expect_guards(d.sf, case_text(c));
    gpu_expect_guards(d.x, case_text(c));
    x_after = (uint8_t *)gpu_copy_of(d.x);
    CHECK(memcmp(x_after, x, d.x.size) == 0, "%s: the input has changed", case_text(c));
    free(x_after);
    free(q);
    free(sf);
    case_device_free(d);
}

/* ---------------------------------------------------------------- input */

/** A case of a whole matrix of ordinary shape, for the caller to change. */
static inline gpu_case case_of(fp4_dtype dtype, fp4_format format, fp4_layout layout, size_t rows,
                               size_t cols)
{
    gpu_case c;

    memset(&c, 0, sizeof c);
    c.dtype = dtype;
    c.format = format;
    c.layout = layout;
    c.batches = 1;
    c.rows = rows;
    c.cols = c.q_cols = c.row_stride = cols;
    c.scale = 448.0f;
    c.x_dec = 0.4375f;
    return c;
}

enum { CASES_POOL_COLS = 4096 };

/** Elements of all kinds, rows of 4096: ordinary, moderate, wide, special. The caller frees it. */
static inline uint8_t *cases_pool(fp4_dtype dtype, size_t rows_a_kind)
{
    const size_t size = host_dtype_bytes(dtype);
    uint8_t *pool = (uint8_t *)host_zeros(rows_a_kind * HOST_DATA * CASES_POOL_COLS * size);
    uint64_t state = 20260 + (uint64_t)dtype;

    for (int kind = 0; kind < HOST_DATA; kind++) {
        uint8_t *at = pool + (size_t)kind * rows_a_kind * CASES_POOL_COLS * size;
        fp4_matrix m;
        m.data = at;
        m.dtype = dtype;
        m.rows = rows_a_kind;
        m.cols = m.row_stride = CASES_POOL_COLS;
        m.dec = 1.0f;
        host_fill(at, m, &state, (host_data)kind, 16);
    }
    return pool;
}

/** Bytes for a case's x: the pool from some place on, again and again. The caller frees it. */
static inline uint8_t *case_x_of_pool(const gpu_case *c, const uint8_t *pool, size_t rows_a_kind,
                                      uint64_t *state)
{
    const size_t size = host_dtype_bytes(c->dtype), bytes = case_x_bytes(c);
    const size_t all = rows_a_kind * HOST_DATA * CASES_POOL_COLS * size;
    uint8_t *x = (uint8_t *)host_zeros(bytes);
    size_t from = host_below(state, (uint32_t)(all / size / 16)) * 16 * size;

    for (size_t at = 0; at < bytes;) {
        const size_t n = bytes - at < all - from ? bytes - at : all - from;
        memcpy(x + at, pool + from, n);
        at += n;
        from = 0;
    }
    return x;
}

#endif /* FP4_TESTS_GPU_CASES_H */

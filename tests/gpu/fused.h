/*
 * tests/gpu/fused.h - one call of a fused example's launcher with everything that can be asked of
 * it, and all that it writes against the host twin (host/ops.h).
 *
 * Rows are independent, so that of many rows only `period` differ: the twin computes these, and row
 * r is compared with its row r % period.
 */
#ifndef FP4_TESTS_GPU_FUSED_H
#define FP4_TESTS_GPU_FUSED_H

#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include "gpu.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the examples as values. */
typedef enum fused_op {
    FUSED_rmsnorm,
    FUSED_add_rmsnorm,
    FUSED_layernorm,
    FUSED_silu,
    FUSED_gelu_tanh,
    FUSED_token,
    FUSED_swiglu_oai,
    FUSED_OPS
} fused_op;

enum {
    FUSED_f32 = FP4_F32,
    FUSED_f16 = FP4_F16,
    FUSED_bf16 = FP4_BF16,
    FUSED_nvfp4 = FP4_NVFP4,
    FUSED_mxfp4 = FP4_MXFP4,
    FUSED_mxfp8 = FP4_MXFP8,
    FUSED_nvfp4_32 = FP4_NVFP4_32,
    FUSED_mxfp4_16 = FP4_MXFP4_16
};

/** A launcher and the words that it was compiled with. */
typedef struct fused_unit {
    launch_fused_function launch;
    fp4_dtype dtype;
    fp4_format format;
    fused_op op;
    const char *name;
} fused_unit;

/* Who needs but a few defines this first. */
#if !defined(FUSED_EACH)
#define FUSED_EACH(X) LAUNCH_NORM_EACH(X) LAUNCH_GATED_EACH(X) LAUNCH_TOKEN_EACH(X)
#endif

#define FUSED_UNIT_(input, format, op) \
    {LAUNCH_FUSED(input, format, op), (fp4_dtype)FUSED_##input, (fp4_format)FUSED_##format, \
     FUSED_##op, #op " of " #input " to " #format},
static const fused_unit fused_units[] = {FUSED_EACH(FUSED_UNIT_)};
enum { FUSED_UNITS = sizeof fused_units / sizeof fused_units[0] };

static inline int fused_is_norm(const fused_unit *u)
{
    return u->op <= FUSED_layernorm;
}

static inline int fused_is_gated(const fused_unit *u)
{
    return u->op == FUSED_silu || u->op == FUSED_gelu_tanh || u->op == FUSED_swiglu_oai;
}

/** The first launcher of an operation whose format has a second-level scale. */
static inline const fused_unit *fused_unit_of(fused_op op)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        if (fused_units[i].op == op && fp4_format_is_nvfp4(fused_units[i].format)) {
            return &fused_units[i];
        }
    }
    cr_assert_fail("no launcher for operation %d", (int)op);
    return NULL;
}

/* ---------------------------------------------------------------- cases */

/** The buffers of a call. Those after FUSED_RESIDUAL and before FUSED_GLOBAL are only written. */
typedef enum fused_buffer {
    FUSED_X,
    FUSED_WEIGHT,
    FUSED_BIAS,
    FUSED_RESIDUAL,
    FUSED_Q,
    FUSED_SF,
    FUSED_SF_LINEAR,
    FUSED_Y,
    FUSED_TOKEN_DEC,
    FUSED_GLOBAL,
    FUSED_BUFFERS
} fused_buffer;

static const char *const fused_buffer_name[] = {"x",  "weight",    "bias", "residual",  "q",
                                                "sf", "sf_linear", "y",    "token_dec", "global"};

typedef struct fused_case {
    const fused_unit *unit;
    fp4_layout layout;
    size_t rows, cols, x_stride, residual_stride;
    size_t period;   /* rows that differ */
    uint32_t shifts; /* buffers off the alignment of cudaMalloc, in units of what they need: two
                        bits each, from the lowest on, in the order of fused_buffer */
    int pdl, interleaved, rounded, few, four_rows;
    int has_y, has_sf_linear, per_token;
    int on_device, is_dec; /* where the global scale is, and in which sense */
    float scale, eps;
} fused_case;

static inline const char *fused_text(const fused_case *c)
{
    static const char *const layouts[] = {"128x4", "8x4", "linear"};
    static char text[512];

    snprintf(
        text, sizeof text,
        "%s, %s, %zu x %zu, strides %zu %zu, shifts %05x, pdl %d, %s%s%s%s%s%s%sglobal %s %s %a, "
        "eps %a",
        c->unit->name, layouts[c->layout], c->rows, c->cols, c->x_stride, c->residual_stride,
        (unsigned)c->shifts, c->pdl, c->interleaved ? "interleaved, " : "",
        c->few == 2 ? "parts of few rows, "
        : c->few    ? "few rows, "
                    : "",
        c->four_rows == 2   ? "four rows, the last alone, "
        : c->four_rows == 1 ? "four rows, "
                            : "",
        c->rounded ? "rounded, " : "", c->has_y ? "y, " : "", c->has_sf_linear ? "sf_linear, " : "",
        c->per_token ? "per token, " : "", c->on_device ? "device" : "host",
        c->is_dec ? "dec" : "enc", (double)c->scale, (double)c->eps);
    return text;
}

/** A case of ordinary shape without options, for the caller to change. */
static inline fused_case fused_case_of(const fused_unit *unit, fp4_layout layout, size_t rows,
                                       size_t cols)
{
    fused_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.layout = layout;
    c.rows = rows;
    c.cols = c.residual_stride = cols;
    c.x_stride = fused_is_gated(unit) ? 2 * cols : cols;
    c.period = 129;
    c.per_token = unit->op == FUSED_token;
    c.scale = c.per_token ? 1.0f / 2688.0f : 448.0f;
    c.eps = 1e-5f;
    c.few = rows <= 256;
    c.four_rows = 1;
    return c;
}

static inline size_t fused_block(const fused_case *c)
{
    return fp4_format_block(c->unit->format);
}

static inline size_t fused_sf_cols(const fused_case *c)
{
    return c->cols / fused_block(c);
}

static inline size_t fused_x_cols(const fused_case *c)
{
    return fused_is_gated(c->unit) ? 2 * c->cols : c->cols;
}

/** The rows that differ. */
static inline size_t fused_own_rows(const fused_case *c)
{
    return c->rows < c->period ? c->rows : c->period;
}

static inline int fused_has(const fused_case *c, fused_buffer which)
{
    const fused_unit *u = c->unit;

    switch (which) {
    case FUSED_WEIGHT:
        return fused_is_norm(u);
    case FUSED_BIAS:
        return u->op == FUSED_layernorm;
    case FUSED_RESIDUAL:
        return u->op == FUSED_add_rmsnorm;
    case FUSED_SF_LINEAR:
        return c->has_sf_linear;
    case FUSED_Y:
        return c->has_y;
    case FUSED_TOKEN_DEC:
        return c->per_token;
    case FUSED_GLOBAL:
        return c->on_device;
    default:
        return 1;
    }
}

/** Bytes from row to row of a buffer that has rows, and of a row itself. */
static inline size_t fused_row_stride(const fused_case *c, fused_buffer which)
{
    const size_t size = host_dtype_bytes(c->unit->dtype);

    return which == FUSED_X           ? c->x_stride * size
           : which == FUSED_RESIDUAL  ? c->residual_stride * size
           : which == FUSED_Q         ? fp4_q_bytes(c->unit->format, 1, c->cols)
           : which == FUSED_SF_LINEAR ? fused_sf_cols(c)
           : which == FUSED_TOKEN_DEC ? sizeof(float)
                                      : c->cols * size;
}

static inline size_t fused_row_bytes(const fused_case *c, fused_buffer which)
{
    const size_t size = host_dtype_bytes(c->unit->dtype);

    return which == FUSED_X          ? fused_x_cols(c) * size
           : which == FUSED_RESIDUAL ? c->cols * size
                                     : fused_row_stride(c, which);
}

/** Bytes of a buffer. */
static inline size_t fused_bytes(const fused_case *c, fused_buffer which)
{
    switch (which) {
    case FUSED_WEIGHT:
    case FUSED_BIAS:
        return fused_row_bytes(c, which);
    case FUSED_SF:
        return fp4_sf_bytes(c->layout, c->rows, fused_sf_cols(c));
    case FUSED_GLOBAL:
        return sizeof(float);
    default:
        return host_span(c->rows, fused_row_bytes(c, which), fused_row_stride(c, which));
    }
}

/** What a buffer has to be aligned to. */
static inline size_t fused_align(const fused_case *c, fused_buffer which)
{
    switch (which) {
    case FUSED_Q:
        return c->unit->format == FP4_MXFP8 ? 16 : 8;
    case FUSED_SF:
        return c->layout == FP4_LAYOUT_LINEAR ? 1 : 4;
    case FUSED_SF_LINEAR:
        return 1;
    case FUSED_TOKEN_DEC:
    case FUSED_GLOBAL:
        return 4;
    default:
        return 16;
    }
}

static inline size_t fused_shift(const fused_case *c, fused_buffer which)
{
    return (c->shifts >> 2 * which & 3u) * fused_align(c, which);
}

/* ---------------------------------------------------------------- operands */

/** The inputs in host memory: of x and residual the rows that differ, the gaps behind each too. */
typedef struct fused_operands {
    uint8_t *in[FUSED_RESIDUAL + 1]; /* by fused_buffer */
} fused_operands;

/* Bytes of that. */
static inline size_t fused_own_bytes(const fused_case *c, fused_buffer which)
{
    return which == FUSED_X || which == FUSED_RESIDUAL
               ? fused_own_rows(c) * fused_row_stride(c, which)
               : fused_bytes(c, which);
}

/** Zeros. */
static inline fused_operands fused_operands_new(const fused_case *c)
{
    fused_operands o;

    for (int i = FUSED_X; i <= FUSED_RESIDUAL; i++) {
        o.in[i] = (uint8_t *)host_zeros(fused_own_bytes(c, (fused_buffer)i));
    }
    return o;
}

static inline void fused_operands_free(fused_operands o)
{
    for (int i = FUSED_X; i <= FUSED_RESIDUAL; i++) {
        free(o.in[i]);
    }
}

/** Elements of all kinds, a run of them for each host_data. */
typedef struct fused_pool {
    uint8_t *bytes;
    fp4_dtype dtype;
    size_t run; /* elements */
} fused_pool;

static inline fused_pool fused_pool_new(fp4_dtype dtype)
{
    fused_pool p;
    uint64_t state = 4030 + (uint64_t)dtype;

    p.dtype = dtype;
    p.run = gpu_is_reduced() ? 1 << 13 : 1 << 18;
    p.bytes = (uint8_t *)host_zeros(HOST_DATA * p.run * host_dtype_bytes(dtype));
    for (int kind = 0; kind < HOST_DATA; kind++) {
        uint8_t *at = p.bytes + (size_t)kind * p.run * host_dtype_bytes(dtype);
        fp4_matrix m;
        m.data = at;
        m.dtype = dtype;
        m.rows = 1;
        m.cols = m.row_stride = p.run;
        m.dec = 1.0f;
        host_fill(at, m, &state, (host_data)kind, 16);
        if (kind == HOST_NARROW) {
            host_without_zeros(at, p.run, dtype);
        }
    }
    return p;
}

static inline void fused_pool_free(fused_pool p)
{
    free(p.bytes);
}

/** n elements of a kind, from some place on. */
static inline void fused_draw(uint8_t *to, size_t n, const fused_pool *p, host_data kind,
                              uint64_t *state)
{
    const size_t size = host_dtype_bytes(p->dtype);
    const uint8_t *run = p->bytes + (size_t)kind * p->run * size;
    size_t from = host_below(state, (uint32_t)(p->run / 16)) * 16;

    while (n > 0) {
        const size_t some = n < p->run - from ? n : p->run - from;
        memcpy(to, run + from * size, some * size);
        to += some * size;
        n -= some;
        from = 0;
    }
}

/* Mostly ordinary: one NaN, and a row of a norm is all NaN. */
static inline host_data fused_draw_kind(uint64_t *state)
{
    static const host_data kinds[] = {HOST_NARROW,   HOST_NARROW,   HOST_NARROW, HOST_NARROW,
                                      HOST_MODERATE, HOST_MODERATE, HOST_WIDE,   HOST_SPECIAL};
    return kinds[host_below(state, 8)];
}

/** Operands of a case: every row of another kind, infinities between the rows. */
static inline fused_operands fused_operands_of_pool(const fused_case *c, const fused_pool *p,
                                                    uint64_t *state)
{
    static const uint32_t gap[] = {0x7f800000u, 0x7c00u, 0x7f80u};
    const size_t size = host_dtype_bytes(p->dtype);
    fused_operands o = fused_operands_new(c);

    for (int i = FUSED_X; i <= FUSED_RESIDUAL; i++) {
        const fused_buffer which = (fused_buffer)i;
        const int is_row = which == FUSED_WEIGHT || which == FUSED_BIAS;
        const size_t rows = is_row ? 1 : fused_own_rows(c);
        const size_t n = fused_row_bytes(c, which) / size;
        const size_t all = is_row ? n : fused_row_stride(c, which) / size;
        for (size_t row = 0; row < rows && fused_has(c, which); row++) {
            uint8_t *to = o.in[i] + row * all * size;
            fused_draw(to, n, p, fused_draw_kind(state), state);
            for (size_t at = n; at < all; at++) {
                memcpy(to + at * size, &gap[p->dtype], size);
            }
        }
    }
    return o;
}

/* ---------------------------------------------------------------- the host twin */

/** What a call writes: the rows that differ, by fused_buffer; and all of sf. */
typedef struct fused_expected {
    uint8_t *out[FUSED_BUFFERS]; /* FUSED_SF is not used */
    uint8_t *sf;
} fused_expected;

static inline fp4_matrix fused_matrix(const fused_case *c, const void *x, size_t rows, size_t cols,
                                      size_t stride)
{
    fp4_matrix m;

    m.data = x;
    m.dtype = c->unit->dtype;
    m.rows = rows;
    m.cols = cols;
    m.row_stride = stride;
    m.dec = 1.0f;
    return m;
}

/** The second-level scale in encode sense, where there is one for all. */
static inline float fused_global_enc(const fused_case *c)
{
    return c->is_dec ? fp4_nvfp4_global_enc_from_dec(c->scale) : c->scale;
}

/* The twin itself: rows of x and residual to t, and to y. */
static inline fp4_status fused_twin(const fused_case *c, const fused_operands *o, uint8_t *residual,
                                    uint8_t *y, fp4_tensor *t)
{
    const fp4_matrix x =
        fused_matrix(c, o->in[FUSED_X], fused_own_rows(c), fused_x_cols(c), c->x_stride);
    const void *weight = o->in[FUSED_WEIGHT];
    fp4_ref_fused how;

    memset(&how, 0, sizeof how);
    how.global_enc = c->per_token ? 0.0f : fused_global_enc(c);
    how.base_dec = c->per_token ? c->scale : 0.0f;
    how.rounded = c->rounded;
    how.y = c->has_y ? y : NULL;
    how.y_stride = c->cols;
    switch (c->unit->op) {
    case FUSED_rmsnorm:
        return fp4_ref_rmsnorm_quantize(x, weight, c->eps, &how, t);
    case FUSED_add_rmsnorm:
        return fp4_ref_add_rmsnorm_quantize(x, residual, c->residual_stride, weight, c->eps, &how,
                                            t);
    case FUSED_layernorm:
        return fp4_ref_layernorm_quantize(x, weight, o->in[FUSED_BIAS], c->eps, &how, t);
    case FUSED_silu:
        return fp4_ref_silu_mul_quantize(x, c->interleaved, &how, t);
    case FUSED_gelu_tanh:
        return fp4_ref_gelu_tanh_mul_quantize(x, c->interleaved, &how, t);
    case FUSED_swiglu_oai:
        return fp4_ref_swiglu_oai_mul_quantize(x, c->interleaved, &how, t);
    case FUSED_token:
        return fp4_ref_nvfp4_quantize_tokens(x, c->scale, t);
    case FUSED_OPS:
        break;
    }
    return FP4_BAD_TYPE;
}

/* The scales of all rows in the case's layout. */
static inline uint8_t *fused_all_scales(const fused_case *c, const uint8_t *linear)
{
    const size_t sf_cols = fused_sf_cols(c), own = fused_own_rows(c);
    uint8_t *sf = (uint8_t *)host_zeros(fused_bytes(c, FUSED_SF));
    uint8_t *all = (uint8_t *)host_zeros(c->rows * sf_cols);

    for (size_t row = 0; row < c->rows; row += own) {
        const size_t n = c->rows - row < own ? c->rows - row : own;
        memcpy(all + row * sf_cols, linear, n * sf_cols);
    }
    host_place_scales(sf, c->layout, all, c->rows, sf_cols);
    free(all);
    return sf;
}

static inline fused_expected fused_expected_new(const fused_case *c, const fused_operands *o)
{
    const size_t own = fused_own_rows(c);
    fused_expected e;
    fp4_tensor t;
    fp4_status status;

    memset(&e, 0, sizeof e);
    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        e.out[i] = (uint8_t *)host_zeros(own * fused_row_stride(c, (fused_buffer)i));
    }
    memcpy(e.out[FUSED_RESIDUAL], o->in[FUSED_RESIDUAL], fused_own_bytes(c, FUSED_RESIDUAL));
    t = fp4_tensor_view(c->unit->format, FP4_LAYOUT_LINEAR, own, c->cols, e.out[FUSED_Q],
                        own * fused_row_bytes(c, FUSED_Q), e.out[FUSED_SF_LINEAR],
                        own * fused_sf_cols(c));
    if (c->per_token) {
        t.row_dec = (float *)(void *)e.out[FUSED_TOKEN_DEC];
        t.row_dec_bytes = own * sizeof(float);
    }
    status = fused_twin(c, o, e.out[FUSED_RESIDUAL], e.out[FUSED_Y], &t);
    cr_assert(status == FP4_OK, "host twin: %s: %s", fp4_status_text(status), fused_text(c));
    e.sf = fused_all_scales(c, e.out[FUSED_SF_LINEAR]);
    return e;
}

static inline void fused_expected_free(fused_expected e)
{
    for (int i = 0; i < FUSED_BUFFERS; i++) {
        free(e.out[i]);
    }
    free(e.sf);
}

/* ---------------------------------------------------------------- buffers on the device */

/** A case's buffers on the device, and the call. Those it does not have have no memory. */
typedef struct fused_device {
    gpu_buffer b[FUSED_BUFFERS];
    launch_fused_args args;
} fused_device;

/** Puts the rows that differ into a buffer, again and again. */
static inline void fused_upload(gpu_buffer b, const uint8_t *own, size_t own_bytes)
{
    gpu_buffer period;

    if (b.size <= own_bytes) {
        GPU_OK(cudaMemcpy(b.bytes, own, b.size, cudaMemcpyHostToDevice));
        return;
    }
    period = gpu_buffer_of(own, own_bytes, 0);
    GPU_OK(gpu_repeat(b.bytes, b.size, period.bytes, own_bytes));
    gpu_finish("repeating rows");
    gpu_buffer_free(period);
}

static inline fused_device fused_device_new(const fused_case *c, const fused_operands *o)
{
    fused_device d;
    launch_fused_args *a = &d.args;

    memset(&d, 0, sizeof d);
    for (int i = 0; i < FUSED_BUFFERS; i++) {
        const fused_buffer which = (fused_buffer)i;
        if (fused_has(c, which)) {
            d.b[i] = gpu_buffer_new(fused_bytes(c, which), fused_shift(c, which));
        }
        if (fused_has(c, which) && i <= FUSED_RESIDUAL) {
            fused_upload(d.b[i], o->in[i], fused_own_bytes(c, which));
        }
    }
    if (c->on_device) {
        GPU_OK(
            cudaMemcpy(d.b[FUSED_GLOBAL].bytes, &c->scale, sizeof(float), cudaMemcpyHostToDevice));
    }
    a->x = d.b[FUSED_X].bytes;
    a->weight = d.b[FUSED_WEIGHT].bytes;
    a->bias = d.b[FUSED_BIAS].bytes;
    a->residual = d.b[FUSED_RESIDUAL].bytes;
    a->rows = c->rows;
    a->cols = c->cols;
    a->x_stride = c->x_stride;
    a->residual_stride = c->residual_stride;
    a->eps = c->eps;
    a->interleaved = c->interleaved;
    a->few = c->few;
    a->four_rows = c->four_rows;
    a->rounded = c->rounded;
    a->global_device = (const float *)(void *)d.b[FUSED_GLOBAL].bytes;
    a->global = c->on_device ? host_bits(0x7fc00000u) : c->scale;
    a->global_is_dec = c->is_dec;
    a->q = d.b[FUSED_Q].bytes;
    a->sf = d.b[FUSED_SF].bytes;
    a->layout = c->layout;
    a->sf_linear = d.b[FUSED_SF_LINEAR].bytes;
    a->y = d.b[FUSED_Y].bytes;
    a->token_dec = (float *)(void *)d.b[FUSED_TOKEN_DEC].bytes;
    return d;
}

static inline void fused_device_free(fused_device d)
{
    for (int i = 0; i < FUSED_BUFFERS; i++) {
        if (d.b[i].memory != NULL) {
            gpu_buffer_free(d.b[i]);
        }
    }
}

/** Fills what is only written. */
static inline void fused_poison(const fused_device *d, int byte)
{
    for (int i = FUSED_Q; i < FUSED_GLOBAL; i++) {
        if (d->b[i].memory != NULL) {
            gpu_poison(d->b[i], byte);
        }
    }
}

/** Calls the launcher and waits. */
static inline void fused_launch(const fused_case *c, const launch_fused_args *args, int pdl)
{
    GPU_OK(c->unit->launch(args, pdl, 0));
    gpu_finish(fused_text(c));
}

/* ---------------------------------------------------------------- comparing */

/* A failure that is counted as those of check.h are. */
#define FUSED_FAIL(...) \
    do { \
        cr_expect_fail(__VA_ARGS__); \
        if (++check_failures_ == CHECK_FAILURES_SHOWN) { \
            cr_assert_fail("stopped after %d failures", check_failures_); \
        } \
    } while (0)

/* Bytes that are the same; of f32 elements any NaN is. Where not, the first, counted from 0. */
static inline int fused_same(const uint8_t *got, const uint8_t *expected, size_t n, int is_f32,
                             size_t *first)
{
    const size_t step = is_f32 ? 4 : 1;

    if (memcmp(got, expected, n) == 0) {
        return 1;
    }
    for (size_t i = 0; i < n; i += step) {
        float a = 0.0f, b = 0.0f;
        if (is_f32) {
            memcpy(&a, got + i, sizeof a);
            memcpy(&b, expected + i, sizeof b);
        }
        if (memcmp(got + i, expected + i, step) != 0 && !(isnan(a) && isnan(b))) {
            *first = i;
            return 0;
        }
    }
    return 1;
}

/* Rows of a buffer, the gaps between them too, against those that differ. */
static inline void fused_expect_rows(const fused_case *c, fused_buffer which, const uint8_t *got,
                                     const uint8_t *expected, int poison)
{
    const size_t stride = fused_row_stride(c, which), own = fused_own_rows(c);
    const int is_f32 = c->unit->dtype == FP4_F32 && (which == FUSED_Y || which == FUSED_RESIDUAL);
    size_t at = 0;

    for (size_t row = 0; row < c->rows; row++) {
        const size_t n = row + 1 == c->rows ? fused_row_bytes(c, which) : stride;
        const uint8_t *e = expected + row % own * stride;
        if (!fused_same(got + row * stride, e, n, is_f32, &at)) {
            FUSED_FAIL("%s; %s, row %zu, byte %zu: got 0x%02x, expected 0x%02x; outputs filled "
                       "with 0x%02x before",
                       fused_text(c), fused_buffer_name[which], row, at, got[row * stride + at],
                       e[at], poison);
            return;
        }
    }
}

/* All codes of the expected rows. */
static inline uint8_t *fused_all_codes(const fused_case *c, const uint8_t *own)
{
    const size_t stride = fused_row_stride(c, FUSED_Q);
    uint8_t *q = (uint8_t *)host_zeros(c->rows * stride);

    for (size_t row = 0; row < c->rows; row++) {
        memcpy(q + row * stride, own + row % fused_own_rows(c) * stride, stride);
    }
    return q;
}

/** Codes and scales of all rows; fails in the words of fp4_ref_compare. */
static inline void fused_expect_codes(const fused_case *c, uint8_t *q, uint8_t *sf,
                                      uint8_t *expected_q, uint8_t *expected_sf, const char *what)
{
    const size_t q_bytes = fused_bytes(c, FUSED_Q), sf_bytes = fused_bytes(c, FUSED_SF);
    const fp4_tensor got =
        fp4_tensor_view(c->unit->format, c->layout, c->rows, c->cols, q, q_bytes, sf, sf_bytes);
    const fp4_tensor expected = fp4_tensor_view(c->unit->format, c->layout, c->rows, c->cols,
                                                expected_q, q_bytes, expected_sf, sf_bytes);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;

    if (memcmp(q, expected_q, q_bytes) == 0 && memcmp(sf, expected_sf, sf_bytes) == 0) {
        return;
    }
    memset(&d, 0, sizeof d);
    cr_assert(fp4_ref_compare(&got, &expected, &d) == FP4_OK);
    FUSED_FAIL("%s; %s, device (a) and host (b): %s", fused_text(c), what,
               fp4_difference_text(&d, text, sizeof text));
}

/** All that the call has written. */
static inline void fused_expect_outputs(const fused_case *c, const fused_device *d,
                                        const fused_expected *e, int poison)
{
    uint8_t *q = (uint8_t *)gpu_copy_of(d->b[FUSED_Q]);
    uint8_t *sf = (uint8_t *)gpu_copy_of(d->b[FUSED_SF]);
    uint8_t *all_q = c->rows > c->period ? fused_all_codes(c, e->out[FUSED_Q]) : e->out[FUSED_Q];

    fused_expect_codes(c, q, sf, all_q, e->sf,
                       poison == 0xff ? "outputs filled with 0xff" : "outputs filled with 0x7f");
    if (all_q != e->out[FUSED_Q]) {
        free(all_q);
    }
    free(q);
    free(sf);
    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        if (i != FUSED_Q && i != FUSED_SF && fused_has(c, (fused_buffer)i)) {
            uint8_t *got = (uint8_t *)gpu_copy_of(d->b[i]);
            fused_expect_rows(c, (fused_buffer)i, got, e->out[i], poison);
            free(got);
        }
    }
}

/* An input is what it was. */
static inline void fused_expect_input(const fused_case *c, fused_buffer which, gpu_buffer b,
                                      const uint8_t *own, size_t own_bytes)
{
    if (b.size <= own_bytes) {
        uint8_t *after = (uint8_t *)gpu_copy_of(b);
        CHECK(memcmp(after, own, b.size) == 0, "%s: %s has changed", fused_text(c),
              fused_buffer_name[which]);
        free(after);
    } else {
        const gpu_buffer period = gpu_buffer_of(own, own_bytes, 0), found = gpu_differences_new(1);
        gpu_difference changed;
        GPU_OK(
            gpu_compare(b.bytes, period.bytes, b.size, own_bytes, 0, gpu_difference_at(found, 0)));
        gpu_download(&changed, found);
        CHECK_EQ(changed.count, 0, "%s: bytes of %s that have changed", fused_text(c),
                 fused_buffer_name[which]);
        gpu_buffer_free(period);
        gpu_buffer_free(found);
    }
}

/** Nothing was written outside of the outputs. */
static inline void fused_expect_rest(const fused_case *c, const fused_device *d,
                                     const fused_operands *o)
{
    for (int i = 0; i < FUSED_BUFFERS; i++) {
        const fused_buffer which = (fused_buffer)i;
        if (!fused_has(c, which)) {
            continue;
        }
        gpu_expect_guards(d->b[i], fused_text(c));
        if (i < FUSED_RESIDUAL) {
            fused_expect_input(c, which, d->b[i], o->in[i], fused_own_bytes(c, which));
        } else if (which == FUSED_GLOBAL) {
            fused_expect_input(c, which, d->b[i], (const uint8_t *)&c->scale, sizeof(float));
        }
    }
}

/* ---------------------------------------------------------------- the run */

/** Launches the case over outputs full of 0x7f and full of 0xff, and compares every byte that it
    may write, and every one that it must not. Of many rows one of the two. */
static inline void fused_run(const fused_case *c, const fused_operands *o)
{
    static const int poisons[] = {0x7f, 0xff};
    const size_t first = c->rows > c->period ? c->cols / 16 % 2 : 0;
    const fused_device d = fused_device_new(c, o);
    const fused_expected e = fused_expected_new(c, o);

    for (size_t p = first; p < (c->rows > c->period ? first + 1 : 2); p++) {
        if (p > first && fused_has(c, FUSED_RESIDUAL)) {
            fused_upload(d.b[FUSED_RESIDUAL], o->in[FUSED_RESIDUAL],
                         fused_own_bytes(c, FUSED_RESIDUAL));
        }
        fused_poison(&d, poisons[p]);
        fused_launch(c, &d.args, c->pdl);
        fused_expect_outputs(c, &d, &e, poisons[p]);
    }
    fused_expect_rest(c, &d, o);
    fused_expected_free(e);
    fused_device_free(d);
}

/* ---------------------------------------------------------------- options */

/** All that can be asked for beside the shape, at random; nothing at all in one case of three. */
static inline void fused_draw_options(fused_case *c, uint64_t *state)
{
    const size_t unit = 16 / host_dtype_bytes(c->unit->dtype);
    const size_t gaps[] = {0, 0, unit, 5 * unit, c->rows * c->cols < 1 << 22 ? c->cols : 0};
    const int is_nvfp4 = fp4_format_is_nvfp4(c->unit->format), is_plain = host_below(state, 3) == 0;

    c->x_stride = fused_x_cols(c) + gaps[host_below(state, 5)];
    c->residual_stride = c->cols + gaps[host_below(state, 5)];
    c->shifts = host_below(state, 2) ? host_random(state) & 0xfffffu : 0;
    c->pdl = (int)host_below(state, 2);
    c->interleaved = fused_is_gated(c->unit) && host_below(state, 2);
    c->few = (int)host_below(state, 2);
    c->four_rows = (int)host_below(state, 3);
    c->on_device = (int)host_below(state, 2);
    c->is_dec = (int)host_below(state, 2);
    c->scale = host_random_scale(state, -4, 12);
    c->eps = host_below(state, 2) ? 1e-5f : host_random_scale(state, -40, 4);
    if (!is_plain) {
        c->rounded = c->unit->op != FUSED_token && host_below(state, 2);
        c->has_y = c->unit->op != FUSED_token && host_below(state, 2);
        c->has_sf_linear = (int)host_below(state, 2);
        c->per_token = c->per_token || (is_nvfp4 && host_below(state, 2));
    }
    if (c->per_token) {
        c->scale = host_below(state, 2) ? 1.0f / 2688.0f : host_random_scale(state, -20, 4);
    } else if (!is_nvfp4) {
        c->scale = host_bits(0x7fc00000u); /* nobody may look at it */
    }
}

#endif /* FP4_TESTS_GPU_FUSED_H */

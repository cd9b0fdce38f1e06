/*
 * tests/gpu/experts.h - what the tests of 10_experts share: the launchers, a case and its numbers,
 * all bytes that a launch may write against the host twin.
 */
#ifndef FP4_TESTS_GPU_EXPERTS_H
#define FP4_TESTS_GPU_EXPERTS_H

#include <fp4/host/experts.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the example as values. */
enum { EXPERTS_f32 = FP4_F32, EXPERTS_f16 = FP4_F16, EXPERTS_bf16 = FP4_BF16 };
enum { EXPERTS_nvfp4 = FP4_NVFP4, EXPERTS_mxfp4 = FP4_MXFP4, EXPERTS_mxfp8 = FP4_MXFP8 };
enum {
    EXPERTS_none = FP4_ACTIVATION_NONE,
    EXPERTS_silu = FP4_ACTIVATION_SILU,
    EXPERTS_gelu_tanh = FP4_ACTIVATION_GELU_TANH,
    EXPERTS_swiglu_oai = FP4_ACTIVATION_SWIGLU_OAI
};

/** A launcher and what it was compiled with. */
typedef struct experts_unit {
    launch_experts_function launch;
    fp4_dtype dtype;
    fp4_format format;
    fp4_activation activation;
    const char *name;
} experts_unit;

#define EXPERTS_UNIT_(input, format, act) \
    {LAUNCH_EXPERTS(input, format, act), (fp4_dtype)EXPERTS_##input, (fp4_format)EXPERTS_##format, \
     (fp4_activation)EXPERTS_##act, #input " to " #format ", " #act},
static const experts_unit experts_units[] = {LAUNCH_EXPERTS_EACH(EXPERTS_UNIT_)};
enum { EXPERTS_UNITS = sizeof experts_units / sizeof experts_units[0] };

/* ---------------------------------------------------------------- cases */

/** What is asked. gaps: elements behind the columns, a multiple of 16 bytes. Without sources x_rows
    is rows. */
typedef struct experts_case {
    const experts_unit *unit;
    int is_packed, has_sources, on_device, is_dec, interleaved, rounded, has_starts, has_errors,
        pdl, in_turn;
    size_t groups, rows, cols, q_cols, gap, group_gap, x_rows, sf_rows, global_step;
    fp4_experts_starts starts;
    fp4_rest rest;
} experts_case;

/** What is given beside: counts or offsets, groups + 1 of them; sources, `rows` of them; as many
    scales as groups; x. */
typedef struct experts_operands {
    int32_t *numbers, *sources;
    float *scales;
    uint8_t *x;
} experts_operands;

static inline const char *experts_text(const experts_case *c)
{
    static char text[400];

    snprintf(
        text, sizeof text,
        "%s, %s, groups %zu, rows %zu, cols %zu to %zu, gaps %zu %zu, x_rows %zu, sf_rows "
        "%zu, sources %d, %s, rest %d, interleaved %d, rounded %d, global step %zu on device %d "
        "dec %d, pdl %d",
        c->unit->name, c->is_packed ? "packed" : "masked", c->groups, c->rows, c->cols, c->q_cols,
        c->gap, c->group_gap, c->x_rows, c->sf_rows, c->has_sources,
        c->starts == FP4_STARTS_SPREAD ? "spread" : "summed", (int)c->rest, c->interleaved,
        c->rounded, c->global_step, c->on_device, c->is_dec, c->pdl);
    return text;
}

/** A case of ordinary shape, for the caller to change. */
static inline experts_case experts_case_of(const experts_unit *unit, int is_packed, size_t groups,
                                           size_t rows, size_t cols)
{
    experts_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.is_packed = is_packed;
    c.groups = groups;
    c.rows = c.x_rows = rows;
    c.cols = c.q_cols = cols;
    c.sf_rows = fp4_experts_sf_rows(FP4_STARTS_SPREAD, rows, groups);
    c.on_device = c.has_errors = 1;
    c.has_starts = is_packed;
    c.global_step = 1;
    return c;
}

static inline size_t experts_x_stride(const experts_case *c)
{
    return (c->unit->activation == FP4_ACTIVATION_NONE ? 1 : 2) * c->cols + c->gap;
}

static inline size_t experts_x_group(const experts_case *c)
{
    return c->rows * experts_x_stride(c) + c->group_gap;
}

static inline size_t experts_x_bytes(const experts_case *c)
{
    const size_t elements =
        c->is_packed ? c->x_rows * experts_x_stride(c) : c->groups * experts_x_group(c);
    return elements * host_dtype_bytes(c->unit->dtype);
}

static inline size_t experts_q_bytes(const experts_case *c)
{
    const size_t codes = (c->is_packed ? 1 : c->groups) * c->rows * c->q_cols;
    return c->unit->format == FP4_MXFP8 ? codes : codes / 2;
}

static inline size_t experts_sf_bytes(const experts_case *c)
{
    const size_t sf_cols = c->q_cols / (c->unit->format == FP4_NVFP4 ? 16 : 32);
    const size_t rows = c->is_packed ? c->sf_rows : c->groups * ((c->rows + 127) / 128 * 128);
    return rows * ((sf_cols + 3) / 4 * 4);
}

/* ---------------------------------------------------------------- operands */

static inline void experts_operands_free(experts_operands o)
{
    free(o.numbers);
    free(o.sources);
    free(o.scales);
    free(o.x);
}

/** A number around the bounds, or any. */
static inline int32_t experts_wild(uint64_t *state, size_t most)
{
    switch (host_below(state, 5)) {
    case 0:
        return (int32_t)host_random(state);
    case 1:
        return -(int32_t)host_below(state, 3);
    case 2:
        return (int32_t)most + (int32_t)host_below(state, 3);
    default:
        return (int32_t)host_below(state, (uint32_t)most + 1);
    }
}

/** Numbers in their bounds; or, wild, some that are not. Few rows in each group: one of a handful
    has more. */
static inline void experts_draw_numbers(const experts_case *c, experts_operands *o, int is_wild,
                                        uint64_t *state)
{
    int32_t at = (int32_t)host_below(state, c->rows == 0 ? 1 : 2);

    for (size_t g = 0; g <= c->groups; g++) {
        const uint32_t left = (uint32_t)c->rows - (c->is_packed ? (uint32_t)at : 0);
        const uint32_t most = host_below(state, 3) == 0 ? left : left < 40 ? left : 40;
        const int32_t some = host_below(state, 4) == 0 ? 0 : (int32_t)host_below(state, most + 1);
        o->numbers[g] = c->is_packed ? at : some;
        at += c->is_packed ? some : 0;
    }
    for (size_t g = 0; g <= c->groups && is_wild; g++) {
        if (host_below(state, 3) == 0) {
            o->numbers[g] = experts_wild(state, c->rows);
        }
    }
    const uint32_t odds = host_below(state, 2) ? 8 : 64; /* whole items without a bad one, too */
    for (size_t row = 0; row < c->rows; row++) {
        o->sources[row] = is_wild && host_below(state, odds) == 0
                              ? experts_wild(state, c->x_rows)
                              : (int32_t)host_below(state, (uint32_t)c->x_rows);
    }
}

/** Operands of a case. Rows of x that nobody may read hold NaN; so do gaps. */
static inline experts_operands experts_operands_new(const experts_case *c, int is_wild,
                                                    host_data data, uint64_t *state)
{
    const size_t cols = experts_x_stride(c) - c->gap, size = host_dtype_bytes(c->unit->dtype);
    const size_t matrices = c->is_packed ? 1 : c->groups;
    const size_t rows = c->is_packed ? c->x_rows : c->rows;
    const size_t scales = c->groups == 0 ? 1 : c->groups;
    experts_operands o;

    o.numbers = (int32_t *)host_zeros((c->groups + 1) * sizeof(int32_t));
    o.sources = (int32_t *)host_zeros(c->rows * sizeof(int32_t));
    o.scales = (float *)host_zeros(scales * sizeof(float));
    o.x = (uint8_t *)host_zeros(experts_x_bytes(c));
    experts_draw_numbers(c, &o, is_wild, state);
    for (size_t g = 0; g < scales; g++) {
        o.scales[g] = host_random_scale(state, -4, 12);
    }
    memset(o.x, 0xff, experts_x_bytes(c));
    for (size_t g = 0; g < matrices; g++) {
        const size_t real = c->is_packed ? rows : fp4_experts_bounded(o.numbers[g], (uint32_t)rows);
        const fp4_matrix m =
            fp4_matrix_of_(NULL, c->unit->dtype, real, cols, experts_x_stride(c), 1.0f);
        host_fill(o.x + g * experts_x_group(c) * size, m, state, data, 16);
        if (data == HOST_NARROW && real > 0) {
            host_without_zeros(o.x + g * experts_x_group(c) * size,
                               (real - 1) * experts_x_stride(c) + cols, c->unit->dtype);
        }
    }
    return o;
}

/* ---------------------------------------------------------------- the host twin */

/* A bit that no launch sets, to see that it stays. */
enum { EXPERTS_ERROR_BEFORE = 0x100 };

/** All that a launch may write. */
typedef struct experts_expected {
    uint8_t *q, *sf;
    int32_t *sf_starts;
    uint32_t errors;
} experts_expected;

static inline fp4_ref_experts experts_ref_of(const experts_case *c, const experts_operands *o)
{
    fp4_ref_experts e;

    memset(&e, 0, sizeof e);
    e.format = c->unit->format;
    e.activation = c->unit->activation;
    e.interleaved = c->interleaved;
    e.rounded = c->rounded;
    e.groups = c->groups;
    e.rows = c->rows;
    e.cols = c->cols;
    e.q_cols = c->q_cols;
    e.x = o->x;
    e.dtype = c->unit->dtype;
    e.x_stride = experts_x_stride(c);
    e.x_group_stride = experts_x_group(c);
    e.x_rows = c->x_rows;
    e.counts = c->is_packed ? NULL : o->numbers;
    e.offsets = c->is_packed ? o->numbers : NULL;
    e.sources = c->has_sources ? o->sources : NULL;
    e.starts = c->starts;
    e.sf_rows = c->sf_rows;
    e.global_scales = o->scales;
    e.global_step = c->on_device ? c->global_step : 0;
    e.global_is_dec = c->is_dec;
    e.rest = c->rest;
    e.q_bytes = experts_q_bytes(c);
    e.sf_bytes = experts_sf_bytes(c);
    return e;
}

static inline experts_expected experts_expect(const experts_case *c, const experts_operands *o,
                                              int poison)
{
    fp4_ref_experts e = experts_ref_of(c, o);
    experts_expected out;

    out.q = (uint8_t *)host_zeros(e.q_bytes);
    out.sf = (uint8_t *)host_zeros(e.sf_bytes);
    out.sf_starts = (int32_t *)host_zeros((c->groups + 1) * sizeof(int32_t));
    out.errors = EXPERTS_ERROR_BEFORE;
    memset(out.q, poison, e.q_bytes);
    memset(out.sf, poison, e.sf_bytes);
    memset(out.sf_starts, poison, (c->groups + 1) * sizeof(int32_t));
    e.q = out.q;
    e.sf = out.sf;
    e.sf_starts = c->has_starts ? out.sf_starts : NULL;
    e.errors = c->has_errors ? &out.errors : NULL;
    cr_assert_eq(fp4_ref_experts_quantize(&e), FP4_OK, "host: %s", experts_text(c));
    return out;
}

static inline void experts_expected_free(experts_expected e)
{
    free(e.q);
    free(e.sf);
    free(e.sf_starts);
}

/* ---------------------------------------------------------------- the run */

/** A case's buffers on the device, and the call. */
typedef struct experts_device {
    gpu_buffer x, numbers, sources, scales, q, sf, sf_starts, errors;
    launch_experts_args args;
} experts_device;

static inline experts_device experts_device_new(const experts_case *c, const experts_operands *o)
{
    experts_device d;

    memset(&d, 0, sizeof d);
    d.x = gpu_buffer_of(o->x, experts_x_bytes(c), 16);
    d.numbers = gpu_buffer_of(o->numbers, (c->groups + (size_t)c->is_packed) * sizeof(int32_t), 4);
    d.sources = gpu_buffer_of(o->sources, c->rows * sizeof(int32_t), 4);
    d.scales = gpu_buffer_of(o->scales, (c->global_step == 0 ? 1 : c->groups) * sizeof(float), 4);
    d.q = gpu_buffer_new(experts_q_bytes(c), c->unit->format == FP4_MXFP8 ? 16 : 8);
    d.sf = gpu_buffer_new(experts_sf_bytes(c), 16);
    d.sf_starts = gpu_buffer_new((c->groups + 1) * sizeof(int32_t), 4);
    d.errors = gpu_buffer_new(sizeof(uint32_t), 4);
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.x = d.x.bytes;
    d.args.groups = c->groups;
    d.args.rows = c->rows;
    d.args.cols = c->cols;
    d.args.q_cols = c->q_cols;
    d.args.x_stride = experts_x_stride(c);
    d.args.x_group_stride = experts_x_group(c);
    d.args.x_rows = c->x_rows;
    if (c->is_packed) {
        d.args.offsets = (const int32_t *)(const void *)d.numbers.bytes;
    } else {
        d.args.counts = (const int32_t *)(const void *)d.numbers.bytes;
    }
    d.args.sources = c->has_sources ? (const int32_t *)(const void *)d.sources.bytes : NULL;
    d.args.starts = c->starts;
    d.args.sf_rows = c->sf_rows;
    d.args.global_device = c->on_device ? (const float *)(const void *)d.scales.bytes : NULL;
    d.args.global_step = c->on_device ? c->global_step : 0;
    d.args.global = o->scales[0];
    d.args.global_is_dec = c->is_dec;
    d.args.interleaved = c->interleaved;
    d.args.rounded = c->rounded;
    d.args.rest = c->rest;
    d.args.in_turn = c->in_turn;
    d.args.sf_starts = c->has_starts ? (int32_t *)(void *)d.sf_starts.bytes : NULL;
    d.args.errors = c->has_errors ? (uint32_t *)(void *)d.errors.bytes : NULL;
    return d;
}

static inline void experts_device_free(experts_device d)
{
    gpu_buffer_free(d.x);
    gpu_buffer_free(d.numbers);
    gpu_buffer_free(d.sources);
    gpu_buffer_free(d.scales);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    gpu_buffer_free(d.sf_starts);
    gpu_buffer_free(d.errors);
}

static inline void experts_poison(const experts_device *d, int poison)
{
    const uint32_t before = EXPERTS_ERROR_BEFORE;

    gpu_poison(d->q, poison);
    gpu_poison(d->sf, poison);
    gpu_poison(d->sf_starts, poison);
    GPU_OK(cudaMemcpy(d->errors.bytes, &before, sizeof before, cudaMemcpyHostToDevice));
}

static inline void experts_expect_buffer(gpu_buffer b, const void *expected, const char *which,
                                         const experts_case *c)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);
    char text[512];

    snprintf(text, sizeof text, "%s of %s", which, experts_text(c));
    host_expect_bytes(got, (const uint8_t *)expected, b.size, text);
    gpu_expect_guards(b, text);
    free(got);
}

/** All that a launch may write is as on the host, and all that it reads as before. */
static inline void experts_expect_written(const experts_case *c, const experts_device *d,
                                          const experts_operands *o, const experts_expected *e)
{
    experts_expect_buffer(d->q, e->q, "codes", c);
    experts_expect_buffer(d->sf, e->sf, "scales", c);
    experts_expect_buffer(d->sf_starts, e->sf_starts, "starts", c);
    experts_expect_buffer(d->errors, &e->errors, "errors", c);
    elements_expect_input(d->x, o->x, experts_text(c));
    elements_expect_input(d->numbers, o->numbers, experts_text(c));
    elements_expect_input(d->sources, o->sources, experts_text(c));
    elements_expect_input(d->scales, o->scales, experts_text(c));
}

/** Launches the case over outputs full of 0x7f and full of 0xff. */
static inline void experts_run(const experts_case *c, const experts_operands *o)
{
    static const int poisons[] = {0x7f, 0xff};
    const experts_device d = experts_device_new(c, o);

    for (size_t p = 0; p < 2; p++) {
        const experts_expected e = experts_expect(c, o, poisons[p]);
        experts_poison(&d, poisons[p]);
        GPU_OK(c->unit->launch(&d.args, c->pdl, 0));
        gpu_finish(experts_text(c));
        experts_expect_written(c, &d, o, &e);
        experts_expected_free(e);
    }
    experts_device_free(d);
}

/** The same with operands of its own. */
static inline void experts_run_new(const experts_case *c, int is_wild, host_data data,
                                   uint64_t *state)
{
    const experts_operands o = experts_operands_new(c, is_wild, data, state);

    experts_run(c, &o);
    experts_operands_free(o);
}

#endif /* FP4_TESTS_GPU_EXPERTS_H */

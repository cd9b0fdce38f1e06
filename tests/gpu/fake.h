/*
 * tests/gpu/fake.h - one call of 07_fake_quant's launcher with everything that can be asked of it,
 * and all that it writes against the host reference.
 */
#ifndef FP4_TESTS_GPU_FAKE_H
#define FP4_TESTS_GPU_FAKE_H

#include <fp4/host/fake.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the example as values. */
enum {
    FAKE_f32 = FP4_F32,
    FAKE_f16 = FP4_F16,
    FAKE_bf16 = FP4_BF16,
    FAKE_nvfp4 = FP4_FAKE_NVFP4,
    FAKE_mxfp4 = FP4_FAKE_MXFP4,
    FAKE_mxfp8 = FP4_FAKE_MXFP8,
    FAKE_nvfp4_32 = FP4_FAKE_NVFP4_32,
    FAKE_mxfp4_16 = FP4_FAKE_MXFP4_16,
    FAKE_modelopt = FP4_FAKE_MODELOPT,
    FAKE_cast = FP4_FAKE_CAST
};

/** A launcher and the words that it was compiled with. */
typedef struct fake_unit {
    launch_fake_function launch;
    fp4_dtype input, output;
    fp4_fake_rule rule;
    const char *name;
} fake_unit;

#define FAKE_UNIT_(input, output, rule) \
    {LAUNCH_FAKE(input, output, rule), (fp4_dtype)FAKE_##input, (fp4_dtype)FAKE_##output, \
     (fp4_fake_rule)FAKE_##rule, #rule " of " #input " to " #output},
static const fake_unit fake_units[] = {LAUNCH_FAKE_EACH(FAKE_UNIT_)};
enum { FAKE_UNITS = sizeof fake_units / sizeof fake_units[0] };

/* ---------------------------------------------------------------- cases */

typedef struct fake_case {
    const fake_unit *unit;
    size_t rows, cols, x_stride, y_stride;
    int pdl, in_place;  /* in place: y is x */
    size_t shift;       /* of x and y, in elements; whole vectors where pieces are whole */
    int wants_clipped;  /* shifted by one byte or two where that is allowed */
    int is_static;      /* amaxes given */
    size_t block;       /* modelopt */
    float fp8_max;      /* modelopt, static */
    int on_device;      /* the global number */
    size_t global_rows; /* on the device: one for so many rows, 0: for all */
    float global;       /* that of later rows is another (fake_global) */
} fake_case;

static inline const char *fake_text(const fake_case *c)
{
    static char text[448];

    snprintf(text, sizeof text,
             "%s, %zu x %zu, strides %zu %zu, shift %zu, pdl %d, %s%s%s, block %zu, fp8_max %.0f, "
             "global %s %zu %a",
             c->unit->name, c->rows, c->cols, c->x_stride, c->y_stride, c->shift, c->pdl,
             c->in_place ? "in place, " : "", c->wants_clipped ? "clipped, " : "",
             c->is_static ? "static" : "dynamic", c->block, (double)c->fp8_max,
             c->on_device ? "device" : "host", c->global_rows, (double)c->global);
    return text;
}

/** A case of ordinary shape without options, for the caller to change. */
static inline fake_case fake_case_of(const fake_unit *unit, size_t rows, size_t cols)
{
    fake_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.rows = rows;
    c.cols = c.x_stride = c.y_stride = cols;
    c.block = 16;
    c.fp8_max = 448.0f;
    c.global = unit->rule == FP4_FAKE_MODELOPT ? 8.0f : 336.0f;
    return c;
}

static inline int fake_is_ours(const fake_unit *u)
{
    return u->rule < FP4_FAKE_MODELOPT;
}

static inline int fake_has_global(const fake_unit *u)
{
    return u->rule == FP4_FAKE_MODELOPT || u->rule == FP4_FAKE_NVFP4 ||
           u->rule == FP4_FAKE_NVFP4_32;
}

/** Elements that share a scale; for the columns to be whole ones. */
static inline size_t fake_block(const fake_case *c)
{
    return fake_is_ours(c->unit)            ? fp4_format_block((fp4_format)c->unit->rule)
           : c->unit->rule == FP4_FAKE_CAST ? 1
                                            : c->block;
}

/** Whether anything follows from it. */
static inline int fake_needs_global(const fake_case *c)
{
    return fake_has_global(c->unit) &&
           (c->unit->rule != FP4_FAKE_MODELOPT || !c->is_static || c->fp8_max != 0.0f);
}

/** Whether a thread can take 16 elements at a time; where not, there may be no gaps. */
static inline int fake_is_pieces(const fake_case *c)
{
    return c->cols % 16 == 0 && (c->unit->rule != FP4_FAKE_MODELOPT || fake_block(c) % 16 == 0);
}

/** The number of a row. */
static inline float fake_global(const fake_case *c, size_t row)
{
    static const float factor[] = {1.0f, 1.5f, 0.375f, 0.125f, 0.75f};
    const size_t at = c->on_device && c->global_rows != 0 ? row / c->global_rows : 0;

    const float global = at == 0 ? c->global : c->global * factor[at % 5];

    /* what has a reciprocal; the largest amax of ModelOpt may be anything */
    return fake_is_ours(c->unit) ? fminf(fmaxf(global, 0x1.000008p-128f), FP4_F32_MAX) : global;
}

static inline size_t fake_globals(const fake_case *c)
{
    return c->on_device && c->global_rows != 0 ? c->rows / c->global_rows + 1 : 1;
}

static inline size_t fake_x_bytes(const fake_case *c)
{
    return host_span(c->rows, c->cols, c->x_stride) * host_dtype_bytes(c->unit->input);
}

static inline size_t fake_y_bytes(const fake_case *c)
{
    return host_span(c->rows, c->cols, c->y_stride) * host_dtype_bytes(c->unit->output);
}

static inline size_t fake_clipped_bytes(const fake_case *c)
{
    return (c->rows * c->cols + 7) / 8;
}

static inline fp4_matrix fake_matrix(const fake_case *c, const void *x)
{
    return fp4_matrix_of_(x, c->unit->input, c->rows, c->cols, c->x_stride, 1.0f);
}

/* ---------------------------------------------------------------- operands */

/** x with its gaps, and the amax of each block. */
typedef struct fake_operands {
    uint8_t *x;
    float *amax;
} fake_operands;

/** Rows of all kinds, one after the other; infinity between them. */
static inline fake_operands fake_operands_random(const fake_case *c, uint64_t *state)
{
    const size_t size = host_dtype_bytes(c->unit->input), block = fake_block(c);
    fake_operands o;

    o.x = (uint8_t *)host_zeros(fake_x_bytes(c));
    o.amax = (float *)host_zeros(c->rows * c->cols / block * sizeof(float));
    for (size_t row = 0; row < c->rows && c->cols != 0; row++) {
        fp4_matrix m = fake_matrix(c, o.x + row * c->x_stride * size);
        m.rows = row + 1 < c->rows ? 2 : 1; /* with the gap */
        host_fill(o.x + row * c->x_stride * size, m, state, (host_data)host_below(state, HOST_DATA),
                  16);
    }
    for (size_t i = 0; i < c->rows * c->cols / block; i++) {
        fp4_matrix m = fake_matrix(c, o.x);
        const size_t row = i * block / c->cols, col = i * block % c->cols;
        m.data = o.x + (row * c->x_stride + col) * size;
        m.rows = 1;
        m.cols = m.row_stride = block;
        o.amax[i] = elements_amax(host_matrix_amax(&m), state);
    }
    return o;
}

static inline void fake_operands_free(fake_operands o)
{
    free(o.x);
    free(o.amax);
}

/* ---------------------------------------------------------------- the host reference */

/** Everything that a call writes, gaps included. */
typedef struct fake_expected {
    uint8_t *y, *clipped;
} fake_expected;

/** As the host has it, where y was full of `poison`, or x. */
static inline fake_expected fake_expect(const fake_case *c, const fake_operands *o, int poison)
{
    float *globals = (float *)host_zeros(fake_globals(c) * sizeof(float));
    fp4_fake f;
    fake_expected e;
    fp4_status status;

    for (size_t i = 0; i < fake_globals(c); i++) {
        globals[i] = fake_global(c, i * c->global_rows);
    }
    memset(&f, 0, sizeof f);
    f.rule = c->unit->rule;
    f.globals = globals;
    f.global_rows = c->on_device ? c->global_rows : 0;
    f.amax = c->is_static ? o->amax : NULL;
    f.block = c->block;
    f.fp8_max = c->fp8_max;
    e.y = (uint8_t *)host_zeros(fake_y_bytes(c));
    e.clipped = (uint8_t *)host_zeros(fake_clipped_bytes(c));
    memset(e.y, poison, fake_y_bytes(c));
    if (c->in_place) {
        memcpy(e.y, o->x, fake_y_bytes(c));
    }
    status = fp4_ref_fake_quantize(fake_matrix(c, o->x), &f, c->unit->output, e.y, fake_y_bytes(c),
                                   c->y_stride, e.clipped, fake_clipped_bytes(c));
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), fake_text(c));
    free(globals);
    return e;
}

static inline void fake_expected_free(fake_expected e)
{
    free(e.y);
    free(e.clipped);
}

/* ---------------------------------------------------------------- the run */

/** A case's buffers on the device, and the call. In place y is x. */
typedef struct fake_device {
    gpu_buffer x, y, amax, globals, clipped;
    launch_fake_args args;
} fake_device;

static inline gpu_buffer fake_device_globals(const fake_case *c)
{
    float *globals = (float *)host_zeros(fake_globals(c) * sizeof(float));
    gpu_buffer b;

    for (size_t i = 0; i < fake_globals(c); i++) {
        globals[i] = fake_global(c, i * c->global_rows);
    }
    b = gpu_buffer_of(globals, fake_globals(c) * sizeof(float), 4);
    free(globals);
    return b;
}

static inline fake_device fake_device_new(const fake_case *c, const fake_operands *o)
{
    const size_t amaxes = c->rows * c->cols / fake_block(c);
    launch_fake_args *a;
    fake_device d;

    memset(&d, 0, sizeof d);
    d.x = gpu_buffer_of(o->x, fake_x_bytes(c), c->shift * host_dtype_bytes(c->unit->input));
    d.y = c->in_place
              ? d.x
              : gpu_buffer_new(fake_y_bytes(c), c->shift * host_dtype_bytes(c->unit->output));
    d.amax = gpu_buffer_of(o->amax, amaxes * sizeof(float), 4);
    d.globals = fake_device_globals(c);
    d.clipped = gpu_buffer_new(fake_clipped_bytes(c), fake_is_pieces(c) ? 2 : 1);
    a = &d.args;
    a->y = d.y.bytes;
    a->x = d.x.bytes;
    a->rows = c->rows;
    a->cols = c->cols;
    a->x_stride = c->x_stride;
    a->y_stride = c->y_stride;
    a->global_device = c->on_device ? (const float *)(const void *)d.globals.bytes : NULL;
    a->global_rows = c->global_rows;
    a->global =
        c->on_device || !fake_needs_global(c) ? host_bits(0x7fc00000u) : c->global; /* not used */
    a->amax = c->is_static ? (const float *)(const void *)d.amax.bytes : NULL;
    a->block = c->block;
    a->fp8_max = c->fp8_max;
    a->clipped = c->wants_clipped ? d.clipped.bytes : NULL;
    return d;
}

static inline void fake_device_free(fake_device d)
{
    gpu_buffer_free(d.x);
    if (d.y.memory != d.x.memory) {
        gpu_buffer_free(d.y);
    }
    gpu_buffer_free(d.amax);
    gpu_buffer_free(d.globals);
    gpu_buffer_free(d.clipped);
}

/** Launches the case over outputs full of 0x7f and full of 0xff, and compares every byte that it
    may write, and every one that it must not, with the host reference. */
static inline void fake_run(const fake_case *c, const fake_operands *o)
{
    static const int poisons[] = {0x7f, 0xff};
    const fake_device d = fake_device_new(c, o);

    for (size_t p = 0; p < 2; p++) {
        const fake_expected e = fake_expect(c, o, poisons[p]);
        uint8_t *clipped;
        if (c->in_place) {
            GPU_OK(cudaMemcpy(d.x.bytes, o->x, d.x.size, cudaMemcpyHostToDevice));
        } else {
            gpu_poison(d.y, poisons[p]);
        }
        gpu_poison(d.clipped, poisons[p]);
        GPU_OK(c->unit->launch(&d.args, c->pdl, 0));
        gpu_finish(fake_text(c));
        elements_expect_buffer(d.y, e.y, c->unit->output, fake_text(c), poisons[p]);
        if (!c->wants_clipped) {
            memset(e.clipped, poisons[p], fake_clipped_bytes(c));
        }
        clipped = (uint8_t *)gpu_copy_of(d.clipped);
        host_expect_bytes(clipped, e.clipped, d.clipped.size, fake_text(c));
        gpu_expect_guards(d.clipped, fake_text(c));
        free(clipped);
        fake_expected_free(e);
    }
    if (!c->in_place) {
        elements_expect_input(d.x, o->x, fake_text(c));
    }
    elements_expect_input(d.amax, o->amax, fake_text(c));
    gpu_expect_guards(d.globals, fake_text(c));
    fake_device_free(d);
}

#endif /* FP4_TESTS_GPU_FAKE_H */

/*
 * tests/gpu/back.h - one call of 06_dequantize's launcher with everything that can be asked of it,
 * and all that it writes against the host reference.
 */
#ifndef FP4_TESTS_GPU_BACK_H
#define FP4_TESTS_GPU_BACK_H

#include "cases.h"
#include "elements.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the example as values. */
enum {
    BACK_f32 = FP4_F32,
    BACK_f16 = FP4_F16,
    BACK_bf16 = FP4_BF16,
    BACK_nvfp4 = FP4_NVFP4,
    BACK_mxfp4 = FP4_MXFP4,
    BACK_mxfp8 = FP4_MXFP8,
    BACK_nvfp4_32 = FP4_NVFP4_32,
    BACK_mxfp4_16 = FP4_MXFP4_16
};

/** The launchers and the words that they were compiled with. */
typedef struct back_unit {
    launch_back_function launch;
    launch_blocks_function launch_blocks;
    fp4_format format;
    fp4_dtype dtype; /* of the output */
    const char *name;
} back_unit;

#define BACK_UNIT_(format, output) \
    {LAUNCH_BACK(format, output), LAUNCH_BLOCKS(format, output), (fp4_format)BACK_##format, \
     (fp4_dtype)BACK_##output, #format " to " #output},
static const back_unit back_units[] = {LAUNCH_BACK_EACH(BACK_UNIT_)};
enum { BACK_UNITS = sizeof back_units / sizeof back_units[0] };

static inline const back_unit *back_unit_of(fp4_format format, fp4_dtype dtype)
{
    for (size_t i = 0; i < BACK_UNITS; i++) {
        if (back_units[i].format == format && back_units[i].dtype == dtype) {
            return &back_units[i];
        }
    }
    cr_assert_fail("no launcher from format %d to %d", (int)format, (int)dtype);
    return NULL;
}

/* ---------------------------------------------------------------- cases */

/** c: dtype, strides and case_x_bytes are the output's; shift is not used. */
typedef struct back_case {
    const back_unit *unit;
    gpu_case c;
    fp4_association association;
    size_t y_shift, q_shift, sf_shift; /* off the alignment of cudaMalloc, in units of what is
                                          needed */
} back_case;

static inline const char *back_text(const back_case *b)
{
    static char text[640];

    snprintf(text, sizeof text, "to %s, %s first, shifts %zu %zu %zu", case_text(&b->c),
             b->association == FP4_CODE_FIRST ? "code" : "scales", b->y_shift, b->q_shift,
             b->sf_shift);
    return text;
}

/** A whole matrix of ordinary shape, for the caller to change. */
static inline back_case back_case_of(const back_unit *unit, fp4_layout layout, size_t rows,
                                     size_t cols)
{
    back_case b;

    memset(&b, 0, sizeof b);
    b.unit = unit;
    b.c = case_of(unit->dtype, unit->format, layout, rows, cols);
    b.c.is_dec = 1;
    b.c.scale = 0.3f;
    return b;
}

static inline int back_has_global(const back_case *b)
{
    return fp4_format_is_nvfp4(b->unit->format);
}

/** The codes and the scale bytes of all matrices of a case, their padding too. */
typedef struct back_input {
    uint8_t *q, *sf;
} back_input;

static inline size_t back_q_bytes(const back_case *b)
{
    return b->c.batches * case_q_bytes(&b->c);
}

static inline size_t back_sf_bytes(const back_case *b)
{
    return b->c.batches * case_sf_bytes(&b->c);
}

/** Any codes; any scale bytes, or such as keep elements within the range of f16. */
static inline back_input back_input_random(const back_case *b, uint64_t *state)
{
    const size_t q_bytes = back_q_bytes(b), sf_bytes = back_sf_bytes(b);
    const int is_any = host_below(state, 3) == 0 || back_has_global(b);
    back_input in;

    in.q = (uint8_t *)host_zeros(q_bytes);
    in.sf = (uint8_t *)host_zeros(sf_bytes);
    for (size_t i = 0; i < q_bytes; i++) {
        in.q[i] = (uint8_t)host_random(state);
    }
    for (size_t i = 0; i < sf_bytes; i++) {
        in.sf[i] = (uint8_t)(is_any ? host_random(state) : 110 + host_below(state, 32));
    }
    return in;
}

static inline void back_input_free(back_input in)
{
    free(in.q);
    free(in.sf);
}

/* ---------------------------------------------------------------- the host reference */

/** The global scale of a row in decode sense. */
static inline float back_dec(const back_case *b, size_t batch, size_t row)
{
    const float scale = case_scale(&b->c, batch, row);
    return b->c.is_dec ? scale : fp4_nvfp4_global_dec(scale);
}

/** One matrix to its place in an image of all of them. */
static inline void back_expect_matrix(const back_case *b, const back_input *in, size_t batch,
                                      uint8_t *image)
{
    const gpu_case *c = &b->c;
    const size_t size = host_dtype_bytes(c->dtype);
    const size_t bytes = host_span(c->rows, c->cols, c->row_stride) * size;
    float *decs = (float *)host_zeros(c->rows * sizeof(float));
    fp4_tensor t =
        case_tensor(c, in->q + batch * case_q_bytes(c), in->sf + batch * case_sf_bytes(c));
    fp4_status status;

    if (back_has_global(b)) {
        for (size_t row = 0; row < c->rows; row++) {
            decs[row] = back_dec(b, batch, row);
        }
        t.row_dec = decs;
        t.row_dec_bytes = c->rows * sizeof(float);
    }
    status = fp4_ref_dequantize_to(&t, b->association, c->dtype,
                                   image + batch * c->batch_stride * size, bytes, c->row_stride);
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), back_text(b));
    free(decs);
}

/** All of them, where the buffer was full of `poison`. The caller frees it. */
static inline uint8_t *back_expected(const back_case *b, const back_input *in, int poison)
{
    uint8_t *image = (uint8_t *)host_zeros(case_x_bytes(&b->c));

    memset(image, poison, case_x_bytes(&b->c));
    for (size_t batch = 0; batch < b->c.batches; batch++) {
        back_expect_matrix(b, in, batch, image);
    }
    return image;
}

/* ---------------------------------------------------------------- the run */

/** A case's buffers on the device, and the call. */
typedef struct back_device {
    gpu_buffer y, q, sf, global;
    launch_back_args args;
} back_device;

static inline back_device back_device_new(const back_case *b, const back_input *in)
{
    const gpu_case *c = &b->c;
    back_device d;

    memset(&d, 0, sizeof d);
    d.y = gpu_buffer_new(case_x_bytes(c), b->y_shift * 16);
    d.q = gpu_buffer_of(in->q, back_q_bytes(b), b->q_shift * 8);
    d.sf = gpu_buffer_of(in->sf, back_sf_bytes(b),
                         b->sf_shift * (c->layout == FP4_LAYOUT_LINEAR ? 1 : 16));
    d.args.y = d.y.bytes;
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.global = case_launch_scale(c, &d.global);
    d.args.association = b->association;
    d.args.layout = c->layout;
    d.args.batches = c->batches;
    d.args.rows = c->rows;
    d.args.cols = c->cols;
    d.args.row_stride = c->row_stride;
    d.args.batch_stride = c->batch_stride;
    return d;
}

static inline void back_device_free(back_device d)
{
    gpu_buffer_free(d.y);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    gpu_buffer_free(d.global);
}

/** Launches the case over an output full of 0x7f and full of 0xff, and compares every byte of it
    and of its gaps with the host reference. */
static inline void back_run(const back_case *b, const back_input *in)
{
    static const int poisons[] = {0x7f, 0xff};
    const back_device d = back_device_new(b, in);

    for (size_t p = 0; p < 2; p++) {
        uint8_t *image = back_expected(b, in, poisons[p]);
        gpu_poison(d.y, poisons[p]);
        GPU_OK(b->unit->launch(&d.args, b->c.pdl, 0));
        gpu_finish(back_text(b));
        elements_expect_buffer(d.y, image, b->c.dtype, back_text(b), poisons[p]);
        free(image);
    }
    elements_expect_input(d.q, in->q, back_text(b));
    elements_expect_input(d.sf, in->sf, back_text(b));
    gpu_expect_guards(d.global, back_text(b));
    back_device_free(d);
}

#endif /* FP4_TESTS_GPU_BACK_H */

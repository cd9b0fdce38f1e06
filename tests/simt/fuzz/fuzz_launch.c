/*
 * tests/simt/fuzz/fuzz_launch.c - libFuzzer target: the launchers, on the CPU.
 *
 * The bytes are a call: launcher, shape, strides, where scales come from and what they are,
 * alignment, what to spoil; the rest are elements. What the launcher takes must be what its
 * contract says, and the bytes those of the host reference; what it refuses it must not touch.
 * Scales on the device that are no scales are tried too: nothing may be read or written out of
 * bounds.
 */
#define _POSIX_C_SOURCE 200809L

#include "cases.h"

/* Of the fused launchers one each. */
#define FUSED_EACH(X) X(f32, nvfp4_32, add_rmsnorm) X(bf16, nvfp4, swiglu_oai) X(f16, nvfp4, token)
#include "fused.h"

/* 216: the other launchers are 72, and byte % 72 says which. */
enum { MOST_ELEMENTS = 5000, FIRST_FUSED = 216 };

/* The bytes not yet used; 0 when they are at their end. */
typedef struct reader {
    const uint8_t *at, *end;
} reader;

static uint32_t next_byte(reader *r)
{
    return r->at < r->end ? *r->at++ : 0;
}

static uint32_t next_below(reader *r, uint32_t n)
{
    const uint32_t low = next_byte(r);
    return (low | (n > 256 ? next_byte(r) << 8 : 0)) % n;
}

/* A float of any bits, or an ordinary one. */
static float next_scale(reader *r)
{
    const uint32_t how = next_byte(r), a = next_byte(r), b = next_byte(r);
    const uint32_t bits = a | b << 8 | next_byte(r) << 16 | next_byte(r) << 24;

    return how % 4 == 0 ? host_bits(bits) : 0.25f * (float)(1 + a + 256 * (b % 4));
}

/* ---------------------------------------------------------------- the contract */

static int is_positive(float x)
{
    return x > 0.0f && x <= FP4_F32_MAX;
}

/* As the examples' cards say. */
static int is_good_shape(const gpu_case *c)
{
    const size_t block = case_block(c), size = host_dtype_bytes(c->dtype);

    if (c->cols % block != 0) {
        return 0;
    }
    if (c->columns) {
        return c->row_stride >= c->rows && c->row_stride * size % 4 == 0;
    }
    return c->cols > 0 && c->q_cols % block == 0 && c->q_cols >= c->cols &&
           c->row_stride >= c->cols && c->row_stride * size % 16 == 0 &&
           (c->batches == 1 || c->batch_stride * size % 16 == 0);
}

static int is_good_call(const gpu_case *c)
{
    const float enc = c->is_dec ? fp4_nvfp4_global_enc_from_dec(c->scale) : c->scale;

    if (c->format == FP4_NVFP4 && c->global == SCALE_HOST &&
        (!is_positive(c->scale) || !is_positive(enc) || !is_positive(1.0f / enc))) {
        return 0;
    }
    return is_good_shape(c) &&
           (c->dtype != FP4_E4M3 || c->x_dec_from != SCALE_HOST || is_positive(c->x_dec));
}

/* All scales that the case makes are ordinary, so that the reference takes them too. */
static int is_comparable(const gpu_case *c)
{
    return (c->format != FP4_NVFP4 || c->global == SCALE_HOST ||
            (c->scale > 0x1p-100f && c->scale < 0x1p100f)) &&
           (c->dtype != FP4_E4M3 || c->x_dec_from == SCALE_HOST ||
            (c->x_dec > 0x1p-100f && c->x_dec < 0x1p100f));
}

/* ---------------------------------------------------------------- the call */

static gpu_case next_case(reader *r)
{
    const uint32_t launcher = next_below(r, 72);
    gpu_case c = case_of((fp4_dtype)(launcher / 9 % 4), (fp4_format)(launcher / 3 % 3),
                         (fp4_layout)(launcher % 3), 0, 0);
    const size_t block = case_block(&c), unit = 16 / host_dtype_bytes(c.dtype);
    const uint32_t odd = next_byte(r); /* bits: what is not to be as it should */

    c.columns = launcher >= 36;
    c.batches = c.columns ? 1 : next_below(r, 4);
    c.rows = next_below(r, 400);
    c.cols = block * next_below(r, 70) + (odd & 1u ? next_below(r, 32) : 0);
    while (c.batches * c.rows * c.cols > MOST_ELEMENTS) {
        c.rows = c.rows > 1 ? c.rows / 2 : 1;
        c.cols = c.rows > 1 ? c.cols : block;
    }
    c.q_cols = c.cols;
    if (c.columns) {
        c.row_stride = (c.rows + 3) / 4 * 4 + 4 * next_below(r, 3);
    } else {
        c.q_cols += block * (next_byte(r) % 5) * (next_byte(r) % 2);
        c.row_stride = (c.cols + unit - 1) / unit * unit + unit * (next_byte(r) % 3);
        c.q_cols += odd & 2u ? next_below(r, 32) : 0;
        c.batch_stride = (c.rows * c.row_stride + unit * next_below(r, 3)) * (next_byte(r) % 8 > 0);
        c.batch_stride += odd & 16u ? next_below(r, 16) : 0;
    }
    c.row_stride += odd & 4u ? next_below(r, 16) : 0;
    c.row_stride -= odd & 8u && c.row_stride > 16 ? next_below(r, 16) : 0;
    c.shift = next_below(r, 4);
    c.pdl = (int)next_below(r, 2);
    c.global = (cases_scale)next_below(r, c.columns ? SCALE_ROWS + 1 : SCALE_KINDS);
    c.is_dec = (int)next_below(r, 2);
    c.scale = next_scale(r);
    c.x_dec_from = (cases_scale)(c.columns ? 0 : next_below(r, 3) % 3);
    c.x_dec_from = c.x_dec_from == 2 ? SCALE_BATCHES : c.x_dec_from;
    c.x_dec = next_scale(r);
    return c;
}

/* Elements: what is left of the bytes, again and again, changed a little every time. */
static uint8_t *next_elements(const gpu_case *c, const reader *r)
{
    const size_t bytes = case_x_bytes(c), given = (size_t)(r->end - r->at);
    uint8_t *x = (uint8_t *)host_zeros(bytes);

    for (size_t i = 0; i < bytes && given > 0; i++) {
        x[i] = (uint8_t)(r->at[i % given] + i / given * 37);
    }
    return x;
}

static void expect_poison(gpu_buffer b, const char *what, const gpu_case *c)
{
    for (size_t i = 0; i < b.size; i++) {
        cr_assert(b.bytes[i] == 0x7f, "%s: %s", what, case_text(c));
    }
}

/* Calls without comparing: a call that must be refused, or codes that nobody has specified. */
static void call_only(const gpu_case *c, const uint8_t *x, reader *r, int is_good)
{
    const size_t x_align = c->columns ? 4 : 16;
    const size_t q_align = c->columns || c->format == FP4_MXFP8 ? 16 : 8;
    const size_t sf_align = c->layout == FP4_LAYOUT_LINEAR ? 1 : 16;
    const size_t off[3] = {next_below(r, 32), next_below(r, 32), next_below(r, 32)};
    const int is_nothing = c->batches == 0 || c->rows == 0 || (c->cols | c->q_cols) == 0;
    case_device d = case_device_new(c, x);
    cudaError_t error;

    gpu_poison(d.q, 0x7f);
    gpu_poison(d.sf, 0x7f);
    if (!is_good) {
        d.args.x = (const uint8_t *)d.args.x + off[0];
        d.args.q += off[1];
        d.args.sf += off[2];
        is_good = is_good_call(c) && off[0] % x_align == 0 && off[1] % q_align == 0 &&
                  off[2] % sf_align == 0;
        is_good = is_good && off[0] + off[1] + off[2] != 0 ? -1 : is_good;
    }
    if (is_good >= 0) {
        error = case_launcher(c)(&d.args, c->pdl, 0);
        cr_assert(error == (is_good || is_nothing ? cudaSuccess : cudaErrorInvalidValue),
                  "error %d, x %zu, q %zu, sf %zu bytes off: %s", (int)error, off[0], off[1],
                  off[2], case_text(c));
        if (!is_good || is_nothing) {
            expect_poison(d.q, "codes were written", c);
            expect_poison(d.sf, "scales were written", c);
        }
    }
    case_device_free(d);
}

/* ---------------------------------------------------------------- fused */

static fused_case next_fused(reader *r, const fused_unit *u, uint32_t *odd)
{
    const size_t unit = 16 / host_dtype_bytes(u->dtype);
    fused_case c = fused_case_of(u, (fp4_layout)next_below(r, 3), next_below(r, 300), 0);
    const size_t block = fused_block(&c);
    const uint32_t options = next_byte(r);

    *odd = next_byte(r); /* bits: what is not to be as it should */
    c.cols = block * next_below(r, 300) + (*odd & 1u ? next_below(r, 32) : 0);
    while (c.rows * c.cols > MOST_ELEMENTS) {
        c.rows = c.rows > 1 ? c.rows / 2 : 1;
        c.cols = c.rows > 1 ? c.cols : block;
    }
    c.period = c.rows + 1;
    c.x_stride = (fused_x_cols(&c) + unit - 1) / unit * unit + unit * (next_byte(r) % 3);
    c.residual_stride = (c.cols + unit - 1) / unit * unit + unit * (next_byte(r) % 3);
    c.x_stride += *odd & 2u ? next_below(r, 16) : 0;
    c.residual_stride += *odd & 4u ? next_below(r, 16) : 0;
    c.x_stride -= *odd & 8u && c.x_stride > 16 ? next_below(r, 16) : 0;
    c.shifts = next_byte(r) | next_byte(r) << 8 | (next_byte(r) & 15u) << 16;
    c.pdl = options & 1u;
    c.interleaved = fused_is_gated(u) && (options & 2u);
    c.rounded = u->op != FUSED_token && (options & 4u);
    c.has_y = u->op != FUSED_token && (options & 8u);
    c.has_sf_linear = options >> 4 & 1u;
    c.per_token = u->op == FUSED_token || (options & 32u);
    c.on_device = options >> 6 & 1u;
    c.is_dec = options >> 7;
    c.scale = next_scale(r);
    c.eps = next_scale(r);
    return c;
}

/* As the examples' cards say. */
static int is_good_fused(const fused_case *c)
{
    const size_t size = host_dtype_bytes(c->unit->dtype);
    const float enc = c->per_token ? 1.0f : fused_global_enc(c);

    if (!c->on_device && (!is_positive(c->scale) || !is_positive(enc) ||
                          !is_positive(1.0f / (c->per_token ? c->scale : enc)))) {
        return 0;
    }
    return c->cols % fused_block(c) == 0 && c->x_stride >= fused_x_cols(c) &&
           c->x_stride * size % 16 == 0 &&
           (c->unit->op != FUSED_add_rmsnorm ||
            (c->residual_stride >= c->cols && c->residual_stride * size % 16 == 0)) &&
           (!fused_is_norm(c->unit) || is_positive(c->eps));
}

/* A call without comparing. sound: the case with strides for which there are buffers. */
static void call_fused(const fused_case *c, const fused_case *sound, const fused_operands *o,
                       int is_good)
{
    const int is_nothing = c->rows == 0 || c->cols == 0;
    fused_device d = fused_device_new(sound, o);
    cudaError_t error;

    d.args.x_stride = c->x_stride;
    d.args.residual_stride = c->residual_stride;
    fused_poison(&d, 0x7f);
    error = c->unit->launch(&d.args, c->pdl, 0);
    cr_assert(error == (is_good || is_nothing ? cudaSuccess : cudaErrorInvalidValue),
              "error %d: %s", (int)error, fused_text(c));
    for (int i = FUSED_Q; i < FUSED_GLOBAL && (!is_good || is_nothing); i++) {
        for (size_t at = 0; at < d.b[i].size; at++) {
            cr_assert(d.b[i].bytes[at] == 0x7f, "%s was written: %s", fused_buffer_name[i],
                      fused_text(c));
        }
    }
    fused_device_free(d);
}

static void run_fused(reader *r, const fused_unit *u)
{
    uint32_t odd;
    const fused_case c = next_fused(r, u, &odd);
    const int is_good = is_good_fused(&c), is_ordinary = c.scale > 0x1p-100f && c.scale < 0x1p100f;
    const size_t given = (size_t)(r->end - r->at);
    fused_case sound = c;
    fused_operands o;

    sound.x_stride = c.x_stride > fused_x_cols(&c) ? c.x_stride : fused_x_cols(&c);
    sound.residual_stride = c.residual_stride > c.cols ? c.residual_stride : c.cols;
    o = fused_operands_new(&sound);
    for (int i = FUSED_X; i <= FUSED_RESIDUAL; i++) {
        const size_t bytes = fused_own_bytes(&sound, (fused_buffer)i);
        for (size_t at = 0; at < bytes && given > 0; at++) {
            o.in[i][at] = (uint8_t)(r->at[at % given] + (at / given + (size_t)i) * 37);
        }
    }
    if (is_good && (is_ordinary || !c.on_device) && c.rows * c.cols > 0) {
        fused_run(&c, &o);
    } else {
        call_fused(&c, &sound, &o, is_good);
    }
    fused_operands_free(o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    reader r = {data, data + size};
    gpu_case c;
    int misalign;
    uint8_t *x;

    if (size > 0 && data[0] >= FIRST_FUSED) {
        run_fused(&r, &fused_units[next_byte(&r) % FUSED_UNITS]);
        return 0;
    }
    c = next_case(&r);
    misalign = next_byte(&r) % 8 == 0;
    x = next_elements(&c, &r);

    if (is_good_call(&c) && !misalign && is_comparable(&c) && c.batches * c.rows * c.cols > 0) {
        case_run(&c, x);
    } else {
        call_only(&c, x, &r, is_good_call(&c) && !misalign);
    }
    free(x);
    return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    setenv("FP4_GPU_REDUCED", "1", 1); /* buffers without guards: the sanitizer sees their ends */
    return 0;
}

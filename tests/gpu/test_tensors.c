/*
 * tests/gpu/test_tensors.c - the launcher of 15_modelopt against the host reference: every type and
 * format, over shapes, layouts, strides and data of all kinds, with amaxes found and given; the way
 * back by 06_dequantize, of any bytes; between other kernels and in a graph; what is refused.
 */
#include <fp4/host/modelopt.h>

#include "bytes.h"
#include "elements.h"

/* The words of the example as values. */
enum {
    TYPE_f32 = FP4_F32,
    TYPE_f16 = FP4_F16,
    TYPE_bf16 = FP4_BF16,
    FORMAT_nvfp4 = FP4_NVFP4,
    FORMAT_mxfp4 = FP4_MXFP4,
    FORMAT_mxfp8 = FP4_MXFP8,
    FORMAT_nvfp4_32 = FP4_NVFP4_32,
    FORMAT_mxfp4_16 = FP4_MXFP4_16
};

/* Launchers and the words that they were compiled with. */
typedef struct unit {
    launch_modelopt_function launch;
    launch_modelopt_back_function launch_back;
    fp4_dtype type;
    fp4_format format;
    const char *name;
} unit;

#define UNIT_(type, format) \
    {LAUNCH_MODELOPT(type, format), LAUNCH_MODELOPT_BACK(type, format), (fp4_dtype)TYPE_##type, \
     (fp4_format)FORMAT_##format, #format " of " #type},
static const unit units[] = {LAUNCH_MODELOPT_EACH(UNIT_)};
enum { UNITS = sizeof units / sizeof units[0] };

/* bytes.h calls without a unit. */
static const unit *calling;

static cudaError_t call_there(const void *args, int pdl, cudaStream_t stream)
{
    return calling->launch((const launch_modelopt_args *)args, pdl, stream);
}

static cudaError_t call_back(const void *args, int pdl, cudaStream_t stream)
{
    return calling->launch_back((const launch_modelopt_back_args *)args, pdl, stream);
}

/* ---------------------------------------------------------------- cases */

typedef struct tensor_case {
    const unit *unit;
    size_t rows, cols, stride, shift; /* shift: of the elements, in 16 bytes */
    int layout, pdl;
    int is_static, on_device, wants_global; /* NVFP4 */
    float amax, fp8_max;
} tensor_case;

static tensor_case case_of(const unit *u, size_t rows, size_t cols)
{
    tensor_case c;

    memset(&c, 0, sizeof c);
    c.unit = u;
    c.rows = rows;
    c.cols = c.stride = cols;
    c.amax = 6.0f;
    c.fp8_max = 448.0f;
    return c;
}

static tensor_case case_drawn(const unit *u, size_t rows, size_t cols, uint64_t *state)
{
    static const size_t gaps[] = {0, 0, 8, 24};
    tensor_case c = case_of(u, rows, cols);
    float room;

    c.stride += gaps[host_below(state, 4)];
    c.shift = host_below(state, 3);
    c.layout = (int)host_below(state, 3);
    c.pdl = (int)host_below(state, 2);
    c.is_static = (int)host_below(state, 2);
    c.on_device = (int)host_below(state, 2);
    c.wants_global = (int)host_below(state, 2);
    c.fp8_max = host_below(state, 2) ? 448.0f : 256.0f;
    c.amax = host_below(state, 3) ? host_random_scale(state, -20, 20)
                                  : host_bits(host_below(state, 0x7f800000u));
    room = fp4_modelopt_global_dec(c.amax, c.fp8_max);
    c.amax = room > 0.0f && room <= FP4_F32_MAX ? c.amax : 6.0f;
    return c;
}

static const char *case_text(const tensor_case *c)
{
    static char text[180];

    snprintf(text, sizeof text,
             "%s, %zu x %zu, stride %zu, shift %zu, layout %d, pdl %d, %s, amax %a %s, %.0f",
             c->unit->name, c->rows, c->cols, c->stride, c->shift, c->layout, c->pdl,
             c->is_static ? "static" : "dynamic", (double)c->amax,
             c->on_device ? "on the device" : "given", (double)c->fp8_max);
    return text;
}

static size_t element_bytes(const tensor_case *c)
{
    return host_span(c->rows, c->cols, c->stride) * host_dtype_bytes(c->unit->type);
}

static size_t q_bytes(const tensor_case *c)
{
    return fp4_q_bytes(c->unit->format, c->rows, c->cols);
}

static size_t sf_bytes(const tensor_case *c)
{
    return fp4_sf_bytes((fp4_layout)c->layout, c->rows,
                        c->cols / fp4_format_block(c->unit->format));
}

static size_t amax_bytes(const tensor_case *c)
{
    return c->rows * c->cols / fp4_format_block(c->unit->format) * sizeof(float);
}

static fp4_tensor tensor_of(const tensor_case *c, uint8_t *q, uint8_t *sf)
{
    return fp4_tensor_view(c->unit->format, (fp4_layout)c->layout, c->rows, c->cols, q, q_bytes(c),
                           sf, sf_bytes(c));
}

/* Host copies of what goes in and what has to come out. */
typedef struct operands {
    uint8_t *x, *q, *sf;
    float *amax, dec;
} operands;

static operands operands_random(const tensor_case *c, uint64_t *state)
{
    const size_t size = host_dtype_bytes(c->unit->type);
    const size_t block = fp4_format_block(c->unit->format);
    operands o;

    o.x = (uint8_t *)host_zeros(element_bytes(c));
    o.amax = (float *)host_zeros(amax_bytes(c));
    for (size_t row = 0; row < c->rows && c->cols != 0; row++) {
        uint8_t *at = o.x + row * c->stride * size;
        fp4_matrix m = fp4_matrix_of_(at, c->unit->type, row + 1 < c->rows ? 2 : 1, c->cols,
                                      c->stride, 1.0f); /* with the gap */
        host_fill(at, m, state, (host_data)host_below(state, HOST_DATA), block);
        m.rows = 1;
        m.cols = m.row_stride = block;
        for (size_t i = 0; i < c->cols / block; i++) {
            m.data = at + i * block * size;
            o.amax[row * (c->cols / block) + i] = elements_amax(host_matrix_amax(&m), state);
        }
    }
    o.q = (uint8_t *)host_zeros(q_bytes(c));
    o.sf = (uint8_t *)host_zeros(sf_bytes(c));
    o.dec = 1.0f;
    return o;
}

static void operands_free(operands *o)
{
    free(o->x);
    free(o->q);
    free(o->sf);
    free(o->amax);
}

static void expect(const tensor_case *c, operands *o)
{
    const fp4_matrix x = fp4_matrix_of_(o->x, c->unit->type, c->rows, c->cols, c->stride, 1.0f);
    fp4_tensor t = tensor_of(c, o->q, o->sf);
    fp4_status status;

    if (c->unit->format == FP4_MXFP8) {
        status = fp4_ref_modelopt_mxfp8_quantize(x, &t);
    } else if (!fp4_format_is_nvfp4(c->unit->format)) {
        status = fp4_ref_modelopt_mxfp4_quantize(x, &t);
    } else if (c->is_static) {
        status = fp4_ref_modelopt_nvfp4_static(x, o->amax, c->amax, c->fp8_max, &t);
    } else {
        status =
            fp4_ref_modelopt_nvfp4_quantize(x, fp4_modelopt_global_dec(c->amax, c->fp8_max), &t);
    }
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), case_text(c));
    o->dec = t.global_dec;
}

/* ---------------------------------------------------------------- there */

static bytes_call call_of(const tensor_case *c, launch_modelopt_args *a, const operands *o)
{
    const int is_nvfp4 = fp4_format_is_nvfp4(c->unit->format);
    bytes_call call;

    memset(&call, 0, sizeof call);
    memset(a, 0, sizeof *a);
    snprintf(call.text, sizeof call.text, "%s", case_text(c));
    a->x = bytes_in(&call, 0, o->x, element_bytes(c), 16 * c->shift);
    a->q = (uint8_t *)bytes_out(&call, 0, q_bytes(c), 16 * c->shift);
    a->sf = (uint8_t *)bytes_out(&call, 1, sf_bytes(c), /* linear: of any alignment */
                                 (c->layout == FP4_LAYOUT_LINEAR ? 1 : 4) * c->shift);
    a->rows = c->rows;
    a->cols = c->cols;
    a->x_stride = c->stride;
    a->layout = c->layout;
    a->amax = is_nvfp4 && !c->on_device ? c->amax : NAN;
    a->fp8_max = is_nvfp4 ? c->fp8_max : NAN;
    if (is_nvfp4 && c->is_static) {
        a->block_amax = (const float *)bytes_in(&call, 1, o->amax, amax_bytes(c), 4);
    }
    if (is_nvfp4 && c->on_device) {
        a->amax_device = (const float *)bytes_in(&call, 2, &c->amax, sizeof(float), 4);
    }
    if (is_nvfp4 && c->wants_global) {
        a->global_dec = (float *)bytes_out(&call, 2, sizeof(float), 4);
    }
    calling = c->unit;
    call.launch = call_there;
    call.args = a;
    return call;
}

static void run(const tensor_case *c, uint64_t *state)
{
    operands o = operands_random(c, state);
    const void *const ins[GPU_COPIES] = {o.x, o.amax, &c->amax};
    const void *const outs[GPU_COPIES] = {o.q, o.sf, &o.dec};
    launch_modelopt_args a;
    bytes_call call = call_of(c, &a, &o);

    expect(c, &o);
    bytes_run(&call, ins, outs, c->pdl);
    bytes_free(&call);
    operands_free(&o);
}

static const size_t all_rows[] = {1, 3, 4, 5, 31, 33, 100, 129, 300};
static const size_t all_blocks[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 66, 129};

/* Of the shapes every `step`-th of these. */
static void run_format(fp4_format format)
{
    const size_t step = gpu_is_reduced() ? 7 : 1;
    const size_t shapes = 9 * sizeof all_blocks / sizeof(size_t);

    for (size_t u = 0; u < UNITS; u++) {
        uint64_t state = 1500 + u;
        for (size_t i = u % step; i < shapes && units[u].format == format; i += step) {
            const tensor_case c = case_drawn(&units[u], all_rows[i % 9],
                                             all_blocks[i / 9] * fp4_format_block(format), &state);
            run(&c, &state);
        }
    }
}

GPU_TEST(tensors, nvfp4)
{
    run_format(FP4_NVFP4);
}

GPU_TEST(tensors, mxfp4)
{
    run_format(FP4_MXFP4);
}

GPU_TEST(tensors, mxfp8)
{
    run_format(FP4_MXFP8);
}

GPU_TEST(tensors, nvfp4_32)
{
    run_format(FP4_NVFP4_32);
}

GPU_TEST(tensors, mxfp4_16)
{
    run_format(FP4_MXFP4_16);
}

/* ---------------------------------------------------------------- back */

/* The elements that come back of q and sf, over what was in y. */
static void expect_back(const tensor_case *c, const operands *o, uint8_t *y)
{
    fp4_tensor t = tensor_of(c, o->q, o->sf);
    fp4_status status;

    t.global_dec = o->dec;
    status = fp4_ref_modelopt_dequantize(&t, c->unit->type, y, element_bytes(c), c->stride);
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), case_text(c));
}

static bytes_call back_of(const tensor_case *c, launch_modelopt_back_args *a, const operands *o)
{
    bytes_call call;

    memset(&call, 0, sizeof call);
    memset(a, 0, sizeof *a);
    snprintf(call.text, sizeof call.text, "back: %s", case_text(c));
    a->q = (const uint8_t *)bytes_in(&call, 0, o->q, q_bytes(c), 16 * c->shift);
    a->sf = (const uint8_t *)bytes_in(&call, 1, o->sf, sf_bytes(c),
                                      c->layout == FP4_LAYOUT_LINEAR ? c->shift : 0);
    a->y = bytes_out(&call, 0, element_bytes(c), 16 * c->shift);
    a->rows = c->rows;
    a->cols = c->cols;
    a->y_stride = c->stride;
    a->layout = c->layout;
    a->global_dec = fp4_format_is_nvfp4(c->unit->format) && !c->on_device ? o->dec : NAN;
    if (fp4_format_is_nvfp4(c->unit->format) && c->on_device) {
        a->global_device = (const float *)bytes_in(&call, 2, &o->dec, sizeof(float), 4);
    }
    calling = c->unit;
    call.launch = call_back;
    call.args = a;
    return call;
}

/* Any bytes, over poison; which NaN comes back is nobody's business. */
static void run_back(const tensor_case *c, uint64_t *state)
{
    operands o = operands_random(c, state);
    launch_modelopt_back_args a;
    bytes_call call;

    for (size_t i = 0; i < q_bytes(c); i++) {
        o.q[i] = (uint8_t)host_below(state, 256);
    }
    for (size_t i = 0; i < sf_bytes(c); i++) {
        o.sf[i] = (uint8_t)host_below(state, 256);
    }
    o.dec = host_below(state, 8) == 0 ? 0.0f : c->amax;
    call = back_of(c, &a, &o);
    for (int turn = 0; turn < 2; turn++) {
        const int poison = turn == 0 ? 0x7f : 0xff;
        memset(o.x, poison, element_bytes(c));
        expect_back(c, &o, o.x);
        gpu_poison(call.out[0], poison);
        GPU_OK(call.launch(call.args, c->pdl, 0));
        gpu_finish(call.text);
        elements_expect_buffer(call.out[0], o.x, c->unit->type, call.text, poison);
    }
    bytes_expect(call.in[0], o.q, call.text);
    bytes_expect(call.in[1], o.sf, call.text);
    bytes_free(&call);
    operands_free(&o);
}

GPU_TEST(tensors, back)
{
    const size_t step = gpu_is_reduced() ? 11 : 1;
    const size_t shapes = 9 * sizeof all_blocks / sizeof(size_t);

    for (size_t u = 0; u < UNITS; u++) {
        const size_t block = fp4_format_block(units[u].format);
        uint64_t state = 1550 + u;
        for (size_t i = u % step; i < shapes; i += step) {
            const tensor_case c =
                case_drawn(&units[u], all_rows[i % 9], all_blocks[i / 9] * block, &state);
            run_back(&c, &state);
        }
    }
}

/* ---------------------------------------------------------------- between other kernels */

/* Both ways, with inputs of all rounds, in a chain and from a graph. */
static void run_rounds(const tensor_case *one, uint64_t *state)
{
    const size_t x_bytes = element_bytes(one), amaxes = amax_bytes(one);
    uint8_t *x = (uint8_t *)host_zeros(BYTES_ROUNDS * x_bytes);
    uint8_t *q = (uint8_t *)host_zeros(BYTES_ROUNDS * q_bytes(one));
    uint8_t *sf = (uint8_t *)host_zeros(BYTES_ROUNDS * sf_bytes(one));
    uint8_t *y = (uint8_t *)host_zeros(BYTES_ROUNDS * x_bytes);
    uint8_t *amax = (uint8_t *)host_zeros(BYTES_ROUNDS * amaxes);
    float most[BYTES_ROUNDS], dec[BYTES_ROUNDS];
    const void *const ins[GPU_COPIES] = {x, amax, most}, *const outs[GPU_COPIES] = {q, sf, dec};
    const void *const back_ins[GPU_COPIES] = {q, sf, dec}, *const back_outs[GPU_COPIES] = {y};
    launch_modelopt_args a;
    launch_modelopt_back_args b;
    bytes_call call;

    for (size_t round = 0; round < BYTES_ROUNDS; round++) {
        tensor_case c = *one;
        operands o;
        c.amax = most[round] = host_random_scale(state, -4, 4);
        o = operands_random(&c, state);
        for (size_t i = 0; i < c.rows * c.cols; i++) { /* finite: what comes back are bytes */
            const float v = host_random_scale(state, -4, 3);
            const uint16_t f16 = fp4_f32_to_f16(v), bf16 = fp4_f32_to_bf16(v);
            const size_t size = host_dtype_bytes(c.unit->type);
            memcpy(o.x + i * size,
                   c.unit->type == FP4_F32   ? (const void *)&v
                   : c.unit->type == FP4_F16 ? (const void *)&f16
                                             : (const void *)&bf16,
                   size);
        }
        expect(&c, &o);
        dec[round] = o.dec;
        expect_back(&c, &o, y + round * x_bytes);
        memcpy(x + round * x_bytes, o.x, x_bytes);
        memcpy(amax + round * amaxes, o.amax, amaxes);
        memcpy(q + round * q_bytes(&c), o.q, q_bytes(&c));
        memcpy(sf + round * sf_bytes(&c), o.sf, sf_bytes(&c));
        if (round + 1 < BYTES_ROUNDS) {
            operands_free(&o);
            continue;
        }
        call = call_of(&c, &a, &o);
        bytes_chain(&call, ins, outs);
        bytes_graph(&call, ins, outs, c.pdl);
        bytes_free(&call);
        call = back_of(&c, &b, &o);
        bytes_chain(&call, back_ins, back_outs);
        bytes_graph(&call, back_ins, back_outs, c.pdl);
        bytes_free(&call);
        operands_free(&o);
    }
    free(x);
    free(q);
    free(sf);
    free(y);
    free(amax);
}

GPU_TEST(tensors, between_other_kernels)
{
    uint64_t state = 1600;

    for (size_t u = 0; u < UNITS; u++) {
        const size_t block = fp4_format_block(units[u].format);
        for (size_t i = 0; i < 2; i++) { /* one row a thread, and more */
            tensor_case c = case_of(&units[u], i == 0 ? 5 : 65, (i == 0 ? 3 : 16) * block);
            c.layout = (int)(u % 3);
            c.is_static = (int)(u / 3 % 2);
            c.on_device = c.wants_global = 1;
            c.pdl = (int)i;
            run_rounds(&c, &state);
        }
    }
}

/* ---------------------------------------------------------------- what is refused */

#define CALL(error, launches, what, change) \
    do { \
        launch_modelopt_args args = a; \
        change; \
        bytes_expect_call(&call, &args, error, launches, what); \
    } while (0)
#define REFUSE(what, change) CALL(cudaErrorInvalidValue, 0, what, change)

static void *moved(const void *p, size_t bytes)
{
    return (void *)((uintptr_t)p + bytes);
}

static void expect_untouched(const bytes_call *call)
{
    gpu_finish("refused");
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call->out[i].memory != NULL) {
            gpu_expect_poison(call->out[i], 0x7f, "output", "refused");
        }
    }
}

static void refuse(const unit *u)
{
    static const float bad_amax[] = {0.0f, -1.0f, 1e-44f, INFINITY, NAN};
    const size_t block = fp4_format_block(u->format), code_bytes = u->format == FP4_MXFP8 ? 16 : 8;
    tensor_case c = case_of(u, 3, 2 * block);
    uint64_t state = 1;
    operands o = operands_random(&c, &state);
    launch_modelopt_args a;
    bytes_call call;

    c.is_static = c.wants_global = 1;
    call = call_of(&c, &a, &o);
    for (int i = 0; i < GPU_COPIES; i++) {
        if (call.out[i].memory != NULL) {
            gpu_poison(call.out[i], 0x7f);
        }
    }
    REFUSE("no x", args.x = NULL);
    REFUSE("no q", args.q = NULL);
    REFUSE("no sf", args.sf = NULL);
    REFUSE("x misaligned", args.x = moved(a.x, 8));
    REFUSE("q misaligned", args.q = (uint8_t *)moved(a.q, code_bytes / 2));
    REFUSE("sf misaligned", args.layout = FP4_LAYOUT_128X4; args.sf = (uint8_t *)moved(a.sf, 2));
    REFUSE("sf misaligned", args.layout = FP4_LAYOUT_8X4; args.sf = (uint8_t *)moved(a.sf, 1));
    REFUSE("half a block", args.cols -= block / 2);
    REFUSE("rows that overlap", args.x_stride -= 16);
    REFUSE("a stride of no 16 bytes", args.x_stride += 2);
    REFUSE("a stride that overflows", args.x_stride = (size_t)-1 / 64 * 16);
    REFUSE("more rows than a grid", args.rows = (size_t)1 << 40);
    REFUSE("more rows than 2^32 - 128", args.rows = ((size_t)1 << 32) - 127);
    REFUSE("more columns than 2^35 - 2048", args.rows = 1;
           args.cols = args.x_stride = ((size_t)1 << 35) - 2048 + block);
#if !defined(FP4_SIMT) /* UBSan stops at an enumerator that has bits beyond those of all others */
    REFUSE("layout 3", args.layout = 3);
    REFUSE("layout -1", args.layout = -1);
#endif
    if (fp4_format_is_nvfp4(u->format)) {
        for (size_t i = 0; i < 5; i++) {
            REFUSE("an amax", args.amax = bad_amax[i]);
        }
        REFUSE("an amax misaligned", args.amax_device = (const float *)moved(a.block_amax, 2));
        REFUSE("amaxes misaligned", args.block_amax = (const float *)moved(a.block_amax, 2));
        REFUSE("global_dec misaligned", args.global_dec = (float *)moved(a.global_dec, 2));
        REFUSE("global_dec where the amax is", args.amax_device = args.global_dec);
        REFUSE("fp8_max 0", args.fp8_max = 0.0f);
        REFUSE("fp8_max 240", args.fp8_max = 240.0f);
    } else {
        REFUSE("amaxes", args.block_amax = (const float *)a.x);
        REFUSE("a place for a global scale", args.global_dec = (float *)(void *)a.q);
    }
    CALL(cudaSuccess, 0, "no rows", args.rows = 0; args.x = args.q = args.sf = NULL);
    CALL(cudaSuccess, 0, "no columns", args.cols = 0; args.x = args.q = args.sf = NULL);
    expect_untouched(&call);
    CALL(cudaSuccess, 1, "as it is", (void)args);
    bytes_free(&call);
    operands_free(&o);
}

GPU_TEST(tensors_errors, quantize)
{
    for (size_t u = 0; u < UNITS; u++) {
        refuse(&units[u]);
    }
}

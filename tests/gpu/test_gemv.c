/*
 * tests/gpu/test_gemv.c - the launcher of 09_gemv against the host reference, byte for byte: every
 * format, type and layout over a grid of shapes, vectors and scale bytes of all kinds; what it
 * refuses; and between other kernels.
 */
#include <fp4/host/gemv.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The words of the example as values. */
enum {
    GEMV_f32 = FP4_F32,
    GEMV_f16 = FP4_F16,
    GEMV_bf16 = FP4_BF16,
    GEMV_nvfp4 = FP4_NVFP4,
    GEMV_mxfp4 = FP4_MXFP4,
    GEMV_nvfp4_32 = FP4_NVFP4_32,
    GEMV_mxfp4_16 = FP4_MXFP4_16
};

/* A launcher and the words that it was compiled with. */
typedef struct gemv_unit {
    launch_gemv_function launch;
    fp4_dtype input;
    fp4_format format;
    fp4_dtype output;
    const char *name;
} gemv_unit;

#define GEMV_UNIT_(input, format, output) \
    {LAUNCH_GEMV(input, format, output), (fp4_dtype)GEMV_##input, (fp4_format)GEMV_##format, \
     (fp4_dtype)GEMV_##output, #format " times " #input " to " #output},
static const gemv_unit gemv_units[] = {LAUNCH_GEMV_EACH(GEMV_UNIT_)};
enum { GEMV_UNITS = sizeof gemv_units / sizeof gemv_units[0] };

/* ---------------------------------------------------------------- cases */

/* What the vector holds. */
typedef enum gemv_vector {
    X_ZEROS,
    X_TINY,     /* near 2^-120, or the smallest of f16 */
    X_HUGE,     /* near the largest */
    X_NARROW,   /* host_fill's */
    X_MODERATE, /* the same */
    X_WIDE,     /* the same */
    X_ALL_ONES, /* mantissas of ones, which round up to a power of two */
    X_ONE_NAN,
    X_ONE_INFINITY,
    X_SPECIAL, /* host_fill's */
    X_KINDS
} gemv_vector;

/* What the scale bytes hold. */
typedef enum gemv_scales {
    SF_MODERATE,
    SF_ANY,  /* no NaN */
    SF_ENDS, /* the smallest and the largest */
    SF_NAN,  /* moderate, and NaN for about one row of two */
    SF_KINDS
} gemv_scales;

typedef struct gemv_case {
    const gemv_unit *unit;
    fp4_layout layout;
    size_t rows, cols;
    gemv_vector x;
    gemv_scales sf;
    size_t
        shift; /* of y, q, sf and x off the alignment of cudaMalloc, in units of what they need */
    int on_device, pdl;
    float global;
} gemv_case;

static const char *gemv_text(const gemv_case *c)
{
    static char text[256];

    snprintf(text, sizeof text,
             "%s, layout %d, %zu x %zu, vector %d, scales %d, shift %zu, pdl %d, global %s %a",
             c->unit->name, (int)c->layout, c->rows, c->cols, (int)c->x, (int)c->sf, c->shift,
             c->pdl, c->on_device ? "device" : "host", (double)c->global);
    return text;
}

/* A case of ordinary shape, for the caller to change. */
static gemv_case gemv_case_of(const gemv_unit *unit, fp4_layout layout, size_t rows, size_t cols)
{
    gemv_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.layout = layout;
    c.rows = rows;
    c.cols = cols;
    c.x = X_NARROW;
    c.global = 0.3f;
    return c;
}

static int gemv_has_global(const gemv_case *c)
{
    return fp4_format_is_nvfp4(c->unit->format);
}

static size_t gemv_q_bytes(const gemv_case *c)
{
    return c->rows * c->cols / 2;
}

static size_t gemv_sf_cols(const gemv_case *c)
{
    return c->cols / fp4_format_block(c->unit->format);
}

static size_t gemv_sf_bytes(const gemv_case *c)
{
    return host_sf_bytes(c->layout, c->rows, gemv_sf_cols(c));
}

static size_t gemv_x_bytes(const gemv_case *c)
{
    return c->cols * host_dtype_bytes(c->unit->input);
}

static size_t gemv_y_bytes(const gemv_case *c)
{
    return c->rows * host_dtype_bytes(c->unit->output);
}

/* ---------------------------------------------------------------- operands */

typedef struct gemv_operands {
    uint8_t *q, *sf, *x;
} gemv_operands;

static uint8_t gemv_scale_byte(const gemv_case *c, uint64_t *state)
{
    static const uint8_t ends_e4m3[] = {0x00, 0x80, 0x01, 0x08, 0x7e, 0xfe};
    static const uint8_t ends_e8m0[] = {0, 1, 2, 252, 253, 254};
    const int is_nvfp4 = gemv_has_global(c);
    uint8_t byte;

    if (c->sf == SF_ENDS) {
        return (is_nvfp4 ? ends_e4m3 : ends_e8m0)[host_below(state, 6)];
    }
    if (c->sf != SF_ANY) {
        return (uint8_t)((is_nvfp4 ? 0x28 : 118) + host_below(state, is_nvfp4 ? 0x20 : 16));
    }
    do {
        byte = (uint8_t)host_random(state);
    } while (is_nvfp4 ? (byte & 0x7f) == 0x7f : byte == 255);
    return byte;
}

/* The scale bytes; NaN where there is only padding. */
static uint8_t *gemv_scale_bytes(const gemv_case *c, uint64_t *state)
{
    const size_t sf_cols = gemv_sf_cols(c);
    uint8_t *sf = (uint8_t *)host_zeros(gemv_sf_bytes(c));

    memset(sf, 0xff, gemv_sf_bytes(c));
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t col = 0; col < sf_cols; col++) {
            sf[fp4_sf_offset(c->layout, row, col, sf_cols)] = gemv_scale_byte(c, state);
        }
        if (c->sf == SF_NAN && host_below(state, 2)) {
            const size_t col = host_below(state, (uint32_t)sf_cols);
            sf[fp4_sf_offset(c->layout, row, col, sf_cols)] = 0xff;
        }
    }
    return sf;
}

/* The bits of an element of a kind that host_fill does not have. */
static uint32_t gemv_element(const gemv_case *c, uint64_t *state)
{
    static const uint32_t tiny[] = {0x03800000u, 0x0001u, 0x0380u};
    static const uint32_t some[] = {0x04ffffffu, 0x01ffu, 0x00ffu}; /* at random on top */
    static const uint32_t huge[] = {0x7f7fffffu, 0x7bffu, 0x7f7fu};
    static const uint32_t ones[] = {0x3fffffffu, 0x3fffu, 0x3fffu};
    const fp4_dtype dtype = c->unit->input;
    const uint32_t sign = (host_random(state) & 1u) << (8 * host_dtype_bytes(dtype) - 1);

    switch (c->x) {
    case X_TINY:
        return sign | (tiny[dtype] + (host_random(state) & some[dtype]) / 2);
    case X_HUGE:
        return sign | (huge[dtype] - (host_random(state) & some[dtype]));
    case X_ALL_ONES:
        return sign | (ones[dtype] - host_below(state, 5));
    default:
        return 0;
    }
}

static uint8_t *gemv_elements(const gemv_case *c, uint64_t *state)
{
    static const uint32_t nans[] = {0xffc00001u, 0x7e01u, 0xffc1u};
    static const uint32_t infinities[] = {0x7f800000u, 0xfc00u, 0x7f80u};
    const fp4_matrix m = fp4_matrix_of_(NULL, c->unit->input, 1, c->cols, c->cols, 1.0f);
    const size_t size = host_dtype_bytes(c->unit->input);
    uint8_t *x = (uint8_t *)host_zeros(gemv_x_bytes(c));

    if (c->x == X_ONE_NAN || c->x == X_ONE_INFINITY) {
        const size_t at = host_below(state, (uint32_t)c->cols);
        host_fill(x, m, state, HOST_NARROW, 16);
        memcpy(x + at * size, &(c->x == X_ONE_NAN ? nans : infinities)[c->unit->input], size);
        return x;
    }
    if (c->x == X_SPECIAL || (c->x >= X_NARROW && c->x <= X_WIDE)) {
        host_fill(x, m, state,
                  c->x == X_SPECIAL ? HOST_SPECIAL : (host_data)(c->x - X_NARROW + HOST_NARROW),
                  16);
        return x;
    }
    for (size_t i = 0; i < c->cols; i++) {
        const uint32_t bits = gemv_element(c, state);
        memcpy(x + i * size, &bits, size);
    }
    return x;
}

static gemv_operands gemv_operands_random(const gemv_case *c, uint64_t *state)
{
    gemv_operands o;

    o.q = (uint8_t *)host_zeros(gemv_q_bytes(c));
    for (size_t i = 0; i < gemv_q_bytes(c); i++) {
        o.q[i] = (uint8_t)host_random(state);
    }
    o.sf = gemv_scale_bytes(c, state);
    o.x = gemv_elements(c, state);
    return o;
}

static void gemv_operands_free(gemv_operands o)
{
    free(o.q);
    free(o.sf);
    free(o.x);
}

/* ---------------------------------------------------------------- the run */

static uint8_t *gemv_expect(const gemv_case *c, const gemv_operands *o)
{
    fp4_tensor t = fp4_tensor_view(c->unit->format, c->layout, c->rows, c->cols, o->q,
                                   gemv_q_bytes(c), o->sf, gemv_sf_bytes(c));
    const fp4_matrix x = fp4_matrix_of_(o->x, c->unit->input, 1, c->cols, c->cols, 1.0f);
    uint8_t *y = (uint8_t *)host_zeros(gemv_y_bytes(c));
    fp4_status status;

    t.global_dec = gemv_has_global(c) ? c->global : 1.0f;
    status = fp4_ref_gemv(&t, x, c->unit->output, y, gemv_y_bytes(c));
    cr_assert(status == FP4_OK, "host reference: %s: %s", fp4_status_text(status), gemv_text(c));
    return y;
}

/* A case's buffers on the device, and the call. */
typedef struct gemv_device {
    gpu_buffer y, q, sf, x, global;
    launch_gemv_args args;
} gemv_device;

static gemv_device gemv_device_new(const gemv_case *c, const gemv_operands *o)
{
    gemv_device d;

    memset(&d, 0, sizeof d);
    d.y = gpu_buffer_new(gemv_y_bytes(c), c->shift * host_dtype_bytes(c->unit->output));
    d.q = gpu_buffer_of(o->q, gemv_q_bytes(c), c->shift * 16);
    d.sf = gpu_buffer_of(o->sf, gemv_sf_bytes(c), c->shift * 4);
    d.x = gpu_buffer_of(o->x, gemv_x_bytes(c), c->shift * 16);
    d.global = gpu_buffer_of(&c->global, sizeof c->global, 4);
    d.args.y = d.y.bytes;
    d.args.q = d.q.bytes;
    d.args.sf = d.sf.bytes;
    d.args.x = d.x.bytes;
    d.args.rows = c->rows;
    d.args.cols = c->cols;
    d.args.layout = c->layout;
    d.args.global_device = c->on_device ? (const float *)(const void *)d.global.bytes : NULL;
    d.args.global_dec = c->on_device || !gemv_has_global(c) ? host_bits(0x7fc00000u) : c->global;
    return d;
}

static void gemv_device_free(gemv_device d)
{
    gpu_buffer_free(d.y);
    gpu_buffer_free(d.q);
    gpu_buffer_free(d.sf);
    gpu_buffer_free(d.x);
    gpu_buffer_free(d.global);
}

/* Launches the case over an output full of 0x7f and full of 0xff. */
static void gemv_run(const gemv_case *c, const gemv_operands *o)
{
    static const int poisons[] = {0x7f, 0xff};
    const gemv_device d = gemv_device_new(c, o);
    uint8_t *y = gemv_expect(c, o);

    for (size_t p = 0; p < 2; p++) {
        gpu_poison(d.y, poisons[p]);
        GPU_OK(c->unit->launch(&d.args, c->pdl, 0));
        gpu_finish(gemv_text(c));
        elements_expect_buffer(d.y, y, c->unit->output, gemv_text(c), poisons[p]);
    }
    elements_expect_input(d.q, o->q, gemv_text(c));
    elements_expect_input(d.sf, o->sf, gemv_text(c));
    elements_expect_input(d.x, o->x, gemv_text(c));
    elements_expect_input(d.global, &c->global, gemv_text(c));
    free(y);
    gemv_device_free(d);
}

static void gemv_run_random(const gemv_case *c, uint64_t *state)
{
    const gemv_operands o = gemv_operands_random(c, state);

    gemv_run(c, &o);
    gemv_operands_free(o);
}

/* ---------------------------------------------------------------- shapes */

/* 8192 columns fit into shared memory at a time, 32 rows into a CTA. */
static const size_t all_rows[] = {1, 2, 3, 31, 32, 33, 63, 64, 65, 300};
static const size_t few_rows[] = {1, 33};
static const size_t all_cols[] = {64, 128, 192, 2048, 2112, 4096, 8192, 8256, 16384, 20480};
static const size_t few_cols[] = {64, 192, 2112, 8256};

/* What global scales there are beside ordinary ones. */
static const float special_globals[] = {0.0f, 0x1p-149f, 0x1p-126f, 1.0f, 0x1p100f, FP4_F32_MAX};

static void run_drawn(const gemv_unit *unit, size_t rows, size_t cols, uint64_t *state)
{
    gemv_case c = gemv_case_of(unit, (fp4_layout)host_below(state, 3), rows, cols);

    c.x = (gemv_vector)host_below(state, X_KINDS);
    c.sf = (gemv_scales)host_below(state, SF_KINDS);
    c.shift = host_below(state, 4);
    c.on_device = (int)host_below(state, 2);
    c.pdl = (int)host_below(state, 2);
    c.global = host_below(state, 4) ? host_random_scale(state, -20, 20)
                                    : special_globals[host_below(state, 6)];
    gemv_run_random(&c, state);
}

static void run_format(fp4_format format)
{
    const int few = gpu_is_reduced();
    const size_t row_count =
        few ? sizeof few_rows / sizeof(size_t) : sizeof all_rows / sizeof(size_t);
    const size_t col_count =
        few ? sizeof few_cols / sizeof(size_t) : sizeof all_cols / sizeof(size_t);

    for (size_t u = 0; u < GEMV_UNITS; u++) {
        uint64_t state = 900 + u;
        for (size_t i = 0; i < row_count * col_count && gemv_units[u].format == format; i++) {
            run_drawn(&gemv_units[u], (few ? few_rows : all_rows)[i / col_count],
                      (few ? few_cols : all_cols)[i % col_count], &state);
        }
        for (int i = 0; i < (few ? 10 : 60) && gemv_units[u].format == format; i++) {
            const size_t rows = 1 + host_below(&state, few ? 40 : 200);
            run_drawn(&gemv_units[u], rows, 64 * (1 + host_below(&state, few ? 20 : 150)), &state);
        }
    }
}

/* Sums of nothing, of operands that need not be there. */
GPU_TEST(gemv, no_columns)
{
    for (size_t i = 0; i < 3 * GEMV_UNITS; i++) {
        gemv_case c = gemv_case_of(&gemv_units[i / 3], (fp4_layout)(i % 3), 5, 0);
        gemv_operands o;

        memset(&o, 0, sizeof o);
        c.shift = i % 4;
        gemv_run(&c, &o);
    }
}

GPU_TEST(gemv, nvfp4)
{
    run_format(FP4_NVFP4);
}

GPU_TEST(gemv, mxfp4)
{
    run_format(FP4_MXFP4);
}

GPU_TEST(gemv, nvfp4_32)
{
    run_format(FP4_NVFP4_32);
}

GPU_TEST(gemv, mxfp4_16)
{
    run_format(FP4_MXFP4_16);
}

/* ---------------------------------------------------------------- one thing at a time */

/* Each kind of vector with each kind of scale bytes, in each layout. */
GPU_TEST(gemv, vectors_and_scales_of_all_kinds)
{
    uint64_t state = 940;

    for (size_t u = 0; u < GEMV_UNITS; u++) {
        for (size_t i = 0; i < X_KINDS * SF_KINDS; i++) {
            gemv_case c = gemv_case_of(&gemv_units[u], (fp4_layout)(i % 3), 5, 1088);
            c.x = (gemv_vector)(i / SF_KINDS);
            c.sf = (gemv_scales)(i % SF_KINDS);
            gemv_run_random(&c, &state);
        }
    }
}

/* A vector with one element that is not zero, times rows of one code: each code at each place of
   two words, in the first lanes and the last, before and after what fits into shared memory. */
GPU_TEST(gemv, every_code_at_every_place)
{
    static const size_t from[] = {0, 48, 2032, 8176, 8192, 8240};
    uint64_t state = 950;

    for (size_t u = 0; u < GEMV_UNITS; u++) {
        gemv_case c = gemv_case_of(&gemv_units[u], (fp4_layout)(u % 3), 16, 8256);
        gemv_operands o = gemv_operands_random(&c, &state);
        const uint32_t ones[] = {0x3fffffffu, 0x3fffu, 0x3fffu};
        const size_t size = host_dtype_bytes(c.unit->input);
        for (size_t i = 0; i < gemv_q_bytes(&c); i++) {
            o.q[i] = (uint8_t)(0x11 * (i / (8256 / 2)));
        }
        for (size_t i = 0; i < (gpu_is_reduced() ? 12 : 6 * 16); i++) {
            const size_t at =
                gpu_is_reduced() ? from[i % 6] + (i * 5 + u) % 16 : from[i / 16] + i % 16;
            memset(o.x, 0, gemv_x_bytes(&c));
            memcpy(o.x + at * size, &ones[c.unit->input], size);
            o.x[(at + 1) * size - 1] ^= (uint8_t)(i % 2 << 7); /* its sign */
            gemv_run(&c, &o);
        }
        gemv_operands_free(o);
    }
}

/* A NaN scale byte is its row's alone; a NaN or infinity of the vector is in all rows. */
GPU_TEST(gemv, nan_spoils_rows)
{
    uint64_t state = 960;

    for (size_t u = 0; u < GEMV_UNITS; u++) {
        for (int which = 0; which < 3; which++) {
            gemv_case c = gemv_case_of(&gemv_units[u], (fp4_layout)which, 40, 320);
            gemv_operands o;
            gemv_device d;
            uint8_t *y;
            c.x = which == 0 ? X_NARROW : which == 1 ? X_ONE_NAN : X_ONE_INFINITY;
            c.global = 1.0f;
            o = gemv_operands_random(&c, &state);
            if (which == 0) {
                o.sf[fp4_sf_offset(c.layout, 7, 1, gemv_sf_cols(&c))] = 0xff;
            } else {
                memset(o.q, 0, gemv_q_bytes(&c));
            }
            d = gemv_device_new(&c, &o);
            GPU_OK(c.unit->launch(&d.args, 0, 0));
            gpu_finish(gemv_text(&c));
            y = (uint8_t *)gpu_copy_of(d.y);
            for (size_t row = 0; row < c.rows; row++) {
                const fp4_matrix m = fp4_matrix_of_(y, c.unit->output, 1, c.rows, c.rows, 1.0f);
                CHECK_EQ(isnan(host_element(&m, 0, row)) != 0, which != 0 || row == 7,
                         "row %zu is NaN: %s", row, gemv_text(&c));
            }
            free(y);
            gemv_device_free(d);
            gemv_operands_free(o);
        }
    }
}

/* ---------------------------------------------------------------- between other kernels */

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 100 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case with the weights, scale bytes and vectors of all rounds on the device, and room for what
   all rounds give. */
typedef struct chain {
    gemv_case c;
    gemv_device d;
    gemv_operands o[ROUNDS];
    gpu_buffer all_q, all_sf, all_x, all_y;
    cudaStream_t stream;
} chain;

/* The operand at `offset` of gemv_operands, of all rounds. */
static gpu_buffer all_of(const chain *k, size_t offset, size_t size)
{
    uint8_t *all = (uint8_t *)host_zeros(ROUNDS * size);
    gpu_buffer b;

    for (size_t round = 0; round < ROUNDS; round++) {
        const uint8_t *one;
        memcpy(&one, (const uint8_t *)&k->o[round] + offset, sizeof one);
        memcpy(all + round * size, one, size);
    }
    b = gpu_buffer_of(all, ROUNDS * size, 0);
    free(all);
    return b;
}

static chain *chain_new(gemv_case c, uint64_t seed)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = seed;

    k->c = c;
    for (size_t round = 0; round < ROUNDS; round++) {
        k->o[round] = gemv_operands_random(&c, &state);
    }
    k->d = gemv_device_new(&c, &k->o[0]);
    k->all_q = all_of(k, offsetof(gemv_operands, q), k->d.q.size);
    k->all_sf = all_of(k, offsetof(gemv_operands, sf), k->d.sf.size);
    k->all_x = all_of(k, offsetof(gemv_operands, x), k->d.x.size);
    k->all_y = gpu_buffer_new(ROUNDS * k->d.y.size, 0);
    gpu_poison(k->all_y, 0x7f);
    gpu_poison(k->d.y, 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* What has been copied in all rounds, against the host reference. */
static void chain_end(chain *k)
{
    uint8_t *all_y;

    GPU_OK(cudaStreamSynchronize(k->stream));
    all_y = (uint8_t *)gpu_copy_of(k->all_y);
    for (size_t round = 0; round < ROUNDS; round++) {
        uint8_t *y = gemv_expect(&k->c, &k->o[round]);
        elements_expect(all_y + round * k->d.y.size, y, k->c.rows, k->c.unit->output,
                        gemv_text(&k->c), 0x7f);
        free(y);
        gemv_operands_free(k->o[round]);
    }
    gpu_expect_guards(k->d.y, gemv_text(&k->c));
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->all_q);
    gpu_buffer_free(k->all_sf);
    gpu_buffer_free(k->all_x);
    gpu_buffer_free(k->all_y);
    gemv_device_free(k->d);
    free(all_y);
    free(k);
}

/* Behind a producer that starts it at once and writes all operands late, in front of a consumer
   that spoils the vector and reads late. */
static void run_chain(gemv_case c, uint64_t seed)
{
    chain *k = chain_new(c, seed);

    for (size_t round = 0; round < ROUNDS; round++) {
        const gpu_buffer to[] = {k->d.q, k->d.sf, k->d.x}, from[] = {k->all_q, k->all_sf, k->all_x};
        gpu_copy in, out;
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        for (size_t i = 0; i < 3; i++) {
            in.to[i] = to[i].bytes;
            in.from[i] = from[i].bytes + round * to[i].size;
            in.bytes[i] = to[i].size;
        }
        in.sleep = PRODUCER_SLEEP;
        out.to[0] = k->all_y.bytes + round * k->d.y.size;
        out.from[0] = k->d.y.bytes;
        out.bytes[0] = k->d.y.size;
        out.fill = k->d.x.bytes;
        out.fill_bytes = k->d.x.size;
        out.sleep = CONSUMER_SLEEP;
        GPU_OK(gpu_produce(&in, k->stream));
        GPU_OK(c.unit->launch(&k->d.args, 1, k->stream));
        GPU_OK(gpu_consume(&out, k->stream));
    }
    chain_end(k);
}

Test(gemv, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t u = 0; u < GEMV_UNITS; u++) {
        run_chain(gemv_case_of(&gemv_units[u], (fp4_layout)(u % 3), 37, u % 2 ? 1088 : 64),
                  970 + u);
    }
}

/* The launcher alone in a graph; operands and y are copied outside of it. */
static void run_graph(gemv_case c, uint64_t seed, int pdl)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    chain *k = chain_new(c, seed);
    const size_t q = k->d.q.size, sf = k->d.sf.size, x = k->d.x.size, y = k->d.y.size;
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    GPU_OK(c.unit->launch(&k->d.args, pdl, k->stream));
    GPU_OK(cudaStreamEndCapture(k->stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 1, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < ROUNDS; round++) {
        GPU_OK(cudaMemcpyAsync(k->d.q.bytes, k->all_q.bytes + round * q, q, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.sf.bytes, k->all_sf.bytes + round * sf, sf, kind, k->stream));
        GPU_OK(cudaMemcpyAsync(k->d.x.bytes, k->all_x.bytes + round * x, x, kind, k->stream));
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        GPU_OK(cudaMemcpyAsync(k->all_y.bytes + round * y, k->d.y.bytes, y, kind, k->stream));
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_end(k);
}

GPU_TEST(gemv, replayed_from_a_graph)
{
    for (size_t u = 0; u < GEMV_UNITS; u++) {
        gemv_case c = gemv_case_of(&gemv_units[u], (fp4_layout)(u % 3), 33, 320);
        c.on_device = (int)(u % 2);
        run_graph(c, 980 + u, (int)(u / 2 % 2));
    }
}

/* ---------------------------------------------------------------- what is refused */

/* A good call, for a test to spoil. */
typedef struct good_call {
    gemv_case c;
    gemv_operands o;
    gemv_device d;
} good_call;

static good_call good_call_new(const gemv_unit *unit, fp4_layout layout)
{
    uint64_t state = 990;
    good_call g;

    g.c = gemv_case_of(unit, layout, 8, 256);
    g.o = gemv_operands_random(&g.c, &state);
    g.d = gemv_device_new(&g.c, &g.o);
    gpu_poison(g.d.y, 0x7f);
    return g;
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    uint8_t *y;

    gpu_finish(gemv_text(&g.c));
    y = (uint8_t *)gpu_copy_of(g.d.y);
    for (size_t i = 0; i < g.d.y.size; i++) {
        CHECK_EQ(y[i], 0x7f, "byte %zu was written: %s", i, gemv_text(&g.c));
    }
    free(y);
    gemv_device_free(g.d);
    gemv_operands_free(g.o);
}

/* How many kernels a call launches. */
static size_t launched(const good_call *g, const launch_gemv_args *args, cudaError_t *error)
{
    const cudaStream_t stream = gpu_capture_begin();

    *error = g->c.unit->launch(args, 0, stream);
    return gpu_capture_end(stream);
}

static void expect_refused(const good_call *g, const launch_gemv_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaErrorInvalidValue, "%s: %s", what, gemv_text(&g->c));
    CHECK_EQ(nodes, 0, "%s: launched: %s", what, gemv_text(&g->c));
    CHECK_EQ(g->c.unit->launch(args, 0, 0), cudaErrorInvalidValue, "%s: not captured: %s", what,
             gemv_text(&g->c));
    CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left: %s", what, gemv_text(&g->c));
}

static void expect_accepted(const good_call *g, const launch_gemv_args *args, const char *what)
{
    cudaError_t error;
    const size_t nodes = launched(g, args, &error);

    CHECK_EQ(error, cudaSuccess, "%s: %s", what, gemv_text(&g->c));
    CHECK_EQ(nodes, 1, "%s: kernels launched: %s", what, gemv_text(&g->c));
}

#define REFUSED(what, change) \
    do { \
        launch_gemv_args args = g.d.args; \
        change; \
        expect_refused(&g, &args, what); \
    } while (0)

#define ACCEPTED(what, change) \
    do { \
        launch_gemv_args args = g.d.args; \
        change; \
        expect_accepted(&g, &args, what); \
    } while (0)

#define FOR_EACH_CALL(body) \
    for (size_t i = 0; i < 3 * GEMV_UNITS; i++) { \
        const good_call g = good_call_new(&gemv_units[i / 3], (fp4_layout)(i % 3)); \
        body; \
        good_call_free(g); \
    }

static void refuse_shapes(good_call g)
{
    ACCEPTED("as it is", (void)args);
    REFUSED("no y", args.y = NULL);
    REFUSED("no q", args.q = NULL);
    REFUSED("no sf", args.sf = NULL);
    REFUSED("no x", args.x = NULL);
    REFUSED("one column less", args.cols--);
    REFUSED("a piece less", args.cols -= 16);
    REFUSED("half of four pieces", args.cols -= 32);
    REFUSED("2^32 columns", args.cols = (size_t)1 << 32);
    REFUSED("more rows than a grid has", args.rows = (size_t)0x7fffffff * 32 + 1);
    REFUSED("sizes that overflow", args.rows = (size_t)1 << 57);
    REFUSED("an unknown layout", args.layout = 3);
#if !defined(FP4_SIMT) /* UBSan stops at an enumerator that has bits beyond those of all others */
    REFUSED("another unknown layout", args.layout = -1);
#endif
}

GPU_TEST(gemv_errors, null_pointers_and_bad_shapes)
{
    FOR_EACH_CALL(refuse_shapes(g))
}

static void refuse_misaligned(good_call g)
{
    for (size_t off = 1; off < 16; off *= 2) {
        REFUSED("q", args.q += off);
        REFUSED("x", args.x = g.d.x.bytes + off);
        if (off < 4) {
            REFUSED("sf", args.sf += off);
        } else {
            ACCEPTED("sf by words", args.sf += off);
        }
        if (off < host_dtype_bytes(g.c.unit->output)) {
            REFUSED("y", args.y = g.d.y.bytes + off);
        } else {
            ACCEPTED("y by elements", args.y = g.d.y.bytes + off);
        }
        if (off < 4 && gemv_has_global(&g.c)) {
            REFUSED("global_device",
                    args.global_device = (const float *)(const void *)(g.d.global.bytes + off));
        }
    }
}

GPU_TEST(gemv_errors, misaligned_pointers)
{
    FOR_EACH_CALL(refuse_misaligned(g))
}

/* The host reference draws the same lines. */
static void refuse_scales(good_call g)
{
    static const float bad[] = {-1.0f, INFINITY, -INFINITY, NAN, -0x1p-149f, -0.0f};
    static const float good[] = {0.0f, 0x1p-149f, 0x1p-128f, 1.0f, FP4_F32_MAX};
    fp4_tensor t = fp4_tensor_view(g.c.unit->format, g.c.layout, g.c.rows, g.c.cols, g.o.q,
                                   gemv_q_bytes(&g.c), g.o.sf, gemv_sf_bytes(&g.c));
    const fp4_matrix x = fp4_matrix_of_(g.o.x, g.c.unit->input, 1, g.c.cols, g.c.cols, 1.0f);
    float y[8];

    for (size_t k = 0; k < sizeof bad / sizeof(float); k++) {
        if (gemv_has_global(&g.c)) {
            REFUSED("global_dec", args.global_dec = bad[k]);
        } else {
            ACCEPTED("unused global_dec", args.global_dec = bad[k]);
        }
        ACCEPTED("global_dec that is not looked at", args.global_dec = bad[k];
                 args.global_device = (const float *)(const void *)g.d.global.bytes);
        t.global_dec = bad[k];
        CHECK_EQ(fp4_ref_gemv(&t, x, FP4_F32, y, sizeof y), FP4_BAD_SCALE, "host, %a",
                 (double)bad[k]);
    }
    for (size_t k = 0; k < sizeof good / sizeof(float); k++) {
        ACCEPTED("global_dec", args.global_dec = good[k]);
        t.global_dec = good[k];
        CHECK_EQ(fp4_ref_gemv(&t, x, FP4_F32, y, sizeof y), FP4_OK, "host, %a", (double)good[k]);
    }
}

GPU_TEST(gemv_errors, bad_scales){FOR_EACH_CALL(refuse_scales(g))}

/* No rows: success, whatever else is given. */
GPU_TEST(gemv_errors, nothing_to_do)
{
    launch_gemv_args none;

    memset(&none, 0, sizeof none);
    for (size_t i = 0; i < GEMV_UNITS; i++) {
        none.cols = i % 2 ? 64 : 7;
        CHECK_EQ(gemv_units[i].launch(&none, (int)(i % 2), 0), cudaSuccess, "%s",
                 gemv_units[i].name);
    }
    CHECK_EQ(cudaPeekAtLastError(), cudaSuccess, "after launching nothing");
    gpu_finish("after launching nothing");
}

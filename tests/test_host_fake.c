/*
 * fp4/host/fake.h: by the rules of the formats, fake quantization is what fp4_ref_dequantize_to
 * makes of fp4_ref_..._quantize, byte for byte; with amaxes given, and bits for what was clipped,
 * it is compared with the naive quantizer of host_util.h. ModelOpt's rules: with modelopt.h,
 * element by element (what ModelOpt itself gave: test_modelopt.c).
 */
#include <fp4/host/fake.h>

#include "host_util.h"

static const char *const rule_names[] = {"NVFP4",    "MXFP4",    "MXFP8", "NVFP4_32",
                                         "MXFP4_16", "MODELOPT", "CAST"};

/* The recipe of a format's rule. */
static host_recipe recipe_of(fp4_fake_rule rule)
{
    static const host_recipe recipes[] = {HOST_NVFP4_TENSOR, HOST_MXFP4_UP, HOST_MXFP8_UP,
                                          HOST_NVFP4_32_TENSOR, HOST_MXFP4_16_UP};
    return recipes[rule];
}

/* ---------------------------------------------------------------- one case */

typedef struct fake_case {
    fp4_fake fake;
    fp4_dtype dtype; /* of the output */
    size_t rows, cols, y_stride, shift;
    fp4_matrix x;
    host_buffer x_memory, y, clipped;
} fake_case;

static const char *case_text(const fake_case *c)
{
    static char text[200];

    snprintf(
        text, sizeof text,
        "%s of %d to %d, %zu x %zu, stride %zu, shift %zu, block %zu, fp8_max %.0f, %s, global "
        "%a",
        rule_names[c->fake.rule], (int)c->x.dtype, (int)c->dtype, c->rows, c->cols, c->y_stride,
        c->shift, c->fake.block, (double)c->fake.fp8_max,
        c->fake.amax != NULL ? "static" : "dynamic", (double)c->fake.global);
    return text;
}

/* Rows of a kind of data, and poisoned outputs. */
static fake_case case_new(fp4_fake_rule rule, fp4_dtype input, fp4_dtype output, size_t rows,
                          size_t cols, host_data data, uint64_t *state)
{
    fake_case c;
    const size_t x_stride = cols + host_below(state, 3) * 7;

    memset(&c, 0, sizeof c);
    c.fake.rule = rule;
    c.fake.global = rule == FP4_FAKE_MODELOPT ? 8.0f : host_random_scale(state, -10, 14);
    c.fake.block = 16;
    c.fake.fp8_max = 448.0f;
    c.dtype = output;
    c.rows = rows;
    c.cols = cols;
    c.shift = host_below(state, 4);
    c.y_stride = cols + host_below(state, 3) * 5;
    c.x_memory =
        host_buffer_new(host_span(rows, cols, x_stride) * host_dtype_bytes(input), c.shift);
    c.x = fp4_matrix_of_(c.x_memory.bytes, input, rows, cols, x_stride,
                         input == FP4_E4M3 ? 0.037f : 1.0f);
    host_fill(c.x_memory.bytes, c.x, state, data, 16);
    c.y = host_buffer_new(host_span(rows, cols, c.y_stride) * host_dtype_bytes(output), c.shift);
    c.clipped = host_buffer_new((rows * cols + 7) / 8, c.shift);
    return c;
}

static void case_free(fake_case c)
{
    host_buffer_free(c.x_memory, "x");
    host_buffer_free(c.y, "y");
    host_buffer_free(c.clipped, "clipped");
}

static void case_run(const fake_case *c)
{
    CHECK_EQ(fp4_ref_fake_quantize(c->x, &c->fake, c->dtype, c->y.bytes, c->y.size, c->y_stride,
                                   c->clipped.bytes, c->clipped.size),
             FP4_OK, "%s", case_text(c));
}

/* A float as an element of the output. */
static uint32_t stored(float x, fp4_dtype dtype)
{
    return dtype == FP4_F32   ? host_bits_of(x)
           : dtype == FP4_F16 ? fp4_f32_to_f16(x)
                              : fp4_f32_to_bf16(x);
}

/* An element is this value (any NaN of f32 is), and so is its bit. */
static void expect_element(const fake_case *c, size_t row, size_t col, float y, int is_clipped)
{
    const size_t size = host_dtype_bytes(c->dtype), i = row * c->cols + col;
    uint32_t got = 0;

    memcpy(&got, c->y.bytes + (row * c->y_stride + col) * size, size);
    CHECK(got == stored(y, c->dtype) || (c->dtype == FP4_F32 && isnan(y) && isnan(host_bits(got))),
          "%s, row %zu, col %zu: %08x, not %08x", case_text(c), row, col, got, stored(y, c->dtype));
    CHECK_EQ(c->clipped.bytes[i / 8] >> (i % 8) & 1u, is_clipped, "%s, bit %zu", case_text(c), i);
}

/* Neither gaps nor bits beyond the last. */
static void expect_rest(const fake_case *c)
{
    const size_t size = host_dtype_bytes(c->dtype), n = c->rows * c->cols;

    for (size_t row = 0; row + 1 < c->rows; row++) {
        for (size_t i = c->cols * size; i < c->y_stride * size; i++) {
            CHECK_EQ(c->y.bytes[row * c->y_stride * size + i], 0x7f, "%s: a gap of row %zu",
                     case_text(c), row);
        }
    }
    if (n % 8 != 0) {
        CHECK_EQ(c->clipped.bytes[n / 8] >> n % 8, 0, "%s: bits beyond the last", case_text(c));
    }
}

/* ---------------------------------------------------------------- there and back */

/* The same matrix quantized, then dequantized. NVFP4 with a scale for each row where there are
   globals. */
static void there_and_back(const fake_case *c, uint8_t *y)
{
    const fp4_format format = (fp4_format)c->fake.rule;
    const size_t q_bytes = fp4_q_bytes(format, c->rows, c->cols);
    const size_t sf_bytes = c->rows * (c->cols / fp4_format_block(format));
    uint8_t *q = (uint8_t *)host_zeros(q_bytes), *sf = (uint8_t *)host_zeros(sf_bytes);
    float *decs = (float *)host_zeros(2 * c->rows * sizeof(float)), *encs = decs + c->rows;
    fp4_tensor t =
        fp4_tensor_view(format, FP4_LAYOUT_LINEAR, c->rows, c->cols, q, q_bytes, sf, sf_bytes);
    fp4_status status;

    if (fp4_format_is_nvfp4(format) && c->fake.globals != NULL) {
        for (size_t row = 0; row < c->rows; row++) {
            encs[row] = c->fake.globals[c->fake.global_rows ? row / c->fake.global_rows : 0];
        }
        t.row_dec = decs;
        t.row_dec_bytes = c->rows * sizeof(float);
        status = fp4_ref_nvfp4_quantize_rows(c->x, encs, &t);
    } else if (fp4_format_is_nvfp4(format)) {
        status = fp4_ref_nvfp4_quantize(c->x, c->fake.global, &t);
    } else {
        status = format == FP4_MXFP8 ? fp4_ref_mxfp8_quantize(c->x, &t)
                                     : fp4_ref_mxfp4_quantize(c->x, &t);
    }
    CHECK_EQ(status, FP4_OK, "%s: quantize", case_text(c));
    CHECK_EQ(fp4_ref_dequantize_to(&t, FP4_CODE_FIRST, c->dtype, y, c->y.size, c->y_stride), FP4_OK,
             "%s: dequantize", case_text(c));
    free(q);
    free(sf);
    free(decs);
}

/* Encode scales at the ends of what is allowed, and others. */
static const float globals[] = {0x1.000008p-128f, 1.0f, 0x1p-127f, 336.0f, 0x1p126f, 0.75f,
                                FP4_F32_MAX,      5.0f, 0x1p-64f,  2688.0f};

Test(host_fake, is_quantize_and_dequantize)
{
    uint64_t state = 1;

    for (int rule = FP4_FAKE_NVFP4; rule <= FP4_FAKE_MXFP4_16; rule++) {
        for (int k = 0; k < 4 * 3 * HOST_DATA * 4; k++) {
            const size_t block = fp4_format_block((fp4_format)rule);
            fake_case c = case_new((fp4_fake_rule)rule, (fp4_dtype)(k % 4), (fp4_dtype)(k / 4 % 3),
                                   1 + host_below(&state, 9), block * (1 + host_below(&state, 40)),
                                   (host_data)(k / 12 % HOST_DATA), &state);
            uint8_t *y = (uint8_t *)host_zeros(c.y.size);
            memset(y, 0x7f, c.y.size);
            if (k % 2 == 0) {
                c.fake.globals = globals;
                c.fake.global_rows = (size_t)k / 2 % 4;
            }
            case_run(&c);
            there_and_back(&c, y);
            host_expect_bytes(c.y.bytes, y, c.y.size, case_text(&c));
            expect_rest(&c);
            free(y);
            case_free(c);
        }
    }
}

/* ---------------------------------------------------------------- given amaxes, bits */

/* An amax for a block of the naive quantizer: its own, more, less, and the ends. */
static float drawn_amax(float amax, uint64_t *state)
{
    static const float of[] = {1.0f, 0.5f, 2.0f, 0.9f, 0x1p-10f};
    const uint32_t which = host_below(state, 12);

    return which == 0   ? 0.0f
           : which == 1 ? INFINITY
           : which == 2 ? FP4_F32_MAX
                        : amax * of[which % 5];
}

/* Block after block: the scale of the amax, codes, their values, and what is more than the largest
   code. */
static void expect_naive(const fake_case *c, const float *amax)
{
    const host_recipe recipe = recipe_of(c->fake.rule);
    const size_t block = host_recipe_block(recipe);
    const float most = c->fake.rule == FP4_FAKE_MXFP8 ? 448.0f : 6.0f;

    for (size_t i = 0; i < c->rows * c->cols / block; i++) {
        const size_t row = i * block / c->cols, first = i * block % c->cols;
        float enc, scale, dec = 1.0f;
        const uint8_t sf = host_scale_of(recipe, amax[i], c->fake.global, &enc);
        scale = host_is_nvfp4(recipe) ? host_e4m3(sf) : host_e8m0(sf);
        dec = host_is_nvfp4(recipe) ? host_div(1.0f, c->fake.global) : dec;
        for (size_t col = first; col < first + block; col++) {
            const float product = host_mul(host_element(&c->x, row, col), enc);
            const uint8_t code = host_code_of(recipe, product);
            const float value = c->fake.rule == FP4_FAKE_MXFP8 ? host_e4m3(code) : host_e2m1(code);
            expect_element(c, row, col, host_mul(host_mul(value, scale), dec),
                           fabsf(product) > most);
        }
    }
}

Test(host_fake, amaxes_and_bits_as_the_naive_quantizer_has_them)
{
    uint64_t state = 2;

    for (int rule = FP4_FAKE_NVFP4; rule <= FP4_FAKE_MXFP4_16; rule++) {
        for (int k = 0; k < 4 * 3 * HOST_DATA * 2; k++) {
            const size_t block = fp4_format_block((fp4_format)rule);
            fake_case c = case_new((fp4_fake_rule)rule, (fp4_dtype)(k % 4), (fp4_dtype)(k / 4 % 3),
                                   1 + host_below(&state, 6), block * (1 + host_below(&state, 12)),
                                   (host_data)(k / 12 % HOST_DATA), &state);
            float *amax = (float *)host_zeros(c.rows * c.cols / block * sizeof(float));
            for (size_t i = 0; i < c.rows * c.cols / block; i++) {
                fp4_matrix m = c.x;
                const size_t row = i * block / c.cols, col = i * block % c.cols;
                m.data =
                    c.x_memory.bytes + (row * c.x.row_stride + col) * host_dtype_bytes(c.x.dtype);
                m.rows = 1;
                m.cols = block;
                amax[i] = host_matrix_amax(&m);
                amax[i] = k % 2 ? drawn_amax(amax[i], &state) : amax[i];
            }
            c.fake.amax = k % 2 ? amax : NULL;
            case_run(&c);
            expect_naive(&c, amax);
            expect_rest(&c);
            free(amax);
            case_free(c);
        }
    }
}

/* ---------------------------------------------------------------- ModelOpt's */

/* The scale of a block by modelopt.h, whose amax is that of block i, or its own. */
static float modelopt_scale(const fake_case *c, size_t row, size_t col)
{
    const size_t block = c->fake.block;
    const float global =
        c->fake.globals != NULL ? c->fake.globals[row / c->fake.global_rows] : c->fake.global;
    float x[128];

    if (c->fake.amax != NULL) {
        const float amax = c->fake.amax[(row * c->cols + col) / block];
        return c->fake.fp8_max == 0.0f ? fp4_modelopt_scale_f32(amax)
                                       : fp4_modelopt_scale(amax, global, c->fake.fp8_max);
    }
    for (size_t i = 0; i < block; i++) {
        x[i] = host_element(&c->x, row, col / block * block + i);
    }
    for (size_t i = 0; i < block; i++) {
        if (!isnan(x[i])) {
            return fp4_modelopt_dynamic_scale(host_amax(x, block), global);
        }
    }
    return fp4_modelopt_dynamic_scale(NAN, global);
}

static void expect_modelopt(const fake_case *c)
{
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t col = 0; col < c->cols; col++) {
            const float x = host_element(&c->x, row, col);
            const float scale = c->fake.rule == FP4_FAKE_CAST ? 1.0f : modelopt_scale(c, row, col);
            const float divisor = fp4_modelopt_divisor(scale);
            expect_element(c, row, col,
                           c->fake.rule == FP4_FAKE_CAST ? fp4_modelopt_cast(x)
                                                         : fp4_modelopt_fake_static(x, scale),
                           host_div(fabsf(x), divisor) > 6.0f);
        }
    }
    expect_rest(c);
}

/* Blocks of more than a chunk of the reference, too. */
Test(host_fake, modelopt_with_blocks_of_any_length)
{
    static const size_t lengths[] = {1, 3, 5, 8, 16, 24, 48, 100, 512, 513, 1100};
    static const float most[] = {448.0f, 256.0f, 0.0f};
    static const float amaxes[] = {8.0f, 0.0f, 1e-6f, INFINITY, 448.0f};
    uint64_t state = 3;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int k = 0; k < 36; k++) {
            const size_t cols = lengths[i] * (1 + host_below(&state, lengths[i] < 100 ? 20 : 2));
            fake_case c = case_new(FP4_FAKE_MODELOPT, (fp4_dtype)(k % 4), (fp4_dtype)(k / 4 % 3), 4,
                                   cols, (host_data)(k % HOST_DATA), &state);
            float *amax = (float *)host_zeros(4 * cols / lengths[i] * sizeof(float));
            for (size_t b = 0; b < 4 * cols / lengths[i]; b++) {
                amax[b] = drawn_amax(host_random_scale(&state, -20, 20), &state);
            }
            c.fake.amax = amax;
            c.fake.block = lengths[i];
            c.fake.fp8_max = most[k % 3];
            c.fake.global = amaxes[k % 5];
            c.fake.globals = k % 2 ? amaxes : NULL;
            c.fake.global_rows = 1 + (size_t)k % 4;
            case_run(&c);
            expect_modelopt(&c);
            free(amax);
            case_free(c);
        }
    }
}

Test(host_fake, modelopt_dynamic_and_cast)
{
    uint64_t state = 4;

    for (int k = 0; k < 4 * 3 * HOST_DATA * 2; k++) {
        const int is_cast = k % 2;
        const size_t block = (size_t)16 << host_below(&state, 4);
        fake_case c =
            case_new(is_cast ? FP4_FAKE_CAST : FP4_FAKE_MODELOPT, (fp4_dtype)(k / 2 % 4),
                     (fp4_dtype)(k / 8 % 3), 3,
                     is_cast ? 1 + host_below(&state, 600) : block * (1 + host_below(&state, 12)),
                     (host_data)(k / 24 % HOST_DATA), &state);
        c.fake.block = block;
        case_run(&c);
        expect_modelopt(&c);
        case_free(c);
    }
}

/* A dynamic block of nothing but NaN has the largest scale there is, unless that is below 1e-5; of
   one number it has that number's, wherever it is. */
Test(host_fake, modelopt_dynamic_blocks_of_nan)
{
    uint64_t state = 5;

    for (size_t block = 16; block <= 128; block *= 2) {
        fake_case c = case_new(FP4_FAKE_MODELOPT, FP4_F32, FP4_F32, 1, block * (block + 1),
                               HOST_MODERATE, &state);
        float *x = (float *)(void *)c.x_memory.bytes;
        c.fake.block = block;
        for (size_t i = 0; i < c.cols; i++) {
            const float one = i / block == i % block ? -2.5f : i % 2 ? NAN : -NAN;
            memcpy(&x[i], &one, sizeof one);
        }
        for (int k = 0; k < 2; k++) {
            const float most = host_mul(448.0f, host_mul(c.fake.global, host_div(1.0f, 2688.0f)));
            case_run(&c);
            expect_modelopt(&c);
            for (size_t col = block * block; col < c.cols; col++) {
                expect_element(&c, 0, col, k == 0 ? host_mul(-6.0f, most) : -6.0f, 0);
            }
            c.fake.global = 5e-5f;
        }
        case_free(c);
    }
}

/* ---------------------------------------------------------------- statuses */

/* A call to be spoiled. */
typedef struct world {
    float x[4 * 96], amax[4 * 96];
    fp4_matrix m;
    fp4_fake f;
    fp4_dtype dtype;
    host_buffer y, clipped;
    size_t y_bytes, stride, clipped_bytes;
} world;

static void world_reset(world *w, int rule)
{
    memset(w->x, 0, sizeof w->x);
    memset(w->amax, 0, sizeof w->amax);
    w->m = fp4_matrix_f32(w->x, 4, 96, 96);
    memset(&w->f, 0, sizeof w->f);
    w->f.rule = (fp4_fake_rule)rule;
    w->f.global = 1.0f;
    w->f.block = 16;
    w->dtype = FP4_F32;
    w->y_bytes = w->y.size;
    w->stride = 96;
    w->clipped_bytes = w->clipped.size;
}

static void refuses(world *w, int rule, fp4_status status, const char *what)
{
    CHECK_EQ(fp4_ref_fake_quantize(w->m, &w->f, w->dtype, w->y.bytes, w->y_bytes, w->stride,
                                   w->clipped.bytes, w->clipped_bytes),
             status, "rule %d, %s", rule, what);
    world_reset(w, rule);
}

#define REFUSES(status, what, change) \
    do { \
        world_reset(&w, rule); \
        change; \
        refuses(&w, rule, status, what); \
    } while (0)

static void refuse_all(int rule)
{
    const int is_modelopt = rule == FP4_FAKE_MODELOPT;
    static const float bad[] = {-1.0f, NAN, 0.0f, 0x1p-128f, INFINITY};
    world w;

    w.y = host_buffer_new(4 * 96 * sizeof(float), 0);
    w.clipped = host_buffer_new(4 * 96 / 8, 0);
    REFUSES(FP4_BAD_TYPE, "an unknown rule", w.f.rule = (fp4_fake_rule)7);
    REFUSES(FP4_BAD_TYPE, "to e4m3", w.dtype = FP4_E4M3);
    REFUSES(FP4_BAD_TYPE, "no input type", w.m.dtype = (fp4_dtype)5);
    REFUSES(FP4_BAD_STRIDE, "rows of x that overlap", w.m.row_stride = 95);
    REFUSES(FP4_BAD_STRIDE, "rows of y that overlap", w.stride = 95);
    REFUSES(FP4_BAD_SHAPE, "rows without end", w.m.rows = SIZE_MAX / 8);
    REFUSES(FP4_BAD_SHAPE, "a stride without end", w.stride = SIZE_MAX);
    REFUSES(FP4_NULL, "no x", w.m.data = NULL);
    REFUSES(FP4_SMALL_BUFFER, "y", w.y_bytes--);
    REFUSES(FP4_SMALL_BUFFER, "y of a wider stride", w.stride++);
    REFUSES(FP4_SMALL_BUFFER, "bits", w.clipped_bytes--);
    REFUSES(FP4_BAD_SCALE, "x with a dec of 0", w.m.dtype = FP4_E4M3; w.m.dec = 0.0f);
    if (rule != FP4_FAKE_CAST) {
        REFUSES(FP4_BAD_SHAPE, "not whole blocks", w.m.cols = 95);
    }
    if (is_modelopt) {
        REFUSES(FP4_BAD_SHAPE, "no block", w.f.amax = w.amax; w.f.block = 0);
        REFUSES(FP4_BAD_SHAPE, "blocks of 36", w.f.amax = w.amax; w.f.block = 36);
        REFUSES(FP4_BAD_SHAPE, "no block", w.f.amax = NULL; w.f.block = 0);
        REFUSES(FP4_BAD_SHAPE, "8 whose amax is to be found", w.f.amax = NULL; w.f.block = 8);
        REFUSES(FP4_BAD_SHAPE, "48", w.f.amax = NULL; w.f.block = 48);
        REFUSES(FP4_BAD_SHAPE, "64 of 96", w.f.amax = NULL; w.f.block = 64);
        REFUSES(FP4_BAD_SHAPE, "256", w.f.amax = NULL; w.m.rows = 1;
                w.m.cols = w.m.row_stride = w.stride = w.f.block = 256);
        world_reset(&w, rule);
        w.f.fp8_max = 1.0f;
        CHECK_EQ(fp4_ref_fake_quantize(w.m, &w.f, FP4_F32, NULL, 0, 96, NULL, 0), FP4_NULL,
                 "fp8_max without amax");
        REFUSES(FP4_BAD_SCALE, "fp8_max", w.f.amax = w.amax; w.f.fp8_max = 447.0f);
        REFUSES(FP4_BAD_SCALE, "fp8_max", w.f.amax = w.amax; w.f.fp8_max = NAN);
    }
    for (size_t i = 0; i < (is_modelopt ? 2 : 5); i++) {
        static const float of_rows[] = {1.0f, 1.0f, 1.0f, 1.0f};
        float some[4];
        memcpy(some, of_rows, sizeof some);
        some[3] = bad[i];
        if (is_modelopt || rule == FP4_FAKE_NVFP4 || rule == FP4_FAKE_NVFP4_32) {
            REFUSES(FP4_BAD_SCALE, "a global number", w.f.global = bad[i]);
            REFUSES(FP4_BAD_SCALE, "that of the last row", w.f.globals = some; w.f.global_rows = 1);
        }
    }
    world_reset(&w, rule);
    CHECK_EQ(fp4_ref_fake_quantize(w.m, NULL, FP4_F32, w.y.bytes, w.y_bytes, 96, NULL, 0), FP4_NULL,
             "rule %d, no rule", rule);
    CHECK_EQ(fp4_ref_fake_quantize(w.m, &w.f, FP4_F32, NULL, w.y_bytes, 96, NULL, 0), FP4_NULL,
             "rule %d, no y", rule);
    w.m.rows = 0;
    CHECK_EQ(fp4_ref_fake_quantize(w.m, &w.f, FP4_F32, NULL, 0, 96, NULL, 0), FP4_OK,
             "rule %d, no rows", rule);
    world_reset(&w, rule);
    w.m.cols = 0;
    w.f.global = NAN;
    CHECK_EQ(fp4_ref_fake_quantize(w.m, &w.f, FP4_F32, NULL, 0, 96, NULL, 0), FP4_OK,
             "rule %d, no columns", rule);
    for (size_t i = 0; i < w.y.size; i++) {
        CHECK_EQ(w.y.bytes[i], 0x7f, "rule %d: byte %zu of y was written", rule, i);
        CHECK_EQ(w.clipped.bytes[i % w.clipped.size], 0x7f, "rule %d: bits were written", rule);
    }
    host_buffer_free(w.y, "y");
    host_buffer_free(w.clipped, "clipped");
}

Test(host_fake, what_cannot_be_is_refused_and_nothing_is_written)
{
    for (int rule = FP4_FAKE_NVFP4; rule <= FP4_FAKE_CAST; rule++) {
        refuse_all(rule);
    }
}

/* The largest amax, where scales are not rounded to e4m3: nothing follows from it. */
Test(host_fake, a_number_that_nothing_follows_from_is_not_looked_at)
{
    static const float globals[] = {1.0f, -1.0f, NAN, -INFINITY};
    uint64_t state = 6;

    for (size_t i = 0; i < 4; i++) {
        fake_case c = case_new(FP4_FAKE_MODELOPT, FP4_BF16, FP4_F32, 2, 48, HOST_MODERATE, &state);
        const float amax[4] = {1.0f, 0.0f, 3.0f, 0.5f};
        c.fake.amax = amax;
        c.fake.block = 24;
        c.fake.fp8_max = 0.0f;
        c.fake.global = globals[i];
        case_run(&c);
        expect_modelopt(&c);
        case_free(c);
    }
}

/* What is clipped where the scale of a block is 0: y is 0 everywhere. */
Test(host_fake, clipped_bits_of_scales_of_zero)
{
    static const float x[16] = {1e-3f, -1e-3f, 0.0f,     -0.0f,     6.0f,   -6.0f,  6.5f,    -6.5f,
                                NAN,   1e30f,  INFINITY, -INFINITY, 1e-38f, 2e-38f, -2e-38f, 1.0f};
    static const float amax[1] = {1e-9f}, none[1] = {0.0f};
    uint8_t bits[2];
    float y[16];
    fp4_fake f;

    memset(&f, 0, sizeof f);
    f.rule = FP4_FAKE_NVFP4;
    f.global = 1.0f;
    f.amax = amax; /* / 6, in e4m3: 0 */
    for (int k = 0; k < 2; k++) {
        cr_assert(fp4_ref_fake_quantize(fp4_matrix_f32(x, 1, 16, 16), &f, FP4_F32, y, sizeof y, 16,
                                        bits, sizeof bits) == FP4_OK);
        for (size_t i = 0; i < 16; i++) {
            const int is_clipped = k == 0 ? fabsf(x[i]) > 1.8e-38f : fabsf(x[i]) > 6.0f;
            CHECK_EQ(y[i] == 0.0f, 1, "rule %d, y %zu: %a", (int)f.rule, i, (double)y[i]);
            CHECK_EQ(bits[i / 8] >> (i % 8) & 1, is_clipped, "rule %d, bit %zu", (int)f.rule, i);
        }
        f.rule = FP4_FAKE_MODELOPT;
        f.amax = none;
        f.block = 16;
        f.fp8_max = 448.0f;
    }
}

/* Bits are for whoever wants them. */
Test(host_fake, bits_are_optional)
{
    uint64_t state = 5;

    for (int rule = FP4_FAKE_NVFP4; rule <= FP4_FAKE_CAST; rule++) {
        fake_case c =
            case_new((fp4_fake_rule)rule, FP4_F32, FP4_BF16, 5, 96, HOST_MODERATE, &state);
        uint8_t *y = (uint8_t *)host_zeros(c.y.size);
        case_run(&c);
        memset(y, 0x7f, c.y.size);
        CHECK_EQ(fp4_ref_fake_quantize(c.x, &c.fake, c.dtype, y, c.y.size, c.y_stride, NULL, 0),
                 FP4_OK, "%s", case_text(&c));
        host_expect_bytes(y, c.y.bytes, c.y.size, case_text(&c));
        free(y);
        case_free(c);
    }
}

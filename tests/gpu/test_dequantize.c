/*
 * tests/gpu/test_dequantize.c - the launchers of 06_dequantize: every format, output type and
 * layout, over a grid of shapes, with options drawn as in test_launch.c; every code with every
 * scale byte; blocks of any length; and what 01_quantize has left.
 */
#include "back.h"

/* ---------------------------------------------------------------- matrices */

static const size_t all_rows[] = {0, 1, 3, 4, 5, 31, 32, 33, 127, 128, 129, 130, 300};
static const size_t few_rows[] = {1, 5, 33, 129};

/* Blocks of a row: up to several hundred pieces, and such as fill no power of two. */
static const size_t all_blocks[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 66, 129, 300};
static const size_t few_blocks[] = {1, 3, 9, 40};

/* Of global scales in decode sense; the rest are at random. */
static const float special_decs[] = {0.0f, 1.0f, 0x1p-149f, 0x1.8p-128f, 0x1p120f};

/* Options for a shape. */
static void draw_options(back_case *b, uint64_t *state)
{
    gpu_case *c = &b->c;
    const size_t unit = 16 / host_dtype_bytes(c->dtype);
    const size_t gaps[] = {0, 0, unit, 5 * unit, c->cols};

    c->row_stride = c->cols + gaps[host_below(state, 5)];
    c->batches = c->rows * c->cols <= 1000000 && host_below(state, 3) == 0 ? 3 : 1;
    c->batch_stride = c->rows * c->row_stride + unit * host_below(state, 3);
    c->pdl = (int)host_below(state, 2);
    c->global = (cases_scale)host_below(state, SCALE_KINDS);
    c->is_dec = (int)host_below(state, 2);
    c->scale = c->is_dec && host_below(state, 4) == 0
                   ? special_decs[host_below(state, sizeof special_decs / sizeof(float))]
                   : host_random_scale(state, -20, 20);
    if (!back_has_global(b)) {
        c->scale = host_bits(0x7fc00000u); /* nobody may look at it */
    }
    b->association = (fp4_association)host_below(state, 2);
    b->y_shift = host_below(state, 4);
    b->q_shift = host_below(state, 4);
    b->sf_shift = host_below(state, 4);
    if (c->batches > 1 && b->sf_shift == 0) { /* their rows in turns */
        c->batch_stride = c->row_stride;
        c->row_stride = c->batches * c->batch_stride + gaps[1 + b->q_shift];
    }
}

static void run_drawn(back_case b, uint64_t *state)
{
    back_input in;

    draw_options(&b, state);
    in = back_input_random(&b, state);
    back_run(&b, &in);
    back_input_free(in);
}

static void run_shapes(fp4_format format)
{
    const int few = gpu_is_reduced();
    const size_t row_count =
        few ? sizeof few_rows / sizeof(size_t) : sizeof all_rows / sizeof(size_t);
    const size_t block_count =
        few ? sizeof few_blocks / sizeof(size_t) : sizeof all_blocks / sizeof(size_t);
    const size_t block = fp4_format_block(format);
    uint64_t state = 60 + (uint64_t)format;

    for (int dtype = FP4_F32; dtype <= FP4_BF16; dtype++) {
        const back_unit *unit = back_unit_of(format, (fp4_dtype)dtype);
        for (int layout = 0; layout < 3; layout++) {
            for (size_t i = 0; i < row_count * block_count; i++) {
                const size_t rows = (few ? few_rows : all_rows)[i / block_count];
                const size_t blocks = (few ? few_blocks : all_blocks)[i % block_count];
                run_drawn(back_case_of(unit, (fp4_layout)layout, rows, blocks * block), &state);
            }
            for (int i = 0; i < (few ? 4 : 60); i++) {
                const size_t rows = host_below(&state, 400), blocks = 1 + host_below(&state, 100);
                run_drawn(
                    back_case_of(unit, (fp4_layout)layout, few ? rows / 4 : rows, blocks * block),
                    &state);
            }
        }
    }
}

GPU_TEST(dequantize, nvfp4)
{
    run_shapes(FP4_NVFP4);
}

GPU_TEST(dequantize, mxfp4)
{
    run_shapes(FP4_MXFP4);
}

GPU_TEST(dequantize, mxfp8)
{
    run_shapes(FP4_MXFP8);
}

GPU_TEST(dequantize, nvfp4_32)
{
    run_shapes(FP4_NVFP4_32);
}

GPU_TEST(dequantize, mxfp4_16)
{
    run_shapes(FP4_MXFP4_16);
}

/* ---------------------------------------------------------------- every code and scale byte */

/* An element straight from the formula; the orders are the same where the global scale is 1. */
static float naive(fp4_format format, const uint8_t *q, uint8_t sf, size_t i, float dec,
                   fp4_association association)
{
    const float code =
        format == FP4_MXFP8 ? host_e4m3(q[i]) : host_e2m1(q[i / 2] >> (i % 2 * 4) & 15u);
    const float scale = fp4_format_is_nvfp4(format) ? host_e4m3(sf) : host_e8m0(sf);

    return !fp4_format_is_nvfp4(format)      ? host_mul(code, scale)
           : association == FP4_SCALES_FIRST ? host_mul(code, host_mul(scale, dec))
                                             : host_mul(host_mul(code, scale), dec);
}

/* Row r of each matrix has scale byte r throughout, and every byte of codes, one after the other:
   all pairs of e2m1. A matrix for each global scale. */
static void run_all_codes(const back_unit *unit, fp4_layout layout, fp4_association association)
{
    static const float decs[] = {1.0f,        0.3f,      1.0f / 2688.0f, 0.0f, 0x1p-149f,
                                 0x1.8p-128f, 0x1p120f,  0x1p-20f,       NAN,  INFINITY,
                                 -1.5f,       -INFINITY, FP4_F32_MAX};
    const size_t batches = !fp4_format_is_nvfp4(unit->format) ? 1
                           : !gpu_is_reduced()                ? sizeof decs / sizeof(float)
                           : layout == FP4_LAYOUT_LINEAR      ? 3
                                                              : 1;
    const size_t cols = unit->format == FP4_MXFP8 ? 256 : 512, size = host_dtype_bytes(unit->dtype);
    const size_t sf_cols = cols / fp4_format_block(unit->format);
    back_case b = back_case_of(unit, layout, 256, cols);
    uint8_t *linear = (uint8_t *)host_zeros(256 * sf_cols), *got;
    back_input in;
    back_device d;
    gpu_buffer scales;

    b.c.batches = batches;
    b.c.batch_stride = 256 * cols;
    b.association = association;
    in.q = (uint8_t *)host_zeros(back_q_bytes(&b));
    in.sf = (uint8_t *)host_zeros(back_sf_bytes(&b));
    for (size_t i = 0; i < back_q_bytes(&b); i++) {
        in.q[i] = (uint8_t)i;
    }
    for (size_t i = 0; i < 256 * sf_cols; i++) {
        linear[i] = (uint8_t)(i / sf_cols);
    }
    for (size_t batch = 0; batch < batches; batch++) {
        host_place_scales(in.sf + batch * case_sf_bytes(&b.c), layout, linear, 256, sf_cols);
    }
    d = back_device_new(&b, &in);
    scales = gpu_buffer_of(decs, batches * sizeof(float), 0);
    d.args.global.device = (const float *)(const void *)scales.bytes;
    d.args.global.batch_step = 1;
    gpu_poison(d.y, 0x7f);
    GPU_OK(unit->launch(&d.args, 0, 0));
    gpu_finish(unit->name);
    got = (uint8_t *)gpu_copy_of(d.y);
    for (size_t i = 0; i < batches * 256 * cols; i++) {
        const size_t batch = i / 256 / cols, row = i / cols % 256, col = i % cols;
        const float x = naive(unit->format, in.q, (uint8_t)row, col, decs[batch], association);
        const uint32_t bits = unit->dtype == FP4_F32   ? host_bits_of(x)
                              : unit->dtype == FP4_F16 ? fp4_f32_to_f16(x)
                                                       : fp4_f32_to_bf16(x);
        CHECK_EQ(element_bits(got + i * size, unit->dtype),
                 element_bits((const uint8_t *)&bits, unit->dtype),
                 "%s, %s, code %zu of row %zu, global_dec %a, association %d", unit->name,
                 cases_layout[layout], col, row, (double)decs[batch], (int)association);
    }
    free(got);
    free(linear);
    gpu_buffer_free(scales);
    back_device_free(d);
    back_input_free(in);
}

GPU_TEST(dequantize, every_code_with_every_scale_byte)
{
    for (size_t i = 0; i < 3 * BACK_UNITS; i++) {
        run_all_codes(&back_units[i / 3], (fp4_layout)(i % 3), FP4_CODE_FIRST);
        run_all_codes(&back_units[i / 3], (fp4_layout)(i % 3), FP4_SCALES_FIRST);
    }
}

/* What the comparison above rests on: zeros keep their signs, NaN scale bytes make NaNs, and the
   orders of NVFP4 do differ. */
Test(dequantize, the_formula)
{
    const uint8_t zeros[] = {0x80, 0x08};
    size_t differing = 0;

    CHECK_EQ(host_bits_of(naive(FP4_NVFP4, zeros, 0x38, 0, 1.0f, FP4_CODE_FIRST)), 0, "code 0");
    CHECK_EQ(host_bits_of(naive(FP4_NVFP4, zeros + 1, 0x38, 0, 1.0f, FP4_CODE_FIRST)), 0x80000000u,
             "code 8");
    CHECK(isnan(naive(FP4_NVFP4, zeros, 0x7f, 0, 1.0f, FP4_CODE_FIRST)), "e4m3 0x7f");
    CHECK(isnan(naive(FP4_MXFP4, zeros, 0xff, 0, 1.0f, FP4_CODE_FIRST)), "e8m0 255");
    for (unsigned sf = 0; sf < 0x7f; sf++) {
        const uint8_t five[] = {0x55};
        differing += naive(FP4_NVFP4, five, (uint8_t)sf, 0, 0.3f, FP4_CODE_FIRST) !=
                     naive(FP4_NVFP4, five, (uint8_t)sf, 0, 0.3f, FP4_SCALES_FIRST);
    }
    CHECK(differing > 0, "the associations are the same");
}

/* ---------------------------------------------------------------- blocks of any length */

typedef struct blocks_case {
    const back_unit *unit;
    size_t n, block;
    fp4_sf_type sf_type;
    fp4_association association;
    int pdl, is_dec, on_device;
    float scale;
    size_t y_shift, q_shift, sf_shift;
} blocks_case;

static const char *blocks_text(const blocks_case *b)
{
    static const char *const types[] = {"e4m3", "e8m0", "f32"};
    static char text[256];

    snprintf(text, sizeof text,
             "%zu codes to %s, blocks of %zu, scales %s, %s first, pdl %d, global %s %s %a, shifts "
             "%zu %zu %zu",
             b->n, cases_dtype[b->unit->dtype], b->block, types[b->sf_type],
             b->association == FP4_CODE_FIRST ? "code" : "scales", b->pdl,
             b->on_device ? "device" : "host", b->is_dec ? "dec" : "enc", (double)b->scale,
             b->y_shift, b->q_shift, b->sf_shift);
    return text;
}

/* Scales that are anything; a few are special. */
static void fill_scales(uint8_t *sf, size_t n, fp4_sf_type type, uint64_t *state)
{
    static const uint32_t special[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 0u,
                                       0x80000000u, 1u,          0x80400000u, 0x7f7fffffu};

    for (size_t i = 0; i < n; i++) {
        if (type == FP4_SF_F32) {
            const float sign = host_below(state, 4) == 0 ? -1.0f : 1.0f;
            const float x = host_below(state, 8) == 0 ? host_bits(special[host_below(state, 8)])
                                                      : sign * host_random_scale(state, -12, 12);
            memcpy(sf + i * sizeof x, &x, sizeof x);
        } else {
            sf[i] = (uint8_t)(type == FP4_SF_E4M3 || host_below(state, 4) == 0
                                  ? host_random(state)
                                  : 110 + host_below(state, 32));
        }
    }
}

static void run_blocks(const blocks_case *b, uint64_t *state)
{
    static const int poisons[] = {0x7f, 0xff};
    const size_t size = host_dtype_bytes(b->unit->dtype);
    const size_t sf_size = b->sf_type == FP4_SF_F32 ? 4 : 1, sf_bytes = b->n / b->block * sf_size;
    const float dec = b->is_dec ? b->scale : fp4_nvfp4_global_dec(b->scale);
    uint8_t *q = (uint8_t *)host_zeros(b->n / 2), *sf = (uint8_t *)host_zeros(sf_bytes);
    uint8_t *expected = (uint8_t *)host_zeros(b->n * size);
    const gpu_buffer y = gpu_buffer_new(b->n * size, b->y_shift * 16);
    const gpu_buffer global = gpu_buffer_of(&b->scale, sizeof b->scale, 4);
    gpu_buffer in_q, in_sf;
    launch_blocks_args a;

    for (size_t i = 0; i < b->n / 2; i++) {
        q[i] = (uint8_t)host_random(state);
    }
    fill_scales(sf, b->n / b->block, b->sf_type, state);
    in_q = gpu_buffer_of(q, b->n / 2, b->q_shift * 8);
    in_sf = gpu_buffer_of(sf, sf_bytes, b->sf_shift * sf_size);
    memset(&a, 0, sizeof a);
    a.y = y.bytes;
    a.q = in_q.bytes;
    a.sf = in_sf.bytes;
    a.sf_type = b->sf_type;
    a.global.device = b->on_device ? (const float *)(const void *)global.bytes : NULL;
    a.global.value = b->on_device ? host_bits(0x7fc00000u) : b->scale;
    a.global.is_dec = b->is_dec;
    a.global.row_step = a.global.batch_step = 5; /* not used */
    a.association = b->association;
    a.n = b->n;
    a.block = b->block;
    cr_assert(fp4_ref_dequantize_blocks(q, b->n, b->block, sf, b->sf_type, dec, b->association,
                                        b->unit->dtype, expected) == FP4_OK);
    for (size_t p = 0; p < 2; p++) {
        gpu_poison(y, poisons[p]);
        GPU_OK(b->unit->launch_blocks(&a, b->pdl, 0));
        gpu_finish(blocks_text(b));
        elements_expect_buffer(y, expected, b->unit->dtype, blocks_text(b), poisons[p]);
    }
    elements_expect_input(in_q, q, blocks_text(b));
    elements_expect_input(in_sf, sf, blocks_text(b));
    gpu_buffer_free(y);
    gpu_buffer_free(global);
    gpu_buffer_free(in_q);
    gpu_buffer_free(in_sf);
    free(q);
    free(sf);
    free(expected);
}

/* Numbers of blocks, rounded up to an even n; about the ends of pieces and of CTAs. */
static const size_t block_counts[] = {1, 2, 3, 5, 8, 17, 100, 513, 1025};

/* n itself is the length where it stands for 0. From 4096 on they are cut (LONG_BLOCK): of those,
   such as begin with a CTA, with a piece, and in the middle of one. */
static const size_t lengths[] = {1,  2,   3, 5,    7,    8,    12,   16,  24,
                                 32, 100, 0, 4096, 5000, 6002, 6004, 8192};

static void run_all_blocks(fp4_dtype dtype)
{
    uint64_t state = 90 + (uint64_t)dtype;
    size_t turn = 0;

    for (size_t i = 0; i < sizeof lengths / sizeof(size_t); i++) {
        for (size_t k = 0; k < sizeof block_counts / sizeof(size_t); k++) {
            const size_t count = block_counts[k] + (lengths[i] % 2 & block_counts[k]);
            for (int type = FP4_SF_E4M3; type <= FP4_SF_F32; type++) {
                blocks_case b;
                memset(&b, 0, sizeof b);
                b.unit = back_unit_of((fp4_format)(turn++ % 5), dtype);
                b.block = lengths[i] == 0 ? 2 * block_counts[k] : lengths[i];
                b.n = lengths[i] == 0 ? b.block : count * b.block;
                b.sf_type = (fp4_sf_type)type;
                b.association = (fp4_association)host_below(&state, 2);
                b.pdl = (int)host_below(&state, 2);
                b.on_device = (int)host_below(&state, 2);
                b.is_dec = (int)host_below(&state, 2);
                b.scale = b.is_dec && host_below(&state, 4) == 0
                              ? special_decs[host_below(&state, 5)]
                              : host_random_scale(&state, -10, 10);
                b.y_shift = host_below(&state, 4);
                b.q_shift = host_below(&state, 4);
                b.sf_shift = host_below(&state, 4);
                if (b.n < (gpu_is_reduced() ? 13000 : 110000)) {
                    run_blocks(&b, &state);
                }
            }
        }
    }
}

GPU_TEST(dequantize_blocks, to_f32)
{
    run_all_blocks(FP4_F32);
}

GPU_TEST(dequantize_blocks, to_f16)
{
    run_all_blocks(FP4_F16);
}

GPU_TEST(dequantize_blocks, to_bf16)
{
    run_all_blocks(FP4_BF16);
}

/* Numbers about those from which a kernel multiplies in another way, and where products overflow or
   underflow, with every sort of scale, pieces of one block, of two and of more. */
GPU_TEST(dequantize_blocks, of_any_global)
{
    static const float decs[] = {1.0f,        0x1.fffffep-1f, 0x1.000002p0f, 0x1.fffffep113f,
                                 0x1p114f,    0x1.8p120f,     FP4_F32_MAX,   0x1p-149f,
                                 0x1.8p-127f, 0x1.4p-120f,    0.0f,          0.3f};
    static const size_t blocks[] = {16, 12, 3};
    uint64_t state = 95;

    for (size_t u = 0; u < BACK_UNITS; u++) {
        for (size_t i = 0; i < 12 * 3 * 3 * 2 && back_units[u].format == FP4_NVFP4; i++) {
            blocks_case b;
            memset(&b, 0, sizeof b);
            b.unit = &back_units[u];
            b.block = blocks[i / 12 % 3];
            b.n = 5120 / (2 * b.block) * 2 * b.block;
            b.sf_type = (fp4_sf_type)(i / 36 % 3);
            b.association = (fp4_association)(i / 108);
            b.on_device = (int)(i % 2);
            b.is_dec = 1;
            b.scale = decs[i % 12];
            run_blocks(&b, &state);
        }
    }
}

/* A matrix of blocks of 16 is that, by either launcher. */
GPU_TEST(dequantize_blocks, are_a_matrix_without_gaps)
{
    for (size_t i = 0; i < BACK_UNITS; i++) {
        const back_unit *unit = &back_units[i];
        back_case b = back_case_of(unit, FP4_LAYOUT_LINEAR, 37, 288);
        launch_blocks_args a;
        uint64_t state = 8;
        back_input in;
        back_device d;
        uint8_t *y;

        if (unit->format == FP4_MXFP8) {
            continue;
        }
        b.c.scale = back_has_global(&b) ? 0.3f : 1.0f;
        in = back_input_random(&b, &state);
        d = back_device_new(&b, &in);
        memset(&a, 0, sizeof a);
        a.y = d.y.bytes;
        a.q = d.q.bytes;
        a.sf = d.sf.bytes;
        a.sf_type = back_has_global(&b) ? FP4_SF_E4M3 : FP4_SF_E8M0;
        a.global = d.args.global;
        a.n = 37 * 288;
        a.block = case_block(&b.c);
        GPU_OK(unit->launch(&d.args, 0, 0));
        gpu_finish(unit->name);
        y = (uint8_t *)gpu_copy_of(d.y);
        gpu_poison(d.y, 0x7f);
        GPU_OK(unit->launch_blocks(&a, 0, 0));
        gpu_finish(unit->name);
        elements_expect_buffer(d.y, y, unit->dtype, unit->name, 0x7f);
        free(y);
        back_device_free(d);
        back_input_free(in);
    }
}

/* ---------------------------------------------------------------- there and back */

/* What 01_quantize leaves on the device, dequantized there; and on the host both. */
static void there_and_back(const gpu_case *c, const back_unit *unit, const uint8_t *pool,
                           uint64_t *state)
{
    back_case b = back_case_of(unit, c->layout, c->rows, c->q_cols);
    uint8_t *x = case_x_of_pool(c, pool, 61, state), *image;
    const case_device there = case_device_new(c, x);
    back_input in;
    back_device d;

    in.q = (uint8_t *)host_zeros(case_q_bytes(c));
    in.sf = (uint8_t *)host_zeros(case_sf_bytes(c));
    d = back_device_new(&b, &in);
    d.args.q = there.q.bytes;
    d.args.sf = there.sf.bytes;
    d.args.global.value = c->scale;
    d.args.global.is_dec = 0;
    gpu_poison(there.q, 0x7f);
    gpu_poison(there.sf, 0x7f);
    gpu_poison(d.y, 0x7f);
    GPU_OK(case_launcher(c)(&there.args, 0, 0));
    GPU_OK(unit->launch(&d.args, c->pdl, 0));
    gpu_finish(case_text(c));
    case_expected(c, x, 0, in.q, in.sf);
    b.c.scale = fp4_nvfp4_global_dec(c->scale);
    image = back_expected(&b, &in, 0x7f);
    elements_expect_buffer(d.y, image, unit->dtype, case_text(c), 0x7f);
    free(x);
    free(image);
    case_device_free(there);
    back_device_free(d);
    back_input_free(in);
}

GPU_TEST(dequantize, what_quantize_has_left)
{
    for (int dtype = FP4_F32; dtype <= FP4_E4M3; dtype++) {
        uint8_t *pool = cases_pool((fp4_dtype)dtype, 61);
        uint64_t state = 40 + (uint64_t)dtype;

        for (int i = 0; i < 9; i++) {
            gpu_case c =
                case_of((fp4_dtype)dtype, (fp4_format)(i / 3), (fp4_layout)(i % 3), 133, 288);
            c.pdl = i % 2;
            c.q_cols += i % 2 == 0 ? 0 : 96; /* zeros on the right */
            for (int output = FP4_F32; output <= FP4_BF16; output++) {
                there_and_back(&c, back_unit_of(c.format, (fp4_dtype)output), pool, &state);
            }
        }
        free(pool);
    }
}

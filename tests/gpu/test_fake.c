/*
 * tests/gpu/test_fake.c - the launchers of 07_fake_quant: every input, output and rule, over a grid
 * of shapes, with options drawn as in test_launch.c; blocks of any length; numbers at the ends of
 * their range; and what 01_quantize and 06_dequantize make of the same input.
 */
#include "back.h"
#include "fake.h"

static const size_t all_rows[] = {1, 3, 4, 5, 31, 33, 100, 129, 300};
static const size_t few_rows[] = {1, 5, 33};

/* Blocks of a row. */
static const size_t all_blocks[] = {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 66, 129};
static const size_t few_blocks[] = {1, 3, 9, 40};

/* Lengths of ModelOpt's blocks; 0: a row. And those whose amax can be found. */
static const size_t lengths[] = {16, 16, 48, 1, 3, 5, 8, 24, 0};
static const size_t dynamic[] = {16, 32, 64, 128};

/* The ends of what is allowed, of what is quick (2^-64 .. 2^64), and of what means something else:
   encode scales, and largest amaxes. */
static const float special_encs[] = {0x1.000008p-128f, 0x1p-127f, 0x1p-126f,      0x1.fffffep-65f,
                                     0x1p-64f,         0x1p64f,   0x1.000002p64f, 0x1p126f,
                                     0x1.000002p126f,  0x1p127f,  FP4_F32_MAX};
static const float special_amaxes[] = {0.0f,     0x1p-149f,   1e-30f,  1e-6f,
                                       0x1p126f, FP4_F32_MAX, INFINITY};

static float draw_global(const fake_unit *u, uint64_t *state)
{
    if (!fake_has_global(u)) {
        return 1.0f;
    }
    if (host_below(state, 4) != 0) {
        return host_random_scale(state, -20, 20);
    }
    return fake_is_ours(u)
               ? special_encs[host_below(state, sizeof special_encs / sizeof(float))]
               : special_amaxes[host_below(state, sizeof special_amaxes / sizeof(float))];
}

/* Whether a block is longer, shorter or the row itself; then its columns are whole ones. */
static void draw_block(fake_case *c, uint64_t *state)
{
    static const float most[] = {448.0f, 256.0f, 0.0f};
    const size_t length = lengths[host_below(state, sizeof lengths / sizeof(size_t))];

    c->fp8_max = most[host_below(state, 3)];
    c->block = length == 0 ? c->cols : length;
    if (c->unit->rule == FP4_FAKE_MODELOPT) {
        c->block = c->is_static ? c->block : dynamic[host_below(state, 4)];
        c->cols = (c->cols + c->block - 1) / c->block * c->block;
    }
}

/* Options for a shape. */
static void draw_options(fake_case *c, uint64_t *state)
{
    static const size_t global_rows[] = {0, 0, 1, 1, 2, 3, 7, 100};
    const size_t in = 16 / host_dtype_bytes(c->unit->input);
    const size_t out = 16 / host_dtype_bytes(c->unit->output), unit = in > out ? in : out;

    c->is_static = (int)host_below(state, 2);
    draw_block(c, state);
    c->x_stride = c->y_stride = c->cols;
    c->in_place = c->unit->input == c->unit->output && host_below(state, 3) == 0;
    c->shift = host_below(state, 4);
    if (fake_is_pieces(c)) {
        const size_t gaps[] = {0, 0, 1, 5, c->cols / 16};
        c->shift *= unit;
        c->x_stride += in * gaps[host_below(state, 5)];
        c->y_stride += out * gaps[host_below(state, 5)];
        c->y_stride = c->in_place ? c->x_stride : c->y_stride;
    }
    c->pdl = (int)host_below(state, 2);
    c->wants_clipped = (int)host_below(state, 2);
    c->on_device = (int)host_below(state, 2);
    c->global_rows = global_rows[host_below(state, 8)];
    c->global = draw_global(c->unit, state);
}

static void run_drawn(const fake_unit *unit, size_t rows, size_t cols, uint64_t *state)
{
    fake_case c = fake_case_of(unit, rows, cols);
    fake_operands o;

    draw_options(&c, state);
    o = fake_operands_random(&c, state);
    fake_run(&c, &o);
    fake_operands_free(o);
}

/* Column counts that are not pieces, for the rules that need none: ModelOpt's with blocks that are
   drawn, 16 where they are not. */
static size_t drawn_cols(fp4_fake_rule rule, size_t block, uint64_t *state)
{
    return rule == FP4_FAKE_CAST ? 1 + host_below(state, 700) : block * (1 + host_below(state, 60));
}

static void run_rule(fp4_fake_rule rule)
{
    const int few = gpu_is_reduced();
    const size_t row_count =
        few ? sizeof few_rows / sizeof(size_t) : sizeof all_rows / sizeof(size_t);
    const size_t block_count =
        few ? sizeof few_blocks / sizeof(size_t) : sizeof all_blocks / sizeof(size_t);

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        const size_t block =
            fake_is_ours(unit) ? fp4_format_block((fp4_format)rule) : FP4_NVFP4_BLOCK;
        uint64_t state = 700 + u;
        for (size_t i = 0; i < row_count * block_count && unit->rule == rule; i++) {
            run_drawn(unit, (few ? few_rows : all_rows)[i / block_count],
                      (few ? few_blocks : all_blocks)[i % block_count] * block, &state);
        }
        for (int i = 0; i < (few ? 12 : 100) && unit->rule == rule; i++) {
            const size_t rows = 1 + host_below(&state, few ? 60 : 400);
            run_drawn(unit, rows, drawn_cols(rule, block, &state), &state);
        }
    }
}

GPU_TEST(fake, nvfp4)
{
    run_rule(FP4_FAKE_NVFP4);
}

GPU_TEST(fake, mxfp4)
{
    run_rule(FP4_FAKE_MXFP4);
}

GPU_TEST(fake, mxfp8)
{
    run_rule(FP4_FAKE_MXFP8);
}

GPU_TEST(fake, nvfp4_32)
{
    run_rule(FP4_FAKE_NVFP4_32);
}

GPU_TEST(fake, mxfp4_16)
{
    run_rule(FP4_FAKE_MXFP4_16);
}

GPU_TEST(fake, modelopt)
{
    run_rule(FP4_FAKE_MODELOPT);
}

GPU_TEST(fake, cast)
{
    run_rule(FP4_FAKE_CAST);
}

/* ---------------------------------------------------------------- one thing at a time */

static uint32_t bits_of_input(const fake_case *c, float x)
{
    return c->unit->input == FP4_F32   ? fp4_f32_bits(x)
           : c->unit->input == FP4_F16 ? fp4_f32_to_f16(x)
                                       : fp4_f32_to_bf16(x);
}

/* Every length with every fp8_max, columns of one block and of many, with bits and without. */
GPU_TEST(fake, modelopt_with_blocks_of_any_length)
{
    static const float most[] = {448.0f, 256.0f, 0.0f};
    uint64_t state = 31;

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        for (size_t i = 0; i < 9 * 3 * 2 && fake_units[u].rule == FP4_FAKE_MODELOPT; i++) {
            fake_case c = fake_case_of(&fake_units[u], 13, 0);
            fake_operands o;
            c.block = lengths[i / 6] == 0 ? 77 : lengths[i / 6];
            c.cols = c.x_stride = c.y_stride = c.block * (lengths[i / 6] == 0 ? 1 : 1 + i % 2 * 6);
            c.is_static = 1;
            c.fp8_max = most[i / 2 % 3];
            c.wants_clipped = i % 4 != 0;
            c.on_device = (int)(i % 2);
            c.global_rows = i % 3;
            o = fake_operands_random(&c, &state);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* Every length whose amax is found, in rows of one block and of many, in CTAs of every width, with
   one row a thread and with several. */
GPU_TEST(fake, modelopt_with_long_blocks_whose_amax_is_found)
{
    static const size_t blocks[] = {1, 2, 3, 5, 9, 17};
    static const size_t rows[] = {1, 37, 200};
    uint64_t state = 34;

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        for (size_t i = 0; i < 4 * 6 * 3 && fake_units[u].rule == FP4_FAKE_MODELOPT; i++) {
            const size_t block = dynamic[i % 4];
            fake_case c = fake_case_of(&fake_units[u], rows[i / 24], block * blocks[i / 4 % 6]);
            fake_operands o;
            c.block = block;
            c.wants_clipped = (int)(i / 4 % 2);
            c.on_device = (int)(i / 24 % 2);
            c.global_rows = 3;
            o = fake_operands_random(&c, &state);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* A row for each place of a block: of its five blocks the first has a number there and else NaN,
   the second a NaN there and else numbers; of the others one is nothing but NaN, of either sign. */
static fake_operands operands_of_nan(const fake_case *c)
{
    const size_t size = host_dtype_bytes(c->unit->input);
    fake_operands o;

    o.x = (uint8_t *)host_zeros(fake_x_bytes(c));
    o.amax = (float *)host_zeros(c->rows * 5 * sizeof(float));
    for (size_t i = 0; i < c->rows * c->cols; i++) {
        const size_t row = i / c->cols, at = i % c->block, b = i % c->cols / c->block;
        const int is_nan = b == 0 ? at != row : b == 1 ? at == row : b - 2 == row % 3;
        const float number = (float)((int)(i % 29) - 14) * 0.25f;
        const uint32_t nan = (i % 3 ? 0x7fc00000u : 0x7fffffffu) | (i % 5 ? 0u : 0x80000000u);
        const uint32_t as = !is_nan                     ? bits_of_input(c, number)
                            : c->unit->input == FP4_F32 ? nan
                                                        : nan >> 16; /* is NaN in either type */
        memcpy(o.x + i * size, &as, size);
    }
    return o;
}

/* Of nothing but NaN ModelOpt's amax is NaN, not 0: a scale of 448 units, if not below 1e-5. */
GPU_TEST(fake, modelopt_blocks_of_nothing_but_nan)
{
    static const float globals[] = {5.0f, 5e-5f, INFINITY};

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        for (size_t i = 0; i < 4 * 3 && fake_units[u].rule == FP4_FAKE_MODELOPT; i++) {
            const size_t block = dynamic[i % 4];
            fake_case c = fake_case_of(&fake_units[u], block, 5 * block);
            fake_operands o;
            c.block = block;
            c.global = globals[i / 4];
            c.wants_clipped = 1;
            o = operands_of_nan(&c);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* Every number at the end of a range, on the host and on the device, amaxes found and given. */
GPU_TEST(fake, globals_at_the_ends_of_their_range)
{
    uint64_t state = 32;

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        const int ours = fake_is_ours(unit);
        const size_t count = (ours ? sizeof special_encs : sizeof special_amaxes) / sizeof(float);
        for (size_t i = 0; i < 4 * count && fake_has_global(unit); i++) {
            fake_case c = fake_case_of(unit, gpu_is_reduced() ? 5 : 9, gpu_is_reduced() ? 64 : 288);
            fake_operands o;
            c.global = (ours ? special_encs : special_amaxes)[i / 4];
            c.is_static = (int)(i % 2);
            c.on_device = (int)(i / 2 % 2);
            c.wants_clipped = 1;
            o = fake_operands_random(&c, &state);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* The amaxes of scales of 0, of the least, of 1, of the largest and beyond, and the largest there
   are; 5 rows of 2 blocks. Elements are parts of them. */
static fake_operands operands_at_the_ends(const fake_case *c)
{
    static const float scales[] = {0x1p-12f, 0x1p-9f, 0x1p-4f, 1.0f,      1.5f,
                                   13.0f,    448.0f,  0x1p20f, 0x1.8p30f, INFINITY};
    const size_t size = host_dtype_bytes(c->unit->input), block = fake_block(c);
    const float most = c->unit->input == FP4_F16 ? 65504.0f : 0x1.fep127f;
    fake_operands o;

    o.x = (uint8_t *)host_zeros(fake_x_bytes(c));
    o.amax = (float *)host_zeros(10 * sizeof(float));
    for (size_t i = 0; i < 10 * block; i++) {
        const float amax = fminf(scales[i / block] * 6.0f / c->global, FP4_F32_MAX);
        const float part = fminf(amax * ((float)(i % 16 + 1) / 16.0f), most);
        const float x = i % 3 == 0 ? -part : part;
        const uint32_t as = bits_of_input(c, x);
        o.amax[i / block] = i / block == 9 ? INFINITY : amax;
        memcpy(o.x + i * size, &as, size);
    }
    return o;
}

/* Every number at the end of a range with every scale at the end of its own, in x that are neither
   all 0 nor all clipped. */
GPU_TEST(fake, scales_at_the_ends_of_their_range)
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        const size_t count = sizeof special_encs / sizeof(float);
        for (size_t i = 0; i < 2 * count && fake_is_ours(unit) && fake_has_global(unit); i++) {
            fake_case c = fake_case_of(unit, 5, 2 * fp4_format_block((fp4_format)unit->rule));
            fake_operands o;
            c.global = special_encs[i / 2];
            c.is_static = (int)(i % 2);
            c.wants_clipped = 1;
            o = operands_at_the_ends(&c);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* x, by so many units in the last place farther from 0. */
static float nudged(float x, int ulps)
{
    return fp4_bits_f32(fp4_f32_bits(x) + (uint32_t)ulps);
}

/* Of each amax two blocks: what is between two codes, and the last code, times the divisor, one
   unit in the last place to either side; the same without, and what is no such number. */
static fake_operands operands_around_codes(const fake_case *c, const float *amaxes)
{
    static const float bounds[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    const float others[] = {0.0f,      -0.0f,     NAN,        -NAN,        INFINITY,
                            -INFINITY, 0x1p-149f, -0x1p-126f, -FP4_F32_MAX};
    const size_t size = host_dtype_bytes(c->unit->input);
    fake_operands o;

    o.x = (uint8_t *)host_zeros(fake_x_bytes(c));
    o.amax = (float *)host_zeros(2 * c->rows * sizeof(float));
    for (size_t i = 0; i < 32 * c->rows; i++) {
        const float amax = amaxes[i / 32], divisor = fp4_modelopt_scale_f32(amax);
        const float bound = fminf(bounds[i % 8] * divisor, FP4_F32_MAX);
        const float x = i % 32 < 16   ? nudged(bound, i % 16 < 8 && bound > 0.0f ? -1 : 1)
                        : i % 32 < 23 ? bound
                                      : others[i % 32 - 23];
        const uint32_t as = bits_of_input(c, i % 3 == 0 ? -x : x);
        o.amax[i / 16] = amax;
        memcpy(o.x + i * size, &as, size);
    }
    return o;
}

/* Scales that are not rounded, so that any number divides: the least, the largest, and those around
   which modelopt.cuh moves it into another range. */
GPU_TEST(fake, modelopt_divisors_at_the_ends_of_their_range)
{
    static const float divisors[] = {0x1p-149f,       0x1.8p-148f, 0x1p-126f,  0x1.8p-96f,
                                     0x1.fffffep-65f, 0x1p-64f,    1e-5f,      1.0f,
                                     0x1.fffffep63f,  0x1p64f,     0x1.4p100f, 0x1.5p125f};
    float amaxes[12 * 5];

    for (size_t i = 0; i < 12 * 5; i++) {
        amaxes[i] = nudged(divisors[i / 5] * 6.0f, (int)(i % 5) - 2);
    }
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        if (fake_units[u].rule == FP4_FAKE_MODELOPT) {
            fake_case c = fake_case_of(&fake_units[u], 12 * 5, 32);
            fake_operands o;
            c.block = 16;
            c.is_static = 1;
            c.fp8_max = 0.0f;
            c.wants_clipped = 1;
            o = operands_around_codes(&c, amaxes);
            fake_run(&c, &o);
            fake_operands_free(o);
        }
    }
}

/* Bits are set where amaxes are too small, and only there: of rows of ones with an amax of 1 none,
   with half of it all; of NaN none, of infinity all. */
GPU_TEST(fake, clipped_bits)
{
    for (size_t u = 0; u < FAKE_UNITS; u++) {
        const fake_unit *unit = &fake_units[u];
        const size_t size = host_dtype_bytes(unit->input);
        const uint32_t values[] = {0x3f800000u, 0x3f800000u, 0x7fc00000u, 0x7f800000u};
        fake_case c = fake_case_of(unit, 4, 64);
        fake_operands o;
        fake_device d;
        uint8_t *bits;

        c.is_static = c.wants_clipped = 1;
        c.global = 1.0f;
        c.fp8_max = 0.0f;
        o.x = (uint8_t *)host_zeros(fake_x_bytes(&c));
        o.amax = (float *)host_zeros(4 * 64 * sizeof(float));
        for (size_t i = 0; i < 4 * 64; i++) {
            const float x = host_bits(values[i / 64]);
            const uint32_t as = unit->input == FP4_F32   ? values[i / 64]
                                : unit->input == FP4_F16 ? fp4_f32_to_f16(x)
                                                         : fp4_f32_to_bf16(x);
            memcpy(o.x + i * size, &as, size);
        }
        for (size_t i = 0; i < 4 * 64 / fake_block(&c); i++) {
            o.amax[i] = i * fake_block(&c) / 64 == 1 ? 0.25f : 1.0f;
        }
        d = fake_device_new(&c, &o);
        gpu_poison(d.clipped, 0x7f);
        GPU_OK(unit->launch(&d.args, 0, 0));
        gpu_finish(unit->name);
        bits = (uint8_t *)gpu_copy_of(d.clipped);
        for (size_t i = 0; i < 4 * 8; i++) {
            const int is_cast = unit->rule == FP4_FAKE_CAST;
            const unsigned all = i / 8 == 3 || (i / 8 == 1 && !is_cast) ? 0xffu : 0u;
            CHECK_EQ(bits[i], all, "%s, byte %zu of bits", unit->name, i);
        }
        free(bits);
        fake_device_free(d);
        fake_operands_free(o);
    }
}

/* ---------------------------------------------------------------- there and back at once */

/* The bytes of 01_quantize dequantized by 06_dequantize, all on the device; of the formats that 01
   does not know, those of the host. */
static void there_and_back(const fake_unit *unit, fp4_layout layout, uint64_t *state)
{
    const fp4_format format = (fp4_format)unit->rule;
    fake_case f = fake_case_of(unit, 133, 288);
    gpu_case c = case_of(unit->input, format, layout, 133, 288);
    back_case b = back_case_of(back_unit_of(format, unit->output), layout, 133, 288);
    const fake_operands o = fake_operands_random(&f, state);
    const fake_device d = fake_device_new(&f, &o);
    const int is_on_device = format <= FP4_MXFP8;
    case_device there;
    back_input in;
    back_device back;
    uint8_t *y;

    c.scale = f.global;
    there = case_device_new(&c, o.x);
    in.q = (uint8_t *)host_zeros(case_q_bytes(&c));
    in.sf = (uint8_t *)host_zeros(case_sf_bytes(&c));
    if (!is_on_device) {
        case_expected(&c, o.x, 0, in.q, in.sf);
    }
    back = back_device_new(&b, &in);
    back.args.global.value = c.scale;
    back.args.global.is_dec = 0;
    if (is_on_device) {
        back.args.q = there.q.bytes;
        back.args.sf = there.sf.bytes;
        GPU_OK(case_launcher(&c)(&there.args, 0, 0));
    }
    GPU_OK(b.unit->launch(&back.args, 0, 0));
    GPU_OK(unit->launch(&d.args, 0, 0));
    gpu_finish(unit->name);
    y = (uint8_t *)gpu_copy_of(back.y);
    elements_expect_buffer(d.y, y, unit->output, unit->name, 0);
    free(y);
    case_device_free(there);
    back_device_free(back);
    fake_device_free(d);
    back_input_free(in);
    fake_operands_free(o);
}

GPU_TEST(fake, is_quantize_and_dequantize)
{
    uint64_t state = 33;

    for (size_t u = 0; u < FAKE_UNITS; u++) {
        for (int layout = 0; layout < 3 && fake_is_ours(&fake_units[u]); layout++) {
            there_and_back(&fake_units[u], (fp4_layout)layout, &state);
        }
    }
}

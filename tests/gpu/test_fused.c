/*
 * tests/gpu/test_fused.c - the launchers of the fused examples: every input type, format,
 * operation and layout, over a grid of shapes.
 *
 * What else can be asked for is drawn at random for every shape, from a fixed seed, so that over
 * the shapes of one launcher each value of each option comes up many times.
 */
#include "fused.h"

enum { RANDOM_CASES = 30, WIDE = 16384 };

static const size_t all_rows[] = {0, 1, 3, 128, 129, 257, 4096};
/* Rows of more than 8192 columns are never few, unless gated or in parts. Blocks of 32 do not fit
   80 columns. What is wider than 16384 is read twice. */
static const size_t all_cols[] = {64,   80,   96,   384,  1536,  2048, 4096,
                                  5120, 7168, 8192, WIDE, 32768, 65536};
enum { ROWS = sizeof all_rows / sizeof(size_t), COLS = sizeof all_cols / sizeof(size_t) };

/* Where tests are slow. */
static int is_too_large(size_t rows, size_t cols)
{
    return gpu_is_reduced() && rows * cols > (rows == 1 ? 32768 : 12500);
}

static void run_drawn(fused_case c, const fused_pool *pool, uint64_t *state)
{
    fused_operands o;

    fused_draw_options(&c, state);
    o = fused_operands_of_pool(&c, pool, state);
    fused_run(&c, &o);
    fused_operands_free(o);
}

/* Without options: one scale, or one a token. */
static void run_plain(fused_case c, const fused_pool *pool, int per_token, uint64_t *state)
{
    fused_operands o;

    c.per_token = per_token;
    c.scale = per_token ? 1.0f / 2688.0f : host_random_scale(state, 4, 10);
    o = fused_operands_of_pool(&c, pool, state);
    fused_run(&c, &o);
    fused_operands_free(o);
}

/* Few rows for which launchers have kernels that know how long they are, or that they fill a CTA,
   and ragged ones; where tests are slow, one of these lengths and layouts of each launcher. */
static void run_few(const fused_unit *u, const fused_pool *pool, uint64_t *state)
{
    static const size_t cols[] = {4096, 8192, 5120, 2880, 1536};
    const int at = gpu_is_reduced() ? (int)(u - fused_units) : 0;

    const int lengths = gpu_is_reduced() ? 4 : 5;

    for (int i = 0; i < (gpu_is_reduced() ? 1 : 3 * lengths); i++) {
        for (int per_token = 0; per_token <= fp4_format_is_nvfp4(u->format); per_token++) {
            if (u->op != FUSED_token || per_token) {
                const int which = i / lengths + at / lengths + per_token;
                run_plain(fused_case_of(u, (fp4_layout)(which % 3), 2, cols[(i + at) % lengths]),
                          pool, per_token, state);
            }
        }
    }
}

/* Still fewer, in parts; where tests are slow, one of these lengths and layouts of each launcher.
 */
static void run_parts(const fused_unit *u, const fused_pool *pool)
{
    static const size_t cols[] = {4096, 2048, 8192, 10240, WIDE};
    uint64_t state = 11 + (uint64_t)(u - fused_units);
    const int at = gpu_is_reduced() ? (int)(u - fused_units) : 0;

    for (int i = 0; i < (gpu_is_reduced() ? 1 : 15) && fused_is_norm(u); i++) {
        const size_t wide = cols[(i + at) % (gpu_is_reduced() ? 2 : 5)];
        fused_case c = fused_case_of(u, (fp4_layout)((i / 5 + at / 2) % 3), 3, wide);
        c.few = 2;
        run_plain(c, pool, 0, &state);
    }
}

/* Linear scales that are off the alignment of words, of rows whose launchers have kernels for few,
   for short and for others; where tests are slow, one of these lengths of each launcher. */
static void run_unaligned(const fused_unit *u, const fused_pool *pool)
{
    static const size_t cols[] = {512, 4096, 2560, 480};
    const int at = gpu_is_reduced() ? (int)(u - fused_units) : 0;
    uint64_t state = 5 + (uint64_t)(u - fused_units);

    for (int i = 0; i < (gpu_is_reduced() ? 1 : 4); i++) {
        for (int few = 0; few < 2; few++) {
            const int per_token =
                u->op == FUSED_token || (fp4_format_is_nvfp4(u->format) && (i + at / 4 + few) % 2);
            fused_case c = fused_case_of(u, FP4_LAYOUT_LINEAR, 3, cols[(i + at) % 4]);
            c.few = few;
            c.shifts = (1 + host_below(&state, 3)) << 2 * FUSED_SF;
            run_plain(c, pool, per_token, &state);
        }
    }
}

/* Rows of these lengths that a CTA takes side by side; some of the four are padding. */
static void run_beside(const fused_unit *u, const fused_pool *pool, uint64_t *state)
{
    static const size_t cols[] = {2048, 4096, 1920, 3584, 896, 480, 2560};
    const int is_reduced = gpu_is_reduced();

    for (int i = 0; i < (is_reduced ? 6 : 14) && u->op == FUSED_token; i++) {
        const int is_128x4 = is_reduced ? i < 2 : i % 2;
        fused_case c = fused_case_of(u, is_128x4 ? FP4_LAYOUT_128X4 : FP4_LAYOUT_8X4, 37,
                                     cols[is_reduced ? i : i / 2]);
        if (is_reduced) {
            c.rows = is_128x4 ? 34 : 5;
        }
        c.few = 0;
        run_plain(c, pool, 1, state);
    }
}

/* Rows for which launchers have kernels that take no options: more than a few, of one turn, of each
   cut of row.h, with all pieces there and with the last of some threads lacking. In each layout,
   with one scale and with a scale a token; in tiled layouts with one row a CTA or four, all of them
   or but for the last rows, by turns (reduced: all of them only where there are few rows); gate and
   up interleaved, too. */
static void run_full(const fused_unit *u, const fused_pool *pool, uint64_t *state)
{
    static const size_t cols[] = {1536, 10240, 11008, WIDE, 2560, 1920,  2848, 480,
                                  896,  2048,  512,   1024, 2880, 3584,  4096, 4480,
                                  4608, 5120,  7168,  8192, 9600, 13312, 15360};
    const int is_reduced = gpu_is_reduced();
    const size_t shapes = !is_reduced ? sizeof cols / sizeof cols[0] : fused_is_gated(u) ? 10 : 9;
    /* where tests are slow, one layout of a launcher, but each of a few of them */
    const int at = is_reduced ? (int)u->format + (int)u->dtype + (int)u->op : 0;

    for (size_t i = 0; i < shapes; i++) {
        const int is_short = is_reduced && i >= 1 && i <= 8;
        const int is_third = fused_is_gated(u) && i == 2; /* a team has three rows */
        for (int layout = 0; layout < (is_reduced ? 1 : 3); layout++) {
            for (int per_token = 0; per_token <= fp4_format_is_nvfp4(u->format); per_token++) {
                fused_case c =
                    fused_case_of(u, (fp4_layout)((layout + per_token + at) % 3), 257, cols[i]);

                if (u->op == FUSED_token && !per_token) {
                    continue;
                }
                c.four_rows = is_reduced ? at / 3 % 2 * 2 : ((int)i + layout + per_token) % 3;
                if (is_short) { /* a CTA of some warps: 8x4 has four rows of these side by side */
                    c = fused_case_of(u, FP4_LAYOUT_8X4, is_third ? 13 : 5, cols[i]);
                    c.few = 0;
                    c.shifts = i == 1 ? host_random(state) & 0xfffffu : 0;
                }
                c.interleaved = fused_is_gated(u) && host_below(state, 2);
                run_plain(c, pool, per_token, state);
            }
        }
    }
}

/* The grid of one launcher: narrow rows in each layout, wide ones and many in one. */
static void run_grid(const fused_unit *u, const fused_pool *pool)
{
    const size_t block = fp4_format_block(u->format);
    uint64_t state = (uint64_t)(1000 * (int)u->op + 100 * (int)u->dtype + (int)u->format);

    for (size_t i = 0; i < ROWS; i++) {
        for (size_t j = 0; j < COLS; j++) {
            const size_t rows = all_rows[i], cols = all_cols[j];
            const int one = gpu_is_reduced() || rows > 129 || cols > WIDE;
            if (cols % block != 0 || is_too_large(rows, cols)) {
                continue;
            }
            for (size_t layout = 0; layout < (one ? 1 : 3); layout++) {
                const size_t which = one ? i + j + (size_t)u->format + (size_t)u->op : layout;
                run_drawn(fused_case_of(u, (fp4_layout)(which % 3), rows, cols), pool, &state);
            }
        }
    }
    run_few(u, pool, &state);
    run_parts(u, pool);
    run_unaligned(u, pool);
    run_beside(u, pool, &state);
    run_full(u, pool, &state);
    for (int i = 0; i < (gpu_is_reduced() ? 3 : RANDOM_CASES); i++) {
        const size_t most = gpu_is_reduced() ? 20 : 400;
        const size_t rows = 1 + host_below(&state, (uint32_t)most);
        const size_t cols = block * (1 + host_below(&state, (uint32_t)most / 2));
        run_drawn(fused_case_of(u, (fp4_layout)(i % 3), rows, cols), pool, &state);
    }
}

static void run_shapes(fp4_dtype dtype, fused_op op)
{
    const fused_pool pool = fused_pool_new(dtype);
    size_t launchers = 0;

    for (size_t i = 0; i < FUSED_UNITS; i++) {
        if (fused_units[i].dtype == dtype && fused_units[i].op == op) {
            run_grid(&fused_units[i], &pool);
            launchers++;
        }
    }
    CHECK(launchers > 0, "operation %d: no launcher", (int)op);
    fused_pool_free(pool);
}

#define SHAPES(suite, name, dtype, op) \
    Test(suite, name, .init = gpu_begin, .timeout = 300) \
    { \
        run_shapes(dtype, op); \
    }

SHAPES(launch_norm, rmsnorm_of_f32, FP4_F32, FUSED_rmsnorm)
SHAPES(launch_norm, rmsnorm_of_f16, FP4_F16, FUSED_rmsnorm)
SHAPES(launch_norm, rmsnorm_of_bf16, FP4_BF16, FUSED_rmsnorm)
SHAPES(launch_norm, add_rmsnorm_of_f32, FP4_F32, FUSED_add_rmsnorm)
SHAPES(launch_norm, add_rmsnorm_of_f16, FP4_F16, FUSED_add_rmsnorm)
SHAPES(launch_norm, add_rmsnorm_of_bf16, FP4_BF16, FUSED_add_rmsnorm)
SHAPES(launch_norm, layernorm_of_f32, FP4_F32, FUSED_layernorm)
SHAPES(launch_norm, layernorm_of_f16, FP4_F16, FUSED_layernorm)
SHAPES(launch_norm, layernorm_of_bf16, FP4_BF16, FUSED_layernorm)
SHAPES(launch_gated, silu_of_f32, FP4_F32, FUSED_silu)
SHAPES(launch_gated, silu_of_f16, FP4_F16, FUSED_silu)
SHAPES(launch_gated, silu_of_bf16, FP4_BF16, FUSED_silu)
SHAPES(launch_gated, gelu_tanh_of_f32, FP4_F32, FUSED_gelu_tanh)
SHAPES(launch_gated, gelu_tanh_of_f16, FP4_F16, FUSED_gelu_tanh)
SHAPES(launch_gated, gelu_tanh_of_bf16, FP4_BF16, FUSED_gelu_tanh)
SHAPES(launch_gated, swiglu_oai_of_f32, FP4_F32, FUSED_swiglu_oai)
SHAPES(launch_gated, swiglu_oai_of_f16, FP4_F16, FUSED_swiglu_oai)
SHAPES(launch_gated, swiglu_oai_of_bf16, FP4_BF16, FUSED_swiglu_oai)
SHAPES(launch_token, f32, FP4_F32, FUSED_token)
SHAPES(launch_token, f16, FP4_F16, FUSED_token)
SHAPES(launch_token, bf16, FP4_BF16, FUSED_token)

/* ---------------------------------------------------------------- two kernels in one */

/* `rounded` is the operation and the quantizer one after the other: what comes out is what the
   quantizer makes of the y that comes out. */
static void run_pair(const fused_unit *u, const fused_pool *pool, size_t cols, int per_token)
{
    fused_case c = fused_case_of(u, (fp4_layout)(cols % 3), 5, cols);
    const size_t q_bytes = fused_bytes(&c, FUSED_Q), sf_bytes = fused_bytes(&c, FUSED_SF);
    uint8_t *expected_q = (uint8_t *)host_zeros(q_bytes), *q;
    uint8_t *expected_sf = (uint8_t *)host_zeros(sf_bytes), *sf, *y;
    fp4_tensor t = fp4_tensor_view(u->format, c.layout, c.rows, cols, expected_q, q_bytes,
                                   expected_sf, sf_bytes);
    uint64_t state = cols + (uint64_t)u->format;
    fused_operands o;
    fused_device d;
    fp4_matrix m;
    float row_dec[5], *token_dec;

    c.rounded = c.has_y = 1;
    c.per_token = per_token;
    c.scale = per_token ? 1.0f / 2688.0f : host_random_scale(&state, 4, 10);
    o = fused_operands_of_pool(&c, pool, &state);
    d = fused_device_new(&c, &o);
    fused_poison(&d, 0x7f);
    fused_launch(&c, &d.args, 0);
    q = (uint8_t *)gpu_copy_of(d.b[FUSED_Q]);
    sf = (uint8_t *)gpu_copy_of(d.b[FUSED_SF]);
    y = (uint8_t *)gpu_copy_of(d.b[FUSED_Y]);
    m = fused_matrix(&c, y, c.rows, cols, cols);
    if (per_token) {
        t.row_dec = row_dec;
        t.row_dec_bytes = sizeof row_dec;
        cr_assert(fp4_ref_nvfp4_quantize_tokens(m, c.scale, &t) == FP4_OK);
        token_dec = (float *)gpu_copy_of(d.b[FUSED_TOKEN_DEC]);
        host_expect_bytes((const uint8_t *)token_dec, (const uint8_t *)row_dec, sizeof row_dec,
                          fused_text(&c));
        free(token_dec);
    } else if (fp4_format_is_nvfp4(u->format)) {
        cr_assert(fp4_ref_nvfp4_quantize(m, c.scale, &t) == FP4_OK);
    } else if (u->format == FP4_MXFP8) {
        cr_assert(fp4_ref_mxfp8_quantize(m, &t) == FP4_OK);
    } else {
        cr_assert(fp4_ref_mxfp4_quantize(m, &t) == FP4_OK);
    }
    fused_expect_codes(&c, q, sf, expected_q, expected_sf, "y quantized");
    free(q);
    free(sf);
    free(y);
    free(expected_q);
    free(expected_sf);
    fused_device_free(d);
    fused_operands_free(o);
}

static void run_pairs(int is_norm)
{
    static const size_t cols[] = {96, 2048, 5120};

    for (int dtype = FP4_F32; dtype <= FP4_BF16; dtype++) {
        const fused_pool pool = fused_pool_new((fp4_dtype)dtype);
        for (size_t i = 0; i < FUSED_UNITS; i++) {
            const fused_unit *u = &fused_units[i];
            if (u->dtype != (fp4_dtype)dtype ||
                (is_norm ? !fused_is_norm(u) : !fused_is_gated(u))) {
                continue;
            }
            for (size_t j = 0; j < (gpu_is_reduced() ? 2 : 3); j++) {
                run_pair(u, &pool, cols[j], 0);
                if (fp4_format_is_nvfp4(u->format)) {
                    run_pair(u, &pool, cols[j], 1);
                }
            }
        }
        fused_pool_free(pool);
    }
}

GPU_TEST(launch_norm, rounded_is_what_two_kernels_do)
{
    run_pairs(1);
}

GPU_TEST(launch_gated, rounded_is_what_two_kernels_do)
{
    run_pairs(0);
}

/* ---------------------------------------------------------------- whatever the launch */

/* What a launch has left of one row. */
typedef struct row_bytes {
    uint8_t *of[FUSED_BUFFERS];
} row_bytes;

static row_bytes row_of(const fused_case *c, const fused_device *d, size_t row)
{
    row_bytes r;

    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        const size_t n = fused_row_bytes(c, (fused_buffer)i);
        const size_t at = row * fused_row_stride(c, (fused_buffer)i);
        r.of[i] = (uint8_t *)host_zeros(n);
        if (i != FUSED_SF && fused_has(c, (fused_buffer)i)) {
            GPU_OK(cudaMemcpy(r.of[i], d->b[i].bytes + at, n, cudaMemcpyDeviceToHost));
        }
    }
    return r;
}

static void row_free(row_bytes r)
{
    for (int i = FUSED_RESIDUAL; i < FUSED_GLOBAL; i++) {
        free(r.of[i]);
    }
}

/* Row 100 of 129, then alone, in each layout, dependent and not. The call writes sf_linear too,
   so that its scales can be compared in all layouts. */
static void run_alone(const fused_unit *u, const fused_pool *pool, size_t cols, int per_token)
{
    enum { ROW = 100 };
    fused_case c = fused_case_of(u, (fp4_layout)(cols % 3), 129, cols);
    const size_t size = host_dtype_bytes(u->dtype);
    uint64_t state = cols + 7 * (uint64_t)u->op;
    fused_operands o;
    fused_device d;
    row_bytes among;

    c.has_sf_linear = 1;
    c.has_y = u->op != FUSED_token;
    c.per_token = per_token;
    c.scale = per_token ? 1.0f / 2688.0f : 448.0f;
    c.few = 0;
    o = fused_operands_of_pool(&c, pool, &state);
    d = fused_device_new(&c, &o);
    fused_launch(&c, &d.args, 0);
    among = row_of(&c, &d, ROW);
    d.args.few = 1;
    d.args.rows = 1;
    d.args.x = d.b[FUSED_X].bytes + ROW * c.x_stride * size;
    for (int i = 0; i < 6; i++) {
        row_bytes alone;
        if (fused_has(&c, FUSED_RESIDUAL)) {
            GPU_OK(cudaMemcpy(d.b[FUSED_RESIDUAL].bytes,
                              o.in[FUSED_RESIDUAL] + ROW * c.residual_stride * size, cols * size,
                              cudaMemcpyHostToDevice));
        }
        fused_poison(&d, 0x7f);
        d.args.layout = i % 3;
        fused_launch(&c, &d.args, i / 3);
        alone = row_of(&c, &d, 0);
        for (int j = FUSED_RESIDUAL; j < FUSED_GLOBAL; j++) {
            CHECK(memcmp(alone.of[j], among.of[j], fused_row_bytes(&c, (fused_buffer)j)) == 0,
                  "%s: alone in layout %d, pdl %d, %s is another", fused_text(&c), i % 3, i / 3,
                  fused_buffer_name[j]);
        }
        row_free(alone);
    }
    row_free(among);
    fused_operands_free(o);
    fused_device_free(d);
}

static void run_all_alone(fused_op first, fused_op last)
{
    static const size_t cols[] = {96, 2048, 8192, 32768};
    const fused_pool pools[] = {fused_pool_new(FP4_F32), fused_pool_new(FP4_F16),
                                fused_pool_new(FP4_BF16)};

    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        const int is_nvfp4 = fp4_format_is_nvfp4(u->format);
        for (size_t j = 0; j < (gpu_is_reduced() ? 1 : 4); j++) {
            if (u->op >= first && u->op <= last) {
                run_alone(u, &pools[u->dtype], cols[j],
                          u->op == FUSED_token || (is_nvfp4 && (i + j) % 2));
            }
        }
    }
    for (int i = 0; i < 3; i++) {
        fused_pool_free(pools[i]);
    }
}

GPU_TEST(launch_norm, a_row_is_the_same_in_every_launch)
{
    run_all_alone(FUSED_rmsnorm, FUSED_layernorm);
}

GPU_TEST(launch_gated, a_row_is_the_same_in_every_launch)
{
    run_all_alone(FUSED_silu, FUSED_gelu_tanh);
    run_all_alone(FUSED_swiglu_oai, FUSED_swiglu_oai);
}

GPU_TEST(launch_token, a_row_is_the_same_in_every_launch)
{
    run_all_alone(FUSED_token, FUSED_token);
}

/*
 * tests/gpu/test_fused_values.c - the fused launchers on values that have gone wrong somewhere, or
 * could: in whole rows, and block by block.
 *
 * A norm mixes a row: what is strange there makes all of it strange. Blocks of a norm get strange
 * by its weight and its bias, which are given as they are wanted; those of a gated operation by
 * `up`.
 */
#include "fused.h"
#include "values.h"

/* The smallest global scale whose reciprocal is finite, in both directions. */
#define SMALLEST_SCALE 0x1.000008p-128f

/* 257 rows of 2048 columns, more than a few, fill a warp's places; those of 1056 leave a turn
   unfinished. */
enum { MANY = 257, FULL = 2048, RAGGED = 1056 };

static void put(const fused_case *c, uint8_t *row, size_t col, float x)
{
    const size_t size = host_dtype_bytes(c->unit->dtype);
    const uint32_t bits = values_bits(c->unit->dtype, x);

    memcpy(row + col * size, &bits, size);
}

/* ---------------------------------------------------------------- rows */

/* A largest and a smallest value of the type. */
static float largest_of(fp4_dtype dtype)
{
    return dtype == FP4_F16 ? 65504.0f : dtype == FP4_BF16 ? 0x1.fep127f : FP4_F32_MAX;
}

static float smallest_of(fp4_dtype dtype)
{
    return dtype == FP4_F16 ? 0x1p-24f : dtype == FP4_BF16 ? 0x1p-133f : 0x1p-149f;
}

/* What rows hold. */
typedef enum row_kind {
    ROW_ZEROS,
    ROW_MINUS_ZEROS,
    ROW_BOTH_ZEROS,
    ROW_SUBNORMALS,
    ROW_SUBNORMALS_AMONG_ZEROS,
    ROW_HUGE, /* the sum of squares overflows */
    ROW_HUGE_ALTERNATING,
    ROW_ONE_HUGE,
    ROW_ROOT_OF_HUGE, /* it just does, or just does not */
    ROW_TINY_SQUARES, /* it underflows */
    ROW_ONE_NAN,
    ROW_NANS,
    ROW_ONE_INFINITY,
    ROW_BOTH_INFINITIES,
    ROW_INFINITY_AND_NAN,
    ROW_CONSTANT, /* no variance */
    ROW_OUTLIER,  /* all other blocks underflow */
    ROW_RAMP,
    ROW_WIDE,
    ROW_SMALL, /* less than what threads work on that have no piece of it */
    ROW_KINDS
} row_kind;

static float row_value(row_kind kind, fp4_dtype dtype, size_t col, uint64_t *state)
{
    const float largest = largest_of(dtype), smallest = smallest_of(dtype);
    const float ordinary = host_random_scale(state, -3, 2) * (host_below(state, 2) ? 1.0f : -1.0f);
    const int here = col % 337 == 200;

    switch (kind) {
    case ROW_ZEROS:
        return 0.0f;
    case ROW_MINUS_ZEROS:
        return -0.0f;
    case ROW_BOTH_ZEROS:
        return host_below(state, 2) ? 0.0f : -0.0f;
    case ROW_SUBNORMALS:
        return host_mul(smallest, (float)(int)(1 + host_below(state, 100)) - 50.0f);
    case ROW_SUBNORMALS_AMONG_ZEROS:
        return here ? -smallest : 0.0f;
    case ROW_HUGE:
        return largest;
    case ROW_HUGE_ALTERNATING:
        return col % 2 ? -largest : largest;
    case ROW_ONE_HUGE:
        return col == 200 ? largest : ordinary;
    case ROW_ROOT_OF_HUGE:
        return host_below(state, 2) ? 0x1p58f : 0x1.8p58f;
    case ROW_TINY_SQUARES:
        return host_mul(ordinary, 0x1p-75f);
    case ROW_ONE_NAN:
        return col == 200 ? NAN : ordinary;
    case ROW_NANS:
        return NAN;
    case ROW_ONE_INFINITY:
        return col == 200 ? -INFINITY : ordinary;
    case ROW_BOTH_INFINITIES:
        return here ? (col % 2 ? INFINITY : -INFINITY) : ordinary;
    case ROW_INFINITY_AND_NAN:
        return here ? INFINITY : col == 333 ? NAN : ordinary;
    case ROW_CONSTANT:
        return 0.75f;
    case ROW_OUTLIER:
        return col == 200 ? 30000.0f : host_mul(ordinary, 0x1p-10f);
    case ROW_RAMP:
        return (float)(int)col - 700.0f;
    case ROW_WIDE:
        return host_random_scale(state, -20, 14);
    case ROW_SMALL:
        return host_mul(ordinary, 0x1p-6f);
    case ROW_KINDS:
        break;
    }
    return ordinary;
}

/* x: a row of each kind. In a residual, and in the second half of a gated row, the kinds come in
   another order, so that many meet. */
static void fill_rows(const fused_case *c, fused_operands *o)
{
    uint64_t state = c->cols;

    for (size_t row = 0; row < fused_own_rows(c); row++) {
        const row_kind kind = (row_kind)(row % ROW_KINDS);
        const row_kind other = (row_kind)(row * 7 % ROW_KINDS);
        const size_t width = fused_x_cols(c);
        for (size_t col = 0; col < width; col++) {
            const int is_second = c->interleaved ? col % 2 == 1 : col >= c->cols;
            put(c, o->in[FUSED_X] + row * fused_row_stride(c, FUSED_X), col,
                row_value(is_second ? other : kind, c->unit->dtype, col, &state));
        }
        for (size_t col = 0; col < c->cols && fused_has(c, FUSED_RESIDUAL); col++) {
            put(c, o->in[FUSED_RESIDUAL] + row * fused_row_stride(c, FUSED_RESIDUAL), col,
                row_value(row % 2 ? other : ROW_BOTH_ZEROS, c->unit->dtype, col, &state));
        }
    }
    for (size_t col = 0; col < c->cols && fused_is_norm(c->unit); col++) {
        put(c, o->in[FUSED_WEIGHT], col, row_value(ROW_KINDS, c->unit->dtype, col, &state));
        if (fused_has(c, FUSED_BIAS)) {
            put(c, o->in[FUSED_BIAS], col, row_value(ROW_KINDS, c->unit->dtype, col, &state));
        }
    }
}

/* ---------------------------------------------------------------- blocks */

/* Columns that a list of blocks takes from block `first` on. */
static float listed(const values_list *list, size_t first, size_t col)
{
    return list->x[(first * VALUES_BLOCK + col) % (list->blocks * VALUES_BLOCK)];
}

/* Ordinary rows, and strange blocks by what surrounds them. */
static void fill_blocks(const fused_case *c, fused_operands *o, const values_list *list)
{
    static const float gates[] = {64.0f, 100.0f, 1.0f, -1.0f, 0.0f};
    const size_t blocks = c->cols / VALUES_BLOCK;
    uint64_t state = c->cols;

    for (size_t row = 0; row < c->rows; row++) {
        uint8_t *x = o->in[FUSED_X] + row * fused_row_stride(c, FUSED_X);
        for (size_t col = 0; col < c->cols; col++) {
            const float value = listed(list, row * blocks, col);
            if (fused_is_gated(c->unit)) {
                /* gates that leave `up` nearly as it is, for the second of which the fast way does
                   not do, that are 0, and any other */
                const size_t kind = (row + col / VALUES_BLOCK) % 6;
                const float gate = kind == 5 ? listed(list, row * blocks + 1, col) : gates[kind];
                put(c, x, c->interleaved ? 2 * col : col, gate);
                put(c, x, c->interleaved ? 2 * col + 1 : c->cols + col, value);
            } else if (c->unit->op == FUSED_token) {
                put(c, x, col, value);
            } else {
                put(c, x, col, row_value(ROW_KINDS, c->unit->dtype, col, &state));
            }
        }
    }
    for (size_t col = 0; col < c->cols && fused_is_norm(c->unit); col++) {
        /* of LayerNorm the bias alone, where the weight is 0 */
        const int is_bias = fused_has(c, FUSED_BIAS) && col / VALUES_BLOCK % 4 != 0;
        put(c, o->in[FUSED_WEIGHT], col, is_bias ? 0.0f : listed(list, 0, col));
        if (fused_has(c, FUSED_BIAS)) {
            put(c, o->in[FUSED_BIAS], col, is_bias ? listed(list, 0, col) : 0.0f);
        }
    }
}

/* ---------------------------------------------------------------- runs */

/* The operands of a case, with gate and up side by side and interleaved. */
typedef struct two_operands {
    fused_operands of[2];
} two_operands;

/* Rows of all kinds, or, where there is a list, ordinary ones with its blocks. */
static two_operands two_operands_new(fused_case c, const values_list *list)
{
    two_operands two;

    for (int i = 0; i < 2; i++) {
        c.interleaved = i;
        two.of[i] = fused_operands_new(&c);
        if (list != NULL) {
            fill_blocks(&c, &two.of[i], list);
        } else {
            fill_rows(&c, &two.of[i]);
        }
    }
    return two;
}

/* A case's two variants; what else is asked for differs from call to call. */
static void run_variants(fused_case c, const two_operands *two, unsigned *turn)
{
    const int is_token = c.unit->op == FUSED_token;

    for (int rounded = 0; rounded < (is_token ? 1 : 2); rounded++) {
        const unsigned t = (*turn)++;
        c.rounded = rounded;
        c.layout = (fp4_layout)(t % 3);
        c.four_rows = 1 + (int)(t / 3 % 2);
        c.has_y = !is_token && t % 5 < 2;
        c.has_sf_linear = t % 7 < 2;
        c.interleaved = fused_is_gated(c.unit) && t % 4 < 2;
        c.on_device = t % 9 < 4;
        fused_run(&c, &two->of[c.interleaved]);
    }
}

/* With scales that are extreme: blocks saturate, blocks underflow. */
static void run_scales(fused_case c, const values_list *list, unsigned *turn)
{
    static const struct {
        float scale;
        int is_dec;
    } scales[] = {{448.0f, 0},         {0x1p-100f, 0},      {0x1p100f, 0},  {0x1p-100f, 1},
                  {0x1p20f, 1},        {SMALLEST_SCALE, 0}, {0x1p-126f, 1}, {0x1p126f, 0},
                  {FP4_F32_MAX, 0},    {0x1p127f, 1},       {0x1p-60f, 0},  {0x1p60f, 0},
                  {SMALLEST_SCALE, 1}, {2688.0f, 0}};
    const int is_nvfp4 = fp4_format_is_nvfp4(c.unit->format);
    const size_t all = sizeof scales / sizeof scales[0];
    const size_t count = !is_nvfp4 ? 1 : gpu_is_reduced() ? 3 : all;
    two_operands two = two_operands_new(c, list);

    for (size_t i = 0; i < count; i++) {
        c.scale = scales[i].scale;
        c.is_dec = scales[i].is_dec;
        c.per_token = 0;
        if (c.unit->op != FUSED_token) {
            run_variants(c, &two, turn);
        }
        if (is_nvfp4) {
            c.scale = i == 0 ? 1.0f / 2688.0f : scales[i].scale;
            c.per_token = 1;
            run_variants(c, &two, turn);
        }
    }
    fused_operands_free(two.of[0]);
    fused_operands_free(two.of[1]);
}

/* Rows of all kinds in two widths, and the list: along a norm's weight, from row to row
   elsewhere. */
static void run_unit(const fused_unit *u, const values_list *list, unsigned *turn)
{
    const size_t n = list->blocks * VALUES_BLOCK, ragged = gpu_is_reduced() ? 352 : RAGGED;
    const size_t rows = ROW_KINDS + 1, list_rows = fused_is_norm(u) ? 2 : (n + ragged - 1) / ragged;
    const size_t list_cols = fused_is_norm(u) ? n : ragged;
    fused_case c = fused_case_of(u, FP4_LAYOUT_LINEAR, list_rows, list_cols);

    c.period = c.rows;
    run_scales(c, list, turn);
    c = fused_case_of(u, FP4_LAYOUT_LINEAR, rows, ragged);
    run_scales(c, NULL, turn);
    c.few = 0; /* by the kernels for many rows */
    run_scales(c, NULL, turn);
    if (!gpu_is_reduced()) {
        c = fused_case_of(u, FP4_LAYOUT_LINEAR, MANY, FULL);
        c.period = rows;
        run_scales(c, NULL, turn);
    }
    if (fused_is_norm(u)) { /* in parts */
        c = fused_case_of(u, FP4_LAYOUT_LINEAR, rows, FULL);
        c.few = 2;
        run_scales(c, NULL, turn);
    }
}

static void run_values(fused_op first, fused_op last, fp4_dtype dtype)
{
    values_list list = values_all();
    unsigned turn = 0;

    if (gpu_is_reduced()) {
        values_reduce(&list, 66);
    }
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        if (u->op >= first && u->op <= last && u->dtype == dtype) {
            run_unit(u, &list, &turn);
        }
    }
    cr_assert(turn > 0, "no launcher");
    free(list.x);
}

#define VALUES(suite, name, first, last, dtype) \
    Test(suite, name, .init = gpu_begin, .timeout = 300) \
    { \
        run_values(first, last, dtype); \
    }

VALUES(launch_norm, values_of_f32, FUSED_rmsnorm, FUSED_layernorm, FP4_F32)
VALUES(launch_norm, values_of_f16, FUSED_rmsnorm, FUSED_layernorm, FP4_F16)
VALUES(launch_norm, values_of_bf16, FUSED_rmsnorm, FUSED_layernorm, FP4_BF16)
VALUES(launch_gated, values_of_f32, FUSED_silu, FUSED_gelu_tanh, FP4_F32)
VALUES(launch_gated, swiglu_oai_values_of_f32, FUSED_swiglu_oai, FUSED_swiglu_oai, FP4_F32)
VALUES(launch_gated, values_of_f16, FUSED_silu, FUSED_gelu_tanh, FP4_F16)
VALUES(launch_gated, swiglu_oai_values_of_f16, FUSED_swiglu_oai, FUSED_swiglu_oai, FP4_F16)
VALUES(launch_gated, values_of_bf16, FUSED_silu, FUSED_gelu_tanh, FP4_BF16)
VALUES(launch_gated, swiglu_oai_values_of_bf16, FUSED_swiglu_oai, FUSED_swiglu_oai, FP4_BF16)
VALUES(launch_token, values_of_f32, FUSED_token, FUSED_token, FP4_F32)
VALUES(launch_token, values_of_f16, FUSED_token, FUSED_token, FP4_F16)
VALUES(launch_token, values_of_bf16, FUSED_token, FUSED_token, FP4_BF16)

/* ---------------------------------------------------------------- scales that are none */

/* A scale on the device that is no scale: any codes, but padding, guards and input stay what they
   must be, and nothing is read or written out of bounds. y does not ask for the scale. */
static void run_useless(fused_case c)
{
    static const float scales[] = {0.0f, -1.0f, INFINITY, NAN, 0x1p-149f};
    const size_t sf_cols = fused_sf_cols(&c);
    const fused_pool pool = fused_pool_new(c.unit->dtype);
    uint64_t state = 5;
    const fused_operands o = fused_operands_of_pool(&c, &pool, &state);
    const fused_expected e = fused_expected_new(&c, &o); /* with a scale */

    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        fused_device d;
        uint8_t *sf;
        c.on_device = 1;
        c.scale = scales[i];
        d = fused_device_new(&c, &o);
        fused_poison(&d, 0x7f);
        fused_launch(&c, &d.args, 0);
        sf = (uint8_t *)gpu_copy_of(d.b[FUSED_SF]);
        for (size_t at = 0; at < d.b[FUSED_SF].size; at++) {
            if (fp4_sf_row(c.layout, at, sf_cols) >= c.rows ||
                fp4_sf_col(c.layout, at, sf_cols) >= sf_cols) {
                CHECK_EQ(sf[at], 0, "padding at %zu, %s", at, fused_text(&c));
            }
        }
        if (c.has_y) {
            uint8_t *y = (uint8_t *)gpu_copy_of(d.b[FUSED_Y]);
            fused_expect_rows(&c, FUSED_Y, y, e.out[FUSED_Y], 0x7f);
            free(y);
        }
        fused_expect_rest(&c, &d, &o);
        free(sf);
        fused_device_free(d);
    }
    fused_expected_free(e);
    fused_operands_free(o);
    fused_pool_free(pool);
}

static void run_all_useless(fused_op first, fused_op last)
{
    for (size_t i = 0; i < FUSED_UNITS; i++) {
        const fused_unit *u = &fused_units[i];
        if (u->op < first || u->op > last || !fp4_format_is_nvfp4(u->format)) {
            continue;
        }
        for (int variant = 0; variant < 6; variant++) {
            static const size_t cols[] = {96, FULL, 160};
            const size_t rows = gpu_is_reduced() ? 3 : MANY;
            fused_case c = fused_case_of(u, (fp4_layout)(variant % 2), rows, cols[variant % 3]);
            c.rounded = variant % 3 == 2 && u->op != FUSED_token;
            c.per_token = variant >= 3 || u->op == FUSED_token;
            c.has_y = variant % 3 == 0 && u->op != FUSED_token;
            run_useless(c);
        }
    }
}

GPU_TEST(launch_norm, useless_device_scales)
{
    run_all_useless(FUSED_rmsnorm, FUSED_layernorm);
}

GPU_TEST(launch_gated, useless_device_scales)
{
    run_all_useless(FUSED_silu, FUSED_gelu_tanh);
    run_all_useless(FUSED_swiglu_oai, FUSED_swiglu_oai);
}

GPU_TEST(launch_token, useless_device_scales)
{
    run_all_useless(FUSED_token, FUSED_token);
}

/*
 * fp4/host/experts.h and fp4/experts.h: the rows of many experts against the second quantizer of
 * host_util.h, row by row, with buffers walked in memory order; where scales begin; numbers out of
 * bounds; FlashInfer's view of the scales; what is refused.
 */
#include <fp4/host/experts.h>

#include "host_util.h"

/* ---------------------------------------------------------------- cases */

enum { POISON = 0x7f, MOST_GROUPS = 40, MOST_ROWS = 600 };

/* A call with memory of its own, and what it should leave: bytes, and which of them were to be
   written. */
typedef struct experts_case {
    fp4_ref_experts e;
    host_recipe recipe;
    int32_t numbers[MOST_GROUPS + 1], sources[MOST_ROWS], starts[MOST_GROUPS + 1];
    float scales[MOST_GROUPS];
    host_buffer x, q, sf;
    size_t sf_cols, sf_rows; /* of one buffer; rows with their padding */
    uint32_t errors;
    uint8_t *q_wanted, *sf_wanted, *sf_linear, *sf_is_own;
    int32_t starts_wanted[MOST_GROUPS + 1];
    uint32_t errors_wanted;
} experts_case;

static const host_recipe recipes[] = {HOST_NVFP4_TENSOR, HOST_MXFP4_UP, HOST_MXFP8_UP,
                                      HOST_NVFP4_32_TENSOR, HOST_MXFP4_16_UP};

static const char *case_text(const experts_case *c)
{
    static char text[256];

    snprintf(text, sizeof text,
             "%s, %s, activation %d, interleaved %d, rounded %d, dtype %d, groups %zu, rows %zu, "
             "cols %zu to %zu, "
             "x_rows %zu, sf_rows %zu, rest %d, starts %d",
             host_recipe_name(c->recipe), c->e.counts != NULL ? "masked" : "packed",
             (int)c->e.activation, c->e.interleaved, c->e.rounded, (int)c->e.dtype, c->e.groups,
             c->e.rows, c->e.cols, c->e.q_cols, c->e.x_rows, c->e.sf_rows, (int)c->e.rest,
             (int)c->e.starts);
    return text;
}

static size_t q_bytes_of(const experts_case *c, size_t rows)
{
    return c->e.format == FP4_MXFP8 ? rows * c->e.q_cols : rows * c->e.q_cols / 2;
}

static size_t x_cols_of(const experts_case *c)
{
    return c->e.activation == FP4_ACTIVATION_NONE ? c->e.cols : 2 * c->e.cols;
}

/* Rows of x, and matrices of it. */
static size_t x_rows_of(const experts_case *c)
{
    return c->e.counts != NULL ? c->e.rows : c->e.x_rows;
}

static size_t matrices_of(const experts_case *c)
{
    return c->e.counts != NULL ? c->e.groups : 1;
}

/* Numbers in their bounds and out of them. */
static void draw_numbers(experts_case *c, int is_masked, uint64_t *state)
{
    const int is_wild = host_below(state, 3) == 0;
    int32_t at = (int32_t)host_below(state, 3);

    for (size_t g = 0; g <= c->e.groups; g++) {
        const uint32_t left = (uint32_t)c->e.rows - (uint32_t)(is_masked ? 0 : at);
        const int32_t some = host_below(state, 3) == 0 ? 0 : (int32_t)host_below(state, left + 1);
        c->numbers[g] = is_masked ? some : at;
        at += is_masked ? 0 : some / (host_below(state, 2) ? 1 : 4);
        if (is_wild && host_below(state, 4) == 0) {
            c->numbers[g] = host_below(state, 2) ? (int32_t)host_random(state)
                                                 : (int32_t)host_below(state, 500) - 100;
        }
        c->scales[g == c->e.groups ? 0 : g] = host_random_scale(state, -4, 12);
    }
    for (size_t row = 0; row < c->e.rows; row++) {
        c->sources[row] = is_wild && host_below(state, 5) == 0
                              ? (int32_t)host_random(state)
                              : (int32_t)host_below(state, (uint32_t)c->e.x_rows);
    }
}

static experts_case *case_new(uint64_t *state)
{
    experts_case *c = (experts_case *)host_zeros(sizeof *c);
    const int is_masked = (int)host_below(state, 2);
    size_t bytes;

    c->recipe = recipes[host_below(state, 5)];
    c->e.format = host_recipe_format(c->recipe);
    c->e.activation = (fp4_activation)host_below(state, 4);
    c->e.interleaved = (int)host_below(state, 2);
    c->e.rounded = (int)host_below(state, 2);
    c->e.dtype = (fp4_dtype)host_below(state, 3);
    c->e.groups = 1 + host_below(state, is_masked ? 4 : MOST_GROUPS);
    c->e.rows = 1 + host_below(state, is_masked ? 140 : MOST_ROWS);
    c->e.cols = 32 * (1 + host_below(state, host_below(state, 8) == 0 ? 20 : 3));
    c->e.q_cols = c->e.cols + 32 * (host_below(state, 3) == 0 ? host_below(state, 4) : 0);
    c->e.x_stride = x_cols_of(c) + host_below(state, 3);
    c->e.x_group_stride = c->e.rows * c->e.x_stride + host_below(state, 3);
    c->e.x_rows = is_masked ? 0 : c->e.rows + host_below(state, 2);
    if (!is_masked && host_below(state, 2)) {
        c->e.sources = c->sources;
        c->e.x_rows = 1 + host_below(state, (uint32_t)c->e.rows);
    }
    c->e.starts = (fp4_experts_starts)host_below(state, 2);
    c->e.rest = (fp4_rest)host_below(state, 2);
    draw_numbers(c, is_masked, state);
    *(is_masked ? &c->e.counts : &c->e.offsets) = c->numbers;
    c->e.sf_rows = is_masked ? 0
                   : host_below(state, 3) == 0
                       ? 128 * host_below(state, 8)
                       : fp4_experts_sf_rows(c->e.starts, c->e.rows, c->e.groups);
    c->e.global_scales = c->scales;
    c->e.global_step = host_below(state, 2);
    c->e.global_is_dec = host_below(state, 3) == 0;
    c->e.sf_starts = is_masked || host_below(state, 4) == 0 ? NULL : c->starts;
    c->e.errors = host_below(state, 4) == 0 ? NULL : &c->errors;
    c->errors = c->errors_wanted = 0x100;

    bytes = (matrices_of(c) - 1) * c->e.x_group_stride + x_rows_of(c) * c->e.x_stride;
    c->x = host_buffer_new(bytes * host_dtype_bytes(c->e.dtype), host_below(state, 4));
    for (size_t g = 0; g < matrices_of(c); g++) {
        const fp4_matrix m =
            fp4_matrix_of_(NULL, c->e.dtype, x_rows_of(c), x_cols_of(c), c->e.x_stride, 1.0f);
        host_fill(c->x.bytes + g * c->e.x_group_stride * host_dtype_bytes(c->e.dtype), m, state,
                  (host_data)host_below(state, HOST_DATA), 16);
    }
    c->sf_cols = c->e.q_cols / host_recipe_block(c->recipe);
    c->sf_rows = is_masked ? (c->e.rows + 127) / 128 * 128 : c->e.sf_rows;
    c->q = host_buffer_new(q_bytes_of(c, matrices_of(c) * c->e.rows), host_below(state, 4));
    c->sf =
        host_buffer_new(matrices_of(c) * host_sf_bytes(FP4_LAYOUT_128X4, c->sf_rows, c->sf_cols),
                        host_below(state, 4));
    c->e.x = c->x.bytes;
    c->e.q = c->q.bytes;
    c->e.q_bytes = c->q.size;
    c->e.sf = c->sf.bytes;
    c->e.sf_bytes = c->sf.size;
    return c;
}

static void case_free(experts_case *c)
{
    host_buffer_free(c->x, case_text(c));
    host_buffer_free(c->q, case_text(c));
    host_buffer_free(c->sf, case_text(c));
    free(c);
}

/* ---------------------------------------------------------------- what is expected */

/* A row of a matrix, on its own: codes to q, scales to sf, row-major. */
static void expect_row(const experts_case *c, const uint8_t *x, size_t row, float enc, uint8_t *q,
                       uint8_t *sf)
{
    const fp4_matrix m = fp4_matrix_of_(x + row * c->e.x_stride * host_dtype_bytes(c->e.dtype),
                                        c->e.dtype, 1, x_cols_of(c), x_cols_of(c), 1.0f);
    const host_level level = {enc, NULL, 0.0f};

    memset(q, 0, q_bytes_of(c, 1));
    memset(sf, 0, c->sf_cols);
    if (c->e.activation == FP4_ACTIVATION_NONE) {
        const host_expected one = host_quantize_naively(c->recipe, &m, c->e.q_cols, &level);
        memcpy(q, one.q, one.q_bytes);
        memcpy(sf, one.sf, c->sf_cols);
        host_expected_free(one);
    } else {
        fp4_tensor t = fp4_tensor_view(c->e.format, FP4_LAYOUT_LINEAR, 1, c->e.cols, q,
                                       q_bytes_of(c, 1), sf, c->sf_cols);
        fp4_ref_fused how;
        memset(&how, 0, sizeof how);
        how.global_enc = enc;
        how.rounded = c->e.rounded;
        CHECK_EQ((c->e.activation == FP4_ACTIVATION_SILU
                      ? fp4_ref_silu_mul_quantize(m, c->e.interleaved, &how, &t)
                  : c->e.activation == FP4_ACTIVATION_GELU_TANH
                      ? fp4_ref_gelu_tanh_mul_quantize(m, c->e.interleaved, &how, &t)
                      : fp4_ref_swiglu_oai_mul_quantize(m, c->e.interleaved, &how, &t)),
                 FP4_OK, "%s", case_text(c));
    }
}

/* Row `to` of q and row sf_row of buffer `matrix`. x null: zeros. */
static void expect_put(experts_case *c, size_t group, const uint8_t *x, size_t row, size_t to,
                       size_t matrix, size_t sf_row)
{
    const size_t at = (matrix * c->sf_rows + sf_row) * c->sf_cols;
    float enc = c->scales[group * c->e.global_step];

    enc = c->e.global_is_dec ? host_min(host_div(1.0f, enc), FP4_F32_MAX) : enc;
    memset(c->sf_is_own + at, 1, c->sf_cols);
    if (x == NULL) {
        memset(c->q_wanted + q_bytes_of(c, to), 0, q_bytes_of(c, 1));
        memset(c->sf_linear + at, 0, c->sf_cols);
    } else {
        expect_row(c, x, row, enc, c->q_wanted + q_bytes_of(c, to), c->sf_linear + at);
    }
}

static void expect_masked(experts_case *c)
{
    for (size_t g = 0; g < c->e.groups; g++) {
        const int64_t count = c->numbers[g], rows = (int64_t)c->e.rows;
        const size_t bounded = (size_t)(count < 0 ? 0 : count > rows ? rows : count);
        c->errors_wanted |= count < 0 || count > rows ? FP4_EXPERTS_COUNT : 0;
        for (size_t row = 0; row < bounded; row++) {
            expect_put(c, g, c->x.bytes + g * c->e.x_group_stride * host_dtype_bytes(c->e.dtype),
                       row, g * c->e.rows + row, g, row);
        }
    }
}

static void expect_packed(experts_case *c)
{
    const int64_t rows = (int64_t)c->e.rows;
    int64_t at = 0, summed = 0;

    for (size_t g = 0; g <= c->e.groups; g++) {
        const int64_t given = c->numbers[g], before = at;
        int64_t start = summed;
        at = given < at ? at : given > rows ? rows : given;
        c->errors_wanted |= at != given ? FP4_EXPERTS_OFFSET : 0;
        for (int64_t row = before; g > 0 && row < at; row++) {
            const int64_t sf_row = c->starts_wanted[g - 1] + (row - before);
            const int64_t source = c->e.sources != NULL ? c->sources[row] : row;
            const int is_there = source >= 0 && source < (int64_t)c->e.x_rows;
            if (sf_row >= (int64_t)c->e.sf_rows) {
                c->errors_wanted |= FP4_EXPERTS_SF_ROWS;
                continue;
            }
            c->errors_wanted |= is_there ? 0 : FP4_EXPERTS_SOURCE;
            expect_put(c, g - 1, is_there ? c->x.bytes : NULL, (size_t)source, (size_t)row, 0,
                       (size_t)sf_row);
        }
        if (g > 0) {
            summed += (at - before + 127) / 128 * 128;
            start = summed;
        }
        c->starts_wanted[g] =
            (int32_t)(c->e.starts == FP4_STARTS_SPREAD ? (at + 127 * (int64_t)g) / 128 * 128
                                                       : start);
    }
}

static void check_case(experts_case *c)
{
    const size_t sf_linear = matrices_of(c) * c->sf_rows * c->sf_cols;
    const size_t of_buffer = c->sf.size / matrices_of(c);
    const int rest = c->e.rest == FP4_REST_ZERO ? 0 : POISON;
    uint8_t *is_own = (uint8_t *)host_zeros(c->sf.size);

    c->q_wanted = (uint8_t *)host_zeros(c->q.size);
    c->sf_wanted = (uint8_t *)host_zeros(c->sf.size);
    c->sf_linear = (uint8_t *)host_zeros(sf_linear);
    c->sf_is_own = (uint8_t *)host_zeros(sf_linear);
    memset(c->q_wanted, rest, c->q.size);
    memset(c->starts_wanted, 0, sizeof c->starts_wanted);
    if (c->e.counts != NULL) {
        expect_masked(c);
    } else {
        expect_packed(c);
    }
    for (size_t m = 0; m < matrices_of(c); m++) {
        const size_t at = m * c->sf_rows * c->sf_cols;
        host_place_scales(c->sf_wanted + m * of_buffer, FP4_LAYOUT_128X4, c->sf_linear + at,
                          c->sf_rows, c->sf_cols);
        host_place_scales(is_own + m * of_buffer, FP4_LAYOUT_128X4, c->sf_is_own + at, c->sf_rows,
                          c->sf_cols);
    }
    for (size_t i = 0; i < c->sf.size; i++) {
        c->sf_wanted[i] = is_own[i] ? c->sf_wanted[i] : (uint8_t)rest;
    }
    CHECK_EQ(fp4_ref_experts_quantize(&c->e), FP4_OK, "%s", case_text(c));
    host_expect_bytes(c->q.bytes, c->q_wanted, c->q.size, case_text(c));
    host_expect_bytes(c->sf.bytes, c->sf_wanted, c->sf.size, case_text(c));
    CHECK_EQ(c->errors, c->e.errors != NULL ? c->errors_wanted : 0x100, "%s", case_text(c));
    for (size_t g = 0; g <= c->e.groups && c->e.sf_starts != NULL; g++) {
        CHECK_EQ(c->starts[g], c->starts_wanted[g], "start %zu of %s", g, case_text(c));
    }
    free(is_own);
    free(c->q_wanted);
    free(c->sf_wanted);
    free(c->sf_linear);
    free(c->sf_is_own);
}

Test(host_experts, rows_of_many_experts)
{
    uint64_t state = 1;
    uint32_t seen = 0;

    for (int i = 0; i < 400; i++) {
        experts_case *c = case_new(&state);
        check_case(c);
        seen |= c->errors;
        case_free(c);
    }
    CHECK_EQ(seen, 0x10f, "each error has occurred");
}

/* ---------------------------------------------------------------- decoded by formula */

/* A magnitude for each row and block, a power of two, so that any scale in another's place shows;
   the elements are it and parts of it that every format has. */
static float told_apart(size_t row, size_t col, size_t block)
{
    static const float parts[] = {1.0f, -0.5f, 0.25f, -1.0f};
    return ldexpf(parts[(row + col) % 4], (int)((row * 5 + col / block * 3) % 13) - 7);
}

/* 128x4: tiles of 128 rows and 4 columns of scales. */
static size_t told_offset(size_t row, size_t col, size_t sf_cols)
{
    return row / 128 * ((sf_cols + 3) / 4) * 512 + col / 4 * 512 + row % 32 * 16 +
           row % 128 / 32 * 4 + col % 4;
}

static void decode_by_formula(fp4_format format, fp4_experts_starts starts, int is_gathered)
{
    enum { TOLD_ROWS = 420, TOLD_X = 200, TOLD_COLS = 224, TOLD_GROUPS = 6 };
    static const int32_t offsets[TOLD_GROUPS + 1] = {3, 8, 141, 141, 170, 298, 400};
    static float x[TOLD_ROWS * TOLD_COLS];
    static uint8_t q[TOLD_ROWS * TOLD_COLS], sf[1280 * 16];
    static int32_t sources[TOLD_ROWS];
    const size_t block = format == FP4_NVFP4 ? 16 : 32, sf_cols = TOLD_COLS / block;
    float scales[TOLD_GROUPS];
    fp4_ref_experts e;
    size_t summed = 0;

    memset(&e, 0, sizeof e);
    for (size_t i = 0; i < TOLD_ROWS * TOLD_COLS; i++) {
        x[i] = told_apart(i / TOLD_COLS, i % TOLD_COLS, block);
    }
    for (size_t i = 0; i < TOLD_ROWS; i++) {
        sources[i] = (int32_t)((i * 37 + 11) % TOLD_X);
    }
    for (size_t g = 0; g < TOLD_GROUPS; g++) {
        scales[g] = g % 2 ? 48.0f : 24.0f; /* 6 times a power of two: scale bytes are exact */
    }
    e.format = format;
    e.groups = TOLD_GROUPS;
    e.rows = TOLD_ROWS;
    e.cols = e.q_cols = e.x_stride = TOLD_COLS;
    e.x = x;
    e.x_rows = is_gathered ? TOLD_X : TOLD_ROWS;
    e.offsets = offsets;
    e.sources = is_gathered ? sources : NULL;
    e.starts = starts;
    e.sf_rows = 1280;
    e.global_scales = scales;
    e.global_step = 1;
    e.q = q;
    e.q_bytes = sizeof q;
    e.sf = sf;
    e.sf_bytes = sizeof sf;
    CHECK_EQ(fp4_ref_experts_quantize(&e), FP4_OK, "format %d", (int)format);
    for (size_t g = 0; g < TOLD_GROUPS; g++) {
        const size_t first = (size_t)offsets[g], last = (size_t)offsets[g + 1];
        const size_t start = starts == FP4_STARTS_SPREAD ? (first + 127 * g) / 128 * 128 : summed;
        for (size_t row = first; row < last; row++) {
            const size_t from = is_gathered ? (row * 37 + 11) % TOLD_X : row;
            for (size_t col = 0; col < TOLD_COLS; col++) {
                const size_t at = row * TOLD_COLS + col;
                const uint8_t byte = sf[told_offset(start + row - first, col / block, sf_cols)];
                const double code =
                    (double)(format == FP4_MXFP8 ? host_e4m3(q[at])
                                                 : host_e2m1(q[at / 2] >> (at % 2 * 4) & 15u));
                const double scale = format == FP4_NVFP4
                                         ? (double)host_e4m3(byte) / (double)scales[g]
                                         : (double)host_e8m0(byte);
                const double wanted = (double)told_apart(from, col, block);
                CHECK(fabs(code * scale - wanted) <= 1e-9 * fabs(wanted),
                      "format %d, starts %d, gathered %d, expert %zu, row %zu, column %zu: %g, not "
                      "%g",
                      (int)format, (int)starts, is_gathered, g, row, col, code * scale, wanted);
            }
        }
        summed += (last - first + 127) / 128 * 128;
    }
}

/* What a matrix multiplication would see: code * scale / global scale, each from where it stands by
   the formulas of the layouts, is the element that was put in. */
Test(host_experts, every_scale_is_where_the_formulas_say)
{
    static const fp4_format formats[] = {FP4_NVFP4, FP4_MXFP4, FP4_MXFP8};

    for (size_t i = 0; i < 12; i++) {
        decode_by_formula(formats[i / 4], (fp4_experts_starts)(i % 2), (int)(i / 2 % 2));
    }
}

/* ---------------------------------------------------------------- where scales begin */

Test(host_experts, starts_as_documented)
{
    CHECK_EQ(fp4_experts_spread_row(0, 0), 0, "spread");
    CHECK_EQ(fp4_experts_spread_row(5, 1), 128, "spread");
    CHECK_EQ(fp4_experts_spread_row(133, 2), 384, "spread");
    CHECK_EQ(fp4_experts_spread_row(133, 3), 512, "spread");
    CHECK_EQ(fp4_experts_sf_rows(FP4_STARTS_SUMMED, 8, 256), 1024, "summed, few rows");
    CHECK_EQ(fp4_experts_sf_rows(FP4_STARTS_SPREAD, 8, 256), 32512, "spread, few rows");
    CHECK_EQ(fp4_experts_sf_rows(FP4_STARTS_SUMMED, 1000, 1), 1024, "one expert");
    CHECK_EQ(fp4_experts_sf_rows(FP4_STARTS_SUMMED, 0, 7), 0, "no rows");
    CHECK_EQ(fp4_experts_bounded(INT32_MIN, 5), 0, "bounded");
    CHECK_EQ(fp4_experts_bounded(-1, 5), 0, "bounded");
    CHECK_EQ(fp4_experts_bounded(5, 5), 5, "bounded");
    CHECK_EQ(fp4_experts_bounded(INT32_MAX, 5), 5, "bounded");
}

/* Whatever the counts are, experts do not overlap, and fp4_experts_sf_rows suffice; there are
   counts for which one tile less does not (summed). */
Test(host_experts, sf_rows_suffice)
{
    uint64_t state = 2;

    for (int i = 0; i < 20000; i++) {
        const size_t groups = 1 + host_below(&state, 12);
        size_t counts[12], rows = 0, first = 0, summed = 0, end = 0;
        for (size_t g = 0; g < groups; g++) {
            counts[g] = host_below(&state, host_below(&state, 2) ? 3 : 300);
            rows += counts[g];
        }
        for (size_t g = 0; g < groups; g++) {
            const size_t padded = (counts[g] + 127) / 128 * 128;
            const size_t spread = fp4_experts_spread_row(first, g);
            CHECK(spread >= end && spread % 128 == 0, "case %d: expert %zu overlaps", i, g);
            end = padded != 0 ? spread + padded : end;
            summed += padded;
            first += counts[g];
        }
        CHECK(end <= fp4_experts_sf_rows(FP4_STARTS_SPREAD, rows, groups), "case %d", i);
        CHECK(summed <= fp4_experts_sf_rows(FP4_STARTS_SUMMED, rows, groups), "case %d", i);
    }
    for (size_t groups = 1; groups < 40; groups++) { /* one row each, the rest in the last */
        for (size_t rows = 1; rows < 600; rows++) {
            const size_t ones = rows < groups ? rows : groups;
            const size_t last = rows - (ones - 1);
            const size_t used = 128 * (ones - 1) + (last + 127) / 128 * 128;
            const size_t most = fp4_experts_sf_rows(FP4_STARTS_SUMMED, rows, groups);
            CHECK_EQ(used, most, "rows %zu, groups %zu", rows, groups);
        }
    }
}

/* ---------------------------------------------------------------- FlashInfer's view */

/* Its scales are a tensor of shape (32, 4, rm, 4, rk, L) over a batch of 128x4 buffers. Read by the
   strides that layout.h names, element (i, q, m, k, n, l) is the scale of row 128 m + 32 q + i,
   column 4 n + k of matrix l. */
Test(host_experts, the_view_of_flashinfer)
{
    enum { MATRICES = 3, R = 300, C = 10, RM = 3, RK = 3 };
    const size_t shape[6] = {32, 4, RM, 4, RK, MATRICES};
    const size_t strides[6] = {16, 4, 512 * RK, 1, 512, 512 * RK * RM};
    static uint8_t linear[MATRICES * R * C], sf[MATRICES * 512 * RK * RM];
    size_t at[6] = {0, 0, 0, 0, 0, 0}, seen = 0;

    CHECK_EQ(sizeof sf, MATRICES * fp4_sf_bytes(FP4_LAYOUT_128X4, R, C), "size");
    for (size_t i = 0; i < sizeof linear; i++) {
        linear[i] = (uint8_t)(1 + i * 7 % 255);
    }
    for (size_t l = 0; l < MATRICES; l++) {
        host_place_scales(sf + l * (sizeof sf / MATRICES), FP4_LAYOUT_128X4, linear + l * R * C, R,
                          C);
    }
    while (at[5] < shape[5]) {
        const size_t row = 128 * at[2] + 32 * at[1] + at[0], col = 4 * at[4] + at[3];
        size_t offset = 0;
        for (size_t d = 0; d < 6; d++) {
            offset += at[d] * strides[d];
        }
        CHECK_EQ(offset, fp4_sf_offset_batched(FP4_LAYOUT_128X4, at[5], row, col, R, C),
                 "matrix %zu, row %zu, column %zu", at[5], row, col);
        CHECK_EQ(sf[offset], row < R && col < C ? linear[(at[5] * R + row) * C + col] : 0,
                 "matrix %zu, row %zu, column %zu", at[5], row, col);
        seen++;
        for (size_t d = 0; d < 6 && ++at[d] == shape[d] && d < 5; d++) {
            at[d] = 0;
        }
    }
    CHECK_EQ(seen, sizeof sf, "every byte once");
}

/* ---------------------------------------------------------------- what is refused */

enum { SMALL_ROWS = 8, SMALL_COLS = 64 };

typedef struct small_call {
    fp4_ref_experts e;
    float x[2 * SMALL_ROWS * SMALL_COLS], scales[2];
    int32_t numbers[3], sources[SMALL_ROWS], starts[3];
    uint8_t q[2 * SMALL_ROWS * SMALL_COLS], sf[2 * 128 * 4];
    uint32_t errors;
} small_call;

static void small_call_new(small_call *s, int is_masked)
{
    memset(s, 0, sizeof *s);
    memset(s->q, POISON, sizeof s->q);
    memset(s->sf, POISON, sizeof s->sf);
    memset(s->starts, POISON, sizeof s->starts);
    s->scales[0] = s->scales[1] = 1.0f;
    s->numbers[1] = s->numbers[2] = 3;
    s->e.groups = 2;
    s->e.rows = s->e.x_rows = SMALL_ROWS;
    s->e.cols = s->e.q_cols = s->e.x_stride = SMALL_COLS;
    s->e.x_group_stride = SMALL_ROWS * SMALL_COLS;
    s->e.x = s->x;
    *(is_masked ? &s->e.counts : &s->e.offsets) = s->numbers;
    s->e.sf_starts = is_masked ? NULL : s->starts;
    s->e.sf_rows = 256;
    s->e.global_scales = s->scales;
    s->e.global_step = 1;
    s->e.q = s->q;
    s->e.q_bytes = (is_masked ? 2 : 1) * SMALL_ROWS * SMALL_COLS / 2;
    s->e.sf = s->sf;
    s->e.sf_bytes = sizeof s->sf;
    s->e.errors = &s->errors;
}

static void expect_refused(const small_call *s, fp4_status status, const char *what)
{
    CHECK_EQ(fp4_ref_experts_quantize(&s->e), status, "%s", what);
    for (size_t i = 0; i < sizeof s->q; i++) {
        CHECK_EQ(s->q[i], POISON, "%s: code %zu was written", what, i);
    }
    for (size_t i = 0; i < sizeof s->sf; i++) {
        CHECK_EQ(s->sf[i], POISON, "%s: scale %zu was written", what, i);
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK_EQ(s->starts[i], 0x7f7f7f7f, "%s: start %zu was written", what, i);
    }
    CHECK_EQ(s->errors, 0, "%s: errors", what);
}

#define REFUSED_AS(status, change) \
    do { \
        static small_call s; \
        small_call_new(&s, is_masked); \
        change; \
        expect_refused(&s, status, #change); \
    } while (0)

static void refuse(int is_masked)
{
    static const float bad[] = {0.0f, -1.0f, INFINITY, NAN, 0x1p-149f, 0x1p-128f};

    REFUSED_AS(FP4_NULL, s.e.counts = s.e.offsets = NULL);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.counts = s.e.offsets = s.numbers);
    REFUSED_AS(FP4_NULL, s.e.x = NULL);
    REFUSED_AS(FP4_NULL, s.e.q = NULL);
    REFUSED_AS(FP4_NULL, s.e.sf = NULL);
    REFUSED_AS(FP4_NULL, s.e.global_scales = NULL);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.cols = 0);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.cols = 40);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.q_cols = 72);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.q_cols = 48);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.rows = (size_t)1 << 31; s.e.x_rows = s.e.rows);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.groups = (size_t)1 << 31);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.global_step = 2);
    REFUSED_AS(FP4_BAD_STRIDE, s.e.x_stride = SMALL_COLS - 1);
    REFUSED_AS(FP4_BAD_STRIDE, s.e.activation = FP4_ACTIVATION_SILU);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.x_stride = SIZE_MAX / 8);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.rows = s.e.x_rows = 256; s.e.q_cols = (size_t)1 << 56);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.groups = s.e.rows = s.e.x_rows = 1; s.e.q_cols = (size_t)1 << 61);
    REFUSED_AS(FP4_BAD_SHAPE, s.e.groups = s.e.rows = s.e.x_rows = 1;
               s.e.activation = FP4_ACTIVATION_SILU; s.e.format = FP4_MXFP8;
               s.e.cols = s.e.q_cols = (size_t)1 << 63);
    REFUSED_AS(FP4_SMALL_BUFFER, s.e.q_bytes -= 1);
    REFUSED_AS(FP4_SMALL_BUFFER, s.e.sf_bytes -= 1);
    REFUSED_AS(FP4_SMALL_BUFFER, s.e.q_cols += 16);
    REFUSED_AS(FP4_BAD_TYPE, s.e.dtype = FP4_E4M3);
    REFUSED_AS(FP4_BAD_TYPE, s.e.dtype = (fp4_dtype)4);
    REFUSED_AS(FP4_BAD_TYPE, s.e.format = (fp4_format)5);
    REFUSED_AS(FP4_BAD_TYPE, s.e.activation = (fp4_activation)4);
    REFUSED_AS(FP4_BAD_TYPE, s.e.rest = (fp4_rest)2);
    REFUSED_AS(FP4_BAD_TYPE, s.e.starts = (fp4_experts_starts)2);
    if (is_masked) {
        REFUSED_AS(FP4_BAD_SHAPE, s.e.sources = s.sources);
        REFUSED_AS(FP4_BAD_SHAPE, s.e.sf_starts = s.starts);
        REFUSED_AS(FP4_BAD_SHAPE, s.e.x_group_stride = SIZE_MAX / 4);
        REFUSED_AS(FP4_BAD_SHAPE, s.e.x_group_stride = SIZE_MAX / 2 + 1);
    } else {
        REFUSED_AS(FP4_BAD_SHAPE, s.e.sf_rows = 200);
        REFUSED_AS(FP4_BAD_SHAPE, s.e.rows = s.e.sf_rows = 0; s.e.activation = FP4_ACTIVATION_SILU;
                   s.e.cols = s.e.q_cols = (size_t)1 << 63);
        REFUSED_AS(FP4_BAD_SHAPE, s.e.x_rows = SMALL_ROWS - 1);
        REFUSED_AS(FP4_SMALL_BUFFER, s.e.sf_rows = 384);
        REFUSED_AS(FP4_NULL, s.e.x = NULL; s.e.x_rows = 0; s.e.sources = s.sources);
    }
    for (size_t i = 0; i < sizeof bad / sizeof(float); i++) {
        REFUSED_AS(FP4_BAD_SCALE, s.scales[1] = bad[i]);
        REFUSED_AS(FP4_BAD_SCALE, s.scales[0] = bad[i]; s.e.global_step = 0);
    }
    REFUSED_AS(FP4_BAD_SCALE, s.scales[1] = 0.0f; s.e.global_is_dec = 1);
    REFUSED_AS(FP4_BAD_SCALE, s.scales[1] = FP4_F32_MAX; s.e.global_is_dec = 1);
}

Test(host_experts, what_is_bad_is_refused_and_nothing_is_written)
{
    refuse(0);
    refuse(1);
    CHECK_EQ(fp4_ref_experts_quantize(NULL), FP4_NULL, "nothing");
}

/* Nothing to do is no error, whatever else is given; a scale that no expert has is not read. */
Test(host_experts, nothing_to_do)
{
    static small_call s;

    for (int zero = 0; zero < 3; zero++) {
        small_call_new(&s, zero < 2); /* packed, scales and starts are there without rows too */
        s.e.groups = zero == 0 ? 0 : 2;
        s.e.rows = zero == 1 ? 0 : 8;
        s.e.cols = s.e.q_cols = zero == 2 ? 0 : 64;
        s.e.x = s.e.q = s.e.sf = NULL;
        s.e.dtype = (fp4_dtype)9;
        expect_refused(&s, FP4_OK, "nothing to do");
    }
    small_call_new(&s, 0);
    s.numbers[1] = s.numbers[2] = 0;
    s.e.rows = 0;
    s.e.x = s.e.q = NULL;
    CHECK_EQ(fp4_ref_experts_quantize(&s.e), FP4_OK, "no rows");
    for (size_t i = 0; i < (size_t)256 * SMALL_COLS / 16; i++) {
        CHECK_EQ(s.sf[i], 0, "no rows: scale %zu", i);
    }
    for (size_t g = 0; g < 3; g++) {
        CHECK(s.starts[g] == 0, "no rows: start %zu", g);
    }
    small_call_new(&s, 0);
    s.e.format = FP4_MXFP4;
    s.e.global_scales = NULL;
    CHECK_EQ(fp4_ref_experts_quantize(&s.e), FP4_OK, "MXFP4 has no global scale");
    small_call_new(&s, 1);
    s.e.x_rows = SIZE_MAX;
    CHECK_EQ(fp4_ref_experts_quantize(&s.e), FP4_OK, "masked: x_rows");
    small_call_new(&s, 0);
    s.e.sf_rows = s.e.sf_bytes = 0;
    s.e.sf = NULL;
    CHECK_EQ(fp4_ref_experts_quantize(&s.e), FP4_OK, "no scale rows");
    small_call_new(&s, 1);
    s.e.global_step = 0;
    s.scales[1] = NAN;
    CHECK_EQ(fp4_ref_experts_quantize(&s.e), FP4_OK, "one scale for all");
}

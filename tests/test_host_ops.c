/*
 * fp4/host/ops.h: the fused operations, against a second implementation that takes one element of a
 * whole row after the other, and against the same sums in double.
 */
#include <fp4/host/ops.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const char *const layout_names[] = {"128x4", "8x4", "linear"};
static const char *const dtype_names[] = {"f32", "f16", "bf16"};

/* The operations, and the two ways in which gate and up lie. */
typedef enum ops_op {
    OPS_RMSNORM,
    OPS_ADD_RMSNORM,
    OPS_LAYERNORM,
    OPS_SILU,
    OPS_SILU_INTERLEAVED,
    OPS_GELU,
    OPS_GELU_INTERLEAVED,
    OPS_OAI,
    OPS_OAI_INTERLEAVED,
    OPS
} ops_op;

static const char *const op_names[OPS] = {"rmsnorm",
                                          "add_rmsnorm",
                                          "layernorm",
                                          "silu_mul",
                                          "silu_mul, interleaved",
                                          "gelu_tanh_mul",
                                          "gelu_tanh_mul, interleaved",
                                          "swiglu_oai_mul",
                                          "swiglu_oai_mul, interleaved"};

/* Every format with its default rule, and per token those that have a second-level scale. */
static const host_recipe recipes[] = {HOST_NVFP4_TENSOR,    HOST_NVFP4_TOKENS, HOST_NVFP4_32_TENSOR,
                                      HOST_NVFP4_32_TOKENS, HOST_MXFP4_UP,     HOST_MXFP4_16_UP,
                                      HOST_MXFP8_UP};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

typedef struct ops_case {
    ops_op op;
    host_recipe recipe;
    fp4_dtype dtype;
    int rounded, with_y;
    size_t rows, cols; /* of y */
    size_t gap;        /* elements between the rows of x, residual and y */
    size_t shift;      /* bytes by which every buffer misses alignment */
    host_data data;
    float eps;
    uint64_t seed;
} ops_case;

static int is_norm(ops_op op)
{
    return op <= OPS_LAYERNORM;
}

static int is_interleaved(ops_op op)
{
    return op == OPS_SILU_INTERLEAVED || op == OPS_GELU_INTERLEAVED || op == OPS_OAI_INTERLEAVED;
}

static const char *ops_text(const ops_case *c, const char *part)
{
    static char text[256];

    snprintf(text, sizeof text,
             "%s of %s to %s, %s, %zu x %zu, gap %zu, shift %zu, data %d, "
             "seed %llu: %s",
             op_names[c->op], dtype_names[c->dtype], host_recipe_name(c->recipe),
             c->rounded ? "rounded" : "exact", c->rows, c->cols, c->gap, c->shift, (int)c->data,
             (unsigned long long)c->seed, part);
    return text;
}

/* ---------------------------------------------------------------- operands */

/* Operands of a case in memory of their own, each exactly as long as it is. */
typedef struct ops_operands {
    host_buffer x, residual, weight, bias;
    size_t stride; /* of residual and y; x may be twice as wide */
    fp4_matrix m;
    float global_enc, base_dec;
} ops_operands;

static host_buffer ops_filled(const ops_case *c, size_t rows, size_t cols, size_t stride,
                              host_data data, uint64_t *state)
{
    const size_t size = host_dtype_bytes(c->dtype);
    const host_buffer b = host_buffer_new(host_span(rows, cols, stride) * size, c->shift);
    const fp4_matrix m = {b.bytes, c->dtype, rows, cols, stride, 1.0f};

    if (b.size != 0) {
        host_fill(b.bytes, m, state, data, host_recipe_block(c->recipe));
    }
    return b;
}

static ops_operands ops_operands_new(const ops_case *c)
{
    const size_t x_cols = is_norm(c->op) ? c->cols : 2 * c->cols;
    const host_data mild = c->data == HOST_SPECIAL && c->seed % 2 ? HOST_SPECIAL : HOST_NARROW;
    uint64_t state = c->seed;
    ops_operands o;

    o.stride = c->cols + c->gap;
    o.x = ops_filled(c, c->rows, x_cols, x_cols + c->gap, c->data, &state);
    o.residual = ops_filled(c, c->rows, c->cols, o.stride, c->data, &state);
    o.weight = ops_filled(c, 1, c->cols, c->cols, mild, &state);
    o.bias = ops_filled(c, 1, c->cols, c->cols, mild, &state);
    o.m = (fp4_matrix){o.x.bytes, c->dtype, c->rows, x_cols, x_cols + c->gap, 1.0f};
    o.global_enc = host_random_scale(&state, -4, 12);
    o.base_dec = host_below(&state, 2) ? 1.0f / 2688.0f : host_random_scale(&state, -20, 4);
    return o;
}

static void ops_operands_free(ops_operands o, const ops_case *c)
{
    host_buffer_free(o.x, ops_text(c, "x"));
    host_buffer_free(o.residual, ops_text(c, "residual"));
    host_buffer_free(o.weight, ops_text(c, "weight"));
    host_buffer_free(o.bias, ops_text(c, "bias"));
}

/* The library's function for a case. */
static fp4_status ops_call(ops_op op, fp4_matrix x, void *residual, size_t residual_stride,
                           const void *weight, const void *bias, float eps,
                           const fp4_ref_fused *how, fp4_tensor *t)
{
    switch (op) {
    case OPS_RMSNORM:
        return fp4_ref_rmsnorm_quantize(x, weight, eps, how, t);
    case OPS_ADD_RMSNORM:
        return fp4_ref_add_rmsnorm_quantize(x, residual, residual_stride, weight, eps, how, t);
    case OPS_LAYERNORM:
        return fp4_ref_layernorm_quantize(x, weight, bias, eps, how, t);
    case OPS_SILU:
    case OPS_SILU_INTERLEAVED:
        return fp4_ref_silu_mul_quantize(x, op == OPS_SILU_INTERLEAVED, how, t);
    case OPS_GELU:
    case OPS_GELU_INTERLEAVED:
        return fp4_ref_gelu_tanh_mul_quantize(x, op == OPS_GELU_INTERLEAVED, how, t);
    case OPS_OAI:
    case OPS_OAI_INTERLEAVED:
        return fp4_ref_swiglu_oai_mul_quantize(x, op == OPS_OAI_INTERLEAVED, how, t);
    case OPS:
        break;
    }
    return FP4_BAD_TYPE;
}

/* ---------------------------------------------------------------- the naive operations */

static float naive_add(float a, float b)
{
    return (float)((double)a + (double)b); /* 53 bits: rounding twice is rounding once */
}

/* The bits of a float in another type, by search among its values. */
static uint32_t naive_round(fp4_dtype dtype, float value)
{
    const uint32_t bits = host_bits_of(value), sign = bits >> 31 << 15;

    if (dtype == FP4_F32) {
        return bits;
    }
    if (isnan(value)) {
        return 0x7fffu;
    }
    return sign |
           oracle_nearest(dtype == FP4_F16 ? oracle_f16() : oracle_bf16(), oracle_magnitude(bits));
}

static void naive_store(uint8_t *bytes, fp4_dtype dtype, size_t at, float value)
{
    const uint32_t bits = naive_round(dtype, value);

    memcpy(bytes + at * host_dtype_bytes(dtype), &bits, host_dtype_bytes(dtype));
}

static float naive_load(const uint8_t *bytes, fp4_dtype dtype, size_t at)
{
    const fp4_matrix m = {bytes, dtype, 1, at + 1, at + 1, 1.0f};
    return host_element(&m, 0, at);
}

/* All lanes at once, as the hardware shuffles them; they must agree in the end. */
static float naive_butterfly(float *lanes, size_t n)
{
    float next[32];

    for (size_t mask = n / 2; mask > 0; mask /= 2) {
        for (size_t l = 0; l < n; l++) {
            next[l] = naive_add(lanes[l], lanes[l ^ mask]);
        }
        memcpy(lanes, next, n * sizeof(float));
    }
    for (size_t l = 1; l < n; l++) {
        CHECK(isnan(lanes[0]) ? isnan(lanes[l]) : host_bits_of(lanes[l]) == host_bits_of(lanes[0]),
              "lane %zu of %zu", l, n);
    }
    return lanes[0];
}

/* The sum of a[i] * b[i], piece by piece, thread by thread. */
static float naive_row_sum(const float *a, const float *b, size_t cols)
{
    const size_t threads = fp4_row_threads(cols), pieces = cols / 16;
    float lanes[32], warps[32] = {0};
    size_t n = 1;

    for (size_t thread = 0; thread < threads; thread++) {
        float sum = 0;
        for (size_t piece = thread; piece < pieces; piece += threads) {
            float of_piece = 0;
            for (size_t c = 16 * piece; c < 16 * piece + 16; c++) {
                of_piece = fmaf(a[c], b[c], of_piece);
            }
            sum = naive_add(sum, of_piece);
        }
        lanes[thread % 32] = sum;
        if (thread % 32 == 31) {
            warps[thread / 32] = naive_butterfly(lanes, 32);
        }
    }
    while (n < threads / 32) {
        n *= 2;
    }
    return naive_butterfly(warps, n);
}

static float naive_rstd(float mean_square, float eps)
{
    return (float)(1.0L / sqrtl((long double)naive_add(mean_square, eps)));
}

/* activation(gate) * up; of gpt-oss as its definition reads. */
static float naive_gated(ops_op op, float gate, float up)
{
    if (op == OPS_OAI || op == OPS_OAI_INTERLEAVED) {
        gate = gate > 7 ? 7 : gate;
        up = up > 7 ? 7 : up < -7 ? -7 : up;
        return host_mul(fp4_swish(gate, 1.702f), naive_add(up, 1));
    }
    return host_mul(op <= OPS_SILU_INTERLEAVED ? fp4_silu(gate) : fp4_gelu_tanh(gate), up);
}

/* One row of the operation: v is what is quantized, times what it answers. The residual is updated
   in place. */
static float naive_row(const ops_case *c, const ops_operands *o, uint8_t *residual, size_t row,
                       float *v)
{
    const size_t cols = c->cols;
    float *h = (float *)host_zeros(cols * sizeof(float));
    float *ones = (float *)host_zeros(cols * sizeof(float));
    float mean = 0, rstd, mul = 1;

    for (size_t i = 0; i < cols && is_norm(c->op); i++) {
        h[i] = host_element(&o->m, row, i);
        ones[i] = 1;
        if (c->op == OPS_ADD_RMSNORM) {
            h[i] = naive_add(h[i], naive_load(residual, c->dtype, row * o->stride + i));
            naive_store(residual, c->dtype, row * o->stride + i, h[i]);
            h[i] = naive_load(residual, c->dtype, row * o->stride + i);
        }
    }
    if (c->op == OPS_LAYERNORM) {
        mean = host_div(naive_row_sum(h, ones, cols), (float)cols);
        for (size_t i = 0; i < cols; i++) {
            h[i] = naive_add(h[i], -mean);
        }
    }
    rstd = naive_rstd(host_div(naive_row_sum(h, h, cols), (float)cols), c->eps);
    for (size_t i = 0; i < cols; i++) {
        const float w = naive_load(o->weight.bytes, c->dtype, i);
        const int interleaved = is_interleaved(c->op);
        float gate, up;
        if (c->op == OPS_LAYERNORM) {
            v[i] = fmaf(host_mul(h[i], rstd), w, naive_load(o->bias.bytes, c->dtype, i));
        } else if (is_norm(c->op)) {
            v[i] = c->rounded ? host_mul(host_mul(h[i], rstd), w) : host_mul(h[i], w);
        } else {
            gate = host_element(&o->m, row, interleaved ? 2 * i : i);
            up = host_element(&o->m, row, interleaved ? 2 * i + 1 : cols + i);
            v[i] = naive_gated(c->op, gate, up);
        }
        if (c->rounded && c->dtype != FP4_F32) {
            const uint32_t bits = naive_round(c->dtype, v[i]);
            v[i] = c->dtype == FP4_F16 ? host_f16((uint16_t)bits) : host_bits(bits << 16);
        }
    }
    if (!c->rounded && (c->op == OPS_RMSNORM || c->op == OPS_ADD_RMSNORM)) {
        mul = rstd;
    }
    free(h);
    free(ones);
    return mul;
}

/* amax of the block of v * mul that is never formed. */
static float naive_amax(const float *v, size_t block, float mul)
{
    const float amax = host_mul(host_amax(v, block), mul);
    return isnan(amax) ? 0 : amax;
}

/* A row of values into the tensor. */
static void naive_quantize_row(const ops_case *c, const ops_operands *o, const float *v, float mul,
                               size_t row, host_expected *t)
{
    const size_t block = host_recipe_block(c->recipe);
    float enc = o->global_enc, largest = 0;

    if (host_is_tokens(c->recipe)) {
        for (size_t col = 0; col < c->cols; col += block) {
            const float amax = naive_amax(v + col, block, mul);
            largest = amax > largest ? amax : largest;
        }
        enc = host_token_enc(largest, o->base_dec, t->row_dec + row);
    }
    for (size_t col = 0; col < c->cols; col += block) {
        float factor;
        host_block b;
        b.sf = host_scale_of(c->recipe, naive_amax(v + col, block, mul), enc, &factor);
        factor = host_mul(mul, factor);
        factor = factor > FP4_F32_MAX ? FP4_F32_MAX : factor;
        for (size_t i = 0; i < block; i++) {
            b.code[i] = host_code_of(c->recipe, host_mul(v[col + i], factor));
        }
        host_expected_put(t, row, col, &b);
    }
}

/* ---------------------------------------------------------------- one case */

/* All that a case writes: the tensor; y and residual as they lie in memory. */
typedef struct ops_expected {
    host_expected t;
    host_buffer y, residual;
} ops_expected;

static ops_expected ops_naively(const ops_case *c, const ops_operands *o)
{
    float *v = (float *)host_zeros(c->cols * sizeof(float));
    ops_expected e;

    e.t = host_expected_new(c->recipe, c->rows, c->cols, o->global_enc);
    e.y = host_buffer_new(host_span(c->rows, c->cols, o->stride) * host_dtype_bytes(c->dtype), 0);
    e.residual = host_buffer_new(o->residual.size, 0);
    memcpy(e.residual.bytes, o->residual.bytes, o->residual.size);
    for (size_t row = 0; row < c->rows && c->cols != 0; row++) {
        const float mul = naive_row(c, o, e.residual.bytes, row, v);
        naive_quantize_row(c, o, v, mul, row, &e.t);
        for (size_t i = 0; i < c->cols; i++) {
            naive_store(e.y.bytes, c->dtype, row * o->stride + i, host_mul(v[i], mul));
        }
    }
    free(v);
    return e;
}

/* Elements of c's type, byte for byte, but that a NaN in f32 is like another. */
static void expect_elements(const ops_case *c, host_buffer got, const uint8_t *expected,
                            const char *part)
{
    if (c->dtype != FP4_F32) {
        host_expect_bytes(got.bytes, expected, got.size, ops_text(c, part));
        return;
    }
    for (size_t i = 0; i < got.size / 4; i++) {
        const float a = naive_load(got.bytes, FP4_F32, i), b = naive_load(expected, FP4_F32, i);
        CHECK(isnan(b) ? isnan(a) : host_bits_of(a) == host_bits_of(b),
              "%s: element %zu is %08x, expected %08x", ops_text(c, part), i, host_bits_of(a),
              host_bits_of(b));
    }
}

/* Calls the library in one layout and compares every byte it may have written. */
static void ops_check_in_layout(const ops_case *c, fp4_layout layout, const ops_operands *o,
                                const ops_expected *e)
{
    const int empty = c->rows == 0 || c->cols == 0, tokens = host_is_tokens(c->recipe);
    const host_buffer q = host_buffer_new(e->t.q_bytes, c->shift);
    const host_buffer sf = host_buffer_new(host_sf_bytes(layout, c->rows, e->t.sf_cols), c->shift);
    const host_buffer row_dec = host_buffer_new(c->rows * sizeof(float), 0);
    const host_buffer y = host_buffer_new(e->y.size, c->shift);
    const host_buffer residual = host_buffer_new(o->residual.size, c->shift);
    uint8_t *scales = (uint8_t *)host_zeros(sf.size);
    fp4_ref_fused how = {o->global_enc, tokens ? o->base_dec : 0.0f, c->rounded, NULL, 0};
    fp4_tensor t =
        fp4_tensor_view(e->t.format, layout, c->rows, c->cols, q.bytes, q.size, sf.bytes, sf.size);

    if (c->with_y) {
        how.y = y.bytes;
        how.y_stride = o->stride;
    }
    if (tokens) {
        t.row_dec = (float *)(void *)row_dec.bytes;
        t.row_dec_bytes = row_dec.size;
    }
    t.global_dec = 3.0f;
    memcpy(residual.bytes, o->residual.bytes, residual.size);
    CHECK_EQ(ops_call(c->op, o->m, residual.bytes, o->stride, o->weight.bytes, o->bias.bytes,
                      c->eps, &how, &t),
             FP4_OK, "%s", ops_text(c, layout_names[layout]));
    CHECK_EQ(host_bits_of(t.global_dec), host_bits_of(e->t.global_dec), "%s",
             ops_text(c, "global_dec"));
    if (!empty) {
        host_place_scales(scales, layout, e->t.sf, c->rows, e->t.sf_cols);
        host_expect_bytes(sf.bytes, scales, sf.size, ops_text(c, layout_names[layout]));
        host_expect_bytes(q.bytes, e->t.q, q.size, ops_text(c, "codes"));
        if (tokens) {
            host_expect_bytes(row_dec.bytes, (const uint8_t *)e->t.row_dec, row_dec.size,
                              ops_text(c, "row_dec"));
        }
    }
    expect_elements(c, residual, c->op == OPS_ADD_RMSNORM ? e->residual.bytes : o->residual.bytes,
                    "residual");
    if (c->with_y) {
        expect_elements(c, y, e->y.bytes, "y");
    }
    free(scales);
    host_buffer_free(q, ops_text(c, "codes"));
    host_buffer_free(sf, ops_text(c, "scales"));
    host_buffer_free(row_dec, ops_text(c, "row_dec"));
    host_buffer_free(y, ops_text(c, "y"));
    host_buffer_free(residual, ops_text(c, "residual"));
}

/* The rounded variant is y, and then the library's own quantizer. */
static void ops_check_pair(const ops_case *c, const ops_operands *o, const ops_expected *e)
{
    const fp4_matrix y = {e->y.bytes, c->dtype, c->rows, c->cols, o->stride, 1.0f};
    const host_level level = {o->global_enc, NULL, o->base_dec};
    host_tensor h = host_tensor_new(c->recipe, FP4_LAYOUT_LINEAR, c->rows, c->cols);

    CHECK_EQ(host_quantize(c->recipe, y, &level, &h.t), FP4_OK, "%s", ops_text(c, "pair"));
    if (c->rows != 0 && c->cols != 0) {
        host_expect_bytes(h.q.bytes, e->t.q, h.q.size, ops_text(c, "codes of the pair"));
        host_expect_bytes(h.sf.bytes, e->t.sf, h.sf.size, ops_text(c, "scales of the pair"));
    }
    if (host_is_tokens(c->recipe)) {
        host_expect_bytes(h.row_dec.bytes, (const uint8_t *)e->t.row_dec, h.row_dec.size,
                          ops_text(c, "row_dec of the pair"));
    }
    host_tensor_free(h);
}

static void ops_check(ops_case c)
{
    const ops_operands o = ops_operands_new(&c);
    const ops_expected e = ops_naively(&c, &o);

    for (int i = 0; i < 3; i++) {
        ops_check_in_layout(&c, layouts[i], &o, &e);
    }
    if (c.rounded) {
        ops_check_pair(&c, &o, &e);
    }
    host_expected_free(e.t);
    host_buffer_free(e.y, "y");
    host_buffer_free(e.residual, "residual");
    ops_operands_free(o, &c);
}

/* ---------------------------------------------------------------- the grid */

/* Every type, format, level and variant of an operation, each with `shapes` of the shapes below;
   stride, alignment, eps and the kind of data change from case to case. */
static void ops_check_grid(ops_op op)
{
    static const size_t cols[] = {64, 80, 96, 384, 1536, 2048, 5120, 16384 + 16};
    static const size_t few[] = {1, 3, 0}, many[] = {129, 3, 0, 1};
    static const size_t gaps[] = {0, 1, 0, 3, 16, 0, 129};
    static const float eps[] = {1e-5f, 1e-6f, 1e-12f, 0.25f};
    size_t n = 17 * (size_t)op;
    ops_case c;

    memset(&c, 0, sizeof c);
    c.op = op;
    for (c.dtype = FP4_F32; c.dtype <= FP4_BF16; c.dtype = (fp4_dtype)(c.dtype + 1)) {
        for (size_t i = 0; i < RECIPES * 2 * 4; i++, n++) {
            const size_t block = host_recipe_block(recipes[i / 8]);
            const size_t shape = (i % 4 * 2 + n / 8) % 8; /* 4 of 8, other ones next time */
            c.recipe = recipes[i / 8];
            c.rounded = (int)(i / 4 % 2);
            c.cols = (cols[shape] + block - 1) / block * block;
            c.rows = c.cols < 400 ? many[n / 3 % 4] : few[n / 5 % (c.cols < 4000 ? 3 : 1)];
            c.with_y = n % 3 != 0;
            c.gap = gaps[n % 7];
            c.shift = n % 4;
            c.data = (host_data)(n % HOST_DATA);
            c.eps = eps[n / 2 % 4];
            c.seed = n;
            ops_check(c);
        }
    }
}

Test(host_ops, rmsnorm_equals_the_naive_one)
{
    ops_check_grid(OPS_RMSNORM);
}

Test(host_ops, rmsnorm_with_a_residual_equals_the_naive_one)
{
    ops_check_grid(OPS_ADD_RMSNORM);
}

Test(host_ops, layernorm_equals_the_naive_one)
{
    ops_check_grid(OPS_LAYERNORM);
}

Test(host_ops, silu_mul_equals_the_naive_one)
{
    ops_check_grid(OPS_SILU);
    ops_check_grid(OPS_SILU_INTERLEAVED);
}

Test(host_ops, gelu_tanh_mul_equals_the_naive_one)
{
    ops_check_grid(OPS_GELU);
    ops_check_grid(OPS_GELU_INTERLEAVED);
}

Test(host_ops, swiglu_oai_mul_equals_the_naive_one)
{
    ops_check_grid(OPS_OAI);
    ops_check_grid(OPS_OAI_INTERLEAVED);
}

Test(host_ops, long_rows_and_many_rows_are_no_different)
{
    static const size_t shapes[][2] = {{1, 65536}, {2, 70016}, {300, 256}};

    for (int i = 0; i < 3 * 4; i++) {
        static const ops_op ops[] = {OPS_ADD_RMSNORM, OPS_LAYERNORM, OPS_SILU,
                                     OPS_GELU_INTERLEAVED};
        ops_case c;
        memset(&c, 0, sizeof c);
        c.op = ops[i % 4];
        c.recipe = recipes[i % RECIPES];
        c.dtype = (fp4_dtype)(i % 3);
        c.rounded = i % 2;
        c.with_y = 1;
        c.rows = shapes[i / 4][0];
        c.cols = shapes[i / 4][1];
        c.data = HOST_NARROW;
        c.eps = 1e-5f;
        c.seed = 7000u + (uint64_t)i;
        ops_check(c);
    }
}

/* ---------------------------------------------------------------- corners, written down */

enum { ROW = 64 };

/* A row of ROW floats through an operation to NVFP4 with global_enc 1, y beside it. */
typedef struct ops_row {
    float y[ROW];
    uint8_t code[ROW]; /* one a byte */
    uint8_t sf[4];
} ops_row;

static ops_row ops_of(ops_op op, const float *x, const float *weight, const float *bias, float eps,
                      int rounded)
{
    host_tensor h = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_LINEAR, 1, ROW);
    const size_t cols = is_norm(op) ? ROW : 2 * ROW;
    float residual[ROW] = {0};
    ops_row r;
    const fp4_ref_fused how = {1.0f, 0.0f, rounded, r.y, ROW};

    CHECK_EQ(ops_call(op, fp4_matrix_f32(x, 1, cols, cols), residual, ROW, weight, bias, eps, &how,
                      &h.t),
             FP4_OK, "%s", op_names[op]);
    for (size_t i = 0; i < ROW; i++) {
        r.code[i] = (uint8_t)host_code_at(&h.t, i);
    }
    memcpy(r.sf, h.sf.bytes, 4);
    host_tensor_free(h);
    return r;
}

Test(host_ops, a_row_that_can_be_computed_by_hand)
{
    /* x is +-1.5: the mean of squares is 2.25, with eps 1.75 rstd is 1/2. The mean is 0, so that
       LayerNorm gives the same. */
    float x[ROW], weight[ROW], bias[ROW];
    ops_row r;

    for (int i = 0; i < ROW; i++) {
        x[i] = i % 2 ? -1.5f : 1.5f;
        weight[i] = i % 4 < 2 ? 8.0f : -4.0f;
        bias[i] = i % 4 == 3 ? -0.0f : 0.0f;
    }
    for (int i = 0; i < 4; i++) {
        r = ops_of(i / 2 ? OPS_LAYERNORM : OPS_RMSNORM, x, weight, bias, 1.75f, i % 2);
        for (int j = 0; j < ROW; j++) {
            static const float y[4] = {6.0f, -6.0f, -3.0f, 3.0f};
            static const uint8_t codes[4] = {0x7, 0xf, 0xd, 0x5};
            CHECK(r.y[j] == y[j % 4], "case %d, y[%d] is %.9g", i, j, (double)r.y[j]);
            CHECK_EQ(r.code[j], codes[j % 4], "case %d, code %d", i, j);
        }
        for (int j = 0; j < 4; j++) {
            CHECK_EQ(r.sf[j], 0x38, "case %d, scale %d is 1", i, j);
        }
    }
    /* gate 0 gives 0, 100 itself, -100 nothing that counts beside it */
    {
        float gated[2 * ROW], interleaved[2 * ROW];
        for (int i = 0; i < ROW; i++) {
            gated[i] = i % 4 == 0 ? 100.0f : i % 4 == 1 ? 0.0f : i % 4 == 2 ? -100.0f : -0.0f;
            gated[ROW + i] = 0.06f;
            interleaved[2 * i] = gated[i];
            interleaved[2 * i + 1] = gated[ROW + i];
        }
        for (int i = 0; i < 8; i++) {
            static const ops_op ops[] = {OPS_SILU, OPS_GELU, OPS_SILU_INTERLEAVED,
                                         OPS_GELU_INTERLEAVED};
            static const uint8_t codes[4] = {0x7, 0x0, 0x8, 0x8};
            r = ops_of(ops[i / 2], i / 2 < 2 ? gated : interleaved, NULL, NULL, 1.0f, i % 2);
            for (int j = 0; j < ROW; j++) {
                CHECK_EQ(r.code[j], codes[j % 4], "%s, code %d", op_names[ops[i / 2]], j);
                CHECK(j % 4 != 0 || r.y[j] == host_mul(100.0f, 0.06f), "y[%d] is %.9g", j,
                      (double)r.y[j]);
            }
            CHECK_EQ(r.sf[0], 0x38, "6 / 6");
        }
    }
}

static int same_float(float a, float b)
{
    return host_bits_of(a) == host_bits_of(b) || (isnan(a) && isnan(b));
}

/* Row sums, and quantization with a factor, as an op of one's own would put them together: the
   bytes of the library's RMSNorm. x, weight: f32. */
static void check_by_hand(host_recipe recipe, size_t rows, size_t cols, uint64_t *state)
{
    const fp4_format format = host_recipe_format(recipe);
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, cols / fp4_format_block(format));
    float *x = (float *)host_zeros(rows * cols * sizeof(float));
    float *w = (float *)host_zeros(cols * sizeof(float));
    float *rstd = (float *)host_zeros(rows * sizeof(float));
    float *sums = (float *)host_zeros(rows * sizeof(float));
    uint8_t *bytes = (uint8_t *)host_zeros(2 * (q_bytes + sf_bytes));
    const fp4_matrix m = fp4_matrix_f32(x, rows, cols, cols);
    fp4_tensor t = fp4_tensor_view(format, FP4_LAYOUT_128X4, rows, cols, bytes, q_bytes,
                                   bytes + 2 * q_bytes, sf_bytes);
    fp4_tensor expected = fp4_tensor_view(format, FP4_LAYOUT_128X4, rows, cols, bytes + q_bytes,
                                          q_bytes, bytes + 2 * q_bytes + sf_bytes, sf_bytes);
    fp4_ref_fused how;

    memset(&how, 0, sizeof how);
    how.global_enc = 37.5f;
    host_fill((uint8_t *)x, m, state, HOST_NARROW, 16);
    host_fill((uint8_t *)w, fp4_matrix_f32(w, 1, cols, cols), state, HOST_NARROW, 16);
    if (rows > 2) {
        x[2 * cols + 5] = NAN;
    }
    cr_assert(fp4_ref_rmsnorm_quantize(m, w, 1e-5f, &how, &expected) == FP4_OK);
    cr_assert(fp4_ref_row_sums(m, 0, sums) == FP4_OK);
    cr_assert(fp4_ref_row_sums(m, 1, rstd) == FP4_OK);
    for (size_t row = 0; row < rows; row++) {
        float *h = x + row * cols, *ones = (float *)host_zeros(cols * sizeof(float));
        for (size_t i = 0; i < cols; i++) {
            ones[i] = 1.0f;
        }
        CHECK(same_float(sums[row], naive_row_sum(h, ones, cols)), "sum of row %zu", row);
        CHECK(same_float(rstd[row], naive_row_sum(h, h, cols)), "squares of row %zu", row);
        free(ones);
        rstd[row] = fp4_ref_rsqrt(fp4_add_rn(fp4_div_rn(rstd[row], (float)cols), 1e-5f));
        for (size_t i = 0; i < cols; i++) {
            h[i] = fp4_mul_rn(h[i], w[i]);
        }
    }
    cr_assert((format == FP4_MXFP8 ? fp4_ref_mxfp8_quantize_scaled(m, rstd, &t)
               : fp4_format_is_nvfp4(format)
                   ? fp4_ref_nvfp4_quantize_scaled(m, rstd, 37.5f, &t)
                   : fp4_ref_mxfp4_quantize_scaled(m, rstd, &t)) == FP4_OK);
    CHECK(t.global_dec == expected.global_dec, "%s, global scale", host_recipe_name(recipe));
    host_expect_bytes(t.q, expected.q, q_bytes, host_recipe_name(recipe));
    host_expect_bytes(t.sf, expected.sf, sf_bytes, host_recipe_name(recipe));
    free(x);
    free(w);
    free(rstd);
    free(sums);
    free(bytes);
}

Test(host_ops, an_op_of_ones_own_from_sums_and_a_factor_has_the_bytes_of_rmsnorm)
{
    static const host_recipe recipes[] = {HOST_NVFP4_TENSOR, HOST_MXFP4_UP, HOST_MXFP8_UP};
    uint64_t state = 40;

    for (size_t i = 0; i < 3; i++) {
        check_by_hand(recipes[i], 3, 64, &state);
        check_by_hand(recipes[i], 5, 5120, &state);
        check_by_hand(recipes[i], 2, 20480, &state);
    }
}

/* A negative factor: the elements of the other sign times the positive one. Zero: zeros. */
Test(host_ops, factors_of_any_sign)
{
    static const float muls[] = {-1.0f, -0.37f, -0x1p100f, -FP4_F32_MAX, 0.0f, -0.0f};
    enum { ROWS = 6, COLS = 64 };
    float x[ROWS * COLS], turned[ROWS * COLS], mul[ROWS], other[ROWS];
    uint8_t q[2][ROWS * COLS], sf[2][512];
    uint64_t state = 41;

    for (int format = FP4_NVFP4; format <= FP4_MXFP8; format++) {
        const size_t q_bytes = fp4_q_bytes((fp4_format)format, ROWS, COLS);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            const float v = host_random_scale(&state, -9, 3);
            x[i] = i % 7 == 0 ? 0.0f : i % 50 == 0 ? NAN : i % 2 ? v : -v;
            turned[i] = -x[i];
        }
        for (size_t row = 0; row < ROWS; row++) {
            mul[row] = muls[row];
            other[row] = -muls[row];
        }
        for (int i = 0; i < 2; i++) {
            const fp4_matrix m = fp4_matrix_f32(i == 0 ? x : turned, ROWS, COLS, COLS);
            const float *of = i == 0 ? mul : other;
            fp4_tensor t = fp4_tensor_view((fp4_format)format, FP4_LAYOUT_LINEAR, ROWS, COLS, q[i],
                                           q_bytes, sf[i], sizeof sf[i]);
            CHECK_EQ(format == FP4_NVFP4   ? fp4_ref_nvfp4_quantize_scaled(m, of, 2.0f, &t)
                     : format == FP4_MXFP4 ? fp4_ref_mxfp4_quantize_scaled(m, of, &t)
                                           : fp4_ref_mxfp8_quantize_scaled(m, of, &t),
                     FP4_OK, "format %d", format);
        }
        host_expect_bytes(q[0], q[1], q_bytes, "codes");
        host_expect_bytes(sf[0], sf[1], ROWS * COLS / fp4_format_block((fp4_format)format),
                          "scale bytes");
        for (size_t i = 4 * COLS; i < 6 * COLS; i++) { /* by 0: zeros, and NaN where NaN was */
            const unsigned code =
                format == FP4_MXFP8 ? q[0][i] & 0x7fu : q[0][i / 2] >> i % 2 * 4 & 7u;
            CHECK_EQ(code, isnan(x[i]) ? (format == FP4_MXFP8 ? 0x7fu : 7u) : 0u,
                     "format %d, code %zu", format, i);
        }
    }
}

Test(host_ops, sums_and_factors_that_cannot_be_are_refused_and_nothing_is_written)
{
    static const float bad[] = {INFINITY, -INFINITY};
    float x[2 * 64] = {0}, mul[2] = {1.0f, 1.0f}, sums[2] = {7.0f, 7.0f};
    uint8_t q[128], sf[512];
    fp4_matrix m = fp4_matrix_f32(x, 2, 64, 64);
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, 2, 64, q, 64, sf, 512);
    fp4_tensor mx = fp4_tensor_view(FP4_MXFP4, FP4_LAYOUT_128X4, 2, 64, q, 64, sf, 512);
    fp4_tensor mx8 = fp4_tensor_view(FP4_MXFP8, FP4_LAYOUT_128X4, 2, 64, q, 128, sf, 512);

    memset(q, 0x7f, sizeof q);
    memset(sf, 0x7f, sizeof sf);
    for (size_t i = 0; i < 2; i++) {
        mul[1] = bad[i];
        CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, mul, 1.0f, &t), FP4_BAD_SCALE, "%a", bad[i]);
        CHECK_EQ(fp4_ref_mxfp4_quantize_scaled(m, mul, &mx), FP4_BAD_SCALE, "%a", bad[i]);
        CHECK_EQ(fp4_ref_mxfp8_quantize_scaled(m, mul, &mx8), FP4_BAD_SCALE, "%a", bad[i]);
    }
    mul[1] = 1.0f;
    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, NULL, 1.0f, &t), FP4_NULL, "no factors");
    CHECK_EQ(fp4_ref_mxfp4_quantize_scaled(m, NULL, &mx), FP4_NULL, "no factors");
    CHECK_EQ(fp4_ref_mxfp8_quantize_scaled(m, NULL, &mx8), FP4_NULL, "no factors");
    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, mul, 1.0f, NULL), FP4_NULL, "no tensor");
    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, mul, 0.0f, &t), FP4_BAD_SCALE, "global scale");
    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, mul, 1.0f, &mx), FP4_BAD_TYPE, "format");
    CHECK_EQ(fp4_ref_mxfp4_quantize_scaled(m, mul, &t), FP4_BAD_TYPE, "format");
    CHECK_EQ(fp4_ref_mxfp8_quantize_scaled(m, mul, &mx), FP4_BAD_TYPE, "format");
    t.row_dec = sums;
    t.row_dec_bytes = sizeof sums;
    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(m, mul, 1.0f, &t), FP4_BAD_TYPE, "scales of rows");
    CHECK_EQ(fp4_ref_row_sums(m, 1, NULL), FP4_NULL, "no sums");
    m.data = NULL;
    CHECK_EQ(fp4_ref_row_sums(m, 1, sums), FP4_NULL, "no x");
    m = fp4_matrix_f32(x, 2, 56, 64);
    CHECK_EQ(fp4_ref_row_sums(m, 1, sums), FP4_BAD_SHAPE, "no whole pieces");
    m = fp4_matrix_f32(x, 2, 64, 63);
    CHECK_EQ(fp4_ref_row_sums(m, 1, sums), FP4_BAD_STRIDE, "stride");
    m = fp4_matrix_f32(x, 2, 64, 64);
    m.dtype = (fp4_dtype)9;
    CHECK_EQ(fp4_ref_row_sums(m, 1, sums), FP4_BAD_TYPE, "dtype");
    for (size_t i = 0; i < sizeof sf; i++) {
        CHECK(q[i % sizeof q] == 0x7f && sf[i] == 0x7f, "byte %zu", i);
    }
    CHECK(sums[0] == 7.0f && sums[1] == 7.0f, "sums");
    CHECK_EQ(fp4_ref_row_sums(fp4_matrix_f32(x, 2, 0, 0), 1, sums), FP4_OK, "no columns");
    CHECK(sums[0] == 0.0f && sums[1] == 0.0f, "sums of nothing");
    CHECK_EQ(fp4_ref_row_sums(fp4_matrix_f32(NULL, 0, 64, 64), 1, NULL), FP4_OK, "no rows");
}

Test(host_ops, zeros_give_zeros_and_keep_their_sign)
{
    float x[2 * ROW], weight[ROW], bias[ROW];

    for (int i = 0; i < 2 * ROW; i++) {
        x[i] = i % 2 ? -0.0f : 0.0f;
        weight[i % ROW] = 2.0f;
        bias[i % ROW] = -0.0f; /* LayerNorm: fma(+-0, w, -0) keeps the sign of the first */
    }
    for (int i = 0; i < OPS * 2; i++) {
        const ops_row r = ops_of((ops_op)(i / 2), x, weight, bias, 0x1p-149f, i % 2);
        for (int j = 0; j < ROW; j++) {
            /* Norms keep the sign (LayerNorm: -0 - +0 is -0), but x + 0 with a residual is +0. Gate
               and up have the same sign apart, opposite signs interleaved; of gpt-oss it is the
               gate's, which is plus there. */
            const int op = i / 2;
            const int minus = op == OPS_RMSNORM || op == OPS_LAYERNORM || op == OPS_OAI
                                  ? j % 2
                                  : is_interleaved((ops_op)op) && op != OPS_OAI_INTERLEAVED;
            CHECK_EQ(r.code[j], minus ? 8u : 0u, "%s, code %d", op_names[op], j);
            CHECK_EQ(host_bits_of(r.y[j]), minus ? 0x80000000u : 0u, "%s, y %d", op_names[op], j);
        }
        CHECK(memcmp(r.sf, "\0\0\0\0", 4) == 0, "%s: scale %02x", op_names[i / 2], r.sf[0]);
    }
}

Test(host_ops, squares_that_overflow_give_zeros)
{
    float x[ROW], weight[ROW], bias[ROW];

    for (int i = 0; i < ROW; i++) {
        x[i] = i == 5 ? -3.0e38f : 1.0f;
        weight[i] = 1.0f;
        bias[i] = 0.0f;
    }
    for (int i = 0; i < 4; i++) {
        const ops_row r =
            ops_of(i / 2 ? OPS_LAYERNORM : OPS_RMSNORM, x, weight, bias, 1e-5f, i % 2);
        for (int j = 0; j < ROW; j++) {
            CHECK(r.y[j] == 0.0f, "case %d, y[%d] is %g", i, j, (double)r.y[j]);
            CHECK_EQ(r.code[j] & 7u, 0u, "case %d, code %d", i, j);
        }
        CHECK(memcmp(r.sf, "\0\0\0\0", 4) == 0, "case %d: scale %02x", i, r.sf[0]);
    }
}

Test(host_ops, nan_spoils_the_row_of_a_norm_and_one_element_of_a_gated_one)
{
    for (int i = 0; i < OPS * 2; i++) {
        enum { COLS = 2 * ROW };
        const ops_op op = (ops_op)(i / 2);
        const int interleaved = is_interleaved(op);
        float x[3 * COLS], weight[ROW], bias[ROW], residual[3 * ROW] = {0};
        uint8_t bytes[2][3 * ROW * 2];
        uint8_t sf[2][3 * 4];
        for (int j = 0; j < 3 * COLS; j++) {
            x[j] = (float)(j % 7) - 2.5f;
            weight[j % ROW] = bias[j % ROW] = 1.0f;
        }
        for (int bad = 0; bad < 2; bad++) { /* without, then with a NaN in row 1, element 20 */
            const size_t cols = is_norm(op) ? ROW : COLS;
            const fp4_matrix m = fp4_matrix_f32(x, 3, cols, cols);
            const fp4_ref_fused how = {8.0f, 0.0f, i % 2, NULL, 0};
            fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 3, ROW, bytes[bad],
                                           3 * ROW / 2, sf[bad], sizeof sf[bad]);
            if (bad) {
                x[cols + (interleaved ? 40 : 20)] = host_bits(0xffc12345u);
            }
            memset(residual, 0, sizeof residual);
            CHECK_EQ(ops_call(op, m, residual, ROW, weight, bias, 1e-5f, &how, &t), FP4_OK, "%s",
                     op_names[op]);
        }
        for (int row = 0; row < 3; row++) {
            for (int j = 0; j < ROW; j++) {
                const int at = row * ROW + j;
                const unsigned without = bytes[0][at / 2] >> (at % 2 * 4) & 15u;
                const unsigned with = bytes[1][at / 2] >> (at % 2 * 4) & 15u;
                const int nan = row == 1 && (is_norm(op) || j == 20);
                CHECK_EQ(with, nan ? 7u : without, "%s, row %d, code %d", op_names[op], row, j);
            }
            for (int b = 0; b < 4; b++) {
                /* element 20 of row 1 is not the largest of its block: the scale stays */
                CHECK_EQ(sf[1][row * 4 + b], row == 1 && is_norm(op) ? 0u : sf[0][row * 4 + b],
                         "%s, row %d, scale %d", op_names[op], row, b);
            }
        }
    }
}

/* ---------------------------------------------------------------- against double */

/* y in double, from the definition. */
static void in_double(ops_op op, const float *x, const float *weight, const float *bias, double eps,
                      size_t cols, double *y, double *size)
{
    double mean = 0, var = 0, magnitude = 0;

    for (size_t i = 0; i < cols && is_norm(op); i++) {
        mean += op == OPS_LAYERNORM ? (double)x[i] / (double)cols : 0.0;
        magnitude += op == OPS_LAYERNORM ? fabs((double)x[i]) / (double)cols : 0.0;
    }
    for (size_t i = 0; i < cols && is_norm(op); i++) {
        var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)cols;
    }
    for (size_t i = 0; i < cols; i++) {
        const double rstd = 1 / sqrt(var + eps), g = (double)x[i];
        if (op == OPS_SILU) {
            y[i] = g / (1 + exp(-g)) * (double)x[cols + i];
            size[i] = fabs(y[i]);
        } else if (op == OPS_OAI) {
            const double gate = fmin(g, 7), up = fmax(-7, fmin(7, (double)x[cols + i]));
            y[i] = gate / (1 + exp(-1.702 * gate)) * (up + 1);
            size[i] = fabs(y[i]);
        } else if (op == OPS_GELU) {
            const double up = (double)x[cols + i], c = 0.79788456080286535588; /* sqrt(2/pi) */
            y[i] = g / 2 * (1 + tanh(c * (g + 0.044715 * g * g * g))) * up;
            size[i] = fabs(y[i]);
        } else {
            const double d = ((double)x[i] - mean) * rstd * (double)weight[i];
            y[i] = op == OPS_LAYERNORM ? d + (double)bias[i] : d;
            size[i] = fabs(d) + fabs(y[i]) + magnitude * rstd * fabs((double)weight[i]);
        }
    }
}

Test(host_ops, y_and_what_is_decoded_are_as_near_to_double_as_the_operations_allow)
{
    /* A sum over a row of up to 16384 is 64 additions in a thread and 8 steps across: its error is
       72 half-ulps of the sum of the magnitudes, half of that in rstd; LayerNorm has the mean's as
       well. Activations are good to 3e-6, swish to 1e-5 (activation.h). */
    static const size_t widths[] = {64, 1536, 5120, 16384};
    static float x[2 * 16384], weight[16384], bias[16384], residual[16384], y[16384], out[16384];
    static double exact[16384], size[16384];
    uint64_t state = 99;

    for (int i = 0; i < 6 * 4; i++) {
        static const ops_op ops[] = {OPS_RMSNORM, OPS_ADD_RMSNORM, OPS_LAYERNORM,
                                     OPS_SILU,    OPS_GELU,        OPS_OAI};
        const ops_op op = ops[i / 4];
        const size_t cols = widths[i % 4], x_cols = is_norm(op) ? cols : 2 * cols;
        const double bound = is_norm(op) ? 80 * 0x1p-24 : op == OPS_OAI ? 1.1e-5 : 3.2e-6;
        const fp4_ref_fused how = {1.0f, 1.0f / 2688.0f, 0, y, cols};
        host_tensor h = host_tensor_new(HOST_NVFP4_TOKENS, FP4_LAYOUT_128X4, 1, cols);
        for (size_t j = 0; j < x_cols; j++) {
            x[j] = host_random_scale(&state, -3, 3) * (host_random(&state) & 1u ? 0.9f : -1.0f);
        }
        for (size_t j = 0; j < cols; j++) {
            weight[j] = host_random_scale(&state, -1, 1);
            bias[j] = host_random_scale(&state, -3, 0) - 0.4f;
            residual[j] = 0.0f; /* residual := x, exactly */
        }
        CHECK_EQ(ops_call(op, fp4_matrix_f32(x, 1, x_cols, x_cols), residual, cols, weight, bias,
                          1e-5f, &how, &h.t),
                 FP4_OK, "%s", op_names[op]);
        CHECK_EQ(fp4_ref_dequantize(&h.t, out, sizeof out, cols), FP4_OK, "%s", op_names[op]);
        in_double(op, x, weight, bias, (double)1e-5f, cols, exact, size);
        for (size_t j = 0; j < cols; j++) {
            const double amax = (double)host_amax(y + j / 16 * 16, 16);
            CHECK(fabs((double)y[j] - exact[j]) <=
                      bound * size[j] + 1e-12 * (op == OPS_GELU ? 8 : 0),
                  "%s, %zu columns, y[%zu] is %.9g, in double %.12g", op_names[op], cols, j,
                  (double)y[j], exact[j]);
            /* half of the largest step, 2 of 6, and the rounding of the scale, 1/16 */
            CHECK(fabs((double)out[j] - exact[j]) <= amax * (1.0 / 6 + 1.0 / 16),
                  "%s, %zu columns: %.9g decodes to %.9g", op_names[op], cols, exact[j],
                  (double)out[j]);
        }
        host_tensor_free(h);
    }
}

/* ---------------------------------------------------------------- what is refused */

/* Everything that a call can touch, valid. */
enum { WORLD_ROWS = 5, WORLD_COLS = 64 };

typedef struct ops_world {
    float x[WORLD_ROWS * 2 * WORLD_COLS];
    float residual[WORLD_ROWS * WORLD_COLS], y[WORLD_ROWS * WORLD_COLS];
    float weight[WORLD_COLS], bias[WORLD_COLS], row_dec[WORLD_ROWS];
    uint8_t q[WORLD_ROWS * WORLD_COLS], sf[512];
    ops_op op;
    fp4_matrix m;
    void *residual_at;
    size_t residual_stride;
    const void *weight_at, *bias_at;
    float eps;
    fp4_ref_fused how;
    fp4_tensor t;
} ops_world;

static void ops_world_reset(ops_world *w, ops_op op, host_recipe recipe, fp4_layout layout)
{
    const size_t cols = is_norm(op) ? WORLD_COLS : 2 * WORLD_COLS;

    memset(w, 0, sizeof *w);
    memset(w->q, 0x7f, sizeof w->q);
    memset(w->sf, 0x7f, sizeof w->sf);
    for (size_t i = 0; i < sizeof w->x / sizeof w->x[0]; i++) {
        w->x[i] = (float)(i % 17) - 8.0f;
        w->y[i % (WORLD_ROWS * WORLD_COLS)] = 77.0f;
        w->residual[i % (WORLD_ROWS * WORLD_COLS)] = 0.5f;
        w->weight[i % WORLD_COLS] = w->bias[i % WORLD_COLS] = 1.0f;
        w->row_dec[i % WORLD_ROWS] = 77.0f;
    }
    w->op = op;
    w->m = fp4_matrix_f32(w->x, WORLD_ROWS, cols, cols);
    w->residual_at = w->residual;
    w->residual_stride = WORLD_COLS;
    w->weight_at = w->weight;
    w->bias_at = w->bias;
    w->eps = 1e-5f;
    w->how.global_enc = host_is_tensor(recipe) ? 2.0f : 0.0f;
    w->how.base_dec = host_is_tokens(recipe) ? 0.5f : 0.0f;
    w->how.y = w->y;
    w->how.y_stride = WORLD_COLS;
    w->t = fp4_tensor_view(
        host_recipe_format(recipe), layout, WORLD_ROWS, WORLD_COLS, w->q,
        (size_t)WORLD_ROWS * WORLD_COLS / (recipe == HOST_MXFP8_UP ? 1u : 2u), w->sf,
        host_sf_bytes(layout, WORLD_ROWS, WORLD_COLS / host_recipe_block(recipe)));
    w->t.global_dec = 77.0f;
    if (host_is_tokens(recipe)) {
        w->t.row_dec = w->row_dec;
        w->t.row_dec_bytes = sizeof w->row_dec;
    }
}

static fp4_status ops_world_call(ops_world *w, const fp4_ref_fused *how, fp4_tensor *t)
{
    return ops_call(w->op, w->m, w->residual_at, w->residual_stride, w->weight_at, w->bias_at,
                    w->eps, how, t);
}

/* The call must answer `status` and leave every byte of the world as it was. */
static void ops_refuses(ops_world *w, fp4_status status, const char *what)
{
    const ops_world before = *w;

    CHECK_EQ(ops_world_call(w, &w->how, &w->t), status, "%s, format %d, layout %d: %s",
             op_names[w->op], (int)w->t.format, (int)w->t.layout, what);
    CHECK(memcmp(&before, w, sizeof before) == 0, "%s, format %d, %s: something was written",
          op_names[w->op], (int)w->t.format, what);
}

/* Runs a body for every operation, recipe and layout. `again` makes the world valid again. */
#define FOR_ALL_OPS_WORLDS(w) \
    for (int i_ = 0; i_ < OPS * RECIPES * 3; i_++) \
        if (again(&(w), i_), 1)

static void again(ops_world *w, int i)
{
    ops_world_reset(w, (ops_op)(i / 3 / RECIPES), recipes[i / 3 % RECIPES], layouts[i % 3]);
}

Test(host_ops, the_world_of_the_error_tests_is_valid)
{
    static ops_world w;

    FOR_ALL_OPS_WORLDS(w)
    {
        CHECK_EQ(ops_world_call(&w, &w.how, &w.t), FP4_OK, "%s, format %d", op_names[w.op],
                 (int)w.t.format);
        CHECK(w.y[0] != 77.0f && w.sf[0] != 0x7f && w.t.global_dec != 77.0f, "%s wrote nothing",
              op_names[w.op]);
        again(&w, i_);
        w.how.y = NULL;
        w.how.y_stride = 0; /* of no interest then */
        CHECK_EQ(ops_world_call(&w, &w.how, &w.t), FP4_OK, "%s without y", op_names[w.op]);
    }
}

Test(host_ops, bad_shapes_and_strides_are_refused_and_nothing_is_written)
{
    static ops_world w;

    FOR_ALL_OPS_WORLDS(w)
    {
        w.m.rows--;
        ops_refuses(&w, FP4_BAD_SHAPE, "fewer rows in x");
        again(&w, i_);
        w.m.cols -= 32;
        ops_refuses(&w, FP4_BAD_SHAPE, "fewer columns in x");
        again(&w, i_);
        w.m.cols--;
        ops_refuses(&w, FP4_BAD_SHAPE, "a column less in x");
        again(&w, i_);
        w.m.cols++;
        w.m.row_stride++;
        ops_refuses(&w, FP4_BAD_SHAPE, "a column more in x");
        again(&w, i_);
        w.t.cols -= 32;
        ops_refuses(&w, FP4_BAD_SHAPE, "a tensor narrower than y");
        again(&w, i_);
        w.t.cols -= 8;
        w.m.cols -= is_norm(w.op) ? 8 : 16;
        ops_refuses(&w, FP4_BAD_SHAPE, "columns that are not whole blocks");
        again(&w, i_);
        w.t.rows = w.m.rows = SIZE_MAX / 2;
        ops_refuses(&w, FP4_BAD_SHAPE, "rows that overflow");
        again(&w, i_);
        w.m.row_stride = SIZE_MAX / WORLD_ROWS;
        ops_refuses(&w, FP4_BAD_SHAPE, "bytes of x that overflow");
        again(&w, i_);
        w.m.row_stride--;
        ops_refuses(&w, FP4_BAD_STRIDE, "the stride of x");
        again(&w, i_);
        w.how.y_stride--;
        ops_refuses(&w, FP4_BAD_STRIDE, "the stride of y");
        w.how.y_stride = SIZE_MAX / 2;
        ops_refuses(&w, FP4_BAD_SHAPE, "bytes of y that overflow");
        again(&w, i_);
        if (w.op == OPS_ADD_RMSNORM) {
            w.residual_stride--;
            ops_refuses(&w, FP4_BAD_STRIDE, "the stride of the residual");
            w.residual_stride = SIZE_MAX / 2;
            ops_refuses(&w, FP4_BAD_SHAPE, "bytes of the residual that overflow");
        }
    }
}

Test(host_ops, small_buffers_and_null_pointers_are_refused_and_nothing_is_written)
{
    static ops_world w;

    FOR_ALL_OPS_WORLDS(w)
    {
        const int tokens = w.t.row_dec != NULL;
        ops_world before;
        w.t.q_bytes--;
        ops_refuses(&w, FP4_SMALL_BUFFER, "codes");
        again(&w, i_);
        w.t.sf_bytes--;
        ops_refuses(&w, FP4_SMALL_BUFFER, "scales");
        again(&w, i_);
        if (tokens) {
            w.t.row_dec_bytes--;
            ops_refuses(&w, FP4_SMALL_BUFFER, "row_dec");
            again(&w, i_);
            w.t.row_dec = NULL;
            ops_refuses(&w, FP4_NULL, "row_dec");
            again(&w, i_);
        }
        w.m.data = NULL;
        ops_refuses(&w, FP4_NULL, "x");
        again(&w, i_);
        w.t.q = NULL;
        ops_refuses(&w, FP4_NULL, "codes");
        again(&w, i_);
        w.t.sf = NULL;
        ops_refuses(&w, FP4_NULL, "scales");
        again(&w, i_);
        if (is_norm(w.op)) {
            w.weight_at = NULL;
            ops_refuses(&w, FP4_NULL, "weight");
            again(&w, i_);
        }
        if (w.op == OPS_LAYERNORM) {
            w.bias_at = NULL;
            ops_refuses(&w, FP4_NULL, "bias");
            again(&w, i_);
        }
        if (w.op == OPS_ADD_RMSNORM) {
            w.residual_at = NULL;
            ops_refuses(&w, FP4_NULL, "residual");
            again(&w, i_);
        }
        before = w;
        CHECK_EQ(ops_world_call(&w, &w.how, NULL), FP4_NULL, "tensor");
        CHECK_EQ(ops_world_call(&w, NULL, &w.t), FP4_NULL, "how");
        CHECK(memcmp(&before, &w, sizeof w) == 0, "something was written");
    }
}

Test(host_ops, bad_types_and_scales_are_refused_and_nothing_is_written)
{
    static const uint32_t bad[] = {0x80000000u, 0xbf800000u, 0x80000001u, 0x7f800000u,
                                   0xff800000u, 0x7fc00000u, 0xffffffffu, 0x00000000u};
    static ops_world w;

    FOR_ALL_OPS_WORLDS(w)
    {
        const int tokens = w.t.row_dec != NULL, nvfp4 = fp4_format_is_nvfp4(w.t.format);
        for (unsigned i = 0; i < 3; i++) {
            static const unsigned unknown[] = {5, 255, 0xffffffffu};
            again(&w, i_);
            w.t.format = (fp4_format)unknown[i];
            ops_refuses(&w, FP4_BAD_TYPE, "unknown format");
            again(&w, i_);
            w.t.layout = (fp4_layout)(unknown[i] - 2u * (i == 0));
            ops_refuses(&w, FP4_BAD_TYPE, "unknown layout");
            again(&w, i_);
            w.m.dtype = (fp4_dtype)(unknown[i] - (i == 0));
            ops_refuses(&w, FP4_BAD_TYPE, "unknown element type");
        }
        again(&w, i_);
        w.m.dtype = FP4_E4M3; /* x is long enough to be read as that */
        ops_refuses(&w, FP4_BAD_TYPE, "e4m3 input");
        again(&w, i_);
        if (!tokens) {
            w.t.row_dec = w.row_dec;
            w.t.row_dec_bytes = sizeof w.row_dec;
            ops_refuses(&w, FP4_BAD_TYPE, "a row_dec that has no use");
            w.how.base_dec = 0.5f;
            if (!nvfp4) {
                ops_refuses(&w, FP4_BAD_TYPE, "per token without a second level");
            }
        }
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            const float scale = host_bits(bad[i]);
            again(&w, i_);
            if (is_norm(w.op)) {
                w.eps = scale;
                ops_refuses(&w, FP4_BAD_SCALE, "eps");
                again(&w, i_);
            }
            w.how.global_enc = scale;
            if (nvfp4 && !tokens) {
                ops_refuses(&w, FP4_BAD_SCALE, "global_enc");
            } else {
                CHECK_EQ(ops_world_call(&w, &w.how, &w.t), FP4_OK, "no use of global_enc %08x",
                         bad[i]);
                again(&w, i_);
            }
            if (tokens && scale != 0.0f) {
                w.how.base_dec = scale;
                ops_refuses(&w, FP4_BAD_SCALE, "base_dec");
            }
        }
        again(&w, i_);
        if (nvfp4) { /* positive and finite, but its reciprocal is infinite */
            w.how.base_dec = tokens ? host_bits(0x00200000u) : 0.0f;
            w.how.global_enc = host_bits(0x00200000u);
            ops_refuses(&w, FP4_BAD_SCALE, "2^-128");
        }
    }
}

Test(host_ops, an_empty_matrix_is_fine_and_writes_nothing)
{
    static const size_t shapes[][2] = {{0, 0}, {0, 64}, {5, 0}};
    static ops_world w;

    FOR_ALL_OPS_WORLDS(w)
    {
        for (int i = 0; i < 6; i++) {
            ops_world before;
            again(&w, i_);
            w.m.rows = w.t.rows = shapes[i % 3][0];
            w.t.cols = shapes[i % 3][1];
            w.m.cols = w.t.cols * (is_norm(w.op) ? 1 : 2);
            if (i >= 3) { /* all pointers null */
                w.m.data = w.residual_at = w.how.y = w.t.q = w.t.sf = NULL;
                w.weight_at = w.bias_at = w.t.row_dec = NULL;
                w.t.q_bytes = w.t.sf_bytes = w.t.row_dec_bytes = 0;
            }
            before = w;
            CHECK_EQ(ops_world_call(&w, &w.how, &w.t), FP4_OK, "%s, %zu x %zu", op_names[w.op],
                     w.t.rows, w.t.cols);
            w.t.global_dec = before.t.global_dec; /* belongs to the tensor, empty or not */
            CHECK(memcmp(&before, &w, sizeof w) == 0, "%s, %zu x %zu: something was written",
                  op_names[w.op], w.t.rows, w.t.cols);
        }
    }
}

Test(host_ops, a_negative_factor_ends_at_flt_max)
{
    const float tiny[16] = {0.0f, 0x1p-140f}, mul = -2.0f;
    uint8_t codes[8], scale;
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 16, codes, 8, &scale, 1);

    CHECK_EQ(fp4_ref_nvfp4_quantize_scaled(fp4_matrix_f32(tiny, 1, 16, 16), &mul, 1.0f, &t), FP4_OK,
             "tiny");
    CHECK_EQ(codes[0], 0x88, "codes");
}

/*
 * fp4/host/quant.h: dequantize to any type, in either order, and of blocks of any length, against a
 * second implementation: one element after the other, products in double, rounded once, and the
 * type's nearest value by search (oracle.h).
 */
#include <fp4/host/quant.h>

#include "host_util.h"

static const char *const dtype_names[] = {"f32", "f16", "bf16"};

/* ---------------------------------------------------------------- an element */

/* x in a type, as bits. */
static uint32_t naive_narrow(float x, fp4_dtype dtype)
{
    const uint32_t sign = host_bits_of(x) >> 31 << 15;

    if (dtype == FP4_F32) {
        return host_bits_of(x);
    }
    return isnan(x) ? 0x7fffu
                    : sign | oracle_nearest(dtype == FP4_F16 ? oracle_f16() : oracle_bf16(),
                                            fabs((double)x));
}

static float naive_product(float code, float sf, float dec, fp4_association association)
{
    return association == FP4_SCALES_FIRST ? host_mul(code, host_mul(sf, dec))
                                           : host_mul(host_mul(code, sf), dec);
}

/* An element of memory, NaN of f32 as one pattern. */
static uint32_t element_at(const uint8_t *y, size_t i, fp4_dtype dtype)
{
    const size_t size = host_dtype_bytes(dtype);
    uint32_t bits = 0;

    memcpy(&bits, y + i * size, size);
    return dtype == FP4_F32 && isnan(host_bits(bits)) ? 0x7fc00000u : bits;
}

static uint32_t expected_bits(float x, fp4_dtype dtype)
{
    return dtype == FP4_F32 && isnan(x) ? 0x7fc00000u : naive_narrow(x, dtype);
}

/* ---------------------------------------------------------------- matrices */

typedef struct world {
    fp4_tensor t;
    host_buffer q, sf, y;
    float row_dec[9];
    size_t row_stride;
    const uint8_t *linear; /* scale bytes, row-major */
} world;

/* A tensor of any bytes; buffers as long as they have to be, `shift` bytes off alignment. */
static world world_new(fp4_format format, fp4_layout layout, size_t rows, size_t cols, size_t shift,
                       fp4_dtype dtype, uint64_t *state)
{
    const size_t sf_cols = cols / fp4_format_block(format);
    const size_t q_bytes = format == FP4_MXFP8 ? rows * cols : rows * cols / 2;
    uint8_t *linear = (uint8_t *)host_zeros(rows * sf_cols);
    world w;

    w.row_stride = cols + host_below(state, 3) * 5;
    w.q = host_buffer_new(q_bytes, shift);
    w.sf = host_buffer_new(host_sf_bytes(layout, rows, sf_cols), shift);
    w.y = host_buffer_new(host_span(rows, cols, w.row_stride) * host_dtype_bytes(dtype), shift);
    for (size_t i = 0; i < q_bytes; i++) {
        w.q.bytes[i] = (uint8_t)host_random(state);
    }
    for (size_t i = 0; i < rows * sf_cols; i++) {
        linear[i] = (uint8_t)(fp4_format_is_nvfp4(format) || host_below(state, 4) == 0
                                  ? host_random(state)
                                  : 110 + host_below(state, 32));
    }
    host_place_scales(w.sf.bytes, layout, linear, rows, sf_cols);
    w.linear = linear;
    w.t = fp4_tensor_view(format, layout, rows, cols, w.q.bytes, w.q.size, w.sf.bytes, w.sf.size);
    for (size_t i = 0; i < 9; i++) {
        w.row_dec[i] = i == 0 ? 0.0f : i == 1 ? INFINITY : host_random_scale(state, -30, 30);
    }
    w.t.global_dec = fp4_format_is_nvfp4(format) ? 0.3f : 1.0f;
    return w;
}

static void world_free(world w, const char *what)
{
    host_buffer_free(w.q, what);
    host_buffer_free(w.sf, what);
    host_buffer_free(w.y, what);
    free((void *)(uintptr_t)w.linear);
}

static void expect_matrix(const world *w, fp4_association association, fp4_dtype dtype,
                          const char *what)
{
    const fp4_tensor *t = &w->t;
    const size_t sf_cols = t->cols / fp4_format_block(t->format);
    const size_t size = host_dtype_bytes(dtype);

    for (size_t row = 0; row < t->rows; row++) {
        const size_t end = row + 1 == t->rows ? t->cols : w->row_stride;
        for (size_t col = 0; col < end; col++) {
            const size_t at = row * t->cols + col, i = row * w->row_stride + col;
            const uint32_t gap = 0x7f7f7f7fu >> (32 - 8 * size);
            uint32_t expected = gap;
            if (col < t->cols) {
                const uint8_t sf = w->linear[row * sf_cols + col / fp4_format_block(t->format)];
                const float scale = fp4_format_is_nvfp4(t->format) ? host_e4m3(sf) : host_e8m0(sf);
                const float code = t->format == FP4_MXFP8
                                       ? host_e4m3(t->q[at])
                                       : host_e2m1(t->q[at / 2] >> (at % 2 * 4) & 15u);
                const float dec = t->row_dec != NULL ? t->row_dec[row] : t->global_dec;
                expected = expected_bits(naive_product(code, scale, dec, association), dtype);
            }
            CHECK_EQ(element_at(w->y.bytes, i, dtype), expected, "%s to %s, row %zu, col %zu", what,
                     dtype_names[dtype], row, col);
        }
    }
}

/* Every format, layout, type and order; rows of more than one chunk; one scale, and one a row. */
Test(host_dequant, any_format_layout_type_and_order)
{
    static const size_t blocks[] = {1, 2, 5, 16, 67};
    uint64_t state = 1;

    for (int format = FP4_NVFP4; format <= FP4_MXFP4_16; format++) {
        for (int layout = 0; layout < 3; layout++) {
            for (int dtype = FP4_F32; dtype <= FP4_BF16; dtype++) {
                for (int k = 0; k < 20; k++) {
                    const size_t cols = blocks[k % 5] * fp4_format_block((fp4_format)format);
                    const fp4_association association = (fp4_association)(k / 5 % 2);
                    world w = world_new((fp4_format)format, (fp4_layout)layout, 1 + (size_t)k % 9,
                                        cols, (size_t)k % 4, (fp4_dtype)dtype, &state);
                    char what[96];
                    snprintf(what, sizeof what, "format %d, layout %d, %zu x %zu, order %d", format,
                             layout, w.t.rows, cols, (int)association);
                    if (fp4_format_is_nvfp4((fp4_format)format) && k >= 10) {
                        w.t.row_dec = w.row_dec;
                        w.t.row_dec_bytes = sizeof w.row_dec;
                    }
                    CHECK_EQ(fp4_ref_dequantize_to(&w.t, association, (fp4_dtype)dtype, w.y.bytes,
                                                   w.y.size, w.row_stride),
                             FP4_OK, "%s", what);
                    expect_matrix(&w, association, (fp4_dtype)dtype, what);
                    world_free(w, what);
                }
            }
        }
    }
}

/* fp4_ref_dequantize is that to f32 with the code first. */
Test(host_dequant, to_f32_is_the_short_name)
{
    uint64_t state = 2;
    world w = world_new(FP4_NVFP4, FP4_LAYOUT_8X4, 9, 48, 0, FP4_F32, &state);
    host_buffer y = host_buffer_new(w.y.size, 0);

    CHECK_EQ(
        fp4_ref_dequantize_to(&w.t, FP4_CODE_FIRST, FP4_F32, w.y.bytes, w.y.size, w.row_stride),
        FP4_OK, "long");
    CHECK_EQ(fp4_ref_dequantize(&w.t, (float *)(void *)y.bytes, y.size, w.row_stride), FP4_OK,
             "short");
    host_expect_bytes(y.bytes, w.y.bytes, y.size, "short");
    host_buffer_free(y, "short");
    world_free(w, "long");
}

/* Formats without a second level have one order. */
Test(host_dequant, the_order_is_that_of_nvfp4)
{
    for (int format = FP4_NVFP4; format <= FP4_MXFP4_16; format++) {
        uint64_t state = 3;
        world w = world_new((fp4_format)format, FP4_LAYOUT_LINEAR, 9, 96, 0, FP4_F32, &state);
        uint8_t *first = (uint8_t *)host_zeros(w.y.size);
        CHECK_EQ(
            fp4_ref_dequantize_to(&w.t, FP4_CODE_FIRST, FP4_F32, w.y.bytes, w.y.size, w.row_stride),
            FP4_OK, "format %d", format);
        memcpy(first, w.y.bytes, w.y.size);
        CHECK_EQ(fp4_ref_dequantize_to(&w.t, FP4_SCALES_FIRST, FP4_F32, w.y.bytes, w.y.size,
                                       w.row_stride),
                 FP4_OK, "format %d", format);
        CHECK((memcmp(first, w.y.bytes, w.y.size) != 0) == fp4_format_is_nvfp4((fp4_format)format),
              "format %d: whether orders differ", format);
        free(first);
        world_free(w, "orders");
    }
}

/* Codes 0, 8 (-0), 1 and 7 of one block, either way. */
static void expect_both_orders(uint8_t sf, float dec, const float code_first[4],
                               const float scales_first[4])
{
    const uint8_t q[8] = {0x80, 0x71};
    const float *const expected[] = {code_first, scales_first};

    for (int order = 0; order < 2; order++) {
        fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, 16, (uint8_t *)(uintptr_t)q,
                                       8, &sf, 1);
        float matrix[16], blocks[16];
        t.global_dec = dec;
        CHECK_EQ(
            fp4_ref_dequantize_to(&t, (fp4_association)order, FP4_F32, matrix, sizeof matrix, 16),
            FP4_OK, "order %d, %a", order, (double)dec);
        CHECK_EQ(fp4_ref_dequantize_blocks(q, 16, 16, &sf, FP4_SF_E4M3, dec, (fp4_association)order,
                                           FP4_F32, blocks),
                 FP4_OK, "blocks, order %d, %a", order, (double)dec);
        for (size_t i = 0; i < 4; i++) {
            const uint32_t bits = expected_bits(expected[order][i], FP4_F32);
            CHECK_EQ(element_at((const uint8_t *)matrix, i, FP4_F32), bits,
                     "order %d, %a, element %zu", order, (double)dec, i);
            CHECK_EQ(element_at((const uint8_t *)blocks, i, FP4_F32), bits,
                     "blocks, order %d, %a, element %zu", order, (double)dec, i);
        }
    }
}

/* What types.h says of the orders: more than an ulp apart where sf * global_dec overflows, and
   where it is less than a normal number. */
Test(host_dequant, scales_that_leave_the_range_before_a_code_is_there)
{
    static const float in_range[] = {0.0f, -0.0f, 0x1.5109a8p+127f, INFINITY};
    static const float over[] = {NAN, NAN, INFINITY, INFINITY};
    static const float small[] = {0.0f, -0.0f, 0.0f, 0x1.8p-148f};
    static const float under[] = {0.0f, -0.0f, 0.0f, 0.0f};
    static const float exact[] = {0.0f, -0.0f, 0x1p-149f, 0x1.2p-146f};
    static const float rounded[] = {0.0f, -0.0f, 0x1p-149f, 0x1.8p-146f};

    expect_both_orders(0x7e, 1e36f, in_range, over);
    expect_both_orders(0x30, 0x1p-149f, small, under);
    expect_both_orders(0x3c, 0x1p-149f, exact, rounded); /* 1.5: two units, not one and a half */
}

static void refuses(world *w, fp4_association association, fp4_dtype dtype, size_t y_bytes,
                    size_t stride, fp4_status status, const char *what)
{
    CHECK_EQ(fp4_ref_dequantize_to(&w->t, association, dtype, w->y.bytes, y_bytes, stride), status,
             "%s", what);
    for (size_t i = 0; i < w->y.size; i++) {
        CHECK_EQ(w->y.bytes[i], 0x7f, "%s: byte %zu was written", what, i);
    }
}

Test(host_dequant, what_cannot_be_is_refused_and_nothing_is_written)
{
    for (int dtype = FP4_F32; dtype <= FP4_BF16; dtype++) {
        const fp4_dtype to = (fp4_dtype)dtype;
        const size_t size = host_dtype_bytes(to);
        uint64_t state = 4;
        world w = world_new(FP4_NVFP4, FP4_LAYOUT_128X4, 5, 48, 0, to, &state);
        const size_t needed = (4 * w.row_stride + 48) * size;
        const fp4_tensor good = w.t;

        refuses(&w, FP4_CODE_FIRST, FP4_E4M3, needed, w.row_stride, FP4_BAD_TYPE, "to e4m3");
        refuses(&w, FP4_CODE_FIRST, (fp4_dtype)7, needed, w.row_stride, FP4_BAD_TYPE, "no type");
        refuses(&w, (fp4_association)2, to, needed, w.row_stride, FP4_BAD_TYPE, "no order");
        refuses(&w, FP4_CODE_FIRST, to, needed - 1, w.row_stride, FP4_SMALL_BUFFER, "a byte less");
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride + 1, FP4_SMALL_BUFFER, "wider");
        refuses(&w, FP4_CODE_FIRST, to, needed, 47, FP4_BAD_STRIDE, "rows that overlap");
        refuses(&w, FP4_CODE_FIRST, to, SIZE_MAX, SIZE_MAX, FP4_BAD_SHAPE, "a stride without end");
        w.t.global_dec = -0.5f;
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride, FP4_BAD_SCALE, "a negative scale");
        w.t.global_dec = -0.0f;
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride, FP4_BAD_SCALE, "minus zero");
        w.t.global_dec = INFINITY;
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride, FP4_BAD_SCALE, "an infinite scale");
        w.t = good;
        w.t.q_bytes--;
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride, FP4_SMALL_BUFFER, "codes");
        w.t = good;
        w.t.cols = 40;
        refuses(&w, FP4_CODE_FIRST, to, needed, w.row_stride, FP4_BAD_SHAPE, "not whole blocks");
        w.t = good;
        CHECK_EQ(fp4_ref_dequantize_to(&w.t, FP4_CODE_FIRST, to, NULL, needed, w.row_stride),
                 FP4_NULL, "no y");
        CHECK_EQ(fp4_ref_dequantize_to(NULL, FP4_CODE_FIRST, to, w.y.bytes, needed, w.row_stride),
                 FP4_NULL, "no tensor");
        w.t.rows = 0;
        CHECK_EQ(fp4_ref_dequantize_to(&w.t, FP4_CODE_FIRST, to, NULL, 0, 48), FP4_OK, "no rows");
        world_free(w, "refused");
    }
}

/* ---------------------------------------------------------------- blocks */

static void run_blocks(size_t n, size_t block, fp4_sf_type type, fp4_association association,
                       fp4_dtype dtype, float dec, size_t shift, uint64_t *state)
{
    static const uint32_t special[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 0u,
                                       0x80000000u, 1u,          0x80400000u, 0x7f7fffffu};
    const size_t sf_size = type == FP4_SF_F32 ? 4 : 1;
    const host_buffer q = host_buffer_new(n / 2, shift);
    const host_buffer sf = host_buffer_new(n / block * sf_size, shift);
    const host_buffer y = host_buffer_new(n * host_dtype_bytes(dtype), shift);
    char what[128];

    snprintf(what, sizeof what, "%zu in blocks of %zu, scales %d, order %d, to %s, %a", n, block,
             (int)type, (int)association, dtype_names[dtype], (double)dec);
    for (size_t i = 0; i < n / 2; i++) {
        q.bytes[i] = (uint8_t)host_random(state);
    }
    for (size_t i = 0; i < n / block; i++) {
        const float x = host_below(state, 4) == 0 ? host_bits(special[host_below(state, 8)])
                                                  : -host_random_scale(state, -12, 12);
        const uint8_t byte = (uint8_t)host_random(state);
        memcpy(sf.bytes + i * sf_size, type == FP4_SF_F32 ? (const void *)&x : &byte, sf_size);
    }
    CHECK_EQ(fp4_ref_dequantize_blocks(q.bytes, n, block, sf.bytes, type, dec, association, dtype,
                                       y.bytes),
             FP4_OK, "%s", what);
    for (size_t i = 0; i < n; i++) {
        const float code = host_e2m1(q.bytes[i / 2] >> (i % 2 * 4) & 15u);
        float scale;
        memcpy(&scale, sf.bytes + (type == FP4_SF_F32 ? i / block * 4 : 0),
               type == FP4_SF_F32 ? 4 : 0);
        scale = type == FP4_SF_F32    ? scale
                : type == FP4_SF_E4M3 ? host_e4m3(sf.bytes[i / block])
                                      : host_e8m0(sf.bytes[i / block]);
        CHECK_EQ(element_at(y.bytes, i, dtype),
                 expected_bits(naive_product(code, scale, dec, association), dtype),
                 "%s, element %zu", what, i);
    }
    host_buffer_free(q, what);
    host_buffer_free(sf, what);
    host_buffer_free(y, what);
}

Test(host_dequant, blocks_of_any_length)
{
    static const size_t lengths[] = {1, 2, 3, 5, 7, 8, 16, 24, 32, 100, 512, 513, 1030};
    static const size_t counts[] = {2, 10, 98};
    static const float decs[] = {1.0f, 0.3f, 0.0f, 0x1p-149f, 0x1p100f};
    uint64_t state = 5;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        for (int k = 0; k < 90; k++) {
            run_blocks(lengths[i] * counts[k / 30], lengths[i], (fp4_sf_type)(k % 3),
                       (fp4_association)(k / 3 % 2), (fp4_dtype)(k / 6 % 3), decs[k % 5],
                       (size_t)k % 3, &state);
        }
    }
}

Test(host_dequant, blocks_that_cannot_be_are_refused_and_nothing_is_written)
{
    const uint8_t q[8] = {0}, sf[16] = {0};
    const host_buffer y = host_buffer_new(64, 0);
    static const struct {
        size_t n, block;
        int type, association, dtype;
        float dec;
        fp4_status status;
    } calls[] = {{16, 0, 0, 0, 0, 1.0f, FP4_BAD_SHAPE},
                 {15, 5, 0, 0, 0, 1.0f, FP4_BAD_SHAPE},
                 {16, 3, 0, 0, 0, 1.0f, FP4_BAD_SHAPE},
                 {16, 32, 0, 0, 0, 1.0f, FP4_BAD_SHAPE},
                 {SIZE_MAX - 1, 2, 0, 0, 0, 1.0f, FP4_BAD_SHAPE},
                 {16, 4, 3, 0, 0, 1.0f, FP4_BAD_TYPE},
                 {16, 4, 0, 2, 0, 1.0f, FP4_BAD_TYPE},
                 {16, 4, 0, 0, FP4_E4M3, 1.0f, FP4_BAD_TYPE},
                 {16, 4, 0, 0, 0, -1.0f, FP4_BAD_SCALE},
                 {16, 4, 0, 0, 0, -0.0f, FP4_BAD_SCALE},
                 {16, 4, 0, 0, 0, INFINITY, FP4_BAD_SCALE},
                 {16, 4, 0, 0, 0, NAN, FP4_BAD_SCALE}};

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK_EQ(fp4_ref_dequantize_blocks(
                     q, calls[i].n, calls[i].block, sf, (fp4_sf_type)calls[i].type, calls[i].dec,
                     (fp4_association)calls[i].association, (fp4_dtype)calls[i].dtype, y.bytes),
                 calls[i].status, "call %zu", i);
    }
    CHECK_EQ(fp4_ref_dequantize_blocks(NULL, 16, 4, sf, FP4_SF_E4M3, 1.0f, FP4_CODE_FIRST, FP4_F32,
                                       y.bytes),
             FP4_NULL, "no q");
    CHECK_EQ(fp4_ref_dequantize_blocks(q, 16, 4, NULL, FP4_SF_E4M3, 1.0f, FP4_CODE_FIRST, FP4_F32,
                                       y.bytes),
             FP4_NULL, "no sf");
    CHECK_EQ(
        fp4_ref_dequantize_blocks(q, 16, 4, sf, FP4_SF_E4M3, 1.0f, FP4_CODE_FIRST, FP4_F32, NULL),
        FP4_NULL, "no y");
    CHECK_EQ(fp4_ref_dequantize_blocks(NULL, 0, 4, NULL, FP4_SF_E4M3, 1.0f, FP4_CODE_FIRST, FP4_F32,
                                       NULL),
             FP4_OK, "nothing");
    for (size_t i = 0; i < y.size; i++) {
        CHECK_EQ(y.bytes[i], 0x7f, "byte %zu was written", i);
    }
    host_buffer_free(y, "refused");
}

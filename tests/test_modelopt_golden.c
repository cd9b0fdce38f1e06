/*
 * fp4/modelopt.h against what ModelOpt's own code gave for nvfp4_scalar_qdq, fp4_fake_quant_block,
 * the scales of a static NVFP4QTensor and fused_amax_convert (golden/modelopt, golden/README.md).
 * Floats there are their bits; a matrix has a global of each row in column 0.
 */
#include <fp4/host/fake.h>
#include <fp4/host/modelopt.h>

#include <math.h>

#include "golden.h"
#include "host_util.h"

enum { BLOCK = 16, COLS = 128 };

static const uint32_t *words(const char *name, size_t count)
{
    return (const uint32_t *)golden_data(golden_path("modelopt/%s.npy", name), "<u4", count);
}

/* One row of n floats of which these are the bits. */
static fp4_matrix row_of(const uint32_t *x, size_t n)
{
    return fp4_matrix_f32((const float *)(const void *)x, 1, n, n);
}

/* ---------------------------------------------------------------- nvfp4_scalar_qdq */

Test(modelopt_golden, qdq_is_that_of_nvfp4_scalar_qdq)
{
    enum { ROWS = 96 };
    const uint32_t *in = words("qdq.in", ROWS * (1 + COLS));
    const uint32_t *expected = words("qdq.out", ROWS * COLS);
    size_t small = 0;

    for (size_t row = 0; row < ROWS; row++) {
        const uint32_t *x = in + row * (1 + COLS);
        uint32_t y[COLS];
        CHECK_EQ(fp4_ref_modelopt_qdq(row_of(x + 1, COLS), BLOCK, host_bits(x[0]), FP4_F32, y,
                                      sizeof y, COLS),
                 FP4_OK, "row %zu", row);
        for (size_t i = 0; i < COLS; i++) {
            CHECK_EQ(y[i], expected[row * COLS + i], "row %zu, element %zu: %08x, global %08x", row,
                     i, x[1 + i], x[0]);
            small += fabsf(host_bits(x[1 + i])) < 1e-5f && y[i] != 0;
        }
    }
    CHECK(small > 1000, "only %zu below 1e-5 that are not zeros then", small);
}

/* ---------------------------------------------------------------- fp4_fake_quant_block */

/* Rows of a type with blocks of each of these lengths. */
enum { F32_ROWS = 39, HALF_ROWS = 13, LENGTHS = 4 };
static const size_t lengths[LENGTHS] = {16, 32, 64, 128};

/* What was compared, so that it is not nothing. */
typedef struct seen {
    size_t rows, of_nan;
} seen;

static int is_of_nan(const uint32_t *x, size_t n)
{
    size_t i = 0;

    while (i < n && isnan(host_bits(x[i]))) {
        i++;
    }
    return i == n;
}

/* A row as elements of this type, faked as a matrix of it. */
static void expect_dynamic_row(const uint32_t *in, size_t length, fp4_dtype dtype,
                               const uint8_t *expected, seen *s)
{
    const size_t size = host_dtype_bytes(dtype);
    uint8_t x[COLS * 4], y[COLS * 4];
    fp4_fake f = {FP4_FAKE_MODELOPT, host_bits(in[0]), NULL, 0, NULL, length, 0.0f};

    for (size_t i = 0; i < COLS; i++) {
        const float one = host_bits(in[1 + i]);
        const uint32_t bits = dtype == FP4_F32   ? in[1 + i]
                              : dtype == FP4_F16 ? fp4_f32_to_f16(one)
                                                 : fp4_f32_to_bf16(one);
        memcpy(x + i * size, &bits, size);
    }
    CHECK_EQ(fp4_ref_fake_quantize(fp4_matrix_of_(x, dtype, 1, COLS, COLS, 1.0f), &f, dtype, y,
                                   sizeof y, COLS, NULL, 0),
             FP4_OK, "global %08x", in[0]);
    for (size_t i = 0; i < COLS; i++) {
        uint32_t got = 0, theirs = 0;
        memcpy(&got, y + i * size, size);
        memcpy(&theirs, expected + i * size, size);
        CHECK_EQ(got, theirs, "type %d, blocks of %zu, element %zu: %08x, global %08x", (int)dtype,
                 length, i, in[1 + i], in[0]);
    }
    for (size_t i = 0; i < COLS; i += length) {
        s->of_nan += (size_t)is_of_nan(in + 1 + i, length);
    }
    s->rows++;
}

/* All rows of a type but those whose global is no number. */
static void expect_dynamic(const char *name, fp4_dtype dtype, size_t rows, seen *s)
{
    const char *type = dtype == FP4_F32 ? "<u4" : "<u2";
    const size_t bytes = COLS * host_dtype_bytes(dtype);
    char file[32];
    const uint32_t *in;
    const uint8_t *out;

    snprintf(file, sizeof file, "dynamic.%s.in", name);
    in = words(file, rows * (1 + COLS));
    out = (const uint8_t *)golden_data(golden_path("modelopt/dynamic.%s.out.npy", name), type,
                                       LENGTHS * rows * COLS);
    for (size_t at = 0; at < LENGTHS * rows; at++) {
        const uint32_t *row = in + at % rows * (1 + COLS);
        if (host_bits(row[0]) <= FP4_F32_MAX) {
            expect_dynamic_row(row, lengths[at / rows], dtype, out + at * bytes, s);
        }
    }
}

Test(modelopt_golden, dynamic_fakes_are_those_of_fp4_fake_quant_block)
{
    seen s = {0, 0};

    expect_dynamic("f32", FP4_F32, F32_ROWS, &s);
    expect_dynamic("bf16", FP4_BF16, HALF_ROWS, &s);
    expect_dynamic("f16", FP4_F16, HALF_ROWS, &s);
    CHECK(s.rows > 230 && s.of_nan > 180, "only %zu rows, %zu blocks of nothing but NaN", s.rows,
          s.of_nan);
}

/* Of a tensor with a NaN, which its amax then is, scales are 1. Of one with an infinity so are
   those of ModelOpt, but infinite in blocks that have one or nothing but NaN: there every number
   becomes NaN. fp4_modelopt_dynamic_scale says 1. */
Test(modelopt_golden, dynamic_fakes_of_a_global_that_is_no_number)
{
    const uint32_t *in = words("dynamic.f32.in", F32_ROWS * (1 + COLS));
    const uint32_t *out = words("dynamic.f32.out", LENGTHS * F32_ROWS * COLS);
    size_t same = 0, infinite = 0;

    for (size_t at = 0; at < LENGTHS * F32_ROWS * COLS; at++) {
        const uint32_t *row = in + at / COLS % F32_ROWS * (1 + COLS);
        const size_t length = lengths[at / COLS / F32_ROWS], i = at % COLS;
        const uint32_t *block = row + 1 + i / length * length;
        const float global = host_bits(row[0]), x = host_bits(row[1 + i]);
        const float amax =
            is_of_nan(block, length) ? NAN : host_amax((const float *)(const void *)block, length);
        if (global <= FP4_F32_MAX) {
            continue;
        }
        CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(amax, global)), host_bits_of(1.0f),
                 "%08x of %08x", host_bits_of(amax), row[0]);
        if (isinf(global) && !(amax <= FP4_F32_MAX)) {
            const float theirs = host_bits(out[at]);
            CHECK(isnan(x) || isinf(x) ? isinf(theirs) && (theirs > 0.0f) == (x > 0.0f)
                                       : isnan(theirs),
                  "%08x is %08x", row[1 + i], out[at]);
            infinite++;
        } else {
            CHECK_EQ(host_bits_of(fp4_modelopt_fake_dynamic(x, 1.0f)), out[at], "%08x of %08x",
                     row[1 + i], row[0]);
            same++;
        }
    }
    CHECK(same > 800 && infinite > 400, "only %zu, %zu", same, infinite);
}

Test(modelopt_golden, dynamic_level_is_that_of_pytorch_on_the_gpu)
{
    enum { N = 253 };
    const uint32_t *amaxes = words("dynamic.dec", 3 * N), *gpu = amaxes + N, *cpu = gpu + N;
    size_t differ = 0;

    for (size_t i = 0; i < N; i++) {
        const float dec = fp4_modelopt_dynamic_dec(host_bits(amaxes[i]));
        if (isnan(host_bits(gpu[i]))) {
            CHECK(isnan(dec), "%08x", amaxes[i]);
        } else {
            CHECK_EQ(host_bits_of(dec), host_bits(gpu[i]) > 0.0f ? gpu[i] : host_bits_of(1e-12f),
                     "%08x", amaxes[i]);
        }
        differ += gpu[i] != cpu[i];
    }
    CHECK(differ > 60, "only %zu tell a product from a quotient", differ);
}

/* ---------------------------------------------------------------- static NVFP4QTensor */

Test(modelopt_golden, static_scales_are_those_of_nvfp4_qtensor)
{
    enum { ROWS = 40, BLOCKS = 64 };
    static const float fp8_max[2] = {448.0f, 256.0f};
    static const float zeros[BLOCKS * BLOCK];
    const uint32_t *in = words("static.in", ROWS * (1 + BLOCKS));
    const uint32_t *out = words("static.out", 2 * ROWS * (1 + BLOCKS));
    const fp4_matrix x = fp4_matrix_f32(zeros, 1, BLOCKS * BLOCK, BLOCKS * BLOCK);
    uint8_t q[BLOCKS * BLOCK / 2], sf[BLOCKS];
    size_t tensors = 0;

    for (size_t i = 0; i < 2 * ROWS; i++) {
        const uint32_t *given = in + i % ROWS * (1 + BLOCKS), *expected = out + i * (1 + BLOCKS);
        const float most = fp8_max[i / ROWS], global = host_bits(given[0]);
        fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, BLOCKS * BLOCK, q, sizeof q,
                                       sf, sizeof sf);
        CHECK_EQ(host_bits_of(fp4_modelopt_global_dec(global, most)), expected[0], "row %zu", i);
        for (size_t b = 0; b < BLOCKS; b++) {
            CHECK_EQ(fp4_modelopt_nvfp4_static_sf(host_bits(given[1 + b]), global, most),
                     expected[1 + b], "row %zu, block %zu: %08x of %08x", i, b, given[1 + b],
                     given[0]);
        }
        if (expected[0] == 0) { /* not a scale that host/modelopt.h takes */
            continue;
        }
        CHECK_EQ(fp4_ref_modelopt_nvfp4_static(x, (const float *)(const void *)(given + 1), global,
                                               most, &t),
                 FP4_OK, "row %zu", i);
        CHECK_EQ(host_bits_of(t.global_dec), expected[0], "row %zu", i);
        for (size_t b = 0; b < BLOCKS; b++) {
            CHECK_EQ(sf[b], expected[1 + b], "row %zu, block %zu of a tensor", i, b);
        }
        tensors++;
    }
    CHECK(tensors >= 76, "only %zu tensors", tensors);
}

/* ---------------------------------------------------------------- fused_amax_convert */

enum { CONVERT_ROWS = 64, CONVERT_BLOCKS = COLS / BLOCK };

/* What convert.out holds. The kernel is compiled with --use_fast_math; the host's is as written. */
enum { KERNEL, KERNEL_ALONE, HOST, HOST_ALONE };

typedef struct block {
    const uint32_t *x, *expected;
    float amax, global;
    int is_alone;
} block;

static block block_of(int what, size_t row, size_t b)
{
    static const uint32_t *in, *out;
    block k;

    if (in == NULL) {
        in = words("convert.in", (size_t)CONVERT_ROWS * (1 + COLS));
        out = words("convert.out", (size_t)4 * CONVERT_ROWS * COLS);
    }
    k.x = in + row * (1 + COLS) + 1 + b * BLOCK;
    k.expected = out + ((size_t)what * CONVERT_ROWS + row) * COLS + b * BLOCK;
    k.amax = host_amax((const float *)(const void *)k.x, BLOCK);
    k.global = host_bits(in[row * (1 + COLS)]);
    k.is_alone = what == KERNEL_ALONE || what == HOST_ALONE;
    return k;
}

static fp4_modelopt_factors factors_of(const block *k)
{
    return k->is_alone ? fp4_modelopt_convert_scale_alone(k->amax)
                       : fp4_modelopt_convert_scale(k->amax, k->global);
}

/* An element as expected. NaN and zeros have a sign that ModelOpt has not set: NaN is not looked
   at, a zero only for being one, if a scale of infinity does not make it NaN. */
static int is_as_expected(const block *k, size_t i, fp4_modelopt_factors factors, int is_flushed)
{
    const float x = host_bits(k->x[i]);
    const float none = is_flushed ? 0x1p-126f : 0x1p-149f;

    if (isnan(x) || (fabsf(x) < none && isinf(factors.enc))) {
        return 1;
    }
    if (fabsf(x) < none) {
        return (k->expected[i] & 0x7fffffffu) == 0;
    }
    return host_bits_of(fp4_modelopt_convert(x, factors)) == k->expected[i];
}

Test(modelopt_golden, convert_is_fused_amax_convert_as_written)
{
    for (size_t at = 0; at < (size_t)2 * CONVERT_ROWS * CONVERT_BLOCKS; at++) {
        const size_t row = at / 2 / CONVERT_BLOCKS, b = at / 2 % CONVERT_BLOCKS;
        const block k = block_of(at % 2 == 0 ? HOST : HOST_ALONE, row, b);
        const fp4_modelopt_factors factors = factors_of(&k);
        uint32_t y[BLOCK];
        for (size_t i = 0; i < BLOCK; i++) {
            CHECK(is_as_expected(&k, i, factors, 0), "row %zu, block %zu: %08x is %08x, not %08x",
                  row, b, k.x[i], host_bits_of(fp4_modelopt_convert(host_bits(k.x[i]), factors)),
                  k.expected[i]);
        }
        if (isnan(k.global)) { /* host/modelopt.h refuses it */
            continue;
        }
        CHECK_EQ(fp4_ref_modelopt_convert(row_of(k.x, BLOCK), BLOCK, k.is_alone ? NULL : &k.global,
                                          0, FP4_F32, y, sizeof y, BLOCK),
                 FP4_OK, "row %zu", row);
        for (size_t i = 0; i < BLOCK; i++) {
            CHECK_EQ(y[i], host_bits_of(fp4_modelopt_convert(host_bits(k.x[i]), factors)),
                     "row %zu, block %zu, element %zu of a matrix", row, b, i);
        }
    }
}

/* x, some units in the last place away. */
static float nudged(float x, int ulps)
{
    return host_bits(host_bits_of(x) + (uint32_t)ulps);
}

/* The factors if the first division of a row and that of a block are so many ulp off. */
static fp4_modelopt_factors factors_off(const block *k, int row_ulps, int block_ulps)
{
    double two = 1.0, units;

    if (!(k->amax > 0.0f) || (!k->is_alone && !(k->global > 0.0f && k->global <= FP4_F32_MAX))) {
        return factors_of(k);
    }
    if (k->is_alone) {
        units = 1.0 / (double)nudged(host_div(6.0f, k->amax), block_ulps);
    } else {
        two = 448.0 * (double)nudged(host_div(6.0f, k->global), row_ulps);
        units = (double)nudged(host_div(fminf(k->amax, FP4_F32_MAX), 6.0f), block_ulps) * two;
    }
    return fp4_modelopt_factors_((double)host_e4m3(fp4_f32_to_e4m3((float)units)) / two, 1);
}

/* A block is as expected with some error of its division. Blocks near subnormals are flushed. */
static int is_block(const block *k, int row_ulps)
{
    for (int block_ulps = -2; block_ulps <= 2; block_ulps++) {
        const fp4_modelopt_factors factors = factors_off(k, row_ulps, block_ulps);
        size_t same = 0;
        while (same < BLOCK && is_as_expected(k, same, factors, 1)) {
            same++;
        }
        if (same == BLOCK) {
            return 1;
        }
    }
    return 0;
}

/* One error of the division by the global explains all blocks of a row. */
static int is_row(int what, size_t row)
{
    for (int row_ulps = -2; row_ulps <= 2; row_ulps++) {
        size_t b = 0;
        for (; b < CONVERT_BLOCKS; b++) {
            const block k = block_of(what, row, b);
            if (k.amax != 0.0f && k.amax < 0x1p-100f) {
                continue;
            }
            if (!is_block(&k, row_ulps)) {
                break;
            }
        }
        if (b == CONVERT_BLOCKS) {
            return 1;
        }
    }
    return 0;
}

/* By div.approx.ftz, 2 ulp off at most; a number above 2^126 is divided by as if it were infinite,
   so that rows of such a global are not compared. In bf16 that is seen seldom. */
Test(modelopt_golden, convert_is_that_of_the_kernel_but_for_its_divisions)
{
    size_t all = 0, same = 0;

    for (int what = KERNEL; what <= KERNEL_ALONE; what++) {
        for (size_t row = 0; row < CONVERT_ROWS; row++) {
            const block first = block_of(what, row, 0);
            if (what == KERNEL && first.global > 0x1p126f && !isinf(first.global)) {
                continue;
            }
            CHECK(is_row(what, row), "row %zu, kernel %d", row, what);
            for (size_t i = 0; i < COLS; i++) {
                const block k = block_of(what, row, i / BLOCK);
                const float x = host_bits(k.x[i % BLOCK]);
                if (fabsf(x) >= 0x1p-100f) {
                    all++;
                    same += fp4_f32_to_bf16(fp4_modelopt_convert(x, factors_of(&k))) ==
                            fp4_f32_to_bf16(host_bits(k.expected[i % BLOCK]));
                }
            }
        }
    }
    CHECK(all > 14000 && same * 100 >= all * 99, "%zu of %zu", same, all);
}

/*
 * fp4/modelopt.h against what ModelOpt's own code gave for nvfp4_scalar_qdq, the scales of a static
 * NVFP4QTensor and fused_amax_convert (golden/modelopt, golden/README.md). Floats there are their
 * bits; a matrix has a global of each row in column 0.
 */
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

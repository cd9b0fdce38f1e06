/*
 * fp4/modelopt.h and fp4/host/modelopt.h: byte for byte what ModelOpt itself gave on an H200
 * (golden/README.md), and where its rules have corners that those tensors do not reach.
 */
#include <fp4/host/fake.h>
#include <fp4/host/modelopt.h>

#include <math.h>

#include "golden.h"
#include "host_util.h"

enum { BLOCK = 16, MOST = 64 * 256 };

/* A golden input: what its elements are as floats, and how results are stored beside it. */
typedef struct input {
    const char *folder, *dtype, *type; /* t1, bf16, <u2 */
    size_t n;
    float x[MOST], amax[MOST / BLOCK], global_amax;
    fp4_matrix matrix; /* the same elements */
} input;

static uint32_t stored(const input *in, float y)
{
    return strcmp(in->dtype, "bf16") == 0  ? fp4_f32_to_bf16(y)
           : strcmp(in->dtype, "f16") == 0 ? fp4_f32_to_f16(y)
                                           : host_bits_of(y);
}

static uint32_t element(const npy *a, size_t i)
{
    return a->item == 4 ? ((const uint32_t *)a->data)[i] : ((const uint16_t *)a->data)[i];
}

static void load(input *in)
{
    const char *const input_type = strcmp(in->dtype, "f32") == 0 ? "<f4" : "<u2";
    const npy a = golden_load(golden_path("%s/input.%s.npy", in->folder, in->dtype), input_type);

    cr_assert(a.count <= MOST && a.count % BLOCK == 0, "%zu elements", a.count);
    cr_assert_eq(a.rank, 2, "%s %s is not a matrix", in->folder, in->dtype);
    in->matrix = strcmp(in->dtype, "bf16") == 0
                     ? fp4_matrix_bf16(a.data, a.shape[0], a.shape[1], a.shape[1])
                 : strcmp(in->dtype, "f16") == 0
                     ? fp4_matrix_f16(a.data, a.shape[0], a.shape[1], a.shape[1])
                     : fp4_matrix_f32(a.data, a.shape[0], a.shape[1], a.shape[1]);
    in->n = a.count;
    in->global_amax = 0.0f;
    for (size_t i = 0; i < in->n; i++) {
        const uint32_t bits = element(&a, i);
        in->x[i] = a.item == 4                     ? host_bits(bits)
                   : strcmp(in->dtype, "f16") == 0 ? fp4_f16_to_f32((uint16_t)bits)
                                                   : fp4_bf16_to_f32((uint16_t)bits);
        in->amax[i / BLOCK] = fmaxf(i % BLOCK == 0 ? 0.0f : in->amax[i / BLOCK], fabsf(in->x[i]));
        in->global_amax = fmaxf(in->global_amax, fabsf(in->x[i]));
    }
}

/* All of them, one after the other. */
static void for_each_input(void (*see)(const input *in))
{
    static const char *const folders[] = {"t1", "t3", "t4"};
    static const char *const dtypes[][2] = {{"bf16", "<u2"}, {"f16", "<f2"}, {"f32", "<f4"}};
    static input in;

    for (size_t folder = 0; folder < 3; folder++) {
        for (size_t dtype = 0; dtype < 3; dtype++) {
            in.folder = folders[folder];
            in.dtype = dtypes[dtype][0];
            in.type = dtypes[dtype][1];
            load(&in);
            see(&in);
        }
    }
}

/* Their ladder of comparisons, which is what decides. */
static float ladder(float x)
{
    const float a = fabsf(x);
    const float y = a <= 0.25f   ? 0.0f
                    : a < 0.75f  ? 0.5f
                    : a <= 1.25f ? 1.0f
                    : a < 1.75f  ? 1.5f
                    : a <= 2.5f  ? 2.0f
                    : a < 3.5f   ? 3.0f
                    : a <= 5.0f  ? 4.0f
                                 : 6.0f;
    return x >= 0.0f ? y : 0.0f - y;
}

/* ---------------------------------------------------------------- golden vectors */

static void expect_scales(const input *in, float fp8_max)
{
    const char *path = golden_path("%s/modelopt.%s.compute_fp4_scales_%.0f.npy", in->folder,
                                   in->dtype, (double)fp8_max);
    const float *expected = (const float *)golden_data(path, "<f4", in->n / BLOCK);
    static float all[MOST / BLOCK];

    CHECK_EQ(fp4_ref_modelopt_scales(in->amax, in->n / BLOCK, in->global_amax, fp8_max, all),
             FP4_OK, "%s %s", in->folder, in->dtype);
    for (size_t i = 0; i < in->n / BLOCK; i++) {
        const float got = fp4_modelopt_scale(in->amax[i], in->global_amax, fp8_max);
        CHECK_EQ(host_bits_of(all[i]), host_bits_of(got), "all at once, block %zu", i);
        CHECK(isnan(expected[i]) ? isnan(got) : host_bits_of(got) == host_bits_of(expected[i]),
              "%s %s, %.0f, block %zu: %a, not %a", in->folder, in->dtype, (double)fp8_max, i,
              (double)got, (double)expected[i]);
    }
}

static void see_scales(const input *in)
{
    expect_scales(in, 448.0f);
    expect_scales(in, 256.0f);
}

Test(modelopt, scales_are_those_of_compute_fp4_scales)
{
    for_each_input(see_scales);
}

Test(modelopt, scales_that_are_not_quantized)
{
    static const float amax[] = {0.0f, 1.0f, 6.0f, 0x1p-149f, FP4_F32_MAX, INFINITY};
    float scales[6];

    CHECK_EQ(fp4_ref_modelopt_scales(amax, 6, NAN, 0.0f, scales), FP4_OK, "no global");
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ(host_bits_of(scales[i]), host_bits_of(host_mul(amax[i], 0x1.555556p-3f)), "%a",
                 (double)amax[i]);
    }
}

Test(modelopt, scales_of_bad_levels_are_refused)
{
    static const float bad_most[] = {447.0f, -448.0f, 1.0f, INFINITY, NAN};
    static const float bad_global[] = {-1.0f, -0x1p-149f, -INFINITY, NAN};
    const float amax = 1.0f;
    float scale = 2.0f;

    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, 1.0f, bad_most[i], &scale), FP4_BAD_SCALE,
                 "fp8_max %a", (double)bad_most[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, bad_global[i], 448.0f, &scale), FP4_BAD_SCALE,
                 "global %a", (double)bad_global[i]);
        CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, bad_global[i], 256.0f, &scale), FP4_BAD_SCALE,
                 "global %a", (double)bad_global[i]);
    }
    CHECK_EQ(fp4_ref_modelopt_scales(NULL, 1, 1.0f, 448.0f, &scale), FP4_NULL, "no amaxes");
    CHECK_EQ(fp4_ref_modelopt_scales(&amax, 1, 1.0f, 448.0f, NULL), FP4_NULL, "no scales");
    CHECK(scale == 2.0f, "written: %a", (double)scale);
    CHECK_EQ(fp4_ref_modelopt_scales(NULL, 0, 1.0f, 448.0f, NULL), FP4_OK, "none");
}

static void expect_fakes(const input *in, const char *name, int is_dynamic)
{
    const npy expected =
        golden_load(golden_path("%s/modelopt.%s.%s.npy", in->folder, in->dtype, name), in->type);

    cr_assert_eq(expected.count, in->n, "%s %s %s", in->folder, in->dtype, name);
    for (size_t i = 0; i < in->n; i++) {
        const float amax = in->amax[i / BLOCK], x = in->x[i];
        const float y =
            is_dynamic
                ? fp4_modelopt_fake_dynamic(x, fp4_modelopt_dynamic_scale(amax, in->global_amax))
                : fp4_modelopt_fake_static(x, fp4_modelopt_scale(amax, in->global_amax, 448.0f));
        CHECK_EQ(stored(in, y), element(&expected, i), "%s %s %s, element %zu, %a", in->folder,
                 in->dtype, name, i, (double)x);
    }
}

static void see_static(const input *in)
{
    expect_fakes(in, "static_fake_quant", 0);
}

static void see_dynamic(const input *in)
{
    expect_fakes(in, "fake_quant_block", 1);
}

Test(modelopt, static_fakes_are_those_of_static_blockwise_fp4_fake_quant)
{
    for_each_input(see_static);
}

Test(modelopt, dynamic_fakes_are_those_of_fp4_fake_quant_block)
{
    for_each_input(see_dynamic);
}

/* The same by whole matrices, with bits for what was more than the largest code. */
static void expect_fake_matrix(const input *in, const char *name, int is_dynamic)
{
    const npy expected =
        golden_load(golden_path("%s/modelopt.%s.%s.npy", in->folder, in->dtype, name), in->type);
    const size_t size = expected.item, cols = in->matrix.cols;
    uint8_t *y = golden_memory(in->n * size, 0x7f), *clipped = golden_memory(in->n / 8, 0x7f);
    fp4_fake f;

    memset(&f, 0, sizeof f);
    f.rule = FP4_FAKE_MODELOPT;
    f.global = in->global_amax;
    f.amax = is_dynamic ? NULL : in->amax;
    f.block = BLOCK;
    f.fp8_max = 448.0f;
    CHECK_EQ(fp4_ref_fake_quantize(in->matrix, &f, in->matrix.dtype, y, in->n * size, cols, clipped,
                                   in->n / 8),
             FP4_OK, "%s %s %s", in->folder, in->dtype, name);
    host_expect_bytes(y, (const uint8_t *)expected.data, in->n * size, name);
    for (size_t i = 0; i < in->n; i++) {
        const float amax = in->amax[i / BLOCK];
        const float scale = is_dynamic ? fp4_modelopt_dynamic_scale(amax, in->global_amax)
                                       : fp4_modelopt_scale(amax, in->global_amax, 448.0f);
        const float divisor = scale > 0.0f && !isinf(scale) ? scale : 1.0f;
        CHECK_EQ(clipped[i / 8] >> (i % 8) & 1u, host_div(fabsf(in->x[i]), divisor) > 6.0f,
                 "%s %s %s, bit %zu", in->folder, in->dtype, name, i);
    }
}

static void see_fake_matrices(const input *in)
{
    expect_fake_matrix(in, "static_fake_quant", 0);
    expect_fake_matrix(in, "fake_quant_block", 1);
}

Test(modelopt, fakes_of_whole_matrices_are_theirs)
{
    for_each_input(see_fake_matrices);
}

/* nvfp4_scalar_qdq is the dynamic rule where that leaves the scale alone; elsewhere it is a static
   one of a scale that is not the least. */
static size_t qdq_blocks;

static void see_qdq(const input *in)
{
    const npy expected = golden_load(
        golden_path("%s/modelopt.%s.fake_quant_block.npy", in->folder, in->dtype), in->type);
    const float global_dec = fp4_modelopt_dynamic_dec(in->global_amax);
    const size_t size = expected.item, bytes = in->n * size;
    uint8_t *y = golden_memory(bytes, 0x7f);

    CHECK_EQ(fp4_ref_modelopt_qdq(in->matrix, BLOCK, global_dec, in->matrix.dtype, y, bytes,
                                  in->matrix.cols),
             FP4_OK, "%s %s", in->folder, in->dtype);
    for (size_t i = 0; i < in->n; i += BLOCK) {
        const float units = host_div(in->amax[i / BLOCK], host_mul(6.0f, global_dec));
        const uint8_t sf = (uint8_t)oracle_nearest(oracle_e4m3(), (double)units);
        const float scale = host_mul(host_e4m3(sf), global_dec);
        if (scale >= 1e-5f) {
            qdq_blocks++;
            host_expect_bytes(y + i * size, (const uint8_t *)expected.data + i * size, BLOCK * size,
                              in->folder);
        }
        for (size_t j = i; j < i + BLOCK && scale < 1e-5f; j++) {
            const float nearest = scale > 0.0f ? ladder(host_div(in->x[j], scale)) : 0.0f;
            uint32_t bits = 0;
            memcpy(&bits, y + j * size, size);
            CHECK_EQ(bits, stored(in, host_mul(nearest, scale)), "%s %s, element %zu", in->folder,
                     in->dtype, j);
        }
    }
}

Test(modelopt, qdq_is_fp4_fake_quant_block_but_for_small_scales)
{
    for_each_input(see_qdq);
    CHECK(qdq_blocks > 3000, "only %zu blocks", qdq_blocks);
}

/* A tensor to quantize into. Its memory is 0x7f throughout, so that a byte left out shows. */
static fp4_tensor tensor(fp4_format format, size_t rows, size_t cols)
{
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = rows * (cols / fp4_format_block(format));

    return fp4_tensor_view(format, FP4_LAYOUT_LINEAR, rows, cols, golden_memory(q_bytes, 0x7f),
                           q_bytes, golden_memory(sf_bytes, 0x7f), sf_bytes);
}

/* The function for t's format. */
static fp4_status quantize(fp4_matrix x, float global_dec, fp4_tensor *t)
{
    switch (t->format) {
    case FP4_NVFP4:
    case FP4_NVFP4_32:
        return fp4_ref_modelopt_nvfp4_quantize(x, global_dec, t);
    case FP4_MXFP4:
    case FP4_MXFP4_16:
        return fp4_ref_modelopt_mxfp4_quantize(x, t);
    case FP4_MXFP8:
        break;
    }
    return fp4_ref_modelopt_mxfp8_quantize(x, t);
}

/* Codes and scale bytes of <prefix>.codes.npy and <prefix>.sf.npy. */
static fp4_tensor expect_tensor(const input *in, const char *name, fp4_format format)
{
    const float global_dec = fp4_modelopt_global_dec(in->global_amax, 448.0f);
    fp4_tensor t = tensor(format, in->matrix.rows, in->matrix.cols);
    const char *path;

    CHECK_EQ(quantize(in->matrix, global_dec, &t), FP4_OK, "%s %s %s", in->folder, in->dtype, name);
    path = golden_path("%s/modelopt.%s.%s.sf.npy", in->folder, in->dtype, name);
    host_expect_bytes(t.sf, golden_data(path, "|u1", t.sf_bytes), t.sf_bytes, path);
    path = golden_path("%s/modelopt.%s.%s.codes.npy", in->folder, in->dtype, name);
    host_expect_bytes(t.q, golden_data(path, "|u1", t.q_bytes), t.q_bytes, path);
    return t;
}

/* What ModelOpt's dequantize makes of them. */
static void expect_dequantized(const input *in, const char *name, const fp4_tensor *t)
{
    const npy expected = golden_load(golden_path("%s/dequant.%s.modelopt.%s.%s.%s.npy", in->folder,
                                                 in->dtype, in->folder, in->dtype, name),
                                     in->type);
    uint8_t *y = golden_memory(in->n * expected.item, 0x7f);

    cr_assert_eq(expected.count, in->n, "%s %s %s", in->folder, in->dtype, name);
    CHECK_EQ(fp4_ref_modelopt_dequantize(t, in->matrix.dtype, y, in->n * expected.item, t->cols),
             FP4_OK, "%s %s %s", in->folder, in->dtype, name);
    host_expect_bytes(y, (const uint8_t *)expected.data, in->n * expected.item, name);
}

static void see_nvfp4(const input *in)
{
    const fp4_tensor t = expect_tensor(in, "nvfp4", FP4_NVFP4);
    const float *scale_2 = golden_data(
        golden_path("%s/modelopt.%s.nvfp4.scale2.npy", in->folder, in->dtype), "<f4", 1);

    CHECK_EQ(host_bits_of(t.global_dec), host_bits_of(*scale_2), "%s %s", in->folder, in->dtype);
    expect_dequantized(in, "nvfp4", &t);
}

static void see_mxfp4(const input *in)
{
    const fp4_tensor t = expect_tensor(in, "mxfp4", FP4_MXFP4);
    expect_dequantized(in, "mxfp4", &t);
}

static void see_mxfp8(const input *in)
{
    expect_tensor(in, "mxfp8", FP4_MXFP8);
}

Test(modelopt, nvfp4_is_that_of_nvfp4_qtensor)
{
    for_each_input(see_nvfp4);
}

/* A static quantizer that was given the amaxes that are there writes the codes of a dynamic one
   wherever the scale bytes are the same, and those differ seldom. */
static size_t same_sf, all_sf;

static void see_nvfp4_static(const input *in)
{
    const size_t blocks = in->n / BLOCK;
    fp4_tensor t = tensor(FP4_NVFP4, in->matrix.rows, in->matrix.cols);
    const uint8_t *sf, *q;

    CHECK_EQ(fp4_ref_modelopt_nvfp4_static(in->matrix, in->amax, in->global_amax, 448.0f, &t),
             FP4_OK, "%s %s", in->folder, in->dtype);
    CHECK_EQ(host_bits_of(t.global_dec),
             host_bits_of(fp4_modelopt_global_dec(in->global_amax, 448.0f)), "global_dec");
    sf = golden_data(golden_path("%s/modelopt.%s.nvfp4.sf.npy", in->folder, in->dtype), "|u1",
                     blocks);
    q = golden_data(golden_path("%s/modelopt.%s.nvfp4.codes.npy", in->folder, in->dtype), "|u1",
                    in->n / 2);
    for (size_t i = 0; i < blocks; i++) {
        all_sf++;
        if (t.sf[i] == sf[i]) {
            same_sf++;
            host_expect_bytes(t.q + i * (BLOCK / 2), q + i * (BLOCK / 2), BLOCK / 2, in->folder);
        } else { /* rounded another way; but amax may underflow, or overflow times 448 */
            CHECK(!(in->amax[i] > in->global_amax * 1e-30f && in->amax[i] < 1e36f) ||
                      t.sf[i] == sf[i] + 1 || t.sf[i] + 1 == sf[i],
                  "%s %s, block %zu: %02x, %02x", in->folder, in->dtype, i, t.sf[i], sf[i]);
        }
    }
}

Test(modelopt, static_nvfp4_is_that_of_nvfp4_qtensor_but_for_a_rounding)
{
    for_each_input(see_nvfp4_static);
    CHECK(same_sf * 100 > all_sf * 85, "%zu of %zu", same_sf, all_sf);
}

Test(modelopt, mxfp4_is_that_of_mxfp4_qtensor)
{
    for_each_input(see_mxfp4);
}

Test(modelopt, mxfp8_is_that_of_mxfp8_qtensor)
{
    for_each_input(see_mxfp8);
}

/* ---------------------------------------------------------------- corners of fake quantization */

Test(modelopt, casts_as_a_ladder_of_comparisons)
{
    for (uint64_t bits = 0; bits <= 0xffffffffu; bits += 991) {
        const float x = host_bits((uint32_t)bits);
        CHECK_EQ(host_bits_of(fp4_modelopt_cast(x)), host_bits_of(ladder(x)), "%a", (double)x);
    }
    for (uint32_t i = 0; i <= 28; i++) { /* ties, and next to them */
        for (int side = -1; side <= 1; side++) {
            const float tie = 0.25f * (float)i;
            const float x = side == 0 ? tie : nextafterf(tie, side < 0 ? -8.0f : 8.0f);
            CHECK_EQ(host_bits_of(fp4_modelopt_cast(x)), host_bits_of(ladder(x)), "%a", (double)x);
            CHECK_EQ(host_bits_of(fp4_modelopt_cast(-x)), host_bits_of(ladder(-x)), "-%a",
                     (double)x);
        }
    }
}

Test(modelopt, nan_and_zero)
{
    CHECK_EQ(host_bits_of(fp4_modelopt_cast(NAN)), host_bits_of(-6.0f), "NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_cast(-0.0f)), 0, "-0");
    CHECK_EQ(host_bits_of(fp4_modelopt_fake_dynamic(NAN, 0.5f)), host_bits_of(-3.0f), "NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_fake_static(NAN, 0.0f)), 0, "NaN in a block of scale 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_fake_static(1e9f, 0.0f)), 0, "any in a block of scale 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_fake_static(-100.0f, INFINITY)), host_bits_of(-6.0f),
             "an infinite scale is 1");
    CHECK_EQ(host_bits_of(fp4_modelopt_fake_static(2.9f, NAN)), host_bits_of(3.0f),
             "a scale that is NaN is 1");
}

Test(modelopt, small_scales)
{
    /* a dynamic scale below 1e-5 becomes 1, and small elements 0 */
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(0.0f, 0.0f)), host_bits_of(1.0f), "zeros");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(5e-5f, 5e-5f)), host_bits_of(1.0f), "5e-5");
    CHECK(fp4_modelopt_dynamic_scale(7e-5f, 7e-5f) < 2e-5f, "7e-5");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(NAN, 5e-5f)), host_bits_of(1.0f),
             "NaN of a small tensor");
    /* of a tensor of nothing but zeros, or nearly so, the second level of a static scale is 1 */
    CHECK_EQ(host_bits_of(fp4_modelopt_scale(0.0f, 0.0f, 448.0f)), 0, "zeros");
    CHECK_EQ(host_bits_of(fp4_modelopt_scale(3e-7f, 3e-7f, 448.0f)),
             host_bits_of(fp4_modelopt_scale(3e-7f, 6.0f, 448.0f)), "an amax up to 2^-24 * 6");
    CHECK_EQ(host_bits_of(fp4_modelopt_scale_f32(6.0f)), host_bits_of(1.0f), "6");
}

/* A scale that is no number to divide by counts as 1; any other divides, subnormals too. */
Test(modelopt, divisors)
{
    static const uint32_t ones[] = {0u,          0x80000000u, 0x7f800000u, 0xff800000u,
                                    0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xbf800000u};
    static const uint32_t themselves[] = {1u, 0x007fffffu, 0x00800000u, 0x3f800000u, 0x7f7fffffu};

    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) {
        CHECK_EQ(host_bits_of(fp4_modelopt_divisor(host_bits(ones[i]))), 0x3f800000u, "%08x",
                 ones[i]);
    }
    for (size_t i = 0; i < sizeof themselves / sizeof themselves[0]; i++) {
        CHECK_EQ(host_bits_of(fp4_modelopt_divisor(host_bits(themselves[i]))), themselves[i],
                 "%08x", themselves[i]);
    }
}

Test(modelopt, clipped_is_more_than_six)
{
    static const float divisors[] = {1.0f, 0.3f, 0x1p-140f, 0x1p-149f, 3e38f, 7.0f};

    for (size_t i = 0; i < sizeof divisors / sizeof divisors[0]; i++) {
        const float divisor = divisors[i], six = host_mul(6.0f, divisor);
        for (int ulps = -3; ulps <= 3; ulps++) {
            const float x =
                isinf(six) ? FP4_F32_MAX : host_bits(host_bits_of(six) + (uint32_t)ulps);
            const int expected = host_div(x, divisor) > 6.0f;
            CHECK_EQ(fp4_modelopt_is_clipped(x, divisor), expected, "%a / %a", (double)x,
                     (double)divisor);
            CHECK_EQ(fp4_modelopt_is_clipped(-x, divisor), expected, "-%a / %a", (double)x,
                     (double)divisor);
        }
        CHECK_EQ(fp4_modelopt_is_clipped(NAN, divisor), 0, "NaN");
        CHECK_EQ(fp4_modelopt_is_clipped(-INFINITY, divisor), 1, "infinity");
        CHECK_EQ(fp4_modelopt_is_clipped(-0.0f, divisor), 0, "-0");
    }
}

/* A rule in two steps is the rule at once, and each step is what its formula says. */
Test(modelopt, scales_in_two_steps)
{
    static const float most[] = {448.0f, 256.0f};
    uint64_t state = 12;

    for (int i = 0; i < 200000; i++) {
        const float global = host_random_scale(&state, -40, 60);
        const float amax = i % 5 == 0 ? global : global * host_random_scale(&state, -20, 2);
        const fp4_modelopt_level level = fp4_modelopt_level_of(global, most[i % 2]);
        const float dec = fp4_modelopt_dynamic_dec(global);
        float largest =
            host_mul(host_mul(global, host_div(448.0f, most[i % 2])), host_div(1.0f, 6.0f));
        largest = largest <= 0x1p-24f ? 1.0f : largest;
        CHECK_EQ(host_bits_of(level.to_e4m3),
                 host_bits_of(host_mul(host_div(1.0f, largest), 448.0f)), "level of %a",
                 (double)global);
        CHECK_EQ(host_bits_of(level.from_e4m3), host_bits_of(host_div(1.0f, level.to_e4m3)),
                 "level of %a", (double)global);
        CHECK_EQ(host_bits_of(fp4_modelopt_scale_at(amax, level)),
                 host_bits_of(fp4_modelopt_scale(amax, global, most[i % 2])), "%a of %a",
                 (double)amax, (double)global);
        CHECK_EQ(host_bits_of(dec), host_bits_of(host_mul(global, host_div(1.0f, 2688.0f))), "%a",
                 (double)global);
        CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale_at(amax, dec)),
                 host_bits_of(fp4_modelopt_dynamic_scale(amax, global)), "dynamic, %a of %a",
                 (double)amax, (double)global);
    }
    /* a multiplication by the reciprocal, not a division: 2687/2688 tells them apart */
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_dec(2687.0f)),
             host_bits_of(host_mul(2687.0f, host_div(1.0f, 2688.0f))), "2687");
    CHECK(fp4_modelopt_dynamic_dec(2687.0f) != host_div(2687.0f, 2688.0f), "2687");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_dec(0.0f)), host_bits_of(1e-12f), "zeros");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_dec(0x1p-149f)), host_bits_of(1e-12f),
             "underflows to 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_level_of(0.0f, 448.0f).to_e4m3), host_bits_of(448.0f),
             "zeros");
}

/* An amax of NaN, of a block of nothing else, is the largest; infinity makes ones of scales. */
Test(modelopt, dynamic_scales_of_what_is_no_number)
{
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(NAN, 2688.0f)), host_bits_of(448.0f), "NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(-NAN, 5.0f)),
             host_bits_of(host_mul(448.0f, host_mul(5.0f, host_div(1.0f, 2688.0f)))), "-NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(NAN, 0.0f)), host_bits_of(1.0f), "NaN of 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(INFINITY, 2688.0f)), host_bits_of(448.0f),
             "infinity");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(INFINITY, INFINITY)), host_bits_of(1.0f),
             "infinity of infinity");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(NAN, INFINITY)), host_bits_of(1.0f),
             "NaN of infinity");
    CHECK_EQ(host_bits_of(fp4_modelopt_dynamic_scale(1.0f, NAN)), host_bits_of(1.0f), "1 of NaN");
}

/* A dynamic scale is one that the rule for given scales takes as it is. */
Test(modelopt, dynamic_fakes_are_static_ones_of_a_dynamic_scale)
{
    uint64_t state = 13;

    for (int i = 0; i < 200000; i++) {
        const float global = i % 50 == 0 ? INFINITY : host_random_scale(&state, -60, 126);
        const float amax = i % 7 == 0 ? 0.0f : host_random_scale(&state, -60, 126);
        const float scale = fp4_modelopt_dynamic_scale(amax, global);
        const float x = i % 9 == 0 ? NAN : host_random_scale(&state, -60, 126);
        const float one = fp4_modelopt_fake_dynamic(x, scale);
        const float other = fp4_modelopt_fake_static(x, scale);
        CHECK(host_bits_of(one) == host_bits_of(other) && scale > 0.0f && !isinf(scale),
              "%a, scale %a: %a, %a", (double)x, (double)scale, (double)one, (double)other);
    }
}

Test(modelopt, qdq_scales)
{
    static const float step = 0x1p-10f; /* half of the least e4m3 */

    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(6.0f, 0.5f)), host_bits_of(1.0f), "6");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(6e-8f, 1e-8f)), host_bits_of(1e-8f), "below 1e-5");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(6.0f * step, 1.0f)), 0, "rounds to 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(6.1f * step, 1.0f)), host_bits_of(2.0f * step),
             "does not");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(0.0f, 1.0f)), 0, "zeros");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(1e6f, 0.5f)), host_bits_of(224.0f), "saturates");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(INFINITY, 0.5f)), host_bits_of(224.0f),
             "infinity");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(NAN, 0.5f)), host_bits_of(224.0f), "NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(0.0f, 0.0f)), 0, "0 / 0");
    CHECK_EQ(host_bits_of(fp4_modelopt_qdq_scale(1.0f, 0.0f)), 0, "1 / 0");
}

/* ---------------------------------------------------------------- fused_amax_convert */

/* Its formulas once more. A global of -1: there is none. */
static void naive_factors(float amax, float global, float *enc, float *dec)
{
    double units, two = 1.0, scale;

    *enc = *dec = 1.0f;
    if (amax == 0.0f || isnan(amax) || global == 0.0f || isinf(global) || isnan(global)) {
        return;
    }
    amax = isinf(amax) ? FP4_F32_MAX : amax;
    if (global < 0.0f) {
        units = 1.0 / (double)host_div(6.0f, amax);
    } else {
        two = 448.0 * (double)host_div(6.0f, global);
        units = (double)host_div(amax, 6.0f) * two;
    }
    scale = (double)host_e4m3((uint8_t)oracle_nearest(oracle_e4m3(), (double)(float)units)) / two;
    *enc = (float)(1.0 / scale);
    *dec = (float)scale;
}

static float naive_convert(float x, float enc, float dec)
{
    const float scaled = host_mul(fabsf(x), enc);
    const float y = host_mul(isnan(scaled) ? 6.0f : ladder(scaled), dec);
    return x == 0.0f ? 0.0f : x > 0.0f ? y : -y;
}

Test(modelopt, convert_factors_are_its_formulas_in_double)
{
    uint64_t state = 21;
    size_t inexact = 0;

    for (int i = 0; i < 400000; i++) {
        const float global = i % 100 == 0 ? FP4_F32_MAX : host_random_scale(&state, -124, 127);
        const float amax = i % 3 == 0   ? host_random_scale(&state, -140, 127)
                           : i % 7 == 0 ? global
                                        : global * host_random_scale(&state, -24, 0);
        const fp4_modelopt_factors both = fp4_modelopt_convert_scale(amax, global);
        const fp4_modelopt_factors alone = fp4_modelopt_convert_scale_alone(amax);
        float enc, dec;
        naive_factors(amax, global, &enc, &dec);
        CHECK(host_bits_of(both.enc) == host_bits_of(enc) &&
                  host_bits_of(both.dec) == host_bits_of(dec),
              "%a of %a: %a %a, not %a %a", (double)amax, (double)global, (double)both.enc,
              (double)both.dec, (double)enc, (double)dec);
        inexact += host_bits_of(host_div(1.0f, dec)) != host_bits_of(enc);
        naive_factors(amax, -1.0f, &enc, &dec);
        CHECK(host_bits_of(alone.enc) == host_bits_of(enc) &&
                  host_bits_of(alone.dec) == host_bits_of(dec),
              "%a: %a %a, not %a %a", (double)amax, (double)alone.enc, (double)alone.dec,
              (double)enc, (double)dec);
    }
    CHECK(inexact > 1000, "double makes no difference: %zu", inexact);
}

Test(modelopt, convert_factors_at_the_ends)
{
    static const struct {
        float amax, global, enc, dec; /* global -1: none */
    } ends[] = {
        {0.0f, 1.0f, 1.0f, 1.0f},
        {NAN, 1.0f, 1.0f, 1.0f},
        {1.0f, 0.0f, 1.0f, 1.0f},
        {1.0f, INFINITY, 1.0f, 1.0f},
        {1.0f, NAN, 1.0f, 1.0f},
        {6.0f, 6.0f, 1.0f, 1.0f},
        {12.0f, 6.0f, 1.0f, 1.0f}, /* saturates */
        {INFINITY, 6.0f, 1.0f, 1.0f},
        {1e-9f, 6.0f, INFINITY, 0.0f}, /* rounds to 0 */
        {1.0f, 0x1p-127f, INFINITY, 0.0f},
        {0.0f, -1.0f, 1.0f, 1.0f},
        {6.0f, -1.0f, 1.0f, 1.0f},
        {2688.0f, -1.0f, 0x1.24924ap-9f, 448.0f},
        {INFINITY, -1.0f, 0x1.24924ap-9f, 448.0f},
        {0x1.8p-8f, -1.0f, INFINITY, 0.0f}, /* 6 * 2^-10 */
        {0x1p-149f, -1.0f, INFINITY, 0.0f},
    };

    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        const fp4_modelopt_factors f =
            ends[i].global < 0.0f ? fp4_modelopt_convert_scale_alone(ends[i].amax)
                                  : fp4_modelopt_convert_scale(ends[i].amax, ends[i].global);
        CHECK(host_bits_of(f.enc) == host_bits_of(ends[i].enc) &&
                  host_bits_of(f.dec) == host_bits_of(ends[i].dec),
              "%a of %a: %a, %a", (double)ends[i].amax, (double)ends[i].global, (double)f.enc,
              (double)f.dec);
    }
    CHECK_EQ(fp4_is_nan(fp4_modelopt_convert_scale(0x1p-149f, 0x1p-127f).dec), 1, "0 * infinity");
}

/* The values and ties that ModelOpt's own test has, with its result; 6 is the global amax. */
Test(modelopt, convert_ties)
{
    static const float in[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    static const float out[] = {0.0f, 1.0f, 1.0f, 2.0f, 2.0f, 4.0f, 4.0f, 6.0f};
    static const float value[] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
    const fp4_modelopt_factors f = fp4_modelopt_convert_scale(6.0f, 6.0f);
    const fp4_modelopt_factors tiny = fp4_modelopt_convert_scale(0x1p-130f, 0x1p-125f);

    for (int i = 0; i < 8; i++) {
        CHECK_EQ(host_bits_of(fp4_modelopt_convert(in[i], f)), host_bits_of(out[i]), "%g",
                 (double)in[i]);
        CHECK_EQ(host_bits_of(fp4_modelopt_convert(-in[i], f)), host_bits_of(-out[i]), "-%g",
                 (double)in[i]);
        CHECK_EQ(host_bits_of(fp4_modelopt_convert(value[i], f)), host_bits_of(value[i]), "%g",
                 (double)value[i]);
        CHECK_EQ(host_bits_of(fp4_modelopt_convert(nextafterf(in[i], 9.0f), f)),
                 host_bits_of(value[i < 7 ? i + 1 : 7]), "above %g", (double)in[i]);
    }
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(0.0f, tiny)), 0, "0, where enc is infinite");
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(0x1p-149f, tiny)),
             host_bits_of(host_mul(6.0f, tiny.dec)), "any other");
    CHECK(isinf(tiny.enc) && tiny.dec > 0.0f, "%a, %a", (double)tiny.enc, (double)tiny.dec);
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(-0.0f, f)), 0, "-0");
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(-0.2f, f)), 0x80000000u, "below 0, to -0");
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(NAN, f)), host_bits_of(-6.0f), "NaN");
    CHECK_EQ(host_bits_of(fp4_modelopt_convert(-INFINITY, f)), host_bits_of(-6.0f), "-infinity");
}

/* Its e8m0 rule, by the bits of a quotient: 2^n, n from the exponent, one more for any mantissa. */
static int naive_mx_exponent(float amax, float most)
{
    const uint32_t bits = host_bits_of(host_div(amax, most));
    const int field = (int)(bits >> 23), mantissa = (int)(bits & 0x7fffffu);
    const int is_low = field == 0 && mantissa <= 0x400000; /* up to 2^-127 */

    return mantissa > 0 && field != 254 && !is_low ? field - 126 : field - 127;
}

/* exhaustive.cpp does that for all; here those where it could go wrong: next to 6 and 7 (of 448)
   times a power of two. */
Test(modelopt, mx_scales_of_fused_amax_convert_are_ours)
{
    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        for (uint32_t i = 0; i < 1025; i++) {
            const float near[] = {host_bits((exponent << 23 | 0x400000u) + i - 512u),
                                  host_bits((exponent << 23 | 0x600000u) + i - 512u)};
            for (int j = 0; j < 2; j++) {
                CHECK_EQ(fp4_mxfp4_scale(near[j]).bits, naive_mx_exponent(near[j], 6.0f) + 127,
                         "%a / 6", (double)near[j]);
                CHECK_EQ(fp4_mxfp8_scale(near[j]).bits, naive_mx_exponent(near[j], 448.0f) + 127,
                         "%a / 448", (double)near[j]);
            }
        }
    }
}

/* What fused_amax_convert makes of an element of an MX block. */
static float naive_mx(float x, int exponent, fp4_format format)
{
    const double scaled = fabs((double)x) * oracle_power(-exponent);
    double y = (double)ladder((float)scaled);

    if (format == FP4_MXFP8) {
        y = isnan(x) ? NAN : (double)host_e4m3((uint8_t)oracle_nearest(oracle_e4m3(), scaled));
    } else if (isnan(x)) {
        y = 6.0;
    }
    y = (double)(float)(y * oracle_power(exponent));
    return (float)(x < 0.0f ? -y : y);
}

Test(modelopt, mx_blocks_of_fused_amax_convert_are_those_of_our_fakes)
{
    uint64_t state = 22;

    for (int i = 0; i < 20000; i++) {
        const fp4_format format = i % 2 == 0 ? FP4_MXFP4 : FP4_MXFP8;
        const int low = (int)host_below(&state, 265) - 149;
        const int has_infinity = i % 5 == 0;
        float x[32], y[32], amax = 0.0f;
        fp4_fake f;
        for (int j = 0; j < 32; j++) {
            x[j] = host_random_scale(&state, low, low + 11);
            x[j] = host_below(&state, 40) == 0 ? NAN : j % 2 == 0 ? -x[j] : x[j];
            x[j] = has_infinity && j == 7 ? -INFINITY : x[j];
            amax = fmaxf(amax, fabsf(x[j]));
        }
        memset(&f, 0, sizeof f);
        f.rule = (fp4_fake_rule)format;
        amax = fminf(amax, FP4_F32_MAX);
        f.amax = has_infinity ? &amax : NULL;
        CHECK_EQ(fp4_ref_fake_quantize(fp4_matrix_f32(x, 1, 32, 32), &f, FP4_F32, y, sizeof y, 32,
                                       NULL, 0),
                 FP4_OK, "block %d", i);
        for (int j = 0; j < 32; j++) {
            const int exponent = naive_mx_exponent(amax, format == FP4_MXFP8 ? 448.0f : 6.0f);
            const float expected = naive_mx(x[j], exponent, format);
            CHECK(isnan(expected) ? isnan(y[j]) : host_bits_of(y[j]) == host_bits_of(expected),
                  "block %d, %a: %a, not %a", i, (double)x[j], (double)y[j], (double)expected);
        }
    }
}

/* ---------------------------------------------------------------- fakes of whole matrices */

enum { FAKE_ROWS = 5, FAKE_COLS = 1100, FAKE_STRIDE = 1107 };

/* Rows of any magnitude, with zeros, NaN and infinities here and there, and blocks of only one. */
static void fill_fakes(float *x, uint64_t *state)
{
    for (int i = 0; i < FAKE_ROWS * FAKE_STRIDE; i++) {
        const int low = (int)host_below(state, 30) - 28;
        const uint32_t what = host_below(state, 400);
        const float v = host_random_scale(state, low, low + 4);
        x[i] = what == 0   ? NAN
               : what == 1 ? INFINITY
               : what == 2 ? -0.0f
               : what < 9  ? 0.0f
               : what & 1  ? -v
                           : v;
        x[i] = i / 64 % 9 == 0 ? 0.0f : i / 64 % 9 == 1 ? NAN : x[i];
    }
}

static int has_number(const float *x, size_t n)
{
    size_t i = 0;

    while (i < n && isnan(x[i])) {
        i++;
    }
    return i < n;
}

/* Fakes by one rule or the other, element by element. globals as in fp4_ref_modelopt_convert. */
static void expect_fakes_of(const float *x, int is_qdq, size_t block, const float *globals,
                            size_t global_rows, fp4_dtype dtype)
{
    const size_t size = dtype == FP4_F32 ? 4 : 2;
    const size_t bytes = ((FAKE_ROWS - 1) * FAKE_STRIDE + FAKE_COLS) * size;
    const host_buffer y = host_buffer_new(bytes, 1);
    const fp4_matrix m = fp4_matrix_f32(x, FAKE_ROWS, FAKE_COLS, FAKE_STRIDE);

    CHECK_EQ(is_qdq ? fp4_ref_modelopt_qdq(m, block, *globals, dtype, y.bytes, bytes, FAKE_STRIDE)
                    : fp4_ref_modelopt_convert(m, block, globals, global_rows, dtype, y.bytes,
                                               bytes, FAKE_STRIDE),
             FP4_OK, "block %zu", block);
    for (size_t row = 0; row < FAKE_ROWS; row++) {
        const float global =
            globals == NULL ? -1.0f : globals[global_rows == 0 ? 0 : row / global_rows];
        for (size_t col = 0; col < FAKE_STRIDE && row * FAKE_STRIDE + col < bytes / size; col++) {
            const float *from = x + row * FAKE_STRIDE + col / block * block;
            const size_t left = FAKE_COLS - col / block * block;
            const float v = x[row * FAKE_STRIDE + col];
            float amax, enc, dec, expected;
            uint32_t bits = 0;
            memcpy(&bits, y.bytes + (row * FAKE_STRIDE + col) * size, size);
            if (col >= FAKE_COLS) {
                CHECK_EQ(bits, 0x7f7f7f7fu >> (32 - 8 * size), "beside row %zu", row);
                continue;
            }
            amax = host_amax(from, left < block ? left : block);
            if (is_qdq) {
                const float quotient = host_div(amax, host_mul(6.0f, global));
                const int is_some = has_number(from, left < block ? left : block);
                const float units = is_some ? host_min(quotient, 448.0f) : 448.0f;
                const uint8_t sf = (uint8_t)oracle_nearest(oracle_e4m3(), (double)units);
                dec = host_mul(host_e4m3(sf), global);
                expected = host_mul(fabsf(ladder(host_div(fabsf(v), dec))), dec);
                expected = dec == 0.0f ? 0.0f : v >= 0.0f ? expected : 0.0f - expected;
            } else {
                naive_factors(amax, global, &enc, &dec);
                expected = naive_convert(v, enc, dec);
            }
            CHECK_EQ(bits,
                     dtype == FP4_F32   ? host_bits_of(expected)
                     : dtype == FP4_F16 ? fp4_f32_to_f16(expected)
                                        : fp4_f32_to_bf16(expected),
                     "qdq %d, block %zu, %zu.%zu: %a of %a, %a", is_qdq, block, row, col, (double)v,
                     (double)amax, (double)global);
        }
    }
    host_buffer_free(y, "fakes");
}

Test(modelopt, fakes_of_whole_matrices_by_any_block)
{
    static const size_t blocks[] = {1, 8, 16, 32, 48, 600, 5000};
    static float x[FAKE_ROWS * FAKE_STRIDE];
    float globals[FAKE_ROWS];
    uint64_t state = 23;

    for (size_t i = 0; i < 7; i++) {
        const fp4_dtype dtype = (fp4_dtype)(i % 3);
        fill_fakes(x, &state);
        for (int row = 0; row < FAKE_ROWS; row++) {
            globals[row] = host_random_scale(&state, -12, 8);
        }
        expect_fakes_of(x, 1, blocks[i], globals, 0, dtype);
        expect_fakes_of(x, 0, blocks[i], globals, 0, dtype);
        expect_fakes_of(x, 0, blocks[i], NULL, 0, dtype);
        globals[2] = i == 0 ? INFINITY : 0.0f;
        expect_fakes_of(x, 0, blocks[i], globals, i % 2 == 0 ? 1 : 2, dtype);
        expect_fakes_of(x, 1, blocks[i], globals + 3, 0, dtype);
        expect_fakes_of(x, 1, blocks[i], globals + (i == 0 ? 3 : 2), 0, dtype); /* 0 */
    }
}

/* Both functions answer `status`, and write nothing. */
static void fakes_refuse(fp4_matrix x, size_t block, float global, fp4_dtype dtype, float *y,
                         size_t y_bytes, size_t row_stride, fp4_status status, const char *what)
{
    float before[64];

    memcpy(before, y != NULL ? y : before, sizeof before);
    CHECK_EQ(fp4_ref_modelopt_qdq(x, block, global, dtype, y, y_bytes, row_stride), status,
             "qdq: %s", what);
    CHECK_EQ(fp4_ref_modelopt_convert(x, block, &global, 0, dtype, y, y_bytes, row_stride), status,
             "convert: %s", what);
    CHECK(y == NULL || memcmp(before, y, sizeof before) == 0, "%s: was written", what);
}

Test(modelopt, bad_fakes_are_refused_and_nothing_is_written)
{
    static const float x[64] = {1.0f}, bad[] = {-1.0f, NAN, -INFINITY, -0x1p-149f};
    const fp4_matrix m = fp4_matrix_f32(x, 4, 16, 16);
    fp4_matrix other = m;
    float globals[4] = {1.0f, 1.0f, 1.0f, -1.0f}, infinity = INFINITY, y[64];

    memset(y, 0x7f, sizeof y);
    for (size_t i = 0; i < 4; i++) {
        fakes_refuse(m, 16, bad[i], FP4_F32, y, sizeof y, 16, FP4_BAD_SCALE, "global");
    }
    CHECK_EQ(fp4_ref_modelopt_convert(m, 16, globals, 1, FP4_F32, y, sizeof y, 16), FP4_BAD_SCALE,
             "the global of the last row");
    CHECK_EQ(fp4_ref_modelopt_qdq(m, 16, infinity, FP4_F32, y, sizeof y, 16), FP4_BAD_SCALE,
             "infinity");
    fakes_refuse(m, 0, 1.0f, FP4_F32, y, sizeof y, 16, FP4_BAD_SHAPE, "block");
    fakes_refuse(m, 16, 1.0f, FP4_E4M3, y, sizeof y, 16, FP4_BAD_TYPE, "output type");
    fakes_refuse(m, 16, 1.0f, FP4_F32, y, sizeof y - 1, 16, FP4_SMALL_BUFFER, "one byte too few");
    fakes_refuse(m, 16, 1.0f, FP4_F32, y, sizeof y, 15, FP4_BAD_STRIDE, "stride of y");
    fakes_refuse(m, 16, 1.0f, FP4_F32, NULL, sizeof y, 16, FP4_NULL, "y");
    other.data = NULL;
    fakes_refuse(other, 16, 1.0f, FP4_F32, y, sizeof y, 16, FP4_NULL, "x");
    other = m;
    other.row_stride = 15;
    fakes_refuse(other, 16, 1.0f, FP4_F32, y, sizeof y, 16, FP4_BAD_STRIDE, "stride of x");
    other = m;
    other.dtype = (fp4_dtype)4;
    fakes_refuse(other, 16, 1.0f, FP4_F32, y, sizeof y, 16, FP4_BAD_TYPE, "input type");
    other = m;
    other.rows = 0;
    fakes_refuse(other, 16, NAN, FP4_F32, NULL, 0, 16, FP4_OK, "no rows");
    other = m;
    other.cols = 0;
    fakes_refuse(other, 16, NAN, FP4_F32, NULL, 0, 16, FP4_OK, "no columns");
    CHECK_EQ(fp4_ref_modelopt_convert(m, 16, &infinity, 0, FP4_F32, y, sizeof y, 16), FP4_OK,
             "infinity counts as 1");
    CHECK_EQ(host_bits_of(y[0]), host_bits_of(1.0f), "was not written");
}

/* ---------------------------------------------------------------- corners of quantized tensors */

Test(modelopt, global_scale)
{
    /* a multiplication by the reciprocal, not a division: 2687/2688 tells them apart */
    CHECK_EQ(host_bits_of(fp4_modelopt_global_dec(2687.0f, 448.0f)),
             host_bits_of(host_mul(2687.0f, host_div(1.0f, 2688.0f))), "2687");
    CHECK_EQ(host_bits_of(fp4_modelopt_global_dec(1535.0f, 256.0f)),
             host_bits_of(host_mul(1535.0f, host_div(1.0f, 1536.0f))), "1535, four over six");
    CHECK_EQ(host_bits_of(fp4_modelopt_global_dec(0.0f, 448.0f)), 0, "zeros");
}

Test(modelopt, nvfp4_scales_are_never_zero)
{
    CHECK_EQ(fp4_modelopt_nvfp4_sf(0.0f, 1.0f), 0x38, "0 counts as 1");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(host_bits(1), 1.0f), 0x38, "2^-149 / 6 underflows to 0");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(1e-30f, 1.0f), 0x01, "2^-9 at least");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(6.0f / 1024.0f, 1.0f), 0x01, "2^-10");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(6.0f / 512.0f, 1.0f), 0x01, "2^-9");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(2688.0f, 1.0f), 0x7e, "448");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(FP4_F32_MAX, 1.0f), 0x7e, "saturates");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(INFINITY, 1.0f), 0x7e, "infinity");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(NAN, 1.0f), 0x7f, "NaN");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(0.0f, 0.0f), 0x7f, "0 / 0, a tensor of zeros");
    CHECK_EQ(fp4_modelopt_nvfp4_sf(1.0f, 1e38f), 0x38, "6 * global_dec overflows");
}

Test(modelopt, static_nvfp4_scales)
{
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(6.0f, 6.0f, 448.0f), 0x7e, "448");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(6.0f, 6.0f, 256.0f), 0x78, "256");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(12.0f, 6.0f, 256.0f), 0x7e, "512 saturates");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(1e-30f, 6.0f, 448.0f), 0x01, "2^-9 at least");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(0.0f, 2688.0f, 448.0f), 0x38, "0 counts as 1 before");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(0.0f, 1.0f, 448.0f), 0x7e, "and so saturates");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(0x1p-149f, 2688.0f, 448.0f), 0x38, "underflows to 0");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(FP4_F32_MAX, FP4_F32_MAX, 448.0f), 0x7e, "overflows");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(1e37f, FP4_F32_MAX, 448.0f), 0x7e, "overflows");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(1.0f, INFINITY, 448.0f), 0x01, "of infinity");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(INFINITY, INFINITY, 448.0f), 0x7f, "NaN");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(NAN, 1.0f, 448.0f), 0x7f, "NaN");
    CHECK_EQ(fp4_modelopt_nvfp4_static_sf(0.0f, 0.0f, 448.0f), 0x7e, "a tensor of zeros");
}

Test(modelopt, values_of_codes)
{
    for (unsigned code = 0; code < 256; code++) {
        const float e2m1 = host_e2m1(code & 15u), e4m3 = host_e4m3((uint8_t)code);
        const float nvfp4 = fp4_modelopt_nvfp4_value((uint8_t)code, 0.3f);
        CHECK_EQ(host_bits_of(nvfp4), (code & 15u) == 8u ? 0u : host_bits_of(host_mul(e2m1, 0.3f)),
                 "NVFP4 %u", code);
        for (unsigned sf = 0; sf < 255; sf++) {
            const float dec = sf != 0 ? host_e8m0((uint8_t)sf) : 0x1p-127f - 0x1p-149f;
            const float mxfp8 = fp4_modelopt_mxfp8_value((uint8_t)code, (uint8_t)sf);
            CHECK_EQ(host_bits_of(fp4_modelopt_mxfp4_value((uint8_t)code, (uint8_t)sf)),
                     host_bits_of(host_mul(e2m1, dec)), "MXFP4 %u, %u", code, sf);
            CHECK(isnan(e4m3) ? isnan(mxfp8)
                              : host_bits_of(mxfp8) == host_bits_of(host_mul(e4m3, dec)),
                  "MXFP8 %u, %u: %a", code, sf, (double)mxfp8);
        }
    }
    CHECK_EQ(host_bits_of(fp4_modelopt_mxfp4_value(1, 255)), 0x7f800000u, "byte 255");
    CHECK_EQ(fp4_is_nan(fp4_modelopt_mxfp4_value(8, 255)), 1, "0 * infinity");
    CHECK_EQ(fp4_is_nan(fp4_modelopt_nvfp4_value(8, INFINITY)), 1, "0 * infinity");
}

Test(modelopt, nvfp4_codes_round_ties_to_even_and_have_a_sign_below_zero)
{
    static const float tie[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
    static const uint8_t even[] = {0, 2, 2, 4, 4, 6, 6};

    for (size_t i = 0; i < 7; i++) {
        CHECK_EQ(fp4_modelopt_nvfp4_code(tie[i] * 3.0f, 3.0f), even[i], "%g", (double)tie[i]);
        CHECK_EQ(fp4_modelopt_nvfp4_code(-tie[i], 1.0f), 8 | even[i], "-%g", (double)tie[i]);
        CHECK_EQ(fp4_modelopt_nvfp4_code(nextafterf(tie[i], 0.0f), 1.0f), i, "below a tie");
        CHECK_EQ(fp4_modelopt_nvfp4_code(nextafterf(tie[i], 9.0f), 1.0f), i + 1, "above a tie");
    }
    CHECK_EQ(fp4_modelopt_nvfp4_code(0.0f, 1.0f), 0, "0");
    CHECK_EQ(fp4_modelopt_nvfp4_code(-0.0f, 1.0f), 0, "-0 is not below 0");
    CHECK_EQ(fp4_modelopt_nvfp4_code(host_bits(0x80000001u), 448.0f), 0, "underflows to -0");
    CHECK_EQ(fp4_modelopt_nvfp4_code(host_bits(0x80000001u), 1.0f), 8, "-2^-149 is below 0");
    CHECK_EQ(fp4_modelopt_nvfp4_code(100.0f, 1.0f), 7, "saturates");
    CHECK_EQ(fp4_modelopt_nvfp4_code(-INFINITY, 1.0f), 15, "-infinity");
    CHECK_EQ(fp4_modelopt_nvfp4_code(NAN, 1.0f), 7, "NaN");
    CHECK_EQ(fp4_modelopt_nvfp4_code(-NAN, 1.0f), 7, "NaN with a sign");
    CHECK_EQ(fp4_modelopt_nvfp4_code(1.0f, NAN), 7, "a scale that is NaN");
    CHECK_EQ(fp4_modelopt_nvfp4_code(0.0f, 0.0f), 7, "0 / 0");
}

/* 127 and the logarithm, rounded to float, rounded up; double is far more than enough for that. */
static int naive_byte(float quotient)
{
    const double log = quotient > 0.0f ? log2((double)quotient) : -127.0;
    return isinf(quotient) ? 255 : (int)fmaxf(ceilf((float)log), -127.0f) + 127;
}

Test(modelopt, mx_scales_are_the_ceiling_of_a_rounded_logarithm)
{
    size_t rounded_down = 0;

    for (uint32_t exponent = 0; exponent < 255; exponent++) {
        for (uint32_t i = 0; i < 129; i++) { /* around 6 and 7 (448) times a power of two */
            const uint32_t bits[] = {(exponent << 23 | 0x400000u) + i - 64u,
                                     (exponent << 23 | 0x600000u) + i - 64u};
            for (int j = 0; j < 2; j++) {
                const float amax = host_bits(bits[j]);
                const float sixth = host_mul(amax, host_div(1.0f, 6.0f));
                const float of_448 = host_mul(amax, host_div(1.0f, 448.0f));
                CHECK_EQ(fp4_modelopt_mxfp4_sf(amax), naive_byte(sixth), "%a", (double)amax);
                CHECK_EQ(fp4_modelopt_mxfp8_sf(amax), naive_byte(of_448), "%a", (double)amax);
                rounded_down += fp4_modelopt_mxfp4_sf(amax) != fp4_mxfp4_scale(amax).bits;
                rounded_down += fp4_modelopt_mxfp8_sf(amax) != fp4_mxfp8_scale(amax).bits;
            }
        }
    }
    CHECK(rounded_down > 5000, "only %zu bytes are not the exact ceiling", rounded_down);
}

Test(modelopt, mx_scales_at_the_ends)
{
    CHECK_EQ(fp4_modelopt_mxfp4_sf(0.0f), 0, "zeros");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(host_bits(1)), 0, "2^-149");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(host_bits(0x00c00000u)), 0, "6 * 2^-128");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(6.0f), 127, "6");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(FP4_F32_MAX), 253, "FLT_MAX");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(INFINITY), 255, "infinity");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(NAN), 255, "NaN: undefined in ModelOpt, chosen here");
    CHECK_EQ(fp4_modelopt_mxfp4_sf(-NAN), 255, "NaN with a sign");
    CHECK_EQ(fp4_modelopt_mxfp8_sf(0.0f), 0, "zeros");
    CHECK_EQ(fp4_modelopt_mxfp8_sf(448.0f), 127, "448");
    CHECK_EQ(fp4_modelopt_mxfp8_sf(FP4_F32_MAX), 247, "FLT_MAX");
    CHECK_EQ(fp4_modelopt_mxfp8_sf(INFINITY), 254, "infinity");
    CHECK_EQ(fp4_modelopt_mxfp8_sf(NAN), 0, "NaN");
}

Test(modelopt, mx_dec_is_a_power_of_two_but_for_byte_0)
{
    for (unsigned sf = 1; sf < 255; sf++) {
        CHECK_EQ(host_bits_of(fp4_modelopt_mx_dec((uint8_t)sf)),
                 host_bits_of(host_e8m0((uint8_t)sf)), "byte %u", sf);
    }
    CHECK_EQ(host_bits_of(fp4_modelopt_mx_dec(0)), 0x003fffffu, "2^-127 - 2^-149");
    CHECK_EQ(host_bits_of(fp4_modelopt_mx_dec(255)), 0x7f800000u, "infinity");
}

Test(modelopt, mxfp4_codes_round_ties_toward_zero_and_have_a_sign_unless_positive)
{
    static const float tie[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};

    for (unsigned i = 0; i < 7; i++) {
        CHECK_EQ(fp4_modelopt_mxfp4_code(tie[i] * 4.0f, 129), i, "%g", (double)tie[i]);
        CHECK_EQ(fp4_modelopt_mxfp4_code(-tie[i], 127), 8u | i, "-%g", (double)tie[i]);
        CHECK_EQ(fp4_modelopt_mxfp4_code(nextafterf(tie[i], 9.0f), 127), i + 1u, "above a tie");
        /* what divides is a little less than 2^-127, so that this is no tie */
        CHECK_EQ(fp4_modelopt_mxfp4_code((float)((double)tie[i] * oracle_power(-127)), 0), i + 1u,
                 "%g * 2^-127", (double)tie[i]);
    }
    CHECK_EQ(fp4_modelopt_mxfp4_code(0.0f, 127), 8, "0");
    CHECK_EQ(fp4_modelopt_mxfp4_code(-0.0f, 127), 8, "-0");
    CHECK_EQ(fp4_modelopt_mxfp4_code(host_bits(1), 127), 0, "2^-149 is positive");
    CHECK_EQ(fp4_modelopt_mxfp4_code(host_bits(1), 129), 8, "underflows to 0");
    CHECK_EQ(fp4_modelopt_mxfp4_code(100.0f, 127), 7, "saturates");
    CHECK_EQ(fp4_modelopt_mxfp4_code(-INFINITY, 127), 15, "-infinity");
    CHECK_EQ(fp4_modelopt_mxfp4_code(NAN, 127), 8, "NaN");
    CHECK_EQ(fp4_modelopt_mxfp4_code(FP4_F32_MAX, 255), 8, "in a block with infinity");
    CHECK_EQ(fp4_modelopt_mxfp4_code(INFINITY, 255), 8, "infinity in its block");
}

Test(modelopt, mxfp8_codes)
{
    CHECK_EQ(fp4_modelopt_mxfp8_code(448.0f, 127), 0x7e, "448");
    CHECK_EQ(fp4_modelopt_mxfp8_code(-1e9f, 127), 0xfe, "saturates");
    CHECK_EQ(fp4_modelopt_mxfp8_code(17.0f, 127), 0x58, "a tie, to even: 16");
    CHECK_EQ(fp4_modelopt_mxfp8_code(19.0f, 127), 0x5a, "a tie, to even: 20");
    CHECK_EQ(fp4_modelopt_mxfp8_code(0.0f, 0), 0, "0");
    CHECK_EQ(fp4_modelopt_mxfp8_code(-0.0f, 0), 0x80, "-0");
    CHECK_EQ(fp4_modelopt_mxfp8_code(1.0f, 0), 0x7e, "1 * 2^127 in a block with NaN");
    CHECK_EQ(fp4_modelopt_mxfp8_code(NAN, 0), 0x7f, "NaN");
    CHECK_EQ(fp4_modelopt_mxfp8_code(-NAN, 0), 0x7f, "NaN with a sign");
    CHECK_EQ(fp4_modelopt_mxfp8_code(INFINITY, 254), 0x7e, "infinity");
    /* ties, of which the factor of byte 254, a little less than 2^-127, makes none */
    CHECK_EQ(fp4_modelopt_mxfp8_code(host_bits(0x7f080000u), 253), 0x40, "2.125, to even");
    CHECK_EQ(fp4_modelopt_mxfp8_code(host_bits(0x7f180000u), 253), 0x42, "2.375, to even");
    CHECK_EQ(fp4_modelopt_mxfp8_code(host_bits(0x7f180000u), 254), 0x39,
             "a little less than 1.1875");
}

/* ---------------------------------------------------------------- whole matrices */

/* ModelOpt's formulas once more, by other means than include/fp4. */
static uint8_t naive_scale(fp4_format format, float amax, float global_dec)
{
    int byte;

    if (fp4_format_is_nvfp4(format)) {
        const float quotient = host_div(amax, host_mul(6.0f, global_dec));
        const float bounded = quotient == 0.0f ? 1.0f : fmaxf(quotient, 0.001953125f);
        return (uint8_t)(isnan(amax) ? 0x7fu : oracle_nearest(oracle_e4m3(), (double)bounded));
    }
    if (isnan(amax)) {
        return format == FP4_MXFP8 ? 0 : 255;
    }
    byte = naive_byte(host_mul(amax, host_div(1.0f, format == FP4_MXFP8 ? 448.0f : 6.0f)));
    return (uint8_t)(format == FP4_MXFP8 && byte > 254 ? 254 : byte);
}

static float naive_power(int exponent)
{
    return exponent == 128    ? INFINITY
           : exponent == -127 ? (float)(oracle_power(-127) - oracle_power(-149))
                              : (float)oracle_power(exponent);
}

static uint8_t naive_code(fp4_format format, float x, uint8_t sf, float global_dec)
{
    unsigned code;
    float y;

    if (fp4_format_is_nvfp4(format)) {
        y = host_div(x, host_mul(host_e4m3(sf), global_dec));
        code = isnan(y) ? 7u : oracle_nearest(oracle_e2m1(), fabs((double)y));
        return (uint8_t)(y < 0.0f ? 8u | code : code);
    }
    if (format == FP4_MXFP8) {
        y = host_mul(x, naive_power(127 - (int)sf));
        code = isnan(y) ? 0x7fu : oracle_nearest(oracle_e4m3(), fabs((double)y));
        return (uint8_t)(!isnan(y) && signbit(y) ? 0x80u | code : code);
    }
    y = host_div(x, naive_power((int)sf - 127));
    code = isnan(y) ? 0u : oracle_toward_zero(oracle_e2m1(), fabs((double)y));
    code += code < 7u &&
            fabs((double)y) * 2.0 > oracle_value(code, 1, 1) + oracle_value(code + 1u, 1, 1);
    return (uint8_t)(y > 0.0f ? code : 8u | code);
}

/* The largest |x|; NaN where there is one. */
static float naive_amax(const float *x, size_t n)
{
    float amax = 0.0f;

    for (size_t i = 0; i < n; i++) {
        amax = isnan(x[i]) || isnan(amax) ? NAN : fmaxf(amax, fabsf(x[i]));
    }
    return amax;
}

enum { ROWS = 9, COLS = 64, STRIDE = 70, WIDE = 96 };

/* x, quantized into WIDE columns: codes to q, scale bytes row-major to sf. */
static void naive_quantize(const fp4_matrix *x, float global_dec, fp4_format format, uint8_t *q,
                           uint8_t *sf)
{
    const size_t block = fp4_format_block(format);

    memset(q, 0, ROWS * WIDE);
    memset(sf, 0, ROWS * WIDE / 16);
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t col = 0; col < COLS; col += block) {
            uint8_t *scale = sf + row * (WIDE / block) + col / block;
            float v[32];
            for (size_t i = 0; i < block; i++) {
                v[i] = host_element(x, row, col + i);
            }
            *scale = naive_scale(format, naive_amax(v, block), global_dec);
            for (size_t i = 0; i < block; i++) {
                const size_t at = row * WIDE + col + i;
                const uint8_t code = naive_code(format, v[i], *scale, global_dec);
                if (format == FP4_MXFP8) {
                    q[at] = code;
                } else {
                    q[at / 2] = (uint8_t)(q[at / 2] | code << (at % 2 * 4));
                }
            }
        }
    }
}

static void quantizes(fp4_matrix x, float global_dec, fp4_format format, fp4_layout layout)
{
    const char *what = "NVFP4, MXFP4, MXFP8, NVFP4/32 or MXFP4/16";
    const size_t sf_cols = WIDE / fp4_format_block(format);
    const host_buffer q = host_buffer_new(fp4_q_bytes(format, ROWS, WIDE), 1);
    const host_buffer sf = host_buffer_new(host_sf_bytes(layout, ROWS, sf_cols), 3);
    fp4_tensor t = fp4_tensor_view(format, layout, ROWS, WIDE, q.bytes, q.size, sf.bytes, sf.size);
    uint8_t expected_q[ROWS * WIDE], linear[ROWS * WIDE / 16], expected_sf[128 * 8];

    naive_quantize(&x, global_dec, format, expected_q, linear);
    host_place_scales(expected_sf, layout, linear, ROWS, sf_cols);
    t.global_dec = 77.0f;
    CHECK_EQ(quantize(x, global_dec, &t), FP4_OK, "format %d, layout %d", format, layout);
    CHECK_EQ(host_bits_of(t.global_dec),
             host_bits_of(fp4_format_is_nvfp4(format) ? global_dec : 1.0f), "global_dec");
    host_expect_bytes(sf.bytes, expected_sf, sf.size, what);
    host_expect_bytes(q.bytes, expected_q, q.size, what);
    host_buffer_free(q, "codes");
    host_buffer_free(sf, "scales");
}

Test(modelopt, any_format_layout_type_and_data_with_padding_of_zeros)
{
    static uint8_t memory[ROWS * STRIDE * 4 + 1];
    uint64_t state = 4;

    for (int i = 0; i < 5 * 3 * 4 * HOST_DATA; i++) {
        const fp4_dtype dtype = (fp4_dtype)(i / HOST_DATA % 4);
        const fp4_matrix x = {memory + 1, dtype,  ROWS,
                              COLS,       STRIDE, dtype == FP4_E4M3 ? 0.037f : 1.0f};
        float amax, global_dec;
        host_fill(memory + 1, x, &state, (host_data)(i % HOST_DATA), 16);
        amax = host_matrix_amax(&x);
        global_dec = isinf(amax) || amax == 0.0f ? 0.01f : fp4_modelopt_global_dec(amax, 448.0f);
        quantizes(x, global_dec, (fp4_format)(i / HOST_DATA / 4 % 5),
                  (fp4_layout)(i / HOST_DATA / 20));
    }
}

/* Static scales and codes once more, and back again, in any layout. */
Test(modelopt, static_nvfp4_of_any_amaxes_and_back)
{
    static float x[ROWS * STRIDE], amax[ROWS * COLS / 16];
    uint64_t state = 24;

    for (int i = 0; i < 2 * 3 * 40; i++) {
        const fp4_format format = i % 2 == 0 ? FP4_NVFP4 : FP4_NVFP4_32;
        const fp4_layout layout = (fp4_layout)(i / 2 % 3);
        const size_t block = fp4_format_block(format), sf_cols = WIDE / block;
        const float fp8_max = i % 4 < 2 ? 448.0f : 256.0f;
        const float global = host_random_scale(&state, -20, 20);
        const host_buffer q = host_buffer_new(fp4_q_bytes(format, ROWS, WIDE), 1);
        const host_buffer sf = host_buffer_new(host_sf_bytes(layout, ROWS, sf_cols), 3);
        const host_buffer y = host_buffer_new(ROWS * WIDE * 4, 1);
        fp4_tensor t =
            fp4_tensor_view(format, layout, ROWS, WIDE, q.bytes, q.size, sf.bytes, sf.size);
        uint8_t expected_q[ROWS * WIDE / 2] = {0}, linear[ROWS * WIDE / 16] = {0};
        uint8_t expected_sf[128 * 8];
        for (size_t j = 0; j < ROWS * STRIDE; j++) {
            const uint32_t what = host_below(&state, 50);
            const float v = global * host_random_scale(&state, -12, 1);
            x[j] = what == 0 ? NAN : what == 1 ? -0.0f : what & 1u ? -v : v;
        }
        for (size_t j = 0; j < ROWS * COLS / block; j++) {
            amax[j] = j % 8 == 0 ? 0.0f : global * host_random_scale(&state, -14, 0);
        }
        CHECK_EQ(fp4_ref_modelopt_nvfp4_static(fp4_matrix_f32(x, ROWS, COLS, STRIDE), amax, global,
                                               fp8_max, &t),
                 FP4_OK, "case %d", i);
        CHECK_EQ(host_bits_of(t.global_dec),
                 host_bits_of(host_mul(global, host_div(1.0f, 6.0f * fp8_max))), "global_dec");
        for (size_t row = 0; row < ROWS; row++) {
            for (size_t col = 0; col < COLS; col++) {
                const float of = amax[(row * COLS + col) / block];
                const float sixth = of == 0.0f ? 1.0f : host_mul(of, host_div(1.0f, 6.0f));
                const float units =
                    host_div(host_mul(sixth, fp8_max), host_mul(global, host_div(1.0f, 6.0f)));
                const float bounded = fminf(fmaxf(units, 0x1p-9f), 448.0f);
                const uint8_t scale = (uint8_t)oracle_nearest(oracle_e4m3(), (double)bounded);
                const uint8_t code = naive_code(format, x[row * STRIDE + col], scale, t.global_dec);
                linear[row * sf_cols + col / block] = scale;
                expected_q[(row * WIDE + col) / 2] |= (uint8_t)(code << (col % 2 * 4));
            }
        }
        host_place_scales(expected_sf, layout, linear, ROWS, sf_cols);
        host_expect_bytes(sf.bytes, expected_sf, sf.size, "scales");
        host_expect_bytes(q.bytes, expected_q, q.size, "codes");

        CHECK_EQ(fp4_ref_modelopt_dequantize(&t, FP4_F32, y.bytes, y.size, WIDE), FP4_OK, "back");
        for (size_t j = 0; j < ROWS * WIDE; j++) {
            const unsigned code = expected_q[j / 2] >> (j % 2 * 4) & 15u;
            const float dec =
                host_mul(host_e4m3(linear[j / WIDE * sf_cols + j % WIDE / block]), t.global_dec);
            const float value = code == 8u ? 0.0f : host_mul(host_e2m1(code), dec);
            float got;
            memcpy(&got, y.bytes + 4 * j, sizeof got);
            CHECK_EQ(host_bits_of(got), host_bits_of(value), "case %d, element %zu", i, j);
        }
        host_buffer_free(q, "codes");
        host_buffer_free(sf, "scales");
        host_buffer_free(y, "values");
    }
}

/* A block's first six elements, the others being 0, and what PyTorch 2.11 gave on an H200 for
   ModelOpt's expressions, global_dec being 1. */
Test(modelopt, nan_and_infinity_in_a_block)
{
    static const struct {
        float x[6];
        uint8_t sf[3], nvfp4[6], mxfp4[6], mxfp8[6];
    } block[] = {
        {{INFINITY, -INFINITY, 1.0f, -1.0f, 0.0f, -0.0f},
         {0x7e, 255, 254},
         {7, 15, 0, 8, 0, 0},
         {8, 8, 8, 8, 8, 8},
         {0x7e, 0xfe, 0, 0x80, 0, 0x80}},
        {{INFINITY, -INFINITY, 1.0f, -1.0f, 0.0f, NAN}, /* MXFP4's byte is ours; there it was 0 */
         {0x7f, 255, 0},
         {7, 7, 7, 7, 7, 7},
         {8, 8, 8, 8, 8, 8},
         {0x7e, 0xfe, 0x7e, 0xfe, 0, 0x7f}},
        {{NAN, -NAN, 1.0f, -1.0f, 0.0f, -0.0f},
         {0x7f, 255, 0},
         {7, 7, 7, 7, 7, 7},
         {8, 8, 8, 8, 8, 8},
         {0x7f, 0x7f, 0x7e, 0xfe, 0, 0x80}},
        {{0.0f, -0.0f, 0.0f, 0.0f, 0.0f, 0.0f},
         {0x38, 0, 0},
         {0, 0, 0, 0, 0, 0},
         {8, 8, 8, 8, 8, 8},
         {0, 0x80, 0, 0, 0, 0}},
        {{1.40129846e-45f, -1.40129846e-45f, 0.0f, 0.0f, 0.0f, 0.0f}, /* 2^-149 */
         {0x38, 0, 0},
         {0, 8, 0, 0, 0, 0},
         {0, 8, 8, 8, 8, 8},
         {0, 0x80, 0, 0, 0, 0}},
    };

    for (size_t i = 0; i < sizeof block / sizeof block[0]; i++) {
        float x[32] = {0.0f};
        fp4_tensor nvfp4 = tensor(FP4_NVFP4_32, 1, 32), mxfp4 = tensor(FP4_MXFP4, 1, 32);
        fp4_tensor mxfp8 = tensor(FP4_MXFP8, 1, 32);
        const fp4_matrix m = fp4_matrix_f32(x, 1, 32, 32);
        memcpy(x, block[i].x, sizeof block[i].x);
        CHECK_EQ(quantize(m, 1.0f, &nvfp4), FP4_OK, "NVFP4");
        CHECK_EQ(quantize(m, 1.0f, &mxfp4), FP4_OK, "MXFP4");
        CHECK_EQ(quantize(m, 1.0f, &mxfp8), FP4_OK, "MXFP8");
        CHECK_EQ(nvfp4.sf[0], block[i].sf[0], "block %zu, NVFP4", i);
        CHECK_EQ(mxfp4.sf[0], block[i].sf[1], "block %zu, MXFP4", i);
        CHECK_EQ(mxfp8.sf[0], block[i].sf[2], "block %zu, MXFP8", i);
        for (size_t j = 0; j < 6; j++) {
            const size_t shift = j % 2 * 4;
            CHECK_EQ(nvfp4.q[j / 2] >> shift & 15, block[i].nvfp4[j], "%zu.%zu, NVFP4", i, j);
            CHECK_EQ(mxfp4.q[j / 2] >> shift & 15, block[i].mxfp4[j], "%zu.%zu, MXFP4", i, j);
            CHECK_EQ(mxfp8.q[j], block[i].mxfp8[j], "%zu.%zu, MXFP8", i, j);
        }
    }
}

Test(modelopt, nothing_to_quantize_is_fine)
{
    for (int format = 0; format < 5; format++) {
        fp4_tensor t =
            fp4_tensor_view((fp4_format)format, FP4_LAYOUT_128X4, 0, 64, NULL, 0, NULL, 0);
        CHECK_EQ(quantize(fp4_matrix_f32(NULL, 0, 64, 64), 1.0f, &t), FP4_OK, "no rows");
        t.rows = 5;
        t.cols = 0;
        CHECK_EQ(quantize(fp4_matrix_f32(NULL, 5, 0, 0), 1.0f, &t), FP4_OK, "no columns");
    }
}

/* ---------------------------------------------------------------- what is refused */

/* Everything that a call can touch, valid, and how it is called. */
typedef struct world {
    float x[ROWS * COLS], row_dec[ROWS], global_dec;
    uint8_t q[ROWS * COLS], sf[512];
    fp4_tensor t;
    fp4_matrix m;
} world;

static void world_reset(world *w, int format)
{
    const size_t block = fp4_format_block((fp4_format)format);

    memset(w, 0, sizeof *w);
    memset(w->q, 0x7f, sizeof w->q);
    memset(w->sf, 0x7f, sizeof w->sf);
    w->global_dec = 0.5f;
    w->m = fp4_matrix_f32(w->x, ROWS, COLS, COLS);
    w->t = fp4_tensor_view((fp4_format)format, FP4_LAYOUT_128X4, ROWS, COLS, w->q,
                           fp4_q_bytes((fp4_format)format, ROWS, COLS), w->sf,
                           host_sf_bytes(FP4_LAYOUT_128X4, ROWS, COLS / block));
    w->t.global_dec = 77.0f;
}

/* The call for this format answers `status` and leaves every byte of the world as it was. */
static void refuses(world *w, int format, fp4_status status, const char *what)
{
    const world before = *w;
    fp4_tensor *t = &w->t;

    CHECK_EQ(format == 0 || format == 3   ? fp4_ref_modelopt_nvfp4_quantize(w->m, w->global_dec, t)
             : format == 1 || format == 4 ? fp4_ref_modelopt_mxfp4_quantize(w->m, t)
                                          : fp4_ref_modelopt_mxfp8_quantize(w->m, t),
             status, "format %d: %s", format, what);
    CHECK(memcmp(&before, w, sizeof before) == 0, "format %d, %s: was written", format, what);
}

#define FOR_ALL_FORMATS(w) \
    for (int format = 0; format < 5; format++) \
        if (world_reset(&(w), format), 1)

Test(modelopt, bad_shapes_and_strides_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_FORMATS(w)
    {
        w.m.cols = w.t.cols = COLS - 8;
        refuses(&w, format, FP4_BAD_SHAPE, "columns are not whole blocks");
        w.m.cols = COLS;
        refuses(&w, format, FP4_BAD_SHAPE, "the tensor is narrower, and not whole blocks");
        w.t.cols = COLS - 32;
        refuses(&w, format, FP4_BAD_SHAPE, "the tensor is narrower");
        w.t.cols = COLS;
        w.m.rows = ROWS - 1;
        refuses(&w, format, FP4_BAD_SHAPE, "fewer rows");
        w.m.rows = w.t.rows = SIZE_MAX;
        refuses(&w, format, FP4_BAD_SHAPE, "too many rows");
        w.m.rows = w.t.rows = ROWS;
        w.m.row_stride = COLS - 1;
        refuses(&w, format, FP4_BAD_STRIDE, "stride < cols");
    }
}

Test(modelopt, null_and_small_buffers_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_FORMATS(w)
    {
        w.t.q_bytes--;
        refuses(&w, format, FP4_SMALL_BUFFER, "one code byte too few");
        w.t.q_bytes++;
        w.t.sf_bytes--;
        refuses(&w, format, FP4_SMALL_BUFFER, "one scale byte too few");
        w.t.sf_bytes++;
        w.m.data = NULL;
        refuses(&w, format, FP4_NULL, "input");
        w.m.data = w.x;
        w.t.q = NULL;
        refuses(&w, format, FP4_NULL, "codes");
        w.t.q = w.q;
        w.t.sf = NULL;
        refuses(&w, format, FP4_NULL, "scales");
        w.t.sf = w.sf;
    }
    CHECK_EQ(fp4_ref_modelopt_nvfp4_quantize(w.m, 1.0f, NULL), FP4_NULL, "tensor");
    CHECK_EQ(fp4_ref_modelopt_mxfp4_quantize(w.m, NULL), FP4_NULL, "tensor");
    CHECK_EQ(fp4_ref_modelopt_mxfp8_quantize(w.m, NULL), FP4_NULL, "tensor");
}

Test(modelopt, bad_scales_are_refused_and_nothing_is_written)
{
    static const uint32_t bad[] = {0x00000000u, 0x80000000u, 0xbf800000u, 0x80000001u,
                                   0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffffffffu};
    /* a subnormal will do: nothing takes its reciprocal */
    static const uint32_t good[] = {0x00000001u, 0x00200000u, 0x3f800000u, 0x7f7fffffu};
    static world w;

    FOR_ALL_FORMATS(w)
    {
        for (size_t i = 0; i < 8; i++) {
            world_reset(&w, format);
            w.global_dec = host_bits(bad[i]);
            if (fp4_format_is_nvfp4((fp4_format)format)) {
                refuses(&w, format, FP4_BAD_SCALE, "global_dec");
            }
            world_reset(&w, format);
            w.m.dtype = FP4_E4M3;
            w.m.dec = host_bits(bad[i]);
            refuses(&w, format, FP4_BAD_SCALE, "the input's own scale");
        }
        for (size_t i = 0; i < 4; i++) {
            world_reset(&w, format);
            CHECK_EQ(quantize(w.m, host_bits(good[i]), &w.t), FP4_OK, "%08x", good[i]);
        }
    }
}

Test(modelopt, unsuitable_types_are_refused_and_nothing_is_written)
{
    static const int family[] = {0, 1, 2, 0, 1};
    static world w;

    FOR_ALL_FORMATS(w)
    {
        w.m.dtype = (fp4_dtype)4;
        refuses(&w, format, FP4_BAD_TYPE, "unknown element type");
        w.m.dtype = FP4_F32;
        w.t.layout = (fp4_layout)3;
        refuses(&w, format, FP4_BAD_TYPE, "unknown layout");
        w.t.layout = FP4_LAYOUT_128X4;
        w.t.row_dec = w.row_dec;
        w.t.row_dec_bytes = sizeof w.row_dec;
        refuses(&w, format, FP4_BAD_TYPE, "a row_dec that has no use");
        w.t.row_dec = NULL;
        for (int other = 0; other < 6; other++) {
            w.t.format = (fp4_format)other;
            if (other == 5 || family[other] != family[format]) {
                refuses(&w, format, FP4_BAD_TYPE, "another format");
            }
        }
    }
}

Test(modelopt, bad_static_scales_are_refused_and_nothing_is_written)
{
    static const float amax[ROWS * COLS / 16] = {1.0f};
    static const float bad_most[] = {0.0f, 447.0f, -448.0f, INFINITY, NAN};
    static const float bad_global[] = {0.0f, -1.0f, INFINITY, NAN};
    static world w, before;

    world_reset(&w, FP4_NVFP4);
    before = w;
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(fp4_ref_modelopt_nvfp4_static(w.m, amax, 1.0f, bad_most[i], &w.t), FP4_BAD_SCALE,
                 "fp8_max %a", (double)bad_most[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        CHECK_EQ(fp4_ref_modelopt_nvfp4_static(w.m, amax, bad_global[i], 448.0f, &w.t),
                 FP4_BAD_SCALE, "global_amax %a", (double)bad_global[i]);
    }
    CHECK_EQ(fp4_ref_modelopt_nvfp4_static(w.m, NULL, 1.0f, 448.0f, &w.t), FP4_NULL, "amaxes");
    CHECK_EQ(fp4_ref_modelopt_nvfp4_static(w.m, amax, 1.0f, 448.0f, NULL), FP4_NULL, "tensor");
    w.t.format = before.t.format = FP4_MXFP4_16;
    CHECK_EQ(fp4_ref_modelopt_nvfp4_static(w.m, amax, 1.0f, 448.0f, &w.t), FP4_BAD_TYPE, "format");
    CHECK(memcmp(&before, &w, sizeof w) == 0, "was written");
}

/* dequantize answers `status` and writes nothing. */
static void refuses_back(const fp4_tensor *t, fp4_dtype dtype, size_t bytes, size_t row_stride,
                         fp4_status status, const char *what)
{
    static uint8_t y[ROWS * COLS * 4];

    memset(y, 0x7f, sizeof y);
    CHECK_EQ(fp4_ref_modelopt_dequantize(t, dtype, y, bytes, row_stride), status, "%s", what);
    for (size_t i = 0; i < sizeof y; i++) {
        CHECK_EQ(y[i], 0x7f, "%s: byte %zu was written", what, i);
    }
}

Test(modelopt, bad_tensors_are_not_dequantized)
{
    static const uint32_t bad[] = {0x80000000u, 0xbf800000u, 0x7f800000u, 0x7fc00000u};
    static world w;
    const size_t bytes = ROWS * COLS * 4;

    FOR_ALL_FORMATS(w)
    {
        refuses_back(&w.t, FP4_F32, bytes - 1, COLS, FP4_SMALL_BUFFER, "one byte too few");
        refuses_back(&w.t, FP4_F32, bytes, COLS - 1, FP4_BAD_STRIDE, "stride < cols");
        refuses_back(&w.t, FP4_F32, bytes, SIZE_MAX, FP4_BAD_SHAPE, "stride");
        refuses_back(&w.t, FP4_E4M3, bytes, COLS, FP4_BAD_TYPE, "output type");
        refuses_back(NULL, FP4_F32, bytes, COLS, FP4_NULL, "tensor");
        CHECK_EQ(fp4_ref_modelopt_dequantize(&w.t, FP4_F32, NULL, bytes, COLS), FP4_NULL, "y");
        for (size_t i = 0; i < 4 && fp4_format_is_nvfp4((fp4_format)format); i++) {
            w.t.global_dec = host_bits(bad[i]);
            refuses_back(&w.t, FP4_F32, bytes, COLS, FP4_BAD_SCALE, "global_dec");
        }
        if (!fp4_format_is_nvfp4((fp4_format)format)) {
            static float back[ROWS * COLS];
            w.t.global_dec = NAN;
            CHECK_EQ(fp4_ref_modelopt_dequantize(&w.t, FP4_F32, back, bytes, COLS), FP4_OK,
                     "global_dec of MX");
        }
        w.t.global_dec = 1.0f;
        w.t.row_dec = w.row_dec;
        w.t.row_dec_bytes = sizeof w.row_dec;
        refuses_back(&w.t, FP4_F32, bytes, COLS, FP4_BAD_TYPE, "a row_dec that has no use");
        w.t.row_dec = NULL;
        if (!fp4_format_is_nvfp4((fp4_format)format)) {
            static float y[ROWS * COLS];
            w.t.sf[0] = 255; /* infinity times 0 */
            w.t.q[0] = 0;
            CHECK_EQ(fp4_ref_modelopt_dequantize(&w.t, FP4_F32, y, bytes, COLS), FP4_OK, "NaN");
            CHECK_EQ(host_bits_of(y[0]), 0x7fffffffu, "a GPU's NaN");
        }
        w.t.sf_bytes--;
        refuses_back(&w.t, FP4_F32, bytes, COLS, FP4_SMALL_BUFFER, "scales");
        w.t.rows = 0;
        CHECK_EQ(fp4_ref_modelopt_dequantize(&w.t, FP4_F32, NULL, 0, COLS), FP4_OK, "no rows");
        w.t.rows = ROWS;
        w.t.cols = 0;
        CHECK_EQ(fp4_ref_modelopt_dequantize(&w.t, FP4_F32, NULL, 0, COLS), FP4_OK, "no columns");
    }
}

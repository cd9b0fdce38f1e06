/*
 * fp4/modelopt.h: byte for byte what ModelOpt itself gave on an H200 (golden/README.md), and where
 * its rules have corners that those tensors do not reach.
 */
#include <fp4/f16.h>
#include <fp4/modelopt.h>

#include <math.h>

#include "golden.h"
#include "host_util.h"

enum { BLOCK = 16, MOST = 64 * 256 };

/* A golden input: what its elements are as floats, and how results are stored beside it. */
typedef struct input {
    const char *folder, *dtype, *type; /* t1, bf16, <u2 */
    size_t n;
    float x[MOST], amax[MOST / BLOCK], global_amax;
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

/* ---------------------------------------------------------------- golden vectors */

static void expect_scales(const input *in, float fp8_max)
{
    const char *path = golden_path("%s/modelopt.%s.compute_fp4_scales_%.0f.npy", in->folder,
                                   in->dtype, (double)fp8_max);
    const float *expected = (const float *)golden_data(path, "<f4", in->n / BLOCK);

    for (size_t i = 0; i < in->n / BLOCK; i++) {
        const float got = fp4_modelopt_scale(in->amax[i], in->global_amax, fp8_max);
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

/* ---------------------------------------------------------------- corners */

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
    /* of a tensor of nothing but zeros, or nearly so, the second level of a static scale is 1 */
    CHECK_EQ(host_bits_of(fp4_modelopt_scale(0.0f, 0.0f, 448.0f)), 0, "zeros");
    CHECK_EQ(host_bits_of(fp4_modelopt_scale(3e-7f, 3e-7f, 448.0f)),
             host_bits_of(fp4_modelopt_scale(3e-7f, 6.0f, 448.0f)), "an amax up to 2^-24 * 6");
    CHECK_EQ(host_bits_of(fp4_modelopt_scale_f32(6.0f)), host_bits_of(1.0f), "6");
}

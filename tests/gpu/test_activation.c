/*
 * tests/gpu/test_activation.c - e^x, and SiLU, GELU and the halves of gpt-oss's gate of fragments,
 * against the scalar functions on the host, bit for bit: every f16, every bf16, and random floats,
 * in every way they can be compiled.
 */
#include <fp4/activation.h>

#include "paths.h"

/* A function under test, and what it is held against. */
typedef struct activation {
    parts_activation how;
    float (*reference)(float x);
    enum { ANY, KNOWN, TABLE } way;
    const char *name;
} activation;

static float silu(float x)
{
    return fp4_silu(x);
}

static float swish(float x)
{
    return fp4_swish(x, 1.702f);
}

static float gelu_tanh(float x)
{
    return fp4_gelu_tanh(x);
}

static float oai_gate(float x)
{
    return fp4_swiglu_oai_gate(x);
}

static float oai_up(float x)
{
    return fp4_swiglu_oai_up(-0.75f, x);
}

static float oai_up_bf16(float x)
{
    return oai_up(fp4_bf16_to_f32(fp4_f32_to_bf16(x)));
}

static float oai_up_f16(float x)
{
    return oai_up(fp4_f16_to_f32(fp4_f32_to_f16(x)));
}

static float exponential(float x)
{
    return fp4_exp(x);
}

static const activation activations[] = {
    {SILU, silu, ANY, "silu_x16"},
    {SILU_KNOWN, silu, KNOWN, "silu_known_x16"},
    {SILU_VOTED, silu, ANY, "silu_voted_x16"},
    {SILU_TABLE, silu, TABLE, "silu_bf16_table"},
    {SWISH_VOTED, swish, ANY, "swish_voted_x16"},
    {GELU_TANH, gelu_tanh, ANY, "gelu_tanh_x16"},
    {GELU_TANH_KNOWN, gelu_tanh, KNOWN, "gelu_tanh_known_x16"},
    {GELU_TANH_VOTED, gelu_tanh, ANY, "gelu_tanh_voted_x16"},
    {GELU_TANH_TABLE, gelu_tanh, TABLE, "gelu_tanh_bf16_table"},
    {OAI_GATE, oai_gate, ANY, "swiglu_oai_gate_x16"},
    {OAI_GATE_KNOWN, oai_gate, KNOWN, "swiglu_oai_gate_known_x16"},
    {OAI_GATE_VOTED, oai_gate, ANY, "swiglu_oai_gate_voted_x16"},
    {OAI_GATE_TABLE, oai_gate, TABLE, "swiglu_oai_gate_bf16_table"},
    {OAI_UP, oai_up, ANY, "swiglu_oai_up_x16"},
    {OAI_UP_BF16, oai_up_bf16, ANY, "swiglu_oai_up_bf16x16"},
    {OAI_UP_F16, oai_up_f16, ANY, "swiglu_oai_up_f16x16"},
    {EXP, exponential, ANY, "exp"},
};

/* Of sixteen some are NaN, or times the slope beyond what the exponential takes, or below what the
   table has. */
static int any_is_beyond(const float *x, float slope, float low)
{
    for (size_t i = 0; i < 16; i++) {
        if (!(fabsf(x[i]) >= low && host_mul(fabsf(x[i]), slope) <= 87.0f)) {
            return 1;
        }
    }
    return 0;
}

/* Sixteen of them, beyond what a way takes: zeros, behind a NaN if the amax was known (parts.h). */
static void expect_beyond(const activation *a, const float *x, float *expected)
{
    const float slope = a->how == OAI_GATE_KNOWN ? 1.702f : 1.0f;

    if (a->way != ANY && any_is_beyond(x, slope, a->way == TABLE ? 0x1p-25f : 0.0f)) {
        memset(expected, 0, 16 * sizeof(float));
        expected[0] = a->way == KNOWN ? NAN : 0.0f;
    }
}

/* n, a multiple of 16, on every path. With --use_fast_math the inputs that have a subnormal
   somewhere on their way are replaced. */
static void expect_activations(const activation *a, const float *x, size_t n)
{
    float *in = (float *)host_zeros(n * sizeof(float));
    float *expected = (float *)host_zeros(n * sizeof(float));
    const gpu_buffer out = gpu_buffer_new(n * sizeof(float), 0);

    for (size_t p = 0; p < PATHS; p++) {
        gpu_buffer on_device;
#pragma omp parallel for schedule(static)
        for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++) {
            const int is_tiny = x[i] != 0 && fabsf(x[i]) < 0x1p-100f;
            const int is_low = a->how == EXP && x[i] < -87.0f; /* a subnormal comes of it */
            in[i] = p == FAST_MATH && (is_tiny || is_low) ? copysignf(1.0f, x[i]) : x[i];
            in[i] = a->way == TABLE ? fp4_bf16_to_f32(fp4_f32_to_bf16(in[i])) : in[i];
            expected[i] = a->reference(in[i]);
        }
        for (size_t i = 0; i < n; i += 16) {
            expect_beyond(a, in + i, expected + i);
        }
        on_device = gpu_buffer_of(in, n * sizeof(float), 0);
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->activate(a->how, path_floats(on_device), n / 16, path_floats(out)));
        path_expect_floats(out, expected, a->name, paths[p]->name);
        gpu_buffer_free(on_device);
    }
    gpu_buffer_free(out);
    free(in);
    free(expected);
}

static void expect_all_activations(const float *x, size_t n)
{
    for (size_t k = 0; k < sizeof activations / sizeof activations[0]; k++) {
        expect_activations(&activations[k], x, n);
    }
}

/* Every 16-bit number. */
enum { HALVES = 65536 };

GPU_TEST(activation, of_every_bf16)
{
    static float x[HALVES];

    for (uint32_t i = 0; i < HALVES; i++) {
        x[i] = fp4_bf16_to_f32((uint16_t)i);
    }
    expect_all_activations(x, HALVES);
}

GPU_TEST(activation, of_every_f16)
{
    static float x[HALVES];

    for (uint32_t i = 0; i < HALVES; i++) {
        x[i] = fp4_f16_to_f32((uint16_t)i);
    }
    expect_all_activations(x, HALVES);
}

/* Each bf16 among fifteen that a table has, so that what is at its ends is read. */
GPU_TEST(activation, of_every_bf16_alone)
{
    const size_t n = 16 * (size_t)HALVES;
    float *x = (float *)host_zeros(n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        x[i] = i % 16 == i / 16 % 16 ? fp4_bf16_to_f32((uint16_t)(i / 16)) : -1.5f;
    }
    expect_all_activations(x, n);
    free(x);
}

/* Half of the fragments any bits at all; half between 2^-10 and 2^6, where something happens. */
GPU_TEST(activation, of_random_floats)
{
    const size_t n = gpu_is_reduced() ? 1 << 14 : 1 << 22;
    float *x = (float *)host_zeros(n * sizeof(float));
    uint64_t state = 99;

    for (size_t i = 0; i < n; i++) {
        const float magnitude = host_random_scale(&state, -10, 6);
        x[i] = i / 16 % 2 ? host_bits(host_random(&state)) : i % 2 ? -magnitude : magnitude;
    }
    expect_all_activations(x, n);
    free(x);
}

/* Where the rules change, and next to it, at every place of a fragment. */
GPU_TEST(activation, of_the_ends_at_every_place)
{
    static const uint32_t ends[] = {
        0u,          0x80000000u, 0x00000001u, 0x80000001u, 0x007fffffu, 0x807fffffu, 0x00800000u,
        0x80800000u, 0x42ae0000u, 0xc2ae0000u, 0x42adffffu, 0xc2adffffu, 0x42ae0001u, 0xc2ae0001u,
        0x424c771fu, 0xc24c771fu, 0x424c7720u, 0xc24c7720u, 0x424c7721u, 0xc24c7721u, 0x40e00000u,
        0x40e00001u, 0x40dfffffu, 0xc0e00000u, 0xc0e00001u, 0x7f7fffffu, 0xff7fffffu, 0x7f800000u,
        0xff800000u, 0x7fc00000u, 0xff800001u};
    enum { ENDS = sizeof ends / sizeof ends[0] };
    float x[ENDS * 16 * 16];

    for (size_t i = 0; i < ENDS * 16 * 16; i++) {
        const size_t end = i / 256, place = i / 16 % 16;
        x[i] = i % 16 == place ? host_bits(ends[end]) : -1.5f;
    }
    expect_all_activations(x, ENDS * 16 * 16);
}

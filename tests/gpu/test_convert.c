/*
 * tests/gpu/test_convert.c - the conversions of fp4/device on all 2^32 floats, or all codes, at
 * every place of a fragment, in every way they can be compiled.
 *
 * The expected codes are those of the scalar headers compiled for the host; the device compares.
 */
#include "paths.h"

#include <float.h>

enum { CHUNK = 1 << 26, TURNS = 8 };

/* ---------------------------------------------------------------- sweeps */

/* What a float becomes: up to 32 bits, of which a result has `size` bytes. */
typedef uint32_t (*reference)(float x);

static uint32_t as_e2m1(float x)
{
    return fp4_f32_to_e2m1(x);
}

/* To nearest, ties toward zero. */
static uint32_t as_e2m1_down(float x)
{
    static const float tie[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
    uint32_t code = host_bits_of(x) >> 31 << 3;

    for (size_t i = 0; i < sizeof tie / sizeof tie[0]; i++) {
        code += fabsf(x) > tie[i];
    }
    return code;
}

static uint32_t as_e2m1_up(float x)
{
    return fp4_f32_to_e2m1(x * 0x1p124f);
}

static uint32_t as_e2m1_far_down(float x)
{
    return fp4_f32_to_e2m1(x * 0x1p-111f);
}

static uint32_t as_e2m1_sr(float x)
{
    return fp4_f32_to_e2m1_sr(x, PARTS_RANDOM(host_bits_of(x)));
}

static uint32_t as_e4m3(float x)
{
    return fp4_f32_to_e4m3(x);
}

static uint32_t as_e8m0_up(float x)
{
    return fp4_f32_to_e8m0_up(x);
}

static uint32_t as_f16(float x)
{
    return fp4_f32_to_f16(x);
}

static uint32_t as_bf16(float x)
{
    return fp4_f32_to_bf16(x);
}

static uint32_t as_it_is(float x)
{
    return host_bits_of(x);
}

static uint32_t as_reciprocal(float x)
{
    return host_bits_of(1.0f / x);
}

static uint32_t as_rsqrt(float x)
{
    return host_bits_of((float)(1.0 / sqrt((double)x)));
}

/* One function under test: its results are compared with those of the reference. */
typedef struct sweep {
    parts_encoder how;
    unsigned turns; /* that many places of the fragment */
    const char *name;
} sweep;

typedef struct sweep_memory {
    uint8_t *host;
    gpu_buffer expected, got, found; /* found: [sweep][path][turn] */
} sweep_memory;

static sweep_memory sweep_memory_new(size_t bytes, size_t sweeps)
{
    sweep_memory m;
    void *host;

    GPU_OK(cudaMallocHost(&host, bytes));
    m.host = (uint8_t *)host;
    m.expected = gpu_buffer_new(bytes, 0);
    m.got = gpu_buffer_new(bytes, 0);
    m.found = gpu_differences_new(sweeps * PATHS * TURNS);
    return m;
}

/* The reference for floats with the bits first, first + 1, ... */
static void sweep_reference(const sweep_memory *m, reference to, size_t size, uint32_t first,
                            size_t count)
{
#pragma omp parallel for schedule(static)
    for (ptrdiff_t i = 0; i < (ptrdiff_t)count; i++) {
        const uint32_t code = to(host_bits(first + (uint32_t)i));
        memcpy(m->host + (size_t)i * size, &code, size);
    }
    GPU_OK(cudaMemcpy(m->expected.bytes, m->host, count * size, cudaMemcpyHostToDevice));
}

/* Runs all sweeps over a chunk, counting differences by the bits of the float. */
static void sweep_chunk(const sweep_memory *m, const sweep *sweeps, size_t n, size_t size,
                        uint32_t first, size_t count)
{
    for (size_t s = 0; s < n; s++) {
        for (size_t p = 0; p < PATHS; p++) {
            for (unsigned turn = 0; turn < sweeps[s].turns; turn++) {
                GPU_OK(paths[p]->encode(sweeps[s].how, first, count, turn, m->got.bytes));
                GPU_OK(gpu_compare(m->got.bytes, m->expected.bytes, count * size, m->got.size, 0,
                                   gpu_difference_at(m->found, (s * PATHS + p) * TURNS + turn)));
            }
        }
    }
    gpu_finish("sweep");
}

static void sweep_report(const sweep_memory *m, const sweep *sweeps, size_t n, size_t size,
                         uint32_t first)
{
    gpu_difference *d = (gpu_difference *)gpu_copy_of(m->found);

    for (size_t i = 0; i < n * PATHS * TURNS; i++) {
        CHECK_EQ(d[i].count, 0,
                 "%s, %s, place 0 of the fragment moved to %zu: bytes, first at %08x",
                 sweeps[i / (PATHS * TURNS)].name, paths[i / TURNS % PATHS]->name, i % TURNS,
                 first + (uint32_t)(d[i].first / size));
    }
    free(d);
}

static void sweep_memory_free(sweep_memory m)
{
    GPU_OK(cudaFreeHost(m.host));
    gpu_buffer_free(m.expected);
    gpu_buffer_free(m.got);
    gpu_buffer_free(m.found);
}

/* On the CPU (tests/simt): of all floats those next to multiples of 2^19, which are all ties of
   e2m1 and e4m3, from 2^-13 to 2^10; elsewhere those next to powers of two. */
static inline void run_sweeps_on_ties(const sweep *sweeps, size_t n, reference to, size_t size,
                                      uint32_t first, unsigned long long count)
{
    enum { STEP = 1 << 19, AROUND = 64 };
    sweep_memory m = sweep_memory_new(AROUND * size, n);

    for (unsigned long long at = 0; at < count; at += STEP) {
        const uint32_t bits = first + (uint32_t)at, magnitude = bits & 0x7fffffffu;
        const int is_middling = magnitude > 0x39000000u && magnitude < 0x44800000u;
        const uint32_t before = at == 0 ? 0 : AROUND / 2;
        const unsigned long long left = count - at + before;
        if (is_middling || magnitude % (1u << 23) == 0) {
            const size_t now = left < AROUND ? (size_t)left : AROUND;
            sweep_reference(&m, to, size, bits - before, now);
            sweep_chunk(&m, sweeps, n, size, bits - before, now);
            sweep_report(&m, sweeps, n, size, bits - before);
        }
    }
    sweep_memory_free(m);
}

/* All sweeps over the floats with bits from first on. */
static void run_sweeps(const sweep *sweeps, size_t n, reference to, size_t size, uint32_t first,
                       unsigned long long count)
{
#if defined(FP4_SIMT)
    run_sweeps_on_ties(sweeps, n, to, size, first, count);
    count = count < 4096 ? count : 4096;
#endif
    const size_t most = gpu_is_reduced() ? 4096 : CHUNK;
    const size_t room = count < most ? (size_t)count : most;
    sweep_memory m = sweep_memory_new((room * size + 15) / 16 * 16, n);

    for (unsigned long long at = 0; at < (gpu_is_reduced() ? room : count); at += room) {
        const size_t now = count - at < room ? (size_t)(count - at) : room;
        const uint32_t from = first + (uint32_t)at;
        sweep_reference(&m, to, size, from, now);
        sweep_chunk(&m, sweeps, n, size, from, now);
        sweep_report(&m, sweeps, n, size, from);
    }
    sweep_memory_free(m);
}

#define RUN_SWEEPS(sweeps, ...) run_sweeps(sweeps, sizeof sweeps / sizeof sweeps[0], __VA_ARGS__)
#define ALL_FLOATS 0u, 1ull << 32

GPU_TEST(convert, all_floats_to_e2m1)
{
    static const sweep sweeps[] = {{TO_E2M1X8, TURNS, "f32x8_to_e2m1x8"},
                                   {TO_E2M1X16_LOW, 1, "f32x16_to_e2m1x16, low"},
                                   {TO_E2M1X16_HIGH, 1, "f32x16_to_e2m1x16, high"},
                                   {TO_E2M1X2, 2, "f32x2_to_e2m1x2"}};
    RUN_SWEEPS(sweeps, as_e2m1, 1, ALL_FLOATS);
}

GPU_TEST(convert, all_floats_below_7_to_e2m1)
{
    static const sweep sweeps[] = {{TO_E2M1X8_BELOW_7, TURNS, "f32x8_to_e2m1x8_below_7"}};
    const uint32_t seven = 0x40e00000u;

    RUN_SWEEPS(sweeps, as_e2m1, 1, 0u, seven);
    RUN_SWEEPS(sweeps, as_e2m1, 1, 0x80000000u, seven);
}

/* By the ends of the range of powers, where the product is below 7. */
GPU_TEST(convert, all_floats_times_a_power_to_e2m1)
{
    static const sweep up[] = {{TO_E2M1X8_UP, 2, "f32x8_times_power, 2^124"}};
    static const sweep down[] = {{TO_E2M1X8_FAR_DOWN, 2, "f32x8_times_power, 2^-111"}};
    const uint32_t seven = 0x40e00000u;

    for (uint32_t sign = 0; sign < 2; sign++) {
        RUN_SWEEPS(up, as_e2m1_up, 1, sign << 31, seven - (124u << 23));
        RUN_SWEEPS(down, as_e2m1_far_down, 1, sign << 31, seven + (111u << 23));
    }
}

GPU_TEST(convert, all_floats_to_e2m1_at_random)
{
    static const sweep sweeps[] = {{TO_E2M1X8_SR, 2, "f32x8_to_e2m1x8_sr"}};
    RUN_SWEEPS(sweeps, as_e2m1_sr, 1, ALL_FLOATS);
}

GPU_TEST(convert, all_floats_below_7_to_e2m1_ties_down)
{
    static const sweep sweeps[] = {
        {TO_E2M1X8_TIES_DOWN, TURNS, "f32x8_to_e2m1x8_ties_down_below_7"}};
    const uint32_t seven = 0x40e00000u;

    RUN_SWEEPS(sweeps, as_e2m1_down, 1, 0u, seven);
    RUN_SWEEPS(sweeps, as_e2m1_down, 1, 0x80000000u, seven);
}

GPU_TEST(convert, all_floats_to_e4m3)
{
    static const sweep sweeps[] = {{TO_E4M3X8, TURNS, "f32x8_to_e4m3x8"},
                                   {TO_E4M3X2, 2, "f32x2_to_e4m3x2"},
                                   {TO_E4M3, 1, "cvt_f32_to_e4m3"}};
    RUN_SWEEPS(sweeps, as_e4m3, 1, ALL_FLOATS);
}

GPU_TEST(convert, all_floats_to_e8m0)
{
    static const sweep sweeps[] = {{TO_E8M0_UP, 1, "cvt_f32_to_e8m0_up"}};
    RUN_SWEEPS(sweeps, as_e8m0_up, 1, ALL_FLOATS);
}

GPU_TEST(convert, all_floats_to_f16)
{
    static const sweep sweeps[] = {{TO_F16X8, TURNS, "f32x8_to_f16x8"},
                                   {TO_F16X2, 2, "cvt_f32x2_to_f16x2"},
                                   {TO_F16X16_LOW, 1, "f32x16_to_f16x16, low"},
                                   {TO_F16X16_HIGH, 1, "f32x16_to_f16x16, high"}};
    RUN_SWEEPS(sweeps, as_f16, 2, ALL_FLOATS);
}

GPU_TEST(convert, all_floats_to_bf16)
{
    static const sweep sweeps[] = {{TO_BF16X8, TURNS, "f32x8_to_bf16x8"},
                                   {TO_BF16X2, 2, "cvt_f32x2_to_bf16x2"},
                                   {TO_BF16X16_LOW, 1, "f32x16_to_bf16x16, low"},
                                   {TO_BF16X16_HIGH, 1, "f32x16_to_bf16x16, high"}};
    RUN_SWEEPS(sweeps, as_bf16, 2, ALL_FLOATS);
}

/* Every kind of float, at every place. */
GPU_TEST(convert, floats_to_their_words)
{
    static const sweep sweeps[] = {{TO_U32X16_LOW, TURNS, "f32x16_to_u32x16, low"},
                                   {TO_U32X16_HIGH, TURNS, "f32x16_to_u32x16, high"}};
    static const uint32_t first[] = {0u, 0x3f800000u, 0x7f7ff000u, 0x7fbff000u, 0xff7ff000u};

    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        RUN_SWEEPS(sweeps, as_it_is, 4, first[i], 8192);
    }
}

/* ---------------------------------------------------------------- reciprocals */

/* The Newton step against the correctly rounded instruction on all floats of its range, 2^-126 to
   2^126 and both signs; that instruction against the host's division on all mantissas. */
GPU_TEST(convert, newton_reciprocal_is_correctly_rounded)
{
    static const sweep correct[] = {{TO_RCP_RN, 1, "__frcp_rn"}, {TO_RCP_NEWTON, 1, "rcp_newton"}};
    static const uint32_t exponents[] = {1, 2, 64, 126, 127, 128, 190, 251, 252};
    const uint32_t smallest = 0x00800000u, largest = 0x7e800000u;
    const size_t chunk = gpu_is_reduced() ? 4096 : CHUNK;
    const gpu_buffer newton = gpu_buffer_new(chunk * sizeof(float), 0);
    const gpu_buffer rn = gpu_buffer_new(chunk * sizeof(float), 0);

    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        RUN_SWEEPS(correct, as_reciprocal, 4, exponents[e] << 23, 1ull << 23);
    }
    RUN_SWEEPS(correct, as_reciprocal, 4, largest, 1);
    RUN_SWEEPS(correct, as_reciprocal, 4, largest | 0x80000000u, 1);

    for (uint32_t sign = 0; sign < 2; sign++) {
        for (size_t p = 0; p < PATHS; p++) {
            const gpu_buffer found = gpu_differences_new(1);
            gpu_difference d;
            for (uint32_t at = smallest; at < largest; at += (uint32_t)chunk) {
                const size_t n = largest - at < chunk ? largest - at : chunk;
                GPU_OK(paths[p]->encode(TO_RCP_NEWTON, at | sign << 31, n, 0, newton.bytes));
                GPU_OK(paths[p]->encode(TO_RCP_RN, at | sign << 31, n, 0, rn.bytes));
                GPU_OK(gpu_compare(newton.bytes, rn.bytes, n * 4, chunk * 4, 0,
                                   gpu_difference_at(found, 0)));
                if (gpu_is_reduced()) {
                    break;
                }
            }
            gpu_download(&d, found);
            CHECK_EQ(d.count, 0, "%s: bytes of 1/x by a Newton step, sign %u", paths[p]->name,
                     sign);
            gpu_buffer_free(found);
        }
    }
    gpu_buffer_free(newton);
    gpu_buffer_free(rn);
}

/* For zero it gives NaN, which the scale rules turn into FLT_MAX. */
GPU_TEST(convert, newton_reciprocal_of_zero_is_nan)
{
    const gpu_buffer out = gpu_buffer_new(sizeof(float), 0);

    for (size_t p = 0; p < PATHS; p++) {
        for (uint32_t sign = 0; sign < 2; sign++) {
            float got;
            GPU_OK(paths[p]->encode(TO_RCP_NEWTON, sign << 31, 1, 0, out.bytes));
            gpu_download(&got, out);
            CHECK(isnan(got), "%s: 1/%s0 is %a", paths[p]->name, sign ? "-" : "", (double)got);
        }
    }
    gpu_buffer_free(out);
}

/* All mantissas of both parities of the exponent, and some of every exponent. */
GPU_TEST(convert, reciprocal_square_root_is_correctly_rounded)
{
    static const sweep sweeps[] = {{TO_RSQRT, 1, "rsqrt_rn"}};

    RUN_SWEEPS(sweeps, as_rsqrt, 4, 0x3f800000u, 1ull << 24);
    for (uint32_t exponent = 1; exponent < 255; exponent += gpu_is_reduced() ? 100 : 1) {
        RUN_SWEEPS(sweeps, as_rsqrt, 4, (exponent << 23) + 0x9e3779b1u * exponent % 0x7ff000u,
                   4096);
    }
}

/* ---------------------------------------------------------------- to f32 */

/* A decoder, the bits of its codes, and what a code is worth. */
typedef struct decoder {
    parts_decoder how;
    unsigned bits;
    const char *name;
} decoder;

static float decoded(parts_decoder how, uint32_t code)
{
    switch (how) {
    case FROM_E2M1X8:
    case FROM_E2M1X8_UNITS:
    case FROM_E2M1X8_F16:
    case FROM_E2M1X8_BF16:
        return fp4_e2m1_to_f32((uint8_t)code);
    case FROM_E2M1X8_U8:
        return 2.0f * fp4_e2m1_to_f32((uint8_t)code) + 140.0f; /* FP4_E2M1_U8_ZERO */
    case FROM_E4M3X8:
    case FROM_E4M3:
        return fp4_e4m3_to_f32((uint8_t)code);
    case FROM_F16X8:
        return fp4_f16_to_f32((uint16_t)code);
    case FROM_BF16X8:
    case PARTS_DECODERS:
        break;
    }
    return fp4_bf16_to_f32((uint16_t)code);
}

/* Every code at each of the eight places, all other places changing with it. */
GPU_TEST(convert, every_code_at_every_place_to_f32)
{
    static const decoder decoders[] = {
        {FROM_E2M1X8, 4, "e2m1x8_to_f32x8"},     {FROM_E2M1X8_UNITS, 4, "e2m1x8_to_units"},
        {FROM_E2M1X8_F16, 4, "e2m1x8_to_f16x8"}, {FROM_E2M1X8_BF16, 4, "e2m1x8_to_bf16x8"},
        {FROM_E2M1X8_U8, 4, "e2m1x8_to_u8x8"},   {FROM_E4M3X8, 8, "e4m3x8_to_f32x8"},
        {FROM_E4M3, 8, "cvt_e4m3_to_f32"},       {FROM_F16X8, 16, "f16x8_to_f32x8"},
        {FROM_BF16X8, 16, "bf16x8_to_f32x8"}};
    const size_t eights = gpu_is_reduced() ? 300 : 65536;
    const gpu_buffer out = gpu_buffer_new(eights * 8 * sizeof(float), 0);
    float *expected = (float *)host_zeros(eights * 8 * sizeof(float));

    for (size_t k = 0; k < sizeof decoders / sizeof decoders[0]; k++) {
        const unsigned bits = decoders[k].bits;
        uint8_t *codes = (uint8_t *)host_zeros(eights * bits);
        gpu_buffer words;
        uint64_t state = k;
        for (size_t i = 0; i < eights * 8; i++) {
            const uint32_t any = host_random(&state), mask = (1u << bits) - 1u;
            const uint32_t at_place = (uint32_t)(i / 8 + i % 8 * 0x1357);
            const uint32_t code = (bits == 16 || i / 8 % 2 ? at_place : any) & mask;
            const size_t bit = i * bits;
            codes[bit / 8] |= (uint8_t)(code << bit % 8);
            if (bits == 16) {
                codes[bit / 8 + 1] = (uint8_t)(code >> 8);
            }
            expected[i] = decoded(decoders[k].how, code);
        }
        words = gpu_buffer_of(codes, eights * bits, 0);
        for (size_t p = 0; p < PATHS; p++) {
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->decode(decoders[k].how, path_words(words), eights, path_floats(out)));
            path_expect_floats(out, expected, decoders[k].name, paths[p]->name);
        }
        gpu_buffer_free(words);
        free(codes);
    }
    gpu_buffer_free(out);
    free(expected);
}

/* All groups of four codes in the lower half and in the upper one. */
GPU_TEST(convert, every_four_codes_in_either_half_to_f32)
{
    static const decoder decoders[] = {{FROM_E2M1X8, 4, "e2m1x8_to_f32x8"},
                                       {FROM_E2M1X8_UNITS, 4, "e2m1x8_to_units"},
                                       {FROM_E2M1X8_F16, 4, "e2m1x8_to_f16x8"},
                                       {FROM_E2M1X8_BF16, 4, "e2m1x8_to_bf16x8"},
                                       {FROM_E2M1X8_U8, 4, "e2m1x8_to_u8x8"}};
    enum { EIGHTS = 65536 };
    uint32_t *words = (uint32_t *)host_zeros(EIGHTS * sizeof(uint32_t));
    float *expected = (float *)host_zeros(EIGHTS * 8 * sizeof(float));
    const gpu_buffer out = gpu_buffer_new(EIGHTS * 8 * sizeof(float), 0);
    gpu_buffer in;

    for (uint32_t i = 0; i < EIGHTS; i++) {
        words[i] = i | (i * 0x9e37u + 0x1234u) << 16; /* odd: a permutation */
    }
    in = gpu_buffer_of(words, EIGHTS * sizeof(uint32_t), 0);
    for (size_t k = 0; k < sizeof decoders / sizeof decoders[0]; k++) {
        for (size_t i = 0; i < EIGHTS * 8; i++) {
            expected[i] = decoded(decoders[k].how, words[i / 8] >> (4 * (i % 8)) & 15u);
        }
        for (size_t p = 0; p < PATHS; p++) {
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->decode(decoders[k].how, path_words(in), EIGHTS, path_floats(out)));
            path_expect_floats(out, expected, decoders[k].name, paths[p]->name);
        }
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(words);
    free(expected);
}

/* ---------------------------------------------------------------- sums of products of bytes */

/* Byte i of a word. */
static int byte_of(uint32_t word, int i, int is_signed)
{
    const uint32_t byte = word >> (8 * i) & 255u;
    return is_signed ? (int)(int8_t)byte : (int)byte;
}

/* Bytes of all kinds and such as are largest, sums on top of others. */
GPU_TEST(convert, dot_products_of_bytes)
{
    enum { DOTS = 20000 };
    static const uint32_t ends[] = {0x00000000u, 0x7f7f7f7fu, 0x80808080u,
                                    0xffffffffu, 0x01010101u, 0x807fff01u};
    uint32_t *a = (uint32_t *)host_zeros(DOTS * 4), *b = (uint32_t *)host_zeros(DOTS * 4);
    uint32_t *sum = (uint32_t *)host_zeros(DOTS * 4), *expected = (uint32_t *)host_zeros(DOTS * 4);
    const gpu_buffer out = gpu_buffer_new(DOTS * 4, 0);
    gpu_buffer as, bs, sums;
    uint64_t state = 17;

    for (size_t i = 0; i < DOTS; i++) {
        a[i] = i < 36 ? ends[i / 6] : host_random(&state);
        b[i] = i < 36 ? ends[i % 6] : host_random(&state);
        sum[i] = host_random(&state);
    }
    as = gpu_buffer_of(a, DOTS * 4, 0);
    bs = gpu_buffer_of(b, DOTS * 4, 0);
    sums = gpu_buffer_of(sum, DOTS * 4, 0);
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        for (size_t i = 0; i < DOTS; i++) {
            expected[i] = sum[i];
            for (int k = 0; k < 4; k++) {
                expected[i] += (uint32_t)(byte_of(a[i], k, 0) * byte_of(b[i], k, is_signed));
            }
        }
        for (size_t p = 0; p < PATHS; p++) {
            uint32_t *got;
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->dot(is_signed, path_words(as), path_words(bs), path_words(sums), DOTS,
                                 (uint32_t *)out.bytes));
            got = (uint32_t *)gpu_copy_of(out);
            for (size_t i = 0; i < DOTS; i++) {
                CHECK_EQ(got[i], expected[i], "%s: %08x * %08x, signed %d", paths[p]->name, a[i],
                         b[i], is_signed);
            }
            free(got);
        }
    }
    gpu_buffer_free(as);
    gpu_buffer_free(bs);
    gpu_buffer_free(sums);
    gpu_buffer_free(out);
    free(a);
    free(b);
    free(sum);
    free(expected);
}

/* ---------------------------------------------------------------- which instructions */

/* The macros say of each way what it is, by the table in arch.cuh; else a test could run the same
   path four times. */
GPU_TEST(convert, paths_are_what_they_say)
{
    enum {
        CVT_E2M1,
        CVT_E4M3,
        CVT_F16X2,
        MAX_NAN,
        MAX_ABS_X2,
        IS_NATIVE,
        IS_NATIVE_E4M3,
        ARCH,
        FACTS
    };
    const gpu_buffer out = gpu_buffer_new(FACTS * sizeof(int), 0);

    for (size_t p = 0; p < PATHS; p++) {
        int got[FACTS];
        GPU_OK(paths[p]->describe((int *)(void *)out.bytes));
        gpu_download(got, out);
        if (strcmp(paths[p]->name, "gpu_parts_portable") == 0) {
            for (int fact = 0; fact < ARCH; fact++) {
                CHECK_EQ(got[fact], 0, "portable: fact %d", fact);
            }
            continue;
        }
        CHECK_EQ(got[CVT_E4M3], got[ARCH] >= 890, "%s", paths[p]->name);
        CHECK_EQ(got[IS_NATIVE_E4M3], got[ARCH] >= 890, "%s", paths[p]->name);
        CHECK_EQ(got[CVT_F16X2], got[ARCH] >= 800, "%s", paths[p]->name);
        CHECK_EQ(got[MAX_NAN], got[ARCH] >= 800, "%s", paths[p]->name);
        CHECK_EQ(got[MAX_ABS_X2], got[ARCH] >= 860, "%s", paths[p]->name);
        if (strcmp(paths[p]->name, "gpu_parts_native") == 0) {
            CHECK_EQ(got[CVT_E2M1], 1, "as native");
        } else {
            CHECK_EQ(got[CVT_E2M1], got[IS_NATIVE], "%s", paths[p]->name);
            CHECK(got[ARCH] >= 1000 || got[CVT_E2M1] == 0, "%s", paths[p]->name);
        }
    }
    gpu_buffer_free(out);
}

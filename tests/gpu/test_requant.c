/*
 * tests/gpu/test_requant.c - e4m3 to e2m1 by a table (requant.cuh) against the host reference:
 * every magnitude in blocks of every amax, under scales of every kind.
 */
#include <fp4/host/quant.h>

#include "paths.h"

enum { MAGNITUDES = 127, NAN_BYTE = 0x7f };

/* Blocks of `block` bytes, in which every amax meets every smaller magnitude with both signs, at
   any place of the block. After them blocks of zeros and blocks with NaN. */
static uint8_t *make_blocks(size_t block, size_t *count)
{
    const size_t most = (size_t)MAGNITUDES * (2 * MAGNITUDES / (block - 1) + 1) + 64;
    uint8_t *x = (uint8_t *)host_zeros(most * block);
    uint64_t state = block;
    size_t n = 0;

    for (unsigned amax = 0; amax < MAGNITUDES; amax++) {
        for (size_t first = 0; first < 2 * (amax + 1); first += block - 1, n++) {
            uint8_t *b = x + n * block;
            const size_t at = n % block;
            for (size_t k = 0; k < block; k++) {
                const size_t i = first + (k < at ? k : k - 1);
                b[k] = (uint8_t)(i / 2 > amax ? amax : i / 2) | (uint8_t)(i % 2 << 7);
            }
            b[at] = (uint8_t)(amax | (n % 2 << 7));
        }
    }
    for (size_t i = 0; i < 64; i++, n++) { /* 0..15 NaNs; blocks of zeros and of nothing but NaN */
        uint8_t *b = x + n * block;
        for (size_t k = 0; k < block; k++) {
            b[k] = i < 2 ? (uint8_t)(k % 2 << 7) : (uint8_t)host_random(&state);
            if (i % 16 == 15 || (i > 1 && host_below(&state, 16) < i % 16)) {
                b[k] |= NAN_BYTE;
            }
        }
    }
    cr_assert(n <= most);
    *count = n;
    return x;
}

/* Ordinary scales, those at which ties are exact or nearly so, and those at the ends of f32. */
static const float factors[] = {
    1.0f,       0.5f,    3.0f,      0.1f,     1.0f / 448, 448.0f,    2688.0f,  1.0f / 6,
    5.0f / 3,   0.8f,    1.25f,     1.75f,    7.0f / 5,   0x1p-7f,   0x1p-60f, 0x1p62f,
    0x1p-65f,   0x1p65f, 0x1p-100f, 0x1p100f, 0x1p-126f,  0x1p-127f, 0x1p127f, 0x1.234568p-40f,
    FP4_F32_MAX};

enum { FACTORS = sizeof factors / sizeof factors[0] };

/* Subnormals come about, which --use_fast_math flushes. */
static int is_extreme(float dec, float global_enc)
{
    return dec < 0x1p-50f || dec > 0x1p50f || global_enc < 0x1p-50f || global_enc > 0x1p50f;
}

static void check(fp4_format format, const uint8_t *x, size_t blocks, gpu_buffer device_x,
                  float dec, float global_enc)
{
    const size_t block = fp4_format_block(format), lanes = blocks * (block / 16);
    const fp4_matrix m = fp4_matrix_e4m3(x, blocks, block, block, dec);
    uint8_t *q = (uint8_t *)host_zeros(lanes * 8), *sf = (uint8_t *)host_zeros(blocks);
    fp4_tensor expected =
        fp4_tensor_view(format, FP4_LAYOUT_LINEAR, blocks, block, q, lanes * 8, sf, blocks);
    const gpu_buffer got_q = gpu_buffer_new(lanes * 8, 0), got_sf = gpu_buffer_new(lanes, 0);
    char what[128];

    cr_assert_eq(format == FP4_NVFP4 ? fp4_ref_nvfp4_quantize(m, global_enc, &expected)
                                     : fp4_ref_mxfp4_quantize(m, &expected),
                 FP4_OK);
    for (int path = 0; path < PATHS; path++) {
        uint8_t *bytes, *scales;
        if (path == FAST_MATH && is_extreme(dec, global_enc)) {
            continue;
        }
        gpu_poison(got_q, 0xa5);
        gpu_poison(got_sf, 0xa5);
        snprintf(what, sizeof what, "%s, %s, dec %a, global_enc %a",
                 format == FP4_NVFP4 ? "NVFP4" : "MXFP4", paths[path]->name, (double)dec,
                 (double)global_enc);
        GPU_OK(paths[path]->requantize(format, device_x.bytes, dec, global_enc, lanes, got_q.bytes,
                                       got_sf.bytes));
        gpu_finish(what);
        bytes = (uint8_t *)gpu_copy_of(got_q);
        scales = (uint8_t *)gpu_copy_of(got_sf);
        for (size_t i = 0; i < lanes; i++) {
            CHECK_EQ(scales[i], sf[i / (block / 16)], "%s: scale of lane %zu", what, i);
        }
        for (size_t i = 0; i < lanes * 8; i++) {
            CHECK_EQ(bytes[i], q[i], "%s: codes %zu and %zu, of bytes 0x%02x 0x%02x", what, 2 * i,
                     2 * i + 1, x[2 * i], x[2 * i + 1]);
        }
        free(bytes);
        free(scales);
    }
    gpu_expect_guards(got_q, "codes");
    gpu_expect_guards(got_sf, "scales");
    gpu_buffer_free(got_q);
    gpu_buffer_free(got_sf);
    free(q);
    free(sf);
}

static void check_format(fp4_format format)
{
    const int reduced = gpu_is_reduced();
    uint64_t state = 7;
    size_t blocks;
    uint8_t *x = make_blocks(fp4_format_block(format), &blocks);
    const gpu_buffer device_x = gpu_buffer_of(x, blocks * fp4_format_block(format), 0);

    for (size_t d = 0; d < FACTORS; d++) {
        for (size_t g = 0; g < (format == FP4_NVFP4 ? FACTORS : 1); g++) {
            if (!reduced || (d + g) % FACTORS == 2 * g % 5) {
                check(format, x, blocks, device_x, factors[d], factors[g]);
            }
        }
    }
    for (int i = 0; i < (reduced ? 4 : 300); i++) {
        check(format, x, blocks, device_x, host_random_scale(&state, -20, 20),
              host_random_scale(&state, -20, 20));
    }
    gpu_buffer_free(device_x);
    free(x);
}

GPU_TEST(requant, nvfp4)
{
    check_format(FP4_NVFP4);
}

GPU_TEST(requant, mxfp4)
{
    check_format(FP4_MXFP4);
}

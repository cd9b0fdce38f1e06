/*
 * tests/gpu/test_launch_values.c - the launchers on values that have gone wrong somewhere, or
 * could, and on every value of the 16-bit and 8-bit types.
 */
#include "cases.h"
#include "values.h"

enum { COLS = 1024 };

/* The smallest global scale whose reciprocal is finite, in both directions. */
#define SMALLEST_SCALE 0x1.000008p-128f

/* Runs x, rows of 1024 elements, in every layout (the kernels differ), with a global scale. */
static void run_layouts(fp4_dtype dtype, fp4_format format, const uint8_t *x, size_t rows,
                        float scale, int is_dec, float x_dec)
{
    for (int layout = 0; layout < 3; layout++) {
        gpu_case c = case_of(dtype, format, (fp4_layout)layout, rows, COLS);
        c.global = is_dec ? SCALE_DEVICE : SCALE_HOST;
        c.scale = scale;
        c.is_dec = is_dec;
        c.x_dec = x_dec;
        case_run(&c, x);
    }
}

/* The same with all scales that are extreme or next to where the kernel takes another way. */
static void run_scales(fp4_dtype dtype, const uint8_t *x, size_t rows)
{
    static const float scales[] = {1.0f,           2688.0f,         0.1f,
                                   SMALLEST_SCALE, 0x1p-127f,       0x1.fffffcp-127f,
                                   0x1p-126f,      0x1p-65f,        0x1.fffffep-65f,
                                   0x1p-64f,       0x1.fffffep63f,  0x1p64f,
                                   0x1p126f,       0x1.000002p126f, 0x1p127f,
                                   FP4_F32_MAX};
    static const float e4m3_decs[] = {1.0f, 0x1p-149f, 0x1p-126f, 0x1p-9f,
                                      0.3f, 0x1p119f,  0x1p127f,  FP4_F32_MAX};
    const size_t decs = dtype == FP4_E4M3 ? sizeof e4m3_decs / sizeof e4m3_decs[0] : 1;
    const size_t count = gpu_is_reduced() ? 4 : sizeof scales / sizeof scales[0];

    for (size_t i = 0; i < count; i++) {
        run_layouts(dtype, FP4_NVFP4, x, rows, scales[i], 0, e4m3_decs[i % decs]);
        if (scales[i] <= 0x1p127f) { /* the reciprocal of its reciprocal is finite */
            run_layouts(dtype, FP4_NVFP4, x, rows, scales[i], 1, e4m3_decs[i % decs]);
        }
    }
    run_layouts(dtype, FP4_NVFP4, x, rows, 0x1p-149f, 1, 1.0f); /* turned round: FLT_MAX */
    for (size_t i = 0; i < decs; i++) {
        run_layouts(dtype, FP4_MXFP4, x, rows, 1.0f, 0, e4m3_decs[i]);
        run_layouts(dtype, FP4_MXFP8, x, rows, 1.0f, 0, e4m3_decs[i]);
    }
}

static void run_adversarial(fp4_dtype dtype)
{
    const size_t size = host_dtype_bytes(dtype);
    values_list list = values_all();
    size_t rows;
    uint8_t *x;

    if (gpu_is_reduced()) {
        values_reduce(&list, 9 * COLS / VALUES_BLOCK);
    }
    rows = (list.blocks * VALUES_BLOCK + COLS - 1) / COLS;
    x = (uint8_t *)host_zeros(rows * COLS * size);
    for (size_t i = 0; i < list.blocks * VALUES_BLOCK; i++) {
        const uint32_t bits = values_bits(dtype, list.x[i]);
        memcpy(x + i * size, &bits, size);
    }
    run_scales(dtype, x, rows);
    free(x);
    free(list.x);
}

GPU_TEST(launch_values, adversarial_f32)
{
    run_adversarial(FP4_F32);
}

GPU_TEST(launch_values, adversarial_f16)
{
    run_adversarial(FP4_F16);
}

GPU_TEST(launch_values, adversarial_bf16)
{
    run_adversarial(FP4_BF16);
}

GPU_TEST(launch_values, adversarial_e4m3)
{
    run_adversarial(FP4_E4M3);
}

/* ---------------------------------------------------------------- every pattern of small types */

/* A block around a pattern: alone, everywhere, among patterns near it, among any. */
static void fill_around(uint8_t *block, fp4_dtype dtype, uint32_t pattern, int kind,
                        uint64_t *state)
{
    const size_t size = host_dtype_bytes(dtype);
    const uint32_t at = host_below(state, VALUES_BLOCK);
    const uint32_t second = pattern ^ host_below(state, 256);

    for (uint32_t i = 0; i < VALUES_BLOCK; i++) {
        const uint32_t near = pattern ^ (host_random(state) & (size == 1 ? 0x8fu : 0x803fu));
        const uint32_t bits = i == at     ? pattern
                              : kind == 0 ? 0
                              : kind == 1 ? (i % 2 ? pattern : second)
                              : kind == 2 ? near
                                          : host_random(state);
        memcpy(block + i * size, &bits, size);
    }
}

/* f16 and bf16: all 65,536; e4m3: all 256 with more neighbours. */
static void run_patterns(fp4_dtype dtype)
{
    static const float scales[] = {1.0f, 448.0f, 0x1.8p-70f, 0x1.4p70f};
    const size_t size = host_dtype_bytes(dtype);
    const size_t patterns = gpu_is_reduced() ? 256 : 65536, blocks = 4 * patterns;
    uint8_t *x = (uint8_t *)host_zeros(blocks * VALUES_BLOCK * size);
    uint64_t state = 65536 + (uint64_t)dtype;

    for (size_t i = 0; i < blocks; i++) {
        fill_around(x + i * VALUES_BLOCK * size, dtype, (uint32_t)(i / 4 * (65536 / patterns)),
                    (int)(i % 4), &state);
    }
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        gpu_case c =
            case_of(dtype, FP4_NVFP4, (fp4_layout)(i % 3), blocks * VALUES_BLOCK / COLS, COLS);
        c.scale = scales[i];
        case_run(&c, x);
    }
    for (int format = FP4_MXFP4; format <= FP4_MXFP8; format++) {
        const gpu_case c = case_of(dtype, (fp4_format)format, (fp4_layout)format,
                                   blocks * VALUES_BLOCK / COLS, COLS);
        case_run(&c, x);
    }
    free(x);
}

GPU_TEST(launch_values, every_f16)
{
    run_patterns(FP4_F16);
}

GPU_TEST(launch_values, every_bf16)
{
    run_patterns(FP4_BF16);
}

GPU_TEST(launch_values, every_e4m3)
{
    run_patterns(FP4_E4M3);
}

/* A scale on the device that is no scale: any codes, but padding, guards and input stay what they
   must be, and nothing is read or written out of bounds. */
GPU_TEST(launch_values, useless_device_scales)
{
    static const float scales[] = {0.0f, -1.0f, INFINITY, NAN, 0x1p-149f};
    const size_t rows = 130, cols = 80;
    uint8_t *x = cases_pool(FP4_BF16, 1);

    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        gpu_case c = case_of(FP4_BF16, FP4_NVFP4, FP4_LAYOUT_128X4, rows, cols);
        case_device d;
        uint8_t *sf;
        c.global = SCALE_DEVICE;
        c.scale = scales[i];
        d = case_device_new(&c, x);
        gpu_poison(d.q, 0x7f);
        gpu_poison(d.sf, 0x7f);
        GPU_OK(case_launcher(&c)(&d.args, 0, 0));
        gpu_finish(case_text(&c));
        sf = (uint8_t *)gpu_copy_of(d.sf);
        for (size_t at = 0; at < d.sf.size; at++) {
            if (fp4_sf_row_128x4(at, cols / 16) >= rows ||
                fp4_sf_col_128x4(at, cols / 16) >= cols / 16) {
                CHECK_EQ(sf[at], 0, "padding at %zu, %s", at, case_text(&c));
            }
        }
        gpu_expect_guards(d.q, case_text(&c));
        gpu_expect_guards(d.sf, case_text(&c));
        free(sf);
        case_device_free(d);
    }
    free(x);
}

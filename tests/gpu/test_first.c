/*
 * tests/gpu/test_first.c - the README's kernel, which is that of examples/00_first.cu, against the
 * same steps on the host, in the order that reduce.cuh promises, byte for byte; its launcher.
 */
#include <fp4/f16.h>
#include <fp4/host/ops.h>
#include <fp4/layout.h>
#include <fp4/row.h>
#include <fp4/scale.h>

#include "gpu.h"
#include "launch.h"

enum { LANES = 32, MOST_THREADS = 256, BLOCK = 16 };

static const float eps = 1e-5f, global_enc = 300.0f;

/* Each lane with the one half a warp away, then half of that. */
static void butterfly(float *x)
{
    for (size_t step = LANES / 2; step > 0; step /= 2) {
        float before[LANES];
        memcpy(before, x, sizeof before);
        for (size_t lane = 0; lane < LANES; lane++) {
            x[lane] = before[lane] + before[lane ^ step];
        }
    }
}

/* The sum over a CTA of the squares of a row. */
static float sum_of_squares(const uint16_t *x, size_t cols, size_t threads)
{
    float of[MOST_THREADS] = {0}, warps[LANES] = {0};

    for (size_t thread = 0; thread < threads; thread++) {
        for (size_t c = BLOCK * thread; c < cols; c += BLOCK * threads) {
            float piece = 0.0f;
            for (size_t k = c; k < c + BLOCK; k++) {
                piece = fmaf(fp4_bf16_to_f32(x[k]), fp4_bf16_to_f32(x[k]), piece);
            }
            of[thread] += piece;
        }
    }
    for (size_t warp = 0; warp < threads / LANES; warp++) {
        butterfly(of + warp * LANES);
        warps[warp] = of[warp * LANES];
    }
    butterfly(warps);
    return warps[0];
}

/* A block of t * rstd. */
static uint8_t expect_block(const uint16_t *x, const uint16_t *w, float rstd, uint8_t *q)
{
    float t[BLOCK], enc;
    uint32_t key = 0;
    fp4_scale scale;

    for (size_t k = 0; k < BLOCK; k++) {
        t[k] = host_mul(fp4_bf16_to_f32(x[k]), fp4_bf16_to_f32(w[k]));
        key = fp4_max_u32(key, fp4_amax_key(t[k]));
    }
    scale = fp4_nvfp4_scale(isnan(rstd) ? 0.0f : host_mul(host_bits(key), rstd), global_enc);
    enc = isnan(rstd) ? rstd : fp4_min(host_mul(scale.enc, rstd), FP4_F32_MAX);
    for (size_t k = 0; k < BLOCK; k += 2) {
        const unsigned low = fp4_f32_to_e2m1(host_mul(t[k], enc));
        q[k / 2] = (uint8_t)(low | fp4_f32_to_e2m1(host_mul(t[k + 1], enc)) << 4);
    }
    return scale.bits;
}

/* With fp4_row_threads(cols) threads it is what host/ops.h has. */
static void expect_twin(const uint16_t *x, const uint16_t *w, size_t rows, size_t cols,
                        const uint8_t *q, const uint8_t *sf)
{
    const size_t q_bytes = rows * cols / 2;
    const size_t sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, cols / BLOCK);
    uint8_t *twin_q = (uint8_t *)host_zeros(q_bytes), *twin_sf = (uint8_t *)host_zeros(sf_bytes);
    const fp4_matrix m = {x, FP4_BF16, rows, cols, cols, 1.0f};
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, rows, cols, twin_q, q_bytes,
                                   twin_sf, sf_bytes);
    fp4_ref_fused how;

    memset(&how, 0, sizeof how);
    how.global_enc = global_enc;
    cr_assert(fp4_ref_rmsnorm_quantize(m, w, eps, &how, &t) == FP4_OK);
    host_expect_bytes(q, twin_q, q_bytes, "the host twin's codes");
    host_expect_bytes(sf, twin_sf, sf_bytes, "the host twin's scales");
    free(twin_q);
    free(twin_sf);
}

static launch_first_args args_of(gpu_buffer q, gpu_buffer sf, gpu_buffer x, gpu_buffer w,
                                 size_t rows, size_t cols)
{
    launch_first_args a;

    a.q = q.bytes;
    a.sf = sf.bytes;
    a.x = (const uint16_t *)(const void *)x.bytes;
    a.w = (const uint16_t *)(const void *)w.bytes;
    a.rows = (int)rows;
    a.cols = (int)cols;
    a.eps = eps;
    a.global_enc = global_enc;
    a.threads = 0;
    return a;
}

/* threads: 0: what the launcher takes. */
static void run(size_t rows, size_t cols, unsigned threads, uint64_t *state)
{
    const unsigned of_row = threads == 0 ? fp4_row_threads(cols) : threads;
    const size_t sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, cols / BLOCK);
    const size_t bytes[3] = {rows * cols * 2, cols * 2, rows * cols / 2};
    uint16_t *x = (uint16_t *)host_zeros(bytes[0]), *w = (uint16_t *)host_zeros(bytes[1]);
    uint8_t *q = (uint8_t *)host_zeros(bytes[2]), *sf = (uint8_t *)host_zeros(sf_bytes), *got;
    gpu_buffer in_x, in_w, out_q, out_sf;
    launch_first_args a;
    char what[96];

    for (size_t i = 0; i < rows * cols; i++) {
        x[i] = fp4_f32_to_bf16(host_random_scale(state, -8, 3) * (i % 3 == 0 ? -1.0f : 1.0f));
    }
    for (size_t i = 0; i < cols; i++) {
        w[i] = fp4_f32_to_bf16(host_random_scale(state, -2, 2));
    }
    x[(rows - 1) * cols + 3] = rows > 1 ? 0x7fc0 : x[3]; /* NaN */
    for (size_t row = 0; row < rows; row++) {
        const float mean = host_div(sum_of_squares(x + row * cols, cols, of_row), (float)cols);
        const float rstd = (float)(1.0 / sqrt((double)(mean + eps)));
        for (size_t c = 0; c < cols; c += BLOCK) {
            sf[fp4_sf_offset_128x4(row, c / BLOCK, cols / BLOCK)] =
                expect_block(x + row * cols + c, w + c, rstd, q + (row * cols + c) / 2);
        }
    }
    if (of_row == fp4_row_threads(cols)) {
        expect_twin(x, w, rows, cols, q, sf);
    }
    in_x = gpu_buffer_of(x, bytes[0], 0);
    in_w = gpu_buffer_of(w, bytes[1], 0);
    out_q = gpu_buffer_new(bytes[2], 0);
    out_sf = gpu_buffer_new(sf_bytes, 0);
    gpu_poison(out_q, 0x7f);
    gpu_poison(out_sf, 0x7f);
    a = args_of(out_q, out_sf, in_x, in_w, rows, cols);
    a.threads = threads;
    GPU_OK(launch_first(&a, 0));
    snprintf(what, sizeof what, "%zu x %zu, %u threads", rows, cols, threads);
    got = (uint8_t *)gpu_copy_of(out_q);
    host_expect_bytes(got, q, bytes[2], what);
    free(got);
    got = (uint8_t *)gpu_copy_of(out_sf);
    host_expect_bytes(got, sf, sf_bytes, what);
    free(got);
    gpu_expect_guards(out_q, what);
    gpu_expect_guards(out_sf, what);
    gpu_buffer_free(in_x);
    gpu_buffer_free(in_w);
    gpu_buffer_free(out_q);
    gpu_buffer_free(out_sf);
    free(x);
    free(w);
    free(q);
    free(sf);
}

GPU_TEST(first, rmsnorm_nvfp4)
{
    static const size_t shapes[][2] = {{1, 16},   {3, 80},    {2, 512},  {5, 1040}, {130, 144},
                                       {1, 4096}, {33, 2560}, {128, 64}, {2, 16400}};
    const size_t n = gpu_is_reduced() ? 5 : sizeof shapes / sizeof shapes[0];
    uint64_t state = 9;

    for (size_t i = 0; i < n; i++) {
        run(shapes[i][0], shapes[i][1], 0, &state);
        for (unsigned threads = 32; threads <= MOST_THREADS; threads *= 2) {
            run(shapes[i][0], shapes[i][1], threads, &state);
        }
    }
}

/* Bad arguments are refused and nothing is written; no rows and no columns are none. */
GPU_TEST(first, arguments)
{
    const gpu_buffer x = gpu_buffer_new(4 * 64 * 2, 0), w = gpu_buffer_new(64 * 2, 0);
    const gpu_buffer q = gpu_buffer_new(4 * 32, 0), sf = gpu_buffer_new(512, 0);
    const launch_first_args good = args_of(q, sf, x, w, 4, 64);
    const float no_scales[] = {0.0f, -1.0f, 0x1p-128f, INFINITY, NAN};
    launch_first_args a;

    gpu_poison(q, 0x7f);
    gpu_poison(sf, 0x7f);
#define REFUSED(change) \
    a = good; \
    change; \
    CHECK_EQ(launch_first(&a, 0), cudaErrorInvalidValue, #change)
    REFUSED(a.q = NULL);
    REFUSED(a.sf = NULL);
    REFUSED(a.x = NULL);
    REFUSED(a.w = NULL);
    REFUSED(a.q += 4);
    REFUSED(a.sf += 2);
    REFUSED(a.x += 4);
    REFUSED(a.w += 4);
    REFUSED(a.rows = -1);
    REFUSED(a.cols = -16);
    REFUSED(a.cols = 56);
    REFUSED(a.cols = 0x7ffffff0);
    REFUSED(a.eps = 0.0f);
    REFUSED(a.eps = -1.0f);
    REFUSED(a.eps = INFINITY);
    REFUSED(a.eps = NAN);
    for (size_t i = 0; i < sizeof no_scales / sizeof no_scales[0]; i++) {
        REFUSED(a.global_enc = no_scales[i]);
    }
#undef REFUSED
    a = good;
    a.rows = 0;
    CHECK_EQ(launch_first(&a, 0), cudaSuccess, "no rows");
    a = good;
    a.cols = 0;
    CHECK_EQ(launch_first(&a, 0), cudaSuccess, "no columns");
    gpu_expect_poison(q, 0x7f, "codes", "refused");
    gpu_expect_poison(sf, 0x7f, "scales", "refused");
    gpu_buffer_free(x);
    gpu_buffer_free(w);
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
}

/*
 * 17_gated_norm.cu - a kernel of your own, of any input type, to any format, in any layout: gated
 * RMSNorm, as Mamba-2 and Qwen3-Next have it.
 *
 *     h = x * silu(z)      y = h / sqrt( mean(h^2) + eps ) * weight      y quantized
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/17_gated_norm.cu -o gated_norm && ./gated_norm
 *
 * To change input type, format or layout, edit one word below (or -DFORMAT=FP4_MXFP4). In a C++
 * program all three can be template arguments of the kernel.
 *
 * How it works: a CTA a row. Each thread has the pieces of 16 elements that row.h gives it, so that
 * the sum has the host's order and the bytes are the host's. The factor of the row is not
 * multiplied in: it goes to the block's scale (_scaled). h is computed once for the sum and once
 * for the codes, from the cache: to keep it in registers, and what else the speed of memory takes,
 * is shown by 05_per_token.cu, then 03_rmsnorm.cu.
 */
#include <fp4/device/activation.cuh>
#include <fp4/device/format.cuh>
#include <fp4/device/row.cuh>

#if !defined(INPUT)
#define INPUT FP4_BF16 /* FP4_F32, FP4_F16, FP4_BF16 */
#endif
#if !defined(FORMAT)
#define FORMAT FP4_NVFP4 /* FP4_NVFP4, FP4_MXFP4, FP4_MXFP8, FP4_NVFP4_32, FP4_MXFP4_16 */
#endif
#if !defined(LAYOUT)
#define LAYOUT FP4_LAYOUT_128X4 /* FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR */
#endif

enum {
    PIECE = FP4_ROW_PIECE, /* elements */
    PIECE_BYTES = PIECE * fp4_dtype_bytes(INPUT),
    CODE_BYTES = PIECE * fp4_format_bits(FORMAT) / 8,
    LANES = fp4_format_lanes(FORMAT), /* that share a scale byte */
    BLOCK = fp4_format_block(FORMAT)
};

/**
 * shape    x, z: rows x cols of the input type, weight: cols; row-major, aligned to 16 bytes. cols:
 *          whole blocks, up to 2^31 - 32. q: the codes of rows x cols, aligned to those of 16; sf:
 *          fp4_sf_bytes(LAYOUT, rows, cols / BLOCK) bytes, aligned to 4 if tiled, padding written.
 * range    eps, global_enc (which only NVFP4 has): positive and finite, global_enc above 2^-128.
 */
typedef struct gated_norm_args {
    const uint8_t *x, *z, *weight;
    size_t rows, cols;
    float eps, global_enc;
    uint8_t *q, *sf;
} gated_norm_args;

/* x * silu(z) of a piece, zeros where the row has none. All lanes of a warp call. */
static __device__ __forceinline__ fp4_f32x16 gated(const gated_norm_args &a, size_t piece, int has)
{
    fp4_f32x16 x = {}, z = {};

    if (has) {
        x = fp4_load_x16(INPUT, a.x + piece * PIECE_BYTES);
        z = fp4_load_x16(INPUT, a.z + piece * PIECE_BYTES);
    }
    return fp4_mul_x16(x, fp4_silu_voted_x16(z, fp4_amax_or_nan_x16(z)));
}

static __global__ void __launch_bounds__(FP4_ROW_THREADS) gated_norm(const gated_norm_args a)
{
    __shared__ float smem[32];
    const fp4_row_cut cut = fp4_row_cut_of((uint32_t)a.cols);
    const size_t row = blockIdx.x, first = row * cut.pieces;
    float sum = 0.0f;

    if (row >= a.rows) {
        fp4_row_store_padding(LAYOUT, a.sf, row, cut, LANES);
        return;
    }
    for (uint32_t turn = 0; turn < fp4_row_turns(cut); turn++) {
        for (uint32_t j = 0; j < cut.each; j++) {
            const uint32_t piece = fp4_row_piece(cut, turn, j);
            const fp4_f32x16 h = gated(a, first + piece, fp4_row_has(cut, turn, j));
            sum = fp4_add_rn(sum, fp4_sumsq_x16(h, 0.0f));
        }
    }
    sum = fp4_row_sum(sum, cut, cut.threads, smem);
    const float rstd = fp4_rsqrt_rn(fp4_add_rn(fp4_div_rn(sum, (float)a.cols), a.eps));

    for (uint32_t turn = 0; turn < fp4_row_turns(cut); turn++) {
        uint32_t bytes = 0;
        for (uint32_t j = 0; j < cut.each; j++) {
            const uint32_t piece = fp4_row_piece(cut, turn, j);
            const int has = fp4_row_has(cut, turn, j);
            const fp4_f32x16 h = gated(a, first + piece, has);
            const fp4_f32x16 w =
                fp4_load_x16(INPUT, a.weight + (size_t)(has ? piece : 0) * PIECE_BYTES);
            const fp4_part4 b =
                fp4_quantize_scaled_x16(FORMAT, fp4_mul_x16(h, w), rstd, a.global_enc);
            if (has) {
                fp4_store_codes_x16(FORMAT, a.q + (first + piece) * CODE_BYTES, b);
                bytes |= (uint32_t)b.sf << (8 * j);
            }
        }
        fp4_row_store_sf(LAYOUT, a.sf, row, cut, turn, LANES, bytes);
    }
}

/**
 * Launches it on `stream`.
 *
 * errors   cudaErrorInvalidValue for what the arguments may not be: nothing launched. rows = 0 or
 *          cols = 0 is no error.
 */
static cudaError_t gated_norm_quantize(const gated_norm_args *a, cudaStream_t stream)
{
    cudaLaunchConfig_t config = {};

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (a->x == NULL || a->z == NULL || a->weight == NULL || a->q == NULL || a->sf == NULL ||
        a->cols % BLOCK != 0 || a->cols > 0x7fffffe0u || a->rows > 0x7fffff80u ||
        ((size_t)a->x | (size_t)a->z | (size_t)a->weight) % 16 != 0 ||
        (size_t)a->q % CODE_BYTES != 0 || (LAYOUT != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) ||
        !(a->eps > 0.0f && a->eps <= FP4_F32_MAX) ||
        (fp4_format_is_nvfp4(FORMAT) &&
         !(a->global_enc > 0x1p-128f && a->global_enc <= FP4_F32_MAX))) {
        return cudaErrorInvalidValue;
    }
    config.gridDim = dim3((unsigned)fp4_sf_rows_padded(LAYOUT, a->rows));
    config.blockDim = dim3(fp4_row_threads(a->cols));
    config.stream = stream;
    return cudaLaunchKernelEx(&config, gated_norm, *a);
}

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include <stdlib.h>
#include <string.h>

/* Memory that both sides can use. */
static uint8_t *managed(size_t bytes)
{
    void *p = NULL;

    if (cudaMallocManaged(&p, bytes) != cudaSuccess) {
        fprintf(stderr, "gated_norm: no device, or not %zu bytes of memory\n", bytes);
        exit(1);
    }
    return (uint8_t *)p;
}

/* n elements of the input type around `from`, up to `range` from it. */
static uint8_t *elements(size_t n, float from, float range)
{
    uint8_t *x = managed(n * fp4_dtype_bytes(INPUT));
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const float value = from + range * ((float)(state >> 8) * 0x1p-23f - 1.0f);
        const uint16_t half = INPUT == FP4_F16 ? fp4_f32_to_f16(value) : fp4_f32_to_bf16(value);
        if (INPUT == FP4_F32) {
            ((float *)x)[i] = value;
        } else {
            ((uint16_t *)x)[i] = half;
        }
    }
    return x;
}

static fp4_matrix matrix(const uint8_t *x, size_t rows, size_t cols)
{
    return INPUT == FP4_F32   ? fp4_matrix_f32((const float *)x, rows, cols, cols)
           : INPUT == FP4_F16 ? fp4_matrix_f16(x, rows, cols, cols)
                              : fp4_matrix_bf16(x, rows, cols, cols);
}

static float *floats(const uint8_t *x, size_t rows, size_t cols)
{
    const size_t bytes = rows * cols * sizeof(float);
    float *y = (float *)malloc(bytes);

    return fp4_ref_to_f32(matrix(x, rows, cols), y, bytes, cols) == FP4_OK ? y : NULL;
}

/* The host twin: the same functions in the same order. */
static fp4_status twin(const gated_norm_args *a, fp4_tensor *t)
{
    float *h = floats(a->x, a->rows, a->cols), *z = floats(a->z, a->rows, a->cols);
    float *w = floats(a->weight, 1, a->cols), *rstd = (float *)malloc(a->rows * sizeof(float));
    const fp4_matrix m = fp4_matrix_f32(h, a->rows, a->cols, a->cols);
    fp4_status status;

    for (size_t i = 0; i < a->rows * a->cols; i++) {
        h[i] = fp4_mul_rn(h[i], fp4_silu(z[i]));
    }
    status = fp4_ref_row_sums(m, 1, rstd);
    for (size_t i = 0; i < a->rows * a->cols; i++) {
        h[i] = fp4_mul_rn(h[i], w[i % a->cols]);
    }
    for (size_t r = 0; r < a->rows; r++) {
        rstd[r] = fp4_ref_rsqrt(fp4_add_rn(fp4_div_rn(rstd[r], (float)a->cols), a->eps));
    }
    status = status != FP4_OK ? status : fp4_ref_quantize_scaled(m, rstd, a->global_enc, t);
    free(h);
    free(z);
    free(w);
    free(rstd);
    return status;
}

/* What the launcher must refuse: whether it does. */
static int is_strict(const gated_norm_args *a)
{
    gated_norm_args bad[] = {*a, *a, *a, *a, *a, *a, *a, *a};

    bad[0].weight = NULL;
    bad[1].x += 8;
    bad[2].z += 4;
    bad[3].q += CODE_BYTES / 2;
    bad[4].cols -= 1;
    bad[5].rows = (size_t)1 << 31;
    bad[6].eps = 0.0f;
    bad[7].eps = FP4_F32_MAX * 2.0f;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (gated_norm_quantize(&bad[i], 0) != cudaErrorInvalidValue) {
            fprintf(stderr, "gated_norm: bad call %zu is not refused\n", i);
            return 0;
        }
    }
    return 1;
}

static int check(size_t rows, size_t cols)
{
    const size_t q_bytes = fp4_q_bytes(FORMAT, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    const gated_norm_args a = {elements(rows * cols, 0.0f, 3.0f),
                               elements(rows * cols, 1.0f, 9.0f),
                               elements(cols, 1.0f, 0.5f),
                               rows,
                               cols,
                               1e-5f,
                               448.0f, /* of values up to 6: 2688 / 6 */
                               managed(q_bytes),
                               managed(sf_bytes)};
    fp4_tensor got = fp4_tensor_view(FORMAT, LAYOUT, rows, cols, a.q, q_bytes, a.sf, sf_bytes);
    fp4_tensor expected = fp4_tensor_view(FORMAT, LAYOUT, rows, cols, (uint8_t *)malloc(q_bytes),
                                          q_bytes, (uint8_t *)malloc(sf_bytes), sf_bytes);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    cudaError_t error;
    fp4_status status;
    int same;

    memset(a.q, 0x7f, q_bytes); /* what is not written will show */
    memset(a.sf, 0x7f, sf_bytes);
    if (!is_strict(&a)) {
        return 0;
    }
    error = gated_norm_quantize(&a, 0);
    error = error == cudaSuccess ? cudaDeviceSynchronize() : error;
    if (error != cudaSuccess) {
        fprintf(stderr, "gated_norm: %s\n", cudaGetErrorString(error));
        return 0;
    }
    status = twin(&a, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    got.global_dec = expected.global_dec;
    same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    free(expected.q);
    free(expected.sf);
    return same;
}

int main(void)
{
    /* a ragged end, one piece a thread, several, several turns */
    return !(check(3, 96) && check(130, 512) && check(5, 4096) && check(2, 20000 / BLOCK * BLOCK));
}
#endif

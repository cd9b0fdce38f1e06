/*
 * 00_first.cu - the file to copy first: RMSNorm and NVFP4 in one kernel of 30 lines, its launch,
 * and its bytes beside the host's.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/00_first.cu -o first && ./first
 *
 * README.md has the same kernel, and says which words to change for another input type, layout or
 * format.
 * 03_rmsnorm.cu does the same job at full speed, with all options.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>
#include <fp4/row.h>

/* NVFP4 of x * rsqrt(mean(x^2) + eps) * w. One CTA a row of whole blocks; blockDim.x % 32 == 0.
   x [rows, cols] and w [cols] bf16, q [rows, cols/2], sf in the 128x4 layout, padding included.
   With blockDim.x = fp4_row_threads(cols) the bytes are fp4_ref_rmsnorm_quantize's. */
static __global__ void rmsnorm_nvfp4(uint8_t *q, uint8_t *sf, const uint16_t *x, const uint16_t *w,
                                     uint32_t rows, uint32_t cols, float eps, float global_enc)
{
    __shared__ float smem[32];
    const size_t row = blockIdx.x;
    const uint32_t first = FP4_NVFP4_BLOCK * threadIdx.x, step = FP4_NVFP4_BLOCK * blockDim.x;
    float ss = 0.0f;

    x += row * cols;
    q += row * cols / 2;
    for (uint32_t c = first; c < cols; c += step) {
        ss += fp4_sumsq_x16(fp4_load_bf16x16(x + c), 0.0f);
    }
    const float rstd = fp4_rsqrt_rn(fp4_div_rn(fp4_cta_sum(ss, smem), cols) + eps);

    for (uint32_t c = first; c < cols; c += step) {
        const fp4_f32x16 t = fp4_mul_x16(fp4_load_bf16x16(x + c), fp4_load_bf16x16(w + c));
        const fp4_nvfp4_block b = fp4_nvfp4_quantize_scaled(t, rstd, global_enc);
        fp4_store_e2m1x16(q + c / 2, b.q);
        sf[fp4_sf_offset_128x4(row, c / FP4_NVFP4_BLOCK, cols / FP4_NVFP4_BLOCK)] = b.sf;
    }
    fp4_sf_pad_128x4(sf, rows, cols / FP4_NVFP4_BLOCK);
}

/**
 * Launches it on `stream`.
 *
 * shape    cols: whole blocks, up to 2^30. x and w aligned to 16 bytes, q to the codes of a block,
 *          sf to 4, with fp4_sf_bytes(FP4_LAYOUT_128X4, rows, cols / FP4_NVFP4_BLOCK) bytes.
 *          eps, global_enc: positive.
 * errors   cudaErrorInvalidValue for another one, or a null pointer: nothing launched. rows = 0 or
 *          cols = 0 is no error.
 */
static cudaError_t rmsnorm_quantize(uint8_t *q, uint8_t *sf, const uint16_t *x, const uint16_t *w,
                                    int rows, int cols, float eps, float global_enc,
                                    cudaStream_t stream)
{
    cudaLaunchConfig_t config = {};

    if (rows < 0 || cols < 0 || cols > 1 << 30 || cols % FP4_NVFP4_BLOCK != 0 || q == NULL ||
        sf == NULL || x == NULL || w == NULL || ((size_t)x | (size_t)w) % 16 != 0 ||
        (size_t)q % (FP4_NVFP4_BLOCK / 2) != 0 || (size_t)sf % 4 != 0 ||
        !(eps > 0.0f && eps <= FP4_F32_MAX) ||
        !(global_enc > 0x1p-128f && global_enc <= FP4_F32_MAX)) { /* and its reciprocal */
        return cudaErrorInvalidValue;
    }
    if (rows == 0 || cols == 0) {
        return cudaSuccess;
    }
    config.gridDim = dim3((unsigned)rows);
    config.blockDim = dim3(fp4_row_threads((size_t)cols));
    config.stream = stream;
    return cudaLaunchKernelEx(&config, rmsnorm_nvfp4, q, sf, x, w, rows, cols, eps, global_enc);
}

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include <stdlib.h>
#include <string.h>

/* Memory that both sides can use. */
static void *managed(size_t bytes)
{
    void *p;

    if (cudaMallocManaged(&p, bytes) != cudaSuccess) {
        fprintf(stderr, "first: no device, or not %zu bytes of memory\n", bytes);
        exit(1);
    }
    return p;
}

int main(void)
{
    enum { ROWS = 300, COLS = 4096 };
    const float eps = 1e-5f, global_enc = 448.0f; /* of values up to 6: 2688 / 6 */
    const size_t q_bytes = fp4_q_bytes(FP4_NVFP4, ROWS, COLS);
    const size_t sf_bytes = fp4_sf_bytes(FP4_LAYOUT_128X4, ROWS, COLS / FP4_NVFP4_BLOCK);
    uint16_t *x = (uint16_t *)managed(ROWS * COLS * 2), *w = (uint16_t *)managed(COLS * 2);
    uint8_t *q = (uint8_t *)managed(q_bytes), *sf = (uint8_t *)managed(sf_bytes);
    const fp4_matrix m = fp4_matrix_bf16(x, ROWS, COLS, COLS);
    fp4_tensor got =
        fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, ROWS, COLS, q, q_bytes, sf, sf_bytes);
    fp4_tensor expected =
        fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, ROWS, COLS, (uint8_t *)malloc(q_bytes),
                        q_bytes, (uint8_t *)malloc(sf_bytes), sf_bytes);
    fp4_ref_fused how = {};
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    cudaError_t error;
    fp4_status status;

    for (int i = 0; i < ROWS * COLS; i++) {
        x[i] = fp4_f32_to_bf16((float)(i * 37 % 101 - 50) * 0.05f);
    }
    for (int i = 0; i < COLS; i++) {
        w[i] = fp4_f32_to_bf16(1.0f + (float)(i % 7) * 0.1f);
    }
    memset(q, 0x7f, q_bytes); /* what is not written will show */
    memset(sf, 0x7f, sf_bytes);
    error = rmsnorm_quantize(q, sf, x, w, ROWS, COLS, eps, global_enc, 0);
    error = error == cudaSuccess ? cudaDeviceSynchronize() : error;
    if (error != cudaSuccess) {
        fprintf(stderr, "first: %s\n", cudaGetErrorString(error));
        return 1;
    }
    how.global_enc = global_enc;
    status = fp4_ref_rmsnorm_quantize(m, w, eps, &how, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 1;
    }
    got.global_dec = expected.global_dec;
    const int same = fp4_ref_same(&got, &expected, &d);
    printf("%d x %d, device and host: %s\n", ROWS, COLS,
           fp4_difference_text(&d, text, sizeof(text)));
    return !same;
}
#endif

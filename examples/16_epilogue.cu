/*
 * 16_epilogue.cu - the epilogue of a matrix multiplication: the accumulators of mma or wgmma, times
 * a factor, to NVFP4, MXFP4 or MXFP8 without going through memory: y = alpha * a * b^T.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/16_epilogue.cu -o epilogue && ./epilogue
 *
 * To change the format or the layout of the scale bytes, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: a warp has 16 rows and a run of columns, its accumulators where mma.m16n8 leaves
 * them (device/mma.cuh): of each row four lanes have four blocks between them. Each lane finds the
 * scale of one of them, gets all of its codes, and stores 8, 16 or 32 bytes of them and a scale
 * byte. The main loop stands for yours: an fma an element and a step, each in the lane where the
 * instruction would leave it, so that this file runs anywhere. Take `store_tile`.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/mma.cuh>

#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8 */
#endif
#if !defined(LAYOUT)
#define LAYOUT 128x4 /* 128x4, 8x4, linear */
#endif

/* What the words stand for. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define BLOCK_nvfp4 FP4_NVFP4_BLOCK
#define BLOCK_mxfp4 FP4_MXFP4_BLOCK
#define BLOCK_mxfp8 FP4_MXFP8_BLOCK
#define BITS_nvfp4 4 /* of a code */
#define BITS_mxfp4 4
#define BITS_mxfp8 8
#define LANE_nvfp4 fp4_f32x16 /* a lane's accumulators of a row */
#define LANE_mxfp4 fp4_f32x32
#define LANE_mxfp8 fp4_f32x32
#define QUANTIZE_nvfp4(t, alpha, enc) fp4_nvfp4_quantize_scaled_quad(t, alpha, enc)
#define QUANTIZE_mxfp4(t, alpha, enc) fp4_mxfp4_quantize_scaled_quad(t, alpha)
#define QUANTIZE_mxfp8(t, alpha, enc) fp4_mxfp8_quantize_scaled_quad(t, alpha)
#define STORE_nvfp4 fp4_store_e2m1x16
#define STORE_mxfp4 fp4_store_e2m1x32
#define STORE_mxfp8 fp4_store_e4m3x32

#define QUANTIZE JOIN(QUANTIZE_, FORMAT)
#define STORE JOIN(STORE_, FORMAT)
#define SF_OFFSET JOIN(fp4_sf_offset_, LAYOUT)
#define SF_PAD JOIN(fp4_sf_pad_, LAYOUT)
typedef JOIN(LANE_, FORMAT) lane_row;

enum {
    BLOCK = JOIN(BLOCK_, FORMAT), /* elements that share a scale byte */
    BITS = JOIN(BITS_, FORMAT),
    COLS = 4 * BLOCK, /* of a warp: a block for each lane of four */
    PAIRS = COLS / 8, /* of accumulators that a lane has of a row: one for each mma.m16n8 */
    ROWS = 16,        /* of a warp */
    WARPS = 4         /* of a CTA, side by side */
};

/* What a warp's instructions leave in a lane: of rows lane / 4 and lane / 4 + 8, columns
   8 * i + 2 * (lane % 4) + e in v[2 * i + e]. */
typedef struct accumulators {
    lane_row row[2];
} accumulators;

/**
 * The warp's tile, 16 rows from `row` and COLS columns from `col` on, times alpha.
 *
 * shape    q: rows x cols codes, row-major, aligned to those of a block. sf: the scale bytes, of
 *          which those of rows below `rows` are stored. cols: a multiple of COLS.
 * threads  all 32 lanes of the warp call.
 */
static __device__ __forceinline__ void store_tile(uint8_t *q, uint8_t *sf, const accumulators &acc,
                                                  size_t row, size_t rows, size_t col, size_t cols,
                                                  float alpha, float global_enc)
{
    const uint32_t lane = threadIdx.x % 32;
    const size_t first = col + lane % 4 * BLOCK; /* of the block that comes to this lane */

#pragma unroll
    for (uint32_t h = 0; h < 2; h++) {
        const size_t r = row + lane / 4 + 8 * h;
        const auto block = QUANTIZE(acc.row[h], alpha, global_enc);
        if (r < rows) {
            STORE(q + (r * cols + first) * BITS / 8, block.q);
            sf[SF_OFFSET(r, first / BLOCK, cols / BLOCK)] = block.sf;
        }
    }
}

/* a: rows x depth, b: cols x depth, bf16, depth a multiple of 8. A warp's tile, without any regard
   to speed: each element the sum in ascending order. */
static __device__ accumulators multiply(const uint16_t *a, const uint16_t *b, size_t row,
                                        size_t rows, size_t col, size_t depth)
{
    const uint32_t lane = threadIdx.x % 32;
    accumulators acc = {};

    for (size_t k = 0; k < depth; k += 8) {
        fp4_f32x8 x[2] = {};
#pragma unroll
        for (uint32_t h = 0; h < 2; h++) {
            const size_t r = row + lane / 4 + 8 * h;
            if (r < rows) {
                x[h] = fp4_load_bf16x8(a + r * depth + k);
            }
        }
#pragma unroll
        for (uint32_t i = 0; i < 2 * PAIRS; i++) {
            const size_t c = col + i / 2 * 8 + lane % 4 * 2 + i % 2;
            const fp4_f32x8 y = fp4_load_bf16x8(b + c * depth + k);
#pragma unroll
            for (uint32_t j = 0; j < 16; j++) {
                float *sum = &acc.row[j / 8].v[i];
                *sum = fp4_fma_rn(x[j / 8].v[j % 8], y.v[j % 8], *sum);
            }
        }
    }
    return acc;
}

static __global__ void __launch_bounds__(32 * WARPS)
    multiply_quantize(uint8_t *q, uint8_t *sf, const uint16_t *a, const uint16_t *b, size_t rows,
                      size_t cols, size_t depth, float alpha, float global_enc)
{
    const size_t row = (size_t)blockIdx.y * ROWS; /* a grid has 65535 of them */
    const size_t col = ((size_t)blockIdx.x * WARPS + threadIdx.x / 32) * COLS;

    if (col < cols) { /* whole warps */
        const accumulators acc = multiply(a, b, row, rows, col, depth);
        store_tile(q, sf, acc, row, rows, col, cols, alpha, global_enc);
    }
    SF_PAD(sf, rows, cols / BLOCK);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/quant.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define LAYOUT_128x4 FP4_LAYOUT_128X4
#define LAYOUT_8x4 FP4_LAYOUT_8X4
#define LAYOUT_linear FP4_LAYOUT_LINEAR
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void *managed(size_t bytes)
{
    void *p = NULL;

    if (cudaMallocManaged(&p, bytes) != cudaSuccess) {
        fprintf(stderr, "epilogue: no memory\n");
        exit(1);
    }
    return p;
}

/* n numbers between -1 and 1. */
static uint16_t *elements(size_t n, uint32_t state)
{
    uint16_t *x = (uint16_t *)managed(n * sizeof(uint16_t));

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = fp4_f32_to_bf16((float)(state >> 8) * 0x1p-23f - 1.0f);
    }
    return x;
}

/* The kernel's bytes and those of the host: the same products, then the rows times alpha. */
static int check(size_t rows, size_t cols, size_t depth, float alpha)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT);
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const fp4_layout layout = JOIN(LAYOUT_, LAYOUT);
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    const float global_enc = 64.0f;
    uint16_t *a = elements(rows * depth, 1), *b = elements(cols * depth, 2);
    uint8_t *q = (uint8_t *)managed(q_bytes), *sf = (uint8_t *)managed(sf_bytes);
    float *y = (float *)malloc(rows * cols * sizeof(float));
    float *factors = (float *)malloc(rows * sizeof(float));
    const fp4_matrix m = fp4_matrix_f32(y, rows, cols, cols);
    fp4_tensor got = fp4_tensor_view(format, layout, rows, cols, q, q_bytes, sf, sf_bytes);
    fp4_tensor expected = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)malloc(q_bytes),
                                          q_bytes, (uint8_t *)malloc(sf_bytes), sf_bytes);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    cudaError_t error;
    fp4_status status;
    int is_same;

    memset(q, 0x7f, q_bytes); /* a byte that is not written will show */
    memset(sf, 0x7f, sf_bytes);
    multiply_quantize<<<dim3((unsigned)((cols / COLS + WARPS - 1) / WARPS),
                             (unsigned)((rows + ROWS - 1) / ROWS)),
                        32 * WARPS>>>(q, sf, a, b, rows, cols, depth, alpha, global_enc);
    error = cudaGetLastError();
    error = error != cudaSuccess ? error : cudaDeviceSynchronize();
    if (error != cudaSuccess) {
        fprintf(stderr, "epilogue: %s\n", cudaGetErrorString(error));
        return 0;
    }
    for (size_t r = 0; r < rows; r++) {
        factors[r] = alpha;
        for (size_t c = 0; c < cols; c++) {
            float sum = 0.0f;
            for (size_t k = 0; k < depth; k++) {
                sum = fp4_fma_rn(fp4_bf16_to_f32(a[r * depth + k]),
                                 fp4_bf16_to_f32(b[c * depth + k]), sum);
            }
            y[r * cols + c] = sum;
        }
    }
    status = fp4_ref_quantize_scaled(m, factors, global_enc, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    got.global_dec = expected.global_dec;
    is_same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu x %zu, alpha %g, device and host: %s\n", rows, cols, depth, (double)alpha,
           fp4_difference_text(&d, text, sizeof(text)));
    cudaFree(a);
    cudaFree(b);
    cudaFree(q);
    cudaFree(sf);
    free(y);
    free(factors);
    free(expected.q);
    free(expected.sf);
    return is_same;
}

int main(void)
{
    printf("a product to %s\n", TEXT(FORMAT));
    return !(check(16, COLS, 64, 1.0f) && check(130, 5 * COLS, 40, -0.37f));
}
#endif

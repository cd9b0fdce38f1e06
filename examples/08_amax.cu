/*
 * 08_amax.cu - the largest magnitudes of a matrix, of each block and of all of it, in one pass; and
 * what quantizers want to know of them: the global scale of NVFP4, the scales of ModelOpt.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/08_amax.cu -o amax && ./amax
 *
 * To change the input type, edit one word below (or -DINPUT=f16).
 *
 * How it works: a thread goes down the rows with 16 columns, four rows at a time, and lanes that
 * share a block ask each other. At the end each CTA has one number; the last to come knows that of
 * the tensor (fp4_grid_max). A maximum does not depend on the order, and NaN is left out at the
 * start, so the result is the same each time. Other blocks have a warp each; and where only the
 * tensor is asked for, but it has no whole pieces, all threads go over it element by element.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/reduce.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
/* CTAs; more than these have nothing to add but atomic operations. Where rows are whole pieces, as
   many more as have four turns each: the shorter they are at work, the closer together is what all
   of them read. And how many a grid has below each other. */
#if !defined(ENOUGH)
#define ENOUGH 2048
#define MOST_DOWN 65535
#endif

/* What the word stands for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16 /* registers of 16 elements as in memory */
#define WORDS_f16 8
#define WORDS_bf16 8
#define ONE_f32(p, i) (((const float *)(p))[i]) /* an element alone */
#define ONE_f16(p, i) fp4_f16_to_f32(((const uint16_t *)(p))[i])
#define ONE_bf16(p, i) fp4_bf16_to_f32(((const uint16_t *)(p))[i])

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define ONE JOIN(ONE_, INPUT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an element */
    THREADS = 256,
    EACH = 4 /* rows a thread at a time, its turn, and amaxes: loads in flight */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * shape      x: rows x cols, row r at element r * x_stride; no alignment but that of elements, but
 *            it is slower where x and its rows are not 16-byte aligned or cols % 16 != 0.
 * block_amax null, or the amax of each block: rows * cols / block floats, row-major; block: any
 *            length that divides cols, but one warp has a block: a few long ones are slow. Powers
 *            of two from 16 to 512 are fast. Without block_amax it is not looked at.
 * amax       null, or where the amax of x goes; global_enc, global_dec: null, or where its
 *            fp4_nvfp4_global_enc goes, and the reciprocal.
 * workspace  for these three: two words, 0 before the first call; each call leaves them 0. Calls
 *            that may overlap need two of their own each.
 * range      NaN is left out: of nothing but NaN it is 0, and so of no elements at all.
 */
typedef struct amax_args {
    const void *x;
    size_t rows, cols, x_stride;
    float *block_amax;
    size_t block;
    float *amax, *global_enc, *global_dec;
    uint32_t *workspace;
} amax_args;

/**
 * ModelOpt's compute_fp4_scales: n amaxes of blocks to scales, by the largest amax of the tensor.
 *
 * global   the largest amax: at global_device, or where that is null the number global.
 * fp8_max  448, 256, or 0: scales are not rounded to e4m3, and global is not used.
 */
typedef struct scales_args {
    float *scales;
    const float *amax;
    size_t n;
    const float *global_device;
    float global, fp8_max;
} scales_args;

/* ------------------------------------------------------------------------------ kernels */

static __host__ __device__ int wants_tensor(const amax_args &a)
{
    return a.amax != NULL || a.global_enc != NULL || a.global_dec != NULL;
}

/* The numbers of the tensor, from each thread's amax. All threads call. */
static __device__ void finish(const amax_args &a, float mine)
{
    __shared__ float smem[32];
    float amax;

    if (!wants_tensor(a)) {
        return;
    }
    mine = fp4_cta_max_of(mine, THREADS, smem);
    if (threadIdx.x == 0 && fp4_grid_max(mine, a.workspace, &amax)) {
        const float enc = fp4_nvfp4_global_enc(amax);
        if (a.amax != NULL) {
            *a.amax = amax;
        }
        if (a.global_enc != NULL) {
            *a.global_enc = enc;
        }
        if (a.global_dec != NULL) {
            *a.global_dec = fp4_nvfp4_global_dec(enc);
        }
    }
}

/* A CTA has `width` pieces of a row, a power of two, and rows below each other. */
static __global__ void __launch_bounds__(THREADS) amax_rows(const amax_args a, const uint32_t width)
{
    const uint32_t pieces = (uint32_t)(a.cols / 16), lanes = (uint32_t)(a.block / 16);
    const uint32_t col = blockIdx.x * width + threadIdx.x % width;
    const size_t down = (size_t)gridDim.y * (THREADS / width), x_row = a.x_stride * ELEMENT;
    const int is_col = col < pieces; /* the lanes beside are there for the group */
    const uint8_t *x = (const uint8_t *)a.x + (is_col ? col : 0) * (size_t)(16 * ELEMENT);
    float all = 0.0f;

    fp4_pdl_wait();
    fp4_pdl_trigger();
    for (size_t first = 0; first < a.rows; first += EACH * down) { /* as often for all lanes */
        const size_t row = first + blockIdx.y * (THREADS / width) + threadIdx.x / width;
        raw v[EACH];
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            v[j] = LOAD(x + (row + j * down < a.rows ? row + j * down : 0) * x_row);
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const size_t r = row + j * down;
            float amax = is_col && r < a.rows ? fp4_amax_x16(WIDEN(v[j])) : 0.0f;
            all = fp4_ptx_max(all, amax);
            if (a.block_amax != NULL) {
                amax = fp4_group_max(amax, (int)lanes);
                if (is_col && r < a.rows && col % lanes == 0) {
                    a.block_amax[r * (pieces / lanes) + col / lanes] = amax;
                }
            }
        }
    }
    finish(a, all);
}

/* Blocks of any length anywhere: a warp has one. */
static __global__ void __launch_bounds__(THREADS) amax_any(const amax_args a)
{
    const size_t in_row = a.cols / a.block, blocks = a.rows * in_row;
    const uint32_t lane = threadIdx.x % 32;
    float all = 0.0f;

    fp4_pdl_wait();
    fp4_pdl_trigger();
    for (size_t b = ((size_t)blockIdx.x * THREADS + threadIdx.x) / 32; b < blocks;
         b += (size_t)gridDim.x * (THREADS / 32)) {
        const size_t from = b / in_row * a.x_stride + b % in_row * a.block;
        float amax = 0.0f;
        for (size_t i = lane; i < a.block; i += 32) {
            amax = fp4_ptx_max(amax, fp4_ptx_abs(ONE(a.x, from + i)));
        }
        amax = fp4_warp_max(amax);
        all = fp4_ptx_max(all, amax);
        if (a.block_amax != NULL && lane == 0) {
            a.block_amax[b] = amax;
        }
    }
    finish(a, all);
}

/* All elements, whatever the rows are: neighbouring threads have neighbouring elements. */
static __global__ void __launch_bounds__(THREADS) amax_elements(const amax_args a)
{
    const size_t first = (size_t)blockIdx.x * THREADS + threadIdx.x;
    const size_t step = (size_t)gridDim.x * THREADS, down = step / a.cols, right = step % a.cols;
    size_t row = first / a.cols, col = first % a.cols;
    float all = 0.0f;

    fp4_pdl_wait();
    fp4_pdl_trigger();
    while (row < a.rows) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) { /* `step` elements on: no division */
            const float x = row < a.rows ? ONE(a.x, row * a.x_stride + col) : 0.0f;
            const int is_next = col >= a.cols - right;
            all = fp4_ptx_max(all, fp4_ptx_abs(x));
            row += down + (size_t)is_next;
            col = is_next ? col - (a.cols - right) : col + right;
        }
    }
    finish(a, all);
}

/* A thread has EACH amaxes, THREADS apart: the second level is found once for all of them. */
static __global__ void __launch_bounds__(THREADS) compute_scales(const scales_args a)
{
    const size_t first = (size_t)blockIdx.x * (EACH * THREADS) + threadIdx.x;
    float amax[EACH];

    fp4_pdl_wait();
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * THREADS;
        amax[j] = i < a.n ? a.amax[i] : 0.0f;
    }
    const float global = a.fp8_max == 0.0f || a.global_device == NULL ? a.global : *a.global_device;
    const fp4_modelopt_level level = fp4_modelopt_level_of(global, a.fp8_max);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * THREADS;
        if (i < a.n) {
            a.scales[i] = a.fp8_max == 0.0f ? fp4_modelopt_scale_f32(amax[j])
                                            : fp4_modelopt_cvt_scale_at(amax[j], level);
        }
    }
}

/* ------------------------------------------------------------------------------ launchers */

/* Of what is asked for of the tensor. */
static int is_bad_tensor(const amax_args *a)
{
    const size_t all = (size_t)a->amax | (size_t)a->global_enc | (size_t)a->global_dec;
    return a->workspace == NULL || (all | (size_t)a->workspace) % 4 != 0;
}

static int is_bad(const amax_args *a)
{
    return a->x == NULL || (a->block_amax == NULL && !wants_tensor(*a)) ||    /* null */
           (wants_tensor(*a) && is_bad_tensor(a)) || a->x_stride < a->cols || /* shape */
           a->x_stride > (size_t)-1 / ELEMENT / a->rows || (size_t)a->x % ELEMENT != 0 ||
           (a->block_amax != NULL && (a->block == 0 || a->cols % a->block != 0)) ||
           (size_t)a->block_amax % 4 != 0;
}

/* Whether amax_rows can do it. */
static int is_whole_pieces(const amax_args *a)
{
    const size_t lanes = a->block / 16;
    return a->cols % 16 == 0 && a->block % 16 == 0 && lanes <= 32 && (lanes & (lanes - 1)) == 0 &&
           (size_t)a->x % 16 == 0 && a->x_stride * ELEMENT % 16 == 0 && a->cols / 16 <= 0x7fffffffu;
}

static int is_bad_scales(const scales_args *a)
{
    return a->scales == NULL || a->amax == NULL ||
           (a->fp8_max != 0.0f && a->fp8_max != 448.0f && a->fp8_max != 256.0f) ||
           (a->fp8_max != 0.0f && a->global_device == NULL && !(a->global >= 0.0f)) ||
           ((size_t)a->scales | (size_t)a->amax | (size_t)a->global_device) % 4 != 0 ||
           a->n > (size_t)0x7fffffff * (EACH * THREADS);
}

static cudaError_t launch(const void *kernel, dim3 ctas, void **arguments, int pdl,
                          cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = ctas;
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

/**
 * Finds them on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment or null pointer, and where
 *          nothing is wanted: nothing launched, nothing written. rows = 0 or cols = 0 is no error:
 *          there are no blocks, and the tensor is one of zeros, with the amax 0; x is not looked
 *          at.
 */
static cudaError_t find_amax(const amax_args *args, int pdl, cudaStream_t stream)
{
    amax_args a = *args;
    uint32_t width = 32;
    void *arguments[] = {&a, &width};
    size_t across, down, turns;

    if (a.rows == 0 || a.cols == 0) {
        a.rows = 0;
        a.cols = 1;
        if (!wants_tensor(a)) {
            return cudaSuccess;
        }
        return is_bad_tensor(&a)
                   ? cudaErrorInvalidValue
                   : launch((const void *)amax_elements, dim3(1), arguments, pdl, stream);
    }
    if (is_bad(&a)) {
        return cudaErrorInvalidValue;
    }
    a.block = a.block_amax != NULL ? a.block : 16;
    if (!is_whole_pieces(&a)) {
        const int has_blocks = a.block_amax != NULL;
        const size_t each = has_blocks ? THREADS / 32 : EACH * THREADS; /* of a CTA */
        const size_t n = has_blocks ? a.rows * (a.cols / a.block) : a.rows * a.cols;
        return launch(has_blocks ? (const void *)amax_any : (const void *)amax_elements,
                      dim3((unsigned)at_most(n / each + 1, ENOUGH)), arguments, pdl, stream);
    }
    while (width < THREADS && width < a.cols / 16) {
        width *= 2;
    }
    across = (a.cols / 16 + width - 1) / width;
    turns = (a.rows + EACH * (THREADS / width) - 1) / (EACH * (THREADS / width));
    down = at_most(turns, (ENOUGH + across - 1) / across);
    down = at_most(down > turns / 4 ? down : turns / 4, MOST_DOWN);
    return launch((const void *)amax_rows, dim3((unsigned)across, (unsigned)down), arguments, pdl,
                  stream);
}

/** Likewise the scales. n = 0 is no error. */
static cudaError_t find_scales(const scales_args *a, int pdl, cudaStream_t stream)
{
    void *arguments[] = {(void *)a};

    if (a->n == 0) {
        return cudaSuccess;
    }
    return is_bad_scales(a)
               ? cudaErrorInvalidValue
               : launch((const void *)compute_scales,
                        dim3((unsigned)((a->n + EACH * THREADS - 1) / (EACH * THREADS))), arguments,
                        pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/modelopt.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "amax: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with n elements of the input type, between -1 and 1. */
static void *elements(size_t n)
{
    float *x = (float *)malloc(n * sizeof(float));
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
        if (ELEMENT == 2) {
            ((uint16_t *)x)[i] =
                JOIN(DTYPE_, INPUT, ) == FP4_F16 ? fp4_f32_to_f16(x[i]) : fp4_f32_to_bf16(x[i]);
        }
    }
    return x;
}

static void *device(const void *host, size_t bytes, int fill)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, fill, bytes));
    return p;
}

static int same(const void *got, const void *expected, size_t bytes)
{
    void *copy = malloc(bytes);
    int is_same;

    must(cudaMemcpy(copy, got, bytes, cudaMemcpyDeviceToHost));
    is_same = memcmp(copy, expected, bytes) == 0;
    free(copy);
    return is_same;
}

/* Median of 20 launches. */
static void measure(const amax_args *a, const char *what, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(find_amax(a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %s: %.1f us, %.0f GB/s\n", what, 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

/* All numbers of the kernels and of their host twins; then, where that is asked for, the speed. */
static int check(size_t rows, size_t cols, size_t block, int is_timed)
{
    const size_t blocks = rows * cols / block;
    void *x = elements(rows * cols);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, 1.0f};
    float *block_amax = (float *)malloc(blocks * sizeof(float));
    float *scales = (float *)malloc(blocks * sizeof(float)), tensor[3];
    float *got = (float *)device(NULL, sizeof tensor, 0x7f);
    amax_args a = {};
    scales_args s = {};
    int is_same;

    a.x = device(x, rows * cols * ELEMENT, 0);
    a.rows = rows;
    a.cols = a.x_stride = cols;
    a.block_amax = (float *)device(NULL, blocks * sizeof(float), 0x7f);
    a.block = block;
    a.amax = got;
    a.global_enc = got + 1;
    a.global_dec = got + 2;
    a.workspace = (uint32_t *)device(NULL, 2 * sizeof(uint32_t), 0);
    s.scales = (float *)device(NULL, blocks * sizeof(float), 0x7f);
    s.amax = a.block_amax;
    s.n = blocks;
    s.global_device = a.amax;
    s.fp8_max = 448.0f;
    must(find_amax(&a, 0, 0));
    must(find_scales(&s, 0, 0));
    if (fp4_ref_amax(m, &tensor[0]) != FP4_OK ||
        fp4_ref_block_amax(m, block, block_amax, blocks * sizeof(float)) != FP4_OK ||
        fp4_ref_modelopt_scales(block_amax, blocks, tensor[0], 448.0f, scales) != FP4_OK) {
        return 0;
    }
    tensor[1] = fp4_nvfp4_global_enc(tensor[0]);
    tensor[2] = fp4_nvfp4_global_dec(tensor[1]);
    is_same = same(got, tensor, sizeof tensor) &&
              same(a.block_amax, block_amax, blocks * sizeof(float)) &&
              same(s.scales, scales, blocks * sizeof(float));
    printf("%zu x %zu, blocks of %zu, device and host: %s\n", rows, cols, block,
           is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        measure(&a, "of blocks and all", (double)(rows * cols * ELEMENT + 4 * blocks));
        a.block_amax = NULL;
        measure(&a, "of all", (double)(rows * cols * ELEMENT));
    }
    free(x);
    free(block_amax);
    free(scales);
    return is_same;
}

int main(void)
{
    printf("amaxes of %s\n", TEXT(INPUT));
    return !(check(1, 64, 16, 0) && check(130, 4160, 32, 0) && check(77, 99, 33, 0) &&
             check(50, 4096, 512, 0) && check(16384, 8192, 16, 1));
}
#endif

/*
 * 09_gemv.cu - a 4-bit matrix of weights times a 16-bit vector of activations (W4A16): the simplest
 * thing that one does with such weights, on any GPU. It reads each code once and decodes it in
 * registers.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/09_gemv.cu -o gemv && ./gemv
 *
 * To change the format or a type, edit one word below.
 *
 * How it works: a CTA has a few rows. Its threads take the pieces of 16 elements of a row in turn,
 * of all these rows at once, so that a piece of the vector is widened once for all of them; the
 * pieces of the next turn are loaded before this one is multiplied. Products are summed in f32, in
 * an order that depends on the thread's place in the row alone, as host/gemv.h has it.
 *
 * A multiprocessor has little more than four instructions a code to spend before that takes longer
 * than reading it. So codes stay in units of 2^14, which costs nothing where the row's sum is
 * multiplied by that, and a block's scale multiplies the sum of its products, not each code.
 */
#include <fp4/device/dequant.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/layout.h>

#if !defined(INPUT)
#define INPUT bf16   /* of the vector: f16, bf16 */
#define FORMAT nvfp4 /* nvfp4, mxfp4; nvfp4_32, mxfp4_16: with blocks of that length */
#define OUTPUT f32   /* f32, f16, bf16 */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define LANES_nvfp4 1 /* pieces of 16 elements that share a scale byte */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define DECODE_nvfp4 fp4_cvt_e4m3_to_f32
#define DECODE_nvfp4_32 fp4_cvt_e4m3_to_f32
#define DECODE_mxfp4 fp4_e8m0_to_f32
#define DECODE_mxfp4_16 fp4_e8m0_to_f32
#define IS_NVFP4_nvfp4 1 /* has a global scale */
#define IS_NVFP4_nvfp4_32 1
#define IS_NVFP4_mxfp4 0
#define IS_NVFP4_mxfp4_16 0
#define ELEMENT_f32 4 /* bytes of an output element */
#define ELEMENT_f16 2
#define ELEMENT_bf16 2
#define PUT_f32(p, i, x) (((float *)(p))[i] = (x))
#define PUT_f16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_f16(x))
#define PUT_bf16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_bf16(x))

#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define DECODE JOIN(DECODE_, FORMAT, )
#define PUT JOIN(PUT_, OUTPUT, )

enum {
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    IS_NVFP4 = JOIN(IS_NVFP4_, FORMAT, ),
    ELEMENT = JOIN(ELEMENT_, OUTPUT, ),
    THREADS = 128, /* that share a row: what host/gemv.h has */
    ROWS = 4       /* of a CTA */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = weights * x.
 *
 * shape    q: rows * cols codes, row-major; cols whole blocks. sf: fp4_sf_bytes(layout, rows, cols
 *          / BLOCK) bytes. x: cols elements. y: rows elements.
 *          q: 8-byte aligned. x: 16-byte aligned.
 * global   NVFP4: what the sums are multiplied by; 0 or positive, finite. Read from global_device
 *          where that is not null. MXFP4: not used.
 */
typedef struct gemv_args {
    void *y;
    const uint8_t *q, *sf;
    const void *x;
    size_t rows, cols;
    fp4_layout layout;
    const float *global_device;
    float global_dec;
} gemv_args;

/* ------------------------------------------------------------------------------ kernel */

/* Codes and scale bytes of a piece of each row. */
typedef struct pieces {
    fp4_u32x2 q[ROWS];
    uint8_t sf[ROWS];
} pieces;

/* Where the rows of a CTA are. */
typedef struct places {
    const uint8_t *q[ROWS], *sf[ROWS];
    uint32_t word_step;
} places;

static __device__ __forceinline__ pieces load_pieces(const places &at, uint32_t piece)
{
    const uint32_t sf_col = piece / LANES, sf_at = sf_col / 4 * at.word_step + sf_col % 4;
    pieces p;

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        p.q[r] = fp4_ptx_load8_cs(at.q[r] + piece * (size_t)8);
        p.sf[r] = at.sf[r][sf_at];
    }
    return p;
}

/* The sum of 8 products, added to s. */
static __device__ __forceinline__ float dot_x8(uint32_t q, const float *x, float s)
{
    const fp4_f32x8 w = fp4_e2m1x8_to_units(q);

#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        s = fp4_fma_rn(w.v[i], x[i], s);
    }
    return s;
}

static __global__ void __launch_bounds__(THREADS) gemv_rows(const gemv_args a)
{
    __shared__ float smem[ROWS][32];
    const uint32_t count = (uint32_t)(a.cols / 16), sf_cols = (uint32_t)(a.cols / BLOCK);
    const size_t first = (size_t)blockIdx.x * ROWS;
    const float units = 6.103515625e-05f * fp4_e2m1_unit(); /* 2^-14: 1 where codes are in units */
    float sum[ROWS] = {};
    places at;

#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const size_t row = first + r < a.rows ? first + r : first;
        at.q[r] = a.q + row * (a.cols / 2);
        at.sf[r] = a.sf + fp4_sf_offset(a.layout, row, 0, sf_cols);
    }
    at.word_step = (uint32_t)fp4_sf_word_step(a.layout);
    fp4_pdl_wait();
    pieces next = load_pieces(at, threadIdx.x < count ? threadIdx.x : 0);
    for (uint32_t piece = threadIdx.x; piece < count; piece += THREADS) {
        const pieces p = next;
        const fp4_f32x16 x =
            fp4_scale_x16(WIDEN(fp4_load_u32x8((const uint8_t *)a.x + piece * (size_t)32)), units);
        next = load_pieces(at, piece + THREADS < count ? piece + THREADS : piece);
#pragma unroll
        for (uint32_t r = 0; r < ROWS; r++) {
            const float s = dot_x8(p.q[r].v[1], &x.v[8], dot_x8(p.q[r].v[0], &x.v[0], 0.0f));
            sum[r] = fp4_fma_rn(s, DECODE(p.sf[r]), sum[r]);
        }
    }
    fp4_pdl_trigger();
    const float dec = !IS_NVFP4 ? 1.0f : a.global_device == NULL ? a.global_dec : *a.global_device;
#pragma unroll
    for (uint32_t r = 0; r < ROWS; r++) {
        const float all = fp4_cta_sum(sum[r], smem[r]);
        if (threadIdx.x == r && first + r < a.rows) {
            PUT(a.y, first + r, fp4_mul_rn(fp4_mul_rn(all, 16384.0f), dec));
        }
    }
}

/* ------------------------------------------------------------------------------ launcher */

static int is_bad(const gemv_args *a)
{
    return a->y == NULL || a->q == NULL || a->sf == NULL || a->x == NULL || /* null */
           a->cols == 0 || a->cols % BLOCK != 0 || a->cols > 0xfffffff0u || /* shape */
           a->rows > (size_t)0x7fffffffu * ROWS || a->rows > (size_t)-1 / a->cols ||
           (unsigned)a->layout > 2 || (size_t)a->q % 8 != 0 || (size_t)a->x % 16 != 0 || /* align */
           (size_t)a->y % ELEMENT != 0 ||
           (IS_NVFP4 && a->global_device == NULL &&
            !(a->global_dec >= 0.0f && a->global_dec <= FP4_F32_MAX));
}

/**
 * Multiplies on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows = 0 is no error.
 */
static cudaError_t gemv(const gemv_args *a, int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a};

    if (a->rows == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)((a->rows + ROWS - 1) / ROWS));
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, (const void *)gemv_rows, arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/gemv.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "gemv: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with bytes from `least` to `least` + `most`. */
static uint8_t *bytes_of(size_t n, uint8_t least, uint8_t most, uint32_t state)
{
    uint8_t *p = (uint8_t *)malloc(n);

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(least + (state >> 24) % (most + 1u));
    }
    return p;
}

static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, 0x7f, bytes));
    return p;
}

/* Median of 20 launches, each over weights of its own: memory's speed, not the cache's. */
static void measure(gemv_args a, size_t q_bytes, size_t sf_bytes)
{
    enum { COPIES = 8 };
    cudaEvent_t start, stop;
    gemv_args copy[COPIES];
    float ms[20];

    for (int i = 0; i < COPIES; i++) {
        copy[i] = a;
        copy[i].q = (const uint8_t *)device(NULL, q_bytes);
        copy[i].sf = (const uint8_t *)device(NULL, sf_bytes);
        must(cudaMemcpy((void *)copy[i].q, a.q, q_bytes, cudaMemcpyDeviceToDevice));
        must(cudaMemcpy((void *)copy[i].sf, a.sf, sf_bytes, cudaMemcpyDeviceToDevice));
    }
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        for (int j = 0; j < COPIES; j++) {
            must(gemv(&copy[j], 0, 0));
        }
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %.2f us, %.0f GB/s\n", 1e3 * ms[10] / COPIES,
           1e-6 * (double)(q_bytes + sf_bytes) * COPIES / ms[10]);
}

/* The kernel's y and that of its host twin; then, where that is asked for, its speed. */
static int check(size_t rows, size_t cols, fp4_layout layout, int is_timed)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT, );
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    uint8_t *q = bytes_of(q_bytes, 0, 255, 1), *sf = bytes_of(sf_bytes, IS_NVFP4 ? 40 : 120, 15, 2);
    uint16_t *x = (uint16_t *)malloc(cols * sizeof(uint16_t));
    uint8_t *expected = (uint8_t *)malloc(rows * ELEMENT), *y = (uint8_t *)malloc(rows * ELEMENT);
    fp4_tensor t = fp4_tensor_view(format, layout, rows, cols, q, q_bytes, sf, sf_bytes);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), 1, cols, cols, 1.0f};
    gemv_args a = {};
    int is_same;

    t.global_dec = IS_NVFP4 ? 0.01f : 1.0f;
    for (size_t i = 0; i < cols; i++) {
        const float v = 0.1f * (float)(i % 41) - 2.0f;
        x[i] = m.dtype == FP4_F16 ? fp4_f32_to_f16(v) : fp4_f32_to_bf16(v);
    }
    a.y = device(NULL, rows * ELEMENT);
    a.q = (const uint8_t *)device(q, q_bytes);
    a.sf = (const uint8_t *)device(sf, sf_bytes);
    a.x = device(x, cols * sizeof(uint16_t));
    a.rows = rows;
    a.cols = cols;
    a.layout = layout;
    a.global_dec = t.global_dec;
    must(gemv(&a, 0, 0));
    must(cudaMemcpy(y, a.y, rows * ELEMENT, cudaMemcpyDeviceToHost));
    if (fp4_ref_gemv(&t, m, JOIN(DTYPE_, OUTPUT, ), expected, rows * ELEMENT) != FP4_OK) {
        return 0;
    }
    is_same = memcmp(y, expected, rows * ELEMENT) == 0;
    printf("%zu x %zu, device and host: %s\n", rows, cols, is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        measure(a, q_bytes, sf_bytes);
    }
    free(q);
    free(sf);
    free(x);
    free(y);
    free(expected);
    return is_same;
}

int main(void)
{
    printf("%s times %s to %s\n", TEXT(FORMAT), TEXT(INPUT), TEXT(OUTPUT));
    return !(check(1, 64, FP4_LAYOUT_128X4, 0) && check(130, 4192, FP4_LAYOUT_8X4, 0) &&
             check(8192, 8192, FP4_LAYOUT_LINEAR, 1) && check(8192, 8192, FP4_LAYOUT_128X4, 1) &&
             check(28672, 8192, FP4_LAYOUT_LINEAR, 1));
}
#endif

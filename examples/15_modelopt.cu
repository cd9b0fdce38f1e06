/*
 * 15_modelopt.cu - a matrix to the quantized tensors of NVIDIA ModelOpt: the bytes of its
 * NVFP4QTensor, dynamic or static, its MXFP4QTensor and its MXFP8QTensor, for what is compared with
 * its checkpoints or stands beside them. (Our own bytes: 01_quantize. The way back: 06_dequantize
 * by its rules. Its fake quantization: 07_fake_quant.)
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/15_modelopt.cu -o modelopt && ./modelopt
 *
 * To change the input type or the format, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: a thread has 16 columns of four rows, and loads them all before it works on the
 * first. Neighbouring threads have neighbouring columns; two share a block of 32. Elements are
 * divided by their scale, as ModelOpt does, by a reciprocal and one step of Newton's
 * (device/modelopt.cuh). Linear scales, which ModelOpt's are, have a kernel of their own. In a
 * tiled layout the four rows are those whose scale bytes are neighbours (device/row.cuh), and what
 * four blocks beside each other have of these is stored as words.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/row.cuh>
#include <fp4/layout.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8; nvfp4_32, mxfp4_16: with the other's block */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16 /* registers of 16 elements as in memory */
#define WORDS_f16 8
#define WORDS_bf16 8
#define LANES_nvfp4 1 /* that share a scale byte */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define LANES_mxfp8 2
#define CODES_nvfp4 8 /* bytes of 16 codes */
#define CODES_nvfp4_32 8
#define CODES_mxfp4 8
#define CODES_mxfp4_16 8
#define CODES_mxfp8 16
#define SF_nvfp4(amax, dec) fp4_modelopt_cvt_nvfp4_sf(amax, dec)
#define SF_nvfp4_32 SF_nvfp4
#define SF_mxfp4(amax, dec) fp4_modelopt_mxfp4_sf(amax)
#define SF_mxfp4_16 SF_mxfp4
#define SF_mxfp8(amax, dec) fp4_modelopt_mxfp8_sf(amax)
#define ENCODE_nvfp4(x, amax, sf, dec) fp4_modelopt_nvfp4_encode_x16(x, amax, sf, dec)
#define ENCODE_nvfp4_32 ENCODE_nvfp4
#define ENCODE_mxfp4(x, amax, sf, dec) fp4_modelopt_mxfp4_encode_x16(x, sf)
#define ENCODE_mxfp4_16 ENCODE_mxfp4
#define ENCODE_mxfp8(x, amax, sf, dec) fp4_modelopt_mxfp8_encode_x16(x, sf)
#define HAS_GLOBAL_nvfp4 1
#define HAS_GLOBAL_nvfp4_32 1
#define HAS_GLOBAL_mxfp4 0
#define HAS_GLOBAL_mxfp4_16 0
#define HAS_GLOBAL_mxfp8 0

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define SF JOIN(SF_, FORMAT, )
#define ENCODE JOIN(ENCODE_, FORMAT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;
#if JOIN(CODES_, FORMAT, ) == 16
#define STORE_CODES fp4_store_e4m3x16
#else
#define STORE_CODES fp4_store_e2m1x16
#endif

enum {
    ELEMENT = WORDS / 4, /* bytes of an element */
    CODES = JOIN(CODES_, FORMAT, ),
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    HAS_GLOBAL = JOIN(HAS_GLOBAL_, FORMAT, ),
    THREADS = 128,
    EACH = 4 /* rows a thread; one where there are few */
};

/* Up to so many pieces one row a thread is faster: what eight bits need is soon done. */
#if !defined(SMALL)
#define SMALL (CODES == 16 ? 1 << 23 : 1 << 20)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * shape      x: rows x cols, row r at element r * x_stride; rows: up to 2^32 - 128; cols: whole
 *            blocks, up to 2^35 - 2048. x and its stride aligned to 16 bytes. q: rows * cols codes,
 *            row-major, aligned to those of 16. sf: fp4_sf_bytes(layout, rows, cols / BLOCK) bytes;
 *            ModelOpt's are linear; of tiled layouts aligned to 4.
 * amax       NVFP4: the largest of the tensor, read from amax_device where that is not null.
 *            Positive and finite, and so is fp4_modelopt_global_dec of it; of a 0 on the device
 *            scale bytes are ModelOpt's, 448 or NaN. Others ignore it.
 * fp8_max    NVFP4: 448; or 256, to leave room for blocks that are scaled up.
 * block_amax NVFP4, null; or of a static quantizer the amax of each block, row-major. Not negative.
 *            What exceeds it is clipped.
 * global_dec NVFP4, null; or where to store what codes and scale bytes are multiplied by in the
 *            end: fp4_modelopt_global_dec(amax, fp8_max), ModelOpt's weight_scale_2. Not where the
 *            amax is read, which some CTAs do later.
 * overlap    no output overlaps an input or another output.
 */
typedef struct modelopt_args {
    uint8_t *q, *sf;
    const void *x;
    size_t rows, cols, x_stride;
    fp4_layout layout;
    const float *amax_device;
    float amax, fp8_max;
    const float *block_amax;
    float *global_dec;
} modelopt_args;

/* ------------------------------------------------------------------------------ kernels */

/* What a block is quantized with. */
typedef struct numbers {
    float amax, fp8_max, global_dec; /* of the tensor */
} numbers;

static __device__ numbers numbers_of(const modelopt_args &a)
{
    numbers n = {1.0f, 448.0f, 1.0f};

    if (HAS_GLOBAL) {
        n.amax = a.amax_device == NULL ? a.amax : *a.amax_device;
        n.fp8_max = a.fp8_max == 256.0f ? 256.0f : 448.0f; /* constants: their quotients too */
        n.global_dec = fp4_modelopt_global_dec(n.amax, n.fp8_max);
    }
    return n;
}

/* The scale byte of a block, of which this number. */
static __device__ __forceinline__ uint8_t sf_of(float amax, const numbers &n,
                                                const float *block_amax, size_t block)
{
    return HAS_GLOBAL && block_amax != NULL
               ? fp4_modelopt_cvt_nvfp4_static_sf(block_amax[block], n.amax, n.fp8_max)
               : SF(amax, n.global_dec);
}

/* is_linear: so are the scales; else they are what the layout says. (A constant: to ask costs more
   than the store.) */
static __device__ __forceinline__ void quantize_rows(const modelopt_args &a, uint32_t across,
                                                     const uint32_t each, const int is_linear)
{
    const int is_words = each == FP4_ROW_FOUR && !is_linear; /* scale bytes four at a time */
    const uint32_t pieces = (uint32_t)(a.cols / 16), sf_cols = pieces / LANES;
    const uint32_t col = blockIdx.x % across * blockDim.x + threadIdx.x;
    const uint32_t group = blockIdx.x / across * blockDim.y + threadIdx.y; /* of rows */
    const size_t first = is_words ? fp4_row_of_four(a.layout, group, ~0u) : (size_t)group * each;
    const uint32_t step = is_words ? fp4_row_step_of_four(a.layout) : 1;
    const size_t rows_padded = fp4_sf_rows_padded(a.layout, a.rows);
    const int is_col = col < pieces; /* the lanes beside are there for the padding */
    const uint8_t *x = (const uint8_t *)a.x + col * (size_t)(16 * ELEMENT);
    raw v[EACH] = {};
    uint32_t bytes = 0; /* the scale bytes of the rows */

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        if (is_col && first + j * step < a.rows) {
            v[j] = LOAD(x + (first + j * step) * (a.x_stride * ELEMENT));
        }
    }
    const numbers n = numbers_of(a);
    fp4_pdl_trigger();
    if (HAS_GLOBAL && a.global_dec != NULL && blockIdx.x == 0 && threadIdx.x + threadIdx.y == 0) {
        *a.global_dec = n.global_dec;
    }
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        const size_t row = first + j * step;
        const int is_here = is_col && row < a.rows;
        const size_t block = is_here ? row * sf_cols + col / LANES : 0;
        const fp4_f32x16 t = WIDEN(v[j]);
        const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), LANES);
        const uint8_t sf = sf_of(amax, n, a.block_amax, block);
        if (is_here) {
            STORE_CODES(a.q + (row * pieces + col) * CODES, ENCODE(t, amax, sf, n.global_dec).v);
            bytes |= (uint32_t)sf << (8 * j);
        }
        if (is_linear && is_here && col % LANES == 0) {
            a.sf[block] = sf;
        }
    }
    if (is_words) {
        const uint32_t lane = threadIdx.x / LANES % 4; /* whose word is that of row `lane` */
        const uint32_t word = fp4_sf_words(bytes, LANES);
        const size_t row = first + lane * step;
        if (col % LANES == 0 && row < rows_padded) {
            fp4_store_sf_word(a.layout, a.sf, row, col / LANES - lane, sf_cols, word);
        }
    } else if (!is_linear && col % LANES == 0 && first < rows_padded &&
               col / LANES < fp4_sf_cols_padded(a.layout, sf_cols)) {
        a.sf[fp4_sf_offset(a.layout, first, col / LANES, sf_cols)] = (uint8_t)bytes;
    }
}

static __global__ void __launch_bounds__(THREADS)
    quantize_linear(const modelopt_args a, uint32_t across)
{
    quantize_rows(a, across, EACH, 1);
}

static __global__ void __launch_bounds__(THREADS)
    quantize_tiled(const modelopt_args a, uint32_t across)
{
    quantize_rows(a, across, EACH, 0);
}

static __global__ void __launch_bounds__(THREADS)
    quantize_few(const modelopt_args a, uint32_t across)
{
    quantize_rows(a, across, 1, 0);
}

/* ------------------------------------------------------------------------------ launcher */

static int is_bad_amax(const modelopt_args *a)
{
    const float dec = fp4_modelopt_global_dec(a->amax, a->fp8_max);

    return (a->fp8_max != 448.0f && a->fp8_max != 256.0f) || (size_t)a->block_amax % 4 != 0 ||
           (size_t)a->global_dec % 4 != 0 ||
           (a->amax_device != NULL && a->global_dec == a->amax_device) ||
           (a->amax_device == NULL ? !(dec > 0.0f && dec <= FP4_F32_MAX)
                                   : (size_t)a->amax_device % 4 != 0);
}

static int is_bad(const modelopt_args *a)
{
    return a->x == NULL || a->q == NULL || a->sf == NULL || /* null */
           a->rows > 0xffffff80u || a->cols % BLOCK != 0 || a->cols / 16 > 0x7fffff80u ||
           a->x_stride < a->cols || /* shape */
           a->x_stride > (size_t)-1 / ELEMENT / a->rows || (unsigned)a->layout > 2 ||
           (size_t)a->x % 16 != 0 || a->x_stride * ELEMENT % 16 != 0 || /* alignment */
           (size_t)a->q % CODES != 0 ||
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) ||
           (HAS_GLOBAL ? is_bad_amax(a) : a->block_amax != NULL || a->global_dec != NULL);
}

/**
 * Quantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, number or null pointer:
 *          nothing launched, nothing written. rows = 0 or cols = 0 is no error, and stores no
 *          global_dec.
 */
static cudaError_t modelopt_quantize(const modelopt_args *a, int pdl, cudaStream_t stream)
{
    /* lanes that exchange something: of a block; of a word of scale bytes */
    const uint32_t least = a->layout == FP4_LAYOUT_LINEAR ? LANES : 4 * LANES;
    uint32_t width = THREADS, across;
    void *arguments[] = {(void *)a, &across};
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    size_t rows, pieces, each, down; /* with the padding */

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    rows = fp4_sf_rows_padded(a->layout, a->rows);
    pieces = fp4_sf_cols_padded(a->layout, a->cols / BLOCK) * LANES;
    each = rows * pieces <= SMALL ? 1 : EACH;
    while (width > least && (pieces + pieces / 8) / width * width < pieces) {
        width /= 2; /* until no more than an eighth is wasted; those stay in one row of it */
    }
    across = (uint32_t)((pieces + width - 1) / width);
    down = (rows + each * (THREADS / width) - 1) / (each * (THREADS / width));
    if (down > 0x7fffffffu / across) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)(down * across));
    config.blockDim = dim3(width, THREADS / width);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config,
                               each == 1                        ? (const void *)quantize_few
                               : a->layout == FP4_LAYOUT_LINEAR ? (const void *)quantize_linear
                                                                : (const void *)quantize_tiled,
                               arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/modelopt.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define FORMAT_mxfp8 FP4_MXFP8
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "modelopt: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with n elements of the input type, between -1 and 1, some of them larger. */
static void *elements(size_t n)
{
    float *x = (float *)malloc(n * sizeof(float));
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) * 0x1p-23f - 1.0f) * (i % 100 == 0 ? 8.0f : 1.0f);
        if (ELEMENT == 2) {
            ((uint16_t *)x)[i] =
                JOIN(DTYPE_, INPUT, ) == FP4_F16 ? fp4_f32_to_f16(x[i]) : fp4_f32_to_bf16(x[i]);
        }
    }
    return x;
}

/* Device memory with these bytes; without them, poisoned: a byte that is not written will show. */
static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, 0x7b, bytes));
    return p;
}

static void *host(const void *p, size_t bytes)
{
    void *copy = malloc(bytes);

    must(cudaMemcpy(copy, p, bytes, cudaMemcpyDeviceToHost));
    return copy;
}

/* Median of 20 launches. */
static void measure(const modelopt_args *a, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(modelopt_quantize(a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %.1f us, %.0f GB/s\n", 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

/* The kernel's bytes and those of its host twin; then, where that is asked for, its speed. */
static int check(size_t rows, size_t cols, fp4_layout layout, int is_timed)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT, );
    const size_t q_bytes = fp4_q_bytes(format, rows, cols), bytes = rows * cols * ELEMENT;
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    void *x = elements(rows * cols);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, 1.0f};
    modelopt_args a = {};
    fp4_tensor got, expected;
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    fp4_status status;
    int is_same;

    a.x = device(x, bytes);
    a.q = (uint8_t *)device(NULL, q_bytes);
    a.sf = (uint8_t *)device(NULL, sf_bytes);
    a.rows = rows;
    a.cols = a.x_stride = cols;
    a.layout = layout;
    a.amax = 8.0f;
    a.fp8_max = 448.0f;
    a.global_dec = HAS_GLOBAL ? (float *)device(NULL, sizeof(float)) : NULL;
    must(modelopt_quantize(&a, 0, 0));
    got = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)host(a.q, q_bytes), q_bytes,
                          (uint8_t *)host(a.sf, sf_bytes), sf_bytes);
    got.global_dec = HAS_GLOBAL ? *(float *)host(a.global_dec, sizeof(float)) : 1.0f;
    expected = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                               (uint8_t *)malloc(sf_bytes), sf_bytes);
    status = HAS_GLOBAL ? fp4_ref_modelopt_nvfp4_quantize(
                              m, fp4_modelopt_global_dec(a.amax, a.fp8_max), &expected)
             : CODES == 16 ? fp4_ref_modelopt_mxfp8_quantize(m, &expected)
                           : fp4_ref_modelopt_mxfp4_quantize(m, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    is_same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    if (is_same && is_timed) {
        measure(&a, (double)(bytes + q_bytes + sf_bytes));
    }
    return is_same;
}

int main(void)
{
    printf("%s to ModelOpt's %s\n", TEXT(INPUT), TEXT(FORMAT));
    return !(check(1, 64, FP4_LAYOUT_LINEAR, 0) && check(130, 4192, FP4_LAYOUT_128X4, 0) &&
             check(16384, 8192, FP4_LAYOUT_LINEAR, 1));
}
#endif

/*
 * 15_modelopt.cu - a matrix to the quantized tensors of NVIDIA ModelOpt, and back: the bytes of its
 * NVFP4QTensor, MXFP4QTensor and MXFP8QTensor, for what is compared with its checkpoints or read
 * beside them. (Our own bytes: 01_quantize, 06_dequantize. ModelOpt's fake quantization:
 * 07_fake_quant.)
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/15_modelopt.cu -o modelopt && ./modelopt
 *
 * To change the type of the elements or the format, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: a thread has 16 columns of four rows, and loads them all before it works on the
 * first. Neighbouring threads have neighbouring columns; two share a block of 32. Each divides by
 * its scale as ModelOpt does, by a reciprocal and one step of Newton's (device/modelopt.cuh).
 */
#include <fp4/device/load.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/device/store.cuh>
#include <fp4/layout.h>

#if !defined(TYPE)
#define TYPE bf16 /* f32, f16, bf16 */
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
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
#define STORE_f32(p, w, left) fp4_store_u32x16_by_four(p, w, left)
#define STORE_f16(p, w, left) fp4_store_u32x8(p, w)
#define STORE_bf16(p, w, left) fp4_store_u32x8(p, w)
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
#define ENCODE_nvfp4(x, sf, dec) fp4_modelopt_nvfp4_encode_x16(x, sf, dec)
#define ENCODE_nvfp4_32 ENCODE_nvfp4
#define ENCODE_mxfp4(x, sf, dec) fp4_modelopt_mxfp4_encode_x16(x, sf)
#define ENCODE_mxfp4_16 ENCODE_mxfp4
#define ENCODE_mxfp8(x, sf, dec) fp4_modelopt_mxfp8_encode_x16(x, sf)
#define DEQUANTIZE_nvfp4(q, sf, dec) fp4_modelopt_nvfp4_dequantize_x16(q, sf, dec)
#define DEQUANTIZE_nvfp4_32 DEQUANTIZE_nvfp4
#define DEQUANTIZE_mxfp4(q, sf, dec) ((void)(dec), fp4_modelopt_mxfp4_dequantize_x16(q, sf))
#define DEQUANTIZE_mxfp4_16 DEQUANTIZE_mxfp4
#define DEQUANTIZE_mxfp8(q, sf, dec) ((void)(dec), fp4_modelopt_mxfp8_dequantize_x16(q, sf))
#define HAS_GLOBAL_nvfp4 1
#define HAS_GLOBAL_nvfp4_32 1
#define HAS_GLOBAL_mxfp4 0
#define HAS_GLOBAL_mxfp4_16 0
#define HAS_GLOBAL_mxfp8 0

#define WORDS JOIN(WORDS_, TYPE, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, TYPE, x16_to_f32x16)
#define NARROW JOIN(NARROW_, TYPE, )
#define STORE JOIN(STORE_, TYPE, )
#define SF JOIN(SF_, FORMAT, )
#define ENCODE JOIN(ENCODE_, FORMAT, )
#define DEQUANTIZE JOIN(DEQUANTIZE_, FORMAT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;
#if JOIN(CODES_, FORMAT, ) == 16
#define LOAD_CODES fp4_ptx_load16
#define STORE_CODES fp4_store_e4m3x16
typedef fp4_u32x4 codes;
#else
#define LOAD_CODES fp4_ptx_load8
#define STORE_CODES fp4_store_e2m1x16
typedef fp4_u32x2 codes;
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

/* Up to so many pieces one row a thread is faster. */
#if !defined(SMALL)
#define SMALL (1 << 18)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * shape      x: rows x cols, row r at element r * x_stride; cols: whole blocks, less than 2^35. x
 *            and its stride aligned to 16 bytes. q: rows * cols codes, row-major, aligned to those
 *            of 16. sf: fp4_sf_bytes(layout, rows, cols / BLOCK) bytes; ModelOpt's are linear.
 * amax       NVFP4: the largest of the tensor, read from amax_device where that is not null.
 *            Positive and finite, and so is fp4_modelopt_global_dec of it. Others ignore it.
 * fp8_max    NVFP4: 448; or 256, to leave room for blocks that are scaled up.
 * block_amax NVFP4, null; or of a static quantizer the amax of each block, row-major. Not negative.
 *            What exceeds it is clipped.
 * global_dec NVFP4, null; or where to store what codes and scale bytes are multiplied by in the
 *            end: fp4_modelopt_global_dec(amax, fp8_max), ModelOpt's weight_scale_2.
 */
typedef struct modelopt_quantize_args {
    uint8_t *q, *sf;
    const void *x;
    size_t rows, cols, x_stride;
    fp4_layout layout;
    const float *amax_device;
    float amax, fp8_max;
    const float *block_amax;
    float *global_dec;
} modelopt_quantize_args;

/**
 * shape    y: as x above. q, sf, layout: as above.
 * global   NVFP4: what is stored there, read from global_device where that is not null. +0 or
 *          positive, finite. Others ignore it.
 */
typedef struct modelopt_dequantize_args {
    void *y;
    const uint8_t *q, *sf;
    size_t rows, cols, y_stride;
    fp4_layout layout;
    const float *global_device;
    float global_dec;
} modelopt_dequantize_args;

/* ------------------------------------------------------------------------------ kernels */

/* A thread's place: its column in pieces of 16 elements, its first row. */
typedef struct place {
    uint32_t col;
    size_t row;
} place;

static __device__ place place_of(uint32_t across, uint32_t each)
{
    place p;

    p.col = blockIdx.x % across * blockDim.x + threadIdx.x;
    p.row = ((size_t)(blockIdx.x / across) * blockDim.y + threadIdx.y) * each;
    return p;
}

/* What a block is quantized with. */
typedef struct numbers {
    float amax, fp8_max, global_dec; /* of the tensor */
} numbers;

static __device__ numbers numbers_of(const modelopt_quantize_args &a)
{
    numbers n = {1.0f, 448.0f, 1.0f};

    if (HAS_GLOBAL) {
        n.amax = a.amax_device == NULL ? a.amax : *a.amax_device;
        n.fp8_max = a.fp8_max == 256.0f ? 256.0f : 448.0f; /* constants: their quotients too */
        n.global_dec = fp4_modelopt_global_dec(n.amax, n.fp8_max);
    }
    return n;
}

/* The scale byte of a piece's block. All lanes of the warp call. */
static __device__ __forceinline__ uint8_t sf_of(fp4_f32x16 x, const numbers &n,
                                                const float *block_amax)
{
    const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(x), LANES);

    return HAS_GLOBAL && block_amax != NULL
               ? fp4_modelopt_cvt_nvfp4_static_sf(*block_amax, n.amax, n.fp8_max)
               : SF(amax, n.global_dec);
}

static __device__ __forceinline__ void quantize_rows(const modelopt_quantize_args &a,
                                                     uint32_t across, const uint32_t each)
{
    const uint32_t pieces = (uint32_t)(a.cols / 16), sf_cols = pieces / LANES;
    const place at = place_of(across, each);
    const int is_col = at.col < pieces; /* the lanes beside are there for the padding */
    const uint8_t *x = (const uint8_t *)a.x + at.col * (size_t)(16 * ELEMENT);
    raw v[EACH] = {};

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        if (is_col && at.row + j < a.rows) {
            v[j] = LOAD(x + (at.row + j) * (a.x_stride * ELEMENT));
        }
    }
    const numbers n = numbers_of(a);
    fp4_pdl_trigger();
    if (HAS_GLOBAL && a.global_dec != NULL && blockIdx.x == 0 && threadIdx.x + threadIdx.y == 0) {
        *a.global_dec = n.global_dec;
    }
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        const size_t row = at.row + j;
        const int is_here = is_col && row < a.rows;
        const float *amax = a.block_amax; /* where there is none it is not looked at */
        if (HAS_GLOBAL && amax != NULL) {
            amax += is_here ? row * sf_cols + at.col / LANES : 0;
        }
        const fp4_f32x16 t = WIDEN(v[j]);
        const uint8_t sf = sf_of(t, n, amax);
        if (is_here) {
            STORE_CODES(a.q + (row * pieces + at.col) * CODES, ENCODE(t, sf, n.global_dec).v);
        }
        if (at.col % LANES == 0 && row < fp4_sf_rows_padded(a.layout, a.rows) &&
            at.col / LANES < fp4_sf_cols_padded(a.layout, sf_cols)) {
            a.sf[fp4_sf_offset(a.layout, row, at.col / LANES, sf_cols)] = is_here ? sf : 0;
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    quantize_many(const modelopt_quantize_args a, uint32_t across)
{
    quantize_rows(a, across, EACH);
}

static __global__ void __launch_bounds__(THREADS)
    quantize_few(const modelopt_quantize_args a, uint32_t across)
{
    quantize_rows(a, across, 1);
}

static __device__ __forceinline__ void dequantize_rows(const modelopt_dequantize_args &a,
                                                       uint32_t across, const uint32_t each)
{
    const uint32_t pieces = (uint32_t)(a.cols / 16);
    const place at = place_of(across, each);
    [[maybe_unused]] const uint32_t four = at.col / 4 * 4; /* the first of the columns around */
    uint8_t *y = (uint8_t *)a.y + at.col * (size_t)(16 * ELEMENT);
    codes q[EACH] = {};
    uint8_t sf[EACH] = {};

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        if (at.col < pieces && at.row + j < a.rows) {
            q[j] = LOAD_CODES(a.q + ((at.row + j) * pieces + at.col) * CODES);
            sf[j] = a.sf[fp4_sf_offset(a.layout, at.row + j, at.col / LANES, pieces / LANES)];
        }
    }
    const float dec = !HAS_GLOBAL               ? 1.0f
                      : a.global_device == NULL ? a.global_dec
                                                : *a.global_device;
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        const size_t row = at.row + j;
        const int is_here = at.col < pieces && row < a.rows;
        if (is_here || ELEMENT == 4) { /* f32: four lanes store together */
            STORE(y + row * (a.y_stride * ELEMENT), NARROW(DEQUANTIZE(q[j].v, sf[j], dec)),
                  row < a.rows && four < pieces ? pieces - four : 0);
        }
    }
}

static __global__ void __launch_bounds__(THREADS)
    dequantize_many(const modelopt_dequantize_args a, uint32_t across)
{
    dequantize_rows(a, across, EACH);
}

static __global__ void __launch_bounds__(THREADS)
    dequantize_few(const modelopt_dequantize_args a, uint32_t across)
{
    dequantize_rows(a, across, 1);
}

/* ------------------------------------------------------------------------------ launcher */

/* What both have. elements: x or y. */
static int is_bad_shape(const void *elements, const uint8_t *q, const uint8_t *sf, size_t rows,
                        size_t cols, size_t stride, fp4_layout layout)
{
    return elements == NULL || q == NULL || sf == NULL ||                   /* null */
           cols % BLOCK != 0 || cols / 16 > 0x7fffff80u || stride < cols || /* shape */
           stride > (size_t)-1 / ELEMENT / rows || (unsigned)layout > 2 ||
           (size_t)elements % 16 != 0 || stride * ELEMENT % 16 != 0 || /* alignment */
           (size_t)q % CODES != 0;
}

static int is_bad_amax(const modelopt_quantize_args *a)
{
    const float dec = fp4_modelopt_global_dec(a->amax, a->fp8_max);

    return (a->fp8_max != 448.0f && a->fp8_max != 256.0f) || (size_t)a->block_amax % 4 != 0 ||
           (size_t)a->global_dec % 4 != 0 ||
           (a->amax_device == NULL ? !(dec > 0.0f && dec <= FP4_F32_MAX)
                                   : (size_t)a->amax_device % 4 != 0);
}

/* rows and pieces: with the padding. few, many: kernels for one row a thread, and for EACH. */
static cudaError_t launch(const void *few, const void *many, const void *args, size_t rows,
                          size_t pieces, int pdl, cudaStream_t stream)
{
    uint32_t width = THREADS, across;
    const size_t each = rows * pieces <= SMALL ? 1 : EACH;
    void *arguments[] = {(void *)args, &across};
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    size_t down;

    while (width > 4 && (pieces + pieces / 8) / width * width < pieces) {
        width /= 2; /* until no more than an eighth is wasted; a block stays in one row of it */
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
    return cudaLaunchKernelExC(&config, each == 1 ? few : many, arguments);
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
static cudaError_t modelopt_quantize(const modelopt_quantize_args *a, int pdl, cudaStream_t stream)
{
    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad_shape(a->x, a->q, a->sf, a->rows, a->cols, a->x_stride, a->layout) ||
        (HAS_GLOBAL ? is_bad_amax(a) : a->block_amax != NULL)) {
        return cudaErrorInvalidValue;
    }
    return launch((const void *)quantize_few, (const void *)quantize_many, a,
                  fp4_sf_rows_padded(a->layout, a->rows),
                  fp4_sf_cols_padded(a->layout, a->cols / BLOCK) * LANES, pdl, stream);
}

/** The way back, likewise. */
static cudaError_t modelopt_dequantize(const modelopt_dequantize_args *a, int pdl,
                                       cudaStream_t stream)
{
    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad_shape(a->y, a->q, a->sf, a->rows, a->cols, a->y_stride, a->layout) ||
        (HAS_GLOBAL && (a->global_device != NULL ? (size_t)a->global_device % 4 != 0
                                                 : fp4_f32_bits(a->global_dec) >= 0x7f800000u))) {
        return cudaErrorInvalidValue;
    }
    return launch((const void *)dequantize_few, (const void *)dequantize_many, a, a->rows,
                  a->cols / 16, pdl, stream);
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

/* Host memory with n elements of the type, between -1 and 1, some of them larger. */
static void *elements(size_t n)
{
    float *x = (float *)malloc(n * sizeof(float));
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = ((float)(state >> 8) * 0x1p-23f - 1.0f) * (i % 100 == 0 ? 8.0f : 1.0f);
        if (ELEMENT == 2) {
            ((uint16_t *)x)[i] =
                JOIN(DTYPE_, TYPE, ) == FP4_F16 ? fp4_f32_to_f16(x[i]) : fp4_f32_to_bf16(x[i]);
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

/* Median of 20 launches, of one or the other. */
static void measure(const modelopt_quantize_args *there, const modelopt_dequantize_args *back,
                    double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(there != NULL ? modelopt_quantize(there, 0, 0) : modelopt_dequantize(back, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %s: %.1f us, %.0f GB/s\n", there != NULL ? "quantized" : "back", 1e3 * ms[10],
           1e-6 * bytes / ms[10]);
}

/* Codes and scale bytes of the kernel and of its host twin, and what both make of them; then, where
   that is asked for, how long it takes. */
static int check(size_t rows, size_t cols, fp4_layout layout, int is_timed)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT, );
    const size_t q_bytes = fp4_q_bytes(format, rows, cols), bytes = rows * cols * ELEMENT;
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    void *x = elements(rows * cols), *y = malloc(bytes);
    const fp4_matrix m = {x, JOIN(DTYPE_, TYPE, ), rows, cols, cols, 1.0f};
    fp4_tensor got,
        expected = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                                   (uint8_t *)malloc(sf_bytes), sf_bytes);
    modelopt_quantize_args there = {};
    modelopt_dequantize_args back = {};
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    fp4_status status;
    int is_same;

    there.amax = 8.0f;
    there.fp8_max = 448.0f;
    there.x = device(x, bytes);
    there.q = (uint8_t *)device(NULL, q_bytes);
    there.sf = (uint8_t *)device(NULL, sf_bytes);
    there.rows = rows;
    there.cols = there.x_stride = cols;
    there.layout = layout;
    there.global_dec = (float *)device(NULL, sizeof(float));
    must(modelopt_quantize(&there, 0, 0));
    status = HAS_GLOBAL ? fp4_ref_modelopt_nvfp4_quantize(
                              m, fp4_modelopt_global_dec(there.amax, there.fp8_max), &expected)
             : CODES == 16 ? fp4_ref_modelopt_mxfp8_quantize(m, &expected)
                           : fp4_ref_modelopt_mxfp4_quantize(m, &expected);
    status = status != FP4_OK
                 ? status
                 : fp4_ref_modelopt_dequantize(&expected, JOIN(DTYPE_, TYPE, ), y, bytes, cols);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    got = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)host(there.q, q_bytes), q_bytes,
                          (uint8_t *)host(there.sf, sf_bytes), sf_bytes);
    got.global_dec = HAS_GLOBAL ? *(float *)host(there.global_dec, sizeof(float)) : 1.0f;
    is_same = fp4_ref_same(&got, &expected, &d);
    back.y = device(NULL, bytes);
    back.q = there.q;
    back.sf = there.sf;
    back.rows = rows;
    back.cols = back.y_stride = cols;
    back.layout = layout;
    back.global_device = HAS_GLOBAL ? there.global_dec : NULL;
    must(modelopt_dequantize(&back, 0, 0));
    if (memcmp(host(back.y, bytes), y, bytes) != 0) {
        fprintf(stderr, "%zu x %zu, device and host: what comes back differs\n", rows, cols);
        is_same = 0;
    }
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    if (is_same && is_timed) {
        measure(&there, NULL, (double)(bytes + q_bytes + sf_bytes));
        measure(NULL, &back, (double)(bytes + q_bytes + sf_bytes));
    }
    return is_same;
}

int main(void)
{
    printf("%s, %s as ModelOpt has it\n", TEXT(TYPE), TEXT(FORMAT));
    return !(check(1, 64, FP4_LAYOUT_LINEAR, 0) && check(130, 4192, FP4_LAYOUT_128X4, 0) &&
             check(16384, 8192, FP4_LAYOUT_LINEAR, 1));
}
#endif

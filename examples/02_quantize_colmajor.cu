/*
 * 02_quantize_colmajor.cu - a column-major matrix to NVFP4, MXFP4 or MXFP8, row-major codes.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/02_quantize_colmajor.cu -o colmajor && ./colmajor
 *
 * The blocks run along a row, so consecutive elements of a block are a column apart in memory. A
 * thread reads 4 bytes at a time, which are 1, 2 or 4 rows of one column, a warp 128 consecutive
 * bytes; it ends up with a block of each of its rows. Codes and scale bytes are turned round in
 * shared memory: a CTA makes 128 rows x 4 blocks, of which every row is 32 to 128 consecutive bytes
 * of codes, and the whole one tile of the 128x4 layout. CTAs go through all columns of some rows
 * before they go on to the next, so that what neighbours write of a row meets in the cache.
 *
 * To change the input type, the format or the layout of the scale bytes, edit one word below
 * (or -DFORMAT=mxfp4).
 */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16, e4m3 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8 */
#endif
#if !defined(LAYOUT)
#define LAYOUT FP4_LAYOUT_128X4 /* FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define BYTES_f32 4
#define BYTES_f16 2
#define BYTES_bf16 2
#define BYTES_e4m3 1
#define FRAGMENT_nvfp4 fp4_f32x16
#define FRAGMENT_mxfp4 fp4_f32x32
#define FRAGMENT_mxfp8 fp4_f32x32
#define QUANTIZE_nvfp4(x, global_enc) fp4_nvfp4_quantize(x, global_enc)
#define QUANTIZE_mxfp4(x, global_enc) fp4_mxfp4_quantize(x)
#define QUANTIZE_mxfp8(x, global_enc) fp4_mxfp8_quantize(x)
#define STORE_nvfp4 fp4_store_e2m1x16 /* up to 16 bytes of a block's codes */
#define STORE_mxfp4 fp4_store_e2m1x32
#define STORE_mxfp8 fp4_store_e4m3x16
#define VALUE_f32(word, j) fp4_bits_f32(word) /* of element j of a word */
#define VALUE_f16(word, j) fp4_ptx_f16_to_f32((uint16_t)((word) >> 16 * (j)))
#define VALUE_bf16(word, j) fp4_bits_f32((word) >> 16 * (j) << 16)
#define VALUE_e4m3(word, j) fp4_e4m3x8_to_f32x8(fp4_u32x2{{word, 0}}).v[j]
#define HAS_GLOBAL_nvfp4 1
#define HAS_GLOBAL_mxfp4 0
#define HAS_GLOBAL_mxfp8 0

#define HAS_GLOBAL JOIN(HAS_GLOBAL_, FORMAT, )
#define QUANTIZE JOIN(QUANTIZE_, FORMAT, )
#define STORE JOIN(STORE_, FORMAT, )
#define VALUE JOIN(VALUE_, INPUT, )
typedef JOIN(FRAGMENT_, FORMAT, ) fragment;
typedef JOIN(fp4_, FORMAT, _block) block;

enum {
    ELEMENT = JOIN(BYTES_, INPUT, ),
    BLOCK = sizeof(fragment) / sizeof(float),
    CODES = sizeof(((block *)0)->q), /* bytes of a block's codes */
    PIECE = CODES < 16 ? CODES : 16, /* that are stored at once */
    ROWS = 128,                      /* of a CTA's tile */
    BLOCKS = 4,                      /* of each row */
    EACH = 4 / ELEMENT,              /* rows a thread; of these unpacked at a time: */
    AT_ONCE = EACH == 1 || (EACH == 4 && CODES == 32) ? 1 : 2,
    THREADS = ROWS / EACH * BLOCKS,
    BAND = 64,            /* tiles of rows that are worked on at a time, all their columns */
    GRID_YZ_MOST = 65535, /* CTAs of a grid in y and in z */
    /* CTAs of a multiprocessor; 0: left to the compiler, which would spill these on some targets */
    RESIDENT = ELEMENT == 1 && CODES == 16 && FP4_ARCH != 900 ? 2 : 0
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * A scale: a number, or where on the device it is: device[row * row_step], 4-byte aligned.
 * is_dec: it is given in decode sense, to be turned round.
 */
typedef struct quantize_scale {
    const float *device;
    float value;
    int is_dec;
    size_t row_step;
} quantize_scale;

/**
 * shape    x: element (row, col) at col * col_stride + row; rows x cols, cols whole blocks, up to
 *          262140 of them; rows up to 2^32 - 256.
 *          q: rows * cols codes, row-major. sf: fp4_sf_bytes(LAYOUT, rows, cols / BLOCK) bytes.
 *          x, col_stride: multiples of 4 bytes. q: of 16 bytes, a row of q of 8. sf: of 16 bytes
 *          for 128x4 and 8x4. Neither overlaps anything.
 * global   NVFP4: positive and finite, and so its reciprocal (above 2^-128). Other formats ignore
 *          it.
 * x_dec    e4m3 input: x = decode(code) * x_dec. Other types ignore it.
 */
typedef struct quantize_args {
    uint8_t *q, *sf;
    const void *x;
    size_t rows, cols, col_stride;
    quantize_scale global;
    float x_dec;
} quantize_args;

/* ------------------------------------------------------------------------------ kernel */

static __device__ float scale_at(const quantize_scale *s, size_t row)
{
    const float v = s->device == NULL ? s->value : s->device[row * s->row_step];
    return s->is_dec ? fp4_nvfp4_global_enc_from_dec(v) : v;
}

/* EACH elements of each column of a block, from row on, `step` bytes from one column to the next;
   those past the last row as zeros, and unread. */
static __device__ __forceinline__ void load_rows(uint32_t word[BLOCK], const uint8_t *x,
                                                 size_t step, uint32_t row, uint32_t rows)
{
    x += (size_t)row * ELEMENT;
    if (row + EACH <= rows) {
#pragma unroll
        for (int i = 0; i < BLOCK; i++) {
            word[i] = *(const uint32_t *)(x + i * step);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < BLOCK; i++) {
        word[i] = 0;
#pragma unroll
        for (uint32_t j = 0; j + 1 < EACH; j++) {
            const uint8_t *p = x + i * step + j * ELEMENT;
            if (row + j < rows) {
                word[i] |= (uint32_t)(ELEMENT == 2 ? *(const uint16_t *)p : *p)
                           << (8 * ELEMENT * j);
            }
        }
    }
}

/* 16 bytes a thread of the tile's codes, `staged` row by row, to the matrix. */
static __device__ void store_codes(const quantize_args &a, const uint4 *staged, uint32_t first_row,
                                   uint32_t first_block)
{
    const uint32_t pieces = BLOCKS * CODES / 16;
    const size_t row_bytes = a.cols / BLOCK * CODES;

#pragma unroll
    for (uint32_t i = threadIdx.x; i < ROWS * pieces; i += THREADS) {
        const uint32_t row = first_row + i / pieces;
        const size_t at = (size_t)first_block * CODES + i % pieces * 16;
        if (row < a.rows && at + 16 <= row_bytes && (CODES >= 16 || a.cols / BLOCK % 2 == 0)) {
            *(uint4 *)(a.q + row * row_bytes + at) = staged[i];
        } else if (row < a.rows && at < row_bytes) { /* rows of an odd number of 8-byte blocks */
            const uint2 *half = (const uint2 *)&staged[i];
            *(uint2 *)(a.q + row * row_bytes + at) = half[0];
            if (at + 8 < row_bytes) {
                *(uint2 *)(a.q + row * row_bytes + at + 8) = half[1];
            }
        }
    }
}

/* The tile's scale bytes, `staged` row by row as words of four, to the buffer, padding included. */
static __device__ void store_scales(const quantize_args &a, const uint32_t *staged,
                                    uint32_t first_row, uint32_t first_block)
{
    const size_t sf_cols = a.cols / BLOCK;

    if (threadIdx.x < ROWS) {
        const size_t row = first_row + threadIdx.x;
        const uint32_t word = staged[threadIdx.x];
        if (LAYOUT != FP4_LAYOUT_LINEAR) {
            if (row < fp4_sf_rows_padded(LAYOUT, a.rows)) {
                fp4_ptx_store4(a.sf + fp4_sf_offset(LAYOUT, row, first_block, sf_cols), word);
            }
        } else if (row < a.rows && sf_cols % 4 == 0 && (size_t)a.sf % 4 == 0) {
            fp4_ptx_store4(a.sf + row * sf_cols + first_block, word);
        } else if (row < a.rows) {
            for (uint32_t b = 0; b < BLOCKS && first_block + b < sf_cols; b++) {
                a.sf[row * sf_cols + first_block + b] = (uint8_t)(word >> (8 * b));
            }
        }
    }
}

static __device__ __forceinline__ void quantize_tile(const quantize_args &a, const int per_row)
{
    __shared__ uint4 codes[ROWS * BLOCKS * CODES / 16];
    __shared__ uint32_t scales[ROWS];
    const uint32_t tile = blockIdx.z * gridDim.x + blockIdx.x; /* of rows */
    const uint32_t first_row = tile * ROWS, first_block = blockIdx.y * BLOCKS;
    const uint32_t r = threadIdx.x % (ROWS / EACH) * EACH, b = threadIdx.x / (ROWS / EACH);
    const uint32_t rows = (uint32_t)a.rows;
    const uint32_t has_rows =
        first_block + b < a.cols / BLOCK ? rows : 0; /* its column of blocks */
    const uint8_t *x =
        (const uint8_t *)a.x + (size_t)(first_block + b) * BLOCK * a.col_stride * ELEMENT;
    uint32_t word[BLOCK];

    fp4_pdl_wait();
    if (tile > (rows - 1) / ROWS) { /* the last band's; its rows may be beyond 32 bits */
        return;
    }
    load_rows(word, x, a.col_stride * ELEMENT, first_row + r, has_rows);
    const float common = per_row ? 0.0f : scale_at(&a.global, 0);
    fp4_pdl_trigger();
#pragma unroll 1
    for (uint32_t from = 0; from < EACH; from += AT_ONCE) {
#pragma unroll
        for (uint32_t j = 0; j < AT_ONCE; j++) {
            const uint32_t at = r + from + j;
            fragment v;
#pragma unroll
            for (int i = 0; i < BLOCK; i++) {
                v.v[i] = VALUE(word[i] >> 8 * ELEMENT * from, j);
                if (ELEMENT == 1) {
                    v.v[i] = fp4_mul_rn(v.v[i], a.x_dec);
                }
            }
            const block made = QUANTIZE(
                v,
                per_row ? scale_at(&a.global, first_row + at < rows ? first_row + at : 0) : common);
#pragma unroll
            for (uint32_t i = 0; i < CODES; i += PIECE) {
                STORE((uint8_t *)codes + (at * BLOCKS + b) * CODES + i, &made.q[i / 4]);
            }
            ((uint8_t *)&scales[at])[b] = first_row + at < has_rows ? made.sf : 0;
        }
    }
    fp4_ptx_barrier();
    store_codes(a, codes, first_row, first_block);
    store_scales(a, scales, first_row, first_block);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) quantize_colmajor(const quantize_args a)
{
    quantize_tile(a, 0);
}

#if HAS_GLOBAL
/* With a global scale for each row. */
static __global__ void __launch_bounds__(THREADS, RESIDENT)
    quantize_colmajor_rows(const quantize_args a)
{
    quantize_tile(a, 1);
}
#endif

/* ------------------------------------------------------------------------------ launcher */

static int is_bad_number(float v)
{
    return !(v > 0.0f && v <= FP4_F32_MAX);
}

/* The reciprocal of what is multiplied by is needed too, and infinite up to 2^-128. Device scales
   cannot be looked at here. */
static int is_bad_global(const quantize_scale *s)
{
    const float enc = s->is_dec ? fp4_nvfp4_global_enc_from_dec(s->value) : s->value;
    return s->device != NULL ? (size_t)s->device % 4 != 0
                             : is_bad_number(s->value) || enc <= 2.9387358770557188e-39f;
}

static int is_bad(const quantize_args *a)
{
    return a->q == NULL || a->sf == NULL || a->x == NULL || a->cols % BLOCK != 0 ||
           a->cols / BLOCK > GRID_YZ_MOST * BLOCKS || a->rows > 0xffffff00u ||
           a->col_stride < a->rows || a->col_stride > (size_t)-1 / ELEMENT / a->cols ||
           a->col_stride * ELEMENT % 4 != 0 || (size_t)a->x % 4 != 0 || (size_t)a->q % 16 != 0 ||
           (LAYOUT != FP4_LAYOUT_LINEAR && (size_t)a->sf % 16 != 0) ||
           (HAS_GLOBAL && is_bad_global(&a->global)) || (ELEMENT == 1 && is_bad_number(a->x_dec));
}

/**
 * Quantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the host.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory (sm_90 and later).
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows or cols = 0 is no error.
 */
static cudaError_t quantize(const quantize_args *a, int pdl, cudaStream_t stream)
{
    quantize_args args = *a;
    void *arguments[] = {&args};
    const void *kernel = (const void *)quantize_colmajor;
    const size_t tiles = (a->rows + ROWS - 1) / ROWS;
    size_t bands = (tiles + BAND - 1) / BAND, band;
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    if (args.global.device == NULL && args.global.is_dec) {
        args.global.value = fp4_nvfp4_global_enc_from_dec(args.global.value);
        args.global.is_dec = 0;
    }
#if HAS_GLOBAL
    if (a->global.device != NULL && a->global.row_step != 0) {
        kernel = (const void *)quantize_colmajor_rows;
    }
#endif
    if (bands > GRID_YZ_MOST) {
        bands = GRID_YZ_MOST;
    }
    band = (tiles + bands - 1) / bands;
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)band, (unsigned)((a->cols / BLOCK + BLOCKS - 1) / BLOCKS),
                          (unsigned)((tiles + band - 1) / band));
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>

#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define DTYPE_e4m3 FP4_E4M3
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static const float global_enc = 448.0f, x_dec = 0.5f;

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "colmajor: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static __global__ void ask_native(int *answer)
{
    if (threadIdx.x == 0) {
        *answer = CODES == 32 ? fp4_is_native_e4m3() : fp4_is_native();
    }
}

/* Elements of any bits, but with exponents between 2^-6 and 2^3: the top byte holds sign and most
   of the exponent. */
static void fill(uint8_t *x, size_t bytes)
{
    uint32_t state = 1;
    for (size_t i = 0; i < bytes; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (uint8_t)(state >> 24);
        if (ELEMENT > 1 && i % ELEMENT == ELEMENT - 1) {
            x[i] = (uint8_t)((x[i] & 0x83) | 0x3c);
        } else if (ELEMENT == 1) {
            x[i] = (uint8_t)((x[i] & 0x9f) | 0x20);
        }
    }
}

/* A matrix on the device, its outputs poisoned: a byte that is not written will show. */
static quantize_args make_args(size_t rows, size_t cols)
{
    const size_t q_bytes = rows * cols / BLOCK * CODES;
    const size_t sf_bytes = fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    quantize_args a = {};
    void *p;

    a.col_stride = (rows + 3) / 4 * 4;
    must(cudaMalloc(&p, a.col_stride * cols * ELEMENT));
    a.x = p;
    must(cudaMalloc(&p, q_bytes));
    a.q = (uint8_t *)p;
    must(cudaMalloc(&p, sf_bytes));
    a.sf = (uint8_t *)p;
    must(cudaMemset(a.q, 0x7f, q_bytes));
    must(cudaMemset(a.sf, 0x7f, sf_bytes));
    a.rows = rows;
    a.cols = cols;
    a.global.value = global_enc;
    a.x_dec = x_dec;
    return a;
}

/* The kernel's bytes and the host reference's, for one matrix. */
static int check(size_t rows, size_t cols)
{
    const size_t x_bytes = rows * cols * ELEMENT, q_bytes = rows * cols / BLOCK * CODES;
    const size_t sf_bytes = fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    const quantize_args a = make_args(rows, cols);
    uint8_t *memory = (uint8_t *)malloc(x_bytes + 2 * (q_bytes + sf_bytes));
    uint8_t *x = memory, *q = x + x_bytes, *sf = q + 2 * q_bytes;
    uint8_t *columns = (uint8_t *)calloc(a.col_stride * cols, ELEMENT);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, ELEMENT == 1 ? x_dec : 1.0f};
    fp4_tensor got =
        fp4_tensor_view(JOIN(FORMAT_, FORMAT, ), LAYOUT, rows, cols, q, q_bytes, sf, sf_bytes);
    fp4_tensor expected = fp4_tensor_view(JOIN(FORMAT_, FORMAT, ), LAYOUT, rows, cols, q + q_bytes,
                                          q_bytes, sf + sf_bytes, sf_bytes);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d = {};
    fp4_status status;

    fill(x, x_bytes);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            memcpy(columns + (c * a.col_stride + r) * ELEMENT, x + (r * cols + c) * ELEMENT,
                   ELEMENT);
        }
    }
    must(cudaMemcpy((void *)a.x, columns, a.col_stride * cols * ELEMENT, cudaMemcpyHostToDevice));
    must(quantize(&a, 0, 0));
    must(cudaMemcpy(q, a.q, q_bytes, cudaMemcpyDeviceToHost));
    must(cudaMemcpy(sf, a.sf, sf_bytes, cudaMemcpyDeviceToHost));
    status = fp4_ref_quantize(m, global_enc, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        exit(1);
    }
    got.global_dec = expected.global_dec;
    const int same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    free(columns);
    free(memory);
    return same;
}

/* Median of 20 launches, and what they moved. */
static void measure(size_t rows, size_t cols)
{
    const quantize_args a = make_args(rows, cols);
    const double bytes = (double)(rows * cols * ELEMENT + rows * cols / BLOCK * CODES) +
                         (double)fp4_sf_bytes(LAYOUT, rows, cols / BLOCK);
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaMemset((void *)a.x, 0x3d, rows * cols * ELEMENT));
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(quantize(&a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("%zu x %zu: %.1f us, %.0f GB/s\n", rows, cols, 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

int main(void)
{
    int *native, is_native = 0;

    must(cudaMalloc((void **)&native, sizeof(int)));
    ask_native<<<1, 1>>>(native);
    must(cudaGetLastError());
    must(cudaMemcpy(&is_native, native, sizeof(int), cudaMemcpyDeviceToHost));
    printf("%s to %s, scales %s, conversion %s\n", TEXT(INPUT), TEXT(FORMAT), TEXT(LAYOUT),
           is_native ? "in hardware" : "emulated: this target has no such instruction");
    if (!check(1, 32) || !check(203, 1056) || !check(1000, 4096)) {
        return 1;
    }
    measure(16384, 8192);
    return 0;
}
#endif

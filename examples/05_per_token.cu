/*
 * 05_per_token.cu - NVFP4 with a second-level scale a row, from the row's own amax, as activations
 * that are quantized on the fly have it.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/05_per_token.cu -o per_token && ./per_token
 *
 * To change the input type or the length of a block, edit one word below (or -DINPUT=f16).
 *
 * How it works: a CTA a row, which it reads from memory once; of up to 2048 columns it has four
 * rows, a warp each. Each thread has up to 4 pieces of 16 elements, a stride of all threads apart,
 * of which only the last may be missing (row.h), and keeps them in registers, as they are in
 * memory, until the amax of the row is known; the amaxes of its blocks it has found on the way. Of
 * many such or wider rows in a tiled layout a CTA takes four whose scale bytes are neighbours in
 * memory: side by side up to 4096 columns, else one after the other, and of the last rows one. Rows
 * of more than 16384 columns are read again, from the cache. Where there are few rows, a thread has
 * one piece.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/row.cuh>
#include <fp4/device/store.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, nvfp4_32: with blocks of 32 */
#endif

/* What the words stand for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define LANES_nvfp4 1 /* that share a scale byte */
#define LANES_nvfp4_32 2

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an input element */
    CODES = 8,           /* bytes of 16 codes */
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    EACH = FP4_ROW_EACH,
    MOST = 512, /* threads of a CTA, a piece each */
    FEW_ROWS = 512,
    MOST_BESIDE = 64, /* threads of a row, up to which four are taken side by side */
    /* threads of a multiprocessor: measured on sm_90; elsewhere so few that nothing spills */
    RESIDENT = FP4_ARCH != 900 || ELEMENT == 4 ? 256 : 768,
    RESIDENT_FOUR = LANES > 1 && RESIDENT > 640 ? 640 : RESIDENT, /* with four rows in turn */
    /* if scales are linear, the fastest kernels are for rows of whole words of them: to ask costs
       up to 2 %, but not with blocks of 32 */
    WHOLE = LANES == 1
};

/* Threads of a multiprocessor, with fewer pieces a thread more of them. */
#define BY_EACH(each, one, two, three, four) \
    (RESIDENT < 768 || LANES > 1 ? (int)RESIDENT \
     : (each) == 1               ? (one) \
     : (each) == 2               ? (two) \
     : (each) == 3               ? (three) \
                                 : (four))
#define RESIDENT_OF_ONE(each, threads) \
    BY_EACH(each, 1280, 1152, (threads) == 32 ? 896 : 1024, RESIDENT)
#define RESIDENT_OF_FOUR(each, threads) \
    ((threads) > MOST_BESIDE ? (int)RESIDENT_FOUR \
                             : BY_EACH(each, 1280, 1152, 1024, (threads) == 64 ? 1024 : RESIDENT))

/* Pieces of all rows up to which it is latency that counts; of FEW_ROWS at most. */
#if !defined(FEW)
#define FEW (1 << 17)
#endif

/* Elements from which on a CTA takes four rows of a tiled layout, one after the other; side by
   side. */
#if !defined(FOURS)
#define FOURS (1 << 26)
#define BESIDE (1 << 25)
#endif

/* Elements at the end of a matrix with four rows in turn whose rows have a CTA each. */
#if !defined(ALONE)
#define ALONE (1 << 23)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * x quantized to q and sf, row by row: amax = the largest |x| of the row, enc = 1 / base_dec /
 * amax, NVFP4 with that as its global scale.
 *
 * shape    x: rows x cols, row r at element r * x_stride, aligned to 16 bytes, the stride too.
 *          cols: whole blocks. q: rows * cols / 2 bytes, row-major, 8-byte aligned. sf:
 *          fp4_sf_bytes(layout, rows, cols / BLOCK) bytes, aligned to 4 if tiled; sf_linear:
 *          null, or the scales in the linear layout too. token_dec: rows floats, what to multiply
 *          the row by after decoding, 0 for a row of zeros. base_dec: positive and finite, and so
 *          its reciprocal (above 2^-128); 1/2688 uses the whole range; read from base_device,
 *          4-byte aligned, where that is not null. No output overlaps anything.
 * limits   cols below 2^31, rows up to 2^31 - 128.
 */
typedef struct token_args {
    const void *x;
    size_t rows, cols, x_stride;
    const float *base_device;
    float base_dec;
    uint8_t *q, *sf;
    fp4_layout layout;
    uint8_t *sf_linear;
    float *token_dec;
} token_args;

/* ------------------------------------------------------------------------------ kernels */

/* What is constant in a kernel. plain: no second layout. four: the CTA has four rows, whose scale
   bytes are kept; beside: these share its barrier, and some may be of the padding. */
typedef struct kind {
    fp4_row_cut cut;
    int plain, four, beside;
} kind;

/* The pieces of a row that a thread keeps, those of one turn, and the amaxes of their blocks. */
typedef struct kept {
    uint32_t row, turn;
    raw v[EACH];
    float amax[EACH];
} kept;

/* A piece; zeros behind the end of the row, and of a row that there is not. */
static __device__ __forceinline__ raw load_piece(const token_args &a, const kind c, uint32_t row,
                                                 uint32_t piece, int has)
{
    const uint8_t *x = (const uint8_t *)a.x + row * a.x_stride * ELEMENT;
    const int is_there = has && (!c.beside || row < a.rows);
    return is_there ? LOAD(x + (size_t)piece * (16 * ELEMENT)) : raw();
}

static __device__ __forceinline__ void load_turn(kept *k, const token_args &a, const kind c,
                                                 uint32_t turn)
{
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        k->v[j] =
            load_piece(a, c, k->row, fp4_row_piece(c.cut, turn, j), fp4_row_has(c.cut, turn, j));
    }
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        k->amax[j] = fp4_group_max_or_nan(fp4_amax_or_nan_x16(WIDEN(k->v[j])), LANES);
    }
    k->turn = turn;
}

/* The amax of the row, NaN left out. The last turn is kept. smem: not that of the row before, which
   may still be read. One barrier, whatever the row holds. */
static __device__ __forceinline__ float row_amax(kept *k, const token_args &a, const kind c,
                                                 float smem[32])
{
    float amax = 0.0f;

    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        load_turn(k, a, c, turn);
#pragma unroll
        for (uint32_t j = 0; j < c.cut.each; j++) {
            amax = fp4_max_nan_(amax, k->amax[j]);
        }
    }
    fp4_pdl_trigger();
    amax = fp4_cta_max_or_nan_of(amax, c.cut.threads, smem);
    if (fp4_is_nan(amax)) { /* once more, around the NaNs: each warp all of the row */
        amax = 0.0f;
#pragma unroll 1
        for (uint32_t piece = threadIdx.x % 32; piece < c.cut.pieces; piece += 32) {
            amax = fp4_ptx_max(amax, fp4_amax_x16(WIDEN(load_piece(a, c, k->row, piece, 1))));
        }
        amax = fp4_warp_max(amax);
    }
    return amax;
}

static __device__ __forceinline__ uint8_t *codes_at(const token_args &a, const kind c, uint32_t row,
                                                    uint32_t piece)
{
    return a.q + ((size_t)row * c.cut.pieces + piece) * CODES;
}

/* A turn with a block that a known amax does not quantize, once more, without regard to speed: from
   memory, one piece after the other. Returns the scale bytes. */
static __device__ __forceinline__ uint32_t mend(const token_args &a, const kind c, const kept &k,
                                                float global_enc)
{
    uint32_t bytes = 0;

#pragma unroll 1
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, k.turn, j);
        const int has = fp4_row_has(c.cut, k.turn, j);
        const fp4_part2 p = fp4_nvfp4_quantize_any_x16(WIDEN(load_piece(a, c, k.row, piece, has)),
                                                       LANES, global_enc);
        if (has) {
            fp4_store_e2m1x16(codes_at(a, c, k.row, piece), p.q);
            bytes |= (uint32_t)p.sf << 8 * j;
        }
    }
    return bytes;
}

/* Codes and scale bytes of a turn. words: where these are kept, of four rows. */
static __device__ __forceinline__ void
quantize_turn(const kept &k, const token_args &a, const kind c, float global_enc, uint32_t *words)
{
    uint32_t bytes = 0, care = 0;

#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, k.turn, j);
        if (fp4_row_has_any(c.cut, k.turn, j)) {
            uint32_t needs_care;
            const fp4_part2 p =
                fp4_nvfp4_quantize_known_x16(WIDEN(k.v[j]), k.amax[j], global_enc, &needs_care);
            if (fp4_row_has(c.cut, k.turn, j)) {
                fp4_store_e2m1x16(codes_at(a, c, k.row, piece), p.q);
                bytes |= (uint32_t)p.sf << 8 * j;
                care |= needs_care;
            }
        }
    }
    if (fp4_ptx_any(0xffffffffu, care != 0)) {
        bytes = mend(a, c, k, global_enc);
    }
    if (c.four) {
        fp4_row_keep_sf(words, c.cut, k.turn, LANES, bytes);
    } else {
        fp4_row_store_sf(a.layout, a.sf, k.row, c.cut, k.turn, LANES, bytes);
    }
    if (!c.plain && a.sf_linear != NULL) {
        fp4_row_store_sf(FP4_LAYOUT_LINEAR, a.sf_linear, k.row, c.cut, k.turn, LANES, bytes);
    }
}

/* A row. */
static __device__ __forceinline__ void token_row(kept *k, const token_args &a, const kind c,
                                                 float smem[32], uint32_t *words)
{
    const float base_dec = a.base_device == NULL ? a.base_dec : *a.base_device;
    const float amax = row_amax(k, a, c, smem), global_enc = fp4_nvfp4_token_enc(amax, base_dec);

    if (c.beside && k->row >= a.rows) {
        fp4_row_keep_padding(words, c.cut, LANES);
        return;
    }
    if (threadIdx.x == 0) {
        a.token_dec[k->row] = fp4_nvfp4_token_dec(amax, global_enc);
    }
    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        if (fp4_row_turns(c.cut) > 1 && k->turn != turn) {
            load_turn(k, a, c, turn);
        }
        quantize_turn(*k, a, c, global_enc, words);
    }
}

/* The CTA's row, or one of those that it has side by side, each of a warp; these may be too many.
 */
static __device__ __forceinline__ void token_one_row(const token_args &a, const kind c,
                                                     uint32_t beside)
{
    __shared__ float smem[32];
    kept k;

    fp4_pdl_wait();
    k.row = beside == 1 ? blockIdx.x : blockIdx.x * beside + threadIdx.y;
    if (k.row < a.rows) {
        token_row(&k, a, c, smem, NULL);
    } else if (beside == 1 || k.row < fp4_sf_rows_padded(a.layout, a.rows)) {
        fp4_row_store_padding(a.layout, a.sf, k.row, c.cut, LANES);
    }
}

/* Four rows, one after the other; in the CTAs behind so many `fours` one. */
static __device__ __forceinline__ void token_four_rows(const token_args &a, const kind c,
                                                       uint32_t fours)
{
    __shared__ uint32_t words[FP4_ROW_FOUR][FP4_ROW_WORDS];
    __shared__ float smem[2][32];
    kept k;

    fp4_pdl_wait();
    k.row = fp4_row_of_four(a.layout, blockIdx.x, fours);
#pragma unroll 1 /* by the row's number: counted, as in 03, words spill */
    do {
        const uint32_t i = fp4_row_in_four(a.layout, k.row);
        if (k.row < a.rows) {
            token_row(&k, a, c, smem[i % 2], words[i]);
        } else {
            fp4_row_keep_padding(words[i], c.cut, LANES);
        }
        k.row += fp4_row_step_of_four(a.layout);
    } while (fp4_row_in_four(a.layout, k.row) != 0 && blockIdx.x < fours);
    fp4_ptx_barrier();
    k.row = fp4_row_of_four(a.layout, blockIdx.x, fours);
    fp4_row_store_four(a.layout, a.sf, blockIdx.x, fours, c.cut, LANES, words,
                       fp4_row_in_four(a.layout, k.row));
}

/* Four rows side by side: the CTA has a row of threads for each. */
static __device__ __forceinline__ void token_rows_beside(const token_args &a, const kind c)
{
    __shared__ uint32_t words[FP4_ROW_FOUR][FP4_ROW_WORDS];
    __shared__ float smem[FP4_ROW_FOUR][32];
    const uint32_t i = threadIdx.y;
    kept k;

    fp4_pdl_wait();
    k.row = fp4_row_of_four(a.layout, blockIdx.x, gridDim.x) + i * fp4_row_step_of_four(a.layout);
    token_row(&k, a, c, smem[i], words[i]);
    fp4_ptx_barrier();
    fp4_row_store_four(a.layout, a.sf, blockIdx.x, gridDim.x, c.cut, LANES, words, 0);
}

/* The kernels. Any rows; few rows, a piece a thread: it is latency that counts for these, and each
   constant is code less between launch and store. */
#define TOKEN_KERNEL(name, most, threads, each, full, one, plain) \
    static __global__ void __launch_bounds__(most, 1) name(const token_args a, uint32_t) \
    { \
        const uint32_t pieces = full ? threads * each : (uint32_t)(a.cols / 16); \
        const kind c = { \
            {threads, each, pieces, full ? each : 0, one, full && WHOLE}, plain, 0, 0}; \
        token_one_row(a, c, 1); \
    }

TOKEN_KERNEL(token_any, FP4_ROW_THREADS, blockDim.x, EACH, 0, 0, 0)
TOKEN_KERNEL(few_4096, 256, 256, 1, 1, 1, 1)
TOKEN_KERNEL(few_8192, 512, 512, 1, 1, 1, 1)
TOKEN_KERNEL(few_full, MOST, blockDim.x, 1, 1, 1, 1)
TOKEN_KERNEL(few_any, MOST, blockDim.x, 1, 0, 1, 0)

/* Rows of one turn. A kernel for each way to cut a row (row.h): it knows how many threads there
   are, and that all have their pieces but for the last; or, for two widths that gain by it
   (`full`), that too. Of rows that a warp can keep a CTA takes a few, or there are more CTAs than
   can be started in the time. four: of a tiled layout it takes four rows, side by side if they are
   short, else one after the other. */
#define CUT_KERNEL(each, threads, name, full, beside, resident, four) \
    static __global__ void __launch_bounds__(threads *beside, resident / (threads * beside)) \
        name##_##each##x##threads(const token_args a, uint32_t fours) \
    { \
        const uint32_t pieces = full ? threads * each : (uint32_t)(a.cols / 16); \
        const uint32_t sure = full ? each : each - 1; \
        const kind c = {{threads, each, pieces, sure, 1, WHOLE}, four, four, four && beside > 1}; \
        if (!four) { \
            token_one_row(a, c, beside); \
        } else if (beside > 1) { \
            token_rows_beside(a, c); \
        } else { \
            token_four_rows(a, c, fours); \
        } \
    }
#define BESIDE_OF(threads, four) (threads <= (four ? MOST_BESIDE : 32) ? FP4_ROW_FOUR : 1)
#define ONE_ROW(each, threads, name) \
    CUT_KERNEL(each, threads, name, 0, BESIDE_OF(threads, 0), RESIDENT_OF_ONE(each, threads), 0)
#define FOUR_ROWS(each, threads, name, full) \
    CUT_KERNEL(each, threads, name, full, BESIDE_OF(threads, 1), RESIDENT_OF_FOUR(each, threads), 1)
#define ENTRY(each, threads, name) (const void *)name##_##each##x##threads,

FP4_ROW_CUTS(ONE_ROW, one)
FP4_ROW_CUTS(FOUR_ROWS, four, 0)
FOUR_ROWS(4, 32, four_full, 1)
FOUR_ROWS(4, 64, four_full, 1)
static const void *const one_of[] = {FP4_ROW_CUTS(ENTRY, one)};
static const void *const four_of[] = {FP4_ROW_CUTS(ENTRY, four)};

/* ------------------------------------------------------------------------------ launcher */

static int is_bad(const token_args *a)
{
    return a->x == NULL || a->q == NULL || a->sf == NULL || a->token_dec == NULL ||  /* null */
           a->cols % BLOCK != 0 || a->cols > 0x7fffffffu || a->rows > 0x7fffff80u || /* shape */
           (unsigned)a->layout > 2 || a->x_stride < a->cols ||                       /* strides */
           a->x_stride > (size_t)-1 / ELEMENT / a->rows || a->x_stride * ELEMENT % 16 != 0 ||
           (size_t)a->x % 16 != 0 || (size_t)a->q % CODES != 0 || /* alignment */
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) ||
           (size_t)a->token_dec % 4 != 0 || /* numbers: base_dec and its reciprocal */
           (a->base_device != NULL ? (size_t)a->base_device % 4 != 0
                                   : !(a->base_dec > 0x1p-128f && a->base_dec <= FP4_F32_MAX));
}

/* Whether there are linear scales, and a row's are not aligned words of four, which the fastest
   kernels need (WHOLE). */
static int is_ragged(const token_args *a)
{
    return WHOLE && (a->layout == FP4_LAYOUT_LINEAR || a->sf_linear != NULL) &&
           (a->cols % (4 * BLOCK) != 0 || ((size_t)a->sf | (size_t)a->sf_linear) % 4 != 0);
}

/* Only token_any has all of it, and is slower. */
static int is_any(const token_args *a)
{
    return a->cols > FP4_ROW_KEPT || is_ragged(a);
}

/* Whether a CTA takes four rows. */
static int is_four(const token_args *a)
{
    return a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 16 == 0 && a->sf_linear == NULL &&
           a->cols <= FP4_ROW_KEPT &&
           a->rows * a->cols >= (fp4_row_threads(a->cols) <= MOST_BESIDE ? BESIDE : FOURS);
}

static const void *kernel_of(const token_args *a, int is_few, int four)
{
    if (is_few) {
        return a->cols % 512 != 0 || a->sf_linear != NULL || is_ragged(a) ? (const void *)few_any
               : a->cols == 4096                                          ? (const void *)few_4096
               : a->cols == 8192                                          ? (const void *)few_8192
                                                                          : (const void *)few_full;
    }
    if (is_any(a)) {
        return (const void *)token_any;
    }
    if (four) {
        return a->cols == 2048   ? (const void *)four_full_4x32
               : a->cols == 4096 ? (const void *)four_full_4x64
                                 : four_of[fp4_row_cut_number(a->cols)];
    }
    return one_of[fp4_row_cut_number(a->cols)];
}

/**
 * Quantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows = 0 or cols = 0 is no error.
 */
static cudaError_t token_quantize(const token_args *a, int pdl, cudaStream_t stream)
{
    const size_t pieces = a->cols / 16;
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    uint32_t fours = 0;
    void *arguments[] = {(void *)a, &fours};
    const uint32_t threads = fp4_row_threads(a->cols);
    const int is_few = a->rows <= FEW_ROWS && a->rows * pieces <= FEW && pieces <= MOST;
    const int four = !is_few && is_four(a);

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)fp4_sf_rows_padded(a->layout, a->rows));
    config.blockDim = dim3(threads);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    if (is_few) {
        config.blockDim = dim3((unsigned)((pieces + 31) / 32 * 32));
    } else if (four && threads > MOST_BESIDE) {
        fours = fp4_row_fours(config.gridDim.x, ALONE / a->cols);
        config.gridDim.x -= 3 * fours;
    } else if (!is_any(a)) {
        config.blockDim.y = BESIDE_OF(threads, four);
        config.gridDim.x = (config.gridDim.x + config.blockDim.y - 1) / config.blockDim.y;
    }
    return cudaLaunchKernelExC(&config, kernel_of(a, is_few, four), arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "per_token: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with n elements of the input type, between from and from + 1. */
static void *elements(size_t n, float from)
{
    float *x = (float *)malloc(n * sizeof(float));
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = from + (float)(state >> 8) * 0x1p-24f;
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
                      : cudaMemset(p, 0x7f, bytes));
    return p;
}

static void *host(const void *p, size_t bytes)
{
    void *copy = malloc(bytes);

    must(cudaMemcpy(copy, p, bytes, cudaMemcpyDeviceToHost));
    return copy;
}

/* Median of 20 launches. Their input is in the second-level cache in part, as after the kernel that
   made it. */
static void measure(const token_args *a, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(token_quantize(a, 0, 0));
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
    const size_t q_bytes = fp4_q_bytes(format, rows, cols);
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    const size_t bytes = rows * cols * ELEMENT;
    void *x = elements(rows * cols, -0.5f);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, 1.0f};
    token_args a = {};
    fp4_tensor got, expected;
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    fp4_status status;
    int same;

    a.x = device(x, bytes);
    a.rows = rows;
    a.cols = a.x_stride = cols;
    a.base_dec = 1.0f / 2688.0f;
    a.q = (uint8_t *)device(NULL, q_bytes);
    a.sf = (uint8_t *)device(NULL, sf_bytes);
    a.token_dec = (float *)device(NULL, rows * sizeof(float));
    a.layout = layout;
    must(token_quantize(&a, 0, 0));
    got = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)host(a.q, q_bytes), q_bytes,
                          (uint8_t *)host(a.sf, sf_bytes), sf_bytes);
    expected = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                               (uint8_t *)malloc(sf_bytes), sf_bytes);
    expected.row_dec = (float *)malloc(rows * sizeof(float));
    got.row_dec = (float *)host(a.token_dec, rows * sizeof(float));
    got.row_dec_bytes = expected.row_dec_bytes = rows * sizeof(float);
    status = fp4_ref_nvfp4_quantize_tokens(m, a.base_dec, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    got.global_dec = expected.global_dec;
    same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    if (same && is_timed) {
        measure(&a, (double)(bytes + q_bytes + sf_bytes));
    }
    return same;
}

int main(void)
{
    printf("%s to %s, a scale a token\n", TEXT(INPUT), TEXT(FORMAT));
    /* few rows, a ragged end, several turns, and what is timed */
    return !(check(1, 4096, FP4_LAYOUT_128X4, 0) && check(130, 96, FP4_LAYOUT_8X4, 0) &&
             check(3, 20000 / BLOCK * BLOCK, FP4_LAYOUT_LINEAR, 0) &&
             check(32768, 4096, FP4_LAYOUT_128X4, 1));
}
#endif

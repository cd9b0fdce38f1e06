/*
 * 07_fake_quant.cu - what is left of a matrix after 4 (or 8) bits, as floats: quantized and
 * dequantized at once, codes not stored. For training and for calibration, with the amax of each
 * block found (dynamic) or given (static), and with bits that say which elements were clipped, for
 * a straight-through gradient.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/07_fake_quant.cu -o fake_quant && ./fake_quant
 *
 * To change the input type, the output type or the rule, edit one word below (or -DRULE=mxfp4).
 *
 *     nvfp4, mxfp4, mxfp8, nvfp4_32, mxfp4_16    what 06_dequantize makes of the bytes of the host
 *                                                reference; the first three are 01_quantize's too
 *     modelopt                                   NVIDIA ModelOpt's rules (fp4/modelopt.h): its
 *                                                fp4_fake_quant_block, with amaxes given its
 *                                                static_blockwise_fp4_fake_quant
 *     cast                                       its static_blockwise_fp4_cast: no scales
 *
 * How it works: a thread has 16 columns of one to four rows, and loads them all before it works on
 * the first. Neighbouring threads have neighbouring columns; two share a block of 32, up to
 * eight a longer one of modelopt.
 */
#include <fp4/device/dequant.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>
#include <fp4/divisor.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(OUTPUT)
#define OUTPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(RULE)
#define RULE nvfp4 /* see above */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16 /* registers of 16 elements as in memory */
#define WORDS_f16 8
#define WORDS_bf16 8
#define RESIDENT_f32 4
#define RESIDENT_f16 5
#define RESIDENT_bf16 6
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
#define STORE_f32(p, w, left) fp4_store_u32x16_by_four(p, w, left)
#define STORE_f16(p, w, left) fp4_store_u32x8(p, w)
#define STORE_bf16(p, w, left) fp4_store_u32x8(p, w)
#define LANES_nvfp4 1 /* pieces of 16 elements that share a scale */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define LANES_mxfp8 2
#define LANES_modelopt 1
#define LANES_cast 1
#define EACH_nvfp4 3 /* rows a thread, measured on sm_90; one where there are few */
#define EACH_nvfp4_32 3
#define EACH_mxfp4 2
#define EACH_mxfp4_16 2
#define EACH_mxfp8 1
#define EACH_modelopt 3
#define EACH_cast 4
#define FAKE_nvfp4 fake_nvfp4
#define FAKE_nvfp4_32 fake_nvfp4
#define FAKE_mxfp4 fake_mxfp4
#define FAKE_mxfp4_16 fake_mxfp4
#define FAKE_mxfp8 fake_mxfp8
#define FAKE_modelopt fake_modelopt
#define FAKE_cast fake_cast
#define IS_OURS_nvfp4 1
#define IS_OURS_nvfp4_32 1
#define IS_OURS_mxfp4 1
#define IS_OURS_mxfp4_16 1
#define IS_OURS_mxfp8 1
#define IS_OURS_modelopt 0
#define IS_OURS_cast 0
#define ONE_f32(p, i) (((const float *)(p))[i]) /* an element alone */
#define ONE_f16(p, i) fp4_f16_to_f32(((const uint16_t *)(p))[i])
#define ONE_bf16(p, i) fp4_bf16_to_f32(((const uint16_t *)(p))[i])
#define PUT_f32(p, i, x) (((float *)(p))[i] = (x))
#define PUT_f16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_f16(x))
#define PUT_bf16(p, i, x) (((uint16_t *)(p))[i] = fp4_f32_to_bf16(x))
#define GLOBAL_nvfp4 1 /* has a number for the tensor */
#define GLOBAL_nvfp4_32 1
#define GLOBAL_mxfp4 0
#define GLOBAL_mxfp4_16 0
#define GLOBAL_mxfp8 0
#define GLOBAL_modelopt 1
#define GLOBAL_cast 0

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define OUT_WORDS JOIN(WORDS_, OUTPUT, )
#define NARROW JOIN(NARROW_, OUTPUT, )
#define STORE JOIN(STORE_, OUTPUT, )
#define FAKE JOIN(FAKE_, RULE, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an input element */
    OUT_ELEMENT = OUT_WORDS / 4,
    LANES = JOIN(LANES_, RULE, ),
    BLOCK = 16 * LANES, /* elements that share a scale */
    IS_OURS = JOIN(IS_OURS_, RULE, ),
    HAS_GLOBAL = JOIN(GLOBAL_, RULE, ),
    IS_MODELOPT = HAS_GLOBAL && !IS_OURS,
    THREADS = 128,
    EACH = JOIN(EACH_, RULE, ),
    /* CTAs of a multiprocessor, measured on sm_90, as many as do not spill */
    RESIDENT = IS_MODELOPT && FP4_ARCH == 900 ? JOIN(RESIDENT_, INPUT, ) : 1
};

/* Up to so many pieces one row a thread is faster than EACH; measured on an H200. */
#if !defined(SMALL)
#define SMALL (1 << 18)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * shape    x, y: rows x cols, row r at element r * x_stride, r * y_stride; cols: whole blocks, less
 *          than 2^35. x, y and their strides aligned to 16 bytes. But where pieces of 16 are not
 *          whole, as cast and modelopt with amax may have it (cols % 16 != 0, or block % 16 != 0),
 *          no gaps, x_stride = y_stride = cols, and x and y aligned to their elements; slower.
 *          In place, y = x: elements of the same size, the same stride. No other overlap.
 * global   nvfp4: the global_enc of rows r at global_device[r / global_rows], of all where
 *          global_rows is 0; or, where that is null, `global` for all. Positive and finite,
 *          and so its reciprocal (above 2^-128).
 *          modelopt: likewise the largest amax of the tensor, if fp8_max is not 0 or there is no
 *          amax. Else, and of other rules, not looked at.
 * amax     null, or the amax of each block, row-major; not negative, not NaN. What exceeds it is
 *          clipped.
 * block    modelopt: the length of its blocks, which divides cols; without amax 16, 32, 64 or 128.
 *          Others: not used.
 * fp8_max  modelopt with amax: 448; 256 leaves room above; 0: scales are not rounded to e4m3.
 * clipped  null, or ceil(rows * cols / 8) bytes, aligned to 2 where pieces are whole: bit i % 8 of
 *          byte i / 8 is 1 where element i = row * cols + col was more than the largest code:
 *          |x * enc| > 6 (mxfp8: 448), of modelopt and cast |x| / scale > 6. NaN is not. Bits
 *          behind the last are 0. Where an nvfp4 scale byte underflows to 0, y is 0 and enc is
 *          FLT_MAX: every |x| above 1.8e-38 is clipped. Where a static modelopt scale is 0, y is 0
 *          too, but here the scale counts as 1: |x| > 6.
 */
typedef struct fake_args {
    void *y;
    const void *x;
    size_t rows, cols, x_stride, y_stride;
    const float *global_device;
    size_t global_rows;
    float global;
    const float *amax;
    size_t block;
    float fp8_max;
    uint8_t *clipped;
} fake_args;

/* ------------------------------------------------------------------------------ the rules */

/* What a piece is quantized with. */
typedef struct numbers {
    float global;                         /* of its tensor, row or part of it */
    fp4_modelopt_level level;             /* modelopt: what follows from that, if is_static */
    float dynamic_dec;                    /* if not */
    float amax;                           /* of its block, if that is given: is_static */
    int lanes;                            /* pieces of a block, if it is not: modelopt */
    int is_static, wants_clipped, is_f32; /* is_f32: scales are not rounded to e4m3 */
} numbers;

static __device__ int is_static(const fake_args &a)
{
    return (IS_OURS || IS_MODELOPT) && a.amax != NULL;
}

static __device__ void set_global(numbers *n, const fake_args &a, size_t row)
{
    n->global = a.global_device == NULL ? a.global
                : a.global_rows == 0    ? a.global_device[0]
                                        : a.global_device[row / a.global_rows];
    if (IS_MODELOPT && n->is_static) {
        n->level = fp4_modelopt_level_of(n->global, a.fp8_max == 256.0f ? 256.0f : 448.0f);
    } else if (IS_MODELOPT) {
        n->dynamic_dec = fp4_modelopt_dynamic_dec(n->global);
    }
}

static __device__ __forceinline__ numbers numbers_of(const fake_args &a, size_t row,
                                                     const int is_long)
{
    numbers n = {};

    n.is_static = !is_long && is_static(a);
    if (HAS_GLOBAL) {
        set_global(&n, a, row);
    }
    n.lanes = is_long ? (int)(a.block / 16) : LANES;
    n.wants_clipped = a.clipped != NULL;
    n.is_f32 = a.fp8_max == 0.0f;
    return n;
}

/* ModelOpt's scale of a block whose amax is given. */
static __device__ float modelopt_scale(const numbers &n)
{
    return n.is_f32 ? fp4_modelopt_scale_f32(n.amax) : fp4_modelopt_cvt_scale_at(n.amax, n.level);
}

/* A piece as it comes out, and its bits. */
typedef struct faked {
    fp4_f32x16 y;
    uint32_t clipped;
} faked;

[[maybe_unused]] static __device__ __forceinline__ faked fake_nvfp4(fp4_f32x16 x, const numbers &n)
{
    const float global_dec = fp4_nvfp4_global_dec(n.global);
    fp4_part2 p;
    faked f;

    if (n.is_static) {
        p = fp4_nvfp4_quantize_given_x16(x, n.amax, n.global);
    } else if (LANES == 1) {
        const fp4_nvfp4_block b = fp4_nvfp4_quantize(x, n.global);
        p.q[0] = b.q[0];
        p.q[1] = b.q[1];
        p.sf = b.sf;
    } else {
        uint32_t care;
        const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(x), LANES);
        p = fp4_nvfp4_quantize_known_x16(x, amax, n.global, &care);
        if (fp4_ptx_any(0xffffffffu, care != 0)) {
            p = fp4_nvfp4_quantize_any_x16(x, LANES, n.global);
        }
    }
    f.y = fp4_nvfp4_dequantize(p.q, p.sf, global_dec);
    f.clipped = 0;
    if (n.wants_clipped) {
        const float enc = fp4_nvfp4_enc(fp4_cvt_e4m3_to_f32(p.sf), n.global);
        f.clipped = fp4_clipped_x16(x, enc, FP4_E2M1_MAX);
    }
    return f;
}

[[maybe_unused]] static __device__ __forceinline__ faked fake_mxfp4(fp4_f32x16 x, const numbers &n)
{
    fp4_part2 p;
    faked f;

    if (n.is_static) {
        p = fp4_mxfp4_quantize_given_x16(x, n.amax);
    } else if (LANES == 2) {
        p = fp4_mxfp4_quantize_x16(x);
    } else {
        uint32_t care;
        p = fp4_mxfp4_quantize_known_x16(x, fp4_amax_or_nan_x16(x), &care);
        if (care) {
            p = fp4_mxfp4_quantize_any_x16(x, LANES);
        }
    }
    f.y = fp4_mxfp4_dequantize_x16(p.q, p.sf);
    f.clipped = n.wants_clipped ? fp4_clipped_x16(x, fp4_e8m0_to_enc(p.sf), FP4_E2M1_MAX) : 0;
    return f;
}

[[maybe_unused]] static __device__ __forceinline__ faked fake_mxfp8(fp4_f32x16 x, const numbers &n)
{
    const fp4_part4 p =
        n.is_static ? fp4_mxfp8_quantize_given_x16(x, n.amax) : fp4_mxfp8_quantize_x16(x);
    faked f;

    f.y = fp4_mxfp8_dequantize_x16(p.q, p.sf);
    f.clipped = n.wants_clipped ? fp4_clipped_x16(x, fp4_e8m0_to_enc(p.sf), FP4_E4M3_MAX) : 0;
    return f;
}

[[maybe_unused]] static __device__ __forceinline__ faked fake_modelopt(fp4_f32x16 x,
                                                                       const numbers &n)
{
    float scale;
    faked f;

    if (n.is_static) {
        scale = modelopt_scale(n);
    } else {
        const float amax = fp4_group_max(fp4_amax_of_numbers_x16(x), n.lanes);
        scale = fp4_modelopt_cvt_dynamic_scale_at(amax, n.dynamic_dec);
    }
    f.y = fp4_modelopt_fake_x16(x, scale, n.wants_clipped, &f.clipped);
    return f;
}

[[maybe_unused]] static __device__ __forceinline__ faked fake_cast(fp4_f32x16 x, const numbers &n)
{
    faked f;

    f.y = fp4_modelopt_fake_x16(x, 1.0f, n.wants_clipped, &f.clipped);
    return f;
}

/* ------------------------------------------------------------------------------ kernels */

/* How the grid is cut: CTAs next to each other. And rows: into blocks whose amaxes are given, of so
   many pieces. */
typedef struct fake_grid {
    uint32_t across;
    uint32_t blocks;
    fp4_divisor in_block;
} fake_grid;

/* is_long: modelopt, amaxes of blocks of more than 16 are found. */
static __device__ __forceinline__ void fake_tile(const fake_args &a, const fake_grid &g,
                                                 const uint32_t each, const int is_long)
{
    const uint32_t pieces = (uint32_t)(a.cols / 16);
    const uint32_t col = blockIdx.x % g.across * blockDim.x + threadIdx.x;
    const size_t row = ((size_t)(blockIdx.x / g.across) * blockDim.y + threadIdx.y) * each;
    [[maybe_unused]] const uint32_t four = col / 4 * 4; /* the first of the columns around */
    const int is_col = col < pieces; /* the lanes beside are there for the group */
    const size_t x_row = a.x_stride * ELEMENT, y_row = a.y_stride * OUT_ELEMENT;
    const uint8_t *x = (const uint8_t *)a.x + col * (size_t)(16 * ELEMENT);
    uint8_t *y = (uint8_t *)a.y + col * (size_t)(16 * OUT_ELEMENT);
    const uint32_t amax_col = fp4_divide(is_col ? col : 0, g.in_block);
    float amax[EACH] = {};
    raw v[EACH] = {}; /* not what is anybody else's: in place it may be written by now */

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        if (is_col && row + j < a.rows) {
            v[j] = LOAD(x + (row + j) * x_row);
        }
    }
    if (!is_long && is_static(a)) {
#pragma unroll
        for (uint32_t j = 0; j < each; j++) {
            amax[j] = a.amax[(row + j < a.rows ? row + j : 0) * g.blocks + amax_col];
        }
    }
    numbers n = numbers_of(a, row < a.rows ? row : 0, is_long);
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < each; j++) {
        const size_t r = row + j;
        const int is_here = r < a.rows && is_col;
        if (HAS_GLOBAL && j > 0 && a.global_rows != 0 && is_here) {
            set_global(&n, a, r);
        }
        n.amax = amax[j];
        const faked f = FAKE(WIDEN(v[j]), n);
        if (is_here || OUT_ELEMENT == 4) { /* f32: four lanes store together */
            STORE(y + r * y_row, NARROW(f.y), r < a.rows && four < pieces ? pieces - four : 0);
        }
        if (is_here && n.wants_clipped) {
            ((uint16_t *)a.clipped)[r * pieces + col] = (uint16_t)f.clipped;
        }
    }
}

static __global__ void __launch_bounds__(THREADS, RESIDENT)
    fake_rows(const fake_args a, const fake_grid g)
{
    fake_tile(a, g, EACH, 0);
}

static __global__ void __launch_bounds__(THREADS) fake_few(const fake_args a, const fake_grid g)
{
    fake_tile(a, g, 1, 0);
}

/* The same for longer blocks of modelopt whose amax is found. Kernels of their own: where the
   compiler does not know the length, blocks of 16 pay for it too, and few rows spill on sm_120. */
static __global__ void __launch_bounds__(THREADS, RESIDENT)
    fake_long_rows(const fake_args a, const fake_grid g)
{
    if (IS_MODELOPT) {
        fake_tile(a, g, EACH, 1);
    }
}

static __global__ void __launch_bounds__(THREADS)
    fake_long_few(const fake_args a, const fake_grid g)
{
    if (IS_MODELOPT) {
        fake_tile(a, g, 1, 1);
    }
}

/* modelopt with blocks of any length, and cast, of a matrix without gaps: 8 elements a thread. */
static __global__ void __launch_bounds__(THREADS) fake_any(const fake_args a)
{
    const size_t first = ((size_t)blockIdx.x * THREADS + threadIdx.x) * 8, n = a.rows * a.cols;
    uint32_t bits = 0;

    fp4_pdl_wait();
    fp4_pdl_trigger();
    if (first >= n) {
        return;
    }
    numbers k = numbers_of(a, first / a.cols, 0);
#pragma unroll 1
    for (uint32_t i = 0; i < 8 && first + i < n; i++) {
        const float x = JOIN(ONE_, INPUT, )(a.x, first + i);
        float scale = 1.0f;
        if (IS_MODELOPT) {
            if (a.global_rows != 0) {
                set_global(&k, a, (first + i) / a.cols);
            }
            k.amax = a.amax[(first + i) / a.block];
            scale = modelopt_scale(k);
        }
        JOIN(PUT_, OUTPUT, )(a.y, first + i, fp4_modelopt_fake_static(x, scale));
        bits |= (uint32_t)fp4_modelopt_is_clipped(x, fp4_modelopt_divisor(scale)) << i;
    }
    if (a.clipped != NULL) {
        a.clipped[first / 8] = (uint8_t)bits;
    }
}

/* ------------------------------------------------------------------------------ launcher */

/* Positive, finite, and so is its reciprocal; an amax may be 0, and anything up to infinity. */
static int is_bad_global(float global)
{
    return IS_MODELOPT ? !(global >= 0.0f) : !(global > 0x1p-128f && global <= FP4_F32_MAX);
}

/* Whether anything follows from it. */
static int has_global(const fake_args *a)
{
    return HAS_GLOBAL && !(IS_MODELOPT && a->amax != NULL && a->fp8_max == 0.0f);
}

/* Whether fake_rows can do it; else fake_any has to. */
static int is_whole_pieces(const fake_args *a)
{
    return a->cols % 16 == 0 && (!IS_MODELOPT || a->amax == NULL || a->block % 16 == 0);
}

static int is_bad_strides(const fake_args *a)
{
    return a->x_stride < a->cols || a->x_stride > (size_t)-1 / ELEMENT / a->rows ||
           a->y_stride < a->cols || a->y_stride > (size_t)-1 / OUT_ELEMENT / a->rows ||
           (is_whole_pieces(a)
                ? a->x_stride * ELEMENT % 16 != 0 || (size_t)a->x % 16 != 0 ||
                      a->y_stride * OUT_ELEMENT % 16 != 0 || (size_t)a->y % 16 != 0
                : a->x_stride != a->cols || a->y_stride != a->cols || (size_t)a->x % ELEMENT != 0 ||
                      (size_t)a->y % OUT_ELEMENT != 0);
}

/* In place a warp reads only what it writes itself, later. */
static int is_bad_in_place(const fake_args *a)
{
    return a->y == a->x && ((int)ELEMENT != (int)OUT_ELEMENT || a->x_stride != a->y_stride);
}

/* An amax is found by lanes of a warp, 1, 2, 4 or 8 of them. */
static int is_bad_block(const fake_args *a)
{
    const size_t block = IS_OURS ? (size_t)BLOCK : IS_MODELOPT ? a->block : 1;

    return block == 0 || a->cols % block != 0 ||
           (IS_MODELOPT && a->amax == NULL &&
            (block < 16 || block > 128 || (block & (block - 1)) != 0));
}

static int is_bad(const fake_args *a)
{
    return a->x == NULL || a->y == NULL ||                  /* null */
           is_bad_block(a) || a->cols / 16 > 0x7fffffffu || /* shape */
           is_bad_strides(a) || is_bad_in_place(a) || (size_t)a->amax % 4 != 0 ||
           (is_whole_pieces(a) && (size_t)a->clipped % 2 != 0) ||
           (has_global(a) && (a->global_device == NULL ? is_bad_global(a->global)
                                                       : (size_t)a->global_device % 4 != 0)) ||
           (IS_MODELOPT && a->amax != NULL && a->fp8_max != 0.0f && a->fp8_max != 448.0f &&
            a->fp8_max != 256.0f);
}

static cudaError_t launch(const void *kernel, size_t ctas, uint32_t width, void **arguments,
                          int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    if (ctas > 0x7fffffffu) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)ctas);
    config.blockDim = dim3(width, THREADS / width);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/**
 * Fake-quantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the
 * host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, number or null pointer:
 *          nothing launched, nothing written. rows = 0 or cols = 0 is no error.
 */
static cudaError_t fake_quantize(const fake_args *args, int pdl, cudaStream_t stream)
{
    const size_t pieces = args->cols / 16;
    fake_args a = *args;
    fake_grid g;
    void *arguments[] = {&a, &g};
    uint32_t width = THREADS, in_block;
    size_t down, each = EACH;
    const void *kernel;
    int is_long;

    if (a.rows == 0 || a.cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(&a)) {
        return cudaErrorInvalidValue;
    }
    if (!has_global(&a)) {
        a.global_device = NULL;
        a.global_rows = 0;
    }
    if (!IS_OURS && !is_whole_pieces(&a)) {
        return launch((const void *)fake_any, (a.rows * a.cols / 8 + THREADS) / THREADS, THREADS,
                      arguments, pdl, stream);
    }
    in_block = IS_MODELOPT && a.amax != NULL ? (uint32_t)(a.block / 16) : (uint32_t)LANES;
    g.blocks = (uint32_t)(pieces / in_block);
    g.in_block = fp4_divisor_of(in_block);
    while (width > 4 && (pieces + pieces / 8) / width * width < pieces) {
        width /= 2; /* until no more than an eighth is wasted; a block stays in one row of it */
    }
    g.across = (uint32_t)((pieces + width - 1) / width);
    if (a.rows * pieces <= SMALL) {
        each = 1;
    }
    is_long = IS_MODELOPT && a.amax == NULL && a.block > 16;
    kernel = each == 1 ? (is_long ? (const void *)fake_long_few : (const void *)fake_few)
                       : (is_long ? (const void *)fake_long_rows : (const void *)fake_rows);
    down = (a.rows + each * (THREADS / width) - 1) / (each * (THREADS / width));
    return down > 0x7fffffffu ? cudaErrorInvalidValue
                              : launch(kernel, down * g.across, width, arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/fake.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define RULE_nvfp4 FP4_FAKE_NVFP4
#define RULE_mxfp4 FP4_FAKE_MXFP4
#define RULE_mxfp8 FP4_FAKE_MXFP8
#define RULE_nvfp4_32 FP4_FAKE_NVFP4_32
#define RULE_mxfp4_16 FP4_FAKE_MXFP4_16
#define RULE_modelopt FP4_FAKE_MODELOPT
#define RULE_cast FP4_FAKE_CAST
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "fake_quant: %s\n", cudaGetErrorString(error));
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

/* Whether these bytes stand on the device. */
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
static void measure(const fake_args *a)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(fake_quantize(a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %.1f us, %.0f GB/s\n", 1e3 * ms[10],
           1e-6 * (double)(a->rows * a->cols * (ELEMENT + OUT_ELEMENT)) / ms[10]);
}

/* Values and bits of the kernel and of its host twin; then, where that is asked for, its speed. */
static int check(size_t rows, size_t cols, int is_static, int is_timed)
{
    const size_t n = rows * cols, blocks = n / BLOCK;
    void *x = elements(n), *y = malloc(n * OUT_ELEMENT);
    float *amax = (float *)malloc(blocks * sizeof(float));
    uint8_t *clipped = (uint8_t *)malloc(n / 8);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, 1.0f};
    fp4_fake fake = {
        JOIN(RULE_, RULE, ), IS_MODELOPT ? 8.0f : 336.0f, NULL, 0, NULL, BLOCK, 448.0f};
    fake_args a = {};
    int is_same;

    for (size_t i = 0; i < blocks; i++) {
        amax[i] = 0.01f * (float)(i % 300);
    }
    fake.amax = is_static ? amax : NULL;
    a.y = device(NULL, n * OUT_ELEMENT);
    a.x = device(x, n * ELEMENT);
    a.rows = rows;
    a.cols = a.x_stride = a.y_stride = cols;
    a.global = fake.global;
    a.amax = is_static ? (const float *)device(amax, blocks * sizeof(float)) : NULL;
    a.block = fake.block;
    a.fp8_max = fake.fp8_max;
    a.clipped = (uint8_t *)device(NULL, n / 8);
    must(fake_quantize(&a, 0, 0));
    if (fp4_ref_fake_quantize(m, &fake, JOIN(DTYPE_, OUTPUT, ), y, n * OUT_ELEMENT, cols, clipped,
                              n / 8) != FP4_OK) {
        return 0;
    }
    is_same = same(a.y, y, n * OUT_ELEMENT) && same(a.clipped, clipped, n / 8);
    printf("%zu x %zu, amaxes %s, device and host: %s\n", rows, cols, is_static ? "given" : "found",
           is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        a.clipped = NULL;
        measure(&a);
    }
    free(x);
    free(y);
    free(amax);
    free(clipped);
    return is_same;
}

int main(void)
{
    printf("%s to %s by %s\n", TEXT(INPUT), TEXT(OUTPUT), TEXT(RULE));
    return !(check(1, 64, 0, 0) && check(130, 4192, 1, 0) && check(16384, 8192, 0, 1) &&
             check(16384, 8192, 1, 1));
}
#endif

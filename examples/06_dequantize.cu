/*
 * 06_dequantize.cu - NVFP4, MXFP4 or MXFP8 back to floats: a matrix or a batch of them with the
 * scale bytes in any layout; and e2m1 codes with e4m3, e8m0 or f32 scales for blocks of any length.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/06_dequantize.cu -o dequantize && ./dequantize
 *
 * To change the format, the output type or the rule, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: a thread makes 16 bytes of four rows of the output, neighbours in a row by
 * neighbours, so that every store of a warp is one run of bytes. (32 bytes a thread, stored in two
 * halves, would leave gaps in each store.) The four rows are those whose scale bytes stand in one
 * word of 16 bytes in the tiled layouts: rows r, r + 32, r + 64, r + 96 in 128x4, four neighbours
 * in 8x4. All their codes are loaded before the first is decoded.
 */
#include <fp4/device/dequant.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/store.cuh>
#include <fp4/divisor.h>
#include <fp4/layout.h>
#include <fp4/scale.h>

#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8; nvfp4_32, mxfp4_16: with blocks of that length */
#endif
#if !defined(OUTPUT)
#define OUTPUT bf16 /* f32, f16, bf16 */
#endif

#if !defined(RULE)
#define RULE ours /* ours, modelopt: what NVIDIA ModelOpt's quantized tensors make of their bytes */
#endif

/* What the words stand for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define ELEMENT_f32 4 /* bytes of an output element */
#define ELEMENT_f16 2
#define ELEMENT_bf16 2
#define NARROW_f32(x) first_four(x)
#define NARROW_f16(x) fp4_f32x8_to_f16x8(x)
#define NARROW_bf16(x) fp4_f32x8_to_bf16x8(x)
#define BLOCK_nvfp4 16 /* elements that share a scale byte */
#define BLOCK_nvfp4_32 32
#define BLOCK_mxfp4 32
#define BLOCK_mxfp4_16 16
#define BLOCK_mxfp8 32
#define BITS_nvfp4 4 /* of a code */
#define BITS_nvfp4_32 4
#define BITS_mxfp4 4
#define BITS_mxfp4_16 4
#define BITS_mxfp8 8
#define IS_NVFP4_nvfp4 1 /* has a global scale */
#define IS_NVFP4_nvfp4_32 1
#define IS_NVFP4_mxfp4 0
#define IS_NVFP4_mxfp4_16 0
#define IS_NVFP4_mxfp8 0
#define IS_MODELOPT_ours 0
#define IS_MODELOPT_modelopt 1

#define NARROW JOIN(NARROW_, OUTPUT, )

enum {
    ELEMENT = JOIN(ELEMENT_, OUTPUT, ),
    PIECE = 16 / ELEMENT, /* elements a thread and row: 16 bytes of them */
    BITS = JOIN(BITS_, FORMAT, ),
    CODES = PIECE * BITS / 8, /* bytes of their codes */
    BLOCK = JOIN(BLOCK_, FORMAT, ),
    IS_NVFP4 = JOIN(IS_NVFP4_, FORMAT, ),
    IS_MODELOPT = JOIN(IS_MODELOPT_, RULE, ),
    THREADS = 128,
    EACH = 4,       /* rows a thread: what a word of 16 scale bytes has, and loads in flight */
    BLOCKS_EACH = 2 /* pieces a thread, of blocks of any length */
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * A global scale: a number, or where on the device it is: device[batch * batch_step + row *
 * row_step]. It multiplies what is decoded; is_enc: it is one that was multiplied by before, to be
 * turned round.
 */
typedef struct dequantize_scale {
    const float *device;
    int is_enc;
    float value;
    size_t row_step, batch_step;
} dequantize_scale;

/**
 * shape    q: batches * rows * cols codes, row-major; cols whole blocks. sf: batches *
 *          fp4_sf_bytes(layout, rows, cols / BLOCK) bytes. y: row r of batch b starts at element
 *          b * batch_stride + r * row_stride; no two rows may share one: row_stride >= cols, and
 *          batches lie one behind the other or row by row between each other.
 *          y, row_stride, batch_stride: multiples of 16 bytes. q: 8-byte aligned. sf: 16-byte
 *          aligned unless it is linear. y overlaps no input.
 * limits   rows up to 2^31 - 128, cols up to 2^32 - 16.
 * global   NVFP4: +0 or positive, finite; of one on the device that is not, elements are what the
 *          products give. On the device: 4-byte aligned. Other formats ignore it and the
 *          association.
 * range    a NaN scale byte gives NaNs; zero codes keep their sign, but are NaN with
 *          FP4_SCALES_FIRST where sf * global overflows (fp4_association in types.h).
 * rule     modelopt: of batches as fp4_ref_modelopt_dequantize has it: the scales first, whatever
 *          the association says; code 8 of NVFP4 is +0, the MX scale bytes 0 and 255 are
 *          2^-127 - 2^-149 and infinity. Of blocks of any length nothing changes: its
 *          fp4_dequantize is ours.
 */
typedef struct dequantize_args {
    void *y;
    const uint8_t *q, *sf;
    dequantize_scale global;
    fp4_association association;
    fp4_layout layout;
    size_t batches, rows, cols, row_stride, batch_stride;
} dequantize_args;

/** What the scales of blocks of any length are. */
typedef enum blocks_scale { BLOCKS_E4M3, BLOCKS_E8M0, BLOCKS_F32 } blocks_scale;

/**
 * n e2m1 codes, one after the other, with a scale for each `block` of them: y[i] = (code *
 * sf[i / block]) * global, or the other association. A matrix is that if its rows are whole blocks.
 *
 * shape    n: even; block: any that divides it. q: n / 2 bytes, 8-byte aligned. sf: n / block bytes
 *          or, aligned, floats. y: n elements, aligned to 16 bytes; overlaps no input.
 * global   multiplies whatever the format of this file, 1 for none: +0 or positive, finite. Its
 *          steps are not used.
 */
typedef struct blocks_args {
    void *y;
    const uint8_t *q;
    const void *sf;
    blocks_scale sf_type;
    dequantize_scale global;
    fp4_association association;
    size_t n, block;
} blocks_args;

/* ------------------------------------------------------------------------------ kernels */

/* How the grid is cut: CTAs next to each other, and below each other in a matrix. */
typedef struct dequantize_grid {
    uint32_t across, down;
} dequantize_grid;

static __device__ float scale_at(const dequantize_scale *s, size_t batch, size_t row)
{
    const float v =
        s->device == NULL ? s->value : s->device[batch * s->batch_step + row * s->row_step];
    return s->is_enc ? fp4_nvfp4_global_dec(v) : v;
}

/* The scale bytes of a thread's four rows. */
static __device__ fp4_u32x4 load_scales(const dequantize_args &a, const uint8_t *sf, uint32_t row,
                                        uint32_t step, uint32_t sf_col)
{
    const size_t sf_cols = a.cols / BLOCK;
    fp4_u32x4 bytes;

    if (a.layout == FP4_LAYOUT_LINEAR) {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const uint32_t r = row + j * step;
            bytes.v[j] = sf[(r < a.rows ? r : row) * sf_cols + sf_col];
        }
    } else {
        bytes = fp4_ptx_load16(sf + fp4_sf_offset(a.layout, row, sf_col / 4 * 4, sf_cols));
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            bytes.v[j] >>= 8 * (sf_col % 4);
        }
    }
    return bytes;
}

/* The first four of eight floats as they are. */
[[maybe_unused]] static __device__ fp4_u32x4 first_four(fp4_f32x8 x)
{
    const fp4_u32x4 w = {
        {fp4_f32_bits(x.v[0]), fp4_f32_bits(x.v[1]), fp4_f32_bits(x.v[2]), fp4_f32_bits(x.v[3])}};
    return w;
}

static __device__ fp4_u32x2 load_codes(const uint8_t *q)
{
    fp4_u32x2 v = {{0, 0}};

    if (CODES == 8) {
        return fp4_ptx_load8(q);
    }
    v.v[0] = CODES == 4 ? *(const uint32_t *)q : *(const uint16_t *)q;
    return v;
}

/* A piece, of which f32 uses half of what is decoded. */
static __device__ __forceinline__ fp4_u32x4 decode(fp4_u32x2 q, uint8_t sf, float global_dec,
                                                   fp4_association association)
{
    if (IS_MODELOPT) {
        return NARROW(BITS == 8  ? fp4_modelopt_mxfp8_dequantize_x8(q, sf)
                      : IS_NVFP4 ? fp4_modelopt_nvfp4_dequantize_x8(q.v[0], sf, global_dec)
                                 : fp4_modelopt_mxfp4_dequantize_x8(q.v[0], sf));
    }
    if (BITS == 8) {
        return NARROW(fp4_e4m3x8_dequantize(q, fp4_e8m0_to_f32(sf)));
    }
    return NARROW(fp4_e2m1x8_dequantize(
        q.v[0], IS_NVFP4 ? fp4_nvfp4_dec(sf, global_dec, association) : fp4_mxfp4_dec(sf)));
}

/* Of four-bit codes as what is written once: where y is large, nobody finds it in the cache. With
   eight bits that is slower. */
static __device__ __forceinline__ void store_y(uint8_t *y, fp4_u32x4 w)
{
    if (BITS == 4) {
        fp4_store_u32x4_cs(y, w);
    } else {
        fp4_store_u32x4(y, w);
    }
}

static __global__ void __launch_bounds__(THREADS)
    dequantize_rows(const dequantize_args a, const dequantize_grid g)
{
    const uint32_t col = blockIdx.x % g.across * blockDim.x + threadIdx.x;
    const uint32_t tile = blockIdx.x / g.across, pieces = (uint32_t)(a.cols / PIECE);
    const uint32_t four = tile % g.down * blockDim.y + threadIdx.y;
    const size_t batch = tile / g.down;
    const int is_128x4 = a.layout == FP4_LAYOUT_128X4;
    const uint32_t row = is_128x4 ? four / 32 * 128 + four % 32 : four * EACH;
    const uint32_t step = is_128x4 ? 32 : 1; /* to the thread's next row */
    const size_t q_row = (size_t)pieces * CODES, y_row = a.row_stride * ELEMENT;
    const uint8_t *q = a.q + (batch * a.rows + row) * q_row + col * (size_t)CODES;
    uint8_t *y = (uint8_t *)a.y + batch * a.batch_stride * ELEMENT + row * y_row + col * (size_t)16;
    fp4_u32x2 v[EACH];

    fp4_pdl_wait();
    if (col >= pieces || row >= a.rows) {
        return;
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        v[j] = load_codes(q + (row + j * step < a.rows ? j : 0) * (step * q_row));
    }
    const uint8_t *sf_matrix = a.sf + batch * fp4_sf_bytes(a.layout, a.rows, a.cols / BLOCK);
    const fp4_u32x4 sf = load_scales(a, sf_matrix, row, step, col / (BLOCK / PIECE));
    float dec = IS_NVFP4 ? scale_at(&a.global, batch, row) : 1.0f;
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t r = row + j * step;
        if (r < a.rows) {
            if (IS_NVFP4 && j > 0 && a.global.row_step != 0) {
                dec = scale_at(&a.global, batch, r);
            }
            store_y(y + j * (step * y_row), decode(v[j], (uint8_t)sf.v[j], dec, a.association));
        }
    }
}

/* A scale of blocks as it is in memory, and what it stands for. */
static __device__ uint32_t blocks_scale_bits(const blocks_args &a, size_t i)
{
    return a.sf_type == BLOCKS_F32 ? ((const uint32_t *)a.sf)[i] : ((const uint8_t *)a.sf)[i];
}

static __device__ float blocks_scale_of(const blocks_args &a, uint32_t bits)
{
    return a.sf_type == BLOCKS_F32    ? fp4_bits_f32(bits)
           : a.sf_type == BLOCKS_E4M3 ? fp4_cvt_e4m3_to_f32((uint8_t)bits)
                                      : fp4_e8m0_to_f32((uint8_t)bits);
}

/*
 * How the products of a launch are made:
 *
 *     (code * sf) * dec    of e4m3 scales: code * sf of halves, two at a time and exact, in units
 *                          (cvt.cuh); dec in units too, a power of two times dec, which is exact
 *                          below 2^114. So their product is that of code * sf and dec, rounded
 *                          once: the same float, subnormal, infinite or NaN though it be.
 *                          Other scales, and a dec from 2^114 on: two products of floats, each
 *                          rounded; one where dec is 1, which would change nothing.
 *     code * (sf * dec)    one product of floats
 */
typedef struct blocks_way {
    int scales_first, in_halves, is_twice;
    float dec, dec_units;
} blocks_way;

static __device__ blocks_way blocks_way_of(const blocks_args &a)
{
    blocks_way w;

    w.dec = scale_at(&a.global, 0, 0);
    w.dec_units = fp4_mul_rn(w.dec, fp4_e2m1_unit());
    w.scales_first = a.association == FP4_SCALES_FIRST;
    w.in_halves = a.sf_type == BLOCKS_E4M3 && !w.scales_first && fp4_ptx_abs(w.dec) < 0x1p+114f;
    w.is_twice = !w.scales_first && w.dec != 1.0f;
    return w;
}

/* What the codes of a block are multiplied by first. */
static __device__ float blocks_factor(const blocks_args &a, const blocks_way &w, uint32_t bits)
{
    const float scale = blocks_scale_of(a, bits);
    return w.scales_first ? fp4_mul_rn(scale, w.dec) : scale;
}

/* A piece as it is in memory: the scale of its first `left` elements, and that of the others. */
typedef struct blocks_piece {
    uint32_t codes, left, scale, next;
} blocks_piece;

static __device__ __forceinline__ fp4_f32x8 decode_piece(const blocks_args &a, const blocks_way &w,
                                                         const blocks_piece &p, const int has_two)
{
    fp4_f32x8 x;

    if (!has_two && w.in_halves) {
        return fp4_scale_x8(fp4_e2m1x8_times_e4m3_to_units(p.codes, (uint8_t)p.scale), w.dec_units);
    }
    x = fp4_e2m1x8_to_f32x8(p.codes);
    const float factor = blocks_factor(a, w, p.scale);
    if (has_two) {
        const float others = blocks_factor(a, w, p.next);
#pragma unroll
        for (uint32_t i = 0; i < PIECE; i++) {
            x.v[i] = fp4_mul_rn(x.v[i], i < p.left ? factor : others);
        }
    } else {
        x = fp4_scale_x8(x, factor);
    }
    return w.is_twice ? fp4_scale_x8(x, w.dec) : x;
}

/* Elements. To a CTA longer blocks are as long as this: what it counts with has 32 bits then, and
   it still has parts of two at most. */
#if !defined(LONG_BLOCK)
#define LONG_BLOCK (1 << 30)
#endif
FP4_STATIC_ASSERT(LONG_BLOCK >= BLOCKS_EACH * THREADS * PIECE, "a CTA has parts of two at most");

/* What the host knows of the length of blocks: its logarithm, or 64; the length as far as a CTA has
   to know it, and a divisor. Whether pieces have elements of more than one. */
typedef struct blocks_cut {
    uint32_t log2, block;
    fp4_divisor by;
    int has_two;
} blocks_cut;

/* A thread's two pieces from element `first` on, as far apart as the CTA has threads. Both are
   there. */
static __device__ __forceinline__ void dequantize_pieces(const blocks_args &a, const blocks_cut &c,
                                                         size_t first, const int has_two)
{
    const uint32_t apart = THREADS * PIECE;
    const size_t from = c.log2 < 64 ? first >> c.log2 : first / a.block;
    const size_t behind = (from + 1) * a.block - first; /* what the first piece's block still has */
    const uint32_t in = c.block - (behind < c.block ? (uint32_t)behind : c.block);
    const uint8_t *q = a.q + first / 2;
    uint8_t *y = (uint8_t *)a.y + first * ELEMENT;
    blocks_piece p[BLOCKS_EACH];
    uint32_t at[BLOCKS_EACH]; /* blocks behind `from` */

#pragma unroll
    for (uint32_t j = 0; j < BLOCKS_EACH; j++) {
        p[j].codes = PIECE == 8 ? *(const uint32_t *)(q + j * (apart / 2))
                                : *(const uint16_t *)(q + j * (apart / 2));
        at[j] = fp4_divide(in + j * apart, c.by);
        p[j].left = (at[j] + 1) * c.block - (in + j * apart);
    }
#pragma unroll
    for (uint32_t j = 0; j < BLOCKS_EACH; j++) {
        p[j].scale = blocks_scale_bits(a, from + at[j]);
        p[j].next = has_two && p[j].left < PIECE ? blocks_scale_bits(a, from + at[j] + 1) : 0;
    }
    const blocks_way w = blocks_way_of(a);
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < BLOCKS_EACH; j++) {
        fp4_store_u32x4_cs(y + j * (apart * ELEMENT), NARROW(decode_piece(a, w, p[j], has_two)));
    }
}

/* The codes of a piece, of which `here` are there: n is even, so that is whole bytes. */
static __device__ uint32_t load_some_codes(const uint8_t *q, uint32_t here)
{
    uint32_t v = 0;

    if (here == PIECE) {
        return PIECE == 8 ? *(const uint32_t *)q : *(const uint16_t *)q;
    }
#pragma unroll 1
    for (uint32_t i = 0; 2 * i < here; i++) {
        v |= (uint32_t)q[i] << 8 * i;
    }
    return v;
}

static __device__ void store_some(uint8_t *y, fp4_u32x4 w, uint32_t here)
{
    if (here == PIECE) {
        fp4_store_u32x4(y, w);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < PIECE; i++) {
        if (i < here && ELEMENT == 4) {
            ((uint32_t *)y)[i] = w.v[i % 4];
        } else if (i < here) {
            ((uint16_t *)y)[i] = (uint16_t)(w.v[i / 2] >> 16 * (i % 2));
        }
    }
}

/* The same of pieces with any number of blocks, and where they end, one by one. */
static __device__ __forceinline__ void dequantize_some(const blocks_args &a, size_t first)
{
    const blocks_way w = blocks_way_of(a);

    fp4_pdl_trigger();
#pragma unroll 1
    for (uint32_t j = 0; j < BLOCKS_EACH && first < a.n; j++) {
        const uint32_t here = a.n - first < PIECE ? (uint32_t)(a.n - first) : PIECE;
        fp4_f32x8 x = fp4_e2m1x8_to_f32x8(load_some_codes(a.q + first / 2, here));
        size_t at = first / a.block, left = (at + 1) * a.block - first;
        float factor = blocks_factor(a, w, blocks_scale_bits(a, at));
#pragma unroll
        for (uint32_t i = 0; i < PIECE; i++) {
            if (left == i && i < here) {
                factor = blocks_factor(a, w, blocks_scale_bits(a, ++at));
                left += a.block;
            }
            x.v[i] = fp4_mul_rn(x.v[i], factor);
        }
        x = w.is_twice ? fp4_scale_x8(x, w.dec) : x;
        store_some((uint8_t *)a.y + first * ELEMENT, NARROW(x), here);
        first += THREADS * PIECE;
    }
}

/* Blocks of any length. */
static __global__ void __launch_bounds__(THREADS)
    dequantize_any(const blocks_args a, const blocks_cut c)
{
    const size_t in_cta = BLOCKS_EACH * THREADS * PIECE, cta = blockIdx.x * in_cta;
    const size_t first = cta + threadIdx.x * PIECE;

    fp4_pdl_wait();
    if (a.block < PIECE || a.n - cta < in_cta) {
        dequantize_some(a, first);
    } else if (c.has_two) {
        dequantize_pieces(a, c, first, 1);
    } else {
        dequantize_pieces(a, c, first, 0);
    }
}

/* ------------------------------------------------------------------------------ launcher */

/* Negative (-0 too), NaN or infinite, or what becomes that. Device scales cannot be looked at here.
 */
static int is_bad_scale(const dequantize_scale *s)
{
    return s->device != NULL
               ? (size_t)s->device % 4 != 0
               : fp4_f32_bits(s->value) >= 0x7f800000u || (s->is_enc && s->value <= 0x1p-128f);
}

/* Rows of y that share elements, or such as no address reaches. */
static int is_bad_strides(const dequantize_args *a)
{
    const size_t most = (size_t)-1 / ELEMENT;

    if (a->row_stride < a->cols || a->row_stride > most / a->rows) {
        return 1;
    }
    return a->batches > 1 &&
           (a->batch_stride > most / a->batches ||
            (a->batch_stride < (a->rows - 1) * a->row_stride + a->cols && /* not behind, and */
             (a->batch_stride < a->cols ||                                /* not between */
              a->batch_stride > (a->row_stride - a->cols) / (a->batches - 1))));
}

static int is_bad(const dequantize_args *a)
{
    return a->y == NULL || a->q == NULL || a->sf == NULL ||                            /* null */
           a->cols % BLOCK != 0 || (unsigned)a->layout > 2 || a->rows > 0x7fffff80u || /* shape */
           a->cols > 0xfffffff0u || (unsigned)a->association > 1 ||
           a->rows * a->cols > (size_t)-1 / a->batches || is_bad_strides(a) || /* strides */
           a->row_stride * ELEMENT % 16 != 0 ||
           (a->batches > 1 && a->batch_stride * ELEMENT % 16 != 0) || (size_t)a->y % 16 != 0 ||
           (size_t)a->q % 8 != 0 || /* alignment */
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 16 != 0) ||
           (IS_NVFP4 && is_bad_scale(&a->global));
}

static int is_bad_blocks(const blocks_args *a)
{
    return a->y == NULL || a->q == NULL || a->sf == NULL || a->block == 0 || a->n % 2 != 0 ||
           a->n % a->block != 0 || (unsigned)a->association > 1 ||
           (unsigned)a->sf_type > BLOCKS_F32 || (size_t)a->y % 16 != 0 || (size_t)a->q % 8 != 0 ||
           (a->sf_type == BLOCKS_F32 && (size_t)a->sf % 4 != 0) || is_bad_scale(&a->global);
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
 * Dequantizes on `stream`: one launch, no allocation, no synchronization, nothing read on the host,
 * so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. batches, rows or cols = 0 is no error.
 */
static cudaError_t dequantize(const dequantize_args *a, int pdl, cudaStream_t stream)
{
    dequantize_grid g;
    void *arguments[] = {(void *)a, &g};
    uint32_t width = THREADS;
    size_t pieces = a->cols / PIECE, fours;

    if (a->batches == 0 || a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    while (width > 4 && (pieces + pieces / 8) / width * width < pieces) {
        width /= 2; /* until no more than an eighth of the columns is wasted */
    }
    fours = a->layout == FP4_LAYOUT_128X4 ? fp4_sf_rows_padded(a->layout, a->rows) / EACH
                                          : (a->rows + EACH - 1) / EACH;
    g.across = (uint32_t)((pieces + width - 1) / width);
    g.down = (uint32_t)((fours + THREADS / width - 1) / (THREADS / width));
    if (a->batches > 0x7fffffffu / g.across / g.down) {
        return cudaErrorInvalidValue;
    }
    return launch((const void *)dequantize_rows, a->batches * g.across * g.down, width, arguments,
                  pdl, stream);
}

/** The same for blocks of any length, as above. n = 0 is no error. */
static cudaError_t dequantize_blocks(const blocks_args *a, int pdl, cudaStream_t stream)
{
    blocks_cut c = {};
    void *arguments[] = {(void *)a, &c};

    if (a->n == 0) {
        return cudaSuccess;
    }
    if (is_bad_blocks(a)) {
        return cudaErrorInvalidValue;
    }
    while (c.log2 < 64 && (size_t)1 << c.log2 != a->block) {
        c.log2++;
    }
    c.block = a->block < LONG_BLOCK ? (uint32_t)a->block : (uint32_t)LONG_BLOCK;
    c.by = fp4_divisor_of(c.block);
    c.has_two = a->block % PIECE != 0;
    return launch((const void *)dequantize_any, a->n / (BLOCKS_EACH * PIECE * THREADS) + 1, THREADS,
                  arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/modelopt.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "dequantize: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with bytes of all kinds. */
static uint8_t *bytes_of(size_t n, uint32_t state)
{
    uint8_t *p = (uint8_t *)malloc(n);

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        p[i] = (uint8_t)(state >> 24);
    }
    return p;
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

/* Whether the device's elements are these. */
static int same(const char *what, const void *y, const uint8_t *expected, size_t bytes)
{
    uint8_t *got = (uint8_t *)malloc(bytes);
    size_t i = 0;

    must(cudaMemcpy(got, y, bytes, cudaMemcpyDeviceToHost));
    while (i < bytes && got[i] == expected[i]) {
        i++;
    }
    free(got);
    printf("%s, device and host: ", what);
    printf(i == bytes ? "same bytes\n" : "differ in element %zu\n", i / ELEMENT);
    return i == bytes;
}

/* Median of 20 launches. */
static void measure(const dequantize_args *a, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(dequantize(a, 0, 0));
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

static int check(size_t rows, size_t cols, fp4_layout layout, int is_timed)
{
    const fp4_format format = JOIN(FORMAT_, FORMAT, );
    const size_t q_bytes = fp4_q_bytes(format, rows, cols), y_bytes = rows * cols * ELEMENT;
    const size_t sf_bytes = fp4_sf_bytes(layout, rows, cols / BLOCK);
    uint8_t *q = bytes_of(q_bytes, 1), *sf = bytes_of(sf_bytes, 2);
    uint8_t *expected = (uint8_t *)malloc(y_bytes);
    fp4_tensor t = fp4_tensor_view(format, layout, rows, cols, q, q_bytes, sf, sf_bytes);
    dequantize_args a = {};
    char what[64];
    int is_same;

    for (size_t i = 0; IS_MODELOPT && i < sf_bytes; i++) { /* 0 * infinity is a NaN of its own */
        sf[i] = sf[i] == 255 ? 254 : sf[i];
    }
    t.global_dec = IS_NVFP4 ? 0.3f : 1.0f;
    a.y = device(NULL, y_bytes);
    a.q = (const uint8_t *)device(q, q_bytes);
    a.sf = (const uint8_t *)device(sf, sf_bytes);
    a.global.value = t.global_dec;
    a.layout = layout;
    a.batches = 1;
    a.rows = rows;
    a.cols = a.row_stride = cols;
    must(dequantize(&a, 0, 0));
    if ((IS_MODELOPT
             ? fp4_ref_modelopt_dequantize(&t, JOIN(DTYPE_, OUTPUT, ), expected, y_bytes, cols)
             : fp4_ref_dequantize_to(&t, a.association, JOIN(DTYPE_, OUTPUT, ), expected, y_bytes,
                                     cols)) != FP4_OK) {
        return 0;
    }
    snprintf(what, sizeof what, "%zu x %zu", rows, cols);
    is_same = same(what, a.y, expected, y_bytes);
    if (is_same && is_timed) {
        measure(&a, (double)(q_bytes + sf_bytes + y_bytes));
    }
    free(q);
    free(sf);
    free(expected);
    return is_same;
}

/* Blocks of 24 with f32 scales, and an end that is no whole piece. */
static int check_blocks(void)
{
    enum { N = 24 * 1001, BLOCKS = 1001 };
    uint8_t *q = bytes_of(N / 2, 3), *expected = (uint8_t *)malloc(N * ELEMENT);
    float sf[BLOCKS];
    blocks_args a = {};

    for (int i = 0; i < BLOCKS; i++) {
        sf[i] = 0.001f * (float)(i + 1);
    }
    a.y = device(NULL, N * ELEMENT);
    a.q = (const uint8_t *)device(q, N / 2);
    a.sf = device(sf, sizeof sf);
    a.sf_type = BLOCKS_F32;
    a.global.value = 0.3f;
    a.n = N;
    a.block = 24;
    must(dequantize_blocks(&a, 0, 0));
    return fp4_ref_dequantize_blocks(q, N, 24, sf, FP4_SF_F32, 0.3f, FP4_CODE_FIRST,
                                     JOIN(DTYPE_, OUTPUT, ), expected) == FP4_OK &&
           same("blocks of 24", a.y, expected, N * ELEMENT);
}

int main(void)
{
    printf("%s to %s, %s\n", TEXT(FORMAT), TEXT(OUTPUT), TEXT(RULE));
    return !(check(1, 64, FP4_LAYOUT_128X4, 0) && check(130, 4192, FP4_LAYOUT_128X4, 0) &&
             check(77, 96, FP4_LAYOUT_8X4, 0) && check_blocks() &&
             check(16384, 8192, FP4_LAYOUT_LINEAR, 1) && check(16384, 8192, FP4_LAYOUT_128X4, 1));
}
#endif

/*
 * 03_rmsnorm.cu - RMSNorm and quantization in one kernel: x / rms(x) * weight to NVFP4, MXFP4 or
 * MXFP8. With the residual added first, or LayerNorm instead, by one word.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/03_rmsnorm.cu -o rmsnorm && ./rmsnorm
 *
 * To change the input type, the format or the operation, edit one word below.
 *
 * How it works: a CTA a row, which it reads from memory once. Each thread has up to 4 pieces of
 * 16 elements, a stride of all threads apart, and keeps them in registers, as they are in memory,
 * across the barrier of the sum. RMSNorm's factor, 1/rms, is common to the row: it is not
 * multiplied into the elements, but into the factor by which a block is encoded. Two lanes share a
 * block of 32. Scale bytes go to memory four at a time, whatever their layout. Rows of more than
 * 16384 columns are read again, from the cache.
 */
#define FP4_ONE blockDim.y /* arch.cuh says what for */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>
#include <fp4/row.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#define FORMAT \
    nvfp4 /* nvfp4, mxfp4, mxfp8, nvfp4_32, mxfp4_16: the last two with the other's block */
#define NORM rmsnorm /* rmsnorm, add_rmsnorm, layernorm */
#endif

/* What the words stand for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
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
#define KNOWN_nvfp4(t, amax, mul, enc, care) fp4_nvfp4_quantize_known_x16(t, amax, mul, enc, care)
#define KNOWN_nvfp4_32 KNOWN_nvfp4
#define KNOWN_mxfp4(t, amax, mul, enc, care) fp4_mxfp4_quantize_known_x16(t, amax, mul, care)
#define KNOWN_mxfp4_16 KNOWN_mxfp4
#define KNOWN_mxfp8(t, amax, mul, enc, care) fp4_mxfp8_quantize_known_x16(t, amax, mul, care)
#define ANY_nvfp4(t, mul, enc) fp4_nvfp4_quantize_any_x16(t, LANES, mul, enc)
#define ANY_nvfp4_32 ANY_nvfp4
#define ANY_mxfp4(t, mul, enc) fp4_mxfp4_quantize_any_x16(t, LANES, mul)
#define ANY_mxfp4_16 ANY_mxfp4
#define ANY_mxfp8(t, mul, enc) fp4_mxfp8_quantize_any_x16(t, LANES, mul)
#define HAS_GLOBAL_nvfp4 1
#define HAS_GLOBAL_nvfp4_32 1
#define HAS_GLOBAL_mxfp4 0
#define HAS_GLOBAL_mxfp4_16 0
#define HAS_GLOBAL_mxfp8 0
#define ADDS_rmsnorm 0
#define ADDS_add_rmsnorm 1
#define ADDS_layernorm 0
#define CENTERS_rmsnorm 0 /* subtracts the mean, adds a bias */
#define CENTERS_add_rmsnorm 0
#define CENTERS_layernorm 1

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define NARROW JOIN(NARROW_, INPUT, )
#define STORE_Y JOIN(fp4_store_u32x, WORDS, )
#define KNOWN JOIN(KNOWN_, FORMAT, )
#define ANY JOIN(ANY_, FORMAT, )
#define HAS_GLOBAL JOIN(HAS_GLOBAL_, FORMAT, )
#define ADDS JOIN(ADDS_, NORM, )
#define CENTERS JOIN(CENTERS_, NORM, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an input element */
    CODES = JOIN(CODES_, FORMAT, ),
    LANES = JOIN(LANES_, FORMAT, ),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    EACH = FP4_ROW_EACH,
    /* threads of a multiprocessor: measured on sm_90; elsewhere so few that nothing spills */
    RESIDENT = ELEMENT == 4 || FP4_ARCH != 900      ? 384
               : CENTERS                            ? 512
               : ADDS || (LANES == 2 && CODES == 8) ? 768
                                                    : 896,
    RESIDENT_TOKEN = ELEMENT == 4 || FP4_ARCH != 900 || CENTERS ? 384 : 640,
    FEW = 256 /* rows; up to here it is latency that counts */
};

#if JOIN(CODES_, FORMAT, ) == 16
#define STORE_CODES fp4_store_e4m3x16
typedef fp4_part4 part;
#else
#define STORE_CODES fp4_store_e2m1x16
typedef fp4_part2 part;
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = x / sqrt(mean(x^2) + eps) * weight, or with x + residual in place of x, or
 * (x - mean(x)) / sqrt(var(x) + eps) * weight + bias; y quantized to q and sf.
 *
 * shape    x: rows x cols, row r at element r * x_stride. cols: whole blocks. weight, bias: cols
 *          elements. residual: rows x cols with a stride of its own; add_rmsnorm leaves x +
 *          residual there, rounded to the input type, and goes on with that. All of the input type,
 *          aligned to 16 bytes, strides too. q: rows * cols codes, row-major, aligned to those of
 *          16 elements. sf: fp4_sf_bytes(layout, rows, cols / BLOCK) bytes, aligned to 4 if tiled.
 * rounded  0: the codes come from y in f32, of RMSNorm without rounding y at all.
 *          1: y is rounded to the input type, then quantized: the bytes of norm and quantization in
 *          two kernels.
 * global   NVFP4: the second-level scale, in encode sense unless global_is_dec; read from
 *          global_device where that is not null. Positive and finite. Other formats ignore it.
 * optional where not null: y, rows x cols of the input type, aligned to 16 bytes; sf_linear, the
 *          scales in the linear layout too; token_dec, rows floats: NVFP4 with a second-level scale
 *          a row, from its amax (fp4_nvfp4_token_enc), stored there in decode sense; global is then
 *          the base scale in decode sense, 1/2688 to use the whole range.
 */
typedef struct norm_args {
    const void *x, *weight, *bias;
    void *residual;
    size_t rows, cols, x_stride, residual_stride;
    float eps;
    int rounded;
    const float *global_device;
    float global;
    int global_is_dec;
    uint8_t *q, *sf;
    fp4_layout layout;
    uint8_t *sf_linear;
    void *y;
    float *token_dec;
} norm_args;

/* ------------------------------------------------------------------------------ kernels */

/* What is constant in a kernel. full: each row has threads * EACH pieces, neither less nor more.
   plain: no y, no second layout. token: 1 a scale a token, 0 none, ASK as the arguments say. early:
   the weight is loaded together with the row, for where nothing hides the way to memory. product:
   what is quantized is the product with the weight, times 1/rms; else it is y, rounded to the input
   type if `rounded`. */
typedef struct kind {
    uint32_t threads;
    int full, plain, token, early, product, rounded;
} kind;
enum { ASK = 2 };

/* What the row says of itself: mean and rstd normalize its elements; mul is what the values that
   are quantized have still to be multiplied by. */
typedef struct row_factors {
    float mean, rstd, mul, global_enc;
} row_factors;

/* The pieces that a thread keeps: those of one turn, threads * EACH of the row. */
typedef struct kept {
    size_t row;
    uint32_t turn;
    raw v[EACH], w[EACH]; /* w: of `early` kernels */
} kept;

static __device__ __forceinline__ uint32_t pieces_of(const norm_args &a, const kind c)
{
    return c.full ? c.threads * EACH : (uint32_t)(a.cols / 16);
}

static __device__ __forceinline__ uint32_t turns_of(const norm_args &a, const kind c)
{
    return c.full ? 1 : (pieces_of(a, c) + EACH * c.threads - 1) / (EACH * c.threads);
}

/* The piece of the row that is number j of a thread's turn. */
static __device__ __forceinline__ uint32_t piece_of(const kind c, uint32_t turn, uint32_t j)
{
    return (turn * EACH + j) * c.threads + threadIdx.x;
}

static __device__ __forceinline__ int is_piece(const norm_args &a, const kind c, uint32_t piece)
{
    return c.full || piece < pieces_of(a, c);
}

static __device__ __forceinline__ const uint8_t *x_at(const norm_args &a, size_t row,
                                                      uint32_t piece)
{
    return (const uint8_t *)a.x + (row * a.x_stride + (size_t)piece * 16) * ELEMENT;
}

static __device__ __forceinline__ uint8_t *residual_at(const norm_args &a, size_t row,
                                                       uint32_t piece)
{
    return (uint8_t *)a.residual + (row * a.residual_stride + (size_t)piece * 16) * ELEMENT;
}

/* A piece of what is normalized; zeros behind the end of the row. The residual is added the first
   time; after that the sum is read. */
static __device__ __forceinline__ raw load_piece(const norm_args &a, const kind c, size_t row,
                                                 uint32_t piece, const int is_first)
{
    raw v = raw();

    if (is_piece(a, c, piece)) {
        v = LOAD(ADDS && !is_first ? residual_at(a, row, piece) : x_at(a, row, piece));
        if (ADDS && is_first) {
            uint8_t *sum = residual_at(a, row, piece);
            v = NARROW(fp4_add_x16(WIDEN(v), WIDEN(LOAD(sum))));
            STORE_Y(sum, v);
        }
    }
    return v;
}

/* A piece of the weight, or of the bias. */
static __device__ __forceinline__ raw load_weight(const norm_args &a, const kind c, const void *w,
                                                  uint32_t piece)
{
    const size_t at = is_piece(a, c, piece) ? piece : 0;
    return LOAD((const uint8_t *)w + at * (16 * ELEMENT));
}

/* What is quantized of a piece, but for the factor mul. */
static __device__ __forceinline__ fp4_f32x16 value_of(const norm_args &a, const kind c, raw v,
                                                      raw weight, uint32_t piece,
                                                      const row_factors &f)
{
    const fp4_f32x16 x = WIDEN(v), w = WIDEN(weight);
    fp4_f32x16 y;

    if (c.product) {
        return fp4_mul_x16(x, w);
    }
    if (CENTERS) {
        y = fp4_fma_x16(fp4_scale_x16(fp4_shift_x16(x, -f.mean), f.rstd), w,
                        WIDEN(load_weight(a, c, a.bias, piece)));
    } else {
        y = fp4_mul_x16(fp4_scale_x16(x, f.rstd), w);
    }
    return c.rounded ? WIDEN(NARROW(y)) : y;
}

/* ------------------------------------------------------------ a row from memory */

static __device__ __forceinline__ void load_turn(kept *k, const norm_args &a, const kind c,
                                                 uint32_t turn, const int is_first)
{
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (c.early) {
            k->w[j] = load_weight(a, c, a.weight, piece_of(c, turn, j));
        }
        k->v[j] = load_piece(a, c, k->row, piece_of(c, turn, j), is_first);
    }
    k->turn = turn;
}

/* value_of number j of the pieces that are kept. */
static __device__ __forceinline__ fp4_f32x16 kept_value(const kept &k, const norm_args &a,
                                                        const kind c, uint32_t j,
                                                        const row_factors &f)
{
    const uint32_t piece = piece_of(c, k.turn, j);
    return value_of(a, c, k.v[j], c.early ? k.w[j] : load_weight(a, c, a.weight, piece), piece, f);
}

/* value_of a piece that is not. */
static __device__ __forceinline__ fp4_f32x16 loaded_value(const norm_args &a, const kind c,
                                                          size_t row, uint32_t piece,
                                                          const row_factors &f)
{
    return value_of(a, c, load_piece(a, c, row, piece, 0), load_weight(a, c, a.weight, piece),
                    piece, f);
}

/* Sees to it that the turn is there; the only one of a short row always is. */
static __device__ __forceinline__ void keep_turn(kept *k, const norm_args &a, const kind c,
                                                 uint32_t turn)
{
    if (!c.full && k->turn != turn) {
        load_turn(k, a, c, turn, 0);
    }
}

/* ------------------------------------------------------------ a row's own factors */

/* A full row's count is a power of two: multiplying by its reciprocal rounds as the division. */
static __device__ __forceinline__ float mean_of(float sum, float count, const kind c)
{
    return c.full ? fp4_mul_rn(sum, 1.0f / count) : fp4_div_rn(sum, count);
}

/* Mean, and 1/rms or 1/standard deviation. The first turn is there. smem: 2 x 32 floats. */
static __device__ __forceinline__ row_factors normalize(kept *k, const norm_args &a, const kind c,
                                                        float *smem)
{
    const float count = c.full ? (float)(c.threads * (EACH * 16)) : (float)a.cols;
    row_factors f = {0.0f, 0.0f, 1.0f, 1.0f};
    float sum = 0.0f;

    for (uint32_t turn = 0; turn < turns_of(a, c); turn++) {
        if (turn > 0) {
            load_turn(k, a, c, turn, 1);
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const fp4_f32x16 x = WIDEN(k->v[j]);
            sum = CENTERS ? fp4_sum_x16(x, sum) : fp4_sumsq_x16(x, sum);
        }
    }
    fp4_pdl_trigger();
    sum = fp4_cta_sum_of(sum, c.threads, smem);
    if (CENTERS) {
        f.mean = mean_of(sum, count, c);
        sum = 0.0f;
        for (uint32_t turn = 0; turn < turns_of(a, c); turn++) {
            keep_turn(k, a, c, turn);
#pragma unroll
            for (uint32_t j = 0; j < EACH; j++) {
                if (is_piece(a, c, piece_of(c, turn, j))) {
                    sum = fp4_sumsq_x16(fp4_shift_x16(WIDEN(k->v[j]), -f.mean), sum);
                }
            }
        }
        sum = fp4_cta_sum_of(sum, c.threads, smem + 32);
    }
    f.rstd = fp4_rsqrt_rn(fp4_add_rn(mean_of(sum, count, c), a.eps));
    f.mul = c.product ? f.rstd : 1.0f;
    return f;
}

/* The amax of the row, NaN left out. */
static __device__ __forceinline__ float row_amax(kept *k, const norm_args &a, const kind c,
                                                 const row_factors &f)
{
    __shared__ float smem[2][32];
    float amax = 0.0f;

    for (uint32_t turn = 0; turn < turns_of(a, c); turn++) {
        keep_turn(k, a, c, turn);
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const uint32_t piece = piece_of(c, turn, j);
            if (is_piece(a, c, piece)) {
                amax = fp4_max_nan_(amax, fp4_amax_or_nan_x16(kept_value(*k, a, c, j, f)));
            }
        }
    }
    amax = fp4_cta_max_or_nan_of(amax, c.threads, smem[0]);
    if (fp4_is_nan(amax)) { /* once more, around the NaNs */
        amax = 0.0f;
#pragma unroll 1
        for (uint32_t piece = threadIdx.x; piece < pieces_of(a, c); piece += c.threads) {
            amax = fp4_ptx_max(amax, fp4_amax_x16(loaded_value(a, c, k->row, piece, f)));
        }
        amax = fp4_cta_max_of(amax, c.threads, smem[1]);
    }
    amax = fp4_mul_rn(amax, f.mul);
    return fp4_is_nan(amax) ? 0.0f : amax;
}

/* The second-level scale that is given, in encode sense unless it is the base of one a token. */
static __device__ __forceinline__ float given_global(const norm_args &a)
{
    const float given = a.global_device == NULL ? a.global : *a.global_device;
    return a.global_is_dec && a.token_dec == NULL ? fp4_nvfp4_global_enc_from_dec(given) : given;
}

/* That of the row, which is stored. */
static __device__ __forceinline__ float token_global(kept *k, const norm_args &a, const kind c,
                                                     const row_factors &f, float base_dec)
{
    const float amax = row_amax(k, a, c, f), enc = fp4_nvfp4_token_enc(amax, base_dec);

    if (threadIdx.x == 0) {
        a.token_dec[k->row] = fp4_nvfp4_token_dec(amax, enc);
    }
    return enc;
}

/* ------------------------------------------------------------ a row to codes */

static __device__ __forceinline__ uint8_t *codes_at(const norm_args &a, const kind c, size_t row,
                                                    uint32_t piece)
{
    return a.q + (row * pieces_of(a, c) + piece) * CODES;
}

static __device__ __forceinline__ float block_amax(fp4_f32x16 t)
{
    return fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), LANES);
}

/* The blocks of a turn that KNOWN could not take, without regard to speed: from memory, one piece
   after the other. Returns the scale bytes with theirs in place. */
static __device__ __forceinline__ uint32_t mend(const norm_args &a, const kind c, size_t row,
                                                uint32_t turn, uint32_t bytes, uint32_t care,
                                                const row_factors &f)
{
#pragma unroll 1
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t piece = piece_of(c, turn, j);
        if (fp4_ptx_any(0xffffffffu, care >> j & 1u)) {
            const part p = ANY(loaded_value(a, c, row, piece, f), f.mul, f.global_enc);
            if (is_piece(a, c, piece)) {
                STORE_CODES(codes_at(a, c, row, piece), p.q);
                bytes = (bytes & ~(0xffu << 8 * j)) | (uint32_t)p.sf << 8 * j;
            }
        }
    }
    return bytes;
}

/* Codes of a turn, and y if it is wanted. Returns a word of scale bytes: four lanes' bytes of four
   pieces become four words, the lane's is that of piece lane % 4. */
static __device__ __forceinline__ uint32_t quantize_turn(const kept &k, const norm_args &a,
                                                         const kind c, const row_factors &f)
{
    uint32_t bytes = 0, care = 0;

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t piece = piece_of(c, k.turn, j);
        if (is_piece(a, c, piece - threadIdx.x)) { /* the CTA has work */
            const fp4_f32x16 t = kept_value(k, a, c, j, f);
            uint32_t needs_care;
            const part p = KNOWN(t, block_amax(t), f.mul, f.global_enc, &needs_care);
            if (is_piece(a, c, piece)) {
                STORE_CODES(codes_at(a, c, k.row, piece), p.q);
                bytes |= (uint32_t)p.sf << 8 * j;
                care |= needs_care << j;
                if (!c.plain && a.y != NULL) {
                    STORE_Y((uint8_t *)a.y + (k.row * a.cols + piece * 16) * ELEMENT,
                            NARROW(c.product ? fp4_scale_x16(t, f.mul) : t));
                }
            }
        }
    }
    if (fp4_ptx_any(0xffffffffu, care != 0)) {
        bytes = mend(a, c, k.row, k.turn, bytes, care, f);
    }
    return fp4_sf_words(bytes, LANES);
}

/* The scale column of the first byte of this lane's word. */
static __device__ __forceinline__ uint32_t sf_col_of(const kind c, uint32_t turn)
{
    const uint32_t lane = threadIdx.x / LANES;
    return (piece_of(c, turn, lane % 4) - threadIdx.x) / LANES + lane / 4 * 4;
}

/* ------------------------------------------------------------ the CTA */

static __device__ __forceinline__ void store_word(const norm_args &a, const kind c, size_t row,
                                                  uint32_t turn, uint32_t word)
{
    const uint32_t sf_cols = pieces_of(a, c) / LANES, sf_col = sf_col_of(c, turn);

    if (threadIdx.x % LANES != 0) {
        return;
    }
    if (c.plain) { /* the word is there and aligned */
        fp4_ptx_store4(a.sf + fp4_sf_offset(a.layout, row, 0, sf_cols) +
                           sf_col / 4 * (uint32_t)fp4_sf_word_step(a.layout),
                       word);
        return;
    }
    fp4_store_sf_word(a.layout, a.sf, row, sf_col, sf_cols, word);
    if (a.sf_linear != NULL && row < a.rows) {
        fp4_store_sf_word(FP4_LAYOUT_LINEAR, a.sf_linear, row, sf_col, sf_cols, word);
    }
}

/* The row that is the CTA's. */
static __device__ __forceinline__ void norm_row(const norm_args &a, const kind c)
{
    __shared__ float smem[2 * 32];
    row_factors f;
    kept k;

    fp4_pdl_wait();
    k.row = blockIdx.x;
    if (k.row >= a.rows) { /* of the padding of the scale buffer */
        for (uint32_t turn = 0; turn < turns_of(a, c); turn++) {
            store_word(a, c, k.row, turn, 0);
        }
        return;
    }
    const float global_enc = HAS_GLOBAL ? given_global(a) : 1.0f;
    load_turn(&k, a, c, 0, 1);
    f = normalize(&k, a, c, smem);
    f.global_enc = global_enc;
    if (HAS_GLOBAL && (c.token == ASK ? a.token_dec != NULL : c.token)) {
        f.global_enc = token_global(&k, a, c, f, global_enc);
    }
    for (uint32_t turn = 0; turn < turns_of(a, c); turn++) {
        keep_turn(&k, a, c, turn);
        store_word(a, c, k.row, turn, quantize_turn(k, a, c, f));
    }
}

/* The kernels: any row, rounded or not; few rows; and, for what is asked most, rows that fill all
   places, with one scale and with a scale a token. */
static __global__ void __launch_bounds__(FP4_ROW_THREADS) norm_rounded(const norm_args a)
{
    const kind c = {blockDim.x, 0, 0, ASK, 0, 0, 1};
    norm_row(a, c);
}

static __global__ void __launch_bounds__(FP4_ROW_THREADS) norm_any(const norm_args a)
{
    const kind c = {blockDim.x, 0, 0, ASK, 0, !CENTERS, 0};
    norm_row(a, c);
}

static __global__ void __launch_bounds__(FP4_ROW_THREADS) norm_few(const norm_args a)
{
    const kind c = {blockDim.x, 0, 0, ASK, 1, !CENTERS, 0};
    norm_row(a, c);
}

#define NORM_FULL(name, threads, resident, token) \
    static __global__ void __launch_bounds__(threads, resident / threads) name(const norm_args a) \
    { \
        const kind c = {threads, 1, 1, token, 0, !CENTERS, 0}; \
        norm_row(a, c); \
    }

NORM_FULL(norm_2048, 32, RESIDENT, 0)
NORM_FULL(norm_4096, 64, RESIDENT, 0)
NORM_FULL(norm_8192, 128, RESIDENT, 0)
NORM_FULL(norm_16384, 256, RESIDENT, 0)
#if HAS_GLOBAL
NORM_FULL(token_2048, 32, RESIDENT_TOKEN, 1)
NORM_FULL(token_4096, 64, RESIDENT_TOKEN, 1)
NORM_FULL(token_8192, 128, RESIDENT_TOKEN, 1)
NORM_FULL(token_16384, 256, RESIDENT_TOKEN, 1)
#endif

/* ------------------------------------------------------------------------------ launcher */

/* Not a multiple of 16 bytes. */
static int is_unaligned(const void *p, size_t stride)
{
    return (size_t)p % 16 != 0 || stride > (size_t)-1 / ELEMENT || stride * ELEMENT % 16 != 0;
}

/* No number to multiply by, or its reciprocal is none. What is on the device cannot be seen. */
static int is_bad_global(const norm_args *a)
{
    const int is_dec = a->global_is_dec || a->token_dec != NULL;
    const float enc = is_dec ? fp4_nvfp4_global_enc_from_dec(a->global) : a->global;

    return HAS_GLOBAL && a->global_device == NULL &&
           !(a->global > 0.0f && a->global <= FP4_F32_MAX && enc > 2.9387358770557188e-39f);
}

static int is_bad(const norm_args *a)
{
    return a->x == NULL || a->weight == NULL || a->q == NULL || a->sf == NULL || /* null */
           (CENTERS && a->bias == NULL) || (ADDS && a->residual == NULL) ||
           (!HAS_GLOBAL && a->token_dec != NULL) || a->cols % BLOCK != 0 || /* shape */
           a->cols > 0x7fffffffu || a->rows > 0x7fffff80u || (unsigned)a->layout > 2 ||
           a->x_stride < a->cols || (ADDS && a->residual_stride < a->cols) || /* strides */
           is_unaligned(a->x, a->x_stride) || is_unaligned(a->weight, 0) ||   /* alignment */
           (CENTERS && is_unaligned(a->bias, 0)) || is_unaligned(a->y, 0) ||
           (ADDS && is_unaligned(a->residual, a->residual_stride)) || (size_t)a->q % CODES != 0 ||
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) ||
           !(a->eps > 0.0f && a->eps <= FP4_F32_MAX) || is_bad_global(a); /* numbers */
}

/* The kernel for rows that fill all places, where there is one. */
static const void *full_kernel(const norm_args *a)
{
    if (a->rounded || a->y != NULL || a->sf_linear != NULL || (size_t)a->sf % 4 != 0) {
        return NULL;
    }
#if HAS_GLOBAL
    if (a->token_dec != NULL) {
        return a->cols == 2048    ? (const void *)token_2048
               : a->cols == 4096  ? (const void *)token_4096
               : a->cols == 8192  ? (const void *)token_8192
               : a->cols == 16384 ? (const void *)token_16384
                                  : NULL;
    }
#endif
    return a->cols == 2048    ? (const void *)norm_2048
           : a->cols == 4096  ? (const void *)norm_4096
           : a->cols == 8192  ? (const void *)norm_8192
           : a->cols == 16384 ? (const void *)norm_16384
                              : NULL;
}

static const void *kernel_for(const norm_args *a)
{
    const void *full = full_kernel(a);
    const int is_short = a->cols <= FP4_ROW_THREADS * EACH * 16;

    return a->rounded                   ? (const void *)norm_rounded
           : a->rows <= FEW && is_short ? (const void *)norm_few
           : full != NULL               ? full
                                        : (const void *)norm_any;
}

/**
 * Normalizes and quantizes on `stream`: one launch, no allocation, no synchronization, nothing read
 * on the host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, number or null pointer:
 *          nothing launched, nothing written. rows = 0 or cols = 0 is no error.
 */
static cudaError_t norm_quantize(const norm_args *a, int pdl, cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a};

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)fp4_sf_rows_padded(a->layout, a->rows));
    config.blockDim = dim3(fp4_row_threads(a->cols));
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel_for(a), arguments);
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
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "rmsnorm: %s\n", cudaGetErrorString(error));
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
static void measure(const norm_args *a, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(norm_quantize(a, 0, 0));
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
    void *x = elements(rows * cols, -0.5f), *residual = elements(rows * cols, -0.25f);
    void *weight = elements(cols, 0.5f), *bias = elements(cols, -0.5f);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, cols, cols, 1.0f};
    fp4_ref_fused how = {};
    norm_args a = {};
    fp4_tensor got, expected;
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    int same;

    a.x = device(x, bytes);
    a.weight = device(weight, cols * ELEMENT);
    a.bias = device(bias, cols * ELEMENT);
    a.residual = device(residual, bytes);
    a.rows = rows;
    a.cols = a.x_stride = a.residual_stride = cols;
    a.eps = 1e-5f;
    a.global = how.global_enc = 448.0f; /* of values up to 6 */
    a.q = (uint8_t *)device(NULL, q_bytes);
    a.sf = (uint8_t *)device(NULL, sf_bytes);
    a.layout = layout;
    must(norm_quantize(&a, 0, 0));
    got = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)host(a.q, q_bytes), q_bytes,
                          (uint8_t *)host(a.sf, sf_bytes), sf_bytes);
    expected = fp4_tensor_view(format, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                               (uint8_t *)malloc(sf_bytes), sf_bytes);
    if (ADDS) {
        fp4_ref_add_rmsnorm_quantize(m, residual, cols, weight, a.eps, &how, &expected);
    } else if (CENTERS) {
        fp4_ref_layernorm_quantize(m, weight, bias, a.eps, &how, &expected);
    } else {
        fp4_ref_rmsnorm_quantize(m, weight, a.eps, &how, &expected);
    }
    got.global_dec = expected.global_dec;
    same = fp4_ref_same(&got, &expected, &d);
    printf("%zu x %zu, device and host: %s\n", rows, cols,
           fp4_difference_text(&d, text, sizeof(text)));
    if (same && is_timed) {
        measure(&a, (double)((1 + 2 * ADDS) * bytes + q_bytes + sf_bytes));
    }
    return same;
}

int main(void)
{
    printf("%s to %s, %s\n", TEXT(INPUT), TEXT(FORMAT), TEXT(NORM));
    /* few rows, a ragged end, several turns, and what is timed */
    return !(check(1, 4096, FP4_LAYOUT_128X4, 0) && check(130, 96, FP4_LAYOUT_8X4, 0) &&
             check(3, 20000 / BLOCK * BLOCK, FP4_LAYOUT_LINEAR, 0) &&
             check(16384, 4096, FP4_LAYOUT_128X4, 1));
}
#endif

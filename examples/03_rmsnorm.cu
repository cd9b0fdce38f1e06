/*
 * 03_rmsnorm.cu - RMSNorm and quantization in one kernel: x / rms(x) * weight to NVFP4, MXFP4 or
 * MXFP8. With the residual added first, or LayerNorm instead, by one word.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/03_rmsnorm.cu -o rmsnorm && ./rmsnorm
 *
 * To change the input type, the format or the operation, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: a CTA a row, which it reads from memory once; of up to 512 columns four rows, a
 * warp each, and of up to 1536 two. Each thread has up to 4 pieces of 16 elements, a stride of all
 * threads apart, of which only the last may be missing (row.h), so that all are worked on at once.
 * It keeps them in registers across the barrier of the sum: in RMSNorm the products with the
 * weight, made while other pieces are on their way; with a residual, or the mean to subtract, the
 * elements as they are in memory. With a scale a token the products are kept, those with a residual
 * too, and the largest comes with the sum. RMSNorm's factor, 1/rms, is common to the row: it is not
 * multiplied into the elements, but into the factor by which a block is encoded. Two lanes share a
 * block of 32. Scale bytes go to memory four at a time; of many rows in a tiled layout, which has
 * those of other rows beside them, a CTA takes four such rows, one after the other, and stores 16;
 * the last rows have a CTA each. (FOURS says where.) Rows of more than 16384 columns are read
 * again, from the cache. Where there are few rows, a thread has one piece; where there are still
 * fewer, four CTAs each read a row and find its sum, and quantize a quarter of it, but with a
 * residual or a scale a token. (Not where `rounded` is asked for: one kernel takes them all.)
 */
#include <fp4/device/format.cuh>
#include <fp4/device/row.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8; nvfp4_32, mxfp4_16: with the other's block */
#endif
#if !defined(NORM)
#define NORM rmsnorm /* rmsnorm, add_rmsnorm, layernorm */
#endif

/* What the words stand for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
#define RESIDENT_nvfp4 768
#define RESIDENT_nvfp4_32 640
#define RESIDENT_mxfp4 768
#define RESIDENT_mxfp4_16 640
#define RESIDENT_mxfp8 768
#define LANES_nvfp4 1 /* that share a scale byte: LANES, for #if */
#define LANES_nvfp4_32 2
#define LANES_mxfp4 2
#define LANES_mxfp4_16 1
#define LANES_mxfp8 2
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

#define TO JOIN(FORMAT_, FORMAT, )
#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define NARROW JOIN(NARROW_, INPUT, )
#define STORE_Y JOIN(fp4_store_u32x, WORDS, )
#define HAS_GLOBAL JOIN(HAS_GLOBAL_, FORMAT, )
#define ADDS JOIN(ADDS_, NORM, )
#define CENTERS JOIN(CENTERS_, NORM, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4,             /* bytes of an input element */
    CODES = 2 * fp4_format_bits(TO), /* bytes of 16 codes */
    LANES = fp4_format_lanes(TO),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    EACH = FP4_ROW_EACH,
    /* threads of a multiprocessor, measured on sm_90, where a few words that spill (in LayerNorm to
       MXFP4 and MXFP8, with four rows a CTA, and where the last piece may be missing) cost less
       than a CTA fewer: of most kernels; of those for rows that a warp keeps, with a piece a thread
       or more; of those with a scale a token. Elsewhere a CTA may have all registers. */
    RESIDENT = FP4_ARCH != 900 || ELEMENT == 4 ? 256 : JOIN(RESIDENT_, FORMAT, ),
    RESIDENT_SHORT = FP4_ARCH != 900 || ELEMENT == 4 ? 256
                     : CENTERS                       ? 768
                                                     : 1024,
    RESIDENT_WARP = RESIDENT > 640 ? 640 : RESIDENT,
    RESIDENT_TOKEN = FP4_ARCH != 900 || ELEMENT == 4 ? 256
                     : CENTERS                       ? 512
                                                     : 640,
    /* If scales are linear, the fastest kernels are for rows of whole words of them: to ask costs
       up to 2 %, but not with blocks of 32. */
    WHOLE = LANES == 1,
    /* If a block needs care (see mend), do all of the turn once more: then none needs a bit that
       says so, which is up to 1 % faster where none does; with blocks of 32 it is 2 to 4 % slower.
       A warp with such a block does all its pieces twice then. */
    MENDS_TURNS = LANES == 1,
    MOST = 512, /* threads of a CTA, a piece each */
    FEW_ROWS = 512,
    SHORT = 512 /* columns of which each thread of a warp has a piece */
};

#define RESIDENT_OF(each, threads, token) \
    ((each) == 1       ? RESIDENT_SHORT \
     : (token)         ? RESIDENT_TOKEN \
     : (threads) == 32 ? RESIDENT_WARP \
                       : RESIDENT)

/* Rows of a CTA that a warp can keep: four with a piece a thread; two with 2 or 3 pieces, unless a
   residual comes and goes. */
#define BESIDE(each, threads) (each == 1 ? 4 : threads == 32 && each < 4 && !ADDS ? 2 : 1)

/* Pieces of all rows up to which it is latency that counts; of FEW_ROWS at most. */
#if !defined(FEW)
#define FEW (1 << 17)
#endif

/* The same up to which a row has EACH CTAs. Not with a scale a token, which gains nothing, nor
   where a residual comes and goes: one of them would read what another has written. */
#if !defined(PARTS)
#define PARTS (1 << 14)
#endif
#define HAS_PARTS (!ADDS)

/* Elements from which on a CTA takes four rows of a tiled layout. Not with a scale a token, nor in
   LayerNorm, which has no registers left, nor where a residual comes and goes for half as many
   scale bytes (HAS_FOUR). */
#if !defined(FOURS)
#define FOURS (ADDS ? 1 << 27 : LANES == 1 ? 1 << 25 : 1 << 26)
#endif

/* Elements at the end of such a matrix whose rows have a CTA each. */
#if !defined(ALONE)
#define ALONE (1 << 23)
#endif
#define HAS_FOUR (!CENTERS && !(ADDS && JOIN(LANES_, FORMAT, ) == 2))

/* Whether a kernel is early (see kind): not with a residual, whose sums come late, unless a scale
   a token has the products kept anyway. */
#define EARLY(token) (!CENTERS && (!ADDS || (token) == 1))

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = x / sqrt(mean(x^2) + eps) * weight, or with x + residual in place of x, or
 * (x - mean(x)) / sqrt(var(x) + eps) * weight + bias; y quantized to q and sf.
 *
 * shape    x: rows x cols, row r at element r * x_stride; of [B, S, H] rows = B * S, cols = H.
 *          cols: whole blocks. weight, bias: cols elements. residual: rows x cols with a stride of
 *          its own; add_rmsnorm leaves x + residual there, rounded to the input type, and goes on
 *          with that. All of the input type, aligned to 16 bytes, strides too. q: rows * cols
 *          codes, row-major, aligned to those of 16 elements. sf: fp4_sf_bytes(layout, rows, cols /
 *          BLOCK) bytes, aligned to 4 if tiled.
 * limits   cols below 2^31, rows up to 2^31 - 128.
 * eps      positive and finite.
 * rounded  0: the codes come from y in f32, of RMSNorm without rounding y at all.
 *          1: y is rounded to the input type, then quantized: the bytes of norm and quantization in
 *          two kernels.
 * global   NVFP4: the second-level scale, in encode sense unless global_is_dec; read from
 *          global_device, 4-byte aligned, where that is not null. Positive and finite, and
 *          so its reciprocal (above 2^-128). Other formats ignore it.
 * optional where not null: y, rows x cols of the input type, aligned to 16 bytes; sf_linear, the
 *          scales in the linear layout too; token_dec, rows floats: NVFP4 with a second-level scale
 *          a row, from its amax (fp4_nvfp4_token_enc), stored there in decode sense; global is then
 *          the base scale in decode sense, 1/2688 to use the whole range.
 * overlap  no output overlaps an input or another output, but the residual itself.
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

/* What is constant in a kernel. token: 1 a scale a token, 0 none, ASK as the arguments say. plain:
   no y, no second layout. product: what is quantized is the product with the weight, times 1/rms;
   else it is y, rounded to the input type if `rounded`. early: the product is made before the sum
   is known, so that less is left to do behind the barrier; rows of one turn only. */
typedef struct kind {
    fp4_row_cut cut;
    int plain, token, product, early, rounded;
} kind;
enum { ASK = 2 };

/* What the row says of itself: mean and rstd normalize its elements; mul is what the values that
   are quantized have still to be multiplied by; amax, theirs or NaN, where it was found together
   with the sum. */
typedef struct row_factors {
    float mean, rstd, mul, global_enc, amax;
} row_factors;

/* What a thread keeps of a row: the pieces of one turn; the weight where that is one piece, so that
   it is on its way together with the row; and, where it is made early or there is a scale a token,
   what is quantized of the pieces, with the amax of each. */
typedef struct kept {
    uint32_t row, turn;
    raw v[EACH], w;
    fp4_f32x16 t[EACH];
    float amax[EACH];
} kept;

static __device__ __forceinline__ size_t in_bytes(uint32_t piece)
{
    return (size_t)piece * (16 * ELEMENT);
}

/* A piece of what is normalized; zeros where the row has none. The residual is added the first
   time; after that the sum is read. */
static __device__ __forceinline__ raw load_piece(const norm_args &a, size_t row, uint32_t piece,
                                                 int has, const int is_first)
{
    const uint8_t *x = (const uint8_t *)a.x + row * a.x_stride * ELEMENT + in_bytes(piece);
    uint8_t *sum = (uint8_t *)a.residual + row * a.residual_stride * ELEMENT + in_bytes(piece);
    raw v = raw();

    if (has) {
        v = LOAD(ADDS && !is_first ? sum : x);
        if (ADDS && is_first) {
            v = NARROW(fp4_add_x16(WIDEN(v), WIDEN(LOAD(sum))));
            STORE_Y(sum, v);
        }
    }
    return v;
}

static __device__ __forceinline__ raw load_weight(const void *weight, uint32_t piece, int has)
{
    return LOAD((const uint8_t *)weight + in_bytes(has ? piece : 0));
}

/* What is quantized of a piece, but for the factor mul. */
static __device__ __forceinline__ fp4_f32x16 value_of(const norm_args &a, const kind c, raw v,
                                                      raw weight, uint32_t piece, int has,
                                                      const row_factors &f)
{
    const fp4_f32x16 x = WIDEN(v), w = WIDEN(weight);
    fp4_f32x16 y;

    if (c.product) {
        return fp4_mul_x16(x, w);
    }
    if (CENTERS) {
        y = fp4_scale_x16(fp4_shift_x16(x, -f.mean), f.rstd);
        y = fp4_fma_x16(y, w, WIDEN(load_weight(a.bias, piece, has)));
    } else {
        y = fp4_mul_x16(fp4_scale_x16(x, f.rstd), w);
    }
    return c.rounded ? WIDEN(NARROW(y)) : y;
}

/* The same of number j of the pieces that are kept. */
static __device__ __forceinline__ fp4_f32x16 kept_value(const norm_args &a, const kind c,
                                                        const kept &k, uint32_t j,
                                                        const row_factors &f)
{
    const uint32_t piece = fp4_row_piece(c.cut, k.turn, j);
    const int has = fp4_row_has(c.cut, k.turn, j);
    const raw w = c.cut.each == 1 ? k.w : load_weight(a.weight, piece, has);
    return value_of(a, c, k.v[j], w, piece, has, f);
}

static __device__ __forceinline__ void keep_value(kept *k, const norm_args &a, const kind c,
                                                  uint32_t j, const row_factors &f)
{
    k->t[j] = kept_value(a, c, *k, j, f);
    k->amax[j] = fp4_amax_or_nan_x16(k->t[j]);
}

/* The same of a piece that is not kept. */
static __device__ __forceinline__ fp4_f32x16 loaded_value(const norm_args &a, const kind c,
                                                          size_t row, uint32_t piece, int has,
                                                          const row_factors &f)
{
    return value_of(a, c, load_piece(a, row, piece, has, 0), load_weight(a.weight, piece, has),
                    piece, has, f);
}

static __device__ __forceinline__ void load_turn(kept *k, const norm_args &a, const kind c,
                                                 uint32_t turn, const int is_first)
{
    if (c.cut.each == 1) {
        k->w = load_weight(a.weight, fp4_row_piece(c.cut, turn, 0), fp4_row_has(c.cut, turn, 0));
    }
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        k->v[j] = load_piece(a, k->row, fp4_row_piece(c.cut, turn, j), fp4_row_has(c.cut, turn, j),
                             is_first);
    }
    k->turn = turn;
}

/* Sees to it that the turn is there; the only one of a short row always is. */
static __device__ __forceinline__ void keep_turn(kept *k, const norm_args &a, const kind c,
                                                 uint32_t turn)
{
    if (fp4_row_turns(c.cut) > 1 && k->turn != turn) {
        load_turn(k, a, c, turn, 0);
    }
}

/* The mean over the row from its sum. If the count is a power of two, multiplying by its
   reciprocal, whose exponent is the other's negative, rounds as the division. */
static __device__ __forceinline__ float mean_of(float all, const kind c)
{
    const uint32_t cols = c.cut.pieces * 16;
    const float count = (float)cols;

    return (cols & (cols - 1)) == 0
               ? fp4_mul_rn(all, fp4_bits_f32((254u << 23) - fp4_f32_bits(count)))
               : fp4_div_rn(all, count);
}

/* The second-level scale that is given, in encode sense unless it is the base of one a token. */
static __device__ __forceinline__ float given_global(const norm_args &a)
{
    const float given = a.global_device == NULL ? a.global : *a.global_device;
    return a.global_is_dec && a.token_dec == NULL ? fp4_nvfp4_global_enc_from_dec(given) : given;
}

/* Where what is quantized is there before the sum is known, so is its amax. */
static __device__ __forceinline__ int has_amax(const kind c)
{
    return c.early && c.token == 1;
}

/* Mean, and 1/rms or 1/standard deviation; the scale that is given; the amax, if it is there. The
   first turn is. smem: for two sums, or one and a maximum. */
static __device__ __forceinline__ row_factors normalize(kept *k, const norm_args &a, const kind c,
                                                        uint32_t threads, float *smem,
                                                        uint32_t smem_each)
{
    row_factors f = {0.0f, 0.0f, 1.0f, 1.0f, 0.0f};
    float sum = 0.0f;

    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        if (turn > 0) {
            load_turn(k, a, c, turn, 1);
        }
#pragma unroll
        for (uint32_t j = 0; j < c.cut.each; j++) {
            const fp4_f32x16 x = WIDEN(k->v[j]);
            sum = fp4_add_rn(sum, CENTERS ? fp4_sum_x16(x, 0.0f) : fp4_sumsq_x16(x, 0.0f));
            if (c.early && fp4_row_has_any(c.cut, turn, j)) {
                keep_value(k, a, c, j, f);
                if (has_amax(c) && fp4_row_has(c.cut, turn, j)) {
                    f.amax = fp4_max_nan_(f.amax, k->amax[j]);
                }
            }
        }
    }
    fp4_pdl_trigger();
    if (HAS_GLOBAL) { /* on its way during the sum */
        f.global_enc = given_global(a);
    }
    if (CENTERS) {
        f.mean = mean_of(fp4_row_sum(sum, c.cut, threads, smem), c);
        sum = 0.0f;
        for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
            keep_turn(k, a, c, turn);
#pragma unroll
            for (uint32_t j = 0; j < c.cut.each; j++) {
                if (fp4_row_has(c.cut, turn, j)) {
                    const fp4_f32x16 x = fp4_shift_x16(WIDEN(k->v[j]), -f.mean);
                    sum = fp4_add_rn(sum, fp4_sumsq_x16(x, 0.0f));
                }
            }
        }
        smem += smem_each;
    }
    if (has_amax(c)) {
        sum = fp4_row_sum_and_max_or_nan(sum, &f.amax, c.cut, threads, smem, smem + smem_each);
    } else {
        sum = fp4_row_sum(sum, c.cut, threads, smem);
    }
    f.rstd = fp4_rsqrt_rn(fp4_add_rn(mean_of(sum, c), a.eps));
    f.mul = c.product ? f.rstd : 1.0f;
    return f;
}

/* The amax of the row, NaN left out. */
static __device__ __forceinline__ float row_amax(kept *k, const norm_args &a, const kind c,
                                                 const row_factors &f)
{
    __shared__ float smem[32];
    float amax = f.amax;

    for (uint32_t turn = 0; !has_amax(c) && turn < fp4_row_turns(c.cut); turn++) {
        keep_turn(k, a, c, turn);
#pragma unroll
        for (uint32_t j = 0; j < c.cut.each; j++) {
            if (fp4_row_has_any(c.cut, turn, j)) {
                if (!c.early) {
                    keep_value(k, a, c, j, f);
                }
                amax = fp4_row_has(c.cut, turn, j) ? fp4_max_nan_(amax, k->amax[j]) : amax;
            }
        }
    }
    if (!has_amax(c)) {
        amax = fp4_cta_max_or_nan_of(amax, c.cut.threads, smem);
    }
    if (fp4_is_nan(amax)) { /* once more, around the NaNs: each warp all of the row */
        amax = 0.0f;
#pragma unroll 1
        for (uint32_t piece = threadIdx.x % 32; piece < c.cut.pieces; piece += 32) {
            amax = fp4_ptx_max(amax, fp4_amax_x16(loaded_value(a, c, k->row, piece, 1, f)));
        }
        amax = fp4_warp_max(amax);
    }
    amax = fp4_mul_rn(amax, f.mul);
    return fp4_is_nan(amax) ? 0.0f : amax;
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

static __device__ __forceinline__ uint8_t *codes_at(const norm_args &a, const kind c, size_t row,
                                                    uint32_t piece)
{
    return a.q + (row * c.cut.pieces + piece) * CODES;
}

/* The blocks of a turn that _known could not take, or (MENDS_TURNS) all of it, without regard to
   speed: from memory, one piece after the other. Returns the scale bytes with theirs in place. */
static __device__ __forceinline__ uint32_t mend(const norm_args &a, const kind c, const kept &k,
                                                uint32_t bytes, uint32_t care, const row_factors &f)
{
#pragma unroll 1
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, k.turn, j);
        if (MENDS_TURNS || fp4_ptx_any(0xffffffffu, care >> j & 1u)) {
            const int has = fp4_row_has(c.cut, k.turn, j);
            const fp4_part4 p = fp4_quantize_scaled_any_x16(
                TO, loaded_value(a, c, k.row, piece, has, f), f.mul, f.global_enc);
            if (has) {
                fp4_store_codes_x16(TO, codes_at(a, c, k.row, piece), p);
                bytes = (bytes & ~(0xffu << 8 * j)) | (uint32_t)p.sf << 8 * j;
            }
        }
    }
    return bytes;
}

/* Codes and scales of a turn, and y if it is wanted. words: where the scale bytes are kept, if not
   null. */
static __device__ __forceinline__ void quantize_turn(const kept &k, const norm_args &a,
                                                     const kind c, const row_factors &f,
                                                     uint32_t *words)
{
    uint32_t bytes = 0, care = 0;

#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, k.turn, j);
        if (fp4_row_has_any(c.cut, k.turn, j)) {
            const int is_there = c.early || c.token == 1;
            const fp4_f32x16 t = is_there ? k.t[j] : kept_value(a, c, k, j, f);
            const float amax =
                fp4_group_max_or_nan(is_there ? k.amax[j] : fp4_amax_or_nan_x16(t), LANES);
            uint32_t needs_care;
            const fp4_part4 p =
                c.product
                    ? fp4_quantize_scaled_known_x16(TO, t, amax, f.mul, f.global_enc, &needs_care)
                    : fp4_quantize_known_x16(TO, t, amax, f.global_enc, &needs_care);
            if (fp4_row_has(c.cut, k.turn, j)) {
                fp4_store_codes_x16(TO, codes_at(a, c, k.row, piece), p);
                bytes |= (uint32_t)p.sf << 8 * j;
                care |= needs_care << (MENDS_TURNS ? 0 : j);
                if (!c.plain && a.y != NULL) {
                    STORE_Y((uint8_t *)a.y + k.row * a.cols * ELEMENT + in_bytes(piece),
                            NARROW(c.product ? fp4_scale_x16(t, f.mul) : t));
                }
            }
        }
    }
    if (fp4_ptx_any(0xffffffffu, care != 0)) {
        bytes = mend(a, c, k, MENDS_TURNS ? 0 : bytes, care, f); /* 0: a register */
    }
    if (words != NULL) { /* a constant: the compiler sees where it comes from */
        fp4_row_keep_sf(words, c.cut, k.turn, LANES, bytes);
    } else {
        fp4_row_store_sf(a.layout, a.sf, k.row, c.cut, k.turn, LANES, bytes);
    }
    if (!c.plain && a.sf_linear != NULL) {
        fp4_row_store_sf(FP4_LAYOUT_LINEAR, a.sf_linear, k.row, c.cut, k.turn, LANES, bytes);
    }
}

/* A row whose first turn is there. */
static __device__ __forceinline__ void norm_row(kept *k, const norm_args &a, const kind c,
                                                uint32_t threads, float *smem, uint32_t smem_each,
                                                uint32_t *words)
{
    row_factors f = normalize(k, a, c, threads, smem, smem_each);

    if (HAS_GLOBAL && (c.token == ASK ? a.token_dec != NULL : c.token)) {
        f.global_enc = token_global(k, a, c, f, f.global_enc);
    }
    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        keep_turn(k, a, c, turn);
        quantize_turn(*k, a, c, f, words);
    }
}

/* The CTA's row, or one of those that it has side by side, each of a warp; these may be too many.
   threads: those of row.h, whose order of sums it is; smem: for two. */
static __device__ __forceinline__ void norm_one(const norm_args &a, const kind c, uint32_t beside,
                                                uint32_t threads, float *smem, uint32_t smem_each)
{
    kept k;

    fp4_pdl_wait();
    k.row = beside == 1 ? blockIdx.x : blockIdx.x * beside + threadIdx.y;
    if (k.row < a.rows) {
        load_turn(&k, a, c, 0, 1);
        norm_row(&k, a, c, threads, smem, smem_each, NULL);
    } else if (beside == 1 || k.row < fp4_sf_rows_padded(a.layout, a.rows)) {
        fp4_row_store_padding(a.layout, a.sf, k.row, c.cut, LANES);
    }
}

/* The four rows that are the CTA's, or, of the CTAs behind so many `fours`, the one. smem: twice
   that of a sum, which they take in turns, so that there is a barrier between one's use and the
   next. */
static __device__ __forceinline__ void norm_four(const norm_args &a, const kind c, uint32_t fours,
                                                 float *smem)
{
    __shared__ uint32_t words[FP4_ROW_FOUR][FP4_ROW_WORDS];
    kept k;

    fp4_pdl_wait();
#pragma unroll 1 /* counted: by the row's number, as in 05, other words spill */
    for (uint32_t i = 0; i < (blockIdx.x < fours ? FP4_ROW_FOUR : 1); i++) {
        k.row = fp4_row_of_four(a.layout, blockIdx.x, fours) + i * fp4_row_step_of_four(a.layout);
        if (k.row < a.rows) {
            load_turn(&k, a, c, 0, 1);
            norm_row(&k, a, c, c.cut.threads, smem + i % 2 * 32, 32, words[i]);
        } else {
            fp4_row_keep_padding(words[i], c.cut, LANES);
        }
    }
    fp4_ptx_barrier();
    fp4_row_store_four(a.layout, a.sf, blockIdx.x, fours, c.cut, LANES, words, 0);
}

/* Any rows, y rounded or not. */
static __global__ void __launch_bounds__(FP4_ROW_THREADS, ELEMENT == 4 ? 1 : 2)
    norm_rounded(const norm_args a)
{
    __shared__ float smem[2 * 32];
    const kind c = {{blockDim.x, EACH, (uint32_t)(a.cols / 16), 0, 0, 0}, 0, ASK, 0, 0, 1};
    norm_one(a, c, 1, c.cut.threads, smem, 32);
}

static __global__ void __launch_bounds__(FP4_ROW_THREADS, ELEMENT == 4 ? 1 : 2)
    norm_any(const norm_args a)
{
    __shared__ float smem[2 * 32];
    const kind c = {{blockDim.x, EACH, (uint32_t)(a.cols / 16), 0, 0, 0}, 0, ASK, !CENTERS, 0, 0};
    norm_one(a, c, 1, c.cut.threads, smem, 32);
}

/* Few rows: a piece a thread, `all` of the CTA, of which row.h has `threads`. It is latency that
   counts: each constant is code less between launch and store. plain: also, all have a piece. */
#define FEW_KERNEL(name, most, threads, all, plain, token) \
    static __global__ void __launch_bounds__(most, 1) name(const norm_args a, uint32_t of_row) \
    { \
        __shared__ float smem[2 * (most + 32)]; \
        const uint32_t pieces = plain ? all : (uint32_t)(a.cols / 16); \
        const fp4_row_cut cut = {all, 1, pieces, plain, 1, plain && WHOLE}; \
        const kind c = {cut, plain, token, !CENTERS, EARLY(token), 0}; \
        norm_one(a, c, 1, threads, smem, most + 32); \
    }

FEW_KERNEL(few_4096, 256, 64, 256, 1, 0)
FEW_KERNEL(few_8192, 512, 128, 512, 1, 0)
FEW_KERNEL(few_full, MOST, of_row, blockDim.x, 1, 0)
FEW_KERNEL(few_any, MOST, of_row, blockDim.x, 0, ASK)
#if HAS_GLOBAL
FEW_KERNEL(few_token_4096, 256, 64, 256, 1, 1)
FEW_KERNEL(few_token_8192, 512, 128, 512, 1, 1)
FEW_KERNEL(few_token_full, MOST, of_row, blockDim.x, 1, 1)
#endif

#if HAS_PARTS
/* Of a row, which the CTA reads as norm_one does, the pieces of one number, blockIdx.x; or one of
   so many rows of the padding. */
static __device__ __forceinline__ void norm_part(const norm_args &a, const kind c, float *smem)
{
    const uint32_t rows = (uint32_t)a.rows, behind = (blockIdx.y - rows) * EACH + blockIdx.x;
    const fp4_row_cut part = {c.cut.threads, 1, c.cut.pieces, 1, 0, c.cut.is_whole};
    const kind of_part = {part, c.plain, 0, c.product, 0, 0};
    kept k, own;

    fp4_pdl_wait();
    if (blockIdx.y >= rows) {
        if (rows + behind < fp4_sf_rows_padded(a.layout, rows)) {
            fp4_row_store_padding(a.layout, a.sf, rows + behind, c.cut, LANES);
        }
        return;
    }
    k.row = own.row = blockIdx.y;
    load_turn(&own, a, of_part, blockIdx.x, 1);
    load_turn(&k, a, c, 0, 1); /* that among them, which memory is asked for once */
    quantize_turn(own, a, of_part, normalize(&k, a, c, c.cut.threads, smem, 32), NULL);
}

/* Still fewer rows, of which all threads have EACH pieces. */
#define PART_KERNEL(name, most, all) \
    static __global__ void __launch_bounds__(most, 1) name(const norm_args a, uint32_t of_row) \
    { \
        __shared__ float smem[2 * 32]; \
        const fp4_row_cut cut = {all, EACH, EACH * all, EACH, 1, WHOLE}; \
        const kind c = {cut, 1, 0, !CENTERS, 0, 0}; \
        norm_part(a, c, smem); \
    }

PART_KERNEL(part_4096, 64, 64)
PART_KERNEL(part_8192, 128, 128)
PART_KERNEL(part_full, FP4_ROW_THREADS, of_row)
#endif

/* What is asked for most: rows of one turn, with one scale or one a token, and, but of short
   ones, nothing besides codes and scales. A kernel for each way to cut a row (row.h): it knows how
   many threads there are, and that all have their pieces but for the last; or, for four widths that
   gain by it (`full`), that too. beside: rows of a CTA, more than one of short ones, which would be
   more CTAs than can be started in the time. four: it has four rows of a tiled layout in turn;
   those behind `fours` have one. */
#define NORM_KERNEL(each, threads, name, full, token, four, beside) \
    static __global__ void __launch_bounds__(threads *beside, RESIDENT_OF(each, threads, token) / \
                                                                  (threads * beside)) \
        name##_##each##x##threads(const norm_args a, uint32_t fours) \
    { \
        __shared__ float smem[2 * 32]; \
        const uint32_t pieces = full ? threads * each : (uint32_t)(a.cols / 16); \
        const uint32_t sure = full ? each : each - 1; \
        const fp4_row_cut cut = {threads, each, pieces, sure, 1, WHOLE && each > 1}; \
        const kind c = {cut, each > 1, token, !CENTERS, EARLY(token), 0}; \
        if (four) { \
            norm_four(a, c, fours, smem); \
        } else { \
            norm_one(a, c, beside, threads, smem, 32); \
        } \
    }
#define NORM_CUT(each, threads, name, full, token, four) \
    NORM_KERNEL(each, threads, name, full, token, four, (four ? 1 : BESIDE(each, threads)))
#define NORM_FULL(name, token, four) \
    NORM_CUT(4, 32, name##_full, 1, token, four) \
    NORM_CUT(4, 64, name##_full, 1, token, four) \
    NORM_CUT(4, 128, name##_full, 1, token, four) \
    NORM_CUT(4, 256, name##_full, 1, token, four)
#define ENTRY(each, threads, name) (const void *)name##_##each##x##threads,

FP4_ROW_CUTS(NORM_CUT, norm, 0, 0, 0)
NORM_FULL(norm, 0, 0)
static const void *const norm_of[] = {FP4_ROW_CUTS(ENTRY, norm)};
#if HAS_FOUR
FP4_ROW_LONG_CUTS(NORM_CUT, four, 0, 0, 1)
NORM_FULL(four, 0, 1)
static const void *const four_of[] = {NULL, FP4_ROW_LONG_CUTS(ENTRY, four)};
#endif
#if HAS_GLOBAL
FP4_ROW_CUTS(NORM_CUT, token, 0, 1, 0)
NORM_FULL(token, 1, 0)
static const void *const token_of[] = {FP4_ROW_CUTS(ENTRY, token)};
#endif

/* ------------------------------------------------------------------------------ launcher */

/* Not a multiple of 16 bytes, or not to be counted in bytes. */
static int is_unaligned(const void *p, size_t stride, size_t rows)
{
    return (size_t)p % 16 != 0 || stride > (size_t)-1 / ELEMENT / rows ||
           stride * ELEMENT % 16 != 0;
}

/* No number to multiply by, or its reciprocal is none. What is on the device cannot be seen. */
static int is_bad_global(const norm_args *a)
{
    const int is_dec = a->global_is_dec && a->token_dec == NULL;
    const float enc = is_dec ? fp4_nvfp4_global_enc_from_dec(a->global) : a->global;

    return HAS_GLOBAL &&
           (a->global_device != NULL ? (size_t)a->global_device % 4 != 0
                                     : !(a->global > 0.0f && a->global <= FP4_F32_MAX &&
                                         enc > 0x1p-128f)); /* up to there 1 / enc is infinite */
}

static int is_bad(const norm_args *a)
{
    return a->x == NULL || a->weight == NULL || a->q == NULL || a->sf == NULL || /* null */
           (CENTERS && a->bias == NULL) || (ADDS && a->residual == NULL) ||
           (!HAS_GLOBAL && a->token_dec != NULL) || (size_t)a->token_dec % 4 != 0 ||
           a->cols % BLOCK != 0 || /* shape */
           a->cols > 0x7fffffffu || a->rows > 0x7fffff80u || (unsigned)a->layout > 2 ||
           a->x_stride < a->cols || (ADDS && a->residual_stride < a->cols) || /* strides */
           is_unaligned(a->x, a->x_stride, a->rows) || is_unaligned(a->weight, 0, 1) ||
           (CENTERS && is_unaligned(a->bias, 0, 1)) || is_unaligned(a->y, 0, 1) ||
           (ADDS && is_unaligned(a->residual, a->residual_stride, a->rows)) ||
           (size_t)a->q % CODES != 0 ||
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) ||
           !(a->eps > 0.0f && a->eps <= FP4_F32_MAX) || is_bad_global(a); /* numbers */
}

#define ONE_TURN(kernel, cols) \
    (cols == 2048    ? (const void *)kernel##_full_4x32 \
     : cols == 4096  ? (const void *)kernel##_full_4x64 \
     : cols == 8192  ? (const void *)kernel##_full_4x128 \
     : cols == 16384 ? (const void *)kernel##_full_4x256 \
                     : kernel##_of[fp4_row_cut_number(cols)])

/* Whether nothing is asked for besides codes and scales. */
static int is_plain(const norm_args *a)
{
    return a->y == NULL && a->sf_linear == NULL;
}

/* Whether scales are linear, and a row's no aligned words of four, which the fastest kernels need
   (WHOLE), but those of short rows. */
static int is_ragged(const norm_args *a)
{
    return WHOLE && a->layout == FP4_LAYOUT_LINEAR &&
           (a->cols % (4 * BLOCK) != 0 || (size_t)a->sf % 4 != 0);
}

/* Only norm_any has all of it, and is slower. */
static int is_any(const norm_args *a)
{
    return a->cols > FP4_ROW_KEPT || (a->cols > SHORT && (!is_plain(a) || is_ragged(a)));
}

/* For kernels of four rows a CTA, of a tiled layout. */
static int is_four(const norm_args *a)
{
    return HAS_FOUR && a->layout != FP4_LAYOUT_LINEAR && a->rows * a->cols >= FOURS &&
           (size_t)a->sf % 16 == 0 && a->cols > SHORT && !a->rounded && a->token_dec == NULL &&
           !is_any(a);
}

#define FEW_OF(kernel, cols) \
    (cols == 4096   ? (const void *)kernel##_4096 \
     : cols == 8192 ? (const void *)kernel##_8192 \
                    : (const void *)kernel##_full)

/* For kernels of a part of a row. */
static int is_part(const norm_args *a)
{
    return HAS_PARTS && a->token_dec == NULL && a->rows <= FEW_ROWS &&
           a->rows * (a->cols / 16) <= PARTS && !a->rounded && is_plain(a) && !is_ragged(a) &&
           a->cols <= FP4_ROW_KEPT && a->cols == (size_t)(16 * EACH) * fp4_row_threads(a->cols);
}

static const void *kernel_of_few(const norm_args *a)
{
    if (is_ragged(a) || !is_plain(a) || a->cols % 512 != 0) {
        return (const void *)few_any;
    }
#if HAS_PARTS
    if (is_part(a)) {
        return FEW_OF(part, a->cols);
    }
#endif
#if HAS_GLOBAL
    if (a->token_dec != NULL) {
        return FEW_OF(few_token, a->cols);
    }
#endif
    return FEW_OF(few, a->cols);
}

static const void *kernel_of(const norm_args *a, int is_few)
{
    if (a->rounded) {
        return (const void *)norm_rounded;
    }
    if (is_few) {
        return kernel_of_few(a);
    }
    if (is_any(a)) {
        return (const void *)norm_any;
    }
#if HAS_GLOBAL
    if (a->token_dec != NULL) {
        return ONE_TURN(token, a->cols);
    }
#endif
#if HAS_FOUR
    if (is_four(a)) {
        return ONE_TURN(four, a->cols);
    }
#endif
    return ONE_TURN(norm, a->cols);
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
    uint32_t threads = fp4_row_threads(a->cols), fours = 0;
    const size_t pieces = a->cols / 16, padded = fp4_sf_rows_padded(a->layout, a->rows);
    const int is_few = is_part(a) || (!a->rounded && a->rows <= FEW_ROWS &&
                                      a->rows * pieces <= FEW && pieces <= MOST);
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a, is_few ? &threads : &fours}; /* norm_any and such: one */

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)padded);
    config.blockDim = dim3(threads);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    if (is_part(a)) {
        config.gridDim = dim3(EACH, (unsigned)(a->rows + (padded - a->rows + EACH - 1) / EACH));
    } else if (is_few) {
        config.blockDim = dim3((unsigned)((pieces + 31) / 32 * 32));
    } else if (is_four(a)) {
        fours = fp4_row_fours(padded, ALONE / a->cols);
        config.gridDim.x -= 3 * fours;
    } else if (!a->rounded && !is_any(a)) {
        config.blockDim.y = BESIDE(fp4_row_each(a->cols), threads);
        config.gridDim.x = (config.gridDim.x + config.blockDim.y - 1) / config.blockDim.y;
    }
    return cudaLaunchKernelExC(&config, kernel_of(a, is_few), arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include <stdlib.h>
#include <string.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
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
    const size_t q_bytes = fp4_q_bytes(TO, rows, cols);
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
    fp4_status status;
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
    got = fp4_tensor_view(TO, layout, rows, cols, (uint8_t *)host(a.q, q_bytes), q_bytes,
                          (uint8_t *)host(a.sf, sf_bytes), sf_bytes);
    expected = fp4_tensor_view(TO, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                               (uint8_t *)malloc(sf_bytes), sf_bytes);
    status = ADDS ? fp4_ref_add_rmsnorm_quantize(m, residual, cols, weight, a.eps, &how, &expected)
             : CENTERS ? fp4_ref_layernorm_quantize(m, weight, bias, a.eps, &how, &expected)
                       : fp4_ref_rmsnorm_quantize(m, weight, a.eps, &how, &expected);
    if (status != FP4_OK) {
        fprintf(stderr, "host: %s\n", fp4_status_text(status));
        return 0;
    }
    got.global_dec = expected.global_dec;
    same = fp4_ref_same(&got, &expected, &d);
    if (ADDS && memcmp(host(a.residual, bytes), residual, bytes) != 0) {
        fprintf(stderr, "%zu x %zu, device and host: the residuals differ\n", rows, cols);
        same = 0;
    }
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
             check(32768, 4096, FP4_LAYOUT_128X4, 1));
}
#endif

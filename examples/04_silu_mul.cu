/*
 * 04_silu_mul.cu - the activation of a gated MLP and quantization in one kernel: silu(gate) * up,
 * gelu(gate) * up, or that of gpt-oss (swiglu_oai), to NVFP4, MXFP4 or MXFP8.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/04_silu_mul.cu -o silu_mul && ./silu_mul
 *
 * To change the input type, the format or the activation, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: as 03_rmsnorm.cu, but nothing is summed, so that each piece of 16 elements is
 * finished before the next is begun, and a CTA takes no more than 8192 columns of a row. The
 * activation is the library's own (activation.h), so that the bytes are the host's. Of bf16 it is
 * looked up in a table in shared memory (activation.cuh), for which CTAs stay and take one row
 * after the other, loading the next one's piece as soon as one is done with; else it is computed,
 * two pieces' loads in flight. With a scale a token the results have to wait for the amax of the
 * row: they are kept in registers, up to 4 pieces a thread, and the threads of a row wait for each
 * other alone. Where there are few rows, a thread has one piece, computed, and a row has many CTAs,
 * but with a scale a token.
 */
#include <fp4/device/activation.cuh>
#include <fp4/device/format.cuh>
#include <fp4/device/row.cuh>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8; nvfp4_32, mxfp4_16: with the other's block */
#endif
#if !defined(ACTIVATION)
#define ACTIVATION silu /* silu, gelu_tanh, swiglu_oai */
#endif

/* What the words stand for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define FORMAT_nvfp4_32 FP4_NVFP4_32
#define FORMAT_mxfp4_16 FP4_MXFP4_16
#define DEINTERLEAVE_f32 fp4_deinterleave_u32x16
#define DEINTERLEAVE_f16 fp4_deinterleave_u16x16
#define DEINTERLEAVE_bf16 fp4_deinterleave_u16x16
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
#define GATE_AMAX_f32(w) fp4_amax_or_nan_x16(fp4_f32x16_to_f32x16(w))
#define GATE_AMAX_f16 fp4_amax_or_nan_f16x16
#define GATE_AMAX_bf16 fp4_amax_or_nan_bf16x16
#define HAS_TABLE_f32 0
#define HAS_TABLE_f16 0
#define HAS_TABLE_bf16 1
#define HEAVY_silu 0 /* takes more registers */
#define HEAVY_gelu_tanh 1
#define HEAVY_swiglu_oai 1
#define GATE_silu silu
#define GATE_gelu_tanh gelu_tanh
#define GATE_swiglu_oai swiglu_oai_gate
#define TIMES_silu(act, up) fp4_mul_x16(act, WIDEN(up))
#define TIMES_gelu_tanh TIMES_silu
#define TIMES_swiglu_oai(act, up) OAI_UP(act, up)
#define OAI_UP_f32(act, w) fp4_swiglu_oai_up_x16(act, fp4_f32x16_to_f32x16(w))
#define OAI_UP_f16 fp4_swiglu_oai_up_f16x16
#define OAI_UP_bf16 fp4_swiglu_oai_up_bf16x16
#define HAS_GLOBAL_nvfp4 1
#define HAS_GLOBAL_nvfp4_32 1
#define HAS_GLOBAL_mxfp4 0
#define HAS_GLOBAL_mxfp4_16 0
#define HAS_GLOBAL_mxfp8 0

#define TO JOIN(FORMAT_, FORMAT, )
#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define NARROW JOIN(NARROW_, INPUT, )
#define GATE_AMAX JOIN(GATE_AMAX_, INPUT, )
#define DEINTERLEAVE JOIN(DEINTERLEAVE_, INPUT, )
#define STORE_Y JOIN(fp4_store_u32x, WORDS, )
#define GATE JOIN(GATE_, ACTIVATION, )
#define ACTIVATE JOIN(fp4_, GATE, _known_x16)
#define ACTIVATE_ANY JOIN(fp4_, GATE, _x16)
#define MAKE_TABLE JOIN(fp4_, GATE, _bf16_table)
#define TIMES JOIN(TIMES_, ACTIVATION, )
#define OAI_UP JOIN(OAI_UP_, INPUT, )
#define HAS_TABLE JOIN(HAS_TABLE_, INPUT, )
#define HAS_GLOBAL JOIN(HAS_GLOBAL_, FORMAT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4,             /* bytes of an input element */
    CODES = 2 * fp4_format_bits(TO), /* bytes of 16 codes */
    LANES = fp4_format_lanes(TO),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    HEAVY = JOIN(HEAVY_, ACTIVATION, ),
    /* with a table a CTA stays: one of 512 threads on a multiprocessor, 2 pieces a thread. Without,
       CTAs of 128 threads that each have a turn of a row, 4 pieces a thread, so many on a
       multiprocessor of sm_90 as do not spill */
    STAYS = HAS_TABLE,
    THREADS = STAYS ? 512 : 128,
    EACH = STAYS ? 2 : 4,
    CTAS = STAYS          ? 1
           : ELEMENT == 4 ? 2
                          : 6 - 2 * HEAVY,
    CTAS_INTERLEAVED = STAYS          ? 1
                       : ELEMENT == 4 ? 2
                                      : 4 - 2 * HEAVY,
    /* with a scale a token, up to 4 pieces a thread: with a table a CTA that stays; without, or
       rounded, or of any rows (is_token_any), which are computed, CTAs of up to 256 threads */
    KEPT = FP4_ROW_EACH,
    THREADS_TOKEN = STAYS ? THREADS : FP4_ROW_THREADS,
    /* if scales are linear, the fastest kernels are for rows of whole words of them: to ask costs
       up to 2 %, but not with blocks of 32 */
    WHOLE = LANES == 1,
    TURN_THREADS = STAYS ? 256 : 128, /* that share a row, or a turn of it */
    MOST_TURNS = 65535,               /* that a grid has room for */
    MOST_COLS = 65535 * 2048,         /* MOST_TURNS of up to 8192 are more */
    FEW_ROWS = 512,
    FEW_THREADS = 64, /* of a CTA, a piece each: the fewer, the sooner they are done; or 32 */
    MOST = 512        /* of those of a CTA that has a row of few with a scale a token */
};

/* Pieces of all rows up to which it is latency that counts; of FEW_ROWS at most. */
#if !defined(FEW)
#define FEW (1 << 16)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * y = activation(gate) * up, quantized to q and sf; of swiglu_oai see fp4/activation.h.
 *
 * shape    x: rows x 2 cols, row r at element r * x_stride: gate in the first cols columns, up in
 *          the others; or, if interleaved, gate in the even columns, up in the odd ones. cols:
 *          whole blocks, up to 134215680. x aligned to 16 bytes, the stride too. q: rows * cols
 *          codes, row-major, aligned to those of 16 elements. sf: fp4_sf_bytes(layout, rows, cols /
 *          BLOCK) bytes, aligned to 4 if tiled.
 * rounded  0: the codes come from y in f32. 1: y is rounded to the input type, then quantized: the
 *          bytes of activation and quantization in two kernels.
 * global   NVFP4: the second-level scale, in encode sense unless global_is_dec; read from
 *          global_device, 4-byte aligned, where that is not null. Positive and finite, and
 *          so its reciprocal (above 2^-128). Other formats ignore it.
 * optional where not null: y, rows x cols of the input type, aligned to 16 bytes; sf_linear, the
 *          scales in the linear layout too; token_dec, rows floats: NVFP4 with a second-level scale
 *          a row, from its amax (fp4_nvfp4_token_enc), stored there in decode sense; global is then
 *          the base scale in decode sense, 1/2688 to use the whole range.
 * overlap  no output overlaps an input or another output.
 */
typedef struct gated_args {
    const void *x;
    size_t rows, cols, x_stride;
    int interleaved, rounded;
    const float *global_device;
    float global;
    int global_is_dec;
    uint8_t *q, *sf;
    fp4_layout layout;
    uint8_t *sf_linear;
    void *y;
    float *token_dec;
} gated_args;

/* ------------------------------------------------------------------------------ kernels */

/* What is constant in a kernel. plain: no y, no second layout. interleaved: 1, 0, or ASK, as the
   arguments say. stays: its CTAs take one row after the other. table: the activation's, or null. */
typedef struct kind {
    fp4_row_cut cut;
    int plain, interleaved, rounded, stays;
    const float *table;
} kind;
enum { ASK = 2 };

static __device__ __forceinline__ int is_interleaved(const gated_args &a, const kind c)
{
    return c.interleaved == ASK ? a.interleaved : c.interleaved;
}

/* The two operands of 16 elements. */
typedef struct operands {
    raw gate, up;
} operands;

/* Those of a piece; zeros if the row has none such, and of rows that there are not, which only a
   CTA that stays may ask for. */
static __device__ __forceinline__ operands load_piece(const gated_args &a, const kind c,
                                                      uint32_t row, uint32_t piece, int has)
{
    const uint8_t *x = (const uint8_t *)a.x + (size_t)row * a.x_stride * ELEMENT;
    const size_t at = (size_t)piece * (16 * ELEMENT);
    operands o = {raw(), raw()};

    if ((!c.stays || row < a.rows) && has) {
        o.gate = LOAD(x + (is_interleaved(a, c) ? 2 * at : at));
        o.up = LOAD(x + (is_interleaved(a, c) ? 2 * at + 16 * ELEMENT : at + a.cols * ELEMENT));
    }
    return o;
}

/* The activation of a piece's gates, of any; or (a constant) out of the table, if it has those of
   all lanes whose piece is there, with the others left to be something finite; or else of gates
   within +-87, beyond which a NaN is left. */
static __device__ __forceinline__ fp4_f32x16 activate(const kind c, raw gate, int is_there,
                                                      const int of_any)
{
#if HAS_TABLE
    if (!of_any && c.table != NULL &&
        !fp4_ptx_any(0xffffffffu, is_there && !fp4_bf16_table_has_x16(gate))) {
        return fp4_bf16_table_x16(c.table, gate);
    }
#endif
    return of_any ? ACTIVATE_ANY(WIDEN(gate)) : ACTIVATE(WIDEN(gate), GATE_AMAX(gate));
}

/* y of a piece; of one that is not there something finite. All lanes of a warp call. */
static __device__ __forceinline__ fp4_f32x16 value_of(const gated_args &a, const kind c, operands o,
                                                      int has, const int of_any)
{
    fp4_f32x16 y;

    if (is_interleaved(a, c)) {
        DEINTERLEAVE(&o.gate, &o.up);
    }
    y = TIMES(activate(c, o.gate, has, of_any), o.up);
    return c.rounded ? WIDEN(NARROW(y)) : y;
}

static __device__ __forceinline__ float block_amax(fp4_f32x16 t)
{
    return fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), LANES);
}

/* What is left of a turn when its pieces are quantized: their scale bytes, a byte of `bytes` each,
   and which of them want care. */
typedef struct rest {
    uint32_t bytes, care;
} rest;

static __device__ __forceinline__ void store_piece(const gated_args &a, const kind c, uint32_t row,
                                                   uint32_t piece, fp4_f32x16 y, fp4_part4 p)
{
    fp4_store_codes_x16(TO, a.q + ((size_t)row * c.cut.pieces + piece) * CODES, p);
    if (!c.plain && a.y != NULL) {
        STORE_Y((uint8_t *)a.y + ((size_t)row * a.cols + piece * 16) * ELEMENT, NARROW(y));
    }
}

static __device__ __forceinline__ void quantize_piece(const gated_args &a, const kind c,
                                                      uint32_t row, uint32_t piece, int has,
                                                      uint32_t j, fp4_f32x16 y, float amax,
                                                      float global_enc, rest *left)
{
    uint32_t needs_care;
    const fp4_part4 p = fp4_quantize_known_x16(TO, y, amax, global_enc, &needs_care);

    if (has) {
        store_piece(a, c, row, piece, y, p);
        left->bytes |= (uint32_t)p.sf << 8 * j;
        left->care |= needs_care << j;
    }
}

/* The blocks that _known could not take, without regard to speed: from memory, one piece after the
   other. */
static __device__ __forceinline__ void mend(const gated_args &a, const kind c, uint32_t row,
                                            uint32_t turn, float global_enc, rest *left)
{
#pragma unroll 1
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, turn, j);
        if (fp4_ptx_any(0xffffffffu, left->care >> j & 1u)) {
            const int has = fp4_row_has(c.cut, turn, j);
            const fp4_f32x16 y = value_of(a, c, load_piece(a, c, row, piece, has), has, 1);
            const fp4_part4 p = fp4_quantize_any_x16(TO, y, global_enc);
            if (has) {
                store_piece(a, c, row, piece, y, p);
                left->bytes = (left->bytes & ~(0xffu << 8 * j)) | (uint32_t)p.sf << 8 * j;
            }
        }
    }
}

/* The scale bytes of a turn. */
static __device__ __forceinline__ void finish_turn(const gated_args &a, const kind c, uint32_t row,
                                                   uint32_t turn, float global_enc, rest *left)
{
    if (fp4_ptx_any(0xffffffffu, left->care != 0)) {
        mend(a, c, row, turn, global_enc, left);
    }
    fp4_row_store_sf(a.layout, a.sf, row, c.cut, turn, LANES, left->bytes);
    if (!c.plain && a.sf_linear != NULL) {
        fp4_row_store_sf(FP4_LAYOUT_LINEAR, a.sf_linear, row, c.cut, turn, LANES, left->bytes);
    }
}

/* Two pieces of a turn, the loads of both in flight. */
static __device__ __forceinline__ void load_two(operands o[2], const gated_args &a, const kind c,
                                                uint32_t row, uint32_t turn, uint32_t two)
{
#pragma unroll
    for (uint32_t j = 0; j < 2 && two + j < c.cut.each; j++) {
        o[j] = load_piece(a, c, row, fp4_row_piece(c.cut, turn, two + j),
                          fp4_row_has(c.cut, turn, two + j));
    }
}

/* A turn of a row, its first two pieces loaded. A CTA that stays has no more of them, and as one is
   done with, loads its like of the next row. */
static __device__ __forceinline__ void gated_turn(const gated_args &a, const kind c, uint32_t row,
                                                  uint32_t next, uint32_t turn, float global_enc,
                                                  operands o[2])
{
    rest left = {0, 0};

#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, turn, j);
        const int has = fp4_row_has(c.cut, turn, j);
        const int has_any = fp4_row_has_any(c.cut, turn, j); /* the warp has work */
        fp4_f32x16 y = fp4_f32x16();
        if (j > 0 && j % 2 == 0) {
            load_two(o, a, c, row, turn, j);
        }
        if (!c.stays && j == (c.cut.each - 1) / 2 * 2) { /* nothing more to load */
            fp4_pdl_trigger();
        }
        if (has_any) {
            y = value_of(a, c, o[j % 2], has, 0);
        }
        if (c.stays) {
            o[j] = load_piece(a, c, next, piece, has);
        }
        if (has_any) {
            quantize_piece(a, c, row, piece, has, j, y, block_amax(y), global_enc, &left);
        }
    }
    finish_turn(a, c, row, turn, global_enc, &left);
}

/* The scale bytes of a row of the padding. */
static __device__ __forceinline__ void pad_row(const gated_args &a, const kind c, uint32_t row)
{
    if (blockIdx.y == 0) {
        fp4_row_store_padding(a.layout, a.sf, row, c.cut, LANES);
    }
}

/* The second-level scale that is given; with a scale a token the base of these. */
static __device__ __forceinline__ float given_global(const gated_args &a)
{
    return HAS_GLOBAL && a.global_device != NULL ? *a.global_device : a.global;
}

static __device__ __forceinline__ float enc_of(const gated_args &a)
{
    const float given = given_global(a);
    return a.global_is_dec ? fp4_nvfp4_global_enc_from_dec(given) : given;
}

/* A turn of a row of few: the turns of a row are CTAs beside each other, and so are rows of the
   padding, of which each CTA has one. */
static __device__ __forceinline__ void gated_part(const gated_args &a, const kind c)
{
    const uint32_t rows = (uint32_t)a.rows, behind = (blockIdx.y - rows) * gridDim.x + blockIdx.x;
    operands o[2];

    fp4_pdl_wait();
    if (blockIdx.y >= rows) {
        if (rows + behind < fp4_sf_rows_padded(a.layout, rows)) {
            fp4_row_store_padding(a.layout, a.sf, rows + behind, c.cut, LANES);
        }
        return;
    }
    load_two(o, a, c, blockIdx.y, blockIdx.x, 0);
    gated_turn(a, c, blockIdx.y, 0, blockIdx.x, enc_of(a), o);
}

#if HAS_TABLE
/* A turn of the CTA's rows, of so many at a time as it is high. */
static __device__ __forceinline__ void gated_rows(const gated_args &a, kind c)
{
    __shared__ float table[FP4_BF16_TABLE];
    const uint32_t rows = (uint32_t)fp4_sf_rows_padded(a.layout, a.rows);
    const uint32_t step = gridDim.x * blockDim.y;
    uint32_t row = blockIdx.x * blockDim.y + threadIdx.y;
    operands o[2];

    fp4_pdl_wait();
    load_two(o, a, c, row, blockIdx.y, 0); /* on their way while the table is made */
    const float global_enc = enc_of(a);
    MAKE_TABLE(table, threadIdx.y * blockDim.x + threadIdx.x, blockDim.x * blockDim.y);
    fp4_ptx_barrier();
    c.table = table;
    for (; row < rows; row += step) {
        if (row + step >= rows) {
            fp4_pdl_trigger();
        }
        if (row < a.rows) {
            gated_turn(a, c, row, row + step, blockIdx.y, global_enc, o);
        } else {
            pad_row(a, c, row);
        }
    }
}
#else
/* A turn of the CTA's row. */
static __device__ __forceinline__ void gated_rows(const gated_args &a, const kind c)
{
    operands o[2];

    fp4_pdl_wait();
    if (blockIdx.x >= a.rows) {
        pad_row(a, c, blockIdx.x);
        return;
    }
    load_two(o, a, c, blockIdx.x, blockIdx.y, 0);
    gated_turn(a, c, blockIdx.x, 0, blockIdx.y, enc_of(a), o);
}
#endif

/* What a thread keeps of its row until the row's amax is known: the pieces of one turn. */
typedef struct kept {
    uint32_t turn;
    fp4_f32x16 y[KEPT];
    float amax[KEPT];
} kept;

static __device__ __forceinline__ void load_turn(kept *k, const gated_args &a, const kind c,
                                                 uint32_t turn)
{
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, turn, j);
        const int has = fp4_row_has(c.cut, turn, j);
        k->y[j] = value_of(a, c, load_piece(a, c, blockIdx.x, piece, has), has, 0);
        k->amax[j] = block_amax(k->y[j]);
    }
    k->turn = turn;
}

/* The amax of a row around its NaNs: each warp looks at all of it. */
static __device__ __forceinline__ float amax_around_nans(const gated_args &a, const kind c,
                                                         uint32_t row)
{
    float amax = 0.0f;

#pragma unroll 1
    for (uint32_t piece = threadIdx.x % 32; piece < c.cut.pieces; piece += 32) {
        amax =
            fp4_ptx_max(amax, fp4_amax_x16(value_of(a, c, load_piece(a, c, row, piece, 1), 1, 1)));
    }
    return fp4_warp_max(amax);
}

/* The amax of the CTA's row, NaN left out. The last turn is kept. */
static __device__ __forceinline__ float row_amax(kept *k, const gated_args &a, const kind c)
{
    __shared__ float smem[32];
    float amax = 0.0f;

    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        load_turn(k, a, c, turn);
#pragma unroll
        for (uint32_t j = 0; j < c.cut.each; j++) {
            amax = fp4_row_has(c.cut, turn, j) ? fp4_max_nan_(amax, k->amax[j]) : amax;
        }
    }
    fp4_pdl_trigger();
    amax = fp4_cta_max_or_nan_of(amax, c.cut.threads, smem);
    return fp4_is_nan(amax) ? amax_around_nans(a, c, blockIdx.x) : amax;
}

/* The second-level scale of a row, which is stored. */
static __device__ __forceinline__ float token_global(const gated_args &a, uint32_t row, float amax,
                                                     float base_dec)
{
    const float enc = fp4_nvfp4_token_enc(amax, base_dec);

    if (threadIdx.x == 0) {
        a.token_dec[row] = fp4_nvfp4_token_dec(amax, enc);
    }
    return enc;
}

/* The CTA's row, its second-level scale that of its amax. */
static __device__ __forceinline__ void gated_token(const gated_args &a, const kind c)
{
    const uint32_t row = blockIdx.x;
    kept k;

    fp4_pdl_wait();
    if (row >= a.rows) {
        fp4_row_store_padding(a.layout, a.sf, row, c.cut, LANES);
        return;
    }
    const float base_dec = given_global(a), amax = row_amax(&k, a, c);
    const float global_enc = token_global(a, row, amax, base_dec);

    for (uint32_t turn = 0; turn < fp4_row_turns(c.cut); turn++) {
        rest left = {0, 0};
        if (fp4_row_turns(c.cut) > 1 && k.turn != turn) {
            load_turn(&k, a, c, turn);
        }
#pragma unroll
        for (uint32_t j = 0; j < c.cut.each; j++) {
            quantize_piece(a, c, row, fp4_row_piece(c.cut, turn, j), fp4_row_has(c.cut, turn, j), j,
                           k.y[j], k.amax[j], global_enc, &left);
        }
        finish_turn(a, c, row, turn, global_enc, &left);
    }
}

#if HAS_TABLE
/* A row of a team of the CTA's threads, its pieces loaded. As one is done with, its like of the
   next row is loaded. */
static __device__ __forceinline__ void gated_token_of_team(const gated_args &a, const kind c,
                                                           uint32_t row, uint32_t next,
                                                           float base_dec, float *smem,
                                                           operands o[KEPT])
{
    kept k;
    float amax = 0.0f;
    rest left = {0, 0};

#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        k.y[j] = value_of(a, c, o[j], fp4_row_has(c.cut, 0, j), 0);
        k.amax[j] = block_amax(k.y[j]);
        amax = fp4_row_has(c.cut, 0, j) ? fp4_max_nan_(amax, k.amax[j]) : amax;
    }
    amax = fp4_team_max_or_nan(amax, c.cut.threads, 0, smem); /* an SM has room for one CTA */
    if (fp4_is_nan(amax)) {
        amax = amax_around_nans(a, c, row);
    }
    /* loaded again but on sm_90: elsewhere it would take the register of a word that spills */
    const float global_enc =
        token_global(a, row, amax, FP4_ARCH == 900 ? base_dec : given_global(a));
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) {
        const uint32_t piece = fp4_row_piece(c.cut, 0, j);
        const int has = fp4_row_has(c.cut, 0, j);
        quantize_piece(a, c, row, piece, has, j, k.y[j], k.amax[j], global_enc, &left);
        o[j] = load_piece(a, c, next, piece, has);
    }
    finish_turn(a, c, row, 0, global_enc, &left);
}

/* The rows of the CTA's teams, which take one each at a time and do not wait for each other. smem:
   one for every other row, so that there is a barrier between one's use and the next. */
static __device__ __forceinline__ void gated_tokens(const gated_args &a, kind c)
{
    __shared__ float table[FP4_BF16_TABLE];
    __shared__ float smem[2][THREADS / 32][32];
    const uint32_t rows = (uint32_t)fp4_sf_rows_padded(a.layout, a.rows);
    const uint32_t step = gridDim.x * blockDim.y;
    uint32_t row = blockIdx.x * blockDim.y + threadIdx.y;
    operands o[KEPT];

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < c.cut.each; j++) { /* on their way while the table is made */
        o[j] = load_piece(a, c, row, fp4_row_piece(c.cut, 0, j), fp4_row_has(c.cut, 0, j));
    }
    const float base_dec = given_global(a);
    MAKE_TABLE(table, threadIdx.y * blockDim.x + threadIdx.x, blockDim.x * blockDim.y);
    fp4_ptx_barrier();
    c.table = table;
    for (uint32_t i = 0; row < rows; row += step, i ^= 1) {
        if (row + step >= rows) {
            fp4_pdl_trigger();
        }
        if (row < a.rows) {
            gated_token_of_team(a, c, row, row + step, base_dec, smem[i][threadIdx.y], o);
        } else {
            pad_row(a, c, row);
        }
    }
}
#else
#define gated_tokens gated_token
#endif

/* The kernels: gate and up in two parts of the row, or interleaved; with a scale a token, rows of
   one turn, any; y rounded first or not. The fastest know that all threads have their pieces, or
   all but the last of a turn (sure: so many of them). Elsewhere than on sm_90 a CTA may have all
   registers. */
#define GATED_KERNEL(name, work, threads, ctas, each, sure, one, interleaved, rounded, stays) \
    static __global__ void __launch_bounds__(threads, FP4_ARCH == 900 ? ctas : 1) \
        name(const gated_args a) \
    { \
        const uint32_t pieces = (uint32_t)(a.cols / 16); \
        const int is_whole = (one || sure > 0) && WHOLE; \
        const fp4_row_cut cut = {blockDim.x, each, pieces, sure, one, is_whole}; \
        const kind c = {cut, 0, interleaved, rounded, stays, NULL}; \
        work(a, c); \
    }

#define TOKEN_LAST(each) \
    GATED_KERNEL(token_##each, gated_tokens, THREADS_TOKEN, 1, each, each - 1, 1, ASK, 0, STAYS)

GATED_KERNEL(split_full, gated_rows, THREADS, CTAS, EACH, EACH, 0, 0, 0, STAYS)
GATED_KERNEL(split_last, gated_rows, THREADS, CTAS, EACH, EACH - 1, 0, 0, 0, STAYS)
GATED_KERNEL(split_any, gated_rows, THREADS, CTAS, EACH, 0, 0, 0, 0, STAYS)
GATED_KERNEL(interleaved_full, gated_rows, THREADS, CTAS_INTERLEAVED, EACH, EACH, 0, 1, 0, STAYS)
GATED_KERNEL(interleaved_any, gated_rows, THREADS, CTAS_INTERLEAVED, EACH, 0, 0, 1, 0, STAYS)
GATED_KERNEL(gated_rounded, gated_rows, THREADS, 1, EACH, 0, 0, ASK, 1, STAYS)
#if HAS_GLOBAL
GATED_KERNEL(token_full, gated_tokens, THREADS_TOKEN, 1, KEPT, KEPT, 1, 0, 0, STAYS)
TOKEN_LAST(4)
TOKEN_LAST(3)
TOKEN_LAST(2)
TOKEN_LAST(1)
GATED_KERNEL(token_any, gated_token, FP4_ROW_THREADS, 1, KEPT, 0, 0, ASK, 0, 0)
GATED_KERNEL(token_rounded, gated_token, FP4_ROW_THREADS, 1, KEPT, 0, 0, ASK, 1, 0)
#endif

/* Few rows, a piece a thread, `all` of the CTA. It is latency that counts: each constant is code
   less between launch and store. plain: also, all threads have a piece, of a row that is not
   interleaved. one: the CTA has all of a row. */
#define FEW_KERNEL(name, work, most, all, plain, one) \
    static __global__ void __launch_bounds__(most, 1) name(const gated_args a) \
    { \
        const uint32_t pieces = plain && one ? all : (uint32_t)(a.cols / 16); \
        const fp4_row_cut cut = {all, 1, pieces, plain, one, plain && WHOLE}; \
        const kind c = {cut, plain, plain ? 0 : ASK, 0, 0, NULL}; \
        work(a, c); \
    }

FEW_KERNEL(few_full, gated_part, FEW_THREADS, FEW_THREADS, 1, 0)
FEW_KERNEL(few_half, gated_part, FEW_THREADS / 2, FEW_THREADS / 2, 1, 0)
FEW_KERNEL(few_any, gated_part, FEW_THREADS, FEW_THREADS, 0, 0)
#if HAS_GLOBAL
FEW_KERNEL(few_token_4096, gated_token, 256, 256, 1, 1)
FEW_KERNEL(few_token_8192, gated_token, 512, 512, 1, 1)
FEW_KERNEL(few_token_full, gated_token, MOST, blockDim.x, 1, 1)
FEW_KERNEL(few_token_any, gated_token, MOST, blockDim.x, 0, 1)
#endif

/* ------------------------------------------------------------------------------ launcher */

/* No number to multiply by, or its reciprocal is none. What is on the device cannot be seen. */
static int is_bad_global(const gated_args *a)
{
    const int is_dec = a->global_is_dec && a->token_dec == NULL;
    const float enc = is_dec ? fp4_nvfp4_global_enc_from_dec(a->global) : a->global;

    return HAS_GLOBAL &&
           (a->global_device != NULL ? (size_t)a->global_device % 4 != 0
                                     : !(a->global > 0.0f && a->global <= FP4_F32_MAX &&
                                         enc > 0x1p-128f)); /* up to there 1 / enc is infinite */
}

static int is_bad(const gated_args *a)
{
    return a->x == NULL || a->q == NULL || a->sf == NULL || /* null */
           (!HAS_GLOBAL && a->token_dec != NULL) || (size_t)a->token_dec % 4 != 0 ||
           a->cols % BLOCK != 0 || /* shape */
           a->cols > MOST_COLS || a->rows > 0x7fffff80u || (unsigned)a->layout > 2 ||
           a->x_stride < 2 * a->cols ||
           a->x_stride > (size_t)-1 / ELEMENT / a->rows ||              /* strides */
           a->x_stride * ELEMENT % 16 != 0 || (size_t)a->x % 16 != 0 || /* alignment */
           (size_t)a->y % 16 != 0 || (size_t)a->q % CODES != 0 ||
           (a->layout != FP4_LAYOUT_LINEAR && (size_t)a->sf % 4 != 0) || is_bad_global(a);
}

/* Whether there are linear scales, and a row's are not aligned words of four, which the fastest
   kernels need (WHOLE). */
static int is_ragged(const gated_args *a)
{
    return WHOLE && (a->layout == FP4_LAYOUT_LINEAR || a->sf_linear != NULL) &&
           (a->cols % (4 * BLOCK) != 0 || ((size_t)a->sf | (size_t)a->sf_linear) % 4 != 0);
}

/* With a scale a token: only token_any has all of it but rounding, and is slower. */
static int is_token_any(const gated_args *a)
{
    return a->cols > FP4_ROW_KEPT || is_ragged(a);
}

/* Turns of so many threads with so many pieces each that a row takes. */
static size_t turns_of(size_t pieces, uint32_t threads, uint32_t each)
{
    return (pieces + each * threads - 1) / (each * threads);
}

/* Whether all threads have all their pieces of all turns but for the last. What some lack is worked
   on for nothing, which is faster than to ask; where there is no table, only if it is little. */
static int is_last(size_t pieces, uint32_t threads)
{
    return (pieces + threads - 1) / threads % EACH == 0 &&
           (STAYS || 8 * pieces >= 7 * turns_of(pieces, threads, EACH) * EACH * threads);
}

/* Few rows that are not interleaved, with nothing asked for besides codes and scales, and a piece
   for each of 32 threads. */
static int is_few_plain(const gated_args *a)
{
    return !a->interleaved && a->y == NULL && a->sf_linear == NULL && !is_ragged(a) &&
           a->cols % 512 == 0;
}

/* Threads to a turn of such a row, if it is by turns. */
static uint32_t few_threads(const gated_args *a)
{
    return is_few_plain(a) && a->cols % (16 * FEW_THREADS) != 0 ? FEW_THREADS / 2 : FEW_THREADS;
}

/* Threads to a row, or to a turn of it. Of few rows a piece each; with a scale a token so many as
   can keep the row; else up to TURN_THREADS, of these so many as leave the fewest without work, in
   their turns and, where a CTA takes as many rows as it has room for, in the CTA. */
static uint32_t threads_of(const gated_args *a, int is_few)
{
    const size_t pieces = a->cols / 16;
    uint32_t best = TURN_THREADS, threads;
    double most = 0.0;

    if (is_few) {
        return a->token_dec == NULL ? few_threads(a) : (uint32_t)(pieces + 31) / 32 * 32;
    }
    if (a->token_dec != NULL) {
        return fp4_row_threads(a->cols);
    }
    for (threads = TURN_THREADS; threads > 0; threads -= 32) {
        const size_t turns = turns_of(pieces, threads, EACH);
        const double work = (double)pieces / (double)(turns * EACH * threads);
        const double busy = STAYS ? (double)(THREADS / threads * threads) / THREADS : 1.0;
        const double share = is_last(pieces, threads) ? work * busy : work * busy * 0.5;
        if (turns <= MOST_TURNS && share > most) {
            most = share;
            best = threads;
        }
    }
    return best;
}

#define FEW_OF(kernel, cols) \
    (cols == 4096   ? (const void *)kernel##_4096 \
     : cols == 8192 ? (const void *)kernel##_8192 \
                    : (const void *)kernel##_full)

static const void *kernel_of_few(const gated_args *a)
{
#if HAS_GLOBAL
    if (a->token_dec != NULL) {
        return is_few_plain(a) ? FEW_OF(few_token, a->cols) : (const void *)few_token_any;
    }
#endif
    return !is_few_plain(a)                ? (const void *)few_any
           : few_threads(a) == FEW_THREADS ? (const void *)few_full
                                           : (const void *)few_half;
}

#if HAS_GLOBAL
/* With a scale a token. */
static const void *kernel_of_token(const gated_args *a)
{
    static const void *const token_of[] = {(const void *)token_1, (const void *)token_2,
                                           (const void *)token_3, (const void *)token_4};
    const int is_full = a->cols % (16 * KEPT * fp4_row_threads(a->cols)) == 0;

    return a->rounded                   ? (const void *)token_rounded
           : is_token_any(a)            ? (const void *)token_any
           : is_full && !a->interleaved ? (const void *)token_full
                                        : token_of[fp4_row_each(a->cols) - 1];
}
#endif

static const void *kernel_of(const gated_args *a, uint32_t threads, int is_few)
{
    const size_t pieces = a->cols / 16;
    const int is_full = !is_ragged(a) && pieces % (EACH * threads) == 0;

    if (is_few) {
        return kernel_of_few(a);
    }
#if HAS_GLOBAL
    if (a->token_dec != NULL) {
        return kernel_of_token(a);
    }
#endif
    if (a->rounded) {
        return (const void *)gated_rounded;
    }
    if (a->interleaved) {
        return is_full ? (const void *)interleaved_full : (const void *)interleaved_any;
    }
    return is_full                                     ? (const void *)split_full
           : !is_ragged(a) && is_last(pieces, threads) ? (const void *)split_last
                                                       : (const void *)split_any;
}

/* CTAs for each of so many turns: no more than the device has room for, but one; each with as many
   of the rows that are taken together as the others, or one less. */
static cudaError_t equal_shares(const void *kernel, uint32_t threads, size_t together, size_t turns,
                                size_t *ctas)
{
    int device = 0, processors = 0, resident = 0;
    cudaError_t error = cudaGetDevice(&device);

    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) {
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, (int)threads, 0);
    }
    if (error == cudaSuccess) {
        const size_t room = (size_t)processors * (size_t)resident / turns;
        const size_t share = room > 1 ? (together + room - 1) / room : together;
        *ctas = (together + share - 1) / share;
    }
    return error;
}

/**
 * Activates, multiplies and quantizes on `stream`: one launch, no allocation, no synchronization,
 * nothing read on the host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. rows = 0 or cols = 0 is no error. What the runtime says where
 *          it cannot tell how much the device has room for.
 */
static cudaError_t gated_quantize(const gated_args *a, int pdl, cudaStream_t stream)
{
    const int is_token = a->token_dec != NULL;
    const size_t pieces = a->cols / 16, rows = fp4_sf_rows_padded(a->layout, a->rows);
    const int is_few = !a->rounded && a->rows <= FEW_ROWS && a->rows * pieces <= FEW &&
                       (!is_token || pieces <= MOST);
    const uint32_t across = threads_of(a, is_few);
    size_t ctas = rows, turns = 1, high = 1;
    const int stays = STAYS && !is_few && !(is_token && (a->rounded || is_token_any(a)));
    const void *kernel;
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    void *arguments[] = {(void *)a};
    cudaError_t error = cudaSuccess;

    if (a->rows == 0 || a->cols == 0) {
        return cudaSuccess;
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    kernel = kernel_of(a, across, is_few);
    if (!is_token) {
        turns = turns_of(pieces, across, is_few ? 1 : EACH);
    }
    if (stays) {
        high = THREADS / across;
        error =
            equal_shares(kernel, across * (uint32_t)high, (rows + high - 1) / high, turns, &ctas);
    }
    if (error != cudaSuccess) {
        return error;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)ctas, (unsigned)turns);
    if (is_few && !is_token) { /* turns beside each other, and rows of the padding (gated_part) */
        config.gridDim =
            dim3((unsigned)turns, (unsigned)(a->rows + (rows - a->rows + turns - 1) / turns));
    }
    config.blockDim = dim3(across, (unsigned)high);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/compare.h>
#include <fp4/host/ops.h>

#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "silu_mul: %s\n", cudaGetErrorString(error));
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
static void measure(const gated_args *a, double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(gated_quantize(a, 0, 0));
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
    const size_t bytes = 2 * rows * cols * ELEMENT;
    void *x = elements(2 * rows * cols, -0.5f);
    const fp4_matrix m = {x, JOIN(DTYPE_, INPUT, ), rows, 2 * cols, 2 * cols, 1.0f};
    fp4_ref_fused how = {};
    gated_args a = {};
    fp4_tensor got, expected;
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;
    fp4_status status;
    int same;

    a.x = device(x, bytes);
    a.rows = rows;
    a.cols = cols;
    a.x_stride = 2 * cols;
    a.global = how.global_enc = 2688.0f; /* of values up to 1 */
    a.q = (uint8_t *)device(NULL, q_bytes);
    a.sf = (uint8_t *)device(NULL, sf_bytes);
    a.layout = layout;
    must(gated_quantize(&a, 0, 0));
    got = fp4_tensor_view(TO, layout, rows, cols, (uint8_t *)host(a.q, q_bytes), q_bytes,
                          (uint8_t *)host(a.sf, sf_bytes), sf_bytes);
    expected = fp4_tensor_view(TO, layout, rows, cols, (uint8_t *)malloc(q_bytes), q_bytes,
                               (uint8_t *)malloc(sf_bytes), sf_bytes);
    status = JOIN(fp4_ref_, ACTIVATION, _mul_quantize)(m, 0, &how, &expected);
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
    printf("%s to %s, %s of gate and up\n", TEXT(INPUT), TEXT(FORMAT), TEXT(ACTIVATION));
    /* few rows, a ragged end, several turns, and what is timed */
    return !(check(1, 4096, FP4_LAYOUT_128X4, 0) && check(130, 96, FP4_LAYOUT_8X4, 0) &&
             check(3, 20000 / BLOCK * BLOCK, FP4_LAYOUT_LINEAR, 0) &&
             check(300, 1056, FP4_LAYOUT_8X4, 0) && check(16384, 4096, FP4_LAYOUT_128X4, 1));
}
#endif

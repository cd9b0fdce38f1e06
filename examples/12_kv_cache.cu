/*
 * 12_kv_cache.cu - paged KV caches in NVFP4: whole pages of K and V quantized, and the tokens of
 * sequences brought back through block tables; K and V in one launch.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/12_kv_cache.cu -o kv_cache && ./kv_cache
 *
 * To change the type of the elements, edit one word below. Where everything stands in a page, and
 * what the 4x1 order of V's scale bytes is: fp4/kv_cache.h.
 *
 * How it works: a thread quantizes four pieces of 16 elements, and brings 16 bytes of four tokens
 * back. With 4x1 scales the four pieces are those of four tokens, whose scale bytes are one word.
 * With linear ones a warp has a run of them, and four lanes exchange their scale bytes, so that
 * each has a word of neighbours. Pages without gaps between them are quantized as one long page.
 */
#include <fp4/device/dequant.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>
#include <fp4/divisor.h>
#include <fp4/kv_cache.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16: what is quantized, and what is made of codes */
#endif

/* What the word stands for. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16 /* registers of 16 elements as in memory */
#define WORDS_f16 8
#define WORDS_bf16 8
#define NARROW_f32(x) first_four(x)
#define NARROW_f16(x) fp4_f32x8_to_f16x8(x)
#define NARROW_bf16(x) fp4_f32x8_to_bf16x8(x)

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define NARROW JOIN(NARROW_, INPUT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4,  /* bytes of an element */
    PIECE = 16 / ELEMENT, /* elements of 16 bytes */
    CODES = PIECE / 2,    /* bytes of their codes */
    BLOCK = FP4_NVFP4_BLOCK,
    WIDTH_LOG2 = 7,
    THREADS = 1 << WIDTH_LOG2,
    EACH = 4,        /* pieces a thread: what a word of scale bytes has, and loads in flight */
    RUN = 32 * EACH, /* pieces a warp, where they stand one after the other */
    /* CTAs of a multiprocessor that quantize, on sm_90; elsewhere so few that nothing spills */
    RESIDENT = FP4_ARCH != 900 ? 3
               : ELEMENT == 4  ? 4
                               : 7
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * A global scale: a number, or where on the device it is.
 *
 * range    as fp4_kv_can_encode has it, of what is only brought back fp4_kv_can_decode. A device
 *          scale that is not: unspecified codes, elements as the products give.
 */
typedef struct kv_scale {
    const float *device;
    fp4_kv_sense sense;
    float value;
} kv_scale;

/**
 * K or V to be quantized; pages.dim = 0: there is none.
 *
 * shape      x: the pages, rows of dim elements in the order of pages, page p at element
 *            p * x_stride. q, sf: as pages says. No output overlaps an input, or another output.
 *            x, x_stride: multiples of 16 bytes. q, q_stride: of 8. sf, sf_stride: of 4 if 4x1, and
 *            linear it is slower where they are not. pages below 2^31, each of 2^22 tokens and 2^20
 *            heads at most; in all 2^32 - 256 rows at most, each page's rounded up to four.
 * global_dec null, or where on the device the scale goes with which codes are brought back; where
 *            that is a device scale that is read, of K or of V, it is an error.
 */
typedef struct quantize_kv_tensor {
    uint8_t *q, *sf;
    const void *x;
    size_t x_stride;
    fp4_kv_pages pages;
    kv_scale global;
    float *global_dec;
} quantize_kv_tensor;

typedef struct quantize_kv_args {
    quantize_kv_tensor k, v;
} quantize_kv_args;

/**
 * K or V to be brought back; pages.dim = 0: there is none.
 *
 * shape    y: [batches, max_tokens, heads, dim] elements with these strides, in elements, no two
 *          rows on top of each other. q, sf: as pages says. y overlaps no input.
 *          y, strides: multiples of 16 bytes. q, q_stride: of 8. sf, sf_stride: of 4 if 4x1. Of
 *          pages, tokens and heads as many as above, of rows any number.
 */
typedef struct dequantize_kv_tensor {
    void *y;
    fp4_kv_strides strides;
    const uint8_t *q, *sf;
    fp4_kv_pages pages;
    kv_scale global;
} dequantize_kv_tensor;

/**
 * Both, and which pages are whose. K and V have the same number of pages, tokens in one, and heads.
 *
 * shape    tables: [batches, max_pages]; row b at entry b * table_stride. seq_lens: [batches].
 *          Token t of sequence b is token t % tokens of page tables[b][t / tokens]; entries behind
 *          the sequence may be read, and are not used. max_tokens: at most max_pages * tokens.
 * range    left as they are in y: tokens from seq_lens[b] on, and those of pages that are negative
 *          or do not exist. A length below 0 is taken as 0, one over max_tokens as that.
 * skipped  null, or a counter that is increased by the number of such pages (those of a sequence's
 *          tokens) and of such lengths.
 */
typedef struct dequantize_kv_args {
    dequantize_kv_tensor k, v;
    fp4_integers tables;
    size_t table_stride, max_pages;
    const int32_t *seq_lens;
    size_t batches, max_tokens;
    uint32_t *skipped;
} dequantize_kv_args;

/* ------------------------------------------------------------------------------ kernels */

static __device__ float value_of(const kv_scale &s)
{
    return s.device == NULL ? s.value : *s.device;
}

/* K or V as the kernel takes it. Pieces are the blocks of a page in their order. Linear: the unit
   is a run of RUN of them, a warp's. 4x1: it is four rows of a head, a thread for each column; they
   begin at row outer * 4 * inner.by + inner of the page, and are inner.by rows apart. */
typedef struct quantize_side {
    const uint8_t *x;
    uint8_t *q, *sf;
    size_t x_page, q_page, sf_page; /* bytes from page to page */
    size_t pieces;                  /* of a page */
    fp4_divisor page;               /* units of a page */
    uint32_t units;                 /* of all pages */
    int is_4x1;
    fp4_divisor inner;         /* 4x1: 1, or the heads between two tokens */
    fp4_divisor cols, quarter; /* blocks of a row, and a quarter of them */
    uint32_t down;             /* units of a CTA */
    kv_scale global;
    float *global_dec;
} quantize_side;

typedef struct quantize_both {
    quantize_side side[2];
    uint32_t k_ctas;
} quantize_both;

/* A thread's pieces: the first, and from each to the next; count: how many of EACH there are. */
typedef struct thread_pieces {
    uint32_t page, step, count;
    size_t first;
    size_t sf_at;      /* where its word of scale bytes goes, */
    uint32_t sf_count; /* and how many of them there are */
} thread_pieces;

/* Linear: lane l has pieces l, 32 + l, ... of its warp's run. When four lanes have exchanged their
   scale bytes, lane l has those of four neighbours, number l % 4 of the pieces of each. */
static __device__ __forceinline__ thread_pieces pieces_of_run(const quantize_side &t, uint32_t cta)
{
    const uint32_t unit = cta * t.down + threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t page = fp4_divide(unit < t.units ? unit : 0, t.page);
    const size_t first = (size_t)(unit - page * t.page.by) * RUN;
    const uint32_t left = unit >= t.units          ? 0
                          : t.pieces - first < RUN ? (uint32_t)(t.pieces - first)
                                                   : RUN;
    const uint32_t sf_at = lane % 4 * 32 + lane / 4 * 4;
    thread_pieces p;

    p.page = page;
    p.step = 32;
    p.count = left > lane ? (left - lane + 31) / 32 : 0;
    p.first = p.count != 0 ? first + lane : 0;
    p.sf_at = first + sf_at;
    p.sf_count = left > sf_at ? fp4_min_u32(left - sf_at, 4) : 0;
    return p;
}

/* 4x1: a thread has the scale bytes of a word. */
static __device__ __forceinline__ thread_pieces pieces_of_four(const quantize_side &t, uint32_t cta)
{
    const uint32_t y = fp4_divide(threadIdx.x, t.cols), unit = cta * t.down + y;
    const uint32_t col = threadIdx.x - y * t.cols.by;
    const int is_there = y < t.down && unit < t.units;
    const uint32_t page = is_there ? fp4_divide(unit, t.page) : 0;
    const uint32_t in_page = is_there ? unit - page * t.page.by : 0;
    const uint32_t row = fp4_divide(in_page, t.inner) * (EACH - 1) * t.inner.by + in_page;
    const uint32_t i = fp4_divide(col, t.quarter); /* the row that has the word */
    thread_pieces p;

    p.page = page;
    p.step = t.inner.by * t.cols.by;
    p.count = is_there ? EACH : 0;
    p.first = (size_t)row * t.cols.by + col;
    p.sf_at = (size_t)(row + i * t.inner.by) * t.cols.by + 4 * (col - i * t.quarter.by);
    p.sf_count = p.count;
    return p;
}

static __device__ __forceinline__ void store_scales(uint8_t *sf, uint32_t word, uint32_t count)
{
    if (count == 4 && (size_t)sf % 4 == 0) {
        fp4_ptx_store4(sf, word);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        sf[i] = (uint8_t)(word >> 8 * i);
    }
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) quantize_pages(const quantize_both both)
{
    const int is_v = blockIdx.x >= both.k_ctas;
    const quantize_side &t = both.side[is_v];
    const uint32_t cta = blockIdx.x - (is_v ? both.k_ctas : 0);
    const thread_pieces p = t.is_4x1 ? pieces_of_four(t, cta) : pieces_of_run(t, cta);
    const uint8_t *x = t.x + p.page * t.x_page + p.first * (BLOCK * ELEMENT);
    uint8_t *q = t.q + p.page * t.q_page + p.first * (BLOCK / 2);
    uint32_t word = 0;
    raw v[EACH];

    fp4_pdl_wait();
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        v[j] = LOAD(x + (size_t)(j < p.count ? j * p.step : 0) * (BLOCK * ELEMENT));
    }
    const float value = value_of(t.global), global_enc = fp4_kv_enc_of(value, t.global.sense);
    fp4_pdl_trigger();
    if (t.global_dec != NULL && cta == 0 && threadIdx.x == 0) {
        *t.global_dec = fp4_kv_dec_of(value, t.global.sense);
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const fp4_nvfp4_block b = fp4_nvfp4_quantize(WIDEN(v[j]), global_enc);
        if (j < p.count) {
            fp4_store_e2m1x16(q + (size_t)(j * p.step) * (BLOCK / 2), b.q);
        }
        word |= (uint32_t)b.sf << 8 * j;
    }
    if (!t.is_4x1) {
        word = fp4_sf_words(word, 1);
    }
    store_scales(t.sf + p.page * t.sf_page + p.sf_at, word, p.sf_count);
}

/* K or V on the way back. A CTA has 2^width_log2 pieces of the heads of a token, and fours of
   tokens below each other. */
typedef struct dequantize_side {
    uint8_t *y;
    const uint8_t *q, *sf;
    size_t y_sequence, y_token, y_head; /* bytes from one to the next */
    size_t q_page, sf_page;
    uint32_t q_token, q_head, sf_token, sf_head;
    fp4_divisor across, down; /* CTAs next to each other, and below each other in a sequence */
    fp4_divisor pieces;       /* of a head */
    fp4_divisor quarter;      /* blocks of a quarter of a head */
    uint32_t cols;            /* pieces of all heads */
    uint32_t width_log2;
    int is_4x1, counts; /* counts: what is skipped */
    kv_scale global;
} dequantize_side;

typedef struct dequantize_both {
    dequantize_side side[2];
    uint32_t k_ctas;
    const void *tables;
    size_t table_stride;
    const int32_t *seq_lens;
    fp4_divisor tokens; /* of a page */
    uint32_t pages, max_tokens;
    int tables_are_64;
    uint32_t *skipped;
} dequantize_both;

/* Where a thread is. */
typedef struct position {
    uint32_t head, piece; /* of the head */
    uint32_t token;       /* the first of four */
    size_t sequence;
    int is_col; /* there is such a column */
    int counts; /* of those that have these tokens, the one that counts what is skipped */
} position;

static __device__ __forceinline__ position position_of(const dequantize_side &s, uint32_t cta)
{
    const uint32_t tile = fp4_divide(cta, s.across), sequence = fp4_divide(tile, s.down);
    const uint32_t x = threadIdx.x & ((1u << s.width_log2) - 1), y = threadIdx.x >> s.width_log2;
    const uint32_t col = ((cta - tile * s.across.by) << s.width_log2) + x;
    const uint32_t below = (tile - sequence * s.down.by) << (WIDTH_LOG2 - s.width_log2);
    position p;

    p.head = fp4_divide(col, s.pieces);
    p.piece = col - p.head * s.pieces.by;
    p.token = (below + y) * EACH;
    p.sequence = sequence;
    p.is_col = col < s.cols;
    p.counts = s.counts && col == 0;
    return p;
}

/* How many tokens the sequence has. */
static __device__ __forceinline__ uint32_t length_of(const dequantize_both &both, const position &p)
{
    const int32_t given = both.seq_lens[p.sequence];
    const uint32_t length = given < 0 ? 0 : fp4_min_u32((uint32_t)given, both.max_tokens);

    if (p.counts && p.token == 0 && (uint32_t)given != length) {
        fp4_ptx_atomic_inc(both.skipped, 0xffffffffu);
    }
    return length;
}

static __device__ __forceinline__ uint8_t *y_of(const dequantize_side &s, const position &p)
{
    return s.y + p.sequence * s.y_sequence + p.token * s.y_token + p.head * s.y_head + p.piece * 16;
}

/* Table entry i as a page; one that is out of range becomes `pages`. */
static __device__ __forceinline__ uint32_t page_at(const dequantize_both &both, size_t i)
{
    const long long page = both.tables_are_64 ? ((const long long *)both.tables)[i]
                                              : (long long)((const int32_t *)both.tables)[i];
    return page < 0 || page >= both.pages ? both.pages : (uint32_t)page;
}

static __device__ uint32_t load_codes(const uint8_t *q)
{
    return CODES == 4 ? *(const uint32_t *)q : *(const uint16_t *)q;
}

/* The first four of eight floats as they are. */
[[maybe_unused]] static __device__ fp4_u32x4 first_four(fp4_f32x8 x)
{
    const fp4_u32x4 w = {
        {fp4_f32_bits(x.v[0]), fp4_f32_bits(x.v[1]), fp4_f32_bits(x.v[2]), fp4_f32_bits(x.v[3])}};
    return w;
}

/* A piece back to its place. */
static __device__ __forceinline__ void restore(uint8_t *y, uint32_t codes, uint32_t sf, float dec)
{
    const fp4_dec of_block = fp4_nvfp4_dec((uint8_t)sf, dec, FP4_CODE_FIRST);
    fp4_store_u32x4(y, NARROW(fp4_e2m1x8_dequantize(codes, of_block)));
}

/* The scale bytes of four tokens of a page, from those of the first on. */
static __device__ __forceinline__ void load_scales(const dequantize_side &s, const uint8_t *sf,
                                                   uint32_t block, uint32_t to[EACH])
{
    if (s.is_4x1) { /* one word; each of the four rows has those of a quarter of the blocks */
        const uint32_t row = fp4_divide(block, s.quarter), at = 4 * (block - row * s.quarter.by);
        const uint32_t word = *(const uint32_t *)(sf + row * s.sf_token + at);
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            to[j] = word >> 8 * j;
        }
    } else {
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            to[j] = sf[j * s.sf_token + block];
        }
    }
}

/* Pages of whole fours of tokens: a thread's are all in one page. */
static __device__ __forceinline__ void fours_of(const dequantize_both &both,
                                                const dequantize_side &s, uint32_t cta)
{
    const position p = position_of(s, cta);
    const uint32_t entry = fp4_divide(p.token, both.tokens);
    const uint32_t token = p.token - entry * both.tokens.by; /* of the page */
    uint32_t v[EACH], sf[EACH];

    /* the table is asked before it is known whether the sequence has such a token */
    const uint32_t page =
        page_at(both, p.sequence * both.table_stride + (p.token < both.max_tokens ? entry : 0));
    const uint32_t length = length_of(both, p);
    if (!p.is_col || p.token >= length) {
        return;
    }
    const uint32_t left = fp4_min_u32(length - p.token, EACH);
    if (page == both.pages) {
        if (p.counts && token == 0) {
            fp4_ptx_atomic_inc(both.skipped, 0xffffffffu);
        }
        return;
    }
    const uint8_t *q = s.q + page * s.q_page + (size_t)token * s.q_token +
                       (size_t)p.head * s.q_head + p.piece * CODES;
    const uint8_t *scales =
        s.sf + page * s.sf_page + (size_t)token * s.sf_token + (size_t)p.head * s.sf_head;
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        v[j] = load_codes(q + j * s.q_token); /* a page has them, a sequence may not */
    }
    load_scales(s, scales, p.piece * PIECE / BLOCK, sf);
    const float dec = fp4_kv_dec_of(value_of(s.global), s.global.sense);
    fp4_pdl_trigger();
    uint8_t *y = y_of(s, p);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (j == 0 || j < left) {
            restore(y + j * s.y_token, v[j], sf[j], dec);
        }
    }
}

/* Pages of any number of tokens, with linear scales: each token has a page of its own. */
static __device__ __forceinline__ void any_of(const dequantize_both &both, const dequantize_side &s,
                                              uint32_t cta)
{
    const position p = position_of(s, cta);
    const uint32_t length = length_of(both, p);
    uint32_t v[EACH], sf[EACH], page[EACH], token[EACH];

    if (!p.is_col || p.token >= length) {
        return;
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t t = fp4_min_u32(p.token + j, length - 1); /* never behind the table */
        const uint32_t entry = fp4_divide(t, both.tokens);
        page[j] = page_at(both, p.sequence * both.table_stride + entry);
        token[j] = t - entry * both.tokens.by;
    }
    const uint8_t *q = s.q + (size_t)p.head * s.q_head + p.piece * CODES;
    const uint8_t *scales = s.sf + (size_t)p.head * s.sf_head + p.piece * PIECE / BLOCK;
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        v[j] = sf[j] = 0;
        if (page[j] != both.pages) {
            v[j] = load_codes(q + page[j] * s.q_page + (size_t)token[j] * s.q_token);
            sf[j] = scales[page[j] * s.sf_page + (size_t)token[j] * s.sf_token];
        }
    }
    const float dec = fp4_kv_dec_of(value_of(s.global), s.global.sense);
    fp4_pdl_trigger();
    uint8_t *y = y_of(s, p);
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (p.token + j < length && page[j] != both.pages) {
            restore(y + j * s.y_token, v[j], sf[j], dec);
        } else if (p.token + j < length && p.counts && token[j] == 0) {
            fp4_ptx_atomic_inc(both.skipped, 0xffffffffu);
        }
    }
}

/* The kernels. K and V are told apart where their numbers are still constants in memory. */
static __global__ void __launch_bounds__(THREADS) dequantize_fours(const dequantize_both both)
{
    fp4_pdl_wait();
    if (blockIdx.x < both.k_ctas) {
        fours_of(both, both.side[0], blockIdx.x);
    } else {
        fours_of(both, both.side[1], blockIdx.x - both.k_ctas);
    }
}

static __global__ void __launch_bounds__(THREADS) dequantize_any(const dequantize_both both)
{
    fp4_pdl_wait();
    if (blockIdx.x < both.k_ctas) {
        any_of(both, both.side[0], blockIdx.x);
    } else {
        any_of(both, both.side[1], blockIdx.x - both.k_ctas);
    }
}

/* ------------------------------------------------------------------------------ launchers */

/* A number that cannot be; device scales cannot be looked at here. */
static int is_bad_scale(const kv_scale *s, int is_back)
{
    if ((unsigned)s->sense > FP4_KV_AMAX) {
        return 1;
    }
    if (s->device != NULL) {
        return (size_t)s->device % 4 != 0;
    }
    return is_back ? !fp4_kv_can_decode(s->value, s->sense)
                   : !fp4_kv_can_encode(s->value, s->sense);
}

/* What both directions want of a cache's pages: no token or head is 2^30 bytes from the next. */
static int is_bad_cache(const fp4_kv_pages *p, const void *q, const void *sf)
{
    return !fp4_kv_is_valid(p) || p->pages > 0x7fffffffu || p->tokens > 1u << 22 ||
           p->heads > 1u << 20 || (p->pages != 0 && (q == NULL || sf == NULL)) ||
           ((size_t)q | p->q_stride) % 8 != 0 ||
           (p->sf_layout == FP4_KV_SF_4X1 && ((size_t)sf | p->sf_stride) % 4 != 0);
}

static int is_bad_quantize(const quantize_kv_tensor *t)
{
    const fp4_kv_pages *p = &t->pages;

    return is_bad_cache(p, t->q, t->sf) || is_bad_scale(&t->global, 0) ||
           (p->pages != 0 && t->x == NULL) || (size_t)t->x % 16 != 0 ||
           t->x_stride < 2 * fp4_kv_q_page_bytes(p) ||
           t->x_stride > (size_t)-1 / ELEMENT / (p->pages + 1) || t->x_stride * ELEMENT % 16 != 0 ||
           (size_t)t->global_dec % 4 != 0 ||
           p->pages * ((p->tokens * p->heads + EACH - 1) / EACH) > 0x3fffffc0u ||
           p->pages * ((p->tokens * p->heads * (p->dim / BLOCK) + RUN - 1) / RUN) > 0x7fffffc0u;
}

/* global_dec is where the scale of a tensor is read, which some CTAs do after it is written. */
static int is_scale_of(const quantize_kv_tensor *t, const float *global_dec)
{
    return t->pages.dim != 0 && global_dec != NULL && t->global.device == global_dec;
}

static int is_bad_global_dec(const quantize_kv_args *a, const quantize_kv_tensor *t)
{
    return t->pages.dim != 0 &&
           (is_scale_of(&a->k, t->global_dec) || is_scale_of(&a->v, t->global_dec));
}

static cudaError_t launch(const void *kernel, size_t ctas, void **arguments, int pdl,
                          cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)ctas);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/* What the kernel needs to know, and how many CTAs there are. */
static uint32_t quantize_side_of(const quantize_kv_tensor *t, quantize_side *s)
{
    const fp4_kv_pages *p = &t->pages;
    const uint32_t blocks = (uint32_t)(p->dim / BLOCK);
    const int is_run = p->q_stride == fp4_kv_q_page_bytes(p) &&
                       p->sf_stride == fp4_kv_sf_page_bytes(p) && t->x_stride == 2 * p->q_stride;
    size_t rows = p->tokens * p->heads;

    if (p->dim == 0 || p->pages == 0) {
        return 0;
    }
    rows *= is_run ? p->pages : 1; /* without gaps they are one long page */
    s->x = (const uint8_t *)t->x;
    s->q = t->q;
    s->sf = t->sf;
    s->x_page = t->x_stride * ELEMENT;
    s->q_page = p->q_stride;
    s->sf_page = p->sf_stride;
    s->pieces = rows * blocks;
    s->is_4x1 = p->sf_layout == FP4_KV_SF_4X1;
    s->page = fp4_divisor_of((uint32_t)(s->is_4x1 ? rows / EACH : (s->pieces + RUN - 1) / RUN));
    s->units = s->page.by * (is_run ? 1 : (uint32_t)p->pages);
    s->inner = fp4_divisor_of(s->is_4x1 && p->order == FP4_KV_NHD ? (uint32_t)p->heads : 1);
    s->cols = fp4_divisor_of(blocks);
    s->quarter = fp4_divisor_of((blocks + 3) / 4);
    s->down = s->is_4x1 ? THREADS / blocks : THREADS / 32;
    s->global = t->global;
    s->global_dec = t->global_dec;
    return (s->units + s->down - 1) / s->down;
}

/**
 * Quantizes the pages of K and of V on `stream`: one launch, no allocation, no synchronization,
 * nothing read on the host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer: nothing
 *          launched, nothing written. No pages are no error: nothing is written.
 */
static cudaError_t quantize_kv_cache(const quantize_kv_args *a, int pdl, cudaStream_t stream)
{
    quantize_both both = {};
    void *arguments[] = {&both};
    size_t ctas;

    if ((a->k.pages.dim != 0 && is_bad_quantize(&a->k)) ||
        (a->v.pages.dim != 0 && is_bad_quantize(&a->v)) || is_bad_global_dec(a, &a->k) ||
        is_bad_global_dec(a, &a->v)) {
        return cudaErrorInvalidValue;
    }
    both.k_ctas = quantize_side_of(&a->k, &both.side[0]);
    ctas = (size_t)both.k_ctas + quantize_side_of(&a->v, &both.side[1]);
    if (ctas > 0x7fffffffu) {
        return cudaErrorInvalidValue;
    }
    return ctas == 0 ? cudaSuccess
                     : launch((const void *)quantize_pages, ctas, arguments, pdl, stream);
}

static int is_bad_dequantize(const dequantize_kv_args *a, const dequantize_kv_tensor *t)
{
    const fp4_kv_pages *p = &t->pages;
    const size_t strides = t->strides.batch | t->strides.token | t->strides.head;

    return is_bad_cache(p, t->q, t->sf) || is_bad_scale(&t->global, 1) || t->y == NULL ||
           (size_t)t->y % 16 != 0 || strides * ELEMENT % 16 != 0 ||
           fp4_kv_span(a->batches, a->max_tokens, p->heads, p->dim, t->strides) == 0 ||
           (a->max_tokens - 1) / p->tokens >= a->max_pages;
}

static int is_bad_batch(const dequantize_kv_args *a)
{
    const fp4_kv_pages *k = &a->k.pages, *v = &a->v.pages;
    const size_t entry = a->tables.is_64 ? 8 : 4;

    return (k->dim != 0 && is_bad_dequantize(a, &a->k)) ||
           (v->dim != 0 && is_bad_dequantize(a, &a->v)) ||
           (k->dim != 0 && v->dim != 0 &&
            (k->pages != v->pages || k->tokens != v->tokens || k->heads != v->heads)) ||
           a->tables.data == NULL || a->seq_lens == NULL || (size_t)a->tables.data % entry != 0 ||
           ((size_t)a->seq_lens | (size_t)a->skipped) % 4 != 0 || a->table_stride < a->max_pages ||
           a->table_stride > (size_t)-1 / 8 / a->batches || a->max_tokens > 0x7fffff00u ||
           a->batches > 0x7fffffffu;
}

/* What the kernel needs to know, and how many CTAs there are. */
static size_t dequantize_side_of(const dequantize_kv_args *a, const dequantize_kv_tensor *t,
                                 dequantize_side *s)
{
    const fp4_kv_pages *p = &t->pages;
    const size_t fours = (a->max_tokens + EACH - 1) / EACH;
    const int is_nhd = p->order == FP4_KV_NHD;
    const uint32_t token_rows = is_nhd ? (uint32_t)p->heads : 1;
    const uint32_t head_rows = is_nhd ? 1 : (uint32_t)p->tokens, dim = (uint32_t)p->dim;
    uint32_t width = THREADS;

    if (p->dim == 0) {
        return 0;
    }
    s->cols = (uint32_t)(p->heads * (p->dim / PIECE));
    s->width_log2 = WIDTH_LOG2;
    while (s->width_log2 > 2 && (s->cols + s->cols / 8) / width * width < s->cols) {
        width /= 2; /* until no more than an eighth of the columns is wasted */
        s->width_log2--;
    }
    s->y = (uint8_t *)t->y;
    s->q = t->q;
    s->sf = t->sf;
    s->y_sequence = t->strides.batch * ELEMENT;
    s->y_token = t->strides.token * ELEMENT;
    s->y_head = t->strides.head * ELEMENT;
    s->q_page = p->q_stride;
    s->q_token = token_rows * (dim / 2);
    s->q_head = head_rows * (dim / 2);
    s->sf_page = p->sf_stride;
    s->sf_token = token_rows * (dim / BLOCK);
    s->sf_head = head_rows * (dim / BLOCK);
    s->across = fp4_divisor_of((s->cols + width - 1) / width);
    s->down = fp4_divisor_of((uint32_t)((fours + THREADS / width - 1) / (THREADS / width)));
    s->pieces = fp4_divisor_of(dim / PIECE);
    s->quarter = fp4_divisor_of((dim + 63) / 64);
    s->is_4x1 = p->sf_layout == FP4_KV_SF_4X1;
    s->global = t->global;
    if (t->global.device == NULL) { /* once, here */
        s->global.value = fp4_kv_dec_of(t->global.value, t->global.sense);
        s->global.sense = FP4_KV_DEC;
    }
    return s->down.by > 0x7fffffffu / s->across.by ||
                   a->batches > 0x7fffffffu / (s->across.by * s->down.by)
               ? (size_t)1 << 31
               : a->batches * (s->across.by * s->down.by);
}

/**
 * Brings the tokens of a batch of sequences back, K and V, likewise.
 *
 * errors   as above. batches = 0 or max_tokens = 0, or neither K nor V, is no error.
 */
static cudaError_t dequantize_kv_cache(const dequantize_kv_args *a, int pdl, cudaStream_t stream)
{
    const fp4_kv_pages *any = a->k.pages.dim != 0 ? &a->k.pages : &a->v.pages;
    dequantize_both both = {};
    void *arguments[] = {&both};
    size_t k_ctas, ctas;

    if (a->batches == 0 || a->max_tokens == 0 || any->dim == 0) {
        return cudaSuccess;
    }
    if (is_bad_batch(a)) {
        return cudaErrorInvalidValue;
    }
    k_ctas = dequantize_side_of(a, &a->k, &both.side[0]);
    ctas = k_ctas + dequantize_side_of(a, &a->v, &both.side[1]);
    if (ctas > 0x7fffffffu) {
        return cudaErrorInvalidValue;
    }
    both.k_ctas = (uint32_t)k_ctas;
    both.side[k_ctas == 0].counts = a->skipped != NULL;
    both.tables = a->tables.data;
    both.tables_are_64 = a->tables.is_64;
    both.table_stride = a->table_stride;
    both.seq_lens = a->seq_lens;
    both.tokens = fp4_divisor_of((uint32_t)any->tokens);
    both.pages = (uint32_t)any->pages;
    both.max_tokens = (uint32_t)a->max_tokens;
    both.skipped = a->skipped;
    return launch(any->tokens % EACH == 0 ? (const void *)dequantize_fours
                                          : (const void *)dequantize_any,
                  ctas, arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/kv_cache.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "kv_cache: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static uint32_t state = 1;

static uint32_t random_below(uint32_t n)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)state * n >> 32);
}

/* Elements of any bits, but with exponents between 2^-6 and 2^3: the top byte holds sign and most
   of the exponent. */
static uint8_t *elements(size_t bytes)
{
    uint8_t *x = (uint8_t *)malloc(bytes);

    for (size_t i = 0; i < bytes; i++) {
        x[i] = (uint8_t)random_below(256);
        if (i % ELEMENT == ELEMENT - 1) {
            x[i] = (uint8_t)((x[i] & 0x83) | 0x3c);
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

static int same(const void *got, const void *expected, size_t bytes)
{
    void *copy = malloc(bytes);
    int is_same;

    must(cudaMemcpy(copy, got, bytes, cudaMemcpyDeviceToHost));
    is_same = memcmp(copy, expected, bytes) == 0;
    free(copy);
    return is_same;
}

/* K or V with all that is made of it. */
typedef struct tensor {
    quantize_kv_tensor in;
    dequantize_kv_tensor out;
    size_t x_bytes, q_bytes, sf_bytes, y_bytes;
    const uint8_t *x; /* on the host */
} tensor;

static tensor tensor_of(fp4_kv_pages p, size_t batches, size_t max_tokens, int has_host)
{
    tensor t = {};

    t.x_bytes = 2 * fp4_kv_q_bytes(&p) * ELEMENT;
    t.q_bytes = fp4_kv_q_bytes(&p);
    t.sf_bytes = fp4_kv_sf_bytes(&p);
    t.y_bytes = batches * max_tokens * p.heads * p.dim * ELEMENT;
    t.x = has_host ? elements(t.x_bytes) : NULL;
    t.in.x = device(t.x, t.x_bytes);
    t.in.x_stride = 2 * p.q_stride;
    t.in.q = (uint8_t *)device(NULL, t.q_bytes);
    t.in.sf = (uint8_t *)device(NULL, t.sf_bytes);
    t.in.pages = t.out.pages = p;
    t.in.global.value = t.out.global.value = 64.0f; /* FP4_KV_ENC */
    t.out.y = device(NULL, t.y_bytes);
    t.out.q = t.in.q;
    t.out.sf = t.in.sf;
    t.out.strides.head = p.dim;
    t.out.strides.token = p.heads * p.dim;
    t.out.strides.batch = max_tokens * p.heads * p.dim;
    return t;
}

static void tensor_free(tensor *t)
{
    must(cudaFree((void *)t->in.x));
    must(cudaFree(t->in.q));
    must(cudaFree(t->in.sf));
    must(cudaFree(t->out.y));
    free((void *)t->x);
}

/* The kernels' bytes and their host twins'. */
static int is_as_on_host(const tensor *t, const fp4_kv_batch *b, size_t *skipped)
{
    uint8_t *q = (uint8_t *)malloc(t->q_bytes), *sf = (uint8_t *)malloc(t->sf_bytes);
    uint8_t *y = (uint8_t *)malloc(t->y_bytes);
    fp4_kv_cache c = {t->in.pages, q, t->q_bytes, sf, t->sf_bytes, 0.0f};
    const fp4_dtype dtype = JOIN(DTYPE_, INPUT, );
    int is_same;

    memset(y, 0x7b, t->y_bytes);
    is_same =
        fp4_ref_kv_quantize(t->x, dtype, t->in.x_stride, 64.0f, &c) == FP4_OK &&
        fp4_ref_kv_dequantize(&c, b, dtype, y, t->y_bytes, t->out.strides, skipped) == FP4_OK &&
        same(t->in.q, q, t->q_bytes) && same(t->in.sf, sf, t->sf_bytes) &&
        same(t->out.y, y, t->y_bytes);
    free(q);
    free(sf);
    free(y);
    return is_same;
}

/* Median of 20 launches of one of the two. */
static void measure(const quantize_kv_args *to, const dequantize_kv_args *from, const char *what,
                    double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(to != NULL ? quantize_kv_cache(to, 0, 0) : dequantize_kv_cache(from, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("  %s: %.1f us, %.0f GB/s\n", what, 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

/* Sequences of `per_sequence` pages each, in no order; some shorter, one page of them missing. Both
   directions are compared with the host, or measured. */
static int run(fp4_kv_order order, fp4_kv_sf v_sf, size_t batches, size_t per_sequence,
               size_t tokens, size_t heads, size_t k_dim, size_t v_dim, int is_timed)
{
    const size_t pages = batches * per_sequence, max_tokens = per_sequence * tokens;
    int32_t *tables = (int32_t *)malloc(pages * sizeof *tables);
    int32_t *lens = (int32_t *)malloc(batches * sizeof *lens);
    tensor k = tensor_of(fp4_kv_pages_packed(order, FP4_KV_SF_LINEAR, pages, tokens, heads, k_dim),
                         batches, max_tokens, !is_timed);
    tensor v = tensor_of(fp4_kv_pages_packed(order, v_sf, pages, tokens, heads, v_dim), batches,
                         max_tokens, !is_timed);
    const fp4_kv_batch b = {{tables, 0}, per_sequence, per_sequence, lens, batches, max_tokens};
    const quantize_kv_args to = {k.in, v.in};
    dequantize_kv_args from = {};
    size_t skipped = 0, of_v = 0;
    uint32_t zero = 0;
    int is_same = 1;

    for (size_t i = 0; i < pages; i++) { /* a random order */
        const size_t j = random_below((uint32_t)i + 1);
        tables[i] = tables[j];
        tables[j] = (int32_t)i;
    }
    for (size_t i = 0; i < batches; i++) {
        lens[i] = (int32_t)(is_timed ? max_tokens : max_tokens - random_below((uint32_t)tokens));
    }
    if (!is_timed) {
        tables[0] = -1;
    }
    from.k = k.out;
    from.v = v.out;
    from.tables.data = device(tables, pages * sizeof *tables);
    from.table_stride = from.max_pages = per_sequence;
    from.seq_lens = (const int32_t *)device(lens, batches * sizeof *lens);
    from.batches = batches;
    from.max_tokens = max_tokens;
    from.skipped = (uint32_t *)device(&zero, sizeof zero);
    must(quantize_kv_cache(&to, 0, 0));
    must(dequantize_kv_cache(&from, 0, 0));
    must(cudaDeviceSynchronize());
    printf("%s, %zu sequences of %zu pages of %zu tokens, %zu heads of %zu and %zu, V %s",
           order == FP4_KV_NHD ? "NHD" : "HND", batches, per_sequence, tokens, heads, k_dim, v_dim,
           v_sf == FP4_KV_SF_4X1 ? "4x1" : "linear");
    if (is_timed) {
        const double codes = (double)(k.q_bytes + k.sf_bytes + v.q_bytes + v.sf_bytes);
        printf("\n");
        measure(&to, NULL, "quantized", codes + (double)(k.x_bytes + v.x_bytes));
        measure(NULL, &from, "brought back", codes + (double)(k.y_bytes + v.y_bytes));
        for (size_t i = 0; i < pages; i++) {
            tables[i] = (int32_t)i;
        }
        must(cudaMemcpy((void *)from.tables.data, tables, pages * sizeof *tables,
                        cudaMemcpyHostToDevice));
        measure(NULL, &from, "brought back, pages in order",
                codes + (double)(k.y_bytes + v.y_bytes));
    } else {
        uint32_t counted;
        is_same = is_as_on_host(&k, &b, &skipped) && is_as_on_host(&v, &b, &of_v);
        must(cudaMemcpy(&counted, from.skipped, sizeof counted, cudaMemcpyDeviceToHost));
        is_same &= counted == skipped;
        printf(", device and host: %s\n", is_same ? "same bytes" : "differ");
    }
    tensor_free(&k);
    tensor_free(&v);
    must(cudaFree((void *)from.tables.data));
    must(cudaFree((void *)from.seq_lens));
    must(cudaFree(from.skipped));
    free(tables);
    free(lens);
    return is_same;
}

int main(void)
{
    printf("KV caches of %s\n", TEXT(INPUT));
    if (!run(FP4_KV_NHD, FP4_KV_SF_4X1, 3, 5, 16, 8, 128, 128, 0) ||
        !run(FP4_KV_HND, FP4_KV_SF_4X1, 2, 7, 64, 3, 192, 128, 0) ||
        !run(FP4_KV_NHD, FP4_KV_SF_LINEAR, 4, 33, 1, 5, 80, 512, 0) ||
        !run(FP4_KV_HND, FP4_KV_SF_LINEAR, 2, 9, 6, 1, 256, 96, 0)) {
        return 1;
    }
    for (int order = 0; order < 2; order++) {
        for (int sf = 1; sf >= 0; sf--) {
            run((fp4_kv_order)order, (fp4_kv_sf)sf, 128, 128, 16, 8, 128, 128, 1);
        }
    }
    run(FP4_KV_NHD, FP4_KV_SF_LINEAR, 128, 2048, 1, 8, 128, 128, 1);
    return 0;
}
#endif

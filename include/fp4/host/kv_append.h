/*
 * fp4/host/kv_append.h - new K and V of tokens to their places in a paged NVFP4 KV cache, K turned
 * by RoPE on the way: the twin of examples/13_kv_append.cu.
 *
 *     a token goes                   as told by
 *     to a slot                      slots
 *     by position and page table     batch_indices, positions, tables
 *     by position and page list      the same, and indptr
 *
 * The first is FlashInfer's nvfp4_quantize_append_paged_kv_cache_with_slot_mapping, the last its
 * nvfp4_quantize_append_paged_kv_cache.
 *
 * Bytes are those of fp4_ref_rope, where there is RoPE, and fp4_ref_nvfp4_quantize one after the
 * other, but for the rounding in between, which `rounded` asks for. FlashInfer has another
 * association, amax / (6 * global_dec), code 0 for NaN, and codes of 0 where a scale byte is 0.
 */
#ifndef FP4_HOST_KV_APPEND_H
#define FP4_HOST_KV_APPEND_H

#include <fp4/host/kv_cache.h>
#include <fp4/host/ops.h>
#include <fp4/host/rope.h>

/** New K or V, and the cache it goes to, whose global_dec is neither read nor set: to decode a new
    cache it has to be fp4_nvfp4_global_dec(global_enc). */
typedef struct fp4_kv_new {
    fp4_heads x;         /* tokens x heads x dim */
    fp4_kv_cache *cache; /* null: none of it */
    float global_enc;    /* fp4_nvfp4_global_enc_from_dec of FlashInfer's k_scale or v_scale */
} fp4_kv_new;

/**
 * Where tokens go. What is out of range is skipped, whatever it is.
 *
 *     slots not null    page slot / T, place slot % T, for 0 <= slot < pages * T; T tokens a page
 *     else              page = entry position / T of the sequence, place position % T
 *
 * shape    slots, positions, batch_indices: one for each token. positions: also what RoPE looks up.
 *          tables: without indptr the entries of sequence b are tables[b * table_stride + i], i <
 *          max_pages, of `batches` sequences; with it tables[indptr[b] + i], up to indptr[b + 1],
 *          and none from max_pages on, which is their number in all; indptr: batches + 1.
 */
typedef struct fp4_kv_places {
    fp4_integers slots;
    fp4_integers positions;
    const int32_t *batch_indices;
    fp4_integers tables;
    const int32_t *indptr;
    size_t batches, max_pages, table_stride;
} fp4_kv_places;

/** What is asked for beside: all zero is nothing. */
typedef struct fp4_kv_rope {
    fp4_rope rope;   /* of K; cos_sin null: none */
    int rounded;     /* 1: K, turned, is rounded to its type, and that is quantized */
    fp4_heads k_out; /* data not null: K, turned and rounded; with RoPE only */
    size_t k_out_bytes;
} fp4_kv_rope;

/* -------------------------------------------------------------------------------- checks */

static inline fp4_status fp4_ref_check_kv_new_(const fp4_kv_new *n)
{
    fp4_status status;

    if (n->cache == NULL) {
        return FP4_OK;
    }
    status = fp4_ref_check_kv_(n->cache);
    status = status != FP4_OK ? status : fp4_ref_check_heads_(&n->x);
    if (status != FP4_OK) {
        return status;
    }
    if (n->x.heads != n->cache->pages.heads || n->x.dim != n->cache->pages.dim) {
        return FP4_BAD_SHAPE;
    }
    return fp4_kv_can_encode(n->global_enc, FP4_KV_ENC) ? FP4_OK : FP4_BAD_SCALE;
}

/* K and V belong together: the same tokens, heads, pages. */
static inline int fp4_ref_is_pair_(const fp4_kv_new *k, const fp4_kv_new *v)
{
    const fp4_kv_pages *a, *b;

    if (k->cache == NULL || v->cache == NULL) {
        return 1;
    }
    a = &k->cache->pages;
    b = &v->cache->pages;
    return k->x.tokens == v->x.tokens && a->pages == b->pages && a->tokens == b->tokens &&
           a->heads == b->heads && a->order == b->order;
}

static inline fp4_status fp4_ref_check_places_(const fp4_kv_places *p, size_t tokens)
{
    if (p->slots.data != NULL || tokens == 0) {
        return FP4_OK;
    }
    if (p->indptr == NULL &&
        (p->table_stride < p->max_pages || fp4_overflows_(p->batches, p->table_stride) ||
         fp4_overflows_(p->batches * p->table_stride, sizeof(int64_t)))) {
        return p->table_stride < p->max_pages ? FP4_BAD_STRIDE : FP4_BAD_SHAPE;
    }
    return p->positions.data == NULL || p->batch_indices == NULL ||
                   (p->tables.data == NULL && p->batches != 0 && p->max_pages != 0)
               ? FP4_NULL
               : FP4_OK;
}

static inline fp4_status fp4_ref_check_kv_rope_(const fp4_kv_rope *r, const fp4_kv_new *k,
                                                const fp4_kv_places *places)
{
    fp4_status status;

    if (k->cache == NULL || r->rope.cos_sin == NULL) {
        return r->k_out.data == NULL ? FP4_OK : FP4_NULL;
    }
    status = fp4_ref_check_rope_(&r->rope, k->x.dim);
    if (status != FP4_OK) {
        return status;
    }
    if (k->x.tokens != 0 && places->positions.data == NULL) {
        return FP4_NULL;
    }
    if (r->k_out.data == NULL) {
        return FP4_OK;
    }
    status = fp4_ref_check_heads_out_(&r->k_out);
    if (status != FP4_OK) {
        return status;
    }
    if (r->k_out.dtype != k->x.dtype) {
        return FP4_BAD_TYPE;
    }
    if (r->k_out.tokens != k->x.tokens || r->k_out.heads != k->x.heads ||
        r->k_out.dim != k->x.dim) {
        return FP4_BAD_SHAPE;
    }
    return r->k_out_bytes < fp4_ref_heads_bytes_(&r->k_out) ? FP4_SMALL_BUFFER : FP4_OK;
}

/* -------------------------------------------------------------------------------- steps */

/* The page of a position of a sequence; 0 where there is none. */
static inline int fp4_ref_kv_page_of_(const fp4_kv_places *p, size_t token, size_t page_tokens,
                                      size_t pages, size_t *page, size_t *place)
{
    size_t sequence, position, from, to;

    if (!fp4_is_below_(p->batch_indices[token], p->batches, &sequence) ||
        !fp4_is_below_(fp4_integer_at_(p->positions, token), SIZE_MAX, &position)) {
        return 0;
    }
    from = sequence * p->table_stride;
    to = from + p->max_pages;
    if (p->indptr != NULL) {
        if (!fp4_is_below_(p->indptr[sequence], p->max_pages, &from) ||
            !fp4_is_below_(p->indptr[sequence + 1], p->max_pages + 1, &to)) {
            return 0;
        }
    }
    *place = position % page_tokens;
    position /= page_tokens;
    return from < to && position < to - from &&
           fp4_is_below_(fp4_integer_at_(p->tables, from + position), pages, page);
}

/* Where the token goes; 0 where that is nowhere. */
static inline int fp4_ref_kv_place_(const fp4_kv_places *p, size_t token, const fp4_kv_pages *pages,
                                    size_t *page, size_t *place)
{
    size_t slot;

    if (p->slots.data == NULL) {
        return fp4_ref_kv_page_of_(p, token, pages->tokens, pages->pages, page, place);
    }
    if (!fp4_is_below_(fp4_integer_at_(p->slots, token), pages->pages * pages->tokens, &slot)) {
        return 0;
    }
    *page = slot / pages->tokens;
    *place = slot % pages->tokens;
    return 1;
}

/* A head of K, turned; to k_out, where that is asked for. `position` is in the table. */
static inline void fp4_ref_kv_turn_(float *x, const fp4_heads *k, size_t token, size_t head,
                                    const fp4_kv_rope *r, size_t position)
{
    const fp4_heads *out = &r->k_out;

    fp4_ref_rope_load_(x, k, token, head, 0, k->dim, &r->rope, position);
    if (r->rope.cos_sin == NULL) {
        return;
    }
    if (out->data != NULL) {
        fp4_ref_store_((uint8_t *)(uintptr_t)out->data +
                           (token * out->token_stride + head * out->head_stride) *
                               fp4_dtype_bytes(k->dtype),
                       k->dtype, x, k->dim);
    }
    if (r->rounded) {
        fp4_ref_round_(x, k->dim, k->dtype);
    }
}

/* -------------------------------------------------------------------------------- append */

/**
 * New K and V to their places.
 *
 * shape    k, v: either may be missing (cache null); heads and dim those of its cache. Both have
 *          the same tokens, and caches with the same pages, tokens, heads and order; dim and
 *          sf_layout are each one's own. r: null, or what is asked for beside; k_out overlaps
 *          nothing.
 * skipped  null, or what the number of tokens that were skipped is added to: those that have no
 *          place, and with RoPE of K those whose position is not in the table. Nothing of them is
 *          written to a cache; to k_out every token whose position is in the table.
 * range    global_enc: positive and finite, and so its reciprocal. Where two tokens have the same
 *          place, the later one stays here; on the device it is not defined which, and may be a
 *          part of each. NaN, infinities, zeros: as fp4_ref_nvfp4_quantize.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written. No tokens are fine, and no pages: all tokens are skipped.
 */
static inline fp4_status fp4_ref_kv_append(const fp4_kv_new *k, const fp4_kv_new *v,
                                           const fp4_kv_places *places, const fp4_kv_rope *r,
                                           size_t *skipped)
{
    static const fp4_kv_rope none = {
        {NULL, 0, 0, FP4_ROPE_NEOX}, 0, {NULL, FP4_F32, 0, 0, 0, 0, 0}, 0};
    const fp4_kv_rope *rope = r != NULL ? r : &none;
    float x[FP4_KV_DIM_MAX];
    size_t tokens, heads, token, head, page = 0, place = 0, position = 0, count = 0;
    fp4_status status;

    if (k == NULL || v == NULL || places == NULL || (k->cache == NULL && v->cache == NULL)) {
        return FP4_NULL;
    }
    tokens = k->cache != NULL ? k->x.tokens : v->x.tokens;
    heads = k->cache != NULL ? k->x.heads : v->x.heads;
    status = fp4_ref_check_kv_new_(k);
    status = status != FP4_OK ? status : fp4_ref_check_kv_new_(v);
    status = status != FP4_OK          ? status
             : !fp4_ref_is_pair_(k, v) ? FP4_BAD_SHAPE
                                       : fp4_ref_check_places_(places, tokens);
    status = status != FP4_OK ? status : fp4_ref_check_kv_rope_(rope, k, places);
    if (status != FP4_OK) {
        return status;
    }
    for (token = 0; token < tokens; token++) {
        const fp4_kv_pages *pages = k->cache != NULL ? &k->cache->pages : &v->cache->pages;
        const int is_turned = k->cache != NULL && rope->rope.cos_sin != NULL;
        const int is_known = !is_turned || fp4_is_below_(fp4_integer_at_(places->positions, token),
                                                         rope->rope.positions, &position);
        const int is_placed = fp4_ref_kv_place_(places, token, pages, &page, &place) && is_known;
        count += !is_placed;
        for (head = 0; head < heads; head++) {
            fp4_matrix row;
            if (k->cache != NULL && is_known) {
                fp4_ref_kv_turn_(x, &k->x, token, head, rope, position);
                if (is_placed) {
                    row = fp4_matrix_f32(x, 1, k->x.dim, k->x.dim);
                    fp4_ref_kv_put_(k->cache, page, place, head, &row, k->global_enc);
                }
            }
            if (v->cache != NULL && is_placed) {
                fp4_ref_kv_turn_(x, &v->x, token, head, &none, 0);
                row = fp4_matrix_f32(x, 1, v->x.dim, v->x.dim);
                fp4_ref_kv_put_(v->cache, page, place, head, &row, v->global_enc);
            }
        }
    }
    if (skipped != NULL) {
        *skipped += count;
    }
    return FP4_OK;
}

#endif /* FP4_HOST_KV_APPEND_H */

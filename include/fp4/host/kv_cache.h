/*
 * fp4/host/kv_cache.h - NVFP4 KV caches on the host: the twin of examples/12_kv_cache.cu.
 *
 *     function                  FlashInfer's
 *     fp4_ref_kv_quantize       nvfp4_quantize_paged_kv_cache, of K or of V
 *     fp4_ref_kv_dequantize     nvfp4_kv_dequantize_paged, of K or of V
 *
 * Rows are quantized by the rule of fp4_ref_nvfp4_quantize and decoded in its order. FlashInfer's
 * nvfp4_kv_quantize and nvfp4_kv_dequantize of plain matrices are fp4_ref_nvfp4_quantize, with
 * fp4_nvfp4_global_enc_from_dec of their scale, and fp4_ref_dequantize_to; both linear.
 */
#ifndef FP4_HOST_KV_CACHE_H
#define FP4_HOST_KV_CACHE_H

#include <fp4/host/quant.h>
#include <fp4/kv_cache.h>

/**
 * The pages of K or of V: codes, scale bytes, global scale.
 *
 * shape    q, sf: as pages says; any alignment. q_bytes, sf_bytes: what the buffers hold. What is
 *          between pages stays untouched.
 */
typedef struct fp4_kv_cache {
    fp4_kv_pages pages;
    uint8_t *q;
    size_t q_bytes;
    uint8_t *sf;
    size_t sf_bytes;
    float global_dec;
} fp4_kv_cache;

/**
 * Which pages are whose.
 *
 * shape    tables: [batches, max_pages]; row b at entry b * table_stride. seq_lens: [batches].
 *          Token t of sequence b is token t % pages.tokens of page tables[b][t / pages.tokens].
 *          max_tokens: of a sequence, at most max_pages * pages.tokens.
 * range    what is out of range is left out: see fp4_ref_kv_dequantize.
 */
typedef struct fp4_kv_batch {
    fp4_integers tables;
    size_t table_stride, max_pages;
    const int32_t *seq_lens;
    size_t batches, max_tokens;
} fp4_kv_batch;

static inline int64_t fp4_integer_at_(fp4_integers a, size_t i)
{
    return a.is_64 ? ((const int64_t *)a.data)[i] : ((const int32_t *)a.data)[i];
}

/* 0 <= i < n, and i as an index. */
static inline int fp4_is_below_(int64_t i, size_t n, size_t *index)
{
    *index = (size_t)i;
    return i >= 0 && *index < n;
}

/* A row of a cache, with its scale bytes elsewhere: one after the other in sf. */
static inline fp4_tensor fp4_ref_kv_row_(const fp4_kv_cache *c, size_t page, size_t token,
                                         size_t head, uint8_t *sf)
{
    const size_t dim = c->pages.dim;
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, 1, dim,
                                   c->q + fp4_kv_q_offset(&c->pages, page, token, head), dim / 2,
                                   sf, dim / FP4_NVFP4_BLOCK);
    t.global_dec = c->global_dec;
    return t;
}

/* A row of one to its place in a cache. */
static inline void fp4_ref_kv_put_(const fp4_kv_cache *c, size_t page, size_t token, size_t head,
                                   const fp4_matrix *x, float global_enc)
{
    uint8_t sf[FP4_KV_DIM_MAX / FP4_NVFP4_BLOCK];
    const fp4_tensor row = fp4_ref_kv_row_(c, page, token, head, sf);
    size_t block;

    fp4_ref_quantize_row_(x, &row, 0, FP4_REF_NVFP4_, global_enc, 1.0f);
    for (block = 0; block < c->pages.dim / FP4_NVFP4_BLOCK; block++) {
        c->sf[fp4_kv_sf_offset(&c->pages, page, token, head, block)] = sf[block];
    }
}

/* The cache can be written, or read. */
static inline fp4_status fp4_ref_check_kv_(const fp4_kv_cache *c)
{
    if (c == NULL) {
        return FP4_NULL;
    }
    if ((unsigned)c->pages.order > FP4_KV_HND || (unsigned)c->pages.sf_layout > FP4_KV_SF_4X1) {
        return FP4_BAD_TYPE;
    }
    if (!fp4_kv_is_valid(&c->pages)) {
        return FP4_BAD_SHAPE;
    }
    if (c->pages.pages == 0) {
        return FP4_OK;
    }
    if (c->q == NULL || c->sf == NULL) {
        return FP4_NULL;
    }
    return c->q_bytes < fp4_kv_q_bytes(&c->pages) || c->sf_bytes < fp4_kv_sf_bytes(&c->pages)
               ? FP4_SMALL_BUFFER
               : FP4_OK;
}

/**
 * Pages of elements to NVFP4. Sets c->global_dec = 1 / global_enc, where there are pages.
 *
 * shape    x: the same pages of f32, f16 or bf16, rows of dim elements in the order of c->pages;
 *          page p starts at element p * x_stride; any alignment.
 * range    global_enc: positive and finite, and so its reciprocal. FlashInfer takes
 *          fp4_kv_global_enc of the amax. NaN, infinities, zeros: as fp4_ref_nvfp4_quantize.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written. No pages are fine: nothing is written, nor global_dec.
 */
static inline fp4_status fp4_ref_kv_quantize(const void *x, fp4_dtype dtype, size_t x_stride,
                                             float global_enc, fp4_kv_cache *c)
{
    const fp4_status status = fp4_ref_check_kv_(c);
    size_t of_page, i;

    if (status != FP4_OK) {
        return status;
    }
    if ((unsigned)dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (x_stride < 2 * fp4_kv_q_page_bytes(&c->pages)) {
        return FP4_BAD_STRIDE;
    }
    if (fp4_overflows_(c->pages.pages, x_stride) ||
        fp4_overflows_(c->pages.pages * x_stride, fp4_dtype_bytes(dtype))) {
        return FP4_BAD_SHAPE;
    }
    if (c->pages.pages != 0 && x == NULL) {
        return FP4_NULL;
    }
    if (!fp4_kv_can_encode(global_enc, FP4_KV_ENC)) {
        return FP4_BAD_SCALE;
    }
    if (c->pages.pages == 0) {
        return FP4_OK;
    }
    c->global_dec = fp4_nvfp4_global_dec(global_enc);
    of_page = c->pages.tokens * c->pages.heads;
    for (i = 0; i < c->pages.pages * of_page; i++) {
        const size_t page = i / of_page, token = i % of_page / c->pages.heads;
        const size_t head = i % c->pages.heads;
        const size_t at = page * x_stride + fp4_kv_row(&c->pages, token, head) * c->pages.dim;
        const fp4_matrix m = fp4_matrix_of_((const uint8_t *)x + at * fp4_dtype_bytes(dtype), dtype,
                                            1, c->pages.dim, c->pages.dim, 1.0f);
        fp4_ref_kv_put_(c, page, token, head, &m, global_enc);
    }
    return FP4_OK;
}

/* Entry i of sequence b, or pages.pages, which is none, for one that is out of range. */
static inline size_t fp4_ref_kv_page_(const fp4_kv_cache *c, const fp4_kv_batch *b, size_t sequence,
                                      size_t i)
{
    const size_t at = sequence * b->table_stride + i;
    size_t page;

    return fp4_is_below_(fp4_integer_at_(b->tables, at), c->pages.pages, &page) ? page
                                                                                : c->pages.pages;
}

/* Everything that can be known before the tables are read; there are sequences and tokens. */
static inline fp4_status fp4_ref_check_kv_batch_(const fp4_kv_cache *c, const fp4_kv_batch *b)
{
    if ((b->max_tokens - 1) / c->pages.tokens >= b->max_pages ||
        fp4_overflows_(b->batches, b->table_stride) ||
        fp4_overflows_(b->batches * b->table_stride, sizeof(int64_t))) {
        return FP4_BAD_SHAPE;
    }
    if (b->table_stride < b->max_pages) {
        return FP4_BAD_STRIDE;
    }
    return b->tables.data == NULL || b->seq_lens == NULL ? FP4_NULL : FP4_OK;
}

/* One sequence; answers how much of it was skipped. */
static inline size_t fp4_ref_kv_sequence_(const fp4_kv_cache *c, const fp4_kv_batch *b,
                                          size_t sequence, fp4_dtype dtype, uint8_t *y,
                                          fp4_kv_strides strides)
{
    const int32_t length = b->seq_lens[sequence];
    const int is_out = length < 0 || (size_t)length > b->max_tokens;
    const size_t tokens = length < 0 ? 0 : is_out ? b->max_tokens : (size_t)length;
    size_t skipped = (size_t)is_out, t, head, block;

    for (t = 0; t < tokens; t++) {
        const size_t page = fp4_ref_kv_page_(c, b, sequence, t / c->pages.tokens);
        const size_t token = t % c->pages.tokens;
        if (page == c->pages.pages) {
            skipped += token == 0;
            continue;
        }
        for (head = 0; head < c->pages.heads; head++) {
            const size_t at = sequence * strides.batch + t * strides.token + head * strides.head;
            uint8_t sf[FP4_KV_DIM_MAX / FP4_NVFP4_BLOCK];
            const fp4_tensor row = fp4_ref_kv_row_(c, page, token, head, sf);
            float x[FP4_KV_DIM_MAX];
            for (block = 0; block < c->pages.dim / FP4_NVFP4_BLOCK; block++) {
                sf[block] = c->sf[fp4_kv_sf_offset(&c->pages, page, token, head, block)];
            }
            fp4_ref_decode_(x, &row, 0, 0, c->pages.dim, FP4_CODE_FIRST);
            fp4_ref_store_(y + at * fp4_dtype_bytes(dtype), dtype, x, c->pages.dim);
        }
    }
    return skipped;
}

/**
 * The tokens of a batch of sequences from their pages: (code * sf) * global_dec in f32, rounded to
 * dtype.
 *
 * shape    y: [batches, max_tokens, heads, dim] of f32, f16 or bf16, with any strides that keep
 *          rows apart; any alignment; y_bytes must reach the last element.
 * range    left as they are in y: tokens from seq_lens[b] on, and those of pages that are negative
 *          or not below pages.pages. A length below 0 is taken as 0, one over max_tokens as that.
 * skipped  null, or what the number of such pages (those of a sequence's tokens) and such lengths
 *          is added to.
 * errors   FP4_BAD_SHAPE, FP4_BAD_STRIDE, FP4_SMALL_BUFFER, FP4_NULL, FP4_BAD_SCALE, FP4_BAD_TYPE;
 *          nothing written. batches = 0 or max_tokens = 0 is fine: nothing else is looked at.
 */
static inline fp4_status fp4_ref_kv_dequantize(const fp4_kv_cache *c, const fp4_kv_batch *b,
                                               fp4_dtype dtype, void *y, size_t y_bytes,
                                               fp4_kv_strides strides, size_t *skipped)
{
    fp4_status status;
    size_t span, sequence, out = 0;

    if (b == NULL) {
        return FP4_NULL;
    }
    if (b->batches == 0 || b->max_tokens == 0) {
        return FP4_OK;
    }
    status = fp4_ref_check_kv_(c);
    status = status != FP4_OK ? status : fp4_ref_check_kv_batch_(c, b);
    if (status != FP4_OK) {
        return status;
    }
    if ((unsigned)dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (!fp4_kv_can_decode(c->global_dec, FP4_KV_DEC)) {
        return FP4_BAD_SCALE;
    }
    span = fp4_kv_span(b->batches, b->max_tokens, c->pages.heads, c->pages.dim, strides);
    if (span == 0) {
        return FP4_BAD_STRIDE;
    }
    if (y == NULL) {
        return FP4_NULL;
    }
    if (y_bytes / fp4_dtype_bytes(dtype) < span) {
        return FP4_SMALL_BUFFER;
    }
    for (sequence = 0; sequence < b->batches; sequence++) {
        out += fp4_ref_kv_sequence_(c, b, sequence, dtype, (uint8_t *)y, strides);
    }
    if (skipped != NULL) {
        *skipped += out;
    }
    return FP4_OK;
}

#endif /* FP4_HOST_KV_CACHE_H */

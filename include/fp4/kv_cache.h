/*
 * fp4/kv_cache.h - where the codes and scale bytes of a token and head stand in a paged NVFP4 KV
 * cache, and the global scale of one.
 *
 * A page holds `tokens` tokens of all heads; a token and head is a row of `dim` elements: dim / 2
 * bytes of codes and S = dim / 16 scale bytes, in two arrays. K and V are a cache each, with a
 * geometry each. The rows of a page are ordered in one of two ways:
 *
 *     NHD   [page, token, head, dim]   row = token * heads + head
 *     HND   [page, head, token, dim]   row = head * tokens + token
 *
 * Codes, and scale bytes that are linear, stand as their row does, S scale bytes a row. Those of V
 * that FlashInfer's attention reads are 4x1: the tokens * S bytes of a page and head, the tile, are
 * permuted among themselves, so that the bytes of four tokens stand side by side (layout.h):
 *
 *     byte k of the tile = token / 4 * 4S + sf_col * 4 + token % 4
 *
 * The tile is cut into rows of S bytes, one where the row of each token would be. Byte k is
 * therefore byte k % S of the row of token k / S, same page and head: in HND a tile is one run of
 * bytes, in NHD its rows are heads * S bytes apart. S = 8, as for dim = 128; abcd is sf_col a to d:
 *
 *                 linear               4x1
 *     token 0     a0 b0 c0 .. h0       a0 a1 a2 a3 b0 b1 b2 b3
 *     token 1     a1 b1 c1 .. h1       c0 c1 c2 c3 d0 d1 d2 d3
 *     token 2     a2 b2 c2 .. h2       e0 e1 e2 e3 f0 f1 f2 f3
 *     token 3     a3 b3 c3 .. h3       g0 g1 g2 g3 h0 h1 h2 h3
 *
 * A word of four tokens never crosses a row, since 4x1 is only for dim % 64 == 0.
 *
 * Offsets are bytes, 64-bit, and all index functions are constant expressions in C++.
 *
 * source   FlashInfer nvfp4_quantize_paged_kv_cache, nvfp4_kv_dequantize_paged.
 */
#ifndef FP4_KV_CACHE_H
#define FP4_KV_CACHE_H

#include <fp4/bits.h>
#include <fp4/layout.h>
#include <fp4/scale.h>

#define FP4_KV_DIM_MIN 64 /* elements of a head */
#define FP4_KV_DIM_MAX 512

/** The order of the axes of a page. */
typedef enum fp4_kv_order { FP4_KV_NHD = 0, FP4_KV_HND = 1 } fp4_kv_order;

/** Where the scale bytes of a page and head stand in it. */
typedef enum fp4_kv_sf { FP4_KV_SF_LINEAR = 0, FP4_KV_SF_4X1 = 1 } fp4_kv_sf;

/**
 * The geometry of a cache: that of K, or that of V.
 *
 * shape    dim: a multiple of 16, FP4_KV_DIM_MIN to FP4_KV_DIM_MAX; with 4x1 a multiple of 64, and
 *          tokens of 4. q_stride, sf_stride: bytes from page to page of codes and of scale bytes,
 *          at least those of a page; larger where something else stands between (V, the scales).
 */
typedef struct fp4_kv_pages {
    fp4_kv_order order;
    fp4_kv_sf sf_layout;
    size_t pages, tokens, heads, dim; /* tokens of a page */
    size_t q_stride, sf_stride;
} fp4_kv_pages;

/* ---------------------------------------------------------------- sizes */

/** Bytes of codes of a page. */
FP4_HD_CONST size_t fp4_kv_q_page_bytes(const fp4_kv_pages *p)
{
    return p->tokens * p->heads * (p->dim / 2);
}

/** Scale bytes of a page. */
FP4_HD_CONST size_t fp4_kv_sf_page_bytes(const fp4_kv_pages *p)
{
    return p->tokens * p->heads * (p->dim / FP4_NVFP4_BLOCK);
}

/** Bytes from the first code of the cache to behind the last. */
FP4_HD_CONST size_t fp4_kv_q_bytes(const fp4_kv_pages *p)
{
    return p->pages == 0 ? 0 : (p->pages - 1) * p->q_stride + fp4_kv_q_page_bytes(p);
}

/** Bytes from the first scale byte of the cache to behind the last. */
FP4_HD_CONST size_t fp4_kv_sf_bytes(const fp4_kv_pages *p)
{
    return p->pages == 0 ? 0 : (p->pages - 1) * p->sf_stride + fp4_kv_sf_page_bytes(p);
}

/** The geometry of pages with nothing between them. */
FP4_HD fp4_kv_pages fp4_kv_pages_packed(fp4_kv_order order, fp4_kv_sf sf_layout, size_t pages,
                                        size_t tokens, size_t heads, size_t dim)
{
    fp4_kv_pages p;

    p.order = order;
    p.sf_layout = sf_layout;
    p.pages = pages;
    p.tokens = tokens;
    p.heads = heads;
    p.dim = dim;
    p.q_stride = fp4_kv_q_page_bytes(&p);
    p.sf_stride = fp4_kv_sf_page_bytes(&p);
    return p;
}

/** 1 where the geometry is one: shapes as above, and no size over 2^64. pages = 0 is fine. */
FP4_HD_CONST int fp4_kv_is_valid(const fp4_kv_pages *p)
{
    return (unsigned)p->order <= FP4_KV_HND && (unsigned)p->sf_layout <= FP4_KV_SF_4X1 &&
           p->tokens != 0 && p->heads != 0 && p->dim >= FP4_KV_DIM_MIN &&
           p->dim <= FP4_KV_DIM_MAX && p->dim % FP4_NVFP4_BLOCK == 0 &&
           (p->sf_layout == FP4_KV_SF_LINEAR || (p->dim % 64 == 0 && p->tokens % 4 == 0)) &&
           !fp4_overflows_(p->tokens, p->heads) &&
           !fp4_overflows_(p->tokens * p->heads, FP4_KV_DIM_MAX / 2) &&
           p->q_stride >= fp4_kv_q_page_bytes(p) && p->sf_stride >= fp4_kv_sf_page_bytes(p) &&
           !fp4_overflows_(p->pages, p->q_stride) && !fp4_overflows_(p->pages, p->sf_stride);
}

/* ---------------------------------------------------------------- offsets */

/** The row of a token and head in its page. */
FP4_HD_CONST size_t fp4_kv_row(const fp4_kv_pages *p, size_t token, size_t head)
{
    return p->order == FP4_KV_NHD ? token * p->heads + head : head * p->tokens + token;
}

/** Byte offset of the codes of a row; the next dim / 2 are its. */
FP4_HD_CONST size_t fp4_kv_q_offset(const fp4_kv_pages *p, size_t page, size_t token, size_t head)
{
    return page * p->q_stride + fp4_kv_row(p, token, head) * (p->dim / 2);
}

/* Byte k, counted from the first scale byte of a token through the rows of the tokens after it, of
   the same page and head. */
FP4_HD_CONST size_t fp4_kv_sf_offset_from_(const fp4_kv_pages *p, size_t page, size_t token,
                                           size_t head, uint32_t k, uint32_t sf_cols)
{
    return page * p->sf_stride + fp4_kv_row(p, token + k / sf_cols, head) * sf_cols + k % sf_cols;
}

/** Byte offset of the scale byte of block sf_col of a row. In 4x1 with a division of 32 bits,
    unless the caller has p->dim as a constant. */
FP4_HD_CONST size_t fp4_kv_sf_offset(const fp4_kv_pages *p, size_t page, size_t token, size_t head,
                                     size_t sf_col)
{
    return p->sf_layout == FP4_KV_SF_4X1
               ? fp4_kv_sf_offset_from_(p, page, token / 4 * 4, head,
                                        (uint32_t)fp4_sf_offset_4x1(token % 4, sf_col, 0),
                                        (uint32_t)(p->dim / FP4_NVFP4_BLOCK))
               : fp4_kv_sf_offset_from_(p, page, token, head, 0,
                                        (uint32_t)(p->dim / FP4_NVFP4_BLOCK)) +
                     sf_col;
}

/* ---------------------------------------------------------------- tables, positions, slots */

/** An array of integers with a sign, aligned as such: int32_t, or int64_t where is_64. */
typedef struct fp4_integers {
    const void *data;
    int is_64;
} fp4_integers;

/* ---------------------------------------------------------------- elements of sequences */

/** From element to element of [batch, token, head, dim], dim the fastest with nothing between. */
typedef struct fp4_kv_strides {
    size_t batch, token, head;
} fp4_kv_strides;

/* Elements from the first to behind the last when `count` of what spans `span` stand `stride`
   apart; 0 where two of them would share one, or the size is over 2^62. */
FP4_HD_CONST size_t fp4_kv_span_(size_t span, size_t count, size_t stride)
{
    return count == 1 ? span
           : span == 0 || stride < span || (count - 1) > ((size_t)-1 / 4 - span) / stride
               ? 0
               : (count - 1) * stride + span;
}

/**
 * Elements from the first to behind the last of batches x tokens x heads x dim; 0 where there are
 * none, two rows would share one or stand in each other's gaps, or the size is over 2^62. The axes
 * may be in any order.
 */
FP4_HD size_t fp4_kv_span(size_t batches, size_t tokens, size_t heads, size_t dim,
                          fp4_kv_strides strides)
{
    size_t count[3], stride[3], span;
    int i, j;

    span = batches == 0 || tokens == 0 || heads == 0 || dim > (size_t)-1 / 4 ? 0 : dim;
    count[0] = heads;
    count[1] = tokens;
    count[2] = batches;
    stride[0] = strides.head;
    stride[1] = strides.token;
    stride[2] = strides.batch;
    for (i = 0; i < 3 && span != 0; i++) { /* in the order of their strides, 0: has been */
        int least = -1;
        for (j = 0; j < 3; j++) {
            if (count[j] != 0 && (least < 0 || stride[j] < stride[least])) {
                least = j;
            }
        }
        span = fp4_kv_span_(span, count[least], stride[least]);
        count[least] = 0;
    }
    return span;
}

/* ---------------------------------------------------------------- global scale */

/**
 * The global scale that nvfp4_quantize_paged_kv_cache takes where it is given none:
 *
 *     global_enc = 448 / max( amax, 1e-12 )        1 where amax is not finite
 *
 * so that the largest scale byte decodes to 448 / 6. (fp4_nvfp4_global_enc has a factor of 6 more
 * and uses the whole range of the scale bytes.) amax: of all of K or V; never negative, never NaN.
 */
FP4_HD float fp4_kv_global_enc(float amax)
{
    const float enc = amax > 1e-12f ? fp4_div_rn(FP4_E4M3_MAX, amax) : 4.48e14f;
    return amax <= FP4_F32_MAX ? enc : 1.0f;
}

/**
 * What the number of a global scale is: what elements are multiplied by before they are encoded, or
 * after they are decoded, or the amax, of which fp4_kv_global_enc is to be taken. FlashInfer's
 * k_scale and v_scale are FP4_KV_DEC.
 */
typedef enum fp4_kv_sense { FP4_KV_ENC = 0, FP4_KV_DEC = 1, FP4_KV_AMAX = 2 } fp4_kv_sense;

/** What elements are multiplied by before they are encoded. */
FP4_HD float fp4_kv_enc_of(float value, fp4_kv_sense sense)
{
    return sense == FP4_KV_DEC    ? fp4_nvfp4_global_enc_from_dec(value)
           : sense == FP4_KV_AMAX ? fp4_kv_global_enc(value)
                                  : value;
}

/** What they are multiplied by after they are decoded: as it is given, or 1 / fp4_kv_enc_of. */
FP4_HD float fp4_kv_dec_of(float value, fp4_kv_sense sense)
{
    return sense == FP4_KV_DEC ? value : fp4_nvfp4_global_dec(fp4_kv_enc_of(value, sense));
}

/**
 * 1 where the number can be the scale of what is encoded. FP4_KV_ENC: positive and finite, and so
 * its reciprocal (above 2^-128). FP4_KV_DEC: positive, and less than FLT_MAX; up to 2^-128 its
 * reciprocal counts as FLT_MAX. FP4_KV_AMAX: not negative, not NaN. 0 for any other sense.
 */
FP4_HD int fp4_kv_can_encode(float value, fp4_kv_sense sense)
{
    return (unsigned)sense <= FP4_KV_AMAX &&
           (sense == FP4_KV_AMAX ? value >= 0.0f
                                 : value > 0.0f && value <= FP4_F32_MAX &&
                                       fp4_f32_bits(fp4_kv_enc_of(value, sense)) > 0x00200000u);
}

/** 1 where it can be that of what is only decoded: FP4_KV_DEC +0, or positive and finite; of
    another sense as above. */
FP4_HD int fp4_kv_can_decode(float value, fp4_kv_sense sense)
{
    return sense == FP4_KV_DEC ? fp4_f32_bits(value) < 0x7f800000u
                               : fp4_kv_can_encode(value, sense);
}

#endif /* FP4_KV_CACHE_H */

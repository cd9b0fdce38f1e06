/*
 * fp4/kv_cache.h: offsets against a cache that is permuted and reshaped as FlashInfer does it, one
 * axis after the other; what is a geometry; spans against a map of who is where; the global scale.
 */
#include <fp4/kv_cache.h>

#include <math.h>

#include "host_util.h"

/* ---------------------------------------------------------------- offsets */

/* An array of four axes, as its shape. The last is the fastest. */
typedef struct array {
    size_t n[4];
} array;

static size_t at(const array *a, const size_t i[4])
{
    return ((i[0] * a->n[1] + i[1]) * a->n[2] + i[2]) * a->n[3] + i[3];
}

/* The array with its second and third axis exchanged. */
static void permute(uint32_t *out, const uint32_t *in, array *a)
{
    const array from = *a;
    size_t i[4];

    a->n[1] = from.n[2];
    a->n[2] = from.n[1];
    for (i[0] = 0; i[0] < a->n[0]; i[0]++) {
        for (i[1] = 0; i[1] < a->n[1]; i[1]++) {
            for (i[2] = 0; i[2] < a->n[2]; i[2]++) {
                for (i[3] = 0; i[3] < a->n[3]; i[3]++) {
                    const size_t swapped[4] = {i[0], i[2], i[1], i[3]};
                    out[at(a, i)] = in[at(&from, swapped)];
                }
            }
        }
    }
}

/* Numbers of scale bytes in memory order: token, head and block of each, packed in one. */
static uint32_t *numbers(const fp4_kv_pages *p, array *shape)
{
    const size_t cols = p->dim / 16;
    const array a = {{p->pages, p->order == FP4_KV_NHD ? p->tokens : p->heads,
                      p->order == FP4_KV_NHD ? p->heads : p->tokens, cols}};
    uint32_t *x = (uint32_t *)host_zeros(p->pages * p->tokens * p->heads * cols * sizeof *x);

    for (size_t i = 0; i < p->pages * p->tokens * p->heads * cols; i++) {
        x[i] = (uint32_t)i;
    }
    *shape = a;
    return x;
}

/* nvfp4_quantize_paged_kv_cache on them: to [page, head, token, block], each head's tile cut into
   fours of tokens, in which tokens become the fastest axis, and all of it back. */
static void interleave(uint32_t *x, const fp4_kv_pages *p, array a)
{
    const size_t cols = p->dim / 16, count = a.n[0] * a.n[1] * a.n[2] * a.n[3];
    uint32_t *other = (uint32_t *)host_zeros(count * sizeof *x);

    if (p->order == FP4_KV_NHD) {
        permute(other, x, &a);
    } else {
        memcpy(other, x, count * sizeof *x);
    }
    for (size_t four = 0; four < count / (4 * cols); four++) { /* [4, cols] to [cols, 4] */
        for (size_t i = 0; i < 4 * cols; i++) {
            x[four * 4 * cols + i] = other[four * 4 * cols + i % 4 * cols + i / 4];
        }
    }
    if (p->order == FP4_KV_NHD) {
        memcpy(other, x, count * sizeof *x);
        permute(x, other, &a);
    }
    free(other);
}

static void check_offsets(fp4_kv_pages p)
{
    const size_t cols = p.dim / 16;
    array a;
    uint32_t *x = numbers(&p, &a), *linear = numbers(&p, &a);
    size_t q = 0;

    if (p.sf_layout == FP4_KV_SF_4X1) {
        interleave(x, &p, a);
    }
    cr_assert(fp4_kv_is_valid(&p));
    CHECK_EQ(fp4_kv_sf_bytes(&p), p.pages * p.tokens * p.heads * cols, "scale bytes");
    CHECK_EQ(fp4_kv_q_bytes(&p), p.pages * p.tokens * p.heads * p.dim / 2, "codes");
    for (size_t page = 0; page < p.pages; page++) {
        for (size_t token = 0; token < p.tokens; token++) {
            for (size_t head = 0; head < p.heads; head++) {
                const size_t second = p.order == FP4_KV_NHD ? token : head;
                const size_t third = p.order == FP4_KV_NHD ? head : token;
                const size_t first[4] = {page, second, third, 0};
                CHECK_EQ(fp4_kv_q_offset(&p, page, token, head), at(&a, first) * 8,
                         "order %d: codes of %zu %zu %zu", (int)p.order, page, token, head);
                for (size_t col = 0; col < cols; col++) {
                    const size_t i[4] = {page, second, third, col};
                    const size_t offset = fp4_kv_sf_offset(&p, page, token, head, col);
                    cr_assert(offset < fp4_kv_sf_bytes(&p));
                    CHECK_EQ(x[offset], linear[at(&a, i)],
                             "order %d, layout %d: scale of %zu %zu %zu %zu", (int)p.order,
                             (int)p.sf_layout, page, token, head, col);
                    q++;
                }
            }
        }
    }
    CHECK_EQ(q, fp4_kv_sf_bytes(&p), "all of them");
    free(x);
    free(linear);
}

Test(kv_cache, offsets_are_those_of_a_permuted_cache)
{
    static const size_t shapes[][4] = {{1, 4, 1, 64},  {3, 16, 8, 128}, {2, 64, 3, 192},
                                       {2, 8, 5, 512}, {2, 12, 2, 320}, {1, 4, 7, 448}};
    static const size_t only_linear[][4] = {{3, 1, 5, 64}, {2, 6, 3, 80}, {1, 7, 1, 496}};

    for (int order = 0; order < 2; order++) {
        for (size_t i = 0; i < 2 * 6; i++) {
            const size_t *s = shapes[i / 2];
            check_offsets(fp4_kv_pages_packed((fp4_kv_order)order, (fp4_kv_sf)(i % 2), s[0], s[1],
                                              s[2], s[3]));
        }
        for (size_t i = 0; i < 3; i++) {
            const size_t *s = only_linear[i];
            check_offsets(
                fp4_kv_pages_packed((fp4_kv_order)order, FP4_KV_SF_LINEAR, s[0], s[1], s[2], s[3]));
        }
    }
}

/* Gaps between pages move pages and nothing in them. */
Test(kv_cache, strides)
{
    fp4_kv_pages packed = fp4_kv_pages_packed(FP4_KV_NHD, FP4_KV_SF_4X1, 5, 16, 3, 128);
    fp4_kv_pages p = packed;

    p.q_stride += 24;
    p.sf_stride = (size_t)1 << 40;
    CHECK(fp4_kv_is_valid(&p), "gaps");
    CHECK_EQ(fp4_kv_q_bytes(&p), fp4_kv_q_bytes(&packed) + 4 * 24, "codes");
    CHECK_EQ(fp4_kv_sf_bytes(&p), ((size_t)4 << 40) + 16 * 3 * 8, "scales");
    CHECK_EQ(fp4_kv_q_offset(&p, 4, 7, 2), fp4_kv_q_offset(&packed, 4, 7, 2) + 4 * 24, "codes");
    CHECK_EQ(fp4_kv_sf_offset(&p, 4, 7, 2, 5),
             ((size_t)4 << 40) + fp4_kv_sf_offset(&packed, 0, 7, 2, 5), "scale");
    p.pages = 0;
    CHECK(fp4_kv_is_valid(&p) && fp4_kv_q_bytes(&p) == 0 && fp4_kv_sf_bytes(&p) == 0, "no pages");
}

/* ---------------------------------------------------------------- what is a geometry */

static fp4_kv_pages good(void)
{
    return fp4_kv_pages_packed(FP4_KV_HND, FP4_KV_SF_4X1, 5, 16, 3, 128);
}

#define INVALID(what, change) \
    do { \
        fp4_kv_pages p = good(); \
        cr_assert(fp4_kv_is_valid(&p)); \
        change; \
        CHECK(!fp4_kv_is_valid(&p), "%s", what); \
    } while (0)

static void packed(fp4_kv_pages *p, size_t tokens, size_t dim)
{
    *p = fp4_kv_pages_packed(p->order, p->sf_layout, p->pages, tokens, p->heads, dim);
}

Test(kv_cache, what_is_no_geometry)
{
    INVALID("an order", p.order = (fp4_kv_order)2);
    INVALID("a layout", p.sf_layout = (fp4_kv_sf)2);
    INVALID("no tokens", p.tokens = 0);
    INVALID("no heads", p.heads = 0);
    INVALID("no elements", p.dim = 0);
    INVALID("few elements", packed(&p, 16, 48); p.sf_layout = FP4_KV_SF_LINEAR);
    INVALID("many elements", packed(&p, 16, 528); p.sf_layout = FP4_KV_SF_LINEAR);
    INVALID("half a block", packed(&p, 16, 136); p.sf_layout = FP4_KV_SF_LINEAR);
    INVALID("4x1 and no whole words", packed(&p, 16, 144));
    INVALID("4x1 and no whole fours", packed(&p, 14, 128));
    INVALID("codes on top of each other", p.q_stride--);
    INVALID("scales on top of each other", p.sf_stride--);
    INVALID("tokens over 2^64", p.tokens = (size_t)1 << 62);
    INVALID("a page over 2^64", p.tokens = (size_t)1 << 56);
    INVALID("tokens and heads that wrap to 0", p.tokens = (size_t)1 << 62; p.heads = 4);
    INVALID("codes over 2^64", p.pages = (size_t)1 << 32; p.q_stride = (size_t)1 << 32);
    INVALID("scales over 2^64", p.pages = (size_t)1 << 32; p.sf_stride = (size_t)1 << 32);
    for (size_t dim = 64; dim <= 512; dim += 16) {
        fp4_kv_pages p = fp4_kv_pages_packed(FP4_KV_NHD, FP4_KV_SF_LINEAR, 1, 3, 1, dim);
        CHECK(fp4_kv_is_valid(&p), "%zu", dim);
        packed(&p, 4, dim);
        p.sf_layout = FP4_KV_SF_4X1;
        CHECK(fp4_kv_is_valid(&p) == (dim % 64 == 0), "%zu, 4x1", dim);
    }
}

/* ---------------------------------------------------------------- spans */

/* One after the other, into a map: 0 where two share an element. */
static size_t span_of(size_t batches, size_t tokens, size_t heads, size_t dim, fp4_kv_strides s)
{
    static uint8_t map[1 << 16];
    size_t span = 0;

    memset(map, 0, sizeof map);
    for (size_t i = 0; i < batches * tokens * heads * dim; i++) {
        const size_t to = i / dim / heads / tokens * s.batch + i / dim / heads % tokens * s.token +
                          i / dim % heads * s.head + i % dim;
        cr_assert(to < sizeof map);
        if (map[to]++) {
            return 0;
        }
        span = to + 1 > span ? to + 1 : span;
    }
    return span;
}

/* Any strides: a span is never wrong; strides of nested axes always have one. */
Test(kv_cache, spans)
{
    size_t found = 0, refused = 0;
    uint64_t state = 1;

    for (int i = 0; i < 20000; i++) {
        const size_t batches = 1 + host_below(&state, 3), tokens = 1 + host_below(&state, 4);
        const size_t heads = 1 + host_below(&state, 3), dim = 2 + host_below(&state, 4);
        const fp4_kv_strides s = {host_below(&state, 100), host_below(&state, 40),
                                  host_below(&state, 20)};
        const size_t span = fp4_kv_span(batches, tokens, heads, dim, s);
        if (span != 0) {
            CHECK_EQ(span, span_of(batches, tokens, heads, dim, s), "%zu %zu %zu %zu: %zu %zu %zu",
                     batches, tokens, heads, dim, s.batch, s.token, s.head);
        }
        found += span != 0;
        refused += span_of(batches, tokens, heads, dim, s) == 0;
    }
    CHECK(found > 1000 && refused > 1000, "%zu, %zu", found, refused);
    CHECK_EQ(fp4_kv_span(2, 3, 4, 5, (fp4_kv_strides){60, 20, 5}), 120, "as they stand");
    CHECK_EQ(fp4_kv_span(2, 3, 4, 5, (fp4_kv_strides){60, 5, 15}), 120, "heads first");
    CHECK_EQ(fp4_kv_span(2, 3, 4, 5, (fp4_kv_strides){5, 40, 10}), 120, "batches last");
    CHECK_EQ(fp4_kv_span(2, 3, 4, 5, (fp4_kv_strides){60, 20, 4}), 0, "rows on top of each other");
    CHECK_EQ(fp4_kv_span(1, 1, 1, 5, (fp4_kv_strides){0, 0, 0}), 5, "one row");
    CHECK_EQ(fp4_kv_span(0, 1, 1, 5, (fp4_kv_strides){0, 0, 0}), 0, "none");
    CHECK_EQ(fp4_kv_span(1, 0, 1, 5, (fp4_kv_strides){0, 0, 0}), 0, "none");
    CHECK_EQ(fp4_kv_span(1, 1, 0, 5, (fp4_kv_strides){0, 0, 0}), 0, "none");
    CHECK_EQ(fp4_kv_span(5, 3, 4, 5, (fp4_kv_strides){(size_t)1 << 60, 20, 5}), 0, "over 2^62");
    CHECK_EQ(fp4_kv_span(1, 1, 1, (size_t)1 << 63, (fp4_kv_strides){0, 0, 0}), 0,
             "a row over 2^62");
    CHECK_EQ(fp4_kv_span(1, 1, 2, (size_t)1 << 63, (fp4_kv_strides){0, 0, (size_t)-8}), 0,
             "two of them");
    CHECK_EQ(fp4_kv_span(1, 3, 2, 1, (fp4_kv_strides){0, 2, 3}), 0, "in each other's gaps");
    CHECK_EQ(fp4_kv_span(3, 3, 4, 5, (fp4_kv_strides){(size_t)1 << 60, 20, 5}),
             ((size_t)1 << 61) + 60, "below 2^62");
}

/* ---------------------------------------------------------------- the global scale */

Test(kv_cache, global_scale)
{
    uint64_t state = 2;

    for (int i = 0; i < 100000; i++) {
        const float amax = host_bits(host_below(&state, 0x7f800000u));
        const double wanted = 448.0 / ((double)amax > 1e-12 ? (double)amax : 1e-12);
        CHECK_EQ(host_bits_of(fp4_kv_global_enc(amax)), host_bits_of((float)wanted), "%a",
                 (double)amax);
    }
    CHECK_EQ(host_bits_of(fp4_kv_global_enc(1e-12f)), host_bits_of(4.48e14f), "1e-12");
    CHECK_EQ(host_bits_of(fp4_kv_global_enc(0.0f)), host_bits_of(4.48e14f), "0");
    CHECK_EQ(host_bits_of(fp4_kv_global_enc(448.0f)), host_bits_of(1.0f), "448");
    CHECK_EQ(host_bits_of(fp4_kv_global_enc(INFINITY)), host_bits_of(1.0f), "infinity");
}

/* Each number in each sense: what is made of it, and whether anything can be. */
Test(kv_cache, global_scale_in_every_sense)
{
    static const struct {
        float value, enc, dec;
        int sense, can_encode, can_decode;
    } scales[] = {
        {4.0f, 4.0f, 0.25f, FP4_KV_ENC, 1, 1},
        {4.0f, 0.25f, 4.0f, FP4_KV_DEC, 1, 1},
        {4.0f, 112.0f, 1.0f / 112.0f, FP4_KV_AMAX, 1, 1},
        {0.0f, 4.48e14f, 1.0f / 4.48e14f, FP4_KV_AMAX, 1, 1},
        {INFINITY, 1.0f, 1.0f, FP4_KV_AMAX, 1, 1},
        {0x1p-128f, 0x1p-128f, INFINITY, FP4_KV_ENC, 0, 0},
        {0x1.000008p-128f, 0x1.000008p-128f, 0x1.fffffp+127f, FP4_KV_ENC, 1, 1},
        {FP4_F32_MAX, FP4_F32_MAX, 0x1p-128f, FP4_KV_ENC, 1, 1},
        {FP4_F32_MAX, 0x1p-128f, FP4_F32_MAX, FP4_KV_DEC, 0, 1},
        {0x1p-149f, FP4_F32_MAX, 0x1p-149f, FP4_KV_DEC, 1, 1},
        {0.0f, FP4_F32_MAX, 0.0f, FP4_KV_DEC, 0, 1},
    };
    static const float bad[] = {-0.0f, -1.0f, -INFINITY, INFINITY, NAN};

    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++) {
        const fp4_kv_sense sense = (fp4_kv_sense)scales[i].sense;
        CHECK_EQ(host_bits_of(fp4_kv_enc_of(scales[i].value, sense)), host_bits_of(scales[i].enc),
                 "encodes: %zu", i);
        CHECK_EQ(host_bits_of(fp4_kv_dec_of(scales[i].value, sense)), host_bits_of(scales[i].dec),
                 "decodes: %zu", i);
        CHECK_EQ(fp4_kv_can_encode(scales[i].value, sense), scales[i].can_encode, "%zu", i);
        CHECK_EQ(fp4_kv_can_decode(scales[i].value, sense), scales[i].can_decode, "%zu", i);
        CHECK(!fp4_kv_can_encode(scales[i].value, (fp4_kv_sense)3), "no sense: %zu", i);
        CHECK(!fp4_kv_can_decode(scales[i].value, (fp4_kv_sense)3), "no sense: %zu", i);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        for (int sense = FP4_KV_ENC; sense <= FP4_KV_DEC; sense++) {
            CHECK(!fp4_kv_can_encode(bad[i], (fp4_kv_sense)sense), "%zu, sense %d", i, sense);
            CHECK(!fp4_kv_can_decode(bad[i], (fp4_kv_sense)sense), "%zu, sense %d", i, sense);
        }
    }
    CHECK(fp4_kv_can_encode(-0.0f, FP4_KV_AMAX), "an amax of -0");
    CHECK(!fp4_kv_can_encode(-0x1p-149f, FP4_KV_AMAX), "an amax below 0");
    CHECK(!fp4_kv_can_encode(NAN, FP4_KV_AMAX), "an amax of NaN");
}

/*
 * fp4/host/kv_append.h: caches against a loop that knows nothing of the library's geometry, rules
 * and indices; against exact rotations in double; fused and rounded against one function after the
 * other; who stays where two go to one place; and what is refused.
 */
#include <fp4/host/kv_append.h>

#include "check.h"
#include "host_util.h"

/* ---------------------------------------------------------------- a call and its memory */

enum { SEQUENCES = 4, POSITIONS = 40, MOST_TOKENS = 64, TABLE = 256 };

/* All a call consists of, for a test to change. */
typedef struct call {
    fp4_kv_new k, v;
    fp4_kv_cache k_cache, v_cache;
    fp4_kv_places places;
    fp4_kv_rope rope;
    host_buffer in_k, in_v, k_q, k_sf, v_q, v_sf, k_out;
    int64_t slots[MOST_TOKENS], positions[MOST_TOKENS];
    int32_t slots_32[MOST_TOKENS], positions_32[MOST_TOKENS], batch_indices[MOST_TOKENS];
    int64_t table[TABLE];
    int32_t table_32[TABLE], indptr[SEQUENCES + 1];
    float cos_sin[POSITIONS * FP4_KV_DIM_MAX];
    char text[256];
} call;

static fp4_heads heads_of(fp4_dtype dtype, size_t tokens, size_t heads, size_t dim, size_t gap)
{
    fp4_heads x = {NULL, dtype, tokens, heads, dim, heads * (dim + gap) + 2 * gap, dim + gap};
    return x;
}

static host_buffer elements_new(fp4_heads *x, uint64_t *state, host_data data)
{
    const host_buffer b = host_buffer_new(fp4_ref_heads_bytes_(x), 1);
    const size_t n = b.size / host_dtype_bytes(x->dtype);

    if (n != 0) {
        host_fill(b.bytes, fp4_matrix_of_(b.bytes, x->dtype, 1, n, n, 1.0f), state, data, 16);
    }
    x->data = b.bytes;
    return b;
}

static void cache_new(fp4_kv_cache *c, host_buffer *q, host_buffer *sf)
{
    *q = host_buffer_new(fp4_kv_q_bytes(&c->pages), 1);
    *sf = host_buffer_new(fp4_kv_sf_bytes(&c->pages), 3);
    c->q = q->bytes;
    c->q_bytes = q->size;
    c->sf = sf->bytes;
    c->sf_bytes = sf->size;
    c->global_dec = 1.0f;
}

/* A call with everything, by slots, each token with one of its own. */
static call *call_new(fp4_dtype dtype, fp4_kv_order order, fp4_kv_sf v_sf, size_t tokens,
                      size_t heads, size_t k_dim, size_t v_dim, size_t rotary, uint64_t *state,
                      host_data data)
{
    call *c = (call *)host_zeros(sizeof *c);
    const size_t page = 4 + 4 * host_below(state, 2), pages = tokens / page + 8;

    c->k.x = heads_of(dtype, tokens, heads, k_dim, host_below(state, 4));
    c->v.x = heads_of(dtype, tokens, heads, v_dim, host_below(state, 4));
    c->k.cache = &c->k_cache;
    c->v.cache = &c->v_cache;
    c->k.global_enc = host_random_scale(state, -4, 4);
    c->v.global_enc = host_random_scale(state, -4, 4);
    c->k_cache.pages = fp4_kv_pages_packed(order, FP4_KV_SF_LINEAR, pages, page, heads, k_dim);
    c->v_cache.pages = fp4_kv_pages_packed(order, v_sf, pages, page, heads, v_dim);
    c->k_cache.pages.q_stride += 5;
    c->v_cache.pages.sf_stride += 7;
    c->in_k = elements_new(&c->k.x, state, data);
    c->in_v = elements_new(&c->v.x, state, data);
    cache_new(&c->k_cache, &c->k_q, &c->k_sf);
    cache_new(&c->v_cache, &c->v_q, &c->v_sf);
    c->rope.k_out = c->k.x;
    c->k_out = host_buffer_new(fp4_ref_heads_bytes_(&c->k.x), 1);
    c->rope.k_out.data = c->k_out.bytes;
    c->rope.k_out_bytes = c->k_out.size;
    c->rope.rope.cos_sin = c->cos_sin;
    c->rope.rope.rotary = rotary;
    c->rope.rope.positions = POSITIONS;
    cr_assert(fp4_ref_rope_table(100.0, POSITIONS, rotary, c->cos_sin, sizeof c->cos_sin) ==
              FP4_OK);
    for (size_t i = 0; i < tokens; i++) {
        c->slots[i] = (int64_t)(i % 2 ? i - 1 : pages * page - 1 - i);
        c->positions[i] = host_below(state, POSITIONS);
    }
    c->places.slots.data = c->slots;
    c->places.slots.is_64 = 1;
    c->places.positions.data = c->positions;
    c->places.positions.is_64 = 1;
    snprintf(c->text, sizeof c->text,
             "dtype %d, order %d, 4x1 %d, %zu tokens, %zu heads of %zu and %zu, rotary %zu, data "
             "%d",
             (int)dtype, (int)order, (int)v_sf, tokens, heads, k_dim, v_dim, rotary, (int)data);
    return c;
}

static void call_free(call *c)
{
    host_buffer_free(c->in_k, c->text);
    host_buffer_free(c->in_v, c->text);
    host_buffer_free(c->k_q, c->text);
    host_buffer_free(c->k_sf, c->text);
    host_buffer_free(c->v_q, c->text);
    host_buffer_free(c->v_sf, c->text);
    host_buffer_free(c->k_out, c->text);
    free(c);
}

static fp4_status call_append(call *c, size_t *skipped)
{
    return fp4_ref_kv_append(&c->k, &c->v, &c->places, &c->rope, skipped);
}

/* ---------------------------------------------------------------- the naive append */

/* Where a token goes, as its slot number; -1: nowhere. By search, without a comparison of numbers
   with and without a sign. */
static int64_t naive_slot(const call *c, size_t token)
{
    const fp4_kv_places *p = &c->places;
    const int64_t page = (int64_t)c->k_cache.pages.tokens, pages = (int64_t)c->k_cache.pages.pages;
    const int64_t position = p->positions.is_64 ? c->positions[token] : c->positions_32[token];
    int64_t first, end;

    if (p->slots.data != NULL) {
        const int64_t slot = p->slots.is_64 ? c->slots[token] : c->slots_32[token];
        for (int64_t s = 0; s < page * pages; s++) {
            if (s == slot) {
                return s;
            }
        }
        return -1;
    }
    for (int32_t b = 0; b < (int32_t)p->batches; b++) {
        if (b != c->batch_indices[token]) {
            continue;
        }
        first = p->indptr != NULL ? c->indptr[b] : b * (int64_t)p->table_stride;
        end = p->indptr != NULL ? c->indptr[b + 1] : first + (int64_t)p->max_pages;
        if (p->indptr != NULL && (first < 0 || end > (int64_t)p->max_pages)) {
            return -1;
        }
        for (int64_t at = first; at < end; at++) {
            for (int64_t place = 0; place < page; place++) {
                const int64_t of = p->tables.is_64 ? c->table[at] : c->table_32[at];
                if ((at - first) * page + place == position) {
                    return of >= 0 && of < pages ? of * page + place : -1;
                }
            }
        }
    }
    return -1;
}

/* A head of K or V in f32, K turned. */
static void naive_head(const call *c, int is_k, size_t token, size_t head, float *out)
{
    const fp4_heads *x = is_k ? &c->k.x : &c->v.x;
    const size_t size = host_dtype_bytes(x->dtype), rotary = c->rope.rope.rotary;
    const fp4_matrix m = fp4_matrix_of_(
        (const uint8_t *)x->data + (token * x->token_stride + head * x->head_stride) * size,
        x->dtype, 1, x->dim, x->dim, 1.0f);
    const int64_t position =
        c->places.positions.is_64 ? c->positions[token] : c->positions_32[token];

    for (size_t i = 0; i < x->dim; i++) {
        out[i] = host_element(&m, 0, i);
    }
    for (size_t i = 0; is_k && c->rope.rope.cos_sin != NULL && i < rotary / 2; i++) {
        const size_t a = c->rope.rope.style == FP4_ROPE_NEOX ? i : 2 * i;
        const size_t b = c->rope.rope.style == FP4_ROPE_NEOX ? i + rotary / 2 : 2 * i + 1;
        const float cosine = c->cos_sin[(size_t)position * rotary + i];
        const float sine = c->cos_sin[(size_t)position * rotary + rotary / 2 + i];
        const float x1 = out[a], x2 = out[b];
        out[a] = fmaf(x1, cosine, -host_mul(x2, sine));
        out[b] = fmaf(x2, cosine, host_mul(x1, sine));
    }
}

static float naive_rounded(float x, fp4_dtype dtype)
{
    return dtype == FP4_F32   ? x
           : dtype == FP4_F16 ? host_f16(fp4_f32_to_f16(x))
                              : host_bits((uint32_t)fp4_f32_to_bf16(x) << 16);
}

/* A head, quantized, to a slot of an image of the cache: arrays [page][token][head] or
   [page][head][token], with their strides; 4x1 by FlashInfer's formula within a tile. */
static void naive_put(const fp4_kv_pages *p, float global_enc, int64_t slot, size_t head,
                      const float *x, uint8_t *q, uint8_t *sf)
{
    const size_t page = (size_t)slot / p->tokens, token = (size_t)slot % p->tokens;
    const size_t s = p->dim / 16;

    for (size_t col = 0; col < s; col++) {
        const host_block b = host_block_of(HOST_NVFP4_TENSOR, x + 16 * col, global_enc);
        size_t row = p->order == FP4_KV_NHD ? token * p->heads + head : head * p->tokens + token;
        size_t at = col;
        for (size_t i = 0; i < 8; i++) {
            q[page * p->q_stride + row * (p->dim / 2) + col * 8 + i] =
                (uint8_t)(b.code[2 * i] | b.code[2 * i + 1] << 4);
        }
        if (p->sf_layout == FP4_KV_SF_4X1) {
            const size_t flat = token / 4 * 4 * s + 4 * col + token % 4;
            row = p->order == FP4_KV_NHD ? flat / s * p->heads + head : head * p->tokens + flat / s;
            at = flat % s;
        }
        sf[page * p->sf_stride + row * s + at] = b.sf;
    }
}

/* Runs the call and compares everything it wrote; poison was 0x7f. */
static void check(call *c)
{
    const size_t k_bytes = host_dtype_bytes(c->k.x.dtype);
    uint8_t *k_q = (uint8_t *)host_zeros(c->k_q.size), *k_sf = (uint8_t *)host_zeros(c->k_sf.size);
    uint8_t *v_q = (uint8_t *)host_zeros(c->v_q.size), *v_sf = (uint8_t *)host_zeros(c->v_sf.size);
    uint8_t *k_out = (uint8_t *)host_zeros(c->k_out.size);
    size_t skipped = 5, expected = 5;
    float x[FP4_KV_DIM_MAX];

    memset(k_q, 0x7f, c->k_q.size);
    memset(k_sf, 0x7f, c->k_sf.size);
    memset(v_q, 0x7f, c->v_q.size);
    memset(v_sf, 0x7f, c->v_sf.size);
    memset(k_out, 0x7f, c->k_out.size);
    CHECK_EQ(call_append(c, &skipped), FP4_OK, "%s", c->text);
    for (size_t token = 0; token < c->k.x.tokens; token++) {
        const int64_t position =
            c->places.positions.is_64 ? c->positions[token] : c->positions_32[token];
        const int is_turned = c->rope.rope.cos_sin != NULL && c->k.cache != NULL;
        const int is_known = !is_turned || (position >= 0 && position < POSITIONS);
        const int64_t slot = is_known ? naive_slot(c, token) : -1;
        expected += slot < 0;
        for (size_t head = 0; head < c->k.x.heads; head++) {
            if (c->k.cache != NULL && is_known) {
                naive_head(c, 1, token, head, x);
                for (size_t i = 0; i < c->k.x.dim; i++) {
                    const float r = naive_rounded(x[i], c->k.x.dtype);
                    const uint32_t bits = c->k.x.dtype == FP4_F32   ? host_bits_of(r)
                                          : c->k.x.dtype == FP4_F16 ? fp4_f32_to_f16(r)
                                                                    : fp4_f32_to_bf16(r);
                    if (c->rope.k_out.data != NULL) {
                        memcpy(k_out +
                                   (token * c->k.x.token_stride + head * c->k.x.head_stride + i) *
                                       k_bytes,
                               &bits, k_bytes);
                    }
                    x[i] = c->rope.rounded && is_turned ? r : x[i];
                }
                if (slot >= 0) {
                    naive_put(&c->k_cache.pages, c->k.global_enc, slot, head, x, k_q, k_sf);
                }
            }
            if (c->v.cache != NULL && slot >= 0) {
                naive_head(c, 0, token, head, x);
                naive_put(&c->v_cache.pages, c->v.global_enc, slot, head, x, v_q, v_sf);
            }
        }
    }
    CHECK_EQ(skipped, expected, "%s: skipped", c->text);
    host_expect_bytes(c->k_q.bytes, k_q, c->k_q.size, c->text);
    host_expect_bytes(c->k_sf.bytes, k_sf, c->k_sf.size, c->text);
    host_expect_bytes(c->v_q.bytes, v_q, c->v_q.size, c->text);
    host_expect_bytes(c->v_sf.bytes, v_sf, c->v_sf.size, c->text);
    for (size_t i = 0; i < c->k_out.size / k_bytes && c->rope.k_out.data != NULL; i++) {
        uint32_t got = 0, want = 0;
        memcpy(&got, c->k_out.bytes + i * k_bytes, k_bytes);
        memcpy(&want, k_out + i * k_bytes, k_bytes);
        if (c->k.x.dtype == FP4_F32 && isnan(host_bits(got)) && isnan(host_bits(want))) {
            continue; /* which NaN is nobody's business */
        }
        CHECK_EQ(got, want, "%s: k_out, element %zu", c->text, i);
    }
    free(k_q);
    free(k_sf);
    free(v_q);
    free(v_sf);
    free(k_out);
}

/* ---------------------------------------------------------------- bytes */

static const size_t dims[] = {64, 80, 96, 128, 192, 256, 512};
enum { DIMS = sizeof dims / sizeof(size_t) };

static size_t draw_rotary(size_t dim, uint64_t *state)
{
    return host_below(state, 2) ? dim : 2 + 2 * host_below(state, (uint32_t)(dim / 2));
}

Test(host_kv_append, to_slots)
{
    uint64_t state = 1;

    for (size_t i = 0; i < 6 * DIMS * 3; i++) {
        const size_t k_dim = dims[i % DIMS], v_dim = i % 2 ? k_dim : dims[host_below(&state, DIMS)];
        call *c = call_new((fp4_dtype)(i % 3), (fp4_kv_order)host_below(&state, 2),
                           v_dim % 64 == 0 ? (fp4_kv_sf)host_below(&state, 2) : FP4_KV_SF_LINEAR,
                           1 + host_below(&state, 40), 1 + host_below(&state, 5), k_dim, v_dim,
                           draw_rotary(k_dim, &state), &state, (host_data)(i % HOST_DATA));
        c->rope.rope.style = (fp4_rope_style)host_below(&state, 2);
        c->rope.rounded = (int)host_below(&state, 2);
        if (host_below(&state, 3) == 0) {
            c->rope.rope.cos_sin = NULL;
        }
        if (c->rope.rope.cos_sin == NULL || host_below(&state, 2)) {
            c->rope.k_out.data = NULL;
        }
        if (host_below(&state, 6) == 0) {
            c->v.cache = NULL;
        } else if (host_below(&state, 6) == 0) {
            c->k.cache = NULL;
            c->rope.k_out.data = NULL;
        }
        check(c);
        call_free(c);
    }
}

/* What no index may be: of the tokens, some have one that is good. */
static int64_t any_index(uint64_t *state, int64_t n)
{
    const int64_t values[] = {-1,           n,         n + 1,     INT64_MIN,
                              INT64_MAX,    -n,        1LL << 32, (1LL << 32) + n / 2,
                              -(1LL << 32), INT32_MAX, INT32_MIN, -(1LL << 61)};
    return host_below(state, 2) ? (int64_t)host_below(state, (uint32_t)n)
                                : values[host_below(state, 12)];
}

/* The same in 32 bits: what is out of range stays so. */
static int32_t narrow(int64_t value)
{
    return value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : (int32_t)value;
}

Test(host_kv_append, to_any_slot)
{
    uint64_t state = 2;

    for (size_t i = 0; i < 60; i++) {
        call *c = call_new((fp4_dtype)(i % 3), (fp4_kv_order)(i % 2), FP4_KV_SF_4X1, 48, 2, 64, 64,
                           32, &state, HOST_MODERATE);
        for (size_t t = 0; t < 48; t++) {
            c->slots[t] =
                any_index(&state, (int64_t)(c->k_cache.pages.pages * c->k_cache.pages.tokens));
            c->positions[t] = any_index(&state, POSITIONS);
            c->slots_32[t] = narrow(c->slots[t]);
            c->positions_32[t] = narrow(c->positions[t]);
        }
        if (i % 3 == 0) {
            c->places.slots.data = c->slots_32;
            c->places.slots.is_64 = 0;
            c->places.positions.data = c->positions_32;
            c->places.positions.is_64 = 0;
        }
        if (i % 5 == 0) {
            c->rope.rope.cos_sin = NULL;
            c->rope.k_out.data = NULL;
        }
        check(c);
        call_free(c);
    }
}

Test(host_kv_append, by_pages)
{
    uint64_t state = 3;

    for (size_t i = 0; i < 120; i++) {
        call *c = call_new((fp4_dtype)(i % 3), (fp4_kv_order)(i / 3 % 2), FP4_KV_SF_LINEAR, 60, 2,
                           64, 80, 64, &state, HOST_MODERATE);
        const int64_t pages = (int64_t)c->k_cache.pages.pages;
        c->places.slots.data = NULL;
        c->places.batch_indices = c->batch_indices;
        c->places.batches = SEQUENCES;
        c->places.max_pages = i % 2 ? 5 : 20;
        c->places.table_stride = i % 2 ? 5 + i % 3 : 1;
        for (size_t t = 0; t < TABLE; t++) {
            c->table[t] =
                i % 4 < 2 && host_below(&state, 4) ? (int64_t)t % pages : any_index(&state, pages);
            c->table_32[t] = narrow(c->table[t]);
        }
        for (size_t t = 0; t < 60; t++) {
            c->positions[t] = host_below(&state, 4) ? (int64_t)host_below(&state, POSITIONS)
                                                    : any_index(&state, POSITIONS);
            c->positions_32[t] = narrow(c->positions[t]);
            c->batch_indices[t] = host_below(&state, 4) ? (int32_t)host_below(&state, SEQUENCES)
                                                        : narrow(any_index(&state, SEQUENCES));
        }
        for (int32_t b = 0; b <= SEQUENCES; b++) {
            c->indptr[b] =
                i % 8 < 4 || host_below(&state, 2) ? 5 * b : narrow(any_index(&state, 21));
        }
        c->places.indptr = i % 2 ? NULL : c->indptr;
        c->places.tables.is_64 = (int)host_below(&state, 2);
        c->places.tables.data =
            c->places.tables.is_64 ? (const void *)c->table : (const void *)c->table_32;
        c->places.positions.is_64 = (int)host_below(&state, 2);
        c->places.positions.data =
            c->places.positions.is_64 ? (const void *)c->positions : (const void *)c->positions_32;
        check(c);
        call_free(c);
    }
}

/* ---------------------------------------------------------------- values */

/* Decoded, K is what an exact rotation gives, to within half a step of the largest codes. */
Test(host_kv_append, decoded_it_is_near_the_exact_rotation)
{
    uint64_t state = 4;

    for (size_t i = 0; i < 12; i++) {
        call *c = call_new((fp4_dtype)(i % 3), FP4_KV_HND, FP4_KV_SF_LINEAR, 20, 3, 128, 128, 96,
                           &state, HOST_NARROW);
        const fp4_kv_pages *p = &c->k_cache.pages;
        c->rope.rope.style = (fp4_rope_style)(i / 3 % 2);
        c->rope.rounded = (int)(i / 6);
        CHECK_EQ(call_append(c, NULL), FP4_OK, "%s", c->text);
        for (size_t token = 0; token < 20; token++) {
            const size_t page = (size_t)c->slots[token] / p->tokens;
            const size_t place = (size_t)c->slots[token] % p->tokens;
            for (size_t at = 0; at < 3 * 128; at++) {
                const size_t head = at / 128, e = at % 128, pair = i / 3 % 2 ? e / 2 : e % 48;
                const fp4_matrix m =
                    fp4_matrix_of_((const uint8_t *)c->k.x.data +
                                       (token * c->k.x.token_stride + head * c->k.x.head_stride) *
                                           host_dtype_bytes(c->k.x.dtype),
                                   c->k.x.dtype, 1, 128, 128, 1.0f);
                const double angle =
                    (double)c->positions[token] * pow(100.0, -2.0 * (double)pair / 96);
                const uint8_t byte = c->k_cache.q[fp4_kv_q_offset(p, page, place, head) + e / 2];
                const double sf = (double)host_e4m3(
                    c->k_cache.sf[fp4_kv_sf_offset(p, page, place, head, e / 16)]);
                const double step = sf / (double)c->k.global_enc;
                const double got = (double)host_e2m1(byte >> (e % 2 * 4) & 15) * step;
                const int is_y = i / 3 % 2 ? e % 2 == 1 : e >= 48;
                const size_t partner = i / 3 % 2 ? e ^ 1 : is_y ? e - 48 : e + 48;
                double exact = (double)host_element(&m, 0, e);
                if (e < 96) {
                    const double other = (double)host_element(&m, 0, partner);
                    exact = exact * cos(angle) + (is_y ? other : -other) * sin(angle);
                }
                /* where the scale byte is not a normal e4m3 it may be far from amax / 6 */
                CHECK(sf < 0x1p-6 || sf == 448 ||
                          fabs(got - exact) <=
                              1.0001 * step + 1e-5 + (c->rope.rounded ? 0x1p-8 * fabs(exact) : 0),
                      "%s: token %zu, element %zu: %g, not %g, step %g", c->text, token, at, got,
                      exact, step);
            }
        }
        call_free(c);
    }
}

/* RoPE alone, rounded, and what comes out appended without it. */
Test(host_kv_append, rounded_is_one_function_after_the_other)
{
    uint64_t state = 5;

    for (size_t i = 0; i < 24; i++) {
        const host_data data = (host_data)(i % HOST_DATA);
        call *c = call_new((fp4_dtype)(i % 3), FP4_KV_NHD, FP4_KV_SF_LINEAR, 17, 3, 96, 64,
                           i % 2 ? 96 : 38, &state, data);
        host_buffer turned, q, sf;
        fp4_kv_cache cache = c->k_cache;
        fp4_kv_new k;
        const fp4_kv_new none = {c->v.x, NULL, 1.0f};
        fp4_heads y = c->k.x;
        size_t skipped = 0;
        c->rope.rope.style = (fp4_rope_style)(i / 2 % 2);
        c->rope.rounded = 1;
        c->positions[3] = -1;
        c->positions[9] = POSITIONS;
        CHECK_EQ(call_append(c, &skipped), FP4_OK, "%s", c->text);
        CHECK_EQ(skipped, 2, "%s", c->text);

        turned = host_buffer_new(c->k_out.size, 1);
        y.data = turned.bytes;
        CHECK_EQ(fp4_ref_rope(c->k.x, c->places.positions, c->rope.rope, y, turned.size, NULL),
                 FP4_OK, "%s", c->text);
        host_expect_bytes(c->k_out.bytes, turned.bytes, turned.size, c->text);
        c->slots[3] = c->slots[9] = -1;
        cache_new(&cache, &q, &sf);
        k = c->k;
        k.x = y;
        k.cache = &cache;
        CHECK_EQ(fp4_ref_kv_append(&k, &none, &c->places, NULL, &skipped), FP4_OK, "%s", c->text);
        CHECK_EQ(skipped, 4, "%s", c->text);
        host_expect_bytes(c->k_q.bytes, q.bytes, q.size, c->text);
        host_expect_bytes(c->k_sf.bytes, sf.bytes, sf.size, c->text);
        host_buffer_free(turned, c->text);
        host_buffer_free(q, c->text);
        host_buffer_free(sf, c->text);
        call_free(c);
    }
}

Test(host_kv_append, of_two_with_one_place_the_later_stays)
{
    uint64_t state = 6;
    call *c =
        call_new(FP4_F32, FP4_KV_NHD, FP4_KV_SF_LINEAR, 12, 2, 64, 64, 64, &state, HOST_NARROW);

    for (size_t t = 0; t < 12; t++) {
        c->slots[t] = (int64_t)(t % 3);
    }
    check(c);
    call_free(c);
}

/* ---------------------------------------------------------------- what is refused */

#define REFUSED(what, expected, change) \
    do { \
        call *c = call_new(FP4_BF16, FP4_KV_NHD, FP4_KV_SF_LINEAR, 6, 2, 64, 64, 64, &state, \
                           HOST_NARROW); \
        size_t skipped = 3; \
        change; \
        CHECK_EQ(call_append(c, &skipped), expected, what); \
        CHECK_EQ(skipped, 3, what); \
        expect_untouched(c, what); \
        call_free(c); \
    } while (0)

static void expect_buffers_untouched(const call *c, size_t buffers, const char *what)
{
    const host_buffer all[] = {c->k_q, c->k_sf, c->v_q, c->v_sf, c->k_out};

    for (size_t b = 0; b < buffers; b++) {
        for (size_t i = 0; i < all[b].size; i++) {
            CHECK_EQ(all[b].bytes[i], 0x7f, "%s: byte %zu of buffer %zu", what, i, b);
        }
    }
}

static void expect_untouched(const call *c, const char *what)
{
    expect_buffers_untouched(c, 5, what);
}

static void expect_caches_untouched(const call *c, const char *what)
{
    expect_buffers_untouched(c, 4, what);
}

static void by_table(call *c)
{
    c->places.slots.data = NULL;
    c->places.batch_indices = c->batch_indices;
    c->places.tables.data = c->table;
    c->places.tables.is_64 = 1;
    c->places.batches = 2;
    c->places.max_pages = c->places.table_stride = 3;
}

Test(host_kv_append, what_is_bad_is_refused_and_nothing_is_written)
{
    uint64_t state = 7;

    REFUSED("neither", FP4_NULL, c->k.cache = c->v.cache = NULL; c->rope.k_out.data = NULL);
    REFUSED("no codes", FP4_NULL, c->k_cache.q = NULL);
    REFUSED("no scale bytes", FP4_NULL, c->v_cache.sf = NULL);
    REFUSED("no K", FP4_NULL, c->k.x.data = NULL);
    REFUSED("no V", FP4_NULL, c->v.x.data = NULL);
    REFUSED("small codes", FP4_SMALL_BUFFER, c->v_cache.q_bytes -= 1);
    REFUSED("small scale bytes", FP4_SMALL_BUFFER, c->k_cache.sf_bytes -= 1);
    REFUSED("no order", FP4_BAD_TYPE, c->k_cache.pages.order = (fp4_kv_order)2);
    REFUSED("a bad geometry", FP4_BAD_SHAPE, c->k_cache.pages.q_stride -= 6);
    REFUSED("e4m3", FP4_BAD_TYPE, c->k.x.dtype = FP4_E4M3);
    REFUSED("heads that overlap", FP4_BAD_STRIDE, c->v.x.head_stride = 63);
    REFUSED("tokens that overlap", FP4_BAD_STRIDE, c->k.x.token_stride = 63);
    REFUSED("other heads", FP4_BAD_SHAPE, c->k.x.heads = 1);
    REFUSED("other heads of V", FP4_BAD_SHAPE, c->v.x.heads = 1);
    REFUSED("another dim", FP4_BAD_SHAPE, c->v.x.dim = 48);
    REFUSED("other tokens", FP4_BAD_SHAPE, c->v.x.tokens = 5);
    REFUSED("other pages", FP4_BAD_SHAPE, c->v_cache.pages.pages -= 1);
    REFUSED("pages of other tokens", FP4_BAD_SHAPE, c->v_cache.pages.tokens -= 1);
    REFUSED("another order", FP4_BAD_SHAPE, c->v_cache.pages.order = FP4_KV_HND);
    REFUSED("no scale", FP4_BAD_SCALE, c->k.global_enc = 0.0f);
    REFUSED("an infinite scale", FP4_BAD_SCALE, c->v.global_enc = INFINITY);
    REFUSED("a scale without a reciprocal", FP4_BAD_SCALE, c->v.global_enc = 0x1p-128f);
    REFUSED("no positions for RoPE", FP4_NULL, c->places.positions.data = NULL);
    REFUSED("no style", FP4_BAD_TYPE, c->rope.rope.style = (fp4_rope_style)2);
    REFUSED("odd", FP4_BAD_SHAPE, c->rope.rope.rotary = 63);
    REFUSED("too long", FP4_BAD_SHAPE, c->rope.rope.rotary = 66);
    REFUSED("k_out without RoPE", FP4_NULL, c->rope.rope.cos_sin = NULL);
    REFUSED("k_out without K", FP4_NULL, c->k.cache = NULL);
    REFUSED("k_out of another type", FP4_BAD_TYPE, c->rope.k_out.dtype = FP4_F16);
    REFUSED("k_out of other tokens", FP4_BAD_SHAPE, c->rope.k_out.tokens = 5);
    REFUSED("k_out of other heads", FP4_BAD_SHAPE, c->rope.k_out.heads = 1);
    REFUSED("k_out of another dim", FP4_BAD_SHAPE, c->rope.k_out.dim = 48);
    REFUSED("k_out with overlap", FP4_BAD_STRIDE, c->rope.k_out.token_stride = 63);
    REFUSED("k_out of neighbouring tokens with overlap", FP4_BAD_STRIDE,
            c->rope.k_out.token_stride = c->rope.k_out.head_stride);
    REFUSED("small k_out", FP4_SMALL_BUFFER, c->rope.k_out_bytes -= 1);
    REFUSED("no table", FP4_NULL, by_table(c); c->places.tables.data = NULL);
    REFUSED("no batch indices", FP4_NULL, by_table(c); c->places.batch_indices = NULL);
    REFUSED("no positions for pages", FP4_NULL, by_table(c); c->places.positions.data = NULL;
            c->rope.rope.cos_sin = NULL; c->rope.k_out.data = NULL);
    REFUSED("rows of pages that overlap", FP4_BAD_STRIDE, by_table(c); c->places.table_stride = 2);
    REFUSED("rows of pages that wrap to 0", FP4_BAD_SHAPE, by_table(c);
            c->places.table_stride = SIZE_MAX / 2 + 1);
    REFUSED("rows of pages without end", FP4_BAD_SHAPE, by_table(c);
            c->places.table_stride = SIZE_MAX / 2);
    CHECK_EQ(fp4_ref_kv_append(NULL, NULL, NULL, NULL, NULL), FP4_NULL, "nothing");
    {
        call *c =
            call_new(FP4_BF16, FP4_KV_NHD, FP4_KV_SF_LINEAR, 6, 2, 64, 64, 64, &state, HOST_NARROW);
        size_t skipped = 0;
        CHECK_EQ(fp4_ref_kv_append(NULL, &c->v, &c->places, NULL, NULL), FP4_NULL, "no k");
        CHECK_EQ(fp4_ref_kv_append(&c->k, NULL, &c->places, NULL, NULL), FP4_NULL, "no v");
        CHECK_EQ(fp4_ref_kv_append(&c->k, &c->v, NULL, NULL, NULL), FP4_NULL, "no places");
        expect_untouched(c, "no arguments");
        c->k.cache = NULL;
        c->rope.k_out.data = NULL;
        c->places.positions.data = NULL;
        CHECK_EQ(call_append(c, &skipped), FP4_OK, "RoPE without K is not looked at");
        call_free(c);
    }
}

Test(host_kv_append, no_tokens_and_no_pages_are_fine)
{
    uint64_t state = 8;
    call *c = call_new(FP4_F16, FP4_KV_HND, FP4_KV_SF_4X1, 9, 2, 64, 64, 64, &state, HOST_NARROW);
    size_t skipped = 0;

    c->k.x.tokens = c->v.x.tokens = c->rope.k_out.tokens = 0;
    c->places.slots.data = c->places.positions.data = NULL;
    CHECK_EQ(call_append(c, &skipped), FP4_OK, "no tokens");
    CHECK_EQ(skipped, 0, "no tokens");
    expect_untouched(c, "no tokens");
    c->k.x.tokens = c->v.x.tokens = c->rope.k_out.tokens = 9;
    c->places.slots.data = c->slots;
    c->places.positions.data = c->positions;
    by_table(c);
    c->places.tables.data = NULL;
    c->places.batches = 0;
    CHECK_EQ(call_append(c, &skipped), FP4_OK, "no sequences, no table");
    CHECK_EQ(skipped, 9, "no sequences");
    c->places.batches = 2;
    c->places.max_pages = 0;
    CHECK_EQ(call_append(c, &skipped), FP4_OK, "no entries, no table");
    CHECK_EQ(skipped, 18, "no entries");
    expect_caches_untouched(c, "nowhere to go");
    c->places.slots.data = c->slots;
    c->k_cache.pages.pages = c->v_cache.pages.pages = 0;
    c->k_cache.q = c->k_cache.sf = c->v_cache.q = c->v_cache.sf = NULL;
    c->rope.k_out.data = NULL;
    CHECK_EQ(call_append(c, &skipped), FP4_OK, "no pages");
    CHECK_EQ(skipped, 27, "no pages");
    expect_caches_untouched(c, "no pages");
    call_free(c);
}

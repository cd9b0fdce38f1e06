/*
 * fp4/host/kv_cache.h against a loop over elements that goes through pages in memory order, without
 * the offsets of kv_cache.h; against the quantizer of plain matrices; what is left out of what
 * block tables say; and what is refused.
 */
#include <fp4/host/kv_cache.h>

#include "host_util.h"

/* ---------------------------------------------------------------- pages, the naive way */

/* The scale bytes of all pages from codes' own order, [token, block] for each page and head, to
   memory order, or back. */
static void place_scales(uint8_t *memory, uint8_t *tiles, const fp4_kv_pages *p, int to_memory)
{
    const size_t cols = p->dim / 16, tile = p->tokens * cols;

    for (size_t i = 0; i < p->pages * p->heads * tile; i++) {
        const size_t page = i / tile / p->heads, head = i / tile % p->heads;
        const size_t four = i % tile / (4 * cols), in = i % (4 * cols);
        const size_t from = p->sf_layout == FP4_KV_SF_4X1
                                ? (four * 4 + in % 4) * cols + in / 4 /* token, then block */
                                : i % tile;
        const size_t row = i % tile / cols; /* of the tile, as it stands in memory */
        const size_t row_of_page =
            p->order == FP4_KV_NHD ? row * p->heads + head : head * p->tokens + row;
        uint8_t *at = memory + page * p->sf_stride + row_of_page * cols + i % cols;
        uint8_t *of = tiles + (page * p->heads + head) * tile + from;
        if (to_memory) {
            *at = *of;
        } else {
            *of = *at;
        }
    }
}

/* The number of a page's row as tokens of heads, from its number in memory. */
static size_t tile_row(const fp4_kv_pages *p, size_t row)
{
    return p->order == FP4_KV_NHD ? row % p->heads * p->tokens + row / p->heads : row;
}

static uint8_t *tiles_new(const fp4_kv_pages *p)
{
    return (uint8_t *)host_zeros(p->pages * p->heads * p->tokens * (p->dim / 16));
}

/* ---------------------------------------------------------------- quantize */

typedef struct geometry {
    fp4_kv_order order;
    fp4_kv_sf sf;
    size_t pages, tokens, heads, dim;
    size_t q_gap, sf_gap, x_gap; /* between pages */
} geometry;

static const char *text_of(const geometry *g)
{
    static char text[160];

    snprintf(text, sizeof text,
             "%s, %s, %zu pages of %zu tokens, %zu heads of %zu, gaps %zu %zu %zu",
             g->order == FP4_KV_NHD ? "NHD" : "HND", g->sf == FP4_KV_SF_4X1 ? "4x1" : "linear",
             g->pages, g->tokens, g->heads, g->dim, g->q_gap, g->sf_gap, g->x_gap);
    return text;
}

static fp4_kv_pages pages_of(const geometry *g)
{
    fp4_kv_pages p = fp4_kv_pages_packed(g->order, g->sf, g->pages, g->tokens, g->heads, g->dim);
    p.q_stride += g->q_gap;
    p.sf_stride += g->sf_gap;
    return p;
}

static void check_quantize(const geometry *g, fp4_dtype dtype, host_data data, uint64_t *state)
{
    const fp4_kv_pages p = pages_of(g);
    const size_t rows = p.tokens * p.heads, cols = p.dim / 16, elements = rows * p.dim;
    const fp4_matrix shape =
        fp4_matrix_of_(NULL, dtype, p.pages, elements, elements + g->x_gap, 1.0f);
    const size_t shift = host_below(state, 3),
                 x_span = host_span(p.pages, elements, elements + g->x_gap);
    const host_buffer x = host_buffer_new(x_span * host_dtype_bytes(dtype), shift);
    const host_buffer q = host_buffer_new(fp4_kv_q_bytes(&p), shift);
    const host_buffer sf = host_buffer_new(fp4_kv_sf_bytes(&p), shift);
    uint8_t *q_image = (uint8_t *)host_zeros(q.size), *sf_image = (uint8_t *)host_zeros(sf.size);
    uint8_t *tiles = tiles_new(&p);
    const float global_enc = host_random_scale(state, -6, 9);
    fp4_kv_cache c = {p, q.bytes, q.size, sf.bytes, sf.size, -1.0f};
    fp4_matrix m = shape;

    m.data = x.bytes;
    host_fill(x.bytes, shape, state, data, 16);
    memset(q_image, 0x7f, q.size);
    memset(sf_image, 0x7f, sf.size);
    for (size_t i = 0; i < p.pages * rows * cols; i++) {
        const size_t page = i / cols / rows, row = i / cols % rows, col = i % cols;
        float v[16];
        host_block b;
        for (size_t k = 0; k < 16; k++) {
            v[k] = host_element(&m, page, row * p.dim + col * 16 + k);
        }
        b = host_block_of(HOST_NVFP4_TENSOR, v, global_enc);
        for (size_t k = 0; k < 8; k++) {
            q_image[page * p.q_stride + (row * cols + col) * 8 + k] =
                (uint8_t)(b.code[2 * k] | b.code[2 * k + 1] << 4);
        }
        tiles[(page * rows + tile_row(&p, row)) * cols + col] = b.sf;
    }
    place_scales(sf_image, tiles, &p, 1);
    CHECK_EQ(fp4_ref_kv_quantize(x.bytes, dtype, elements + g->x_gap, global_enc, &c), FP4_OK, "%s",
             text_of(g));
    host_expect_bytes(q.bytes, q_image, q.size, text_of(g));
    host_expect_bytes(sf.bytes, sf_image, sf.size, text_of(g));
    CHECK_EQ(host_bits_of(c.global_dec), host_bits_of(host_div(1.0f, global_enc)), "%s",
             text_of(g));
    host_buffer_free(x, text_of(g));
    host_buffer_free(q, text_of(g));
    host_buffer_free(sf, text_of(g));
    free(q_image);
    free(sf_image);
    free(tiles);
}

static const geometry geometries[] = {
    {FP4_KV_NHD, FP4_KV_SF_4X1, 3, 16, 4, 128, 0, 0, 0},
    {FP4_KV_HND, FP4_KV_SF_4X1, 2, 8, 3, 192, 0, 0, 0},
    {FP4_KV_NHD, FP4_KV_SF_4X1, 3, 4, 1, 64, 8, 5, 24},
    {FP4_KV_HND, FP4_KV_SF_4X1, 3, 12, 2, 512, 17, 300, 1},
    {FP4_KV_NHD, FP4_KV_SF_LINEAR, 5, 1, 3, 80, 0, 0, 0},
    {FP4_KV_HND, FP4_KV_SF_LINEAR, 2, 7, 5, 96, 3, 0, 0},
    {FP4_KV_NHD, FP4_KV_SF_LINEAR, 2, 6, 2, 256, 0, 1, 7},
    {FP4_KV_HND, FP4_KV_SF_LINEAR, 1, 16, 1, 496, 0, 0, 0},
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

Test(host_kv_cache, quantize_is_as_element_by_element)
{
    uint64_t state = 10;

    for (size_t i = 0; i < GEOMETRIES * 3 * HOST_DATA; i++) {
        check_quantize(&geometries[i / 3 / HOST_DATA], (fp4_dtype)(i % 3),
                       (host_data)(i / 3 % HOST_DATA), &state);
    }
}

/* A page of one head is a matrix: FlashInfer's nvfp4_kv_quantize and _dequantize. Its scale is in
   decode sense. */
Test(host_kv_cache, a_page_of_one_head_is_a_matrix)
{
    enum { TOKENS = 37, DIM = 144 };
    static float x[TOKENS * DIM], y[TOKENS * DIM], y_of_matrix[TOKENS * DIM];
    static uint8_t q[2][TOKENS * DIM / 2], sf[2][TOKENS * DIM / 16];
    const fp4_matrix m = fp4_matrix_f32(x, TOKENS, DIM, DIM);
    const float global_dec = 0.0123f, global_enc = fp4_nvfp4_global_enc_from_dec(global_dec);
    fp4_tensor t = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, TOKENS, DIM, q[0], sizeof q[0],
                                   sf[0], sizeof sf[0]);
    const int32_t table = 0, length = TOKENS;
    const fp4_kv_batch b = {{&table, 0}, 1, 1, &length, 1, TOKENS};
    const fp4_kv_strides strides = {0, DIM, 0};
    uint64_t state = 11;

    host_fill((uint8_t *)x, m, &state, HOST_SPECIAL, 16);
    CHECK_EQ(fp4_ref_nvfp4_quantize(m, global_enc, &t), FP4_OK, "matrix");
    t.global_dec = global_dec;
    CHECK_EQ(fp4_ref_dequantize(&t, y_of_matrix, sizeof y, DIM), FP4_OK, "matrix");
    for (int order = 0; order < 2; order++) {
        fp4_kv_cache c = {
            fp4_kv_pages_packed((fp4_kv_order)order, FP4_KV_SF_LINEAR, 1, TOKENS, 1, DIM),
            q[1],
            sizeof q[1],
            sf[1],
            sizeof sf[1],
            0.0f};
        memset(q[1], 0x7f, sizeof q[1]);
        memset(sf[1], 0x7f, sizeof sf[1]);
        CHECK_EQ(fp4_ref_kv_quantize(x, FP4_F32, TOKENS * DIM, global_enc, &c), FP4_OK, "pages");
        host_expect_bytes(q[1], q[0], sizeof q[0], "codes");
        host_expect_bytes(sf[1], sf[0], sizeof sf[0], "scales");
        c.global_dec = global_dec;
        CHECK_EQ(fp4_ref_kv_dequantize(&c, &b, FP4_F32, y, sizeof y, strides, NULL), FP4_OK,
                 "back");
        host_expect_bytes((uint8_t *)y, (uint8_t *)y_of_matrix, sizeof y, "back");
    }
}

/* ---------------------------------------------------------------- dequantize */

enum { BATCHES = 4, MAX_PAGES = 5 };

/* What a batch says, and the numbers of what is wrong in it. */
typedef struct batch {
    int32_t tables[BATCHES * (MAX_PAGES + 2)];
    int64_t tables_64[BATCHES * (MAX_PAGES + 2)];
    int32_t lens[BATCHES];
    size_t skipped;
} batch;

static fp4_kv_batch batch_of(batch *b, const fp4_kv_pages *p, size_t max_tokens, int is_64,
                             uint64_t *state)
{
    const fp4_kv_batch out = {{is_64 ? (const void *)b->tables_64 : b->tables, is_64},
                              MAX_PAGES + 2,
                              MAX_PAGES,
                              b->lens,
                              BATCHES,
                              max_tokens};
    static const int32_t bad[] = {-1, INT32_MIN, INT32_MAX, 0};
    static const int64_t bad_64[] = {-1, INT64_MIN, INT64_MAX, (int64_t)1 << 32};

    b->skipped = 0;
    for (size_t i = 0; i < BATCHES * (MAX_PAGES + 2); i++) {
        b->tables[i] = (int32_t)host_below(state, (uint32_t)p->pages);
        b->tables_64[i] = b->tables[i];
        if (host_below(state, 5) == 0) { /* none: negative, or not that many */
            const uint32_t which = host_below(state, 4);
            b->tables[i] = which == 3 ? (int32_t)p->pages : bad[which];
            b->tables_64[i] = which == 3 ? (int64_t)p->pages : bad_64[host_below(state, 4)];
        }
    }
    for (size_t i = 0; i < BATCHES; i++) {
        const int32_t most = (int32_t)max_tokens;
        b->lens[i] = i == 0 ? most : (int32_t)host_below(state, (uint32_t)most + 1);
        if (host_below(state, 4) == 0) {
            const uint32_t which = host_below(state, 4);
            b->lens[i] = which == 0   ? -1
                         : which == 1 ? INT32_MIN
                         : which == 2 ? most + 1
                                      : INT32_MAX;
            b->skipped++;
        }
    }
    return out;
}

static void check_dequantize(const geometry *g, fp4_dtype dtype, size_t max_tokens, int is_64,
                             uint64_t *state)
{
    const fp4_kv_pages p = pages_of(g);
    const size_t size = host_dtype_bytes(dtype), shift = host_below(state, 3), cols = p.dim / 16;
    const size_t head = p.dim + host_below(state, 2) * 5;
    const size_t token = p.heads * head + host_below(state, 2) * 3;
    const fp4_kv_strides strides =
        host_below(state, 2)
            ? (fp4_kv_strides){max_tokens * token, token, head}
            : (fp4_kv_strides){p.heads * max_tokens * head, head, max_tokens * head};
    const size_t span = fp4_kv_span(BATCHES, max_tokens, p.heads, p.dim, strides);
    const host_buffer q = host_buffer_new(fp4_kv_q_bytes(&p), shift);
    const host_buffer sf = host_buffer_new(fp4_kv_sf_bytes(&p), shift);
    const host_buffer y = host_buffer_new(span * size, shift);
    uint8_t *image = (uint8_t *)host_zeros(y.size), *tiles = tiles_new(&p);
    const float dec = host_random_scale(state, -10, 4);
    const fp4_kv_cache c = {p, q.bytes, q.size, sf.bytes, sf.size, dec};
    batch b;
    const fp4_kv_batch of = batch_of(&b, &p, max_tokens, is_64, state);
    size_t skipped = 1000;

    for (size_t i = 0; i < q.size; i++) {
        q.bytes[i] = (uint8_t)host_random(state);
    }
    for (size_t i = 0; i < sf.size; i++) { /* all but the NaNs, which have many bits */
        sf.bytes[i] = (uint8_t)host_random(state);
        sf.bytes[i] = (uint8_t)(sf.bytes[i] % 128 == 127 ? 3 : sf.bytes[i]);
    }
    place_scales(sf.bytes, tiles, &p, 0);
    memset(image, 0x7f, y.size);
    for (size_t i = 0; i < BATCHES * max_tokens * p.heads * p.dim; i++) {
        const size_t k = i % p.dim, h = i / p.dim % p.heads, t = i / p.dim / p.heads % max_tokens;
        const size_t s = i / p.dim / p.heads / max_tokens, in = t % p.tokens;
        const size_t entry = s * (MAX_PAGES + 2) + t / p.tokens;
        const long long page = is_64 ? b.tables_64[entry] : b.tables[entry];
        const int is_there = page >= 0 && page < (long long)p.pages;
        size_t row, place;
        uint8_t code;
        float x;
        uint16_t half;
        if ((long long)t >= b.lens[s] || !is_there) {
            b.skipped += (long long)t < b.lens[s] && k == 0 && h == 0 && in == 0;
            continue;
        }
        row = p.order == FP4_KV_NHD ? in * p.heads + h : h * p.tokens + in;
        code = q.bytes[(size_t)page * p.q_stride + (row * p.dim + k) / 2] >> 4 * (k % 2) & 15;
        x = host_mul(
            host_mul(
                host_e2m1(code),
                host_e4m3(tiles[(((size_t)page * p.heads + h) * p.tokens + in) * cols + k / 16])),
            dec);
        half = dtype == FP4_F16 ? fp4_f32_to_f16(x) : fp4_f32_to_bf16(x);
        place = (s * strides.batch + t * strides.token + h * strides.head + k) * size;
        memcpy(image + place, dtype == FP4_F32 ? (void *)&x : (void *)&half, size);
    }
    CHECK_EQ(fp4_ref_kv_dequantize(&c, &of, dtype, y.bytes, y.size, strides, &skipped), FP4_OK,
             "%s", text_of(g));
    CHECK_EQ(skipped, 1000 + b.skipped, "%s: skipped", text_of(g));
    host_expect_bytes(y.bytes, image, y.size, text_of(g));
    host_buffer_free(q, text_of(g));
    host_buffer_free(sf, text_of(g));
    host_buffer_free(y, text_of(g));
    free(image);
    free(tiles);
}

Test(host_kv_cache, dequantize_is_as_element_by_element)
{
    uint64_t state = 12;

    for (size_t i = 0; i < GEOMETRIES * 3 * 4; i++) {
        const geometry *g = &geometries[i / 12];
        const size_t most = MAX_PAGES * g->tokens;
        check_dequantize(g, (fp4_dtype)(i % 3),
                         i / 3 % 2 ? most : 1 + host_below(&state, (uint32_t)most),
                         (int)(i / 6 % 2), &state);
    }
}

/* What is quantized comes back near to what it was: K and V of FlashInfer's defaults. */
Test(host_kv_cache, there_and_back)
{
    enum { TOKENS = 16, HEADS = 2, DIM = 128, ALL = TOKENS * HEADS * DIM };
    static float x[ALL], y[ALL];
    static uint8_t q[ALL / 2], sf[ALL / 16];
    const fp4_matrix m = fp4_matrix_f32(x, TOKENS * HEADS, DIM, DIM);
    const int32_t table = 0, length = TOKENS;
    const fp4_kv_batch b = {{&table, 0}, 1, 1, &length, 1, TOKENS};
    uint64_t state = 13;
    float amax;

    host_fill((uint8_t *)x, m, &state, HOST_NARROW, 16);
    CHECK_EQ(fp4_ref_amax(m, &amax), FP4_OK, "amax");
    for (int i = 0; i < 2; i++) {
        fp4_kv_cache c = {fp4_kv_pages_packed(FP4_KV_NHD, (fp4_kv_sf)i, 1, TOKENS, HEADS, DIM),
                          q,
                          sizeof q,
                          sf,
                          sizeof sf,
                          0.0f};
        const fp4_kv_strides strides = {ALL, HEADS * DIM, DIM};
        double noise = 0, signal = 0;
        uint8_t most = 0;
        CHECK_EQ(fp4_ref_kv_quantize(x, FP4_F32, ALL, fp4_kv_global_enc(amax), &c), FP4_OK,
                 "there");
        CHECK_EQ(fp4_ref_kv_dequantize(&c, &b, FP4_F32, y, sizeof y, strides, NULL), FP4_OK,
                 "back");
        for (size_t k = 0; k < ALL; k++) {
            noise += (double)(x[k] - y[k]) * (double)(x[k] - y[k]);
            signal += (double)x[k] * (double)x[k];
        }
        CHECK(noise < 0.03 * signal, "%g of %g", noise, signal);
        for (size_t k = 0; k < sizeof sf; k++) {
            most = sf[k] > most ? sf[k] : most;
        }
        CHECK_EQ(most, fp4_f32_to_e4m3(448.0f / 6.0f), "the largest scale byte");
    }
}

/* ---------------------------------------------------------------- what is refused */

enum { TOKENS = 8, HEADS = 2, DIM = 64, PAGES = 3, PAGE = TOKENS * HEADS * DIM };

/* A good call of each. */
typedef struct world {
    float x[PAGES * PAGE], y[PAGES * PAGE];
    uint8_t q[PAGES * PAGE / 2], sf[PAGES * PAGE / 16];
    int32_t tables[PAGES], lens[1];
    const void *from;
    void *to;
    size_t x_stride, y_bytes, skipped;
    fp4_dtype dtype;
    float global_enc;
    fp4_kv_cache c;
    fp4_kv_batch b;
    fp4_kv_strides strides;
} world;

static void world_reset(world *w)
{
    memset(w, 0x7f, sizeof *w);
    memset(w->x, 0, sizeof w->x);
    for (int i = 0; i < PAGES; i++) {
        w->tables[i] = i;
    }
    w->lens[0] = PAGES * TOKENS;
    w->from = w->x;
    w->to = w->y;
    w->x_stride = PAGE;
    w->y_bytes = sizeof w->y;
    w->skipped = 0;
    w->dtype = FP4_F32;
    w->global_enc = 1.0f;
    w->c = (fp4_kv_cache){fp4_kv_pages_packed(FP4_KV_NHD, FP4_KV_SF_4X1, PAGES, TOKENS, HEADS, DIM),
                          w->q,
                          sizeof w->q,
                          w->sf,
                          sizeof w->sf,
                          1.0f};
    w->b = (fp4_kv_batch){{w->tables, 0}, PAGES, PAGES, w->lens, 1, PAGES * TOKENS};
    w->strides = (fp4_kv_strides){PAGES * PAGE, HEADS * DIM, DIM};
}

static fp4_status world_quantize(world *w)
{
    return fp4_ref_kv_quantize(w->from, w->dtype, w->x_stride, w->global_enc, &w->c);
}

static fp4_status world_dequantize(world *w)
{
    return fp4_ref_kv_dequantize(&w->c, &w->b, w->dtype, w->to, w->y_bytes, w->strides,
                                 &w->skipped);
}

/* Refused with this status, and nothing written. */
static void refuses(world *w, fp4_status (*call)(world *), fp4_status status, const char *what)
{
    const float dec = w->c.global_dec;

    CHECK_EQ(call(w), status, "%s", what);
    CHECK_EQ(host_bits_of(w->c.global_dec), host_bits_of(dec), "%s: global_dec", what);
    CHECK_EQ(w->skipped, 0, "%s: skipped", what);
    for (size_t i = 0; i < sizeof w->q; i++) {
        CHECK_EQ(w->q[i], 0x7f, "%s: q", what);
    }
    for (size_t i = 0; i < sizeof w->sf; i++) {
        CHECK_EQ(w->sf[i], 0x7f, "%s: sf", what);
    }
    for (size_t i = 0; i < PAGES * PAGE; i++) {
        CHECK_EQ(host_bits_of(w->y[i]), 0x7f7f7f7fu, "%s: y", what);
    }
    world_reset(w);
}

#define REFUSES(call, status, what, change) \
    do { \
        change; \
        refuses(w, call, status, what); \
    } while (0)

/* What both refuse of a cache. */
static void refuses_caches(world *w, fp4_status (*call)(world *))
{
    REFUSES(call, FP4_NULL, "no q", w->c.q = NULL);
    REFUSES(call, FP4_NULL, "no sf", w->c.sf = NULL);
    REFUSES(call, FP4_SMALL_BUFFER, "q", w->c.q_bytes--);
    REFUSES(call, FP4_SMALL_BUFFER, "sf", w->c.sf_bytes--);
    REFUSES(call, FP4_SMALL_BUFFER, "a gap", w->c.pages.q_stride++);
    REFUSES(call, FP4_BAD_TYPE, "an order", w->c.pages.order = (fp4_kv_order)2);
    REFUSES(call, FP4_BAD_TYPE, "a layout", w->c.pages.sf_layout = (fp4_kv_sf)2);
    REFUSES(call, FP4_BAD_SHAPE, "half a block", w->c.pages.dim = 72);
    REFUSES(call, FP4_BAD_SHAPE, "no tokens", w->c.pages.tokens = 0);
    REFUSES(call, FP4_BAD_SHAPE, "no whole fours", w->c.pages.tokens = 6);
    REFUSES(call, FP4_BAD_SHAPE, "pages on top of each other", w->c.pages.sf_stride--);
    REFUSES(call, FP4_BAD_TYPE, "e4m3", w->dtype = FP4_E4M3);
    REFUSES(call, FP4_BAD_TYPE, "an unknown type", w->dtype = (fp4_dtype)4);
}

Test(host_kv_cache, what_quantize_refuses)
{
    static const float bad[] = {0.0f, -1.0f, -0.0f, INFINITY, NAN, 0x1p-128f};
    world *w = (world *)host_zeros(sizeof *w);

    world_reset(w);
    CHECK_EQ(fp4_ref_kv_quantize(w->x, FP4_F32, PAGE, 1.0f, NULL), FP4_NULL, "no cache");
    refuses_caches(w, world_quantize);
    REFUSES(world_quantize, FP4_NULL, "no x", w->from = NULL);
    REFUSES(world_quantize, FP4_BAD_STRIDE, "a stride", w->x_stride--);
    REFUSES(world_quantize, FP4_BAD_SHAPE, "sizes that overflow", w->x_stride = SIZE_MAX / 4);
    REFUSES(world_quantize, FP4_BAD_SHAPE, "pages that wrap to 2", w->x_stride = SIZE_MAX / 3 + 1);
    for (size_t i = 0; i < sizeof bad / sizeof(float); i++) {
        REFUSES(world_quantize, FP4_BAD_SCALE, "a scale", w->global_enc = bad[i]);
    }
    CHECK_EQ(world_quantize(w), FP4_OK, "as it is");
    w->c.pages.pages = 0;
    w->c.q = w->c.sf = NULL;
    w->from = NULL;
    w->c.global_dec = 5.0f;
    CHECK_EQ(world_quantize(w), FP4_OK, "no pages");
    CHECK_EQ(host_bits_of(w->c.global_dec), host_bits_of(5.0f), "no pages: global_dec");
    free(w);
}

Test(host_kv_cache, what_dequantize_refuses)
{
    static const float bad[] = {-1.0f, -0.0f, INFINITY, NAN};
    world *w = (world *)host_zeros(sizeof *w);

    world_reset(w);
    CHECK_EQ(fp4_ref_kv_dequantize(NULL, &w->b, FP4_F32, w->y, sizeof w->y, w->strides, NULL),
             FP4_NULL, "no cache");
    CHECK_EQ(fp4_ref_kv_dequantize(&w->c, NULL, FP4_F32, w->y, sizeof w->y, w->strides, NULL),
             FP4_NULL, "no batch");
    refuses_caches(w, world_dequantize);
    REFUSES(world_dequantize, FP4_NULL, "no y", w->to = NULL);
    REFUSES(world_dequantize, FP4_NULL, "no tables", w->b.tables.data = NULL);
    REFUSES(world_dequantize, FP4_NULL, "no lengths", w->b.seq_lens = NULL);
    REFUSES(world_dequantize, FP4_SMALL_BUFFER, "y", w->y_bytes--);
    REFUSES(world_dequantize, FP4_BAD_SHAPE, "a narrow table", w->b.max_pages--);
    REFUSES(world_dequantize, FP4_BAD_SHAPE, "one token more", w->b.max_tokens++);
    REFUSES(world_dequantize, FP4_BAD_SHAPE, "tables that overflow",
            w->b.table_stride = SIZE_MAX / 4);
    REFUSES(world_dequantize, FP4_BAD_STRIDE, "rows of tables", w->b.table_stride--);
    REFUSES(world_dequantize, FP4_BAD_SHAPE, "tables that wrap to 0", w->b.batches = 2;
            w->b.table_stride = SIZE_MAX / 2 + 1);
    REFUSES(world_dequantize, FP4_BAD_STRIDE, "heads on top of each other", w->strides.head--);
    REFUSES(world_dequantize, FP4_BAD_STRIDE, "tokens on top of each other", w->strides.token--);
    for (size_t i = 0; i < sizeof bad / sizeof(float); i++) {
        REFUSES(world_dequantize, FP4_BAD_SCALE, "a scale", w->c.global_dec = bad[i]);
    }
    REFUSES(world_dequantize, FP4_OK, "no sequences", w->b.batches = 0; w->to = NULL;
            w->b.tables.data = NULL);
    CHECK_EQ(fp4_ref_kv_dequantize(NULL, &(const fp4_kv_batch){{NULL, 0}, 0, 0, NULL, 0, 0},
                                   FP4_F32, NULL, 0, w->strides, NULL),
             FP4_OK, "no cache, no sequences");
    REFUSES(world_dequantize, FP4_OK, "no sequences of many tokens", w->b.batches = 0;
            w->b.max_tokens++);
    REFUSES(world_dequantize, FP4_OK, "no sequences, a bad cache", w->b.batches = 0;
            w->c.pages.tokens = 0);
    REFUSES(world_dequantize, FP4_OK, "no tokens, no row", w->b.max_tokens = 0;
            w->b.table_stride = 0);
    REFUSES(world_dequantize, FP4_OK, "no tokens", w->b.max_tokens = 0; w->to = NULL;
            w->b.seq_lens = NULL);
    w->c.pages.pages = 0;
    w->c.q = w->c.sf = NULL;
    CHECK_EQ(world_dequantize(w), FP4_OK, "no pages");
    CHECK_EQ(w->skipped, PAGES, "no pages: none of the table's");
    free(w);
}

/*
 * tests/gpu/test_kv_cache.c - the launchers of 12_kv_cache.cu against the host reference: K and V
 * of any two geometries in one launch, or one of them alone; all bytes of codes, scales and
 * elements, those between pages and rows too; scales of every sense, from the host and from the
 * device; tables and lengths that are out of range; what is refused; and between other kernels.
 */
#include <fp4/host/kv_cache.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The word of the example as a value, and fp4_kv_sense. */
enum { KV_f32 = FP4_F32, KV_f16 = FP4_F16, KV_bf16 = FP4_BF16 };
enum { ENC = FP4_KV_ENC, DEC = FP4_KV_DEC, AMAX = FP4_KV_AMAX, SENSES };

typedef struct kv_unit {
    launch_kv_function quantize, dequantize;
    fp4_dtype dtype;
    const char *name;
} kv_unit;

#define KV_UNIT_(input) \
    {LAUNCH_KV_QUANTIZE(input), LAUNCH_KV_DEQUANTIZE(input), (fp4_dtype)KV_##input, #input},
static const kv_unit kv_units[] = {LAUNCH_KV_EACH(KV_UNIT_)};
enum { KV_UNITS = sizeof kv_units / sizeof kv_units[0] };

/* ---------------------------------------------------------------- cases */

/* K or V; pages.dim = 0: there is none. */
typedef struct kv_side {
    fp4_kv_pages pages;
    size_t x_gap; /* elements between pages */
    fp4_kv_strides y;
    int sense, is_device, wants_dec;
    float scale;
} kv_side;

enum { MAX_BATCHES = 5, MAX_ENTRIES = 40 };

typedef struct kv_case {
    const kv_unit *unit;
    kv_side of[2];
    int pdl;
    /* on the way back */
    size_t batches, max_pages, max_tokens;
    int tables_are_64, counts;
} kv_case;

static const char *kv_text(const kv_case *c)
{
    static char text[512];
    size_t n =
        (size_t)snprintf(text, sizeof text, "%s, pdl %d, %zu sequences of %zu pages, %zu tokens",
                         c->unit->name, c->pdl, c->batches, c->max_pages, c->max_tokens);

    for (size_t i = 0; i < 2; i++) {
        const kv_side *s = &c->of[i];
        const fp4_kv_pages *p = &s->pages;
        n +=
            (size_t)snprintf(text + n, sizeof text - n,
                             "; %s, %s, %zu pages of %zu, %zu heads of %zu, strides %zu %zu, x gap "
                             "%zu, y %zu %zu %zu, scale %d %d %a",
                             p->order == FP4_KV_NHD ? "NHD" : "HND",
                             p->sf_layout == FP4_KV_SF_4X1 ? "4x1" : "linear", p->pages, p->tokens,
                             p->heads, p->dim, p->q_stride, p->sf_stride, s->x_gap, s->y.batch,
                             s->y.token, s->y.head, s->sense, s->is_device, (double)s->scale);
    }
    return text;
}

static size_t kv_size(const kv_case *c)
{
    return host_dtype_bytes(c->unit->dtype);
}

static size_t page_elements(const fp4_kv_pages *p)
{
    return p->tokens * p->heads * p->dim;
}

static size_t x_bytes(const kv_case *c, const kv_side *s)
{
    const size_t n = page_elements(&s->pages);
    return host_span(s->pages.pages, n, n + s->x_gap) * kv_size(c);
}

static size_t y_bytes(const kv_case *c, const kv_side *s)
{
    return fp4_kv_span(c->batches, c->max_tokens, s->pages.heads, s->pages.dim, s->y) * kv_size(c);
}

static float enc_of(const kv_side *s)
{
    return fp4_kv_enc_of(s->scale, (fp4_kv_sense)s->sense);
}

static float dec_of(const kv_side *s)
{
    return fp4_kv_dec_of(s->scale, (fp4_kv_sense)s->sense);
}

/* An output without gaps: tokens of heads, or heads of tokens. */
static fp4_kv_strides packed_y(const fp4_kv_pages *p, size_t max_tokens, int heads_first)
{
    const fp4_kv_strides tokens = {max_tokens * p->heads * p->dim, p->heads * p->dim, p->dim};
    const fp4_kv_strides heads = {max_tokens * p->heads * p->dim, p->dim, max_tokens * p->dim};
    return heads_first ? heads : tokens;
}

/* A side of ordinary kind, for the caller to change. */
static kv_side side_of(fp4_kv_order order, fp4_kv_sf sf, size_t pages, size_t tokens, size_t heads,
                       size_t dim)
{
    kv_side s;

    memset(&s, 0, sizeof s);
    s.pages = fp4_kv_pages_packed(order, sf, pages, tokens, heads, dim);
    s.scale = 3.0f;
    return s;
}

/* K linear and V 4x1, each sequence with pages of its own. */
static kv_case case_of(const kv_unit *unit, fp4_kv_order order, size_t batches, size_t max_pages,
                       size_t tokens, size_t heads, size_t dim)
{
    kv_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.batches = batches;
    c.max_pages = max_pages;
    c.max_tokens = max_pages * tokens;
    c.counts = 1;
    for (size_t i = 0; i < 2; i++) {
        c.of[i] = side_of(order, (fp4_kv_sf)i, batches * max_pages, tokens, heads, dim);
        c.of[i].y = packed_y(&c.of[i].pages, c.max_tokens, 0);
    }
    return c;
}

/* ---------------------------------------------------------------- buffers */

/* What is on the device, and the host's copies of the inputs. */
typedef struct kv_device {
    gpu_buffer x[2], q[2], sf[2], y[2], scale[2], dec[2];
    gpu_buffer tables, lens, skipped;
    launch_kv_args args;
} kv_device;

/* Host memory with everything that a call reads. */
typedef struct kv_input {
    uint8_t *x[2], *q[2], *sf[2];
    int32_t tables[MAX_BATCHES * MAX_ENTRIES], lens[MAX_BATCHES];
    int64_t tables_64[MAX_BATCHES * MAX_ENTRIES];
    size_t table_stride;
} kv_input;

static const void *tables_of(const kv_case *c, const kv_input *in)
{
    return c->tables_are_64 ? (const void *)in->tables_64 : in->tables;
}

static size_t tables_bytes(const kv_case *c, const kv_input *in)
{
    return c->batches == 0
               ? 0
               : ((c->batches - 1) * in->table_stride + c->max_pages) * (c->tables_are_64 ? 8 : 4);
}

static uint8_t *random_bytes(size_t n, uint64_t *state)
{
    uint8_t *p = (uint8_t *)host_zeros(n);

    for (size_t i = 0; i < n; i++) {
        p[i] = (uint8_t)host_random(state);
    }
    return p;
}

/* Elements, codes and scale bytes of all kinds; tables and lengths of which some are not. */
static kv_input *input_new(const kv_case *c, uint64_t *state)
{
    static const int32_t bad[] = {-1, INT32_MIN, INT32_MAX};
    static const int64_t bad_64[] = {-1, INT64_MIN, INT64_MAX, (int64_t)1 << 32};
    kv_input *in = (kv_input *)host_zeros(sizeof *in);

    for (size_t i = 0; i < 2; i++) {
        const kv_side *s = &c->of[i];
        const size_t n = page_elements(&s->pages);
        const fp4_matrix m =
            fp4_matrix_of_(NULL, c->unit->dtype, s->pages.pages, n, n + s->x_gap, 1.0f);
        if (s->pages.dim == 0) {
            continue;
        }
        in->x[i] = (uint8_t *)host_zeros(x_bytes(c, s));
        host_fill(in->x[i], m, state, (host_data)host_below(state, HOST_DATA), 16);
        in->q[i] = random_bytes(fp4_kv_q_bytes(&s->pages), state);
        in->sf[i] = random_bytes(fp4_kv_sf_bytes(&s->pages), state);
    }
    in->table_stride = c->max_pages + host_below(state, 3);
    cr_assert(c->batches <= MAX_BATCHES && in->table_stride <= MAX_ENTRIES);
    for (size_t i = 0; i < MAX_BATCHES * MAX_ENTRIES; i++) {
        const size_t pages = c->of[c->of[0].pages.dim == 0].pages.pages;
        in->tables_64[i] = in->tables[i] = (int32_t)host_below(state, (uint32_t)pages);
        if (pages == 0 || host_below(state, 8) == 0) {
            const uint32_t which = host_below(state, 4);
            in->tables[i] = which == 3 ? (int32_t)pages : bad[which];
            in->tables_64[i] = host_below(state, 2) ? (int64_t)pages : bad_64[which];
        }
    }
    for (size_t i = 0; i < MAX_BATCHES; i++) {
        const uint32_t which = host_below(state, 12), most = (uint32_t)c->max_tokens;
        in->lens[i] = which < 4    ? (int32_t)most
                      : which == 4 ? -1
                      : which == 5 ? INT32_MIN
                      : which == 6 ? INT32_MAX
                      : which == 7 ? (int32_t)most + 1
                                   : (int32_t)host_below(state, most + 1);
    }
    return in;
}

static void input_free(kv_input *in)
{
    for (size_t i = 0; i < 2; i++) {
        free(in->x[i]);
        free(in->q[i]);
        free(in->sf[i]);
    }
    free(in);
}

/* has: 1 what quantizing takes, 2 what dequantizing takes. */
static kv_device device_new(const kv_case *c, const kv_input *in, int has, uint64_t *state)
{
    static const uint32_t skipped = 1000;
    kv_device d;

    memset(&d, 0, sizeof d);
    for (size_t i = 0; i < 2; i++) {
        const kv_side *s = &c->of[i];
        launch_kv_tensor *t = &d.args.of[i];
        const size_t n = s->pages.dim == 0 ? 0 : 1; /* nothing of what is not there */
        const size_t q_bytes = n * fp4_kv_q_bytes(&s->pages);
        const size_t sf_bytes = n * fp4_kv_sf_bytes(&s->pages);
        const size_t sf_shift = s->pages.sf_layout == FP4_KV_SF_4X1 ? 4 : 1;
        d.x[i] =
            gpu_buffer_of(in->x[i], n * (has & 1 ? x_bytes(c, s) : 0), 16 * host_below(state, 3));
        d.q[i] = gpu_buffer_of(in->q[i], q_bytes, 8 * host_below(state, 3));
        d.sf[i] = gpu_buffer_of(in->sf[i], sf_bytes, sf_shift * host_below(state, 5));
        d.y[i] = gpu_buffer_new(n * (has & 2 ? y_bytes(c, s) : 0), 16 * host_below(state, 3));
        d.scale[i] = gpu_buffer_of(&s->scale, sizeof s->scale, 4);
        d.dec[i] = gpu_buffer_new(sizeof(float), 4);
        if (n == 0) {
            continue;
        }
        t->x = d.x[i].bytes;
        t->y = d.y[i].bytes;
        t->q = d.q[i].bytes;
        t->sf = d.sf[i].bytes;
        t->x_stride = page_elements(&s->pages) + s->x_gap;
        t->y_strides = s->y;
        t->pages = s->pages;
        t->scale_device = s->is_device ? (const float *)(void *)d.scale[i].bytes : NULL;
        t->sense = s->sense;
        t->scale = s->is_device ? NAN : s->scale;
        t->global_dec = s->wants_dec ? (float *)(void *)d.dec[i].bytes : NULL;
    }
    d.tables = gpu_buffer_of(tables_of(c, in), tables_bytes(c, in), c->tables_are_64 ? 8 : 4);
    d.lens = gpu_buffer_of(in->lens, c->batches * sizeof *in->lens, 4);
    d.skipped = gpu_buffer_of(&skipped, sizeof skipped, 4);
    d.args.tables = d.tables.bytes;
    d.args.tables_are_64 = c->tables_are_64;
    d.args.table_stride = in->table_stride;
    d.args.max_pages = c->max_pages;
    d.args.seq_lens = (const int32_t *)(void *)d.lens.bytes;
    d.args.batches = c->batches;
    d.args.max_tokens = c->max_tokens;
    d.args.skipped = c->counts ? (uint32_t *)(void *)d.skipped.bytes : NULL;
    return d;
}

static void device_free(kv_device d)
{
    for (size_t i = 0; i < 2; i++) {
        gpu_buffer_free(d.x[i]);
        gpu_buffer_free(d.q[i]);
        gpu_buffer_free(d.sf[i]);
        gpu_buffer_free(d.y[i]);
        gpu_buffer_free(d.scale[i]);
        gpu_buffer_free(d.dec[i]);
    }
    gpu_buffer_free(d.tables);
    gpu_buffer_free(d.lens);
    gpu_buffer_free(d.skipped);
}

static void expect_all(gpu_buffer b, const void *expected, const char *text)
{
    uint8_t *got = (uint8_t *)gpu_copy_of(b);

    host_expect_bytes(got, (const uint8_t *)expected, b.size, text);
    gpu_expect_guards(b, text);
    free(got);
}

/* ---------------------------------------------------------------- quantize */

/* What one side becomes, over buffers full of `poison`. */
static void expect_quantized(const kv_case *c, const kv_device *d, const uint8_t *x, size_t i,
                             int poison)
{
    const kv_side *s = &c->of[i];
    uint8_t *q = (uint8_t *)host_zeros(d->q[i].size), *sf = (uint8_t *)host_zeros(d->sf[i].size);
    fp4_kv_cache cache = {s->pages, q, d->q[i].size, sf, d->sf[i].size, 0.0f};
    float dec;

    memset(q, poison, d->q[i].size);
    memset(sf, poison, d->sf[i].size);
    memset(&dec, poison, sizeof dec);
    if (s->pages.dim != 0) {
        cr_assert(fp4_ref_kv_quantize(x, c->unit->dtype, page_elements(&s->pages) + s->x_gap,
                                      enc_of(s), &cache) == FP4_OK,
                  "%s", kv_text(c));
        dec = s->wants_dec && s->pages.pages != 0 ? dec_of(s) : dec;
    }
    expect_all(d->q[i], q, kv_text(c));
    expect_all(d->sf[i], sf, kv_text(c));
    expect_all(d->dec[i], &dec, kv_text(c));
    if (s->pages.dim != 0 && s->pages.pages == 0) {
        CHECK_EQ(host_bits_of(cache.global_dec), 0, "%s: global_dec on the host", kv_text(c));
    }
    free(q);
    free(sf);
}

static void run_quantize(const kv_case *c, uint64_t *state)
{
    static const int poisons[] = {0x7f, 0xff};
    kv_input *in = input_new(c, state);
    const kv_device d = device_new(c, in, 1, state);

    for (size_t p = 0; p < 2; p++) {
        for (size_t i = 0; i < 2; i++) {
            gpu_poison(d.q[i], poisons[p]);
            gpu_poison(d.sf[i], poisons[p]);
            gpu_poison(d.dec[i], poisons[p]);
        }
        GPU_OK(c->unit->quantize(&d.args, c->pdl, 0));
        gpu_finish(kv_text(c));
        for (size_t i = 0; i < 2; i++) {
            expect_quantized(c, &d, in->x[i], i, poisons[p]);
        }
    }
    for (size_t i = 0; i < 2; i++) {
        elements_expect_input(d.x[i], in->x[i], kv_text(c));
        elements_expect_input(d.scale[i], &c->of[i].scale, kv_text(c));
    }
    device_free(d);
    input_free(in);
}

/* ---------------------------------------------------------------- dequantize */

static fp4_kv_batch batch_of(const kv_case *c, const kv_input *in)
{
    const fp4_kv_batch b = {{tables_of(c, in), c->tables_are_64},
                            in->table_stride,
                            c->max_pages,
                            in->lens,
                            c->batches,
                            c->max_tokens};
    return b;
}

static void run_dequantize(const kv_case *c, uint64_t *state)
{
    static const int poisons[] = {0x7f, 0xff};
    kv_input *in = input_new(c, state);
    const kv_device d = device_new(c, in, 2, state);
    const fp4_kv_batch b = batch_of(c, in);
    uint32_t skipped = 1000;

    for (size_t p = 0; p < 2; p++) {
        size_t of_host[2] = {0, 0};
        gpu_poison(d.y[0], poisons[p]);
        gpu_poison(d.y[1], poisons[p]);
        GPU_OK(c->unit->dequantize(&d.args, c->pdl, 0));
        gpu_finish(kv_text(c));
        for (size_t i = 0; i < 2; i++) {
            const kv_side *s = &c->of[i];
            const fp4_kv_cache cache = {s->pages,  in->q[i],     d.q[i].size,
                                        in->sf[i], d.sf[i].size, dec_of(s)};
            uint8_t *y = (uint8_t *)host_zeros(d.y[i].size);
            memset(y, poisons[p], d.y[i].size);
            if (s->pages.dim != 0) {
                cr_assert(fp4_ref_kv_dequantize(&cache, &b, c->unit->dtype, y, d.y[i].size, s->y,
                                                &of_host[i]) == FP4_OK,
                          "%s", kv_text(c));
            }
            elements_expect_buffer(d.y[i], y, c->unit->dtype, kv_text(c), poisons[p]);
            free(y);
        }
        skipped += c->counts ? (uint32_t)of_host[c->of[0].pages.dim == 0] : 0;
        expect_all(d.skipped, &skipped, kv_text(c));
    }
    for (size_t i = 0; i < 2; i++) {
        elements_expect_input(d.q[i], in->q[i], kv_text(c));
        elements_expect_input(d.sf[i], in->sf[i], kv_text(c));
        elements_expect_input(d.scale[i], &c->of[i].scale, kv_text(c));
    }
    elements_expect_input(d.tables, tables_of(c, in), kv_text(c));
    elements_expect_input(d.lens, in->lens, kv_text(c));
    device_free(d);
    input_free(in);
}

/* ---------------------------------------------------------------- shapes */

static const size_t all_tokens[] = {1, 2, 3, 4, 6, 8, 12, 16, 64, 128};
static const size_t all_heads[] = {1, 2, 3, 5, 8};
static const size_t all_dims[] = {64, 80, 96, 128, 144, 192, 256, 320, 448, 496, 512};

#define DRAW(state, values) values[host_below(state, sizeof values / sizeof values[0])]

static kv_side draw_side(const kv_case *c, size_t pages, size_t tokens, size_t heads,
                         uint64_t *state)
{
    const size_t dim = DRAW(state, all_dims);
    const int may_4x1 = dim % 64 == 0 && tokens % 4 == 0;
    kv_side s = side_of((fp4_kv_order)host_below(state, 2),
                        may_4x1 && host_below(state, 3) ? FP4_KV_SF_4X1 : FP4_KV_SF_LINEAR, pages,
                        tokens, heads, dim);
    const size_t sixteen = 16 / kv_size(c);

    if (host_below(state, 2)) {
        s.pages.q_stride += 8 * host_below(state, 3);
        s.pages.sf_stride += (s.pages.sf_layout == FP4_KV_SF_4X1 ? 4 : 1) * host_below(state, 4);
        s.x_gap = sixteen * host_below(state, 3);
    }
    s.y = packed_y(&s.pages, c->max_tokens, (int)host_below(state, 2));
    if (host_below(state, 2)) { /* gaps behind heads, tokens, sequences */
        s.y.head = dim + sixteen * host_below(state, 3);
        s.y.token = heads * s.y.head + sixteen * host_below(state, 3);
        s.y.batch = c->max_tokens * s.y.token + sixteen * host_below(state, 3);
    }
    s.sense = (int)host_below(state, SENSES);
    s.is_device = (int)host_below(state, 2);
    s.wants_dec = (int)host_below(state, 2);
    s.scale = host_random_scale(state, -9, 9);
    return s;
}

/* Half of the time whole fours of tokens, K and V of one order; sometimes only one of them. */
static kv_case draw_case(const kv_unit *unit, uint64_t *state)
{
    const size_t most = gpu_is_reduced() ? 30000 : 1000000;
    size_t pages, tokens, heads;
    kv_case c;

    do {
        pages = host_below(state, 9);
        tokens = DRAW(state, all_tokens);
        heads = DRAW(state, all_heads);
    } while (pages * tokens * heads * 256 > most);
    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.pdl = (int)host_below(state, 2);
    c.batches = 1 + host_below(state, MAX_BATCHES);
    c.max_pages = 1 + host_below(state, 4);
    c.max_tokens = c.max_pages * tokens - host_below(state, (uint32_t)tokens);
    while (c.batches * c.max_tokens * heads * 256 > most && c.batches > 1) {
        c.batches--;
    }
    c.tables_are_64 = (int)host_below(state, 2);
    c.counts = host_below(state, 8) != 0;
    c.of[0] = draw_side(&c, pages, tokens, heads, state);
    c.of[1] = draw_side(&c, pages, tokens, heads, state);
    if (host_below(state, 6) == 0) {
        memset(&c.of[host_below(state, 2)], 0, sizeof c.of[0]);
    }
    return c;
}

static void run_type(fp4_dtype dtype)
{
    const int turns = gpu_is_reduced() ? 40 : 400;
    uint64_t state = 900 + (uint64_t)dtype;

    for (int i = 0; i < turns; i++) {
        const kv_case c = draw_case(&kv_units[dtype], &state);
        run_quantize(&c, &state);
        run_dequantize(&c, &state);
    }
}

GPU_TEST(kv_cache, f32)
{
    run_type(FP4_F32);
}

GPU_TEST(kv_cache, f16)
{
    run_type(FP4_F16);
}

GPU_TEST(kv_cache, bf16)
{
    run_type(FP4_BF16);
}

/* Every length of a head, for K and for V, in both orders; packed and with gaps. */
GPU_TEST(kv_cache, every_head_dim)
{
    uint64_t state = 910;

    for (size_t dim = 64; dim <= 512; dim += 16) {
        for (size_t i = 0; i < 4; i++) {
            kv_case c = case_of(&kv_units[(dim / 16 + i) % KV_UNITS], (fp4_kv_order)(i / 2), 1, 2,
                                4, 3, dim);
            if (dim % 64 != 0) {
                c.of[1].pages.sf_layout = FP4_KV_SF_LINEAR;
            }
            for (size_t k = 0; k < 2 && i % 2 == 1; k++) {
                c.of[k].pages.q_stride += 8;
                c.of[k].pages.sf_stride += 4;
                c.of[k].x_gap = 16;
            }
            run_quantize(&c, &state);
            run_dequantize(&c, &state);
        }
    }
}

/* Enough for many CTAs, full ones too: the sizes of models. */
GPU_TEST(kv_cache, many_pages)
{
    static const size_t shapes[][3] = {{16, 8, 128}, {64, 1, 512}, {1, 8, 128}, {32, 2, 256}};
    uint64_t state = 915;

    for (size_t i = 0; i < 2 * 4; i++) {
        const size_t *s = shapes[i / 2];
        const size_t pages = gpu_is_reduced() ? 3 : 37;
        kv_case c = case_of(&kv_units[FP4_BF16], (fp4_kv_order)(i % 2), gpu_is_reduced() ? 2 : 5,
                            pages, s[0], s[1], s[2]);
        if (s[0] % 4 != 0) {
            c.of[1].pages.sf_layout = FP4_KV_SF_LINEAR;
        }
        run_quantize(&c, &state);
        run_dequantize(&c, &state);
    }
}

/* Pages more than 2^32 bytes and 2^32 elements apart, in every buffer; only what is used is looked
   at. */
GPU_TEST(kv_cache_large, pages_beyond_2_32)
{
    for (size_t i = 0; i < 4; i++) {
        kv_case c = case_of(&kv_units[FP4_BF16], (fp4_kv_order)(i / 2), 2, 1, 8, 2, 128);
        kv_side *s = &c.of[i % 2];
        const size_t elements = page_elements(&s->pages), far = ((size_t)1 << 32) + 64;
        const size_t y_of_page = c.max_tokens * s->pages.heads * s->pages.dim;
        fp4_kv_pages p = s->pages;
        const int32_t tables[2] = {1, 0}, lens[2] = {(int32_t)c.max_tokens, (int32_t)c.max_tokens};
        uint8_t *x = (uint8_t *)host_zeros(2 * elements * 2), *q, *sf, *y, *y_got;
        uint64_t state = 916 + i;
        gpu_buffer of[4], rest;
        launch_kv_args a;
        fp4_kv_cache cache;
        const fp4_kv_batch b = {{tables, 0}, 1, 1, lens, 2, c.max_tokens};

        host_fill(x, fp4_matrix_bf16((uint16_t *)(void *)x, 2, elements, elements), &state,
                  HOST_NARROW, 16);
        q = (uint8_t *)host_zeros(fp4_kv_q_bytes(&p));
        sf = (uint8_t *)host_zeros(fp4_kv_sf_bytes(&p));
        y = (uint8_t *)host_zeros(2 * y_of_page * 2);
        y_got = (uint8_t *)host_zeros(2 * y_of_page * 2);
        cache = (fp4_kv_cache){p, q, fp4_kv_q_bytes(&p), sf, fp4_kv_sf_bytes(&p), 0.0f};
        cr_assert(fp4_ref_kv_quantize(x, FP4_BF16, elements, 3.0f, &cache) == FP4_OK);
        cr_assert(fp4_ref_kv_dequantize(&cache, &b, FP4_BF16, y, 2 * y_of_page * 2, s->y, NULL) ==
                  FP4_OK);

        memset(&a, 0, sizeof a);
        p.q_stride = far;
        p.sf_stride = far;
        of[0] = gpu_buffer_new((far + elements) * 2, 0);
        of[1] = gpu_buffer_new(fp4_kv_q_bytes(&p), 0);
        of[2] = gpu_buffer_new(fp4_kv_sf_bytes(&p), 0);
        of[3] = gpu_buffer_new((far + y_of_page) * 2, 0);
        rest = gpu_buffer_new(16, 0);
        GPU_OK(cudaMemcpy(of[0].bytes, x, elements * 2, cudaMemcpyHostToDevice));
        GPU_OK(cudaMemcpy(of[0].bytes + far * 2, x + elements * 2, elements * 2,
                          cudaMemcpyHostToDevice));
        GPU_OK(cudaMemcpy(rest.bytes, tables, 8, cudaMemcpyHostToDevice));
        GPU_OK(cudaMemcpy(rest.bytes + 8, lens, 8, cudaMemcpyHostToDevice));
        a.of[i % 2].x = of[0].bytes;
        a.of[i % 2].q = of[1].bytes;
        a.of[i % 2].sf = of[2].bytes;
        a.of[i % 2].y = of[3].bytes;
        a.of[i % 2].x_stride = far;
        a.of[i % 2].y_strides = s->y;
        a.of[i % 2].y_strides.batch = far;
        a.of[i % 2].pages = p;
        a.of[i % 2].scale = 3.0f;
        a.tables = rest.bytes;
        a.table_stride = a.max_pages = 1;
        a.seq_lens = (const int32_t *)(void *)(rest.bytes + 8);
        a.batches = 2;
        a.max_tokens = c.max_tokens;
        GPU_OK(c.unit->quantize(&a, 0, 0));
        GPU_OK(c.unit->dequantize(&a, 0, 0));
        gpu_finish("pages_beyond_2_32");
        for (size_t k = 0; k < 2; k++) {
            uint8_t *q_got = (uint8_t *)host_zeros(fp4_kv_q_page_bytes(&p));
            uint8_t *sf_got = (uint8_t *)host_zeros(fp4_kv_sf_page_bytes(&p));
            GPU_OK(cudaMemcpy(q_got, of[1].bytes + k * far, fp4_kv_q_page_bytes(&p),
                              cudaMemcpyDeviceToHost));
            GPU_OK(cudaMemcpy(sf_got, of[2].bytes + k * far, fp4_kv_sf_page_bytes(&p),
                              cudaMemcpyDeviceToHost));
            GPU_OK(cudaMemcpy(y_got + k * y_of_page * 2, of[3].bytes + k * far * 2, y_of_page * 2,
                              cudaMemcpyDeviceToHost));
            host_expect_bytes(q_got, q + k * fp4_kv_q_page_bytes(&p), fp4_kv_q_page_bytes(&p), "q");
            host_expect_bytes(sf_got, sf + k * fp4_kv_sf_page_bytes(&p), fp4_kv_sf_page_bytes(&p),
                              "sf");
            free(q_got);
            free(sf_got);
        }
        host_expect_bytes(y_got, y, 2 * y_of_page * 2, "y");
        for (size_t k = 0; k < 4; k++) {
            gpu_expect_guards(of[k], "pages_beyond_2_32");
            gpu_buffer_free(of[k]);
        }
        gpu_buffer_free(rest);
        free(x);
        free(q);
        free(sf);
        free(y);
        free(y_got);
    }
}

/* ---------------------------------------------------------------- values */

/* Scales of every sense at the ends of their range, numbers and on the device. */
GPU_TEST(kv_cache, scales_of_every_sense)
{
    static const struct {
        int sense;
        float scale;
    } scales[] = {{ENC, 1.0f},    {ENC, 0x1p-127f},    {ENC, FP4_F32_MAX}, {ENC, 448.0f / 5.0f},
                  {DEC, 1.0f},    {DEC, 0x1p-127f},    {DEC, 0x1p+127f},   {DEC, 0x1p-149f},
                  {DEC, 0.0123f}, {AMAX, 0.0f},        {AMAX, 1e-12f},     {AMAX, 0x1p-149f},
                  {AMAX, 7.3f},   {AMAX, FP4_F32_MAX}, {AMAX, INFINITY}};
    uint64_t state = 920;

    for (size_t i = 0; i < 2 * sizeof scales / sizeof scales[0]; i++) {
        kv_case c = case_of(&kv_units[i % KV_UNITS], FP4_KV_NHD, 1, 2, 4, 1, 64);
        for (size_t k = 0; k < 2; k++) {
            c.of[k].sense = scales[i / 2].sense;
            c.of[k].scale = scales[i / 2].scale;
            c.of[k].is_device = (int)((i + k) % 2);
            c.of[k].wants_dec = 1;
        }
        run_quantize(&c, &state);
        run_dequantize(&c, &state);
    }
}

/* A page of one head is a matrix, and FlashInfer's nvfp4_kv_quantize and nvfp4_kv_dequantize are
   01_quantize and 06_dequantize with linear scales and a global one in decode sense. */
GPU_TEST(kv_cache, a_page_of_one_head_is_a_matrix)
{
    enum { ROWS = 301 };
    const kv_unit *unit = &kv_units[FP4_BF16];
    kv_case c = case_of(unit, FP4_KV_HND, 1, 1, ROWS, 1, 144);
    kv_side *s = &c.of[0];
    launch_args to;
    launch_back_args back;
    uint64_t state = 925;
    kv_input *in;
    kv_device d;
    gpu_buffer q, sf, y;
    void *expected;

    memset(&c.of[1], 0, sizeof c.of[1]);
    s->sense = DEC;
    s->scale = 0.0123f;
    in = input_new(&c, &state);
    in->tables[0] = 0;
    in->lens[0] = ROWS;
    d = device_new(&c, in, 3, &state);
    q = gpu_buffer_new(d.q[0].size, 0);
    sf = gpu_buffer_new(d.sf[0].size, 0);
    y = gpu_buffer_new(d.y[0].size, 0);

    memset(&to, 0, sizeof to);
    to.q = q.bytes;
    to.sf = sf.bytes;
    to.x = d.x[0].bytes;
    to.batches = 1;
    to.rows = ROWS;
    to.cols = to.q_cols = to.row_stride = s->pages.dim;
    to.global.value = s->scale;
    to.global.is_dec = 1;
    memset(&back, 0, sizeof back);
    back.y = y.bytes;
    back.q = q.bytes;
    back.sf = sf.bytes;
    back.global.value = s->scale;
    back.global.is_dec = 1;
    back.layout = FP4_LAYOUT_LINEAR;
    back.batches = 1;
    back.rows = ROWS;
    back.cols = back.row_stride = s->pages.dim;
    GPU_OK(LAUNCH_ROWS(bf16, nvfp4, FP4_LAYOUT_LINEAR)(&to, 0, 0));
    GPU_OK(LAUNCH_BACK(nvfp4, bf16)(&back, 0, 0));
    GPU_OK(unit->quantize(&d.args, 0, 0));
    GPU_OK(unit->dequantize(&d.args, 0, 0));
    gpu_finish(kv_text(&c));
    expected = gpu_copy_of(q);
    expect_all(d.q[0], expected, "codes");
    free(expected);
    expected = gpu_copy_of(sf);
    expect_all(d.sf[0], expected, "scales");
    free(expected);
    expected = gpu_copy_of(y);
    expect_all(d.y[0], expected, "elements");
    free(expected);
    gpu_buffer_free(q);
    gpu_buffer_free(sf);
    gpu_buffer_free(y);
    device_free(d);
    input_free(in);
}

/* The amax of all of K and of all of V as 08_amax leaves them on the device: what
   nvfp4_quantize_paged_kv_cache does without scales, and nothing waited for. */
GPU_TEST(kv_cache, scales_of_an_amax_on_the_device)
{
    static const uint32_t zeros[2] = {0, 0};
    const gpu_buffer workspace = gpu_buffer_of(zeros, sizeof zeros, 0);
    kv_case c = case_of(&kv_units[FP4_F16], FP4_KV_NHD, 1, 3, 16, 2, 128);
    uint64_t state = 927;
    kv_input *in = input_new(&c, &state);
    kv_device d;

    c.of[0].is_device = c.of[1].is_device = 1;
    c.of[0].sense = c.of[1].sense = AMAX;
    c.of[0].wants_dec = c.of[1].wants_dec = 1;
    d = device_new(&c, in, 1, &state);
    for (size_t i = 0; i < 2; i++) {
        const size_t n = d.x[i].size / kv_size(&c);
        launch_amax_args a;
        memset(&a, 0, sizeof a);
        a.x = d.x[i].bytes;
        a.rows = 1;
        a.cols = a.x_stride = n;
        a.amax = (float *)(void *)d.scale[i].bytes;
        a.workspace = (uint32_t *)(void *)workspace.bytes;
        gpu_poison(d.q[i], 0x7f);
        gpu_poison(d.sf[i], 0x7f);
        GPU_OK(LAUNCH_AMAX(f16)(&a, 0, 0));
        cr_assert(fp4_ref_amax(fp4_matrix_f16((uint16_t *)(void *)in->x[i], 1, n, n),
                               &c.of[i].scale) == FP4_OK);
    }
    GPU_OK(c.unit->quantize(&d.args, 0, 0));
    gpu_finish(kv_text(&c));
    for (size_t i = 0; i < 2; i++) {
        expect_quantized(&c, &d, in->x[i], i, 0x7f);
    }
    gpu_buffer_free(workspace);
    device_free(d);
    input_free(in);
}

/* ---------------------------------------------------------------- between other kernels */

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 60 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case with K's and V's elements of all rounds, and what came back in all of them. The scale of K
   is an amax that is written late as well. */
typedef struct chain {
    kv_case c;
    kv_input *in;
    kv_device d;
    gpu_buffer all_x[2], all_y[2], all_scales;
    uint8_t *x[2];
    float scales[ROUNDS];
    cudaStream_t stream;
} chain;

static chain *chain_new(kv_case c, uint64_t seed)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = seed;

    c.of[0].sense = AMAX;
    c.of[0].is_device = 1;
    k->c = c;
    k->in = input_new(&c, &state);
    k->d = device_new(&c, k->in, 3, &state);
    for (size_t i = 0; i < 2; i++) {
        const size_t n = page_elements(&c.of[i].pages);
        const fp4_matrix m =
            fp4_matrix_of_(NULL, c.unit->dtype, c.of[i].pages.pages * ROUNDS, n, n, 1.0f);
        k->x[i] = (uint8_t *)host_zeros(ROUNDS * k->d.x[i].size);
        host_fill(k->x[i], m, &state, HOST_MODERATE, 16);
        k->all_x[i] = gpu_buffer_of(k->x[i], ROUNDS * k->d.x[i].size, 0);
        k->all_y[i] = gpu_buffer_new(ROUNDS * k->d.y[i].size, 0);
    }
    for (size_t round = 0; round < ROUNDS; round++) {
        k->scales[round] = host_random_scale(&state, -4, 4);
    }
    k->all_scales = gpu_buffer_of(k->scales, sizeof k->scales, 0);
    gpu_poison(k->d.y[0], 0x7f);
    gpu_poison(k->d.y[1], 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* Everything that came back, against the host reference. */
static void chain_end(chain *k)
{
    const kv_case *c = &k->c;
    const fp4_kv_batch b = batch_of(c, k->in);
    uint32_t skipped = 1000;

    GPU_OK(cudaStreamSynchronize(k->stream));
    for (size_t i = 0; i < 2; i++) {
        const kv_side *s = &c->of[i];
        const size_t size = k->d.y[i].size;
        uint8_t *got = (uint8_t *)gpu_copy_of(k->all_y[i]), *y = (uint8_t *)host_zeros(size);
        fp4_kv_cache cache = {s->pages,     k->in->q[i],     k->d.q[i].size,
                              k->in->sf[i], k->d.sf[i].size, 0.0f};
        for (size_t round = 0; round < ROUNDS; round++) {
            kv_side of_round = *s;
            size_t of_host = 0;
            of_round.scale = i == 0 ? k->scales[round] : s->scale;
            memset(y, 0x7f, size);
            cr_assert(fp4_ref_kv_quantize(k->x[i] + round * k->d.x[i].size, c->unit->dtype,
                                          page_elements(&s->pages), enc_of(&of_round),
                                          &cache) == FP4_OK);
            cache.global_dec = dec_of(&of_round);
            cr_assert(fp4_ref_kv_dequantize(&cache, &b, c->unit->dtype, y, size, s->y, &of_host) ==
                      FP4_OK);
            host_expect_bytes(got + round * size, y, size, kv_text(c));
            skipped += i == 0 ? (uint32_t)of_host : 0;
        }
        gpu_expect_guards(k->d.y[i], kv_text(c));
        gpu_expect_guards(k->d.q[i], kv_text(c));
        gpu_expect_guards(k->d.sf[i], kv_text(c));
        gpu_buffer_free(k->all_x[i]);
        gpu_buffer_free(k->all_y[i]);
        free(k->x[i]);
        free(got);
        free(y);
    }
    expect_all(k->d.skipped, &skipped, kv_text(c));
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->all_scales);
    device_free(k->d);
    input_free(k->in);
    free(k);
}

/* Behind a producer that starts them at once and writes late what they read, in front of a consumer
   that spoils it and reads late; the way back behind the way there. */
static void run_chain(kv_case c, uint64_t seed)
{
    chain *k = chain_new(c, seed);

    for (size_t round = 0; round < ROUNDS; round++) {
        gpu_copy in, out;
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        for (size_t i = 0; i < 2; i++) {
            in.to[i] = k->d.x[i].bytes;
            in.from[i] = k->all_x[i].bytes + round * k->d.x[i].size;
            in.bytes[i] = k->d.x[i].size;
            out.to[i] = k->all_y[i].bytes + round * k->d.y[i].size;
            out.from[i] = k->d.y[i].bytes;
            out.bytes[i] = k->d.y[i].size;
        }
        in.to[2] = k->d.scale[0].bytes;
        in.from[2] = k->all_scales.bytes + round * sizeof(float);
        in.bytes[2] = sizeof(float);
        in.sleep = PRODUCER_SLEEP;
        out.fill = k->d.x[0].bytes;
        out.fill_bytes = k->d.x[0].size;
        out.sleep = CONSUMER_SLEEP;
        GPU_OK(gpu_produce(&in, k->stream));
        GPU_OK(c.unit->quantize(&k->d.args, 1, k->stream));
        GPU_OK(c.unit->dequantize(&k->d.args, 1, k->stream));
        GPU_OK(gpu_consume(&out, k->stream));
    }
    chain_end(k);
}

Test(kv_cache, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t u = 0; u < KV_UNITS; u++) {
        kv_case c = case_of(&kv_units[u], (fp4_kv_order)(u % 2), 2, 2, 4, 3, 64);
        run_chain(c, 930 + u);
        c = case_of(&kv_units[u], FP4_KV_HND, 3, 2, 3, 2, 80);
        c.of[1].pages.sf_layout = FP4_KV_SF_LINEAR;
        run_chain(c, 940 + u);
    }
}

/* Both launchers in a graph; inputs and outputs are copied outside of it. */
static void run_graph(kv_case c, uint64_t seed, int pdl)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;
    chain *k = chain_new(c, seed);
    cudaGraphExec_t executable;
    cudaGraph_t graph;
    size_t nodes = 0;

    GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
    GPU_OK(c.unit->quantize(&k->d.args, pdl, k->stream));
    GPU_OK(c.unit->dequantize(&k->d.args, pdl, k->stream));
    GPU_OK(cudaStreamEndCapture(k->stream, &graph));
    GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
    CHECK_EQ(nodes, 2, "kernels captured");
    GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
    GPU_OK(cudaGraphDestroy(graph));
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < 2; i++) {
            GPU_OK(cudaMemcpyAsync(k->d.x[i].bytes, k->all_x[i].bytes + round * k->d.x[i].size,
                                   k->d.x[i].size, kind, k->stream));
        }
        GPU_OK(cudaMemcpyAsync(k->d.scale[0].bytes, k->all_scales.bytes + round * sizeof(float),
                               sizeof(float), kind, k->stream));
        GPU_OK(cudaGraphLaunch(executable, k->stream));
        for (size_t i = 0; i < 2; i++) {
            GPU_OK(cudaMemcpyAsync(k->all_y[i].bytes + round * k->d.y[i].size, k->d.y[i].bytes,
                                   k->d.y[i].size, kind, k->stream));
        }
    }
    GPU_OK(cudaGraphExecDestroy(executable));
    chain_end(k);
}

GPU_TEST(kv_cache, replayed_from_a_graph)
{
    for (size_t u = 0; u < KV_UNITS; u++) {
        run_graph(case_of(&kv_units[u], (fp4_kv_order)(u % 2), 2, 2, 4, 3, 64), 950 + u,
                  (int)(u % 2));
    }
}

/* ---------------------------------------------------------------- what is refused */

/* Good calls, for a test to spoil; nothing may be written by what is refused. */
typedef struct good_call {
    kv_case c;
    kv_input *in;
    kv_device d;
} good_call;

static good_call good_call_new(const kv_unit *unit)
{
    good_call g;
    uint64_t state = 960;

    g.c = case_of(unit, FP4_KV_NHD, 2, 2, 8, 2, 128);
    g.c.of[0].wants_dec = g.c.of[1].wants_dec = 1;
    g.in = input_new(&g.c, &state);
    g.d = device_new(&g.c, g.in, 3, &state);
    for (size_t i = 0; i < 2; i++) {
        gpu_poison(g.d.y[i], 0x7f);
        gpu_poison(g.d.dec[i], 0x7f);
    }
    return g;
}

static void good_call_free(good_call g)
{
    static const uint32_t skipped = 1000;

    gpu_finish(kv_text(&g.c));
    for (size_t i = 0; i < 2; i++) {
        uint8_t *y = (uint8_t *)host_zeros(g.d.y[i].size), dec[sizeof(float)];
        memset(y, 0x7f, g.d.y[i].size);
        memset(dec, 0x7f, sizeof dec);
        expect_all(g.d.y[i], y, "refused: y");
        expect_all(g.d.dec[i], dec, "refused: global_dec");
        expect_all(g.d.q[i], g.in->q[i], "refused: q");
        expect_all(g.d.sf[i], g.in->sf[i], "refused: sf");
        free(y);
    }
    expect_all(g.d.skipped, &skipped, "refused: skipped");
    device_free(g.d);
    input_free(g.in);
}

/* How many kernels a launcher launches. */
static void expect_launches(launch_kv_function launch, const launch_kv_args *args,
                            cudaError_t expected, size_t launches, const char *what)
{
    const cudaStream_t stream = gpu_capture_begin();
    const cudaError_t error = launch(args, 0, stream);

    CHECK_EQ(error, expected, "%s", what);
    CHECK_EQ(gpu_capture_end(stream), launches, "%s: launched", what);
    if (launches == 0) {
        CHECK_EQ(launch(args, 0, 0), expected, "%s: not captured", what);
        CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left", what);
    }
}

#define EXPECT_(launch, what, change, expected, launches) \
    do { \
        launch_kv_args a = g.d.args; \
        change; \
        expect_launches(launch, &a, expected, launches, what); \
    } while (0)
#define TO g.c.unit->quantize
#define BACK g.c.unit->dequantize
#define REFUSED(launch, what, change) EXPECT_(launch, what, change, cudaErrorInvalidValue, 0)
#define ACCEPTED(launch, what, change) EXPECT_(launch, what, change, cudaSuccess, 1)
#define NOTHING(launch, what, change) EXPECT_(launch, what, change, cudaSuccess, 0)

/* What both refuse, of K and of V. */
static void refuse_caches(good_call g, launch_kv_function launch, size_t i)
{
    ACCEPTED(launch, "as it is", (void)a);
    ACCEPTED(launch, "the other alone", memset(&a.of[i], 0, sizeof a.of[i]));
    REFUSED(launch, "no q", a.of[i].q = NULL);
    REFUSED(launch, "no sf", a.of[i].sf = NULL);
#if !defined(FP4_SIMT) /* to the sanitizer of C++ such a value is an error by itself */
    REFUSED(launch, "an order", a.of[i].pages.order = (fp4_kv_order)2);
    REFUSED(launch, "a layout", a.of[i].pages.sf_layout = (fp4_kv_sf)2);
    REFUSED(launch, "a negative sense", a.of[i].sense = -1);
#endif
    REFUSED(launch, "half a block", a.of[i].pages.dim = 120);
    REFUSED(launch, "a short head", a.of[i].pages.dim = 48);
    REFUSED(launch, "a long head", a.of[i].pages.dim = 528);
    REFUSED(launch, "no whole words", a.of[i].pages.sf_layout = FP4_KV_SF_4X1;
            a.of[i].pages.dim = 112);
    REFUSED(launch, "no whole fours", a.of[i].pages.sf_layout = FP4_KV_SF_4X1;
            a.of[i].pages.tokens = 6; a.of[!i].pages.tokens = 6);
    REFUSED(launch, "no tokens", a.of[i].pages.tokens = 0);
    REFUSED(launch, "no heads", a.of[i].pages.heads = 0);
    REFUSED(launch, "codes on top of each other", a.of[i].pages.q_stride -= 8);
    REFUSED(launch, "scales on top of each other", a.of[i].pages.sf_stride -= 4);
    REFUSED(launch, "pages without end", a.of[i].pages.pages = (size_t)-1);
    REFUSED(launch, "too many pages", a.of[0].pages.pages = a.of[1].pages.pages = 0x80000000u);
    REFUSED(launch, "q", a.of[i].q += 4);
    REFUSED(launch, "q_stride", a.of[i].pages.q_stride += 4);
    REFUSED(launch, "sf", a.of[i].pages.sf_layout = FP4_KV_SF_4X1; a.of[i].sf += 2);
    REFUSED(launch, "sf_stride", a.of[i].pages.sf_layout = FP4_KV_SF_4X1;
            a.of[i].pages.sf_stride += 2);
    REFUSED(launch, "a scale's pointer",
            a.of[i].scale_device = (const float *)(void *)(g.d.scale[i].bytes + 2));
    REFUSED(launch, "a sense", a.of[i].sense = SENSES);
}

static void refuse_scales(good_call g, launch_kv_function launch, size_t i)
{
    static const struct {
        int sense;
        float scale;
    } bad[] = {{ENC, 0.0f},      {ENC, -1.0f},       {ENC, INFINITY}, {ENC, NAN},
               {ENC, 0x1p-128f}, {DEC, -1.0f},       {DEC, INFINITY}, {DEC, NAN},
               {DEC, -0.0f},     {AMAX, -0x1p-149f}, {AMAX, NAN}};
    const int is_back = launch == BACK;

    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        REFUSED(launch, "a scale", a.of[i].sense = bad[k].sense; a.of[i].scale = bad[k].scale);
    }
    EXPECT_(launch, "decode with 0", a.of[i].sense = DEC;
            a.of[i].scale = 0.0f, is_back ? cudaSuccess : cudaErrorInvalidValue, (size_t)is_back);
    EXPECT_(launch, "decode with the largest", a.of[i].sense = DEC;
            a.of[i].scale = FP4_F32_MAX, is_back ? cudaSuccess : cudaErrorInvalidValue,
            (size_t)is_back);
    ACCEPTED(launch, "an amax of 0", a.of[i].sense = AMAX; a.of[i].scale = 0.0f);
    ACCEPTED(launch, "a scale on the device", a.of[i].scale = NAN;
             a.of[i].scale_device = (const float *)(void *)g.d.scale[i].bytes);
}

GPU_TEST(kv_cache_errors, caches_and_scales)
{
    for (size_t u = 0; u < KV_UNITS; u++) {
        const good_call g = good_call_new(&kv_units[u]);
        for (size_t i = 0; i < 2; i++) {
            refuse_caches(g, TO, i);
            refuse_caches(g, BACK, i);
            refuse_scales(g, TO, i);
            refuse_scales(g, BACK, i);
        }
        good_call_free(g);
    }
}

GPU_TEST(kv_cache_errors, quantize)
{
    for (size_t u = 0; u < KV_UNITS; u++) {
        const good_call g = good_call_new(&kv_units[u]);
        const size_t size = kv_size(&g.c);
        for (size_t i = 0; i < 2; i++) {
            REFUSED(TO, "no x", a.of[i].x = NULL);
            REFUSED(TO, "x", a.of[i].x = (const uint8_t *)a.of[i].x + 8);
            REFUSED(TO, "a stride", a.of[i].x_stride -= 16);
            REFUSED(TO, "no whole 16 bytes", a.of[i].x_stride += 8 / size);
            REFUSED(TO, "x without end", a.of[i].x_stride = (size_t)1 << 62);
            ACCEPTED(TO, "linear scales of any alignment", a.of[0].sf += 1;
                     a.of[0].pages.sf_stride += 1);
            REFUSED(TO, "global_dec", a.of[i].global_dec = (float *)(void *)(g.d.dec[i].bytes + 2));
            ACCEPTED(TO, "no global_dec", a.of[i].global_dec = NULL);
            REFUSED(TO, "too many rows", a.of[i].pages.pages = 0x10000000u);
            ACCEPTED(TO, "no pages", a.of[i].pages.pages = 0; a.of[i].x = NULL;
                     a.of[i].q = a.of[i].sf = NULL);
            ACCEPTED(TO, "sizes need not be the other's", a.of[i].pages.pages = 1);
        }
        for (size_t i = 0; i < 4; i++) { /* a scale that is read, and where one is written */
            REFUSED(TO, "global_dec where a scale is",
                    a.of[i / 2].scale_device = a.of[i % 2].global_dec);
        }
        ACCEPTED(TO, "a scale where global_dec of nothing would be",
                 a.of[0].scale_device = a.of[1].global_dec;
                 memset(&a.of[1].pages, 0, sizeof a.of[1].pages));
        ACCEPTED(TO, "nothing's scale where global_dec is",
                 a.of[1].scale_device = a.of[0].global_dec;
                 memset(&a.of[1].pages, 0, sizeof a.of[1].pages));
        NOTHING(TO, "neither", memset(a.of, 0, sizeof a.of));
        NOTHING(TO, "no pages", a.of[0].pages.pages = a.of[1].pages.pages = 0);
        good_call_free(g);
    }
}

GPU_TEST(kv_cache_errors, dequantize)
{
    for (size_t u = 0; u < KV_UNITS; u++) {
        const good_call g = good_call_new(&kv_units[u]);
        for (size_t i = 0; i < 2; i++) {
            REFUSED(BACK, "no y", a.of[i].y = NULL);
            REFUSED(BACK, "y", a.of[i].y = (uint8_t *)a.of[i].y + 8);
            REFUSED(BACK, "heads on top of each other", a.of[i].y_strides.head -= 16);
            REFUSED(BACK, "tokens on top of each other", a.of[i].y_strides.token -= 16);
            REFUSED(BACK, "sequences on top of each other", a.of[i].y_strides.batch -= 16);
            REFUSED(BACK, "no whole 16 bytes", a.of[i].y_strides.batch += 2);
            REFUSED(BACK, "y without end", a.of[i].y_strides.batch = (size_t)1 << 62);
            REFUSED(BACK, "other pages", a.of[i].pages.pages--);
            REFUSED(BACK, "other tokens", a.of[i].pages.tokens -= 4);
            REFUSED(BACK, "other heads", a.of[i].pages.heads--);
            REFUSED(BACK, "too many heads", a.of[i].pages.heads = ((size_t)1 << 20) + 1);
            REFUSED(BACK, "too many tokens", a.of[i].pages.tokens = ((size_t)1 << 22) + 4);
            ACCEPTED(BACK, "linear scales of any alignment", a.of[0].sf += 1;
                     a.of[0].pages.sf_stride += 1);
        }
        ACCEPTED(BACK, "K and V in different orders", a.of[0].pages.order = FP4_KV_HND);
        ACCEPTED(BACK, "no pages", a.of[0].pages.pages = a.of[1].pages.pages = 0;
                 a.of[0].q = a.of[1].q = a.of[0].sf = a.of[1].sf = NULL);
        ACCEPTED(BACK, "no counter", a.skipped = NULL);
        REFUSED(BACK, "no tables", a.tables = NULL);
        REFUSED(BACK, "no lengths", a.seq_lens = NULL);
        REFUSED(BACK, "tables", a.tables = g.d.tables.bytes + 2);
        REFUSED(BACK, "tables of 64 bits", a.tables_are_64 = 1;
                a.tables = g.d.tables.bytes + 8 - (uintptr_t)g.d.tables.bytes % 8 + 4);
        REFUSED(BACK, "lengths", a.seq_lens = (const int32_t *)(void *)(g.d.lens.bytes + 2));
        REFUSED(BACK, "a counter", a.skipped = (uint32_t *)(void *)(g.d.skipped.bytes + 2));
        REFUSED(BACK, "rows of tables", a.table_stride = a.max_pages - 1);
        REFUSED(BACK, "tables without end", a.table_stride = (size_t)1 << 60);
        REFUSED(BACK, "a narrow table", a.max_pages--);
        REFUSED(BACK, "one token more", a.max_tokens++);
        REFUSED(BACK, "sequences without end", a.batches = (size_t)-1);
        NOTHING(BACK, "neither", memset(a.of, 0, sizeof a.of));
        NOTHING(BACK, "no sequences", a.batches = 0; a.tables = NULL);
        NOTHING(BACK, "no sequences of many tokens", a.batches = 0; a.max_tokens++);
        NOTHING(BACK, "no sequences, a bad cache", a.batches = 0; a.of[0].pages.tokens = 0);
        NOTHING(BACK, "no tokens, no row", a.max_tokens = 0; a.table_stride = 0);
        NOTHING(BACK, "no tokens", a.max_tokens = 0; a.seq_lens = NULL);
        good_call_free(g);
    }
}

/*
 * tests/gpu/test_kv_append.c - the launcher of 13_kv_append against the host reference: K and V,
 * together and alone, to slots, by page table and by page list, with each kind of RoPE and none,
 * with indices of any value; all bytes of the caches and of what is between their pages; what is
 * refused; and between other kernels.
 */
#include <fp4/host/kv_append.h>

#include "elements.h"
#include "launch.h"

/* ---------------------------------------------------------------- launchers */

/* The word of the example as a value. */
enum { APPEND_f32 = FP4_F32, APPEND_f16 = FP4_F16, APPEND_bf16 = FP4_BF16 };

typedef struct append_unit {
    launch_append_function launch;
    fp4_dtype dtype;
    const char *name;
} append_unit;

#define APPEND_UNIT_(input) {LAUNCH_APPEND(input), (fp4_dtype)APPEND_##input, #input},
static const append_unit append_units[] = {LAUNCH_APPEND_EACH(APPEND_UNIT_)};
enum { APPEND_UNITS = sizeof append_units / sizeof append_units[0] };

/* ---------------------------------------------------------------- cases */

/* How tokens are told where to go; and how those that go nowhere are. */
enum { BY_SLOTS, BY_TABLE, BY_LIST, WAYS };
enum { SEQUENCES = 5, POSITIONS = 70 };

/* One more than fp4_kv_sense has. */
enum { SENSES = FP4_KV_AMAX + 1 };

typedef struct append_case {
    const append_unit *unit;
    fp4_kv_pages k, v; /* dim 0: none */
    size_t tokens;
    int axes; /* of x: 0 tokens, heads; 1 with gaps; 2 heads, tokens */
    int way, slots_are_64, positions_are_64, tables_are_64;
    size_t rotary; /* 0: no RoPE */
    fp4_rope_style style;
    int rounded, has_k_out;
    int k_scale, v_scale; /* sense, and 3 more where it is on the device */
    uint32_t bad;         /* of 16 tokens */
    int in_order;         /* neighbours go to neighbouring places */
    size_t shift;         /* of scale bytes */
    int counts, pdl;
    host_data data;
} append_case;

static const char *append_text(const append_case *c)
{
    static char text[512];

    snprintf(text, sizeof text,
             "%s, %zu tokens, %zu pages of %zu tokens, %zu heads of %zu and %zu, order %d, scales "
             "%d %d, axes %d, way %d, 64-bit %d %d %d, rotary %zu, style %d, rounded %d, k_out %d, "
             "scales %d %d, bad %u, in order %d, data %d, pdl %d",
             c->unit->name, c->tokens, c->k.pages, c->k.tokens, c->k.heads, c->k.dim, c->v.dim,
             (int)c->k.order, (int)c->k.sf_layout, (int)c->v.sf_layout, c->axes, c->way,
             c->slots_are_64, c->positions_are_64, c->tables_are_64, c->rotary, (int)c->style,
             c->rounded, c->has_k_out, c->k_scale, c->v_scale, c->bad, c->in_order, (int)c->data,
             c->pdl);
    return text;
}

/* An ordinary case, for the caller to change. */
static append_case append_case_of(const append_unit *unit, size_t tokens, size_t heads,
                                  size_t k_dim, size_t v_dim)
{
    const size_t page = 8, pages = 2 * ((tokens + page - 1) / page) + 1;
    append_case c;

    memset(&c, 0, sizeof c);
    c.unit = unit;
    c.tokens = tokens;
    c.k = fp4_kv_pages_packed(FP4_KV_NHD, FP4_KV_SF_LINEAR, pages, page, heads, k_dim);
    c.v = fp4_kv_pages_packed(FP4_KV_NHD, FP4_KV_SF_LINEAR, pages, page, heads, v_dim);
    c.counts = 1;
    return c;
}

static size_t append_size(const append_case *c)
{
    return host_dtype_bytes(c->unit->dtype);
}

/* Heads as they stand in memory: in units of 16 bytes, so that loads are aligned. */
static fp4_heads append_heads(const append_case *c, const void *data, size_t dim)
{
    const size_t unit = 16 / append_size(c), heads = c->k.heads;
    fp4_heads x;

    x.data = data;
    x.dtype = c->unit->dtype;
    x.tokens = c->tokens;
    x.heads = heads;
    x.dim = dim;
    x.head_stride = c->axes == 2 ? dim * c->tokens : dim + (c->axes == 1 ? unit : 0);
    x.token_stride = c->axes == 2 ? dim : heads * x.head_stride + (c->axes == 1 ? 3 * unit : 0);
    return x;
}

/* ---------------------------------------------------------------- inputs */

typedef struct append_inputs {
    uint8_t *k, *v;
    size_t k_bytes, v_bytes;
    int64_t *slots, *positions, *tables; /* or int32_t, in the same memory */
    size_t slots_bytes, positions_bytes, table_bytes;
    int32_t batch_indices[4096], indptr[SEQUENCES + 1];
    size_t max_pages, table_stride;
    float *cos_sin;
    float scales[2]; /* as the launcher gets them */
    float encs[2];
} append_inputs;

/* An index that is out of 0 ... n - 1. */
static int64_t bad_index(uint64_t *state, size_t n, int is_64)
{
    const int64_t end = (int64_t)n;
    const int64_t wide[] = {-1,
                            INT64_MIN,
                            INT64_MAX,
                            end,
                            end + 7,
                            (int64_t)1 << 32,
                            -end,
                            ((int64_t)1 << 32) + end / 2,
                            INT32_MIN,
                            (int64_t)1 << 31,
                            -((int64_t)1 << 32),
                            ((int64_t)1 << 62) + 1};
    const int64_t narrow[] = {-1, INT32_MIN, INT32_MAX, end, end + 7, -end - 1};

    return is_64 ? wide[host_below(state, 12)] : narrow[host_below(state, 6)];
}

/* Puts an integer where the array has it. */
static void set(int64_t *array, int is_64, size_t i, int64_t value)
{
    const int32_t narrow = (int32_t)value;

    if (is_64) {
        array[i] = value;
    } else {
        memcpy((uint8_t *)array + i * sizeof narrow, &narrow, sizeof narrow);
    }
}

/* 0 ... n - 1 in any order. */
static size_t *permutation(size_t n, uint64_t *state)
{
    size_t *p = (size_t *)host_zeros(n * sizeof *p);

    for (size_t i = 0; i < n; i++) {
        const size_t j = host_below(state, (uint32_t)i + 1);
        p[i] = p[j];
        p[j] = i;
    }
    return p;
}

static int is_bad(const append_case *c, uint64_t *state)
{
    return host_below(state, 16) < c->bad;
}

static void swap(size_t *a, size_t *b)
{
    const size_t was = *a;

    *a = *b;
    *b = was;
}

/* One slot after the other, from any or from a multiple of 4 on; but now and then two change
   places: neighbours, those four apart, or those with one place in neighbouring pages. */
static void put_in_order(size_t *order, size_t slots, size_t page, uint64_t *state)
{
    order[0] = host_below(state, 2) ? order[0] / 4 * 4 : order[0];
    for (size_t i = 1; i < slots; i++) {
        order[i] = (order[i - 1] + 1) % slots;
    }
    for (size_t i = 0; i + page + 4 < slots; i++) {
        const uint32_t what = host_below(state, 40);
        if (what < 3) {
            swap(&order[i], &order[i + (what == 0 ? 1 : what == 1 ? 4 : page)]);
        }
    }
}

/* Each token has a slot of its own, or none. */
static void fill_slots(const append_case *c, append_inputs *in, uint64_t *state)
{
    const size_t slots = c->k.pages * c->k.tokens;
    size_t *order = permutation(slots, state);

    if (c->in_order) {
        put_in_order(order, slots, c->k.tokens, state);
    }
    for (size_t i = 0; i < c->tokens; i++) {
        set(in->slots, c->slots_are_64, i,
            is_bad(c, state) || i >= slots ? bad_index(state, slots, c->slots_are_64)
                                           : (int64_t)order[i]);
        set(in->positions, c->positions_are_64, i,
            is_bad(c, state) ? bad_index(state, POSITIONS, c->positions_are_64)
                             : host_below(state, POSITIONS));
    }
    free(order);
}

/* Sequences with pages of their own, of which some are none; each token one of their places. */
static void fill_pages(const append_case *c, append_inputs *in, uint64_t *state)
{
    const size_t each = c->k.pages / SEQUENCES, page = c->k.tokens;
    const size_t places = each * page * SEQUENCES;
    size_t *pages = permutation(c->k.pages, state), *order = permutation(places, state);

    for (size_t i = 0; i < in->table_bytes / (c->tables_are_64 ? 8 : 4); i++) {
        set(in->tables, c->tables_are_64, i, INT32_MAX);
    }
    in->max_pages = c->way == BY_LIST ? SEQUENCES * each + 2 : each;
    in->table_stride = in->max_pages + (c->way == BY_TABLE);
    for (size_t i = 0; i <= SEQUENCES; i++) {
        in->indptr[i] = (int32_t)(1 + i * each);
    }
    for (size_t i = 0; i < SEQUENCES * each; i++) {
        const size_t at = c->way == BY_LIST ? 1 + i : i / each * in->table_stride + i % each;
        set(in->tables, c->tables_are_64, at,
            is_bad(c, state) ? bad_index(state, c->k.pages, c->tables_are_64) : (int64_t)pages[i]);
    }
    if (c->bad > 1 && c->way == BY_LIST) { /* a sequence that ends before it starts, or elsewhere */
        in->indptr[host_below(state, SEQUENCES + 1)] =
            (int32_t)bad_index(state, in->max_pages + 1, 0);
    }
    for (size_t i = 0; i < c->tokens; i++) {
        const size_t place = i >= places ? 0 : c->in_order ? i : order[i];
        const int bad_sequence = i >= places || is_bad(c, state);
        const size_t length = each * page + (each == 0);
        const size_t sequence = c->in_order ? place / length : place % SEQUENCES;
        const size_t position = c->in_order ? place % length : place / SEQUENCES;
        in->batch_indices[i] =
            (int32_t)(bad_sequence ? bad_index(state, SEQUENCES, 0) : (int64_t)sequence);
        set(in->positions, c->positions_are_64, i,
            is_bad(c, state) ? bad_index(state, each * page, c->positions_are_64)
                             : (int64_t)position);
    }
    free(pages);
    free(order);
}

static uint8_t *random_heads(const append_case *c, size_t dim, size_t *bytes, uint64_t *state)
{
    const fp4_heads x = append_heads(c, NULL, dim);
    uint8_t *memory;

    *bytes = dim == 0 ? 0 : fp4_ref_heads_bytes_(&x);
    memory = (uint8_t *)host_zeros(*bytes);
    if (*bytes != 0) {
        const size_t n = *bytes / append_size(c);
        host_fill(memory, fp4_matrix_of_(memory, x.dtype, 1, n, n, 1.0f), state, c->data, 16);
    }
    return memory;
}

static append_inputs *append_inputs_new(const append_case *c, uint64_t *state)
{
    append_inputs *in = (append_inputs *)host_zeros(sizeof *in);
    const size_t table = SEQUENCES * (c->k.pages / SEQUENCES + 3);

    cr_assert(c->tokens <= 4096);
    in->k = random_heads(c, c->k.dim, &in->k_bytes, state);
    in->v = random_heads(c, c->v.dim, &in->v_bytes, state);
    in->slots_bytes = c->tokens * (c->slots_are_64 ? 8 : 4);
    in->positions_bytes = c->tokens * (c->positions_are_64 ? 8 : 4);
    in->table_bytes = table * (c->tables_are_64 ? 8 : 4);
    in->slots = (int64_t *)host_zeros(in->slots_bytes);
    in->positions = (int64_t *)host_zeros(in->positions_bytes);
    in->tables = (int64_t *)host_zeros(in->table_bytes);
    if (c->way == BY_SLOTS) {
        fill_slots(c, in, state);
    } else {
        fill_pages(c, in, state);
    }
    in->cos_sin = (float *)host_zeros(POSITIONS * c->rotary * sizeof(float));
    for (size_t i = 0; i < POSITIONS * c->rotary; i++) { /* any numbers will do */
        in->cos_sin[i] = (float)(host_random(state) * oracle_power(-31) - 1);
    }
    for (size_t i = 0; i < 2; i++) {
        const int sense = (i == 0 ? c->k_scale : c->v_scale) % SENSES;
        const float scale = host_random_scale(state, -12, 12);
        in->scales[i] = scale;
        in->encs[i] = sense == FP4_KV_ENC   ? scale
                      : sense == FP4_KV_DEC ? host_min(host_div(1.0f, scale), FP4_F32_MAX)
                                            : host_div(448.0f, scale);
    }
    return in;
}

static void append_inputs_free(append_inputs *in)
{
    free(in->k);
    free(in->v);
    free(in->slots);
    free(in->positions);
    free(in->tables);
    free(in->cos_sin);
    free(in);
}

/* ---------------------------------------------------------------- outputs */

/* Both caches in one memory: codes and scale bytes of K, of V. Codes are aligned to 8 bytes, scale
   bytes to nothing. */
typedef struct append_places {
    size_t k_q, k_sf, v_q, v_sf, bytes;
} append_places;

static append_places append_places_of(const append_case *c)
{
    append_places at;
    const size_t odd = c->shift;

    at.k_q = 8 * odd;
    at.k_sf = at.k_q + (c->k.dim ? fp4_kv_q_bytes(&c->k) : 0) + odd;
    at.v_q = (at.k_sf + (c->k.dim ? fp4_kv_sf_bytes(&c->k) : 0) + 15) / 8 * 8;
    at.v_sf = at.v_q + (c->v.dim ? fp4_kv_q_bytes(&c->v) : 0) + odd;
    at.bytes = at.v_sf + (c->v.dim ? fp4_kv_sf_bytes(&c->v) : 0);
    return at;
}

static fp4_kv_cache cache_in(uint8_t *memory, size_t q, size_t sf, const fp4_kv_pages *pages)
{
    fp4_kv_cache cache;

    cache.pages = *pages;
    cache.q = memory + q;
    cache.q_bytes = fp4_kv_q_bytes(pages);
    cache.sf = memory + sf;
    cache.sf_bytes = fp4_kv_sf_bytes(pages);
    cache.global_dec = 1.0f;
    return cache;
}

typedef struct append_expected {
    uint8_t *cache, *k_out;
    size_t cache_bytes, k_out_bytes;
    uint32_t skipped;
} append_expected;

/* What a launch leaves in a cache and in k_out. */
static void append_apply(const append_case *c, const append_inputs *in, append_expected *e)
{
    const append_places at = append_places_of(c);
    fp4_kv_cache k_cache = cache_in(e->cache, at.k_q, at.k_sf, &c->k);
    fp4_kv_cache v_cache = cache_in(e->cache, at.v_q, at.v_sf, &c->v);
    fp4_kv_new k, v;
    fp4_kv_places places;
    fp4_kv_rope rope;
    size_t skipped = 0;

    memset(&k, 0, sizeof k);
    memset(&v, 0, sizeof v);
    memset(&places, 0, sizeof places);
    memset(&rope, 0, sizeof rope);
    k.x = append_heads(c, in->k, c->k.dim);
    k.cache = c->k.dim ? &k_cache : NULL;
    k.global_enc = in->encs[0];
    v.x = append_heads(c, in->v, c->v.dim);
    v.cache = c->v.dim ? &v_cache : NULL;
    v.global_enc = in->encs[1];
    places.slots.data = c->way == BY_SLOTS ? in->slots : NULL;
    places.slots.is_64 = c->slots_are_64;
    places.positions.data = in->positions;
    places.positions.is_64 = c->positions_are_64;
    places.batch_indices = in->batch_indices;
    places.tables.data = in->tables;
    places.tables.is_64 = c->tables_are_64;
    places.indptr = c->way == BY_LIST ? in->indptr : NULL;
    places.batches = SEQUENCES;
    places.max_pages = in->max_pages;
    places.table_stride = in->table_stride;
    rope.rope.cos_sin = c->rotary ? in->cos_sin : NULL;
    rope.rope.positions = POSITIONS;
    rope.rope.rotary = c->rotary;
    rope.rope.style = c->style;
    rope.rounded = c->rounded;
    rope.k_out = append_heads(c, c->has_k_out ? e->k_out : NULL, c->k.dim);
    rope.k_out_bytes = e->k_out_bytes;
    cr_assert(fp4_ref_kv_append(&k, &v, &places, &rope, &skipped) == FP4_OK, "%s", append_text(c));
    e->skipped += (uint32_t)skipped;
}

static append_expected append_expect(const append_case *c, const append_inputs *in, int poison)
{
    const fp4_heads out = append_heads(c, NULL, c->k.dim);
    append_expected e;

    e.cache_bytes = append_places_of(c).bytes;
    e.cache = (uint8_t *)host_zeros(e.cache_bytes);
    memset(e.cache, poison, e.cache_bytes);
    e.k_out_bytes = c->has_k_out ? fp4_ref_heads_bytes_(&out) : 0;
    e.k_out = (uint8_t *)host_zeros(e.k_out_bytes);
    memset(e.k_out, poison, e.k_out_bytes);
    e.skipped = 0;
    append_apply(c, in, &e);
    return e;
}

static void append_expected_free(append_expected e)
{
    free(e.cache);
    free(e.k_out);
}

/* ---------------------------------------------------------------- the run */

typedef struct append_device {
    gpu_buffer k, v, cache, slots, positions, table, batch_indices, indptr, cos_sin, k_out, skipped,
        scales;
    launch_append_args args;
} append_device;

static launch_append_tensor side_in(const append_case *c, const fp4_kv_pages *pages, gpu_buffer x,
                                    uint8_t *q, uint8_t *sf, int scale, float value,
                                    const float *on_device)
{
    const fp4_heads h = append_heads(c, NULL, pages->dim);
    launch_append_tensor s;

    memset(&s, 0, sizeof s);
    s.x = pages->dim ? x.bytes : NULL;
    s.x_token = h.token_stride;
    s.x_head = h.head_stride;
    s.q = q;
    s.sf = sf;
    s.pages = *pages;
    s.sense = scale % SENSES;
    s.scale_device = scale >= SENSES ? on_device : NULL;
    s.scale = scale >= SENSES ? -1.0f : value;
    return s;
}

static append_device append_device_new(const append_case *c, const append_inputs *in)
{
    static const uint32_t zero = 0;
    const append_places at = append_places_of(c);
    const fp4_heads out = append_heads(c, NULL, c->k.dim);
    const float *scales;
    append_device d;

    memset(&d, 0, sizeof d);
    d.k = gpu_buffer_of(in->k, in->k_bytes, 16);
    d.v = gpu_buffer_of(in->v, in->v_bytes, 16);
    d.cache = gpu_buffer_new(at.bytes, 0);
    d.slots = gpu_buffer_of(in->slots, in->slots_bytes, 8);
    d.positions = gpu_buffer_of(in->positions, in->positions_bytes, 8);
    d.table = gpu_buffer_of(in->tables, in->table_bytes, 8);
    d.batch_indices = gpu_buffer_of(in->batch_indices, c->tokens * sizeof(int32_t), 4);
    d.indptr = gpu_buffer_of(in->indptr, sizeof in->indptr, 4);
    d.cos_sin = gpu_buffer_of(in->cos_sin, POSITIONS * c->rotary * sizeof(float), 16);
    d.k_out = gpu_buffer_new(c->has_k_out ? fp4_ref_heads_bytes_(&out) : 0, 16);
    d.skipped = gpu_buffer_of(&zero, sizeof zero, 4);
    d.scales = gpu_buffer_of(in->scales, sizeof in->scales, 4);
    scales = (const float *)(const void *)d.scales.bytes;
    d.args.k = side_in(c, &c->k, d.k, d.cache.bytes + at.k_q, d.cache.bytes + at.k_sf, c->k_scale,
                       in->scales[0], scales);
    d.args.v = side_in(c, &c->v, d.v, d.cache.bytes + at.v_q, d.cache.bytes + at.v_sf, c->v_scale,
                       in->scales[1], scales + 1);
    d.args.tokens = c->tokens;
    d.args.slots = c->way == BY_SLOTS ? d.slots.bytes : NULL;
    d.args.slots_are_64 = c->slots_are_64;
    d.args.positions = c->way == BY_SLOTS && c->rotary == 0 ? NULL : d.positions.bytes;
    d.args.positions_are_64 = c->positions_are_64;
    d.args.tables = c->way == BY_SLOTS ? NULL : d.table.bytes;
    d.args.tables_are_64 = c->tables_are_64;
    d.args.batch_indices =
        c->way == BY_SLOTS ? NULL : (const int32_t *)(const void *)d.batch_indices.bytes;
    d.args.indptr = c->way == BY_LIST ? (const int32_t *)(const void *)d.indptr.bytes : NULL;
    d.args.batches = SEQUENCES;
    d.args.max_pages = in->max_pages;
    d.args.table_stride = in->table_stride;
    d.args.cos_sin = c->rotary ? (const float *)(const void *)d.cos_sin.bytes : NULL;
    d.args.max_position = POSITIONS;
    d.args.rotary = c->rotary;
    d.args.style = c->style;
    d.args.rounded = c->rounded;
    d.args.k_out = c->has_k_out ? d.k_out.bytes : NULL;
    d.args.k_out_token = out.token_stride;
    d.args.k_out_head = out.head_stride;
    d.args.skipped = c->counts ? (uint32_t *)(void *)d.skipped.bytes : NULL;
    return d;
}

static void append_device_free(append_device d)
{
    const gpu_buffer all[] = {d.k,         d.v,     d.cache,         d.slots,
                              d.positions, d.table, d.batch_indices, d.indptr,
                              d.cos_sin,   d.k_out, d.skipped,       d.scales};

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        gpu_buffer_free(all[i]);
    }
}

/* All that a launch may write, and how often it has counted. */
static void append_expect_written(const append_case *c, const append_device *d,
                                  const append_expected *e, uint32_t launches, int poison)
{
    const uint32_t counted = c->counts ? launches * e->skipped : 0;
    uint8_t *cache = (uint8_t *)gpu_copy_of(d->cache);
    uint32_t skipped;

    host_expect_bytes(cache, e->cache, e->cache_bytes, append_text(c));
    gpu_expect_guards(d->cache, append_text(c));
    elements_expect_buffer(d->k_out, e->k_out, c->unit->dtype, append_text(c), poison);
    gpu_download(&skipped, d->skipped);
    CHECK_EQ(skipped, counted, "%s: skipped", append_text(c));
    gpu_expect_guards(d->skipped, append_text(c));
    free(cache);
}

static void append_run(const append_case *c, uint64_t *state)
{
    static const int poisons[] = {0x7f, 0xff};
    append_inputs *in = append_inputs_new(c, state);
    const append_device d = append_device_new(c, in);

    for (uint32_t p = 0; p < 2; p++) {
        const append_expected e = append_expect(c, in, poisons[p]);
        gpu_poison(d.cache, poisons[p]);
        gpu_poison(d.k_out, poisons[p]);
        GPU_OK(c->unit->launch(&d.args, c->pdl, 0));
        gpu_finish(append_text(c));
        append_expect_written(c, &d, &e, p + 1, poisons[p]);
        append_expected_free(e);
    }
    elements_expect_input(d.k, in->k, append_text(c));
    elements_expect_input(d.v, in->v, append_text(c));
    elements_expect_input(d.slots, in->slots, append_text(c));
    elements_expect_input(d.positions, in->positions, append_text(c));
    elements_expect_input(d.table, in->tables, append_text(c));
    append_device_free(d);
    append_inputs_free(in);
}

/* ---------------------------------------------------------------- shapes */

static const size_t dims[] = {64, 80, 96, 128, 192, 256, 512, 112};
enum { DIMS = sizeof dims / sizeof(size_t) };

/* Everything that is not the shape. */
static void draw_options(append_case *c, uint64_t *state)
{
    const int can_4x1 = c->k.tokens % 4 == 0;
    size_t gap = 8 * host_below(state, 3);

    c->k.order = c->v.order = (fp4_kv_order)host_below(state, 2);
    c->k.sf_layout = (fp4_kv_sf)(can_4x1 && c->k.dim % 64 == 0 && host_below(state, 4) == 0);
    c->v.sf_layout = (fp4_kv_sf)(can_4x1 && c->v.dim % 64 == 0 && host_below(state, 2) == 0);
    c->k.q_stride += gap;
    c->v.sf_stride += gap + host_below(state, 4);
    c->axes = (int)host_below(state, 3);
    c->way = (int)host_below(state, WAYS);
    c->slots_are_64 = (int)host_below(state, 2);
    c->positions_are_64 = (int)host_below(state, 2);
    c->tables_are_64 = (int)host_below(state, 2);
    if (c->k.dim != 0 && host_below(state, 4) != 0) {
        const uint32_t kind = host_below(state, 4);
        c->style = (fp4_rope_style)host_below(state, 2);
        c->rotary = kind == 0   ? c->k.dim
                    : kind == 1 ? 32 * (1 + host_below(state, (uint32_t)(c->k.dim / 32)))
                    : kind == 2 ? 16 * (1 + host_below(state, (uint32_t)(c->k.dim / 16)))
                                : 2 * (1 + host_below(state, (uint32_t)(c->k.dim / 2)));
        c->rounded = (int)host_below(state, 2);
        c->has_k_out = (int)host_below(state, 2);
    }
    c->k_scale = (int)host_below(state, 2 * SENSES);
    c->v_scale = (int)host_below(state, 2 * SENSES);
    c->bad = host_below(state, 3);
    c->in_order = (int)host_below(state, 2);
    c->shift = host_below(state, 3);
    c->counts = host_below(state, 4) != 0;
    c->pdl = (int)host_below(state, 2);
    c->data = (host_data)host_below(state, HOST_DATA);
}

static append_case draw_case(const append_unit *unit, size_t tokens, size_t heads, size_t k_dim,
                             size_t v_dim, uint64_t *state)
{
    static const size_t pages[] = {1, 3, 4, 8, 16, 20};
    append_case c = append_case_of(unit, tokens, heads, k_dim, v_dim);
    const size_t page = pages[host_below(state, 6)];

    c.k.tokens = c.v.tokens = page;
    c.k.pages = c.v.pages = tokens / page + 1 + SEQUENCES * host_below(state, 3);
    c.k.q_stride = fp4_kv_q_page_bytes(&c.k);
    c.k.sf_stride = fp4_kv_sf_page_bytes(&c.k);
    c.v.q_stride = fp4_kv_q_page_bytes(&c.v);
    c.v.sf_stride = fp4_kv_sf_page_bytes(&c.v);
    draw_options(&c, state);
    return c;
}

/* Each dim for K with any for V, either missing now and then; few tokens, and more. On the GPU the
   last cases are large enough for the kernel of many. */
static void run_type(fp4_dtype dtype)
{
    const append_unit *unit = &append_units[dtype];
    const int few = gpu_is_reduced();
    const size_t turns = few ? 8 : 40;
    uint64_t state = 1300 + (uint64_t)dtype;

    for (size_t i = 0; i < turns * DIMS; i++) {
        const uint32_t which = host_below(&state, 8);
        const size_t k_dim = which == 0 ? 0 : dims[i % DIMS];
        const size_t v_dim = which == 1   ? 0
                             : which <= 4 ? dims[i % DIMS]
                                          : dims[host_below(&state, DIMS)];
        const size_t tokens = 1 + host_below(&state, few ? 24 : 60);
        const size_t heads = 1 + host_below(&state, i % 11 == 0 ? 40 : 9);
        const append_case c =
            draw_case(unit, tokens, few && heads > 9 ? 9 : heads, k_dim, v_dim, &state);
        append_run(&c, &state);
    }
    for (size_t i = 0; i < (few ? 0 : 3 * DIMS); i++) {
        const append_case c =
            draw_case(unit, 1500 + host_below(&state, 2500), 8 + host_below(&state, 2),
                      dims[i % DIMS], i % 3 ? dims[i % DIMS] : dims[i / 3 % DIMS], &state);
        append_run(&c, &state);
    }
}

GPU_TEST(kv_append, f32)
{
    run_type(FP4_F32);
}

GPU_TEST(kv_append, f16)
{
    run_type(FP4_F16);
}

GPU_TEST(kv_append, bf16)
{
    run_type(FP4_BF16);
}

/* RoPE of each length that a head may be turned by, in both styles. */
GPU_TEST(kv_append, each_rotary)
{
    const size_t step = gpu_is_reduced() ? 14 : 2;
    uint64_t state = 1310;

    for (size_t i = 0; i < 2 * APPEND_UNITS; i++) {
        for (size_t rotary = 2 + 2 * i % step; rotary <= 128; rotary += step) {
            append_case c = append_case_of(&append_units[i / 2], 9, 3, 128, 64);
            c.rotary = rotary;
            c.style = (fp4_rope_style)(i % 2);
            c.has_k_out = 1;
            c.rounded = (int)host_below(&state, 2);
            append_run(&c, &state);
        }
        for (size_t rotary = 16; rotary <= 128; rotary += 16) { /* whole pieces, many of them */
            append_case c =
                append_case_of(&append_units[i / 2], gpu_is_reduced() ? 40 : 2100, 5, 128, 64);
            c.rotary = rotary;
            c.style = (fp4_rope_style)(i % 2);
            c.has_k_out = (int)host_below(&state, 2);
            append_run(&c, &state);
        }
    }
}

/* Tokens of some heads, so many that a thread has some of them. */
#if defined(FP4_SIMT)
enum { MANY = 20 };
#else
enum { MANY = 2060 };
#endif

/* Whole warps to a token, so that lanes can store scale bytes together; tokens in order or not, and
   with holes; scale bytes in rows, in tiles, and where words of them would not be aligned. */
GPU_TEST(kv_append, neighbours_in_words)
{
    static const size_t shapes[][2] = {{8, 128}, {16, 64},  {4, 256},
                                       {2, 512}, {16, 192}, {24, 128}};
    const size_t turns = MANY < 100 ? 8 : gpu_is_reduced() ? 1 : 12;
    uint64_t state = 1315;

    for (size_t i = 0; i < 6 * turns * APPEND_UNITS; i++) {
        const size_t *shape = shapes[i % 6];
        append_case c =
            draw_case(&append_units[i / 6 % APPEND_UNITS], MANY + host_below(&state, 40), shape[0],
                      shape[1], i % 7 ? shape[1] : 64, &state);
        c.in_order = i % 4 != 0;
        c.bad = host_below(&state, 2);
        if (i % 3 != 0 && c.k.tokens % 4 == 0) { /* tiles by slots, whole pages of them */
            c.way = BY_SLOTS;
            c.v.sf_layout = FP4_KV_SF_4X1;
        }
        if (i / 6 / APPEND_UNITS % 2) { /* aligned */
            c.shift = 0;
            c.k.sf_stride = fp4_kv_sf_page_bytes(&c.k);
            c.v.sf_stride = fp4_kv_sf_page_bytes(&c.v);
        }
        append_run(&c, &state);
    }
}

/* Tiles of four tokens of which any have a slot; page 0, too, where who has none could be taken for
   one who has. */
GPU_TEST(kv_append, holes_in_tiles)
{
    uint64_t state = 1317;

    for (size_t i = 0; i < 16 * 2; i++) {
        append_case c = append_case_of(&append_units[i % APPEND_UNITS], MANY + 20, 8, 128, 128);
        append_inputs *in;
        append_device d;
        append_expected e;
        c.k.order = c.v.order = (fp4_kv_order)(i / 16);
        c.v.sf_layout = FP4_KV_SF_4X1;
        in = append_inputs_new(&c, &state);
        for (size_t k = 0; k < c.tokens; k++) {
            const size_t mask = (k / 4 * 7 + i) % 16;
            set(in->slots, c.slots_are_64, k, mask >> k % 4 & 1 ? (int64_t)k : -1);
        }
        d = append_device_new(&c, in);
        e = append_expect(&c, in, 0x7f);
        gpu_poison(d.cache, 0x7f);
        GPU_OK(c.unit->launch(&d.args, 0, 0));
        gpu_finish(append_text(&c));
        append_expect_written(&c, &d, &e, 1, 0x7f);
        append_expected_free(e);
        append_device_free(d);
        append_inputs_free(in);
    }
}

/* Sequences that start before the table, end before they start or behind the table; positions
   behind a sequence: what is there instead must not be taken for a page. */
GPU_TEST(kv_append, sequences_end_where_they_end)
{
    static const int32_t indptr[SEQUENCES + 1] = {-1, 2, 1, 9, 3, 3};
    uint64_t state = 1316;

    for (size_t i = 0; i < 2 * 2 * APPEND_UNITS; i++) {
        append_case c = append_case_of(&append_units[i % APPEND_UNITS], 50, 2, 64, 64);
        append_inputs *in;
        append_device d;
        append_expected e;
        c.way = i < 2 * APPEND_UNITS ? BY_TABLE : BY_LIST;
        c.tables_are_64 = c.positions_are_64 = (int)(i / APPEND_UNITS % 2);
        in = append_inputs_new(&c, &state);
        in->max_pages = 5;
        in->table_stride = 6;
        memcpy(in->indptr, indptr, sizeof indptr);
        for (size_t k = 0; k < in->table_bytes / (c.tables_are_64 ? 8 : 4); k++) {
            set(in->tables, c.tables_are_64, k, (int64_t)(k % c.k.pages));
        }
        for (size_t k = 0; k < c.tokens; k++) { /* the first entry behind, or any of a list */
            in->batch_indices[k] = (int32_t)(k % SEQUENCES);
            set(in->positions, c.positions_are_64, k,
                c.way == BY_TABLE ? (int64_t)(5 * c.k.tokens + k % 8) : (int64_t)(k / SEQUENCES));
        }
        d = append_device_new(&c, in);
        e = append_expect(&c, in, 0x7f);
        CHECK_EQ(e.skipped, c.tokens, "%s", append_text(&c));
        gpu_poison(d.cache, 0x7f);
        GPU_OK(c.unit->launch(&d.args, 0, 0));
        gpu_finish(append_text(&c));
        append_expect_written(&c, &d, &e, 1, 0x7f);
        append_expected_free(e);
        append_device_free(d);
        append_inputs_free(in);
    }
}

/* Most tokens go nowhere, by all kinds of indices. */
GPU_TEST(kv_append, indices_of_any_value)
{
    const size_t turns = gpu_is_reduced() ? 30 : 200;
    uint64_t state = 1320;

    for (size_t i = 0; i < turns; i++) {
        append_case c = draw_case(&append_units[i % APPEND_UNITS], 30 + host_below(&state, 60), 2,
                                  64, 64, &state);
        c.bad = 6 + host_below(&state, 11);
        c.way = (int)(i / APPEND_UNITS % WAYS);
        c.counts = 1;
        append_run(&c, &state);
    }
}

/* A cache without pages, sequences and a table without entries: nothing has a place. */
GPU_TEST(kv_append, nowhere_to_go)
{
    uint64_t state = 1330;

    for (size_t i = 0; i < APPEND_UNITS * WAYS * 2; i++) {
        append_case c = append_case_of(&append_units[i % APPEND_UNITS], 20, 3, 128, 128);
        append_inputs *in;
        append_device d;
        append_expected e;
        c.way = (int)(i / APPEND_UNITS % WAYS);
        c.rotary = i >= APPEND_UNITS * WAYS ? 64 : 0;
        c.has_k_out = c.rotary != 0;
        in = append_inputs_new(&c, &state);
        d = append_device_new(&c, in);
        c.k.pages = c.v.pages = c.way == BY_SLOTS ? 0 : c.k.pages;
        d.args.k.pages.pages = d.args.v.pages.pages = c.k.pages;
        d.args.batches = c.way == BY_TABLE ? 0 : SEQUENCES;
        d.args.max_pages = in->max_pages = 0;
        d.args.tables = NULL;
        gpu_poison(d.cache, 0x7f);
        gpu_poison(d.k_out, 0x7f);
        GPU_OK(c.unit->launch(&d.args, 0, 0));
        gpu_finish(append_text(&c));
        c.k.pages = c.v.pages = 0;
        e = append_expect(&c, in, 0x7f);
        CHECK_EQ(e.skipped, c.tokens, "%s", append_text(&c));
        free(e.cache);
        e.cache_bytes = d.cache.size;
        e.cache = (uint8_t *)host_zeros(e.cache_bytes);
        memset(e.cache, 0x7f, e.cache_bytes);
        append_expect_written(&c, &d, &e, 1, 0x7f);
        append_expected_free(e);
        append_device_free(d);
        append_inputs_free(in);
    }
}

/* ---------------------------------------------------------------- beyond 2^32 bytes */

/* Pieces of memory that are far from each other; what is between them is not looked at. */
typedef struct far_buffer {
    gpu_buffer all;
    size_t pieces, bytes, stride;
} far_buffer;

/* With these bytes in the pieces; without, poisoned. */
static far_buffer far_new(const uint8_t *from, size_t pieces, size_t bytes, size_t stride)
{
    far_buffer f;

    f.pieces = pieces;
    f.bytes = bytes;
    f.stride = stride;
    f.all = gpu_buffer_new((pieces - 1) * stride + bytes, 0);
    for (size_t i = 0; i < pieces; i++) {
        uint8_t *to = f.all.bytes + i * stride;
        GPU_OK(from != NULL ? cudaMemcpy(to, from + i * bytes, bytes, cudaMemcpyHostToDevice)
                            : cudaMemset(to, 0x7f, bytes));
    }
    return f;
}

/* The pieces, which stand side by side in what is expected; the memory is freed. */
static void far_end(far_buffer f, const uint8_t *expected, const char *what)
{
    uint8_t *got = (uint8_t *)host_zeros(f.bytes);

    for (size_t i = 0; i < f.pieces; i++) {
        GPU_OK(cudaMemcpy(got, f.all.bytes + i * f.stride, f.bytes, cudaMemcpyDeviceToHost));
        host_expect_bytes(got, expected + i * f.bytes, f.bytes, what);
    }
    gpu_expect_guards(f.all, what);
    gpu_buffer_free(f.all);
    free(got);
}

/* K or V of a case that is packed, its pages, and its tokens or heads, almost 2^32 bytes apart, as
   far as strides reach, and those of k_out farther: the third of each is beyond 2^32. */
static void run_far(append_case c, int is_v, uint64_t seed)
{
    enum { PAGES = 3 };
    const size_t size = append_size(&c), far = 0xfffffff0u, far_out = ((size_t)1 << 32) + 16;
    const size_t pieces = c.axes == 2 ? c.k.heads : c.tokens;
    fp4_kv_pages *pages = is_v ? &c.v : &c.k;
    append_places at;
    append_inputs *in;
    append_expected e;
    append_device d;
    launch_append_tensor *side;
    far_buffer x, q, sf, k_out;

    cr_assert(pieces > 2);
    c.k.tokens = c.v.tokens = (c.tokens + 4 * PAGES - 1) / (4 * PAGES) * 4;
    c.k.pages = c.v.pages = PAGES;
    (is_v ? &c.k : &c.v)->dim = 0;
    pages->q_stride = fp4_kv_q_page_bytes(pages);
    pages->sf_stride = fp4_kv_sf_page_bytes(pages);
    in = append_inputs_new(&c, &seed);
    for (size_t i = 0; i < c.tokens; i++) { /* one page after the other */
        set(in->slots, c.slots_are_64, i, (int64_t)(i % PAGES * pages->tokens + i / PAGES));
    }
    at = append_places_of(&c);
    e = append_expect(&c, in, 0x7f);
    d = append_device_new(&c, in);
    side = is_v ? &d.args.v : &d.args.k;
    x = far_new(is_v ? in->v : in->k, pieces, (is_v ? in->v_bytes : in->k_bytes) / pieces, far);
    q = far_new(NULL, PAGES, pages->q_stride, far);
    sf = far_new(NULL, PAGES, pages->sf_stride, far);
    side->x = x.all.bytes;
    *(c.axes == 2 ? &side->x_head : &side->x_token) = far / size;
    side->q = q.all.bytes;
    side->sf = sf.all.bytes;
    side->pages.q_stride = side->pages.sf_stride = far;
    if (c.has_k_out) {
        k_out = far_new(NULL, pieces, e.k_out_bytes / pieces, far_out);
        d.args.k_out = k_out.all.bytes;
        *(c.axes == 2 ? &d.args.k_out_head : &d.args.k_out_token) = far_out / size;
    }
    GPU_OK(c.unit->launch(&d.args, 0, 0));
    gpu_finish(append_text(&c));
    far_end(x, is_v ? in->v : in->k, append_text(&c));
    far_end(q, e.cache + (is_v ? at.v_q : at.k_q), append_text(&c));
    far_end(sf, e.cache + (is_v ? at.v_sf : at.k_sf), append_text(&c));
    if (c.has_k_out) {
        far_end(k_out, e.k_out, append_text(&c));
    }
    append_expected_free(e);
    append_device_free(d);
    append_inputs_free(in);
}

/* Of K and of V, in both orders: few pieces; many of few tokens; many of few heads. Up to 52 GB of
   device memory; on the CPU it is only addresses. */
GPU_TEST(kv_append_large, pages_tokens_and_heads_beyond_2_32)
{
    const int few = gpu_is_reduced();
    const size_t shapes[][2] = {{3, 2}, {few ? 3 : 5, few ? 16 : 4096}, {few ? 12 : 1400, 3}};

    for (size_t i = 0; i < 3 * 2 * 2; i++) {
        const size_t *shape = shapes[i / 4];
        const size_t dim = i < 4 ? 128 : 512;
        append_case c = append_case_of(&append_units[FP4_BF16], shape[0], shape[1], dim, dim);
        c.k.order = c.v.order = (fp4_kv_order)(i % 2);
        c.v.sf_layout = FP4_KV_SF_4X1;
        c.axes = i / 4 == 2 ? 2 : 0;
        c.data = HOST_NARROW;
        if (i / 2 % 2 == 0) {
            c.rotary = 64;
            c.has_k_out = 1;
        }
        run_far(c, i / 2 % 2 == 1, 1370 + i);
    }
}

/* ---------------------------------------------------------------- what is refused */

typedef struct good_call {
    append_case c;
    append_inputs *in;
    append_device d;
} good_call;

static good_call good_call_new(const append_unit *unit, int way)
{
    uint64_t state = 1340;
    good_call g;

    g.c = append_case_of(unit, 8, 4, 128, 128);
    g.c.k.pages = g.c.v.pages = 2 * SEQUENCES; /* a table with entries */
    g.c.way = way;
    g.c.rotary = 64;
    g.c.has_k_out = 1;
    g.in = append_inputs_new(&g.c, &state);
    g.d = append_device_new(&g.c, g.in);
    gpu_poison(g.d.cache, 0x7f);
    gpu_poison(g.d.k_out, 0x7f);
    return g;
}

/* Nothing has been written by what was refused. */
static void good_call_free(good_call g)
{
    append_expected e;

    gpu_finish(append_text(&g.c));
    e.cache_bytes = g.d.cache.size;
    e.cache = (uint8_t *)host_zeros(e.cache_bytes);
    memset(e.cache, 0x7f, e.cache_bytes);
    e.k_out_bytes = g.d.k_out.size;
    e.k_out = (uint8_t *)host_zeros(e.k_out_bytes);
    memset(e.k_out, 0x7f, e.k_out_bytes);
    e.skipped = 0;
    append_expect_written(&g.c, &g.d, &e, 0, 0x7f);
    append_expected_free(e);
    append_device_free(g.d);
    append_inputs_free(g.in);
}

static void expect_answer(const good_call *g, const launch_append_args *args, cudaError_t expected,
                          const char *what)
{
    const cudaStream_t stream = gpu_capture_begin();
    const cudaError_t error = g->c.unit->launch(args, 0, stream);
    const size_t nodes = gpu_capture_end(stream);

    CHECK_EQ(error, expected, "%s: %s", what, append_text(&g->c));
    CHECK_EQ(nodes, expected == cudaSuccess && args->tokens != 0, "%s: launches: %s", what,
             append_text(&g->c));
    if (expected != cudaSuccess) {
        CHECK_EQ(g->c.unit->launch(args, 0, 0), expected, "%s: not captured", what);
        CHECK_EQ(cudaGetLastError(), cudaSuccess, "%s: an error is left", what);
    }
}

#define ANSWER(expected, what, change) \
    do { \
        launch_append_args args = g.d.args; \
        change; \
        expect_answer(&g, &args, expected, what); \
    } while (0)
#define REFUSED(what, change) ANSWER(cudaErrorInvalidValue, what, change)
#define ACCEPTED(what, change) ANSWER(cudaSuccess, what, change)

#define FOR_EACH_CALL(way, body) \
    for (size_t i = 0; i < APPEND_UNITS; i++) { \
        const good_call g = good_call_new(&append_units[i], way); \
        body; \
        good_call_free(g); \
    }

static void refuse_null_pointers(good_call g)
{
    ACCEPTED("as it is", (void)args);
    ACCEPTED("no tokens", args.tokens = 0; args.k.x = args.v.x = NULL);
    ACCEPTED("no V", args.v.x = NULL);
    ACCEPTED("no K", args.k.x = NULL; args.k_out = NULL);
    ACCEPTED("no counter", args.skipped = NULL);
    ACCEPTED("no k_out", args.k_out = NULL);
    ACCEPTED("no RoPE", args.cos_sin = NULL; args.k_out = NULL; args.positions = NULL);
    ACCEPTED("no pages, no cache", args.k.pages.pages = args.v.pages.pages = 0;
             args.k.q = args.k.sf = args.v.q = args.v.sf = NULL);
    REFUSED("neither", args.k.x = args.v.x = NULL; args.k_out = NULL);
    REFUSED("no codes of K", args.k.q = NULL);
    REFUSED("no scale bytes of K", args.k.sf = NULL);
    REFUSED("no codes of V", args.v.q = NULL);
    REFUSED("no scale bytes of V", args.v.sf = NULL);
    REFUSED("no positions", args.positions = NULL);
    REFUSED("no slots, no table", args.slots = NULL);
    REFUSED("k_out without RoPE", args.cos_sin = NULL);
    REFUSED("k_out without K", args.k.x = NULL);
}

static void refuse_pages(good_call g)
{
    ACCEPTED("as it is", (void)args);
    ACCEPTED("any stride with indptr", args.indptr = args.batch_indices; args.table_stride = 0);
    REFUSED("no table", args.tables = NULL);
    ACCEPTED("no table, no sequences", args.tables = NULL; args.batches = 0);
    ACCEPTED("no table, no entries", args.tables = NULL; args.max_pages = 0);
    REFUSED("no positions", args.positions = NULL; args.cos_sin = NULL; args.k_out = NULL);
    REFUSED("no batch indices", args.batch_indices = NULL);
    REFUSED("rows that overlap", args.table_stride = args.max_pages - 1);
    REFUSED("rows without end", args.table_stride = (size_t)1 << 62);
    REFUSED("more positions than 2^31", args.max_pages = args.table_stride = ((size_t)1 << 28) + 1);
    REFUSED("positions misaligned", args.positions = (const uint8_t *)args.positions + 2);
    REFUSED("a table misaligned", args.tables = (const uint8_t *)args.tables + 2);
    REFUSED("a 64-bit table misaligned", args.tables = (const uint8_t *)args.tables + 4;
            args.tables_are_64 = 1);
    REFUSED("batch indices misaligned",
            args.batch_indices =
                (const int32_t *)(const void *)((const uint8_t *)args.batch_indices + 2));
    REFUSED("indptr misaligned",
            args.indptr = (const int32_t *)(const void *)((const uint8_t *)args.batch_indices + 1));
}

static void refuse_shapes(good_call g)
{
    const size_t unit = 16 / append_size(&g.c);

    REFUSED("dim of 48", args.k.pages.dim = 48);
    REFUSED("dim of 528", args.v.pages.dim = 528; args.v.x_head = args.v.x_token = 4096);
    REFUSED("dim of 72", args.v.pages.dim = 72);
    REFUSED("4x1 of 80", args.v.pages.dim = 80; args.v.pages.sf_layout = FP4_KV_SF_4X1);
    REFUSED("4x1 of 6 tokens", args.v.pages.tokens = args.k.pages.tokens = 6;
            args.v.pages.sf_layout = FP4_KV_SF_4X1);
    REFUSED("no heads", args.k.pages.heads = 0);
    REFUSED("no tokens a page", args.k.pages.tokens = args.v.pages.tokens = 0);
#if !defined(FP4_SIMT) /* where looking at such a value is what is refused */
    REFUSED("no order", args.k.pages.order = args.v.pages.order = (fp4_kv_order)2);
    REFUSED("no layout", args.k.pages.sf_layout = (fp4_kv_sf)2);
#endif
    REFUSED("pages that overlap", args.k.pages.q_stride -= 8);
    REFUSED("scale bytes that overlap", args.v.pages.sf_stride -= 1);
    REFUSED("other pages", args.v.pages.pages -= 1);
    REFUSED("pages of another length", args.v.pages.tokens -= 1);
    REFUSED("other heads", args.v.pages.heads -= 1);
    REFUSED("another order", args.v.pages.order = FP4_KV_HND);
    REFUSED("more slots than 2^31",
            args.k.pages.pages = args.v.pages.pages = ((size_t)1 << 28) + 1);
    REFUSED("more tokens than 2^31", args.tokens = (size_t)1 << 31);
    REFUSED("heads that overlap", args.k.x_head = 128 - unit);
    REFUSED("tokens that overlap", args.v.x_token = 128 - unit);
    REFUSED("heads without end", args.k.x_head = (size_t)1 << 61);
    REFUSED("tokens without end", args.k.x_token = (size_t)1 << 61);
    REFUSED("K misaligned", args.k.x = (const uint8_t *)args.k.x + 8);
    REFUSED("V misaligned", args.v.x = (const uint8_t *)args.v.x + 4);
    REFUSED("heads misaligned", args.k.x_head += unit / 2);
    REFUSED("tokens misaligned", args.v.x_token += unit / 2);
    REFUSED("codes misaligned", args.k.q += 4);
    REFUSED("pages misaligned", args.v.pages.q_stride += 4);
    REFUSED("slots misaligned", args.slots = (const uint8_t *)args.slots + 2);
    REFUSED("64-bit slots misaligned", args.slots = (const uint8_t *)args.slots + 4;
            args.slots_are_64 = 1);
    REFUSED("a counter misaligned",
            args.skipped = (uint32_t *)(void *)((uint8_t *)args.skipped + 2));
    ACCEPTED("scale bytes anywhere", args.v.sf += 1);
}

static void refuse_rope(good_call g)
{
    const size_t unit = 16 / append_size(&g.c);

    ACCEPTED("GPT-J", args.style = FP4_ROPE_GPTJ);
    ACCEPTED("any even length", args.rotary = 62);
    ACCEPTED("no positions in the table", args.max_position = 0);
#if !defined(FP4_SIMT)
    REFUSED("no style", args.style = 2);
#endif
    REFUSED("odd", args.rotary = 63);
    REFUSED("none", args.rotary = 0);
    REFUSED("longer than a head", args.rotary = 130);
    REFUSED("a table without end", args.max_position = (size_t)1 << 60);
    REFUSED("a table misaligned", args.cos_sin += 1);
    REFUSED("k_out misaligned", args.k_out = (uint8_t *)args.k_out + 8);
    REFUSED("its heads overlap", args.k_out_head -= unit);
    REFUSED("its tokens overlap", args.k_out_token = 128 - unit);
    REFUSED("heads of neighbouring tokens overlap", args.k_out_token = args.k_out_head);
    ACCEPTED("tokens of a head", args.k_out_token = 128; args.k_out_head = 8 * 128);
    REFUSED("its heads misaligned", args.k_out_head += unit / 2);
    REFUSED("its tokens misaligned", args.k_out_token += unit / 2);
    REFUSED("its heads without end", args.k_out_head = (size_t)1 << 61);
    REFUSED("its tokens without end", args.k_out_token = (size_t)1 << 61);
    ANSWER(cudaErrorInvalidValue, "64-bit positions misaligned",
           args.positions = (const uint8_t *)args.positions + 4;
           args.positions_are_64 = 1);
}

static void refuse_scales(good_call g)
{
    static const float bad[] = {0.0f, -0.0f, -1.0f, NAN, INFINITY};

    for (size_t i = 0; i < 5; i++) {
        for (int sense = FP4_KV_ENC; sense <= FP4_KV_DEC; sense++) {
            REFUSED("K's scale", args.k.scale = bad[i]; args.k.sense = sense);
            REFUSED("V's scale", args.v.scale = bad[i]; args.v.sense = sense);
        }
    }
    REFUSED("an amax of NaN", args.k.scale = NAN; args.k.sense = FP4_KV_AMAX);
    REFUSED("an amax below 0", args.v.scale = -1.0f; args.v.sense = FP4_KV_AMAX);
    ACCEPTED("an amax of 0", args.k.scale = 0; args.k.sense = FP4_KV_AMAX);
    ACCEPTED("an infinite amax", args.k.scale = INFINITY; args.k.sense = FP4_KV_AMAX);
    REFUSED("without a reciprocal", args.k.scale = 0x1p-128f; args.k.sense = FP4_KV_ENC);
    REFUSED("without a reciprocal", args.v.scale = FP4_F32_MAX; args.v.sense = FP4_KV_DEC);
    ACCEPTED("small", args.k.scale = 0x1.8p-127f; args.k.sense = FP4_KV_ENC);
    ACCEPTED("on the device", args.k.scale = 0;
             args.k.scale_device = (const float *)(const void *)g.d.scales.bytes);
    REFUSED("K's sense", args.k.sense = SENSES);
    REFUSED("V's sense", args.v.sense = SENSES);
    REFUSED("K's sense on the device", args.k.sense = SENSES;
            args.k.scale_device = (const float *)(const void *)g.d.scales.bytes);
    REFUSED("V's sense on the device", args.v.sense = SENSES;
            args.v.scale_device = (const float *)(const void *)g.d.scales.bytes);
    REFUSED("misaligned",
            args.k.scale_device = (const float *)(const void *)(g.d.scales.bytes + 2));
}

GPU_TEST(kv_append_errors, null_pointers){FOR_EACH_CALL(BY_SLOTS, refuse_null_pointers(g))}

GPU_TEST(kv_append_errors, pages){FOR_EACH_CALL(BY_TABLE, refuse_pages(g))}

GPU_TEST(kv_append_errors, shapes){FOR_EACH_CALL(BY_SLOTS, refuse_shapes(g))}

GPU_TEST(kv_append_errors, rope){FOR_EACH_CALL(BY_SLOTS, refuse_rope(g))}

GPU_TEST(kv_append_errors, scales)
{
    FOR_EACH_CALL(BY_SLOTS, refuse_scales(g))
}

/* ---------------------------------------------------------------- between other kernels */

#if defined(FP4_SIMT) /* on the CPU nothing happens at the same time: tests/simt */
enum { ROUNDS = 3 };
#else
enum { ROUNDS = 40 };
#endif
enum { PRODUCER_SLEEP = 40000, CONSUMER_SLEEP = 15000 };

/* A case, and for each round K, V and slots of its own, on the device one behind the other, as what
   each round leaves is. */
typedef struct chain {
    append_case c;
    append_device d;
    append_inputs *in[ROUNDS];
    gpu_buffer all_k, all_v, all_slots, all_cache, all_k_out;
    cudaStream_t stream;
} chain;

static void put_round(gpu_buffer all, size_t round, const void *from, size_t bytes)
{
    GPU_OK(cudaMemcpy(all.bytes + round * bytes, from, bytes, cudaMemcpyHostToDevice));
}

static chain *chain_new(append_case c, uint64_t seed)
{
    chain *k = (chain *)host_zeros(sizeof *k);
    uint64_t state = seed;

    k->c = c;
    for (size_t round = 0; round < ROUNDS; round++) {
        append_inputs *in = append_inputs_new(&c, &state);
        k->in[round] = in;
        if (round == 0) {
            k->d = append_device_new(&c, in);
            k->all_k = gpu_buffer_new(ROUNDS * in->k_bytes, 0);
            k->all_v = gpu_buffer_new(ROUNDS * in->v_bytes, 0);
            k->all_slots = gpu_buffer_new(ROUNDS * in->slots_bytes, 0);
            k->all_cache = gpu_buffer_new(ROUNDS * k->d.cache.size, 0);
            k->all_k_out = gpu_buffer_new(ROUNDS * k->d.k_out.size, 0);
        }
        put_round(k->all_k, round, in->k, in->k_bytes);
        put_round(k->all_v, round, in->v, in->v_bytes);
        put_round(k->all_slots, round, in->slots, in->slots_bytes);
        /* the rest is that of the first round */
        memcpy(in->positions, k->in[0]->positions, in->positions_bytes);
        memcpy(in->cos_sin, k->in[0]->cos_sin, POSITIONS * c.rotary * sizeof(float));
        memcpy(in->encs, k->in[0]->encs, sizeof in->encs);
    }
    gpu_poison(k->d.cache, 0x7f);
    gpu_poison(k->d.k_out, 0x7f);
    GPU_OK(cudaStreamCreateWithFlags(&k->stream, cudaStreamNonBlocking));
    gpu_finish("chain_new");
    return k;
}

/* What was there after each round, against the host reference. */
static void chain_end(chain *k)
{
    const size_t cache = k->d.cache.size, k_out = k->d.k_out.size;
    append_expected e = append_expect(&k->c, k->in[0], 0x7f);
    uint8_t *caches, *k_outs;

    GPU_OK(cudaStreamSynchronize(k->stream));
    caches = (uint8_t *)gpu_copy_of(k->all_cache);
    k_outs = (uint8_t *)gpu_copy_of(k->all_k_out);
    for (size_t round = 0; round < ROUNDS; round++) {
        if (round != 0) {
            append_apply(&k->c, k->in[round], &e);
        }
        host_expect_bytes(caches + round * cache, e.cache, cache, append_text(&k->c));
        elements_expect(k_outs + round * k_out, e.k_out, k_out / append_size(&k->c),
                        k->c.unit->dtype, append_text(&k->c), 0);
        append_inputs_free(k->in[round]);
    }
    append_expect_written(&k->c, &k->d, &e, 1, 0x7f);
    GPU_OK(cudaStreamDestroy(k->stream));
    gpu_buffer_free(k->all_k);
    gpu_buffer_free(k->all_v);
    gpu_buffer_free(k->all_slots);
    gpu_buffer_free(k->all_cache);
    gpu_buffer_free(k->all_k_out);
    append_device_free(k->d);
    append_expected_free(e);
    free(caches);
    free(k_outs);
    free(k);
}

/* Behind a producer that starts them at once and writes K, V and the slots late, in front of a
   consumer that spoils K and reads late. */
static void run_chain(append_case c, uint64_t seed)
{
    chain *k = chain_new(c, seed);
    const size_t k_bytes = k->d.k.size, v_bytes = k->d.v.size, slots = k->d.slots.size;
    const size_t cache = k->d.cache.size, k_out = k->d.k_out.size;

    for (size_t round = 0; round < ROUNDS; round++) {
        gpu_copy in, out;
        memset(&in, 0, sizeof in);
        memset(&out, 0, sizeof out);
        in.to[0] = k->d.k.bytes;
        in.from[0] = k->all_k.bytes + round * k_bytes;
        in.bytes[0] = k_bytes;
        in.to[1] = k->d.v.bytes;
        in.from[1] = k->all_v.bytes + round * v_bytes;
        in.bytes[1] = v_bytes;
        in.to[2] = k->d.slots.bytes;
        in.from[2] = k->all_slots.bytes + round * slots;
        in.bytes[2] = slots;
        in.sleep = PRODUCER_SLEEP;
        out.to[0] = k->all_cache.bytes + round * cache;
        out.from[0] = k->d.cache.bytes;
        out.bytes[0] = cache;
        out.to[1] = k->all_k_out.bytes + round * k_out;
        out.from[1] = k->d.k_out.bytes;
        out.bytes[1] = k_out;
        out.fill = k->d.k.bytes;
        out.fill_bytes = k_bytes;
        out.sleep = CONSUMER_SLEEP;
        GPU_OK(gpu_produce(&in, k->stream));
        GPU_OK(c.unit->launch(&k->d.args, 1, k->stream));
        GPU_OK(gpu_consume(&out, k->stream));
    }
    chain_end(k);
}

/* A case of few tokens and, on the GPU, one that is large enough for the other kernel. */
static append_case chain_case(const append_unit *unit, size_t i)
{
    append_case c = append_case_of(unit, i == 0 ? 9 : gpu_is_reduced() ? 40 : 2100, 4, 128, 128);

    c.rotary = 128;
    c.has_k_out = 1;
    c.bad = 1;
    c.slots_are_64 = 1;
    c.v.sf_layout = FP4_KV_SF_4X1;
    return c;
}

Test(kv_append, behind_a_late_producer, .init = gpu_begin, .timeout = 300)
{
    for (size_t i = 0; i < 2 * APPEND_UNITS; i++) {
        run_chain(chain_case(&append_units[i / 2], i % 2), 1350 + i);
    }
}

/* In a graph; inputs and outputs are copied outside of it. */
GPU_TEST(kv_append, replayed_from_a_graph)
{
    const enum cudaMemcpyKind kind = cudaMemcpyDeviceToDevice;

    for (size_t i = 0; i < 2 * APPEND_UNITS; i++) {
        chain *k = chain_new(chain_case(&append_units[i / 2], i % 2), 1360 + i);
        const size_t k_bytes = k->d.k.size, v_bytes = k->d.v.size, slots = k->d.slots.size;
        const size_t cache = k->d.cache.size, k_out = k->d.k_out.size;
        cudaGraphExec_t executable;
        cudaGraph_t graph;
        size_t nodes = 0;
        GPU_OK(cudaStreamBeginCapture(k->stream, cudaStreamCaptureModeGlobal));
        GPU_OK(k->c.unit->launch(&k->d.args, (int)(i / 2 % 2), k->stream));
        GPU_OK(cudaStreamEndCapture(k->stream, &graph));
        GPU_OK(cudaGraphGetNodes(graph, NULL, &nodes));
        CHECK_EQ(nodes, 1, "kernels captured");
        GPU_OK(cudaGraphInstantiate(&executable, graph, 0));
        GPU_OK(cudaGraphDestroy(graph));
        for (size_t round = 0; round < ROUNDS; round++) {
            GPU_OK(cudaMemcpyAsync(k->d.k.bytes, k->all_k.bytes + round * k_bytes, k_bytes, kind,
                                   k->stream));
            GPU_OK(cudaMemcpyAsync(k->d.v.bytes, k->all_v.bytes + round * v_bytes, v_bytes, kind,
                                   k->stream));
            GPU_OK(cudaMemcpyAsync(k->d.slots.bytes, k->all_slots.bytes + round * slots, slots,
                                   kind, k->stream));
            GPU_OK(cudaGraphLaunch(executable, k->stream));
            GPU_OK(cudaMemcpyAsync(k->all_cache.bytes + round * cache, k->d.cache.bytes, cache,
                                   kind, k->stream));
            GPU_OK(cudaMemcpyAsync(k->all_k_out.bytes + round * k_out, k->d.k_out.bytes, k_out,
                                   kind, k->stream));
        }
        GPU_OK(cudaGraphExecDestroy(executable));
        chain_end(k);
    }
}

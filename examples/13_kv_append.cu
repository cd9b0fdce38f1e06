/*
 * 13_kv_append.cu - new K and V of tokens to their places in a paged NVFP4 KV cache: K turned by
 * RoPE, both quantized, in one launch.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/13_kv_append.cu -o kv_append && ./kv_append
 *
 * To change the input type, edit one word below (or -DINPUT=f16).
 *
 * How it works: a thread has two pieces of 16 elements of a head of K, and two of V, of one token
 * after the other. NeoX's RoPE makes pairs of elements half of what is turned apart, and so the two
 * pieces of K are; GPT-J's pairs are neighbours, in whatever pieces. K is loaded while V is worked
 * on, and the next V while K is; with RoPE, which needs the registers, the next token's K and V are
 * copied to shared memory meanwhile. The threads of a token are neighbours, so that its row of
 * cosines and sines comes from memory once, and its heads are stored side by side, as they are in
 * NHD. In HND the tokens of a head are, and so neighbouring threads have neighbouring tokens and go
 * from head to head, with what turns them in registers. Scale bytes are stored as words of four
 * where that can be: of four columns of a row, or four tokens of a tile. Where there are few
 * tokens, a thread has one piece, so that less comes one after the other; and so it has where the
 * pieces of a head, or what of it is turned, are no pairs.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/rope.cuh>
#include <fp4/device/store.cuh>
#include <fp4/divisor.h>
#include <fp4/kv_cache.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif

/* What the word stands for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define NARROW_f32 fp4_f32x16_to_u32x16
#define NARROW_f16 fp4_f32x16_to_f16x16
#define NARROW_bf16 fp4_f32x16_to_bf16x16
#define ONE_f32(p, i) (((const float *)(p))[i]) /* an element alone */
#define ONE_f16(p, i) fp4_f16_to_f32(((const uint16_t *)(p))[i])
#define ONE_bf16(p, i) fp4_bf16_to_f32(((const uint16_t *)(p))[i])

#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define NARROW JOIN(NARROW_, INPUT, )
#define STORE JOIN(fp4_store_u32x, WORDS, )
#define ONE JOIN(ONE_, INPUT, )
typedef JOIN(fp4_u32x, WORDS, ) raw;

enum {
    ELEMENT = WORDS / 4, /* bytes of an input element */
    PIECE = 16 * ELEMENT,
    CODES = 8, /* bytes of a piece's codes */
    THREADS = 128,
    /* CTAs of a multiprocessor, so many that nothing spills; one more without RoPE */
    RESIDENT = FP4_ARCH != 900 || ELEMENT == 4 ? 3 : 4,
    TURNS = 8 /* tokens of a thread, at most */
};

/* Sizes at which the launcher changes its mind. */
#if !defined(SMALL)
#define SMALL (1 << 17) /* pieces of all tokens: up to here one a thread */
#define FOUR 2048       /* CTAs of a token a thread; from here on it has four */
#define EIGHT 32768     /* from here on eight */
#endif
#if !defined(IS_BY_HEADS) /* whether a thread goes from head to head, not from token to token */
#define IS_BY_HEADS(order) ((order) == FP4_KV_HND)
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * A global scale: a number, or where on the device it is.
 *
 * range    as fp4_kv_can_encode has it. A device scale that is not: unspecified codes.
 */
typedef struct kv_scale {
    const float *device;
    fp4_kv_sense sense;
    float value;
} kv_scale;

/**
 * New K or V, and its cache.
 *
 * shape    x: tokens x heads x dim; head h of token t starts at element t * x_token + h * x_head. x
 *          null: none of it. x, x_token, x_head: multiples of 16 bytes.
 *          q, sf: the cache, as pages says; overlaps no input. q, q_stride: multiples of 8 bytes.
 *          sf, sf_stride: any; scale bytes can be stored as words where they are multiples of 8, of
 *          4 if 4x1.
 *          Each stride is under 4 GiB; pages and tokens of a page are below 2^31, heads below 2^22.
 */
typedef struct append_tensor {
    const void *x;
    size_t x_token, x_head;
    uint8_t *q, *sf;
    fp4_kv_pages pages;
    kv_scale global;
} append_tensor;

/**
 * Both, or one. Of two, pages, tokens, heads and order of the caches are the same. tokens: below
 * 2^31.
 *
 * place    slots: token i goes to page slots[i] / T, place slots[i] % T, of pages of T tokens;
 *          pages * T at most 2^31.
 *          Without slots: to the page that is entry positions[i] / T of sequence batch_indices[i],
 *          place positions[i] % T. Sequence b, of `batches`, has the max_pages entries from
 *          tables[b * table_stride] on; or, where indptr is not null, those from tables[indptr[b]]
 *          up to tables[indptr[b + 1] - 1], and max_pages is how many all have together.
 *          max_pages * T at most 2^31.
 * rope     of K, where cos_sin is not null: max_position rows of `rotary` floats (rope.h), aligned
 *          to 16 bytes, max_position below 2^32; row positions[i] is token i's. Fast where what is
 *          turned is whole pieces: rotary % 32 == 0, of GPT-J % 16 == 0.
 *          rounded: K, turned, is rounded to its type, and that is quantized: the bytes of two
 *          kernels one after the other. k_out: null, or where K goes, turned and rounded, with
 *          strides of its own, multiples of 16 bytes too. It overlaps nothing, no token or head of
 *          its own either.
 * skipped  null, or a counter that is increased by the number of tokens that were skipped: those
 *          without a place, whose slot, page, batch index or position is negative or out of range,
 *          and with RoPE those whose position is not in the table. Nothing of them is written to a
 *          cache; k_out is still written if the position is in the table.
 * range    which of two tokens with the same place ends there is not defined; it may be parts of
 *          both.
 */
typedef struct append_args {
    append_tensor k, v;
    size_t tokens;
    fp4_integers slots;
    fp4_integers positions, tables;
    const int32_t *batch_indices, *indptr;
    size_t batches, max_pages, table_stride;
    const float *cos_sin;
    size_t max_position, rotary;
    fp4_rope_style style;
    int rounded;
    void *k_out;
    size_t k_out_token, k_out_head;
    uint32_t *skipped;
} append_args;

/* ------------------------------------------------------------------------------ kernels */

/* How scale bytes are stored: one by one, or of four tokens at a time, as flush has it. */
enum { BY_BYTES = 0, BY_ROWS = 1, BY_TILES = 2 };

/* K or V as kernels take it. Bytes from token to token, head to head, page to page. */
typedef struct append_side {
    const uint8_t *x;
    uint8_t *q, *sf;
    uint32_t x_token, x_head;
    uint32_t q_page, q_token, sf_page, sf_token;
    size_t q_head, sf_head;
    uint32_t tile;       /* linear: all ones; 4x1: all but those that say which of four tokens */
    uint32_t pieces;     /* of a head; a row of the cache has 8 bytes and a scale byte of each */
    uint32_t apart;      /* the first so many of them are NeoX's x, as many more its y */
    fp4_divisor in_head; /* what a head has for threads to do: pieces, or pairs of them */
    uint32_t by_words;   /* BY_BYTES, BY_ROWS, BY_TILES */
    kv_scale global;
} append_side;

typedef struct append_job {
    append_side k, v;
    uint32_t tokens, heads, pages;
    uint32_t of_token, of_cta, ctas; /* threads of a token, tokens of a CTA, CTAs of a token */
    uint32_t turns;                  /* tokens of a thread, at most */
    uint32_t turned;                 /* elements of a head of K that are turned */
    uint32_t is_whole;               /* they are whole pieces */
    uint32_t keeps;                  /* something is done with them but to quantize them */
    fp4_divisor by_threads, by_ctas, by_page;
    size_t end; /* of slots, or of positions that have a page */
    append_args a;
} append_job;

/* What a thread is to do: something of a head of a token, which may be none. */
typedef struct append_task {
    uint32_t token, i; /* number i of the threads of the token */
} append_task;

static __device__ append_task task_of(const append_job &w)
{
    const uint32_t group = fp4_divide(blockIdx.x, w.by_ctas);
    const uint32_t in_cta = fp4_divide(threadIdx.x, w.by_threads);
    append_task t;

    t.token = group * w.of_cta + in_cta;
    t.i = (blockIdx.x - group * w.ctas) * blockDim.x + threadIdx.x - in_cta * w.of_token;
    if (in_cta >= w.of_cta || t.i >= w.of_token) { /* threads that are left over */
        t.token = w.tokens;
    }
    return t;
}

/* The low word, and the high one from memory or all sign. */
static __device__ long long integer_at(fp4_integers a, size_t i)
{
    const int32_t *at = (const int32_t *)((const uint8_t *)a.data + (i << (a.is_64 ? 3 : 2)));
    const int32_t low = at[0], high = a.is_64 ? at[1] : low >> 31;

    return (long long)((size_t)(uint32_t)high << 32 | (uint32_t)low);
}

/* 0 <= i < n, for n < 2^63 */
static __device__ int is_below(long long i, size_t n)
{
    return (size_t)i < n;
}

/* What the arrays say of a token. */
typedef struct append_told {
    long long slot, position; /* slot: or the sequence */
} append_told;

static __device__ append_told ask(const append_job &w, uint32_t token)
{
    append_told t = {0, 0};

    if (w.a.positions.data != NULL) {
        t.position = integer_at(w.a.positions, token);
    }
    t.slot = w.a.slots.data != NULL ? integer_at(w.a.slots, token) : w.a.batch_indices[token];
    return t;
}

/* Where a token goes, if anywhere; and whether RoPE of K can have it. */
typedef struct append_destination {
    uint32_t page, place;
    int is_placed, is_known;
} append_destination;

/* The page of a position of a sequence, or -1. */
static __device__ long long page_at(const append_job &w, long long sequence, uint32_t entry)
{
    size_t from, to;

    if (!is_below(sequence, w.a.batches)) {
        return -1;
    }
    from = (size_t)sequence * w.a.table_stride;
    to = from + w.a.max_pages;
    if (w.a.indptr != NULL) {
        const int32_t first = w.a.indptr[sequence], end = w.a.indptr[sequence + 1];
        if (first < 0 || !is_below(end, w.a.max_pages + 1)) {
            return -1;
        }
        from = (size_t)first;
        to = (size_t)end;
    }
    return from + entry < to ? integer_at(w.a.tables, from + entry) : -1;
}

static __device__ append_destination destination_of(const append_job &w, const append_told &t)
{
    const int has_slots = w.a.slots.data != NULL;
    const long long n = has_slots ? t.slot : t.position;
    append_destination d;

    d.is_known = w.a.cos_sin == NULL || is_below(t.position, w.a.max_position);
    d.is_placed = d.is_known && is_below(n, w.end);
    d.page = fp4_divide((uint32_t)n, w.by_page);
    d.place = (uint32_t)n - d.page * w.by_page.by;
    if (!has_slots && d.is_placed) {
        const long long page = page_at(w, t.slot, d.page);
        d.is_placed = is_below(page, w.pages);
        d.page = (uint32_t)page;
    }
    return d;
}

static __device__ float global_enc(const kv_scale &s)
{
    return fp4_kv_enc_of(s.device == NULL ? s.value : *s.device, s.sense);
}

/* A piece of a head, or two, as they are for token 0 and the first place of page 0. */
typedef struct append_part {
    const uint8_t *x;
    uint8_t *q, *sf;
    int is_real;              /* there is such a head */
    uint32_t head, first;     /* piece */
    uint32_t apart, sf_apart; /* pieces to the second, and bytes between their scale bytes */
} append_part;

/* From the scale bytes of a tile to that of a piece, of the first of four tokens. 4x1: a quarter of
   the bytes of the four is in the row of each. */
static __device__ uint32_t sf_in_tile(const append_side &s, uint32_t piece)
{
    const uint32_t k = 4 * piece, quarter = (uint32_t)(k >= s.pieces) +
                                            (uint32_t)(k >= 2 * s.pieces) +
                                            (uint32_t)(k >= 3 * s.pieces);
    return s.tile == 0xffffffffu ? piece : quarter * s.sf_token + k - quarter * s.pieces;
}

static __device__ append_part part_of(const append_job &w, const append_side &s, uint32_t head,
                                      uint32_t piece)
{
    append_part p = {};

    p.is_real = s.pieces != 0 && head < w.heads;
    p.x = p.is_real ? s.x + head * (size_t)s.x_head + piece * PIECE : s.x;
    p.q = s.q + head * s.q_head + piece * CODES;
    p.sf = s.sf + head * s.sf_head + sf_in_tile(s, piece);
    p.head = head;
    p.first = piece;
    return p;
}

/* Two pieces of a head, number k of them: half a head apart, which in 4x1 is two rows; or, as the
   constant is_neox says, NeoX's pairs, and halves of the rest. */
static __device__ append_part pair_at(const append_job &w, const append_side &s, uint32_t head,
                                      uint32_t k, const int is_neox)
{
    append_part p;

    if (!is_neox) {
        p = part_of(w, s, head, k);
        p.apart = s.pieces / 2;
        p.sf_apart = s.tile == 0xffffffffu ? s.pieces / 2 : 2 * s.sf_token;
    } else {
        const int is_turned = k < s.apart;
        p = part_of(w, s, head, is_turned ? k : k + s.apart);
        p.apart = is_turned ? s.apart : s.pieces / 2 - s.apart;
        p.sf_apart = sf_in_tile(s, p.first + p.apart) - sf_in_tile(s, p.first);
    }
    return p;
}

static __device__ append_part pair_of(const append_job &w, const append_side &s, uint32_t i,
                                      const int is_neox)
{
    const uint32_t head = fp4_divide(i, s.in_head);
    return pair_at(w, s, head, i - head * s.in_head.by, is_neox);
}

/* Where a row of the cache has a thread's first piece. */
typedef struct append_row {
    uint8_t *q, *sf;
} append_row;

static __device__ append_row row_of(const append_side &s, const append_part &p, uint32_t page,
                                    uint32_t place)
{
    append_row r;

    r.q = p.q + page * (size_t)s.q_page + place * (size_t)s.q_token;
    r.sf =
        p.sf + page * (size_t)s.sf_page + (place & s.tile) * (size_t)s.sf_token + (place & ~s.tile);
    return r;
}

/* Quantizes a piece and stores its codes; answers its scale byte. */
static __device__ __forceinline__ uint32_t put(uint8_t *q, fp4_f32x16 x, float enc)
{
    const fp4_nvfp4_block b = fp4_nvfp4_quantize(x, enc);

    fp4_store_e2m1x16(q, b.q);
    return b.sf;
}

/* Stores a piece of K, turned, where that is asked for, and answers what is to be quantized. */
static __device__ __forceinline__ fp4_f32x16 keep(const append_job &w, uint32_t token,
                                                  uint32_t head, uint32_t piece, fp4_f32x16 x)
{
    if (w.a.k_out != NULL) {
        STORE((uint8_t *)w.a.k_out + (token * w.a.k_out_token + head * w.a.k_out_head) * ELEMENT +
                  piece * PIECE,
              NARROW(x));
    }
    return w.a.rounded ? WIDEN(NARROW(x)) : x;
}

/* A position's row of the table. */
static __device__ const float *cosines(const append_job &w, uint32_t position)
{
    return w.a.cos_sin + (size_t)position * w.turned;
}

/* What the two pieces of K that a thread has need of a row of the table, sixteen pairs: NeoX's
   between the two pieces, or eight of GPT-J for each. */
typedef struct append_turner {
    uint32_t at, apart;      /* the first eight pairs; from there to the second */
    int is_first, is_second; /* the piece is turned */
} append_turner;

static __device__ append_turner turner_of(const append_job &w, const append_part &p,
                                          const int is_neox)
{
    const uint32_t second = p.first + p.apart;
    append_turner t;

    t.is_first = is_neox ? p.first < w.k.apart : p.first * 16 < w.turned;
    t.is_second = is_neox ? t.is_first : second * 16 < w.turned;
    t.at = t.is_first ? p.first * (is_neox ? 16 : 8) : 0;
    t.apart = is_neox ? 8 : t.is_second ? p.apart * 8 : 0;
    return t;
}

typedef struct append_angles {
    fp4_f32x8 cos0, sin0, cos1, sin1;
} append_angles;

static __device__ __forceinline__ append_angles load_angles(const append_job &w,
                                                            const append_turner &t,
                                                            uint32_t position)
{
    const float *cos = cosines(w, position) + t.at, *sin = cos + w.turned / 2;
    append_angles a;

    a.cos0 = fp4_load_f32x8(cos);
    a.sin0 = fp4_load_f32x8(sin);
    a.cos1 = fp4_load_f32x8(cos + t.apart);
    a.sin1 = fp4_load_f32x8(sin + t.apart);
    return a;
}

static __device__ __forceinline__ void turn_pair(const append_turner &t, const append_angles &a,
                                                 fp4_f32x16 *x, fp4_f32x16 *y, const int is_neox)
{
    if (is_neox) {
        if (t.is_first) {
            fp4_rope_neox_x16(x, y, fp4_join_x8(a.cos0, a.cos1), fp4_join_x8(a.sin0, a.sin1));
        }
    } else {
        *x = t.is_first ? fp4_rope_gptj_x16(*x, a.cos0, a.sin0) : *x;
        *y = t.is_second ? fp4_rope_gptj_x16(*y, a.cos1, a.sin1) : *y;
    }
}

/* What the threads of a token have to know of it: its page, its place there, its position, and: */
enum {
    IS_PLACED = 1, /* it goes to a page */
    IS_KNOWN = 2,  /* RoPE of K can have it */
    IS_OF_FOUR = 4 /* a thread's tokens 4i to 4i + 3 are in a tile */
};

/* That of all tokens of a CTA, found out by its threads in parallel; those that are skipped are
   counted. */
static __device__ void plan(const append_job &w, uint4 *stops)
{
    const uint32_t group = fp4_divide(blockIdx.x, w.by_ctas), n = w.turns * w.of_cta;
    const int counts = group * w.ctas == blockIdx.x && w.a.skipped != NULL; /* not its sisters */

    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) {
        uint4 s = make_uint4(0, 0, 0, 0);
        if (group * n + i < w.tokens) {
            const append_told told = ask(w, group * n + i);
            const append_destination d = destination_of(w, told);
            s = make_uint4(d.page, d.place, d.is_known ? (uint32_t)told.position : 0,
                           (d.is_placed ? IS_PLACED : 0) | (d.is_known ? IS_KNOWN : 0));
            if (!d.is_placed && counts) {
                fp4_ptx_atomic_inc(w.a.skipped, 0xffffffffu);
            }
        }
        stops[i] = s;
    }
    fp4_ptx_barrier();
    if ((w.k.by_words | w.v.by_words) & BY_TILES) {
        for (uint32_t i = 4 * threadIdx.x; i < n; i += 4 * blockDim.x) {
            const uint4 a = stops[i], b = stops[i + 1], c = stops[i + 2], d = stops[i + 3];
            if ((a.w & b.w & c.w & d.w & IS_PLACED) && a.x == b.x && a.x == c.x && a.x == d.x &&
                a.y % 4 == 0 && b.y == a.y + 1 && c.y == a.y + 2 && d.y == a.y + 3) {
                for (uint32_t k = i; k < i + 4; k++) {
                    stops[k].w |= IS_OF_FOUR;
                }
            }
        }
        fp4_ptx_barrier();
    }
}

/* The scale bytes of four tokens, a byte of each word for each. */
typedef struct append_bytes {
    uint32_t first, second; /* of the two pieces */
} append_bytes;

/* What becomes of those of two pieces: they are stored, or kept until there are four, this one
   number `turn` of them. */
static __device__ __forceinline__ void take(append_bytes *four, int is_kept, uint8_t *sf,
                                            const append_part &p, uint32_t turn, uint32_t first,
                                            uint32_t second)
{
    if (is_kept) {
        four->first |= first << (turn * 8);
        four->second |= second << (turn * 8);
    } else {
        sf[0] = (uint8_t)first;
        sf[p.sf_apart] = (uint8_t)second;
    }
}

/* Whether a token's are kept. */
static __device__ int is_kept(const append_side &s, uint32_t of)
{
    return s.by_words == BY_ROWS || (s.by_words == BY_TILES && (of & IS_OF_FOUR));
}

/* Stores what has been kept. In a tile the bytes of four tokens are neighbours; in rows those of
   four columns are, and so four lanes change theirs for four columns of one token each. stops:
   those of the four tokens; all lanes of the warp call. */
static __device__ __forceinline__ void flush(append_bytes *four, const append_side &s,
                                             const append_part &p, const uint4 *stops)
{
    if (s.by_words == BY_ROWS) {
        const uint32_t lane = threadIdx.x % 4;
        const uint4 mine = stops[lane];
        const uint32_t first = fp4_sf_words(four->first, 1), second = fp4_sf_words(four->second, 1);
        if (p.is_real && (mine.w & IS_PLACED)) {
            uint8_t *sf = row_of(s, p, mine.x, mine.y).sf - lane;
            if (p.sf_apart == 4) {
                fp4_ptx_store8(sf, first, second);
            } else {
                fp4_ptx_store4(sf, first);
                fp4_ptx_store4(sf + p.sf_apart, second);
            }
        }
    } else if (s.by_words == BY_TILES && p.is_real && (stops[0].w & IS_OF_FOUR)) {
        uint8_t *sf = row_of(s, p, stops[0].x, stops[0].y).sf;
        fp4_ptx_store4(sf, four->first);
        fp4_ptx_store4(sf + p.sf_apart, four->second);
    }
    four->first = four->second = 0;
}

/* A thread's two pieces of K and of V on their way through shared memory: 16 bytes of each thread
   side by side. Nobody else reads them, so no barrier is needed. */
typedef struct append_ahead {
    uint4 k[2][ELEMENT][THREADS], v[2][ELEMENT][THREADS];
} append_ahead;

/* The pieces at x, and so many behind it. */
static __device__ __forceinline__ void bring(uint4 (*to)[ELEMENT][THREADS], const uint8_t *x,
                                             uint32_t apart)
{
#pragma unroll
    for (uint32_t i = 0; i < ELEMENT; i++) {
        fp4_ptx_copy16_async(&to[0][i][threadIdx.x], x + 16 * i);
        fp4_ptx_copy16_async(&to[1][i][threadIdx.x], x + apart * PIECE + 16 * i);
    }
}

static __device__ __forceinline__ raw brought(const uint4 (*from)[THREADS])
{
    raw r;

#pragma unroll
    for (uint32_t i = 0; i < ELEMENT; i++) {
        const uint4 four = from[i][threadIdx.x];
        r.v[4 * i] = four.x;
        r.v[4 * i + 1] = four.y;
        r.v[4 * i + 2] = four.z;
        r.v[4 * i + 3] = four.w;
    }
    return r;
}

/* Two pieces of K and two of V a thread, of one token after the other. With RoPE they come through
   shared memory, K and V of the next token on their way as soon as those of this are in registers;
   without, K is on its way while V is worked on, and the next V while K is. A thread that has none
   of K or V loads something of it all the same. Constants: whether there is RoPE, and which. */
static __device__ __forceinline__ void append_pairs(const append_job &w, const int has_table,
                                                    const int is_neox)
{
    __shared__ uint4 stops[TURNS * THREADS / 2];
    __shared__ append_ahead ahead; /* of kernels with RoPE */
    const append_task t = task_of(w);
    const append_part k = pair_of(w, w.k, t.i, is_neox), v = pair_of(w, w.v, t.i, 0);
    const append_turner r = turner_of(w, k, is_neox);
    const uint32_t token = t.token * w.turns;
    /* none for a thread that is left over, whose product may be over 2^32 */
    const uint32_t end = t.token >= w.tokens || token >= w.tokens ? 0
                         : w.tokens - token < w.turns             ? w.tokens - token
                                                                  : w.turns;
    const uint8_t *k_x = k.x + token * (size_t)w.k.x_token;
    const uint8_t *v_x = v.x + token * (size_t)w.v.x_token;
    const uint4 *at = stops + fp4_divide(threadIdx.x, w.by_threads) * w.turns;
    append_bytes of_k = {0, 0}, of_v = {0, 0};
    raw k0 = {}, k1 = {}, v0 = {}, v1 = {};

    fp4_pdl_wait();
    fp4_pdl_trigger();
    if (end != 0 && has_table) {
        bring(ahead.k, k_x, k.apart);
        bring(ahead.v, v_x, v.apart);
    } else if (end != 0) {
        v0 = LOAD(v_x);
        v1 = LOAD(v_x + v.apart * PIECE);
    }
    const float k_enc = global_enc(w.k.global), v_enc = global_enc(w.v.global);
    plan(w, stops);
    for (uint32_t turn = 0; turn < end; turn++) {
        const uint4 stop = at[turn];
        append_angles angles;
        if (has_table) {
            fp4_ptx_copies_wait();
            v0 = brought(ahead.v[0]);
            v1 = brought(ahead.v[1]);
            angles = load_angles(w, r, stop.z);
        } else {
            k0 = LOAD(k_x);
            k1 = LOAD(k_x + k.apart * PIECE);
        }
        k_x += w.k.x_token;
        v_x += w.v.x_token;
        if ((stop.w & IS_PLACED) && v.is_real) {
            const append_row row = row_of(w.v, v, stop.x, stop.y);
            const uint32_t first = put(row.q, WIDEN(v0), v_enc);
            const uint32_t second = put(row.q + v.apart * CODES, WIDEN(v1), v_enc);
            take(&of_v, is_kept(w.v, stop.w), row.sf, v, turn % 4, first, second);
        }
        if (has_table) {
            k0 = brought(ahead.k[0]);
            k1 = brought(ahead.k[1]);
        }
        if (turn + 1 < end && has_table) {
            bring(ahead.k, k_x, k.apart);
            bring(ahead.v, v_x, v.apart);
        } else if (turn + 1 < end) {
            v0 = LOAD(v_x);
            v1 = LOAD(v_x + v.apart * PIECE);
        }
        fp4_f32x16 x = WIDEN(k0), y = WIDEN(k1);
        if (has_table && (stop.w & IS_KNOWN) && k.is_real) {
            turn_pair(r, angles, &x, &y, is_neox);
            if (w.keeps) {
                x = keep(w, token + turn, k.head, k.first, x);
                y = keep(w, token + turn, k.head, k.first + k.apart, y);
            }
        }
        if ((stop.w & IS_PLACED) && k.is_real) {
            const append_row row = row_of(w.k, k, stop.x, stop.y);
            const uint32_t first = put(row.q, x, k_enc);
            const uint32_t second = put(row.q + k.apart * CODES, y, k_enc);
            take(&of_k, is_kept(w.k, stop.w), row.sf, k, turn % 4, first, second);
        }
        if ((turn % 4 == 3 || turn + 1 == end) && (w.k.by_words | w.v.by_words) != 0) {
            flush(&of_v, w.v, v, at + turn / 4 * 4);
            flush(&of_k, w.k, k, at + turn / 4 * 4);
        }
    }
}

/* 1 in all lanes of four tokens in one tile, `lanes` lanes each. */
static __device__ uint32_t is_in_tile(const append_destination &d, uint32_t lanes)
{
    const uint32_t first = d.place - threadIdx.x / lanes % 4;
    uint32_t is = d.is_placed && first % 4 == 0;

#pragma unroll
    for (uint32_t k = 1; k <= 2; k++) {
        const int by = (int)(k * lanes);
        const uint32_t page = fp4_ptx_shuffle_xor_u32(0xffffffffu, d.page, by);
        const uint32_t other = fp4_ptx_shuffle_xor_u32(0xffffffffu, first, by);
        is &= (uint32_t)(page == d.page && other == first);
    }
    is &= fp4_ptx_shuffle_xor_u32(0xffffffffu, is, (int)lanes);
    return is & fp4_ptx_shuffle_xor_u32(0xffffffffu, is, (int)(2 * lanes));
}

/* The same as flush of four heads. In a tile lanes change theirs for those of four tokens and one
   head, in rows for those of four columns. sf: where the first byte of the first head is. */
static __device__ __forceinline__ void flush_heads(const append_bytes &four, const append_side &s,
                                                   const append_part &p, uint8_t *sf, int is_placed,
                                                   uint32_t heads, uint32_t lanes)
{
    const uint32_t by = s.by_words == BY_ROWS ? 1 : lanes, lane = threadIdx.x / by % 4;
    const uint32_t first = fp4_sf_words(four.first, (int)by);
    const uint32_t second = fp4_sf_words(four.second, (int)by);

    if (p.is_real && is_placed && lane < heads) {
        sf += lane * s.sf_head;
        if (s.by_words == BY_ROWS) {
            sf -= lane;
        }
        fp4_ptx_store4(sf, first);
        fp4_ptx_store4(sf + p.sf_apart, second);
    }
}

/* The same for HND, where the rows of a head's tokens are neighbours: so are the lanes of a warp,
   and a thread goes from head to head of one token. With RoPE the next head's K and V come through
   shared memory, and its angles, the same for all heads, stay in registers. */
static __device__ __forceinline__ void append_heads(const append_job &w, const int has_table,
                                                    const int is_neox)
{
    const uint32_t lanes = w.k.pieces != 0 ? w.k.pieces / 2 : w.v.pieces / 2; /* of a head */
    const uint32_t group = fp4_divide(blockIdx.x, w.by_ctas);
    const uint32_t head = (blockIdx.x - group * w.ctas) * w.turns;
    const uint32_t end = w.heads - head < w.turns ? w.heads - head : w.turns;
    const uint32_t in_cta = fp4_divide(threadIdx.x, w.by_threads), unit = threadIdx.x % lanes;
    const uint32_t mine = group * w.of_cta + in_cta;
    const uint32_t token = mine < w.tokens ? mine : w.tokens - 1;
    const append_part k = pair_at(w, w.k, head, unit, is_neox), v = pair_at(w, w.v, head, unit, 0);
    const append_turner r = turner_of(w, k, is_neox);
    const uint8_t *k_x = k.x + token * (size_t)w.k.x_token;
    const uint8_t *v_x = v.x + token * (size_t)w.v.x_token;
    __shared__ append_ahead ahead; /* of kernels with RoPE */
    append_bytes of_k = {0, 0}, of_v = {0, 0};
    append_angles angles = {};
    raw k0 = {}, k1 = {}, v0 = {}, v1 = {};

    fp4_pdl_wait();
    fp4_pdl_trigger();
    const append_told told = ask(w, token);
    if (has_table) {
        bring(ahead.k, k_x, k.apart);
        bring(ahead.v, v_x, v.apart);
    } else {
        v0 = LOAD(v_x);
        v1 = LOAD(v_x + v.apart * PIECE);
    }
    const float k_enc = global_enc(w.k.global), v_enc = global_enc(w.v.global);
    append_destination d = destination_of(w, told);
    if (!d.is_placed && mine < w.tokens && unit == 0 && head == 0 && w.a.skipped != NULL) {
        fp4_ptx_atomic_inc(w.a.skipped, 0xffffffffu);
    }
    d.is_placed = d.is_placed && mine < w.tokens;
    d.page = d.is_placed ? d.page : 0;
    d.place = d.is_placed ? d.place : 0;
    const int keeps = w.keeps && mine < w.tokens;
    if (has_table && d.is_known && k.is_real) {
        angles = load_angles(w, r, (uint32_t)told.position);
    }
    const uint32_t is_tile =
        ((w.k.by_words | w.v.by_words) & BY_TILES) != 0 ? is_in_tile(d, lanes) : 0;
    const int k_words = is_kept(w.k, is_tile ? IS_OF_FOUR : 0);
    const int v_words = is_kept(w.v, is_tile ? IS_OF_FOUR : 0);
    append_row k_row = row_of(w.k, k, d.page, d.place), v_row = row_of(w.v, v, d.page, d.place);
    if (w.k.by_words == BY_TILES && k_words) { /* a word is that of all four */
        k_row.sf -= d.place % 4;
    }
    if (w.v.by_words == BY_TILES && v_words) {
        v_row.sf -= d.place % 4;
    }
    for (uint32_t turn = 0; turn < end; turn++) {
        if (has_table) {
            fp4_ptx_copies_wait();
            v0 = brought(ahead.v[0]);
            v1 = brought(ahead.v[1]);
        } else {
            k0 = LOAD(k_x);
            k1 = LOAD(k_x + k.apart * PIECE);
        }
        k_x += w.k.x_head;
        v_x += w.v.x_head;
        if (d.is_placed && v.is_real) {
            const uint32_t first = put(v_row.q, WIDEN(v0), v_enc);
            const uint32_t second = put(v_row.q + v.apart * CODES, WIDEN(v1), v_enc);
            take(&of_v, v_words, v_row.sf + turn % 4 * w.v.sf_head, v, turn % 4, first, second);
        }
        v_row.q += w.v.q_head;
        if (has_table) {
            k0 = brought(ahead.k[0]);
            k1 = brought(ahead.k[1]);
        }
        if (turn + 1 < end && has_table) {
            bring(ahead.k, k_x, k.apart);
            bring(ahead.v, v_x, v.apart);
        } else if (turn + 1 < end) {
            v0 = LOAD(v_x);
            v1 = LOAD(v_x + v.apart * PIECE);
        }
        fp4_f32x16 x = WIDEN(k0), y = WIDEN(k1);
        if (has_table && d.is_known && k.is_real) {
            turn_pair(r, angles, &x, &y, is_neox);
            if (keeps) {
                x = keep(w, token, head + turn, k.first, x);
                y = keep(w, token, head + turn, k.first + k.apart, y);
            }
        }
        if (d.is_placed && k.is_real) {
            const uint32_t first = put(k_row.q, x, k_enc);
            const uint32_t second = put(k_row.q + k.apart * CODES, y, k_enc);
            take(&of_k, k_words, k_row.sf + turn % 4 * w.k.sf_head, k, turn % 4, first, second);
        }
        k_row.q += w.k.q_head;
        if (turn % 4 == 3 || turn + 1 == end) { /* the same for all threads */
            if (w.v.by_words != BY_BYTES) {
                flush_heads(of_v, w.v, v, v_row.sf, d.is_placed && v_words, turn % 4 + 1, lanes);
            }
            if (w.k.by_words != BY_BYTES) {
                flush_heads(of_k, w.k, k, k_row.sf, d.is_placed && k_words, turn % 4 + 1, lanes);
            }
            of_k.first = of_k.second = of_v.first = of_v.second = 0;
            v_row.sf += 4 * w.v.sf_head;
            k_row.sf += 4 * w.k.sf_head;
        }
    }
}

static __global__ void __launch_bounds__(THREADS, RESIDENT + 1) append_as_it_is(const append_job w)
{
    append_pairs(w, 0, 0);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT + 1)
    append_as_it_is_hnd(const append_job w)
{
    append_heads(w, 0, 0);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) append_neox(const append_job w)
{
    append_pairs(w, 1, 1);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) append_neox_hnd(const append_job w)
{
    append_heads(w, 1, 1);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) append_gptj(const append_job w)
{
    append_pairs(w, 1, 0);
}

static __global__ void __launch_bounds__(THREADS, RESIDENT) append_gptj_hnd(const append_job w)
{
    append_heads(w, 1, 0);
}

/* A piece of a head of K, turned, where what is turned is not whole pieces: partners one by one. */
static __device__ __forceinline__ fp4_f32x16 turn_any(const append_job &w, uint32_t position,
                                                      const uint8_t *head, uint32_t piece,
                                                      fp4_f32x16 x)
{
    const float *cos = cosines(w, position), *sin = cos + w.turned / 2;

#pragma unroll
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t at = piece * 16 + i;
        if (at < w.turned) {
            const size_t pair = fp4_rope_pair(w.a.style, at, w.turned);
            const float partner = ONE(head, fp4_rope_partner(w.a.style, at, w.turned));
            x.v[i] = fp4_rope_turn(x.v[i], partner, cos[pair],
                                   fp4_rope_is_y(w.a.style, at, w.turned) ? sin[pair] : -sin[pair]);
        }
    }
    return x;
}

/* The piece that has the other halves of the pairs of a piece, of NeoX; else the piece itself. */
static __device__ uint32_t partner_of(const append_side &s, uint32_t piece)
{
    return piece < s.apart ? piece + s.apart : piece < 2 * s.apart ? piece - s.apart : piece;
}

/* A piece of a head of K, turned; other: its partner. */
static __device__ __forceinline__ fp4_f32x16 turn(const append_job &w, uint32_t position,
                                                  const uint8_t *head, uint32_t piece, fp4_f32x16 x,
                                                  fp4_f32x16 other)
{
    const uint32_t partner = partner_of(w.k, piece), half = w.turned / 2;
    const float *cos = cosines(w, position);

    if (!w.is_whole) {
        return turn_any(w, position, head, piece, x);
    }
    if (w.a.style == FP4_ROPE_GPTJ && piece * 16 < w.turned) {
        cos += piece * 8;
        return fp4_rope_gptj_x16(x, fp4_load_f32x8(cos), fp4_load_f32x8(cos + half));
    }
    if (partner != piece) {
        cos += (partner < piece ? partner : piece) * 16;
        x = fp4_rope_turn_x16(
            x, other, fp4_load_f32x16(cos),
            fp4_scale_x16(fp4_load_f32x16(cos + half), partner < piece ? 1.0f : -1.0f));
    }
    return x;
}

/* A piece of K or, as the constant is_k says, of V. All that can be is loaded at once. */
static __device__ __forceinline__ void append_piece(const append_job &w, const append_task &t,
                                                    const append_side &s, const int is_k)
{
    const uint32_t head = fp4_divide(t.i, s.in_head), piece = t.i - head * s.in_head.by;
    const uint8_t *x_head = s.x + t.token * (size_t)s.x_token + head * (size_t)s.x_head;

    if (t.token >= w.tokens || head >= w.heads) {
        return;
    }
    const append_told told = ask(w, t.token);
    const raw v = LOAD(x_head + piece * PIECE);
    const raw other = LOAD(x_head + (is_k ? partner_of(s, piece) : piece) * PIECE);
    const float enc = global_enc(s.global);
    const append_destination d = destination_of(w, told);
    fp4_f32x16 x = WIDEN(v);
    fp4_pdl_trigger();
    if (!d.is_placed && t.i == 0 && blockIdx.y == 0 && w.a.skipped != NULL) {
        fp4_ptx_atomic_inc(w.a.skipped, 0xffffffffu);
    }
    if (is_k && d.is_known && w.a.cos_sin != NULL) {
        x = keep(w, t.token, head, piece,
                 turn(w, (uint32_t)told.position, x_head, piece, x, WIDEN(other)));
    }
    if (d.is_placed) {
        const append_row r = row_of(s, part_of(w, s, head, piece), d.page, d.place);
        *r.sf = (uint8_t)put(r.q, x, enc);
    }
}

/* A piece a thread; K above, V below. */
static __global__ void __launch_bounds__(THREADS) append_pieces(const append_job w)
{
    const append_task t = task_of(w);

    fp4_pdl_wait();
    if (w.k.pieces != 0 && blockIdx.y == 0) {
        append_piece(w, t, w.k, 1);
    } else {
        append_piece(w, t, w.v, 0);
    }
}

/* ------------------------------------------------------------------------------ launcher */

/* Device scales cannot be looked at here. */
static int is_bad_scale(const kv_scale *s)
{
    return (unsigned)s->sense > FP4_KV_AMAX ||
           (s->device != NULL ? (size_t)s->device % 4 != 0
                              : !fp4_kv_can_encode(s->value, s->sense));
}

static int is_bad_tensor(const append_tensor *s)
{
    const fp4_kv_pages *p = &s->pages;

    if (s->x == NULL) {
        return 0;
    }
    return !fp4_kv_is_valid(p) || ((s->q == NULL || s->sf == NULL) && p->pages != 0) ||
           p->tokens > 0x7fffffffu || p->heads > 0x7fffffffu / FP4_KV_DIM_MAX || /* sizes */
           p->pages > 0x7fffffffu || p->q_stride > 0xffffffffu || p->sf_stride > 0xffffffffu ||
           s->x_head < p->dim || s->x_token < p->dim || /* strides */
           s->x_token > 0xffffffffu / ELEMENT || s->x_head > 0xffffffffu / ELEMENT ||
           ((size_t)s->x | s->x_token * ELEMENT | s->x_head * ELEMENT) % 16 != 0 || /* alignment */
           ((size_t)s->q | p->q_stride) % 8 != 0 || is_bad_scale(&s->global);
}

static int is_bad_integers(fp4_integers a)
{
    return a.data == NULL || (size_t)a.data % (a.is_64 ? 8 : 4) != 0;
}

static int is_bad_places(const append_args *a, const fp4_kv_pages *p)
{
    if (a->slots.data != NULL) {
        return is_bad_integers(a->slots) || p->pages > ((size_t)1 << 31) / p->tokens;
    }
    return is_bad_integers(a->positions) ||
           (a->batches != 0 && a->max_pages != 0 && is_bad_integers(a->tables)) ||
           a->batch_indices == NULL || ((size_t)a->batch_indices | (size_t)a->indptr) % 4 != 0 ||
           a->max_pages > ((size_t)1 << 31) / p->tokens ||
           (a->indptr == NULL &&
            (a->table_stride < a->max_pages ||
             (a->batches != 0 && a->table_stride > (size_t)-1 / 8 / a->batches)));
}

static int is_bad_rope(const append_args *a)
{
    const size_t dim = a->k.pages.dim;
    const fp4_kv_strides k_out = {0, a->k_out_token, a->k_out_head};

    if (a->k.x == NULL || a->cos_sin == NULL) {
        return a->k_out != NULL;
    }
    return (unsigned)a->style > FP4_ROPE_GPTJ || a->rotary == 0 || a->rotary % 2 != 0 ||
           a->rotary > dim || is_bad_integers(a->positions) || (size_t)a->cos_sin % 16 != 0 ||
           a->max_position > 0xffffffffu ||
           (a->k_out != NULL &&
            (fp4_kv_span(1, a->tokens, a->k.pages.heads, dim, k_out) == 0 ||
             a->k_out_token > (size_t)-1 / 8 / ELEMENT / a->tokens ||
             a->k_out_head > (size_t)-1 / 8 / ELEMENT / a->k.pages.heads ||
             ((size_t)a->k_out | a->k_out_token * ELEMENT | a->k_out_head * ELEMENT) % 16 != 0));
}

/* K and V belong together. */
static int is_pair(const append_args *a)
{
    const fp4_kv_pages *k = &a->k.pages, *v = &a->v.pages;
    return a->k.x == NULL || a->v.x == NULL ||
           (k->pages == v->pages && k->tokens == v->tokens && k->heads == v->heads &&
            k->order == v->order);
}

/* Its heads do not consist of pairs of pieces. */
static int is_odd(const append_tensor *s)
{
    return s->x != NULL && s->pages.dim % 32 != 0;
}

static append_side side_of(const append_tensor *s, int is_small, size_t apart)
{
    const fp4_kv_pages *p = &s->pages;
    const size_t is_nhd = p->order == FP4_KV_NHD;
    append_side out = {};

    out.in_head = fp4_divisor_of(1);
    if (s->x == NULL) {
        return out;
    }
    out.x = (const uint8_t *)s->x;
    out.q = s->q;
    out.sf = s->sf;
    out.pieces = (uint32_t)(p->dim / 16);
    out.x_token = (uint32_t)(s->x_token * ELEMENT);
    out.x_head = (uint32_t)(s->x_head * ELEMENT);
    out.q_page = (uint32_t)p->q_stride;
    out.sf_page = (uint32_t)p->sf_stride;
    out.sf_token = (uint32_t)(is_nhd ? p->heads : 1) * out.pieces;
    out.q_token = out.sf_token * CODES;
    out.sf_head = (is_nhd ? 1 : p->tokens) * out.pieces;
    out.q_head = out.sf_head * CODES;
    out.tile = p->sf_layout == FP4_KV_SF_4X1 ? ~3u : ~0u;
    out.apart = (uint32_t)apart;
    out.in_head = fp4_divisor_of(is_small ? out.pieces : out.pieces / 2);
    out.global = s->global;
    if (s->global.device == NULL) {
        out.global.value = fp4_kv_enc_of(s->global.value, s->global.sense);
        out.global.sense = FP4_KV_ENC;
    }
    return out;
}

/* Heads in turn: where lanes that are a power of two have a head, of K as of V. */
static int is_by_heads_good(const append_tensor *k, const append_tensor *v)
{
    const append_tensor *one = k->x != NULL ? k : v;
    const size_t dim = one->pages.dim;

    return IS_BY_HEADS(one->pages.order) && (dim & (dim - 1)) == 0 &&
           (k->x == NULL || v->x == NULL || k->pages.dim == v->pages.dim);
}

static const void *kernel_of(int is_small, int is_by_heads, int is_turned, fp4_rope_style style)
{
    if (is_small) {
        return (const void *)append_pieces;
    }
    if (is_by_heads) {
        return !is_turned               ? (const void *)append_as_it_is_hnd
               : style == FP4_ROPE_NEOX ? (const void *)append_neox_hnd
                                        : (const void *)append_gptj_hnd;
    }
    return !is_turned               ? (const void *)append_as_it_is
           : style == FP4_ROPE_NEOX ? (const void *)append_neox
                                    : (const void *)append_gptj;
}

/* How scale bytes can be stored: words want their alignment, and rows of whole words and four lanes
   together. */
static uint32_t words_of(const append_tensor *s, const append_side *of, const append_job *w,
                         int is_by_heads)
{
    const uint32_t half = of->pieces / 2;

    if (s->x == NULL || (!is_by_heads && w->turns % 4 != 0)) {
        return BY_BYTES;
    }
    if (is_by_heads && s->pages.sf_layout == FP4_KV_SF_4X1) {
        return ((size_t)s->sf | s->pages.sf_stride) % 4 == 0 && half <= 8 ? BY_TILES : BY_BYTES;
    }
    if (s->pages.sf_layout == FP4_KV_SF_4X1) {
        return ((size_t)s->sf | s->pages.sf_stride) % 4 == 0 && of->apart == 0 ? BY_TILES
                                                                               : BY_BYTES;
    }
    return (is_by_heads || w->of_token % 32 == 0) && half % 4 == 0 && of->apart % 4 == 0 &&
                   ((size_t)s->sf | s->pages.sf_stride) % 8 == 0
               ? BY_ROWS
               : BY_BYTES;
}

/**
 * Appends on `stream`: one launch, no allocation, no synchronization, nothing read on the host, so
 * that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer, where
 *          there is neither K nor V, and for 2^31 CTAs of 128 threads or more: nothing launched,
 *          nothing written. tokens = 0 is no error, and no pages, sequences or entries are none:
 *          all tokens are skipped.
 */
static cudaError_t append(const append_args *a, int pdl, cudaStream_t stream)
{
    const append_tensor *one = a->k.x != NULL ? &a->k : &a->v;
    const int is_both = a->k.x != NULL && a->v.x != NULL;
    const int is_turned = a->k.x != NULL && a->cos_sin != NULL;
    const size_t heads = one->pages.heads;
    size_t pieces, of_k, of_v, width, groups;
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};
    append_job w = {};
    void *arguments[] = {&w};
    int is_small, is_by_heads;

    if (a->tokens == 0) {
        return cudaSuccess;
    }
    if (one->x == NULL || a->tokens > 0x7fffffffu || is_bad_tensor(&a->k) || is_bad_tensor(&a->v) ||
        !is_pair(a) || is_bad_places(a, &one->pages) || is_bad_rope(a) ||
        (size_t)a->skipped % 4 != 0) {
        return cudaErrorInvalidValue;
    }
    w.a = *a;
    w.a.cos_sin = is_turned ? a->cos_sin : NULL;
    if (a->slots.data != NULL && !is_turned) {
        w.a.positions.data = NULL; /* nobody wants to know */
    }
    w.tokens = (uint32_t)a->tokens;
    w.pages = (uint32_t)one->pages.pages;
    w.heads = (uint32_t)heads;
    w.end = a->slots.data != NULL ? one->pages.pages * one->pages.tokens : (size_t)1 << 31;
    w.turned = is_turned ? (uint32_t)a->rotary : 0;
    w.keeps = a->k_out != NULL || a->rounded;
    w.is_whole = a->rotary % (a->style == FP4_ROPE_GPTJ ? 16 : 32) == 0;
    pieces = heads *
             ((a->k.x != NULL ? a->k.pages.dim : 0) + (a->v.x != NULL ? a->v.pages.dim : 0)) / 16;
    is_small = a->tokens <= SMALL / pieces || is_odd(&a->k) || is_odd(&a->v) ||
               (is_turned && (!w.is_whole || a->max_position == 0));
    w.k = side_of(&a->k, is_small,
                  is_turned && a->style == FP4_ROPE_NEOX && w.is_whole ? a->rotary / 32 : 0);
    w.v = side_of(&a->v, is_small, 0);
    of_k = a->k.x != NULL ? heads * w.k.in_head.by : 0;
    of_v = a->v.x != NULL ? heads * w.v.in_head.by : 0;
    w.k.x = a->k.x != NULL ? w.k.x : w.v.x; /* somewhere, for who has nothing there */
    w.v.x = a->v.x != NULL ? w.v.x : w.k.x;
    w.of_token = (uint32_t)(of_k > of_v ? of_k : of_v);
    is_by_heads = !is_small && is_by_heads_good(&a->k, &a->v);
    if (is_by_heads) { /* threads of a token's head, and CTAs that share its heads */
        w.turns = heads < TURNS ? w.heads : (uint32_t)TURNS;
        w.of_token = (uint32_t)(one->pages.dim / 32);
        w.of_cta = THREADS / w.of_token;
        w.ctas = (w.heads + w.turns - 1) / w.turns;
        width = THREADS;
        groups = (a->tokens + w.of_cta - 1) / w.of_cta;
    } else {
        w.ctas = (w.of_token + THREADS - 1) / THREADS;
        w.of_cta = w.ctas > 1 ? 1 : THREADS / w.of_token;
        width = w.ctas > 1 ? (w.of_token + w.ctas - 1) / w.ctas : w.of_cta * w.of_token;
        width = (width + 31) / 32 * 32;
        groups = (a->tokens + w.of_cta - 1) / w.of_cta;
        w.turns = is_small || groups * w.ctas < FOUR ? 1 : groups * w.ctas < EIGHT ? 4 : 8;
        groups = (groups + w.turns - 1) / w.turns;
    }
    if (groups > 0x7fffffffu / w.ctas) {
        return cudaErrorInvalidValue;
    }
    w.k.by_words = words_of(&a->k, &w.k, &w, is_by_heads);
    w.v.by_words = words_of(&a->v, &w.v, &w, is_by_heads);
    w.by_threads = fp4_divisor_of(w.of_token);
    w.by_ctas = fp4_divisor_of(w.ctas);
    w.by_page = fp4_divisor_of((uint32_t)one->pages.tokens);

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)(groups * w.ctas), is_small && is_both ? 2 : 1);
    config.blockDim = dim3((unsigned)width);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel_of(is_small, is_by_heads, is_turned, a->style),
                               arguments);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/kv_append.h>

#include <stdio.h>
#include <stdlib.h>

#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

enum { PAGE = 16, HEADS = 8, DIM = 128, POSITIONS = 32768 };
static const float k_dec = 1.0f / 448.0f, v_dec = 1.0f / 300.0f;

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "kv_append: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static uint32_t random_bits(void)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* Host memory with n elements of the input type, between -1 and 1. */
static void *elements(size_t n)
{
    float *x = (float *)malloc(n * sizeof(float));

    for (size_t i = 0; i < n; i++) {
        x[i] = (float)random_bits() * 0x1p-23f - 1.0f;
        if (ELEMENT == 2) {
            ((uint16_t *)x)[i] =
                JOIN(DTYPE_, INPUT, ) == FP4_F16 ? fp4_f32_to_f16(x[i]) : fp4_f32_to_bf16(x[i]);
        }
    }
    return x;
}

static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    must(host != NULL ? cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice)
                      : cudaMemset(p, 0x7f, bytes));
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

/* A call, and what it reads and writes on the host. */
typedef struct call {
    append_args a;
    size_t bytes; /* of k, and of v */
    void *k, *v, *slots, *positions;
    float *cos_sin;
    uint8_t *memory; /* codes and scale bytes of K and V */
} call;

/* Tokens at the places of some sequences in a cache twice their size, page by page; every 97th goes
   nowhere. */
static call call_new(size_t tokens, fp4_kv_order order, fp4_kv_sf v_sf, size_t rotary,
                     fp4_rope_style style)
{
    const size_t pages = 2 * ((tokens + PAGE - 1) / PAGE);
    int64_t *slots = (int64_t *)malloc(tokens * sizeof(int64_t));
    int32_t *positions = (int32_t *)malloc(tokens * sizeof(int32_t));
    call c = {};

    for (size_t i = 0; i < tokens; i++) {
        const size_t page = (i / PAGE * 7919 + 5) % (pages / 2) * 2; /* 7919 is a prime */
        slots[i] = i % 97 == 50 ? -1 : (int64_t)(page * PAGE + i % PAGE);
        positions[i] = (int32_t)(i * (tokens < 1000 ? 31 : 1) % POSITIONS);
    }
    c.bytes = tokens * HEADS * DIM * ELEMENT;
    c.k = elements(tokens * HEADS * DIM);
    c.v = elements(tokens * HEADS * DIM);
    c.slots = slots;
    c.positions = positions;
    c.a.k.pages = fp4_kv_pages_packed(order, FP4_KV_SF_LINEAR, pages, PAGE, HEADS, DIM);
    c.a.v.pages = fp4_kv_pages_packed(order, v_sf, pages, PAGE, HEADS, DIM);
    c.a.k.x = device(c.k, c.bytes);
    c.a.v.x = device(c.v, c.bytes);
    c.a.k.x_token = c.a.v.x_token = HEADS * DIM;
    c.a.k.x_head = c.a.v.x_head = DIM;
    c.a.k.q = (uint8_t *)device(NULL, fp4_kv_q_bytes(&c.a.k.pages));
    c.a.k.sf = (uint8_t *)device(NULL, fp4_kv_sf_bytes(&c.a.k.pages));
    c.a.v.q = (uint8_t *)device(NULL, fp4_kv_q_bytes(&c.a.v.pages));
    c.a.v.sf = (uint8_t *)device(NULL, fp4_kv_sf_bytes(&c.a.v.pages));
    c.a.k.global.sense = c.a.v.global.sense = FP4_KV_DEC;
    c.a.k.global.value = k_dec;
    c.a.v.global.value = v_dec;
    c.a.tokens = tokens;
    c.a.slots.data = device(slots, tokens * sizeof(int64_t));
    c.a.slots.is_64 = 1;
    c.a.skipped = (uint32_t *)device(NULL, sizeof(uint32_t));
    must(cudaMemset(c.a.skipped, 0, sizeof(uint32_t)));
    if (rotary != 0) {
        const size_t bytes = POSITIONS * rotary * sizeof(float);
        c.cos_sin = (float *)malloc(bytes);
        fp4_ref_rope_table(5e5, POSITIONS, rotary, c.cos_sin, bytes);
        c.a.cos_sin = (float *)device(c.cos_sin, bytes);
        c.a.positions.data = device(positions, tokens * sizeof(int32_t));
        c.a.max_position = POSITIONS;
        c.a.rotary = rotary;
        c.a.style = style;
    }
    return c;
}

static void call_free(call c)
{
    const void *all[] = {c.a.k.x,     c.a.v.x,    c.a.k.q,        c.a.k.sf,
                         c.a.v.q,     c.a.v.sf,   c.a.slots.data, c.a.positions.data,
                         c.a.cos_sin, c.a.skipped};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        must(cudaFree((void *)all[i]));
    }
    free(c.k);
    free(c.v);
    free(c.slots);
    free(c.positions);
    free(c.cos_sin);
}

/* K or V of a call for the host reference, into poisoned memory of its own. */
static fp4_kv_new new_of(const append_tensor *s, const void *x, size_t tokens, fp4_kv_cache *cache)
{
    fp4_kv_new n = {};

    cache->pages = s->pages;
    cache->q_bytes = fp4_kv_q_bytes(&s->pages);
    cache->sf_bytes = fp4_kv_sf_bytes(&s->pages);
    cache->q = (uint8_t *)malloc(cache->q_bytes);
    cache->sf = (uint8_t *)malloc(cache->sf_bytes);
    memset(cache->q, 0x7f, cache->q_bytes);
    memset(cache->sf, 0x7f, cache->sf_bytes);
    n.x.data = x;
    n.x.dtype = JOIN(DTYPE_, INPUT, );
    n.x.tokens = tokens;
    n.x.heads = HEADS;
    n.x.dim = DIM;
    n.x.token_stride = HEADS * DIM;
    n.x.head_stride = DIM;
    n.cache = cache;
    n.global_enc = fp4_nvfp4_global_enc_from_dec(s->global.value);
    return n;
}

/* The kernel's caches and the host reference's. */
static int check(size_t tokens, fp4_kv_order order, fp4_kv_sf v_sf, size_t rotary,
                 fp4_rope_style style)
{
    const call c = call_new(tokens, order, v_sf, rotary, style);
    fp4_kv_cache of_k = {}, of_v = {};
    const fp4_kv_new k = new_of(&c.a.k, c.k, tokens, &of_k);
    const fp4_kv_new v = new_of(&c.a.v, c.v, tokens, &of_v);
    fp4_kv_places places = {};
    fp4_kv_rope rope = {};
    size_t skipped = 0;
    uint32_t expected;
    int is_same;

    places.slots.data = c.slots;
    places.slots.is_64 = 1;
    places.positions.data = c.positions;
    rope.rope.cos_sin = c.cos_sin;
    rope.rope.positions = POSITIONS;
    rope.rope.rotary = rotary;
    rope.rope.style = style;
    must(append(&c.a, 0, 0));
    is_same = fp4_ref_kv_append(&k, &v, &places, &rope, &skipped) == FP4_OK;
    expected = (uint32_t)skipped;
    is_same = is_same && same(c.a.k.q, of_k.q, of_k.q_bytes) &&
              same(c.a.k.sf, of_k.sf, of_k.sf_bytes) && same(c.a.v.q, of_v.q, of_v.q_bytes) &&
              same(c.a.v.sf, of_v.sf, of_v.sf_bytes) &&
              same(c.a.skipped, &expected, sizeof expected);
    printf("%zu tokens, %s, V's scales %s, %zu of %d elements turned%s, device and host: %s\n",
           tokens, order == FP4_KV_NHD ? "NHD" : "HND", v_sf == FP4_KV_SF_LINEAR ? "linear" : "4x1",
           rotary, DIM,
           rotary == 0              ? ""
           : style == FP4_ROPE_NEOX ? " as NeoX"
                                    : " as GPT-J",
           is_same ? "same bytes" : "DIFFERENT");
    call_free(c);
    free(of_k.q);
    free(of_k.sf);
    free(of_v.q);
    free(of_v.sf);
    return is_same;
}

/* Median of 20 launches, and what they moved. */
static void measure(size_t tokens, fp4_kv_order order, fp4_kv_sf v_sf, size_t rotary,
                    fp4_rope_style style)
{
    const call c = call_new(tokens, order, v_sf, rotary, style);
    const double moved =
        2.0 * (double)c.bytes + (double)tokens * HEADS * DIM * 2.0 * 9.0 / 16.0 +
        (double)(tokens < POSITIONS ? tokens : (size_t)POSITIONS) * (double)rotary * 4.0 +
        (double)tokens * 12.0;
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(append(&c.a, 0, 0));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf("%zu tokens, %s, V's scales %s, %zu turned%s: %.1f us, %.0f GB/s\n", tokens,
           order == FP4_KV_NHD ? "NHD" : "HND", v_sf == FP4_KV_SF_LINEAR ? "linear" : "4x1", rotary,
           rotary == 0              ? ""
           : style == FP4_ROPE_NEOX ? " as NeoX"
                                    : " as GPT-J",
           1e3 * ms[10], 1e-6 * moved / ms[10]);
    call_free(c);
}

int main(void)
{
    printf("%s, %d heads of %d\n", TEXT(INPUT), HEADS, DIM);
    if (!check(7, FP4_KV_NHD, FP4_KV_SF_LINEAR, 0, FP4_ROPE_NEOX) ||
        !check(300, FP4_KV_HND, FP4_KV_SF_4X1, DIM, FP4_ROPE_NEOX) ||
        !check(300, FP4_KV_NHD, FP4_KV_SF_4X1, 64, FP4_ROPE_GPTJ) ||
        !check(300, FP4_KV_NHD, FP4_KV_SF_4X1, 50, FP4_ROPE_NEOX) ||
        !check(5000, FP4_KV_HND, FP4_KV_SF_4X1, DIM, FP4_ROPE_NEOX) ||
        !check(5000, FP4_KV_NHD, FP4_KV_SF_LINEAR, 64, FP4_ROPE_NEOX) ||
        !check(5000, FP4_KV_NHD, FP4_KV_SF_4X1, DIM, FP4_ROPE_GPTJ)) {
        return 1;
    }
    measure(1, FP4_KV_HND, FP4_KV_SF_LINEAR, DIM, FP4_ROPE_NEOX);
    measure(128, FP4_KV_HND, FP4_KV_SF_LINEAR, DIM, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_NHD, FP4_KV_SF_LINEAR, 0, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_HND, FP4_KV_SF_4X1, 0, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_NHD, FP4_KV_SF_LINEAR, DIM, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_HND, FP4_KV_SF_LINEAR, DIM, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_HND, FP4_KV_SF_4X1, DIM, FP4_ROPE_NEOX);
    measure(131072, FP4_KV_HND, FP4_KV_SF_4X1, DIM, FP4_ROPE_GPTJ);
    return 0;
}
#endif

/*
 * 10_experts.cu - the rows of many experts to NVFP4, MXFP4 or MXFP8 in one launch, with counts or
 * offsets that only the device knows; gathered by index, or with the activation of a gated MLP in
 * front, where that is asked for.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/10_experts.cu -o experts && ./experts
 *
 * To change the input type, the format or the activation, edit one word below (or -DFORMAT=mxfp4).
 *
 * How it works: the work is cut into tiles, as 01_quantize.cu has it, never by expert, so that it
 * does not matter how unevenly the rows are spread. Up to four tiles below each other are an item.
 * Each CTA first adds up how many items there are before each expert, then takes every so many-th
 * item and finds the expert that it belongs to by a search in shared memory, where the item's scale
 * bytes are collected too. In bands of 128 rows that an expert fills in part a tile has more of the
 * rows that are there. Where zeros are asked for, bands without a row are items of their own; else
 * they are not even counted. Where rows are gathered, a thread each reads which row of x one of the
 * next item's is, while the loads of this one are on their way. With an activation two pieces'
 * loads are in flight, bf16 is looked up as in 04_silu_mul.cu, and what the fast conversions cannot
 * take is done again.
 */
#include <fp4/device/activation.cuh>
#include <fp4/device/format.cuh>
#include <fp4/divisor.h>
#include <fp4/experts.h>

#if !defined(INPUT)
#define INPUT bf16 /* f32, f16, bf16 */
#endif
#if !defined(FORMAT)
#define FORMAT nvfp4 /* nvfp4, mxfp4, mxfp8 */
#endif
#if !defined(ACTIVATION)
#define ACTIVATION none /* none, silu, gelu_tanh, swiglu_oai */
#endif

/* What the words stand for. A piece of 16 elements is WORDS registers as in memory. */
#define JOIN_(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define FORMAT_nvfp4 FP4_NVFP4
#define FORMAT_mxfp4 FP4_MXFP4
#define FORMAT_mxfp8 FP4_MXFP8
#define WORDS_f32 16
#define WORDS_f16 8
#define WORDS_bf16 8
#define ROUND_f32 fp4_f32x16_to_u32x16
#define ROUND_f16 fp4_f32x16_to_f16x16
#define ROUND_bf16 fp4_f32x16_to_bf16x16
#define DEINTERLEAVE_f32 fp4_deinterleave_u32x16
#define DEINTERLEAVE_f16 fp4_deinterleave_u16x16
#define DEINTERLEAVE_bf16 fp4_deinterleave_u16x16
#define GATE_AMAX_f32(w) fp4_amax_or_nan_x16(fp4_f32x16_to_f32x16(w))
#define GATE_AMAX_f16 fp4_amax_or_nan_f16x16
#define GATE_AMAX_bf16 fp4_amax_or_nan_bf16x16
#define HAS_TABLE_f32 0
#define HAS_TABLE_f16 0
#define HAS_TABLE_bf16 1
#define GATED_none 0
#define GATED_silu 1
#define GATED_gelu_tanh 2 /* takes more registers */
#define GATED_swiglu_oai 2
#define GATE_silu silu
#define GATE_gelu_tanh gelu_tanh
#define GATE_swiglu_oai swiglu_oai_gate
#define TIMES_silu(act, up) fp4_mul_x16(act, WIDEN(up))
#define TIMES_gelu_tanh TIMES_silu
#define TIMES_swiglu_oai(act, up) OAI_UP(act, up)
#define OAI_UP_f32(act, w) fp4_swiglu_oai_up_x16(act, fp4_f32x16_to_f32x16(w))
#define OAI_UP_f16 fp4_swiglu_oai_up_f16x16
#define OAI_UP_bf16 fp4_swiglu_oai_up_bf16x16

#define TO JOIN(FORMAT_, FORMAT, )
#define WORDS JOIN(WORDS_, INPUT, )
#define LOAD JOIN(fp4_load_u32x, WORDS, )
#define WIDEN JOIN(fp4_, INPUT, x16_to_f32x16)
#define ROUND JOIN(ROUND_, INPUT, )
#define GATE_AMAX JOIN(GATE_AMAX_, INPUT, )
#define GATED JOIN(GATED_, ACTIVATION, )
#define HAS_TABLE (GATED && JOIN(HAS_TABLE_, INPUT, ))
typedef JOIN(fp4_u32x, WORDS, ) raw;

#if GATED
#define DEINTERLEAVE JOIN(DEINTERLEAVE_, INPUT, )
#define GATE JOIN(GATE_, ACTIVATION, )
#define ACTIVATE JOIN(fp4_, GATE, _known_x16)
#define ACTIVATE_ANY JOIN(fp4_, GATE, _x16)
#define MAKE_TABLE JOIN(fp4_, GATE, _bf16_table)
#define TIMES JOIN(TIMES_, ACTIVATION, )
#define OAI_UP JOIN(OAI_UP_, INPUT, )
#endif
typedef fp4_part4 piece; /* q: the codes of 16 elements, sf: their block's scale byte */

enum {
    ELEMENT = WORDS / 4,             /* bytes of an input element */
    CODES = 2 * fp4_format_bits(TO), /* bytes of 16 codes */
    LANES = fp4_format_lanes(TO),
    BLOCK = 16 * LANES, /* elements that share a scale byte */
    /* with a table: fewer and larger CTAs, each has one */
    THREADS = HAS_TABLE ? 256 : 128,
    EACH = ELEMENT == 4 ? 2 : 4, /* pieces a thread */
    HELD = GATED ? 2 : EACH,     /* of these, loaded together */
    MOST_GROUPS = 512,           /* that shared memory has room for */
    MOST_TILES = 1 << 30,        /* that are counted in 32 bits, some beyond the last too */
    /* CTAs of a multiprocessor: as many as do not spill on sm_90 (with a table, and gathered, some
       words); elsewhere fewer */
    RESIDENT = FP4_ARCH != 900 ? (GATED ? 1 : 3)
               : !GATED        ? 5 + LANES
               : HAS_TABLE     ? 3
               : ELEMENT == 4  ? 3
               : GATED == 2    ? 4
                               : 5,
    /* that gather or ask */
    RESIDENT_OTHER = FP4_ARCH != 900 || RESIDENT < 5 ? RESIDENT
                     : GATED                         ? RESIDENT - 1
                                                     : 6
};

/* CTAs, in times what the device has room for; more tiles take turns. Each CTA makes a plan, and
   maybe a table, which is for fewer; but so many start in the order of their tiles, and end
   together. So once as many where no more than FEW times as many tiles are there, each of which
   would be a CTA's only one; what is gathered is read ahead while another tile is there. */
#define WAVES (HAS_TABLE ? 1 : GATED ? 3 : 8)
#define FEW(gathered) (GATED || CODES == 16 ? 0 : (gathered) ? 16 : 7)
#if !defined(CTAS)
#define CTAS(room, tiles, gathered) ((room) * ((tiles) > (room)*FEW(gathered) ? WAVES : 1))
#endif

/* ------------------------------------------------------------------------------ arguments */

/**
 * The rows that experts have of x, quantized to q and sf; see fp4/experts.h.
 *
 * shape    cols: of a quantized row, whole blocks. x has as many columns, or with an activation
 *          twice as many: gate in the first cols, up in the others; or, if interleaved, gate in the
 *          even ones, up in the odd ones. q_cols: whole blocks, cols or more; the columns in
 *          between become zeros in every row that an expert has. groups: 512 at most; rows + 127 *
 *          groups: below 2^31. x, x_stride, x_group_stride (elements): multiples of 16 bytes, a row
 *          under 4 GiB. q: aligned to the codes of 16 elements. sf: to 16 bytes.
 * masked   counts, of groups: x has groups matrices of `rows` rows, x_group_stride apart, and the
 *          first counts[g] of matrix g count. q: groups * rows rows. sf: groups times
 *          fp4_sf_bytes(FP4_LAYOUT_128X4, rows, q_cols / BLOCK) bytes.
 * packed   offsets, of groups + 1: rows [offsets[g], offsets[g + 1]) of the `rows` rows of q are
 *          those of expert g. Row r is made of row r of x; or, where sources is not null, of row
 *          sources[r]. x_rows: that x has; `rows` or more without sources. sf: sf_rows rows, a
 *          multiple of 128, of fp4_sf_cols_padded(FP4_LAYOUT_128X4, q_cols / BLOCK) bytes;
 *          fp4_experts_sf_rows(starts, rows, groups) always suffice.
 * global   NVFP4: global_device[g * global_step], step 0 or 1; or, where that is null, the number
 *          global for all. In encode sense unless global_is_dec. Positive and finite, and so its
 *          reciprocal (above 2^-128). Other formats ignore it.
 * rounded  with an activation. 0: the codes come from its product in f32. 1: the product is rounded
 *          to the input type, then quantized: the bytes of two kernels, one after the other.
 * rest     FP4_REST_ZERO: every byte of q and sf is written. FP4_REST_LEAVE: what is no expert's
 *          stays, in the tiles of the scales too, and costs nothing.
 * optional where not null: sf_starts (packed), groups + 1: the rows of sf in which the scales of
 *          each expert begin, as grouped matrix multiplications want them. errors: a word to which
 *          bits of fp4_experts_error are added where counts, offsets or sources are out of bounds.
 * overlap  no output overlaps an input or another output; sf_starts not the offsets either, which
 *          are read while it is written.
 */
typedef struct experts_args {
    uint8_t *q, *sf;
    const void *x;
    size_t groups, rows, cols, q_cols, x_stride, x_group_stride, x_rows;
    const int32_t *counts;
    const int32_t *offsets, *sources;
    fp4_experts_starts starts;
    size_t sf_rows;
    const float *global_device;
    size_t global_step;
    float global;
    int global_is_dec;
    int interleaved, rounded;
    fp4_rest rest;
    int32_t *sf_starts;
    uint32_t *errors;
} experts_args;

/* The same as kernels take them: columns in pieces of 16 elements, strides in bytes, scale rows in
   bands of 128. */
typedef struct experts_job {
    const uint8_t *x;
    uint8_t *q, *sf;
    const int32_t *counts, *offsets, *sources;
    const float *global_device;
    float global;
    int global_is_dec, interleaved, rounded, is_masked, leaves, is_spread;
    uint32_t global_step, groups, rows, x_rows, cols, q_cols;
    uint32_t bands; /* of sf: of each matrix if masked, in all if packed */
    uint32_t half;  /* the largest power of two up to groups */
    uint32_t x_row, q_row;
    size_t x_group, up, sf_band; /* up: from gate to up */
    fp4_divisor across;          /* tiles beside each other */
    int32_t *sf_starts;
    uint32_t *errors;
} experts_job;

/* ------------------------------------------------------------------------------ plan */

/* What a CTA has to know of all experts. Work is counted in items: some lines of a band of 128
   rows, in whatever columns; or a band of which no row is an expert's; behind them 128 rows of q
   that are no band's. */
typedef struct experts_plan {
    uint32_t first_row[MOST_GROUPS + 1];  /* masked: how many rows there are */
    uint32_t first_band[MOST_GROUPS + 1]; /* of sf */
    uint32_t first_item[MOST_GROUPS + 1];
    uint32_t of_warp[3][THREADS / 32];
    uint32_t of_bands, items; /* items of bands, and all */
} experts_plan;

/* The tile of a kernel: pieces in a row; and rows, which are a run of rows of each quarter of a
   band, so that what is contiguous in the scale buffer comes together. */
typedef struct experts_tile {
    uint32_t cols, rows;
    int gathered;       /* there are sources */
    int asks;           /* whether interleaved and rounded are as the arguments say, or 0 */
    const float *table; /* of the activation, in shared memory; or null */
} experts_tile;

/* How long the runs are in a band with so many rows of an expert, as a power of two: longer where
   quarters are empty. */
static __device__ __forceinline__ uint32_t run_of(const experts_tile c, uint32_t rows)
{
    const uint32_t all = 3 + (c.rows > 8) + (c.rows > 16) + (c.rows > 32) + (c.rows > 64);
    const uint32_t run = rows > 64 ? all - 2 : rows > 32 ? all - 1 : all;
    return run < 5 ? run : 5;
}

/* The longest run, as a power of two: an item is so many lines of a band, a line being a row of
   each quarter, one tile or two or four of them. */
static __device__ __forceinline__ uint32_t lines_of(const experts_tile c)
{
    return run_of(c, 1);
}

/* The sum, or the largest, of what the threads before this one have; 0 for the first. All threads
   call, each time with words of their own. */
static __device__ uint32_t before_this(uint32_t mine, const int is_max, uint32_t *of_warp)
{
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t before = 0, all = mine;

#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = fp4_ptx_shuffle_xor_u32(0xffffffffu, all, (int)step);
        const uint32_t lower = lane & step ? other : 0;
        before = is_max ? fp4_max_u32(before, lower) : before + lower;
        all = is_max ? fp4_max_u32(all, other) : all + other;
    }
    if (lane == 0) {
        of_warp[warp] = all;
    }
    fp4_ptx_barrier();
#pragma unroll
    for (uint32_t i = 0; i + 1 < THREADS / 32; i++) {
        const uint32_t lower = i < warp ? of_warp[i] : 0;
        before = is_max ? fp4_max_u32(before, lower) : before + lower;
    }
    return before;
}

static __device__ __forceinline__ uint32_t rows_of(const experts_job &t, const experts_plan *plan,
                                                   uint32_t group)
{
    return t.is_masked ? plan->first_row[group]
                       : plan->first_row[group + 1] - plan->first_row[group];
}

/* Items of bands with so many rows of an expert, from the first on: those that hold any; or all,
   where the others are to be zeros. */
static __device__ __forceinline__ uint32_t items_of(const experts_job &t, const experts_tile c,
                                                    uint32_t rows)
{
    const uint32_t last = t.leaves ? rows % 128 : (rows + 127) / 128 * 128 - rows / 128 * 128;
    const uint32_t lines = last < 32 ? last : 32;
    return (rows / 128 * 32 + lines + (1u << lines_of(c)) - 1) >> lines_of(c);
}

/* Entries [from, to) of first_row, bounded; answers what was wrong with them. */
static __device__ uint32_t plan_rows(const experts_job &t, experts_plan *plan, uint32_t from,
                                     uint32_t to)
{
    uint32_t wrong = 0, most = 0;

    if (t.is_masked) {
        for (uint32_t g = from; g < to && g < t.groups; g++) {
            const int32_t count = t.counts[g];
            plan->first_row[g] = fp4_experts_bounded(count, t.rows);
            wrong |= plan->first_row[g] != (uint32_t)count ? FP4_EXPERTS_COUNT : 0;
        }
        return wrong;
    }
    for (uint32_t g = from; g < to; g++) {
        most = fp4_max_u32(most, fp4_experts_bounded(t.offsets[g], t.rows));
    }
    most = before_this(most, 1, plan->of_warp[0]);
    for (uint32_t g = from; g < to; g++) {
        most = fp4_max_u32(most, fp4_experts_bounded(t.offsets[g], t.rows));
        plan->first_row[g] = most;
        wrong |= most != (uint32_t)t.offsets[g] ? FP4_EXPERTS_OFFSET : 0;
    }
    fp4_ptx_barrier(); /* the next entry is another thread's */
    return wrong;
}

/* The band in which group g begins, where `bands` would be needed for those before it. */
static __device__ __forceinline__ uint32_t band_of(const experts_job &t, const experts_plan *plan,
                                                   uint32_t g, uint32_t bands)
{
    return t.is_masked   ? g * t.bands
           : t.is_spread ? (uint32_t)(fp4_experts_spread_row(plan->first_row[g], g) / 128)
                         : bands;
}

/* Items of group g: those with rows, and its other bands where they are to be zeros. */
static __device__ __forceinline__ uint32_t items_of_group(const experts_job &t,
                                                          const experts_tile c,
                                                          const experts_plan *plan, uint32_t g)
{
    const uint32_t rows = rows_of(t, plan, g), used = (rows + 127) / 128;
    uint32_t has = used;

    if (!t.leaves && (t.is_masked || t.is_spread)) {
        has = band_of(t, plan, g + 1, 0) - band_of(t, plan, g, 0);
    }
    return items_of(t, c, rows) + (has - used);
}

/* Rows of q that are no expert's and belong to no band, of which some may come before the first
   expert's. */
static __device__ __forceinline__ uint32_t rows_left(const experts_job &t, const experts_plan *plan)
{
    return t.is_masked || t.leaves ? 0 : plan->first_row[0] + (t.rows - plan->first_row[t.groups]);
}

/* Items of bands; behind the last group's there may be more of them. */
static __device__ uint32_t items_of_bands(const experts_job &t, const experts_plan *plan)
{
    const uint32_t last = plan->first_item[t.groups], band = plan->first_band[t.groups];
    return t.is_masked || t.leaves || band >= t.bands ? last : last + (t.bands - band);
}

/* All of it, by all threads. */
static __device__ void make_plan(const experts_job &t, const experts_tile c, experts_plan *plan)
{
    const uint32_t each = t.groups / THREADS + 1; /* of groups + 1 entries */
    const uint32_t from = threadIdx.x * each;
    const uint32_t to = from + each < t.groups + 1 ? from + each : t.groups + 1;
    const int is_first = blockIdx.x == 0;
    uint32_t wrong = plan_rows(t, plan, from, to), bands = 0, items = 0;

    for (uint32_t g = from; g < to && g < t.groups; g++) {
        bands += (rows_of(t, plan, g) + 127) / 128;
        items += items_of_group(t, c, plan, g);
    }
    items = before_this(items, 0, plan->of_warp[1]);
    if (!t.is_masked) {
        bands = before_this(bands, 0, plan->of_warp[2]);
        if (!t.leaves && t.is_spread) {
            items += band_of(t, plan, 0, 0); /* those in front of the first group */
        }
    }
    for (uint32_t g = from; g < to; g++) {
        const uint32_t used = g < t.groups ? (rows_of(t, plan, g) + 127) / 128 : 0;
        const uint32_t first = band_of(t, plan, g, bands);
        plan->first_band[g] = first;
        plan->first_item[g] = items;
        bands += used;
        items += g < t.groups ? items_of_group(t, c, plan, g) : 0;
        wrong |= !t.is_masked && used > 0 && first + used > t.bands ? FP4_EXPERTS_SF_ROWS : 0;
        if (g == t.groups) {
            plan->of_bands = items_of_bands(t, plan);
            plan->items = plan->of_bands + (rows_left(t, plan) + 127) / 128;
        }
        if (is_first && t.sf_starts != NULL) {
            t.sf_starts[g] = (int32_t)(first * 128);
        }
    }
    if (is_first && wrong != 0 && t.errors != NULL) {
        fp4_ptx_atomic_or(t.errors, wrong);
    }
    fp4_ptx_barrier();
}

/* An item of a band, and a tile's columns: some of its lines, or all of one without rows. */
typedef struct experts_item {
    uint32_t part; /* which of the tiles beside each other */
    uint32_t group;
    uint32_t first;     /* row of the group that is the band's first */
    uint32_t rows;      /* of the band that are an expert's and have scales */
    uint32_t q_rows;    /* of it that are to be written */
    uint32_t line, run; /* the first of its lines; 2^run of them are a tile */
    size_t q_row;       /* in q */
    uint32_t band;      /* in sf */
    int has_sf;
} experts_item;

/* The last group that begins at the item or before has it. Without any it is of a band in front of
   the first expert's, which spread ones can leave; behind the last expert's there is no group
   either. */
static __device__ experts_item find_item(const experts_job &t, const experts_tile c,
                                         const experts_plan *plan, uint32_t item, uint32_t part)
{
    const int is_before = item < plan->first_item[0];
    uint32_t g = 0, rows, of_group, in_band, tile;
    experts_item at;

    for (uint32_t step = t.half; step > 0; step /= 2) {
        if (g + step <= t.groups && plan->first_item[g + step] <= item) {
            g += step;
        }
    }
    rows = g < t.groups && !is_before ? rows_of(t, plan, g) : 0;
    of_group = item - (is_before ? 0 : plan->first_item[g]);
    in_band = of_group >> (5 - lines_of(c));
    tile = of_group & ((32u >> lines_of(c)) - 1);
    if (of_group >= items_of(t, c, rows)) { /* one without rows */
        in_band = (rows + 127) / 128 + of_group - items_of(t, c, rows);
        tile = 0;
    }
    at.part = part;
    at.group = g;
    at.first = in_band * 128;
    at.rows = rows > at.first ? rows - at.first : 0;
    at.rows = at.rows < 128 ? at.rows : 128;
    at.run = run_of(c, at.rows);
    at.line = tile << lines_of(c);
    at.band = (is_before ? 0 : plan->first_band[g]) + in_band;
    at.has_sf = t.is_masked || at.band < t.bands;
    at.q_row = (t.is_masked ? (size_t)g * t.rows : plan->first_row[g]) + at.first;
    at.q_rows = at.rows;
    at.rows = at.has_sf ? at.rows : 0;
    if (t.leaves) {
        at.q_rows = at.rows;
    } else if (t.is_masked) {
        at.q_rows = t.rows - at.first < 128 ? t.rows - at.first : 128;
    }
    return at;
}

/* ------------------------------------------------------------------------------ kernels */

static __device__ __forceinline__ float enc_of(const experts_job &t, uint32_t group)
{
    const float given =
        t.global_device == NULL ? t.global : t.global_device[(size_t)group * t.global_step];
    return t.global_is_dec ? fp4_nvfp4_global_enc_from_dec(given) : given;
}

/* The operands of 16 elements. */
typedef struct operands {
#if GATED
    raw x, up;
#else
    raw x;
#endif
} operands;

static __device__ __forceinline__ operands load_at(const experts_job &t, const uint8_t *x)
{
    operands o;

    o.x = LOAD(x);
#if GATED
    o.up = LOAD(x + t.up);
#endif
    return o;
}

#if GATED
/* The activation of gates within +-87, beyond which a NaN is left. Where there is a table that is
   code which kernels would step over again and again: with it aside they are up to 9 % faster, most
   where they are short and their instructions not yet on the multiprocessor. */
#if HAS_TABLE
#define ASIDE __noinline__
#else
#define ASIDE __forceinline__
#endif
static __device__ ASIDE fp4_f32x16 compute_known(raw gate)
{
    return ACTIVATE(WIDEN(gate), GATE_AMAX(gate));
}

/* The activation of gates, of any; or (a constant) out of the table, if it has them all; or else of
   those that compute_known takes. */
static __device__ __forceinline__ fp4_f32x16 activate(const experts_tile c, raw gate,
                                                      const int of_any)
{
#if HAS_TABLE
    if (!of_any && c.table != NULL && !fp4_ptx_any(0xffffffffu, !fp4_bf16_table_has_x16(gate))) {
        return fp4_bf16_table_x16(c.table, gate);
    }
#endif
    return of_any ? ACTIVATE_ANY(WIDEN(gate)) : compute_known(gate);
}

/* Its product. All lanes of a warp call. */
static __device__ __forceinline__ fp4_f32x16 value_of(const experts_job &t, const experts_tile c,
                                                      operands o, const int of_any)
{
    fp4_f32x16 y;

    if (c.asks && t.interleaved) {
        DEINTERLEAVE(&o.x, &o.up);
    }
    y = TIMES(activate(c, o.x, of_any), o.up);
    return c.asks && t.rounded ? WIDEN(ROUND(y)) : y;
}
#endif

/* care: becomes 1 where it has to be done again, by _any. */
static __device__ __forceinline__ piece quantize_piece(const experts_job &t, const experts_tile c,
                                                       operands o, float enc, uint32_t *care)
{
#if GATED
    const fp4_f32x16 y = value_of(t, c, o, 0);
    return fp4_quantize_known_x16(TO, y, fp4_group_max_or_nan(fp4_amax_or_nan_x16(y), LANES), enc,
                                  care);
#else
    *care = 0;
    return fp4_quantize_x16(TO, WIDEN(o.x), enc);
#endif
}

/* The row of a band that is row k of the tile that begins at a line. */
static __device__ __forceinline__ uint32_t row_of(uint32_t line, uint32_t k, uint32_t run)
{
    return line + (k >> run) * 32 + (k & ((1u << run) - 1));
}

/* Of 16 bytes, four columns of four rows that are 32 apart, those that are an expert's. */
static __device__ void store_some(const experts_job &t, uint8_t *sf, const uint4 *bytes,
                                  uint32_t row, uint32_t col, uint32_t rows)
{
    const uint32_t sf_cols = t.q_cols / LANES;

    for (uint32_t quarter = 0; quarter < 4 && row + 32 * quarter < rows; quarter++) {
        const uint8_t *four = (const uint8_t *)bytes + 4 * quarter;
        if (col + 4 <= sf_cols) {
            fp4_ptx_store4(sf + 4 * quarter, *(const uint32_t *)four);
        } else {
            for (uint32_t i = 0; col + i < sf_cols; i++) {
                sf[4 * quarter + i] = four[i];
            }
        }
    }
}

/* An item's scale bytes from shared memory to the buffer, 16 a thread. There they stand as in the
   buffer, but that quarters without rows have not been written. */
static __device__ __forceinline__ void store_scales(const experts_job &t, const experts_tile c,
                                                    const experts_item &at, const uint4 *staged,
                                                    const int full)
{
    const uint32_t of_lines = threadIdx.x & ((1u << lines_of(c)) - 1);
    const uint32_t of_cols = threadIdx.x >> lines_of(c), sf_cols = t.q_cols / LANES;
    const uint32_t row = at.line + of_lines, col = at.part * (c.cols / LANES) + of_cols * 4;
    uint8_t *sf = t.sf + at.band * t.sf_band + (size_t)(col / 4) * 512 + row * 16;

    if (of_cols >= c.cols / LANES / 4 || col >= sf_cols) {
        return;
    }
    if (full) {
        *(uint4 *)sf = staged[threadIdx.x];
    } else if (t.leaves) {
        store_some(t, sf, staged + threadIdx.x, row, col, at.rows);
    } else {
        const uint32_t *quarter = (const uint32_t *)(staged + threadIdx.x);
        const uint32_t second = at.rows > 32 ? quarter[1] : 0;
        const uint32_t third = at.rows > 64 ? quarter[2] : 0;
        const uint32_t fourth = at.rows > 64 ? quarter[3] : 0;
        fp4_ptx_store16(sf, quarter[0], second, third, fourth);
    }
}

/* Which rows of x an item's rows are made of, if there are sources: its lines of the first quarter,
   then those of the second; 0 where there is no such row. has_bad: for each of the warps that fill
   it, whether there is a source that x does not have, which is NOWHERE. */
enum { SOURCES = 128, NOWHERE = 0x80000000 };
typedef struct experts_sources {
    uint32_t row[SOURCES], has_bad[SOURCES / 32];
} experts_sources;

/* Those of an item, one a thread, while the loads of the item before are on their way. All threads
   call; a barrier before they are read. */
static __device__ __forceinline__ void keep_sources(const experts_job &t, const experts_tile c,
                                                    const experts_plan *plan, uint32_t work,
                                                    experts_sources *sources)
{
    const uint32_t item = fp4_divide(work, t.across), part = work - item * t.across.by;
    const uint32_t quarter = threadIdx.x >> lines_of(c);
    uint32_t source = 0;
    int is_bad = 0;

    if (item < plan->of_bands && quarter < 4) {
        const experts_item at = find_item(t, c, plan, item, part);
        const uint32_t row = at.line + quarter * 32 + threadIdx.x % (1u << lines_of(c));
        if (row < at.rows) {
            source = (uint32_t)t.sources[at.q_row + row];
            is_bad = source >= t.x_rows;
        }
    }
    const int has_bad = fp4_ptx_any(0xffffffffu, is_bad);
    if (threadIdx.x < SOURCES) {
        sources->row[threadIdx.x] = is_bad ? NOWHERE : source;
        if (threadIdx.x % 32 == 0) {
            sources->has_bad[threadIdx.x / 32] = (uint32_t)has_bad;
        }
    }
    if (is_bad && part == 0 && t.errors != NULL) {
        fp4_ptx_atomic_or(t.errors, FP4_EXPERTS_SOURCE);
    }
}

static __device__ __forceinline__ int has_all(const experts_sources *sources)
{
    const uint32_t *bad = sources->has_bad;
    return (bad[0] | bad[1] | bad[2] | bad[3]) == 0;
}

/* Where a thread's pieces are. */
typedef struct experts_place {
    uint32_t k, col, run;    /* number 0 is row k of a tile; col in pieces */
    const uint8_t *x;        /* of the row that rows are counted from; with sources of row 0 */
    uint8_t *q, *staged;     /* of that row; of line 0 of the item */
    const uint32_t *sources; /* of the item */
    float enc;
} experts_place;

/* The row of the band that rows are counted from: where all tiles are full that of number 0 in the
   item's first tile, so that all others are constants away. */
static __device__ __forceinline__ uint32_t base_of(const experts_item &at, uint32_t k, uint32_t run,
                                                   const int full)
{
    return full ? row_of(at.line, k, run) : 0;
}

/* The row of number j, in the tile from `line` of the item on, counted from there. */
static __device__ __forceinline__ uint32_t row_at(const experts_tile c, const experts_item &at,
                                                  const experts_place &p, uint32_t line, uint32_t j,
                                                  const int full)
{
    return full ? line + j * (128 / EACH)
                : row_of(at.line + line, p.k + j * (c.rows / EACH), p.run);
}

static __device__ __forceinline__ experts_place place_of(const experts_job &t, const experts_tile c,
                                                         const experts_item &at, uint4 *staged,
                                                         const experts_sources *sources,
                                                         const int full)
{
    const uint32_t col = threadIdx.x % c.cols;
    uint32_t base;
    experts_place p;

    p.k = threadIdx.x / c.cols;
    p.col = at.part * c.cols + col;
    p.run = full ? run_of(c, 128) : at.run;
    p.x = t.x + (size_t)p.col * (16 * ELEMENT << (c.asks && t.interleaved));
    base = base_of(at, p.k, p.run, full);
    if (!c.gathered) {
        p.x += t.is_masked ? at.group * t.x_group + (size_t)(at.first + base) * t.x_row
                           : (at.q_row + base) * t.x_row;
    }
    p.q = t.q + (at.q_row + base) * t.q_row + (size_t)p.col * CODES;
    p.staged = (uint8_t *)staged + (col / LANES / 4 << lines_of(c)) * 16 + col / LANES % 4;
    p.sources = sources->row;
    p.enc = enc_of(t, at.group);
    return p;
}

/* Which row of x number j is made of, if there are sources; or NOWHERE. */
static __device__ __forceinline__ uint32_t source_at(const experts_tile c, const experts_place &p,
                                                     uint32_t line, uint32_t j)
{
    const uint32_t k = p.k + j * (c.rows / EACH);
    return p.sources[(k >> p.run << lines_of(c)) + line + (k & ((1u << p.run) - 1))];
}

/* The scale byte of number j to shared memory; `line` counts from the item's first. */
static __device__ __forceinline__ void stage(const experts_tile c, const experts_place &p,
                                             uint32_t line, uint32_t j, uint8_t sf)
{
    const uint32_t k = p.k + j * (c.rows / EACH);

    if (threadIdx.x % LANES == 0) {
        p.staged[(line + (k & ((1u << p.run) - 1))) * 16 + (k >> p.run) * 4] = sf;
    }
}

/* Pieces of a thread that have to be done again, bit j for number j: those of rows that there are
   not become zeros, those that want care are quantized without regard to speed. */
typedef struct experts_again {
    uint32_t none, care;
} experts_again;

/* One after the other, from memory. All threads of the warp call. */
static __device__ __forceinline__ void do_again(const experts_job &t, const experts_tile c,
                                                const experts_item &at, const experts_place &p,
                                                uint32_t line, experts_again again, const int full)
{
#pragma unroll 1
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t row = row_at(c, at, p, line, j, full);
        const uint32_t none = again.none >> j & 1u, care = again.care >> j & ~none & 1u;
        piece done = piece();

#if GATED
        if (fp4_ptx_any(0xffffffffu, care)) {
            operands o = operands();
            if (care) {
                uint32_t from = row;
                if (c.gathered) {
                    from = source_at(c, p, line, j);
                }
                o = load_at(t, p.x + (size_t)from * t.x_row);
            }
            done = fp4_quantize_any_x16(TO, value_of(t, c, o, 1), p.enc);
        }
#endif
        if (none) {
            done = piece();
        }
        if (none | care) {
            fp4_store_codes_x16(TO, p.q + (size_t)row * t.q_row, done);
            stage(c, p, line, j, done.sf);
        }
    }
}

/* The tile from a line of the item on. full (a constant): all rows and columns are an expert's. */
static __device__ __forceinline__ void quantize_tile(const experts_job &t, const experts_tile c,
                                                     const experts_plan *plan,
                                                     const experts_item &at, const experts_place &p,
                                                     uint32_t line, uint32_t next,
                                                     experts_sources *next_sources, const int full)
{
    experts_again again = {0, 0};

#pragma unroll 1 /* the less code, the sooner it is there */
    for (uint32_t first = 0; first < EACH; first += HELD) {
        operands o[HELD];
        int is_there[HELD];
#pragma unroll
        for (uint32_t i = 0; i < HELD; i++) {
            uint32_t from = row_at(c, at, p, line, first + i, full);
            is_there[i] = full || (from < at.rows && p.col < t.cols);
            if (c.gathered) {
                from = source_at(c, p, line, first + i);
                if (!full && is_there[i] && from == NOWHERE) {
                    again.none |= 1u << (first + i);
                    is_there[i] = 0;
                    from = 0;
                }
            }
            if (full || is_there[i]) {
                o[i] = load_at(t, p.x + (size_t)from * t.x_row);
            } else {
                o[i] = operands();
            }
        }
        fp4_pdl_trigger();
        if (c.gathered && line == 0 && first == 0) {
            keep_sources(t, c, plan, next, next_sources);
        }
#pragma unroll
        for (uint32_t i = 0; i < HELD; i++) {
            const uint32_t j = first + i;
            const uint32_t row = row_at(c, at, p, line, j, full);
            piece done = piece();
            if (full || fp4_ptx_any(0xffffffffu, is_there[i])) {
                uint32_t care;
                done = quantize_piece(t, c, o[i], p.enc, &care);
                if (!full && !is_there[i]) { /* whatever enc is */
                    done = piece();
                    care = 0;
                }
                again.care |= care << j;
            }
            if (full || (row < at.q_rows && p.col < t.q_cols)) {
                fp4_store_codes_x16(TO, p.q + (size_t)row * t.q_row, done);
            }
            stage(c, p, line, j, done.sf);
        }
    }
    if (fp4_ptx_any(0xffffffffu, (again.care | again.none) != 0)) {
        do_again(t, c, at, p, line, again, full);
    }
}

/* An item with rows of an expert in it. next: the CTA's next one; the sources of its rows go to
   next_sources. */
static __device__ __forceinline__ void quantize_item(const experts_job &t, const experts_tile c,
                                                     const experts_plan *plan,
                                                     const experts_item &at, uint4 *staged,
                                                     const experts_sources *sources, uint32_t next,
                                                     experts_sources *next_sources, const int full)
{
    const experts_place p = place_of(t, c, at, staged, sources, full);

#pragma unroll 1
    for (uint32_t line = 0; line < 1u << lines_of(c); line += 1u << p.run) {
        quantize_tile(t, c, plan, at, p, line, next, next_sources, full);
    }
    if (!full && at.q_rows > at.rows) { /* rows of quarters that its tiles have none of */
        const uint32_t first = c.rows >> p.run << lines_of(c);
        for (uint32_t k = first + p.k; k < 4u << lines_of(c); k += THREADS / c.cols) {
            const uint32_t row = row_of(at.line, k, lines_of(c));
            const piece zero = piece();
            if (row < at.q_rows && p.col < t.q_cols) {
                fp4_store_codes_x16(TO, p.q + (size_t)row * t.q_row, zero);
            }
        }
    }
    fp4_ptx_barrier();
    store_scales(t, c, at, staged, full);
}

/* Zeros in columns of this CTA to a band without rows of an expert: its rows of q that are to be
   written, and its scales. */
static __device__ void zero_band(const experts_job &t, const experts_tile c, const experts_item &at)
{
    const uint32_t col = at.part * c.cols + threadIdx.x % c.cols;
    const uint32_t of_sf = at.part * (c.cols / LANES / 4), sf_cols = t.q_cols / LANES;
    uint8_t *q = t.q + at.q_row * t.q_row + (size_t)col * CODES;
    uint8_t *sf = t.sf + at.band * t.sf_band + (size_t)of_sf * 512;
    const piece zero = piece();

    if (col < t.q_cols) {
#pragma unroll 4
        for (uint32_t row = threadIdx.x / c.cols; row < at.q_rows; row += THREADS / c.cols) {
            fp4_store_codes_x16(TO, q + (size_t)row * t.q_row, zero);
        }
    }
    if (at.has_sf && !t.leaves) {
        for (uint32_t i = threadIdx.x; i < c.cols / LANES / 4 * 32; i += THREADS) {
            if ((of_sf + i / 32) * 4 < sf_cols) {
                fp4_ptx_store16(sf + i * 16, 0, 0, 0, 0);
            }
        }
    }
}

/* The same to 128 of the rows that are no expert's, from number `first` on. */
static __device__ void zero_rows(const experts_job &t, const experts_tile c,
                                 const experts_plan *plan, uint32_t first, uint32_t part)
{
    const uint32_t col = part * c.cols + threadIdx.x % c.cols;
    const uint32_t before = plan->first_row[0], behind = plan->first_row[t.groups];
    const uint32_t all = rows_left(t, plan), last = all - first < 128 ? all : first + 128;
    const piece zero = piece();

    for (uint32_t i = first + threadIdx.x / c.cols; i < last && col < t.q_cols;
         i += THREADS / c.cols) {
        const size_t row = i < before ? i : (size_t)i - before + behind;
        fp4_store_codes_x16(TO, t.q + row * t.q_row + (size_t)col * CODES, zero);
    }
}

/* A CTA's tiles, every so many-th. Neighbouring CTAs work on neighbouring columns. */
static __device__ __forceinline__ void quantize_items(const experts_job &t, experts_tile c)
{
    __shared__ experts_plan plan;
    __shared__ uint4 staged[2][THREADS]; /* one may still be read */
    __shared__ experts_sources sources[2];
    uint32_t turn = 0;

    fp4_pdl_wait();
    make_plan(t, c, &plan);
#if HAS_TABLE
    __shared__ float table[FP4_BF16_TABLE];
    if (plan.of_bands > fp4_divide(gridDim.x, t.across)) { /* it pays where a CTA has several */
        MAKE_TABLE(table, threadIdx.x, THREADS);
        fp4_ptx_barrier();
        c.table = table;
    }
#endif
    if (c.gathered) {
        keep_sources(t, c, &plan, blockIdx.x, &sources[0]);
        fp4_ptx_barrier();
    }
    for (uint32_t work = blockIdx.x;; work += gridDim.x) {
        const uint32_t item = fp4_divide(work, t.across), part = work - item * t.across.by;
        const uint32_t next = work + gridDim.x, now = turn % 2;
        if (item >= plan.of_bands) {
            if (item >= plan.items) {
                break;
            }
            zero_rows(t, c, &plan, (item - plan.of_bands) * 128, part);
            continue;
        }
        const experts_item at = find_item(t, c, &plan, item, part);
        if (at.rows == 0) {
            if (at.line == 0) { /* of a band whose scales there is no room for: once */
                zero_band(t, c, at);
            }
            if (c.gathered) { /* what is kept changes place only with a barrier */
                keep_sources(t, c, &plan, next, &sources[1 - now]);
                fp4_ptx_barrier();
                turn++;
            }
            continue;
        }
        if (at.rows == 128 && (part + 1) * c.cols <= t.cols &&
            (!c.gathered || has_all(&sources[now]))) {
            quantize_item(t, c, &plan, at, staged[now], &sources[now], next, &sources[1 - now], 1);
        } else {
            quantize_item(t, c, &plan, at, staged[now], &sources[now], next, &sources[1 - now], 0);
        }
        turn++;
    }
}

/* The kernels: by the width of a tile. */
enum { WIDE = THREADS * EACH / 8, MIDDLE = WIDE > 32 ? 32 : 16, NARROW = 8 };

#define EXPERTS_KERNEL(name, width, gathered, asks, resident) \
    static __global__ void __launch_bounds__(THREADS, resident) name(const experts_job t) \
    { \
        const experts_tile c = {width, THREADS * EACH / (width), gathered, asks, NULL}; \
        quantize_items(t, c); \
    }

EXPERTS_KERNEL(experts_wide, WIDE, 0, 0, RESIDENT)
EXPERTS_KERNEL(experts_middle, MIDDLE, 0, 0, RESIDENT)
EXPERTS_KERNEL(experts_narrow, NARROW, 0, 0, RESIDENT)
EXPERTS_KERNEL(gathered_wide, WIDE, 1, 0, RESIDENT_OTHER)
EXPERTS_KERNEL(gathered_middle, MIDDLE, 1, 0, RESIDENT_OTHER)
EXPERTS_KERNEL(gathered_narrow, NARROW, 1, 0, RESIDENT_OTHER)
#if GATED
EXPERTS_KERNEL(asking_wide, WIDE, 0, 1, RESIDENT_OTHER)
EXPERTS_KERNEL(asking_middle, MIDDLE, 0, 1, RESIDENT_OTHER)
EXPERTS_KERNEL(asking_narrow, NARROW, 0, 1, RESIDENT_OTHER)
EXPERTS_KERNEL(asking_gathered_wide, WIDE, 1, 1, RESIDENT_OTHER)
EXPERTS_KERNEL(asking_gathered_middle, MIDDLE, 1, 1, RESIDENT_OTHER)
EXPERTS_KERNEL(asking_gathered_narrow, NARROW, 1, 1, RESIDENT_OTHER)
#endif

/* ------------------------------------------------------------------------------ launcher */

/* No number to multiply by, or its reciprocal is none. What is on the device cannot be seen. */
static int is_bad_global(const experts_args *a)
{
    const float enc = a->global_is_dec ? fp4_nvfp4_global_enc_from_dec(a->global) : a->global;

    return BLOCK == 16 && a->global_device == NULL &&
           !(a->global > 0.0f && a->global <= FP4_F32_MAX &&
             enc > 0x1p-128f); /* up to there 1 / enc is infinite */
}

static int is_bad_shape(const experts_args *a)
{
    const size_t x_cols = GATED ? 2 * a->cols : a->cols;
    const size_t matrices = a->counts != NULL ? a->groups : 1;

    return a->cols == 0 || a->cols % BLOCK != 0 || a->q_cols % BLOCK != 0 || a->q_cols < a->cols ||
           a->groups > MOST_GROUPS || a->rows > 0x7fffffffu ||
           fp4_experts_spread_row(a->rows, a->groups) > 0x7fffffffu ||
           a->q_cols / 16 > 0xffffffffu / CODES || x_cols / 2 > 0x7fffffffu ||
           matrices * a->rows > (size_t)-1 / 2 / a->q_cols || /* bytes of q, and of sf */
           a->x_stride < x_cols || a->x_stride > 0xffffffffu / ELEMENT ||
           a->x_stride * ELEMENT % 16 != 0 ||
           (matrices > 1 && (a->x_group_stride > (size_t)-1 / ELEMENT / matrices ||
                             a->x_group_stride * ELEMENT % 16 != 0));
}

static int is_bad(const experts_args *a)
{
    const size_t words = (size_t)a->counts | (size_t)a->offsets | (size_t)a->sources |
                         (size_t)a->sf_starts | (size_t)a->errors | (size_t)a->global_device;

    return (a->rows != 0 && (a->x == NULL || a->q == NULL)) || /* null */
           (a->sf == NULL && (a->offsets == NULL || a->sf_rows != 0)) ||
           (a->counts == NULL) == (a->offsets == NULL) ||
           (a->counts != NULL && (a->sources != NULL || a->sf_starts != NULL)) ||
           is_bad_shape(a) || /* packed */
           (a->offsets != NULL && (a->sf_rows % 128 != 0 || a->sf_rows > 0x7fffffffu ||
                                   (a->sources == NULL && a->x_rows < a->rows))) ||
           (size_t)a->x % 16 != 0 || (size_t)a->q % CODES != 0 || /* alignment */
           (size_t)a->sf % 16 != 0 || words % 4 != 0 || (unsigned)a->starts > FP4_STARTS_SPREAD ||
           (unsigned)a->rest > FP4_REST_LEAVE || a->global_step > 1 || is_bad_global(a);
}

static experts_job job_of(const experts_args *a)
{
    const size_t sf_cols = fp4_sf_cols_padded(FP4_LAYOUT_128X4, a->q_cols / BLOCK);
    experts_job t = {};

    t.x = (const uint8_t *)a->x;
    t.q = a->q;
    t.sf = a->sf;
    t.counts = a->counts;
    t.offsets = a->offsets;
    t.sources = a->sources;
    t.global_device = BLOCK == 16 ? a->global_device : NULL;
    t.global = a->global;
    t.global_is_dec = a->global_is_dec;
    if (t.global_device == NULL && t.global_is_dec) {
        t.global = fp4_nvfp4_global_enc_from_dec(t.global);
        t.global_is_dec = 0;
    }
    t.interleaved = a->interleaved;
    t.rounded = a->rounded;
    t.is_masked = a->counts != NULL;
    t.leaves = a->rest == FP4_REST_LEAVE;
    t.is_spread = a->starts == FP4_STARTS_SPREAD;
    t.global_step = (uint32_t)a->global_step;
    t.groups = (uint32_t)a->groups;
    t.rows = (uint32_t)a->rows;
    t.x_rows = (uint32_t)(a->x_rows < 0x80000000u ? a->x_rows : 0x80000000u);
    t.cols = (uint32_t)(a->cols / 16);
    t.q_cols = (uint32_t)(a->q_cols / 16);
    t.bands = (uint32_t)((t.is_masked ? a->rows + 127 : a->sf_rows) / 128);
    for (t.half = 1; 2 * t.half <= t.groups;) {
        t.half *= 2;
    }
    t.x_row = (uint32_t)(a->x_stride * ELEMENT);
    t.q_row = t.q_cols * CODES;
    t.x_group = a->x_group_stride * ELEMENT;
    t.up = (a->interleaved ? 16 : a->cols) * ELEMENT;
    t.sf_band = sf_cols * 128;
    t.sf_starts = a->sf_starts;
    t.errors = a->errors;
    return t;
}

/* Items of a band, where a tile has so many rows. */
static size_t items_of_band(uint32_t rows)
{
    return rows < 32 ? 32 / rows : 1;
}

/* As many items as there can be, whatever the device says. */
static size_t most_items(const experts_job *t, uint32_t rows)
{
    size_t bands = (size_t)t->bands * t->groups;

    if (!t->is_masked) {
        const size_t used =
            fp4_experts_sf_rows((fp4_experts_starts)t->is_spread, t->rows, t->groups) / 128;
        bands = t->leaves || used > t->bands ? used : t->bands;
    }
    return bands * items_of_band(rows) + (t->rows + 127) / 128;
}

/* Tiles `width` pieces wide have no more than 1/32 of their columns beyond the last: the tiles that
   have the last take as long as others, in which nothing is missing. */
static int fits(uint32_t cols, uint32_t width)
{
    return ((size_t)cols + cols / 32) / width * width >= cols;
}

#define WIDTHS(name) \
    { \
        (const void *)name##_wide, (const void *)name##_middle, (const void *)name##_narrow \
    }
#if GATED
static const void *const kernels[][3] = {WIDTHS(experts), WIDTHS(gathered), WIDTHS(asking),
                                         WIDTHS(asking_gathered)};
#else
static const void *const kernels[][3] = {WIDTHS(experts), WIDTHS(gathered)};
#endif

/* Width and kernel for a job. */
static const void *kernel_of(const experts_job *t, uint32_t *width)
{
    const int which = fits(t->q_cols, WIDE) ? 0 : fits(t->q_cols, MIDDLE) ? 1 : 2;

    *width = which == 0 ? WIDE : which == 1 ? MIDDLE : NARROW;
    return kernels[(t->sources != NULL) + 2 * (GATED && (t->interleaved || t->rounded))][which];
}

static size_t common_divisor(size_t a, size_t b)
{
    while (b != 0) {
        const size_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* CTAs for so many tiles: those of rows that are all an expert's. */
static cudaError_t ctas_for(const void *kernel, const experts_job *t, size_t tiles, size_t *ctas)
{
    int device = 0, processors = 0, resident = 0;
    cudaError_t error = cudaGetDevice(&device);

    if (error == cudaSuccess) {
        error = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    }
    if (error == cudaSuccess) {
        error = cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, THREADS, 0);
    }
    *ctas = CTAS((size_t)processors * (size_t)resident, tiles, t->sources != NULL);
    return error;
}

static cudaError_t launch(const void *kernel, dim3 ctas, void **arguments, int pdl,
                          cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = ctas;
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/**
 * Quantizes the rows of all experts on `stream`: one launch, no allocation, no synchronization,
 * nothing read on the host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, stride, alignment, scale or null pointer, and for
 *          more than 2^30 tiles (of 4096 elements or more): nothing launched, nothing written.
 *          groups = 0, rows = 0, or cols = q_cols = 0 is no error; without rows x and q may be
 *          null. Counts, offsets and sources are never one, and never lead outside of the buffers:
 *          they are bounded, and reported in *errors.
 *          What the runtime says where it cannot tell how much the device has room for.
 */
static cudaError_t experts_quantize(const experts_args *a, int pdl, cudaStream_t stream)
{
    experts_job t;
    void *arguments[] = {&t};
    const size_t bands = (a->counts != NULL ? a->groups : 1) * ((a->rows + 127) / 128);
    size_t across, tiles, ctas;
    const void *kernel;
    uint32_t width;
    cudaError_t error;

    if ((a->cols | a->q_cols) == 0 || (a->offsets == NULL && (a->groups == 0 || a->rows == 0))) {
        return cudaSuccess; /* packed, scales and starts are there without experts or rows too */
    }
    if (is_bad(a)) {
        return cudaErrorInvalidValue;
    }
    t = job_of(a);
    kernel = kernel_of(&t, &width);
    across = (t.q_cols + width - 1) / width;
    tiles = most_items(&t, THREADS * EACH / width);
    if (across > MOST_TILES || tiles > MOST_TILES / across) {
        return cudaErrorInvalidValue;
    }
    t.across = fp4_divisor_of((uint32_t)across);
    tiles *= across;
    error = ctas_for(kernel, &t, bands * items_of_band(THREADS * EACH / width) * across, &ctas);
    if (error != cudaSuccess) {
        return error;
    }
    while (t.q_cols % width != 0 && common_divisor(ctas, across) > 1) {
        ctas--; /* the last columns' tiles are smaller: each CTA shall have some of them */
    }
    ctas = ctas < tiles ? ctas : tiles;
    return launch(kernel, dim3((unsigned)(ctas > 0 ? ctas : 1)), arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/experts.h>

#include <stdio.h>
#include <stdlib.h>

#define ACTIVATION_none FP4_ACTIVATION_NONE
#define ACTIVATION_silu FP4_ACTIVATION_SILU
#define ACTIVATION_gelu_tanh FP4_ACTIVATION_GELU_TANH
#define ACTIVATION_swiglu_oai FP4_ACTIVATION_SWIGLU_OAI
#define DTYPE_f32 FP4_F32
#define DTYPE_f16 FP4_F16
#define DTYPE_bf16 FP4_BF16
#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "experts: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

/* Host memory with n elements of the input type, between -1 and 1. */
static void *elements(size_t n)
{
    void *x = malloc(n * ELEMENT);
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        const float value = (float)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-23f - 1;
        if (ELEMENT == 4) {
            ((float *)x)[i] = value;
        } else {
            ((uint16_t *)x)[i] =
                JOIN(DTYPE_, INPUT, ) == FP4_F16 ? fp4_f32_to_f16(value) : fp4_f32_to_bf16(value);
        }
    }
    return x;
}

static void *device(const void *host, size_t bytes)
{
    void *p;

    must(cudaMalloc(&p, bytes));
    if (host != NULL) {
        must(cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice));
    }
    return p;
}

/* A call on the device and the same on the host. Its x, counts, offsets and sources are the
   caller's. */
typedef struct call {
    experts_args a;
    fp4_ref_experts e;
} call;

static call call_of(size_t groups, size_t rows, size_t cols)
{
    static float scales[MOST_GROUPS];
    call c = {};

    for (size_t g = 0; g < MOST_GROUPS; g++) {
        scales[g] = 2688.0f - (float)g;
    }
    c.e.format = TO;
    c.e.activation = JOIN(ACTIVATION_, ACTIVATION, );
    c.e.dtype = JOIN(DTYPE_, INPUT, );
    c.a.groups = c.e.groups = groups;
    c.a.rows = c.e.rows = rows;
    c.a.cols = c.a.q_cols = c.e.cols = c.e.q_cols = cols;
    c.a.x_stride = c.e.x_stride = GATED ? 2 * cols : cols;
    c.a.x_group_stride = c.e.x_group_stride = rows * c.a.x_stride;
    c.e.global_scales = scales;
    c.a.global_device = (const float *)device(scales, sizeof scales);
    c.a.global_step = c.e.global_step = 1;
    c.a.errors = (uint32_t *)device(NULL, sizeof(uint32_t));
    must(cudaMemset(c.a.errors, 0, sizeof(uint32_t)));
    return c;
}

/* The counts of groups of `rows` rows, a matrix each. */
static void mask(call *c, const int32_t *counts)
{
    c->e.counts = counts;
    c->a.counts = (const int32_t *)device(counts, c->e.groups * sizeof(int32_t));
}

/* The offsets into `rows` rows, their sources among x_rows. */
static void pack(call *c, const int32_t *offsets, const int32_t *sources, size_t x_rows)
{
    c->e.offsets = offsets;
    c->e.sources = sources;
    c->a.offsets = (const int32_t *)device(offsets, (c->e.groups + 1) * sizeof(int32_t));
    if (sources != NULL) {
        c->a.sources = (const int32_t *)device(sources, c->e.rows * sizeof(int32_t));
    }
    c->a.x_rows = c->e.x_rows = x_rows;
    c->a.sf_rows = c->e.sf_rows = fp4_experts_sf_rows(c->e.starts, c->e.rows, c->e.groups);
}

/* The buffers, poisoned: a byte that is not written will show. */
static void allocate(call *c)
{
    const size_t sf_cols = fp4_sf_cols_padded(FP4_LAYOUT_128X4, c->e.q_cols / BLOCK);
    const size_t matrices = c->e.counts != NULL ? c->e.groups : 1;

    c->e.q_bytes = fp4_q_bytes(c->e.format, matrices * c->e.rows, c->e.q_cols);
    c->e.sf_bytes =
        sf_cols * (c->e.counts != NULL ? matrices * fp4_sf_rows_padded(FP4_LAYOUT_128X4, c->e.rows)
                                       : c->e.sf_rows);
    c->a.q = (uint8_t *)device(NULL, c->e.q_bytes);
    c->a.sf = (uint8_t *)device(NULL, c->e.sf_bytes);
    must(cudaMemset(c->a.q, 0x7f, c->e.q_bytes));
    must(cudaMemset(c->a.sf, 0x7f, c->e.sf_bytes));
}

static void release(call *c)
{
    must(cudaFree((void *)c->a.counts));
    must(cudaFree((void *)c->a.offsets));
    must(cudaFree((void *)c->a.sources));
    must(cudaFree((void *)c->a.global_device));
    must(cudaFree((void *)c->a.x));
    must(cudaFree(c->a.q));
    must(cudaFree(c->a.sf));
    must(cudaFree(c->a.errors));
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

/* The kernel's bytes and its host twin's: codes, scales and the word of errors. */
static int check(const char *what, call *c)
{
    const size_t x_rows = c->e.counts != NULL ? c->e.groups * c->e.rows : c->e.x_rows;
    const size_t x_bytes = x_rows * c->e.x_stride * ELEMENT;
    void *x = elements(x_rows * c->e.x_stride);
    uint32_t errors = 0;
    fp4_status status;
    int is_same;

    allocate(c);
    c->a.x = device(x, x_bytes);
    c->e.x = x;
    c->e.q = (uint8_t *)malloc(c->e.q_bytes);
    c->e.sf = (uint8_t *)malloc(c->e.sf_bytes);
    c->e.errors = &errors;
    memset(c->e.q, 0x7f, c->e.q_bytes);
    memset(c->e.sf, 0x7f, c->e.sf_bytes);
    must(experts_quantize(&c->a, 0, 0));
    status = fp4_ref_experts_quantize(&c->e);
    is_same = status == FP4_OK && same(c->a.q, c->e.q, c->e.q_bytes) &&
              same(c->a.sf, c->e.sf, c->e.sf_bytes) && same(c->a.errors, &errors, sizeof errors);
    printf("%s, errors %u, device and host: %s\n", what, errors,
           status != FP4_OK ? fp4_status_text(status)
           : is_same        ? "same bytes"
                            : "differ");
    free(x);
    free(c->e.q);
    free(c->e.sf);
    release(c);
    return is_same;
}

/* Median of 20 launches, and what they moved: rows with their scales, and zeros. */
static void measure(const char *what, call *c, size_t rows, size_t zero_rows)
{
    const size_t x_rows = c->e.counts != NULL ? c->e.groups * c->e.rows : c->e.x_rows;
    const double of_row = (double)(c->e.q_cols / 16 * CODES + c->e.q_cols / BLOCK);
    const double bytes =
        (double)rows * ((double)(c->e.x_stride * ELEMENT) + of_row) + (double)zero_rows * of_row;
    cudaEvent_t start, stop;
    float ms[20];

    allocate(c);
    c->a.x = device(NULL, x_rows * c->e.x_stride * ELEMENT);
    must(cudaMemset((void *)c->a.x, 0x3d, x_rows * c->e.x_stride * ELEMENT));
    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(experts_quantize(&c->a, 0, 0));
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
    release(c);
}

/* Masked: rows that count and that do not, zeros and not; a count that is out of bounds. Packed:
   gathered from an expert's rows to the next one's, a source that there is none; offsets that go
   back; a scale buffer that is too small. */
static int check_all(void)
{
    static const int32_t counts[] = {0, 130, 7, 33, 200, 1}, bad_counts[] = {5, -3, 201, 200, 9, 0};
    static const int32_t offsets[] = {0, 5, 133, 133, 142, 260, 300};
    static const int32_t bad_offsets[] = {4, 150, 20, 160, -1, 2000, 270};
    static int32_t sources[310];
    int is_good = 1;

    for (int i = 0; i < 310; i++) {
        sources[i] = i == 140 ? -1 : i == 141 ? 200 : i * 7 % 200;
    }
    for (int rest = 0; rest < 2; rest++) {
        for (size_t i = 0; i < 5; i++) {
            static const size_t cols[] = {1056, 512, 96, 4096, 64};
            call c = call_of(6, 200, cols[i]);
            c.a.rest = c.e.rest = (fp4_rest)rest;
            c.a.rounded = c.e.rounded = i == 2;
            c.a.interleaved = c.e.interleaved = i == 0;
            c.a.q_cols = c.e.q_cols = cols[i] + (i == 1 ? 64 : 0);
            mask(&c, i == 4 ? bad_counts : counts);
            is_good &= check(rest ? "masked, rest left alone" : "masked, rest zero", &c);
            c = call_of(6, 310, cols[i]);
            c.a.rest = c.e.rest = (fp4_rest)rest;
            c.a.starts = c.e.starts = (fp4_experts_starts)(i % 2);
            c.a.interleaved = c.e.interleaved = i == 1;
            pack(&c, i == 4 ? bad_offsets : offsets, i == 3 ? NULL : sources, i == 3 ? 310 : 200);
            c.a.sf_rows = c.e.sf_rows = i == 2 ? 256 : c.e.sf_rows;
            is_good &= check(rest ? "packed, rest left alone" : "packed, rest zero", &c);
        }
    }
    return is_good;
}

/* The same rows as one matrix, evenly spread over experts, and one with half of them, a third
   without any; and few of them among many. */
static void measure_all(void)
{
    enum { GROUPS = 64, ROWS = 16384, COLS = GATED ? 4096 : 8192 };
    static const int32_t one[] = {0, ROWS};
    static int32_t even[GROUPS + 1], skewed[GROUPS + 1], full[8], few[256], sources[ROWS];
    call c = call_of(1, ROWS, COLS);

    for (int g = 0; g < GROUPS; g++) { /* of 64 experts 21 have none, one half, 42 the others */
        const int rows = g % 3 == 1 ? 0 : g == 0 ? ROWS / 2 : ROWS / 2 / 42;
        even[g + 1] = even[g] + ROWS / GROUPS;
        skewed[g + 1] = g == GROUPS - 1 ? ROWS : skewed[g] + rows;
    }
    for (int i = 0; i < ROWS; i++) {
        sources[i] = (int32_t)((uint32_t)i * 40503u % ROWS);
    }
    for (int g = 0; g < 256; g++) {
        full[g % 8] = ROWS / 8;
        few[g] = 1 + g % 16;
    }
    pack(&c, one, NULL, ROWS);
    measure("one expert", &c, ROWS, 0);
    c = call_of(GROUPS, ROWS, COLS);
    pack(&c, even, NULL, ROWS);
    measure("64 experts, packed, even", &c, ROWS, 0);
    c = call_of(GROUPS, ROWS, COLS);
    pack(&c, skewed, NULL, ROWS);
    measure("64 experts, packed, skewed", &c, ROWS, 0);
    c = call_of(GROUPS, ROWS, COLS);
    pack(&c, skewed, sources, ROWS);
    measure("64 experts, packed, skewed, gathered", &c, ROWS, 0);
    c = call_of(8, ROWS / 8, COLS);
    mask(&c, full);
    measure("8 experts, masked, full", &c, ROWS, 0);
    c = call_of(GROUPS, ROWS, 1024);
    for (int g = 0; g < GROUPS; g++) {
        skewed[g] = skewed[g + 1] - skewed[g];
    }
    c.a.rest = FP4_REST_LEAVE;
    mask(&c, skewed);
    measure("64 experts, masked, skewed, 1024 columns, rest left alone", &c, ROWS, 0);
    c = call_of(256, 512, COLS);
    c.a.rest = FP4_REST_LEAVE;
    mask(&c, few);
    measure("256 experts, masked, 2176 rows of 131072, rest left alone", &c, 2176, 0);
    c = call_of(256, 512, COLS);
    mask(&c, few);
    measure("256 experts, masked, 2176 rows of 131072, rest zero", &c, 2176, 256 * 512 - 2176);
}

int main(void)
{
    printf("%s to %s, activation %s\n", TEXT(INPUT), TEXT(FORMAT), TEXT(ACTIVATION));
    if (!check_all()) {
        return 1;
    }
    measure_all();
    return 0;
}
#endif

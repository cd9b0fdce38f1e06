/*
 * gpu_traffic.cu - the same-traffic kernels. Each reads every byte of x once and writes every byte
 * of the codes and of the scale buffer once, padding included, as the kernel it stands beside; in
 * between it does nothing but xor words, so that the compiler can leave nothing out. The fastest of
 * them is the limit that the benchmark compares with.
 *
 * Fused kernels read a second input as well, and where that is a residual, write it in place. Their
 * weights, which stay in the caches, are not read here: a limit is not slower for that.
 *
 * A piece is what a thread takes at a time: IN bytes of x, and as many of a second input, OUT bytes
 * of codes, and with that a part of a block, a block or two blocks.
 *
 * Here are those of what makes codes; gpu_traffic_back.cu has the others.
 */
#include "gpu_bench.h"

#include <fp4/divisor.h>
#include <fp4/layout.h>

#include <cstdio>

typedef struct traffic_args {
    uint8_t *q, *sf;
    const uint8_t *x;
    uint8_t *second; /* the residual, or the second half of the first row of x */
    const float *scalars[2];
    size_t pieces;         /* of codes */
    uint32_t rows;         /* of x; others of the scale buffer are padding */
    uint32_t row_log2;     /* pieces in a row, if that is a power of two */
    fp4_divisor row;       /* any number of them; only runs */
    uint32_t tile_log2;    /* pieces in a row of a tile */
    uint32_t share_log2;   /* pieces that share a scale byte */
    uint32_t pair;         /* 1: a piece has two scale bytes */
    uint32_t sf_cols;      /* of the matrix */
    uint32_t sf_tile_log2; /* scale columns of a tile */
    uint32_t run_log2;     /* see traffic_variant; of a tile of columns: its rows */
    uint32_t rows_log2;    /* of a staged tile */
    uint32_t element_log2; /* bytes of an element, where x is column-major */
    uint32_t across;
    uint32_t scales;        /* bytes of scales that a thread of traffic_rows stores at a time, */
    uint32_t sf_store_log2; /* and their columns */
    fp4_layout layout;
} traffic_args;

/* ------------------------------------------------------------ pieces */

template <uint32_t BYTES> struct words {
    uint32_t v[BYTES / 4] = {};
};

static __device__ uint32_t load_scalars(const traffic_args &a)
{
    uint32_t s = 0;
    for (int i = 0; i < 2; i++) {
        if (a.scalars[i] != NULL) {
            s ^= __float_as_uint(*a.scalars[i]);
        }
    }
    return s;
}

template <int HINT> static __device__ uint4 load_word(const void *p)
{
    return HINT ? __ldcs((const uint4 *)p) : *(const uint4 *)p;
}

template <uint32_t IN> static __device__ void set_word(words<IN> &w, uint32_t i, uint4 v)
{
    w.v[4 * i] = v.x;
    w.v[4 * i + 1] = v.y;
    w.v[4 * i + 2] = v.z;
    w.v[4 * i + 3] = v.w;
}

template <uint32_t IN, int HINT> static __device__ words<IN> load_words(const uint8_t *p)
{
    words<IN> w;
#pragma unroll
    for (uint32_t i = 0; i < IN / 16; i++) {
        set_word(w, i, load_word<HINT>(p + 16 * i));
    }
    return w;
}

template <uint32_t IN, traffic_inputs INPUTS> struct piece {
    words<IN> x;
    words<INPUTS == TRAFFIC_ONE ? 4 : IN> second;
};

/* The words that piece i of the codes is made of. */
template <uint32_t IN, traffic_inputs INPUTS, int HINT>
static __device__ piece<IN, INPUTS> load_piece(const traffic_args &a, size_t i)
{
    const size_t before = INPUTS != TRAFFIC_GATED ? 0
                          : a.row.by == 1u << a.row_log2
                              ? i >> a.row_log2 << a.row_log2
                              : (size_t)fp4_divide((uint32_t)i, a.row) * a.row.by;
    piece<IN, INPUTS> w;

    w.x = load_words<IN, HINT>(a.x + (before + i) * IN);
    if constexpr (INPUTS != TRAFFIC_ONE) {
        w.second = load_words<IN, HINT>(a.second + (before + i) * IN);
    }
    return w;
}

template <typename WORD, int HINT> static __device__ void store_word(void *p, WORD w)
{
    if (HINT) {
        __stcs((WORD *)p, w);
    } else {
        *(WORD *)p = w;
    }
}

/* Folds piece i to its OUT bytes of codes and stores them; returns two bytes made of all of it. The
   residual becomes x: what is made of bits at random could be NaNs, over which a kernel may take
   another time. */
template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, int HINT>
static __device__ uint32_t store_piece(const traffic_args &a, size_t at, const piece<IN, INPUTS> &w,
                                       uint32_t scalars)
{
    const uint32_t words_out = OUT < 4 ? 1 : OUT / 4;
    uint8_t *const p = a.q + at * OUT;
    uint32_t out[words_out], all = 0;
    words<IN> in = w.x;

    if constexpr (INPUTS != TRAFFIC_ONE) {
#pragma unroll
        for (uint32_t i = 0; i < IN / 4; i++) {
            in.v[i] ^= w.second.v[i];
        }
    }
    if constexpr (INPUTS == TRAFFIC_RESIDUAL) {
#pragma unroll
        for (uint32_t i = 0; i < IN / 4; i += 4) {
            store_word<uint4, HINT>(a.second + at * IN + 4 * i,
                                    make_uint4(w.x.v[i], w.x.v[i + 1], w.x.v[i + 2], w.x.v[i + 3]));
        }
    }
#pragma unroll
    for (uint32_t i = 0; i < words_out; i++) {
        out[i] = scalars;
#pragma unroll
        for (uint32_t j = i; j < IN / 4; j += words_out) {
            out[i] ^= in.v[j];
        }
        all ^= out[i];
    }
    all ^= all >> 16;
    if (OUT == 2) {
        store_word<unsigned short, HINT>(p, (unsigned short)all);
    } else if (OUT == 4) {
        store_word<uint32_t, HINT>(p, out[0]);
    } else if (OUT == 8) {
        store_word<uint2, HINT>(p, make_uint2(out[0], out[words_out > 1]));
    } else {
#pragma unroll
        for (uint32_t i = 0; i + 3 < words_out; i += 4) {
            store_word<uint4, HINT>(p + 4 * i,
                                    make_uint4(out[i], out[i + 1], out[i + 2], out[i + 3]));
        }
    }
    return all;
}

/* A word made of all that a thread has loaded. */
template <uint32_t IN, traffic_inputs INPUTS, uint32_t EACH>
static __device__ uint32_t fold(const piece<IN, INPUTS> (&w)[EACH])
{
    uint32_t all = 0;
#pragma unroll
    for (uint32_t i = 0; i < EACH * IN / 4; i++) {
        all ^= w[i / (IN / 4)].x.v[i % (IN / 4)];
        if constexpr (INPUTS != TRAFFIC_ONE) {
            all ^= w[i / (IN / 4)].second.v[i % (IN / 4)];
        }
    }
    return all;
}

/* The scale byte or bytes of piece `col` of its row, if they are this piece's to store. */
static __device__ void store_scale(const traffic_args &a, uint8_t *p, uint32_t col, uint32_t all)
{
    if (a.pair) {
        *(unsigned short *)p = (unsigned short)all;
    } else if ((col & ((1u << a.share_log2) - 1)) == 0) {
        *p = (uint8_t)all;
    }
}

/* The scale column of piece `col` of a row. */
static __device__ uint32_t scale_col(const traffic_args &a, uint32_t col)
{
    return a.pair ? 2 * col : col >> a.share_log2;
}

/* ------------------------------------------------------------ kernels */

enum { TRAFFIC_THREADS = 512 }; /* of a CTA, at most */

template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_run(const traffic_args a)
{
    const size_t first = (size_t)blockIdx.x * (blockDim.x * EACH) + threadIdx.x;
    const uint32_t scalars = load_scalars(a);
    piece<IN, INPUTS> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * blockDim.x;
        if (i < a.pieces) {
            w[j] = load_piece<IN, INPUTS, HINT>(a, i);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * blockDim.x;
        if (i < a.pieces) {
            const uint32_t all = store_piece<IN, OUT, INPUTS, HINT>(a, i, w[j], scalars);
            store_scale(a, a.sf + (a.pair ? 2 * i : i >> a.share_log2), (uint32_t)i, all);
        }
    }
}

/* A CTA takes a part of a row. */
template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_scatter(const traffic_args a)
{
    const uint32_t parts_log2 = a.row_log2 - a.tile_log2;
    const uint32_t row = blockIdx.x >> parts_log2;
    const uint32_t part = blockIdx.x & ((1u << parts_log2) - 1);
    const uint32_t first = (part << a.tile_log2) + threadIdx.x;
    const uint32_t scalars = load_scalars(a);
    const size_t start = (size_t)row << a.row_log2;
    piece<IN, INPUTS> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (row < a.rows) {
            w[j] = load_piece<IN, INPUTS, HINT>(a, start + first + j * blockDim.x);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t col = first + j * blockDim.x;
        uint32_t all = 0;
        if (row < a.rows) {
            all = store_piece<IN, OUT, INPUTS, HINT>(a, start + col, w[j], scalars);
        }
        store_scale(a, a.sf + fp4_sf_offset(a.layout, row, scale_col(a, col), a.sf_cols), col, all);
    }
}

/* The row of the matrix that is row k of a tile: for 128x4 a tile takes a run of rows of each
   quarter of 128, whose scale bytes are then 16 times as many consecutive ones for every 4 columns.
 */
static __device__ uint32_t tile_row(const traffic_args &a, uint32_t tile, uint32_t k)
{
    if (a.layout == FP4_LAYOUT_128X4) {
        const uint32_t tiles_log2 = 5 - a.run_log2, run = (1u << a.run_log2) - 1;
        return (tile >> tiles_log2) * 128 + ((tile & ((1u << tiles_log2) - 1)) << a.run_log2) +
               (k >> a.run_log2) * 32 + (k & run);
    }
    return (tile << a.rows_log2) + k;
}

/* Where the scale byte of row k, scale column c of a tile stands: as in the scale buffer. */
static __device__ uint32_t staged_at(const traffic_args &a, uint32_t k, uint32_t c)
{
    if (a.layout == FP4_LAYOUT_128X4) {
        const uint32_t run = (1u << a.run_log2) - 1;
        return ((c / 4) << (a.run_log2 + 4)) + (k & run) * 16 + (k >> a.run_log2) * 4 + c % 4;
    }
    return ((k / 8) << (a.sf_tile_log2 + 3)) + c / 4 * 32 + k % 8 * 4 + c % 4;
}

/* Where the codes depend on a sum over the row, nothing is stored before all that the CTA loads is
   there. What passes this barrier is one bit, made of everything. */
template <uint32_t IN, traffic_inputs INPUTS, uint32_t EACH>
static __device__ uint32_t barrier(const piece<IN, INPUTS> (&w)[EACH])
{
    return (uint32_t)__syncthreads_or(fold<IN, INPUTS, EACH>(w) == 1);
}

/* A CTA takes a tile: some rows of a part of the columns, with a barrier some whole rows. */
template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT, int BARRIER>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_staged(const traffic_args a)
{
    extern __shared__ uint4 staged[];
    const uint32_t tile = a.across ? blockIdx.y : blockIdx.x;
    const uint32_t part = a.across ? blockIdx.x : blockIdx.y;
    uint32_t scalars = load_scalars(a);
    piece<IN, INPUTS> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t row = tile_row(a, tile, at >> a.tile_log2);
        const uint32_t col = (part << a.tile_log2) + (at & ((1u << a.tile_log2) - 1));
        if (row < a.rows) {
            w[j] = load_piece<IN, INPUTS, HINT>(a, ((size_t)row << a.row_log2) + col);
        }
    }
    if (BARRIER) {
        scalars ^= barrier<IN, INPUTS, EACH>(w);
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t k = at >> a.tile_log2, c = at & ((1u << a.tile_log2) - 1);
        const uint32_t row = tile_row(a, tile, k), col = (part << a.tile_log2) + c;
        uint32_t all = 0;
        if (row < a.rows) {
            const size_t i = ((size_t)row << a.row_log2) + col;
            all = store_piece<IN, OUT, INPUTS, HINT>(a, i, w[j], scalars);
        }
        store_scale(a, (uint8_t *)staged + staged_at(a, k, scale_col(a, c)), c, all);
    }
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < 1u << (a.rows_log2 + a.sf_tile_log2 - 4); i += blockDim.x) {
        const bool is_128x4 = a.layout == FP4_LAYOUT_128X4;
        const uint32_t band_log2 = a.sf_tile_log2 - 1; /* 8x4: 16-byte words of 8 rows */
        const uint32_t k =
            is_128x4 ? i & ((1u << a.run_log2) - 1) : (i >> band_log2) * 8 + i % 2 * 4;
        const uint32_t c = is_128x4 ? (i >> a.run_log2) * 4 : (i & ((1u << band_log2) - 1)) / 2 * 4;
        const uint32_t row = tile_row(a, tile, k), col = (part << a.sf_tile_log2) + c;
        if (row < fp4_sf_rows_padded(a.layout, a.rows)) {
            *(uint4 *)(a.sf + fp4_sf_offset(a.layout, row, col, a.sf_cols)) = staged[i];
        }
    }
}

/* x column-major: CTAs go through all columns of 8192 rows, then of the next 8192; across, of one
   tile's rows. A CTA takes a tile of 1 << run_log2 rows x 1 << tile_log2 pieces of 16 bytes of
   codes. Which words of x a word of codes is made of does not matter; which bytes the tile reads
   and writes does: every column's part of the tile is one run of bytes, every row's codes are. */
template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_columns(const traffic_args a)
{
    const uint32_t tile = a.across ? blockIdx.y : blockIdx.z * gridDim.x + blockIdx.x;
    const uint32_t part = a.across ? blockIdx.x : blockIdx.y;
    const uint32_t first_row = tile << a.run_log2;
    const uint32_t first_col = (part << a.tile_log2) * (IN >> a.element_log2);
    const uint32_t words_log2 = a.run_log2 + a.element_log2 - 4; /* of a column of the tile */
    const uint32_t scalars = load_scalars(a);
    piece<IN, INPUTS> w[EACH];
    uint32_t all = 0;

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
#pragma unroll
        for (uint32_t i = 0; i < IN / 16; i++) {
            const uint32_t at = threadIdx.x + (j * (IN / 16) + i) * blockDim.x;
            const uint32_t word = at & ((1u << words_log2) - 1);
            const uint32_t row = first_row + (word << (4 - a.element_log2));
            const size_t col = first_col + (at >> words_log2);
            if (row < a.rows) {
                set_word(w[j].x, i,
                         load_word<HINT>(a.x + ((col * a.rows + row) << a.element_log2)));
            }
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t row = first_row + (at >> a.tile_log2);
        const uint32_t col = (part << a.tile_log2) + (at & ((1u << a.tile_log2) - 1));
        if (row < a.rows) {
            const size_t i = ((size_t)row << a.row_log2) + col;
            all ^= store_piece<IN, OUT, INPUTS, HINT>(a, i, w[j], scalars);
        }
    }
    /* Four scale bytes a thread, neighbours in the scale buffer by neighbours. */
    for (uint32_t i = threadIdx.x; i < 1u << (a.run_log2 + a.sf_tile_log2 - 2); i += blockDim.x) {
        const uint32_t quarters_log2 = a.run_log2 - 5, k = i & ((1u << a.run_log2) - 1);
        const uint32_t c = (part << a.sf_tile_log2) + (i >> a.run_log2) * 4;
        const uint32_t quarter = k & ((1u << quarters_log2) - 1);
        const uint32_t row =
            first_row + (a.layout == FP4_LAYOUT_128X4 ? quarter * 32 + (k >> quarters_log2) : k);
        if (row < fp4_sf_rows_padded(a.layout, a.rows)) {
            *(uint32_t *)(a.sf + fp4_sf_offset(a.layout, row, c, a.sf_cols)) = all;
        }
    }
}

/* A CTA takes a row, or a part of one; each thread stores some of the scale bytes, neighbours those
   of neighbours. across: neighbouring CTAs take rows that are neighbours in a 128x4 buffer.

   For 128x4 words of 16 bytes hold the scales of rows r, r + 32, r + 64, r + 96: of up to 32 rows
   that is one row and padding. */
template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT, int BARRIER>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_rows(const traffic_args a)
{
    const uint32_t parts_log2 = a.row_log2 - a.tile_log2;
    const uint32_t place = blockIdx.x >> parts_log2;
    const uint32_t row = a.across ? place / 128 * 128 + place % 4 * 32 + place % 128 / 4 : place;
    const uint32_t part = blockIdx.x & ((1u << parts_log2) - 1);
    const uint32_t first = (part << a.tile_log2) + threadIdx.x;
    const size_t start = (size_t)row << a.row_log2;
    uint32_t scalars = load_scalars(a), all = 0;
    piece<IN, INPUTS> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (row < a.rows) {
            w[j] = load_piece<IN, INPUTS, HINT>(a, start + first + j * blockDim.x);
        }
    }
    if (BARRIER) {
        scalars ^= barrier<IN, INPUTS, EACH>(w);
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t col = first + j * blockDim.x;
        if (row < a.rows) {
            all ^= store_piece<IN, OUT, INPUTS, HINT>(a, start + col, w[j], scalars);
        }
        if (a.scales == 1) {
            const size_t at = fp4_sf_offset(a.layout, row, scale_col(a, col), a.sf_cols);
            store_scale(a, a.sf + at, col, all);
        }
    }
    if (a.scales == 1) {
        return;
    }
    for (uint32_t i = threadIdx.x; i < 1u << (a.sf_tile_log2 - a.sf_store_log2); i += blockDim.x) {
        const uint32_t c = (part << a.sf_tile_log2) + (i << a.sf_store_log2);
        uint8_t *const p = a.sf + fp4_sf_offset(a.layout, row, c, a.sf_cols);
        if (a.scales == 4) {
            *(uint32_t *)p = all;
        } else {
            *(uint4 *)p = make_uint4(all, all, all, all);
        }
    }
}

/* ------------------------------------------------------------ which of them */

template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS, uint32_t EACH, int HINT>
static const void *of_kind(const traffic_variant *v)
{
    switch (v->kind) {
    case TRAFFIC_RUN:
        return (const void *)traffic_run<IN, OUT, INPUTS, EACH, HINT>;
    case TRAFFIC_SCATTER:
        return (const void *)traffic_scatter<IN, OUT, INPUTS, EACH, HINT>;
    case TRAFFIC_STAGED:
        return v->barrier ? (const void *)traffic_staged<IN, OUT, INPUTS, EACH, HINT, 1>
                          : (const void *)traffic_staged<IN, OUT, INPUTS, EACH, HINT, 0>;
    case TRAFFIC_COLUMNS:
        if constexpr (INPUTS == TRAFFIC_ONE && OUT == 16) {
            return (const void *)traffic_columns<IN, OUT, INPUTS, EACH, HINT>;
        }
        return NULL;
    default:
        return v->barrier ? (const void *)traffic_rows<IN, OUT, INPUTS, EACH, HINT, 1>
                          : (const void *)traffic_rows<IN, OUT, INPUTS, EACH, HINT, 0>;
    }
}

template <uint32_t IN, uint32_t OUT, traffic_inputs INPUTS = TRAFFIC_ONE>
static const void *of_pieces(const traffic_variant *v)
{
    switch (v->each * 2 + v->hints) {
    case 2:
        return of_kind<IN, OUT, INPUTS, 1, 0>(v);
    case 3:
        return of_kind<IN, OUT, INPUTS, 1, 1>(v);
    case 4:
        return of_kind<IN, OUT, INPUTS, 2, 0>(v);
    case 5:
        return of_kind<IN, OUT, INPUTS, 2, 1>(v);
    case 8:
        return of_kind<IN, OUT, INPUTS, 4, 0>(v);
    case 9:
        return of_kind<IN, OUT, INPUTS, 4, 1>(v);
    default:
        return NULL;
    }
}

/* Of two inputs, 2 bytes an element, to codes of BITS. */
template <traffic_inputs INPUTS, uint32_t BITS> static const void *of_two(const traffic_variant *v)
{
    switch (v->elements) {
    case 8:
        return of_pieces<16, BITS, INPUTS>(v);
    case 16:
        return of_pieces<32, 2 * BITS, INPUTS>(v);
    case 32:
        return of_pieces<64, 4 * BITS, INPUTS>(v);
    default:
        return NULL;
    }
}

/* The kernel of a variant, or NULL where there is none. The cases are a piece's bytes of x times
   100, plus its bytes of codes. */
static const void *kernel_of(const bench_traffic *t, const traffic_variant *v)
{
    if (t->inputs != TRAFFIC_ONE) {
        const bool is_gated = t->inputs == TRAFFIC_GATED;
        return t->element != 2     ? NULL
               : t->code_bits == 8 ? (is_gated ? of_two<TRAFFIC_GATED, 8>(v) : NULL)
               : is_gated          ? of_two<TRAFFIC_GATED, 4>(v)
                                   : of_two<TRAFFIC_RESIDUAL, 4>(v);
    }
    switch (v->elements * t->element * 100 + v->elements * t->code_bits / 8) {
    case 1602:
        return of_pieces<16, 2>(v);
    case 1604:
        return of_pieces<16, 4>(v);
    case 1608:
        return of_pieces<16, 8>(v);
    case 1616:
        return of_pieces<16, 16>(v);
    case 3204:
        return of_pieces<32, 4>(v);
    case 3208:
        return of_pieces<32, 8>(v);
    case 3216:
        return of_pieces<32, 16>(v);
    case 3232:
        return of_pieces<32, 32>(v);
    case 6408:
        return of_pieces<64, 8>(v);
    case 6416:
        return of_pieces<64, 16>(v);
    case 6432:
        return of_pieces<64, 32>(v);
    case 12816:
        return of_pieces<128, 16>(v);
    default:
        return NULL;
    }
}

static uint32_t log2_of(size_t n)
{
    uint32_t log2 = 0;
    while ((size_t)2 << log2 <= n) {
        log2++;
    }
    return log2;
}

/* Rows of a tile, and pieces in one of its rows; 0 where the variant does not fit the shape. */
static size_t tile_rows(const bench_traffic *t, const traffic_variant *v)
{
    const bool quarters = v->kind == TRAFFIC_STAGED && t->layout == FP4_LAYOUT_128X4;
    const bool tiles = v->kind == TRAFFIC_STAGED || v->kind == TRAFFIC_COLUMNS;
    return tiles ? (size_t)v->run * (quarters ? 4 : 1) : 1;
}

static size_t tile_pieces(const bench_traffic *t, const traffic_variant *v, size_t cols)
{
    const size_t in_row = (size_t)(v->threads * v->each) / tile_rows(t, v);
    const size_t blocks = in_row * (size_t)v->elements / (size_t)t->block;

    if (v->kind == TRAFFIC_RUN) {
        return cols % (size_t)v->elements == 0 ? cols / (size_t)v->elements : 0;
    }
    return in_row * (size_t)v->elements <= cols && blocks >= 4 ? in_row : 0;
}

static bool is_worth_trying(const bench_traffic *t, const traffic_variant *v, size_t rows,
                            size_t cols)
{
    const bool linear = t->layout == FP4_LAYOUT_LINEAR, small = rows <= 512;
    const size_t in_cta = (size_t)(v->threads * v->each * v->elements);
    const int loaded = v->each * v->elements * t->element * (t->inputs == TRAFFIC_ONE ? 1 : 2);

    if (kernel_of(t, v) == NULL || tile_pieces(t, v, cols) == 0 || v->elements > 2 * t->block ||
        (small && v->hints == 1) || loaded > 256 + 256 * (t->inputs == TRAFFIC_ONE)) {
        return false;
    }
    if ((cols & (cols - 1)) != 0) { /* as many bytes in a row, wherever a layout has them */
        return v->kind == TRAFFIC_RUN && !t->colmajor && v->run == 2 && !v->across &&
               (small || v->threads >= 128);
    }
    if (v->kind == TRAFFIC_ROWS) { /* parts of rows with one byte at a time: scatter and run */
        return t->whole_rows && (!v->across || (t->layout == FP4_LAYOUT_128X4 && v->scales == 4)) &&
               (in_cta == cols || (!v->barrier && v->threads >= 128 && v->scales > 1)) &&
               (v->scales == 1 || v->scales == (linear ? 16 : 4) ||
                (v->scales == 16 && t->layout == FP4_LAYOUT_128X4 && rows <= 32)) &&
               in_cta / (size_t)t->block >= (v->scales == 16 && linear ? 16 : 4);
    }
    if (v->kind == TRAFFIC_STAGED && (v->run == 1 || v->barrier)) {
        return t->whole_rows && t->layout == FP4_LAYOUT_128X4 && v->elements >= 16 &&
               (!v->barrier || in_cta == cols * tile_rows(t, v));
    }
    if (!small && v->threads < 128) {
        return false;
    }
    switch (v->kind) {
    case TRAFFIC_RUN:
        return linear && !t->colmajor && v->run == 2 && !v->across;
    case TRAFFIC_SCATTER:
        return !linear && !t->colmajor && v->run == 2 && !v->across && v->threads != 256;
    case TRAFFIC_STAGED: /* whole runs of 8 rows for 8x4, few rows where there are few */
        return !linear && !t->colmajor && v->threads <= 256 && v->elements * t->element >= 32 &&
               !(v->across && (small || v->hints || v->threads < 256)) &&
               (t->layout == FP4_LAYOUT_128X4 ? v->run <= (small ? 4 : 8)
                                              : v->run >= 8 && v->run <= (small ? 8 : 16));
    default: /* lines of 128 bytes in the columns */
        return t->colmajor && v->elements * t->code_bits == 128 && v->threads >= 128 &&
               v->run * t->element >= 128 && v->run >= 32 && v->run <= 128;
    }
}

int traffic_variants(const bench_traffic *t, size_t rows, size_t cols,
                     traffic_variant list[TRAFFIC_MOST])
{
    int count = 0;

    if (t->way != TRAFFIC_TO_CODES) {
        return traffic_back_variants(t, rows, cols, list);
    }
    for (int i = 0; i < 4 * 4 * 3 * 4 * 8 * 2 * 2 && count < TRAFFIC_MOST; i++) {
        const traffic_variant v = {(traffic_kind)(i / 1536),
                                   4 << i / 384 % 4,
                                   1 << i / 128 % 3,
                                   64 << i / 32 % 4,
                                   i / 2 % 2,
                                   2 << i / 4 % 8,
                                   i % 2,
                                   0,
                                   0,
                                   0,
                                   0};
        if (is_worth_trying(t, &v, rows, cols)) {
            list[count++] = v;
        }
    }
    /* Of whole rows: rows and parts of rows, in two orders; 4 rows and more, staged. */
    for (int i = 0; i < 3 * 3 * 3 * 5 * 2 * 3 * 2 && count < TRAFFIC_MOST; i++) {
        const bool is_staged = i >= 2 * 540;
        const traffic_variant v = {is_staged ? TRAFFIC_STAGED : TRAFFIC_ROWS,
                                   8 << i / 180 % 3,
                                   1 << i / 60 % 3,
                                   32 << i / 12 % 5,
                                   i / 6 % 2,
                                   is_staged ? 1 << i / 2 % 3 : 1,
                                   i / 540 == 1,
                                   is_staged ? 0 : 1 << i / 2 % 3 * 2,
                                   i % 2,
                                   0,
                                   0};
        if ((!is_staged || v.run == 1 || v.barrier) && is_worth_trying(t, &v, rows, cols)) {
            list[count++] = v;
        }
    }
    return count;
}

cudaError_t traffic_launch(const bench_traffic *t, const traffic_variant *v, const bench_buffers *b,
                           cudaStream_t stream)
{
    if (t->way != TRAFFIC_TO_CODES) {
        return traffic_back_launch(t, v, b, stream);
    }
    const size_t in_row = tile_pieces(t, v, b->cols), rows_in_tile = tile_rows(t, v);
    const bool quarters = v->scales == 16 && t->layout == FP4_LAYOUT_128X4;
    const size_t sf_rows = quarters ? 32 : fp4_sf_rows_padded(t->layout, b->rows);
    const size_t parts = b->cols / (size_t)v->elements / in_row; /* of a row */
    const size_t tiles = (sf_rows + rows_in_tile - 1) / rows_in_tile;
    traffic_args a = {};
    void *arguments[] = {&a};
    dim3 grid;

    if (t->colmajor && b->rows * (size_t)t->element % 16 != 0) {
        return cudaErrorInvalidValue;
    }
    a.q = b->q;
    a.sf = b->sf;
    a.x = (const uint8_t *)b->x;
    a.scalars[0] = t->scalars > 0 ? b->global_enc : NULL;
    a.scalars[1] = t->scalars > 1 ? b->x_dec : NULL;
    a.pieces = b->rows * b->cols / (size_t)v->elements;
    a.rows = (uint32_t)b->rows;
    a.row_log2 = log2_of(b->cols / (size_t)v->elements);
    a.row = fp4_divisor_of((uint32_t)(b->cols / (size_t)v->elements));
    a.tile_log2 = log2_of(in_row);
    a.share_log2 = v->elements < t->block ? log2_of((size_t)(t->block / v->elements)) : 0;
    a.pair = v->elements > t->block;
    a.sf_cols = (uint32_t)(b->cols / (size_t)t->block);
    a.sf_tile_log2 = log2_of(in_row * (size_t)v->elements / (size_t)t->block);
    a.run_log2 = log2_of((size_t)v->run);
    a.rows_log2 = log2_of(rows_in_tile);
    a.element_log2 = log2_of((size_t)t->element);
    a.across = (uint32_t)v->across;
    a.scales = (uint32_t)v->scales;
    a.sf_store_log2 = v->scales == 16 && !quarters ? 4 : 2;
    a.layout = t->layout;
    a.second = t->inputs == TRAFFIC_RESIDUAL
                   ? (uint8_t *)b->residual
                   : (uint8_t *)b->x + b->cols * (size_t)t->element; /* which is only read */
    if (v->kind == TRAFFIC_RUN) {
        const size_t pieces = (size_t)(v->threads * v->each);
        grid.x = (unsigned)((a.pieces + pieces - 1) / pieces);
    } else if (v->kind == TRAFFIC_SCATTER || v->kind == TRAFFIC_ROWS) {
        grid.x = (unsigned)(tiles * parts);
    } else {
        const size_t most = v->kind == TRAFFIC_COLUMNS ? 8192 / rows_in_tile : tiles;
        const size_t band = tiles < most ? tiles : most; /* of tiles, whose parts come together */
        grid.x = (unsigned)(v->across ? parts : band);
        grid.y = (unsigned)(v->across ? tiles : parts);
        grid.z = (unsigned)(v->across ? 1 : (tiles + band - 1) / band);
    }
    return cudaLaunchKernel(kernel_of(t, v), grid, dim3((unsigned)v->threads), arguments,
                            v->kind == TRAFFIC_STAGED ? rows_in_tile << a.sf_tile_log2 : 0, stream);
}

const char *traffic_text(const traffic_variant *v, char *text, size_t size)
{
    static const char *const kinds[] = {"run",  "scatter", "staged", "columns",
                                        "rows", "fours",   "reduced"};
    int at = snprintf(text, size, "%s, %d x %d elements, %d threads", kinds[v->kind], v->each,
                      v->elements, v->threads);

    if (v->kind == TRAFFIC_REDUCED) {
        at += snprintf(text + at, size - (size_t)at, ", %d x %d a row", v->run, v->lanes);
        if (v->stay != 0) {
            at += snprintf(text + at, size - (size_t)at, ", %d CTAs an SM", v->stay);
        }
    } else if (v->kind == TRAFFIC_ROWS) {
        at += snprintf(text + at, size - (size_t)at, ", scales by %d%s", v->scales,
                       v->across ? ", across" : "");
    } else if (v->kind == TRAFFIC_STAGED || v->kind == TRAFFIC_COLUMNS) {
        at += snprintf(text + at, size - (size_t)at, ", %d rows%s", v->run,
                       v->across ? ", across" : "");
    }
    snprintf(text + at, size - (size_t)at, "%s%s", v->barrier ? ", barrier" : "",
             v->hints ? ", .cs" : "");
    return text;
}

/*
 * gpu_traffic.cu - the same-traffic kernels. Each reads every byte of x once and writes every byte
 * of the codes and of the scale buffer once, padding included, as the kernel it stands beside; in
 * between it does nothing but xor words, so that the compiler can leave nothing out. The fastest of
 * them is the limit that the benchmark compares with.
 *
 * A piece is what a thread takes at a time: IN bytes of x, OUT bytes of codes, and with that a part
 * of a block, a block or two blocks.
 */
#include "gpu_bench.h"

#include <fp4/layout.h>

#include <cstdio>

typedef struct traffic_args {
    uint8_t *q, *sf;
    const uint8_t *x;
    const float *scalars[2];
    size_t pieces;         /* of x */
    uint32_t rows;         /* of x; others of the scale buffer are padding */
    uint32_t row_log2;     /* pieces in a row */
    uint32_t tile_log2;    /* pieces in a row of a tile */
    uint32_t share_log2;   /* pieces that share a scale byte */
    uint32_t pair;         /* 1: a piece has two scale bytes */
    uint32_t sf_cols;      /* of the matrix */
    uint32_t sf_tile_log2; /* scale columns of a tile */
    uint32_t run_log2;     /* see traffic_variant; of a tile of columns: its rows */
    uint32_t rows_log2;    /* of a staged tile */
    uint32_t element_log2; /* bytes of an element, where x is column-major */
    uint32_t across;
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

template <uint32_t IN, int HINT> static __device__ words<IN> load_piece(const uint8_t *p)
{
    words<IN> w;
#pragma unroll
    for (uint32_t i = 0; i < IN / 16; i++) {
        set_word(w, i, load_word<HINT>(p + 16 * i));
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

/* Folds a piece to its OUT bytes and stores them; returns two bytes made of all of it. */
template <uint32_t IN, uint32_t OUT, int HINT>
static __device__ uint32_t store_piece(uint8_t *p, const words<IN> &in, uint32_t scalars)
{
    const uint32_t words_out = OUT < 4 ? 1 : OUT / 4;
    uint32_t out[words_out], all = 0;

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

template <uint32_t IN, uint32_t OUT, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_run(const traffic_args a)
{
    const size_t first = (size_t)blockIdx.x * (blockDim.x * EACH) + threadIdx.x;
    const uint32_t scalars = load_scalars(a);
    words<IN> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * blockDim.x;
        if (i < a.pieces) {
            w[j] = load_piece<IN, HINT>(a.x + i * IN);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const size_t i = first + j * blockDim.x;
        if (i < a.pieces) {
            const uint32_t all = store_piece<IN, OUT, HINT>(a.q + i * OUT, w[j], scalars);
            store_scale(a, a.sf + (a.pair ? 2 * i : i >> a.share_log2), (uint32_t)i, all);
        }
    }
}

/* A CTA takes a part of a row. */
template <uint32_t IN, uint32_t OUT, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_scatter(const traffic_args a)
{
    const uint32_t parts_log2 = a.row_log2 - a.tile_log2;
    const uint32_t row = blockIdx.x >> parts_log2;
    const uint32_t part = blockIdx.x & ((1u << parts_log2) - 1);
    const uint32_t first = (part << a.tile_log2) + threadIdx.x;
    const uint32_t scalars = load_scalars(a);
    const size_t start = (size_t)row << a.row_log2;
    words<IN> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        if (row < a.rows) {
            w[j] = load_piece<IN, HINT>(a.x + (start + first + j * blockDim.x) * IN);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t col = first + j * blockDim.x;
        uint32_t all = 0;
        if (row < a.rows) {
            all = store_piece<IN, OUT, HINT>(a.q + (start + col) * OUT, w[j], scalars);
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

/* A CTA takes a tile: some rows of a part of the columns. */
template <uint32_t IN, uint32_t OUT, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_staged(const traffic_args a)
{
    extern __shared__ uint4 staged[];
    const uint32_t tile = a.across ? blockIdx.y : blockIdx.x;
    const uint32_t part = a.across ? blockIdx.x : blockIdx.y;
    const uint32_t scalars = load_scalars(a);
    words<IN> w[EACH];

#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t row = tile_row(a, tile, at >> a.tile_log2);
        const uint32_t col = (part << a.tile_log2) + (at & ((1u << a.tile_log2) - 1));
        if (row < a.rows) {
            w[j] = load_piece<IN, HINT>(a.x + (((size_t)row << a.row_log2) + col) * IN);
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t k = at >> a.tile_log2, c = at & ((1u << a.tile_log2) - 1);
        const uint32_t row = tile_row(a, tile, k), col = (part << a.tile_log2) + c;
        uint32_t all = 0;
        if (row < a.rows) {
            uint8_t *q = a.q + (((size_t)row << a.row_log2) + col) * OUT;
            all = store_piece<IN, OUT, HINT>(q, w[j], scalars);
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

/* x column-major: a CTA takes a tile of 1 << run_log2 rows x 1 << tile_log2 pieces of 16 bytes of
   codes. Which words of x a word of codes is made of does not matter; which bytes the tile reads
   and writes does: every column's part of the tile is one run of bytes, every row's codes are. */
template <uint32_t IN, uint32_t OUT, uint32_t EACH, int HINT>
static __global__ void __launch_bounds__(TRAFFIC_THREADS) traffic_columns(const traffic_args a)
{
    const uint32_t tile = a.across ? blockIdx.y : blockIdx.x;
    const uint32_t part = a.across ? blockIdx.x : blockIdx.y;
    const uint32_t first_row = tile << a.run_log2;
    const uint32_t first_col = (part << a.tile_log2) * (IN >> a.element_log2);
    const uint32_t words_log2 = a.run_log2 + a.element_log2 - 4; /* of a column of the tile */
    const uint32_t scalars = load_scalars(a);
    words<IN> w[EACH];
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
                set_word(w[j], i, load_word<HINT>(a.x + ((col * a.rows + row) << a.element_log2)));
            }
        }
    }
#pragma unroll
    for (uint32_t j = 0; j < EACH; j++) {
        const uint32_t at = threadIdx.x + j * blockDim.x;
        const uint32_t row = first_row + (at >> a.tile_log2);
        const uint32_t col = (part << a.tile_log2) + (at & ((1u << a.tile_log2) - 1));
        if (row < a.rows) {
            uint8_t *q = a.q + (((size_t)row << a.row_log2) + col) * OUT;
            all ^= store_piece<IN, OUT, HINT>(q, w[j], scalars);
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

/* ------------------------------------------------------------ which of them */

template <uint32_t IN, uint32_t OUT, uint32_t EACH, int HINT>
static const void *of_kind(traffic_kind kind)
{
    switch (kind) {
    case TRAFFIC_RUN:
        return (const void *)traffic_run<IN, OUT, EACH, HINT>;
    case TRAFFIC_SCATTER:
        return (const void *)traffic_scatter<IN, OUT, EACH, HINT>;
    case TRAFFIC_STAGED:
        return (const void *)traffic_staged<IN, OUT, EACH, HINT>;
    default:
        return (const void *)traffic_columns<IN, OUT, EACH, HINT>;
    }
}

template <uint32_t IN, uint32_t OUT> static const void *of_pieces(const traffic_variant *v)
{
    switch (v->each * 2 + v->hints) {
    case 2:
        return of_kind<IN, OUT, 1, 0>(v->kind);
    case 3:
        return of_kind<IN, OUT, 1, 1>(v->kind);
    case 4:
        return of_kind<IN, OUT, 2, 0>(v->kind);
    case 5:
        return of_kind<IN, OUT, 2, 1>(v->kind);
    case 8:
        return of_kind<IN, OUT, 4, 0>(v->kind);
    case 9:
        return of_kind<IN, OUT, 4, 1>(v->kind);
    default:
        return NULL;
    }
}

/* The kernel of a variant, or NULL where there is none. The cases are a piece's bytes of x times
   100, plus its bytes of codes. */
static const void *kernel_of(const bench_traffic *t, const traffic_variant *v)
{
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
    return v->kind < TRAFFIC_STAGED ? 1 : (size_t)v->run * (quarters ? 4 : 1);
}

static size_t tile_pieces(const bench_traffic *t, const traffic_variant *v, size_t cols)
{
    const size_t in_row = (size_t)(v->threads * v->each) / tile_rows(t, v);
    const size_t blocks = in_row * (size_t)v->elements / (size_t)t->block;

    if (v->kind == TRAFFIC_RUN) {
        return cols / (size_t)v->elements;
    }
    return in_row * (size_t)v->elements <= cols && blocks >= 4 ? in_row : 0;
}

static bool is_worth_trying(const bench_traffic *t, const traffic_variant *v, size_t rows,
                            size_t cols)
{
    const bool linear = t->layout == FP4_LAYOUT_LINEAR, small = rows <= 512;

    if (kernel_of(t, v) == NULL || tile_pieces(t, v, cols) == 0 || v->elements > 2 * t->block ||
        (small ? v->hints == 1 : v->threads < 128)) {
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

    for (int i = 0; i < 4 * 4 * 3 * 4 * 8 * 2 * 2 && count < TRAFFIC_MOST; i++) {
        const traffic_variant v = {(traffic_kind)(i / 1536),
                                   4 << i / 384 % 4,
                                   1 << i / 128 % 3,
                                   64 << i / 32 % 4,
                                   i / 2 % 2,
                                   2 << i / 4 % 8,
                                   i % 2};
        if (is_worth_trying(t, &v, rows, cols)) {
            list[count++] = v;
        }
    }
    return count;
}

cudaError_t traffic_launch(const bench_traffic *t, const traffic_variant *v, const bench_buffers *b,
                           cudaStream_t stream)
{
    const size_t in_row = tile_pieces(t, v, b->cols), rows_in_tile = tile_rows(t, v);
    const size_t sf_rows = fp4_sf_rows_padded(t->layout, b->rows);
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
    a.tile_log2 = log2_of(in_row);
    a.share_log2 = v->elements < t->block ? log2_of((size_t)(t->block / v->elements)) : 0;
    a.pair = v->elements > t->block;
    a.sf_cols = (uint32_t)(b->cols / (size_t)t->block);
    a.sf_tile_log2 = log2_of(in_row * (size_t)v->elements / (size_t)t->block);
    a.run_log2 = log2_of((size_t)v->run);
    a.rows_log2 = log2_of(rows_in_tile);
    a.element_log2 = log2_of((size_t)t->element);
    a.across = (uint32_t)v->across;
    a.layout = t->layout;
    if (v->kind == TRAFFIC_RUN) {
        const size_t pieces = (size_t)(v->threads * v->each);
        grid.x = (unsigned)((a.pieces + pieces - 1) / pieces);
    } else if (v->kind == TRAFFIC_SCATTER) {
        grid.x = (unsigned)(tiles * parts);
    } else {
        grid.x = (unsigned)(v->across ? parts : tiles);
        grid.y = (unsigned)(v->across ? tiles : parts);
    }
    return cudaLaunchKernel(kernel_of(t, v), grid, dim3((unsigned)v->threads), arguments,
                            v->kind == TRAFFIC_STAGED ? rows_in_tile << a.sf_tile_log2 : 0, stream);
}

const char *traffic_text(const traffic_variant *v, char *text, size_t size)
{
    static const char *const kinds[] = {"run", "scatter", "staged", "columns"};
    int at = snprintf(text, size, "%s, %d x %d elements, %d threads", kinds[v->kind], v->each,
                      v->elements, v->threads);

    if (v->kind >= TRAFFIC_STAGED) {
        at += snprintf(text + at, size - (size_t)at, ", %d rows%s", v->run,
                       v->across ? ", across" : "");
    }
    if (v->hints) {
        snprintf(text + at, size - (size_t)at, ", .cs");
    }
    return text;
}

/*
 * 11_shuffle.cu - bytes from one place to another: scales of a matrix, or of a batch, from the
 * linear layout to a tiled one and back; the rows of matrices in the order that TensorRT-LLM's and
 * FlashInfer's kernels want (layout.h), with their scales.
 *
 *     nvcc -O3 -arch=sm_90 -Iinclude examples/11_shuffle.cu -o shuffle && ./shuffle
 *
 * How it works: 16 bytes of four rows of linear scales, those that stand side by side in a tile,
 * are 16 bytes of four tiles (of two, where a scale has two bytes), the same words transposed. So a
 * thread loads four times 16 bytes, changes the words' places in its registers, and stores four
 * times 16 bytes; a CTA takes 128 bytes of 128 rows, which are 16 KiB of the tiled buffer in a run.
 * That a row comes from elsewhere costs nothing. Where the rows of scales are not whole pieces of
 * 16 bytes, they go through shared memory: still 16 bytes at a time on both sides, but for the ends
 * of rows, and in between words that stand anywhere.
 */
#include <fp4/device/load.cuh>
#include <fp4/device/store.cuh>

enum {
    THREADS = 256,
    EACH = 4,     /* pieces a thread: loads in flight */
    WIDTH = 8,    /* pieces side by side that a CTA takes, at most */
    ROWS = 128,   /* of scales that a CTA takes through shared memory, */
    WINDOWS = 16, /* each in so many aligned pieces of 16 bytes at most, and */
    SLOT = 288,   /* so far from each other: rows that are read together are in other banks */
    /* CTAs of a multiprocessor; elsewhere so few that nothing spills */
    RESIDENT = FP4_ARCH == 900 ? 8 : 4
};

/* ------------------------------------------------------------------------------ arguments */

/**
 * Scales from the linear layout to a tiled one; reverse: back, and the padding is dropped.
 *
 * shape    batches x rows x sf_cols scales of `element` bytes, 1 or 2. The tiled side:
 *          batches * fp4_sf_bytes(layout, rows, sf_cols) elements, 16-byte aligned; its padding is
 *          written as 0x00. The linear side: any alignment, but it is slower where it and its rows
 *          are not whole 16-byte pieces. out and in do not overlap.
 * layout   of the tiled side: FP4_LAYOUT_128X4, FP4_LAYOUT_8X4.
 * epilogue_tile_m   0: rows stay where they are. Else they are also shuffled on the way, or put
 *          back: 128x4, and rows % fp4_shuffle_block(epilogue_tile_m) == 0.
 */
typedef struct interleave_args {
    void *out;
    const void *in;
    size_t element, batches, rows, sf_cols;
    fp4_layout layout;
    size_t epilogue_tile_m;
    int reverse;
} interleave_args;

/**
 * Rows of matrices in another order; reverse: back in theirs.
 *
 * shape    batches x rows x row_bytes bytes, rows % fp4_shuffle_block(epilogue_tile_m) == 0. Any
 *          alignment, but it is slower where not all rows are whole 16-byte pieces. out and in do
 *          not overlap.
 */
typedef struct shuffle_args {
    void *out;
    const void *in;
    size_t batches, rows, row_bytes, epilogue_tile_m;
    int reverse;
} shuffle_args;

/**
 * Quantized matrices, shuffled: what nvfp4_quantize(do_shuffle) does after it has quantized.
 *
 * q        to q_out: batches x rows x q_row_bytes, as shuffle_args has it.
 * sf       linear, to sf_out, 128x4: as interleave_args has it, scales of one byte.
 * row_dec  null, or floats of rows, one for each, to row_dec_out.
 */
typedef struct shuffle_tensor_args {
    uint8_t *q_out, *sf_out;
    float *row_dec_out;
    const uint8_t *q, *sf;
    const float *row_dec;
    size_t batches, rows, q_row_bytes, sf_cols, epilogue_tile_m;
} shuffle_tensor_args;

/* Which way bytes are moved. */
typedef enum shuffle_way {
    MOVE_ROWS,  /* rows of whole pieces of 16, 8 or 4 bytes */
    MOVE_BYTES, /* any rows */
    MOVE_TILES, /* linear rows of whole pieces to tiles, or back */
    MOVE_RAGGED /* any linear rows to tiles, or back */
} shuffle_way;

/* A move as kernels take it. Bytes of rows are those of the linear side. */
typedef struct shuffle_move {
    uint8_t *out;
    const uint8_t *in;
    size_t in_bytes, row_bytes;
    size_t rows;  /* of a matrix */
    size_t lines; /* rows of all matrices */
    size_t epilogue_tile_m;
    int reverse;
    shuffle_way how;
    size_t ctas;
    /* MOVE_ROWS: bytes of a piece, pieces in a row; how many rows and pieces further the next piece
       of a thread is */
    uint32_t unit;
    size_t pieces, step_rows, step_pieces;
    /* where there are tiles: */
    fp4_layout layout;
    uint32_t element;       /* bytes of a scale */
    size_t tiled_matrix;    /* bytes */
    size_t padded_rows;     /* of a matrix in tiles */
    uint32_t tiles;         /* beside each other */
    uint32_t pieces_across; /* MOVE_TILES: that a matrix has in a row and below each other, */
    uint32_t down, all;     /* and below each other of all matrices */
    uint32_t width;         /* threads side by side: a power of two */
    uint32_t ctas_across;
    /* MOVE_RAGGED: how many of a row's bytes a CTA takes, how many threads that are; how many CTAs
       below each other a matrix has */
    uint32_t cut, lanes, ctas_down;
} shuffle_move;

/* ------------------------------------------------------------------------------ rows */

/* The row that comes to this one; of all matrices, since none ends inside of a shuffle block. */
static __device__ __forceinline__ size_t row_from(const shuffle_move &m, size_t row)
{
    return m.epilogue_tile_m == 0 ? row
           : m.reverse            ? fp4_shuffle_row_to(row, m.epilogue_tile_m)
                                  : fp4_shuffle_row_from(row, m.epilogue_tile_m);
}

/* 16, 8 or 4 bytes, a constant, in the first words. */
static __device__ __forceinline__ fp4_u32x4 load_unit(const uint8_t *p, const uint32_t unit)
{
    fp4_u32x4 v = {{0, 0, 0, 0}};

    if (unit == 16) {
        return fp4_load_u32x4(p);
    }
    if (unit == 8) {
        const fp4_u32x2 two = fp4_ptx_load8(p);
        v.v[0] = two.v[0];
        v.v[1] = two.v[1];
    } else {
        v.v[0] = *(const uint32_t *)p;
    }
    return v;
}

static __device__ __forceinline__ void store_unit(uint8_t *p, fp4_u32x4 v, const uint32_t unit)
{
    if (unit == 16) {
        fp4_store_u32x4(p, v);
    } else if (unit == 8) {
        fp4_ptx_store8(p, v.v[0], v.v[1]);
    } else {
        fp4_ptx_store4(p, v.v[0]);
    }
}

/* How many of them a thread takes. */
static __host__ __device__ __forceinline__ uint32_t each_of(uint32_t unit)
{
    return unit == 16 ? EACH : 2 * EACH;
}

static __device__ __forceinline__ void move_units(const shuffle_move &m, size_t cta,
                                                  const uint32_t unit)
{
    const size_t first = cta * (THREADS * each_of(unit)) + threadIdx.x;
    size_t row = first / m.pieces, piece = first % m.pieces;
    fp4_u32x4 v[2 * EACH];
    int is_real[2 * EACH];

#pragma unroll
    for (uint32_t j = 0; j < each_of(unit); j++) { /* THREADS pieces on: no division */
        const int is_next = piece >= m.pieces - m.step_pieces;
        is_real[j] = row < m.lines;
        v[j] = load_unit(m.in + (is_real[j] ? row_from(m, row) * m.row_bytes + piece * unit : 0),
                         unit);
        row += m.step_rows + (size_t)is_next;
        piece = is_next ? piece - (m.pieces - m.step_pieces) : piece + m.step_pieces;
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < each_of(unit); j++) {
        if (is_real[j]) {
            store_unit(m.out + (first + j * THREADS) * unit, v[j], unit);
        }
    }
}

static __device__ __forceinline__ void move_rows(const shuffle_move &m, size_t cta)
{
    if (m.unit == 16) {
        move_units(m, cta, 16);
    } else if (m.unit == 8) {
        move_units(m, cta, 8);
    } else {
        move_units(m, cta, 4);
    }
}

static __device__ __forceinline__ uint32_t word_at(const uint8_t *p)
{
    return *(const uint32_t *)p;
}

/* Four bytes from byte `shift` of lo on. */
static __device__ __forceinline__ uint32_t shifted(uint32_t lo, uint32_t hi, uint32_t shift)
{
    return fp4_ptx_bytes(lo, hi, 0x3210u + shift * 0x1111u);
}

/* 16 bytes of the output, from its byte `at` on; `from` to `to` of them are there. */
static __device__ __forceinline__ fp4_u32x4 bytes_of_rows(const shuffle_move &m, size_t at,
                                                          uint32_t from, uint32_t to)
{
    size_t row = (at + from) / m.row_bytes, col = (at + from) % m.row_bytes;
    fp4_u32x4 v = {{0, 0, 0, 0}};

    if (to - from == 16 && col + 16 <= m.row_bytes) { /* of one row */
        const uint8_t *p = m.in + row_from(m, row) * m.row_bytes + col;
        const uint32_t shift = (uint32_t)((size_t)p % 4);
        const size_t before = (size_t)(p - m.in);
        if (before >= shift && before - shift + 20 <= m.in_bytes) {
            uint32_t w[5];
#pragma unroll
            for (uint32_t i = 0; i < 5; i++) {
                w[i] = word_at(p - shift + 4 * i);
            }
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                v.v[i] = shifted(w[i], w[i + 1], shift);
            }
            return v;
        }
    }
#pragma unroll
    for (uint32_t k = 0; k < 16; k++) {
        if (k >= from && k < to) {
            v.v[k / 4] |= (uint32_t)m.in[row_from(m, row) * m.row_bytes + col] << k % 4 * 8;
            col++;
            row += col == m.row_bytes;
            col = col == m.row_bytes ? 0 : col;
        }
    }
    return v;
}

/* The aligned pieces of 16 bytes in which the output lies, whatever its rows are. */
static __device__ __forceinline__ void move_bytes(const shuffle_move &m, size_t cta)
{
    const size_t piece = (cta * THREADS + threadIdx.x) * 16; /* from the start of the first */
    const size_t skew = (size_t)m.out % 16, end = skew + m.lines * m.row_bytes;
    const uint32_t from = piece < skew ? (uint32_t)(skew - piece) : 0;
    const uint32_t to = end < piece ? 0 : end - piece < 16 ? (uint32_t)(end - piece) : 16;
    uint8_t *p = m.out - skew + piece;
    fp4_u32x4 v;

    if (from >= to) {
        return;
    }
    v = bytes_of_rows(m, piece - skew, from, to);
    if (to - from == 16) {
        fp4_store_u32x4(p, v);
        return;
    }
#pragma unroll
    for (uint32_t k = 0; k < 16; k++) {
        if (k >= from && k < to) {
            p[k] = (uint8_t)(v.v[k / 4] >> k % 4 * 8);
        }
    }
}

/* ------------------------------------------------------------------------------ tiles */

/* Row j of the four of a piece of a matrix, the pieces counted down the tiles. */
static __device__ __forceinline__ size_t row_of(const shuffle_move &m, uint32_t piece, uint32_t j)
{
    return m.layout == FP4_LAYOUT_128X4 ? (size_t)(piece / 32) * 128 + piece % 32 + 32 * j
                                        : (size_t)piece * 4 + j;
}

/* Where a row of a tile starts: bytes from the start of a matrix in tiles. */
static __device__ __forceinline__ size_t tile_of(const shuffle_move &m, size_t row, uint32_t tile)
{
    const size_t above = m.layout == FP4_LAYOUT_128X4 ? row / 128 : row / 8;
    const uint32_t rows = m.layout == FP4_LAYOUT_128X4 ? 128 : 8;
    return (above * m.tiles + tile) * (rows * 4 * m.element);
}

/* Which of the CTA's pieces a thread has: those of a warp are of few rows where rows are read, and
   of few tiles where these are, 128 bytes of each. */
static __device__ __forceinline__ int is_down(const shuffle_move &m, const uint32_t element,
                                              const int reverse)
{
    return reverse && element == 1 && m.width == WIDTH;
}

static __device__ __forceinline__ uint32_t lane_of(const shuffle_move &m, const uint32_t element,
                                                   const int reverse)
{
    FP4_STATIC_ASSERT(WIDTH == 8, "two warps beside each other, four threads each");
    return is_down(m, element, reverse) ? threadIdx.x % 4 + threadIdx.x / 32 % 2 * 4
                                        : threadIdx.x & (m.width - 1);
}

static __device__ __forceinline__ uint32_t below_of(const shuffle_move &m, const uint32_t element,
                                                    const int reverse)
{
    return is_down(m, element, reverse) ? threadIdx.x % 32 / 4 + threadIdx.x / 64 * 8
                                        : threadIdx.x / m.width;
}

/* Four rows' 16 bytes, and the pieces of tiles that are the same words: element 1: of four tiles;
   2: the halves of two. Then lanes beside each other change halves, so that they store whole
   sectors: element 2 has two threads side by side at least. */
static __device__ __forceinline__ void move_tiles(const shuffle_move &m, uint32_t cta,
                                                  const uint32_t element, const int reverse)
{
    const uint32_t down = cta / m.ctas_across, across = cta - down * m.ctas_across;
    const uint32_t lane = lane_of(m, element, reverse), below = below_of(m, element, reverse);
    const uint32_t col = across * m.width + lane, at = down * (THREADS / m.width) + below;
    const uint32_t batch = m.all == m.down ? 0 : at / m.down, piece = at - batch * m.down;
    const size_t tile_bytes = (m.layout == FP4_LAYOUT_128X4 ? 512 : 32) * element;
    const size_t in_tile = (m.layout == FP4_LAYOUT_128X4 ? piece % 32 : piece % 2) * 16 * element;
    const size_t tiles = batch * m.tiled_matrix + tile_of(m, row_of(m, piece, 0), 0) + in_tile;
    const size_t lines = (size_t)batch * m.rows * m.row_bytes + (size_t)col * 16;
    const int is_real = at < m.all && col < m.pieces_across;
    const fp4_u32x4 none = {{0, 0, 0, 0}};
    fp4_u32x4 row[4], tile[4];
    size_t from[4], to[4];

#pragma unroll
    for (uint32_t j = 0; j < 4; j++) { /* where a tile has padding, there is no row */
        const uint32_t mine = element == 1 ? j : j / 2;
        from[j] = m.epilogue_tile_m == 0
                      ? row_of(m, piece, j)
                      : fp4_shuffle_row_from(row_of(m, piece, j), m.epilogue_tile_m);
        to[j] = tiles + (col * (4 / element) + mine) * tile_bytes + (element == 1 ? 0 : j % 2 * 16);
    }
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        row[j] = tile[j] = none;
        if (is_real && reverse) {
            tile[j] = fp4_load_u32x4(m.in + to[j]);
        } else if (is_real && from[j] < m.rows) {
            row[j] = fp4_load_u32x4(m.in + lines + from[j] * m.row_bytes);
        }
    }
    fp4_pdl_trigger();
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t of = element == 1 ? i : (i & 2) | j / 2; /* which piece, which word */
            const uint32_t word = element == 1 ? j : j % 2 * 2 + i % 2;
            if (reverse) {
                row[j].v[i] = tile[of].v[word];
            } else {
                tile[of].v[word] = row[j].v[i];
            }
        }
    }
    if (!reverse && element == 2) { /* the first halves of both lanes' tiles, or the second */
        const uint32_t odd = threadIdx.x % 2;
        const size_t first = to[0] - odd * (2 * tile_bytes) + odd * 16;
        fp4_swap_quads_(tile[0].v, tile[1].v, (int)odd, 1);
        fp4_swap_quads_(tile[2].v, tile[3].v, (int)odd, 1);
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) { /* whose tile, and which of its two */
            if (at < m.all && col - odd + j % 2 < m.pieces_across) {
                fp4_store_u32x4(m.out + first + (j % 2 * 2 + j / 2) * tile_bytes, tile[j]);
            }
        }
        return;
    }
#pragma unroll
    for (uint32_t j = 0; j < 4; j++) {
        if (is_real && !reverse) {
            fp4_store_u32x4(m.out + to[j], tile[j]);
        } else if (is_real && from[j] < m.rows) {
            fp4_store_u32x4(m.out + lines + from[j] * m.row_bytes, row[j]);
        }
    }
}

/* ------------------------------------------------------------------------------ any rows */

/* What a CTA moves: `bytes` of each of some rows, which are ROWS rows of tiles. */
typedef struct shuffle_share {
    size_t batch, first_row, first_col; /* col: byte of a linear row */
    uint32_t bytes;
} shuffle_share;

static __device__ __forceinline__ shuffle_share share_of(const shuffle_move &m, uint32_t cta)
{
    const uint32_t down = cta / m.ctas_across, batch = down / m.ctas_down;
    shuffle_share of;

    of.batch = batch;
    of.first_row = (size_t)(down - batch * m.ctas_down) * ROWS;
    of.first_col = (size_t)(cta - down * m.ctas_across) * m.cut;
    of.bytes = m.row_bytes - of.first_col < m.cut ? (uint32_t)(m.row_bytes - of.first_col) : m.cut;
    return of;
}

/* Where the share's part of a linear row begins, from the start of all on; or -1: there is no such
   row. k: its number among those of the tiles. */
static __device__ __forceinline__ size_t line_of(const shuffle_move &m, const shuffle_share &of,
                                                 uint32_t k)
{
    const size_t row = m.epilogue_tile_m == 0
                           ? of.first_row + k
                           : fp4_shuffle_row_from(of.first_row + k, m.epilogue_tile_m);
    return row < m.rows ? (of.batch * m.rows + row) * m.row_bytes + of.first_col : (size_t)-1;
}

/* 16 bytes of x of which `from` to `to` are there. */
static __device__ __forceinline__ fp4_u32x4 some_bytes(const uint8_t *x, uint32_t from, uint32_t to)
{
    fp4_u32x4 v = {{0, 0, 0, 0}};

#pragma unroll
    for (uint32_t k = 0; k < 16; k++) {
        if (k >= from && k < to) {
            v.v[k / 4] |= (uint32_t)x[k] << k % 4 * 8;
        }
    }
    return v;
}

/* The aligned pieces in which the rows lie, to the rows' slots, as they are; skews: how far into
   the first piece a row begins. */
static __device__ __forceinline__ void fill_slots(const shuffle_move &m, const shuffle_share &of,
                                                  uint8_t *slots, uint32_t *skews)
{
    const uint32_t w = threadIdx.x % m.lanes, step = THREADS / m.lanes;

    for (uint32_t first = threadIdx.x / m.lanes; first < ROWS; first += EACH * step) {
        fp4_u32x4 v[EACH];
        uint32_t skew[EACH];
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const uint32_t k = first + j * step;
            const size_t line = k < ROWS ? line_of(m, of, k) : (size_t)-1;
            const uint8_t *x = m.in + (line == (size_t)-1 ? 0 : line);
            skew[j] = (uint32_t)((size_t)x % 16);
            v[j] = some_bytes(x, 0, 0);
            if (line != (size_t)-1 && w * 16 < skew[j] + of.bytes) {
                const size_t at = line + w * 16; /* `skew` behind the piece */
                if (at >= skew[j] && at - skew[j] + 16 <= m.in_bytes) {
                    v[j] = fp4_load_u32x4(x - skew[j] + w * 16);
                } else {
                    const size_t left = m.in_bytes + skew[j] - at;
                    v[j] = some_bytes(x - skew[j] + w * 16,
                                      at < skew[j] ? (uint32_t)(skew[j] - at) : 0,
                                      left < 16 ? (uint32_t)left : 16);
                }
            }
        }
#pragma unroll
        for (uint32_t j = 0; j < EACH; j++) {
            const uint32_t k = first + j * step;
            if (k < ROWS) {
                fp4_store_u32x4(slots + k * SLOT + w * 16, v[j]);
                if (w == 0) {
                    skews[k] = skew[j];
                }
            }
        }
    }
}

/* The same back: the slots hold the rows from their start on. */
static __device__ __forceinline__ void drain_slots(const shuffle_move &m, const shuffle_share &of,
                                                   const uint8_t *slots)
{
    const uint32_t w = threadIdx.x % m.lanes, step = THREADS / m.lanes;

    for (uint32_t k = threadIdx.x / m.lanes; k < ROWS; k += step) {
        const size_t line = line_of(m, of, k);
        uint8_t *p = m.out + (line == (size_t)-1 ? 0 : line);
        const uint32_t skew = (uint32_t)((size_t)p % 16), end = skew + of.bytes, at = w * 16;
        const uint32_t from = at < skew ? skew - at : 0;
        const uint32_t to = end < at ? 0 : end - at < 16 ? end - at : 16;
        const uint8_t *x = slots + k * SLOT + at - skew; /* the piece's bytes */
        p += at;
        p -= skew;
        if (line == (size_t)-1 || from >= to) {
            continue;
        }
        if (to - from == 16) {
            const uint32_t shift = (16 - skew) % 4;
            uint32_t v[4], word = word_at(x - shift);
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t next = i < 3 || shift != 0 ? word_at(x - shift + 4 * i + 4) : 0;
                v[i] = shifted(word, next, shift);
                word = next;
            }
            fp4_ptx_store16(p, v[0], v[1], v[2], v[3]);
        } else if ((skew | of.bytes) % 4 == 0) {
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                if (4 * i >= from && 4 * i < to) {
                    fp4_ptx_store4(p + 4 * i, word_at(x + 4 * i));
                }
            }
        } else {
#pragma unroll
            for (uint32_t i = 0; i < 16; i++) {
                if (i >= from && i < to) {
                    p[i] = x[i];
                }
            }
        }
    }
}

/* Any linear rows, by way of shared memory. */
static __device__ __forceinline__ void
move_ragged(const shuffle_move &m, uint32_t cta, uint8_t *slots, uint32_t *skews, const int reverse)
{
    const shuffle_share of = share_of(m, cta);
    const uint32_t in_tile = (m.layout == FP4_LAYOUT_128X4 ? 32 : 2) * m.element; /* pieces */
    const uint32_t tile_cols = 4 * m.element, two = m.element == 2;               /* bytes */
    const size_t matrix = of.batch * m.tiled_matrix;

    if (!reverse) {
        fill_slots(m, of, slots, skews);
        fp4_pdl_trigger();
        fp4_ptx_barrier();
    }
    /* pieces of tiles: eight tiles beside each other, so that banks differ */
    for (uint32_t piece = threadIdx.x / 8; piece < ROWS / 4 * m.element; piece += THREADS / 8) {
        const size_t row = of.first_row + row_of(m, piece / m.element, 0);
        const size_t first =
            matrix + tile_of(m, row, (uint32_t)(of.first_col / tile_cols)) + piece % in_tile * 16;
        if (row >= m.padded_rows) {
            break;
        }
        for (uint32_t t = threadIdx.x % 8; t * tile_cols < of.bytes; t += 8) {
            const size_t at = first + t * (size_t)(in_tile * 16);
            fp4_u32x4 v = {{0, 0, 0, 0}};
            if (reverse) {
                v = fp4_load_u32x4(m.in + at);
            }
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                const uint32_t k =
                    (uint32_t)row_of(m, two ? piece / 2 : piece, two ? piece % 2 * 2 + i / 2 : i);
                const uint32_t col = t * tile_cols + (two ? i % 2 * 4 : 0);
                const uint32_t n = col >= of.bytes ? 0 : of.bytes - col < 4 ? of.bytes - col : 4;
                if (reverse) {
                    *(uint32_t *)(slots + k * SLOT + col) = v.v[i];
                } else if (n != 0) {
                    const uint32_t place = skews[k] + col, shift = place % 4;
                    const uint8_t *x = slots + k * SLOT + place - shift;
                    const uint32_t next = shift + n > 4 ? word_at(x + 4) : 0;
                    v.v[i] = shifted(word_at(x), next, shift) & 0xffffffffu >> (32 - 8 * n);
                }
            }
            if (!reverse) {
                fp4_store_u32x4(m.out + at, v);
            }
        }
    }
    if (reverse) {
        fp4_pdl_trigger();
        fp4_ptx_barrier();
        drain_slots(m, of, slots);
    }
}

/* ------------------------------------------------------------------------------ kernels */

static __global__ void __launch_bounds__(THREADS) shuffle_rows(const shuffle_move m)
{
    fp4_pdl_wait();
    move_rows(m, blockIdx.x);
}

static __global__ void __launch_bounds__(THREADS) tile_u8(const shuffle_move m)
{
    fp4_pdl_wait();
    move_tiles(m, blockIdx.x, 1, 0);
}

static __global__ void __launch_bounds__(THREADS) tile_u16(const shuffle_move m)
{
    fp4_pdl_wait();
    move_tiles(m, blockIdx.x, 2, 0);
}

static __global__ void __launch_bounds__(THREADS) untile_u8(const shuffle_move m)
{
    fp4_pdl_wait();
    move_tiles(m, blockIdx.x, 1, 1);
}

static __global__ void __launch_bounds__(THREADS) untile_u16(const shuffle_move m)
{
    fp4_pdl_wait();
    move_tiles(m, blockIdx.x, 2, 1);
}

static __global__ void __launch_bounds__(THREADS) tile_ragged(const shuffle_move m)
{
    __shared__ uint4 slots[ROWS * SLOT / 16];
    __shared__ uint32_t skews[ROWS];

    fp4_pdl_wait();
    move_ragged(m, blockIdx.x, (uint8_t *)slots, skews, 0);
}

static __global__ void __launch_bounds__(THREADS) untile_ragged(const shuffle_move m)
{
    __shared__ uint4 slots[ROWS * SLOT / 16];

    fp4_pdl_wait();
    move_ragged(m, blockIdx.x, (uint8_t *)slots, NULL, 1);
}

static __global__ void __launch_bounds__(THREADS) shuffle_bytes(const shuffle_move m)
{
    fp4_pdl_wait();
    move_bytes(m, blockIdx.x);
}

/* Scales, codes and rows' scales in one grid, each by CTAs of their own: whole pieces. */
static __global__ void __launch_bounds__(THREADS, RESIDENT)
    shuffle_whole(const shuffle_move sf, const shuffle_move q, const shuffle_move row_dec)
{
    const size_t cta = blockIdx.x - sf.ctas; /* wraps */

    fp4_pdl_wait();
    if (blockIdx.x < sf.ctas) {
        move_tiles(sf, blockIdx.x, 1, 0);
    } else if (cta < q.ctas) {
        move_units(q, cta, 16);
    } else {
        move_units(row_dec, cta - q.ctas, 4);
    }
}

/* The same of any. */
static __global__ void __launch_bounds__(THREADS)
    shuffle_any(const shuffle_move sf, const shuffle_move q, const shuffle_move row_dec)
{
    __shared__ uint4 slots[ROWS * SLOT / 16];
    __shared__ uint32_t skews[ROWS];
    const size_t cta = blockIdx.x - sf.ctas;

    fp4_pdl_wait();
    if (blockIdx.x < sf.ctas && sf.how == MOVE_TILES) {
        move_tiles(sf, blockIdx.x, 1, 0);
    } else if (blockIdx.x < sf.ctas) {
        move_ragged(sf, blockIdx.x, (uint8_t *)slots, skews, 0);
    } else {
        const shuffle_move &m = cta < q.ctas ? q : row_dec;
        const size_t of_it = cta < q.ctas ? cta : cta - q.ctas;
        if (m.how == MOVE_ROWS) {
            move_rows(m, of_it);
        } else {
            move_bytes(m, of_it);
        }
    }
}

/* ------------------------------------------------------------------------------ launchers */

static int overflows(size_t a, size_t b)
{
    return b != 0 && a > (size_t)-1 / b;
}

static int is_bad_tile(size_t rows, size_t epilogue_tile_m)
{
    return epilogue_tile_m == 0 || rows % fp4_shuffle_block(epilogue_tile_m) != 0;
}

static int is_bad_shuffle(const shuffle_args *a)
{
    return a->out == NULL || a->in == NULL || is_bad_tile(a->rows, a->epilogue_tile_m) ||
           overflows(a->batches, a->rows) || overflows(a->batches * a->rows, a->row_bytes) ||
           a->batches * a->rows * a->row_bytes > (size_t)-1 - 64;
}

static int is_bad_interleave(const interleave_args *a)
{
    return a->out == NULL || a->in == NULL || (a->element != 1 && a->element != 2) ||
           (unsigned)a->layout >= FP4_LAYOUT_LINEAR ||
           (a->epilogue_tile_m != 0 &&
            (a->layout != FP4_LAYOUT_128X4 || is_bad_tile(a->rows, a->epilogue_tile_m))) ||
           (size_t)(a->reverse ? a->in : a->out) % 16 != 0 || a->rows > 0xffffff00u ||
           a->sf_cols > 0xffffff00u || /* pieces of 16 bytes below each other, of all matrices */
           a->batches > 0xffffff00u / (fp4_sf_rows_padded(a->layout, a->rows) / 4) ||
           overflows(a->batches, fp4_sf_bytes(a->layout, a->rows, a->sf_cols) * a->element);
}

static size_t divided_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* How a good call is carried out. */
static shuffle_move plan_shuffle(const shuffle_args *a)
{
    const size_t all = (size_t)a->out | (size_t)a->in | a->row_bytes;
    shuffle_move m = {};

    m.out = (uint8_t *)a->out;
    m.in = (const uint8_t *)a->in;
    m.row_bytes = a->row_bytes;
    m.rows = a->rows;
    m.lines = a->batches * a->rows;
    m.in_bytes = m.lines * m.row_bytes;
    m.epilogue_tile_m = a->epilogue_tile_m;
    m.reverse = a->reverse != 0;
    m.how = all % 4 != 0 ? MOVE_BYTES : MOVE_ROWS;
    if (m.how == MOVE_BYTES) {
        m.ctas = divided_up(m.in_bytes + (size_t)m.out % 16, THREADS * 16);
        return m;
    }
    m.unit = all % 16 == 0 ? 16 : all % 8 == 0 ? 8 : 4;
    m.pieces = a->row_bytes / m.unit;
    m.step_rows = THREADS / m.pieces;
    m.step_pieces = THREADS % m.pieces;
    m.ctas = divided_up(m.lines * m.pieces, THREADS * each_of(m.unit));
    return m;
}

static shuffle_move plan_interleave(const interleave_args *a)
{
    const void *linear = a->reverse ? a->out : a->in;
    shuffle_move m = {};

    m.out = (uint8_t *)a->out;
    m.in = (const uint8_t *)a->in;
    m.element = (uint32_t)a->element;
    m.row_bytes = a->sf_cols * a->element;
    m.rows = a->rows;
    m.lines = a->batches * a->rows;
    m.in_bytes = m.lines * m.row_bytes;
    m.epilogue_tile_m = a->epilogue_tile_m;
    m.reverse = a->reverse != 0;
    m.layout = a->layout;
    m.tiled_matrix = fp4_sf_bytes(a->layout, a->rows, a->sf_cols) * a->element;
    m.padded_rows = fp4_sf_rows_padded(a->layout, a->rows);
    m.tiles = (uint32_t)(fp4_sf_cols_padded(a->layout, a->sf_cols) / 4);
    m.how = ((size_t)linear | m.row_bytes) % 16 == 0 ? MOVE_TILES : MOVE_RAGGED;
    if (m.how == MOVE_RAGGED) { /* in as few parts as there are, all alike; whole tiles */
        const size_t parts = divided_up(m.row_bytes, (WINDOWS - 1) * 16);
        m.cut =
            (uint32_t)divided_up(divided_up(m.row_bytes, parts), 4 * a->element) * (4 * m.element);
        for (m.lanes = 4; m.lanes * 16 < m.cut + 15; m.lanes *= 2) {
        }
        m.ctas_across = (uint32_t)divided_up(m.row_bytes, m.cut);
        m.ctas_down = (uint32_t)divided_up(m.padded_rows, ROWS);
        m.ctas = (size_t)m.ctas_across * m.ctas_down * a->batches;
        return m;
    }
    m.pieces_across = (uint32_t)(m.row_bytes / 16);
    m.down = (uint32_t)(m.padded_rows / 4);
    m.all = (uint32_t)a->batches * m.down;
    m.width = m.element;
    while (m.width < WIDTH && m.width < m.pieces_across) {
        m.width *= 2;
    }
    m.ctas_across = (uint32_t)divided_up(m.pieces_across, m.width);
    m.ctas = m.ctas_across * divided_up(m.all, THREADS / m.width);
    return m;
}

static cudaError_t launch(const void *kernel, size_t ctas, void **arguments, int pdl,
                          cudaStream_t stream)
{
    cudaLaunchAttribute attribute;
    cudaLaunchConfig_t config = {};

    if (ctas > 0x7fffffffu) {
        return cudaErrorInvalidValue;
    }
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.gridDim = dim3((unsigned)ctas);
    config.blockDim = dim3(THREADS);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = pdl ? 1 : 0;
    return cudaLaunchKernelExC(&config, kernel, arguments);
}

/**
 * Moves the scales on `stream`: one launch, no allocation, no synchronization, nothing read on the
 * host, so that a CUDA graph can capture it.
 *
 * pdl      1: may start before the kernel in front of it in the stream has ended, and waits for it
 *          before it touches memory. Only with code compiled for sm_90 or later.
 * errors   cudaErrorInvalidValue for a bad shape, layout, alignment or null pointer: nothing
 *          launched, nothing written. batches, rows or sf_cols = 0 is no error.
 */
static cudaError_t interleave(const interleave_args *a, int pdl, cudaStream_t stream)
{
    const void *kernel;
    shuffle_move m;
    void *arguments[] = {&m};

    if (a->batches == 0 || a->rows == 0 || a->sf_cols == 0) {
        return cudaSuccess;
    }
    if (is_bad_interleave(a)) {
        return cudaErrorInvalidValue;
    }
    m = plan_interleave(a);
    if (m.how == MOVE_TILES) {
        kernel = m.reverse ? (m.element == 1 ? (const void *)untile_u8 : (const void *)untile_u16)
                           : (m.element == 1 ? (const void *)tile_u8 : (const void *)tile_u16);
    } else {
        kernel = m.reverse ? (const void *)untile_ragged : (const void *)tile_ragged;
    }
    return launch(kernel, m.ctas, arguments, pdl, stream);
}

/** Likewise rows. batches, rows or row_bytes = 0 is no error. */
static cudaError_t shuffle(const shuffle_args *a, int pdl, cudaStream_t stream)
{
    shuffle_move m;
    void *arguments[] = {&m};

    if (a->batches == 0 || a->rows == 0 || a->row_bytes == 0) {
        return cudaSuccess;
    }
    if (is_bad_shuffle(a)) {
        return cudaErrorInvalidValue;
    }
    m = plan_shuffle(a);
    return launch(m.how == MOVE_ROWS ? (const void *)shuffle_rows : (const void *)shuffle_bytes,
                  m.ctas, arguments, pdl, stream);
}

/** Likewise quantized matrices, all in one launch. batches or rows = 0, or q_row_bytes and sf_cols
    = 0, is no error. */
static cudaError_t shuffle_tensor(const shuffle_tensor_args *a, int pdl, cudaStream_t stream)
{
    shuffle_args q = {}, row_dec = {};
    interleave_args sf = {};
    shuffle_move moves[3] = {};
    void *arguments[] = {&moves[0], &moves[1], &moves[2]};
    int is_whole;

    if (a->batches == 0 || a->rows == 0 || (a->q_row_bytes | a->sf_cols) == 0) {
        return cudaSuccess;
    }
    q.out = a->q_out;
    q.in = a->q;
    q.row_bytes = a->q_row_bytes;
    sf.out = a->sf_out;
    sf.in = a->sf;
    sf.element = 1;
    sf.sf_cols = a->sf_cols;
    row_dec.out = a->row_dec_out;
    row_dec.in = a->row_dec;
    row_dec.row_bytes = sizeof(float);
    q.batches = sf.batches = row_dec.batches = a->batches;
    q.rows = sf.rows = row_dec.rows = a->rows;
    q.epilogue_tile_m = sf.epilogue_tile_m = row_dec.epilogue_tile_m = a->epilogue_tile_m;
    if (a->q_row_bytes == 0 || a->sf_cols == 0 || is_bad_tile(a->rows, a->epilogue_tile_m) ||
        is_bad_shuffle(&q) || is_bad_interleave(&sf) ||
        (a->row_dec != NULL && is_bad_shuffle(&row_dec))) {
        return cudaErrorInvalidValue;
    }
    moves[0] = plan_interleave(&sf);
    moves[1] = plan_shuffle(&q);
    if (a->row_dec != NULL) {
        moves[2] = plan_shuffle(&row_dec);
    }
    is_whole = moves[0].how == MOVE_TILES && moves[1].unit == 16 &&
               (a->row_dec == NULL || moves[2].unit == 4);
    return launch(is_whole ? (const void *)shuffle_whole : (const void *)shuffle_any,
                  moves[0].ctas + moves[1].ctas + moves[2].ctas, arguments, pdl, stream);
}

/* ------------------------------------------------------------------------------ example */

#if !defined(NO_MAIN)
#include <fp4/host/shuffle.h>

#include <stdio.h>
#include <stdlib.h>

static void must(cudaError_t error)
{
    if (error != cudaSuccess) {
        fprintf(stderr, "shuffle: %s\n", cudaGetErrorString(error));
        exit(1);
    }
}

static uint8_t *random_bytes(size_t n)
{
    uint8_t *x = (uint8_t *)malloc(n);
    uint32_t state = 1;

    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (uint8_t)(state >> 24);
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

/* One of the launches: the arguments that are not null. */
static cudaError_t run(const interleave_args *i, const shuffle_args *s,
                       const shuffle_tensor_args *t)
{
    return i != NULL ? interleave(i, 0, 0) : s != NULL ? shuffle(s, 0, 0) : shuffle_tensor(t, 0, 0);
}

/* Median of 20 launches, and what they moved. */
static void measure(const interleave_args *a, const shuffle_args *s, const shuffle_tensor_args *t,
                    double bytes)
{
    cudaEvent_t start, stop;
    float ms[20];

    must(cudaEventCreate(&start));
    must(cudaEventCreate(&stop));
    for (int i = 0; i < 20; i++) {
        must(cudaEventRecord(start, 0));
        must(run(a, s, t));
        must(cudaEventRecord(stop, 0));
        must(cudaEventSynchronize(stop));
        must(cudaEventElapsedTime(&ms[i], start, stop));
        for (int j = i; j > 0 && ms[j] < ms[j - 1]; j--) {
            const float swap = ms[j];
            ms[j] = ms[j - 1];
            ms[j - 1] = swap;
        }
    }
    printf(" %.1f us, %.0f GB/s\n", 1e3 * ms[10], 1e-6 * bytes / ms[10]);
}

/* There and back; the speed where that is asked for. */
static int check_scales(size_t element, size_t batches, size_t rows, size_t cols, fp4_layout layout,
                        size_t tile_m, int is_timed)
{
    const size_t linear = batches * rows * cols * element;
    const size_t tiled = batches * fp4_sf_bytes(layout, rows, cols) * element;
    uint8_t *x = random_bytes(linear), *expected = (uint8_t *)malloc(tiled);
    interleave_args a = {}, back;
    int is_same;

    a.in = device(x, linear);
    a.out = device(NULL, tiled);
    a.element = element;
    a.batches = batches;
    a.rows = rows;
    a.sf_cols = cols;
    a.layout = layout;
    a.epilogue_tile_m = tile_m;
    back = a;
    back.in = a.out;
    back.out = device(NULL, linear);
    back.reverse = 1;
    must(interleave(&a, 0, 0));
    must(interleave(&back, 0, 0));
    if ((tile_m == 0
             ? fp4_ref_sf_swizzle(layout, x, linear, expected, tiled, element, batches, rows, cols)
             : fp4_ref_shuffle_sf(x, linear, expected, tiled, element, batches, rows, cols,
                                  tile_m)) != FP4_OK) {
        return 0;
    }
    is_same = same(a.out, expected, tiled) && same(back.out, x, linear);
    printf("%zu x %zu x %zu scales of %zu, %s, shuffled by %zu: %s\n", batches, rows, cols, element,
           layout == FP4_LAYOUT_128X4 ? "128x4" : "8x4", tile_m, is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        printf("  there:");
        measure(&a, NULL, NULL, (double)(linear + tiled));
        printf("  back: ");
        measure(&back, NULL, NULL, (double)(linear + tiled));
    }
    cudaFree((void *)a.in);
    cudaFree(a.out);
    cudaFree(back.out);
    free(x);
    free(expected);
    return is_same;
}

static int check_rows(size_t batches, size_t rows, size_t row_bytes, size_t tile_m, int is_timed)
{
    const size_t bytes = batches * rows * row_bytes;
    uint8_t *x = random_bytes(bytes), *expected = (uint8_t *)malloc(bytes);
    shuffle_args a = {}, back;
    int is_same;

    a.in = device(x, bytes);
    a.out = device(NULL, bytes);
    a.batches = batches;
    a.rows = rows;
    a.row_bytes = row_bytes;
    a.epilogue_tile_m = tile_m;
    back = a;
    back.in = a.out;
    back.out = device(NULL, bytes);
    back.reverse = 1;
    must(shuffle(&a, 0, 0));
    must(shuffle(&back, 0, 0));
    is_same = fp4_ref_shuffle_rows(x, bytes, expected, bytes, batches, rows, row_bytes, tile_m) ==
                  FP4_OK &&
              same(a.out, expected, bytes) && same(back.out, x, bytes);
    printf("%zu x %zu rows of %zu bytes, shuffled by %zu: %s\n", batches, rows, row_bytes, tile_m,
           is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        printf("  there:");
        measure(NULL, &a, NULL, 2.0 * (double)bytes);
        printf("  back: ");
        measure(NULL, &back, NULL, 2.0 * (double)bytes);
    }
    cudaFree((void *)a.in);
    cudaFree(a.out);
    cudaFree(back.out);
    free(x);
    free(expected);
    return is_same;
}

/* NVFP4 of rows x cols, as it comes from a quantizer. */
static int check_tensor(size_t rows, size_t cols, int is_timed)
{
    const size_t q_bytes = rows * cols / 2, sf_cols = cols / 16, sf_bytes = rows * sf_cols;
    const size_t tiled = fp4_sf_bytes(FP4_LAYOUT_128X4, rows, sf_cols);
    uint8_t *x = random_bytes(q_bytes + sf_bytes + 4 * rows);
    uint8_t *expected = (uint8_t *)malloc(q_bytes + tiled + 4 * rows);
    fp4_tensor from = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_LINEAR, rows, cols, x, q_bytes,
                                      x + q_bytes, sf_bytes);
    fp4_tensor to = fp4_tensor_view(FP4_NVFP4, FP4_LAYOUT_128X4, rows, cols, expected, q_bytes,
                                    expected + q_bytes, tiled);
    shuffle_tensor_args a = {};
    int is_same;

    from.row_dec = (float *)(void *)(x + q_bytes + sf_bytes);
    to.row_dec = (float *)(void *)(expected + q_bytes + tiled);
    from.row_dec_bytes = to.row_dec_bytes = 4 * rows;
    a.q = (const uint8_t *)device(from.q, q_bytes);
    a.sf = (const uint8_t *)device(from.sf, sf_bytes);
    a.row_dec = (const float *)device(from.row_dec, 4 * rows);
    a.q_out = (uint8_t *)device(NULL, q_bytes);
    a.sf_out = (uint8_t *)device(NULL, tiled);
    a.row_dec_out = (float *)device(NULL, 4 * rows);
    a.batches = 1;
    a.rows = rows;
    a.q_row_bytes = cols / 2;
    a.sf_cols = sf_cols;
    a.epilogue_tile_m = 128;
    must(shuffle_tensor(&a, 0, 0));
    is_same = fp4_ref_shuffle(&from, 128, &to) == FP4_OK && same(a.q_out, to.q, q_bytes) &&
              same(a.sf_out, to.sf, tiled) && same(a.row_dec_out, to.row_dec, 4 * rows);
    printf("%zu x %zu NVFP4, shuffled: %s\n", rows, cols, is_same ? "same bytes" : "differ");
    if (is_same && is_timed) {
        printf("  all:  ");
        measure(NULL, NULL, &a, 2.0 * (double)(q_bytes + 4 * rows) + (double)(sf_bytes + tiled));
    }
    return is_same;
}

int main(void)
{
    return !(check_scales(1, 2, 130, 17, FP4_LAYOUT_128X4, 0, 0) &&
             check_scales(2, 3, 130, 20, FP4_LAYOUT_8X4, 0, 0) &&
             check_scales(1, 2, 160, 24, FP4_LAYOUT_128X4, 64, 0) && check_rows(3, 48, 50, 64, 0) &&
             check_tensor(128, 1056, 0) &&
             check_scales(1, 32, 16384, 1024, FP4_LAYOUT_128X4, 0, 1) &&
             check_scales(2, 32, 16384, 512, FP4_LAYOUT_128X4, 0, 1) &&
             check_scales(1, 16, 16384, 1024, FP4_LAYOUT_8X4, 0, 1) &&
             check_scales(1, 16, 16384, 1024, FP4_LAYOUT_128X4, 128, 1) &&
             check_scales(1, 64, 16384, 180, FP4_LAYOUT_128X4, 0, 1) &&
             check_scales(1, 128, 16384, 90, FP4_LAYOUT_128X4, 0, 1) &&
             check_scales(2, 64, 16384, 90, FP4_LAYOUT_128X4, 0, 1) &&
             check_scales(1, 16, 16384, 1022, FP4_LAYOUT_8X4, 0, 1) &&
             check_rows(16, 16384, 4096, 128, 1) && check_rows(16, 16384, 2888, 128, 1) &&
             check_tensor(65536, 8192, 1));
}
#endif

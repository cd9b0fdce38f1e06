/*
 * fp4/device/row.cuh - for kernels that work on whole rows: which pieces of a row are whose, what
 * is summed over it, and its scale bytes.
 *
 * A piece is 16 elements (row.h). A thread takes `each` of them at a time, up to 4, a turn of all
 * threads apart:
 *
 *     turn 0               turn 1                ...
 *     piece j * threads + thread, j < each       (turn * each + j) * threads + thread
 *
 * In a CTA of fp4_row_threads(cols) threads:
 *
 *     const fp4_row_cut cut = fp4_row_cut_of(cols);
 *     for (uint32_t turn = 0; turn < fp4_row_turns(cut); turn++) {
 *         uint32_t bytes = 0;
 *         for (uint32_t j = 0; j < cut.each; j++) {
 *             if (fp4_row_has(cut, turn, j)) {
 *                 ... quantize the block that begins at 16 * fp4_row_piece(cut, turn, j)
 *                 bytes |= (uint32_t)block.sf << (8 * j);
 *             }
 *         }
 *         fp4_row_store_sf(layout, sf, row, cut, turn, 1, bytes);
 *     }
 *
 * That writes the padding behind the row's scale bytes too. Rows of padding are left:
 * fp4_row_store_padding by CTAs for them, or fp4_sf_pad, told that there are fp4_sf_cols_padded
 * scale columns (store.cuh says why).
 *
 * Everything is for CTAs of one dimension that work on one row, or on one after the other; all but
 * the sums also for CTAs of more rows of threads, whole warps each, that work on a row each. The
 * sums too if these are one warp each, of which any may be without a row.
 * Constants, where the caller has them (all of the cut but pieces), leave less to do. A kernel that
 * keeps its pieces in an array needs them: a run-time index puts the array into local memory.
 *
 *     template <int EACH> __global__ void kernel(...)           fp4_row_each(cols) says which
 *         cut = fp4_row_cut_kept(EACH, blockDim.x, cols)
 *         fp4_f32x16 kept[EACH]
 */
#ifndef FP4_DEVICE_ROW_CUH
#define FP4_DEVICE_ROW_CUH

#include <fp4/device/reduce.cuh>
#include <fp4/device/store.cuh>
#include <fp4/row.h>

/** How a CTA cuts a row. sure: so many of a turn's pieces, the first, are there for all threads, in
    all turns. is_one: one turn takes all pieces. is_whole: if the layout is linear, a row's scale
    bytes are whole words of four, and aligned. */
typedef struct fp4_row_cut {
    uint32_t threads, each, pieces, sure;
    int is_one, is_whole;
} fp4_row_cut;

/** The cut of a row of so many columns, whole pieces, by a CTA of fp4_row_threads(cols). */
FP4_D fp4_row_cut fp4_row_cut_of(uint32_t cols)
{
    const uint32_t each = fp4_row_each(cols); /* all of a thread's but the last are there */
    const fp4_row_cut c = {fp4_row_threads(cols),
                           each == 0 ? FP4_ROW_EACH : each,
                           cols / FP4_ROW_PIECE,
                           each == 0 ? 0 : each - 1,
                           each != 0,
                           0};
    return c;
}

/**
 * The same where `each` is a constant, and with that all but pieces. Where all threads have all
 * their pieces, the caller may set sure = each, and is_whole as above.
 *
 * shape    cols: 16 to FP4_ROW_KEPT. each: fp4_row_each(cols). threads: fp4_row_threads(cols).
 */
FP4_D fp4_row_cut fp4_row_cut_kept(uint32_t each, uint32_t threads, uint32_t cols)
{
    const fp4_row_cut c = {threads, each, cols / FP4_ROW_PIECE, each - 1, 1, 0};
    return c;
}

/** Turns it takes. */
FP4_D uint32_t fp4_row_turns(fp4_row_cut c)
{
    return c.is_one ? 1 : (c.pieces + c.each * c.threads - 1) / (c.each * c.threads);
}

/** The piece that is number j of this thread's turn. */
FP4_D uint32_t fp4_row_piece(fp4_row_cut c, uint32_t turn, uint32_t j)
{
    return (turn * c.each + j) * c.threads + threadIdx.x;
}

/** Whether the row has it. */
FP4_D int fp4_row_has(fp4_row_cut c, uint32_t turn, uint32_t j)
{
    return j < c.sure || fp4_row_piece(c, turn, j) < c.pieces;
}

/** Whether the warp works on number j of the turn: on what the row has for any of its threads.
    Where all but the last are sure, always: at once with the others the last costs less than to
    ask. */
FP4_D int fp4_row_has_any(fp4_row_cut c, uint32_t turn, uint32_t j)
{
    return j < c.sure || c.sure + 1 == c.each ||
           fp4_row_piece(c, turn, j) - threadIdx.x % 32 < c.pieces;
}

/**
 * The sum over the row from each thread's: the sum of its pieces' sums, in ascending order.
 *
 * shape    threads: fp4_row_threads(columns). The CTA has as many; or where each = 1 up to
 *          FP4_ROW_EACH times as many, so that each thread has one piece. The order is that of
 *          row.h either way. smem: 32 floats; if the CTA has more than `threads`, as many as it
 *          has, and 32.
 * threads  all of the CTA call, the result is valid in all. A barrier, or two where the CTA has
 *          more than `threads`, none for one warp; smem is not to be used again before the next.
 */
FP4_D float fp4_row_sum(float sum, fp4_row_cut c, uint32_t threads, float *smem)
{
    const int lanes = fp4_warps_as_lanes_(threads);
    float *of_warp = smem + c.threads;
    uint32_t i;

    if (c.each != 1 || c.threads == threads) {
        return fp4_cta_sum_of(sum, threads, smem);
    }
    smem[threadIdx.x] = sum;
    fp4_ptx_barrier();
    if (threadIdx.x < threads) { /* whole warps: adds up what would be one thread's pieces */
#pragma unroll
        for (i = 1; i < FP4_ROW_EACH; i++) {
            const uint32_t at = threadIdx.x + i * threads;
            sum = fp4_add_rn(sum, at < c.threads ? smem[at] : 0.0f);
        }
        fp4_cta_leave_(fp4_warp_sum(sum), threadIdx.x, of_warp);
    }
    fp4_ptx_barrier();
    return fp4_group_sum(fp4_cta_left_(threadIdx.x, threads, lanes, of_warp), lanes);
}

/**
 * The same, and the largest magnitude of the row, or NaN where one is NaN, from each thread's in
 * *max, without a barrier more.
 *
 * shape    smem_max: 32 floats.
 */
FP4_D float fp4_row_sum_and_max_or_nan(float sum, float *max, fp4_row_cut c, uint32_t threads,
                                       float *smem, float *smem_max)
{
    const int lanes = fp4_warps_as_lanes_(c.threads);

    *max = fp4_group_max_or_nan(*max, 32);
    if (lanes > 1) {
        fp4_cta_leave_(*max, threadIdx.x, smem_max);
    }
    sum = fp4_row_sum(sum, c, threads, smem);
    if (lanes > 1) {
        *max = fp4_group_max_or_nan(fp4_cta_left_(threadIdx.x, c.threads, lanes, smem_max), lanes);
    }
    return sum;
}

/**
 * The scale column where the word begins that fp4_sf_words has left in this lane: that of the piece
 * number j = lane / lanes % 4 of the turn, and of the three blocks behind it. Such a word is to be
 * stored where fp4_row_has_sf_word.
 */
FP4_D uint32_t fp4_row_sf_col(fp4_row_cut c, uint32_t turn, uint32_t lanes)
{
    const uint32_t lane = threadIdx.x / lanes;
    return (turn * c.each + lane % 4) * (c.threads / lanes) + lane / 4 * 4;
}

FP4_D int fp4_row_has_sf_word(fp4_row_cut c, uint32_t turn, uint32_t lanes)
{
    return threadIdx.x % lanes == 0 && threadIdx.x / lanes % 4 < c.each &&
           (c.sure == c.each || fp4_row_sf_col(c, turn, lanes) < c.pieces / lanes);
}

/**
 * Stores the scale bytes of a turn: bits [8j, 8j+8) of `bytes` are those of piece number j, the
 * same in the `lanes` (1 or 2) lanes that share a block, and 0 where the row has no such piece.
 *
 * shape    sf: as fp4_store_sf_word has it, or aligned to 4 (is_whole).
 * threads  all 32 lanes of each warp call.
 */
FP4_D void fp4_row_store_sf(fp4_layout layout, uint8_t *sf, size_t row, fp4_row_cut c,
                            uint32_t turn, uint32_t lanes, uint32_t bytes)
{
    const uint32_t word = fp4_sf_words(bytes, (int)lanes);
    const uint32_t sf_col = fp4_row_sf_col(c, turn, lanes), sf_cols = c.pieces / lanes;

    if (!fp4_row_has_sf_word(c, turn, lanes)) {
        return;
    }
    if (c.is_whole) {
        fp4_ptx_store4(sf + fp4_sf_offset(layout, row, 0, sf_cols) +
                           sf_col / 4 * (uint32_t)fp4_sf_word_step(layout),
                       word);
    } else {
        fp4_store_sf_word(layout, sf, row, sf_col, sf_cols, word);
    }
}

/** Stores a row of the padding: zeros. For rows that the matrix does not have. */
FP4_D void fp4_row_store_padding(fp4_layout layout, uint8_t *sf, size_t row, fp4_row_cut c,
                                 uint32_t lanes)
{
    uint32_t col;

#pragma unroll 1 /* without regard to speed */
    for (col = 4 * threadIdx.x; col < c.pieces / lanes; col += 4 * c.threads) {
        fp4_store_sf_word(layout, sf, row, col, c.pieces / lanes, 0);
    }
}

/* ----------------------------------------------------------- rows with neighbouring scale bytes */

/*
 * A tiled layout has four scale bytes of a row side by side, and beside them those of other rows:
 * in 128x4 of rows 32 apart, in 8x4 of the next. A CTA that takes four such rows, one after the
 * other or with a row of threads for each, and keeps their words in shared memory stores 16 bytes
 * where one of a single row stores 4 of each 32 that memory moves.
 *
 *     for each of the four: keep_sf of all turns;  barrier;  store_four
 *
 * A CTA of four rows in turn is long at work: when no more are to be started, those that are
 * half-way have memory to themselves and cannot fill it. So the last rows have a CTA each, which is
 * one of those behind the first `fours` = fp4_row_fours(rows_padded, alone) (row.h).
 */
enum { FP4_ROW_WORDS = FP4_ROW_KEPT / 64 }; /* of a row that can be kept: blocks of 16 */

/** The first row of a CTA of four, or the only one of a CTA behind these. */
FP4_D uint32_t fp4_row_of_four(fp4_layout layout, uint32_t cta, uint32_t fours)
{
    return cta >= fours                 ? 3 * fours + cta
           : layout == FP4_LAYOUT_128X4 ? cta / 32 * 128 + cta % 32
                                        : cta * FP4_ROW_FOUR;
}

/** Which of its four a row is: what a loop over them need not keep beside the row. */
FP4_D uint32_t fp4_row_in_four(fp4_layout layout, uint32_t row)
{
    return (layout == FP4_LAYOUT_128X4 ? row / 32 : row) % FP4_ROW_FOUR;
}

/** Rows from one of them to the next; behind the last that leads to one of another four. */
FP4_D uint32_t fp4_row_step_of_four(fp4_layout layout)
{
    return layout == FP4_LAYOUT_128X4 ? 32 : 1;
}

/**
 * As fp4_row_store_sf, but to the row's words in shared memory, FP4_ROW_WORDS of them. For rows of
 * FP4_ROW_KEPT columns or fewer.
 *
 * threads  all 32 lanes of each warp call.
 */
FP4_D void fp4_row_keep_sf(uint32_t *words, fp4_row_cut c, uint32_t turn, uint32_t lanes,
                           uint32_t bytes)
{
    const uint32_t word = fp4_sf_words(bytes, (int)lanes);

    if (fp4_row_has_sf_word(c, turn, lanes)) {
        words[fp4_row_sf_col(c, turn, lanes) / 4] = word;
    }
}

/** The words of a row that the matrix does not have: zeros. */
FP4_D void fp4_row_keep_padding(uint32_t *words, fp4_row_cut c, uint32_t lanes)
{
    uint32_t w;

    for (w = threadIdx.x; 4 * w < c.pieces / lanes; w += c.threads) {
        words[w] = 0;
    }
}

/**
 * Stores the words of the CTA's four rows, or of its only one, padding included.
 *
 * shape    a tiled layout; sf 16-byte aligned. cta, fours: as of fp4_row_of_four. words: of four
 *          rows, in their order; of a CTA's only row words[only].
 * threads  all of the CTA call, after a barrier.
 */
FP4_D void fp4_row_store_four(fp4_layout layout, uint8_t *sf, uint32_t cta, uint32_t fours,
                              fp4_row_cut c, uint32_t lanes,
                              uint32_t words[FP4_ROW_FOUR][FP4_ROW_WORDS], uint32_t only)
{
    const uint32_t sf_cols = c.pieces / lanes, step = (uint32_t)fp4_sf_word_step(layout);
    uint32_t w;

    sf += fp4_sf_offset(layout, fp4_row_of_four(layout, cta, fours), 0, sf_cols);
    for (w = threadIdx.y * c.threads + threadIdx.x; 4 * w < sf_cols; w += blockDim.y * c.threads) {
        uint8_t *at = sf + (size_t)w * step;
        if (cta < fours) {
            fp4_ptx_store16(at, words[0][w], words[1][w], words[2][w], words[3][w]);
        } else {
            fp4_ptx_store4(at, words[only][w]);
        }
    }
}

#endif /* FP4_DEVICE_ROW_CUH */

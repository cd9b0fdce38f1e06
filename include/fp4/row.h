/*
 * fp4/row.h - how a kernel that works on whole rows cuts a row among the threads of a CTA, and with
 * that the order in which anything is summed over a row.
 *
 * A row is cut into pieces of 16 elements. Piece p belongs to thread p % threads of the row's CTA.
 * A sum over a row is, on the host as on the device: each piece its elements in ascending order,
 * from 0; each thread its pieces in ascending order; then the lanes of each warp as a butterfly
 * (xor 16, 8, 4, 2, 1); then the warps in the same way, as many as there are, rounded up to a power
 * of two (device/reduce.cuh). The number of threads depends on the length of the row and on nothing
 * else, never on the launch, the element type or the format: so does every rounding. (A kernel may
 * spread the pieces over more threads, or rows over fewer; it adds in this order all the same.)
 *
 *     columns               64   384  1536  2048  4096  5120  7168  8192  16384  65536
 *     threads               32    32    32    32    64   160   224   128    256    256
 *     pieces a thread        1     1     3     4     4     2     2     4      4     16
 */
#ifndef FP4_ROW_H
#define FP4_ROW_H

#include <fp4/config.h>

#define FP4_ROW_PIECE 16    /* elements of a piece */
#define FP4_ROW_THREADS 256 /* of a CTA, at most */
#define FP4_ROW_EACH 4      /* pieces of a thread that it can keep */
#define FP4_ROW_FOUR 4      /* rows whose scale bytes are neighbours in a tiled layout */
#define FP4_ROW_KEPT (FP4_ROW_PIECE * FP4_ROW_THREADS * FP4_ROW_EACH) /* columns that a CTA can */

/**
 * Threads of the CTA that works on a row of so many columns: whole warps, FP4_ROW_THREADS at most.
 *
 * Of 4, 3, 2 and 1 pieces a thread that which leaves the fewest places empty; the more pieces where
 * that is the same, since a thread's loads are in flight together and the barrier costs the same.
 */
FP4_HD uint32_t fp4_row_threads(size_t cols)
{
    const size_t pieces = (cols + FP4_ROW_PIECE - 1) / FP4_ROW_PIECE;
    size_t threads = FP4_ROW_THREADS, places = (size_t)-1, each;

    for (each = FP4_ROW_EACH; each > 0; each--) {
        const size_t warps = (pieces + 32 * each - 1) / (32 * each);
        if (32 * warps <= FP4_ROW_THREADS && 32 * warps * each < places) {
            threads = 32 * warps;
            places = threads * each;
        }
    }
    return (uint32_t)(threads > 0 ? threads : 32);
}

/**
 * The same for kernels that sum nothing, only take a maximum or not even that: they are free to
 * give each thread as many pieces as it can keep.
 */
FP4_HD uint32_t fp4_row_threads_any_order(size_t cols)
{
    const size_t of_warp = 32 * FP4_ROW_EACH * FP4_ROW_PIECE;
    const size_t warps = cols / of_warp + (cols % of_warp != 0);
    return warps > FP4_ROW_THREADS / 32 ? FP4_ROW_THREADS : warps > 0 ? 32 * (uint32_t)warps : 32;
}

/**
 * Pieces that each of the threads of fp4_row_threads has, 1 to FP4_ROW_EACH, where all have as
 * many, as they do at most widths of models; else 0. cols: a multiple of 16.
 */
FP4_HD uint32_t fp4_row_full_each(size_t cols)
{
    const size_t pieces = cols / FP4_ROW_PIECE, threads = fp4_row_threads(cols);
    return pieces % threads == 0 && pieces / threads <= FP4_ROW_EACH ? (uint32_t)(pieces / threads)
                                                                     : 0;
}

/**
 * Of a matrix in a tiled layout whose rows CTAs take by fours, but for up to `alone` at the end,
 * which have one each: the CTAs of four rows. Where there are any, the rows at the end are whole
 * tiles, so that none is left out.
 *
 * shape    rows_padded: fp4_sf_rows_padded, less than 2^32. CTAs in all: rows_padded - 3 * fours.
 */
FP4_HD uint32_t fp4_row_fours(size_t rows_padded, size_t alone)
{
    const size_t ones = alone < rows_padded ? alone / 128 * 128 : rows_padded;
    return (uint32_t)((rows_padded - ones) / FP4_ROW_FOUR);
}

#endif /* FP4_ROW_H */

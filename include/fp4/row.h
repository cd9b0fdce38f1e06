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
 *     columns               64   384  1536  2048  2560  4096  5120  7168  8192  16384  65536
 *     threads               32    32    32    32    64    64    96   128   128    256    256
 *     pieces a thread        1     1     3     4     3     4     4     4     4      4     16
 */
#ifndef FP4_ROW_H
#define FP4_ROW_H

#include <fp4/config.h>

#define FP4_ROW_PIECE 16    /* elements of a piece */
#define FP4_ROW_THREADS 256 /* of a CTA, at most */
#define FP4_ROW_EACH 4      /* pieces of a thread that it can keep */
#define FP4_ROW_FOUR 4      /* rows whose scale bytes are neighbours in a tiled layout */
#define FP4_ROW_KEPT (FP4_ROW_PIECE * FP4_ROW_THREADS * FP4_ROW_EACH) /* columns that a CTA can */

FP4_STATIC_ASSERT(FP4_ROW_EACH == 4, "the lists below end with four pieces");

FP4_HD_CONST size_t fp4_row_pieces_(size_t cols)
{
    return cols / FP4_ROW_PIECE + (cols % FP4_ROW_PIECE != 0);
}

/* Threads, whole warps, with so many pieces each. */
FP4_HD_CONST uint32_t fp4_row_threads_of_(size_t pieces, uint32_t each)
{
    return (uint32_t)((pieces + 32 * each - 1) / (32 * each) * 32);
}

/* Whether all threads have each - 1 pieces, and some have one more. */
FP4_HD_CONST int fp4_row_each_is_(size_t cols, uint32_t each)
{
    return fp4_row_pieces_(cols) >
           (size_t)(each - 1) * fp4_row_threads_of_(fp4_row_pieces_(cols), each);
}

/**
 * Pieces of a thread of the CTA that works on a row of so many columns, if it can keep them, 1 to
 * FP4_ROW_EACH; else 0.
 *
 * As many as there can be with all of them there for all threads but the last, which some may lack:
 * a kernel then need not ask for the others, and works on all of them at once.
 */
FP4_HD_CONST uint32_t fp4_row_each(size_t cols)
{
    return cols > FP4_ROW_KEPT         ? 0
           : fp4_row_each_is_(cols, 4) ? 4
           : fp4_row_each_is_(cols, 3) ? 3
           : fp4_row_each_is_(cols, 2) ? 2
                                       : 1;
}

/** Threads of that CTA: whole warps, FP4_ROW_THREADS at most. */
FP4_HD_CONST uint32_t fp4_row_threads(size_t cols)
{
    return cols > FP4_ROW_KEPT ? FP4_ROW_THREADS
           : cols == 0         ? 32
                               : fp4_row_threads_of_(fp4_row_pieces_(cols), fp4_row_each(cols));
}

/**
 * Expands X(each, threads, ...) for each of the ways that there are to cut a row of up to
 * FP4_ROW_KEPT columns: for kernels that know theirs, and tables of them. LONG: of more than 512,
 * all but the first.
 */
#define FP4_ROW_CUTS(X, ...) \
    X(1, 32, __VA_ARGS__) \
    FP4_ROW_LONG_CUTS(X, __VA_ARGS__)
#define FP4_ROW_LONG_CUTS(X, ...) \
    X(2, 32, __VA_ARGS__) \
    X(3, 32, __VA_ARGS__) \
    X(3, 64, __VA_ARGS__) \
    X(3, 96, __VA_ARGS__) \
    X(4, 32, __VA_ARGS__) \
    X(4, 64, __VA_ARGS__) \
    X(4, 96, __VA_ARGS__) \
    X(4, 128, __VA_ARGS__) \
    X(4, 160, __VA_ARGS__) \
    X(4, 192, __VA_ARGS__) \
    X(4, 224, __VA_ARGS__) \
    X(4, 256, __VA_ARGS__)

/** The place in that list, from 0, of the cut of a row of 1 to FP4_ROW_KEPT columns. */
FP4_HD_CONST uint32_t fp4_row_cut_number(size_t cols)
{
    return fp4_row_each(cols) == 4   ? 4 + fp4_row_threads(cols) / 32
           : fp4_row_each(cols) == 3 ? 1 + fp4_row_threads(cols) / 32
                                     : fp4_row_each(cols) - 1;
}

/**
 * Of a matrix in a tiled layout whose rows CTAs take by fours, but for up to `alone` at the end,
 * which have one each: the CTAs of four rows. Where there are any, the rows at the end are whole
 * tiles, so that none is left out.
 *
 * shape    rows_padded: fp4_sf_rows_padded, less than 2^32. CTAs in all: rows_padded - 3 * fours.
 */
FP4_HD_CONST uint32_t fp4_row_fours(size_t rows_padded, size_t alone)
{
    return (uint32_t)(alone < rows_padded ? (rows_padded - alone / 128 * 128) / FP4_ROW_FOUR : 0);
}

#endif /* FP4_ROW_H */

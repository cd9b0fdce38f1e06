/*
 * fp4/experts.h - the matrices of many experts in one buffer: which rows are whose, and where the
 * scale bytes of each stand. Host and device have the same rules.
 *
 *     masked    a matrix for each expert, all of the same size, and how many of its rows count
 *
 *                   x [groups, rows, cols]     rows [0, counts[g]) of matrix g
 *                   scales: a batch of 128x4 buffers, fp4_sf_bytes(.., rows, sf_cols) bytes each
 *
 *     packed    the rows of all experts below each other, and where those of each begin
 *
 *                   x [tokens, cols]           rows [offsets[g], offsets[g + 1]) are those of g
 *                   scales: one 128x4 buffer in which those of each expert begin a tile
 *
 *                   rows     offsets  0      5            133       133          142
 *                            expert   |  0   |     1       |    2    |     3      |
 *                   scales   rows     0..4   128..255                 256..264        summed
 *                                     0..4   128..255                 512..520        spread
 *
 * Where an expert's scales begin in the packed buffer:
 *
 *     summed    behind the padded rows of those before it: the sum of the counts, each rounded up
 *               to 128. vLLM's blockscale_offsets.
 *     spread    by its own offset alone: (offsets[g] + 127 g) / 128 * 128. The m_indptr_padded of
 *               FlashInfer's grouped matrix multiplications. Leaves up to a tile between experts.
 *
 * Counts and offsets live on the device, so that nobody can check them before they are used. What
 * they say is bounded, by rules that always make sense of them, and reported (fp4_experts_error).
 */
#ifndef FP4_EXPERTS_H
#define FP4_EXPERTS_H

#include <fp4/layout.h>

/** What becomes of rows that belong to no expert, and of the padding of the scales: zeros, or
    whatever stood there. */
typedef enum fp4_rest { FP4_REST_ZERO = 0, FP4_REST_LEAVE = 1 } fp4_rest;

/** Where the scales of an expert begin in a packed buffer. */
typedef enum fp4_experts_starts { FP4_STARTS_SUMMED = 0, FP4_STARTS_SPREAD = 1 } fp4_experts_starts;

/**
 * What was wrong with numbers on the device: bits of an error word. Bits are added to it, and none
 * are taken away.
 *
 * COUNT     a count is negative or beyond the rows of its matrix: none of them, or all, count.
 * OFFSET    an offset is negative, beyond the rows, or less than one before it: it is 0, the number
 *           of rows, or the largest before it.
 * SOURCE    the source of a row is negative or beyond those there are: the row is one of zeros.
 * SF_ROWS   the scale buffer has too few rows: what would be in tiles that it lacks belongs to no
 *           expert.
 */
typedef enum fp4_experts_error {
    FP4_EXPERTS_COUNT = 1,
    FP4_EXPERTS_OFFSET = 2,
    FP4_EXPERTS_SOURCE = 4,
    FP4_EXPERTS_SF_ROWS = 8
} fp4_experts_error;

/** A count or an offset from the device, bounded: 0 to `most`. */
FP4_HD_CONST uint32_t fp4_experts_bounded(int32_t n, uint32_t most)
{
    return n < 0 ? 0 : (uint32_t)n < most ? (uint32_t)n : most;
}

/** Where the scales of group `group` begin, spread: the row, a multiple of 128. */
FP4_HD_CONST size_t fp4_experts_spread_row(size_t first_row, size_t group)
{
    return (first_row + 127 * group) / 128 * 128;
}

/**
 * Rows of a packed scale buffer that always suffice for so many rows of so many experts, whatever
 * the offsets are: summed, an expert with rows wastes 127 at most; spread, one without does too.
 * The buffer has this times fp4_sf_cols_padded bytes.
 */
FP4_HD_CONST size_t fp4_experts_sf_rows(fp4_experts_starts starts, size_t rows, size_t groups)
{
    return fp4_experts_spread_row(rows,
                                  starts == FP4_STARTS_SUMMED && rows < groups ? rows : groups);
}

#endif /* FP4_EXPERTS_H */

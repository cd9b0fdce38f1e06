/*
 * fp4/layout.h - where the scale byte of (row, sf_col) lives, and how large the buffer is.
 *
 *     linear   row-major [rows, sf_cols], no padding
 *
 *     128x4    tiles of 128 rows x 4 scale columns, 512 bytes each, ordered along the row first.
 *              Inside a tile rows r, r+32, r+64, r+96 stand side by side, 4 bytes each:
 *
 *                  byte   0..3     4..7      8..11     12..15
 *                  0      row 0    row 32    row 64    row 96      <- sf_col 0 1 2 3 of each
 *                  16     row 1    row 33    row 65    row 97
 *                  ...
 *                  496    row 31   row 63    row 95    row 127
 *
 *              What cuBLASLt (VEC16_UE4M3, VEC32_UE8M0), CUTLASS and cuDNN read;
 *              FlashInfer layout_128x4.
 *
 *     8x4      tiles of 8 rows x 4 scale columns, 32 bytes each, ordered along the row first;
 *              inside a tile row-major:
 *
 *                  byte   0..3     4..7      ...     28..31
 *                  0      row 0    row 1     ...     row 7         <- sf_col 0 1 2 3 of each
 *
 *              TensorRT-LLM's layout for few rows; FlashInfer layout_8x4.
 *
 *     4x1      of a KV cache's V, a page and head at a time: tiles of 4 tokens x 1 scale column,
 *              4 bytes each, ordered along the row first:
 *
 *                  byte   0..3                  4..7             ...
 *                  0      sf_col 0, tokens 0-3  sf_col 1, 0-3    ...
 *
 *              A whole number of tiles: no padding, as many bytes as linear. No fp4_layout, since
 *              no matrix multiplication takes it. FlashInfer's nvfp4_quantize_paged_kv_cache.
 *
 * Rows of a matrix for TensorRT-LLM's and FlashInfer's matrix multiplications stand in another
 * order, which depends on the rows of the kernel's epilogue tile: in blocks of 32 rows where those
 * are a multiple of 128, else of 16. Inside a block eight rows stand side by side that were 4 (or
 * 2) apart:
 *
 *     new row                        0  1  2  3  4   5   6   7   8  9  10 ...     24 25 ...     31
 *     comes from   blocks of 32      0  4  8  12 16  20  24  28  1  5  9  ...     3  7  ...     31
 *                  blocks of 16      0  2  4  6  8   10  12  14  1  3  5  ... 15
 *
 * The scale bytes of such a matrix stand in the 128x4 layout, by their new rows.
 *
 * row counts matrix rows, sf_col counts blocks along a row, sf_cols = cols / block. A tiled buffer
 * is padded to whole tiles; the padding belongs to the buffer and is written as 0x00. In a batch
 * every matrix is padded on its own: matrix b starts at b * fp4_sf_bytes(layout, rows, sf_cols).
 * Offsets and sizes are bytes, 64-bit. All functions are constant expressions in C++ and cost a
 * handful of shifts and one multiplication; none divides by a variable except the inverses.
 *
 * source   cuBLAS documentation, "1D block scaling factors layout"; FlashInfer fp4Op.cpp
 *          (computeSFIndex) and utils.py
 *          (get_shuffle_matrix_a_row_indices).
 */
#ifndef FP4_LAYOUT_H
#define FP4_LAYOUT_H

#include <fp4/types.h>

/* a * b does not fit a size_t */
FP4_HD_CONST int fp4_overflows_(size_t a, size_t b)
{
    return b != 0 && a > (size_t)-1 / b;
}

/* ---------------------------------------------------------------- padded shape and size */

/** n rounded up to a multiple of a power of two. */
FP4_HD_CONST size_t fp4_round_up_(size_t n, size_t multiple)
{
    return (n + multiple - 1) & ~(multiple - 1);
}

/** Rows of the padded buffer: a multiple of 128, of 8, or `rows` itself. */
FP4_HD_CONST size_t fp4_sf_rows_padded(fp4_layout layout, size_t rows)
{
    return layout == FP4_LAYOUT_128X4 ? fp4_round_up_(rows, 128)
           : layout == FP4_LAYOUT_8X4 ? fp4_round_up_(rows, 8)
                                      : rows;
}

/** Scale columns of the padded buffer: a multiple of 4, or `sf_cols` itself. */
FP4_HD_CONST size_t fp4_sf_cols_padded(fp4_layout layout, size_t sf_cols)
{
    return layout == FP4_LAYOUT_LINEAR ? sf_cols : fp4_round_up_(sf_cols, 4);
}

/** Bytes of the scale buffer of one matrix, padding included; also the distance from matrix to
    matrix of a batch. */
FP4_HD_CONST size_t fp4_sf_bytes(fp4_layout layout, size_t rows, size_t sf_cols)
{
    return fp4_sf_rows_padded(layout, rows) * fp4_sf_cols_padded(layout, sf_cols);
}

/* ---------------------------------------------------------------- offset of (row, sf_col) */

/** Byte offset in the linear layout. */
FP4_HD_CONST size_t fp4_sf_offset_linear(size_t row, size_t sf_col, size_t sf_cols)
{
    return row * sf_cols + sf_col;
}

/** Byte offset in the 128x4 layout. Valid for padding rows and columns too. */
FP4_HD_CONST size_t fp4_sf_offset_128x4(size_t row, size_t sf_col, size_t sf_cols)
{
    return row / 128 * (fp4_round_up_(sf_cols, 4) * 128) + sf_col / 4 * 512 + row % 32 * 16 +
           row % 128 / 32 * 4 + sf_col % 4;
}

/** Byte offset in the 8x4 layout. Valid for padding rows and columns too. */
FP4_HD_CONST size_t fp4_sf_offset_8x4(size_t row, size_t sf_col, size_t sf_cols)
{
    return row / 8 * (fp4_round_up_(sf_cols, 4) * 8) + sf_col / 4 * 32 + row % 8 * 4 + sf_col % 4;
}

/** Byte offset in the 4x1 layout of a page and head's V scales; the page has a multiple of 4
    tokens. */
FP4_HD_CONST size_t fp4_sf_offset_4x1(size_t token, size_t sf_col, size_t sf_cols)
{
    return token / 4 * (sf_cols * 4) + sf_col * 4 + token % 4;
}

/** Byte offset in a layout known at run time. */
FP4_HD_CONST size_t fp4_sf_offset(fp4_layout layout, size_t row, size_t sf_col, size_t sf_cols)
{
    return layout == FP4_LAYOUT_128X4 ? fp4_sf_offset_128x4(row, sf_col, sf_cols)
           : layout == FP4_LAYOUT_8X4 ? fp4_sf_offset_8x4(row, sf_col, sf_cols)
                                      : fp4_sf_offset_linear(row, sf_col, sf_cols);
}

/**
 * Byte offset in a batch of equal matrices, each padded on its own.
 *
 * In the 128x4 layout that is what FlashInfer's grouped functions return as a tensor of another
 * shape. With rm = tiles below each other, rk = tiles beside each other, their element
 * (row % 32, row % 128 / 32, row / 128, sf_col % 4, sf_col / 4, batch) is the same byte:
 *
 *     shape       32    4    rm          4    rk     batches
 *     strides     16    4    512 * rk    1    512    512 * rk * rm          bytes
 */
FP4_HD_CONST size_t fp4_sf_offset_batched(fp4_layout layout, size_t batch, size_t row,
                                          size_t sf_col, size_t rows, size_t sf_cols)
{
    return batch * fp4_sf_bytes(layout, rows, sf_cols) +
           fp4_sf_offset(layout, row, sf_col, sf_cols);
}

/**
 * Bytes from the word of scale columns 4k..4k+3 of a row to that of the next four: the word stands
 * at fp4_sf_offset(layout, row, 0, sf_cols) + k * fp4_sf_word_step(layout), in every layout.
 */
FP4_HD_CONST size_t fp4_sf_word_step(fp4_layout layout)
{
    return layout == FP4_LAYOUT_128X4 ? 512 : layout == FP4_LAYOUT_8X4 ? 32 : 4;
}

/* ---------------------------------------------------------------- inverse: offset to scale */

/** Row of the scale at a byte offset of the linear layout. sf_cols > 0, as for all inverses. */
FP4_HD_CONST size_t fp4_sf_row_linear(size_t offset, size_t sf_cols)
{
    return offset / sf_cols;
}

/** Scale column at a byte offset of the linear layout. */
FP4_HD_CONST size_t fp4_sf_col_linear(size_t offset, size_t sf_cols)
{
    return offset % sf_cols;
}

/** Row of the scale at a byte offset of the 128x4 layout; a padding row where it is >= rows. */
FP4_HD_CONST size_t fp4_sf_row_128x4(size_t offset, size_t sf_cols)
{
    return offset / (fp4_round_up_(sf_cols, 4) * 128) * 128 + offset / 4 % 4 * 32 +
           offset / 16 % 32;
}

/** Scale column at a byte offset of the 128x4 layout; a padding column where it is >= sf_cols. */
FP4_HD_CONST size_t fp4_sf_col_128x4(size_t offset, size_t sf_cols)
{
    return offset % (fp4_round_up_(sf_cols, 4) * 128) / 512 * 4 + offset % 4;
}

/** Row of the scale at a byte offset of the 8x4 layout; a padding row where it is >= rows. */
FP4_HD_CONST size_t fp4_sf_row_8x4(size_t offset, size_t sf_cols)
{
    return offset / (fp4_round_up_(sf_cols, 4) * 8) * 8 + offset / 4 % 8;
}

/** Scale column at a byte offset of the 8x4 layout; a padding column where it is >= sf_cols. */
FP4_HD_CONST size_t fp4_sf_col_8x4(size_t offset, size_t sf_cols)
{
    return offset % (fp4_round_up_(sf_cols, 4) * 8) / 32 * 4 + offset % 4;
}

/** Token of the scale at a byte offset of the 4x1 layout. */
FP4_HD_CONST size_t fp4_sf_row_4x1(size_t offset, size_t sf_cols)
{
    return offset / (sf_cols * 4) * 4 + offset % 4;
}

/** Scale column at a byte offset of the 4x1 layout. */
FP4_HD_CONST size_t fp4_sf_col_4x1(size_t offset, size_t sf_cols)
{
    return offset % (sf_cols * 4) / 4;
}

/** Row of the scale at a byte offset of a layout known at run time. */
FP4_HD_CONST size_t fp4_sf_row(fp4_layout layout, size_t offset, size_t sf_cols)
{
    return layout == FP4_LAYOUT_128X4 ? fp4_sf_row_128x4(offset, sf_cols)
           : layout == FP4_LAYOUT_8X4 ? fp4_sf_row_8x4(offset, sf_cols)
                                      : fp4_sf_row_linear(offset, sf_cols);
}

/** Scale column at a byte offset of a layout known at run time. */
FP4_HD_CONST size_t fp4_sf_col(fp4_layout layout, size_t offset, size_t sf_cols)
{
    return layout == FP4_LAYOUT_128X4 ? fp4_sf_col_128x4(offset, sf_cols)
           : layout == FP4_LAYOUT_8X4 ? fp4_sf_col_8x4(offset, sf_cols)
                                      : fp4_sf_col_linear(offset, sf_cols);
}

/* ---------------------------------------------------------------- shuffled rows */

/**
 * Rows of a shuffle block, 32 or 16: rows change places inside of it only. Not a block of elements
 * that share a scale: FlashInfer calls it so, get_shuffle_block_size.
 */
FP4_HD_CONST size_t fp4_shuffle_block(size_t epilogue_tile_m)
{
    return epilogue_tile_m % 128 == 0 ? 32 : 16;
}

/**
 * The row of the matrix that comes to a row of the shuffled one.
 *
 * shape    whole shuffle blocks: what is no part of the matrix does not come into it.
 * source   FlashInfer, shuffle_matrix_a: shuffled[row] = matrix[fp4_shuffle_row_from(row, m)].
 */
FP4_HD_CONST size_t fp4_shuffle_row_from(size_t row, size_t epilogue_tile_m)
{
    return epilogue_tile_m % 128 == 0 ? (row & ~(size_t)31) + row % 8 * 4 + row % 32 / 8
                                      : (row & ~(size_t)15) + row % 8 * 2 + row % 16 / 8;
}

/** The inverse: to which row of the shuffled matrix a row goes. A kernel that makes rows puts them
    there, and their scales to fp4_sf_offset_128x4(fp4_shuffle_row_to(row, m), col, sf_cols). */
FP4_HD_CONST size_t fp4_shuffle_row_to(size_t row, size_t epilogue_tile_m)
{
    return epilogue_tile_m % 128 == 0 ? (row & ~(size_t)31) + row % 4 * 8 + row % 32 / 4
                                      : (row & ~(size_t)15) + row % 2 * 8 + row % 16 / 2;
}

#endif /* FP4_LAYOUT_H */

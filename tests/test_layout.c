/* fp4/layout.h: where scale bytes live, how large their buffers are, and the way back. */
#include <fp4/layout.h>

#include <string.h>

#include "check.h"
#include "golden.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};

/* Less, exactly and more than one, two and three tiles of either kind in both directions. */
static const size_t some_rows[] = {1,  2,  3,   5,   7,   8,   9,   16,  23,  31,  32,  33, 63,
                                   64, 96, 127, 128, 129, 160, 255, 256, 257, 300, 383, 384};
static const size_t some_cols[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 17};
enum {
    N_ROWS = sizeof some_rows / sizeof some_rows[0],
    N_COLS = sizeof some_cols / sizeof some_cols[0]
};

Test(layout, enumerators_are_flashinfers)
{
    CHECK_EQ(FP4_LAYOUT_128X4, 0, "layout_128x4");
    CHECK_EQ(FP4_LAYOUT_8X4, 1, "layout_8x4");
    CHECK_EQ(FP4_LAYOUT_LINEAR, 2, "layout_linear");
}

/* ---------------------------------------------------------------- sizes */

Test(layout, padded_sizes)
{
    static const struct {
        fp4_layout layout;
        size_t rows, cols, padded_rows, padded_cols, bytes;
    } known[] = {
        {FP4_LAYOUT_128X4, 1, 1, 128, 4, 512},
        {FP4_LAYOUT_128X4, 5, 4, 128, 4, 512},
        {FP4_LAYOUT_128X4, 32, 5, 128, 8, 1024},
        {FP4_LAYOUT_128X4, 127, 16, 128, 16, 2048},
        {FP4_LAYOUT_128X4, 128, 16, 128, 16, 2048},
        {FP4_LAYOUT_128X4, 129, 16, 256, 16, 4096},
        {FP4_LAYOUT_128X4, 4096, 251, 4096, 252, 1032192},
        {FP4_LAYOUT_8X4, 1, 1, 8, 4, 32},
        {FP4_LAYOUT_8X4, 8, 4, 8, 4, 32},
        {FP4_LAYOUT_8X4, 9, 5, 16, 8, 128},
        {FP4_LAYOUT_8X4, 130, 17, 136, 20, 2720},
        {FP4_LAYOUT_LINEAR, 1, 1, 1, 1, 1},
        {FP4_LAYOUT_LINEAR, 129, 17, 129, 17, 2193},
        /* nothing to quantize needs no bytes */
        {FP4_LAYOUT_128X4, 0, 5, 0, 8, 0},
        {FP4_LAYOUT_128X4, 5, 0, 128, 0, 0},
        {FP4_LAYOUT_8X4, 0, 0, 0, 0, 0},
        {FP4_LAYOUT_LINEAR, 0, 5, 0, 5, 0},
        /* over 2^32 */
        {FP4_LAYOUT_128X4, 16777215, 4095, 16777216, 4096, 68719476736u},
        {FP4_LAYOUT_8X4, 16777215, 4095, 16777216, 4096, 68719476736u},
        {FP4_LAYOUT_LINEAR, 16777215, 4095, 16777215, 4095, 68702695425u},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const fp4_layout layout = known[i].layout;
        const size_t rows = known[i].rows, cols = known[i].cols;
        CHECK_EQ(fp4_sf_rows_padded(layout, rows), known[i].padded_rows, "case %zu", i);
        CHECK_EQ(fp4_sf_cols_padded(layout, cols), known[i].padded_cols, "case %zu", i);
        CHECK_EQ(fp4_sf_bytes(layout, rows, cols), known[i].bytes, "case %zu", i);
    }
}

/* ---------------------------------------------------------------- three more ways to say where */

static size_t tiles(size_t n, size_t tile)
{
    return n / tile + (n % tile != 0);
}

/* As NVIDIA documents it: a tile's number, the place inside it. */
static size_t by_tile_number(fp4_layout layout, size_t row, size_t col, size_t cols)
{
    const size_t tile_rows = layout == FP4_LAYOUT_128X4 ? 128 : 8;
    const size_t tile = row / tile_rows * tiles(cols, 4) + col / 4;
    const size_t outer = row % tile_rows, inner = col % 4;

    return tile * tile_rows * 4 + (layout == FP4_LAYOUT_128X4
                                       ? outer % 32 * 16 + outer / 32 * 4 + inner
                                       : outer * 4 + inner);
}

/* As a choice of bits: those of the offset, from below, are col 0-1, row 5-6, row 0-4 (or col 0-1,
   row 0-2); what is left of col and row counts tiles. */
static size_t by_bits(fp4_layout layout, size_t row, size_t col, size_t cols)
{
    if (layout == FP4_LAYOUT_128X4) {
        return (col & 3) | (row >> 5 & 3) << 2 | (row & 31) << 4 |
               ((col >> 2) + (row >> 7) * tiles(cols, 4)) << 9;
    }
    return (col & 3) | (row & 7) << 2 | ((col >> 2) + (row >> 3) * tiles(cols, 4)) << 5;
}

/* As a permuted tensor: offsets counted up, one by one, while (row, col) run through the axes in
   their new order. 128x4 is reshape(rt, 4, 32, ct, 4).permute(0, 3, 2, 1, 4). */
static void check_by_permutation(fp4_layout layout, size_t rows, size_t cols)
{
    const size_t parts = layout == FP4_LAYOUT_128X4 ? 4 : 1;
    const size_t part_rows = layout == FP4_LAYOUT_128X4 ? 32 : 8;
    size_t offset = 0;

    for (size_t rt = 0; rt < tiles(rows, parts * part_rows); rt++) {
        for (size_t ct = 0; ct < tiles(cols, 4); ct++) {
            for (size_t r = 0; r < part_rows; r++) {
                for (size_t part = 0; part < parts; part++) {
                    for (size_t c = 0; c < 4; c++) {
                        const size_t row = (rt * parts + part) * part_rows + r, col = ct * 4 + c;
                        CHECK_EQ(fp4_sf_offset(layout, row, col, cols), offset,
                                 "layout %d, %zu x %zu: row %zu, col %zu", (int)layout, rows, cols,
                                 row, col);
                        offset++;
                    }
                }
            }
        }
    }
    CHECK_EQ(offset, fp4_sf_bytes(layout, rows, cols), "bytes of %zu x %zu", rows, cols);
}

Test(layout, offsets_equal_three_other_statements)
{
    for (int i = 0; i < N_ROWS; i++) {
        for (int j = 0; j < N_COLS; j++) {
            const size_t rows = some_rows[i], cols = some_cols[j];
            for (int l = 0; l < 2; l++) {
                const fp4_layout layout = layouts[l];
                check_by_permutation(layout, rows, cols);
                for (size_t row = 0; row < fp4_sf_rows_padded(layout, rows); row++) {
                    for (size_t col = 0; col < fp4_sf_cols_padded(layout, cols); col++) {
                        const size_t offset = fp4_sf_offset(layout, row, col, cols);
                        CHECK_EQ(offset, by_tile_number(layout, row, col, cols),
                                 "layout %d, %zu cols: row %zu, col %zu", l, cols, row, col);
                        CHECK_EQ(offset, by_bits(layout, row, col, cols),
                                 "layout %d, %zu cols: row %zu, col %zu", l, cols, row, col);
                    }
                }
            }
            for (size_t at = 0; at < rows * cols; at++) {
                CHECK_EQ(fp4_sf_offset(FP4_LAYOUT_LINEAR, at / cols, at % cols, cols), at,
                         "linear, %zu cols: %zu", cols, at);
            }
        }
    }
}

Test(layout, a_tile_is_as_drawn)
{
    /* the corners of the picture in layout.h: 16 bytes a line, one scale column of each row */
    CHECK_EQ(fp4_sf_offset_128x4(0, 0, 4), 0, "row 0");
    CHECK_EQ(fp4_sf_offset_128x4(32, 0, 4), 4, "row 32");
    CHECK_EQ(fp4_sf_offset_128x4(64, 0, 4), 8, "row 64");
    CHECK_EQ(fp4_sf_offset_128x4(96, 3, 4), 15, "row 96, col 3");
    CHECK_EQ(fp4_sf_offset_128x4(1, 0, 4), 16, "row 1");
    CHECK_EQ(fp4_sf_offset_128x4(31, 0, 4), 496, "row 31");
    CHECK_EQ(fp4_sf_offset_128x4(127, 3, 4), 511, "row 127, col 3");
    CHECK_EQ(fp4_sf_offset_128x4(0, 4, 8), 512, "the second tile is to the right");
    CHECK_EQ(fp4_sf_offset_128x4(128, 0, 8), 1024, "the third is below");
    CHECK_EQ(fp4_sf_offset_128x4(128, 0, 5), 1024, "columns are padded");
    CHECK_EQ(fp4_sf_offset_8x4(7, 3, 4), 31, "row 7, col 3");
    CHECK_EQ(fp4_sf_offset_8x4(0, 4, 8), 32, "the second tile is to the right");
    CHECK_EQ(fp4_sf_offset_8x4(8, 0, 8), 64, "the third is below");
}

Test(layout, swizzle_is_a_bijection)
{
    for (int l = 0; l < 3; l++) {
        for (int i = 0; i < N_ROWS; i++) {
            for (int j = 0; j < N_COLS; j++) {
                const fp4_layout layout = layouts[l];
                const size_t rows = some_rows[i], cols = some_cols[j];
                const size_t bytes = fp4_sf_bytes(layout, rows, cols);
                static uint8_t hit[8192];
                cr_assert_leq(bytes, sizeof hit);
                memset(hit, 0, bytes);
                for (size_t row = 0; row < fp4_sf_rows_padded(layout, rows); row++) {
                    for (size_t col = 0; col < fp4_sf_cols_padded(layout, cols); col++) {
                        const size_t offset = fp4_sf_offset(layout, row, col, cols);
                        cr_assert_lt(offset, bytes, "layout %d, %zu x %zu: row %zu, col %zu", l,
                                     rows, cols, row, col);
                        hit[offset]++;
                        CHECK_EQ(fp4_sf_row(layout, offset, cols), row,
                                 "layout %d, %zu x %zu: offset %zu", l, rows, cols, offset);
                        CHECK_EQ(fp4_sf_col(layout, offset, cols), col,
                                 "layout %d, %zu x %zu: offset %zu", l, rows, cols, offset);
                    }
                }
                for (size_t offset = 0; offset < bytes; offset++) {
                    CHECK_EQ(hit[offset], 1, "layout %d, %zu x %zu: offset %zu", l, rows, cols,
                             offset);
                }
            }
        }
    }
}

Test(layout, functions_of_one_layout_equal_the_chosen_at_run_time)
{
    for (size_t row = 0; row < 300; row++) {
        for (size_t col = 0; col < 13; col++) {
            const size_t offset = row * 13 + col;
            CHECK_EQ(fp4_sf_offset(FP4_LAYOUT_128X4, row, col, 13),
                     fp4_sf_offset_128x4(row, col, 13), "%zu, %zu", row, col);
            CHECK_EQ(fp4_sf_offset(FP4_LAYOUT_8X4, row, col, 13), fp4_sf_offset_8x4(row, col, 13),
                     "%zu, %zu", row, col);
            CHECK_EQ(fp4_sf_offset(FP4_LAYOUT_LINEAR, row, col, 13),
                     fp4_sf_offset_linear(row, col, 13), "%zu, %zu", row, col);
            CHECK_EQ(fp4_sf_row(FP4_LAYOUT_128X4, offset, 13), fp4_sf_row_128x4(offset, 13), "%zu",
                     offset);
            CHECK_EQ(fp4_sf_col(FP4_LAYOUT_128X4, offset, 13), fp4_sf_col_128x4(offset, 13), "%zu",
                     offset);
            CHECK_EQ(fp4_sf_row(FP4_LAYOUT_8X4, offset, 13), fp4_sf_row_8x4(offset, 13), "%zu",
                     offset);
            CHECK_EQ(fp4_sf_col(FP4_LAYOUT_8X4, offset, 13), fp4_sf_col_8x4(offset, 13), "%zu",
                     offset);
            CHECK_EQ(fp4_sf_row(FP4_LAYOUT_LINEAR, offset, 13), fp4_sf_row_linear(offset, 13),
                     "%zu", offset);
            CHECK_EQ(fp4_sf_col(FP4_LAYOUT_LINEAR, offset, 13), fp4_sf_col_linear(offset, 13),
                     "%zu", offset);
        }
    }
}

/* ---------------------------------------------------------------- batches, and beyond 32 bits */

Test(layout, every_matrix_of_a_batch_is_padded_on_its_own)
{
    for (int l = 0; l < 3; l++) {
        for (int i = 0; i < N_ROWS; i += 3) {
            const size_t rows = some_rows[i], cols = 5,
                         bytes = fp4_sf_bytes(layouts[l], rows, cols);
            for (size_t batch = 0; batch < 4; batch++) {
                CHECK_EQ(fp4_sf_offset_batched(layouts[l], batch, 0, 0, rows, cols), batch * bytes,
                         "layout %d, %zu rows", l, rows);
                CHECK_EQ(fp4_sf_offset_batched(layouts[l], batch, rows - 1, 4, rows, cols),
                         batch * bytes + fp4_sf_offset(layouts[l], rows - 1, 4, cols),
                         "layout %d, %zu rows", l, rows);
            }
        }
    }
    CHECK_EQ(fp4_sf_offset_batched(FP4_LAYOUT_128X4, 1, 0, 0, 129, 5), 2048, "two 256 x 8");
    CHECK_EQ(fp4_sf_offset_batched(FP4_LAYOUT_8X4, 1, 0, 0, 129, 5), 1088, "two 136 x 8");
    CHECK_EQ(fp4_sf_offset_batched(FP4_LAYOUT_LINEAR, 1, 0, 0, 129, 5), 645, "two 129 x 5");
}

Test(layout, offsets_are_64_bit)
{
    /* 2049 columns are padded to 2052; row 2097229 = 16384 * 128 + 77 = 262153 * 8 + 5:
       16384 * 2052 * 128 + 256 * 512 + 13 * 16 + 2 * 4 + 2, 262153 * 2052 * 8 + 256 * 32 + 22 */
    CHECK_EQ(fp4_sf_offset_linear(3000000, 1234, 5000), 15000001234u, "linear");
    CHECK_EQ(fp4_sf_offset_128x4(2097229, 1026, 2049), 4303487194u, "128x4");
    CHECK_EQ(fp4_sf_offset_8x4(2097229, 1026, 2049), 4303511862u, "8x4");
    CHECK_EQ(fp4_sf_offset_batched(FP4_LAYOUT_128X4, 70000, 1, 0, 128, 256), 2293760016u,
             "the 70000th matrix of 128 x 256");
    CHECK_EQ(fp4_sf_offset_batched(FP4_LAYOUT_LINEAR, 5000000, 1, 2, 100, 100), 50000000102u,
             "the 5000000th matrix of 100 x 100");
}

Test(layout, inverse_holds_beyond_32_bits)
{
    static const size_t around[] = {0x7fffffffu,  0x80000000u,  0xffffffffu,
                                    0x100000000u, 0x2540be400u, 0x10000000000u};
    static const size_t cols[] = {1, 3, 4, 100, 251, 4096, 65535};

    for (int l = 0; l < 3; l++) {
        for (int i = 0; i < 6; i++) {
            for (int j = 0; j < 7; j++) {
                for (size_t step = 0; step < 600; step++) {
                    const size_t offset = around[i] - 300 + step;
                    const size_t row = fp4_sf_row(layouts[l], offset, cols[j]);
                    const size_t col = fp4_sf_col(layouts[l], offset, cols[j]);
                    CHECK(col < fp4_sf_cols_padded(layouts[l], cols[j]),
                          "layout %d, %zu cols: offset %zu", l, cols[j], offset);
                    CHECK_EQ(fp4_sf_offset(layouts[l], row, col, cols[j]), offset,
                             "layout %d, %zu cols", l, cols[j]);
                }
            }
        }
    }
}

/* ---------------------------------------------------------------- what the peers' code gives */

Test(layout, offsets_are_flashinfers)
{
    static const size_t shapes[][2] = {{3, 5}, {64, 16}, {130, 9}, {130, 17}, {256, 64}};
    static const char *const names[] = {"128x4", "8x4"};

    for (int i = 0; i < 5; i++) {
        const size_t rows = shapes[i][0], cols = shapes[i][1];
        for (int l = 0; l < 2; l++) {
            const char *path =
                golden_path("layouts/fi.sfindex.%zux%zu.%s.npy", rows, cols, names[l]);
            const int32_t *offsets = golden_data(path, "<i4", rows * cols);
            for (size_t at = 0; at < rows * cols; at++) {
                CHECK_EQ(fp4_sf_offset(layouts[l], at / cols, at % cols, cols), offsets[at],
                         "%s: row %zu, col %zu", path, at / cols, at % cols);
            }
        }
    }
}

/* `batches` matrices of scale bytes in a tiled layout, padding zero, against a golden file. */
static void check_swizzled(fp4_layout layout, const uint8_t *linear, size_t batches, size_t rows,
                           size_t cols, const char *path)
{
    const size_t bytes = batches * fp4_sf_bytes(layout, rows, cols);
    const uint8_t *expected = golden_data(path, "|u1", bytes);
    uint8_t *swizzled = golden_memory(bytes, 0);

    for (size_t batch = 0; batch < batches; batch++) {
        for (size_t row = 0; row < rows; row++) {
            for (size_t col = 0; col < cols; col++) {
                swizzled[fp4_sf_offset_batched(layout, batch, row, col, rows, cols)] =
                    linear[fp4_sf_offset_batched(FP4_LAYOUT_LINEAR, batch, row, col, rows, cols)];
            }
        }
    }
    for (size_t at = 0; at < bytes; at++) {
        CHECK_EQ(swizzled[at], expected[at], "%s: byte %zu", path, at);
    }
}

Test(layout, swizzled_bytes_are_flashinfers_and_torchaos)
{
    static const size_t shapes[][2] = {{3, 5}, {130, 17}, {256, 64}};
    const uint8_t *both = golden_data(golden_path("layouts/fi.interleave.in.npy"), "|u1", 4420);

    for (int i = 0; i < 3; i++) {
        const size_t rows = shapes[i][0], cols = shapes[i][1];
        const uint8_t *linear =
            golden_data(golden_path("layouts/rand.%zux%zu.npy", rows, cols), "|u1", rows * cols);
        check_swizzled(FP4_LAYOUT_128X4, linear, 1, rows, cols,
                       golden_path("layouts/fi.swizzle_sf.%zux%zu.npy", rows, cols));
        check_swizzled(FP4_LAYOUT_128X4, linear, 1, rows, cols,
                       golden_path("layouts/torchao.to_blocked.%zux%zu.npy", rows, cols));
        check_swizzled(FP4_LAYOUT_8X4, linear, 1, rows, cols,
                       golden_path("layouts/fi.swizzle8x4.%zux%zu.npy", rows, cols));
    }
    check_swizzled(FP4_LAYOUT_128X4, both, 1, 130, 17,
                   golden_path("layouts/fi.interleave.out130x17.npy"));
    check_swizzled(FP4_LAYOUT_128X4, both, 2, 130, 17,
                   golden_path("layouts/fi.interleave.out2x130x17.npy"));
}

/* ---------------------------------------------------------------- V of a KV cache */

/* As FlashInfer reshapes it: of a page's [tokens, S] bytes, (t, s) comes to stand in row
   4 * (t / 4) + s / (S / 4), column 4 * (s % (S / 4)) + t % 4. */
Test(layout, tokens_by_four_are_flashinfers)
{
    for (size_t cols = 4; cols <= 32; cols += 4) {
        uint8_t seen[64 * 32] = {0};
        for (size_t t = 0; t < 64; t++) {
            for (size_t s = 0; s < cols; s++) {
                const size_t row = 4 * (t / 4) + s / (cols / 4);
                const size_t at = row * cols + 4 * (s % (cols / 4)) + t % 4;
                CHECK_EQ(fp4_sf_offset_4x1(t, s, cols), at, "token %zu, column %zu", t, s);
                seen[at]++;
            }
        }
        for (size_t i = 0; i < 64 * cols; i++) {
            CHECK_EQ(seen[i], 1, "byte %zu of %zu columns", i, cols);
        }
    }
}

Test(layout, tokens_by_four_and_back)
{
    for (size_t cols = 1; cols <= 33; cols++) {
        for (size_t t = 0; t < 16; t++) {
            for (size_t s = 0; s < cols; s++) {
                const size_t at = fp4_sf_offset_4x1(t, s, cols);
                CHECK_EQ(fp4_sf_row_4x1(at, cols), t, "offset %zu of %zu columns", at, cols);
                CHECK_EQ(fp4_sf_col_4x1(at, cols), s, "offset %zu of %zu columns", at, cols);
            }
        }
    }
    CHECK_EQ(fp4_sf_offset_4x1(4000000000u, 3, 32), (size_t)1000000000u * 128 + 12, "over 2^32");
}

/* ---------------------------------------------------------------- shuffled rows */

/* The order of a block's rows as the peer has written it down. */
Test(layout, shuffled_rows_are_as_drawn)
{
    static const uint8_t of_16[] = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
    static const uint8_t of_32[] = {0, 4, 8,  12, 16, 20, 24, 28, 1, 5, 9,  13, 17, 21, 25, 29,
                                    2, 6, 10, 14, 18, 22, 26, 30, 3, 7, 11, 15, 19, 23, 27, 31};

    for (size_t tile = 1; tile <= 512; tile++) {
        const size_t block = tile % 128 == 0 ? 32 : 16;
        CHECK_EQ(fp4_shuffle_block(tile), block, "tile %zu", tile);
        for (size_t row = 0; row < 96; row++) {
            const size_t old =
                row / block * block + (block == 32 ? of_32[row % block] : of_16[row % block]);
            CHECK_EQ(fp4_shuffle_row_from(row, tile), old, "tile %zu, row %zu", tile, row);
            CHECK_EQ(fp4_shuffle_row_to(old, tile), row, "tile %zu, row %zu", tile, old);
        }
    }
}

Test(layout, shuffled_rows_are_flashinfers)
{
    static const size_t cases[][2] = {{128, 64}, {128, 128}, {256, 64}, {256, 128}};

    for (int i = 0; i < 4; i++) {
        const size_t rows = cases[i][0], tile = cases[i][1];
        const int64_t *from = golden_data(
            golden_path("layouts/fi.shuffle_rows.M%zu.tile%zu.npy", rows, tile), "<i8", rows);
        for (size_t row = 0; row < rows; row++) {
            CHECK_EQ(fp4_shuffle_row_from(row, tile), from[row], "row %zu of %zu, tile %zu", row,
                     rows, tile);
        }
    }
}

Test(layout, shuffled_rows_beyond_32_bits)
{
    for (size_t k = 0; k < 64; k++) {
        const size_t row = ((size_t)1 << 40) + k;
        for (size_t tile = 64; tile <= 128; tile += 64) {
            CHECK_EQ(fp4_shuffle_row_from(row, tile),
                     ((size_t)1 << 40) + fp4_shuffle_row_from(k, tile), "row 2^40 + %zu", k);
            CHECK_EQ(fp4_shuffle_row_to(fp4_shuffle_row_from(row, tile), tile), row,
                     "row 2^40 + %zu", k);
        }
    }
}

Test(layout, words_of_a_row_are_a_step_apart)
{
    for (size_t i = 0; i < 3; i++) {
        for (size_t row = 0; row < 300; row++) {
            for (size_t k = 0; k < 5; k++) {
                CHECK_EQ(fp4_sf_offset(layouts[i], row, 4 * k, 20),
                         fp4_sf_offset(layouts[i], row, 0, 20) + k * fp4_sf_word_step(layouts[i]),
                         "layout %zu, row %zu, word %zu", i, row, k);
            }
        }
    }
}

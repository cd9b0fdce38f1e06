/* fp4/row.h: the table in its comment, and what holds of every length of a row. */
#include <fp4/row.h>

#include "check.h"

Test(row, threads_are_those_of_the_table)
{
    static const struct {
        size_t cols;
        uint32_t threads, each;
    } table[] = {{64, 32, 1},    {384, 32, 1},   {1536, 32, 3},  {2048, 32, 4},   {4096, 64, 4},
                 {5120, 160, 2}, {7168, 224, 2}, {8192, 128, 4}, {16384, 256, 4}, {65536, 256, 16}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const uint32_t threads = fp4_row_threads(table[i].cols);
        const size_t pieces = table[i].cols / FP4_ROW_PIECE;
        CHECK_EQ(threads, table[i].threads, "%zu columns", table[i].cols);
        CHECK_EQ((pieces + threads - 1) / threads, table[i].each, "%zu columns", table[i].cols);
    }
}

Test(row, threads_are_whole_warps_and_never_too_many)
{
    for (size_t cols = 0; cols <= 70000; cols++) {
        const uint32_t threads = fp4_row_threads(cols);
        CHECK(threads % 32 == 0 && threads >= 32 && threads <= FP4_ROW_THREADS,
              "%zu columns: %u threads", cols, threads);
    }
}

Test(row, up_to_16384_columns_a_thread_can_keep_its_pieces_with_the_fewest_places_empty)
{
    for (size_t cols = 1; cols <= FP4_ROW_PIECE * FP4_ROW_THREADS * FP4_ROW_EACH; cols++) {
        const size_t pieces = (cols + FP4_ROW_PIECE - 1) / FP4_ROW_PIECE;
        const uint32_t threads = fp4_row_threads(cols);
        const size_t each = (pieces + threads - 1) / threads;
        CHECK(each >= 1 && each <= FP4_ROW_EACH, "%zu columns: %zu pieces a thread", cols, each);
        for (size_t n = 1; n <= FP4_ROW_EACH; n++) { /* any other cut, with warps as few as do */
            for (size_t other = 32; other <= FP4_ROW_THREADS; other += 32) {
                CHECK(other * n < pieces || threads * each < other * n ||
                          (threads * each == other * n && each >= n),
                      "%zu columns: %u threads of %zu, but %zu of %zu would do", cols, threads,
                      each, other, n);
            }
        }
    }
}

Test(row, full_means_that_no_place_is_empty_and_none_is_missing)
{
    static const size_t full[][2] = {{512, 1},  {1536, 3}, {2048, 4},  {2560, 1}, {4096, 4},
                                     {5120, 2}, {7168, 2}, {16384, 4}, {2880, 0}, {65536, 0}};

    for (size_t i = 0; i < sizeof full / sizeof full[0]; i++) {
        CHECK_EQ(fp4_row_full_each(full[i][0]), full[i][1], "%zu columns", full[i][0]);
    }
    for (size_t cols = 0; cols <= 70000; cols += FP4_ROW_PIECE) {
        const size_t each = fp4_row_full_each(cols), pieces = cols / FP4_ROW_PIECE;
        const size_t places = each * fp4_row_threads(cols);
        CHECK(each <= FP4_ROW_EACH && (each == 0 || places == pieces), "%zu columns", cols);
        CHECK(each != 0 || cols == 0 || cols > FP4_ROW_KEPT || pieces % fp4_row_threads(cols) != 0,
              "%zu columns are full", cols);
    }
}

Test(row, in_any_order_threads_are_as_few_as_can_keep_the_row)
{
    for (size_t cols = 0; cols <= 70000; cols++) {
        const size_t threads = fp4_row_threads_any_order(cols);
        const size_t keep = FP4_ROW_PIECE * FP4_ROW_EACH; /* columns of a thread */
        CHECK(threads % 32 == 0 && threads >= 32 && threads <= FP4_ROW_THREADS, "%zu columns",
              cols);
        if (cols > FP4_ROW_KEPT) {
            CHECK_EQ(threads, FP4_ROW_THREADS, "%zu columns", cols);
        } else {
            CHECK(threads * keep >= cols && (threads == 32 || (threads - 32) * keep < cols),
                  "%zu columns: %zu threads", cols, threads);
        }
    }
    CHECK_EQ(fp4_row_threads_any_order((size_t)-1), FP4_ROW_THREADS, "the most columns");
}

Test(row, longer_rows_have_all_the_threads)
{
    for (size_t cols = 16384 + 1; cols <= 70000; cols++) {
        CHECK_EQ(fp4_row_threads(cols), FP4_ROW_THREADS, "%zu columns", cols);
    }
    CHECK_EQ(fp4_row_threads((size_t)1 << 40), FP4_ROW_THREADS, "2^40 columns");
}

Test(row, the_elements_of_the_last_piece_do_not_matter)
{
    for (size_t cols = 1; cols <= 70000; cols++) {
        const size_t whole = (cols + FP4_ROW_PIECE - 1) / FP4_ROW_PIECE * FP4_ROW_PIECE;
        CHECK_EQ(fp4_row_threads(cols), fp4_row_threads(whole), "%zu columns", cols);
    }
}

/* As many rows as there are: those of the fours, then whole tiles that have a CTA a row. */
Test(row, fours_and_the_rows_behind_them_are_all_rows)
{
    for (size_t padded = 0; padded <= 1024; padded += 8) {
        for (size_t alone = 0; alone <= 1100; alone += 50) {
            const size_t fours = fp4_row_fours(padded, alone), behind = padded - 4 * fours;
            CHECK(4 * fours <= padded, "%zu rows, %zu alone", padded, alone);
            CHECK(behind % 128 == 0 || fours == 0, "%zu rows, %zu alone", padded, alone);
            CHECK(alone < padded ? behind == alone / 128 * 128 : behind == padded,
                  "%zu rows, %zu alone: %zu behind", padded, alone, behind);
        }
    }
}

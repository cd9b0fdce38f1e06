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

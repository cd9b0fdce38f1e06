/* fp4/row.h: the table in its comment, and what holds of every length of a row. */
#include <fp4/row.h>

#include "check.h"

Test(row, threads_are_those_of_the_table)
{
    static const struct {
        size_t cols;
        uint32_t threads, each;
    } table[] = {{64, 32, 1},    {384, 32, 1},    {1536, 32, 3},   {2048, 32, 4},
                 {2560, 64, 3},  {4096, 64, 4},   {5120, 96, 4},   {7168, 128, 4},
                 {8192, 128, 4}, {16384, 256, 4}, {65536, 256, 16}};

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

/* The fewest whole warps that have n pieces a thread, and whether all have their first n - 1. */
static int is_cut(size_t pieces, size_t n, size_t *threads)
{
    *threads = (pieces + 32 * n - 1) / (32 * n) * 32;
    return (n - 1) * *threads < pieces && *threads <= FP4_ROW_THREADS;
}

Test(row, threads_have_the_most_pieces_of_which_they_lack_at_most_the_last)
{
    for (size_t cols = 1; cols <= FP4_ROW_KEPT; cols++) {
        const size_t pieces = (cols + FP4_ROW_PIECE - 1) / FP4_ROW_PIECE;
        const size_t each = fp4_row_each(cols);
        size_t threads;
        CHECK(each >= 1 && each <= FP4_ROW_EACH, "%zu columns: %zu pieces a thread", cols, each);
        CHECK(is_cut(pieces, each, &threads), "%zu columns: %zu pieces a thread", cols, each);
        CHECK_EQ(fp4_row_threads(cols), threads, "%zu columns", cols);
        for (size_t more = each + 1; more <= FP4_ROW_EACH; more++) {
            CHECK(!is_cut(pieces, more, &threads), "%zu columns: %zu a thread, but %zu would do",
                  cols, each, more);
        }
    }
    for (size_t cols = FP4_ROW_KEPT + 1; cols <= 70000; cols++) {
        CHECK_EQ(fp4_row_each(cols), 0, "%zu columns", cols);
    }
    CHECK_EQ(fp4_row_each((size_t)-1), 0, "the most columns");
}

/* The list in row.h, by the numbers of its entries, has each cut that there is once. */
Test(row, cuts_are_those_of_the_list)
{
#define CUT(each, threads, unused) {each, threads},
    static const uint32_t cuts[][2] = {FP4_ROW_CUTS(CUT, 0)};
#undef CUT
    const size_t n = sizeof cuts / sizeof cuts[0];
    size_t found[sizeof cuts / sizeof cuts[0]] = {0};

    for (size_t cols = 1; cols <= FP4_ROW_KEPT; cols++) {
        const uint32_t number = fp4_row_cut_number(cols);
        CHECK(number < n, "%zu columns: number %u", cols, number);
        CHECK_EQ(cuts[number % n][0], fp4_row_each(cols), "%zu columns", cols);
        CHECK_EQ(cuts[number % n][1], fp4_row_threads(cols), "%zu columns", cols);
        found[number % n]++;
    }
    for (size_t i = 0; i < n; i++) {
        CHECK(found[i] > 0, "no row has cut %zu", i);
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

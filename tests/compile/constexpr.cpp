/* The functions of layout.h are constant expressions in C++, C++11 included: buffer sizes can be
   template arguments and array bounds. Compiling this file is the test. */
#include <fp4/layout.h>

static_assert(fp4_sf_rows_padded(FP4_LAYOUT_128X4, 129) == 256, "rows");
static_assert(fp4_sf_cols_padded(FP4_LAYOUT_8X4, 5) == 8, "columns");
static_assert(fp4_sf_bytes(FP4_LAYOUT_128X4, 129, 5) == 2048, "128x4");
static_assert(fp4_sf_bytes(FP4_LAYOUT_8X4, 129, 5) == 1088, "8x4");
static_assert(fp4_sf_bytes(FP4_LAYOUT_LINEAR, 129, 5) == 645, "linear");
static_assert(fp4_sf_bytes(FP4_LAYOUT_128X4, 16777216, 4096) == 68719476736ull, "64-bit");

static_assert(fp4_sf_offset_linear(3, 2, 5) == 17, "linear");
static_assert(fp4_sf_offset_128x4(32, 0, 4) == 4, "128x4");
static_assert(fp4_sf_offset_128x4(127, 3, 4) == 511, "128x4");
static_assert(fp4_sf_offset_8x4(9, 4, 5) == 100, "8x4");
static_assert(fp4_sf_offset(FP4_LAYOUT_128X4, 31, 0, 4) == 496, "chosen by an argument");
static_assert(fp4_sf_offset_batched(FP4_LAYOUT_128X4, 1, 0, 0, 129, 5) == 2048, "batched");

static_assert(fp4_sf_row_linear(17, 5) == 3 && fp4_sf_col_linear(17, 5) == 2, "inverse, linear");
static_assert(fp4_sf_row_128x4(4, 4) == 32 && fp4_sf_col_128x4(511, 4) == 3, "inverse, 128x4");
static_assert(fp4_sf_row_8x4(100, 5) == 9 && fp4_sf_col_8x4(100, 5) == 4, "inverse, 8x4");
static_assert(fp4_sf_row(FP4_LAYOUT_128X4, 496, 4) == 31, "inverse, chosen by an argument");
static_assert(fp4_sf_col(FP4_LAYOUT_8X4, 100, 5) == 4, "inverse, chosen by an argument");

/* what it is for */
static unsigned char scales[fp4_sf_bytes(FP4_LAYOUT_128X4, 33, 7)];
static_assert(sizeof(scales) == 1024, "an array bound");

unsigned char *fp4_test_constexpr_scales()
{
    return scales;
}

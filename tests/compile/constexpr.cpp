/* What types.h says of formats and types, the functions of layout.h and row.h and the offsets of
   kv_cache.h are constant expressions in C++, C++11 included: buffer sizes, blocks and threads can
   be template arguments, array bounds and launch bounds. Compiling this file is the test. */
#include <fp4/kv_cache.h>
#include <fp4/layout.h>
#include <fp4/row.h>
#include <fp4/types.h>

static_assert(fp4_format_block(FP4_NVFP4) == 16 && fp4_format_block(FP4_MXFP8) == 32, "blocks");
static_assert(fp4_format_lanes(FP4_MXFP4) == 2 && fp4_format_lanes(FP4_MXFP4_16) == 1, "lanes");
static_assert(fp4_format_bits(FP4_MXFP8) == 8 && fp4_format_is_nvfp4(FP4_NVFP4_32), "codes");
static_assert(fp4_q_bytes(FP4_MXFP4, 3, 64) == 96, "bytes of codes");
static_assert(fp4_dtype_bytes(FP4_F32) == 4 && fp4_dtype_bytes(FP4_E4M3) == 1, "elements");
static_assert(fp4_row_each(1536) == 3 && fp4_row_threads(1536) == 32, "a row that is kept");
static_assert(fp4_row_each(65536) == 0 && fp4_row_threads(65536) == 256, "a long row");
static_assert(fp4_row_cut_number(4096) == 6 && fp4_row_fours(256, 128) == 32, "kernels of rows");

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

static_assert(fp4_shuffle_block(256) == 32 && fp4_shuffle_block(64) == 16, "blocks");
static_assert(fp4_shuffle_row_from(33, 128) == 36 && fp4_shuffle_row_to(36, 128) == 33, "of 32");
static_assert(fp4_shuffle_row_from(24, 64) == 17 && fp4_shuffle_row_to(17, 64) == 24, "of 16");
static constexpr fp4_kv_pages pages = {FP4_KV_NHD, FP4_KV_SF_4X1, 3, 16, 4, 128, 8192, 512};
static_assert(fp4_kv_is_valid(&pages), "a geometry");
static_assert(fp4_kv_q_bytes(&pages) == 2 * 8192 + 4096, "codes of pages");
static_assert(fp4_kv_sf_bytes(&pages) == 3 * 512, "scales of pages");
static_assert(fp4_kv_q_offset(&pages, 2, 5, 3) == 2 * 8192 + 23 * 64, "codes of a token and head");
static_assert(fp4_kv_sf_offset(&pages, 1, 6, 2, 3) == 512 + (5 * 4 + 2) * 8 + 6, "its scale");

/* what it is for */
static unsigned char scales[fp4_sf_bytes(FP4_LAYOUT_128X4, 33, 7)];
static_assert(sizeof(scales) == 1024, "an array bound");

unsigned char *fp4_test_constexpr_scales()
{
    return scales;
}

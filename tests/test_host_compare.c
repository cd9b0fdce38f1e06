/* fp4/host/compare.h: the first difference is named rightly, the others are counted rightly. */
#include <fp4/host/compare.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const char *const layout_names[] = {"128x4", "8x4", "linear"};
static const char *const format_names[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4/32", "MXFP4/16"};

/* A recipe of every format, and NVFP4 with a scale a row. */
static const host_recipe recipes[] = {HOST_NVFP4_TENSOR,  HOST_NVFP4_ROWS,  HOST_MXFP4_UP,
                                      HOST_NVFP4_32_ROWS, HOST_MXFP4_16_UP, HOST_MXFP8_UP};

enum { ROWS = 133, COLS = 160 };

/* A quantized ROWS x COLS matrix; the same for every layout. */
static host_tensor quantized(host_recipe recipe, fp4_layout layout)
{
    static float x[ROWS * COLS];
    const host_level level = host_level_of(3.0f, ROWS);
    host_tensor h = host_tensor_new(recipe, layout, ROWS, COLS);
    uint64_t state = 20;

    for (size_t i = 0; i < ROWS * COLS; i++) {
        x[i] = host_random_scale(&state, -3, 4) * (host_random(&state) & 1u ? 1.0f : -1.0f);
    }
    CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(x, ROWS, COLS, COLS), &level, &h.t), FP4_OK,
             "quantize");
    host_level_free(level);
    return h;
}

static size_t block_of(const host_tensor *h)
{
    return h->t.format == FP4_NVFP4 || h->t.format == FP4_MXFP4_16 ? 16 : 32;
}

/* The byte of an element's code, and of its block's scale. */
static uint8_t *q_at(host_tensor *h, size_t row, size_t col)
{
    const size_t at = row * COLS + col;
    return h->q.bytes + (h->t.format == FP4_MXFP8 ? at : at / 2);
}

static uint8_t *sf_at(host_tensor *h, size_t row, size_t sf_col)
{
    const size_t sf_cols = COLS / block_of(h), across = (sf_cols + 3) / 4;

    switch (h->t.layout) {
    case FP4_LAYOUT_128X4:
        return h->sf.bytes + (row / 128 * across + sf_col / 4) * 512 + row % 32 * 16 +
               row / 32 % 4 * 4 + sf_col % 4;
    case FP4_LAYOUT_8X4:
        return h->sf.bytes + (row / 8 * across + sf_col / 4) * 32 + row % 8 * 4 + sf_col % 4;
    case FP4_LAYOUT_LINEAR:
        break;
    }
    return h->sf.bytes + row * sf_cols + sf_col;
}

/* Another code: the lowest bit flipped. */
static void change_code(host_tensor *h, size_t row, size_t col)
{
    uint8_t *byte = q_at(h, row, col);
    *byte ^= (uint8_t)(h->t.format == FP4_MXFP8 || col % 2 == 0 ? 0x01 : 0x10);
}

static fp4_difference compared(const host_tensor *a, const host_tensor *b)
{
    fp4_difference d;

    memset(&d, 0x55, sizeof d);
    CHECK_EQ(fp4_ref_compare(&a->t, &b->t, &d), FP4_OK, "compare");
    return d;
}

static void expect_counts(const fp4_difference *d, size_t blocks, size_t scales, size_t codes,
                          size_t rows, size_t padding, const char *what)
{
    CHECK(d->blocks == blocks && d->scales == scales && d->codes == codes && d->rows == rows &&
              d->padding == padding,
          "%s: %zu blocks, %zu scales, %zu codes, %zu rows, %zu padding; expected %zu, %zu, %zu, "
          "%zu, %zu",
          what, d->blocks, d->scales, d->codes, d->rows, d->padding, blocks, scales, codes, rows,
          padding);
}

/* One side of the first difference, read from the tensor by other means than the library's. */
static void expect_side(const fp4_difference_side *side, host_tensor *h, size_t row, size_t col,
                        const char *what)
{
    const size_t block = block_of(h);
    const uint8_t sf = *sf_at(h, row, col / block);
    const unsigned code = host_code_at(&h->t, row * COLS + col);
    const float scale =
        h->t.format == FP4_NVFP4 || h->t.format == FP4_NVFP4_32 ? host_e4m3(sf) : host_e8m0(sf);
    const float dec = h->t.row_dec != NULL ? h->t.row_dec[row] : h->t.global_dec;
    const float element = h->t.format == FP4_MXFP8 ? host_e4m3((uint8_t)code) : host_e2m1(code);

    CHECK_EQ(side->sf, sf, "%s: scale byte", what);
    CHECK_EQ(side->code, code, "%s: code", what);
    CHECK_EQ(host_bits_of(side->scale), host_bits_of(scale), "%s: scale", what);
    CHECK_EQ(host_bits_of(side->row_dec), host_bits_of(dec), "%s: second-level scale", what);
    CHECK_EQ(host_bits_of(side->value), host_bits_of(host_mul(host_mul(element, scale), dec)),
             "%s: value", what);
}

static void expect_first(const fp4_difference *d, host_tensor *a, host_tensor *b, size_t row,
                         size_t col, const char *what)
{
    CHECK_EQ(d->format, a->t.format, "%s: format", what);
    CHECK_EQ(d->row, row, "%s: row", what);
    CHECK_EQ(d->col, col, "%s: col", what);
    CHECK_EQ(d->sf_col, col / block_of(a), "%s: sf_col", what);
    expect_side(&d->got, a, row, col, what);
    expect_side(&d->expected, b, row, col, what);
}

static const char *pair_text(const host_tensor *a, const host_tensor *b)
{
    static char text[64];

    snprintf(text, sizeof text, "%s, %s and %s", format_names[a->t.format],
             layout_names[a->t.layout], layout_names[b->t.layout]);
    return text;
}

/* Runs a body for every recipe and pair of layouts, with fresh equal tensors a and b. */
#define FOR_ALL_PAIRS(a, b) \
    for (size_t i_ = 0; i_ < 6 * 9; i_++) \
        for (host_tensor a = quantized(recipes[i_ / 9], layouts[i_ % 3]), \
                         b = quantized(recipes[i_ / 9], layouts[i_ / 3 % 3]), *once_ = &a; \
             once_ != NULL; host_tensor_free(a), host_tensor_free(b), once_ = NULL)

Test(host_compare, equal_tensors_do_not_differ_whatever_their_layouts)
{
    FOR_ALL_PAIRS(a, b)
    {
        const fp4_difference d = compared(&a, &b);
        char text[FP4_DIFFERENCE_TEXT];
        expect_counts(&d, 0, 0, 0, 0, 0, pair_text(&a, &b));
        CHECK_EQ(d.format, a.t.format, "%s", pair_text(&a, &b));
        CHECK(strstr(fp4_difference_text(&d, text, sizeof text), "no difference") != NULL, "%s: %s",
              pair_text(&a, &b), text);
        CHECK(strstr(text, format_names[a.t.format]) == text, "%s", text);
    }
}

/* First and last rows, columns and blocks, both nibbles, the ends of blocks and tiles. */
static const size_t places[][2] = {{0, 0},     {0, 1},    {0, 15},   {0, 16},   {0, 31},
                                   {0, 159},   {1, 32},   {7, 63},   {8, 64},   {31, 127},
                                   {32, 128},  {64, 97},  {127, 33}, {128, 99}, {132, 144},
                                   {132, 158}, {132, 159}};
enum { PLACES = sizeof places / sizeof places[0] };

Test(host_compare, one_code_is_found_wherever_it_is)
{
    FOR_ALL_PAIRS(a, b)
    {
        for (size_t i = 0; i < PLACES; i++) {
            const size_t row = places[i][0], col = places[i][1];
            fp4_difference d;
            change_code(&b, row, col);
            d = compared(&a, &b);
            expect_counts(&d, 1, 0, 1, 0, 0, pair_text(&a, &b));
            expect_first(&d, &a, &b, row, col, pair_text(&a, &b));
            change_code(&b, row, col);
        }
    }
}

Test(host_compare, one_scale_is_found_wherever_it_is)
{
    FOR_ALL_PAIRS(a, b)
    {
        const size_t block = block_of(&a);
        for (size_t i = 0; i < PLACES; i++) {
            const size_t row = places[i][0], sf_col = places[i][1] / block;
            fp4_difference d;
            *sf_at(&b, row, sf_col) ^= 1;
            d = compared(&a, &b);
            expect_counts(&d, 1, 1, 0, 0, 0, pair_text(&a, &b));
            expect_first(&d, &a, &b, row, sf_col * block, pair_text(&a, &b));
            *sf_at(&b, row, sf_col) ^= 1;
        }
    }
}

Test(host_compare, the_first_block_in_row_order_is_named_and_the_rest_counted)
{
    /* Row 32 lies before row 1 in the 128x4 layout, the last column's scale after row 1's in all
       tiled ones: neither may come first. */
    FOR_ALL_PAIRS(a, b)
    {
        const size_t block = block_of(&a);
        fp4_difference d;
        change_code(&b, 32, 5);
        change_code(&b, 32, 6);
        *sf_at(&b, 32, 0) ^= 3;
        *sf_at(&b, 1, 1) ^= 1;
        change_code(&b, 0, COLS - 2);
        change_code(&b, 0, COLS - 1);
        *sf_at(&b, 0, COLS / block - 1) ^= 2;
        change_code(&b, 132, 0);
        d = compared(&a, &b);
        expect_counts(&d, 4, 3, 5, 0, 0, pair_text(&a, &b));
        expect_first(&d, &a, &b, 0, COLS - 2, pair_text(&a, &b));
    }
}

Test(host_compare, random_differences_are_counted_as_by_a_plain_loop)
{
    FOR_ALL_PAIRS(a, b)
    {
        const size_t block = block_of(&a);
        uint64_t state = 99 + i_;
        for (uint32_t round = 0; round < 6; round++) {
            size_t blocks = 0, scales = 0, codes = 0;
            fp4_difference d;
            for (uint32_t i = 0; i < 1u << 2 * round; i++) {
                change_code(&b, host_below(&state, ROWS), host_below(&state, COLS));
                *sf_at(&b, host_below(&state, ROWS),
                       host_below(&state, (uint32_t)(COLS / block))) ^=
                    (uint8_t)(host_below(&state, 3) == 0);
            }
            for (size_t row = 0; row < ROWS; row++) {
                for (size_t sf_col = 0; sf_col < COLS / block; sf_col++) {
                    const int scale = *sf_at(&a, row, sf_col) != *sf_at(&b, row, sf_col);
                    size_t in_block = 0;
                    for (size_t i = 0; i < block; i++) {
                        const size_t at = row * COLS + sf_col * block + i;
                        in_block += host_code_at(&a.t, at) != host_code_at(&b.t, at);
                    }
                    scales += (size_t)scale;
                    codes += in_block;
                    blocks += scale || in_block != 0;
                }
            }
            d = compared(&a, &b);
            expect_counts(&d, blocks, scales, codes, 0, 0, pair_text(&a, &b));
        }
    }
}

Test(host_compare, padding_bytes_are_compared_where_the_layout_is_the_same)
{
    FOR_ALL_PAIRS(a, b)
    {
        const size_t sf_cols = COLS / block_of(&a);
        const int same = a.t.layout == b.t.layout;
        size_t padding = 0, first = 0, last = 0;
        uint8_t *is_scale = (uint8_t *)host_zeros(b.sf.size);
        fp4_difference d;
        for (size_t i = 0; i < ROWS * sf_cols; i++) {
            is_scale[sf_at(&b, i / sf_cols, i % sf_cols) - b.sf.bytes] = 1;
        }
        for (size_t at = b.sf.size; at-- > 0;) {
            if (!is_scale[at]) {
                b.sf.bytes[at] = 0x5a;
                first = at;
                last = padding++ == 0 ? at : last;
            }
        }
        CHECK(b.t.layout == FP4_LAYOUT_LINEAR ? padding == 0 : padding > 10, "%zu bytes of padding",
              padding);
        d = compared(&a, &b);
        expect_counts(&d, 0, 0, 0, 0, same ? padding : 0, pair_text(&a, &b));
        CHECK(!same || padding == 0 ||
                  (d.first_padding == first && d.got.padding == 0 && d.expected.padding == 0x5a),
              "%s: byte %zu is 0x%02x, 0x%02x; expected byte %zu", pair_text(&a, &b),
              d.first_padding, d.got.padding, d.expected.padding, first);
        for (size_t at = 0; at < b.sf.size; at++) { /* all but the last of them as it was */
            b.sf.bytes[at] = is_scale[at] || at == last ? b.sf.bytes[at] : 0;
        }
        d = compared(&a, &b);
        expect_counts(&d, 0, 0, 0, 0, same && padding != 0, pair_text(&a, &b));
        CHECK(!same || padding == 0 || d.first_padding == last, "%s: byte %zu, expected %zu",
              pair_text(&a, &b), d.first_padding, last);
        free(is_scale);
    }
}

Test(host_compare, second_level_scales_are_compared_by_their_bits)
{
    FOR_ALL_PAIRS(a, b)
    {
        fp4_difference d;
        if (b.t.row_dec == NULL) { /* one for all rows */
            b.t.global_dec = host_bits(host_bits_of(a.t.global_dec) + 1u);
            d = compared(&a, &b);
            expect_counts(&d, 0, 0, 0, ROWS, 0, pair_text(&a, &b));
            expect_first(&d, &a, &b, 0, 0, pair_text(&a, &b));
            continue;
        }
        b.t.row_dec[77] = -b.t.row_dec[77];
        b.t.row_dec[132] = NAN;
        d = compared(&a, &b);
        expect_counts(&d, 0, 0, 0, 2, 0, pair_text(&a, &b));
        CHECK(d.row == 77 && d.col == 0 && d.sf_col == 0, "%s: row %zu", pair_text(&a, &b), d.row);
        expect_side(&d.got, &a, 77, 0, "a");
        expect_side(&d.expected, &b, 77, 0, "b");
        change_code(&b, 100, 50); /* a block comes before every row scale */
        d = compared(&a, &b);
        expect_counts(&d, 1, 0, 1, 2, 0, pair_text(&a, &b));
        expect_first(&d, &a, &b, 100, 50, pair_text(&a, &b));
        change_code(&b, 77, 159); /* in the row whose scale differs too */
        d = compared(&a, &b);
        expect_counts(&d, 2, 0, 2, 2, 0, pair_text(&a, &b));
        expect_first(&d, &a, &b, 77, 159, pair_text(&a, &b));
        a.t.row_dec[132] = NAN; /* the same NaN: no difference */
        d = compared(&a, &b);
        expect_counts(&d, 2, 0, 2, 1, 0, pair_text(&a, &b));
    }
}

Test(host_compare, row_scales_that_are_all_the_global_one_are_no_difference)
{
    host_tensor rows = quantized(HOST_NVFP4_ROWS, FP4_LAYOUT_8X4);
    host_tensor tensor = quantized(HOST_NVFP4_TENSOR, FP4_LAYOUT_128X4);
    fp4_difference d = compared(&rows, &tensor);

    expect_counts(&d, 0, 0, 0, 0, 0, "row scales against one global scale");
    rows.t.row_dec[3] *= 2;
    d = compared(&rows, &tensor);
    expect_counts(&d, 0, 0, 0, 1, 0, "row scales against one global scale");
    CHECK_EQ(d.row, 3, "the row");
    host_tensor_free(rows);
    host_tensor_free(tensor);
}

Test(host_compare, an_empty_tensor_has_no_differences)
{
    static const size_t shapes[][2] = {{0, 0}, {0, 64}, {5, 0}};

    for (int i = 0; i < 3 * 9; i++) {
        const fp4_format format = (fp4_format)(i / 9);
        const fp4_tensor a = fp4_tensor_view(format, layouts[i / 3 % 3], shapes[i % 3][0],
                                             shapes[i % 3][1], NULL, 0, NULL, 0);
        fp4_tensor b = a;
        fp4_difference d;
        b.global_dec = 2.0f;
        memset(&d, 0x55, sizeof d);
        CHECK_EQ(fp4_ref_compare(&a, &b, &d), FP4_OK, "%s", format_names[format]);
        expect_counts(&d, 0, 0, 0, 0, 0, format_names[format]);
    }
}

/* ---------------------------------------------------------------- the text */

static void expect_in_text(const char *text, const char *part)
{
    CHECK(strstr(text, part) != NULL, "'%s' is missing from '%s'", part, text);
}

/* row 3, columns 20 and 21 differ, and the scale, and a byte of padding, and a row scale */
static fp4_difference some_difference(host_recipe recipe)
{
    host_tensor a = quantized(recipe, FP4_LAYOUT_128X4), b = quantized(recipe, FP4_LAYOUT_128X4);
    fp4_difference d;

    *q_at(&a, 3, 20) = 0x52;
    *q_at(&b, 3, 20) = 0xd7;
    *sf_at(&a, 3, 20 / block_of(&a)) = 0x38;
    *sf_at(&b, 3, 20 / block_of(&a)) = 0x40;
    b.sf.bytes[b.sf.size - 1] = 0xab;
    a.sf.bytes[a.sf.size - 1] = 0x11;
    if (host_has_row_dec(recipe)) {
        a.t.row_dec[3] = 0.25f;
        b.t.row_dec[3] = 0.5f;
    }
    d = compared(&a, &b);
    host_tensor_free(a);
    host_tensor_free(b);
    return d;
}

Test(host_compare, the_text_holds_place_scales_codes_values_and_counts)
{
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d = some_difference(HOST_NVFP4_ROWS);

    CHECK(fp4_difference_text(&d, text, sizeof text) == text, "the buffer is returned");
    expect_in_text(text, "NVFP4: differ in 1 blocks (1 scale bytes, 2 codes), the second-level "
                         "scale of 1 rows, 1 padding");
    expect_in_text(text, "row 3, col 20 (block 1 of the row)");
    expect_in_text(text, "got       scale 0x38 = 1, code 0x2, second level 0.25, value 0.25");
    expect_in_text(text, "expected  scale 0x40 = 2, code 0x7, second level 0.5, value 6");
    expect_in_text(text, "padding byte at offset 3071: got 0x11, expected 0xab");

    d = some_difference(HOST_MXFP4_UP);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(text, "MXFP4: differ in 1 blocks (1 scale bytes, 2 codes), the second-level "
                         "scale of 0 rows, 1 padding");
    expect_in_text(text, "row 3, col 20 (block 0 of the row)");

    d = some_difference(HOST_NVFP4_32_ROWS);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(text, "NVFP4/32: differ in 1 blocks (1 scale bytes, 2 codes), the second-level "
                         "scale of 1 rows, 1 padding");
    expect_in_text(text, "row 3, col 20 (block 0 of the row)");
    expect_in_text(text, "got       scale 0x38 = 1, code 0x2, second level 0.25, value 0.25");

    d = some_difference(HOST_MXFP4_16_UP);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(text, "MXFP4/16: differ in 1 blocks (1 scale bytes, 2 codes), the second-level "
                         "scale of 0 rows, 1 padding");
    expect_in_text(text, "row 3, col 20 (block 1 of the row)");

    d = some_difference(HOST_MXFP8_UP);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(text, "MXFP8: differ in 1 blocks (1 scale bytes, 1 codes), the second-level "
                         "scale of 0 rows, 1 padding");
    expect_in_text(text, "code 0x52");
    expect_in_text(text, "code 0xd7");
}

Test(host_compare, the_text_names_what_there_is_and_no_more)
{
    host_tensor a = quantized(HOST_NVFP4_ROWS, FP4_LAYOUT_8X4);
    host_tensor b = quantized(HOST_NVFP4_ROWS, FP4_LAYOUT_8X4);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;

    b.sf.bytes[b.sf.size - 1] = 9; /* padding alone: no element to name */
    d = compared(&a, &b);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(
        text,
        "differ in 0 blocks (0 scale bytes, 0 codes), the second-level scale of 0 rows, 1 padding");
    expect_in_text(text, "got 0x00, expected 0x09");
    CHECK(strstr(text, "value") == NULL, "%s", text);
    b.sf.bytes[b.sf.size - 1] = 0; /* a row scale alone */
    b.t.row_dec[9] = 1024.0f;
    d = compared(&a, &b);
    fp4_difference_text(&d, text, sizeof text);
    expect_in_text(
        text,
        "differ in 0 blocks (0 scale bytes, 0 codes), the second-level scale of 1 rows, 0 padding");
    expect_in_text(text, "row 9");
    expect_in_text(text, "second level 1024");
    CHECK(strstr(text, "offset") == NULL, "%s", text);
    host_tensor_free(a);
    host_tensor_free(b);
}

Test(host_compare, the_longest_text_fits_and_a_short_buffer_cuts_it_off)
{
    fp4_difference d = some_difference(HOST_NVFP4_ROWS);
    char whole[2 * FP4_DIFFERENCE_TEXT], text[FP4_DIFFERENCE_TEXT + 8];
    size_t length;

    d.blocks = d.scales = d.codes = d.padding = d.rows = SIZE_MAX;
    d.row = d.col = d.sf_col = d.first_padding = SIZE_MAX;
    d.got.sf = d.expected.sf = d.got.code = d.expected.code = d.got.padding = d.expected.padding =
        255;
    d.got.scale = d.got.value = d.got.row_dec = host_bits(0x80345679u); /* -4.80646634e-39 */
    d.expected.scale = d.expected.value = d.expected.row_dec = -3.402823466385288598e+38f;
    fp4_difference_text(&d, whole, sizeof whole);
    length = strlen(whole);
    CHECK(length < FP4_DIFFERENCE_TEXT, "the longest text has %zu characters", length);
    for (size_t bytes = 1; bytes <= FP4_DIFFERENCE_TEXT; bytes++) {
        const size_t kept = length < bytes ? length : bytes - 1;
        memset(text, '#', sizeof text);
        CHECK(fp4_difference_text(&d, text, bytes) == text, "%zu bytes", bytes);
        CHECK(memcmp(text, whole, kept) == 0 && text[kept] == '\0', "%zu bytes: '%.*s'", bytes,
              (int)kept, text);
        for (size_t i = bytes; i < sizeof text; i++) {
            CHECK(text[i] == '#', "%zu bytes: byte %zu was written", bytes, i);
        }
    }
    memset(&d, 0, sizeof d); /* the text of no difference, cut off */
    for (size_t bytes = 1; bytes < 30; bytes++) {
        memset(text, '#', sizeof text);
        fp4_difference_text(&d, text, bytes);
        CHECK(strlen(text) == (bytes <= 20 ? bytes - 1 : 20), "%zu bytes: '%s'", bytes, text);
        CHECK(text[bytes] == '#', "%zu bytes: one more was written", bytes);
    }
}

/* ---------------------------------------------------------------- errors */

Test(host_compare, bad_arguments_are_refused_and_the_result_is_untouched)
{
    FOR_ALL_PAIRS(a, b)
    {
        static const struct {
            fp4_status status;
            const char *what;
        } cases[] = {{FP4_SMALL_BUFFER, "codes one byte short"},
                     {FP4_SMALL_BUFFER, "scales one byte short"},
                     {FP4_SMALL_BUFFER, "row_dec one byte short"},
                     {FP4_NULL, "null codes"},
                     {FP4_NULL, "null scales"},
                     {FP4_BAD_TYPE, "unknown format"},
                     {FP4_BAD_TYPE, "unknown layout"},
                     {FP4_BAD_TYPE, "another format"},
                     {FP4_BAD_SHAPE, "fewer rows"},
                     {FP4_BAD_SHAPE, "fewer columns"},
                     {FP4_BAD_SHAPE, "columns that are not whole blocks"},
                     {FP4_BAD_SHAPE, "rows that overflow"}};
        fp4_difference d, untouched;
        memset(&d, 0x55, sizeof d);
        memset(&untouched, 0x55, sizeof untouched);
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            fp4_tensor bad = b.t;
            bad.q_bytes -= i == 0;
            bad.sf_bytes -= i == 1;
            bad.row_dec = i == 2 ? (float *)(void *)b.row_dec.bytes : bad.row_dec;
            bad.row_dec_bytes = i == 2 ? ROWS * 4 - 1 : bad.row_dec_bytes;
            bad.q = i == 3 ? NULL : bad.q;
            bad.sf = i == 4 ? NULL : bad.sf;
            bad.format = i == 5 ? (fp4_format)5 : bad.format;
            bad.layout = i == 6 ? (fp4_layout)3 : bad.layout;
            if (i == 7) { /* smaller than what the other format needs, or as large */
                bad.format = b.t.format == FP4_MXFP4 ? FP4_NVFP4 : FP4_MXFP4;
                bad.q_bytes = bad.sf_bytes = SIZE_MAX;
            }
            bad.rows = i == 8 ? ROWS - 1 : i == 11 ? SIZE_MAX : bad.rows;
            bad.cols = i == 9 ? COLS - 32 : i == 10 ? COLS - 8 : bad.cols;
            CHECK_EQ(fp4_ref_compare(&a.t, &bad, &d), cases[i].status, "%s: %s", pair_text(&a, &b),
                     cases[i].what);
            CHECK_EQ(fp4_ref_compare(&bad, &a.t, &d), cases[i].status, "%s: %s", pair_text(&a, &b),
                     cases[i].what);
        }
        CHECK_EQ(fp4_ref_compare(NULL, &b.t, &d), FP4_NULL, "a");
        CHECK_EQ(fp4_ref_compare(&a.t, NULL, &d), FP4_NULL, "b");
        CHECK_EQ(fp4_ref_compare(&a.t, &b.t, NULL), FP4_NULL, "result");
        CHECK(memcmp(&d, &untouched, sizeof d) == 0, "the result was written");
    }
}

Test(host_compare, same_means_compared_and_no_difference)
{
    host_tensor a = quantized(HOST_NVFP4_TENSOR, FP4_LAYOUT_128X4);
    host_tensor b = quantized(HOST_NVFP4_TENSOR, FP4_LAYOUT_128X4);
    char text[FP4_DIFFERENCE_TEXT];
    fp4_difference d;

    CHECK_EQ(fp4_ref_same(&a.t, &b.t, &d), 1, "equal");
    expect_in_text(fp4_difference_text(&d, text, sizeof text), "no difference");
    b.t.sf_bytes--; /* cannot be compared: that must not look like equal */
    CHECK_EQ(fp4_ref_same(&a.t, &b.t, &d), 0, "too small a buffer");
    CHECK_EQ(d.status, FP4_SMALL_BUFFER, "status");
    expect_in_text(fp4_difference_text(&d, text, sizeof text), "not compared: a buffer is too");
    b.t.sf_bytes++;
    change_code(&b, 3, 5);
    CHECK_EQ(fp4_ref_same(&a.t, &b.t, &d), 0, "another code");
    CHECK_EQ(d.codes, 1, "codes");
    CHECK_EQ(fp4_ref_same(&a.t, &b.t, NULL), 0, "another code, nowhere to say so");
    CHECK_EQ(fp4_ref_same(&a.t, &a.t, NULL), 1, "equal");
    CHECK_EQ(fp4_ref_same(&a.t, NULL, &d), 0, "no tensor");
    CHECK_EQ(d.status, FP4_NULL, "status");
    host_tensor_free(a);
    host_tensor_free(b);
}

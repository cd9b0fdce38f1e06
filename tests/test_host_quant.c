/*
 * fp4/host/quant.h: quantize, dequantize and amax of whole matrices, against the naive quantizer of
 * host_util.h, and against bytes written down here. T1 ... are the cases of the bugs that other
 * libraries had.
 */
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS, MAP_NORESERVE */

#include <fp4/host/quant.h>

#include <sys/mman.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const char *const layout_names[] = {"128x4", "8x4", "linear"};
static const char *const dtype_names[] = {"f32", "f16", "bf16", "e4m3"};

/* ---------------------------------------------------------------- one case */

typedef struct host_case {
    host_recipe recipe;
    fp4_dtype dtype;
    size_t rows, cols, t_cols; /* t_cols: of the quantized tensor */
    size_t row_stride;
    size_t shift; /* bytes by which input, codes, scales and what is decoded miss alignment */
    host_data data;
    uint64_t seed;
} host_case;

static const char *case_text(const host_case *c, fp4_layout layout, const char *part)
{
    static char text[256];

    snprintf(text, sizeof text,
             "%s of %s, %s, %zu x %zu (-> %zu), stride %zu, shift %zu, data %d, "
             "seed %llu: %s",
             host_recipe_name(c->recipe), dtype_names[c->dtype], layout_names[layout], c->rows,
             c->cols, c->t_cols, c->row_stride, c->shift, (int)c->data, (unsigned long long)c->seed,
             part);
    return text;
}

/* The input of a case: exactly as many bytes as it spans, so that the address sanitizer sees every
   read beyond. */
static fp4_matrix make_matrix(const host_case *c, uint64_t *state, uint8_t **memory)
{
    static const float decs[] = {1.0f, 0.037f, 3.0e-3f, 1.0e-41f, 7.25e30f};
    const size_t size = host_dtype_bytes(c->dtype);
    const size_t bytes = host_span(c->rows, c->cols, c->row_stride) * size;
    fp4_matrix x = {NULL, c->dtype, c->rows, c->cols, c->row_stride, 1.0f};

    *memory = (uint8_t *)malloc(c->shift + bytes + (c->shift + bytes == 0));
    cr_assert_not_null(*memory);
    x.data = *memory + c->shift;
    if (c->dtype == FP4_E4M3) {
        x.dec = decs[host_below(state, c->data == HOST_WIDE ? 5 : 3)];
    }
    host_fill(*memory + c->shift, x, state, c->data, host_recipe_block(c->recipe));
    return x;
}

static host_level make_level(const fp4_matrix *x, uint64_t *state)
{
    host_level level;
    float *rows = (float *)host_zeros(x->rows * sizeof(float));

    for (size_t row = 0; row < x->rows; row++) {
        rows[row] = host_random_scale(state, -8, 12);
    }
    level.row_enc = rows;
    level.base_dec = host_below(state, 2) ? 1.0f / 2688.0f : host_random_scale(state, -20, 4);
    switch (host_below(state, 3)) {
    case 0:
        level.global_enc = 1.0f;
        break;
    case 1:
        level.global_enc = host_random_scale(state, -12, 12);
        break;
    default:
        level.global_enc = host_global_enc(host_matrix_amax(x));
        break;
    }
    return level;
}

static void check_dequantized(const host_case *c, const fp4_tensor *t,
                              const host_expected *expected)
{
    const size_t stride = c->t_cols + c->shift, span = host_span(c->rows, c->t_cols, stride);
    const host_buffer y = host_buffer_new(span * sizeof(float), c->shift % 4); /* any alignment */

    CHECK_EQ(fp4_ref_dequantize(t, (float *)(void *)y.bytes, y.size, stride), FP4_OK, "%s",
             case_text(c, t->layout, "dequantize"));
    for (size_t row = 0; row < c->rows; row++) {
        for (size_t col = 0; col < stride && row * stride + col < span; col++) {
            uint32_t got;
            float value = host_bits(0x7f7f7f7fu); /* between the rows: as it was */
            memcpy(&got, y.bytes + (row * stride + col) * sizeof got, sizeof got);
            if (col < c->t_cols) {
                value = host_decoded(expected, row, col);
            }
            CHECK(isnan(value) ? isnan(host_bits(got)) : got == host_bits_of(value),
                  "%s, row %zu, col %zu: got %08x, expected %08x",
                  case_text(c, t->layout, "decoded"), row, col, got, host_bits_of(value));
        }
    }
    host_buffer_free(y, case_text(c, t->layout, "decoded"));
}

/* Quantizes in one layout and compares every byte: codes, scales with their padding, second-level
   scales, and the canaries around them. */
static void check_in_layout(const host_case *c, fp4_layout layout, const fp4_matrix *x,
                            const host_level *level, const host_expected *expected)
{
    const size_t sf_bytes = host_sf_bytes(layout, c->rows, expected->sf_cols);
    const size_t used = c->rows == 0 || c->cols == 0 ? 0 : sf_bytes;
    const host_buffer q = host_buffer_new(expected->q_bytes, c->shift);
    const host_buffer sf = host_buffer_new(sf_bytes, c->shift);
    const host_buffer row_dec = host_buffer_new(c->rows * sizeof(float), 0);
    uint8_t *scales = (uint8_t *)host_zeros(sf_bytes);
    fp4_tensor t = fp4_tensor_view(expected->format, layout, c->rows, c->t_cols, q.bytes, q.size,
                                   sf.bytes, sf.size);
    host_level used_level = *level;

    if (expected->row_dec != NULL) {
        t.row_dec = (float *)(void *)row_dec.bytes;
        t.row_dec_bytes = row_dec.size;
    }
    if (expected->row_dec != NULL && layout == FP4_LAYOUT_8X4) { /* in place */
        memcpy(row_dec.bytes, level->row_enc, row_dec.size);
        used_level.row_enc = t.row_dec;
    }
    t.global_dec = 3.0f;
    CHECK_EQ(host_quantize(c->recipe, *x, &used_level, &t), FP4_OK, "%s",
             case_text(c, layout, "status"));
    host_place_scales(scales, layout, expected->sf, c->rows, expected->sf_cols);
    if (c->cols != 0) {
        host_expect_bytes(q.bytes, expected->q, q.size, case_text(c, layout, "codes"));
        host_expect_bytes(sf.bytes, scales, used, case_text(c, layout, "scales"));
        if (expected->row_dec != NULL) {
            host_expect_bytes(row_dec.bytes, (const uint8_t *)expected->row_dec, row_dec.size,
                              case_text(c, layout, "row_dec"));
        }
    }
    CHECK_EQ(host_bits_of(t.global_dec), host_bits_of(expected->global_dec), "%s",
             case_text(c, layout, "global_dec"));
    if (c->rows * c->cols < 40000) {
        check_dequantized(c, &t, expected);
    }
    free(scales);
    host_buffer_free(q, case_text(c, layout, "codes"));
    host_buffer_free(sf, case_text(c, layout, "scales"));
    host_buffer_free(row_dec, case_text(c, layout, "row_dec"));
}

static void check_case(host_case c)
{
    uint64_t state = c.seed;
    uint8_t *memory;
    const fp4_matrix x = make_matrix(&c, &state, &memory);
    const host_level level = make_level(&x, &state);
    const host_expected expected = host_quantize_naively(c.recipe, &x, c.t_cols, &level);
    float amax = -1.0f;

    for (int i = 0; i < 3; i++) {
        check_in_layout(&c, layouts[i], &x, &level, &expected);
    }
    CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "%s", case_text(&c, FP4_LAYOUT_LINEAR, "amax"));
    CHECK_EQ(host_bits_of(amax), host_bits_of(host_matrix_amax(&x)), "%s",
             case_text(&c, FP4_LAYOUT_LINEAR, "amax"));
    host_expected_free(expected);
    free((void *)(uintptr_t)level.row_enc);
    free(memory);
}

/* ---------------------------------------------------------------- the grid */

static const size_t grid_rows[] = {0, 1, 5, 7, 8, 9, 31, 32, 33, 127, 128, 129, 1000};

/* Every number of rows with few blocks, few rows with many: up to three chunks, ends of chunks, and
   numbers of scale columns of every remainder by 4. Stride, alignment and the kind of data change
   from case to case. */
static void check_grid(host_recipe recipe)
{
    static const size_t few_blocks[] = {1, 2, 3, 5};
    static const size_t many_cols[] = {480, 512, 544, 992, 1024, 1056};
    static const size_t few_rows[] = {1, 3, 33};
    static const size_t gaps[] = {0, 1, 0, 3, 16, 0, 129};
    const size_t block = host_recipe_block(recipe);
    size_t n = 0;
    host_case c;

    memset(&c, 0, sizeof c);
    c.recipe = recipe;
    for (fp4_dtype dtype = FP4_F32; dtype <= FP4_E4M3; dtype++) {
        c.dtype = dtype;
        for (size_t i = 0; i < sizeof grid_rows / sizeof grid_rows[0]; i++) {
            for (size_t j = 0; j < 10; j++, n++) {
                const int many = j >= 4;
                if (many && (i >= 3 || j - 4 >= 6)) {
                    continue;
                }
                c.rows = many ? few_rows[i] : grid_rows[i];
                c.cols = many ? many_cols[j - 4] : few_blocks[j] * block;
                c.cols += many && block == 16 && n % 2 ? 16 : 0;
                c.t_cols = c.cols;
                c.row_stride = c.cols + gaps[n % 7];
                c.shift = n % 4;
                c.data = (host_data)(n / 3 % HOST_DATA);
                c.seed = 1000u * (uint64_t)recipe + n;
                check_case(c);
            }
        }
    }
}

Test(host_quant, nvfp4_per_tensor_equals_the_naive_quantizer)
{
    check_grid(HOST_NVFP4_TENSOR);
    check_grid(HOST_NVFP4_32_TENSOR);
}

Test(host_quant, nvfp4_per_row_equals_the_naive_quantizer)
{
    check_grid(HOST_NVFP4_ROWS);
    check_grid(HOST_NVFP4_32_ROWS);
}

Test(host_quant, nvfp4_per_token_equals_the_naive_quantizer)
{
    check_grid(HOST_NVFP4_TOKENS);
    check_grid(HOST_NVFP4_32_TOKENS);
}

Test(host_quant, mxfp4_equals_the_naive_quantizer_under_all_four_rules)
{
    for (host_recipe recipe = HOST_MXFP4_UP; recipe <= HOST_MXFP4_16_EVEN; recipe++) {
        check_grid(recipe);
    }
}

Test(host_quant, mxfp8_equals_the_naive_quantizer_under_all_four_rules)
{
    for (host_recipe recipe = HOST_MXFP8_UP; recipe <= HOST_MXFP8_EVEN; recipe++) {
        check_grid(recipe);
    }
}

Test(host_quant, columns_that_the_input_lacks_get_zero_codes_and_scales)
{
    static const size_t rows[] = {1, 7, 33, 129};
    static const size_t blocks[] = {1, 3, 4, 17, 33};
    static const size_t extra[] = {1, 2, 3, 4, 40};
    size_t n = 0;
    host_case c;

    memset(&c, 0, sizeof c);
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        c.recipe = recipe;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
            for (size_t j = 0; j < 25; j++, n++) {
                c.rows = rows[i];
                c.cols = blocks[j % 5] * host_recipe_block(c.recipe);
                c.t_cols = c.cols + extra[j / 5] * host_recipe_block(c.recipe);
                c.row_stride = c.cols + n % 3;
                c.dtype = (fp4_dtype)(n % 4);
                c.data = (host_data)(n / 5 % HOST_DATA);
                c.shift = n / 4 % 4;
                c.seed = 500000u + n;
                check_case(c);
            }
        }
    }
}

Test(host_quant, an_input_without_columns_gives_a_tensor_of_zeros)
{
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (int l = 0; l < 3; l++) {
            const host_level level = host_level_of(4.0f, 5);
            host_tensor h = host_tensor_new(recipe, layouts[l], 5, 96);
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(NULL, 5, 0, 0), &level, &h.t), FP4_OK,
                     "%s, %s", host_recipe_name(recipe), layout_names[l]);
            for (size_t i = 0; i < h.q.size; i++) {
                CHECK_EQ(h.q.bytes[i], 0, "%s: code byte %zu", host_recipe_name(recipe), i);
            }
            for (size_t i = 0; i < h.sf.size; i++) {
                CHECK_EQ(h.sf.bytes[i], 0, "%s: scale byte %zu", host_recipe_name(recipe), i);
            }
            for (size_t row = 0; row < 5 && host_has_row_dec(recipe); row++) {
                const float dec = host_is_rows(recipe) ? 0.25f : 0.0f;
                CHECK_EQ(host_bits_of(h.t.row_dec[row]), host_bits_of(dec), "%s: row %zu",
                         host_recipe_name(recipe), row);
            }
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

/* ---------------------------------------------------------------- small matrices by hand */

/* f32 to the bits of another type; only for values that are exact there. */
static void put(uint8_t *bytes, fp4_dtype dtype, size_t at, float value)
{
    const uint32_t bits = host_bits_of(value);
    const double magnitude = oracle_magnitude(bits);
    uint32_t code = bits;

    if (dtype == FP4_F16) {
        code = bits >> 31 << 15 | oracle_nearest(oracle_f16(), magnitude);
    } else if (dtype == FP4_BF16) {
        code = bits >> 16;
    } else if (dtype == FP4_E4M3) {
        code = bits >> 31 << 7 | oracle_nearest(oracle_e4m3(), magnitude);
    }
    memcpy(bytes + at * host_dtype_bytes(dtype), &code, host_dtype_bytes(dtype));
}

/* ---------------------------------------------------------------- T1, T2: padding, canaries */

Test(host_quant, padding_scales_are_zero_whatever_was_there)
{
    static const size_t rows[] = {1, 5, 7, 8, 9, 32, 127, 128, 129, 257};
    static float ones[257 * 32 * 6];
    size_t padding = 0;

    for (size_t i = 0; i < sizeof ones / sizeof ones[0]; i++) {
        ones[i] = 1.0f;
    }
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (size_t i = 0; i < 10 * 6 * 2; i++) {
            const size_t m = rows[i % 10], sf_cols = 1 + i / 10 % 6;
            const size_t cols = sf_cols * host_recipe_block(recipe);
            const host_level level = host_level_of(2688.0f, m);
            host_tensor h = host_tensor_new(recipe, layouts[i / 60], m, cols);
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(ones, m, cols, cols), &level, &h.t),
                     FP4_OK, "%zu x %zu", m, cols);
            for (size_t at = 0; at < h.sf.size; at++) {
                const int tile_rows = layouts[i / 60] == FP4_LAYOUT_128X4;
                const size_t line = tile_rows ? at / 16 % 32 + at / 4 % 4 * 32 : at / 4 % 8;
                const size_t tile = at / (tile_rows ? 512 : 32), across = (sf_cols + 3) / 4;
                const int inside = tile / across * (tile_rows ? 128 : 8) + line < m &&
                                   tile % across * 4 + at % 4 < sf_cols;
                padding += !inside;
                CHECK(inside ? h.sf.bytes[at] != 0 && h.sf.bytes[at] != 0x7f : h.sf.bytes[at] == 0,
                      "%s, %s, %zu rows, %zu scale columns: byte %zu is %02x (%s)",
                      host_recipe_name(recipe), layout_names[layouts[i / 60]], m, sf_cols, at,
                      h.sf.bytes[at], inside ? "a scale" : "padding");
            }
            host_tensor_free(h);
            host_level_free(level);
        }
    }
    CHECK(padding > 100000, "the shapes have padding: %zu bytes", padding);
}

Test(host_quant, bytes_beyond_the_needed_sizes_stay_untouched)
{
    static float x[33 * 96];

    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        x[i] = (float)(i % 13) - 6.0f;
    }
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (int l = 0; l < 3; l++) {
            const host_level level = host_level_of(1.0f, 33);
            const size_t sf_cols = 96 / host_recipe_block(recipe);
            const size_t sf_bytes = host_sf_bytes(layouts[l], 33, sf_cols);
            const size_t q_bytes = recipe >= HOST_MXFP8_UP ? 33 * 96 : 33 * 48;
            host_tensor h = host_tensor_new(recipe, layouts[l], 64, 128); /* larger */
            h.t.rows = 33;
            h.t.cols = 96;
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(x, 33, 96, 96), &level, &h.t), FP4_OK,
                     "recipe %d", recipe);
            for (size_t i = q_bytes; i < h.q.size; i++) {
                CHECK_EQ(h.q.bytes[i], 0x7f, "recipe %d: code byte %zu", recipe, i);
            }
            for (size_t i = sf_bytes; i < h.sf.size; i++) {
                CHECK_EQ(h.sf.bytes[i], 0x7f, "recipe %d, layout %d: scale byte %zu", recipe, l, i);
            }
            for (size_t i = host_has_row_dec(recipe) ? 33 * 4 : 0; i < 64 * 4; i++) {
                CHECK_EQ(h.row_dec.bytes[i], 0x7f, "recipe %d: row_dec byte %zu", recipe, i);
            }
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

/* ---------------------------------------------------------------- T3: zeros */

Test(host_quant, zeros_keep_their_sign_and_never_make_a_nan)
{
    /* row 0: zeros of both signs; row 1: a zero block between others; row 2: no zeros */
    enum { ROWS = 3, COLS = 96 };

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (fp4_dtype dtype = FP4_F32; dtype <= FP4_E4M3; dtype++) {
            for (size_t rows = 1; rows <= ROWS; rows += 2) { /* all of it zeros, then some */
                const size_t block = host_recipe_block(recipe);
                const unsigned minus = recipe >= HOST_MXFP8_UP ? 0x80u : 8u;
                host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, rows, COLS);
                uint8_t bytes[ROWS * COLS * 4];
                float y[ROWS * COLS], amax = -1.0f;
                fp4_matrix x = {bytes, dtype, rows, COLS, COLS, 1.0f};
                host_level level;
                for (size_t i = 0; i < rows * COLS; i++) {
                    const int zero = i / COLS == 0 || (i / COLS == 1 && i % COLS / block == 1);
                    const float magnitude = zero ? 0.0f : (float)(i % 5 + 1);
                    put(bytes, dtype, i, i % 3 == 1 ? -magnitude : magnitude);
                }
                CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "amax");
                CHECK(amax == (rows == 1 ? 0.0f : 5.0f), "amax %g", (double)amax);
                level = host_level_of(fp4_nvfp4_global_enc(amax), rows); /* 1 for a zero tensor */
                CHECK_EQ(host_quantize(recipe, x, &level, &h.t), FP4_OK, "zeros");
                CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, COLS), FP4_OK, "zeros");
                for (size_t i = 0; i < rows * COLS; i++) {
                    const int zero = i / COLS == 0 || (i / COLS == 1 && i % COLS / block == 1);
                    const uint32_t sign = i % 3 == 1 ? 0x80000000u : 0u;
                    if (zero) {
                        CHECK_EQ(host_code_at(&h.t, i), i % 3 == 1 ? minus : 0u,
                                 "recipe %d, dtype %d: code %zu", recipe, dtype, i);
                        CHECK_EQ(h.sf.bytes[i / block], 0, "recipe %d: scale of %zu", recipe, i);
                        CHECK_EQ(host_bits_of(y[i]), sign, "recipe %d: value %zu", recipe, i);
                    } else {
                        CHECK(y[i] != 0 && fabsf(y[i]) < 10.0f, "recipe %d: value %zu is %g",
                              recipe, i, (double)y[i]);
                    }
                }
                if (host_is_tokens(recipe)) {
                    CHECK_EQ(host_bits_of(h.t.row_dec[0]), 0u, "the scale of a row of zeros");
                }
                host_tensor_free(h);
                host_level_free(level);
            }
        }
    }
}

/* ---------------------------------------------------------------- T4: saturation */

Test(host_quant, finite_input_never_makes_a_nan_scale)
{
    static const float large[] = {448.0f * 6.0f, 448.0f * 6.5f, 464.0f * 6.0f,
                                  1.0e4f,        1.0e30f,       3.402823466385288598e+38f};
    static const float enc[] = {1.0f, 0.5f, 1.0e10f, 3.402823466385288598e+38f};

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (size_t i = 0; i < 24; i++) {
            const host_level level = host_level_of(enc[i / 6], 1);
            const unsigned largest = recipe >= HOST_MXFP8_UP ? 0x7eu : 7u;
            host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 1, 32);
            float x[32];
            for (size_t j = 0; j < 32; j++) {
                x[j] = j % 2 ? -large[i % 6] : large[i % 6];
            }
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(x, 1, 32, 32), &level, &h.t), FP4_OK,
                     "%g", (double)x[0]);
            for (size_t j = 0; j < h.sf.size; j++) {
                if (host_is_nvfp4(recipe)) {
                    CHECK(h.sf.bytes[j] <= 0x7e, "%g: scale %02x", (double)x[0], h.sf.bytes[j]);
                } else {
                    CHECK(h.sf.bytes[j] != 255, "%g: scale 255", (double)x[0]);
                }
            }
            if (host_is_tensor(recipe) && i >= 1 && i < 6) { /* beyond 448 * 6 */
                CHECK_EQ(h.sf.bytes[0], 0x7e, "%g", (double)x[0]);
                CHECK_EQ(host_code_at(&h.t, 0), largest, "%g", (double)x[0]);
                CHECK_EQ(host_code_at(&h.t, 1), largest | 8u, "%g", (double)x[0]);
            }
            for (size_t j = 0; j < 32 && recipe >= HOST_MXFP8_UP; j++) {
                CHECK((host_code_at(&h.t, j) & 0x7fu) <= 0x7e, "%g: code", (double)x[0]);
            }
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

/* ---------------------------------------------------------------- T5: tiny inputs */

Test(host_quant, tiny_inputs_follow_the_formulas_and_decode_to_numbers)
{
    static const uint32_t tiny[] = {0x0554ad2eu /* 1e-35 */,  0x006ce3eeu /* 1e-38 */,
                                    0x000116c2u /* 1e-40 */,  0x000002cau /* 1e-42 */,
                                    0x00000001u /* 1e-45 */,  0x00800000u /* 2^-126 */,
                                    0x00400000u /* 2^-127 */, 0x02000000u /* 2^-123 */};

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (size_t i = 0; i < 16; i++) {
            const float amax = host_bits(tiny[i % 8]);
            const float enc = i < 8 ? 1.0f : host_global_enc(amax);
            const host_level level = host_level_of(enc, 2);
            host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 2, 64);
            float x[128], y[128];
            fp4_matrix m = fp4_matrix_f32(x, 2, 64, 64);
            host_expected expected;
            for (uint32_t j = 0; j < 128; j++) {
                x[j] =
                    host_bits((j % 2) << 31 | (j < 64 ? tiny[i % 8] : tiny[i % 8] * (j % 5) / 4));
            }
            expected = host_quantize_naively(recipe, &m, 64, &level);
            CHECK_EQ(host_quantize(recipe, m, &level, &h.t), FP4_OK, "tiny");
            host_expect_bytes(h.q.bytes, expected.q, h.q.size, "codes of tiny numbers");
            host_expect_bytes(h.sf.bytes, expected.sf, h.sf.size, "scales of tiny numbers");
            CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, 64), FP4_OK, "tiny");
            for (size_t j = 0; j < 128; j++) {
                CHECK(fabsf(y[j]) <= 4 * amax, "recipe %d, x %g, enc %g: decoded %g", recipe,
                      (double)x[j], (double)enc, (double)y[j]);
            }
            host_expected_free(expected);
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

Test(host_quant, a_scale_that_underflows_saturates_the_codes_and_decodes_to_zero)
{
    /* x * FLT_MAX is 6.8, -6.8, 5.1, 3.4, 1.7, 0.34, 0.17 */
    static const float x[16] = {2.0e-38f, -2.0e-38f, 1.5e-38f, 1.0e-38f,
                                5.0e-39f, 1.0e-39f,  5.0e-40f};
    static const uint8_t codes[8] = {0xf7, 0x57, 0x13, 0x00, 0, 0, 0, 0};
    host_tensor h = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_LINEAR, 1, 16);
    float y[16];

    CHECK_EQ(fp4_ref_nvfp4_quantize(fp4_matrix_f32(x, 1, 16, 16), 1.0f, &h.t), FP4_OK, "tiny");
    CHECK_EQ(h.sf.bytes[0], 0, "scale");
    host_expect_bytes(h.q.bytes, codes, 8, "codes");
    CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, 16), FP4_OK, "tiny");
    for (int i = 0; i < 16; i++) {
        CHECK(y[i] == 0, "element %d decodes to %g", i, (double)y[i]);
    }
    host_tensor_free(h);
}

/* ---------------------------------------------------------------- T6, T7: all scale bytes */

Test(host_quant, every_nvfp4_scale_subnormal_or_not_round_trips)
{
    /* column block b has the scale byte b + 1; the elements are all 16 codes times it */
    enum { BLOCKS = 0x7e };
    static float x[BLOCKS * 16], y[BLOCKS * 16];
    host_tensor h = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_128X4, 1, BLOCKS * 16);

    for (size_t i = 0; i < BLOCKS * 16; i++) {
        x[i] = host_mul(host_e2m1(i % 16), host_e4m3((uint8_t)(i / 16 + 1)));
    }
    CHECK_EQ(fp4_ref_nvfp4_quantize(fp4_matrix_f32(x, 1, BLOCKS * 16, BLOCKS * 16), 1.0f, &h.t),
             FP4_OK, "quantize");
    CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, BLOCKS * 16), FP4_OK, "dequantize");
    for (size_t i = 0; i < BLOCKS * 16; i++) {
        const size_t place = i / 64 * 512 + i / 16 % 4;
        CHECK_EQ(h.sf.bytes[place], i / 16 + 1, "scale of block %zu", i / 16);
        CHECK_EQ(host_code_at(&h.t, i), i % 16, "block %zu, element %zu", i / 16, i % 16);
        CHECK_EQ(host_bits_of(y[i]), host_bits_of(x[i]), "block %zu, element %zu", i / 16, i % 16);
    }
    host_tensor_free(h);
}

/* Row r has the scale byte r everywhere, and the codes run through all there are. */
static void check_all_scale_bytes(host_recipe recipe, fp4_layout layout)
{
    const size_t block = host_recipe_block(recipe), cols = 256;
    host_tensor h = host_tensor_new(recipe, layout, 256, cols);
    float *y = (float *)host_zeros(256 * cols * sizeof(float));
    host_expected t;

    memset(&t, 0, sizeof t);
    t.format = h.t.format;
    t.rows = 256;
    t.cols = cols;
    t.sf_cols = cols / block;
    t.q = h.q.bytes;
    t.sf = (uint8_t *)host_zeros(256 * t.sf_cols);
    t.global_dec = h.t.global_dec = host_is_tensor(recipe) ? 0.0123f : 1.0f;
    for (size_t i = 0; i < h.q.size; i++) {
        h.q.bytes[i] = (uint8_t)(i * 7u);
    }
    for (size_t i = 0; i < 256 * t.sf_cols; i++) {
        t.sf[i] = (uint8_t)(i / t.sf_cols);
    }
    host_place_scales(h.sf.bytes, layout, t.sf, 256, t.sf_cols);
    CHECK_EQ(fp4_ref_dequantize(&h.t, y, 256 * cols * sizeof(float), cols), FP4_OK, "dequantize");
    for (size_t i = 0; i < 256 * cols; i++) {
        const float value = host_decoded(&t, i / cols, i % cols);
        CHECK(isnan(value) ? isnan(y[i]) : host_bits_of(y[i]) == host_bits_of(value),
              "%s, scale %02zx, code %02x: got %g, expected %g", host_recipe_name(recipe), i / cols,
              host_code_at(&h.t, i), (double)y[i], (double)value);
    }
    free(t.sf);
    free(y);
    host_tensor_free(h);
}

Test(host_quant, dequantize_knows_every_scale_byte_and_code_of_every_format)
{
    for (int l = 0; l < 3; l++) {
        check_all_scale_bytes(HOST_NVFP4_TENSOR, layouts[l]);
        check_all_scale_bytes(HOST_NVFP4_32_TENSOR, layouts[l]);
        check_all_scale_bytes(HOST_MXFP4_UP, layouts[l]);
        check_all_scale_bytes(HOST_MXFP4_16_UP, layouts[l]);
        check_all_scale_bytes(HOST_MXFP8_UP, layouts[l]);
    }
}

Test(host_quant, dequantize_multiplies_by_the_block_scale_first)
{
    /* code 6, scale 1.125, dec 1 + 2^-23 + 2^-22: the two orders of products part in the last bit
       for some of these; the order is (code * scale) * dec */
    host_tensor h = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_LINEAR, 1, 16);
    size_t part = 0;

    for (uint32_t i = 0; i < 4096; i++) {
        const uint8_t sf = (uint8_t)(1 + i % 0x7e);
        const float dec = host_bits(0x3f800000u + i * 2049u), scale = host_e4m3(sf);
        float y[16];
        memset(h.q.bytes, 0x75, 8); /* 3 and 6 */
        h.sf.bytes[0] = sf;
        h.t.global_dec = dec;
        CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, 16), FP4_OK, "dequantize");
        CHECK_EQ(host_bits_of(y[0]), host_bits_of(host_mul(host_mul(3.0f, scale), dec)),
                 "3 * %g * %g", (double)scale, (double)dec);
        CHECK_EQ(host_bits_of(y[1]), host_bits_of(host_mul(host_mul(6.0f, scale), dec)),
                 "6 * %g * %g", (double)scale, (double)dec);
        part += host_bits_of(y[0]) != host_bits_of(host_mul(3.0f, host_mul(scale, dec)));
    }
    CHECK(part > 100, "the order of the products shows in %zu of 4096", part);
    host_tensor_free(h);
}

/* ---------------------------------------------------------------- T8, T9: boundaries, ties */

Test(host_quant, mxfp4_scale_bytes_at_the_boundaries_are_those_of_torchao)
{
    /* amax and the byte by the rules floor (OCP), ceil, even, and up (RCEIL), as torchao has it */
    static const struct {
        float amax;
        uint8_t floor, ceil, even, up;
    } table[] = {{0.0f, 0, 0, 0, 0},
                 {1.0f, 125, 125, 125, 125},
                 {1.2f, 125, 126, 125, 125},
                 {1.42f, 125, 126, 125, 125},
                 {1.5f, 125, 126, 125, 125},
                 {1.7499f, 125, 126, 125, 126},
                 {1.75f, 125, 126, 126, 126},
                 {2.0f, 126, 126, 126, 126},
                 {2.7f, 126, 127, 126, 126},
                 {3.0f, 126, 127, 126, 126},
                 {3.0000002f, 126, 127, 126, 127},
                 {5.5f, 127, 128, 127, 127},
                 {6.0f, 127, 128, 127, 127},
                 {7.0f, 127, 128, 128, 128},
                 {7.9999995f, 127, 128, 128, 128}};

    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        float x[32] = {0.1f, -0.2f};
        const fp4_matrix m = fp4_matrix_f32(x, 1, 32, 32);
        host_tensor h = host_tensor_new(HOST_MXFP4_UP, FP4_LAYOUT_LINEAR, 1, 32);
        memset(x, 0, sizeof x);
        x[17] = -table[i].amax;
        CHECK_EQ(fp4_ref_mxfp4_quantize_floor(m, &h.t), FP4_OK, "floor");
        CHECK_EQ(h.sf.bytes[0], table[i].floor, "floor, amax %.9g", (double)table[i].amax);
        CHECK_EQ(fp4_ref_mxfp4_quantize_ceil(m, &h.t), FP4_OK, "ceil");
        CHECK_EQ(h.sf.bytes[0], table[i].ceil, "ceil, amax %.9g", (double)table[i].amax);
        CHECK_EQ(fp4_ref_mxfp4_quantize_even(m, &h.t), FP4_OK, "even");
        CHECK_EQ(h.sf.bytes[0], table[i].even, "even, amax %.9g", (double)table[i].amax);
        CHECK_EQ(fp4_ref_mxfp4_quantize(m, &h.t), FP4_OK, "up");
        CHECK_EQ(h.sf.bytes[0], table[i].up, "up, amax %.9g", (double)table[i].amax);
        host_tensor_free(h);
    }
}

Test(host_quant, scales_follow_the_formulas_around_every_mantissa_boundary)
{
    /* one block a row: amax = mantissa * 2^exponent, one ulp less and more, in every binade */
    static const float mantissas[] = {1.0f, 1.2f, 1.5f, 1.75f,   1.875f,  1.9375f, 2.7f,
                                      5.5f, 6.0f, 7.0f, 1.3125f, 1.4375f, 1.8125f, 1.999f};
    enum { ROWS = 14 * 3 * 278 };
    float *x = (float *)host_zeros((size_t)ROWS * 32 * sizeof(float));
    size_t rows = 0;
    host_level level;

    for (int exponent = -149; exponent < 129; exponent++) {
        for (size_t i = 0; i < 14; i++) {
            const double exact = (double)mantissas[i] * oracle_power(exponent);
            const uint32_t bits = host_bits_of((float)(exact < 3.4e38 ? exact : 3.4e38));
            for (uint32_t ulp = 0; ulp < 3; ulp++, rows++) {
                const float amax = host_bits(bits == 0 ? ulp : bits - 1u + ulp);
                x[rows * 32 + 5] = -amax;
                x[rows * 32 + 21] = amax; /* in the second block of 16 */
                x[rows * 32 + 6] = amax / 3;
            }
        }
    }
    cr_assert_eq(rows, ROWS);
    level = host_level_of(1.0f, rows);
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        const fp4_matrix m = fp4_matrix_f32(x, rows, 32, 32);
        const host_expected expected = host_quantize_naively(recipe, &m, 32, &level);
        host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, rows, 32);
        CHECK_EQ(host_quantize(recipe, m, &level, &h.t), FP4_OK, "sweep");
        for (size_t i = 0; i < h.sf.size; i++) {
            CHECK_EQ(h.sf.bytes[i], expected.sf[i], "%s, amax %.9g", host_recipe_name(recipe),
                     (double)fabsf(x[i * host_recipe_block(recipe) + 5]));
        }
        host_expect_bytes(h.q.bytes, expected.q, h.q.size, "codes of the sweep");
        host_expected_free(expected);
        host_tensor_free(h);
    }
    host_level_free(level);
    free(x);
}

Test(host_quant, nvfp4_rounds_as_the_formulas_do_where_scales_and_codes_change)
{
    /* One block a row, with an encode scale of its own: an amax that puts the scale byte within two
       ulps of where it changes, elements that put the codes within two ulps of where they do. What
       is rounded in another order lands on the other side for some of them. */
    static const float midpoints[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
    enum { ROWS = 0x7d * 40 };
    static float x[ROWS * 16], row_enc[ROWS];
    const host_level level = {1.0f, row_enc, 1.0f / 2688.0f};
    const fp4_matrix m = fp4_matrix_f32(x, ROWS, 16, 16);
    host_tensor h = host_tensor_new(HOST_NVFP4_ROWS, FP4_LAYOUT_LINEAR, ROWS, 16);
    host_expected expected;
    uint64_t state = 2024;

    for (size_t row = 0; row < ROWS; row++) {
        const unsigned byte = (unsigned)(row % 0x7d) + 1u;
        const double scale = oracle_value(byte, 3, 7), next = oracle_value(byte + 1u, 3, 7);
        float *v = x + row * 16;
        row_enc[row] = host_random_scale(&state, -10, 14);
        v[0] = (float)((scale + next) / 2 * 6 / (double)row_enc[row]);
        v[0] = host_bits(host_bits_of(v[0]) - 2u + host_below(&state, 5));
        for (size_t i = 1; i < 16; i++) { /* all below amax */
            const double unit = (i % 2 ? scale : next) / (double)row_enc[row];
            v[i] = (float)((double)midpoints[host_below(&state, 7)] * unit);
            v[i] = host_bits(host_bits_of(v[i]) - 2u + host_below(&state, 5));
        }
    }
    expected = host_quantize_naively(HOST_NVFP4_ROWS, &m, 16, &level);
    CHECK_EQ(host_quantize(HOST_NVFP4_ROWS, m, &level, &h.t), FP4_OK, "quantize");
    host_expect_bytes(h.sf.bytes, expected.sf, ROWS, "scales, one a row");
    host_expect_bytes(h.q.bytes, expected.q, h.q.size, "codes, 8 bytes a row");
    host_expected_free(expected);
    host_tensor_free(h);
}

Test(host_quant, ties_go_to_the_even_code_and_the_even_element_is_the_low_nibble)
{
    /* amax 6, scale 1: the ties .25 .75 1.25 1.75 2.5 3.5 5 go to 0 1 1 2 2 4 4 */
    static const float x[32] = {6.0f,   0.25f,  0.75f,  1.25f,  1.75f, 2.5f,  3.5f,  5.0f,
                                -0.25f, -0.75f, -1.25f, -1.75f, -2.5f, -3.5f, -5.0f, -0.0f,
                                0.5f,   1.0f,   1.5f,   2.0f,   3.0f,  4.0f,  6.0f,  0.0f,
                                -0.5f,  -1.0f,  -1.5f,  -2.0f,  -3.0f, -4.0f, -6.0f, 0.2500001f};
    static const uint8_t codes[16] = {0x07, 0x22, 0x44, 0x66, 0xa8, 0xca, 0xec, 0x8e,
                                      0x21, 0x43, 0x65, 0x07, 0xa9, 0xcb, 0xed, 0x1f};
    host_tensor nv = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_LINEAR, 1, 32);
    host_tensor mx = host_tensor_new(HOST_MXFP4_UP, FP4_LAYOUT_LINEAR, 1, 32);

    CHECK_EQ(fp4_ref_nvfp4_quantize(fp4_matrix_f32(x, 1, 32, 32), 1.0f, &nv.t), FP4_OK, "NVFP4");
    CHECK_EQ(fp4_ref_mxfp4_quantize(fp4_matrix_f32(x, 1, 32, 32), &mx.t), FP4_OK, "MXFP4");
    CHECK_EQ(nv.sf.bytes[0], 0x38, "NVFP4 scale 1");
    CHECK_EQ(nv.sf.bytes[1], 0x38, "NVFP4 scale 1");
    CHECK_EQ(mx.sf.bytes[0], 127, "MXFP4 scale 1");
    host_expect_bytes(nv.q.bytes, codes, 16, "NVFP4 codes");
    host_expect_bytes(mx.q.bytes, codes, 16, "MXFP4 codes");
    host_tensor_free(nv);
    host_tensor_free(mx);
}

/* ---------------------------------------------------------------- T11: large */

/* Memory that exists only where it is touched. */
static uint8_t *sparse_memory(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    cr_assert(memory != MAP_FAILED, "no %zu bytes of address space", bytes);
    return (uint8_t *)memory;
}

Test(host_quant, row_offsets_beyond_2_to_the_32_bytes_are_right)
{
    /* 5 rows, 2^32 and some bytes apart */
    enum { ROWS = 5, COLS = 96 };
    const size_t apart = ((size_t)1 << 32) + 4096 + 12, bytes = (ROWS - 1) * apart + COLS * 4;
    uint8_t *sparse = sparse_memory(bytes);

    for (int i = 0; i < 24; i++) {
        static const host_recipe recipes[] = {HOST_NVFP4_TENSOR,    HOST_NVFP4_TOKENS,
                                              HOST_NVFP4_32_TOKENS, HOST_MXFP4_UP,
                                              HOST_MXFP4_16_UP,     HOST_MXFP8_UP};
        const host_recipe recipe = recipes[i / 4];
        const size_t size = host_dtype_bytes((fp4_dtype)(i % 4)), far = apart / size;
        uint8_t compact[ROWS * COLS * 4];
        uint64_t state = 77u + (uint64_t)i;
        fp4_matrix x = {compact, (fp4_dtype)(i % 4), ROWS, COLS, COLS, 1.0f};
        const host_level level = host_level_of(0.5f, ROWS);
        host_tensor a = host_tensor_new(recipe, FP4_LAYOUT_128X4, ROWS, COLS);
        host_tensor b = host_tensor_new(recipe, FP4_LAYOUT_128X4, ROWS, COLS);
        float amax = 0, y[ROWS * COLS];
        float *far_y = (float *)(void *)sparse;
        host_fill(compact, x, &state, HOST_MODERATE, 32);
        for (size_t row = 0; row < ROWS; row++) {
            memcpy(sparse + row * far * size, compact + row * COLS * size, COLS * size);
        }
        CHECK_EQ(host_quantize(recipe, x, &level, &a.t), FP4_OK, "compact");
        x.data = sparse;
        x.row_stride = far;
        CHECK_EQ(host_quantize(recipe, x, &level, &b.t), FP4_OK, "sparse");
        host_expect_bytes(b.q.bytes, a.q.bytes, a.q.size, "codes of rows far apart");
        host_expect_bytes(b.sf.bytes, a.sf.bytes, a.sf.size, "scales of rows far apart");
        host_expect_bytes(b.row_dec.bytes, a.row_dec.bytes, a.row_dec.size, "row_dec");
        CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "sparse");
        CHECK_EQ(host_bits_of(amax), host_bits_of(host_matrix_amax(&x)), "amax of rows far apart");
        CHECK_EQ(fp4_ref_dequantize(&a.t, y, sizeof y, COLS), FP4_OK, "compact");
        CHECK_EQ(fp4_ref_dequantize(&a.t, far_y, bytes, apart / 4), FP4_OK, "sparse");
        for (size_t row = 0; row < ROWS; row++) {
            host_expect_bytes(sparse + row * apart, (const uint8_t *)(y + row * COLS), COLS * 4,
                              "decoded rows far apart");
        }
        host_tensor_free(a);
        host_tensor_free(b);
        host_level_free(level);
    }
    munmap(sparse, bytes);
}

Test(host_quant, scales_and_codes_beyond_2_to_the_32_bytes_are_right)
{
    /* rows of 256 columns around row 2^28, through the steps that quantize and decode one row */
    enum { COLS = 256 };
    const size_t far = ((size_t)1 << 28) + 77, rows = far + 2;

    for (int i = 0; i < 15; i++) {
        static const host_recipe recipes[] = {HOST_NVFP4_TENSOR, HOST_MXFP4_UP, HOST_MXFP8_UP,
                                              HOST_NVFP4_32_TENSOR, HOST_MXFP4_16_UP};
        static const fp4_ref_rule_ rules[] = {FP4_REF_NVFP4_, FP4_REF_MXFP4_, FP4_REF_MXFP8_,
                                              FP4_REF_NVFP4_, FP4_REF_MXFP4_};
        const fp4_layout layout = layouts[i % 3];
        const size_t sf_cols = COLS / host_recipe_block(recipes[i / 3]);
        const size_t tile_rows = layout == FP4_LAYOUT_128X4 ? 128
                                 : layout == FP4_LAYOUT_8X4 ? 8
                                                            : 1;
        const size_t top = far / tile_rows * tile_rows, q_row = i / 3 == 2 ? COLS : COLS / 2;
        const size_t sf_bytes = host_sf_bytes(layout, rows, sf_cols);
        uint8_t *x = sparse_memory(rows * COLS), *q = sparse_memory(rows * q_row);
        uint8_t *sf = sparse_memory(sf_bytes), scales[128 * 16] = {0}, tile[128 * 16];
        fp4_matrix m = {x, FP4_E4M3, rows, COLS, COLS, 0.25f};
        fp4_matrix one = {x + far * COLS, FP4_E4M3, 1, COLS, COLS, 0.25f};
        const host_level level = host_level_of(8.0f, 1);
        fp4_tensor t = fp4_tensor_view(host_recipe_format(recipes[i / 3]), layout, rows, COLS, q,
                                       rows * q_row, sf, sf_bytes);
        uint64_t state = 31u + (uint64_t)i;
        float y[COLS];
        host_expected expected;
        host_fill(x + far * COLS, one, &state, HOST_NARROW, host_recipe_block(recipes[i / 3]));
        expected = host_quantize_naively(recipes[i / 3], &one, COLS, &level);
        t.global_dec = expected.global_dec;
        fp4_ref_quantize_row_(&m, &t, far, rules[i / 3], 8.0f, 1.0f);
        fp4_ref_decode_(y, &t, far, 0, COLS, FP4_CODE_FIRST);
        memcpy(scales + (far - top) * sf_cols, expected.sf, sf_cols);
        host_place_scales(tile, layout, scales, tile_rows, sf_cols);
        host_expect_bytes(q + far * q_row, expected.q, q_row, "codes of a far row");
        host_expect_bytes(sf + top * sf_cols, tile, tile_rows * sf_cols, "scales of a far row");
        for (size_t col = 0; col < COLS; col++) {
            CHECK_EQ(host_bits_of(y[col]), host_bits_of(host_decoded(&expected, 0, col)),
                     "%s, column %zu of a far row", layout_names[layout], col);
        }
        host_expected_free(expected);
        host_level_free(level);
        munmap(x, rows * COLS);
        munmap(q, rows * q_row);
        munmap(sf, sf_bytes);
    }
}

Test(host_quant, more_than_65535_rows_are_no_different)
{
    static const host_recipe recipes[] = {HOST_NVFP4_ROWS, HOST_NVFP4_32_TOKENS, HOST_MXFP4_16_UP,
                                          HOST_MXFP8_FLOOR};
    host_case c;

    memset(&c, 0, sizeof c);
    for (int i = 0; i < 4; i++) {
        c.recipe = recipes[i];
        c.dtype = i % 2 ? FP4_BF16 : FP4_F32;
        c.rows = 65537 + 130;
        c.cols = c.t_cols = c.row_stride = host_recipe_block(c.recipe);
        c.data = HOST_MODERATE;
        c.seed = 9000u + (uint64_t)i;
        check_case(c);
    }
}

/* ---------------------------------------------------------------- T12-T15: empty, ragged */

Test(host_quant, an_empty_matrix_is_fine_and_writes_nothing)
{
    static const size_t shapes[][2] = {{0, 0}, {0, 64}, {5, 0}};

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (int i = 0; i < 3 * 3; i++) {
            const size_t rows = shapes[i % 3][0], cols = shapes[i % 3][1];
            const host_level level = host_level_of(1.0f, 5);
            host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 5, 64);
            fp4_tensor t = fp4_tensor_view(host_recipe_format(recipe), layouts[i / 3], rows, cols,
                                           NULL, 0, NULL, 0);
            float y[5 * 64], amax = 7.0f;
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(NULL, rows, cols, cols), &level, &t),
                     FP4_OK, "%s of %zu x %zu, all pointers null", host_recipe_name(recipe), rows,
                     cols);
            CHECK_EQ(fp4_ref_dequantize(&t, NULL, 0, cols), FP4_OK, "%zu x %zu", rows, cols);
            CHECK_EQ(fp4_ref_amax(fp4_matrix_f32(NULL, rows, cols, cols), &amax), FP4_OK, "amax");
            CHECK_EQ(host_bits_of(amax), 0u, "amax of %zu x %zu", rows, cols);
            h.t.layout = layouts[i / 3];
            h.t.rows = rows;
            h.t.cols = cols;
            memset(y, 0x7f, sizeof y);
            CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(y, rows, cols, 64), &level, &h.t), FP4_OK,
                     "%zu x %zu", rows, cols);
            CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, 64), FP4_OK, "%zu x %zu", rows, cols);
            for (size_t j = 0; j < h.q.size + h.sf.size + sizeof y; j++) {
                const uint8_t byte = j < h.q.size ? h.q.bytes[j]
                                     : j < h.q.size + h.sf.size
                                         ? h.sf.bytes[j - h.q.size]
                                         : ((uint8_t *)y)[j - h.q.size - h.sf.size];
                CHECK_EQ(byte, 0x7f, "%zu x %zu: byte %zu", rows, cols, j);
            }
            for (size_t j = 0; j < h.row_dec.size; j++) {
                CHECK_EQ(h.row_dec.bytes[j], 0x7f, "%zu x %zu: row_dec byte %zu", rows, cols, j);
            }
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

Test(host_quant, dequantize_leaves_what_lies_between_the_rows)
{
    host_tensor h = host_tensor_new(HOST_NVFP4_TENSOR, FP4_LAYOUT_8X4, 3, 32);
    const size_t stride = 37, needed = (2 * stride + 32) * sizeof(float);
    const host_buffer y = host_buffer_new(needed, 0);

    memset(h.q.bytes, 0x22, h.q.size); /* ones */
    memset(h.sf.bytes, 0x38, h.sf.size);
    CHECK_EQ(fp4_ref_dequantize(&h.t, (float *)(void *)y.bytes, needed, stride), FP4_OK, "exact");
    for (size_t i = 0; i < needed / 4; i++) {
        uint32_t bits;
        memcpy(&bits, y.bytes + 4 * i, 4);
        CHECK_EQ(bits, i % stride < 32 ? 0x3f800000u : 0x7f7f7f7fu, "float %zu", i);
    }
    host_buffer_free(y, "decoded");
    host_tensor_free(h);
}

/* ---------------------------------------------------------------- T18: round trip */

/* Elements that a tensor holds exactly, with a scale that tells rows or columns apart: `by_row` or
   by column. Whatever lands on another block's scale decodes to another value. */
static void check_round_trip(host_recipe recipe, fp4_layout layout, int by_row)
{
    const size_t block = host_recipe_block(recipe), rows = 261, cols = 9 * block;
    const fp4_format format = host_recipe_format(recipe);
    const fp4_matrix none = fp4_matrix_f32(NULL, rows, cols, cols);
    float *x = (float *)host_zeros(rows * cols * sizeof(float));
    float *y = (float *)host_zeros(rows * cols * sizeof(float));
    float *row_enc = (float *)host_zeros(rows * sizeof(float));
    const host_level level = {1.0f, row_enc, 1.0f / 2688.0f};
    host_tensor h = host_tensor_new(recipe, layout, rows, cols);
    fp4_matrix m = none;

    m.data = x;
    for (size_t row = 0; row < rows; row++) {
        const int row_power = host_is_rows(recipe) ? (int)(row * 5 % 61) - 30 : 0;
        row_enc[row] = (float)oracle_power(-row_power);
        for (size_t col = 0; col < cols; col++) {
            const size_t sf_col = col / block, element = (row * 3 + col * 5) % block;
            const size_t place = by_row ? row : row / 8 * 17 + sf_col * 14 + row % 8;
            double value;
            if (format == FP4_MXFP8) {
                const unsigned code = element == 0 ? 0x7eu : (unsigned)(col * 11 + row) % 0x7fu;
                value = oracle_value(code, 3, 7);
            } else {
                value = oracle_value(element == 0 ? 7u : (unsigned)(col * 3 + row) % 8u, 1, 1);
            }
            value *= host_is_nvfp4(recipe) ? oracle_value((unsigned)(1 + place % 0x7e), 3, 7)
                                           : oracle_power((int)(place % 199) - 99);
            value *= oracle_power(row_power);
            x[row * cols + col] = (float)((row + col) % 3 == 0 ? -value : value);
        }
    }
    CHECK_EQ(host_quantize(recipe, m, &level, &h.t), FP4_OK, "quantize");
    CHECK_EQ(fp4_ref_dequantize(&h.t, y, rows * cols * sizeof(float), cols), FP4_OK, "dequantize");
    for (size_t i = 0; i < rows * cols; i++) {
        CHECK_EQ(host_bits_of(y[i]), host_bits_of(x[i]),
                 "%s, %s, by %s: row %zu, col %zu: %.9g, %.9g", host_recipe_name(recipe),
                 layout_names[layout], by_row ? "row" : "column", i / cols, i % cols, (double)y[i],
                 (double)x[i]);
    }
    free(x);
    free(y);
    free(row_enc);
    host_tensor_free(h);
}

Test(host_quant, what_a_tensor_holds_exactly_round_trips_in_every_layout)
{
    static const host_recipe exact[] = {HOST_NVFP4_TENSOR,  HOST_NVFP4_ROWS,  HOST_NVFP4_32_TENSOR,
                                        HOST_NVFP4_32_ROWS, HOST_MXFP4_UP,    HOST_MXFP4_FLOOR,
                                        HOST_MXFP4_EVEN,    HOST_MXFP4_16_UP, HOST_MXFP4_16_EVEN,
                                        HOST_MXFP8_UP,      HOST_MXFP8_FLOOR};

    for (size_t i = 0; i < sizeof exact / sizeof exact[0] * 6; i++) {
        check_round_trip(exact[i / 6], layouts[i % 3], i / 3 % 2 != 0);
    }
}

Test(host_quant, per_token_rows_decode_within_the_format_s_precision_whatever_their_magnitude)
{
    /* row r is of magnitude 2^(7r - 120); relative to its amax every row loses as little */
    enum { ROWS = 34, COLS = 64 };
    static float x[ROWS * COLS], y[ROWS * COLS];
    uint64_t state = 4711;

    for (size_t i = 0; i < ROWS * COLS; i++) {
        const double unit = (double)host_random(&state) * oracle_power(-31) - 1.0;
        x[i] = (float)(unit * oracle_power(7 * (int)(i / COLS) - 115));
    }
    for (int l = 0; l < 3; l++) {
        host_tensor h = host_tensor_new(HOST_NVFP4_TOKENS, layouts[l], ROWS, COLS);
        CHECK_EQ(fp4_ref_nvfp4_quantize_tokens(fp4_matrix_f32(x, ROWS, COLS, COLS), 1.0f / 2688.0f,
                                               &h.t),
                 FP4_OK, "quantize");
        CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, COLS), FP4_OK, "dequantize");
        for (size_t i = 0; i < ROWS * COLS; i++) {
            const size_t start = i / 16 * 16;
            const float amax = host_amax(x + start, 16);
            /* half of the largest step, 2 of 6, and the rounding of the scale, 1/16 */
            CHECK(fabsf(y[i] - x[i]) <= amax * (1.0f / 6 + 1.0f / 16), "row %zu, col %zu: %g, %g",
                  i / COLS, i % COLS, (double)x[i], (double)y[i]);
        }
        host_tensor_free(h);
    }
}

/* ---------------------------------------------------------------- T23: NaN and infinity */

/* A NaN of either sign, and an infinity, in the bits of a type; e4m3 has no infinity. */
static uint32_t nan_bits(fp4_dtype dtype, int negative)
{
    static const uint32_t nans[4][2] = {
        {0x7f800001u, 0xffc00000u}, {0x7e00u, 0xfc01u}, {0x7f81u, 0xffc0u}, {0x7fu, 0xffu}};
    return nans[dtype][negative];
}

static uint32_t infinity_bits(fp4_dtype dtype, int negative)
{
    static const uint32_t infinities[4][2] = {
        {0x7f800000u, 0xff800000u}, {0x7c00u, 0xfc00u}, {0x7f80u, 0xff80u}, {0, 0}};
    return infinities[dtype][negative];
}

Test(host_quant, nan_elements_encode_as_the_largest_and_stay_out_of_amax)
{
    /* block 0: 6, -3 and NaNs; block 1: NaNs only; row 1: NaNs only */
    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (fp4_dtype dtype = FP4_F32; dtype <= FP4_E4M3; dtype++) {
            const size_t block = host_recipe_block(recipe), cols = 2 * block;
            const size_t size = host_dtype_bytes(dtype);
            const unsigned nan = recipe >= HOST_MXFP8_UP ? 0x7fu : 7u;
            const host_level level = host_level_of(1.0f, 2);
            host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 2, cols);
            host_tensor without = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 1, cols);
            uint8_t bytes[2 * 64 * 4], plain[64 * 4];
            fp4_matrix x = {bytes, dtype, 2, cols, cols, 1.0f};
            fp4_matrix p = {plain, dtype, 1, cols, cols, 1.0f};
            float amax = -1.0f;
            memset(plain, 0, sizeof plain);
            for (size_t i = 0; i < 2 * cols; i++) {
                const uint32_t bits = nan_bits(dtype, i % 2 != 0);
                memcpy(bytes + i * size, &bits, size);
            }
            for (size_t i = 0; i < block; i += 3) { /* NaNs between numbers */
                put(bytes, dtype, i, i % 2 ? -3.0f : 6.0f);
                put(plain, dtype, i, i % 2 ? -3.0f : 6.0f);
            }
            CHECK_EQ(host_quantize(recipe, x, &level, &h.t), FP4_OK, "NaN");
            CHECK_EQ(host_quantize(recipe, p, &level, &without.t), FP4_OK, "none");
            CHECK_EQ(h.sf.bytes[0], without.sf.bytes[0], "recipe %d, dtype %d: scale", recipe,
                     dtype);
            CHECK(h.sf.bytes[0] != 0 && h.sf.bytes[0] != 0x7f + 0x80 * !host_is_nvfp4(recipe),
                  "a number");
            for (size_t i = 1; i < 4; i++) {
                CHECK_EQ(h.sf.bytes[i], 0, "recipe %d, dtype %d: scale of NaNs", recipe, dtype);
            }
            for (size_t i = 0; i < 2 * cols; i++) {
                const int number = i < block && i % 3 == 0;
                CHECK_EQ(host_code_at(&h.t, i), number ? host_code_at(&without.t, i) : nan,
                         "recipe %d, dtype %d: code %zu", recipe, dtype, i);
            }
            if (host_is_tokens(recipe)) {
                CHECK_EQ(host_bits_of(h.t.row_dec[0]), host_bits_of(without.t.row_dec[0]), "row 0");
                CHECK_EQ(host_bits_of(h.t.row_dec[1]), 0u, "a row of NaNs has amax 0");
            }
            CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "amax");
            CHECK_EQ(host_bits_of(amax), host_bits_of(6.0f), "amax without NaN");
            host_tensor_free(h);
            host_tensor_free(without);
            host_level_free(level);
        }
    }
}

Test(host_quant, infinities_encode_as_the_largest_of_their_sign)
{
    /* scale bytes of a block with an infinity: 448 for NVFP4, 2^127 by the default rule of MX, NaN
       by torchao's three */
    static const uint8_t scales[HOST_RECIPES] = {0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 0x7e, 254, 255, 255,
                                                 255,  254,  255,  255,  255,  254,  255, 255, 255};

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (fp4_dtype dtype = FP4_F32; dtype < FP4_E4M3; dtype++) {
            const size_t block = host_recipe_block(recipe), cols = 2 * block;
            const size_t size = host_dtype_bytes(dtype);
            const unsigned largest = recipe >= HOST_MXFP8_UP ? 0x7eu : 7u;
            const unsigned sign = recipe >= HOST_MXFP8_UP ? 0x80u : 8u;
            const host_level level = host_level_of(1.0f, 1);
            host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_LINEAR, 1, cols);
            uint8_t bytes[64 * 4];
            fp4_matrix x = {bytes, dtype, 1, cols, cols, 1.0f};
            float amax = -1.0f, y[64];
            uint32_t bits;
            for (size_t i = 0; i < cols; i++) {
                put(bytes, dtype, i, i % 2 ? -2.0f : 2.0f);
            }
            bits = infinity_bits(dtype, 0);
            memcpy(bytes + 4 * size, &bits, size);
            bits = infinity_bits(dtype, 1);
            memcpy(bytes + 5 * size, &bits, size);
            bits = nan_bits(dtype, 1);
            memcpy(bytes + 6 * size, &bits, size);
            CHECK_EQ(host_quantize(recipe, x, &level, &h.t), FP4_OK, "infinity");
            CHECK_EQ(h.sf.bytes[0], scales[recipe], "%s of %s: scale", host_recipe_name(recipe),
                     dtype_names[dtype]);
            CHECK(h.sf.bytes[1] != scales[recipe], "the other block is as it was");
            CHECK_EQ(host_code_at(&h.t, 4), largest, "%s: infinity", host_recipe_name(recipe));
            CHECK_EQ(host_code_at(&h.t, 5), largest | sign, "%s: -infinity",
                     host_recipe_name(recipe));
            CHECK_EQ(host_code_at(&h.t, 6), recipe >= HOST_MXFP8_UP ? 0x7fu : 7u, "%s: NaN",
                     host_recipe_name(recipe));
            for (size_t i = 0; i < block; i++) { /* 2 / 448 and 2 / 2^127 are nothing */
                const unsigned zero = i % 2 ? sign : 0u;
                CHECK((i >= 4 && i <= 6) || host_code_at(&h.t, i) == zero, "recipe %d: code %zu",
                      recipe, i);
            }
            if (host_is_tokens(recipe)) {
                CHECK_EQ(host_bits_of(h.t.row_dec[0]), host_bits_of(1.0f), "the row's scale");
            }
            CHECK_EQ(fp4_ref_dequantize(&h.t, y, sizeof y, cols), FP4_OK, "dequantize");
            CHECK(scales[recipe] == 255 ? isnan(y[4])
                                        : y[4] == (recipe >= HOST_MXFP4_UP ? INFINITY : 2688.0f),
                  "recipe %d: infinity decodes to %g", recipe, (double)y[4]);
            CHECK_EQ(fp4_ref_amax(x, &amax), FP4_OK, "amax");
            CHECK(isinf(amax), "amax %g", (double)amax);
            host_tensor_free(h);
            host_level_free(level);
        }
    }
}

/* ---------------------------------------------------------------- any format */

/* What one call has written. */
typedef struct any_result {
    uint8_t q[3 * 64], sf[512];
    float global_dec;
    fp4_status status;
} any_result;

static any_result quantize_any(fp4_matrix x, fp4_format format, const float *mul, float global_enc,
                               int by_name)
{
    any_result r;
    fp4_tensor t;

    memset(&r, 0x7f, sizeof r);
    t = fp4_tensor_view(format, FP4_LAYOUT_128X4, x.rows, x.cols, r.q, sizeof r.q, r.sf,
                        sizeof r.sf);
    t.global_dec = 0.25f;
    if (!by_name) {
        r.status = mul == NULL ? fp4_ref_quantize(x, global_enc, &t)
                               : fp4_ref_quantize_scaled(x, mul, global_enc, &t);
    } else if (format == FP4_NVFP4 || format == FP4_NVFP4_32) {
        r.status = mul == NULL ? fp4_ref_nvfp4_quantize(x, global_enc, &t)
                               : fp4_ref_nvfp4_quantize_scaled(x, mul, global_enc, &t);
    } else if (format == FP4_MXFP8) {
        r.status =
            mul == NULL ? fp4_ref_mxfp8_quantize(x, &t) : fp4_ref_mxfp8_quantize_scaled(x, mul, &t);
    } else {
        r.status =
            mul == NULL ? fp4_ref_mxfp4_quantize(x, &t) : fp4_ref_mxfp4_quantize_scaled(x, mul, &t);
    }
    r.global_dec = t.global_dec;
    return r;
}

Test(host_quant, the_format_of_the_tensor_says_which_function)
{
    float data[3 * 64], mul[3] = {0.5f, -3.0f, 100.0f};
    const fp4_matrix x = fp4_matrix_f32(data, 3, 64, 64);
    uint64_t state = 21;
    any_result of[5];

    host_fill((uint8_t *)data, x, &state, HOST_MODERATE, 16);
    for (int scaled = 0; scaled < 2; scaled++) {
        for (int format = FP4_NVFP4; format <= FP4_MXFP4_16; format++) {
            const float *factors = scaled ? mul : NULL;
            const any_result r = quantize_any(x, (fp4_format)format, factors, 100.0f, 0);
            const any_result named = quantize_any(x, (fp4_format)format, factors, 100.0f, 1);

            CHECK_EQ(r.status, FP4_OK, "format %d", format);
            CHECK_EQ(named.status, FP4_OK, "format %d", format);
            host_expect_bytes(r.q, named.q, sizeof r.q, "codes");
            host_expect_bytes(r.sf, named.sf, sizeof r.sf, "scales");
            CHECK_EQ(host_bits_of(r.global_dec), host_bits_of(named.global_dec),
                     "format %d: global_dec", format);
            of[format] = r;
            for (int other = FP4_NVFP4; other < format; other++) {
                CHECK(memcmp(of[other].sf, r.sf, sizeof r.sf) != 0, "formats %d and %d are one",
                      other, format);
            }
        }
    }
    CHECK_EQ(quantize_any(x, (fp4_format)5, NULL, 1.0f, 0).status, FP4_BAD_TYPE, "no format");
    CHECK_EQ(quantize_any(x, (fp4_format)5, mul, 1.0f, 0).status, FP4_BAD_TYPE, "no format");
    CHECK_EQ(quantize_any(x, FP4_NVFP4, NULL, -1.0f, 0).status, FP4_BAD_SCALE, "a bad scale");
    CHECK_EQ(quantize_any(x, FP4_MXFP4, NULL, -1.0f, 0).status, FP4_OK, "which others ignore");
    CHECK_EQ(fp4_ref_quantize(x, 1.0f, NULL), FP4_NULL, "no tensor");
    CHECK_EQ(fp4_ref_quantize_scaled(x, mul, 1.0f, NULL), FP4_NULL, "no tensor");
}

Test(host_quant, a_matrix_as_floats_is_its_elements)
{
    enum { ROWS = 3, COLS = 1031, X_STRIDE = 1040, Y_STRIDE = 1033 }; /* three chunks a row */
    static float y[ROWS * Y_STRIDE];
    uint8_t *bytes = (uint8_t *)host_zeros(ROWS * X_STRIDE * sizeof(float) + 1);
    uint64_t state = 22;

    for (int dtype = FP4_F32; dtype <= FP4_E4M3; dtype++) {
        fp4_matrix x = {bytes + 1, (fp4_dtype)dtype, ROWS, COLS, X_STRIDE, 1.0f};
        x.dec = dtype == FP4_E4M3 ? 0.3f : 1.0f;
        host_fill(bytes + 1, x, &state, HOST_MODERATE, 16);
        memset(y, 0x7f, sizeof y);
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y - (Y_STRIDE - COLS) * sizeof(float), Y_STRIDE),
                 FP4_OK, "%s", dtype_names[dtype]);
        for (size_t i = 0; i < ROWS * Y_STRIDE; i++) {
            const size_t row = i / Y_STRIDE, col = i % Y_STRIDE;
            const float expected = col < COLS ? host_element(&x, row, col) : host_bits(0x7f7f7f7fu);
            CHECK_EQ(host_bits_of(y[i]), host_bits_of(expected), "%s: row %zu, column %zu",
                     dtype_names[dtype], row, col);
        }
        memset(y, 0x7f, sizeof y);
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y - 12, Y_STRIDE), FP4_SMALL_BUFFER, "one too few");
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y, COLS - 1), FP4_BAD_STRIDE, "rows overlap");
        CHECK_EQ(fp4_ref_to_f32(x, NULL, sizeof y, Y_STRIDE), FP4_NULL, "nowhere");
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y, SIZE_MAX / 2), FP4_BAD_SHAPE, "overflows");
        x.row_stride = COLS - 1;
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y, Y_STRIDE), FP4_BAD_STRIDE, "rows of x overlap");
        x.row_stride = COLS;
        x.dtype = (fp4_dtype)4;
        CHECK_EQ(fp4_ref_to_f32(x, y, sizeof y, Y_STRIDE), FP4_BAD_TYPE, "no type");
        x.rows = 0;
        x.dtype = FP4_F32;
        CHECK_EQ(fp4_ref_to_f32(x, NULL, 0, Y_STRIDE), FP4_OK, "nothing");
        for (size_t i = 0; i < sizeof y; i++) {
            CHECK_EQ(((const uint8_t *)y)[i], 0x7f, "byte %zu was written", i);
        }
    }
    free(bytes);
}

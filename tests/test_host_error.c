/* fp4/host/error.h: the error metrics, against sums in long double and against matrices whose
   answer is known by construction. */
#include <fp4/host/error.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};

/* a and b are equal, infinities too, or differ by a small part of themselves. */
static int close_to(double a, double b, double relative)
{
    return a == b || fabs(a - b) <= relative * fmax(fabs(a), fabs(b));
}

/* The definition, in long double, with values decoded by the naive quantizer. */
static fp4_error naive_error(const fp4_matrix *x, const host_expected *t)
{
    long double noise = 0, signal = 0, largest = 0;
    size_t saturated = 0, zeroed = 0;
    const double count = (double)(x->rows * x->cols);
    fp4_error error;

    for (size_t row = 0; row < x->rows; row++) {
        for (size_t col = 0; col < x->cols; col++) {
            const long double from = (long double)host_element(x, row, col);
            const long double to = (long double)host_decoded(t, row, col);
            const size_t at = row * t->cols + col;
            const unsigned code =
                t->format == FP4_MXFP8 ? t->q[at] & 0x7fu : t->q[at / 2] >> (at % 2 * 4) & 7u;
            const unsigned top = t->format == FP4_MXFP8 ? 0x7eu : 7u;
            largest = fabsl(to - from) > largest ? fabsl(to - from) : largest;
            noise += (to - from) * (to - from);
            signal += from * from;
            saturated += code == top && fabsl(to) < fabsl(from);
            zeroed += to == 0 && from != 0;
        }
    }
    error.max_abs = (double)largest;
    error.mse = (double)(noise / (long double)count);
    error.sqnr_db = noise == 0 ? (double)INFINITY : (double)(10 * log10l(signal / noise));
    error.saturated = (double)saturated / count;
    error.zeroed = (double)zeroed / count;
    return error;
}

Test(host_error, metrics_equal_their_definition_in_long_double)
{
    static const size_t shapes[][2] = {{1, 32}, {3, 96}, {33, 512}, {7, 544}, {5, 1056}, {130, 64}};
    static uint8_t bytes[130 * 1100 * 4];

    for (size_t i = 0; i < (size_t)HOST_RECIPES * 4 * 6; i++) {
        const host_recipe recipe = (host_recipe)(i / 24);
        const size_t rows = shapes[i % 6][0], cols = shapes[i % 6][1], wider = i % 3 == 1 ? 64 : 0;
        const fp4_dtype dtype = (fp4_dtype)(i / 6 % 4);
        fp4_matrix x = {bytes, dtype, rows, cols, cols + i % 5, dtype == FP4_E4M3 ? 0.11f : 1.0f};
        uint64_t state = 600u + i;
        host_tensor h = host_tensor_new(recipe, layouts[i % 3], rows, cols + wider);
        host_expected expected;
        host_level level;
        fp4_error got = {0, 0, 0, 0, 0}, want;
        host_fill(bytes, x, &state, i % 2 ? HOST_NARROW : HOST_MODERATE, host_recipe_block(recipe));
        level = host_level_of(host_global_enc(host_matrix_amax(&x)), rows);
        expected = host_quantize_naively(recipe, &x, cols + wider, &level);
        want = naive_error(&x, &expected);
        CHECK_EQ(host_quantize(recipe, x, &level, &h.t), FP4_OK, "seed %zu", i);
        CHECK_EQ(fp4_ref_error(x, &h.t, &got), FP4_OK, "seed %zu", i);
        CHECK(close_to(got.max_abs, want.max_abs, 1e-15) && close_to(got.mse, want.mse, 1e-11) &&
                  close_to(got.sqnr_db, want.sqnr_db, 1e-11),
              "%s, %zu x %zu, seed %zu: max_abs %.17g, mse %.17g, sqnr %.17g; expected %.17g, "
              "%.17g, %.17g",
              host_recipe_name(recipe), rows, cols, i, got.max_abs, got.mse, got.sqnr_db,
              want.max_abs, want.mse, want.sqnr_db);
        CHECK(got.saturated == want.saturated && got.zeroed == want.zeroed,
              "%s, %zu x %zu, seed %zu: saturated %g, zeroed %g; expected %g, %g",
              host_recipe_name(recipe), rows, cols, i, got.saturated, got.zeroed, want.saturated,
              want.zeroed);
        host_expected_free(expected);
        host_level_free(level);
        host_tensor_free(h);
    }
}

/* Quantizes 8 x 64 floats by a recipe and measures; global_enc is 1. */
static fp4_error error_of(host_recipe recipe, const float *x)
{
    const host_level level = host_level_of(1.0f, 8);
    host_tensor h = host_tensor_new(recipe, FP4_LAYOUT_128X4, 8, 64);
    fp4_error error = {-1, -1, -1, -1, -1};

    CHECK_EQ(host_quantize(recipe, fp4_matrix_f32(x, 8, 64, 64), &level, &h.t), FP4_OK, "quantize");
    CHECK_EQ(fp4_ref_error(fp4_matrix_f32(x, 8, 64, 64), &h.t, &error), FP4_OK, "error");
    host_level_free(level);
    host_tensor_free(h);
    return error;
}

Test(host_error, nothing_lost_is_an_infinite_ratio)
{
    static float x[8 * 64];

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        for (int zero = 0; zero < 2; zero++) {
            /* 6 for NVFP4, whose scale is then 1; a power of two for MX, which any rule holds */
            const float one = host_is_tensor(recipe) || host_is_rows(recipe) ? 6.0f : 4.0f;
            fp4_error error;
            for (size_t i = 0; i < 8 * 64; i++) {
                x[i] = zero ? 0.0f : i % 2 ? -one : one;
            }
            if (host_is_tokens(recipe) && !zero) {
                continue; /* 1 / fl(1 / enc) is not exact */
            }
            error = error_of(recipe, x);
            CHECK(error.max_abs == 0 && error.mse == 0 && isinf(error.sqnr_db) &&
                      error.sqnr_db > 0 && error.saturated == 0 && error.zeroed == 0,
                  "%s: max_abs %g, mse %g, sqnr %g, saturated %g, zeroed %g",
                  host_recipe_name(recipe), error.max_abs, error.mse, error.sqnr_db,
                  error.saturated, error.zeroed);
        }
    }
}

Test(host_error, an_empty_matrix_has_no_error)
{
    static const size_t shapes[][2] = {{0, 0}, {0, 32}, {3, 0}};

    for (int i = 0; i < 9; i++) {
        const size_t rows = shapes[i % 3][0], cols = shapes[i % 3][1];
        const fp4_tensor t =
            fp4_tensor_view((fp4_format)(i / 3), FP4_LAYOUT_128X4, rows, cols, NULL, 0, NULL, 0);
        fp4_error error = {-1, -1, -1, -1, -1};
        CHECK_EQ(fp4_ref_error(fp4_matrix_f32(NULL, rows, cols, cols), &t, &error), FP4_OK,
                 "%zu x %zu", rows, cols);
        CHECK(error.max_abs == 0 && error.mse == 0 && isinf(error.sqnr_db) && error.sqnr_db > 0 &&
                  error.saturated == 0 && error.zeroed == 0,
              "%zu x %zu: max_abs %g, mse %g, sqnr %g, saturated %g, zeroed %g", rows, cols,
              error.max_abs, error.mse, error.sqnr_db, error.saturated, error.zeroed);
    }
}

Test(host_error, clipped_elements_are_counted_as_saturated)
{
    /* OCP's rule leaves amax between 4 and 8 times the scale (256 and 512 for MXFP8): 7 * 2^k and
       480 * 2^k clip, 6 * 2^k and 448 * 2^k are the largest codes and exact */
    static const struct {
        host_recipe recipe;
        float clipped, largest;
    } cases[] = {{HOST_MXFP4_FLOOR, 7.0f, 6.0f},
                 {HOST_MXFP8_FLOOR, 480.0f, 448.0f},
                 {HOST_NVFP4_TENSOR, 3584.0f, 2688.0f},
                 {HOST_NVFP4_32_TENSOR, 3584.0f, 2688.0f},
                 {HOST_MXFP4_16_FLOOR, 7.0f, 6.0f}};
    static float x[8 * 64];

    for (int i = 0; i < 5; i++) {
        const int nvfp4 = host_is_nvfp4(cases[i].recipe);
        fp4_error error;
        size_t clipped = 0;
        for (size_t at = 0; at < 8 * 64; at++) {
            const float power = nvfp4 ? 1.0f : (float)oracle_power((int)(at / 32) - 8);
            const int clip = at % 32 < at / 32; /* 0 to 15 of every 32 */
            const float magnitude = power * (clip ? cases[i].clipped : cases[i].largest);
            x[at] = at % 2 ? -magnitude : magnitude;
            clipped += (size_t)clip;
        }
        error = error_of(cases[i].recipe, x);
        CHECK(error.saturated == (double)clipped / (8 * 64), "%s: %g of %zu in %d",
              host_recipe_name(cases[i].recipe), error.saturated, clipped, 8 * 64);
        CHECK(error.zeroed == 0, "%s: zeroed %g", host_recipe_name(cases[i].recipe), error.zeroed);
        CHECK(error.max_abs == (nvfp4 ? 896.0
                                      : (double)(cases[i].clipped - cases[i].largest) *
                                            128), /* the last block's power is 2^7 */
              "%s: max_abs %g", host_recipe_name(cases[i].recipe), error.max_abs);
    }
}

Test(host_error, tiny_elements_beside_a_large_one_are_counted_as_zeroed)
{
    static float x[8 * 64];

    for (host_recipe recipe = HOST_NVFP4_TENSOR; recipe < HOST_RECIPES; recipe++) {
        fp4_error error;
        size_t tiny = 0;
        for (size_t at = 0; at < 8 * 64; at++) {
            const size_t place = at % 16;
            const int is_tiny = place >= 1 && place <= at / 64 + 1;
            x[at] = place == 0 ? 6.0f : is_tiny ? (at % 3 ? 1e-6f : -1e-6f) : at % 2 ? -0.0f : 0.0f;
            tiny += (size_t)is_tiny;
        }
        error = error_of(recipe, x);
        CHECK(error.zeroed == (double)tiny / (8 * 64), "%s: %g of %zu in %d",
              host_recipe_name(recipe), error.zeroed, tiny, 8 * 64);
        CHECK(error.saturated == 0, "%s: saturated %g", host_recipe_name(recipe), error.saturated);
    }
}

Test(host_error, a_block_whose_scale_underflows_is_both_saturated_and_zeroed)
{
    static float x[8 * 64];
    fp4_error error;

    for (size_t at = 0; at < 8 * 64; at++) {
        x[at] = at < 16 ? 1e-30f : 6.0f; /* the scale of block 0 is 0, its codes are 7 */
    }
    error = error_of(HOST_NVFP4_TENSOR, x);
    CHECK(error.saturated == 16.0 / 512, "saturated %g", error.saturated);
    CHECK(error.zeroed == 16.0 / 512, "zeroed %g", error.zeroed);
}

Test(host_error, nan_and_infinity_spoil_the_sums_but_not_the_shares)
{
    static float x[8 * 64];

    for (int i = 0; i < 3; i++) {
        static const uint32_t bad[] = {0x7fc00000u, 0x7f800000u, 0xff800000u};
        fp4_error error;
        for (size_t at = 0; at < 8 * 64; at++) {
            x[at] = at % 16 == 0 ? 6.0f : at % 16 == 1 ? 1e-6f : 0.0f;
        }
        x[300] = host_bits(bad[i]);
        error = error_of(HOST_NVFP4_TENSOR, x);
        CHECK(!isfinite(error.max_abs), "max_abs %g", error.max_abs);
        CHECK(!isfinite(error.mse), "mse %g", error.mse);
        CHECK(!isfinite(error.sqnr_db), "sqnr %g", error.sqnr_db);
        CHECK(error.zeroed >= 31.0 / 512 && error.zeroed <= 33.0 / 512, "zeroed %g", error.zeroed);
        CHECK(error.saturated == (i == 0 ? 0 : 1.0 / 512), "saturated %g", error.saturated);
    }
}

Test(host_error, bad_arguments_are_refused_and_the_result_is_untouched)
{
    static float x[5 * 64];
    static const unsigned unknown[] = {5, 255, 0xffffffffu};
    const fp4_matrix good = fp4_matrix_f32(x, 5, 64, 64);

    for (int l = 0; l < 5 * 3; l++) {
        static const host_recipe recipes[] = {HOST_NVFP4_TOKENS, HOST_MXFP4_UP, HOST_MXFP8_UP,
                                              HOST_NVFP4_32_TOKENS, HOST_MXFP4_16_UP};
        host_tensor h = host_tensor_new(recipes[l / 3], layouts[l % 3], 5, 64);
        const fp4_error untouched = {1, 2, 3, 4, 5};
        fp4_error error = untouched;
        fp4_matrix m[11];
        fp4_tensor t[11];
        static const fp4_status status[11] = {FP4_SMALL_BUFFER, FP4_SMALL_BUFFER, FP4_NULL,
                                              FP4_NULL,         FP4_NULL,         FP4_BAD_SHAPE,
                                              FP4_BAD_SHAPE,    FP4_BAD_TYPE,     FP4_BAD_STRIDE,
                                              FP4_BAD_SCALE,    FP4_BAD_SHAPE};
        for (int i = 0; i < 11; i++) {
            m[i] = good;
            t[i] = h.t;
        }
        t[0].q_bytes--;
        t[1].sf_bytes--;
        t[2].q = NULL;
        t[3].sf = NULL;
        m[4].data = NULL;
        t[5].rows = m[6].rows = 4;
        m[7].dtype = (fp4_dtype)4;
        m[8].row_stride = 63;
        m[9].dtype = FP4_E4M3; /* x is long enough to be read as that */
        m[9].dec = 0;
        m[10].cols = 63;
        CHECK_EQ(host_quantize(recipes[l / 3], good, &(host_level){1.0f, NULL, 1.0f}, &h.t), FP4_OK,
                 "quantize");
        for (int i = 0; i < 11; i++) {
            CHECK_EQ(fp4_ref_error(m[i], &t[i], &error), status[i], "case %d", i);
        }
        for (int i = 0; i < 3; i++) {
            t[0] = h.t;
            t[0].layout = (fp4_layout)unknown[i];
            CHECK_EQ(fp4_ref_error(good, &t[0], &error), FP4_BAD_TYPE, "layout %u", unknown[i]);
            t[0] = h.t;
            t[0].format = (fp4_format)unknown[i];
            CHECK_EQ(fp4_ref_error(good, &t[0], &error), FP4_BAD_TYPE, "format %u", unknown[i]);
        }
        CHECK_EQ(fp4_ref_error(good, NULL, &error), FP4_NULL, "tensor");
        CHECK_EQ(fp4_ref_error(good, &h.t, NULL), FP4_NULL, "result");
        CHECK(memcmp(&error, &untouched, sizeof error) == 0, "the result was written");
        host_tensor_free(h);
    }
}

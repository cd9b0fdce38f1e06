/*
 * fp4/host/quant.h: what quantize, dequantize and amax refuse, with which status, and that a
 * refused call has written nothing - not into a buffer, and not into the tensor either.
 */
#include <fp4/host/quant.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const char *const layout_names[] = {"128x4", "8x4", "linear"};
static const char *const format_names[] = {"NVFP4", "MXFP4", "MXFP8", "NVFP4/32", "MXFP4/16"};

/* Everything that a call can touch, valid, and a copy of it from before the call. */
enum { WORLD_ROWS = 5, WORLD_COLS = 64 };

typedef struct world {
    float x[WORLD_ROWS * WORLD_COLS];
    uint8_t q[WORLD_ROWS * WORLD_COLS];
    uint8_t sf[512];
    float row_dec[WORLD_ROWS];
    float row_enc[WORLD_ROWS];
    float y[WORLD_ROWS * WORLD_COLS];
    float amax;
    fp4_tensor t;
    fp4_matrix m;
    host_level level;
    host_recipe recipe;
} world;

static void world_reset(world *w, host_recipe recipe, int layout)
{
    memset(w, 0, sizeof *w);
    memset(w->q, 0x7f, sizeof w->q);
    memset(w->sf, 0x7f, sizeof w->sf);
    w->recipe = recipe;
    w->amax = -7.0f;
    for (size_t i = 0; i < WORLD_ROWS * WORLD_COLS; i++) {
        w->x[i] = (float)(i % 17) - 8.0f;
        w->y[i] = 77.0f;
    }
    for (size_t i = 0; i < WORLD_ROWS; i++) {
        w->row_dec[i] = 77.0f;
        w->row_enc[i] = 2.0f;
    }
    w->m = fp4_matrix_f32(w->x, WORLD_ROWS, WORLD_COLS, WORLD_COLS);
    w->level.global_enc = 2.0f;
    w->level.row_enc = w->row_enc;
    w->level.base_dec = 0.5f;
    w->t = fp4_tensor_view(
        host_recipe_format(recipe), layouts[layout], WORLD_ROWS, WORLD_COLS, w->q,
        (size_t)WORLD_ROWS * WORLD_COLS / (recipe >= HOST_MXFP8_UP ? 1u : 2u), w->sf,
        host_sf_bytes(layouts[layout], WORLD_ROWS, WORLD_COLS / host_recipe_block(recipe)));
    w->t.global_dec = 77.0f;
    if (host_has_row_dec(recipe)) {
        w->t.row_dec = w->row_dec;
        w->t.row_dec_bytes = sizeof w->row_dec;
    }
}

/* The call must answer `status` and leave every byte of the world as it was. */
static void refuses_to_quantize(world *w, fp4_status status, const char *what)
{
    const world before = *w;

    CHECK_EQ(host_quantize(w->recipe, w->m, &w->level, &w->t), status, "%s, %s, %s",
             host_recipe_name(w->recipe), layout_names[w->t.layout % 3u], what);
    CHECK(memcmp(&before, w, sizeof before) == 0, "%s, %s: something was written",
          host_recipe_name(w->recipe), what);
}

static void refuses_to_dequantize(world *w, size_t y_bytes, size_t stride, fp4_status status,
                                  const char *what)
{
    const world before = *w;

    CHECK_EQ(fp4_ref_dequantize(&w->t, w->y, y_bytes, stride), status, "%s, %s",
             host_recipe_name(w->recipe), what);
    CHECK(memcmp(&before, w, sizeof before) == 0, "%s, %s: something was written",
          host_recipe_name(w->recipe), what);
}

static void refuses_amax(world *w, fp4_status status, const char *what)
{
    const world before = *w;

    CHECK_EQ(fp4_ref_amax(w->m, &w->amax), status, "amax, %s", what);
    CHECK(memcmp(&before, w, sizeof before) == 0, "amax, %s: something was written", what);
}

/* Runs a change of the world, then a call, for every recipe and layout. */
#define FOR_ALL_WORLDS(w) \
    for (int i_ = 0; i_ < HOST_RECIPES * 3; i_++) \
        if (world_reset(&(w), (host_recipe)(i_ / 3), i_ % 3), 1)

Test(host_quant, the_world_of_the_error_tests_is_valid)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        CHECK_EQ(host_quantize(w.recipe, w.m, &w.level, &w.t), FP4_OK, "recipe %d", w.recipe);
        CHECK_EQ(fp4_ref_dequantize(&w.t, w.y, sizeof w.y, WORLD_COLS), FP4_OK, "recipe %d",
                 w.recipe);
        CHECK_EQ(fp4_ref_amax(w.m, &w.amax), FP4_OK, "recipe %d", w.recipe);
        CHECK(w.amax == 8.0f, "amax %g", (double)w.amax);
    }
}

Test(host_quant, bad_shapes_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        const size_t block = host_recipe_block(w.recipe);
        static const size_t odd[] = {1, 2, 8, 15, 17};
        for (size_t i = 0; i < 5; i++) {
            world_reset(&w, w.recipe, i_ % 3);
            w.m.cols = w.t.cols = WORLD_COLS - odd[i];
            refuses_to_quantize(&w, FP4_BAD_SHAPE, "columns are not whole blocks");
            refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_BAD_SHAPE, "not whole blocks");
            w.t.cols = WORLD_COLS;
            refuses_to_quantize(&w, FP4_BAD_SHAPE, "the input's columns are not whole blocks");
            w.m.cols = block;
            w.t.cols = WORLD_COLS - odd[i];
            refuses_to_quantize(&w, FP4_BAD_SHAPE, "the tensor's columns are not whole blocks");
        }
        world_reset(&w, w.recipe, i_ % 3);
        w.t.cols = WORLD_COLS - block;
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "the tensor is narrower than the input");
        world_reset(&w, w.recipe, i_ % 3);
        w.m.rows = WORLD_ROWS - 1;
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "fewer rows in the input");
        w.m.rows = WORLD_ROWS;
        w.t.rows = WORLD_ROWS - 1;
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "fewer rows in the tensor");
    }
}

Test(host_quant, sizes_that_overflow_are_refused_and_nothing_is_written)
{
    static const size_t huge[] = {SIZE_MAX,         SIZE_MAX - 1,     SIZE_MAX - 126,
                                  SIZE_MAX - 127,   SIZE_MAX / 2 + 1, SIZE_MAX / 32 + 1,
                                  SIZE_MAX / 4 + 1, (size_t)1 << 62};
    static world w;

    FOR_ALL_WORLDS(w)
    {
        for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
            world_reset(&w, w.recipe, i_ % 3);
            w.m.rows = w.t.rows = huge[i];
            refuses_to_quantize(&w, FP4_BAD_SHAPE, "too many rows");
            refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_BAD_SHAPE, "too many rows");
            refuses_amax(&w, FP4_BAD_SHAPE, "too many rows");
        }
        world_reset(&w, w.recipe, i_ % 3);
        w.m.row_stride = SIZE_MAX;
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "rows * stride overflows");
        refuses_amax(&w, FP4_BAD_SHAPE, "rows * stride overflows");
        w.m.row_stride = SIZE_MAX / WORLD_ROWS; /* in elements it fits, in bytes it does not */
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "bytes of the input overflow");
        refuses_amax(&w, FP4_BAD_SHAPE, "bytes of the input overflow");
        world_reset(&w, w.recipe, i_ % 3);
        refuses_to_dequantize(&w, SIZE_MAX, SIZE_MAX, FP4_BAD_SHAPE, "rows * stride overflows");
        refuses_to_dequantize(&w, sizeof w.y, SIZE_MAX / WORLD_ROWS, FP4_SMALL_BUFFER,
                              "a stride far beyond the buffer");
        w.m.rows = w.t.rows = 1;
        w.t.cols = SIZE_MAX & ~(size_t)31; /* codes fit; 128 rows of scales do not */
        refuses_to_quantize(&w, w.t.layout == FP4_LAYOUT_128X4 ? FP4_BAD_SHAPE : FP4_SMALL_BUFFER,
                            "scales of 2^64 columns");
        w.t.rows = w.m.rows = 2;
        refuses_to_quantize(&w, FP4_BAD_SHAPE, "rows * columns overflow");
    }
}

Test(host_quant, bad_strides_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        w.m.row_stride = WORLD_COLS - 1;
        refuses_to_quantize(&w, FP4_BAD_STRIDE, "stride < cols");
        refuses_amax(&w, FP4_BAD_STRIDE, "stride < cols");
        w.m.row_stride = 0;
        refuses_to_quantize(&w, FP4_BAD_STRIDE, "stride 0");
        refuses_amax(&w, FP4_BAD_STRIDE, "stride 0");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS - 1, FP4_BAD_STRIDE, "stride < cols");
    }
}

Test(host_quant, small_buffers_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        w.t.q_bytes--;
        refuses_to_quantize(&w, FP4_SMALL_BUFFER, "one code byte too few");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_SMALL_BUFFER, "codes");
        w.t.q_bytes++;
        w.t.sf_bytes--;
        refuses_to_quantize(&w, FP4_SMALL_BUFFER, "one scale byte too few");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_SMALL_BUFFER, "scales");
        w.t.sf_bytes++;
        w.t.row_dec = w.row_dec;
        w.t.row_dec_bytes = sizeof w.row_dec - 1;
        if (host_has_row_dec(w.recipe)) {
            refuses_to_quantize(&w, FP4_SMALL_BUFFER, "one byte of row_dec too few");
        }
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_SMALL_BUFFER, "row_dec");
        w.t.row_dec_bytes++;
        refuses_to_dequantize(&w, sizeof w.y - 1, WORLD_COLS, FP4_SMALL_BUFFER, "decoded");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS + 1, FP4_SMALL_BUFFER, "a wider stride");
        refuses_to_dequantize(&w, 0, WORLD_COLS, FP4_SMALL_BUFFER, "no room");
    }
}

Test(host_quant, null_pointers_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        world before;
        w.m.data = NULL;
        refuses_to_quantize(&w, FP4_NULL, "input");
        refuses_amax(&w, FP4_NULL, "input");
        w.m.data = w.x;
        w.t.q = NULL;
        refuses_to_quantize(&w, FP4_NULL, "codes");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_NULL, "codes");
        w.t.q = w.q;
        w.t.sf = NULL;
        refuses_to_quantize(&w, FP4_NULL, "scales");
        refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_NULL, "scales");
        w.t.sf = w.sf;
        if (host_has_row_dec(w.recipe)) {
            w.t.row_dec = NULL;
            refuses_to_quantize(&w, FP4_NULL, "row_dec");
            w.t.row_dec = w.row_dec;
        }
        if (host_is_rows(w.recipe)) {
            w.level.row_enc = NULL;
            refuses_to_quantize(&w, FP4_NULL, "row_enc");
            w.level.row_enc = w.row_enc;
        }
        before = w;
        CHECK_EQ(host_quantize(w.recipe, w.m, &w.level, NULL), FP4_NULL, "tensor");
        CHECK_EQ(fp4_ref_dequantize(NULL, w.y, sizeof w.y, WORLD_COLS), FP4_NULL, "tensor");
        CHECK_EQ(fp4_ref_dequantize(&w.t, NULL, sizeof w.y, WORLD_COLS), FP4_NULL, "decoded");
        CHECK_EQ(fp4_ref_amax(w.m, NULL), FP4_NULL, "amax");
        CHECK(memcmp(&before, &w, sizeof w) == 0, "something was written");
    }
}

Test(host_quant, scales_that_are_not_positive_and_finite_are_refused_and_nothing_is_written)
{
    static const uint32_t bad[] = {0x00000000u, 0x80000000u, 0xbf800000u, 0x80000001u, 0x7f800000u,
                                   0xff800000u, 0x7fc00000u, 0x7f800001u, 0xffffffffu};
    /* positive and finite, but the reciprocal of a second-level scale is infinite up to 2^-128 */
    static const uint32_t too_small[] = {0x00000001u, 0x00012345u, 0x00200000u};
    static const uint32_t good[] = {0x00200001u, 0x00800000u, 0x3f800000u, 0x7f7fffffu};
    static world w;

    FOR_ALL_WORLDS(w)
    {
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
            const float scale = host_bits(bad[i]);
            world_reset(&w, w.recipe, i_ % 3);
            w.m.dtype = FP4_E4M3;
            w.m.dec = scale;
            refuses_to_quantize(&w, FP4_BAD_SCALE, "the input's own scale");
            refuses_amax(&w, FP4_BAD_SCALE, "the input's own scale");
            world_reset(&w, w.recipe, i_ % 3);
            w.level.global_enc = w.level.base_dec = scale;
            w.row_enc[i % 2 ? WORLD_ROWS - 1 : 0] = scale;
            if (host_is_nvfp4(w.recipe)) {
                refuses_to_quantize(&w, FP4_BAD_SCALE, "second-level scale");
            }
        }
        for (size_t i = 0; i < 3 && host_is_nvfp4(w.recipe); i++) {
            world_reset(&w, w.recipe, i_ % 3);
            w.level.global_enc = w.level.base_dec = w.row_enc[3] = host_bits(too_small[i]);
            refuses_to_quantize(&w, FP4_BAD_SCALE, "a scale whose reciprocal is infinite");
        }
        for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
            world_reset(&w, w.recipe, i_ % 3);
            w.level.global_enc = w.level.base_dec = w.row_enc[3] = host_bits(good[i]);
            CHECK_EQ(host_quantize(w.recipe, w.m, &w.level, &w.t), FP4_OK, "%08x", good[i]);
        }
    }
}

Test(host_quant, unknown_and_unsuitable_types_are_refused_and_nothing_is_written)
{
    static world w;

    FOR_ALL_WORLDS(w)
    {
        for (unsigned i = 0; i < 3; i++) {
            static const unsigned unknown[] = {4, 255, 0xffffffffu};
            world_reset(&w, w.recipe, i_ % 3);
            w.m.dtype = (fp4_dtype)unknown[i];
            refuses_to_quantize(&w, FP4_BAD_TYPE, "unknown element type");
            refuses_amax(&w, FP4_BAD_TYPE, "unknown element type");
            w.m.dtype = FP4_F32;
            w.t.layout = (fp4_layout)(unknown[i] - (i == 0));
            refuses_to_quantize(&w, FP4_BAD_TYPE, "unknown layout");
            refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_BAD_TYPE, "unknown layout");
            w.t.layout = FP4_LAYOUT_8X4;
            w.t.format = (fp4_format)(unknown[i] + (i == 0));
            refuses_to_quantize(&w, FP4_BAD_TYPE, "unknown format");
            refuses_to_dequantize(&w, sizeof w.y, WORLD_COLS, FP4_BAD_TYPE, "unknown format");
        }
        for (int format = 0; format < 5; format++) {
            static const int families[] = {0, 1, 2, 0, 1};
            world_reset(&w, w.recipe, i_ % 3);
            w.t.format = (fp4_format)format;
            if (families[format] != families[host_recipe_format(w.recipe)]) {
                refuses_to_quantize(&w, FP4_BAD_TYPE, format_names[format]);
            }
        }
        world_reset(&w, w.recipe, i_ % 3);
        w.t.row_dec = w.row_dec;
        w.t.row_dec_bytes = sizeof w.row_dec;
        if (!host_has_row_dec(w.recipe)) {
            refuses_to_quantize(&w, FP4_BAD_TYPE, "a row_dec that has no use");
        }
    }
}

Test(host_quant, every_status_has_a_text_of_its_own)
{
    for (int a = FP4_OK; a <= FP4_BAD_TYPE + 1; a++) {
        const char *text = fp4_status_text((fp4_status)a);
        CHECK(text != NULL && strlen(text) >= 2, "status %d", a);
        for (int b = FP4_OK; b < a; b++) {
            CHECK(strcmp(text, fp4_status_text((fp4_status)b)) != 0, "%d and %d: %s", a, b, text);
        }
    }
    CHECK(strcmp(fp4_status_text(FP4_OK), "ok") == 0, "%s", fp4_status_text(FP4_OK));
}

Test(host_quant, a_second_level_scale_that_cannot_be_is_refused_by_dequantize)
{
    static const uint32_t bad[] = {0x80000000u, 0xbf800000u, 0xff800000u, 0x7fc00000u, 0xffc00000u};
    static const uint32_t good[] = {0x00000000u, 0x00000001u, 0x3f800000u, 0x7f7fffffu};
    static world w;

    world_reset(&w, HOST_NVFP4_TENSOR, 0);
    CHECK_EQ(host_quantize(w.recipe, w.m, &w.level, &w.t), FP4_OK, "quantize");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        w.t.global_dec = host_bits(bad[i]);
        CHECK_EQ(fp4_ref_dequantize(&w.t, w.y, sizeof w.y, WORLD_COLS), FP4_BAD_SCALE, "%08x",
                 bad[i]);
    }
    w.t.global_dec = host_bits(0x7f800000u);
    CHECK_EQ(fp4_ref_dequantize(&w.t, w.y, sizeof w.y, WORLD_COLS), FP4_BAD_SCALE, "infinity");
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        w.t.global_dec = host_bits(good[i]);
        CHECK_EQ(fp4_ref_dequantize(&w.t, w.y, sizeof w.y, WORLD_COLS), FP4_OK, "%08x", good[i]);
    }

    world_reset(&w, HOST_NVFP4_TOKENS, 0);
    CHECK_EQ(host_quantize(w.recipe, w.m, &w.level, &w.t), FP4_OK, "quantize");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const float kept = w.t.row_dec[WORLD_ROWS - 1];
        w.t.row_dec[WORLD_ROWS - 1] = host_bits(bad[i]);
        CHECK_EQ(fp4_ref_dequantize(&w.t, w.y, sizeof w.y, WORLD_COLS), FP4_BAD_SCALE, "row %08x",
                 bad[i]);
        w.t.row_dec[WORLD_ROWS - 1] = kept;
    }
}

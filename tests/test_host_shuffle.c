/* fp4/host/shuffle.h: rows in the order of FlashInfer's matrix multiplications, their scales. */
#include <fp4/host/shuffle.h>

#include "golden.h"
#include "host_util.h"

static const size_t tiles[] = {16, 64, 128, 192, 256};
enum { N_TILES = sizeof tiles / sizeof tiles[0] };

/* The new place of a row of a block: they are dealt out in turn to four hands, or two, of eight. */
static size_t place_of(size_t row, size_t tile)
{
    const size_t block = tile % 128 == 0 ? 32 : 16, hands = block / 8;
    size_t place = row / block * block;

    for (size_t hand = 0; hand < row % hands; hand++) {
        place += 8; /* each hand has eight */
    }
    return place + row % block / hands;
}

static uint8_t *random_bytes(size_t n, uint64_t *state)
{
    uint8_t *x = (uint8_t *)host_zeros(n);

    for (size_t i = 0; i < n; i++) {
        x[i] = (uint8_t)(1u + host_below(state, 255)); /* no 0: padding is told apart */
    }
    return x;
}

/* ---------------------------------------------------------------- rows */

static void check_rows(size_t batches, size_t rows, size_t row_bytes, size_t tile, uint64_t *state)
{
    const size_t bytes = batches * rows * row_bytes;
    const host_buffer out = host_buffer_new(bytes, rows % 7), back = host_buffer_new(bytes, 3);
    uint8_t *x = random_bytes(bytes, state), *expected = (uint8_t *)host_zeros(bytes);
    const char *what = "rows";

    for (size_t row = 0; row < batches * rows; row++) {
        memcpy(expected + place_of(row, tile) * row_bytes, x + row * row_bytes, row_bytes);
    }
    CHECK_EQ(fp4_ref_shuffle_rows(x, bytes, out.bytes, bytes, batches, rows, row_bytes, tile),
             FP4_OK, "%zu x %zu x %zu, tile %zu", batches, rows, row_bytes, tile);
    host_expect_bytes(out.bytes, expected, bytes, what);
    CHECK_EQ(
        fp4_ref_unshuffle_rows(out.bytes, bytes, back.bytes, bytes, batches, rows, row_bytes, tile),
        FP4_OK, "%zu x %zu x %zu, tile %zu", batches, rows, row_bytes, tile);
    host_expect_bytes(back.bytes, x, bytes, "rows, and back");
    host_buffer_free(out, what);
    host_buffer_free(back, what);
    free(x);
    free(expected);
}

Test(host_shuffle, rows_there_and_back)
{
    uint64_t state = 1;

    for (size_t i = 0; i < N_TILES * 6 * 3; i++) {
        const size_t block = tiles[i % N_TILES] % 128 == 0 ? 32 : 16;
        check_rows(1 + i % 3, block * (1 + i / N_TILES % 6), 1 + host_below(&state, 40),
                   tiles[i % N_TILES], &state);
    }
}

Test(host_shuffle, rows_are_flashinfers)
{
    static const size_t cases[][2] = {{128, 64}, {128, 128}, {256, 64}, {256, 128}};

    for (int i = 0; i < 4; i++) {
        const size_t rows = cases[i][0], tile = cases[i][1], bytes = rows * 16;
        const int32_t *expected = (const int32_t *)golden_data(
            golden_path("layouts/fi.shuffle_matrix_a.M%zu.tile%zu.npy", rows, tile), "<i4",
            rows * 4);
        int32_t x[256 * 4], out[256 * 4];
        for (int32_t k = 0; k < (int32_t)rows * 4; k++) {
            x[k] = k;
        }
        CHECK_EQ(fp4_ref_shuffle_rows(x, bytes, out, bytes, 1, rows, 16, tile), FP4_OK, "%zu rows",
                 rows);
        host_expect_bytes((const uint8_t *)out, (const uint8_t *)expected, bytes, "FlashInfer");
    }
}

/* ---------------------------------------------------------------- scales */

/* Scales whose rows are shuffled and then laid out in tiles, each on its own. */
static void check_scales(size_t element, size_t batches, size_t rows, size_t cols, size_t tile,
                         uint64_t *state)
{
    const size_t bytes = batches * rows * cols * element, row_bytes = cols * element;
    const size_t tiled = batches * host_sf_bytes(FP4_LAYOUT_128X4, rows, cols) * element;
    const host_buffer out = host_buffer_new(tiled, cols % 5), back = host_buffer_new(bytes, 1);
    uint8_t *x = random_bytes(bytes, state), *shuffled = (uint8_t *)host_zeros(bytes);
    uint8_t *expected = (uint8_t *)host_zeros(tiled);

    for (size_t row = 0; row < batches * rows; row++) {
        memcpy(shuffled + place_of(row, tile) * row_bytes, x + row * row_bytes, row_bytes);
    }
    CHECK_EQ(fp4_ref_sf_swizzle(FP4_LAYOUT_128X4, shuffled, bytes, expected, tiled, element,
                                batches, rows, cols),
             FP4_OK, "swizzle");
    CHECK_EQ(fp4_ref_shuffle_sf(x, bytes, out.bytes, tiled, element, batches, rows, cols, tile),
             FP4_OK, "%zu x %zu x %zu, tile %zu", batches, rows, cols, tile);
    host_expect_bytes(out.bytes, expected, tiled, "scales");
    CHECK_EQ(fp4_ref_unshuffle_sf(out.bytes, tiled, back.bytes, bytes, element, batches, rows, cols,
                                  tile),
             FP4_OK, "%zu x %zu x %zu, tile %zu", batches, rows, cols, tile);
    host_expect_bytes(back.bytes, x, bytes, "scales, and back");
    host_buffer_free(out, "scales");
    host_buffer_free(back, "scales, and back");
    free(x);
    free(shuffled);
    free(expected);
}

Test(host_shuffle, scales_there_and_back)
{
    uint64_t state = 2;

    for (size_t i = 0; i < N_TILES * 6 * 4; i++) {
        const size_t block = tiles[i % N_TILES] % 128 == 0 ? 32 : 16;
        check_scales(1 + i % 2, 1 + i % 3, block * (1 + i / N_TILES % 12),
                     1 + host_below(&state, 20), tiles[i % N_TILES], &state);
    }
}

/* ---------------------------------------------------------------- tensors */

Test(host_shuffle, a_tensor_is_its_rows)
{
    static const host_recipe recipes[] = {HOST_NVFP4_TENSOR, HOST_NVFP4_TOKENS, HOST_MXFP4_UP,
                                          HOST_MXFP8_UP};
    enum { ROWS = 160, COLS = 96 };
    static float x[ROWS * COLS], moved[ROWS * COLS];
    uint64_t state = 3;

    for (size_t i = 0; i < ROWS * COLS; i++) {
        x[i] = host_random_scale(&state, -6, 6);
    }
    for (size_t i = 0; i < 4 * N_TILES; i++) { /* of shuffled rows the same, quantized to 128x4 */
        const size_t tile = tiles[i % N_TILES];
        host_tensor from = host_tensor_new(recipes[i / N_TILES], FP4_LAYOUT_LINEAR, ROWS, COLS);
        host_tensor to = host_tensor_new(recipes[i / N_TILES], FP4_LAYOUT_128X4, ROWS, COLS);
        host_tensor expected = host_tensor_new(recipes[i / N_TILES], FP4_LAYOUT_128X4, ROWS, COLS);
        const host_level level = host_level_of(40.0f, ROWS);
        for (size_t row = 0; row < ROWS; row++) {
            memcpy(moved + place_of(row, tile) * COLS, x + row * COLS, COLS * sizeof(float));
        }
        cr_assert(host_quantize(recipes[i / N_TILES], fp4_matrix_f32(x, ROWS, COLS, COLS), &level,
                                &from.t) == FP4_OK);
        cr_assert(host_quantize(recipes[i / N_TILES], fp4_matrix_f32(moved, ROWS, COLS, COLS),
                                &level, &expected.t) == FP4_OK);
        CHECK_EQ(fp4_ref_shuffle(&from.t, tile, &to.t), FP4_OK, "tile %zu", tile);
        host_expect_bytes(to.q.bytes, expected.q.bytes, to.q.size, "codes");
        host_expect_bytes(to.sf.bytes, expected.sf.bytes, to.sf.size, "scales");
        CHECK_EQ(host_bits_of(to.t.global_dec), host_bits_of(expected.t.global_dec), "global_dec");
        if (from.t.row_dec != NULL) {
            host_expect_bytes(to.row_dec.bytes, expected.row_dec.bytes, to.row_dec.size, "row_dec");
        }
        host_level_free(level);
        host_tensor_free(from);
        host_tensor_free(to);
        host_tensor_free(expected);
    }
}

/* ---------------------------------------------------------------- errors */

enum { BATCHES = 2, ROWS = 32, COLS = 3, BYTES = BATCHES * ROWS * COLS, TILED = BATCHES * 512 };

static uint8_t in[2 * TILED], out[2 * TILED];

static void expect_untouched(const char *what)
{
    for (size_t i = 0; i < sizeof out; i++) {
        CHECK_EQ(out[i], 0x7f, "%s: byte %zu was written", what, i);
    }
}

Test(host_shuffle, bad_rows_are_refused_and_nothing_is_written)
{
    static const struct {
        int has_in, has_out;
        size_t in_bytes, out_bytes, batches, rows, row_bytes, tile;
        fp4_status status;
    } calls[] = {
        {0, 1, BYTES, BYTES, BATCHES, ROWS, COLS, 128, FP4_NULL},
        {1, 0, BYTES, BYTES, BATCHES, ROWS, COLS, 128, FP4_NULL},
        {1, 1, BYTES - 1, BYTES, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, BYTES, BYTES - 1, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, BYTES, BYTES, BATCHES, 16, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, BYTES, BYTES, BATCHES, 8, COLS, 64, FP4_BAD_SHAPE},
        {1, 1, BYTES, BYTES, BATCHES, ROWS, COLS, 0, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, SIZE_MAX, ROWS, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, (size_t)1 << 59, 32, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, 1, SIZE_MAX - 31, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, 1, ROWS, SIZE_MAX, 128, FP4_BAD_SHAPE},
    };

    memset(out, 0x7f, sizeof out);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK_EQ(fp4_ref_shuffle_rows(calls[i].has_in ? in : NULL, calls[i].in_bytes,
                                      calls[i].has_out ? out : NULL, calls[i].out_bytes,
                                      calls[i].batches, calls[i].rows, calls[i].row_bytes,
                                      calls[i].tile),
                 calls[i].status, "call %zu", i);
        CHECK_EQ(fp4_ref_unshuffle_rows(calls[i].has_in ? in : NULL, calls[i].in_bytes,
                                        calls[i].has_out ? out : NULL, calls[i].out_bytes,
                                        calls[i].batches, calls[i].rows, calls[i].row_bytes,
                                        calls[i].tile),
                 calls[i].status, "call %zu, back", i);
        expect_untouched("rows");
    }
    CHECK_EQ(fp4_ref_shuffle_rows(NULL, 0, NULL, 0, 0, ROWS, COLS, 128), FP4_OK, "no matrices");
    CHECK_EQ(fp4_ref_shuffle_rows(NULL, 0, NULL, 0, 1, 0, COLS, 128), FP4_OK, "no rows");
    CHECK_EQ(fp4_ref_shuffle_rows(NULL, 0, NULL, 0, 1, ROWS, 0, 128), FP4_OK, "no bytes");
    expect_untouched("of nothing");
}

Test(host_shuffle, bad_scales_are_refused_and_nothing_is_written)
{
    static const struct {
        int has_in, has_out;
        size_t in_bytes, out_bytes, element, batches, rows, cols, tile;
        fp4_status status;
    } calls[] = {
        {0, 1, TILED, TILED, 1, BATCHES, ROWS, COLS, 128, FP4_NULL},
        {1, 0, TILED, TILED, 1, BATCHES, ROWS, COLS, 128, FP4_NULL},
        {1, 1, BYTES - 1, TILED, 1, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, TILED, BYTES - 1, 1, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, BYTES, BYTES, 1, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, TILED, TILED, 2, BATCHES, ROWS, COLS, 128, FP4_SMALL_BUFFER},
        {1, 1, TILED, TILED, 0, BATCHES, ROWS, COLS, 128, FP4_BAD_TYPE},
        {1, 1, TILED, TILED, 4, BATCHES, ROWS, COLS, 128, FP4_BAD_TYPE},
        {1, 1, TILED, TILED, 1, BATCHES, 48, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, TILED, TILED, 1, BATCHES, 40, COLS, 64, FP4_BAD_SHAPE},
        {1, 1, TILED, TILED, 1, BATCHES, ROWS, COLS, 0, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, 1, SIZE_MAX, ROWS, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, 1, 1, SIZE_MAX - 31, COLS, 128, FP4_BAD_SHAPE},
        {1, 1, SIZE_MAX, SIZE_MAX, 1, 1, ROWS, SIZE_MAX, 128, FP4_BAD_SHAPE},
    };

    memset(out, 0x7f, sizeof out);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        CHECK_EQ(fp4_ref_shuffle_sf(calls[i].has_in ? in : NULL, calls[i].in_bytes,
                                    calls[i].has_out ? out : NULL, calls[i].out_bytes,
                                    calls[i].element, calls[i].batches, calls[i].rows,
                                    calls[i].cols, calls[i].tile),
                 calls[i].status, "call %zu", i);
        CHECK_EQ(fp4_ref_unshuffle_sf(calls[i].has_in ? in : NULL, calls[i].in_bytes,
                                      calls[i].has_out ? out : NULL, calls[i].out_bytes,
                                      calls[i].element, calls[i].batches, calls[i].rows,
                                      calls[i].cols, calls[i].tile),
                 calls[i].status, "call %zu, back", i);
        expect_untouched("scales");
    }
    CHECK_EQ(fp4_ref_shuffle_sf(NULL, 0, NULL, 0, 1, 0, ROWS, COLS, 128), FP4_OK, "no matrices");
    CHECK_EQ(fp4_ref_shuffle_sf(NULL, 0, NULL, 0, 1, 1, 0, COLS, 128), FP4_OK, "no rows");
    CHECK_EQ(fp4_ref_shuffle_sf(NULL, 0, NULL, 0, 1, 1, ROWS, 0, 128), FP4_OK, "no columns");
    expect_untouched("of nothing");
}

#define REFUSED(expected, what, change) \
    do { \
        fp4_tensor a = from.t, b = to.t; \
        size_t tile = 128; \
        change; \
        CHECK_EQ(fp4_ref_shuffle(&a, tile, &b), expected, what); \
    } while (0)

Test(host_shuffle, bad_tensors_are_refused_and_nothing_is_written)
{
    host_tensor from = host_tensor_new(HOST_NVFP4_TOKENS, FP4_LAYOUT_LINEAR, 64, 48);
    host_tensor to = host_tensor_new(HOST_NVFP4_TOKENS, FP4_LAYOUT_128X4, 64, 48);

    CHECK_EQ(fp4_ref_shuffle(NULL, 128, &to.t), FP4_NULL, "no tensor");
    CHECK_EQ(fp4_ref_shuffle(&from.t, 128, NULL), FP4_NULL, "no place");
    REFUSED(FP4_BAD_TYPE, "other formats", b.format = FP4_MXFP4_16);
    REFUSED(FP4_BAD_TYPE, "unknown formats", a.format = b.format = (fp4_format)5);
    REFUSED(FP4_BAD_TYPE, "not linear", a.layout = FP4_LAYOUT_128X4);
    REFUSED(FP4_BAD_TYPE, "linear", b.layout = FP4_LAYOUT_LINEAR);
    REFUSED(FP4_BAD_TYPE, "8x4", b.layout = FP4_LAYOUT_8X4);
    REFUSED(FP4_BAD_SHAPE, "other rows", b.rows = 32);
    REFUSED(FP4_BAD_SHAPE, "other columns", b.cols = 32);
    REFUSED(FP4_BAD_SHAPE, "blocks that are not whole", a.cols = b.cols = 40);
    REFUSED(FP4_BAD_SHAPE, "rows that are not whole blocks", a.rows = b.rows = 48);
    REFUSED(FP4_BAD_SHAPE, "no tile", tile = 0);
    REFUSED(FP4_BAD_SHAPE, "rows without end", a.rows = b.rows = SIZE_MAX - 31);
    REFUSED(FP4_NULL, "no codes", a.q = NULL);
    REFUSED(FP4_NULL, "no place for codes", b.q = NULL);
    REFUSED(FP4_NULL, "no scales", a.sf = NULL);
    REFUSED(FP4_NULL, "no place for scales", b.sf = NULL);
    REFUSED(FP4_NULL, "no place for row_dec", b.row_dec = NULL);
    REFUSED(FP4_SMALL_BUFFER, "few codes", a.q_bytes--);
    REFUSED(FP4_SMALL_BUFFER, "little place for codes", b.q_bytes--);
    REFUSED(FP4_SMALL_BUFFER, "few scales", a.sf_bytes--);
    REFUSED(FP4_SMALL_BUFFER, "little place for scales", b.sf_bytes--);
    REFUSED(FP4_SMALL_BUFFER, "few row_dec", a.row_dec_bytes--);
    REFUSED(FP4_SMALL_BUFFER, "little place for row_dec", b.row_dec_bytes--);
    for (size_t i = 0; i < to.q.size; i++) {
        CHECK_EQ(to.q.bytes[i], 0x7f, "code %zu was written", i);
    }
    for (size_t i = 0; i < to.sf.size; i++) {
        CHECK_EQ(to.sf.bytes[i], 0x7f, "scale %zu was written", i);
    }
    for (size_t i = 0; i < to.row_dec.size; i++) {
        CHECK_EQ(to.row_dec.bytes[i], 0x7f, "row_dec %zu was written", i);
    }
    REFUSED(FP4_OK, "no rows", a.rows = b.rows = 0; a.q = b.q = a.sf = b.sf = NULL;
            b.row_dec = NULL; a.q_bytes = b.q_bytes = a.sf_bytes = b.sf_bytes = 0);
    REFUSED(FP4_OK, "no columns", a.cols = b.cols = 0; a.q = b.q = a.sf = b.sf = NULL);
    REFUSED(FP4_OK, "as it is", (void)tile);
    host_tensor_free(from);
    host_tensor_free(to);
}

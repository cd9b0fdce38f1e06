/* fp4/host/layout.h: whole scale tensors from one layout to another. */
#include <fp4/host/layout.h>

#include "host_util.h"

static const fp4_layout layouts[] = {FP4_LAYOUT_128X4, FP4_LAYOUT_8X4, FP4_LAYOUT_LINEAR};
static const char *const layout_names[] = {"128x4", "8x4", "linear"};

/* Less, exactly and more than a tile of either kind, in both directions. */
static const size_t some_rows[] = {1, 2, 5, 7, 8, 9, 31, 32, 33, 64, 127, 128, 129, 257};
static const size_t some_cols[] = {1, 2, 3, 4, 5, 7, 8, 17, 65};
enum {
    N_ROWS = sizeof some_rows / sizeof some_rows[0],
    N_COLS = sizeof some_cols / sizeof some_cols[0]
};

static const char *text(fp4_layout from, fp4_layout to, size_t batches, size_t rows, size_t cols)
{
    static char buffer[128];

    snprintf(buffer, sizeof buffer, "%s to %s, %zu x %zu x %zu", layout_names[from],
             layout_names[to], batches, rows, cols);
    return buffer;
}

/* A batch of scales in a layout, each matrix padded on its own: byte `byte` of each element. */
static void place_batch(uint8_t *out, fp4_layout layout, const uint8_t *linear, size_t element,
                        size_t byte, size_t batches, size_t rows, size_t cols)
{
    const size_t one = host_sf_bytes(layout, rows, cols);
    uint8_t *from = (uint8_t *)host_zeros(rows * cols), *to = (uint8_t *)host_zeros(one);

    for (size_t b = 0; b < batches; b++) {
        for (size_t i = 0; i < rows * cols; i++) {
            from[i] = linear[(b * rows * cols + i) * element + byte];
        }
        memset(to, 0, one);
        host_place_scales(to, layout, from, rows, cols);
        for (size_t i = 0; i < one; i++) {
            out[(b * one + i) * element + byte] = to[i];
        }
    }
    free(from);
    free(to);
}

/* Converts random scales, with padding of 0xee in the input, and compares every byte. */
static void check_conversion(fp4_layout from, fp4_layout to, size_t element, size_t batches,
                             size_t rows, size_t cols)
{
    const char *what = text(from, to, batches, rows, cols);
    const size_t count = batches * rows * cols * element;
    const size_t from_bytes = batches * host_sf_bytes(from, rows, cols) * element;
    const size_t to_bytes = batches * host_sf_bytes(to, rows, cols) * element;
    const host_buffer in = host_buffer_new(from_bytes, count % 5);
    const host_buffer out = host_buffer_new(to_bytes, rows % 4);
    uint8_t *linear = (uint8_t *)host_zeros(count);
    uint8_t *scales = (uint8_t *)host_zeros(in.size), *expected = (uint8_t *)host_zeros(out.size);
    uint64_t state = count;

    for (size_t i = 0; i < count; i++) {
        linear[i] = (uint8_t)(1u + host_below(&state, 255)); /* no 0: padding is told apart */
    }
    for (size_t byte = 0; byte < element; byte++) {
        place_batch(scales, from, linear, element, byte, batches, rows, cols);
        place_batch(expected, to, linear, element, byte, batches, rows, cols);
    }
    for (size_t i = 0; i < in.size; i++) {
        in.bytes[i] = scales[i] == 0 ? 0xee : scales[i];
    }
    CHECK_EQ(fp4_ref_sf_convert(from, in.bytes, in.size, to, out.bytes, out.size, element, batches,
                                rows, cols),
             FP4_OK, "%s, elements of %zu", what, element);
    host_expect_bytes(out.bytes, expected, out.size, what);
    for (size_t i = 0; i < in.size; i++) {
        CHECK_EQ(in.bytes[i], scales[i] == 0 ? 0xee : scales[i], "%s: input byte %zu", what, i);
    }
    free(linear);
    free(scales);
    free(expected);
    host_buffer_free(in, what);
    host_buffer_free(out, what);
}

Test(host_layout, every_layout_converts_to_every_other_and_pads_with_zeros)
{
    for (int pair = 0; pair < 9; pair++) {
        for (size_t i = 0; i < N_ROWS * N_COLS; i++) {
            for (size_t batches = 1; batches <= 3; batches += 2) {
                for (size_t element = 1; element <= 2; element++) {
                    check_conversion(layouts[pair / 3], layouts[pair % 3], element, batches,
                                     some_rows[i / N_COLS], some_cols[i % N_COLS]);
                }
            }
        }
    }
}

Test(host_layout, swizzle_and_unswizzle_are_inverse)
{
    static uint8_t linear[6 * 257 * 17], back[6 * 257 * 17], tiled[6 * 384 * 20];
    uint64_t state = 17;

    for (int way = 0; way < 4; way++) { /* layouts and elements */
        const size_t element = 1 + (size_t)way / 2;
        const int l = way % 2;
        for (size_t i = 0; i < N_ROWS * 8; i++) {
            const size_t rows = some_rows[i / 8], cols = some_cols[i % 8], batches = 1 + i % 3;
            const size_t count = batches * rows * cols * element;
            const size_t bytes = batches * host_sf_bytes(layouts[l], rows, cols) * element;
            for (size_t j = 0; j < count; j++) {
                linear[j] = (uint8_t)host_random(&state);
            }
            memset(tiled, 0x7f, sizeof tiled);
            memset(back, 0x7f, sizeof back);
            CHECK_EQ(fp4_ref_sf_swizzle(layouts[l], linear, count, tiled, bytes, element, batches,
                                        rows, cols),
                     FP4_OK, "%zu x %zu x %zu", batches, rows, cols);
            CHECK_EQ(fp4_ref_sf_unswizzle(layouts[l], tiled, bytes, back, count, element, batches,
                                          rows, cols),
                     FP4_OK, "%zu x %zu x %zu", batches, rows, cols);
            host_expect_bytes(back, linear, count,
                              text(layouts[l], FP4_LAYOUT_LINEAR, batches, rows, cols));
            for (size_t j = bytes; j < sizeof tiled; j++) {
                CHECK_EQ(tiled[j], 0x7f, "%zu x %zu x %zu: byte %zu", batches, rows, cols, j);
            }
            for (size_t j = count; j < sizeof back; j++) {
                CHECK_EQ(back[j], 0x7f, "%zu x %zu x %zu: byte %zu", batches, rows, cols, j);
            }
        }
    }
}

Test(host_layout, a_converted_tensor_decodes_to_the_same_values)
{
    enum { ROWS = 133, COLS = 96 };
    static float x[ROWS * COLS], y[2][ROWS * COLS];
    uint64_t state = 5;

    for (size_t i = 0; i < ROWS * COLS; i++) {
        x[i] = host_random_scale(&state, -6, 6);
    }
    for (int pair = 0; pair < 9; pair++) {
        host_tensor a = host_tensor_new(HOST_NVFP4_TENSOR, layouts[pair / 3], ROWS, COLS);
        host_tensor b = host_tensor_new(HOST_NVFP4_TENSOR, layouts[pair % 3], ROWS, COLS);
        CHECK_EQ(fp4_ref_nvfp4_quantize(fp4_matrix_f32(x, ROWS, COLS, COLS), 40.0f, &a.t), FP4_OK,
                 "quantize");
        CHECK_EQ(fp4_ref_sf_convert(a.t.layout, a.t.sf, a.t.sf_bytes, b.t.layout, b.t.sf,
                                    b.t.sf_bytes, 1, 1, ROWS, COLS / 16),
                 FP4_OK, "convert");
        memcpy(b.q.bytes, a.q.bytes, a.q.size);
        b.t.global_dec = a.t.global_dec;
        CHECK_EQ(fp4_ref_dequantize(&a.t, y[0], sizeof y[0], COLS), FP4_OK, "dequantize");
        CHECK_EQ(fp4_ref_dequantize(&b.t, y[1], sizeof y[1], COLS), FP4_OK, "dequantize");
        host_expect_bytes((const uint8_t *)y[1], (const uint8_t *)y[0], sizeof y[0],
                          text(a.t.layout, b.t.layout, 1, ROWS, COLS / 16));
        host_tensor_free(a);
        host_tensor_free(b);
    }
}

Test(host_layout, nothing_to_convert_is_fine_and_writes_nothing)
{
    static const size_t shapes[][3] = {{0, 5, 3}, {2, 0, 3}, {2, 5, 0}, {0, 0, 0}};
    uint8_t *volatile null = NULL; /* gcc -O3 warns of a memset of 0 bytes at a null it can see */
    uint8_t in[2048], out[2048];

    memset(out, 0x7f, sizeof out);
    for (int pair = 0; pair < 9; pair++) {
        for (size_t i = 0; i < 4; i++) {
            const fp4_layout from = layouts[pair / 3], to = layouts[pair % 3];
            const size_t *s = shapes[i];
            CHECK_EQ(fp4_ref_sf_convert(from, null, 0, to, null, 0, 1, s[0], s[1], s[2]), FP4_OK,
                     "%s", text(from, to, s[0], s[1], s[2]));
            CHECK_EQ(
                fp4_ref_sf_convert(from, in, sizeof in, to, out, sizeof out, 1, s[0], s[1], s[2]),
                FP4_OK, "%s", text(from, to, s[0], s[1], s[2]));
        }
    }
    for (size_t i = 0; i < sizeof out; i++) {
        CHECK_EQ(out[i], 0x7f, "byte %zu", i);
    }
}

/* ---------------------------------------------------------------- errors */

enum { BATCHES = 2, ROWS = 5, COLS = 3 };

static uint8_t in_bytes[2048], out_bytes[2048];

static void refuses(fp4_layout from, const uint8_t *in, size_t in_size, fp4_layout to, uint8_t *out,
                    size_t out_size, size_t element, size_t batches, size_t rows, size_t cols,
                    fp4_status status, const char *what)
{
    memset(out_bytes, 0x7f, sizeof out_bytes);
    CHECK_EQ(fp4_ref_sf_convert(from, in, in_size, to, out, out_size, element, batches, rows, cols),
             status, "%s", what);
    for (size_t i = 0; i < sizeof out_bytes; i++) {
        CHECK_EQ(out_bytes[i], 0x7f, "%s: byte %zu was written", what, i);
    }
}

Test(host_layout, bad_arguments_are_refused_and_nothing_is_written)
{
    static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 2, SIZE_MAX - 126, SIZE_MAX / 2 + 1,
                                  (size_t)1 << 62};
    static const unsigned unknown[] = {3, 255, 0xffffffffu};

    for (int pair = 0; pair < 9; pair++) {
        const fp4_layout from = layouts[pair / 3], to = layouts[pair % 3];
        const size_t from_size = BATCHES * host_sf_bytes(from, ROWS, COLS);
        const size_t to_size = BATCHES * host_sf_bytes(to, ROWS, COLS);
        const char *pair_text = text(from, to, BATCHES, ROWS, COLS);
        refuses(from, in_bytes, from_size - 1, to, out_bytes, to_size, 1, BATCHES, ROWS, COLS,
                FP4_SMALL_BUFFER, "input one byte short");
        refuses(from, in_bytes, from_size, to, out_bytes, to_size - 1, 1, BATCHES, ROWS, COLS,
                FP4_SMALL_BUFFER, "output one byte short");
        refuses(from, in_bytes, from_size, to, out_bytes, to_size / BATCHES, 1, BATCHES, ROWS, COLS,
                FP4_SMALL_BUFFER, "room for one matrix of two");
        refuses(from, NULL, from_size, to, out_bytes, to_size, 1, BATCHES, ROWS, COLS, FP4_NULL,
                "null input");
        refuses(from, in_bytes, from_size, to, NULL, to_size, 1, BATCHES, ROWS, COLS, FP4_NULL,
                "null output");
        for (int i = 0; i < 3; i++) {
            refuses((fp4_layout)unknown[i], in_bytes, sizeof in_bytes, to, out_bytes,
                    sizeof out_bytes, 1, BATCHES, ROWS, COLS, FP4_BAD_TYPE, "unknown layout from");
            refuses(from, in_bytes, sizeof in_bytes, (fp4_layout)unknown[i], out_bytes,
                    sizeof out_bytes, 1, BATCHES, ROWS, COLS, FP4_BAD_TYPE, "unknown layout to");
        }
        for (size_t i = 0; i < sizeof huge / sizeof huge[0]; i++) {
            refuses(from, in_bytes, SIZE_MAX, to, out_bytes, SIZE_MAX, 1, 5, 5, huge[i],
                    FP4_BAD_SHAPE, "too many columns");
            refuses(from, in_bytes, SIZE_MAX, to, out_bytes, SIZE_MAX, 1, 5, huge[i], 5,
                    FP4_BAD_SHAPE, "too many rows");
            refuses(from, in_bytes, SIZE_MAX, to, out_bytes, SIZE_MAX, 1, huge[i], 5, 5,
                    FP4_BAD_SHAPE, "too many matrices");
        }
        refuses(from, in_bytes, from_size, to, out_bytes, 2 * to_size, 2, BATCHES, ROWS, COLS,
                FP4_SMALL_BUFFER, "input of elements of one byte");
        refuses(from, in_bytes, 2 * from_size, to, out_bytes, to_size, 2, BATCHES, ROWS, COLS,
                FP4_SMALL_BUFFER, "output of elements of one byte");
        refuses(FP4_LAYOUT_LINEAR, in_bytes, from_size, FP4_LAYOUT_LINEAR, out_bytes, to_size, 1, 1,
                SIZE_MAX - 127, 1, FP4_SMALL_BUFFER, "the most rows");
        refuses(from, in_bytes, SIZE_MAX, to, out_bytes, SIZE_MAX, 2, 1, (size_t)1 << 32,
                (size_t)1 << 31, FP4_BAD_SHAPE, "bytes that overflow");
        for (size_t element = 0; element < 9; element++) {
            if (element != 1 && element != 2) {
                refuses(from, in_bytes, SIZE_MAX, to, out_bytes, SIZE_MAX, element, BATCHES, ROWS,
                        COLS, FP4_BAD_TYPE, "elements of another size");
            }
        }
        CHECK_EQ(fp4_ref_sf_convert(from, in_bytes, from_size, to, out_bytes, to_size, 1, BATCHES,
                                    ROWS, COLS),
                 FP4_OK, "%s: exact sizes", pair_text);
    }
}

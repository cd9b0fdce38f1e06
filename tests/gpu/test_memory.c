/*
 * tests/gpu/test_memory.c - loads, stores, the order of elements and of scale bytes, the padding of
 * scale buffers, in every way they can be compiled.
 */
#include "paths.h"
#include "values.h"

static const int counts[] = {8, 16, 32};

/* ---------------------------------------------------------------- loads */

/* An element of the input: 16-bit and 8-bit types, every pattern at every place of a fragment. */
static uint32_t element_bits(fp4_dtype dtype, size_t i, uint64_t *state)
{
    if (dtype == FP4_F32) {
        return host_random(state) ^ (i % 64 == 0 ? 0x7f800000u : 0u);
    }
    return (uint32_t)(i / 32 + i % 32 * 0x1357) & (dtype == FP4_E4M3 ? 0xffu : 0xffffu);
}

static float element_value(fp4_dtype dtype, uint32_t bits)
{
    switch (dtype) {
    case FP4_F16:
        return fp4_f16_to_f32((uint16_t)bits);
    case FP4_BF16:
        return fp4_bf16_to_f32((uint16_t)bits);
    case FP4_E4M3:
        return fp4_e4m3_to_f32((uint8_t)bits);
    case FP4_F32:
        break;
    }
    return host_bits(bits);
}

static void load_type(fp4_dtype dtype)
{
    static const char *const names[] = {"f32", "f16", "bf16", "e4m3"};
    const size_t n = 32 * (gpu_is_reduced() ? 100 : 65536), size = host_dtype_bytes(dtype);
    uint8_t *x = (uint8_t *)host_zeros(n * size);
    float *expected = (float *)host_zeros(n * sizeof(float));
    uint64_t state = 5;
    gpu_buffer in, out;

    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = element_bits(dtype, i, &state);
        memcpy(x + i * size, &bits, size);
        expected[i] = element_value(dtype, bits);
    }
    in = gpu_buffer_of(x, n * size, 16);
    out = gpu_buffer_new(n * sizeof(float), 0);
    for (size_t p = 0; p < PATHS; p++) {
        for (int c = 0; c < 5; c++) { /* the last: 16 by way of their words, or by their type */
            for (int cs = 0; cs < 2; cs++) {
                const int count = c < 3 ? counts[c] : c - 3;
                char what[64];
                snprintf(what, sizeof what, "load_%sx%d%s%s", names[dtype], count < 8 ? 16 : count,
                         cs ? "_cs" : "",
                         count == 0   ? ", words"
                         : count == 1 ? ", by type"
                                      : "");
                gpu_poison(out, 0x7f);
                GPU_OK(paths[p]->load((int)dtype, count, cs, in.bytes,
                                      n / (size_t)(count < 8 ? 16 : count), path_floats(out)));
                path_expect_floats(out, expected, what, paths[p]->name);
                gpu_expect_guards(out, what);
            }
        }
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(x);
    free(expected);
}

GPU_TEST(memory, loads_of_every_type_and_width)
{
    for (int dtype = 0; dtype < 4; dtype++) {
        load_type((fp4_dtype)dtype);
    }
}

/* What elements of a type stand for, stored as that type again; and numbers that are rounded, or
   too large. */
GPU_TEST(memory, stores_of_every_type)
{
    for (int dtype = 0; dtype < 4; dtype++) {
        const size_t n = 16 * (gpu_is_reduced() ? 100 : 65536),
                     size = fp4_dtype_bytes((fp4_dtype)dtype);
        uint8_t *expected = (uint8_t *)host_zeros(n * size);
        float *x = (float *)host_zeros(n * sizeof(float));
        uint64_t state = 7;
        gpu_buffer in, out;

        for (size_t i = 0; i < n; i++) {
            const float other = host_random_scale(&state, -20, 20) * (i % 4 == 1 ? -1.0f : 1.0f);
            uint32_t bits = element_bits((fp4_dtype)dtype, i, &state);
            x[i] = i % 2 == 0 ? element_value((fp4_dtype)dtype, bits) : other;
            if (isnan(x[i]) || i % 2 != 0) { /* NaN is one of many */
                x[i] = isnan(x[i]) ? 0.0f : x[i];
                bits = values_bits((fp4_dtype)dtype, x[i]);
            }
            memcpy(expected + i * size, &bits, size);
        }
        in = gpu_buffer_of(x, n * sizeof(float), 0);
        out = gpu_buffer_new(n * size, 16);
        for (size_t p = 0; p < PATHS; p++) {
            uint8_t *got;
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->store_elements(dtype, path_floats(in), n / 16, out.bytes));
            got = (uint8_t *)gpu_copy_of(out);
            host_expect_bytes(got, expected, n * size, paths[p]->name);
            gpu_expect_guards(out, paths[p]->name);
            free(got);
        }
        gpu_buffer_free(in);
        gpu_buffer_free(out);
        free(x);
        free(expected);
    }
}

/* 8 bytes are the smallest alignment: eight e4m3, each fragment 8 off 16. */
GPU_TEST(memory, e4m3x8_loads_from_8_byte_alignment)
{
    uint8_t x[64];
    float expected[64];
    gpu_buffer in, out = gpu_buffer_new(sizeof expected, 0);

    for (size_t i = 0; i < 64; i++) {
        x[i] = (uint8_t)(i * 5);
        expected[i] = fp4_e4m3_to_f32(x[i]);
    }
    in = gpu_buffer_of(x, sizeof x, 8);
    for (size_t p = 0; p < PATHS; p++) {
        for (int cs = 0; cs < 2; cs++) {
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->load(FP4_E4M3, 8, cs, in.bytes, 8, path_floats(out)));
            path_expect_floats(out, expected, "load_e4m3x8 at 8 bytes", paths[p]->name);
        }
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
}

/* ---------------------------------------------------------------- stores */

/* Fragments with as many bytes between them as they have themselves: these must stay. */
static void store_width(int bits, int count, int cs)
{
    const size_t n = 1000, size = (size_t)(count * bits / 8), stride = 2 * size;
    const size_t shift = size < 16 ? size : 16;
    uint8_t *q = (uint8_t *)host_zeros(n * size), *expected = (uint8_t *)host_zeros(n * stride);
    uint64_t state = (uint64_t)(bits * count);
    gpu_buffer in, out = gpu_buffer_new(n * stride, shift);
    char what[64];

    snprintf(what, sizeof what, "store_%sx%d%s",
             bits == 4   ? "e2m1"
             : bits == 8 ? "e4m3"
                         : "u32",
             count, cs ? "_cs" : "");
    memset(expected, 0x7f, n * stride);
    for (size_t i = 0; i < n * size; i++) {
        q[i] = (uint8_t)host_random(&state);
        expected[i / size * stride + i % size] = q[i]; /* little endian, here and there */
    }
    in = gpu_buffer_of(q, n * size, 0);
    for (size_t p = 0; p < PATHS; p++) {
        uint8_t *got;
        gpu_poison(out, 0x7f);
        GPU_OK(paths[p]->store(bits, count, cs, path_words(in), n, out.bytes, stride));
        got = (uint8_t *)gpu_copy_of(out);
        host_expect_bytes(got, expected, n * stride, what);
        gpu_expect_guards(out, what);
        free(got);
    }
    gpu_buffer_free(in);
    gpu_buffer_free(out);
    free(q);
    free(expected);
}

GPU_TEST(memory, stores_of_every_width)
{
    for (int bits = 4; bits <= 8; bits += 4) {
        for (int c = 0; c < 3; c++) {
            store_width(bits, counts[c], 0);
            store_width(bits, counts[c], 1);
        }
    }
    for (int c = 0; c < 3; c++) {
        store_width(32, counts[c] / 2, 0);
    }
    store_width(32, 4, 1);
}

/* Lanes together, as many as there are: none of them writes for one that is not there. */
GPU_TEST(memory, stores_of_four_lanes)
{
    static const size_t lanes[] = {1, 2, 3, 4, 5, 6, 7, 31, 32, 33, 127, 128, 130, 1001};

    for (size_t i = 0; i < sizeof lanes / sizeof lanes[0]; i++) {
        const size_t size = lanes[i] * 64;
        uint8_t *w = (uint8_t *)host_zeros(size);
        const gpu_buffer out = gpu_buffer_new(size, 16);
        uint64_t state = lanes[i];
        gpu_buffer in;

        for (size_t k = 0; k < size; k++) {
            w[k] = (uint8_t)host_random(&state);
        }
        in = gpu_buffer_of(w, size, 0);
        for (size_t p = 0; p < PATHS; p++) {
            uint8_t *got;
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->store_by_four(path_words(in), lanes[i], out.bytes));
            got = (uint8_t *)gpu_copy_of(out);
            host_expect_bytes(got, w, size, "store_u32x16_by_four");
            gpu_expect_guards(out, "store_u32x16_by_four");
            free(got);
        }
        gpu_buffer_free(in);
        gpu_buffer_free(out);
        free(w);
    }
}

/* ---------------------------------------------------------------- orders */

GPU_TEST(memory, even_and_odd_elements_part)
{
    enum { FRAGMENTS = 100 };

    for (int bits = 16; bits <= 32; bits += 16) {
        const size_t size = (size_t)bits / 8, n = 32 * FRAGMENTS, bytes = n * size;
        uint8_t *x = (uint8_t *)host_zeros(bytes), *expected = (uint8_t *)host_zeros(bytes);
        const gpu_buffer out = gpu_buffer_new(bytes, 0);
        uint64_t state = (uint64_t)bits;
        gpu_buffer in;

        for (size_t i = 0; i < n; i++) {
            const size_t to = i / 32 * 32 + i % 2 * 16 + i % 32 / 2;
            const uint32_t element = host_random(&state);
            memcpy(x + i * size, &element, size);
            memcpy(expected + to * size, &element, size);
        }
        in = gpu_buffer_of(x, bytes, 0);
        for (size_t p = 0; p < PATHS; p++) {
            uint8_t *got;
            gpu_poison(out, 0x7f);
            GPU_OK(paths[p]->deinterleave(bits, path_words(in), FRAGMENTS, path_words(out)));
            got = (uint8_t *)gpu_copy_of(out);
            host_expect_bytes(got, expected, bytes, paths[p]->name);
            free(got);
        }
        gpu_buffer_free(in);
        gpu_buffer_free(out);
        free(x);
        free(expected);
    }
}

/* Byte b of the words of a lane's neighbours: that of block k is byte k of the word of the lanes
   with number b. */
GPU_TEST(memory, scale_bytes_of_lanes_become_words)
{
    const size_t sizes[] = {32, 1024};

    for (size_t lanes = 1; lanes <= 8; lanes *= 2) {
        for (size_t s = 0; s < 2; s++) {
            uint8_t bytes[4 * 1024], expected[4 * 1024];
            const size_t n = sizes[s], around = 4 * lanes;
            const gpu_buffer out = gpu_buffer_new(4 * n, 0);
            uint64_t state = n + lanes;
            gpu_buffer in;

            for (size_t i = 0; i < 4 * n; i++) {
                bytes[i] = (uint8_t)host_random(&state);
            }
            for (size_t i = 0; i < 4 * n; i++) {
                const size_t thread = i / 4, k = i % 4;
                const size_t from = thread / around * around + k * lanes + thread % lanes;
                expected[i] = bytes[4 * from + thread / lanes % 4];
            }
            in = gpu_buffer_of(bytes, 4 * n, 0);
            for (size_t p = 0; p < PATHS; p++) {
                uint8_t *got;
                gpu_poison(out, 0x7f);
                GPU_OK(paths[p]->sf_words((int)lanes, path_words(in), n, path_words(out)));
                got = (uint8_t *)gpu_copy_of(out);
                host_expect_bytes(got, expected, 4 * n, paths[p]->name);
                free(got);
            }
            gpu_buffer_free(in);
            gpu_buffer_free(out);
        }
    }
}

/* Words of some rows of a scale buffer, and one word more than the row has: each byte where
   layout.h says, the columns that the matrix does not have as zeros in tiles, nothing else. */
static void store_sf_rows(const gpu_parts *path, fp4_layout layout, size_t rows, size_t sf_cols,
                          size_t shift)
{
    enum { POISON = 0x7f };
    const size_t words = (sf_cols + 3) / 4 + 1, all = rows + 9;
    const size_t bytes = fp4_sf_bytes(layout, all, sf_cols);
    uint8_t *w = (uint8_t *)host_zeros(rows * words * 4), *got;
    uint8_t *expected = (uint8_t *)host_zeros(bytes);
    const gpu_buffer sf = gpu_buffer_new(bytes, shift);
    uint64_t state = sf_cols;
    gpu_buffer in;
    char what[96];

    snprintf(what, sizeof what, "%s: layout %d, %zu rows, %zu columns, %zu bytes off", path->name,
             (int)layout, rows, sf_cols, shift);
    for (size_t i = 0; i < rows * words * 4; i++) {
        const uint8_t any = (uint8_t)(host_random(&state) | 1u);
        w[i] = i % (words * 4) < sf_cols ? any : 0;
    }
    for (size_t at = 0; at < bytes; at++) {
        const size_t row = fp4_sf_row(layout, at, sf_cols), col = fp4_sf_col(layout, at, sf_cols);
        expected[at] = row < rows ? w[row * words * 4 + col] : POISON;
    }
    in = gpu_buffer_of(w, rows * words * 4, 0);
    gpu_poison(sf, POISON);
    GPU_OK(path->store_sf_words((int)layout, sf.bytes, rows, (uint32_t)sf_cols, 0, (uint32_t)words,
                                path_words(in)));
    got = (uint8_t *)gpu_copy_of(sf);
    host_expect_bytes(got, expected, bytes, what);
    gpu_expect_guards(sf, what);
    gpu_buffer_free(in);
    gpu_buffer_free(sf);
    free(w);
    free(got);
    free(expected);
}

GPU_TEST(memory, words_of_scale_bytes_go_where_the_bytes_belong)
{
    static const size_t rows[] = {1, 8, 33, 130};
    static const size_t cols[] = {1, 2, 3, 4, 5, 6, 7, 8, 31, 64, 66};
    const size_t step = gpu_is_reduced() ? 3 : 1;

    for (size_t p = 0; p < PATHS; p++) {
        for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
            for (size_t r = c % step; r < sizeof rows / sizeof rows[0]; r += step) {
                store_sf_rows(paths[p], FP4_LAYOUT_128X4, rows[r], cols[c], 4 * r);
                store_sf_rows(paths[p], FP4_LAYOUT_8X4, rows[r], cols[c], 4 * r);
                for (size_t shift = 0; shift < 4; shift++) {
                    store_sf_rows(paths[p], FP4_LAYOUT_LINEAR, rows[r], cols[c], shift);
                }
            }
        }
    }
}

/* Columns of a row so wide that its bytes do not fit into 32 bits. What is in front of them is
   never there: the buffer begins with the two words that are written. */
GPU_TEST(memory, words_of_scale_bytes_of_wide_rows)
{
    static const uint32_t first[] = {1u << 31, 1u << 25, 1u << 29}; /* linear, 128x4, 8x4 */
    static const fp4_layout layouts[] = {FP4_LAYOUT_LINEAR, FP4_LAYOUT_128X4, FP4_LAYOUT_8X4};
    static const uint32_t w[] = {0x44332211u, 0x88776655u};
    enum { POISON = 0x5a };

    for (size_t p = 0; p < PATHS; p++) {
        for (size_t i = 0; i < 3; i++) {
            const size_t step = fp4_sf_word_step(layouts[i]);
            const gpu_buffer sf = gpu_buffer_new(step + 4, 0);
            const gpu_buffer in = gpu_buffer_of(w, sizeof w, 0);
            uint8_t *const begin = (uint8_t *)((uintptr_t)sf.bytes - first[i] / 4 * step), *got;

            gpu_poison(sf, POISON);
            GPU_OK(paths[p]->store_sf_words((int)layouts[i], begin, 1, first[i] + 8, first[i], 2,
                                            path_words(in)));
            got = (uint8_t *)gpu_copy_of(sf);
            for (size_t at = 0; at < step + 4; at++) {
                const size_t word = at / step, byte = at % step;
                CHECK_EQ(got[at], byte < 4 ? w[word] >> (8 * byte) & 0xffu : POISON,
                         "%s: layout %d, byte %zu", paths[p]->name, (int)layouts[i], at);
            }
            gpu_expect_guards(sf, "wide rows");
            gpu_buffer_free(in);
            gpu_buffer_free(sf);
            free(got);
        }
    }
}

/* ---------------------------------------------------------------- padding */

/* All padding is zero afterwards, and nothing else has been touched. */
static void pad_shape(const gpu_parts *path, fp4_layout layout, size_t rows, size_t sf_cols,
                      const unsigned grid[3], const unsigned cta[3], int poison, size_t shift)
{
    const size_t bytes = fp4_sf_bytes(layout, rows, sf_cols);
    const gpu_buffer sf = gpu_buffer_new(bytes, shift);
    uint8_t *got;

    gpu_poison(sf, poison);
    GPU_OK(path->pad((int)layout, sf.bytes, rows, sf_cols, grid, cta));
    got = (uint8_t *)gpu_copy_of(sf);
    for (size_t at = 0; at < bytes; at++) {
        const int is_padding =
            fp4_sf_row(layout, at, sf_cols) >= rows || fp4_sf_col(layout, at, sf_cols) >= sf_cols;
        CHECK_EQ(got[at], is_padding ? 0 : poison,
                 "%s: byte %zu of the scales of %zu x %zu, layout %d, grid %u %u %u of %u %u %u",
                 path->name, at, rows, sf_cols, (int)layout, grid[0], grid[1], grid[2], cta[0],
                 cta[1], cta[2]);
    }
    gpu_expect_guards(sf, "padding");
    free(got);
    gpu_buffer_free(sf);
}

GPU_TEST(memory, padding_is_zeroed_and_nothing_else)
{
    static const size_t rows[] = {1, 5, 7, 8, 9, 31, 127, 128, 129, 300};
    static const size_t cols[] = {1, 2, 3, 4, 5, 31, 64, 66};
    static const unsigned grids[][2][3] = {{{1, 1, 1}, {32, 1, 1}},
                                           {{3, 1, 1}, {96, 1, 1}},
                                           {{2, 3, 4}, {8, 4, 2}},
                                           {{50, 7, 1}, {1024, 1, 1}}};
    const size_t step = gpu_is_reduced() ? 3 : 1;
    size_t turn = 0;

    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r += step) {
        for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c += step) {
            for (int layout = FP4_LAYOUT_128X4; layout <= FP4_LAYOUT_8X4; layout++) {
                for (size_t g = 0; g < 4; g++, turn++) {
                    pad_shape(paths[turn % PATHS], (fp4_layout)layout, rows[r], cols[c],
                              grids[g][0], grids[g][1], turn % 3 ? 0x7f : 0xff,
                              turn / PATHS % 2 * 4);
                }
            }
            pad_shape(paths[turn % PATHS], FP4_LAYOUT_LINEAR, rows[r], cols[c], grids[0][0],
                      grids[0][1], 0x7f, 1); /* which has none */
        }
    }
}

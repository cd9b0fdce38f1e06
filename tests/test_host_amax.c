/*
 * fp4/host/quant.h: fp4_ref_block_amax against a loop over elements; and what it refuses.
 */
#include <fp4/host/quant.h>

#include "host_util.h"

static const char *const dtype_names[] = {"f32", "f16", "bf16", "e4m3"};

/* Any shape and type, blocks of any length, buffers of exactly the size that is needed. */
static void check_blocks(fp4_dtype dtype, size_t rows, size_t cols, size_t gap, size_t block,
                         size_t shift, uint64_t seed)
{
    const size_t bytes = host_span(rows, cols, cols + gap) * host_dtype_bytes(dtype);
    const host_buffer x = host_buffer_new(bytes, shift);
    const host_buffer amax = host_buffer_new(rows * cols / block * sizeof(float), shift);
    const fp4_matrix m = {x.bytes, dtype, rows, cols, cols + gap, 0.375f};
    char text[128];

    snprintf(text, sizeof text, "%s, %zu x %zu, gap %zu, block %zu, shift %zu, seed %llu",
             dtype_names[dtype], rows, cols, gap, block, shift, (unsigned long long)seed);
    if (bytes != 0) {
        host_fill(x.bytes, m, &seed, (host_data)(seed % HOST_DATA), 16);
    }
    CHECK_EQ(fp4_ref_block_amax(m, block, (float *)(void *)amax.bytes, amax.size), FP4_OK, "%s",
             text);
    for (size_t i = 0; i < rows * cols / block; i++) {
        const size_t row = i * block / cols, col = i * block % cols;
        fp4_matrix one = m;
        float got;
        one.data = x.bytes + (row * m.row_stride + col) * host_dtype_bytes(dtype);
        one.rows = 1;
        one.cols = block;
        memcpy(&got, amax.bytes + i * sizeof got, sizeof got);
        CHECK_EQ(host_bits_of(got), host_bits_of(host_matrix_amax(&one)), "%s: block %zu", text, i);
    }
    host_buffer_free(x, text);
    host_buffer_free(amax, text);
}

Test(host_amax, blocks_of_any_length)
{
    static const size_t lengths[] = {1, 2, 3, 15, 16, 17, 32, 255, 256, 512, 513, 1000};
    uint64_t seed = 1;

    for (size_t dtype = 0; dtype < 4; dtype++) {
        for (size_t i = 0; i < sizeof lengths / sizeof(size_t); i++) {
            for (size_t times = 0; times < 4; times++) {
                check_blocks((fp4_dtype)dtype, 7 * (seed % 3), lengths[i] * times, seed % 2 * 5,
                             lengths[i], 4 * (seed % 4), seed);
                seed++;
            }
        }
    }
}

/* The blocks of a matrix that is one block are its rows'; the largest of them is the matrix'. */
Test(host_amax, the_largest_is_that_of_the_matrix)
{
    enum { ROWS_OF_IT = 9, COLS_OF_IT = 700 };
    static float x[ROWS_OF_IT * COLS_OF_IT];
    const fp4_matrix m = fp4_matrix_f32(x, ROWS_OF_IT, COLS_OF_IT, COLS_OF_IT);
    float amax[ROWS_OF_IT], of_all = 0, all;
    uint64_t state = 3;

    host_fill((uint8_t *)x, m, &state, HOST_MODERATE, 16);
    CHECK_EQ(fp4_ref_block_amax(m, COLS_OF_IT, amax, sizeof amax), FP4_OK, "blocks");
    CHECK_EQ(fp4_ref_amax(m, &all), FP4_OK, "all");
    for (size_t row = 0; row < ROWS_OF_IT; row++) {
        of_all = fmaxf(of_all, amax[row]);
    }
    CHECK_EQ(host_bits_of(all), host_bits_of(of_all), "all");
}

Test(host_amax, what_is_bad_is_refused_and_nothing_is_written)
{
    float x[2 * 64], amax[8];
    const fp4_matrix good = fp4_matrix_f32(x, 2, 64, 64);
    const struct {
        fp4_matrix m;
        size_t block, bytes;
        float *amax;
        fp4_status status;
    } calls[] = {
        {good, 0, sizeof amax, amax, FP4_BAD_SHAPE},
        {good, 24, sizeof amax, amax, FP4_BAD_SHAPE},
        {good, 128, sizeof amax, amax, FP4_BAD_SHAPE},
        {good, 16, sizeof amax - 1, amax, FP4_SMALL_BUFFER},
        {good, 8, sizeof amax, amax, FP4_SMALL_BUFFER},
        {good, 16, sizeof amax, NULL, FP4_NULL},
        {fp4_matrix_f32(NULL, 2, 64, 64), 16, sizeof amax, amax, FP4_NULL},
        {fp4_matrix_f32(x, 2, 64, 63), 16, sizeof amax, amax, FP4_BAD_STRIDE},
        {fp4_matrix_f32(x, SIZE_MAX / 8, 64, 64), 16, sizeof amax, amax, FP4_BAD_SHAPE},
        {fp4_matrix_of_(x, (fp4_dtype)4, 2, 64, 64, 1.0f), 16, sizeof amax, amax, FP4_BAD_TYPE},
        {fp4_matrix_of_(x, FP4_E4M3, 2, 64, 64, NAN), 16, sizeof amax, amax, FP4_BAD_SCALE},
    };

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        memset(amax, 0x7f, sizeof amax);
        CHECK_EQ(fp4_ref_block_amax(calls[i].m, calls[i].block, calls[i].amax, calls[i].bytes),
                 calls[i].status, "call %zu", i);
        for (size_t k = 0; k < 8; k++) {
            CHECK_EQ(host_bits_of(amax[k]), 0x7f7f7f7fu, "call %zu: amax %zu was written", i, k);
        }
    }
    CHECK_EQ(fp4_ref_block_amax(fp4_matrix_f32(NULL, 0, 64, 64), 16, NULL, 0), FP4_OK, "no rows");
    CHECK_EQ(fp4_ref_block_amax(fp4_matrix_f32(NULL, 2, 0, 0), 16, NULL, 0), FP4_OK, "no columns");
}

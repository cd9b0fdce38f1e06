/*
 * tests/host_util.h - a second host quantizer, and guarded buffers to compare the first one in.
 *
 * The second quantizer takes one element after the other, straight from the formulas: products and
 * quotients of floats in double, rounded once (exact enough that the result is the correctly
 * rounded one), codes by search for the nearest value (oracle.h), scale bytes written by walking
 * the buffer in memory order. It shares no function with include/fp4.
 */
#ifndef FP4_TESTS_HOST_UTIL_H
#define FP4_TESTS_HOST_UTIL_H

#include <fp4/host/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "oracle.h"

/* ---------------------------------------------------------------- random numbers */

/** 32 random bits (splitmix64); the seed is the state. */
static inline uint32_t host_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32);
}

/** A random number below n. */
static inline uint32_t host_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((uint64_t)host_random(state) * n >> 32);
}

/** A positive float with a random mantissa, between 2^low and 2^high. */
static inline float host_random_scale(uint64_t *state, int low, int high)
{
    const int exponent = low + (int)host_below(state, (uint32_t)(high - low));
    return (float)(oracle_power(exponent) * (1.0 + host_random(state) * oracle_power(-32)));
}

/* ---------------------------------------------------------------- guarded buffers */

enum { HOST_GUARD = 64 };

/** Bytes between two canaries. They start `shift` bytes off 16-byte alignment and hold 0x7f. */
typedef struct host_buffer {
    uint8_t *memory;
    uint8_t *bytes;
    size_t size;
} host_buffer;

static inline host_buffer host_buffer_new(size_t size, size_t shift)
{
    host_buffer buffer;

    buffer.memory = (uint8_t *)malloc(HOST_GUARD + shift + size + HOST_GUARD);
    cr_assert_not_null(buffer.memory);
    buffer.bytes = buffer.memory + HOST_GUARD + shift;
    buffer.size = size;
    memset(buffer.memory, 0xc5, (size_t)(buffer.bytes - buffer.memory) + size + HOST_GUARD);
    memset(buffer.bytes, 0x7f, size);
    return buffer;
}

/** Frees the buffer, and fails where a canary before or after it has changed. */
static inline void host_buffer_free(host_buffer buffer, const char *what)
{
    for (const uint8_t *p = buffer.memory; p < buffer.bytes; p++) {
        CHECK_EQ(*p, 0xc5, "%s: canary %zu bytes before the start", what,
                 (size_t)(buffer.bytes - p));
    }
    for (size_t i = 0; i < HOST_GUARD; i++) {
        CHECK_EQ(buffer.bytes[buffer.size + i], 0xc5, "%s: canary %zu bytes after the end", what,
                 i);
    }
    free(buffer.memory);
}

/** Fails where two buffers differ, naming the first place and the number of them. */
static inline void host_expect_bytes(const uint8_t *got, const uint8_t *expected, size_t n,
                                     const char *what)
{
    size_t count = 0, first = 0;

    if (n == 0 || memcmp(got, expected, n) == 0) {
        return;
    }
    for (size_t i = n; i-- > 0;) {
        if (got[i] != expected[i]) {
            count++;
            first = i;
        }
    }
    CHECK_EQ(got[first], expected[first], "%s: byte %zu of %zu, the first of %zu that differ", what,
             first, n, count);
}

/* ---------------------------------------------------------------- the naive quantizer */

/** Every way in which a matrix can be quantized. */
typedef enum host_recipe {
    HOST_NVFP4_TENSOR,
    HOST_NVFP4_ROWS,
    HOST_NVFP4_TOKENS,
    HOST_NVFP4_32_TENSOR,
    HOST_NVFP4_32_ROWS,
    HOST_NVFP4_32_TOKENS,
    HOST_MXFP4_UP,
    HOST_MXFP4_FLOOR,
    HOST_MXFP4_CEIL,
    HOST_MXFP4_EVEN,
    HOST_MXFP4_16_UP,
    HOST_MXFP4_16_FLOOR,
    HOST_MXFP4_16_CEIL,
    HOST_MXFP4_16_EVEN,
    HOST_MXFP8_UP,
    HOST_MXFP8_FLOOR,
    HOST_MXFP8_CEIL,
    HOST_MXFP8_EVEN,
    HOST_RECIPES
} host_recipe;

static inline const char *host_recipe_name(host_recipe recipe)
{
    static const char *const names[HOST_RECIPES] = {
        "NVFP4",           "NVFP4 rows",     "NVFP4 tokens",  "NVFP4/32",      "NVFP4/32 rows",
        "NVFP4/32 tokens", "MXFP4 up",       "MXFP4 floor",   "MXFP4 ceil",    "MXFP4 even",
        "MXFP4/16 up",     "MXFP4/16 floor", "MXFP4/16 ceil", "MXFP4/16 even", "MXFP8 up",
        "MXFP8 floor",     "MXFP8 ceil",     "MXFP8 even"};
    return names[recipe];
}

static inline fp4_format host_recipe_format(host_recipe recipe)
{
    return recipe <= HOST_NVFP4_TOKENS      ? FP4_NVFP4
           : recipe <= HOST_NVFP4_32_TOKENS ? FP4_NVFP4_32
           : recipe <= HOST_MXFP4_EVEN      ? FP4_MXFP4
           : recipe <= HOST_MXFP4_16_EVEN   ? FP4_MXFP4_16
                                            : FP4_MXFP8;
}

static inline size_t host_recipe_block(host_recipe recipe)
{
    static const size_t blocks[] = {16, 32, 32, 32, 16}; /* by fp4_format */
    return blocks[host_recipe_format(recipe)];
}

/** e4m3 scales and a second level. */
static inline int host_is_nvfp4(host_recipe recipe)
{
    return recipe < HOST_MXFP4_UP;
}

static inline int host_is_tensor(host_recipe recipe)
{
    return recipe == HOST_NVFP4_TENSOR || recipe == HOST_NVFP4_32_TENSOR;
}

static inline int host_is_rows(host_recipe recipe)
{
    return recipe == HOST_NVFP4_ROWS || recipe == HOST_NVFP4_32_ROWS;
}

static inline int host_is_tokens(host_recipe recipe)
{
    return recipe == HOST_NVFP4_TOKENS || recipe == HOST_NVFP4_32_TOKENS;
}

static inline int host_has_row_dec(host_recipe recipe)
{
    return host_is_rows(recipe) || host_is_tokens(recipe);
}

/** Second-level scales as a recipe takes them. */
typedef struct host_level {
    float global_enc;
    const float *row_enc;
    float base_dec;
} host_level;

/** fl(a * b) and fl(a / b): 53 bits hold the product, and more than enough of the quotient. */
static inline float host_mul(float a, float b)
{
    return (float)((double)a * (double)b);
}

static inline float host_div(float a, float b)
{
    return (float)((double)a / (double)b);
}

static inline float host_min(float a, float b)
{
    return isnan(a) || a > b ? b : a;
}

/* A value of a small format by its sign and magnitude; infinity and NaN by the caller. */
static inline float host_value(unsigned code, int exponent_bits, int mantissa_bits, int bias)
{
    const unsigned sign = code >> (exponent_bits + mantissa_bits) & 1u;
    const double magnitude =
        oracle_value(code & ((1u << (exponent_bits + mantissa_bits)) - 1u), mantissa_bits, bias);
    return (float)(sign ? -magnitude : magnitude);
}

static inline float host_e4m3(uint8_t code)
{
    return (code & 0x7f) == 0x7f ? NAN : host_value(code, 4, 3, 7);
}

static inline float host_e2m1(unsigned code)
{
    return host_value(code, 2, 1, 1);
}

static inline float host_e8m0(uint8_t byte)
{
    return byte == 255 ? NAN : (float)oracle_power((int)byte - 127);
}

static inline float host_f16(uint16_t code)
{
    if ((code & 0x7c00u) == 0x7c00u) {
        return (code & 0x3ffu) != 0 ? NAN : code >> 15 ? -INFINITY : INFINITY;
    }
    return host_value(code, 5, 10, 15);
}

static inline float host_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t host_bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline size_t host_dtype_bytes(fp4_dtype dtype)
{
    static const size_t bytes[] = {4, 2, 2, 1};
    return bytes[dtype];
}

/** An element of a matrix, as f32. */
static inline float host_element(const fp4_matrix *x, size_t row, size_t col)
{
    const size_t size = host_dtype_bytes(x->dtype);
    const uint8_t *from = (const uint8_t *)x->data + (row * x->row_stride + col) * size;
    uint32_t bits = 0;

    memcpy(&bits, from, size); /* little endian */
    switch (x->dtype) {
    case FP4_F32:
        return host_bits(bits);
    case FP4_F16:
        return host_f16((uint16_t)bits);
    case FP4_BF16:
        return host_bits(bits << 16);
    case FP4_E4M3:
        break;
    }
    return host_mul(host_e4m3((uint8_t)bits), x->dec);
}

/** amax of n floats, NaN left out. */
static inline float host_amax(const float *x, size_t n)
{
    float amax = 0;

    for (size_t i = 0; i < n; i++) {
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    }
    return amax;
}

static inline float host_matrix_amax(const fp4_matrix *x)
{
    float amax = 0;

    for (size_t row = 0; row < x->rows; row++) {
        for (size_t col = 0; col < x->cols; col++) {
            const float element = fabsf(host_element(x, row, col));
            amax = element > amax ? element : amax;
        }
    }
    return amax;
}

/** The global scale of a tensor, from its amax. */
static inline float host_global_enc(float amax)
{
    return amax == 0 || isinf(amax) ? 1.0f : host_min(host_div(2688.0f, amax), FP4_F32_MAX);
}

/** e8m0 by the rule `recipe` names; `largest` and `emax` belong to the element. */
static inline uint8_t host_e8m0_of(host_recipe recipe, float amax, float largest, int emax,
                                   double even_from)
{
    int exponent; /* amax = fraction * 2^exponent, 1 <= fraction < 2 */
    double fraction;

    if (recipe == HOST_MXFP4_UP || recipe == HOST_MXFP4_16_UP || recipe == HOST_MXFP8_UP) {
        return (uint8_t)oracle_up(oracle_e8m0(), (double)host_mul(amax, host_div(1.0f, largest)));
    }
    if (isinf(amax)) {
        return 255;
    }
    if (amax == 0) {
        return 0;
    }
    fraction = 2 * frexp((double)amax, &exponent);
    exponent -= 1;
    if (recipe == HOST_MXFP4_CEIL || recipe == HOST_MXFP4_16_CEIL || recipe == HOST_MXFP8_CEIL) {
        exponent += fraction > 1;
    } else if (recipe == HOST_MXFP4_EVEN || recipe == HOST_MXFP4_16_EVEN ||
               recipe == HOST_MXFP8_EVEN) {
        exponent += fraction >= even_from;
    }
    exponent -= emax;
    return (uint8_t)(exponent < -127 ? 0 : exponent + 127);
}

/** A quantized block, one code a byte. */
typedef struct host_block {
    uint8_t sf;
    uint8_t code[32];
} host_block;

/** A scale byte by the formulas of the recipe's table, and the factor that goes with it.
    global_enc: NVFP4 only. */
static inline uint8_t host_scale_of(host_recipe recipe, float amax, float global_enc, float *enc)
{
    uint8_t sf;

    if (host_is_nvfp4(recipe)) {
        const float to_e4m3 = host_mul(global_enc, host_div(1.0f, 6.0f));
        const float quotient = host_min(host_mul(amax, to_e4m3), FP4_F32_MAX);
        sf = (uint8_t)oracle_nearest(oracle_e4m3(), (double)quotient);
        *enc = host_mul(host_e4m3(sf), host_div(1.0f, global_enc));
        *enc = host_min(host_div(1.0f, *enc), FP4_F32_MAX);
    } else {
        sf = host_recipe_format(recipe) == FP4_MXFP8 ? host_e8m0_of(recipe, amax, 448.0f, 8, 1.9375)
                                                     : host_e8m0_of(recipe, amax, 6.0f, 2, 1.75);
        *enc = (float)oracle_power(127 - (int)sf);
    }
    return sf;
}

/** The code of a scaled element. */
static inline uint8_t host_code_of(host_recipe recipe, float scaled)
{
    const double magnitude = fabs((double)scaled);
    const unsigned sign = signbit(scaled) != 0;

    if (host_recipe_format(recipe) == FP4_MXFP8) {
        return (uint8_t)(isnan(scaled) ? 0x7fu
                                       : sign << 7 | oracle_nearest(oracle_e4m3(), magnitude));
    }
    return (uint8_t)(isnan(scaled) ? 7u : sign << 3 | oracle_nearest(oracle_e2m1(), magnitude));
}

/** A block. */
static inline host_block host_block_of(host_recipe recipe, const float *x, float global_enc)
{
    const size_t block = host_recipe_block(recipe);
    host_block out;
    float enc;

    out.sf = host_scale_of(recipe, host_amax(x, block), global_enc, &enc);
    for (size_t i = 0; i < block; i++) {
        out.code[i] = host_code_of(recipe, host_mul(x[i], enc));
    }
    return out;
}

/* ---------------------------------------------------------------- layouts, by walking them */

/** Bytes of a scale buffer: whole tiles of 128 or 8 rows and 4 columns. */
static inline size_t host_sf_bytes(fp4_layout layout, size_t rows, size_t sf_cols)
{
    const size_t tile = layout == FP4_LAYOUT_128X4 ? 128 : 8;

    if (layout == FP4_LAYOUT_LINEAR) {
        return rows * sf_cols;
    }
    return (rows / tile + (rows % tile != 0)) * (sf_cols / 4 + (sf_cols % 4 != 0)) * tile * 4;
}

/** Row-major scale bytes to a layout, written from the first byte of the buffer to the last.
    128x4 is the transpose of a [4, 32, 4] array to [32, 4, 4] in every tile. */
static inline void host_place_scales(uint8_t *out, fp4_layout layout, const uint8_t *linear,
                                     size_t rows, size_t sf_cols)
{
    const size_t quarters = layout == FP4_LAYOUT_128X4 ? 4 : 1;
    const size_t lines = layout == FP4_LAYOUT_128X4 ? 32 : 8;

    if (layout == FP4_LAYOUT_LINEAR) {
        for (size_t i = 0; i < rows * sf_cols; i++) {
            out[i] = linear[i];
        }
        return;
    }
    for (size_t top = 0; top < rows; top += quarters * lines) {
        for (size_t left = 0; left < sf_cols; left += 4) {
            for (size_t line = 0; line < lines; line++) {
                for (size_t quarter = 0; quarter < quarters; quarter++) {
                    for (size_t col = left; col < left + 4; col++) {
                        const size_t row = top + quarter * lines + line;
                        *out++ = row < rows && col < sf_cols ? linear[row * sf_cols + col] : 0;
                    }
                }
            }
        }
    }
}

/* ---------------------------------------------------------------- whole matrices */

/** What a matrix quantizes to; scales row-major, without padding. */
typedef struct host_expected {
    fp4_format format;
    size_t rows, cols, sf_cols; /* of the quantized tensor */
    uint8_t *q, *sf;
    size_t q_bytes;
    float global_dec;
    float *row_dec; /* rows floats, or null */
} host_expected;

static inline void *host_zeros(size_t bytes)
{
    void *memory = calloc(bytes + 1, 1);

    cr_assert_not_null(memory);
    return memory;
}

static inline void host_expected_free(host_expected expected)
{
    free(expected.q);
    free(expected.sf);
    free(expected.row_dec);
}

/** The encode scale of a token from the amax of its row, and its decode scale. */
static inline float host_token_enc(float amax, float base_dec, float *row_dec)
{
    float enc = host_min(host_div(host_div(1.0f, base_dec), amax), FP4_F32_MAX);

    enc = enc == 0 ? 1.0f : enc;
    *row_dec = amax == 0 ? 0.0f : host_div(1.0f, enc);
    return enc;
}

/** The encode scale of a row, and its decode scale where there is one a row. */
static inline float host_row_enc(host_recipe recipe, const fp4_matrix *x, size_t row,
                                 const host_level *level, float *row_dec)
{
    fp4_matrix one = *x;

    if (host_is_rows(recipe)) {
        *row_dec = host_div(1.0f, level->row_enc[row]);
        return level->row_enc[row];
    }
    if (!host_is_tokens(recipe)) {
        return level->global_enc;
    }
    one.data = (const uint8_t *)x->data + row * x->row_stride * host_dtype_bytes(x->dtype);
    one.rows = 1;
    return host_token_enc(host_matrix_amax(&one), level->base_dec, row_dec);
}

/** Room for what a rows x cols matrix quantizes to, as zeros. */
static inline host_expected host_expected_new(host_recipe recipe, size_t rows, size_t cols,
                                              float global_enc)
{
    host_expected out;

    out.format = host_recipe_format(recipe);
    out.rows = rows;
    out.cols = cols;
    out.sf_cols = cols / host_recipe_block(recipe);
    out.q_bytes = out.format == FP4_MXFP8 ? rows * cols : rows * cols / 2;
    out.q = (uint8_t *)host_zeros(out.q_bytes);
    out.sf = (uint8_t *)host_zeros(rows * out.sf_cols);
    out.row_dec = host_has_row_dec(recipe) ? (float *)host_zeros(rows * sizeof(float)) : NULL;
    out.global_dec = host_is_tensor(recipe) ? host_div(1.0f, global_enc) : 1.0f;
    return out;
}

/** Puts a block, whose first element is in column col, into its place. */
static inline void host_expected_put(host_expected *t, size_t row, size_t col, const host_block *b)
{
    const size_t block = t->cols / t->sf_cols;

    t->sf[row * t->sf_cols + col / block] = b->sf;
    for (size_t i = 0; i < block; i++) {
        const size_t at = row * t->cols + col + i;
        if (t->format == FP4_MXFP8) {
            t->q[at] = b->code[i];
        } else {
            t->q[at / 2] = (uint8_t)(t->q[at / 2] | b->code[i] << (at % 2 * 4));
        }
    }
}

/** Quantizes x into a tensor of `cols` columns, x->cols or more. */
static inline host_expected host_quantize_naively(host_recipe recipe, const fp4_matrix *x,
                                                  size_t cols, const host_level *level)
{
    const size_t block = host_recipe_block(recipe);
    host_expected out = host_expected_new(recipe, x->rows, cols, level->global_enc);

    for (size_t row = 0; row < x->rows && x->cols != 0; row++) {
        const float enc = host_row_enc(recipe, x, row, level, out.row_dec + row);
        for (size_t col = 0; col < x->cols; col += block) {
            float values[32];
            host_block b;
            for (size_t i = 0; i < block; i++) {
                values[i] = host_element(x, row, col + i);
            }
            b = host_block_of(recipe, values, enc);
            host_expected_put(&out, row, col, &b);
        }
    }
    return out;
}

/** An element of what the naive quantizer made, decoded: (code * scale) * second-level scale. */
static inline float host_decoded(const host_expected *t, size_t row, size_t col)
{
    const size_t at = row * t->cols + col;
    const uint8_t sf = t->sf[row * t->sf_cols + col / (t->cols / t->sf_cols)];
    const float code = t->format == FP4_MXFP8 ? host_e4m3(t->q[at])
                                              : host_e2m1(t->q[at / 2] >> (at % 2 * 4) & 15u);
    const float scaled = host_mul(
        code, t->format == FP4_NVFP4 || t->format == FP4_NVFP4_32 ? host_e4m3(sf) : host_e8m0(sf));
    return host_mul(scaled, t->row_dec != NULL ? t->row_dec[row] : t->global_dec);
}

/** The library's function for a recipe. */
static inline fp4_status host_quantize(host_recipe recipe, fp4_matrix x, const host_level *level,
                                       fp4_tensor *t)
{
    switch (recipe) {
    case HOST_NVFP4_TENSOR:
    case HOST_NVFP4_32_TENSOR:
        return fp4_ref_nvfp4_quantize(x, level->global_enc, t);
    case HOST_NVFP4_ROWS:
    case HOST_NVFP4_32_ROWS:
        return fp4_ref_nvfp4_quantize_rows(x, level->row_enc, t);
    case HOST_NVFP4_TOKENS:
    case HOST_NVFP4_32_TOKENS:
        return fp4_ref_nvfp4_quantize_tokens(x, level->base_dec, t);
    case HOST_MXFP4_UP:
    case HOST_MXFP4_16_UP:
        return fp4_ref_mxfp4_quantize(x, t);
    case HOST_MXFP4_FLOOR:
    case HOST_MXFP4_16_FLOOR:
        return fp4_ref_mxfp4_quantize_floor(x, t);
    case HOST_MXFP4_CEIL:
    case HOST_MXFP4_16_CEIL:
        return fp4_ref_mxfp4_quantize_ceil(x, t);
    case HOST_MXFP4_EVEN:
    case HOST_MXFP4_16_EVEN:
        return fp4_ref_mxfp4_quantize_even(x, t);
    case HOST_MXFP8_UP:
        return fp4_ref_mxfp8_quantize(x, t);
    case HOST_MXFP8_FLOOR:
        return fp4_ref_mxfp8_quantize_floor(x, t);
    case HOST_MXFP8_CEIL:
        return fp4_ref_mxfp8_quantize_ceil(x, t);
    case HOST_MXFP8_EVEN:
        return fp4_ref_mxfp8_quantize_even(x, t);
    case HOST_RECIPES:
        break;
    }
    return FP4_BAD_TYPE;
}

/* ---------------------------------------------------------------- tensors */

/** A tensor with its own memory, poisoned with 0x7f. */
typedef struct host_tensor {
    fp4_tensor t;
    host_buffer q, sf, row_dec;
} host_tensor;

static inline host_tensor host_tensor_new(host_recipe recipe, fp4_layout layout, size_t rows,
                                          size_t cols)
{
    const fp4_format format = host_recipe_format(recipe);
    const size_t sf_cols = cols / host_recipe_block(recipe);
    host_tensor h;

    h.q = host_buffer_new(format == FP4_MXFP8 ? rows * cols : rows * cols / 2, 0);
    h.sf = host_buffer_new(host_sf_bytes(layout, rows, sf_cols), 0);
    h.row_dec = host_buffer_new(rows * sizeof(float), 0);
    h.t = fp4_tensor_view(format, layout, rows, cols, h.q.bytes, h.q.size, h.sf.bytes, h.sf.size);
    if (host_has_row_dec(recipe)) {
        h.t.row_dec = (float *)(void *)h.row_dec.bytes;
        h.t.row_dec_bytes = h.row_dec.size;
    }
    return h;
}

static inline void host_tensor_free(host_tensor h)
{
    host_buffer_free(h.q, "codes");
    host_buffer_free(h.sf, "scales");
    host_buffer_free(h.row_dec, "row_dec");
}

/** The code of element `at`, counted through the rows. */
static inline unsigned host_code_at(const fp4_tensor *t, size_t at)
{
    return t->format == FP4_MXFP8 ? t->q[at] : (t->q[at / 2] >> (at % 2 * 4)) & 15u;
}

/* One global scale, and the same in every row, so that the rows recipe gives the same bytes. */
static inline host_level host_level_of(float global_enc, size_t rows)
{
    float *row_enc = (float *)host_zeros(rows * sizeof(float));
    host_level level;

    for (size_t row = 0; row < rows; row++) {
        row_enc[row] = global_enc;
    }
    level.global_enc = global_enc;
    level.row_enc = row_enc;
    level.base_dec = 1.0f / 2688.0f;
    return level;
}

static inline void host_level_free(host_level level)
{
    free((void *)(uintptr_t)level.row_enc);
}

/* ---------------------------------------------------------------- data */

/** What random matrices hold. */
typedef enum host_data {
    HOST_NARROW,   /* magnitudes within a few binades of 1 */
    HOST_MODERATE, /* blocks up to 2^40 apart */
    HOST_WIDE,     /* blocks anywhere in the range of the type, subnormals too */
    HOST_SPECIAL,  /* as moderate, with NaN and infinity among them */
    HOST_DATA
} host_data;

/* Fields of the element types, in the order of fp4_dtype. */
typedef struct host_fields {
    uint32_t exponent_bits, mantissa_bits;
} host_fields;

static inline host_fields host_fields_of(fp4_dtype dtype)
{
    static const host_fields fields[] = {{8, 23}, {5, 10}, {8, 7}, {4, 3}};
    return fields[dtype];
}

/** The exponent field near which the magnitudes of a block lie. */
static inline uint32_t host_random_centre(uint64_t *state, fp4_dtype dtype, host_data data)
{
    const uint32_t all = 1u << host_fields_of(dtype).exponent_bits, bias = all / 2u - 1u;
    const uint32_t spread = data == HOST_NARROW ? 3u : bias < 20u ? bias - 1u : 20u;

    return data == HOST_WIDE ? host_below(state, all)
                             : bias - spread + host_below(state, 2u * spread + 1u);
}

/** Bits of an element: an exponent at or below the centre, half of the time a mantissa of at most
    3 bits, so that ties come up. Finite unless `data` is HOST_SPECIAL. */
static inline uint32_t host_random_bits(uint64_t *state, fp4_dtype dtype, host_data data,
                                        uint32_t centre)
{
    const host_fields f = host_fields_of(dtype);
    const uint32_t sign = (host_random(state) & 1u) << (f.exponent_bits + f.mantissa_bits);
    const uint32_t largest = (1u << f.exponent_bits) - 1u; /* infinity and NaN, but for e4m3 */
    uint32_t below = host_below(state, 12) * host_below(state, 12) / 16u;
    uint32_t exponent, mantissa = host_random(state) >> (32u - f.mantissa_bits);

    if (data == HOST_SPECIAL && host_below(state, 48) == 0) {
        mantissa = dtype == FP4_E4M3 ? 7u : host_below(state, 2) * (mantissa | 1u);
        return sign | largest << f.mantissa_bits | mantissa;
    }
    if (host_below(state, 16) == 0) {
        return sign;
    }
    below = below < centre ? below : centre;
    exponent = centre - below;
    if (f.mantissa_bits > 3u && (host_random(state) & 1u)) {
        mantissa = mantissa >> (f.mantissa_bits - 3u) << (f.mantissa_bits - 3u);
    }
    if (dtype == FP4_E4M3) {
        mantissa -= exponent == largest && mantissa == 7u;
    } else {
        exponent -= exponent == largest;
    }
    return sign | exponent << f.mantissa_bits | mantissa;
}

/** Fills a matrix; what lies between its rows becomes infinity (or 448), which nothing may read. */
static inline void host_fill(uint8_t *bytes, fp4_matrix x, uint64_t *state, host_data data,
                             size_t block)
{
    static const uint32_t gap[] = {0x7f800000u, 0x7c00u, 0x7f80u, 0x7eu};
    const size_t size = host_dtype_bytes(x.dtype);
    uint32_t centre = 0;
    int zeros = 0;

    for (size_t row = 0; row < x.rows; row++) {
        const size_t end = row + 1 == x.rows ? x.cols : x.row_stride;
        for (size_t col = 0; col < end; col++) {
            uint32_t bits = gap[x.dtype];
            if (col < x.cols) {
                if (col % block == 0) {
                    centre = host_random_centre(state, x.dtype, data);
                    zeros = host_below(state, 16) == 0;
                }
                bits = host_random_bits(state, x.dtype, data, zeros ? 0u : centre);
                bits = zeros ? bits >> (8u * size - 1u) << (8u * size - 1u) : bits;
            }
            memcpy(bytes + (row * x.row_stride + col) * size, &bits, size);
        }
    }
}

/** Makes zeros among n elements ones and more, of the same sign: what a table of activations has no
    zeros for looks up whole warps of the others. */
static inline void host_without_zeros(uint8_t *bytes, size_t n, fp4_dtype dtype)
{
    const host_fields f = host_fields_of(dtype);
    const uint32_t sign = 1u << (f.exponent_bits + f.mantissa_bits);
    const uint32_t one = ((1u << (f.exponent_bits - 1u)) - 1u) << f.mantissa_bits;
    const size_t size = host_dtype_bytes(dtype);

    for (size_t i = 0; i < n; i++) {
        uint32_t bits = 0;
        memcpy(&bits, bytes + i * size, size);
        bits |= (bits & (sign - 1u)) == 0 ? one + (uint32_t)(i % 8) : 0;
        memcpy(bytes + i * size, &bits, size);
    }
}

/** Elements that a matrix spans in memory. */
static inline size_t host_span(size_t rows, size_t cols, size_t row_stride)
{
    return rows == 0 || cols == 0 ? 0 : (rows - 1) * row_stride + cols;
}

#endif /* FP4_TESTS_HOST_UTIL_H */

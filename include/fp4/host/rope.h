/*
 * fp4/host/rope.h - rotary position embedding on the host, in the arithmetic of rope.h: the table
 * of cosines and sines, and heads turned by it.
 *
 * What its functions share:
 *
 * errors   FP4_BAD_SHAPE for a rotary that is odd, 0 or longer than a head, and sizes that
 *          overflow; FP4_BAD_STRIDE for a stride below dim, and for an output of which fp4_kv_span
 *          finds heads that overlap; FP4_BAD_TYPE for an e4m3 input and an unknown style;
 *          FP4_SMALL_BUFFER; FP4_NULL; then nothing is written.
 * threads  reentrant.
 */
#ifndef FP4_HOST_ROPE_H
#define FP4_HOST_ROPE_H

#include <fp4/host/kv_cache.h>
#include <fp4/rope.h>

#include <math.h>

/**
 * Heads of tokens: element d of head h of token t is data[t * token_stride + h * head_stride + d].
 * Any alignment. [tokens, heads, dim] has token_stride = heads * dim, head_stride = dim; a slice of
 * a projection's output that holds Q, K and V has a longer token_stride.
 */
typedef struct fp4_heads {
    const void *data;
    fp4_dtype dtype; /* f32, f16, bf16 */
    size_t tokens, heads, dim;
    size_t token_stride, head_stride; /* in elements */
} fp4_heads;

/** How heads are turned: not at all where cos_sin is null. */
typedef struct fp4_rope {
    const float *cos_sin; /* positions x rotary, as rope.h has it */
    size_t positions, rotary;
    fp4_rope_style style;
} fp4_rope;

/* The heads can be read. */
static inline fp4_status fp4_ref_check_heads_(const fp4_heads *x)
{
    size_t most = 0;

    if ((unsigned)x->dtype >= FP4_E4M3) {
        return FP4_BAD_TYPE;
    }
    if (x->tokens == 0 || x->heads == 0 || x->dim == 0) {
        return FP4_OK;
    }
    if ((x->heads > 1 && x->head_stride < x->dim) || (x->tokens > 1 && x->token_stride < x->dim)) {
        return FP4_BAD_STRIDE;
    }
    if (fp4_overflows_(x->tokens, x->token_stride) || fp4_overflows_(x->heads, x->head_stride)) {
        return FP4_BAD_SHAPE;
    }
    most = x->tokens * x->token_stride;
    if (most > SIZE_MAX - x->heads * x->head_stride ||
        most + x->heads * x->head_stride > SIZE_MAX - x->dim ||
        fp4_overflows_(most + x->heads * x->head_stride + x->dim, fp4_dtype_bytes(x->dtype))) {
        return FP4_BAD_SHAPE;
    }
    return x->data == NULL ? FP4_NULL : FP4_OK;
}

/* The heads can be written: no two of them share an element. */
static inline fp4_status fp4_ref_check_heads_out_(const fp4_heads *y)
{
    const fp4_status status = fp4_ref_check_heads_(y);
    fp4_kv_strides strides;

    strides.batch = 0;
    strides.token = y->token_stride;
    strides.head = y->head_stride;
    return status != FP4_OK || y->tokens == 0 || y->heads == 0 || y->dim == 0 ||
                   fp4_kv_span(1, y->tokens, y->heads, y->dim, strides) != 0
               ? status
               : FP4_BAD_STRIDE;
}

/* Bytes that the heads span, all of them within what fp4_ref_check_heads_ has looked at. */
static inline size_t fp4_ref_heads_bytes_(const fp4_heads *x)
{
    return x->tokens == 0 || x->heads == 0 || x->dim == 0
               ? 0
               : ((x->tokens - 1) * x->token_stride + (x->heads - 1) * x->head_stride + x->dim) *
                     fp4_dtype_bytes(x->dtype);
}

/* Heads of `dim` elements can be turned. */
static inline fp4_status fp4_ref_check_rope_(const fp4_rope *rope, size_t dim)
{
    if (rope->cos_sin == NULL) {
        return FP4_OK;
    }
    if ((unsigned)rope->style > FP4_ROPE_GPTJ) {
        return FP4_BAD_TYPE;
    }
    return rope->rotary == 0 || rope->rotary % 2 != 0 || rope->rotary > dim ||
                   fp4_overflows_(rope->positions, rope->rotary) ||
                   fp4_overflows_(rope->positions * rope->rotary, sizeof(float))
               ? FP4_BAD_SHAPE
               : FP4_OK;
}

/* n elements of a head, the first of them `from`, turned to a position of the table. */
static inline void fp4_ref_rope_load_(float *out, const fp4_heads *x, size_t token, size_t head,
                                      size_t from, size_t n, const fp4_rope *rope, size_t position)
{
    const uint8_t *row =
        (const uint8_t *)x->data +
        (token * x->token_stride + head * x->head_stride) * fp4_dtype_bytes(x->dtype);
    const fp4_matrix m = fp4_matrix_of_(row, x->dtype, 1, x->dim, x->dim, 1.0f);
    size_t i;

    fp4_ref_load_(out, &m, 0, from, n);
    if (rope->cos_sin == NULL) {
        return;
    }
    for (i = 0; i < n && from + i < rope->rotary; i++) {
        const size_t at = from + i, pair = fp4_rope_pair(rope->style, at, rope->rotary);
        const float *cos_sin = rope->cos_sin + position * rope->rotary;
        const float sin = cos_sin[rope->rotary / 2 + pair];
        float partner;
        fp4_ref_load_(&partner, &m, 0, fp4_rope_partner(rope->style, at, rope->rotary), 1);
        out[i] = fp4_rope_turn(out[i], partner, cos_sin[pair],
                               fp4_rope_is_y(rope->style, at, rope->rotary) ? sin : -sin);
    }
}

/**
 * The table of `positions` positions from 0 on: the angle of pair i is
 * position * base^(-2i / rotary), computed in double and rounded to f32 once.
 *
 * shape    cos_sin: positions * rotary floats; cos_sin_bytes: what there is.
 * range    base: 1 to 1e300, else FP4_BAD_SCALE; 10000 for the first Llama, more for
 *          most later models. A framework's table, computed in f32, differs in the last bits, and
 *          far from position 0 in more; take that one where its bytes are wanted.
 */
static inline fp4_status fp4_ref_rope_table(double base, size_t positions, size_t rotary,
                                            float *cos_sin, size_t cos_sin_bytes)
{
    size_t position, i;

    if (rotary == 0 || rotary % 2 != 0 || fp4_overflows_(positions, rotary) ||
        fp4_overflows_(positions * rotary, sizeof(float))) {
        return FP4_BAD_SHAPE;
    }
    if (!(base >= 1 && base <= 1e300)) {
        return FP4_BAD_SCALE;
    }
    if (positions != 0 && cos_sin == NULL) {
        return FP4_NULL;
    }
    if (cos_sin_bytes < positions * rotary * sizeof(float)) {
        return FP4_SMALL_BUFFER;
    }
    for (i = 0; i < rotary / 2; i++) {
        const double frequency = pow(base, -2.0 * (double)i / (double)rotary);
        for (position = 0; position < positions; position++) {
            const double angle = (double)position * frequency;
            cos_sin[position * rotary + i] = (float)cos(angle);
            cos_sin[position * rotary + rotary / 2 + i] = (float)sin(angle);
        }
    }
    return FP4_OK;
}

/**
 * Heads turned: y = RoPE(x), rounded to the type of x once.
 *
 * shape    positions: one of each token; those outside the table are skipped: nothing of their
 *          tokens is written. y: as x, with strides of its own (its data is written to), no part of
 *          x; y_bytes: what there is.
 * skipped  null, or what the number of tokens that were skipped is added to.
 * source   FlashInfer apply_rope_with_cos_sin_cache, vLLM rotary_embedding, of which the last bit
 *          of f32 differs here and there before it is rounded.
 */
static inline fp4_status fp4_ref_rope(fp4_heads x, fp4_integers positions, fp4_rope rope,
                                      fp4_heads y, size_t y_bytes, size_t *skipped)
{
    const size_t size = fp4_dtype_bytes(x.dtype);
    fp4_status status = fp4_ref_check_heads_(&x);
    float chunk[FP4_REF_CHUNK_];
    size_t token, head, at, n, position, count = 0;

    status = status != FP4_OK ? status : fp4_ref_check_heads_out_(&y);
    status = status != FP4_OK ? status : fp4_ref_check_rope_(&rope, x.dim);
    if (status != FP4_OK) {
        return status;
    }
    if (y.dtype != x.dtype) {
        return FP4_BAD_TYPE;
    }
    if (y.tokens != x.tokens || y.heads != x.heads || y.dim != x.dim) {
        return FP4_BAD_SHAPE;
    }
    if (x.tokens != 0 && (positions.data == NULL || rope.cos_sin == NULL)) {
        return FP4_NULL;
    }
    if (y_bytes < fp4_ref_heads_bytes_(&y)) {
        return FP4_SMALL_BUFFER;
    }
    for (token = 0; token < x.tokens; token++) {
        if (!fp4_is_below_(fp4_integer_at_(positions, token), rope.positions, &position)) {
            count++;
            continue;
        }
        for (head = 0; head < x.heads; head++) {
            uint8_t *row = (uint8_t *)(uintptr_t)y.data +
                           (token * y.token_stride + head * y.head_stride) * size;
            for (at = 0; at < x.dim; at += n) {
                n = fp4_ref_chunk_(x.dim - at);
                fp4_ref_rope_load_(chunk, &x, token, head, at, n, &rope, position);
                fp4_ref_store_(row + at * size, x.dtype, chunk, n);
            }
        }
    }
    if (skipped != NULL) {
        *skipped += count;
    }
    return FP4_OK;
}

#endif /* FP4_HOST_ROPE_H */

/*
 * fp4/host/packbits.h - bytes to bits: 1 where a byte is not 0.
 *
 * source   FlashInfer, packbits and segment_packbits; numpy, packbits.
 */
#ifndef FP4_HOST_PACKBITS_H
#define FP4_HOST_PACKBITS_H

#include <fp4/host/tensor.h>
#include <fp4/packbits.h>

#include <string.h>

static inline void fp4_ref_packbits_(const uint8_t *x, size_t n, fp4_bit_order order, uint8_t *out)
{
    size_t i;

    for (i = 0; i < n; i++) {
        const unsigned bit = (unsigned)(order == FP4_BITS_LITTLE ? i % 8 : 7 - i % 8);
        const unsigned before = i % 8 == 0 ? 0u : out[i / 8];
        out[i / 8] = (uint8_t)(before | (unsigned)(x[i] != 0) << bit);
    }
}

/**
 * n bytes to n bits; what is left of the last byte is 0.
 *
 * shape    out: fp4_packed_bytes(n) bytes; out_bytes: what it holds. No overlap.
 * errors   FP4_BAD_TYPE for an unknown order, FP4_NULL, FP4_SMALL_BUFFER; then nothing is written.
 */
static inline fp4_status fp4_ref_packbits(const uint8_t *x, size_t n, fp4_bit_order order,
                                          uint8_t *out, size_t out_bytes)
{
    if ((unsigned)order > FP4_BITS_LITTLE) {
        return FP4_BAD_TYPE;
    }
    if (n != 0 && (x == NULL || out == NULL)) {
        return FP4_NULL;
    }
    if (out_bytes < fp4_packed_bytes(n)) {
        return FP4_SMALL_BUFFER;
    }
    fp4_ref_packbits_(x, n, order, out);
    return FP4_OK;
}

/* Entry i of an indptr of index_bytes-wide integers; a negative one becomes too large. */
static inline size_t fp4_ref_index_(const void *indptr, size_t index_bytes, size_t i)
{
    int32_t narrow;
    int64_t wide;

    if (index_bytes == 4) {
        memcpy(&narrow, (const uint8_t *)indptr + 4 * i, sizeof narrow);
        return (size_t)(int64_t)narrow;
    }
    memcpy(&wide, (const uint8_t *)indptr + 8 * i, sizeof wide);
    return (size_t)wide;
}

static inline void fp4_ref_set_index_(void *indptr, size_t index_bytes, size_t i, size_t value)
{
    const int32_t narrow = (int32_t)value;
    const int64_t wide = (int64_t)value;

    if (index_bytes == 4) {
        memcpy((uint8_t *)indptr + 4 * i, &narrow, sizeof narrow);
    } else {
        memcpy((uint8_t *)indptr + 8 * i, &wide, sizeof wide);
    }
}

/**
 * Each segment of x to bits of its own, which begin with a whole byte.
 *
 * shape    indptr: segments + 1 integers of index_bytes = 4 or 8 bytes; segment s is
 *          x[indptr[s]] to x[indptr[s + 1] - 1]. new_indptr: the same of out, of the same type
 *          (FlashInfer's is int32 always), or null. n: bytes of x. out: new_indptr[segments]
 *          bytes; out_bytes: what it holds. Any alignment; no overlap.
 * errors   FP4_BAD_TYPE for an unknown order or width, FP4_BAD_SHAPE where indptr decreases, is
 *          negative or leads behind x, FP4_NULL, FP4_SMALL_BUFFER; then nothing is written. A
 *          kernel, which cannot refuse, bounds what it is given and says so instead:
 *          fp4_packbits_error.
 */
static inline fp4_status fp4_ref_segment_packbits(const uint8_t *x, size_t n, const void *indptr,
                                                  size_t index_bytes, size_t segments,
                                                  fp4_bit_order order, uint8_t *out,
                                                  size_t out_bytes, void *new_indptr)
{
    size_t s, at = 0, before = 0;

    if ((unsigned)order > FP4_BITS_LITTLE || (index_bytes != 4 && index_bytes != 8)) {
        return FP4_BAD_TYPE;
    }
    if (indptr == NULL) {
        return FP4_NULL;
    }
    for (s = 0; s <= segments; s++) {
        const size_t end = fp4_ref_index_(indptr, index_bytes, s);
        if (end > n || end < before) {
            return FP4_BAD_SHAPE;
        }
        at += s == 0 ? 0 : fp4_packed_bytes(end - before);
        before = end;
    }
    if (at != 0 && (x == NULL || out == NULL)) {
        return FP4_NULL;
    }
    if (out_bytes < at) {
        return FP4_SMALL_BUFFER;
    }
    for (s = 0, at = 0; s <= segments; s++) {
        const size_t start = fp4_ref_index_(indptr, index_bytes, s);
        if (new_indptr != NULL) {
            fp4_ref_set_index_(new_indptr, index_bytes, s, at);
        }
        if (s < segments) {
            const size_t length = fp4_ref_index_(indptr, index_bytes, s + 1) - start;
            if (length != 0) {
                fp4_ref_packbits_(x + start, length, order, out + at);
            }
            at += fp4_packed_bytes(length);
        }
    }
    return FP4_OK;
}

#endif /* FP4_HOST_PACKBITS_H */

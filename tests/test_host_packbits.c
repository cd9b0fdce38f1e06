/* fp4/packbits.h, fp4/host/packbits.h: bytes to bits. */
#include <fp4/host/packbits.h>

#include "golden.h"
#include "host_util.h"

static const fp4_bit_order orders[] = {FP4_BITS_BIG, FP4_BITS_LITTLE};

/* Bit i of packed bytes. */
static unsigned bit_at(const uint8_t *bytes, size_t i, fp4_bit_order order)
{
    return bytes[i / 8] >> (order == FP4_BITS_LITTLE ? i % 8 : 7 - i % 8) & 1u;
}

static uint8_t *random_bytes(size_t n, uint64_t *state)
{
    uint8_t *x = (uint8_t *)host_zeros(n);

    for (size_t i = 0; i < n; i++) {
        x[i] = host_below(state, 2) ? (uint8_t)(1u << host_below(state, 8)) : 0;
    }
    return x;
}

Test(host_packbits, sizes)
{
    static const size_t known[][2] = {{0, 0},      {1, 1},      {7, 1},
                                      {8, 1},      {9, 2},      {16, 2},
                                      {1000, 125}, {1001, 126}, {SIZE_MAX, SIZE_MAX / 8 + 1}};

    for (size_t i = 0; i < 9; i++) {
        CHECK_EQ(fp4_packed_bytes(known[i][0]), known[i][1], "%zu bits", known[i][0]);
    }
}

Test(host_packbits, is_flashinfers)
{
    static const char *const names[] = {"big", "little"};
    const uint8_t *x =
        (const uint8_t *)golden_data(golden_path("layouts/packbits.in.npy"), "|u1", 999);
    uint8_t out[125];

    for (int i = 0; i < 2; i++) {
        const uint8_t *expected = (const uint8_t *)golden_data(
            golden_path("layouts/fi.packbits.%s.npy", names[i]), "|u1", 125);
        memset(out, 0x7f, sizeof out);
        CHECK_EQ(fp4_ref_packbits(x, 999, orders[i], out, sizeof out), FP4_OK, "%s", names[i]);
        host_expect_bytes(out, expected, sizeof out, names[i]);
    }
}

Test(host_packbits, each_bit_is_its_byte)
{
    uint64_t state = 1;

    for (size_t n = 0; n < 300; n++) {
        for (int i = 0; i < 2; i++) {
            const size_t bytes = (n + 7) / 8;
            const host_buffer out = host_buffer_new(bytes, n % 4);
            uint8_t *x = random_bytes(n, &state);
            CHECK_EQ(fp4_ref_packbits(x, n, orders[i], out.bytes, bytes), FP4_OK, "%zu", n);
            for (size_t k = 0; k < bytes * 8; k++) {
                CHECK_EQ(bit_at(out.bytes, k, orders[i]), k < n && x[k] != 0, "bit %zu of %zu", k,
                         n);
            }
            host_buffer_free(out, "bits");
            free(x);
        }
    }
}

/* Segments of random lengths, one in four empty; x has bytes in front and behind that nobody
   reads. */
static void check_segments(size_t segments, uint32_t most, size_t index_bytes, fp4_bit_order order,
                           uint64_t *state)
{
    const size_t indices = (segments + 1) * index_bytes;
    size_t *start = (size_t *)host_zeros((segments + 1) * sizeof(size_t));
    const host_buffer indptr = host_buffer_new(indices, 1),
                      new_indptr = host_buffer_new(indices, 3);
    size_t bytes = 0, at = 0;
    host_buffer out;
    uint8_t *x;

    start[0] = host_below(state, 10);
    for (size_t s = 0; s < segments; s++) {
        const size_t length = host_below(state, 4) == 0 ? 0 : host_below(state, most);
        start[s + 1] = start[s] + length;
        bytes += (length + 7) / 8;
    }
    for (size_t s = 0; s <= segments; s++) {
        memcpy(indptr.bytes + s * index_bytes, &start[s], index_bytes); /* little endian */
    }
    x = random_bytes(start[segments] + 5, state);
    out = host_buffer_new(bytes, 1);
    CHECK_EQ(fp4_ref_segment_packbits(x, start[segments] + 5, indptr.bytes, index_bytes, segments,
                                      order, out.bytes, bytes, new_indptr.bytes),
             FP4_OK, "%zu segments", segments);
    for (size_t s = 0; s <= segments; s++) {
        size_t got = 0;
        memcpy(&got, new_indptr.bytes + s * index_bytes, index_bytes);
        CHECK_EQ(got, at, "segment %zu of %zu begins", s, segments);
        if (s < segments) {
            const size_t length = start[s + 1] - start[s];
            for (size_t k = 0; k < (length + 7) / 8 * 8; k++) {
                CHECK_EQ(bit_at(out.bytes + at, k, order), k < length && x[start[s] + k] != 0,
                         "bit %zu of segment %zu", k, s);
            }
            at += (length + 7) / 8;
        }
    }
    host_buffer_free(out, "bits");
    host_buffer_free(indptr, "indptr");
    host_buffer_free(new_indptr, "new_indptr");
    free(start);
    free(x);
}

Test(host_packbits, each_segment_begins_with_a_byte)
{
    static const uint32_t most[] = {1, 2, 9, 40, 1000};
    uint64_t state = 2;

    for (size_t segments = 0; segments < 40; segments++) {
        for (size_t i = 0; i < 5 * 4; i++) {
            check_segments(segments, most[i / 4], i % 2 ? 4 : 8, orders[i / 2 % 2], &state);
        }
    }
}

/* ---------------------------------------------------------------- errors */

Test(host_packbits, what_is_bad_is_refused_and_nothing_is_written)
{
    const uint8_t x[20] = {1};
    uint8_t out[3];

    memset(out, 0x7f, sizeof out);
    CHECK_EQ(fp4_ref_packbits(NULL, 20, FP4_BITS_BIG, out, 3), FP4_NULL, "no input");
    CHECK_EQ(fp4_ref_packbits(x, 20, FP4_BITS_BIG, NULL, 3), FP4_NULL, "no output");
    CHECK_EQ(fp4_ref_packbits(x, 20, FP4_BITS_BIG, out, 2), FP4_SMALL_BUFFER, "little room");
    CHECK_EQ(fp4_ref_packbits(x, 20, (fp4_bit_order)2, out, 3), FP4_BAD_TYPE, "order");
    CHECK_EQ(fp4_ref_packbits(NULL, 0, FP4_BITS_BIG, NULL, 0), FP4_OK, "nothing");
    CHECK_EQ(out[0] & out[1] & out[2], 0x7f, "written");
    CHECK_EQ(fp4_ref_packbits(x, 20, FP4_BITS_BIG, out, 3), FP4_OK, "as it is");
}

Test(host_packbits, bad_segments_are_refused_and_nothing_is_written)
{
    static const int32_t good[] = {2, 10, 10, 20}, decreasing[] = {2, 10, 9, 20};
    static const int32_t negative[] = {-1, 10, 10, 20}, behind[] = {2, 10, 10, 21};
    static const int64_t wide[] = {2, 10, 10, 20}, negative_wide[] = {INT64_MIN, 10, 10, 20};
    static const struct {
        int has_x, has_out;
        const void *indptr;
        size_t index_bytes;
        int order;
        size_t out_bytes;
        fp4_status status;
    } calls[] = {
        {0, 1, good, 4, 0, 3, FP4_NULL},
        {1, 0, good, 4, 0, 3, FP4_NULL},
        {1, 1, NULL, 4, 0, 3, FP4_NULL},
        {1, 1, good, 2, 0, 3, FP4_BAD_TYPE},
        {1, 1, good, 0, 0, 3, FP4_BAD_TYPE},
        {1, 1, good, 4, 2, 3, FP4_BAD_TYPE},
        {1, 1, decreasing, 4, 0, 9, FP4_BAD_SHAPE},
        {1, 1, negative, 4, 0, 9, FP4_BAD_SHAPE},
        {1, 1, behind, 4, 0, 9, FP4_BAD_SHAPE},
        {1, 1, negative_wide, 8, 0, 9, FP4_BAD_SHAPE},
        {1, 1, good, 4, 0, 2, FP4_SMALL_BUFFER},
        {1, 1, wide, 8, 0, 2, FP4_SMALL_BUFFER},
    };
    const uint8_t x[20] = {1};
    uint8_t out[9];
    int64_t new_indptr[4];

    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        memset(out, 0x7f, sizeof out);
        memset(new_indptr, 0x7f, sizeof new_indptr);
        CHECK_EQ(fp4_ref_segment_packbits(calls[i].has_x ? x : NULL, 20, calls[i].indptr,
                                          calls[i].index_bytes, 3, (fp4_bit_order)calls[i].order,
                                          calls[i].has_out ? out : NULL, calls[i].out_bytes,
                                          new_indptr),
                 calls[i].status, "call %zu", i);
        for (size_t k = 0; k < sizeof out; k++) {
            CHECK_EQ(out[k], 0x7f, "call %zu: byte %zu was written", i, k);
        }
        for (size_t k = 0; k < 4; k++) {
            CHECK_EQ(new_indptr[k], 0x7f7f7f7f7f7f7f7f, "call %zu: entry %zu was written", i, k);
        }
    }
    CHECK_EQ(fp4_ref_segment_packbits(x, (size_t)1 << 33, (const int32_t[]){0, -1}, 4, 1,
                                      FP4_BITS_BIG, out, 9, new_indptr),
             FP4_BAD_SHAPE, "negative, of a long x");
    CHECK_EQ(fp4_ref_segment_packbits(x, 20, good, 4, 3, FP4_BITS_BIG, out, 3, NULL), FP4_OK,
             "without new_indptr");
    CHECK_EQ(fp4_ref_segment_packbits(NULL, 20, good, 4, 0, FP4_BITS_BIG, NULL, 0, new_indptr),
             FP4_OK, "no segments");
    CHECK_EQ(
        fp4_ref_segment_packbits(NULL, 0, &(const int32_t){0}, 4, 0, FP4_BITS_BIG, NULL, 0, NULL),
        FP4_OK, "nothing");
}

/*
 * fp4/packbits.h - which bit of a byte belongs to which element, how many bytes bits take, and what
 * may be wrong with segments.
 *
 *     element      0  1  2  3  4  5  6  7
 *     big          7  6  5  4  3  2  1  0     bit of the byte (0: lowest)
 *     little       0  1  2  3  4  5  6  7
 *
 * source   numpy, packbits(bitorder); FlashInfer, packbits.
 */
#ifndef FP4_PACKBITS_H
#define FP4_PACKBITS_H

#include <fp4/config.h>

/** Whether the first of eight elements is the highest bit of their byte or the lowest. */
typedef enum fp4_bit_order { FP4_BITS_BIG = 0, FP4_BITS_LITTLE = 1 } fp4_bit_order;

/**
 * What was wrong with segments on the device, where nobody can check them before they are used:
 * bits of an error word. Bits are added to it, and none are taken away.
 *
 * INDPTR      a segment begins or ends in front of x or behind it, or ends before it begins.
 * OUT_BYTES   the output has no room for all bits: those that have none are not written.
 */
typedef enum fp4_packbits_error {
    FP4_PACKBITS_INDPTR = 1,
    FP4_PACKBITS_OUT_BYTES = 2
} fp4_packbits_error;

/** Bytes of n bits. */
FP4_HD_CONST size_t fp4_packed_bytes(size_t n)
{
    return n / 8 + (n % 8 != 0);
}

#endif /* FP4_PACKBITS_H */

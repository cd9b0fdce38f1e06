/*
 * fp4/divisor.h - division by a number that a kernel is given: a multiplication and a shift, where
 * the compiler would make some twenty instructions of n / by.
 *
 *     n / by = ( n * times ) >> shift        times = 2^shift / by, rounded up
 *
 * shift is 31 + log2(by), rounded up, so that times has 32 bits, the highest of them set. Rounding
 * times up adds n * (times / 2^shift - 1 / by) to the quotient, less than n / 2^shift and so than
 * 1 / by for n below 2^31; without it the quotient is 1 / by short of the next integer at least.
 */
#ifndef FP4_DIVISOR_H
#define FP4_DIVISOR_H

#include <fp4/config.h>

/** A number to divide by, 1 to 2^31 - 1, and what fp4_divide needs of it. */
typedef struct fp4_divisor {
    uint32_t by, times, shift;
} fp4_divisor;

/** The divisor, for the host to make and a kernel to be given. by: 1 to 2^31 - 1. */
FP4_HD fp4_divisor fp4_divisor_of(uint32_t by)
{
    fp4_divisor d;

    d.by = by;
    d.shift = 31;
    while ((size_t)1 << (d.shift - 31) < by) {
        d.shift++;
    }
    d.times = (uint32_t)((((size_t)1 << d.shift) + by - 1) / by);
    return d;
}

/** n / d.by for n below 2^31. */
FP4_HD uint32_t fp4_divide(uint32_t n, fp4_divisor d)
{
    return (uint32_t)((size_t)n * d.times >> d.shift);
}

#endif /* FP4_DIVISOR_H */

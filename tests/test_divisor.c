/*
 * fp4/divisor.h against the division of C: small numbers by small ones, all of them; and around the
 * multiples of every kind of divisor, up to the last number that it is for.
 */
#include <fp4/divisor.h>

#include "host_util.h"

enum { LARGEST = 0x7fffffff };

static void check(uint32_t n, fp4_divisor d)
{
    CHECK_EQ(fp4_divide(n, d), n / d.by, "%u / %u", n, d.by);
}

/* Multiples and what is beside them, where a quotient changes; the last of them too. */
static void check_multiples(uint32_t by, uint64_t *state)
{
    const fp4_divisor d = fp4_divisor_of(by);
    const uint32_t last = LARGEST / by;

    CHECK_EQ(d.by, by, "by");
    CHECK(d.times >> 31 == 1, "%u: %08x", by, d.times);
    check(LARGEST, d);
    for (uint32_t i = 0; i < 40; i++) {
        const uint32_t times = i < 4 && i <= last ? last - i : host_below(state, last + 1);
        check(times * by, d);
        check(times * by - (times != 0), d);
    }
}

Test(divisor, small_numbers)
{
    for (uint32_t by = 1; by <= 600; by++) {
        const fp4_divisor d = fp4_divisor_of(by);
        for (uint32_t n = 0; n < 3000; n++) {
            check(n, d);
        }
    }
}

Test(divisor, around_multiples)
{
    uint64_t state = 1;

    for (uint32_t by = 1; by < 20000; by++) {
        check_multiples(by, &state);
    }
    for (uint32_t log2 = 1; log2 < 31; log2++) {
        for (uint32_t off = 0; off < 5; off++) {
            check_multiples((1u << log2) + off, &state);
            check_multiples((1u << log2) - 1, &state);
        }
    }
    for (int i = 0; i < 20000; i++) {
        check_multiples(1 + (host_random(&state) >> (1 + host_below(&state, 30))) % LARGEST,
                        &state);
    }
    check_multiples(LARGEST, &state);
    check_multiples(LARGEST - 1, &state);
}

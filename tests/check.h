/*
 * tests/check.h - assertions for loops over many inputs.
 *
 * A failure prints the input, what came out and what was expected, in hex. After the fifth failure
 * the test stops: a rule that is wrong on a million inputs need not say so a million times.
 *
 *     CHECK_EQ(fp4_f32_to_e2m1(x), 7u, "x = %08x", bits);
 *     CHECK(a < b, "row %zu", row);
 */
#ifndef FP4_TESTS_CHECK_H
#define FP4_TESTS_CHECK_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>

enum { CHECK_FAILURES_SHOWN = 5 };

/* Every Criterion test is a process of its own, so that this counts the failures of one test. */
static int check_failures_;

/* The caller's words, printed into a buffer that the next call reuses. */
__attribute__((format(printf, 1, 2))) static inline const char *check_text_(const char *format, ...)
{
    static char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return text;
}

/** Fails where got != expected. Both are taken as 64-bit unsigned integers. */
#define CHECK_EQ(got, expected, ...) \
    do { \
        const unsigned long long got_ = (unsigned long long)(got); \
        const unsigned long long expected_ = (unsigned long long)(expected); \
        if (got_ != expected_) { \
            cr_expect_fail("%s: got 0x%llx, expected 0x%llx (%s)", check_text_(__VA_ARGS__), got_, \
                           expected_, #got); \
            if (++check_failures_ == CHECK_FAILURES_SHOWN) { \
                cr_assert_fail("stopped after %d failures", check_failures_); \
            } \
        } \
    } while (0)

/** Fails where the condition does not hold. */
#define CHECK(condition, ...) \
    do { \
        if (!(condition)) { \
            cr_expect_fail("%s: not so: %s", check_text_(__VA_ARGS__), #condition); \
            if (++check_failures_ == CHECK_FAILURES_SHOWN) { \
                cr_assert_fail("stopped after %d failures", check_failures_); \
            } \
        } \
    } while (0)

#endif /* FP4_TESTS_CHECK_H */

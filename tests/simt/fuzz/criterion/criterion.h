/*
 * tests/simt/fuzz/criterion/criterion.h - what the tests' helpers need of Criterion, for a program
 * without it: a failure ends the process, as a fuzzer wants it.
 */
#ifndef FP4_TESTS_SIMT_FUZZ_CRITERION_H
#define FP4_TESTS_SIMT_FUZZ_CRITERION_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static inline void cr_die_(const char *condition, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "not so: %s: ", condition);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    abort();
}

#define cr_expect_fail(...) cr_die_("", __VA_ARGS__)
#define cr_assert_fail(...) cr_die_("", __VA_ARGS__)
/* With words and their arguments, or without. */
#define cr_assert(...) cr_assert_(__VA_ARGS__, "", "")
#define cr_assert_(condition, ...) ((condition) ? (void)0 : cr_die_(#condition, __VA_ARGS__))
#define cr_assert_not_null(pointer) cr_assert((pointer) != NULL)

#endif /* FP4_TESTS_SIMT_FUZZ_CRITERION_H */

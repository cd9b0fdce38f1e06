/*
 * tests/golden.h - the golden vectors, for Criterion tests. What is where: golden/README.md.
 *
 * A file that is missing or not as expected fails the test that asked for it, by its path. Data
 * stays loaded to the end of the process, which is the end of the test.
 */
#ifndef FP4_TESTS_GOLDEN_H
#define FP4_TESTS_GOLDEN_H

#include "check.h"
#include "npy.h"

#include <stdarg.h>

/* Tests run from the root of the repository; -DFP4_TEST_GOLDEN='"/elsewhere"' says otherwise. */
#if !defined(FP4_TEST_GOLDEN)
#define FP4_TEST_GOLDEN "tests/golden"
#endif

/* What has been loaded: pointed to from here, so that a leak checker sees that it is in use. */
enum { GOLDEN_MAX_LOADED = 1024 };
static void *golden_kept_[GOLDEN_MAX_LOADED];
static int golden_loaded_;

/** Memory that holds no data yet, all bytes `fill`, kept to the end of the test. */
static inline void *golden_memory(size_t bytes, int fill)
{
    void *memory = malloc(bytes + 1);

    cr_assert_not_null(memory, "out of memory");
    cr_assert_lt(golden_loaded_, GOLDEN_MAX_LOADED, "too much at once in one test");
    golden_kept_[golden_loaded_++] = memory;
    return memset(memory, fill, bytes + 1);
}

/** The path of a golden file, its name given as to printf. Overwritten by the next call. */
__attribute__((format(printf, 1, 2))) static inline const char *golden_path(const char *format, ...)
{
    static char path[512];
    const int used = snprintf(path, sizeof path, "%s/", FP4_TEST_GOLDEN);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(path + used, sizeof path - (size_t)used, format, arguments);
    va_end(arguments);
    return path;
}

/** A golden file of this element type. */
static inline npy golden_load(const char *path, const char *type)
{
    npy a;
    const char *wrong = npy_load(&a, path);

    if (wrong != NULL) {
        cr_assert_fail("%s: %s", path, wrong);
    }
    if (strcmp(a.type, type) != 0) {
        cr_assert_fail("%s: element type %s, expected %s", path, a.type, type);
    }
    cr_assert_lt(golden_loaded_, GOLDEN_MAX_LOADED, "too many golden files in one test");
    golden_kept_[golden_loaded_++] = a.data;
    return a;
}

/** A golden file of this element type and number of elements; its elements. */
static inline const void *golden_data(const char *path, const char *type, size_t count)
{
    const npy a = golden_load(path, type);

    if (a.count != count) {
        cr_assert_fail("%s: %zu elements, expected %zu", path, a.count, count);
    }
    return a.data;
}

#endif /* FP4_TESTS_GOLDEN_H */

/*
 * tests/simt/memory.cpp - device memory for the builds under AddressSanitizer: each buffer an
 * allocation of its own, aligned as cudaMalloc aligns and no byte longer than was asked for, so
 * that the sanitizer knows both of its ends.
 *
 * Buffers of a GiB and more are pages that nobody has touched yet, a page that cannot be touched
 * behind them: the sanitizer would write its own notes about every byte of them.
 */
#include "simt.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* A large buffer: its last byte is the last before the page that ends it, but for alignment. */
typedef struct large {
    uint8_t *pages, *bytes;
    size_t size;
} large;

enum { LARGE = 1 << 30, PAGE = 4096, ALIGNMENT = 256, MOST_LARGE = 64 };

static large larges[MOST_LARGE];

static void *large_new(size_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
    large *l = larges;
    void *pages;

    while (l->pages != NULL) {
        if (++l == larges + MOST_LARGE) {
            return NULL;
        }
    }
    pages = mmap(NULL, room + PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (pages == MAP_FAILED || mprotect((uint8_t *)pages + room, PAGE, PROT_NONE) != 0) {
        return NULL;
    }
    l->pages = (uint8_t *)pages;
    l->size = room + PAGE;
    l->bytes = l->pages + (room - bytes) / ALIGNMENT * ALIGNMENT;
    return l->bytes;
}

static int large_free(void *memory)
{
    for (large *l = larges; l < larges + MOST_LARGE; l++) {
        if (l->bytes == memory) {
            munmap(l->pages, l->size);
            memset(l, 0, sizeof *l);
            return 1;
        }
    }
    return 0;
}

extern "C" void *simt_memory_new(size_t bytes)
{
    void *memory = NULL;

    if (bytes >= LARGE) {
        return large_new(bytes);
    }
    return posix_memalign(&memory, ALIGNMENT, bytes) == 0 ? memory : NULL;
}

extern "C" void simt_memory_free(void *memory)
{
    if (memory != NULL && !large_free(memory)) {
        free(memory);
    }
}

extern "C" void simt_memory_written(const void *at, size_t bytes)
{
    (void)at;
    (void)bytes;
}

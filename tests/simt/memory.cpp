/*
 * tests/simt/memory.cpp - device memory for the builds under AddressSanitizer: each buffer an
 * allocation of its own, aligned as cudaMalloc aligns and no byte longer than was asked for, so
 * that the sanitizer knows both of its ends.
 */
#include "simt.h"

#include <stdlib.h>

extern "C" void *simt_memory_new(size_t bytes)
{
    void *memory = NULL;
    return posix_memalign(&memory, 256, bytes) == 0 ? memory : NULL;
}

extern "C" void simt_memory_free(void *memory)
{
    free(memory);
}

extern "C" void simt_memory_written(const void *at, size_t bytes)
{
    (void)at;
    (void)bytes;
}

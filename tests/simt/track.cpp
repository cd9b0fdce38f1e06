/*
 * tests/simt/track.cpp - device memory of which every access is looked at, in place of memory.cpp.
 *
 * Kernels are compiled with -fsanitize=thread and linked without its runtime: each of their loads
 * and stores then calls a function of this file first. It keeps, for each byte of device memory and
 * of shared memory, who has written it and when, and reports, with kernel, CTA and thread,
 *
 *     reads of bytes that nobody has written, of shared memory by a thread of the same CTA
 *     two threads at the same byte, one of them writing, with no barrier between: of shared memory,
 *     and, where the second comes after a write, of device memory, there between CTAs too
 *     reads and writes beyond a buffer, of a buffer that is freed, of memory that is the host's
 *     accesses to device memory before fp4_pdl_wait, in a grid that may start early
 *
 * in whichever order the threads run. It does not see: a write to device memory after a read by
 * another thread; what an atomic operation touches; that a value is computed from a byte that is
 * only padding. A __syncwarp orders a warp's accesses whatever its mask.
 */
#include "simt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGNMENT = 256, MOST_SHARED = 1 << 20 };

static const size_t ARENA = (size_t)1 << 34;

/* ------------------------------------------------------------------------------ buffers */

/* What is known of a byte of device memory. */
typedef struct device_byte {
    uint64_t is_live : 1, is_written : 1;
    uint64_t thread : 10, epoch : 12, cta : 20, launch : 20; /* of the last write by a kernel */
} device_byte;

typedef struct buffer {
    uint8_t *bytes;
    size_t size;
    int is_live;
} buffer;

static uint8_t *arena, *arena_end; /* the end of what is used */
static device_byte *device_bytes;  /* of the arena */
static buffer *buffers;
static size_t buffer_count;

static void *reserve(size_t bytes)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);

    if (memory == MAP_FAILED) {
        simt_fail("cannot reserve %zu bytes of addresses", bytes);
    }
    return memory;
}

extern "C" void *simt_memory_new(size_t bytes)
{
    const size_t step = (bytes / ALIGNMENT + 2) * ALIGNMENT; /* never one behind the other */
    uint8_t *memory;

    if (arena == NULL) {
        arena_end = arena = (uint8_t *)reserve(ARENA);
        device_bytes = (device_byte *)reserve(ARENA * sizeof(device_byte));
    }
    if (step > (size_t)(arena + ARENA - arena_end)) {
        return NULL;
    }
    memory = arena_end;
    arena_end += step;
    buffers = (buffer *)realloc(buffers, (buffer_count + 1) * sizeof *buffers);
    buffers[buffer_count].bytes = memory;
    buffers[buffer_count].size = bytes;
    buffers[buffer_count].is_live = 1;
    buffer_count++;
    for (size_t i = 0; i < bytes; i++) {
        device_bytes[memory - arena + (ptrdiff_t)i].is_live = 1;
    }
    return memory;
}

extern "C" void simt_memory_free(void *memory)
{
    size_t i = buffer_count;

    if (memory == NULL) {
        return;
    }
    do {
        if (i == 0) {
            simt_fail("cudaFree of %p, which cudaMalloc did not return", memory);
        }
        i--;
    } while (buffers[i].bytes != memory || !buffers[i].is_live);
    buffers[i].is_live = 0;
    memset((void *)&device_bytes[buffers[i].bytes - arena], 0,
           buffers[i].size * sizeof(device_byte));
}

extern "C" void simt_memory_written(const void *at, size_t bytes)
{
    const uint8_t *p = (const uint8_t *)at;

    for (size_t i = 0; p >= arena && p < arena_end && i < bytes; i++) {
        device_byte *b = &device_bytes[p - arena + (ptrdiff_t)i];
        b->is_written = 1;
        b->launch = 0;
    }
}

/* ------------------------------------------------------------------------------ device memory */

/* The buffer at an address, or the last one before it. */
static const buffer *buffer_near(const uint8_t *at)
{
    const buffer *near = &buffers[0];

    for (size_t i = 0; i < buffer_count; i++) {
        near = buffers[i].bytes <= at ? &buffers[i] : near;
    }
    return near;
}

static const char *const verb[] = {"reads", "writes"};

static void fail_outside(const uint8_t *at, int is_write)
{
    const buffer *b = buffer_near(at);

    if (b->bytes > at || (size_t)(at - b->bytes) < b->size) {
        simt_fail("%s byte %zu of a buffer of %zu bytes that has been freed", verb[is_write],
                  (size_t)(at - b->bytes), b->size);
    }
    simt_fail("%s %zu bytes behind the end of a buffer of %zu bytes", verb[is_write],
              (size_t)(at - b->bytes) - b->size, b->size);
}

/* The last write is another thread's, in this launch, and nothing lies between. */
static int is_race(const device_byte *b)
{
    const simt_place *here = &simt_here;

    if (!b->is_written || b->launch != (here->launch & 0xfffff)) {
        return 0;
    }
    if (b->cta != (here->cta & 0xfffff)) {
        return 1;
    }
    return b->thread != here->thread && b->epoch == (here->epoch & 0xfff);
}

static void device_access(const uint8_t *at, size_t bytes, int is_write)
{
    if (!simt_here.may_touch) {
        simt_fail("%s device memory before fp4_pdl_wait, in a grid that may start before the one "
                  "in front of it has ended",
                  verb[is_write]);
    }
    for (size_t i = 0; i < bytes; i++) {
        device_byte *b = &device_bytes[at - arena + (ptrdiff_t)i];
        if (!b->is_live) {
            fail_outside(at + i, is_write);
        }
        if (!is_write && !b->is_written) {
            const buffer *of = buffer_near(at);
            simt_fail("reads byte %zu of a buffer of %zu bytes, which nobody has written",
                      (size_t)(at + i - of->bytes), of->size);
        }
        if (is_race(b)) {
            const buffer *of = buffer_near(at);
            simt_fail("%s byte %zu of a buffer of %zu bytes, which thread %s of CTA number %u has "
                      "written, with no barrier between",
                      verb[is_write], (size_t)(at + i - of->bytes), of->size,
                      simt_thread_text((uint32_t)b->thread), (unsigned)b->cta);
        }
        if (is_write) {
            b->is_written = 1;
            b->thread = simt_here.thread & 0x3ff;
            b->epoch = simt_here.epoch & 0xfff;
            b->cta = simt_here.cta & 0xfffff;
            b->launch = simt_here.launch & 0xfffff;
        }
    }
}

/* ------------------------------------------------------------------------------ shared memory */

/* One access to a byte of shared memory. */
typedef struct shared_access {
    uint32_t thread, epoch, warp_epoch, openings;
} shared_access;

typedef struct shared_byte {
    uint64_t launch, cta; /* of which this is known */
    int is_written, is_read;
    int is_read_by_more, is_read_by_warps; /* since the last barrier that orders those reads */
    uint32_t readers;                      /* their warps, a bit each */
    shared_access written, read;           /* the last of each */
} shared_byte;

static shared_byte shared_bytes[MOST_SHARED];

static int is_unordered(const shared_access *before)
{
    const simt_place *here = &simt_here;

    return before->thread != here->thread && before->epoch == here->epoch &&
           (before->thread / 32 != here->thread / 32 || before->warp_epoch == here->warp_epoch) &&
           !simt_met_since(before->thread / 32, before->openings);
}

/* Whether all warps that have read have since met this thread's at barriers of parts. */
static int has_met_readers(const shared_byte *b)
{
    for (uint32_t warp = 0; warp < 32; warp++) {
        if ((b->readers >> warp & 1u) != 0 && !simt_met_since(warp, b->read.openings)) {
            return 0;
        }
    }
    return 1;
}

/* A write comes now: whether one of several reads, the last of which is known, may come at a time
   with it. */
static int is_read_meanwhile(const shared_byte *b)
{
    const simt_place *here = &simt_here;

    return b->is_read_by_more && b->read.epoch == here->epoch && !has_met_readers(b) &&
           (b->is_read_by_warps || b->read.thread / 32 != here->thread / 32 ||
            b->read.warp_epoch == here->warp_epoch);
}

static void add_read(shared_byte *b, shared_access now)
{
    const int is_same_warp = b->read.thread / 32 == now.thread / 32;

    if (!b->is_read || b->read.epoch != now.epoch ||
        (is_same_warp && !b->is_read_by_warps && b->read.warp_epoch != now.warp_epoch)) {
        b->is_read_by_more = b->is_read_by_warps = 0; /* all before are behind a barrier */
        b->readers = 0;
    } else {
        b->is_read_by_more |= b->read.thread != now.thread;
        b->is_read_by_warps |= !is_same_warp;
    }
    b->is_read = 1;
    b->readers |= 1u << now.thread / 32;
    b->read = now;
}

static void shared_byte_access(size_t at, const char *kind, int is_write)
{
    const shared_access now = {simt_here.thread, simt_here.epoch, simt_here.warp_epoch,
                               simt_here.openings};
    shared_byte *b = &shared_bytes[at];

    if (b->launch != simt_here.launch || b->cta != simt_here.cta) {
        memset(b, 0, sizeof *b);
        b->launch = simt_here.launch;
        b->cta = simt_here.cta;
    }
    if (!is_write && !b->is_written) {
        simt_fail("reads byte %zu of %s shared memory, which no thread of the CTA has written", at,
                  kind);
    }
    if (b->is_written && is_unordered(&b->written)) {
        simt_fail("%s byte %zu of %s shared memory, which thread %s has written, with no barrier "
                  "between",
                  verb[is_write], at, kind, simt_thread_text(b->written.thread));
    }
    if (is_write && b->is_read && (is_unordered(&b->read) || is_read_meanwhile(b))) {
        simt_fail("writes byte %zu of %s shared memory, which thread %s%s has read, with no "
                  "barrier between",
                  at, kind, simt_thread_text(b->read.thread),
                  b->is_read_by_more ? " (among others)" : "");
    }
    if (is_write) {
        b->is_written = 1;
        b->is_read = b->is_read_by_more = b->is_read_by_warps = 0;
        b->readers = 0;
        b->written = now;
    } else {
        add_read(b, now);
    }
}

/* ------------------------------------------------------------------------------ accesses */

extern "C" {
extern uint8_t __executable_start[], _end[];
}

static int is_within(const uint8_t *at, const void *from, size_t bytes)
{
    return at >= (const uint8_t *)from && at < (const uint8_t *)from + bytes;
}

static void look_at(const void *memory, size_t bytes, int is_write)
{
    const uint8_t *at = (const uint8_t *)memory;
    const simt_place *here = &simt_here;

    if (here->kernel == NULL) {
        return; /* host code of the same file */
    }
    if (arena != NULL && is_within(at, arena, ARENA)) {
        device_access(at, bytes, is_write);
        return;
    }
    for (size_t i = 0; i < bytes; i++) {
        const size_t fixed = (size_t)(here->kernel->shared_end - here->kernel->shared);
        if (fixed + here->dynamic_bytes > MOST_SHARED) {
            simt_fail("more shared memory than is kept track of");
        }
        if (is_within(at + i, here->kernel->shared, fixed)) {
            shared_byte_access((size_t)(at + i - here->kernel->shared), "static", is_write);
        } else if (is_within(at + i, here->dynamic, here->dynamic_bytes)) {
            shared_byte_access(fixed + (size_t)(at + i - here->dynamic), "dynamic", is_write);
        } else if (!is_within(at + i, here->stack, here->stack_bytes) &&
                   !is_within(at + i, __executable_start, (size_t)(_end - __executable_start))) {
            simt_fail("%s memory of the host, or none, at %p", verb[is_write], (void *)(at + i));
        }
    }
}

#define ACCESS(name, bytes, is_write) \
    extern "C" void __tsan_##name(const void *at) \
    { \
        look_at(at, bytes, is_write); \
    }
#define RANGE(name, is_write) \
    extern "C" void __tsan_##name(const void *at, size_t bytes) \
    { \
        look_at(at, bytes, is_write); \
    }

ACCESS(read1, 1, 0)
ACCESS(read2, 2, 0)
ACCESS(read4, 4, 0)
ACCESS(read8, 8, 0)
ACCESS(read16, 16, 0)
ACCESS(unaligned_read2, 2, 0)
ACCESS(unaligned_read4, 4, 0)
ACCESS(unaligned_read8, 8, 0)
ACCESS(unaligned_read16, 16, 0)
ACCESS(write1, 1, 1)
ACCESS(write2, 2, 1)
ACCESS(write4, 4, 1)
ACCESS(write8, 8, 1)
ACCESS(write16, 16, 1)
ACCESS(unaligned_write2, 2, 1)
ACCESS(unaligned_write4, 4, 1)
ACCESS(unaligned_write8, 8, 1)
ACCESS(unaligned_write16, 16, 1)
RANGE(read_range, 0)
RANGE(write_range, 1)

extern "C" void __tsan_init(void)
{
}

extern "C" void __tsan_func_entry(const void *)
{
}

extern "C" void __tsan_func_exit(void)
{
}

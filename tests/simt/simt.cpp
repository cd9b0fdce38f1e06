/*
 * tests/simt/simt.cpp - the machine of simt.h.
 *
 * A grid runs CTA by CTA. Each thread of a CTA is a fiber: it runs until it has to wait for others,
 * at a barrier or an operation of its warp, and is gone on with when they have come. Only there do
 * threads change, so that between two such points one thread runs as a whole before another: what
 * goes wrong then is what one order of threads does wrong. FP4_SIMT_SEED=N (not 0) in the
 * environment shuffles the order of the CTAs, and that of the threads anew after every point; the
 * builds of track.cpp find what no order shows.
 *
 * Errors, with kernel, CTA and thread:
 *
 *     warp operations   a mask without the caller; a lane that mask names has exited, is at another
 *                       operation, at another line, with another mask, at a barrier, or is no
 *                       thread of the CTA; a shuffle that reads a lane outside of the mask
 *     barriers          threads of a CTA at barriers of different lines; threads that wait forever.
 *                       Threads that have exited count as arrived, as they do from sm_70 on. At
 *                       those of a part of the CTA: a number that is none, no whole warps, others
 *                       there at another line or for another number of threads. There who has
 *                       exited has not arrived
 *     copies            to shared memory that a thread has not waited for when it ends
 *     launches          of a function that is not known; a grid that does not end within
 *                       FP4_SIMT_SECONDS (120)
 *     sanitizers        their reports, to which the place is added
 *
 * Not modelled: memory ordering (what one thread writes the next one sees), timing, CTAs that run
 * at the same time or wait for each other, clusters, independent progress of threads that spin.
 *
 * Why the switch between fibers is gcc's __builtin_setjmp: swapcontext makes a system call for the
 * signal mask at every switch, and longjmp is intercepted by AddressSanitizer, which then forgets
 * what it knows of the stack. The builtin is a handful of moves. A fiber's first start is a
 * setcontext. A fiber whose thread has ended takes the next one: a kernel without barriers needs
 * one fiber.
 */
#include "simt.h"

#include <execinfo.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#if !defined(HAS_ASAN)
#define HAS_ASAN 0
#endif
#if HAS_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define NO_ASAN __attribute__((noinline, no_sanitize("address")))
#else
#define NO_ASAN __attribute__((noinline))
#endif

enum { LANES = 32, MOST_THREADS = 1024, MOST_COPIES = 64, STACK = 1 << 18, BARRIERS = 16 };

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
simt_place simt_here;

/* ------------------------------------------------------------------------------ state */

typedef enum thread_state {
    NOT_STARTED,
    RUNNING,
    READY,
    AT_WARP,
    AT_BARRIER,
    AT_PART,
    EXITED
} thread_state;

typedef struct simt_fiber {
    void *jump[5]; /* __builtin_setjmp's */
    ucontext_t context;
    uint8_t *stack;
    const void *bottom; /* of the stack, and its size, for AddressSanitizer */
    size_t size;
    void *fake_stack;
    int is_started;
    struct simt_fiber *next; /* of the free ones */
} simt_fiber;

typedef struct simt_thread {
    thread_state state;
    simt_fiber *fiber;
    simt_warp_operation operation;
    uint32_t mask, value, operand, width, result;
    const char *file; /* where it waits */
    int line;
    uint32_t part, part_threads; /* AT_PART: the barrier's number, and of threads */
    uint32_t warp_epoch;
    int has_waited; /* fp4_pdl_wait */
    uint32_t copies;
} simt_thread;

static simt_kernel *kernels;
static size_t only_ctas;

static struct {
    const simt_kernel *kernel;
    void **arguments;
    uint32_t threads, exited, at_barrier;
    int is_dependent;
    simt_thread thread[MOST_THREADS];
    uint32_t order[MOST_THREADS]; /* in which threads are looked at */
    uint32_t at;                  /* place in it */
    uint32_t current;             /* the thread that runs */
    int progress;                 /* made in this turn through all threads */
    /* the last opening of a part's barrier at which two warps were, of simt_here.openings */
    uint32_t met[MOST_THREADS / LANES][MOST_THREADS / LANES];
} cta;

extern "C" {
extern uint8_t __executable_start[];
}

static simt_copy copies[MOST_THREADS][MOST_COPIES]; /* of each thread */
static simt_fiber scheduler, *running, *free_fibers;
static uint8_t *dynamic_shared;

/* ------------------------------------------------------------------------------ messages */

static unsigned long long seed(void)
{
    const char *text = getenv("FP4_SIMT_SEED");
    return text == NULL ? 0 : strtoull(text, NULL, 0);
}

static const char *dim_text(unsigned x, unsigned y, unsigned z)
{
    static char texts[4][48];
    static unsigned turn;
    char *text = texts[turn++ % 4];

    snprintf(text, sizeof texts[0], "(%u, %u, %u)", x, y, z);
    return text;
}

static uint3 index_of(uint32_t thread)
{
    const uint3 at = {thread % blockDim.x, thread / blockDim.x % blockDim.y,
                      thread / blockDim.x / blockDim.y};
    return at;
}

extern "C" const char *simt_thread_text(uint32_t thread)
{
    const uint3 at = index_of(thread);
    return dim_text(at.x, at.y, at.z);
}

/* Where the machine is, to stderr. */
static void print_place(void)
{
    const simt_kernel *k = simt_here.kernel;

    if (k == NULL) {
        fprintf(stderr, "simt: no kernel is running\n");
        return;
    }
    fprintf(stderr, "simt: in kernel %s of %s, CTA %s of %s, thread %s of %s, FP4_SIMT_SEED=%llu\n",
            k->name, k->unit, dim_text(blockIdx.x, blockIdx.y, blockIdx.z),
            dim_text(gridDim.x, gridDim.y, gridDim.z), simt_thread_text(cta.current),
            dim_text(blockDim.x, blockDim.y, blockDim.z), seed());
}

/* The lines that led here, innermost first. */
static void print_lines(void)
{
#if HAS_ASAN
    __sanitizer_print_stack_trace();
#else
    void *at[12];
    const int n = backtrace(at, 12);
    char command[512];
    int length = snprintf(command, sizeof command, "addr2line -Cfpie /proc/%d/exe", (int)getpid());

    for (int i = 2; i < n; i++) { /* without these two functions; calls, not returns */
        const uintptr_t offset = (uintptr_t)at[i] - (uintptr_t)__executable_start - 1;
        length +=
            snprintf(command + length, sizeof command - (size_t)length, " %zx", (size_t)offset);
    }
    snprintf(command + length, sizeof command - (size_t)length,
             " 2>/dev/null | grep -vF '?:?' >&2");
    fflush(stderr);
    if (system(command) != 0) {
        fprintf(stderr, "simt: no addr2line here to say which line that is\n");
    }
#endif
}

extern "C" void simt_fail(const char *format, ...)
{
    va_list list;

    fflush(stdout);
    fprintf(stderr, "simt: ");
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fprintf(stderr, "\n");
    print_place();
    print_lines();
    fflush(stderr);
    abort();
}

/* The sanitizers call these, each its own. */
extern "C" __attribute__((visibility("default"))) void __asan_on_error(void)
{
    print_place();
}

extern "C" __attribute__((visibility("default"))) void __ubsan_on_report(void)
{
    print_place();
}

/* Fails for a thread that is not the one that runs. */
static void fail_for(uint32_t thread, const char *text, uint32_t lane)
{
    const simt_thread *t = &cta.thread[thread];

    cta.current = thread;
    simt_fail("the warp operation at %s:%d with mask %08x waits for lane %u, %s", t->file, t->line,
              t->mask, lane, text);
}

/* ------------------------------------------------------------------------------ random order */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

static void shuffle_order(void)
{
    for (uint32_t i = cta.threads; seed() != 0 && i > 1; i--) {
        const uint32_t k = random_below(i), swap = cta.order[i - 1];
        cta.order[i - 1] = cta.order[k];
        cta.order[k] = swap;
    }
}

/* ------------------------------------------------------------------------------ fibers */

static void run_threads(void);

static NO_ASAN void jump(simt_fiber *to)
{
    if (to->is_started) {
        __builtin_longjmp(to->jump, 1);
    }
    to->is_started = 1;
    setcontext(&to->context);
}

/* Comes back when somebody switches to `from`. */
static NO_ASAN void switch_fiber(simt_fiber *from, simt_fiber *to)
{
    from->is_started = 1;
    running = to;
    simt_here.stack = to->bottom;
    simt_here.stack_bytes = to->size;
#if HAS_ASAN
    __sanitizer_start_switch_fiber(&from->fake_stack, to->bottom, to->size);
#endif
    if (__builtin_setjmp(from->jump) == 0) {
        jump(to);
    }
#if HAS_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}

/* The first function of a fiber. */
static void fiber_main(void)
{
#if HAS_ASAN
    __sanitizer_finish_switch_fiber(NULL, scheduler.bottom == NULL ? &scheduler.bottom : NULL,
                                    scheduler.size == 0 ? &scheduler.size : NULL);
#endif
    run_threads();
}

/* In a function of its own: getcontext returns twice. */
static __attribute__((noinline)) void set_context(simt_fiber *f)
{
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack + 4096;
    f->context.uc_stack.ss_size = STACK;
    f->context.uc_link = NULL;
    makecontext(&f->context, fiber_main, 0);
}

static simt_fiber *fiber_new(void)
{
    simt_fiber *f = free_fibers;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    if (f != NULL) {
        free_fibers = f->next;
        return f;
    }
    f = (simt_fiber *)calloc(1, sizeof *f);
    f->stack = (uint8_t *)mmap(NULL, STACK + 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (f->stack == MAP_FAILED || mprotect(f->stack, 4096, PROT_NONE) != 0) {
        simt_fail("no memory for the stack of a thread");
    }
    f->bottom = f->stack + 4096;
    f->size = STACK;
    set_context(f);
    return f;
}

/* ------------------------------------------------------------------------------ threads */

static void set_current(uint32_t thread)
{
    simt_thread *t = &cta.thread[thread];

    cta.current = thread;
    t->state = RUNNING;
    threadIdx = index_of(thread);
    simt_here.thread = thread;
    simt_here.warp_epoch = t->warp_epoch;
    simt_here.may_touch = !cta.is_dependent || t->has_waited;
    cta.progress = 1;
}

/* The running thread waits, as its state says, until it is ready. */
static void wait_here(void)
{
    simt_thread *t = &cta.thread[cta.current];

    t->fiber = running;
    switch_fiber(running, &scheduler);
}

/* Opens the barrier where all threads that are left have come to it. */
static void open_barrier(void)
{
    if (cta.at_barrier == 0 || cta.at_barrier + cta.exited < cta.threads) {
        return;
    }
    for (uint32_t i = 0; i < cta.threads; i++) {
        if (cta.thread[i].state == AT_BARRIER) {
            cta.thread[i].state = READY;
        }
    }
    cta.at_barrier = 0;
    simt_here.epoch++;
}

/* Lanes that wait for the current thread wait in vain. */
static void expect_nobody_waits(const char *text)
{
    const uint32_t lane = cta.current % LANES, first = cta.current - lane;

    for (uint32_t i = first; i < first + LANES && i < cta.threads; i++) {
        if (cta.thread[i].state == AT_WARP && (cta.thread[i].mask >> lane & 1u) != 0) {
            fail_for(i, text, lane);
        }
    }
}

/* Nobody waits for a copy of a thread that has ended. */
static void expect_no_copies(void)
{
    const simt_copy *first = copies[cta.current];

    if (cta.thread[cta.current].copies != 0) {
        simt_fail("the thread ends with %u copies to shared memory under way, the first of %s:%d",
                  cta.thread[cta.current].copies, first->file, first->line);
    }
}

/* Fibers run this: the current thread, and whichever have not been started behind it. */
static void run_threads(void)
{
    for (;;) {
        for (;;) {
            cta.kernel->call(cta.kernel->function, cta.arguments);
            expect_no_copies();
            cta.thread[cta.current].state = EXITED;
            cta.exited++;
            expect_nobody_waits("which has exited");
            open_barrier();
            if (cta.at == cta.threads || cta.thread[cta.order[cta.at]].state != NOT_STARTED) {
                break;
            }
            set_current(cta.order[cta.at++]);
        }
        running->next = free_fibers;
        free_fibers = running;
        switch_fiber(running, &scheduler);
    }
}

/* All threads that can run, in the order of this turn. */
static void turn(void)
{
    cta.progress = 0;
    shuffle_order();
    for (cta.at = 0; cta.at < cta.threads;) {
        const uint32_t thread = cta.order[cta.at++];
        const simt_thread *t = &cta.thread[thread];
        if (t->state == NOT_STARTED) {
            simt_fiber *fiber = fiber_new();
            set_current(thread);
            switch_fiber(&scheduler, fiber);
        } else if (t->state == READY) {
            set_current(thread);
            switch_fiber(&scheduler, t->fiber);
        }
    }
}

/* Nobody can run: says of the first thread that waits what for. */
static void fail_stuck(void)
{
    for (uint32_t i = 0; i < cta.threads; i++) {
        const simt_thread *t = &cta.thread[i];
        cta.current = i;
        if (t->state == AT_BARRIER || t->state == AT_PART) {
            uint32_t k = 0;
            while (k < cta.threads &&
                   (k == i || cta.thread[k].state == EXITED ||
                    (cta.thread[k].state == t->state &&
                     (t->state == AT_BARRIER || cta.thread[k].part == t->part)))) {
                k++;
            }
            if (k == cta.threads) {
                simt_fail("the barrier at %s:%d waits for threads that have exited", t->file,
                          t->line);
            }
            simt_fail("the barrier at %s:%d waits for thread %s, which waits at %s:%d", t->file,
                      t->line, simt_thread_text(k), cta.thread[k].file, cta.thread[k].line);
        }
    }
    simt_fail("all threads wait");
}

static NO_ASAN void poison_shared(uint8_t *from, const uint8_t *to)
{
    volatile uint8_t *p = from;

    for (; p < to; p++) {
        *p = 0xa5; /* what nobody has written is nothing good */
    }
}

static void run_cta(void)
{
    memset(cta.thread, 0, cta.threads * sizeof cta.thread[0]);
    for (uint32_t i = 0; i < cta.threads; i++) {
        cta.order[i] = i;
    }
    memset(cta.met, 0, sizeof cta.met);
    cta.exited = cta.at_barrier = 0;
    simt_here.epoch = simt_here.openings = 0;
    poison_shared(cta.kernel->shared, cta.kernel->shared_end);
    poison_shared(dynamic_shared, dynamic_shared + simt_here.dynamic_bytes);
    while (cta.exited < cta.threads) {
        turn();
        if (!cta.progress) {
            fail_stuck();
        }
    }
}

/* ------------------------------------------------------------------------ waiting together */

extern "C" void simt_barrier(const char *file, int line)
{
    simt_thread *t = &cta.thread[cta.current];

    expect_nobody_waits("which waits at a barrier");
    for (uint32_t i = 0; i < cta.threads; i++) {
        const simt_thread *other = &cta.thread[i];
        if (other->state == AT_BARRIER && (other->line != line || strcmp(other->file, file) != 0)) {
            simt_fail("at the barrier at %s:%d, but thread %s is at the one at %s:%d", file, line,
                      simt_thread_text(i), other->file, other->line);
        }
        if (other->state == AT_BARRIER) {
            break; /* the others are where this one is */
        }
    }
    t->state = AT_BARRIER;
    t->file = file;
    t->line = line;
    cta.at_barrier++;
    open_barrier();
    wait_here();
}

/* Opens a part's barrier where all its threads have come to it. */
static void open_part(uint32_t part, uint32_t threads)
{
    uint32_t warps[MOST_THREADS], n = 0;

    for (uint32_t i = 0; i < cta.threads; i++) {
        if (cta.thread[i].state == AT_PART && cta.thread[i].part == part) {
            warps[n++] = i / LANES;
        }
    }
    if (n < threads) {
        return;
    }
    simt_here.openings++;
    for (uint32_t i = 0; i < n; i += LANES) { /* whole warps, in ascending order */
        for (uint32_t k = 0; k < n; k += LANES) {
            cta.met[warps[i]][warps[k]] = simt_here.openings;
        }
    }
    for (uint32_t i = 0; i < cta.threads; i++) {
        if (cta.thread[i].state == AT_PART && cta.thread[i].part == part) {
            cta.thread[i].state = READY;
        }
    }
}

extern "C" void simt_barrier_of(uint32_t part, uint32_t threads, const char *file, int line)
{
    simt_thread *t = &cta.thread[cta.current];

    expect_nobody_waits("which waits at a barrier");
    if (part == 0 || part >= BARRIERS) {
        simt_fail("barrier number %u at %s:%d: there are 1 to %d", part, file, line, BARRIERS - 1);
    }
    if (threads == 0 || threads % LANES != 0 || threads > cta.threads) {
        simt_fail("the barrier at %s:%d is of %u threads: no whole warps of the CTA", file, line,
                  threads);
    }
    for (uint32_t i = 0; i < cta.threads; i++) {
        const simt_thread *other = &cta.thread[i];
        if (other->state == AT_PART && other->part == part &&
            (other->part_threads != threads || other->line != line ||
             strcmp(other->file, file) != 0)) {
            simt_fail("at barrier number %u, of %u threads, at %s:%d, but thread %s is there at "
                      "%s:%d, of %u",
                      part, threads, file, line, simt_thread_text(i), other->file, other->line,
                      other->part_threads);
        }
    }
    t->state = AT_PART;
    t->part = part;
    t->part_threads = threads;
    t->file = file;
    t->line = line;
    open_part(part, threads);
    wait_here();
}

extern "C" int simt_met_since(uint32_t warp, uint32_t openings)
{
    return cta.met[warp][simt_here.thread / LANES] > openings;
}

/* What is wrong between the current thread and a lane that its mask names. */
static void check_lane(const simt_thread *t, uint32_t lane)
{
    const uint32_t thread = cta.current / LANES * LANES + lane;
    const simt_thread *other = &cta.thread[thread];

    if (thread >= cta.threads) {
        fail_for(cta.current, "which the CTA does not have", lane);
    }
    if (other->state == EXITED) {
        fail_for(cta.current, "which has exited", lane);
    }
    if (other->state == AT_BARRIER || other->state == AT_PART) {
        fail_for(cta.current, "which waits at a barrier", lane);
    }
    if (other->state == AT_WARP && other->mask != t->mask) {
        simt_fail("the warp operation at %s:%d with mask %08x meets lane %u at %s:%d, with mask "
                  "%08x",
                  t->file, t->line, t->mask, lane, other->file, other->line, other->mask);
    }
    if (other->state == AT_WARP && (other->operation != t->operation || other->line != t->line ||
                                    strcmp(other->file, t->file) != 0)) {
        simt_fail("the warp operation at %s:%d meets lane %u at another, at %s:%d", t->file,
                  t->line, lane, other->file, other->line);
    }
}

/* The lane that a lane reads. */
static uint32_t source_of(const simt_thread *t, uint32_t lane)
{
    const uint32_t segment = lane / t->width * t->width;
    uint32_t from = lane;

    switch (t->operation) {
    case SIMT_SHUFFLE:
        from = segment + t->operand % t->width;
        break;
    case SIMT_SHUFFLE_XOR:
        from = lane ^ t->operand;
        from = from >= segment + t->width ? lane : from;
        break;
    case SIMT_SHUFFLE_UP:
        from = lane < segment + t->operand ? lane : lane - t->operand;
        break;
    case SIMT_SHUFFLE_DOWN:
        from = lane + t->operand >= segment + t->width ? lane : lane + t->operand;
        break;
    default:
        break;
    }
    return from;
}

/* All lanes of the mask are here: each gets what it came for. */
static void finish_warp(uint32_t first, uint32_t mask)
{
    uint32_t ballot = 0;

    for (uint32_t lane = 0; lane < LANES; lane++) {
        if (mask >> lane & 1u) {
            ballot |= cta.thread[first + lane].value << lane;
        }
    }
    for (uint32_t lane = 0; lane < LANES; lane++) {
        simt_thread *t = &cta.thread[first + lane];
        if ((mask >> lane & 1u) == 0) {
            continue;
        }
        if (t->operation == SIMT_BALLOT) {
            t->result = ballot;
        } else if (t->operation != SIMT_SYNCWARP) {
            const uint32_t from = source_of(t, lane);
            if (from >= LANES || (mask >> from & 1u) == 0) {
                cta.current = first + lane;
                simt_fail("the shuffle at %s:%d reads lane %u, which is not in the mask %08x",
                          t->file, t->line, from, mask);
            }
            t->result = cta.thread[first + from].value;
        } else {
            t->warp_epoch++;
        }
        t->state = READY;
    }
}

extern "C" uint32_t simt_warp(simt_warp_operation operation, uint32_t mask, uint32_t value,
                              uint32_t operand, uint32_t width, const char *file, int line)
{
    const uint32_t lane = cta.current % LANES, first = cta.current - lane;
    simt_thread *t = &cta.thread[cta.current];
    int all = 1;

    if (operation >= SIMT_SHUFFLE && (width == 0 || width > LANES || (width & (width - 1)) != 0 ||
                                      (operation > SIMT_SHUFFLE && operand >= LANES))) {
        simt_fail("the shuffle at %s:%d has width %u and operand %u", file, line, width, operand);
    }
    t->operation = operation;
    t->mask = mask;
    t->value = value;
    t->operand = operand;
    t->width = width;
    t->file = file;
    t->line = line;
    if ((mask >> lane & 1u) == 0) {
        simt_fail("the warp operation at %s:%d has mask %08x, without lane %u, which calls it",
                  file, line, mask, lane);
    }
    t->state = AT_WARP;
    for (uint32_t i = 0; i < LANES; i++) {
        const simt_thread *other = &cta.thread[first + i];
        if (mask >> i & 1u) {
            check_lane(t, i);
            all &= other->state == AT_WARP;
        } else if (first + i < cta.threads && other->state == AT_WARP &&
                   (other->mask >> lane & 1u) != 0) {
            fail_for(first + i, "which waits with a mask that does not name it", lane);
        }
    }
    if (all) {
        finish_warp(first, mask);
    }
    wait_here();
    return t->result;
}

extern "C" void simt_add_copy(const simt_copy *copy)
{
    simt_thread *t = &cta.thread[cta.current];

    if (t->copies == MOST_COPIES) {
        simt_fail("more than %d copies to shared memory are under way at %s:%d", (int)MOST_COPIES,
                  copy->file, copy->line);
    }
    copies[cta.current][t->copies++] = *copy;
}

extern "C" const simt_copy *simt_take_copies(uint32_t *n)
{
    simt_thread *t = &cta.thread[cta.current];

    *n = t->copies;
    t->copies = 0;
    return copies[cta.current];
}

extern "C" void simt_pdl_wait(void)
{
    cta.thread[cta.current].has_waited = 1;
    simt_here.may_touch = 1;
}

/* ------------------------------------------------------------------------------ grids */

/* A grid that runs for longer spins. */
static void on_alarm(int)
{
    simt_fail("the grid does not end: a thread waits for another in a loop (FP4_SIMT_SECONDS)");
}

static void set_alarm(void)
{
    const char *text = getenv("FP4_SIMT_SECONDS");

    signal(SIGALRM, on_alarm);
    alarm(text == NULL ? 120 : (unsigned)atoi(text));
}

extern "C" void simt_register(simt_kernel *kernel)
{
    kernel->next = kernels;
    kernels = kernel;
}

extern "C" const simt_kernel *simt_kernel_of(const void *function)
{
    const simt_kernel *k = kernels;

    while (k != NULL && k->function != function) {
        k = k->next;
    }
    return k;
}

extern "C" void simt_run_only(size_t ctas)
{
    only_ctas = ctas;
}

extern "C" void *simt_dynamic_shared(void)
{
    return dynamic_shared;
}

static size_t common_divisor(size_t a, size_t b)
{
    return b == 0 ? a : common_divisor(b, a % b);
}

extern "C" void simt_run_grid(const simt_kernel *kernel, dim3 grid, dim3 threads,
                              size_t dynamic_bytes, int is_dependent, void **arguments)
{
    const size_t ctas = (size_t)grid.x * grid.y * grid.z;
    size_t step = 1, first = 0;

    if (simt_here.kernel != NULL) {
        simt_fail("kernel %s is launched by a kernel", kernel->name);
    }
    random_state = seed();
    if (seed() != 0) { /* every CTA once: step and number have no divisor in common */
        first = random_below(0xffffffffu) % ctas;
        step = random_below(0xffffffffu) | 1u;
        while (common_divisor(step, ctas) != 1) {
            step += 2;
        }
    }
    gridDim = grid;
    blockDim = threads;
    cta.kernel = simt_here.kernel = kernel;
    cta.arguments = arguments;
    cta.threads = threads.x * threads.y * threads.z;
    cta.is_dependent = is_dependent;
    if (dynamic_bytes != 0) {
        void *memory = NULL;
        if (posix_memalign(&memory, 128, dynamic_bytes) != 0) {
            simt_fail("no memory for %zu bytes of dynamic shared memory", dynamic_bytes);
        }
        dynamic_shared = (uint8_t *)memory;
    }
    simt_here.dynamic = dynamic_shared;
    simt_here.dynamic_bytes = dynamic_bytes;
    simt_here.launch++;
    set_alarm();
    for (size_t i = 0; i < ctas; i++) {
        const size_t at = (first + i % ctas * (step % ctas)) % ctas;
        if (only_ctas != 0 && at >= only_ctas && at + only_ctas < ctas) {
            continue;
        }
        blockIdx.x = (unsigned)(at % grid.x);
        blockIdx.y = (unsigned)(at / grid.x % grid.y);
        blockIdx.z = (unsigned)(at / grid.x / grid.y);
        simt_here.cta = at;
        run_cta();
    }
    alarm(0);
    simt_here.kernel = NULL;
    free(dynamic_shared);
    dynamic_shared = NULL;
}

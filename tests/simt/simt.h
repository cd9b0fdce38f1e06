/*
 * tests/simt/simt.h - a machine that runs kernels on the CPU, one CTA after the other, every thread
 * a fiber. What it does and what it does not model stands in simt.cpp.
 *
 * Kernels see it as CUDA (include/cuda_runtime.h, include/fp4/device/ptx.cuh); this is what these
 * two call. Whatever is wrong ends the process with a line that names kernel, CTA and thread.
 */
#ifndef FP4_TESTS_SIMT_SIMT_H
#define FP4_TESTS_SIMT_SIMT_H

#include <cuda_runtime_api.h>

#if defined(__cplusplus)
extern "C" {
#endif

/* ---------------------------------------------------------------- kernels */

/** A kernel: how to call it, the sizes of its arguments, and the shared memory of its file. */
typedef struct simt_kernel {
    const void *function;
    const char *name, *unit;
    void (*call)(const void *function, void **arguments);
    const size_t *sizes; /* of the arguments, 0 behind the last */
    uint8_t *shared, *shared_end;
    struct simt_kernel *next;
} simt_kernel;

/** Makes a kernel known by its address. The struct stays in use. */
void simt_register(simt_kernel *kernel);

/** The kernel of this address, or NULL. */
const simt_kernel *simt_kernel_of(const void *function);

/** Runs a grid to its end. is_dependent: launched with programmatic dependent launch. */
void simt_run_grid(const simt_kernel *kernel, dim3 grid, dim3 cta, size_t dynamic_bytes,
                   int is_dependent, void **arguments);

/** From now on, of every grid run only the first CTAs and the last, so many of each: a grid too
    large for the CPU. 0: all of it. */
void simt_run_only(size_t ctas);

/** Multiprocessors of the device: three, so that a kernel with a CTA for each has more than one
    turn soon; or from now on so many, where simt_run_only shall leave out most of the work. */
enum { SIMT_PROCESSORS = 3 };
void simt_have_processors(int n);

/** The dynamic shared memory of the CTA. */
void *simt_dynamic_shared(void);

/* ---------------------------------------------------------------- threads */

/** What a warp can do together. */
typedef enum simt_warp_operation {
    SIMT_SYNCWARP,
    SIMT_BALLOT,
    SIMT_SHUFFLE,     /* from lane `operand` of the segment */
    SIMT_SHUFFLE_XOR, /* from the lane whose number is this one's xor operand */
    SIMT_SHUFFLE_UP,  /* from the lane `operand` below */
    SIMT_SHUFFLE_DOWN /* from the lane `operand` above */
} simt_warp_operation;

/** The calling lane and those that mask names, together. width: of the segments of a shuffle. */
uint32_t simt_warp(simt_warp_operation operation, uint32_t mask, uint32_t value, uint32_t operand,
                   uint32_t width, const char *file, int line);

/** A barrier for all threads of the CTA that have not exited. */
void simt_barrier(const char *file, int line);

/** One for a part of the CTA: so many threads, whole warps, that come to number `part`, 1 to 15. */
void simt_barrier_of(uint32_t part, uint32_t threads, const char *file, int line);

/** A copy to shared memory that is under way: 4, 8 or 16 bytes, and where it was asked for. */
typedef struct simt_copy {
    void *to;
    uint32_t value[4], bytes;
    const char *file;
    int line;
} simt_copy;

/** One more of the calling thread. It must not end before it has taken them. */
void simt_add_copy(const simt_copy *copy);

/** Those of the calling thread, so many, in order: from now on it has none. */
const simt_copy *simt_take_copies(uint32_t *n);

/** The thread has waited for the grids in front of its own. */
void simt_pdl_wait(void);

/** Ends the process with this text, behind the names of kernel, CTA and thread. */
void simt_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ---------------------------------------------------------------- device memory */

/** Device memory: memory.cpp, or track.cpp, which looks at every access. */
void *simt_memory_new(size_t bytes);
void simt_memory_free(void *memory);

/** The host has written these bytes. */
void simt_memory_written(const void *at, size_t bytes);

/* ---------------------------------------------------------------- for track.cpp */

/** Where a kernel is right now. */
typedef struct simt_place {
    const simt_kernel *kernel; /* NULL: no kernel is running */
    uint64_t launch, cta;      /* numbers; launches count from 1 */
    uint32_t thread;           /* number in the CTA */
    uint32_t epoch;            /* barriers that the CTA has passed */
    uint32_t warp_epoch;       /* __syncwarps that the thread has passed */
    uint32_t openings;         /* of barriers of parts of the CTA */
    int may_touch;             /* global memory: it has waited, or need not */
    const uint8_t *dynamic;    /* dynamic shared memory */
    size_t dynamic_bytes;
    const void *stack; /* of the thread */
    size_t stack_bytes;
} simt_place;

extern simt_place simt_here;

/** Whether the thread that runs and a warp of its CTA have come together at a part's barrier since
    there were so many openings. */
int simt_met_since(uint32_t warp, uint32_t openings);

/** The dimensions' thread of this number, for messages. The text is overwritten by the next call
    but one. */
const char *simt_thread_text(uint32_t thread);

#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_SIMT_SIMT_H */

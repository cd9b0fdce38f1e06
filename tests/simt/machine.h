/*
 * tests/simt/machine.h - kernels for the tests of the machine itself (test_machine.c): what warps
 * and CTAs do together, and one mistake of each kind that it must find.
 */
#ifndef FP4_TESTS_SIMT_MACHINE_H
#define FP4_TESTS_SIMT_MACHINE_H

#include <cuda_runtime_api.h>

/** What a kernel does with one thread, a word each, of `threads` threads of one CTA. */
typedef enum machine_case {
    /* right */
    SHUFFLES,             /* values of lanes, by every kind of shuffle */
    VOTES,                /* ballot, any, all of half a warp each */
    HALVES_OF_A_WARP,     /* apart, with masks of their own, at different lines */
    EARLY_EXIT,           /* of whole warps, before a barrier */
    REVERSED,             /* through shared memory, with a barrier */
    REVERSED_BY_SYNCWARP, /* the same, of each warp */
    REVERSED_DYNAMIC,     /* the same through dynamic shared memory */
    REVERSED_BY_PARTS,    /* the same, a quarter of the CTA and the rest, which does so thrice */
    REVERSED_BY_COPIES,   /* the same, copied there */
    READ_BEFORE_A_COPY,   /* and looked at too early */

    /* wrong wherever it runs */
    LANE_HAS_EXITED,
    LANE_AT_A_BARRIER,
    LANE_EXITS_LATER,
    LANE_OF_NO_THREAD,
    MASK_WITHOUT_CALLER,
    MASKS_THAT_DIFFER,
    LINES_THAT_DIFFER,
    OPERATIONS_THAT_DIFFER,
    SOURCE_OUTSIDE_MASK,
    BARRIERS_THAT_DIFFER,
    PARTS_THAT_DIFFER,   /* in their number of threads */
    PART_WITHOUT_NUMBER, /* that is one of a part */
    PART_OF_A_WARP,
    PART_THAT_NEVER_COMES,
    SPINS,
    COPY_UNDER_WAY, /* at the end */

    /* wrong in memory */
    NO_BARRIER,          /* between a write and the read */
    NO_SECOND_BARRIER,   /* between the read and the next write */
    BARRIER_OF_ANOTHER,  /* part, between a write and the read */
    NO_SECOND_OF_PARTS,  /* between the reads of a part and the next write */
    UNWRITTEN_SHARED,    /* the last word is read, which nobody has written */
    SHARED_PAST_THE_END, /* a word behind the array */
    WRITES_PAST_THE_END, /* of the output */
    READS_PAST_THE_END,
    READS_UNWRITTEN,
    WRITTEN_TWICE, /* by two threads */
    MISALIGNED,
    SIGNED_OVERFLOW,
    BEFORE_PDL_WAIT, /* launched to start early */
    MACHINE_CASES
} machine_case;

#if defined(__cplusplus)
extern "C" {
#endif
/** in and out: a word for each thread. */
cudaError_t machine_run(machine_case what, unsigned threads, const uint32_t *in, uint32_t *out);

/** Launches what no SIMT_KERNEL names. */
cudaError_t machine_run_unknown(void);
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_SIMT_MACHINE_H */

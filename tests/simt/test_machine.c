/*
 * tests/simt/test_machine.c - the machine that runs kernels on the CPU: warps and CTAs give the
 * values that they should, and each mistake ends the process with a message that names it.
 */
#define _POSIX_C_SOURCE 200809L

#include "gpu.h"
#include "machine.h"

#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 64, MOST = 128, TEXT = 16384 };

/* Runs a case; in[i] = i. */
static void run(machine_case what, unsigned threads, uint32_t *got)
{
    uint32_t in[MOST];
    gpu_buffer in_buffer, out_buffer;

    for (uint32_t i = 0; i < MOST; i++) {
        in[i] = i;
    }
    in_buffer = gpu_buffer_of(in, threads * sizeof in[0], 0);
    out_buffer = gpu_buffer_new(threads * sizeof in[0], 0);
    GPU_OK(machine_run(what, threads, (const uint32_t *)(const void *)in_buffer.bytes,
                       (uint32_t *)(void *)out_buffer.bytes));
    gpu_download(got, out_buffer);
    gpu_buffer_free(in_buffer);
    gpu_buffer_free(out_buffer);
}

static void run_in_child(machine_case what, unsigned threads)
{
    uint32_t got[THREADS];

    if (what == MACHINE_CASES) {
        machine_run_unknown();
    } else {
        run(what, threads, got);
    }
}

/* What a case that must fail says, in a process of its own. */
static void expect_failure(machine_case what, unsigned threads, const char *text)
{
    static char said[TEXT];
    size_t n = 0;
    ssize_t more;
    int ends[2], status = 0;
    pid_t child;

    cr_assert(pipe(ends) == 0);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        close(ends[0]);
        run_in_child(what, threads);
        _exit(0);
    }
    close(ends[1]);
    while ((more = read(ends[0], said + n, TEXT - 1 - n)) > 0) {
        n += (size_t)more;
    }
    said[n] = '\0';
    close(ends[0]);
    cr_assert(waitpid(child, &status, 0) == child);
    CHECK(status != 0, "case %d ended well", (int)what);
    CHECK(strstr(said, text) != NULL, "case %d says nothing of \"%s\", but: %.600s", (int)what,
          text, said);
}

/* ---------------------------------------------------------------- what is right */

static uint32_t shuffled(uint32_t i)
{
    const uint32_t pair = i ^ 1, first = i / 8 * 8 + 2, below = i % 32 < 3 ? i : i - 3;
    const uint32_t above = i % 16 == 15 ? i : i + 1;
    return pair + 10 * first + 100 * below + 1000 * above;
}

static uint32_t voted(uint32_t i)
{
    const uint32_t first = i / 16 * 16;
    uint32_t ballot = 0;

    for (uint32_t k = first; k < first + 16; k++) {
        ballot |= (uint32_t)(k % 3 == 0) << (k % 32);
    }
    return ballot ^ (first + 15 > 20 ? 1u << 31 : 0) ^ (first == 0 ? 1u << 30 : 0);
}

GPU_TEST(machine, lanes_get_each_other_s_values)
{
    uint32_t got[THREADS];

    run(SHUFFLES, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], shuffled(i), "shuffles, thread %u", i);
    }
    run(VOTES, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], voted(i), "votes, thread %u", i);
    }
    run(HALVES_OF_A_WARP, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], i ^ (i % 32 < 16 ? 1u : 2u), "halves, thread %u", i);
    }
}

GPU_TEST(machine, threads_meet_at_barriers)
{
    uint32_t got[THREADS];

    run(REVERSED, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], THREADS - 1 - i, "shared memory, thread %u", i);
    }
    run(REVERSED_DYNAMIC, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], THREADS - 1 - i, "dynamic shared memory, thread %u", i);
    }
    run(REVERSED_BY_SYNCWARP, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], i ^ 31u, "syncwarp, thread %u", i);
    }
    run(EARLY_EXIT, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], i < 32 ? 31 - i : 7, "a barrier after some have exited, thread %u", i);
    }
}

GPU_TEST(machine, parts_of_a_cta_meet_at_barriers_of_their_own)
{
    uint32_t got[MOST];

    run(REVERSED_BY_PARTS, MOST, got);
    for (uint32_t i = 0; i < MOST; i++) {
        CHECK_EQ(got[i], (i < MOST / 4 ? MOST / 4 : MOST / 4 + MOST) - 1 - i, "thread %u", i);
    }
}

GPU_TEST(machine, copies_are_there_when_they_were_waited_for)
{
    uint32_t got[THREADS];

    run(REVERSED_BY_COPIES, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], THREADS - 1 - i, "copies, thread %u", i);
    }
    run(READ_BEFORE_A_COPY, THREADS, got);
    for (uint32_t i = 0; i < THREADS; i++) {
        CHECK_EQ(got[i], 0x7f7f7f7fu, "before a copy is there, thread %u", i);
    }
}

/* ---------------------------------------------------------------- what is wrong */

GPU_TEST(machine, warps_that_do_not_come_together)
{
    expect_failure(LANE_HAS_EXITED, THREADS, "lane 3, which has exited");
    expect_failure(LANE_EXITS_LATER, THREADS, "lane 31, which has exited");
    expect_failure(LANE_AT_A_BARRIER, THREADS, "lane 3, which waits at a barrier");
    expect_failure(LANE_OF_NO_THREAD, 16, "lane 16, which the CTA does not have");
    expect_failure(MASK_WITHOUT_CALLER, THREADS, "has mask 0000ffff, without lane");
    expect_failure(MASKS_THAT_DIFFER, THREADS, "with mask ffffffff");
    expect_failure(LINES_THAT_DIFFER, THREADS, "at another, at tests/simt/machine.cu");
    expect_failure(OPERATIONS_THAT_DIFFER, THREADS, "at another, at tests/simt/machine.cu");
    expect_failure(SOURCE_OUTSIDE_MASK, THREADS, "which is not in the mask 0000ffff");
}

GPU_TEST(machine, ctas_that_do_not_come_together)
{
    expect_failure(BARRIERS_THAT_DIFFER, THREADS, "is at the one at tests/simt/machine.cu");
    expect_failure(PARTS_THAT_DIFFER, THREADS, "at barrier number 1, of ");
    expect_failure(PART_WITHOUT_NUMBER, THREADS, "barrier number 0 at tests/simt/machine.cu");
    expect_failure(PART_OF_A_WARP, THREADS, "is of 16 threads: no whole warps of the CTA");
    expect_failure(PART_THAT_NEVER_COMES, THREADS, "waits for threads that have exited");
    setenv("FP4_SIMT_SECONDS", "1", 1);
    expect_failure(SPINS, THREADS, "does not end");
}

GPU_TEST(machine, copies_that_nobody_waits_for)
{
    expect_failure(
        COPY_UNDER_WAY, THREADS,
        "ends with 1 copies to shared memory under way, the first of tests/simt/machine");
}

GPU_TEST(machine, messages_name_kernel_cta_and_thread)
{
    setenv("FP4_SIMT_SEED", "0", 1);
    expect_failure(MASK_WITHOUT_CALLER, THREADS,
                   "in kernel mask_without_caller of machine, CTA (0, 0, 0) of (1, 1, 1), thread "
                   "(16, 0, 0) of (64, 1, 1), FP4_SIMT_SEED=0");
    expect_failure(MACHINE_CASES, THREADS, "a kernel is launched that is not known");
}

#if defined(SIMT_TRACKED)
GPU_TEST(machine, accesses_that_are_tracked)
{
    for (int seed = 0; seed < 5; seed++) {
        char text[16];
        snprintf(text, sizeof text, "%d", seed);
        setenv("FP4_SIMT_SEED", text, 1);
        expect_failure(NO_SECOND_BARRIER, THREADS, "with no barrier between");
        expect_failure(BARRIER_OF_ANOTHER, THREADS, "with no barrier between");
        expect_failure(NO_SECOND_OF_PARTS, THREADS, "barrier between");
        expect_failure(UNWRITTEN_SHARED, THREADS,
                       "of static shared memory, which no thread of the CTA has written");
        expect_failure(WRITES_PAST_THE_END, THREADS,
                       "writes 0 bytes behind the end of a buffer of 256 bytes");
        expect_failure(READS_PAST_THE_END, THREADS,
                       "reads 0 bytes behind the end of a buffer of 256 bytes");
        expect_failure(READS_UNWRITTEN, THREADS, "of a buffer of 256 bytes, which nobody has");
        expect_failure(WRITTEN_TWICE, THREADS, "with no barrier between");
        expect_failure(BEFORE_PDL_WAIT, THREADS, "reads device memory before fp4_pdl_wait");
        expect_failure(NO_BARRIER, THREADS, "static shared memory, which");
    }
}
#elif defined(__SANITIZE_ADDRESS__)
GPU_TEST(machine, sanitizers_name_the_place_too)
{
    setenv("FP4_SIMT_SEED", "0", 1);
    expect_failure(WRITES_PAST_THE_END, THREADS, "thread (63, 0, 0) of (64, 1, 1)");
    expect_failure(WRITES_PAST_THE_END, THREADS, "heap-buffer-overflow");
    expect_failure(READS_PAST_THE_END, THREADS, "thread (63, 0, 0) of (64, 1, 1)");
    expect_failure(SHARED_PAST_THE_END, THREADS, "thread (32, 0, 0) of (64, 1, 1)");
    expect_failure(SHARED_PAST_THE_END, THREADS, "global-buffer-overflow");
    expect_failure(MISALIGNED, THREADS, "misaligned address");
    expect_failure(MISALIGNED, THREADS, "thread (5, 0, 0) of (64, 1, 1)");
    expect_failure(SIGNED_OVERFLOW, THREADS, "signed integer overflow");
    expect_failure(SIGNED_OVERFLOW, THREADS, "thread (16, 0, 0) of (64, 1, 1)");
}
#endif

/*
 * tests/gpu/test_planted.c - for sanitize.sh alone: a bug for each tool of compute-sanitizer to
 * find. A tool that does not reach into the processes of the tests finds none anywhere.
 */
#include "gpu.h"

static void plant(gpu_bug bug)
{
    void *memory, *out;

    GPU_OK(cudaMalloc(&memory, 64));
    GPU_OK(cudaMalloc(&out, 64));
    GPU_OK(gpu_plant(bug, (const uint8_t *)memory, 64, (uint8_t *)out));
    GPU_OK(cudaDeviceSynchronize());
    GPU_OK(cudaFree(memory));
    GPU_OK(cudaFree(out));
}

GPU_TEST(planted, memcheck)
{
    plant(READ_PAST_THE_END);
}

GPU_TEST(planted, initcheck)
{
    plant(READ_OF_UNINITIALIZED);
}

GPU_TEST(planted, racecheck)
{
    plant(RACE_IN_SHARED_MEMORY);
}

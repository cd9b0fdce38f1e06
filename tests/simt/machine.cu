/* tests/simt/machine.cu - see machine.h. */
#include "machine.h"

#include <fp4/device/ptx.cuh>

enum { MOST = 256, ALL = -1 };

static __device__ unsigned me(void)
{
    return threadIdx.x;
}

/* ------------------------------------------------------------------------------ right */

static __global__ void shuffles(const uint32_t *in, uint32_t *out)
{
    const unsigned x = in[me()];
    const unsigned pair = __shfl_xor_sync(0xffffffffu, x, 1);
    const unsigned first = __shfl_sync(0xffffffffu, x, 2, 8);
    const unsigned below = __shfl_up_sync(0xffffffffu, x, 3);
    const unsigned above = __shfl_down_sync(0xffffffffu, x, 1, 16);

    out[me()] = pair + 10 * first + 100 * below + 1000 * above;
}

static __global__ void votes(const uint32_t *in, uint32_t *out)
{
    const unsigned mask = me() % 32 < 16 ? 0x0000ffffu : 0xffff0000u;
    const unsigned ballot = __ballot_sync(mask, in[me()] % 3 == 0);
    const int any = __any_sync(mask, in[me()] > 20), all = __all_sync(mask, in[me()] < 16);

    out[me()] = ballot ^ (any ? 1u << 31 : 0) ^ (all ? 1u << 30 : 0);
}

static __global__ void halves(const uint32_t *in, uint32_t *out)
{
    if (me() % 32 < 16) {
        out[me()] = __shfl_xor_sync(0x0000ffffu, in[me()], 1);
    } else {
        out[me()] = __shfl_xor_sync(0xffff0000u, in[me()], 2);
    }
}

static __global__ void early_exit(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    if (me() >= 32) {
        out[me()] = 7;
        return;
    }
    shared[me()] = in[me()];
    __syncthreads();
    out[me()] = shared[31 - me()];
}

static __global__ void reversed(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    __syncthreads();
    out[me()] = shared[blockDim.x - 1 - me()];
}

static __global__ void reversed_by_syncwarp(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    __syncwarp();
    out[me()] = shared[me() ^ 31];
}

/* A quarter of the CTA, and the rest. */
static __global__ void reversed_by_parts(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];
    const unsigned quarter = blockDim.x / 4;
    const int is_rest = me() >= quarter;
    const unsigned first = is_rest ? quarter : 0, threads = is_rest ? 3 * quarter : quarter;
    uint32_t x = in[me()];

    for (int turn = 0; turn < (is_rest ? 3 : 1); turn++) {
        shared[me()] = x;
        fp4_ptx_barrier_of(1 + (unsigned)is_rest, threads);
        x = shared[2 * first + threads - 1 - me()];
        fp4_ptx_barrier_of(1 + (unsigned)is_rest, threads);
    }
    out[me()] = x;
}

static __global__ void reversed_dynamic(const uint32_t *in, uint32_t *out)
{
    uint32_t *shared = (uint32_t *)simt_dynamic_shared();

    shared[me()] = in[me()];
    __syncthreads();
    out[me()] = shared[blockDim.x - 1 - me()];
}

static __global__ void reversed_by_copies(const uint32_t *in, uint32_t *out)
{
    __shared__ uint4 four[MOST / 4];
    uint32_t *shared = (uint32_t *)four;

    if (me() % 8 < 2) {
        fp4_ptx_copy4_async(shared + me(), &in[me()]);
    } else if (me() % 8 == 2) {
        fp4_ptx_copy8_async(shared + me(), &in[me()]);
    } else if (me() % 8 == 4) {
        fp4_ptx_copy16_async(shared + me(), &in[me()]);
    }
    fp4_ptx_copies_wait();
    __syncthreads();
    out[me()] = shared[blockDim.x - 1 - me()];
}

static __global__ void read_before_a_copy(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    fp4_ptx_copy4_async(&shared[me()], &in[me()]);
    out[me()] = shared[me()];
    fp4_ptx_copies_wait();
}

/* ------------------------------------------------------------------------------ wrong */

static __global__ void lane_has_exited(const uint32_t *in, uint32_t *out)
{
    if (me() == 3) {
        return;
    }
    out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
}

static __global__ void lane_at_a_barrier(const uint32_t *in, uint32_t *out)
{
    if (me() == 3) {
        __syncthreads();
    }
    out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
}

static __global__ void lane_exits_later(const uint32_t *in, uint32_t *out)
{
    if (me() == 31) {
        return;
    }
    out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
}

static __global__ void lane_of_no_thread(const uint32_t *in, uint32_t *out)
{
    out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
}

static __global__ void mask_without_caller(const uint32_t *in, uint32_t *out)
{
    out[me()] = __shfl_xor_sync(0x0000ffffu, in[me()], 1);
}

static __global__ void masks_that_differ(const uint32_t *in, uint32_t *out)
{
    out[me()] = __shfl_xor_sync(me() % 2 ? 0xffffffffu : 0x7fffffffu, in[me()], 1);
}

static __global__ void lines_that_differ(const uint32_t *in, uint32_t *out)
{
    if (me() % 2) {
        out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
    } else {
        out[me()] = __shfl_xor_sync(0xffffffffu, in[me()], 1);
    }
}

static __global__ void operations_that_differ(const uint32_t *in, uint32_t *out)
{
    out[me()] = me() % 2 ? __shfl_xor_sync(0xffffffffu, in[me()], 1) : __ballot_sync(ALL, 1);
}

static __global__ void source_outside_mask(const uint32_t *in, uint32_t *out)
{
    if (me() % 32 < 16) {
        out[me()] = __shfl_xor_sync(0x0000ffffu, in[me()], 16);
    }
}

static __global__ void barriers_that_differ(const uint32_t *in, uint32_t *out)
{
    if (in[me()] % 64 < 32) {
        __syncthreads();
    } else {
        __syncthreads();
    }
    out[me()] = 0;
}

static __global__ void parts_that_differ(const uint32_t *in, uint32_t *out)
{
    fp4_ptx_barrier_of(1, in[me()] < 32 ? 64 : 32);
    out[me()] = 0;
}

static __global__ void part_without_number(const uint32_t *, uint32_t *out)
{
    fp4_ptx_barrier_of(0, 32);
    out[me()] = 0;
}

static __global__ void part_of_a_warp(const uint32_t *, uint32_t *out)
{
    fp4_ptx_barrier_of(1, 16);
    out[me()] = 0;
}

static __global__ void part_that_never_comes(const uint32_t *in, uint32_t *out)
{
    if (in[me()] < 32) {
        fp4_ptx_barrier_of(1, 64);
    }
    out[me()] = 0;
}

static __global__ void spins(const uint32_t *in, uint32_t *out)
{
    const volatile uint32_t *flag = in;

    while (*flag == 0) {
    }
    out[me()] = 0;
}

static __global__ void copy_under_way(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    fp4_ptx_copy4_async(&shared[me()], &in[me()]);
    out[me()] = 0;
}

static __global__ void no_barrier(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    out[me()] = shared[blockDim.x - 1 - me()];
}

static __global__ void no_second_barrier(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    __syncthreads();
    out[me()] = shared[blockDim.x - 1 - me()];
    shared[me()] = 0;
}

static __global__ void barrier_of_another(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    fp4_ptx_barrier_of(1 + me() / 32, 32);
    out[me()] = shared[blockDim.x - 1 - me()];
}

static __global__ void no_second_of_parts(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    fp4_ptx_barrier_of(1, blockDim.x);
    out[me()] = shared[blockDim.x - 1 - me()];
    shared[me()] = 0;
}

static __global__ void unwritten_shared(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[MOST];

    shared[me()] = in[me()];
    __syncthreads();
    out[me()] = shared[me() + 1];
}

static __global__ void shared_past_the_end(const uint32_t *in, uint32_t *out)
{
    __shared__ uint32_t shared[32];
    uint32_t *p = shared;

    asm("" : "+r"(p)); /* now the compiler does not know how long it is */
    p[in[me()]] = 1;
    __syncthreads();
    out[me()] = p[in[me()]];
}

static __global__ void write_past_the_end(const uint32_t *in, uint32_t *out)
{
    out[in[me()] + 1] = in[me()];
}

static __global__ void read_past_the_end(const uint32_t *in, uint32_t *out)
{
    out[me()] = in[me() + 1];
}

static __global__ void read_of_unwritten(const uint32_t *in, uint32_t *out)
{
    out[me()] += in[me()];
}

static __global__ void written_twice(const uint32_t *in, uint32_t *out)
{
    out[me() / 2] = in[me()];
}

static __global__ void misaligned(const uint32_t *in, uint32_t *out)
{
    out[me()] = *(const uint32_t *)((const uint8_t *)in + (me() == 5 ? 2 : 0));
}

static __global__ void signed_overflow(const uint32_t *in, uint32_t *out)
{
    const int wide = (int)in[me()] << 26;

    out[me()] = (uint32_t)(wide + wide);
}

static __global__ void before_pdl_wait(const uint32_t *in, uint32_t *out)
{
    const uint32_t x = in[me()];

    simt_pdl_wait();
    out[me()] = x;
}

static __global__ void unknown(void)
{
}

/* ------------------------------------------------------------------------------ launches */

extern "C" cudaError_t machine_run(machine_case what, unsigned threads, const uint32_t *in,
                                   uint32_t *out)
{
    typedef struct named {
        void (*kernel)(const uint32_t *, uint32_t *);
        const char *name;
    } named;
#define NAMED(kernel) \
    { \
        kernel, #kernel \
    }
    static const named by[MACHINE_CASES] = {
        NAMED(shuffles),
        NAMED(votes),
        NAMED(halves),
        NAMED(early_exit),
        NAMED(reversed),
        NAMED(reversed_by_syncwarp),
        NAMED(reversed_dynamic),
        NAMED(reversed_by_parts),
        NAMED(reversed_by_copies),
        NAMED(read_before_a_copy),
        NAMED(lane_has_exited),
        NAMED(lane_at_a_barrier),
        NAMED(lane_exits_later),
        NAMED(lane_of_no_thread),
        NAMED(mask_without_caller),
        NAMED(masks_that_differ),
        NAMED(lines_that_differ),
        NAMED(operations_that_differ),
        NAMED(source_outside_mask),
        NAMED(barriers_that_differ),
        NAMED(parts_that_differ),
        NAMED(part_without_number),
        NAMED(part_of_a_warp),
        NAMED(part_that_never_comes),
        NAMED(spins),
        NAMED(copy_under_way),
        NAMED(no_barrier),
        NAMED(no_second_barrier),
        NAMED(barrier_of_another),
        NAMED(no_second_of_parts),
        NAMED(unwritten_shared),
        NAMED(shared_past_the_end),
        NAMED(write_past_the_end),
        NAMED(read_past_the_end),
        NAMED(read_of_unwritten),
        NAMED(written_twice),
        NAMED(misaligned),
        NAMED(signed_overflow),
        NAMED(before_pdl_wait),
    };
    cudaLaunchAttribute attribute = {};
    cudaLaunchConfig_t config = {};
    void *arguments[] = {&in, &out};

    simt_register_kernel(by[what].kernel, by[what].name);
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = what == REVERSED_DYNAMIC ? threads * sizeof(uint32_t) : 0;
    config.attrs = &attribute;
    config.numAttrs = what == BEFORE_PDL_WAIT ? 1 : 0;
    return cudaLaunchKernelExC(&config, (const void *)by[what].kernel, arguments);
}

extern "C" cudaError_t machine_run_unknown(void)
{
    cudaLaunchConfig_t config = {};
    return cudaLaunchKernelExC(&config, (const void *)unknown, NULL);
}

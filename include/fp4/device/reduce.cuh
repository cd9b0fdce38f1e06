/*
 * fp4/device/reduce.cuh - amax, max and sum: of a fragment, a group of lanes, a warp, a CTA.
 *
 *     scope        called by                    valid in       barriers
 *     fragment     any thread                   the thread     none
 *     group        all 32 lanes of the warp     all lanes      none (warp shuffles)
 *     warp         all 32 lanes of the warp     all lanes      none (warp shuffles)
 *     cta          all threads of the CTA,      all threads    one; none where the CTA is one warp
 *                  whole warps
 *     team         all threads of one           all threads    one of the team's own; none where
 *                  threadIdx.y, whole warps                    it is one warp
 *     grid         one thread of each CTA       one of them    none (atomic operations)
 *
 * A group is `width` neighbouring lanes, 1, 2, 4, 8, 16 or 32, aligned to their number. Lanes that
 * have nothing to contribute still call: with 0 where sums or magnitudes are wanted, with -infinity
 * for a max of numbers with a sign. cta functions take 32 floats of shared memory, which no other
 * call may have used since the last barrier: two calls in a row take 32 each; so do teams, each
 * with its own, of a CTA that has up to 15 of them, or of one warp each. max and amax ignore NaN
 * unless they say _or_nan; of nothing but NaN, amax is 0 and max NaN. Sums: each thread its own
 * elements in ascending order, then the butterfly over the lanes (xor 16, 8, 4, 2, 1), then over
 * the warps in the same way, their number rounded up to a power of two; the order depends on
 * nothing else.
 */
#ifndef FP4_DEVICE_REDUCE_CUH
#define FP4_DEVICE_REDUCE_CUH

#include <fp4/device/ptx.cuh>

/* ------------------------------------------------------------ fragments */

/** The largest |x| of a fragment, NaN left out. */
FP4_D float fp4_amax_x8(fp4_f32x8 x)
{
    float amax = fp4_ptx_max(fp4_ptx_abs(x.v[0]), fp4_ptx_abs(x.v[1]));
    int i;

#pragma unroll
    for (i = 2; i < 8; i++) {
        amax = fp4_ptx_max(amax, fp4_ptx_abs(x.v[i]));
    }
    return fp4_ptx_max(amax, 0.0f); /* where all are NaN */
}

/* Nine values in one chain (0 is one of them), seven in the other, the last where they meet: eight
   instructions where the target has a max of three. */
FP4_D float fp4_amax_x16(fp4_f32x16 x)
{
    float high = fp4_ptx_max(fp4_ptx_abs(x.v[8]), fp4_ptx_abs(x.v[9]));
    int i;

#pragma unroll
    for (i = 10; i < 15; i++) {
        high = fp4_ptx_max(high, fp4_ptx_abs(x.v[i]));
    }
    return fp4_ptx_max(fp4_ptx_max(fp4_amax_x8(fp4_low_x8(x)), high), fp4_ptx_abs(x.v[15]));
}

FP4_D float fp4_amax_x32(fp4_f32x32 x)
{
    return fp4_ptx_max(fp4_amax_x16(fp4_low_x16(x)), fp4_amax_x16(fp4_high_x16(x)));
}

/** As fp4_amax_x16, but NaN where all are NaN; through fp4_group_max too. */
FP4_D float fp4_amax_of_numbers_x16(fp4_f32x16 x)
{
    float low = fp4_ptx_abs(x.v[0]), high = fp4_ptx_abs(x.v[9]);
    int i;

#pragma unroll
    for (i = 1; i < 9; i++) {
        low = fp4_ptx_max(low, fp4_ptx_abs(x.v[i]));
    }
#pragma unroll
    for (i = 10; i < 16; i++) {
        high = fp4_ptx_max(high, fp4_ptx_abs(x.v[i]));
    }
    return fp4_ptx_max(low, high);
}

/* The larger of two magnitudes, NaN where one is NaN: the bits of magnitudes order as integers, NaN
   above all numbers. */
FP4_D float fp4_max_nan_(float a, float b)
{
#if FP4_ARCH_MAX_NAN
    return fp4_ptx_max_nan(a, b);
#else
    return fp4_bits_f32(fp4_max_u32(fp4_f32_bits(a), fp4_f32_bits(b)));
#endif
}

/* The largest of an amax and two magnitudes, NaN where one is NaN. One instruction where floats
   have a max of three. On sm_90 integers have it: three for two calls in a row. */
FP4_D float fp4_max_nan_of_three_(float amax, float a, float b)
{
#if FP4_ARCH_MAX3_F32
    return fp4_max_nan_(fp4_max_nan_(amax, a), b);
#else
    return fp4_bits_f32(fp4_max_u32(fp4_f32_bits(amax), fp4_f32_bits(fp4_max_nan_(a, b))));
#endif
}

/* The larger of an amax and that of a fragment, or NaN where one is NaN. */
FP4_D float fp4_amax_or_nan_with_(float amax, fp4_f32x8 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i += 2) {
        amax = fp4_max_nan_of_three_(amax, fp4_ptx_abs(x.v[i]), fp4_ptx_abs(x.v[i + 1]));
    }
    return amax;
}

/** The largest |x| of a fragment, or NaN where it holds one. */
FP4_D float fp4_amax_or_nan_x8(fp4_f32x8 x)
{
    return fp4_amax_or_nan_with_(0.0f, x);
}

FP4_D float fp4_amax_or_nan_x16(fp4_f32x16 x)
{
    return fp4_amax_or_nan_with_(fp4_amax_or_nan_x8(fp4_low_x8(x)), fp4_high_x8(x));
}

FP4_D float fp4_amax_or_nan_x32(fp4_f32x32 x)
{
    return fp4_max_nan_(fp4_amax_or_nan_x16(fp4_low_x16(x)), fp4_amax_or_nan_x16(fp4_high_x16(x)));
}

/** The same of sixteen bf16, two to a word: half of the work before they are widened. */
FP4_D float fp4_amax_or_nan_bf16x16(fp4_u32x8 w)
{
    uint32_t amax = w.v[0];
    int i;

#pragma unroll
    for (i = 1; i < 8; i++) {
        amax = fp4_ptx_amax_or_nan_bf16x2(amax, w.v[i]);
    }
    amax = fp4_ptx_amax_or_nan_bf16x2(amax, amax << 16);
    return fp4_bits_f32(amax & 0x7fff0000u);
}

/** The same of sixteen f16, two to a word. */
FP4_D float fp4_amax_or_nan_f16x16(fp4_u32x8 w)
{
    uint32_t amax = w.v[0];
    int i;

#pragma unroll
    for (i = 1; i < 8; i++) {
        amax = fp4_ptx_amax_or_nan_f16x2(amax, w.v[i]);
    }
    amax = fp4_ptx_amax_or_nan_f16x2(amax, amax << 16);
    return fp4_ptx_f16_to_f32((uint16_t)(amax >> 16 & 0x7fffu));
}

/** sum + x[0]^2 + x[1]^2 + ..., each step one fused multiply-add, in ascending order. */
FP4_D float fp4_sumsq_x8(fp4_f32x8 x, float sum)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        sum = fp4_fma_rn(x.v[i], x.v[i], sum);
    }
    return sum;
}

FP4_D float fp4_sumsq_x16(fp4_f32x16 x, float sum)
{
    return fp4_sumsq_x8(fp4_high_x8(x), fp4_sumsq_x8(fp4_low_x8(x), sum));
}

FP4_D float fp4_sumsq_x32(fp4_f32x32 x, float sum)
{
    return fp4_sumsq_x16(fp4_high_x16(x), fp4_sumsq_x16(fp4_low_x16(x), sum));
}

/** sum + x[0] + x[1] + ..., in ascending order. */
FP4_D float fp4_sum_x8(fp4_f32x8 x, float sum)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        sum = fp4_add_rn(sum, x.v[i]);
    }
    return sum;
}

FP4_D float fp4_sum_x16(fp4_f32x16 x, float sum)
{
    return fp4_sum_x8(fp4_high_x8(x), fp4_sum_x8(fp4_low_x8(x), sum));
}

FP4_D float fp4_sum_x32(fp4_f32x32 x, float sum)
{
    return fp4_sum_x16(fp4_high_x16(x), fp4_sum_x16(fp4_low_x16(x), sum));
}

/** The largest x of a fragment, sign and all, NaN left out; NaN of nothing but NaN. Of zeros of
    both signs either. */
FP4_D float fp4_max_x8(fp4_f32x8 x)
{
    float max = x.v[0];
    int i;

#pragma unroll
    for (i = 1; i < 8; i++) {
        max = fp4_ptx_max(max, x.v[i]);
    }
    return max;
}

FP4_D float fp4_max_x16(fp4_f32x16 x)
{
    return fp4_ptx_max(fp4_max_x8(fp4_low_x8(x)), fp4_max_x8(fp4_high_x8(x)));
}

FP4_D float fp4_max_x32(fp4_f32x32 x)
{
    return fp4_ptx_max(fp4_max_x16(fp4_low_x16(x)), fp4_max_x16(fp4_high_x16(x)));
}

/* ------------------------------------------------------------ lanes */

/** The largest x of the group; 32 lanes call. */
FP4_D float fp4_group_max(float x, int width)
{
    int lanes;

#pragma unroll
    for (lanes = width / 2; lanes > 0; lanes /= 2) {
        x = fp4_ptx_max(x, fp4_ptx_shuffle_xor(0xffffffffu, x, lanes));
    }
    return x;
}

/** The largest x of the group, or NaN where one is NaN. x: not negative, or NaN; 32 lanes call. */
FP4_D float fp4_group_max_or_nan(float x, int width)
{
    int lanes;

#pragma unroll
    for (lanes = width / 2; lanes > 0; lanes /= 2) {
        x = fp4_max_nan_(x, fp4_ptx_shuffle_xor(0xffffffffu, x, lanes));
    }
    return x;
}

/** The sum of the group; 32 lanes call. */
FP4_D float fp4_group_sum(float x, int width)
{
    int lanes;

#pragma unroll
    for (lanes = width / 2; lanes > 0; lanes /= 2) {
        x = fp4_add_rn(x, fp4_ptx_shuffle_xor(0xffffffffu, x, lanes));
    }
    return x;
}

/** The largest x of the warp. */
FP4_D float fp4_warp_max(float x)
{
    return fp4_group_max(x, 32);
}

/** The sum of the warp. */
FP4_D float fp4_warp_sum(float x)
{
    return fp4_group_sum(x, 32);
}

/* ------------------------------------------------------------ the CTA */

/* This thread's number in the CTA. */
FP4_D uint32_t fp4_thread_(void)
{
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

/* The CTA's number of threads. */
FP4_D uint32_t fp4_threads_(void)
{
    return blockDim.x * blockDim.y * blockDim.z;
}

/* Its number of warps, rounded up to a power of two: lanes that a value of each warp takes. */
FP4_D int fp4_warps_as_lanes_(uint32_t threads)
{
    return threads > 512   ? 32
           : threads > 256 ? 16
           : threads > 128 ? 8
           : threads > 64  ? 4
                           : (int)threads / 32;
}

/* Each warp leaves its x, already the same in all its lanes, for all warps. thread: this one's
   number. */
FP4_D void fp4_cta_leave_(float x, uint32_t thread, float *smem)
{
    if (thread % 32 == 0) {
        smem[thread / 32] = x;
    }
}

/* Behind a barrier: lane l of each `lanes` lanes gets what warp l has left, or 0 where there is no
   such warp. */
FP4_D float fp4_cta_left_(uint32_t thread, uint32_t threads, int lanes, const float *smem)
{
    const uint32_t from = thread % (uint32_t)lanes;
    return from < threads / 32 ? smem[from] : 0.0f;
}

/* A barrier of this thread's team. In each branch it has a constant number: of one that is not,
   without `teams`, ptxas knows no more than that it is one of 16. */
FP4_D void fp4_team_barrier_(uint32_t threads, uint32_t teams)
{
    uint32_t i;

    if (teams == 0) {
        fp4_ptx_barrier_of(threadIdx.y + 1, threads);
    }
#pragma unroll
    for (i = 0; i < teams; i++) {
        if (threadIdx.y == i) {
            fp4_ptx_barrier_of(i + 1, threads);
        }
    }
}

/* Both, with the barrier: of the CTA, or of a team, of which each has these threads. */
FP4_D float fp4_cta_gather_(float x, uint32_t thread, uint32_t threads, int lanes, float *smem,
                            int is_team, uint32_t teams)
{
    if (lanes == 1) {
        return x;
    }
    fp4_cta_leave_(x, thread, smem);
    if (is_team) {
        fp4_team_barrier_(threads, teams);
    } else {
        fp4_ptx_barrier();
    }
    return fp4_cta_left_(thread, threads, lanes, smem);
}

/* The 0 of a lane without a warp may be more than all there is: it has its own warp's instead. */
FP4_D float fp4_cta_max_(float x, uint32_t thread, uint32_t threads, float *smem)
{
    const int lanes = fp4_warps_as_lanes_(threads);
    const float own = fp4_warp_max(x);
    const float of_warp = fp4_cta_gather_(own, thread, threads, lanes, smem, 0, 0);

    return fp4_group_max(thread % (uint32_t)lanes < threads / 32 ? of_warp : own, lanes);
}

FP4_D float fp4_cta_max_or_nan_(float x, uint32_t thread, uint32_t threads, float *smem,
                                int is_team, uint32_t teams)
{
    const int lanes = fp4_warps_as_lanes_(threads);
    x = fp4_group_max_or_nan(x, 32);
    x = fp4_cta_gather_(x, thread, threads, lanes, smem, is_team, teams);
    return fp4_group_max_or_nan(x, lanes);
}

FP4_D float fp4_cta_sum_(float x, uint32_t thread, uint32_t threads, float *smem)
{
    const int lanes = fp4_warps_as_lanes_(threads);
    x = fp4_cta_gather_(fp4_warp_sum(x), thread, threads, lanes, smem, 0, 0);
    return fp4_group_sum(x, lanes);
}

/** The largest x of the CTA; smem: 32 floats. */
FP4_D float fp4_cta_max(float x, float *smem)
{
    return fp4_cta_max_(x, fp4_thread_(), fp4_threads_(), smem);
}

/** The largest x of the CTA, or NaN where one is NaN. x: not negative, or NaN; smem: 32 floats. */
FP4_D float fp4_cta_max_or_nan(float x, float *smem)
{
    return fp4_cta_max_or_nan_(x, fp4_thread_(), fp4_threads_(), smem, 0, 0);
}

/** The sum of the CTA; smem: 32 floats. */
FP4_D float fp4_cta_sum(float x, float *smem)
{
    return fp4_cta_sum_(x, fp4_thread_(), fp4_threads_(), smem);
}

/**
 * The same for a CTA of `threads` threads in one dimension: with a constant number less is left to
 * do than where it has to be asked for.
 */
FP4_D float fp4_cta_max_of(float x, uint32_t threads, float *smem)
{
    return fp4_cta_max_(x, threadIdx.x, threads, smem);
}

FP4_D float fp4_cta_max_or_nan_of(float x, uint32_t threads, float *smem)
{
    return fp4_cta_max_or_nan_(x, threadIdx.x, threads, smem, 0, 0);
}

FP4_D float fp4_cta_sum_of(float x, uint32_t threads, float *smem)
{
    return fp4_cta_sum_(x, threadIdx.x, threads, smem);
}

/**
 * The largest x of a team, or NaN where one is NaN. A CTA of threads x teams threads has
 * `teams` teams: those of one threadIdx.y. They do not wait for each other.
 *
 * range    x: not negative, or NaN.
 * shape    threads: of a team, whole warps. teams: a constant, at least those that there are, at
 *          most 15: the CTA takes so many of the 16 barriers that a CTA can have, and one more. Or
 *          0: it takes all of them, for which an SM has room in a few CTAs only, in less code.
 *          (Where a team is one warp it needs none: any number of teams.) smem: 32 floats for each
 *          team.
 * threads  all of a team call, or none of it.
 */
FP4_D float fp4_team_max_or_nan(float x, uint32_t threads, uint32_t teams, float *smem)
{
    return fp4_cta_max_or_nan_(x, threadIdx.x, threads, smem, 1, teams);
}

/* ------------------------------------------------------------ the grid */

/**
 * The largest x of the grid. Called by one thread of each CTA with the CTA's x; returns 1 in that
 * which comes last, with the result in *max, and 0 in all others.
 *
 * range    x: not negative, not NaN; infinity is one. The result does not depend on the order.
 * threads  workspace: two words of global memory that are 0 before the first launch, and 0 again
 *          after each; launches that share them may not overlap.
 */
FP4_D int fp4_grid_max(float x, uint32_t *workspace, float *max)
{
    const uint32_t last = gridDim.x * gridDim.y * gridDim.z - 1;

    fp4_ptx_atomic_max(&workspace[0], fp4_f32_bits(x)); /* bits of such floats order as integers */
    fp4_ptx_fence();
    if (fp4_ptx_atomic_inc(&workspace[1], last) != last) {
        return 0;
    }
    fp4_ptx_fence(); /* the exchange comes after the count, and so after what all others put in */
    *max = fp4_bits_f32(fp4_ptx_atomic_exchange(&workspace[0], 0));
    return 1;
}

#endif /* FP4_DEVICE_REDUCE_CUH */

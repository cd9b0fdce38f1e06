/*
 * fp4/device/reduce.cuh - amax, max and sum: of a fragment, a group of lanes, a warp, a CTA.
 *
 *     scope        called by                    valid in       barriers
 *     fragment     any thread                   the thread     none
 *     group        all 32 lanes of the warp     all lanes      none (warp shuffles)
 *     warp         all 32 lanes of the warp     all lanes      none (warp shuffles)
 *     cta          all threads of the CTA,      all threads    two; smem may be reused at once
 *                  whole warps
 *
 * A group is 2, 4, 8, 16 or 32 neighbouring lanes, aligned to their number. Lanes that have nothing
 * to contribute still call, with 0. cta functions take 32 floats of shared memory. max and amax
 * ignore NaN. Sums: each thread its own elements in ascending order, then the butterfly over the
 * lanes (xor 16, 8, 4, 2, 1), then the warps in the same way; the order depends on nothing else.
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

/** The largest |x| of a fragment, or NaN where it holds one. */
FP4_D float fp4_amax_or_nan_x8(fp4_f32x8 x)
{
    float amax = fp4_ptx_abs(x.v[0]);
    int i;

#pragma unroll
    for (i = 1; i < 8; i++) {
        amax = fp4_max_nan_(amax, fp4_ptx_abs(x.v[i]));
    }
    return amax;
}

FP4_D float fp4_amax_or_nan_x16(fp4_f32x16 x)
{
    return fp4_max_nan_(fp4_amax_or_nan_x8(fp4_low_x8(x)), fp4_amax_or_nan_x8(fp4_high_x8(x)));
}

FP4_D float fp4_amax_or_nan_x32(fp4_f32x32 x)
{
    return fp4_max_nan_(fp4_amax_or_nan_x16(fp4_low_x16(x)), fp4_amax_or_nan_x16(fp4_high_x16(x)));
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

/** The largest magnitude of the group, or NaN where one is NaN; 32 lanes call. */
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

/* This thread's number in the CTA, and the CTA's number of warps. */
FP4_D uint32_t fp4_thread_(void)
{
    return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

FP4_D uint32_t fp4_warps_(void)
{
    return blockDim.x * blockDim.y * blockDim.z / 32;
}

/* Each warp's x, already the same in all its lanes, to the lanes of every warp: lane l gets warp
   l's, or 0 where there is no such warp. */
FP4_D float fp4_cta_gather_(float x, float *smem)
{
    const uint32_t thread = fp4_thread_();

    if (thread % 32 == 0) {
        smem[thread / 32] = x;
    }
    fp4_ptx_barrier();
    x = thread % 32 < fp4_warps_() ? smem[thread % 32] : 0.0f;
    fp4_ptx_barrier();
    return x;
}

/** The largest x >= 0 of the CTA; smem: 32 floats. */
FP4_D float fp4_cta_max(float x, float *smem)
{
    return fp4_warp_max(fp4_cta_gather_(fp4_warp_max(x), smem));
}

/** The sum of the CTA; smem: 32 floats. */
FP4_D float fp4_cta_sum(float x, float *smem)
{
    return fp4_warp_sum(fp4_cta_gather_(fp4_warp_sum(x), smem));
}

#endif /* FP4_DEVICE_REDUCE_CUH */

/*
 * fp4/device/arch.cuh - what the target of this compilation pass has, as macros that are always
 * defined, 0 or 1. The only file that asks which architecture is being compiled for.
 *
 *     macro               instruction                            targets
 *     FP4_ARCH_CVT_E2M1   cvt f32x2 <-> e2m1x2, f32 -> e8m0      100a 103a 110a 120a 121a, or f
 *     FP4_ARCH_CVT_E4M3   cvt f32x2 <-> e4m3x2                   90 and later; 89 from CUDA 12.1
 *     FP4_ARCH_CVT_F16X2  cvt f32x2 -> f16x2, bf16x2             80 and later
 *     FP4_ARCH_BF16X2     arithmetic of bf16x2                   80 and later
 *     FP4_ARCH_CP_ASYNC   copies from global to shared memory    80 and later
 *     FP4_ARCH_MAX_NAN    max that returns NaN where it sees one 80 and later
 *     FP4_ARCH_MAX3_F32   max of three floats                    100 to 119
 *     FP4_ARCH_MAX_ABS_X2 max of magnitudes, f16x2 and bf16x2    86 and later
 *     FP4_ARCH_F32X2      two f32 products, sums or both in one  100 and later
 *     FP4_ARCH_PDL        programmatic dependent launch          90 and later
 *
 * The conversions to 4 bits belong to the architecture-specific and family-specific targets (the
 * `a` and `f` suffixes) only: plain sm_100 and sm_120 do not have them, and get the portable path,
 * with the same bytes. Define one of these macros as 0 before the first include to force the
 * portable path (that is how it is tested on hardware that has the instruction). There is no target
 * on which a function returns something else.
 */
#ifndef FP4_DEVICE_ARCH_CUH
#define FP4_DEVICE_ARCH_CUH

#include <fp4/config.h>

/* The target: 900 for sm_90; 0 where no device code is being generated (the host pass). */
#if defined(__CUDA_ARCH__)
#define FP4_ARCH __CUDA_ARCH__
#else
#define FP4_ARCH 0
#endif

#if FP4_ARCH != 0 && FP4_ARCH < 750
#error "fp4 needs sm_75 or later: nvcc -arch=sm_90, say"
#endif

#if !defined(FP4_ARCH_CVT_E2M1)
/* The first two macros came with CUDA 12.9; 12.8 has one for each of its three such targets. */
#if defined(__CUDA_ARCH_FAMILY_SPECIFIC__) || defined(__CUDA_ARCH_SPECIFIC__) || \
    defined(__CUDA_ARCH_FEAT_SM100_ALL) || defined(__CUDA_ARCH_FEAT_SM101_ALL) || \
    defined(__CUDA_ARCH_FEAT_SM120_ALL)
#define FP4_ARCH_CVT_E2M1 (FP4_ARCH >= 1000 && FP4_ARCH < 1300)
#else
#define FP4_ARCH_CVT_E2M1 0
#endif
#endif

#if !defined(FP4_ARCH_CVT_E4M3)
#if defined(__CUDACC_VER_MAJOR__) && 100 * __CUDACC_VER_MAJOR__ + __CUDACC_VER_MINOR__ < 1201
#define FP4_ARCH_CVT_E4M3 (FP4_ARCH >= 900)
#else
#define FP4_ARCH_CVT_E4M3 (FP4_ARCH >= 890)
#endif
#endif

#if !defined(FP4_ARCH_CVT_F16X2)
#define FP4_ARCH_CVT_F16X2 (FP4_ARCH >= 800)
#endif

#if !defined(FP4_ARCH_BF16X2)
#define FP4_ARCH_BF16X2 (FP4_ARCH >= 800)
#endif

#if !defined(FP4_ARCH_CP_ASYNC)
#define FP4_ARCH_CP_ASYNC (FP4_ARCH >= 800)
#endif

#if !defined(FP4_ARCH_MAX_NAN)
#define FP4_ARCH_MAX_NAN (FP4_ARCH >= 800)
#endif

#if !defined(FP4_ARCH_MAX3_F32)
#define FP4_ARCH_MAX3_F32 (FP4_ARCH >= 1000 && FP4_ARCH < 1200)
#endif

#if !defined(FP4_ARCH_MAX_ABS_X2)
#define FP4_ARCH_MAX_ABS_X2 (FP4_ARCH >= 860)
#endif

/* The intrinsics that are spelled as these instructions came with CUDA 13. */
#if !defined(FP4_ARCH_F32X2)
#if defined(__CUDACC_VER_MAJOR__) && __CUDACC_VER_MAJOR__ >= 13
#define FP4_ARCH_F32X2 (FP4_ARCH >= 1000)
#else
#define FP4_ARCH_F32X2 0
#endif
#endif

#if !defined(FP4_ARCH_PDL)
#define FP4_ARCH_PDL (FP4_ARCH >= 900)
#endif

/**
 * 1 where conversions to and from e2m1 are instructions of the target, 0 where they are emulated.
 */
FP4_D int fp4_is_native(void)
{
    return FP4_ARCH_CVT_E2M1;
}

/**
 * 1 where conversions to and from e4m3 are instructions of the target, 0 where they are emulated.
 */
FP4_D int fp4_is_native_e4m3(void)
{
    return FP4_ARCH_CVT_E4M3;
}

#endif /* FP4_DEVICE_ARCH_CUH */

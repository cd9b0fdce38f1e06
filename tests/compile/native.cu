/*
 * native.cu - refuses to compile where arch.cuh takes the target for another one than it is: with
 * the target's conversions to e2m1 on those with an `a` or `f` from sm_100 on, without on all
 * others. nvrtc.c says which of both it compiles for: TARGET_IS_SPECIFIC.
 */
#include <fp4/device/arch.cuh>

#if FP4_ARCH_CVT_E2M1 != (TARGET_IS_SPECIFIC && FP4_ARCH >= 1000)
#error "native conversions where there are none, or none where there are"
#endif

extern "C" __global__ void native(int *is)
{
    *is = fp4_is_native();
}

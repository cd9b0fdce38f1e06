/*
 * fp4/config.h - what the compiler is, decided once.
 *
 * Function qualifiers, fixed-width integers without <stdint.h> where there is none (NVRTC), and the
 * version. The only portable header that asks which compiler is at work. Define FP4_HD,
 * FP4_HD_CONST or FP4_D before the first include to override them.
 */
#ifndef FP4_CONFIG_H
#define FP4_CONFIG_H

#define FP4_VERSION_MAJOR 0
#define FP4_VERSION_MINOR 1
#define FP4_VERSION_PATCH 0

/* NVRTC has no <stdint.h>. These types have one possible definition each, so that a translation
   unit may repeat them. 64-bit sizes and offsets are size_t, which is predeclared there. */
#if defined(__CUDACC_RTC__)
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif

/* FP4_HD        a function for host and device
   FP4_HD_CONST  the same, and usable in constant expressions of C++
   FP4_D         a device function; exists only where CUDA is compiled */
#if defined(__CUDACC__)
#if !defined(FP4_HD)
#define FP4_HD static __host__ __device__ __forceinline__
#endif
#if !defined(FP4_D)
#define FP4_D static __device__ __forceinline__
#endif
#elif !defined(FP4_HD)
#define FP4_HD static inline
#endif

#if !defined(FP4_HD_CONST)
#if defined(__cplusplus)
#define FP4_HD_CONST constexpr FP4_HD
#else
#define FP4_HD_CONST FP4_HD
#endif
#endif

#if defined(__cplusplus)
#define FP4_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define FP4_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif

FP4_STATIC_ASSERT(sizeof(float) == 4 && sizeof(uint32_t) == 4, "float and uint32_t are 32 bits");
FP4_STATIC_ASSERT(sizeof(size_t) == 8, "sizes and offsets are 64-bit");

#endif /* FP4_CONFIG_H */

/*
 * tests/simt/include/simt_halves.h - what cuda_fp16.h and cuda_bf16.h here share: a type of 16 bits
 * and pairs of it. Conversions are those of fp4/f16.h. An operation rounds what it is in f32, which
 * for + - * / has more than twice the bits and so rounds as the operation itself would. They are
 * compared as floats.
 */
#ifndef FP4_TESTS_SIMT_HALVES_H
#define FP4_TESTS_SIMT_HALVES_H

#include "cuda_runtime.h"

#include <fp4/f16.h>

template <uint16_t (*narrow)(float), float (*widen)(uint16_t)> struct simt_half {
    uint16_t bits;

    simt_half() = default;
    simt_half(float x) : bits(narrow(x))
    {
    }
    simt_half(double x) : bits(narrow((float)x))
    {
    }
    simt_half(int x) : bits(narrow((float)x))
    {
    }
    operator float() const
    {
        return widen(bits);
    }

    friend simt_half operator+(simt_half a, simt_half b)
    {
        return (float)a + (float)b;
    }
    friend simt_half operator-(simt_half a, simt_half b)
    {
        return (float)a - (float)b;
    }
    friend simt_half operator*(simt_half a, simt_half b)
    {
        return (float)a * (float)b;
    }
    friend simt_half operator/(simt_half a, simt_half b)
    {
        return (float)a / (float)b;
    }
    simt_half operator-() const
    {
        return -(float)*this;
    }
    simt_half &operator+=(simt_half b)
    {
        return *this = *this + b;
    }
    simt_half &operator-=(simt_half b)
    {
        return *this = *this - b;
    }
    simt_half &operator*=(simt_half b)
    {
        return *this = *this * b;
    }
    simt_half &operator/=(simt_half b)
    {
        return *this = *this / b;
    }

    static simt_half of(uint16_t bits)
    {
        simt_half h;
        h.bits = bits;
        return h;
    }
};

template <typename T> struct alignas(4) simt_half2 {
    T x, y;
};

/* The functions of one type, whose names the two headers have: half, bfloat16. */
#define SIMT_HALVES(T, T2, name, name2) \
    SIMT_INLINE T __float2##name(float x) \
    { \
        return x; \
    } \
    SIMT_INLINE T __float2##name##_rn(float x) \
    { \
        return x; \
    } \
    SIMT_INLINE float __##name##2float(T h) \
    { \
        return h; \
    } \
    SIMT_INLINE uint16_t __##name##_as_ushort(T h) \
    { \
        return h.bits; \
    } \
    SIMT_INLINE T __ushort_as_##name(uint16_t bits) \
    { \
        return T::of(bits); \
    } \
    SIMT_INLINE T2 __float22##name2##_rn(float2 x) \
    { \
        return {T(x.x), T(x.y)}; \
    } \
    SIMT_INLINE T2 __floats2##name2##_rn(float x, float y) \
    { \
        return {T(x), T(y)}; \
    } \
    SIMT_INLINE T2 __float2##name2##_rn(float x) \
    { \
        return {T(x), T(x)}; \
    } \
    SIMT_INLINE float2 __##name2##2float2(T2 h) \
    { \
        return {(float)h.x, (float)h.y}; \
    } \
    SIMT_INLINE T2 __halves2##name2(T x, T y) \
    { \
        return {x, y}; \
    } \
    SIMT_INLINE T2 __##name##2##name2(T x) \
    { \
        return {x, x}; \
    } \
    SIMT_INLINE T __low2##name(T2 h) \
    { \
        return h.x; \
    } \
    SIMT_INLINE T __high2##name(T2 h) \
    { \
        return h.y; \
    } \
    SIMT_INLINE float __low2float(T2 h) \
    { \
        return h.x; \
    } \
    SIMT_INLINE float __high2float(T2 h) \
    { \
        return h.y; \
    } \
    SIMT_INLINE T __hadd(T a, T b) \
    { \
        return a + b; \
    } \
    SIMT_INLINE T __hsub(T a, T b) \
    { \
        return a - b; \
    } \
    SIMT_INLINE T __hmul(T a, T b) \
    { \
        return a * b; \
    } \
    SIMT_INLINE T __hdiv(T a, T b) \
    { \
        return a / b; \
    } \
    SIMT_INLINE T __hneg(T a) \
    { \
        return -a; \
    } \
    SIMT_INLINE T __habs(T a) \
    { \
        return fabsf(a); \
    } \
    SIMT_INLINE T __hmax(T a, T b) \
    { \
        return a != a ? T((float)b) : b != b ? a : T(fmaxf(a, b)); \
    } \
    SIMT_INLINE T __hmin(T a, T b) \
    { \
        return a != a ? T((float)b) : b != b ? a : T(fminf(a, b)); \
    } \
    SIMT_INLINE bool __hisnan(T a) \
    { \
        return (float)a != (float)a; \
    } \
    SIMT_INLINE T2 __hadd2(T2 a, T2 b) \
    { \
        return {a.x + b.x, a.y + b.y}; \
    } \
    SIMT_INLINE T2 __hsub2(T2 a, T2 b) \
    { \
        return {a.x - b.x, a.y - b.y}; \
    } \
    SIMT_INLINE T2 __hmul2(T2 a, T2 b) \
    { \
        return {a.x * b.x, a.y * b.y}; \
    } \
    SIMT_INLINE T2 __habs2(T2 a) \
    { \
        return {__habs(a.x), __habs(a.y)}; \
    } \
    SIMT_INLINE T2 __hmax2(T2 a, T2 b) \
    { \
        return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; \
    } \
    SIMT_INLINE T2 __hmin2(T2 a, T2 b) \
    { \
        return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; \
    }
#define SIMT_INLINE static inline __attribute__((unused))

#endif /* FP4_TESTS_SIMT_HALVES_H */

/*
 * tests/simt/include/fp4/device/ptx.cuh - stands in front of the library's file of this name: the
 * same functions, on the CPU. Conversions by the scalar rules of the library, so that what is
 * tested is what is done with them; arithmetic by C's operators, which round the same way.
 */
#ifndef FP4_TESTS_SIMT_PTX_CUH
#define FP4_TESTS_SIMT_PTX_CUH

#include <fp4/bits.h>
#include <fp4/device/arch.cuh>
#include <fp4/e2m1.h>
#include <fp4/e4m3.h>
#include <fp4/e8m0.h>
#include <fp4/f16.h>
#include <fp4/types.h>

/* ------------------------------------------------------------ conversions */

#if FP4_ARCH_CVT_E2M1
FP4_D uint8_t fp4_ptx_e2m1x2(float x0, float x1)
{
    return (uint8_t)(fp4_f32_to_e2m1(x0) | fp4_f32_to_e2m1(x1) << 4);
}

FP4_D uint32_t fp4_ptx_e2m1x8(float x0, float x1, float x2, float x3, float x4, float x5, float x6,
                              float x7)
{
    return fp4_ptx_e2m1x2(x0, x1) | (uint32_t)fp4_ptx_e2m1x2(x2, x3) << 8 |
           (uint32_t)fp4_ptx_e2m1x2(x4, x5) << 16 | (uint32_t)fp4_ptx_e2m1x2(x6, x7) << 24;
}

FP4_D uint32_t fp4_ptx_e2m1x2_to_f16x2(uint32_t q)
{
    return fp4_f32_to_f16(fp4_e2m1_to_f32((uint8_t)(q & 15))) |
           (uint32_t)fp4_f32_to_f16(fp4_e2m1_to_f32((uint8_t)(q >> 4 & 15))) << 16;
}

FP4_D uint8_t fp4_ptx_e8m0_up(float x)
{
    return fp4_f32_to_e8m0_up(x);
}
#endif

#if FP4_ARCH_CVT_E4M3
FP4_D uint16_t fp4_ptx_e4m3x2(float x0, float x1)
{
    return (uint16_t)(fp4_f32_to_e4m3(x0) | fp4_f32_to_e4m3(x1) << 8);
}

FP4_D uint32_t fp4_ptx_e4m3x2_to_f16x2(uint16_t q)
{
    return fp4_f32_to_f16(fp4_e4m3_to_f32((uint8_t)q)) |
           (uint32_t)fp4_f32_to_f16(fp4_e4m3_to_f32((uint8_t)(q >> 8))) << 16;
}
#endif

FP4_D float fp4_ptx_f16_to_f32(uint16_t h)
{
    return fp4_f16_to_f32(h);
}

FP4_D uint16_t fp4_ptx_f32_to_f16(float x)
{
    return fp4_f32_to_f16(x);
}

#if FP4_ARCH_CVT_F16X2
FP4_D uint32_t fp4_ptx_f16x2(float x0, float x1)
{
    return fp4_f32_to_f16(x0) | (uint32_t)fp4_f32_to_f16(x1) << 16;
}

FP4_D uint32_t fp4_ptx_bf16x2(float x0, float x1)
{
    return fp4_f32_to_bf16(x0) | (uint32_t)fp4_f32_to_bf16(x1) << 16;
}
#endif

/* |x| < 2^16. */
FP4_D uint32_t fp4_simt_f16_rz(float x)
{
    const uint32_t bits = fp4_f32_bits(x), sign = bits >> 16 & 0x8000u;
    const int shift = 13 + (bits << 1 < 113u << 24 ? 113 - (int)(bits << 1 >> 24) : 0);
    const uint32_t significand = (bits & 0x7fffffu) | 0x800000u;

    if (shift == 13) {
        return sign | ((bits & 0x7fffffffu) - (112u << 23)) >> 13;
    }
    return sign | (shift < 24 ? significand >> shift : 0);
}

FP4_D uint32_t fp4_ptx_f16x2_rz(float x0, float x1)
{
    return fp4_simt_f16_rz(x0) | fp4_simt_f16_rz(x1) << 16;
}

/* ------------------------------------------------------------ arithmetic */

FP4_D void fp4_ptx_mul_x2(float x[2], float a, float b)
{
    x[0] = fp4_mul_rn(x[0], a);
    x[1] = fp4_mul_rn(x[1], b);
}

FP4_D void fp4_ptx_add_x2(float x[2], float a, float b)
{
    x[0] = fp4_add_rn(x[0], a);
    x[1] = fp4_add_rn(x[1], b);
}

FP4_D void fp4_ptx_fma_x2(float x[2], const float y[2], const float z[2])
{
    x[0] = fp4_fma_rn(x[0], y[0], z[0]);
    x[1] = fp4_fma_rn(x[1], y[1], z[1]);
}

#if FP4_ARCH_BF16X2
FP4_D uint32_t fp4_ptx_mul_bf16x2(uint32_t a, uint32_t b)
{
    const float low = fp4_bits_f32(a << 16) * fp4_bits_f32(b << 16); /* exact */
    const float high = fp4_bits_f32(a & 0xffff0000u) * fp4_bits_f32(b & 0xffff0000u);
    return fp4_f32_to_bf16(low) | (uint32_t)fp4_f32_to_bf16(high) << 16;
}
#endif

FP4_D uint32_t fp4_ptx_mul_f16x2(uint32_t a, uint32_t b)
{
    const float low = fp4_f16_to_f32((uint16_t)a) * fp4_f16_to_f32((uint16_t)b); /* exact */
    const float high = fp4_f16_to_f32((uint16_t)(a >> 16)) * fp4_f16_to_f32((uint16_t)(b >> 16));
    return fp4_f32_to_f16(low) | (uint32_t)fp4_f32_to_f16(high) << 16;
}

FP4_D uint32_t fp4_ptx_max_u16x2(uint32_t a, uint32_t b)
{
    return fp4_max_u32(a & 0xffffu, b & 0xffffu) | fp4_max_u32(a >> 16, b >> 16) << 16;
}

FP4_D uint32_t fp4_ptx_amin_bf16x2(uint32_t a, uint32_t b)
{
    const uint32_t c = a & 0x7fff7fffu, d = b & 0x7fff7fffu;
    return (fp4_min_u32(c & 0xffffu, d & 0xffffu) | fp4_min_u32(c >> 16, d >> 16) << 16) |
           ((a ^ b) & 0x80008000u);
}

FP4_D uint32_t fp4_ptx_amax_or_nan_bf16x2(uint32_t a, uint32_t b)
{
    return fp4_ptx_max_u16x2(a & 0x7fff7fffu, b & 0x7fff7fffu) | ((a ^ b) & 0x80008000u);
}

FP4_D uint32_t fp4_ptx_amax_or_nan_f16x2(uint32_t a, uint32_t b)
{
    return fp4_ptx_amax_or_nan_bf16x2(a, b);
}

FP4_D float fp4_ptx_abs(float x)
{
    return fabsf(x);
}

FP4_D float fp4_ptx_min(float a, float b)
{
    return fp4_is_nan(a) || b < a ? b : a;
}

FP4_D float fp4_ptx_max(float a, float b)
{
    return fp4_is_nan(a) || b > a ? b : a;
}

#if FP4_ARCH_MAX_NAN
FP4_D float fp4_ptx_max_nan(float a, float b)
{
    return fp4_is_nan(a) || a > b ? a : b;
}

FP4_D float fp4_ptx_min_nan(float a, float b)
{
    return fp4_is_nan(a) || a < b ? a : b;
}

/* One half, by its value in f32. */
static inline uint32_t simt_clamp(uint32_t half, float x, float low, float high, uint32_t of_low,
                                  uint32_t of_high)
{
    return fp4_is_nan(x) ? 0x7fffu : x < low ? of_low : x > high ? of_high : half;
}

FP4_D uint32_t fp4_ptx_clamp_bf16x2(uint32_t x, uint32_t low, uint32_t high)
{
    uint32_t d = 0;

    for (int at = 0; at < 32; at += 16) {
        const uint32_t h = x >> at & 0xffffu, l = low >> at & 0xffffu, m = high >> at & 0xffffu;
        d |=
            simt_clamp(h, fp4_bits_f32(h << 16), fp4_bits_f32(l << 16), fp4_bits_f32(m << 16), l, m)
            << at;
    }
    return d;
}

FP4_D uint32_t fp4_ptx_clamp_f16x2(uint32_t x, uint32_t low, uint32_t high)
{
    uint32_t d = 0;

    for (int at = 0; at < 32; at += 16) {
        const uint32_t h = x >> at & 0xffffu, l = low >> at & 0xffffu, m = high >> at & 0xffffu;
        d |= simt_clamp(h, fp4_f16_to_f32((uint16_t)h), fp4_f16_to_f32((uint16_t)l),
                        fp4_f16_to_f32((uint16_t)m), l, m)
             << at;
    }
    return d;
}
#endif

FP4_D float fp4_rsqrt_rn(float x)
{
    return (float)(1.0 / sqrt((double)x));
}

/* Rounded correctly, where the instruction may be an ulp off: the GPU tests are for that.
   Subnormals are flushed, as the instruction does. */
FP4_D float fp4_ptx_rcp_approx(float x)
{
    const float r = fabsf(x) < 0x1p-126f ? copysignf(INFINITY, x) : __frcp_rn(x);
    return fabsf(r) < 0x1p-126f ? copysignf(0.0f, r) : r;
}

FP4_D uint32_t fp4_ptx_bytes_or_signs(uint32_t lo, uint32_t hi, uint32_t selector)
{
    uint32_t d = 0;
    int i;

    for (i = 0; i < 4; i++) {
        const uint32_t place = selector >> (4 * i) & 15u;
        const uint32_t byte = (place & 4u ? hi : lo) >> (8 * (place & 3u)) & 255u;
        d |= (place & 8u ? (byte & 128u ? 255u : 0u) : byte) << (8 * i);
    }
    return d;
}

FP4_D uint32_t fp4_ptx_dot_u8u8(uint32_t a, uint32_t b, uint32_t sum)
{
    int i;

    for (i = 0; i < 32; i += 8) {
        sum += (a >> i & 255u) * (b >> i & 255u);
    }
    return sum;
}

FP4_D uint32_t fp4_ptx_dot_u8s8(uint32_t a, uint32_t b, uint32_t sum)
{
    int i;

    for (i = 0; i < 32; i += 8) {
        sum += (a >> i & 255u) * (uint32_t)(int8_t)(b >> i);
    }
    return sum;
}

FP4_D uint32_t fp4_ptx_pick_bits(uint32_t mask, uint32_t a, uint32_t b)
{
    return (a & mask) | (b & ~mask);
}

FP4_D uint32_t fp4_ptx_bytes(uint32_t lo, uint32_t hi, uint32_t selector)
{
    uint32_t bytes = 0;

    for (int i = 0; i < 4; i++) {
        const uint32_t from = selector >> (4 * i) & 7u;
        bytes |= ((from < 4 ? lo : hi) >> (8 * (from % 4)) & 0xffu) << (8 * i);
    }
    return bytes;
}

FP4_D int fp4_ptx_opaque(int x)
{
    return x;
}

FP4_D uint32_t fp4_ptx_ones(uint32_t x)
{
    return (uint32_t)__builtin_popcount(x);
}

FP4_D uint32_t fp4_ptx_reversed(uint32_t x)
{
    uint32_t r = 0;

    for (int i = 0; i < 32; i++) {
        r |= (x >> i & 1) << (31 - i);
    }
    return r;
}

/* ------------------------------------------------------------ memory */

FP4_D fp4_u32x4 fp4_ptx_load16(const void *p)
{
    const uint4 v = *(const uint4 *)p;
    const fp4_u32x4 r = {{v.x, v.y, v.z, v.w}};
    return r;
}

FP4_D fp4_u32x4 fp4_ptx_load16_cs(const void *p)
{
    return fp4_ptx_load16(p);
}

FP4_D fp4_u32x2 fp4_ptx_load8(const void *p)
{
    const uint2 v = *(const uint2 *)p;
    const fp4_u32x2 r = {{v.x, v.y}};
    return r;
}

FP4_D fp4_u32x2 fp4_ptx_load8_cs(const void *p)
{
    return fp4_ptx_load8(p);
}

FP4_D void fp4_ptx_store16(void *p, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    *(uint4 *)p = make_uint4(a, b, c, d);
}

FP4_D void fp4_ptx_store16_cs(void *p, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    fp4_ptx_store16(p, a, b, c, d);
}

FP4_D void fp4_ptx_store8(void *p, uint32_t a, uint32_t b)
{
    *(uint2 *)p = make_uint2(a, b);
}

FP4_D void fp4_ptx_store8_cs(void *p, uint32_t a, uint32_t b)
{
    fp4_ptx_store8(p, a, b);
}

FP4_D void fp4_ptx_store4(void *p, uint32_t a)
{
    *(uint32_t *)p = a;
}

FP4_D void fp4_ptx_store4_cs(void *p, uint32_t a)
{
    fp4_ptx_store4(p, a);
}

/* What is copied is read at once, and written where the thread waits for it: until then something
   else is there. */
FP4_D void fp4_ptx_copy16_async(void *shared, const void *global, SIMT_LINE)
{
    const fp4_u32x4 v = fp4_ptx_load16(global);
    const simt_copy copy = {shared, {v.v[0], v.v[1], v.v[2], v.v[3]}, 16, file, line};

    fp4_ptx_store16(shared, 0x7f7f7f7fu, 0x7f7f7f7fu, 0x7f7f7f7fu, 0x7f7f7f7fu);
    simt_add_copy(&copy);
}

FP4_D void fp4_ptx_copy8_async(void *shared, const void *global, SIMT_LINE)
{
    const fp4_u32x2 v = fp4_ptx_load8(global);
    const simt_copy copy = {shared, {v.v[0], v.v[1]}, 8, file, line};

    fp4_ptx_store8(shared, 0x7f7f7f7fu, 0x7f7f7f7fu);
    simt_add_copy(&copy);
}

FP4_D void fp4_ptx_copy4_async(void *shared, const void *global, SIMT_LINE)
{
    const simt_copy copy = {shared, {*(const uint32_t *)global, 0}, 4, file, line};

    fp4_ptx_store4(shared, 0x7f7f7f7fu);
    simt_add_copy(&copy);
}

FP4_D void fp4_ptx_copies_wait(void)
{
    uint32_t n;
    const simt_copy *copy = simt_take_copies(&n);

    for (; n > 0; n--, copy++) {
        if (copy->bytes == 16) {
            fp4_ptx_store16(copy->to, copy->value[0], copy->value[1], copy->value[2],
                            copy->value[3]);
        } else if (copy->bytes == 8) {
            fp4_ptx_store8(copy->to, copy->value[0], copy->value[1]);
        } else {
            fp4_ptx_store4(copy->to, copy->value[0]);
        }
    }
}

/* ------------------------------------------------------------ threads */

FP4_D float fp4_ptx_shuffle_xor(uint32_t mask, float x, int lanes, SIMT_LINE)
{
    return __shfl_xor_sync(mask, x, lanes, 32, file, line);
}

FP4_D uint32_t fp4_ptx_shuffle_xor_u32(uint32_t mask, uint32_t x, int lanes, SIMT_LINE)
{
    return __shfl_xor_sync(mask, x, lanes, 32, file, line);
}

FP4_D uint32_t fp4_ptx_shuffle_u32(uint32_t mask, uint32_t x, int lane, SIMT_LINE)
{
    return __shfl_sync(mask, x, lane, 32, file, line);
}

FP4_D int fp4_ptx_any(uint32_t mask, int predicate, SIMT_LINE)
{
    return __any_sync(mask, predicate, file, line);
}

FP4_D uint32_t fp4_ptx_ballot(uint32_t mask, int predicate, SIMT_LINE)
{
    return __ballot_sync(mask, predicate, file, line);
}

FP4_D void fp4_ptx_warp_barrier(SIMT_LINE)
{
    __syncwarp(0xffffffffu, file, line);
}

/* CTAs run one after the other, and a fiber is not interrupted. */
static inline SIMT_NOT_TRACKED __attribute__((unused)) uint32_t fp4_simt_swap(uint32_t *p,
                                                                              uint32_t x)
{
    const uint32_t before = *p;
    *p = x;
    return before;
}

static inline SIMT_NOT_TRACKED __attribute__((unused)) uint32_t fp4_simt_read(const uint32_t *p)
{
    return *p;
}

FP4_D void fp4_ptx_atomic_max(uint32_t *p, uint32_t x)
{
    fp4_simt_swap(p, fp4_max_u32(fp4_simt_read(p), x));
}

FP4_D uint32_t fp4_ptx_atomic_inc(uint32_t *p, uint32_t last)
{
    return fp4_simt_swap(p, fp4_simt_read(p) >= last ? 0 : fp4_simt_read(p) + 1);
}

FP4_D void fp4_ptx_atomic_or(uint32_t *p, uint32_t x)
{
    fp4_simt_swap(p, fp4_simt_read(p) | x);
}

FP4_D uint32_t fp4_ptx_atomic_exchange(uint32_t *p, uint32_t x)
{
    return fp4_simt_swap(p, x);
}

FP4_D SIMT_NOT_TRACKED size_t fp4_ptx_load_relaxed_u64(const size_t *p)
{
    return *p;
}

FP4_D SIMT_NOT_TRACKED void fp4_ptx_store_relaxed_u64(size_t *p, size_t x)
{
    *p = x;
}

FP4_D void fp4_ptx_fence(void)
{
}

FP4_D void fp4_ptx_barrier(SIMT_LINE)
{
    simt_barrier(file, line);
}

FP4_D void fp4_ptx_barrier_of(uint32_t part, uint32_t threads, SIMT_LINE)
{
    simt_barrier_of(part, threads, file, line);
}

/* Does nothing below sm_90: a kernel that a target there runs is never launched so. */
FP4_D void fp4_pdl_wait(void)
{
    simt_pdl_wait();
}

FP4_D void fp4_pdl_trigger(void)
{
}

#endif /* FP4_TESTS_SIMT_PTX_CUH */

/*
 * fp4/device/ptx.cuh - one thin function for each instruction that C cannot say. The only file with
 * asm or CUDA intrinsics (bits.h has the five whose rounding is part of a rule): compile the rest
 * with another ptx.cuh in front of it on the include path, and kernels run on something else than a
 * GPU.
 *
 * Conversions take their operands in the order of the result's bits: the first argument is the low
 * nibble or byte. (PTX names them the other way round.)
 */
#ifndef FP4_DEVICE_PTX_CUH
#define FP4_DEVICE_PTX_CUH

#include <fp4/bits.h>
#include <fp4/device/arch.cuh>
#include <fp4/types.h>

/* ------------------------------------------------------------ conversions */

#if FP4_ARCH_CVT_E2M1
/** Eight floats to eight e2m1 codes, nearest even, saturating, NaN to +6: four instructions. */
FP4_D uint32_t fp4_ptx_e2m1x8(float x0, float x1, float x2, float x3, float x4, float x5, float x6,
                              float x7)
{
    uint32_t q;
    asm("{\n"
        ".reg .b8 b0, b1, b2, b3;\n"
        "cvt.rn.satfinite.e2m1x2.f32 b0, %2, %1;\n"
        "cvt.rn.satfinite.e2m1x2.f32 b1, %4, %3;\n"
        "cvt.rn.satfinite.e2m1x2.f32 b2, %6, %5;\n"
        "cvt.rn.satfinite.e2m1x2.f32 b3, %8, %7;\n"
        "mov.b32 %0, {b0, b1, b2, b3};\n"
        "}"
        : "=r"(q)
        : "f"(x0), "f"(x1), "f"(x2), "f"(x3), "f"(x4), "f"(x5), "f"(x6), "f"(x7));
    return q;
}

/** Two floats to one byte of e2m1 codes. */
FP4_D uint8_t fp4_ptx_e2m1x2(float x0, float x1)
{
    uint16_t q;
    asm("{\n"
        ".reg .b8 b;\n"
        "cvt.rn.satfinite.e2m1x2.f32 b, %2, %1;\n"
        "cvt.u16.u8 %0, b;\n"
        "}"
        : "=h"(q)
        : "f"(x0), "f"(x1));
    return (uint8_t)q;
}

/** Two e2m1 codes, the low byte of q, to two halves. */
FP4_D uint32_t fp4_ptx_e2m1x2_to_f16x2(uint32_t q)
{
    uint32_t h;
    asm("{\n"
        ".reg .b8 b0, b1, b2, b3;\n"
        "mov.b32 {b0, b1, b2, b3}, %1;\n"
        "cvt.rn.f16x2.e2m1x2 %0, b0;\n"
        "}"
        : "=r"(h)
        : "r"(q));
    return h;
}

/** |x| to e8m0, rounded up, saturating. */
FP4_D uint8_t fp4_ptx_e8m0_up(float x)
{
    uint16_t q;
    asm("cvt.rp.satfinite.ue8m0x2.f32 %0, %1, %2;" : "=h"(q) : "f"(0.0f), "f"(x));
    return (uint8_t)q;
}
#endif

#if FP4_ARCH_CVT_E4M3
/** Two floats to two e4m3 codes, nearest even, saturating, NaN to 0x7f. */
FP4_D uint16_t fp4_ptx_e4m3x2(float x0, float x1)
{
    uint16_t q;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %2, %1;" : "=h"(q) : "f"(x0), "f"(x1));
    return q;
}

/** Two e4m3 codes to two halves. */
FP4_D uint32_t fp4_ptx_e4m3x2_to_f16x2(uint16_t q)
{
    uint32_t h;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(h) : "h"(q));
    return h;
}
#endif

/** A half to f32. */
FP4_D float fp4_ptx_f16_to_f32(uint16_t h)
{
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h));
    return x;
}

/** f32 to a half, nearest even. */
FP4_D uint16_t fp4_ptx_f32_to_f16(float x)
{
    uint16_t h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(x));
    return h;
}

#if FP4_ARCH_CVT_F16X2
/** Two floats to two halves, nearest even, NaN to 0x7fff. */
FP4_D uint32_t fp4_ptx_f16x2(float x0, float x1)
{
    uint32_t w;
    asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(x0), "f"(x1));
    return w;
}

/** Two floats to two bf16, nearest even, NaN to 0x7fff. */
FP4_D uint32_t fp4_ptx_bf16x2(float x0, float x1)
{
    uint32_t w;
    asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(x0), "f"(x1));
    return w;
}
#endif

/** Two floats to two halves, rounded toward zero: one instruction from sm_80 on. */
FP4_D uint32_t fp4_ptx_f16x2_rz(float x0, float x1)
{
#if FP4_ARCH_CVT_F16X2
    uint32_t w;
    asm("cvt.rz.f16x2.f32 %0, %2, %1;" : "=r"(w) : "f"(x0), "f"(x1));
    return w;
#else
    uint16_t h0, h1;
    asm("cvt.rz.f16.f32 %0, %1;" : "=h"(h0) : "f"(x0));
    asm("cvt.rz.f16.f32 %0, %1;" : "=h"(h1) : "f"(x1));
    return (uint32_t)h0 | (uint32_t)h1 << 16;
#endif
}

/* ------------------------------------------------------------ arithmetic */

/** x[0] * a and x[1] * b, each rounded once: one instruction from sm_100 on. */
FP4_D void fp4_ptx_mul_x2(float x[2], float a, float b)
{
#if FP4_ARCH_F32X2
    const float2 p = __fmul2_rn(make_float2(x[0], x[1]), make_float2(a, b));
    x[0] = p.x;
    x[1] = p.y;
#else
    x[0] = fp4_mul_rn(x[0], a);
    x[1] = fp4_mul_rn(x[1], b);
#endif
}

/** x[0] + a and x[1] + b, in the same way. */
FP4_D void fp4_ptx_add_x2(float x[2], float a, float b)
{
#if FP4_ARCH_F32X2
    const float2 s = __fadd2_rn(make_float2(x[0], x[1]), make_float2(a, b));
    x[0] = s.x;
    x[1] = s.y;
#else
    x[0] = fp4_add_rn(x[0], a);
    x[1] = fp4_add_rn(x[1], b);
#endif
}

/** x[0] * y[0] + z[0] and x[1] * y[1] + z[1], in the same way. */
FP4_D void fp4_ptx_fma_x2(float x[2], const float y[2], const float z[2])
{
#if FP4_ARCH_F32X2
    const float2 s =
        __ffma2_rn(make_float2(x[0], x[1]), make_float2(y[0], y[1]), make_float2(z[0], z[1]));
    x[0] = s.x;
    x[1] = s.y;
#else
    x[0] = fp4_fma_rn(x[0], y[0], z[0]);
    x[1] = fp4_fma_rn(x[1], y[1], z[1]);
#endif
}

/** The products of the lower and of the upper halves, subnormals and all. */
FP4_D uint32_t fp4_ptx_mul_f16x2(uint32_t a, uint32_t b)
{
    uint32_t d;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
}

#if FP4_ARCH_BF16X2
/** The same of bf16. (A sum with -0, which changes nothing: products come with sm_90.) */
FP4_D uint32_t fp4_ptx_mul_bf16x2(uint32_t a, uint32_t b)
{
    uint32_t d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(0x80008000u));
    return d;
}
#endif

/** The larger of the lower halves and of the upper halves: one instruction from sm_90 on. */
FP4_D uint32_t fp4_ptx_max_u16x2(uint32_t a, uint32_t b)
{
    return __vmaxu2(a, b);
}

/** |x|. */
FP4_D float fp4_ptx_abs(float x)
{
    return fabsf(x);
}

/** The smaller; the number where one is NaN. */
FP4_D float fp4_ptx_min(float a, float b)
{
    return fminf(a, b);
}

/** The larger; the number where one is NaN. */
FP4_D float fp4_ptx_max(float a, float b)
{
    return fmaxf(a, b);
}

#if FP4_ARCH_MAX_NAN
/** The larger; NaN where one is NaN. */
FP4_D float fp4_ptx_max_nan(float a, float b)
{
    float d;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

/** The smaller; NaN where one is NaN. */
FP4_D float fp4_ptx_min_nan(float a, float b)
{
    float d;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
}

/** The halves of x, as bf16, at least those of low and at most those of high; NaN of NaN. */
FP4_D uint32_t fp4_ptx_clamp_bf16x2(uint32_t x, uint32_t low, uint32_t high)
{
    uint32_t d;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(x), "r"(low));
    asm("min.NaN.bf16x2 %0, %0, %1;" : "+r"(d) : "r"(high));
    return d;
}

/** The same as f16. */
FP4_D uint32_t fp4_ptx_clamp_f16x2(uint32_t x, uint32_t low, uint32_t high)
{
    uint32_t d;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(d) : "r"(x), "r"(low));
    asm("min.NaN.f16x2 %0, %0, %1;" : "+r"(d) : "r"(high));
    return d;
}
#endif

/** The smaller magnitude of the lower halves and of the upper, as bf16, the number where one is NaN
    (before sm_86 NaN is the largest number); sign bits are anything: one instruction from sm_86
    on. */
FP4_D uint32_t fp4_ptx_amin_bf16x2(uint32_t a, uint32_t b)
{
#if FP4_ARCH_MAX_ABS_X2
    uint32_t d;
    asm("min.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return __vminu2(a & 0x7fff7fffu, b & 0x7fff7fffu);
#endif
}

/** The larger magnitude of the lower halves and of the upper, as bf16, NaN where one is NaN; sign
    bits are anything: one instruction from sm_86 on. */
FP4_D uint32_t fp4_ptx_amax_or_nan_bf16x2(uint32_t a, uint32_t b)
{
#if FP4_ARCH_MAX_ABS_X2
    uint32_t d;
    asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return fp4_ptx_max_u16x2(a & 0x7fff7fffu, b & 0x7fff7fffu);
#endif
}

/** The same as f16. */
FP4_D uint32_t fp4_ptx_amax_or_nan_f16x2(uint32_t a, uint32_t b)
{
#if FP4_ARCH_MAX_ABS_X2
    uint32_t d;
    asm("max.NaN.xorsign.abs.f16x2 %0, %1, %2;" : "=r"(d) : "r"(a), "r"(b));
    return d;
#else
    return fp4_ptx_max_u16x2(a & 0x7fff7fffu, b & 0x7fff7fffu);
#endif
}

/** 1 / sqrt(x), to nearest even, also under --use_fast_math. */
FP4_D float fp4_rsqrt_rn(float x)
{
    return __frsqrt_rn(x);
}

/** About 1 / x, to 1 ulp; subnormals flushed. */
FP4_D float fp4_ptx_rcp_approx(float x)
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

/** Byte i of the result is byte (selector >> 4i) & 7 of the eight bytes {hi, lo}. */
FP4_D uint32_t fp4_ptx_bytes(uint32_t lo, uint32_t hi, uint32_t selector)
{
    return __byte_perm(lo, hi, selector);
}

/** The same, but where bit 3 of a place of the selector is 1, eight times the sign bit of the byte
    that it selects. */
FP4_D uint32_t fp4_ptx_bytes_or_signs(uint32_t lo, uint32_t hi, uint32_t selector)
{
    uint32_t d;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(lo), "r"(hi), "r"(selector));
    return d;
}

/** sum + the products of four unsigned bytes with four unsigned ones, modulo 2^32. */
FP4_D uint32_t fp4_ptx_dot_u8u8(uint32_t a, uint32_t b, uint32_t sum)
{
    uint32_t d;
    asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(sum));
    return d;
}

/** sum + the products of four unsigned bytes with four signed ones, modulo 2^32. */
FP4_D uint32_t fp4_ptx_dot_u8s8(uint32_t a, uint32_t b, uint32_t sum)
{
    uint32_t d;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(sum));
    return d;
}

/** Each bit from a where the mask has a 1, from b where it has a 0. */
FP4_D uint32_t fp4_ptx_pick_bits(uint32_t mask, uint32_t a, uint32_t b)
{
    uint32_t d;
    asm("lop3.b32 %0, %1, %2, %3, 0xca;" : "=r"(d) : "r"(mask), "r"(a), "r"(b));
    return d;
}

/** x, of which the compiler knows nothing from here on. Behind a branch that has set it all lanes
    then go on together, where else each way might get a copy of what follows. */
FP4_D int fp4_ptx_opaque(int x)
{
    asm volatile("" : "+r"(x));
    return x;
}

/** How many bits of x are 1. */
FP4_D uint32_t fp4_ptx_ones(uint32_t x)
{
    return (uint32_t)__popc(x);
}

/** The bits of x from the last to the first. */
FP4_D uint32_t fp4_ptx_reversed(uint32_t x)
{
    return __brev(x);
}

/* ------------------------------------------------------------ memory */

/** 16 bytes, 16-byte aligned. */
FP4_D fp4_u32x4 fp4_ptx_load16(const void *p)
{
    const uint4 v = *(const uint4 *)p;
    const fp4_u32x4 r = {{v.x, v.y, v.z, v.w}};
    return r;
}

/** 16 bytes of global memory that will not be read again soon. */
FP4_D fp4_u32x4 fp4_ptx_load16_cs(const void *p)
{
    const uint4 v = __ldcs((const uint4 *)p);
    const fp4_u32x4 r = {{v.x, v.y, v.z, v.w}};
    return r;
}

/** 8 bytes, 8-byte aligned. */
FP4_D fp4_u32x2 fp4_ptx_load8(const void *p)
{
    const uint2 v = *(const uint2 *)p;
    const fp4_u32x2 r = {{v.x, v.y}};
    return r;
}

/** 8 bytes of global memory that will not be read again soon. */
FP4_D fp4_u32x2 fp4_ptx_load8_cs(const void *p)
{
    const uint2 v = __ldcs((const uint2 *)p);
    const fp4_u32x2 r = {{v.x, v.y}};
    return r;
}

/** 16 bytes, 16-byte aligned. */
FP4_D void fp4_ptx_store16(void *p, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    *(uint4 *)p = make_uint4(a, b, c, d);
}

/** 16 bytes of global memory that will not be read again soon. */
FP4_D void fp4_ptx_store16_cs(void *p, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
    __stcs((uint4 *)p, make_uint4(a, b, c, d));
}

/** 8 bytes, 8-byte aligned. */
FP4_D void fp4_ptx_store8(void *p, uint32_t a, uint32_t b)
{
    *(uint2 *)p = make_uint2(a, b);
}

/** 8 bytes of global memory that will not be read again soon. */
FP4_D void fp4_ptx_store8_cs(void *p, uint32_t a, uint32_t b)
{
    __stcs((uint2 *)p, make_uint2(a, b));
}

/** 4 bytes, 4-byte aligned. */
FP4_D void fp4_ptx_store4(void *p, uint32_t a)
{
    *(uint32_t *)p = a;
}

/** 4 bytes of global memory that will not be read again soon. */
FP4_D void fp4_ptx_store4_cs(void *p, uint32_t a)
{
    __stcs((uint32_t *)p, a);
}

/** Sixteen bytes from global to shared memory, aligned as large, there after fp4_ptx_copies_wait:
    without a register and with nobody waiting in between, from sm_80 on. */
FP4_D void fp4_ptx_copy16_async(void *shared, const void *global)
{
#if FP4_ARCH_CP_ASYNC
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(global)
                 : "memory");
#else
    *(uint4 *)shared = *(const uint4 *)global;
#endif
}

/** The same of eight. */
FP4_D void fp4_ptx_copy8_async(void *shared, const void *global)
{
#if FP4_ARCH_CP_ASYNC
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(global)
                 : "memory");
#else
    *(uint2 *)shared = *(const uint2 *)global;
#endif
}

/** The same of four. */
FP4_D void fp4_ptx_copy4_async(void *shared, const void *global)
{
#if FP4_ARCH_CP_ASYNC
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;"
                 :
                 : "r"((uint32_t)__cvta_generic_to_shared(shared)), "l"(global)
                 : "memory");
#else
    *(uint32_t *)shared = *(const uint32_t *)global;
#endif
}

/** Waits for all copies of this thread. */
FP4_D void fp4_ptx_copies_wait(void)
{
#if FP4_ARCH_CP_ASYNC
    asm volatile("cp.async.wait_all;" ::: "memory");
#endif
}

/* ------------------------------------------------------------ threads */

/**
 * The value of the lane whose number is this one's xor `lanes`; all lanes of `mask` call together.
 */
FP4_D float fp4_ptx_shuffle_xor(uint32_t mask, float x, int lanes)
{
    return __shfl_xor_sync(mask, x, lanes);
}

/** The same of 32 bits of any kind. */
FP4_D uint32_t fp4_ptx_shuffle_xor_u32(uint32_t mask, uint32_t x, int lanes)
{
    return __shfl_xor_sync(mask, x, lanes);
}

/** 32 bits of another lane, each of its own choice; all lanes of `mask` call together. */
FP4_D uint32_t fp4_ptx_shuffle_u32(uint32_t mask, uint32_t x, int lane)
{
    return __shfl_sync(mask, x, lane);
}

/** Whether the predicate holds in any lane of mask; all lanes of it call together. */
FP4_D int fp4_ptx_any(uint32_t mask, int predicate)
{
    return __any_sync(mask, predicate);
}

/** Bit i: whether the predicate holds in lane i; all lanes of mask call together. */
FP4_D uint32_t fp4_ptx_ballot(uint32_t mask, int predicate)
{
    return __ballot_sync(mask, predicate);
}

/** A barrier for the 32 lanes of a warp: each sees what the others have written before it. */
FP4_D void fp4_ptx_warp_barrier(void)
{
    __syncwarp();
}

/** *p becomes the larger of *p and x, in one step; global memory. */
FP4_D void fp4_ptx_atomic_max(uint32_t *p, uint32_t x)
{
    atomicMax(p, x);
}

/** *p becomes *p + 1, or 0 where it was `last` or more, in one step; returns what it was. */
FP4_D uint32_t fp4_ptx_atomic_inc(uint32_t *p, uint32_t last)
{
    return atomicInc(p, last);
}

/** *p becomes *p | x, in one step. */
FP4_D void fp4_ptx_atomic_or(uint32_t *p, uint32_t x)
{
    atomicOr(p, x);
}

/** *p becomes x, in one step; returns what it was. */
FP4_D uint32_t fp4_ptx_atomic_exchange(uint32_t *p, uint32_t x)
{
    return atomicExch(p, x);
}

/** 64 bits at *p, whatever caches hold, in one step. Behind a fence after it comes what another
    thread has written in front of a fence and of *p. Global memory. */
FP4_D size_t fp4_ptx_load_relaxed_u64(const size_t *p)
{
    size_t x;
    asm volatile("ld.relaxed.gpu.u64 %0, [%1];" : "=l"(x) : "l"(p) : "memory");
    return x;
}

/** *p becomes x, in one step, for those that read it so. Global memory. */
FP4_D void fp4_ptx_store_relaxed_u64(size_t *p, size_t x)
{
    asm volatile("st.relaxed.gpu.u64 [%0], %1;" : : "l"(p), "l"(x) : "memory");
}

/** What this thread has written before is seen by all threads of the GPU before what it writes
    after. */
FP4_D void fp4_ptx_fence(void)
{
    __threadfence();
}

/** A barrier for all threads of the CTA. */
FP4_D void fp4_ptx_barrier(void)
{
    __syncthreads();
}

/** A barrier for a part of the CTA: so many threads, whole warps, which name it by a number of
    their own, 1 to 15. The others do not wait. */
FP4_D void fp4_ptx_barrier_of(uint32_t part, uint32_t threads)
{
    asm volatile("barrier.sync %0, %1;" : : "r"(part), "r"(threads) : "memory");
}

/**
 * Programmatic dependent launch: waits until the grids this one depends on have completed and their
 * writes are visible. Before the first access to what they write. Does nothing below sm_90, where
 * such launches do not exist, and in a grid launched without the attribute.
 */
FP4_D void fp4_pdl_wait(void)
{
#if FP4_ARCH_PDL
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/**
 * Programmatic dependent launch: lets dependent grids start once every CTA has called it or exited.
 * It promises nothing about this grid's writes: the dependent grid's own fp4_pdl_wait orders those.
 */
FP4_D void fp4_pdl_trigger(void)
{
#if FP4_ARCH_PDL
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

#endif /* FP4_DEVICE_PTX_CUH */

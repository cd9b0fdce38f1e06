/*
 * fp4/device/load.cuh - 8, 16 or 32 consecutive elements of a row from memory to an f32 fragment.
 *
 *     fp4_load_<type>x<count>(p)         f32, f16, bf16, e4m3; 8, 16, 32
 *     fp4_load_<type>x<count>_cs(p)      the same, global memory only, marked as read once (ld.cs)
 *
 * shape    p: aligned to 16 bytes, or to the size of the fragment in memory where that is less (8
 *          for e4m3x8). Consecutive threads reading consecutive fragments make full transactions.
 * range    exact: every value of these types is an f32. e4m3 values come without their tensor's
 *          scale.
 * threads  none needed.
 */
#ifndef FP4_DEVICE_LOAD_CUH
#define FP4_DEVICE_LOAD_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/ptx.cuh>
#include <fp4/f16.h>

/* ------------------------------------------------------------ registers to fragments */

/** Eight bf16, two to a word, the lower in the lower half. */
FP4_D fp4_f32x8 fp4_bf16x8_to_f32x8(fp4_u32x4 w)
{
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        x.v[2 * i] = fp4_bits_f32(w.v[i] << 16);
        x.v[2 * i + 1] = fp4_bits_f32(w.v[i] & 0xffff0000u);
    }
    return x;
}

/** Eight f16, two to a word, the lower in the lower half. */
FP4_D fp4_f32x8 fp4_f16x8_to_f32x8(fp4_u32x4 w)
{
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        fp4_f16x2_to_f32x2(w.v[i], &x.v[2 * i], &x.v[2 * i + 1]);
    }
    return x;
}

FP4_D fp4_f32x8 fp4_words_to_f32x8_(fp4_u32x4 a, fp4_u32x4 b)
{
    fp4_f32x8 x;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        x.v[i] = fp4_bits_f32(a.v[i]);
        x.v[4 + i] = fp4_bits_f32(b.v[i]);
    }
    return x;
}

FP4_D const uint8_t *fp4_at_(const void *p, size_t bytes)
{
    return (const uint8_t *)p + bytes;
}

/* ------------------------------------------------------------ plain loads */

FP4_D fp4_f32x8 fp4_load_f32x8(const void *p)
{
    return fp4_words_to_f32x8_(fp4_ptx_load16(p), fp4_ptx_load16(fp4_at_(p, 16)));
}

FP4_D fp4_f32x8 fp4_load_f16x8(const void *p)
{
    return fp4_f16x8_to_f32x8(fp4_ptx_load16(p));
}

FP4_D fp4_f32x8 fp4_load_bf16x8(const void *p)
{
    return fp4_bf16x8_to_f32x8(fp4_ptx_load16(p));
}

FP4_D fp4_f32x8 fp4_load_e4m3x8(const void *p)
{
    return fp4_e4m3x8_to_f32x8(fp4_ptx_load8(p));
}

FP4_D fp4_f32x16 fp4_load_f32x16(const void *p)
{
    return fp4_join_x8(fp4_load_f32x8(p), fp4_load_f32x8(fp4_at_(p, 32)));
}

FP4_D fp4_f32x16 fp4_load_f16x16(const void *p)
{
    return fp4_join_x8(fp4_load_f16x8(p), fp4_load_f16x8(fp4_at_(p, 16)));
}

FP4_D fp4_f32x16 fp4_load_bf16x16(const void *p)
{
    return fp4_join_x8(fp4_load_bf16x8(p), fp4_load_bf16x8(fp4_at_(p, 16)));
}

FP4_D fp4_f32x16 fp4_e4m3x16_to_f32x16_(fp4_u32x4 w)
{
    const fp4_u32x2 low = {{w.v[0], w.v[1]}}, high = {{w.v[2], w.v[3]}};
    return fp4_join_x8(fp4_e4m3x8_to_f32x8(low), fp4_e4m3x8_to_f32x8(high));
}

FP4_D fp4_f32x16 fp4_load_e4m3x16(const void *p)
{
    return fp4_e4m3x16_to_f32x16_(fp4_ptx_load16(p));
}

FP4_D fp4_f32x32 fp4_load_f32x32(const void *p)
{
    return fp4_join_x16(fp4_load_f32x16(p), fp4_load_f32x16(fp4_at_(p, 64)));
}

FP4_D fp4_f32x32 fp4_load_f16x32(const void *p)
{
    return fp4_join_x16(fp4_load_f16x16(p), fp4_load_f16x16(fp4_at_(p, 32)));
}

FP4_D fp4_f32x32 fp4_load_bf16x32(const void *p)
{
    return fp4_join_x16(fp4_load_bf16x16(p), fp4_load_bf16x16(fp4_at_(p, 32)));
}

FP4_D fp4_f32x32 fp4_load_e4m3x32(const void *p)
{
    return fp4_join_x16(fp4_load_e4m3x16(p), fp4_load_e4m3x16(fp4_at_(p, 16)));
}

/* ------------------------------------------------------------ read once */

FP4_D fp4_f32x8 fp4_load_f32x8_cs(const void *p)
{
    return fp4_words_to_f32x8_(fp4_ptx_load16_cs(p), fp4_ptx_load16_cs(fp4_at_(p, 16)));
}

FP4_D fp4_f32x8 fp4_load_f16x8_cs(const void *p)
{
    return fp4_f16x8_to_f32x8(fp4_ptx_load16_cs(p));
}

FP4_D fp4_f32x8 fp4_load_bf16x8_cs(const void *p)
{
    return fp4_bf16x8_to_f32x8(fp4_ptx_load16_cs(p));
}

FP4_D fp4_f32x8 fp4_load_e4m3x8_cs(const void *p)
{
    return fp4_e4m3x8_to_f32x8(fp4_ptx_load8_cs(p));
}

FP4_D fp4_f32x16 fp4_load_f32x16_cs(const void *p)
{
    return fp4_join_x8(fp4_load_f32x8_cs(p), fp4_load_f32x8_cs(fp4_at_(p, 32)));
}

FP4_D fp4_f32x16 fp4_load_f16x16_cs(const void *p)
{
    return fp4_join_x8(fp4_load_f16x8_cs(p), fp4_load_f16x8_cs(fp4_at_(p, 16)));
}

FP4_D fp4_f32x16 fp4_load_bf16x16_cs(const void *p)
{
    return fp4_join_x8(fp4_load_bf16x8_cs(p), fp4_load_bf16x8_cs(fp4_at_(p, 16)));
}

FP4_D fp4_f32x16 fp4_load_e4m3x16_cs(const void *p)
{
    return fp4_e4m3x16_to_f32x16_(fp4_ptx_load16_cs(p));
}

FP4_D fp4_f32x32 fp4_load_f32x32_cs(const void *p)
{
    return fp4_join_x16(fp4_load_f32x16_cs(p), fp4_load_f32x16_cs(fp4_at_(p, 64)));
}

FP4_D fp4_f32x32 fp4_load_f16x32_cs(const void *p)
{
    return fp4_join_x16(fp4_load_f16x16_cs(p), fp4_load_f16x16_cs(fp4_at_(p, 32)));
}

FP4_D fp4_f32x32 fp4_load_bf16x32_cs(const void *p)
{
    return fp4_join_x16(fp4_load_bf16x16_cs(p), fp4_load_bf16x16_cs(fp4_at_(p, 32)));
}

FP4_D fp4_f32x32 fp4_load_e4m3x32_cs(const void *p)
{
    return fp4_join_x16(fp4_load_e4m3x16_cs(p), fp4_load_e4m3x16_cs(fp4_at_(p, 16)));
}

#endif /* FP4_DEVICE_LOAD_CUH */

/*
 * fp4/device/load.cuh - 8, 16 or 32 consecutive elements of a row from memory to an f32 fragment.
 *
 *     fp4_load_<type>x<count>(p)         f32, f16, bf16, e4m3; 8, 16, 32
 *     fp4_load_<type>x<count>_cs(p)      the same, global memory only, marked as read once (ld.cs)
 *     fp4_load_u32x<count>(p)            the words as they are: 4 hold 16 e4m3, 8 hold 16 f16 or
 *     fp4_<type>x16_to_f32x16(w)         bf16, 16 hold 16 f32; and the fragment from them
 *
 * A kernel that loads several fragments before it works on the first keeps them as words: 16-bit
 * elements take half the registers of floats, e4m3 a quarter.
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

FP4_D fp4_u32x4 fp4_low_words_(fp4_u32x8 w)
{
    const fp4_u32x4 half = {{w.v[0], w.v[1], w.v[2], w.v[3]}};
    return half;
}

FP4_D fp4_u32x4 fp4_high_words_(fp4_u32x8 w)
{
    const fp4_u32x4 half = {{w.v[4], w.v[5], w.v[6], w.v[7]}};
    return half;
}

/** Sixteen bf16, two to a word. */
FP4_D fp4_f32x16 fp4_bf16x16_to_f32x16(fp4_u32x8 w)
{
    return fp4_join_x8(fp4_bf16x8_to_f32x8(fp4_low_words_(w)),
                       fp4_bf16x8_to_f32x8(fp4_high_words_(w)));
}

/** Sixteen f16, two to a word. */
FP4_D fp4_f32x16 fp4_f16x16_to_f32x16(fp4_u32x8 w)
{
    return fp4_join_x8(fp4_f16x8_to_f32x8(fp4_low_words_(w)),
                       fp4_f16x8_to_f32x8(fp4_high_words_(w)));
}

/** Sixteen e4m3, four to a word, without their tensor's scale. */
FP4_D fp4_f32x16 fp4_e4m3x16_to_f32x16(fp4_u32x4 w)
{
    const fp4_u32x2 low = {{w.v[0], w.v[1]}}, high = {{w.v[2], w.v[3]}};
    return fp4_join_x8(fp4_e4m3x8_to_f32x8(low), fp4_e4m3x8_to_f32x8(high));
}

/** Sixteen f32: the words themselves. */
FP4_D fp4_f32x16 fp4_f32x16_to_f32x16(fp4_u32x16 w)
{
    fp4_f32x16 x;
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_bits_f32(w.v[i]);
    }
    return x;
}

FP4_D fp4_u32x16 fp4_join_words_x8_(fp4_u32x8 a, fp4_u32x8 b)
{
    fp4_u32x16 w;
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        w.v[i] = a.v[i];
        w.v[8 + i] = b.v[i];
    }
    return w;
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

/**
 * Thirty-two 16-bit elements, the first sixteen in *even, the others in *odd, to those of even and
 * those of odd index.
 */
FP4_D void fp4_deinterleave_u16x16(fp4_u32x8 *even, fp4_u32x8 *odd)
{
    const fp4_u32x16 w = fp4_join_words_x8_(*even, *odd);
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        even->v[i] = fp4_ptx_bytes(w.v[2 * i], w.v[2 * i + 1], 0x5410u);
        odd->v[i] = fp4_ptx_bytes(w.v[2 * i], w.v[2 * i + 1], 0x7632u);
    }
}

/** The same of 32-bit elements. */
FP4_D void fp4_deinterleave_u32x16(fp4_u32x16 *even, fp4_u32x16 *odd)
{
    const fp4_u32x16 low = *even, high = *odd;
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        even->v[i] = low.v[2 * i];
        even->v[8 + i] = high.v[2 * i];
        odd->v[i] = low.v[2 * i + 1];
        odd->v[8 + i] = high.v[2 * i + 1];
    }
}

FP4_D const uint8_t *fp4_at_(const void *p, size_t bytes)
{
    return (const uint8_t *)p + bytes;
}

/* ------------------------------------------------------------ plain loads */

FP4_D fp4_u32x4 fp4_load_u32x4(const void *p)
{
    return fp4_ptx_load16(p);
}

FP4_D fp4_u32x8 fp4_load_u32x8(const void *p)
{
    return fp4_join_words_(fp4_ptx_load16(p), fp4_ptx_load16(fp4_at_(p, 16)));
}

FP4_D fp4_u32x16 fp4_load_u32x16(const void *p)
{
    return fp4_join_words_x8_(fp4_load_u32x8(p), fp4_load_u32x8(fp4_at_(p, 32)));
}

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
    return fp4_f16x16_to_f32x16(fp4_load_u32x8(p));
}

FP4_D fp4_f32x16 fp4_load_bf16x16(const void *p)
{
    return fp4_bf16x16_to_f32x16(fp4_load_u32x8(p));
}

FP4_D fp4_f32x16 fp4_load_e4m3x16(const void *p)
{
    return fp4_e4m3x16_to_f32x16(fp4_load_u32x4(p));
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

FP4_D fp4_u32x4 fp4_load_u32x4_cs(const void *p)
{
    return fp4_ptx_load16_cs(p);
}

FP4_D fp4_u32x8 fp4_load_u32x8_cs(const void *p)
{
    return fp4_join_words_(fp4_ptx_load16_cs(p), fp4_ptx_load16_cs(fp4_at_(p, 16)));
}

FP4_D fp4_u32x16 fp4_load_u32x16_cs(const void *p)
{
    return fp4_join_words_x8_(fp4_load_u32x8_cs(p), fp4_load_u32x8_cs(fp4_at_(p, 32)));
}

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
    return fp4_f16x16_to_f32x16(fp4_load_u32x8_cs(p));
}

FP4_D fp4_f32x16 fp4_load_bf16x16_cs(const void *p)
{
    return fp4_bf16x16_to_f32x16(fp4_load_u32x8_cs(p));
}

FP4_D fp4_f32x16 fp4_load_e4m3x16_cs(const void *p)
{
    return fp4_e4m3x16_to_f32x16(fp4_load_u32x4_cs(p));
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

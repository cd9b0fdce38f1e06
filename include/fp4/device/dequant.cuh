/*
 * fp4/device/dequant.cuh - codes and a scale byte back to f32 fragments.
 *
 *     function                              elements   x
 *     fp4_nvfp4_dequantize                  16         ( code * decode(sf) ) * global_dec
 *     fp4_nvfp4_dequantize_scales_first     16         code * ( decode(sf) * global_dec )
 *     fp4_mxfp4_dequantize                  32         code * decode(sf)
 *     fp4_mxfp4_dequantize_x16              16         the same of half a block
 *     fp4_mxfp8_dequantize                  32         code * decode(sf)
 *     fp4_mxfp8_dequantize_x16              16         the same of half a block
 *
 * packed, for matrix instructions:
 *
 *     fp4_nvfp4_to_f16x16, _to_bf16x16      16         code * decode(sf), without the global scale
 *     fp4_mxfp4_to_bf16x16                  16         code * decode(sf)
 *
 * and, for threads that have another part of a block than these, in two steps:
 *
 *     fp4_nvfp4_dec, fp4_mxfp4_dec                     a scale byte to factors
 *     fp4_e2m1x8_dequantize                  8         codes times factors
 *     fp4_e2m1x8_times_e4m3_to_units         8         code * decode(sf) in units (cvt.cuh), faster
 *     fp4_e4m3x8_dequantize                  8         code * dec
 *
 * shape    q: the codes as stored, eight e2m1 or four e4m3 a word, as fp4_ptx_load8(p).v or
 *          fp4_load_u32x4(p).v bring them; sf: their scale byte. Of
 *          NVFP4 with blocks of 32 the functions of 16 take halves; they know nothing of blocks.
 * range    each product is rounded to f32. A NaN scale byte (e4m3 0x7f, e8m0 255) gives NaNs, a
 *          zero code keeps its sign, as the host's fp4_ref_dequantize_to has it; but for the scales
 *          first where their product overflows: then zero codes are NaN, all others infinite
 *          (fp4_association in types.h).
 * threads  none needed.
 */
#ifndef FP4_DEVICE_DEQUANT_CUH
#define FP4_DEVICE_DEQUANT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/fragment.cuh>

/** What e2m1 codes are multiplied by, one after the other; only for fp4_e2m1x8_dequantize, which
    counts in units of its own. */
typedef struct fp4_dec {
    float first, second;
} fp4_dec;

/** The factors of any single scale. */
FP4_D fp4_dec fp4_dec_of(float scale)
{
    const fp4_dec dec = {fp4_e2m1_unit(), scale};
    return dec;
}

/** The factors of an NVFP4 block, for the order of the association. */
FP4_D fp4_dec fp4_nvfp4_dec(uint8_t sf, float global_dec, fp4_association association)
{
    const float scale = fp4_cvt_e4m3_to_f32(sf), unit = fp4_e2m1_unit();
    const int scales_first = association == FP4_SCALES_FIRST;

    /* scale * unit is exact: an e4m3 has few bits and a small exponent */
    const fp4_dec dec = {scales_first ? unit : fp4_mul_rn(scale, unit),
                         scales_first ? fp4_mul_rn(scale, global_dec) : global_dec};
    return dec;
}

/** The factors of an MXFP4 block. */
FP4_D fp4_dec fp4_mxfp4_dec(uint8_t sf)
{
    return fp4_dec_of(fp4_e8m0_to_f32(sf));
}

/** Eight e2m1 codes times their factors. */
FP4_D fp4_f32x8 fp4_e2m1x8_dequantize(uint32_t q, fp4_dec dec)
{
    return fp4_scale_x8(fp4_scale_x8(fp4_e2m1x8_to_units(q), dec.first), dec.second);
}

/** Eight e4m3 codes times their scale. */
FP4_D fp4_f32x8 fp4_e4m3x8_dequantize(fp4_u32x2 q, float dec)
{
    return fp4_scale_x8(fp4_e4m3x8_to_f32x8(q), dec);
}

FP4_D fp4_f32x16 fp4_e2m1x16_dequantize_(const uint32_t q[2], fp4_dec dec)
{
    return fp4_join_x8(fp4_e2m1x8_dequantize(q[0], dec), fp4_e2m1x8_dequantize(q[1], dec));
}

/** 16 elements of NVFP4, the code times its scale first. */
FP4_D fp4_f32x16 fp4_nvfp4_dequantize(const uint32_t q[2], uint8_t sf, float global_dec)
{
    return fp4_e2m1x16_dequantize_(q, fp4_nvfp4_dec(sf, global_dec, FP4_CODE_FIRST));
}

/* 16 codes times one scale. */
FP4_D fp4_f32x16 fp4_e2m1x16_times_(const uint32_t q[2], float scale)
{
    return fp4_scale_x16(fp4_join_x8(fp4_e2m1x8_to_f32x8(q[0]), fp4_e2m1x8_to_f32x8(q[1])), scale);
}

/** 16 elements of NVFP4, the scales times each other first. */
FP4_D fp4_f32x16 fp4_nvfp4_dequantize_scales_first(const uint32_t q[2], uint8_t sf,
                                                   float global_dec)
{
    return fp4_e2m1x16_times_(q, fp4_mul_rn(fp4_cvt_e4m3_to_f32(sf), global_dec));
}

/** 16 elements of MXFP4. */
FP4_D fp4_f32x16 fp4_mxfp4_dequantize_x16(const uint32_t q[2], uint8_t sf)
{
    return fp4_e2m1x16_times_(q, fp4_e8m0_to_f32(sf));
}

/** One MXFP4 block. */
FP4_D fp4_f32x32 fp4_mxfp4_dequantize(const uint32_t q[4], uint8_t sf)
{
    return fp4_join_x16(fp4_mxfp4_dequantize_x16(q, sf), fp4_mxfp4_dequantize_x16(q + 2, sf));
}

/** 16 elements of MXFP8. */
FP4_D fp4_f32x16 fp4_mxfp8_dequantize_x16(const uint32_t q[4], uint8_t sf)
{
    const fp4_u32x2 low = {{q[0], q[1]}}, high = {{q[2], q[3]}};
    const float dec = fp4_e8m0_to_f32(sf);

    return fp4_join_x8(fp4_e4m3x8_dequantize(low, dec), fp4_e4m3x8_dequantize(high, dec));
}

/** One MXFP8 block. */
FP4_D fp4_f32x32 fp4_mxfp8_dequantize(const uint32_t q[8], uint8_t sf)
{
    return fp4_join_x16(fp4_mxfp8_dequantize_x16(q, sf), fp4_mxfp8_dequantize_x16(q + 4, sf));
}

/* ------------------------------------------------------------ packed */

/* Eight bf16 times a scale that is a bf16, where the products are too. */
FP4_D fp4_u32x4 fp4_scale_bf16x8_(fp4_u32x4 w, float scale)
{
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
#if FP4_ARCH_BF16X2
        w.v[i] = fp4_ptx_mul_bf16x2(w.v[i], (fp4_f32_bits(scale) >> 16) * 0x10001u);
#else
        const float low = fp4_mul_rn(fp4_bits_f32(w.v[i] << 16), scale);
        const float high = fp4_mul_rn(fp4_bits_f32(w.v[i] & 0xffff0000u), scale);
        w.v[i] = fp4_ptx_bytes(fp4_f32_bits(low), fp4_f32_bits(high), 0x7632u);
#endif
    }
    return w;
}

/**
 * 16 elements of NVFP4 but for the global scale, code * decode(sf), two f16 to a word, the lower
 * element in the lower half. Exact: no product has more than six bits. The global scale is for the
 * accumulators, with whatever else they are multiplied by.
 */
FP4_D fp4_u32x8 fp4_nvfp4_to_f16x16(const uint32_t q[2], uint8_t sf)
{
    const uint32_t by = fp4_e4m3_to_two_f16_(sf);
    return fp4_join_words_(fp4_scale_halves_(fp4_e2m1x8_to_f16x8(q[0]), by),
                           fp4_scale_halves_(fp4_e2m1x8_to_f16x8(q[1]), by));
}

/** The same in bf16. */
FP4_D fp4_u32x8 fp4_nvfp4_to_bf16x16(const uint32_t q[2], uint8_t sf)
{
    const float scale = fp4_cvt_e4m3_to_f32(sf);
    return fp4_join_words_(fp4_scale_bf16x8_(fp4_e2m1x8_to_bf16x8(q[0]), scale),
                           fp4_scale_bf16x8_(fp4_e2m1x8_to_bf16x8(q[1]), scale));
}

/** 16 elements of MXFP4 in the same way, in bf16: what fp4_mxfp4_dequantize_x16 gives, which a bf16
    has. (Most scales are out of the range of f16.) Under -ftz=true sm_75 flushes what is subnormal,
    of scale bytes 0 and 1; later targets do not. */
FP4_D fp4_u32x8 fp4_mxfp4_to_bf16x16(const uint32_t q[2], uint8_t sf)
{
    const float scale = fp4_e8m0_to_f32(sf);
    return fp4_join_words_(fp4_scale_bf16x8_(fp4_e2m1x8_to_bf16x8(q[0]), scale),
                           fp4_scale_bf16x8_(fp4_e2m1x8_to_bf16x8(q[1]), scale));
}

#endif /* FP4_DEVICE_DEQUANT_CUH */

/*
 * fp4/device/dequant.cuh - codes and a scale byte back to f32 fragments.
 *
 *     x = ( code * decode(sf) ) * global_dec, each product rounded, in this order (MX: without the
 *     last)
 *
 * range    a NaN scale byte (e4m3 0x7f, e8m0 255) gives NaNs. Exact wherever the products are.
 * threads  none needed.
 */
#ifndef FP4_DEVICE_DEQUANT_CUH
#define FP4_DEVICE_DEQUANT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/fragment.cuh>

/** One NVFP4 block: q, 16 codes in two words, as stored; sf, its e4m3 scale byte. */
FP4_D fp4_f32x16 fp4_nvfp4_dequantize(const uint32_t q[2], uint8_t sf, float global_dec)
{
    const float scale = fp4_cvt_e4m3_to_f32(sf);
    const fp4_f32x8 low = fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[0]), scale);
    const fp4_f32x8 high = fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[1]), scale);

    return fp4_join_x8(fp4_scale_x8(low, global_dec), fp4_scale_x8(high, global_dec));
}

/** One MXFP4 block: q, 32 codes in four words, as stored; sf, its e8m0 scale byte. */
FP4_D fp4_f32x32 fp4_mxfp4_dequantize(const uint32_t q[4], uint8_t sf)
{
    const float scale = fp4_e8m0_to_f32(sf);

    return fp4_join_x16(fp4_join_x8(fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[0]), scale),
                                    fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[1]), scale)),
                        fp4_join_x8(fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[2]), scale),
                                    fp4_scale_x8(fp4_e2m1x8_to_f32x8(q[3]), scale)));
}

/* Eight e4m3 codes in two words, times scale. */
FP4_D fp4_f32x8 fp4_mxfp8_dequantize_x8_(uint32_t q0, uint32_t q1, float scale)
{
    const fp4_u32x2 q = {{q0, q1}};
    return fp4_scale_x8(fp4_e4m3x8_to_f32x8(q), scale);
}

/** One MXFP8 block: q, 32 codes in eight words, as stored; sf, its e8m0 scale byte. */
FP4_D fp4_f32x32 fp4_mxfp8_dequantize(const uint32_t q[8], uint8_t sf)
{
    const float scale = fp4_e8m0_to_f32(sf);

    return fp4_join_x16(fp4_join_x8(fp4_mxfp8_dequantize_x8_(q[0], q[1], scale),
                                    fp4_mxfp8_dequantize_x8_(q[2], q[3], scale)),
                        fp4_join_x8(fp4_mxfp8_dequantize_x8_(q[4], q[5], scale),
                                    fp4_mxfp8_dequantize_x8_(q[6], q[7], scale)));
}

#endif /* FP4_DEVICE_DEQUANT_CUH */

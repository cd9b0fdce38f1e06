/*
 * fp4/device/quant.cuh - blocks from registers to codes and a scale byte.
 *
 *     function                  elements a thread   lanes that share a block   returns
 *     fp4_nvfp4_quantize        16                  1                          fp4_nvfp4_block
 *     fp4_nvfp4_quantize_x8      8                  2                          fp4_part1
 *     fp4_nvfp4_quantize_x4      4                  4                          fp4_part1
 *     fp4_mxfp4_quantize        32                  1                          fp4_mxfp4_block
 *     fp4_mxfp4_quantize_x16    16                  2                          fp4_part2
 *     fp4_mxfp4_quantize_x8      8                  4                          fp4_part1
 *     fp4_mxfp8_quantize        32                  1                          fp4_mxfp8_block
 *     fp4_mxfp8_quantize_x16    16                  2                          fp4_part4
 *     fp4_mxfp8_quantize_x8      8                  4                          fp4_part2
 *     fp4_nvfp4_quantize_sr     16                  1                          fp4_nvfp4_block
 *     fp4_mxfp4_quantize_sr_x16 16                  2                          fp4_part2
 *
 * (the last two round stochastically) and, for fused kernels that end in a factor common to the
 * row, such as RMSNorm,
 *
 *     fp4_nvfp4_quantize_scaled, fp4_mxfp4_quantize_scaled, fp4_mxfp8_quantize_scaled
 *     fp4_nvfp4_quantize_scaled_x8, ..._x4, fp4_mxfp4_quantize_scaled_x16, ..._x8, fp4_mxfp8_...
 *
 * which quantize t * mul without forming it: the scale is that of amax(t) * |mul|, and the elements
 * are encoded from t * (mul * enc), FLT_MAX at most, one rounding fewer than the long way. On the
 * host they are fp4_ref_nvfp4_quantize_scaled and its like (host/quant.h).
 *
 * What all of them share:
 *
 * shape    the elements of a block, in the order in which their codes come back: consecutive ones
 *          of a row, where codes are stored as they come. Where lanes share a block, neighbouring
 *          lanes, the group aligned to its size. (The order changes no scale and no code: four
 *          lanes may have a block as matrix instructions leave it, see mma.cuh.)
 * range    as the rules in scale.h say. NaN elements do not enter the amax and encode as +6 (e4m3:
 *          0x7f); infinities encode as +-6 (e4m3: +-448) with the largest scale.
 * rounding nearest, ties to even, every operation: the bytes are the host reference's, on every
 *          target, whatever the compiler's flags (but -ftz=true flushes subnormals: scale.h).
 * where    a scale byte belongs in a buffer: fp4_sf_offset_* of layout.h, which store.cuh brings.
 * threads  one lane to a block: none needed. Lanes that share one: all 32 lanes of the warp call.
 * source   the recipes are those of scale.h; tests/gpu/test_blocks.c compares all of them.
 *
 * How they are fast without FP4 hardware: the cheap conversion of cvt.cuh needs every |x * enc| < 7
 * and no NaN. Both follow from one comparison on the block, amax * enc < 7, with an amax that is
 * NaN where an element is: rounding never reorders, so no product of an element exceeds that of the
 * amax. A block that fails it (NaN, infinity, a scale that saturated or underflowed) takes a
 * careful path of its own. (Mending the elements and going on together costs more: it would keep
 * all of them in registers as f32 across the branch.) With FP4 hardware the careful path is the
 * only one: the instructions take any value.
 */
#ifndef FP4_DEVICE_QUANT_CUH
#define FP4_DEVICE_QUANT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/fragment.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/scale.h>

/* ------------------------------------------------------------ encode: times a factor, convert */

/** Eight elements of a block to e2m1 codes, enc the block's factor. Any x. */
FP4_D uint32_t fp4_encode_e2m1x8(fp4_f32x8 x, float enc)
{
    return fp4_f32x8_to_e2m1x8(fp4_scale_x8(x, enc));
}

/** The same where every |x * enc| < 7 and no x is NaN. */
FP4_D uint32_t fp4_encode_e2m1x8_below_7(fp4_f32x8 x, float enc)
{
    return fp4_f32x8_to_e2m1x8_below_7(fp4_scale_x8(x, enc));
}

/* The same; is_power, a constant: enc is a power of two, far from all bounds. */
FP4_D uint32_t fp4_encode_fast_x8_(fp4_f32x8 x, float enc, int is_power)
{
    return is_power ? fp4_f32x8_times_power_to_e2m1x8_below_7(x, enc)
                    : fp4_encode_e2m1x8_below_7(x, enc);
}

/** Eight elements of a block to e4m3 codes, enc the block's factor. Any x. */
FP4_D fp4_u32x2 fp4_encode_e4m3x8(fp4_f32x8 x, float enc)
{
    return fp4_f32x8_to_e4m3x8(fp4_scale_x8(x, enc));
}

/* a * mul, or a itself where the caller is not a _scaled function; `scaled` is a constant. */
FP4_D float fp4_times_(float a, float mul, int scaled)
{
    return scaled ? fp4_mul_rn(a, mul) : a;
}

/* The amax of t * mul from that of t, which is NaN where an element is; and NaN where mul is. */
FP4_D float fp4_amax_or_nan_times_(float amax, float mul, int scaled)
{
    return fp4_times_(amax, fp4_ptx_abs(mul), scaled);
}

/* The same, but no NaN enters it, and where mul is NaN they all are. */
FP4_D float fp4_amax_times_(float amax, float mul, int scaled)
{
    const float product = fp4_amax_or_nan_times_(amax, mul, scaled);
    return scaled && fp4_is_nan(product) ? 0.0f : product;
}

/* The factor from t to codes, with the sign of mul; NaN where that is. */
FP4_D float fp4_enc_times_(float enc, float mul, int scaled)
{
    const float both = fp4_times_(enc, mul, scaled);
    const float most = mul < 0.0f ? -FP4_F32_MAX : FP4_F32_MAX;
    return scaled && fp4_ptx_abs(both) > FP4_F32_MAX ? most : both;
}

/* The cheap conversion to e2m1 cannot take the block: some |x * enc| >= 7, or NaN. Instructions
   take anything, so where they convert the careful path is the only one. */
FP4_D int fp4_needs_care_(float amax_or_nan, float enc)
{
    return FP4_ARCH_CVT_E2M1 || !(fp4_mul_rn(amax_or_nan, enc) < 7.0f);
}

/* The same of the factor of a _scaled function, which may be negative. */
FP4_D int fp4_scaled_needs_care_(float amax_or_nan, float enc, int scaled)
{
    return fp4_needs_care_(amax_or_nan, scaled ? fp4_ptx_abs(enc) : enc);
}

/* The same of a lane's part of a block, before the amax of the others is known. */
FP4_D int fp4_part_needs_care_(float amax_or_nan)
{
    return FP4_ARCH_CVT_E2M1 || fp4_is_nan(amax_or_nan);
}

/* ------------------------------------------------------------ NVFP4 */

/* 1 / x to nearest even for 2^-126 <= |x| <= 2^126; NaN for zero. One Newton step on the hardware's
   approximation rounds correctly there: the GPU tests compare it with __frcp_rn on all these
   floats. */
FP4_D float fp4_rcp_newton_(float x)
{
    const float r = fp4_ptx_rcp_approx(x);
    return fp4_fma_rn(r, fp4_fma_rn(-x, r, 1.0f), r);
}

/* 2^-64 <= x < 2^64: then a global_enc x, its reciprocal, and that times any e4m3 but 0 are in the
   range of fp4_rcp_newton_. (For 0 its NaN becomes FLT_MAX in fp4_min, as infinity would.) */
FP4_D int fp4_is_moderate_(float x)
{
    return fp4_f32_bits(x) - 0x1f800000u < 0x40000000u;
}

/* fp4_nvfp4_scale for a moderate global_enc, with the target's own e4m3 conversion. That saturates,
   so the product needs no bound of its own. */
FP4_D fp4_scale fp4_nvfp4_scale_moderate_(float amax, float global_enc)
{
    const float global_dec = fp4_rcp_newton_(global_enc);
    const float max_reciprocal = fp4_mul_rn(global_enc, FP4_E2M1_MAX_RECIPROCAL);
    const uint16_t sf = fp4_f32x2_to_e4m3x2(fp4_mul_rn(amax, max_reciprocal), 0.0f);
    const float dec = fp4_mul_rn(fp4_low_e4m3_to_f32_(sf), global_dec);
    const fp4_scale scale = {(uint8_t)sf, fp4_min(fp4_rcp_newton_(dec), FP4_F32_MAX)};
    return scale;
}

/* fp4_nvfp4_scale for any global_enc, with the target's own e4m3 conversion. */
FP4_D fp4_scale fp4_nvfp4_scale_device_(float amax, float global_enc)
{
    const float global_dec = fp4_rcp_rn(global_enc);
    const uint16_t sf = fp4_f32x2_to_e4m3x2(fp4_nvfp4_scale_f32(amax, global_enc), 0.0f);
    const float dec = fp4_mul_rn(fp4_low_e4m3_to_f32_(sf), global_dec);
    const fp4_scale scale = {(uint8_t)sf, fp4_min(fp4_rcp_rn(dec), FP4_F32_MAX)};
    return scale;
}

/** fp4_nvfp4_scale with the target's own conversions. */
FP4_D fp4_scale fp4_cvt_nvfp4_scale(float amax, float global_enc)
{
    return fp4_is_moderate_(global_enc) ? fp4_nvfp4_scale_moderate_(amax, global_enc)
                                        : fp4_nvfp4_scale_device_(amax, global_enc);
}

/* Any block, any global_enc. Where every block comes here, most have a moderate global_enc. */
FP4_D fp4_nvfp4_block fp4_nvfp4_careful_(fp4_f32x16 t, float mul, int scaled, float global_enc)
{
    const float amax = fp4_amax_times_(fp4_amax_x16(t), mul, scaled);
    const fp4_scale scale = FP4_ARCH_CVT_E2M1 ? fp4_cvt_nvfp4_scale(amax, global_enc)
                                              : fp4_nvfp4_scale_device_(amax, global_enc);
    const float enc = fp4_enc_times_(scale.enc, mul, scaled);
    const fp4_nvfp4_block block = {
        {fp4_encode_e2m1x8(fp4_low_x8(t), enc), fp4_encode_e2m1x8(fp4_high_x8(t), enc)},
        scale.bits};
    return block;
}

FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_(fp4_f32x16 t, float mul, int scaled, float global_enc)
{
    const float amax = fp4_amax_or_nan_x16(t);
    const fp4_scale scale =
        fp4_nvfp4_scale_moderate_(fp4_amax_or_nan_times_(amax, mul, scaled), global_enc);
    const float enc = fp4_enc_times_(scale.enc, mul, scaled);
    fp4_nvfp4_block block;

    if (fp4_scaled_needs_care_(amax, enc, scaled) || !fp4_is_moderate_(global_enc)) {
        return fp4_nvfp4_careful_(t, mul, scaled, global_enc);
    }
    block.q[0] = fp4_encode_e2m1x8_below_7(fp4_low_x8(t), enc);
    block.q[1] = fp4_encode_e2m1x8_below_7(fp4_high_x8(t), enc);
    block.sf = scale.bits;
    return block;
}

/**
 * Quantize one NVFP4 block held by the calling thread.
 *
 *     sf   = e4m3( amax * (global_enc * (1/6)) )       enc = 1 / ( decode(sf) * (1/global_enc) )
 *     code = e2m1( x * enc )                           x ~ ( code * decode(sf) ) * (1/global_enc)
 *
 * shape    x: 16 consecutive elements of a row.
 * range    global_enc: positive and finite, 2688/amax of the tensor uses all of sf's range
 *          (fp4_nvfp4_global_enc). Anything else gives unspecified codes.
 * cost     with the load of 16 bf16 and all stores 136 instructions on sm_90, 78 on sm_100a; less
 *          where blocks share a global_enc.
 */
FP4_D fp4_nvfp4_block fp4_nvfp4_quantize(fp4_f32x16 x, float global_enc)
{
    return fp4_nvfp4_quantize_(x, 1.0f, 0, global_enc);
}

/** Quantize the NVFP4 block t * mul; mul finite, or NaN. */
FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_scaled(fp4_f32x16 t, float mul, float global_enc)
{
    return fp4_nvfp4_quantize_(t, mul, 1, global_enc);
}

FP4_D fp4_part1 fp4_nvfp4_quantize_x8_(fp4_f32x8 t, int lanes, float mul, int scaled,
                                       float global_enc)
{
    float amax = fp4_amax_or_nan_x8(t), enc;
    const int care = fp4_part_needs_care_(amax);
    fp4_scale scale;
    fp4_part1 part;

    amax = care ? fp4_amax_x8(t) : amax;
    amax = fp4_group_max(amax, lanes);
    scale = fp4_cvt_nvfp4_scale(fp4_amax_times_(amax, mul, scaled), global_enc);
    enc = fp4_enc_times_(scale.enc, mul, scaled);
    part.q[0] = care || fp4_scaled_needs_care_(amax, enc, scaled)
                    ? fp4_encode_e2m1x8(t, enc)
                    : fp4_encode_e2m1x8_below_7(t, enc);
    part.sf = scale.bits;
    return part;
}

/** Quantize an NVFP4 block shared by 2 lanes: 8 elements, one word of codes each. */
FP4_D fp4_part1 fp4_nvfp4_quantize_x8(fp4_f32x8 x, float global_enc)
{
    return fp4_nvfp4_quantize_x8_(x, 2, 1.0f, 0, global_enc);
}

/** The same of t * mul; mul finite, or NaN, the same in both lanes. */
FP4_D fp4_part1 fp4_nvfp4_quantize_scaled_x8(fp4_f32x8 t, float mul, float global_enc)
{
    return fp4_nvfp4_quantize_x8_(t, 2, mul, 1, global_enc);
}

FP4_D fp4_part1 fp4_nvfp4_quantize_x4_(fp4_f32x4 t, float mul, int scaled, float global_enc)
{
    const fp4_f32x8 wide = {{t.v[0], t.v[1], t.v[2], t.v[3], 0.0f, 0.0f, 0.0f, 0.0f}};
    fp4_part1 part = fp4_nvfp4_quantize_x8_(wide, 4, mul, scaled, global_enc);

    part.q[0] &= 0xffffu;
    return part;
}

/** Quantize an NVFP4 block shared by 4 lanes: 4 elements each, their codes in q[0] bits 0..15. */
FP4_D fp4_part1 fp4_nvfp4_quantize_x4(fp4_f32x4 x, float global_enc)
{
    return fp4_nvfp4_quantize_x4_(x, 1.0f, 0, global_enc);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_part1 fp4_nvfp4_quantize_scaled_x4(fp4_f32x4 t, float mul, float global_enc)
{
    return fp4_nvfp4_quantize_x4_(t, mul, 1, global_enc);
}

/* ------------------------------------------------------------ MXFP4 */

/** fp4_mxfp4_scale with the target's own conversion. */
FP4_D fp4_scale fp4_cvt_mxfp4_scale(float amax)
{
    return fp4_scale_from_e8m0_(fp4_cvt_f32_to_e8m0_up(fp4_mxfp4_scale_f32(amax)));
}

/** fp4_mxfp8_scale with the target's own conversion. */
FP4_D fp4_scale fp4_cvt_mxfp8_scale(float amax)
{
    return fp4_scale_from_e8m0_(fp4_cvt_f32_to_e8m0_up(fp4_mxfp8_scale_f32(amax)));
}

/* Whether the cheap conversion cannot take an MXFP4 block. One that is not scaled is encoded by a
   power of two, which is at most 6 / amax and more than half of that: of an amax far from all
   bounds it is in range, and no product is 7; of 0 it is 2^127, and zeros stay zeros. */
FP4_D int fp4_mxfp4_needs_care_(float amax_or_nan, float enc, int scaled)
{
    const int is_moderate = fp4_f32_bits(amax_or_nan) - (31u << 23) < 192u << 23; /* 2^-96, 2^96 */

    return scaled ? fp4_scaled_needs_care_(amax_or_nan, enc, 1)
                  : FP4_ARCH_CVT_E2M1 || !(is_moderate || amax_or_nan == 0.0f);
}

FP4_D fp4_mxfp4_block fp4_mxfp4_careful_(fp4_f32x32 t, float mul, int scaled)
{
    const fp4_scale scale = fp4_cvt_mxfp4_scale(fp4_amax_times_(fp4_amax_x32(t), mul, scaled));
    const float enc = fp4_enc_times_(scale.enc, mul, scaled);
    const fp4_mxfp4_block block = {{fp4_encode_e2m1x8(fp4_low_x8(fp4_low_x16(t)), enc),
                                    fp4_encode_e2m1x8(fp4_high_x8(fp4_low_x16(t)), enc),
                                    fp4_encode_e2m1x8(fp4_low_x8(fp4_high_x16(t)), enc),
                                    fp4_encode_e2m1x8(fp4_high_x8(fp4_high_x16(t)), enc)},
                                   scale.bits};
    return block;
}

FP4_D fp4_mxfp4_block fp4_mxfp4_quantize_(fp4_f32x32 t, float mul, int scaled)
{
    const float amax = fp4_amax_or_nan_x32(t);
    const fp4_scale scale = fp4_cvt_mxfp4_scale(fp4_amax_or_nan_times_(amax, mul, scaled));
    const float enc = fp4_enc_times_(scale.enc, mul, scaled);
    fp4_mxfp4_block block;

    if (fp4_mxfp4_needs_care_(amax, enc, scaled)) {
        return fp4_mxfp4_careful_(t, mul, scaled);
    }
    block.q[0] = fp4_encode_fast_x8_(fp4_low_x8(fp4_low_x16(t)), enc, !scaled);
    block.q[1] = fp4_encode_fast_x8_(fp4_high_x8(fp4_low_x16(t)), enc, !scaled);
    block.q[2] = fp4_encode_fast_x8_(fp4_low_x8(fp4_high_x16(t)), enc, !scaled);
    block.q[3] = fp4_encode_fast_x8_(fp4_high_x8(fp4_high_x16(t)), enc, !scaled);
    block.sf = scale.bits;
    return block;
}

/**
 * Quantize one MXFP4 block held by the calling thread.
 *
 *     sf = e8m0_up( amax * (1/6) )       code = e2m1( x * 2^(127-sf) )       x ~ code * 2^(sf-127)
 *
 * shape    x: 32 consecutive elements of a row.
 */
FP4_D fp4_mxfp4_block fp4_mxfp4_quantize(fp4_f32x32 x)
{
    return fp4_mxfp4_quantize_(x, 1.0f, 0);
}

/** Quantize the MXFP4 block t * mul; mul finite, or NaN. */
FP4_D fp4_mxfp4_block fp4_mxfp4_quantize_scaled(fp4_f32x32 t, float mul)
{
    return fp4_mxfp4_quantize_(t, mul, 1);
}

/* Sixteen elements of a block with its scale byte: |t * enc| < 7, no NaN. */
FP4_D fp4_part2 fp4_encode_fast_x16_(fp4_f32x16 t, fp4_scale scale, int is_power)
{
    const fp4_part2 part = {{fp4_encode_fast_x8_(fp4_low_x8(t), scale.enc, is_power),
                             fp4_encode_fast_x8_(fp4_high_x8(t), scale.enc, is_power)},
                            scale.bits};
    return part;
}

/* The same of any t. */
FP4_D fp4_part2 fp4_encode_any_(fp4_f32x16 t, fp4_scale scale)
{
    const fp4_part2 part = {
        {fp4_encode_e2m1x8(fp4_low_x8(t), scale.enc), fp4_encode_e2m1x8(fp4_high_x8(t), scale.enc)},
        scale.bits};
    return part;
}

FP4_D fp4_part4 fp4_encode_e4m3_(fp4_f32x16 t, fp4_scale scale)
{
    const fp4_u32x2 low = fp4_encode_e4m3x8(fp4_low_x8(t), scale.enc);
    const fp4_u32x2 high = fp4_encode_e4m3x8(fp4_high_x8(t), scale.enc);
    const fp4_part4 part = {{low.v[0], low.v[1], high.v[0], high.v[1]}, scale.bits};
    return part;
}

FP4_D fp4_part2 fp4_mxfp4_quantize_x16_(fp4_f32x16 t, float mul, int scaled)
{
    float amax = fp4_amax_or_nan_x16(t);
    const int care = fp4_part_needs_care_(amax);
    fp4_scale scale;

    amax = care ? fp4_amax_x16(t) : amax;
    amax = fp4_group_max(amax, 2);
    scale = fp4_cvt_mxfp4_scale(fp4_amax_times_(amax, mul, scaled));
    scale.enc = fp4_enc_times_(scale.enc, mul, scaled);
    return care || fp4_mxfp4_needs_care_(amax, scale.enc, scaled)
               ? fp4_encode_any_(t, scale)
               : fp4_encode_fast_x16_(t, scale, !scaled);
}

/** Quantize an MXFP4 block shared by 2 lanes: 16 elements, two words of codes each. */
FP4_D fp4_part2 fp4_mxfp4_quantize_x16(fp4_f32x16 x)
{
    return fp4_mxfp4_quantize_x16_(x, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in both lanes. */
FP4_D fp4_part2 fp4_mxfp4_quantize_scaled_x16(fp4_f32x16 t, float mul)
{
    return fp4_mxfp4_quantize_x16_(t, mul, 1);
}

FP4_D fp4_part1 fp4_mxfp4_quantize_x8_(fp4_f32x8 t, float mul, int scaled)
{
    float amax = fp4_amax_or_nan_x8(t), enc;
    const int care = fp4_part_needs_care_(amax);
    fp4_scale scale;
    fp4_part1 part;

    amax = care ? fp4_amax_x8(t) : amax;
    amax = fp4_group_max(amax, 4);
    scale = fp4_cvt_mxfp4_scale(fp4_amax_times_(amax, mul, scaled));
    enc = fp4_enc_times_(scale.enc, mul, scaled);
    part.q[0] = care || fp4_mxfp4_needs_care_(amax, enc, scaled)
                    ? fp4_encode_e2m1x8(t, enc)
                    : fp4_encode_fast_x8_(t, enc, !scaled);
    part.sf = scale.bits;
    return part;
}

/** Quantize an MXFP4 block shared by 4 lanes: 8 elements, one word of codes each. */
FP4_D fp4_part1 fp4_mxfp4_quantize_x8(fp4_f32x8 x)
{
    return fp4_mxfp4_quantize_x8_(x, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_part1 fp4_mxfp4_quantize_scaled_x8(fp4_f32x8 t, float mul)
{
    return fp4_mxfp4_quantize_x8_(t, mul, 1);
}

/* ------------------------------------------------------------ MXFP8 */

FP4_D fp4_mxfp8_block fp4_mxfp8_quantize_(fp4_f32x32 t, float mul, int scaled)
{
    const fp4_scale scale = fp4_cvt_mxfp8_scale(fp4_amax_times_(fp4_amax_x32(t), mul, scaled));
    const float enc = fp4_enc_times_(scale.enc, mul, scaled);
    const fp4_u32x2 q0 = fp4_encode_e4m3x8(fp4_low_x8(fp4_low_x16(t)), enc);
    const fp4_u32x2 q1 = fp4_encode_e4m3x8(fp4_high_x8(fp4_low_x16(t)), enc);
    const fp4_u32x2 q2 = fp4_encode_e4m3x8(fp4_low_x8(fp4_high_x16(t)), enc);
    const fp4_u32x2 q3 = fp4_encode_e4m3x8(fp4_high_x8(fp4_high_x16(t)), enc);
    const fp4_mxfp8_block block = {
        {q0.v[0], q0.v[1], q1.v[0], q1.v[1], q2.v[0], q2.v[1], q3.v[0], q3.v[1]}, scale.bits};
    return block;
}

/**
 * Quantize one MXFP8 block held by the calling thread.
 *
 *     sf = e8m0_up( amax * (1/448) )     code = e4m3( x * 2^(127-sf) )     x ~ code * 2^(sf-127)
 *
 * shape    x: 32 consecutive elements of a row.
 */
FP4_D fp4_mxfp8_block fp4_mxfp8_quantize(fp4_f32x32 x)
{
    return fp4_mxfp8_quantize_(x, 1.0f, 0);
}

/** Quantize the MXFP8 block t * mul; mul finite, or NaN. */
FP4_D fp4_mxfp8_block fp4_mxfp8_quantize_scaled(fp4_f32x32 t, float mul)
{
    return fp4_mxfp8_quantize_(t, mul, 1);
}

FP4_D fp4_part4 fp4_mxfp8_quantize_x16_(fp4_f32x16 t, float mul, int scaled)
{
    const float amax = fp4_group_max(fp4_amax_x16(t), 2);
    fp4_scale scale = fp4_cvt_mxfp8_scale(fp4_amax_times_(amax, mul, scaled));

    scale.enc = fp4_enc_times_(scale.enc, mul, scaled);
    return fp4_encode_e4m3_(t, scale);
}

/** Quantize an MXFP8 block shared by 2 lanes: 16 elements, four words of codes each. */
FP4_D fp4_part4 fp4_mxfp8_quantize_x16(fp4_f32x16 x)
{
    return fp4_mxfp8_quantize_x16_(x, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in both lanes. */
FP4_D fp4_part4 fp4_mxfp8_quantize_scaled_x16(fp4_f32x16 t, float mul)
{
    return fp4_mxfp8_quantize_x16_(t, mul, 1);
}

FP4_D fp4_part2 fp4_mxfp8_quantize_x8_(fp4_f32x8 t, float mul, int scaled)
{
    const float amax = fp4_group_max(fp4_amax_x8(t), 4);
    const fp4_scale scale = fp4_cvt_mxfp8_scale(fp4_amax_times_(amax, mul, scaled));
    const fp4_u32x2 q = fp4_encode_e4m3x8(t, fp4_enc_times_(scale.enc, mul, scaled));
    const fp4_part2 part = {{q.v[0], q.v[1]}, scale.bits};
    return part;
}

/** Quantize an MXFP8 block shared by 4 lanes: 8 elements, two words of codes each. */
FP4_D fp4_part2 fp4_mxfp8_quantize_x8(fp4_f32x8 x)
{
    return fp4_mxfp8_quantize_x8_(x, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_part2 fp4_mxfp8_quantize_scaled_x8(fp4_f32x8 t, float mul)
{
    return fp4_mxfp8_quantize_x8_(t, mul, 1);
}

/* ------------------------------------------------------------ the amax known in advance */

/*
 * For kernels that work on whole rows. They know the amax of a block of t early, and late what the
 * row says: its global_enc; of the _scaled functions also the factor mul common to its elements:
 * what they quantize is t * mul. 16 elements a thread, blocks of 16 or 32:
 *
 *     amax  = fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), lanes)     lanes: 1 or 2 share a block
 *     p     = fp4_nvfp4_quantize_known_x16(t, amax, global_enc, &care)
 *
 * and where any lane of the warp was left with care != 0, once more and without the amax:
 *
 *     if (fp4_ptx_any(0xffffffffu, care))
 *         p = fp4_nvfp4_quantize_any_x16(t, lanes, global_enc)
 *
 * Two functions, and not a branch in one, so that the second may stand once in a kernel, in a loop
 * that is not unrolled, instead of once for each piece that a thread keeps in registers.
 *
 * range    mul: not negative. NaN or infinity in t: as everywhere. mul NaN, and elements whose
 *          product with it is NaN (infinity times 0): NaN elements.
 * threads  known: none. any: where lanes is 2 all 32 lanes of the warp call.
 */

/* Whether known cannot take the block. Conversions without instructions need every
   |t * (mul * enc)| < 7 and no NaN. That product and (amax * mul) * enc lie within four roundings
   of each other, and the latter is NaN where anything is; what a scale byte that fits leaves is
   under 6.4. */
FP4_D int fp4_known_needs_care_(float amax_times_mul, float enc)
{
    return FP4_ARCH_CVT_E2M1 ? fp4_is_nan(amax_times_mul)
                             : !(fp4_mul_rn(amax_times_mul, enc) < 6.99f);
}

/* fp4_enc_times_ where mul is not negative: a comparison fewer, whose register in kernels that keep
   whole rows is that of a word that spills then. */
FP4_D float fp4_known_enc_(float enc, float mul, int scaled)
{
    const float both = fp4_times_(enc, mul, scaled);
    return scaled && both > FP4_F32_MAX ? FP4_F32_MAX : both;
}

FP4_D fp4_part2 fp4_nvfp4_known_(fp4_f32x16 t, float amax, float mul, int scaled, float global_enc,
                                 uint32_t *care)
{
    const float product = fp4_times_(amax, mul, scaled);
    fp4_scale scale = fp4_nvfp4_scale_moderate_(product, global_enc);

    *care = fp4_known_needs_care_(product, scale.enc) || !fp4_is_moderate_(global_enc);
    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_fast_x16_(t, scale, 0);
}

/** 16 elements of an NVFP4 block of 16 or 32 whose amax is known; see above. */
FP4_D fp4_part2 fp4_nvfp4_quantize_known_x16(fp4_f32x16 t, float amax, float global_enc,
                                             uint32_t *care)
{
    return fp4_nvfp4_known_(t, amax, 1.0f, 0, global_enc, care);
}

/** The same of t * mul, the amax of t known. */
FP4_D fp4_part2 fp4_nvfp4_quantize_scaled_known_x16(fp4_f32x16 t, float amax, float mul,
                                                    float global_enc, uint32_t *care)
{
    return fp4_nvfp4_known_(t, amax, mul, 1, global_enc, care);
}

FP4_D fp4_part2 fp4_nvfp4_any_(fp4_f32x16 t, int lanes, float mul, int scaled, float global_enc)
{
    fp4_scale scale = fp4_nvfp4_scale_device_(
        fp4_amax_times_(fp4_group_max(fp4_amax_x16(t), lanes), mul, scaled), global_enc);

    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_any_(t, scale);
}

/** 16 elements of any NVFP4 block of 16 or 32. */
FP4_D fp4_part2 fp4_nvfp4_quantize_any_x16(fp4_f32x16 t, int lanes, float global_enc)
{
    return fp4_nvfp4_any_(t, lanes, 1.0f, 0, global_enc);
}

/** The same of t * mul. */
FP4_D fp4_part2 fp4_nvfp4_quantize_scaled_any_x16(fp4_f32x16 t, int lanes, float mul,
                                                  float global_enc)
{
    return fp4_nvfp4_any_(t, lanes, mul, 1, global_enc);
}

FP4_D fp4_part2 fp4_mxfp4_known_(fp4_f32x16 t, float amax, float mul, int scaled, uint32_t *care)
{
    const float product = fp4_times_(amax, mul, scaled);
    fp4_scale scale = fp4_cvt_mxfp4_scale(product);

    *care = FP4_ARCH_CVT_E2M1 || scaled ? fp4_known_needs_care_(product, scale.enc)
                                        : fp4_mxfp4_needs_care_(amax, scale.enc, 0);
    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_fast_x16_(t, scale, !scaled);
}

/** 16 elements of an MXFP4 block of 16 or 32 whose amax is known; see above. */
FP4_D fp4_part2 fp4_mxfp4_quantize_known_x16(fp4_f32x16 t, float amax, uint32_t *care)
{
    return fp4_mxfp4_known_(t, amax, 1.0f, 0, care);
}

/** The same of t * mul, the amax of t known. */
FP4_D fp4_part2 fp4_mxfp4_quantize_scaled_known_x16(fp4_f32x16 t, float amax, float mul,
                                                    uint32_t *care)
{
    return fp4_mxfp4_known_(t, amax, mul, 1, care);
}

FP4_D fp4_part2 fp4_mxfp4_any_(fp4_f32x16 t, int lanes, float mul, int scaled)
{
    fp4_scale scale =
        fp4_cvt_mxfp4_scale(fp4_amax_times_(fp4_group_max(fp4_amax_x16(t), lanes), mul, scaled));

    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_any_(t, scale);
}

/** 16 elements of any MXFP4 block of 16 or 32. */
FP4_D fp4_part2 fp4_mxfp4_quantize_any_x16(fp4_f32x16 t, int lanes)
{
    return fp4_mxfp4_any_(t, lanes, 1.0f, 0);
}

/** The same of t * mul. */
FP4_D fp4_part2 fp4_mxfp4_quantize_scaled_any_x16(fp4_f32x16 t, int lanes, float mul)
{
    return fp4_mxfp4_any_(t, lanes, mul, 1);
}

FP4_D fp4_part4 fp4_mxfp8_known_(fp4_f32x16 t, float amax, float mul, int scaled, uint32_t *care)
{
    const float product = fp4_times_(amax, mul, scaled);
    fp4_scale scale = fp4_cvt_mxfp8_scale(product);

    *care = fp4_is_nan(product);
    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_e4m3_(t, scale);
}

/** 16 elements of an MXFP8 block whose amax is known; see above. */
FP4_D fp4_part4 fp4_mxfp8_quantize_known_x16(fp4_f32x16 t, float amax, uint32_t *care)
{
    return fp4_mxfp8_known_(t, amax, 1.0f, 0, care);
}

/** The same of t * mul, the amax of t known. */
FP4_D fp4_part4 fp4_mxfp8_quantize_scaled_known_x16(fp4_f32x16 t, float amax, float mul,
                                                    uint32_t *care)
{
    return fp4_mxfp8_known_(t, amax, mul, 1, care);
}

FP4_D fp4_part4 fp4_mxfp8_any_(fp4_f32x16 t, int lanes, float mul, int scaled)
{
    fp4_scale scale =
        fp4_cvt_mxfp8_scale(fp4_amax_times_(fp4_group_max(fp4_amax_x16(t), lanes), mul, scaled));

    scale.enc = fp4_known_enc_(scale.enc, mul, scaled);
    return fp4_encode_e4m3_(t, scale);
}

/** 16 elements of any MXFP8 block. */
FP4_D fp4_part4 fp4_mxfp8_quantize_any_x16(fp4_f32x16 t, int lanes)
{
    return fp4_mxfp8_any_(t, lanes, 1.0f, 0);
}

/** The same of t * mul. */
FP4_D fp4_part4 fp4_mxfp8_quantize_scaled_any_x16(fp4_f32x16 t, int lanes, float mul)
{
    return fp4_mxfp8_any_(t, lanes, mul, 1);
}

/* ------------------------------------------------------------ stochastic rounding */

/*
 * For gradients: the scale as ever, an element up or down at random, fp4_f32_to_e2m1_sr of its
 * product with enc (e2m1.h). Emulated on every target.
 *
 * shape    random: 16 bytes of a generator of the caller's, such as the four words that Philox
 *          gives at a time; byte i is for the thread's element i.
 * threads  as the functions without _sr: of fp4_mxfp4_quantize_sr_x16 all 32 lanes of the warp
 *          call.
 */

FP4_D fp4_part2 fp4_encode_sr_(fp4_f32x16 x, fp4_scale scale, fp4_u32x4 random)
{
    const fp4_u32x2 low = {{random.v[0], random.v[1]}}, high = {{random.v[2], random.v[3]}};
    const fp4_part2 part = {{fp4_f32x8_to_e2m1x8_sr(fp4_scale_x8(fp4_low_x8(x), scale.enc), low),
                             fp4_f32x8_to_e2m1x8_sr(fp4_scale_x8(fp4_high_x8(x), scale.enc), high)},
                            scale.bits};
    return part;
}

/** Quantize one NVFP4 block, elements rounded stochastically. */
FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_sr(fp4_f32x16 x, float global_enc, fp4_u32x4 random)
{
    const fp4_part2 part =
        fp4_encode_sr_(x, fp4_cvt_nvfp4_scale(fp4_amax_x16(x), global_enc), random);
    const fp4_nvfp4_block block = {{part.q[0], part.q[1]}, part.sf};
    return block;
}

/** Quantize an MXFP4 block shared by 2 lanes, 16 elements each, rounded stochastically. */
FP4_D fp4_part2 fp4_mxfp4_quantize_sr_x16(fp4_f32x16 x, fp4_u32x4 random)
{
    const float amax = fp4_group_max(fp4_amax_x16(x), 2);
    return fp4_encode_sr_(x, fp4_cvt_mxfp4_scale(amax), random);
}

/* ------------------------------------------------------------ the amax given by someone else */

/*
 * For an amax that was found before, such as that of a calibration: it may be less than that of the
 * elements, and what exceeds it is clipped. 16 elements a thread, of a block of 16 or 32.
 *
 * range    amax: not negative, not NaN. x: any.
 * threads  none needed.
 */

/** 16 elements of an NVFP4 block with the scale of `amax`. */
FP4_D fp4_part2 fp4_nvfp4_quantize_given_x16(fp4_f32x16 x, float amax, float global_enc)
{
    if (!fp4_is_moderate_(global_enc)) {
        return fp4_encode_any_(x, fp4_nvfp4_scale_device_(amax, global_enc));
    }
    return fp4_encode_any_(x, fp4_nvfp4_scale_moderate_(amax, global_enc));
}

/** 16 elements of an MXFP4 block with the scale of `amax`. */
FP4_D fp4_part2 fp4_mxfp4_quantize_given_x16(fp4_f32x16 x, float amax)
{
    return fp4_encode_any_(x, fp4_cvt_mxfp4_scale(amax));
}

/** 16 elements of an MXFP8 block with the scale of `amax`. */
FP4_D fp4_part4 fp4_mxfp8_quantize_given_x16(fp4_f32x16 x, float amax)
{
    return fp4_encode_e4m3_(x, fp4_cvt_mxfp8_scale(amax));
}

/** 1 in bit i where |x[i] * enc| > most: what an encoder with that factor and maximum clips. */
FP4_D uint32_t fp4_clipped_x16(fp4_f32x16 x, float enc, float most)
{
    uint32_t bits = 0;
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        bits |= (uint32_t)(fp4_ptx_abs(fp4_mul_rn(x.v[i], enc)) > most) << i;
    }
    return bits;
}

#endif /* FP4_DEVICE_QUANT_CUH */

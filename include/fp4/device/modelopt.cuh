/*
 * fp4/device/modelopt.cuh - ModelOpt's rules (modelopt.h) on blocks in registers, equal to its
 * scalar functions on every input, with packed conversions and no division an element.
 *
 *     fp4_modelopt_fake_x16          16 elements to what a scale leaves of them
 *
 * and of its quantized tensors, NVFP4QTensor, MXFP4QTensor and MXFP8QTensor:
 *
 *     fp4_modelopt_nvfp4_quantize, _mxfp4_quantize, _mxfp8_quantize               a block
 *     fp4_modelopt_nvfp4_encode_x16, _mxfp4_encode_x16, _mxfp8_encode_x16         16 elements to
 *                                    codes, the scale byte of their block known
 *     fp4_modelopt_nvfp4_dequantize_x8, _mxfp4_dequantize_x8, _mxfp8_dequantize_x8  8 back
 *
 * threads  none needed.
 */
#ifndef FP4_DEVICE_MODELOPT_CUH
#define FP4_DEVICE_MODELOPT_CUH

#include <fp4/device/cvt.cuh>
#include <fp4/device/dequant.cuh>
#include <fp4/device/fragment.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/modelopt.h>

/** fp4_modelopt_scale_at with the target's own e4m3 conversion. */
FP4_D float fp4_modelopt_cvt_scale_at(float amax, fp4_modelopt_level level)
{
    const uint8_t sf = fp4_cvt_f32_to_e4m3(fp4_modelopt_units_(amax, level));
    return fp4_mul_rn(fp4_cvt_e4m3_to_f32(sf), level.from_e4m3);
}

/** fp4_modelopt_dynamic_scale_at with the target's own e4m3 conversion. */
FP4_D float fp4_modelopt_cvt_dynamic_scale_at(float amax, float dynamic_dec)
{
    const uint8_t sf = fp4_cvt_f32_to_e4m3(fp4_modelopt_dynamic_units_(amax, dynamic_dec));
    return fp4_modelopt_dynamic_from_(fp4_cvt_e4m3_to_f32(sf), dynamic_dec);
}

/*
 * x / divisor, as far as it decides: a quotient near a boundary between values of e2m1, or near 6,
 * is the correctly rounded one; others are on the right side of all of them. It takes a correctly
 * rounded reciprocal and one step of Newton's, exact by fma, where nothing overflows or underflows:
 * |x / divisor| up to 6.5, and a divisor of 2^-64 up to 2^64. tests/exhaustive.cpp compares them
 * for all mantissas of the divisor.
 */
FP4_D fp4_f32x16 fp4_modelopt_quotients_(fp4_f32x16 x, float divisor)
{
    const float reciprocal = fp4_rcp_newton_(divisor);
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_modelopt_quotient_(x.v[i], divisor, reciprocal);
    }
    return x;
}

/*
 * The same of any x, NaN being -6.5, and of any divisor that is positive and finite. Where that is
 * elsewhere both are moved: it to 2^-53 .. 2^32, exactly, and an element that gets too large or too
 * small on the way had a quotient far from every boundary, above 2^96 or below 2^-94.
 */
FP4_D fp4_f32x16 fp4_modelopt_any_quotients_(fp4_f32x16 x, float divisor)
{
    float most;
    int i;

    if (!fp4_is_moderate_(divisor)) {
        const float by = divisor < 1.0f ? 0x1p+96f : 0x1p-96f;
        x = fp4_scale_x16(x, by);
        divisor = fp4_mul_rn(divisor, by);
    }
    most = fp4_mul_rn(divisor, 6.5f);
#pragma unroll
    for (i = 0; i < 16; i++) { /* max returns the number where x is NaN */
        x.v[i] = fp4_ptx_min(fp4_ptx_max(x.v[i], -most), most);
    }
    return fp4_modelopt_quotients_(x, divisor);
}

/**
 * 16 elements of a block with scale dec, as fp4_modelopt_fake_static has them, which for a scale
 * of fp4_modelopt_dynamic_scale is fp4_modelopt_fake_dynamic; with 1, fp4_modelopt_cast.
 *
 * clipped  where wants_clipped bit i is 1 if fp4_modelopt_is_clipped(x[i], the divisor of dec);
 *          else 0.
 */
FP4_D fp4_f32x16 fp4_modelopt_fake_x16(fp4_f32x16 x, float dec, int wants_clipped,
                                       uint32_t *clipped)
{
    const float divisor = fp4_modelopt_divisor(dec);
    const int is_moderate = fp4_is_moderate_(divisor);
    const float unit = dec == 0.0f ? 0.0f : fp4_e2m1_unit();
    const float by = is_moderate ? fp4_mul_rn(unit, divisor) : unit;
    const fp4_f32x16 q = fp4_modelopt_any_quotients_(x, divisor);
    fp4_f32x16 y = fp4_join_x8(fp4_e2m1x8_to_units(fp4_f32x8_to_e2m1x8_below_7(fp4_low_x8(q))),
                               fp4_e2m1x8_to_units(fp4_f32x8_to_e2m1x8_below_7(fp4_high_x8(q))));
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) { /* and no -0 */
        y.v[i] = fp4_fma_rn(y.v[i], by, 0.0f);
    }
    if (!is_moderate) { /* whose product with the unit may be none */
        y = fp4_shift_x16(fp4_scale_x16(y, divisor), 0.0f);
    }
    *clipped = 0;
    if (wants_clipped) {
#pragma unroll
        for (i = 0; i < 16; i++) {
            *clipped |= (uint32_t)(fp4_ptx_abs(q.v[i]) > FP4_E2M1_MAX && !fp4_is_nan(x.v[i])) << i;
        }
    }
    return y;
}

/* ------------------------------------------------------------ quantized tensors: elements */

/* Codes of 16 elements, one at a time, without regard to speed. */
FP4_D fp4_u32x2 fp4_modelopt_nvfp4_careful_(fp4_f32x16 x, float dec)
{
    fp4_u32x2 q = {{0, 0}};
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        q.v[i / 8] |= (uint32_t)fp4_modelopt_nvfp4_code(x.v[i], dec) << (4 * (i % 8));
    }
    return q;
}

FP4_D fp4_u32x2 fp4_modelopt_mxfp4_careful_(fp4_f32x16 x, uint8_t sf)
{
    fp4_u32x2 q = {{0, 0}};
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        q.v[i / 8] |= (uint32_t)fp4_modelopt_mxfp4_code(x.v[i], sf) << (4 * (i % 8));
    }
    return q;
}

/* Whether an element is so small that its quotient by up to 2^64 may be a zero, but is none. */
FP4_D int fp4_modelopt_has_tiny_(fp4_f32x16 x)
{
    float least = 1.0f;
    int has = 0, i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        least = fp4_ptx_min(least, fp4_ptx_abs(x.v[i]));
    }
    if (least < 0x1p-85f) { /* zeros, mostly */
#pragma unroll
        for (i = 0; i < 16; i++) {
            has |= fp4_ptx_abs(x.v[i]) < 0x1p-85f && x.v[i] != 0.0f;
        }
    }
    return has;
}

/**
 * Codes of 16 elements of an NVFP4QTensor, as fp4_modelopt_nvfp4_code has them.
 *
 * range    amax: no |x| is more; NaN where an x is NaN. sf: of their block, found or given;
 *          elements beyond it saturate.
 */
FP4_D fp4_u32x2 fp4_modelopt_nvfp4_encode_x16(fp4_f32x16 x, float amax, uint8_t sf,
                                              float global_dec)
{
    const float dec = fp4_mul_rn(fp4_cvt_e4m3_to_f32(sf), global_dec);
    const float most = fp4_mul_rn(dec, 6.5f);
    int care = !fp4_is_moderate_(dec), i;
    fp4_u32x2 q;

    if (dec > 1.0f) {
        care |= fp4_modelopt_has_tiny_(x);
    }
    if (fp4_ptx_opaque(care)) {
        return fp4_modelopt_nvfp4_careful_(x, dec);
    }
    if (!(amax <= most)) {
#pragma unroll
        for (i = 0; i < 16; i++) { /* min returns the number where x is NaN */
            x.v[i] = fp4_ptx_max(fp4_ptx_min(x.v[i], most), -most);
        }
    }
    x = fp4_modelopt_quotients_(x, dec); /* of -0 it is +0 */
    q.v[0] = fp4_f32x8_to_e2m1x8_below_7(fp4_low_x8(x));
    q.v[1] = fp4_f32x8_to_e2m1x8_below_7(fp4_high_x8(x));
    return q;
}

/* Eight codes of an MXFP4QTensor from quotients below 7. All that is not positive has the sign. */
FP4_D uint32_t fp4_modelopt_mxfp4_codes_(fp4_f32x8 x)
{
    uint32_t signs = 0;
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        signs |= x.v[i] > 0.0f ? 0u : 8u << (4 * i);
    }
    return fp4_ptx_pick_bits(0x77777777u, fp4_f32x8_to_e2m1x8_ties_down_below_7(x), signs);
}

/**
 * Codes of 16 elements of an MXFP4QTensor, as fp4_modelopt_mxfp4_code has them.
 *
 * range    sf: fp4_modelopt_mxfp4_sf of the amax of their block, which they do not exceed; NaN
 *          makes it 255.
 */
FP4_D fp4_u32x2 fp4_modelopt_mxfp4_encode_x16(fp4_f32x16 x, uint8_t sf)
{
    fp4_u32x2 q;

    if (sf == 0 || sf == 255) { /* whose dec is no power of two */
        return fp4_modelopt_mxfp4_careful_(x, sf);
    }
    x = fp4_scale_x16(x, fp4_e8m0_to_enc(sf));
    q.v[0] = fp4_modelopt_mxfp4_codes_(fp4_low_x8(x));
    q.v[1] = fp4_modelopt_mxfp4_codes_(fp4_high_x8(x));
    return q;
}

/**
 * Codes of 16 elements of an MXFP8QTensor, as fp4_modelopt_mxfp8_code has them.
 *
 * range    sf: up to 254.
 */
FP4_D fp4_u32x4 fp4_modelopt_mxfp8_encode_x16(fp4_f32x16 x, uint8_t sf)
{
    const float enc = fp4_modelopt_mx_dec((uint8_t)(254u - sf));
    const fp4_u32x2 low = fp4_encode_e4m3x8(fp4_low_x8(x), enc);
    const fp4_u32x2 high = fp4_encode_e4m3x8(fp4_high_x8(x), enc);
    const fp4_u32x4 q = {{low.v[0], low.v[1], high.v[0], high.v[1]}};
    return q;
}

/** Eight codes of an NVFP4QTensor back, as fp4_modelopt_nvfp4_value has them. */
FP4_D fp4_f32x8 fp4_modelopt_nvfp4_dequantize_x8(uint32_t q, uint8_t sf, float global_dec)
{
    /* a sign stays where a magnitude is: 7 more reach bit 3 */
    const uint32_t stays = ((q & 0x77777777u) + 0x77777777u) | 0x77777777u;
    return fp4_e2m1x8_dequantize(q & stays, fp4_nvfp4_dec(sf, global_dec, FP4_SCALES_FIRST));
}

/** Eight codes of an MXFP4QTensor back, as fp4_modelopt_mxfp4_value has them. */
FP4_D fp4_f32x8 fp4_modelopt_mxfp4_dequantize_x8(uint32_t q, uint8_t sf)
{
    return fp4_e2m1x8_dequantize(q, fp4_dec_of(fp4_modelopt_mx_dec(sf)));
}

/** Eight codes of an MXFP8QTensor back, as fp4_modelopt_mxfp8_value has them. */
FP4_D fp4_f32x8 fp4_modelopt_mxfp8_dequantize_x8(fp4_u32x2 q, uint8_t sf)
{
    return fp4_e4m3x8_dequantize(q, fp4_modelopt_mx_dec(sf));
}

/* ------------------------------------------------------------ quantized tensors: blocks */

/** fp4_modelopt_nvfp4_sf with the target's own e4m3 conversion. */
FP4_D uint8_t fp4_modelopt_cvt_nvfp4_sf(float amax, float global_dec)
{
    return fp4_cvt_f32_to_e4m3(fp4_modelopt_nvfp4_units_(amax, global_dec));
}

/** fp4_modelopt_nvfp4_static_sf with the target's own e4m3 conversion. */
FP4_D uint8_t fp4_modelopt_cvt_nvfp4_static_sf(float amax, float global_amax, float fp8_max)
{
    return fp4_cvt_f32_to_e4m3(fp4_modelopt_nvfp4_static_units_(amax, global_amax, fp8_max));
}

/** A block of NVFP4QTensor; global_dec: fp4_modelopt_global_dec of the tensor's amax. */
FP4_D fp4_nvfp4_block fp4_modelopt_nvfp4_quantize(fp4_f32x16 x, float global_dec)
{
    const float amax = fp4_amax_or_nan_x16(x);
    const uint8_t sf = fp4_modelopt_cvt_nvfp4_sf(amax, global_dec);
    const fp4_u32x2 q = fp4_modelopt_nvfp4_encode_x16(x, amax, sf, global_dec);
    const fp4_nvfp4_block block = {{q.v[0], q.v[1]}, sf};
    return block;
}

/** A block of MXFP4QTensor. */
FP4_D fp4_mxfp4_block fp4_modelopt_mxfp4_quantize(fp4_f32x32 x)
{
    const uint8_t sf = fp4_modelopt_mxfp4_sf(fp4_amax_or_nan_x32(x));
    const fp4_u32x2 low = fp4_modelopt_mxfp4_encode_x16(fp4_low_x16(x), sf);
    const fp4_u32x2 high = fp4_modelopt_mxfp4_encode_x16(fp4_high_x16(x), sf);
    const fp4_mxfp4_block block = {{low.v[0], low.v[1], high.v[0], high.v[1]}, sf};
    return block;
}

/** A block of MXFP8QTensor. */
FP4_D fp4_mxfp8_block fp4_modelopt_mxfp8_quantize(fp4_f32x32 x)
{
    const uint8_t sf = fp4_modelopt_mxfp8_sf(fp4_amax_or_nan_x32(x));
    const fp4_u32x4 low = fp4_modelopt_mxfp8_encode_x16(fp4_low_x16(x), sf);
    const fp4_u32x4 high = fp4_modelopt_mxfp8_encode_x16(fp4_high_x16(x), sf);
    const fp4_mxfp8_block block = {
        {low.v[0], low.v[1], low.v[2], low.v[3], high.v[0], high.v[1], high.v[2], high.v[3]}, sf};
    return block;
}

#endif /* FP4_DEVICE_MODELOPT_CUH */

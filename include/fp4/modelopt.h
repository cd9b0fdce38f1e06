/*
 * fp4/modelopt.h - the rules of NVIDIA ModelOpt, which are not ours. By those of its fake
 * quantization a block of floats becomes what is left of it after 4 bits, in floats; by those of
 * its quantized tensors it becomes codes and a scale byte. For comparing with models that were
 * calibrated, trained or exported with them.
 *
 *     ModelOpt's function               here
 *     compute_fp4_scales                fp4_modelopt_scale; fp4_modelopt_scale_f32 if not quantized
 *     static_blockwise_fp4_cast         fp4_modelopt_cast
 *     static_blockwise_fp4_fake_quant   fp4_modelopt_fake_static
 *     fp4_fake_quant_block              fp4_modelopt_dynamic_scale, fp4_modelopt_fake_dynamic
 *     nvfp4_scalar_qdq                  fp4_modelopt_qdq_scale, fp4_modelopt_fake_static
 *     fused_amax_convert, e2m1          fp4_modelopt_convert_scale, fp4_modelopt_convert
 *     the same without a global amax    fp4_modelopt_convert_scale_alone, fp4_modelopt_convert
 *     the same with e8m0 scales         none of their own: see fp4_modelopt_convert
 *     NVFP4QTensor.quantize             fp4_modelopt_global_dec, fp4_modelopt_nvfp4_sf, _dec, _code
 *     the same, static                  fp4_modelopt_nvfp4_static_sf for fp4_modelopt_nvfp4_sf
 *     MXFP4QTensor.quantize             fp4_modelopt_mxfp4_sf, _code; fp4_modelopt_mx_dec
 *     MXFP8QTensor.quantize             fp4_modelopt_mxfp8_sf, _code
 *     dequantize of these three         fp4_modelopt_nvfp4_value, _mxfp4_value, _mxfp8_value
 *
 * A scale is a float, what codes are multiplied by: `dec`. Where these differ from each other and
 * from ours (scale.h): a static scale of 0 makes zeros of the block, a dynamic one below 1e-5
 * becomes 1; NaN becomes -6 times the scale; no result is -0; elements are divided by the scale,
 * not multiplied by its reciprocal. Where quantized tensors do, their functions say. Whole
 * matrices: host/modelopt.h.
 *
 * source   ModelOpt a2fbac7: tensor_quant.py, fp4_kernel.py, fp4_kernel_hopper.py, nvfp4_quant.py,
 *          tensor_quant_mx.cu, nvfp4_tensor.py, mxfp4_tensor.py, mxfp8_tensor.py. Divisions by and
 *          of Python's numbers are multiplications in PyTorch, on GPUs, and so here; so are its
 *          log2 and exp2. The kernels are written in Triton, whose division may be an ulp or two
 *          off; here it is rounded correctly. tests/test_modelopt.c compares with what all of them
 *          gave on an H200, test_modelopt_golden.c with fp4_fake_quant_block, nvfp4_scalar_qdq,
 *          fused_amax_convert and the static NVFP4QTensor of 0.47.0.
 */
#ifndef FP4_MODELOPT_H
#define FP4_MODELOPT_H

#include <fp4/e2m1.h>
#include <fp4/scale.h>

/* ---------------------------------------------------------------- fake quantization */

/** The scale of a block from its amax, not quantized: amax / 6. */
FP4_HD float fp4_modelopt_scale_f32(float amax)
{
    return fp4_mul_rn(amax, FP4_E2M1_MAX_RECIPROCAL);
}

/** The second level of fp4_modelopt_scale: factors to and from e4m3. */
typedef struct fp4_modelopt_level {
    float to_e4m3, from_e4m3;
} fp4_modelopt_level;

/**
 * The second level of a tensor, for fp4_modelopt_scale_at.
 *
 * range    global_amax (the largest amax): not negative; up to FLT_MAX * 256/448 if fp8_max is 256,
 *          above that NaN. fp8_max: 448; or 256, to leave room for blocks that are scaled up by
 *          6/4 ("four over six").
 */
FP4_HD fp4_modelopt_level fp4_modelopt_level_of(float global_amax, float fp8_max)
{
    const float room = fp4_div_rn(448.0f, fp8_max);
    const float most = fp4_mul_rn(fp4_mul_rn(global_amax, room), FP4_E2M1_MAX_RECIPROCAL);
    const float bounded = most <= 5.96046448e-08f ? 1.0f : most; /* 2^-24 */
    fp4_modelopt_level level;

    level.to_e4m3 = fp4_mul_rn(fp4_rcp_rn(bounded), 448.0f);
    level.from_e4m3 = fp4_rcp_rn(level.to_e4m3);
    return level;
}

/* The scale of a block in units of its second level, still to be rounded to e4m3. */
FP4_HD float fp4_modelopt_units_(float amax, fp4_modelopt_level level)
{
    return fp4_mul_rn(fp4_modelopt_scale_f32(amax), level.to_e4m3);
}

/** The scale of a block from its amax, through an e4m3. It may be 0. */
FP4_HD float fp4_modelopt_scale_at(float amax, fp4_modelopt_level level)
{
    const uint8_t sf = fp4_f32_to_e4m3(fp4_modelopt_units_(amax, level));
    return fp4_mul_rn(fp4_e4m3_to_f32(sf), level.from_e4m3);
}

/** Both at once. */
FP4_HD float fp4_modelopt_scale(float amax, float global_amax, float fp8_max)
{
    return fp4_modelopt_scale_at(amax, fp4_modelopt_level_of(global_amax, fp8_max));
}

/* |x| / divisor to the nearest value of e2m1, ties to even, times divisor, with the sign of x. */
FP4_HD float fp4_modelopt_fake_(float x, float divisor)
{
    const float magnitude = fp4_bits_f32(fp4_f32_bits(x) & 0x7fffffffu);
    const float nearest = fp4_e2m1_to_f32(fp4_f32_to_e2m1(fp4_div_rn(magnitude, divisor)));
    const float y = fp4_mul_rn(nearest, divisor);

    return x >= 0.0f ? y : fp4_add_rn(-y, 0.0f); /* no -0 */
}

/** x to the nearest value of e2m1, saturating. */
FP4_HD float fp4_modelopt_cast(float x)
{
    return fp4_modelopt_fake_(x, 1.0f);
}

/** What elements of a block with scale dec are divided by: dec, but 1 for 0, infinity and NaN. */
FP4_HD float fp4_modelopt_divisor(float dec)
{
    return fp4_is_positive_finite_(dec) ? dec : 1.0f;
}

/** An element of a block whose scale is given: dec. Infinite and NaN scales count as 1. */
FP4_HD float fp4_modelopt_fake_static(float x, float dec)
{
    return dec == 0.0f ? 0.0f : fp4_modelopt_fake_(x, fp4_modelopt_divisor(dec));
}

/* a / divisor by its reciprocal, correctly rounded; see device/modelopt.cuh. */
FP4_HD float fp4_modelopt_quotient_(float a, float divisor, float reciprocal)
{
    const float q = fp4_mul_rn(a, reciprocal);
    return fp4_fma_rn(fp4_fma_rn(-q, divisor, a), reciprocal, q);
}

/** 1 where |x| / divisor is more than e2m1 has: of a block of scale 0, |x| > 6. */
FP4_HD int fp4_modelopt_is_clipped(float x, float divisor)
{
    return fp4_div_rn(fp4_bits_f32(fp4_f32_bits(x) & 0x7fffffffu), divisor) > FP4_E2M1_MAX;
}

/** The second level of the dynamic quantizer, from the largest amax of the tensor: 1/2688 of it. */
FP4_HD float fp4_modelopt_dynamic_dec(float global_amax)
{
    const float given = fp4_mul_rn(global_amax, 3.72023816e-4f);
    return given <= 0.0f ? 1e-12f : given;
}

/* A block's scale in units of that, still to be rounded to e4m3; and the scale, once it is. */
FP4_HD float fp4_modelopt_dynamic_units_(float amax, float dynamic_dec)
{
    return fp4_min(fp4_div_rn(amax, fp4_mul_rn(6.0f, dynamic_dec)), FP4_E4M3_MAX);
}

FP4_HD float fp4_modelopt_dynamic_from_(float rounded, float dynamic_dec)
{
    const float dec = fp4_mul_rn(rounded, dynamic_dec);
    return dec >= 1e-5f && dec <= FP4_F32_MAX ? dec : 1.0f;
}

/**
 * The scale of a block from its amax and that, as the dynamic quantizer has it.
 *
 *     dec = decode(e4m3( min(amax / (6 * dynamic_dec), 448) )) * dynamic_dec     1 if below 1e-5
 *
 * range    amax leaves NaN out; that of a block of nothing else is NaN, which counts as the largest
 *          there is: 448 * dynamic_dec. Where the tensor has an infinity, every scale is 1;
 *          ModelOpt's then is infinite in the blocks that have one, whose other elements are NaN,
 *          and in those of nothing but NaN.
 */
FP4_HD float fp4_modelopt_dynamic_scale_at(float amax, float dynamic_dec)
{
    const uint8_t sf = fp4_f32_to_e4m3(fp4_modelopt_dynamic_units_(amax, dynamic_dec));
    return fp4_modelopt_dynamic_from_(fp4_e4m3_to_f32(sf), dynamic_dec);
}

/** Both at once. */
FP4_HD float fp4_modelopt_dynamic_scale(float amax, float global_amax)
{
    return fp4_modelopt_dynamic_scale_at(amax, fp4_modelopt_dynamic_dec(global_amax));
}

/** An element of a block with such a scale: dec. */
FP4_HD float fp4_modelopt_fake_dynamic(float x, float dec)
{
    return fp4_modelopt_fake_(x, dec);
}

/**
 * The scale of a block, as nvfp4_scalar_qdq of attention and GPTQ has it: the dynamic one, but what
 * rounds to 0 stays 0, and the block becomes zeros, by fp4_modelopt_fake_static.
 *
 *     dec = decode(e4m3( min(amax / (6 * global_dec), 448) )) * global_dec
 *
 * range    global_dec: 0 or positive; it is given in that sense. 0 gives 0. A quotient that is NaN
 *          (0 / 0, or amax is NaN) counts as 448.
 * source   fp8_quantize_scale and nvfp4_scalar_quant of nvfp4_quant.py.
 */
FP4_HD float fp4_modelopt_qdq_scale(float amax, float global_dec)
{
    const float units = fp4_modelopt_dynamic_units_(amax, global_dec);
    return fp4_mul_rn(fp4_e4m3_to_f32(fp4_f32_to_e4m3(units)), global_dec);
}

/* ---------------------------------------------------------------- fused_amax_convert */

/** What elements of a block are multiplied by before they are rounded, and after. */
typedef struct fp4_modelopt_factors {
    float enc, dec;
} fp4_modelopt_factors;

/* Of a scale, and of 1 where there is none. A quotient of doubles is no other under fast math. */
FP4_HD fp4_modelopt_factors fp4_modelopt_factors_(double dec, int has_scale)
{
    fp4_modelopt_factors factors;

    factors.enc = has_scale ? (float)(1.0 / dec) : 1.0f;
    factors.dec = has_scale ? (float)dec : 1.0f;
    return factors;
}

/**
 * The factors of a block of fused_amax_convert with e4m3 scales and a global amax.
 *
 *     two = 448 * (6 / global_amax)        the division in float, the rest in double
 *     dec = decode(e4m3( (amax / 6) * two )) / two        enc = 1 / dec
 *
 * range    both factors are 1 where amax is 0 or NaN, or global_amax 0, infinite or NaN. amax =
 *          infinity saturates, as FLT_MAX, which ModelOpt puts in its place. A scale that rounds
 *          to 0 gives infinity and 0: zeros. A dec up to 2^-128 gives infinity: all but zeros
 *          become 6 * dec. Up to 1.7e-38 global_amax overflows `two`: every block is zeros, or NaN
 *          where amax / 6 underflows to 0.
 * source   compute_scale_with_global of tensor_quant_mx.cu, as written. ModelOpt compiles it with
 *          --use_fast_math, where the two divisions of floats are div.approx.ftz: up to 2 ulp off,
 *          to no rule that a host could follow. They decide a scale that is nearly a tie of e4m3,
 *          and the last bit of dec; subnormal floats count as 0 there; and a global_amax above
 *          2^126 as infinity, of which 6 / global_amax is 0, the scale NaN.
 */
FP4_HD fp4_modelopt_factors fp4_modelopt_convert_scale(float amax, float global_amax)
{
    const int has_scale = amax > 0.0f && global_amax > 0.0f && global_amax <= FP4_F32_MAX;
    const double unscaled = (double)fp4_div_rn(amax, FP4_E2M1_MAX);
    const double two = 448.0 * (double)fp4_div_rn(FP4_E2M1_MAX, global_amax);
    const float rounded = fp4_e4m3_to_f32(fp4_f32_to_e4m3((float)(unscaled * two)));

    return fp4_modelopt_factors_((double)rounded / two, has_scale);
}

/**
 * The factors of a block of fused_amax_convert with e4m3 scales and no global amax.
 *
 *     dec = decode(e4m3( 1 / (6 / amax) ))        enc = 1 / dec
 *
 * range    as above. dec is at most 448: what is above 2688 is clipped. An amax up to 6 * 2^-10
 *          gives infinity and 0: zeros.
 * source   compute_scale of tensor_quant_mx.cu, as written; its one division of floats is
 *          approximate as above. The others are of doubles, and round to the same floats.
 */
FP4_HD fp4_modelopt_factors fp4_modelopt_convert_scale_alone(float amax)
{
    const float enc = fp4_div_rn(FP4_E2M1_MAX, amax);

    return fp4_modelopt_factors_((double)fp4_e4m3_to_f32(fp4_f32_to_e4m3(fp4_rcp_rn(enc))),
                                 amax > 0.0f);
}

/**
 * An element of fused_amax_convert with such factors: |x| * enc to the nearest value of e2m1, ties
 * to even, times dec, with the sign of x.
 *
 * range    what is negative and rounds to 0 is -0. Infinity and NaN count as 6. For a zero and for
 *          NaN ModelOpt multiplies by a sign that it has not set: here a zero gives +0 and NaN
 *          -6 * dec, as in the other rules.
 *
 * With e8m0 scales and no global amax (MXFP4, MXFP8) it is what FP4_FAKE_MXFP4 and FP4_FAKE_MXFP8
 * give (host/fake.h), but for zeros, and NaN of MXFP4, where that sign counts, and for blocks with
 * an infinity: those are what that gives if their amax is given as FLT_MAX. It divides by 6 or 448
 * and rounds up, ours multiplies by the reciprocal and rounds up: the same byte for every float.
 * But as compiled its division is approximate and 2^-127, for scale byte 0, is 0.
 */
FP4_HD float fp4_modelopt_convert(float x, fp4_modelopt_factors factors)
{
    const float magnitude = fp4_bits_f32(fp4_f32_bits(x) & 0x7fffffffu);
    const uint8_t code = fp4_f32_to_e2m1(fp4_mul_rn(magnitude, factors.enc));
    const float y = fp4_mul_rn(fp4_e2m1_to_f32(code), factors.dec);

    return x == 0.0f ? 0.0f : x > 0.0f ? y : -y;
}

/* ---------------------------------------------------------------- NVFP4QTensor */

/**
 * The global scale of a tensor from its amax, in decode sense: amax / (6 * fp8_max).
 *
 * range    fp8_max: 448; or 256, as for fp4_modelopt_scale. An amax of 0 gives 0, with which the
 *          scale bytes of blocks of zeros are NaN (0 / 0), all others 448, in ModelOpt too;
 *          host/modelopt.h refuses it.
 */
FP4_HD float fp4_modelopt_global_dec(float amax, float fp8_max)
{
    return fp4_mul_rn(amax, fp4_rcp_rn(fp4_mul_rn(FP4_E2M1_MAX, fp8_max)));
}

/* A scale that is still to be rounded to e4m3: at least 2^-9. */
FP4_HD float fp4_modelopt_bounded_(float scale)
{
    return scale < 0.001953125f ? 0.001953125f : scale;
}

/* The scale of a block from its amax, and that of a static quantizer, to be rounded. */
FP4_HD float fp4_modelopt_nvfp4_units_(float amax, float global_dec)
{
    const float quotient = fp4_div_rn(amax, fp4_mul_rn(FP4_E2M1_MAX, global_dec));

    return fp4_modelopt_bounded_(quotient == 0.0f ? 1.0f : quotient);
}

FP4_HD float fp4_modelopt_nvfp4_static_units_(float amax, float global_amax, float fp8_max)
{
    const float scale = fp4_modelopt_scale_f32(amax);
    const float units = fp4_mul_rn(scale == 0.0f ? 1.0f : scale, fp8_max);

    return fp4_modelopt_bounded_(fp4_div_rn(units, fp4_modelopt_scale_f32(global_amax)));
}

/**
 * The scale byte of a block from its amax.
 *
 *     sf = e4m3( amax / (6 * global_dec) )     a quotient of 0 counts as 1, one below 2^-9 as 2^-9
 *
 * range    never byte 0; 0x38 for a block of zeros, and where the quotient underflows to 0.
 *          Saturates at 448, as for amax = inf. NaN gives 0x7f.
 */
FP4_HD uint8_t fp4_modelopt_nvfp4_sf(float amax, float global_dec)
{
    return fp4_f32_to_e4m3(fp4_modelopt_nvfp4_units_(amax, global_dec));
}

/**
 * The scale byte of a block of a static quantizer, whose amaxes are given.
 *
 *     sf = e4m3( (amax/6 or, where that is 0, 1) * fp8_max / (global_amax/6) )
 *
 * range    below 2^-9 as 2^-9, above 448 as 448: never byte 0. 448 too where amax/6 * fp8_max
 *          overflows. A block whose amax is 0 has fp8_max * 6 / global_amax, or 448 if that is
 *          more. global_amax = 0 gives 0x7e, but with it every dec is 0. NaN, and infinity /
 *          infinity, give 0x7f. fp8_max: 448 or 256; the same in fp4_modelopt_global_dec.
 * source   get_weights_scaling_factor_from_quantizer. The divisions by 6 are multiplications by
 *          1/6; that by global_amax/6 is a division, as where global_amax is on the GPU.
 */
FP4_HD uint8_t fp4_modelopt_nvfp4_static_sf(float amax, float global_amax, float fp8_max)
{
    return fp4_f32_to_e4m3(fp4_modelopt_nvfp4_static_units_(amax, global_amax, fp8_max));
}

/**
 * What the elements of a block are divided by, and what its codes are multiplied by:
 * decode(sf) * global_dec.
 *
 * source   NVFP4QTensor.dequantize scales in this order, code * (decode(sf) * global_dec), in f32,
 *          then rounds to the dtype; code 8 is +0 to it. Ours (fp4_ref_dequantize) and its
 *          fp4_dequantize have (code * decode(sf)) * global_dec: see fp4_association.
 */
FP4_HD float fp4_modelopt_nvfp4_dec(uint8_t sf, float global_dec)
{
    return fp4_mul_rn(fp4_e4m3_to_f32(sf), global_dec);
}

/**
 * The code of an element: e2m1( x / dec ), to nearest, ties to even, saturating.
 *
 * range    a quotient that is a zero gives code 0, whatever its sign; one that is negative and
 *          rounds to zero gives 8. NaN, 0 / 0 and infinity / infinity give 7.
 */
FP4_HD uint8_t fp4_modelopt_nvfp4_code(float x, float dec)
{
    const float quotient = fp4_div_rn(x, dec);
    return (uint8_t)(quotient == 0.0f ? 0u : fp4_f32_to_e2m1(quotient));
}

/** What a code of such a block decodes to: dec times its value, code 8 being +0. */
FP4_HD float fp4_modelopt_nvfp4_value(uint8_t code, float dec)
{
    return fp4_mul_rn(fp4_e2m1_to_f32((uint8_t)((code & 15u) == 8u ? 0u : code)), dec);
}

/* ---------------------------------------------------------------- MXFP4QTensor, MXFP8QTensor */

/*
 * ceil(log2 x) + 127 for x >= 0, the logarithm being rounded to f32 before it is rounded up; 0 for
 * all up to 2^-127, 255 for infinity and NaN.
 *
 * log2(2^k * (1 + m/2^23)) is k + m/2^23 / ln 2. It rounds to k, so that m is lost, while what is
 * added is less than half a unit in k's last place: m < 32 ln 2 = 22.2 where 64 <= |k| < 128, and
 * half as much for each binade that |k| is lower. Where k is negative, what counts is the spacing
 * on the side of zero, that of |k| - 1. Compared on all 2^31 floats with PyTorch 2.11 on an H200;
 * in the golden tensors no logarithm is that close.
 */
FP4_HD uint32_t fp4_modelopt_ceil_log2_(float x)
{
    const uint32_t bits = fp4_f32_bits(x) & 0x7fffffffu;
    const uint32_t exponent = bits >> 23;
    const uint32_t k = exponent < 127u ? 126u - exponent : exponent - 127u;
    const uint32_t lost = k >= 64u   ? 22u
                          : k >= 32u ? 11u
                          : k >= 16u ? 5u
                          : k >= 8u  ? 2u
                          : k >= 4u  ? 1u
                                     : 0u;
    /* Subnormals are 2^-127 * (1 + m/2^22) where it matters: see fp4_f32_to_e8m0_up. */
    const uint32_t below_next = exponent == 0u ? 0x3fffffu - lost / 2u : 0x7fffffu - lost;

    return fp4_min_u32((bits + below_next) >> 23, 255u);
}

/**
 * The scale byte of an MXFP4 block from its amax: ceil(log2(amax * (1/6))) + 127.
 *
 *     as fp4_mxfp4_scale, but for products so little above a power of two (22 units in the last
 *     place at most) that the logarithm rounds to that power's: they stay at it
 *
 * range    amax = 0 gives byte 0; infinity 255, which decodes to infinity and has codes of 8
 *          throughout. NaN is undefined in ModelOpt, which makes an integer of it: 0 on an H200,
 *          with codes of 8. Here it gives 255, so that the block does not look like numbers.
 */
FP4_HD uint8_t fp4_modelopt_mxfp4_sf(float amax)
{
    return (uint8_t)fp4_modelopt_ceil_log2_(fp4_mxfp4_scale_f32(amax));
}

/**
 * What the elements of an MXFP4 block are divided by, and what the codes of either MX format are
 * multiplied by: 2^(sf - 127), as PyTorch's exp2 has it on GPUs.
 *
 * range    byte 0 gives 2^-127 - 2^-149, a unit in the last place low: CUDA's exp2f squares what
 *          the GPU has for 2^-63.5. Byte 255 gives infinity.
 */
FP4_HD float fp4_modelopt_mx_dec(uint8_t sf)
{
    return fp4_bits_f32(sf == 0u ? 0x3fffffu : (uint32_t)sf << 23);
}

/**
 * The code of an element of an MXFP4 block: x / fp4_modelopt_mx_dec(sf) to the nearest value of
 * e2m1, ties toward zero, saturating.
 *
 *     |x / dec|   <= .25  <=.75  <=1.25  <=1.75  <=2.5  <=3.5  <=5   >5
 *     value         0       .5     1      1.5     2      3     4     6
 *
 * range    the sign bit is set unless the quotient is positive: every zero has code 8, never 0, and
 *          so has NaN. A quotient that is positive and rounds to zero has code 0.
 */
FP4_HD uint8_t fp4_modelopt_mxfp4_code(float x, uint8_t sf)
{
    const float quotient = fp4_div_rn(x, fp4_modelopt_mx_dec(sf));
    const uint32_t magnitude = fp4_f32_bits(quotient) & 0x7fffffffu;
    const uint32_t code = (uint32_t)(magnitude > 0x3e800000u)    /* 0.25 -> 0.5 */
                          + (uint32_t)(magnitude > 0x3f400000u)  /* 0.75 -> 1   */
                          + (uint32_t)(magnitude > 0x3fa00000u)  /* 1.25 -> 1.5 */
                          + (uint32_t)(magnitude > 0x3fe00000u)  /* 1.75 -> 2   */
                          + (uint32_t)(magnitude > 0x40200000u)  /* 2.5  -> 3   */
                          + (uint32_t)(magnitude > 0x40600000u)  /* 3.5  -> 4   */
                          + (uint32_t)(magnitude > 0x40a00000u); /* 5    -> 6   */

    return (uint8_t)(magnitude > 0x7f800000u ? 8u : (quotient > 0.0f ? 0u : 8u) | code);
}

/** What a code of an MXFP4 block decodes to; code 8 is -0, which byte 255 makes NaN of. */
FP4_HD float fp4_modelopt_mxfp4_value(uint8_t code, uint8_t sf)
{
    return fp4_mul_rn(fp4_e2m1_to_f32(code), fp4_modelopt_mx_dec(sf));
}

/**
 * The scale byte of an MXFP8 block from its amax: ceil(log2(amax * (1/448))) + 127.
 *
 * range    as for MXFP4, but infinity gives 254, and NaN gives 0.
 */
FP4_HD uint8_t fp4_modelopt_mxfp8_sf(float amax)
{
    const uint32_t byte = fp4_modelopt_ceil_log2_(fp4_mxfp8_scale_f32(amax));
    return (uint8_t)(fp4_is_nan(amax) ? 0u : fp4_min_u32(byte, 254u));
}

/**
 * The code of an element of an MXFP8 block: e4m3( x * 2^(127 - sf) ), to nearest, ties to even,
 * saturating.
 *
 * range    sf: 0..254. The factor for 254 is 2^-127 as fp4_modelopt_mx_dec has it. -0 gives 0x80,
 *          NaN 0x7f.
 */
FP4_HD uint8_t fp4_modelopt_mxfp8_code(float x, uint8_t sf)
{
    return fp4_f32_to_e4m3(fp4_mul_rn(x, fp4_modelopt_mx_dec((uint8_t)(254u - sf))));
}

/** What a code of an MXFP8 block decodes to. */
FP4_HD float fp4_modelopt_mxfp8_value(uint8_t code, uint8_t sf)
{
    return fp4_mul_rn(fp4_e4m3_to_f32(code), fp4_modelopt_mx_dec(sf));
}

#endif /* FP4_MODELOPT_H */

/*
 * fp4/scale.h - from the amax of a block to its scale byte and the factor for its elements.
 *
 * One function for each format and rule; each returns both, since one follows from the other:
 *
 *     code = e2m1 or e4m3 of ( x * enc )        x ~ decode(code) * decode(bits) [* global_dec]
 *
 *     function                 scale byte                             same bytes as
 *     fp4_nvfp4_scale          e4m3(amax * (global_enc/6))            Transformer Engine but for
 *                                                                     code 0 of -0; FlashInfer's
 *                                                                     exact mode
 *     fp4_mxfp4_scale          amax/6 rounded up to a power of two    torchao RCEIL; FlashInfer but
 *                                                                     for codes under byte 0
 *     fp4_mxfp4_scale_floor    floor(log2 amax) - 2; may clip         OCP MX v1.0
 *     fp4_mxfp4_scale_ceil     ceil(log2 amax) - 2                    torchao CEIL
 *     fp4_mxfp4_scale_even     as floor, plus 1 from mantissa 1.75    torchao EVEN
 *     fp4_mxfp8_scale, ...     the same four for e4m3 elements: 448, 8, 1.9375 for 6, 2, 1.75
 *
 * Another stack's rule is another function with that stack's name, never a flag on these.
 *
 * The formulas round to f32, nearest even, after each operation, in the order written. amax is the
 * largest |x| of the block, NaN elements left out (fp4_amax_key): never negative, never NaN,
 * possibly infinite. Under nvcc -ftz=true (part of --use_fast_math) subnormal f32 inputs and
 * results flush to zero; nothing else changes. On the host fp4/host refuses -ffast-math.
 */
#ifndef FP4_SCALE_H
#define FP4_SCALE_H

#include <fp4/bits.h>
#include <fp4/e4m3.h>
#include <fp4/e8m0.h>
#include <fp4/types.h>

/* fl(1/6) and fl(1/448), spelled with enough digits to be exactly those floats. */
#define FP4_E2M1_MAX_RECIPROCAL 0.16666667163372039794921875f
#define FP4_E4M3_MAX_RECIPROCAL 0.00223214295692741870880126953125f

/* ---------------------------------------------------------------- NVFP4: the second-level scale */

/**
 * The global scale of a tensor (or row) from its amax: maps amax onto 448 * 6, the largest value.
 *
 *     global_enc = min( 2688 / amax, FLT_MAX )        1 where amax is 0 or not finite
 *
 * source   Transformer Engine core_nvfp4.cuh; the reciprocal of ModelOpt's weight_scale_2.
 */
FP4_HD float fp4_nvfp4_global_enc(float amax)
{
    const float enc = fp4_min(fp4_div_rn(FP4_E4M3_MAX * FP4_E2M1_MAX, amax), FP4_F32_MAX);
    return fp4_is_positive_finite_(amax) ? enc : 1.0f;
}

/** The decode-sense global scale to store beside the tensor: 1 / global_enc. */
FP4_HD float fp4_nvfp4_global_dec(float global_enc)
{
    return fp4_rcp_rn(global_enc);
}

/** A decode-sense scale turned round, as the recipe wants it: min( 1 / global_dec, FLT_MAX ). */
FP4_HD float fp4_nvfp4_global_enc_from_dec(float global_dec)
{
    return fp4_min(fp4_rcp_rn(global_dec), FP4_F32_MAX);
}

/**
 * Per-token NVFP4: the encode scale of a row from its amax. The row is NVFP4 with this global_enc.
 *
 *     token_enc = min( (1 / base_dec) / row_amax, FLT_MAX )        1 where that is 0
 *
 * range    base_dec: positive and finite; 1/2688 uses the whole range of every row. row_amax = 0
 *          gives FLT_MAX, infinity 1.
 * source   FlashInfer nvfp4_quantize_per_token, exact mode; base_dec is its inverse global scale.
 */
FP4_HD float fp4_nvfp4_token_enc(float row_amax, float base_dec)
{
    const float base_enc = fp4_rcp_rn(base_dec);
    const float enc = fp4_min(fp4_div_rn(base_enc, row_amax), FP4_F32_MAX);
    return enc == 0.0f ? 1.0f : enc;
}

/** The scale to store for that row: x ~ code * e4m3 * token_dec. 0 for a row of zeros. */
FP4_HD float fp4_nvfp4_token_dec(float row_amax, float token_enc)
{
    return row_amax == 0.0f ? 0.0f : fp4_rcp_rn(token_enc);
}

/* ---------------------------------------------------------------- block scales */

/** The scale of an NVFP4 block before it is rounded to e4m3. */
FP4_HD float fp4_nvfp4_scale_f32(float amax, float global_enc)
{
    return fp4_min(fp4_mul_rn(amax, fp4_mul_rn(global_enc, FP4_E2M1_MAX_RECIPROCAL)), FP4_F32_MAX);
}

/** The factor for the elements of an NVFP4 block whose scale byte decodes to sf. */
FP4_HD float fp4_nvfp4_enc(float sf, float global_enc)
{
    const float global_dec = fp4_rcp_rn(global_enc);
    return fp4_min(fp4_rcp_rn(fp4_mul_rn(sf, global_dec)), FP4_F32_MAX);
}

/**
 * The scale of an NVFP4 block.
 *
 *     bits = e4m3( min( amax * (global_enc * (1/6)), FLT_MAX ) )
 *     enc  = min( 1 / ( decode(bits) * (1/global_enc) ), FLT_MAX )
 *
 * range    global_enc: positive and finite; up to 2^-128 its reciprocal overflows and the factor is
 *          0, or FLT_MAX where the byte is 0. amax = 0 gives byte 0. A byte that rounds to 0 with
 *          amax != 0 gives enc = FLT_MAX: codes of 6 but for subnormal elements; the block still
 *          decodes to 0. Saturates at 448, as for amax = inf.
 * source   Transformer Engine core_nvfp4.cuh and its Python reference; FlashInfer with
 *          FLASHINFER_DISABLE_FP4_QUANT_FAST_MATH=1.
 */
FP4_HD fp4_scale fp4_nvfp4_scale(float amax, float global_enc)
{
    fp4_scale scale;

    scale.bits = fp4_f32_to_e4m3(fp4_nvfp4_scale_f32(amax, global_enc));
    scale.enc = fp4_nvfp4_enc(fp4_e4m3_to_f32(scale.bits), global_enc);
    return scale;
}

/* An e8m0 byte with its factor. */
FP4_HD fp4_scale fp4_scale_from_e8m0_(uint8_t bits)
{
    fp4_scale scale;

    scale.bits = bits;
    scale.enc = fp4_e8m0_to_enc(bits);
    return scale;
}

/** The value that the scale of an MXFP4 block is rounded up from: amax * (1/6). */
FP4_HD float fp4_mxfp4_scale_f32(float amax)
{
    return fp4_mul_rn(amax, FP4_E2M1_MAX_RECIPROCAL);
}

/** The value that the scale of an MXFP8 block is rounded up from: amax * (1/448). */
FP4_HD float fp4_mxfp8_scale_f32(float amax)
{
    return fp4_mul_rn(amax, FP4_E4M3_MAX_RECIPROCAL);
}

/**
 * The scale of an MXFP4 block: amax/6 rounded up to a power of two, so that no element clips.
 *
 *     bits = e8m0_up( amax * (1/6) )        enc = 2^(127 - bits)
 *
 * range    amax = 0 gives byte 0; infinity 254, which leaves only the largest finite elements codes
 *          other than 0. 4 * 2^126 and more decodes to infinity in f32.
 * source   torchao RCEIL; FlashInfer mxfp4_quantize. Not OCP's rule: that is fp4_mxfp4_scale_floor.
 */
FP4_HD fp4_scale fp4_mxfp4_scale(float amax)
{
    return fp4_scale_from_e8m0_(fp4_f32_to_e8m0_up(fp4_mxfp4_scale_f32(amax)));
}

/** OCP's rule for MXFP4; see fp4_amax_to_e8m0_floor. */
FP4_HD fp4_scale fp4_mxfp4_scale_floor(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_floor(amax, 2u));
}

/** torchao's CEIL for MXFP4; see fp4_amax_to_e8m0_ceil. */
FP4_HD fp4_scale fp4_mxfp4_scale_ceil(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_ceil(amax, 2u));
}

/** torchao's EVEN for MXFP4; see fp4_amax_to_e8m0_even. */
FP4_HD fp4_scale fp4_mxfp4_scale_even(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_even(amax, 2u, 1u));
}

/**
 * The scale of an MXFP8 block of e4m3 elements: amax/448 rounded up to a power of two.
 *
 *     bits = e8m0_up( amax * (1/448) )        enc = 2^(127 - bits)
 *
 * range    as for fp4_mxfp4_scale.
 * source   torchao RCEIL; FlashInfer mxfp8_quantize; Transformer Engine.
 */
FP4_HD fp4_scale fp4_mxfp8_scale(float amax)
{
    return fp4_scale_from_e8m0_(fp4_f32_to_e8m0_up(fp4_mxfp8_scale_f32(amax)));
}

/** OCP's rule for MXFP8; see fp4_amax_to_e8m0_floor. */
FP4_HD fp4_scale fp4_mxfp8_scale_floor(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_floor(amax, 8u));
}

/** torchao's CEIL for MXFP8; see fp4_amax_to_e8m0_ceil. */
FP4_HD fp4_scale fp4_mxfp8_scale_ceil(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_ceil(amax, 8u));
}

/** torchao's EVEN for MXFP8; see fp4_amax_to_e8m0_even. */
FP4_HD fp4_scale fp4_mxfp8_scale_even(float amax)
{
    return fp4_scale_from_e8m0_(fp4_amax_to_e8m0_even(amax, 8u, 3u));
}

#endif /* FP4_SCALE_H */

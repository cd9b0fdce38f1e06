/*
 * fp4/device/format.cuh - load, quantize and store sixteen elements where the input type and the
 * format are arguments: for kernels that are written once for several of them.
 *
 *     template <fp4_dtype INPUT, fp4_format FORMAT> __global__ void kernel(...)
 *         x = fp4_load_x16(INPUT, p)
 *         b = fp4_quantize_x16(FORMAT, x, global_enc)
 *         fp4_store_codes_x16(FORMAT, q, b)
 *         lane % fp4_format_lanes(FORMAT) == 0:  sf[fp4_sf_offset(...)] = b.sf
 *
 * Type and format are constants at the call: template arguments, enumerators, macros. The compiler
 * then keeps the function chosen and nothing else: the instructions are the same as of a call by
 * name (`make test` compares them). What quant.cuh has by name only: other lengths of fragments.
 *
 * A thread has 16 elements. Side by side 1 or 2 lanes, fp4_format_lanes(format), share a block, and
 * each gets its scale byte. Codes are the first 2 words of q, of MXFP8 all 4. Formats without a
 * second-level scale ignore global_enc.
 *
 * threads  where fp4_format_lanes(format) is 2, all 32 lanes of the warp call fp4_quantize_x16,
 *          _scaled_x16, _any_x16 and _scaled_any_x16; else no lane needs another.
 */
#ifndef FP4_DEVICE_FORMAT_CUH
#define FP4_DEVICE_FORMAT_CUH

#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

/* ------------------------------------------------------------ elements in memory */

/** Sixteen elements at p, aligned to 16 bytes; e4m3 without a scale of its own. */
FP4_D fp4_f32x16 fp4_load_x16(fp4_dtype dtype, const void *p)
{
    return dtype == FP4_F32    ? fp4_load_f32x16(p)
           : dtype == FP4_F16  ? fp4_load_f16x16(p)
           : dtype == FP4_BF16 ? fp4_load_bf16x16(p)
                               : fp4_load_e4m3x16(p);
}

/** Sixteen elements to p, aligned to 16 bytes, rounded to nearest even; e4m3 saturates. */
FP4_D void fp4_store_x16(fp4_dtype dtype, void *p, fp4_f32x16 x)
{
    if (dtype == FP4_F32) {
        fp4_store_u32x16(p, fp4_f32x16_to_u32x16(x));
    } else if (dtype == FP4_F16) {
        fp4_store_u32x8(p, fp4_f32x16_to_f16x16(x));
    } else if (dtype == FP4_BF16) {
        fp4_store_u32x8(p, fp4_f32x16_to_bf16x16(x));
    } else {
        const fp4_u32x2 low = fp4_f32x8_to_e4m3x8(fp4_low_x8(x));
        const fp4_u32x2 high = fp4_f32x8_to_e4m3x8(fp4_high_x8(x));
        fp4_ptx_store16(p, low.v[0], low.v[1], high.v[0], high.v[1]);
    }
}

/** The codes of sixteen elements to p, aligned to their 8 or 16 bytes. */
FP4_D void fp4_store_codes_x16(fp4_format format, void *p, fp4_part4 part)
{
    if (fp4_format_bits(format) == 8) {
        fp4_store_e4m3x16(p, part.q);
    } else {
        fp4_store_e2m1x16(p, part.q);
    }
}

FP4_D fp4_part4 fp4_part4_of_(fp4_part2 part)
{
    const fp4_part4 p = {{part.q[0], part.q[1], 0, 0}, part.sf};
    return p;
}

/* ------------------------------------------------------------ the amax known in advance */

/* As in quant.cuh: of t, or, if the constant `scaled` says so, of t * mul. */
FP4_D fp4_part4 fp4_known_(fp4_format format, fp4_f32x16 t, float amax, float mul, int scaled,
                           float global_enc, uint32_t *care)
{
    if (format == FP4_MXFP8) {
        return fp4_mxfp8_known_(t, amax, mul, scaled, care);
    }
    return fp4_part4_of_(fp4_format_is_nvfp4(format)
                             ? fp4_nvfp4_known_(t, amax, mul, scaled, global_enc, care)
                             : fp4_mxfp4_known_(t, amax, mul, scaled, care));
}

FP4_D fp4_part4 fp4_any_(fp4_format format, fp4_f32x16 t, float mul, int scaled, float global_enc)
{
    const int lanes = (int)fp4_format_lanes(format);

    if (format == FP4_MXFP8) {
        return fp4_mxfp8_any_(t, lanes, mul, scaled);
    }
    return fp4_part4_of_(fp4_format_is_nvfp4(format)
                             ? fp4_nvfp4_any_(t, lanes, mul, scaled, global_enc)
                             : fp4_mxfp4_any_(t, lanes, mul, scaled));
}

/** fp4_nvfp4_quantize_known_x16, or the same of another format (quant.cuh). */
FP4_D fp4_part4 fp4_quantize_known_x16(fp4_format format, fp4_f32x16 t, float amax,
                                       float global_enc, uint32_t *care)
{
    return fp4_known_(format, t, amax, 1.0f, 0, global_enc, care);
}

/** The same of t * mul, the amax of t known; mul not negative, or NaN. */
FP4_D fp4_part4 fp4_quantize_scaled_known_x16(fp4_format format, fp4_f32x16 t, float amax,
                                              float mul, float global_enc, uint32_t *care)
{
    return fp4_known_(format, t, amax, mul, 1, global_enc, care);
}

/** What those could not take: fp4_nvfp4_quantize_any_x16, or the same of another format. */
FP4_D fp4_part4 fp4_quantize_any_x16(fp4_format format, fp4_f32x16 t, float global_enc)
{
    return fp4_any_(format, t, 1.0f, 0, global_enc);
}

/** The same of t * mul; mul not negative, or NaN. */
FP4_D fp4_part4 fp4_quantize_scaled_any_x16(fp4_format format, fp4_f32x16 t, float mul,
                                            float global_enc)
{
    return fp4_any_(format, t, mul, 1, global_enc);
}

/** Sixteen elements with the scale of an amax given by someone else; no lane needs another. */
FP4_D fp4_part4 fp4_quantize_given_x16(fp4_format format, fp4_f32x16 x, float amax,
                                       float global_enc)
{
    if (format == FP4_MXFP8) {
        return fp4_mxfp8_quantize_given_x16(x, amax);
    }
    return fp4_part4_of_(fp4_format_is_nvfp4(format)
                             ? fp4_nvfp4_quantize_given_x16(x, amax, global_enc)
                             : fp4_mxfp4_quantize_given_x16(x, amax));
}

/* ------------------------------------------------------------ quantize */

/* Formats with a block of the other's length, which have no function of their own. Those that know
   the amax take no negative factor: its sign goes to the elements. */
FP4_D fp4_part4 fp4_quantize_other_x16_(fp4_format format, fp4_f32x16 t, float mul, int scaled,
                                        float global_enc)
{
    const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), (int)fp4_format_lanes(format));
    uint32_t care;
    fp4_part4 p;

    if (scaled && (fp4_f32_bits(mul) >> 31) != 0) {
        t = fp4_scale_x16(t, -1.0f);
    }
    p = fp4_known_(format, t, amax, fp4_ptx_abs(mul), scaled, global_enc, &care);
    if (fp4_format_lanes(format) == 1 ? care != 0 : fp4_ptx_any(0xffffffffu, care != 0)) {
        p = fp4_any_(format, t, fp4_ptx_abs(mul), scaled, global_enc);
    }
    return p;
}

FP4_D fp4_part4 fp4_quantize_x16_(fp4_format format, fp4_f32x16 t, float mul, int scaled,
                                  float global_enc)
{
    if (format == FP4_NVFP4) {
        const fp4_nvfp4_block b = fp4_nvfp4_quantize_(t, mul, scaled, global_enc);
        const fp4_part4 p = {{b.q[0], b.q[1], 0, 0}, b.sf};
        return p;
    }
    return format == FP4_MXFP4   ? fp4_part4_of_(fp4_mxfp4_quantize_x16_(t, mul, scaled))
           : format == FP4_MXFP8 ? fp4_mxfp8_quantize_x16_(t, mul, scaled)
                                 : fp4_quantize_other_x16_(format, t, mul, scaled, global_enc);
}

/** Sixteen elements of one block or of half a block; any x. */
FP4_D fp4_part4 fp4_quantize_x16(fp4_format format, fp4_f32x16 x, float global_enc)
{
    return fp4_quantize_x16_(format, x, 1.0f, 0, global_enc);
}

/** The same of t * mul, as the _scaled functions of quant.cuh: mul may be negative. */
FP4_D fp4_part4 fp4_quantize_scaled_x16(fp4_format format, fp4_f32x16 t, float mul,
                                        float global_enc)
{
    return fp4_quantize_x16_(format, t, mul, 1, global_enc);
}

#endif /* FP4_DEVICE_FORMAT_CUH */

/*
 * fp4/device/mma.cuh - blocks out of the accumulators of matrix instructions, for the epilogue of a
 * matrix multiplication.
 *
 * mma.m16n8 leaves a row of each eight columns in four neighbouring lanes, a quad, and so does
 * wgmma in each of its warps: lane l has, of rows l / 4 and l / 4 + 8, columns 2 * (l % 4) and the
 * next. Over several instructions side by side a quad has a whole run of columns of a row:
 *
 *     t.v[2 * i + e] = the accumulator of column 8 * i + 2 * (l % 4) + e, e = 0, 1; one of the rows
 *
 *     function                   elements a lane   columns of a quad   returns in lane j of it
 *     fp4_nvfp4_quantize_quad    16                 64                 block j, fp4_nvfp4_block
 *     fp4_mxfp4_quantize_quad    32                128                 block j, fp4_mxfp4_block
 *     fp4_mxfp8_quantize_quad    32                128                 block j, fp4_mxfp8_block
 *     ..._quantize_scaled_quad   the same of t * mul (quant.cuh), such as alpha
 *
 * codes in the order of columns, so that a lane stores a whole block, and its scale byte. The bytes
 * are those of the functions in quant.cuh. Each lane finds the scale of one block, from amaxes that
 * the quad exchanges; by those of quant.cuh for shared blocks (_x4, _x8) each of the four would
 * find all, and codes would come two by two. (tcgen05.ld can give a lane whole blocks: quant.cuh.)
 *
 * threads  all 32 lanes of the warp call; threadIdx.x % 32 is the lane: CTAs of one dimension, or
 *          of whole warps in x.
 */
#ifndef FP4_DEVICE_MMA_CUH
#define FP4_DEVICE_MMA_CUH

#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

/* The larger; NaN if one is, or the number if one is none. */
FP4_D float fp4_quad_max_of_(float x, float y, int or_nan)
{
    return or_nan ? fp4_max_nan_(x, y) : fp4_ptx_max(x, y);
}

/* Lane j's: the largest over the quad of what each of its lanes says of block j. */
FP4_D float fp4_quad_max_(fp4_f32x4 m, int or_nan)
{
    const int is_upper = (threadIdx.x & 2u) != 0, is_odd = (threadIdx.x & 1u) != 0;
    const uint32_t all = 0xffffffffu;
    const float m0 =
        fp4_quad_max_of_(is_upper ? m.v[2] : m.v[0],
                         fp4_ptx_shuffle_xor(all, is_upper ? m.v[0] : m.v[2], 2), or_nan);
    const float m1 =
        fp4_quad_max_of_(is_upper ? m.v[3] : m.v[1],
                         fp4_ptx_shuffle_xor(all, is_upper ? m.v[1] : m.v[3], 2), or_nan);

    return fp4_quad_max_of_(is_odd ? m1 : m0, fp4_ptx_shuffle_xor(all, is_odd ? m0 : m1, 1),
                            or_nan);
}

/* From here on t: a lane's elements, `each` (a constant) of the first block, then of the next. */

/* The amax of lane j's block j. */
FP4_D float fp4_quad_amax_(const float *t, int each, int or_nan)
{
    fp4_f32x4 m;
    int b, i;

#pragma unroll
    for (b = 0; b < 4; b++) {
        m.v[b] = fp4_ptx_abs(t[b * each]);
#pragma unroll
        for (i = 1; i < each; i++) {
            m.v[b] = fp4_quad_max_of_(m.v[b], fp4_ptx_abs(t[b * each + i]), or_nan);
        }
        m.v[b] = or_nan ? m.v[b] : fp4_ptx_max(m.v[b], 0.0f); /* all of them NaN */
    }
    return fp4_quad_max_(m, or_nan);
}

/* The factors of the quad's blocks, of which each lane knows its own. */
FP4_D fp4_f32x4 fp4_quad_encs_(float enc)
{
    fp4_f32x4 encs;
    uint32_t b;

#pragma unroll
    for (b = 0; b < 4; b++) {
        encs.v[b] = fp4_bits_f32(
            fp4_ptx_shuffle_u32(0xffffffffu, fp4_f32_bits(enc), threadIdx.x / 4 % 8 * 4 + b));
    }
    return encs;
}

/* Elements 2 * i and 2 * i + 1 of each of the four blocks, times the blocks' factors. */
FP4_D fp4_f32x8 fp4_quad_scaled_(const float *t, int each, int i, fp4_f32x4 encs)
{
    fp4_f32x8 x;
    int b;

#pragma unroll
    for (b = 0; b < 4; b++) {
        x.v[2 * b] = fp4_mul_rn(t[b * each + 2 * i], encs.v[b]);
        x.v[2 * b + 1] = fp4_mul_rn(t[b * each + 2 * i + 1], encs.v[b]);
    }
    return x;
}

/* Words of lane j's block, whose factor is its enc: of each lane, eight columns a word, a byte for
   each block. */
FP4_D void fp4_quad_e2m1_(uint32_t *q, const float *t, int each, float enc, int below_7)
{
    const fp4_f32x4 encs = fp4_quad_encs_(enc);
    int i;

#pragma unroll
    for (i = 0; i < each / 2; i++) {
        const fp4_f32x8 x = fp4_quad_scaled_(t, each, i, encs);
        q[i] = fp4_sf_words(below_7 ? fp4_f32x8_to_e2m1x8_below_7(x) : fp4_f32x8_to_e2m1x8(x), 1);
    }
}

/* Words 2 * i and 2 * i + 1 of e4m3: of each lane, two bytes for each block. */
FP4_D fp4_u32x2 fp4_quad_e4m3_(const float *t, int i, fp4_f32x4 encs)
{
    const fp4_u32x2 q = fp4_f32x8_to_e4m3x8(fp4_quad_scaled_(t, 8, i, encs));
    const int is_upper = (threadIdx.x & 2u) != 0, is_odd = (threadIdx.x & 1u) != 0;
    const uint32_t all = 0xffffffffu;
    /* two blocks, of this lane and of the one two on; then one block of all four */
    const uint32_t mine = is_upper ? q.v[1] : q.v[0];
    const uint32_t other = fp4_ptx_shuffle_xor_u32(all, is_upper ? q.v[0] : q.v[1], 2);
    const uint32_t keep = fp4_ptx_bytes(mine, other, is_odd ? 0x7632u : 0x5410u);
    const uint32_t give = fp4_ptx_bytes(mine, other, is_odd ? 0x5410u : 0x7632u);
    const uint32_t got = fp4_ptx_shuffle_xor_u32(all, give, 1);
    const uint32_t even = is_odd ? got : keep, odd = is_odd ? keep : got;
    const uint32_t first = fp4_ptx_bytes(even, odd, 0x5410u); /* of this lane's half */
    const uint32_t second = fp4_ptx_bytes(even, odd, 0x7632u);
    const fp4_u32x2 words = {{is_upper ? second : first, is_upper ? first : second}};
    return words;
}

FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_quad_(fp4_f32x16 t, float mul, int scaled,
                                               float global_enc)
{
    float amax = fp4_quad_amax_(t.v, 4, !FP4_ARCH_CVT_E2M1), enc;
    fp4_scale scale = fp4_cvt_nvfp4_scale(fp4_amax_times_(amax, mul, scaled), global_enc);
    fp4_nvfp4_block block;

    enc = fp4_enc_times_(scale.enc, mul, scaled);
    if (!FP4_ARCH_CVT_E2M1 && fp4_ptx_any(0xffffffffu, fp4_scaled_needs_care_(amax, enc, scaled))) {
        amax = fp4_quad_amax_(t.v, 4, 0);
        scale = fp4_cvt_nvfp4_scale(fp4_amax_times_(amax, mul, scaled), global_enc);
        fp4_quad_e2m1_(block.q, t.v, 4, fp4_enc_times_(scale.enc, mul, scaled), 0);
    } else {
        fp4_quad_e2m1_(block.q, t.v, 4, enc, 1);
    }
    block.sf = scale.bits;
    return block;
}

/** Quantize four NVFP4 blocks that a quad has. */
FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_quad(fp4_f32x16 t, float global_enc)
{
    return fp4_nvfp4_quantize_quad_(t, 1.0f, 0, global_enc);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_nvfp4_block fp4_nvfp4_quantize_scaled_quad(fp4_f32x16 t, float mul, float global_enc)
{
    return fp4_nvfp4_quantize_quad_(t, mul, 1, global_enc);
}

FP4_D fp4_mxfp4_block fp4_mxfp4_quantize_quad_(fp4_f32x32 t, float mul, int scaled)
{
    float amax = fp4_quad_amax_(t.v, 8, !FP4_ARCH_CVT_E2M1), enc;
    fp4_scale scale = fp4_cvt_mxfp4_scale(fp4_amax_times_(amax, mul, scaled));
    fp4_mxfp4_block block;

    enc = fp4_enc_times_(scale.enc, mul, scaled);
    if (!FP4_ARCH_CVT_E2M1 && fp4_ptx_any(0xffffffffu, fp4_scaled_needs_care_(amax, enc, scaled))) {
        amax = fp4_quad_amax_(t.v, 8, 0);
        scale = fp4_cvt_mxfp4_scale(fp4_amax_times_(amax, mul, scaled));
        fp4_quad_e2m1_(block.q, t.v, 8, fp4_enc_times_(scale.enc, mul, scaled), 0);
    } else {
        fp4_quad_e2m1_(block.q, t.v, 8, enc, 1);
    }
    block.sf = scale.bits;
    return block;
}

/** Quantize four MXFP4 blocks that a quad has. */
FP4_D fp4_mxfp4_block fp4_mxfp4_quantize_quad(fp4_f32x32 t)
{
    return fp4_mxfp4_quantize_quad_(t, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_mxfp4_block fp4_mxfp4_quantize_scaled_quad(fp4_f32x32 t, float mul)
{
    return fp4_mxfp4_quantize_quad_(t, mul, 1);
}

FP4_D fp4_mxfp8_block fp4_mxfp8_quantize_quad_(fp4_f32x32 t, float mul, int scaled)
{
    const float amax = fp4_quad_amax_(t.v, 8, 0);
    const fp4_scale scale = fp4_cvt_mxfp8_scale(fp4_amax_times_(amax, mul, scaled));
    const fp4_f32x4 encs = fp4_quad_encs_(fp4_enc_times_(scale.enc, mul, scaled));
    fp4_mxfp8_block block;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        const fp4_u32x2 q = fp4_quad_e4m3_(t.v, i, encs);
        block.q[2 * i] = q.v[0];
        block.q[2 * i + 1] = q.v[1];
    }
    block.sf = scale.bits;
    return block;
}

/** Quantize four MXFP8 blocks that a quad has. */
FP4_D fp4_mxfp8_block fp4_mxfp8_quantize_quad(fp4_f32x32 t)
{
    return fp4_mxfp8_quantize_quad_(t, 1.0f, 0);
}

/** The same of t * mul; mul finite, or NaN, the same in all four lanes. */
FP4_D fp4_mxfp8_block fp4_mxfp8_quantize_scaled_quad(fp4_f32x32 t, float mul)
{
    return fp4_mxfp8_quantize_quad_(t, mul, 1);
}

#endif /* FP4_DEVICE_MMA_CUH */

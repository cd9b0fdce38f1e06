/*
 * fp4/device/activation.cuh - SiLU, GELU and the gate of gpt-oss, of fragments: the values of
 * fp4_silu, fp4_gelu_tanh and fp4_swiglu_oai_gate (activation.h), and the same faster where the
 * largest magnitude is known and not beyond what the exponential takes; of bf16 faster still, out
 * of a table in shared memory. Swish by fp4_swish_voted_x16 alone.
 *
 * What is faster: first, nothing is bounded. Where any element is beyond what the exponential
 * takes (FP4_EXP_END), element 0 comes out NaN, so that the block asks for care in the
 * _quantize_known functions of quant.cuh; it has to be activated once more then, by fp4_silu_x16.
 * (Others do not ask: fp4_nvfp4_quantize would encode the NaN. In front of them stand the _voted
 * functions.) Second, the division. Its divisor, 1 + e^y, lies between 1 and 2^126, so that the
 * reciprocal needs no slow path: one Newton step on the hardware's approximation rounds it
 * correctly, and from a correctly rounded reciprocal one residual makes a correctly rounded
 * quotient (Markstein).
 *
 * threads  none needed, but by the _voted functions.
 */
#ifndef FP4_DEVICE_ACTIVATION_CUH
#define FP4_DEVICE_ACTIVATION_CUH

#include <fp4/activation.h>
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>

/* a / (1 + e^x), x within +-87, a finite. The residual is taken with this sign so that -0 stays. */
FP4_D float fp4_over_one_plus_exp_(float a, float x)
{
    const float divisor = fp4_add_rn(fp4_exp_(x), 1.0f);
    const float reciprocal = fp4_rcp_newton_(divisor);
    const float quotient = fp4_mul_rn(a, reciprocal);
    const float too_much = fp4_fma_rn(quotient, divisor, -a);

    return fp4_fma_rn(too_much, -reciprocal, quotient);
}

FP4_D float fp4_silu_near_(float x)
{
    return fp4_over_one_plus_exp_(x, -x);
}

FP4_D float fp4_swish_near_(float x, float b)
{
    return fp4_over_one_plus_exp_(x, -fp4_mul_rn(x, b));
}

FP4_D float fp4_gelu_tanh_near_(float x)
{
    const float y = fp4_mul_rn(x, fp4_gelu_slope_(x));
    return fp4_over_one_plus_exp_(x, fp4_ptx_min(fp4_ptx_max(y, -FP4_EXP_END), FP4_EXP_END));
}

/* A gate that is a number, whose magnitude times the slope is not beyond 87. */
FP4_D float fp4_swiglu_oai_gate_near_(float x)
{
    return fp4_swish_near_(fp4_ptx_min(x, FP4_SWIGLU_OAI_LIMIT), FP4_SWIGLU_OAI_SLOPE);
}

/* y; NaN unless amax <= 87. */
FP4_D float fp4_if_near_(float y, float amax)
{
    return amax <= FP4_EXP_END ? y : fp4_bits_f32(0x7fffffffu);
}

/**
 * SiLU of sixteen floats whose largest magnitude is amax, NaN if one of them is: as fp4_silu_x16
 * where amax <= FP4_EXP_END; elsewhere element 0 is NaN, and the others are anything.
 */
FP4_D fp4_f32x16 fp4_silu_known_x16(fp4_f32x16 x, float amax)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_silu_near_(x.v[i]);
    }
    x.v[0] = fp4_if_near_(x.v[0], amax);
    return x;
}

/** GELU in the same way. */
FP4_D fp4_f32x16 fp4_gelu_tanh_known_x16(fp4_f32x16 x, float amax)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_gelu_tanh_near_(x.v[i]);
    }
    x.v[0] = fp4_if_near_(x.v[0], amax);
    return x;
}

/** The gate of gpt-oss in the same way, where amax * FP4_SWIGLU_OAI_SLOPE <= FP4_EXP_END. */
FP4_D fp4_f32x16 fp4_swiglu_oai_gate_known_x16(fp4_f32x16 x, float amax)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_swiglu_oai_gate_near_(x.v[i]);
    }
    x.v[0] = fp4_if_near_(x.v[0], fp4_mul_rn(amax, FP4_SWIGLU_OAI_SLOPE));
    return x;
}

/** SiLU of any sixteen floats. */
FP4_D fp4_f32x16 fp4_silu_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_silu(x.v[i]);
    }
    return x;
}

/** GELU of any sixteen floats. */
FP4_D fp4_f32x16 fp4_gelu_tanh_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_gelu_tanh(x.v[i]);
    }
    return x;
}

/** The gate of gpt-oss of any sixteen floats. */
FP4_D fp4_f32x16 fp4_swiglu_oai_gate_x16(fp4_f32x16 x)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_swiglu_oai_gate(x.v[i]);
    }
    return x;
}

/* fp4_clamp within the limit of gpt-oss, but for the bits of a NaN. */
FP4_D float fp4_swiglu_oai_bounded_(float up)
{
#if FP4_ARCH_MAX_NAN
    return fp4_ptx_min_nan(fp4_ptx_max_nan(up, -FP4_SWIGLU_OAI_LIMIT), FP4_SWIGLU_OAI_LIMIT);
#else
    return fp4_clamp(up, -FP4_SWIGLU_OAI_LIMIT, FP4_SWIGLU_OAI_LIMIT);
#endif
}

/** fp4_swiglu_oai_up of sixteen activated gates and as many any floats. */
FP4_D fp4_f32x16 fp4_swiglu_oai_up_x16(fp4_f32x16 act, fp4_f32x16 up)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        up.v[i] = fp4_swiglu_oai_bounded_(up.v[i]);
    }
    return fp4_mul_x16(act, fp4_shift_x16(up, 1.0f));
}

/** The same of sixteen bf16, two to a word: half of the work before they are widened. */
FP4_D fp4_f32x16 fp4_swiglu_oai_up_bf16x16(fp4_f32x16 act, fp4_u32x8 up)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) { /* not all at once, which takes more registers */
#if FP4_ARCH_MAX_NAN
        const uint32_t two = fp4_ptx_clamp_bf16x2(up.v[i], 0xc0e0c0e0u, 0x40e040e0u); /* -7, 7 */
        const float low = fp4_bits_f32(two << 16), high = fp4_bits_f32(two & 0xffff0000u);
#else
        const float low = fp4_swiglu_oai_bounded_(fp4_bits_f32(up.v[i] << 16));
        const float high = fp4_swiglu_oai_bounded_(fp4_bits_f32(up.v[i] & 0xffff0000u));
#endif
        act.v[2 * i] = fp4_mul_rn(act.v[2 * i], fp4_add_rn(low, 1.0f));
        act.v[2 * i + 1] = fp4_mul_rn(act.v[2 * i + 1], fp4_add_rn(high, 1.0f));
    }
    return act;
}

/** The same of sixteen f16, two to a word. */
FP4_D fp4_f32x16 fp4_swiglu_oai_up_f16x16(fp4_f32x16 act, fp4_u32x8 up)
{
#if FP4_ARCH_MAX_NAN
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        up.v[i] = fp4_ptx_clamp_f16x2(up.v[i], 0xc700c700u, 0x47004700u); /* -7, 7 */
    }
    return fp4_mul_x16(act, fp4_shift_x16(fp4_f16x16_to_f32x16(up), 1.0f));
#else
    return fp4_swiglu_oai_up_x16(act, fp4_f16x16_to_f32x16(up));
#endif
}

/**
 * SiLU of any sixteen floats, as fp4_silu_x16, at the speed of fp4_silu_known_x16 where no lane of
 * the warp has one beyond what that takes.
 *
 * shape    amax: fp4_amax_or_nan_x16(x), or that of more elements.
 * threads  all 32 lanes of the warp call.
 * cost     the code of both stands at each call. A kernel that calls it for several pieces in an
 *          unrolled loop is half as long if it calls fp4_silu_known_x16 there, and fp4_silu_x16
 *          behind the loop for what that could not take (examples/04_silu_mul.cu).
 */
FP4_D fp4_f32x16 fp4_silu_voted_x16(fp4_f32x16 x, float amax)
{
    return fp4_ptx_any(0xffffffffu, !(amax <= FP4_EXP_END)) ? fp4_silu_x16(x)
                                                            : fp4_silu_known_x16(x, amax);
}

/** Swish in the same way: fp4_swish of each, b > 0. */
FP4_D fp4_f32x16 fp4_swish_voted_x16(fp4_f32x16 x, float b, float amax)
{
    int i;

    if (fp4_ptx_any(0xffffffffu, !(fp4_mul_rn(amax, b) <= FP4_EXP_END))) {
#pragma unroll
        for (i = 0; i < 16; i++) {
            x.v[i] = fp4_swish(x.v[i], b);
        }
        return x;
    }
#pragma unroll
    for (i = 0; i < 16; i++) {
        x.v[i] = fp4_swish_near_(x.v[i], b);
    }
    return x;
}

/** GELU in the same way. */
FP4_D fp4_f32x16 fp4_gelu_tanh_voted_x16(fp4_f32x16 x, float amax)
{
    return fp4_ptx_any(0xffffffffu, !(amax <= FP4_EXP_END)) ? fp4_gelu_tanh_x16(x)
                                                            : fp4_gelu_tanh_known_x16(x, amax);
}

/** The gate of gpt-oss in the same way. */
FP4_D fp4_f32x16 fp4_swiglu_oai_gate_voted_x16(fp4_f32x16 x, float amax)
{
    const int is_far = !(fp4_mul_rn(amax, FP4_SWIGLU_OAI_SLOPE) <= FP4_EXP_END);
    return fp4_ptx_any(0xffffffffu, is_far) ? fp4_swiglu_oai_gate_x16(x)
                                            : fp4_swiglu_oai_gate_known_x16(x, amax);
}

/* ------------------------------------------------------------ bf16 out of a table */

/*
 * A bf16 has so few values that a kernel may compute the activation of each of them once and then
 * look it up: the same bits, for four instructions an element in place of sixteen or more. A CTA
 * that stays for many rows makes the table when it begins:
 *
 *     __shared__ float table[FP4_BF16_TABLE];
 *     fp4_silu_bf16_table(table, threadIdx.x, blockDim.x);
 *     __syncthreads();
 *     ...
 *     y = fp4_bf16_table_has_x16(gate) ? fp4_bf16_table_x16(table, gate)
 *                                      : fp4_silu_x16(fp4_bf16x16_to_f32x16(gate));
 *
 * best with a vote, so that a warp goes one way. It holds the magnitudes of 32 exponents, from
 * 2^-25 on, each with both signs: those that differ in the low 12 bits, which are the index, and in
 * the sign, which is put below them. Values up to 87 are looked up, as far as the exponential goes.
 * Zeros and what is smaller are not; for such, NaN and the rest there is the other way.
 */

/** Floats of the table, 32 KB. */
#define FP4_BF16_TABLE 8192

/* Bits of the smallest magnitude in it, 2^-25. */
#define FP4_BF16_TABLE_FROM_ 0x3300u

/* The bf16 whose activation is entry i. */
FP4_D float fp4_bf16_table_entry_(uint32_t i)
{
    const uint32_t above = (i / 2 - FP4_BF16_TABLE_FROM_) & (FP4_BF16_TABLE / 2 - 1);
    return fp4_bits_f32((FP4_BF16_TABLE_FROM_ + above) << 16 | (i & 1u) << 31);
}

/**
 * Fills a table of SiLU.
 *
 * shape    table: FP4_BF16_TABLE floats of shared memory.
 * threads  all of `threads` call, each with its number `thread`; no barrier: that is for the caller
 *          to have before the table is used.
 */
FP4_D void fp4_silu_bf16_table(float *table, uint32_t thread, uint32_t threads)
{
    uint32_t i;

#pragma unroll 1
    for (i = thread; i < FP4_BF16_TABLE; i += threads) {
        table[i] = fp4_silu_near_(fp4_bf16_table_entry_(i));
    }
}

/** Fills a table of GELU in the same way. */
FP4_D void fp4_gelu_tanh_bf16_table(float *table, uint32_t thread, uint32_t threads)
{
    uint32_t i;

#pragma unroll 1
    for (i = thread; i < FP4_BF16_TABLE; i += threads) {
        table[i] = fp4_gelu_tanh_near_(fp4_bf16_table_entry_(i));
    }
}

/* A gate that a table has, of which some times the slope are beyond -87. */
FP4_D float fp4_swiglu_oai_gate_entry_(float x)
{
    const int is_far = fp4_mul_rn(x, FP4_SWIGLU_OAI_SLOPE) < -FP4_EXP_END;

    return is_far ? fp4_silu_near_(-FP4_EXP_END) : fp4_swiglu_oai_gate_near_(x);
}

/** Fills a table of the gate of gpt-oss in the same way. */
FP4_D void fp4_swiglu_oai_gate_bf16_table(float *table, uint32_t thread, uint32_t threads)
{
    uint32_t i;

#pragma unroll 1
    for (i = thread; i < FP4_BF16_TABLE; i += threads) {
        table[i] = fp4_swiglu_oai_gate_entry_(fp4_bf16_table_entry_(i));
    }
}

/** Whether all of sixteen bf16, two to a word, are in a table: of a magnitude from 2^-25 to 87. */
FP4_D int fp4_bf16_table_has_x16(fp4_u32x8 w)
{
    uint32_t amin = w.v[0];
    int i;

#pragma unroll
    for (i = 1; i < 8; i++) {
        amin = fp4_ptx_amin_bf16x2(amin, w.v[i]);
    }
    amin = fp4_ptx_amin_bf16x2(amin, amin << 16) & 0x7fff0000u;
    return (amin >= FP4_BF16_TABLE_FROM_ << 16) & (fp4_amax_or_nan_bf16x16(w) <= FP4_EXP_END);
}

/* Of a bf16 that stands in both halves of a word: 8 bytes for each magnitude, 4 for the sign. */
FP4_D float fp4_bf16_table_at_(const float *table, uint32_t both)
{
    return *(const float *)((const char *)table + (both >> 13 & (FP4_BF16_TABLE - 1) * 4u));
}

/** The activations of sixteen bf16, two to a word, that the table has; of others, still without
    leaving the table, anything. */
FP4_D fp4_f32x16 fp4_bf16_table_x16(const float *table, fp4_u32x8 w)
{
    fp4_f32x16 y;
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        y.v[2 * i] = fp4_bf16_table_at_(table, fp4_ptx_bytes(w.v[i], 0, 0x1010));
        y.v[2 * i + 1] = fp4_bf16_table_at_(table, fp4_ptx_bytes(w.v[i], 0, 0x3232));
    }
    return y;
}

#endif /* FP4_DEVICE_ACTIVATION_CUH */

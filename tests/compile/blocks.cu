/*
 * blocks.cu - kernels that together call every building block of include/fp4/device, for the
 * compile proofs of tests/tools/device.sh: no stack frame and no spill on any target, which
 * instructions stand in the PTX of a kernel, and how many in its SASS. Nobody runs them.
 */
#include <fp4/device/activation.cuh>
#include <fp4/device/dequant.cuh>
#include <fp4/device/format.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/mma.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/requant.cuh>
#include <fp4/device/rope.cuh>
#include <fp4/device/row.cuh>
#include <fp4/device/store.cuh>

#define KERNEL extern "C" __global__ void

static __device__ __forceinline__ uint32_t thread(void)
{
    return blockIdx.x * blockDim.x + threadIdx.x;
}

/* ------------------------------------------------------------ what the PTX check counts */

/* The comment that survives says what the constant is. */
KERNEL is_native(void)
{
    if (fp4_is_native()) {
        asm volatile("// e2m1 in hardware");
    } else {
        asm volatile("// e2m1 emulated");
    }
    if (fp4_is_native_e4m3()) {
        asm volatile("// e4m3 in hardware");
    } else {
        asm volatile("// e4m3 emulated");
    }
}

KERNEL to_e2m1x8(const float *x, uint32_t *q)
{
    *q = fp4_f32x8_to_e2m1x8(fp4_load_f32x8(x));
}

KERNEL to_e2m1x2(const float2 *x, uint8_t *q)
{
    const float2 pair = *x;
    *q = fp4_f32x2_to_e2m1x2(pair.x, pair.y);
}

KERNEL from_e2m1x8(const uint32_t *q, float *sumsq)
{
    *sumsq = fp4_sumsq_x8(fp4_e2m1x8_to_f32x8(*q), 0.0f);
}

KERNEL to_e4m3x8(const float *x, uint32_t *q)
{
    const fp4_u32x2 codes = fp4_f32x8_to_e4m3x8(fp4_load_f32x8(x));
    fp4_store_e4m3x8(q, codes.v);
}

KERNEL from_e4m3x8(const uint32_t *q, float *sumsq)
{
    const fp4_u32x2 codes = {{q[0], q[1]}};
    *sumsq = fp4_sumsq_x8(fp4_e4m3x8_to_f32x8(codes), 0.0f);
}

KERNEL to_e8m0(const float *x, uint8_t *sf)
{
    *sf = fp4_cvt_f32_to_e8m0_up(*x);
}

KERNEL dependent_launch(uint32_t *x)
{
    fp4_pdl_wait();
    *x += 1;
    fp4_pdl_trigger();
}

/* ------------------------------------------------------------ what the SASS check counts */

/* 16 bf16 a thread to NVFP4: load, quantize with a scale from device memory, store. */
KERNEL minimal(const uint8_t *x, const float *global_enc, uint8_t *q, uint8_t *sf)
{
    const uint32_t i = thread();
    const fp4_nvfp4_block b = fp4_nvfp4_quantize(fp4_load_bf16x16(x + (size_t)i * 32), *global_enc);

    fp4_store_e2m1x16(q + (size_t)i * 8, b.q);
    sf[i] = b.sf;
}

/* ------------------------------------------------------------ conversions */

KERNEL conversions(const float *x, const uint8_t *q, uint32_t *out)
{
    const fp4_f32x16 v = fp4_load_f32x16(x);
    const fp4_u32x2 codes = fp4_f32x16_to_e2m1x16(v);
    const fp4_u32x4 f16 = fp4_f32x8_to_f16x8(fp4_low_x8(v)),
                    bf16 = fp4_f32x8_to_bf16x8(fp4_low_x8(v));
    float h0, h1;

    fp4_f16x2_to_f32x2(f16.v[0], &h0, &h1);
    out[0] = codes.v[0];
    out[1] = codes.v[1];
    out[3] = fp4_f32x2_to_e4m3x2(v.v[2], v.v[3]);
    out[4] = fp4_f32x8_to_e2m1x8_below_7(fp4_high_x8(v)) ^
             fp4_f32x8_to_e2m1x8_ties_down_below_7(fp4_low_x8(v)) ^
             fp4_f32x8_times_power_to_e2m1x8_below_7(fp4_low_x8(v), 0.5f) ^
             fp4_f32x8_to_e2m1x8_sr(fp4_low_x8(v), codes);
    out[5] = fp4_cvt_f32x2_to_bf16x2(v.v[4], v.v[5]);
    out[6] = fp4_cvt_f32_to_e4m3(v.v[6]);
    out[7] = fp4_f32_bits(fp4_cvt_e4m3_to_f32(*q));
    out[8] = fp4_f32_bits(fp4_rsqrt_rn(h0)) + fp4_f32_bits(h1);
    out[9] = fp4_f32_bits(fp4_sumsq_x8(fp4_bf16x8_to_f32x8(bf16), 0.0f));
    out[10] = fp4_f32_bits(fp4_sumsq_x8(fp4_f16x8_to_f32x8(f16), 0.0f));
    out[11] = fp4_cvt_f32x2_to_f16x2(v.v[8], v.v[9]);
}

/* y, in the type of the input. */
KERNEL narrow(const float *x, uint8_t *y)
{
    const fp4_f32x16 v = fp4_load_f32x16(x);

    fp4_store_u32x8(y, fp4_f32x16_to_f16x16(v));
    fp4_store_u32x8(y + 32, fp4_f32x16_to_bf16x16(v));
    fp4_store_u32x16(y + 64, fp4_f32x16_to_u32x16(v));
    fp4_store_u32x4(y + 128, fp4_f32x8_to_bf16x8(fp4_low_x8(v)));
    fp4_store_u32x4_cs(y + 144, fp4_f32x8_to_bf16x8(fp4_high_x8(v)));
}

KERNEL store_by_four(const float *x, uint32_t count, uint8_t *y)
{
    const fp4_f32x16 v = fp4_load_f32x16(x + (size_t)thread() * 16);
    fp4_store_u32x16_by_four(y + (size_t)thread() * 64, fp4_f32x16_to_u32x16(v), count);
}

/* Codes for matrix instructions. */
KERNEL packed(const uint8_t *q, const uint8_t *sf, uint8_t *out)
{
    const fp4_u32x2 codes = fp4_ptx_load8(q + 8 * (size_t)thread());
    uint8_t *y = out + 128 * (size_t)thread();

    fp4_store_u32x8(y, fp4_nvfp4_to_f16x16(codes.v, sf[thread()]));
    fp4_store_u32x8(y + 32, fp4_nvfp4_to_bf16x16(codes.v, sf[thread()]));
    fp4_store_u32x8(y + 64, fp4_mxfp4_to_bf16x16(codes.v, sf[thread()]));
    fp4_store_u32x4(y + 96, fp4_e2m1x8_to_f16x8(codes.v[0]));
    fp4_store_u32x4(y + 112, fp4_e2m1x8_to_bf16x8(codes.v[1]));
}

KERNEL at_random(const float *x, const uint32_t *random, float global_enc, uint8_t *q, uint8_t *sf)
{
    const fp4_f32x16 v = fp4_load_f32x16(x + 16 * (size_t)thread());
    const fp4_u32x4 bits = fp4_load_u32x4(random + 4 * (size_t)thread());
    const fp4_nvfp4_block block = fp4_nvfp4_quantize_sr(v, global_enc, bits);
    const fp4_part2 part = fp4_mxfp4_quantize_sr_x16(v, bits);

    fp4_store_e2m1x16(q + 16 * (size_t)thread(), block.q);
    fp4_store_e2m1x16(q + 16 * (size_t)thread() + 8, part.q);
    sf[thread()] = block.sf ^ part.sf;
}

/* Codes as integers, and in the units of the target. */
KERNEL integers(const uint32_t *q, const uint8_t *sf, uint32_t *dots, float sumsq[2])
{
    const fp4_u32x2 u8 = fp4_e2m1x8_to_u8x8(q[thread()], fp4_e2m1_u8_table());

    dots[thread()] = fp4_ptx_dot_u8s8(u8.v[0], q[0], fp4_ptx_dot_u8u8(u8.v[1], q[1], 0));
    sumsq[0] = fp4_mul_rn(fp4_sumsq_x8(fp4_e2m1x8_to_units(q[2]), 0.0f), fp4_e2m1_unit());
    sumsq[1] = fp4_sumsq_x8(fp4_e2m1x8_times_e4m3_to_units(q[3], sf[0]), 0.0f);
}

KERNEL of_grid(const float *x, uint32_t *workspace, float *max)
{
    fp4_grid_max(x[blockIdx.x], workspace, max);
}

/* ------------------------------------------------------------ loads */

#define LOADS(type, hint) \
    KERNEL load_##type##hint(const uint8_t *x, float *amax) \
    { \
        amax[0] = fp4_amax_x8(fp4_load_##type##x8##hint(x)); \
        amax[1] = fp4_amax_x16(fp4_load_##type##x16##hint(x + 256)); \
        amax[2] = fp4_amax_x32(fp4_load_##type##x32##hint(x + 512)); \
    }

LOADS(f32, )
LOADS(f16, )
LOADS(bf16, )
LOADS(e4m3, )
LOADS(f32, _cs)
LOADS(f16, _cs)
LOADS(bf16, _cs)
LOADS(e4m3, _cs)

#define WORDS(hint) \
    KERNEL load_words##hint(const uint8_t *x, float *amax) \
    { \
        const fp4_u32x4 a = fp4_load_u32x4##hint(x); \
        const fp4_u32x8 b = fp4_load_u32x8##hint(x + 16); \
        const fp4_u32x16 c = fp4_load_u32x16##hint(x + 48); \
        amax[0] = fp4_amax_x16(fp4_e4m3x16_to_f32x16(a)); \
        amax[1] = fp4_amax_x16(fp4_f16x16_to_f32x16(b)); \
        amax[2] = fp4_amax_x16(fp4_bf16x16_to_f32x16(b)); \
        amax[3] = fp4_amax_x16(fp4_f32x16_to_f32x16(c)); \
    }

WORDS()
WORDS(_cs)

KERNEL deinterleave(const uint8_t *x, uint8_t *out)
{
    fp4_u32x8 even = fp4_load_u32x8(x), odd = fp4_load_u32x8(x + 32);
    fp4_u32x16 wide_even = fp4_load_u32x16(x + 64), wide_odd = fp4_load_u32x16(x + 128);

    fp4_deinterleave_u16x16(&even, &odd);
    fp4_deinterleave_u32x16(&wide_even, &wide_odd);
    fp4_store_u32x8(out, even);
    fp4_store_u32x8(out + 32, odd);
    fp4_store_u32x16(out + 64, wide_even);
    fp4_store_u32x16(out + 128, wide_odd);
}

/* ------------------------------------------------------------ arithmetic, reductions */

KERNEL fragments(const float *x, float factor, float *out)
{
    const fp4_f32x32 v = fp4_load_f32x32(x);
    const fp4_f32x32 t = fp4_scale_x32(fp4_mul_x32(v, v), factor);
    const fp4_f32x16 u = fp4_scale_x16(fp4_mul_x16(fp4_low_x16(t), fp4_high_x16(t)), factor);
    const fp4_f32x8 w = fp4_scale_x8(fp4_mul_x8(fp4_low_x8(u), fp4_high_x8(u)), factor);

    out[0] = fp4_amax_or_nan_x32(t);
    out[1] = fp4_amax_or_nan_x16(u);
    out[2] = fp4_amax_or_nan_x8(w);
    out[3] = fp4_sumsq_x32(t, fp4_sumsq_x16(u, 0.0f));
    out[4] = fp4_sum_x16(fp4_fma_x16(u, fp4_low_x16(v), fp4_high_x16(v)), 0.0f);
    out[5] = fp4_sum_x16(fp4_shift_x16(fp4_add_x16(u, fp4_low_x16(v)), factor), 0.0f);
    out[6] = fp4_sum_x32(fp4_shift_x32(fp4_add_x32(fp4_fma_x32(v, v, t), v), factor), 0.0f);
    out[7] = fp4_sum_x8(w, fp4_exp(factor));
    out[8] = fp4_max_x32(v);
    out[9] = fp4_max(fp4_max_x16(u), fp4_max_x8(w));
}

KERNEL rope(const float *x, const float *cos_sin, float *out)
{
    const fp4_f32x16 cos = fp4_load_f32x16(cos_sin), sin = fp4_load_f32x16(cos_sin + 16);
    fp4_f32x16 a = fp4_load_f32x16(x), b = fp4_load_f32x16(x + 16);

    out[0] = fp4_sum_x16(fp4_rope_turn_x16(a, b, cos, sin), 0.0f);
    out[1] = fp4_sum_x16(fp4_rope_gptj_x16(a, fp4_low_x8(cos), fp4_low_x8(sin)), 0.0f);
    fp4_rope_neox_x16(&a, &b, cos, sin);
    out[2] = fp4_sum_x16(a, fp4_sum_x16(b, 0.0f));
}

#define ACTIVATIONS(name) \
    KERNEL name(const float *x, float *amax) \
    { \
        const fp4_f32x16 v = fp4_load_f32x16(x + thread() * 16); \
        amax[2 * thread()] = fp4_amax_or_nan_x16(fp4_##name##_known_x16(v, amax[0])); \
        amax[2 * thread() + 1] = fp4_amax_x16(fp4_##name##_x16(v)); \
    } \
    KERNEL name##_of_table(const uint32_t *x, float *amax) \
    { \
        __shared__ float table[FP4_BF16_TABLE]; \
        const fp4_u32x8 w = fp4_load_u32x8(x + thread() * 8); \
        fp4_##name##_bf16_table(table, thread(), 128); \
        __syncthreads(); \
        if (fp4_bf16_table_has_x16(w)) { \
            amax[thread()] = fp4_amax_x16(fp4_bf16_table_x16(table, w)); \
        } \
    }

ACTIVATIONS(silu)
ACTIVATIONS(gelu_tanh)
ACTIVATIONS(swiglu_oai_gate)

KERNEL voted(float *x)
{
    float *at = x + (size_t)thread() * 16;
    const fp4_f32x16 v = fp4_load_f32x16(at), y = fp4_silu_voted_x16(v, fp4_amax_or_nan_x16(v));
    const fp4_f32x16 z = fp4_gelu_tanh_voted_x16(y, fp4_amax_or_nan_x16(y));
    const fp4_f32x16 gate = fp4_swish_voted_x16(z, 1.702f, fp4_amax_or_nan_x16(z));

    const fp4_f32x16 oai = fp4_swiglu_oai_gate_voted_x16(gate, fp4_amax_or_nan_x16(gate));

    fp4_store_u32x16(at, fp4_f32x16_to_u32x16(fp4_swiglu_oai_up_x16(oai, v)));
}

KERNEL oai(const uint32_t *x, float *y)
{
    const fp4_u32x8 w = fp4_load_u32x8(x + thread() * 8);
    const fp4_f32x16 act = fp4_load_f32x16(y + thread() * 16);
    const fp4_f32x16 a = fp4_swiglu_oai_up_bf16x16(act, w), b = fp4_swiglu_oai_up_f16x16(act, w);

    fp4_store_u32x16(y + (size_t)thread() * 16, fp4_f32x16_to_u32x16(fp4_add_x16(a, b)));
}

KERNEL reductions(const float *x, float *out)
{
    __shared__ float smem[7][32];
    const float v = x[thread()];

    out[0] = fp4_group_max(v, 4);
    out[1] = fp4_group_max_or_nan(v, 2);
    out[2] = fp4_group_sum(v, 8);
    out[3] = fp4_warp_max(v);
    out[4] = fp4_warp_sum(v);
    out[5] = fp4_cta_max(v, smem[0]);
    out[6] = fp4_cta_sum(v, smem[1]);
    out[7] = fp4_cta_max_or_nan(v, smem[2]);
    out[8] = fp4_cta_max_of(v, 256, smem[3]);
    out[9] = fp4_cta_sum_of(v, 256, smem[4]);
    out[10] = fp4_cta_max_or_nan_of(v, 256, smem[5]);
    out[11] = fp4_amax_or_nan_bf16x16(fp4_load_u32x8(x));
    out[12] = fp4_amax_or_nan_f16x16(fp4_load_u32x8(x));
    out[13] = fp4_amax_of_numbers_x16(fp4_load_f32x16(x));
    out[14] = fp4_team_max_or_nan(v, blockDim.x, 2, smem[6]);
}

/* ------------------------------------------------------------ quantize, store */

KERNEL encode(const float *x, float enc, uint32_t *q)
{
    const fp4_f32x8 v = fp4_load_f32x8(x);
    const fp4_u32x2 e4m3 = fp4_encode_e4m3x8(v, enc);

    q[0] = fp4_encode_e2m1x8(v, enc);
    q[1] = fp4_encode_e2m1x8_below_7(v, enc);
    q[2] = e4m3.v[0];
    q[3] = e4m3.v[1];
}

#define BLOCKS(name, input, store, quantize) \
    KERNEL name(const uint8_t *x, float factor, float global_enc, uint8_t *q) \
    { \
        const auto v = input(x + (size_t)thread() * sizeof(input(x))); \
        const auto b = quantize; \
        store(q + (size_t)thread() * 64, b.q); \
        q[(size_t)thread() * 64 + 32] = b.sf; \
    }
#define STORE_X8(p, q) fp4_store_e2m1x8(p, (q)[0])
#define STORE_X8_CS(p, q) fp4_store_e2m1x8_cs(p, (q)[0])

static __device__ __forceinline__ fp4_f32x4 load_f32x4(const uint8_t *p)
{
    const fp4_f32x4 x = {{((const float *)p)[0], ((const float *)p)[1], ((const float *)p)[2],
                          ((const float *)p)[3]}};
    return x;
}

BLOCKS(nvfp4, fp4_load_f32x16, fp4_store_e2m1x16_cs, fp4_nvfp4_quantize(v, global_enc))
BLOCKS(nvfp4_scaled, fp4_load_f32x16, fp4_store_e2m1x16,
       fp4_nvfp4_quantize_scaled(v, factor, global_enc))
BLOCKS(nvfp4_scaled_x8, fp4_load_f32x8, STORE_X8,
       fp4_nvfp4_quantize_scaled_x8(v, factor, global_enc))
BLOCKS(mxfp4_scaled_x16, fp4_load_f32x16, fp4_store_e2m1x16,
       fp4_mxfp4_quantize_scaled_x16(v, factor))
BLOCKS(mxfp4_scaled_x8, fp4_load_f32x8, STORE_X8, fp4_mxfp4_quantize_scaled_x8(v, factor))
BLOCKS(mxfp8_scaled_x16, fp4_load_f32x16, fp4_store_e4m3x16,
       fp4_mxfp8_quantize_scaled_x16(v, factor))
BLOCKS(mxfp8_scaled_x8, fp4_load_f32x8, fp4_store_e4m3x8, fp4_mxfp8_quantize_scaled_x8(v, factor))
BLOCKS(nvfp4_x8, fp4_load_f32x8, STORE_X8, fp4_nvfp4_quantize_x8(v, global_enc))
BLOCKS(nvfp4_x4, load_f32x4, STORE_X8_CS, fp4_nvfp4_quantize_x4(v, global_enc))
BLOCKS(nvfp4_scaled_x4, load_f32x4, STORE_X8_CS,
       fp4_nvfp4_quantize_scaled_x4(v, factor, global_enc))

KERNEL scales(const float *amax, float global_enc, float *enc)
{
    enc[0] = fp4_cvt_nvfp4_scale(amax[thread()], global_enc).enc;
    enc[1] = fp4_cvt_mxfp4_scale(amax[thread()]).enc;
    enc[2] = fp4_cvt_mxfp8_scale(amax[thread()]).enc;
}
BLOCKS(mxfp4, fp4_load_f32x32, fp4_store_e2m1x32, fp4_mxfp4_quantize(v))
BLOCKS(mxfp4_scaled, fp4_load_f32x32, fp4_store_e2m1x32_cs, fp4_mxfp4_quantize_scaled(v, factor))
BLOCKS(mxfp4_x16, fp4_load_f32x16, fp4_store_e2m1x16, fp4_mxfp4_quantize_x16(v))
BLOCKS(mxfp4_x8, fp4_load_f32x8, STORE_X8, fp4_mxfp4_quantize_x8(v))
BLOCKS(mxfp8, fp4_load_f32x32, fp4_store_e4m3x32, fp4_mxfp8_quantize(v))
BLOCKS(mxfp8_scaled, fp4_load_f32x32, fp4_store_e4m3x32_cs, fp4_mxfp8_quantize_scaled(v, factor))
BLOCKS(mxfp8_x16, fp4_load_f32x16, fp4_store_e4m3x16, fp4_mxfp8_quantize_x16(v))
BLOCKS(mxfp8_x16_cs, fp4_load_f32x16, fp4_store_e4m3x16_cs, fp4_mxfp8_quantize_x16(v))
BLOCKS(mxfp8_x8, fp4_load_f32x8, fp4_store_e4m3x8, fp4_mxfp8_quantize_x8(v))
BLOCKS(mxfp8_x8_cs, fp4_load_f32x8, fp4_store_e4m3x8_cs, fp4_mxfp8_quantize_x8(v))

/* Type and format as arguments: of each pair the instructions are the same. */
#define FORMATTED(name, load, quantize, store_codes, store) \
    KERNEL name(const uint8_t *x, float mul, float amax, float global_enc, uint8_t *q, uint8_t *y) \
    { \
        const size_t i = (size_t)thread() * 64; \
        const fp4_f32x16 v = load; \
        uint32_t care = 0; \
        const auto p = quantize; \
        store_codes; \
        store; \
        q[i + 16] = p.sf; \
        y[i + 64] = (uint8_t)care; \
    }
#define PAIR(name, type, format, load, quantize, store_codes, store) \
    FORMATTED(named_##name, load(x + i), quantize, store_codes(q + i, p.q), store(y + i)) \
    FORMATTED(format_##name, fp4_load_x16(type, x + i), AS_##name(format), \
              fp4_store_codes_x16(format, q + i, p), fp4_store_x16(type, y + i, v))
#define STORE_F32(y) fp4_store_u32x16(y, fp4_f32x16_to_u32x16(v))
#define STORE_F16(y) fp4_store_u32x8(y, fp4_f32x16_to_f16x16(v))
#define STORE_BF16(y) fp4_store_u32x8(y, fp4_f32x16_to_bf16x16(v))
#define AS_nvfp4(format) fp4_quantize_x16(format, v, global_enc)
#define AS_mxfp4 AS_nvfp4
#define AS_mxfp8 AS_nvfp4
#define AS_scaled(format) fp4_quantize_scaled_x16(format, v, mul, global_enc)
#define AS_known(format) fp4_quantize_known_x16(format, v, amax, global_enc, &care)
#define AS_scaled_known(format) \
    fp4_quantize_scaled_known_x16(format, v, amax, mul, global_enc, &care)
#define AS_any(format) fp4_quantize_any_x16(format, v, global_enc)
#define AS_scaled_any(format) fp4_quantize_scaled_any_x16(format, v, mul, global_enc)
#define AS_given(format) fp4_quantize_given_x16(format, v, amax, global_enc)

PAIR(nvfp4, FP4_F32, FP4_NVFP4, fp4_load_f32x16, fp4_nvfp4_quantize(v, global_enc),
     fp4_store_e2m1x16, STORE_F32)
PAIR(mxfp4, FP4_F16, FP4_MXFP4, fp4_load_f16x16, fp4_mxfp4_quantize_x16(v), fp4_store_e2m1x16,
     STORE_F16)
PAIR(mxfp8, FP4_BF16, FP4_MXFP8, fp4_load_bf16x16, fp4_mxfp8_quantize_x16(v), fp4_store_e4m3x16,
     STORE_BF16)
PAIR(scaled, FP4_BF16, FP4_MXFP4, fp4_load_bf16x16, fp4_mxfp4_quantize_scaled_x16(v, mul),
     fp4_store_e2m1x16, STORE_BF16)
PAIR(known, FP4_BF16, FP4_NVFP4_32, fp4_load_bf16x16,
     fp4_nvfp4_quantize_known_x16(v, amax, global_enc, &care), fp4_store_e2m1x16, STORE_BF16)
PAIR(scaled_known, FP4_BF16, FP4_MXFP8, fp4_load_bf16x16,
     fp4_mxfp8_quantize_scaled_known_x16(v, amax, mul, &care), fp4_store_e4m3x16, STORE_BF16)
PAIR(any, FP4_BF16, FP4_MXFP4_16, fp4_load_bf16x16, fp4_mxfp4_quantize_any_x16(v, 1),
     fp4_store_e2m1x16, STORE_BF16)
PAIR(scaled_any, FP4_BF16, FP4_NVFP4, fp4_load_bf16x16,
     fp4_nvfp4_quantize_scaled_any_x16(v, 1, mul, global_enc), fp4_store_e2m1x16, STORE_BF16)
PAIR(given, FP4_BF16, FP4_NVFP4, fp4_load_bf16x16,
     fp4_nvfp4_quantize_given_x16(v, amax, global_enc), fp4_store_e2m1x16, STORE_BF16)

/* Formats without functions of their own; e4m3. */
FORMATTED(e4m3_to_nvfp4_32, fp4_load_x16(FP4_E4M3, x + i),
          fp4_quantize_scaled_x16(FP4_NVFP4_32, v, mul, global_enc),
          fp4_store_codes_x16(FP4_NVFP4_32, q + i, p), fp4_store_x16(FP4_E4M3, y + i, v))
FORMATTED(e4m3_to_mxfp4_16, fp4_load_x16(FP4_E4M3, x + i),
          fp4_quantize_scaled_x16(FP4_MXFP4_16, v, mul, global_enc),
          fp4_store_codes_x16(FP4_MXFP4_16, q + i, p), fp4_store_x16(FP4_E4M3, y + i, v))

/* A piece of a row, its block over so many lanes: as known, as any, and its scale bytes. */
#define PIECES(name, lanes, store, codes, known, any) \
    KERNEL name(const float *x, float mul, float global_enc, uint8_t *q, uint8_t *sf) \
    { \
        const fp4_f32x16 t = fp4_load_f32x16(x + (size_t)thread() * 16); \
        const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), lanes); \
        uint32_t care; \
        auto p = known; \
        (void)mul, (void)global_enc; \
        if (fp4_ptx_any(0xffffffffu, care != 0)) { \
            p = any; \
        } \
        store(q + (size_t)thread() * codes, p.q); \
        fp4_store_sf_word(FP4_LAYOUT_128X4, sf, blockIdx.x, threadIdx.x / lanes * 4, 300, \
                          fp4_sf_words(p.sf, lanes)); \
    }

PIECES(nvfp4_piece, 1, fp4_store_e2m1x16, 8,
       fp4_nvfp4_quantize_scaled_known_x16(t, amax, mul, global_enc, &care),
       fp4_nvfp4_quantize_scaled_any_x16(t, 1, mul, global_enc))
PIECES(nvfp4_32_piece, 2, fp4_store_e2m1x16, 8,
       fp4_nvfp4_quantize_known_x16(t, amax, global_enc, &care),
       fp4_nvfp4_quantize_any_x16(t, 2, global_enc))
PIECES(mxfp4_piece, 2, fp4_store_e2m1x16, 8,
       fp4_mxfp4_quantize_scaled_known_x16(t, amax, mul, &care),
       fp4_mxfp4_quantize_scaled_any_x16(t, 2, mul))
PIECES(mxfp4_16_piece, 1, fp4_store_e2m1x16, 8, fp4_mxfp4_quantize_known_x16(t, amax, &care),
       fp4_mxfp4_quantize_any_x16(t, 1))
PIECES(mxfp8_piece, 2, fp4_store_e4m3x16, 16,
       fp4_mxfp8_quantize_scaled_known_x16(t, amax, mul, &care),
       fp4_mxfp8_quantize_scaled_any_x16(t, 2, mul))
PIECES(mxfp8_own_piece, 2, fp4_store_e4m3x16, 16, fp4_mxfp8_quantize_known_x16(t, amax, &care),
       fp4_mxfp8_quantize_any_x16(t, 2))

/* A piece with the amax of its block given, and what was clipped. */
#define GIVEN(name, store, codes, most, quantize) \
    KERNEL name(const float *x, const float *amaxes, float global_enc, uint8_t *q, uint32_t *bits) \
    { \
        const fp4_f32x16 v = fp4_load_f32x16(x + (size_t)thread() * 16); \
        const float amax = amaxes[thread()]; \
        const auto p = quantize; \
        store(q + (size_t)thread() * codes, p.q); \
        bits[thread()] = fp4_clipped_x16(v, global_enc, most) | (uint32_t)p.sf << 16; \
    }

GIVEN(nvfp4_given, fp4_store_e2m1x16, 8, FP4_E2M1_MAX,
      fp4_nvfp4_quantize_given_x16(v, amax, global_enc))
GIVEN(mxfp4_given, fp4_store_e2m1x16, 8, FP4_E2M1_MAX, fp4_mxfp4_quantize_given_x16(v, amax))
GIVEN(mxfp8_given, fp4_store_e4m3x16, 16, FP4_E4M3_MAX, fp4_mxfp8_quantize_given_x16(v, amax))

KERNEL modelopt_fake(const float *x, const float *scale, int wants_clipped, uint8_t *y,
                     uint32_t *bits)
{
    const fp4_f32x16 v = fp4_load_f32x16(x + (size_t)thread() * 16);
    const fp4_f32x16 fake =
        fp4_modelopt_fake_x16(v, scale[thread()], wants_clipped, &bits[thread()]);

    fp4_store_u32x16(y + (size_t)thread() * 64, fp4_f32x16_to_u32x16(fake));
}

KERNEL modelopt_scales(const float *amax, const float *global, float *scale)
{
    scale[0] = fp4_modelopt_cvt_scale_at(amax[thread()], fp4_modelopt_level_of(global[0], 448.0f));
    scale[1] = fp4_modelopt_cvt_dynamic_scale_at(amax[thread()], global[1]);
}

/* Blocks of a quad's accumulators. */
#define QUAD(name, fragment, count, store, codes, quantized) \
    KERNEL name(const float *x, float mul, float global_enc, uint8_t *q, uint8_t *sf) \
    { \
        const fragment t = fp4_load_f32x##count(x + (size_t)thread() * count); \
        const auto b = quantized; \
        store(q + (size_t)thread() * codes, b.q); \
        sf[thread()] = b.sf; \
    }

QUAD(nvfp4_quad, fp4_f32x16, 16, fp4_store_e2m1x16, 8, fp4_nvfp4_quantize_quad(t, global_enc))
QUAD(nvfp4_scaled_quad, fp4_f32x16, 16, fp4_store_e2m1x16, 8,
     fp4_nvfp4_quantize_scaled_quad(t, mul, global_enc))
QUAD(mxfp4_quad, fp4_f32x32, 32, fp4_store_e2m1x32, 16, fp4_mxfp4_quantize_quad(t))
QUAD(mxfp4_scaled_quad, fp4_f32x32, 32, fp4_store_e2m1x32, 16,
     fp4_mxfp4_quantize_scaled_quad(t, mul))
QUAD(mxfp8_quad, fp4_f32x32, 32, fp4_store_e4m3x32, 32, fp4_mxfp8_quantize_quad(t))
QUAD(mxfp8_scaled_quad, fp4_f32x32, 32, fp4_store_e4m3x32, 32,
     fp4_mxfp8_quantize_scaled_quad(t, mul))

/* Of ModelOpt's tensors: 16 elements with the scale byte of their block, and 8 back. */
#define ENCODED(name, store, codes, encoded, decoded) \
    KERNEL name(float *x, uint8_t *sf, float dec, uint8_t *q) \
    { \
        float *at = x + (size_t)thread() * 16; \
        const uint8_t byte = sf[thread()]; \
        const fp4_f32x16 v = fp4_load_f32x16(at); \
        const auto c = encoded; \
        store(q + (size_t)thread() * codes, c.v); \
        fp4_store_u32x16(at, fp4_f32x16_to_u32x16(fp4_join_x8(decoded, fp4_high_x8(v)))); \
    }

ENCODED(modelopt_nvfp4_x16, fp4_store_e2m1x16, 8,
        fp4_modelopt_nvfp4_encode_x16(v, fp4_amax_or_nan_x16(v), byte, dec),
        fp4_modelopt_nvfp4_dequantize_x8(c.v[0], byte, dec))
ENCODED(modelopt_mxfp4_x16, fp4_store_e2m1x16, 8, fp4_modelopt_mxfp4_encode_x16(v, byte),
        fp4_modelopt_mxfp4_dequantize_x8(c.v[0], byte))

KERNEL modelopt_mxfp8_x16(float *x, const uint8_t *sf, uint8_t *q)
{
    float *at = x + (size_t)thread() * 16;
    const fp4_f32x16 v = fp4_load_f32x16(at);
    const fp4_u32x4 c = fp4_modelopt_mxfp8_encode_x16(v, sf[thread()]);
    const fp4_u32x2 low = {{c.v[0], c.v[1]}};
    const fp4_f32x8 back = fp4_modelopt_mxfp8_dequantize_x8(low, sf[thread()]);

    fp4_store_e4m3x16(q + (size_t)thread() * 16, c.v);
    fp4_store_u32x16(at, fp4_f32x16_to_u32x16(fp4_join_x8(back, fp4_high_x8(v))));
}

KERNEL modelopt_sf(const float *amax, float global_amax, uint8_t *sf)
{
    sf[2 * thread()] = fp4_modelopt_cvt_nvfp4_sf(amax[thread()], global_amax);
    sf[2 * thread() + 1] = fp4_modelopt_cvt_nvfp4_static_sf(amax[thread()], global_amax, 448.0f);
}

KERNEL modelopt_nvfp4(const float *x, float global_dec, uint8_t *q, uint8_t *sf)
{
    const fp4_nvfp4_block b =
        fp4_modelopt_nvfp4_quantize(fp4_load_f32x16(x + (size_t)thread() * 16), global_dec);
    fp4_store_e2m1x16(q + (size_t)thread() * 8, b.q);
    sf[thread()] = b.sf;
}

KERNEL modelopt_mxfp4(const float *x, uint8_t *q, uint8_t *sf)
{
    const fp4_mxfp4_block b =
        fp4_modelopt_mxfp4_quantize(fp4_load_f32x32(x + (size_t)thread() * 32));
    fp4_store_e2m1x32(q + (size_t)thread() * 16, b.q);
    sf[thread()] = b.sf;
}

KERNEL modelopt_mxfp8(const float *x, uint8_t *q, uint8_t *sf)
{
    const fp4_mxfp8_block b =
        fp4_modelopt_mxfp8_quantize(fp4_load_f32x32(x + (size_t)thread() * 32));
    fp4_store_e4m3x32(q + (size_t)thread() * 32, b.q);
    sf[thread()] = b.sf;
}

/* A row of any length, four pieces a thread at a time, or one. */
#define ROWS(name, number) \
    KERNEL name(const float *x, uint32_t cols, uint32_t rows, float *sum, uint8_t *sf) \
    { \
        __shared__ float smem[FP4_ROW_EACH * FP4_ROW_THREADS + 32]; \
        const fp4_row_cut cut = {blockDim.x, number, cols / 16, 0, 0, number == 4}; \
        float of_thread = 0.0f; \
        if (blockIdx.x >= rows) { \
            fp4_row_store_padding(FP4_LAYOUT_8X4, sf, blockIdx.x, cut, 2); \
            return; \
        } \
        for (uint32_t turn = 0; turn < fp4_row_turns(cut); turn++) { \
            uint32_t bytes = 0; \
            for (uint32_t j = 0; j < number && fp4_row_has_any(cut, turn, j); j++) { \
                const uint32_t piece = fp4_row_piece(cut, turn, j); \
                if (fp4_row_has(cut, turn, j)) { \
                    const fp4_f32x16 v = fp4_load_f32x16(x + piece * 16); \
                    of_thread = fp4_add_rn(of_thread, fp4_sumsq_x16(v, 0.0f)); \
                    bytes |= 0x38u << (8 * j); \
                } \
            } \
            fp4_row_store_sf(FP4_LAYOUT_8X4, sf, blockIdx.x, cut, turn, 2, bytes); \
        } \
        sum[blockIdx.x] = fp4_row_sum(of_thread, cut, fp4_row_threads(cols), smem); \
    }

ROWS(row_by_fours, 4)
ROWS(row_by_ones, 1)

KERNEL row_sum_and_max(uint32_t cols, const float *x, float *out)
{
    __shared__ float smem[256 + 32], smem_max[32];
    const fp4_row_cut cut = fp4_row_cut_of(cols);
    float max = fp4_ptx_abs(x[thread()]);

    out[0] =
        fp4_row_sum_and_max_or_nan(x[thread()], &max, cut, fp4_row_threads(cols), smem, smem_max);
    out[1] = max;
}

/* A template that keeps its pieces. */
template <int EACH> static __device__ __forceinline__ void kept_row(const float *x, float *y)
{
    const fp4_row_cut cut = fp4_row_cut_kept(EACH, 64, EACH * 64 * FP4_ROW_PIECE);
    __shared__ float smem[32];
    fp4_f32x16 kept[EACH];
    float sum = 0.0f;

#pragma unroll
    for (uint32_t j = 0; j < cut.each; j++) {
        kept[j] = fp4_load_f32x16(x + (size_t)FP4_ROW_PIECE * fp4_row_piece(cut, 0, j));
        sum = fp4_add_rn(sum, fp4_sum_x16(kept[j], 0.0f));
    }
    sum = fp4_row_sum(sum, cut, cut.threads, smem);
#pragma unroll
    for (uint32_t j = 0; j < cut.each; j++) {
        fp4_store_x16(FP4_F32, y + (size_t)FP4_ROW_PIECE * fp4_row_piece(cut, 0, j),
                      fp4_scale_x16(kept[j], sum));
    }
}

KERNEL row_kept(const float *x, float *y)
{
    kept_row<4>(x, y);
}

KERNEL row_columns(uint32_t pieces, uint32_t *cols)
{
    const fp4_row_cut cut = {blockDim.x, 4, pieces, 0};
    cols[thread()] = fp4_row_has_sf_word(cut, 0, 1) ? fp4_row_sf_col(cut, 0, 1) : ~0u;
}

KERNEL four_rows(fp4_layout layout, uint8_t *sf, uint32_t rows, uint32_t padded, uint32_t alone,
                 uint32_t pieces, uint32_t bytes)
{
    __shared__ uint32_t words[FP4_ROW_FOUR][FP4_ROW_WORDS];
    const fp4_row_cut cut = {blockDim.x, 4, pieces, 0, 1};
    const uint32_t fours = fp4_row_fours(padded, alone);
    uint32_t row = fp4_row_of_four(layout, blockIdx.x, fours);

    do {
        uint32_t *of = words[fp4_row_in_four(layout, row)];
        if (row < rows) {
            fp4_row_keep_sf(of, cut, 0, 1, bytes);
        } else {
            fp4_row_keep_padding(of, cut, 1);
        }
        row += fp4_row_step_of_four(layout);
    } while (fp4_row_in_four(layout, row) != 0 && blockIdx.x < fours);
    fp4_ptx_barrier();
    row = fp4_row_of_four(layout, blockIdx.x, fours);
    fp4_row_store_four(layout, sf, blockIdx.x, fours, cut, 1, words, fp4_row_in_four(layout, row));
}

KERNEL store_sf_words(fp4_layout layout, uint8_t *sf, uint32_t sf_cols, const uint32_t *words)
{
    fp4_store_sf_word(layout, sf, blockIdx.x, threadIdx.x * 4, sf_cols, words[thread()]);
}

KERNEL requantize(const uint8_t *x, float dec, float global_enc, uint8_t *q)
{
    __shared__ uint4 nvfp4_table[2 * FP4_REQUANT_ROWS], mxfp4_table[2 * FP4_REQUANT_ROWS];
    const fp4_u32x4 v = fp4_load_u32x4(x + (size_t)thread() * 16);

    fp4_nvfp4_requant_row(nvfp4_table, threadIdx.x, dec, global_enc);
    fp4_mxfp4_requant_row(mxfp4_table, threadIdx.x, dec);
    fp4_ptx_barrier();
    const fp4_nvfp4_block block = fp4_nvfp4_requantize(v, nvfp4_table, dec, global_enc);
    const fp4_part2 part = fp4_mxfp4_requantize_x16(v, mxfp4_table, dec);
    fp4_store_e2m1x16(q + (size_t)thread() * 32, block.q);
    fp4_store_e2m1x16(q + (size_t)thread() * 32 + 8, part.q);
    q[(size_t)thread() * 32 + 16] = block.sf;
    q[(size_t)thread() * 32 + 17] = part.sf;
}

KERNEL padding(uint8_t *sf, size_t rows, size_t sf_cols)
{
    fp4_sf_pad_128x4(sf, rows, sf_cols);
    fp4_sf_pad_8x4(sf + 16384, rows, sf_cols);
    fp4_sf_pad_linear(sf, rows, sf_cols);
    fp4_sf_pad(FP4_LAYOUT_8X4, sf + 32768 * blockIdx.x, rows, sf_cols, threadIdx.x, blockDim.x);
}

/* ------------------------------------------------------------ dequantize */

KERNEL dequantize(const uint32_t *q, const uint8_t *sf, float global_dec, float *sumsq)
{
    sumsq[0] = fp4_sumsq_x16(fp4_nvfp4_dequantize(q, sf[0], global_dec), 0.0f);
    sumsq[1] = fp4_sumsq_x32(fp4_mxfp4_dequantize(q + 2, sf[1]), 0.0f);
    sumsq[2] = fp4_sumsq_x32(fp4_mxfp8_dequantize(q + 6, sf[2]), 0.0f);
}

KERNEL dequantize_parts(const uint32_t *q, const uint8_t *sf, float global_dec, float *sumsq)
{
    const fp4_u32x2 codes = {{q[0], q[1]}};

    sumsq[0] = fp4_sumsq_x16(fp4_nvfp4_dequantize_scales_first(q, sf[0], global_dec), 0.0f);
    sumsq[1] = fp4_sumsq_x16(fp4_mxfp4_dequantize_x16(q + 2, sf[1]), 0.0f);
    sumsq[2] = fp4_sumsq_x16(fp4_mxfp8_dequantize_x16(q + 4, sf[2]), 0.0f);
    sumsq[3] = fp4_sumsq_x8(
        fp4_e2m1x8_dequantize(q[8], fp4_nvfp4_dec(sf[3], global_dec, FP4_SCALES_FIRST)), 0.0f);
    sumsq[4] = fp4_sumsq_x8(fp4_e2m1x8_dequantize(q[9], fp4_mxfp4_dec(sf[4])), 0.0f);
    sumsq[5] = fp4_sumsq_x8(fp4_e2m1x8_dequantize(q[10], fp4_dec_of(global_dec)), 0.0f);
    sumsq[6] = fp4_sumsq_x8(fp4_e4m3x8_dequantize(codes, global_dec), 0.0f);
}

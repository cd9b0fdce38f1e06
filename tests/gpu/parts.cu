/* tests/gpu/parts.cu - see parts.h. PARTS is the name of the table that is made here. */
#include "kernel.h"
#include "parts.h"

#include <fp4/device/activation.cuh>
#include <fp4/device/dequant.cuh>
#include <fp4/device/format.cuh>
#include <fp4/device/load.cuh>
#include <fp4/device/mma.cuh>
#include <fp4/device/modelopt.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/reduce.cuh>
#include <fp4/device/requant.cuh>
#include <fp4/device/rope.cuh>
#include <fp4/device/row.cuh>
#include <fp4/device/store.cuh>

#if !defined(PARTS)
#define PARTS gpu_parts_default
#endif

#define TEXT_(word) #word
#define TEXT(word) TEXT_(word)

/* This file is linked four times: everything but the table is its own. */
namespace
{

enum { THREADS = 128 };

static __device__ size_t thread_number()
{
    return (size_t)blockIdx.x * blockDim.x + threadIdx.x;
}

static unsigned ctas_of(size_t threads)
{
    return (unsigned)((threads + THREADS - 1) / THREADS);
}

/* ------------------------------------------------------------------------------ what it is */

static __global__ void describe_kernel(int *out)
{
    out[0] = FP4_ARCH_CVT_E2M1;
    out[1] = FP4_ARCH_CVT_E4M3;
    out[2] = FP4_ARCH_CVT_F16X2;
    out[3] = FP4_ARCH_MAX_NAN;
    out[4] = FP4_ARCH_MAX_ABS_X2;
    out[5] = fp4_is_native();
    out[6] = fp4_is_native_e4m3();
    out[7] = FP4_ARCH;
}

static cudaError_t describe(int *out)
{
    GPU_LAUNCH(describe_kernel, 1, 1, out);
    return cudaGetLastError();
}

/* ------------------------------------------------------------------------------ from f32 */

static __device__ void nibbles(uint32_t q, uint8_t *c)
{
    for (int i = 0; i < 8; i++) {
        c[i] = (uint8_t)(q >> (4 * i) & 15);
    }
}

static __device__ void bytes(const fp4_u32x2 &q, uint8_t *c)
{
    for (int i = 0; i < 8; i++) {
        c[i] = (uint8_t)(q.v[i / 4] >> (8 * (i % 4)));
    }
}

static __device__ void halves(const fp4_u32x4 &w, uint16_t *c)
{
    for (int i = 0; i < 8; i++) {
        c[i] = (uint16_t)(w.v[i / 2] >> (16 * (i % 2)));
    }
}

#define ENCODER(name, type) \
    struct name { \
        typedef type result; \
        static __device__ void encode(const fp4_f32x8 &x, type *c); \
    }; \
    __device__ void name::encode(const fp4_f32x8 &x, type *c)

ENCODER(to_e2m1x8, uint8_t)
{
    nibbles(fp4_f32x8_to_e2m1x8(x), c);
}

ENCODER(to_e2m1x8_below_7, uint8_t)
{
    nibbles(fp4_f32x8_to_e2m1x8_below_7(x), c);
}

ENCODER(to_e2m1x8_ties_down, uint8_t)
{
    nibbles(fp4_f32x8_to_e2m1x8_ties_down_below_7(x), c);
}

ENCODER(to_e2m1x8_up, uint8_t)
{
    nibbles(fp4_f32x8_times_power_to_e2m1x8_below_7(x, fp4_bits_f32((127u + 124u) << 23)), c);
}

ENCODER(to_e2m1x8_far_down, uint8_t)
{
    const float power = fp4_bits_f32((127u - 111u) << 23);
    nibbles(fp4_f32x8_times_power_to_e2m1x8_below_7(x, power), c);
}

ENCODER(to_e2m1x8_sr, uint8_t)
{
    fp4_u32x2 random = {{0, 0}};

    for (int i = 0; i < 8; i++) {
        random.v[i / 4] |= (uint32_t)PARTS_RANDOM(fp4_f32_bits(x.v[i])) << (8 * (i % 4));
    }
    nibbles(fp4_f32x8_to_e2m1x8_sr(x, random), c);
}

ENCODER(to_e2m1x16_low, uint8_t)
{
    const fp4_f32x8 other = {{6.0f, -6.0f, 6.0f, 6.0f, 6.0f, 6.0f, -6.0f, 6.0f}};
    nibbles(fp4_f32x16_to_e2m1x16(fp4_join_x8(x, other)).v[0], c);
}

ENCODER(to_e2m1x16_high, uint8_t)
{
    const fp4_f32x8 other = {{6.0f, -6.0f, 6.0f, 6.0f, 6.0f, 6.0f, -6.0f, 6.0f}};
    nibbles(fp4_f32x16_to_e2m1x16(fp4_join_x8(other, x)).v[1], c);
}

ENCODER(to_e2m1x2, uint8_t)
{
    for (int i = 0; i < 8; i += 2) {
        const uint8_t q = fp4_f32x2_to_e2m1x2(x.v[i], x.v[i + 1]);
        c[i] = q & 15;
        c[i + 1] = q >> 4;
    }
}

ENCODER(to_e4m3x8, uint8_t)
{
    bytes(fp4_f32x8_to_e4m3x8(x), c);
}

ENCODER(to_e4m3x2, uint8_t)
{
    for (int i = 0; i < 8; i += 2) {
        const uint16_t q = fp4_f32x2_to_e4m3x2(x.v[i], x.v[i + 1]);
        c[i] = (uint8_t)q;
        c[i + 1] = (uint8_t)(q >> 8);
    }
}

ENCODER(to_e4m3, uint8_t)
{
    for (int i = 0; i < 8; i++) {
        c[i] = fp4_cvt_f32_to_e4m3(x.v[i]);
    }
}

ENCODER(to_e8m0_up, uint8_t)
{
    for (int i = 0; i < 8; i++) {
        c[i] = fp4_cvt_f32_to_e8m0_up(x.v[i]);
    }
}

ENCODER(to_f16x8, uint16_t)
{
    halves(fp4_f32x8_to_f16x8(x), c);
}

ENCODER(to_f16x2, uint16_t)
{
    for (int i = 0; i < 8; i += 2) {
        const uint32_t w = fp4_cvt_f32x2_to_f16x2(x.v[i], x.v[i + 1]);
        c[i] = (uint16_t)w;
        c[i + 1] = (uint16_t)(w >> 16);
    }
}

ENCODER(to_bf16x8, uint16_t)
{
    halves(fp4_f32x8_to_bf16x8(x), c);
}

ENCODER(to_bf16x2, uint16_t)
{
    for (int i = 0; i < 8; i += 2) {
        const uint32_t w = fp4_cvt_f32x2_to_bf16x2(x.v[i], x.v[i + 1]);
        c[i] = (uint16_t)w;
        c[i + 1] = (uint16_t)(w >> 16);
    }
}

/* Eight as a half of sixteen, among others. */
static __device__ fp4_f32x16 as_half(const fp4_f32x8 &x, int is_high)
{
    const fp4_f32x8 other = {{1.0f, -2.0f, 3.0f, -4.0f, 5.0f, -6.0f, 7.0f, -8.0f}};
    return is_high ? fp4_join_x8(other, x) : fp4_join_x8(x, other);
}

static __device__ void half_of_halves(const fp4_u32x8 &w, int is_high, uint16_t *c)
{
    const uint32_t *v = w.v + 4 * is_high;
    const fp4_u32x4 four = {{v[0], v[1], v[2], v[3]}};
    halves(four, c);
}

ENCODER(to_f16x16_low, uint16_t)
{
    half_of_halves(fp4_f32x16_to_f16x16(as_half(x, 0)), 0, c);
}

ENCODER(to_f16x16_high, uint16_t)
{
    half_of_halves(fp4_f32x16_to_f16x16(as_half(x, 1)), 1, c);
}

ENCODER(to_bf16x16_low, uint16_t)
{
    half_of_halves(fp4_f32x16_to_bf16x16(as_half(x, 0)), 0, c);
}

ENCODER(to_bf16x16_high, uint16_t)
{
    half_of_halves(fp4_f32x16_to_bf16x16(as_half(x, 1)), 1, c);
}

static __device__ void half_of_words(const fp4_u32x16 &w, int is_high, uint32_t *c)
{
    for (int i = 0; i < 8; i++) {
        c[i] = w.v[8 * is_high + i];
    }
}

ENCODER(to_u32x16_low, uint32_t)
{
    half_of_words(fp4_f32x16_to_u32x16(as_half(x, 0)), 0, c);
}

ENCODER(to_u32x16_high, uint32_t)
{
    half_of_words(fp4_f32x16_to_u32x16(as_half(x, 1)), 1, c);
}

ENCODER(to_rcp_newton, float)
{
    for (int i = 0; i < 8; i++) {
        c[i] = fp4_rcp_newton_(x.v[i]);
    }
}

ENCODER(to_rcp_rn, float)
{
    for (int i = 0; i < 8; i++) {
        c[i] = fp4_rcp_rn(x.v[i]);
    }
}

ENCODER(to_rsqrt, float)
{
    for (int i = 0; i < 8; i++) {
        c[i] = fp4_rsqrt_rn(x.v[i]);
    }
}

template <class How>
static __global__ void encode_kernel(uint32_t first, size_t count, unsigned turn,
                                     typename How::result *out)
{
    const size_t at = 8 * thread_number();
    typename How::result c[8];
    fp4_f32x8 x;

    if (at >= count) {
        return;
    }
    for (unsigned i = 0; i < 8; i++) {
        x.v[i] = fp4_bits_f32(first + (uint32_t)at + ((i - turn) & 7));
    }
    How::encode(x, c);
    for (unsigned i = 0; i < 8; i++) {
        const size_t k = at + ((i - turn) & 7);
        if (k < count) {
            out[k] = c[i];
        }
    }
}

template <class How>
static cudaError_t encode_by(uint32_t first, size_t count, unsigned turn, void *out)
{
    GPU_LAUNCH(encode_kernel<How>, ctas_of((count + 7) / 8), THREADS, first, count, turn,
               (typename How::result *)out);
    return cudaGetLastError();
}

static cudaError_t encode(parts_encoder how, uint32_t first, size_t count, unsigned turn, void *out)
{
    static cudaError_t (*const by[PARTS_ENCODERS])(uint32_t, size_t, unsigned,
                                                   void *) = {encode_by<to_e2m1x8>,
                                                              encode_by<to_e2m1x8_below_7>,
                                                              encode_by<to_e2m1x8_ties_down>,
                                                              encode_by<to_e2m1x8_up>,
                                                              encode_by<to_e2m1x8_far_down>,
                                                              encode_by<to_e2m1x8_sr>,
                                                              encode_by<to_e2m1x16_low>,
                                                              encode_by<to_e2m1x16_high>,
                                                              encode_by<to_e2m1x2>,
                                                              encode_by<to_e4m3x8>,
                                                              encode_by<to_e4m3x2>,
                                                              encode_by<to_e4m3>,
                                                              encode_by<to_e8m0_up>,
                                                              encode_by<to_f16x8>,
                                                              encode_by<to_f16x2>,
                                                              encode_by<to_bf16x8>,
                                                              encode_by<to_bf16x2>,
                                                              encode_by<to_f16x16_low>,
                                                              encode_by<to_f16x16_high>,
                                                              encode_by<to_bf16x16_low>,
                                                              encode_by<to_bf16x16_high>,
                                                              encode_by<to_u32x16_low>,
                                                              encode_by<to_u32x16_high>,
                                                              encode_by<to_rcp_newton>,
                                                              encode_by<to_rcp_rn>,
                                                              encode_by<to_rsqrt>};
    return by[how](first, count, turn, out);
}

/* ------------------------------------------------------------------------------ to f32 */

static __device__ fp4_f32x8 decode_eight(parts_decoder how, const uint32_t *w)
{
    const fp4_u32x2 two = {{w[0], how <= FROM_E2M1X8_U8 ? 0 : w[1]}};
    fp4_f32x8 x;

    if (how == FROM_E2M1X8) {
        return fp4_e2m1x8_to_f32x8(w[0]);
    }
    if (how == FROM_E2M1X8_UNITS) {
        return fp4_scale_x8(fp4_e2m1x8_to_units(w[0]), fp4_e2m1_unit());
    }
    if (how == FROM_E2M1X8_F16) {
        return fp4_f16x8_to_f32x8(fp4_e2m1x8_to_f16x8(w[0]));
    }
    if (how == FROM_E2M1X8_BF16) {
        return fp4_bf16x8_to_f32x8(fp4_e2m1x8_to_bf16x8(w[0]));
    }
    if (how == FROM_E2M1X8_U8) {
        const fp4_u32x2 u8 = fp4_e2m1x8_to_u8x8(w[0], fp4_e2m1_u8_table());
        for (int i = 0; i < 8; i++) {
            x.v[i] = (float)(uint8_t)(u8.v[i / 4] >> (8 * (i % 4)));
        }
        return x;
    }
    if (how == FROM_E4M3X8) {
        return fp4_e4m3x8_to_f32x8(two);
    }
    if (how == FROM_E4M3) {
        for (int i = 0; i < 8; i++) {
            x.v[i] = fp4_cvt_e4m3_to_f32((uint8_t)(two.v[i / 4] >> (8 * (i % 4))));
        }
        return x;
    }
    const fp4_u32x4 four = {{w[0], w[1], w[2], w[3]}};
    return how == FROM_F16X8 ? fp4_f16x8_to_f32x8(four) : fp4_bf16x8_to_f32x8(four);
}

static __global__ void decode_kernel(parts_decoder how, const uint32_t *words, size_t eights,
                                     float *out)
{
    const size_t i = thread_number(), each = how <= FROM_E2M1X8_U8 ? 1 : how <= FROM_E4M3 ? 2 : 4;

    if (i < eights) {
        const fp4_f32x8 x = decode_eight(how, words + each * i);
        for (int k = 0; k < 8; k++) {
            out[8 * i + k] = x.v[k];
        }
    }
}

static cudaError_t decode(parts_decoder how, const uint32_t *words, size_t eights, float *out)
{
    GPU_LAUNCH(decode_kernel, ctas_of(eights), THREADS, how, words, eights, out);
    return cudaGetLastError();
}

static __global__ void dot_kernel(int is_signed, const uint32_t *a, const uint32_t *b,
                                  const uint32_t *sum, size_t n, uint32_t *out)
{
    const size_t i = thread_number();

    if (i < n) {
        out[i] =
            is_signed ? fp4_ptx_dot_u8s8(a[i], b[i], sum[i]) : fp4_ptx_dot_u8u8(a[i], b[i], sum[i]);
    }
}

static cudaError_t dot(int is_signed, const uint32_t *a, const uint32_t *b, const uint32_t *sum,
                       size_t n, uint32_t *out)
{
    GPU_LAUNCH(dot_kernel, ctas_of(n), THREADS, is_signed, a, b, sum, n, out);
    return cudaGetLastError();
}

/* ------------------------------------------------------------------------------ loads, stores */

#define LOAD_KERNEL(type, count, bytes, cs) \
    static __global__ void load_##type##x##count##cs(const uint8_t *x, size_t n, float *out) \
    { \
        const size_t i = thread_number(); \
        if (i < n) { \
            const fp4_f32x##count v = fp4_load_##type##x##count##cs(x + i * (count * bytes)); \
            for (int k = 0; k < count; k++) { \
                out[i * count + k] = v.v[k]; \
            } \
        } \
    }

#define LOAD_KERNELS(type, bytes) \
    LOAD_KERNEL(type, 8, bytes, ) \
    LOAD_KERNEL(type, 8, bytes, _cs) \
    LOAD_KERNEL(type, 16, bytes, ) \
    LOAD_KERNEL(type, 16, bytes, _cs) \
    LOAD_KERNEL(type, 32, bytes, ) LOAD_KERNEL(type, 32, bytes, _cs)

LOAD_KERNELS(f32, 4)
LOAD_KERNELS(f16, 2)
LOAD_KERNELS(bf16, 2)
LOAD_KERNELS(e4m3, 1)

#define LOAD_WORDS_KERNEL(type, words, cs) \
    static __global__ void load_##type##_words##cs(const uint8_t *x, size_t n, float *out) \
    { \
        const size_t i = thread_number(); \
        if (i < n) { \
            const fp4_f32x16 v = \
                fp4_##type##x16_to_f32x16(fp4_load_u32x##words##cs(x + i * (4 * words))); \
            for (int k = 0; k < 16; k++) { \
                out[i * 16 + k] = v.v[k]; \
            } \
        } \
    }

LOAD_WORDS_KERNEL(f32, 16, )
LOAD_WORDS_KERNEL(f32, 16, _cs)
LOAD_WORDS_KERNEL(f16, 8, )
LOAD_WORDS_KERNEL(f16, 8, _cs)
LOAD_WORDS_KERNEL(bf16, 8, )
LOAD_WORDS_KERNEL(bf16, 8, _cs)
LOAD_WORDS_KERNEL(e4m3, 4, )
LOAD_WORDS_KERNEL(e4m3, 4, _cs)

/* The type an argument. */
template <fp4_dtype TYPE> static __global__ void load_as(const uint8_t *x, size_t n, float *out)
{
    const size_t i = thread_number();

    if (i < n) {
        fp4_store_u32x16(out + 16 * i, fp4_f32x16_to_u32x16(fp4_load_x16(
                                           TYPE, x + i * (16 * fp4_dtype_bytes(TYPE)))));
    }
}

template <fp4_dtype TYPE> static __global__ void store_as(const float *x, size_t n, uint8_t *out)
{
    const size_t i = thread_number();

    if (i < n) {
        fp4_store_x16(TYPE, out + i * (16 * fp4_dtype_bytes(TYPE)), fp4_load_f32x16(x + 16 * i));
    }
}

static cudaError_t store_elements(int dtype, const float *x, size_t n, void *out)
{
    typedef void (*kernel)(const float *, size_t, uint8_t *);
    static const kernel by[4] = {store_as<FP4_F32>, store_as<FP4_F16>, store_as<FP4_BF16>,
                                 store_as<FP4_E4M3>};
    GPU_LAUNCH(by[dtype], ctas_of(n), THREADS, x, n, (uint8_t *)out);
    return cudaGetLastError();
}

/* 8, 16, 32 to 0, 1, 2. */
static int size_of(int count)
{
    return count / 16;
}

static cudaError_t load(int dtype, int count, int cs, const void *x, size_t n, float *out)
{
#define LOAD_TABLE(type) \
    {load_##type##x8, load_##type##x8_cs}, {load_##type##x16, load_##type##x16_cs}, \
        {load_##type##x32, load_##type##x32_cs}, \
    { \
        load_##type##_words, load_##type##_words_cs \
    }
    typedef void (*kernel)(const uint8_t *, size_t, float *);
    static const kernel as[4] = {load_as<FP4_F32>, load_as<FP4_F16>, load_as<FP4_BF16>,
                                 load_as<FP4_E4M3>};
    static const kernel by[16][2] = {LOAD_TABLE(f32), LOAD_TABLE(f16), LOAD_TABLE(bf16),
                                     LOAD_TABLE(e4m3)};
    const int at = 4 * dtype + (count == 0 ? 3 : size_of(count));
    const kernel to_launch = count == 1 ? as[dtype] : by[at][cs];

    GPU_LAUNCH(to_launch, ctas_of(n), THREADS, (const uint8_t *)x, n, out);
    return cudaGetLastError();
}

#define STORE_KERNEL(type, count, words, value, cs) \
    static __global__ void store_##type##x##count##cs(const uint32_t *q, size_t n, uint8_t *out, \
                                                      size_t stride) \
    { \
        const size_t i = thread_number(); \
        if (i < n) { \
            uint32_t w[words]; \
            for (int k = 0; k < words; k++) { \
                w[k] = q[i * words + k]; \
            } \
            fp4_store_##type##x##count##cs(out + i * stride, value); \
        } \
    }

#define STORE_KERNELS(cs) \
    STORE_KERNEL(e2m1, 8, 1, w[0], cs) \
    STORE_KERNEL(e2m1, 16, 2, w, cs) \
    STORE_KERNEL(e2m1, 32, 4, w, cs) \
    STORE_KERNEL(e4m3, 8, 2, w, cs) \
    STORE_KERNEL(e4m3, 16, 4, w, cs) STORE_KERNEL(e4m3, 32, 8, w, cs)

STORE_KERNELS()
STORE_KERNELS(_cs)

/* The words as a structure. */
template <class Words> static __device__ Words words_at(const uint32_t *w, size_t i)
{
    enum { COUNT = sizeof(Words) / 4 };
    Words v;

    for (int k = 0; k < COUNT; k++) {
        v.v[k] = w[i * COUNT + k];
    }
    return v;
}

STORE_KERNEL(u32, 4, 4, words_at<fp4_u32x4>(w, 0), )
STORE_KERNEL(u32, 4, 4, words_at<fp4_u32x4>(w, 0), _cs)
STORE_KERNEL(u32, 8, 8, words_at<fp4_u32x8>(w, 0), )
STORE_KERNEL(u32, 16, 16, words_at<fp4_u32x16>(w, 0), )

static cudaError_t store(int bits, int count, int cs, const uint32_t *q, size_t n, uint8_t *out,
                         size_t stride)
{
    typedef void (*kernel)(const uint32_t *, size_t, uint8_t *, size_t);
    static const kernel by[2][3][2] = {{{store_e2m1x8, store_e2m1x8_cs},
                                        {store_e2m1x16, store_e2m1x16_cs},
                                        {store_e2m1x32, store_e2m1x32_cs}},
                                       {{store_e4m3x8, store_e4m3x8_cs},
                                        {store_e4m3x16, store_e4m3x16_cs},
                                        {store_e4m3x32, store_e4m3x32_cs}}};
    static const kernel of_words[3] = {store_u32x4, store_u32x8, store_u32x16};
    const kernel to_launch = bits != 32 ? by[bits / 8][size_of(count)][cs]
                             : cs       ? store_u32x4_cs
                                        : of_words[count / 8];

    GPU_LAUNCH(to_launch, ctas_of(n), THREADS, q, n, out, stride);
    return cudaGetLastError();
}

/* Whole warps call; a lane that is not there has zeros. */
static __global__ void store_by_four_kernel(const uint32_t *w, size_t lanes, uint8_t *out)
{
    const size_t i = thread_number(), first = i / 4 * 4;
    const fp4_u32x16 none = {};

    fp4_store_u32x16_by_four(out + 64 * i, i < lanes ? words_at<fp4_u32x16>(w, i) : none,
                             first < lanes ? (uint32_t)(lanes - first) : 0);
}

static cudaError_t store_by_four(const uint32_t *w, size_t lanes, uint8_t *out)
{
    GPU_LAUNCH(store_by_four_kernel, ctas_of(lanes), THREADS, w, lanes, out);
    return cudaGetLastError();
}

/* The even elements of 32, then the odd ones. */
template <class Words>
static __device__ void put_deinterleaved(void (*deinterleave)(Words *, Words *), const uint32_t *x,
                                         size_t i, uint32_t *out)
{
    enum { COUNT = sizeof(Words) / 4 };
    Words even = words_at<Words>(x, 2 * i), odd = words_at<Words>(x, 2 * i + 1);

    deinterleave(&even, &odd);
    for (int k = 0; k < COUNT; k++) {
        out[2 * i * COUNT + k] = even.v[k];
        out[(2 * i + 1) * COUNT + k] = odd.v[k];
    }
}

static __global__ void deinterleave_kernel(int bits, const uint32_t *x, size_t n, uint32_t *out)
{
    const size_t i = thread_number();

    if (i < n && bits == 16) {
        put_deinterleaved(fp4_deinterleave_u16x16, x, i, out);
    } else if (i < n) {
        put_deinterleaved(fp4_deinterleave_u32x16, x, i, out);
    }
}

static cudaError_t deinterleave(int bits, const uint32_t *x, size_t n, uint32_t *out)
{
    GPU_LAUNCH(deinterleave_kernel, ctas_of(n), THREADS, bits, x, n, out);
    return cudaGetLastError();
}

static __global__ void store_sf_words_kernel(int layout, uint8_t *sf, size_t rows, uint32_t sf_cols,
                                             uint32_t first, uint32_t words, const uint32_t *w)
{
    const size_t i = thread_number();

    if (i < rows * words) {
        fp4_store_sf_word((fp4_layout)layout, sf, i / words, first + (uint32_t)(i % words) * 4,
                          sf_cols, w[i]);
    }
}

static cudaError_t store_sf_words(int layout, uint8_t *sf, size_t rows, uint32_t sf_cols,
                                  uint32_t first, uint32_t words, const uint32_t *w)
{
    GPU_LAUNCH(store_sf_words_kernel, ctas_of(rows * words), THREADS, layout, sf, rows, sf_cols,
               first, words, w);
    return cudaGetLastError();
}

static __global__ void sf_words_kernel(int lanes, const uint32_t *bytes, uint32_t *out)
{
    const size_t i = thread_number();
    out[i] = fp4_sf_words(bytes[i], lanes);
}

static cudaError_t sf_words(int lanes, const uint32_t *bytes, size_t threads, uint32_t *out)
{
    const unsigned cta = threads % THREADS == 0 ? THREADS : 32;

    GPU_LAUNCH(sf_words_kernel, (unsigned)(threads / cta), cta, lanes, bytes, out);
    return cudaGetLastError();
}

static __global__ void pad_kernel(int layout, uint8_t *sf, size_t rows, size_t sf_cols)
{
    if (gridDim.x * gridDim.y * gridDim.z == 1) { /* each thread has another one's share */
        const size_t threads = blockDim.x * blockDim.y * blockDim.z;
        const size_t i = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
        fp4_sf_pad((fp4_layout)layout, sf, rows, sf_cols, threads - 1 - i, threads);
    } else if (layout == FP4_LAYOUT_128X4) {
        fp4_sf_pad_128x4(sf, rows, sf_cols);
    } else {
        fp4_sf_pad_8x4(sf, rows, sf_cols);
    }
}

static dim3 dim_of(const unsigned n[3])
{
    return dim3(n[0], n[1], n[2]);
}

static cudaError_t pad(int layout, uint8_t *sf, size_t rows, size_t sf_cols, const unsigned grid[3],
                       const unsigned cta[3])
{
    GPU_LAUNCH(pad_kernel, dim_of(grid), dim_of(cta), layout, sf, rows, sf_cols);
    return cudaGetLastError();
}

/* ------------------------------------------------------------------------------ reductions */

template <class Fragment> static __device__ Fragment fragment_at(const float *x, size_t i)
{
    enum { COUNT = sizeof(Fragment) / sizeof(float) };
    Fragment v;

    for (int k = 0; k < COUNT; k++) {
        v.v[k] = x[i * COUNT + k];
    }
    return v;
}

template <class Fragment>
static __device__ void put_fragment(float *out, size_t i, const Fragment &v)
{
    enum { COUNT = sizeof(Fragment) / sizeof(float) };

    for (int k = 0; k < COUNT; k++) {
        out[i * COUNT + k] = v.v[k];
    }
}

/* The upper halves of sixteen words. */
static __device__ fp4_u32x8 halves_of(const fp4_f32x16 &x)
{
    fp4_u32x8 w;

    for (int i = 0; i < 8; i++) {
        w.v[i] = fp4_f32_bits(x.v[2 * i]) >> 16 | (fp4_f32_bits(x.v[2 * i + 1]) & 0xffff0000u);
    }
    return w;
}

static __device__ float reduce_fragment(parts_reducer how, int count, const float *x, size_t i,
                                        float sum)
{
    if (count == 8) {
        const fp4_f32x8 v = fragment_at<fp4_f32x8>(x, i);
        return how == AMAX    ? fp4_amax_x8(v)
               : how == SUMSQ ? fp4_sumsq_x8(v, sum)
               : how == SUM   ? fp4_sum_x8(v, sum)
               : how == MAX   ? fp4_max_x8(v)
                              : fp4_amax_or_nan_x8(v);
    }
    if (count == 16) {
        const fp4_f32x16 v = fragment_at<fp4_f32x16>(x, i);
        return how == AMAX               ? fp4_amax_x16(v)
               : how == AMAX_OF_NUMBERS  ? fp4_amax_of_numbers_x16(v)
               : how == SUMSQ            ? fp4_sumsq_x16(v, sum)
               : how == SUM              ? fp4_sum_x16(v, sum)
               : how == MAX              ? fp4_max_x16(v)
               : how == AMAX_OR_NAN_BF16 ? fp4_amax_or_nan_bf16x16(halves_of(v))
               : how == AMAX_OR_NAN_F16  ? fp4_amax_or_nan_f16x16(halves_of(v))
                                         : fp4_amax_or_nan_x16(v);
    }
    const fp4_f32x32 v = fragment_at<fp4_f32x32>(x, i);
    return how == AMAX    ? fp4_amax_x32(v)
           : how == SUMSQ ? fp4_sumsq_x32(v, sum)
           : how == SUM   ? fp4_sum_x32(v, sum)
           : how == MAX   ? fp4_max_x32(v)
                          : fp4_amax_or_nan_x32(v);
}

static __global__ void reduce_kernel(parts_reducer how, int count, const float *x, size_t n,
                                     float *out)
{
    const size_t i = thread_number();

    if (i < n) {
        out[i] = reduce_fragment(how, count, x, i, out[i]);
    }
}

static cudaError_t reduce(parts_reducer how, int count, const float *x, size_t n, float *out)
{
    GPU_LAUNCH(reduce_kernel, ctas_of(n), THREADS, how, count, x, n, out);
    return cudaGetLastError();
}

static __device__ float reduce_group(parts_reducer how, float x, int width)
{
    switch (how) {
    case GROUP_MAX:
        return fp4_group_max(x, width);
    case GROUP_MAX_OR_NAN:
        return fp4_group_max_or_nan(x, width);
    case GROUP_SUM:
        return fp4_group_sum(x, width);
    case WARP_MAX:
        return fp4_warp_max(x);
    case WARP_ANY:
        return (float)fp4_ptx_any(0xffffffffu, x != 0.0f);
    default:
        return fp4_warp_sum(x);
    }
}

/* The width is a constant in each, as a kernel has it. */
static __global__ void lanes_kernel(parts_reducer how, int width, const float *x, float *out)
{
    const size_t i = thread_number();
    const float v = x[i];

    out[i] = width == 2    ? reduce_group(how, v, 2)
             : width == 4  ? reduce_group(how, v, 4)
             : width == 8  ? reduce_group(how, v, 8)
             : width == 16 ? reduce_group(how, v, 16)
                           : reduce_group(how, v, 32);
}

static cudaError_t reduce_lanes(parts_reducer how, int width, const float *x, size_t lanes,
                                float *out)
{
    GPU_LAUNCH(lanes_kernel, (unsigned)(lanes / 32), 32, how, width, x, out);
    return cudaGetLastError();
}

static __global__ void cta_kernel(const float *x, float *out)
{
    __shared__ float smem[3][32], of_team[32][32];
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const size_t i = (size_t)blockIdx.x * threads + thread, n = (size_t)gridDim.x * threads;
    const float v = x[i], magnitude = fp4_ptx_abs(v);
    const int is_flat = blockDim.x == threads;
    const int has_teams =
        blockDim.x % 32 == 0 && blockDim.z == 1 && (blockDim.y <= 15 || blockDim.x == 32);

    out[CTA_SUM * n + i] = fp4_cta_sum(v, smem[0]);
    out[CTA_MAX * n + i] = fp4_cta_max(v, smem[1]);
    out[CTA_MAX_OR_NAN * n + i] = fp4_cta_max_or_nan(magnitude, smem[2]);
    fp4_ptx_barrier(); /* and the shared memory may be used again */
    out[CTA_SUM_OF * n + i] = is_flat ? fp4_cta_sum_of(v, threads, smem[0]) : 0.0f;
    out[CTA_MAX_OF * n + i] = is_flat ? fp4_cta_max_of(v, threads, smem[1]) : 0.0f;
    out[CTA_MAX_OR_NAN_OF * n + i] =
        is_flat ? fp4_cta_max_or_nan_of(magnitude, threads, smem[2]) : 0.0f;
    out[TEAM_MAX_OR_NAN * n + i] =
        !has_teams        ? 0.0f
        : blockDim.y <= 4 ? fp4_team_max_or_nan(magnitude, blockDim.x, 4, of_team[threadIdx.y])
                          : fp4_team_max_or_nan(magnitude, blockDim.x, 0, of_team[threadIdx.y]);
}

static cudaError_t reduce_cta(const unsigned cta[3], unsigned ctas, const float *x, float *out)
{
    GPU_LAUNCH(cta_kernel, ctas, dim_of(cta), x, out);
    return cudaGetLastError();
}

static __global__ void grid_max_kernel(const float *x, uint32_t *workspace, float *max,
                                       uint32_t *last)
{
    const size_t cta = blockIdx.x + (size_t)gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);

    if (threadIdx.x == 0 && fp4_grid_max(x[cta], workspace, max)) {
        *last += 1;
    }
}

static cudaError_t grid_max(const unsigned grid[3], const float *x, uint32_t *workspace, float *max,
                            uint32_t *last)
{
    GPU_LAUNCH(grid_max_kernel, dim3(grid[0], grid[1], grid[2]), 32, x, workspace, max, last);
    return cudaGetLastError();
}

static __global__ void multiply_kernel(int count, const float *x, const float *y, float factor,
                                       size_t n, float *out)
{
    const size_t i = thread_number();

    if (i >= n) {
        return;
    }
    if (count == 8) {
        const fp4_f32x8 p = fp4_mul_x8(fragment_at<fp4_f32x8>(x, i), fragment_at<fp4_f32x8>(y, i));
        put_fragment(out, i, fp4_scale_x8(p, factor));
    } else if (count == 16) {
        const fp4_f32x16 p =
            fp4_mul_x16(fragment_at<fp4_f32x16>(x, i), fragment_at<fp4_f32x16>(y, i));
        put_fragment(out, i, fp4_scale_x16(p, factor));
    } else {
        const fp4_f32x32 p =
            fp4_mul_x32(fragment_at<fp4_f32x32>(x, i), fragment_at<fp4_f32x32>(y, i));
        put_fragment(out, i, fp4_scale_x32(p, factor));
    }
}

static cudaError_t multiply(int count, const float *x, const float *y, float factor, size_t n,
                            float *out)
{
    GPU_LAUNCH(multiply_kernel, ctas_of(n), THREADS, count, x, y, factor, n, out);
    return cudaGetLastError();
}

static __global__ void row_kernel(int layout, unsigned each, size_t rows, uint32_t pieces,
                                  uint32_t lanes, const float *x, const uint8_t *bytes, float *sums,
                                  uint8_t *sf)
{
    __shared__ float smem[FP4_ROW_EACH * FP4_ROW_THREADS + 32];
    const size_t row = blockIdx.x;
    const uint32_t places = blockDim.x * each, numbers = (pieces + blockDim.x - 1) / blockDim.x;
    const uint32_t sure = pieces % places == 0 ? each : numbers % each == 0 ? each - 1 : 0;
    /* where it may be said, every other row says it */
    const int is_whole =
        (layout != FP4_LAYOUT_LINEAR || pieces % (4 * lanes) == 0) && blockIdx.x % 2 == 0;
    const fp4_row_cut given = {blockDim.x, each, pieces, sure, pieces <= places, is_whole};
    const uint32_t own_each = fp4_row_each(16 * (size_t)pieces);
    const uint32_t own_threads = fp4_row_threads(16 * (size_t)pieces);
    const fp4_row_cut own = own_each == each && own_threads == blockDim.x && row % 4 == 1
                                ? fp4_row_cut_kept(each, blockDim.x, 16 * pieces)
                                : fp4_row_cut_of(16 * pieces);
    const int is_own = own.threads == blockDim.x && own.each == each && row % 2 == 1;
    const fp4_row_cut cut = is_own ? own : given;
    float sum = 0.0f;

    if (row >= rows) {
        fp4_row_store_padding((fp4_layout)layout, sf, row, cut, lanes);
        return;
    }
    for (uint32_t turn = 0; turn < fp4_row_turns(cut); turn++) {
        uint32_t word = 0;
        for (uint32_t j = 0; j < each && fp4_row_has_any(cut, turn, j); j++) {
            const uint32_t piece = fp4_row_piece(cut, turn, j);
            if (fp4_row_has(cut, turn, j)) {
                const fp4_f32x16 v = fragment_at<fp4_f32x16>(x, row * pieces + piece);
                sum = fp4_add_rn(sum, fp4_sum_x16(v, 0.0f));
                word |= (uint32_t)bytes[(row * pieces + piece) / lanes] << (8 * j);
            }
        }
        fp4_row_store_sf((fp4_layout)layout, sf, row, cut, turn, lanes, word);
    }
    sums[row * blockDim.x + threadIdx.x] =
        fp4_row_sum(sum, cut, fp4_row_threads((size_t)pieces * 16), smem);
}

static cudaError_t row(int layout, unsigned threads, unsigned each, size_t rows, size_t padded,
                       uint32_t pieces, uint32_t lanes, const float *x, const uint8_t *bytes,
                       float *sums, uint8_t *sf)
{
    GPU_LAUNCH(row_kernel, (unsigned)padded, threads, layout, each, rows, pieces, lanes, x, bytes,
               sums, sf);
    return cudaGetLastError();
}

static __global__ void combine_kernel(parts_arithmetic how, const float *x, const float *y,
                                      const float *z, float term, size_t n, float *out)
{
    const size_t i = thread_number();

    if (i < n) {
        const fp4_f32x16 a = fragment_at<fp4_f32x16>(x, i), b = fragment_at<fp4_f32x16>(y, i);
        const fp4_f32x16 c = fragment_at<fp4_f32x16>(z, i);
        fp4_f32x16 first = a, second = b;
        fp4_rope_neox_x16(&first, &second, c, a);
        if (how == ADD_32 || how == SHIFT_32 ||
            how == FMA_32) { /* the other half: something else */
            const int low = i % 2 == 0;
            const fp4_f32x32 x2 = low ? fp4_join_x16(a, b) : fp4_join_x16(c, a);
            const fp4_f32x32 y2 = low ? fp4_join_x16(b, c) : fp4_join_x16(a, b);
            const fp4_f32x32 z2 = low ? fp4_join_x16(c, b) : fp4_join_x16(b, c);
            const fp4_f32x32 both = how == ADD_32     ? fp4_add_x32(x2, y2)
                                    : how == SHIFT_32 ? fp4_shift_x32(x2, term)
                                                      : fp4_fma_x32(x2, y2, z2);
            put_fragment(out, i, low ? fp4_low_x16(both) : fp4_high_x16(both));
            return;
        }
        put_fragment(out, i,
                     how == ADD      ? fp4_add_x16(a, b)
                     : how == SHIFT  ? fp4_shift_x16(a, term)
                     : how == FMA    ? fp4_fma_x16(a, b, c)
                     : how == TURN   ? fp4_rope_turn_x16(a, b, c, a)
                     : how == NEOX_X ? first
                     : how == NEOX_Y ? second
                                     : fp4_rope_gptj_x16(a, fp4_low_x8(c), fp4_low_x8(b)));
    }
}

static cudaError_t combine(parts_arithmetic how, const float *x, const float *y, const float *z,
                           float term, size_t n, float *out)
{
    GPU_LAUNCH(combine_kernel, ctas_of(n), THREADS, how, x, y, z, term, n, out);
    return cudaGetLastError();
}

/* Lanes without a fragment take the last, so that whole warps vote. */
static __global__ void activate_kernel(parts_activation how, const float *x, size_t n, float *out)
{
    const size_t i = thread_number();
    const fp4_f32x16 v = fragment_at<fp4_f32x16>(x, i < n ? i : n - 1);
    const float amax = fp4_amax_or_nan_x16(v);
    fp4_f32x16 y = how == SILU              ? fp4_silu_x16(v)
                   : how == SILU_KNOWN      ? fp4_silu_known_x16(v, amax)
                   : how == SILU_VOTED      ? fp4_silu_voted_x16(v, amax)
                   : how == SWISH_VOTED     ? fp4_swish_voted_x16(v, 1.702f, amax)
                   : how == GELU_TANH       ? fp4_gelu_tanh_x16(v)
                   : how == GELU_TANH_VOTED ? fp4_gelu_tanh_voted_x16(v, amax)
                   : how == OAI_GATE        ? fp4_swiglu_oai_gate_x16(v)
                   : how == OAI_GATE_KNOWN  ? fp4_swiglu_oai_gate_known_x16(v, amax)
                   : how == OAI_GATE_VOTED  ? fp4_swiglu_oai_gate_voted_x16(v, amax)
                                            : fp4_gelu_tanh_known_x16(v, amax);
    for (int k = 0; k < 16 && how == EXP; k++) {
        y.v[k] = fp4_exp(v.v[k]);
    }
    if (how == OAI_UP || how == OAI_UP_BF16 || how == OAI_UP_F16) {
        const fp4_f32x16 act = fp4_shift_x16(fp4_f32x16(), -0.75f);
        y = how == OAI_UP        ? fp4_swiglu_oai_up_x16(act, v)
            : how == OAI_UP_BF16 ? fp4_swiglu_oai_up_bf16x16(act, fp4_f32x16_to_bf16x16(v))
                                 : fp4_swiglu_oai_up_f16x16(act, fp4_f32x16_to_f16x16(v));
    }
    for (int k = 1; k < 16; k++) {
        const int is_known = how == SILU_KNOWN || how == GELU_TANH_KNOWN || how == OAI_GATE_KNOWN;
        y.v[k] = is_known && fp4_is_nan(y.v[0]) ? 0.0f : y.v[k];
    }
    if (i < n) {
        put_fragment(out, i, y);
    }
}

/* The number of threads is not that of entries, nor do they divide each other. */
static __global__ void table_kernel(parts_activation how, const float *x, size_t n, float *out)
{
    __shared__ float table[FP4_BF16_TABLE];
    const size_t i = thread_number();

    if (threadIdx.x < 96) {
        if (how == SILU_TABLE) {
            fp4_silu_bf16_table(table, threadIdx.x, 96);
        } else if (how == OAI_GATE_TABLE) {
            fp4_swiglu_oai_gate_bf16_table(table, threadIdx.x, 96);
        } else {
            fp4_gelu_tanh_bf16_table(table, threadIdx.x, 96);
        }
    }
    __syncthreads();
    if (i < n) {
        const fp4_u32x8 v = fp4_f32x16_to_bf16x16(fragment_at<fp4_f32x16>(x, i));
        const int has = fp4_bf16_table_has_x16(v);
        put_fragment(out, i, has ? fp4_bf16_table_x16(table, v) : fp4_f32x16());
    }
}

static cudaError_t activate(parts_activation how, const float *x, size_t n, float *out)
{
    if (how == SILU_TABLE || how == GELU_TANH_TABLE || how == OAI_GATE_TABLE) {
        GPU_LAUNCH(table_kernel, ctas_of(n), THREADS, how, x, n, out);
    } else {
        GPU_LAUNCH(activate_kernel, ctas_of(n), THREADS, how, x, n, out);
    }
    return cudaGetLastError();
}

/* ------------------------------------------------------------------------------ blocks */

/* A function that quantizes: what a lane holds, how many share a block, the call. */
#define QUANTIZER(name, fragment_type, lanes, bytes_of_codes, call) \
    struct name { \
        typedef fragment_type fragment; \
        enum { LANES = lanes, BYTES = bytes_of_codes }; \
        static __device__ auto quantize(const fragment_type &x, float enc, float mul) \
        { \
            (void)enc; \
            (void)mul; \
            return call; \
        } \
    };

QUANTIZER(nvfp4, fp4_f32x16, 1, 8, fp4_nvfp4_quantize(x, enc))
QUANTIZER(nvfp4_x8, fp4_f32x8, 2, 4, fp4_nvfp4_quantize_x8(x, enc))
QUANTIZER(nvfp4_x4, fp4_f32x4, 4, 2, fp4_nvfp4_quantize_x4(x, enc))
QUANTIZER(nvfp4_scaled, fp4_f32x16, 1, 8, fp4_nvfp4_quantize_scaled(x, mul, enc))
QUANTIZER(nvfp4_scaled_x8, fp4_f32x8, 2, 4, fp4_nvfp4_quantize_scaled_x8(x, mul, enc))
QUANTIZER(nvfp4_scaled_x4, fp4_f32x4, 4, 2, fp4_nvfp4_quantize_scaled_x4(x, mul, enc))
QUANTIZER(nvfp4_quad, fp4_f32x16, 1, 8, fp4_nvfp4_quantize_quad(x, enc))
QUANTIZER(nvfp4_scaled_quad, fp4_f32x16, 1, 8, fp4_nvfp4_quantize_scaled_quad(x, mul, enc))
QUANTIZER(mxfp4, fp4_f32x32, 1, 16, fp4_mxfp4_quantize(x))
QUANTIZER(mxfp4_x16, fp4_f32x16, 2, 8, fp4_mxfp4_quantize_x16(x))
QUANTIZER(mxfp4_x8, fp4_f32x8, 4, 4, fp4_mxfp4_quantize_x8(x))
QUANTIZER(mxfp4_scaled, fp4_f32x32, 1, 16, fp4_mxfp4_quantize_scaled(x, mul))
QUANTIZER(mxfp4_scaled_x16, fp4_f32x16, 2, 8, fp4_mxfp4_quantize_scaled_x16(x, mul))
QUANTIZER(mxfp4_scaled_x8, fp4_f32x8, 4, 4, fp4_mxfp4_quantize_scaled_x8(x, mul))
QUANTIZER(mxfp4_quad, fp4_f32x32, 1, 16, fp4_mxfp4_quantize_quad(x))
QUANTIZER(mxfp4_scaled_quad, fp4_f32x32, 1, 16, fp4_mxfp4_quantize_scaled_quad(x, mul))
QUANTIZER(mxfp8, fp4_f32x32, 1, 32, fp4_mxfp8_quantize(x))
QUANTIZER(mxfp8_x16, fp4_f32x16, 2, 16, fp4_mxfp8_quantize_x16(x))
QUANTIZER(mxfp8_x8, fp4_f32x8, 4, 8, fp4_mxfp8_quantize_x8(x))
QUANTIZER(mxfp8_scaled, fp4_f32x32, 1, 32, fp4_mxfp8_quantize_scaled(x, mul))
QUANTIZER(mxfp8_scaled_x16, fp4_f32x16, 2, 16, fp4_mxfp8_quantize_scaled_x16(x, mul))
QUANTIZER(mxfp8_scaled_x8, fp4_f32x8, 4, 8, fp4_mxfp8_quantize_scaled_x8(x, mul))

QUANTIZER(mxfp8_quad, fp4_f32x32, 1, 32, fp4_mxfp8_quantize_quad(x))
QUANTIZER(mxfp8_scaled_quad, fp4_f32x32, 1, 32, fp4_mxfp8_quantize_scaled_quad(x, mul))

/* The codes and the scale byte of a lane. */
template <class How, class Part>
static __device__ void put_part(const Part &part, size_t i, uint8_t *q, uint8_t *sf)
{
    for (int k = 0; k < How::BYTES; k++) {
        q[i * How::BYTES + k] = (uint8_t)(part.q[k / 4] >> (8 * (k % 4)));
    }
    sf[i] = part.sf;
}

/* Lanes without a part of their own take the first, so that whole warps call. */
template <class How>
static __global__ void quantize_kernel(const float *x, const float *global_enc, const float *mul,
                                       size_t parts, uint8_t *q, uint8_t *sf)
{
    const size_t i = thread_number(), at = i < parts ? i : i % How::LANES;
    const auto part = How::quantize(fragment_at<typename How::fragment>(x, at),
                                    global_enc[at / How::LANES], mul[at / How::LANES]);

    if (i < parts) {
        put_part<How>(part, i, q, sf);
    }
}

template <class How>
static cudaError_t quantize_by(const float *x, const float *global_enc, const float *mul,
                               size_t blocks, uint8_t *q, uint8_t *sf)
{
    const size_t parts = blocks * How::LANES;

    GPU_LAUNCH(quantize_kernel<How>, ctas_of(parts), THREADS, x, global_enc, mul, parts, q, sf);
    return cudaGetLastError();
}

/* Each lane has its part of four blocks as matrix instructions leave them, and the factors of one.
   Where there are no blocks the last ones stand for them. */
template <class How>
static __global__ void quad_kernel(const float *x, const float *global_enc, const float *mul,
                                   size_t blocks, uint8_t *q, uint8_t *sf)
{
    enum { BLOCK = sizeof(typename How::fragment) / sizeof(float), PER_LANE = BLOCK / 4 };
    const size_t i = thread_number(), own = i < blocks ? i : blocks - 1;
    typename How::fragment t;

    for (size_t k = 0; k < BLOCK; k++) {
        const size_t b = i / 4 * 4 + k / PER_LANE, in_block = k % PER_LANE;
        const size_t col = in_block / 2 * 8 + 2 * (i % 4) + in_block % 2;
        t.v[k] = x[(b < blocks ? b : blocks - 1) * BLOCK + col];
    }
    const auto part = How::quantize(t, global_enc[own], mul[own]);
    if (i < blocks) {
        put_part<How>(part, i, q, sf);
    }
}

template <class How>
static cudaError_t quad_by(const float *x, const float *global_enc, const float *mul, size_t blocks,
                           uint8_t *q, uint8_t *sf)
{
    GPU_LAUNCH(quad_kernel<How>, ctas_of(blocks), THREADS, x, global_enc, mul, blocks, q, sf);
    return cudaGetLastError();
}

/* The same by format.cuh. */
template <fp4_format F, int SCALED>
static __global__ void format_kernel(const float *x, const float *global_enc, const float *mul,
                                     size_t parts, uint8_t *q, uint8_t *sf)
{
    enum { LANES = fp4_format_lanes(F), BYTES = 2 * fp4_format_bits(F) };
    const size_t i = thread_number(), at = i < parts ? i : i % LANES, block = at / LANES;
    const fp4_f32x16 t = fragment_at<fp4_f32x16>(x, at);
    const fp4_part4 part = SCALED ? fp4_quantize_scaled_x16(F, t, mul[block], global_enc[block])
                                  : fp4_quantize_x16(F, t, global_enc[block]);

    if (i < parts) {
        fp4_store_codes_x16(F, q + i * BYTES, part);
        sf[i] = part.sf;
    }
}

template <fp4_format F, int SCALED>
static cudaError_t format_by(const float *x, const float *global_enc, const float *mul,
                             size_t blocks, uint8_t *q, uint8_t *sf)
{
    const size_t parts = blocks * fp4_format_lanes(F);

    GPU_LAUNCH((format_kernel<F, SCALED>), ctas_of(parts), THREADS, x, global_enc, mul, parts, q,
               sf);
    return cudaGetLastError();
}

static cudaError_t quantize(parts_quantizer how, const float *x, const float *global_enc,
                            const float *mul, size_t blocks, uint8_t *q, uint8_t *sf)
{
    typedef cudaError_t (*function)(const float *, const float *, const float *, size_t, uint8_t *,
                                    uint8_t *);
    static const function by[PARTS_QUANTIZERS] = {quantize_by<nvfp4>,
                                                  quantize_by<nvfp4_x8>,
                                                  quantize_by<nvfp4_x4>,
                                                  quantize_by<nvfp4_scaled>,
                                                  quantize_by<nvfp4_scaled_x8>,
                                                  quantize_by<nvfp4_scaled_x4>,
                                                  quad_by<nvfp4_quad>,
                                                  quad_by<nvfp4_scaled_quad>,
                                                  quantize_by<mxfp4>,
                                                  quantize_by<mxfp4_x16>,
                                                  quantize_by<mxfp4_x8>,
                                                  quantize_by<mxfp4_scaled>,
                                                  quantize_by<mxfp4_scaled_x16>,
                                                  quantize_by<mxfp4_scaled_x8>,
                                                  quad_by<mxfp4_quad>,
                                                  quad_by<mxfp4_scaled_quad>,
                                                  quantize_by<mxfp8>,
                                                  quantize_by<mxfp8_x16>,
                                                  quantize_by<mxfp8_x8>,
                                                  quantize_by<mxfp8_scaled>,
                                                  quantize_by<mxfp8_scaled_x16>,
                                                  quantize_by<mxfp8_scaled_x8>,
                                                  quad_by<mxfp8_quad>,
                                                  quad_by<mxfp8_scaled_quad>,
                                                  format_by<FP4_NVFP4, 0>,
                                                  format_by<FP4_NVFP4, 1>,
                                                  format_by<FP4_MXFP4, 0>,
                                                  format_by<FP4_MXFP4, 1>,
                                                  format_by<FP4_MXFP8, 0>,
                                                  format_by<FP4_MXFP8, 1>,
                                                  format_by<FP4_NVFP4_32, 0>,
                                                  format_by<FP4_NVFP4_32, 1>,
                                                  format_by<FP4_MXFP4_16, 0>,
                                                  format_by<FP4_MXFP4_16, 1>};
    return by[how](x, global_enc, mul, blocks, q, sf);
}

/* Blocks of rows: how many lanes share one, its bytes a lane; its functions, those without a
   factor where mul is null. */
template <fp4_format F> struct row_of {
    enum { LANES = fp4_format_lanes(F), BYTES = 2 * fp4_format_bits(F) };
    static __device__ fp4_part4 known(const fp4_f32x16 &t, float amax, const float *mul, float enc,
                                      uint32_t *care)
    {
        return mul == NULL ? fp4_quantize_known_x16(F, t, amax, enc, care)
                           : fp4_quantize_scaled_known_x16(F, t, amax, *mul, enc, care);
    }
    static __device__ fp4_part4 any(const fp4_f32x16 &t, const float *mul, float enc)
    {
        return mul == NULL ? fp4_quantize_any_x16(F, t, enc)
                           : fp4_quantize_scaled_any_x16(F, t, *mul, enc);
    }
    static __device__ fp4_part4 given(const fp4_f32x16 &t, float amax, float enc)
    {
        return fp4_quantize_given_x16(F, t, amax, enc);
    }
};

/* care: null for any. */
template <class How>
static __global__ void part_kernel(const float *x, const float *global_enc, const float *mul,
                                   size_t parts, uint8_t *q, uint8_t *sf, uint32_t *care)
{
    const size_t i = thread_number(), at = i < parts ? i : i % How::LANES, block = at / How::LANES;
    const fp4_f32x16 t = fragment_at<fp4_f32x16>(x, at);
    const float *const factor = mul == NULL ? NULL : mul + block;

    if (care == NULL) {
        const auto part = How::any(t, factor, global_enc[block]);
        if (i < parts) {
            put_part<How>(part, i, q, sf);
        }
        return;
    }
    const float amax = fp4_group_max_or_nan(fp4_amax_or_nan_x16(t), How::LANES);
    uint32_t needs_care;
    const auto part = How::known(t, amax, factor, global_enc[block], &needs_care);
    if (i < parts) {
        put_part<How>(part, i, q, sf);
        care[i] = needs_care;
    }
}

template <class How>
static cudaError_t row_by(const float *x, const float *global_enc, const float *mul, size_t blocks,
                          uint8_t *q, uint8_t *sf, uint32_t *care)
{
    const size_t parts = blocks * How::LANES;

    GPU_LAUNCH(part_kernel<How>, ctas_of(parts), THREADS, x, global_enc, mul, parts, q, sf, care);
    return cudaGetLastError();
}

static cudaError_t quantize_known(int format, const float *x, const float *global_enc,
                                  const float *mul, size_t blocks, uint8_t *q, uint8_t *sf,
                                  uint32_t *care)
{
    typedef cudaError_t (*function)(const float *, const float *, const float *, size_t, uint8_t *,
                                    uint8_t *, uint32_t *);
    static const function by[5] = {row_by<row_of<FP4_NVFP4>>, row_by<row_of<FP4_MXFP4>>,
                                   row_by<row_of<FP4_MXFP8>>, row_by<row_of<FP4_NVFP4_32>>,
                                   row_by<row_of<FP4_MXFP4_16>>};
    return by[format](x, global_enc, mul, blocks, q, sf, care);
}

static cudaError_t quantize_any(int format, const float *x, const float *global_enc,
                                const float *mul, size_t blocks, uint8_t *q, uint8_t *sf)
{
    return quantize_known(format, x, global_enc, mul, blocks, q, sf, NULL);
}

template <class How>
static __global__ void given_kernel(const float *x, const float *global_enc, const float *amax,
                                    size_t parts, uint8_t *q, uint8_t *sf)
{
    const size_t i = thread_number(), block = i / How::LANES;

    if (i < parts) {
        put_part<How>(How::given(fragment_at<fp4_f32x16>(x, i), amax[block], global_enc[block]), i,
                      q, sf);
    }
}

template <class How>
static cudaError_t given_by(const float *x, const float *global_enc, const float *amax,
                            size_t blocks, uint8_t *q, uint8_t *sf)
{
    const size_t parts = blocks * How::LANES;

    GPU_LAUNCH(given_kernel<How>, ctas_of(parts), THREADS, x, global_enc, amax, parts, q, sf);
    return cudaGetLastError();
}

static cudaError_t quantize_given(int format, const float *x, const float *global_enc,
                                  const float *amax, size_t blocks, uint8_t *q, uint8_t *sf)
{
    typedef cudaError_t (*function)(const float *, const float *, const float *, size_t, uint8_t *,
                                    uint8_t *);
    static const function by[5] = {given_by<row_of<FP4_NVFP4>>, given_by<row_of<FP4_MXFP4>>,
                                   given_by<row_of<FP4_MXFP8>>, given_by<row_of<FP4_NVFP4_32>>,
                                   given_by<row_of<FP4_MXFP4_16>>};
    return by[format](x, global_enc, amax, blocks, q, sf);
}

static __global__ void clipped_kernel(const float *x, const float *enc, float most, size_t n,
                                      uint32_t *out)
{
    const size_t i = thread_number();

    if (i < n) {
        out[i] = fp4_clipped_x16(fragment_at<fp4_f32x16>(x, i), enc[i], most);
    }
}

static cudaError_t clipped(const float *x, const float *enc, float most, size_t n, uint32_t *out)
{
    GPU_LAUNCH(clipped_kernel, ctas_of(n), THREADS, x, enc, most, n, out);
    return cudaGetLastError();
}

static __global__ void modelopt_fake_kernel(const float *x, const float *scale, int wants_clipped,
                                            size_t n, float *out, uint32_t *bits)
{
    const size_t i = thread_number();

    if (i < n) {
        put_fragment(out, i,
                     fp4_modelopt_fake_x16(fragment_at<fp4_f32x16>(x, i), scale[i], wants_clipped,
                                           &bits[i]));
    }
}

static cudaError_t modelopt_fake(const float *x, const float *scale, int wants_clipped, size_t n,
                                 float *out, uint32_t *bits)
{
    GPU_LAUNCH(modelopt_fake_kernel, ctas_of(n), THREADS, x, scale, wants_clipped, n, out, bits);
    return cudaGetLastError();
}

static __global__ void modelopt_quantize_kernel(int format, const float *x, const float *global_dec,
                                                size_t blocks, uint8_t *q, uint8_t *sf)
{
    const size_t i = thread_number();

    if (i >= blocks) {
        return;
    }
    if (format == FP4_NVFP4) {
        const fp4_nvfp4_block b =
            fp4_modelopt_nvfp4_quantize(fragment_at<fp4_f32x16>(x, i), global_dec[i]);
        fp4_store_e2m1x16(q + 8 * i, b.q);
        sf[i] = b.sf;
    } else if (format == FP4_MXFP4) {
        const fp4_mxfp4_block b = fp4_modelopt_mxfp4_quantize(fragment_at<fp4_f32x32>(x, i));
        fp4_store_e2m1x32(q + 16 * i, b.q);
        sf[i] = b.sf;
    } else {
        const fp4_mxfp8_block b = fp4_modelopt_mxfp8_quantize(fragment_at<fp4_f32x32>(x, i));
        fp4_store_e4m3x32(q + 32 * i, b.q);
        sf[i] = b.sf;
    }
}

static cudaError_t modelopt_quantize(int format, const float *x, const float *global_dec,
                                     size_t blocks, uint8_t *q, uint8_t *sf)
{
    GPU_LAUNCH(modelopt_quantize_kernel, ctas_of(blocks), THREADS, format, x, global_dec, blocks, q,
               sf);
    return cudaGetLastError();
}

static __global__ void modelopt_encode_kernel(int format, const float *x, const uint8_t *sf,
                                              const float *global_dec, size_t lanes, uint8_t *q)
{
    const size_t i = thread_number();

    if (i >= lanes) {
        return;
    }
    const fp4_f32x16 v = fragment_at<fp4_f32x16>(x, i);
    if (format == FP4_NVFP4) {
        fp4_store_e2m1x16(
            q + 8 * i,
            fp4_modelopt_nvfp4_encode_x16(v, fp4_amax_or_nan_x16(v), sf[i], global_dec[i]).v);
    } else if (format == FP4_MXFP4) {
        fp4_store_e2m1x16(q + 8 * i, fp4_modelopt_mxfp4_encode_x16(v, sf[i]).v);
    } else {
        fp4_store_e4m3x16(q + 16 * i, fp4_modelopt_mxfp8_encode_x16(v, sf[i]).v);
    }
}

static cudaError_t modelopt_encode(int format, const float *x, const uint8_t *sf,
                                   const float *global_dec, size_t lanes, uint8_t *q)
{
    GPU_LAUNCH(modelopt_encode_kernel, ctas_of(lanes), THREADS, format, x, sf, global_dec, lanes,
               q);
    return cudaGetLastError();
}

static __global__ void modelopt_dequantize_kernel(int format, const uint8_t *q, const uint8_t *sf,
                                                  const float *global_dec, size_t lanes, float *out)
{
    const size_t i = thread_number();

    if (i >= lanes) {
        return;
    }
    const uint32_t *codes = (const uint32_t *)q + (format == FP4_MXFP8 ? 2 : 1) * i;
    const fp4_u32x2 both = {{codes[0], format == FP4_MXFP8 ? codes[1] : 0}};
    put_fragment(out, i,
                 format == FP4_NVFP4
                     ? fp4_modelopt_nvfp4_dequantize_x8(codes[0], sf[i], global_dec[i])
                 : format == FP4_MXFP4 ? fp4_modelopt_mxfp4_dequantize_x8(codes[0], sf[i])
                                       : fp4_modelopt_mxfp8_dequantize_x8(both, sf[i]));
}

static cudaError_t modelopt_dequantize(int format, const uint8_t *q, const uint8_t *sf,
                                       const float *global_dec, size_t lanes, float *out)
{
    GPU_LAUNCH(modelopt_dequantize_kernel, ctas_of(lanes), THREADS, format, q, sf, global_dec,
               lanes, out);
    return cudaGetLastError();
}

static __global__ void modelopt_scales_kernel(const float *amax, float global_amax, size_t n,
                                              float *out)
{
    const size_t i = thread_number();

    if (i < n) {
        const fp4_modelopt_factors factors = fp4_modelopt_convert_scale(amax[i], global_amax);
        const fp4_modelopt_factors alone = fp4_modelopt_convert_scale_alone(amax[i]);
        const float x = fp4_mul_rn(amax[i], i % 3 == 0 ? -0.7f : 0.7f);

        out[i] = fp4_modelopt_cvt_scale_at(amax[i], fp4_modelopt_level_of(global_amax, 448.0f));
        out[n + i] =
            fp4_modelopt_cvt_dynamic_scale_at(amax[i], fp4_modelopt_dynamic_dec(global_amax));
        out[2 * n + i] = fp4_modelopt_qdq_scale(amax[i], fp4_modelopt_dynamic_dec(global_amax));
        out[3 * n + i] = factors.enc;
        out[4 * n + i] = factors.dec;
        out[5 * n + i] = fp4_modelopt_convert(x, factors);
        out[6 * n + i] = alone.enc;
        out[7 * n + i] = alone.dec;
        out[8 * n + i] = fp4_modelopt_convert(x, alone);
    }
}

static cudaError_t modelopt_scales(const float *amax, float global_amax, size_t n, float *out)
{
    GPU_LAUNCH(modelopt_scales_kernel, ctas_of(n), THREADS, amax, global_amax, n, out);
    return cudaGetLastError();
}

static __global__ void quantize_sr_kernel(int format, const float *x, float global_enc,
                                          const uint32_t *random, size_t lanes, uint8_t *q,
                                          uint8_t *sf_of_lanes)
{
    const size_t at = thread_number(), i = at < lanes ? at : 0; /* whole warps */
    const fp4_f32x16 v = fragment_at<fp4_f32x16>(x, i);
    const fp4_u32x4 bits = words_at<fp4_u32x4>(random, i);
    fp4_part2 part;

    if (format == FP4_NVFP4) {
        const fp4_nvfp4_block b = fp4_nvfp4_quantize_sr(v, global_enc, bits);
        part.q[0] = b.q[0];
        part.q[1] = b.q[1];
        part.sf = b.sf;
    } else {
        part = fp4_mxfp4_quantize_sr_x16(v, bits);
    }
    if (at < lanes) {
        fp4_store_e2m1x16(q + 8 * at, part.q);
        sf_of_lanes[at] = part.sf;
    }
}

static cudaError_t quantize_sr(int format, const float *x, float global_enc, const uint32_t *random,
                               size_t lanes, uint8_t *q, uint8_t *sf_of_lanes)
{
    GPU_LAUNCH(quantize_sr_kernel, ctas_of(lanes), THREADS, format, x, global_enc, random, lanes, q,
               sf_of_lanes);
    return cudaGetLastError();
}

static __global__ void pack_kernel(parts_packer how, const uint32_t *q, const uint8_t *sf,
                                   size_t lanes, uint32_t *out)
{
    const size_t i = thread_number();

    if (i < lanes) {
        const uint32_t codes[2] = {q[2 * i], q[2 * i + 1]};
        const fp4_u32x8 w = how == NVFP4_TO_F16X16    ? fp4_nvfp4_to_f16x16(codes, sf[i])
                            : how == NVFP4_TO_BF16X16 ? fp4_nvfp4_to_bf16x16(codes, sf[i])
                                                      : fp4_mxfp4_to_bf16x16(codes, sf[i]);
        for (int k = 0; k < 8; k++) {
            out[8 * i + k] = w.v[k];
        }
    }
}

static cudaError_t pack(parts_packer how, const uint32_t *q, const uint8_t *sf, size_t lanes,
                        uint32_t *out)
{
    GPU_LAUNCH(pack_kernel, ctas_of(lanes), THREADS, how, q, sf, lanes, out);
    return cudaGetLastError();
}

static __global__ void requantize_kernel(int format, const uint8_t *x, float dec, float global_enc,
                                         size_t lanes, uint8_t *q, uint8_t *sf)
{
    __shared__ uint4 table[2 * FP4_REQUANT_ROWS];
    const size_t i = thread_number();
    const fp4_u32x4 v = fp4_load_u32x4(x + 16 * (i < lanes ? i : 0));
    uint32_t codes[2];
    uint8_t scale;

    if (format == FP4_NVFP4) {
        fp4_nvfp4_requant_row(table, threadIdx.x, dec, global_enc);
    } else {
        fp4_mxfp4_requant_row(table, threadIdx.x, dec);
    }
    fp4_ptx_barrier();
    if (format == FP4_NVFP4) {
        const fp4_nvfp4_block block = fp4_nvfp4_requantize(v, table, dec, global_enc);
        codes[0] = block.q[0];
        codes[1] = block.q[1];
        scale = block.sf;
    } else {
        const fp4_part2 part = fp4_mxfp4_requantize_x16(v, table, dec);
        codes[0] = part.q[0];
        codes[1] = part.q[1];
        scale = part.sf;
    }
    if (i < lanes) {
        fp4_store_e2m1x16(q + 8 * i, codes);
        sf[i] = scale;
    }
}

static cudaError_t requantize(int format, const uint8_t *x, float dec, float global_enc,
                              size_t lanes, uint8_t *q, uint8_t *sf)
{
    GPU_LAUNCH(requantize_kernel, ctas_of(lanes), THREADS, format, x, dec, global_enc, lanes, q,
               sf);
    return cudaGetLastError();
}

static __global__ void dequantize_kernel(parts_dequantizer how, const uint32_t *q,
                                         const uint8_t *sf, const float *global_dec, size_t lanes,
                                         float *out)
{
    const size_t i = thread_number();

    if (i >= lanes) {
        return;
    }
    const float dec = global_dec[i];
    fp4_dec factors = fp4_dec_of(dec);
    switch (how) {
    case DEQUANTIZE_NVFP4:
        put_fragment(out, i, fp4_nvfp4_dequantize(q + 2 * i, sf[i], dec));
        return;
    case DEQUANTIZE_NVFP4_SCALES_FIRST:
        put_fragment(out, i, fp4_nvfp4_dequantize_scales_first(q + 2 * i, sf[i], dec));
        return;
    case DEQUANTIZE_MXFP4:
        put_fragment(out, i, fp4_mxfp4_dequantize(q + 4 * i, sf[i]));
        return;
    case DEQUANTIZE_MXFP4_X16:
        put_fragment(out, i, fp4_mxfp4_dequantize_x16(q + 2 * i, sf[i]));
        return;
    case DEQUANTIZE_MXFP8:
        put_fragment(out, i, fp4_mxfp8_dequantize(q + 8 * i, sf[i]));
        return;
    case DEQUANTIZE_MXFP8_X16:
        put_fragment(out, i, fp4_mxfp8_dequantize_x16(q + 4 * i, sf[i]));
        return;
    case DEQUANTIZE_MXFP8_X8: {
        const fp4_u32x2 codes = {{q[2 * i], q[2 * i + 1]}};
        put_fragment(out, i, fp4_e4m3x8_dequantize(codes, fp4_e8m0_to_f32(sf[i])));
        return;
    }
    case DEQUANTIZE_NVFP4_UNITS_X8:
        put_fragment(
            out, i,
            fp4_scale_x8(fp4_scale_x8(fp4_e2m1x8_times_e4m3_to_units(q[i], sf[i]), fp4_e2m1_unit()),
                         dec));
        return;
    case DEQUANTIZE_NVFP4_X8:
        factors = fp4_nvfp4_dec(sf[i], dec, FP4_CODE_FIRST);
        break;
    case DEQUANTIZE_NVFP4_SCALES_FIRST_X8:
        factors = fp4_nvfp4_dec(sf[i], dec, FP4_SCALES_FIRST);
        break;
    case DEQUANTIZE_MXFP4_X8:
        factors = fp4_mxfp4_dec(sf[i]);
        break;
    case DEQUANTIZE_E2M1_X8:
    case PARTS_DEQUANTIZERS:
        break;
    }
    put_fragment(out, i, fp4_e2m1x8_dequantize(q[i], factors));
}

static cudaError_t dequantize(parts_dequantizer how, const uint32_t *q, const uint8_t *sf,
                              const float *global_dec, size_t lanes, float *out)
{
    GPU_LAUNCH(dequantize_kernel, ctas_of(lanes), THREADS, how, q, sf, global_dec, lanes, out);
    return cudaGetLastError();
}

} // namespace

extern "C" const gpu_parts PARTS = {TEXT(PARTS),
                                    describe,
                                    encode,
                                    decode,
                                    dot,
                                    load,
                                    store,
                                    store_elements,
                                    store_by_four,
                                    deinterleave,
                                    store_sf_words,
                                    sf_words,
                                    pad,
                                    reduce,
                                    reduce_lanes,
                                    reduce_cta,
                                    grid_max,
                                    multiply,
                                    row,
                                    combine,
                                    activate,
                                    quantize,
                                    quantize_known,
                                    quantize_any,
                                    quantize_given,
                                    clipped,
                                    modelopt_fake,
                                    modelopt_quantize,
                                    modelopt_encode,
                                    modelopt_dequantize,
                                    modelopt_scales,
                                    quantize_sr,
                                    pack,
                                    requantize,
                                    dequantize};

/*
 * tests/exhaustive.cpp - every conversion on every input, against two other definitions.
 *
 *     g++ -std=c++11 -O2 -pthread -Iinclude -Itests -isystem /usr/local/cuda/include \
 *         tests/exhaustive.cpp -o exhaustive && ./exhaustive
 *
 * All 2^32 floats go through each conversion from f32, and all codes through each conversion back;
 * with an argument, only through those whose name contains it: ./exhaustive e8m0.
 * The results are compared with
 *
 *     the oracle   oracle.h: the nearest (or next lower, or next higher) of the format's values
 *     NVIDIA       the host code of cuda_fp4.h, cuda_fp8.h, cuda_fp16.h and cuda_bf16.h, where a
 *                  CUDA toolkit (12.8 or later) is on the include path
 *
 * Last come a quotient that needs to be right only where it decides about a code: for every
 * mantissa of the divisor, what lies next to each boundary; and the scales of MX blocks for every
 * amax, against another way to get at them.
 *
 * Built with -Ofast as well, it shows that the conversions hold there too, with subnormals flushed
 * and NaNs declared absent. NVIDIA's code is not made for that and is left out of such a build; the
 * oracle, which the other build compared with it, stands for both.
 *
 * Ends on the line `N passed, N failed`, counting a sweep against one definition as one; exit
 * status 1 where any failed or none ran.
 */
#include <fp4/fp4.h>
#include <fp4/modelopt.h>

#include "oracle.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

/* 1: compare with NVIDIA's host code. -DFP4_TEST_NVIDIA=0 leaves it out. */
#if !defined(FP4_TEST_NVIDIA)
#if defined(__FAST_MATH__)
#define FP4_TEST_NVIDIA 0
#elif defined(__has_include)
#if __has_include(<cuda_fp4.h>)
#define FP4_TEST_NVIDIA 1
#endif
#endif
#endif
#if !defined(FP4_TEST_NVIDIA)
#define FP4_TEST_NVIDIA 0
#endif

#if FP4_TEST_NVIDIA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp4.h>
#include <cuda_fp8.h>
#endif

/* ---------------------------------------------------------------- what is compared

   A conversion is applied to a block of consecutive inputs, so that the compiler sees a loop. An
   input is 32 bits: those of the f32, or a code in its low bits. An output is a code, or the bits
   of an f32. */

enum { BLOCK = 4096, SHOWN = 5 };

typedef void (*block_function)(uint32_t first, uint32_t *out);

#define CONVERT(name, expression) \
    static void name(uint32_t first, uint32_t *out) \
    { \
        for (uint32_t i = 0; i < BLOCK; i++) { \
            const uint32_t bits = first + i; \
            const float x = fp4_bits_f32(bits); \
            (void)x; \
            out[i] = static_cast<uint32_t>(expression); \
        } \
    }

/* The random byte that goes with an input: any fixed one, as long as it is spread well. */
static inline uint8_t random_of(uint32_t bits)
{
    bits ^= bits >> 15;
    bits *= 0x2c1b3c6du;
    bits ^= bits >> 12;
    bits *= 0x297a2d39u;
    return static_cast<uint8_t>(bits >> 24);
}

/* The bits of a decoded float, one pattern for every NaN. */
static inline uint32_t value_bits(float x)
{
    return fp4_is_nan(x) ? 0x7fffffffu : fp4_f32_bits(x);
}

/* The library */

CONVERT(our_e2m1, fp4_f32_to_e2m1(x))
CONVERT(our_e2m1_rz, fp4_f32_to_e2m1_rz(x))
CONVERT(our_e2m1_sr, fp4_f32_to_e2m1_sr(x, random_of(bits)))
CONVERT(our_e2m1_sr_ends, fp4_f32_to_e2m1_sr(x, 0) | fp4_f32_to_e2m1_sr(x, 255) << 4)
CONVERT(our_e4m3, fp4_f32_to_e4m3(x))
CONVERT(our_e8m0_up, fp4_f32_to_e8m0_up(x))
CONVERT(our_e8m0_rz, fp4_f32_to_e8m0_rz(x))
CONVERT(our_f16, fp4_f32_to_f16(x))
CONVERT(our_bf16, fp4_f32_to_bf16(x))

CONVERT(our_e2m1_value, value_bits(fp4_e2m1_to_f32(static_cast<uint8_t>(bits))))
CONVERT(our_e4m3_value, value_bits(fp4_e4m3_to_f32(static_cast<uint8_t>(bits))))
CONVERT(our_e8m0_value, value_bits(fp4_e8m0_to_f32(static_cast<uint8_t>(bits))))
CONVERT(our_e8m0_enc, value_bits(fp4_e8m0_to_enc(static_cast<uint8_t>(bits))))
CONVERT(our_f16_value, value_bits(fp4_f16_to_f32(static_cast<uint16_t>(bits))))
CONVERT(our_bf16_value, value_bits(fp4_bf16_to_f32(static_cast<uint16_t>(bits))))

/* NVIDIA */

#if FP4_TEST_NVIDIA
static inline float value_of(__half_raw raw)
{
    return __half2float(__half(raw));
}

static inline float value_of(__nv_bfloat16_raw raw)
{
    return __bfloat162float(__nv_bfloat16(raw));
}

CONVERT(nvidia_e2m1, __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundNearest))
CONVERT(nvidia_e2m1_rz, __nv_cvt_float_to_fp4(x, __NV_E2M1, cudaRoundZero))
CONVERT(nvidia_e4m3, __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3))
CONVERT(nvidia_e8m0_up, __nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundPosInf))
CONVERT(nvidia_e8m0_rz, __nv_cvt_float_to_e8m0(x, __NV_SATFINITE, cudaRoundZero))
CONVERT(nvidia_f16, __half_as_ushort(__float2half_rn(x)))
CONVERT(nvidia_bf16, __bfloat16_as_ushort(__float2bfloat16_rn(x)))

CONVERT(nvidia_e2m1_value, value_bits(value_of(__nv_cvt_fp4_to_halfraw(bits & 15u, __NV_E2M1))))
CONVERT(nvidia_e4m3_value,
        value_bits(value_of(__nv_cvt_fp8_to_halfraw(static_cast<uint8_t>(bits), __NV_E4M3))))
CONVERT(nvidia_e8m0_value,
        value_bits(value_of(__nv_cvt_e8m0_to_bf16raw(static_cast<uint8_t>(bits)))))
CONVERT(nvidia_f16_value,
        value_bits(__half2float(__ushort_as_half(static_cast<unsigned short>(bits)))))
CONVERT(nvidia_bf16_value,
        value_bits(__bfloat162float(__ushort_as_bfloat16(static_cast<unsigned short>(bits)))))
#define NVIDIA(name) nvidia_##name
#else
#define NVIDIA(name) nullptr
#endif

/* The oracle */

/* STOCHASTIC with random_of the input; STOCHASTIC_ENDS with 0, and 255 in the bits above. */
enum rounding { NEAREST, TOWARD_ZERO, UP, STOCHASTIC, STOCHASTIC_ENDS };

/* A block has one sign and rising magnitudes: the code below x is found once and then moved on. */
static void round_block(oracle_format format, rounding how, uint32_t sign_bit, uint32_t nan,
                        uint32_t first, uint32_t *out)
{
    const uint32_t sign = first >> 31 ? sign_bit : 0u;
    unsigned below = 0;

    if (!oracle_is_nan(first)) {
        below = oracle_toward_zero(format, oracle_magnitude(first));
    }
    for (uint32_t i = 0; i < BLOCK; i++) {
        const uint32_t bits = first + i;
        const double x = oracle_magnitude(bits);
        unsigned code = 0;
        if (oracle_is_nan(bits)) {
            out[i] = nan;
            continue;
        }
        while (below + 1u < format.count && format.value[below + 1u] <= x) {
            below++;
        }
        switch (how) {
        case NEAREST:
            code = oracle_nearest_from(format, below, x);
            break;
        case TOWARD_ZERO:
            code = below;
            break;
        case UP:
            code = format.value[below] >= x || below + 1u == format.count ? below : below + 1u;
            break;
        case STOCHASTIC:
            code = oracle_e2m1_sr_from(below, bits, random_of(bits));
            break;
        case STOCHASTIC_ENDS:
            code = below | oracle_e2m1_sr_from(below, bits, 255) << 4;
            break;
        }
        out[i] = sign | code;
    }
}

#define ORACLE(name, format, how, sign_bit, nan) \
    static void name(uint32_t first, uint32_t *out) \
    { \
        round_block(format, how, sign_bit, nan, first, out); \
    }

ORACLE(oracle_e2m1_block, oracle_e2m1(), NEAREST, 8u, 7u)
ORACLE(oracle_e2m1_rz_block, oracle_e2m1(), TOWARD_ZERO, 8u, 7u)
ORACLE(oracle_e2m1_sr_block, oracle_e2m1(), STOCHASTIC, 8u, 7u)
ORACLE(oracle_e2m1_sr_ends_block, oracle_e2m1(), STOCHASTIC_ENDS, 0x88u, 0x77u)
ORACLE(oracle_e4m3_block, oracle_e4m3(), NEAREST, 0x80u, 0x7fu)
ORACLE(oracle_e8m0_up_block, oracle_e8m0(), UP, 0u, 255u)
ORACLE(oracle_e8m0_rz_block, oracle_e8m0(), TOWARD_ZERO, 0u, 255u)
ORACLE(oracle_f16_block, oracle_f16(), NEAREST, 0x8000u, 0x7fffu)
ORACLE(oracle_bf16_block, oracle_bf16(), NEAREST, 0x8000u, 0x7fffu)

/* A format with a sign bit above codes of which those up to `last` are finite. */
static uint32_t signed_value(uint32_t code, int mantissa_bits, int bias, uint32_t sign_bit,
                             uint32_t last, uint32_t beyond)
{
    const uint32_t magnitude = code & (sign_bit - 1u);
    const uint32_t sign = code & sign_bit ? 0x80000000u : 0u;

    if (magnitude <= last) {
        return sign | oracle_f32_bits(oracle_value(magnitude, mantissa_bits, bias));
    }
    return magnitude == last + 1u && beyond ? sign | beyond : 0x7fffffffu;
}

CONVERT(oracle_e2m1_value, signed_value(bits & 15u, 1, 1, 8u, 7u, 0u))
CONVERT(oracle_e4m3_value, signed_value(bits & 0xffu, 3, 7, 0x80u, 0x7eu, 0u))
CONVERT(oracle_e8m0_value,
        (bits & 0xffu) == 255u
            ? 0x7fffffffu
            : oracle_f32_bits(oracle_power(static_cast<int>(bits & 0xffu) - 127)))
CONVERT(oracle_e8m0_enc, oracle_f32_bits(oracle_power(127 - static_cast<int>(bits & 0xffu))))
CONVERT(oracle_f16_value, signed_value(bits & 0xffffu, 10, 15, 0x8000u, 0x7bffu, 0x7f800000u))
CONVERT(oracle_bf16_value, signed_value(bits & 0xffffu, 7, 127, 0x8000u, 0x7f7fu, 0x7f800000u))

#if !defined(__FAST_MATH__) /* which may divide by what is nearly the reciprocal */
/* Quotients. Input i is divisor 1 + m/2^23, m = i / 104, and a number up to 6 units in the last
   place from its product with a boundary between values of e2m1, or with 6. */

struct division {
    float a, divisor;
};

static const uint64_t divisions = 104ull << 23;

static inline division division_of(uint32_t i)
{
    static const float boundary[8] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 6.0f};
    const float divisor = fp4_bits_f32(0x3f800000u + i / 104u);
    const float at = fp4_mul_rn(divisor, boundary[i % 104u / 13u]);
    const division d = {fp4_bits_f32(fp4_f32_bits(at) + i % 13u - 6u), divisor};
    return d;
}

/* The code of a quotient, and whether it is more than 6. */
static inline uint32_t decided(float quotient)
{
    return fp4_f32_to_e2m1(quotient) | static_cast<uint32_t>(quotient > 6.0f) << 4;
}

static inline uint32_t our_division(division d)
{
    return decided(fp4_modelopt_quotient_(d.a, d.divisor, fp4_rcp_rn(d.divisor)));
}

/* 53 bits of a quotient of two numbers of 24 are more than enough to round it correctly. */
static inline uint32_t true_division(division d)
{
    return decided(static_cast<float>(static_cast<double>(d.a) / static_cast<double>(d.divisor)));
}

CONVERT(our_quotient, our_division(division_of(bits)))
CONVERT(oracle_quotient, true_division(division_of(bits)))

/* ModelOpt's fused_amax_convert has the scale of an MX block by a division and by the bits of its
   quotient; ours is by a product. Input: an amax, not negative and finite. */

static inline uint32_t byte_of_quotient(float quotient)
{
    const uint32_t bits = fp4_f32_bits(quotient), mantissa = bits & 0x7fffffu;
    const uint32_t is_low = bits >> 23 == 0u && mantissa <= 0x400000u; /* up to 2^-127 */

    return (bits >> 23) + (mantissa != 0u && bits >> 23 != 254u && is_low == 0u ? 1u : 0u);
}

CONVERT(our_mx_bytes, fp4_mxfp4_scale(x).bits | fp4_mxfp8_scale(x).bits << 8)
CONVERT(modelopt_mx_bytes, byte_of_quotient(x / 6.0f) | byte_of_quotient(x / 448.0f) << 8)
#endif

struct sweep {
    const char *name;
    uint64_t inputs; /* 0 .. inputs - 1 */
    block_function ours, oracle, nvidia;
};

static const uint64_t all = 1ull << 32;

static const sweep sweeps[] = {
    {"e2m1 to f32", 256, our_e2m1_value, oracle_e2m1_value, NVIDIA(e2m1_value)},
    {"e4m3 to f32", 256, our_e4m3_value, oracle_e4m3_value, NVIDIA(e4m3_value)},
    {"e8m0 to f32", 256, our_e8m0_value, oracle_e8m0_value, NVIDIA(e8m0_value)},
    {"e8m0 to factor", 256, our_e8m0_enc, oracle_e8m0_enc, nullptr},
    {"f16 to f32", 65536, our_f16_value, oracle_f16_value, NVIDIA(f16_value)},
    {"bf16 to f32", 65536, our_bf16_value, oracle_bf16_value, NVIDIA(bf16_value)},
    {"f32 to e2m1, nearest", all, our_e2m1, oracle_e2m1_block, NVIDIA(e2m1)},
    {"f32 to e2m1, toward zero", all, our_e2m1_rz, oracle_e2m1_rz_block, NVIDIA(e2m1_rz)},
    {"f32 to e2m1, stochastic, any byte", all, our_e2m1_sr, oracle_e2m1_sr_block, nullptr},
    {"f32 to e2m1, stochastic, bytes 0 and 255", all, our_e2m1_sr_ends, oracle_e2m1_sr_ends_block,
     nullptr},
    {"f32 to e4m3, nearest", all, our_e4m3, oracle_e4m3_block, NVIDIA(e4m3)},
    {"f32 to e8m0, up", all, our_e8m0_up, oracle_e8m0_up_block, NVIDIA(e8m0_up)},
    {"f32 to e8m0, toward zero", all, our_e8m0_rz, oracle_e8m0_rz_block, NVIDIA(e8m0_rz)},
    {"f32 to f16, nearest", all, our_f16, oracle_f16_block, NVIDIA(f16)},
    {"f32 to bf16, nearest", all, our_bf16, oracle_bf16_block, NVIDIA(bf16)},
#if !defined(__FAST_MATH__)
    {"quotients that decide", divisions, our_quotient, oracle_quotient, nullptr},
    {"MX scales, as fused_amax_convert", 0x7f800000u, our_mx_bytes, modelopt_mx_bytes, nullptr},
#endif
};

/* ---------------------------------------------------------------- comparing */

struct mismatch {
    uint32_t input, ours, theirs;
};

/* What one sweep found against one definition: how many differ, and the first of them. */
struct finding {
    uint64_t differ;
    std::vector<mismatch> first;
    std::mutex lock;

    finding() : differ(0)
    {
    }
};

static bool by_input(const mismatch &a, const mismatch &b)
{
    return a.input < b.input;
}

static void compare(finding &found, uint32_t first, uint32_t count, const uint32_t *ours,
                    const uint32_t *theirs)
{
    if (std::equal(ours, ours + count, theirs)) {
        return;
    }
    std::lock_guard<std::mutex> guard(found.lock);
    for (uint32_t i = 0; i < count; i++) {
        if (ours[i] != theirs[i]) {
            const mismatch m = {first + i, ours[i], theirs[i]};
            found.differ++;
            found.first.insert(
                std::upper_bound(found.first.begin(), found.first.end(), m, by_input), m);
            if (found.first.size() > SHOWN) {
                found.first.pop_back();
            }
        }
    }
}

/* Takes blocks from the counter until there are none left. */
static void work(const sweep &s, std::atomic<uint64_t> &next, finding &oracle, finding &nvidia)
{
    std::vector<uint32_t> ours(BLOCK), theirs(BLOCK);

    for (;;) {
        const uint64_t at = next.fetch_add(BLOCK);
        const uint32_t first = static_cast<uint32_t>(at);
        if (at >= s.inputs) {
            return;
        }
        const uint32_t count = static_cast<uint32_t>(std::min<uint64_t>(BLOCK, s.inputs - at));
        s.ours(first, ours.data());
        s.oracle(first, theirs.data());
        compare(oracle, first, count, ours.data(), theirs.data());
        if (s.nvidia != nullptr) {
            s.nvidia(first, theirs.data());
            compare(nvidia, first, count, ours.data(), theirs.data());
        }
    }
}

/* Prints one line, and below it the first inputs that differ. */
static void report(const sweep &s, const char *whose, const finding &found, unsigned counts[2])
{
    counts[found.differ != 0]++;
    std::printf("  %-6s %s: %llu of %llu differ\n", found.differ ? "FAILED" : "ok", whose,
                static_cast<unsigned long long>(found.differ),
                static_cast<unsigned long long>(s.inputs));
    for (const mismatch &m : found.first) {
        std::printf("         input %08x: ours %x, %s %x\n", m.input, m.ours, whose, m.theirs);
    }
}

static void run(const sweep &s, unsigned threads, unsigned counts[2])
{
    const auto start = std::chrono::steady_clock::now();
    std::atomic<uint64_t> next(0);
    std::vector<std::thread> workers;
    finding oracle, nvidia;

    std::printf("%s\n", s.name);
    std::fflush(stdout);
    for (unsigned i = 0; i < threads; i++) {
        workers.emplace_back([&s, &next, &oracle, &nvidia] { work(s, next, oracle, nvidia); });
    }
    for (std::thread &worker : workers) {
        worker.join();
    }
    report(s, "the oracle", oracle, counts);
    if (s.nvidia != nullptr) {
        report(s, "NVIDIA", nvidia, counts);
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("         %.1f s\n", seconds.count());
    std::fflush(stdout);
}

int main(int argc, char **argv)
{
    const unsigned cores = std::thread::hardware_concurrency();
    const unsigned threads = cores ? cores : 1u;
    volatile float tiny = 1e-40f;
    unsigned counts[2] = {0, 0}; /* passed, failed */

    /* before there are threads */
    oracle_e2m1();
    oracle_e4m3();
    oracle_e8m0();
    oracle_f16();
    oracle_bf16();

#if defined(__FAST_MATH__)
    std::printf("Fast-math build: against the oracle only.\n");
#elif !FP4_TEST_NVIDIA
    std::printf("*** NO NVIDIA HEADERS HERE (cuda_fp4.h): nothing is compared with NVIDIA's own\n"
                "*** conversions. What follows is against the oracle alone.\n");
#else
    std::printf("Against the oracle and NVIDIA's host code.\n");
#endif
    std::printf("%u threads; subnormals are %s\n", threads, tiny * 0.5f > 0 ? "kept" : "flushed");
    for (const sweep &s : sweeps) {
        if (argc < 2 || std::strstr(s.name, argv[1]) != nullptr) {
            run(s, threads, counts);
        }
    }
    std::printf("%u passed, %u failed\n", counts[0], counts[1]);
    return counts[0] == 0 || counts[1] != 0;
}

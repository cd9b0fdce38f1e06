/*
 * gpu_kv_append.cu - examples/13_kv_append.cu as the benchmark launches it; INPUT by -D. A row is
 * what a token has, half of it K, half V, heads of 128; the tokens go to pages of 16, mixed.
 * Positions start again after 4096, so that the table of cosines and sines stays in the L2 cache.
 */
#define NO_MAIN
#include "../../examples/13_kv_append.cu"

#include "gpu_bench.h"

#include <cmath>
#include <cstdint>
#include <vector>

enum { TOKENS = 16, DIM = 128, POSITIONS = 4096 };

static void *device_copy(const void *host, size_t bytes)
{
    void *p = NULL;

    return cudaMalloc(&p, bytes) == cudaSuccess &&
                   cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice) == cudaSuccess
               ? p
               : NULL;
}

/* Slots of `rows` tokens: pages of a sequence are anywhere, its tokens in their order. */
static const int64_t *slots_of(size_t rows)
{
    static void *made = NULL;
    static size_t made_for = 0;
    std::vector<int64_t> v;

    if (made_for != rows) {
        for (size_t i = 0; i < rows; i++) { /* an odd factor: a permutation of 2^n pages */
            v.push_back((int64_t)(i / TOKENS * 40503 % (rows / TOKENS) * TOKENS + i % TOKENS));
        }
        cudaFree(made);
        made = device_copy(v.data(), rows * sizeof v[0]);
        made_for = rows;
    }
    return (const int64_t *)made;
}

static const int64_t *positions_of(size_t rows)
{
    static void *made = NULL;
    static size_t made_for = 0;
    std::vector<int64_t> v;

    if (made_for != rows) {
        for (size_t i = 0; i < rows; i++) {
            v.push_back((int64_t)(i % POSITIONS));
        }
        cudaFree(made);
        made = device_copy(v.data(), rows * sizeof v[0]);
        made_for = rows;
    }
    return (const int64_t *)made;
}

static const float *table(void)
{
    static void *made = NULL;

    if (made == NULL) {
        std::vector<float> v((size_t)POSITIONS * DIM);
        for (size_t p = 0; p < POSITIONS; p++) {
            for (size_t i = 0; i < DIM / 2; i++) {
                const double angle = (double)p * std::pow(10000.0, -2.0 * (double)i / DIM);
                v[p * DIM + i] = (float)std::cos(angle);
                v[p * DIM + DIM / 2 + i] = (float)std::sin(angle);
            }
        }
        made = device_copy(v.data(), v.size() * sizeof v[0]);
    }
    return (const float *)made;
}

template <fp4_kv_order ORDER, fp4_kv_sf V_SF, int ROPE> /* 1: NeoX, 2: GPT-J */
static cudaError_t bench_append(const bench_buffers *b, cudaStream_t stream)
{
    const size_t half = b->rows * b->cols / 2;
    append_args a = {};

    a.k.x = b->x;
    a.k.x_token = b->cols;
    a.k.x_head = DIM;
    a.k.q = b->q;
    a.k.sf = b->sf;
    a.k.pages = fp4_kv_pages_packed(ORDER, FP4_KV_SF_LINEAR, b->rows / TOKENS, TOKENS,
                                    b->cols / 2 / DIM, DIM);
    a.k.global.device = b->global_enc;
    a.k.global.sense = FP4_KV_ENC;
    a.v = a.k;
    a.v.x = (const uint8_t *)b->x + b->cols / 2 * ELEMENT;
    a.v.q = b->q + half / 2;
    a.v.sf = b->sf + half / 16;
    a.v.pages = fp4_kv_pages_packed(ORDER, V_SF, b->rows / TOKENS, TOKENS, b->cols / 2 / DIM, DIM);
    a.tokens = b->rows;
    a.slots.data = slots_of(b->rows);
    a.slots.is_64 = 1;
    if (ROPE) {
        a.positions.data = positions_of(b->rows);
        a.positions.is_64 = 1;
        a.cos_sin = table();
        a.max_position = POSITIONS;
        a.rotary = DIM;
        a.style = ROPE == 2 ? FP4_ROPE_GPTJ : FP4_ROPE_NEOX;
    }
    if (a.slots.data == NULL || (ROPE && (a.cos_sin == NULL || a.positions.data == NULL))) {
        return cudaErrorMemoryAllocation;
    }
    return append(&a, 0, stream);
}

static bench_kernel bench_entry(const char *name,
                                cudaError_t (*launch)(const bench_buffers *, cudaStream_t))
{
    bench_kernel k = {};

    k.name = name;
    k.input = BENCH_TEXT(INPUT);
    k.format = "nvfp4";
    k.traffic = {TRAFFIC_TO_CODES, ELEMENT, 4, 16, 2, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0};
    k.only_large = 1;
    k.launch = launch;
    return k;
}

BENCH_KERNELS(bench_entry("13_kv_append NHD", bench_append<FP4_KV_NHD, FP4_KV_SF_LINEAR, 0>),
              bench_entry("13_kv_append HND 4x1", bench_append<FP4_KV_HND, FP4_KV_SF_4X1, 0>),
              bench_entry("13_kv_append NHD NeoX", bench_append<FP4_KV_NHD, FP4_KV_SF_LINEAR, 1>),
              bench_entry("13_kv_append HND 4x1 NeoX", bench_append<FP4_KV_HND, FP4_KV_SF_4X1, 1>),
              bench_entry("13_kv_append NHD GPT-J", bench_append<FP4_KV_NHD, FP4_KV_SF_LINEAR, 2>));

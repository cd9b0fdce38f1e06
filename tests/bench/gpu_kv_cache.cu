/*
 * gpu_kv_cache.cu - examples/12_kv_cache.cu as the benchmark launches it; INPUT by -D. A row is
 * what a token has, half of it K, half V, heads of 128; pages of 16 tokens, brought back through
 * tables that mix them.
 */
#define NO_MAIN
#include "../../examples/12_kv_cache.cu"

#include "gpu_bench.h"

#include <cstdint>
#include <vector>

enum { TOKENS = 16, DIM = 128, SEQUENCES = 64 };

static fp4_kv_pages pages_of(const bench_buffers *b, fp4_kv_order order, fp4_kv_sf sf)
{
    return fp4_kv_pages_packed(order, sf, b->rows / TOKENS, TOKENS, b->cols / 2 / DIM, DIM);
}

template <fp4_kv_order ORDER, fp4_kv_sf V_SF>
static cudaError_t bench_quantize(const bench_buffers *b, cudaStream_t stream)
{
    const size_t half = b->rows * b->cols / 2;
    quantize_kv_args a = {};

    a.k.q = b->q;
    a.k.sf = b->sf;
    a.k.x = b->x;
    a.k.pages = pages_of(b, ORDER, FP4_KV_SF_LINEAR);
    a.k.x_stride = a.v.x_stride = TOKENS * b->cols / 2;
    a.k.global.device = a.v.global.device = b->global_enc;
    a.k.global.sense = a.v.global.sense = FP4_KV_ENC;
    a.v.q = b->q + half / 2;
    a.v.sf = b->sf + half / 16;
    a.v.x = (const uint8_t *)b->x + half * ELEMENT;
    a.v.pages = pages_of(b, ORDER, V_SF);
    return quantize_kv_cache(&a, 0, stream);
}

/* Tables and lengths for so many pages. */
static const int32_t *tables_of(size_t pages)
{
    static int32_t *made = NULL;
    static size_t made_for = 0;
    std::vector<int32_t> v;

    if (made_for != pages) {
        for (size_t p = 0; p < pages; p++) { /* an odd factor: a permutation of 2^n pages */
            v.push_back((int32_t)(p * 40503 % pages));
        }
        for (size_t i = 0; i < SEQUENCES; i++) {
            v.push_back((int32_t)(pages / SEQUENCES * TOKENS));
        }
        cudaFree(made);
        if (cudaMalloc((void **)&made, v.size() * sizeof v[0]) != cudaSuccess ||
            cudaMemcpy(made, v.data(), v.size() * sizeof v[0], cudaMemcpyHostToDevice) !=
                cudaSuccess) {
            return NULL;
        }
        made_for = pages;
    }
    return made;
}

template <fp4_kv_order ORDER, fp4_kv_sf V_SF>
static cudaError_t bench_dequantize(const bench_buffers *b, cudaStream_t stream)
{
    const size_t half = b->rows * b->cols / 2, pages = b->rows / TOKENS;
    const int32_t *tables = tables_of(pages);
    dequantize_kv_args a = {};

    if (tables == NULL) {
        return cudaErrorMemoryAllocation;
    }
    a.k.y = b->y;
    a.k.q = b->q;
    a.k.sf = b->sf;
    a.k.pages = pages_of(b, ORDER, FP4_KV_SF_LINEAR);
    a.k.strides.head = DIM;
    a.k.strides.token = b->cols / 2;
    a.k.strides.batch = b->rows / SEQUENCES * (b->cols / 2);
    a.k.global.device = b->global_enc; /* any number will do */
    a.k.global.sense = FP4_KV_DEC;
    a.v = a.k;
    a.v.y = b->y + half * ELEMENT;
    a.v.q = b->q + half / 2;
    a.v.sf = b->sf + half / 16;
    a.v.pages = pages_of(b, ORDER, V_SF);
    a.tables.data = tables;
    a.table_stride = a.max_pages = pages / SEQUENCES;
    a.seq_lens = tables + pages;
    a.batches = SEQUENCES;
    a.max_tokens = b->rows / SEQUENCES;
    return dequantize_kv_cache(&a, 0, stream);
}

static bench_kernel bench_entry(const char *name, int is_back,
                                cudaError_t (*launch)(const bench_buffers *, cudaStream_t))
{
    bench_kernel k = {};

    k.name = name;
    k.input = is_back ? "nvfp4" : BENCH_TEXT(INPUT);
    k.format = is_back ? BENCH_TEXT(INPUT) : "nvfp4";
    k.traffic = {is_back ? TRAFFIC_FROM_CODES : TRAFFIC_TO_CODES,
                 ELEMENT,
                 4,
                 16,
                 2,
                 0,
                 FP4_LAYOUT_LINEAR,
                 TRAFFIC_ONE,
                 0};
    k.only_large = 1;
    k.launch = launch;
    return k;
}

BENCH_KERNELS(bench_entry("12_kv_cache NHD", 0, bench_quantize<FP4_KV_NHD, FP4_KV_SF_LINEAR>),
              bench_entry("12_kv_cache NHD 4x1", 0, bench_quantize<FP4_KV_NHD, FP4_KV_SF_4X1>),
              bench_entry("12_kv_cache HND", 0, bench_quantize<FP4_KV_HND, FP4_KV_SF_LINEAR>),
              bench_entry("12_kv_cache HND 4x1", 0, bench_quantize<FP4_KV_HND, FP4_KV_SF_4X1>),
              bench_entry("12_kv_cache NHD", 1, bench_dequantize<FP4_KV_NHD, FP4_KV_SF_LINEAR>),
              bench_entry("12_kv_cache NHD 4x1", 1, bench_dequantize<FP4_KV_NHD, FP4_KV_SF_4X1>),
              bench_entry("12_kv_cache HND", 1, bench_dequantize<FP4_KV_HND, FP4_KV_SF_LINEAR>),
              bench_entry("12_kv_cache HND 4x1", 1, bench_dequantize<FP4_KV_HND, FP4_KV_SF_4X1>));

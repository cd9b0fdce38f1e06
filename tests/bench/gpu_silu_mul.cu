/*
 * gpu_silu_mul.cu - examples/04_silu_mul.cu as the benchmark launches it; INPUT, FORMAT, ACTIVATION
 * by -D. The halves of a row stand one after the other. SiLU to NVFP4 also with a scale for each
 * token.
 */
#define NO_MAIN
#include "../../examples/04_silu_mul.cu"

#include "gpu_bench.h"

static gated_args bench_args(const bench_buffers *b)
{
    gated_args a = {};

    a.x = b->x;
    a.rows = b->rows;
    a.cols = b->cols;
    a.x_stride = 2 * b->cols;
    a.global_device = b->global_enc;
    a.q = b->q;
    a.sf = b->sf;
    a.layout = b->layout;
    return a;
}

static cudaError_t bench_gated(const bench_buffers *b, cudaStream_t stream)
{
    const gated_args a = bench_args(b);
    return gated_quantize(&a, 0, stream);
}

static cudaError_t bench_per_token(const bench_buffers *b, cudaStream_t stream)
{
    gated_args a = bench_args(b);
    a.global_device = b->base_dec;
    a.global_is_dec = 1;
    a.token_dec = b->token_dec;
    return gated_quantize(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout, int per_token)
{
    bench_kernel k = {};

    k.name = per_token ? "04_silu_mul " BENCH_TEXT(ACTIVATION) " per token"
                       : "04_silu_mul " BENCH_TEXT(ACTIVATION);
    k.input = BENCH_TEXT(INPUT);
    k.format = BENCH_TEXT(FORMAT);
    k.traffic = bench_fused(k.input, k.format, layout, TRAFFIC_GATED);
    if (!per_token) {
        k.launch = bench_gated;
    } else if (strcmp(BENCH_TEXT(ACTIVATION), "gelu_tanh") != 0 && k.traffic.block == 16) {
        k.launch = bench_per_token;
    }
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR, 0), bench_entry(FP4_LAYOUT_128X4, 0),
              bench_entry(FP4_LAYOUT_LINEAR, 1), bench_entry(FP4_LAYOUT_128X4, 1));

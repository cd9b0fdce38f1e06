/*
 * gpu_rmsnorm.cu - examples/03_rmsnorm.cu as the benchmark launches it; INPUT, FORMAT, NORM by -D.
 * To NVFP4 also with a scale for each token, but for LayerNorm.
 */
#define NO_MAIN
#include "../../examples/03_rmsnorm.cu"

#include "gpu_bench.h"

static int bench_is_norm(const char *norm)
{
    return strcmp(BENCH_TEXT(NORM), norm) == 0;
}

static norm_args bench_args(const bench_buffers *b)
{
    norm_args a = {};

    a.x = b->x;
    a.weight = b->weight;
    a.bias = bench_is_norm("layernorm") ? b->bias : NULL;
    a.residual = b->residual;
    a.rows = b->rows;
    a.cols = a.x_stride = a.residual_stride = b->cols;
    a.eps = 1e-5f;
    a.global_device = b->global_enc;
    a.q = b->q;
    a.sf = b->sf;
    a.layout = b->layout;
    return a;
}

static cudaError_t bench_norm(const bench_buffers *b, cudaStream_t stream)
{
    const norm_args a = bench_args(b);
    return norm_quantize(&a, 0, stream);
}

static cudaError_t bench_per_token(const bench_buffers *b, cudaStream_t stream)
{
    norm_args a = bench_args(b);
    a.global_device = b->base_dec;
    a.global_is_dec = 1;
    a.token_dec = b->token_dec;
    return norm_quantize(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout, int per_token)
{
    const traffic_inputs inputs = bench_is_norm("add_rmsnorm") ? TRAFFIC_RESIDUAL : TRAFFIC_ONE;
    bench_kernel k = {};

    k.name =
        per_token ? "03_rmsnorm " BENCH_TEXT(NORM) " per token" : "03_rmsnorm " BENCH_TEXT(NORM);
    k.input = BENCH_TEXT(INPUT);
    k.format = BENCH_TEXT(FORMAT);
    k.traffic = bench_fused(k.input, k.format, layout, inputs);
    k.weights = bench_is_norm("layernorm") ? 2 : 1;
    if (!per_token) {
        k.launch = bench_norm;
    } else if (!bench_is_norm("layernorm") && k.traffic.block == 16) {
        k.launch = bench_per_token;
    }
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR, 0), bench_entry(FP4_LAYOUT_128X4, 0),
              bench_entry(FP4_LAYOUT_LINEAR, 1), bench_entry(FP4_LAYOUT_128X4, 1));

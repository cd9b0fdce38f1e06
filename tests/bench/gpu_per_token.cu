/* examples/05_per_token.cu as the benchmark launches it; INPUT, FORMAT by -D. */
#define NO_MAIN
#include "../../examples/05_per_token.cu"

#include "gpu_bench.h"

static cudaError_t bench_per_token(const bench_buffers *b, cudaStream_t stream)
{
    token_args a = {};

    a.x = b->x;
    a.rows = b->rows;
    a.cols = a.x_stride = b->cols;
    a.base_device = b->base_dec;
    a.q = b->q;
    a.sf = b->sf;
    a.layout = b->layout;
    a.token_dec = b->token_dec;
    return token_quantize(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout)
{
    bench_kernel k = {};

    k.name = "05_per_token";
    k.input = BENCH_TEXT(INPUT);
    k.format = BENCH_TEXT(FORMAT);
    k.traffic = bench_fused(k.input, k.format, layout, TRAFFIC_ONE);
    k.launch = bench_per_token;
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR), bench_entry(FP4_LAYOUT_128X4));

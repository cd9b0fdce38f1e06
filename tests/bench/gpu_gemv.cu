/* examples/09_gemv.cu as the benchmark launches it; INPUT, FORMAT, OUTPUT by -D. */
#define NO_MAIN
#include "../../examples/09_gemv.cu"

#include "gpu_bench.h"

static cudaError_t bench_gemv(const bench_buffers *b, cudaStream_t stream)
{
    gemv_args a = {};

    a.y = b->y;
    a.q = b->q;
    a.sf = b->sf;
    a.x = b->weight;
    a.rows = b->rows;
    a.cols = b->cols;
    a.layout = b->layout;
    a.global_device = b->global_enc; /* any number will do */
    return gemv(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout)
{
    bench_kernel k = {};

    k.name = "09_gemv";
    k.input = BENCH_TEXT(FORMAT);
    k.format = BENCH_TEXT(OUTPUT);
    k.traffic = {TRAFFIC_SUMS, WORDS / 4, 4, BLOCK, IS_NVFP4, 0, layout, TRAFFIC_ONE, 0};
    k.weights = 1;
    k.only_large = 1;
    k.launch = bench_gemv;
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR), bench_entry(FP4_LAYOUT_128X4));

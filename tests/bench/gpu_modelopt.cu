/*
 * gpu_modelopt.cu - examples/15_modelopt.cu as the benchmark launches it; INPUT, FORMAT by -D.
 */
#define NO_MAIN
#include "../../examples/15_modelopt.cu"

#include "gpu_bench.h"

static cudaError_t bench_modelopt(const bench_buffers *b, cudaStream_t stream)
{
    modelopt_args a = {};

    a.q = b->q;
    a.sf = b->sf;
    a.x = b->x;
    a.rows = b->rows;
    a.cols = a.x_stride = b->cols;
    a.layout = b->layout;
    a.amax_device = b->global_amax;
    a.fp8_max = 448.0f;
    return modelopt_quantize(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout)
{
    bench_kernel k = {};

    k.name = "15_modelopt";
    k.input = BENCH_TEXT(INPUT);
    k.format = BENCH_TEXT(FORMAT);
    k.traffic = {TRAFFIC_TO_CODES, ELEMENT,     CODES / 2, BLOCK, HAS_GLOBAL, 0,
                 layout,           TRAFFIC_ONE, 0};
    k.launch = bench_modelopt;
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR), bench_entry(FP4_LAYOUT_128X4));

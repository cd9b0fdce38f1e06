/* examples/00_first.cu, the README's kernel, as the benchmark launches it. */
#define NO_MAIN
#include "../../examples/00_first.cu"

#include "gpu_bench.h"

static cudaError_t bench_first(const bench_buffers *b, cudaStream_t stream)
{
    return rmsnorm_quantize(b->q, b->sf, (const uint16_t *)b->x, (const uint16_t *)b->weight,
                            (int)b->rows, (int)b->cols, 1e-5f, 448.0f, stream);
}

static bench_kernel bench_entry(void)
{
    bench_kernel k = {};

    k.name = "00_first rmsnorm";
    k.input = "bf16";
    k.format = "nvfp4";
    k.traffic = bench_fused(k.input, k.format, FP4_LAYOUT_128X4, TRAFFIC_ONE);
    k.weights = 1;
    k.launch = bench_first;
    return k;
}

BENCH_KERNELS(bench_entry());

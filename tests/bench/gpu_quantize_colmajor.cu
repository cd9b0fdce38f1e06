/* examples/02_quantize_colmajor.cu as the benchmark launches it; INPUT, FORMAT, LAYOUT by -D. */
#define NO_MAIN
#include "../../examples/02_quantize_colmajor.cu"

#include "gpu_bench.h"

static cudaError_t launch_colmajor(const bench_buffers *b, cudaStream_t stream)
{
    quantize_args a = {};

    a.q = b->q;
    a.sf = b->sf;
    a.x = b->x;
    a.rows = a.col_stride = b->rows;
    a.cols = b->cols;
    a.global.device = b->global_enc;
    a.x_dec = 0.5f;
    return quantize(&a, 0, stream);
}

BENCH_KERNELS({"02_quantize_colmajor",
               BENCH_TEXT(INPUT),
               BENCH_TEXT(FORMAT),
               {TRAFFIC_TO_CODES, ELEMENT, CODES * 8 / BLOCK, BLOCK, BLOCK == 16, 1, LAYOUT,
                TRAFFIC_ONE, 0},
               0,
               0,
               launch_colmajor,
               NULL,
               0});

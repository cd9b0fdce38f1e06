/* examples/01_quantize.cu as the benchmark launches it; INPUT, FORMAT, LAYOUT by -D. */
#define NO_MAIN
#include "../../examples/01_quantize.cu"

#include "gpu_bench.h"

static cudaError_t launch_quantize(const bench_buffers *b, cudaStream_t stream)
{
    quantize_args a = {};

    a.q = b->q;
    a.sf = b->sf;
    a.x = b->x;
    a.batches = 1;
    a.rows = b->rows;
    a.cols = a.q_cols = a.row_stride = b->cols;
    a.global.device = b->global_enc;
    a.x_dec.device = b->x_dec;
    return quantize(&a, 0, stream);
}

BENCH_KERNELS({"01_quantize",
               BENCH_TEXT(INPUT),
               BENCH_TEXT(FORMAT),
               {TRAFFIC_TO_CODES, ELEMENT, CODES / 2, BLOCK, (BLOCK == 16) + (ELEMENT == 1), 0,
                LAYOUT, TRAFFIC_ONE, 0},
               0,
               0,
               launch_quantize,
               NULL,
               0});

/*
 * gpu_shuffle.cu - examples/11_shuffle.cu as the benchmark launches it: scales of one byte and of
 * two to 128x4 and back, also with their rows shuffled, the rows of a matrix, and codes and scales
 * at once. As many bytes as a matrix of bf16 has, to as many others: the limit copies them.
 */
#define NO_MAIN
#include "../../examples/11_shuffle.cu"

#include "gpu_bench.h"

template <int ELEMENT_BYTES, int TILE, int REVERSE>
static cudaError_t bench_interleave(const bench_buffers *b, cudaStream_t stream)
{
    interleave_args a = {};

    a.out = b->y;
    a.in = b->x;
    a.element = ELEMENT_BYTES;
    a.batches = 16;
    a.rows = b->rows / 16;
    a.sf_cols = b->cols * 2 / ELEMENT_BYTES;
    a.layout = FP4_LAYOUT_128X4;
    a.epilogue_tile_m = TILE;
    a.reverse = REVERSE;
    return interleave(&a, 0, stream);
}

static cudaError_t bench_rows(const bench_buffers *b, cudaStream_t stream)
{
    shuffle_args a = {};

    a.out = b->y;
    a.in = b->x;
    a.batches = 1;
    a.rows = b->rows;
    a.row_bytes = b->cols * 2;
    a.epilogue_tile_m = 128;
    return shuffle(&a, 0, stream);
}

/* Half of the bytes are codes, half scales. */
static cudaError_t bench_tensor(const bench_buffers *b, cudaStream_t stream)
{
    shuffle_tensor_args a = {};

    a.q_out = b->y;
    a.sf_out = b->y + b->rows * b->cols;
    a.q = (const uint8_t *)b->x;
    a.sf = a.q + b->rows * b->cols;
    a.batches = 1;
    a.rows = b->rows;
    a.q_row_bytes = a.sf_cols = b->cols;
    a.epilogue_tile_m = 128;
    return shuffle_tensor(&a, 0, stream);
}

static bench_kernel bench_entry(const char *name,
                                cudaError_t (*launch)(const bench_buffers *, cudaStream_t))
{
    bench_kernel k = {};

    k.name = name;
    k.input = "bf16";
    k.format = "bytes";
    k.traffic = {TRAFFIC_FAKE, 2, 0, 16, 0, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0};
    k.only_large = 1;
    k.launch = launch;
    return k;
}

BENCH_KERNELS(bench_entry("11_shuffle scales", bench_interleave<1, 0, 0>),
              bench_entry("11_shuffle scales back", bench_interleave<1, 0, 1>),
              bench_entry("11_shuffle scales of 2", bench_interleave<2, 0, 0>),
              bench_entry("11_shuffle scales of 2 back", bench_interleave<2, 0, 1>),
              bench_entry("11_shuffle scales by 128", bench_interleave<1, 128, 0>),
              bench_entry("11_shuffle rows", bench_rows),
              bench_entry("11_shuffle codes and scales", bench_tensor));

/* examples/08_amax.cu as the benchmark launches it: the amax of each block of 16 and of all, and the
   tensor's global scale; INPUT by -D. */
#define NO_MAIN
#include "../../examples/08_amax.cu"

#include "gpu_bench.h"

/* What the tensor's numbers need: two words that are left 0, and a place for each of them. */
static cudaError_t of_tensor(uint32_t **words)
{
    static uint32_t *made = NULL;
    cudaError_t error = cudaSuccess;

    if (made == NULL) {
        error = cudaMalloc((void **)&made, 4 * sizeof *made);
        error = error == cudaSuccess ? cudaMemset(made, 0, 4 * sizeof *made) : error;
    }
    *words = made;
    return error;
}

static cudaError_t bench_amax(const bench_buffers *b, cudaStream_t stream)
{
    uint32_t *words;
    cudaError_t error = of_tensor(&words);
    amax_args a = {};

    if (error != cudaSuccess) {
        return error;
    }
    a.x = b->x;
    a.rows = b->rows;
    a.cols = a.x_stride = b->cols;
    a.block_amax = (float *)b->q;
    a.block = 16;
    a.workspace = words;
    a.amax = (float *)words + 2;
    a.global_enc = (float *)words + 3;
    return find_amax(&a, 0, stream);
}

static bench_kernel bench_entry(void)
{
    bench_kernel k = {};

    k.name = "08_amax";
    k.input = BENCH_TEXT(INPUT);
    k.format = "amaxes";
    k.traffic = {TRAFFIC_EIGHTH, ELEMENT, 2, 128, 0, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0};
    k.launch = bench_amax;
    return k;
}

BENCH_KERNELS(bench_entry());

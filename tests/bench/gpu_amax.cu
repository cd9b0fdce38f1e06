/* examples/08_amax.cu as the benchmark launches it: the amax of each block of 16 and of all, and
   the tensor's global scale; ModelOpt's scales, x being the amaxes. INPUT by -D. */
#define NO_MAIN
#include "../../examples/08_amax.cu"

#include "gpu_bench.h"

FP4_STATIC_ASSERT(ELEMENT == 2, "an f32 for 16 of them is an eighth of their bytes");

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

static cudaError_t bench_scales(const bench_buffers *b, cudaStream_t stream)
{
    scales_args a = {};

    a.scales = (float *)b->y;
    a.amax = (const float *)b->x;
    a.n = b->rows * b->cols;
    a.global_device = b->global_amax;
    a.fp8_max = 448.0f;
    return find_scales(&a, 0, stream);
}

static bench_kernel bench_entry(const char *name, const char *input, const char *format,
                                bench_traffic traffic,
                                cudaError_t (*launch)(const bench_buffers *, cudaStream_t))
{
    bench_kernel k = {};

    k.name = name;
    k.input = input;
    k.format = format;
    k.traffic = traffic;
    k.launch = launch;
    return k;
}

BENCH_KERNELS(
    bench_entry("08_amax", BENCH_TEXT(INPUT), "amaxes",
                {TRAFFIC_EIGHTH, ELEMENT, 2, 128, 0, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0},
                bench_amax),
    bench_entry("08_amax", "f32", "scales",
                {TRAFFIC_FAKE, 4, 0, 16, 1, 0, FP4_LAYOUT_LINEAR, TRAFFIC_ONE, 0}, bench_scales));

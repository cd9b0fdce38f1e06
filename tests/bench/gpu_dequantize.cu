/*
 * gpu_dequantize.cu - examples/06_dequantize.cu as the benchmark launches it; FORMAT, OUTPUT, RULE
 * by -D. To bf16 from all layouts, to others from linear scales; of 4 bits also by the launcher for
 * blocks of any length, with the format's and, at --cols 8160, with 24, 48 and 20.
 */
#define NO_MAIN
#include "../../examples/06_dequantize.cu"

#include "gpu_bench.h"

static cudaError_t bench_rows(const bench_buffers *b, cudaStream_t stream)
{
    dequantize_args a = {};

    a.y = b->y;
    a.q = b->q;
    a.sf = b->sf;
    a.global.device = b->global_enc;
    a.global.is_enc = 1;
    a.layout = b->layout;
    a.batches = 1;
    a.rows = b->rows;
    a.cols = a.row_stride = b->cols;
    return dequantize(&a, 0, stream);
}

/* Whole blocks of LENGTH: the benchmark asks for no others. */
template <int LENGTH> static cudaError_t bench_blocks(const bench_buffers *b, cudaStream_t stream)
{
    blocks_args a = {};

    a.y = b->y;
    a.q = b->q;
    a.sf = b->sf;
    a.sf_type = IS_NVFP4 ? BLOCKS_E4M3 : BLOCKS_E8M0;
    a.global.device = IS_NVFP4 ? b->global_enc : NULL;
    a.global.is_enc = IS_NVFP4;
    a.global.value = 1.0f;
    a.n = b->rows * b->cols;
    a.block = LENGTH;
    return dequantize_blocks(&a, 0, stream);
}

static bench_kernel bench_entry(fp4_layout layout)
{
    const bool is_linear = layout == FP4_LAYOUT_LINEAR;
    bench_kernel k = {};

    k.name = IS_MODELOPT ? "06_dequantize modelopt" : "06_dequantize";
    k.input = BENCH_TEXT(FORMAT);
    k.format = BENCH_TEXT(OUTPUT);
    k.traffic = {TRAFFIC_FROM_CODES, ELEMENT, BITS, BLOCK, IS_NVFP4, 0, layout, TRAFFIC_ONE, 0};
    k.launch = is_linear || strcmp(k.format, "bf16") == 0 ? bench_rows : NULL;
    return k;
}

template <int LENGTH> static bench_kernel blocks_entry(const char *name)
{
    bench_kernel k = bench_entry(FP4_LAYOUT_LINEAR);

    k.name = name;
    k.traffic.block = LENGTH;
    k.launch = BITS == 4 && !IS_MODELOPT ? bench_blocks<LENGTH> : NULL;
    return k;
}

BENCH_KERNELS(bench_entry(FP4_LAYOUT_LINEAR), bench_entry(FP4_LAYOUT_128X4),
              bench_entry(FP4_LAYOUT_8X4), blocks_entry<BLOCK>("06_dequantize blocks"),
              blocks_entry<24>("06_dequantize blocks of 24"),
              blocks_entry<48>("06_dequantize blocks of 48"),
              blocks_entry<20>("06_dequantize blocks of 20"));

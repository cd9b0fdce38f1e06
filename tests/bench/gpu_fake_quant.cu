/*
 * gpu_fake_quant.cu - examples/07_fake_quant.cu as the benchmark launches it; INPUT, OUTPUT, RULE
 * by -D. bf16 by nvfp4 and modelopt also static, with the amax of each block given, and by nvfp4
 * also with the bits that say what is clipped.
 */
#define NO_MAIN
#include "../../examples/07_fake_quant.cu"

#include "gpu_bench.h"

static_assert(ELEMENT == OUT_ELEMENT, "bench_traffic has one size for both");

static cudaError_t bench_fake(const bench_buffers *b, cudaStream_t stream)
{
    fake_args a = {};

    a.y = b->y;
    a.x = b->x;
    a.rows = b->rows;
    a.cols = a.x_stride = a.y_stride = b->cols;
    a.global_device = IS_MODELOPT ? b->global_amax : b->global_enc;
    a.amax = b->amax;
    a.block = BLOCK;
    a.fp8_max = 448.0f;
    a.clipped = b->q;
    return fake_quantize(&a, 0, stream);
}

static bench_kernel bench_entry(int is_static, int is_clipped)
{
    const bool is_nvfp4 = strcmp(BENCH_TEXT(RULE), "nvfp4") == 0, is_bf16 = ELEMENT == 2;
    bench_kernel k = {};

    k.name = is_static    ? "07_fake_quant static"
             : is_clipped ? "07_fake_quant clipped"
                          : "07_fake_quant";
    k.input = BENCH_TEXT(INPUT);
    k.format = BENCH_TEXT(RULE);
    k.traffic = {TRAFFIC_FAKE,
                 ELEMENT,
                 is_clipped,
                 is_static ? BLOCK : 16, /* else nothing depends on it: the same traffic */
                 HAS_GLOBAL,
                 0,
                 FP4_LAYOUT_LINEAR,
                 is_static ? TRAFFIC_AMAX : TRAFFIC_ONE,
                 0};
    if ((!is_static && !is_clipped) || (is_static && is_bf16 && (is_nvfp4 || IS_MODELOPT)) ||
        (is_clipped && is_bf16 && is_nvfp4)) {
        k.launch = bench_fake;
    }
    return k;
}

BENCH_KERNELS(bench_entry(0, 0), bench_entry(1, 0), bench_entry(0, 1));

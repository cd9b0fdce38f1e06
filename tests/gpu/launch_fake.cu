/*
 * tests/gpu/launch_fake.cu - the launcher of examples/07_fake_quant.cu for one INPUT, OUTPUT and
 * RULE, under a name of its own (launch.h).
 */
#define NO_MAIN
/* The launcher has another kernel for more than SMALL pieces. Here that comes earlier, so that
   small matrices reach it. */
#define SMALL (1 << 9)
#include "../../examples/07_fake_quant.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_FAKE(INPUT, OUTPUT, RULE)(const launch_fake_args *args, int pdl,
                                                        cudaStream_t stream)
{
    fake_args a = {};

    a.y = args->y;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.y_stride = args->y_stride;
    a.global_device = args->global_device;
    a.global_rows = args->global_rows;
    a.global = args->global;
    a.amax = args->amax;
    a.block = args->block;
    a.fp8_max = args->fp8_max;
    a.clipped = args->clipped;
    return fake_quantize(&a, pdl, stream);
}

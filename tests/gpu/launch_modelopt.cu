/*
 * tests/gpu/launch_modelopt.cu - the launcher of examples/15_modelopt.cu for one INPUT and FORMAT,
 * under a name of its own (launch.h).
 */
#define NO_MAIN
/* The launcher has other kernels for more than SMALL pieces. Here that comes earlier, so that small
   matrices reach them. */
#define SMALL (1 << 9)
#include "../../examples/15_modelopt.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_MODELOPT(INPUT, FORMAT)(const launch_modelopt_args *args, int pdl,
                                                      cudaStream_t stream)
{
    modelopt_args a = {};

    a.q = args->q;
    a.sf = args->sf;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.layout = (fp4_layout)args->layout;
    a.amax_device = args->amax_device;
    a.amax = args->amax;
    a.fp8_max = args->fp8_max;
    a.block_amax = args->block_amax;
    a.global_dec = args->global_dec;
    return modelopt_quantize(&a, pdl, stream);
}

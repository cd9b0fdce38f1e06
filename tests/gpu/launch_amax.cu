/*
 * tests/gpu/launch_amax.cu - the launchers of examples/08_amax.cu for one INPUT, under names of
 * their own (launch.h).
 */
#define NO_MAIN
#include "../../examples/08_amax.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_AMAX(INPUT)(const launch_amax_args *args, int pdl,
                                          cudaStream_t stream)
{
    amax_args a = {};

    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.block_amax = args->block_amax;
    a.block = args->block;
    a.amax = args->amax;
    a.global_enc = args->global_enc;
    a.global_dec = args->global_dec;
    a.workspace = args->workspace;
    return find_amax(&a, pdl, stream);
}

extern "C" cudaError_t LAUNCH_SCALES(INPUT)(const launch_scales_args *args, int pdl,
                                            cudaStream_t stream)
{
    scales_args a = {};

    a.scales = args->scales;
    a.amax = args->amax;
    a.n = args->n;
    a.global_device = args->global_device;
    a.global = args->global;
    a.fp8_max = args->fp8_max;
    return find_scales(&a, pdl, stream);
}

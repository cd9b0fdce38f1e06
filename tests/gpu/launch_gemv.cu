/*
 * tests/gpu/launch_gemv.cu - the launcher of examples/09_gemv.cu for one INPUT, FORMAT and OUTPUT,
 * under a name of its own (launch.h).
 */
#define NO_MAIN
#include "../../examples/09_gemv.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_GEMV(INPUT, FORMAT, OUTPUT)(const launch_gemv_args *args, int pdl,
                                                          cudaStream_t stream)
{
    gemv_args a = {};

    a.y = args->y;
    a.q = args->q;
    a.sf = args->sf;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.layout = (fp4_layout)args->layout;
    a.global_device = args->global_device;
    a.global_dec = args->global_dec;
    return gemv(&a, pdl, stream);
}

/*
 * tests/gpu/launch_columns.cu - the launcher of examples/02_quantize_colmajor.cu for one INPUT,
 * FORMAT and LAYOUT, under a name of its own (launch.h).
 */
#define NO_MAIN
#include "../../examples/02_quantize_colmajor.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_COLUMNS(INPUT, FORMAT, LAYOUT)(const launch_args *args, int pdl,
                                                             cudaStream_t stream)
{
    quantize_args a = {};

    a.q = args->q;
    a.sf = args->sf;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.col_stride = args->row_stride;
    a.global.device = args->global.device;
    a.global.value = args->global.value;
    a.global.is_dec = args->global.is_dec;
    a.global.row_step = args->global.row_step;
    a.x_dec = args->x_dec.value;
    return quantize(&a, pdl, stream);
}

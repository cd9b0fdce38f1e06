/*
 * tests/gpu/launch_rows.cu - the launcher of examples/01_quantize.cu for one INPUT, FORMAT and
 * LAYOUT, under a name of its own (launch.h).
 */
#define NO_MAIN
#include "../../examples/01_quantize.cu"

#include "launch.h"

static quantize_scale scale_of(const launch_scale &s)
{
    quantize_scale scale = {};

    scale.device = s.device;
    scale.value = s.value;
    scale.is_dec = s.is_dec;
    scale.row_step = s.row_step;
    scale.batch_step = s.batch_step;
    return scale;
}

extern "C" cudaError_t LAUNCH_ROWS(INPUT, FORMAT, LAYOUT)(const launch_args *args, int pdl,
                                                          cudaStream_t stream)
{
    quantize_args a = {};

    a.q = args->q;
    a.sf = args->sf;
    a.x = args->x;
    a.batches = args->batches;
    a.rows = args->rows;
    a.cols = args->cols;
    a.q_cols = args->q_cols;
    a.row_stride = args->row_stride;
    a.batch_stride = args->batch_stride;
    a.global = scale_of(args->global);
    a.x_dec = scale_of(args->x_dec);
    return quantize(&a, pdl, stream);
}

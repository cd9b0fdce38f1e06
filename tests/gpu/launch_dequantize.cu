/*
 * tests/gpu/launch_dequantize.cu - the launchers of examples/06_dequantize.cu for one FORMAT and
 * OUTPUT, under names of their own (launch.h).
 */
#define NO_MAIN
#define LONG_BLOCK 4096 /* elements; so that blocks of small cases are cut too */
#include "../../examples/06_dequantize.cu"

#include "launch.h"

static dequantize_scale scale_of(const launch_scale &s)
{
    dequantize_scale scale = {};

    scale.device = s.device;
    scale.value = s.value;
    scale.is_enc = !s.is_dec;
    scale.row_step = s.row_step;
    scale.batch_step = s.batch_step;
    return scale;
}

extern "C" cudaError_t LAUNCH_BACK(FORMAT, OUTPUT)(const launch_back_args *args, int pdl,
                                                   cudaStream_t stream)
{
    dequantize_args a = {};

    a.y = args->y;
    a.q = args->q;
    a.sf = args->sf;
    a.global = scale_of(args->global);
    a.association = (fp4_association)args->association;
    a.layout = (fp4_layout)args->layout;
    a.batches = args->batches;
    a.rows = args->rows;
    a.cols = args->cols;
    a.row_stride = args->row_stride;
    a.batch_stride = args->batch_stride;
    return dequantize(&a, pdl, stream);
}

extern "C" cudaError_t LAUNCH_BLOCKS(FORMAT, OUTPUT)(const launch_blocks_args *args, int pdl,
                                                     cudaStream_t stream)
{
    blocks_args a = {};

    a.y = args->y;
    a.q = args->q;
    a.sf = args->sf;
    a.sf_type = (blocks_scale)args->sf_type;
    a.global = scale_of(args->global);
    a.association = (fp4_association)args->association;
    a.n = args->n;
    a.block = args->block;
    return dequantize_blocks(&a, pdl, stream);
}

/*
 * tests/gpu/launch_modelopt_back.cu - the launcher of examples/06_dequantize.cu by ModelOpt's rule
 * for one OUTPUT and FORMAT, under a name of its own (launch.h).
 */
#define NO_MAIN
#define RULE modelopt
#include "../../examples/06_dequantize.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_MODELOPT_BACK(OUTPUT, FORMAT)(const launch_modelopt_back_args *args,
                                                            int pdl, cudaStream_t stream)
{
    dequantize_args a = {};

    a.y = args->y;
    a.q = args->q;
    a.sf = args->sf;
    a.global.device = args->global_device;
    a.global.value = args->global_dec;
    a.association = FP4_CODE_FIRST; /* not looked at */
    a.layout = (fp4_layout)args->layout;
    a.batches = 1;
    a.rows = args->rows;
    a.cols = args->cols;
    a.row_stride = args->y_stride;
    return dequantize(&a, pdl, stream);
}

/* Its other launcher, which the rule does not change, is tested without it. */
[[maybe_unused]] static const auto not_called = dequantize_blocks;

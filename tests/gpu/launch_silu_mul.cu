/*
 * tests/gpu/launch_silu_mul.cu - the launcher of examples/04_silu_mul.cu for one INPUT, FORMAT and
 * ACTIVATION, under a name of its own (launch.h).
 */
#define NO_MAIN
#define FEW few /* pieces */

static unsigned long long few;

#include "../../examples/04_silu_mul.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_FUSED(INPUT, FORMAT, ACTIVATION)(const launch_fused_args *args,
                                                               int pdl, cudaStream_t stream)
{
    gated_args a = {};

    few = args->few ? ~0ull : 0;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.interleaved = args->interleaved;
    a.rounded = args->rounded;
    a.global_device = args->global_device;
    a.global = args->global;
    a.global_is_dec = args->global_is_dec;
    a.q = args->q;
    a.sf = args->sf;
    a.layout = (fp4_layout)args->layout;
    a.sf_linear = args->sf_linear;
    a.y = args->y;
    a.token_dec = args->token_dec;
    return gated_quantize(&a, pdl, stream);
}

/*
 * tests/gpu/launch_rmsnorm.cu - the launcher of examples/03_rmsnorm.cu for one INPUT, FORMAT and
 * NORM, under a name of its own (launch.h).
 */
#define NO_MAIN
#define FEW few /* pieces */
#define PARTS parts
#define FOURS fours /* elements */
#define ALONE alone

static unsigned long long few, parts, fours, alone;

#include "../../examples/03_rmsnorm.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_FUSED(INPUT, FORMAT, NORM)(const launch_fused_args *args, int pdl,
                                                         cudaStream_t stream)
{
    norm_args a = {};

    few = args->few ? ~0ull : 0;
    parts = args->few == 2 ? ~0ull : 0;
    fours = args->four_rows ? 1 : ~0ull;
    alone = args->four_rows == 2 ? 128 * args->cols : 0;
    a.x = args->x;
    a.weight = args->weight;
    a.bias = args->bias;
    a.residual = args->residual;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.residual_stride = args->residual_stride;
    a.eps = args->eps;
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
    return norm_quantize(&a, pdl, stream);
}

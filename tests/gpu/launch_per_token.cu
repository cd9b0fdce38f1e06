/*
 * tests/gpu/launch_per_token.cu - the launcher of examples/05_per_token.cu for one INPUT and
 * FORMAT, under a name of its own (launch.h).
 */
#define NO_MAIN
#define FEW few     /* pieces */
#define FOURS fours /* elements */
#define ALONE alone
#define BESIDE beside

static unsigned long long few, fours, beside, alone;

#include "../../examples/05_per_token.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_FUSED(INPUT, FORMAT, token)(const launch_fused_args *args, int pdl,
                                                          cudaStream_t stream)
{
    token_args a = {};

    few = args->few ? ~0ull : 0;
    fours = args->four_rows ? 1 : ~0ull;
    alone = args->four_rows == 2 ? 128 * args->cols : 0;
    beside = args->four_rows ? 1 : ~0ull;
    a.x = args->x;
    a.rows = args->rows;
    a.cols = args->cols;
    a.x_stride = args->x_stride;
    a.base_device = args->global_device;
    a.base_dec = args->global;
    a.q = args->q;
    a.sf = args->sf;
    a.layout = (fp4_layout)args->layout;
    a.sf_linear = args->sf_linear;
    a.token_dec = args->token_dec;
    return token_quantize(&a, pdl, stream);
}

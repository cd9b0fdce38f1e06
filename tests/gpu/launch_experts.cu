/*
 * tests/gpu/launch_experts.cu - the launcher of examples/10_experts.cu for one combination of
 * INPUT, FORMAT and ACTIVATION, under a name of its own (launch.h).
 */
#define NO_MAIN
#if !defined(CTAS)
#define CTAS(room, tiles, gathered) \
    (in_turn ? 1 : (room) * ((tiles) > (room)*FEW(gathered) ? WAVES : 1))
static int in_turn; /* all of them one CTA's */
#define HAS_TURNS 1
#endif
#include "../../examples/10_experts.cu"

#include "launch.h"

extern "C" cudaError_t LAUNCH_EXPERTS(INPUT, FORMAT, ACTIVATION)(const launch_experts_args *args,
                                                                 int pdl, cudaStream_t stream)
{
    experts_args a = {};

#if defined(HAS_TURNS)
    in_turn = args->in_turn;
#endif

    a.q = args->q;
    a.sf = args->sf;
    a.x = args->x;
    a.groups = args->groups;
    a.rows = args->rows;
    a.cols = args->cols;
    a.q_cols = args->q_cols;
    a.x_stride = args->x_stride;
    a.x_group_stride = args->x_group_stride;
    a.x_rows = args->x_rows;
    a.counts = args->counts;
    a.offsets = args->offsets;
    a.sources = args->sources;
    a.starts = args->starts;
    a.sf_rows = args->sf_rows;
    a.global_device = args->global_device;
    a.global_step = args->global_step;
    a.global = args->global;
    a.global_is_dec = args->global_is_dec;
    a.interleaved = args->interleaved;
    a.rounded = args->rounded;
    a.rest = args->rest;
    a.sf_starts = args->sf_starts;
    a.errors = args->errors;
    return experts_quantize(&a, pdl, stream);
}

/* tests/gpu/launch_shuffle.cu - the launchers of examples/11_shuffle.cu, callable from C. */
#define NO_MAIN
#include "../../examples/11_shuffle.cu"

#include "launch.h"

extern "C" cudaError_t launch_interleave(const launch_interleave_args *args, int pdl,
                                         cudaStream_t stream)
{
    interleave_args a = {};

    a.out = args->out;
    a.in = args->in;
    a.element = args->element;
    a.batches = args->batches;
    a.rows = args->rows;
    a.sf_cols = args->sf_cols;
    a.layout = (fp4_layout)args->layout;
    a.epilogue_tile_m = args->epilogue_tile_m;
    a.reverse = args->reverse;
    return interleave(&a, pdl, stream);
}

extern "C" cudaError_t launch_shuffle(const launch_shuffle_args *args, int pdl, cudaStream_t stream)
{
    shuffle_args a = {};

    a.out = args->out;
    a.in = args->in;
    a.batches = args->batches;
    a.rows = args->rows;
    a.row_bytes = args->row_bytes;
    a.epilogue_tile_m = args->epilogue_tile_m;
    a.reverse = args->reverse;
    return shuffle(&a, pdl, stream);
}

extern "C" cudaError_t launch_shuffle_tensor(const launch_shuffle_tensor_args *args, int pdl,
                                             cudaStream_t stream)
{
    shuffle_tensor_args a = {};

    a.q_out = args->q_out;
    a.sf_out = args->sf_out;
    a.row_dec_out = args->row_dec_out;
    a.q = args->q;
    a.sf = args->sf;
    a.row_dec = args->row_dec;
    a.batches = args->batches;
    a.rows = args->rows;
    a.q_row_bytes = args->q_row_bytes;
    a.sf_cols = args->sf_cols;
    a.epilogue_tile_m = args->epilogue_tile_m;
    return shuffle_tensor(&a, pdl, stream);
}

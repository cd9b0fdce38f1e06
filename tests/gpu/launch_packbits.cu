/* tests/gpu/launch_packbits.cu - the launchers of examples/14_packbits.cu, callable from C. */
#define NO_MAIN
#include "../../examples/14_packbits.cu"

#include "launch.h"

extern "C" cudaError_t launch_packbits(const launch_packbits_args *args, int pdl,
                                       cudaStream_t stream)
{
    packbits_args a = {};

    a.out = args->out;
    a.x = args->x;
    a.n = args->n;
    a.order = (fp4_bit_order)args->order;
    return packbits(&a, pdl, stream);
}

extern "C" cudaError_t launch_segment_packbits(const launch_segment_packbits_args *args, int pdl,
                                               cudaStream_t stream)
{
    segment_packbits_args a = {};

    a.out = args->out;
    a.out_bytes = args->out_bytes;
    a.x = args->x;
    a.n = args->n;
    a.indptr = args->indptr;
    a.new_indptr = args->new_indptr;
    a.index_bytes = args->index_bytes;
    a.segments = args->segments;
    a.order = (fp4_bit_order)args->order;
    a.workspace = args->workspace;
    a.errors = args->errors;
    return segment_packbits(&a, pdl, stream);
}

extern "C" size_t launch_segment_workspace_bytes(size_t segments)
{
    return segment_workspace_bytes(segments);
}

extern "C" size_t launch_segment_workspace_zeros(void)
{
    return WORDS * sizeof(uint32_t) + TOLD * TASKS * sizeof(size_t);
}

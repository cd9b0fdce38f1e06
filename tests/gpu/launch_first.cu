/* tests/gpu/launch_first.cu - the kernel of examples/00_first.cu and its launcher, from C. */
#define NO_MAIN
#include "../../examples/00_first.cu"

#include "kernel.h"
#include "launch.h"

extern "C" cudaError_t launch_first(const launch_first_args *a, cudaStream_t stream)
{
    if (a->threads == 0) {
        return rmsnorm_quantize(a->q, a->sf, a->x, a->w, a->rows, a->cols, a->eps, a->global_enc,
                                stream);
    }
    GPU_LAUNCH(rmsnorm_nvfp4, (unsigned)a->rows, a->threads, a->q, a->sf, a->x, a->w,
               (uint32_t)a->rows, (uint32_t)a->cols, a->eps, a->global_enc);
    return cudaGetLastError();
}

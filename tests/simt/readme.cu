/* tests/simt/readme.cu - see readme.h. */
#include "readme.h"

#include <readme_kernel.h> /* the first snippet of README.md */

extern "C" cudaError_t readme_rmsnorm(unsigned threads, uint8_t *q, uint8_t *sf, const uint16_t *x,
                                      const uint16_t *w, int rows, int cols, float eps,
                                      float global_enc)
{
    return SIMT_LAUNCH(rmsnorm_nvfp4, (unsigned)rows, threads, q, sf, x, w, rows, cols, eps,
                       global_enc);
}

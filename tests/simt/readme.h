/* tests/simt/readme.h - the kernel on the first page of README.md, callable from C. */
#ifndef FP4_TESTS_SIMT_README_H
#define FP4_TESTS_SIMT_README_H

#include <cuda_runtime_api.h>

#if defined(__cplusplus)
extern "C" {
#endif
cudaError_t readme_rmsnorm(unsigned threads, uint8_t *q, uint8_t *sf, const uint16_t *x,
                           const uint16_t *w, int rows, int cols, float eps, float global_enc);
#if defined(__cplusplus)
}
#endif

#endif /* FP4_TESTS_SIMT_README_H */

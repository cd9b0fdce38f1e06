/* tests/simt/launch_columns.cu - examples/02_quantize_colmajor.cu for the machine of simt.h. */
#include "../gpu/launch_columns.cu"

SIMT_KERNEL(quantize_colmajor);

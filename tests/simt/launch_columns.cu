/* tests/simt/launch_columns.cu - examples/02_quantize_colmajor.cu for the machine of simt.h. */
#include "../gpu/launch_columns.cu"
#include <02_quantize_colmajor.h> /* its kernels: kernels.sh */

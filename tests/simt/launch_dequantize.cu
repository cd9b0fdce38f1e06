/* tests/simt/launch_dequantize.cu - examples/06_dequantize.cu for the machine of simt.h. */
#include "../gpu/launch_dequantize.cu"
#include <06_dequantize.h> /* its kernels: kernels.sh */

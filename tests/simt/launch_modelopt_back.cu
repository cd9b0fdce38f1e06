/* tests/simt/launch_modelopt_back.cu - examples/06_dequantize.cu for the machine of simt.h. */
#include "../gpu/launch_modelopt_back.cu"
#include <06_dequantize.h> /* its kernels: kernels.sh */

/* tests/simt/launch_modelopt.cu - examples/15_modelopt.cu for the machine of simt.h. */
#include "../gpu/launch_modelopt.cu"
#include <15_modelopt.h> /* its kernels: kernels.sh */

/* tests/simt/launch_gemv.cu - examples/09_gemv.cu for the machine of simt.h. */
#include "../gpu/launch_gemv.cu"
#include <09_gemv.h> /* its kernels: kernels.sh */

/* tests/simt/launch_rmsnorm.cu - examples/03_rmsnorm.cu for the machine of simt.h. */
#include "../gpu/launch_rmsnorm.cu"
#include <03_rmsnorm.h> /* its kernels: kernels.sh */

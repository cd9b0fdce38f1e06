/* tests/simt/launch_shuffle.cu - examples/11_shuffle.cu for the machine of simt.h. */
#include "../gpu/launch_shuffle.cu"
#include <11_shuffle.h> /* its kernels: kernels.sh */

/* tests/simt/launch_first.cu - examples/00_first.cu for the machine of simt.h. */
#include "../gpu/launch_first.cu"
#include <00_first.h> /* its kernels: kernels.sh */

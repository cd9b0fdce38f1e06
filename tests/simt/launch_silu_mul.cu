/* tests/simt/launch_silu_mul.cu - examples/04_silu_mul.cu for the machine of simt.h. */
#include "../gpu/launch_silu_mul.cu"
#include <04_silu_mul.h> /* its kernels: kernels.sh */

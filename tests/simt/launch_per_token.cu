/* tests/simt/launch_per_token.cu - examples/05_per_token.cu for the machine of simt.h. */
#include "../gpu/launch_per_token.cu"
#include <05_per_token.h> /* its kernels: kernels.sh */

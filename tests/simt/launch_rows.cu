/* tests/simt/launch_rows.cu - examples/01_quantize.cu for the machine of simt.h. */

/* The launcher has other kernels for matrices of more than SMALL pieces, and CTAs take turns where
   there are more than ENOUGH. Here that comes earlier, so that small matrices reach it. */
#define SMALL (1 << 9)
#define ENOUGH 3

#include "../gpu/launch_rows.cu"
#include <01_quantize.h> /* its kernels: kernels.sh */

/* tests/simt/launch_amax.cu - examples/08_amax.cu for the machine of simt.h. */

/* CTAs take turns where there are more than ENOUGH, or more than four times as many, or MOST_DOWN
   below each other. Here that comes earlier, so that small matrices reach it. */
#define ENOUGH 3
#define MOST_DOWN 5

#include "../gpu/launch_amax.cu"
#include <08_amax.h> /* its kernels: kernels.sh */

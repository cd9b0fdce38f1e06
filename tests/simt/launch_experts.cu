/*
 * tests/simt/launch_experts.cu - examples/10_experts.cu for the machine of simt.h. It has room for
 * three CTAs, so that items take turns soon.
 */
#define CTAS(room, tiles, gathered) (room)

#include "../gpu/launch_experts.cu"
#include <10_experts.h> /* its kernels: kernels.sh */

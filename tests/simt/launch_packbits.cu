/* tests/simt/launch_packbits.cu - examples/14_packbits.cu for the machine of simt.h. */

/* Parts and chunks as small as can be, so that small inputs have many of them. */
#define PART 300
#define CHUNK_ITEMS 64

#include "../gpu/launch_packbits.cu"
#include <14_packbits.h> /* its kernels: kernels.sh */

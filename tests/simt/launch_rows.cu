/* tests/simt/launch_rows.cu - examples/01_quantize.cu for the machine of simt.h. */

/* The launcher has other kernels for matrices of more than SMALL pieces. Here they come earlier, so
   that small matrices reach them: the first SMALL of the example defines it, the second asks. */
#define SMALL SIMT_JOIN(SMALL_, __COUNTER__)
#define SMALL_1 (1 << 9)

#include "../gpu/launch_rows.cu"
#include <01_quantize.h> /* its kernels: kernels.sh */

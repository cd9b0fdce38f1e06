/* tests/simt/launch_rows.cu - examples/01_quantize.cu for the machine of simt.h. */

/* The launcher has other kernels for matrices of more than SMALL pieces. Here they come earlier, so
   that small matrices reach them: the first SMALL of the example defines it, the others ask. */
#define SMALL SIMT_JOIN(SMALL_, __COUNTER__)
#define SMALL_1 (1 << 9)
#define SMALL_2 SMALL_1
#define SMALL_3 SMALL_1
#define SMALL_4 SMALL_1

#include "../gpu/launch_rows.cu"
#include <01_quantize.h> /* its kernels: kernels.sh */

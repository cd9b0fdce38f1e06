/* tests/simt/tools.cu - the tests' own kernels for the machine of simt.h. */
#include "../gpu/tools.cu"

SIMT_KERNEL(produce);
SIMT_KERNEL(consume);

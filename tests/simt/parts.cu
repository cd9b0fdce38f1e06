/* tests/simt/parts.cu - every building block for the machine of simt.h. */
#include "../gpu/parts.cu"

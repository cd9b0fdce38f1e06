/* tests/simt/launch_fake.cu - examples/07_fake_quant.cu for the machine of simt.h. */
#include "../gpu/launch_fake.cu"
#include <07_fake_quant.h> /* its kernels: kernels.sh */

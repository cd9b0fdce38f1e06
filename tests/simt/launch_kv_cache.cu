/* tests/simt/launch_kv_cache.cu - examples/12_kv_cache.cu for the machine of simt.h. */

#include "../gpu/launch_kv_cache.cu"
#include <12_kv_cache.h> /* its kernels: kernels.sh */

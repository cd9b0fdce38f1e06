/* tests/simt/launch_kv_append.cu - examples/13_kv_append.cu for the machine of simt.h. */

/* Up to so many pieces a thread has one, and from so many CTAs on four tokens, or eight. Here they
   are fewer, so that small cases have all of it. */
#define SMALL 100
#define FOUR 3
#define EIGHT 8

#include "../gpu/launch_kv_append.cu"
#include <13_kv_append.h> /* its kernels: kernels.sh */

/* The host reference is bit-exact and refuses -ffast-math and what that consists of, unless the
   user insists. */
/* expect: no -ffast-math, or define FP4_ALLOW_FAST_MATH */
/* flags: -ffast-math */
/* flags: -ffinite-math-only */
#if defined(RIGHT)
#define FP4_ALLOW_FAST_MATH
#endif
#include <fp4/host/tensor.h>

const char *not_fast_math(void);

const char *not_fast_math(void)
{
    return fp4_status_text(FP4_OK);
}

/* The host reference is bit-exact and refuses flags of which -ffast-math consists too. */
/* expect: no -ffast-math, or define FP4_ALLOW_FAST_MATH */
/* flags: -ffinite-math-only */
#if defined(RIGHT)
#define FP4_ALLOW_FAST_MATH
#endif
#include <fp4/host/tensor.h>

const char *not_finite_math(void);

const char *not_finite_math(void)
{
    return fp4_status_text(FP4_OK);
}

/* A layout is no format: C++ refuses it, C with -Wall. */
/* expect: implicit conversion from|invalid conversion|cannot convert|no matching function */
#include <fp4/host/tensor.h>

size_t not_layout_as_format(void);

size_t not_layout_as_format(void)
{
#if defined(RIGHT)
    return fp4_format_block(FP4_NVFP4);
#else
    return fp4_format_block(FP4_LAYOUT_8X4);
#endif
}

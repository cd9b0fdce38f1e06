/* bfloat16 bits are no floats: the constructors of fp4_matrix state the element type. */
/* expect: incompatible pointer|invalid conversion|cannot convert|no matching function */
#include <fp4/host/tensor.h>

size_t not_bf16_as_f32(const uint16_t *x);

size_t not_bf16_as_f32(const uint16_t *x)
{
#if defined(RIGHT)
    return fp4_matrix_bf16(x, 1, 16, 16).cols;
#else
    return fp4_matrix_f32(x, 1, 16, 16).cols;
#endif
}

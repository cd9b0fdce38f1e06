/* A fragment has its width in its type: half a block is not a block. */
/* expect: incompatible type|could not convert|no matching function */
#include <fp4/fp4.h>

float not_x8_as_x16(fp4_f32x8 half, fp4_f32x16 whole);

static float first_of_16(fp4_f32x16 x)
{
    return x.v[0];
}

float not_x8_as_x16(fp4_f32x8 half, fp4_f32x16 whole)
{
#if defined(RIGHT)
    return half.v[0] + first_of_16(whole);
#else
    return whole.v[0] + first_of_16(half);
#endif
}

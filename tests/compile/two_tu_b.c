/* The other half of two_tu_a.c. */
#define fp4_use fp4_use_b
#define fp4_use_device fp4_use_device_b
#include "everything.h"
#if defined(__CUDACC__)
#include "device.h"
#endif

uint8_t two_tu_code(float x);
size_t two_tu_offset(size_t row, size_t sf_col);
const char *two_tu_text(void);

uint8_t two_tu_code(float x)
{
    return fp4_f32_to_e2m1(x);
}

size_t two_tu_offset(size_t row, size_t sf_col)
{
    return fp4_sf_offset(FP4_LAYOUT_128X4, row, sf_col, 8);
}

const char *two_tu_text(void)
{
    return fp4_status_text(FP4_NULL);
}

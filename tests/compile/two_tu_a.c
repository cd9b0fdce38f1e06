/* Two translation units that include everything, this and two_tu_b.c, must link and agree.
   everything.h is generated (tests/tools/use.sh). */
#define fp4_use fp4_use_a
#define fp4_use_device fp4_use_device_a
#include "everything.h"
#if defined(__CUDACC__)
#include "device.h"
#endif

uint8_t two_tu_code(float x);
size_t two_tu_offset(size_t row, size_t sf_col);
const char *two_tu_text(void);

int main(void)
{
    return fp4_f32_to_e2m1(2.6f) == two_tu_code(2.6f) &&
                   fp4_sf_offset(FP4_LAYOUT_128X4, 33, 5, 8) == two_tu_offset(33, 5) &&
                   fp4_status_text(FP4_NULL)[0] == two_tu_text()[0] && fp4_use_a[0] == 0
               ? 0
               : 1;
}

/* fp4/types.h: fragments taken apart and put together, and what memory blocks are. */
#include <fp4/types.h>

#include "check.h"

Test(types, halves_of_a_fragment_join_to_the_whole)
{
    fp4_f32x32 x;

    for (int i = 0; i < 32; i++) {
        x.v[i] = (float)(i * i) - 7.5f;
    }
    const fp4_f32x16 low = fp4_low_x16(x), high = fp4_high_x16(x);
    const fp4_f32x8 parts[4] = {fp4_low_x8(low), fp4_high_x8(low), fp4_low_x8(high),
                                fp4_high_x8(high)};
    const fp4_f32x32 again =
        fp4_join_x16(fp4_join_x8(parts[0], parts[1]), fp4_join_x8(parts[2], parts[3]));
    for (int i = 0; i < 32; i++) {
        CHECK(parts[i / 8].v[i % 8] == x.v[i], "part %d, element %d", i / 8, i % 8);
        CHECK(again.v[i] == x.v[i], "element %d", i);
    }
}

Test(types, constants_are_those_of_the_formats)
{
    CHECK(FP4_E2M1_MAX == 1.5f * 4.0f, "e2m1: 1.1b * 2^2");
    CHECK(FP4_E4M3_MAX == 1.75f * 256.0f, "e4m3: 1.110b * 2^8");
    CHECK_EQ(FP4_LAYOUT_128X4, 0, "FlashInfer's SfLayout");
    CHECK_EQ(FP4_LAYOUT_8X4, 1, "FlashInfer's SfLayout");
    CHECK_EQ(FP4_LAYOUT_LINEAR, 2, "FlashInfer's SfLayout");
}

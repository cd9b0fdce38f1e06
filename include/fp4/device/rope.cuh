/*
 * fp4/device/rope.cuh - RoPE of fragments: the values of fp4_rope_turn (rope.h), sixteen elements a
 * thread.
 *
 *     fp4_rope_neox_x16    two pieces of a head, `rotary / 2` elements apart
 *     fp4_rope_gptj_x16    one piece, eight pairs of neighbours
 *     fp4_rope_turn_x16    one half of NeoX's, for threads that keep only that
 *
 * range    as fp4_rope_turn.
 * threads  none needed.
 */
#ifndef FP4_DEVICE_ROPE_CUH
#define FP4_DEVICE_ROPE_CUH

#include <fp4/device/fragment.cuh>
#include <fp4/rope.h>

/** own cos + partner sin. The second halves of pairs are turned so; the first with -sin. */
FP4_D fp4_f32x16 fp4_rope_turn_x16(fp4_f32x16 own, fp4_f32x16 partner, fp4_f32x16 cos,
                                   fp4_f32x16 sin)
{
    return fp4_fma_x16(own, cos, fp4_mul_x16(partner, sin));
}

/** Sixteen pairs of NeoX style: their first elements in x, their second in y. */
FP4_D void fp4_rope_neox_x16(fp4_f32x16 *x, fp4_f32x16 *y, fp4_f32x16 cos, fp4_f32x16 sin)
{
    int i;

#pragma unroll
    for (i = 0; i < 16; i++) {
        const float first = x->v[i], second = y->v[i];
        x->v[i] = fp4_rope_turn(first, second, cos.v[i], -sin.v[i]);
        y->v[i] = fp4_rope_turn(second, first, cos.v[i], sin.v[i]);
    }
}

/** Eight pairs of GPT-J style: the elements as they stand in the head. */
FP4_D fp4_f32x16 fp4_rope_gptj_x16(fp4_f32x16 x, fp4_f32x8 cos, fp4_f32x8 sin)
{
    int i;

#pragma unroll
    for (i = 0; i < 8; i++) {
        const float first = x.v[2 * i], second = x.v[2 * i + 1];
        x.v[2 * i] = fp4_rope_turn(first, second, cos.v[i], -sin.v[i]);
        x.v[2 * i + 1] = fp4_rope_turn(second, first, cos.v[i], sin.v[i]);
    }
    return x;
}

#endif /* FP4_DEVICE_ROPE_CUH */

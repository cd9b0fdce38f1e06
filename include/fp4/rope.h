/*
 * fp4/rope.h - rotary position embedding (RoPE): pairs of elements of a head, turned by an angle
 * that depends on the token's position and on the pair.
 *
 *     x' = x cos - y sin        y' = y cos + x sin
 *
 * Only the first `rotary` elements of a head are turned, an even number; the others stay. Which two
 * make a pair depends on the style:
 *
 *     element    0   1   2   3   4   5   6   7   8 ...        rotary = 8
 *     NeoX       x0  x1  x2  x3  y0  y1  y2  y3  -            halves: Llama, Qwen, most others
 *     GPT-J      x0  y0  x1  y1  x2  y2  x3  y3  -            neighbours: GPT-J, DeepSeek
 *
 * Cosines and sines come from a table that the model makes once, a row of `rotary` floats for each
 * position, the cosines of all pairs before their sines:
 *
 *     cos_sin[position * rotary + pair]                  cosine
 *     cos_sin[position * rotary + rotary / 2 + pair]     sine
 *
 * source   the table is FlashInfer's and vLLM's cos_sin_cache, in f32; the styles are their is_neox
 *          1 and 0, FlashInfer's interleave 0 and 1.
 */
#ifndef FP4_ROPE_H
#define FP4_ROPE_H

#include <fp4/bits.h>

/** Which elements make a pair. */
typedef enum fp4_rope_style { FP4_ROPE_NEOX = 0, FP4_ROPE_GPTJ = 1 } fp4_rope_style;

/** The pair that an element belongs to; element < rotary, as for all of these. */
FP4_HD_CONST size_t fp4_rope_pair(fp4_rope_style style, size_t element, size_t rotary)
{
    return style == FP4_ROPE_GPTJ ? element / 2 : element - (element < rotary / 2 ? 0 : rotary / 2);
}

/** 1 where the element is the y of its pair. */
FP4_HD_CONST int fp4_rope_is_y(fp4_rope_style style, size_t element, size_t rotary)
{
    return style == FP4_ROPE_GPTJ ? element % 2 == 1 : element >= rotary / 2;
}

/** The other element of the pair. */
FP4_HD_CONST size_t fp4_rope_partner(fp4_rope_style style, size_t element, size_t rotary)
{
    return style == FP4_ROPE_GPTJ ? element ^ 1
                                  : element + rotary / 2 - (element < rotary / 2 ? 0 : rotary);
}

/**
 * An element of a pair, turned:
 *
 *     x' = fp4_rope_turn(x, y, cos, -sin)        y' = fp4_rope_turn(y, x, cos, sin)
 *
 * It is fma( own, cos, fl(partner * sin) ): the second product is rounded, the sum once.
 *
 * range    within 2^-24 * (|partner * sin| + |result|) of the exact value of these floats, and a
 *          little for subnormals. NaN and infinity as the operations have it.
 */
FP4_HD float fp4_rope_turn(float own, float partner, float cos, float sin)
{
    return fp4_fma_rn(own, cos, fp4_mul_rn(partner, sin));
}

#endif /* FP4_ROPE_H */

/*
 * tests/gpu/values.h - blocks that have gone wrong somewhere, or could: zeros, -0, subnormals,
 * infinities, NaNs, ties, and amaxes about every point where a scale byte changes.
 *
 * Blocks are 32 floats, which are two blocks of NVFP4.
 */
#ifndef FP4_TESTS_GPU_VALUES_H
#define FP4_TESTS_GPU_VALUES_H

#include "host_util.h"

enum { VALUES_BLOCK = 32 };

/** A growing list of blocks. */
typedef struct values_list {
    float *x;
    size_t blocks, room;
} values_list;

/* Room for one more block, of zeros. */
static inline float *values_add(values_list *list)
{
    float *block;

    if (list->blocks == list->room) {
        list->room = list->room == 0 ? 1024 : 2 * list->room;
        list->x = (float *)realloc(list->x, list->room * VALUES_BLOCK * sizeof(float));
        cr_assert_not_null(list->x);
    }
    block = list->x + list->blocks++ * VALUES_BLOCK;
    memset(block, 0, VALUES_BLOCK * sizeof(float));
    return block;
}

/* The float whose bits are `ulps` more: away from zero for positive ulps. */
static inline float values_moved(float x, int ulps)
{
    return host_bits(host_bits_of(x) + (uint32_t)ulps);
}

static inline float values_power(int exponent)
{
    return exponent < -149 ? 0.0f : exponent > 127 ? FP4_F32_MAX : (float)oracle_power(exponent);
}

/* Points between codes of e2m1, in halves of what the block's scale is worth: even elements are the
   points with alternating sign, `ulps` off; element 15 and 31 the amax. */
static inline void values_add_ties(values_list *list, float amax, float unit, int ulps)
{
    static const float tie[] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f, 0.0f,
                                0.5f,  1.0f,  1.5f,  2.0f,  3.0f, 4.0f, 6.0f};
    float *block = values_add(list);

    for (size_t i = 0; i < VALUES_BLOCK; i++) {
        const float x = i % 16 == 15 ? amax : host_mul(tie[i % 16], unit);
        const int sign = (i / 16 + i) % 2 == 1;
        block[i] = i % 16 == 15 || x == 0 || isinf(x) ? x : values_moved(x, ulps);
        block[i] = sign ? -block[i] : block[i];
    }
}

/* Zeros of both signs, in all mixtures that differ. */
static inline void values_add_zeros(values_list *list)
{
    for (unsigned signs = 0; signs < 4; signs++) {
        float *block = values_add(list);
        for (size_t i = 0; i < VALUES_BLOCK; i++) {
            block[i] = signs >> (i % 2) & 1u ? -0.0f : 0.0f;
        }
    }
}

/* One strange value at every place of a block, among neighbours of three kinds, and alone. */
static inline void values_add_specials(values_list *list)
{
    static const uint32_t special[] = {
        0x7fc00000u, 0xffc00000u, 0x7f800001u, 0xffffffffu, 0x7fffffffu, /* NaN */
        0x7f800000u, 0xff800000u,                                        /* infinity */
        0x00000001u, 0x80000001u, 0x007fffffu, 0x00400000u, 0x00800000u, /* tiny */
        0x7f7fffffu, 0xff7fffffu, 0x80000000u};
    static const uint32_t around[] = {0u,          0x80000000u, 0x3f800000u, 0x40a00000u,
                                      0x7f800000u, 0x00000003u, 0x7f7fffffu, 0xffc00000u};

    for (size_t s = 0; s < sizeof special / sizeof special[0]; s++) {
        for (size_t at = 0; at <= VALUES_BLOCK; at++) {
            for (size_t a = 0; a < sizeof around / sizeof around[0]; a++) {
                float *block = values_add(list);
                for (size_t i = 0; i < VALUES_BLOCK; i++) {
                    const int here = at == i || at == VALUES_BLOCK; /* the last: all of them */
                    const uint32_t sign = (uint32_t)(i % 3 == 0) << 31;
                    block[i] = host_bits(here ? special[s] : around[a] ^ sign);
                }
            }
        }
    }
}

/* Amaxes at 1, 1.2, 1.5, 1.75, 6, 448 and so on times every power of two, and next to them; ties in
   units of the scale that MXFP4 takes, and of amax/6. */
static inline void values_add_amaxes(values_list *list)
{
    static const float mantissa[] = {1.0f,  1.2f, 1.25f,  1.375f,   1.5f,
                                     1.75f, 1.9f, 1.875f, 1.984375f};

    for (int e = -149; e <= 127; e++) {
        for (size_t m = 0; m < sizeof mantissa / sizeof mantissa[0]; m++) {
            for (int ulps = -1; ulps <= 1; ulps++) {
                float amax = host_mul(values_power(e), mantissa[m]);
                amax = isinf(amax) ? FP4_F32_MAX : amax;
                amax = ulps == 1 && amax == FP4_F32_MAX ? amax : values_moved(amax, ulps);
                values_add_ties(list, amax, values_power(e - 2), ulps);
                values_add_ties(list, amax, host_div(amax, 6.0f), ulps);
            }
        }
    }
}

/* NVFP4: every scale byte with ties of its blocks, for any global scale of a power of two. */
static inline void values_add_scale_bytes(values_list *list)
{
    for (unsigned byte = 1; byte < 0x7f; byte++) {
        const float scale = host_e4m3((uint8_t)byte);
        for (int ulps = -1; ulps <= 1; ulps++) {
            values_add_ties(list, host_mul(6.0f, scale), scale, ulps);
            values_add_ties(list, values_moved(host_mul(6.0f, scale), ulps), scale, 0);
        }
    }
}

/** All of the above; the caller frees x. */
static inline values_list values_all(void)
{
    values_list list = {NULL, 0, 0};

    values_add_zeros(&list);
    values_add_specials(&list);
    values_add_amaxes(&list);
    values_add_scale_bytes(&list);
    return list;
}

/** Leaves n blocks of the list, from all over it. */
static inline void values_reduce(values_list *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        memmove(list->x + i * VALUES_BLOCK, list->x + i * list->blocks / n * VALUES_BLOCK,
                VALUES_BLOCK * sizeof(float));
    }
    list->blocks = n;
}

/** The bits of x in another type, rounded where it must be. */
static inline uint32_t values_bits(fp4_dtype dtype, float x)
{
    switch (dtype) {
    case FP4_F32:
        return host_bits_of(x);
    case FP4_F16:
        return isnan(x) ? 0x7c01u | (host_bits_of(x) >> 16 & 0x81feu) : fp4_f32_to_f16(x);
    case FP4_BF16:
        return isnan(x) ? host_bits_of(x) >> 16 | 1u : fp4_f32_to_bf16(x);
    case FP4_E4M3:
        break;
    }
    return isnan(x) ? 0x7fu | host_bits_of(x) >> 31 << 7 : fp4_f32_to_e4m3(x);
}

#endif /* FP4_TESTS_GPU_VALUES_H */

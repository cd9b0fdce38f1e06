/*
 * fp4/device/requant.cuh - blocks of e4m3 elements to e2m1 codes by comparison, with no float in
 * between: half the instructions of the way through f32, for targets without an e2m1 instruction.
 *
 * e4m3 has 127 finite magnitudes, and they order as their bytes do. With one scale `dec` of the
 * input (x = decode(byte) * dec) and one global_enc, all that can happen to a block follows from
 * the largest magnitude byte in it: its scale byte, and the seven bytes at which the codes 1..7
 * begin. So a CTA makes a table with a row for each magnitude:
 *
 *     row[m]     words 0..6: where codes 1..7 begin, in each byte        word 7: the scale byte
 *
 * Then a block is a lookup, and the code of an element is the number of beginnings it has reached,
 * four elements at a time: with the top bit of every byte set, u - t keeps that bit exactly where
 * the magnitude is t or more, and no byte borrows from its neighbour.
 *
 *     __shared__ uint4 table[2 * FP4_REQUANT_ROWS];
 *     for (m = threadIdx.x; m < FP4_REQUANT_ROWS; m += blockDim.x)
 *         fp4_nvfp4_requant_row(table, m, dec, global_enc);
 *     fp4_ptx_barrier();
 *     block = fp4_nvfp4_requantize(fp4_load_u32x4(p), table, dec, global_enc);
 *
 * It pays where a thread has some ten blocks or more: a row costs as much as two of them.
 *
 * range    the bytes of fp4_nvfp4_quantize and fp4_mxfp4_quantize on x for every byte, NaN too, and
 *          every positive finite dec and global_enc: blocks of which the table cannot tell go
 *          through f32. Another dec or global_enc gives unspecified codes.
 * source   tests/gpu/test_requant.c: all magnitudes in blocks of all amax, against the host.
 */
#ifndef FP4_DEVICE_REQUANT_CUH
#define FP4_DEVICE_REQUANT_CUH

#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>

/** Rows of a table, 32 bytes each. */
#define FP4_REQUANT_ROWS 128

/* ------------------------------------------------------------ the table */

/* The row of magnitude m. Where a code begins is guessed by dividing and rounding to e4m3: it is
   the guess or the byte after it, as the rule itself then tells. A row in which nothing begins, its
   first word 0, is one that could not be made: NaN, or factors near the ends of f32. */
FP4_D fp4_u32x8 fp4_requant_row_(uint32_t m, float dec, fp4_scale scale)
{
    /* the smallest floats of codes 1..7, just above 0.25, 1.25, 2.5 and 5: ties go to even */
    const uint32_t first[7] = {0x3e800001u, 0x3f400000u, 0x3fa00001u, 0x3fe00000u,
                               0x40200001u, 0x40600000u, 0x40a00001u};
    const float factor = fp4_mul_rn(dec, scale.enc);
    const float step = fp4_ptx_rcp_approx(factor);
    const int is_good = m < 127 && fp4_is_moderate_(dec) && fp4_is_moderate_(factor);
    fp4_u32x8 row = {{0, 0, 0, 0, 0, 0, 0, scale.bits}};
    int i;

#pragma unroll
    for (i = 0; i < 7; i++) {
        const float at = fp4_bits_f32(first[i]);
        const uint8_t guess = fp4_cvt_f32_to_e4m3(fp4_mul_rn(at, step));
        const float x = fp4_mul_rn(fp4_cvt_e4m3_to_f32(guess), dec);
        const uint32_t begin = guess + (fp4_mul_rn(x, scale.enc) < at);
        row.v[i] = (m == 0 ? 1u : is_good ? begin : 0u) * 0x01010101u; /* 0: nothing but zeros */
    }
    return row;
}

FP4_D void fp4_store_row_(void *table, uint32_t m, fp4_u32x8 row)
{
    uint8_t *p = (uint8_t *)table + 32 * m;
    fp4_ptx_store16(p, row.v[0], row.v[1], row.v[2], row.v[3]);
    fp4_ptx_store16(p + 16, row.v[4], row.v[5], row.v[6], row.v[7]);
}

FP4_D fp4_u32x8 fp4_load_row_(const void *table, uint32_t m)
{
    const uint8_t *p = (const uint8_t *)table + 32 * m;
    return fp4_join_words_(fp4_ptx_load16(p), fp4_ptx_load16(p + 16));
}

/** Makes row m, 0..127, of a table for NVFP4. */
FP4_D void fp4_nvfp4_requant_row(void *table, uint32_t m, float dec, float global_enc)
{
    const float amax = fp4_mul_rn(fp4_cvt_e4m3_to_f32((uint8_t)m), dec);
    fp4_store_row_(table, m, fp4_requant_row_(m, dec, fp4_cvt_nvfp4_scale(amax, global_enc)));
}

/** Makes row m, 0..127, of a table for MXFP4. */
FP4_D void fp4_mxfp4_requant_row(void *table, uint32_t m, float dec)
{
    const float amax = fp4_mul_rn(fp4_cvt_e4m3_to_f32((uint8_t)m), dec);
    fp4_store_row_(table, m, fp4_requant_row_(m, dec, fp4_cvt_mxfp4_scale(amax)));
}

/* ------------------------------------------------------------ a block */

/* The largest of sixteen magnitudes. Of 16-bit halves the upper byte decides; shifted, the lower
   ones come to their turn. The bit above the magnitudes is set, as the comparisons need it too. */
FP4_D uint32_t fp4_amax_e4m3x16_(fp4_u32x4 x)
{
    uint32_t max = 0;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        const uint32_t u = x.v[i] | 0x80808080u;
        max = fp4_ptx_max_u16x2(max, fp4_ptx_max_u16x2(u, u << 8));
    }
    return fp4_ptx_bytes(fp4_max_u32(max, max << 16), 0u, 0x4443u) & 127u;
}

/* The codes of four elements, each in the upper half of its byte. The codes that have begun are all
   those up to the element's own: bit 2 is 4, bit 1 is 2 without 4, or 6, bit 0 their parity. */
FP4_D uint32_t fp4_requant_x4_(uint32_t x, fp4_u32x8 row)
{
    const uint32_t top = 0x80808080u, u = x | top;
    const uint32_t from1 = u - row.v[0], from2 = u - row.v[1], from3 = u - row.v[2];
    const uint32_t from4 = u - row.v[3], from5 = u - row.v[4], from6 = u - row.v[5];
    const uint32_t from7 = u - row.v[6];
    const uint32_t bit2 = from4 & top;
    const uint32_t bit1 = ((from2 & ~from4) | from6) & top;
    const uint32_t bit0 = (from1 ^ from2 ^ from3 ^ from4 ^ from5 ^ from6 ^ from7) & top;

    return (bit0 >> 3) + ((bit1 >> 2) + ((bit2 >> 1) + (x & top)));
}

/* Eight elements to a word of codes. Times 17, two neighbours meet in a byte. */
FP4_D uint32_t fp4_requant_x8_(uint32_t x0, uint32_t x1, fp4_u32x8 row)
{
    return fp4_ptx_bytes(fp4_requant_x4_(x0, row) * 17u, fp4_requant_x4_(x1, row) * 17u, 0x7531u);
}

/* The elements as floats. */
FP4_D fp4_f32x16 fp4_e4m3x16_times_(fp4_u32x4 x, float dec)
{
    return fp4_scale_x16(fp4_e4m3x16_to_f32x16(x), dec);
}

/**
 * Quantize one NVFP4 block of e4m3 elements held by the calling thread, x = decode(byte) * dec.
 *
 * shape    x: 16 consecutive elements of a row, as in memory. table: made by fp4_nvfp4_requant_row
 *          with the same dec and global_enc; 16-byte aligned; not read where fp4_is_native().
 * threads  none needed, but a barrier after the table has been made.
 */
FP4_D fp4_nvfp4_block fp4_nvfp4_requantize(fp4_u32x4 x, const void *table, float dec,
                                           float global_enc)
{
#if !FP4_ARCH_CVT_E2M1
    const fp4_u32x8 row = fp4_load_row_(table, fp4_amax_e4m3x16_(x));

    if (row.v[0] != 0) {
        const fp4_nvfp4_block block = {
            {fp4_requant_x8_(x.v[0], x.v[1], row), fp4_requant_x8_(x.v[2], x.v[3], row)},
            (uint8_t)row.v[7]};
        return block;
    }
#endif
    return fp4_nvfp4_careful_(fp4_e4m3x16_times_(x, dec), 1.0f, 0, global_enc);
}

/* The largest magnitude that is a number, plus 128: there is a NaN. */
FP4_D uint32_t fp4_amax_e4m3x16_but_nan_(fp4_u32x4 x)
{
    uint32_t max = 0;
    int i;

    for (i = 0; i < 16; i++) {
        const uint32_t m = (x.v[i / 4] >> (8 * (i % 4))) & 127u;
        max = m < 127u ? fp4_max_u32(max, m) : max;
    }
    return max + 128u;
}

/**
 * Quantize an MXFP4 block of e4m3 elements shared by 2 lanes, x = decode(byte) * dec.
 *
 * shape    x: 16 consecutive elements of a row, as in memory, the even lane's before the odd one's.
 *          table: made by fp4_mxfp4_requant_row with the same dec; 16-byte aligned; not read where
 *          fp4_is_native().
 * threads  all 32 lanes of the warp call, after a barrier that follows the making of the table.
 */
FP4_D fp4_part2 fp4_mxfp4_requantize_x16(fp4_u32x4 x, const void *table, float dec)
{
#if FP4_ARCH_CVT_E2M1
    return fp4_mxfp4_quantize_x16(fp4_e4m3x16_times_(x, dec));
#else
    uint32_t own = fp4_amax_e4m3x16_(x), other;
    fp4_part2 part;
    fp4_u32x8 row;

    own = own == 127u ? fp4_amax_e4m3x16_but_nan_(x) : own;
    other = fp4_f32_bits(fp4_ptx_shuffle_xor(0xffffffffu, fp4_bits_f32(own), 1));
    row = fp4_load_row_(table, fp4_max_u32(own & 127u, other & 127u));
    part.sf = (uint8_t)row.v[7];
    if (row.v[0] != 0 && own < 128u) {
        part.q[0] = fp4_requant_x8_(x.v[0], x.v[1], row);
        part.q[1] = fp4_requant_x8_(x.v[2], x.v[3], row);
    } else {
        const fp4_f32x16 v = fp4_e4m3x16_times_(x, dec);
        const float enc = fp4_e8m0_to_enc(part.sf);
        part.q[0] = fp4_encode_e2m1x8(fp4_low_x8(v), enc);
        part.q[1] = fp4_encode_e2m1x8(fp4_high_x8(v), enc);
    }
    return part;
#endif
}

#endif /* FP4_DEVICE_REQUANT_CUH */

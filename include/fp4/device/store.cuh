/*
 * fp4/device/store.cuh - codes from registers to memory, and the padding of scale buffers.
 *
 *     fp4_store_<type>x<count>(p, q)         e2m1: 8, 16, 32 codes, 4, 8, 16 bytes
 *                                            e4m3: 8, 16, 32 codes, 8, 16, 32 bytes
 *     fp4_store_<type>x<count>_cs(p, q)      the same, global memory only, marked as written once
 *
 * shape    p: aligned to the number of bytes, 16 at most. q: the words, e.g. b.q; of e2m1x8 the one
 *          word, e.g. part.q[0]. (Four codes: *(uint16_t *)p = (uint16_t)part.q[0].)
 *
 *     fp4_store_u32x<count>(p, w)            words as they are, 16-bit outputs for instance; four
 *                                            of them also _cs
 *
 * A scale byte needs no function of its own: sf[fp4_sf_offset_128x4(row, sf_col, sf_cols)] = b.sf.
 * Where a warp works on a row, four bytes at a time are four times as fast: fp4_sf_words.
 */
#ifndef FP4_DEVICE_STORE_CUH
#define FP4_DEVICE_STORE_CUH

#include <fp4/device/ptx.cuh>
#include <fp4/layout.h>

FP4_D void fp4_store_e2m1x8(void *p, uint32_t q)
{
    fp4_ptx_store4(p, q);
}

FP4_D void fp4_store_e2m1x16(void *p, const uint32_t q[2])
{
    fp4_ptx_store8(p, q[0], q[1]);
}

FP4_D void fp4_store_e2m1x32(void *p, const uint32_t q[4])
{
    fp4_ptx_store16(p, q[0], q[1], q[2], q[3]);
}

FP4_D void fp4_store_e4m3x8(void *p, const uint32_t q[2])
{
    fp4_ptx_store8(p, q[0], q[1]);
}

FP4_D void fp4_store_e4m3x16(void *p, const uint32_t q[4])
{
    fp4_ptx_store16(p, q[0], q[1], q[2], q[3]);
}

FP4_D void fp4_store_e4m3x32(void *p, const uint32_t q[8])
{
    fp4_ptx_store16(p, q[0], q[1], q[2], q[3]);
    fp4_ptx_store16((uint8_t *)p + 16, q[4], q[5], q[6], q[7]);
}

FP4_D void fp4_store_e2m1x8_cs(void *p, uint32_t q)
{
    fp4_ptx_store4_cs(p, q);
}

FP4_D void fp4_store_e2m1x16_cs(void *p, const uint32_t q[2])
{
    fp4_ptx_store8_cs(p, q[0], q[1]);
}

FP4_D void fp4_store_e2m1x32_cs(void *p, const uint32_t q[4])
{
    fp4_ptx_store16_cs(p, q[0], q[1], q[2], q[3]);
}

FP4_D void fp4_store_e4m3x8_cs(void *p, const uint32_t q[2])
{
    fp4_ptx_store8_cs(p, q[0], q[1]);
}

FP4_D void fp4_store_e4m3x16_cs(void *p, const uint32_t q[4])
{
    fp4_ptx_store16_cs(p, q[0], q[1], q[2], q[3]);
}

FP4_D void fp4_store_e4m3x32_cs(void *p, const uint32_t q[8])
{
    fp4_ptx_store16_cs(p, q[0], q[1], q[2], q[3]);
    fp4_ptx_store16_cs((uint8_t *)p + 16, q[4], q[5], q[6], q[7]);
}

FP4_D void fp4_store_u32x4(void *p, fp4_u32x4 w)
{
    fp4_ptx_store16(p, w.v[0], w.v[1], w.v[2], w.v[3]);
}

FP4_D void fp4_store_u32x4_cs(void *p, fp4_u32x4 w)
{
    fp4_ptx_store16_cs(p, w.v[0], w.v[1], w.v[2], w.v[3]);
}

FP4_D void fp4_store_u32x8(void *p, fp4_u32x8 w)
{
    fp4_ptx_store16(p, w.v[0], w.v[1], w.v[2], w.v[3]);
    fp4_ptx_store16((uint8_t *)p + 16, w.v[4], w.v[5], w.v[6], w.v[7]);
}

FP4_D void fp4_store_u32x16(void *p, fp4_u32x16 w)
{
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        fp4_ptx_store16((uint8_t *)p + 16 * i, w.v[4 * i], w.v[4 * i + 1], w.v[4 * i + 2],
                        w.v[4 * i + 3]);
    }
}

/* Two quads change places with those of another lane: where `high`, a is sent, else b. */
FP4_D void fp4_swap_quads_(uint32_t a[4], uint32_t b[4], int high, int lanes)
{
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        const uint32_t got = fp4_ptx_shuffle_xor_u32(0xffffffffu, high ? a[i] : b[i], lanes);
        a[i] = high ? got : a[i];
        b[i] = high ? b[i] : got;
    }
}

/**
 * fp4_store_u32x16 for four neighbouring lanes with neighbouring 64 bytes each, so that each store
 * of the warp writes runs of 64 bytes, not of 16: two whole sectors each, not halves of many.
 *
 * shape    p: this lane's own place. count: how many of the four lanes, from the first on, have
 *          something to store; 4 or more: all.
 * threads  all 32 lanes of the warp call. threadIdx.x % 4 is the lane's place among the four.
 */
FP4_D void fp4_store_u32x16_by_four(void *p, fp4_u32x16 w, uint32_t count)
{
    const uint32_t lane = threadIdx.x % 4;
    uint8_t *first = (uint8_t *)p - 64 * (size_t)lane;
    uint32_t i;

    /* a 4 x 4 matrix of quads, transposed: afterwards this lane has quad `lane` of each of them */
    fp4_swap_quads_(&w.v[0], &w.v[4], lane & 1, 1);
    fp4_swap_quads_(&w.v[8], &w.v[12], lane & 1, 1);
    fp4_swap_quads_(&w.v[0], &w.v[8], lane & 2, 2);
    fp4_swap_quads_(&w.v[4], &w.v[12], lane & 2, 2);
#pragma unroll
    for (i = 0; i < 4; i++) {
        if (i < count) {
            fp4_ptx_store16(first + 64 * i + 16 * lane, w.v[4 * i], w.v[4 * i + 1], w.v[4 * i + 2],
                            w.v[4 * i + 3]);
        }
    }
}

/* ------------------------------------------------------------ scale bytes, four at a time */

/**
 * Turns the scale bytes of four blocks a lane, of neighbouring lanes, into words of four
 * neighbouring scale columns.
 *
 *     lane      0   1   2   3                   lane          0        1        2        3
 *     byte 0    a0  a1  a2  a3                  word holds    a0..a3   b0..b3   c0..c3   d0..d3
 *     byte 1    b0  b1  b2  b3
 *     byte 2    c0  c1  c2  c3
 *     byte 3    d0  d1  d2  d3
 *
 * shape    lanes: 1, 2, 4 or 8; with 1 or 2 those that share a block and have the same bytes. The
 *          word of lane l holds the bytes that stood in byte (l / lanes) % 4 of the 4 * lanes lanes
 *          around it; more precisely, of the four of them that l is a multiple of `lanes` away
 *          from, so that with lanes 2, 4 or 8 neighbours may have bytes of their own. Bytes of any
 *          kind: with lanes = 1 it is the transpose of the four by four that four lanes have.
 * threads  all 32 lanes of the warp call; threadIdx.x % (4 * lanes) is a lane's place among so
 *          many: rows of threads of a multiple of that. Two shuffles.
 */
FP4_D uint32_t fp4_sf_words(uint32_t bytes, int lanes)
{
    const uint32_t lane = threadIdx.x / (uint32_t)lanes;
    const uint32_t neighbour = fp4_ptx_shuffle_xor_u32(0xffffffffu, bytes, lanes);
    const uint32_t pairs = fp4_ptx_bytes(bytes, neighbour, lane % 2 == 0 ? 0x6240u : 0x3715u);
    const uint32_t across = fp4_ptx_shuffle_xor_u32(0xffffffffu, pairs, 2 * lanes);

    return fp4_ptx_bytes(pairs, across, lane % 4 < 2 ? 0x5410u : 0x3276u);
}

/**
 * Stores the word of scale columns sf_col..sf_col+3 of a row; sf_col % 4 == 0.
 *
 * shape    sf_col < sf_cols, else nothing is stored. The bytes of columns that the matrix does not
 *          have are padding in the tiled layouts and must be 0; linear does not store them. (What
 *          fp4_sf_pad is then left with are rows: give it fp4_sf_cols_padded for sf_cols, else two
 *          threads write the same zeros, which is a race.)
 *          sf: tiled layouts 4-byte aligned; linear any.
 */
FP4_D void fp4_store_sf_word(fp4_layout layout, uint8_t *sf, size_t row, uint32_t sf_col,
                             uint32_t sf_cols, uint32_t word)
{
    uint8_t *at = sf + fp4_sf_offset(layout, row, 0, sf_cols) +
                  (size_t)(sf_col / 4) * (uint32_t)fp4_sf_word_step(layout);
    uint32_t i;

    if (sf_col >= sf_cols) {
        return;
    }
    if (layout != FP4_LAYOUT_LINEAR || ((size_t)at | sf_cols) % 4 == 0) {
        fp4_ptx_store4(at, word);
    } else {
        for (i = 0; i < 4 && sf_col + i < sf_cols; i++) {
            at[i] = (uint8_t)(word >> (8 * i));
        }
    }
}

/* ------------------------------------------------------------ padding of scale buffers */

/* This thread's number in the grid, and the grid's number of threads. */
FP4_D size_t fp4_grid_thread_(void)
{
    const size_t cta = ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    return cta * (blockDim.x * blockDim.y * blockDim.z) + thread;
}

FP4_D size_t fp4_grid_threads_(void)
{
    return (size_t)gridDim.x * gridDim.y * gridDim.z * (blockDim.x * blockDim.y * blockDim.z);
}

/**
 * Zeros to the padding of a scale buffer: the share of thread number `thread` of `threads`. For
 * matrices that a CTA or a warp has for itself, such as one of many experts.
 *
 * shape    sf: fp4_sf_bytes(layout, rows, sf_cols) bytes; tiled layouts 4-byte aligned.
 * threads  any, each number below `threads` once; no barrier. Only padding is written, but that of
 *          columns is also where words of scale bytes are stored (see fp4_store_sf_word). Linear
 *          scales have none.
 */
FP4_D void fp4_sf_pad(fp4_layout layout, uint8_t *sf, size_t rows, size_t sf_cols, size_t thread,
                      size_t threads)
{
    /* The padding rows, which are all in the last tiles, 16 bytes at a time: a word of four rows
       each, in 128x4 of rows 32 apart. Then the columns behind the last in each row that is
       there. */
    const uint32_t tile = layout == FP4_LAYOUT_128X4 ? 128 : 8, apart = tile == 128 ? 32 : 1;
    const size_t first = rows / tile * tile;
    const size_t count = first == rows ? 0 : fp4_sf_cols_padded(layout, sf_cols) / 4 * (tile / 4);
    uint8_t *const last = sf + fp4_sf_offset(layout, first, 0, sf_cols);
    const int is_aligned = (size_t)sf % 16 == 0;
    size_t i;

    if (layout == FP4_LAYOUT_LINEAR) {
        return;
    }
    for (i = thread; i < count; i += threads) {
        const size_t row = first + i % (tile / 4) * (apart == 1 ? 4 : 1);
        uint8_t *four = last + 16 * i;
        uint32_t j;
        if (is_aligned && row >= rows) {
            fp4_ptx_store16(four, 0, 0, 0, 0);
        } else {
            for (j = 0; j < 4; j++) {
                if (row + j * apart >= rows) {
                    fp4_ptx_store4(four + 4 * j, 0);
                }
            }
        }
    }
    for (i = thread; sf_cols % 4 != 0 && i < rows; i += threads) {
        uint8_t *four = sf + fp4_sf_offset(layout, i, sf_cols / 4 * 4, sf_cols);
        size_t c;
        for (c = sf_cols % 4; c < 4; c++) {
            four[c] = 0;
        }
    }
}

/**
 * Zeros to the padding of a scale buffer of the 128x4 layout: this thread's share of the whole
 * grid's. For kernels that store scale bytes one by one; beside words (fp4_store_sf_word,
 * fp4_row_store_sf), which bring the padding of their row, sf_cols is fp4_sf_cols_padded of it.
 *
 * shape    sf: 4-byte aligned, fp4_sf_bytes(FP4_LAYOUT_128X4, rows, sf_cols) bytes.
 * threads  every thread of the grid calls it once, at any point; no barrier. Only padding is
 *          written, as by fp4_sf_pad.
 */
FP4_D void fp4_sf_pad_128x4(uint8_t *sf, size_t rows, size_t sf_cols)
{
    if (rows % 128 != 0 || sf_cols % 4 != 0) {
        fp4_sf_pad(FP4_LAYOUT_128X4, sf, rows, sf_cols, fp4_grid_thread_(), fp4_grid_threads_());
    }
}

/** The same for the 8x4 layout. */
FP4_D void fp4_sf_pad_8x4(uint8_t *sf, size_t rows, size_t sf_cols)
{
    if (rows % 8 != 0 || sf_cols % 4 != 0) {
        fp4_sf_pad(FP4_LAYOUT_8X4, sf, rows, sf_cols, fp4_grid_thread_(), fp4_grid_threads_());
    }
}

/** The same for linear scales, which have no padding: nothing. A kernel changes its layout by one
    word. */
FP4_D void fp4_sf_pad_linear(uint8_t *sf, size_t rows, size_t sf_cols)
{
    (void)sf;
    (void)rows;
    (void)sf_cols;
}

#endif /* FP4_DEVICE_STORE_CUH */

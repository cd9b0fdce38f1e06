/*
 * fp4/device/store.cuh - codes from registers to memory, and the padding of scale buffers.
 *
 *     fp4_store_<type>x<count>(p, q)         e2m1: 8, 16, 32 codes, 4, 8, 16 bytes
 *                                            e4m3: 8, 16, 32 codes, 8, 16, 32 bytes
 *     fp4_store_<type>x<count>_cs(p, q)      the same, global memory only, marked as written once
 *
 * shape    p: aligned to the number of bytes, 16 at most. q: the words of a block, e.g. b.q.
 *
 * A scale byte needs no function of its own: sf[fp4_sf_offset_128x4(row, sf_col, sf_cols)] = b.sf.
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

/* Padding rows as words of four columns, then the columns behind the last in each row that is
   there. */
FP4_D void fp4_sf_pad_(fp4_layout layout, uint8_t *sf, size_t rows, size_t sf_cols)
{
    const size_t words = fp4_sf_cols_padded(layout, sf_cols) / 4;
    const size_t below = (fp4_sf_rows_padded(layout, rows) - rows) * words;
    const size_t count = below + (sf_cols % 4 != 0 ? rows : 0);
    size_t i;

    for (i = fp4_grid_thread_(); i < count; i += fp4_grid_threads_()) {
        if (i < below) {
            fp4_ptx_store4(sf + fp4_sf_offset(layout, rows + i / words, i % words * 4, sf_cols), 0);
        } else {
            uint8_t *four = sf + fp4_sf_offset(layout, i - below, sf_cols / 4 * 4, sf_cols);
            size_t c;
            for (c = sf_cols % 4; c < 4; c++) {
                four[c] = 0;
            }
        }
    }
}

/**
 * Zeros to the padding of a scale buffer of the 128x4 layout: this thread's share of the whole
 * grid's.
 *
 * shape    sf: 4-byte aligned, fp4_sf_bytes(FP4_LAYOUT_128X4, rows, sf_cols) bytes.
 * threads  every thread of the grid calls it once, at any point; no barrier. Only padding is
 *          written.
 */
FP4_D void fp4_sf_pad_128x4(uint8_t *sf, size_t rows, size_t sf_cols)
{
    fp4_sf_pad_(FP4_LAYOUT_128X4, sf, rows, sf_cols);
}

/** The same for the 8x4 layout. */
FP4_D void fp4_sf_pad_8x4(uint8_t *sf, size_t rows, size_t sf_cols)
{
    fp4_sf_pad_(FP4_LAYOUT_8X4, sf, rows, sf_cols);
}

#endif /* FP4_DEVICE_STORE_CUH */

/*
 * fp4/host/layout.h - whole scale tensors from one layout to another. Bytes move, values stay.
 *
 * shape    batches x rows x sf_cols scales of `element` bytes: 1, or 2 where they are still f16 or
 *          bf16. A linear buffer has no padding; a tiled one holds
 *          batches * fp4_sf_bytes(layout, rows, sf_cols) elements, every matrix padded on its own.
 *          Any alignment; sizes of buffers are in bytes.
 * errors   FP4_BAD_TYPE for an unknown layout or another size of elements, FP4_BAD_SHAPE where a
 *          size overflows, FP4_SMALL_BUFFER, FP4_NULL; then nothing is written.
 * source   FlashInfer, block_scale_interleave and its reverse; torchao, to_blocked.
 */
#ifndef FP4_HOST_LAYOUT_H
#define FP4_HOST_LAYOUT_H

#include <fp4/host/tensor.h>

#include <string.h>

static inline fp4_status fp4_ref_check_sf_(fp4_layout layout, size_t element, size_t batches,
                                           size_t rows, size_t sf_cols, const void *p, size_t bytes)
{
    size_t one;

    if ((unsigned)layout > FP4_LAYOUT_LINEAR || (element != 1 && element != 2)) {
        return FP4_BAD_TYPE;
    }
    if (rows > SIZE_MAX - 127 || sf_cols > SIZE_MAX - 3 ||
        fp4_overflows_(fp4_sf_rows_padded(layout, rows), fp4_sf_cols_padded(layout, sf_cols))) {
        return FP4_BAD_SHAPE;
    }
    one = fp4_sf_bytes(layout, rows, sf_cols);
    if (fp4_overflows_(one, element) || fp4_overflows_(batches, one * element)) {
        return FP4_BAD_SHAPE;
    }
    if (batches * one != 0 && p == NULL) {
        return FP4_NULL;
    }
    return bytes < batches * one * element ? FP4_SMALL_BUFFER : FP4_OK;
}

/** Scales from any layout to any other; padding of the result is 0x00. No overlap. */
static inline fp4_status fp4_ref_sf_convert(fp4_layout from, const void *in, size_t in_bytes,
                                            fp4_layout to, void *out, size_t out_bytes,
                                            size_t element, size_t batches, size_t rows,
                                            size_t sf_cols)
{
    fp4_status status = fp4_ref_check_sf_(from, element, batches, rows, sf_cols, in, in_bytes);
    size_t b, r, c;

    if (status == FP4_OK) {
        status = fp4_ref_check_sf_(to, element, batches, rows, sf_cols, out, out_bytes);
    }
    if (status != FP4_OK || out == NULL || batches * rows * sf_cols == 0) {
        return status;
    }
    memset(out, 0, batches * fp4_sf_bytes(to, rows, sf_cols) * element);
    for (b = 0; b < batches; b++) {
        for (r = 0; r < rows; r++) {
            for (c = 0; c < sf_cols; c++) {
                memcpy((uint8_t *)out + fp4_sf_offset_batched(to, b, r, c, rows, sf_cols) * element,
                       (const uint8_t *)in +
                           fp4_sf_offset_batched(from, b, r, c, rows, sf_cols) * element,
                       element);
            }
        }
    }
    return FP4_OK;
}

/** Linear scales to a tiled layout. */
static inline fp4_status fp4_ref_sf_swizzle(fp4_layout to, const void *linear, size_t linear_bytes,
                                            void *out, size_t out_bytes, size_t element,
                                            size_t batches, size_t rows, size_t sf_cols)
{
    return fp4_ref_sf_convert(FP4_LAYOUT_LINEAR, linear, linear_bytes, to, out, out_bytes, element,
                              batches, rows, sf_cols);
}

/** Tiled scales back to linear ones; the padding is dropped. */
static inline fp4_status fp4_ref_sf_unswizzle(fp4_layout from, const void *in, size_t in_bytes,
                                              void *linear, size_t linear_bytes, size_t element,
                                              size_t batches, size_t rows, size_t sf_cols)
{
    return fp4_ref_sf_convert(from, in, in_bytes, FP4_LAYOUT_LINEAR, linear, linear_bytes, element,
                              batches, rows, sf_cols);
}

#endif /* FP4_HOST_LAYOUT_H */

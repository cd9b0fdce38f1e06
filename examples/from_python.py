#!/usr/bin/env python3
"""from_python.py - a kernel compiled at run time: torch tensors through CuPy and NVRTC.

    python3 examples/from_python.py        # needs a GPU, PyTorch and CuPy 14

The headers need no more than their own directory on the include path, so a kernel can stand in a
string. This one quantizes bf16 to NVFP4, each row with a scale of its own; its bytes are compared
with the same written in PyTorch, and both are timed. To change the kernel, change the string.
"""
import pathlib

SOURCE = r"""
#include <fp4/device/load.cuh>
#include <fp4/device/quant.cuh>
#include <fp4/device/store.cuh>

/* NVFP4 of x [rows, cols] bf16, a CTA a row: q [rows, cols/2]; sf in the 128x4 layout, padding
   included; dec [rows], a second-level scale for each row, from its amax. */
extern "C" __global__ void tokens_to_nvfp4(uint8_t *q, uint8_t *sf, float *dec, const uint16_t *x,
                                           int rows, int cols)
{
    __shared__ float smem[32];
    const size_t row = blockIdx.x;
    const int first = FP4_NVFP4_BLOCK * threadIdx.x, step = FP4_NVFP4_BLOCK * blockDim.x;
    float amax = 0.0f;

    x += row * cols;
    for (int c = first; c < cols; c += step) {
        amax = fp4_max(amax, fp4_amax_x16(fp4_load_bf16x16(x + c)));
    }
    amax = fp4_cta_max(amax, smem);
    const float enc = fp4_nvfp4_token_enc(amax, 1.0f / (6.0f * 448.0f));
    if (threadIdx.x == 0) {
        dec[row] = fp4_nvfp4_token_dec(amax, enc);
    }
    for (int c = first; c < cols; c += step) {
        const fp4_nvfp4_block b = fp4_nvfp4_quantize(fp4_load_bf16x16(x + c), enc);
        fp4_store_e2m1x16(q + (row * cols + c) / 2, b.q);
        sf[fp4_sf_offset_128x4(row, c / FP4_NVFP4_BLOCK, cols / FP4_NVFP4_BLOCK)] = b.sf;
    }
    fp4_sf_pad_128x4(sf, rows, cols / FP4_NVFP4_BLOCK);
}
"""


def compiled():
    """The kernel, for the GPU that is here."""
    import cupy

    include = pathlib.Path(__file__).resolve().parent.parent / "include"
    return cupy.RawModule(code=SOURCE, options=(f"-I{include}", "--std=c++17")).get_function(
        "tokens_to_nvfp4"
    )


def by_kernel(kernel, x):
    """Codes, scale bytes, a scale a row: of x [rows, cols], bf16, contiguous, on the GPU."""
    import cupy
    import torch

    rows, cols = x.shape
    if x.dtype != torch.bfloat16 or not x.is_contiguous() or cols % 16 or not x.is_cuda:
        raise ValueError("a contiguous bf16 matrix of whole blocks, on a GPU")
    q = torch.empty(rows, cols // 2, dtype=torch.uint8, device=x.device)
    sf = torch.empty(-(-rows // 128) * 128, -(-cols // 64) * 4, dtype=torch.uint8, device=x.device)
    dec = torch.empty(rows, dtype=torch.float32, device=x.device)
    pointers = tuple(t.data_ptr() for t in (q, sf, dec, x))
    with cupy.cuda.Stream.from_external(torch.cuda.current_stream()):
        if rows:
            kernel((rows,), (256,), pointers + (cupy.int32(rows), cupy.int32(cols)))
    return q, sf, dec


def by_torch(x):
    """The same, one operation after the other."""
    import torch

    def f32(value):
        return torch.tensor(value, dtype=torch.float32, device=x.device)

    rows, cols = x.shape
    padded_rows, padded_cols = -(-rows // 128) * 128, -(-cols // 64) * 4
    blocks = x.float().view(rows, cols // 16, 16)
    amax = blocks.abs().amax(dim=(1, 2))
    enc = (f32(1.0) / f32(1.0 / 2688.0)) / amax
    scale = blocks.abs().amax(dim=2) * (enc * f32(1.0 / 6.0))[:, None]
    sf = scale.clamp(max=448.0).to(torch.float8_e4m3fn)
    v = blocks * (1.0 / (sf.float() * (1.0 / enc)[:, None]))[:, :, None]
    m = v.abs()
    code = (m > 0.25).byte() + (m >= 0.75) + (m > 1.25) + (m >= 1.75) + (m > 2.5) + (m >= 3.5)
    code = code + (m > 5.0) + 8 * torch.signbit(v)
    code = code.view(rows, cols).to(torch.uint8)
    # linear to 128x4: rows r, r + 32, r + 64, r + 96 beside each other, four scales of each
    padded = torch.zeros(padded_rows, padded_cols, dtype=torch.uint8, device=x.device)
    padded[:rows, : cols // 16] = sf.view(torch.uint8)
    tiles = padded.view(padded_rows // 128, 4, 32, padded_cols // 4, 4)
    return (
        code[:, 0::2] | code[:, 1::2] << 4,
        tiles.permute(0, 3, 2, 1, 4).reshape(padded_rows, padded_cols),
        1.0 / enc,
    )


def microseconds(run, times=20):
    """Of one run, of some after the first, what Python does between them included."""
    import torch

    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    run()
    start.record()
    for _ in range(times):
        run()
    stop.record()
    stop.synchronize()
    return 1e3 * start.elapsed_time(stop) / times


def main():
    import torch

    kernel = compiled()
    for rows, cols in ((1, 16), (130, 4176), (16384, 4096)):
        x = torch.randn(rows, cols, device="cuda").bfloat16()
        same = [torch.equal(a, b) for a, b in zip(by_kernel(kernel, x), by_torch(x))]
        print(f"{rows} x {cols}: codes, scale bytes, scales of rows equal PyTorch's: {same}")
        if not all(same):
            raise SystemExit("they differ")
    print(f"kernel {microseconds(lambda: by_kernel(kernel, x)):.0f} us, "
          f"PyTorch {microseconds(lambda: by_torch(x)):.0f} us")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""The jobs of the fused kernels, written plainly in PyTorch: what a user without them has.

    python3 torch_fused.py [--append FILE] [--rows N ...] [--cols N ...] [--rounds N] [--device cpu]

bf16 to NVFP4 with linear scales, eagerly and under torch.compile. First a small case beside a
reference in plain Python, which says in how many bytes they differ; then medians of CUDA events,
each launch on inputs of its own, together larger than the L2 cache. GB/s counts what gpu_bench
counts: input, codes, scale bytes and weights once, a residual in and out.
"""

import argparse
import math
import statistics
import sys
import time

import torch

BLOCK = 16
EPS = 1e-5
GLOBAL_ENC = {"rmsnorm": 448.0, "add_rmsnorm": 448.0, "silu_mul": 74.0}
DISTINCT = 1 << 30  # bytes of inputs that take turns


# ------------------------------------------------------------ the jobs


def e2m1(x):
    """Codes of x, nearest, ties to even: a tie counts where the code below it is odd."""
    a = x.abs()
    code = (a > 0.25).to(torch.uint8)
    code = code + (a >= 0.75) + (a > 1.25) + (a >= 1.75) + (a > 2.5) + (a >= 3.5) + (a > 5.0)
    return code | (torch.signbit(x).to(torch.uint8) << 3)


def nvfp4(y, global_enc):
    """Codes, two in a byte, the first in the low bits, and scale bytes, row-major."""
    blocks = y.unflatten(-1, (-1, BLOCK))
    amax = blocks.abs().amax(-1, keepdim=True)
    sf = (amax * (global_enc / 6.0)).clamp(max=448.0).to(torch.float8_e4m3fn)
    decoded = sf.float()
    enc = torch.where(decoded > 0.0, global_enc / decoded, 0.0)
    codes = e2m1(blocks * enc).flatten(-2)
    return codes[..., 0::2] | (codes[..., 1::2] << 4), sf.squeeze(-1).view(torch.uint8)


def normalized(h, weight):
    h = h.float()
    return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + EPS) * weight.float()


def rmsnorm(x, weight):
    return nvfp4(normalized(x, weight), GLOBAL_ENC["rmsnorm"])


def add_rmsnorm(x, residual, weight):
    residual.copy_(x.float() + residual.float())
    return nvfp4(normalized(residual, weight), GLOBAL_ENC["add_rmsnorm"])


def silu_mul(x):
    gate, up = x.float().chunk(2, dim=-1)
    return nvfp4(torch.nn.functional.silu(gate) * up, GLOBAL_ENC["silu_mul"])


def per_token(x):
    y = x.float()
    amax = y.abs().amax(-1, keepdim=True)
    global_enc = torch.where(amax > 0.0, 2688.0 / amax, 1.0)
    return (*nvfp4(y, global_enc.unsqueeze(-1)), 1.0 / global_enc)


JOBS = {"rmsnorm": rmsnorm, "add_rmsnorm": add_rmsnorm, "silu_mul": silu_mul,
        "per_token": per_token}


def make_inputs(job, rows, cols, device):
    def normal(*shape):
        return torch.randn(*shape, dtype=torch.bfloat16, device=device)

    weight = torch.rand(cols, device=device).mul(0.5).add(0.5).bfloat16()
    return {"rmsnorm": lambda: [normal(rows, cols), weight],
            "add_rmsnorm": lambda: [normal(rows, cols), normal(rows, cols), weight],
            "silu_mul": lambda: [normal(rows, 2 * cols)],
            "per_token": lambda: [normal(rows, cols)]}[job]()


def bytes_moved(job, rows, cols):
    elements = rows * cols
    inputs = {"rmsnorm": 2 * elements + 2 * cols, "add_rmsnorm": 6 * elements + 2 * cols,
              "silu_mul": 4 * elements, "per_token": 2 * elements}[job]
    return inputs + elements // 2 + elements // BLOCK


# ------------------------------------------------------------ the reference

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
E4M3 = [c * 2.0**-9 if c < 8 else (8 + c % 8) * 2.0 ** (c // 8 - 10) for c in range(127)]


def nearest(table, x):
    """The code of the nearest value, of two the even one; the last one for what lies beyond."""
    return min(range(len(table)), key=lambda code: (abs(table[code] - x), code % 2))


def reference_row(y, global_enc):
    codes, scales = [], []
    for first in range(0, len(y), BLOCK):
        block = y[first : first + BLOCK]
        sf = nearest(E4M3, max(map(abs, block)) * global_enc / 6.0)
        enc = global_enc / E4M3[sf] if sf else 0.0
        codes += [nearest(E2M1, abs(v) * enc) | 8 * (math.copysign(1.0, v) < 0.0) for v in block]
        scales.append(sf)
    return [low | high << 4 for low, high in zip(codes[0::2], codes[1::2])], scales


def reference(job, inputs):
    """Codes and scale bytes of all rows, in double precision, and the residual."""
    x = inputs[0].double().tolist()
    residual = None
    if job == "add_rmsnorm":
        residual = (inputs[0].double() + inputs[1].double()).bfloat16()
        x = residual.double().tolist()
    codes, scales = [], []
    for row in x:
        global_enc = GLOBAL_ENC.get(job)
        if job == "silu_mul":
            half = len(row) // 2
            y = [g / (1.0 + math.exp(-g)) * u for g, u in zip(row[:half], row[half:])]
        elif job == "per_token":
            y, global_enc = row, 2688.0 / max(map(abs, row))
        else:
            rms = math.sqrt(sum(v * v for v in row) / len(row) + EPS)
            y = [v / rms * w for v, w in zip(row, inputs[-1].double().tolist())]
        row_codes, row_scales = reference_row(y, global_enc)
        codes += row_codes
        scales += row_scales
    return codes, scales, residual


def count_differences(got, expected):
    return sum(a != b for a, b in zip(got.flatten().tolist(), expected, strict=True))


def check(job, run, device):
    """In how many bytes a job differs from the reference, as text; and whether that is few."""
    torch.manual_seed(1)
    inputs = make_inputs(job, 16, 256, device)
    codes, scales, residual = reference(job, [t.cpu() for t in inputs])
    outputs = run(*inputs)
    wrong = count_differences(outputs[0], codes), count_differences(outputs[1], scales)
    same = residual is None or torch.equal(inputs[1].cpu(), residual)
    text = f"{wrong[0]} of {len(codes)} and {wrong[1]} of {len(scales)}"
    # Single and double precision part where a product falls next to a midpoint; and torch.compile
    # goes on with the sum of x and the residual as it was before its rounding to bf16.
    return text, same and wrong[0] <= len(codes) // 20 and wrong[1] <= len(scales) // 20


# ------------------------------------------------------------ measuring


def time_once(run, inputs, device):
    """Microseconds of a launch."""
    if device == "cpu":
        start = time.perf_counter()
        run(*inputs)
        return 1e6 * (time.perf_counter() - start)
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run(*inputs)
    stop.record()
    stop.synchronize()
    return 1e3 * start.elapsed_time(stop)


def measure(job, run, rows, cols, options):
    one = bytes_moved(job, rows, cols)
    turns = 2 if options.device == "cpu" else max(2, -(-DISTINCT // one))
    inputs = [make_inputs(job, rows, cols, options.device) for _ in range(turns)]
    for i in range(3):  # compiles, fills the allocator's caches
        run(*inputs[i % turns])
    us = [time_once(run, inputs[i % turns], options.device) for i in range(options.rounds)]
    return statistics.median(us)


def table_of(rows):
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(width[i]) if i < 1 else cell.rjust(width[i])
                               for i, cell in enumerate(row)) + " |" for row in rows]
    rule = "".join("|" + "-" * (w + 1) + ("-" if i < 1 else ":") for i, w in enumerate(width)) + "|"
    return "\n".join([lines[0], rule] + lines[1:]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--append", metavar="FILE", help="the report to FILE as well")
    parser.add_argument("--rows", type=int, nargs="+", default=[65536, 16384])
    parser.add_argument("--cols", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        print("torch_fused.py: PyTorch sees no GPU here: left out")
        return 0

    name = "the CPU" if options.device == "cpu" else torch.cuda.get_device_name()
    report = [f"## The same jobs in PyTorch {torch.__version__}, on {name}\n",
              "bf16 to NVFP4, linear scales, written plainly (torch_fused.py), medians of "
              f"{options.rounds}. Before that 16 x 256\nbeside a reference in double precision.\n"]
    checks = [["16 x 256: bytes that differ, codes and scales", "eager", "torch.compile"]]
    times = [["", "eager us", "GB/s", "torch.compile us", "GB/s"]]
    good = True
    with torch.no_grad():
        for job, eager in JOBS.items():
            compiled = torch.compile(eager, dynamic=False)
            found = [check(job, run, options.device) for run in (eager, compiled)]
            good = good and all(few for _, few in found)
            checks.append([job] + [text for text, _ in found])
            for rows in options.rows:
                for cols in options.cols:
                    cells = [f"{job} {rows} x {cols}"]
                    for run in (eager, compiled):
                        us = measure(job, run, rows, cols, options)
                        cells += [f"{us:.1f}", f"{1e-3 * bytes_moved(job, rows, cols) / us:.0f}"]
                    times.append(cells)
                    print("  ".join(cells), file=sys.stderr, flush=True)
            torch.compiler.reset()
    report += [table_of(checks), table_of(times)]
    print("\n".join(report))
    if options.append:
        with open(options.append, "a", encoding="utf-8") as file:
            file.write("\n" + "\n".join(report))
    if not good:
        print("torch_fused.py: too many bytes differ, or the residual does", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

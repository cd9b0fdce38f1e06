#!/usr/bin/env python3
"""Computes once more what examples/demo_rmsnorm prints and draws, with software that is not ours.

    verify_demo.py PROGRAM INPUT.safetensors FOLDER

RMSNorm and quantization are done by numpy and ml_dtypes, operation by operation as include/fp4
documents them, in its order of summation; nothing of include/fp4 takes part. For INPUT and for
files of corner cases:

- every figure of the table is that of the bytes computed here, as far as it is printed;
- the picture is well-formed XML; its bars count the codes and scale bytes computed here, all of
  them, and are as high as their counts; every cell of its maps has the color of its error.

The host reference is meant, not a GPU, whose bytes the program itself compares with it. Needs
numpy, ml_dtypes and safetensors. FOLDER is made, and its files are overwritten.
"""

import pathlib
import re
import subprocess
import sys
import xml.etree.ElementTree

import ml_dtypes
import numpy as np
import safetensors

TABLE, WEIGHT = "embeddings.word_embeddings.weight", "embeddings.LayerNorm.weight"
FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
NAMES = {np.float32: "float32", np.float16: "float16", ml_dtypes.bfloat16: "bfloat16"}
F32, FLT_MAX = np.float32, np.finfo(np.float32).max
SIXTH = F32(1) / F32(6)
EPS = F32(1e-6)
LEVELS = 16
SVG = "{http://www.w3.org/2000/svg}"

checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"verify_demo: {what}")


# ------------------------------------------------------------------------------------ computing


def load(path):
    """x and w as bf16, in f32."""
    arrays = {name: np.frombuffer(t["data"], FLOATS[t["dtype"]]).reshape(t["shape"])
              for name, t in safetensors.deserialize(path.read_bytes()) if t["dtype"] in FLOATS}
    return [arrays[name].astype(F32).astype(ml_dtypes.bfloat16).astype(F32)
            for name in (TABLE, WEIGHT)]


def rms_norm(x, w):
    """In double, rounded once."""
    x = x.astype(np.float64)
    return (x / np.sqrt((x * x).mean(1, keepdims=True) + np.float64(EPS)) * w).astype(F32)


def rstd(x):
    """1/sqrt(mean(x^2) + eps) in f32: 32 threads with a piece of 16 each, then a butterfly."""
    rows, cols = x.shape
    check(cols <= 512, "verify_demo knows the order of up to 512 columns")
    pieces = np.zeros((rows, 32, 16), F32)
    pieces.reshape(rows, 512)[:, :cols] = x
    sums = np.zeros((rows, 32), F32)
    for i in range(16):  # the square of a bf16 is exact in f32: an addition rounds as the fma does
        sums = sums + pieces[:, :, i] * pieces[:, :, i]
    for step in (16, 8, 4, 2, 1):
        sums = sums[:, :step] + sums[:, step:]
    mean = sums / F32(cols) + EPS
    return (1 / np.sqrt(mean.astype(np.float64))).astype(F32)


class Variant:
    """The bytes of one way to quantize, what they decode to, and the errors of that."""

    def __init__(self, name, block, x, w, exact, per_token=False):
        self.name, self.block, self.per_token = name, block, per_token
        r = rstd(x)[:, :, None]
        t = (x * w).reshape(len(x), -1, block)
        amax = np.abs(t).max(2, keepdims=True) * r
        if block == 16:
            enc = self.global_enc(exact, amax, per_token)
            self.scales = np.minimum(np.minimum(amax * (enc * SIXTH), FLT_MAX), F32(448)).astype(
                ml_dtypes.float8_e4m3fn)
            values = self.scales.astype(F32)
            factor = np.minimum(F32(1) / (values * (F32(1) / enc)), FLT_MAX)
            self.dec = np.where(amax.max(1, keepdims=True) == 0, F32(0), F32(1) / enc)
            self.dec = self.dec if per_token else F32(1) / enc
        else:
            m, e = np.frexp(amax * SIXTH)
            power = np.where(amax == 0, -127, np.clip(e - (m == 0.5), -127, 127))
            self.scales = (power + 127).astype(np.uint8).view(ml_dtypes.float8_e8m0fnu)
            values = self.scales.astype(F32)
            factor, self.dec = np.ldexp(F32(1), -power).astype(F32), F32(1)
        factor = np.minimum(r * factor, FLT_MAX)
        codes = np.clip(t * factor, -6, 6).astype(ml_dtypes.float4_e2m1fn)
        self.codes = codes.view(np.uint8)
        self.decoded = (codes.astype(F32) * values * self.dec).reshape(x.shape)
        self.exact = exact
        self.error = np.abs(self.decoded.astype(np.float64) - exact)

    @staticmethod
    def global_enc(exact, amax, per_token):
        if per_token:
            base_enc = F32(1) / (F32(1) / F32(2688))
            return np.minimum(base_enc / amax.max(1, keepdims=True), FLT_MAX)
        whole = np.abs(exact).max()
        return F32(1) if whole == 0 else np.minimum(F32(2688) / whole, FLT_MAX)

    def sqnr(self, rows=slice(None)):
        y, noise = self.exact[rows].astype(np.float64), (self.error[rows] ** 2).sum()
        return np.inf if noise == 0 else 10 * np.log10((y * y).sum() / noise)

    def shares(self):
        """Of zeroed and of saturated elements, in percent."""
        y, x = np.abs(self.decoded), np.abs(self.exact)
        largest = (self.codes.reshape(x.shape) & 7) == 7
        return ((y == 0) & (x != 0)).mean() * 100, (largest & (y < x)).mean() * 100


# ------------------------------------------------------------------------------------ table


def close(text, value, digits):
    if text == "exact" or np.isinf(value):
        return text == "exact" and np.isinf(value)
    return abs(float(text) - float(value)) <= 0.5001 * 10.0 ** -digits


def check_figures(label, text, figures):
    """Each a text as it is printed, its name, what it should be, and the digits printed."""
    for printed, name, value, digits in zip(text, *zip(*figures)):
        check(close(printed, value, digits), f"{label}: {name} {printed}, not {value}")


def check_header(label, table, x, exact):
    y = exact.astype(np.float64)
    found = re.search(r": (\d+) tokens x (\d+)", table)
    check(found and (int(found[1]), int(found[2])) == x.shape, f"{label}: shape")
    found = re.search(r"rms (\S+), largest \|y\| (\S+), global_enc (\S+)", table)
    enc = Variant.global_enc(exact, None, False)
    check_figures(label, found.groups(), [("rms", np.sqrt((y * y).mean()), 4),
                                          ("largest", np.abs(y).max(), 4), ("enc", enc, 4)])


def check_errors(label, table, v):
    row = re.search(rf"^  {v.name}  +(\S+) +(\S+) +(\S+) +(\S+) % +(\S+) %$", table, re.M)
    check(row is not None, f"{label}: no row for {v.name}")
    bits = 4 + 8 / v.block + (32 / v.exact.shape[1] if v.per_token else 0)
    zeroed, saturated = v.shares()
    check_figures(f"{label}: {v.name}", row.groups(), [
        ("bits", bits, 3), ("SQNR", v.sqnr(), 2), ("max", v.error.max(), 4),
        ("zeroed", zeroed, 2), ("saturated", saturated, 2)])


def check_tokens(label, table, variants):
    rows = re.findall(r'^ +(\d+) (?:"\S+")? +((?:NVFP4\'s \w+)?) +(\S+) +(\S+) +(\S+) +(\S+)$',
                      table, re.M)
    sqnr = [v.sqnr(slice(r, r + 1)) for v in variants[:1] for r in range(len(v.exact))]
    wanted = min(3, len(sqnr))
    check([int(r[0]) for r in rows[:wanted]] == list(range(wanted)), f"{label}: first tokens")
    check(len(rows) == wanted + 2, f"{label}: {len(rows)} tokens")
    check(rows[-2][1] == "NVFP4's worst" and sqnr[int(rows[-2][0])] == min(sqnr), f"{label}: worst")
    check(rows[-1][1] == "NVFP4's best" and sqnr[int(rows[-1][0])] == max(sqnr), f"{label}: best")
    for number, _, *printed in rows:
        one = slice(int(number), int(number) + 1)
        figures = [("largest", np.abs(variants[0].exact[one]).max(), 4)]
        figures += [(v.name, v.sqnr(one), 2) for v in variants]
        check_figures(f"{label}: token {number}", printed, figures)


# ------------------------------------------------------------------------------------ picture


def bars_of(root):
    """{(format, kind, byte): (count, height)}"""
    bars = {}
    for rect in root.iter(SVG + "rect"):
        title = rect.find(SVG + "title")
        if title is not None:
            name, kind, byte, count = re.fullmatch(r"(\w+) (\w+) 0x(\w+) = \S+: (\d+)",
                                                   title.text).groups()
            bars[name, kind, int(byte, 16)] = int(count), float(rect.get("height"))
    return bars


def check_bars(label, bars, v):
    for kind, found in (("code", v.codes), ("scale", v.scales.view(np.uint8))):
        mine = {key[2]: bar for key, bar in bars.items() if key[:2] == (v.name, kind)}
        counts = np.bincount(found.ravel(), minlength=256)
        check(sum(count for count, _ in mine.values()) == found.size,
              f"{label}: the bars of {v.name}'s {kind}s do not add up to {found.size}")
        for byte, (count, _) in mine.items():
            check(count == counts[byte], f"{label}: {v.name} {kind} {byte}: {count}, not "
                  f"{counts[byte]}")
    # one scale a chart: codes share theirs, so do all the bars of a format's scale bytes
    for kind in ("code", "scale"):
        group = [bar for key, bar in bars.items() if key[1] == kind and
                 (kind == "code" or key[0] == v.name)]
        unit = max(height for _, height in group) / max(count for count, _ in group)
        check(unit > 0 and all(abs(height - count * unit) < 0.02 for count, height in group),
              f"{label}: {v.name}: the heights of the {kind} bars are not their counts")


def level_map(root, v):
    """The level of each cell, from the runs of the paths."""
    group = next(g for g in root.iter(SVG + "g") if g.get("id") == f"error-{v.name.lower()}")
    cells = np.full(v.exact.shape, -1)
    paths = group.findall(SVG + "path")
    check(len(paths) == LEVELS, f"{v.name}: {len(paths)} levels")
    for level, path in enumerate(paths):
        runs = re.findall(r"M(\d+) (\d+)h(\d+)", path.get("d"))
        check("".join("M%s %sh%s" % run for run in runs) == path.get("d"), f"{v.name}: a path")
        for col, row, length in (map(int, run) for run in runs):
            check((cells[row, col:col + length] == -1).all(), f"{v.name}: a cell drawn twice")
            cells[row, col:col + length] = level
    return cells, [path.get("stroke") for path in paths]


def lightness(color):
    return sum(part * int(color[i:i + 2], 16) for part, i in ((0.3, 1), (0.59, 3), (0.11, 5)))


def check_map(label, root, v):
    texts = [t.text for t in root.iter(SVG + "text")]
    top = float(next(t for t in texts if t.endswith(" and more")).removesuffix(" and more"))
    cells, colors = level_map(root, v)
    wanted = np.minimum(np.floor(v.error / top * LEVELS), LEVELS - 1).astype(int)
    check(np.array_equal(cells, wanted), f"{label}: {v.name}: the map is not that of the errors")
    light = [lightness(color) for color in colors]
    check(light == sorted(light, reverse=True) and len(set(colors)) == LEVELS, f"{label}: colors")
    check((v.error >= top).mean() <= 0.002, f"{label}: {v.name}: the map is cut off at {top}")
    head = next(t for t in texts if t.startswith(f"{v.name}: |decoded"))
    found = re.search(r"SQNR (\S+) dB, largest (\S+)$", head)
    printed = "exact" if found[1] == "inf" else found[1]
    check(close(printed, v.sqnr(), 2) and close(found[2], v.error.max(), 4), f"{label}: {head}")


# ------------------------------------------------------------------------------------ files


def make_corner_cases(folder):
    """Other shapes and types: a token of zeros, outliers, tiny and huge values; few and many."""
    rng = np.random.default_rng(6)
    spread = rng.standard_normal((6, 64)) * 2.0 ** rng.integers(-8, 5, (6, 4)).repeat(16, 1)
    spread[2] = 0
    spread[3] *= 1e-6
    spread[4, 7] = 3000
    spread[5, 16:32] = 0
    cases = {
        "spread": (spread.astype(np.float16), np.linspace(-2, 2, 64, dtype=F32)),
        "many": (rng.standard_normal((100, 32)).astype(ml_dtypes.bfloat16),
                 np.ones(32, ml_dtypes.bfloat16)),
        "one": (rng.standard_normal((1, 512)).astype(F32) * F32(1e9), np.ones(512, np.float16)),
        "zero": (np.zeros((2, 32), F32), np.ones(32, F32)),
    }
    for name, arrays in cases.items():
        spec = {key: safetensors.TensorSpec(dtype=a.dtype.name, shape=a.shape,
                                            data_ptr=a.ctypes.data, data_len=a.nbytes)
                for key, a in zip((TABLE, WEIGHT), arrays)}
        safetensors.serialize_file(spec, folder / f"<{name}>&.safetensors")
        yield folder / f"<{name}>&.safetensors"


def check_file(program, path, folder):
    label, picture = path.stem, folder / "picture.svg"
    picture.unlink(missing_ok=True)
    done = subprocess.run([program, path, picture], capture_output=True, text=True)
    check(done.returncode == 0, f"{label}: exit status {done.returncode}: {done.stderr}")
    x, w = load(path)
    x = x[:64]
    exact = rms_norm(x, w)
    variants = [Variant("NVFP4", 16, x, w, exact),
                Variant("NVFP4 per token", 16, x, w, exact, per_token=True),
                Variant("MXFP4", 32, x, w, exact)]
    check_header(label, done.stdout, x, exact)
    for v in variants:
        check_errors(label, done.stdout, v)
    check_tokens(label, done.stdout, variants)
    root = xml.etree.ElementTree.parse(picture).getroot()
    check(root.tag == SVG + "svg" and root.get("version") == "1.1", f"{label}: not SVG 1.1")
    bars = bars_of(root)
    for v in (variants[0], variants[2]):
        check_bars(label, bars, v)
        check_map(label, root, v)
    print(f"{label}: {x.shape[0]} tokens x {x.shape[1]}: table and picture as they should be")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, demo, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    np.seterr(divide="ignore", over="ignore", under="ignore", invalid="ignore")
    for path in [demo, *make_corner_cases(folder)]:
        check_file(program, path, folder)
    print(f"{checks} checks passed")


if __name__ == "__main__":
    main()

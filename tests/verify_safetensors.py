#!/usr/bin/env python3
"""Reads what examples/quantize_safetensors writes with software that is not ours.

    verify_safetensors.py PROGRAM INPUT.safetensors FOLDER

The files are read by the reference implementation of safetensors, the codes and scales decoded by
ml_dtypes, the arithmetic done by numpy; nothing of include/fp4 takes part. For INPUT and for a file
of corner cases, in both formats, under both namings and by every scale rule:

- the output holds the tensors it should, with dtypes and shapes as engines expect them;
- codes and scales are byte for byte what numpy makes of the recipe;
- codes and scales decode to the values that the program's own --dequantize writes, bit for bit;
- tensors that are not quantized, and the metadata, are untouched;
- fused layers share their second-level scale, and none is zero or infinite;
- the table's SQNR is that of the decoded values; the config names what was left out.

And of MUTATIONS damaged headers, the program accepts none that the reference implementation
refuses.

Needs numpy, ml_dtypes and safetensors. FOLDER is made, and its files are overwritten.
"""

import json
import pathlib
import random
import re
import subprocess
import sys

import ml_dtypes
import numpy as np
import safetensors

FLT_MAX = np.finfo(np.float32).max
SIXTH = np.float32(1) / np.float32(6)
FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
FAMILIES = [{"query", "key", "value"}, {"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}]
BLOCK = {"nvfp4": 16, "mxfp4": 32}
MUTATIONS = 1500

checks = 0


def check(condition, what):
    global checks
    checks += 1
    if not condition:
        sys.exit(f"verify_safetensors: {what}")


# ------------------------------------------------------------------------------------ containers


class Tensor:
    """A tensor as the reference implementation read it: dtype name, shape, bytes."""

    def __init__(self, entry):
        self.dtype, self.shape, self.bytes = entry["dtype"], tuple(entry["shape"]), entry["data"]

    def array(self, dtype):
        return np.frombuffer(self.bytes, dtype).reshape(self.shape)

    def floats(self):
        return self.array(FLOATS[self.dtype]).astype(np.float32)

    def __eq__(self, other):
        return (self.dtype, self.shape, self.bytes) == (other.dtype, other.shape, other.bytes)


def load(path):
    tensors = {name: Tensor(entry) for name, entry in safetensors.deserialize(path.read_bytes())}
    with safetensors.safe_open(path, "np") as f:
        return tensors, f.metadata()


def make_corner_cases(path):
    """Zeros, subnormals, huge values, ties, one block, many; names that engines fuse."""
    rng = np.random.default_rng(4)
    bf16 = ml_dtypes.bfloat16
    spread = rng.standard_normal((40, 96)) * 2.0 ** rng.integers(-30, 6, (40, 6)).repeat(16, 1)
    with_zero_rows = rng.standard_normal((5, 64)).astype(np.float32)
    with_zero_rows[1::2] = 0
    ties = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 6, -0.25, -0.75, -1.25, -1.75, -2.5, -3.5,
                     -5, -0.0] * 4)
    tensors = {
        "layers.0.zero.weight": np.zeros((3, 32), np.float32),
        "layers.0.tiny.weight": rng.standard_normal((4, 64)).astype(np.float32) * np.float32(1e-39),
        "layers.0.huge.weight": rng.uniform(-1e38, 1e38, (4, 64)).astype(np.float32),
        "layers.0.spread.weight": spread.astype(np.float32),
        "layers.0.rows.weight": with_zero_rows,
        "layers.0.ties.weight": ties.reshape(1, 64).astype(bf16),
        "layers.0.narrow.weight": rng.standard_normal((7, 16)).astype(np.float16),
        "layers.0.empty.weight": np.zeros((0, 64), np.float32),
        "layers.0.self_attn.q_proj.weight": rng.standard_normal((8, 32)).astype(bf16),
        "layers.0.self_attn.k_proj.weight": np.zeros((8, 32), np.float32),
        "layers.0.self_attn.v_proj.weight": rng.standard_normal((8, 32)).astype(np.float16) * 9,
        "layers.0.mlp.gate_proj.weight": rng.standard_normal((8, 32)).astype(bf16),
        "layers.0.mlp.up_proj.weight": (rng.standard_normal((8, 32)) * 99).astype(bf16),
        "layers.0.mlp.gate.weight": rng.standard_normal((8, 32)).astype(bf16),
        "layers.0.odd.weight": rng.standard_normal((3, 17)).astype(np.float32),
        "layers.0.stack.weight": rng.standard_normal((2, 3, 32)).astype(np.float32),
        "layers.0.input_layernorm.weight": rng.standard_normal(32).astype(bf16),
        "lm_head.weight": rng.standard_normal((4, 32)).astype(bf16),
        "steps": np.array(7, np.int64),
        "mask": np.array([True, False, True]),
    }
    spec = {
        name: safetensors.TensorSpec(dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data,
                                     data_len=a.nbytes)
        for name, a in tensors.items()
    }
    safetensors.serialize_file(spec, path, metadata={"made by": "verify_safetensors.py"})


# ------------------------------------------------------------------------------------ the recipe


def is_quantized(name, t, block):
    kept = re.search(r"embed|norm|Norm|lm_head|mlp\.gate\.", name)
    return (t.dtype in FLOATS and len(t.shape) == 2 and t.shape[1] % block == 0
            and name.endswith(".weight") and not kept)


def siblings(name, names):
    """The names whose second-level scale this one shares, itself among them."""
    parent, _, module = name.removesuffix(".weight").rpartition(".")
    for family in FAMILIES:
        if module in family:
            return [n for n in (f"{parent}.{m}.weight" for m in sorted(family)) if n in names]
    return [name]


def amax(x):
    return np.abs(x).max(initial=np.float32(0))


def global_enc(a):
    return np.float32(1) if a == 0 else min(np.float32(2688) / a, FLT_MAX)


def pack(codes):
    """e2m1 values to bytes, the even element in the low nibble."""
    nibbles = codes.view(np.uint8)
    return nibbles[:, 0::2] | nibbles[:, 1::2] << 4


def encode(blocks, factor):
    scaled = np.clip(blocks * factor, -6, 6)
    return pack(scaled.astype(ml_dtypes.float4_e2m1fn).reshape(len(blocks), -1))


def quantize_nvfp4(x, enc):
    blocks = x.reshape(len(x), -1, 16)
    a = np.abs(blocks).max(2, keepdims=True)
    sf = np.minimum(a * (enc * SIXTH), np.float32(448)).astype(ml_dtypes.float8_e4m3fn)
    dec = np.float32(1) / enc
    factor = np.minimum(np.float32(1) / (sf.astype(np.float32) * dec), FLT_MAX)
    return encode(blocks, factor), sf[..., 0].view(np.uint8)


def mxfp4_exponent(a, rule):
    """log2 of the block scale. frexp: a = m * 2^e, m in [0.5, 1)."""
    m, e = np.frexp(a * SIXTH if rule == "up" else a)
    power = {"up": e - (m == 0.5), "floor": e - 1 - 2, "ceil": e - (m == 0.5) - 2,
             "even": e - 1 - 2 + (m >= 0.875)}[rule]
    return np.where(a == 0, -127, np.clip(power, -127, 127))


def quantize_mxfp4(x, rule):
    blocks = x.reshape(len(x), -1, 32)
    power = mxfp4_exponent(np.abs(blocks).max(2, keepdims=True), rule)
    codes = encode(blocks, np.ldexp(np.float32(1), -power).astype(np.float32))
    return codes, (power[..., 0] + 127).astype(np.uint8)


def dequantize(codes, scales, dec, block):
    """(code * scale) * dec, from bytes."""
    nibbles = np.stack([codes & 15, codes >> 4], 2).reshape(len(codes), -1)
    values = nibbles.view(ml_dtypes.float4_e2m1fn).astype(np.float32)
    kind = ml_dtypes.float8_e4m3fn if block == 16 else ml_dtypes.float8_e8m0fnu
    return values * scales.view(kind).astype(np.float32).repeat(block, 1) * dec


# ------------------------------------------------------------------------------------ one output


class Run:
    """One call of the program, and what it has printed and written."""

    def __init__(self, program, source, folder, fmt, names, rule):
        self.fmt, self.names, self.rule, self.folder = fmt, names, rule, folder
        self.block = BLOCK[fmt]
        self.label = f"{source.name}: {fmt} {rule}, {names}"
        folder.mkdir(parents=True, exist_ok=True)
        out, back = folder / "model.safetensors", folder / "dequantized.safetensors"
        options = ["--format", fmt, "--names", names]
        options += ["--scale", rule] if fmt == "mxfp4" else []
        self.table = call(program, *options, source, out)
        call(program, "--dequantize", out, back)
        self.tensors, self.metadata = load(out)
        self.back, self.back_metadata = load(back)

    def check(self, condition, what):
        check(condition, f"{self.label}: {what}")


def call(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    check(done.returncode == 0, f"{program} {arguments}: {done.stderr}")
    return done.stdout


def part_names(run, module):
    codes = "weight" if run.names == "modelopt" else "weight_packed"
    second = "weight_scale_2" if run.names == "modelopt" else "weight_global_scale"
    parts = [codes, "weight_scale"] + ([second] if run.fmt == "nvfp4" else [])
    return [f"{module}.{part}" for part in parts]


def check_second_level(run, name, t, enc):
    """The stored scale, in the sense and shape of its name; returns it in decode sense."""
    modelopt = run.names == "modelopt"
    dec = np.float32(1) / enc
    value = t.array(np.float32).reshape(())
    run.check(t.dtype == "F32" and t.shape == (() if modelopt else (1,)), f"{name}: shape of scale")
    run.check(value == (dec if modelopt else enc), f"{name}: second-level scale {value}")
    run.check(0 < value < np.inf, f"{name}: second-level scale {value}")
    return value if modelopt else np.float32(1) / value


def check_sqnr(run, name, x, y):
    row = re.search(rf"^{re.escape(name)} .*?(\S+) +[0-9.]+ %", run.table, re.M)
    noise, signal = ((y.astype(np.float64) - x) ** 2).sum(), (x.astype(np.float64) ** 2).sum()
    run.check(row is not None, f"{name}: no row in the table")
    if noise == 0:
        run.check(row[1] == "exact", f"{name}: SQNR {row[1]} where nothing is lost")
    else:
        sqnr = 10 * np.log10(signal / noise)
        run.check(abs(float(row[1]) - sqnr) < 0.0051, f"{name}: SQNR {row[1]}, not {sqnr}")


def check_weight(run, name, source, names):
    x = source[name].floats()
    parts = part_names(run, name.removesuffix(".weight"))
    codes, scales = (run.tensors[part] for part in parts[:2])
    dec = np.float32(1)
    run.check(codes.dtype == "U8" and codes.shape == (x.shape[0], x.shape[1] // 2),
              f"{name}: codes {codes.dtype} {codes.shape}")
    run.check(scales.dtype == ("F8_E4M3" if run.fmt == "nvfp4" else "U8")
              and scales.shape == (x.shape[0], x.shape[1] // run.block),
              f"{name}: scales {scales.dtype} {scales.shape}")
    if run.fmt == "nvfp4":
        enc = global_enc(max(amax(source[n].floats()) for n in siblings(name, names)))
        dec = check_second_level(run, name, run.tensors[parts[2]], enc)
        expected = quantize_nvfp4(x, enc) if x.size else None
    else:
        expected = quantize_mxfp4(x, run.rule) if x.size else None
    stored = codes.array(np.uint8), scales.array(np.uint8)
    back = run.back[name].array(np.float32)
    if x.size:
        run.check(np.array_equal(stored[1], expected[1]), f"{name}: scale bytes")
        run.check(np.array_equal(stored[0], expected[0]), f"{name}: codes")
        y = dequantize(*stored, dec, run.block)
        run.check(np.array_equal(y.view(np.uint32), back.view(np.uint32)), f"{name}: values")
        check_sqnr(run, name, x, y)
    run.check(run.back[name].shape == x.shape, f"{name}: shape after --dequantize")


def check_config(run, source, quantized):
    """The file beside the model says what it is and what was left out."""
    modelopt = run.names == "modelopt"
    path = run.folder / ("hf_quant_config.json" if modelopt else "quantization_config.json")
    config = json.loads(path.read_text())
    kept = {n.rpartition(".")[0] for n, t in source.items()
            if t.dtype in FLOATS and len(t.shape) >= 2 and n not in quantized} | {"lm_head"}
    if modelopt:
        inner = config["quantization"]
        run.check(config["quant_method"] == "modelopt", "quant_method")
        run.check(inner["quant_algo"] == {"nvfp4": "W4A16_NVFP4", "mxfp4": "mxfp4"}[run.fmt],
                  "quant_algo")
        run.check(inner["group_size"] == run.block and inner["kv_cache_quant_algo"] is None,
                  "group_size, kv_cache_quant_algo")
        left_out = inner["exclude_modules"]
    else:
        weights = config["config_groups"]["group_0"]["weights"]
        strategy = {"nvfp4": "tensor_group", "mxfp4": "group"}[run.fmt]
        run.check(config["quant_method"] == "compressed-tensors", "quant_method")
        run.check(config["format"] == f"{run.fmt}-pack-quantized", "format")
        run.check(weights == {"num_bits": 4, "type": "float", "group_size": run.block,
                              "dynamic": False, "symmetric": True, "strategy": strategy}, "weights")
        left_out = config["ignore"]
    run.check(sorted(left_out) == sorted(kept), f"left out: {left_out}, not {sorted(kept)}")


def check_run(run, source, metadata):
    quantized = [n for n, t in source.items() if is_quantized(n, t, run.block)]
    kept = [n for n in source if n not in quantized]
    made = [part for n in quantized for part in part_names(run, n.removesuffix(".weight"))]
    run.check(len(quantized) >= 5, f"only {len(quantized)} weights are quantized")
    run.check(sorted(run.tensors) == sorted(kept + made), "names of the output")
    run.check(sorted(run.back) == sorted(source), "names after --dequantize")
    run.check(run.metadata == metadata and run.back_metadata == metadata, "metadata")
    for name in kept:
        run.check(run.tensors[name] == source[name], f"{name}: not untouched")
        run.check(run.back[name] == source[name], f"{name}: not untouched by --dequantize")
    for name in quantized:
        check_weight(run, name, source, quantized)
    check_config(run, source, quantized)
    return len(quantized), len(kept)


# ------------------------------------------------------------------------------------ bad headers

HEADERS = [  # each with 8 bytes of data
    r'{"__metadata__":{"k\n":"\u00e4\ud83d\ude00"},"\u0061":{"dtype":"I64","shape":[],'
    r'"data_offsets":[0,8]}}  ',
    r'{"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]},"a":{"dtype":"BF16","shape":[2,1],'
    r'"data_offsets":[0,4]},"c":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]}}',
    r'{"f":{"dtype":"F4","shape":[4,4],"data_offsets":[0,8]}}',
]
PIECES = [*'0123456789{}[],:" ae.-+U8F', "\\", "\\u", "\\u0000", "\x00", "\x1f", "\ufeff", "null",
          "true", "1e0", '"x":1,', "18446744073709551616"]


def mutate(rng, text):
    for _ in range(rng.randint(1, 3)):
        at, cut = rng.randrange(len(text)), rng.randint(0, 2)
        text = text[:at] + rng.choice([*PIECES, ""]) + text[at + cut:]
    return text


def check_bad_headers(program, folder):
    rng, path, accepted = random.Random(4), folder / "mutated.safetensors", 0
    for _ in range(MUTATIONS):
        header = mutate(rng, rng.choice(HEADERS)).encode()
        data = len(header).to_bytes(8, "little") + header + bytes(8)
        path.write_bytes(data)
        done = subprocess.run([program, path, folder / "out.safetensors"], capture_output=True)
        check(done.returncode in (0, 2), f"exit status {done.returncode}: {data}")
        if done.returncode == 0:
            accepted += 1
            try:
                safetensors.deserialize(data)
            except safetensors.SafetensorError as error:
                check(False, f"accepts what the reference refuses ({error}): {data}")
    print(f"{MUTATIONS} damaged headers, {accepted} of them still sound: none is misread")


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, demo, folder = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    corners = folder / "corners.safetensors"
    make_corner_cases(corners)
    np.seterr(divide="ignore", over="ignore", under="ignore")
    for path in (demo, corners):
        source, metadata = load(path)
        for names in ("modelopt", "compressed-tensors"):
            for fmt, rule in [("nvfp4", "up")] + [("mxfp4", r) for r in
                                                  ("up", "floor", "ceil", "even")]:
                run = Run(program, path, folder / path.stem / names / f"{fmt}-{rule}", fmt, names,
                          rule)
                quantized, kept = check_run(run, source, metadata)
                print(f"{run.label}: {quantized} weights and {kept} others as they should be")
    check_bad_headers(program, folder)
    print(f"{checks} checks passed")


if __name__ == "__main__":
    main()

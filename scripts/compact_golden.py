#!/usr/bin/env python3
"""Makes the compact golden folder of the repository (tests/golden/data) from a full one.

Kept of each case: inputs, draws, the parameters' formula, losses and final states; of the gradients and of the trained parameters
the norm and the projection on u(k), the formula's values under the key "proj:" + name. Needs nothing but Python.

usage: compact_golden.py FULL_FOLDER OUTPUT_FOLDER
"""
import array
import json
import os
import struct
import sys

MASK = (1 << 64) - 1
CODES = {"F32": "f", "F64": "d", "I32": "i"}


def read(path):
    """name -> (type, shape, values), and the metadata."""
    data = open(path, "rb").read()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, t in header.items():
        values = array.array(CODES[t["dtype"]])
        begin, end = t["data_offsets"]
        values.frombytes(data[8 + length + begin : 8 + length + end])
        tensors[name] = (t["dtype"], t["shape"], values)
    return tensors, metadata


def write(path, tensors, metadata):
    header, blobs, at = {"__metadata__": metadata}, [], 0
    for name, (dtype, shape, values) in sorted(tensors.items()):
        blob = array.array(CODES[dtype], values).tobytes()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def uniform(key, count):
    """u(0), u(1), … in [-1, 1): SplitMix64 from the FNV-1a hash of the key."""
    h = 0xCBF29CE484222325
    for c in key.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    for _ in range(count):
        h = (h + 0x9E3779B97F4A7C15) & MASK
        z = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        z ^= z >> 31
        yield (z >> 40) * 2.0**-23 - 1


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def count_of(shape):
    n = 1
    for s in shape:
        n *= s
    return n


def start_values(case, metadata, name, shape):
    scale, offset, flag = case["pcheck." + name][2][:3]
    values = [f32(offset + scale * u) for u in uniform(metadata["param_seed"] + ":" + name, count_of(shape))]
    if flag:
        values[: count_of(shape[1:])] = [0.0] * count_of(shape[1:])
    return values


def projection(name, values):
    return sum(v * u for v, u in zip(values, uniform("proj:" + name, len(values))))


def whole(tensors, prefix, name, shape, base):
    """A tensor that may be stored by its non-trivial rows; None if it is not there."""
    if prefix + name in tensors:
        return list(tensors[prefix + name][2])
    if prefix + name + ".rows" not in tensors:
        return None
    values, width = base(), count_of(shape[1:])
    rows, stored = tensors[prefix + name + ".rows"][2], tensors[prefix + name + ".values"][2]
    for k, row in enumerate(rows):
        values[row * width : (row + 1) * width] = stored[k * width : (k + 1) * width]
    return values


def compact(folder, case_name, output):
    path = lambda suffix: os.path.join(folder, case_name + suffix + ".safetensors")
    case, metadata = read(path(""))
    shapes = json.loads(metadata["param_shapes"])
    keep_metadata = {k: metadata[k] for k in ("case", "smiles", "config", "factors", "param_seed") if k in metadata}
    kept = {}
    for name, (dtype, shape, values) in case.items():
        if name.startswith("pcheck."):
            kept[name] = ("F64", [3], values[:3])
        elif name.startswith(("raw.", "in.", "loss.")) or name in ("act.final", "act.token_logits"):
            kept[name] = (dtype, shape, values)
    write(os.path.join(output, case_name + ".safetensors"), kept, keep_metadata)

    gradients, _ = read(path(".grads"))
    kept = {}
    for name, shape in shapes.items():
        values = whole(gradients, "grad.", name, shape, lambda: [0.0] * count_of(shape))
        if values is not None:
            kept["gradproj." + name] = ("F64", [1], [projection(name, values)])
            kept["gradnorm." + name] = ("F64", [1], [sum(v * v for v in values) ** 0.5])
        for known in ("gradnorm.", "gradproj."):
            if known + name in gradients:
                kept[known + name] = gradients[known + name]
    write(os.path.join(output, case_name + ".grads.safetensors"), kept, {"case": case_name})

    if not os.path.exists(path(".train")):
        return
    training, _ = read(path(".train"))
    kept = {k: v for k, v in training.items() if k.startswith("train.")}
    for name, shape in shapes.items():
        values = whole(training, "final.", name, shape, lambda: start_values(case, metadata, name, shape))
        if values is not None:
            kept["finalproj." + name] = ("F64", [1], [projection(name, values)])
    write(os.path.join(output, case_name + ".train.safetensors"), kept, {"case": case_name})


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, output = sys.argv[1:]
    os.makedirs(output, exist_ok=True)
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors") and file.count(".") == 1:
            compact(folder, file.split(".")[0], output)


if __name__ == "__main__":
    main()

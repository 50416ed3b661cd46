"""Named tensors in one file: the safetensors format (https://huggingface.co/docs/safetensors).

A little-endian u64 with the length of a JSON header, the header (name -> dtype, shape, data_offsets; `__metadata__` of
strings), and the tensors' bytes, row-major. Needs torch and the standard library only.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Dict, Mapping, Optional, Tuple

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_safetensors(path: str) -> Tuple[Dict[str, torch.Tensor], Dict[str, str]]:
    """All tensors of a file, and its metadata. Raises ValueError for a damaged file."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(bytes(data[8 : 8 + length]))
        metadata = header.pop("__metadata__", {})
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            count = 1
            for size in shape:
                count *= size
            width = torch.empty((), dtype=dtype).element_size()
            if begin < 0 or end - begin != count * width or 8 + length + end > len(data):
                raise ValueError(f"'{name}' does not fit its shape or the file")
            # A copy: the header may leave a tensor unaligned for its type.
            chunk = data[8 + length + begin : 8 + length + end]
            values = torch.frombuffer(chunk, dtype=dtype) if count else torch.empty(0, dtype=dtype)
            tensors[name] = values.reshape(shape)
    except (struct.error, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    return tensors, metadata


def _bytes_of(tensor: torch.Tensor) -> bytes:
    """Row-major bytes, without numpy."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    out = bytearray(flat.numel() * flat.element_size())
    if out:
        torch.frombuffer(out, dtype=flat.dtype).copy_(flat)
    return bytes(out)


def write_safetensors(
    path: str, tensors: Mapping[str, torch.Tensor], metadata: Optional[Mapping[str, str]] = None
) -> None:
    """Writes the tensors in the order given, under a temporary name first, so that no half file is ever found."""
    header: Dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    temporary = f"{path}.writing-{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for tensor in tensors.values():
                file.write(_bytes_of(tensor))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise

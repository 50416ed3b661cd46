"""Molecules of a data set folder that `moleblend prepare` made; its layout is docs/file_formats.md's."""

from __future__ import annotations

import json
import os
import struct
import zlib
from typing import Iterator, List, Optional

import torch

from .molecules import ATOM_FEATURES, Molecule

SHARD_HEADER_BYTES = 88
RECORD_HEADER = struct.Struct("<8IQ")  # CRC-32, atoms, bonds, conformers, two lengths, source file and kind; its record


def shard_records(path: str, schema: int) -> Iterator[memoryview]:
    """Raises ValueError for a file that is no whole shard of this schema."""
    with open(path, "rb") as file:
        data = memoryview(file.read())
    try:
        magic, found = struct.unpack_from("<8sI", data)
        (molecules,) = struct.unpack_from("<Q", data, 24)
        (bytes_of_file,) = struct.unpack_from("<Q", data, 72)
        if magic != b"molbshrd" or found != schema or bytes_of_file != len(data):
            raise ValueError("not a whole shard of this schema")
        offsets = struct.unpack_from(f"<{molecules + 1}Q", data, SHARD_HEADER_BYTES)
        first = SHARD_HEADER_BYTES + 8 * (molecules + 1) + 4 * molecules + 4
        for begin, end in zip(offsets, offsets[1:]):
            record = data[first + begin : first + end]
            if zlib.crc32(record[4:]) != struct.unpack_from("<I", record)[0]:
                raise ValueError("a record's checksum does not fit")
            yield record
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}; run `moleblend inspect DATA --verify`") from error


def molecule_of(record: memoryview) -> Molecule:
    """With the first conformer's positions."""
    _, n, bonds, conformers = RECORD_HEADER.unpack_from(record)[:4]
    at = RECORD_HEADER.size

    def numbers(dtype: torch.dtype, count: int) -> torch.Tensor:
        nonlocal at
        size = count * torch.empty((), dtype=dtype).element_size()
        # A copy: records lie at any byte.
        values = torch.frombuffer(bytearray(record[at : at + size]), dtype=dtype) if count else torch.empty(0, dtype=dtype)
        at += size
        return values

    atoms = numbers(torch.uint8, ATOM_FEATURES * n).long().reshape(n, ATOM_FEATURES)
    width = 1 if n <= 1 << 8 else 2 if n <= 1 << 16 else 4
    # Bytes, put together here: PyTorch has no unsigned 16-bit integers.
    rows = numbers(torch.uint8, (2 * width + 1) * bonds).long().reshape(bonds, 2 * width + 1)
    place = 256 ** torch.arange(width)
    ends = torch.stack([(rows[:, :width] * place).sum(1), (rows[:, width : 2 * width] * place).sum(1)], dim=1)
    code = rows[:, -1] - 1
    features = torch.stack([torch.div(code, 12, rounding_mode="floor"), code % 12 // 2, code % 2], dim=1)
    positions = numbers(torch.float32, 3 * n).reshape(n, 3) if conformers else None
    known = None if positions is None else positions.isfinite().all(1)
    return Molecule(atoms, ends, features, positions, known)


def read_dataset(folder: str, count: Optional[int] = None) -> "tuple[List[Molecule], List[int]]":
    """Molecules of a data set and their places in it: all, or `count` of them at even distances. Raises ValueError."""
    try:
        with open(os.path.join(folder, "dataset.json"), encoding="utf-8") as file:
            about = json.load(file)
        total, schema, shards = about["molecules"], about["schema"], [shard["name"] for shard in about["shards"]]
    except (json.JSONDecodeError, KeyError) as error:
        raise ValueError(f"{folder}/dataset.json does not describe a data set: {error!r}") from error
    wanted = total if count is None else min(count, total)
    places = [k * total // wanted for k in range(wanted)]
    chosen, molecules = set(places), []
    number = 0
    for name in shards:
        for record in shard_records(os.path.join(folder, name), schema):
            if number in chosen:
                molecules.append(molecule_of(record))
            number += 1
    if len(molecules) != wanted:
        raise ValueError(f"{folder} says that it has {total} molecules, and has {number}")
    return molecules, places

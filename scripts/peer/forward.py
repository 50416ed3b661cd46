"""Time of the encoder's forward pass over real molecules, as a user of PyTorch would embed them, held against moleblend's rows."""

from __future__ import annotations

import ast
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import torch
from torch import Tensor

from .bench import compiled, device_name, peak_memory_mib, precision_context, synchronise
from .checkpoint import model_from, read_checkpoint
from .dataset import read_dataset
from .molecules import Batch, Molecule, collate
from .objective import everything

# Of a row's norm. In fp32 both programs add up the same numbers in other orders, over the layers of the network; bf16 keeps 8 bits of
# each factor.
ROW_TOLERANCE = {"fp32": 1e-4, "bf16": 1e-1}


@dataclass(frozen=True)
class ForwardSettings:
    """What `forward` was asked for; the flags of the same names say more."""

    checkpoint: str
    data: str
    molecules: Optional[int]
    batch_size: int
    bucket: bool
    pad_to: int
    against: Optional[str]
    device: str
    precision: str
    compile: bool
    threads: Optional[int]
    warmup: int


def read_rows(path: str) -> Tensor:
    """A matrix of little-endian float32 in NumPy's format 1.0. Raises ValueError."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    try:
        (length,) = struct.unpack_from("<H", data, 8)
        header = ast.literal_eval(data[10 : 10 + length].decode("latin1"))
        if not data.startswith(b"\x93NUMPY\x01") or header["descr"] != "<f4" or header["fortran_order"]:
            raise ValueError("not a matrix of float32")
        return torch.frombuffer(data, dtype=torch.float32, offset=10 + length).reshape(header["shape"])
    except (struct.error, SyntaxError, KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} is not a matrix as `moleblend embed` writes it: {error}") from error


def in_order(molecules: List[Molecule], bucket: bool) -> List[int]:
    order = list(range(len(molecules)))
    return sorted(order, key=lambda k: len(molecules[k].atoms)) if bucket else order


def worst_deviation(rows: Tensor, expected: Tensor) -> float:
    """The largest |row - expected| / |expected|; NaN if any is."""
    return float(((rows - expected).norm(dim=1) / expected.norm(dim=1)).max())


def forward(s: ForwardSettings) -> Dict[str, Any]:
    """The row as JSON has it. Raises ValueError."""
    if s.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch sees no GPU; use --device cpu")
    if s.compile and not hasattr(torch, "compile"):
        raise ValueError(f"--compile needs PyTorch 2; this is {torch.__version__}")
    device = torch.device(s.device)
    if s.threads:
        torch.set_num_threads(s.threads)
    model = model_from(read_checkpoint(s.checkpoint)).to(device).eval()
    molecules, places = read_dataset(s.data, s.molecules)
    expected = read_rows(s.against)[places] if s.against else None

    begin = time.perf_counter()
    for molecule in molecules:
        molecule.relations  # once a molecule, as a data set would keep them
    relations_s = time.perf_counter() - begin
    run: Callable = compiled(model, device) if s.compile else model
    encoder = run.encoder.molecule_encoder

    def rows_of(batch: Batch) -> Tensor:
        with torch.no_grad(), precision_context(s.precision, device):
            return encoder(batch, everything(batch, True, False), None).x[:, 0].float()

    order = in_order(molecules, s.bucket)
    cuts = [order[at : at + s.batch_size] for at in range(0, len(order), s.batch_size)]
    for cut in cuts[:: max(1, len(cuts) // max(1, s.warmup))][: s.warmup]:
        rows_of(collate([molecules[k] for k in cut], s.pad_to).to(device))

    rows = torch.empty((len(molecules), model.config.width))
    seconds = collate_s = 0.0
    atoms = slots = 0
    for cut in cuts:
        begin = time.perf_counter()
        batch = collate([molecules[k] for k in cut], s.pad_to).to(device)
        synchronise(device)
        collate_s += time.perf_counter() - begin
        begin = time.perf_counter()
        found = rows_of(batch)
        synchronise(device)
        seconds += time.perf_counter() - begin
        rows[cut] = found.cpu()
        atoms, slots = atoms + int(batch.real.sum()), slots + batch.real.numel()
    print(
        f"{len(molecules)} molecules: relations {1e6 * relations_s / len(molecules):.0f} us and collating "
        f"{1e6 * collate_s / len(molecules):.0f} us a molecule; neither is in the time",
        file=sys.stderr,
    )
    deviation = None if expected is None else worst_deviation(rows, expected)
    agrees = deviation is None or deviation <= ROW_TOLERANCE[s.precision]
    return {
        "program": "pytorch peer, forward",
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "settings": vars(s),
        "check": {"worst_row_deviation": deviation, "passed": bool(rows.isfinite().all()) and agrees},
        "seconds": seconds,
        "molecules_per_s": len(molecules) / seconds,
        "atoms_mean": atoms / len(molecules),
        "padding": {"atoms": 1 - atoms / slots},
        "peak_memory_mib": peak_memory_mib(device),
        "not_in_time": {
            "relations_us_per_molecule": 1e6 * relations_s / len(molecules),
            "collate_us_per_molecule": 1e6 * collate_s / len(molecules),
        },
    }

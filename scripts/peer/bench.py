"""Time of a training step: forward, losses, backward, clipping, Adam, on padded batches that lie on the device."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional

import torch
from torch import Tensor

from .model import CONFIGS, HAS_SDPA, Config, MoleBlend
from .molecules import Batch, Molecule, collate, random_molecules, read_molecules
from .objective import Draws, Objective, draw, pretraining_losses
from .optimizer import clip, learning_rate, make_adam

# Of the predictions' own norm, for the form that is timed against plain fp32. Forms in fp32 differ by rounding; bf16 and
# tf32 keep 8 and 11 bits of each factor, and twelve layers add up their rounding.
FORM_TOLERANCE = {"fp32": 2e-5, "tf32": 1e-2, "bf16": 5e-2}


@dataclass(frozen=True)
class Settings:
    """What `bench` was asked for; the flags of the same names say more."""

    model: str
    target: str
    atoms: float
    atoms_deviation: float
    batch_size: int
    batches: int
    device: str
    precision: str
    compile: bool
    bilinear: bool
    outer: str
    attention: str
    bucket: bool
    pad_to: int
    threads: Optional[int]
    steps: int
    warmup: int
    seed: int
    data: Optional[str]


def cut_into_batches(molecules: List[Molecule], s: Settings) -> List[Batch]:
    """`batches` batches; molecules are taken again from the start where there are too few. With `bucket`, by size."""
    wanted = s.batch_size * s.batches
    pool = [molecules[k % len(molecules)] for k in range(wanted)]
    if s.bucket:
        pool.sort(key=lambda molecule: len(molecule.atoms))
    return [collate(pool[at : at + s.batch_size], s.pad_to) for at in range(0, wanted, s.batch_size)]


def precision_context(precision: str, device: torch.device):
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def losses_of(model: Callable, batch: Batch, draws: Draws, objective: Objective, s: Settings) -> Dict[str, Tensor]:
    with precision_context(s.precision, batch.real.device):
        predictions = model(batch, draws.visible, batch.positions + draws.noise)
    return pretraining_losses(predictions, batch, draws, objective)


def form_deviation(model: MoleBlend, batch: Batch, objective: Objective, s: Settings) -> float:
    """Predictions of the form that is timed (precision, attention, pair heads) against plain fp32 with product attention
    and outer products, without dropout, on a few molecules: the worst of |difference| / |plain| over the four heads."""
    batch = batch.map(lambda tensor: tensor[:16])
    draws = draw(batch, objective)

    def predictions(config: Config, precision: str) -> List[Tensor]:
        other = MoleBlend(config.without_dropout()).to(batch.real.device)
        other.load_state_dict(model.state_dict())
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        with torch.no_grad(), precision_context(precision, batch.real.device):
            p = other(batch, draws.visible, batch.positions + draws.noise)
        pairs = [values[batch.real_pairs].double() for values in (p.spd, p.edge, p.distance)]
        return pairs + [p.noise[batch.real].double()]

    plain = predictions(dataclasses.replace(model.config, bilinear=False, sdpa=False), "fp32")
    timed = predictions(model.config, s.precision)
    return max(float((a - b).norm() / b.norm()) for a, b in zip(timed, plain))


def compiled(model: MoleBlend, device: torch.device) -> Callable:
    """The whole network on a GPU. On a CPU its layers and heads, one by one: PyTorch 2.5's code generator for CPUs fails
    on the gradients of the look-up tables (an assertion in a transposed store)."""
    # One compilation a layer and padded size; past a small default limit, PyTorch would quietly not compile.
    limits = torch._dynamo.config
    setattr(limits, "recompile_limit" if hasattr(limits, "recompile_limit") else "cache_size_limit", 256)
    if device.type == "cuda":
        return torch.compile(model)
    encoder = model.encoder.molecule_encoder
    heads = (encoder.blend_spd_pred_head, encoder.blend_edge_pred_head, encoder.blend_3d_pred_head, encoder.atom_proc)
    for part in (*encoder.layers, *heads):
        part.forward = torch.compile(part.forward)
    return model


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory_mib(device: torch.device) -> float:
    """Of the device's allocator on a GPU; of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as info:
            for line in info:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def bench(s: Settings) -> Dict[str, Any]:
    """The row as JSON has it. Raises ValueError for what this machine or this PyTorch can't do."""
    if s.compile and not hasattr(torch, "compile"):
        raise ValueError(f"--compile needs PyTorch 2; this is {torch.__version__}")
    if s.attention == "sdpa" and not HAS_SDPA:
        raise ValueError(f"--attention sdpa needs PyTorch 2; this is {torch.__version__}")
    if s.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: this PyTorch sees no GPU; use --device cpu")
    device = torch.device(s.device)
    if s.threads:
        torch.set_num_threads(s.threads)
    torch.manual_seed(s.seed)

    say = lambda text: print(text, file=sys.stderr, flush=True)
    if s.data:
        molecules = read_molecules(s.data)
    else:
        molecules = random_molecules(s.batch_size * s.batches, s.atoms, s.atoms_deviation, s.seed)
    begin = time.perf_counter()
    for molecule in molecules:
        molecule.relations  # once a molecule, as a data set would keep them
    relations_s = time.perf_counter() - begin
    begin = time.perf_counter()
    batches = cut_into_batches(molecules, s)
    collate_s = time.perf_counter() - begin
    say(
        f"{len(molecules)} molecules: relations {1e6 * relations_s / len(molecules):.0f} us a molecule, collating "
        f"{1e3 * collate_s / s.batches:.1f} ms a batch; neither is in the step's time"
    )
    batches = [batch.to(device) for batch in batches]

    objective = Objective()
    config = dataclasses.replace(
        CONFIGS[s.model],
        target=s.target,
        bilinear=s.bilinear,
        sdpa=HAS_SDPA if s.attention == "auto" else s.attention == "sdpa",
        # On a CPU the sums of broadcasting's backward pass cost several times the product itself; on a GPU 32 x 1 x 32 is
        # too small for a matrix product.
        outer={"cpu": "matmul", "cuda": "multiply"}[s.device] if s.outer == "auto" else s.outer,
    )
    model = MoleBlend(config).to(device)
    model.initialise()
    deviation = form_deviation(model, batches[0], objective, s)
    checked = deviation <= FORM_TOLERANCE[s.precision]

    model.train()
    run = compiled(model, device) if s.compile else model
    parameters = list(model.parameters())
    adam = make_adam(parameters)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)

    def step(number: int) -> Tensor:
        batch = batches[number % len(batches)]
        losses = losses_of(run, batch, draw(batch, objective), objective, s)
        adam.zero_grad(set_to_none=True)
        losses["total"].backward()
        clip(parameters)
        adam.update(learning_rate(number))
        return losses["total"].detach()

    times, losses = [], []
    for number in range(s.warmup + s.steps):
        synchronise(device)
        begin = time.perf_counter()
        loss = step(number)
        synchronise(device)
        if number >= s.warmup:
            times.append(time.perf_counter() - begin)
            losses.append(float(loss))
    # Batches are of different sizes: what a pass over all of them takes is the sum of each one's median.
    of_batch: List[List[float]] = [[] for _ in batches]
    for k, seconds in enumerate(times):
        of_batch[(s.warmup + k) % len(batches)].append(seconds)
    timed = [(statistics.median(t), batch) for t, batch in zip(of_batch, batches) if t]
    seconds = sum(t for t, _ in timed)
    atoms = sum(int(batch.real.sum()) for _, batch in timed)
    slots = sum(batch.real.numel() for _, batch in timed)
    pairs = sum(int(batch.real_pairs.sum()) for _, batch in timed)
    pair_slots = sum(batch.real_pairs.numel() for _, batch in timed)
    finite = all(map(torch.isfinite, map(torch.tensor, losses)))
    return {
        "program": "pytorch peer",
        "torch": torch.__version__,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "settings": dataclasses.asdict(s),
        "forms": {
            "sdpa": config.sdpa,
            "pair_heads": "bilinear" if config.bilinear else f"outer product by {config.outer}",
        },
        "parameters": sum(p.numel() for p in parameters),
        "check": {"deviation_from_plain_fp32": deviation, "passed": checked and finite},
        "loss": {"first": losses[0], "last": losses[-1]},
        "step_ms": {
            "median": 1e3 * statistics.median(times),
            "least": 1e3 * min(times),
            "most": 1e3 * max(times),
        },
        "molecules_per_s": s.batch_size * len(timed) / seconds,
        "atoms_per_s": atoms / seconds,
        "atoms_mean": atoms / (s.batch_size * len(timed)),
        "padding": {"atoms": 1 - atoms / slots, "pairs": 1 - pairs / pair_slots},
        "peak_memory_mib": peak_memory_mib(device),
        "not_in_step": {
            "relations_us_per_molecule": 1e6 * relations_s / len(molecules),
            "collate_ms": 1e3 * collate_s / s.batches,
        },
    }

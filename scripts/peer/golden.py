"""The network against the reference program's numbers, in fp64: relations, final states, head outputs, losses, gradients
and ten steps of training. Takes the full golden files and the compact ones of the repository."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

import torch
from torch import Tensor

from . import objective as objectives
from .model import Config, MoleBlend
from .molecules import ATOM_FEATURES, HOPS, ROWS, Batch, collate, molecules_of
from .optimizer import FairseqAdam, clip, learning_rate
from .tensors import read_safetensors

# The reference's fp64 run and this one differ by rounding only; tensors that are stored as F32 carry its rounding.
ACTIVATION, STORED_F32, LOSS, GRADIENT = 1e-9, 1e-6, 1e-9, 1e-7
# Ten updates by Adam divide by sqrt(v), which magnifies the rounding of small gradients.
TRAINED = 1e-6
# The gradient of a key's bias is zero in exact arithmetic (softmax is shift invariant): compared absolutely, and not at
# all after training, where Adam turns its rounding into steps.
ZERO_GRADIENT = 1e-12


def wrap(x: int) -> int:
    """The signed 64-bit integer of the same bits: torch has no unsigned arithmetic, but wraps around the same way."""
    x &= (1 << 64) - 1
    return x - (1 << 64) if x >> 63 else x


def shift_right(x: Tensor, by: int) -> Tensor:
    """Without the sign's bits coming in."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def formula(key: str, count: int) -> Tensor:
    """u(0) ... u(count - 1) in [-1, 1), double: SplitMix64 from the FNV-1a hash of the key."""
    h = 0xCBF29CE484222325
    for c in key.encode():
        h = ((h ^ c) * 0x100000001B3) & ((1 << 64) - 1)
    z = torch.arange(1, count + 1) * wrap(0x9E3779B97F4A7C15) + wrap(h)
    z = (z ^ shift_right(z, 30)) * wrap(0xBF58476D1CE4E5B9)
    z = (z ^ shift_right(z, 27)) * wrap(0x94D049BB133111EB)
    z = z ^ shift_right(z, 31)
    return shift_right(z, 40).double() * 2.0**-23 - 1


def projection(name: str, values: Tensor) -> Tensor:
    return values.flatten() @ formula("proj:" + name, values.numel())


@dataclass
class Report:
    """The largest deviation of each kind, against its limit."""

    worst: Dict[str, Tuple[float, str]] = field(default_factory=dict)
    failures: List[str] = field(default_factory=list)
    compared: int = 0

    def note(self, kind: str, what: str, deviation: float, limit: float) -> None:
        self.compared += 1
        if not deviation <= self.worst.get(kind, (-1.0, ""))[0]:
            self.worst[kind] = (deviation, what)
        if not deviation <= limit:  # so that NaN fails
            self.failures.append(f"{what}: deviation {deviation:.1e}, limit {limit:.0e}")

    def require(self, ok: bool, what: str) -> None:
        self.compared += 1
        if not ok:
            self.failures.append(what)


class Case:
    """One golden case: inputs, draws, parameters and expected values."""

    def __init__(self, path: str) -> None:
        self.path, self.name = path, os.path.basename(path).split(".")[0]
        self.expected, self.metadata = read_safetensors(path)
        self.gradients = self._beside("grads")
        self.training = self._beside("train")
        c = json.loads(self.metadata["config"])
        self.finetuning = "num_classes" in c
        self.config = Config(
            layers=c["encoder_layers"],
            width=c["encoder_embed_dim"],
            heads=c["encoder_attention_heads"],
            ffn=c["encoder_ffn_embed_dim"],
            kernels=c["num_3d_bias_kernel"],
            distance_hidden=c["blend_pred_3d_hidden_dim"],
            target="displacement",
            tasks=c["num_classes"] if self.finetuning else 0,
            with_distance=c["add_3d"] if self.finetuning else True,
            language_head=True,
        ).without_dropout()
        self.molecules = molecules_of(self.expected, path)
        self.objective = objectives.Objective()
        if not self.finetuning:
            factors = json.loads(self.metadata["factors"])
            self.objective = dataclasses.replace(
                self.objective,
                spd=factors["spd"],
                edge=factors["edge"],
                distance=factors["d3"],
                denoise=factors["denoise"],
            )

    def _beside(self, suffix: str) -> Dict[str, Tensor]:
        path = self.path.replace(".safetensors", f".{suffix}.safetensors")
        return read_safetensors(path)[0] if os.path.exists(path) else {}

    def batch(self, multiple: int) -> Batch:
        return collate(self.molecules, multiple).to(torch.device("cpu"), torch.float64)

    def draws(self, batch: Batch) -> objectives.Draws:
        """One pair mask for the whole batch: each molecule takes its corner."""
        B, N = batch.real.shape
        mask = self.expected["in.pair_mask"].long()
        n = len(mask)
        pair = torch.zeros((B, N, N), dtype=torch.long)
        pair[:, :n, :n] = mask
        atom = torch.zeros((B, N), dtype=torch.long)
        atom[:, :n] = self.expected["in.atom_mask"].long()
        noise = torch.zeros((B, N, 3), dtype=torch.float64)
        noise[:, :n] = self.expected["in.noise_masked"].double()
        return objectives.Draws(objectives.visible_of(batch, pair, atom), noise)

    def parameter(self, name: str, shape: torch.Size) -> Tensor:
        """Start value, by the formula."""
        scale, offset, padding = self.expected["pcheck." + name][:3].tolist()
        values = (offset + scale * formula(self.metadata["param_seed"] + ":" + name, shape.numel())).float().view(shape)
        if padding:
            values[0] = 0
        return values

    def model(self, bilinear: bool, report: Report) -> MoleBlend:
        model = MoleBlend(dataclasses.replace(self.config, bilinear=bilinear)).double()
        named = dict(model.named_parameters())
        theirs = {name[len("pcheck.") :] for name in self.expected if name.startswith("pcheck.")}
        report.require(set(named) == theirs, f"{self.name}: names differ: {sorted(set(named) ^ theirs)}")
        for name, shape in json.loads(self.metadata.get("param_shapes", "{}")).items():
            report.require(
                list(named[name].shape) == shape, f"{self.name}: {name} is {list(named[name].shape)}, not {shape}"
            )
        with torch.no_grad():
            for name, parameter in named.items():
                values = self.parameter(name, parameter.shape)
                check = self.expected["pcheck." + name]
                if len(check) == 9:
                    deviation = float((values.double().sum() - check[7]).abs()) / max(1.0, values.numel() ** 0.5)
                    report.note("parameters", f"{self.name} sum of {name}", deviation, 1e-9)
                parameter.copy_(values)
        return model.train()  # as the reference ran; all dropouts are 0


def packed_tokens(x: Tensor, batch: Batch) -> Tensor:
    """[B, T, ...] -> [tokens, ...]"""
    real = torch.nn.functional.pad(batch.real, (1, 0), value=True)
    return x[real]


def compare_relations(case: Case, batch: Batch, report: Report) -> None:
    """Rows of the embedding tables exactly as the reference's own collator gives them."""
    if "batch.spatial_pos" not in case.expected:
        return
    n = case.expected["batch.x"].shape[1]
    code = batch.path[:, :n, :n]
    features = torch.stack([(code - 1).div(12, rounding_mode="floor"), (code - 1) // 2 % 6, (code - 1) % 2], dim=-1)
    rows = torch.where(code[..., None] > 0, features + ROWS * torch.arange(3) + 3, torch.zeros_like(features))
    theirs = torch.zeros_like(rows)
    edge_input = case.expected["batch.edge_input"].long()
    theirs[..., : edge_input.shape[3], :] = edge_input
    report.require(rows.shape[3] == HOPS and torch.equal(rows, theirs), f"{case.name}: path edges differ")
    for name, ours in (("x", batch.atoms), ("in_degree", batch.degree)):
        report.require(
            torch.equal(ours[:, :n], case.expected["batch." + name].long()), f"{case.name}: batch.{name} differs"
        )
    report.require(
        torch.equal(batch.spd[:, :n, :n], case.expected["batch.spatial_pos"].long()), f"{case.name}: distances differ"
    )
    report.require(batch.atoms.shape[2] == ATOM_FEATURES, f"{case.name}: atom features differ")


def compare_tensor(case: Case, name: str, value: Tensor, report: Report) -> None:
    """Relative to the tensor's own size: entries near zero carry the rounding of the large ones they are differences of."""
    if name not in case.expected:
        return
    expected = case.expected[name]
    if value.numel() != expected.numel():
        report.require(False, f"{case.name} {name}: {list(value.shape)} instead of {list(expected.shape)}")
        return
    difference = (value.detach().flatten() - expected.double().flatten()).abs().max()
    deviation = float(difference / (1 + expected.abs().max()))
    report.note(
        "activations", f"{case.name} {name}", deviation, ACTIVATION if expected.dtype == torch.float64 else STORED_F32
    )


def compare_loss(case: Case, name: str, value: Tensor, report: Report) -> None:
    expected = float(case.expected["loss." + name])
    report.note("losses", f"{case.name} loss.{name}", abs(float(value) - expected) / abs(expected), LOSS)


def stored(tensors: Dict[str, Tensor], name: str, base: Tensor) -> Optional[Tensor]:
    """A tensor that may be stored by those rows that differ from `base`."""
    if name in tensors:
        return tensors[name].double()
    if name + ".rows" not in tensors:
        return None
    whole = base.clone()
    whole[tensors[name + ".rows"].long()] = tensors[name + ".values"].double()
    return whole


def compare_gradients(case: Case, model: MoleBlend, report: Report) -> None:
    """Whole gradients, norms, projections or first values, whatever the case has."""
    files = case.gradients
    for name, parameter in model.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        what = f"{case.name} gradient of {name}"
        if name.endswith("k_proj.bias"):
            report.note("zero gradients", what, float(gradient.norm()), ZERO_GRADIENT)
            continue
        before = report.compared
        norm = gradient.norm()
        # Norms far below the loss's own size are sums of terms that cancel.
        scale = max(float(files.get("gradnorm." + name, norm)), 1e-6)
        if "gradnorm." + name in files:
            report.note("gradients", what + " (norm)", abs(float(norm - files["gradnorm." + name])) / scale, GRADIENT)
        expected = stored(files, "grad." + name, torch.zeros_like(parameter))
        if expected is not None:
            report.note("gradients", what, float((gradient - expected).norm()) / scale, GRADIENT)
        if "gradproj." + name in files:
            # A projection on values in [-1, 1) adds up the differences of all entries.
            difference = abs(float(projection(name, gradient) - files["gradproj." + name]))
            report.note("gradients", what + " (projection)", difference / scale, 2 * GRADIENT)
        if "gradhead." + name in files:
            rows = gradient.flatten(1) if gradient.dim() > 1 else gradient[None]
            first = int(rows.ne(0).any(1).nonzero()[0]) if name.endswith("atom_encoder.weight") else 0
            head = files["gradhead." + name]
            values = rows[first:].flatten()[: len(head)]
            report.note("gradients", what + " (first values)", float((values - head).abs().max()) / scale, GRADIENT)
        if parameter.grad is not None:  # one that is not there was held, as zeros, against what the case has of it
            report.require(report.compared > before, f"{what}: nothing to compare it with")


def pretraining_losses(case: Case, model: MoleBlend, batch: Batch) -> Dict[str, Tensor]:
    draws = case.draws(batch)
    predictions = model(batch, draws.visible, batch.positions + draws.noise)
    return objectives.pretraining_losses(predictions, batch, draws, case.objective)


def check_pretraining(case: Case, bilinear: bool, multiple: int, report: Report) -> None:
    model, batch = case.model(bilinear, report), case.batch(multiple)
    compare_relations(case, batch, report)
    draws = case.draws(batch)
    encoder = model.encoder.molecule_encoder
    encoded = encoder(batch, draws.visible, batch.positions + draws.noise)
    predictions = encoder.predictions(encoded)
    losses = objectives.pretraining_losses(predictions, batch, draws, case.objective)

    compare_tensor(case, "act.final", packed_tokens(encoded.x, batch), report)
    compare_tensor(case, "act.denoise_pred", predictions.noise[batch.real], report)
    compare_tensor(case, "act.spd_logits", predictions.spd[batch.real_pairs], report)
    compare_tensor(case, "act.edge_logits", predictions.edge[batch.real_pairs], report)
    compare_tensor(case, "act.pred_3d", predictions.distance[batch.real_pairs], report)
    for name in ("spd", "edge", "denoise", "total"):
        compare_loss(case, name, losses[name], report)
    compare_loss(case, "3d", losses["distance"], report)
    losses["total"].backward()
    compare_gradients(case, model, report)


def check_finetuning(case: Case, multiple: int, report: Report) -> None:
    model, batch = case.model(False, report), case.batch(multiple)
    compare_relations(case, batch, report)
    visible = objectives.everything(batch, show_2d=True, show_3d=case.config.with_distance)
    logits = model.token_logits(batch, visible)
    compare_tensor(case, "act.token_logits", packed_tokens(logits, batch), report)
    labels = case.expected["in.labels"].double()
    mean, std = case.expected.get("in.mean"), case.expected.get("in.std")
    if mean is None:
        labels = labels.masked_fill(case.expected["in.weights"] == 0, float("nan"))
    cls, total, average = (objectives.readout(logits, batch, how) for how in ("cls", "sum", "mean"))
    # The reference's mean divides by the largest atom count of the batch, this one by the molecule's own.
    counts = batch.real.sum(1, keepdim=True)
    for name, read in (("cls", cls), ("sum", total), ("mean", average * counts / counts.max())):
        compare_loss(case, name, objectives.property_loss(read, labels, mean, std), report)
    objectives.property_loss(cls, labels, mean, std).backward()
    compare_gradients(case, model, report)


def check_training(case: Case, bilinear: bool, report: Report) -> None:
    """Ten updates on the same batch with the same draws: warm-up of 4, cosine to 0 at 10, peak 1e-3."""
    model, batch = case.model(bilinear, report), case.batch(1)
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = FairseqAdam(model.parameters())
    for t in range(len(case.training["train.lr"])):
        lr = learning_rate(t, peak=1e-3, warmup=4, total=10)
        report.note("trained", f"{case.name} learning rate {t}", abs(lr - float(case.training["train.lr"][t])), 1e-15)
        optimizer.zero_grad()
        losses = pretraining_losses(case, model, batch)
        losses["total"].backward()
        norm = clip(model.parameters())
        values = {"grad_norm": norm, "loss_3d": losses["distance"]}
        values.update({"loss_" + name: losses[name] for name in ("spd", "edge", "denoise", "total")})
        for name, value in values.items():
            expected = float(case.training["train." + name][t])
            report.note("trained", f"{case.name} {name} before step {t}", abs(float(value) / expected - 1), TRAINED)
        optimizer.update(lr)
    for name, parameter in model.named_parameters():
        if name.endswith("k_proj.bias"):
            continue
        trained = parameter.detach()
        whole = stored(case.training, "final." + name, start[name])
        if whole is not None:
            report.note("trained", f"{case.name} trained {name}", float((trained - whole).abs().max()), TRAINED)
        elif "finalproj." + name in case.training:
            difference = abs(float(projection(name, trained) - case.training["finalproj." + name]))
            report.note(
                "trained", f"{case.name} trained {name} (projection)", difference, TRAINED * trained.numel() ** 0.5
            )
        else:
            moved = float((trained - start[name]).abs().max())
            report.note("trained", f"{case.name} {name} must not move", moved, 0.0)


def cases_of(folder: str) -> List[str]:
    """<case>.safetensors, not <case>.grads.safetensors and the like."""
    names = sorted(name for name in os.listdir(folder) if name.endswith(".safetensors") and name.count(".") == 1)
    return [os.path.join(folder, name) for name in names]


def check_case(path: str) -> Report:
    """Both forms of the pair heads; the second with more padding, which must change nothing."""
    report = Report()
    case = Case(path)
    if case.finetuning:
        check_finetuning(case, 1, report)
        check_finetuning(case, 8, report)
    else:
        check_pretraining(case, False, 1, report)
        check_pretraining(case, True, 8, report)
        if case.training:
            check_training(case, False, report)
            check_training(case, True, report)
    return report


def check_folder(folder: str) -> bool:
    """Prints a line a case; false if anything deviates. Raises ValueError if the folder has no cases."""
    paths = cases_of(folder)
    if not paths:
        raise ValueError(f"{folder} holds no golden cases (<case>.safetensors)")
    passed = True
    for path in paths:
        report = check_case(path)
        kinds = ", ".join(f"{kind} {deviation:.1e}" for kind, (deviation, _) in report.worst.items())
        verdict = "FAILED" if report.failures else "passed"
        print(
            f"{os.path.basename(path):24} {verdict}, {report.compared} comparisons; largest deviations: {kinds}",
            flush=True,
        )
        for failure in report.failures:
            print("  " + failure)
        passed = passed and not report.failures
    return passed

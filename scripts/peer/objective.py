"""What a pretraining step shows, and the losses of pretraining and fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional

import torch
from torch import Tensor
from torch.nn import functional as F

from .model import EDGE_CLASSES, Predictions, Visible
from .molecules import UNREACHABLE, Batch

IGNORED = -100  # F.cross_entropy's class for what does not count


@dataclass(frozen=True)
class Objective:
    """Blend probabilities, loss factors and the scale of the noise; by default the paper's run."""

    pair: "tuple[float, float, float]" = (0.2, 0.2, 0.6)  # SPD, edge, distance
    atom: "tuple[float, float]" = (0.4, 0.6)  # degree, summed Gaussians
    spd: float = 0.1
    edge: float = 0.1
    distance: float = 0.5
    denoise: float = 6.0
    noise_scale: float = 0.2  # angstrom


@dataclass
class Draws:
    """The random choices of one step."""

    visible: Visible
    noise: Tensor  # [B, N, 3] angstrom; zero for atoms without a known position

    def to(self, device: torch.device, dtype: torch.dtype) -> "Draws":
        visible = Visible(self.visible.pair.to(device, dtype), self.visible.atom.to(device, dtype))
        return Draws(visible, self.noise.to(device, dtype))


def visible_of(batch: Batch, pair_modality: Tensor, atom_modality: Tensor) -> Visible:
    """From the modality of each pair [B, N, N] (0 SPD, 1 edge, 2 distance) and atom [B, N] (0 2D, 1 3D). A molecule
    without positions shows SPD + edge and the degree everywhere."""
    dtype = batch.positions.dtype
    flat = ~batch.has_positions
    pair = F.one_hot(pair_modality, 3).to(dtype)
    atom = F.one_hot(atom_modality, 2).to(dtype)
    pair = torch.where(flat[:, None, None, None], pair.new_tensor([1, 1, 0]), pair)
    atom = torch.where(flat[:, None, None], atom.new_tensor([1, 0]), atom)
    return Visible(pair, atom)


def draw(batch: Batch, objective: Objective) -> Draws:
    """Blending for each molecule by itself, from torch's generator of the batch's device."""
    B, N = batch.real.shape
    device, dtype = batch.real.device, batch.positions.dtype
    u = torch.rand(B, N, N, device=device)
    spd, edge, _ = objective.pair
    pair = (u >= spd).long() + (u >= spd + edge).long()
    atom = (torch.rand(B, N, device=device) >= objective.atom[0]).long()
    noise = objective.noise_scale * torch.randn(B, N, 3, device=device, dtype=dtype)
    return Draws(visible_of(batch, pair, atom), noise * batch.position_known[..., None])


def everything(batch: Batch, show_2d: bool, show_3d: bool) -> Visible:
    """Outside pretraining: what is shown is summed."""
    B, N = batch.real.shape
    x = batch.positions
    has = batch.has_positions.to(x.dtype) * float(show_3d)
    pair = x.new_tensor([show_2d, show_2d, 1]).expand(B, N, N, 3).clone()
    atom = x.new_tensor([show_2d, 1]).expand(B, N, 2).clone()
    pair[..., 2] *= has[:, None, None]
    atom[..., 1] *= has[:, None]
    return Visible(pair, atom)


def spd_classes(batch: Batch) -> Tensor:
    """[B, N, N]: s - 1 for 1 <= s <= 10, class 10 beyond; diagonal, padding and unreachable pairs do not count."""
    s = batch.spd - 1
    return torch.where((s > 0) & (s < UNREACHABLE), (s - 1).clamp(max=10), torch.full_like(s, IGNORED))


def edge_classes(batch: Batch) -> Tensor:
    """[B, N, N, HOPS]: 6 type + 2 stereo + conjugated; no hop, type misc and what is past the last class do not count. As
    in the reference, stereo other than none, Z and E falls on classes of the next bond type."""
    code = batch.path - 1
    kind, stereo, conjugated = code.div(12, rounding_mode="floor"), code.div(2, rounding_mode="floor") % 6, code % 2
    classes = 6 * kind + 2 * stereo + conjugated
    counts = (code >= 0) & (kind < 4) & (classes < EDGE_CLASSES)
    return torch.where(counts, classes, torch.full_like(code, IGNORED))


def mean_cross_entropy(logits: Tensor, classes: Tensor) -> Tensor:
    """Over what counts; 0 where nothing does."""
    total = F.cross_entropy(logits.flatten(0, -2), classes.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (classes != IGNORED).sum().clamp(min=1)


def one_minus_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Over the last dimension, each norm at least 1e-8."""
    norms = prediction.norm(dim=-1).clamp(min=1e-8) * target.norm(dim=-1).clamp(min=1e-8)
    return 1 - (prediction * target).sum(-1) / norms


def distance_loss(prediction: Tensor, batch: Batch) -> Tensor:
    """Against the clean positions: 1 - cosine of the displacement x_j - x_i, or smooth L1 (threshold 1 angstrom) of the
    distance. Mean over a molecule's pairs of different known, not coincident, positions; then over molecules with any.
    """
    target = batch.positions[:, None, :, :] - batch.positions[:, :, None, :]
    known = batch.position_known
    counts = known[:, :, None] & known[:, None, :] & (target != 0).any(-1)
    if prediction.shape[-1] == 3:
        loss = one_minus_cosine(prediction, target)
    else:
        loss = F.smooth_l1_loss(prediction[..., 0], target.norm(dim=-1), reduction="none")
    pairs = counts.sum((1, 2))
    of_molecule = (loss * counts).sum((1, 2)) / pairs.clamp(min=1)
    return of_molecule.sum() / (pairs > 0).sum().clamp(min=1)


def pretraining_losses(predictions: Predictions, batch: Batch, draws: Draws, objective: Objective) -> Dict[str, Tensor]:
    """The four losses and their weighted sum, `total`; at least in float32."""
    dtype = batch.positions.dtype
    denoised = draws.visible.atom[..., 1].bool() & batch.position_known
    error = one_minus_cosine(predictions.noise.to(dtype), draws.noise)
    losses = {
        "spd": mean_cross_entropy(predictions.spd.to(dtype), spd_classes(batch)),
        "edge": mean_cross_entropy(predictions.edge.to(dtype), edge_classes(batch)),
        "distance": distance_loss(predictions.distance.to(dtype), batch),
        "denoise": (error * denoised).sum() / denoised.sum().clamp(min=1),
    }
    losses["total"] = (
        objective.spd * losses["spd"]
        + objective.edge * losses["edge"]
        + objective.distance * losses["distance"]
        + objective.denoise * losses["denoise"]
    )
    return losses


def readout(token_logits: Tensor, batch: Batch, how: str) -> Tensor:
    """[B, tasks] from [B, T, tasks]: `cls` the graph token, `sum` and `mean` over the molecule's atoms."""
    if how == "cls":
        return token_logits[:, 0]
    atoms = (token_logits[:, 1:] * batch.real[..., None]).sum(1)
    return atoms if how == "sum" else atoms / batch.real.sum(1, keepdim=True)


def property_loss(
    logits: Tensor, labels: Tensor, mean: Optional[Tensor] = None, std: Optional[Tensor] = None
) -> Tensor:
    """Over the labels [B, tasks] that are there (not NaN): with the training labels' mean and std [tasks], squared error
    of logits * std + mean; without, binary cross-entropy."""
    present = ~labels.isnan()
    target = torch.where(present, labels, torch.zeros_like(labels))
    if mean is None or std is None:
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    else:
        loss = (logits * std + mean - target) ** 2
    return (loss * present).sum() / present.sum().clamp(min=1)

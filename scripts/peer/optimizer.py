"""Adam with fairseq's bias correction, gradient clipping, and the learning rate of the paper's run."""

from __future__ import annotations

import math
from typing import Iterable, List

import torch
from torch import nn


class FairseqAdam(torch.optim.AdamW):
    """p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps), weight decay decoupled.

    torch adds its eps after the bias correction of v: p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps'). The two
    agree for eps' = eps / sqrt(1 - b2^t), so torch's own (fused) update serves, with another eps at each step. One step
    counts for all parameters: each must have a gradient from the first step on, or never.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float = 0.0, weight_decay: float = 0.0, **options: bool
    ) -> None:
        self.updates = 0
        self.fairseq_eps = 1e-8
        super().__init__(parameters, lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=weight_decay, **options)

    def update(self, lr: float) -> None:
        self.updates += 1
        for group in self.param_groups:
            group["lr"] = lr
            group["eps"] = self.fairseq_eps / math.sqrt(1 - group["betas"][1] ** self.updates)
        self.step()


def make_adam(parameters: List[nn.Parameter]) -> FairseqAdam:
    """The fastest form that this PyTorch has for the parameters' device."""
    if parameters[0].is_cuda and int(torch.__version__.split(".")[0]) >= 2:
        return FairseqAdam(parameters, fused=True)
    return FairseqAdam(parameters, foreach=parameters[0].is_cuda)


def clip(parameters: Iterable[nn.Parameter], max_norm: float = 5.0) -> torch.Tensor:
    """Scales gradients by min(1, max_norm / (norm + 1e-6)) and returns the norm before; torch's function does so."""
    return nn.utils.clip_grad_norm_(parameters, max_norm)


def learning_rate(update: int, peak: float = 1e-5, warmup: int = 20_000, total: int = 200_000) -> float:
    """Of update 0, 1, ...: linear from 0, then a cosine to 0 at `total`. The first update has 0 and moves the moments."""
    if update < warmup:
        return peak * update / warmup
    return 0.5 * peak * (1 + math.cos(math.pi * min(1.0, (update - warmup) / (total - warmup))))

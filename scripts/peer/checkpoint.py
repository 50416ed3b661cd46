"""Checkpoints between moleblend and PyTorch: the same names and layouts, another container."""

from __future__ import annotations

import os
from typing import Dict

import torch
from torch import Tensor

from .model import Config, MoleBlend, config_of
from .tensors import read_safetensors, write_safetensors


def read_checkpoint(path: str, trust_pickle: bool = False) -> Dict[str, Tensor]:
    """Parameters of a moleblend checkpoint folder, of a model.safetensors, or of a .pt file: a state_dict, or a dictionary
    that holds one as 'model' (fairseq). `trust_pickle` lets a .pt file construct any Python object, which runs its code:
    fairseq's checkpoints hold an argparse.Namespace and need it. Raises ValueError."""
    if os.path.isdir(path):
        inside = os.path.join(path, "model.safetensors")
        if not os.path.exists(inside):
            raise ValueError(f"{path} is no checkpoint folder: it has no model.safetensors")
        path = inside
    if path.endswith(".safetensors"):
        return read_safetensors(path)[0]
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust_pickle)
    except OSError:
        raise
    except Exception as error:  # whatever unpickling meets
        remedy = "" if trust_pickle else "; if you trust where it comes from, --trust-pickle reads any pickled object"
        raise ValueError(f"can't read {path}: {str(error).splitlines()[0]}{remedy}") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"{path} holds no state_dict: a dictionary of tensors is expected, or one as 'model' in it")
    return dict(content)


def model_from(state: Dict[str, Tensor]) -> MoleBlend:
    """The network that the parameters make. Raises ValueError if a name or a shape does not fit."""
    config: Config = config_of(state)
    model = MoleBlend(config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"the parameters don't make a MoleBLEND: {error}") from error
    return model


def describe(model: MoleBlend) -> str:
    c = model.config
    count = sum(p.numel() for p in model.parameters())
    heads = f"{c.tasks} tasks" if c.tasks else f"pretraining heads, target {c.target}"
    return f"{count:,} parameters: {c.layers} layers, width {c.width}, {c.heads} heads, {c.kernels} kernels; {heads}"


def convert(source: str, output: str, trust_pickle: bool) -> str:
    """Reads any of the forms, checks that the parameters fit, writes them as the output's ending says (.pt or .safetensors),
    in float32; says what they are."""
    state = read_checkpoint(source, trust_pickle)
    model = model_from(state)
    # In the module tree's order; half precision comes out as float32, which is what both programs compute with.
    parameters = {name: p.detach().float().contiguous() for name, p in model.state_dict().items()}
    if output.endswith(".safetensors"):
        write_safetensors(output, parameters, {"format": "pt"})
    else:
        temporary = f"{output}.writing-{os.getpid()}"
        torch.save(parameters, temporary)
        os.replace(temporary, output)
    return describe(model)

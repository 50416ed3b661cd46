"""MoleBLEND as a tree of PyTorch modules whose parameter names are the reference's.

Written as a user of PyTorch would: padded batches, batched products, `scaled_dot_product_attention` where this PyTorch
has it. The method is that of "Multimodal Molecular Pretraining via Modality Blending" (arXiv 2307.06235).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Dict, Mapping, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .molecules import ATOM_FEATURES, BOND_CODES, HOPS, ROWS, Batch

PAIR_WIDTH = 32
SPD_CLASSES = 11
EDGE_CLASSES = 24
HOP_MATRICES = 128  # in the checkpoint; HOPS of them are used
HAS_SDPA = hasattr(F, "scaled_dot_product_attention")


@dataclass(frozen=True)
class Config:
    """Sizes and regularisation of the network."""

    layers: int
    width: int
    heads: int
    ffn: int
    kernels: int
    distance_hidden: int
    target: str = "distance"  # of the 3D head: distance (one number a pair) or displacement (three)
    tasks: int = 0  # > 0: a property head instead of the pretraining heads
    with_distance: bool = True  # the distance encoder exists (a 2D-only property model has none)
    language_head: bool = False  # the reference's unused head, for checkpoints with all of its parameters
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    drop_path: float = 0.1
    denoise_dropout: float = 0.1
    bilinear: bool = False  # pair heads as bilinear forms instead of by the outer product
    outer: str = "matmul"  # how the outer product is made: by `matmul`, or by `multiply` with broadcasting
    sdpa: bool = HAS_SDPA  # PyTorch's fused attention instead of product, softmax, product

    def without_dropout(self) -> "Config":
        return replace(self, attention_dropout=0.0, activation_dropout=0.0, drop_path=0.0, denoise_dropout=0.0)


CONFIGS: Dict[str, Config] = {
    "tiny": Config(layers=2, width=64, heads=4, ffn=64, kernels=16, distance_hidden=32),
    "small": Config(layers=6, width=256, heads=8, ffn=256, kernels=64, distance_hidden=256),
    "base": Config(layers=12, width=768, heads=32, ffn=768, kernels=128, distance_hidden=256),
}


@dataclass
class Visible:
    """What each pair and each atom shows of its molecule; 0 or 1."""

    pair: Tensor  # [B, N, N, 3]: SPD, edge, distance
    atom: Tensor  # [B, N, 2]: degree, summed Gaussians


@dataclass
class Encoded:
    """The encoder's result and what the heads need besides."""

    x: Tensor  # [B, T, D]
    bias: Tensor  # [B, H, T, T] with -inf for padded keys
    unit_displacement: Optional[Tensor]  # [B, N, N, 3] (x_j - x_i) / (r + 1e-5)


@dataclass
class Predictions:
    """Outputs of the pretraining heads for every padded pair or atom."""

    spd: Tensor  # [B, N, N, 11]
    edge: Tensor  # [B, N, N, HOPS, 24]
    distance: Tensor  # [B, N, N, 3] displacement or [B, N, N, 1] distance
    noise: Tensor  # [B, N, 3]


def at_least_f32(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def autocast_dtype(device: torch.device) -> Optional[torch.dtype]:
    """What autocast computes products in at this place; None outside of it."""
    if hasattr(torch, "get_autocast_dtype"):  # PyTorch 2.4 or later
        return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else None
    if device.type == "cuda":
        return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None
    return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None


def no_autocast(device: torch.device):
    """Arithmetic in the operands' own precision."""
    return torch.autocast(device.type, enabled=False)


class LayerNorm(nn.LayerNorm):
    """At least in float32, also where autocast would leave it in less."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(at_least_f32(input))


class AtomFeature(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.atom_encoder = nn.Embedding(ROWS * ATOM_FEATURES + 1, c.width, padding_idx=0)
        self.in_degree_encoder = nn.Embedding(ROWS, c.width, padding_idx=0)
        self.out_degree_encoder = nn.Embedding(ROWS, c.width, padding_idx=0)
        self.graph_token = nn.Embedding(1, c.width)

    def forward(self, batch: Batch, visible: Visible, gaussian_term: Optional[Tensor]) -> Tensor:
        """[B, T, D]: nine rows summed, and the degree or the 3D term where they are shown."""
        atoms = self.atom_encoder(batch.atoms).sum(2)
        degree = self.in_degree_encoder(batch.degree) + self.out_degree_encoder(batch.degree)
        atoms = atoms + visible.atom[..., 0:1] * degree
        if gaussian_term is not None:
            atoms = atoms + visible.atom[..., 1:2] * (0.01 * gaussian_term)
        token = self.graph_token.weight.expand(batch.molecules, 1, -1)
        return torch.cat([token, atoms], dim=1)


class MoleculeAttnBias(nn.Module):
    """The encodings of 2D relations, one value a head."""

    bond_rows: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads = c.heads
        self.edge_encoder = nn.Embedding(ROWS * 3 + 1, c.heads, padding_idx=0)
        self.edge_dis_encoder = nn.Embedding(HOP_MATRICES * c.heads * c.heads, 1)
        self.spatial_pos_encoder = nn.Embedding(ROWS, c.heads, padding_idx=0)
        self.graph_token_virtual_distance = nn.Embedding(1, c.heads)
        code = torch.arange(BOND_CODES)
        features = torch.stack([code // 12, code // 2 % 6, code % 2], dim=1)
        self.register_buffer("bond_rows", features + ROWS * torch.arange(3) + 3, persistent=False)  # [60, 3]

    def spd(self, batch: Batch) -> Tensor:
        """[B, N, N, H]"""
        return self.spatial_pos_encoder(batch.spd)

    def edge(self, batch: Batch) -> Tensor:
        """[B, N, N, H]: mean over hops of (mean of the three rows) . W_hop. There are but 60 different bonds, so the
        products are made once a bond and hop, and looked up."""
        bond = self.edge_encoder(self.bond_rows).mean(1)  # [60, H]
        matrices = self.edge_dis_encoder.weight.view(HOP_MATRICES, self.heads, self.heads)[:HOPS]
        table = F.pad(bond @ matrices, (0, 0, 1, 0)).flatten(0, 1)  # [HOPS * 61, H], no hop: zero
        rows = batch.path + (BOND_CODES + 1) * torch.arange(HOPS, device=batch.path.device)
        hops = (batch.spd - 1).clamp(1, HOPS)[..., None]
        return F.embedding(rows, table).sum(3) / hops


class GaussianLayer(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.means = nn.Embedding(1, c.kernels)
        self.stds = nn.Embedding(1, c.kernels)
        self.mul = nn.Embedding(ROWS * 3, 1, padding_idx=0)
        self.bias = nn.Embedding(ROWS * 3, 1, padding_idx=0)

    def forward(self, distance: Tensor, batch: Batch) -> Tensor:
        """[B, N, N, K], at least in float32: K Gaussians of a distance that is scaled and shifted by the two elements."""
        # Rows of mul and bias: Z + 3 for the row's atom, Z + 515 for the column's; padding may take any row.
        row = batch.atoms[..., 0] + 1
        column = row + ROWS

        def of_pair(table: nn.Embedding) -> Tensor:
            return at_least_f32(table(row) + table(column).transpose(1, 2))

        u = of_pair(self.mul) * distance + of_pair(self.bias)
        sigma = self.stds.weight[0].abs() + 0.01
        # 3.14159, as the reference has it.
        scale = math.sqrt(2 * 3.14159) * sigma
        return torch.exp(-0.5 * ((u[..., None] - self.means.weight[0]) / sigma) ** 2) / scale


class NonLinear(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.layer1 = nn.Linear(inputs, hidden)
        self.layer2 = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(F.gelu(self.layer1(x)))


class Molecule3DBias(nn.Module):
    """The encoding of distances: a value a head and pair, and a vector an atom."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.gbf = GaussianLayer(c)
        self.gbf_proj = NonLinear(c.kernels, c.kernels, c.heads)
        self.edge_proj = nn.Linear(c.kernels, c.width)

    def forward(self, batch: Batch, distance: Tensor) -> "tuple[Tensor, Tensor]":
        """[B, N, N, H] and [B, N, D]."""
        with no_autocast(distance.device):
            gaussians = self.gbf(distance, batch)
            summed = (gaussians * batch.real[:, None, :, None]).sum(2)
        return self.gbf_proj(gaussians), self.edge_proj(summed)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, T, D] -> [B, H, T, d]"""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


class SelfAttention(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.dropout, self.sdpa = c.heads, c.attention_dropout, c.sdpa
        self.k_proj = nn.Linear(c.width, c.width)
        self.v_proj = nn.Linear(c.width, c.width)
        self.q_proj = nn.Linear(c.width, c.width)
        self.out_proj = nn.Linear(c.width, c.width)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """[B, T, D]; `bias` [B, H, T, T] is added to the scores."""
        q, k, v = (split_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        if self.sdpa:
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, dropout_p=self.dropout if self.training else 0.0
            )
        else:
            p = attention_probabilities(q, k, bias)
            out = F.dropout(p, self.dropout, self.training) @ v
        return self.out_proj(out.transpose(1, 2).flatten(2))


def attention_probabilities(q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + bias), the softmax at least in float32; in the precision of q."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    return torch.softmax(at_least_f32(scores), dim=-1).to(q.dtype)


class EncoderLayer(nn.Module):
    """x <- LN(x + drop(attention(x))); x <- LN(x + drop(feed-forward(x)))."""

    def __init__(self, c: Config, index: int) -> None:
        super().__init__()
        self.activation_dropout = c.activation_dropout
        self.drop_path = c.drop_path * index / max(1, c.layers - 1)  # linear in depth
        self.self_attn = SelfAttention(c)
        self.self_attn_layer_norm = LayerNorm(c.width)
        self.fc1 = nn.Linear(c.width, c.ffn)
        self.fc2 = nn.Linear(c.ffn, c.width)
        self.final_layer_norm = LayerNorm(c.width)

    def _drop(self, branch: Tensor) -> Tensor:
        """Drops a molecule's whole branch and makes up for it in the others."""
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * (torch.rand(len(branch), 1, 1, device=branch.device) < keep) / keep

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.self_attn_layer_norm(x + self._drop(self.self_attn(x, bias)))
        hidden = F.dropout(F.gelu(self.fc1(x)), self.activation_dropout, self.training)
        return self.final_layer_norm(x + self._drop(self.fc2(hidden)))


class AtomProc(nn.Module):
    """The denoising head: attention over atoms whose probabilities weigh unit displacements."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.heads, self.dropout = c.heads, c.denoise_dropout
        self.q_proj = nn.Linear(c.width, c.width)
        self.k_proj = nn.Linear(c.width, c.width)
        self.v_proj = nn.Linear(c.width, c.width)
        self.force_proj1 = nn.Linear(c.width, 1)
        self.force_proj2 = nn.Linear(c.width, 1)
        self.force_proj3 = nn.Linear(c.width, 1)

    def forward(self, atoms: Tensor, bias: Tensor, unit_displacement: Tensor) -> Tensor:
        """[B, N, 3] from atoms [B, N, D], bias [B, H, N, N] and unit displacements [B, N, N, 3]."""
        q, k, v = (split_heads(p(atoms), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        p = F.dropout(attention_probabilities(q, k, bias), self.dropout, self.training)
        axes = unit_displacement.to(p.dtype).permute(0, 3, 1, 2)[:, None]  # [B, 1, 3, N, N]
        values = (p[:, :, None] * axes) @ v[:, :, None]  # [B, H, 3, N, d]
        values = values.permute(2, 0, 3, 1, 4).flatten(3)  # [3, B, N, D]
        maps = (self.force_proj1, self.force_proj2, self.force_proj3)
        return torch.cat([project(values[axis]) for axis, project in enumerate(maps)], dim=-1)


class RowColumnMaps(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.column_head = nn.Linear(c.width, PAIR_WIDTH)
        self.column_LayerNorm = LayerNorm(PAIR_WIDTH, eps=1e-12)
        self.row_head = nn.Linear(c.width, PAIR_WIDTH)
        self.row_LayerNorm = LayerNorm(PAIR_WIDTH, eps=1e-12)

    def forward(self, atoms: Tensor) -> "tuple[Tensor, Tensor]":
        """Row and column features [B, N, 32] each."""
        row = self.row_LayerNorm(F.gelu(self.row_head(atoms)))
        return row, self.column_LayerNorm(F.gelu(self.column_head(atoms)))


class PairHead(nn.Module):
    """Predicts something of every ordered pair from the outer product of a row's and a column's features."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.bilinear, self.outer = c.bilinear, c.outer
        self.transform_n2_head = RowColumnMaps(c)

    def pairs(self, atoms: Tensor) -> Tensor:
        """[B, N, N, 1024]: r_i (x) c_j."""
        row, column = self.transform_n2_head(atoms)
        dtype = autocast_dtype(atoms.device) or row.dtype
        row, column = row.to(dtype)[:, :, None, :, None], column.to(dtype)[:, None, :, None, :]
        return (row @ column if self.outer == "matmul" else row * column).flatten(3)

    def bilinear_form(self, atoms: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """[B, N, N, C]: r_i^T M_k c_j + bias_k, the same function as a linear map [C, 1024] of the outer product."""
        row, column = self.transform_n2_head(atoms)
        matrices = weight.view(-1, PAIR_WIDTH, PAIR_WIDTH)
        left = torch.einsum("bia,kac->bikc", row, matrices).flatten(1, 2)  # [B, N * C, 32]
        out = left @ column.transpose(1, 2)  # [B, N * C, N]
        return out.unflatten(1, (-1, len(matrices))).transpose(2, 3) + bias


class SpdHead(PairHead):
    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.linear = nn.Linear(PAIR_WIDTH**2, SPD_CLASSES)

    def forward(self, atoms: Tensor) -> Tensor:
        if self.bilinear:
            return self.bilinear_form(atoms, self.linear.weight, self.linear.bias)
        return self.linear(self.pairs(atoms))


class EdgeHead(PairHead):
    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.linear_map_feature = nn.Linear(PAIR_WIDTH**2, HOPS * EDGE_CLASSES)

    def forward(self, atoms: Tensor) -> Tensor:
        if self.bilinear:
            logits = self.bilinear_form(atoms, self.linear_map_feature.weight, self.linear_map_feature.bias)
        else:
            logits = self.linear_map_feature(self.pairs(atoms))
        return logits.unflatten(-1, (HOPS, EDGE_CLASSES))


class DistanceHead(PairHead):
    """Two maps with nothing between them, to a displacement or to a distance."""

    def __init__(self, c: Config) -> None:
        super().__init__(c)
        self.linear = nn.Linear(PAIR_WIDTH**2, c.distance_hidden)
        self.names = ["force_proj1", "force_proj2", "force_proj3"] if c.target == "displacement" else ["distance_proj"]
        for name in self.names:
            self.add_module(name, nn.Linear(c.distance_hidden, 1))

    def forward(self, atoms: Tensor) -> Tensor:
        maps = [getattr(self, name) for name in self.names]
        if not self.bilinear:
            hidden = self.linear(self.pairs(atoms))
            return torch.cat([project(hidden) for project in maps], dim=-1)
        outer = torch.cat([project.weight for project in maps])
        bias = torch.cat([project.bias for project in maps])
        return self.bilinear_form(atoms, outer @ self.linear.weight, outer @ self.linear.bias + bias)


class MoleculeEncoder(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.atom_feature = AtomFeature(c)
        self.molecule_attn_bias = MoleculeAttnBias(c)
        self.molecule_3d_bias = Molecule3DBias(c) if c.with_distance else None
        self.emb_layer_norm = LayerNorm(c.width)
        self.layers = nn.ModuleList([EncoderLayer(c, l) for l in range(c.layers)])
        if c.tasks == 0:
            self.atom_proc = AtomProc(c)
            self.blend_spd_pred_head = SpdHead(c)
            self.blend_edge_pred_head = EdgeHead(c)
            self.blend_3d_pred_head = DistanceHead(c)

    def forward(self, batch: Batch, visible: Visible, positions: Optional[Tensor]) -> Encoded:
        """`positions` [B, N, 3]: the noised ones in pretraining; None: nothing of 3D is shown."""
        relations = self.molecule_attn_bias
        pairs = visible.pair[..., 0:1] * relations.spd(batch) + visible.pair[..., 1:2] * relations.edge(batch)
        gaussian_term = unit_displacement = None
        if positions is not None and self.molecule_3d_bias is not None:
            displacement = positions[:, None, :, :] - positions[:, :, None, :]
            distance = displacement.norm(dim=-1)
            unit_displacement = displacement / (distance + 1e-5)[..., None]
            encoding, gaussian_term = self.molecule_3d_bias(batch, distance)
            pairs = pairs + visible.pair[..., 2:3] * encoding

        bias = F.pad(pairs.permute(0, 3, 1, 2), (1, 0, 1, 0))  # [B, H, T, T]
        token = relations.graph_token_virtual_distance.weight.view(1, -1, 1, 1)
        with_token = torch.zeros(bias.shape[-2:], dtype=torch.bool, device=bias.device)
        with_token[0, :] = with_token[:, 0] = True
        bias = bias + token * with_token
        padded_keys = F.pad(~batch.real, (1, 0))[:, None, None, :]
        bias = bias.masked_fill(padded_keys, float("-inf"))

        x = self.emb_layer_norm(self.atom_feature(batch, visible, gaussian_term))
        reduced = autocast_dtype(bias.device)
        if reduced is not None:
            bias = bias.to(reduced)  # once for all layers, instead of in each
        for layer in self.layers:
            x = layer(x, bias)
        return Encoded(x, bias, unit_displacement)

    def predictions(self, encoded: Encoded) -> Predictions:
        atoms = encoded.x[:, 1:]  # without the graph token
        if encoded.unit_displacement is None:
            raise ValueError("pretraining needs positions (zeros for molecules that have none)")
        return Predictions(
            self.blend_spd_pred_head(atoms),
            self.blend_edge_pred_head(atoms),
            self.blend_3d_pred_head(atoms),
            self.atom_proc(atoms, encoded.bias[:, :, 1:, 1:], encoded.unit_displacement),
        )


class PropertyHead(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.dense = nn.Linear(c.width, c.width)
        self.out_proj = nn.Linear(c.width, c.tasks)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(F.gelu(self.dense(x)))


class Core(nn.Module):
    def __init__(self, c: Config) -> None:
        super().__init__()
        self.molecule_encoder = MoleculeEncoder(c)
        if c.language_head:  # parameters that the reference has and that no loss reaches
            self.lm_head_transform_weight = nn.Linear(c.width, c.width)
            self.layer_norm = LayerNorm(c.width)
            if c.tasks == 0:
                self.lm_output_learned_bias = nn.Parameter(torch.zeros(1))
                self.embed_out = nn.Linear(c.width, 1, bias=False)
        if c.tasks > 0:
            self.proj_out = PropertyHead(c)


class MoleBlend(nn.Module):
    """The whole network: `forward` for pretraining, `property_logits` for a fine-tuned one."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = Core(config)

    def forward(self, batch: Batch, visible: Visible, noised: Tensor) -> Predictions:
        """`noised` [B, N, 3]: positions with noise."""
        encoder = self.encoder.molecule_encoder
        return encoder.predictions(encoder(batch, visible, noised))

    def token_logits(self, batch: Batch, visible: Visible) -> Tensor:
        """[B, T, tasks]"""
        encoded = self.encoder.molecule_encoder(batch, visible, batch.positions if self.config.with_distance else None)
        return self.encoder.proj_out(encoded.x)

    @torch.no_grad()
    def initialise(self, generator: Optional[torch.Generator] = None) -> None:
        """Weights and embeddings ~ N(0, 0.02), padding rows and biases 0; means and stds of the Gaussians U(0, 3), mul 1."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                module.weight.normal_(0, 0.02, generator=generator)
                if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                    module.weight[module.padding_idx] = 0
                if isinstance(module, nn.Linear) and module.bias is not None:
                    module.bias.zero_()
        if self.encoder.molecule_encoder.molecule_3d_bias is not None:
            gaussians = self.encoder.molecule_encoder.molecule_3d_bias.gbf
            gaussians.means.weight.uniform_(0, 3, generator=generator)
            gaussians.stds.weight.uniform_(0, 3, generator=generator)
            gaussians.mul.weight[1:] = 1
            gaussians.bias.weight.zero_()


def config_of(state: Mapping[str, Tensor]) -> Config:
    """Sizes of the network from the shapes of its parameters. Raises ValueError if these are no MoleBLEND's."""
    encoder = "encoder.molecule_encoder."

    def shape(name: str) -> torch.Size:
        if name not in state:
            raise ValueError(f"these are no parameters of a MoleBLEND: there is no '{name}'")
        return state[name].shape

    layers = 0
    while f"{encoder}layers.{layers}.fc1.weight" in state:
        layers += 1
    ffn, width = shape(f"{encoder}layers.0.fc1.weight")
    with_distance = f"{encoder}molecule_3d_bias.gbf.means.weight" in state
    tasks = shape("encoder.proj_out.out_proj.weight")[0] if "encoder.proj_out.out_proj.weight" in state else 0
    head = f"{encoder}blend_3d_pred_head."
    return Config(
        layers=layers,
        width=width,
        heads=shape(f"{encoder}molecule_attn_bias.spatial_pos_encoder.weight")[1],
        ffn=ffn,
        kernels=shape(f"{encoder}molecule_3d_bias.gbf.means.weight")[1] if with_distance else 1,
        distance_hidden=shape(f"{head}linear.weight")[0] if tasks == 0 else 1,
        target="displacement" if f"{head}force_proj1.weight" in state else "distance",
        tasks=tasks,
        with_distance=with_distance,
        language_head="encoder.layer_norm.weight" in state,
    )

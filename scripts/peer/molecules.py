"""Molecules, their relations, and padded batches of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import List, Optional, Sequence

import torch
from torch import Tensor

from .tensors import read_safetensors

UNREACHABLE = 510  # the reference's distance between fragments
HOPS = 5  # of a shortest path that count
ATOM_FEATURES = 9
ROWS = 512  # table rows that one atom or bond feature owns
BOND_CODES = 5 * 6 * 2  # type, stereo, conjugated


@dataclass
class Relations:
    """What follows from a molecule's bonds; computed once a molecule."""

    degree: Tensor  # [n] distinct neighbours
    spd: Tensor  # [n, n] shortest path distance in hops, UNREACHABLE between fragments
    path: Tensor  # [n, n, HOPS] bond code + 1 of each hop from i to j, 0 = no such hop


@dataclass
class Molecule:
    """One molecule as the OGB features and one conformer give it."""

    atoms: Tensor  # [n, 9] category indices from 0
    bonds: Tensor  # [e, 2] undirected, each once
    bond_features: Tensor  # [e, 3] category indices from 0: type, stereo, conjugated
    positions: Optional[Tensor]  # [n, 3], or None
    position_known: Optional[Tensor] = None  # [n] bool; None: all are, where there are positions
    _relations: Optional[Relations] = dataclasses.field(default=None, repr=False)

    @property
    def relations(self) -> Relations:
        if self._relations is None:
            self._relations = relations_of(len(self.atoms), self.bonds, self.bond_features)
        return self._relations


def relations_of(n: int, bonds: Tensor, bond_features: Tensor) -> Relations:
    """Shortest paths and the bonds along one of them.

    Floyd-Warshall with the pivot ascending; a path is replaced only on strict improvement and is expanded through the
    stored pivot: this decides between paths of equal length, and the reference decides so.
    """
    distance = torch.full((n, n), UNREACHABLE)
    distance.fill_diagonal_(0)
    direct = torch.zeros((n, n), dtype=torch.long)
    if len(bonds):
        i, j = bonds.unbind(1)
        code = (bond_features * torch.tensor([12, 2, 1])).sum(1) + 1
        distance[i, j] = distance[j, i] = 1
        direct[i, j] = direct[j, i] = code
    adjacent = distance == 1

    pivot = torch.zeros((n, n), dtype=torch.long)
    for k in range(n):
        through = distance[:, k : k + 1] + distance[k]
        shorter = through < distance
        distance = torch.where(shorter, through, distance)
        pivot[shorter] = k

    # A path is the one to the pivot and the one from it, both of which are shorter: so by ascending distance. Only the
    # first hops are kept, so hop h of the whole is hop h of the first part or hop h - (its length) of the second.
    path = torch.zeros((n, n, HOPS), dtype=torch.long)
    path[..., 0] = direct
    hops = torch.arange(HOPS)
    for s in range(2, int(distance[distance < UNREACHABLE].max()) + 1):
        begin, end = (distance == s).nonzero(as_tuple=True)
        middle = pivot[begin, end]
        first = distance[begin, middle][:, None]
        second_part = path[middle, end].gather(1, (hops - first).clamp(min=0))
        path[begin, end] = torch.where(hops < first, path[begin, middle], second_part)
    return Relations(adjacent.sum(1), distance, path)


@dataclass
class Batch:
    """Molecules padded to one size. Indices are rows of embedding tables, 0 where there is nothing."""

    atoms: Tensor  # [B, N, 9] rows of the atom table
    degree: Tensor  # [B, N] rows of the degree tables
    spd: Tensor  # [B, N, N] row of the SPD table: distance + 1
    path: Tensor  # [B, N, N, HOPS] bond code + 1 of each hop
    positions: Tensor  # [B, N, 3], zero where there are none
    has_positions: Tensor  # [B] bool
    position_known: Tensor  # [B, N] bool
    real: Tensor  # [B, N] bool: an atom, not padding

    @property
    def molecules(self) -> int:
        return self.real.shape[0]

    @property
    def padded_atoms(self) -> int:
        return self.real.shape[1]

    @property
    def real_pairs(self) -> Tensor:
        """[B, N, N] bool."""
        return self.real[:, :, None] & self.real[:, None, :]

    def map(self, function) -> "Batch":
        """The same batch with every tensor passed through `function`."""
        return Batch(**{f.name: function(getattr(self, f.name)) for f in dataclasses.fields(self)})

    def to(self, device: torch.device, positions: Optional[torch.dtype] = None) -> "Batch":
        batch = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        return batch if positions is None else dataclasses.replace(batch, positions=batch.positions.to(positions))


def collate(molecules: Sequence[Molecule], multiple: int = 1) -> Batch:
    """Pads to the largest molecule, and on until the number of tokens N + 1 is a multiple of `multiple`."""
    if not molecules or min(len(m.atoms) for m in molecules) == 0:
        raise ValueError("a batch needs molecules, and each of them atoms")
    largest = max(len(m.atoms) for m in molecules)
    N = -(-(largest + 1) // multiple) * multiple - 1
    B = len(molecules)
    batch = Batch(
        atoms=torch.zeros((B, N, ATOM_FEATURES), dtype=torch.long),
        degree=torch.zeros((B, N), dtype=torch.long),
        spd=torch.zeros((B, N, N), dtype=torch.long),
        path=torch.zeros((B, N, N, HOPS), dtype=torch.long),
        positions=torch.zeros((B, N, 3)),
        has_positions=torch.zeros(B, dtype=torch.bool),
        position_known=torch.zeros((B, N), dtype=torch.bool),
        real=torch.zeros((B, N), dtype=torch.bool),
    )
    first_row = ROWS * torch.arange(ATOM_FEATURES) + 2
    for b, molecule in enumerate(molecules):
        n = len(molecule.atoms)
        relations = molecule.relations
        batch.atoms[b, :n] = molecule.atoms + first_row
        batch.degree[b, :n] = relations.degree + 1
        batch.spd[b, :n, :n] = relations.spd + 1
        batch.path[b, :n, :n] = relations.path
        batch.real[b, :n] = True
        if molecule.positions is not None:
            batch.positions[b, :n] = molecule.positions
            batch.has_positions[b] = True
            batch.position_known[b, :n] = True if molecule.position_known is None else molecule.position_known
    return batch


def read_molecules(path: str) -> List[Molecule]:
    """Molecules of a file with raw.atom_ptr, raw.edge_ptr, raw.atom_feat, raw.edge_index, raw.bond_feat and, where there
    are positions, raw.pos: the form of the golden files (each bond there in both directions, one after the other).
    Raises ValueError if one is missing."""
    tensors, _ = read_safetensors(path)
    return molecules_of(tensors, path)


def molecules_of(tensors: dict, path: str) -> List[Molecule]:
    """The same from tensors that were read already; an atom exactly at the origin counts as one without a position, as
    in the reference."""
    needed = ["raw.atom_ptr", "raw.edge_ptr", "raw.atom_feat", "raw.edge_index", "raw.bond_feat"]
    missing = [name for name in needed if name not in tensors]
    if missing:
        raise ValueError(f"{path} holds no molecules: it has no {', '.join(missing)}; give a file with raw.* tensors")
    atom_ptr, edge_ptr, atoms, edges, features = (tensors[name].long() for name in needed)
    positions = tensors.get("raw.pos")
    molecules = []
    for b in range(len(atom_ptr) - 1):
        of_atoms = slice(int(atom_ptr[b]), int(atom_ptr[b + 1]))
        of_bonds = slice(int(edge_ptr[b]), int(edge_ptr[b + 1]), 2)
        own = None if positions is None else positions[of_atoms].float()
        known = None if own is None else (own != 0).any(1)
        molecules.append(Molecule(atoms[of_atoms], edges[:, of_bonds].t(), features[of_bonds], own, known))
    return molecules


def random_molecule(n: int, generator: torch.Generator) -> Molecule:
    """A drug-like graph of n heavy atoms: a chain-like tree with one ring of five to seven atoms for every eight atoms, no
    atom with more than four neighbours; elements in about the shares of drugs; a conformer grown bond by bond (1.5
    angstrom)."""

    def below(limit: int) -> int:
        return int(torch.randint(limit, (), generator=generator))

    neighbours: List[List[int]] = [[] for _ in range(n)]
    bonds: List[List[int]] = []
    positions = torch.zeros((n, 3))

    def join(i: int, j: int) -> None:
        bonds.append([i, j])
        neighbours[i].append(j)
        neighbours[j].append(i)

    for i in range(1, n):
        # Mostly the atom before, else one of the last few that has room: chains with short branches.
        room = [j for j in range(max(0, i - 5), i) if len(neighbours[j]) < 3] or [i - 1]
        j = i - 1 if below(10) < 7 and len(neighbours[i - 1]) < 3 else room[below(len(room))]
        join(i, j)
        step = torch.randn(3, generator=generator)
        positions[i] = positions[j] + 1.5 * step / step.norm().clamp(min=1e-6)

    if n >= 6:
        for _ in range(max(1, n // 8)):
            i, size = below(n), 5 + below(3)
            previous, ends = {i: i}, [i]
            for _ in range(size - 1):
                following = []
                for a in ends:
                    for b in neighbours[a]:
                        if b not in previous:
                            previous[b] = a
                            following.append(b)
                ends = following
            ends = [j for j in ends if len(neighbours[j]) < 4]
            if ends and len(neighbours[i]) < 4:
                join(i, ends[below(len(ends))])

    elements = torch.tensor(
        [5] * 74 + [6] * 11 + [7] * 11 + [8, 8, 15, 15]
    )  # C, N, O, F, S or the like; index of Z from 0
    element = elements[torch.randint(len(elements), (n,), generator=generator)]
    degree = torch.tensor([len(v) for v in neighbours])
    aromatic = torch.randint(2, (n,), generator=generator)
    zero, neutral = torch.zeros(n, dtype=torch.long), torch.full((n,), 5)
    atoms = torch.stack(
        [element, zero, degree, neutral, (3 - degree).clamp(min=0), zero, 1 + zero, aromatic, (degree > 2).long()],
        dim=1,
    )
    bond_table = torch.tensor(bonds, dtype=torch.long).reshape(-1, 2)
    kinds = torch.tensor([0, 0, 0, 1, 3, 3])[torch.randint(6, (len(bonds),), generator=generator)]
    features = torch.stack([kinds, torch.zeros_like(kinds), (kinds == 3).long()], dim=1)
    return Molecule(atoms, bond_table, features, positions)


def random_molecules(count: int, mean: float, deviation: float, seed: int) -> List[Molecule]:
    """Sizes from a normal distribution, rounded and kept between 2 and 3 * mean."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (mean + deviation * torch.randn(count, generator=generator)).round().clamp(2, max(2.0, 3 * mean)).long()
    return [random_molecule(int(n), generator) for n in sizes]

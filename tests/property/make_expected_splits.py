#!/usr/bin/env python3
"""Writes the expected values of test_splits.cpp: the field's two scaffold rules on RDKit's scaffolds of examples/molecules.smi.

A row a split: the rule, its fractions, its seed, and a letter for each molecule: t (training), v (validation), e (test).
"""

import pathlib

from rdkit import Chem, rdBase
from rdkit.Chem.Scaffolds import MurckoScaffold

HERE = pathlib.Path(__file__).parent
MASK = 2**64 - 1


def finalised(z):
    """SplitMix64's finaliser."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def key(seed, epoch, what):
    """molecule_key() of kernels/random/philox.h."""
    state = 0
    for word in (seed, epoch, what):
        state = finalised((state ^ word) + 0x9E3779B97F4A7C15 & MASK)
    return state


def permuted(items, seed, what):
    """In the order of Permutation of io/loader/permutation.h."""
    size = len(items)
    bits = max(1, (size - 1).bit_length()) if size > 1 else 1
    right_bits, left_mask = (bits + 1) // 2, (1 << bits // 2) - 1
    right_mask = (1 << right_bits) - 1
    start = finalised(key(seed, int.from_bytes(b"parts", "big"), what))
    out = []
    for position in range(size):
        while True:
            left, right = position >> right_bits, position & right_mask
            for number in range(6):
                word = finalised((start + number * 0x9E3779B97F4A7C15 & MASK) ^ (left if number % 2 else right))
                if number % 2:
                    right ^= word & right_mask
                else:
                    left ^= word & left_mask
            position = left << right_bits | right
            if position < size:
                break
        out.append(items[position])
    return out


def balanced(groups, size, fractions, seed):
    train_size, valid_size, test_size = (fraction * size for fraction in fractions)
    large = [g for g in groups if len(g) > valid_size / 2 or len(g) > test_size / 2]
    small = [g for g in groups if not (len(g) > valid_size / 2 or len(g) > test_size / 2)]
    train, valid, test = [], [], []
    for group in permuted(large, seed, 1) + permuted(small, seed, 2):
        if len(train) + len(group) <= train_size:
            train += group
        elif len(valid) + len(group) <= valid_size:
            valid += group
        else:
            test += group
    return train, valid, test


def largest_first(groups, size, fractions):
    train, valid, test = [], [], []
    train_cutoff, valid_cutoff = fractions[0] * size, (fractions[0] + fractions[1]) * size
    for group in sorted(groups, key=lambda g: (len(g), g[0]), reverse=True):
        if len(train) + len(group) > train_cutoff:
            if len(train) + len(valid) + len(group) > valid_cutoff:
                test += group
            else:
                valid += group
        else:
            train += group
    return train, valid, test


def main():
    by_scaffold = {}
    for number, line in enumerate(open(HERE / "../../examples/molecules.smi")):
        scaffold = MurckoScaffold.MurckoScaffoldSmiles(mol=Chem.MolFromSmiles(line.split()[0]))
        by_scaffold.setdefault(scaffold, []).append(number)
    groups, size = list(by_scaffold.values()), number + 1
    with open(HERE / "data/example_splits.tsv", "w") as out:
        out.write(f"# made by make_expected_splits.py with RDKit {rdBase.rdkitVersion}\n")
        for fractions in ((0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.3, 0.3, 0.4)):
            splits = [("largest first", 0, largest_first(groups, size, fractions))]
            splits += [("balanced", seed, balanced(groups, size, fractions, seed)) for seed in (0, 1, 12345)]
            for rule, seed, parts in splits:
                letters = [""] * size
                for part, letter in zip(parts, "tve"):
                    for molecule in part:
                        letters[molecule] = letter
                out.write("\t".join([rule, *map(str, fractions), str(seed), "".join(letters)]) + "\n")


main()

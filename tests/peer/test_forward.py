"""The peer's forward pass over a data set: shards as docs/file_formats.md lays them out, and rows held against a matrix."""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from peer.dataset import read_dataset  # noqa: E402
from peer.model import CONFIGS, MoleBlend  # noqa: E402
from peer.molecules import collate, random_molecules  # noqa: E402
from peer.objective import everything  # noqa: E402
from peer.tensors import write_safetensors  # noqa: E402

PROGRAM = os.path.join(ROOT, "scripts", "peer_torch.py")


def record_of(molecule):
    n, code = len(molecule.atoms), "B" if len(molecule.atoms) <= 256 else "H"
    atoms = bytes(molecule.atoms.flatten().tolist())
    bonds = b""
    for (i, j), (kind, stereo, conjugated) in zip(molecule.bonds.tolist(), molecule.bond_features.tolist()):
        bonds += struct.pack(f"<2{code}B", i, j, 1 + (kind * 6 + stereo) * 2 + conjugated)
    positions = struct.pack(f"<{3 * n}f", *molecule.positions.flatten().tolist())
    text = b"name" + b"CCO"
    rest = struct.pack("<7IQ", n, len(molecule.bonds), 1, 4, 3, 0, 1, 0) + atoms + bonds + positions
    rest += struct.pack("<d", 1.5) + text
    return struct.pack("<I", zlib.crc32(rest)) + rest


def shard_of(molecules):
    records = [record_of(m) for m in molecules]
    offsets = [sum(map(len, records[:k])) for k in range(len(records) + 1)]
    tables = struct.pack(f"<{len(offsets)}Q", *offsets)
    tables += struct.pack(f"<{len(records)}I", *(len(m.atoms) for m in molecules))
    tables += struct.pack("<I", zlib.crc32(tables))
    size = 88 + len(tables) + offsets[-1] + 32
    header = b"molbshrd" + struct.pack("<2I8QI", 1, 1, 0, len(molecules), 0, 0, 0, len(molecules), offsets[-1], size, 0)
    return header + struct.pack("<I", zlib.crc32(header)) + tables + b"".join(records) + bytes(32)


def npy_of(rows):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": tuple(rows.shape)}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    values = rows.flatten().tolist()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + struct.pack(f"<{len(values)}f", *values)


class Forward(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = lambda name: os.path.join(folder.name, name)
        # The last molecule has more atoms than a byte can number.
        self.molecules = random_molecules(11, 9, 4, 1) + random_molecules(1, 300, 0, 2)
        os.makedirs(self.path("data"))
        shards = {"a.mbs": self.molecules[:5], "b.mbs": self.molecules[5:]}
        for name, part in shards.items():
            self.write(f"data/{name}", shard_of(part))
        about = {"molecules": 12, "schema": 1, "shards": [{"name": name} for name in shards]}
        self.write("data/dataset.json", json.dumps(about).encode())

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def test_a_data_set_is_read(self):
        molecules, places = read_dataset(self.path("data"))
        self.assertEqual(places, list(range(12)))
        for ours, molecule in zip(molecules, self.molecules):
            for name in ("atoms", "bonds", "bond_features", "positions"):
                self.assertTrue(torch.equal(getattr(ours, name), getattr(molecule, name)), name)
        some, places = read_dataset(self.path("data"), 4)
        self.assertEqual(places, [0, 3, 6, 9])
        for k, place in enumerate(places):
            self.assertTrue(torch.equal(some[k].atoms, self.molecules[place].atoms))

    def test_damage_is_refused(self):
        whole = shard_of(self.molecules[:5])
        for damaged in (whole[:-1], b"x" + whole[1:], whole[:200] + bytes([whole[200] ^ 1]) + whole[201:], whole[:50]):
            self.write("data/a.mbs", damaged)
            with self.assertRaisesRegex(ValueError, "a.mbs"):
                read_dataset(self.path("data"))

    def test_rows_are_held_against_a_matrix(self):
        torch.manual_seed(3)
        model = MoleBlend(CONFIGS["tiny"]).eval()
        model.initialise()
        write_safetensors(self.path("model.safetensors"), model.state_dict())
        rows = []
        with torch.no_grad():
            for molecule in self.molecules:  # one by one: no padding
                batch = collate([molecule])
                rows.append(model.encoder.molecule_encoder(batch, everything(batch, True, False), None).x[0, 0])
        rows = torch.stack(rows)

        def run(expected, *more):
            self.write("rows.npy", npy_of(expected))
            command = [sys.executable, PROGRAM, "forward", self.path("model.safetensors"), "--data", self.path("data")]
            command += ["--against", self.path("rows.npy"), "--batch-size", "3", *more]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertIn(result.returncode, (0, 1), result.stderr)
            row = json.loads(result.stdout)
            self.assertEqual(row["check"]["passed"], result.returncode == 0)
            self.assertGreater(row["molecules_per_s"], 0)
            return row["check"]["passed"]

        self.assertTrue(run(rows))
        self.assertTrue(run(rows, "--bucket", "--molecules", "5"))
        self.assertFalse(run(rows.roll(1, 0)), "rows of other molecules")
        self.assertFalse(run(torch.where(torch.arange(12)[:, None] == 7, torch.tensor(float("nan")), rows)), "NaN")


if __name__ == "__main__":
    unittest.main()

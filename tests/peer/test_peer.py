"""Parts of the PyTorch peer that the golden data don't reach: random draws, dropouts, the distance target, molecules without
positions, relations of odd graphs, checkpoints, the command line; and that the golden check can fail."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import unittest

import torch

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from peer import golden, objective  # noqa: E402
from peer.checkpoint import convert, model_from, read_checkpoint  # noqa: E402
from peer.model import CONFIGS, EncoderLayer, MoleBlend  # noqa: E402
from peer.molecules import HOPS, UNREACHABLE, collate, random_molecules, relations_of  # noqa: E402
from peer.tensors import read_safetensors, write_safetensors  # noqa: E402

GOLDEN = os.path.join(ROOT, "tests", "golden", "data")
PROGRAM = os.path.join(ROOT, "scripts", "peer_torch.py")


def paths_by_definition(n, bonds):
    """Floyd-Warshall pair by pair, and paths expanded recursively through the stored pivot."""
    distance = [[0 if i == j else UNREACHABLE for j in range(n)] for i in range(n)]
    for i, j in bonds:
        distance[i][j] = distance[j][i] = 1
    pivot = {}
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if distance[i][k] + distance[k][j] < distance[i][j]:
                    distance[i][j] = distance[i][k] + distance[k][j]
                    pivot[i, j] = k

    def inner(i, j):
        return inner(i, pivot[i, j]) + [pivot[i, j]] + inner(pivot[i, j], j) if (i, j) in pivot else []

    reachable = [(i, j) for i in range(n) for j in range(n) if 0 < distance[i][j] < UNREACHABLE]
    return distance, {(i, j): [i] + inner(i, j) + [j] for i, j in reachable}


class Relations(unittest.TestCase):
    def check(self, n, bonds):
        generator = torch.Generator().manual_seed(n)
        features = torch.stack([torch.randint(top, (len(bonds),), generator=generator) for top in (5, 6, 2)], dim=1)
        table = torch.tensor(bonds, dtype=torch.long).reshape(-1, 2)
        ours = relations_of(n, table, features)
        distance, paths = paths_by_definition(n, bonds)
        self.assertEqual(ours.spd.tolist(), distance)
        code = {}
        for (i, j), (kind, stereo, conjugated) in zip(bonds, features.tolist()):
            code[i, j] = code[j, i] = (kind * 6 + stereo) * 2 + conjugated + 1
        for i in range(n):
            for j in range(n):
                path = paths.get((i, j), [])
                expected = [code[hop] for hop in zip(path, path[1:])][:HOPS]
                self.assertEqual(ours.path[i, j].tolist(), expected + [0] * (HOPS - len(expected)), f"{i} to {j}")

    def test_where_many_paths_are_shortest(self):
        w = 5  # a grid
        grid = [(a, a + 1) for a in range(w * w) if a % w < w - 1] + [(a, a + w) for a in range(w * (w - 1))]
        shuffled = torch.randperm(w * w, generator=torch.Generator().manual_seed(3)).tolist()
        self.check(w * w, grid)
        self.check(w * w, [(shuffled[i], shuffled[j]) for i, j in grid])

    def test_fragments_single_atoms_and_long_chains(self):
        self.check(1, [])
        self.check(2, [])
        self.check(7, [(0, 1), (1, 2), (2, 0), (4, 5)])
        self.check(40, [(i, i + 1) for i in range(39)])

    def test_random_drug_like(self):
        for molecule in random_molecules(5, 22, 6, seed=2):
            self.check(len(molecule.atoms), [tuple(bond) for bond in molecule.bonds.tolist()])

    def test_random_molecules_are_molecules(self):
        molecules = random_molecules(300, 15, 2, seed=4)
        self.assertLess(abs(sum(len(m.atoms) for m in molecules) / 300 - 15), 0.6)  # five standard errors
        for m in molecules:
            self.assertLess(int(m.relations.spd.max()), UNREACHABLE, "in one piece")
            self.assertLessEqual(int(m.relations.degree.max()), 4)
            pairs = {tuple(sorted(bond)) for bond in m.bonds.tolist()}
            self.assertEqual(len(pairs), len(m.bonds), "no bond twice")


class Draws(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(5)
        self.molecules = random_molecules(40, 14, 3, seed=6)
        self.molecules[3].positions = None
        self.batch = collate(self.molecules, 8)

    def test_shares_of_modalities(self):
        draws = objective.draw(self.batch, objective.Objective())
        pairs = self.batch.real_pairs & self.batch.has_positions[:, None, None]
        atoms = self.batch.real & self.batch.has_positions[:, None]
        for drawn, expected in (
            (draws.visible.pair[pairs], (0.2, 0.2, 0.6)),
            (draws.visible.atom[atoms], (0.4, 0.6)),
        ):
            self.assertTrue(bool((drawn.sum(1) == 1).all()), "one modality each")
            for share, p in zip(drawn.mean(0).tolist(), expected):
                self.assertLess(abs(share - p), 5 * (p * (1 - p) / len(drawn)) ** 0.5)
        # A molecule's own draw: two molecules don't share a pattern.
        self.assertFalse(torch.equal(draws.visible.pair[0, :8, :8], draws.visible.pair[1, :8, :8]))

    def test_molecules_without_positions(self):
        draws = objective.draw(self.batch, objective.Objective())
        self.assertTrue(bool((draws.visible.pair[3] == torch.tensor([1.0, 1.0, 0.0])).all()))
        self.assertTrue(bool((draws.visible.atom[3] == torch.tensor([1.0, 0.0])).all()))
        self.assertEqual(float(draws.noise[3].abs().max()), 0)
        torch.manual_seed(7)
        model = MoleBlend(CONFIGS["tiny"]).train()
        model.initialise()
        predictions = model(self.batch, draws.visible, self.batch.positions + draws.noise)
        objective.pretraining_losses(predictions, self.batch, draws, objective.Objective())["total"].backward()
        for name, parameter in model.named_parameters():
            self.assertIsNotNone(parameter.grad, name)
            self.assertTrue(bool(parameter.grad.isfinite().all()), name)
        # It takes no part in the 3D loss, whatever is predicted for it.
        prediction = torch.randn_like(predictions.distance)
        before = objective.distance_loss(prediction, self.batch)
        prediction[3] += 100
        self.assertEqual(float(before), float(objective.distance_loss(prediction, self.batch)))


class Distance(unittest.TestCase):
    def test_loss_of_distances_by_definition(self):
        molecules = random_molecules(5, 7, 2, seed=8)
        molecules[1].positions = None
        molecules[2].position_known = torch.arange(len(molecules[2].atoms)) != 1
        molecules[4].positions[1] = molecules[4].positions[0]
        batch = collate(molecules, 8)
        prediction = 4 * torch.rand(*batch.spd.shape, 1, generator=torch.Generator().manual_seed(9))
        of_molecule = []
        for b, m in enumerate(molecules):
            if m.positions is None:
                continue
            losses = []
            for i in range(len(m.atoms)):
                for j in range(len(m.atoms)):
                    known = m.position_known is None or bool(m.position_known[i] & m.position_known[j])
                    r = float((m.positions[j].double() - m.positions[i].double()).norm())
                    if i != j and known and r > 0:
                        d = abs(float(prediction[b, i, j, 0]) - r)
                        losses.append(0.5 * d * d if d < 1 else d - 0.5)
            of_molecule.append(sum(losses) / len(losses))
        expected = sum(of_molecule) / len(of_molecule)
        self.assertLess(abs(float(objective.distance_loss(prediction, batch)) - expected), 1e-5 * expected)


class Dropouts(unittest.TestCase):
    def test_drop_path_takes_whole_molecules(self):
        torch.manual_seed(10)
        config = dataclasses.replace(CONFIGS["small"], drop_path=0.5)
        rates = [EncoderLayer(config, l).drop_path for l in range(config.layers)]
        self.assertEqual(rates, [0.5 * l / 5 for l in range(6)])
        layer = EncoderLayer(config, 5).train()
        dropped = layer._drop(torch.ones(2000, 3, 4))
        values = dropped[:, 0, 0]
        self.assertTrue(bool((dropped == values[:, None, None]).all()))
        self.assertEqual(sorted(set(values.tolist())), [0.0, 2.0])
        self.assertLess(abs(float((values > 0).float().mean()) - 0.5), 5 * 0.5 / 2000**0.5)
        layer.eval()
        self.assertTrue(bool((layer._drop(torch.ones(5, 3, 4)) == 1).all()))

    def test_each_dropout_acts_in_training_only(self):
        batch = collate(random_molecules(6, 9, 2, seed=11), 4)
        draws = objective.draw(batch, objective.Objective())
        quiet = CONFIGS["tiny"].without_dropout()
        for name in ("attention_dropout", "activation_dropout", "drop_path", "denoise_dropout"):
            torch.manual_seed(12)
            model = MoleBlend(dataclasses.replace(quiet, **{name: 0.5}))
            model.initialise()
            noise = lambda: model(batch, draws.visible, batch.positions + draws.noise).noise
            model.eval()
            self.assertTrue(torch.equal(noise(), noise()), name)
            model.train()
            self.assertFalse(torch.equal(noise(), noise()), name)


class Golden(unittest.TestCase):
    def test_a_wrong_network_fails(self):
        path = os.path.join(GOLDEN, "tiny.safetensors")
        case = golden.Case(path)
        right = case.parameter

        def wrong(name, shape):
            values = right(name, shape)
            return values * (1 + 1e-4) if name.endswith("layers.1.fc2.weight") else values

        case.parameter = wrong
        report = golden.Report()
        golden.check_pretraining(case, False, 1, report)
        self.assertTrue(any("loss" in failure for failure in report.failures))
        self.assertTrue(any("gradient" in failure for failure in report.failures))

    def test_nan_fails(self):
        report = golden.Report()
        report.note("losses", "a loss", 1e-20, 1e-9)
        report.note("losses", "another", float("nan"), 1e-9)
        self.assertEqual(len(report.failures), 1)
        self.assertNotEqual(report.worst["losses"][0], report.worst["losses"][0], "NaN is the largest deviation")


class Checkpoints(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = lambda name: os.path.join(folder.name, name)

    def bytes_of(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def test_safetensors_keep_every_type_and_shape(self):
        tensors = {
            "a": torch.tensor([1.5, -0.0, float("inf")], dtype=torch.float64),
            "b": torch.arange(6, dtype=torch.int32).reshape(2, 3),
            "scalar": torch.tensor(2.5),
            "half": torch.tensor([[0.5]], dtype=torch.bfloat16),
            "transposed": torch.arange(6.0).reshape(2, 3).t(),
            "empty": torch.zeros(0, 4),
        }
        write_safetensors(self.path("x.safetensors"), tensors, {"k": "v"})
        back, metadata = read_safetensors(self.path("x.safetensors"))
        self.assertEqual(metadata, {"k": "v"})
        self.assertEqual(list(back), list(tensors))
        for name, tensor in tensors.items():
            self.assertEqual((back[name].dtype, back[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertTrue(torch.equal(back[name], tensor), name)

    def test_damaged_files_are_refused(self):
        write_safetensors(self.path("x.safetensors"), {"a": torch.ones(100)})
        whole = self.bytes_of("x.safetensors")
        damaged = [b"", whole[:5], whole[:40], whole[:-1], b"\xff" * 8 + whole[8:], whole.replace(b"[100]", b"[999]")]
        for k, content in enumerate(damaged):
            with open(self.path("bad.safetensors"), "wb") as file:
                file.write(content)
            with self.assertRaisesRegex(ValueError, "bad.safetensors", msg=f"damage {k}"):
                read_safetensors(self.path("bad.safetensors"))

    def test_there_and_back_is_the_same_bytes(self):
        configs = [CONFIGS["tiny"], dataclasses.replace(CONFIGS["tiny"], target="displacement", language_head=True)]
        configs += [dataclasses.replace(CONFIGS["tiny"], tasks=3, with_distance=d) for d in (True, False)]
        for config in configs:
            model = MoleBlend(config)
            model.initialise()
            os.makedirs(self.path("step"), exist_ok=True)
            state = dict(reversed(list(model.state_dict().items())))  # any order
            write_safetensors(self.path("step/model.safetensors"), state, {"format": "pt"})
            convert(self.path("step"), self.path("a.pt"), False)
            convert(self.path("a.pt"), self.path("b.safetensors"), False)
            convert(self.path("b.safetensors"), self.path("c.pt"), False)
            convert(self.path("c.pt"), self.path("d.safetensors"), False)
            self.assertEqual(self.bytes_of("b.safetensors"), self.bytes_of("d.safetensors"))
            back = model_from(read_checkpoint(self.path("d.safetensors")))
            for name in ("layers", "width", "heads", "ffn", "tasks", "with_distance", "language_head"):
                self.assertEqual(getattr(back.config, name), getattr(config, name), name)
            for name, parameter in model.named_parameters():
                self.assertTrue(torch.equal(parameter, back.state_dict()[name]), name)

    def test_what_does_not_fit_is_refused(self):
        state = MoleBlend(CONFIGS["tiny"]).state_dict()
        name = "encoder.molecule_encoder.layers.1.fc2.bias"
        for changed in ({name: torch.zeros(3)}, {"extra": torch.zeros(3)}):
            with self.assertRaises(ValueError):
                model_from({**state, **changed})
        del state[name]
        with self.assertRaisesRegex(ValueError, "fc2.bias"):
            model_from(state)

    def test_pickled_objects_need_trust(self):
        state = MoleBlend(CONFIGS["tiny"]).state_dict()
        import argparse

        torch.save({"model": dict(state), "args": argparse.Namespace(a=1)}, self.path("fairseq.pt"))
        with self.assertRaisesRegex(ValueError, "trust-pickle"):
            read_checkpoint(self.path("fairseq.pt"))
        self.assertEqual(set(read_checkpoint(self.path("fairseq.pt"), trust_pickle=True)), set(state))


class CommandLine(unittest.TestCase):
    def run_program(self, *arguments):
        return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)

    def test_bench_gives_a_row(self):
        common = ["bench", "--model", "tiny", "--batch-size", "3", "--batches", "2", "--steps", "2", "--warmup", "1"]
        for extra in (
            ["--atoms", "8", "--bilinear", "--bucket", "--target", "displacement"],
            ["--data", os.path.join(GOLDEN, "tiny.safetensors"), "--precision", "bf16", "--outer", "multiply"],
        ):
            result = self.run_program(*common, *extra)
            self.assertEqual(result.returncode, 0, result.stderr)
            row = json.loads(result.stdout)
            self.assertTrue(row["check"]["passed"])
            self.assertGreater(row["molecules_per_s"], 0)
            self.assertGreater(row["peak_memory_mib"], 0)

    def test_errors_are_one_line(self):
        for arguments, word in (
            (["check", GOLDEN + "/nowhere"], "nowhere"),
            (["load", PROGRAM], "peer_torch.py"),
            (["bench", "--data", os.path.join(GOLDEN, "tiny.grads.safetensors")], "raw."),
            (["load", os.path.join(GOLDEN, "tiny.safetensors")], "no parameters"),
        ):
            result = self.run_program(*arguments)
            self.assertEqual(result.returncode, 1, arguments)
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn(word, result.stderr)


if __name__ == "__main__":
    unittest.main()

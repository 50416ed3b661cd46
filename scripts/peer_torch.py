#!/usr/bin/env python3
"""A plain PyTorch MoleBLEND beside moleblend: to measure against, and to take checkpoints from one to the other.

Needs PyTorch 1.13 (Debian: apt-get install python3-torch libopenblas0) or later, and nothing else. See docs/peer.md.
"""

import argparse
import importlib.util
import json
import sys
from typing import Any, Dict, Optional


def parser() -> argparse.ArgumentParser:
    formatter = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(prog="peer_torch.py", description=__doc__, formatter_class=formatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="check|bench|forward|load")

    check = verbs.add_parser(
        "check",
        formatter_class=formatter,
        help="compare with the reference program's numbers, in fp64",
        description="Relations, final states, head outputs, losses, gradients and, where the case has them, ten training\n"
        "steps of every golden case in a folder, in fp64, with both forms of the pair heads.\n\n"
        "  peer_torch.py check tests/golden/data",
    )
    check.add_argument("folder", help="with <case>.safetensors and, beside it, <case>.grads and <case>.train")
    check.add_argument("--threads", type=int, help="default: PyTorch's own choice")

    bench = verbs.add_parser(
        "bench",
        formatter_class=formatter,
        help="time a training step",
        description="Times pretraining steps (forward, losses, backward, clipping, Adam) and prints a row as JSON. Relations\n"
        "and collating are done before and timed apart. Before timing, the predictions of the form that is asked for\n"
        "are held against plain fp32; exit status 1 if they deviate.\n\n"
        "  peer_torch.py bench --model small --batch-size 64 --threads 8\n"
        "  peer_torch.py bench --model base --batch-size 1024 --device cuda --precision bf16 --compile --bilinear",
    )
    bench.add_argument("--model", choices=["tiny", "small", "base"], default="small")
    bench.add_argument("--target", choices=["distance", "displacement"], default="distance", help="of the 3D head")
    bench.add_argument("--data", metavar="FILE", help="molecules from raw.* tensors, as the golden files have them")
    bench.add_argument(
        "--atoms", type=float, default=15, help="mean of random drug-like graphs (default 15, as PCQM4Mv2)"
    )
    bench.add_argument("--atoms-deviation", type=float, help="of their normal distribution (default: mean / 7)")
    bench.add_argument("--batch-size", type=int, default=32, help="molecules (default 32)")
    bench.add_argument("--batches", type=int, default=4, help="different batches, used in turn (default 4)")
    bench.add_argument("--bucket", action="store_true", help="molecules of like size share a batch: less padding")
    bench.add_argument("--pad-to", type=int, default=8, help="tokens are padded to a multiple of this (default 8)")
    bench.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    bench.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32", help="bf16: autocast")
    bench.add_argument("--compile", action="store_true", help="torch.compile (PyTorch 2)")
    bench.add_argument(
        "--bilinear", action="store_true", help="pair heads as r^T M c, without the outer product of 1024 a pair"
    )
    bench.add_argument(
        "--outer",
        choices=["auto", "matmul", "multiply"],
        default="auto",
        help="how that product is made; auto: by device",
    )
    bench.add_argument(
        "--attention", choices=["auto", "sdpa", "matmul"], default="auto", help="auto: sdpa where PyTorch has it"
    )
    bench.add_argument("--threads", type=int, help="default: PyTorch's own choice")
    bench.add_argument("--steps", type=int, default=20, help="timed (default 20)")
    bench.add_argument("--warmup", type=int, default=5, help="not timed (default 5; compiling happens in these)")
    bench.add_argument("--seed", type=int, default=1)
    bench.add_argument("--json", metavar="FILE", help="write the row there too")

    forward = verbs.add_parser(
        "forward",
        formatter_class=formatter,
        help="time the encoder's forward pass on the molecules of a data set",
        description="Embeds molecules of a data set from 2D (graph tokens; no gradients, no dropout) and prints a row as JSON.\n"
        "Relations and collating are timed apart. With --against the graph tokens are held against what\n"
        "`moleblend embed --data FOLDER` wrote; exit status 1 if they deviate.\n\n"
        "  peer_torch.py forward RUN/checkpoints/step-00001000 --data FOLDER --molecules 1000 --against rows.npy",
    )
    forward.add_argument("checkpoint", help="a moleblend checkpoint folder, a .safetensors, or a .pt with a state_dict")
    forward.add_argument("--data", metavar="FOLDER", required=True, help="made by `moleblend prepare`")
    forward.add_argument("--molecules", type=int, help="so many of it, at even distances (default: all)")
    forward.add_argument("--against", metavar="FILE.npy", help="the rows of all of FOLDER, as `moleblend embed` wrote them")
    forward.add_argument("--batch-size", type=int, default=32, help="molecules (default 32)")
    forward.add_argument("--bucket", action="store_true", help="molecules of like size share a batch: less padding")
    forward.add_argument("--pad-to", type=int, default=8, help="tokens are padded to a multiple of this (default 8)")
    forward.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    forward.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast")
    forward.add_argument("--compile", action="store_true", help="torch.compile (PyTorch 2)")
    forward.add_argument("--threads", type=int, help="default: PyTorch's own choice")
    forward.add_argument("--warmup", type=int, default=3, help="batches, not timed (default 3)")
    forward.add_argument("--json", metavar="FILE", help="write the row there too")

    load = verbs.add_parser(
        "load",
        formatter_class=formatter,
        help="convert a checkpoint to or from PyTorch",
        description="Checks that the parameters make a MoleBLEND, says which, and writes them in float32.\n\n"
        "  peer_torch.py load RUN/checkpoints/step-00001000 --to-torch model.pt\n"
        "  peer_torch.py load model.pt --to-safetensors model.safetensors",
    )
    load.add_argument("checkpoint", help="a moleblend checkpoint folder, a .safetensors, or a .pt with a state_dict")
    load.add_argument("--to-torch", metavar="FILE.pt", help="write a state_dict")
    load.add_argument("--to-safetensors", metavar="FILE.safetensors", help="write what moleblend reads")
    load.add_argument(
        "--trust-pickle", action="store_true", help="read any pickled object: fairseq's need it; runs code in it"
    )
    return top


def run_check(arguments: argparse.Namespace) -> int:
    import torch

    from peer.golden import check_folder

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    return 0 if check_folder(arguments.folder) else 1


def report(row: Dict[str, Any], path: Optional[str]) -> int:
    """Prints a row, and writes it where that is asked for; the exit status is that of its check."""
    text = json.dumps(row, indent=2)
    print(text)
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    return 0 if row["check"]["passed"] else 1


def run_bench(arguments: argparse.Namespace) -> int:
    from peer.bench import Settings, bench

    values = {k: v for k, v in vars(arguments).items() if k not in ("verb", "json")}
    for name in ("batch_size", "batches", "steps", "pad_to"):
        if values[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    if values["atoms_deviation"] is None:
        values["atoms_deviation"] = values["atoms"] / 7
    return report(bench(Settings(**values)), arguments.json)


def run_forward(arguments: argparse.Namespace) -> int:
    from peer.forward import ForwardSettings, forward

    values = {k: v for k, v in vars(arguments).items() if k not in ("verb", "json")}
    for name in ("molecules", "batch_size", "pad_to"):
        if values[name] is not None and values[name] < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    return report(forward(ForwardSettings(**values)), arguments.json)


def run_load(arguments: argparse.Namespace) -> int:
    from peer.checkpoint import convert, describe, model_from, read_checkpoint

    outputs = {".pt": arguments.to_torch, ".safetensors": arguments.to_safetensors}
    for ending, output in outputs.items():
        if output and not output.endswith(ending):
            raise ValueError(f"{output} must end in {ending}")
    if not any(outputs.values()):
        print(describe(model_from(read_checkpoint(arguments.checkpoint, arguments.trust_pickle))))
    for output in filter(None, outputs.values()):
        print(f"{output}: {convert(arguments.checkpoint, output, arguments.trust_pickle)}")
    return 0


def main() -> int:
    arguments = parser().parse_args()
    if importlib.util.find_spec("torch") is None:
        print(
            "peer_torch.py: this Python has no PyTorch; apt-get install python3-torch, or pip install torch",
            file=sys.stderr,
        )
        return 1
    run = {"check": run_check, "bench": run_bench, "forward": run_forward, "load": run_load}[arguments.verb]
    try:
        return run(arguments)
    except (OSError, ValueError) as error:
        print(f"peer_torch.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""How long a training step takes on many GPUs or processors, from the speed of one and of what lies between them.

  scripts/scaling_model.py                                   # up to 1,024 GPUs of the kind in docs/clusters.md
  scripts/scaling_model.py --rate 60000 --network 25e9       # with figures of your own
  scripts/scaling_model.py --per-rank 512 --json

A step of a rank is
    compute   molecules · imbalance / rate + fixed,
    sum       the gradient over all ranks: 2 B (g - 1)/g / link within a machine of g ranks, then 2 B/g (N - 1)/N / network between N
              machines, and a latency for each of 2 log2(ranks) messages,
    exposed   what of the sum the backward pass (two thirds of compute) does not hide; the last bucket never is,
    agree     the small exchanges of every step,
and the loader and the file system have to keep up with it. Predicts nothing about machines that are shared, failing or badly connected, and
knows no ranks that are late by turns; docs/clusters.md compares it with runs.
"""

import argparse
import json
import math

BUCKET = 16 * 2**20  # bytes of the gradient that are summed at a time: kGradientBucket in engine/ranks/gradient_sum.h


def step_time(o, ranks):
    """Seconds of one step's parts, and what the machine must deliver meanwhile."""
    machines = math.ceil(ranks / o.per_machine)
    local = min(ranks, o.per_machine)
    compute = o.per_rank * (1 + o.imbalance / o.per_rank) / o.rate + o.fixed
    messages = 2 * math.ceil(math.log2(ranks)) if ranks > 1 else 0

    def sum_of(volume):
        within = 2 * volume * (local - 1) / local / o.link
        between = 2 * volume / local * (machines - 1) / machines / o.network
        return within + between + messages * o.latency

    volume = o.parameters * o.bytes
    total = sum_of(volume) if ranks > 1 else 0.0
    last = sum_of(min(BUCKET, volume)) if ranks > 1 else 0.0
    backward = compute * 2 / 3
    exposed = max(last, total - backward)
    agree = o.exchanges * messages * o.latency
    step = compute + exposed + agree
    molecules = o.per_rank * ranks
    return {
        "ranks": ranks,
        "compute_s": compute,
        "sum_s": total,
        "exposed_s": exposed,
        "agree_s": agree,
        "step_s": step,
        "molecules_per_s": molecules / step,
        "efficiency": (o.per_rank * (1 + o.imbalance / o.per_rank) / o.rate + o.fixed) / step,
        "loader_threads_per_machine": math.ceil(o.per_rank * local / step / o.loader),
        "file_system_bytes_per_s": molecules / step * o.record,
        "hours_for_molecules": o.molecules * o.epochs / (molecules / step) / 3600,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rate", type=float, default=95e3, help="molecules/s of one rank in large batches [95000, the goal of a base model on one H200]")
    p.add_argument("--fixed", type=float, default=0.5e-3, help="seconds of a step that don't depend on the batch: zeroing, norm, Adam [0.0005]")
    p.add_argument("--per-rank", type=int, default=1024, help="molecules of a step on each rank [1024]")
    p.add_argument("--parameters", type=float, default=49.5e6, help="of the model [49.5e6, base]")
    p.add_argument("--bytes", type=int, default=4, help="of a value of the gradient as it is summed [4]")
    p.add_argument("--per-machine", type=int, default=8, help="ranks of a machine [8]")
    p.add_argument("--link", type=float, default=300e9, help="bytes/s of a rank's sums within its machine [300e9, NVLink]")
    p.add_argument("--network", type=float, default=40e9, help="bytes/s of a rank's sums between machines [40e9, an adapter of 400 Gbit/s each]")
    p.add_argument("--latency", type=float, default=10e-6, help="seconds of a message [1e-5]")
    p.add_argument("--exchanges", type=int, default=3, help="small exchanges a step [3]")
    p.add_argument("--imbalance", type=float, default=0.5, help="molecules by which the slowest rank has more than the mean [0.5]")
    p.add_argument("--loader", type=float, default=500e3, help="molecules/s of a loader thread [500000]")
    p.add_argument("--record", type=float, default=450, help="bytes of a molecule in the data set [450]")
    p.add_argument("--molecules", type=float, default=1e9, help="of the data set, for the last column [1e9]")
    p.add_argument("--epochs", type=float, default=1, help="over it [1]")
    p.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4, 8, 16, 64, 256, 1024])
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    rows = [step_time(o, ranks) for ranks in o.ranks]
    if o.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'ranks':>6} {'compute':>9} {'sum':>9} {'exposed':>9} {'step':>9} {'molecules/s':>13} {'efficiency':>10} {'loader':>7} {'files':>9} {'hours':>8}")
    for r in rows:
        print(
            f"{r['ranks']:>6} {1e3 * r['compute_s']:>6.2f} ms {1e3 * r['sum_s']:>6.2f} ms {1e3 * r['exposed_s']:>6.2f} ms {1e3 * r['step_s']:>6.2f} ms "
            f"{r['molecules_per_s']:>13,.0f} {r['efficiency']:>10.1%} {r['loader_threads_per_machine']:>7} {r['file_system_bytes_per_s'] / 1e9:>4.2f} GB/s {r['hours_for_molecules']:>8.3g}"
        )
    print("loader: threads a machine; files: read from the file system by all ranks; hours: for the molecules and epochs asked for")


if __name__ == "__main__":
    main()

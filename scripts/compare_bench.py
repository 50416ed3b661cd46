#!/usr/bin/env python3
"""Compares two files of `moleblend bench --json`: what became faster, what slower, what is wrong.

    scripts/compare_bench.py OLD.json NEW.json [--least RATIO] [--only PATTERN]

Figures of two machines, builds or commits compare only as far as the ceilings do: those come first. Exit status: 1 if a figure is of wrong
results or, with --least, if one is below RATIO times the old one (memory: above 1 / RATIO times), ceilings and other libraries' figures
apart; 2 for a wrong command line.
"""

import argparse
import fnmatch
import json
import sys


def read(path):
    try:
        with open(path, encoding="utf-8") as file:
            bench = json.load(file)
        return bench, {row["name"]: row for row in bench["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"compare_bench.py: {path} is no file of `moleblend bench --json`: {error!r}") from error


def describe(path, bench):
    machine = bench.get("machine", {})
    return (
        f"{path}: {bench.get('program')}, commit {bench.get('commit')}, {bench.get('build')}; {bench.get('device')}, "
        f"{bench.get('threads')} threads of {machine.get('cores')}, {machine.get('cpu')}; {bench.get('date')}"
    )


def gain(old, new):
    """Above 1 is better, for rates as for memory and times."""
    less_is_better = new["unit"] in ("MiB", "s", "ms", "us")
    if not old["value"] or not new["value"]:
        return float("nan")
    return old["value"] / new["value"] if less_is_better else new["value"] / old["value"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--least", type=float, metavar="RATIO", help="fail where new / old is below it, as 0.95")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="rows whose name matches, as 'train.*'")
    arguments = parser.parse_args()
    (old_bench, old), (new_bench, new) = read(arguments.old), read(arguments.new)
    print(describe("old", old_bench))
    print(describe("new", new_bench))

    names = [name for name in new if name in old and fnmatch.fnmatch(name, arguments.only)]
    names.sort(key=lambda name: not name.startswith("ceiling."))
    if not names:
        raise SystemExit("compare_bench.py: the two files have no figure in common" + f" that matches {arguments.only}")
    width = max(map(len, names))
    print(f"\n{'':{width}}  {'old':>12}  {'new':>12}  {'unit':<12}  new / old (memory, time: old / new)")
    bad = []
    for name in names:
        ratio = gain(old[name], new[name])
        remarks = [f"{which} is WRONG" for which, rows in (("old", old), ("new", new)) if rows[name]["correct"] is False]
        ours = "library" not in new[name]
        if ours and new[name]["correct"] is False:
            bad.append(name)
        elif arguments.least and ours and not name.startswith("ceiling.") and not ratio >= arguments.least:
            remarks.append(f"below {arguments.least}")
            bad.append(name)
        values = [f"{rows[name]['value']:>12.4g}" for rows in (old, new)]
        print(f"{name:{width}}  {values[0]}  {values[1]}  {new[name]['unit']:<12}  {ratio:.3f}  {', '.join(remarks)}".rstrip())
    for which, here, there in (("new", new, old), ("old", old, new)):
        alone = [name for name in here if name not in there and fnmatch.fnmatch(name, arguments.only)]
        if alone:
            print(f"only in {which}: {', '.join(alone)}")
    if bad:
        print(f"{len(bad)} of {len(names)} figures are wrong or too low: {', '.join(bad)}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What every CUDA kernel takes of a multiprocessor: registers a thread, static shared memory a block, stack and spills a thread.

    scripts/cuda_resources.py [--build FOLDER] [--write | --check]

prints the table for the kernels built in FOLDER (default build/release). --write renews docs/cuda_resources.md with it. --check fails if
a kernel spills registers, and if the table is not that of docs/cuda_resources.md; other versions of nvcc allot other registers, so that the
table is compared for the version that it names only.
"""
import argparse
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "cuda_resources.md"
VALUES = ("registers", "shared", "stack", "spills")


def fail(message):
    sys.exit(f"cuda_resources: {message}")


def nvcc_version(build):
    for file in build.glob("CMakeFiles/*/CMakeCUDACompiler.cmake"):
        found = re.search(r'CMAKE_CUDA_COMPILER_VERSION "([\d.]+)"', file.read_text())
        if found:
            return found[1]
    fail(f"{build} was not configured with nvcc")


def objects(build):
    """Object file of each .cu, with the name of the .cu."""
    folder = next(build.rglob("moleblend_cuda_objects.dir"), None)
    if folder is None:
        fail(f"there are no CUDA objects in {build}: build it first")
    files = {str(file.relative_to(folder))[: -len(".o")]: file for file in sorted(folder.rglob("*.cu.o"))}
    return {source: file for source, file in files.items() if (ROOT / source).exists()}  # not of a former source


def kernels_of(text):
    """(mangled name, architecture) -> values, from what ptxas -v prints."""
    kernels, current = {}, None
    for line in text.splitlines():
        if found := re.search(r"Compiling entry function '(\S+)' for '(\w+)'", line):
            current = kernels[found[1], found[2]] = dict.fromkeys(VALUES, 0)
        elif "Function properties for" in line and current is not None:
            # Of a function that is no kernel: what follows is not the kernel's.
            if not any(name in line for name, _ in kernels):
                current = None
        elif current is not None:
            if found := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
                current["stack"] = int(found[1])
                current["spills"] = int(found[2]) + int(found[3])
            elif found := re.search(r"Used (\d+) registers", line):
                current["registers"] = int(found[1])
                if found := re.search(r"(\d+) bytes smem", line):
                    current["shared"] = int(found[1])
    return kernels


def short(demangled):
    """Name and template arguments, without namespaces and parameters."""
    name = demangled.replace("(anonymous namespace)::", "").removeprefix("void ")
    depth, end = 0, len(name)
    for at, letter in enumerate(name):
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            end = at
            break
    name = re.sub(r"\((?:int|unsigned int|bool)\)", "", name[:end])
    return re.sub(r"\b(?:\w+::)+", "", name).replace("> >", ">>")


def demangle(names):
    output = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    return dict(zip(names, output.splitlines()))


def read(build):
    """File of the kernel -> its short name -> architecture -> values."""
    table = {}
    for source, file in objects(build).items():
        resources = file.with_name(file.name + ".resources")
        if not resources.exists():
            fail(f"{resources} is missing: build again")
        kernels = kernels_of(resources.read_text())
        names = demangle(sorted({name for name, _ in kernels}))
        of_source = table.setdefault(source, {})
        for (name, architecture), values in kernels.items():
            row = of_source.setdefault(short(names[name]), {})
            if architecture in row:
                fail(f"{source}: two kernels are called {short(names[name])}")
            row[architecture] = values
    return {source: of_source for source, of_source in table.items() if of_source}


def render(table, version):
    architectures = sorted({a for kernels in table.values() for row in kernels.values() for a in row})
    lines = [
        "# Resources of the CUDA kernels",
        "",
        "Registers, stack and spills (bytes) a thread, static shared memory (bytes) a block; dynamic shared memory comes with the launch. A spill",
        f"fails the tests. Written by `scripts/cuda_resources.py --write` from a build with nvcc {version}; its `--check` is one of the tests.",
    ]
    columns = [f"{value} {a}" for value in VALUES for a in architectures]
    for source in sorted(table):
        lines += ["", f"## {source}", "", "| kernel | " + " | ".join(columns) + " |", "|---" + "|--:" * len(columns) + "|"]
        for name in sorted(table[source]):
            row = table[source][name]
            values = [str(row[a][value]) if a in row else "–" for value in VALUES for a in architectures]
            lines.append(f"| `{name}` | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def spills(table):
    return [
        f"{source}: {name} spills {values['spills']} bytes of registers on {architecture}"
        for source, kernels in table.items()
        for name, row in kernels.items()
        for architecture, values in row.items()
        if values["spills"] > 0
    ]


def differences(text):
    if not TABLE.exists():
        return [f"{TABLE.relative_to(ROOT)} is missing"]
    then, now = TABLE.read_text().splitlines(), text.splitlines()
    return [f"- {line}" for line in then if line not in now] + [f"+ {line}" for line in now if line not in then]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build" / "release")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true")
    action.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    version = nvcc_version(arguments.build)
    table = read(arguments.build)
    if not table:
        fail(f"no kernel in {arguments.build}")
    text = render(table, version)
    problems = spills(table)
    if arguments.write:
        if not problems:
            TABLE.write_text(text)
    elif arguments.check:
        written_with = re.search(r"nvcc ([\d.]+);", TABLE.read_text()) if TABLE.exists() else None
        if written_with is None or written_with[1] == version:
            problems += differences(text)
        else:
            print(f"{TABLE.relative_to(ROOT)} is of nvcc {written_with[1]}, this is {version}: only spills are checked")
    else:
        print(text, end="")
    if problems:
        print("\n".join(problems), file=sys.stderr)
        fail("after a change that is meant, renew the table with scripts/cuda_resources.py --write; a spill has to go")


if __name__ == "__main__":
    main()

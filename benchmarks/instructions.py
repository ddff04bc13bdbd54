"""Counts the instructions of the small-op workloads under callgrind and compares them with the stored figures.

    python benchmarks/instructions.py             # fails if a count is 5 % away from its figure
    python benchmarks/instructions.py --record    # stores the counts (do so when a change made them smaller)

A count is the difference between two numbers of iterations, so start-up cancels. It depends on the compiler, hence one
set of figures per compiler in instructions.json, but not on how busy or fast the machine is. Valgrind shows programs a
processor with AVX2 and without AVX-512, so all machines that have AVX2 run the same kernels. The build
that test.sh makes (unity files) counts 1 to 3 % more than the release preset's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIGURES = HERE / "instructions.json"
TOLERANCE = 0.05
ITERATIONS = (200, 600)


def programs(build: Path) -> tuple[list[str], str]:
    """The workloads of small_ops, and the compiler that made it."""
    lines = subprocess.run([build / "benchmarks/small_ops"], capture_output=True, text=True, check=True).stdout
    *names, compiler = lines.splitlines()
    return names, compiler.removeprefix("compiler: ")


def instructions(build: Path, name: str, iterations: int) -> int:
    """Instructions of the whole process."""
    # The kernels OpenBLAS chooses for the processor that valgrind shows, said to make it certain; no threads that spin.
    blas = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "1"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("OPENBLAS_")} | blas
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", build / "benchmarks/small_ops"]
    run = subprocess.run([*command, "count", name, str(iterations)], capture_output=True, text=True, env=env)
    found = re.search(r"Collected : (\d+)", run.stderr)
    if run.returncode or not found:
        raise SystemExit(f"instructions.py: valgrind failed on '{name}':\n{run.stderr}")
    return int(found[1])


def count(build: Path, name: str) -> int:
    """Instructions of one iteration."""
    few, many = (instructions(build, name, n) for n in ITERATIONS)
    return round((many - few) / (ITERATIONS[1] - ITERATIONS[0]))


def compare(counts: dict[str, int], figures: dict[str, int] | None) -> tuple[list[str], bool]:
    """Lines to print, and whether every count is within 5 % of its figure (or there is no figure at all)."""
    lines, good = [], True
    for name, n in counts.items():
        figure = (figures or {}).get(name)
        if figure is None:
            lines.append(f"{name:28} {n:8} instructions, no figure stored")
            good = good and figures is None
            continue
        change = n / figure - 1
        lines.append(f"{name:28} {n:8} instructions, stored {figure:8}, {change:+.1%}")
        if abs(change) > TOLERANCE:
            lines[-1] += "  TOO MANY" if change > 0 else "  fewer: record it"
            good = False
    return lines, good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/release", help="the build folder")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--record", action="store_true")
    args = parser.parse_args()
    if not shutil.which("valgrind"):
        raise SystemExit("instructions.py needs valgrind: sudo apt install valgrind")
    program = args.build / "benchmarks/small_ops"
    if not program.exists():
        raise SystemExit(f"instructions.py: {program} is not there; configure with TG_BUILD_BENCHMARKS=ON")
    names, compiler = programs(args.build)
    stored = json.loads(args.figures.read_text()) if args.figures.exists() else {}
    counts = {name: count(args.build, name) for name in names}
    lines, good = compare(counts, stored.get(compiler))
    print(f"instructions per iteration, {compiler}", *lines, sep="\n")
    if args.record:
        args.figures.write_text(json.dumps(stored | {compiler: counts}, indent=1, sort_keys=True) + "\n")
    elif not good:
        print("if the change is wanted: python benchmarks/instructions.py --record")
        sys.exit(1)
    elif compiler not in stored:
        print(f"no figure stored for {compiler}: nothing was compared; --record stores these")


if __name__ == "__main__":
    main()

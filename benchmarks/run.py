"""Times the workloads on tinygrad_cpp, PyTorch (eager and compiled), JAX and in C++, and writes docs/performance.md.

    python benchmarks/run.py                          # everything, with 1 and 2 threads
    python benchmarks/run.py --only "MLP|GPT 4" --threads 1 --rounds 5 --out /tmp/some
    python benchmarks/run.py --resume                 # goes on where a run was stopped
    python benchmarks/run.py --parts growth           # only how cost grows; parts: rows, start, primitives, growth
    python benchmarks/run.py --parts none             # measures nothing, writes the page from the JSON anew

Every framework runs in a process of its own (training steps: a fresh one each), pinned to as many processors as
threads; they take turns, and a time is the minimum over the rounds. Floors (the BLAS called directly, streams over
memory) run in the same turns. Results are merged into OUT.json after every row, so parts may be run one by one. From it
come the pictures and the tables of OUT.md; what stands outside of the markers there is kept.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import growth
import machine
import report
import workloads  # noqa: F401 - fills the registry
from registry import WORKLOADS

HERE = Path(__file__).resolve().parent
MODULES = {"tg": "tinygrad_cpp", "torch": "torch", "compile": "torch", "jax": "jax"}


def die_with_parent() -> None:
    """A worker that is stopped would outlive a runner that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


class Worker:
    """A framework in its process, which is stopped while it has nothing to do: idle threads of its pools would spin.

    It starts on the processors `first`, first + 1, ..., and goes to 0, 1, ... for its measurements.
    """

    def __init__(self, framework: str, threads: int, first: int, python: str):
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), framework, str(threads), str(first)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=machine.environment(threads),
            preexec_fn=die_with_parent,
        )

    def send(self, **request) -> None:
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # receive() tells how the process ended

    def receive(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            return {"error": f"the process ended with {self.process.wait()}"}
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)

    def ask(self, **request) -> dict:
        self.send(**request)
        return self.receive()

    def close(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass
        self.process.wait()


class Programs:
    """The C++ programs; without them their rows and floors are left out."""

    def __init__(self, build: Path | None):
        self.folder = build / "benchmarks" if build else None
        self.small = self.run(1, "small_ops").splitlines()[:-1]

    def run(self, threads: int, name: str, *arguments: str) -> str:
        if not self.folder:
            return ""
        keep = sorted(os.sched_getaffinity(0))[:threads]
        return machine.output(
            self.folder / name,
            *arguments,
            env=machine.environment(threads),
            preexec_fn=lambda: os.sched_setaffinity(0, keep),
        )

    def floors(self, threads: int) -> dict[str, float]:
        lines = self.run(threads, "primitives", "--floors", str(threads)).splitlines()
        return {name: float(seconds) for name, seconds in (line.split("\t") for line in lines)}

    def seconds(self, name: str, budget: float) -> float | None:
        found = self.run(1, "small_ops", "time", name, str(budget))
        return float(found) if found else None


class Bench:
    """Workers, which live as long as rows are no training steps, and the rows they gave."""

    def __init__(self, args):
        self.args = args
        self.programs = Programs(machine.build_folder(args.build))
        self.workers: dict[str, Worker] = {}
        self.file: Path = args.out.with_suffix(".json")
        kept = json.loads(self.file.read_text()) if self.file.exists() and not args.fresh else {}
        self.results = {"rows": [], "start": {}, "primitives": {}, "growth": []} | kept
        if args.parts != "none" or "machine" not in self.results:
            self.results["machine"] = machine.describe(sys.executable, args.jax_python) | {"rounds": args.rounds}

    def python(self, framework: str) -> str:
        return self.args.jax_python if framework == "jax" else sys.executable

    def worker(self, framework: str, threads: int) -> Worker:
        if framework not in self.workers:
            first = list(MODULES).index(framework) % len(os.sched_getaffinity(0))
            self.workers[framework] = Worker(framework, threads, first, self.python(framework))
        return self.workers[framework]

    def close(self, *frameworks: str) -> None:
        for framework in frameworks or list(self.workers):
            self.workers.pop(framework).close()

    def merge(self, part: str, row: dict, *key: str) -> None:
        """Puts a row in the place of an older one, and saves."""
        rows = self.results[part]
        at = next((i for i, r in enumerate(rows) if all(r[k] == row[k] for k in key)), len(rows))
        rows[at : at + 1] = [row | {"commit": self.results["machine"]["commit"]}]
        self.save()

    def save(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        aside = self.file.with_suffix(".json.part")
        aside.write_text(report.to_json(self.results))
        aside.replace(self.file)

    def row(self, name: str, threads: int) -> dict:
        """Seconds, peak memory and errors of every framework for one workload."""
        entry = WORKLOADS[name]
        row: dict = {"workload": name, "threads": threads, "seconds": {}, "floors": {}, "peak": {}, "errors": {}}
        ready = []
        if entry.training:
            self.close()
        for framework in self.args.frameworks:  # compilers take seconds, so all prepare at once
            self.worker(framework, threads).send(prepare=name)
        for framework in self.args.frameworks:
            reply = self.worker(framework, threads).receive()
            if "step" in reply:
                ready.append(framework)
            elif "error" in reply:
                row["errors"][framework] = reply["error"]
        for _ in range(self.args.rounds):
            for label, seconds in self.programs.floors(threads).items():
                row["floors"][label] = min(seconds, row["floors"].get(label, math.inf))
            times = {f: self.worker(f, threads).ask(time=self.args.seconds) for f in ready}
            if name in self.programs.small and threads == 1:
                times["cpp"] = {"seconds": self.programs.seconds(name, self.args.seconds)}
            for framework, reply in times.items():
                if "error" in reply:
                    row["errors"][framework] = reply["error"]
                else:
                    row["seconds"][framework] = min(reply["seconds"], row["seconds"].get(framework, math.inf))
        for framework in ready if entry.training else ():
            row["peak"][framework] = self.worker(framework, threads).ask(peak=True)
        self.close(*(row["errors"] if not entry.training else self.workers))
        return row

    def rows(self) -> None:
        args = self.args
        done = {(r["workload"], r["threads"]) for r in self.results["rows"]} if args.resume else set()
        print(report.HEAD)
        for threads in args.threads:
            for name in WORKLOADS:
                if re.search(args.only, name) and (name, threads) not in done:
                    row = self.row(name, threads)
                    self.merge("rows", row, "workload", "threads")
                    print(report.line_of(row), flush=True)
                    for framework, error in row["errors"].items():
                        print(f"    {framework}: {error}", flush=True)
            self.close()
        order = {name: i for i, name in enumerate(WORKLOADS)}
        self.results["rows"] = [r for r in self.results["rows"] if r["workload"] in order]
        self.results["rows"].sort(key=lambda r: (r["threads"], order[r["workload"]]))

    def start(self) -> None:
        """Import time (best of 7) and resident memory after it, alone and after NumPy."""
        for framework in self.args.frameworks:
            if framework != "compile":
                self.results["start"][framework] = start_up(self.python(framework), MODULES[framework])
        self.results["start"]["numpy"] = start_up(sys.executable, "numpy")

    def primitives(self) -> None:
        for threads in self.args.threads:
            lines = self.programs.run(threads, "primitives", "--tsv", str(threads)).splitlines()
            if lines:
                self.results["primitives"][str(threads)] = [line.split("\t") for line in lines]
            else:
                print("no primitives: the C++ programs are not built (cmake --build --preset release)")

    def growth(self) -> None:
        threads = self.args.threads[0]
        for name, family in growth.FAMILIES.items():
            if not re.search(self.args.only, name):
                continue
            frameworks = [f for f in self.args.frameworks if f in ("tg", "torch")]
            points: dict[str, list] = {f: [] for f in frameworks}
            for size in family.sizes:
                ready = [f for f in frameworks if "step" in self.worker(f, threads).ask(prepare=name, size=size)]
                best = dict.fromkeys(ready, math.inf)
                for _ in range(self.args.rounds):
                    for f in ready:
                        seconds = self.worker(f, threads).ask(time=self.args.seconds / 3).get("seconds", math.inf)
                        best[f] = min(best[f], seconds)
                for f in ready:
                    points[f].append((size, best[f]))
            row = {"family": name, "threads": threads, "points": points}
            self.merge("growth", row, "family")
            print(report.growth_line(row), flush=True)
        self.close()


def start_up(python: str, module: str) -> dict:
    """Best of 7 after one that writes the bytecode, which an installed package has from the start."""
    code = (
        "import sys, time\n"
        "for m in sys.argv[1:]:\n    s = time.perf_counter(); __import__(m); e = time.perf_counter() - s\n"
        "print(e, int(open('/proc/self/statm').read().split()[1]) * 4096)"
    )

    def best(*modules):
        runs = [machine.output(python, "-c", code, *modules, env=machine.environment(1)).split() for _ in range(8)]
        runs = [r for r in runs[1:] if r]
        return [min(float(r[0]) for r in runs), min(int(r[1]) for r in runs)] if runs else None

    return {"alone": best(module), "after NumPy": best("numpy", module)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression: which workloads")
    parser.add_argument("--parts", default="rows,start,primitives,growth", help="what to measure, or none")
    parser.add_argument("--threads", default="1,2", type=lambda s: [int(n) for n in s.split(",")])
    parser.add_argument("--frameworks", default="tg,torch,compile,jax", type=lambda s: s.split(","))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="how long a framework runs in a round")
    parser.add_argument("--jax-python", default=sys.executable, help="the interpreter that has JAX")
    parser.add_argument("--build", type=Path, help="the folder with the C++ programs (build/release or build/py)")
    parser.add_argument("--resume", action="store_true", help="leaves out rows that OUT.json has")
    parser.add_argument("--fresh", action="store_true", help="forgets what OUT.json has")
    parser.add_argument("--out", type=Path, default=machine.ROOT / "docs/performance")
    return parser.parse_args()


def main() -> None:
    args = parse()
    unknown = set(args.frameworks) - set(MODULES)
    if unknown:
        raise SystemExit(f"run.py: no framework {sorted(unknown)[0]!r}; there are {', '.join(MODULES)}")
    begin, bench = time.monotonic(), Bench(args)
    if ignored := bench.results["machine"]["ignored"]:
        print("not passed on to the measured processes:", ", ".join(ignored))
    have = len(os.sched_getaffinity(0))
    for threads in [n for n in args.threads if n > have]:
        print(f"no rows with {threads} threads: this process may use {have} processors")
        args.threads.remove(threads)
    try:
        for part in args.parts.split(","):
            if part != "none":
                getattr(bench, part)()
    finally:
        bench.close()
    bench.save()
    report.write(bench.results, args.out)
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes; {args.out}.json, .md and pictures are written")


if __name__ == "__main__":
    main()

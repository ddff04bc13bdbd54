"""Times the workloads on tinygrad_cpp, PyTorch (eager and torch.compile) and JAX, and prints the ratios.

    python benchmarks/run.py                          # everything, 1 and 2 threads: hours
    python benchmarks/run.py --only "MLP|GPT 4" --threads 1 --rounds 5
    python benchmarks/run.py --frameworks tg,torch    # without the compilers

Every framework runs in a process of its own, pinned to as many processors as threads; they take turns, and a time is
the minimum over the rounds. Two floors (a matrix product by NumPy's BLAS, a copy) run in the same turns and tell how
noisy the machine was. Writes JSON, a table and a picture beside the name given by --out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import workloads

HERE = Path(__file__).resolve().parent
PEERS = {"torch": "PyTorch", "compile": "torch.compile", "jax": "JAX"}


class Worker:
    """A framework in its process."""

    def __init__(self, framework: str, threads: int, python: str):
        env = {**os.environ, "OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu"}
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [python, str(HERE / "worker.py"), framework, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=env,
        )

    def ask(self, **request) -> dict:
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"the process ended with {self.process.wait()}"}

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def floors() -> dict[str, float]:
    """Seconds of a 512x512 float32 product and of copying 64 MB, once each."""
    a, big = np.ones((512, 512), np.float32), np.ones(1 << 24, np.float32)
    out = np.empty_like(big)
    start = time.perf_counter()
    a @ a
    middle = time.perf_counter()
    np.copyto(out, big)
    return {"sgemm 512": middle - start, "copy 64 MB": time.perf_counter() - middle}


def measure(name: str, threads: int, args) -> dict:
    """Seconds, peak memory and errors of every framework for one workload."""
    row: dict = {"workload": name, "threads": threads, "seconds": {}, "peak_kib": {}, "errors": {}, "floors": {}}
    workers = {}
    for framework in args.frameworks:
        worker = Worker(framework, threads, args.jax_python if framework == "jax" else sys.executable)
        reply = worker.ask(prepare=name)
        if "peak_kib" in reply:
            row["peak_kib"][framework] = reply["peak_kib"]
            workers[framework] = worker
        else:
            if "error" in reply:
                row["errors"][framework] = reply["error"]
            worker.close()
    for _ in range(args.rounds):
        for label, seconds in floors().items():
            row["floors"][label] = min(seconds, row["floors"].get(label, math.inf))
        for framework, worker in workers.items():
            reply = worker.ask(time=args.seconds)
            if "error" in reply:
                row["errors"][framework] = reply["error"]
            else:
                row["seconds"][framework] = min(reply["seconds"], row["seconds"].get(framework, math.inf))
    for worker in workers.values():
        worker.close()
    return row


def start_up(python: str, framework: str) -> dict:
    """Import time (best of 7) and resident memory after it."""
    module = {"tg": "tinygrad_cpp", "torch": "torch", "jax": "jax"}[framework]
    code = (
        f"import time; s = time.perf_counter(); import {module}; e = time.perf_counter() - s\n"
        "pages = int(open('/proc/self/statm').read().split()[1]); print(e, pages * 4096)"
    )
    runs = [subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.split() for _ in range(7)]
    return {"import_seconds": min(float(r[0]) for r in runs), "resident_bytes": min(int(r[1]) for r in runs)}


def ratios(row: dict) -> dict[str, float]:
    ours = row["seconds"].get("tg")
    return {f: ours / s for f, s in row["seconds"].items() if ours and f != "tg"}


def verdict(row: dict) -> str:
    """The ratio that the workload's goal speaks of, and whether it is reached."""
    entry, found = workloads.WORKLOADS[row["workload"]], ratios(row)
    chosen = max(found.values(), default=math.nan) if entry.peer == "best" else found.get(entry.peer, math.nan)
    if entry.goal is None or math.isnan(chosen):
        return ""
    return f"{chosen:5.2f} <= {entry.goal:<4}" + ("" if chosen <= entry.goal else " MISSED")


def line_of(row: dict) -> str:
    found = ratios(row)
    cells = [f"{found[f]:7.2f}" if f in found else "      -" for f in PEERS]
    ours = row["seconds"].get("tg", math.nan)
    return f"{row['workload']:42.42} {row['threads']:2} {ours * 1e6:12.1f} {' '.join(cells)}  {verdict(row)}"


def markdown(rows: list[dict]) -> str:
    """The table of docs/performance.md."""
    lines = [
        "| workload | threads | time, ms | " + " | ".join(f"/ {name}" for name in PEERS.values()) + " | goal |",
        "|---|---|---|" + "---|" * len(PEERS) + "---|",
    ]
    for row in rows:
        found, ours = ratios(row), row["seconds"].get("tg", math.nan)
        cells = [f"{found[f]:.2f}" if f in found else "" for f in PEERS]
        cells = [row["workload"], str(row["threads"]), f"{ours * 1e3:.4g}", *cells, verdict(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict], path: Path) -> None:
    """Bars of the ratios to each peer, as SVG; the line is 1."""
    height = 16
    parts = []
    for i, row in enumerate(rows):
        y = 30 + i * height * 1.2
        parts.append(f'<text x="8" y="{y + 11:.0f}">{row["workload"]} ({row["threads"]})</text>')
        for j, (framework, color) in enumerate(zip(PEERS, ("#c60", "#06c", "#393"))):
            ratio = ratios(row).get(framework)
            if ratio is not None:
                width = 200 * min(ratio, 2)
                parts.append(f'<rect x="300" y="{y + j * 4:.0f}" width="{width:.0f}" height="4" fill="{color}"/>')
    bottom = 40 + len(rows) * height * 1.2
    labels = "".join(
        f'<text x="{300 + 130 * j}" y="18" fill="{c}">/ {name}</text>'
        for j, (name, c) in enumerate(zip(PEERS.values(), ("#c60", "#06c", "#393")))
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{bottom:.0f}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>{labels}{"".join(parts)}'
        f'<line x1="500" x2="500" y1="24" y2="{bottom:.0f}" stroke="#000"/></svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="regular expression: which workloads")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--frameworks", default="tg,torch,compile,jax")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="how long a framework runs in a round")
    parser.add_argument("--jax-python", default=sys.executable, help="the interpreter that has JAX")
    parser.add_argument("--out", type=Path, help="writes OUT.json, OUT.md and OUT.svg")
    args = parser.parse_args()
    args.frameworks = args.frameworks.split(",")

    print(f"{'workload':42} {'t':>2} {'tg, us':>12} " + " ".join(f"/{n:>6.6}" for n in PEERS.values()) + "  goal")
    rows = []
    for threads in map(int, args.threads.split(",")):
        for name in workloads.WORKLOADS:
            if re.search(args.only, name):
                rows.append(measure(name, threads, args))
                print(line_of(rows[-1]), flush=True)
                for framework, error in rows[-1]["errors"].items():
                    print(f"    {framework}: {error}", flush=True)
    best = [max(r.values()) for r in map(ratios, rows) if r]
    if best:
        mean = math.exp(sum(map(math.log, best)) / len(best))
        print(f"geometric mean of the ratio to the best peer over {len(best)} rows: {mean:.3f}")
    starts = {
        f: start_up(args.jax_python if f == "jax" else sys.executable, f) for f in args.frameworks if f != "compile"
    }
    for framework, figures in starts.items():
        print(
            f"import {framework}: {figures['import_seconds']:.3f} s, {figures['resident_bytes'] / 1e6:.0f} MB resident"
        )
    if args.out:
        machine = {"processor": processor(), "system": platform.platform(), "python": platform.python_version()}
        args.out.with_suffix(".json").write_text(
            json.dumps({"machine": machine, "rows": rows, "start": starts}, indent=1) + "\n"
        )
        args.out.with_suffix(".md").write_text(markdown(rows))
        draw(rows, args.out.with_suffix(".svg"))


def processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found.group(1) if found else platform.processor()


if __name__ == "__main__":
    main()

"""The stage bench: every case on this package, PyTorch and torch.compile, taking turns; cuBLASLt called directly."""

from __future__ import annotations

import json
import os
import re
import select
import statistics
import subprocess
import sys
import time
from typing import Any

from common import HERE, Context, attention_text, run, say

MODES = ("tg", "torch", "compile")


class Worker:
    """A framework in its process; a reply that does not come in time ends it."""

    def __init__(self, mode: str, c: Context) -> None:
        env = c.env(TG_GPU_DEVICE=c.device, **({"TG_GPU_DRY": "1"} if c.dry else {}))
        self.log = (c.work / "logs" / f"bench-{mode}.log").open("a")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=env,
        )

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        if self.process.poll() is not None:
            return {"error": f"the process ended with {self.process.returncode}"}
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            ready = select.select([self.process.stdout], [], [], limit)[0]
            line = self.process.stdout.readline() if ready else b""
        except BrokenPipeError:
            ready, line = [True], b""
        if line:
            return json.loads(line)
        self.process.kill()
        return {"error": "out of time" if not ready else f"the process ended with {self.process.wait()}"}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()


class Pool:
    """The workers; one that ended is started anew for the next case."""

    def __init__(self, c: Context) -> None:
        self.c = c
        self.workers: dict[str, Worker] = {}

    def get(self, mode: str) -> Worker:
        worker = self.workers.get(mode)
        if worker is None or worker.process.poll() is not None:
            worker = self.workers[mode] = Worker(mode, self.c)
        return worker

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()


def measure(pool: Pool, name: str, case: Any, rounds: int, seconds: float, limit: float) -> dict[str, Any]:
    """Minimum and median over rounds in which the frameworks take turns."""
    row: dict[str, Any] = {"case": name, "group": case.group, "modes": {}, "errors": {}}
    samples: dict[str, list[dict]] = {}
    for mode in case.modes:
        reply = pool.get(mode).ask(limit, prepare=name)
        if "error" in reply:
            row["errors"][mode] = reply["error"]
        else:
            row["modes"][mode] = {"peak_bytes": reply["peak_bytes"], "attention": reply["attention"]}
            samples[mode] = []
    for _ in range(rounds):
        for mode in list(samples):
            reply = pool.workers[mode].ask(limit, time=seconds)
            if "error" in reply:
                row["errors"][mode] = reply["error"]
                del samples[mode]
            else:
                samples[mode].append(reply)
    for mode, all_rounds in samples.items():
        row["modes"][mode]["min"] = min(r["min"] for r in all_rounds)
        row["modes"][mode]["median"] = statistics.median(r["median"] for r in all_rounds)
    row["modes"] = {m: v for m, v in row["modes"].items() if "min" in v}
    return row


def cublaslt(c: Context, products: list[str]) -> dict[str, Any]:
    """Seconds per product of cuBLASLt called directly; what is missing, if it could not be asked."""
    program = c.work / "cublaslt_best"
    if c.dry or not program.exists():
        return {"note": "not asked: " + ("no GPU" if c.dry else "benchmarks/gpu/cublaslt_best.cpp was not built")}
    code = "import tinygrad_cpp as t; print(t._C._find_vendor(['libcublasLt.so.13'])[0])"
    found = run([sys.executable, "-c", code], c.env(), 60)
    library = found.output.strip().splitlines()[-1] if found.rc == 0 and found.output.strip() else "libcublasLt.so.13"
    done = run([program, library, "3", *products], {**os.environ}, min(60, c.left()), c.work / "logs/cublaslt.log")
    rows = [json.loads(line) for line in done.output.splitlines() if line.startswith("{")]
    return {"library": library, "verdict": done.verdict, "seconds": {r["case"]: r["seconds"] for r in rows}}


def bench(c: Context) -> dict[str, Any]:
    """All cases that the time suffices for; those it does not are named."""
    from cases import CASES, importance

    (c.work / "logs").mkdir(parents=True, exist_ok=True)
    chosen = [n for n in CASES if re.search(c.only, n)]
    chosen.sort(key=lambda n: importance(CASES[n]))  # a bound that cuts the run cuts what matters least
    pool = Pool(c)
    result: dict[str, Any] = {"info": {}, "rows": [], "left_out": []}
    began = time.monotonic()
    try:
        modes = [m for m in MODES if any(m in CASES[n].modes for n in chosen)]
        for mode in modes:
            result["info"][mode] = pool.get(mode).ask(120, info=True)
        result["cublaslt"] = cublaslt(c, [CASES[n].product for n in chosen if CASES[n].product])
        seconds = 0.01 if c.dry else 0.15
        for name in chosen:
            if c.left() < 25:
                result["left_out"].append(name)
                continue
            limit = min(120.0 if "compile" in CASES[name].modes else 40.0, c.left() - 10)
            row = measure(pool, name, CASES[name], 1 if c.dry else c.rounds, seconds, limit)
            result["rows"].append(row)
            times = "  ".join(f"{m} {v['min'] * 1e6:.4g} us" for m, v in row["modes"].items())
            say(f"  {name}: {times}  {attention_text(row)}  {row['errors'] or ''}")
    finally:
        pool.close()
    failed = [r["case"] for r in result["rows"] if "tg" in r["errors"]]
    result["verdict"] = "fail" if failed else "out of time" if result["left_out"] else "pass"
    result["seconds"] = round(time.monotonic() - began)
    return result

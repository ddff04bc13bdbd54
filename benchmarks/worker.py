"""One framework in one process: reads requests as JSON lines and answers each with one.

python worker.py FRAMEWORK THREADS FIRST        FRAMEWORK is tg, torch, compile or jax

{"prepare": name}           makes the workload and warms it up; {"missing": true} if the framework has none
{"prepare": name, "size": n}  the same for a family of growth.py
{"time": seconds}           runs the prepared workload for about so long; the shortest step
{"peak": true}              memory during one step, beyond what the process held before anything was prepared
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
import time


def processors(threads: int, first: int) -> list[int]:
    """So many of the processors this process may use, from a place on, around the end."""
    have = sorted(os.sched_getaffinity(0))
    return [have[(first + i) % len(have)] for i in range(threads)]


def load(framework: str, threads: int):
    """The framework's module and its function that compiles, limited to so many threads, and its workloads."""
    if framework == "jax":
        import workloads_jax

        return None, None, workloads_jax.WORKLOADS
    import registry
    import workloads  # noqa: F401 - fills the registry

    if framework == "tg":
        import tinygrad_cpp as t
    else:
        import torch as t
    t.set_num_threads(threads)
    t.manual_seed(0)
    compiled = t.compile if framework == "compile" else lambda f: f
    return t, compiled, registry.WORKLOADS


def status(field: str) -> int:
    """Bytes of a field of the process's status: VmRSS (resident now) or VmHWM (the most since it was reset)."""
    with open("/proc/self/status") as file:
        return int(re.search(field + r":\s*(\d+) kB", file.read())[1]) * 1024


class Runner:
    def __init__(self, framework: str, threads: int, first: int):
        self.framework = framework
        # Libraries count the processors when they are loaded.
        self.home = processors(threads, 0)
        os.sched_setaffinity(0, processors(threads, first))
        self.t, self.compiled, self.table = load(framework, threads)
        self.step, self.calls, self.seconds = None, 1, 0.0
        self.before = status("VmRSS")

    def answer(self, request: dict) -> dict:
        if "prepare" in request:
            return self.prepare(request["prepare"], request.get("size"))
        return self.peak() if "peak" in request else {"seconds": self.best_step(request["time"])}

    def prepare(self, name: str, size: int | None) -> dict:
        self.step = None
        gc.collect()
        if size is not None:
            import growth

            self.step, self.calls = growth.FAMILIES[name].make(self.t, size), 1
        elif name in self.table:
            if self.framework == "compile":
                self.t._dynamo.reset()
                self.t._dynamo.utils.counters.clear()
            self.step, self.calls = self.table[name].make(self.t, self.compiled), self.table[name].calls
        else:
            return {"missing": True}
        self.step()
        start = time.perf_counter()
        self.step()
        self.seconds = time.perf_counter() - start
        if self.framework == "compile" and not self.t._dynamo.utils.counters["stats"].get("unique_graphs"):
            return {"error": "torch.compile left it eager"}
        return {"step": self.seconds}

    def go_home(self) -> None:
        """Moves all threads to the processors that every framework is measured on."""
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), self.home)

    def best_step(self, seconds: float) -> float:
        """The shortest of the steps that fit into `seconds` (at least one), per call."""
        self.go_home()
        end, best = time.perf_counter() + seconds, float("inf")
        while True:
            start = time.perf_counter()
            self.step()
            now = time.perf_counter()
            best = min(best, now - start)
            if now + self.seconds > end:
                return best / self.calls

    def peak(self) -> dict:
        """Peak of one more step. Where the system cannot reset its count, that of all steps so far."""
        try:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        except OSError:
            pass
        tracked = {}
        if self.framework == "tg":
            self.t.memory.reset_peak()
        self.step()
        if self.framework == "tg":
            tracked["allocator_peak"] = self.t.memory.peak()
        return {"peak": status("VmHWM") - self.before, **tracked}


def main() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr
    runner = None
    for line in sys.stdin:
        try:
            runner = runner or Runner(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
            reply = runner.answer(json.loads(line))
        except Exception as error:  # what a framework cannot run is a row of the report, not the end of it
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()

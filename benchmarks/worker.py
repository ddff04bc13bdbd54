"""One framework in one process: reads workload names and rounds as JSON lines, answers with seconds per step.

python worker.py FRAMEWORK THREADS, with FRAMEWORK one of tg, torch, compile, jax. A request is {"prepare": name} or
{"time": seconds} (run the prepared workload for about so long, answer the best step) or {"peak": name}.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time


def load(framework: str, threads: int):
    """The framework's module and its function that compiles, limited to so many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    if framework == "jax":
        import workloads_jax

        return None, None, workloads_jax.WORKLOADS
    import workloads

    if framework == "tg":
        import tinygrad_cpp as t
    else:
        import torch as t
    t.set_num_threads(threads)
    t.manual_seed(0)
    compiled = t.compile if framework == "compile" else lambda f: f
    return t, compiled, workloads.WORKLOADS


def best_step(step, calls: int, seconds: float) -> float:
    """The shortest of the steps that fit into `seconds` (at least two), per call."""
    end, best, runs = time.perf_counter() + seconds, float("inf"), 0
    while runs < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
        runs += 1
    return best / calls


def main() -> None:
    t, compiled, table = load(sys.argv[1], int(sys.argv[2]))
    step, calls = None, 1
    replies, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "prepare" in request:
                step = None
                entry = table.get(request["prepare"])
                if entry is None:
                    reply = {"missing": True}
                else:
                    step, calls = entry.make(t, compiled), entry.calls
                    step()
                    step()
                    reply = {"peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
            else:
                reply = {"seconds": best_step(step, calls, request["time"])}
        except Exception as error:  # a workload that a framework cannot run is a row of the report, not the end of it
            reply = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()

"""One framework in one process: reads requests as JSON lines and answers each with one.

    python worker.py MODE       MODE is tg, torch or compile

{"prepare": name} makes the case and runs it twice; {"time": seconds} runs it for about so long and answers the fastest
and the median call; {"info": true} tells device and versions. TG_GPU_DEVICE is where the tensors live.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from typing import Any

from cases import CASES, Case


class Framework:
    """The module and what its mode does to functions. Times are those of events on the device, where there is one."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        if mode == "tg":
            import tinygrad_cpp as t
        else:
            import torch as t
        self.t: Any = t
        self.device = os.environ.get("TG_GPU_DEVICE", "cuda")
        self.on_gpu = self.device.startswith("cuda")
        t.manual_seed(0)

    def wrap(self, kind: str) -> Any:
        """What the mode and the kind of numbers make of a function."""
        t = self.t
        compiled = t.compile if self.mode == "compile" else lambda f: f
        if kind != "bfloat16":
            return compiled

        def autocast(f: Any) -> Any:
            def call(*args: Any) -> Any:
                with t.autocast(self.device.partition(":")[0], dtype=t.bfloat16):
                    return f(*args)

            return compiled(call)

        return autocast

    def prepare(self, case: Case) -> tuple[Any, dict[str, Any]]:
        t = self.t
        t.backends.cuda.matmul.allow_tf32 = t.backends.cudnn.allow_tf32 = case.kind == "tf32"
        self.reset()
        kind = case.kind if case.group == "training" else "float32"
        with t.device(self.device):
            step = case.make(t, self.wrap(kind))
        step()
        before = self.attention()
        step()
        self.wait()
        attention = [now - then for now, then in zip(self.attention(), before)]
        peak = self.t.cuda.max_memory_allocated() if self.on_gpu else 0
        return step, {"peak_bytes": peak, "attention": attention}

    def attention(self) -> tuple[int, ...]:
        """Calls of attention so far by cuDNN, and by the own kernel where cuDNN might have served."""
        return self.t._C._cudnn_attention_counts()[:2] if self.mode == "tg" else (0, 0)

    def reset(self) -> None:
        if self.on_gpu:
            self.t.cuda.empty_cache()
            self.t.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        if self.on_gpu:
            self.t.cuda.synchronize()

    def info(self) -> dict[str, Any]:
        t = self.t
        d: dict[str, Any] = {"version": str(t.__version__), "cuda": getattr(t.version, "cuda", None)}
        d["cudnn"] = t.backends.cudnn.version()
        if self.on_gpu and t.cuda.is_available():
            d["device"] = t.cuda.get_device_name()
            d["capability"] = list(t.cuda.get_device_capability())
        return d

    def time(self, step: Any, case: Case, seconds: float) -> dict[str, Any]:
        """Fastest and median call of as many as fit into `seconds`, at least two."""
        samples: list[float] = []
        end = time.perf_counter() + seconds
        events = self.on_gpu and not case.wall
        while len(samples) < 2 or (time.perf_counter() < end and len(samples) < 1000):
            if events:
                first, last = (self.t.cuda.Event(enable_timing=True) for _ in range(2))
                first.record()
                step()
                last.record()
                last.synchronize()
                samples.append(first.elapsed_time(last) * 1e-3 / case.calls)
            else:  # the host's time until everything is queued; what the device does then is small
                start = time.perf_counter()
                step()
                samples.append((time.perf_counter() - start) / case.calls)
                self.wait()
        return {"min": min(samples), "median": statistics.median(samples), "samples": len(samples)}


def main() -> None:
    replies, sys.stdout = sys.stdout, sys.stderr
    framework = Framework(sys.argv[1])
    step, case = None, None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "info" in request:
                reply = framework.info()
            elif "prepare" in request:
                step = None  # frees the case before, also where the new one fails
                case = CASES[request["prepare"]]
                step, reply = framework.prepare(case)
            else:
                reply = framework.time(step, case, request["time"])
        except Exception as error:  # a case that a framework cannot run is a row of the report, not the end of it
            reply = {"error": f"{type(error).__name__}: {error}"[:400]}
        print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()

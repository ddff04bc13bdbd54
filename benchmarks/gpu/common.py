"""What the stages share: folders, the clock that bounds them, processes that are ended in time, results on disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# Settings by which the caller's environment would change what runs: the emulation in the place of a GPU, another
# plug-in, libraries left out, a share of the tests, tiny sizes.
FOREIGN = ("TG_CUDA_", "TG_EMU_", "TG_TEST_", "TG_GPU_")
KEPT = ("TG_CUDA_LIB_DIR",)  # where the vendor's libraries are


@dataclass
class Context:
    """One call of the command. `dry` runs everything on the emulated device, with sizes that finish in seconds."""

    work: Path  # build tree, results of the stages, logs
    out: Path  # where the report goes
    dry: bool = False
    package: Path | None = None  # a folder that holds tinygrad_cpp/, instead of a build of our own
    tests: Path | None = None  # the program tg_tests, instead of that of the build
    only: str = ""  # benchmark cases: a regular expression
    rounds: int = 5
    budget: float = 540.0  # seconds of all stages together
    start: float = field(default_factory=time.monotonic)
    later: float = 0.0  # seconds that are kept for the stages to come
    found: dict[str, Any] = field(default_factory=dict)  # what the package says of its device (device.py)

    def left(self) -> float:
        """Seconds that the stage may use."""
        return self.budget - self.later - (time.monotonic() - self.start)

    @property
    def build(self) -> Path:
        return self.work / "tree"

    @property
    def site(self) -> Path:
        """Python packages that `fetch` brought along."""
        return self.work / "site"

    def package_folder(self) -> Path:
        return self.package or self.build / "python"

    @property
    def device(self) -> str:
        """Where tensors live. A dry run of a build without the emulated plug-in goes through the stages on the CPU."""
        return "cuda" if not self.dry or self.found.get("device") else "cpu"

    def env(self, **extra: str) -> dict[str, str]:
        """Environment of every process: our package and the packages of `fetch` are found, FOREIGN settings are not."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN) or k in KEPT}
        path = [str(self.package_folder()), str(self.site), env.get("PYTHONPATH", "")]
        env["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
        env["PATH"] = os.pathsep.join([str(self.site / "bin"), env.get("PATH", "")])
        if self.dry:
            env["TG_CUDA_EMULATE"] = "1"
        return env | extra

    def save(self, stage: str, result: dict[str, Any]) -> None:
        folder = self.work / "results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{stage}.json").write_text(json.dumps(result, indent=1) + "\n")

    def load(self, stage: str) -> dict[str, Any] | None:
        path = self.work / "results" / f"{stage}.json"
        return json.loads(path.read_text()) if path.exists() else None


@dataclass
class Ended:
    """How a process ended: exit status (None: it ran past its limit and was ended), output, seconds."""

    rc: int | None
    output: str
    seconds: float

    @property
    def verdict(self) -> str:
        return "pass" if self.rc == 0 else "out of time" if self.rc is None else "fail"

    def tail(self, lines: int = 25) -> str:
        return "\n".join(self.output.strip().splitlines()[-lines:])


def run(command: list[Any], env: dict[str, str], limit: float, log: Path | None = None, cwd: Path = ROOT) -> Ended:
    """Runs a command for at most `limit` seconds; its whole process group ends with it."""
    began = time.monotonic()
    process = subprocess.Popen(
        [str(c) for c in command],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    rc: int | None
    try:
        output, _ = process.communicate(timeout=max(limit, 1.0))
        rc = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        rc = None
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output)
    return Ended(rc, output, time.monotonic() - began)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def attention_text(row: dict[str, Any]) -> str:
    """Which way attention in half types went, per step."""
    by_cudnn, own = row["modes"].get("tg", {}).get("attention", (0, 0))
    return f"attention by cuDNN {by_cudnn}, by own kernels {own}" if by_cudnn or own else ""

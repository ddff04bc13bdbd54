"""Where a run took place, and the environment its processes get."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# What would change how many threads a library uses, which kernels it chooses, or whether sources are compiled anew.
IGNORED = re.compile(
    r"^(OPENBLAS|MKL|OMP|GOTO|BLIS|XLA|TORCH(INDUCTOR|_COMPILE|DYNAMO))_(?!.*CACHE_DIR)|^PYTHONDONTWRITEBYTECODE$"
)


def ignored_variables() -> list[str]:
    return sorted(f"{k}={v}" for k, v in os.environ.items() if IGNORED.match(k))


def environment(threads: int) -> dict[str, str]:
    """The caller's environment without what IGNORED names; threads and the search path set."""
    env = {k: v for k, v in os.environ.items() if not IGNORED.match(k)}
    path = filter(None, [str(HERE), os.environ.get("PYTHONPATH")])
    return env | {"OMP_NUM_THREADS": str(threads), "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(path)}


def output(*command: str | Path, **options) -> str:
    """What a command prints, "" if there is no such command or it fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor() -> str:
    """Model and what matters of its instruction sets."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*: (.*)", info)
    family = re.search(r"cpu family\s*: (\d+)\nmodel\s*: (\d+)", info)
    flags = set((re.search(r"flags\s*: (.*)", info) or [" ", ""])[1].split())
    names = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX BF16"}
    known = [text for flag, text in names.items() if flag in flags]
    number = f", family {family[1]} model {family[2]}" if family else ""
    return f"{model[1] if model else platform.processor()}{number} ({', '.join(known) or 'baseline'})"


def commit() -> str:
    changed = output("git", "status", "--porcelain", "--untracked-files=no", cwd=ROOT)
    return output("git", "rev-parse", "--short=10", "HEAD", cwd=ROOT) + (" with changes" if changed else "")


def versions(python: str, *modules: str) -> dict[str, str]:
    """Versions of installed distributions; those that are missing are left out."""
    code = (
        "import importlib.metadata as m, json, sys\nfound = {}\n"
        "for n in sys.argv[1:]:\n    try: found[n] = m.version(n)\n    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    return json.loads(output(python, "-c", code, *modules) or "{}")


def describe(python: str, jax_python: str) -> dict:
    compiler = output("g++", "-dumpfullversion")
    return {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "processor": processor(),
        "processors": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiler": f"GCC {compiler}" if compiler else "",
        "versions": versions(python, "torch", "numpy", "scipy-openblas32") | versions(jax_python, "jax", "jaxlib"),
        "ignored": ignored_variables(),
    }


def build_folder(given: Path | None) -> Path | None:
    """Where the C++ programs are: the folder given, or the first of the usual ones that has them."""
    folders = [given] if given else [ROOT / "build/release", ROOT / "build/py"]
    return next((f for f in folders if (f / "benchmarks/small_ops").exists()), None)

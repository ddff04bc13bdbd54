"""What this machine has: GPU, driver, toolkit, Python packages; and which commit is measured."""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from common import ROOT, Context


def ask(*command: str, cwd: Path = ROOT) -> str:
    """First lines of a command's output; empty where there is no such command or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def find_tool(name: str, c: Context) -> str | None:
    """An executable: on the path, among the packages of `fetch`, in the toolkit, or inside a Python package."""
    places = [str(c.site / "bin"), os.environ.get("PATH", ""), *(str(f / "bin") for f in toolkits())]
    if found := shutil.which(name, path=os.pathsep.join(places)):
        return found
    for package, inside in (("cmake", "data/bin"), ("ninja", "data/bin"), ("nvidia", "cu13/bin")):
        try:
            spec = importlib.util.find_spec(package)
        except (ImportError, ValueError):
            continue
        for folder in (spec.submodule_search_locations or []) if spec else []:
            path = Path(folder) / inside / name
            if os.access(path, os.X_OK):
                return str(path)
    return None


def toolkits() -> list[Path]:
    """Folders of CUDA toolkits, the one that the environment names first."""
    named = [Path(os.environ[k]) for k in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(k)]
    usual = [Path("/usr/local/cuda"), *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    return [p for p in [*named, *usual] if p.is_dir()]


def vendor_includes() -> list[Path]:
    """Folders with the vendor's headers: those of the toolkits and of the nvidia-* Python packages."""
    found = [f / "include" for f in toolkits()]
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        found += sorted(Path(folder).glob("*/include"))
    return [p for p in found if p.is_dir()]


def cpu_name() -> str:
    try:
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def gpus() -> list[dict[str, str]]:
    fields = ["name", "driver_version", "memory.total", "compute_cap", "clocks.max.sm", "power.limit"]
    text = ask("nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader")
    return [dict(zip(fields, (v.strip() for v in line.split(",")))) for line in text.splitlines() if "," in line]


def commit() -> str:
    """What is checked out; changes that are not committed have a digest, so that other changes read otherwise."""
    name = ask("git", "rev-parse", "HEAD")[:12] or "unknown"
    changes = ask("git", "diff", "HEAD")
    return f"{name} with changes {hashlib.sha256(changes.encode()).hexdigest()[:8]}" if changes else name


def stamp(c: Context, built: bool = True) -> dict[str, dict[str, Any]]:
    """What a result says of itself: when, on which commit and device, and whether that was the emulation.

    `built`: also which commit the package is of, as the stage build left it in a call that may be an older one.
    """
    found = {k: c.found.get(k) for k in ("device", "emulation", "versions")}
    ran = {"date": datetime.datetime.now().isoformat(" ", "minutes"), "commit": commit(), **found}
    if built and not c.package and (build := c.load("build")):
        ran["built from"] = build["ran"]["commit"] if build["verdict"] == "pass" else "a build that failed"
    return {"ran": ran}


def describe(c: Context) -> dict:
    """The machine on which the page is written."""
    nvcc = find_tool("nvcc", c)
    release = re.search(r"release [\d.]+, V([\d.]+)", ask(nvcc, "--version")) if nvcc else None
    return {
        "gpus": [] if c.dry else gpus(),
        "cpu": cpu_name(),
        "processors": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "torch": version_of("torch"),
        "triton": version_of("triton"),
        "numpy": version_of("numpy"),
        "nvcc": release[1] if release else "missing",
        "compiler": (ask(os.environ.get("CXX", "c++"), "--version").splitlines() or ["missing"])[0],
    }

"""The stages fetch and build: what the build needs, and the package with its CUDA plug-in, made on this machine."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from common import ROOT, Context, run, say
from machine import find_tool, vendor_includes

# What compiling takes and PyTorch does not bring along, by the names of PyPI.
NEEDED = ("cmake", "ninja", "pybind11>=3.1", "scipy-openblas32>=0.3.30", "numpy", "pytest")
DOCTEST = ("/usr/include", "/usr/local/include")


def fetch(c: Context) -> dict:
    """Packages and the doctest header into build/gpu/site, to be carried to a machine without a network."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--upgrade", "--target", c.site, *NEEDED]
    done = run(pip, {**os.environ}, 300)
    header = next((Path(p) / "doctest/doctest.h" for p in DOCTEST if (Path(p) / "doctest/doctest.h").exists()), None)
    if header:
        (c.site / "include/doctest").mkdir(parents=True, exist_ok=True)
        shutil.copy(header, c.site / "include/doctest")
    size = sum(f.stat().st_size for f in c.site.rglob("*") if f.is_file()) if c.site.exists() else 0
    return {"verdict": done.verdict, "megabytes": round(size / 1e6), "doctest": bool(header), "output": done.tail()}


def missing(c: Context) -> list[str]:
    """What the build lacks, each as one line that says what to do."""
    lines = []
    for tool, hint in (("cmake", "pip install cmake"), ("ninja", "pip install ninja"), ("nvcc", "a CUDA toolkit")):
        if not find_tool(tool, c):
            lines.append(f"{tool}: {hint}")
    if not shutil.which(os.environ.get("CXX", "c++")):
        lines.append("c++: a C++20 compiler, GCC 12 or newer")
    for module, package in (("pybind11", "pybind11>=3.1"), ("numpy", "numpy")):
        if run([sys.executable, "-c", f"import {module}"], c.env(), 60).rc != 0:
            lines.append(f"{module}: pip install '{package}'")
    blas = run([sys.executable, "-c", "import scipy_openblas32"], c.env(), 60).rc == 0
    if not blas and not list(Path("/usr/include").rglob("cblas.h")):
        lines.append("CBLAS: pip install scipy-openblas32")
    return lines


def doctest_folder(c: Context) -> str | None:
    places = [os.environ.get("TG_DOCTEST_INCLUDE_DIR", ""), str(c.site / "include"), *DOCTEST]
    return next((p for p in places if p and (Path(p) / "doctest/doctest.h").exists()), None)


def architectures() -> str:
    """The installed device's own, so that nothing is compiled for others."""
    from machine import gpus

    caps = {g["compute_cap"].replace(".", "") for g in gpus()}
    return ";".join(f"{cap}a-real" if int(cap) >= 90 else f"{cap}-real" for cap in sorted(caps)) or "90a-real"


def build(c: Context) -> dict:
    """Compiles the package, the plug-in and, with doctest, the C++ tests; and the program that asks cuBLASLt itself."""
    if c.package or c.dry:
        folder = c.package_folder()
        found = run([sys.executable, "-c", "import tinygrad_cpp as t; print(t.__file__)"], c.env(), 120)
        return {"verdict": found.verdict, "package": found.output.strip()[-300:], "note": f"taken from {folder}"}
    if lines := missing(c):
        return {"verdict": "fail", "missing": lines, "note": "on a machine with a network: gpu_report.sh fetch"}
    cmake, ninja, nvcc = (find_tool(t, c) for t in ("cmake", "ninja", "nvcc"))
    doctest = doctest_folder(c)
    configure = [
        *(cmake, "-S", ROOT, "-B", c.build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"),
        *("-DCMAKE_BUILD_TYPE=Release", "-DCMAKE_UNITY_BUILD=ON", "-DTG_BUILD_PYTHON=ON", "-DTG_BUILD_EXAMPLES=OFF"),
        *("-DTG_WERROR=OFF", "-DTG_CUDA=ON", f"-DPython_EXECUTABLE={sys.executable}"),
        f"-DCMAKE_CUDA_COMPILER={nvcc}",
        f"-DTG_CUDA_ARCHITECTURES={architectures()}",
        f"-DTG_BUILD_TESTS={'ON' if doctest else 'OFF'}",
        *([f"-DTG_DOCTEST_INCLUDE_DIR={doctest}"] if doctest else []),
    ]
    logs = c.work / "logs"
    first = run(configure, c.env(), min(120, c.left()), logs / "configure.log")
    if first.rc != 0:
        return {"verdict": first.verdict, "seconds": round(first.seconds), "output": first.tail()}
    second = run([ninja, "-C", c.build], c.env(), c.left() - 5, logs / "build.log")
    result = {"verdict": second.verdict, "seconds": round(first.seconds + second.seconds), "output": second.tail(5)}
    if not doctest:
        result["missing"] = ["doctest: C++ tests are left out; apt install doctest-dev, or gpu_report.sh fetch"]
    result["cublaslt"] = build_cublaslt(c)
    return result


def build_cublaslt(c: Context) -> str:
    """The program that times cuBLASLt called directly; the text says what is missing if it cannot be made."""
    nvcc = find_tool("nvcc", c)
    includes = [p for p in vendor_includes() if (p / "cublasLt.h").exists()]
    if not nvcc or not includes:
        return "not built: needs nvcc and cublasLt.h (pip install 'nvidia-cublas>=13.1,<14')"
    target = c.work / "cublaslt_best"
    command = [nvcc, "-O2", "-std=c++17", "-x", "cu", Path(__file__).parent / "cublaslt_best.cpp", "-o", target]
    done = run([*command, *(f"-I{p}" for p in includes[:1]), "-ldl"], c.env(), 120)
    return str(target) if done.rc == 0 else f"not built: {done.tail(5)}"


def errors_in(output: str) -> int | None:
    """The count that compute-sanitizer closes with."""
    found = re.findall(r"(?:ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard)", output)
    return sum(int(a or b) for a, b in found) if found else None


def announce(stage: str, result: dict) -> None:
    say(f"{stage}: {result['verdict']}")
    for line in result.get("missing", []):
        say(f"  missing: {line}")
    if result["verdict"] != "pass" and result.get("output"):
        say(result["output"])

"""python -m tinygrad_cpp doctor: what was found on this machine and where, and what to install for what is missing.

It never fails: a part that cannot be looked at says why. CUDA is looked at in a process of its own, so that a driver
that crashes or hangs is one line of the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

Lines = list[tuple[str, str]]  # name and what there is


def _version(v: int, hundred: int = 1000, ten: int = 10) -> str:
    """13020 -> 13.2, as the driver and the runtime count."""
    return f"{v // hundred}.{v % hundred // ten}"


def loaded(pattern: str) -> str | None:
    """Path of a library that this process has mapped."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = line.split(maxsplit=5)[5:]
            if path and re.search(pattern, path[0].rsplit("/", 1)[-1]):
                return path[0]
    return None


# ---- package and CPU


def package() -> Lines:
    import numpy

    from . import _C

    lines = [
        ("tinygrad_cpp", f"{_C.__version__} in {Path(__file__).resolve().parent}"),  # type: ignore[attr-defined]
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("NumPy", numpy.__version__),
    ]
    return lines


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def cpu() -> Lines:
    from . import _C

    isa = {"base": "base (SSE2 or NEON)", "avx2": "AVX2", "avx512": "AVX-512"}.get(_C._cpu_isa(), _C._cpu_isa())
    forced = f", bounded by TG_CPU_ISA={os.environ['TG_CPU_ISA']}" if os.environ.get("TG_CPU_ISA") else ""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        ("processor", _processor()),
        ("instruction set", isa + forced),
        ("threads", f"{_C.get_num_threads()} for one op, {allowed} processors allowed"),
        ("BLAS", _C._blas_info()),
    ]


# ---- CUDA

ALL = 'or pip install "tinygrad_cpp[cuda]"'
CUBLAS = f'pip install "nvidia-cublas>=13.1,<14", {ALL}'
NVRTC = f'pip install "nvidia-cuda-nvrtc>=13.0,<13.1", {ALL}'
CUDNN = f'pip install "nvidia-cudnn-cu13>=9.21,<10", {ALL}'
NCCL = f'pip install "nvidia-nccl-cu13>=2.28,<3", {ALL}'
PLUGIN = "this build has none; with an nvcc of CUDA 13: pip install . --config-settings=cmake.define.TG_CUDA=ON"
EMULATION = "this build has none; CMake: TG_CUDA_EMULATION=ON"


def driver() -> Lines:
    """The driver's own answers; it comes with the operating system's NVIDIA driver, never with pip."""
    try:
        lib = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return [("driver", "missing (libcuda.so.1): where there is a GPU, install NVIDIA driver 580 or newer")]
    number = ctypes.c_int(0)
    lib.cuDriverGetVersion(ctypes.byref(number))
    lines = [("driver", f"CUDA {_version(number.value)}, {loaded(r'^libcuda[.]so') or 'libcuda.so.1'}")]
    if number.value < 13000:
        lines[0] = ("driver", f"{lines[0][1]}: too old, install NVIDIA driver 580 or newer (CUDA 13.0)")
    if rc := lib.cuInit(0):
        return [*lines, ("devices", f"none: cuInit answers {rc}{' (no device)' if rc == 100 else ''}")]
    lib.cuDeviceGetCount(ctypes.byref(number))
    for i in range(number.value):
        device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
        lib.cuDeviceGet(ctypes.byref(device), i)
        lib.cuDeviceGetName(name, 256, device)
        capability = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            lib.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            capability.append(str(number.value))
        lines.append((f"cuda:{i}", f"{name.value.decode(errors='replace')}, compute capability {'.'.join(capability)}"))
    return lines


def plugin() -> Lines:
    """The package's own part for CUDA, opened as the package opens it, and whether there is a device for it."""
    from . import _C, cuda

    probe = _C._cuda_probe()
    emulated, available, path = probe["emulated"], cuda.is_available(), probe["plugin"]
    text = path + (", the EMULATION, which needs no GPU (TG_CUDA_EMULATE)" if emulated else "")
    if probe["missing"] == "plug-in":
        text = probe["text"] if os.path.exists(path) else f"missing ({path}): {EMULATION if emulated else PLUGIN}"
    answer = f"cuda.is_available() is {available}"
    if probe["missing"] != "plug-in":
        answer += f": {probe['text']}"
    return [("plug-in", text), ("available", answer)]


def _cublas_version(lib: ctypes.CDLL) -> str:
    part, parts = ctypes.c_int(0), []
    for which in range(3):  # MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL
        lib.cublasGetProperty(which, ctypes.byref(part))
        parts.append(str(part.value))
    return ".".join(parts)


def _lt_version(lib: ctypes.CDLL) -> str:
    lib.cublasLtGetVersion.restype = ctypes.c_size_t
    v = lib.cublasLtGetVersion()
    return f"{v // 10000}.{v // 100 % 100}.{v % 100}"


def _nvrtc_version(lib: ctypes.CDLL) -> str:
    major, minor = ctypes.c_int(0), ctypes.c_int(0)
    lib.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def _cudnn_number(lib: ctypes.CDLL) -> int:
    lib.cudnnGetVersion.restype = ctypes.c_size_t
    return lib.cudnnGetVersion()


def _cudnn_version(lib: ctypes.CDLL) -> str:
    v = _cudnn_number(lib)
    note = " (attention with a causal mask needs 9.21)" if v < 92100 else ""
    return f"{v // 10000}.{v // 100 % 100}.{v % 100}{note}"


def _nccl_version(lib: ctypes.CDLL) -> str:
    v = ctypes.c_int(0)
    lib.ncclGetVersion(ctypes.byref(v))
    return f"{v.value // 10000}.{v.value // 100 % 100}.{v.value % 100}"


# name: file names, libraries it opens by bare name itself, how it tells its version, what to install
LIBRARIES: dict[str, tuple[list[str], list[str], Callable[[ctypes.CDLL], str], str]] = {
    "cuBLASLt": (["libcublasLt.so.13"], [], _lt_version, CUBLAS),
    "cuBLAS": (["libcublas.so.13"], ["libcublasLt.so.13"], _cublas_version, CUBLAS),
    "NVRTC": (["libnvrtc.so.13"], ["libnvrtc-builtins.so.13.0"], _nvrtc_version, NVRTC),
    "cuDNN": (["libcudnn.so.9"], [], _cudnn_version, CUDNN),
    "NCCL": (["libnccl.so.2"], [], _nccl_version, NCCL),
}


def _found(name: str) -> str:
    """Path of a library of the vendor, opened as the package opens it; empty if it is not there."""
    from . import _C

    return _C._find_vendor(*LIBRARIES[name][:2])[0]


def library(name: str) -> tuple[str, str]:
    """Version and path of a library of the vendor, or what to install."""
    files, _, version, hint = LIBRARIES[name]
    path = _found(name)
    if not path:
        return name, f"missing ({files[0]}): {hint}"
    return name, f"{version(ctypes.CDLL(path))}, {path}"


def cudnn_version() -> int | None:
    """cuDNN's own number, 92400 for 9.24.0; None if it is not there."""
    path = _found("cuDNN")
    return _cudnn_number(ctypes.CDLL(path)) if path else None


def cuda() -> Lines:
    lines: Lines = []
    for look in (driver, plugin, *(lambda n=n: [library(n)] for n in LIBRARIES)):
        try:
            lines += look()
        except Exception as error:
            lines.append(("?", f"{type(error).__name__}: {error}"))
    return lines


def cuda_apart() -> Lines:
    """The same, looked at by another process."""
    code = "import json, tinygrad_cpp._doctor as d; print(json.dumps(d.cuda()))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    if found.returncode != 0:
        said = found.stderr.strip().splitlines()[-1:] or [""]
        return [("CUDA", f"looking at it ended a process with {found.returncode}. {said[0]}".strip())]
    return [(n, t) for n, t in json.loads(found.stdout.splitlines()[-1])]


# ---- all of it


def main() -> None:
    for title, look in (("package", package), ("CPU", cpu), ("CUDA", cuda_apart)):
        print(title)
        try:
            lines = look()
        except Exception as error:
            lines = [("?", f"could not be looked at: {type(error).__name__}: {error}")]
        for name, text in lines:
            print(f"  {name:16} {text}")

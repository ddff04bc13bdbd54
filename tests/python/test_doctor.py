"""python -m tinygrad_cpp doctor: it never fails, names what is there with its path, and what to install for the rest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import _doctor, _vendor


def doctor(**env) -> dict[str, str]:
    """Its lines by name."""
    done = subprocess.run(
        [sys.executable, "-m", "tinygrad_cpp", "doctor"], env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ")]
    return {line[2:18].strip(): line[18:].strip() for line in lines}


def compile_library(path, source: str) -> None:
    """A shared library of C source, under the vendor's name: what a machine might have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / (path.name + ".c")).write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, path.parent / (path.name + ".c")], check=True)


def test_names_what_is_there_and_what_to_install(tmp_path):
    (tmp_path / "libcuda.so.1").write_text("no library")  # as on a machine with a broken driver
    found = doctor(TG_CUDA_LIB_DIR=str(tmp_path), LD_LIBRARY_PATH=str(tmp_path))
    assert tg._C.__version__ in found["tinygrad_cpp"] and found["Python"].endswith(sys.executable)
    assert f"{tg.get_num_threads()} for one op" in found["threads"] and tg._C._blas_info() == found["BLAS"]
    assert os.path.exists(found["BLAS"].rsplit(", ", 1)[-1])
    assert "NVIDIA driver" in found["driver"]
    for name, (files, *_, hint) in _doctor.LIBRARIES.items():
        assert re.search(r"^\d+[.]\d+.*, \S+$", found[name]) or (files[0] in found[name] and hint in found[name])


def test_what_is_missing_is_named_with_what_to_install(monkeypatch):
    """As on a machine that has none of them."""
    monkeypatch.setattr(tg._C, "_find_vendor", lambda files, before: ("", "tried"))
    packages = {
        "cuBLAS": ("libcublas.so.13", "nvidia-cublas>=13.1,<14"),
        "cuBLASLt": ("libcublasLt.so.13", "nvidia-cublas>=13.1,<14"),
        "NVRTC": ("libnvrtc.so.13", "nvidia-cuda-nvrtc>=13.0,<13.1"),
        "cuDNN": ("libcudnn.so.9", "nvidia-cudnn-cu13>=9.21,<10"),
        "NCCL": ("libnccl.so.2", "nvidia-nccl-cu13>=2.28,<3"),
    }
    assert packages.keys() == _doctor.LIBRARIES.keys()
    for name, (file, package) in packages.items():
        how = f'pip install "{package}", or pip install "tinygrad_cpp[cuda]"'
        assert _doctor.library(name) == (name, f"missing ({file}): {how}")


def test_the_plug_in_is_named_or_why_it_does_not_open(tmp_path):
    """One that is no library, none at all, the one that this build has, and the emulation in its place."""

    def ask(**env) -> tuple[str, str]:
        found = doctor(**{"TG_CUDA_PLUGIN": "", "TG_CUDA_EMULATE": "", **env})
        return found["plug-in"], found["available"]

    (tmp_path / "broken.so").write_text("no library")
    text, available = ask(TG_CUDA_PLUGIN=str(tmp_path / "broken.so"))
    assert text.startswith(f"the CUDA plug-in could not be opened ({tmp_path / 'broken.so'}: ")
    assert available == "cuda.is_available() is False"
    whole = Path(tg._C._cuda_probe()["plugin"]).with_name("libtinygrad_cuda_emu.so").read_bytes()
    for size in (64, 5000, 100_000, len(whole) - 1):  # the loader would map what is not there
        (tmp_path / "cut.so").write_bytes(whole[:size])
        text, available = ask(TG_CUDA_PLUGIN=str(tmp_path / "cut.so"), TG_CUDA_EMULATE="1")
        assert re.match(rf"the CUDA plug-in {tmp_path}/cut.so is damaged: it has {size} of \d+ bytes", text)
        assert available == "cuda.is_available() is False"
    for name, value in (("DEVICES", "abc"), ("DEVICES", "17"), ("MEMORY_MB", "1.5"), ("MEMORY_MB", "-1")):
        text, available = ask(TG_CUDA_EMULATE="1", **{f"TG_CUDA_EMULATE_{name}": value})
        assert text.startswith(f"TG_CUDA_EMULATE_{name} is '{value}', expected a number from ")
        assert available == "cuda.is_available() is False"
    missing = str(tmp_path / "none.so")
    how = "with an nvcc of CUDA 13: pip install . --config-settings=cmake.define.TG_CUDA=ON"
    none = (f"missing ({missing}): this build has none; {how}", "cuda.is_available() is False")
    assert ask(TG_CUDA_PLUGIN=missing) == none
    text, available = ask()
    if tg.backends.cuda.is_built():
        assert text.endswith("/libtinygrad_cuda.so") and os.path.exists(text)
        assert re.match(r"cuda[.]is_available\(\) is (False: the NVIDIA driver|False: there is no|True: \d+ device)", available)
    else:
        assert re.fullmatch(rf"missing \(/.*/libtinygrad_cuda[.](so|dylib)\): .*{re.escape(how)}", text)
        assert available == "cuda.is_available() is False"
    text, available = ask(TG_CUDA_EMULATE="1")
    assert "libtinygrad_cuda_emu." in text
    if os.path.exists(text.split(", ")[0]):
        assert "EMULATION" in text and re.search(r"True: \d+ devices? \(emulation on the CPU\)$", available)
    else:  # a wheel may go without
        assert text.startswith("missing (") and "TG_CUDA_EMULATION=ON" in text


def test_instruction_set_may_be_bounded():
    assert "bounded by TG_CPU_ISA=base" in doctor(TG_CPU_ISA="base")["instruction set"]


def test_libraries_of_the_vendor_are_found_with_version_and_path(tmp_path):
    """Stand-ins under the names of the real ones, in the folder that TG_CUDA_LIB_DIR names."""
    get = "int cublasGetProperty(int which, int* v) { static int p[3] = {13, 1, 7}; *v = p[which]; return 0; }"
    compile_library(tmp_path / "libcublas.so.13", get)
    compile_library(tmp_path / "libcublasLt.so.13", "unsigned long cublasLtGetVersion() { return 130102; }")
    compile_library(tmp_path / "libnvrtc.so.13", "int nvrtcVersion(int* a, int* b) { *a = 13; *b = 0; return 0; }")
    compile_library(tmp_path / "libcudnn.so.9", "unsigned long cudnnGetVersion() { return 91900; }")
    compile_library(tmp_path / "libnccl.so.2", "int ncclGetVersion(int* v) { *v = 22809; return 0; }")
    found = doctor(TG_CUDA_LIB_DIR=str(tmp_path))
    versions = {"cuBLAS": "13.1.7", "cuBLASLt": "13.1.2", "NVRTC": "13.0", "NCCL": "2.28.9"}
    versions["cuDNN"] = "9.19.0 (attention with a causal mask needs 9.21)"
    for name, version in versions.items():
        assert found[name] == f"{version}, {tmp_path / _doctor.LIBRARIES[name][0][0]}"
    without = doctor(TG_CUDA_LIB_DIR=str(tmp_path), TG_CUDA_WITHOUT="cublas:cudnn")
    for name in versions:
        assert without[name].startswith("missing") if name in ("cuBLAS", "cuDNN") else without[name] == found[name]


def test_cudnn_is_what_is_installed(tmp_path):
    """Its version, and that it is of no use without a device; the emulation does not use it."""
    compile_library(tmp_path / "libcudnn.so.9", "unsigned long cudnnGetVersion() { return 91900; }")
    (tmp_path / "none").mkdir()
    code = (
        "import tinygrad_cpp as tg; c = tg.backends.cudnn; print(c.version(), c.is_available(), tg.cuda.is_available())"
    )

    def ask(folder, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TG_CUDA")}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**clean, "TG_CUDA_LIB_DIR": str(folder), **env},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    version, available, device = ask(tmp_path)
    assert version == "91900" and available == device
    assert ask(tmp_path, TG_CUDA_EMULATE="1")[:2] == ["None", "False"]
    if tg.backends.cudnn.version() is None:
        assert ask(tmp_path / "none")[:2] == ["None", "False"]


DRIVER = """
#include <stdlib.h>
#include <string.h>
static int env(const char* n) { const char* v = getenv(n); return v ? atoi(v) : 0; }
int cuDriverGetVersion(int* v) { *v = env("FAKE_VERSION"); return 0; }
int cuInit(unsigned f) { if (env("FAKE_CRASH")) abort(); return env("FAKE_INIT"); }
int cuDeviceGetCount(int* n) { *n = env("FAKE_COUNT"); return 0; }
int cuDeviceGet(int* d, int i) { *d = i; return 0; }
int cuDeviceGetName(char* s, int n, int d) { strncpy(s, "NVIDIA Pretence", n); return 0; }
int cuDeviceGetAttribute(int* v, int a, int d) { *v = a == 75 ? 9 : 0; return 0; }
"""


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    compile_library(folder / "libcuda.so.1", DRIVER)
    return str(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="the driver is looked up by LD_LIBRARY_PATH")
def test_driver_and_devices(fake_driver):
    def ask(**env):
        return doctor(LD_LIBRARY_PATH=fake_driver, **{f"FAKE_{k}": str(v) for k, v in env.items()})

    found = ask(VERSION=13000, COUNT=2)
    assert found["driver"] == f"CUDA 13.0, {fake_driver}/libcuda.so.1"
    assert found["cuda:0"] == found["cuda:1"] == "NVIDIA Pretence, compute capability 9.0"
    assert "CUDA 12.2" in (old := ask(VERSION=12020, COUNT=1)["driver"]) and "install NVIDIA driver 580" in old
    assert ask(VERSION=13000, INIT=100)["devices"] == "none: cuInit answers 100 (no device)"
    assert ask(VERSION=13000, INIT=999)["devices"] == "none: cuInit answers 999"
    assert "ended a process" in ask(VERSION=13000, CRASH=1)["CUDA"]


def test_packages_of_the_vendor(tmp_path, monkeypatch):
    """nvidia is a namespace package: its parts may lie in several places."""
    for place, part in (("a", "cudnn"), ("b", "cu13"), ("b", "nccl")):
        (tmp_path / place / "nvidia" / part / "lib").mkdir(parents=True)
        monkeypatch.syspath_prepend(str(tmp_path / place))
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    ours = [f for f in _vendor.folders() if f.startswith(str(tmp_path))]
    assert [f.removeprefix(str(tmp_path)) for f in ours][0] == "/b/nvidia/cu13/lib" and len(ours) == 3

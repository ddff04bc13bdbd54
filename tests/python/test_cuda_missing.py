"""What is said where CUDA cannot be used: no plug-in, no driver, an old one, no device, a driver that does not start.

A stand-in for the driver's library answers the two questions that the CUDA runtime asks first.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tinygrad_cpp as tg

DRIVER = r"""
#include <stdlib.h>
#include <string.h>
static int number(const char* name) { const char* v = getenv(name); return v ? atoi(v) : 0; }
int cuDriverGetVersion(int* v) { *v = number("FAKE_VERSION"); return 0; }
int cuInit(unsigned flags) { (void)flags; return number("FAKE_INIT"); }
static int no_device(void) { return 100; }
int cuGetProcAddress_v2(const char* name, void** f, int version, unsigned long long flags, int* status) {
  (void)version; (void)flags;
  if (status) *status = 0;
  if (!strcmp(name, "cuInit")) *f = (void*)cuInit;
  else if (!strcmp(name, "cuDriverGetVersion")) *f = (void*)cuDriverGetVersion;
  else if (!strcmp(name, "cuGetProcAddress")) *f = (void*)cuGetProcAddress_v2;
  else *f = (void*)no_device;
  return 0;
}
int cuGetProcAddress(const char* name, void** f, int version, unsigned long long flags) {
  return cuGetProcAddress_v2(name, f, version, flags, 0);
}
"""

ASK = """
import json, tinygrad_cpp as tg
found = tg._C._cuda_probe()
found["available"] = tg.cuda.is_available(), tg.cuda.device_count()
try:
    tg.ones(2).to("cuda")
    found["error"] = ""
except tg.DeviceError as e:
    found["error"] = str(e)
print(json.dumps(found))
"""


def ask(**env: str) -> dict:
    """What a fresh process finds; it must print nothing else and end well."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TG_CUDA", "CUDA_"))}
    run = subprocess.run([sys.executable, "-c", ASK], env={**clean, **env}, capture_output=True, text=True)
    assert run.returncode == 0 and run.stderr == "", run.stderr
    return json.loads(run.stdout)


# The real one, not the emulation, which lies beside it. test_install.py sees to it that it is there where nvcc is.
HAVE_PLUGIN = Path(tg._C._cuda_probe()["plugin"]).with_name("libtinygrad_cuda.so").exists()
NO_GPU = not os.path.exists("/dev/nvidiactl")


def test_a_missing_plugin_is_named_with_its_path(tmp_path):
    found = ask(TG_CUDA_PLUGIN=str(tmp_path / "none.so"))
    assert found["missing"] == "plug-in" and found["available"] == [False, 0]
    assert str(tmp_path / "none.so") in found["error"] and "TG_CUDA=ON" in found["error"]


def test_a_library_that_is_no_plugin_is_refused():
    found = ask(TG_CUDA_PLUGIN=tg._C.__file__)
    assert found["missing"] == "plug-in" and "another version" in found["error"]


@pytest.mark.skipif(not (HAVE_PLUGIN and NO_GPU), reason="needs the plug-in, and no driver")
def test_no_driver():
    found = ask()
    assert found["missing"] == "driver" and found["available"] == [False, 0]
    assert "no NVIDIA driver" in found["error"] and "emulate()" in found["error"]
    assert "install the driver" in found["error"] and not found["emulated"]
    assert Path(found["plugin"]).name == "libtinygrad_cuda.so"


@pytest.mark.skipif(not (HAVE_PLUGIN and NO_GPU), reason="needs the plug-in, and no driver")
def test_the_plugin_loads_without_the_libraries(tmp_path):
    """A machine without them is told about its driver first, and the doctor names each with what to install."""
    none = {"TG_CUDA_LIB_DIR": str(tmp_path), "TG_CUDA_WITHOUT": "cublas:cublasLt:cudnn:nvrtc:nccl"}
    found = ask(**none)
    assert found["missing"] == "driver" and Path(found["plugin"]).name == "libtinygrad_cuda.so"
    doctor = [sys.executable, "-m", "tinygrad_cpp", "doctor"]
    said = subprocess.run(doctor, env={**os.environ, **none}, capture_output=True, text=True, check=True).stdout
    assert said.count("missing (lib") == 6 and said.count("pip install") >= 5, said


@pytest.mark.skipif(not (HAVE_PLUGIN and NO_GPU and shutil.which("cc")), reason="needs the plug-in, cc, and no driver")
@pytest.mark.parametrize(
    ("version", "init", "missing", "text"),
    [
        ("12020", "0", "newer driver", "for CUDA 12.2, but this build needs one for CUDA 13"),
        ("13000", "100", "device", "finds no device"),
        ("13000", "999", "other", "does not start"),
        ("13000", "3", "other", "does not start"),
    ],
)
def test_drivers_that_do_not_serve(tmp_path, version, init, missing, text):
    (tmp_path / "driver.c").write_text(DRIVER)
    library = str(tmp_path / "libcuda.so.1")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, str(tmp_path / "driver.c")], check=True)
    found = ask(LD_LIBRARY_PATH=str(tmp_path), FAKE_VERSION=version, FAKE_INIT=init)
    assert found["missing"] == missing and text in found["error"] and found["available"] == [False, 0], found


def test_emulation_is_asked_for_and_says_so():
    found = ask(TG_CUDA_EMULATE="1")
    if found["missing"] == "plug-in":
        pytest.skip("built without the emulation")
    assert found["emulated"] and found["available"] == [True, 1] and "emulation" in found["text"]


def test_the_emulation_named_as_the_plugin_says_so():
    """Before it was used and after."""
    emulation = Path(tg._C._cuda_probe()["plugin"]).with_name("libtinygrad_cuda_emu.so")
    if not emulation.exists():
        pytest.skip("built without the emulation")
    code = "import tinygrad_cpp as tg; print(tg.cuda.is_emulated(), tg.ones(2, device='cuda'), tg.cuda.is_emulated())"
    env = {k: v for k, v in os.environ.items() if not k.startswith("TG_CUDA")} | {"TG_CUDA_PLUGIN": str(emulation)}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.stdout == "True tensor([1., 1.], device='cuda:0' (emulation)) True\n", run.stderr

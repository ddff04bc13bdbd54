"""What compute-sanitizer and the determinism stage see on a GPU (benchmarks/gpu/kernels.py): every kernel that there is."""

import os
import re
import subprocess
import sys

import pytest
import tinygrad_cpp as tg
from launched import ROOT, named, own_kernels


def test_names_are_found():
    bounded = "template <class T>\n__global__ void __launch_bounds__(kThreads)\n    two(T x) {}"
    assert named(["// __global__ no\nstatic __global__ void one() {}", bounded]) == {"one", "two"}
    with pytest.raises(AssertionError, match="another way"):
        named(["__global__ auto odd() -> void {}"])


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation tells which kernels are launched")
def test_every_kernel_has_a_case(tmp_path):
    """As the sanitize stage runs it: without the vendor's libraries, whose kernels would be in the place of ours."""
    own = own_kernels()
    assert len(own) > 30
    launched = tmp_path / "kernels.txt"
    env = {"TG_EMU_KERNELS": str(launched), "TG_EMU_NO_BLAS": "1", "TG_EMU_NO_BLASLT": "1", "TG_EMU_NO_DNN": "1"}
    command = [sys.executable, ROOT / "benchmarks/gpu/kernels.py"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = set(re.findall(r"^\(?(\w+)", launched.read_text(), re.M))
    assert not own - seen, f"no case of benchmarks/gpu/kernels.py launches {sorted(own - seen)}"

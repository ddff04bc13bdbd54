"""What compute-sanitizer and the determinism stage see on a GPU (benchmarks/gpu/kernels.py): every kernel that there is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tinygrad_cpp as tg

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")


def kernels(texts: list[str]) -> set[str]:
    """The names of all __global__ functions."""
    found = set()
    for text in texts:
        text = COMMENT.sub("", text)
        names = KERNEL.findall(text)
        assert len(names) == text.count("__global__"), "a kernel that is written in another way: teach KERNEL to see it"
        found |= set(names)
    return found


def test_names_are_found():
    bounded = "template <class T>\n__global__ void __launch_bounds__(kThreads)\n    two(T x) {}"
    assert kernels(["// __global__ no\nstatic __global__ void one() {}", bounded]) == {"one", "two"}
    with pytest.raises(AssertionError, match="another way"):
        kernels(["__global__ auto odd() -> void {}"])


@pytest.mark.skipif(not tg.cuda.is_emulated(), reason="the emulation tells which kernels are launched")
def test_every_kernel_has_a_case(tmp_path):
    """As the sanitize stage runs it: without the vendor's libraries, whose kernels would be in the place of ours."""
    folder = ROOT / "backends/cuda"
    own = kernels([p.read_text() for suffix in ("cu", "cuh") for p in sorted(folder.glob(f"*.{suffix}"))])
    assert len(own) > 30
    launched = tmp_path / "kernels.txt"
    env = {"TG_EMU_KERNELS": str(launched), "TG_EMU_NO_BLAS": "1", "TG_EMU_NO_BLASLT": "1", "TG_EMU_NO_DNN": "1"}
    command = [sys.executable, ROOT / "benchmarks/gpu/kernels.py"]
    done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = set(re.findall(r"^\(?(\w+)", launched.read_text(), re.M))
    assert not own - seen, f"no case of benchmarks/gpu/kernels.py launches {sorted(own - seen)}"

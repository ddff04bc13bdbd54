"""What tools/setup.sh does where the CUDA compilers cannot be had: it says so twice, or fails where they are demanded."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The functions as they are, with a pip that fails and the packages that setup_tests would look at afterwards cut off.
SETUP = """
source tools/setup.sh
pip_install() { echo "pip: $*: no network" >&2; return 1; }
command() { case "$*" in *nvcc*) return 1 ;; esac; builtin command "$@"; }
unset CUDACXX
setup_nvcc
echo "CUDACXX=${CUDACXX:-none}; the end$LEFT_OUT"
"""


def setup(**env: str) -> subprocess.CompletedProcess:
    clean = {k: v for k, v in os.environ.items() if k != "TG_REQUIRE_CUDA_BUILD"}
    return subprocess.run(
        ["bash", "-c", SETUP], cwd=ROOT, env={**clean, **env}, capture_output=True, text=True, check=False
    )


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_without_nvcc():
    done = setup()
    said = "no nvcc, here or from PyPI: the CUDA plug-in is not compiled, only emulated"
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [said, f"CUDACXX=none; the end; {said}"]
    assert "nvidia-cuda-nvcc" in done.stderr and "no network" in done.stderr  # pip's own reason
    demanded = setup(TG_REQUIRE_CUDA_BUILD="1")
    assert demanded.returncode == 1 and "the end" not in demanded.stdout
    assert said in demanded.stderr and "TG_REQUIRE_CUDA_BUILD" in demanded.stderr


def test_the_packages_of_nvcc_are_those_of_the_page():
    def packages(file: str) -> set[str]:
        return set(re.findall(r"nvidia-(?:cuda-(?:nvcc|crt|cccl|runtime)|nvvm)==[0-9.]+", (ROOT / file).read_text()))

    assert packages("tools/setup.sh") == packages("docs/cuda.md") and len(packages("docs/cuda.md")) == 5


def test_continuous_integration_demands_it():
    assert "TG_REQUIRE_CUDA_BUILD=${TG_REQUIRE_CUDA_BUILD:-1} exec ./test.sh" in (ROOT / ".ci/run").read_text()
    assert 'echo "all passed in $SECONDS s$LEFT_OUT"' in (ROOT / "test.sh").read_text()

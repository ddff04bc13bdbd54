"""The claim of CONTRIBUTING.md: one row in one file is a whole op. Its diff is applied to a scratch copy of the sources,
which is built as a subproject (FetchContent) with the Python module, and the new op is used from C++ and through the op matrix."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("core", "backends", "ops", "autograd", "optim", "nn", "io", "train", "include", "python", "cmake", "tests")

MAIN = """#include <tg/tg.h>
#include <cstdio>
int main() {
  tg::Tensor x = tg::full({2}, 3.0).set_requires_grad(true);
  tg::Tensor y = x.cube();
  tg::sum(y).backward();
  std::printf("%g %g\\n", y.sum().item(), x.grad().sum().item());
}
"""


def run(*args, **env) -> str:
    r = subprocess.run([str(a) for a in args], env={**os.environ, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert r.returncode == 0, f"{args}\n{r.stdout[-4000:]}\n{r.stderr[-4000:]}"
    return r.stdout.strip()


def sync(scratch: Path) -> None:
    """Copies what changed, so that a second run builds little."""
    for name in [*FOLDERS, "CMakeLists.txt"]:
        source = ROOT / name
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            target = scratch / path.relative_to(ROOT)
            if name == "core" and path.name == "pointwise.def":
                continue
            if not target.exists() or target.read_bytes() != path.read_bytes():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def test_one_row_is_an_op():
    diff = re.search(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL).group(1)
    files = re.findall(r"^\+\+\+ b/(.*)$", diff, re.M)
    added = re.findall(r"^\+(?!\+\+)(.*)$", diff, re.M)
    removed = re.findall(r"^-(?!--)(.*)$", diff, re.M)
    assert files == ["core/pointwise.def"] and len(added) <= 3 and not removed
    scratch, build = ROOT / "build/scratch", ROOT / "build/scratch-build"
    sync(scratch)
    heading = re.search(r"^@@ (.*)$", diff, re.M).group(1)
    table = (ROOT / files[0]).read_text()
    assert heading in table
    table = table.replace(heading, heading + "\n" + "\n".join(added), 1)
    target = scratch / files[0]
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_text() != table:
        target.write_text(table)

    (scratch / "tests/consumer/main.cpp").write_text(MAIN)
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS_DEBUG=-O0", "-DTG_BUILD_PYTHON=ON", "-DCMAKE_UNITY_BUILD=ON"]
    options += ["-DTG_CUDA=OFF", "-DTG_CUDA_EMULATION=OFF"]  # not looked at here, and half of the build
    run("cmake", "-S", scratch / "tests/consumer", "-B", build, "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}",
        f"-DTG_SOURCE={scratch}", *options)
    run("cmake", "--build", build)
    assert run(build / "consumer", LD_LIBRARY_PATH="") == "54 54"

    package = next(build.rglob("_C.*so")).parent.parent
    out = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", scratch / "tests/python/test_op_matrix.py", "-k",
              "[cube] or [cube_] or [float16-cube] or [bfloat16-cube]", PYTHONPATH=str(package))
    passed = int(re.search(r"(\d+) passed", out).group(1))
    assert passed >= (13 if importlib.util.find_spec("torch") else 10), out
    print(f"one row: {passed} matrix tests passed")

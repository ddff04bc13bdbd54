"""The package and a program that uses it, as a type checker sees them."""

import os
import pathlib
import subprocess
import sys

import pytest
import tinygrad_cpp as tg

pytest.importorskip("mypy")
PACKAGE = pathlib.Path(tg.__file__).parent
SETTINGS = pathlib.Path(__file__).parents[2] / "pyproject.toml"

PROGRAM = """
import tinygrad_cpp as tg
from tinygrad_cpp import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.layers(x).relu()

    def state_dict(self, *args, **kwargs):
        return super().state_dict(*args, **kwargs)


values: tg.Tensor = Net()(tg.zeros(4, 2)).sort(0).values
kind: tg.dtype = tg.promote_types(tg.int64, tg.float32)
tg.optim.AdamW(Net().parameters(), lr=1e-3).step()
wrong: int = values.sum()
"""


def test_mypy_finds_the_mistake_of_a_program_and_none_in_the_package(tmp_path):
    if not list(PACKAGE.rglob("*.pyi")):
        pytest.skip("built without stubs")
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--config-file", str(SETTINGS), "--no-error-summary"]
    # An installed package is found by itself, and its neighbours are not to be named.
    path = [tmp_path] if PACKAGE.parent.name == "site-packages" else [tmp_path, PACKAGE.parent]
    found = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache"), "-p", "tinygrad_cpp", "-m", "program"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        text=True,
    ).stdout
    errors = [line for line in found.splitlines() if ": error:" in line]
    assert len(errors) == 1 and "program.py" in errors[0] and '"Tensor", variable has type "int"' in errors[0], found

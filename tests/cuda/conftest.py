"""Tests that need a CUDA device. TG_CUDA_EMULATE=1 makes the CPU one; the closing line says which it was."""

from __future__ import annotations

import pathlib
import sys

import pytest
import tinygrad_cpp as tg

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python"))


def pytest_configure(config):
    config.addinivalue_line("markers", "oracle: of tests whose cases are used here")


def pytest_collection_modifyitems(config, items):
    if not tg.cuda.is_available():
        config.hook.pytest_deselected(items=list(items))
        items[:] = []


@pytest.fixture(autouse=True)
def _fresh_state():
    tg.manual_seed(0)
    yield


def pytest_terminal_summary(terminalreporter):
    if not tg.cuda.is_available():
        terminalreporter.write_line("no CUDA device: nothing was tested (TG_CUDA_EMULATE=1 tests on the CPU)")
        return
    matrix = sys.modules.get("device_matrix")
    if matrix is not None and matrix.COUNTS["ops"]:
        terminalreporter.write_line(matrix.summary("cuda"))
    kind = "EMULATION, no GPU was used" if tg.cuda.is_emulated() else "a real GPU"
    terminalreporter.write_line(f"CUDA device: {tg.cuda.get_device_name()} ({kind})")

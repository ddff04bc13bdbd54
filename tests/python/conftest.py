"""Shared setup: the oracle marker and the closing count of what was checked."""

from __future__ import annotations

import os
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")  # the oracle's torch.compile runs programs as they are

# A shell's background jobs ignore Ctrl-C, and so would the processes that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

try:
    import torch

    torch.set_num_threads(1)
    HAVE_TORCH = True
except ImportError:
    HAVE_TORCH = False


def pytest_configure(config):
    config.addinivalue_line("markers", "oracle: compares with PyTorch; left out and counted where PyTorch is missing")


def pytest_collection_modifyitems(config, items):
    if HAVE_TORCH:
        return
    left_out = [i for i in items if i.get_closest_marker("oracle")]
    config.left_out = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = [i for i in items if not i.get_closest_marker("oracle")]


@pytest.fixture(autouse=True)
def _fresh_state():
    """Every test starts from the same generator state and default modes."""
    import tinygrad_cpp as tg

    tg.manual_seed(0)
    yield


def pytest_terminal_summary(terminalreporter, config):
    om = sys.modules.get("opmatrix")
    if om is not None and om.COUNTS:
        terminalreporter.section("op matrix")
        for what, n in sorted(om.COUNTS.items()):
            terminalreporter.write_line(f"{n:8d} {what}")
        terminalreporter.write_line(f"{sum(om.COUNTS.values()):8d} in all")
    install = sys.modules.get("test_install")
    if install is not None:
        for what, figure in install.MEASURED.items():
            terminalreporter.write_line(f"{what}: {figure}")
    census = sys.modules.get("census")
    if census is not None and census.WORKING:
        terminalreporter.write_line(f"census: {len(census.WORKING)} / {len(census.read())} names work")
    if not HAVE_TORCH:
        terminalreporter.write_line(
            f"PyTorch is not installed: {getattr(config, 'left_out', 0)} oracle checks were left out "
            "(set TG_TORCH=1 to install it)")

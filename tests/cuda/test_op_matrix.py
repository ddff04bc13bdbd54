"""The op matrix on the device: every sample of every op there and on the CPU, values and gradients compared."""

from __future__ import annotations

import device_matrix
import opmatrix as om
import pytest


@pytest.mark.parametrize("op", om.TABLE, ids=lambda op: op["name"])
def test_op_gives_what_the_cpu_gives(op):
    compared = device_matrix.check_op(op, "cuda")
    assert compared > 0 or op["name"] in device_matrix.EXCEPTIONS


def test_an_exception_that_is_none_fails(monkeypatch):
    monkeypatch.setitem(device_matrix.EXCEPTIONS, "exp", (("float32",), "none"))
    with pytest.raises(device_matrix.Unlike, match="exp: no longer differs from the CPU in float32"):
        device_matrix.check_op(om.BY_NAME["exp"], "cuda")

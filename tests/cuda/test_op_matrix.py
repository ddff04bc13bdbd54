"""The op matrix on the device: every sample of every op there and on the CPU, values and gradients compared."""

from __future__ import annotations

import device_matrix
import opmatrix as om
import pytest
import tinygrad_cpp as tg

# Ops that give something else than on the CPU, each with the reason.
EXCEPTIONS: dict[str, str] = {
    "device_copy": "its sample asks for a copy on the CPU, whose gradient would have to be there as well",
    "standardize_backward": "its samples have mean and variance in half precision, which forward never returns: "
    "the device goes by the composite then, whose gradients are float32",
}


@pytest.mark.parametrize("op", om.TABLE, ids=lambda op: op["name"])
def test_op_gives_what_the_cpu_gives(op):
    if op["name"] in EXCEPTIONS:
        with pytest.raises((device_matrix.Unlike, tg.DeviceError)):  # a reason that no longer holds must go
            device_matrix.check_op(op, "cuda", share=1)
    else:
        assert device_matrix.check_op(op, "cuda") > 0

"""Tensors on a CUDA device: moving, reading, printing, and what is refused."""

import pytest
import tinygrad_cpp as tg

D = "cuda"


def test_moves_and_reads():
    x = tg.tensor([1, 2, 3.0])
    y = x.to(D) + 1
    assert y.is_cuda and y.device == tg.device("cuda:0") and y.device.index == 0
    assert y.cpu().tolist() == [2, 3, 4] and y[1].item() == 3 and (y.cuda() is y)
    assert x.cuda().to("cpu", tg.float64).dtype == tg.float64
    z = tg.zeros(2, 3, device=D)
    z[0] = tg.tensor([1.0, 2, 3], device=D)
    assert z.t().contiguous().cpu().tolist() == [[1, 0], [2, 0], [3, 0]]
    assert tg.full((2,), 7, device=D, dtype=tg.int8).tolist() == [7, 7]


def test_printed_form_and_name_tell_the_device():
    text = repr(tg.ones(2, device=D))
    assert text.startswith("tensor([1., 1.], device='cuda:0'")
    for t in (text, tg.cuda.get_device_name()):
        assert ("emulation" in t) == tg.cuda.is_emulated()


def test_wrong_device_is_refused():
    x, y = tg.ones(2, device=D), tg.ones(2)
    with pytest.raises(tg.DeviceError, match=r"all tensors on one device.*cuda:0.*cpu"):
        x + y
    with pytest.raises(tg.DeviceError):
        x.numpy()
    with pytest.raises(tg.DeviceError, match="cuda:9"):
        tg.ones(1, device="cuda:9")

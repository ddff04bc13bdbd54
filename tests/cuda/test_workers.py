"""Processes forked from one that uses a device: one error that says what to do instead, and nothing else breaks."""

import sys

import pytest
import tinygrad_cpp as tg
from programs import run

cuda = tg.cuda
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux")
REMEDY = r'forked from one that had used its devices.*pin_memory=True, then \.to\("cuda", non_blocking=True\)'


class Samples(tg.utils.data.Dataset):
    """Samples that `make` makes of a number."""

    def __init__(self, make) -> None:
        self.make = make

    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> tg.Tensor:
        return self.make(i)


def on_device(i: int) -> tg.Tensor:
    return tg.full((2,), float(i), device="cuda")


def on_cpu(i: int) -> tg.Tensor:
    return tg.full((2,), float(i))


@pytest.mark.parametrize("batch_size", [2, None])
@pytest.mark.parametrize("way", ["holds", "makes", "moves", "pins", "loads"])
def test_a_worker_that_wants_a_device_is_told_what_to_do(way, batch_size):
    held = tg.ones(4, 2, device="cuda")
    make = {
        "holds": lambda i: held[i],
        "makes": on_device,
        "moves": lambda i: on_cpu(i).cuda(),
        "pins": lambda i: on_cpu(i).pin_memory(),
        "loads": lambda i: tg.tensor([1.0, i], device="cuda"),
    }[way]
    loader = tg.utils.data.DataLoader(Samples(make), batch_size, num_workers=2)
    with pytest.raises(tg.DeviceError, match=f"(?s)Caught DeviceError in DataLoader worker process 0.*{REMEDY}"):
        list(loader)
    assert held.sum().item() == 8


@pytest.mark.parametrize("context", [None, "spawn"])
def test_what_the_error_says_to_do_works(context):
    """Batches of the CPU from forked workers, and of a device from workers that were started anew."""
    tg.ones(1, device="cuda")
    data = Samples(on_device if context else on_cpu)
    loader = tg.utils.data.DataLoader(data, 2, num_workers=1, pin_memory=not context, multiprocessing_context=context)
    batches = list(loader)
    assert all(b.is_cuda if context else b.is_pinned() for b in batches)
    moved = [b.to("cuda", non_blocking=True) for b in batches]
    assert [b.tolist() for b in moved] == [[[0, 0], [1, 1]], [[2, 2], [3, 3]]]


def test_a_forked_process_goes_on_without_a_device():
    """It computes on the CPU, gives back what it has of the other process, and ends; that one keeps its device."""
    program = """
import gc, os, sys
x, p, e, g = tg.ones(3, device="cuda"), tg.ones(3, pin_memory=True), cuda.Event(), cuda.CUDAGraph()
e.record()
with cuda.graph(g):
    y = x + 1
pid = os.fork()
if pid == 0:
    for use in (lambda: x + 1, x.cpu, cuda.synchronize, lambda: tg.ones(1, device="cuda"), g.replay, cuda.Stream):
        try:
            use()
        except tg.DeviceError as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError(use)
    assert cuda.is_available() and p.is_pinned() and p.sum().item() == 3 and (tg.ones(2) + 1).tolist() == [2, 2]
    del x, y, p, e, g
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
g.replay()
assert y.tolist() == [2] * 3 and p.cuda().tolist() == [1] * 3
"""
    run(program)


def test_a_process_that_was_forked_before_may_use_devices():
    program = """
import os, sys
pid = os.fork()
if pid == 0:
    assert tg.ones(3, device="cuda").sum().item() == 3
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert tg.ones(3, device="cuda").sum().item() == 3
"""
    run(program)

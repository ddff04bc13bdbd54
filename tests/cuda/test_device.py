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


def test_assignment_moves_what_is_assigned():
    """As in PyTorch for plain indices; the gradient comes back to where the value was."""
    value = tg.ones(4).requires_grad_()
    x = tg.zeros(3, 4, device=D).requires_grad_()
    y = x * 1.0
    y[0] = value * 3.0
    y[1].copy_(value)
    (y * tg.arange(12.0, device=D).reshape(3, 4)).sum().backward()
    assert value.grad.device.type == "cpu" and value.grad.tolist() == [4, 8, 12, 16]
    assert x.grad.is_cuda and x.grad.tolist() == [[0] * 4, [0] * 4, [8, 9, 10, 11]]
    here = tg.zeros(2, 2)
    here[1] = tg.ones(2, device=D)
    assert here.tolist() == [[0, 0], [1, 1]]
    with pytest.raises(tg.DeviceError, match=r"^index_put_: expected all tensors on one device"):
        y[tg.tensor([0], device=D)] = value


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


F = tg.nn.functional
MIXED = {
    "add": lambda a, b: a + b,
    "matmul": lambda a, b: a @ b,
    "cat": lambda a, b: tg.cat([a, b]),
    "stack": lambda a, b: tg.stack([a, b]),
    "where": lambda a, b: tg.where(a > 0, a, b),
    "gather": lambda a, b: a.gather(0, b.long()),
    "scatter": lambda a, b: a.scatter(0, b.long() * 0, a),
    "index_select": lambda a, b: a.index_select(0, b[0].long()),
    "linear": lambda a, b: F.linear(a, b),
    "embedding": lambda a, b: F.embedding(b.long(), a),
    "cross_entropy": lambda a, b: F.cross_entropy(a, b[:, 0].long()),
    "layer_norm": lambda a, b: F.layer_norm(a, (2,), b[0]),
    "rms_norm": lambda a, b: F.rms_norm(a, (2,), b[0]),
    "group_norm": lambda a, b: F.group_norm(a, 2, b[0]),
    "batch_norm": lambda a, b: F.batch_norm(a, b[0] * 0, b[0] * 1, training=True),
    "prelu": lambda a, b: F.prelu(a, b[0]),
    "conv1d": lambda a, b: F.conv1d(a[None], b[None]),
    "mse_loss": lambda a, b: F.mse_loss(a, b),
    "add_": lambda a, b: a.add_(b),
    "lerp": lambda a, b: tg.lerp(a, b, 0.5),
}


@pytest.mark.parametrize("op", MIXED)
def test_ops_name_the_devices_that_do_not_fit(op):
    for a, b in [(tg.ones(2, 2, device=D), tg.ones(2, 2)), (tg.ones(2, 2), tg.ones(2, 2, device=D))]:
        with pytest.raises(tg.DeviceError) as caught:
            MIXED[op](a, b)
        assert "cuda:0" in str(caught.value) and "cpu" in str(caught.value), caught.value
        assert a.tolist() == [[1, 1], [1, 1]]


def test_a_number_of_the_host_goes_to_the_device():
    """A tensor without dimensions on the CPU counts as a number, as in PyTorch; its gradient comes back to the CPU."""
    x = tg.arange(4.0, device=D, requires_grad=True)
    s = tg.tensor(3.0, requires_grad=True)
    y = x * s + tg.tensor(1)
    assert y.is_cuda and y.tolist() == [1, 4, 7, 10]
    y.sum().backward()
    assert s.grad.device.type == "cpu" and s.grad.item() == 6 and x.grad.is_cuda and x.grad.tolist() == [3] * 4
    assert (tg.tensor(2.0) - x).tolist() == [2, 1, 0, -1] and (x > tg.tensor(1.5)).tolist() == [False, False, True, True]
    assert tg.where(x > 1, x, tg.tensor(0.0)).tolist() == [0, 0, 2, 3]
    z = x.detach().clone()
    assert z.mul_(tg.tensor(2)).tolist() == [0, 2, 4, 6] and z.clamp(max=tg.tensor(3.0)).tolist() == [0, 2, 3, 3]
    host = tg.tensor(1.0)
    with pytest.raises(tg.DeviceError):
        host.add_(x[1].detach())  # what is written to does not move
    assert host.item() == 1
    with pytest.raises(tg.DeviceError):
        x * tg.ones(1)


def test_ops_of_the_cpu_have_gradients():
    a = tg.tensor([[3.0, 1.0], [0.0, 2.0]], device=D, requires_grad=True)
    tg.linalg.inv(a).sum().backward()
    b = a.detach().cpu().requires_grad_(True)
    tg.linalg.inv(b).sum().backward()
    assert a.grad.device == a.device and a.grad.tolist() == b.grad.tolist()


def test_what_is_on_another_device_is_refused():
    x, c = tg.ones(3, requires_grad=True), tg.ones(3, device="cuda")
    with pytest.raises(tg.DeviceError, match="grad: a gradient on cuda:0 does not fit a tensor on cpu"):
        x.grad = c
    with pytest.raises(tg.DeviceError, match=r"add: the result is on cuda:0, which does not fit out=f32\[3\]@cpu"):
        tg.add(c, c, out=tg.zeros(3))
    with pytest.raises(tg.DeviceError, match="add: the result is on cpu, which does not fit out=.*@cuda:0"):
        tg.add(tg.ones(3), 1, out=c)
    with pytest.raises(tg.DeviceError, match="device_copy: cuda: device cuda:9 is not available.*; input=f32"):
        tg.ones(3).to("cuda:9")
    with pytest.raises(tg.DeviceError, match="zeros: cuda: device cuda:9 is not available"):
        tg.zeros(3, device="cuda:9")


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm"])
def test_norms_of_rows_need_few_launches(norm):
    x, w = tg.randn(8, 64, device="cuda", requires_grad=True), tg.randn(64, device="cuda", requires_grad=True)

    def launches(call):
        before = tg._C._cuda_launches()
        call()
        return tg._C._cuda_launches() - before

    y, g = getattr(tg.nn.functional, norm)(x, [64], w), tg.randn(8, 64, device="cuda")
    assert launches(lambda: getattr(tg.nn.functional, norm)(x, [64], w)) == 1
    assert launches(lambda: tg.autograd.grad(y, [x, w], g)) <= 4

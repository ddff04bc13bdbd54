"""Parts of the package written in Python, and what moves values between processes and types, on a CUDA device."""

import copy
import math
import pickle

import pytest
import tinygrad_cpp as tg

D = tg.distributions
F = tg.nn.functional


# ---- numbers that NumPy draws

DRAWN = {
    "Gamma": lambda t: D.Gamma(t([0.5, 2.0]), t([1.0, 3.0])),
    "Chi2": lambda t: D.Chi2(t([3.0])),
    "Beta": lambda t: D.Beta(t([0.5, 2.0]), t([1.0, 3.0])),
    "Dirichlet": lambda t: D.Dirichlet(t([0.5, 2.0, 1.0])),
    "StudentT": lambda t: D.StudentT(t([3.0, 5.0])),
    "Poisson": lambda t: D.Poisson(t([0.5, 20.0])),
    "Binomial": lambda t: D.Binomial(t([5.0, 20.0]), t([0.25, 0.75])),
    "poisson": lambda t: tg.poisson(t([0.5, 20.0, 3.0])),
    "binomial": lambda t: tg.binomial(t([5.0, 20.0]), t([0.25, 0.75])),
}


@pytest.mark.parametrize("name", DRAWN)
def test_draws_are_those_of_the_cpu(name):
    def draw(device: str) -> tg.Tensor:
        tg.manual_seed(11)
        made = DRAWN[name](lambda v: tg.tensor(v, device=device))
        return made if isinstance(made, tg.Tensor) else made.sample((50,))

    here, there = draw("cpu"), draw("cuda")
    assert there.is_cuda and here.dtype is there.dtype and here.shape == there.shape
    assert here.allclose(there.cpu(), 1e-6) and here.unique().numel() > 1  # a few roundings of what NumPy drew


def test_draws_have_the_gradients_of_the_cpu():
    grads = []
    for device in ("cpu", "cuda"):
        tg.manual_seed(5)
        a = tg.tensor([0.3, 1.0, 40.0], dtype=tg.float64, device=device, requires_grad=True)
        D.Gamma(a, 2.0 * tg.ones_like(a)).rsample((4,)).sum().backward()
        grads.append(a.grad)
    assert grads[1].is_cuda and grads[0].allclose(grads[1].cpu(), 1e-9)


# ---- sparse tensors


def both(f):
    """The results of f on the CPU and on the device."""
    return f("cpu"), f("cuda")


INDEX, VALUE = [[2, 0, 2, 1], [1, 0, 1, 2]], [1.0, 2.0, 3.0, 4.0]

SPARSE = {
    "dense": lambda x, d: x.to_dense(),
    "coalesced": lambda x, d: x.coalesce().values(),
    "coordinates": lambda x, d: x.coalesce().indices(),
    "sum of two": lambda x, d: (x + tg.eye(3, device=d).to_sparse()).to_dense(),
    "difference": lambda x, d: (x - tg.eye(3, device=d).to_sparse()).to_dense(),
    "plus a dense one": lambda x, d: x + tg.ones(3, 3, device=d),
    "times a dense one": lambda x, d: x.mul(tg.full((3, 3), 2.0, device=d)).to_dense(),
    "product": lambda x, d: x @ tg.ones(3, 2, device=d),
    "product of two": lambda x, d: (x @ x).to_dense(),
    "transpose": lambda x, d: x.t().coalesce().to_dense(),
    "row sums": lambda x, d: x.sum(1).to_dense(),
    "sum": lambda x, d: tg.sparse.sum(x),
    "converted": lambda x, d: x.double().to_dense(),
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_tensors_have_the_values_of_the_cpu(name):
    here, there = both(lambda d: SPARSE[name](tg.sparse_coo_tensor(INDEX, VALUE, (3, 3), device=d), d))
    assert there.is_cuda and here.equal(there.cpu())


def test_sparse_tensors_move_with_their_coordinates():
    x = tg.sparse_coo_tensor(INDEX, VALUE, (3, 3))
    there = x.to("cuda")
    assert there.is_cuda and there._indices().is_cuda and there.to_dense().cpu().equal(x.to_dense())
    assert not there.cpu()._indices().is_cuda and x.cuda().coalesce().is_cuda
    mixed = tg.sparse_coo_tensor(tg.tensor(INDEX), tg.tensor(VALUE, device="cuda"), (3, 3))  # the values say where
    assert mixed._indices().is_cuda and mixed.to_dense().is_cuda
    assert tg.sparse_coo_tensor((2, 3), device="cuda").to_dense().is_cuda


def test_gradients_reach_the_values_of_a_sparse_tensor():
    v = tg.tensor(VALUE, device="cuda", requires_grad=True)
    tg.sparse_coo_tensor(tg.tensor(INDEX, device="cuda"), v, (3, 3)).coalesce().to_dense().square().sum().backward()
    assert v.grad.is_cuda and v.grad.tolist() == [8, 4, 8, 8]


# ---- checks of gradients


class WrongSlope(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (2 * x + (x > 1.5) * 0.01)


def test_gradcheck_on_the_device():
    x = tg.tensor([[0.5, 1.0], [2.0, -1.0]], dtype=tg.float64, device="cuda", requires_grad=True)
    w = tg.tensor([1.0, -2.0], dtype=tg.float64, device="cuda", requires_grad=True)
    before = x.tolist()
    assert tg.autograd.gradcheck(lambda x, w: (x.T @ w).sigmoid(), (x.T, w))  # one that is not contiguous
    assert tg.autograd.gradgradcheck(lambda x, w: (x.T @ w).sigmoid(), (x, w))
    assert tg.autograd.gradcheck(lambda a, b: a.cuda() * b, (x.detach().cpu().requires_grad_(), w))
    assert x.tolist() == before
    with pytest.raises(tg.AutogradError, match="input 0, element 2"):
        tg.autograd.gradcheck(WrongSlope.apply, (x,))


# ---- pickles


def test_pickles_know_the_device():
    w = tg.nn.Parameter(tg.arange(6.0, device="cuda").reshape(2, 3))
    back = pickle.loads(pickle.dumps(w))
    assert back.device == w.device and back.equal(w) and type(back) is tg.nn.Parameter and back.requires_grad
    row = pickle.loads(pickle.dumps(w.detach()[:, 1]))
    assert row.device == w.device and row.tolist() == [1, 4] and not row.requires_grad
    assert pickle.loads(pickle.dumps(tg.empty(0, 3, device="cuda"))).device == w.device
    assert pickle.loads(pickle.dumps(tg.ones(2))).device == tg.device("cpu")
    with tg.device("cuda"):
        assert pickle.loads(pickle.dumps(tg.ones(2, device="cpu"))).device == tg.device("cpu")
    sparse = pickle.loads(pickle.dumps(tg.eye(2, device="cuda").to_sparse()))
    assert sparse.is_cuda and sparse.to_dense().tolist() == [[1, 0], [0, 1]]


def test_pickled_modules_come_back_on_their_device():
    net = tg.nn.Sequential(tg.nn.Linear(3, 2), tg.nn.BatchNorm1d(2)).cuda()
    back = pickle.loads(pickle.dumps(net))
    assert all(t.is_cuda for t in back.state_dict().values()) and copy.deepcopy(back)[0].weight.is_cuda
    x = tg.randn(4, 3, device="cuda")
    assert back(x).equal(net(x))


def test_a_pickle_names_the_device_that_is_missing():
    make, args = tg.ones(2, device="cuda").__reduce_ex__(2)
    with pytest.raises(tg.DeviceError, match="cuda:9"):
        make(*(tg.device("cuda:9") if isinstance(a, tg.device) else a for a in args))


# ---- types by name


def test_types_by_name_say_where():
    x = tg.ones(2)
    for kind in ("torch.cuda.FloatTensor", tg.cuda.FloatTensor):
        y = x.type(kind)
        assert y.is_cuda and y.type() == "torch.cuda.FloatTensor" and y.type(kind) is y
    y = x.type("torch.cuda.LongTensor")
    assert y.is_cuda and y.dtype is tg.int64 and y.type(tg.float32).is_cuda
    for kind in ("torch.DoubleTensor", "DoubleTensor", tg.DoubleTensor):
        assert y.type(kind).type() == "torch.DoubleTensor"
    assert x.type("torch.FloatTensor") is x
    with pytest.raises(tg.ValueError, match="torch.xpu.FloatTensor"):
        x.type("torch.xpu.FloatTensor")


def test_classes_of_types_make_tensors_there():
    assert tg.cuda.FloatTensor(2, 3).type() == "torch.cuda.FloatTensor" and tg.cuda.ByteTensor().shape == (0,)
    y = tg.cuda.LongTensor([1, 2])
    assert y.is_cuda and y.dtype is tg.int64 and y.tolist() == [1, 2] and tg.cuda.IntTensor(y).is_cuda
    assert isinstance(y, tg.cuda.LongTensor) and not isinstance(y, tg.LongTensor)
    assert not isinstance(y.cpu(), tg.cuda.LongTensor) and tg.LongTensor(y).device.type == "cpu"
    assert y.new([3]).type() == y.new(2).type() == y.type() and y.storage().is_cuda
    with pytest.raises(tg.DeviceError, match="cuda, not cpu"):
        tg.cuda.FloatTensor(2, device="cpu")
    with tg.device("cuda"):
        assert tg.FloatTensor(2).device.type == "cpu" and tg.FloatTensor([1]).device.type == "cpu"


def test_a_copy_of_a_tensor_stays_on_its_device():
    x = tg.ones(2, device="cuda")
    y = tg.tensor(x)
    assert y.device == x.device and y.data_ptr() != x.data_ptr()
    assert tg.tensor(x, dtype=tg.int64).is_cuda and tg.tensor(x, requires_grad=True).is_cuda
    assert tg.tensor(x, device="cpu").device.type == "cpu" and tg.tensor(tg.ones(1)).device.type == "cpu"
    with tg.device("cuda"):
        assert tg.tensor(tg.ones(1, device="cpu")).is_cuda  # as in PyTorch the default is a device that was said


# ---- labels of sequences


@pytest.mark.parametrize("lengths_on", ["cpu", "cuda", "numbers"])
@pytest.mark.parametrize("targets_on", ["cpu", "cuda"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("labels", [[[1, 2, 3], [2, 2, 0]], [1, 2, 3, 2, 2], [[0, 0, 0], [0, 0, 0]]], ids=str)
def test_targets_and_lengths_of_ctc_loss_may_be_on_another_device(device, targets_on, lengths_on, labels):
    """In rows, concatenated, and with targets of no label at all."""
    logits = tg.randn(6, 2, 4)
    lengths = [6, 5], [3, 2] if tg.tensor(labels).sum() > 0 else [0, 0]

    def run(device: str, targets_on: str, lengths, reduction: str):
        x = logits.to(device).detach().requires_grad_()
        targets = tg.tensor(labels, device=targets_on)
        loss = F.ctc_loss(x.log_softmax(-1), targets, *lengths, reduction=reduction)
        loss.sum().backward()
        return loss, x.grad

    given = lengths if lengths_on == "numbers" else [tg.tensor(v, device=lengths_on) for v in lengths]
    for reduction in ("mean", "none"):
        here, there = run("cpu", "cpu", lengths, reduction), run(device, targets_on, given, reduction)
        for a, b in zip(here, there):
            assert b.device.type == device and a.allclose(b.cpu(), 1e-5, 1e-6)
        assert all(math.isfinite(v) for v in here[0].reshape(-1).tolist())


def test_wrong_targets_of_ctc_loss_on_another_device_are_refused():
    x = tg.randn(6, 2, 4, device="cuda").log_softmax(-1)
    with pytest.raises(tg.IndexError, match=r"ctc_loss: targets must lie in \[0, 4\), got 4"):
        F.ctc_loss(x, tg.tensor([[1, 2], [4, 1]]), [6, 6], [2, 2])
    with pytest.raises(tg.DTypeError, match="ctc_loss: targets must be integers"):
        F.ctc_loss(x, tg.ones(2, 2), [6, 6], [2, 2])


def test_packed_sequences_keep_their_lengths_on_the_cpu():
    x = tg.randn(3, 2, 4)
    with tg.device("cuda"):
        packed = tg.nn.utils.rnn.pack_padded_sequence(x.cuda(), [3, 2])
        back, lengths = tg.nn.utils.rnn.pad_packed_sequence(packed)
    assert packed.data.is_cuda and not packed.batch_sizes.is_cuda and not lengths.is_cuda
    assert back[:2].cpu().equal(x[:2]) and lengths.tolist() == [3, 2]


def test_sparse_initialisation():
    w = tg.nn.init.sparse_(tg.empty(10, 4, device="cuda"), 0.3)
    assert (w == 0).sum(0).tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("kind", ["torch.cuda.DoubleTensor", tg.cuda.DoubleTensor])
def test_default_tensor_type_moves_what_is_made(kind):
    try:
        tg.set_default_tensor_type(kind)
        made = tg.ones(2) * 0.5
        assert made.is_cuda and made.dtype == tg.float64
        tg.set_default_tensor_type("torch.FloatTensor")
        assert not tg.ones(2).is_cuda and tg.ones(2).dtype == tg.float32
    finally:
        tg.set_default_device("cpu")
        tg.set_default_dtype(tg.float32)

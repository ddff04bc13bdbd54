"""Recurrent layers, cells, packed sequences and CTC against PyTorch's: outputs, states, gradients."""

import contextlib
import copy
import itertools
import pickle

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn
from tinygrad_cpp.nn.utils import rnn as rnn_utils

torch = pytest.importorskip("torch")
F, TF = nn.functional, torch.nn.functional
trnn = torch.nn.utils.rnn

T, N, I, H = 5, 3, 4, 6
RNG = np.random.default_rng(0)


@contextlib.contextmanager
def fast_paths(on):
    """With and without the fused forms of the layers."""
    tg._C._set_fast_paths(on)
    try:
        yield
    finally:
        tg._C._set_fast_paths(True)


def floats(*shape, dtype=np.float64):
    return RNG.standard_normal(shape).astype(dtype)


def close(a, b, tol=1e-9):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


def pair(name, *args, **kwargs):
    """The module here and PyTorch's in float64, with PyTorch's values."""
    ours = getattr(nn, name)(*args, **kwargs, dtype=tg.float64)
    ref = getattr(torch.nn, name)(*args, **kwargs, dtype=torch.float64)
    assert [(k, tuple(v.shape)) for k, v in ours.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in ref.state_dict().items()
    ]
    ours.load_state_dict({k: tg.tensor(v.numpy()) for k, v in ref.state_dict().items()})
    return ours, ref


def flat(result):
    """The tensors of nested tuples, packed sequences' data included."""
    if isinstance(result, (tg.Tensor, torch.Tensor)):
        return [result] if result.is_floating_point() else []
    return [] if result is None else [t for r in result for t in flat(r)]


def check(ours, ref, mine, theirs, inputs):
    """Same results, and same gradients of weighted sums of them with respect to inputs and parameters."""
    a, b = flat(mine), flat(theirs)
    assert len(a) == len(b)
    weights = [floats(*t.shape) for t in b]
    for x, y in zip(a, b):
        assert tuple(x.shape) == tuple(y.shape)
        close(x, y)
    sum((x * tg.tensor(w)).sum() for x, w in zip(a, weights)).backward()
    sum((y * torch.tensor(w)).sum() for y, w in zip(b, weights)).backward()
    for x, y in inputs:
        close(x.grad, y.grad)
    for (name, p), q in zip(ours.named_parameters(), ref.parameters()):
        assert p.grad is not None, name
        close(p.grad, q.grad)
        close(p, q)


def leaves(*arrays):
    """Leaf tensors of both sides."""
    return [(tg.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)) for a in arrays]


def initial(ref, *shape):
    """Initial states of both sides as the module takes them, and the leaves in them."""
    layers = ref.num_layers * (2 if ref.bidirectional else 1)
    proj = ref.proj_size or ref.hidden_size
    pairs = leaves(*[floats(layers, *shape, n) for n in ([proj, H] if ref.mode == "LSTM" else [proj])])
    mine, theirs = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
    return (mine, theirs, pairs) if ref.mode == "LSTM" else (mine[0], theirs[0], pairs)


OPTIONS = [
    dict(),
    dict(num_layers=2),
    dict(bias=False),
    dict(batch_first=True),
    dict(bidirectional=True),
    dict(num_layers=2, bidirectional=True, batch_first=True, bias=False),
]
CASES = [
    *[(name, o) for name in ("RNN", "LSTM", "GRU") for o in OPTIONS],
    ("RNN", dict(nonlinearity="relu")),
    ("RNN", dict(nonlinearity="relu", num_layers=2, bidirectional=True)),
    ("LSTM", dict(proj_size=2)),
    ("LSTM", dict(proj_size=2, num_layers=2, bidirectional=True, batch_first=True)),
    ("LSTM", dict(proj_size=3, bias=False, num_layers=2)),
]
ids = lambda c: "-".join([c[0], *[f"{k}={v}" for k, v in c[1].items()]])


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("state", [False, True], ids=["zero", "state"])
@pytest.mark.parametrize("fast", [False, True], ids=["composite", "fast"])
def test_layers(case, state, fast):
    name, options = case
    with fast_paths(fast):
        ours, ref = pair(name, I, H, **options)
        assert repr(ours) == repr(ref)
        for batched in (True, False):
            shape = ((N, T) if options.get("batch_first") else (T, N)) if batched else (T,)
            (x, y) = xy = leaves(floats(*shape, I))[0]
            mine, theirs, pairs = initial(ref, *([N] if batched else [])) if state else (None, None, [])
            ours.zero_grad(), ref.zero_grad()
            check(ours, ref, ours(x, mine), ref(y, theirs), [xy, *pairs])


# float32 has kernels of its own: weights packed once for all steps, and an LSTM's gates in one pass.
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("lengths", [[9] * 20, [9, 9, 7, 4, 4, 1]], ids=["padded", "packed"])
@pytest.mark.parametrize("hidden", [70, 256])
def test_float32_layers(name, lengths, hidden):
    ours, ref = pair(name, 40, hidden, bidirectional=True)
    ours.float()
    x = torch.tensor(floats(max(lengths), len(lengths), 40), requires_grad=True)
    y = tg.tensor(x.detach().numpy().astype(np.float32), requires_grad=True)
    a, b = (
        ours(rnn_utils.pack_padded_sequence(y, lengths))[0].data,
        ref(trnn.pack_padded_sequence(x, lengths))[0].data,
    )
    w = floats(*b.shape)
    (a * tg.tensor(w.astype(np.float32))).sum().backward()
    (b * torch.tensor(w)).sum().backward()
    # Sums of `hidden` terms below 1 go through 9 steps and back, each of which may double what is off, and gradients of
    # the weights add up all rows; a wrong term is off by a tenth or more.
    pairs = [(a, b), (y.grad, x.grad), *((p.grad, q.grad) for p, q in zip(ours.parameters(), ref.parameters()))]
    for mine, theirs in pairs:
        scale = float(theirs.detach().abs().max())
        np.testing.assert_allclose(mine.detach().numpy(), theirs.detach().numpy(), rtol=0, atol=2e-5 * scale)


LENGTHS = [[5, 3, 1], [4, 4, 2], [2, 5, 3], [1, 1, 1]]


@pytest.mark.parametrize("case", CASES, ids=ids)
@pytest.mark.parametrize("fast", [False, True], ids=["composite", "fast"])
def test_packed_layers(case, fast):
    name, options = case
    first = options.get("batch_first", False)
    with fast_paths(fast):
        ours, ref = pair(name, I, H, **options)
        for lengths, state in itertools.product(LENGTHS, (False, True)):
            in_order = lengths == sorted(lengths, reverse=True)
            (x, y) = xy = leaves(floats(*((N, T) if first else (T, N)), I))[0]
            mine, theirs, pairs = initial(ref, N) if state else (None, None, [])
            a = rnn_utils.pack_padded_sequence(x, lengths, first, enforce_sorted=in_order)
            b = trnn.pack_padded_sequence(y, lengths, first, enforce_sorted=in_order)
            a, b = ours(a, mine), ref(b, theirs)
            assert isinstance(a[0], rnn_utils.PackedSequence)
            padded, n = rnn_utils.pad_packed_sequence(a[0], first)
            padded_ref, n_ref = trnn.pad_packed_sequence(b[0], first)
            assert n.tolist() == n_ref.tolist() == lengths
            ours.zero_grad(), ref.zero_grad()
            check(ours, ref, (padded, a[1]), (padded_ref, b[1]), [xy, *pairs])


@pytest.mark.parametrize("name", ["RNNCell", "LSTMCell", "GRUCell"])
@pytest.mark.parametrize("options", [dict(), dict(bias=False), dict(nonlinearity="relu")], ids=str)
def test_cells(name, options):
    if "nonlinearity" in options and name != "RNNCell":
        return
    ours, ref = pair(name, I, H, **options)
    assert repr(ours) == repr(ref)
    for shape, state in itertools.product([(N,), ()], [False, True]):
        (x, y) = xy = leaves(floats(*shape, I))[0]
        pairs = leaves(*[floats(*shape, H) for _ in range(2 if name == "LSTMCell" else 1)]) if state else []
        mine, theirs = tuple(p[0] for p in pairs), tuple(p[1] for p in pairs)
        if len(pairs) == 1:
            mine, theirs = mine[0], theirs[0]
        ours.zero_grad(), ref.zero_grad()
        check(
            ours,
            ref,
            ours(x, mine or None) if not state else ours(x, mine),
            ref(y, theirs) if state else ref(y),
            [xy, *pairs],
        )


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_second_order(name):
    """The gradient's gradient, as a penalty on it needs."""
    ours, ref = pair(name, I, H, bidirectional=True)
    (x, y) = leaves(floats(T, N, I))[0]
    for lib, m, v in ((tg, ours, x), (torch, ref, y)):
        (g,) = lib.autograd.grad(m(v)[0].square().sum(), v, create_graph=True)
        g.square().sum().backward()
    close(x.grad, y.grad)
    for p, q in zip(ours.parameters(), ref.parameters()):
        close(p.grad, q.grad)


def test_dropout_between_layers():
    """In training the second layer sees zeros; the last output is never dropped; eval is deterministic."""
    m = nn.LSTM(I, H, num_layers=2, dropout=0.5)
    x = tg.ones(T, N, I)
    assert not tg.equal(m(x)[0], m(x)[0])
    m.eval()
    assert tg.equal(m(x)[0], m(x)[0])
    m.train()
    ones = nn.RNN(1, 1, num_layers=2, nonlinearity="relu", dropout=0.5, bias=False)
    for p in ones.parameters():
        p.data.fill_(1.0 if p is ones.weight_ih_l0 or p is ones.weight_ih_l1 else 0.0)
    out = ones(tg.ones(1, 1000, 1))[0]
    assert sorted(set(out.flatten().tolist())) == [0.0, 2.0] and 400 < (out == 0).sum() < 600
    with pytest.warns(UserWarning, match="dropout acts between layers"):
        nn.GRU(I, H, dropout=0.5)


def test_dtypes_and_dead_ends():
    m = nn.LSTM(I, H, dtype=tg.bfloat16)
    assert m(tg.ones(T, N, I, dtype=tg.bfloat16))[0].dtype == tg.bfloat16
    assert nn.GRU(I, H)(tg.ones(T, 0, I))[0].shape == (T, 0, H)
    errors = [
        (lambda: nn.LSTM(I, H)(tg.ones(T, N, I + 1)), tg.ShapeError, "must have 4 features"),
        (lambda: nn.LSTM(I, H)(tg.ones(4)), tg.ShapeError, "2 .unbatched. or 3 dimensions"),
        (lambda: nn.LSTM(I, H)(tg.ones(0, N, I)), tg.ShapeError, "at least one time step"),
        (lambda: nn.LSTM(I, H)(tg.ones(T, N, I), tg.ones(1, N, H)), tg.ValueError, "expected 2 initial states"),
        (lambda: nn.GRU(I, H)(tg.ones(T, N, I), tg.ones(1, N, 5)), tg.ShapeError, "expected hidden size"),
        (lambda: nn.GRU(I, H)(tg.ones(T, N, I), tg.ones(1, H)), tg.ShapeError, "3 dimensions"),
        (lambda: nn.GRU(I, H)(tg.ones(T, N, I, dtype=tg.float64)), tg.DTypeError, "one floating-point dtype"),
        (lambda: nn.LSTM(I, H)(np.ones((T, N, I))), tg.TypeError, "expected a Tensor, not numpy.ndarray"),
        (lambda: nn.LSTM(I, 2**62), tg.ShapeError, "more than 2.63 elements"),
        (lambda: nn.LSTM(I, 0), tg.ValueError, "hidden_size must be greater than zero"),
        (lambda: nn.LSTM(I, H, num_layers=0), tg.ValueError, "num_layers must be greater than zero"),
        (lambda: nn.LSTM(I, H, proj_size=H), tg.ValueError, "proj_size"),
        (lambda: nn.LSTM(I, 2.5), tg.TypeError, "hidden_size must be an int"),
        (lambda: nn.LSTM(I, H, dropout=2), tg.ValueError, "dropout"),
        (lambda: nn.RNN(I, H, nonlinearity="gelu"), tg.ValueError, "nonlinearity must be"),
        (lambda: nn.RNNCell(I, H)(tg.ones(N, I + 1)), tg.ShapeError, "must have 4 features"),
        (lambda: nn.LSTMCell(I, H)(tg.ones(N, I), tg.ones(N, H)), tg.ValueError, "expected 2 states"),
        (lambda: nn.GRUCell(I, H)(tg.ones(2, N, I)), tg.ShapeError, "1 or 2 dimensions"),
    ]
    for call, kind, text in errors:
        with pytest.raises(kind, match=text):
            call()


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_python_habits(name):
    m = getattr(nn, name)(I, H, num_layers=2, bidirectional=True, batch_first=True, dropout=0.25).eval()
    x = tg.ones(N, T, I)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert type(other) is type(m) and repr(other) == repr(m) and not other.training
        assert tg.equal(other(x)[0], m(x)[0])
        assert other.weight_ih_l0 is not m.weight_ih_l0
    assert m.all_weights[1][0] is m.weight_ih_l0_reverse
    assert m.flatten_parameters() is None
    seen = []
    m.register_forward_hook(lambda mod, args, out: seen.append(out[0].shape))
    m(x)
    assert seen == [(N, T, 2 * H)]

    class Last(getattr(nn, name)):
        def forward(self, input, hx=None):
            return super().forward(input, hx)[0][:, -1]

    net = nn.Sequential(Last(I, H, batch_first=True), nn.Linear(H, 2))
    assert net(x).shape == (N, 2)
    cell = getattr(nn, name + "Cell")(I, H)
    assert tg.equal(flat(copy.deepcopy(cell)(x[:, 0]))[0], flat(cell(x[:, 0]))[0])


def test_computed_weights():
    """A tensor in the place of a weight is used like it: weight norm, and dropped recurrent weights; also in copies."""
    (x, y) = xy = leaves(floats(T, N, I))[0]
    ours, ref = pair("LSTM", I, H)
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(ref, "weight_hh_l0")
    nn.utils.weight_norm(ours, "weight_hh_l0")
    by_name = dict(ref.named_parameters())
    a, b = ours(x)[0], ref(y)[0]
    close(a, b)
    a.square().sum().backward(), b.square().sum().backward()
    for name, p in ours.named_parameters():
        close(p.grad, by_name[name].grad)
    close(x.grad, y.grad)
    assert xy[0] is x
    for m in (nn.GRU(I, H, dtype=tg.float64), copy.deepcopy(nn.GRU(I, H, dtype=tg.float64))):
        raw = m.weight_hh_l0
        del m.weight_hh_l0
        m.raw = nn.Parameter(raw.detach())
        before = m.raw.clone()
        m.weight_hh_l0 = m.raw * 0.0
        zeroed = m(x)[0]
        m.weight_hh_l0 = before
        assert not tg.equal(zeroed, m(x)[0])
        zeroed.sum().backward()
        assert m.raw.grad is not None and "weight_hh_l0" not in dict(m.named_parameters())


def test_initial_values():
    for m in (nn.LSTM(I, 16, num_layers=2), nn.GRUCell(I, 16)):
        for p in m.parameters():
            assert p.abs().max() <= 0.25 and p.std() > 0.08


# ---- packed sequences


def same_packed(a, b):
    close(a.data, b.data)
    for x, y in zip(a[1:], b[1:]):
        assert (x is None) == (y is None)
        assert y is None or x.tolist() == y.tolist()


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_pack_and_pad(first, lengths):
    (x, y) = leaves(floats(*((N, T) if first else (T, N)), I))[0]
    in_order = lengths == sorted(lengths, reverse=True)
    for given in (lengths, tg.tensor(lengths)):
        a = rnn_utils.pack_padded_sequence(x, given, first, enforce_sorted=False)
        b = trnn.pack_padded_sequence(y, torch.tensor(lengths), first, enforce_sorted=False)
        if in_order or len(set(lengths)) == N:  # equal lengths may be sorted either way
            same_packed(a, b)
    if in_order:
        a = rnn_utils.pack_padded_sequence(x, lengths, first)
        same_packed(a, trnn.pack_padded_sequence(y, lengths, first))
    else:
        with pytest.raises(ValueError, match="enforce_sorted=False"):
            rnn_utils.pack_padded_sequence(x, lengths, first)
    for options in (dict(), dict(padding_value=-1.5), dict(total_length=T + 2)):
        p, n = rnn_utils.pad_packed_sequence(a, first, **options)
        q, m = trnn.pad_packed_sequence(b, first, **options)
        close(p, q)
        assert n.tolist() == m.tolist()
    w = floats(*q.shape)
    (p * tg.tensor(w)).sum().backward(), (q * torch.tensor(w)).sum().backward()
    close(x.grad, y.grad)
    assert isinstance(a.to(tg.float32), rnn_utils.PackedSequence) and a.float().data.dtype == tg.float32
    assert not a.is_cuda and a.cpu() is a


def test_sequences():
    arrays = [floats(n, I) for n in (2, 5, 3)]
    mine, theirs = [tg.tensor(a) for a in arrays], [torch.tensor(a) for a in arrays]
    for first, side in itertools.product((False, True), ("left", "right")):
        close(
            rnn_utils.pad_sequence(mine, first, -1.0, side),
            trnn.pad_sequence(theirs, first, -1.0, side),
        )
    packed = rnn_utils.pack_sequence(mine, enforce_sorted=False)
    same_packed(packed, trnn.pack_sequence(theirs, enforce_sorted=False))
    for a, b in zip(rnn_utils.unpack_sequence(packed), arrays):
        np.testing.assert_array_equal(a.numpy(), b)
    padded = rnn_utils.pad_sequence(mine)
    for a, b in zip(rnn_utils.unpad_sequence(padded, [2, 5, 3]), arrays):
        np.testing.assert_array_equal(a.numpy(), b)
    for bad, text in (
        (lambda: rnn_utils.pack_padded_sequence(padded, [0, 2, 3], enforce_sorted=False), "greater than 0"),
        (lambda: rnn_utils.pack_padded_sequence(padded, [9, 2, 3]), "longest length is 9"),
        (lambda: rnn_utils.pack_padded_sequence(padded, [2, 3]), "expected 3 lengths"),
        (lambda: rnn_utils.pad_packed_sequence(packed, total_length=2), "total_length"),
        (lambda: rnn_utils.pad_sequence([]), "at least one sequence"),
    ):
        with pytest.raises((ValueError, tg.ShapeError), match=text):
            bad()


# ---- CTC


def ctc_pair(x, targets, input_lengths, target_lengths, **options):
    """Losses here and there of log-softmax of x, and the gradients of their weighted sum."""
    (a, b) = leaves(x)[0]
    to = lambda lib, v: lib.tensor(v) if isinstance(v, np.ndarray) else v
    mine = F.ctc_loss(F.log_softmax(a, -1), *(to(tg, v) for v in (targets, input_lengths, target_lengths)), **options)
    theirs = TF.ctc_loss(
        TF.log_softmax(b, -1), *(to(torch, v) for v in (targets, input_lengths, target_lengths)), **options
    )
    close(mine, theirs)
    assert tuple(mine.shape) == tuple(theirs.shape)
    w = floats(*theirs.shape)
    (mine * tg.tensor(w)).sum().backward(), (theirs * torch.tensor(w)).sum().backward()
    close(a.grad, b.grad)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("blank", [0, 4])
def test_ctc_loss(reduction, blank):
    steps, batch, classes = 9, 4, 5
    labels = [c for c in range(classes) if c != blank]
    targets = RNG.choice(labels, (batch, 3))
    targets[1] = targets[1, 0]  # repeats need a blank between them
    lengths = np.array([3, 3, 1, 0])
    inputs = np.array([9, 8, 5, 9])
    x = floats(steps, batch, classes)
    options = dict(reduction=reduction, blank=blank)
    ctc_pair(x, targets, inputs, lengths, **options)
    ctc_pair(x, targets, tuple(inputs.tolist()), tuple(lengths.tolist()), **options)
    joined = np.concatenate([t[:n] for t, n in zip(targets, lengths)])
    ctc_pair(x, joined, inputs, lengths, **options)
    ctc_pair(x[:, 0], targets[0], np.array(9), np.array(3), **options)
    ctc_pair(x, targets.astype(np.int32), inputs.astype(np.int32), lengths.astype(np.int32), **options)


def test_ctc_impossible_targets():
    x = floats(3, 2, 4)
    targets = np.array([[1, 1, 2], [1, 2, 3]])  # the first needs four steps
    ctc_pair(x, targets, (3, 3), (3, 3), reduction="none", zero_infinity=True)
    loss = F.ctc_loss(F.log_softmax(tg.tensor(x), -1), tg.tensor(targets), (3, 3), (3, 3), reduction="none")
    assert loss[0] == float("inf") and loss[1] < 100


def test_ctc_module_and_errors():
    assert repr(nn.CTCLoss(blank=1)) == repr(torch.nn.CTCLoss(blank=1))
    x, targets = floats(6, 2, 4), np.array([[1, 2], [3, 1]])
    for lib, module in ((tg, nn), (torch, torch.nn)):
        loss = module.CTCLoss(zero_infinity=True)
        v = module.functional.log_softmax(lib.tensor(x), -1)
        a = loss(v, lib.tensor(targets), lib.tensor([6, 5]), lib.tensor([2, 1]))
        b = loss(v, lib.tensor(targets), (6, 5), (2, 1))
        assert float(a) == float(b)
        if lib is tg:
            mine = float(a)
    assert abs(mine - float(a)) < 1e-12
    v = tg.tensor(x)
    for args, kind, text in (
        ((v, tg.tensor(targets), (7, 5), (2, 1)), tg.ValueError, r"input_lengths must lie in \[0, 6\], got 7"),
        ((v, tg.tensor(targets), (6, 5), (3, 1)), tg.ValueError, r"target_lengths must lie in \[0, 2\], got 3"),
        ((v, tg.tensor(targets), (6,), (2, 1)), tg.ShapeError, "one per sample"),
        ((v, tg.tensor(targets + 3), (6, 5), (2, 1)), tg.IndexError, r"targets must lie in \[0, 4\)"),
        ((v, tg.tensor(targets), (6, 5), (2, 1), 4), tg.IndexError, "blank must lie in"),
        ((v, tg.ones(2, 2), (6, 5), (2, 1)), tg.DTypeError, "targets must be integers"),
        ((v[0, 0], tg.tensor(targets), (6, 5), (2, 1)), tg.ShapeError, "2 or 3 dimensions"),
    ):
        with pytest.raises(kind, match=text):
            F.ctc_loss(*args)
    w = tg.tensor(x, requires_grad=True)
    with pytest.raises(tg.NotImplementedError, match="second derivatives"):
        tg.autograd.grad(F.ctc_loss(w, tg.tensor(targets), (6, 5), (2, 1)), w, create_graph=True)


def test_ctc_gradcheck():
    targets = tg.tensor(np.array([[1, 2], [2, 2]]))
    for options in (dict(), dict(reduction="none"), dict(reduction="sum", blank=3)):
        x = tg.tensor(floats(6, 2, 4), requires_grad=True)
        assert tg.autograd.gradcheck(lambda v, o=options: F.ctc_loss(v, targets, (6, 5), (2, 2), **o), (x,))

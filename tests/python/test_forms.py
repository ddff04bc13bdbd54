"""In-place forms that change the geometry, views of bits, functions in Python, and what arguments mean, against PyTorch."""

import warnings

import numpy as np
import pytest
import tinygrad_cpp as tg
from opmatrix import torch

F = tg.nn.functional

GEOMETRY = {
    "squeeze_": ((2, 1, 3), ()),
    "squeeze_ dim": ((2, 1, 3), (1,)),
    "squeeze_ dims": ((1, 2, 1), ((0, 2),)),
    "unsqueeze_": ((2, 3), (1,)),
    "transpose_": ((2, 3, 4), (0, -1)),
    "swapaxes_": ((2, 3), (0, 1)),
    "swapdims_": ((2, 3), (1, 0)),
    "t_": ((2, 3), ()),
    "as_strided_": ((2, 3), ((2, 2), (3, 1), 1)),
}


def pair(shape, seed=0, grad=False):
    a = np.random.default_rng(seed).normal(size=shape)
    return tg.tensor(a, requires_grad=grad), torch.tensor(a, requires_grad=grad)


def same(a, b, **tol):
    assert tuple(a.shape) == tuple(b.shape), (a.shape, b.shape)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), **tol)


@pytest.mark.oracle
@pytest.mark.parametrize("case", GEOMETRY)
def test_geometry_in_place(case):
    """Values, strides and version; the gradient through it and through a view made before it."""
    name, (shape, args) = case.split()[0], GEOMETRY[case]
    results = []
    for x in pair(shape, grad=True):
        m = tg if isinstance(x, tg.Tensor) else torch
        y = x * 2
        before = y._version
        rows = y.reshape(-1) if name != "as_strided_" else y * 1  # there a view before it has no gradient
        assert getattr(y, name)(*args) is y and y._version == before + 1
        assert y.grad_fn is not None and y.is_contiguous() == (y.stride() == m.empty(y.shape).stride())
        y.mul_(3)
        w = m.arange(1.0, y.numel() + 1, dtype=m.float64).reshape(y.shape)
        ((y * w).sum() + (rows**2).sum()).backward()
        results.append((y, x.grad, y.stride()))
    same(results[0][0], results[1][0])
    same(results[0][1], results[1][1], rtol=1e-12)
    assert results[0][2] == results[1][2]


@pytest.mark.oracle
@pytest.mark.parametrize("case", GEOMETRY)
def test_geometry_in_place_of_views_and_leaves(case):
    name, (shape, args) = case.split()[0], GEOMETRY[case]
    grads = []
    for x in pair((3, *shape), grad=True):
        whole = x * 1
        part = whole[1]
        if name == "as_strided_":
            part.as_strided_((2, 2), (3, 1), part.storage_offset())
        else:
            getattr(part, name)(*args)
        part.mul_(5)  # through the new geometry into the whole
        (whole**2).sum().backward()
        grads.append(x.grad)
    same(*grads, rtol=1e-12)
    leaf = tg.ones(shape, requires_grad=True)
    with pytest.raises(tg.AutogradError, match="_: a leaf tensor"):
        getattr(leaf, name)(*args)
    with pytest.raises(tg.AutogradError, match="a view of a leaf"):
        getattr(leaf[...], name)(*args)
    with tg.no_grad():
        getattr(leaf, name)(*args)
    assert leaf.requires_grad and leaf.is_leaf


def test_saved_values_notice_a_changed_geometry():
    x = tg.ones(2, 1, requires_grad=True)
    y = x * 2
    z = y * y
    y.squeeze_()
    with pytest.raises(tg.AutogradError, match="squeeze_"):
        z.sum().backward()


@pytest.mark.oracle
def test_every_in_place_form_of_pytorch_exists():
    """Of the ops that there are; what is named here has a reason."""
    without = {"apply_", "map_", "map2_", "set_", "share_memory_", "conj_physical_", "resize_as_sparse_"}
    have = set(dir(tg.Tensor))
    wanted = {n for n in dir(torch.Tensor) if n.endswith("_") and not n.startswith("_") and not n.startswith("sparse")}
    missing = {n for n in wanted - have - without if n[:-1] in have or n[:-1] in dir(tg)}
    assert not missing, missing


@pytest.mark.oracle
def test_resize():
    for m in (tg, torch):
        x = m.arange(6.0)
        view = x[2:]
        assert x.resize_(2, 2) is x and x.tolist() == [[0, 1], [2, 3]] and x._version in (0, 1)
        x.resize_(3, 4)
        assert x.view(-1)[:6].tolist() == [0, 1, 2, 3, 4, 5] and view.tolist() == [2, 3, 4, 5]
        x[0, 2] = 9
        assert view[0].item() == 9
        assert m.zeros(0).resize_as_(m.ones(2, 3)).shape == (2, 3)
        with pytest.raises(RuntimeError, match="resize"):
            (m.ones(2, requires_grad=True) * 1).resize_(3)
        with pytest.raises(RuntimeError):
            m.from_numpy(np.ones(2)).resize_(5)
        exported = m.ones(2)
        array = exported.numpy()
        with pytest.raises(RuntimeError):
            exported.resize_(5)
        assert exported.resize_(1).shape == (1,) and array.tolist() == [1, 1]
    assert tg.ones(2).resize_(4).tolist() == [1, 1, 0, 0]
    x = tg.ones(2)
    y = np.from_dlpack(x)
    with pytest.raises(tg.ValueError, match="shared with somebody else"):
        x.resize_(9)
    assert y.tolist() == [1, 1] and x.as_strided((1,), (1,), 1).tolist() == [1]
    with pytest.raises(tg.Error):
        tg.ones(2).resize_(2**62)
    with pytest.raises(tg.ShapeError):
        tg.ones(2).resize_(-1)


def test_a_view_resized_beyond_its_base_has_no_gradient():
    """The base's gradient has no room for it: it was written beyond its end."""
    template = tg.randn(100_000, requires_grad=True)
    with pytest.raises(tg.AutogradError, match="resized beyond its base"):
        tg.zeros(0, 2).t().resize_as_(template).sum().backward()
    within = tg.zeros(2, 3).t()
    within.resize_as_(template[:2]).sum().backward()
    assert within.shape == (2,)


@pytest.mark.oracle
@pytest.mark.parametrize("shape, wrap", [((3, 4), False), ((7, 2), True), ((7, 2), False), ((3, 3, 3), False), ((9, 1), True)])
def test_fill_diagonal(shape, wrap):
    (a, b) = pair(shape, grad=True)
    x, y = (a * 2).fill_diagonal_(5, wrap), (b * 2).fill_diagonal_(5, wrap)
    same(x, y)
    (x**2).sum().backward(), (y**2).sum().backward()
    same(a.grad, b.grad)
    with pytest.raises(tg.ShapeError, match="all sizes must be equal"):
        tg.ones(3, 2, 2).fill_diagonal_(1)


# ---- views of bits


@pytest.mark.oracle
def test_view_as_another_type():
    for m in (tg, torch):
        x = m.arange(8, dtype=m.float32)
        assert x.view(m.int32)[1].item() == 0x3F800000 and x.view(dtype=m.int32).dtype is m.int32
        assert x.view(m.int16).shape == (16,) and x.view(m.int16).view(m.float64).shape == (4,)
        grid = x.view(2, 4)
        assert grid.view(m.float64).shape == (2, 2) and grid[:, 2:].view(m.int64).stride() == (2, 1)
        x.view(m.int32)[0] = 0x40000000
        assert x[0].item() == 2
        for bad in (lambda: m.ones(3).view(m.float64), lambda: m.ones(2, 2).t().view(m.int64), lambda: m.ones(3)[1:].view(m.int64)):
            with pytest.raises(RuntimeError):
                bad()
        assert not m.ones(2, requires_grad=True).view(m.int32).requires_grad
    assert tg.tensor([True]).view(tg.uint8).tolist() == [1]
    with pytest.raises(tg.DTypeError, match="no bool"):
        tg.ones(2, dtype=tg.uint8).view(tg.bool)


@pytest.mark.oracle
def test_nonzero_both_ways():
    x = tg.tensor([[0, 1], [2, 0]])
    y = torch.tensor([[0, 1], [2, 0]])
    for f, g in ((tg.nonzero, torch.nonzero), (tg.Tensor.nonzero, torch.Tensor.nonzero)):
        assert f(x, as_tuple=False).tolist() == g(y, as_tuple=False).tolist() == f(x).tolist()
        assert [t.tolist() for t in f(x, as_tuple=True)] == [t.tolist() for t in g(y, as_tuple=True)]
    (one,) = tg.tensor([0, 3]).nonzero(as_tuple=True)
    assert one.tolist() == [1] and isinstance(tg.tensor([0, 3]).nonzero(as_tuple=False), tg.Tensor)


@pytest.mark.oracle
@pytest.mark.parametrize("n", [1, 2, 3])
def test_adaptive_max_pool_indices(n):
    a = np.random.default_rng(n).integers(0, 4, (2, 3, *[7, 5, 6][:n])).astype(float)  # with ties
    out, at = getattr(F, f"adaptive_max_pool{n}d")(tg.tensor(a), 3, return_indices=True)
    want, where = getattr(torch.nn.functional, f"adaptive_max_pool{n}d")(torch.tensor(a), 3, return_indices=True)
    same(out, want)
    assert at.tolist() == where.tolist()
    assert getattr(F, f"adaptive_max_pool{n}d")(tg.tensor(a), 3, True)[1].tolist() == where.tolist()
    assert len(getattr(F, f"max_pool{n}d")(tg.tensor(a), 2, 1, 0, 1, False, True)) == 2
    module = getattr(tg.nn, f"AdaptiveMaxPool{n}d")(3, return_indices=True)
    assert module(tg.tensor(a))[1].tolist() == where.tolist()


# ---- tables of embeddings


@pytest.mark.oracle
@pytest.mark.parametrize("options", [dict(max_norm=0.7), dict(max_norm=0.5, norm_type=1.0), dict(scale_grad_by_freq=True), dict(padding_idx=2, scale_grad_by_freq=True, max_norm=1.0)])
def test_embedding_options(options):
    index = np.array([[0, 2, 2], [4, 1, 2]])
    (w, v) = pair((5, 3), grad=True)
    for f, g in ((F.embedding, torch.nn.functional.embedding),):
        out, want = f(tg.tensor(index), w, **options), g(torch.tensor(index), v, **options)
        same(out, want)
        (out**2).sum().backward(), (want**2).sum().backward()
        same(w.grad, v.grad)
        same(w, v)
    mine = tg.nn.Embedding(5, 3, _weight=w.detach().clone(), **options)
    theirs = torch.nn.Embedding(5, 3, _weight=v.detach().clone(), **options)
    same(mine(tg.tensor(index)), theirs(torch.tensor(index)))
    same(mine.weight, theirs.weight)


@pytest.mark.oracle
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("last", [False, True])
def test_embedding_bag_with_offsets(mode, last):
    index, offsets = np.array([1, 2, 4, 3, 4, 0, 2]), np.array([0, 3, 3, 5, 7] if last else [0, 3, 3, 5])
    (w, v) = pair((5, 3), grad=True)
    options = dict(mode=mode, include_last_offset=last, padding_idx=4)
    out = F.embedding_bag(tg.tensor(index), w, tg.tensor(offsets), **options)
    want = torch.nn.functional.embedding_bag(torch.tensor(index), v, torch.tensor(offsets), **options)
    same(out, want)
    (out**2).sum().backward(), (want**2).sum().backward()
    same(w.grad, v.grad)


def test_embedding_bag_errors():
    w, i = tg.ones(4, 2), tg.tensor([0, 1, 2])
    for bad in ([1, 2], [0, 2, 1], [0, 9]):
        with pytest.raises((tg.ValueError, tg.IndexError), match="embedding_bag"):
            F.embedding_bag(i, w, tg.tensor(bad))
    with pytest.raises(tg.ValueError, match="mode"):
        F.embedding_bag(i, w, tg.tensor([0]), mode="median")
    with pytest.raises(tg.IndexError):
        F.embedding_bag(tg.tensor([[7]]), w)


# ---- functions in Python


@pytest.mark.oracle
def test_small_functions():
    a = [1.0, -2.0, 3.0]
    for kwargs in ({}, {"N": 5}, {"N": 0}, {"increasing": True}):
        same(tg.vander(tg.tensor(a), **kwargs), torch.vander(torch.tensor(a), **kwargs))
    assert tg.vander(tg.tensor([1, 2])).dtype is tg.int64
    flat = [0, 5, 11, -1]
    for mine, theirs in zip(tg.unravel_index(tg.tensor(flat), (3, 4)), torch.unravel_index(torch.tensor(flat), (3, 4))):
        assert mine.tolist() == theirs.tolist()
    with pytest.raises(tg.IndexError):
        tg.unravel_index(tg.tensor([12]), (3, 4))
    with pytest.raises(tg.DTypeError):
        tg.unravel_index(tg.tensor([1.0]), (3, 4))
    x = tg.rand(3, 4)
    assert tg.narrow_copy(x, 1, 1, 2).data_ptr() != x.narrow(1, 1, 2).data_ptr()
    assert tg.frobenius_norm(x).item() == pytest.approx(float(np.linalg.norm(x.numpy())))
    assert tg.range(1, 3).tolist() == [1, 2, 3] and tg.range(1, 2, 0.5).tolist() == [1, 1.5, 2]
    assert tg.selu(x).tolist() == F.selu(x).tolist() and tg.celu(x).tolist() == F.celu(x).tolist()


@pytest.mark.oracle
def test_gradient():
    a = np.random.default_rng(0).normal(size=(5, 6))
    x, y = tg.tensor(a), torch.tensor(a)
    for m, t in ((tg, x), (torch, y)):
        t.points = [m.tensor([0.0, 1.0, 3.0, 4.0, 7.0], dtype=m.float64), m.arange(6, dtype=m.float64) * 2]
    for f in (
        lambda m, t: m.gradient(t),
        lambda m, t: m.gradient(t, dim=1),
        lambda m, t: m.gradient(t, spacing=0.5, edge_order=2),
        lambda m, t: m.gradient(t, spacing=[2.0, 3.0]),
        lambda m, t: m.gradient(t, spacing=t.points),
        lambda m, t: m.gradient(t, spacing=(t.points[0],), dim=(0,), edge_order=2),
    ):
        for mine, theirs in zip(f(tg, x), f(torch, y), strict=True):
            same(mine, theirs, rtol=1e-12, atol=1e-12)
    for bad in (dict(edge_order=3), dict(spacing=[1.0]), dict(dim=2)):
        with pytest.raises(tg.Error, match="gradient|dim"):
            tg.gradient(x, **bad)


def test_names_of_real_numbers():
    x = tg.tensor([-1.0, 2.0])
    assert tg.real(x) is x and tg.conj(x) is x and tg.isreal(x).tolist() == [True, True] and tg.is_signed(x)
    assert tg.adjoint(tg.ones(2, 3)).shape == (3, 2) and tg.get_device(x) == -1
    assert tg.angle(x).tolist() == pytest.approx([np.pi, 0])
    assert tg.fill(x, 3).tolist() == [3, 3] and x.tolist() == [-1, 2]


@pytest.mark.oracle
def test_frombuffer():
    raw = bytearray(np.arange(6, dtype=np.float32).tobytes())
    x = tg.frombuffer(raw, dtype=tg.float32)
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    x[0] = 7
    assert np.frombuffer(raw, np.float32)[0] == 7
    assert tg.frombuffer(raw, dtype=tg.float32, count=2, offset=4).tolist() == [1, 2]
    assert tg.frombuffer(raw, dtype=tg.bfloat16, count=1).dtype is tg.bfloat16
    assert tg.frombuffer(bytearray(b"\0\1"), dtype=tg.bool).tolist() == [False, True]
    with pytest.warns(UserWarning, match="read-only"):
        assert tg.frombuffer(bytes(raw), dtype=tg.float32)[1].item() == 1
    for bad in (dict(offset=1), dict(count=7), dict(offset=30), dict(offset=-1)):
        with pytest.raises(tg.ValueError, match="frombuffer"):
            tg.frombuffer(raw, dtype=tg.float32, **bad)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hann", "kaiser"])
def test_windows(name):
    for n, periodic in ((0, True), (1, True), (2, False), (9, True), (10, False)):
        mine = getattr(tg, name + "_window")(n, periodic, dtype=tg.float64)
        same(mine, getattr(torch, name + "_window")(n, periodic, dtype=torch.float64), rtol=1e-10, atol=1e-12)
    assert getattr(tg, name + "_window")(4, requires_grad=True).requires_grad
    with pytest.raises(tg.DTypeError):
        getattr(tg, name + "_window")(4, dtype=tg.int64)


@pytest.mark.oracle
def test_losses_in_python():
    for swap in (False, True):
        for reduction in ("none", "mean", "sum"):
            (a, ta), (p, tp), (n, tn) = (pair((4, 3), s, grad=True) for s in range(3))
            out = F.triplet_margin_with_distance_loss(a, p, n, swap=swap, reduction=reduction)
            want = torch.nn.functional.triplet_margin_with_distance_loss(ta, tp, tn, swap=swap, reduction=reduction)
            same(out, want)
            out.sum().backward(), want.sum().backward()
            same(a.grad, ta.grad)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_grid_sample_of_odd_places(padding, mode):
    image = tg.ones(1, 1, 2, 2)
    for place in (np.inf, -np.inf, 1e30, np.nan):
        r = F.grid_sample(image, tg.full((1, 1, 1, 2), place), mode, padding, False).item()
        assert np.isnan(r) or -1e-5 < r < 1 + 1e-5, place
        assert place != 1e30 or padding != "zeros" or r == 0
    assert mode == "nearest" or np.isnan(r)


# ---- what arguments mean


def test_python_types_as_dtypes():
    assert tg.zeros(2, dtype=float).dtype is tg.float64 and tg.ones(2).to(float).dtype is tg.float64
    assert tg.zeros(2, dtype=int).dtype is tg.int64 and tg.zeros(2, dtype=bool).dtype is tg.bool
    assert tg.tensor([1], dtype=float).dtype is tg.float64 and tg.float is tg.float32


@pytest.mark.oracle
@pytest.mark.parametrize("seed", [0, -1, 2**63, 2**64 - 1, -(2**63), 1.7, True, "5", np.int64(3)])
def test_seeds(seed):
    tg.manual_seed(seed)
    torch.manual_seed(seed)
    assert tg.initial_seed() == torch.initial_seed()
    assert tg.Generator().manual_seed(seed).initial_seed() == torch.initial_seed()


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, "a", float("nan"), float("inf")])
def test_seeds_that_are_none(seed):
    for f in (tg.manual_seed, tg.Generator().manual_seed):
        with pytest.raises(tg.ValueError, match="manual_seed"):
            f(seed)
    with pytest.raises(tg.TypeError, match="argument 'seed' must be int, not NoneType"):
        tg.manual_seed(None)


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: tg.tensor(1, dtype="float32"), tg.TypeError, "tensor(): argument 'dtype' must be dtype, not str"),
        (lambda: tg.as_tensor(1, dtype=3), tg.TypeError, "as_tensor(): argument 'dtype' must be dtype, not int"),
        (lambda: tg.tensor(1, device=2.5), tg.TypeError, "tensor(): argument 'device' must be device or str, not float"),
        (lambda: tg.promote_types(1, 2), tg.TypeError, "promote_types(): argument 'type1' must be dtype, not int"),
        (lambda: tg.can_cast(tg.int8, "a"), tg.TypeError, "can_cast(): argument 'to' must be dtype, not str"),
        (lambda: tg.set_default_dtype("a"), tg.TypeError, "set_default_dtype(): argument 'd' must be dtype, not str"),
        (lambda: tg.where(tg.ones(2), 1.0, tg.ones(2)), tg.DTypeError, "condition must be a bool tensor, not float32"),
        (lambda: tg.ones(2).where(tg.tensor([1, 0]), 2), tg.DTypeError, "condition must be a bool tensor, not int64"),
        (lambda: tg.add(tg.tensor(1), 1, alpha=0.5), tg.DTypeError, "add: alpha 0.5 must be an integer"),
        (lambda: tg.sub(tg.tensor(1), 1, alpha=0.5), tg.DTypeError, "sub: alpha 0.5 must be an integer"),
        (lambda: tg.tensor(1).add_(1, alpha=0.5), tg.DTypeError, "add: alpha 0.5 must be an integer"),
        (lambda: tg.rsub(tg.tensor(1), 1, alpha=0.5), tg.DTypeError, "rsub: alpha 0.5 must be an integer"),
        (lambda: tg.add(tg.ones(2), 1, alpha=True), tg.DTypeError, "add: a bool alpha"),
    ],
)
def test_refused_arguments(call, kind, text):
    with pytest.raises(kind) as e:
        call()
    assert text in str(e.value) and "incompatible function arguments" not in str(e.value)


def test_alpha_where_it_is_allowed():
    assert tg.add(tg.tensor(1), 2.5, alpha=0.5).item() == 2.25 and tg.add(tg.tensor(1), 1, alpha=2).item() == 3
    assert tg.add(tg.tensor([True]), tg.tensor([False]), alpha=True).tolist() == [True]


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_losses_warn_of_broadcasting(name):
    with pytest.warns(UserWarning, match=f"{name}: input .* and target .* have different sizes") as w:
        getattr(F, name)(tg.ones(3), tg.ones(3, 1))
    assert w[0].filename == __file__
    with pytest.warns(UserWarning, match="mse_loss"):
        tg.nn.MSELoss()(tg.ones(400, 400), tg.ones(400, 1))  # without the interpreter lock
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(F, name)(tg.ones(3), tg.zeros(3))
        with pytest.raises(UserWarning):
            getattr(F, name)(tg.ones(3), tg.ones(3, 1))


@pytest.mark.oracle
def test_losses_take_the_old_keywords():
    x, t = [0.5, 2.0], [1.0, 1.0]
    for old in (dict(size_average=False), dict(reduce=False), dict(size_average=True, reduce=True), dict(size_average=None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = torch.nn.functional.mse_loss(torch.tensor(x), torch.tensor(t), **old)
        same(F.mse_loss(tg.tensor(x), tg.tensor(t), **old), want)
    with pytest.raises(tg.TypeError, match="size_average"):
        F.relu(tg.ones(1), size_average=False)


def test_inplace_keyword_of_activations():
    for name in ("relu", "leaky_relu", "elu", "celu", "selu", "silu", "mish", "hardsigmoid", "hardswish", "hardtanh"):
        x = tg.tensor([-1.0, 2.0])
        f = getattr(F, name)
        assert f(x, inplace=False) is not x
        want = f(x).tolist()
        assert f(x, inplace=True) is x and x.tolist() == want, name
    x = tg.tensor([-1.0, 2.0])
    assert F.threshold(x, 0.5, 9.0, True) is x and x.tolist() == [9, 2]
    assert F.leaky_relu(tg.tensor(-1.0), 0.5, True).item() == -0.5


def test_large_angles_are_exact():
    """sin and cos pick their way per block of values; each value is the same alone and among others."""
    x = np.random.default_rng(0).uniform(-100, 100, 1000).astype(np.float32)
    x[[3, 700]] = 3e9, np.inf
    for f, g in ((tg.sin, np.sin), (tg.cos, np.cos)):
        with np.errstate(invalid="ignore"):
            want = g(x.astype(np.float64)).astype(np.float32)
        got = f(tg.tensor(x)).numpy()
        np.testing.assert_array_max_ulp(got[np.isfinite(x)], want[np.isfinite(x)], 1)
        assert np.isnan(got[700])
        alone = np.array([f(tg.tensor(v)).item() for v in x[:20]], np.float32)
        assert (alone == got[:20]).all()

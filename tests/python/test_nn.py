"""Modules against PyTorch's: names, shapes, repr, values, gradients; and what Python adds to them."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*shape, hi):
    return RNG.integers(0, hi, shape)


def probs(*shape):
    return RNG.uniform(0.05, 0.95, shape).astype(np.float32)


def signs(*shape):
    return (RNG.integers(0, 2, shape) * 2 - 1).astype(np.float32)


X, IMG, SEQ = (3, 4), (2, 4, 6, 6), (2, 4, 9)

# name, arguments, inputs: arrays or shapes of float arrays
CASES = [
    *[
        (n, {}, [X])
        for n in (
            "ReLU ReLU6 LeakyReLU ELU CELU SELU GELU SiLU Mish Tanh Sigmoid LogSigmoid Softplus Softsign Hardtanh "
            "Hardsigmoid Hardswish Hardshrink Softshrink Tanhshrink GLU Identity PReLU"
        ).split()
    ],
    ("LeakyReLU", dict(negative_slope=0.2, inplace=False), [X]),
    ("GELU", dict(approximate="tanh"), [X]),
    ("Threshold", dict(threshold=0.1, value=20), [X]),
    ("Hardtanh", dict(min_val=-2.0, max_val=0.5), [X]),
    ("Softplus", dict(beta=2, threshold=1), [X]),
    ("PReLU", dict(num_parameters=4), [X]),
    ("Softmax", dict(dim=1), [X]),
    ("LogSoftmax", dict(dim=-1), [X]),
    ("Softmin", dict(dim=0), [X]),
    ("Softmax2d", {}, [IMG]),
    ("Flatten", {}, [IMG]),
    ("Flatten", dict(start_dim=0, end_dim=1), [IMG]),
    ("Unflatten", dict(dim=1, unflattened_size=(2, 2)), [IMG]),
    ("PixelShuffle", dict(upscale_factor=2), [IMG]),
    ("PixelUnshuffle", dict(downscale_factor=2), [IMG]),
    ("ChannelShuffle", dict(groups=2), [IMG]),
    ("Upsample", dict(scale_factor=2), [IMG]),
    ("Upsample", dict(size=(3, 9), mode="bilinear", align_corners=False), [IMG]),
    ("UpsamplingNearest2d", dict(scale_factor=2), [IMG]),
    ("Fold", dict(output_size=(4, 5), kernel_size=(2, 2)), [(1, 8, 12)]),
    ("Unfold", dict(kernel_size=2, stride=2), [IMG]),
    ("LocalResponseNorm", dict(size=2), [IMG]),
    ("CosineSimilarity", {}, [X, X]),
    ("PairwiseDistance", {}, [X, X]),
    ("MaxPool1d", dict(kernel_size=2), [SEQ]),
    ("MaxPool2d", dict(kernel_size=3, stride=2, padding=1), [IMG]),
    ("MaxPool2d", dict(kernel_size=(2, 3), ceil_mode=True), [IMG]),
    ("AvgPool1d", dict(kernel_size=3, stride=2, padding=1), [SEQ]),
    ("AvgPool2d", dict(kernel_size=2), [IMG]),
    ("AvgPool2d", dict(kernel_size=3, padding=1, count_include_pad=False), [IMG]),
    ("AdaptiveAvgPool1d", dict(output_size=4), [SEQ]),
    ("AdaptiveAvgPool2d", dict(output_size=(1, 1)), [IMG]),
    ("AdaptiveAvgPool2d", dict(output_size=4), [IMG]),
    ("AdaptiveMaxPool1d", dict(output_size=4), [SEQ]),
    ("AdaptiveMaxPool2d", dict(output_size=4), [IMG]),
    ("ZeroPad2d", dict(padding=1), [IMG]),
    ("ConstantPad1d", dict(padding=(1, 2), value=0.5), [SEQ]),
    ("ReflectionPad2d", dict(padding=2), [IMG]),
    ("ReplicationPad2d", dict(padding=(1, 2, 0, 1)), [IMG]),
    ("CircularPad2d", dict(padding=1), [IMG]),
    ("Linear", dict(in_features=4, out_features=5), [X]),
    ("Linear", dict(in_features=4, out_features=5, bias=False), [X]),
    ("Bilinear", dict(in1_features=4, in2_features=3, out_features=2), [X, (3, 3)]),
    ("Embedding", dict(num_embeddings=7, embedding_dim=3, padding_idx=1), [ints(2, 5, hi=7)]),
    ("Conv1d", dict(in_channels=4, out_channels=6, kernel_size=3, stride=2, padding=1), [SEQ]),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=3), [IMG]),
    ("Conv2d", dict(in_channels=4, out_channels=4, kernel_size=(3, 2), padding=(1, 0), dilation=2, groups=2), [IMG]),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=(3, 4), padding="same", bias=False), [IMG]),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=3, padding=1, padding_mode="reflect"), [IMG]),
    ("Conv2d", dict(in_channels=4, out_channels=6, kernel_size=3), [(4, 6, 6)]),
    ("Conv3d", dict(in_channels=2, out_channels=3, kernel_size=2), [(1, 2, 3, 4, 5)]),
    ("ConvTranspose1d", dict(in_channels=4, out_channels=3, kernel_size=3, stride=2), [SEQ]),
    (
        "ConvTranspose2d",
        dict(in_channels=4, out_channels=6, kernel_size=3, stride=2, padding=1, output_padding=1, groups=2),
        [IMG],
    ),
    ("LayerNorm", dict(normalized_shape=4), [X]),
    ("LayerNorm", dict(normalized_shape=(6, 6), bias=False), [IMG]),
    ("RMSNorm", dict(normalized_shape=4), [X]),
    ("RMSNorm", dict(normalized_shape=4, eps=1e-3), [X]),
    ("GroupNorm", dict(num_groups=2, num_channels=4), [IMG]),
    ("BatchNorm1d", dict(num_features=4), [X]),
    ("BatchNorm1d", dict(num_features=4, affine=False), [SEQ]),
    ("BatchNorm2d", dict(num_features=4), [IMG]),
    ("BatchNorm2d", dict(num_features=4, momentum=None), [IMG]),
    ("BatchNorm2d", dict(num_features=4, track_running_stats=False), [IMG]),
    ("InstanceNorm1d", dict(num_features=4), [SEQ]),
    ("InstanceNorm2d", dict(num_features=4, affine=True), [IMG]),
    ("InstanceNorm2d", dict(num_features=4, affine=True, track_running_stats=True), [IMG]),
    *[(n, dict(reduction=r), [X, floats(*X)]) for n in ("MSELoss", "L1Loss") for r in ("mean", "sum", "none")],
    ("SmoothL1Loss", dict(beta=0.5), [X, floats(*X)]),
    ("HuberLoss", dict(delta=0.5), [X, floats(*X)]),
    ("CrossEntropyLoss", {}, [X, ints(3, hi=4)]),
    ("CrossEntropyLoss", dict(weight=probs(4), label_smoothing=0.1), [X, ints(3, hi=4)]),
    ("NLLLoss", dict(ignore_index=1), [X, np.array([0, 1, 2])]),
    ("BCELoss", {}, [probs(*X), probs(*X)]),
    ("BCEWithLogitsLoss", dict(pos_weight=probs(4)), [X, probs(*X)]),
    ("KLDivLoss", dict(reduction="batchmean"), [X, probs(*X)]),
    ("PoissonNLLLoss", {}, [X, probs(*X)]),
    ("GaussianNLLLoss", {}, [X, floats(*X), probs(*X)]),
    ("HingeEmbeddingLoss", {}, [X, signs(*X)]),
    ("MarginRankingLoss", dict(margin=0.1), [(3,), (3,), signs(3)]),
    ("CosineEmbeddingLoss", {}, [X, X, signs(3)]),
    ("TripletMarginLoss", {}, [X, X, X]),
    ("SoftMarginLoss", {}, [X, signs(*X)]),
    ("MultiLabelSoftMarginLoss", {}, [X, probs(*X).round()]),
    ("MultiMarginLoss", {}, [X, ints(3, hi=4)]),
]


def pair(name, kwargs):
    """The module here and in PyTorch, with PyTorch's values."""
    to = lambda lib, v: lib.tensor(v) if isinstance(v, np.ndarray) else v
    ours = getattr(nn, name)(**{k: to(tg, v) for k, v in kwargs.items()})
    ref = getattr(torch.nn, name)(**{k: to(torch, v) for k, v in kwargs.items()})
    load_from_torch(ours, ref)
    return ours, ref


def load_from_torch(ours, ref):
    for p in ref.parameters():  # no zeros and ones that hide a wrong use
        with torch.no_grad():
            p.add_(torch.from_numpy(0.1 * floats(*p.shape)))
    ours.load_state_dict({k: tg.tensor(v.detach().numpy()) for k, v in ref.state_dict().items()})


def shapes(module):
    return [(k, tuple(v.shape)) for k, v in module.state_dict().items()]


def close(a, b, tol=2e-5):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


def case_id(case):
    return case[0] + ("" if not case[1] else "-" + "-".join(f"{k}" for k in case[1]))


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_module_against_torch(case, training):
    name, kwargs, inputs = case
    ours, ref = pair(name, kwargs)
    assert repr(ours) == repr(ref)
    assert shapes(ours) == shapes(ref)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in ref.named_parameters()]
    assert [n for n, _ in ours.named_buffers()] == [n for n, _ in ref.named_buffers()]
    ours.train(training), ref.train(training)
    arrays = [floats(*i) if isinstance(i, tuple) else i for i in inputs]
    mine = [tg.tensor(a) for a in arrays]
    theirs = [torch.tensor(a) for a in arrays]
    for t in (mine, theirs):
        for i, x in enumerate(t):
            if x.is_floating_point() and (i == 0 or isinstance(inputs[i], tuple)):
                x.requires_grad_()
    a, b = ours(*mine), ref(*theirs)
    close(a, b)
    if b.requires_grad:
        weights = floats(*b.shape)
        (a * tg.tensor(weights)).sum().backward()
        (b * torch.tensor(weights)).sum().backward()
        for m, t in zip(mine, theirs):
            assert (m.grad is None) == (t.grad is None)
            if t.grad is not None:
                close(m.grad, t.grad, 1e-4)
        for (n, p), q in zip(ours.named_parameters(), ref.parameters()):
            assert p.grad is not None, n
            close(p.grad, q.grad, 1e-4)
    for m, t in zip(ours.buffers(), ref.buffers()):
        close(m, t)


def test_state_dict_goes_to_torch():
    ours = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3 * 16, 5))
    ref = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(3 * 16, 5)
    )
    ref.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    x = floats(2, 1, 6, 6)
    close(ours(tg.tensor(x)), ref(torch.tensor(x)))


MHA = [
    dict(),
    dict(batch_first=True),
    dict(bias=False),
    dict(kdim=6, vdim=5),
    dict(add_bias_kv=True, add_zero_attn=True),
]


@pytest.mark.parametrize("options", MHA, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention(options, need_weights):
    ours, ref = pair("MultiheadAttention", dict(embed_dim=8, num_heads=2, **options))
    assert shapes(ours) == shapes(ref)
    n, length, s = 3, 4, 5
    order = (lambda a: a) if options.get("batch_first") else (lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)))
    q = order(floats(n, length, 8))
    k, v = order(floats(n, s, options.get("kdim", 8))), order(floats(n, s, options.get("vdim", 8)))
    pad = np.zeros((n, s), bool)
    pad[1, 3:] = True
    masks = [
        {},
        dict(key_padding_mask=pad),
        dict(attn_mask=np.triu(np.ones((length, s), bool), 2)),
        dict(attn_mask=floats(n * 2, length, s), average_attn_weights=False),
        dict(attn_mask=floats(length, s), key_padding_mask=np.where(pad, -1e9, 0).astype(np.float32)),
    ]
    for mask in masks:
        to = lambda lib, m=mask: {k: lib.tensor(v) if isinstance(v, np.ndarray) else v for k, v in m.items()}
        a, wa = ours(tg.tensor(q), tg.tensor(k), tg.tensor(v), need_weights=need_weights, **to(tg))
        b, wb = ref(torch.tensor(q), torch.tensor(k), torch.tensor(v), need_weights=need_weights, **to(torch))
        close(a, b)
        assert (wa is None) == (wb is None)
        if wb is not None:
            close(wa, wb)
    a.sum().backward(), b.sum().backward()
    for (name, p), t in zip(ours.named_parameters(), ref.parameters()):
        close(p.grad, t.grad, 1e-4), name


def test_attention_unbatched_and_causal():
    ours, ref = pair("MultiheadAttention", dict(embed_dim=8, num_heads=2))
    x = floats(4, 8)
    m = np.triu(np.ones((4, 4), bool), 1)
    for need in (True, False):
        a, wa = ours(*[tg.tensor(x)] * 3, need_weights=need, attn_mask=tg.tensor(m), is_causal=True)
        b, wb = ref(*[torch.tensor(x)] * 3, need_weights=need, attn_mask=torch.tensor(m), is_causal=True)
        close(a, b)
        if need:
            close(wa, wb)
    with pytest.raises(tg.ShapeError, match="attn_mask must be of size"):
        ours(*[tg.tensor(x)] * 3, attn_mask=tg.tensor(m[:2]))


# ---- what Python adds


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a = nn.Linear(4, width)
        self.b = nn.Linear(width, 2)
        self.scale = nn.Parameter(tg.ones(2))
        self.register_buffer("steps", tg.zeros(1))
        self.width = width

    def forward(self, x):
        return self.b(self.a(x).relu()) * self.scale


def test_registration_by_assignment():
    m = Net()
    assert [n for n, _ in m.named_parameters()] == ["scale", "a.weight", "a.bias", "b.weight", "b.bias"]
    assert list(m.state_dict()) == ["scale", "steps", "a.weight", "a.bias", "b.weight", "b.bias"]
    assert m.a.weight is m.a.weight and m.a is m.a and m.scale is m.scale
    assert isinstance(m.scale, nn.Parameter) and isinstance(m.a.weight, nn.Parameter)
    assert [n for n, _ in m.named_modules()] == ["", "a", "b"]
    assert m.get_submodule("a") is m.a and m.get_parameter("a.weight") is m.a.weight
    assert m.get_buffer("steps") is m.steps
    assert {"a", "scale", "steps", "forward", "width"} <= set(dir(m))
    del m.scale
    assert not hasattr(m, "scale") and "scale" not in m.state_dict()
    m.steps = tg.ones(1)
    assert "steps" in m.state_dict() and float(m.steps) == 1
    m.a = None
    assert m.a is None and "a.weight" not in m.state_dict()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'|no attribute"):
        m.nothing  # noqa: B018
    with pytest.raises(AttributeError):
        m.get_submodule("x.y")


def test_assignment_errors():
    m = Net()
    with pytest.raises(TypeError, match="as parameter 'scale'"):
        m.scale = tg.ones(2)
    with pytest.raises(TypeError, match="as child module 'a'"):
        m.a = 3
    with pytest.raises(TypeError, match="as buffer 'steps'"):
        m.steps = 3
    with pytest.raises(ValueError, match="can't contain"):
        m.register_buffer("a.b", tg.ones(1))
    with pytest.raises(TypeError, match="must be a Parameter"):
        m.register_parameter("p", tg.ones(1))

    class Early(nn.Module):
        def __init__(self):
            self.a = nn.Linear(1, 1)

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()


def test_weight_tying():
    m = Net(4)
    m.c = nn.Linear(4, 4)
    m.c.weight = m.a.weight
    assert m.c.weight is m.a.weight
    assert len(list(m.parameters())) == 6 and "c.weight" in m.state_dict()
    m(tg.ones(1, 4)).sum().backward()
    assert m.c.weight.grad is m.a.weight.grad
    n = copy.deepcopy(m)
    assert n.c.weight is n.a.weight and n.c.weight is not m.c.weight


def test_load_state_dict_names_everything():
    m = Net()
    state = dict(m.state_dict())
    del state["a.bias"]
    state["extra"] = tg.ones(1)
    state["b.weight"] = tg.ones(3, 3)
    before = m.a.weight.clone()
    state["a.weight"] = tg.zeros(8, 4)
    with pytest.raises(RuntimeError) as e:
        m.load_state_dict(state)
    for part in ('Missing key(s) in state_dict: "a.bias"', 'Unexpected key(s) in state_dict: "extra"', "b.weight"):
        assert part in str(e.value)
    assert tg.equal(m.a.weight, before)
    state["b.weight"] = m.b.weight
    r = m.load_state_dict(state, strict=False)
    assert r.missing_keys == ["a.bias"] and r.unexpected_keys == ["extra"]
    assert float(m.a.weight.abs().sum()) == 0
    assert repr(m.load_state_dict(m.state_dict())) == "<All keys matched successfully>"


def test_to_and_modes():
    m = Net()
    w = m.a.weight
    assert m.double() is m and m.a.weight is w and w.dtype == tg.float64 and m.steps.dtype == tg.float64
    m.to(tg.float32).half().float()
    assert w.dtype == tg.float32
    m.eval()
    assert not m.training and not m.a.training
    m.train()
    assert m.b.training
    m.requires_grad_(False)
    assert not any(p.requires_grad for p in m.parameters())
    m.requires_grad_(True)
    m(tg.ones(1, 4)).sum().backward()
    m.zero_grad()
    assert w.grad is None
    seen = []
    m.apply(lambda k: seen.append(type(k).__name__))
    assert seen == ["Linear", "Linear", "Net"]
    with pytest.raises(tg.TypeError, match="floating-point types, got tinygrad_cpp.int64"):
        m.to(tg.int64)


def test_copies_and_pickles():
    m = nn.Sequential(Net(), nn.ReLU(), nn.BatchNorm1d(2), nn.Dropout(0.25), nn.Conv2d(1, 2, 3, padding="same"))
    m[0].tag = [1, 2]
    m.eval()
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert repr(n) == repr(m) and type(n[0]) is Net and n[0].tag == [1, 2] and n[0].tag is not m[0].tag
        assert not n.training and n[3].p == 0.25 and n[4].padding == "same"
        for (a, p), (b, q) in zip(m.state_dict().items(), n.state_dict().items()):
            assert a == b and tg.equal(p, q) and p.data_ptr() != q.data_ptr()
        x = tg.randn(3, 4)
        assert tg.equal(n[:3](x), m[:3](x))
    assert copy.copy(m[0]).a is m[0].a


def test_hooks():
    m = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    x = tg.randn(2, 3, requires_grad=True)
    plain = m(x)
    log = []
    handles = [
        m[0].register_forward_pre_hook(lambda mod, args: log.append(("pre", len(args)))),
        m[0].register_forward_hook(lambda mod, args, out: log.append("post") or out * 2),
        m[0].register_full_backward_hook(lambda mod, gi, go: log.append(("back", gi[0].shape, go[0].shape))),
        m.register_forward_hook(lambda mod, args, kw, out: log.append("all"), with_kwargs=True),
    ]
    y = m(x)
    assert log == [("pre", 1), "post", "all"]
    np.testing.assert_allclose(y.detach().numpy(), 2 * plain.detach().numpy(), rtol=1e-6)
    y.sum().backward()
    assert log[3:] == [("back", (2, 3), (2, 3))]
    log.clear()
    for h in handles:
        h.remove()
    assert tg.equal(m(x), plain) and log == []


def test_forward_override_is_called_from_cpp():
    class Twice(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    class Deep(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(Twice(3, 3), nn.Sequential(nn.ReLU(), Twice(3, 3)))

        def forward(self, x):
            return self.inner(x)

    m = Deep()
    x = tg.randn(2, 3)
    a, b = m.inner[0], m.inner[1][1]
    F = nn.functional
    want = F.linear(F.relu(F.linear(x, a.weight, a.bias) * 2), b.weight, b.bias) * 2
    np.testing.assert_allclose(m(x).detach().numpy(), want.detach().numpy(), rtol=1e-6)
    a.forward = lambda t: t * 0 + 1
    ones = F.linear(F.relu(tg.ones(2, 3)), b.weight, b.bias) * 2
    np.testing.assert_allclose(m(x).detach().numpy(), ones.detach().numpy(), rtol=1e-6)


def test_python_objects_stay_alive_in_cpp():
    m = nn.Sequential(nn.Linear(2, 2), Net())
    m[0].tag = "kept"
    gc.collect()
    assert m[0].tag == "kept" and type(m[1]) is Net and m[1].width == 8


def test_cycles_are_collected():
    class Child(nn.Module):
        pass

    def leak():
        p = Child()
        p.c = Child()
        p.c.__dict__["parent"] = p  # not registered: a plain reference back
        p.s = nn.Sequential(Child(), nn.ReLU())
        p.s[0].__dict__["parent"] = p
        p.l = nn.Linear(2, 2)
        p.l.__dict__["me"] = p.l
        return weakref.ref(p), weakref.ref(p.c), weakref.ref(p.s[0]), weakref.ref(p.l)

    refs = leak()
    gc.collect()
    gc.collect()
    assert [r() for r in refs] == [None] * 4


def test_a_module_that_contains_itself():
    m = nn.Sequential(nn.ReLU())
    m.add_module("me", m)
    for f in (m.state_dict, m.eval, lambda: repr(m)):
        with pytest.raises(ValueError, match="levels"):
            f()
    del m.me


def test_containers():
    layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    ref = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])
    assert repr(layers) == repr(ref) and len(layers) == 3
    first = layers[0]
    layers.insert(0, nn.ReLU())
    assert layers[1] is first and layers[-3] is first and isinstance(layers[:2], nn.ModuleList)
    layers.append(nn.Tanh())
    del layers[0]
    assert [type(k).__name__ for k in layers] == ["Linear", "Linear", "Linear", "Tanh"]
    assert list(layers.state_dict())[0] == "0.weight" and first in layers
    with pytest.raises(IndexError):
        layers[9]
    with pytest.raises(TypeError):
        layers.append(3)

    from collections import OrderedDict

    s = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.ReLU()))
    assert s.a is s[0] and [n for n, _ in s[:1].named_children()] == ["a"] and len(s) == 2
    d = nn.ModuleDict({"x": nn.Linear(1, 1), "y": nn.ReLU()})
    ref = torch.nn.ModuleDict({"x": torch.nn.Linear(1, 1), "y": torch.nn.ReLU()})
    assert repr(d) == repr(ref) and list(d) == ["x", "y"] and "x" in d and d["x"] is d.x
    assert type(d.pop("y")) is nn.ReLU and len(d) == 1
    p = nn.ParameterList([tg.ones(2), nn.Parameter(tg.zeros(3))])
    assert len(p) == 2 and isinstance(p[0], nn.Parameter) and list(p.state_dict()) == ["0", "1"]
    q = nn.ParameterDict({"w": tg.ones(2)})
    assert list(q.state_dict()) == ["w"] and q["w"] is q.w
    assert len(list(nn.Sequential(p, q).parameters())) == 3


def test_sequential_passes_other_values():
    class Two(nn.Module):
        def forward(self, x):
            return x, x * 2

    class Add(nn.Module):
        def forward(self, pair):
            return pair[0] + pair[1]

    x = tg.ones(2)
    assert nn.Sequential(Two(), Add(), nn.ReLU())(x).tolist() == [3, 3]
    with pytest.raises(TypeError):
        nn.Sequential(nn.ReLU())(3)


def test_settings_are_attributes():
    d = nn.Dropout(0.5)
    d.p = 0.0
    x = tg.randn(5)
    assert d.p == 0.0 and tg.equal(d(x), x)
    assert nn.MaxPool2d(2).stride == 2 and nn.ReflectionPad2d(1).padding == (1, 1, 1, 1)
    with pytest.raises(TypeError, match="unexpected argument 'q'"):
        nn.Dropout(q=1)
    with pytest.raises(TypeError, match="missing argument 'kernel_size'"):
        nn.MaxPool2d()
    with pytest.raises(TypeError, match="p must be num"):
        nn.Dropout("a")
    out, idx = nn.MaxPool2d(2, return_indices=True)(tg.randn(1, 1, 4, 4))
    assert idx.dtype == tg.int64 and out.shape == idx.shape
    y = tg.tensor([-1.0, 2.0])
    assert nn.ReLU(inplace=True)(y) is y and y.tolist() == [0, 2]


def test_module_paths():
    assert nn.modules.linear.Linear is nn.Linear and nn.Linear.__module__ == "tinygrad_cpp.nn.modules.linear"
    assert nn.modules.activation.ReLU is nn.ReLU and nn.modules.conv.Conv2d is nn.Conv2d
    assert nn.modules.container.Sequential is nn.Sequential and nn.modules.module.Module is nn.Module


def test_initialisers():
    tg.manual_seed(0)
    w = tg.empty(60, 40)
    nn.init.orthogonal_(w, gain=2.0)
    np.testing.assert_allclose((w.T @ w).numpy(), 4 * np.eye(40), atol=1e-4)
    nn.init.trunc_normal_(w, std=0.5, a=-0.7, b=0.9)
    a = w.numpy()
    assert a.min() >= -0.7 and a.max() <= 0.9 and abs(a.std() - 0.39) < 0.05
    nn.init.kaiming_uniform_(w, nonlinearity="relu")
    assert np.abs(w.numpy()).max() <= np.sqrt(6 / 40) and np.abs(w.numpy()).max() > 0.95 * np.sqrt(6 / 40)
    nn.init.xavier_normal_(w)
    assert abs(w.numpy().std() - np.sqrt(2 / 100)) < 0.01
    nn.init.sparse_(w, 0.25)
    assert ((w.numpy() == 0).sum(0) == 15).all()
    for shape in [(4, 4, 3), (6, 2, 3, 3)]:
        ours, ref = tg.empty(*shape), torch.empty(*shape)
        nn.init.dirac_(ours), torch.nn.init.dirac_(ref)
        close(ours, ref)
    nn.init.eye_(w)
    assert np.array_equal(w.numpy(), np.eye(60, 40))
    for name, param in [("relu", None), ("tanh", None), ("leaky_relu", 0.2), ("linear", None), ("selu", None)]:
        assert nn.init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))
    lin = nn.Linear(100, 50)
    assert np.abs(lin.weight.detach().numpy()).max() <= 0.1 and np.abs(lin.bias.detach().numpy()).max() <= 0.1


def test_bad_input():
    with pytest.raises(ValueError, match="Linear: sizes can't be negative"):
        nn.Linear(-1, 3)
    with pytest.raises(ValueError, match="divisible by groups"):
        nn.Conv2d(3, 4, 3, groups=2)
    with pytest.raises(ValueError, match="divisible by num_heads"):
        nn.MultiheadAttention(8, 3)
    with pytest.raises(ValueError, match="BatchNorm2d: expected 4 dimensions, got 2"):
        nn.BatchNorm2d(3)(tg.ones(2, 3))
    with pytest.raises(NotImplementedError, match="does not define forward"):
        nn.Module()(tg.ones(1))
    lin = nn.Linear(2, 2)
    lin.weight = None
    with pytest.raises(TypeError, match="has no weight"):
        lin(tg.ones(1, 2))
    with pytest.raises(RuntimeError):
        nn.Linear(3, 2)(tg.ones(1, 2))


def test_constructors_name_what_does_not_fit():
    with pytest.raises(TypeError) as e:
        nn.Linear("a", 3)
    assert "Blank" not in str(e.value) and "in_features" in str(e.value)
    with pytest.raises(tg.TypeError, match="Linear: missing a required argument: 'out_features'"):
        nn.Linear(3)
    with pytest.raises(tg.TypeError, match="Conv2d: in_channels must be int, not str"):
        nn.Conv2d("a", 3, 3)
    with pytest.raises(tg.TypeError, match="AdaptiveAvgPool2d: an argument cannot be of type tuple"):
        nn.AdaptiveAvgPool2d((1, "a"))


@pytest.mark.parametrize("name", ["AdaptiveAvgPool2d", "AdaptiveMaxPool2d"])
def test_adaptive_pooling_keeps_sizes(name):
    ours, ref = pair(name, dict(output_size=(2, None)))
    assert repr(ours) == repr(ref) and ours.output_size == (2, None)
    x = floats(1, 2, 4, 6)
    close(ours(tg.tensor(x)), ref(torch.tensor(x)))


def test_adaptive_pooling_options():
    x = tg.rand(1, 2, 4, 6)
    assert nn.functional.adaptive_avg_pool2d(x, (2, None)).shape == (1, 2, 2, 6)
    assert nn.functional.adaptive_max_pool2d(x, [None, 3]).shape == (1, 2, 4, 3)

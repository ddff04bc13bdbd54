"""Transformer layers and attention against PyTorch's: outputs, gradients, masks, names."""

import copy
import itertools
import pickle
import warnings

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import nn

torch = pytest.importorskip("torch")
warnings.filterwarnings("ignore", message="enable_nested_tensor is True")

L, S, N, D, HEADS, FF = 4, 5, 3, 8, 2, 16
RNG = np.random.default_rng(0)


def floats(*shape):
    return RNG.standard_normal(shape)


def close(a, b, tol=1e-9):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


def ours_like(ours, ref):
    """Our module with PyTorch's values; the names and shapes must be the same."""
    shapes = lambda m: [(k, tuple(v.shape)) for k, v in m.state_dict().items()]
    assert shapes(ours) == shapes(ref)
    assert repr(ours) == repr(ref)
    ours.load_state_dict({k: tg.tensor(v.numpy()) for k, v in ref.state_dict().items()})
    return ours.train(ref.training), ref


def pair(name, *args, **kwargs):
    kwargs.setdefault("dropout", 0.0)
    return ours_like(
        getattr(nn, name)(*args, **kwargs, dtype=tg.float64),
        getattr(torch.nn, name)(*args, **kwargs, dtype=torch.float64),
    )


def both(values):
    """A dict of arrays as tensors of both sides."""
    to = lambda lib: {k: lib.tensor(v) if isinstance(v, np.ndarray) else v for k, v in values.items()}
    return to(tg), to(torch)


def run_both(ours, ref, arrays, options):
    """Same outputs for the same inputs, and the same gradients everywhere."""
    mine = [tg.tensor(a, requires_grad=True) for a in arrays]
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    here, there = both(options)
    a, b = ours(*mine, **here), ref(*theirs, **there)
    a, b = (a, b) if isinstance(b, tuple) else ((a,), (b,))
    ours.zero_grad(), ref.zero_grad()
    losses = []
    for x, y in zip(a, b):
        assert (x is None) == (y is None)
        if y is not None:
            assert tuple(x.shape) == tuple(y.shape)
            close(x, y)
            w = floats(*y.shape)
            losses.append(((x * tg.tensor(w)).sum(), (y * torch.tensor(w)).sum()))
    sum(x for x, _ in losses).backward(), sum(y for _, y in losses).backward()
    for x, y in zip(mine, theirs):
        close(x.grad, y.grad)
    for (name, p), q in zip(ours.named_parameters(), ref.parameters()):
        assert (p.grad is None) == (q.grad is None), name
        if q.grad is not None:
            close(p.grad, q.grad)


def inputs(first, batched, *lengths):
    sizes = lambda n: ((N, n, D) if first else (n, N, D)) if batched else (n, D)
    return [floats(*sizes(n)) for n in lengths]


def padding(length, batched=True):
    mask = np.zeros((N, length), bool)
    mask[1, length - 2 :] = True
    return mask if batched else mask[1]


def causal(n):
    return np.triu(np.ones((n, n), bool), 1)


def additive(mask):
    return np.where(mask, -np.inf, 0.0)


# ---- attention

ATTENTION = [
    dict(),
    dict(bias=False),
    dict(kdim=6, vdim=5),
    dict(add_bias_kv=True),
    dict(add_zero_attn=True),
    dict(add_bias_kv=True, add_zero_attn=True, kdim=6, vdim=5, bias=False),
]


def attention_masks(batched):
    rows = N if batched else 1
    mask = np.triu(np.ones((L, S), bool), 2)
    yield {}
    yield dict(attn_mask=mask)
    yield dict(attn_mask=floats(L, S))
    yield dict(attn_mask=floats(rows * HEADS, L, S))
    yield dict(attn_mask=np.broadcast_to(mask, (rows * HEADS, L, S)).copy())
    yield dict(key_padding_mask=padding(S, batched))
    yield dict(key_padding_mask=additive(padding(S, batched)))
    yield dict(key_padding_mask=padding(S, batched), attn_mask=mask)
    yield dict(key_padding_mask=additive(padding(S, batched)), attn_mask=floats(L, S))
    yield dict(attn_mask=mask, is_causal=True)


@pytest.mark.parametrize("options", ATTENTION, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("batched", [False, True], ids=["unbatched", "batched"])
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_attention(options, first, batched):
    ours, ref = pair("MultiheadAttention", D, HEADS, batch_first=first, **options)
    order = lambda a: a if first or not batched else a.transpose(1, 0, 2).copy()
    lead = (N,) if batched else ()
    q = order(floats(*lead, L, D))
    k, v = order(floats(*lead, S, options.get("kdim", D))), order(floats(*lead, S, options.get("vdim", D)))
    for mask in attention_masks(batched):
        if mask.get("is_causal") and (options.get("add_bias_kv") or options.get("add_zero_attn")):
            continue  # the hint is about a mask of another size there
        for need, average in ((True, True), (True, False), (False, True)):
            if mask.get("is_causal") and not need:
                continue  # PyTorch takes the hint for the top-left triangle; see test_causal_hint
            run_both(ours, ref, [q, k, v], dict(mask, need_weights=need, average_attn_weights=average))


def test_causal_hint():
    for first, batched in itertools.product((False, True), (False, True)):
        ours, ref = pair("MultiheadAttention", D, HEADS, batch_first=first)
        (x,) = inputs(first, batched, L)
        here = [tg.tensor(x, requires_grad=True)] * 3
        there = [torch.tensor(x, requires_grad=True)] * 3
        for need in (True, False):
            a, _ = ours(*here, attn_mask=tg.tensor(causal(L)), is_causal=True, need_weights=need)
            b, _ = ref(*there, attn_mask=torch.tensor(causal(L)), is_causal=True, need_weights=need)
            close(a, b)
        a.sum().backward(), b.sum().backward()
        close(here[0].grad, there[0].grad)
    with pytest.raises(tg.ValueError, match="is_causal"):
        ours(*here, is_causal=True)


def test_attention_dropout():
    ours = nn.MultiheadAttention(D, HEADS, dropout=0.5)
    x = tg.tensor(floats(L, N, D), dtype=tg.float32)
    assert not tg.equal(ours(x, x, x)[0], ours(x, x, x)[0])
    ours.eval()
    assert tg.equal(ours(x, x, x)[0], ours(x, x, x)[0])


# ---- layers

LAYERS = [
    dict(),
    dict(norm_first=True),
    dict(batch_first=True, activation="gelu"),
    dict(norm_first=True, batch_first=True, bias=False, layer_norm_eps=1e-3),
]


def source_masks(n, batched, prefix, padding_name):
    """What the masks of self-attention over n positions may look like."""
    mask, pad = prefix + "mask", padding_name
    yield {}
    yield {mask: causal(n)}
    yield {mask: additive(causal(n))}
    yield {pad: padding(n, batched)}
    yield {pad: additive(padding(n, batched)), mask: additive(causal(n))}
    yield {pad: padding(n, batched), mask: causal(n)}


@pytest.mark.parametrize("options", LAYERS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("batched", [False, True], ids=["unbatched", "batched"])
def test_encoder_layer(options, batched):
    ours, ref = pair("TransformerEncoderLayer", D, HEADS, FF, **options)
    arrays = inputs(options.get("batch_first"), batched, S)
    for masks in source_masks(S, batched, "src_", "src_key_padding_mask"):
        run_both(ours, ref, arrays, masks)
    run_both(ours, ref, arrays, dict(src_mask=additive(causal(S)), is_causal=True))
    ours.eval(), ref.eval()
    run_both(ours, ref, arrays, {})


@pytest.mark.parametrize("options", LAYERS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("batched", [False, True], ids=["unbatched", "batched"])
def test_decoder_layer(options, batched):
    ours, ref = pair("TransformerDecoderLayer", D, HEADS, FF, **options)
    arrays = inputs(options.get("batch_first"), batched, L, S)
    memory = [{}, dict(memory_mask=floats(L, S)), dict(memory_key_padding_mask=padding(S, batched))]
    for own, other in itertools.product(source_masks(L, batched, "tgt_", "tgt_key_padding_mask"), memory):
        run_both(ours, ref, arrays, own | other)
    run_both(ours, ref, arrays, dict(tgt_mask=causal(L), tgt_is_causal=True))


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_activations(kind):
    for give in ("relu", "gelu", lambda m: m.functional.silu, lambda m: m.GELU(), lambda m: m.ReLU()):
        to = lambda m, g=give: g if isinstance(g, str) else g(m)
        ours, ref = ours_like(
            getattr(nn, f"Transformer{kind}Layer")(D, HEADS, FF, 0.0, to(nn), dtype=tg.float64),
            getattr(torch.nn, f"Transformer{kind}Layer")(D, HEADS, FF, 0.0, to(torch.nn), dtype=torch.float64),
        )
        run_both(ours, ref, inputs(False, True, L, S)[: 1 if kind == "Encoder" else 2], {})
    with pytest.raises(tg.ValueError, match="activation must be"):
        nn.TransformerEncoderLayer(D, HEADS, FF, activation="tanh")


@pytest.mark.parametrize("final_norm", [False, True])
def test_stacks(final_norm):
    to = lambda m, t: m.LayerNorm(D, dtype=t) if final_norm else None
    for kind, lengths in (("Encoder", (S,)), ("Decoder", (L, S))):
        layer, ref_layer = pair(f"Transformer{kind}Layer", D, HEADS, FF)
        ours, ref = ours_like(
            getattr(nn, f"Transformer{kind}")(layer, 3, to(nn, tg.float64)),
            getattr(torch.nn, f"Transformer{kind}")(ref_layer, 3, to(torch.nn, torch.float64)),
        )
        first = ours.layers[0].linear1.weight
        assert first is not layer.linear1.weight and first is not ours.layers[1].linear1.weight
        assert tg.equal(first, layer.linear1.weight)
        masks = [{}, dict(mask=causal(S))] if kind == "Encoder" else [{}, dict(tgt_mask=additive(causal(L)))]
        for options in masks:
            run_both(ours, ref, inputs(False, True, *lengths), options)


@pytest.mark.parametrize("first", [False, True], ids=["time first", "batch first"])
@pytest.mark.parametrize("norm_first", [False, True], ids=["post-norm", "pre-norm"])
def test_transformer(first, norm_first):
    options = dict(num_encoder_layers=2, num_decoder_layers=1, dim_feedforward=FF, batch_first=first)
    ours, ref = pair("Transformer", D, HEADS, norm_first=norm_first, **options)
    tgt_mask = nn.Transformer.generate_square_subsequent_mask(L, dtype=tg.float64).numpy()
    np.testing.assert_array_equal(tgt_mask, torch.nn.Transformer.generate_square_subsequent_mask(L).numpy())
    cases = [
        {},
        dict(tgt_mask=tgt_mask),
        dict(
            tgt_mask=causal(L),
            tgt_is_causal=True,
            src_key_padding_mask=padding(S),
            memory_key_padding_mask=padding(S),
            tgt_key_padding_mask=padding(L),
        ),
        dict(src_mask=floats(S, S), memory_mask=floats(L, S)),
    ]
    for masks in cases:
        run_both(ours, ref, inputs(first, True, S, L), masks)
    run_both(ours, ref, inputs(first, False, S, L), {})


def test_transformer_errors():
    m = nn.Transformer(D, HEADS, 1, 1, FF)
    with pytest.raises(tg.ShapeError, match="batch number of src and tgt must be equal, 3 vs 2"):
        m(tg.ones(S, 3, D), tg.ones(L, 2, D))
    with pytest.raises(tg.ShapeError, match="tgt must have d_model = 8 features, got 9"):
        m(tg.ones(S, 3, D), tg.ones(L, 3, 9))
    with pytest.raises(tg.ShapeError, match="attn_mask must be of size"):
        m(tg.ones(S, 3, D), tg.ones(L, 3, D), tgt_mask=tg.ones(2, 2))


def test_initial_values():
    tg.manual_seed(1)
    m = nn.Transformer(64, 4, 1, 1, 256)
    bound = np.sqrt(6 / (64 + 256))
    w = m.encoder.layers[0].linear1.weight
    assert w.abs().max() <= bound and w.std() > 0.9 * bound / np.sqrt(3)
    assert nn.TransformerEncoderLayer(64, 4).linear1.out_features == 2048


# ---- what Python adds


def test_copies_and_pickles():
    m = nn.Transformer(D, HEADS, 1, 1, FF, activation="gelu").eval()
    src, tgt = tg.ones(S, N, D), tg.ones(L, N, D)
    for other in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert repr(other) == repr(m)
        assert tg.equal(other(src, tgt), m(src, tgt))
        assert other.encoder.layers[0].self_attn.in_proj_weight is not m.encoder.layers[0].self_attn.in_proj_weight


def test_hooks_and_overrides():
    seen = []

    class Mine(nn.TransformerEncoderLayer):
        def _ff_block(self, x):
            seen.append("ff")
            return super()._ff_block(x)

    class Other(nn.MultiheadAttention):
        def forward(self, query, key, value, **kwargs):
            seen.append("attention")
            return super().forward(query, key, value, **kwargs)

    layer = Mine(D, HEADS, FF)
    layer.self_attn.out_proj.register_forward_hook(lambda *a: seen.append("out_proj"))
    layer.self_attn.register_forward_hook(lambda *a: seen.append("hook"))
    layer.norm1 = nn.RMSNorm(D)
    stack = nn.TransformerEncoder(layer, 2)
    stack(tg.ones(S, N, D))
    assert seen.count("ff") == 2 and seen.count("hook") == 2
    assert isinstance(stack.layers[1].norm1, nn.RMSNorm)
    stack.layers[0].self_attn = Other(D, HEADS)
    stack(tg.ones(S, N, D))
    assert seen.count("attention") == 1


def test_learns_to_copy():
    """A small encoder learns to repeat its input one position later."""
    tg.manual_seed(0)
    embed, head = nn.Embedding(6, 16), nn.Linear(16, 6)
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 1)
    place = nn.Parameter(tg.randn(8, 16) * 0.5)
    params = [place, *embed.parameters(), *head.parameters(), *net.parameters()]
    opt = tg.optim.Adam(params, lr=5e-3)
    mask = nn.Transformer.generate_square_subsequent_mask(8)
    for _ in range(200):
        x = tg.randint(0, 6, (16, 8))
        logits = head(net(embed(x) + place, mask, is_causal=True))
        loss = nn.functional.cross_entropy(logits[:, 1:].reshape(-1, 6), x[:, :-1].reshape(-1))
        opt.zero_grad(), loss.backward(), opt.step()
    assert loss < 0.3

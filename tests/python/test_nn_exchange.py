"""State dicts go from PyTorch to here and back for every module class, in memory and in safetensors files: same names,
shapes and repr; same outputs, and gradients of inputs and parameters."""

import numpy as np
import pytest
import tinygrad_cpp as tg
from test_nn import CASES, IMG, SEQ, X, close, floats, ints, load_from_torch
from tinygrad_cpp import nn

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")

VOL = (1, 2, 4, 5, 6)
D = 8
RANDOM = np.random.default_rng(0).random((2, 4, 2), dtype=np.float32)
LAYER = dict(d_model=D, nhead=2, dim_feedforward=16, dropout=0.0)
UNPOOL = {
    n: [a.numpy() for a in getattr(torch.nn, f"MaxPool{n}d")(2, return_indices=True)(torch.randn(1, 2, *[6] * n))]
    for n in (1, 2, 3)
}


def encoder(lib, name="TransformerEncoderLayer"):
    return getattr(lib.nn, name)(**LAYER)


def without_dropout(name):
    return (name, dict(p=0.0), [IMG if name[-2:] != "1d" else SEQ])


def pad(kind, n, **more):
    return (f"{kind}Pad{n}d", dict(padding=1, **more), [{1: SEQ, 2: IMG, 3: VOL}[n]])


def lazy(name, kwargs, shape):
    return ("Lazy" + name, kwargs, [shape])


# as in test_nn.CASES; settings that need the library itself are functions of it
MORE = [
    ("RReLU", dict(lower=0.2, upper=0.2), [X]),
    ("MultiheadAttention", dict(embed_dim=D, num_heads=2), [(3, 2, D), (5, 2, D), (5, 2, D)]),
    (
        "AdaptiveLogSoftmaxWithLoss",
        dict(in_features=16, n_classes=9, cutoffs=[3, 6], div_value=2),
        [(6, 16), ints(6, hi=9)],
    ),
    (
        "AdaptiveLogSoftmaxWithLoss",
        dict(in_features=16, n_classes=9, cutoffs=[3], head_bias=True),
        [(6, 16), ints(6, hi=3)],
    ),
    ("BatchNorm3d", dict(num_features=2), [VOL]),
    ("SyncBatchNorm", dict(num_features=4), [IMG]),
    ("ConvTranspose3d", dict(in_channels=2, out_channels=3, kernel_size=2), [VOL]),
    *map(without_dropout, "Dropout Dropout1d Dropout2d Dropout3d AlphaDropout FeatureAlphaDropout".split()),
    ("InstanceNorm3d", dict(num_features=2, affine=True), [VOL]),
    lazy("Linear", dict(out_features=3), X),
    lazy("Linear", dict(out_features=3, bias=False), X),
    *(lazy(f"Conv{n}d", dict(out_channels=4, kernel_size=2, stride=2), {1: SEQ, 2: IMG, 3: VOL}[n]) for n in (1, 2, 3)),
    *(
        lazy(f"ConvTranspose{n}d", dict(out_channels=4, kernel_size=2, groups=2), {1: SEQ, 2: IMG, 3: VOL}[n])
        for n in (1, 2, 3)
    ),
    *(lazy(f"{k}Norm{n}d", {}, {1: SEQ, 2: IMG, 3: VOL}[n]) for k in ("Batch", "Instance") for n in (1, 2, 3)),
    lazy("InstanceNorm2d", dict(affine=True, track_running_stats=True), IMG),
    ("NLLLoss2d", {}, [(2, 3, 4, 5), ints(2, 4, 5, hi=3)]),
    ("MultiLabelMarginLoss", {}, [X, np.array([[1, 0, -1, 2], [3, -1, 0, 1], [0, 1, 2, 3]])]),
    ("CTCLoss", {}, [(12, 2, 5), ints(2, 3, hi=4) + 1, np.array([12, 10]), np.array([3, 2])]),
    ("TripletMarginWithDistanceLoss", dict(margin=0.5, swap=True), [X, X, X]),
    (
        "TripletMarginWithDistanceLoss",
        lambda lib: dict(distance_function=lambda a, b: (a - b).abs().sum(-1)),
        [X, X, X],
    ),
    *(pad(k, n) for k in ("Zero", "Reflection", "Replication", "Circular") for n in (1, 2, 3) if (k, n) != ("Zero", 2)),
    *(pad("Constant", n, value=0.5) for n in (1, 2, 3)),
    ("MaxPool3d", dict(kernel_size=2), [VOL]),
    ("AvgPool3d", dict(kernel_size=2), [VOL]),
    ("LPPool1d", dict(norm_type=2, kernel_size=3), [SEQ]),
    ("LPPool2d", dict(norm_type=2.0, kernel_size=(2, 3), stride=2), [IMG]),
    ("LPPool3d", dict(norm_type=3.0, kernel_size=2), [np.abs(floats(*VOL))]),
    ("AdaptiveAvgPool3d", dict(output_size=(2, None, 3)), [VOL]),
    ("AdaptiveMaxPool3d", dict(output_size=2), [VOL]),
    *((f"MaxUnpool{n}d", dict(kernel_size=2), UNPOOL[n]) for n in (1, 2, 3)),
    ("FractionalMaxPool2d", dict(kernel_size=2, output_size=3, _random_samples=RANDOM), [IMG]),
    (
        "FractionalMaxPool2d",
        dict(kernel_size=(2, 3), output_ratio=(0.5, 0.6), return_indices=True, _random_samples=RANDOM),
        [IMG],
    ),
    ("FractionalMaxPool3d", dict(kernel_size=2, output_size=(2, 3, 2), _random_samples=floats(1, 2, 3) % 1), [VOL]),
    ("GRU", dict(input_size=4, hidden_size=3, num_layers=2, bidirectional=True), [(5, 2, 4)]),
    ("LSTM", dict(input_size=4, hidden_size=3, num_layers=2, batch_first=True), [(5, 2, 4)]),
    ("LSTM", dict(input_size=4, hidden_size=3, proj_size=2), [(5, 2, 4)]),
    ("RNN", dict(input_size=4, hidden_size=3, nonlinearity="relu"), [(5, 2, 4)]),
    *((n + "Cell", dict(input_size=4, hidden_size=3), [(2, 4)]) for n in ("GRU", "LSTM", "RNN")),
    ("EmbeddingBag", dict(num_embeddings=7, embedding_dim=3), [ints(2, 5, hi=7)]),
    (
        "EmbeddingBag",
        dict(num_embeddings=7, embedding_dim=3, mode="sum", padding_idx=1),
        [ints(6, hi=7), np.array([0, 2, 2])],
    ),
    ("EmbeddingBag", dict(num_embeddings=7, embedding_dim=3, mode="max"), [ints(2, 5, hi=7)]),
    ("Transformer", dict(num_encoder_layers=1, num_decoder_layers=1, **LAYER), [(3, 2, D), (4, 2, D)]),
    ("TransformerEncoderLayer", LAYER, [(3, 2, D)]),
    ("TransformerEncoderLayer", dict(norm_first=True, activation="gelu", batch_first=True, **LAYER), [(3, 2, D)]),
    ("TransformerDecoderLayer", LAYER, [(3, 2, D), (4, 2, D)]),
    ("TransformerEncoder", lambda lib: dict(encoder_layer=encoder(lib), num_layers=2), [(3, 2, D)]),
    (
        "TransformerDecoder",
        lambda lib: dict(decoder_layer=encoder(lib, "TransformerDecoderLayer"), num_layers=2),
        [(3, 2, D), (4, 2, D)],
    ),
    ("UpsamplingBilinear2d", dict(scale_factor=2), [IMG]),
    ("DataParallel", lambda lib: dict(module=lib.nn.Linear(4, 2)), [X]),
    ("Sequential", lambda lib: [lib.nn.Linear(4, 3), lib.nn.BatchNorm1d(3), lib.nn.ReLU()], [X]),
]
# classes without forward, or without state and settings of their own; test_containers and the like are about them
BASES = "Checkpoint Module ModuleDict ModuleList ParameterDict ParameterList RNNBase RNNCellBase".split()
CUDA_ONLY = {("SyncBatchNorm", True)}  # in PyTorch, with (class, training)


def make(lib, name, settings):
    if callable(settings):
        settings = settings(lib)
    if isinstance(settings, list):
        return getattr(lib.nn, name)(*settings)
    to = lambda v: lib.tensor(v) if isinstance(v, np.ndarray) else v
    return getattr(lib.nn, name)(**{k: to(v) for k, v in settings.items()})


def flat(x):
    """The tensors of nested tuples."""
    return [t for part in x for t in flat(part)] if isinstance(x, (tuple, list)) else [] if x is None else [x]


def to_numpy(t):
    return t.detach().numpy()


def run(lib, module, arrays, wants_grad):
    """Outputs, and gradients of inputs and parameters with fixed weights on the outputs, as arrays by name."""
    rng = np.random.default_rng(1)
    module.zero_grad()
    inputs = [lib.tensor(a) for a in arrays]
    for t, wanted in zip(inputs, wants_grad):
        t.requires_grad_(wanted and t.is_floating_point())
    # PyTorch's gradient of ctc_loss takes it for granted that log_softmax follows
    head = [lib.log_softmax(inputs[0], -1) if isinstance(module, lib.nn.CTCLoss) else inputs[0]]
    out = flat(module(*head, *inputs[1:]))
    found = {f"output {i}": to_numpy(t) for i, t in enumerate(out)}
    wanted = [t for t in out if t.requires_grad]
    if wanted:
        sum((t * lib.tensor(rng.standard_normal(tuple(t.shape)).astype(np.float32))).sum() for t in wanted).backward()
    found |= {f"grad of input {i}": to_numpy(t.grad) for i, t in enumerate(inputs) if t.grad is not None}
    found |= {f"grad of {n}": to_numpy(p.grad) for n, p in module.named_parameters() if p.grad is not None}
    return found | {f"buffer {n}": to_numpy(b) for n, b in module.named_buffers()}


def same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, a in theirs.items():
        np.testing.assert_allclose(ours[name], a, rtol=1e-4, atol=2e-5, err_msg=name)


def test_every_class_is_in_the_table():
    classes = {n for n, c in vars(nn).items() if isinstance(c, type) and issubclass(c, nn.Module)}
    assert classes == {name for name, *_ in [*CASES, *MORE]} | set(BASES)
    theirs = {n for n, c in vars(torch.nn).items() if isinstance(c, type) and issubclass(c, torch.nn.Module)}
    # an empty old base; LocalResponseNorm with other windows at the border; one that is still changing
    assert theirs - classes == {"Container", "CrossMapLRN2d", "LinearCrossEntropyLoss"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("case", [*CASES, *MORE], ids=lambda c: c[0])
def test_exchange(case, training, tmp_path):
    name, settings, inputs = case
    if (name, training) in CUDA_ONLY:
        pytest.skip("PyTorch runs it on a GPU only")
    arrays = [floats(*i) if isinstance(i, tuple) else i for i in inputs]
    wants_grad = [i == 0 or isinstance(x, tuple) for i, x in enumerate(inputs)]
    ours, ref = make(tg, name, settings), make(torch, name, settings)
    if name.startswith("Lazy"):
        assert repr(ours) == repr(ref)
        ours(tg.tensor(arrays[0])), ref(torch.tensor(arrays[0]))
        assert type(ours) is getattr(nn, name[4:])
    assert repr(ours) == repr(ref)
    ours.train(training), ref.train(training)

    load_from_torch(ours, ref)
    back = make(torch, name, settings)
    if name.startswith("Lazy"):
        back(torch.tensor(arrays[0]))
    back.train(training)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, v.shape) for k, v in ref.state_dict().items()]
    back.load_state_dict({k: torch.tensor(v.numpy()) for k, v in ours.state_dict().items()})
    theirs = run(torch, ref, arrays, wants_grad)
    same(run(tg, ours, arrays, wants_grad), theirs)
    same(run(torch, back, arrays, wants_grad), theirs)

    state = {k: v.contiguous() for k, v in ref.state_dict().items()}
    if not state:
        return
    safetensors.save_file(state, tmp_path / "theirs.safetensors")
    ours.load_state_dict(tg.load(tmp_path / "theirs.safetensors"))
    tg.save(ours.state_dict(), tmp_path / "ours.safetensors")
    back.load_state_dict(safetensors.load_file(tmp_path / "ours.safetensors"))
    theirs = run(torch, ref, arrays, wants_grad)
    same(run(tg, ours, arrays, wants_grad), theirs)
    same(run(torch, back, arrays, wants_grad), theirs)


def test_names_of_methods():
    """What PyTorch's Module and containers have, they have here."""
    for name in "Module ModuleList ModuleDict Sequential ParameterList ParameterDict".split():
        theirs = {m for m in dir(getattr(torch.nn, name)) if not m.startswith("_")}
        # other devices, and the type of an annotation
        missing = theirs - set(dir(getattr(nn, name))) - {"T_destination", "call_super_init", "ipu", "mtia", "xpu"}
        assert not missing, name


def test_close_is_strict():
    with pytest.raises(AssertionError):
        close(tg.tensor([1.0]), torch.tensor([1.001]))

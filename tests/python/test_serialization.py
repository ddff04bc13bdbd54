"""Files: what save() writes, PyTorch's .pt files, what load() refuses, and damaged files."""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import zipfile

import numpy as np
import pytest
import tinygrad_cpp as tg
from conftest import HAVE_TORCH
from tinygrad_cpp import nn

if HAVE_TORCH:
    import torch

oracle = pytest.mark.oracle


def round_trip(obj, **options):
    f = io.BytesIO()
    tg.save(obj, f)
    f.seek(0)
    return tg.load(f, **options)


# ---- our own files


def test_saving_to_a_symbolic_link_replaces_what_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir()
    link, file = tmp_path / "last", tmp_path / "disk" / "step1"
    (tmp_path / "alias").symlink_to("disk/step1")
    link.symlink_to("alias")
    for x in (1, 2):  # at first there is nothing behind the links
        tg.save({"x": x}, link)
        assert link.is_symlink() and not file.is_symlink() and tg.load(file) == tg.load(link) == {"x": x}
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["alias", "disk", "last", "step1"]
    round_about = tmp_path / "circle"
    round_about.symlink_to("circle")
    with pytest.raises(tg.IoError, match="circle.*symbolic links"):
        tg.save({}, round_about)
    assert round_about.is_symlink()


def test_views_of_one_memory_stay_views_of_one_memory():
    base = tg.arange(12.0).reshape(3, 4)
    a, row, t, again, tail = round_trip([base, base[1], base.t(), base, base[1:, 2:]])
    assert a is again
    a[1, 2] = 99
    assert row[2] == 99 and t[2, 1] == 99 and tail[0, 0] == 99
    assert t.stride() == (1, 4) and tail.shape == (2, 2) and tail.stride() == (4, 1)


def test_views_without_their_base_store_only_what_they_cover():
    big = tg.zeros(1_000_000)
    f = io.BytesIO()
    tg.save([big[10:20], big[15:25]], f)
    assert len(f.getvalue()) < 2000
    f.seek(0)
    a, b = tg.load(f)
    a[9] = 7
    assert b[4] == 7 and b.shape == (10,)


def test_parameters_that_share_memory():
    p = nn.Parameter(tg.ones(4))
    back = round_trip({"p": p, "same": p, "view": p.detach()[1:]})
    assert isinstance(back["p"], nn.Parameter) and back["p"] is back["same"] and back["p"].requires_grad
    with tg.no_grad():
        back["p"][1] = 5
    assert back["view"][0] == 5 and not back["view"].requires_grad


def test_numpy_memory_with_negative_steps():
    a = tg.from_numpy(np.arange(6.0)[::-1].copy())
    flipped = a.numpy()[::-1]
    b = tg.from_numpy(flipped)
    back = round_trip([a, b])
    assert back[0].tolist() == a.tolist() and back[1].tolist() == b.tolist()


def test_whole_modules():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.BatchNorm1d(3))
    model(tg.randn(4, 2))
    back = round_trip(model.eval())
    assert type(back) is nn.Sequential and not back.training
    x = tg.randn(5, 2)
    assert (back(x) == model(x)).all() and back[2].num_batches_tracked == 1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = self.a
        self.size = 7

    def forward(self, x):
        return self.b(self.a(x))


def test_classes_of_ones_own_need_consent():
    f = io.BytesIO()
    tg.save({"model": Net()}, f)
    f.seek(0)
    with pytest.raises(tg.FormatError, match=r"Net.*safe_globals"):
        tg.load(f)
    f.seek(0)
    with tg.serialization.safe_globals([Net]):
        assert tg.serialization.get_safe_globals() == [Net]
        back = tg.load(f, weights_only=True)["model"]
    assert tg.serialization.get_safe_globals() == []
    assert type(back) is Net and back.size == 7 and back.a is back.b
    tg.serialization.add_safe_globals([(Net, "elsewhere.Net")])
    tg.serialization.clear_safe_globals()


def test_states_that_fit_no_module():
    """Files say what a module holds; a wrong state is an error, at once or when the module is used."""
    from tinygrad_cpp.serialization import _Reader

    def mapping(**items):
        return {"dict": [[k, v] for k, v in items.items()]}

    plain = dict(fields=mapping(), tensors=[], children=[], dict=mapping())
    states = [
        mapping(), mapping(**plain), mapping(**{**plain, "tensors": [{"tuple": ["weight", {"tensor": "w"}, 0, True]}]}),
        mapping(**{**plain, "tensors": 3}), mapping(**{**plain, "tensors": [{"tuple": ["weight", None, 0, True]}]}),
        mapping(**{**plain, "tensors": [{"tuple": ["weight", {"tensor": "w"}, 77, True]}]}),
        mapping(**{**plain, "fields": mapping(in_features="x")}), mapping(**{**plain, "fn": "relu"}),
        mapping(**{**plain, "children": [{"tuple": ["a", 3]}]}), mapping(**{**plain, "children": [{"tuple": ["a", {"same": 0}]}]}),
        mapping(**{**plain, "dict": mapping(_forward_hooks=3, forward=3, training=3)}),
    ]  # fmt: skip
    paths = (
        "linear.Linear activation.ReLU conv.Conv2d batchnorm.BatchNorm2d container.Sequential sparse.Embedding".split()
    )
    for path in paths:
        for state in states:
            tree = {"object": ["tinygrad_cpp.nn.modules." + path, 0, state]}
            try:
                module = _Reader({"w": tg.ones(2, 2)}).decode(tree)
                repr(module), module.state_dict(), module(tg.ones(1, 2))
            except (tg.Error, AttributeError, TypeError):
                pass


class Options:
    def __init__(self):
        self.width = 3


def test_objects():
    back = round_trip({"args": argparse.Namespace(lr=0.1, sizes=[1, 2]), "f": nn.functional.relu})
    assert back["args"] == argparse.Namespace(lr=0.1, sizes=[1, 2]) and back["f"] is nn.functional.relu
    with pytest.raises(tg.TypeError, match="Options at o; allow its class"):
        tg.save({"o": Options()}, io.BytesIO())
    with tg.serialization.safe_globals([Options]):
        assert round_trip(Options()).width == 3
    with pytest.raises(tg.TypeError, match="builtins.print"):
        tg.save(print, io.BytesIO())


def test_missing_files_and_odd_arguments(tmp_path):
    with pytest.raises(FileNotFoundError):
        tg.load(tmp_path / "none.pt")
    with pytest.raises(tg.IoError):
        tg.load(str(tmp_path / "none.pt"))
    with pytest.raises(tg.TypeError):
        tg.load(3)
    with pytest.raises(tg.TypeError):
        tg.save([1], 3)
    path = tmp_path / "a.pt"
    tg.save({"w": tg.ones(2)}, path)
    seen = []
    for where in ("cpu", tg.device("cpu"), {"cuda:0": "cpu"}, lambda storage, name: seen.append(name)):
        assert tg.load(path, map_location=where, weights_only=False, mmap=True)["w"].tolist() == [1, 1]
    assert seen == ["cpu"]
    with pytest.raises(tg.TypeError, match="map_location"):
        tg.load(path, map_location=3)
    with pytest.raises(tg.DeviceError):
        tg.load(path, map_location="cuda")


# ---- PyTorch's files


@oracle
def test_reads_files_of_pytorch(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    dtypes = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64".split()
    obj = {
        "views": [base, base[1], base.t(), base[:, 1:3]],
        "plain": [1, -2.5, "ä", None, True, (1, (2,)), {3, 4}, 2**70, b"bytes"],
        "parameter": torch.nn.Parameter(torch.ones(2), requires_grad=False),
        "leaf": torch.ones(2, requires_grad=True),
        "types": {d: torch.tensor([1, 0, 1]).to(getattr(torch, d)) for d in dtypes},
        "0d": torch.tensor(3.0),
        "empty": torch.empty(0, 3),
        "expanded": torch.ones(1, 1).expand(1000, 1000),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "size": torch.Size([2, 3]),
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter("aab"),
        (1, "key"): 5,
    }
    path = tmp_path / "a.pt"
    torch.save(obj, path)
    back = tg.load(path)
    assert list(back) == list(obj) and back["plain"] == obj["plain"]
    for a, b in zip(back["views"], obj["views"]):
        assert a.tolist() == b.tolist() and a.stride() == b.stride()
    back["views"][0][1, 2] = 99
    assert back["views"][1][2] == 99 and back["views"][2][2, 1] == 99 and back["views"][3][1, 1] == 99
    assert isinstance(back["parameter"], nn.Parameter) and not back["parameter"].requires_grad
    assert back["leaf"].requires_grad and back["leaf"].is_leaf
    for d, t in back["types"].items():
        assert t.dtype is getattr(tg, d) and t.tolist() == obj["types"][d].tolist()
    assert back["0d"].item() == 3 and back["empty"].shape == (0, 3) and back["expanded"].stride() == (0, 0)
    assert back["dtype"] is tg.float32 and back["device"] == tg.device("cpu") and back["size"] == (2, 3)
    assert type(back["ordered"]) is collections.OrderedDict and back["counter"] == obj["counter"]
    with open(path, "rb") as f:
        assert tg.load(f, map_location=lambda storage, place: storage)["0d"] == 3


@oracle
def test_state_dicts_of_pytorch_load_into_our_modules(tmp_path):
    def build(n):
        return n.Sequential(n.Conv2d(1, 2, 3), n.BatchNorm2d(2), n.Flatten(), n.Linear(18, 4))

    theirs, ours = build(torch.nn), build(nn)
    torch.save({"model": theirs.state_dict(), "epoch": 3}, tmp_path / "m.pth")
    ours.load_state_dict(tg.load(tmp_path / "m.pth")["model"])
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 5)).astype(np.float32)
    expected = theirs(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours(tg.from_numpy(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.1)
    theirs(torch.from_numpy(x)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "o.pt")
    tg.optim.Adam(ours.parameters()).load_state_dict(tg.load(tmp_path / "o.pt"))


@oracle
def test_what_pytorch_files_may_not_hold(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(tg.FormatError, match=r"torch.nn.modules.linear.Linear.*safe_globals"):
        tg.load(path, weights_only=False)
    torch.save(torch.ones(2), path, _use_new_zipfile_serialization=False)
    with pytest.raises(tg.FormatError, match="before 1.6"):
        tg.load(path)
    torch.save({"best": np.float64(3)}, path)
    with pytest.raises(tg.FormatError, match="numpy.*safe_globals"):
        tg.load(path)
    torch.save(argparse.Namespace(lr=0.1), path)
    assert tg.load(path).lr == 0.1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="load: there is no file.*none.tg") as error:
        tg.load(tmp_path / "none.tg")
    assert error.value.filename.endswith("none.tg")


def test_numpy_arrays_and_numbers(tmp_path):
    rng = np.random.RandomState(0)
    given = {"a": np.arange(6).reshape(2, 3), "b": np.float32(2.5), "c": np.array(1.5), "d": np.array([True])}
    given |= {"e": np.uint64(2**63), "state": rng.get_state(), "t": tg.ones(2)}
    tg.save(given, tmp_path / "a.tg")
    back = tg.load(tmp_path / "a.tg")
    for key in "abcde":
        assert type(back[key]) is type(given[key]) and back[key].dtype == given[key].dtype
        np.testing.assert_array_equal(back[key], given[key])
    again = np.random.RandomState(1)
    again.set_state(back["state"])
    assert again.rand() == rng.rand()
    for wrong in (np.array(["text"]), np.array([1j])):
        with pytest.raises(tg.TypeError, match="cannot store NumPy's"):
            tg.save(wrong, tmp_path / "a.tg")


class Bomb:
    def __reduce__(self):
        return (print, ("executed",))


def zip_with(pickled, **more):
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w") as z:
        z.writestr("archive/data.pkl", pickled)
        for name, data in more.items():
            z.writestr(f"archive/data/{name}", data)
    f.seek(0)
    return f


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_nothing_in_a_pickle_is_executed(protocol, capsys):
    for payload in (Bomb(), {"a": [Bomb()]}, print, type, np.float64):
        with pytest.raises(tg.FormatError, match="safe_globals"):
            tg.load(zip_with(pickle.dumps(payload, protocol)))
    assert "executed" not in capsys.readouterr().out
    plain = {"a": [1, 2.0, "x", (None, True)], 3: b"q" * 300, "l": list(range(300)), "big": -(2**100)}
    assert tg.load(zip_with(pickle.dumps(plain, protocol))) == plain


def test_hostile_pickles():
    nest = b"\x80\x02)" + b"2\x86" * 40  # (t, t) forty times: printing or hashing it takes 2^40 steps
    with pytest.raises(tg.FormatError):
        tg.load(zip_with(b"\x80\x02}" + nest[2:] + b"K\x01s."))
    tg.load(zip_with(nest + b"."))
    for bad in (b"", b".", b"\x80\x02.", b"\x80\x02(", b"\x80\x02u.", b"\x80\x02R.", b"\x80\x02}h\x05.", b"\x80\x02Q.",
                b"\x80\x02K\x01K\x02b.", b"\x80\x02]K\x01s.", b"\x80\x02\x8b\xff\xff\xff\x7f.", b"\x80\x02a.", b"\x80\x02t."):  # fmt: skip
        with pytest.raises(tg.FormatError):
            tg.load(zip_with(bad))


def tensor_pickle(size, stride, offset=0, count=4, storage="FloatStorage", location="cpu"):
    class Storage:
        pass

    marker, rebuild = object(), object()
    f = io.BytesIO()

    class Named(pickle._Pickler):
        def persistent_id(self, obj):
            return ("storage", marker, "0", location, count) if isinstance(obj, Storage) else None

        def save(self, obj, save_persistent_id=True):
            if obj is marker:
                self.write(f"ctorch\n{storage}\n".encode())
            elif obj is rebuild:
                self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            else:
                super().save(obj, save_persistent_id)

    p = Named(f, 2)
    f.write(b"\x80\x02")
    p.save(rebuild)
    p.save((Storage(), offset, size, stride, False, None))
    f.write(b"R.")
    return f.getvalue()


def test_tensors_of_odd_geometry():
    data = np.arange(4, dtype=np.float32).tobytes()
    good = tg.load(zip_with(tensor_pickle((2, 2), (2, 1)), **{"0": data}))
    assert good.tolist() == [[0, 1], [2, 3]]
    for kw in (
        dict(size=(5,), stride=(1,)), dict(size=(2,), stride=(3,), offset=1), dict(size=(2,), stride=(-1,), offset=1),
        dict(size=(-1,), stride=(1,)), dict(size=(2**62, 2**62), stride=(0, 0)), dict(size=(2,), stride=(1, 1)),
        dict(size=(2,), stride=(2**62,)), dict(size=(4,), stride=(1,), offset=-1), dict(size=(4,), stride=(1,), count=5),
        dict(size=("x",), stride=(1,)), dict(size=(4,), stride=(1,), storage="QInt8Storage"), dict(size=None, stride=(1,)),
    ):  # fmt: skip
        with pytest.raises(tg.FormatError):
            try:
                tg.load(zip_with(tensor_pickle(**kw), **{"0": data}))
            except tg.Error as error:
                raise tg.FormatError(str(error)) from error
    with pytest.raises(tg.DeviceError, match="cuda:0.*map_location"):
        tg.load(zip_with(tensor_pickle((2,), (1,), location="cuda:0"), **{"0": data}))
    for where in ("cpu", {"cuda:0": "cpu"}, lambda storage, place: storage):
        loaded = tg.load(zip_with(tensor_pickle((2,), (1,), location="cuda:0"), **{"0": data}), map_location=where)
        assert loaded.tolist() == [0, 1]


def test_compressed_and_overlapping_entries_are_refused():
    f = io.BytesIO()
    with zipfile.ZipFile(f, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("archive/data.pkl", pickle.dumps([0] * 100_000, 2))
    f.seek(0)
    with pytest.raises(tg.FormatError, match="compressed"):
        tg.load(f)
    with pytest.raises(tg.FormatError, match="data.pkl"):
        f = io.BytesIO()
        with zipfile.ZipFile(f, "w") as z:
            z.writestr("x", b"")
        f.seek(0)
        tg.load(f)


@oracle
@pytest.mark.parametrize("kind", ["pt", "own"])
def test_damaged_files_give_typed_errors(kind, tmp_path):
    f = io.BytesIO()
    if kind == "pt":
        net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
        torch.save({"m": net.state_dict(), "n": [1, {"x": (2, 3.5)}], "s": "text"}, f)
    else:
        base = tg.arange(8.0)
        tg.save({"m": nn.Linear(2, 2), "v": [base, base[2:]], "n": [1, {"x": (2, 3.5)}]}, f)
    good, rng = f.getvalue(), np.random.default_rng(0)
    refused = 0
    before = tg.memory.live()
    tg.memory.reset_peak()
    for i in range(1500):
        data = bytearray(good)
        if i % 3 == 0:
            data = data[: int(rng.integers(0, len(data)))]
        elif i % 3 == 1:
            for at in rng.integers(0, len(data), 1 + i % 4):
                data[at] = int(rng.integers(0, 256))
        else:
            at, n = int(rng.integers(0, len(data))), int(rng.integers(1, 64))
            data[at : at + n] = bytes(rng.integers(0, 256, int(rng.integers(0, 64)), dtype=np.uint8))
        try:
            tg.load(io.BytesIO(bytes(data)))
        except tg.Error:
            refused += 1
    assert refused > 700
    assert tg.memory.peak() < before + (64 << 20)

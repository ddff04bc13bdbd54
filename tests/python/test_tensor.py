"""The Python object of a tensor: identity, lifetime, attributes, NumPy, DLPack, copying, pickling, saving."""

import copy
import gc
import io
import pickle
import weakref

import numpy as np
import pytest
import tinygrad_cpp as tg

FLOATS = [tg.float16, tg.float32, tg.float64]
NUMPY_TYPES = [tg.bool, tg.uint8, tg.int8, tg.int16, tg.int32, tg.int64, *FLOATS]


def leaf(*sizes):
    return tg.rand(sizes, requires_grad=True)


# ---- identity and lifetime


def test_gradient_is_one_object():
    x = leaf(3)
    (x * x).sum().backward()
    assert x.grad is x.grad
    first = x.grad
    (x * x).sum().backward()
    assert x.grad is first  # accumulated in place


def test_object_survives_while_cpp_holds_the_tensor():
    x = leaf(3)
    (x * 2).sum().backward()
    x.grad.note = "kept"
    identity = id(x.grad)
    gc.collect()
    assert id(x.grad) == identity and x.grad.note == "kept"


def test_leaf_kept_by_its_graph_keeps_its_attributes():
    x = leaf(3)
    x.note = ["a"]
    y = (x * x).sum()
    ref = weakref.ref(x)
    del x
    gc.collect()
    again = ref()
    assert again is not None and again.note == ["a"]
    y.backward()
    assert again.grad is not None
    del y, again
    gc.collect()
    assert ref() is None


def test_wrapper_reached_by_weak_reference_after_its_tensor_died():
    x = leaf(3)
    y = (x * x).sum()
    ref = weakref.ref(x)
    values = x.tolist()
    del x
    again = ref()  # Python holds it again, without asking the library
    del y
    gc.collect()
    assert again.tolist() == values and again.requires_grad


def test_objects_are_freed():
    x = tg.rand(3)
    ref = weakref.ref(x)
    del x
    assert ref() is None


def test_cycles_are_collected():
    x = tg.rand(3)
    x.me = x
    ref = weakref.ref(x)
    del x
    gc.collect()
    assert ref() is None


def test_collector_spares_what_a_held_tensor_refers_to():
    x = leaf(3)
    x.me = [x]
    y = (x * x).sum()
    ref = weakref.ref(x)
    del x
    gc.collect()
    assert ref().me[0] is ref()
    del y
    gc.collect()
    assert ref() is None


def test_no_memory_is_lost():
    gc.collect()
    before = tg.memory.live()
    for _ in range(200):
        x = leaf(64)
        y = (x * x + 1).sum()
        y.backward()
        y.register_hook(lambda g: g)
        x.grad.zero_()
    del x, y
    gc.collect()
    assert tg.memory.live() == before


def test_sets_and_dicts_go_by_identity():
    a, b = tg.ones(2), tg.ones(2)
    assert len({a, b, a}) == 2 and {a: 1}[a] == 1


def test_deep_graph_is_freed():
    x = leaf(1)
    y = x
    for _ in range(100_000):
        y = y + 1
    del y


# ---- subclasses


class Named(tg.Tensor):
    def __init__(self, data, name=""):
        self.label = name


def test_subclass_of_tensor():
    x = Named([1.0, 2.0], "x")
    assert isinstance(x, tg.Tensor) and x.label == "x" and x.tolist() == [1, 2]
    assert (x + 1).tolist() == [2, 3]
    x.requires_grad_()
    y = (x * x).sum()
    ref = weakref.ref(x)
    del x
    gc.collect()
    assert ref().label == "x"
    y.backward()
    assert ref().grad.tolist() == [2, 4]


def test_subclass_copies_and_pickles():
    x = Named([1.0], "x")
    for y in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert type(y) is Named and y.label == "x" and y.tolist() == [1]


def test_parameter():
    p = tg.nn.Parameter(tg.ones(2))
    assert isinstance(p, tg.Tensor) and isinstance(p, tg.nn.Parameter) and p.requires_grad and p.is_leaf
    assert not isinstance(tg.ones(2), tg.nn.Parameter)
    assert "Parameter containing" in repr(p)
    assert not tg.nn.Parameter(tg.ones(2), requires_grad=False).requires_grad
    data = tg.ones(2)
    q = tg.nn.Parameter(data)
    data[0] = 5
    assert q.tolist() == [5, 1]
    with pytest.raises(RuntimeError, match="floating"):
        tg.nn.Parameter(tg.arange(3))


# ---- attributes


def test_geometry():
    x = tg.zeros(2, 3, 4)
    assert x.shape == (2, 3, 4) and x.shape.numel() == 24 and repr(x.shape) == "tinygrad_cpp.Size([2, 3, 4])"
    assert isinstance(x.shape[1:], tg.Size) and isinstance(x.shape, tuple)
    assert x.size() == x.shape and x.size(-1) == 4 and x.ndim == x.dim() == 3
    assert x.stride() == (12, 4, 1) and x.stride(1) == 4 and x.numel() == 24 and x.nbytes == 96
    assert x.element_size() == x.itemsize == 4 and x.is_contiguous() and not x.T.is_contiguous()
    assert x.T.shape == (4, 3, 2) and x.mT.shape == (2, 4, 3)
    assert x.data_ptr() == x.view(-1).data_ptr() and x[1].storage_offset() == 12
    assert pickle.loads(pickle.dumps(x.shape)) == x.shape


def test_dtype_objects():
    x = tg.zeros(2)
    assert x.dtype is tg.float32 and repr(tg.float32) == "tinygrad_cpp.float32"
    assert tg.float is tg.float32 and tg.long is tg.int64 and tg.half is tg.float16
    assert tg.float64.itemsize == 8 and tg.bfloat16.is_floating_point and not tg.int8.is_floating_point
    assert pickle.loads(pickle.dumps(tg.int16)) is tg.int16 and copy.deepcopy(tg.bool) is tg.bool
    assert tg.promote_types(tg.int32, tg.float16) is tg.float16
    assert tg.result_type(tg.ones(2, dtype=tg.int8), 1.5) is tg.float32
    assert tg.can_cast(tg.int32, tg.float32) and not tg.can_cast(tg.float32, tg.int32)


@pytest.mark.parametrize(
    "name", ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int16", "int32", "int64"]
)
def test_finfo_and_iinfo(name):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(tg, name), getattr(torch, name)
    a, b = (tg.finfo(ours), torch.finfo(theirs)) if theirs.is_floating_point else (tg.iinfo(ours), torch.iinfo(theirs))
    fields = ["bits", "max", "min", "dtype"] + (["eps", "tiny", "smallest_normal"] if theirs.is_floating_point else [])
    for f in fields:
        assert getattr(a, f) == getattr(b, f), f


def test_device_objects():
    cpu = tg.device("cpu")
    assert repr(cpu) == "device(type='cpu')" and str(cpu) == "cpu" and cpu == tg.zeros(1).device
    assert hash(cpu) == hash(tg.device("cpu")) and cpu != tg.device("cuda:1") and tg.device("cuda", 1).index == 1
    assert repr(tg.device("cuda:1")) == "device(type='cuda', index=1)"
    with pytest.raises(ValueError):
        tg.device("nowhere")


def test_conversions():
    x = tg.tensor([1.5, -2.0])
    assert x.to(tg.float32) is x and x.float() is x and x.cpu() is x and x.to("cpu") is x
    assert x.to(tg.int64).tolist() == [1, -2] and x.long().dtype is tg.int64
    assert x.to("cpu", tg.float64).dtype is tg.float64 and x.to(dtype=tg.float16).dtype is tg.float16
    assert x.to(tg.zeros(1, dtype=tg.float64)).dtype is tg.float64
    assert x.to(tg.float32, copy=True) is not x
    assert x.type() == "torch.FloatTensor" and x.type(tg.int32).dtype is tg.int32
    for name in "float double half bfloat16 int long short char byte bool".split():
        assert getattr(x, name)().shape == (2,)
    with pytest.raises(TypeError):
        x.to([])


def test_numbers():
    x = tg.tensor(2.5)
    assert float(x) == 2.5 and int(x) == 2 and bool(x) and x.item() == 2.5 and f"{x:.3f}" == "2.500"
    assert [10, 20, 30][tg.tensor(1)] == 20 and round(float(tg.tensor(1.25)), 1) == 1.2
    assert tg.tensor(True).item() is True and isinstance(tg.tensor(3).item(), int)
    for f in (float, int, bool, lambda t: t.item()):
        with pytest.raises(ValueError):
            f(tg.ones(2))
    with pytest.raises(TypeError):
        [1][tg.tensor(0.0)]
    with pytest.raises(TypeError):
        len(tg.tensor(1.0))
    with pytest.raises(TypeError):
        list(tg.tensor(1.0))


def test_containers():
    x = tg.arange(6).view(3, 2)
    assert len(x) == 3 and [r.tolist() for r in x] == [[0, 1], [2, 3], [4, 5]]
    assert 4 in x and 9 not in x
    assert x.tolist() == [[0, 1], [2, 3], [4, 5]] and x.T.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_data_attribute():
    x = leaf(2)
    x.data[0] = 7
    assert x[0].item() == 7 and not x.data.requires_grad
    x.data = tg.zeros(3)
    assert x.shape == (3,) and x.requires_grad
    with pytest.raises(TypeError):
        x.data = 3


def test_grad_attribute():
    x = leaf(2)
    x.grad = tg.ones(2)
    assert x.grad.tolist() == [1, 1]
    x.grad = None
    assert x.grad is None
    for bad in (tg.ones(3), tg.ones(2, dtype=tg.float64), 1.0):
        with pytest.raises((RuntimeError, TypeError)):
            x.grad = bad
    with pytest.raises(TypeError):
        x.requires_grad = 1


# ---- construction


@pytest.mark.parametrize(
    "data",
    [1, 1.5, True, [1, 2], [1, 2.5], [True, False], [[1, 2], [3, 4]], [[]], [], (1, 2), [np.float64(1), 2],
     np.float32(2), [np.int32(1)], range(3), np.arange(3), [[True], [2]]],
    ids=str,
)  # fmt: skip
def test_tensor_infers_types_like_torch(data):
    torch = pytest.importorskip("torch")
    ours, theirs = tg.tensor(data), torch.tensor(data)
    assert ours.dtype.name == str(theirs.dtype).removeprefix("torch.")
    assert tuple(ours.shape) == tuple(theirs.shape) and ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    "data, where",
    [
        ([[1, 2], [3]], r"\[1\]"),
        ([1, [2]], r"\[1\]"),
        ([[1], 2], r"\[1\]"),
        ([[[1], [2]], [[3], [4, 5]]], r"\[1\]\[1\]"),
    ],
)
def test_ragged_lists_name_the_position(data, where):
    with pytest.raises(ValueError, match="ragged.*" + where):
        tg.tensor(data)


@pytest.mark.parametrize("data", ["text", {"a": 1}, [None], [object()], None, ["a"]], ids=str)
def test_tensor_rejects(data):
    with pytest.raises(TypeError):
        tg.tensor(data)


def test_tensor_rejects_overflow():
    with pytest.raises(ValueError, match="64-bit"):
        tg.tensor(10**30)
    with pytest.raises(ValueError, match="does not fit"):
        tg.tensor([300], dtype=tg.uint8)


def test_self_containing_list():
    a = []
    a.append(a)
    with pytest.raises(RuntimeError):
        tg.tensor(a)


def test_tensor_options():
    x = tg.tensor([1, 2], dtype=tg.float64, requires_grad=True)
    assert x.dtype is tg.float64 and x.requires_grad
    y = tg.tensor(x)
    assert y is not x and not y.requires_grad and y.data_ptr() != x.data_ptr()
    assert tg.tensor([tg.tensor(1.0), tg.tensor(2.0)]).tolist() == [1, 2]
    assert x.new_tensor([1, 2]).dtype is tg.float64
    assert tg.as_tensor(x) is x and tg.as_tensor([1.0]).tolist() == [1]
    with pytest.raises(RuntimeError, match="floating"):
        tg.tensor([1], requires_grad=True)


# ---- NumPy


@pytest.mark.parametrize("dtype", NUMPY_TYPES, ids=str)
def test_numpy_shares_memory_both_ways(dtype):
    a = np.arange(6).reshape(2, 3).astype(dtype.name)
    t = tg.from_numpy(a)
    assert t.dtype is dtype and t.tolist() == a.tolist()
    t[0, 0] = 1
    assert a[0, 0] == 1
    b = t.numpy()
    b[1, 2] = 0
    assert t[1, 2].item() == 0 and b.dtype == a.dtype


@pytest.mark.parametrize("view", [np.s_[::-1], np.s_[:, ::-1], np.s_[:, ::2], np.s_[1:, 1], np.s_[:0]], ids=str)
def test_numpy_strides(view):
    a = np.arange(12.0).reshape(3, 4)[view]
    t = tg.from_numpy(a)
    assert t.tolist() == a.tolist() and tuple(t.shape) == a.shape and (t + 1).tolist() == (a + 1).tolist()
    assert np.array_equal(t.numpy(), a)


def test_numpy_keeps_memory_alive():
    t = tg.from_numpy(np.arange(1000.0))
    gc.collect()
    assert t.sum().item() == 499500
    a = tg.arange(1000).numpy()
    gc.collect()
    assert a.sum() == 499500


def test_numpy_errors():
    with pytest.raises(RuntimeError, match="requires grad"):
        leaf(2).numpy()
    with pytest.raises(TypeError, match="bfloat16"):
        tg.ones(2, dtype=tg.bfloat16).numpy()
    for bad in (np.array(["a"]), np.array([1j]), np.array([object()]), np.arange(3).astype(">i4"), np.array([1], "u4")):
        with pytest.raises(TypeError):
            tg.from_numpy(bad)
    with pytest.raises(TypeError):
        tg.from_numpy([1, 2])
    assert leaf(2).numpy(force=True).shape == (2,)


def test_numpy_read_only_is_copied():
    a = np.arange(3.0)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="read-only"):
        t = tg.from_numpy(a)
    t[0] = 9
    assert a[0] == 0


def test_numpy_unaligned_is_copied():
    raw = np.zeros(17, np.uint8)
    a = raw[1:].view(np.float64)
    a[:] = [1, 2]
    t = tg.from_numpy(a)
    assert t.tolist() == [1, 2]


def test_numpy_functions_take_tensors():
    x = tg.tensor([1.0, 2.0])
    assert np.asarray(x).tolist() == [1, 2] and np.array(x, dtype=np.float64).dtype == np.float64
    assert np.add(x, 1).tolist() == [2, 3]
    assert isinstance(np.ones(2) + x, tg.Tensor) and isinstance(x * np.ones(2), tg.Tensor)
    assert (np.float32(2) * x).tolist() == [2, 4] and (x + np.int64(1)).tolist() == [2, 3]


# ---- DLPack


def test_dlpack_with_numpy():
    t = tg.arange(6).view(2, 3)
    a = np.from_dlpack(t)
    assert a.tolist() == t.tolist() and np.shares_memory(a, t.numpy())
    b = np.arange(6.0).reshape(2, 3)[:, ::-1]
    u = tg.from_dlpack(b)
    u[0, 0] = 50
    assert b[0, 0] == 50


@pytest.mark.parametrize("dtype", [*NUMPY_TYPES, tg.bfloat16], ids=str)
def test_dlpack_with_torch(dtype):
    torch = pytest.importorskip("torch")
    t = tg.arange(6).to(dtype).view(2, 3).T
    there = torch.from_dlpack(t)
    assert there.tolist() == t.tolist() and there.data_ptr() == t.data_ptr()
    back = tg.from_dlpack(there)
    assert back.dtype is dtype and back.data_ptr() == t.data_ptr() and back.stride() == t.stride()


def test_dlpack_versions():
    t = tg.arange(3)
    assert "dltensor_versioned" in repr(t.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(t.__dlpack__())
    assert t.__dlpack_device__() == (1, 0)
    capsule = t.__dlpack__()
    assert tg.from_dlpack(capsule).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="used"):
        tg.from_dlpack(capsule)
    for kwargs in ({"stream": 1}, {"dl_device": (2, 0)}):
        with pytest.raises(BufferError):
            t.__dlpack__(**kwargs)
    copied = tg.from_dlpack(t, copy=True)
    copied[0] = 9
    assert t[0].item() == 0


def test_dlpack_errors():
    with pytest.raises(BufferError):
        leaf(2).__dlpack__()
    with pytest.raises(TypeError):
        tg.from_dlpack(3)
    a = np.arange(3.0)
    a.flags.writeable = False
    t = tg.from_dlpack(a)
    t[0] = 1
    assert a[0] == 0


# ---- copying, pickling, saving


@pytest.mark.parametrize("dtype", [*NUMPY_TYPES, tg.bfloat16], ids=str)
def test_pickle(dtype):
    x = tg.arange(6).to(dtype).view(2, 3).T
    y = pickle.loads(pickle.dumps(x))
    assert y.dtype is dtype and y.tolist() == x.tolist() and y.is_contiguous()


def test_pickle_keeps_flags_and_attributes():
    p = tg.nn.Parameter(tg.ones(2))
    p.note = [1]
    q = pickle.loads(pickle.dumps(p))
    assert isinstance(q, tg.nn.Parameter) and q.requires_grad and q.note == [1]
    for f in (pickle.dumps, copy.deepcopy):
        with pytest.raises(RuntimeError, match="leaf|leaves"):
            f(p * 2)


def test_deepcopy():
    x = leaf(3)
    (x * x).sum().backward()
    memo_list = copy.deepcopy([x, x])
    y = memo_list[0]
    assert memo_list[1] is y and y is not x and y.requires_grad and y.tolist() == x.tolist()
    assert y.grad.tolist() == x.grad.tolist() and y.grad is not x.grad
    z = copy.copy(x)
    assert z is not x and z.data_ptr() == x.data_ptr() and z.requires_grad


def test_save_and_load(tmp_path):
    w = tg.nn.Parameter(tg.rand(3, 2))
    data = {
        "a": w,
        "tied": w,
        "list": [1, 2.5, None, True, "text", float("inf"), (1, (2,))],
        3: {"x": tg.arange(4).T, "size": w.shape, "dtype": tg.bfloat16},
        "nan": float("nan"),
        "big": 2**70,
        "empty": tg.zeros(0, 3),
        "zero": tg.tensor(1.5, dtype=tg.float16),
        "set": {1, 2},
    }
    path = tmp_path / "x.tg"
    tg.save(data, path)
    back = tg.load(path)
    assert list(back) == list(data) and back["a"] is back["tied"] and isinstance(back["a"], tg.nn.Parameter)
    assert back["a"].tolist() == w.tolist() and back["list"] == data["list"] and back["set"] == {1, 2}
    assert back[3]["x"].tolist() == [0, 1, 2, 3] and back[3]["size"] == (3, 2) and back[3]["dtype"] is tg.bfloat16
    assert back["nan"] != back["nan"] and back["big"] == 2**70 and back["empty"].shape == (0, 3)
    assert back["zero"].item() == 1.5 and back["zero"].shape == ()


def test_save_to_file_object():
    f = io.BytesIO()
    tg.save([tg.ones(2)], f)
    f.seek(0)
    assert tg.load(f)[0].tolist() == [1, 1]


def test_files_are_safetensors(tmp_path):
    st = pytest.importorskip("safetensors.numpy")
    tg.save({"w": tg.ones(2, 2), "b": tg.zeros(3)}, tmp_path / "a")
    there = st.load_file(tmp_path / "a")
    assert there["w"].tolist() == [[1, 1], [1, 1]] and there["b"].tolist() == [0, 0, 0]
    st.save_file({"q": np.arange(3)}, tmp_path / "b")
    assert tg.load(tmp_path / "b")["q"].tolist() == [0, 1, 2]


def test_save_rejects():
    for bad in (object(), [lambda: 0], {"a": open}, tg.nn):
        with pytest.raises(TypeError, match="save"):
            tg.save(bad, io.BytesIO())
    deep = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        tg.save(deep, io.BytesIO())


def test_load_survives_damage(tmp_path):
    f = io.BytesIO()
    tg.save({"w": tg.arange(10), "n": [1, {"x": (2, 3)}]}, f)
    whole = f.getvalue()
    rng = np.random.default_rng(0)
    for cut in range(0, len(whole), 7):
        with pytest.raises((ValueError, OSError)):
            tg.load(io.BytesIO(whole[:cut]))
    for _ in range(500):
        b = bytearray(whole)
        b[rng.integers(len(b))] ^= 1 << rng.integers(8)
        try:
            tg.load(io.BytesIO(bytes(b)))
        except tg.Error:
            pass
    with pytest.raises(OSError):
        tg.load(tmp_path / "missing")


def test_format():
    assert f"{tg.tensor(1.5)}" == "1.5" and f"{tg.tensor(3)}" == "3" and f"{tg.tensor(True):}" == "True"
    assert f"{tg.tensor(1.5):.2f}" == "1.50" and f"{tg.tensor([1.0])}" == "tensor([1.])"
    with pytest.raises(tg.TypeError, match="format: only a 0-d tensor"):
        f"{tg.tensor([1.0]):.2f}"


def test_dlpack_arguments_of_the_wrong_type():
    with pytest.raises(tg.TypeError, match="__dlpack__: max_version must be a pair of integers, not str"):
        leaf(2).detach().__dlpack__(max_version="a")

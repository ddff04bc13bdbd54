"""Calling ops from Python: arguments, errors, signatures; modes, custom functions, threads, interruption."""

import _thread
import ast
import inspect
import os
import pathlib
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tinygrad_cpp as tg
from tinygrad_cpp import _C

F = tg.nn.functional


def leaf(*sizes, dtype=tg.float32):
    return tg.rand(sizes, dtype=dtype, requires_grad=True)


# ---- arguments


def test_sizes_as_list_or_separate():
    for x in (
        tg.zeros(2, 3),
        tg.zeros((2, 3)),
        tg.zeros([2, 3]),
        tg.zeros(tg.zeros(2, 3).shape),
        tg.zeros(size=(2, 3)),
    ):
        assert x.shape == (2, 3)
    x = tg.arange(6)
    assert x.view(2, 3).shape == x.view((2, 3)).shape == x.view(-1, 3).shape == x.reshape(2, 3).shape == (2, 3)
    y = x.view(1, 2, 3)
    assert y.permute(2, 0, 1).shape == y.permute((2, 0, 1)).shape == (3, 1, 2)
    assert y.sum(0, 1).shape == y.sum((0, 1)).shape == (3,) and y.sum(0, True).shape == (1, 2, 3)
    assert y.flip(0, 1).shape == y.shape and y.expand(4, -1, -1).shape == (4, 2, 3) and x.repeat(2, 2).shape == (2, 12)
    assert tg.roll(x, 1, 0).tolist() == [5, 0, 1, 2, 3, 4]
    assert tg.zeros(np.int64(2), tg.tensor(3)).shape == (2, 3)


def test_tensors_as_list_or_separate():
    a, b = tg.ones(2), tg.zeros(2)
    assert tg.cat([a, b]).shape == tg.cat((a, b)).shape == (4,)
    assert [t.shape for t in tg.broadcast_tensors(a, tg.zeros(3, 1))] == [(3, 2), (3, 2)]
    assert tg.einsum("i,i->", a, a).item() == tg.einsum("i,i->", [a, a]).item() == 2


def test_keywords_and_their_other_names():
    x = tg.arange(6.0).view(2, 3)
    for y in (x.sum(1), x.sum(dim=1), x.sum(axis=1), tg.sum(x, dim=1), tg.sum(input=x, dim=1)):
        assert y.tolist() == [3, 12]
    assert x.sum(dim=1, keepdim=True).shape == x.sum(axis=1, keepdims=True).shape == (2, 1)
    assert tg.sum(x, 1, dtype=tg.float64).dtype is tg.float64 and tg.zeros(2, dtype=float).dtype is tg.float64
    assert tg.zeros(2, dtype=int).dtype is tg.int64 and tg.zeros(2, device="cpu").device == tg.device("cpu")
    assert tg.zeros(2, requires_grad=True).requires_grad and tg.zeros(2, pin_memory=False).shape == (2,)


def test_numbers_of_all_kinds():
    x = tg.tensor([1.0, 2.0])
    for two in (2, 2.0, np.float32(2), np.float64(2), np.int8(2), tg.tensor(2), tg.tensor(2.0)):
        assert (x * two).tolist() == [2, 4] and (two * x).tolist() == [2, 4]
    assert (x * True).tolist() == [1, 2] and tg.add(x, x, alpha=2).tolist() == [3, 6]
    assert tg.clamp(x, 0, 1.5).tolist() == [1, 1.5] and tg.clamp(x, max=np.float64(1)).tolist() == [1, 1]


def test_out():
    out = tg.empty(2)
    assert tg.add(tg.ones(2), 1, out=out) is out and out.tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="out="):
        tg.add(tg.ones(3), 1, out=out)
    with pytest.raises(RuntimeError, match="out="):
        tg.add(tg.ones(2), 1, out=tg.empty(2, dtype=tg.int64))


def test_named_results():
    r = tg.tensor([[1, 5, 2]]).max(1)
    assert r.values.tolist() == [5] and r.indices.tolist() == [1] and "values" in repr(r)
    values, indices = tg.topk(tg.tensor([1.0, 3.0, 2.0]), 2)
    assert values.tolist() == [3, 2] and indices.tolist() == [1, 2]
    assert isinstance(tg.arange(4).chunk(2), tuple)


def test_inplace_returns_the_same_object():
    x = tg.ones(2)
    assert x.add_(1) is x and x.zero_() is x and x.mul_(2) is x
    y = x
    y += 1
    assert y is x and x.tolist() == [1, 1]


def test_operators_match_numpy():
    a, b = np.array([7.0, -3.0, 2.0]), np.array([2.0, 2.0, -3.0])
    i, j = np.array([6, 5, 3]), np.array([1, 2, 1])
    x, y, p, q = map(tg.from_numpy, (a, b, i, j))
    import operator as op

    for f in (op.add, op.sub, op.mul, op.truediv, op.floordiv, op.mod, op.lt, op.le, op.gt, op.ge, op.eq, op.ne):
        assert np.allclose(f(x, y).numpy(), f(a, b)) and np.allclose(f(x, 2).numpy(), f(a, 2))
        assert np.allclose(f(2, x).numpy(), f(2, a))
    for f in (op.and_, op.or_, op.xor, op.lshift, op.rshift):
        assert (f(p, q).numpy() == f(i, j)).all() and (f(p, 1).numpy() == f(i, 1)).all()
    assert ((-x).numpy() == -a).all() and (abs(x).numpy() == abs(a)).all() and ((~p).numpy() == ~i).all()
    assert np.allclose((x**2).numpy(), a**2) and np.allclose((2**x).numpy(), 2**a)
    assert (x @ y).item() == a @ b and (x == None) is False  # noqa: E711
    with pytest.raises(TypeError):
        x + "a"
    with pytest.raises(TypeError):
        x @ 2


def test_indexing_matches_numpy():
    a = np.arange(60).reshape(3, 4, 5)
    x = tg.from_numpy(a)
    s = np.s_
    keys = [
        s[1], s[-1], s[1:], s[::2], s[:, 1], s[..., -1], s[None], s[1, None, 2], s[:, 1:3, ::2], s[[0, 2]],
        s[[0, 2], [1, 3]], s[:, [1, 2]], s[a > 30], s[1, 2, 3], s[np.array([2, 0])], s[[True, False, True]], s[...],
        s[np.int64(1)], s[10:], s[0:10**30], s[[]], s[:, :, np.array([[0, 1], [2, 3]])], s[range(2)], s[True],
    ]  # fmt: skip
    for k in keys:
        assert x[k].tolist() == a[k].tolist(), k
    assert x[::-1].tolist() == a[::-1].tolist()
    assert x[tg.tensor(1)].tolist() == a[1].tolist() and x[x > 30].tolist() == a[a > 30].tolist()


def test_assignment_matches_numpy():
    s = np.s_
    values = [(s[1], 7), (s[:, 1:3], 0), (s[[0, 2]], 5), (s[..., -1], [[1, 2, 3, 4]] * 3), (s[1, 2], np.arange(5))]
    for k, v in values:
        a = np.arange(60).reshape(3, 4, 5)
        x = tg.from_numpy(a.copy())
        x[k] = v
        a[k] = v
        assert x.tolist() == a.tolist(), k
    x = tg.zeros(3)
    x[x == 0] = 2
    x[0] = tg.tensor(9.0)
    assert x.tolist() == [9, 2, 2]


# ---- errors


@pytest.mark.parametrize(
    "call, kind, text",
    [
        (lambda: tg.mm(tg.ones(2, 2), 3), TypeError, "mm(): argument 'mat2' must be Tensor, not int"),
        (lambda: tg.ones(2).prod("a"), TypeError, "argument 'dim' must be int, not str"),
        (lambda: tg.ones(2).sum("a"), TypeError, "argument 'dim' must be int or tuple of ints or None, not str"),
        (lambda: tg.ones(2).sum([0, "a"]), TypeError, "list with str at position 1"),
        (lambda: tg.cat([tg.ones(2), 3]), TypeError, "cat(): argument 'tensors'"),
        (lambda: tg.relu(), TypeError, "relu(): missing required argument 'input'"),
        (lambda: tg.relu(tg.ones(1), 2), TypeError, "relu(): takes at most 1 positional"),
        (lambda: tg.relu(tg.ones(1), foo=2), TypeError, "unexpected keyword argument 'foo'"),
        (lambda: tg.zeros(2, 3, foo=1), TypeError, "unexpected keyword argument 'foo'"),
        (lambda: tg.relu(tg.ones(1), input=tg.ones(1)), TypeError, "'input' was given twice"),
        (lambda: tg.softmax(tg.ones(2), None), TypeError, "not None"),
        (lambda: tg.ones(2).sum(dim=True), TypeError, "not bool"),
        (lambda: tg.zeros(2, dtype="float32"), TypeError, "'dtype' must be dtype"),
        (lambda: tg.ones(2, 3) + tg.ones(2, 4), tg.ShapeError, "dimension 1: 3 vs 4"),
        (lambda: tg.ones(2).sum(5), IndexError, "sum"),
        (lambda: tg.ones(2)[2], IndexError, "2"),
        (lambda: tg.ones(2)["a"], TypeError, "not str"),
        (lambda: tg.ones(2)[tg.ones(2)], IndexError, "integer or bool"),
        (lambda: tg.ones(2) + 10**40, ValueError, "64-bit"),
        (lambda: tg.zeros(-1), RuntimeError, "-1"),
        (lambda: tg.zeros(2**40, 2**40), RuntimeError, ""),
        (lambda: tg.zeros(1, device="cuda"), tg.DeviceError, ""),
        (lambda: tg.ones(2).backward(), tg.AutogradError, "backward"),
        (lambda: tg.ones(2).nothing, AttributeError, "nothing"),
        (lambda: tg.nothing, AttributeError, "no attribute"),
        (lambda: tg.softmx, AttributeError, "did you mean softmax"),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind) as e:
        call()
    assert text in str(e.value)


def test_error_classes():
    assert issubclass(tg.Error, RuntimeError)
    for name in ("IndexError", "ValueError", "TypeError", "NotImplementedError"):
        import builtins

        assert issubclass(getattr(tg, name), (tg.Error, getattr(builtins, name)))
    assert issubclass(tg.OutOfMemoryError, MemoryError) and issubclass(tg.FormatError, ValueError)


def test_all_forms_are_listed():
    with pytest.raises(TypeError) as e:
        tg.ones(2).max("a")
    assert str(e.value).count("\n  max(") >= 2


def test_failed_allocation():
    before = tg.memory.live()
    _C._fail_allocation_at(1)
    with pytest.raises(MemoryError):
        tg.zeros(1000)
    assert tg.memory.live() == before and tg.zeros(1000).sum().item() == 0
    tg.memory.set_limit(tg.memory.live() + 1000)
    try:
        with pytest.raises(tg.OutOfMemoryError):
            tg.zeros(10**6)
    finally:
        tg.memory.set_limit(0)


# ---- the callables


def test_every_op_has_doc_and_signature():
    for scope in (_C.ops, _C.nn_functional):
        for name, f in vars(scope).items():
            if not name.startswith("_"):
                assert f.__doc__ and f.__name__ == name and inspect.signature(f) is not None, name
    assert str(inspect.signature(tg.relu)) == "(input: 'Tensor')"
    assert pickle.loads(pickle.dumps(tg.relu)) is tg.relu
    assert pickle.loads(pickle.dumps(tg.Tensor.relu)) is tg.Tensor.relu


def test_functions_do_not_bind():
    class Model:
        activation = tg.relu

    assert Model().activation(tg.tensor([-1.0, 2.0])).tolist() == [0, 2]


def test_op_table():
    table = _C._op_table()
    assert len(table) > 300
    for op in table:
        assert op["schema"].startswith(op["name"] + "(") and (op["composite"] or op["primitive"] or op["is_inplace"])
    names = {op["base"] for op in table if op["is_function"]}
    assert names <= set(dir(tg)) | {"float", "int"}


def test_dir_has_no_internals():
    assert "relu" in dir(tg) and "Tensor" in dir(tg) and not any(k.startswith("_") and k[1] != "_" for k in dir(tg))


# ---- modes


def test_no_grad_in_all_forms():
    x = leaf(2)

    @tg.no_grad()
    def f():
        return x * 2

    @tg.no_grad
    def g():
        return x * 2

    @tg.no_grad()
    def gen():
        yield x * 2
        yield tg.is_grad_enabled()

    assert not f().requires_grad and not g().requires_grad
    it = gen()
    assert not next(it).requires_grad and tg.is_grad_enabled() and next(it) is False and tg.is_grad_enabled()
    with tg.no_grad():
        assert not (x * 2).requires_grad
        with tg.enable_grad():
            assert (x * 2).requires_grad
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()
    with tg.set_grad_enabled(False):
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()
    tg.set_grad_enabled(False)
    assert not tg.is_grad_enabled()
    tg.set_grad_enabled(True)
    with pytest.raises(ZeroDivisionError):
        with tg.no_grad():
            raise ZeroDivisionError
    assert tg.is_grad_enabled()


def test_inference_mode():
    x = leaf(2)
    with tg.inference_mode():
        y = x * 2
        assert y.is_inference() and not y.requires_grad and tg.is_inference_mode_enabled()
    assert not tg.is_inference_mode_enabled()
    with pytest.raises(RuntimeError):
        y.requires_grad_()


def test_modes_are_per_thread():
    seen = []
    with tg.no_grad():
        t = threading.Thread(target=lambda: seen.append(tg.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


# ---- random numbers


def test_generators():
    a, b = tg.Generator(), tg.Generator()
    a.manual_seed(5), b.manual_seed(5)
    assert tg.rand(4, generator=a).tolist() == tg.rand(4, generator=b).tolist()
    state = tg.get_rng_state()
    x = tg.rand(3).tolist()
    tg.set_rng_state(state)
    assert tg.rand(3).tolist() == x
    tg.manual_seed(3)
    assert tg.initial_seed() == 3 and tg.default_generator.initial_seed() == 3
    with pytest.raises(ValueError):
        tg.set_rng_state(tg.zeros(3))


# ---- hooks and custom functions


def test_hooks():
    x = leaf(2)
    seen = []
    y = x * 3
    handle = y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 2)
    x.register_post_accumulate_grad_hook(lambda t: seen.append(t is x))
    y.sum().backward()
    assert seen == [[1, 1], True] and x.grad.tolist() == [6, 6]
    handle.remove()


def test_error_in_a_hook_reaches_the_caller():
    x = leaf(2)
    x.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (x * 2).sum().backward()
    assert x.grad is None


class Cube(tg.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale):
        ctx.save_for_backward(x)
        ctx.scale = scale
        return scale * x**3

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x * ctx.scale, None


def test_custom_function():
    x = leaf(3, dtype=tg.float64)
    y = Cube.apply(x, 2.0)
    assert repr(y.grad_fn) == "<CubeBackward>"
    assert tg.autograd.gradcheck(lambda t: Cube.apply(t, 2.0), x)
    assert tg.autograd.gradgradcheck(lambda t: Cube.apply(t, 2.0), x)
    with pytest.raises(TypeError):
        Cube()


def test_custom_function_in_new_style():
    class SinCos(tg.autograd.Function):
        @staticmethod
        def forward(x):
            return x.sin(), x.cos(), "text"

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            assert ctx.needs_input_grad == (inputs[0].requires_grad,)

        @staticmethod
        def backward(ctx, gs, gc, _):
            (x,) = ctx.saved_tensors
            return gs * x.cos() - gc * x.sin()

    x = leaf(3, dtype=tg.float64)
    s, c, text = SinCos.apply(x)
    assert text == "text"
    s.sum().backward()
    assert tg.allclose(x.grad, x.detach().cos())
    assert tg.autograd.gradcheck(lambda t: SinCos.apply(t)[:2], x)


def test_custom_function_notices_edits_and_wrong_results():
    x = leaf(2)
    a = x * 1
    y = Cube.apply(a, 1.0)
    a.add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        y.sum().backward()

    class Wrong(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g, g

    with pytest.raises(RuntimeError, match="2 gradients for 1"):
        Wrong.apply(leaf(2)).sum().backward()


def test_once_differentiable_and_non_differentiable():
    class Square(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            sign = x.sign()
            ctx.mark_non_differentiable(sign)
            return x * x, sign

        @staticmethod
        @tg.autograd.function.once_differentiable
        def backward(ctx, g, _):
            (x,) = ctx.saved_tensors
            return 2 * x * g

    x = leaf(2)
    y, sign = Square.apply(x)
    assert not sign.requires_grad
    (g,) = tg.autograd.grad((y * y).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="twice"):
        g.sum().backward()


def test_gradcheck_catches_a_wrong_gradient():
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            return g, None

    with pytest.raises(RuntimeError, match="gradient"):
        tg.autograd.gradcheck(lambda t: Wrong.apply(t, 1.0), leaf(2, dtype=tg.float64))


def test_grad_function():
    x, z = leaf(2), leaf(2)
    y = (x**3).sum()
    (g,) = tg.autograd.grad(y, x, create_graph=True)
    (h,) = tg.autograd.grad(g.sum(), x)
    assert tg.allclose(h, 6 * x.detach()) and x.grad is None
    with pytest.raises(RuntimeError, match="not used"):
        tg.autograd.grad((x * x).sum(), z)
    assert tg.autograd.grad((x * x).sum(), z, allow_unused=True) == (None,)
    assert tg.autograd.grad((x * x).sum(), z, materialize_grads=True)[0].tolist() == [0, 0]
    a, b = tg.autograd.grad([x.sum(), z.sum()], [x, z])
    assert a.tolist() == b.tolist() == [1, 1]


def test_anomaly_mode_shows_the_line():
    x = tg.tensor([0.0], requires_grad=True)
    with tg.autograd.detect_anomaly():
        y = (x.sqrt() * 0).sum()  # the culprit
        with pytest.raises(RuntimeError, match="culprit"):
            y.backward()


def test_grad_fn():
    x = leaf(2)
    y = (x * 2).sum()
    assert y.grad_fn.name() == "SumBackward0" and y.grad_fn is y.grad_fn
    ((mul, slot),) = y.grad_fn.next_functions
    assert mul.name() == "MulBackward0" and slot == 0
    assert mul.next_functions[0][0].variable is x and x.grad_fn is None


# ---- threads, interruption, processes


def test_threads_train_at_once():
    def work(out, k):
        x = tg.full((200, 200), float(k), requires_grad=True)
        for _ in range(20):
            x.grad = None
            (x @ x).sum().backward()
        out[k] = x.grad[0, 0].item()

    out = {}
    threads = [threading.Thread(target=work, args=(out, k)) for k in range(1, 5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(out[k] == pytest.approx(400 * k) for k in range(1, 5))


def test_lock_is_free_during_long_ops():
    x = tg.rand(1200, 1200)
    done = threading.Event()
    ticks = 0

    def work():
        for _ in range(3):
            x @ x
        done.set()

    t = threading.Thread(target=work)
    t.start()
    while not done.is_set():
        ticks += 1
        time.sleep(0.0005)
    t.join()
    assert ticks > 3


def test_objects_dropped_by_other_threads():
    def work():
        for _ in range(300):
            x = leaf(4)
            x.note = object()
            y = (x * x).sum()
            del x
            y.backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def test_interrupt():
    def press():
        time.sleep(0.2)
        _thread.interrupt_main()

    x = tg.rand(64, 64, requires_grad=True)
    t = threading.Thread(target=press)
    t.start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        while time.monotonic() - start < 20:
            y = x
            for _ in range(200):
                y = y * 1.0001
            y.sum().backward()
    assert time.monotonic() - start < 5
    t.join()


def run_python(code, **env):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **env}
    )


def test_exit_with_live_tensors():
    r = run_python(
        "import tinygrad_cpp as tg\nx = tg.rand(3, requires_grad=True); x.me = x; y = (x * x).sum()\n"
        "y.register_hook(lambda g: g); y.backward(); m = tg.nn.Linear(2, 2); import builtins; builtins.kept = (x, y, m)"
    )
    assert r.returncode == 0 and not r.stderr, r.stderr


def test_import_does_not_load_numpy_first_or_print():
    r = run_python("import tinygrad_cpp, sys; print('torch' in sys.modules)")
    assert r.returncode == 0 and r.stdout == "False\n" and not r.stderr


def test_fork():
    r = run_python(
        "import os, tinygrad_cpp as tg\nx = tg.rand(400, 400); y = (x @ x).sum().item()\npid = os.fork()\n"
        "ok = (x @ x).sum().item() == y\nif pid == 0: os._exit(0 if ok else 1)\n"
        "_, status = os.waitpid(pid, 0)\nassert ok and status == 0"
    )
    assert r.returncode == 0, r.stderr


# ---- names


def test_functions_of_pytorch_beyond_the_table():
    a, b = tg.rand(2, 3, 4), tg.rand(4, 3, 5)
    same = tg.einsum("ijk,kjl->il", a, b)
    assert tg.allclose(tg.tensordot(a, b, dims=([2, 1], [0, 1])), same, rtol=1e-4)
    assert tg.tensordot(a, b, dims=1).shape == (2, 3, 3, 5) == tg.tensordot(a, b, dims=(2, 0)).shape
    assert tg.broadcast_shapes((2, 1), 3, (4, 1, 1)) == (4, 2, 3) and tg.broadcast_shapes((1,), (0,)) == (0,)
    with pytest.raises(tg.ShapeError, match="broadcast_shapes: .* dimension -1"):
        tg.broadcast_shapes((2,), (3,))
    x = tg.asarray([0, 1])
    assert tg.is_nonzero(x[1]) and not tg.is_nonzero(x[0]) and not tg.is_complex(x)
    assert x.contiguous(memory_format=tg.contiguous_format).shape == (2,)
    assert tg.zeros(2, layout=tg.strided).shape == (2,)
    tg.set_default_device("cpu")
    assert tg.get_default_device() == tg.device("cpu")
    if not tg.cuda.is_available():
        with pytest.raises(tg.DeviceError, match="no device|not available|CUDA"):
            tg.set_default_device("cuda")
    tg.set_default_device(None)


def test_in_place_functions_take_one_tensor():
    assert tg.relu_(tg.tensor(-1.0)).item() == 0
    for name in ("add_", "scatter_", "masked_fill_", "eq_"):
        assert not hasattr(tg, name) and hasattr(tg.Tensor, name)


def test_stubs_declare_what_the_package_has():
    root = pathlib.Path(tg.__file__).parent
    if not list(root.rglob("*.pyi")):
        pytest.skip("built without stubs")
    declared = {}
    for path in [*root.rglob("*.pyi"), *(root / "nn").rglob("*.py"), *(root / "optim").rglob("*.py")]:
        tree = list(ast.walk(ast.parse(path.read_text())))
        names = {n.name for n in tree if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
        names |= {n.id for n in tree if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        declared[path.relative_to(root).as_posix()] = names
    made = declared["_C/_nn/__init__.pyi"]
    assert {"Linear", "Sequential", "Module"} <= made
    in_python = set().union(*(names for path, names in declared.items() if path.startswith("nn/modules/")))
    assert set(tg.nn.modules.__all__) <= made | in_python
    assert "Adam" in declared["optim/algorithms.py"]
    assert {"zeros_", "xavier_normal_"} <= declared["_C/_nn/init.pyi"] and declared["_C/_schedule.pyi"]

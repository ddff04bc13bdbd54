"""The census: names of PyTorch that public programs use, each with a call that is made with PyTorch and with the package.

census.txt holds the names in groups. A call is a Python expression in which `torch`, `nn` and `F` are the modules of
either side, and in which the helpers below make the same inputs on both: T (float32, requires gradients), P (the same,
all positive), C (no gradient), I (integers), B (bools), M (a module with weights that do not depend on random numbers).
"""

from __future__ import annotations

import importlib
import io
import pathlib
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

GROUPS = {
    "torch": "torch",
    "torch.nn": "torch.nn",
    "torch.nn.functional": "torch.nn.functional",
    "torch.optim": "torch.optim",
    "torch.utils": "torch.utils",
    "torch.Tensor": "torch.Tensor",
    "torch.cuda": "torch.cuda",
    "torch.amp": "torch.amp",
    "torch.accelerator": "torch.accelerator",
    "torch.backends": "torch.backends",
    "torch.distributed": "torch.distributed",
    "torch.profiler": "torch.profiler",
    "torch.distributions": "torch.distributions",
    "torch.rest": "torch",
}

# Names that do not work, and why; the page says so.
MISSING: dict[str, str] = {}
# Names whose test passed in this run.
WORKING: set[str] = set()


@dataclass
class Entry:
    group: str
    name: str
    call: str

    @property
    def path(self) -> str:
        """Where the name is found in the package: "nn.Linear"."""
        return f"{GROUPS[self.group]}.{self.name}".replace("Tensor.unbound", "Tensor.add").partition(".")[2]

    @property
    def id(self) -> str:
        return f"{self.group}:{self.name}"


def read() -> list[Entry]:
    entries, group = [], ""
    for line in (pathlib.Path(__file__).parent / "census.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            group = line.strip("[]")
            continue
        name, _, call = line.partition(" ")
        entries.append(Entry(group, name, call.strip() or entries[-1].call))
    return entries


class Side:
    """One of the two packages, with helpers that make the same inputs on both."""

    def __init__(self, torch: Any, seed: str) -> None:
        self.torch = torch
        self.nn = importlib.import_module(torch.__name__ + ".nn")
        self.F = importlib.import_module(torch.__name__ + ".nn.functional")
        self.is_torch = torch.__name__ == "torch"
        self.rng = np.random.default_rng(zlib.crc32(seed.encode()))
        self.leaves: list[Any] = []

    def namespace(self) -> dict[str, Any]:
        helpers = {k: getattr(self, k) for k in dir(self) if k.isupper()}
        return {**helpers, "torch": self.torch, "nn": self.nn, "F": self.F, "np": np}

    # ---- inputs

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        # distinct values, not near zero or each other: no kink between two roundings
        n = int(np.prod(shape))
        values = (np.arange(n) - n / 2 + 0.5) * (2.0 / max(n, 3)) + self.rng.uniform(0.01, 0.03, n)
        return self.rng.permutation(values).reshape(shape).astype(np.float32)

    def C(self, *shape: int) -> Any:
        self.last = self.torch.tensor(self.array(shape).reshape(-1).tolist()).reshape(shape)
        return self.last

    def T(self, *shape: int) -> Any:
        t = self.C(*shape).requires_grad_()
        self.leaves.append(t)
        return t

    def P(self, *shape: int) -> Any:
        values = np.abs(self.array(shape)) + 0.2
        t = self.torch.tensor(values.reshape(-1).tolist()).reshape(shape).requires_grad_()
        self.leaves.append(t)
        return t

    def I(self, *shape: int, lo: int = 0, hi: int = 5) -> Any:  # noqa: E743
        return self.torch.tensor(self.rng.integers(lo, hi, shape).reshape(-1).tolist()).reshape(shape)

    def B(self, *shape: int) -> Any:
        values = self.rng.permutation(np.arange(int(np.prod(shape))) % 2 == 0)
        return self.torch.tensor(values.tolist()).reshape(shape)

    def LAST(self, back: int) -> Any:
        return self.leaves[-back]

    def LASTC(self, back: int) -> Any:
        return self.last

    def M(self, module: Any) -> Any:
        """The module with weights made from their names and shapes."""
        with self.torch.no_grad():
            for name, p in module.named_parameters():
                values = np.random.default_rng(zlib.crc32(name.encode())).uniform(-0.5, 0.5, tuple(p.shape))
                p.copy_(self.torch.tensor(values.reshape(-1).tolist()).reshape(tuple(p.shape)))
                self.leaves.append(p)
        return module

    # ---- things that are more than one call

    def FIND(self, path: str) -> Any:
        return find(self.torch, path)

    def SHAPE(self, x: Any) -> Any:
        """Of what is random only the form is compared."""
        if not hasattr(x, "dtype"):
            return [self.SHAPE(v) for v in x]
        return tuple(x.shape), x.dtype, bool(x.requires_grad)

    def RAISES(self, f: Any) -> str:
        try:
            f()
        except Exception:
            return "raises"
        return "passes"

    def NOGPU(self, f: Any) -> None:
        """Called here; what PyTorch does depends on how it was built."""
        if not self.is_torch:
            f()
            if self.torch.distributed.is_initialized():
                self.torch.distributed.destroy_process_group()

    def GRADMODE(self, make: Any) -> Any:
        x = self.T(2)
        with make():
            inside = (x * 2).requires_grad
        return inside, (x * 2).requires_grad

    def SAVED(self, obj: Any) -> Any:
        f = io.BytesIO()
        self.torch.save(obj, f)
        f.seek(0)
        return self.torch.load(f)

    def SAFE(self, torch: Any) -> Any:
        model, f = self.M(self.nn.Sequential(self.nn.Linear(2, 3), self.nn.ReLU())), io.BytesIO()
        torch.save(model, f)
        f.seek(0)
        modules = self.nn.modules
        allowed = [modules.container.Sequential, modules.linear.Linear, modules.activation.ReLU]
        with torch.serialization.safe_globals(allowed):
            back = torch.load(f, weights_only=True) if not self.is_torch else model
        return back(self.C(1, 2)).detach()

    def PARALLEL(self, wrapper: Any) -> Any:
        model = self.M(self.nn.Linear(3, 2))
        if not self.is_torch:
            model = wrapper(model)
        return model(self.T(2, 3))

    def CLIP(self, clip: Any) -> Any:
        p = self.T(4)
        (p * self.C(4) * 9).sum().backward()
        total = clip([p], 0.5)
        return total, p.grad

    def OPT(self, cls: Any, **options: Any) -> Any:
        a, b = self.C(3).requires_grad_(), self.C(2, 3).requires_grad_()
        target = self.C(2, 3)
        optimizer = cls([a, b], **options)

        def closure() -> Any:
            optimizer.zero_grad()
            loss = ((a * b).tanh() - target).pow(2).sum() + (a**2).sum() * 0.1
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)
        return a.detach(), b.detach()

    def SCHED(self, cls: Any, **options: Any) -> Any:
        optimizer = self.torch.optim.SGD([self.C(2).requires_grad_()], lr=0.1, momentum=0.5)
        scheduler, rates = cls(optimizer, **options), []
        for _ in range(7):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return rates

    def LOADER(self, make: Any) -> Any:
        data = self.torch.utils.data.TensorDataset(self.C(10, 2), self.I(10))
        return [list(batch) for batch in make(data)]

    def BOARD(self) -> Any:
        if self.is_torch:  # its writer needs the tensorboard package
            return 1
        writer = self.FIND("utils.tensorboard.SummaryWriter")
        with tempfile.TemporaryDirectory() as folder:
            w = writer(folder)
            w.add_scalar("a", 1.0, 1)
            w.add_scalars("b", {"x": 1.0, "y": 2.0}, 1)
            w.add_histogram("c", self.C(9), 1)
            w.add_text("d", "text", 1)
            w.add_image("e", self.torch.zeros(3, 4, 4), 1)
            w.flush()
            w.close()
            return len([p for p in pathlib.Path(folder).iterdir() if p.name.startswith("events.out.tfevents")])

    def AUTOCAST(self, make: Any) -> Any:
        x = self.T(2, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with make(enabled=True):
                inside = x @ x
            return inside, make(enabled=False)(lambda: x @ x)()

    def SCALER(self, make: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scaler = make()
        p = self.C(2).requires_grad_()
        optimizer = self.torch.optim.SGD([p], lr=0.1)
        scaler.scale((p * 3).sum()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        return p.detach(), scaler.get_scale(), scaler.is_enabled()

    def SWITCH(self, module: Any, name: str) -> Any:
        old = getattr(module, name)
        setattr(module, name, not old)
        changed = getattr(module, name)
        setattr(module, name, old)
        return old, changed

    def PROFILE(self, profiler: Any) -> Any:
        seen: list[int] = []
        steps = profiler.schedule(wait=1, warmup=1, active=1, repeat=1)
        activities = [profiler.ProfilerActivity.CPU]
        ready = lambda p: seen.append(p.step_num)
        with profiler.profile(activities=activities, schedule=steps, on_trace_ready=ready) as p:
            for _ in range(4):
                with profiler.record_function("work"):
                    self.C(2)
                p.step()
        return seen, isinstance(p.key_averages().table(sort_by="cpu_time_total", row_limit=3), str)

    def FORK(self, fork: Any) -> Any:
        self.torch.manual_seed(1)
        with fork(devices=[]):
            self.torch.rand(3)
        after = self.torch.rand(2)
        self.torch.manual_seed(1)
        return bool((after == self.torch.rand(2)).all())

    def FUNCTION(self, torch: Any) -> Any:
        class Cube(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.save_for_backward(x)
                return x**3

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                (x,) = ctx.saved_tensors
                return 3 * x**2 * g

        class Twice(torch.autograd.Function):
            @staticmethod
            def forward(x: Any, k: int) -> Any:
                return x * k

            @staticmethod
            def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
                ctx.k = inputs[1]

            @staticmethod
            def backward(ctx: Any, g: Any) -> Any:
                return g * ctx.k, None

        class Edit(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Any) -> Any:
                ctx.mark_dirty(x)
                return x.mul_(2)

            @staticmethod
            @torch.autograd.function.once_differentiable
            def backward(ctx: Any, g: Any) -> Any:
                return g * 2

        return Cube.apply(self.T(3)), Twice.apply(self.T(3), 4), Edit.apply(self.T(3) * 1.5)

    def BACKWARD(self) -> Any:
        x = self.T(3)
        (x**2).sum().backward()
        (x * 2).backward(gradient=self.C(3))
        return x.grad

    def RETAIN(self) -> Any:
        y = self.T(3) * 2
        y.retain_grad()
        (y**2).sum().backward()
        return y.grad, y.is_leaf

    def HOOK(self) -> Any:
        x = self.T(3)
        handle = x.register_hook(lambda g: g * 10)
        (x * 2).sum().backward()
        handle.remove()
        (x * 2).sum().backward()
        return x.grad

    def POSTHOOK(self) -> Any:
        x, seen = self.T(3), []
        x.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.clone()))
        (x * 2).sum().backward()
        return seen

    def SETITEM(self) -> Any:
        a, b, c = self.C(3, 4), self.C(3, 4), self.T(3, 4) * 1
        a[1] = 0
        a[:, 1:3] = self.C(3, 2)
        b[b > 0] = -1
        b[[0, 2], 1] = self.C(2)
        c[0] = self.T(4)
        return a, b, c

    def STORAGE(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            s = self.C(2, 3)[1].storage()
            return s.size(), s[4], len(s)


# ---- one call on one side, and the comparison


def plain(x: Any) -> Any:
    """A result as nested lists of arrays and plain values that can be compared."""
    if hasattr(x, "detach") and hasattr(x, "dtype"):
        t = x.detach()
        name = str(t.dtype).rpartition(".")[2]
        wide = t.double() if getattr(t.dtype, "is_floating_point", False) else t
        return ("tensor", name, tuple(t.shape), np.array(wide.tolist()).reshape(tuple(t.shape)))
    if isinstance(x, np.ndarray):
        return ("array", str(x.dtype), x.shape, x.astype(np.float64))
    if type(x).__name__ == "dtype":
        return str(x).rpartition(".")[2]
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [plain(v) for v in x]
    return x if isinstance(x, (int, float, str, bool, bytes, type(None))) else type(x).__name__


def scalars(x: Any) -> list[Any]:
    """Tensors of a result that have a gradient."""
    if hasattr(x, "detach") and hasattr(x, "requires_grad"):
        return [x] if x.requires_grad else []
    if isinstance(x, dict):
        x = list(x.values())
    return [t for v in x for t in scalars(v)] if isinstance(x, (list, tuple)) else []


def run(torch: Any, entry: Entry) -> tuple[Any, Any]:
    """Results and gradients of an entry's call on one side."""
    side = Side(torch, entry.id)
    torch.manual_seed(0)
    result = eval(f"({entry.call})", side.namespace())
    values = plain(result)
    for leaf in side.leaves:  # calls that run backward themselves return the gradient
        leaf.grad = None
    total = None
    for i, t in enumerate(scalars(result)):
        weights = torch.tensor((np.cos(np.arange(t.numel()) + i) + 1.5).tolist()).reshape(tuple(t.shape)).to(t.dtype)
        part = (t * weights).sum().double()
        total = part if total is None else total + part
    if total is None:
        return values, None
    total.backward()
    return values, [None if leaf.grad is None else plain(leaf.grad) for leaf in side.leaves]


def difference(a: Any, b: Any, where: str = "result") -> str:
    """What differs between PyTorch's answer and ours, or nothing."""
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == 4 and len(b) == 4:
        if a[:3] != b[:3]:
            return f"{where}: {b[1]}{b[2]} for {a[1]}{a[2]}"
        if not np.allclose(a[3], b[3], rtol=1e-4, atol=1e-5 if a[1] != "bfloat16" else 1e-2, equal_nan=True):
            return f"{where}: values differ:\n{b[3]}\nfor\n{a[3]}"
        return ""
    if isinstance(a, float) and isinstance(b, float):
        return "" if np.isclose(a, b, rtol=1e-5, equal_nan=True) else f"{where}: {b} for {a}"
    if isinstance(a, dict) and isinstance(b, dict) and set(a) == set(b):
        return next((d for k in a if (d := difference(a[k], b[k], f"{where}[{k!r}]"))), "")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return next((d for i, (x, y) in enumerate(zip(a, b)) if (d := difference(x, y, f"{where}[{i}]"))), "")
    return "" if a == b else f"{where}: {b!r} for {a!r}"


def find(package: Any, path: str) -> Any:
    """The object of a name such as "nn.Linear"; the modules on the way are imported."""
    obj, at = package, package.__name__
    for part in path.split("."):
        at += "." + part
        try:
            obj = getattr(obj, part)
        except AttributeError:
            try:
                obj = importlib.import_module(at)
            except ModuleNotFoundError:
                raise AttributeError(f"there is no {at}") from None
    return obj

"""Module paths and the habits of programs around them: imports, settings, typed tensors, checkpointing, refusals."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tinygrad_cpp as tg
from conftest import HAVE_TORCH
from tinygrad_cpp import nn
from tinygrad_cpp.utils.checkpoint import checkpoint, checkpoint_sequential

if HAVE_TORCH:
    import torch

oracle = pytest.mark.oracle

IMPORTS = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch import Tensor, device, dtype, Size, Generator, nn, no_grad, inference_mode, optim
from torch.autograd import Function, Variable, grad, profiler
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.autograd.functional import hessian, hvp, jacobian, jvp, vhp, vjp
from torch.autograd.gradcheck import gradcheck
from torch.autograd.graph import save_on_cpu
from torch.autograd.profiler import record_function
from torch.autograd.variable import Variable
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, random_split
from torch.utils.data.dataloader import DataLoader
from torch.utils.data.sampler import RandomSampler
from torch.utils.data.distributed import DistributedSampler
from torch.utils.checkpoint import checkpoint, checkpoint_sequential
from torch.utils.tensorboard import SummaryWriter
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
import torch.utils.benchmark as benchmark
import torch.utils.cpp_extension
import torch.utils.model_zoo as model_zoo
from torch.optim import Adam, AdamW, Optimizer, SGD, lr_scheduler
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, StepLR
from torch.nn.parallel import DataParallel, DistributedDataParallel as DDP
from torch.nn.parameter import Parameter
from torch.nn.utils import clip_grad_norm_, parameters_to_vector
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.utils import _ntuple, _pair
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.init import kaiming_normal_, xavier_uniform_
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence
from torch.distributions.categorical import Categorical
from torch.cuda.amp import GradScaler, autocast
from torch.cuda import amp, nvtx
from torch.amp import GradScaler, autocast, custom_bwd, custom_fwd
import torch.cuda.nvtx as nvtx
import torch.cuda.random
import torch.backends.cudnn as cudnn
import torch.backends.cuda
import torch.backends.cuda.matmul
import torch.backends.mps
import torch.distributed as dist
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.optim import ZeroRedundancyOptimizer
import torch.multiprocessing as mp
import torch._dynamo
import torch._dynamo.config
import torch._inductor.config
from torch.profiler import ProfilerActivity, profile, record_function, schedule, tensorboard_trace_handler
import torch.accelerator, torch.compiler, torch.cpu, torch.fft, torch.functional, torch.fx, torch.hub, torch.jit
import torch.linalg, torch.mps, torch.onnx, torch.random, torch.sparse, torch.special, torch.testing, torch.types
import torch.version, torch.xpu
from torch.jit import Final
from torch.func import functional_call, grad, grad_and_value, hessian, jacrev, vmap
from torch.hub import load_state_dict_from_url
from torch.overrides import has_torch_function
from torch.serialization import add_safe_globals, safe_globals
from torch.storage import UntypedStorage
from torch.testing import assert_close
from torch.types import Device, Number
from torch.version import __version__
""".strip().splitlines()


def here(line: str) -> str:
    return (
        line.replace("torch.", "tinygrad_cpp.")
        .replace("from torch ", "from tinygrad_cpp ")
        .replace("import torch", "import tinygrad_cpp")
    )


@pytest.mark.parametrize("line", IMPORTS)
def test_import(line):
    exec(here(line), {})


def test_imports_work_in_any_order():
    lines = [here(line) for line in reversed(IMPORTS)]
    code = f"for line in {lines!r}: exec(line, {{}})\nprint('fine')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert out.stdout.strip() == "fine", out.stderr


def test_rare_modules_are_not_imported_at_the_start():
    code = "import sys, tinygrad_cpp; print(*sorted(m for m in sys.modules if m.startswith('tinygrad_cpp.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    rare = "cuda amp backends distributed distributions profiler jit fx onnx hub func testing multiprocessing array_api"
    assert not {f"tinygrad_cpp.{m}" for m in rare.split()} & set(loaded)


def test_unknown_names_tell_similar_ones_and_the_page():
    cases = {(tg, "matmull"): "matmul", (nn, "Liner"): "Linear", (nn.functional, "softmaxx"): "softmax",
             (tg.cuda, "is_avaliable"): "is_available", (tg.optim, "Adamm"): "Adam", (nn.init, "kaimin_normal_"): "kaiming_normal_", (tg.special, "expitt"): "expit"}  # fmt: skip
    for (module, name), similar in cases.items():
        with pytest.raises(AttributeError, match=rf"{name}.*did you mean.*{similar}.*from-pytorch\.md"):
            getattr(module, name)
    with pytest.raises(AttributeError, match="Switches|switch|switches"):
        tg.backends.cudnn.benchmrk = True
    assert not hasattr(tg, "__no_such_name__") and "cuda" in dir(tg)


# ---- versions and settings


def test_version_compares_like_the_pytorch_it_follows():
    v = tg.__version__
    assert isinstance(v, str) and v == tg.version.__version__
    assert v >= "2.0" and v > "1.13.1" and not v < "2.0" and v < "3.0" and v <= (99, 0) and v >= (2, 0)
    assert tg.version.cuda is None and tuple(int(x) for x in v.split(".")[:2]) >= (0, 0)


def test_settings_are_remembered():
    tg.set_float32_matmul_precision("medium")
    assert tg.get_float32_matmul_precision() == "medium"
    tg.set_float32_matmul_precision("highest")
    with pytest.raises(tg.ValueError, match="highest"):
        tg.set_float32_matmul_precision("low")
    tg.use_deterministic_algorithms(True, warn_only=True)
    assert tg.are_deterministic_algorithms_enabled() and tg.is_deterministic_algorithms_warn_only_enabled()
    assert tg.get_deterministic_debug_mode() == 1
    tg.set_deterministic_debug_mode("default")
    assert not tg.are_deterministic_algorithms_enabled() and tg.get_deterministic_debug_mode() == 0
    with pytest.raises(tg.ValueError):
        tg.set_deterministic_debug_mode("loud")
    tg.set_warn_always(True)
    assert tg.is_warn_always_enabled() and not tg.is_autocast_enabled() and tg.compiled_with_cxx11_abi()
    tg.set_num_interop_threads(2)
    assert tg.get_num_interop_threads() == 1 and tg.set_flush_denormal(True) is False
    tg.set_default_tensor_type(tg.DoubleTensor)
    assert tg.zeros(1).dtype is tg.float64
    tg.set_default_tensor_type("torch.FloatTensor")
    assert tg.zeros(1).dtype is tg.float32
    with pytest.raises(tg.TypeError):
        tg.set_default_tensor_type("NoTensor")


def test_devices():
    with tg.device("cpu") as d:
        assert tg.zeros(2).device == d == tg.get_default_device()
    with pytest.raises(tg.DeviceError), tg.device("cuda"):
        pass
    assert repr(tg.device("cuda", 1)) == "device(type='cuda', index=1)" and str(tg.device("cuda:0")) == "cuda:0"


def test_backends():
    with tg.backends.cudnn.flags(enabled=False, benchmark=True):
        assert tg.backends.cudnn.benchmark and not tg.backends.cudnn.enabled
        assert not tg.backends.cuda.cudnn_sdp_enabled()
    assert not tg.backends.cudnn.benchmark and tg.backends.cuda.math_sdp_enabled()
    assert tg.backends.cuda.is_built() == any(pathlib.Path(tg.__file__).parent.glob("libtinygrad_cuda.*"))
    with tg.backends.cuda.sdp_kernel(enable_flash=False):
        pass
    assert not tg.backends.mps.is_available() and isinstance(tg.backends.cpu.get_cpu_capability(), str)


# ---- compile, autocast without CUDA, profiler: accepted


def test_compile_gives_the_program_itself():
    model = nn.Linear(2, 2)
    assert (
        tg.compile(model, fullgraph=True, dynamic=False, backend="eager", mode=None, options=None, disable=True)
        is model
    )

    @tg.compile
    def f(x):
        return x + 1

    @tg.compile(mode="max-autotune")
    def g(x):
        return x + 2

    assert f(tg.ones(1)) == 2 and g(tg.ones(1)) == 3 and tg.compiler.compile(f) is f
    with pytest.raises(tg.TypeError, match="fullgraf"):
        tg.compile(f, fullgraf=True)
    with pytest.raises(tg.ValueError, match="mode"):
        tg.compile(f, mode="default", options={"x": 1})
    assert tg.compiler.disable(f) is f and tg.compiler.disable()(f) is f and not tg.compiler.is_compiling()
    assert tg._dynamo.disable(f) is f


def test_autocast_without_its_device():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tg.autocast("cuda"), tg.cuda.amp.autocast():
            assert not tg.is_autocast_enabled()
    with pytest.raises(tg.ValueError, match="device_type"):
        tg.autocast("tpu")
    with pytest.raises(tg.TypeError):
        tg.autocast(tg.device("cpu"))
    scaler = tg.amp.GradScaler()
    assert not scaler.is_enabled() and scaler.get_scale() == 1 and scaler.state_dict() == {}
    assert (
        scaler.get_growth_factor() == 2 and scaler.get_backoff_factor() == 0.5 and scaler.get_growth_interval() == 2000
    )


def test_profiler(tmp_path):
    steps = tg.profiler.schedule(wait=1, warmup=1, active=2, repeat=1, skip_first=1)
    folder = tmp_path / "log"
    with tg.profiler.profile(schedule=steps, on_trace_ready=tg.profiler.tensorboard_trace_handler(str(folder))) as p:
        for _ in range(6):
            with tg.profiler.record_function("step"):
                tg.ones(3)
            p.step()
    assert len(list(folder.iterdir())) == 1
    (region,) = p.key_averages()
    assert region.key == "step" and region.count == 6 and region.cpu_time_total > 0
    assert "step" in p.key_averages().table(sort_by="cpu_time_total") and p.key_averages().total_average().count == 6
    with tg.autograd.profiler.profile() as p:
        pass
    assert p.events() == [] and "record_function" in p.table()


# ---- no GPU, one process


def test_cuda_answers_or_refuses():
    cuda = tg.cuda
    assert (
        not cuda.is_available()
        and cuda.device_count() == 0
        and not cuda.is_initialized()
        and cuda.get_arch_list() == []
    )
    for f in (cuda.manual_seed, cuda.manual_seed_all):
        f(3)
    for f in (cuda.empty_cache, cuda.ipc_collect, cuda.reset_peak_memory_stats, cuda.seed_all):
        assert f() is None
    assert cuda.memory_allocated() == cuda.max_memory_allocated() == cuda.memory_reserved() == 0
    assert cuda.memory_stats() == {} and cuda.get_rng_state_all() == [] and cuda.set_rng_state_all([]) is None
    refusing = [cuda.init, cuda.current_device, cuda.synchronize, cuda.get_device_name, cuda.get_device_capability,
                cuda.get_device_properties, cuda.mem_get_info, cuda.Stream, cuda.current_stream, cuda.get_rng_state,
                cuda.CUDAGraph, lambda: cuda.set_device(0), lambda: cuda.FloatTensor([1]), lambda: tg.ones(1).cuda(),
                lambda: tg.ones(1).to("cuda"), lambda: tg.ones(1, device="cuda"), tg.mps.synchronize,
                tg.accelerator.synchronize, lambda: cuda.set_per_process_memory_fraction(0.5),
                cuda.nccl.version]  # fmt: skip
    for f in refusing:
        with pytest.raises(tg.DeviceError):
            f()
    assert not cuda.nccl.is_available([tg.ones(1)]) and not cuda.nccl.is_available([])
    with pytest.raises(tg.DeviceError), cuda.device(0):
        pass
    with cuda.device(-1), cuda.device_of(tg.ones(1)), cuda.stream(None), cuda.nvtx.range("x"):
        cuda.nvtx.range_push("a"), cuda.nvtx.range_pop(), cuda.nvtx.mark("b")
    a, b = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
    a.record(), b.record(), b.synchronize(), b.wait()
    assert a.elapsed_time(b) >= 0 and a.query()
    with pytest.raises(tg.ValueError, match="enable_timing"):
        cuda.Event().elapsed_time(a)


def test_distributed_is_one_process(monkeypatch):
    dist = tg.distributed
    assert not dist.is_available() and not dist.is_initialized() and not dist.is_nccl_available()
    for f in (dist.get_rank, dist.barrier, lambda: dist.all_reduce(tg.ones(1)), dist.destroy_process_group):
        with pytest.raises(tg.ValueError, match="init_process_group"):
            f()
    with pytest.raises(tg.NotImplementedError, match="4 processes"):
        dist.init_process_group("nccl", rank=0, world_size=4)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(tg.NotImplementedError, match="2 processes"):
        dist.init_process_group("gloo")
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(tg.ValueError, match="rank 1"):
        dist.init_process_group("gloo", rank=1, world_size=1)
    dist.init_process_group("gloo", rank=0, world_size=1)
    try:
        assert (
            dist.is_initialized()
            and dist.get_rank() == 0
            and dist.get_world_size() == 1
            and dist.get_backend() == "gloo"
        )
        with pytest.raises(tg.ValueError, match="twice"):
            dist.init_process_group("gloo", rank=0, world_size=1)
        x, out = tg.arange(3.0), [tg.zeros(3)]
        dist.all_reduce(x, op=dist.ReduceOp.AVG)
        dist.broadcast(x, src=0)
        dist.reduce(x, dst=0)
        dist.all_gather(out, x)
        assert dist.barrier(async_op=True).wait() and out[0].tolist() == [0, 1, 2]
        objects = [None]
        dist.all_gather_object(objects, {"a": 1})
        dist.broadcast_object_list(objects, src=0)
        assert objects == [{"a": 1}] and dist.new_group([0]).size() == 1
        for f in (lambda: dist.broadcast(x, src=1), lambda: dist.all_gather([], x), lambda: dist.new_group([0, 1])):
            with pytest.raises(tg.ValueError):
                f()
        p = nn.Parameter(tg.ones(2))
        optimizer = dist.optim.ZeroRedundancyOptimizer([p], optimizer_class=tg.optim.SGD, lr=0.5)
        p.sum().backward()
        optimizer.step()
        assert p.tolist() == [0.5, 0.5]
    finally:
        dist.destroy_process_group()


def test_importable_and_refusing(tmp_path):
    refusing = [lambda: tg.onnx.export(None, None), lambda: tg.fx.symbolic_trace(None), lambda: tg.fx.Graph(),
                lambda: tg.jit.load("x"), lambda: tg.jit.save(None, "x"), lambda: tg.hub.load("a/b", "c"),
                lambda: tg.hub.list("a/b"), lambda: tg.hub.load_state_dict_from_url("https://x/none.pt", str(tmp_path)),
                lambda: tg.vmap(abs), lambda: tg.utils.cpp_extension.load("x"), lambda: tg._dynamo.explain(abs)]  # fmt: skip
    for f in refusing:
        with pytest.raises(tg.NotImplementedError):
            f()
    tg.hub.set_dir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    tg.save({"w": tg.ones(1)}, tmp_path / "checkpoints" / "m.pt")
    assert tg.hub.get_dir() == str(tmp_path) and tg.hub.load_state_dict_from_url("https://x/m.pt")["w"] == 1

    @tg.jit.script
    def f(x):
        return x + 1

    @tg.jit.ignore
    def g(x):
        return x

    assert f(tg.ones(1)) == 2 and tg.jit.trace(f, (1,)) is f and g(1) == 1 and not tg.jit.is_scripting()
    assert tg.jit.isinstance([1], list) and tg.jit.wait(tg.jit.fork(abs, -1)) == 1 and tg.fx.wrap(f) is f


# ---- tensors by their older names


def test_typed_tensors():
    assert tg.LongTensor([1, 2]).dtype is tg.int64 and tg.ByteTensor(2, 3).shape == (2, 3)
    assert tg.HalfTensor(tg.Size([4])).shape == (4,) and tg.BoolTensor().shape == (0,)
    assert tg.IntTensor(np.array([1, 2])).tolist() == [1, 2] and tg.DoubleTensor(tg.ones(2)).dtype is tg.float64
    assert isinstance(tg.ones(2), tg.FloatTensor) and not isinstance(tg.ones(2), tg.LongTensor)
    assert not isinstance(3, tg.LongTensor) and issubclass(nn.Parameter, tg.Tensor)
    with pytest.raises(tg.DeviceError):
        tg.LongTensor([1], device="cuda")
    with pytest.raises(tg.TypeError):
        tg.FloatTensor([1], [2])
    assert tg.Tensor(tg.Size([2, 3])).shape == (2, 3) and tg.Tensor(2, device="cpu").shape == (2,)
    with pytest.raises(tg.DeviceError):
        tg.Tensor(2, device="cuda")
    assert tg.ones(2).new([1, 2]).tolist() == [1, 2] and tg.ones(2, dtype=tg.int32).new(3).dtype is tg.int32
    assert tg.typename(tg.ones(1)) == "torch.FloatTensor" and tg.typename(3) == "int"


def test_storages():
    t = tg.arange(6.0).reshape(2, 3)
    s, u = t[1].storage(), t.untyped_storage()
    assert s.size() == len(s) == 6 and s[4] == 4 and s.tolist() == [0, 1, 2, 3, 4, 5] and s.dtype is tg.float32
    assert u.nbytes() == u.size() == 24 and u.data_ptr() == t.data_ptr() == s.untyped().data_ptr() and not u.is_cuda
    assert tg.is_storage(s) and not tg.is_storage(t) and len(u.tolist()) == 24 and u.device == t.device
    assert t.is_set_to(t.view(2, 3)) and not t.is_set_to(t[1]) and t.storage_type() is tg.TypedStorage


def test_small_methods_of_tensors():
    t = tg.arange(6.0).reshape(2, 3)
    assert t.clone().apply_(lambda x: x + 1).tolist() == [[1, 2, 3], [4, 5, 6]]
    assert t.clone().map_(tg.ones(3), lambda x, y: x - y).tolist() == [[-1, 0, 1], [2, 3, 4]]
    with pytest.raises(tg.AutogradError):
        tg.ones(2, requires_grad=True).apply_(abs)
    for flag in ("is_sparse", "is_quantized", "is_meta", "is_mps", "is_nested", "is_mkldnn", "is_xpu"):
        assert getattr(t, flag) is False
    assert t.layout is tg.strided and t.share_memory_() is t and not t.is_shared() and t.record_stream(None) is None
    assert t.conj() is t and t.real is t and not t.is_conj() and t.adjoint().shape == (3, 2) and t.isreal().all()
    assert t.dim_order() == (0, 1) and t.t().dim_order() == (1, 0) and t.const_data_ptr() == t.data_ptr()
    assert reversed(t).tolist() == [[5, 4, 3], [2, 1, 0]] and complex(tg.tensor(2.0)) == 2 and t.name is None
    assert tg.tensor([1.0]).is_nonzero() and not tg.is_inference(t)

    class Mine(tg.Tensor):
        pass

    assert type(t.as_subclass(Mine)) is Mine and t.as_subclass(Mine).data_ptr() == t.data_ptr()


# ---- autograd


def test_variable_is_a_leaf_over_the_same_memory():
    from tinygrad_cpp.autograd import Variable

    x = tg.ones(2)
    v = Variable(x, requires_grad=True)
    assert v is not x and v.requires_grad and not x.requires_grad and v.data_ptr() == x.data_ptr()
    assert isinstance(x, Variable) and not Variable(v * 2, volatile=True).requires_grad
    with pytest.raises(tg.TypeError, match="data"):
        Variable([1])


@oracle
@pytest.mark.parametrize("name", ["jacobian", "hessian", "hvp", "vhp", "vjp", "jvp"])
def test_functional_derivatives(name):
    def results(t):
        f = getattr(t.autograd.functional, name)
        a, b = t.tensor([0.5, -1.0, 2.0]), t.tensor([[1.0, 0.3, -0.2], [0.1, 0.7, 0.4]])
        one = lambda x: (x**3).sum()
        two = lambda x, y: (x * y).sum() ** 2 + (y**3).sum()
        many = lambda x, y: (x * y, (x**2).sum())
        if name == "jacobian":
            return [f(lambda x: x**2, a), f(many, (a, b)), f(lambda x: (x * 2, x.sum()), a)]
        if name == "hessian":
            return [f(one, a), f(two, (a, b))]
        if name in ("hvp", "vhp"):
            return [f(one, a, a * 2), f(two, (a, b), (a, b * 2))]
        seeds = (a, b) if name == "jvp" else (b, t.tensor(2.0))
        return [f(many, (a, b), seeds), f(lambda x: x.sum(), a, a if name == "jvp" else None)]

    from census import difference, plain

    assert not difference(plain(results(torch)), plain(results(tg)))


def test_functional_derivatives_have_graphs_and_errors():
    from tinygrad_cpp.autograd import functional

    x = tg.tensor([1.0, 2.0], requires_grad=True)
    j = functional.jacobian(lambda t: t**3, x, create_graph=True)
    j.sum().backward()
    assert x.grad.tolist() == [6, 12] and not functional.jacobian(lambda t: t**3, x).requires_grad
    assert functional.jacobian(lambda t: tg.ones(2), x).tolist() == [[0, 0], [0, 0]]
    for bad in (lambda: functional.jacobian(lambda t: 3, x), lambda: functional.jacobian(lambda t: t, 3)):
        with pytest.raises(tg.TypeError):
            bad()
    with pytest.raises(tg.ValueError, match="one number"):
        functional.hessian(lambda t: t, x)
    with pytest.raises(tg.ValueError, match="left out"):
        functional.vjp(lambda t: t, x)
    with pytest.raises(tg.ShapeError, match="vector 0"):
        functional.vjp(lambda t: t, x, tg.ones(3))


@oracle
def test_func():
    def results(t):
        a, b = t.tensor([0.5, -1.0, 2.0]), {"k": t.tensor([1.0, 2.0, 3.0])}
        f = lambda x, y: (x * y["k"]).sum() ** 2
        out = [t.func.grad(f)(a, b), t.func.grad(f, argnums=(0, 1))(a, b), t.func.grad_and_value(f, argnums=1)(a, b)]
        out += [t.func.jacrev(lambda x: x**2)(a), t.func.hessian(lambda x: (x**3).sum())(a)]
        out += [t.func.grad(lambda x: ((x**2).sum(), x * 2), has_aux=True)(a)]
        value, product = t.func.vjp(lambda x: x**2, a)
        return [*out, value, product(a), t.func.grad(t.func.grad(lambda x: x**3))(t.tensor(2.0))]

    from census import difference, plain

    assert not difference(plain(results(torch)), plain(results(tg)))


def test_functional_call_differentiates_by_what_is_given():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, affine=False))
    model.eval()
    before = model[0].weight
    w = tg.ones(3, 2, requires_grad=True)
    out = tg.func.functional_call(model, {"0.weight": w * 2, "1.running_var": tg.full((3,), 4.0)}, (tg.ones(1, 2),))
    out.sum().backward()
    assert model[0].weight is before and before.grad is None and w.grad is not None
    expected = (tg.tensor(4.0) + model[0].bias) / (4.0 + 1e-5) ** 0.5
    assert tg.allclose(out[0], expected)
    with pytest.raises(tg.ValueError, match="no parameter or buffer"):
        tg.func.functional_call(model, {"0.weird": w}, (tg.ones(1, 2),))
    parameters, buffers = tg.func.stack_module_state([nn.Linear(2, 3), nn.Linear(2, 3)])
    assert parameters["weight"].shape == (2, 3, 2) and parameters["weight"].requires_grad and buffers == {}


def test_a_function_that_edits_its_input():
    class Double(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, returned=True):
            ctx.mark_dirty(x)
            x.mul_(2)
            return x if returned else x + 1

        @staticmethod
        def backward(ctx, g):
            return g * 2, None

    leaf = tg.ones(2, requires_grad=True)
    x = leaf * 3
    y = Double.apply(x)
    assert y is x and x.grad_fn.name() == "DoubleBackward"
    (y**2).sum().backward()
    assert leaf.grad.tolist() == [72, 72]
    for bad, text in ((leaf, "leaf"), ((leaf * 1)[0:1], "view")):
        with pytest.raises(tg.AutogradError, match=text):
            Double.apply(bad)
    with pytest.raises(tg.AutogradError, match="returned"):
        Double.apply(leaf * 1, False)
    square = (leaf * 1).exp()
    z = square.sin()
    Double.apply(square)
    with pytest.raises(tg.AutogradError, match="modified in place"):
        z.sum().backward()


# ---- checkpointing


def grads(module):
    return [p.grad.clone() for p in module.parameters()]


def test_checkpoint_has_the_same_bits():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 2))
    outside = tg.randn(2, requires_grad=True)
    x = tg.randn(3, 4, requires_grad=True)
    run = lambda h, scale=1.0: model(h) * outside * scale
    results = []
    for f in (run, lambda h, scale=1.0: checkpoint(run, h, use_reentrant=False, scale=scale)):
        tg.manual_seed(5)
        model.zero_grad()
        outside.grad = x.grad = None
        loss = f(x, scale=2.0).pow(2).sum()
        tg.rand(3)
        after = tg.get_rng_state()
        loss.backward()
        assert (tg.get_rng_state() == after).all()
        results.append([loss.detach(), x.grad.clone(), outside.grad.clone(), *grads(model)])
    assert all((a == b).all() for a, b in zip(*results))


def test_checkpoint_of_modules_and_other_arguments():
    model = nn.Linear(3, 2)
    x = tg.randn(2, 3)
    expected = tg.autograd.grad(model(x).sum(), list(model.parameters()))
    got = tg.autograd.grad(checkpoint(model, x).sum(), list(model.parameters()))
    assert all((a == b).all() for a, b in zip(expected, got))
    with tg.no_grad():
        assert not checkpoint(model, x).requires_grad
    a, flag, b = checkpoint(lambda t, k, flag: (t * k, flag, t.detach()), tg.ones(2, requires_grad=True), 3, "x")
    a.sum().backward()
    assert flag == "x" and b.tolist() == [1, 1]
    nested = checkpoint(lambda t: checkpoint(model, t) * 2, x)
    model.zero_grad()
    nested.sum().backward()
    assert tg.allclose(model.weight.grad, 2 * expected[0])
    y = tg.randn(2, 3, requires_grad=True)
    for segments in (1, 2, 3):
        steps = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3), nn.ReLU())
        y.grad = None
        checkpoint_sequential(steps, segments, y).sum().backward()
        with_checkpoint, y.grad = y.grad, None
        steps(y).sum().backward()
        assert (y.grad == with_checkpoint).all()


# ---- testing, random, pytree, benchmark


def test_assert_close():
    close = tg.testing.assert_close
    a = tg.tensor([1.0, 2.0])
    (
        close(a, a + 1e-7),
        close([1, 2.0], [1, 2.0]),
        close({"x": a}, {"x": a.clone()}),
        close(a, a.double(), check_dtype=False),
    )
    (
        close(np.ones(2), tg.ones(2, dtype=tg.float64)),
        close(tg.tensor(float("nan")), tg.tensor(float("nan")), equal_nan=True),
    )
    for actual, expected, text in [
        (a, a + 1, "2 of 2 elements"), (a, a.double(), "dtypes"), (a, tg.ones(3), "sizes"), ([a], [a, a], "lengths"),
        ({"x": a}, {"y": a}, "keys"), (tg.tensor([1, 2]), tg.tensor([1, 3]), r"at \(1,\)"), (1.0, 2.0, "1 of 1"),
    ]:  # fmt: skip
        with pytest.raises(AssertionError, match=text):
            close(actual, expected)
    with pytest.raises(AssertionError, match="mine"):
        close(a, a + 1, msg="mine")
    with pytest.raises(tg.ValueError, match="both"):
        close(a, a, rtol=1e-3)
    tg.testing.assert_allclose(a, a.double())


def test_trees_timers_and_storms_of_small_things():
    from tinygrad_cpp.utils import _pytree, benchmark

    tree = {"a": [1, (2, 3)], "b": 4}
    leaves, spec = _pytree.tree_flatten(tree)
    assert leaves == [1, 2, 3, 4] and spec.num_leaves == 4 and _pytree.tree_unflatten(leaves, spec) == tree
    assert _pytree.tree_map(lambda x, y: x * y, tree, tree) == {"a": [1, (4, 9)], "b": 16}
    assert _pytree.tree_map_only(int, str, [1, 2.0]) == ["1", 2.0]
    m = benchmark.Timer("x + 1", globals={"x": 1}, label="sum").timeit(100)
    assert m.median > 0 and m.mean > 0 and "sum" in repr(m)
    assert benchmark.Timer("1 + 1").blocked_autorange(min_run_time=0.001).times
    tg.manual_seed(1)
    with tg.random.fork_rng():
        tg.rand(5)
    first = tg.rand(1)
    tg.manual_seed(1)
    assert first == tg.rand(1)
    with nn.attention.sdpa_kernel(nn.attention.SDPBackend.MATH):
        pass
    from tinygrad_cpp.nn.modules.utils import _pair

    assert _pair(3) == (3, 3) and _pair([1, 2]) == (1, 2)
    assert tg.special.expit(tg.zeros(1)) == 0.5 and "gammaln" in dir(tg.special) and tg.functional.einsum is tg.einsum
    assert tg.multiprocessing.get_sharing_strategy() == "file_system" and tg.cpu.device_count() == 1
    assert pathlib.Path(tg.__file__).name == "__init__.py"


def test_new_geometries():
    t = tg.ones(2, dtype=tg.float64)
    s = t.new_empty_strided((2, 3), (1, 2))
    assert s.shape == (2, 3) and s.stride() == (1, 2) and s.dtype is tg.float64
    assert tg.empty_strided((2, 3), (3, 1), dtype=tg.int32).dtype is tg.int32
    a, b = tg.zeros(2), tg.ones(3)
    assert a.set_(b) is a and a.shape == (3,) and a.data_ptr() == b.data_ptr()
    assert b.narrow_copy(0, 1, 2).data_ptr() != b.data_ptr() and b.narrow_copy(0, 1, 2).shape == (2,)

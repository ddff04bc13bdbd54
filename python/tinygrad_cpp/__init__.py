"""tinygrad_cpp: a tiny autograd deep-learning framework with PyTorch's names.

>>> import tinygrad_cpp as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

import builtins as _builtins
from typing import TYPE_CHECKING

from . import _C
from ._C import (
    AutogradError,
    CompileError,
    DeviceError,
    DTypeError,
    Error,
    FormatError,
    Generator,
    IndexError,
    IoError,
    NotImplementedError,
    OutOfMemoryError,
    ShapeError,
    Size,
    Tensor,
    TypeError,
    ValueError,
    as_tensor,
    bfloat16,
    bool,
    can_cast,
    clear_autocast_cache,
    default_generator,
    device,
    double,
    dtype,
    float,
    float16,
    float32,
    float64,
    from_dlpack,
    from_numpy,
    get_autocast_dtype,
    get_default_device,
    get_default_dtype,
    get_num_threads,
    get_rng_state,
    half,
    initial_seed,
    int,
    int8,
    int16,
    int32,
    int64,
    is_autocast_cache_enabled,
    is_autocast_enabled,
    is_floating_point,
    is_grad_enabled,
    is_inference_mode_enabled,
    is_tensor,
    load_npy,
    long,
    manual_seed,
    numel,
    promote_types,
    result_type,
    save_npy,
    save_plot,
    seed,
    set_autocast_cache_enabled,
    set_autocast_dtype,
    set_autocast_enabled,
    set_default_device,
    set_default_dtype,
    set_num_threads,
    set_printoptions,
    set_rng_state,
    short,
    tensor,
    uint8,
)

# Functions that PyTorch has in nn.functional and here.
from ._C.nn_functional import (
    adaptive_avg_pool1d,
    bilinear,
    celu,
    celu_,
    max_pool1d_with_indices,
    pairwise_distance,
    rrelu,
    selu,
    selu_,
)
from ._functions import (
    adjoint,
    angle,
    asarray,
    binomial,
    broadcast_shapes,
    channels_last,
    conj,
    conj_physical,
    contiguous_format,
    empty_strided,
    fill,
    frobenius_norm,
    frombuffer,
    get_device,
    gradient,
    is_complex,
    is_nonzero,
    is_signed,
    isreal,
    narrow_copy,
    poisson,
    preserve_format,
    range,
    real,
    resolve_conj,
    resolve_neg,
    strided,
    tensordot,
    unravel_index,
    vander,
)
from ._info import finfo, iinfo
from ._modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from ._settings import (
    are_deterministic_algorithms_enabled,
    compile,
    compiled_with_cxx11_abi,
    get_deterministic_debug_mode,
    get_float32_matmul_precision,
    get_num_interop_threads,
    is_deterministic_algorithms_warn_only_enabled,
    is_inference,
    is_storage,
    is_warn_always_enabled,
    set_default_tensor_type,
    set_deterministic_debug_mode,
    set_float32_matmul_precision,
    set_flush_denormal,
    set_num_interop_threads,
    set_warn_always,
    typename,
    use_deterministic_algorithms,
    vmap,
)
from ._suggest import lazy as _lazy
from ._tensor import install as _install
from ._windows import bartlett_window, blackman_window, hamming_window, hann_window, kaiser_window
from .serialization import load, save

_install()

# One function per op of the table; what is written here by hand takes precedence.
globals().update({_k: _v for _k, _v in vars(_C.ops).items() if not _k.startswith("_") and _k not in globals()})

from . import autograd, nn, optim, serialization, utils, version  # noqa: E402
from .version import __version__  # noqa: E402

pi = 3.141592653589793
e = 2.718281828459045
inf = _builtins.float("inf")
nan = _builtins.float("nan")
newaxis = None


# Modules that few programs need are imported when they are asked for.
_MODULES = """_dynamo _inductor _utils accelerator amp array_api backends checkpoint compiler cpu cuda distributed
distributions fft func functional fx hub jit linalg memory mps multiprocessing onnx overrides profiler random
sparse special storage testing types xpu
""".split()
_unknown = _lazy(__name__, globals(), _MODULES)

for _module in (nn, nn.functional, nn.init, nn.modules, nn.utils, optim, optim.lr_scheduler):
    if "__getattr__" not in vars(_module):
        _module.__getattr__ = _lazy(
            _module.__name__, vars(_module), ["attention", "common_types"] if _module is nn else []
        )

if TYPE_CHECKING:
    from . import (
        accelerator,
        amp,
        backends,
        checkpoint,
        compiler,
        cuda,
        distributed,
        fft,
        func,
        fx,
        hub,
        jit,
        linalg,
        memory,
        mps,
        multiprocessing,
        onnx,
        overrides,
        profiler,
        random,
        sparse,
        special,
        testing,
        types,
    )
    from ._estimate import estimate, find_batch_size
    from ._typed import TypedStorage, UntypedStorage
    from .amp import GradScaler, autocast
    from .sparse import sparse_coo, sparse_coo_tensor


def __getattr__(name: str) -> object:
    if name in ("autocast", "GradScaler"):
        from . import amp

        return getattr(amp, name)
    if name in ("estimate", "find_batch_size"):
        from . import _estimate

        return getattr(_estimate, name)
    if name in ("sparse_coo", "sparse_coo_tensor"):
        from . import sparse

        return getattr(sparse, name)
    if name in ("Storage", "TypedStorage", "UntypedStorage") or name.endswith("Tensor"):
        from . import _typed

        if name in _typed.NAMES:
            return globals().setdefault(name, _typed.make_type(name))
        if name.endswith("Storage"):
            return _typed.TypedStorage if name == "Storage" else getattr(_typed, name)
    return _unknown(name)


def __dir__() -> list[str]:
    return sorted(
        k for k in {*globals(), *_MODULES} if not k.startswith("_") or (k.startswith("__") and k.endswith("__"))
    )

"""tinygrad_cpp: a tiny autograd deep-learning framework with PyTorch's names.

>>> import tinygrad_cpp as tg
>>> x = tg.tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad
tensor([2., 4.])
"""

import builtins as _builtins

from . import _C
from ._C import (
    AutogradError,
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
    set_default_dtype,
    set_num_threads,
    set_printoptions,
    set_rng_state,
    short,
    tensor,
    uint8,
)
from ._functions import (
    asarray,
    broadcast_shapes,
    channels_last,
    contiguous_format,
    is_complex,
    is_nonzero,
    preserve_format,
    set_default_device,
    strided,
    tensordot,
)
from ._info import finfo, iinfo
from ._modes import enable_grad, inference_mode, no_grad, set_grad_enabled
from .serialization import load, save

# One function per op of the table; what is written here by hand takes precedence.
globals().update({_k: _v for _k, _v in vars(_C.ops).items() if not _k.startswith("_") and _k not in globals()})

from . import autograd, memory, nn, optim, utils, version  # noqa: E402
from .version import __version__  # noqa: E402

pi = 3.141592653589793
e = 2.718281828459045
inf = _builtins.float("inf")
nan = _builtins.float("nan")
newaxis = None


def __getattr__(name: str) -> object:
    from ._suggest import unknown_name

    raise AttributeError(unknown_name(__name__, name, globals()))


def __dir__() -> list[str]:
    return sorted(k for k in globals() if not k.startswith("_") or (k.startswith("__") and k.endswith("__")))

"""Functions behind the modules. Most come straight from the op table."""

from __future__ import annotations

from .._C import NotImplementedError
from .._C import nn_functional as _ops
from .._C.nn_functional import *  # noqa: F403


def _with_inplace(name: str, settings: int):
    """PyTorch's signature f(input, *settings, inplace=False) for an op that has an in-place form."""
    plain = getattr(_ops, name)

    def f(input, *args, inplace=False, **kwargs):
        if len(args) > settings:
            *args, inplace = args
        if inplace:
            return getattr(input, name + "_")(*args, **kwargs)
        return plain(input, *args, **kwargs)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = plain.__doc__
    return f


for _name, _settings in {
    "relu": 0,
    "leaky_relu": 1,
    "elu": 1,
    "celu": 1,
    "selu": 0,
    "silu": 0,
    "mish": 0,
    "hardsigmoid": 0,
    "hardswish": 0,
    "hardtanh": 2,
    "threshold": 2,
}.items():
    if hasattr(_ops, _name):
        globals()[_name] = _with_inplace(_name, _settings)


def _with_indices(name: str):
    """PyTorch's return_indices=True for a pooling op."""
    values, both = getattr(_ops, name), getattr(_ops, name + "_with_indices", None)

    def f(input, *args, return_indices=False, **kwargs):
        if not return_indices:
            return values(input, *args, **kwargs)
        if both is None:
            raise NotImplementedError(f"{name}: return_indices=True is not implemented")
        return both(input, *args, **kwargs)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = values.__doc__
    return f


for _name in (
    "max_pool1d",
    "max_pool2d",
    "max_pool3d",
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
):
    globals()[_name] = _with_indices(_name)


def _with_kept_sizes(name: str):
    """PyTorch's output_size of an adaptive pooling op: None keeps the input's size of that dimension."""
    op = globals()[name]

    def f(input, output_size, *args, **kwargs):
        if isinstance(output_size, (tuple, list)) and None in output_size:
            kept = input.shape[-len(output_size) :]
            output_size = [k if n is None else n for n, k in zip(output_size, kept)]
        return op(input, output_size, *args, **kwargs)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = op.__doc__
    return f


for _kind in ("avg", "max"):
    for _n in (1, 2, 3):
        globals()[f"adaptive_{_kind}_pool{_n}d"] = _with_kept_sizes(f"adaptive_{_kind}_pool{_n}d")


def _with_implicit_dim(name: str):
    """PyTorch's old default: dim=None means 0 for 0, 1 and 3 dimensions, 1 otherwise."""
    op = getattr(_ops, name)

    def f(input, dim=None, _stacklevel=3, dtype=None):
        if dim is None:
            dim = 0 if input.dim() in (0, 1, 3) else 1
        return op(input, dim, dtype)

    f.__name__ = f.__qualname__ = name
    f.__doc__ = op.__doc__
    return f


for _name in ("softmax", "log_softmax", "softmin"):
    if hasattr(_ops, _name):
        globals()[_name] = _with_implicit_dim(_name)

"""Functions of tensors, as in the package itself, under the path that some programs use."""

from typing import Any

from ._suggest import unknown_name


def __getattr__(name: str) -> Any:
    import tinygrad_cpp

    if name.startswith("_") or not hasattr(tinygrad_cpp._C.ops, name):
        raise AttributeError(unknown_name(__name__, name, dir(tinygrad_cpp._C.ops)))
    return getattr(tinygrad_cpp, name)

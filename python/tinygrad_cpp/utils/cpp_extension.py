"""Extensions of PyTorch in C++ and CUDA cannot be loaded: importable, refuses when used."""

from typing import Any

from .. import _C
from .._suggest import lazy

CUDA_HOME: str | None = None
ROCM_HOME: str | None = None


def load(name: str, *args: Any, **kwargs: Any) -> Any:
    """Refused: C++ programs use the package's own headers (`python -m tinygrad_cpp --include-dir`)."""
    raise _C.NotImplementedError(f"cpp_extension.load: extensions of PyTorch such as {name!r} cannot be loaded here")


load_inline = load


class BuildExtension:
    """Refused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise _C.NotImplementedError("cpp_extension.BuildExtension: extensions of PyTorch cannot be built here")


CppExtension = CUDAExtension = BuildExtension
__getattr__ = lazy(__name__, globals())

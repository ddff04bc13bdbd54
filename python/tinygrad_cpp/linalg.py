"""Linear algebra with the names, shapes and named results of PyTorch's module.

Every function takes float32 or float64 matrices in the last two dimensions, batched over the leading ones. Those whose
result need not exist raise ``LinAlgError`` (an ``Error``, so a ``RuntimeError``); the ``_ex`` forms return ``info``
instead. Complex results, such as eigenvalues of matrices that are not symmetric, are out of scope.
"""

from typing import NoReturn

from . import _C
from ._C import LinAlgError
from ._C.linalg import *  # noqa: F403

__all__ = ["LinAlgError", "eig", "eigvals", *(name for name in vars(_C.linalg) if not name.startswith("_"))]


def eig(A: object) -> NoReturn:
    """Refused: eigenvalues of matrices that are not symmetric are complex."""
    raise _C.NotImplementedError("linalg.eig: the result is complex, which is out of scope; see eigh, eigvalsh")


def eigvals(A: object) -> NoReturn:
    """Refused like eig."""
    raise _C.NotImplementedError("linalg.eigvals: the result is complex, which is out of scope; see eigh, eigvalsh")


def __getattr__(name: str) -> object:
    from ._suggest import unknown_name

    raise AttributeError(unknown_name(__name__, name, globals()))

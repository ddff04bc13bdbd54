"""What the namespace offers."""

from __future__ import annotations

import sys
from typing import Any

from .. import _C
from .._C import Tensor, device, dtype, int64
from ._types import KINDS

__array_api_version__ = "2023.12"


class _Info:
    """What this namespace offers: the standard's inspection functions."""

    def capabilities(self) -> dict[str, Any]:
        """Indexing by masks and functions whose result sizes depend on values work."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 12}

    def default_device(self) -> device:
        """Where tensors are made without being told."""
        return device("cpu")

    def devices(self) -> list[device]:
        """All devices."""
        return [device("cpu")]

    def default_dtypes(self, *, device: Any = None) -> dict[str, dtype]:
        """The types that creation functions take without being told."""
        return {"real floating": _C.get_default_dtype(), "integral": int64, "indexing": int64}

    def dtypes(self, *, device: Any = None, kind: Any = None) -> dict[str, dtype]:
        """The types of a kind (or of a tuple of kinds; all if None) by name."""
        kinds = ("bool", "numeric") if kind is None else kind if isinstance(kind, tuple) else (kind,)
        return {d.name: d for k in kinds for d in KINDS[k]}


def __array_namespace_info__() -> _Info:
    """What this namespace offers."""
    return _Info()


def _array_namespace(self: Tensor, *, api_version: str | None = None) -> Any:
    """The array API namespace of the tensor; ValueError for a version of the standard other than those it holds."""
    if api_version not in (None, "2021.12", "2022.12", __array_api_version__):
        raise _C.ValueError(f"__array_namespace__: version {api_version!r} is not offered, {__array_api_version__} is")
    return sys.modules[__package__]

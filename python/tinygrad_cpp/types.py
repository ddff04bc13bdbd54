"""Names for annotations."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from . import _C

Tensor = _C.Tensor
Device: TypeAlias = _C.device | str | int | None
Number: TypeAlias = int | float | bool
_bool, _int, _float = bool, int, float
_device, _dtype = _C.device, _C.dtype
_size: TypeAlias = _C.Size | list[int] | tuple[int, ...]
_TensorOrTensors: TypeAlias = Tensor | Sequence[Tensor]
Storage: TypeAlias = Any

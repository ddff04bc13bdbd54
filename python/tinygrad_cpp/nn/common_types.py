"""Names for annotations of sizes: a number, or one per dimension."""

from typing import TypeAlias

from .. import _C

_scalar_or_tuple_any_t: TypeAlias = int | tuple[int, ...]
_scalar_or_tuple_1_t: TypeAlias = int | tuple[int]
_size_any_t = _scalar_or_tuple_any_t
_size_1_t = _scalar_or_tuple_1_t
_size_2_t: TypeAlias = int | tuple[int, int]
_size_3_t: TypeAlias = int | tuple[int, int, int]
_maybe_indices_t: TypeAlias = _C.Tensor | tuple[_C.Tensor, _C.Tensor]

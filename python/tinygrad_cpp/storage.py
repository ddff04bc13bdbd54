"""Storages: the memory under tensors."""

from ._typed import TypedStorage, UntypedStorage

__all__ = ["TypedStorage", "UntypedStorage"]

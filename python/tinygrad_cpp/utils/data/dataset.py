"""Datasets: anything with `__getitem__` and `__len__`, or anything that can be iterated over."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from ... import _C

__all__ = [
    "ChainDataset",
    "ConcatDataset",
    "Dataset",
    "IterableDataset",
    "StackDataset",
    "Subset",
    "TensorDataset",
    "random_split",
]

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by index. Subclasses define `__getitem__(index)` and, for most samplers, `__len__()`.

    A subclass may also define `__getitems__(indices)`, which a loader then calls once per batch.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise _C.NotImplementedError(f"{type(self).__name__}: a Dataset must define __getitem__")

    def __add__(self, other: Dataset[Any]) -> ConcatDataset[Any]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples in a stream. Subclasses define `__iter__()`.

    With worker processes every worker iterates over its own copy, so `__iter__` must ask `get_worker_info()` which
    part of the data is its own; otherwise every sample comes once per worker.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise _C.NotImplementedError(f"{type(self).__name__}: an IterableDataset must define __iter__")

    def __add__(self, other: Dataset[Any]) -> Any:
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Sample i is the tuple of element i of every tensor; all have the same first size."""

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise _C.ValueError("TensorDataset: expected at least one tensor")
        for i, t in enumerate(tensors):
            if t.ndim == 0 or t.shape[0] != tensors[0].shape[0]:
                sizes = ", ".join(str(list(x.shape)) for x in tensors)
                raise _C.ShapeError(f"TensorDataset: tensor {i} differs in its first size; sizes are {sizes}")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]


class StackDataset(Dataset[Any]):
    """Sample i joins sample i of every dataset: a tuple, or a dict if the datasets are given by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise _C.ValueError("StackDataset: expected datasets either by position or by name")
        self.datasets: Any = kwargs or args
        parts = list(kwargs.values() if kwargs else args)
        self._length = len(parts[0])
        if any(len(d) != self._length for d in parts):
            raise _C.ValueError(f"StackDataset: lengths differ, {[len(d) for d in parts]}")

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {k: d[index] for k, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """One dataset after another."""

    datasets: list[Any]
    cumulative_sizes: list[int]

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise _C.ValueError("ConcatDataset: expected at least one dataset")
        for i, d in enumerate(self.datasets):
            if isinstance(d, IterableDataset):
                raise _C.TypeError(f"ConcatDataset: dataset {i} is an IterableDataset; use ChainDataset")
        self.cumulative_sizes = self.cumsum(self.datasets)

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        """The number of samples in the first dataset, the first two, and so on."""
        return list(itertools.accumulate(len(d) for d in sequence))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, idx: int) -> T_co:
        n = len(self)
        if not -n <= idx < n:
            raise _C.IndexError(f"ConcatDataset: index {idx} is out of range for {n} samples")
        idx %= n
        which = bisect.bisect_right(self.cumulative_sizes, idx)
        return self.datasets[which][idx - (self.cumulative_sizes[which - 1] if which else 0)]


class ChainDataset(IterableDataset[Any]):
    """One iterable dataset after another."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        for i, d in enumerate(self.datasets):
            if not isinstance(d, IterableDataset):
                raise _C.TypeError(f"ChainDataset: dataset {i} is a {type(d).__name__}, not an IterableDataset")

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)

    def __len__(self) -> int:
        return sum(len(d) for d in self.datasets)


class Subset(Dataset[T_co]):
    """The samples of a dataset at the given indices, in that order."""

    dataset: Any
    indices: Sequence[int]

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, idx: Any) -> Any:
        if isinstance(idx, list):
            return self.dataset[[self.indices[i] for i in idx]]
        return self.dataset[self.indices[idx]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        chosen = [self.indices[i] for i in indices]
        if callable(getattr(self.dataset, "__getitems__", None)):
            return self.dataset.__getitems__(chosen)
        return [self.dataset[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[int | float], generator: Any = None) -> list[Subset[Any]]:
    """Subsets without common samples, of the given lengths or fractions of the whole.

    Fractions must sum to 1; what rounding leaves over goes to the first subsets, one sample each.
    """
    n = len(dataset)
    if any(not 0 <= x for x in lengths):
        raise _C.ValueError(f"random_split: a length must not be negative, got {list(lengths)}")
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = [math.floor(n * x) for x in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
    else:
        sizes = [int(x) for x in lengths]
        if any(s != x for s, x in zip(sizes, lengths)) or sum(sizes) != n:
            raise _C.ValueError(
                f"random_split: lengths {list(lengths)} sum to {sum(lengths)}, not to the {n} samples of the dataset"
                " (or to 1 for fractions)"
            )
    order = _C.ops.randperm(n, generator=generator).tolist()
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]

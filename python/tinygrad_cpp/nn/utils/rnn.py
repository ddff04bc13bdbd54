"""Sequences of different lengths: padded batches and packed ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..._C import ShapeError, ValueError

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


class _Fields(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any = None
    unsorted_indices: Any = None


class PackedSequence(_Fields):
    """Time steps behind each other: step t holds batch_sizes[t] rows of data, the longest sequences first.

    sorted_indices tells which sequence of the batch stands at each place, unsorted_indices where each one went; both
    are None where the batch was sorted already.
    """

    __slots__ = ()

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes.device.type != "cpu":
            raise ValueError(f"PackedSequence: batch_sizes must be on the CPU, not on {batch_sizes.device}")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """data.to(...); the indices follow to its device."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        order, back = (i if i is None else i.to(data.device) for i in (self.sorted_indices, self.unsorted_indices))
        return type(self)(data, self.batch_sizes, order, back)

    def _cast(self, name: str) -> PackedSequence:
        return type(self)(getattr(self.data, name)(), *self[1:])

    def float(self):
        return self._cast("float")

    def double(self):
        return self._cast("double")

    def half(self):
        return self._cast("half")

    def long(self):
        return self._cast("long")

    def int(self):
        return self._cast("int")

    def cpu(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to(*args, device="cpu", **kwargs)

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to(*args, device="cuda", **kwargs)

    def pin_memory(self) -> PackedSequence:
        return self._replace(data=self.data.pin_memory())

    @property
    def is_cuda(self) -> bool:
        return self.data.device.type == "cuda"

    def is_pinned(self) -> bool:
        return self.data.is_pinned()


def invert_permutation(permutation: Any) -> Any:
    """Where each position went; None for None."""
    return None if permutation is None else permutation.argsort()


def _lengths(lengths: Any) -> list[int]:
    if hasattr(lengths, "dim") and lengths.dim() != 1:
        raise ShapeError(f"pack_padded_sequence: lengths must have 1 dimension, got {lengths.dim()}")
    return [int(n) for n in lengths]


def pack_padded_sequence(input, lengths, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Packs a padded batch (time, batch, *), or (batch, time, *) with batch_first, of sequences of these lengths.

    The lengths must decrease unless enforce_sorted is False; then the batch is sorted here.
    """
    from ... import int64, tensor

    sizes = _lengths(lengths)
    if batch_first:
        input = input.transpose(0, 1)
    steps, batch = input.shape[:2]
    if len(sizes) != batch:
        raise ShapeError(f"pack_padded_sequence: expected {batch} lengths, one per sequence, got {len(sizes)}")
    if not sizes or min(sizes) <= 0:
        raise ValueError(f"pack_padded_sequence: every length must be greater than 0, got {sizes}")
    if max(sizes) > steps:
        raise ShapeError(f"pack_padded_sequence: the longest length is {max(sizes)} but input has {steps} time steps")
    order = list(range(batch))
    if not enforce_sorted:
        order.sort(key=lambda i: -sizes[i])
    elif any(a < b for a, b in zip(sizes, sizes[1:])):
        raise ValueError("pack_padded_sequence: lengths must decrease; pass enforce_sorted=False for other orders")
    counts = _batch_sizes([sizes[i] for i in order])
    rows = [t * batch + order[k] for t, n in enumerate(counts) for k in range(n)]
    index = tensor(rows, dtype=int64, device=input.device)
    data = input.reshape(steps * batch, *input.shape[2:]).index_select(0, index)
    sorted_indices = None if enforce_sorted else tensor(order, dtype=int64, device=input.device)
    return PackedSequence(data, tensor(counts, dtype=int64, device="cpu"), sorted_indices)


def _batch_sizes(decreasing: Sequence[int]) -> list[int]:
    """How many sequences are still running at each step."""
    counts, n = [], len(decreasing)
    for t in range(decreasing[0]):
        while decreasing[n - 1] <= t:
            n -= 1
        counts.append(n)
    return counts


def pad_packed_sequence(sequence, batch_first: bool = False, padding_value: float = 0.0, total_length=None):
    """Undoes pack_padded_sequence: the padded batch, and the lengths as a tensor on the CPU."""
    from ... import cat, full, int64, tensor

    data, batch_sizes, _, back = sequence
    counts = batch_sizes.tolist()
    steps, batch = len(counts), counts[0]
    if total_length is not None:
        if total_length < steps:
            raise ValueError(
                f"pad_packed_sequence: total_length must be at least the longest length {steps}, got {total_length}"
            )
        steps = total_length
    place = list(range(batch)) if back is None else back.tolist()
    rows, start = [], 0
    for n in [*counts, *[0] * (steps - len(counts))]:
        rows += [start + k if k < n else data.size(0) for k in place]  # the last row is the padding
        start += n
    padding = full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    index = tensor(rows, dtype=int64, device=data.device)
    padded = cat([data, padding]).index_select(0, index).reshape(steps, batch, *data.shape[1:])
    lengths = [sum(n > k for n in counts) for k in place]
    return padded.transpose(0, 1) if batch_first else padded, tensor(lengths, dtype=int64, device="cpu")


def pad_sequence(sequences, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"):
    """Stacks (L_i, *) tensors into (max L, N, *), or (N, max L, *), filled up with padding_value."""
    from ... import stack
    from ..functional import pad

    sequences = list(sequences)
    if not sequences:
        raise ValueError("pad_sequence: expected at least one sequence")
    if padding_side not in ("left", "right"):
        raise ValueError(f"pad_sequence: padding_side must be 'left' or 'right', got {padding_side!r}")
    longest = max(s.size(0) for s in sequences)
    padded = []
    for s in sequences:
        ends = [0] * (2 * s.dim())
        ends[-1 if padding_side == "right" else -2] = longest - s.size(0)
        padded.append(pad(s, ends, value=padding_value))
    return stack(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first: bool = False) -> list:
    """Undoes pad_sequence."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [seq[: int(n)] for seq, n in zip(padded_sequences, lengths)]


def pack_sequence(sequences: Iterable, enforce_sorted: bool = True) -> PackedSequence:
    """Packs (L_i, *) tensors."""
    sequences = list(sequences)
    return pack_padded_sequence(pad_sequence(sequences), [s.size(0) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list:
    """Undoes pack_sequence."""
    return unpad_sequence(*pad_packed_sequence(packed_sequences))

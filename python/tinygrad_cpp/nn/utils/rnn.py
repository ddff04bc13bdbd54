"""Sequences of different lengths."""

from __future__ import annotations

from ..._C import ValueError

__all__ = ["pad_sequence", "unpad_sequence"]


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right"):
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


def unpad_sequence(padded_sequences, lengths, batch_first=False):
    """Undoes pad_sequence."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [seq[: int(n)] for seq, n in zip(padded_sequences, lengths)]

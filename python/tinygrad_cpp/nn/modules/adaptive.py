"""Softmax over many classes, the rare ones in clusters."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from ... import _C
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module

__all__ = ["AdaptiveLogSoftmaxWithLoss"]
_ASMoutput = namedtuple("_ASMoutput", ["output", "loss"])


class AdaptiveLogSoftmaxWithLoss(Module):
    """Log-probabilities of (N, in_features) for targets (N) among n_classes, ordered from frequent to rare. The classes
    below cutoffs[0] and one entry for each later cluster share the head; cluster i has in_features / div_value^i
    features."""

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Any,
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        increasing = all(isinstance(c, int) for c in cutoffs) and cutoffs == sorted(set(cutoffs))
        if not cutoffs or not increasing or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
            raise _C.ValueError(
                "AdaptiveLogSoftmaxWithLoss: cutoffs must be increasing integers, each between 1 and n_classes - 1, "
                f"got {cutoffs} for {n_classes} classes"
            )
        self.in_features, self.n_classes, self.div_value, self.head_bias = in_features, n_classes, div_value, head_bias
        self.cutoffs = [*cutoffs, n_classes]
        self.shortlist_size, self.n_clusters = self.cutoffs[0], len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        where = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **where)
        self.tail = ModuleList()
        for i, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:])):
            size = int(in_features // div_value ** (i + 1))
            self.tail.append(
                Sequential(
                    Linear(in_features, size, bias=False, **where), Linear(size, high - low, bias=False, **where)
                )
            )

    def reset_parameters(self) -> None:
        """New random weights."""
        for layer in (self.head, *(layer for cluster in self.tail for layer in cluster)):
            layer.reset_parameters()

    def forward(self, input: Any, target: Any) -> Any:
        """The log-probability of each target, and the mean of their negatives."""
        batched = input.dim() > 1
        x, y = (input, target) if batched else (input.unsqueeze(0), target.unsqueeze(0))
        if y.dim() != 1 or y.shape[0] != x.shape[0]:
            raise _C.ShapeError(f"AdaptiveLogSoftmaxWithLoss: {tuple(x.shape)} does not fit targets {tuple(y.shape)}")
        if y.numel() and not (0 <= int(y.min()) and int(y.max()) < self.n_classes):
            raise _C.IndexError(f"AdaptiveLogSoftmaxWithLoss: targets must be in 0 to {self.n_classes - 1}")
        entry, rest = y, []  # what to look up in the head; rows and log-probabilities within the clusters
        for i, (low, high) in enumerate(zip(self.cutoffs, self.cutoffs[1:])):
            rows = ((y >= low) & (y < high)).nonzero().flatten()
            if rows.numel():
                entry = entry.index_fill(0, rows, self.shortlist_size + i)
                within = F.log_softmax(self.tail[i](x[rows]), 1).gather(1, (y[rows] - low).unsqueeze(1))
                rest.append((rows, within.squeeze(1)))
        output = F.log_softmax(self.head(x), 1).gather(1, entry.unsqueeze(1)).squeeze(1)
        for rows, values in rest:
            output = output.index_add(0, rows, values)
        return _ASMoutput(output if batched else output.squeeze(0), -output.mean())

    def log_prob(self, input: Any) -> Any:
        """Log-probabilities (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for i, cluster in enumerate(self.tail):
            at = self.shortlist_size + i
            parts.append(F.log_softmax(cluster(input), 1) + head[:, at : at + 1])
        return _C.ops.cat(parts, 1)

    def predict(self, input: Any) -> Any:
        """The most probable class of each row."""
        return self.log_prob(input).argmax(1)

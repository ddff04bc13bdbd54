"""Embeddings."""

from ..._C import ShapeError, ValueError, _nn, ops
from .. import functional as F
from ..init import normal_
from ..parameter import Parameter
from ._classes import subclasses
from .module import Module

__all__ = ["Embedding", "EmbeddingBag"]
(Embedding,) = subclasses(__name__, _nn.Embedding)


def _from_pretrained(
    cls,
    embeddings,
    freeze=True,
    padding_idx=None,
    max_norm=None,
    norm_type=2.0,
    scale_grad_by_freq=False,
    sparse=False,
):
    """An Embedding that shares memory with a given (num_embeddings, embedding_dim) tensor."""
    if embeddings.dim() != 2:
        raise ValueError(f"from_pretrained: expected 2 dimensions, got {embeddings.dim()}")
    rows, cols = embeddings.shape
    return cls(rows, cols, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, embeddings, freeze)


_from_pretrained.__name__ = "from_pretrained"
Embedding.from_pretrained = classmethod(_from_pretrained)


class EmbeddingBag(Module):
    """Sums, means or maxima of rows of weight, bag by bag."""

    def __init__(
        self,
        num_embeddings,
        embedding_dim,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        mode="mean",
        sparse=False,
        _weight=None,
        include_last_offset=False,
        padding_idx=None,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.max_norm, self.norm_type, self.scale_grad_by_freq = max_norm, norm_type, scale_grad_by_freq
        self.mode, self.sparse, self.include_last_offset = mode, sparse, include_last_offset
        if mode not in ("sum", "mean", "max"):
            raise ValueError(f"EmbeddingBag: mode must be 'sum', 'mean' or 'max', got {mode!r}")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"EmbeddingBag: padding_idx must be within num_embeddings, {padding_idx}")
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        if _weight is None:
            self.weight = Parameter(ops.empty(num_embeddings, embedding_dim, device=device, dtype=dtype))
            self.reset_parameters()
        else:
            if tuple(_weight.shape) != (num_embeddings, embedding_dim):
                raise ShapeError(f"EmbeddingBag: _weight must be {num_embeddings, embedding_dim}, not {_weight.shape}")
            self.weight = Parameter(_weight)

    def reset_parameters(self):
        """Normal values; zeros for padding_idx."""
        normal_(self.weight)
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, input, offsets=None, per_sample_weights=None):
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self):
        shown = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "padding_idx": None}
        settings = [f"{k}={getattr(self, k)!r}" for k, default in shown.items() if getattr(self, k) != default]
        last = [] if self.padding_idx is None else [settings.pop()]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}", *settings, f"mode={self.mode!r}", *last])

    @classmethod
    def from_pretrained(
        cls,
        embeddings,
        freeze=True,
        max_norm=None,
        norm_type=2.0,
        scale_grad_by_freq=False,
        mode="mean",
        sparse=False,
        include_last_offset=False,
        padding_idx=None,
    ):
        """An EmbeddingBag that shares memory with a given (num_embeddings, embedding_dim) tensor."""
        if embeddings.dim() != 2:
            raise ValueError(f"from_pretrained: expected 2 dimensions, got {embeddings.dim()}")
        settings = (max_norm, norm_type, scale_grad_by_freq, mode, sparse)
        rows, cols = embeddings.shape
        bag = cls(rows, cols, *settings, embeddings, include_last_offset, padding_idx)
        bag.weight.requires_grad_(not freeze)
        return bag

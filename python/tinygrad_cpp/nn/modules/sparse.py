"""Embedding."""

from ..._C import ValueError
from ..._C._nn import Embedding
from ._classes import at_home

__all__ = ["Embedding"]
at_home(__name__, Embedding)


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

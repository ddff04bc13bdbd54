"""Activations and attention."""

from ..._C import _nn
from ._classes import in_file, subclasses

MultiheadAttention, PReLU = subclasses(__name__, _nn.MultiheadAttention, _nn.PReLU)
globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "MultiheadAttention", "PReLU"]

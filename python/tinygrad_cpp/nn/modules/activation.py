"""Activations and attention."""

from ..._C._nn import MultiheadAttention, PReLU
from ._classes import at_home, in_file

at_home(__name__, MultiheadAttention, PReLU)
globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "MultiheadAttention", "PReLU"]

"""LayerNorm, RMSNorm, GroupNorm, LocalResponseNorm."""

from ..._C import _nn
from ._classes import in_file, subclasses

GroupNorm, LayerNorm, RMSNorm = subclasses(__name__, _nn.GroupNorm, _nn.LayerNorm, _nn.RMSNorm)
globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "GroupNorm", "LayerNorm", "RMSNorm"]

"""LayerNorm, RMSNorm, GroupNorm, LocalResponseNorm."""

from ..._C._nn import GroupNorm, LayerNorm, RMSNorm
from ._classes import at_home, in_file

at_home(__name__, GroupNorm, LayerNorm, RMSNorm)
globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "GroupNorm", "LayerNorm", "RMSNorm"]

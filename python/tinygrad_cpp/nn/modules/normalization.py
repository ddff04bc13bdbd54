"""LayerNorm, RMSNorm, GroupNorm, LocalResponseNorm."""

from ..._C import _nn
from .. import functional as F
from ._classes import in_file, subclasses
from .module import Module

GroupNorm, LayerNorm, RMSNorm = subclasses(__name__, _nn.GroupNorm, _nn.LayerNorm, _nn.RMSNorm)
globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "CrossMapLRN2d", "GroupNorm", "LayerNorm", "RMSNorm"]


class CrossMapLRN2d(Module):
    """LocalResponseNorm of images under its older name."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input):
        return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self):
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"

"""Linear layers."""

from typing import Any

from ..._C import _nn
from ._classes import subclasses

__all__ = ["Bilinear", "Identity", "Linear"]
Linear: Any
Bilinear, Identity, Linear = subclasses(__name__, _nn.Bilinear, _nn.Identity, _nn.Linear)


class NonDynamicallyQuantizableLinear(Linear):
    """PyTorch's name for the output projection of attention."""

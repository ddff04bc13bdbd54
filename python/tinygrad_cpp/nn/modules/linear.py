"""Linear layers."""

from ..._C._nn import Bilinear, Identity, Linear
from ._classes import at_home

__all__ = ["Bilinear", "Identity", "Linear"]
at_home(__name__, Bilinear, Identity, Linear)

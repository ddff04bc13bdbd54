"""Settings of PyTorch's code generator that programs touch; they have no effect here."""

from .._suggest import lazy

__getattr__ = lazy(__name__, globals(), ["config"])

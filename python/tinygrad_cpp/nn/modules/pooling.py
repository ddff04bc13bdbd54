"""Pooling."""

from .. import functional as F
from .._fractional import _fractional_sizes
from ._classes import in_file
from .module import Module

globals().update(in_file(__name__))
__all__ = [*in_file(__name__), "FractionalMaxPool2d", "FractionalMaxPool3d"]


def _unpool(n):
    def forward(self, input, indices, output_size=None):
        """Puts the values back; ``output_size`` chooses among the sizes that the pooling may have come from."""
        f = getattr(F, f"max_unpool{n}d")
        return f(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    return forward


for _n in (1, 2, 3):
    globals()[f"MaxUnpool{_n}d"].forward = _unpool(_n)


class _FractionalMaxPool(Module):
    _dims = 2

    def __init__(
        self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None
    ) -> None:
        super().__init__()
        several = lambda v: v if v is None or isinstance(v, (tuple, list)) else (v,) * self._dims
        self.kernel_size = several(kernel_size)
        self.output_size, self.output_ratio = several(output_size), several(output_ratio)
        self.return_indices = return_indices
        self.register_buffer("_random_samples", _random_samples)
        _fractional_sizes(type(self).__name__, None, self.output_size, self.output_ratio)

    def forward(self, input):
        f = getattr(F, f"fractional_max_pool{self._dims}d")
        return f(
            input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices, self._random_samples
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """Largest value of windows at random places, (N, C, H, W) to (N, C, *output_size)."""

    _dims = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Largest value of windows at random places, (N, C, D, H, W) to (N, C, *output_size)."""

    _dims = 3

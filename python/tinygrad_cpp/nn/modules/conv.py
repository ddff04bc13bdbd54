"""Convolutions."""

from typing import Any

from ..._C import _nn
from ._classes import subclasses

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
_ConvNd: Any = subclasses(__name__, _nn._ConvNd)[0]


class _Conv(_ConvNd):
    _dims = 2

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        dilation=1,
        groups=1,
        bias=True,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        window = (kernel_size, stride, padding, dilation)
        rest = (groups, bias, padding_mode, 0, device, dtype)
        super().__init__(self._dims, False, in_channels, out_channels, *window, *rest)


class Conv1d(_Conv):
    """Cross-correlation of (N, C, L) with weight (out, C / groups, kernel)."""

    _dims = 1


class Conv2d(_Conv):
    """Cross-correlation of (N, C, H, W) with weight (out, C / groups, *kernel)."""

    _dims = 2


class Conv3d(_Conv):
    """Cross-correlation of (N, C, D, H, W) with weight (out, C / groups, *kernel)."""

    _dims = 3


class _ConvTranspose(_ConvNd):
    _dims = 2

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        padding=0,
        output_padding=0,
        groups=1,
        bias=True,
        dilation=1,
        padding_mode="zeros",
        device=None,
        dtype=None,
    ):
        window = (kernel_size, stride, padding, dilation)
        rest = (groups, bias, padding_mode, output_padding, device, dtype)
        super().__init__(self._dims, True, in_channels, out_channels, *window, *rest)

    def forward(self, input, output_size=None):
        return self._run(input, output_size)


class ConvTranspose1d(_ConvTranspose):
    """Adjoint of Conv1d; weight (C, out / groups, kernel)."""

    _dims = 1


class ConvTranspose2d(_ConvTranspose):
    """Adjoint of Conv2d; weight (C, out / groups, *kernel)."""

    _dims = 2


class ConvTranspose3d(_ConvTranspose):
    """Adjoint of Conv3d; weight (C, out / groups, *kernel)."""

    _dims = 3

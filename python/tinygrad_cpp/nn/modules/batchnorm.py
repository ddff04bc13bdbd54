"""Batch normalisation."""

from ..._C._nn import _NormBase
from ._classes import at_home

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"]
at_home(__name__, _NormBase)


class _BatchNorm(_NormBase):
    """Normalises each channel over the batch; running statistics in eval mode."""

    _dims = 2

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__(
            self._dims, False, num_features, eps, momentum, affine, track_running_stats, device, dtype, bias
        )


class BatchNorm1d(_BatchNorm):
    """Over (N, C) or (N, C, L)."""

    _dims = 1


class BatchNorm2d(_BatchNorm):
    """Over (N, C, H, W)."""

    _dims = 2


class BatchNorm3d(_BatchNorm):
    """Over (N, C, D, H, W)."""

    _dims = 3

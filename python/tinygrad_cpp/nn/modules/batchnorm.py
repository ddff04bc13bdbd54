"""Batch normalisation."""

from typing import Any

from ... import _C
from ..._C import _nn
from ._classes import subclasses

__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]
_Bound: Any = subclasses(__name__, _nn._NormBase)[0]


class _NormBase(_Bound):
    """What batch and instance norms share."""

    _dims, _per_sample, _version = 2, False, 2

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
        settings = (num_features, eps, momentum, affine, track_running_stats)
        super().__init__(self._dims, self._per_sample, *settings, device, dtype, bias)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *lists):
        """State dicts of PyTorch before version 2 of these modules, or without one, may lack num_batches_tracked."""
        if (local_metadata.get("version") or 0) < 2 and self.track_running_stats:
            count = self.num_batches_tracked
            state_dict.setdefault(prefix + "num_batches_tracked", _C.tensor(0) if count is None else count)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *lists)

    _load_from_state_dict._defers = True  # type: ignore[attr-defined]


class _BatchNorm(_NormBase):
    """Normalises each channel over the batch; running statistics in eval mode."""


class BatchNorm1d(_BatchNorm):
    """Over (N, C) or (N, C, L)."""

    _dims = 1


class BatchNorm2d(_BatchNorm):
    """Over (N, C, H, W)."""

    _dims = 2


class BatchNorm3d(_BatchNorm):
    """Over (N, C, D, H, W)."""

    _dims = 3


class SyncBatchNorm(_BatchNorm):
    """Over (N, C, ...). There is one process, so it is batch normalisation."""

    def __init__(
        self,
        num_features,
        eps=1e-5,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        process_group=None,
        device=None,
        dtype=None,
        *,
        bias=True,
    ):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def forward(self, input):
        self._nd = max(1, input.dim() - 2)
        return super().forward(input)

    @classmethod
    def convert_sync_batchnorm(cls, module, process_group=None):
        """The module with SyncBatchNorm, of the same tensors, in the place of every BatchNorm."""
        if isinstance(module, _BatchNorm) and not isinstance(module, cls):
            m = module
            made = cls(m.num_features, m.eps, m.momentum, m.affine, m.track_running_stats, process_group)
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(made, name, getattr(module, name))
            made.training = module.training
            return made
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = cls.convert_sync_batchnorm(child, process_group)
        return module

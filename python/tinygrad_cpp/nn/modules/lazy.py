"""Modules that take the size of their input from the first one they see."""

from __future__ import annotations

import inspect
from typing import Any

from ... import _C
from ..parameter import UninitializedBuffer, UninitializedParameter, is_lazy
from .batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d
from .conv import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
from .instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from .linear import Linear

__all__ = [
    "LazyLinear",
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
    "LazyBatchNorm1d",
    "LazyBatchNorm2d",
    "LazyBatchNorm3d",
    "LazyInstanceNorm1d",
    "LazyInstanceNorm2d",
    "LazyInstanceNorm3d",
]


class LazyModuleMixin:
    """A module whose parameters get their sizes in ``initialize_parameters``, called before the first forward; it is of
    class ``cls_to_become`` from then on."""

    cls_to_become: Any = None

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materializes the parameters for these inputs."""
        raise NotImplementedError(f"initialize_parameters: {type(self).__name__} does not define it")

    def has_uninitialized_params(self: Any) -> bool:
        """Whether a parameter or buffer has no sizes yet."""
        return any(is_lazy(t) for d in (self._parameters, self._buffers) for t in d.values())

    def _lazy_load_hook(self: Any, state_dict: Any, prefix: str, *_: Any) -> None:
        for named in (self._parameters, self._buffers):
            for name, t in named.items():
                given = state_dict.get(prefix + name)
                if is_lazy(t) and given is not None and not is_lazy(given):
                    t.materialize(given.shape)

    def _infer_parameters(self: Any, module: Any, args: tuple, kwargs: dict | None = None) -> None:
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"{type(self).__name__}: initialize_parameters left parameters without sizes")
        module._initialize_hook.remove()
        module._load_hook.remove()
        del module._initialize_hook, module._load_hook
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become


class _Lazy(LazyModuleMixin):
    """The lazy form of a layer. `_size` names the attribute that is read off the input."""

    _size = "in_features"

    def _size_from(self: Any, input: Any) -> int:
        return input.shape[-1]

    def _shape(self: Any, name: str) -> tuple:
        raise NotImplementedError

    def reset_parameters(self: Any) -> None:
        if getattr(self, self._size) != 0 and not self.has_uninitialized_params():
            super().reset_parameters()  # type: ignore[misc]

    def initialize_parameters(self: Any, input: Any) -> None:
        size = self._size_from(input)
        if not self.has_uninitialized_params():
            if getattr(self, self._size) == 0:
                setattr(self, self._size, size)
            return
        setattr(self, self._size, size)
        for named in (self._parameters, self._buffers):
            for name, t in named.items():
                if is_lazy(t):
                    t.materialize(self._shape(name))
        self.reset_parameters()


class LazyLinear(_Lazy, Linear):
    """Linear with in_features from the first input."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(0, 0, False, device, dtype)
        self.out_features = out_features
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        if bias:
            self.bias = UninitializedParameter(device=device, dtype=dtype)

    def _shape(self, name: str) -> tuple:
        return (self.out_features, self.in_features) if name == "weight" else (self.out_features,)


class _LazyConv(_Lazy):
    _size = "in_channels"

    def __init__(self: Any, out_channels: int, kernel_size: Any, *args: Any, **kwargs: Any) -> None:
        given = inspect.signature(self.cls_to_become.__init__).bind(None, 0, 0, kernel_size, *args, **kwargs)
        given.apply_defaults()
        settings = {k: v for k, v in given.arguments.items() if k != "self"}
        bias = settings["bias"]
        super().__init__(**{**settings, "bias": False})
        self.out_channels = out_channels
        where = {k: settings[k] for k in ("device", "dtype")}
        self.weight = UninitializedParameter(**where)
        if bias:
            self.bias = UninitializedParameter(**where)

    def _size_from(self: Any, input: Any) -> int:
        return input.shape[-1 - len(self.kernel_size)]

    def _shape(self: Any, name: str) -> tuple:
        if name == "bias":
            return (self.out_channels,)
        n = (self.in_channels, self.out_channels)
        first, second = n if self.transposed else reversed(n)
        return (first, second // self.groups, *self.kernel_size)

    def initialize_parameters(self: Any, input: Any) -> None:
        nd = len(self.kernel_size)
        if input.dim() not in (nd + 1, nd + 2):
            raise _C.ShapeError(
                f"{type(self).__name__}: expected {nd + 1} or {nd + 2} dimensions, got {input.dim()}; "
                f"input={tuple(input.shape)}"
            )
        super().initialize_parameters(input)


class _LazyNorm(_Lazy):
    _size = "num_features"

    def _size_from(self: Any, input: Any) -> int:
        return input.shape[1]

    def __init__(
        self: Any,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        where = {"device": device, "dtype": dtype}
        super().__init__(0, eps, momentum, affine=False, track_running_stats=False, **where)
        self.affine, self.track_running_stats = affine, track_running_stats
        if self.affine:
            self.weight = UninitializedParameter(**where)
            if bias:
                self.bias = UninitializedParameter(**where)
        if self.track_running_stats:
            self.running_mean, self.running_var = UninitializedBuffer(**where), UninitializedBuffer(**where)
            self.num_batches_tracked = _C.tensor(0, device=device)

    def _shape(self: Any, name: str) -> tuple:
        return (self.num_features,)


class LazyConv1d(_LazyConv, Conv1d):
    """Conv1d with in_channels from the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConv, Conv2d):
    """Conv2d with in_channels from the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConv, Conv3d):
    """Conv3d with in_channels from the first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConv, ConvTranspose1d):
    """ConvTranspose1d with in_channels from the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConv, ConvTranspose2d):
    """ConvTranspose2d with in_channels from the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConv, ConvTranspose3d):
    """ConvTranspose3d with in_channels from the first input."""

    cls_to_become = ConvTranspose3d


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """BatchNorm1d with num_features from the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """BatchNorm2d with num_features from the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """BatchNorm3d with num_features from the first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """InstanceNorm1d with num_features from the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """InstanceNorm2d with num_features from the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """InstanceNorm3d with num_features from the first input."""

    cls_to_become = InstanceNorm3d

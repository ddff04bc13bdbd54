"""Switches of PyTorch's back ends. Only those of TF32 and cudnn.enabled have an effect here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from .. import _C

# Attributes of each module and what they are at first; names that end in () answer with the value.
_TABLE: dict[str, dict[str, Any]] = {
    "cuda": {},
    "cuda.matmul": {
        "allow_fp16_reduced_precision_reduction": True,
        "allow_bf16_reduced_precision_reduction": True,
        "allow_fp16_accumulation": False,
    },
    "cudnn": {
        "benchmark": False,
        "deterministic": False,
        "benchmark_limit": 10,
    },
    "mps": {"is_available()": False, "is_built()": False},
    "mkl": {"is_available()": False},
    "mkldnn": {"enabled": True, "is_available()": False},
    "openmp": {"is_available()": False},
    "cpu": {"get_cpu_capability()": "DEFAULT"},
    "opt_einsum": {"enabled": True, "strategy": "auto", "is_available()": False},
}


class _Switches(ModuleType):
    """A module of switches: names that PyTorch does not have are refused."""

    def __setattr__(self, name: str, value: Any) -> None:
        known = name in self.__dict__ or isinstance(getattr(type(self), name, None), property)
        if not name.startswith("_") and not known:
            raise AttributeError(f"{self.__name__} has no switch {name!r}; there are {', '.join(self.__all__)}")
        super().__setattr__(name, value)

    @contextlib.contextmanager
    def flags(self, **values: Any) -> Iterator[None]:
        """Sets switches inside a with block."""
        old = {k: getattr(self, k) for k in values}
        try:
            for k, v in values.items():
                setattr(self, k, v)
            yield
        finally:
            for k, v in old.items():
                setattr(self, k, v)


class _Tf32Switches(_Switches):
    """A bool and a string that say whether a library may round float32 operands to TF32; it may not at first."""

    _library = ""  # of the names in _C

    @property
    def allow_tf32(self) -> bool:
        """Whether float32 operands on CUDA devices may be rounded to TF32; False at first."""
        return getattr(_C, f"_{self._library}_allow_tf32")()

    @allow_tf32.setter
    def allow_tf32(self, on: bool) -> None:
        getattr(_C, f"_{self._library}_set_allow_tf32")(bool(on))

    @property
    def fp32_precision(self) -> str:
        """'tf32', or 'ieee' for full float32; 'none' can be set and means the latter."""
        return "tf32" if self.allow_tf32 else "ieee"

    @fp32_precision.setter
    def fp32_precision(self, precision: str) -> None:
        if precision not in ("none", "ieee", "tf32"):
            raise _C.ValueError(f"fp32_precision: expected none, ieee or tf32, got {precision!r}")
        self.allow_tf32 = precision == "tf32"


class _MatmulSwitches(_Tf32Switches):
    """Those of products."""

    _library = "cuda"


class _CudaSwitches(_Switches):
    """What belongs to CUDA."""

    def is_built(self) -> bool:
        """Whether this package carries the CUDA plug-in, with or without a device to use it on."""
        return _C._cuda_built()


class _CudnnSwitches(_Tf32Switches):
    """Those of convolutions and attention by cuDNN. `benchmark` and `deterministic` have no effect: its heuristics
    choose, among algorithms that give the same bits each time."""

    _library = "cudnn"

    @property
    def enabled(self) -> bool:
        """Whether convolutions and attention on CUDA devices go through cuDNN where it is installed; True at first."""
        return _C._cudnn_enabled()

    @enabled.setter
    def enabled(self, on: bool) -> None:
        _C._cudnn_set_enabled(bool(on))

    def is_available(self) -> bool:
        """Whether there is a CUDA device and cuDNN is installed; False under emulation, which does without."""
        from ..cuda import is_available

        return is_available() and self.version() is not None

    def version(self) -> int | None:
        """The installed library's version, 92400 for 9.24.0; None if there is none, and under emulation."""
        from .._doctor import cudnn_version

        return None if _C._cuda_emulating() else cudnn_version()


_CLASSES = {"cuda": _CudaSwitches, "cuda.matmul": _MatmulSwitches, "cudnn": _CudnnSwitches}

_COMMON = vars(_Switches)  # what every module has besides its switches


def _make() -> None:
    for path, switches in _TABLE.items():
        module = _CLASSES.get(path, _Switches)(f"{__name__}.{path}", "Switches that can be read and set.")
        content = {k: v for k, v in switches.items() if not k.endswith("()")}
        for k, v in switches.items():
            if k.endswith("()"):
                content[k[:-2]] = lambda v=v: v
        effective = [k for k in dir(type(module)) if isinstance(getattr(type(module), k), property)]
        answers = [k for k, v in vars(type(module)).items() if isinstance(v, FunctionType) and k not in _COMMON]
        module.__dict__.update(content, __all__=sorted([*content, *effective, *answers]), __path__=[])
        sys.modules[module.__name__] = module
        parent, _, name = path.rpartition(".")
        (sys.modules[f"{__name__}.{parent}"].__dict__ if parent else globals())[name] = module


_make()


class _SdpBackends:
    """Which kernels attention may use: its own, and cuDNN's while `backends.cudnn.enabled` is True."""

    def flash_sdp_enabled(self) -> bool:
        return False

    mem_efficient_sdp_enabled = flash_sdp_enabled

    def cudnn_sdp_enabled(self) -> bool:
        return _C._cudnn_enabled()

    def math_sdp_enabled(self) -> bool:
        return True

    def enable_flash_sdp(self, enabled: bool) -> None:
        """Accepted without effect."""

    enable_mem_efficient_sdp = enable_math_sdp = enable_cudnn_sdp = enable_flash_sdp

    def sdp_kernel(self, *args: Any, **kwargs: Any) -> contextlib.AbstractContextManager[None]:
        """Accepted without effect."""
        return contextlib.nullcontext()


def _add_attention() -> None:
    cuda, sdp = sys.modules[f"{__name__}.cuda"], _SdpBackends()
    cuda.__dict__.update({k: getattr(sdp, k) for k in vars(_SdpBackends) if not k.startswith("__")})


_add_attention()

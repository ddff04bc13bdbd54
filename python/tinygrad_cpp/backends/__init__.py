"""Switches of PyTorch's back ends. They can be read and set; none has an effect here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from .. import _C

# Attributes of each module and what they are at first; names that end in () answer with the value.
_TABLE: dict[str, dict[str, Any]] = {
    "cuda": {"is_built()": False},
    "cuda.matmul": {
        "allow_tf32": False,
        "allow_fp16_reduced_precision_reduction": True,
        "allow_bf16_reduced_precision_reduction": True,
        "allow_fp16_accumulation": False,
        "fp32_precision": "none",
    },
    "cudnn": {
        "enabled": True,
        "benchmark": False,
        "deterministic": False,
        "allow_tf32": True,
        "benchmark_limit": 10,
        "fp32_precision": "none",
        "is_available()": False,
        "version()": None,
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
        if not name.startswith("_") and name not in self.__dict__:
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


def _make() -> None:
    for path, switches in _TABLE.items():
        module = _Switches(f"{__name__}.{path}", "Switches that can be read and set; they have no effect here.")
        content = {k: v for k, v in switches.items() if not k.endswith("()")}
        for k, v in switches.items():
            if k.endswith("()"):
                content[k[:-2]] = lambda v=v: v
        module.__dict__.update(content, __all__=sorted(content), __path__=[])
        sys.modules[module.__name__] = module
        parent, _, name = path.rpartition(".")
        (sys.modules[f"{__name__}.{parent}"].__dict__ if parent else globals())[name] = module


_make()


class _SdpBackends:
    """Which kernels attention may use: there is one here."""

    def flash_sdp_enabled(self) -> bool:
        return False

    mem_efficient_sdp_enabled = cudnn_sdp_enabled = flash_sdp_enabled

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

"""Settings of PyTorch that programs make at their start. Those without effect here are remembered, to be read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import _C
from ._C import Tensor

_state: dict[str, Any] = {"precision": "highest", "deterministic": False, "warn_only": False, "warn_always": False}


def compile(model: Any = None, *, mode: str | None = None, backend: Any = "inductor", **options: Any) -> Any:
    """The function or module itself, or a decorator: programs run as they are.

    PyTorch's arguments (fullgraph, dynamic, backend, mode, options, disable) are accepted without effect.
    """
    unknown = set(options) - {"fullgraph", "dynamic", "options", "disable", "recompile_limit", "isolate_recompiles"}
    if unknown:
        raise _C.TypeError(f"compile(): unknown argument {sorted(unknown)[0]!r}")
    if mode is not None and options.get("options") is not None:
        raise _C.ValueError("compile: either mode or options can be given, not both")
    if model is None:
        return lambda f: f
    if not callable(model):
        raise _C.TypeError(f"compile(): argument 'model' must be callable, not {type(model).__name__}")
    return model


def set_float32_matmul_precision(precision: str) -> None:
    """'highest' (full float32), or 'high' or 'medium': products on CUDA devices may round their operands to TF32."""
    if precision not in ("highest", "high", "medium"):
        raise _C.ValueError(f"set_float32_matmul_precision: expected highest, high or medium, got {precision!r}")
    _state["precision"] = precision
    _C._cuda_set_allow_tf32(precision != "highest")


def get_float32_matmul_precision() -> str:
    """What was set last, also by backends.cuda.matmul.allow_tf32."""
    if _C._cuda_allow_tf32() != (_state["precision"] != "highest"):
        _state["precision"] = "high" if _C._cuda_allow_tf32() else "highest"
    return _state["precision"]


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted: every op is deterministic in any case."""
    _state["deterministic"], _state["warn_only"] = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """What was set last; every op is deterministic in any case."""
    return _state["deterministic"]


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """What was set last."""
    return _state["warn_only"]


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """0 or 'default', 1 or 'warn', 2 or 'error'; every op is deterministic in any case."""
    levels: dict[int | str, int] = {"default": 0, "warn": 1, "error": 2, 0: 0, 1: 1, 2: 2}
    if debug_mode not in levels:
        raise _C.ValueError(f"set_deterministic_debug_mode: expected default, warn or error, got {debug_mode!r}")
    use_deterministic_algorithms(levels[debug_mode] > 0, warn_only=levels[debug_mode] == 1)


def get_deterministic_debug_mode() -> int:
    """0, 1 or 2."""
    return 0 if not _state["deterministic"] else 1 if _state["warn_only"] else 2


def set_warn_always(b: bool) -> None:
    """Accepted without effect."""
    _state["warn_always"] = bool(b)


def is_warn_always_enabled() -> bool:
    """What was set last."""
    return _state["warn_always"]


def set_flush_denormal(mode: bool) -> bool:
    """False: very small numbers are computed exactly in any case."""
    return False


def get_num_interop_threads() -> int:
    """1: ops run one after the other."""
    return 1


def set_num_interop_threads(n: int) -> None:
    """Accepted without effect: ops run one after the other."""
    if n < 1:
        raise _C.ValueError(f"set_num_interop_threads: expected a positive number, got {n}")


def set_default_tensor_type(t: Any) -> None:
    """The type of floating-point literals and the device of new tensors, from the name or class of a tensor type, such
    as FloatTensor or torch.cuda.FloatTensor."""
    from ._typed import NAMES

    module, _, name = (t if isinstance(t, str) else f"{t.__module__}.{t.__name__}").rpartition(".")
    if name not in NAMES:
        raise _C.TypeError(f"set_default_tensor_type: there is no tensor type {t!r}")
    _C.set_default_device("cuda" if module.endswith("cuda") else "cpu")  # first, as it may fail
    _C.set_default_dtype(NAMES[name])


def is_inference(input: Tensor) -> bool:
    """Whether a tensor was made under inference_mode."""
    return input.is_inference()


def is_storage(obj: Any) -> bool:
    """Whether obj is the storage of a tensor."""
    from ._typed import UntypedStorage

    return isinstance(obj, UntypedStorage)


def typename(obj: Any) -> str:
    """Module and name of an object's type; of a tensor the name of its element type."""
    if isinstance(obj, Tensor):
        return obj.type()
    t = obj if hasattr(obj, "__qualname__") else type(obj)
    return t.__qualname__ if t.__module__ in (None, "builtins") else f"{t.__module__}.{t.__qualname__}"


def compiled_with_cxx11_abi() -> bool:
    """True."""
    return True


def vmap(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Refused: functions are not vectorised; write the batch dimension."""
    raise _C.NotImplementedError("vmap: functions are not vectorised here; write them over a batch dimension")

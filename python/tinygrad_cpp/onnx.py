"""Export to ONNX is not there: importable, refuses when used."""

from typing import Any

from . import _C
from ._suggest import lazy


def export(*args: Any, **kwargs: Any) -> Any:
    """Refused: use save() and the safetensors format."""
    raise _C.NotImplementedError("onnx.export: there is no ONNX writer; save(model.state_dict(), f) writes safetensors")


def is_in_onnx_export() -> bool:
    """False."""
    return False


__getattr__ = lazy(__name__, globals())

"""Settings of PyTorch's compiler that programs touch; they have no effect here."""

from typing import Any

from .._suggest import lazy
from ..compiler import allow_in_graph, disable, is_compiling, reset


def explain(f: Any, *args: Any, **kwargs: Any) -> Any:
    """Refused: nothing is compiled."""
    from .. import NotImplementedError

    raise NotImplementedError("_dynamo.explain: functions run as they are, nothing is compiled")


def mark_dynamic(*args: Any, **kwargs: Any) -> None:
    """Accepted: sizes may always vary."""


mark_static = maybe_mark_dynamic = mark_dynamic

__getattr__ = lazy(__name__, globals(), ["config"])

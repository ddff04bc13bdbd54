"""Line charts as PNG files, for training curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .. import _C


def save_plot(path: str | os.PathLike[str], charts: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Draws one chart per entry, side by side: ``save_plot("run.png", {"loss": {"training": losses}})``."""
    _C.save_plot(os.fspath(path), [(title, dict(curves)) for title, curves in charts.items()])

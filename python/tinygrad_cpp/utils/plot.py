"""Line and bar charts as PNG files, for training curves and comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from .. import _C


def save_plot(
    path: str | os.PathLike[str],
    charts: Mapping[str, Mapping[str, Sequence[float] | Mapping[float, float]]],
    *,
    log: bool = False,
) -> None:
    """Draws one chart per entry, side by side: ``save_plot("run.png", {"loss": {"training": losses}})``.

    A curve is a sequence of values, drawn over 1, 2, ..., or a mapping from x to y. `log` makes both axes logarithmic.
    Values that are not finite (with `log`: not positive) leave a gap.
    """
    _C.save_plot(
        os.fspath(path),
        [
            (title, {label: dict(y) if isinstance(y, Mapping) else y for label, y in curves.items()})
            for title, curves in charts.items()
        ],
        log,
    )


def save_bars(
    path: str | os.PathLike[str],
    title: str,
    labels: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    line: float = 0.0,
    most: float = 0.0,
) -> None:
    """Draws horizontal bars, for every label one of each series, whose values are in the order of the labels.

    `line` is a value to mark, `most` the longest bar (longer ones are cut and say their value). Values that are not
    finite have no bar.
    """
    _C._save_bars(os.fspath(path), title, list(labels), dict(series), line, most)

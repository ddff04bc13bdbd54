"""SummaryWriter: numbers, distributions, texts and images of a run, for TensorBoard to show."""

from __future__ import annotations

import io
import itertools
import os
import socket
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ... import _C
from ..._suggest import tell_once
from . import events

__all__ = ["SummaryWriter"]

_UNIQUE = itertools.count()


def _array(x: Any) -> np.ndarray:
    """A tensor, array or number as an array NumPy can compute with."""
    if isinstance(x, _C.Tensor):
        x = x.detach().cpu()
        return x.float().numpy() if x.dtype == _C.bfloat16 else x.numpy()
    return np.asarray(x)


def _number(what: str, x: Any) -> float:
    values = _array(x)
    if values.size != 1 or values.dtype.kind not in "biuf":
        raise _C.TypeError(f"{what}: expected one number, got {x!r}")
    return float(values.reshape(()))


def _default_limits() -> np.ndarray:
    """TensorBoard's buckets: each 10 % wider than the one before, from 1e-12 to 1e20, on both sides of 0."""
    rising = [1e-12]
    while rising[-1] * 1.1 < 1e20:
        rising.append(rising[-1] * 1.1)
    return np.array([-v for v in reversed(rising)] + [0.0] + rising)


class _EventFile:
    """An open event file. Every event is written at once, so nothing is lost and forked processes hold no copies."""

    def __init__(self, folder: str, suffix: str) -> None:
        _C._make_folders(folder)
        unique = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_UNIQUE)}"
        self.file = _C._OutputFile(os.path.join(folder, f"events.out.tfevents.{unique}{suffix}"))
        self.write(events.file_version(), None)

    def write(self, content: bytes, step: Any, wall_time: float | None = None) -> None:
        step = None if step is None else int(step)
        self.file.write(events.record(events.event(wall_time or time.time(), step, content)))


class SummaryWriter:
    """Writes event files into `log_dir`, by default `runs/<date>_<host><comment>`.

    Steps are integers or one-element tensors. With `purge_step` TensorBoard forgets what an earlier run wrote from
    that step on. Every event is on its way to the disk when its call returns: `max_queue` and `flush_secs` have no
    effect. Tensors, arrays and plain numbers are accepted everywhere.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: int = 120,
        filename_suffix: str = "",
    ) -> None:
        if not log_dir:
            log_dir = os.path.join("runs", f"{time.strftime('%b%d_%H-%M-%S')}_{socket.gethostname()}{comment}")
        self.log_dir = os.fspath(log_dir)
        self.purge_step = purge_step
        self.filename_suffix = filename_suffix
        self._files: dict[str, _EventFile] = {}
        self._file()

    def get_logdir(self) -> str:
        """The folder of the event file."""
        return self.log_dir

    def _file(self, folder: str = "") -> _EventFile:
        """The event file of a run: the writer's own, or one beside it. It is made anew after close()."""
        if folder not in self._files:
            file = _EventFile(os.path.join(self.log_dir, folder), self.filename_suffix)
            if self.purge_step is not None:
                file.write(events.session_start(), self.purge_step)
                self.purge_step = None
            self._files[folder] = file
            weakref.finalize(self, file.file.close)
        return self._files[folder]

    def _write(self, value: bytes, step: Any, walltime: float | None, folder: str = "") -> None:
        self._file(folder).write(events.summary(value), step, walltime)

    def add_scalar(
        self,
        tag: str,
        scalar_value: Any,
        global_step: Any = None,
        walltime: float | None = None,
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """A number. TypeError for anything but a number or a one-element tensor or array."""
        value = _number("add_scalar", scalar_value)
        if new_style or double_precision:
            self._write(events.scalar_tensor(tag, value, double_precision), global_step, walltime)
        else:
            self._write(events.scalar(tag, value), global_step, walltime)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Several numbers in one chart: each is a run of its own, in the folder `<main_tag>_<tag>`."""
        for tag, value in tag_scalar_dict.items():
            folder = f"{main_tag.replace('/', '_')}_{tag}"
            self._write(events.scalar(main_tag, _number("add_scalars", value)), global_step, walltime, folder)

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: Any = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """The distribution of the elements; `bins` is 'tensorflow' or anything numpy.histogram takes."""
        x = _array(values).reshape(-1).astype(np.float64)
        if x.size == 0 or not np.isfinite(x).all():
            found = "got NaN or infinity" if x.size else "got none"
            raise _C.ValueError(f"add_histogram: expected finite values, {found}")
        own = isinstance(bins, str) and bins == "tensorflow"
        counts, limits = np.histogram(x, bins=_default_limits() if own else bins)
        if max_bins is not None and len(counts) > max_bins:
            together = -(-len(counts) // max_bins)
            counts = np.add.reduceat(counts, np.arange(0, len(counts), together))
            limits = np.append(limits[:-1:together], limits[-1])
        seen = np.flatnonzero(counts)
        if seen.size == 0:
            raise _C.ValueError("add_histogram: all values lie outside the bins")
        first, last = int(seen[0]), int(seen[-1])
        # the limits are upper ones: an empty bucket in front says where the first one starts
        counts = np.concatenate([[0], counts[first : last + 1]])
        numbers: tuple[Any, Any, Any, Any, Any] = x.min(), x.max(), x.size, x.sum(), x @ x
        self._write(events.histogram(tag, *numbers, limits[first : last + 2], counts), global_step, walltime)

    def add_histogram_raw(
        self,
        tag: str,
        min: Any,
        max: Any,
        num: Any,
        sum: Any,
        sum_squares: Any,
        bucket_limits: Sequence[Any],
        bucket_counts: Sequence[Any],
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """A distribution that was counted already."""
        if len(bucket_limits) != len(bucket_counts):
            raise _C.ValueError(
                f"add_histogram_raw: {len(bucket_limits)} bucket_limits for {len(bucket_counts)} bucket_counts"
            )
        value = events.histogram(tag, min, max, num, sum, sum_squares, _array(bucket_limits), _array(bucket_counts))
        self._write(value, global_step, walltime)

    def add_text(self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None) -> None:
        """Text, which TensorBoard shows as Markdown."""
        self._write(events.text(tag, text_string), global_step, walltime)

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """One image of 1, 3 or 4 channels; `dataformats` says what each dimension is: CHW, HWC or HW.

        Values are bytes if the dtype is uint8, and otherwise from 0 to 1.
        """
        pixels = _pixels("add_image", img_tensor, dataformats)
        height, width, channels = pixels.shape
        self._write(events.image(tag, events.encode_png(pixels), height, width, channels), global_step, walltime)

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Several images in one, 8 to a row; NCHW or NHWC."""
        self.add_image(tag, img_tensor, global_step, walltime, dataformats)

    def add_figure(
        self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: float | None = None
    ) -> None:
        """A Matplotlib figure, or a list of them, as images; closed afterwards unless `close` is False."""
        for one in figure if isinstance(figure, (list, tuple)) else [figure]:
            stream = io.BytesIO()
            one.savefig(stream, format="png")
            png = stream.getvalue()
            self._write(events.image(tag, png, *events.png_size(png), 4), global_step, walltime)
            if close:
                from matplotlib import pyplot  # type: ignore[import-not-found, unused-ignore]

                pyplot.close(one)

    def add_hparams(
        self,
        hparam_dict: Mapping[str, Any],
        metric_dict: Mapping[str, Any],
        hparam_domain_discrete: Mapping[str, Sequence[Any]] | None = None,
        run_name: str | None = None,
        global_step: Any = None,
    ) -> None:
        """A row of the table of hyperparameters and results, as a run of its own named `run_name`."""
        parameters: dict[str, Any] = {}
        for name, value in hparam_dict.items():
            if value is None:
                continue
            parameters[name] = value if isinstance(value, (bool, str)) else _number("add_hparams", value)
        folder = run_name or str(time.time())
        for value in events.hparams(parameters, metric_dict, dict(hparam_domain_discrete or {})):
            self._write(value, None, None, folder)
        for name, value in metric_dict.items():
            self._write(events.scalar(name, _number("add_hparams", value)), global_step, None, folder)

    def add_graph(
        self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """Accepted, but draws nothing: there is no graph of a model before it runs."""
        tell_once("SummaryWriter.add_graph draws nothing")

    def flush(self) -> None:
        """Nothing is held back: all events are written already."""

    def close(self) -> None:
        """Closes the files. A later event opens new ones."""
        for file in self._files.values():
            file.file.close()
        self._files.clear()

    def __enter__(self) -> SummaryWriter:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()


def _pixels(what: str, image: Any, layout: str) -> np.ndarray:
    """Bytes of size height x width x channels."""
    x, layout = _array(image), layout.upper()
    if sorted(layout) not in (sorted("HW"), sorted("HWC"), sorted("NHW"), sorted("NHWC")) or x.ndim != len(layout):
        raise _C.ValueError(f"{what}: dataformats {layout!r} does not fit an image of size {list(x.shape)}")
    missing = [i for i, name in enumerate("NHWC") if name not in layout]
    x = np.expand_dims(x.transpose([layout.index(name) for name in "NHWC" if name in layout]), missing)
    n, height, width, channels = x.shape
    if 0 in x.shape or channels not in (1, 3, 4):
        raise _C.ValueError(f"{what}: expected 1, 3 or 4 channels and at least one pixel, got size {list(x.shape)}")
    if x.dtype != np.uint8:
        x = (np.nan_to_num(x.astype(np.float64)) * 255).clip(0, 255).astype(np.uint8)
    # a grid of up to 8 images in a row
    across = min(n, 8)
    down = -(-n // across)
    grid = np.zeros((down * across, height, width, channels), np.uint8)
    grid[:n] = x
    grid = grid.reshape(down, across, height, width, channels).transpose(0, 2, 1, 3, 4)
    return grid.reshape(down * height, across * width, channels)

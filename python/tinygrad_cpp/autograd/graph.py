"""What is kept between forward and backward, and hooks that keep it in another form."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

from .. import _C

__all__ = ["Node", "disable_saved_tensors_hooks", "save_on_cpu", "save_on_disk", "saved_tensors_hooks"]

Node = _C.Node
Tensor = _C.Tensor


class saved_tensors_hooks:
    """Inside, each value kept for backward goes through two functions; only in this thread, the innermost pair counts.

    `pack_hook(tensor)` gets the value when an op or a Function keeps it and returns what is kept instead, of any type;
    `unpack_hook(packed)` makes the tensor of it (same sizes, type and device) when backward reads it. Parameters go
    through them, too. Tensors used as an index inside of square brackets do not.
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]) -> None:
        for name, hook in (("pack_hook", pack_hook), ("unpack_hook", unpack_hook)):
            if not callable(hook):
                raise _C.TypeError(f"saved_tensors_hooks: {name} must be callable, not {type(hook).__name__}")
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> None:
        _C._push_saved_hooks(self.pack_hook, self.unpack_hook)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _C._pop_saved_hooks()


class save_on_cpu(saved_tensors_hooks):
    """Keeps values for backward in host memory. On the CPU, where they are already, that changes nothing."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(
            lambda t: (t.device, t if t.device.type == "cpu" else t.to("cpu")), lambda packed: packed[1].to(packed[0])
        )


class save_on_disk(saved_tensors_hooks):
    """Keeps values for backward in files of a folder (default: a new one that is removed with the last of them).

    Values of fewer than `min_bytes` stay in memory. A file is removed when backward no longer needs it.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None, min_bytes: int = 4096) -> None:
        self._own: tempfile.TemporaryDirectory | None = None
        if folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="tinygrad_cpp-")
            folder = self._own.name
        _C._make_folders(os.fspath(folder))
        self.folder = os.fspath(folder)
        self.min_bytes = min_bytes
        super().__init__(self._pack, _load)

    def _pack(self, t: Tensor) -> Any:
        if t.numel() * t.element_size() < self.min_bytes:
            return t
        path = os.path.join(self.folder, f"saved-{uuid.uuid4().hex}.bin")
        file = _C._OutputFile(path)
        file.write(t.cpu().contiguous().reshape(-1).view(_C.uint8).numpy())
        file.close()
        return _OnDisk(path, t, self._own)


class _OnDisk:
    """A tensor in a file, which goes with it."""

    def __init__(self, path: str, t: Tensor, folder: Any) -> None:
        self.path, self.shape, self.dtype, self.device = path, tuple(t.shape), t.dtype, t.device
        self._folder = folder  # a temporary folder lives as long as a file in it

    def load(self) -> Tensor:
        raw = _C.ops.empty(self.shape, dtype=self.dtype, device="cpu")
        _C._read_into(self.path, raw.reshape(-1).view(_C.uint8).numpy())
        return raw.to(self.device)

    def __del__(self) -> None:
        try:
            _C._remove_file(self.path)
        except _C.IoError:  # the folder has been removed already
            pass


def _load(packed: Any) -> Tensor:
    return packed.load() if isinstance(packed, _OnDisk) else packed


class disable_saved_tensors_hooks:
    """Inside, entering saved_tensors_hooks (and checkpoint) raises an error with this text."""

    def __init__(self, error_message: str) -> None:
        self.error_message = error_message
        self._old: list[str] = []

    def __enter__(self) -> None:
        self._old.append(_C._forbid_saved_hooks(self.error_message))

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        _C._forbid_saved_hooks(self._old.pop())

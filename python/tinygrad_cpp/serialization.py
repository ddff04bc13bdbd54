"""save and load: nested dicts, lists, tuples, numbers, strings, tensors and modules in one file. Nothing in a file is
executed: objects other than these are made only of classes on a list (safe_globals).

The file is in the safetensors format, so other tools can read the tensors. What else there is stands as JSON in the
header's metadata, under "tree". Each entry of the tree is a JSON value, or an object with one member that says what it
is: {"tensor": name}, {"dict": [[key, value], ...]}, {"tuple": [...]} and so on. Different views of one memory are
stored as one tensor and their sizes, strides and offsets.

load() also reads PyTorch's .pt files (_torch_files.py).
"""

from __future__ import annotations

import copyreg
import math
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import IO, Any

from . import _C

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]

FORMAT = "tinygrad_cpp"
RESERVED = ("format", "tree")  # names in the metadata of files
_MAX_DEPTH = 100

Tensor = _C.Tensor


class MissingFileError(_C.IoError, FileNotFoundError):
    """A file that does not exist."""


# ---- classes that load may make

_safe: dict[str, Any] = {}


def _path_of(obj: Any) -> str:
    return f"{obj.__module__}.{obj.__qualname__}"


def add_safe_globals(safe_globals: Iterable[Any]) -> None:
    """Allows load() to use these classes and functions; (object, "module.name") gives one under another name."""
    for item in safe_globals:
        obj, path = item if isinstance(item, tuple) else (item, _path_of(item))
        _safe[path] = obj


def get_safe_globals() -> list[Any]:
    """What load() may use besides its own."""
    return list(_safe.values())


def clear_safe_globals() -> None:
    """Forgets all of them."""
    _safe.clear()


class safe_globals:
    """Allows load() to use these classes and functions inside a with block."""

    def __init__(self, safe_globals: Iterable[Any]) -> None:
        self.items = list(safe_globals)

    def __enter__(self) -> None:
        self._old = dict(_safe)
        add_safe_globals(self.items)

    def __exit__(self, *error: Any) -> None:
        _safe.clear()
        _safe.update(self._old)


def _find(path: str) -> Any:
    """The class or function of a name in a file, if load may use it."""
    if path in _safe:
        return _safe[path]
    if path == "argparse.Namespace":
        from argparse import Namespace

        return Namespace
    if path == "types.SimpleNamespace":
        return types.SimpleNamespace
    from . import nn

    package, _, name = path.rpartition(".")
    if package.startswith("tinygrad_cpp.nn.modules."):
        found = getattr(nn.modules, name, None)
        if isinstance(found, type) and issubclass(found, nn.Module) and _path_of(found) == path:
            return found
    if package == "tinygrad_cpp.nn.functional" and not name.startswith("_"):
        return getattr(nn.functional, name, None)
    return None


def refuse(path: str) -> Exception:
    """The error for a class that load may not use."""
    return _C.FormatError(
        f"load: the file holds an object of {path[:200]!r}, which is not made without your consent; if you trust the "
        "file, use serialization.add_safe_globals([...]) or `with serialization.safe_globals([...]):`"
    )


# ---- writing


class _Writer:
    """Turns an object into JSON and a list of tensors, each stored once however often it occurs."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, Tensor]] = []
        self.taken: set[str] = set()
        self.used: list[tuple[dict[str, Any], Tensor, str]] = []  # entries of the tree whose tensors are still to name
        self.objects: dict[int, tuple[int, Any]] = {}

    def name(self, path: str) -> str:
        name = path or "value"
        while name in self.taken or name == "__metadata__":
            name += "_"
        self.taken.add(name)
        return name

    def encode(self, x: Any, path: str, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise _C.ValueError(f"save: nested deeper than {_MAX_DEPTH} levels at {path or 'the top'}")
        if x is None or isinstance(x, (bool, str)):
            return x
        if isinstance(x, Tensor):
            entry: dict[str, Any] = {"tensor": None}
            if isinstance(x, _C.Parameter):
                entry["parameter"] = True
            if x.requires_grad and x.is_leaf:
                entry["requires_grad"] = True
            self.used.append((entry, x.detach(), path))
            return entry
        if isinstance(x, int):
            return int(x)
        if isinstance(x, float):
            return float(x) if math.isfinite(x) else {"float": repr(float(x))}
        if isinstance(x, _C.dtype):
            return {"dtype": x.name}
        if isinstance(x, _C.device):
            return {"device": str(x)}
        if not isinstance(x, (dict, list, tuple, set, frozenset)):
            return self.object(x, path, depth)
        inner = [self.encode(v, f"{path}.{i}" if path else str(i), depth + 1) for i, v in self.items(x)]
        if isinstance(x, dict):
            pairs = [[self.encode(k, path, depth + 1), v] for k, v in zip(x, inner, strict=True)]
            return {"ordered_dict" if isinstance(x, OrderedDict) else "dict": pairs}
        if isinstance(x, _C.Size):
            return {"size": inner}
        return (
            {"tuple": inner} if isinstance(x, tuple) else {"set": inner} if isinstance(x, (set, frozenset)) else inner
        )

    @staticmethod
    def items(x: Any) -> list[tuple[Any, Any]]:
        if isinstance(x, dict):
            return list(x.items())
        return list(enumerate(sorted(x, key=repr) if isinstance(x, (set, frozenset)) else x))

    def object(self, x: Any, path: str, depth: int) -> Any:
        """Modules, namespaces and instances of allowed classes by their state; functions and classes by name."""
        at = f" at {path or 'the top'}"
        np = sys.modules.get("numpy")
        if np and isinstance(x, (np.ndarray, np.generic)):
            entry: dict[str, Any] = {"tensor": None, "numpy": "array" if isinstance(x, np.ndarray) else "number"}
            values = np.array(x)
            if values.dtype.kind == "u" and values.itemsize > 1:  # stored by its bits
                entry["unsigned"], values = True, values.view(f"i{values.itemsize}")
            try:
                self.used.append((entry, _C.tensor(values, device="cpu"), path))
            except (TypeError, ValueError):
                raise _C.TypeError(f"save: cannot store NumPy's {x.dtype}{at}") from None
            return entry
        if isinstance(x, (type, types.FunctionType, types.BuiltinFunctionType)) or not hasattr(x, "__dict__"):
            where = _path_of(x) if hasattr(x, "__qualname__") else ""
            if x is not None and _find(where) is x:
                return {"global": where}
            raise _C.TypeError(f"save: cannot store {where or type(x).__name__}{at}")
        if id(x) in self.objects:
            return {"same": self.objects[id(x)][0]}
        where = _path_of(type(x))
        is_module = isinstance(x, _C._nn.Module)
        if not is_module and _find(where) is not type(x):
            hint = "; save its state_dict() instead" if hasattr(x, "state_dict") else ""
            raise _C.TypeError(
                f"save: cannot store {type(x).__name__}{at}{hint or '; allow its class by serialization.safe_globals'}"
            )
        number = len(self.objects)
        self.objects[id(x)] = (number, x)
        state = x.__getstate__() if is_module else vars(x)
        return {"object": [where, number, self.encode(state, path, depth + 1)]}

    def finish(self) -> None:
        """Names the tensors; what shares memory is stored once."""
        groups: dict[Any, list[int]] = {}
        for i, (_, t, _) in enumerate(self.used):
            groups.setdefault((t._storage()[0], t.dtype) if t.numel() else ("empty", i), []).append(i)
        for group in groups.values():
            views: dict[Any, list[int]] = {}
            for i in group:
                t = self.used[i][1]
                views.setdefault((t.data_ptr(), tuple(t.shape), t.stride()), []).append(i)
            if len(views) == 1 or not self.as_one(group):
                for same in views.values():
                    self.store([self.used[i][0] for i in same], *self.used[same[0]][1:])

    def store(self, entries: list[dict[str, Any]], tensor: Tensor, path: str) -> None:
        name = self.name(path)
        self.tensors.append((name, tensor))
        for entry in entries:
            entry["tensor"] = name

    def as_one(self, group: list[int]) -> bool:
        """Stores the stretch of memory that some views cover, and where each of them lies in it."""
        first = self.used[group[0]][1]
        low = min(self.used[i][1].storage_offset() for i in group)
        high = max(_last(self.used[i][1]) for i in group)
        try:
            flat = first.as_strided([high - low + 1], [1], low)
        except _C.Error:  # memory of another owner, whose extent is not known
            return False
        for i in group:
            entry, t, _ = self.used[i]
            entry["view"] = [list(t.shape), list(t.stride()), t.storage_offset() - low]
        if any(s < 0 for i in group for s in self.used[i][1].stride()):
            for i in group:
                self.used[i][0].pop("view")
            return False
        self.store([self.used[i][0] for i in group], flat, self.used[group[0]][2])
        return True


def _last(t: Tensor) -> int:
    """The place of a tensor's last element in its memory."""
    return t.storage_offset() + sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True))


# ---- reading


class _Reader:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.views: dict[str, Tensor] = {}
        self.parameters: dict[str, Tensor] = {}
        self.objects: dict[int, Any] = {}

    def bad(self, entry: Any) -> Exception:
        return _C.FormatError(f"load: the file's tree holds an entry that has no meaning: {str(entry)[:80]}")

    def decode(self, x: Any, depth: int = 0) -> Any:
        if depth > 2 * _MAX_DEPTH:
            raise _C.FormatError("load: the file's tree is nested too deeply")
        if isinstance(x, list):
            return [self.decode(v, depth + 1) for v in x]
        if not isinstance(x, dict):
            return x
        if "tensor" in x:
            return self.tensor(x)
        if len(x) != 1:
            raise self.bad(x)
        ((kind, value),) = x.items()
        if kind in ("dict", "ordered_dict"):
            return self.mapping(kind, value, depth)
        if kind in ("tuple", "set", "size") and isinstance(value, list):
            items = [self.decode(v, depth + 1) for v in value]
            try:
                return tuple(items) if kind == "tuple" else set(items) if kind == "set" else _C.Size(items)
            except TypeError:
                raise self.bad(x) from None
        if kind == "float" and value in ("inf", "-inf", "nan"):
            return float(value)
        if kind == "dtype" and isinstance(getattr(_C, str(value), None), _C.dtype):
            return getattr(_C, value)
        if kind == "device" and isinstance(value, str):
            return _C.device(value)
        if kind == "object" and isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
            return self.object(value[0], value[1], value[2], depth)
        if kind == "same" and isinstance(value, int) and value in self.objects:
            return self.objects[value]
        if kind == "global" and isinstance(value, str):
            return self.found(value)
        raise self.bad(x)

    def found(self, path: str) -> Any:
        result = _find(path)
        if result is None:
            raise refuse(path)
        return result

    def object(self, path: str, number: Any, state: Any, depth: int) -> Any:
        cls: Any = self.found(path)
        if not isinstance(cls, type):
            raise self.bad(path)
        is_module = issubclass(cls, _C._nn.Module)
        result = _C._nn._rebuild(cls) if is_module else copyreg.__newobj__(cls)  # type: ignore[attr-defined]
        restored = self.decode(state, depth + 1)
        if not isinstance(restored, dict):
            raise self.bad(state)
        try:
            if is_module:
                result.__setstate__(restored)
            else:
                vars(result).update(restored)
        except (_C.Error, RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            raise _C.FormatError(f"load: the state of a {path} does not fit: {error}") from None
        if isinstance(number, int):  # only now: an object inside itself would have no end
            self.objects[number] = result
        return result

    def mapping(self, kind: str, pairs: Any, depth: int) -> Any:
        out: dict[Any, Any] = OrderedDict() if kind == "ordered_dict" else {}
        if not isinstance(pairs, list):
            raise self.bad(pairs)
        for pair in pairs:
            if not isinstance(pair, list) or len(pair) != 2:
                raise self.bad(pair)
            key = self.decode(pair[0], depth + 1)
            try:
                out[key] = self.decode(pair[1], depth + 1)
            except TypeError:
                raise self.bad(pair[0]) from None
        return out

    def tensor(self, entry: dict[str, Any]) -> Any:
        name = entry["tensor"]
        if not isinstance(name, str) or name not in self.tensors:
            raise _C.FormatError(f"load: the file's tree names a tensor that is missing: {str(name)[:80]}")
        key, t = name, self.tensors[name]
        if "view" in entry:
            key = f"{name} {entry['view']}"
            if key not in self.views:
                self.views[key] = self.view(t, entry["view"])
            t = self.views[key]
        if "numpy" in entry:
            values = t.numpy()
            if entry.get("unsigned") is True:
                values = values.view(f"u{values.itemsize}")
            return values if entry["numpy"] == "array" else values[()]
        grad = entry.get("requires_grad") is True
        try:
            if entry.get("parameter") is True:
                if key not in self.parameters:
                    self.parameters[key] = _C.Parameter(t, grad)
                return self.parameters[key]
            return t.requires_grad_() if grad else t
        except _C.Error as error:
            raise _C.FormatError(f"load: {error}") from None

    def view(self, t: Tensor, geometry: Any) -> Tensor:
        try:
            sizes, strides, offset = geometry
            return t.as_strided(sizes, strides, offset).detach()
        except (_C.Error, TypeError, ValueError) as error:
            raise _C.FormatError(f"load: a view lies outside of its tensor: {error}") from None


# ---- the functions


def lay_out(obj: Any) -> tuple[list[tuple[str, Tensor]], dict[str, str]]:
    """The tensors with their names and the metadata of a file that holds obj."""
    import json

    writer = _Writer()
    tree = writer.encode(obj, "")
    writer.finish()
    metadata = {"format": FORMAT, "tree": json.dumps(tree, separators=(",", ":"))}
    if places := {name: str(t.device) for name, t in writer.tensors if t.device.type != "cpu"}:
        metadata["devices"] = json.dumps(places, separators=(",", ":"))
    return writer.tensors, metadata


def save(
    obj: Any,
    f: str | os.PathLike[str] | IO[bytes],
    pickle_module: Any = None,
    pickle_protocol: int = 2,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Writes obj to a file name or a file open for binary writing.

    obj: tensors, numbers, strings, None, dtypes, devices, and dicts, lists, tuples and sets of them, such as the
    state_dict() of a module or an optimizer; modules; namespaces; instances of classes given to safe_globals. Memory
    that tensors share is stored once and shared again after loading. A file name is written whole or not at all, and
    every tensor with a checksum that load() verifies.
    """
    tensors, metadata = lay_out(obj)
    if isinstance(f, (str, os.PathLike)):
        _C._save_safetensors(tensors, metadata, os.fspath(f))
    elif hasattr(f, "write"):
        f.write(_C._to_safetensors(tensors, metadata))
    else:
        raise _C.TypeError(f"save(): argument 'f' must be a path or a file, not {type(f).__name__}")


def mapper(map_location: Any) -> Callable[[Tensor, str], Tensor]:
    """What moves a tensor that was on a device of some name to where map_location wants it."""
    if callable(map_location) and not isinstance(map_location, (str, _C.device)):

        def place(t: Tensor, location: str) -> Tensor:
            map_location(t.storage(), location)  # it can only choose the CPU
            return t

        return place
    if isinstance(map_location, dict):
        return lambda t, location: t.to(map_location.get(location, location))
    if map_location is not None and not isinstance(map_location, (str, _C.device)):
        raise _C.TypeError(
            "load: map_location must be a device, its name, a dict or a function, not " + type(map_location).__name__
        )

    def move(t: Tensor, location: str) -> Tensor:
        if map_location is not None or location == "cpu":
            return t if map_location is None else t.to(map_location)
        try:
            return t.to(location)
        except _C.Error:
            raise _C.DeviceError(
                f"load: the file holds tensors of device {location[:40]!r}, which is not there; use map_location='cpu'"
            ) from None

    return move


def load(
    f: str | os.PathLike[str] | IO[bytes],
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Reads what save() wrote, any safetensors file (as a dict of tensors), or a .pt file of PyTorch's.

    Never executes anything from it, with weights_only=False neither. f is a path or a file open for binary reading;
    map_location as in PyTorch. Errors: FormatError (not such a file, or damaged), DeviceError, MissingFileError,
    which is a FileNotFoundError.
    """
    import errno
    import io

    from . import _torch_files

    move = mapper(map_location)
    if isinstance(f, (str, os.PathLike)):
        path = os.fspath(f)
        if not os.path.exists(path):
            error = MissingFileError(f"load: there is no file {path!r}")
            error.errno, error.strerror, error.filename = errno.ENOENT, "load: there is no file", path
            raise error
        if _torch_files.is_foreign(_C._read_file(path, 8)):
            return _torch_files.load(io.BytesIO(_C._read_file(path, -1)), move)
        tensors, metadata = _C._load_safetensors(path)
    elif hasattr(f, "read"):
        data = f.read()
        if _torch_files.is_foreign(data[:8]):
            return _torch_files.load(io.BytesIO(data), move)
        tensors, metadata = _C._from_safetensors(data, getattr(f, "name", None) or "load")
    else:
        raise _C.TypeError(f"load(): argument 'f' must be a path or a file, not {type(f).__name__}")
    places = devices(metadata)
    return content([(k, move(t, places.get(k, "cpu"))) for k, t in tensors], metadata)


def devices(metadata: dict[str, str]) -> dict[str, str]:
    """The devices of a file's tensors that were not on the CPU, by name."""
    import json

    if metadata.get("format") != FORMAT or "devices" not in metadata:
        return {}
    try:
        places = json.loads(metadata["devices"])
    except (json.JSONDecodeError, RecursionError):
        places = None
    if not isinstance(places, dict) or not all(isinstance(d, str) for d in places.values()):
        raise _C.FormatError("load: the file's list of devices is damaged")
    return places


def content(tensors: list[tuple[str, Tensor]], metadata: dict[str, str]) -> Any:
    """The reverse of lay_out(): the object that a file holds; of other programs' files, a dict of its tensors."""
    import json

    named = dict(tensors)
    if metadata.get("format") != FORMAT or "tree" not in metadata:
        return named
    try:
        tree = json.loads(metadata["tree"])
    except (json.JSONDecodeError, RecursionError) as error:
        raise _C.FormatError(f"load: the file's tree is no valid JSON: {error}") from None
    return _Reader(named).decode(tree)

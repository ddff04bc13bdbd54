"""save and load: nested dicts, lists, tuples, numbers, strings and tensors in one file. Nothing in a file is executed.

The file is in the safetensors format, so other tools can read the tensors. What else there is stands as JSON in the
header's metadata, under "tree". Each entry of the tree is a JSON value, or an object with one member that says what it
is: {"tensor": name}, {"dict": [[key, value], ...]}, {"tuple": [...]} and so on.
"""

import json
import math
import os
from collections import OrderedDict
from typing import IO, Any

from . import _C

__all__ = ["load", "save"]

FORMAT = "tinygrad_cpp"
_MAX_DEPTH = 100

Tensor = _C.Tensor


class _Writer:
    """Turns an object into JSON and a list of tensors, each stored once however often it occurs."""

    def __init__(self) -> None:
        self.tensors: list[tuple[str, Tensor]] = []
        self.taken: set[str] = set()
        self.known: dict[tuple[Any, ...], str] = {}

    def name_for(self, t: Tensor, path: str) -> str:
        key = (t.data_ptr(), tuple(t.shape), t.stride(), t.dtype) if t.numel() else (id(t),)
        if key not in self.known:
            name = path or "value"
            while name in self.taken or name == "__metadata__":
                name += "_"
            self.taken.add(name)
            self.known[key] = name
            self.tensors.append((name, t.detach()))
        return self.known[key]

    def encode(self, x: Any, path: str, depth: int = 0) -> Any:
        if depth > _MAX_DEPTH:
            raise _C.ValueError(f"save: nested deeper than {_MAX_DEPTH} levels at {path or 'the top'}")
        if x is None or isinstance(x, (bool, str)):
            return x
        if isinstance(x, Tensor):
            entry: dict[str, Any] = {"tensor": self.name_for(x, path)}
            if isinstance(x, _C.Parameter):
                entry["parameter"] = True
            if x.requires_grad and x.is_leaf:
                entry["requires_grad"] = True
            return entry
        if isinstance(x, int):
            return int(x)
        if isinstance(x, float):
            return float(x) if math.isfinite(x) else {"float": repr(float(x))}
        if isinstance(x, _C.dtype):
            return {"dtype": x.name}
        if isinstance(x, _C.device):
            return {"device": str(x)}
        inner = [self.encode(v, f"{path}.{i}" if path else str(i), depth + 1) for i, v in self.items(x, path)]
        if isinstance(x, dict):
            pairs = [[self.encode(k, path, depth + 1), v] for k, v in zip(x, inner, strict=True)]
            return {"ordered_dict" if isinstance(x, OrderedDict) else "dict": pairs}
        if isinstance(x, _C.Size):
            return {"size": inner}
        return (
            {"tuple": inner} if isinstance(x, tuple) else {"set": inner} if isinstance(x, (set, frozenset)) else inner
        )

    @staticmethod
    def items(x: Any, path: str) -> list[tuple[Any, Any]]:
        if isinstance(x, dict):
            return list(x.items())
        if isinstance(x, (list, tuple)):
            return list(enumerate(x))
        if isinstance(x, (set, frozenset)):
            return list(enumerate(sorted(x, key=repr)))
        if hasattr(x, "item") and getattr(x, "shape", None) == ():  # a NumPy number
            raise _C.TypeError(f"save: cannot store a NumPy number at {path or 'the top'}; use .item()")
        hint = "; save its state_dict() instead" if hasattr(x, "state_dict") else ""
        raise _C.TypeError(f"save: cannot store {type(x).__name__} at {path or 'the top'}{hint}")


class _Reader:
    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.parameters: dict[str, Tensor] = {}

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
        raise self.bad(x)

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

    def tensor(self, entry: dict[str, Any]) -> Tensor:
        name = entry["tensor"]
        if not isinstance(name, str) or name not in self.tensors:
            raise _C.FormatError(f"load: the file's tree names a tensor that is missing: {str(name)[:80]}")
        t = self.tensors[name]
        grad = entry.get("requires_grad") is True
        if entry.get("parameter") is True:
            if name not in self.parameters:
                self.parameters[name] = _C.Parameter(t, grad)
            return self.parameters[name]
        return t.requires_grad_() if grad else t


def save(obj: Any, f: str | os.PathLike[str] | IO[bytes]) -> None:
    """Writes obj to a file name or a file open for binary writing.

    obj: tensors, numbers, strings, None, dtypes, devices, and dicts, lists, tuples and sets of them, such as the
    state_dict() of a module or an optimizer. A tensor that occurs several times is stored once. A file name is written
    whole or not at all.
    """
    writer = _Writer()
    tree = json.dumps(writer.encode(obj, ""), separators=(",", ":"))
    metadata = {"format": FORMAT, "tree": tree}
    if isinstance(f, (str, os.PathLike)):
        _C._save_safetensors(writer.tensors, metadata, os.fspath(f))
    elif hasattr(f, "write"):
        f.write(_C._to_safetensors(writer.tensors, metadata))
    else:
        raise _C.TypeError(f"save(): argument 'f' must be a path or a file, not {type(f).__name__}")


def load(
    f: str | os.PathLike[str] | IO[bytes], map_location: Any = None, *, weights_only: bool = True, **ignored: Any
) -> Any:
    """Reads what save() wrote, or any safetensors file (as a dict of tensors). Never executes anything from it."""
    if isinstance(f, (str, os.PathLike)):
        tensors, metadata = _C._load_safetensors(os.fspath(f))
    elif hasattr(f, "read"):
        tensors, metadata = _C._from_safetensors(f.read(), getattr(f, "name", None) or "load")
    else:
        raise _C.TypeError(f"load(): argument 'f' must be a path or a file, not {type(f).__name__}")
    named = dict(tensors)
    if map_location is not None:
        if callable(map_location) or isinstance(map_location, dict):
            raise _C.NotImplementedError("load: map_location must be a device or its name")
        named = {k: t.to(map_location) for k, t in named.items()}
    if metadata.get("format") != FORMAT or "tree" not in metadata:
        return named
    try:
        tree = json.loads(metadata["tree"])
    except (json.JSONDecodeError, RecursionError) as error:
        raise _C.FormatError(f"load: the file's tree is no valid JSON: {error}") from None
    return _Reader(named).decode(tree)

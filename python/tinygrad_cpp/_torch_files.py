"""Reads PyTorch's .pt files: a zip with a pickle and one entry per storage. The pickle is not executed: a small machine
of our own follows its instructions, which can make containers, numbers, strings and tensors, and objects of classes
that serialization.safe_globals allows.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import IO, Any

from . import _C

Tensor = _C.Tensor

_STORAGES = {
    "BoolStorage": _C.bool,
    "ByteStorage": _C.uint8,
    "CharStorage": _C.int8,
    "ShortStorage": _C.int16,
    "IntStorage": _C.int32,
    "LongStorage": _C.int64,
    "HalfStorage": _C.float16,
    "BFloat16Storage": _C.bfloat16,
    "FloatStorage": _C.float32,
    "DoubleStorage": _C.float64,
}
_MARK = object()


def is_foreign(head: bytes) -> bool:
    """Whether a file begins like a zip or a pickle, and not with the length of a header (8 bytes, the last ones 0)."""
    pickled = head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and head[4:8] != bytes(4)
    return head[:4] == b"PK\x03\x04" or pickled


def load(stream: IO[bytes], move: Callable[[Tensor, str], Tensor]) -> Any:
    """What a .pt file holds; FormatError if it is damaged, of the old format, or holds objects of other classes."""
    try:
        if stream.read(4) != b"PK\x03\x04":
            raise _C.FormatError(
                "load: the file is a bare pickle, such as PyTorch wrote before 1.6; load and save it again with PyTorch"
            )
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            return _Machine(_Archive(archive), move).run()
    except _C.Error:
        raise
    except MemoryError:
        raise _C.OutOfMemoryError("load: the file's contents do not fit into memory") from None
    except Exception as error:  # zipfile and pickletools have no common error for damaged files
        raise _C.FormatError(f"load: no valid .pt file: {type(error).__name__}: {str(error)[:200]}") from None


class _Archive:
    """Entries of the zip. They may be stored only, and all that is read together may not exceed the file's size."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.entries = {e.filename: e for e in archive.infolist()}
        pickles = [n for n in self.entries if n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise _C.FormatError("load: the zip holds no data.pkl, it is no file of PyTorch's")
        self.top = pickles[0][: -len("data.pkl")]
        end = archive.fp.seek(0, 2) if archive.fp else 0
        self.left = end
        if self.top + "constants.pkl" in self.entries:
            raise _C.FormatError("load: the file is a TorchScript archive, which holds code; save a state_dict instead")
        if self.top + "byteorder" in self.entries and self.read("byteorder") != b"little":
            raise _C.FormatError("load: the file's numbers are big-endian")

    def read(self, name: str) -> bytes:
        entry = self.entries.get(self.top + name)
        if entry is None:
            raise _C.FormatError(f"load: the file lacks its entry {name[:80]!r}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise _C.FormatError(f"load: the entry {name[:80]!r} is compressed")
        self.left -= entry.file_size
        if self.left < 0:
            raise _C.FormatError("load: the entries of the file are larger than the file")
        return self.archive.read(entry)


class _Global:
    """A name in the pickle: says what to do when it is called."""

    def __init__(self, path: str) -> None:
        self.path = path


class _Machine:
    def __init__(self, archive: _Archive, move: Callable[[Tensor, str], Tensor]) -> None:
        self.archive, self.move = archive, move
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Tensor] = {}

    # ---- the stack

    def marked(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise _C.FormatError("load: the pickle misses a mark")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def run(self) -> Any:
        for opcode, argument, _ in pickletools.genops(self.archive.read("data.pkl")):
            name = opcode.name
            if name == "STOP":
                return self.finished(self.stack.pop())
            handler = _HANDLERS.get(name)
            if handler is not None:
                handler(self, argument)
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name not in ("PROTO", "FRAME"):
                raise _C.FormatError(f"load: the pickle uses {name}, which is not allowed")
        raise _C.FormatError("load: the pickle ends early")

    def finished(self, x: Any) -> Any:
        if isinstance(x, _Global):
            raise self.refuse(x)
        return x

    def refuse(self, x: Any) -> Exception:
        from .serialization import refuse

        path = x.path if isinstance(x, _Global) else type(x).__name__
        if path.startswith(("torch.nn.modules", "torch.nn.parallel")):
            return _C.FormatError(
                f"load: the file holds a whole module of PyTorch's ({path[:120]!r}); save its state_dict() there. "
                "(serialization.safe_globals allows classes of your own)"
            )
        return refuse(path)

    # ---- objects

    def global_(self, path: str) -> None:
        from .serialization import _safe

        head, _, last = path.rpartition(".")
        if path in _safe:
            self.stack.append(_safe[path])
        elif head == "torch" and isinstance(getattr(_C, last, None), _C.dtype):
            self.stack.append(getattr(_C, last))
        else:
            self.stack.append(_Global(path))

    def reduce(self) -> None:
        args, f = self.stack.pop(), self.stack.pop()
        if not isinstance(args, tuple):
            raise _C.FormatError("load: the pickle calls with something that is no tuple")
        from .serialization import _safe

        if not isinstance(f, _Global):
            if not any(f is allowed for allowed in _safe.values()):
                raise self.refuse(f)
            self.stack.append(f(*args))
            return
        make = _MAKERS.get(f.path)
        if make is None:
            raise self.refuse(f)
        self.stack.append(make(self, *args))

    def new(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        from .serialization import _find, _safe

        if isinstance(cls, _Global):
            found = _find(cls.path) if cls.path in ("argparse.Namespace", "types.SimpleNamespace") else None
            if found is None:
                raise self.refuse(cls)
            cls = found
        elif not (isinstance(cls, type) and any(cls is allowed for allowed in _safe.values())):
            raise self.refuse(cls)
        self.stack.append(cls.__new__(cls, *args))

    def build(self) -> None:
        state, obj = self.stack.pop(), self.stack[-1]
        from .serialization import _find, _safe

        if isinstance(obj, OrderedDict):  # a state_dict: its _metadata
            if isinstance(state, dict) and set(state) <= {"_metadata"}:
                vars(obj).update(state)
                return
        elif isinstance(obj, Tensor):  # attributes of a parameter
            return
        elif any(type(obj) is c for c in _safe.values()) or _find(f"{type(obj).__module__}.{type(obj).__qualname__}"):
            if hasattr(obj, "__setstate__"):
                obj.__setstate__(state)
            else:
                vars(obj).update(state)
            return
        raise _C.FormatError(f"load: the pickle changes a {type(obj).__name__}, which is not allowed")

    def put_items(self, target: Any, items: list[Any]) -> None:
        if not isinstance(target, dict) or len(items) % 2:
            raise _C.FormatError("load: the pickle fills something that is no dict")
        for k, v in zip(items[::2], items[1::2], strict=True):
            flat = k if isinstance(k, tuple) else (k,)
            # a nest of tuples that share their parts would take forever to hash
            if not all(isinstance(x, (str, int, float, bytes, type(None), _C.dtype, _C.device)) for x in flat):
                raise _C.FormatError(f"load: the pickle has a dict with a key of type {type(k).__name__}")
            target[k] = v

    def put_list(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _C.FormatError("load: the pickle extends something that is no list")
        self.stack[-1].extend(items)

    # ---- tensors

    def persistent(self) -> None:
        kind, storage, key, location, count = self.stack.pop()
        if kind != "storage" or not isinstance(storage, _Global) or not isinstance(key, str):
            raise _C.FormatError("load: the pickle refers to something that is no storage")
        dtype = _STORAGES.get(storage.path.removeprefix("torch."))
        if dtype is None:
            raise self.refuse(storage)
        if key not in self.storages:
            data = self.archive.read("data/" + key)
            if count * dtype.itemsize != len(data):
                raise _C.FormatError(f"load: storage {key[:40]!r} has {len(data)} bytes, not {count} {dtype.name}")
            self.storages[key] = self.move(_C._tensor_from_bytes(dtype, [count], data), location)
        if self.storages[key].dtype != dtype:
            raise _C.FormatError(f"load: storage {key[:40]!r} is used as {dtype.name}, too")
        self.stack.append(self.storages[key])

    def rebuild_tensor(
        self, storage: Any, offset: int, size: Any, stride: Any, grad: Any = False, *more: Any
    ) -> Tensor:
        if not isinstance(storage, Tensor):
            raise _C.FormatError("load: the pickle makes a tensor of something that is no storage")
        if any(s < 0 for s in stride):
            raise _C.FormatError(f"load: the pickle makes a tensor of strides {tuple(stride)}")
        return storage.as_strided(list(size), list(stride), offset).detach().requires_grad_(bool(grad))

    def rebuild_parameter(self, data: Any, requires_grad: bool, *more: Any) -> Tensor:
        return _C.Parameter(data, bool(requires_grad))

    def ordered_dict(self, items: Any = ()) -> Any:
        out: OrderedDict[Any, Any] = OrderedDict()
        self.put_items(out, [x for pair in items for x in pair])
        return out

    def counter(self, items: Any = ()) -> Any:
        out: Counter[Any] = Counter()
        self.put_items(out, [x for pair in items.items() for x in pair] if items else [])
        return out

    def set_of(self, items: Any = ()) -> Any:
        keys: dict[Any, Any] = {}
        self.put_items(keys, [x for item in items for x in (item, None)])
        return set(keys)

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        if encoding != "latin1":
            raise _C.FormatError("load: the pickle encodes text in an unknown way")
        return text.encode("latin1")


_MAKERS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _Machine.rebuild_tensor,
    "torch._utils._rebuild_tensor": _Machine.rebuild_tensor,
    "torch._utils._rebuild_parameter": _Machine.rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _Machine.rebuild_parameter,
    "torch.Size": lambda self, sizes=(): _C.Size(sizes),
    "torch.device": lambda self, *args: _C.device(*args),
    "collections.OrderedDict": _Machine.ordered_dict,
    "collections.Counter": _Machine.counter,
    "builtins.set": _Machine.set_of,
    "__builtin__.set": _Machine.set_of,
    "_codecs.encode": _Machine.encode,
}
_LITERALS = frozenset(
    """INT BININT BININT1 BININT2 LONG LONG1 LONG4 STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
    UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 FLOAT BINFLOAT""".split()
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}


def _tuple(n: int) -> Callable[[_Machine, Any], None]:
    def handler(m: _Machine, _: Any) -> None:
        items = m.stack[-n:]
        if len(items) != n:
            raise _C.FormatError("load: the pickle takes more from its stack than there is")
        m.stack[-n:] = [tuple(items)]

    return handler


def _memoize(m: _Machine, at: Any) -> None:
    m.memo[len(m.memo) if at is None else int(at)] = m.stack[-1]


def _set_item(m: _Machine, _: Any) -> None:
    value, key = m.stack.pop(), m.stack.pop()
    m.put_items(m.stack[-1], [key, value])


def _set_items(m: _Machine, _: Any) -> None:
    items = m.marked()
    m.put_items(m.stack[-1], items)


def _dict(m: _Machine, _: Any) -> None:
    out: dict[Any, Any] = {}
    m.put_items(out, m.marked())
    m.stack.append(out)


def _append(m: _Machine, _: Any) -> None:
    item = m.stack.pop()
    m.put_list([item])


def _pop_mark(m: _Machine, _: Any) -> None:
    m.marked()


def _stack_global(m: _Machine, _: Any) -> None:
    name, module = m.stack.pop(), m.stack.pop()
    m.global_(f"{module}.{name}")


def _push(f: Callable[[_Machine, Any], Any]) -> Callable[[_Machine, Any], None]:
    return lambda m, argument: m.stack.append(f(m, argument))


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "TUPLE": _push(lambda m, _: tuple(m.marked())),
    "LIST": _push(lambda m, _: m.marked()),
    "DICT": _dict,
    "APPEND": _append,
    "APPENDS": lambda m, _: m.put_list(m.marked()),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "POP": lambda m, _: m.stack.pop() and None,
    "POP_MARK": _pop_mark,
    "DUP": _push(lambda m, _: m.stack[-1]),
    "PUT": _memoize,
    "BINPUT": _memoize,
    "LONG_BINPUT": _memoize,
    "MEMOIZE": _memoize,
    "GET": _push(lambda m, at: m.memo[int(at)]),
    "BINGET": _push(lambda m, at: m.memo[at]),
    "LONG_BINGET": _push(lambda m, at: m.memo[at]),
    "GLOBAL": lambda m, path: m.global_(path.replace(" ", ".")),
    "STACK_GLOBAL": _stack_global,
    "BINPERSID": lambda m, _: m.persistent(),
    "REDUCE": lambda m, _: m.reduce(),
    "NEWOBJ": lambda m, _: m.new(),
    "BUILD": lambda m, _: m.build(),
}

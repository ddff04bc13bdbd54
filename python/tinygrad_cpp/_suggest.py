"""Names that a module does not hold yet: submodules imported on first use, and a text for those that do not exist."""

import importlib
from collections.abc import Callable, Iterable
from typing import Any

PAGE = "docs/from-pytorch.md"


def unknown_name(module: str, name: str, known: Iterable[str]) -> str:
    """What to tell about a name that does not exist: which similar ones do, and where the list of all is."""
    import difflib  # not needed by programs without mistakes

    similar = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], n=3, cutoff=0.6)
    text = f"module {module!r} has no attribute {name!r}"
    if similar:
        text += "; did you mean " + " or ".join(similar) + "?"
    return text + f" ({PAGE} lists what there is)"


def lazy(module: str, namespace: dict[str, Any], submodules: Iterable[str] = ()) -> Callable[[str], Any]:
    """A `__getattr__` for a module: imports one of the submodules when it is first asked for, refuses the rest."""
    names = frozenset(submodules)

    def __getattr__(name: str) -> Any:
        if name in names:
            return importlib.import_module(f"{module}.{name}")
        if name.startswith("__"):  # asked for by Python's own tools
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        raise AttributeError(unknown_name(module, name, [*namespace, *names]))

    return __getattr__


_told: set[str] = set()


def tell_once(text: str) -> None:
    """A warning that appears once in a process."""
    if text not in _told:
        import warnings

        _told.add(text)
        warnings.warn(f"{text} ({PAGE})", UserWarning, stacklevel=3)

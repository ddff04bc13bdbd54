"""Text for names that do not exist: which similar ones do."""

import difflib
from collections.abc import Iterable


def unknown_name(module: str, name: str, known: Iterable[str]) -> str:
    similar = difflib.get_close_matches(name, [k for k in known if not k.startswith("_")], n=3, cutoff=0.6)
    text = f"module {module!r} has no attribute {name!r}"
    if similar:
        text += "; did you mean " + " or ".join(similar) + "?"
    return text

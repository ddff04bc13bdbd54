"""Downloads are not done here: importable; refuses to fetch, loads files that are there."""

from __future__ import annotations

import os
from typing import Any

from . import _C
from ._suggest import lazy

_dir: str | None = None


def get_dir() -> str:
    """The folder in which downloaded files would lie."""
    home = os.environ.get("TORCH_HOME", os.path.join(os.path.expanduser("~"), ".cache", "torch"))
    return _dir or os.path.join(home, "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Sets that folder."""
    global _dir
    _dir = os.path.expanduser(os.fspath(d))


def load(repo_or_dir: str, model: str, *args: Any, **kwargs: Any) -> Any:
    """Refused: it would run code of somebody else."""
    raise _C.NotImplementedError(f"hub.load: code of {repo_or_dir!r} is not fetched and run")


def load_state_dict_from_url(
    url: str, model_dir: str | None = None, map_location: Any = None, *args: Any, **kwargs: Any
) -> Any:
    """The file of the address's name if it lies in the folder already; it is not downloaded."""
    from .serialization import load

    path = os.path.join(model_dir or os.path.join(get_dir(), "checkpoints"), os.path.basename(url))
    if not os.path.exists(path):
        raise _C.NotImplementedError(f"hub.load_state_dict_from_url: nothing is downloaded; put the file at {path}")
    return load(path, map_location)


def download_url_to_file(url: str, dst: str, *args: Any, **kwargs: Any) -> None:
    """Refused: nothing is downloaded."""
    raise _C.NotImplementedError(f"hub.download_url_to_file: nothing is downloaded; get {url} yourself")


def list(github: str, *args: Any, **kwargs: Any) -> Any:
    """Refused: nothing is downloaded."""
    raise _C.NotImplementedError(f"hub.list: {github!r} is not fetched")


help = list
__getattr__ = lazy(__name__, globals())

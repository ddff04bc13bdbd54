"""Version of the package."""

from __future__ import annotations

import re

from . import _C

# The PyTorch whose names and semantics the package follows: what programs ask for with `__version__ >= "2.0"`.
TORCH = (2, 13, 0)


class Version(str):
    """The package's version. Compared by <, <=, >, >= it stands for the PyTorch release that the package follows."""

    @staticmethod
    def _numbers(other: object) -> tuple[int, ...]:
        parts = other if isinstance(other, tuple) else re.findall(r"\d+", str(other).split("+")[0])
        return (*(int(n) for n in parts[:3]), 0, 0, 0)[:3]

    def __lt__(self, other: object) -> bool:
        return self._numbers(other) > TORCH

    def __le__(self, other: object) -> bool:
        return self._numbers(other) >= TORCH

    def __gt__(self, other: object) -> bool:
        return TORCH > self._numbers(other)

    def __ge__(self, other: object) -> bool:
        return TORCH >= self._numbers(other)


__version__ = Version(_C.__version__)  # type: ignore[attr-defined]
cuda: str | None = None
hip: str | None = None
debug = False
git_version = "unknown"

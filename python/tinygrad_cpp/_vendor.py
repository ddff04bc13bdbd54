"""Where Python packages of the vendor (nvidia-cublas and the like) keep their libraries."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def folders() -> list[str]:
    """site-packages/nvidia/*/lib of every place that holds parts of the namespace package `nvidia`, cu13 first."""
    try:
        spec = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        return []
    roots = [Path(p) for p in (spec.submodule_search_locations or [])] if spec else []
    found = [p for root in roots for p in root.glob("*/lib") if p.is_dir()]
    return [str(p) for p in sorted(set(found), key=lambda p: (p.parent.name != "cu13", p))]

"""Which kernels there are, in the sources and in a library, and which of them programs launched (TG_EMU_KERNELS)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
KERNEL = re.compile(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(")
# A function of tg::cuda: the length of its name, the name and what follows it.
MANGLED = re.compile(r"^([0-9a-f]+) \w (_ZN2tg4cuda(?:12_GLOBAL__N_1)?L?(\d+)(\w+))$", re.M)


def named(texts: Iterable[str]) -> set[str]:
    """The names of all __global__ functions."""
    found = set()
    for text in texts:
        text = COMMENT.sub("", text)
        names = KERNEL.findall(text)
        assert len(names) == text.count("__global__"), "a kernel that is written in another way: teach KERNEL to see it"
        found |= set(names)
    return found


def own_kernels() -> set[str]:
    folder = ROOT / "backends/cuda"
    return named(p.read_text() for suffix in ("cu", "cuh") for p in sorted(folder.glob(f"*.{suffix}")))


def instantiations(library: Path) -> dict[int, str]:
    """Every kernel that the library has, by its place: a template once for each set of arguments. Names are mangled."""
    own = own_kernels()
    symbols = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    found = {}
    for place, symbol, length, rest in MANGLED.findall(symbols):
        if rest[: int(length)] in own and rest[int(length) :][:1] in ("I", "E"):
            found[int(place, 16)] = symbol
    return found


def launched(files: Iterable[Path], library: Path) -> set[int]:
    """The places of the library's kernels that are told in files which TG_EMU_KERNELS named."""
    lines = [line.split("\t") for file in files for line in file.read_text().splitlines()]
    return {int(place, 16) for _, of, place in lines if of and Path(of).resolve() == library.resolve()}


def demangled(symbols: Iterable[str]) -> list[str]:
    names = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True).stdout
    return sorted(names.splitlines())

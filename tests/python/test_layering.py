"""Who may include whom: core -> backends -> ops -> {autograd, optim, nn, io} -> train -> the rest, read from #include lines."""

import re
import shutil
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# A layer sees itself and every layer with a lower number; layers with the same number do not see each other.
LEVEL = {"core": 0, "backends": 1, "ops": 2, "autograd": 3, "optim": 3, "nn": 3, "io": 3, "train": 4}
TOP = ("include", "python", "tests", "examples", "benchmarks")
# The declarations of Tensor's methods are generated from the op table and stand inside the class.
METHODS = ("core", "ops/tensor_methods.inc")
# Includes allowed against the rule, as (file, included file). Stays empty.
EXCEPTIONS: frozenset[tuple[str, str]] = frozenset()

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
CPP = {".h", ".cpp", ".inc", ".def"}
SOURCE = CPP | {".py", ".pyi", ".cmake", ".sh"}
MAX_LINES = 800


def sources(root: Path, suffixes: set[str]):
    for folder in (*LEVEL, *TOP, "cmake", "tools"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in suffixes and path.is_file():
                yield path


def upward_includes(root: Path) -> tuple[list[str], Counter]:
    """Every include that goes up or sideways, and how many includes each layer has."""
    found, counts = [], Counter()
    for path in sources(root, CPP):
        file = path.relative_to(root)
        layer = file.parts[0]
        if layer not in LEVEL:
            continue
        for target in INCLUDE.findall(path.read_text(encoding="utf-8")):
            counts[layer] += 1
            into = target.split("/")[0]
            if into == layer or (layer, target) == METHODS or (str(file), target) in EXCEPTIONS:
                continue
            if into not in LEVEL or LEVEL[into] >= LEVEL[layer]:
                found.append(f"{file} includes {target}")
    return found, counts


def test_no_layer_includes_upwards():
    found, counts = upward_includes(ROOT)
    print("includes per layer:", dict(counts))
    assert not found, "\n".join(found)
    assert counts["core"] > 0 and counts["ops"] > 0, "the includes were not read"


def test_no_exceptions():
    assert not EXCEPTIONS


def test_files_are_short():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(ROOT, SOURCE)}
    print(f"{len(lines)} source files, {sum(lines.values())} lines, longest {max(lines.values())}")
    too_long = [f"{path.relative_to(ROOT)}: {n}" for path, n in lines.items() if n > MAX_LINES]
    assert not too_long, "\n".join(too_long)


def test_planted_includes_are_caught(tmp_path):
    for layer in LEVEL:
        shutil.copytree(ROOT / layer, tmp_path / layer, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    before = set(upward_includes(tmp_path)[0])
    planted = {
        "core/planted.h": ["backends/planted.h", "ops/ops.h"],
        "backends/cpu/planted.cpp": ["ops/ops.h", "ops/tensor_methods.inc"],
        "ops/planted.cpp": ["autograd/planted.h"],
        "nn/planted.cpp": ["optim/planted.h", "io/planted.h", "python/planted.h", "planted_beside.h"],
        "optim/planted.cpp": ["autograd/planted.h"],
    }
    for file, targets in planted.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f'#include "{target}"\n' for target in targets))
    caught = set(upward_includes(tmp_path)[0]) - before
    assert caught == {f"{file} includes {target}" for file, targets in planted.items() for target in targets}

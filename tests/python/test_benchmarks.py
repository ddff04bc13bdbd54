"""The benchmarks run, cover what they claim to cover, and their guard of instruction counts can fail."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import instructions  # noqa: E402


def test_every_primitive_is_measured():
    backend = (ROOT / "backends/backend.h").read_text()
    measured = (BENCHMARKS / "cpp/primitives.cpp").read_text()
    primitives = set(re.findall(r"virtual [\w:<>, *]+?(\w+)\(", backend)) - {"name"}
    assert {"map", "reduce", "gemm", "int_range", "fused"} <= primitives
    missing = [p for p in primitives if f'"{p}"' not in measured]
    (kernels,) = re.findall(r"enum class Fused : uint8_t \{(.*?)Count", (ROOT / "backends/program.h").read_text(), re.S)
    names = re.findall(r"^\s*(\w+),", kernels, re.MULTILINE)
    missing += [k for k in names if f"Fused::{k}" not in measured]
    assert len(names) > 5 and not missing


def test_instruction_guard_can_fail():
    figures = {"a": 1000, "b": 50}
    assert instructions.compare({"a": 1040, "b": 48}, figures)[1]
    for counts, word in (({"a": 1060, "b": 50}, "TOO MANY"), ({"a": 940, "b": 50}, "fewer")):
        lines, good = instructions.compare(counts, figures)
        assert not good and word in lines[0]
    assert not instructions.compare({"a": 1000, "new": 1}, figures)[1]
    lines, good = instructions.compare(figures, None)  # a compiler nobody has counted with
    assert good and all("no figure stored" in line for line in lines)

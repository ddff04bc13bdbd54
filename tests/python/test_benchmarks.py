"""The benchmarks run, cover what they claim to cover, and their guard of instruction counts can fail."""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import growth  # noqa: E402
import instructions  # noqa: E402
import registry  # noqa: E402
import report  # noqa: E402


def test_every_primitive_is_measured():
    backend = (ROOT / "backends/backend.h").read_text()
    measured = (BENCHMARKS / "cpp/primitives.cpp").read_text()
    primitives = set(re.findall(r"virtual [\w:<>, *]+?(\w+)\(", backend)) - {"name"}
    primitives -= {"gemm_gelu", "bound_index"}  # devices alone have them
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


def run_benchmarks(out: Path, *arguments: str, **env: str) -> str:
    command = [sys.executable, BENCHMARKS / "run.py", "--out", out, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_harness_runs(tmp_path):
    """Two tiny rows and one family, with a framework that is missing; then only the page, from the file."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "jax.py").write_text("raise ImportError('jax is not here')\n")
    out, quick = tmp_path / "table", ["--threads", "1", "--rounds", "1", "--seconds", "0.001", "--frameworks", "tg,jax"]
    path = os.pathsep.join([str(blocked), *filter(None, [os.environ.get("PYTHONPATH")])])
    rows = run_benchmarks(out, *quick, "--parts", "rows", "--only", "^add 3x4|^scalar MLP", PYTHONPATH=path)
    assert "OPENBLAS_VERBOSE=0" in run_benchmarks(
        out, *quick, "--parts", "growth", "--only", "^MLP of layers", OPENBLAS_VERBOSE="0"
    )
    assert "jax is not here" in rows
    results = json.loads(out.with_suffix(".json").read_text())
    assert {r["workload"] for r in results["rows"]} == {"add 3x4", "scalar MLP 2-16-16-1 SGD"}
    assert all(r["seconds"]["tg"] > 0 and "jax" in r["errors"] for r in results["rows"])
    assert results["rows"][1]["peak"]["tg"]["allocator_peak"] > 0
    assert len(results["growth"][0]["points"]["tg"]) == len(growth.FAMILIES[results["growth"][0]["family"]].sizes)
    assert results["machine"]["processor"] and results["machine"]["versions"]["numpy"]

    page = out.with_suffix(".md")
    page.write_text("By hand.\n" + page.read_text().replace("| add 3x4 |", "| outdated |"))
    run_benchmarks(out, "--parts", "none")
    assert page.read_text().startswith("By hand.") and "| add 3x4 |" in page.read_text()
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_goals_and_reasons():
    def row(**seconds):
        return {"workload": "add 3x4", "threads": 1, "seconds": seconds}

    assert report.verdicts(row(tg=3.0, torch=10.0)) == [("0.30 of PyTorch, goal 0.35", True)]
    assert report.verdicts(row(tg=4.0, torch=10.0, jax=1.0)) == [("0.40 of PyTorch, goal 0.35", False)]
    assert report.verdicts(row(torch=1.0)) == []
    behind = {"rows": [row(tg=1.2, torch=10.0, jax=1.0)]}
    assert [(peer, round(ratio, 2)) for _, peer, ratio in report.behind(behind["rows"])] == [("jax", 1.2)]
    assert report.without_reason(behind, "no reason") == ["add 3x4"]
    for given in ("- **add 3x4**: because", "- **other; add \\***: because".replace("\\", "")):
        assert report.without_reason(behind, given) == []


def test_slopes():
    square = [(n, 3e-6 * n**2) for n in (10, 30, 100, 300, 1000)]
    assert math.isclose(growth.slope(square), 2) and math.isclose(growth.steepest(square)[0], 2)
    assert growth.surprise("softmax of rows of 100 and gradient", square)
    assert not growth.surprise("causal attention, 4 heads of 32, and gradient", square)


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "docs").glob("performance*.json")))
def test_page_gives_a_reason_for_every_row_behind(name):
    """A page comes from the committed figures, and says why for what is above 1.1 of a peer or misses its goal."""
    results = json.loads((ROOT / f"docs/{name}.json").read_text())
    page = (ROOT / f"docs/{name}.md").read_text()
    assert set(r["workload"] for r in results["rows"]) <= set(registry.WORKLOADS)
    assert not report.without_reason(results, page)
    assert report.behind_section(results) in page
    assert all(report.rows_section(results, n) in page for n in report.thread_counts(results["rows"]))

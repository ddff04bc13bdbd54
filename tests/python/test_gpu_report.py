"""The command that reports on a GPU, as far as it can be run without one: a dry run, its arithmetic and its bounds."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tinygrad_cpp as tg

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu(monkeypatch):
    """The modules of benchmarks/gpu, which find each other by plain names."""
    names = ["bench", "builds", "cases", "checks", "common", "machine", "planted", "report", "registry", "workloads"]
    before = {n: sys.modules.pop(n) for n in names if n in sys.modules}
    monkeypatch.setenv("TG_GPU_DRY", "1")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/gpu"))
    yield SimpleNamespace(**{n: importlib.import_module(n) for n in ("bench", "builds", "cases", "common", "report")})
    for n in names:
        sys.modules.pop(n, None)
    sys.modules.update(before)


def command(*args, **env):
    return subprocess.run(
        [ROOT / "benchmarks/gpu_report.sh", *map(str, args)],
        env={**os.environ, "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=500,
    )


def package_folder() -> Path:
    """The folder that holds the package which these tests import."""
    return Path(tg._C.__file__).parents[1]


def conformance_program() -> list:
    places = [package_folder().parent / "tg_tests", ROOT / "build/py/tg_tests"]
    return next((["--tests", p] for p in places if p.exists()), [])


def test_dry_run_goes_through_all_stages(tmp_path):
    stated = ["--package", package_folder(), *conformance_program(), "--work", tmp_path / "work", "--rounds", 1]
    done = command("--dry-run", *stated, TORCH_COMPILE_DISABLE="1")
    page = (tmp_path / "work/dry-run.md").read_text()
    result = json.loads((tmp_path / "work/dry-run.json").read_text())
    assert page.startswith("# Dry run: emulation, figures mean nothing") and "**No figure here says anything.**" in page
    assert result["machine"]["emulation"] and ": pass)" not in page and "**miss**" not in page
    assert result["stages"]["sanitize"]["planted"] == {"verdict": "pass", "output": ""}
    verdicts = {k: v["verdict"] for k, v in result["stages"].items()}
    conformance = "pass" if conformance_program() else "fail"
    assert verdicts == {"build": "pass", "conformance": conformance, "matrix": "pass", "sanitize": "left out",
                        "determinism": "pass", "bench": "pass"}, done.stderr  # fmt: skip
    assert done.returncode == int(conformance == "fail")
    assert result["stages"]["conformance"].get("passed", 0) >= (20 if conformance_program() else 0)
    rows = result["stages"]["bench"]["rows"]
    assert {r["group"] for r in rows} == {"latency", "memory", "products", "attention", "convolutions", "training"}
    assert all(r["modes"]["tg"]["min"] > 0 and r["modes"]["tg"]["median"] >= r["modes"]["tg"]["min"] for r in rows)
    assert not (ROOT / "benchmarks/reports").exists() or not list((ROOT / "benchmarks/reports").glob("dry*"))


def test_dry_run_keeps_away_from_reports(tmp_path):
    done = command("--dry-run", "report", "--out", ROOT / "benchmarks/reports")
    assert done.returncode == 2 and "does not write into benchmarks/reports" in done.stderr
    assert command("polish").returncode == 2


def row(gpu, name, **seconds):
    modes = {m: {"min": s, "median": s, "peak_bytes": 3e9} for m, s in seconds.items()}
    return {"case": name, "group": gpu.cases.CASES[name].group, "modes": modes, "errors": {}}


def test_goals(gpu):
    """Bandwidth and cuBLASLt are to be reached at least, times of others at most."""
    cases, goals = gpu.cases.CASES, gpu.report.goals

    def judged(name, copy=0.0, direct=None, **seconds):
        found = goals(row(gpu, name, **seconds), cases[name], copy, direct or {})
        return [(g["peer"], round(g["ratio"], 3), g["reached"]) for g in found]

    copy = cases["copy"].bytes / 2.0  # bytes per second: two seconds
    assert gpu.report.copy_bandwidth([row(gpu, "copy", tg=2.5, torch=2.0)], cases) == copy
    assert judged("gelu float32", copy, tg=2.0) == [("copy", 1.0, True)]
    assert judged("gelu float32", copy, tg=2.5) == [("copy", 0.8, False)]
    assert judged("gelu float32", tg=2.5) == []  # nothing to compare with
    assert judged("add 3x4", tg=1.0, torch=2.0) == [("torch", 0.5, True)]
    assert judged("add 3x4", tg=1.1, torch=2.0) == [("torch", 0.55, False)]
    assert judged("add 3x4", torch=2.0) == []
    name = "matmul 32 bfloat16"
    assert judged(name, direct={cases[name].product: 0.9}, tg=1.0) == [("cublaslt", 0.9, None)]  # no goal for that size
    name = next(n for n in cases if n.startswith("GPT-2") and n.endswith("bfloat16"))
    assert judged(name, tg=0.75, torch=1.0, compile=0.7) == [("torch", 0.75, True), ("compile", 1.071, False)]


def test_which_way_attention_went_is_told(gpu):
    name = next(n for n, c in gpu.cases.CASES.items() if c.group == "attention")
    told = row(gpu, name, tg=1.0)
    assert "cuDNN" not in gpu.report.rate(told, gpu.cases.CASES[name], "")
    told["modes"]["tg"]["attention"] = [3, 1]
    assert "attention by cuDNN 3, by own kernels 1" in gpu.report.rate(told, gpu.cases.CASES[name], "")


def test_goals_are_those_of_the_project():
    """The cases of a real run carry the figures that the project aims at."""
    code = "import json, cases; print(json.dumps({n: [c.peer, c.goal, c.more_goals] for n, c in cases.CASES.items()}))"
    env = {k: v for k, v in os.environ.items() if k != "TG_GPU_DRY"}
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT / "benchmarks/gpu", capture_output=True, text=True)
    goals = json.loads(out.stdout)
    assert goals["matmul 8192 bfloat16"] == ["cublaslt", 0.98, {}] and goals["add 3x4"] == ["torch", 0.5, {}]
    assert goals["GPT-2 124M, 8x1024 bfloat16"] == ["torch", 0.77, {"compile": 1.0}]
    for name in ("MLP 784-512-512-10 Adam, 128", "CNN 1-32-64, 64x28x28"):
        assert goals[f"{name} float32"] == goals[f"{name} bfloat16"] == ["torch", 0.7, {}]
    for name in ("gelu", "x + y", "sum of all", "softmax", "layer_norm"):
        assert goals[f"{name} bfloat16"] == goals[f"{name} float32"] == ["copy", 0.9, {}]


def test_report_of_a_device(gpu, tmp_path):
    """What the stages left on disk becomes a page that says what was reached, missed, failed and left out."""
    c = gpu.common.Context(work=tmp_path / "work", out=tmp_path / "reports")
    name = next(n for n in gpu.cases.CASES if n.startswith("GPT-2") and n.endswith("bfloat16"))
    rows = [row(gpu, "copy", tg=2.0), row(gpu, "gelu float32", tg=2.5), row(gpu, name, tg=0.7, torch=1.0, compile=1.4)]
    rows[1]["errors"]["torch"] = "RuntimeError: no"
    info = {"tg": {"version": "1", "device": "NVIDIA H200"}}
    c.save("bench", {"verdict": "out of time", "info": info, "rows": rows, "left_out": ["add 3x4"], "cublaslt": {}})
    c.save("sanitize", {"verdict": "fail", "tools": {"memcheck": {"verdict": "fail", "errors": 3}}})
    c.save("matrix", {"verdict": "fail", "ops": 700, "failures": ["exp: wrong"]})
    path = Path(gpu.report.report(c)["file"])
    page = path.read_text()
    assert path.parent == c.out and re.fullmatch(r"\d{4}-\d\d-\d\d-nvidia-h200\.md", path.name)
    assert page.startswith("# GPU report: NVIDIA H200") and "| emulation | False |" in page
    assert "Goals reached: 3 of 4. Missed: gelu float32." in page and "0.80 of copy (≥ 0.9: **miss**)" in page
    assert "0.70 × PyTorch (≤ 0.77: pass); 0.50 × torch.compile (≤ 1: pass)" in page
    assert re.search(r"tokens/s; MFU [\d.]+ %; peak MB tg 3,000", page)
    assert "memcheck: fail, 3 errors" in page and "unlike the CPU: exp: wrong" in page and "| build | not run |" in page
    assert "gelu float32, torch: RuntimeError: no" in page and "Left out for lack of time: add 3x4." in page
    assert json.loads(path.with_suffix(".json").read_text())["stages"]["bench"]["rows"][1]["goals"][0]["reached"] is False


def test_sanitizer_counts(gpu):
    count = gpu.builds.errors_in
    assert count("========= ERROR SUMMARY: 0 errors\n") == 0 and count("========= ERROR SUMMARY: 12 errors") == 12
    assert count("========= RACECHECK SUMMARY: 2 hazards displayed (2 errors, 0 warnings)") == 2
    assert count("it did not start") is None


SANITIZER = """#!/bin/sh
case "$*" in
  *planted.py*) [ -z "$BLIND" ] || exec echo "========= ERROR SUMMARY: 0 errors"
    echo "========= Invalid __global__ write of size 4 bytes at write_beyond(float *, long long)"
    echo "========= ERROR SUMMARY: 1 error"
    exit 9 ;;
  *kernels.py*) [ "$TG_CUDA_WITHOUT" = cublas:cublasLt:cudnn ] && echo "========= ERROR SUMMARY: 0 errors" ;;
esac
"""


def test_a_sanitizer_that_does_not_find_a_planted_bug_fails(gpu, tmp_path, monkeypatch):
    """And the libraries of the vendor are left out of what it looks at."""
    checks = importlib.import_module("checks")
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(SANITIZER)
    tool.chmod(0o755)
    monkeypatch.setattr(checks, "find_tool", lambda name, c: str(tool))
    c = gpu.common.Context(work=tmp_path, out=tmp_path, package=package_folder())
    found = checks.sanitize(c)
    assert found["verdict"] == found["planted"]["verdict"] == "pass"
    assert [v["errors"] for v in found["tools"].values()] == [0, 0, 0, 0]
    monkeypatch.setenv("BLIND", "1")
    blind = checks.sanitize(c)
    assert blind["verdict"] == blind["planted"]["verdict"] == "fail" and "0 errors" in blind["output"]
    assert {v["verdict"] for v in blind["tools"].values()} == {"pass"}


def test_gpt_2_has_the_gelu_it_was_trained_with(gpu, monkeypatch):
    """By the op that makes it in the pass of a product; a peer without that op takes the two steps of the same formula."""
    workloads = sys.modules["workloads"]
    x, linear, F = tg.randn(3, 5), tg.nn.Linear(5, 8), tg.nn.functional
    ours = workloads.tanh_gelu_of(tg)(linear, x)
    without = SimpleNamespace(nn=SimpleNamespace(functional=SimpleNamespace(gelu=F.gelu)))
    assert ours.equal(F.linear_gelu(x, linear.weight, linear.bias))
    assert (ours - workloads.tanh_gelu_of(without)(linear, x)).abs().max() < 1e-6
    calls, chosen = [], workloads.tanh_gelu_of
    monkeypatch.setattr(workloads, "tanh_gelu_of", lambda t: calls.append(t) or chosen(t))
    name = next(n for n in gpu.cases.CASES if n.startswith("GPT-2"))
    gpu.cases.CASES[name].make(tg, lambda f: f)()
    assert calls == [tg]


def test_a_process_that_hangs_is_ended(gpu, tmp_path):
    ended = gpu.common.run([sys.executable, "-c", "print('begun', flush=True); import time; time.sleep(60)"], dict(os.environ), 1)
    assert ended.rc is None and ended.verdict == "out of time" and "begun" in ended.output and ended.seconds < 30
    c = gpu.common.Context(work=tmp_path, out=tmp_path, dry=True, package=package_folder())
    (tmp_path / "logs").mkdir()
    worker = gpu.bench.Worker("no such framework", c)  # it cannot even import what it needs, or has no such case
    reply = worker.ask(60, prepare="no such case")
    worker.close()
    assert "error" in reply

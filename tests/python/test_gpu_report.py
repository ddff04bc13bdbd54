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
    names = ["bench", "builds", "cases", "checks", "common", "device", "machine", "planted", "report", "registry"]
    names += ["stages", "workloads"]
    before = {n: sys.modules.pop(n) for n in names if n in sys.modules}
    monkeypatch.setenv("TG_GPU_DRY", "1")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/gpu"))
    yield SimpleNamespace(**{n: importlib.import_module(n) for n in ("bench", "builds", "cases", "common", "report", "stages")})
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
    assert result["emulation"] and "| emulation | True |" in page and "| CUDA's libraries | none in use |" in page
    assert ": pass)" not in page and "**miss**" not in page
    for stage in result["stages"].values():
        assert stage["ran"]["emulation"] and "emulation" in stage["ran"]["device"] and stage["ran"]["versions"] == {}
        assert re.match(r"[0-9a-f]{12}|unknown", stage["ran"]["commit"]) and stage["ran"]["date"][:2] == "20"
    exceptions = result["stages"]["matrix"]["exceptions"]
    assert sorted(exceptions) == ["device_copy", "standardize_backward"] and "known to differ: device_copy" in page
    assert result["stages"]["sanitize"]["planted"] == {"verdict": "pass", "output": ""}
    verdicts = {k: v["verdict"] for k, v in result["stages"].items()}
    conformance = "pass" if conformance_program() else "fail"
    assert verdicts == {"build": "pass", "conformance": conformance, "matrix": "pass", "sanitize": "left out",
                        "determinism": "pass", "bench": "pass"}, done.stderr  # fmt: skip
    assert done.returncode == int(conformance == "fail")
    if conformance_program():
        assert result["stages"]["conformance"]["passed"] >= 20
        assert result["stages"]["conformance"]["device"].endswith("(EMULATION, no GPU was used)")
    rows = result["stages"]["bench"]["rows"]
    assert {r["group"] for r in rows} == {"latency", "memory", "products", "attention", "convolutions", "training"}
    assert all(r["modes"]["tg"]["min"] > 0 and r["modes"]["tg"]["median"] >= r["modes"]["tg"]["min"] for r in rows)
    assert not (ROOT / "benchmarks/reports").exists() or not list((ROOT / "benchmarks/reports").glob("dry*"))


def test_dry_run_keeps_away_from_reports(tmp_path):
    done = command("--dry-run", "report", "--out", ROOT / "benchmarks/reports")
    assert done.returncode == 2 and "does not write into benchmarks/reports" in done.stderr
    assert command("polish").returncode == 2


STAGES = ("conformance", "matrix", "sanitize", "determinism", "bench")


def test_the_emulation_is_not_taken_for_a_gpu(tmp_path):
    """Whatever brings it about: here each process of the package turns it on. No stage passes, and no page is written."""
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['TG_CUDA_EMULATE'] = '1'\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    stated = ["--package", package_folder(), *conformance_program(), "--work", tmp_path, "--out", tmp_path / "reports"]
    done = command(*STAGES, "report", *stated, PYTHONPATH=path)
    assert done.returncode == 1 and not (tmp_path / "reports").exists()
    for stage in STAGES:
        result = json.loads((tmp_path / f"results/{stage}.json").read_text())
        assert result["verdict"] == "fail" and result["ran"]["emulation"], done.stderr
        assert "the package's device is the emulation" in result["missing"][0]
        assert f"{stage}: it ran on the emulation; such a result does not belong here" in done.stderr


def test_the_callers_settings_do_not_change_what_runs(gpu, tmp_path, monkeypatch):
    settings = {"TG_CUDA_EMULATE": "1", "TG_CUDA_PLUGIN": "x", "TG_TEST_SHARE": "100", "TG_CUDA_WITHOUT": "cublas"}
    for name, value in {**settings, "TG_CUDA_LIB_DIR": "/lib", "TG_DOCTEST_INCLUDE_DIR": "/include"}.items():
        monkeypatch.setenv(name, value)
    c = gpu.common.Context(work=tmp_path, out=tmp_path)
    env = c.env(TG_TEST_BACKEND="cuda")
    kept = {"TG_CUDA_LIB_DIR": "/lib", "TG_DOCTEST_INCLUDE_DIR": "/include", "TG_TEST_BACKEND": "cuda"}
    assert {k: v for k, v in env.items() if k in {*settings, *kept, "TG_GPU_DRY"}} == kept
    c.dry = True
    assert c.env()["TG_CUDA_EMULATE"] == "1" and "TG_CUDA_PLUGIN" not in c.env()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("CUDA device: NVIDIA H200 (a real GPU)", ""),
        ("CUDA device: emulation on the CPU, not a GPU (EMULATION, no GPU was used)", "no GPU was used"),
        ("CUDA device: none, no NVIDIA driver", "none, no NVIDIA driver"),
        ("[doctest] Status: SUCCESS!", "does not say on which device"),
    ],
)
def test_the_tests_program_is_asked_too(gpu, tmp_path, line, problem):
    program = tmp_path / "tg_tests"
    program.write_text(f"#!/bin/sh\n[ $TG_TEST_BACKEND = cuda ] && echo '{line}'\n")
    program.chmod(0o755)
    c = gpu.common.Context(work=tmp_path, out=tmp_path, tests=program)
    result = importlib.import_module("checks").conformance(c)
    assert result["verdict"] == "fail"  # no test passed, whatever the device is
    said = result.get("missing", [""])[0]
    assert problem in said and bool(said) == bool(problem)


def test_stages_leave_time_for_those_after_them(gpu, tmp_path, monkeypatch):
    """Each uses up what it may; the times of the cases still have more than half."""
    stages, left = gpu.stages, {}

    def greedy(name):
        def stage(c):
            left[name] = c.left()
            c.start -= c.left()  # as if so much time had passed
            return {"verdict": "pass"}

        return stage

    monkeypatch.setattr(stages, "STAGES", {n: greedy(n) for n in stages.STAGES})
    for name in ("build", "report"):
        monkeypatch.setattr(stages, name, stages.STAGES[name])
    monkeypatch.setattr(stages, "ask_package", lambda c: {"device": "NVIDIA H200", "emulation": False, "versions": {}})
    c = gpu.common.Context(work=tmp_path, out=tmp_path, package=tmp_path)
    results = stages.go(c, ["conformance", "matrix", "determinism", "sanitize", "bench", "report"])
    assert {r["verdict"] for r in results.values()} == {"pass"} and all(s > 10 for n, s in left.items() if n != "report")
    assert left["bench"] >= 0.55 * c.budget - 2
    left.clear()
    c = gpu.common.Context(work=tmp_path, out=tmp_path, package=tmp_path)
    results = stages.go(c, [])  # the build, which the rest needs, may take what the checks would have
    assert left["build"] > 0.4 * c.budget and left["bench"] >= 0.55 * c.budget - 2
    assert results["sanitize"]["verdict"] == "out of time" and "run it alone" in results["sanitize"]["note"]


def test_cases_with_the_weightiest_goals_come_first(gpu):
    cases = gpu.cases.CASES
    order = sorted(cases, key=lambda n: gpu.cases.importance(cases[n]))
    goals = [cases[n].goal is not None for n in order]
    assert goals == sorted(goals, reverse=True)
    groups = list(dict.fromkeys(cases[n].group for n in order))
    assert groups[0] == "training" and len(groups) == 6
    assert [n for n in order if cases[n].group == "memory"][0] == "copy"  # what the others are compared with


def ran(**changes):
    """The stamp of a result."""
    stamp = {"date": "2026-11-01 10:00", "commit": "0123456789ab", "device": "NVIDIA H200", "emulation": False}
    return {"ran": {**stamp, "versions": {"driver": "CUDA 13.0", "cuDNN": "9.24.0"}, **changes}}


def test_a_page_is_of_one_run_or_says_that_it_is_not(gpu, tmp_path):
    c = gpu.common.Context(work=tmp_path / "work", out=tmp_path / "reports")
    assert gpu.report.report(c)["missing"] == ["no stage has left a result"]
    c.save("matrix", {"verdict": "pass"} | ran())
    c.save("determinism", {"verdict": "pass"} | ran(date="2026-11-01 10:05", **{"built from": "0123456789ab"}))
    page = Path(gpu.report.report(c)["file"]).read_text()
    assert "2026-11-01 10:05, commit 0123456789ab" in page and "not of one run" not in page
    assert "| driver | CUDA 13.0 |" in page and "| cuDNN | 9.24.0 |" in page and "| emulation | False |" in page
    c.save("matrix", {"verdict": "pass"} | ran(date="2026-10-31 09:00", **{"built from": "ffff56789abc"}))
    c.save("determinism", {"verdict": "pass"} | ran(device="NVIDIA L40S", versions={"cuDNN": "9.28.0"}))
    page = Path(gpu.report.report(c)["file"]).read_text()
    assert "**These results are not of one run:**" in page
    assert "- **different commits**: 0123456789ab (matrix, determinism); ffff56789abc (matrix)" in page
    assert "- **different devices**: NVIDIA H200 (matrix); NVIDIA L40S (determinism)" in page
    assert "- **different days**: 2026-10-31 (matrix); 2026-11-01 (determinism)" in page
    assert "- **different versions**: driver CUDA 13.0, cuDNN 9.24.0 (matrix); cuDNN 9.28.0 (determinism)" in page
    for result, why in (({}, "matrix: its result does not say where it ran"), (ran(emulation=True), "it ran on the emulation")):
        c.save("matrix", {"verdict": "pass"} | result)
        assert why in gpu.report.report(c)["missing"][0]
    (c.work / "results/determinism.json").unlink()
    c.save("matrix", {"verdict": "fail"} | ran(device="", emulation=None, versions={}))
    assert gpu.report.report(c)["missing"] == ["no stage ran on a device: there is nothing to report"]


def test_a_result_says_which_commit_was_built(gpu, tmp_path):
    machine = importlib.import_module("machine")
    c = gpu.common.Context(work=tmp_path, out=tmp_path)
    c.found = {"device": "NVIDIA H200", "emulation": False, "text": "", "versions": {"NVRTC": "13.0"}}
    stamp = machine.stamp(c)["ran"]
    assert (stamp["device"], stamp["emulation"], stamp["versions"]) == ("NVIDIA H200", False, {"NVRTC": "13.0"})
    assert stamp["commit"] == machine.commit() and "built from" not in stamp
    for verdict, commit in (("pass", "ffff56789abc"), ("fail", "a build that failed")):
        c.save("build", {"verdict": verdict} | ran(commit="ffff56789abc"))
        assert machine.stamp(c)["ran"]["built from"] == commit
    c.package = tmp_path
    assert "built from" not in machine.stamp(c)["ran"]


def test_versions_are_those_that_the_package_works_with(gpu):
    found = importlib.import_module("device").versions()
    assert list(found) == ["CUDA runtime", "driver", "cuBLASLt", "cuBLAS", "NVRTC", "cuDNN", "NCCL"]
    assert all(v == "missing" or re.match(r"(CUDA )?\d+[.]\d+", v) for v in found.values()), found


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
    for name in ("gelu", "x + y", "sum of all", "softmax", "layer_norm", "rms_norm"):
        assert goals[f"{name} bfloat16"] == goals[f"{name} float32"] == ["copy", 0.9, {}]


def test_report_of_a_device(gpu, tmp_path):
    """What the stages left on disk becomes a page that says what was reached, missed, failed and left out."""
    c = gpu.common.Context(work=tmp_path / "work", out=tmp_path / "reports")
    name = next(n for n in gpu.cases.CASES if n.startswith("GPT-2") and n.endswith("bfloat16"))
    rows = [row(gpu, "copy", tg=2.0), row(gpu, "gelu float32", tg=2.5), row(gpu, name, tg=0.7, torch=1.0, compile=1.4)]
    rows[1]["errors"]["torch"] = "RuntimeError: no"
    info = {"tg": {"version": "1", "device": "NVIDIA H200"}}
    c.save("bench", {"verdict": "out of time", "info": info, "rows": rows, "left_out": ["add 3x4"], "cublaslt": {}} | ran())
    c.save("sanitize", {"verdict": "fail", "tools": {"memcheck": {"verdict": "fail", "errors": 3}}} | ran())
    c.save("matrix", {"verdict": "fail", "ops": 700, "failures": ["exp: wrong"]} | ran())
    path = Path(gpu.report.report(c)["file"])
    page = path.read_text()
    assert path.parent == c.out and path.name == "2026-11-01-nvidia-h200.md"
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

"""The stages conformance, matrix, sanitize and determinism: what must hold before a time means anything."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from builds import errors_in
from common import HERE, ROOT, Context, run, say
from device import device_of_tests, problem_of_tests
from machine import find_tool
from planted import NAME

TESTS = "tests/python"


def tests_program(c: Context) -> str | None:
    """tg_tests: the one that was named, or that of the build tree."""
    path = c.tests or c.build / "tg_tests"
    return str(path) if path.exists() else None


def conformance(c: Context) -> dict[str, Any]:
    """The C++ conformance tests of backends with the device's backend under test."""
    program = tests_program(c)
    if program is None:
        return {"verdict": "fail", "missing": ["tg_tests: it is built where doctest is found (gpu_report.sh fetch)"]}
    if trouble := problem_of_tests(c, program):
        return {"verdict": "fail", "missing": [trouble]}
    which = "-tc=map*" if c.device == "cpu" else "--source-file=*test_cuda*,*test_backend_*"
    env = c.env(TG_TEST_BACKEND=c.device)
    if c.dry:
        env["TG_TEST_SHARE"] = "4"  # every test, but of its calls one in four on the device
    done = run([program, which], env, min(150, c.left() - 5), c.work / "logs/conformance.log")
    counts = re.findall(r"test cases:\s*(\d+)\s*\|\s*(\d+) passed\s*\|\s*(\d+) failed", done.output)
    cases, passed, failed = (int(v) for v in counts[-1]) if counts else (0, 0, 0)
    verdict = "fail" if done.rc == 0 and passed == 0 else done.verdict
    return {
        "verdict": verdict,
        "seconds": round(done.seconds),
        "cases": cases,
        "passed": passed,
        "failed": failed,
        "device": device_of_tests(done.output),
        "output": done.tail() if verdict != "pass" else "",
    }


def matrix(c: Context) -> dict[str, Any]:
    """Every op of the table from its samples: values and gradients on the device against the CPU's."""
    out = c.work / "results" / "matrix-ops.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ROOT / TESTS / "device_matrix.py", "--device", c.device, "--json", out]
    command += ["--few"] if c.dry else []
    done = run(command, c.env(), min(150, c.left() - 5), c.work / "logs/matrix.log")
    result: dict[str, Any] = {"verdict": done.verdict, "seconds": round(done.seconds)}
    if out.exists():
        result |= json.loads(out.read_text())
    return result | {"output": done.tail() if done.rc != 0 else ""}


# memcheck does not look for leaks: the allocator keeps its memory until the process ends, as it should.
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
OWN_KERNELS = {"TG_CUDA_WITHOUT": "cublas:cublasLt:cudnn"}  # what the tools say about a vendor's is not ours to mend


def planted(c: Context, tool: list[Any]) -> dict[str, Any]:
    """A write out of bounds, which must be found: by `tool`, or in a dry run by the emulation."""
    done = run([*tool, sys.executable, HERE / "planted.py"], c.env(), min(60, c.left()), c.work / "logs/planted.log")
    found = done.rc not in (0, None) and NAME in done.output and (not tool or bool(errors_in(done.output)))
    return {"verdict": "pass" if found else "fail", "output": "" if found else done.tail()}


def sanitize_dry(c: Context) -> dict[str, Any]:
    """Nothing is said about a GPU: the emulation's own checks are tests, here it finds what was planted."""
    result: dict[str, Any] = {"verdict": "left out", "note": "compute-sanitizer needs a GPU"}
    if c.device == "cuda":
        result["planted"] = planted(c, [])
        if result["planted"]["verdict"] == "fail":
            result |= {"verdict": "fail", "output": result["planted"]["output"]}
    return result


def sanitize(c: Context) -> dict[str, Any]:
    """compute-sanitizer over the own kernels, and over one with a bug that it must find."""
    if c.dry:
        return sanitize_dry(c)
    tool = find_tool("compute-sanitizer", c)
    if tool is None:
        hint = "compute-sanitizer: part of the toolkit, or pip install nvidia-cuda-sanitizer-api"
        return {"verdict": "fail", "missing": [hint]}
    commands = {name: [tool, "--tool", name, "--error-exitcode", "9", "--print-limit", "20"] for name in TOOLS}
    bug = planted(c, commands["memcheck"])
    result: dict[str, Any] = {"verdict": bug["verdict"], "planted": bug, "output": bug["output"], "tools": {}}
    share = (c.left() - 10) / len(TOOLS)
    for name, command in commands.items():
        kernels = [*command, sys.executable, HERE / "kernels.py"]
        done = run(kernels, c.env(**OWN_KERNELS), min(share, 130), c.work / f"logs/{name}.log")
        errors = errors_in(done.output)
        verdict = "fail" if done.rc == 0 and errors is None else done.verdict
        result["tools"][name] = {"verdict": verdict, "errors": errors, "seconds": round(done.seconds)}
        if verdict != "pass":
            result["tools"][name]["output"] = done.tail()
            result["verdict"] = verdict if result["verdict"] == "pass" else result["verdict"]
        say(f"  {name}: {verdict}, {errors} errors")
    return result


def determinism(c: Context) -> dict[str, Any]:
    """Every kernel, and a short training, twice in one process and once more in another: the same bits."""
    command = [sys.executable, HERE / "kernels.py", "--hash", "--device", c.device]
    runs = [run(command, c.env(), min(90, c.left() - 5)) for _ in range(2)]
    names = [{n: h for h, n in re.findall(r"^([0-9a-f]{16,}) (.*)$", r.output, re.M)} for r in runs]
    differ = sorted(n for n in names[0] if names[0][n] != names[1].get(n))
    ran = all(r.rc == 0 for r in runs) and bool(names[0])
    return {
        "verdict": "pass" if ran and not differ else next((r.verdict for r in runs if r.rc != 0), "fail"),
        "seconds": round(sum(r.seconds for r in runs)),
        "kernels": len(names[0]),
        "differ": differ,
        "output": "" if ran else runs[-1].tail(),
    }

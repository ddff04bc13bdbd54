"""Which device the package's CUDA is, and the versions of what it works with.

    python device.py      prints them as JSON

A result of the emulation must never pass for one of a GPU, so each stage asks the package, and conformance the tests'
program too, before it begins.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from common import HERE, Context, run

PLAIN_RUN = "without --dry-run only a GPU is reported on"


def versions() -> dict[str, str]:
    """Of the driver, the runtime and the vendor's libraries, as the package opens them; without their paths."""
    import tinygrad_cpp as tg  # the package under test: not where the command itself runs
    from tinygrad_cpp import _doctor

    lines = dict(_doctor.cuda())
    found = {"CUDA runtime": _doctor._version(tg._C._cuda_probe()["runtime_version"])}
    for name in ("driver", *_doctor.LIBRARIES):
        text = lines.get(name, "not asked")
        found[name] = "missing" if text.startswith("missing") else text.partition(", ")[0]
    return found


def look() -> dict[str, Any]:
    """What the package finds; no versions for the emulation, which works without all of that."""
    import tinygrad_cpp as tg

    probe = tg._C._cuda_probe()
    there = probe["devices"] > 0
    return {
        "device": tg.cuda.get_device_name() if there else "",
        "emulation": probe["emulated"],
        "text": probe["text"],
        "versions": versions() if there and not probe["emulated"] else {},
    }


def ask_package(c: Context) -> dict[str, Any]:
    """look() in a process of the package."""
    done = run([sys.executable, HERE / "device.py"], c.env(), 120)
    lines = done.output.strip().splitlines()
    if done.rc != 0 or not lines:
        return {"device": "", "emulation": None, "text": f"the package does not run: {done.tail(3)}", "versions": {}}
    return json.loads(lines[-1])


def problem(c: Context) -> str:
    """Why this call cannot use the package's device; empty if it can."""
    found = c.found
    if c.dry:
        return ""
    if found["emulation"]:
        return f"the package's device is the emulation; {PLAIN_RUN}"
    return "" if found["device"] else f"no CUDA device: {found['text']}"


def device_of_tests(output: str) -> str:
    """The device that tg_tests says it used (tests/cpp/main.cpp); empty if it says nothing."""
    said = re.findall(r"^CUDA device: (.*)$", output, re.M)
    return said[-1] if said else ""


def problem_of_tests(c: Context, program: str) -> str:
    """The same for the program of the C++ tests, which may have been built with another library."""
    if c.dry:
        return ""
    done = run([program, "-tc=none, only the device is asked for"], c.env(TG_TEST_BACKEND="cuda"), 60)
    said = device_of_tests(done.output)
    if not said:
        return f"{program} does not say on which device it runs"
    return "" if said.endswith("(a real GPU)") else f"the tests' device is {said}; {PLAIN_RUN}"


if __name__ == "__main__":
    print(json.dumps(look()))

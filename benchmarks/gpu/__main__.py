"""The command behind benchmarks/gpu_report.sh."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from common import ROOT, Context
from stages import STAGES, go


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="gpu_report.sh", description="Builds, checks and times on this machine's GPU."
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"fetch, {', '.join(STAGES)}; all but fetch if none")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, without a GPU; the figures mean nothing")
    parser.add_argument("--package", type=Path, help="a folder that holds tinygrad_cpp/, instead of a build")
    parser.add_argument("--tests", type=Path, help="the program tg_tests that belongs to --package")
    parser.add_argument("--only", default="", help="benchmark cases: a regular expression")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--budget", type=float, default=540.0, help="seconds for all stages of this call")
    parser.add_argument("--work", type=Path, help="build tree and intermediate results; build/gpu if not given")
    parser.add_argument("--out", type=Path, help="where the report goes; benchmarks/reports if not given")
    a = parser.parse_args()
    unknown = [s for s in a.stages if s != "fetch" and s not in STAGES]
    if unknown:
        parser.error(f"unknown stage {unknown[0]}; there are fetch, {', '.join(STAGES)}")
    work = a.work or ROOT / "build" / ("gpu-dry" if a.dry_run else "gpu")
    out = a.out or (work if a.dry_run else ROOT / "benchmarks/reports")
    if a.dry_run and out.resolve() == (ROOT / "benchmarks/reports").resolve():
        parser.error("a dry run does not write into benchmarks/reports")
    c = Context(
        work=work.resolve(),
        out=out.resolve(),
        dry=a.dry_run,
        package=a.package and a.package.resolve(),
        tests=a.tests and a.tests.resolve(),
        only=a.only,
        rounds=a.rounds,
        budget=a.budget,
    )
    os.environ.pop("TG_GPU_DRY", None)
    if a.dry_run:
        os.environ["TG_GPU_DRY"] = "1"  # before cases.py is imported, which has other sizes then
    results = go(c, a.stages)
    if "file" in results.get("report", {}):
        print(results["report"]["file"])
    return int(any(r["verdict"] == "fail" for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())

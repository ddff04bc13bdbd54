"""The stage report: what the stages left on disk, as Markdown and JSON, with the goals and whether they are reached."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from common import Context, attention_text
from machine import describe

STAGES = ("build", "conformance", "matrix", "determinism", "sanitize", "bench")
# Dense bfloat16 operations per second by the vendor's data sheets, for the fraction of the peak (MFU).
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}


def peak_of(device: str) -> float | None:
    return next((v for k, v in PEAKS.items() if all(word in device for word in k.split())), None)


def copy_bandwidth(rows: list[dict[str, Any]], cases: dict[str, Any]) -> float:
    """Bytes per second, read and written, of the fastest device copy that any framework made; 0 if none was timed."""
    times = [m["min"] for r in rows if r["case"] == "copy" for m in r["modes"].values()]
    return cases["copy"].bytes / min(times) if times else 0.0


def goals(row: dict[str, Any], case: Any, copy: float, direct: dict[str, float]) -> list[dict[str, Any]]:
    """What the case is compared with: {"peer", "ratio", "goal", "reached"}; nothing where a side is missing."""
    if "tg" not in row["modes"]:
        return []
    ours = row["modes"]["tg"]["min"]
    found = []
    for peer, goal in {case.peer: case.goal, **case.more_goals}.items():
        at_least = peer in ("copy", "cublaslt")
        if peer == "copy":
            ratio = case.bytes / ours / copy if copy else math.nan
        elif peer == "cublaslt":
            ratio = direct[case.product] / ours if case.product in direct else math.nan
        else:
            ratio = ours / row["modes"][peer]["min"] if peer in row["modes"] else math.nan
        if math.isnan(ratio):
            continue
        reached = None if goal is None else ratio >= goal if at_least else ratio <= goal
        found.append({"peer": peer, "ratio": ratio, "goal": goal, "at_least": at_least, "reached": reached})
    return found


def seconds(v: float | None) -> str:
    if v is None:
        return "–"
    unit, scale = next(((u, s) for u, s in (("s", 1.0), ("ms", 1e-3)) if v >= s), ("µs", 1e-6))
    return f"{v / scale:.3g} {unit}"


def goal_text(g: dict[str, Any], judge: bool) -> str:
    name = {"copy": "of copy", "cublaslt": "of cuBLASLt", "torch": "× PyTorch", "compile": "× torch.compile"}[g["peer"]]
    text = f"{g['ratio']:.2f} {name}"
    if g["goal"] is None:
        return text
    aim = f"{'≥' if g['at_least'] else '≤'} {g['goal']:g}"
    return f"{text} ({aim}: {'pass' if g['reached'] else '**miss**'})" if judge else f"{text} (aim {aim})"


def rate(row: dict[str, Any], case: Any, device: str) -> str:
    """What else a time says: bandwidth, operations, tokens, memory."""
    mode = row["modes"].get("tg")
    if mode is None:
        return ""
    parts = []
    if case.bytes:
        parts.append(f"{case.bytes / mode['min'] / 1e9:.4g} GB/s")
    if case.flops:
        parts.append(f"{case.flops / mode['min'] / 1e12:.4g} TFLOP/s")
    if case.tokens:
        parts.append(f"{case.tokens / mode['min']:,.0f} tokens/s")
        if (peak := peak_of(device)) and case.kind == "bfloat16":
            parts.append(f"MFU {100 * case.flops / mode['min'] / peak:.1f} %")
    if case.memory and mode["peak_bytes"]:
        peaks = [f"{m} {v['peak_bytes'] / 1e6:,.0f}" for m, v in row["modes"].items()]
        parts.append("peak MB " + ", ".join(peaks))
    if text := attention_text(row):
        parts.append(text)
    return "; ".join(parts)


def bench_section(bench: dict[str, Any], device: str, judge: bool) -> list[str]:
    from cases import CASES

    rows, direct = bench["rows"], bench.get("cublaslt", {}).get("seconds", {})
    copy = copy_bandwidth(rows, CASES)
    out = ["## Times", ""]
    out.append("Minimum over rounds in which the frameworks took turns; the JSON beside this file has medians too.")
    if copy:
        out.append(f"Device copy: {copy / 1e9:.4g} GB/s read and written.")
    if note := bench.get("cublaslt", {}).get("note"):
        out.append(f"cuBLASLt called directly: {note}.")
    for group in dict.fromkeys(r["group"] for r in rows):
        out += ["", f"### {group.capitalize()}", ""]
        out += ["| case | here | PyTorch | torch.compile | compared | |", "|---|---|---|---|---|---|"]
        for row in (r for r in rows if r["group"] == group):
            case = CASES[row["case"]]
            row["goals"] = goals(row, case, copy, direct)
            times = [seconds(row["modes"].get(m, {}).get("min")) for m in ("tg", "torch", "compile")]
            cells = [row["case"], *times, "; ".join(goal_text(g, judge) for g in row["goals"]), rate(row, case, device)]
            out.append(f"| {' | '.join(cells)} |")
    errors = [f"- {r['case']}, {m}: {e}" for r in rows for m, e in r["errors"].items()]
    out += ["", "### Errors", "", *errors] if errors else []
    left = bench["left_out"]
    out += ["", "Left out for lack of time: " + "; ".join(left) + "."] if left else []
    return out


def check_section(results: dict[str, dict[str, Any]]) -> list[str]:
    out = ["## Checks", "", "| stage | verdict | |", "|---|---|---|"]
    for stage in STAGES[:-1]:
        r = results.get(stage)
        if r is None:
            out.append(f"| {stage} | not run | |")
            continue
        facts = [f"{k} {r[k]}" for k in ("cases", "passed", "failed", "ops", "calls", "kernels", "seconds") if r.get(k)]
        facts += [f"{t}: {v['verdict']}, {v['errors']} errors" for t, v in r.get("tools", {}).items()]
        facts += [f"finding a planted bug: {r['planted']['verdict']}"] if "planted" in r else []
        facts += [str(r["note"])] if r.get("note") else []
        facts += [f"missing: {m}" for m in r.get("missing", [])]
        facts += [f"known to differ: {n}, {why}" for n, why in r.get("exceptions", {}).items()]
        facts += [f"differs: {m}" for m in r.get("differ", [])]
        facts += [f"unlike the CPU: {m}" for m in r.get("failures", [])[:20]]
        out.append(f"| {stage} | {r['verdict']} | {'; '.join(facts)} |")
    return out


def summary(rows: list[dict[str, Any]]) -> list[str]:
    found = [g for r in rows for g in r.get("goals", []) if g["reached"] is not None]
    if not found:
        return []
    reached = sum(g["reached"] for g in found)
    missed = [r["case"] for r in rows if any(g["reached"] is False for g in r.get("goals", []))]
    return [f"Goals reached: {reached} of {len(found)}." + (f" Missed: {'; '.join(missed)}." if missed else "")]


def trouble(c: Context, results: dict[str, dict[str, Any]]) -> list[str]:
    """Why the results make no page: each must say where it ran, and the emulation's do not go with a GPU's."""
    lines = []
    for stage, r in results.items():
        if "ran" not in r:
            lines.append(f"{stage}: its result does not say where it ran: run it again")
        elif r["ran"]["emulation"] is not None and r["ran"]["emulation"] != c.dry:
            where = "the emulation" if r["ran"]["emulation"] else "a GPU"
            lines.append(f"{stage}: it ran on {where}; such a result does not belong here: run it again")
    if not lines and not c.dry and not any(r["ran"]["device"] for r in results.values()):
        lines.append("no stage ran on a device: there is nothing to report")
    return lines


def said(ran: dict[str, Any], key: str) -> set[str]:
    """What a stamp says of commits, devices, days or versions."""
    if key == "commits":
        return {ran[k] for k in ("commit", "built from") if ran.get(k)}
    if key == "days":
        return {ran["date"].partition(" ")[0]}
    if key == "devices":
        return {ran["device"]} - {"", None}
    return {", ".join(f"{k} {v}" for k, v in (ran["versions"] or {}).items())} - {""}


def mixtures(results: dict[str, dict[str, Any]]) -> list[str]:
    """A line for each thing in which the stages are not of one run."""
    lines = []
    for key in ("commits", "devices", "days", "versions"):
        stages: dict[str, list[str]] = {}
        for stage, r in results.items():
            for value in sorted(said(r["ran"], key)):
                stages.setdefault(value, []).append(stage)
        if len(stages) > 1:
            lines.append(f"- **different {key}**: " + "; ".join(f"{v} ({', '.join(s)})" for v, s in stages.items()))
    return ["", "**These results are not of one run:**", "", *lines] if lines else []


def head(c: Context, title: str, results: dict[str, dict[str, Any]], machine: dict[str, Any]) -> list[str]:
    ran = lead(results)
    out = [f"# {title}", "", f"{ran['date']}, commit {ran['commit']}", *mixtures(results), ""]
    if c.dry:
        note = "No GPU took part: kernels ran on the CPU, one thread after another. **No figure here says anything.**"
        out += [note, ""]
    out += ["| | |", "|---|---|", f"| emulation | {c.dry} |"]
    versions = {"CUDA's libraries": "none in use"} if c.dry else ran["versions"] or {}
    out += [f"| {k} | {v} |" for k, v in versions.items()]
    out += [f"| {k} | {v} |" for k, v in machine.items() if k != "gpus"]
    out += [f"| GPU {i} | {', '.join(f'{k} {v}' for k, v in g.items())} |" for i, g in enumerate(machine["gpus"])]
    for mode, info in results.get("bench", {}).get("info", {}).items():
        out.append(f"| {mode} | {', '.join(f'{k} {v}' for k, v in info.items())} |")
    return [*out, ""]


def lead(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The stamp that stands for the page: that of the times, or else of the latest stage that had a device."""
    if "bench" in results and results["bench"]["ran"]["device"]:
        return results["bench"]["ran"]
    return max((r["ran"] for r in results.values()), key=lambda ran: (bool(ran["device"]), ran["date"]))


def report(c: Context) -> dict[str, Any]:
    """Writes NAME.md and NAME.json; where the emulation ran, both say that their figures mean nothing."""
    results = {s: r for s in STAGES if (r := c.load(s)) is not None}
    if lines := trouble(c, results) if results else ["no stage has left a result"]:
        return {"verdict": "fail", "missing": lines}
    machine, ran = describe(c), lead(results)
    bench, device = results.get("bench", {}), ran["device"] or ""
    body = bench_section(bench, device, not c.dry) if "rows" in bench else ["## Times", "", "Not measured."]
    title = "Dry run: emulation, figures mean nothing" if c.dry else f"GPU report: {device}"
    goals_reached = summary([] if c.dry else bench.get("rows", []))
    text = [*head(c, title, results, machine), *goals_reached, "", *check_section(results), "", *body]
    c.out.mkdir(parents=True, exist_ok=True)
    day, short = ran["date"].partition(" ")[0], re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    base = c.out / ("dry-run" if c.dry else f"{day}-{short}")
    base.with_suffix(".md").write_text("\n".join(text) + "\n")
    everything = {"title": title, "emulation": c.dry, "date": ran["date"], "machine": machine, "stages": results}
    base.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    return {"verdict": "pass", "file": str(base.with_suffix(".md"))}

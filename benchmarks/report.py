"""Tables and pictures of what run.py measured: docs/performance.md around what was written there by hand."""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path

import growth
from registry import WORKLOADS

PEERS = {"torch": "PyTorch", "compile": "torch.compile", "jax": "JAX"}
NAMES = PEERS | {"tg": "tinygrad_cpp", "best": "the best"}
BEHIND = 1.1  # a ratio above this needs a reason on the page
SPEEDUP, SPEEDUP_ABOVE = 1.7, 0.01  # two threads against one, for rows that take longer than so many seconds
IMPORT_GOAL, MEMORY_GOAL = 0.06, 45e6
HEAD = f"{'workload':42} {'t':>2} {'us':>12} " + " ".join(f"/{n:>6.6}" for n in PEERS.values()) + "  goals"

NOTHING = "Not measured.\n"

Rows = list[dict]


def to_json(results: dict) -> str:
    """One line per row, so that a later run is a readable change."""
    parts = []
    for key, value in results.items():
        if isinstance(value, list):
            lines = ",\n  ".join(json.dumps(row) for row in value)
            parts.append(f" {json.dumps(key)}: [\n  {lines}\n ]")
        else:
            parts.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


# ---- figures of a row


def ratios(row: dict) -> dict[str, float]:
    """Our time over each peer's."""
    ours = row["seconds"].get("tg")
    return {f: ours / row["seconds"][f] for f in PEERS if ours and f in row["seconds"]}


def against(row: dict, peer: str) -> float:
    found = ratios(row)
    return max(found.values(), default=math.nan) if peer == "best" else found.get(peer, math.nan)


def with_goals(row: dict) -> list[tuple[str, float, float]]:
    """The peer, our time over its, and the goal, for each goal of the workload that was measured."""
    goals = [(peer, against(row, peer), goal) for peer, goal in WORKLOADS[row["workload"]].goals.items()]
    return [g for g in goals if not math.isnan(g[1])]


def verdicts(row: dict) -> list[tuple[str, bool]]:
    """Each goal of the workload as text, and whether it is reached."""
    return [(f"{ratio:.2f} of {NAMES[peer]}, goal {goal:g}", ratio <= goal) for peer, ratio, goal in with_goals(row)]


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values if not math.isnan(v)]
    return math.exp(statistics.fmean(logs)) if logs else math.nan


def line_of(row: dict) -> str:
    found = ratios(row)
    cells = [f"{found[f]:7.2f}" if f in found else "      -" for f in PEERS]
    ours = row["seconds"].get("tg", math.nan)
    goals = "; ".join(text if good else f"{text} MISSED" for text, good in verdicts(row))
    return f"{row['workload']:42.42} {row['threads']:2} {ours * 1e6:12.1f} {' '.join(cells)}  {goals}"


def growth_line(row: dict) -> str:
    found = {f: growth.slope(points) for f, points in row["points"].items() if len(points) > 1}
    return f"{row['family']:48} " + ", ".join(f"{f} ~ size^{p:.2f}" for f, p in found.items())


# ---- tables


def table(head: list[str], lines: Iterable[Iterable[str]]) -> str:
    body = [[str(cell) for cell in line] for line in lines]
    if not body:
        return NOTHING
    return "\n".join("| " + " | ".join(c) + " |" for c in [head, ["---"] * len(head), *body]) + "\n"


def milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.4g}"


def by_threads(rows: Rows, threads: int) -> Rows:
    return [r for r in rows if r["threads"] == threads]


def thread_counts(rows: Rows) -> list[int]:
    return sorted({r["threads"] for r in rows})


def machine_section(results: dict) -> str:
    m = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    commits = sorted({r["commit"] for r in results["rows"]}) or [m["commit"]]
    lines = [
        f"{m['date']}, commit {', '.join(commits)}: {m['processor']}, {m['processors']} processors, {m['system']}, "
        f"Python {m['python']}, {m['compiler']}, {versions}. Minimum over {m['rounds']} rounds."
    ]
    if m["ignored"]:
        lines.append(f"Not passed on to the measured processes: {', '.join(m['ignored'])}.")
    for threads in thread_counts(results["rows"]):
        rows = by_threads(results["rows"], threads)
        floors = [r["floors"] for r in rows if r["floors"]]
        if floors:
            best = {label: min(f[label] for f in floors) for label in floors[0]}
            slow = {label: statistics.median(f[label] for f in floors) / t for label, t in best.items()}
            bytes_of = {"copy 64 MB": 2, "add 64 MB": 3, "read 64 MB": 1}
            rates = [f"sgemm of 1024 {2 * 1.024**3 / best['sgemm 1024']:.0f} GFLOP/s"] + [
                f"{label.split()[0]} {n * 2**26 / best[label] / 1e9:.0f} GB/s" for label, n in bytes_of.items()
            ]
            lines.append(
                f"Floors with {threads} thread{'s' * (threads > 1)}: {', '.join(rates)} at best; over the rows their "
                f"median took {max(slow.values()):.2f} times as long or less, which is how quiet the machine was."
            )
        mean, torch = (geometric_mean(against(r, p) for r in rows) for p in ("best", "torch"))
        aimed = [ratio for r in rows for _, ratio, _ in with_goals(r)]
        count = sum(bool(ratios(r)) for r in rows)
        measured = ", ".join(f"{NAMES[p]} for {sum(p in ratios(r) for r in rows)}" for p in PEERS)
        lines.append(
            f"**{threads} thread{'s' * (threads > 1)}, geometric means (goal 0.6): {mean:.2f} over all {count} rows, "
            f"each to the best peer; {geometric_mean(aimed):.2f} over the {len(aimed)} ratios that have a goal, each "
            f"to the peer of its goal; {torch:.2f} over all rows to PyTorch.** Measured: {measured}."
        )
    return "\n\n".join(lines) + "\n"


def rows_section(results: dict, threads: int) -> str:
    def cells(row):
        found = ratios(row)
        goals = "; ".join(text if good else f"**{text}**" for text, good in verdicts(row))
        ours = row["seconds"].get("tg")
        cells = [f"{found[f]:.2f}" if f in found else "" for f in PEERS]
        return [row["workload"], milliseconds(ours) or row["errors"].get("tg", ""), *cells, goals]

    head = ["workload", "ms", *(f"/ {name}" for name in PEERS.values()), "goals (missed ones bold)"]
    rows = by_threads(results["rows"], threads)
    missing = sorted(
        f"{NAMES[f]}: {row['workload']} ({error.splitlines()[0][:90]})"
        for row in rows
        for f, error in row["errors"].items()
    )
    text = table(head, map(cells, rows))
    return text + ("\nNo figure for:\n\n" + "".join(f"- {m}\n" for m in missing) if missing else "")


def python_section(results: dict) -> str:
    rows = [r for r in results["rows"] if "cpp" in r["seconds"] and "tg" in r["seconds"]]
    lines = [
        (r["workload"], f"{c * 1e6:.3g}", f"{p * 1e6:.3g}", f"{p / c:.2f}")
        for r in rows
        for c, p in [(r["seconds"]["cpp"], r["seconds"]["tg"])]
    ]
    return table(["workload", "C++, µs", "Python, µs", "ratio"], lines)


def speedup_section(results: dict) -> str:
    one = {r["workload"]: r["seconds"] for r in by_threads(results["rows"], 1)}
    lines = []
    for row in by_threads(results["rows"], 2):
        before, after = one.get(row["workload"], {}), row["seconds"]
        if before.get("tg", 0) <= SPEEDUP_ABOVE or "tg" not in after:
            continue
        ours, torch = (before[f] / after[f] if f in before and f in after else math.nan for f in ("tg", "torch"))
        text = f"{ours:.2f}" if ours >= SPEEDUP else f"**{ours:.2f}**"
        lines.append((row["workload"], milliseconds(before["tg"]), text, "" if math.isnan(torch) else f"{torch:.2f}"))
    return table(["workload", "ms, 1 thread", "2 threads are faster by (goal 1.7)", "PyTorch"], lines)


def memory_section(results: dict) -> str:
    def megabytes(row, framework, key="peak"):
        value = row["peak"].get(framework, {}).get(key)
        return "" if value is None else f"{value / 1e6:.0f}"

    frameworks = ["tg", *PEERS]
    head = ["workload", *(f"{NAMES[f]}, MB" for f in frameworks), "our allocator, MB"]
    rows = [r for r in by_threads(results["rows"], 1) if r["peak"]]
    return table(
        head,
        ([r["workload"], *(megabytes(r, f) for f in frameworks), megabytes(r, "tg", "allocator_peak")] for r in rows),
    )


def start_section(results: dict) -> str:
    lines = []
    for name, figures in results["start"].items():
        if figures["alone"] is None:
            lines.append((NAMES.get(name, name), "can't be imported", "", ""))
            continue
        (seconds, resident), beyond = figures["alone"], (figures["after NumPy"] or [math.nan])[0]
        if name == "tg":
            texts = [f"{beyond:.3f} (goal {IMPORT_GOAL})", f"{resident / 1e6:.0f} (goal {MEMORY_GOAL / 1e6:.0f})"]
        else:
            texts = ["" if name == "numpy" else f"{beyond:.3f}", f"{resident / 1e6:.0f}"]
        lines.append((NAMES.get(name, "NumPy"), f"{seconds:.3f}", *texts))
    return table(["import", "seconds", "seconds beyond NumPy", "resident after it, MB"], lines)


def primitives_section(results: dict) -> str:
    counts = sorted(results["primitives"], key=int)
    by_case: dict[tuple, dict] = {}
    for n in counts:
        for primitive, case, seconds, floor, fraction, goal in results["primitives"][n]:
            by_case.setdefault((primitive, case, floor, float(goal)), {})[n] = (float(seconds), float(fraction))

    def cells(key, found):
        goal = key[3]
        texts = []
        for n in counts:
            seconds, fraction = found.get(n, (math.nan, math.nan))
            texts += [f"{seconds * 1e6:.4g}", f"{fraction:.2f}" if fraction >= goal else f"**{fraction:.2f}**"]
        return [key[0], key[1], key[2], f"{goal:g}" if goal else "", *texts]

    head = ["primitive", "case", "floor", "goal"]
    for n in counts:
        head += [f"µs, {n} thread{'s' * (n != '1')}", "of the floor"]
    return table(head, (cells(key, found) for key, found in by_case.items()))


def growth_section(results: dict, picture: Path) -> str:
    lines = []
    for row in results["growth"]:
        family = growth.FAMILIES[row["family"]]
        points = {f: [tuple(p) for p in ps] for f, ps in row["points"].items() if len(ps) > 2}
        if "tg" not in points:
            continue
        steep, where = growth.steepest(points["tg"])
        lines.append(
            (
                row["family"],
                f"{family.sizes[0]} to {family.sizes[-1]} {family.over}",
                f"{family.order:g}",
                f"{growth.slope(points['tg']):.2f}" + " **surprise**" * growth.surprise(row["family"], points["tg"]),
                f"{growth.slope(points['torch']):.2f}" if "torch" in points else "",
                f"{steep:.2f} from {where}",
            )
        )
    pictures = "".join(f"\n![{p.stem}]({p.name})\n" for p in growth_pictures(results, picture))
    head = ["workload", "sizes", "order of the arithmetic", "slope over the last decade", "PyTorch's", "steepest step"]
    return table(head, lines) + pictures


def behind(rows: Rows) -> list[tuple[dict, str, float]]:
    """Rows above BEHIND of some peer: the row, that peer, the ratio."""
    found = [(row, *max(ratios(row).items(), key=lambda item: item[1])) for row in rows if ratios(row)]
    return [entry for entry in found if entry[2] > BEHIND]


def behind_section(results: dict) -> str:
    lines = [
        (r["workload"], str(r["threads"]), f"{ratio:.2f}", NAMES[peer]) for r, peer, ratio in behind(results["rows"])
    ]
    return table(["workload", "threads", "ratio", "to"], lines) if lines else "None.\n"


def without_reason(results: dict, page: str) -> list[str]:
    """Workloads behind a peer or a goal that no line "- **name**: reason" of the page names; a name may end in *."""
    reasons = re.findall(r"^- \*\*(.+?)\*\*:", page, re.MULTILINE)
    patterns = [re.compile(re.escape(r).replace(r"\*", ".*")) for entry in reasons for r in entry.split("; ")]
    short = [row for row in results["rows"] if not all(good for _, good in verdicts(row))]
    names = dict.fromkeys(row["workload"] for row in [r for r, _, _ in behind(results["rows"])] + short)
    return [n for n in names if not any(p.fullmatch(n) for p in patterns)]


def half_section(results: dict) -> str:
    """Never slower than converting: products of half types against our own product in float32."""
    seconds = {(r["workload"], r["threads"]): r["seconds"].get("tg") for r in results["rows"]}
    lines = []
    for (name, threads), direct in seconds.items():
        converted = seconds.get((f"{name} by float32", threads))
        if direct and converted:
            lines.append(
                (name, str(threads), milliseconds(direct), milliseconds(converted), f"{direct / converted:.2f}")
            )
    return table(["product", "threads", "ms", "ms, converted to float32 and back", "ratio (goal 1)"], lines)


# ---- page and pictures


def growth_pictures(results: dict, picture: Path) -> list[Path]:
    charts = {r["family"]: r["points"] for r in results["growth"]}
    groups = [list(charts.items())[i : i + 3] for i in range(0, len(charts), 3)]
    paths = [picture.with_name(f"{picture.name}-growth-{i + 1}.png") for i in range(len(groups))]
    if not groups:
        return []
    from tinygrad_cpp.utils.plot import save_plot

    for path, group in zip(paths, groups):
        save_plot(
            path,
            {name: {NAMES[f]: dict(map(tuple, ps)) for f, ps in points.items()} for name, points in group},
            log=True,
        )
    return paths


def comparison_picture(results: dict, path: Path) -> bool:
    """Bars of the rows that have a goal: our time over PyTorch's."""
    names = [n for n in WORKLOADS if WORKLOADS[n].goals and any(r["workload"] == n for r in results["rows"])]
    series = {}
    for threads in thread_counts(results["rows"]):
        found = {r["workload"]: against(r, "torch") for r in by_threads(results["rows"], threads)}
        series[f"{threads} thread{'s' * (threads > 1)}"] = [found.get(n, math.nan) for n in names]
    if names:
        from tinygrad_cpp.utils.plot import save_bars

        save_bars(path, "time / time of PyTorch (shorter is faster)", names, series, line=1, most=1.5)
    return bool(names)


def sections(results: dict, out: Path) -> dict[str, Callable[[], str]]:
    return {
        "machine": lambda: machine_section(results),
        "1 thread": lambda: rows_section(results, 1),
        "2 threads": lambda: rows_section(results, 2),
        "behind": lambda: behind_section(results),
        "threads": lambda: speedup_section(results),
        "half types": lambda: half_section(results),
        "Python": lambda: python_section(results),
        "import": lambda: start_section(results),
        "memory": lambda: memory_section(results),
        "growth": lambda: growth_section(results, out),
        "primitives": lambda: primitives_section(results),
    }


def write(results: dict, out: Path) -> None:
    """Puts every section between its markers in OUT.md. A page without markers gets those that hold something."""
    page = out.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    if comparison_picture(results, out.with_suffix(".png")) and not page.exists():
        text += f"\n![time over that of PyTorch]({out.name}.png)\n"
    for name, make in sections(results, out).items():
        made = make()
        block = f"<!-- begin {name} -->\n\n{made}\n<!-- end {name} -->"
        pattern = re.compile(rf"<!-- begin {name} -->.*?<!-- end {name} -->", re.DOTALL)
        if pattern.search(text):
            text = pattern.sub(lambda _, block=block: block, text)
        elif made != NOTHING:
            text += f"\n## {name[0].upper()}{name[1:]}\n\n{block}\n"
    page.write_text(text, encoding="utf-8")
    if missing := without_reason(results, text):
        print(f"{page}: no reason for being behind is given for: " + "; ".join(missing))

#!/usr/bin/env python3
"""Writes the table of docs/from-pytorch.md from the census: `python tests/python/census_page.py`."""

from __future__ import annotations

import pathlib

import census

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "from-pytorch.md"
BEGIN, END = "<!-- census: made by tests/python/census_page.py -->", "<!-- end of census -->"


def table() -> str:
    """The names of every group, those that do not work struck out, and the reasons."""
    entries = census.read()
    works = [e for e in entries if e.id not in census.MISSING]
    lines = [f"{len(works)} of {len(entries)} names work.", ""]
    for group, path in census.GROUPS.items():
        own = [e for e in entries if e.group == group]
        names = [f"~~{e.name}~~" if e.id in census.MISSING else e.name for e in own]
        count = sum(e.id not in census.MISSING for e in own)
        title = "other modules" if group == "torch.rest" else path
        lines += [f"**`{title}`** ({count} of {len(own)}): {', '.join(names)}", ""]
    if census.MISSING:
        lines += ["Not working:", ""]
        lines += [f"- `{k.replace(':', '.', 1)}`: {why}" for k, why in sorted(census.MISSING.items())] + [""]
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with a new table."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))

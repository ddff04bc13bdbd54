"""The pages point at what is there, and the page of promises names every test file."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
GUARANTEES = (ROOT / "docs/guarantees.md").read_text(encoding="utf-8")


def test_links_lead_somewhere():
    links = [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8"))
        if "://" not in target and re.search(r"\.\w+$|/$", target)
    ]
    missing = [f"{page.name}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert len(links) > 30 and not missing, "\n".join(missing)


def test_every_test_file_stands_behind_a_promise():
    files = [p for p in (ROOT / "tests").rglob("test_*") if p.suffix in (".py", ".cpp")]
    unnamed = [p.name for p in files if p.name not in GUARANTEES and p.name != Path(__file__).name]
    assert len(files) > 30 and not unnamed, unnamed


def test_named_tests_exist():
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests/python").glob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", GUARANTEES)
    missing = [n for n in names if f"def {n}(" not in tests]
    assert names and not missing, missing

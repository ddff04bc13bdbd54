"""Every name of the census is found, called forward and backward, and compared with PyTorch."""

from __future__ import annotations

import warnings

import census
import pytest
import tinygrad_cpp as tg
from conftest import HAVE_TORCH

if HAVE_TORCH:
    import torch

ENTRIES = census.read()


def problem(entry: census.Entry) -> str:
    """Why an entry does not work, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            census.find(tg, entry.path)
            ours, our_gradients = census.run(tg, entry)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        if not HAVE_TORCH:
            return ""
        theirs, their_gradients = census.run(torch, entry)
    return census.difference(theirs, ours) or census.difference(their_gradients, our_gradients, "gradient")


@pytest.mark.parametrize("entry", ENTRIES, ids=[e.id for e in ENTRIES])
def test_name(entry):
    text = problem(entry)
    if entry.id in census.MISSING:
        assert text, "it works: take it from census.MISSING and write the page anew"
    else:
        assert not text, f"{entry.call}\n{text}"
        census.WORKING.add(entry.id)


def test_names_are_listed_once():
    ids = [e.id for e in ENTRIES]
    assert len(ids) == len(set(ids))
    assert set(census.MISSING) <= set(ids) and {e.group for e in ENTRIES} == set(census.GROUPS)


def test_page_is_what_its_generator_makes():
    import census_page

    text = census_page.PAGE.read_text()
    assert text == census_page.page(text), "run tests/python/census_page.py"

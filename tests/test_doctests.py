"""The examples in docstrings, run."""

import doctest
import importlib
from pathlib import Path

import pytest

import jaxprune

ROOT = Path(jaxprune.__file__).parent
EXAMPLES = [
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0


def test_functions_of_newcomers_have_examples():
    assert {"jaxprune.data.loading", "jaxprune.data.dataset", "jaxprune.auditing.metrics"} <= set(EXAMPLES)

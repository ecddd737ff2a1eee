"""The examples in docstrings, run as they stand."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import jaxprune

ROOT = Path(jaxprune.__file__).parent
PROMPT = re.compile(r"^\s*>>> ", re.M)


def prompts(path: Path) -> int:
    return len(PROMPT.findall(path.read_text(encoding="utf-8")))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [path for path in sorted(ROOT.rglob("*.py")) if prompts(path)], ids=name_of)
def test_examples(path, tmp_path, monkeypatch):
    """All of a module's examples are found, and print what they say."""
    monkeypatch.chdir(tmp_path)
    parts = ("jaxprune", *path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    failed, tried = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
    assert tried == prompts(path)


def test_entry_points_have_examples():
    """Those that a newcomer calls first."""
    from jaxprune import checkpoints, pruning, training

    entry_points = (
        training.fit, training.make_step, pruning.global_masks, pruning.keep_masked, checkpoints.save,
        checkpoints.restore,
    )  # fmt: skip
    assert [function.__name__ for function in entry_points if ">>>" not in function.__doc__] == []

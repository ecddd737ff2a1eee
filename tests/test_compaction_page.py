"""The code of docs/compaction.md is run as it stands."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxprune import pruning

PATH = Path(__file__).parent.parent / "docs" / "compaction.md"
PAGE = PATH.read_text() if PATH.exists() else ""

pytestmark = [pytest.mark.skipif(not PAGE, reason="needs a checkout"), pytest.mark.slow]


def test_the_code_runs_and_prints_what_the_page_says(tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    expected = re.findall(r"^(?: *print\(.*\)  )?# (.*)$", code, re.M)
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(expected) >= 9
    assert done.stdout.splitlines() == expected


def test_every_name_of_the_library_exists():
    named = set(re.findall(r"\bpruning\.([a-z_]+)", PAGE)) - {"md"}
    assert [name for name in sorted(named) if not hasattr(pruning, name)] == []

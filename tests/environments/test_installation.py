"""Installing into Colab's image replaces nothing there. Run in that environment alone: it asks the package index."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
IMAGE = dict(
    line.split("==") for line in (HERE / "oldest.txt").read_text().splitlines() if line and not line.startswith("#")
)
KEPT = {"jax", "jaxlib", "libtpu", "flax", "numpy"}


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@pytest.mark.versions
@pytest.mark.skipif(any(installed(name) != IMAGE[name] for name in KEPT), reason="in the oldest environment alone")
def test_installing_replaces_nothing_that_the_tpu_needs(tmp_path):
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--report",
        str(report),
        str(HERE.parents[1]),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    would_install = {entry["metadata"]["name"].lower() for entry in json.loads(report.read_text())["install"]}
    assert "jaxprune" in would_install, "the report is of this package"
    assert not would_install & KEPT

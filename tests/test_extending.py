"""The example package of docs/extending.md, installed and run through the command line."""

import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import pruning

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "docs" / "example_package"

pytestmark = pytest.mark.skipif(not PACKAGE.exists(), reason="needs a checkout")


def install(folder: Path) -> None:
    """Lay the example package out as pip does: the module, and metadata with the entry points of its pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    (folder / "jaxprune_example.py").write_text((PACKAGE / "jaxprune_example.py").read_text())
    metadata = folder / f"jaxprune_example-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = [
        "\n".join([f"[{group}]", *(f"{name} = {target}" for name, target in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n\n".join(groups) + "\n")


@pytest.fixture(scope="module")
def jaxprune(tmp_path_factory):
    """Runs the command line where the example package is installed."""
    site = tmp_path_factory.mktemp("site")
    install(site)
    folders = [str(site), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folder for folder in folders if folder)}
    environment["COLUMNS"] = "1000"  # names with hyphens stay in one piece in the help

    def run(*arguments: str, cwd: Path = site) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jaxprune", *arguments]
        return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=600)

    return run


SMALL = (
    "--seeds", "1", "--train.epochs", "2", "--retrain.epochs", "1", "--model.hidden", "4", "--prune.sparsities", "0.5",
    "--data.name", "rings", "--model.name", "quadratic", "--out", "out", "--quiet",
    "--costs.speed", "false",
)  # fmt: skip


def test_a_run_with_parts_of_the_package(jaxprune, tmp_path):
    done = jaxprune(
        "run", *SMALL, "--prune.criterion", "relative", "--mitigation.constraint", "loss_ratio",
        "--mitigation.tolerance", "0.1", "--retrain.methods", "none", "fair_after", "--theory.max_iterations", "2",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    settings = results["settings"]
    assert settings["prune"]["criterion"] == "relative"
    assert settings["model"]["name"] == "quadratic"
    assert results["group_names"] == ["here", "there"]


@pytest.mark.slow
def test_a_comparison_with_the_method_of_the_package(jaxprune, tmp_path):
    done = jaxprune("compare", *SMALL, "--retrain.methods", "focal", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "out" / "compare" / "methods.csv").read_text()
    assert "focal" in rows


def test_help_and_errors_list_the_parts_of_the_package(jaxprune):
    text = " ".join(jaxprune("run", "--help").stdout.split())
    for part in ("relative (from the package jaxprune-example)", "loss_ratio (from", "quadratic (from"):
        assert part in text
    wrong = jaxprune("run", "--prune.criterion", "relativ")
    assert wrong.returncode == 2
    assert "unknown criterion 'relativ'; did you mean 'relative'" in wrong.stderr
    assert "rings" in jaxprune("datasets").stdout


def test_the_allocation_and_the_structure_of_the_package(monkeypatch):
    monkeypatch.syspath_prepend(str(PACKAGE))
    example = importlib.import_module("jaxprune_example")
    kernels = {
        "a": jax.random.normal(jax.random.key(0), (6, 4)),
        "b": 100 * jax.random.normal(jax.random.key(1), (4, 9)),
    }
    params = kernels | {"bias": jnp.ones(5)}

    def masks_of(sparsity, **axes):
        return pruning.prune(params, sparsity, criterion=example.relative(), **axes)[1]

    ranked = masks_of(0.5, allocation=example.by_rank())
    assert [int(ranked[name].sum()) for name in ("a", "b", "bias")] == [12, 18, 5]
    first = masks_of(0.3, structure=example.inputs())
    assert all(set(np.unique(first[name].sum(1)).tolist()) <= {0, first[name].shape[1]} for name in kernels)
    assert sum(int(first[name].any(1).sum()) for name in kernels) == 7
    further = masks_of(0.6, structure=example.inputs(), masks=first)
    assert sum(int(further[name].any(1).sum()) for name in kernels) == 4
    assert not any(bool((further[name] & ~first[name]).any()) for name in kernels)


def test_the_page_shows_the_code_of_the_package():
    page = (ROOT / "docs" / "extending.md").read_text()
    code = (PACKAGE / "jaxprune_example.py").read_text() + (PACKAGE / "pyproject.toml").read_text()
    for block in re.findall(r"```(?:python|toml)\n(.*?)```", page, re.S):
        assert block in code, block

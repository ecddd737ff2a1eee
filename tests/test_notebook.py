"""The quick start notebook: valid, without outputs, and every cell of it runs."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from jaxprune.results.store import to_json

PATH = Path(__file__).parent.parent / "docs" / "notebooks" / "quickstart.ipynb"

pytestmark = pytest.mark.skipif(not PATH.exists(), reason="needs a checkout")

SMALL = {
    "seeds": 1, "train.epochs": 1, "retrain.epochs": 1, "model.hidden": (4,), "prune.sparsities": (0.9,),
    "theory.examples": 20, "theory.max_iterations": 3, "retrain.methods": ("none",),
    "costs.speed": False,
}  # fmt: skip


def notebook() -> dict[str, Any]:
    return json.loads(PATH.read_text(encoding="utf-8"))


def code_cells() -> dict[str, str]:
    return {cell["id"]: "".join(cell["source"]) for cell in notebook()["cells"] if cell["cell_type"] == "code"}


def test_the_file_is_a_notebook_of_format_4_5_without_outputs() -> None:
    book = notebook()
    assert set(book) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    assert book["metadata"]["kernelspec"] == {"display_name": "Python 3", "language": "python", "name": "python3"}
    ids = [cell["id"] for cell in book["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in book["cells"]:
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", cell["id"])
        assert isinstance(cell["metadata"], dict)
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert not cell["source"][-1].endswith("\n")
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert set(cell) == keys | {"execution_count", "outputs"}
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
        else:
            assert cell["cell_type"] == "markdown"
            assert set(cell) == keys


def test_badges_and_the_installation_name_one_repository() -> None:
    text = PATH.read_text(encoding="utf-8")
    repositories = re.findall(r"(?:colab\.research\.google\.com/github|github\.com)/([\w.-]+/[\w.-]+)", text)
    assert len(repositories) == 3, "Colab, Kaggle, pip"
    assert len(set(repositories)) == 1
    assert text.count("/blob/main/docs/notebooks/quickstart.ipynb") == 2


def test_every_cell_runs(tmp_path, monkeypatch, capsys) -> None:
    """In one namespace and in order; the value of a cell's last line is what the notebook would show."""
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("pandas")
    cells, namespace, shown = code_cells(), {"__name__": "__main__"}, {}
    assert list(cells)[:2] == ["install", "settings"]
    assert cells.pop("install").startswith("%pip install")
    for name, source in cells.items():
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), namespace)
        if last is not None:
            shown[name] = eval(compile(ast.Expression(last.value), name, "eval"), namespace)  # pyright: ignore
        if name == "settings":
            assert namespace["SETTINGS"] == {}, "the job as it is shipped"
            namespace["SETTINGS"] = SMALL
    printed = capsys.readouterr().out
    assert "JAX runs on 1 CPU device" in printed
    assert "The results go to runs/adult" in printed
    assert "<table>" in shown["run"]._repr_html_()
    assert "height: 800px" in shown["report"]._repr_html_()
    assert set(shown["tables"]["network"]) == {"dense", "pruned", "none"}
    assert set(shown["hurt"].index) == set(shown["run"].results.group_names)
    assert shown["hurt"].shape == (5, 3)
    assert "Amer-Indian-Eskimo" in repr(shown["metrics"])
    assert (tmp_path / "runs" / "adult" / "report.html").is_file()
    again = eval("jaxprune.run('adult', SETTINGS, out=FOLDER)", namespace)
    assert again.seconds < shown["run"].seconds / 2, "after a disconnect nothing is done again"
    assert to_json(again.results) == to_json(shown["run"].results)

"""The form of the page and the figures where there are many groups, and shares that are nearly all or nothing."""

import dataclasses
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pytest
from jaxprune.reporting.answer_section import answer_tables
from jaxprune.reporting.figures import draw
from jaxprune.reporting.findings import after_retraining, who_is_hurt
from jaxprune.reporting.many import groups_to_draw, order_of_groups
from jaxprune.reporting.old_page import render_page
from test_pages import results

from jaxprune.reporting.shown import drawn
from jaxprune.reporting.terminal import summary_table

ENVIRONMENT = {"jaxprune": "0", "time": "2026-01-01T00:00:00", "packages": {}}
MANY = 70
HARM = np.linspace(0, 0.6, MANY)[np.random.default_rng(1).permutation(MANY)]  # of each group


@pytest.fixture(scope="module")
def many():
    return results(harm=tuple(HARM), seeds=2, noise=0.0, sparsities=(0.9,))


class Rows(HTMLParser):
    """The names and the classes of the rows of every table."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[tuple[str, str]]] = []
        self.hidden, self.cell = "", False
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.hidden = dict(attrs).get("class") or ""
        self.cell = tag == "td" and "text" in (dict(attrs).get("class") or "")

    def handle_data(self, data) -> None:
        if self.cell:
            self.tables[-1].append((data, self.hidden))
            self.cell = False


def test_many_groups_are_drawn_from_both_ends(many, tmp_path) -> None:
    order = np.argsort(-HARM)
    ends = [*order[:10], *order[-10:]]
    assert groups_to_draw(many).tolist() == ends
    assert order_of_groups(many) == order.tolist()
    for figure in ("accuracy", "causes", "answer"):
        assert draw(figure, many, tmp_path)
        texts = ["".join(node.itertext()) for node in ET.parse(tmp_path / f"{figure}.svg").iter() if "text" in node.tag]
        names = [text.partition("(n =")[0].strip() for text in texts if text.startswith("town ")]
        if figure == "answer":
            assert len(names) <= 24
            assert names[0] in {f"town {g}" for g in ends[:10]}
            assert names[-1] in {f"town {g}" for g in ends[-10:]}  # those of one accuracy keep their order
        else:
            assert names == [f"town {g}" for g in ends]


def test_tables_of_many_groups_fold_all_but_both_ends(many, tmp_path) -> None:
    page = render_page(many, tmp_path, ENVIRONMENT)
    tables = [rows for rows in Rows(page).tables if len({name for name, _ in rows if name.startswith("town ")}) == MANY]
    long = [rows for rows in tables if any(hidden for _, hidden in rows)]
    assert len(long) >= 5  # sizes, three of the answer, one for the sparsity, the theory
    for rows in long:
        assert [hidden == "more" for _, hidden in rows] == [10 <= place < MANY - 10 for place in range(MANY)]
    assert page.count('class="all"') == len(long)
    assert page.count("<script>") == 1
    assert "those hurt most and least are drawn" in page
    few = render_page(results(seeds=2, sparsities=(0.9,)), tmp_path, ENVIRONMENT)
    assert "<script>" not in few
    assert 'class="all"' not in few


ALL_OR_NOTHING = re.compile(r"(?<![\d.,])(100|0)(\.0+)?[ \u202f]?(%|points? of accuracy)")


@pytest.mark.parametrize("share", [0.9949, 0.995, 0.99949, 0.9996, 0.9999, 0.99999, 0.0001, 0.00001])
def test_shares_are_all_or_nothing_only_where_they_are_so(share, tmp_path) -> None:
    """The share pruned, and the accuracy that a group lost, in sentences, headings, tables, figures and terminal."""
    made = results(seeds=2, sparsities=(share,), theory=False)
    lost = {
        key: one._replace(harm=one.harm | {"accuracy": one.harm["accuracy"]._replace(change=np.array([share, 0.5]))})
        for key, one in made.tested.items()
    }
    made = dataclasses.replace(made, tested=lost)
    draw("accuracy", made, tmp_path)
    page = render_page(made, tmp_path, ENVIRONMENT)
    drawn_texts = [node.text for node in ET.parse(tmp_path / "accuracy.svg").iter() if "pruned" in (node.text or "")]
    table = summary_table(drawn(made))
    headings = re.findall(r"<summary>(.* pruned)</summary>", page)
    texts = [*who_is_hurt(made), *after_retraining(made), *drawn_texts, *headings, str(table.title)]
    assert len(drawn_texts) >= 1
    assert len(headings) == 1
    for text in texts:
        assert not ALL_OR_NOTHING.search(text), text
    accuracy = next(table for table in answer_tables(made) if table["heading"] == "Accuracy lost")
    first = {row["group"]: row["change"] for row in accuracy["rows"]}["town 0"]
    assert float(first) == pytest.approx(100 * share, abs=0.0501)
    assert float(first) != 100
    assert "-100.0" not in " ".join(map(str, table.columns[4].cells))

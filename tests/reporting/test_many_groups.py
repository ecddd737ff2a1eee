"""The form of the page and the figures where there are many groups, and shares that are nearly all or nothing."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_results import ENVIRONMENT, made_results
from sections import figures_in, rows_of

from jaxprune.reporting.group_display import groups_to_draw, order_of_groups
from jaxprune.reporting.reports import PAGES, RUN, render_page
from jaxprune.reporting.sections.answer import answer_tables, who_is_hurt
from jaxprune.reporting.sections.answer import section as answer
from jaxprune.reporting.sections.groups import section as groups
from jaxprune.reporting.sections.mitigation import after_retraining
from jaxprune.reporting.sections.why import section as why
from jaxprune.reporting.style import save_figure

MANY = 70
HARM = np.linspace(0, 0.6, MANY)[np.random.default_rng(1).permutation(MANY)]  # of each group


@pytest.fixture(scope="module")
def many():
    return made_results(harm=tuple(HARM), seeds=2, noise=0.0, sparsities=(0.9,))


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
    drawn = {figure.name: figure for make in (groups, why, answer) for figure in make(many).figures}
    for figure in ("accuracy", "causes", "answer"):
        assert save_figure(figure, drawn[figure].draw, tmp_path)
        texts = ["".join(node.itertext()) for node in ET.parse(tmp_path / f"{figure}.svg").iter() if "text" in node.tag]
        names = [text.partition("(n =")[0].strip() for text in texts if text.startswith("town ")]
        if figure == "answer":
            assert len(names) <= 24
            assert names[0] in {f"town {g}" for g in ends[:10]}
            assert names[-1] in {f"town {g}" for g in ends[-10:]}  # those of one accuracy keep their order
        else:
            assert names == [f"town {g}" for g in ends]


def test_tables_of_many_groups_fold_all_but_both_ends(many) -> None:
    page = render_page("report", many, ENVIRONMENT, None)
    tables = [rows for rows in Rows(page).tables if len({name for name, _ in rows if name.startswith("town ")}) == MANY]
    long = [rows for rows in tables if any(hidden for _, hidden in rows)]
    assert len(long) >= 5  # sizes, three of the answer, one for the sparsity, the theory
    for rows in long:
        assert [hidden == "more" for _, hidden in rows] == [10 <= place < MANY - 10 for place in range(MANY)]
    assert page.count('class="all"') == len(long)
    assert page.count("<script>") == 1
    assert [figure.name for figure in answer(many).figures if "least are drawn" in figure.caption] == ["answer"]
    few = render_page("report", made_results(seeds=2, sparsities=(0.9,)), ENVIRONMENT, None)
    assert "<script>" not in few
    assert 'class="all"' not in few


ALL_OR_NOTHING = re.compile(r"(?<![\d.,])(100|0)(\.0+)?[ \u202f]?(%|points? of accuracy)")


@pytest.mark.parametrize("share", [0.9949, 0.995, 0.99949, 0.9996, 0.9999, 0.99999, 0.0001, 0.00001])
def test_shares_are_all_or_nothing_only_where_they_are_so(share) -> None:
    """The share pruned, and the accuracy that a group lost, in sentences, headings, tables, figures and terminal."""
    made = made_results(seeds=2, sparsities=(share,), theory=False)
    audits = dict(made.audits)
    for key, audit in audits.items():
        if audit.tests is not None:
            lost = audit.tests.harm["accuracy"]._replace(change=np.array([share, 0.5]))
            harm = dict(audit.tests.harm) | {"accuracy": lost}
            audits[key] = audit._replace(tests=audit.tests._replace(harm=harm))
    made = replace(made, audits=audits)
    labels = figures_in(made, RUN)["accuracy"].legends[0].get_texts()
    drawn_texts = [text for label in labels if "pruned" in (text := label.get_text())]
    short = PAGES["report"].short(made)
    assert short is not None
    page = render_page("report", made, ENVIRONMENT, None)
    headings = re.findall(r"<summary>(.* pruned)</summary>", page)
    assert len(drawn_texts) == len(headings) == 1
    for text in [*who_is_hurt(made), *after_retraining(made), *drawn_texts, *headings, short.caption]:
        assert not ALL_OR_NOTHING.search(text), text
    accuracy = next(table for table in answer_tables(made) if table.caption.startswith("Accuracy lost"))
    first = {row["group"].mean: row["change"] for row in rows_of(accuracy)}["town 0"]
    assert float(first) == pytest.approx(100 * share, abs=0.0501)
    assert float(first) != 100
    assert "-100.0" not in " ".join(str(row[4]) for row in short.rows)

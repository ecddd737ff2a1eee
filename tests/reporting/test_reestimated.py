"""The effect of re-estimated statistics on each group, in a run's page."""

import numpy as np
import pytest
from made_results import ENVIRONMENT, made_results
from sections import value_of

from jaxprune.reporting.reports import RUN, render_page, sections_of
from jaxprune.reporting.sections.reestimated import section

TITLE = "Statistics re-estimated after pruning"


def test_each_group_has_its_accuracy_and_loss_before_and_after() -> None:
    made = made_results(harm=(0.1, 0.5, 0.2), reestimated=(0.05, 0.4, 0.21), theory=False)
    [table] = section(made).tables
    assert table.headings == ("group", "n", *(("before", "after", "difference") * 2))
    before, after = (made.audit(made.network(name, 0.9), "test").metrics for name in ("pruned", "pruned_reestimated"))
    for g, row in enumerate(table.rows):
        assert row[:2] == (f"town {g}", "100")
        accuracy = [100 * np.mean(one.accuracy[:, g]) for one in (before, after)]
        loss = [np.mean(one.loss[:, g]) for one in (before, after)]
        expected = [*accuracy, accuracy[1] - accuracy[0], *loss, loss[1] - loss[0]]
        assert [value_of(cell) for cell in row[2:]] == pytest.approx(expected, abs=0.0501)
    [sentence] = section(made).texts
    assert "2 of 3 groups" in sentence
    assert "best for town 1" in sentence
    assert "worst for town 2" in sentence


def test_a_run_without_them_has_no_such_section() -> None:
    made = made_results(theory=False)
    assert section(made) is None
    assert TITLE not in [part.title for part in sections_of(made, RUN)]


def test_the_page_of_a_run_has_the_section() -> None:
    made = made_results(theory=False, reestimated=(0.1, 0.4))
    page = render_page("report", made, ENVIRONMENT, None)
    assert TITLE in page
    assert "nan" not in page.lower()


def test_networks_without_such_statistics_are_unchanged() -> None:
    made = made_results(theory=False, reestimated=(0.1, 0.5), noise=0.0)
    assert "no group’s accuracy changes" in section(made).texts[0]

"""The page of compared structures, on results made by hand."""

import numpy as np
import pytest
from made_costs import with_costs
from made_criteria import made_criteria, made_structures
from made_results import ENVIRONMENT
from sections import texts_of, value_of

from jaxprune.numbers import percent
from jaxprune.quantities import Cell
from jaxprune.reporting.pruning_name import entry_unit
from jaxprune.reporting.reports import PAGES, STRUCTURES, render_page, sections_of
from jaxprune.reporting.sections import (
    prunings_answer,
    prunings_front,
    prunings_protocol,
    prunings_table,
    whom_each_hurts,
)
from jaxprune.results.whom import harm_of

CHANNELS, TITLE = "channels:cost=parameters", "channels, at equal parameters"


@pytest.fixture(scope="module")
def made():
    return with_costs(made_structures(), compact=0.5)


def test_the_page_says_structures_and_never_criteria(made) -> None:
    assert "3 structures, " in render_page("structures-report", made, ENVIRONMENT, None)
    sections = sections_of(made, STRUCTURES)
    assert "Structures ranked by accuracy" in [section.title for section in sections]
    text = " ".join([*map(texts_of, sections), *(table.caption for section in sections for table in section.tables)])
    assert "criteri" not in text.replace("magnitude criterion", "")
    assert len(sections_of(made, STRUCTURES)) == len(STRUCTURES) - 1, "no channels are in these results"
    assert "nan" not in texts_of(prunings_answer.section(made))


def test_claims_name_the_groups_that_structures_hurt_more_and_less(made) -> None:
    _, claim = prunings_answer.claims(made)
    question, answer = claim.split("? ")
    assert question == "Do they differ from weights in whom they hurt, beyond all people"
    assert answer.startswith("Not retrained, 90 % pruned: ")
    assert f"“{TITLE}” hurts clearly more: " in claim
    assert "“N:4” hurts no group clearly more or less" in claim
    more, less = claim.partition(f"“{TITLE}”")[2].partition("clearly less: ")[::2]
    assert made.group_names[0] in more
    assert made.group_names[2] in less
    few = prunings_answer.claims(made_structures(seeds=2))
    assert len(few) == 1
    assert "no structure can be said to be fairer" in few[0]


def test_the_group_hurt_most_is_named_with_its_harm(made) -> None:
    text = texts_of(whom_each_hurts.section(made))
    lost = 100 * harm_of(made, made.network(CHANNELS, 0.9), "accuracy").mean(0)
    assert f"“{TITLE}” hurts most by accuracy: {made.group_names[0]}, by {lost[0]:.1f} points (all" in text
    assert "most in every seed" in text


def test_the_table_of_groups_marks_clear_differences(made) -> None:
    table = whom_each_hurts.section(made).tables[0]
    assert table.headings == ("group", *("accuracy lost", "R, nats") * 3)
    assert [title for title, _ in table.above] == ["", "weights", "N:4", TITLE]
    rows = {str(row[0]): row for row in table.rows}
    assert list(rows) == ["all people", *made.group_names]
    for g, group in enumerate(made.group_names):
        lost = 100 * harm_of(made, made.network(CHANNELS, 0.9), "accuracy")[:, g].mean()
        assert value_of(rows[group][5]) == pytest.approx(lost, abs=0.051)
    assert rows[made.group_names[0]][5].mark == "worse"
    assert rows[made.group_names[2]][5].mark == "better"
    assert rows[made.group_names[0]][1].mark == "", "the baseline differs from itself in nothing"


def test_broken_structures_are_named_and_not_judged() -> None:
    made = made_structures(broken=[(CHANNELS, 0.9), (CHANNELS, 0.5)])
    section = whom_each_hurts.section(made)
    assert f"{TITLE} (broken)" in [title for title, _ in section.tables[0].above]
    assert not any(isinstance(cell, Cell) and cell.mark for row in section.tables[0].rows for cell in row[5:])
    assert f"“{TITLE}” hurts most" not in texts_of(section).partition("etrained (naive")[0]


def test_whom_they_hurt_is_told_where_most_structures_work() -> None:
    claim = prunings_answer.claims(made_structures(broken=[(CHANNELS, 0.9)]))[1]
    assert "in whom they hurt, beyond all people? Not retrained, 50 % pruned: " in claim
    assert "Retrained (naive fine-tuning), 90 % pruned: " in claim


def test_the_front_is_drawn_where_most_structures_work() -> None:
    made = made_structures(broken=[(CHANNELS, 0.9)])
    rows = prunings_front.rows_of(made)
    assert [(sparsity, [stage.name for stage in stages]) for sparsity, stages in rows] == [
        (0.5, ["pruned"]), (0.9, ["naive"]),
    ]  # fmt: skip
    points = prunings_front.points_of(made, rows[0][1][0], 0.5, "max_excess_accuracy_gap")
    assert list(points) == ["weights", "n_m", CHANNELS]
    assert "at which most structures work" in prunings_front.section(made).figures[0].caption


def test_the_ranked_table_has_the_costs_of_every_structure(made) -> None:
    table = prunings_table.section(made).tables[0]
    assert table.headings[:4] == ("structure", "non-zeros", "bytes", "FLOPs")
    assert sum(span for _, span in table.above) == len(table.headings)
    row = next(row for row in table.rows if row[0] == "N:4")
    forms = made.costs["n_m 0.9"].forms
    assert row[2] == percent(forms["compact"].bytes / forms["dense"].bytes, 3)
    assert {len(row) for row in table.rows} == {len(table.headings)}
    without = prunings_table.section(made_structures()).tables[0]
    assert without.headings[1] == "mean"
    assert prunings_table.section(with_costs(made_criteria())).tables[0].headings[:2] == ("criterion", "mean")


def test_the_protocol_says_what_the_sparsity_is_a_share_of(made) -> None:
    section = prunings_protocol.section(made)
    [table] = [table for table in section.tables if table.headings[0] == "structure"]
    assert [row[2] for row in table.rows] == [
        "prunable weights", "prunable weights", "parameters of the whole network",
    ]  # fmt: skip
    assert entry_unit("heads") == "heads that can be cut"
    assert entry_unit("channels:cost=flops:pool=l1") == "FLOPs of the whole network"
    assert "by every structure" in texts_of(section)


def test_the_short_table_names_structures(made) -> None:
    short = PAGES["structures-report"].short(made)
    assert short.headings[0] == "structure"
    assert {row[0] for row in short.rows} == {"weights", "N:4", TITLE}
    assert np.all([len(row) == len(short.headings) for row in short.rows])

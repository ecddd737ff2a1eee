"""The sections of the page of compared criteria, on results made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from made_costs import with_costs
from made_criteria import SHIFTS, made_criteria
from made_results import ENVIRONMENT
from sections import texts_of, value_of

from jaxprune.quantities import Cell
from jaxprune.reporting.page import Folded
from jaxprune.reporting.prunings import RANKED, working
from jaxprune.reporting.reports import CRITERIA, PAGES, render_page, sections_of
from jaxprune.reporting.sections import (
    criteria_with_groups,
    prunings_answer,
    prunings_caveats,
    prunings_front,
    prunings_protocol,
    prunings_table,
)
from jaxprune.reporting.sections.accuracy_against_fairness import front
from jaxprune.results.figures import figures
from jaxprune.results.prunings import stages_of

PRUNED, RETRAINED = 0, 1  # stages of results without re-estimated statistics


def figure_of(results, name, sparsity, measure) -> float:
    return float(np.mean(figures(results, results.network(name, sparsity), "test")[measure]))


def test_the_best_criterion_by_each_measure() -> None:
    made = made_criteria()
    for stage in stages_of(made):
        sentences = dict(zip(RANKED, prunings_answer.best(made, stage), strict=True))
        for measure, sentence in sentences.items():
            mean = {name: figure_of(made, network, 0.9, measure) for name, network in stage.networks.items()}
            pick = max if measure in ("accuracy", "worst_group_accuracy") else min
            best = pick(mean, key=mean.__getitem__)
            assert f": “{best.replace('_', ' ')}” is best" in sentence
            scale = 1 if measure == "excessive_loss_spread" else 100
            assert f"({scale * mean[best]:.{3 if scale == 1 else 1}f} " in sentence


def test_a_clear_difference_is_told_from_chance() -> None:
    shifts = {"magnitude": (np.zeros(3),) * 2, "random": (np.array([0.001, 0, 0]), np.array([0.05, 0.05, 0.05]))}
    made = made_criteria(shifts)
    pruned, retrained = (prunings_answer.best(made, stage)[0] for stage in stages_of(made))
    verdict = stages_of(made)[RETRAINED].comparison(made).verdicts[0.9, "random+naive", "accuracy"]
    assert "which is clear" in retrained
    assert f"{verdict.change.low:+.1f} to {verdict.change.high:+.1f} points" in retrained
    noisy = {"magnitude": shifts["magnitude"], "random": (np.zeros(3),) * 2}
    chance = prunings_answer.best(made_criteria(noisy), stages_of(made)[PRUNED])
    assert not any("which is clear" in sentence for sentence in chance)
    assert pruned.startswith("Accuracy: ")


def test_where_the_baseline_is_best_it_is_named_alone() -> None:
    made = made_criteria({name: SHIFTS[name] for name in ("magnitude", "random")})
    accuracy = prunings_answer.best(made, stages_of(made)[RETRAINED])[0]
    assert "“magnitude” is best" in accuracy
    assert "Clearly worse than magnitude: “random”" in accuracy


def test_fairer_at_equal_accuracy_needs_a_clear_gain_and_little_cost() -> None:
    """Random is fairer by the spreads before retraining, and costs more than a point."""
    answer = prunings_answer.fairer(made_criteria())
    assert answer.count("“worst group curvature”") == 2
    assert "random" not in answer
    none = prunings_answer.fairer(made_criteria({name: SHIFTS[name] for name in ("magnitude", "fairprune")}))
    assert "yes" not in none
    assert none.count("“fairprune”, which costs at most one point of accuracy, is not clearly better") == 2
    costly = prunings_answer.fairer(made_criteria({name: SHIFTS[name] for name in ("magnitude", "random")}))
    assert costly.count("whose networks work costs more than one point of accuracy") == 2


def test_networks_that_do_not_work_are_not_named_as_best() -> None:
    made = made_criteria(broken=[("random", 0.9)])
    stage = stages_of(made)[PRUNED]
    assert working(made, stage) == [name for name in SHIFTS if name != "random"]
    assert not any("random" in sentence for sentence in prunings_answer.best(made, stage))
    [broken, small] = prunings_caveats.section(made).texts
    assert "“random”" in broken
    assert "90 %" in broken
    assert "small (100)" in small


def test_where_the_baseline_works_nowhere_nothing_is_ranked() -> None:
    names = ("magnitude", "magnitude+naive")
    made = made_criteria(broken=[(name, sparsity) for name in names for sparsity in (0.5, 0.9)])
    text = texts_of(prunings_answer.section(made))
    assert text.count("work at no sparsity") == 1
    assert "Not retrained and retrained (naive fine-tuning): the networks of magnitude" in text
    assert "is best" not in text
    assert "families of their own" in text, "of the criteria that read the groups"
    assert prunings_front.section(made) is None
    for table in prunings_table.section(made).tables:
        assert {cell for row in table.rows[1:] for cell in (*row[2::3], *row[3::3])} == {"–"}
    half = made_criteria(broken=[("magnitude", 0.5), ("magnitude", 0.9)])
    text = texts_of(prunings_answer.section(half))
    assert "Not retrained: the networks of magnitude, the baseline, work at no sparsity" in text
    assert text.count("is best") == len(RANKED)
    pruned, retrained = prunings_table.section(half).tables[:2]
    row_of = {str(row[0]): row for row in pruned.rows}, {str(row[0]): row for row in retrained.rows}
    assert [rows["random"][2] == "–" for rows in row_of] == [True, False]
    [(sparsity, [stage])] = prunings_front.rows_of(half)
    assert (sparsity, stage.retrained) == (0.9, True)
    assert prunings_front.section(half).figures[0].draw() is not None


def test_criteria_under_a_schedule_are_named_by_it() -> None:
    made = made_criteria()
    made = replace(made, settings=made.settings | {"prune": made.settings["prune"] | {"schedule": "gradual"}})
    assert stages_of(made)[PRUNED].words == "not retrained further"
    assert "5 epochs of training more" in texts_of(prunings_caveats.section(made))
    text = texts_of(prunings_protocol.section(made))
    assert "of each dense network, while training went on for 5 epochs" in text
    assert "retrained (naive fine-tuning) for 2 epochs" in text


def test_dense_networks_that_learned_nothing_are_told_and_no_broken_ones() -> None:
    made = replace(
        made_criteria(broken=[("random", 0.9)]), majority=dict.fromkeys(("train", "validation", "test"), 0.9)
    )
    text = texts_of(prunings_caveats.section(made))
    assert "commonest label, which is right for 90 % of the people" in text
    assert "train.epochs" in text
    assert "no longer work" not in text


def test_the_gain_of_knowing_the_groups() -> None:
    made = made_criteria()
    [claim] = criteria_with_groups.claims(made)
    assert (
        "clearly better by some measure and worse by none: “worst group curvature” (against “curvature”, by " in claim
    )
    folded = criteria_with_groups.section(made)
    [table] = folded.contents
    rows = {(row[0], row[1], row[2]): row[3:] for row in table.rows}
    assert len(rows) == 4, "two stages, a pair, and fairprune against the baseline"
    cells = rows["retrained (naive fine-tuning), 90 % pruned", "worst group curvature", "curvature"]
    mine, control = (
        figure_of(made, f"{name}+naive", 0.9, "accuracy") for name in ("worst_group_curvature", "curvature")
    )
    assert value_of(cells[0]) == pytest.approx(100 * (mine - control), abs=0.051)
    assert cells[1].mark == "better"
    assert criteria_with_groups.has_controls(made)
    half = made_criteria(broken=[("magnitude", 0.5), ("magnitude", 0.9), ("curvature+naive", 0.9)])
    [table] = criteria_with_groups.section(half).contents
    pairs = [(row[0].partition(",")[0], row[1], row[2]) for row in table.rows]
    assert pairs == [
        ("not retrained", "worst group curvature", "curvature"),
        ("retrained (naive fine-tuning)", "fairprune", "magnitude"),
    ], "pairs of which one does not work are left out"
    assert not criteria_with_groups.has_controls(made_criteria({n: SHIFTS[n] for n in ("magnitude", "fairprune")}))
    unaware = made_criteria({name: SHIFTS[name] for name in ("magnitude", "random", "curvature")})
    assert criteria_with_groups.claims(unaware) == []
    assert criteria_with_groups.section(unaware) is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_claim_nothing(seeds) -> None:
    made = made_criteria(seeds=seeds)
    [claim] = prunings_answer.claims(made)
    assert "no criterion can be said to be fairer" in claim
    text = texts_of(prunings_answer.section(made))
    assert "p =" not in text
    assert "clear:" not in text
    assert "nan" not in text


def test_the_tables_rank_the_criteria_by_accuracy() -> None:
    made = made_criteria()
    section = prunings_table.section(made)
    folded = [part for part in section.contents if isinstance(part, Folded)]
    assert [(part.summary, part.open) for part in folded] == [("90 % pruned", True), ("50 % pruned", False)]
    for table, stage in zip(folded[0].contents, stages_of(made), strict=True):
        names = [str(row[0]) for row in table.rows]
        mean = {name: figure_of(made, network, 0.9, "accuracy") for name, network in stage.networks.items()}
        ranked = sorted(mean, key=lambda name: -mean[name])
        assert names == ["Dense, not pruned", *(name.replace("_", " ") for name in ranked)]
        assert [value_of(row[1]) for row in table.rows[1:]] == pytest.approx([100 * mean[n] for n in ranked], abs=0.051)
        assert len(table.headings) == 1 + 3 * len(RANKED) == sum(span for _, span in table.above)
        verdict = stage.comparison(made).verdicts[0.9, stage.networks["random"], "worst_group_accuracy"]
        cell, p = table.rows[1 + ranked.index("random")][5:7]
        assert isinstance(cell, Cell)
        assert cell.mark == verdict.outcome.value == "worse"
        assert value_of(cell) == pytest.approx(verdict.change.mean, abs=0.051)
        assert p == "< 0.001"
        assert table.rows[1 + ranked.index("magnitude")][2:4] == ("–", "–")


def test_broken_networks_are_marked_in_the_table_and_off_the_front() -> None:
    made = made_criteria(broken=[("worst_group_curvature", 0.9)])
    rows = {str(row[0]): row for row in prunings_table.section(made).tables[0].rows}
    row = rows["worst group curvature (broken)"]
    assert not any(isinstance(cell, Cell) and cell.mark for cell in row)
    figure = prunings_front.section(made).figures[0].draw()
    assert figure is not None
    whole, broken = (
        prunings_front.points_of(results, stages_of(results)[PRUNED], 0.9, "max_excess_accuracy_gap")
        for results in (made_criteria(), made)
    )
    assert whole.keys() - broken.keys() == {"worst_group_curvature"}
    drawn = [point for marks in figure.axes[0].collections for point in np.asarray(marks.get_offsets())]
    assert any(np.allclose(point, broken["random"]) for point in drawn)
    assert not any(np.allclose(point, whole["worst_group_curvature"]) for point in drawn)


def test_criteria_that_diverged_have_no_row_and_a_caveat() -> None:
    made = made_criteria(trouble=["random+naive"])
    pruned, retrained = prunings_table.section(made).tables[:2]
    assert len(pruned.rows) == len(retrained.rows) + 1 == 1 + len(SHIFTS)
    assert "random, naive fine-tuning at 90 % diverged" in texts_of(prunings_caveats.section(made))


def test_the_fronts_have_every_criterion_once_for_each_stage() -> None:
    made = made_criteria(reestimate=True, broken=[("magnitude", 0.9)])
    assert [(sparsity, len(stages)) for sparsity, stages in prunings_front.rows_of(made)] == [(0.5, 2), (0.9, 1)]
    figure = prunings_front.section(made).figures[0].draw()
    assert figure is not None
    panels = figure.axes[:4]
    assert [len(axes.collections) for axes in panels] == [2 * len(SHIFTS)] * 2 + [len(SHIFTS)] * 2
    stage = prunings_front.rows_of(made)[1][1][0]
    for axes, measure in zip(panels[2:], ("max_excess_accuracy_gap", "excessive_loss_spread"), strict=True):
        points = prunings_front.points_of(made, stage, 0.9, measure)
        drawn = np.array([np.asarray(one.get_offsets())[0] for one in axes.collections])
        np.testing.assert_allclose(drawn, list(points.values()))
        best = front(drawn)
        line = np.array(axes.lines[0].get_xydata())
        np.testing.assert_allclose(sorted(map(tuple, line)), sorted(map(tuple, drawn[best])))
        assert {text.get_text() for text in axes.texts} <= {str(i + 1) for i in range(len(SHIFTS))}
    hollow = panels[0].collections[0].get_facecolor()[0]
    filled = panels[2].collections[0].get_facecolor()[0]
    assert (tuple(hollow[:3]), tuple(filled[:3])) == ((1, 1, 1), (0, 0, 0))


def test_the_protocol_has_every_criterion() -> None:
    table = prunings_protocol.section(made_criteria()).tables[0]
    assert table.rows[0] == ("magnitude", "|w|", "no")
    assert {row[0]: row[2] for row in table.rows} == {
        "magnitude": "no", "random": "no", "curvature": "no", "worst group curvature": "yes", "fairprune": "yes",
    }  # fmt: skip


def test_the_page_has_every_section_and_no_empty_number() -> None:
    made = with_costs(made_criteria(reestimate=True))
    assert len(sections_of(made, CRITERIA)) == len(CRITERIA) - 1  # no channels were removed
    page = render_page("criteria-report", made, ENVIRONMENT, None)
    assert "<title>jaxprune: made, criteria compared</title>" in page
    assert "<h1>Which weights should go? made, by town</h1>" in page
    assert "jaxprune compare config.toml" in page
    assert "nan" not in page.lower()
    alone = render_page("criteria-report", made_criteria({"magnitude": SHIFTS["magnitude"]}), ENVIRONMENT, None)
    assert "name others in prune.criteria" in alone


def test_the_short_table_has_every_criterion_at_every_stage() -> None:
    made = made_criteria()
    short = PAGES["criteria-report"].short(made)
    assert short is not None
    assert len(short.rows) == 2 * len(SHIFTS)
    pruned = [row for row in short.rows if row[1] == "not retrained, 90 % pruned"]
    accuracy = [value_of(row[2]) for row in pruned]
    assert accuracy == sorted(accuracy, reverse=True)
    assert PAGES["criteria-report"].conclusion(made) == PAGES["criteria-report"].answer(made)

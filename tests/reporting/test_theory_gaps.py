"""What the report says of the theory where numbers are missing, not converged or not finite: it owns up to each."""

import re
import warnings

import numpy as np
import pytest
from jaxprune.reporting.figures import draw
from jaxprune.reporting.laboratory_figures import draw_theory
from jaxprune.reporting.old_page import render_page, render_theory_page
from jaxprune.reporting.results import Results, TheoryResults
from jaxprune.reporting.theory_rows import theory_rows
from jaxprune.reporting.theory_tables import theory_tables
from test_pages import results
from test_theory_page import by_hand, section

from jaxprune.quantities import Cell
from jaxprune.reporting import theory_findings
from jaxprune.theory import permutation_test

MADE_BY = {"jaxprune": "0", "time": "2026-01-01T00:00:00"}


def changed(made=None, *, sizes=None, **theory) -> Results:
    """The results made by hand, with other numbers of the theory."""
    made = by_hand() if made is None else made
    values = vars(made) | {"theory": TheoryResults(**vars(made.theory) | theory)}
    return Results(**values | ({} if sizes is None else {"group_sizes": made.group_sizes | {"train": sizes}}))


def theory_page(made: Results, folder) -> str:
    return re.sub(r'src="data:[^"]*"', "", render_theory_page(made, folder, MADE_BY))


def with_nan(array, *groups):
    array = np.array(array, float)
    array[..., list(groups)] = np.nan
    return array


def unfinished(group=1):
    """Convergence [2, 4] with one group that has missed it in one seed."""
    converged = np.ones((2, 4))
    converged[1, group] = 0
    return converged


def test_the_theory_page_has_what_was_measured_and_what_it_bounds(tmp_path) -> None:
    page = theory_page(changed(converged=unfinished()), tmp_path)
    for heading in ("‖g‖", "λ(H)", "residual", "converged", "products", "gᵀΔ", "½ΔᵀHΔ", "bound", "bound / R"):
        assert f">{heading}</th>" in page
    assert "1 of 8 eigenvalues did not reach their tolerance and are marked" in page
    assert page.count('class="bad">NO<') == 1 + 2, "in the first table, and at each of two sparsities in the second"


@pytest.mark.parametrize(("made", "part"), [(by_hand(), "seeds"), (results(), "spread")], ids=["2 seeds", "5 seeds"])
def test_every_mean_of_the_two_tables_has_its_interval_or_its_seeds(made, part) -> None:
    tables = theory_tables(made)
    for row in tables["theory"]:
        assert all(getattr(row[name], part) for name in ("gradient_norm", "eigenvalue", "margin", "closeness"))
    for row in tables["bounds"]:
        assert all(getattr(row[name], part) for name in ("observed", "first", "second", "bound"))


def hatches(figure) -> int:
    bars = [bar for axes in figure.axes for container in axes.containers for bar in getattr(container, "patches", ())]
    return sum(bool(bar.get_hatch()) for bar in bars)


def words(figure) -> str:
    return " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())


def test_figures_mark_what_has_not_converged() -> None:
    from jaxprune.reporting import figures, laboratory_figures, paper_figures

    made, clean = changed(converged=unfinished()), by_hand()
    for bars in (paper_figures.causes, figures.causes):
        assert (hatches(bars(made)), hatches(bars(clean))) == (1, 0)
    for make in (
        paper_figures.causes,
        figures.causes,
        paper_figures.correlation,
        figures.bound,
        laboratory_figures.ratio,
    ):
        assert "not converged" in words(make(made))
        assert "not converged" not in words(make(clean))
    assert "not converged" in words(paper_figures.pruned(clean)), "some eigenvalue of a pruned network has not"


def test_an_eigenvalue_that_is_not_finite_has_failed_and_is_not_missing(tmp_path) -> None:
    made = by_hand()
    made = changed(eigenvalue=with_nan(made.theory.eigenvalue, 2), converged=unfinished(2) * 0 + 1)
    notes = " ".join(theory_findings.caveats(made))
    assert "λ is not finite for town 2: the network overflowed" in notes
    assert "No examples" not in notes
    assert "did not reach" not in notes
    page = theory_page(made, tmp_path)
    assert "NOT FINITE" in page
    assert "no examples" not in page


def test_a_group_without_examples_is_told_by_its_size(tmp_path) -> None:
    made = by_hand()
    numbers = {n: with_nan(getattr(made.theory, n), 2) for n in ("gradient_norm", "eigenvalue", "residual", "observed")}
    made = changed(sizes=[400, 400, 0, 400], **numbers, converged=np.array([[1, 1, 0, 1]] * 2))
    notes = " ".join(theory_findings.caveats(made))
    assert "No examples on the train split, so no gradients and no curvature: town 2." in notes
    assert "not finite" not in notes
    assert "did not reach" not in notes
    assert ">no examples<" in theory_page(made, tmp_path)


def test_nothing_finite_is_said_without_a_nan_or_a_warning(tmp_path) -> None:
    made = by_hand()
    names = ("gradient_norm", "overall_gradient_norm", "eigenvalue", "residual", "margin", "closeness", "distance",
             "first_order", "second_order", "observed")  # fmt: skip
    nothing = {name: np.full(getattr(made.theory, name).shape, np.nan) for name in names}
    made = changed(**nothing, converged=np.zeros((2, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sentences = theory_findings.why(made) + theory_findings.caveats(made)
        draw_theory(made, tmp_path)
        page = theory_page(made, tmp_path)
        for name in ("causes", "bound"):
            draw(name, made, tmp_path)
        page += re.sub(r'src="data:[^"]*"', "", render_page(made, tmp_path, MADE_BY))
    assert not re.search(r"\bnan\b", " ".join(sentences) + page, re.IGNORECASE)
    assert "λ is not finite for town 0, town 1, town 2, town 3" in page
    assert "cannot be compared with the harm" in page


@pytest.mark.parametrize(
    ("converged", "third", "said"),
    [
        (1, 0.5, "Where it fails, the third-order remainder that the theorem leaves open is why."),
        (0, 0.5, "Of the 16 where it fails, in 16 λ(H) has not converged"),
        (1, -0.5, "in 16 neither the remainder nor an unconverged λ(H) tells why"),
    ],
)
def test_why_the_bound_fails_is_what_was_measured(converged, third, said) -> None:
    """All 16 cases fail: by construction for the one reason, for the other, or for neither."""
    made = by_hand()
    observed = np.full(made.theory.observed.shape, 9.0) + np.linspace(0, 0.1, 4)
    made = changed(
        observed=observed, first_order=observed - third, second_order=0 * observed,
        gradient_norm=np.full((2, 4), 0.1), eigenvalue=np.full((2, 4), 0.1), converged=np.full((2, 4), converged),
    )  # fmt: skip
    assert said in " ".join(theory_findings.why(made))


def test_tables_of_the_chapter_show_the_seeds() -> None:
    for title in ("Both ends", "pull the same way", "Four distances", "Which layers", "spare"):
        for row in section(by_hand(), title).rows:
            assert any(isinstance(cell, Cell) and cell.seeds for cell in row[1:]), title


def test_each_predictor_names_an_order_beside_the_observed_one() -> None:
    """In the results made by hand the harm rises with the group's number, and so does ‖g‖; λ falls."""
    found = section(by_hand(), "Whom each predictor named")
    rows = [dict(zip(found.headings, row, strict=True)) for row in found.rows]
    assert len(rows) == 2 * (1 + 7)
    at = {row["predictor"]: row for row in rows if row["pruned"] == "90 %"}
    rising = "town 3 > town 2 > town 1 > town 0"
    assert at["observed harm R(a)"]["the whole order"] == at["gradient norm ‖g‖"]["the whole order"] == rising
    falling = at["largest eigenvalue λ(H)"]
    assert (falling["first"], falling["in seeds"]) == ("town 0", "2 of 2")
    assert (falling["Kendall"], falling["regret (nats)"].mean) == (Cell("-1.00", seeds="-1.00, -1.00"), "0.501")
    assert at["gradient norm ‖g‖"]["regret (nats)"] == Cell("0.000", seeds="0.000, 0.000")
    assert at["small size of the group"]["the whole order"] == "all alike"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_groups_that_a_predictor_ties_are_named_together_in_any_order(order) -> None:
    order = list(order)
    made = by_hand()
    names = [made.group_names[g] for g in order]
    closeness = np.array([[0.1, 0.4, 0.2, 0.4], [0.1, 0.4, 0.2, 0.4]])[:, order]
    made = Results(**vars(changed(made, closeness=closeness)) | {"group_names": names})
    found = section(made, "Whom each predictor named")
    rows = [dict(zip(found.headings, row, strict=True)) for row in found.rows]
    row = next(row for row in rows if row["predictor"] == "closeness to the boundary")
    assert set(row["first"].split(" or ")) == {"town 1", "town 3"}
    assert row["in seeds"] == "2 of 2"
    assert [set(level.split(" = ")) for level in row["the whole order"].split(" > ")] == [
        {"town 1", "town 3"}, {"town 2"}, {"town 0"},
    ]  # fmt: skip


def test_the_miss_of_the_second_order_value_is_that_at_the_headline() -> None:
    made = by_hand()
    theory = made.theory
    first = theory.observed - theory.second_order - np.array([0.5, 0.125])[:, None, None]
    found = next(s for s in theory_findings.why(changed(made, first_order=first)) if "misses" in s)
    assert "At 90 %" in found
    assert "by 0.125 nats" in found


def test_scores_of_predictors_show_the_seeds() -> None:
    row = section(by_hand(), "Who will be hurt").rows[0]
    assert row[1:3] == (Cell("+1.00", seeds="+1.00, +1.00"),) * 2


def test_the_csv_has_a_row_for_each_seed_group_sparsity_and_quantity() -> None:
    made = by_hand()
    made = changed(made, eigenvalue=with_nan(made.theory.eigenvalue * 1e-12, 2))
    rows = list(theory_rows(made))
    keys = [(row["seed"], row["group"], row["sparsity"], row["quantity"]) for row in rows]
    assert len(set(keys)) == len(keys)
    found = {key: row["value"] for key, row in zip(keys, rows, strict=True)}
    assert float(found[1, "town 3", 0.0, "eigenvalue"]) == pytest.approx(made.theory.eigenvalue[1, 3], rel=1e-8)
    assert found[1, "town 2", 0.0, "eigenvalue"] == "", "not finite"
    assert float(found[0, "town 1", 0.9, "bound"]) == pytest.approx(made.theory.bound[1, 0, 1], rel=1e-8)
    norm = made.laboratory["pruned"]["gradient_norm"][0][1][3]
    assert float(found[1, "town 3", 0.5, "pruned.gradient_norm"]) == pytest.approx(norm, rel=1e-8)
    assert found[0, "town 0", 0.0, "spectra.smallest.value"] == "-1"
    assert found[0, "town 0", 0.0, "outputs.statements.multiclass.right"] == "3"
    assert not [key for key in keys if key[3].startswith(("density", "cosines"))]


@pytest.mark.parametrize("lost", [(3,), (0, 1, 2, 3)])
def test_a_split_over_layers_that_is_nowhere_finite_is_passed_over(lost, tmp_path) -> None:
    """The loss may overflow on the way to a pruned network whose own loss is finite."""
    made = by_hand()
    found = made.laboratory["attribution"]
    found["path"] = with_nan(np.array(found["path"]).swapaxes(2, 3), *lost).swapaxes(2, 3).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        said = section(made, "Which layers").sentences[0]
        draw_theory(made, tmp_path)
    assert said == "No group has a finite harm to split." if len(lost) == 4 else "town 3 is hurt" not in said


def ranked(groups, noise, seed=0):
    """A test of three predictors of which the first is the harm itself, with noise."""
    rng = np.random.default_rng(seed)
    observed = np.arange(float(groups)) + np.zeros((4, 1))
    predictors = np.stack([observed + noise * rng.normal(size=(4, groups)), *rng.normal(size=(2, 4, groups))])
    return permutation_test(predictors, observed)


def test_a_predictor_predicts_only_where_the_adjusted_test_says_so() -> None:
    sure = ranked(6, 0.1)
    assert sure.adjusted_p[0] < 0.05
    assert "gradient norm ‖g‖ predicts the order of the groups" in theory_findings.ranking_words(sure, "harm")
    assert "over groups" not in theory_findings.ranking_words(sure, "harm"), "six groups have no interval"
    assert "over groups)" in theory_findings.ranking_words(ranked(12, 0.5), "harm")
    four = ranked(4, 0.0)
    assert (four.correlation[0], four.chance) == (pytest.approx(1), pytest.approx(1, abs=0.3))
    weak = ranked(5, 100)
    assert weak.adjusted_p.min() > 0.05
    words = theory_findings.ranking_words(weak, "harm")
    assert words.startswith("None of the 3 predictors")
    assert f"{np.nanmax(weak.correlation):.2f}" in words
    assert f"chance alone reaches {weak.chance:.2f}" in words


def test_predictors_are_tested_by_loss_and_where_audited_by_accuracy() -> None:
    made = by_hand()
    s = int(np.argmax(made.theory.sparsities))
    drop = made.audit("pruned", float(made.theory.sparsities[s]), "test").impact.accuracy_drop
    on_test = changed(made, split="test")
    sentences = " ".join(theory_findings.why(on_test))
    by_accuracy = theory_findings.predictor_test(on_test, s, drop)
    assert theory_findings.ranking_words(by_accuracy, "the drop in accuracy") in sentences
    assert "the drop in accuracy" not in " ".join(theory_findings.why(made)), "the training split was not audited"

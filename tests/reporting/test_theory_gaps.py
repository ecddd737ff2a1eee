"""What the report says of the theory where numbers are missing, not converged or not finite: it owns up to each."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
from made_results import ENVIRONMENT, made_results, made_theory, with_nan, with_theory
from sections import figures_in, rows_of, texts_of

from jaxprune.quantities import Cell
from jaxprune.reporting.predictors import predictor_test, ranking_words
from jaxprune.reporting.reports import RUN, THEORY, render_page
from jaxprune.reporting.sections.bound import bound_table
from jaxprune.reporting.sections.boundary import distances as boundary_distances
from jaxprune.reporting.sections.caveats import theory_caveats
from jaxprune.reporting.sections.dense_network import dense_table
from jaxprune.reporting.sections.dense_network import section as dense_network
from jaxprune.reporting.sections.gradients import members as member_gradients
from jaxprune.reporting.sections.layers import attribution as layer_attribution
from jaxprune.reporting.sections.layers import sparsities as layer_sparsities
from jaxprune.reporting.sections.predictions import orders as predicted_orders
from jaxprune.reporting.sections.predictions import scores as prediction_scores
from jaxprune.reporting.sections.spectra import ends as spectra
from jaxprune.reporting.sections.why import theory_sentences
from jaxprune.results import Results
from jaxprune.theory import permutation_test


def theory_page(made: Results) -> str:
    return re.sub(r'src="data:[^"]*"', "", render_page("theory-page", made, ENVIRONMENT, None))


def unfinished(group=1):
    """Convergence [2, 4] with one group that has missed it in one seed."""
    converged = np.ones((2, 4))
    converged[1, group] = 0
    return converged


def test_the_theory_page_has_what_was_measured_and_what_it_bounds() -> None:
    made = with_theory(made_theory(), converged=unfinished())
    dense, bound = dense_network(made).tables
    assert dense.headings == (
        "group", "n", "‖g‖", "λ(H)", "residual", "converged", "products", "margin", "closeness"
    )  # fmt: skip
    assert [row["converged"].mean for row in rows_of(dense)] == ["yes", "NO", "yes", "yes"]
    assert [row["products"] for row in rows_of(dense)] == ["7"] * 4
    rows = rows_of(bound)
    assert [(row["pruned"], row["group"]) for row in rows] == [
        (share, f"town {g}") for share in ("50 %", "90 %") for g in range(4)
    ]
    assert [row["λ converged"].mean == "NO" for row in rows] == [False, True, False, False] * 2
    theory = made.theory
    assert theory is not None
    for row, (s, g) in zip(rows, np.ndindex(2, 4), strict=True):
        ratio = theory.bound[s, :, g].mean() / theory.observed[s, :, g].mean()
        assert float(row["bound / R"]) == pytest.approx(ratio, rel=0.006)
        assert row["holds in seeds"] == f"{np.sum(theory.observed[s, :, g] <= theory.bound[s, :, g])} of 2"
    assert sum("1 of 8 eigenvalues did not reach their tolerance" in note for note in theory_caveats(made)) == 1
    assert theory_page(made).count('class="bad">NO<') == 1 + 2, "in the first table, and twice in the second"


@pytest.mark.parametrize(
    ("made", "part"), [(made_theory(), "seeds"), (made_results(), "spread")], ids=["2 seeds", "5 seeds"]
)
def test_every_mean_of_the_two_tables_has_its_interval_or_its_seeds(made, part) -> None:
    for row in rows_of(dense_table(made)):
        assert all(getattr(row[name], part) for name in ("‖g‖", "λ(H)", "margin", "closeness"))
    [table] = bound_table(made).contents
    for row in rows_of(table):
        assert all(getattr(row[name], part) for name in ("observed R", "gᵀΔ", "½ΔᵀHΔ", "bound"))


def hatches(figure) -> int:
    bars = [bar for axes in figure.axes for container in axes.containers for bar in getattr(container, "patches", ())]
    return sum(bool(bar.get_hatch()) for bar in bars)


def words(figure) -> str:
    return " ".join(text.get_text() for legend in figure.legends for text in legend.get_texts())


def test_figures_mark_what_has_not_converged() -> None:
    made, clean = (figures_in(m, RUN) for m in (with_theory(made_theory(), converged=unfinished()), made_theory()))
    assert (hatches(made["causes"]), hatches(clean["causes"])) == (1, 0)
    for name in ("causes", "theory-correlation", "bound", "theory-ratio"):
        assert "not converged" in words(made[name])
        assert "not converged" not in words(clean[name])
    assert "not converged" in words(clean["theory-pruned"]), "some eigenvalue of a pruned network has not"


def test_an_eigenvalue_that_is_not_finite_has_failed_and_is_not_missing() -> None:
    made = made_theory()
    assert made.theory is not None
    made = with_theory(made, eigenvalue=with_nan(made.theory.eigenvalue, 2), converged=np.ones((2, 4)))
    notes = " ".join(theory_caveats(made))
    assert "λ is not finite for town 2: the network overflowed" in notes
    assert "No examples" not in notes
    assert "did not reach" not in notes
    assert [row["converged"].mean for row in rows_of(dense_table(made))] == ["yes", "yes", "NOT FINITE", "yes"]
    assert "no examples" not in theory_page(made)


def test_a_group_without_examples_is_named_by_its_size() -> None:
    made = made_theory()
    theory = made.theory
    numbers = {n: with_nan(getattr(theory, n), 2) for n in ("gradient_norm", "eigenvalue", "residual", "observed")}
    made = with_theory(made, **numbers, converged=np.array([[1, 1, 0, 1]] * 2))
    made = replace(made, group_sizes=made.group_sizes | {"train": [400, 400, 0, 400]})
    notes = " ".join(theory_caveats(made))
    assert "No examples on the train split, so no gradients and no curvature: town 2." in notes
    assert "not finite" not in notes
    assert "did not reach" not in notes
    row = rows_of(dense_table(made))[2]
    assert (row["n"], row["converged"].mean, row["λ(H)"]) == ("0", "no examples", Cell("–"))


def test_nothing_finite_gives_no_nan_and_no_warning(tmp_path) -> None:
    made = made_theory()
    names = ("gradient_norm", "overall_gradient_norm", "eigenvalue", "residual", "margin", "closeness", "distance",
             "first_order", "second_order", "observed")  # fmt: skip
    nothing = {name: np.full(getattr(made.theory, name).shape, np.nan) for name in names}
    made = with_theory(made, **nothing, converged=np.zeros((2, 4)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        texts = theory_sentences(made) + theory_caveats(made)
        page = render_page("theory-page", made, ENVIRONMENT, tmp_path)
        page += render_page("report", made, ENVIRONMENT, tmp_path)
    page = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"\bnan\b", " ".join(texts) + page, re.IGNORECASE)
    assert "λ is not finite for town 0, town 1, town 2, town 3" in page
    assert "cannot be compared with the harm" in page


@pytest.mark.parametrize(
    ("converged", "third", "reason"),
    [
        (1, 0.5, "Where it fails, the third-order remainder that the theorem leaves open is why."),
        (0, 0.5, "Of the 16 where it fails, in 16 λ(H) has not converged"),
        (1, -0.5, "in 16 the reason is unknown"),
    ],
)
def test_why_the_bound_fails_is_what_was_measured(converged, third, reason) -> None:
    """All 16 cases fail: by construction for the one reason, for the other, or for neither."""
    made = made_theory()
    assert made.theory is not None
    observed = np.full(made.theory.observed.shape, 9.0) + np.linspace(0, 0.1, 4)
    made = with_theory(
        made, observed=observed, first_order=observed - third, second_order=0 * observed,
        gradient_norm=np.full((2, 4), 0.1), eigenvalue=np.full((2, 4), 0.1), converged=np.full((2, 4), converged),
    )  # fmt: skip
    assert reason in " ".join(theory_sentences(made))


@pytest.mark.parametrize(
    "make",
    [spectra, member_gradients, boundary_distances, layer_attribution, layer_sparsities],
    ids=lambda m: m.__name__,
)
def test_tables_of_the_details_show_the_seeds(make) -> None:
    section = make(made_theory())
    assert section is not None
    for table in section.tables:
        for row in table.rows:
            assert any(isinstance(cell, Cell) and cell.seeds for cell in row[1:])


def test_each_predictor_names_an_order_beside_the_observed_one() -> None:
    """In the results made by hand the harm rises with the group's number, and so does ‖g‖; λ falls."""
    rows = rows_of(predicted_orders(made_theory()).tables[0])
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
    made = made_theory()
    closeness = np.array([[0.1, 0.4, 0.2, 0.4], [0.1, 0.4, 0.2, 0.4]])[:, order]
    names = [made.group_names[g] for g in order]
    made = replace(with_theory(made, closeness=closeness), group_names=names)
    rows = rows_of(predicted_orders(made).tables[0])
    row = next(row for row in rows if row["predictor"] == "closeness to the boundary")
    assert set(row["first"].split(" or ")) == {"town 1", "town 3"}
    assert row["in seeds"] == "2 of 2"
    assert [set(level.split(" = ")) for level in row["the whole order"].split(" > ")] == [
        {"town 1", "town 3"}, {"town 2"}, {"town 0"},
    ]  # fmt: skip


def test_the_miss_of_the_second_order_value_is_that_at_the_headline() -> None:
    made = made_theory()
    theory = made.theory
    assert theory is not None
    first = theory.observed - theory.second_order - np.array([0.5, 0.125])[:, None, None]
    sentence = next(s for s in theory_sentences(with_theory(made, first_order=first)) if "misses" in s)
    assert "At 90 %" in sentence
    assert "by 0.125 nats" in sentence


def test_scores_of_predictors_show_the_seeds() -> None:
    row = prediction_scores(made_theory()).tables[0].rows[0]
    assert row[1:3] == (Cell("+1.00", seeds="+1.00, +1.00"),) * 2


@pytest.mark.parametrize("lost", [(3,), (0, 1, 2, 3)])
def test_a_split_over_layers_that_is_nowhere_finite_is_passed_over(lost) -> None:
    """The loss may overflow on the way to a pruned network whose own loss is finite."""
    made = made_theory()
    assert made.measures is not None
    found = made.measures["attribution"]
    found["path"] = with_nan(np.array(found["path"]).swapaxes(2, 3), *lost).swapaxes(2, 3).tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        section = layer_attribution(made)
        figures_in(made, THEORY)
    assert section is not None
    if len(lost) == 4:
        assert (section.tables, section.figures) == ([], [])
        assert texts_of(section) == "No group has a finite harm to split."
    else:
        assert section.tables[0].caption.startswith("town 2 at 90 %")


def ranked(groups, noise, seed=0):
    """A test of three predictors of which the first is the harm itself, with noise."""
    rng = np.random.default_rng(seed)
    observed = np.arange(float(groups)) + np.zeros((4, 1))
    predictors = np.stack([observed + noise * rng.normal(size=(4, groups)), *rng.normal(size=(2, 4, groups))])
    return permutation_test(predictors, observed)


def test_a_predictor_predicts_only_where_the_adjusted_test_says_so() -> None:
    sure = ranked(6, 0.1)
    assert sure.adjusted_p[0] < 0.05
    assert "gradient norm ‖g‖ predicts the order of the groups" in ranking_words(sure, "harm")
    assert "over groups" not in ranking_words(sure, "harm"), "six groups have no interval"
    assert "over groups)" in ranking_words(ranked(12, 0.5), "harm")
    four = ranked(4, 0.0)
    assert (four.correlation[0], four.chance) == (pytest.approx(1), pytest.approx(1, abs=0.3))
    weak = ranked(5, 100)
    assert weak.adjusted_p.min() > 0.05
    words = ranking_words(weak, "harm")
    assert words.startswith("None of the 3 predictors")
    assert f"{np.nanmax(weak.correlation):.2f}" in words
    assert f"chance alone reaches {weak.chance:.2f}" in words


def test_predictors_are_tested_by_loss_and_where_audited_by_accuracy() -> None:
    made = made_theory()
    assert made.theory is not None
    s = int(np.argmax(made.theory.sparsities))
    drop = made.audit(made.network("pruned", float(made.theory.sparsities[s])), "test").impact.accuracy_drop
    on_test = with_theory(made, split="test")
    by_accuracy = predictor_test(on_test, s, np.asarray(drop))
    assert ranking_words(by_accuracy, "the drop in accuracy") in " ".join(theory_sentences(on_test))
    assert "the drop in accuracy" not in " ".join(theory_sentences(made)), "the training split was not audited"

"""The sections of the theory in detail, on results made by hand."""

from dataclasses import replace

import numpy as np
import pytest
from made_results import made_results, made_theory
from sections import figures_in, rows_of, texts_of, value_of

from jaxprune.quantities import Cell
from jaxprune.reporting import predictors
from jaxprune.reporting.reports import THEORY, THEORY_DETAILS, render_page, theory_details
from jaxprune.reporting.sections import predictions
from jaxprune.reporting.sections import statements as statement_sections
from jaxprune.reporting.sections.boundary import curvature as output_curvature
from jaxprune.reporting.sections.gradients import cosines as gradient_cosines
from jaxprune.reporting.sections.gradients import members as member_gradients
from jaxprune.reporting.sections.layers import attribution as layer_attribution
from jaxprune.reporting.sections.layers import sparsities as layer_sparsities
from jaxprune.reporting.sections.paper_figures import pruned as pruned_networks
from jaxprune.reporting.sections.spectra import density as spectral_density
from jaxprune.reporting.sections.spectra import ends as spectra
from jaxprune.reporting.sections.statements import cases as statement_cases
from jaxprune.reporting.sections.statements import counts as statements

FIGURES = {
    "theory-sizes", "theory-causes", "theory-correlation", "theory-pruned", "theory-cosines", "theory-density",
    "theory-attribution", "theory-ratio", "theory-scores",
}  # fmt: skip


def without(*names: str):
    """The made results without some measures."""
    made = made_theory()
    assert made.measures is not None
    return replace(made, measures={name: values for name, values in made.measures.items() if name not in names})


def test_every_figure_is_drawn() -> None:
    assert set(figures_in(made_theory(), THEORY)) == FIGURES


@pytest.mark.parametrize("part", ["spearman", "regret"])
def test_a_score_that_no_predictor_has_is_not_drawn(part, monkeypatch) -> None:
    """As with fewer than three groups, which have no rank correlation."""
    made = made_theory()
    known = predictors.predictor_scores(made)
    missing = {name: score._replace(**{part: np.full_like(score.regret, np.nan)}) for name, score in known.items()}
    monkeypatch.setattr(predictions, "predictor_scores", lambda _: missing)
    figure = predictions.scores(made).figures[0].draw()
    assert figure is not None
    assert len(figure.axes) == 1


def test_without_measures_there_are_no_details() -> None:
    assert theory_details(replace(made_theory(), measures=None)) is None
    assert theory_details(made_results(theory=False)) is None


def test_a_measure_that_was_not_taken_has_no_section() -> None:
    every = [make(made_theory()) for make in THEORY_DETAILS]
    assert None not in every
    few = [make(without("cosines", "spectra", "density", "examples", "distances", "outputs", "attribution", "pruned"))
           for make in THEORY_DETAILS]  # fmt: skip
    assert sum(section is None for section in few) == 8


def test_statements_are_counted_by_their_assumptions() -> None:
    table = statements(made_theory()).tables[0]
    assert table.headings == (
        "statement", "holds in", "median ratio of the sides", "guaranteed by its assumptions", "failed assumptions"
    )  # fmt: skip
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["Theorem 2, corrected, any number of labels"] == ("8 of 8", "3.00", "8 cases, holds in all", "–")
    assert rows["Theorem 2 as printed"] == ("0 of 8", "0.500", "none", "8 cases: f - y is positive")
    assert rows["Proposition 1"] == (
        "24 of 24", "2.00", "none", "24 cases: there are exactly two groups; 12 cases: the whole loss is stationary"
    )  # fmt: skip
    assert str(rows["Corollary 1, corrected"][0]).endswith("of 8")


def test_every_case_has_both_sides_their_ratio_its_assumptions_and_what_follows() -> None:
    made = made_theory()
    assert made.theory is not None
    [table] = statement_cases(made).tables
    rows = {(row["statement"], row["case"]): row for row in rows_of(table)}
    assert len(rows) == len(table.rows) == 3 * 2 * 4 + 4 + 12 + 3 * 4
    pair = rows["Proposition 1", "town 1, town 2"]
    assert (value_of(pair["left side"]), value_of(pair["right side"]), pair["ratio"]) == (1, 2, "2.00")
    assert pair["assumptions"].count("not met") == 2
    assert "there are exactly two groups;" in pair["assumptions"]
    assert pair["assumptions"].endswith("the whole loss is stationary (1 of 2)")
    assert (pair["holds"], pair["what follows"]) == ("2 of 2", "holds, but is not guaranteed")
    printed = rows["Theorem 2 as printed", "town 3"]
    assert (printed["holds"], printed["what follows"]) == ("0 of 2", "fails, an assumption is not met")
    first = rows["Theorem 1, without remainder", "90 %, town 3"]
    assert value_of(first["left side"]) == pytest.approx(made.theory.observed[1, :, 3].mean(), rel=0.005)
    assert value_of(first["right side"]) == pytest.approx(made.theory.bound[1, :, 3].mean(), rel=0.005)
    assert ("Corollary 1, corrected", "50 % to 90 %, town 0") in rows


def test_groups_that_are_named_as_examples_keep_their_cases() -> None:
    made = replace(made_theory(), group_names=[f"example {i}" for i in range(4)])
    cases = [row["case"] for row in rows_of(statement_cases(made).tables[0])]
    assert len(cases) == 3 * 2 * 4 + 4 + 12 + 3 * 4
    assert "example 1, example 2" in cases


def test_many_cases_are_one_which_is_not_called_an_example(monkeypatch) -> None:
    monkeypatch.setattr(statement_sections, "_MOST_CASES", 3)
    cases = {(row["statement"], row["case"]) for row in rows_of(statement_cases(made_theory()).tables[0])}
    assert ("Proposition 1", "the tightest of 12 cases") in cases
    assert ("Theorem 2 as printed", "the tightest of 4 cases") in cases


def test_masks_of_unknown_nesting_are_a_failed_assumption() -> None:
    for made, failed in ((without("pruned"), True), (made_theory(), False)):
        row = next(row for row in statements(made).tables[0].rows if row[0] == "Corollary 1, corrected")
        assert ("known to be nested" in str(row[-1])) == failed
        assert str(row[-1]).startswith("8 cases") == failed
        assert (row[-1] == "–") != failed


def test_examples_are_one_case_of_proposition_3() -> None:
    """That in which the sides are nearest, in each seed."""
    made = made_theory()
    assert made.measures is not None
    left = np.array([[0.1, 0.2, 0.05], [0.1, 0.15, 0.24]])
    third = {"left": left, "right": 0 * left + 0.25, "holds": left > 0, "assumed": left > 0, "assumptions": {}}
    made.measures["outputs"]["statements"]["Proposition 3"] = {
        name: getattr(value, "tolist", dict)() for name, value in third.items()
    }
    row = next(row for row in statement_cases(made).tables[0].rows if row[0] == "Proposition 3")
    assert row[1] == "the tightest of 3 examples"
    assert row[2] == Cell("0.220", seeds="0.200, 0.240")
    assert row[5:] == ("2 of 2", "all hold", "holds, as guaranteed")


def test_closeness_and_error_of_a_group() -> None:
    section = output_curvature(made_theory())
    assert section is not None
    row = rows_of(section.tables[0])[2]
    assert (row["group"], row["n"]) == ("town 2", "5")
    expected = {
        "closeness λ(diag p − ppᵀ)": 0.2, "error ‖p − y‖": 0.4, "‖∂z/∂θ‖₂": 5, "‖∇²z‖₂": 7, "λ(H) of these": 1,
        "its limit": 3,
    }  # fmt: skip
    assert {name: value_of(row[name]) for name in expected} == expected


def test_both_ends_of_the_spectrum_mark_what_has_not_converged() -> None:
    section = spectra(made_theory())
    assert section is not None
    [table] = section.tables
    rows = rows_of(table)
    assert ["not converged" in str(row["λ_max(Gauss-Newton)"]) for row in rows] == [False, False, True, False]
    assert [value_of(row["λ_min(H)"]) for row in rows] == [-1] * 4
    assert [value_of(row["tr(H)"]) for row in rows] == [12] * 4
    assert list(zip(*table.rows, strict=True))[2] == ("0.004",) * 4
    assert "4 of 4 groups" in texts_of(section)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (spectral_density, ["town 2 (8 %)"]),
        (layer_sparsities, ["at 1 of 2 sparsities", "At 1 of them the largest harm of any group is greater"]),
        (gradient_cosines, ["1 of 6 pairs", "town 2 and town 0 the most (-0.25)"]),
        (pruned_networks, ["‖g‖ rises for 4 of 4 groups and λ(H) falls for 4", "4 of 16 eigenvalues"]),
    ],
)
def test_numbers_of_the_sentences_are_computed(make, parts) -> None:
    text = texts_of(make(made_theory()))
    for part in parts:
        assert part in text


def test_members_of_a_group_are_compared_with_their_mean() -> None:
    section = member_gradients(made_theory())
    assert section is not None
    assert [row[-1] for row in section.tables[0].rows] == [Cell("2.0", seeds="2.0, 2.0")] * 4


def test_shares_of_the_density_are_in_its_table() -> None:
    section = spectral_density(made_theory())
    assert section is not None
    assert section.tables[0].rows == tuple((f"town {g}", f"{share} %", "0 %") for g, share in enumerate((1, 2, 8, 3)))


def test_the_tried_sparsities_of_the_layers() -> None:
    section = layer_sparsities(made_theory())
    assert section is not None
    rows = rows_of(section.tables[0])
    assert [(row["pruned"], row["group"], row["reached"]) for row in rows] == [
        ("50 %", "town 3", "50 %"), ("90 %", "town 0", "91 %"),
    ]  # fmt: skip
    assert [[value_of(row[name]) for name in ("its R", "its R, spared")] for row in rows] == [[0.4, 0.1], [0.4, 0.7]]
    assert [row["layers"] for row in rows] == [
        "first/kernel 50 %, last/kernel 0 %", "first/kernel 90 %, last/kernel 95 %"
    ]  # fmt: skip


def test_layers_go_from_the_largest_part() -> None:
    """Path, first order, and both orders, of the group hurt most."""
    made = made_theory()
    assert made.measures is not None
    found = made.measures["attribution"]
    path = np.array(found["path"])[1].mean(0)
    worst = int(np.argmax(path.sum(-1)))
    section = layer_attribution(made)
    assert section is not None
    rows = section.tables[0].rows
    order = np.argsort(-path[worst])
    assert [row[0] for row in rows] == [found["leaves"][i] for i in order]
    assert [row[1] for row in rows] == [row[2] for row in rows]
    assert [value_of(row[1]) for row in rows] == pytest.approx(path[worst, order], abs=5.1e-4)
    assert [value_of(row[3]) for row in rows] == pytest.approx(2 * path[worst, order], abs=5.1e-4)


def test_the_page_is_one_file(tmp_path) -> None:
    environment = {"jaxprune": "0", "time": "2026-01-01T00:00:00"}
    page = render_page("theory-page", made_theory(), environment, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{n}.{kind}" for n in FIGURES for kind in ("svg", "png")}
    assert page.count("data:image/svg+xml") == len(FIGURES)

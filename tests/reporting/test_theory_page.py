"""The theory's page: what `jaxprune theory` makes, from a config and from a run's folder, and what it says."""

import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxprune import config, pipeline
from jaxprune.errors import UserError
from jaxprune.pipeline.context import Context, Silent
from jaxprune.pipeline.experiment import resolve
from jaxprune.pipeline.laboratory import MEASURES, laboratory
from jaxprune.pipeline.stage import Workspace
from jaxprune.pipeline.theories import theorise, theory_stage
from jaxprune.reporting import laboratory_figures
from jaxprune.reporting.cells import Cell
from jaxprune.reporting.laboratory import chapter
from jaxprune.reporting.laboratory_figures import FIGURES, draw_theory
from jaxprune.reporting.results import Results

SMALL = """
name = "small"
seeds = 2

[data]
name = "synthetic"
sizes = [200, 60]
margins = [1.5, 0.4]
noise = [0.0]

[model]
hidden = [6]

[train]
epochs = 3

[prune]
sparsities = [0.5, 0.9]

[theory]
output_examples = 12
density_steps = 12
products = 8
max_iterations = 30
"""


def run(folder: Path, *measures: str, until: str = "theory") -> pipeline.RunResult:
    path = folder / "small.toml"
    path.write_text(SMALL)
    overrides = {"theory.measures": measures} if measures else {}
    return pipeline.run(config.load(str(path), overrides), folder / "out", until=until)


def results_of(folder: Path) -> Results:
    return Results.from_json(json.loads((folder / "out" / "theory.json").read_text()))


def stages(folder: Path) -> dict[str, int]:
    return {p.name.rsplit("-", 1)[0]: p.stat().st_mtime_ns for p in (folder / "out" / "stages").iterdir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a few measures, which are those without long compilations."""
    folder = tmp_path_factory.mktemp("theory")
    return folder, run(folder, "cosines", "distances", "attribution")


def test_the_page_is_whole_and_needs_no_other_file(finished):
    folder, result = finished
    assert result.made["report"] == folder / "out" / "theory.html"
    page = (folder / "out" / "theory.html").read_text()
    for section in chapter(results_of(folder)):
        assert section.title.replace("’", "’") in page
    figures = [s for s in chapter(results_of(folder)) if s.figure]
    assert page.count("data:image/svg+xml") == len(figures)
    assert not re.search(r'(src|href)="(?!data:|#)', page)


def test_figures_and_numbers_lie_at_the_top(finished):
    top = finished[0] / "out"
    drawn = {s.figure for s in chapter(results_of(finished[0])) if s.figure}
    files = {p.name for p in (top / "theory-figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
    heading, first = (top / "theory.csv").read_text().splitlines()[:2]
    assert heading == "seed,group,sparsity,quantity,value"
    assert first.startswith("0,")


def test_another_measure_leaves_what_is_measured(finished):
    folder, _ = finished
    before = stages(folder)
    run(folder, "cosines", "distances", "attribution", "examples")
    after = stages(folder)
    assert {name for name in after if before.get(name) != after[name]} >= {"theory-examples"}
    assert {name for name in before if before[name] != after[name]} <= {"theory-page"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [("examples", 10), ("tolerance", 0.1), ("max_iterations", 5), ("split", "test"), ("memory", 5), ("float64", True)],
)
def test_what_the_theory_is_measured_with_is_in_its_address(finished, setting, value):
    """Else numbers of other settings would be published under the new ones."""
    folder, _ = finished

    def address(**changed):
        settings = config.load(str(folder / "small.toml"), {f"theory.{n}": v for n, v in changed.items()})
        return theory_stage(Context(resolve(settings), None, Silent(), 1.0)).address

    assert address(**{setting: value}) != address()


@pytest.fixture(scope="module")
def in_float64(finished):
    """The same networks, measured in float64, to a tolerance that float32 cannot meet."""
    folder, _ = finished
    wide = {"theory.float64": True, "theory.tolerance": 1e-9, "theory.max_iterations": 200}
    settings = config.load(str(folder / "small.toml"), wide | {"theory.measures": ("cosines",)})
    context = Context(resolve(settings), Workspace(folder / "out"), Silent(), 1.0)
    return theorise(context), laboratory(context)


def test_the_theory_is_measured_in_float64_on_request(finished, in_float64):
    narrow, (wide, measured) = results_of(finished[0]).theory, in_float64
    assert np.all(wide["converged"])
    assert np.max(np.array(wide["residual"]) / np.array(wide["eigenvalue"])) < 1e-9
    np.testing.assert_allclose(wide["eigenvalue"], narrow.eigenvalue, rtol=1e-3)
    np.testing.assert_allclose(wide["first_order"], narrow.first_order, rtol=1e-3, atol=1e-5)
    cosines = np.array(measured["cosines"]["cosines"])
    assert np.max(np.abs(np.diagonal(cosines, axis1=1, axis2=2) - 1)) < 1e-14, "float32 would be off by 1e-7"
    assert not jax.config.jax_enable_x64, "what follows is in float32 again"


def test_a_run_can_be_given_in_place_of_its_config(finished):
    folder, _ = finished
    run(folder, "cosines", "distances", "attribution")
    settings = config.load(str(folder / "out" / "config.toml"), {})
    assert set(settings.theory.measures) == {"cosines", "distances", "attribution"}, "those of the last run"
    before = stages(folder)
    pipeline.run(settings, folder / "out", until="theory")
    after = stages(folder)
    assert {name for name in before if name != "theory-page" and before[name] != after[name]} == set()


def test_the_parts_of_the_layers_sum_to_the_harm_that_was_audited(finished):
    """Two ways to the same number: the path integral of the theory, and the audit's losses."""
    found = results_of(finished[0])
    path, observed = (np.array(found.laboratory["attribution"][name]) for name in ("path", "observed"))
    for i, s in enumerate(found.theory.sparsities):
        harm = found.audit("pruned", float(s), "train").impact.excessive_loss
        np.testing.assert_allclose(observed[i], harm, atol=1e-5)
        np.testing.assert_allclose(path[i].sum(-1), harm, rtol=0.01, atol=2e-5)  # though ReLU has kinks


def test_cosines_and_distances_are_what_they_are_called(finished):
    found = results_of(finished[0])
    cosines = np.array(found.laboratory["cosines"]["cosines"])
    np.testing.assert_allclose(np.diagonal(cosines, axis1=1, axis2=2), 1, atol=1e-5)
    np.testing.assert_allclose(cosines, cosines.swapaxes(1, 2), atol=1e-6)
    np.testing.assert_allclose(found.laboratory["distances"]["margin"], found.theory.margin, atol=1e-5)
    np.testing.assert_allclose(found.laboratory["distances"]["closeness"], found.theory.closeness, atol=1e-5)


def test_a_measure_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"theory\.measures"):
        run(tmp_path, "cosine")


@pytest.mark.slow
def test_every_measure_by_default(tmp_path):
    result = run(tmp_path)
    found = results_of(tmp_path)
    assert set(found.laboratory) == set(MEASURES)
    assert set(result.settings.theory.measures) == set(MEASURES)
    assert {s.figure for s in chapter(found) if s.figure} == set(FIGURES)
    ends = found.laboratory["spectra"]
    np.testing.assert_allclose(ends["largest"]["value"], found.theory.eigenvalue, rtol=5e-3)
    assert (np.array(ends["smallest"]["value"]) <= np.array(ends["largest"]["value"])).all()
    outputs = found.laboratory["outputs"]["statements"]
    assert np.all(outputs["Proposition 2"]["holds"])
    assert np.all(outputs["multiclass"]["holds"])
    sparing = found.laboratory["sparing"]
    assert (np.array(sparing["reached"]) >= found.theory.sparsities - 2e-3).all()


# --- the chapter, from values made by hand ----------------------------------------------------------------------------


def by_hand() -> Results:
    """Two seeds, four groups, two sparsities, every measure."""
    from test_pages import results

    made = results(harm=(0.1, 0.2, 0.3, 0.6), seeds=2, sparsities=(0.5, 0.9))
    r, g, s, rng = 2, 4, 2, np.random.default_rng(0)
    residual = {"residual": np.full((r, g), 0.004)}
    value = {"value": rng.uniform(1, 2, (r, g)).tolist(), "converged": [[True] * g] * r} | residual
    unfinished = value | {"converged": [[True, True, False, True]] * r}
    path = rng.uniform(0, 0.1, (s, r, g, 3))
    statement = {
        "left": np.ones((r, g)),
        "right": np.full((r, g), 3.0),
        "holds": np.ones((r, g)),
        "assumed": np.ones((r, g)),
        "boundary": np.full((r, g), 0.2),
        "output_eigenvalue": np.full((r, g), 7.0),
        "jacobian_norm": np.full((r, g), 5.0),
        "error": np.full((r, g), 0.4),
        "assumptions": {"the eigenvalue has converged": np.ones((r, g))},
    }
    failing = statement | {"right": np.full((r, g), 0.5), "holds": np.zeros((r, g)), "assumed": np.zeros((r, g)),
                           "assumptions": {"f - y is positive": np.zeros((r, g))}}  # fmt: skip
    pairs = np.where(np.eye(g, dtype=bool), np.nan, 1.0)[None].repeat(r, 0)
    opposed = np.full((g, g), 0.5)
    opposed[2, 0] = opposed[0, 2] = -0.25
    alone = {"there are exactly two groups": np.zeros(r), "the whole loss is stationary": np.array([0, 1])}
    laboratory = {
        "cosines": {"cosines": np.where(np.eye(g, dtype=bool), 1, opposed)[None].repeat(r, 0),
                    "statements": {"Proposition 1": {"left": pairs, "right": 2 * pairs, "holds": np.ones((r, g, g)),
                                                     "assumed": np.zeros((r, g, g)),
                                                     "assumptions": alone}}},
        "spectra": {"largest": value, "smallest": value | {"value": -np.ones((r, g))},
                    "gauss_newton": unfinished, "trace": np.full((r, g), 12.0), "trace_error": np.full((r, g), 0.5),
                    "products": 30},
        "density": {"grid": np.linspace(-1, 3, 50), "density": rng.uniform(0.1, 1, (g, 50)), "width": 0.1, "steps": 40,
                    "negative_share": np.zeros(g), "positive_share": np.array([0.01, 0.02, 0.08, 0.03])},
        "examples": {"mean_of_norms": 2 * np.asarray(made.theory.gradient_norm)},
        "distances": {n: rng.uniform(size=(r, g)) for n in ("margin", "closeness", "radius", "distance")},
        "outputs": {"counts": [5] * g, "statements": {"Proposition 2": statement, "multiclass": statement,
                                                      "printed": failing}},
        "attribution": {"leaves": ["first/bias", "first/kernel", "last/kernel"], "path": path,
                        "observed": path.sum(-1), "first_order": path, "second_order": path},
        "pruned": {"gradient_norm": rng.uniform(5, 6, (s, r, g)), "value": np.zeros((s, r, g)), "nested": [True],
                   "converged": np.ones((s, r, g)) - np.eye(g)[0]},
        "sparing": {"layers": ["first/kernel", "last/kernel"], "group": [3, 0], "allocation": [[0.5, 0.0], [0.9, 0.95]],
                    "reached": [0.5, 0.91], "harm": np.full((s, r, g), 0.4),
                    "spared_harm": np.stack([np.full((r, g), 0.1), np.full((r, g), 0.7)])},
    }  # fmt: skip
    plain = json.loads(json.dumps(laboratory, default=lambda a: a.tolist()).replace("NaN", "null"))
    return Results(**vars(made) | {"laboratory": plain})


def section(results, title):
    return next(s for s in chapter(results) if title in s.title)


def test_every_figure_is_drawn(tmp_path):
    assert draw_theory(by_hand(), tmp_path) == list(FIGURES)
    assert {p.name for p in tmp_path.iterdir()} == {f"{n}.{kind}" for n in FIGURES for kind in ("svg", "png")}


@pytest.mark.parametrize("part", ["spearman", "regret"])
def test_a_score_that_no_predictor_has_is_not_drawn(part, monkeypatch):
    """As with fewer than three groups, which have no rank correlation."""
    known = laboratory_figures.predictor_scores(by_hand())
    without = {name: score._replace(**{part: np.full_like(score.regret, np.nan)}) for name, score in known.items()}
    monkeypatch.setattr(laboratory_figures, "predictor_scores", lambda _: without)
    assert len(laboratory_figures.scores(by_hand()).axes) == 1


def test_without_measures_there_is_no_chapter(tmp_path):
    made = Results(**vars(by_hand()) | {"laboratory": None})
    assert chapter(made) == []
    assert draw_theory(made, tmp_path) == []


def test_statements_are_counted_by_their_assumptions():
    rows = {row[0]: row[1:] for row in section(by_hand(), "checked").rows}
    assert rows["Theorem 2, corrected, any number of labels"] == ("8 of 8", "3.00", "in 8 it has to, and does", "–")
    printed = ("0 of 8", "0.500", "in none it has to", "in 8 it is not so that f - y is positive")
    assert rows["Theorem 2 as printed"] == printed
    assert rows["Proposition 1"][:3] == ("24 of 24", "2.00", "in none it has to")
    assert rows["Proposition 1"][3] == (
        "in 24 it is not so that there are exactly two groups; in 12 it is not so that the whole loss is stationary"
    )
    assert rows["Corollary 1, corrected"][0].endswith("of 8")


def test_every_case_has_both_sides_their_ratio_its_assumptions_and_what_follows():
    found = section(by_hand(), "Every statement")
    rows = {row[:2]: dict(zip(found.headings, row, strict=True)) for row in found.rows}
    assert len(rows) == len(found.rows) == 3 * 2 * 4 + 4 + 12 + 3 * 4
    pair = rows["Proposition 1", "town 1, town 2"]
    assert (pair["left side"].mean, pair["right side"].mean, pair["ratio"]) == ("1.00", "2.00", "2.00")
    assert (
        pair["assumptions"]
        == "not so that there are exactly two groups; not so that the whole loss is stationary (1 of 2)"
    )
    assert (pair["holds"], pair["what follows"]) == ("2 of 2", "holds, but is not guaranteed")
    printed = rows["Theorem 2 as printed", "town 3"]
    assert (printed["holds"], printed["what follows"]) == ("0 of 2", "fails, but is not guaranteed")
    made = by_hand()
    first = rows["Theorem 1, without remainder", "90 %, town 3"]
    assert float(first["left side"].mean) == pytest.approx(made.theory.observed[1, :, 3].mean(), rel=0.005)
    assert float(first["right side"].mean) == pytest.approx(made.theory.bound[1, :, 3].mean(), rel=0.005)
    assert ("Corollary 1, corrected", "50 % to 90 %, town 0") in rows


def test_masks_that_were_not_looked_at_are_not_said_to_be_other_than_nested():
    made = by_hand()
    unseen = Results(**vars(made) | {"laboratory": {n: v for n, v in made.laboratory.items() if n != "pruned"}})
    row = next(row for row in section(unseen, "checked").rows if row[0] == "Corollary 1, corrected")
    assert row[-1] == "in 8 it is not so that the masks are known to be nested (the measure “pruned” tells)"
    row = next(row for row in section(made, "checked").rows if row[0] == "Corollary 1, corrected")
    assert row[-1] == "–"


def test_examples_are_one_case_of_proposition_3():
    """That in which the sides are nearest, in each seed."""
    made = by_hand()
    left = np.array([[0.1, 0.2, 0.05], [0.1, 0.15, 0.24]])
    third = {"left": left, "right": 0 * left + 0.25, "holds": left > 0, "assumed": left > 0, "assumptions": {}}
    made.laboratory["outputs"]["statements"]["Proposition 3"] = {
        name: getattr(value, "tolist", dict)() for name, value in third.items()
    }
    row = next(row for row in section(made, "Every statement").rows if row[0] == "Proposition 3")
    assert row[1] == "the tightest of 3 examples"
    assert row[2] == Cell("0.220", seeds="0.200, 0.240")
    assert row[5:] == ("2 of 2", "all hold", "holds, as guaranteed")


def test_what_bends_the_loss_of_a_group_is_shown():
    found = section(by_hand(), "Closeness and error")
    row = dict(zip(found.headings, found.rows[2], strict=True))
    assert row["group"] == "town 2"
    factors = {"closeness λ(diag p − ppᵀ)": "0.200", "error ‖p − y‖": "0.400", "‖∂z/∂θ‖₂": "5.00", "‖∇²z‖₂": "7.00"}
    assert {name: row[name].mean for name in factors} == factors
    assert (row["λ(H) of these"].mean, row["its limit"].mean) == ("1.00", "3.00")


def test_what_has_not_converged_is_marked():
    found = section(by_hand(), "Both ends")
    rows = [dict(zip(found.headings, row, strict=True)) for row in found.rows]
    assert ["not converged" in str(row["λ_max(Gauss-Newton)"]) for row in rows] == [False, False, True, False]
    assert [row["residual"] for row in rows] == ["0.004"] * 4
    assert section(by_hand(), "Both ends").sentences[0].startswith("The Hessians of 4 of 4 groups are indefinite")


def test_the_sentences_are_computed():
    made = by_hand()
    assert "greatest for town 2 (8 %)" in section(made, "Where the eigenvalues").sentences[0]
    assert "at 1 of 2 sparsities" in section(made, "spare").sentences[0]
    assert "At 1 of them the largest harm of any group is greater" in section(made, "spare").sentences[0]
    assert "1 of 6 pairs" in section(made, "against each other").sentences[0]
    assert "town 2 and town 0 the most (-0.25)" in section(made, "against each other").sentences[0]
    assert "‖g‖ rises for 4 of 4 groups and λ(H) falls for 4" in section(made, "How pruning moves").sentences[0]
    assert [row[-1] for row in section(made, "pull the same way").rows] == [Cell("2.0", seeds="2.0, 2.0")] * 4


def test_eigenvalues_of_pruned_networks_that_have_not_converged_are_counted():
    assert section(by_hand(), "How pruning moves").sentences[1].startswith("4 of 16 eigenvalues have not converged")


def test_the_layers_are_told_by_order():
    """Path, first order, and both orders, of the group hurt most, the largest part first."""
    made = by_hand()
    found = made.laboratory["attribution"]
    path = np.array(found["path"])[1].mean(0)
    worst = int(np.argmax(path.sum(-1)))
    rows = section(made, "Which layers").rows
    order = np.argsort(-path[worst])
    assert [row[0] for row in rows] == [found["leaves"][i] for i in order]
    assert [row[1] for row in rows] == [row[2] for row in rows]
    assert [row[1].mean for row in rows] == [f"{path[worst, i]:+.3f}" for i in order]
    assert [row[3].mean for row in rows] == [f"{2 * path[worst, i]:+.3f}" for i in order]


def test_results_with_a_laboratory_survive_json():
    made = by_hand()
    after = Results.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
    assert after.laboratory == made.laboratory
    assert [s.rows for s in chapter(after)] == [s.rows for s in chapter(made)]

"""The sections, tables and figures of a run's page, on results made by hand, and the page as HTML."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made_results import ENVIRONMENT, made_results, with_further, with_tests, with_theory
from sections import figures_in, rows_of, texts_of, value_of

from jaxprune.files import safe_name
from jaxprune.reporting.page import Folded
from jaxprune.reporting.predictors import predictors
from jaxprune.reporting.reports import PAGES, RUN, render_page, sections_of
from jaxprune.reporting.sections.answer import answer_tables, breaks, verdict, who_is_hurt
from jaxprune.reporting.sections.answer import section as answer
from jaxprune.reporting.sections.caveats import audit_caveats, theory_caveats
from jaxprune.reporting.sections.groups import section as groups
from jaxprune.reporting.sections.mitigation import after_retraining, what_helps
from jaxprune.reporting.sections.mitigation import section as mitigation
from jaxprune.reporting.style import save_figure
from jaxprune.results import Results
from jaxprune.theory import rank_correlation


def page_of(results: Results, folder=None) -> str:
    return render_page("report", results, ENVIRONMENT, folder)


def text_of(page: str) -> str:
    """The page without its pictures."""
    return re.sub(r'src="data:[^"]*"', "", page)


def test_tables_of_the_answer_have_every_group_hurt_most_first() -> None:
    made = made_results(harm=(0.1, 0.5, 0.2))
    tests = made.tests("pruned", 0.9)
    assert tests is not None
    tables = {table.caption.partition(",")[0]: table for table in answer_tables(made)}
    measures = {"Accuracy lost": ("accuracy", 100), "Loss gained": ("loss", 1), "Decisions changed": ("flips", 100)}
    assert set(tables) == set(measures)
    for title, (measure, scale) in measures.items():
        table = tables[title]
        harm, rows = tests.harm[measure], rows_of(table)
        assert table.from_worst
        for row, g in zip(rows, np.argsort(-harm.change), strict=True):
            assert (row["group"].mean, row["people"]) == (f"town {g}", "100")
            assert (row["group"].mark == "worse") == bool(harm.clear(0.05)[g])
            assert value_of(row["change"]) == pytest.approx(scale * harm.change[g], abs=0.0501 if scale > 1 else 6e-4)
            assert value_of(row["beyond the rest"]) == pytest.approx(scale * harm.excess[g], abs=0.051)


def test_measures_that_disagree_are_both_in_the_main_sentence() -> None:
    """The group that gains most loss loses no decisions, and another loses decisions alone."""
    made = made_results(harm=(0.1, 0.5))
    tests = made.tests("pruned", 0.9)
    assert tests is not None
    accuracy = tests.harm["accuracy"]
    swapped = accuracy._replace(change=accuracy.change[::-1], excess=accuracy.excess[::-1], p=accuracy.p[::-1])
    first = who_is_hurt(with_tests(made, "pruned", 0.9, harm={"accuracy": swapped}))[0]
    assert "town 0 most by accuracy" in first
    assert "town 1 most by loss" in first


@pytest.mark.parametrize("measure", ["loss", "accuracy"])
def test_nobody_is_named_by_a_measure_that_hurts_nobody(measure) -> None:
    made = made_results(harm=(0.1, 0.5))
    tests = made.tests("none", 0.9)
    assert tests is not None
    gained = tests.harm[measure]._replace(change=tests.harm[measure].change - 1)
    first = after_retraining(with_tests(made, "none", 0.9, harm={measure: gained}))[0]
    assert first.count("town 1") == 1
    assert f"by {'accuracy' if measure == 'loss' else 'loss'}" in first
    assert f"by {measure} (" not in first


def test_where_networks_stop_working_is_in_the_answer() -> None:
    made = made_results(sparsities=(0.5, 0.7, 0.9))
    assert "90 %" in breaks(made)[0]
    tests = made.tests("pruned", 0.7)
    assert tests is not None
    lost = np.array([[0, 0]] * 2 + [[0, 1]] + [[0, 0]] * 2)
    broken = tests.working._replace(works=np.array([1, 1, 0, 1, 1], bool), lost=lost)
    [sentence] = breaks(with_tests(made, "pruned", 0.7, working=broken))
    for part in ("70 %", "1 of 5 seeds", "town 1"):
        assert part in sentence


def test_one_seed_describes_its_network_alone() -> None:
    made = made_results(seeds=1)
    assert any("1 seed" in sentence for sentence in verdict(made))
    assert len(what_helps(made)) == 1


def test_sentences_of_the_answer_have_few_numbers() -> None:
    """At most three numbers in a sentence; p and the level of a sparsity count."""
    made = made_results(harm=(0.1, 0.5, 0.2), fair=(0.28, 0.30, 0.29))
    texts = [*who_is_hurt(made), *verdict(made), *breaks(made), *after_retraining(made), *what_helps(made)]
    for sentence in (part for text in texts for part in re.split(r"(?<=[a-z)])\. ", re.sub(r"town \d", "town", text))):
        assert len(re.findall(r"\d[\d.,]*", sentence)) <= 3, sentence


def test_a_constrained_network_helps_only_where_it_narrows_a_gap() -> None:
    helps = what_helps(made_results(fair=(0.28, 0.32)))
    assert sum("“Fair after pruning” narrows" in sentence for sentence in helps) == 3
    fails = what_helps(made_results(fair=(0.0, 0.9)))
    assert not any("“Fair after pruning” narrows" in sentence for sentence in fails)


def test_the_table_of_all_networks() -> None:
    made = made_results(harm=(0.1, 0.5), noise=0.0)
    table = mitigation(made).tables[0]
    rows = rows_of(table)
    assert [(row["pruned"], row["model"]) for row in rows[:5]] == [
        ("0 %", "Dense"), ("50 %", "Pruned, not retrained"), ("50 %", "No mitigation"), ("50 %", "Fair after pruning"),
        ("90 %", "Pruned, not retrained"),
    ]  # fmt: skip
    assert table.ruled == {1, 4}
    last = {name: value_of(cell) for name, cell in rows[-1].items() if name not in ("pruned", "model")}
    assert last == pytest.approx(
        {"accuracy": 81.0, "worst group": 75.0, "accuracy spread": 12.0, "loss": 0.6, "loss gap": 0.2, "largest R": 0.5,
         "spread ξ": 0.4, "largest ψ": 6.0}, abs=1e-9
    )  # fmt: skip


def test_the_tables_of_the_groups() -> None:
    made = made_results(harm=(0.1, 0.5), noise=0.0)
    folded = [part for part in groups(made).contents if isinstance(part, Folded)]
    assert [(part.summary, part.open) for part in folded] == [("50 % pruned", False), ("90 % pruned", True)]
    table = groups(made).tables[1]
    headings = ("group", "n", "accuracy %", "loss", "R", "p of R", "ψ", "p of ψ", "R", "R")
    assert table.headings == headings
    assert table.above == (
        ("", 1), ("", 1), ("Dense", 2), ("Pruned, not retrained", 4), ("No mitigation", 1), ("Fair after pruning", 1)
    )  # fmt: skip
    tests = made.tests("pruned", 0.9)
    assert tests is not None
    row = table.rows[1]
    assert row[:2] == ("town 1", "100")
    numbers = [value_of(cell) for cell in (row[2], row[3], row[4], row[6], row[8], row[9])]
    assert numbers == pytest.approx([90.0, 0.3, 0.5, 6.0, 0.5, 0.5])
    assert str(row[5]) == "< 0.001" if tests.harm["loss"].p[1] < 0.001 else True
    assert tests.harm["loss"].p[1] < 0.05


def test_every_further_grouping_is_a_subsection(tmp_path) -> None:
    made = with_further(made_results())
    section = groups(made)
    file = safe_name("sex<>")
    assert [figure.name for figure in section.figures] == ["harm", "accuracy", f"{file}-answer", f"{file}-harm"]
    named = {str(row[0]) for table in section.tables for row in table.rows}
    assert named == {"town 0", "town 1", "f", "m", "x"}
    page = page_of(made, tmp_path)
    assert ">By sex&lt;&gt;</h3>" in page
    assert "the test split lacks x" in page
    assert not re.search(r"\b(nan|inf)\b", text_of(page), re.IGNORECASE)


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        (1, "1 seed is too few for intervals over seeds (4 are needed)"),
        (2, "2 seeds are too few for intervals over seeds (4 are needed): points show each seed."),
        (3, "3 seeds are too few"),
        (4, ""),
    ],
)
def test_few_seeds_have_no_intervals_and_one_line_says_why(seeds, line) -> None:
    page = page_of(made_results(seeds=seeds))
    assert page.count("too few for intervals") == bool(line)
    assert line in page
    assert ('class="half"' in page) == (not line)
    assert ('title="seeds: ' in page) == (seeds in (2, 3))
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def seed_points(axes) -> int:
    """The small points that show seeds."""
    return sum(
        len(points.get_offsets()) for points in axes.collections if hasattr(points, "get_sizes")
        and len(points.get_sizes()) and points.get_sizes()[0] == 11
    )  # fmt: skip


@pytest.mark.parametrize(("seeds", "points"), [(1, 0), (2, 2), (3, 3), (4, 0)])
def test_few_seeds_are_points_in_the_figures(seeds, points) -> None:
    """Two sparsities of two retrained networks, and two groups in each panel of the causes but the first."""
    figures = figures_in(made_results(seeds=seeds), RUN)
    assert [seed_points(axes) for axes in figures["mitigation"].axes] == [points * 2 * 2] * 3
    assert [seed_points(axes) for axes in figures["causes"].axes] == [0] + [points * 2] * 4


@pytest.mark.parametrize("seeds", [2, 5])
def test_axes_of_accuracies_stay_within_0_and_100_percent(seeds) -> None:
    """Accuracies of 90 % and, in one seed, 0 %: Student's interval alone would reach from below 0 to above 1."""
    made = made_results(seeds=seeds, noise=0.0)
    for audit in made.audits.values():
        audit.metrics.accuracy[:] = 1
        audit.metrics.overall_accuracy[:] = 1
        audit.metrics.accuracy[0, 0] = audit.metrics.overall_accuracy[0] = 0
    figures = figures_in(made, RUN)
    across, (overall, spread, _) = figures["accuracy"].axes[0], figures["mitigation"].axes
    for limits in (across.get_xlim(), overall.get_ylim(), spread.get_ylim()):
        assert 0 <= min(limits) < max(limits) <= 1


def test_predictors_have_their_sign() -> None:
    """In the made results the gradient norm rises with the harm and the eigenvalue falls with it."""
    made = made_results(harm=(0.1, 0.2, 0.5))
    assert made.theory is not None
    rho = {name: rank_correlation(values, made.theory.observed) for name, values in predictors(made).items()}
    np.testing.assert_allclose(rho["gradient_norm"], 1)
    np.testing.assert_allclose(rho["eigenvalue"], -1)
    assert np.isnan(rho["smallness"]).all(), "all groups are equally large"


def test_caveats_name_broken_networks_empty_layers_and_eigenvalues_not_converged() -> None:
    made = made_results(harm=(1.2, 1.4))
    changed = with_theory(made, converged=np.zeros((5, 2)), eigenvalue=-np.ones((5, 2)))
    layers = [{"path": "dense_0/kernel", "size": 40, "kept": [4, 4, 0, 4, 4]}]
    networks = tuple(replace(n, layers=layers) if n.key == "pruned 0.9" else n for n in made.networks)
    changed = replace(changed, networks=networks)
    notes = audit_caveats(changed) + theory_caveats(changed)
    [empty] = [note for note in notes if "dense_0/kernel" in note]
    assert empty.startswith("Pruned, not retrained at 90 %")
    for part in ("no longer work", "10 of 10 eigenvalues", "negative"):
        assert sum(part in note for note in notes) == 1
    assert [note for note in audit_caveats(made) if "dense_0/kernel" in note] == []
    assert audit_caveats(made_results()) == []
    assert audit_caveats(replace(made_results(), warnings=["town 1 is small"])) == ["Town 1 is small."]


@pytest.mark.parametrize(
    "made",
    [
        made_results(),
        made_results(harm=np.linspace(0, 1, 12)),
        made_results(seeds=1, sparsities=(0.9,)),
        made_results(harm=(-0.2, -0.1)),
        made_results(theory=False),
    ],
    ids=["two groups", "twelve groups", "one seed and sparsity", "pruning helps", "no theory"],
)
def test_every_figure_and_the_page_for_every_shape_of_results(made, tmp_path) -> None:
    every = {"answer", "harm", "accuracy", "mitigation", "multipliers", "causes", "bound"}
    missing = {"causes", "bound"} if made.theory is None else {"bound"} if made.theory.observed.max() < 0 else set()
    page = page_of(made, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}.{kind}" for name in every - missing for kind in ("svg", "png")
    }
    assert page.count("<img ") == len(every - missing)
    assert not re.search(r"\b(nan|inf)\b", text_of(page), re.IGNORECASE)
    for group in made.group_names:
        assert group in page
    assert [section.anchor for section in sections_of(made, RUN)] == [
        "answer", "run", "groups", "mitigation", "theory"
    ]  # fmt: skip


def test_results_without_retraining_have_a_page_too() -> None:
    made = made_results(seeds=2)
    bare = replace(made, networks=tuple(n for n in made.networks if n.role != "retrained"))
    assert after_retraining(bare) == what_helps(bare) == []
    assert "mitigation" not in figures_in(bare, RUN)
    assert not re.search(r"\b(nan|inf)\b", page_of(bare), re.IGNORECASE)


def test_the_short_table_has_the_headline() -> None:
    made = made_results(harm=(0.1, 0.5), noise=0.0)
    short = PAGES["report"].short(made)
    assert short is not None
    assert [row[0] for row in short.rows] == ["Dense", "Pruned, not retrained", "No mitigation", "Fair after pruning"]
    assert [str(row[1]).split()[0] for row in short.rows] == ["90.0", "81.0", "81.0", "81.0"]
    assert str(short.rows[1][4]).startswith("town 1 -15")
    assert str(short.rows[1][5]).startswith("town 1 +0.5")
    assert short.rows[0][4:] == ("", "")


def test_names_are_escaped_in_the_page() -> None:
    page = page_of(replace(made_results(), group_names=["<b>bold</b>", "x & y"]))
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_figures_are_the_same_bytes_each_time(tmp_path) -> None:
    made = made_results()
    figure = next(figure for figure in groups(made).figures if figure.name == "harm")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_figure("harm", figure.draw, tmp_path / folder)
    assert (tmp_path / "a" / "harm.svg").read_bytes() == (tmp_path / "b" / "harm.svg").read_bytes()


def test_epochs_and_shares_in_the_experiment() -> None:
    made = made_results(sparsities=(0.5, 0.995, 0.9996))
    page = page_of(made)
    for share in ("50", "99.5", "99.96"):
        assert f"{share}\u202f% pruned</summary>" in page
    assert "trained for 1 epoch with" in page
    assert "retrained for 2 epochs with" in page


def test_the_answer_has_its_parts() -> None:
    section = answer(made_results(harm=(0.1, 0.5, 0.2)))
    assert [figure.name for figure in section.figures] == ["answer"]
    assert len(section.tables) == 3
    assert texts_of(section).startswith("Pruning 90 % of the weights hurts town 1 most")

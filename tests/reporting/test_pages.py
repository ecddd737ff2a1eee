"""Tables, findings, figures and the page, on results made by hand, whose right reading is known."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from jaxprune.auditing import (
    GroupCodes,
    GroupMetrics,
    Outcomes,
    SamplingError,
    changes_of,
    measure_harm,
    measure_spreads,
)
from jaxprune.auditing.working import judge_networks
from jaxprune.files import safe_name
from jaxprune.reporting import findings, theory_findings
from jaxprune.reporting.answer import answer_of, headline_sparsity
from jaxprune.reporting.answer_section import answer_text, harm_rows
from jaxprune.reporting.figures import FIGURES, draw
from jaxprune.reporting.harm_tests import HarmTests
from jaxprune.reporting.page import render_page
from jaxprune.reporting.results import Audited, Results, TheoryResults
from jaxprune.reporting.style import save_figure
from jaxprune.reporting.tables import groups_rows, overall_figures, summary_rows, write_csv
from jaxprune.theory import rank_correlation

SETTINGS = {
    "name": "made",
    "seeds": 5,
    "data": {"name": "made", "group": "town", "label": "y"},
    "model": {"name": "mlp", "hidden": [4], "channels": None},
    "train": {"epochs": 1, "optimizer": "adam"},
    "prune": {"criterion": "magnitude", "allocation": "global", "sparsities": [0.5, 0.9]},
    "retrain": {"epochs": 2},
    "mitigation": {"constraint": "equal_loss"},
    "audit": {"confidence": 0.95},
}


PEOPLE = 100  # of each group


def outcomes_of(rise: np.ndarray, deviation: float, seed: int) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """Outcomes of people whose mean loss is 0.3 + rise [R, G], and accuracy 0.9 - 0.3 rise; their y and groups."""
    rng = np.random.default_rng(seed)
    seeds, groups = rise.shape
    group, y = np.repeat(np.arange(groups), PEOPLE), np.tile(np.arange(PEOPLE) % 2, groups)
    wrong = np.arange(PEOPLE) < np.round(PEOPLE * (0.1 + 0.3 * rise))[..., None]
    wrong = wrong.reshape(seeds, -1)
    noise = deviation * rng.normal(size=(groups, PEOPLE))
    noise -= noise.mean(1, keepdims=True)
    loss = (0.3 + rise[..., None] + noise).reshape(seeds, -1)
    return Outcomes(loss=loss, wrong=wrong, label=np.where(wrong, 1 - y, y)), y, group


def judged(rise: np.ndarray, deviation: float) -> HarmTests:
    """The tests of networks whose losses rise by `rise` [R, G]."""
    before, y, group = outcomes_of(0 * rise, 0.0, 0)
    after, _, _ = outcomes_of(rise, deviation, 1)
    codes = GroupCodes(group, rise.shape[1])
    figures = (after.loss - before.loss, 1.0 - after.wrong)
    spreads = measure_spreads(figures, codes, draws=200)
    return HarmTests(
        harm=measure_harm([changes_of(before, after)], [codes], draws=200)[0][0],
        spreads=dict(zip(("excessive_loss_spread", "accuracy_spread"), spreads, strict=True)),
        working=judge_networks(before.label, after.label, y, group, num_groups=rise.shape[1], commonest=0.5),
    )


def results(
    harm=(0.1, 0.5), fair=None, seeds=5, noise=0.01, people=0.01, sparsities=(0.5, 0.9), theory=True
) -> Results:
    """Groups whose loss rises by `harm` at 90 % (half of it below), with noise over seeds; accuracies fall likewise.

    `fair` is the harm of the model "fair_after"; "none" is as the pruned network.
    """
    rng = np.random.default_rng(0)
    harm = np.array(harm)
    groups = len(harm)
    size = np.full((seeds, groups), 100.0)
    metrics, sampling, layers, tested = {}, {}, {}, {}

    def add(model: str, sparsity: float, rise: np.ndarray) -> None:
        rise = rise + noise * rng.normal(size=(seeds, groups))
        loss, accuracy = 0.3 + rise, 0.9 - 0.3 * rise
        metrics[model, sparsity, "test"] = GroupMetrics(size, loss, accuracy, loss.mean(1), accuracy.mean(1))
        error = np.full((seeds, groups), people / 1.96)
        sampling[model, sparsity, "test"] = SamplingError(error, error)
        kept = [round(40 * (1 - sparsity))] * seeds
        layers[model, sparsity] = [{"path": "dense_0/kernel", "size": 40, "kept": kept}]
        if sparsity:
            tested[model, sparsity, "test"] = judged(rise, people / 1.96 * np.sqrt(PEOPLE))

    add("dense", 0.0, np.zeros(groups))
    for s in sparsities:
        scale = 1 if s >= 0.9 else 0.5
        add("pruned", s, scale * harm)
        add("none", s, scale * harm)
        add("fair_after", s, scale * (harm if fair is None else np.array(fair)))
    shape = (len(sparsities), seeds, groups)
    observed = np.broadcast_to(harm, shape) + 0.001 * rng.normal(size=shape)
    measured = TheoryResults(
        split="train",
        gradient_norm=np.broadcast_to(harm, shape[1:]) + 0.0,
        overall_gradient_norm=np.full(seeds, 0.01),
        eigenvalue=np.broadcast_to(harm[::-1], shape[1:]) + 1.0,
        residual=np.full(shape[1:], 1e-4),
        converged=np.ones(shape[1:]),
        matvecs=np.full(shape[1:], 7.0),
        margin=np.full(shape[1:], 0.5),
        closeness=np.broadcast_to(np.linspace(0.1, 0.4, groups), shape[1:]),
        sparsities=np.array(sparsities),
        distance=np.broadcast_to(np.linspace(1, 2, len(sparsities))[:, None], shape[:2]),
        first_order=observed / 2,
        second_order=observed / 2,
        observed=observed,
    )
    return Results(
        settings=SETTINGS | {"seeds": seeds},
        provenance="made by hand",
        label_names=["no", "yes"],
        group_names=[f"town {g}" for g in range(groups)],
        seeds=list(range(seeds)),
        group_sizes={"train": [400] * groups, "validation": [50] * groups, "test": [100] * groups},
        majority={"train": 0.6, "validation": 0.6, "test": 0.6},
        warnings=[],
        metrics=metrics,
        sampling=sampling,
        layers=layers,
        multipliers={("fair_after", s): np.ones((seeds, 9, groups)) for s in sparsities},
        theory=measured if theory else None,
        tested=tested,
    )


def test_json_holds_everything() -> None:
    before = results(harm=(0.1, 0.2, 0.5))
    after = Results.from_json(json.loads(json.dumps(before.to_json(), allow_nan=False)))
    assert list(groups_rows(after)) == list(groups_rows(before))
    assert after.group_sizes == before.group_sizes
    assert after.theory is not None
    assert before.theory is not None
    np.testing.assert_array_equal(after.theory.bound, before.theory.bound)
    for key, value in before.multipliers.items():
        np.testing.assert_array_equal(after.multipliers[key], value)


def test_figures_that_speak_of_all_groups_follow_their_formulas() -> None:
    made = results(harm=(0.1, 0.2, 0.5), noise=0.0)
    found = overall_figures(made, "pruned", 0.9, "test")
    for name, value in {
        "excessive_loss_spread": 0.4,
        "max_excessive_loss": 0.5,
        "accuracy_spread": 0.3 * 0.4,
        "worst_group_accuracy": 0.9 - 0.15,
        "loss_gap": 0.5 - (0.8 / 3),
        "max_excess_accuracy_gap": 0.3 * (0.5 - 0.8 / 3),
    }.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6, err_msg=name)  # float32


def with_empty_group(tested: HarmTests) -> HarmTests:
    """Adds a group without examples."""
    harm = {
        name: type(h)(*(np.append(leaf, 0.0 if field == "people" else np.nan) for field, leaf in h._asdict().items()))
        for name, h in tested.harm.items()
    }
    lost = np.pad(tested.working.lost, ((0, 0), (0, 1)))
    return tested._replace(harm=harm, working=tested.working._replace(lost=lost))


def with_further(made: Results) -> Results:
    """Adds a grouping of three groups, of which the last has no examples on the test split."""
    other = results(harm=(0.2, 0.4, 0.0))
    metrics = {}
    for key, m in other.metrics.items():
        hole = [np.where(np.arange(3) == 2, np.nan, leaf) for leaf in (m.loss, m.accuracy)]
        metrics[key] = m._replace(size=np.where(np.arange(3) == 2, 0, m.size), loss=hole[0], accuracy=hole[1])
    sampling = {key: SamplingError(*(leaf * [1, 1, np.nan] for leaf in s)) for key, s in other.sampling.items()}
    sizes = {"train": [600, 200, 3], "validation": [70, 30, 1], "test": [100, 100, 0]}
    rise = {key: m.loss[:, :2] - 0.3 for key, m in other.metrics.items() if key[1]}
    tested = {key: with_empty_group(judged(r, 0.05)) for key, r in rise.items()}
    further = Audited(["f", "m", "x"], sizes, metrics, sampling, ["the test split lacks x"], tested)
    return dataclasses.replace(made, further={"sex<>": further})


def test_results_can_be_seen_by_each_of_their_groupings() -> None:
    made = with_further(results())
    assert made.groupings == ["town", "sex<>"]
    assert made.by("town").group_names == made.group_names
    view = made.by("sex<>")
    assert (view.grouping, view.group_names, view.warnings) == ("sex<>", ["f", "m", "x"], ["the test split lacks x"])
    assert (view.theory, view.laboratory, view.multipliers, view.further) == (None, None, {}, {})
    assert view.layers == made.layers
    assert made.grouping == "town", "the results themselves stay as they are"
    with pytest.raises(KeyError):
        made.by("age")


def test_further_groupings_survive_json_and_are_in_every_table() -> None:
    made = with_further(results())
    again = Results.from_json(json.loads(json.dumps(made.to_json(), allow_nan=False)))
    assert again.groupings == made.groupings
    for key, metrics in made.further["sex<>"].metrics.items():
        jax.tree.map(np.testing.assert_array_equal, again.further["sex<>"].metrics[key], metrics)
        jax.tree.map(
            np.testing.assert_array_equal, again.further["sex<>"].sampling[key], made.further["sex<>"].sampling[key]
        )
    rows = list(groups_rows(made))
    assert next(iter(rows[0])) == "grouping"
    assert [(r["grouping"], r["group"]) for r in rows if (r["seed"], r["model"]) == (0, "dense")] == [
        ("town", "town 0"), ("town", "town 1"), ("sex<>", "f"), ("sex<>", "m"), ("sex<>", "x"),
    ]  # fmt: skip
    assert [r["grouping"] for r in summary_rows(made)] == ["town"] * 7 + ["sex<>"] * 7


def test_the_page_has_a_section_for_each_further_grouping(tmp_path) -> None:
    made = with_further(results())
    for figure in ("answer", "harm"):
        draw(figure, made, tmp_path)
        name = f"{safe_name('sex<>')}-{figure}"
        save_figure(name, lambda figure=figure: FIGURES[figure](made.by("sex<>")), tmp_path)
    page = render_page(made, tmp_path, {"jaxprune": "0", "time": "2026-01-01T00:00:00"})
    assert ">By sex&lt;&gt;</h3>" in page
    assert page.count("<img ") == 4
    text = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    assert "the test split lacks x" in text


def test_own_dense_is_the_network_that_was_pruned() -> None:
    made = results(noise=0.0)
    other = {("fair_dense", 0.0, "test"): made.metrics["pruned", 0.5, "test"]}
    other |= {("fair_both", 0.9, "test"): made.metrics["pruned", 0.9, "test"]}
    made = Results(**vars(made) | {"metrics": made.metrics | other, "sampling": made.sampling | dict.fromkeys(
        other, made.sampling["pruned", 0.5, "test"])})  # fmt: skip
    audit = made.audit("fair_both", 0.9, "test")
    np.testing.assert_allclose(audit.impact.excessive_loss[0], (0.1, 0.5))
    np.testing.assert_allclose(audit.own_impact.excessive_loss[0], (0.05, 0.25))


def test_a_clear_effect_is_clear_by_loss_and_by_accuracy() -> None:
    made = results(harm=(0.1, 0.5, 0.2))
    answer = answer_of(made)
    assert (answer.split, answer.sparsity, answer.works, answer.agree) == ("test", 0.9, True, True)
    for measure, change in {"loss": 0.5, "accuracy": 0.15}.items():
        found = answer.measures[measure]
        assert (found.worst.group, found.worst.people) == ("town 1", PEOPLE)
        assert found.worst.change == pytest.approx(change, abs=0.02)
        assert found.worst.excess == pytest.approx(change - change * 0.15 / 0.5, abs=0.02)
    assert [group.group for group in answer.measures["loss"].clear] == ["town 1"]
    assert answer.measures["loss"].worst.low > 0


@pytest.mark.parametrize(
    "changes", [{"harm": (0.3, 0.3, 0.3), "noise": 0.1}, {"harm": (0.29, 0.31, 0.30), "noise": 0.0005, "people": 0.5}]
)
def test_chance_over_seeds_or_people_is_not_clear(changes) -> None:
    answer = answer_of(results(**changes))
    assert not any(found.clear for found in answer.measures.values())
    assert all(group.smallest_visible > group.excess for group in answer.measures["loss"].groups)


def test_measures_that_disagree_are_both_in_the_headline() -> None:
    """The group that gains most loss here loses no decisions, and another loses decisions alone."""
    made = results(harm=(0.1, 0.5))
    key = ("pruned", 0.9, "test")
    accuracy = made.tested[key].harm["accuracy"]
    swapped = accuracy._replace(change=accuracy.change[::-1], excess=accuracy.excess[::-1], p=accuracy.p[::-1])
    tested = made.tested[key]._replace(harm=dict(made.tested[key].harm) | {"accuracy": swapped})
    made = dataclasses.replace(made, tested=dict(made.tested) | {key: tested})
    answer = answer_of(made)
    assert not answer.agree
    assert answer.measures["accuracy"].worst.group == "town 0"
    assert answer.measures["loss"].worst.group == "town 1"
    first = findings.who_is_hurt(made)[0]
    assert "town 0 most by accuracy" in first
    assert "town 1 most by loss" in first


@pytest.mark.parametrize(
    ("measure", "sentence"),
    [("loss", "no group’s loss has risen; town 1 is worst off by accuracy"),
     ("accuracy", "no group has lost accuracy; town 1 is worst off by loss")],
)  # fmt: skip
def test_nobody_is_called_worst_off_by_a_measure_that_hurts_nobody(measure, sentence) -> None:
    made = results(harm=(0.1, 0.5))
    key = ("none", 0.9, "test")
    gained = made.tested[key].harm[measure]
    harm = dict(made.tested[key].harm) | {measure: gained._replace(change=gained.change - 1)}
    made = dataclasses.replace(made, tested=dict(made.tested) | {key: made.tested[key]._replace(harm=harm)})
    assert sentence in findings.after_retraining(made)[0]


def test_the_headline_is_the_largest_sparsity_at_which_every_network_works() -> None:
    made = results(harm=(0.1, 0.5), sparsities=(0.5, 0.7, 0.9))
    assert headline_sparsity(made) == 0.9
    key = ("pruned", 0.7, "test")
    working = made.tested[key].working
    broken = working._replace(
        works=np.array([1, 1, 0, 1, 1], bool), lost=np.array([[0, 0]] * 2 + [[0, 1]] + [[0, 0]] * 2)
    )
    tested = dict(made.tested) | {key: made.tested[key]._replace(working=broken)}
    made = dataclasses.replace(made, tested=tested)
    assert headline_sparsity(made) == 0.5
    breaks = answer_of(made).breaks
    assert breaks is not None
    assert (breaks.sparsity, breaks.seeds, breaks.lost) == (0.7, 1, ("town 1",))


def test_the_answer_is_plain_values_and_every_test_is_a_row() -> None:
    made = results(harm=(0.1, 0.5, 0.2))
    plain = json.loads(json.dumps(answer_of(made).to_json(), allow_nan=False))
    loss = next(measure for measure in plain["measures"] if measure["measure"] == "loss")
    assert [group["group"] for group in loss["clear"]] == ["town 1"]
    assert {group["group"] for group in loss["others"]} == {"town 0", "town 2"}
    rows = list(harm_rows(made))
    assert len(rows) == 3 * 2 * 3 * 3, "models, sparsities, measures, groups"
    clear = {(r["measure"], r["group"]) for r in rows if r["clear"] and (r["model"], r["sparsity"]) == ("pruned", 0.9)}
    assert ("loss", "town 1") in clear


def test_one_seed_speaks_of_its_network_alone() -> None:
    made = results(seeds=1)
    assert answer_of(made).measures["loss"].clear
    assert any("1 seed" in sentence for sentence in findings.verdict(made))
    assert len(findings.what_helps(made)) == 1


def test_sentences_of_the_answer_have_few_numbers() -> None:
    """At most three numbers in a sentence; p and the level of a sparsity count."""
    text = answer_text(results(harm=(0.1, 0.5, 0.2), fair=(0.28, 0.30, 0.29)))
    for part in (text.headline, text.verdict, *text.details):
        for sentence in re.split(r"(?<=[a-z)])\. ", re.sub(r"town \d", "town", part)):
            assert len(re.findall(r"\d[\d.,]*", sentence)) <= 3, sentence


@pytest.mark.parametrize(
    ("seeds", "line"),
    [
        (1, "1 seed is too few for intervals over seeds (4 are needed)"),
        (2, "2 seeds are too few for intervals over seeds (4 are needed): points show each seed."),
        (3, "3 seeds are too few"),
        (4, ""),
    ],
)
def test_few_seeds_have_no_intervals_and_one_line_says_why(seeds, line, tmp_path) -> None:
    page = render_page(results(seeds=seeds), tmp_path, {"jaxprune": "0", "time": "0"})
    assert page.count("too few for intervals") == bool(line)
    assert line in page
    assert ('class="half"' in page) == (not line)
    assert ('title="seeds: ' in page) == (seeds in (2, 3))
    assert "their 95" not in page if line else "their 95\u202f% intervals" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_shares_of_weights_are_never_rounded_to_all_of_them(tmp_path) -> None:
    made = results(sparsities=(0.5, 0.995, 0.9996))
    page = render_page(made, tmp_path, {"jaxprune": "0", "time": "0"})
    for share in ("50", "99.5", "99.96"):
        assert f"{share}\u202f% pruned</summary>" in page
    assert "trained for 1 epoch with" in page
    assert "retrained for 2 epochs with" in page


def seed_points(axes) -> int:
    """The small points that show seeds."""
    return sum(
        len(points.get_offsets()) for points in axes.collections if hasattr(points, "get_sizes")
        and len(points.get_sizes()) and points.get_sizes()[0] == 11
    )  # fmt: skip


@pytest.mark.parametrize(("seeds", "points"), [(1, 0), (2, 2), (3, 3), (4, 0)])
def test_few_seeds_are_points_in_the_figures(seeds, points) -> None:
    """Two sparsities of two retrained models, and two groups in each panel of the causes but the first."""
    made = results(seeds=seeds)
    assert [seed_points(axes) for axes in FIGURES["mitigation"](made).axes] == [points * 2 * 2] * 3
    assert [seed_points(axes) for axes in FIGURES["causes"](made).axes] == [0] + [points * 2] * 4


@pytest.mark.parametrize("seeds", [2, 5])
def test_axes_of_accuracies_stay_within_0_and_100_percent(seeds) -> None:
    """Accuracies of 90 % and, in one seed, 0 %: Student's interval alone would reach from below 0 to above 1."""
    made = results(seeds=seeds, noise=0.0)
    for metrics in made.metrics.values():
        metrics.accuracy[:] = 1
        metrics.overall_accuracy[:] = 1
        metrics.accuracy[0, 0] = metrics.overall_accuracy[0] = 0
    across, (overall, spread, _) = FIGURES["accuracy"](made).axes[0], FIGURES["mitigation"](made).axes
    for limits in (across.get_xlim(), overall.get_ylim(), spread.get_ylim()):
        assert 0 <= min(limits) < max(limits) <= 1


def test_what_helps_is_said_only_where_it_helps() -> None:
    helps = findings.what_helps(results(fair=(0.28, 0.32)))
    assert sum("“Fair after pruning” narrows" in sentence for sentence in helps) == 3
    fails = findings.what_helps(results(fair=(0.0, 0.9)))
    assert not any("“Fair after pruning” narrows" in sentence for sentence in fails)


def test_predictors_are_scored_with_their_sign() -> None:
    """In the made results the gradient norm rises with the harm and the eigenvalue falls with it."""
    made = results(harm=(0.1, 0.2, 0.5))
    observed = theory_findings.theory_of(made).observed
    rho = {name: rank_correlation(values, observed) for name, values in theory_findings.predictors(made).items()}
    np.testing.assert_allclose(rho["gradient_norm"], 1)
    np.testing.assert_allclose(rho["eigenvalue"], -1)
    assert np.isnan(rho["smallness"]).all(), "all groups are equally large"


def test_caveats_tell_of_broken_networks_dead_layers_and_missed_eigenvalues() -> None:
    made = results(harm=(1.2, 1.4))
    assert made.theory is not None
    theory = TheoryResults(**vars(made.theory) | {"converged": np.zeros((5, 2)), "eigenvalue": -np.ones((5, 2))})
    layers = dict(made.layers) | {("pruned", 0.9): [{"path": "dense_0/kernel", "size": 40, "kept": [4, 4, 0, 4, 4]}]}
    changed = Results(**vars(made) | {"theory": theory, "layers": layers})
    notes = " ".join(findings.caveats(changed) + theory_findings.caveats(changed))
    for part in ("no longer work", "dense_0/kernel was cut to nothing", "10 of 10 eigenvalues", "negative"):
        assert part in notes
    assert "no longer work" not in " ".join(findings.caveats(results()))


@pytest.mark.parametrize(
    "made",
    [
        results(),
        results(harm=np.linspace(0, 1, 12)),
        results(seeds=1, sparsities=(0.9,)),
        results(harm=(-0.2, -0.1)),
        results(theory=False),
    ],
    ids=["two groups", "twelve groups", "one seed and sparsity", "pruning helps", "no theory"],
)
def test_every_figure_and_the_page_are_made_for_every_shape_of_results(made, tmp_path) -> None:
    drawn = [name for name in FIGURES if draw(name, made, tmp_path)]
    missing = {"causes", "bound"} if made.theory is None else {"bound"} if made.theory.observed.max() < 0 else set()
    assert set(drawn) == set(FIGURES) - missing
    page = render_page(made, tmp_path, {"jaxprune": "0", "time": "2026-01-01T00:00:00", "packages": {"jax": "0"}})
    assert page.count("<img ") == len(drawn)
    text = re.sub(r'src="data:[^"]*"', "", page)
    assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE)
    for group in made.group_names:
        assert group in page


def test_names_are_escaped_in_the_page(tmp_path) -> None:
    made = results()
    page = render_page(
        Results(**vars(made) | {"group_names": ["<b>bold</b>", "x & y"]}), tmp_path, {"jaxprune": "0", "time": "0"}
    )
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_figures_are_the_same_bytes_each_time(tmp_path) -> None:
    made = results()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        draw("harm", made, tmp_path / folder)
    assert (tmp_path / "a" / "harm.svg").read_bytes() == (tmp_path / "b" / "harm.svg").read_bytes()


def test_summary_has_one_row_for_each_network_and_finite_intervals(tmp_path) -> None:
    rows = list(summary_rows(results()))
    assert len(rows) == 1 + 2 * 3
    for row in rows:
        assert row["accuracy_low"] <= row["accuracy"] <= row["accuracy_high"]
    write_csv(tmp_path / "summary.csv", rows)
    assert len((tmp_path / "summary.csv").read_text().splitlines()) == 8

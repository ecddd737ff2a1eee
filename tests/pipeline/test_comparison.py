"""The comparison of methods: what is chosen and tested, what is written, and what is refused."""

import json

import numpy as np
import pytest
from scipy import stats

from jaxprune import cli, config
from jaxprune.auditing import GroupMetrics
from jaxprune.errors import UserError
from jaxprune.mitigation import excess_accuracy_gap
from jaxprune.pipeline import compare
from jaxprune.pipeline.comparison import _violation
from jaxprune.reporting import comparison_findings as findings
from jaxprune.reporting.comparison import FAIRNESS, Comparison, Trial, counted
from jaxprune.reporting.comparison_constraints import constraint_words, constraints_hold
from jaxprune.reporting.comparison_figures import COMPARISON_FIGURES, front
from jaxprune.reporting.comparison_page import render_comparison
from jaxprune.reporting.comparison_tables import trial_rows

SIZES = np.array([600.0, 300.0, 100.0])


def metrics(accuracy, loss=None):
    """From group accuracies [R, G]."""
    accuracy = np.asarray(accuracy, float)
    loss = 1 - accuracy if loss is None else np.asarray(loss, float)
    share = SIZES / SIZES.sum()
    return GroupMetrics(np.broadcast_to(SIZES, accuracy.shape), loss, accuracy, loss @ share, accuracy @ share)


DENSE = [[0.90, 0.85, 0.80]] * 4
NOISE = 0.002 * np.array([[1, -1, 2], [0, 1, -1], [-1, 2, 0], [1, 0, 1]])
NAIVE = np.array([0.88, 0.80, 0.62]) + NOISE


def trial(method, accuracy, values=None, validation=None, **more):
    accuracy = np.asarray(accuracy)
    splits = {"train": accuracy + 0.01, "validation": accuracy if validation is None else validation, "test": accuracy}
    return Trial(method, 0.9, values or {}, {s: metrics(a) for s, a in splits.items()}, **more)


def comparison(trials, **compare_settings):
    names = dict.fromkeys(["naive", *(t.method for t in trials)])
    settings = {
        "name": "made", "data": {"name": "made", "group": "town", "label": "y"}, "model": {"name": "mlp"},
        "audit": {"confidence": 0.95}, "retrain": {"epochs": 2},
        "compare": {"max_cost": 0.01, "choose_by": "max_excess_accuracy_gap"} | compare_settings,
    }  # fmt: skip
    return Comparison(
        settings, "made up", ["big", "middle", "small"], [0, 1, 2, 3],
        {s: SIZES.astype(int).tolist() for s in ("train", "validation", "test")},
        {n: n.title() for n in names}, {n: f"{n}." for n in names}, {"ceag": True, "equal": False},
        {s: metrics(DENSE) for s in ("train", "validation", "test")}, [trial("naive", NAIVE), *trials],
    )  # fmt: skip


LIFT = NAIVE + np.array([0, 0, 0.12])  # the small group is lifted
LEVEL = NAIVE - [0.2, 0.12, 0]  # the others are levelled down


def test_figures_by_hand():
    c = comparison([])
    found = c.figures(c.trials[0], "test")
    drop = np.array(DENSE) - NAIVE
    psi = drop - (drop @ SIZES / 1000)[:, None]
    np.testing.assert_allclose(found["max_excess_accuracy_gap"], psi.max(1))
    np.testing.assert_allclose(found["excess_accuracy_gap_spread"], np.ptp(psi, axis=1))
    np.testing.assert_allclose(found["accuracy_spread"], np.ptp(NAIVE, axis=1), rtol=1e-6)
    np.testing.assert_allclose(found["worst_group_accuracy"], NAIVE.min(1))
    np.testing.assert_allclose(found["excessive_loss_spread"], np.ptp(drop, axis=1))


def test_the_choice_is_made_on_validation_and_never_on_test():
    """The candidate that is best on test is worse on validation, and is not chosen."""
    tried = [trial("m", LIFT, {"rate": 1.0}, validation=NAIVE), trial("m", NAIVE, {"rate": 2.0}, validation=LIFT)]
    assert comparison(tried).chosen["m", 0.9].values == {"rate": 2.0}


def test_a_choice_that_costs_too_much_is_not_made():
    dear, cheap = trial("m", LEVEL, {"rate": 1.0}), trial("m", NAIVE + np.array([0, 0, 0.01]), {"rate": 2.0})
    by = {"choose_by": "accuracy_spread"}
    assert comparison([dear, cheap], **by).chosen["m", 0.9] is cheap
    assert comparison([dear, cheap], max_cost=0.5, **by).chosen["m", 0.9] is dear
    dearer = trial("m", LEVEL - 0.1, {"rate": 3.0})
    assert comparison([dearer, dear]).chosen["m", 0.9] is dear  # none is cheap: the most accurate one
    lifted = trial("m", LIFT, {"rate": 2.0})
    for measure in ("worst_group_accuracy", "excessive_loss_spread"):
        assert comparison([cheap, lifted], choose_by=measure).chosen["m", 0.9] is lifted


def test_what_diverged_is_left_out_and_said():
    broken = Trial("m", 0.9, {"dual_rate": 9.0}, trouble="M: the loss became NaN; leave 9 out of compare.dual_rates")
    c = comparison([broken, trial("m", LIFT, {"dual_rate": 1.0})])
    assert c.chosen["m", 0.9].values == {"dual_rate": 1.0}
    assert any("dual_rate 9 diverged" in note and "leave 9 out" in note for note in findings.caveats(c))
    assert ("m", 0.9) not in comparison([broken]).chosen
    assert findings.answer(comparison([broken])) == [
        "Plain fine-tuning alone was run: name other methods in compare.methods."
    ]


def test_differences_are_paired_by_seed():
    c = comparison([trial("m", LIFT + 0.001 * NOISE)])
    mine, base = (100 * c.figures(t, "test")["accuracy"] for t in (c.chosen["m", 0.9], c.chosen["naive", 0.9]))
    found = c.difference("m", 0.9, "test", "accuracy")
    expected = stats.ttest_1samp(mine - base, 0)
    assert found.p == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    np.testing.assert_allclose(found.change, [np.mean(mine - base), low, high], rtol=1e-6)
    same = comparison([trial("m", NAIVE)]).difference("m", 0.9, "test", "accuracy")
    assert np.isnan(same.p)
    assert same.change.mean == 0


def noisy(mean, spread, seed=0):
    """A lift of the small group, not the same in every seed."""
    lift = mean + spread * np.random.default_rng(seed).normal(size=4)
    return NAIVE + np.array([0, 0, 1]) * lift[:, None]


def test_every_method_and_fairness_measure_is_one_family():
    """Brute force: Holm by his definition over the p-values of scipy, methods that diverged counting."""
    c = comparison(
        [trial("a", noisy(0.05, 0.002)), trial("b", noisy(0.02, 0.02, 1)), Trial("c", 0.9, {}, trouble="NaN")]
    )
    assert c.comparisons == 3 * 4
    own = {}
    for method in "ab":
        for measure in FAIRNESS:
            mine, base = (c.figures(c.chosen[name, 0.9], "test")[measure] for name in (method, "naive"))
            own[method, measure] = stats.ttest_rel(mine, base).pvalue
    for (method, measure), p in own.items():
        smaller = [q for q in own.values() if q <= p]
        steps = [(12 - i) * q for i, q in enumerate(sorted(smaller))]
        assert c.verdicts[0.9, method, measure].adjusted_p == pytest.approx(min(1, max(steps)), rel=1e-6)
    assert not any(method == "c" for _, method, _ in c.verdicts)
    rows = {row["method"]: row for row in trial_rows(c) if row["split"] == "test"}
    expected = c.verdicts[0.9, "a", "accuracy_spread"].adjusted_p
    assert rows["a"]["accuracy_spread_p_adjusted"] == pytest.approx(expected)


def test_the_interval_of_a_verdict_is_bonferronis_in_points():
    c = comparison([trial("a", noisy(0.05, 0.01)), trial("b", noisy(0.02, 0.02, 1))])
    mine, base = (100 * c.figures(c.chosen[name, 0.9], "test")["accuracy_spread"] for name in ("a", "naive"))
    expected = stats.ttest_1samp(mine - base, 0).confidence_interval(1 - 0.05 / 8)
    verdict = c.verdicts[0.9, "a", "accuracy_spread"]
    np.testing.assert_allclose(verdict.change[1:], expected, rtol=1e-6)
    assert verdict.smallest_visible == pytest.approx((expected.high - expected.low) / 2)


def test_a_method_that_is_best_by_chance_is_not_said_to_help():
    """Its own interval is clear of zero, but not after all comparisons are counted."""
    lucky = trial("lucky", noisy(0.05, 0.02, 5))
    alone = comparison([lucky])
    assert alone.difference("lucky", 0.9, "test", "accuracy_spread").change.high < 0
    many = comparison([lucky, *(trial(f"m{i}", noisy(0, 0.02, i)) for i in range(9))])
    verdict = many.verdicts[0.9, "lucky", "accuracy_spread"]
    assert verdict.adjusted_p > 0.05
    assert verdict.outcome.value == ""
    said = findings.winner(many, "accuracy_spread")
    assert "“Lucky” has the best mean" in said
    assert f"is {verdict.smallest_visible:.1f} points" in said
    figure = COMPARISON_FIGURES["changes"](many)
    assert len({tuple(c) for c in figure.axes[2].collections[1].get_facecolor()}) == 1, "all grey"


def as_stored(accuracy):
    """Metrics as a network gives them: numbers of people over sizes, in float32."""
    people = np.rint(np.asarray(accuracy) * SIZES)
    made = metrics(people / SIZES)
    return GroupMetrics(*(np.asarray(leaf, np.float32) for leaf in made))


def test_the_same_change_in_every_seed_is_not_tested():
    """Numbers of people decide; in float32 the changes differ in their last digits, and the t-test has p = 1e-20."""
    uneven = NAIVE - np.array([[0, 0, 0.32], [0, 0, 0], [0, 0, 0.15], [0, 0, -0.08]])
    naive, mine = as_stored(uneven), as_stored(uneven + np.array([0, 0, 0.03]))
    assert np.ptp((mine.accuracy - naive.accuracy)[:, 2]) > 0
    assert np.ptp((counted(mine).accuracy - counted(naive).accuracy)[:, 2]) < 1e-15
    splits = ("train", "validation", "test")
    c = comparison([Trial("m", 0.9, {}, dict.fromkeys(splits, mine))])
    c.trials[0] = Trial("naive", 0.9, {}, dict.fromkeys(splits, naive))
    for measure in ("accuracy", "worst_group_accuracy", "accuracy_spread"):
        assert np.isnan(c.difference("m", 0.9, "test", measure).p)
        verdict = c.verdicts[0.9, "m", measure]
        assert verdict.same
        assert np.isnan(verdict.adjusted_p)
        assert verdict.outcome.value == ""
    assert "the same in every seed: no test" in findings.winner(c, "accuracy_spread")
    np.testing.assert_allclose(counted(metrics(NAIVE)).accuracy, NAIVE, rtol=1e-15, err_msg="not whole people")


def test_three_seeds_are_not_tested_and_small_p_are_not_zero():
    c = comparison([trial("m", LIFT + 0.001 * NOISE)])
    three = {s: GroupMetrics(*(leaf[:3] for leaf in m)) for s, m in c.dense.items()}
    trials = [
        Trial(t.method, 0.9, {}, {s: GroupMetrics(*(leaf[:3] for leaf in m)) for s, m in t.metrics.items()})
        for t in c.trials
    ]
    fields = {name: vars(c)[name] for name in Comparison.__dataclass_fields__}
    few = Comparison(**fields | {"seeds": [0, 1, 2], "dense": three, "trials": trials})
    assert all(np.isnan([v.p, v.adjusted_p, v.change.low]).all() for v in few.verdicts.values())
    answer = " ".join(findings.answer(few))
    assert "there are no tests and no intervals" in answer
    assert "p =" not in answer
    for text in (answer, " ".join(findings.answer(c))):
        assert "nan" not in text
    assert "p < 0.001" in " ".join(findings.answer(c))


def test_the_page_says_by_what_the_choice_was_made(tmp_path):
    environment = {"jaxprune": "0", "time": "2026-01-01T00:00:00"}
    for measure, words in (("accuracy_spread", "by accuracy: acc"), ("excessive_loss_spread", "by loss: spread ξ")):
        page = render_comparison(comparison([trial("m", LIFT)], choose_by=measure), tmp_path, environment)
        assert f"best {words}" in page
        assert "not of other people" in page


def test_the_front_is_what_nobody_beats_at_both():
    points = np.array([[1.0, 80], [2, 85], [3, 84], [2, 85], [0.5, 70], [1, 79]])
    np.testing.assert_array_equal(front(points), [True, True, False, True, True, False])


def test_lifting_reaches_the_aim_and_levelling_down_is_called_by_its_name():
    lifted = comparison([trial("lift", LIFT + 0.2 * NOISE)])
    assert "both cut by a third or more" in findings.aim(lifted)
    assert "it lifts the worst" in findings.aim(lifted)
    levelled = findings.aim(comparison([trial("level", LEVEL)]))
    assert "no method is shown to cut both" in levelled
    assert "it levels down" in levelled
    assert "accuracy spread of 10.0 points" in levelled
    best = comparison([trial("best", NAIVE + np.where(NAIVE.max(-1, keepdims=True) == NAIVE, 0.04, 0.01))])
    assert "it lifts the best more than the worst" in findings.levelling(best, "best")
    worse = comparison([trial("worse", NAIVE - [0, 0, 0.05])])
    assert "a better mean of the largest ψ than plain fine-tuning" in findings.winner(worse, FAIRNESS[0])
    fields = {name: vars(lifted)[name] for name in Comparison.__dataclass_fields__}
    assert "One seed" in findings.answer(Comparison(**fields | {"seeds": [0]}))[0]


def test_whether_constraints_hold_on_new_people():
    kept, broken = np.full((4, 3), -0.01), np.tile([-0.02, 0.0, 0.03], (4, 1))
    c = comparison(
        [
            trial("ceag", LIFT, violation={"train": kept, "validation": kept, "test": broken}),
            trial("equal", LIFT, violation={"train": -kept, "validation": kept, "test": -broken}),
        ]
    )
    assert "Of 4 cases" in constraint_words(c)
    assert "in 4, by 0.0300" in constraint_words(c)
    rows = {row["title"]: row for row in constraints_hold(c)}
    assert (rows["Ceag"]["train"], rows["Ceag"]["test"]) == ("-0.0100", "+0.0300")
    assert (rows["Ceag"]["train_held"], rows["Ceag"]["test_held"]) == ("4 of 4", "0 of 4")
    assert (rows["Equal"]["train"], rows["Equal"]["test"]) == ("0.0100", "0.0300")  # either side of an equality
    found = _violation(excess_accuracy_gap(3), 0.05, metrics(NAIVE)._asdict(), metrics(DENSE)._asdict())
    drop = np.array(DENSE) - NAIVE
    np.testing.assert_allclose(found, drop - (drop @ SIZES / 1000)[:, None] - 0.05, atol=1e-5)


def test_both_multipliers_of_every_group_are_drawn():
    """Program (7) has two for each group: of the gradient norm, and of the eigenvalue."""
    half, both = (trial("m", LIFT, multipliers=np.arange(4 * 5 * k, dtype=float).reshape(4, 5, k)) for k in (3, 6))
    base = trial("naive", LIFT)
    for made, count in ((half, 3), (both, 6)):
        figure = COMPARISON_FIGURES["trajectories"](comparison([base, made]))
        lines = figure.axes[0].lines
        assert len(lines) == count
        for k, line in enumerate(sorted(lines, key=lambda line: line.get_ydata()[0])):
            np.testing.assert_allclose(line.get_ydata(), made.multipliers[..., k].mean(0))


def test_everything_survives_json_and_is_tabled():
    made = trial("ceag", LIFT, {"dual_rate": 0.1}, multipliers=np.ones((4, 5, 3)), violation={"test": np.ones((4, 3))})
    c = comparison([made, Trial("m", 0.9, {}, trouble="it diverged")])
    again = Comparison.from_json(json.loads(json.dumps(c.to_json(), allow_nan=False)))
    assert again.to_json() == c.to_json()
    older = {name: value for name, value in c.to_json().items() if name != "held_out"}
    assert Comparison.from_json(json.loads(json.dumps(older, allow_nan=False))).held_out == []
    rows = list(trial_rows(again))
    assert len(rows) == 9
    row = next(r for r in rows if r["method"] == "ceag" and r["split"] == "test")
    assert row["chosen"]
    assert row["worst_group_accuracy_change"] == pytest.approx(0.12)
    assert row["accuracy"] == pytest.approx(np.mean(LIFT @ SIZES / 1000))


# --- a run ------------------------------------------------------------------------------------------------------------

SMALL = {
    "data.name": "digits", "model.hidden": (12,), "seeds": 2, "train.epochs": 2, "train.batch_size": 128,
    "prune.sparsities": (0.8,), "retrain.epochs": 2, "train.learning_rate": 0.01,
    "compare.methods": ("naive_best", "equal_loss", "ceag_held_out", "spared"),
    "compare.dual_rates": (0.01, 0.1), "compare.tolerances": (0.0,),
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "run"
    return out, compare(config.load(None, SMALL), out)


@pytest.mark.versions
def test_a_comparison_writes_its_report(finished):
    out, result = finished
    assert result.out == out / "compare"
    names = {path.name for path in result.out.iterdir()}
    assert names >= {"report.html", "comparison.json", "methods.csv", "config.toml", "environment.json"}
    for name in COMPARISON_FIGURES:
        assert (result.out / "figures" / f"{name}.svg").exists()
    page = (result.out / "report.html").read_text()
    assert "CEAG, held out" in page
    assert 'src="http' not in page
    assert "nan" not in page.replace("nan-", "").lower().split('<h2 id="reproduce">')[0].split("base64")[0]
    assert len(result.comparison.trials) == 1 + 1 + 2 + 2 + 1
    multipliers = {t.method for t in result.comparison.trials if t.multipliers is not None}
    assert multipliers == {"equal_loss", "ceag_held_out"}


@pytest.mark.versions
def test_every_method_starts_from_the_same_dense_networks_and_the_best_epoch_is_no_worse(finished):
    _, result = finished
    c = result.comparison
    best, naive = (c.figures(c.chosen[name, 0.8], "validation")["accuracy"] for name in ("naive_best", "naive"))
    assert (best >= naive - 1e-7).all()


def test_the_half_that_chooses_is_what_is_reported_as_validation(finished):
    """One method measures on people held out, so that the split is cut, for all methods."""
    from jaxprune import data

    _, result = finished
    c = result.comparison
    assert c.held_out == ["ceag_held_out"]
    whole = data.load("digits").group_sizes("validation")
    assert np.abs(2 * np.array(c.group_sizes["validation"]) - whole).max() <= 1
    for metrics in (c.dense, *(t.metrics for t in c.trials)):
        np.testing.assert_array_equal(np.asarray(metrics["validation"].size)[0], c.group_sizes["validation"])
        np.testing.assert_array_equal(np.asarray(metrics["test"].size)[0], c.group_sizes["test"])
    assert "cut in two halves" in (result.out / "report.html").read_text()


def test_what_is_done_is_not_done_again_and_a_new_method_is_added(finished, monkeypatch):
    out, result = finished
    from jaxprune import training

    calls = []
    original = training.fit
    monkeypatch.setattr(training, "fit", lambda *a, **k: calls.append(1) or original(*a, **k))
    again = compare(config.load(None, SMALL), out)
    assert not calls
    assert again.comparison.to_json() == result.comparison.to_json()
    more = SMALL | {"compare.methods": ("balanced",)}
    added = compare(config.load(None, more), out)
    assert len(calls) == 1
    assert [t.method for t in added.comparison.trials] == ["naive", "balanced"]
    assert added.comparison.held_out == []
    assert "cut in two halves" not in (added.out / "report.html").read_text()


def test_a_training_that_diverges_does_not_end_the_comparison(tmp_path):
    """Multipliers without bound: said with the remedy, the last good state kept, the others compared."""
    said = []

    class Display:
        def start(self, description, total): ...
        def advance(self, note=""): ...
        def finish(self): ...
        def say(self, message):
            said.append(message)

    settings = SMALL | {"compare.methods": ("equal_loss",), "compare.dual_rates": (0.01, 3e38)}
    found = compare(config.load(None, settings), tmp_path / "run", progress=Display()).comparison
    troubles = [t.trouble for t in found.trials if t.trouble]
    assert len(troubles) == 1
    assert "leave 3e+38 out of compare.dual_rates" in troubles[0]
    assert "the last good state is kept in" in troubles[0]
    assert any("the comparison goes on" in message for message in said)
    assert found.chosen["equal_loss", 0.8].values == {"dual_rate": 0.01}
    assert list((tmp_path / "run" / "stages").glob("*/checkpoints/epoch-*"))


@pytest.mark.slow
def test_the_settings_of_the_lagrangian_reach_the_training(tmp_path):
    """Every dual, scheme, penalty and memory of `jaxprune run` trains, and otherwise than the default."""
    from jaxprune import pipeline

    common = SMALL | {"mitigation.methods": ("fair_after",), "mitigation.dual_rate": 0.05}
    common |= {"mitigation.constraint": "accuracy_gap", "prune.sparsities": (0.8,), "seeds": 1}
    found = []
    for change in (
        {},
        {"mitigation.dual": "nu_pi", "mitigation.scheme": "alternating"},
        {"mitigation.dual": "restart", "mitigation.scheme": "extragradient"},
        {"mitigation.penalty": 2.0, "mitigation.buffer": 20},
    ):
        made = pipeline.run(config.load(None, common | change), tmp_path / "run", until="prune").made
        with np.load(made["fair_after 0.8"] / "logs.npz") as logs:
            found.append(logs["multipliers"])
    assert all(np.isfinite(f).all() and f.min() >= 0 for f in found)
    assert all(not np.array_equal(a, b) for i, a in enumerate(found) for b in found[:i])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mitigation.dual": "ascend"}, "mitigation.dual: unknown dual 'ascend'; did you mean 'ascent'"),
        ({"mitigation.scheme": "x"}, "mitigation.scheme: unknown scheme"),
        ({"compare.methods": ("equal_los",)}, "compare.methods: unknown method 'equal_los'; did you mean 'equal_loss'"),
        ({"compare.dual_rates": (-0.1,)}, "compare.dual_rates"),
        ({"compare.methods": ("naive", "naive")}, "compare.methods: 'naive' is given twice"),
        ({"retrain.epochs": 0}, "retrain.epochs"),
        ({"prune.sparsities": (0.0,)}, "prune.sparsities"),
        ({"mitigation.constraint": "excess_accuracy"}, "mitigation.constraint: unknown constraint"),
        ({"compare.methods": ("distilled", "ceag"), "train.flip": True}, "compare.methods: distilled, ceag look at"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, change, says):
    with pytest.raises(UserError, match="(?s).*" + says.replace("(", r"\(").replace("?", r"\?")):
        compare(config.load(None, SMALL | change), tmp_path / "run")


def test_the_command_ends_with_the_table(finished, tmp_path, capsys):
    out, _ = finished
    path = tmp_path / "small.toml"
    path.write_text(config.to_toml(config.load(None, SMALL)))
    assert cli.main(["compare", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Naive fine-tuning" in printed
    assert "compare/report.html" in printed.replace("\n", "")

"""The sections of a comparison's page, on results made by hand."""

import numpy as np
import pytest
from comparisons import LEVEL, LIFT, NAIVE, NOISE, compared_results, comparison, diverged, noisy, trial
from made_costs import with_costs
from made_results import ENVIRONMENT
from sections import texts_of

from jaxprune.quantities import Cell
from jaxprune.reporting.page import Folded
from jaxprune.reporting.reports import COMPARE, PAGES, render_page, sections_of
from jaxprune.reporting.sections.accuracy_against_fairness import front
from jaxprune.reporting.sections.constraints_met import generalisation, largest_violations
from jaxprune.reporting.sections.constraints_met import section as constraints_met
from jaxprune.reporting.sections.method_answer import aim, best_method, claims, levelling
from jaxprune.reporting.sections.method_answer import section as method_answer
from jaxprune.reporting.sections.method_caveats import section as method_caveats
from jaxprune.reporting.sections.method_changes import draw_changes
from jaxprune.reporting.sections.method_table import section as method_table
from jaxprune.reporting.sections.multipliers import section as multipliers
from jaxprune.reporting.sections.protocol import section as protocol
from jaxprune.results import Results
from jaxprune.results.comparison import FAIRNESS


def caveats(results: Results) -> list[str]:
    """The remarks of the section."""
    section = method_caveats(results)
    return [] if section is None else section.texts


def test_diverged_trials_are_a_caveat() -> None:
    broken = diverged("m", {"dual_rate": 9.0}, "the loss became NaN; leave 9 out of choice.dual_rates")
    note = caveats(compared_results([broken, trial("m", LIFT, {"dual_rate": 1.0})]))[0]
    assert note.startswith("M at 90 % with dual rate 9 ")
    assert note.endswith(broken.network.trouble)
    [claim] = claims(comparison([broken]))
    assert "retrain.methods" in claim, "nothing is left to compare"


def test_caveats_of_multipliers_networks_and_groups() -> None:
    rising = np.repeat(np.linspace(0, 2, 40)[None, :, None], 4, 0) * np.ones(3)
    steady = np.ones((4, 20, 3))
    made = [
        trial("ceag", LIFT, {"dual_rate": 0.5}, multipliers=rising, works=(True, False, True, True)),
        trial("equal", LIFT, {"dual_rate": 5.0}, multipliers=150.0 * steady),
        trial("steady", LIFT, multipliers=steady),
    ]
    notes = caveats(compared_results(made))
    assert len(notes) == 4
    assert notes[0].startswith("Equal at 90 % with dual rate 5: a multiplier reached 150")
    assert notes[1].startswith("Ceag: a multiplier is still rising at the end (2.0)")
    assert "“Ceag” (1 of 4 seeds)" in notes[2]
    assert "small (100)" in notes[3]


def test_a_change_that_may_be_chance_is_not_claimed() -> None:
    """Its own interval is clear of zero, but not after all comparisons are counted."""
    lucky = trial("lucky", noisy(0.05, 0.02, 5))
    alone = comparison([lucky])
    assert alone.difference("lucky", 0.9, "test", "accuracy_spread").change.high < 0
    many = comparison([lucky, *(trial(f"m{i}", noisy(0, 0.02, i)) for i in range(9))])
    verdict = many.verdicts[0.9, "lucky", "accuracy_spread"]
    assert verdict.adjusted_p > 0.05
    assert verdict.outcome.value == ""
    claim = best_method(many, "accuracy_spread")
    assert "“Lucky” has the best mean" in claim
    assert f"{verdict.smallest_visible:.1f} points" in claim
    figure = draw_changes(many)
    assert len({tuple(c) for c in figure.axes[2].collections[1].get_facecolor()}) == 1, "all grey"


def test_a_clear_change_is_claimed_with_its_interval_and_its_cost() -> None:
    c = comparison([trial("lift", LIFT + 0.2 * NOISE), trial("mild", NAIVE + [0, 0, 0.05] + 0.3 * NOISE)])
    verdict = c.verdicts[0.9, "lift", "worst_group_accuracy"]
    claim = best_method(c, "worst_group_accuracy")
    reached = 100 * float(np.mean((LIFT + 0.2 * NOISE).min(1)))
    assert f"“Lift” raises the accuracy of the worst group most, to {reached:.1f} % (62.1 % with" in claim
    assert f"{verdict.change.low:+.1f} to {verdict.change.high:+.1f} points" in claim
    assert f"Overall accuracy changes by {c.verdicts[0.9, 'lift', 'accuracy'].change.mean:+.2f} points" in claim
    assert claim.endswith("1 other method also clearly improves it.")


def test_the_answer_of_few_seeds_has_no_tests() -> None:
    made = {seeds: compared_results([trial("m", LIFT + 0.001 * NOISE)], seeds=seeds) for seeds in (4, 3, 1)}
    texts = {seeds: texts_of(method_answer(results)) for seeds, results in made.items()}
    assert "p < 0.001" in texts[4]
    assert "p =" not in texts[3]
    assert "there are no tests and no intervals" in texts[3]
    assert len(method_answer(made[1]).texts) == 3, "one claim, the note on tests, and that on seeds"
    assert not any("nan" in text for text in texts.values())


def test_the_same_change_in_every_seed_is_named() -> None:
    c = comparison([trial("m", NAIVE + np.array([0, 0, 0.03]))])
    assert "the same in every seed: no test" in best_method(c, "accuracy_spread")


def test_without_an_accuracy_spread_there_is_nothing_to_cut() -> None:
    """As of networks that predict the same for everyone."""
    flat = np.full((4, 3), 0.5)
    c = comparison([trial("m", flat)], naive=flat)
    assert "leaves no largest ψ or no accuracy spread to cut" in aim(c)


def test_lifting_reaches_the_aim_and_levelling_down_does_not() -> None:
    lifted = aim(comparison([trial("lift", LIFT + 0.2 * NOISE)]))
    assert "“Lift” clearly cuts both" in lifted
    assert "it lifts the worst" in lifted
    levelled = aim(comparison([trial("level", LEVEL)]))
    assert "no method clearly cuts both" in levelled
    assert "it levels down" in levelled
    assert "accuracy spread of 10.0 points" in levelled
    best = comparison([trial("best", NAIVE + np.where(NAIVE.max(-1, keepdims=True) == NAIVE, 0.04, 0.01))])
    assert "it lifts the best more than the worst" in levelling(best, "best")
    worse = comparison([trial("worse", NAIVE - [0, 0, 0.05])])
    assert "no method" in best_method(worse, FAIRNESS[0])


def test_points_of_the_front_are_beaten_by_no_other() -> None:
    points = np.array([[1.0, 80], [2, 85], [3, 84], [2, 85], [0.5, 70], [1, 79]])
    np.testing.assert_array_equal(front(points), [True, True, False, True, True, False])


def test_the_table_has_every_method_with_its_difference() -> None:
    tried = [
        trial("m", LIFT + 0.2 * NOISE, {"dual_rate": 1.0}),
        trial("m", NAIVE, {"dual_rate": 2.0}, chosen=False),
        diverged("m", {"dual_rate": 9.0}),
    ]
    made = compared_results(tried)
    section = method_table(made)
    test, train, candidates = section.tables
    assert [str(row[0]) for row in test.rows] == ["Dense, not pruned", "Naive", "M"]
    assert str(test.rows[2][1]) == "dual rate 1"
    worst = test.rows[2][3]
    assert isinstance(worst, Cell)
    assert worst.mark == "better"
    assert worst.mean == f"{100 * np.mean((LIFT + 0.2 * NOISE).min(1)):.1f}"
    change = comparison(tried).verdicts[0.9, "m", "worst_group_accuracy"].change
    assert f"against naive: {change.mean:+.1f} ({change.low:+.1f} to {change.high:+.1f}); p < 0.001" in worst.hint
    trained = train.rows[2][3]
    assert isinstance(trained, Cell)
    assert (trained.mark, trained.hint.rpartition("; ")[2]) == ("", "not tested")
    assert [row[1] for row in candidates.rows] == ["dual rate 1 (chosen)", "dual rate 2", "dual rate 9 (diverged)"]
    assert [row[2] == "–" for row in candidates.rows] == [False, False, True]
    assert candidates.marked == {0}
    assert [part.open for part in section.contents if isinstance(part, Folded)] == [True, False]


def test_constraints_on_new_people() -> None:
    kept, broken = np.full((4, 3), -0.01), np.tile([-0.02, 0.0, 0.03], (4, 1))
    tried = [
        trial("ceag", LIFT, violation={"train": kept, "validation": kept, "test": broken}),
        trial("equal", LIFT, violation={"train": -kept, "validation": kept, "test": -broken}),
    ]
    c = comparison(tried)
    np.testing.assert_allclose(largest_violations(c)["equal"]["test"], 0.03, err_msg="either side of an equality")
    section = constraints_met(c.results)
    assert section is not None
    [table] = section.tables
    assert table.rows[0] == ("Ceag", "inequality", "-0.0100", "-0.0100", "+0.0300", "4 of 4", "0 of 4")
    assert table.rows[1] == ("Equal", "equality", "0.0100", "0.0100", "0.0300", "–", "–")
    text = generalisation(c) or ""
    assert text.startswith("Of 4 cases")
    assert "in 4, by 0.0300 in the median" in text
    met = comparison([trial("ceag", LIFT, violation=dict.fromkeys(("train", "validation", "test"), kept))])
    assert "In all of the 4 cases" in (generalisation(met) or "")
    missed = comparison([trial("ceag", LIFT, violation=dict.fromkeys(("train", "validation", "test"), broken))])
    assert "In no seed" in (generalisation(missed) or "")
    assert constraints_met(compared_results([trial("m", LIFT)])) is None


@pytest.mark.parametrize("each", [1, 2])
def test_every_multiplier_of_every_group_is_drawn(each) -> None:
    """Program (7) has two for each group: of the gradient norm, and of the eigenvalue."""
    values = np.arange(4 * 5 * 3 * each, dtype=float).reshape(4, 5, 3 * each)
    section = multipliers(compared_results([trial("m", LIFT, multipliers=values)]))
    assert section is not None
    figure = section.figures[0].draw()
    assert figure is not None
    lines = sorted(figure.axes[0].lines, key=lambda line: np.asarray(line.get_ydata())[0])
    assert len(lines) == 3 * each
    for k, line in enumerate(lines):
        np.testing.assert_allclose(line.get_ydata(), values[..., k].mean(0))


@pytest.mark.parametrize(
    ("measure", "words"),
    [("accuracy_spread", "by accuracy: accuracy spread"), ("excessive_loss_spread", "by loss: spread ξ")],
)
def test_the_protocol_names_the_measure_of_the_choice(measure, words) -> None:
    assert f"best {words}" in texts_of(protocol(compared_results([trial("m", LIFT)], measure=measure)))


def test_the_protocol_tells_of_methods_that_use_half_of_the_validation_split() -> None:
    held = texts_of(protocol(compared_results([trial("m", LIFT, held_out=True)])))
    assert "The multipliers of “M” are moved" in held
    assert "halves" not in texts_of(protocol(compared_results([trial("m", LIFT)])))


def test_the_page_has_every_section_and_no_empty_number() -> None:
    violation = dict.fromkeys(("train", "validation", "test"), np.full((4, 3), -0.01))
    made = trial("ceag", LIFT + 0.2 * NOISE, {"rate": 1.0}, multipliers=np.ones((4, 20, 3)), violation=violation)
    results = with_costs(compared_results([made]))
    assert len(sections_of(results, COMPARE)) == len(COMPARE) - 1  # no channels were removed
    page = render_page("comparison-report", results, ENVIRONMENT, None)
    assert "<h1>What helps? made, by town</h1>" in page
    assert "jaxprune compare config.toml" in page
    assert "nan" not in page.lower()
    alone = render_page("comparison-report", compared_results([]), ENVIRONMENT, None)
    assert "name other methods in retrain.methods" in alone


def test_the_short_table_has_every_method_at_the_headline() -> None:
    made = compared_results([trial("m", LIFT), diverged("x")])
    short = PAGES["comparison-report"].short(made)
    assert short is not None
    assert [row[0] for row in short.rows] == ["Naive", "M"]
    assert [str(row[2]).split()[0] for row in short.rows] == [
        f"{100 * np.mean(accuracy.min(1)):.1f}" for accuracy in (NAIVE, LIFT)
    ]

"""The answer as values: who is hurt, how clear that is, and where networks stop working."""

import json

import numpy as np
import pytest
from made_results import PEOPLE, made_results, with_tests

from jaxprune.results import answer_of, headline_sparsity


def test_a_clear_effect_is_clear_by_loss_and_by_accuracy() -> None:
    answer = answer_of(made_results(harm=(0.1, 0.5, 0.2)))
    assert (answer.split, answer.sparsity, answer.works, answer.agree) == ("test", 0.9, True, True)
    for measure, change in {"loss": 0.5, "accuracy": 0.15}.items():
        found = answer.measures[measure]
        assert (found.worst.group, found.worst.people) == ("town 1", PEOPLE)
        assert found.worst.change == pytest.approx(change, abs=0.02)
        assert found.worst.excess == pytest.approx(change - change * 0.15 / 0.5, abs=0.02)
        assert found.worst.hurt
    assert [group.group for group in answer.measures["loss"].groups] == ["town 1", "town 2", "town 0"]
    assert [group.group for group in answer.measures["loss"].clear] == ["town 1"]
    assert {group.group for group in answer.measures["loss"].unclear} == {"town 0", "town 2"}
    assert answer.measures["loss"].worst.low > 0


@pytest.mark.parametrize(
    "changes", [{"harm": (0.3, 0.3, 0.3), "noise": 0.1}, {"harm": (0.29, 0.31, 0.30), "noise": 0.0005, "people": 0.5}]
)
def test_chance_over_seeds_or_people_is_not_clear(changes) -> None:
    answer = answer_of(made_results(**changes))
    assert not any(found.clear for found in answer.measures.values())
    assert all(group.smallest_visible > group.excess for group in answer.measures["loss"].groups)


def test_measures_may_name_different_groups() -> None:
    made = made_results(harm=(0.1, 0.5))
    tests = made.tests("pruned", 0.9)
    assert tests is not None
    accuracy = tests.harm["accuracy"]
    swapped = accuracy._replace(change=accuracy.change[::-1], excess=accuracy.excess[::-1], p=accuracy.p[::-1])
    answer = answer_of(with_tests(made, "pruned", 0.9, harm={"accuracy": swapped}))
    assert not answer.agree
    assert answer.measures["accuracy"].worst.group == "town 0"
    assert answer.measures["loss"].worst.group == "town 1"


def test_a_group_that_gains_is_not_hurt() -> None:
    answer = answer_of(made_results(harm=(-0.2, -0.1)))
    assert not any(group.hurt or group.clear for found in answer.measures.values() for group in found.groups if
                   found.measure != "flips")  # fmt: skip


def test_an_answer_about_other_networks_and_another_sparsity() -> None:
    made = made_results(harm=(0.1, 0.5), fair=(0.4, 0.2))
    assert answer_of(made, "fair_after").measures["loss"].worst.group == "town 0"
    half = answer_of(made, "none", 0.5)
    assert half.sparsity == 0.5
    assert half.measures["loss"].worst.change == pytest.approx(0.25, abs=0.02)
    with pytest.raises(KeyError, match=r"fair_after at 0\.7 was not tested"):
        answer_of(made, "fair_after", 0.7)


@pytest.mark.parametrize(
    ("broken_at", "headline", "works"), [(None, 0.9, True), (0.9, 0.7, True), (0.7, 0.5, True), (0.5, 0.5, False)]
)
def test_the_headline_is_the_largest_sparsity_up_to_which_every_network_works(broken_at, headline, works) -> None:
    made = made_results(harm=(0.1, 0.5), sparsities=(0.5, 0.7, 0.9))
    if broken_at is not None:
        tests = made.tests("pruned", broken_at)
        assert tests is not None
        lost = np.zeros((5, 2), int)
        lost[2, 1] = 1
        working = tests.working._replace(works=np.array([1, 1, 0, 1, 1], bool), lost=lost)
        made = with_tests(made, "pruned", broken_at, working=working)
    assert headline_sparsity(made) == headline
    assert headline_sparsity(made, "none") == 0.9
    answer = answer_of(made)
    assert (answer.sparsity, answer.works) == (headline, works)
    if broken_at is None:
        assert answer.breaks is None
    else:
        assert answer.breaks is not None
        assert (answer.breaks.sparsity, answer.breaks.seeds, answer.breaks.lost) == (broken_at, 1, ("town 1",))
        assert (answer.breaks.uniform, answer.breaks.dense) == (False, False)


def test_the_reason_of_a_break() -> None:
    made = made_results(seeds=2)
    tests = made.tests("pruned", 0.9)
    assert tests is not None
    dead = tests.working._replace(works=np.zeros(2, bool), diversity=np.zeros(2), skill=np.full(2, np.nan))
    breaks = answer_of(with_tests(made, "pruned", 0.9, working=dead)).breaks
    assert breaks is not None
    assert (breaks.seeds, breaks.lost, breaks.uniform, breaks.dense) == (2, (), True, True)


def test_the_answer_as_plain_values() -> None:
    answer = answer_of(made_results(harm=(0.1, 0.5, 0.2)))
    plain = json.loads(json.dumps(answer.to_json(), allow_nan=False))
    assert {name: plain[name] for name in ("split", "sparsity", "works", "level", "breaks")} == {
        "split": "test", "sparsity": 0.9, "works": True, "level": 0.05, "breaks": None,
    }  # fmt: skip
    assert [measure["measure"] for measure in plain["measures"]] == list(answer.measures)
    loss = next(measure for measure in plain["measures"] if measure["measure"] == "loss")
    assert loss["worst"]["change"] == answer.measures["loss"].worst.change
    assert [group["group"] for group in loss["clear"]] == ["town 1"]
    assert {group["group"] for group in loss["others"]} == {"town 0", "town 2"}


def test_one_seed_has_an_answer_too() -> None:
    assert answer_of(made_results(seeds=1)).measures["loss"].clear

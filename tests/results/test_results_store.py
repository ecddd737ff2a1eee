"""Results on disk: there and back, and what cannot be read."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from comparisons import LEVEL, LIFT, compared_results, diverged, trial
from made_results import made_results, made_theory, with_further

from jaxprune.errors import UserError
from jaxprune.results import Results, load
from jaxprune.results.store import FORMAT, from_json, save, to_json


def again(results: Results) -> Results:
    return from_json(json.loads(json.dumps(to_json(results), allow_nan=False)))


def assert_equal(one, other) -> None:
    """Fields, arrays and nested values are equal, NaN included."""
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif hasattr(one, "__dataclass_fields__"):
        assert_equal(vars(one), vars(other))
    elif isinstance(one, tuple | list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_equal(a, b)
    elif isinstance(one, float | np.ndarray | np.generic | jax.Array):
        np.testing.assert_array_equal(np.asarray(one, float), np.asarray(other, float))
    else:
        assert one == other


def complete() -> Results:
    """Every field that results may have."""
    made = trial(
        "ceag", LIFT, {"dual_rate": 0.1}, multipliers=np.ones((4, 5, 3)), violation={"test": np.ones((4, 3))},
        works=(True, False, True, True), held_out=True,
    )  # fmt: skip
    results = compared_results([made, trial("m", LEVEL, chosen=False), diverged("m", {"dual_rate": 9.0})])
    key = (made.network.key, "test")
    audit = results.audits[key]
    own = audit._replace(own_impact=audit.impact._replace(excessive_loss=audit.impact.excessive_loss / 3))
    return replace(results, audits=dict(results.audits) | {key: own})


@pytest.mark.parametrize(
    "results",
    [made_results(harm=(0.1, 0.2, 0.5)), with_further(made_results(seeds=2)), made_theory(), complete()],
    ids=["run", "further grouping", "theory", "comparison"],
)
def test_json_holds_everything(results) -> None:
    assert_equal({**vars(results), "splits": results.splits}, {**vars(again(results)), "splits": results.splits})


def test_the_bound_is_in_the_file_and_is_computed_again() -> None:
    made = made_theory()
    assert made.theory is not None
    np.testing.assert_array_equal(to_json(made)["theory"]["bound"], made.theory.bound)
    loaded = again(made).theory
    assert loaded is not None
    np.testing.assert_array_equal(loaded.bound, made.theory.bound)


def test_numbers_that_are_not_finite_become_nan() -> None:
    made = made_results(seeds=2)
    audit = made.audits["pruned 0.5", "test"]
    loss = np.array([[np.inf, np.nan], [1.0, 2.0]])
    changed = audit._replace(metrics=audit.metrics._replace(loss=loss))
    made = replace(made, audits=dict(made.audits) | {("pruned 0.5", "test"): changed})
    loaded = again(made).audits["pruned 0.5", "test"].metrics.loss
    np.testing.assert_array_equal(loaded, [[np.nan, np.nan], [1.0, 2.0]])


def test_a_folder_or_its_file_is_loaded(tmp_path) -> None:
    made = complete()
    save(tmp_path / "results.json", made, answer={"split": "test"})
    for place in (tmp_path, str(tmp_path), tmp_path / "results.json"):
        assert_equal(vars(load(place)), vars(again(made)))
    assert json.loads((tmp_path / "results.json").read_text())["answer"] == {"split": "test"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is missing; give the folder of a finished report"),
        ("{", "cannot be read"),
        ("\x00\x01", "cannot be read"),
        ("[]", "another version of jaxprune"),
        ("{}", "another version of jaxprune"),
        (json.dumps({"format": FORMAT - 1}), "another version of jaxprune"),
        (json.dumps({"format": FORMAT}), "damaged"),
        (json.dumps(to_json(made_results(seeds=1)) | {"networks": 3}), "damaged"),
        (json.dumps(to_json(made_results(seeds=1)) | {"audits": [{}]}), "damaged"),
        (json.dumps(to_json(made_results(seeds=1)) | {"networks": [{"key": "dense", "multipliers": None}]}), "damaged"),
    ],
)
def test_what_cannot_be_loaded_is_told_on_one_line(content, says, tmp_path) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError) as error:
        load(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'results.json'} ")
    assert says in message
    assert "\n" not in message

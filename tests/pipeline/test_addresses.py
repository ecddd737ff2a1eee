"""The addresses of stages: each changes exactly when something that decides its result does."""

import numpy as np
import pytest
from experiments import experiment

from jaxprune import models
from jaxprune.mitigation import METHODS
from jaxprune.pipeline.addresses import (
    audit_stage,
    measure_stage,
    outcomes_stage,
    plan_groupings,
    stage_of,
    theory_stage,
)
from jaxprune.pipeline.plan import plan_comparison, plan_run
from jaxprune.pipeline.theory_measures import MEASURES

SMALL = {"data.name": "digits", "model.hidden": (8,), "seeds": 2, "prune.sparsities": (0.5, 0.9)}
PEOPLE = {"seeds": 2, "model.hidden": (4,), "prune.sparsities": (0.5,), "retrain.methods": tuple(METHODS)}


def addresses(made, plan=None) -> dict[str, str]:
    """Address of every stage by name; of candidates, that of the last."""
    plan = plan or plan_run(made.settings)
    stages = {}
    for entry in plan.entries:
        if entry.network.sparsity in (0.0, 0.5):
            stages[entry.network.name] = stage_of(made, entry.node)
            stages[f"outcomes {entry.network.name}"] = outcomes_stage(made, entry, plan.splits)
    stages["audit"] = audit_stage(made, plan, plan_groupings(made, plan))
    stages["theory"] = theory_stage(made, plan)
    stages |= {f"theory {measure}": measure_stage(made, plan, measure) for measure in MEASURES}
    return {name: stage.address for name, stage in stages.items()}


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """The stages with another address, but for outcomes and measures, which move with their parents."""
    plain = {name for name in before if " " not in name}
    for name in (set(before) - plain) & set(after):
        parent = name.removeprefix("outcomes ") if name.startswith("outcomes") else "theory"
        assert (before[name] != after[name]) >= (before[parent] != after[parent])
    return {name for name in plain & set(after) if before[name] != after[name]}


EVERYTHING = {
    "dense", "fair_dense", "pruned", "none", "fair_before", "fair_after", "fair_both", "audit", "theory",
}  # fmt: skip
RETRAINED = {"none", "fair_before", "fair_after", "fair_both"}
FAIR = {"fair_dense", "fair_before", "fair_after", "fair_both"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "other"}, set()),
        ({"audit__confidence": 0.9}, set()),
        ({"choice__max_cost": 0.5}, set()),  # nothing is chosen
        ({"data__group": "digit"}, set()),  # the default by its name
        ({"model__hidden": (9,)}, EVERYTHING),
        ({"train__epochs": 16}, EVERYTHING),
        ({"first_seed": 1}, EVERYTHING),
        ({"data__imbalance": 2.0}, EVERYTHING),
        ({"prune__sparsities": (0.5, 0.7)}, {"audit", "theory"}),
        ({"prune__criterion": "random"}, EVERYTHING - {"dense", "fair_dense"}),
        ({"retrain__epochs": 6}, RETRAINED | {"audit"}),
        ({"mitigation__dual_rate": 0.1}, FAIR | {"audit"}),
        ({"mitigation__scheme": "extragradient"}, FAIR | {"audit"}),
        ({"retrain__methods": ("none",)}, {"audit"}),
        ({"audit__splits": ("test",)}, {"audit"}),
        ({"theory__split": "test"}, {"theory"}),
    ],
)
def test_settings_move_stages(change, expected) -> None:
    assert moved(addresses(experiment(SMALL)), addresses(experiment(SMALL, **change))) == expected


CONVOLUTIONS = {"model__name": "convnet", "model__channels": (2,)}


@pytest.mark.parametrize(("change", "expected"), [({}, set()), (CONVOLUTIONS, EVERYTHING)], ids=["mlp", "convnet"])
def test_native_convolutions_move_networks(change, expected, monkeypatch) -> None:
    by_form = []
    for native in (True, False):
        monkeypatch.setattr(models, "in_native_code", lambda native=native: native)
        by_form.append(addresses(experiment(SMALL, **change)))
    assert moved(*by_form) == expected


def test_the_address_follows_the_data_not_the_file(tmp_path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(60, 3)), "y": np.arange(60) % 2, "town": np.arange(60) % 3}
    np.savez(tmp_path / "a.npz", **arrays)
    first = addresses(experiment(SMALL, data__name=str(tmp_path / "a.npz")))
    arrays["x"][0, 0] += 1
    np.savez(tmp_path / "a.npz", **arrays)
    assert addresses(experiment(SMALL, data__name=str(tmp_path / "a.npz")))["dense"] != first["dense"]


def compared(**changes) -> dict[str, str]:
    made = experiment(PEOPLE, **changes)
    return addresses(made, plan_comparison(made.settings))


def test_groups_are_in_the_address_of_what_depends_on_them() -> None:
    race, sex = compared(), compared(data__group="sex")
    free = {name for name in race if race[name] == sex[name] and not name.startswith("outcomes")}
    # The epoch of naive_best is chosen by half of the validation split where other methods hold people out, and the
    # halves have equal groups.
    assert free == {"dense", "pruned", "naive", "performance_weighted", "distilled", "logit_adjusted", "curvature"} - (
        {"curvature"} if race["curvature"] != sex["curvature"] else set()
    )


def test_the_best_epoch_depends_on_groups_only_where_people_are_held_out() -> None:
    methods = {"retrain__methods": ("naive_best", "equal_loss")}
    race, sex = (compared(data__group=group, **methods)["naive_best"] for group in ("race", "sex"))
    assert race == sex
    held_out = compared(retrain__methods=("naive_best", "equal_loss_held_out"))
    assert held_out["naive_best"] != race


@pytest.mark.parametrize(
    "option",
    [{"data__balance": True}, {"data__imbalance": 3.0}, {"data__min_group_size": 120}],
    ids=["balance", "imbalance", "min_group_size"],
)
def test_examples_chosen_by_group_move_the_networks(option) -> None:
    race, sex = (compared(data__group=group, **option)["dense"] for group in ("race", "sex"))
    assert race != sex


def test_a_least_size_that_leaves_nobody_out_moves_no_network() -> None:
    plain, least = compared(data__group="sex"), compared(data__group="sex", data__min_group_size=9)
    assert plain["dense"] == least["dense"]


def test_further_groupings_move_the_audit_alone() -> None:
    run = {"retrain__methods": ()}
    plain, more = (
        addresses(experiment(PEOPLE, **run, **groups)) for groups in ({}, {"audit__groups": ("race", "sex")})
    )
    assert {name for name in plain if plain[name] != more[name]} == {"audit"}


def test_configured() -> None:
    """Settings of [mitigation] decide the configured method, and no other."""
    base = {"retrain__methods": ("configured", "equal_loss_buffer"), "mitigation__constraint": "excess_accuracy_gap"}
    plain = compared(**base)
    changes = [{"constraint": "loss_gap"}, {"dual": "nu_pi"}, {"scheme": "alternating"}, {"penalty": 1.0}]
    for change in changes:
        other = compared(**base | {f"mitigation__{name}": value for name, value in change.items()})
        assert {n for n in plain if plain[n] != other[n] and " " not in n} == {"configured", "audit"}

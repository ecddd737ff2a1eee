"""A comparison of methods made by hand, with three groups and four seeds."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from made_results import SETTINGS

from jaxprune.auditing import GroupMetrics, SamplingError, Working, impact
from jaxprune.results import SPLITS, Audit, Comparison, Network, Results
from jaxprune.results.harm_tests import HarmTests

SIZES = np.array([600.0, 300.0, 100.0])


def metrics(accuracy, loss=None) -> GroupMetrics:
    """From group accuracies [R, G]."""
    accuracy = np.asarray(accuracy, float)
    loss = 1 - accuracy if loss is None else np.asarray(loss, float)
    share = SIZES / SIZES.sum()
    return GroupMetrics(np.broadcast_to(SIZES, accuracy.shape), loss, accuracy, loss @ share, accuracy @ share)


DENSE = [[0.90, 0.85, 0.80]] * 4
NOISE = 0.002 * np.array([[1, -1, 2], [0, 1, -1], [-1, 2, 0], [1, 0, 1]])
NAIVE = np.array([0.88, 0.80, 0.62]) + NOISE
LIFT = NAIVE + np.array([0, 0, 0.12])  # the small group is lifted
LEVEL = NAIVE - [0.2, 0.12, 0]  # the others are levelled down


@dataclass
class Trial:
    """A network with its metrics by split, and with what else is audited."""

    network: Network
    metrics: dict[str, GroupMetrics]
    violation: dict[str, Any] = field(default_factory=dict)
    works: tuple[bool, ...] | None = None


def network(name, values=None, **more) -> Network:
    """A retrained network, 90 % pruned; the constraint of "ceag" is an inequality, that of "equal" an equality."""
    inequality = {"ceag": True, "equal": False}.get(name)
    facts: dict[str, Any] = {"method": name, "about": f"{name}.", "inequality": inequality, "values": values or {}}
    return Network(name, name.title(), "retrained", **{"sparsity": 0.9} | facts | more)


def trial(name, accuracy, values=None, *, violation=None, works=None, **more) -> Trial:
    """A retrained network from its group accuracies [R, G], a percent higher on the training split."""
    accuracy = np.asarray(accuracy)
    splits = {"train": accuracy + 0.01, "validation": accuracy, "test": accuracy}
    of_splits = {split: metrics(values) for split, values in splits.items()}
    return Trial(network(name, values, **more), of_splits, violation or {}, works)


def diverged(name, values=None, trouble="the loss became NaN") -> Trial:
    """A network without measurements."""
    return Trial(network(name, values, chosen=False, trouble=trouble), {})


def compared_results(trials, *, naive=NAIVE, seeds=4, **choice) -> Results:
    """The results of a comparison of these networks with plain fine-tuning."""
    dense = Trial(Network("dense", "Dense", "dense"), dict.fromkeys(SPLITS, metrics(DENSE)))
    pruned = Trial(Network("pruned", "Pruned, not retrained", "compressed", 0.9), trial("", NAIVE - 0.1).metrics)
    base = naive if isinstance(naive, Trial) else trial("naive", naive)
    measured = [dense, pruned, base, *trials]
    settings = {
        "name": "made", "data": {"name": "made", "group": "town", "label": "y"}, "model": {"name": "mlp"},
        "audit": {"confidence": 0.95}, "retrain": {"epochs": 2},
        "prune": SETTINGS["prune"] | {"sparsities": [0.9]},
        "choice": {"max_cost": 0.01, "measure": "max_excess_accuracy_gap"} | choice,
    }  # fmt: skip
    return results_of(measured, settings, seeds)


def results_of(measured, settings, seeds=4) -> Results:
    """The results of trials, of which the first is the dense network."""
    dense = measured[0]
    return Results(
        settings=settings,
        provenance="made up",
        label_names=["no", "yes"],
        seeds=list(range(seeds)),
        majority=dict.fromkeys(SPLITS, 0.6),
        networks=tuple(one.network for one in measured),
        group_names=["big", "middle", "small"],
        group_sizes={split: SIZES.astype(int).tolist() for split in SPLITS},
        warnings=[],
        audits={
            (one.network.key, split): _audit(dense, one, split, seeds) for one in measured for split in one.metrics
        },
    )


def comparison(trials, **more) -> Comparison:
    """The comparison of these networks with plain fine-tuning."""
    return Comparison(compared_results(trials, **more))


def _audit(dense: Trial, one: Trial, split: str, seeds: int) -> Audit:
    own, plain = (GroupMetrics(*(np.asarray(leaf)[:seeds] for leaf in t.metrics[split])) for t in (one, dense))
    change, error = impact(plain, own), np.full(own.loss.shape, 0.01)
    tests = None
    if one.works is not None and split == "test":
        works = np.array(one.works)
        lost = np.zeros((len(works), len(SIZES)), bool)
        tests = HarmTests(
            {}, {}, Working(skill=np.ones(len(works)), diversity=np.ones(len(works)), lost=lost, works=works)
        )
    violation = one.violation.get(split)
    return Audit(own, change, change, SamplingError(error, error), tests, violation)


def noisy(mean, spread, seed=0) -> np.ndarray:
    """A lift of the small group, not the same in every seed."""
    lift = mean + spread * np.random.default_rng(seed).normal(size=4)
    return NAIVE + np.array([0, 0, 1]) * lift[:, None]

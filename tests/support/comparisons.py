"""A comparison of methods made by hand, with three groups and four seeds."""

import numpy as np
from jaxprune.reporting.comparison import Comparison, Trial

from jaxprune.auditing import GroupMetrics

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
        "choice": {"max_cost": 0.01, "measure": "max_excess_accuracy_gap"} | compare_settings,
    }  # fmt: skip
    return Comparison(
        settings, "made up", ["big", "middle", "small"], [0, 1, 2, 3],
        {s: SIZES.astype(int).tolist() for s in ("train", "validation", "test")},
        {n: n.title() for n in names}, {n: f"{n}." for n in names}, {"ceag": True, "equal": False},
        {s: metrics(DENSE) for s in ("train", "validation", "test")}, [trial("naive", NAIVE), *trials],
    )  # fmt: skip


LIFT = NAIVE + np.array([0, 0, 0.12])  # the small group is lifted
LEVEL = NAIVE - [0.2, 0.12, 0]  # the others are levelled down


def noisy(mean, spread, seed=0):
    """A lift of the small group, not the same in every seed."""
    lift = mean + spread * np.random.default_rng(seed).normal(size=4)
    return NAIVE + np.array([0, 0, 1]) * lift[:, None]

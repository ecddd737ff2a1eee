"""Comparisons of criteria and structures made by hand, with three groups and four seeds."""

import numpy as np
from comparisons import DENSE, NAIVE, NOISE, Trial, metrics, results_of
from made_results import SETTINGS

from jaxprune.components import CRITERIA, STRUCTURES
from jaxprune.results import SPLITS, Network, Results

# Criterion -> by how much the accuracies of the groups differ from those of magnitude, without and with retraining.
SHIFTS = {
    "magnitude": (np.zeros(3), np.zeros(3)),
    "random": (np.array([-0.3, -0.25, -0.2]), np.array([-0.05, -0.05, -0.05])),
    "curvature": (np.array([0.02, 0.02, 0.0]), np.array([0.01, 0.0, 0.0])),
    "worst_group_curvature": (np.array([0.0, 0.02, 0.16]), np.array([0.0, 0.0, 0.1])),
    "fairprune": (np.array([0.001, 0.0, -0.002]), np.array([0.0, 0.001, 0.0])),
}
# Structure -> the same; channels hurt the first group, which weights spare.
STRUCTURE_SHIFTS = {
    "weights": (np.zeros(3), np.zeros(3)),
    "n_m": (np.array([-0.001, 0.0, 0.001]), np.array([0.0, 0.001, 0.0])),
    "channels:cost=parameters": (np.array([-0.3, 0.0, 0.0]), np.array([-0.02, 0.0, 0.03])),
}
TITLES = {"n_m": "N:4", "channels:cost=parameters": "channels, at equal parameters"}


def made_criteria(
    shifts=None, *, axis="criteria", sparsities=(0.5, 0.9), seeds=4, reestimate=False, broken=(), trouble=()
) -> Results:
    """Results of a comparison of criteria.

    Args:
      shifts: As `SHIFTS`; the first is the baseline.
      axis: "criteria", or "structures" that are compared.
      sparsities: At the lowest the networks are 5 points better in every group.
      seeds: At most four.
      reestimate: Whether there are networks with re-estimated statistics, 2 points better.
      broken: (name, sparsity) of networks that no longer work in the first seed.
      trouble: Names of retrained networks that diverged.
    """
    shifts = SHIFTS if shifts is None else shifts
    trials = [Trial(Network("dense", "Dense", "dense"), dict.fromkeys(SPLITS, metrics(DENSE)))]
    for sparsity in sparsities:
        for k, (criterion, (bare, again)) in enumerate(shifts.items()):
            noise = NOISE if not k else NOISE + 0.4 * np.roll(NOISE, k, axis=(0, 1)[k % 2])
            base = np.array(NAIVE) - NOISE + noise + (0.05 if sparsity == min(sparsities) else 0)
            title = TITLES.get(criterion, criterion.replace("_", " "))
            about = (CRITERIA.describe() | STRUCTURES.describe()).get(criterion.partition(":")[0], "")
            first = Network(criterion, title, "compressed", sparsity, about=about)
            made = [(first, base - 0.1 + bare)]
            if reestimate:
                more = f"{title}, statistics re-estimated"
                made.append((Network(f"{criterion}_reestimated", more, "compressed", sparsity), base - 0.08 + bare))
            name = f"{criterion}+naive"
            last = Network(name, f"{title}, naive fine-tuning", "retrained", sparsity, about="plain")
            if name in trouble:
                last = Network(name, last.title, "retrained", sparsity, chosen=False, trouble="the loss became NaN")
            made.append((last, base + again))
            for network, accuracy in made:
                works = tuple(not ((network.name, sparsity) in broken and r == 0) for r in range(seeds))
                of_splits = {} if network.trouble else {split: metrics(accuracy) for split in SPLITS}
                trials.append(Trial(network, of_splits, works=works))
    prune = SETTINGS["prune"] | {axis: list(shifts), "sparsities": list(sparsities), "reestimate": reestimate}
    return results_of(trials, SETTINGS | {"prune": prune, "seeds": seeds}, seeds)


def made_structures(**options) -> Results:
    """Results of a comparison of structures; options as of `made_criteria`."""
    return made_criteria(STRUCTURE_SHIFTS, axis="structures", **options)

"""Caveats of dense networks that have hardly learned anything."""

import numpy as np

from jaxprune.numbers import percent, plural
from jaxprune.results import Results

_LITTLE = 0.01  # of accuracy


def dense_gain(results: Results) -> np.ndarray:
    """[R] accuracy of the dense networks beyond the commonest label's."""
    split = results.answered_split
    accuracy = np.asarray(results.audit(results.dense, split).metrics.overall_accuracy, float)
    return accuracy - results.majority[split]


def dense_learned(results: Results) -> np.ndarray:
    """[R] whether the dense networks work: networks of others never did."""
    return dense_gain(results) > 0


def of_dense(results: Results) -> list[str]:
    """A caveat where dense networks hardly beat the commonest label."""
    poor = int(np.sum(dense_gain(results) <= _LITTLE))
    if not poor:
        return []
    seeds = len(results.seeds)
    which = "" if poor == seeds else f" of {poor} of {plural(seeds, 'seed')}"
    common = percent(results.majority[results.answered_split])
    return [
        f"The dense networks{which} do little or no better than the commonest label, which is right for {common} of "
        "the people: pruning has little to harm in them, and whether pruned ones work cannot be judged. Train longer "
        "(train.epochs)."
    ]

"""The choice among candidates, made on the validation split alone."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxprune.results.comparison import MEASURES

Figures = Mapping[str, np.ndarray]


def choose(candidates: Sequence[Figures], baseline: Figures, *, measure: str, max_cost: float) -> int:
    """Choose one of several candidates of a method.

    Of the candidates that cost at most `max_cost` of the baseline's validation accuracy (mean over seeds), the one that
    is best by `measure`; where none is that cheap, the most accurate one. The first of them on a tie.

    Args:
      candidates: For each, measure -> [R] on the validation split.
      baseline: The same of the baseline.
      measure: A name in `MEASURES`.
      max_cost: A share of accuracy.

    Returns:
      Its place among the candidates.
    """
    means = [{name: float(np.mean(values)) for name, values in one.items()} for one in candidates]
    least = float(np.mean(baseline["accuracy"])) - max_cost
    affordable = [i for i, mean in enumerate(means) if mean["accuracy"] >= least]
    if not affordable:
        return max(range(len(means)), key=lambda i: means[i]["accuracy"])
    sign = -1 if MEASURES[measure].more_is_better else 1
    return min(affordable, key=lambda i: sign * means[i][measure])

"""Synthetic data with independent size, margin and noise of each group."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from jaxprune.data.raw import RawData
from jaxprune.data.splitting import stratified
from jaxprune.errors import UserError
from jaxprune.memory import check_fits

_SEED = 20220614  # fixed: the data must not change with the seed of a run
_TEST_SHARE = 0.3


@dataclass(frozen=True)
class SyntheticDesign:
    """A factorial design: one group for every size, margin and noise.

    Each group has a direction of its own. Along it, the two labels are normal with means +margin and -margin and
    variance 1, so that `margin` is the distance of a typical example to the decision boundary; every other feature is
    noise. A share `noise` of the labels is flipped. The group is among the inputs (one-hot), so that the best
    possible classifier knows which direction to look at, and the groups differ in nothing but the three factors.

    Attributes:
      sizes: Numbers of examples.
      margins: Distances to the boundary, in standard deviations.
      noise: Shares of flipped labels, in [0, 0.5).
    """

    sizes: tuple[int, ...]
    margins: tuple[float, ...]
    noise: tuple[float, ...]

    @property
    def cells(self) -> list[tuple[int, float, float]]:
        """Size, margin and noise of each group."""
        return list(itertools.product(self.sizes, self.margins, self.noise))

    @property
    def group_names(self) -> tuple[str, ...]:
        """Names of the groups, by the factors that vary."""
        names = []
        for size, margin, noise in self.cells:
            parts = [f"n={size}"] * (len(self.sizes) > 1) + [f"margin={margin:g}"] * (len(self.margins) > 1)
            names.append(" ".join(parts + [f"noise={noise:g}"] * (len(self.noise) > 1)) or "all")
        return tuple(names)

    def bayes_error(self) -> np.ndarray:
        """Compute the Bayes error of each group, [G].

        It is η + (1 - 2η) Φ(-margin).
        """
        _, margin, noise = np.array(self.cells).T
        return noise + (1 - 2 * noise) * norm.cdf(-margin)

    def bayes_logits(self, x: np.ndarray) -> np.ndarray:
        """Compute the log P(y | x) of the Bayes classifier, [N, 2].

        Args:
          x: [N, 2G] inputs: the group one-hot, then a feature for each group's direction.
        """
        groups = len(self.cells)
        _, margin, noise = (np.asarray(x[:, :groups], float) @ np.array(self.cells)).T
        along = np.sum(x[:, :groups] * x[:, groups:], 1)
        positive = noise + (1 - 2 * noise) * expit(2 * margin * along)
        log_odds = logit(np.clip(positive, 1e-12, 1 - 1e-12))
        return np.stack([-np.logaddexp(0, log_odds), -np.logaddexp(0, -log_odds)], axis=1)


def make_synthetic(
    sizes: Sequence[int] = (8000, 800), margins: Sequence[float] = (2.0, 1.0), noise: Sequence[float] = (0.0,)
) -> RawData:
    """Draw the examples of a `SyntheticDesign`, equal at every call.

    Raises:
      UserError: A factor is out of range, or has one value twice.
    """
    design = SyntheticDesign(tuple(sizes), tuple(margins), tuple(noise))
    for setting, values, fit, remedy in (
        ("data.sizes", design.sizes, lambda v: v >= 10, "give at least 10 examples"),
        ("data.margins", design.margins, lambda v: 0 <= v <= 1e6, "give a distance from 0 to 1e6"),
        ("data.noise", design.noise, lambda v: 0 <= v < 0.5, "give a share in [0, 0.5)"),
    ):
        for value in values:
            if not fit(value):
                raise UserError(f"{setting}: {value} is out of range; {remedy}")
            if values.count(value) > 1:
                raise UserError(f"{setting}: {value} is given twice; each value makes groups of its own: name it once")
    examples, features = sum(size for size, _, _ in design.cells), 2 * len(design.cells)
    check_fits("data.sizes", f"{examples:,} examples", 20 * examples * features, "give smaller groups")
    rng = np.random.Generator(np.random.PCG64(_SEED))
    group = np.repeat(np.arange(len(design.cells)), [size for size, _, _ in design.cells])
    _, margin, flips = np.array(design.cells)[group].T
    true = rng.integers(0, 2, len(group))
    features = rng.normal(size=(len(group), len(design.cells)))
    features[np.arange(len(group)), group] += (2 * true - 1) * margin
    y = np.where(rng.random(len(group)) < flips, 1 - true, true)
    x = np.concatenate([np.eye(len(design.cells))[group], features], axis=1).astype(np.float32)
    return RawData(
        x=x,
        labels={"label": (y, ("0", "1"))},
        attributes={"cell": (group, design.group_names)},
        stratify=(group,),
        split=stratified(group * 2 + y, _TEST_SHARE).astype(np.uint8),
        standardise=np.zeros(x.shape[1], bool),
        provenance=f"made by jaxprune: sizes {sizes}, margins {margins}, label noise {noise}",
    )

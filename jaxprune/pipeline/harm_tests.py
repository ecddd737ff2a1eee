"""Tests of the harm on one split: every compressed network, every grouping."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxprune.auditing import GroupCodes, Outcomes, Spread, changes_of, judge_networks, measure_harm, measure_spreads
from jaxprune.results.harm_tests import HarmTests


class SplitOutcomes(NamedTuple):
    """The people of one split, and every network's outcomes for them.

    Attributes:
      y: [N] labels.
      codes: Of each grouping, the groups [N] of these people.
      groupings: Name and number of groups of each grouping, the primary one first.
      networks: Outcomes of each network, leaves [R, N]; the plain dense one first, with which all are compared.
    """

    y: np.ndarray
    codes: Sequence[np.ndarray]
    groupings: Sequence[tuple[str, int]]
    networks: Sequence[Outcomes]

    def codes_of(self, grouping: str) -> np.ndarray:
        """[N] the groups of these people in a grouping."""
        return self.codes[[name for name, _ in self.groupings].index(grouping)]


def harm_tests(
    people: SplitOutcomes, compressed: Sequence[bool], commonest: float
) -> dict[str, list[HarmTests | None]]:
    """Test whom compression hurts more, and judge which networks work.

    The groups of all groupings and all measures of a network are one family.

    Args:
      people: The outcomes of every network.
      compressed: Which networks are tested: compressed ones.
      commonest: The accuracy of always giving the commonest label.

    Returns:
      Name of each grouping -> the tests of each network; None for those that are not tested.
    """
    tests: dict[str, list[HarmTests | None]] = {name: [None] * len(compressed) for name, _ in people.groupings}
    dense, tested = people.networks[0], [i for i, is_compressed in enumerate(compressed) if is_compressed]
    if not tested:
        return tests
    codes = [GroupCodes(group, size) for group, (_, size) in zip(people.codes, people.groupings, strict=True)]
    harm = measure_harm((changes_of(dense, people.networks[i]) for i in tested), codes)
    for at, ((name, size), code) in enumerate(zip(people.groupings, codes, strict=True)):
        spreads = _spreads(people, code, tested)
        for k, i in enumerate(tested):
            working = judge_networks(
                np.asarray(dense.label), np.asarray(people.networks[i].label), people.y, code.codes,
                num_groups=size, commonest=commonest,
            )  # fmt: skip
            tests[name][i] = HarmTests(harm=harm[k][at], spreads=spreads[k], working=working)
    return tests


def _spreads(people: SplitOutcomes, code: GroupCodes, tested: Sequence[int]) -> list[dict[str, Spread]]:
    """Compare both spreads of each network with those of random groups."""
    figures = (
        values
        for after in (people.networks[i] for i in tested)
        for values in (changes_of(people.networks[0], after)["loss"], 1 - np.asarray(after.wrong, np.float64))
    )
    spreads = list(measure_spreads(figures, code))
    return [
        {"excessive_loss_spread": spreads[2 * k], "accuracy_spread": spreads[2 * k + 1]} for k in range(len(tested))
    ]

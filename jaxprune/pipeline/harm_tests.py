"""Tests of the harm on one split: every compressed network, every grouping."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxprune.auditing import GroupCodes, Outcomes, changes_of, judge_networks, measure_harm, measure_spreads
from jaxprune.data import Grouping

Values = dict[str, Any]


class SplitOutcomes(NamedTuple):
    """The people of one split in all groupings, and what every network predicts for them.

    Attributes:
      split: Its name.
      y: [N] labels.
      groupings: The primary one first; `codes[split]` of each are the groups [N] of these people.
      networks: Outcomes of each network, leaves [R, N]; the plain dense one first, with which all are compared.
    """

    split: str
    y: np.ndarray
    groupings: Sequence[Grouping]
    networks: Sequence[Outcomes]


def harm_tests(people: SplitOutcomes, compressed: Sequence[bool], commonest: float) -> dict[str, list[Values]]:
    """Test whom compression hurts more than the rest, and judge which networks still work.

    The groups of all groupings and all measures of a network are one family.

    Args:
      people: The outcomes of every network.
      compressed: Which networks are; the others are not tested.
      commonest: The accuracy of always giving the commonest label.

    Returns:
      Name of each grouping -> plain values for each network; empty for those not compressed.
    """
    rows: dict[str, list[Values]] = {grouping.name: [{} for _ in compressed] for grouping in people.groupings}
    dense, tested = people.networks[0], [i for i, is_compressed in enumerate(compressed) if is_compressed]
    if not tested:
        return rows
    codes = [GroupCodes(np.asarray(g.codes[people.split]), g.num_groups) for g in people.groupings]
    harm = measure_harm((changes_of(dense, people.networks[i]) for i in tested), codes)
    for at, (grouping, code) in enumerate(zip(people.groupings, codes, strict=True)):
        spreads = _spreads(people, code, tested)
        for k, i in enumerate(tested):
            working = judge_networks(
                np.asarray(dense.label), np.asarray(people.networks[i].label), people.y, code.codes,
                num_groups=code.size, commonest=commonest,
            )  # fmt: skip
            rows[grouping.name][i] = {
                "harm": {measure: _plain(found) for measure, found in harm[k][at].items()},
                "spreads": spreads[k],
                "working": _plain(working),
            }
    return rows


def _spreads(people: SplitOutcomes, code: GroupCodes, tested: Sequence[int]) -> list[Values]:
    """Compare both spreads of each network with those of random groups."""
    figures = (
        values
        for after in (people.networks[i] for i in tested)
        for values in (changes_of(people.networks[0], after)["loss"], 1 - np.asarray(after.wrong, np.float64))
    )
    found = [_plain(spread) for spread in measure_spreads(figures, code)]
    return [{"excessive_loss_spread": found[2 * k], "accuracy_spread": found[2 * k + 1]} for k in range(len(tested))]


def _plain(leaves: Any) -> Values:
    return {name: np.asarray(leaf).tolist() for name, leaf in leaves._asdict().items()}

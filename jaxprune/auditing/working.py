"""Checks that a compressed network still works."""

from typing import NamedTuple

import numpy as np

KEPT = 0.5  # the share of the dense network's skill, and of its diversity of labels, that must be left
MINIMUM_PEOPLE = 30  # in a smaller group, equal predictions may be chance


class Working(NamedTuple):
    """Judgement of each seed's network.

    Attributes:
      skill: [R] accuracy beyond that of the commonest label, as a share of the dense network's; NaN where that has
        none.
      diversity: [R] effective number of predicted labels minus one, exp(entropy) - 1, as a share of the dense
        network's.
      lost: [R, G] bool, groups that get one label alone, or no right one, and did not from the dense network.
      works: [R] bool, whether at least `KEPT` of skill and diversity is left and no group is lost.
    """

    skill: np.ndarray
    diversity: np.ndarray
    lost: np.ndarray
    works: np.ndarray


def judge_networks(
    dense: np.ndarray, labels: np.ndarray, y: np.ndarray, group: np.ndarray, *, num_groups: int, commonest: float
) -> Working:
    """Judge whether compressed networks still work.

    Args:
      dense: [R, N] labels that the dense networks predict.
      labels: [R, N] labels that the compressed networks predict.
      y: [N] true labels.
      group: [N] groups.
      num_groups: G.
      commonest: The accuracy of always giving the commonest label.

    Returns:
      The judgement.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = (dense == y).mean(-1) - commonest
        skill = np.where(gain > 0, ((labels == y).mean(-1) - commonest) / gain, np.nan)
        diversity = _diversity(labels) / _diversity(dense)
    collapsed = _collapsed(labels, y, group, num_groups)
    lost = collapsed & ~_collapsed(dense, y, group, num_groups)
    works = (skill >= KEPT) & ~(diversity < KEPT) & ~lost.any(-1)
    return Working(skill=skill, diversity=diversity, lost=lost, works=works)


def _diversity(labels: np.ndarray) -> np.ndarray:
    """Effective number of predicted labels minus one, [R]."""
    numbers = []
    for row in labels:
        _, counts = np.unique(row, return_counts=True)
        shares = counts / counts.sum()
        numbers.append(np.exp(-np.sum(shares * np.log(shares))) - 1)
    return np.array(numbers)


def _collapsed(labels: np.ndarray, y: np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Find groups [R, G] that get one label alone or none right."""
    size = np.bincount(group, minlength=num_groups)
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(size)[:-1]])[size > 0]
    collapsed = np.zeros((len(labels), num_groups), bool)
    if not len(starts):
        return collapsed
    truth = y[order]
    for r, row in enumerate(labels):
        predicted = row[order]
        one = np.minimum.reduceat(predicted, starts) == np.maximum.reduceat(predicted, starts)
        right = np.add.reduceat(predicted == truth, starts)
        collapsed[r, size > 0] = (one & (right < size[size > 0])) | (right == 0)
    return collapsed & (size >= MINIMUM_PEOPLE)

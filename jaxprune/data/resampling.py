"""Reshaping of a training split."""

import numpy as np

from jaxprune.errors import UserError

_SUBSAMPLE_SEED = 20220614  # fixed, like the splits: the data must not change with the seed of a run


def long_tail(group: np.ndarray, num_groups: int, imbalance: float) -> np.ndarray:
    """The examples to keep so that the groups become unevenly large.

    Group a keeps `n_max * imbalance ** (-a / (G - 1))` examples, n_max being the size of the largest group: the
    first stays whole, the last becomes `imbalance` times smaller than the largest. A group that is smaller already
    stays as it is.

    Args:
      group: [N] int in [0, G).
      num_groups: G.
      imbalance: At least 1; 1 keeps everything.

    Returns:
      Sorted indices of the examples to keep.

    Raises:
      UserError: `imbalance` is below 1.
    """
    if imbalance < 1:
        raise UserError(f"data.imbalance: {imbalance} is below 1; 1 keeps every example, 10 makes a ten-fold tail")
    largest = np.bincount(group, minlength=num_groups).max()
    shares = imbalance ** (-np.arange(num_groups) / max(num_groups - 1, 1))
    quota = np.maximum(1, np.round(largest * shares)).astype(int)
    generator = np.random.Generator(np.random.PCG64(_SUBSAMPLE_SEED))
    kept = [generator.permutation(np.flatnonzero(group == a))[: quota[a]] for a in range(num_groups)]
    return np.sort(np.concatenate(kept))

"""Shared data types, and the legend of the shapes in docstrings.

Shapes are written in these letters: `B` batch, `N` examples, `T` steps, `G` groups, `C` classes, `P` parameters,
`R` replicas (seeds), `S` sparsities. "mask" means a pruning mask, True where a weight is kept; examples have a
`weight`, which is 0 for padding.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray  # the core takes either
PyTree = Any  # nested dicts, lists, tuples or registered classes, with arrays as leaves
Params = PyTree  # arrays; what is trained and pruned
Stats = PyTree  # arrays that are neither trained nor pruned, such as BatchNorm's running moments
Masks = PyTree  # the structure of Params, bool, True = kept
Scores = PyTree  # the structure of Params, float; the lowest score is pruned first
Logs = dict[str, Array]
Apply = Callable[[Params, Array], Array]  # (params, x [B, ...]) -> logits [B, C], statistics frozen
Augment = Callable[[jax.Array, Array], Array]  # (key, x [B, H, W, channels]) -> x, random, for training alone
ExampleLoss = Callable[[Array, Array], Array]  # (logits [B, C], y [B]) -> [B]


class Batch(NamedTuple):
    """Examples with their labels, groups and weights.

    A whole split has the same form with N for B.

    Attributes:
      x: [B, ...] inputs.
      y: [B] int, labels in [0, C).
      group: [B] int, groups in [0, G).
      weight: [B] float, 0 marks padding; every mean is weighted by it. None, for public functions alone, means ones.
    """

    x: Array
    y: Array
    group: Array
    weight: Array = None  # pyright: ignore[reportAssignmentType] (functions that take None replace it first)


class TrainState(NamedTuple):
    """Everything that a training step changes, as a pytree.

    Attributes:
      step: [] int32, steps taken.
      params: The parameters.
      stats: The non-trained state of the network, `()` for none.
      opt_state: The state of the optax transformation: moments, masks, multipliers.
    """

    step: Array
    params: Params
    stats: Stats
    opt_state: PyTree


Step = Callable[[TrainState, Batch], tuple[TrainState, Logs]]

"""Rewinding: retraining pruned weights from an earlier step."""

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxprune.errors import UserError
from jaxprune.pruning.masks import apply_masks, check_sparsity
from jaxprune.types import Masks, Params


def rewind(params: Params, masks: Masks) -> Params:
    """The kept weights as they were at an earlier step.

    Weight rewinding (Frankle et al. 2020): train to the end, prune, and train again from the weights of step k, under
    the masks, with the learning rates of step k on (`from_step`). To rewind the learning rate alone (Renda et al.
    2020), keep the trained weights and use `from_step`.

    Args:
      params: The parameters of the dense network at step k.
      masks: The masks found at the end of training, True = kept.

    Returns:
      The parameters to train again, pruned weights 0; hold them there with `keep_masked(masks)`.
    """
    return apply_masks(params, masks)


def from_step(schedule: optax.ScalarOrSchedule, step: int) -> optax.Schedule:
    """A schedule that begins where another one is at a step.

    Args:
      schedule: A schedule of learning rates, or one learning rate.
      step: k, the step to rewind to.

    Returns:
      The schedule t -> schedule(t + k).

    Example:
      >>> import optax
      >>> from jaxprune import pruning
      >>> rate = pruning.from_step(optax.linear_schedule(1.0, 0.0, 10), 4)
      >>> round(float(rate(0)), 3)
      0.6
    """

    def value(at: ArrayLike) -> ArrayLike:
        return schedule(jnp.asarray(at) + step) if callable(schedule) else schedule

    return value


def iterative_levels(target: float, rounds: int) -> tuple[float, ...]:
    """The sparsities of pruning in rounds that each keep one share.

    s_i = 1 - (1 - target)^(i / rounds) (Frankle and Carbin 2019; their share is 0.8).

    Args:
      target: The last sparsity, in [0, 1).
      rounds: The number of rounds, 1 or more.

    Returns:
      Rising sparsities; the last is the target itself.

    Raises:
      UserError: The target is outside [0, 1), or there are no rounds.

    Example:
      >>> from jaxprune import pruning
      >>> [round(level, 3) for level in pruning.iterative_levels(0.488, 3)]
      [0.2, 0.36, 0.488]
    """
    check_sparsity(target, "target")
    if rounds < 1:
        raise UserError(f"rounds: {rounds} is not a number of rounds; give 1 or more")
    return (*(1.0 - (1.0 - target) ** (i / rounds) for i in range(1, rounds)), target)

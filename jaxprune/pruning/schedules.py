"""Schedules of sparsity over the steps of training."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxprune.errors import UserError
from jaxprune.pruning.masks import check_sparsity
from jaxprune.types import Array


@dataclass(frozen=True)
class SparsitySchedule:
    """A sparsity for every step, and the steps at which masks are updated.

    Steps are numbered from 0, as optax counts them; step t is the update number t + 1.

    Masks are updated at `begin`, `begin + every`, ..., and at `end` also where `every` does not lead there: the last
    update always reaches the target, and exactly.

    Attributes:
      value: An optax schedule, step -> sparsity in [0, 1).
      target: The sparsity from `end` on, in [0, 1).
      begin: The first step that updates masks.
      end: The last one.
      every: Steps from one update of the masks to the next.
    """

    value: optax.Schedule
    target: float
    begin: int
    end: int
    every: int = 1

    def __post_init__(self) -> None:
        """Raise a `UserError` where a field is out of range."""
        check_sparsity(self.target, "target")
        check_times(self.begin, self.end, self.every)

    def __call__(self, step: ArrayLike) -> Array:
        """[] float, the sparsity at a step: an optax schedule."""
        return jnp.where(jnp.asarray(step) >= self.end, self.target, self.value(step))

    def due(self, step: ArrayLike) -> Array:
        """[] bool, whether a step updates masks."""
        return is_due(step, self.begin, self.end, self.every)


def cubic(
    target: float, *, begin: int = 0, end: int, every: int = 1, initial: float = 0.0, power: float = 3.0
) -> SparsitySchedule:
    """The sparsity rises fast at first, then ever slower.

    s(t) = s_f + (s_i - s_f) (1 - (t - t_0) / (t_n - t_0))^power, with power 3 (Zhu and Gupta 2017, eq. 1); a power of 1
    is a line. The sparsity at `begin` is the initial one. (jaxpruner counts one step further, and prunes at `begin`
    already: its values are those of begin - 1 and end - 1 here.)

    Args:
      target: s_f, in [0, 1).
      begin: t_0, a step.
      end: t_n, a step.
      every: Steps from one update of the masks to the next.
      initial: s_i, in [0, 1).
      power: The exponent.

    Returns:
      The schedule.

    Raises:
      UserError: A sparsity or a step is out of range.

    Example:
      >>> from jaxprune import pruning
      >>> schedule = pruning.cubic(0.8, begin=0, end=100, every=10)
      >>> [round(float(schedule(step)), 3) for step in (0, 50, 100, 200)]
      [0.0, 0.7, 0.8, 0.8]
    """
    check_sparsity(initial, "initial")
    check_times(begin, end, every)

    def value(step: ArrayLike) -> Array:
        done = jnp.clip((jnp.asarray(step) - begin) / max(end - begin, 1), 0.0, 1.0)
        return target + (initial - target) * (1.0 - done) ** power

    return SparsitySchedule(value, target, begin, end, every)


def at_once(target: float, *, step: int = 0) -> SparsitySchedule:
    """One shot: the whole target at one step.

    Args:
      target: The sparsity, in [0, 1).
      step: The step that prunes.

    Returns:
      The schedule.
    """
    return SparsitySchedule(lambda at: jnp.where(jnp.asarray(at) < step, 0.0, target), target, step, step)


def iterative(target: float, *, begin: int = 0, end: int, every: int) -> SparsitySchedule:
    """Every update keeps the same share of what the one before kept.

    The sparsities are those of `iterative_levels`, with `every` steps of retraining after each but the last.

    Args:
      target: The last sparsity, in [0, 1).
      begin: The step of the first level.
      end: The step of the last level.
      every: Steps of retraining between two levels.

    Returns:
      The schedule.
    """
    check_times(begin, end, every)
    rounds = -(-(end - begin) // every) + 1

    def value(step: ArrayLike) -> Array:
        since = jnp.asarray(step) - begin
        level = jnp.where(since < 0, 0, jnp.minimum(since // every + 1, rounds))
        return 1.0 - (1.0 - target) ** (level / rounds)

    return SparsitySchedule(value, target, begin, end, every)


def gradual(value: optax.Schedule, *, begin: int = 0, end: int, every: int = 1) -> SparsitySchedule:
    """Any optax schedule as a schedule of sparsity.

    Args:
      value: step -> sparsity in [0, 1); its value at `end` is the target, and must not be traced.
      begin: The first step that updates masks.
      end: The last one.
      every: Steps from one update of the masks to the next.

    Returns:
      The schedule.

    Raises:
      UserError: The value is not a function of the step.
    """
    if not callable(value):
        raise UserError(f"value: {value!r} is not an optax schedule; for one sparsity, give pruning.at_once({value!r})")
    with jax.ensure_compile_time_eval():
        last = np.float32(np.asarray(value(end)))
    # The shortest decimal that float32 rounds to the same: 0.9, where the float32 nearest to it is 0.89999998.
    return SparsitySchedule(value, float(np.format_float_positional(last, unique=True)), begin, end, every)


def check_schedule(schedule: SparsitySchedule, num_steps: int) -> None:
    """Raise if training ends before its schedule does.

    Args:
      schedule: The schedule of sparsity.
      num_steps: The number of steps of training, the last of which has the number `num_steps` - 1.

    Raises:
      UserError: The last update of the masks would never come.
    """
    if schedule.end >= num_steps:
        raise UserError(
            f"schedule: its last update is at step {schedule.end}, but training has {num_steps} steps (0 to "
            f"{num_steps - 1}), and {schedule.target:g} is not reached; give an earlier end"
        )


def is_due(step: ArrayLike, begin: int, end: int, every: int) -> Array:
    """[] bool, whether a step is `begin`, `begin + every`, ..., or `end`."""
    step = jnp.asarray(step)
    return (step >= begin) & (step <= end) & (((step - begin) % every == 0) | (step == end))


def check_times(begin: int, end: int, every: int) -> None:
    """Raise a `UserError` unless 0 <= begin <= end and every >= 1."""
    if begin < 0:
        raise UserError(f"begin: {begin} is negative; the first step has the number 0")
    if end < begin:
        raise UserError(f"end: the last update, at step {end}, is before the first, at step {begin}; give a later end")
    if every < 1:
        raise UserError(f"every: {every} is not a number of steps; give 1 or more")

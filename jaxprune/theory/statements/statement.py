"""A statement of the theory with both sides, its assumptions and a verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.types import Array


@partial(jax.tree_util.register_dataclass, data_fields=("holds",), meta_fields=("text",))
@dataclass(frozen=True)
class Assumption:
    """An assumption of a statement.

    Attributes:
      holds: [...] bool, broadcasting to the sides of the statement.
      text: The assumption, as the end of a sentence that begins with "it is assumed that".
    """

    holds: Array
    text: str


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("left", "right", "terms", "assumptions"),
    meta_fields=("name", "relation", "rounding"),
)
@dataclass(frozen=True)
class Statement:
    """A pytree of `left <= right` or `left = right`.

    There is one for every group, or every pair of groups.

    That a statement holds in the measured cases does not confirm it.

    Attributes:
      left: [...] NaN where there is nothing to compare.
      right: [...] of the same shape.
      terms: Parts of either side, by name.
      assumptions: The assumptions that it rests on.
      name: Its name in the paper, with "corrected" where it differs from what the paper prints.
      relation: "<=" or "=".
      rounding: The slack allowed for rounding, relative to the larger side.
    """

    left: Array
    right: Array
    name: str
    relation: Literal["<=", "="] = "<="
    terms: dict[str, Array] = field(default_factory=dict)
    assumptions: tuple[Assumption, ...] = ()
    rounding: float = 1e-5

    @property
    def ratio(self) -> Array:
        """[...] right over left: how loose a bound is.

        The ratio is NaN where the left side is not above 0.
        """
        positive = self.left > 0
        return jnp.where(positive, self.right / jnp.where(positive, self.left, 1), jnp.nan)

    @property
    def holds(self) -> Array:
        """[...] bool, True where the relation holds up to rounding; False for NaN."""
        slack = self.rounding * jnp.maximum(jnp.abs(self.left), jnp.abs(self.right))
        if self.relation == "=":
            return jnp.abs(self.left - self.right) <= slack
        return self.left <= self.right + slack

    @property
    def assumed(self) -> Array:
        """[...] bool, True where both sides are finite and all assumptions hold."""
        assumed = jnp.isfinite(self.left) & jnp.isfinite(self.right)
        for assumption in self.assumptions:
            assumed = assumed & assumption.holds
        return assumed

    def verdicts(self) -> np.ndarray:
        """[...] the verdict in each case, as a short sentence."""
        assumptions = {assumption.text: assumption.holds for assumption in self.assumptions}
        return follows(self.left, self.right, self.holds, self.assumed, assumptions)


def follows(left: Array, right: Array, holds: Array, assumed: Array, assumptions: Mapping[str, Array]) -> np.ndarray:
    """The verdict on a statement, case by case, in short sentences.

    Args:
      left: [...] NaN where there is nothing to compare.
      right: [...].
      holds: [...] bool, True where the statement holds.
      assumed: [...] bool, True where all assumptions hold.
      assumptions: Text of an assumption -> bool, True where it holds, broadcasting to the sides.

    Returns:
      [...] texts.
    """
    known = np.isfinite(np.asarray(left)) & np.isfinite(np.asarray(right))
    holds, assumed = np.asarray(holds), np.asarray(assumed)
    met = {text: np.broadcast_to(np.asarray(values), known.shape) for text, values in assumptions.items()}
    verdicts = np.full(known.shape, "", object)
    for place in np.ndindex(known.shape):
        missing = [text for text, values in met.items() if not values[place]]
        if not known[place]:
            verdicts[place] = "nothing to compare"
        elif assumed[place]:
            verdicts[place] = "holds, as guaranteed" if holds[place] else "FAILS although its assumptions hold"
        else:
            outcome = "holds" if holds[place] else "fails"
            verdicts[place] = f"{outcome}, but is not guaranteed: assumption not met ({'; '.join(missing)})"
    return verdicts

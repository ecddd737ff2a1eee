"""A statement of the theory, checked: both sides, their ratio, whether its assumptions hold, and what follows."""

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
    """Something that a statement rests on.

    Attributes:
      holds: [...] bool, broadcasting to the sides of the statement.
      text: What is assumed, as the end of a sentence that begins with "it is assumed that".
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
    """`left <= right` or `left = right`, for every group or every pair of groups; a pytree.

    It says what was found. That a statement holds in the cases that were measured does not confirm it.

    Attributes:
      left: [...] NaN where there is nothing to compare.
      right: [...] of the same shape.
      terms: Parts of either side, by name.
      assumptions: What it rests on.
      name: As the paper calls it, with "corrected" where it is not what the paper prints.
      relation: "<=" or "=".
      rounding: The slack that is put down to rounding, relative to the larger side.
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
        """[...] right over left: how loose a bound is; NaN where the left side is not above 0."""
        positive = self.left > 0
        return jnp.where(positive, self.right / jnp.where(positive, self.left, 1), jnp.nan)

    @property
    def holds(self) -> Array:
        """[...] bool, but for rounding; False where there are no numbers."""
        slack = self.rounding * jnp.maximum(jnp.abs(self.left), jnp.abs(self.right))
        if self.relation == "=":
            return jnp.abs(self.left - self.right) <= slack
        return self.left <= self.right + slack

    @property
    def assumed(self) -> Array:
        """[...] bool, whether everything that it rests on is so."""
        found = jnp.isfinite(self.left) & jnp.isfinite(self.right)
        for assumption in self.assumptions:
            found = found & assumption.holds
        return found

    def verdicts(self) -> np.ndarray:
        """[...] what follows in each case, as short sentences."""
        assumptions = {assumption.text: assumption.holds for assumption in self.assumptions}
        return follows(self.left, self.right, self.holds, self.assumed, assumptions)


def follows(left: Array, right: Array, holds: Array, assumed: Array, assumptions: Mapping[str, Array]) -> np.ndarray:
    """What follows from a statement in each of its cases, as short sentences.

    Args:
      left: [...] NaN where there is nothing to compare.
      right: [...].
      holds: [...] whether the statement does.
      assumed: [...] whether everything that it rests on is so.
      assumptions: What is assumed, as the end of a sentence -> whether it is so, broadcasting to the sides.

    Returns:
      [...] texts.
    """
    known = np.isfinite(np.asarray(left)) & np.isfinite(np.asarray(right))
    holds, assumed = np.asarray(holds), np.asarray(assumed)
    so = {text: np.broadcast_to(np.asarray(values), known.shape) for text, values in assumptions.items()}
    found = np.full(known.shape, "", object)
    for place in np.ndindex(known.shape):
        missing = [text for text, values in so.items() if not values[place]]
        if not known[place]:
            found[place] = "nothing to compare"
        elif assumed[place]:
            found[place] = "holds, as it must" if holds[place] else "FAILS though its assumptions hold"
        else:
            outcome = "holds, without having to" if holds[place] else "fails, as it may"
            found[place] = f"{outcome}: it is not so that {'; nor that '.join(missing)}"
    return found

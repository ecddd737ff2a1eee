"""What prunes networks while they are trained."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import jax
import optax

from jaxprune.types import Masks, PyTree


@dataclass(frozen=True, eq=False)
class Sparsifier:
    """The optimiser of networks that are pruned while they are trained.

    Attributes:
      key: What decides the compiled step.
      transformation: `(masks, key) -> tx` of one replica. What `masks` prunes at the start stays pruned; with None, the
        transformation serves states that were made with masks.
      masks_of: The masks in a state of the optimiser, leaves [R, ...].
    """

    key: Hashable
    transformation: Callable[[Masks | None, jax.Array], optax.GradientTransformation]
    masks_of: Callable[[PyTree], Masks]

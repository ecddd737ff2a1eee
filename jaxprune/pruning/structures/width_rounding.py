"""Widths that a device computes fast: how many channels are kept."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError, unknown
from jaxprune.types import Array


class WidthRule(NamedTuple):
    """Which numbers of channels may be kept.

    Attributes:
      multiple: The nearest multiple of this is kept, at least one.
      exact_below: Numbers below this are kept as they are.
    """

    multiple: int = 1
    exact_below: int = 0

    def check(self, widest: int) -> None:
        """Raise for a multiple that no coupling reaches.

        The rules of devices leave narrow couplings as they are.

        Args:
          widest: The channels of the widest coupling that may be cut.
        """
        if not self.exact_below and self.multiple > widest:
            raise UserError(
                f"round_to: {self.multiple} is above every width that may be cut, {widest} at most; give a smaller one "
                "or exact"
            )

    def round(self, kept: Array, size: int) -> Array:
        """Round a number of kept channels; halves go up.

        A coupling of which nothing is cut stays whole, and one that is narrower than the multiple is exact. The result
        never falls as `kept` grows.

        Args:
          kept: [] int32, in [0, size].
          size: The channels of the coupling.

        Returns:
          [] int32, in [0, size].
        """
        if self.multiple == 1 or size < self.multiple:
            return kept
        nearest = jnp.maximum((2 * kept + self.multiple) // (2 * self.multiple), 1) * self.multiple
        rounded = jnp.where(kept < self.exact_below, kept, jnp.minimum(nearest, size))
        return jnp.where(kept == size, size, rounded)


# On a CPU measured with 3 x 3 convolutions c -> c on 64 images of 32 x 32 and 16 x 16 pixels (two cores, AVX2): up to
# some 25 channels the time grows with the width; from 26 on the next multiple of 16 is faster than all widths up to 15
# narrower (45 channels take 5.2 ms, 48 take 3.2). Rounding 16 channels of a narrow layer up undoes the pruning.
# Unmeasured: the others. A TPU's matrix unit and vector lanes have 128 columns, tensor cores want multiples of 8.
RULES = {"cpu": WidthRule(16, 26), "gpu": WidthRule(8, 8), "tpu": WidthRule(128, 64)}
EXACT = WidthRule()


def width_rule(round_to: int | str) -> WidthRule:
    """The rule that an option names.

    Args:
      round_to: "exact"; "auto", the rule of `RULES` for `jax.default_backend()`, that of a CPU for others; or the
        multiple.

    Raises:
      UserError: It is neither.
    """
    if round_to == "exact":
        return EXACT
    if round_to == "auto":
        return RULES.get(jax.default_backend(), RULES["cpu"])
    try:
        multiple = int(round_to)
    except (TypeError, ValueError):
        raise unknown("rule", str(round_to), ("auto", "exact", "a number"), where="round_to", listed=True) from None
    if multiple < 1 or multiple != float(round_to):
        raise UserError(f"round_to: {round_to} is not a whole number of at least 1; give one, or exact or auto")
    return WidthRule(multiple)

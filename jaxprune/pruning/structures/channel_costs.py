"""What cut channels save: channels, parameters or FLOPs."""

from collections.abc import Mapping
from typing import NamedTuple

import jax

from jaxprune.coupling.couplings import Couplings
from jaxprune.types import Array

COSTS = ("channels", "parameters", "flops")


class ChannelCost(NamedTuple):
    """The cost of a network, by the channels kept.

    Attributes:
      couplings: Those of the network.
      cuttable: The names of those that may be cut.
      measure: A name in `COSTS`.
    """

    couplings: Couplings
    cuttable: tuple[str, ...]
    measure: str

    def of(self, counts: Mapping[str, int | Array]) -> Array | float:
        """The cost with these numbers of channels.

        Args:
          counts: Name -> channels kept, of the couplings that may be cut; the others are whole.

        Returns:
          [] channels of the couplings that may be cut, or parameters or FLOPs of the whole network.
        """
        if self.measure == "channels":
            return sum(counts[name] for name in self.cuttable)
        every = {coupling.name: counts.get(coupling.name, coupling.size) for coupling in self.couplings}
        return self.couplings.parameters(every) if self.measure == "parameters" else self.couplings.flops(every)

    @property
    def full(self) -> float:
        """The cost of the dense network."""
        return self.known({name: self.couplings[name].size for name in self.cuttable})

    def known(self, counts: Mapping[str, int]) -> float:
        """The cost with known numbers, also while something is traced."""
        with jax.ensure_compile_time_eval():
            return float(self.of(counts))

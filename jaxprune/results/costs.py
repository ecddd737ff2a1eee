"""What each compressed network costs, beside the dense one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxprune.costs import Median
from jaxprune.results.plain import to_plain

FORMS = ("dense", "masked", "compact")


class ProgramCosts(NamedTuple):
    """The forward program at one batch size.

    Attributes:
      batch: Examples.
      memory: Bytes of arguments, result and temporary values, by the compiler's account.
      seconds: Of one call; NaN where it was not timed.
      ratio: Of its time to that of the dense network, round by round; NaN where it was not timed.
      rounds: Turns that it was timed in.
    """

    batch: int
    memory: int
    seconds: Median
    ratio: Median
    rounds: int

    @property
    def throughput(self) -> Median:
        """Examples in a second."""
        value, low, high = (self.batch / np.array(self.seconds)).tolist()
        return Median(value, high, low)


@dataclass(frozen=True)
class FormCosts:
    """One form of a network: dense, masked or compact.

    Attributes:
      parameters: Numbers in the arrays of parameters.
      nonzeros: Those of them that are not 0.
      bytes: Of its arrays in a file, without the header; those of a masked network dense or packed, whichever is
        smaller.
      flops: For one example, by XLA's analysis; NaN where it gives none.
      programs: The forward program for one example, and for a large batch.
    """

    parameters: int
    nonzeros: int
    bytes: int
    flops: float
    programs: tuple[ProgramCosts, ...]

    @property
    def single(self) -> ProgramCosts:
        """The program for the smallest batch, that of the latency."""
        return self.programs[0]

    @property
    def large(self) -> ProgramCosts:
        """The program for the largest batch, that of the throughput."""
        return self.programs[-1]


@dataclass(frozen=True)
class NetworkCosts:
    """A compressed network and the dense one, measured in turns.

    Attributes:
      device: What they were measured on.
      forms: Name in `FORMS` -> its costs; "compact" only where the network has such a form.
    """

    device: str
    forms: Mapping[str, FormCosts]

    @property
    def best(self) -> str:
        """The smallest form of the compressed network."""
        return "compact" if "compact" in self.forms else "masked"

    @property
    def timed(self) -> bool:
        """Return True if its speed was measured."""
        return bool(np.isfinite(self.forms["masked"].single.ratio.value))


def costs_to_json(costs: NetworkCosts) -> dict[str, Any]:
    """The plain values of a network's costs."""
    forms = {
        name: vars(form) | {"programs": [program._asdict() for program in form.programs]}
        for name, form in costs.forms.items()
    }
    return to_plain({"device": costs.device, "forms": forms})


def costs_from_json(values: Mapping[str, Any]) -> NetworkCosts:
    """A network's costs from what `costs_to_json` gave."""
    return NetworkCosts(values["device"], {name: _form(form) for name, form in values["forms"].items()})


def _form(values: Mapping[str, Any]) -> FormCosts:
    programs = tuple(
        ProgramCosts(**one | {name: Median(*map(_number, one[name])) for name in ("seconds", "ratio")})
        for one in values["programs"]
    )
    return FormCosts(**{**values, "flops": _number(values["flops"]), "programs": programs})


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)

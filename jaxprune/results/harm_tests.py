"""The tests of whom one network hurts, and their JSON form."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxprune.auditing import Harm, Spread, Working
from jaxprune.results.plain import fields_of, to_plain


class HarmTests(NamedTuple):
    """Whom a network hurts beyond chance, and whether its seeds still work.

    Attributes:
      harm: Measure ("loss", "accuracy", "flips") -> the tests of every group.
      spreads: "excessive_loss_spread" and "accuracy_spread" -> the spread beside that of random groups.
      working: The judgement of each seed.
    """

    harm: Mapping[str, Harm]
    spreads: Mapping[str, Spread]
    working: Working

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "harm": {measure: to_plain(harm._asdict()) for measure, harm in self.harm.items()},
            "spreads": {name: to_plain(spread._asdict()) for name, spread in self.spreads.items()},
            "working": to_plain(self.working._asdict()),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "HarmTests":
        """The tests from what `to_json` gave."""
        return cls(
            harm={measure: fields_of(Harm, values) for measure, values in row["harm"].items()},
            spreads={name: fields_of(Spread, values, float) for name, values in row["spreads"].items()},
            working=fields_of(Working, row["working"]),
        )

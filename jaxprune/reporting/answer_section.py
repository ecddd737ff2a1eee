"""The first section of the report: the answer in sentences and in a table."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jaxprune.reporting import findings
from jaxprune.reporting.answer import LEVEL, GroupHarm, MeasureAnswer, answer_of
from jaxprune.reporting.many import beyond_ends
from jaxprune.reporting.numbers import PERCENT_LANDMARKS, p_value, signed
from jaxprune.reporting.results import Results

# Measure -> heading of its table, unit, factor and decimals.
_TABLES = {
    "accuracy": ("Accuracy lost", "points", 100, 1),
    "loss": ("Loss gained, R(a)", "nats", 1, 3),
    "flips": ("Decisions changed, right or wrong", "% of people", 100, 1),
}


@dataclass(frozen=True)
class AnswerText:
    """The answer in sentences.

    Attributes:
      headline: Who is hurt, by accuracy and by loss.
      verdict: For whom that is clear.
      details: Where networks break, what retraining leaves, and what helps.
    """

    headline: str
    verdict: str
    details: tuple[str, ...]


def answer_text(results: Results) -> AnswerText:
    """The answer in sentences."""
    parts = (findings.breaks(results), findings.after_retraining(results), findings.what_helps(results))
    return AnswerText(
        headline=" ".join(findings.who_is_hurt(results)),
        verdict=" ".join(findings.verdict(results)),
        details=tuple(" ".join(part) for part in parts if part),
    )


def answer_tables(results: Results) -> list[dict[str, Any]]:
    """A table of all groups for each measure, hurt most first."""
    answer = answer_of(results)
    return [_table(found, *_TABLES[measure]) for measure, found in answer.measures.items() if measure in _TABLES]


def _table(found: MeasureAnswer, heading: str, unit: str, scale: float, digits: int) -> dict[str, Any]:
    def number(value: float) -> str:
        return signed(scale * value, digits, landmarks=PERCENT_LANDMARKS if scale == 100 else ())

    def row(place: int, group: GroupHarm) -> dict[str, Any]:
        low, high = number(group.low), number(group.high)
        return {
            "group": group.group,
            "more": beyond_ends(place, len(found.groups)),
            "people": f"{group.people:,}",
            "change": number(group.change),
            "excess": number(group.excess),
            "interval": f"{low} to {high}",
            "p": p_value(group.p).removeprefix("p ").removeprefix("= "),
            "clear": group.clear,
            "visible": number(group.smallest_visible).removeprefix("+"),
        }

    return {"heading": heading, "unit": unit, "rows": [row(place, group) for place, group in enumerate(found.groups)]}


def harm_rows(results: Results) -> Iterator[dict[str, Any]]:
    """One row for each test of a group against the rest."""
    for grouping in results.groupings:
        view = results.by(grouping)
        for (model, sparsity, split), tested in view.tested.items():
            for measure, harm in tested.harm.items():
                for g, group in enumerate(view.group_names):
                    yield {
                        "grouping": grouping,
                        "model": model,
                        "sparsity": sparsity,
                        "split": split,
                        "measure": measure,
                        "group": group,
                        "people": int(harm.people[g]),
                        "change": harm.change[g],
                        "excess": harm.excess[g],
                        "low": harm.low[g],
                        "high": harm.high[g],
                        "p_adjusted": harm.p[g],
                        "clear": bool(harm.clear(LEVEL)[g]),
                        "smallest_visible": harm.smallest_visible[g],
                    }

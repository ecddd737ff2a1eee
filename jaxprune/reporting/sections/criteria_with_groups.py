"""Group-aware criteria against the same criteria without groups."""

import numpy as np

from jaxprune.components import WITHOUT_GROUPS
from jaxprune.numbers import listing, p_number
from jaxprune.quantities import Cell
from jaxprune.reporting.methods import change_text
from jaxprune.reporting.page import Folded, Table, rules
from jaxprune.reporting.prunings import RANKED, SHORT_NAMES, baseline_of, capital, title_of, verdict_of, where, working
from jaxprune.results import Results
from jaxprune.results.comparison import FAIRNESS, MEASURES
from jaxprune.results.prunings import Stage, against_controls, knows_groups, prunings_of, stages_of
from jaxprune.results.verdicts import Outcome, Verdict

# What knowing the groups did, by accuracy and the measures of fairness -> the clear outcomes.
_KINDS = {
    "clearly better by some measure and worse by none": {Outcome.BETTER},
    "better by some and worse by others": {Outcome.BETTER, Outcome.WORSE},
    "clearly worse by some and better by none": {Outcome.WORSE},
    "not clearly different": set(),
}
_Row = dict[str, Verdict]  # measure -> verdict


def section(results: Results) -> Folded | None:
    """The difference that the groups make to every criterion."""
    rows = []
    for stage in stages_of(results):
        for (criterion, other), verdicts in _compared(results, stage).items():
            cells = [_cell(verdicts[measure], measure) for measure in RANKED]
            rows.append((where(results, stage), title_of(results, criterion), title_of(results, other), *cells))
    if not rows:
        return None
    table = Table(
        ("networks", "criterion", "against", *(MEASURES[measure].title for measure in RANKED)),
        tuple(rows),
        f"{results.answered_split.capitalize()} split: mean paired difference of each criterion that reads the groups "
        f"from the same one without groups, or from {baseline_of(results)} where there is no such one; p after Holm’s "
        "correction in brackets. Blue: clearly better; orange: clearly worse. Pairs in which one no longer works in "
        "some seed are left out.",
        words=(0, 1, 2),
        ruled=rules(rows),
    )
    return Folded("What knowing the groups changes", (table,))


def claims(results: Results) -> list[str]:
    """Say whether group-aware criteria are clearly better, at each stage."""
    if not any(knows_groups(criterion) for criterion in prunings_of(results)):
        return []
    sentences = []
    for stage in stages_of(results):
        if compared := _compared(results, stage):
            sentences.append(f"{capital(where(results, stage))}, {_in_words(results, compared)}")
    if not sentences:
        return []
    return [f"Does it help a criterion to know the groups? {' '.join(sentences)}"]


def has_controls(results: Results) -> bool:
    """Return whether a criterion is compared with itself without groups."""
    pairs = (pair for stage in stages_of(results) for pair in _compared(results, stage))
    return any(WITHOUT_GROUPS.get(criterion) == other for criterion, other in pairs)


def _compared(results: Results, stage: Stage) -> dict[tuple[str, str], _Row]:
    """(criterion, what it is compared with) -> measure -> verdict.

    A group-aware criterion without a control is compared with the baseline. Pairs in which one no longer works are left
    out.
    """
    rows: dict[tuple[str, str], _Row] = {}
    for (criterion, control, measure), verdict in against_controls(results, stage).items():
        rows.setdefault((criterion, control), {})[measure] = verdict
    paired, base = {criterion for criterion, _ in rows}, next(iter(stage.networks))
    for criterion in stage.networks:
        if criterion not in paired and knows_groups(criterion):
            measures = ("accuracy", *FAIRNESS)
            against = {measure: verdict_of(results, stage, criterion, measure) for measure in measures}
            row = {measure: verdict for measure, verdict in against.items() if verdict is not None}
            if row:
                rows[criterion, base] = row
    able = {*working(results, stage)}
    return {pair: row for pair, row in rows.items() if able.issuperset(pair)}


def _in_words(results: Results, compared: dict[tuple[str, str], _Row]) -> str:
    """The pairs, by what knowing the groups did."""
    kinds: dict[str, list[str]] = {}
    for (criterion, other), row in compared.items():
        clear = {outcome: _measures(row, outcome) for outcome in (Outcome.BETTER, Outcome.WORSE)}
        clear = {outcome: measures for outcome, measures in clear.items() if measures}
        kind = next(words for words, outcomes in _KINDS.items() if outcomes == clear.keys())
        by = [f"{f'{outcome.value} ' if len(clear) > 1 else ''}by {measures}" for outcome, measures in clear.items()]
        text = ", ".join([f"against “{title_of(results, other)}”", *by])
        kinds.setdefault(kind, []).append(f"“{title_of(results, criterion)}” ({text})")
    return "; ".join(f"{kind}: {listing(kinds[kind])}" for kind in _KINDS if kind in kinds) + "."


def _measures(row: _Row, outcome: Outcome) -> str:
    """The measures with an outcome, in words."""
    return listing([SHORT_NAMES[measure] for measure, verdict in row.items() if verdict.outcome is outcome])


def _cell(verdict: Verdict, measure: str) -> Cell:
    """A mean difference with its adjusted p, marked where it is clear."""
    low, mean, high = (
        change_text(end, measure) for end in (verdict.change.low, verdict.change.mean, verdict.change.high)
    )
    known = np.isfinite(verdict.change.low)
    p = f"({p_number(verdict.adjusted_p)})" if np.isfinite(verdict.adjusted_p) else ""
    interval = f"{low} to {high} for all comparisons at once; " if known else ""
    return Cell(mean, p, mark=verdict.outcome.value, note=f"{interval}{verdict.tested}")

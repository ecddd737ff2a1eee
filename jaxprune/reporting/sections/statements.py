"""The statements of the theory: counts, and every case."""

import numpy as np

from jaxprune.numbers import NONE, plural, significant
from jaxprune.quantities import Cell, cell, means_caption
from jaxprune.reporting.page import Folded, Section, Table
from jaxprune.reporting.statement_cases import Checked, checked
from jaxprune.results import Results

_MOST_CASES = 400  # of one statement in the table of all cases
# By whether the assumptions are met, and whether the statement holds.
_OUTCOMES = np.array(
    [["fails, an assumption is not met", "holds, but is not guaranteed"],
     ["FAILS though its assumptions hold", "holds, as guaranteed"]]
)  # fmt: skip


def counts(results: Results) -> Section:
    """Counts of cases where each statement and its assumptions hold."""
    table = Table(
        ("statement", "holds in", "median ratio of the sides", "guaranteed by its assumptions", "failed assumptions"),
        tuple(_counts(statement) for statement in checked(results)),
        "Cases are seeds, groups (pairs of them in Proposition 1, examples in Proposition 3) and, for Theorem 1, "
        "sparsities.",
        words=(0, 3, 4),
    )
    sentence = "That a statement held in these cases does not confirm it; its assumptions say where it must hold."
    return Section("The statements of the theory, checked", (sentence, table))


def _counts(statement: Checked) -> tuple[str, ...]:
    known = statement.known
    holds, assumed = statement.holds[known].astype(bool), statement.assumed[known].astype(bool)
    positive = known & (statement.left > 0)
    ratio = significant(np.median(statement.right[positive] / statement.left[positive])) if positive.any() else NONE
    guaranteed, wrong = int(assumed.sum()), int(np.sum(assumed & ~holds))
    verdict = f"{plural(guaranteed, 'case')}, {f'FAILS in {wrong}' if wrong else 'holds in all'}"
    failed = {text: int(np.sum(known & ~holds)) for text, holds in statement.assumptions.items()}
    return (
        statement.title,
        f"{int(holds.sum())} of {holds.size}",
        ratio,
        verdict if guaranteed else "none",
        "; ".join(f"{plural(count, 'case')}: {text}" for text, count in failed.items() if count) or NONE,
    )


def cases(results: Results) -> Section:
    """Both sides and the assumptions of every statement in every case."""
    rows = []
    for statement in checked(results):
        if len(statement.labels) > _MOST_CASES or statement.kind == "examples":
            statement = _together(statement)
        for i, label in enumerate(statement.labels):
            if statement.known[i].any():
                row = (*_sides(results, statement, i), *_what_follows(statement, i))
                rows.append((statement.title, label, *row))
    table = Table(
        ("statement", "case", "left side", "right side", "ratio", "holds", "assumptions", "what follows"),
        tuple(rows),
        "The left side should be at most the right side, or equal to it where the statement says so. "
        f"{means_caption(len(results.seeds)).capitalize()}; what holds is counted over seeds. The ratio is of the "
        "means, where the left one is above 0.",
        words=(0, 1, 6, 7),
    )
    summary = "Both sides of each, their ratio, the assumptions, and what follows"
    return Section("Every statement in every case", (Folded(summary, (table,)),))


def _together(statement: Checked) -> Checked:
    """The tightest case of a statement on examples, in each seed."""
    gap = np.where(statement.known, statement.right - statement.left, np.inf)
    nearest = (gap.argmin(0), np.arange(gap.shape[1]))
    return Checked(
        title=statement.title,
        labels=(f"the tightest of {int(statement.known.any(1).sum())} {statement.kind}",),
        left=statement.left[nearest][None],
        right=statement.right[nearest][None],
        holds=np.all(statement.holds | ~statement.known, 0, keepdims=True),
        assumed=np.all(statement.assumed | ~statement.known, 0, keepdims=True),
        assumptions={text: np.all(holds, 0, keepdims=True) for text, holds in statement.assumptions.items()},
    )


def _sides(results: Results, statement: Checked, case: int) -> tuple[str | Cell, ...]:
    known = statement.known[case]
    left, right = statement.left[case][known].mean(), statement.right[case][known].mean()
    sides = (cell(results, side[case], "side") for side in (statement.left, statement.right))
    return (*sides, significant(right / left) if left > 0 else NONE)


def _what_follows(statement: Checked, case: int) -> tuple[str, str, str]:
    """The cases in which it holds, failed assumptions, and the outcome."""
    known, assumptions = statement.known[case], statement.assumptions
    seeds = int(known.sum())
    failing = {text: int(np.sum(known & ~holds[case])) for text, holds in assumptions.items()}
    failed = [f"not met: {text}" + (f" ({n} of {seeds})" if n < seeds else "") for text, n in failing.items() if n]
    all_hold = "all hold" if assumptions or statement.assumed[case][known].all() else "not recorded"
    outcomes, times = np.unique(
        _OUTCOMES[statement.assumed[case] * 1, statement.holds[case] * 1][known], return_counts=True
    )
    words = outcomes if len(outcomes) == 1 else [f"{word} ({n})" for word, n in zip(outcomes, times, strict=True)]
    return f"{int(statement.holds[case][known].sum())} of {seeds}", "; ".join(failed) or all_hold, "; ".join(words)

"""The verdicts of the chapter on the theory: its statements, and the bound."""

import numpy as np

from jaxprune.reporting.cells import Cell, cell, means_caption
from jaxprune.reporting.laboratory_values import FACTOR, Section, group_means
from jaxprune.reporting.numbers import NONE, percent, significant
from jaxprune.reporting.results import Results
from jaxprune.reporting.statement_cases import Checked, checked
from jaxprune.reporting.theory_findings import theory_of
from jaxprune.theory import uninformative_from

_MOST_CASES = 400  # of one statement in the table of all cases


def statements(results: Results) -> Section:
    """In how many cases each statement holds, where it has to, and which of its assumptions fail."""
    return Section(
        "The statements of the theory, checked",
        ("A statement that held in these cases is not confirmed by them; its assumptions tell where it has to.",),
        headings=("statement", "holds in", "median ratio of the sides", "by its assumptions", "what is not so"),
        rows=tuple(_counts(found) for found in checked(results)),
        note="Cases are seeds, groups (pairs of them in Proposition 1, examples in Proposition 3) and, for Theorem 1, "
        "sparsities.",
        words=(0, 3, 4),
    )


def _counts(found: Checked) -> tuple[str, ...]:
    known = found.known
    hold, given = found.holds[known].astype(bool), found.assumed[known].astype(bool)
    positive = known & (found.left > 0)
    ratio = significant(np.median(found.right[positive] / found.left[positive])) if positive.any() else NONE
    wrong = int(np.sum(given & ~hold))
    verdict = f"in {int(given.sum())} it has to" if given.any() else "in none it has to"
    failed = f", and in {wrong} of them it does NOT" if wrong else ", and does" if given.any() else ""
    return found.title, f"{int(hold.sum())} of {hold.size}", ratio, verdict + failed, _not_so(found, known)


def _not_so(found: Checked, known: np.ndarray) -> str:
    """The assumptions that fail where there is something to compare, and in how many cases."""
    failing = {text: int(np.sum(known & ~holds)) for text, holds in found.assumptions.items()}
    said = [f"in {count} it is not so that {text}" for text, count in failing.items() if count]
    return "; ".join(said) or NONE


def cases(results: Results) -> Section:
    """Both sides of every statement for every group, their ratio, the assumptions, and what follows."""
    rows = []
    for found in checked(results):
        if len(found.labels) > _MOST_CASES or found.labels[0].startswith("example"):
            found = _together(found)
        for i, label in enumerate(found.labels):
            known = found.known[i]
            if known.any():
                rows.append((found.title, label, *_sides(results, found, i), *_what_follows(found, i)))
    return Section(
        "Every statement in every case",
        headings=("statement", "case", "left side", "right side", "ratio", "holds", "assumptions", "what follows"),
        rows=tuple(rows),
        note="The left side is to be at most the right side, or equal to it where the statement says so. "
        f"{means_caption(len(results.seeds)).capitalize()}; what holds is counted over seeds. The ratio is of the "
        "means, where the left one is above 0.",
        summary="Both sides of each, their ratio, the assumptions, and what follows",
        words=(0, 1, 6, 7),
    )


def _together(found: Checked) -> Checked:
    """All cases of a statement on examples as one: that in which the left side is nearest to the right, or above it."""
    gap = np.where(found.known, found.right - found.left, np.inf)
    nearest = (gap.argmin(0), np.arange(gap.shape[1]))
    every = {text: np.all(holds, 0, keepdims=True) for text, holds in found.assumptions.items()}
    count = int(found.known.any(1).sum())
    return Checked(
        found.title, (f"the tightest of {count} examples",), found.left[nearest][None], found.right[nearest][None],
        np.all(found.holds | ~found.known, 0, keepdims=True), np.all(found.assumed | ~found.known, 0, keepdims=True),
        every,
    )  # fmt: skip


def _sides(results: Results, found: Checked, case: int) -> tuple[str | Cell, ...]:
    known = found.known[case]
    left, right = found.left[case][known].mean(), found.right[case][known].mean()
    sides = (cell(results, side[case], "side") for side in (found.left, found.right))
    return (*sides, significant(right / left) if left > 0 else NONE)


def _what_follows(found: Checked, case: int) -> tuple[str, str, str]:
    """How often it holds, which assumptions fail in how many seeds, and what that means."""
    known = found.known[case]
    seeds = int(known.sum())
    failing = {text: int(np.sum(known & ~holds[case])) for text, holds in found.assumptions.items()}
    broken = [f"not so that {text}" + (f" ({n} of {seeds})" if n < seeds else "") for text, n in failing.items() if n]
    so = "; ".join(broken) or ("all hold" if found.assumptions or found.assumed[case][known].all() else "not recorded")
    outcomes, counts = np.unique([word.partition(":")[0] for word in found.follows[case][known]], return_counts=True)
    said = outcomes[0] if len(outcomes) == 1 else "; ".join(f"{w} ({n})" for w, n in zip(outcomes, counts, strict=True))
    return f"{int(found.holds[case][known].sum())} of {seeds}", so, str(said)


def tightness(results: Results) -> Section:
    """Where the bound of Theorem 1 stops telling anything."""
    theory = theory_of(results)
    order = np.argsort(theory.sparsities)
    found = uninformative_from(
        theory.sparsities[order], group_means(theory.bound[order]), group_means(theory.observed[order]), FACTOR
    )
    rows = tuple(
        (name, "informative up to the highest" if np.isnan(s) else f"from {percent(s)} on")
        for name, s in zip(results.group_names, found, strict=True)
    )
    return Section(
        "Where the bound stops being informative",
        (),
        "theory-ratio",
        f"Bound over observed harm, means over seeds. In the grey band, between 1 and {FACTOR:.0f}, the bound is "
        "informative; below it the bound is broken. Where pruning did not hurt a group there is no ratio.",
        "Ratio of bound and observed harm over sparsity for each group",
        ("group", f"bound broken, or more than {FACTOR:.0f} times the harm, or no harm"),
        rows,
    )

"""The words of the pages, held by one file: headings, sentences, captions and headings of tables.

After a change of words, write the file again and read the difference: python tests/reporting/test_wording.py
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent / "wording.txt"


def lines_of(contents: Sequence) -> Iterator[str]:
    """The words of a page's contents, a line for each text."""
    from jaxprune.reporting.page import Bullets, Figure, Folded, Paragraph, Section, Table

    for part in contents:
        match part:
            case Section():
                yield f"\n## {part.title}"
                yield from lines_of(part.contents)
            case Folded():
                yield f"> {part.summary}"
                yield from lines_of(part.contents)
            case Figure():
                yield f"[{part.name}] {part.caption}"
            case Table():
                yield f"| {' | '.join(part.headings)} |"
                if part.caption:
                    yield part.caption
            case Bullets():
                yield from (f"- {item}" for item in part.items)
            case Paragraph():
                yield str(part.text)
            case str():
                yield part


def wording() -> str:
    """The words of the pages of a run with all measures of the theory, and of three comparisons."""
    from comparisons import LIFT, NOISE, compared_results, diverged, trial
    from made_costs import with_costs
    from made_criteria import made_criteria, made_structures
    from made_results import made_theory

    from jaxprune.reporting.reports import COMPARE, CRITERIA, RUN, STRUCTURES, sections_of

    kept = dict.fromkeys(("train", "validation", "test"), np.full((4, 3), -0.01))
    ceag = trial("ceag", LIFT + 0.2 * NOISE, {"rate": 1.0}, multipliers=np.ones((4, 20, 3)), violation=kept)
    pages = {
        "run": (made_theory(), RUN),
        "compare": (compared_results([ceag, diverged("broken")]), COMPARE),
        "criteria": (made_criteria(reestimate=True, broken=[("random", 0.9)]), CRITERIA),
        "structures": (with_costs(made_structures(broken=[("n_m", 0.9)]), compact=0.5), STRUCTURES),
    }
    lines = []
    for name, (results, sections) in pages.items():
        lines += [f"# {name}", *lines_of(sections_of(results, sections)), ""]
    return "\n".join(lines)


def test_wording() -> None:
    assert wording().splitlines() == GOLDEN.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
    GOLDEN.write_text(wording(), encoding="utf-8")

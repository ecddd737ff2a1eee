"""The result of a job, with a short display."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprune.auditing import GroupMetrics
from jaxprune.config import Settings
from jaxprune.errors import UserError, unknown
from jaxprune.frames import to_frame
from jaxprune.numbers import plural
from jaxprune.reporting.notebook_cards import InlinePage, card
from jaxprune.reporting.reports import PAGES
from jaxprune.results import TABLES, Results, headline_sparsity

_LONGEST = 380  # characters of a repr


@dataclass(frozen=True, repr=False)
class JobResult:
    """The result of a run or a comparison.

    Attributes:
      out: The folder of the report, or the output folder where the job ended before one.
      settings: The settings, fully resolved.
      kind: The kind of the report, a name in `reporting.reports.PAGES`.
      made: Name -> folder of what was made, or found made.
      results: The results; None where the job ended before its report.
      seconds: How long it took.
    """

    out: Path
    settings: Settings
    kind: str
    made: dict[str, Path]
    results: Results | None
    seconds: float

    @property
    def page(self) -> Path | None:
        """The page of the report; None where the job ended before one."""
        return None if self.results is None else self.out / "report.html"

    def report(self, height: int = 700) -> InlinePage:
        """The page, which a notebook shows inline.

        Args:
          height: Pixels of the frame that it is shown in.

        Raises:
          UserError: The job ended before its report.
        """
        if self.page is None:
            raise UserError('there is no report: this run ended before it; run again with until="report"')
        return InlinePage(self.page, height)

    def to_pandas(self) -> dict[str, Any]:
        """Tidy tables by name, those of `results.TABLES` that have rows.

        Raises:
          UserError: pandas is not installed, or the job ended before its report.
        """
        if self.results is None:
            raise UserError('there are no tables: this run ended before them; run again with until="report"')
        frames = {name: to_frame(rows(self.results)) for name, rows in TABLES.items()}
        return {name: frame for name, frame in frames.items() if len(frame)}

    def metrics(self, network: str = "", sparsity: float | None = None, split: str | None = None) -> GroupMetrics:
        """Metrics of one network, leaves [R, G] and [R], with group names.

        Args:
          network: Its name, such as "dense" or "fair_both"; empty for the pruned one.
          sparsity: None for the one that the answer is about (0 for a dense network).
          split: None for the one that the answer is about.

        Raises:
          UserError: There are none; the message names those that there are.
        """
        if self.results is None:
            raise UserError('there are no metrics: this run ended before the report; run again with until="report"')
        results, name, split = self.results, network or self.results.pruned, split or self.results.answered_split
        is_dense = any(one.name == name and one.role == "dense" for one in results.networks)
        at = sparsity if sparsity is not None else 0.0 if is_dense else headline_sparsity(results)
        known = {(*key, on): one for key, one in results.reported.items() for on in results.splits}
        if (name, at, split) not in known:
            names = [" ".join(map(str, key)) for key in known]
            raise unknown("metrics", f"{name} {at} {split}", names, listed=True)
        return results.audit(known[name, at, split], split).metrics.named(results.group_names)

    def __repr__(self) -> str:
        sentences = [] if self.results is None else PAGES[self.kind].answer(self.results)[:1]
        what = f"{self._what()}, {self.seconds:.1f} s; {self.page or self.out}"
        text = "\n".join([f"JobResult({what})", *sentences])
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

    def _repr_html_(self) -> str:
        if self.results is None or self.page is None:
            return card([f"{self._what()}: {', '.join(self.made)}."], None, self.out)
        page = PAGES[self.kind]
        return card(page.answer(self.results)[:3], page.short(self.results), self.page)

    def _what(self) -> str:
        name, group = self.settings.name, self.settings.data.group
        sparsities = plural(len(self.settings.prune.sparsities), "sparsity", "sparsities")
        return f"{name} by {group}: {plural(self.settings.seeds, 'seed')}, {sparsities}"

"""What a run and a comparison return, with short displays."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxprune.auditing import GroupMetrics
from jaxprune.config import Settings
from jaxprune.errors import UserError, unknown
from jaxprune.frames import to_frame
from jaxprune.reporting import comparison_findings
from jaxprune.reporting.cards import InlinePage, card
from jaxprune.reporting.comparison import Comparison
from jaxprune.reporting.comparison_tables import trial_rows
from jaxprune.reporting.findings import headline, verdict, who_is_hurt
from jaxprune.reporting.numbers import plural
from jaxprune.reporting.results import Results
from jaxprune.reporting.short import short_comparison, short_summary
from jaxprune.reporting.tables import groups_rows, summary_rows

_LONGEST = 380  # characters of a repr


@dataclass(frozen=True, repr=False)
class RunResult:
    """What a run made.

    Attributes:
      out: The folder of the report: the output folder, or one in it where a report by other groups lies there.
      settings: The settings, fully resolved.
      made: What it made or found made: stage name -> folder.
      results: The results, where the run went as far as the report.
      seconds: How long it took.
    """

    out: Path
    settings: Settings
    made: dict[str, Path]
    results: Results | None
    seconds: float

    @property
    def page(self) -> Path | None:
        """The page that it wrote; None where it ended before one."""
        if self.results is not None:
            return self.out / "report.html"
        page = self.made.get("report")  # of the theory alone
        return page if page is not None and page.suffix == ".html" else None

    def report(self, height: int = 700) -> InlinePage:
        """The page, which a notebook shows inline.

        Args:
          height: Pixels of the frame that it is shown in.

        Raises:
          UserError: The run ended before a page.
        """
        if self.page is None:
            raise UserError('there is no report: this run ended before it; run again with until="report"')
        return InlinePage(self.page, height)

    def to_pandas(self) -> dict[str, Any]:
        """Tidy tables: "groups" and "summary", or "theory" where the run ended with that.

        Raises:
          UserError: pandas is not installed, or the run ended before its measurements were gathered.
        """
        if self.results is not None:
            return {"groups": to_frame(groups_rows(self.results)), "summary": to_frame(summary_rows(self.results))}
        if self.page is None:
            raise UserError('there are no tables: this run ended before them; run again with until="report"')
        with self.page.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
            return {"theory": to_frame(map(_numbers, csv.DictReader(file)))}

    def metrics(self, model: str = "pruned", sparsity: float | None = None, split: str | None = None) -> GroupMetrics:
        """Metrics of one model, leaves [R, G] and [R], with group names.

        Args:
          model: Such as "dense", "pruned" or "fair_both".
          sparsity: None for the one that the answer is about (0 for a dense network).
          split: None for the one that the answer is about.

        Raises:
          UserError: There are none; the message names those that there are.
        """
        if self.results is None:
            raise UserError('there are no metrics: this run ended before the report; run again with until="report"')
        at = headline(self.results)
        sparsity = (0.0 if model in ("dense", "fair_dense") else at.sparsity) if sparsity is None else sparsity
        key = (model, sparsity, split or at.split)
        if key not in self.results.metrics:
            known = [" ".join(map(str, there)) for there in self.results.metrics]
            raise unknown("metrics", " ".join(map(str, key)), known, listed=True)
        return self.results.metrics[key].named(self.results.group_names)

    def __repr__(self) -> str:
        sentences = [] if self.results is None else who_is_hurt(self.results)[:1]
        where = self.page or self.out
        return _short("RunResult", f"{self._what()}, {self.seconds:.1f} s; {where}", sentences)

    def _repr_html_(self) -> str:
        if self.results is not None:
            sentences = [who_is_hurt(self.results)[0], *verdict(self.results)[:2]]
            return card(sentences, short_summary(self.results), self.out / "report.html")
        return card([f"{self._what()}: {', '.join(self.made)}."], None, self.page or self.out)

    def _what(self) -> str:
        name, group = self.settings.name, self.settings.data.group
        sparsities = plural(len(self.settings.prune.sparsities), "sparsity", "sparsities")
        return f"{name} by {group}: {plural(self.settings.seeds, 'seed')}, {sparsities}"


class ComparisonResult(NamedTuple):
    """What a comparison made: its folder, its results, its duration."""

    out: Path
    comparison: Comparison
    seconds: float

    def report(self, height: int = 700) -> InlinePage:
        """The page, which a notebook shows inline.

        Args:
          height: Pixels of the frame that it is shown in.
        """
        return InlinePage(self.out / "report.html", height)

    def to_pandas(self) -> dict[str, Any]:
        """A tidy table, "methods": one row for each trial and split.

        Raises:
          UserError: pandas is not installed.
        """
        return {"methods": to_frame(trial_rows(self.comparison))}

    def __repr__(self) -> str:
        found = self.comparison
        what = f"{found.settings['name']} by {found.settings['data']['group']}: {plural(len(found.seeds), 'seed')}, "
        what += f"{plural(len(found.methods), 'method')}, {self.seconds:.1f} s; {self.out / 'report.html'}"
        return _short("ComparisonResult", what, comparison_findings.answer(found)[:1])

    def _repr_html_(self) -> str:
        sentences = comparison_findings.answer(self.comparison)[:2]
        return card(sentences, short_comparison(self.comparison), self.out / "report.html")


def _short(kind: str, what: str, sentences: list[str]) -> str:
    """A repr of a few lines; what is too long is cut."""
    text = "\n".join([f"{kind}({what})", *sentences])
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _numbers(row: dict[str, str]) -> dict[str, Any]:
    """A row of theory.csv, with numbers where there are numbers."""
    value = float(row["value"]) if row["value"] else float("nan")
    return row | {"seed": int(row["seed"]), "sparsity": float(row["sparsity"]), "value": value}

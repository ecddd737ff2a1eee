"""The results of a comparison of methods, their JSON form, and the verdicts on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxprune.auditing import GroupMetrics, Interval, impact, mean_interval
from jaxprune.auditing.multiplicity import paired_p_value
from jaxprune.reporting.comparison_verdicts import Change, Verdict, judge
from jaxprune.reporting.results import to_arrays, to_plain

BASELINE = "naive"
SPLITS = ("train", "validation", "test")

# Measure -> what people read, whether more is better, and the factor of its unit.
MEASURES: Mapping[str, tuple[str, bool, float]] = {
    "accuracy": ("accuracy, %", True, 100),
    "worst_group_accuracy": ("worst group, %", True, 100),
    "accuracy_spread": ("accuracy spread, points", False, 100),
    "max_excess_accuracy_gap": ("largest ψ, points", False, 100),
    "excess_accuracy_gap_spread": ("spread of ψ, points", False, 100),
    "excessive_loss_spread": ("spread ξ of R, nats", False, 1),
}
BY_LOSS = ("excessive_loss_spread",)  # the other measures count right decisions
# The measures that claims are made of: with every method, one family of tests.
FAIRNESS = ("max_excess_accuracy_gap", "accuracy_spread", "excessive_loss_spread", "worst_group_accuracy")
# Changes that are this close count as the same: of shares, rounding in float64; of losses, in float32.
_RESOLUTION = {measure: 1e-6 if measure in BY_LOSS else 1e-10 for measure in MEASURES}


@dataclass(frozen=True)
class Trial:
    """One method with one choice of hyperparameters at one sparsity.

    Attributes:
      method: Its name.
      sparsity: The share pruned.
      values: Hyperparameter -> value.
      metrics: Split -> metrics, leaves [R, G] and [R]; empty where the training diverged.
      violation: Split -> [R, G] of its own constraint, if it has one.
      multipliers: [R, points, G] thinned, if it has them; the last point is the last step.
      trouble: What went wrong, or "".
      works: [R] whether the networks still work on the test split; empty where that was not judged.
    """

    method: str
    sparsity: float
    values: dict[str, float]
    metrics: Mapping[str, GroupMetrics] = field(default_factory=dict)
    violation: Mapping[str, np.ndarray] = field(default_factory=dict)
    multipliers: np.ndarray | None = None
    trouble: str = ""
    works: tuple[bool, ...] = ()


class Difference(NamedTuple):
    """A method against the baseline, seed by seed, at the same sparsity and split.

    Attributes:
      change: Mean over seeds of the difference, with its interval.
      p: Of the paired t-test, two-sided, by itself; NaN without a test.
    """

    change: Interval
    p: float


@dataclass(frozen=True, repr=False)
class Comparison:
    """Everything that a comparison found.

    Attributes:
      settings: Fully resolved, as plain values.
      provenance: Of the data.
      group_names: [G].
      seeds: [R].
      group_sizes: Split -> [G] examples; of the validation split, those who choose.
      titles: Method -> what people read, in the order of the settings.
      about: Method -> a sentence.
      inequality: Method -> whether its constraint is one; methods without a constraint are not there.
      dense: Split -> metrics of the dense networks.
      trials: All of them.
      held_out: Methods that measure their violation on people of the validation split, one half of it; "validation" is
        then the other half, everywhere.
    """

    settings: dict[str, Any]
    provenance: str
    group_names: list[str]
    seeds: list[int]
    group_sizes: dict[str, list[int]]
    titles: dict[str, str]
    about: dict[str, str]
    inequality: dict[str, bool]
    dense: Mapping[str, GroupMetrics]
    trials: list[Trial]
    held_out: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        what, methods = f"{self.settings['name']} by {self.settings['data']['group']}", ", ".join(self.methods)
        return f"Comparison({what}; seeds {self.seeds}; sparsities {self.sparsities}; {methods})"

    @property
    def methods(self) -> list[str]:
        """Names, the baseline first."""
        return [BASELINE, *(name for name in self.titles if name != BASELINE)]

    @property
    def sparsities(self) -> list[float]:
        """In rising order."""
        return sorted({trial.sparsity for trial in self.trials})

    @property
    def headline(self) -> float:
        """The largest sparsity at which plain fine-tuning leaves networks that work, where the answer is read off.

        The smallest one where there is none. Networks that were not judged count as working.
        """
        naive = {t.sparsity: t for t in self.trials if t.method == BASELINE and not t.trouble}
        return max((s for s, t in naive.items() if all(t.works)), default=self.sparsities[0])

    def figures(self, trial: Trial, split: str) -> dict[str, np.ndarray]:
        """Measure -> [R]."""
        return figures_of(trial.metrics[split], self.dense[split])

    @cached_property
    def chosen(self) -> dict[tuple[str, float], Trial]:
        """(method, sparsity) -> the trial that is reported, chosen by the validation split alone.

        Of the candidates that cost at most `compare.max_cost` of the baseline's validation accuracy (mean over seeds),
        the one that is best by `compare.choose_by`; where none is that cheap, the most accurate one. Methods of which
        every training diverged are not there.
        """
        compare = self.settings["compare"]
        better = -1 if MEASURES[compare["choose_by"]][1] else 1
        found = {}
        for sparsity in self.sparsities:
            base = next(t for t in self.trials if (t.method, t.sparsity) == (BASELINE, sparsity))
            if base.trouble:
                continue
            least = np.mean(self.figures(base, "validation")["accuracy"]) - compare["max_cost"]
            for method in self.methods:
                tried = [t for t in self.trials if (t.method, t.sparsity) == (method, sparsity) and not t.trouble]
                mean = [{n: np.mean(v) for n, v in self.figures(t, "validation").items()} for t in tried]
                cheap = [i for i in range(len(tried)) if mean[i]["accuracy"] >= least]
                if cheap:
                    best = min(cheap, key=lambda i: better * mean[i][compare["choose_by"]])
                elif tried:
                    best = max(range(len(tried)), key=lambda i: mean[i]["accuracy"])
                else:
                    continue
                found[method, sparsity] = tried[best]
        return found

    def interval(self, values: np.ndarray, axis: int = 0) -> Interval:
        """Mean over seeds with the interval that the settings ask for."""
        return mean_interval(values, axis, self.settings["audit"]["confidence"])

    def difference(self, method: str, sparsity: float, split: str, measure: str) -> Difference:
        """A method against the baseline, in the unit of the measure (points, nats), not adjusted for others."""
        changes = self._change(method, sparsity, split, measure)
        p = paired_p_value(changes.differences, changes.resolution)
        return Difference(change=self.interval(changes.differences), p=p)

    @cached_property
    def verdicts(self) -> dict[tuple[float, str, str], Verdict]:
        """(sparsity, method, measure) -> the verdict on the test split, adjusted for its family.

        At each sparsity there are two families: all methods by the measures of `FAIRNESS`, and all methods by their
        accuracy, which is the price. Methods that diverged count in both.
        """
        found = {}
        for sparsity in self.sparsities:
            methods = [m for m in self.methods[1:] if {(m, sparsity), (BASELINE, sparsity)} <= set(self.chosen)]
            for family in (FAIRNESS, ("accuracy",)):
                changes = {
                    (sparsity, method, measure): self._change(method, sparsity, "test", measure)
                    for method in methods
                    for measure in family
                }
                found |= judge(changes, len(family) * (len(self.methods) - 1))
        return found

    @property
    def comparisons(self) -> int:
        """The size of the family of fairness claims at one sparsity."""
        return len(FAIRNESS) * (len(self.methods) - 1)

    def _change(self, method: str, sparsity: float, split: str, measure: str) -> Change:
        _, more, scale = MEASURES[measure]
        mine, base = (scale * self.figures(self.chosen[name, sparsity], split)[measure] for name in (method, BASELINE))
        return Change(differences=mine - base, more_is_better=more, resolution=scale * _RESOLUTION[measure])

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; numbers that are not finite become null."""
        plain = {name: value for name, value in vars(self).items() if name in _PLAIN}
        trials = [
            {
                "method": t.method, "sparsity": t.sparsity, "values": t.values, "trouble": t.trouble,
                "chosen": self.chosen.get((t.method, t.sparsity)) is t,
                "metrics": {split: m._asdict() for split, m in t.metrics.items()},
                "violation": t.violation, "multipliers": t.multipliers, "works": t.works,
            }
            for t in self.trials
        ]  # fmt: skip
        dense = {split: m._asdict() for split, m in self.dense.items()}
        return to_plain(plain | {"dense": dense, "trials": trials})

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Comparison":
        """A comparison from what `to_json` gave."""

        def metrics(given: Mapping[str, Any]) -> dict[str, GroupMetrics]:
            return {
                split: GroupMetrics(*(to_arrays(m[name]) for name in GroupMetrics._fields))
                for split, m in given.items()
            }

        trials = [
            Trial(
                t["method"], t["sparsity"], t["values"], metrics(t["metrics"]),
                {split: to_arrays(v) for split, v in t["violation"].items()},
                None if t["multipliers"] is None else to_arrays(t["multipliers"]), t["trouble"],
                tuple(t.get("works", ())),
            )
            for t in values["trials"]
        ]  # fmt: skip
        held_out = values.get("held_out", [])  # comparisons of before it was written have none
        plain = {name: values[name] for name in _PLAIN if name != "held_out"}
        return cls(**plain, held_out=held_out, dense=metrics(values["dense"]), trials=trials)


_PLAIN = ("settings", "provenance", "group_names", "seeds", "group_sizes", "titles", "about", "inequality", "held_out")


def figures_of(metrics: GroupMetrics, dense: GroupMetrics) -> dict[str, np.ndarray]:
    """Measure -> [R] of one network against the dense one of the same seed, on one split.

    Args:
      metrics: Of the network, leaves [R, G] and [R].
      dense: Of the dense network, on the same people.
    """
    metrics, dense = counted(metrics), counted(dense)
    harm = impact(dense, metrics)
    # ψ in float64: `impact` itself gives it in the precision of JAX.
    gaps, losses = harm.accuracy_drop - harm.overall_accuracy_drop[..., None], harm.excessive_loss
    worst, best = np.nanmin(metrics.accuracy, -1), np.nanmax(metrics.accuracy, -1)
    return {
        "accuracy": np.asarray(metrics.overall_accuracy),
        "worst_group_accuracy": worst,
        "best_group_accuracy": best,
        "accuracy_spread": best - worst,
        "max_excess_accuracy_gap": np.nanmax(gaps, -1),
        "excess_accuracy_gap_spread": np.nanmax(gaps, -1) - np.nanmin(gaps, -1),
        "excessive_loss_spread": np.nanmax(losses, -1) - np.nanmin(losses, -1),
    }


def counted(metrics: GroupMetrics) -> GroupMetrics:
    """The metrics in float64, accuracies as whole numbers of people over the size of their group.

    float32 makes equal changes of two seeds differ in the last digit; numbers of people do not. Accuracies that are not
    those of whole people, as with weights other than 1, stay as they are.
    """
    size, loss, accuracy, overall_loss, overall_accuracy = (np.asarray(leaf, np.float64) for leaf in metrics)
    return GroupMetrics(
        size=size,
        loss=loss,
        accuracy=_exact_share(accuracy, size),
        overall_loss=overall_loss,
        overall_accuracy=_exact_share(overall_accuracy, np.sum(size, -1)),
    )


def _exact_share(share: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Shares of people as ratios of whole numbers, where they are that up to float32."""
    people = np.rint(share * size)
    whole = (size > 0) & (np.abs(share * size - people) <= 1e-3 + 2e-7 * size) & (np.rint(size) == size)
    return np.where(whole, people / np.where(size > 0, size, 1), share)

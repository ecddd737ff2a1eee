"""The results of a run as plain arrays, and their JSON form."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from jaxprune import theory
from jaxprune.auditing import GroupMetrics, Impact, SamplingError, impact
from jaxprune.reporting.harm_tests import HarmTests
from jaxprune.reporting.plain import fields_of, to_arrays, to_plain

Key = tuple[str, float, str]  # model, sparsity, split
_OF_GROUPS = ("group_names", "group_sizes", "warnings")  # plain fields that every grouping has of its own

# Model -> what people read. The first two are dense; "pruned" is one-shot, without retraining.
MODEL_NAMES = {
    "dense": "Dense",
    "fair_dense": "Dense, fair",
    "pruned": "Pruned, not retrained",
    "none": "No mitigation",
    "fair_before": "Fair before pruning",
    "fair_after": "Fair after pruning",
    "fair_both": "Fair before and after",
}


def answered_split(splits: Sequence[str]) -> str:
    """The split that the answer is about: the test split if it was audited."""
    return "test" if "test" in splits else splits[0]


class Audit(NamedTuple):
    """One model at one sparsity on one split, all seeds.

    Attributes:
      metrics: Leaves [R, G] and [R].
      impact: Against the plain dense network of the same seed.
      own_impact: Against the network that it was pruned from, which is the fair dense one for some models.
      sampling: Standard errors over people of `impact`, leaves [R, G].
    """

    metrics: GroupMetrics
    impact: Impact
    own_impact: Impact
    sampling: SamplingError


@dataclass(frozen=True)
class Audited:
    """What the audit found in one grouping beside the primary one.

    Attributes:
      group_names: [G].
      group_sizes: Split -> [G] examples.
      metrics: As of `Results`.
      sampling: As of `Results`.
      tested: As of `Results`.
      warnings: Sentences about groups that are small or left out.
    """

    group_names: list[str]
    group_sizes: dict[str, list[int]]
    metrics: Mapping[Key, GroupMetrics]
    sampling: Mapping[Key, SamplingError]
    warnings: list[str]
    tested: Mapping[Key, HarmTests] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class TheoryResults:
    """What was measured at the dense network; [R, G] and [R] by seed and group, [S, R, G] and [S, R] by sparsity.

    Attributes:
      split: The split it was measured on.
      gradient_norm: [R, G] ‖g_a‖.
      overall_gradient_norm: [R] ‖Σ_a p_a g_a‖, the gradient of the whole loss: 0 at a stationary point.
      eigenvalue: [R, G] λ(H_a).
      residual: [R, G] of the eigenvalue.
      converged: [R, G] whether Lanczos met its tolerance.
      matvecs: [R, G] Hessian-vector products taken.
      margin: [R, G] mean gap of the two largest probabilities.
      closeness: [R, G] mean 1 - ‖p‖².
      sparsities: [S].
      distance: [S, R] ‖Δ‖.
      first_order: [S, R, G] g_aᵀΔ.
      second_order: [S, R, G] ½ΔᵀH_aΔ.
      observed: [S, R, G] R(a) of the network pruned once, on the same split.
    """

    split: str
    gradient_norm: np.ndarray
    overall_gradient_norm: np.ndarray
    eigenvalue: np.ndarray
    residual: np.ndarray
    converged: np.ndarray
    matvecs: np.ndarray
    margin: np.ndarray
    closeness: np.ndarray
    sparsities: np.ndarray
    distance: np.ndarray
    first_order: np.ndarray
    second_order: np.ndarray
    observed: np.ndarray

    def __repr__(self) -> str:
        return f"TheoryResults({self.split}; sparsities {self.sparsities.tolist()}; [R, G] = {list(self.margin.shape)})"

    @property
    def bound(self) -> np.ndarray:
        """[S, R, G] the two terms of Theorem 1."""
        return theory.bound(self.gradient_norm, self.eigenvalue, self.distance[..., None], self.observed).right


@dataclass(frozen=True, repr=False)
class Results:
    """Everything that a run found, by the primary grouping, and what the audit found by the further ones.

    Attributes:
      settings: The settings, fully resolved, as plain values.
      provenance: Of the data.
      label_names: [C].
      group_names: [G].
      seeds: [R].
      group_sizes: Split -> [G] examples.
      majority: Split -> the accuracy of always giving the commonest label of the training split.
      warnings: Sentences about groups that are small, and about what was left out of the data.
      metrics: (model, sparsity, split) -> metrics, leaves [R, G] and [R].
      sampling: (model, sparsity, split) -> standard errors of the impact, leaves [R, G].
      layers: Model and sparsity -> layers, each with path, size and kept [R].
      multipliers: Model and sparsity -> trajectory [R, points, G] of a constrained training.
      theory: What was measured at the dense network, if it was; on `settings["theory"]["examples"]` examples of each
        group at most, where that is not 0.
      laboratory: Further measures of the theory by name, plain values; None where none were asked for.
      further: Name of each further grouping -> what the audit found in it.
      tested: (model, sparsity, split) -> tests of the harm, of compressed models on the split that the answer is about.
    """

    settings: dict[str, Any]
    provenance: str
    label_names: list[str]
    group_names: list[str]
    seeds: list[int]
    group_sizes: dict[str, list[int]]
    majority: dict[str, float]
    warnings: list[str]
    metrics: Mapping[Key, GroupMetrics]
    sampling: Mapping[Key, SamplingError]
    layers: Mapping[tuple[str, float], list[dict[str, Any]]]
    multipliers: Mapping[tuple[str, float], np.ndarray]
    theory: TheoryResults | None
    laboratory: Mapping[str, Any] | None = None
    further: Mapping[str, Audited] = field(default_factory=dict)
    tested: Mapping[Key, HarmTests] = field(default_factory=dict)

    def __repr__(self) -> str:
        models, by = ", ".join(dict.fromkeys(model for model, _, _ in self.metrics)), " and ".join(self.groupings)
        return f"Results({self.settings['name']} by {by}; seeds {self.seeds}; sparsities {self.sparsities}; {models})"

    @property
    def grouping(self) -> str:
        """The name of the primary grouping."""
        return self.settings["data"]["group"]

    @property
    def groupings(self) -> list[str]:
        """The names of all groupings, the primary one first."""
        return [self.grouping, *self.further]

    def by(self, name: str) -> "Results":
        """The same results seen by another grouping, for which there is no theory and there are no multipliers.

        Raises:
          KeyError: It was not audited.
        """
        if name == self.grouping:
            return replace(self, further={})
        return replace(
            self,
            **vars(self.further[name]),
            settings=self.settings | {"data": self.settings["data"] | {"group": name}},
            multipliers={},
            theory=None,
            laboratory=None,
            further={},
        )

    @property
    def splits(self) -> list[str]:
        """The audited splits."""
        return list(dict.fromkeys(split for _, _, split in self.metrics))

    @property
    def sparsities(self) -> list[float]:
        """The sparsities above 0, in rising order."""
        return sorted({sparsity for _, sparsity, _ in self.metrics if sparsity > 0})

    @property
    def models(self) -> list[str]:
        """The models that were pruned, in the order of the paper."""
        there = {model for model, sparsity, _ in self.metrics if sparsity > 0}
        return [model for model in MODEL_NAMES if model in there]

    def audit(self, model: str, sparsity: float, split: str) -> Audit:
        """The audit of one model at one sparsity (0 for a dense one) on one split."""
        metrics = self.metrics[model, sparsity, split]
        dense = self.metrics["dense", 0.0, split]
        own = self.metrics["fair_dense" if model in ("fair_dense", "fair_before", "fair_both") else "dense", 0.0, split]
        sampling = self.sampling[model, sparsity, split]
        with np.errstate(invalid="ignore"):  # of infinite losses there is no difference
            return Audit(metrics, _numpy(impact(dense, metrics)), _numpy(impact(own, metrics)), sampling)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`; numbers that are not finite become null."""
        return {
            "settings": self.settings,
            "provenance": self.provenance,
            "label_names": self.label_names,
            "group_names": self.group_names,
            "seeds": self.seeds,
            "group_sizes": self.group_sizes,
            "majority": self.majority,
            "warnings": self.warnings,
            "audits": _audits_to_json(self),
            "further": {name: _by_groups_to_json(self.by(name)) for name in self.further},
            "layers": [{"model": m, "sparsity": s, "layers": to_plain(v)} for (m, s), v in self.layers.items()],
            "multipliers": [
                {"model": m, "sparsity": s, "trajectory": to_plain(v)} for (m, s), v in self.multipliers.items()
            ],
            "laboratory": None if self.laboratory is None else to_plain(self.laboratory),
            "theory": None
            if self.theory is None
            else to_plain(vars(self.theory)) | {"bound": to_plain(self.theory.bound)},
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Results":
        """Results from what `to_json` gave."""
        metrics, sampling, tested = audits_of(values["audits"])
        measured = values["theory"]
        fields = TheoryResults.__dataclass_fields__
        simple = ("settings", "provenance", "label_names", "seeds", "majority", *_OF_GROUPS)
        return cls(
            **{name: values[name] for name in simple},
            metrics=metrics,
            sampling=sampling,
            tested=tested,
            layers={(e["model"], e["sparsity"]): e["layers"] for e in values["layers"]},
            multipliers={(e["model"], e["sparsity"]): to_arrays(e["trajectory"]) for e in values["multipliers"]},
            laboratory=values.get("laboratory"),
            further={name: audited_of(plain) for name, plain in values.get("further", {}).items()},
            theory=None
            if measured is None
            else TheoryResults(measured["split"], **{n: to_arrays(measured[n]) for n in fields if n != "split"}),
        )


def audited_of(plain: Mapping[str, Any]) -> Audited:
    """What the audit found in a grouping, from plain values."""
    metrics, sampling, tested = audits_of(plain["audits"])
    return Audited(metrics=metrics, sampling=sampling, tested=tested, **{name: plain[name] for name in _OF_GROUPS})


def audits_of(
    rows: Iterable[Mapping[str, Any]],
) -> tuple[dict[Key, GroupMetrics], dict[Key, SamplingError], dict[Key, HarmTests]]:
    """Metrics, standard errors and tests by model, sparsity and split, from rows of plain values."""
    metrics, sampling, tested = {}, {}, {}
    for row in rows:
        key = (row["model"], row["sparsity"], row["split"])
        metrics[key] = fields_of(GroupMetrics, row)
        sampling[key] = fields_of(SamplingError, row["sampling_error"])
        if "harm" in row:
            tested[key] = HarmTests.from_json(row)
    return metrics, sampling, tested


def _by_groups_to_json(results: Results) -> dict[str, Any]:
    """The plain values of one grouping alone."""
    return {name: getattr(results, name) for name in _OF_GROUPS} | {"audits": _audits_to_json(results)}


def _audits_to_json(results: Results) -> list[dict[str, Any]]:
    return [
        {"model": model, "sparsity": sparsity, "split": split}
        | to_plain(metrics._asdict())
        | {"sampling_error": to_plain(results.sampling[model, sparsity, split]._asdict())}
        | {"impact": to_plain(results.audit(model, sparsity, split).impact._asdict())}
        | (test.to_json() if (test := results.tested.get((model, sparsity, split))) else {})
        for (model, sparsity, split), metrics in results.metrics.items()
    ]


def _numpy(value: Impact) -> Impact:
    return Impact(*(np.asarray(leaf) for leaf in value))

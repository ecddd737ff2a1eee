"""Results of a run made by hand, whose right reading is known, with theory and every measure of it."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
from made_costs import with_costs

from jaxprune.auditing import (
    GroupCodes,
    GroupMetrics,
    Outcomes,
    SamplingError,
    changes_of,
    impact,
    measure_harm,
    measure_spreads,
)
from jaxprune.auditing.working import judge_networks
from jaxprune.results import Audit, Grouped, Network, Results, TheoryResults
from jaxprune.results.harm_tests import HarmTests

PEOPLE = 100  # of each group
ENVIRONMENT = {"jaxprune": "0", "time": "2026-01-01T00:00:00", "packages": {"jax": "0"}}
SETTINGS: dict[str, Any] = {  # of pruning, all that pages read
    "name": "made",
    "seeds": 5,
    "data": {"name": "made", "group": "town", "label": "y"},
    "model": {"name": "mlp", "hidden": [4], "channels": None},
    "train": {"epochs": 1, "optimizer": "adam"},
    "prune": {
        "criterion": "magnitude", "criteria": [], "structure": "weights", "structure_options": [],
        "allocation": "global", "schedule": "one_shot", "schedule_options": [], "sparsities": [0.5, 0.9],
        "reestimate": False, "examples": 1024,
    },
    "retrain": {"epochs": 2},
    "mitigation": {"constraint": "equal_loss"},
    "audit": {"confidence": 0.95},
}  # fmt: skip


def outcomes_of(rise: np.ndarray, deviation: float, seed: int) -> tuple[Outcomes, np.ndarray, np.ndarray]:
    """Outcomes of people whose mean loss is 0.3 + rise [R, G], and accuracy 0.9 - 0.3 rise; their y and groups."""
    rng = np.random.default_rng(seed)
    seeds, groups = rise.shape
    group, y = np.repeat(np.arange(groups), PEOPLE), np.tile(np.arange(PEOPLE) % 2, groups)
    wrong = np.arange(PEOPLE) < np.round(PEOPLE * (0.1 + 0.3 * rise))[..., None]
    wrong = wrong.reshape(seeds, -1)
    noise = deviation * rng.normal(size=(groups, PEOPLE))
    noise -= noise.mean(1, keepdims=True)
    loss = (0.3 + rise[..., None] + noise).reshape(seeds, -1)
    return Outcomes(loss=loss, wrong=wrong, label=np.where(wrong, 1 - y, y)), y, group


def harm_tests(rise: np.ndarray, deviation: float) -> HarmTests:
    """The tests of networks whose losses rise by `rise` [R, G]."""
    before, y, group = outcomes_of(0 * rise, 0.0, 0)
    after, _, _ = outcomes_of(rise, deviation, 1)
    codes = GroupCodes(group, rise.shape[1])
    figures = (after.loss - before.loss, 1.0 - after.wrong)
    spreads = measure_spreads(figures, codes, draws=200)
    return HarmTests(
        harm=measure_harm([changes_of(before, after)], [codes], draws=200)[0][0],
        spreads=dict(zip(("excessive_loss_spread", "accuracy_spread"), spreads, strict=True)),
        working=judge_networks(before.label, after.label, y, group, num_groups=rise.shape[1], commonest=0.5),
    )


def made_results(
    harm=(0.1, 0.5), fair=None, seeds=5, noise=0.01, people=0.01, sparsities=(0.5, 0.9), theory=True, reestimated=None
) -> Results:
    """Groups whose loss rises by `harm` at 90 % (half of it below), with noise over seeds; accuracies fall likewise.

    `fair` is the harm of the network "fair_after"; "none" is as the pruned network. `reestimated` is the harm with
    re-estimated statistics; None for no such networks.
    """
    rng = np.random.default_rng(0)
    harm, groups = np.array(harm), len(harm)
    rises: dict[str, np.ndarray] = {}

    def network(name: str, title: str, role: Any, sparsity: float, rise: np.ndarray, **more) -> Network:
        kept = [round(40 * (1 - sparsity))] * seeds
        layers = [{"path": "dense_0/kernel", "size": 40, "kept": kept}]
        made = Network(name, title, role, sparsity, layers=layers, **more)
        rises[made.key] = rise + noise * rng.normal(size=(seeds, groups))
        return made

    networks = [network("dense", "Dense", "dense", 0.0, np.zeros(groups))]
    for s in sparsities:
        scale = 1 if s >= 0.9 else 0.5
        constrained = {
            "method": "configured", "inequality": False, "multipliers": np.ones((seeds, 9, groups)),
        }  # fmt: skip
        networks += [
            network("pruned", "Pruned, not retrained", "compressed", s, scale * harm),
            network("none", "No mitigation", "retrained", s, scale * harm),
            network("fair_after", "Fair after pruning", "retrained", s,
                    scale * (harm if fair is None else np.array(fair)), **constrained),
        ]  # fmt: skip
        if reestimated is not None:
            title = "Pruned, not retrained, statistics re-estimated"
            networks.append(network("pruned_reestimated", title, "compressed", s, scale * np.array(reestimated)))
    return Results(
        settings=SETTINGS | {"seeds": seeds},
        provenance="made by hand",
        label_names=["no", "yes"],
        seeds=list(range(seeds)),
        majority={"train": 0.6, "validation": 0.6, "test": 0.6},
        networks=tuple(networks),
        group_names=[f"town {g}" for g in range(groups)],
        group_sizes={"train": [400] * groups, "validation": [50] * groups, "test": [PEOPLE] * groups},
        warnings=[],
        audits=audits_of(rises, people),
        theory=_theory(harm, seeds, sparsities, rng) if theory else None,
    )


def audits_of(rises: dict[str, np.ndarray], people: float) -> dict[tuple[str, str], Audit]:
    """The audits of networks by key, the dense one first, whose losses rise by [R, G]; all but the dense are tested."""
    audits, dense = {}, None
    for key, rise in rises.items():
        metrics = metrics_of_rise(rise)
        dense = metrics if dense is None else dense
        change, error = impact(dense, metrics), np.full(rise.shape, people / 1.96)
        tests = harm_tests(rise, people / 1.96 * np.sqrt(PEOPLE)) if key != "dense" else None
        audits[key, "test"] = Audit(metrics, change, change, SamplingError(error, error), tests)
    return audits


def metrics_of_rise(rise: np.ndarray) -> GroupMetrics:
    """Metrics of equally large groups with loss 0.3 + rise [R, G] and accuracy 0.9 - 0.3 rise."""
    loss, accuracy = 0.3 + rise, 0.9 - 0.3 * rise
    return GroupMetrics(np.full(rise.shape, float(PEOPLE)), loss, accuracy, loss.mean(1), accuracy.mean(1))


def _theory(harm: np.ndarray, seeds: int, sparsities, rng: np.random.Generator) -> TheoryResults:
    """‖g‖ is the harm of each group, and λ(H) that in opposite order."""
    shape = (len(sparsities), seeds, len(harm))
    observed = np.broadcast_to(harm, shape) + 0.001 * rng.normal(size=shape)
    return TheoryResults(
        split="train",
        gradient_norm=np.broadcast_to(harm, shape[1:]) + 0.0,
        overall_gradient_norm=np.full(seeds, 0.01),
        eigenvalue=np.broadcast_to(harm[::-1], shape[1:]) + 1.0,
        residual=np.full(shape[1:], 1e-4),
        converged=np.ones(shape[1:]),
        matvecs=np.full(shape[1:], 7.0),
        margin=np.full(shape[1:], 0.5),
        closeness=np.broadcast_to(np.linspace(0.1, 0.4, len(harm)), shape[1:]),
        sparsities=np.array(sparsities),
        distance=np.broadcast_to(np.linspace(1, 2, len(sparsities))[:, None], shape[:2]),
        first_order=observed / 2,
        second_order=observed / 2,
        observed=observed,
    )


def with_tests(results: Results, name: str, sparsity: float, **fields) -> Results:
    """The same results with other tests of one network, such as `working=...` or `harm={"loss": ...}`."""
    network = results.network(name, sparsity)
    audit = results.audit(network, "test")
    assert audit.tests is not None
    if "harm" in fields:
        fields["harm"] = dict(audit.tests.harm) | fields["harm"]
    tested = audit._replace(tests=audit.tests._replace(**fields))
    return replace(results, audits=dict(results.audits) | {(network.key, "test"): tested})


def with_further(results: Results) -> Results:
    """Adds the grouping "sex<>" of three groups, of which the last has no examples on the test split."""
    other = made_results(harm=(0.2, 0.4, 0.0))
    hole = np.array([1, 1, np.nan])
    audits = {}
    for (key, split), audit in other.audits.items():
        metrics = audit.metrics
        tests = None if audit.tests is None else _with_empty_group(harm_tests(metrics.loss[:, :2] - 0.3, 0.05))
        audits[key, split] = audit._replace(
            metrics=metrics._replace(
                size=metrics.size * [1, 1, 0], loss=metrics.loss * hole, accuracy=metrics.accuracy * hole
            ),
            impact=audit.impact._replace(
                **{name: getattr(audit.impact, name) * hole
                   for name in ("excessive_loss", "accuracy_drop", "excess_accuracy_gap")}
            ),
            sampling=SamplingError(*(leaf * hole for leaf in audit.sampling)),
            tests=tests,
        )  # fmt: skip
        audits[key, split] = audits[key, split]._replace(own_impact=audits[key, split].impact)
    sizes = {"train": [600, 200, 3], "validation": [70, 30, 1], "test": [100, 100, 0]}
    further = Grouped(["f", "m", "x"], sizes, ["the test split lacks x"], audits)
    return replace(results, further={"sex<>": further})


def _with_empty_group(tests: HarmTests) -> HarmTests:
    """Adds a group without examples."""
    harm = {
        name: type(h)(*(np.append(leaf, 0.0 if field == "people" else np.nan) for field, leaf in h._asdict().items()))
        for name, h in tests.harm.items()
    }
    lost = np.pad(tests.working.lost, ((0, 0), (0, 1)))
    return tests._replace(harm=harm, working=tests.working._replace(lost=lost))


def made_theory() -> Results:
    """Two seeds, four groups, two sparsities, every measure of the theory, and costs of masked networks."""
    made = made_results(harm=(0.1, 0.2, 0.3, 0.6), seeds=2, sparsities=(0.5, 0.9))
    plain = json.loads(json.dumps(_measures(made), default=lambda a: a.tolist()).replace("NaN", "null"))
    return with_costs(replace(made, measures=plain))


def with_theory(results: Results, **theory) -> Results:
    """The same results with other numbers of the theory."""
    assert results.theory is not None
    return replace(results, theory=replace(results.theory, **theory))


def with_nan(array, *groups) -> np.ndarray:
    """A copy [..., G] with NaN at these groups."""
    array = np.array(array, float)
    array[..., list(groups)] = np.nan
    return array


def _measures(made: Results) -> dict[str, Any]:
    assert made.theory is not None
    r, g, s, rng = 2, 4, 2, np.random.default_rng(0)
    residual = {"residual": np.full((r, g), 0.004)}
    value = {"value": rng.uniform(1, 2, (r, g)).tolist(), "converged": [[True] * g] * r} | residual
    unfinished = value | {"converged": [[True, True, False, True]] * r}
    path = rng.uniform(0, 0.1, (s, r, g, 3))
    statement = {
        "left": np.ones((r, g)),
        "right": np.full((r, g), 3.0),
        "holds": np.ones((r, g)),
        "assumed": np.ones((r, g)),
        "boundary": np.full((r, g), 0.2),
        "output_eigenvalue": np.full((r, g), 7.0),
        "jacobian_norm": np.full((r, g), 5.0),
        "error": np.full((r, g), 0.4),
        "assumptions": {"the eigenvalue has converged": np.ones((r, g))},
    }
    failing = statement | {"right": np.full((r, g), 0.5), "holds": np.zeros((r, g)), "assumed": np.zeros((r, g)),
                           "assumptions": {"f - y is positive": np.zeros((r, g))}}  # fmt: skip
    pairs = np.where(np.eye(g, dtype=bool), np.nan, 1.0)[None].repeat(r, 0)
    opposed = np.full((g, g), 0.5)
    opposed[2, 0] = opposed[0, 2] = -0.25
    alone = {"there are exactly two groups": np.zeros(r), "the whole loss is stationary": np.array([0, 1])}
    return {
        "cosines": {"cosines": np.where(np.eye(g, dtype=bool), 1, opposed)[None].repeat(r, 0),
                    "statements": {"Proposition 1": {"left": pairs, "right": 2 * pairs, "holds": np.ones((r, g, g)),
                                                     "assumed": np.zeros((r, g, g)),
                                                     "assumptions": alone}}},
        "spectra": {"largest": value, "smallest": value | {"value": -np.ones((r, g))},
                    "gauss_newton": unfinished, "trace": np.full((r, g), 12.0), "trace_error": np.full((r, g), 0.5),
                    "products": 30},
        "density": {"grid": np.linspace(-1, 3, 50), "density": rng.uniform(0.1, 1, (g, 50)), "width": 0.1, "steps": 40,
                    "negative_share": np.zeros(g), "positive_share": np.array([0.01, 0.02, 0.08, 0.03])},
        "examples": {"mean_of_norms": 2 * np.asarray(made.theory.gradient_norm)},
        "distances": {n: rng.uniform(size=(r, g)) for n in ("margin", "closeness", "radius", "distance")},
        "outputs": {"counts": [5] * g, "statements": {"Proposition 2": statement, "multiclass": statement,
                                                      "printed": failing}},
        "attribution": {"leaves": ["first/bias", "first/kernel", "last/kernel"], "path": path,
                        "observed": path.sum(-1), "first_order": path, "second_order": path},
        "pruned": {"gradient_norm": rng.uniform(5, 6, (s, r, g)), "value": np.zeros((s, r, g)), "nested": [True],
                   "converged": np.ones((s, r, g)) - np.eye(g)[0]},
        "sparing": {"layers": ["first/kernel", "last/kernel"], "group": [3, 0], "allocation": [[0.5, 0.0], [0.9, 0.95]],
                    "reached": [0.5, 0.91], "harm": np.full((s, r, g), 0.4),
                    "spared_harm": np.stack([np.full((r, g), 0.1), np.full((r, g), 0.7)])},
    }  # fmt: skip

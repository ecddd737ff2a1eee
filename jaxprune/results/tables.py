"""Results as tidy tables, and the meaning of their columns."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.costs import Median
from jaxprune.files import write_atomically
from jaxprune.quantities import quantity_interval
from jaxprune.results.answer import LEVEL
from jaxprune.results.comparison import MEASURES
from jaxprune.results.figures import figures
from jaxprune.results.prunings import comparisons_of
from jaxprune.results.records import Network, Results, audited
from jaxprune.text import inert_cell

Row = dict[str, Any]

_NETWORK = {
    "network": "its name: dense, pruned, the criterion or structure where several are compared, or the way of "
    "retraining; with + between both",
    "role": "dense, compressed or retrained",
    "sparsity": "share of weights pruned that was asked for; 0 for a dense network",
    "values": "hyperparameters, as dual_rate=0.01 tolerance=0",
    "chosen": "False for a candidate that lost the choice on the validation split",
    "split": "train, validation or test",
}
_TIMED = "median over rounds; with _low and _high, the ends of its 95 % interval (empty below six rounds)"
_EACH = "mean over seeds; with _low and _high, the ends of its interval (empty with fewer than four seeds)"

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "groups": {
        "grouping": "attribute, or attributes crossed, that forms the groups",
        "seed": "seed of the network",
        **_NETWORK,
        "group": "name of the group",
        "size": "examples of the group on the split",
        "loss": "mean loss, nats",
        "accuracy": "share of right predictions",
        "excessive_loss": "R(a), the loss minus that of the plain dense network of the same seed, nats",
        "accuracy_drop": "accuracy of the plain dense network minus that of this one",
        "excess_accuracy_gap": "ψ_a, the drop of the group minus that over all examples",
        "excessive_loss_own_dense": "R(a) against the dense network that this one was made from, nats",
        "excessive_loss_se": "standard error of R(a) over people, nats",
        "accuracy_drop_se": "standard error of the drop over people",
    },
    "summary": {
        "grouping": "attribute, or attributes crossed, that forms the groups",
        **_NETWORK,
        "seeds": "number of seeds",
        "trouble": "why there are no figures; empty where there are",
        "loss": f"loss over all examples, nats; {_EACH}",
        "accuracy": f"accuracy over all examples; {_EACH}",
        "worst_group_accuracy": f"lowest accuracy of a group; {_EACH}",
        "best_group_accuracy": f"highest accuracy of a group; {_EACH}",
        "accuracy_spread": f"highest minus lowest accuracy of a group; {_EACH}",
        "loss_gap": f"max_a |J_a - J|, nats; {_EACH}",
        "excessive_loss_spread": f"ξ, largest minus smallest R(a), nats; {_EACH}",
        "max_excessive_loss": f"largest R(a), nats; {_EACH}",
        "max_excess_accuracy_gap": f"largest ψ_a; {_EACH}",
        "excess_accuracy_gap_spread": f"largest minus smallest ψ_a; {_EACH}",
        "worst_group": "group of lowest accuracy in most seeds",
        "worst_group_in_seeds": "number of these seeds",
        "empty_layers": "layers that were pruned entirely in some seed",
    },
    "methods": {
        **{name: text for name, text in _NETWORK.items() if name not in ("role", "chosen")},
        "measure": "figure that it is compared by, a column of summary.csv",
        "baseline": "network that it is compared with",
        "change": "mean over seeds of the difference from the baseline, in the unit of the measure",
        "low": "lower end of its interval; on the answered split, of the simultaneous one",
        "high": "upper end of its interval",
        "p": "paired t-test over seeds, two-sided, by itself",
        "p_adjusted": "after Holm's correction over all methods and measures of the family; answered split alone",
    },
    "harm": {
        "grouping": "attribute, or attributes crossed, that forms the groups",
        **{name: text for name, text in _NETWORK.items() if name != "chosen"},
        "measure": "loss, accuracy or flips",
        "group": "name of the group",
        "people": "examples of the group",
        "change": "mean change of the group; more is worse",
        "excess": "the same minus that of everybody else",
        "low": "lower end of the simultaneous interval of excess",
        "high": "upper end",
        "p_adjusted": "p, adjusted for all groups and measures of the network",
        "clear": "whether the group is hurt more than the rest, beyond chance",
        "smallest_visible": "excess that would have been called clear with a probability of 80 %",
    },
    "costs": {
        **{name: text for name, text in _NETWORK.items() if name not in ("chosen", "split")},
        "form": "dense (the dense network, measured beside it), masked (its zeros stored as numbers) or compact",
        "parameters": "numbers in the arrays of parameters",
        "nonzeros": "those that are not 0",
        "bytes": "of its arrays in a file, without the header; masked ones packed where that is smaller",
        "flops": "for one example, by XLA's analysis of the program",
        "batch": "examples that are given at once",
        "memory": "bytes of arguments, result and temporary values, by the compiler's account",
        "seconds": f"of one call; {_TIMED}",
        "ratio": f"of this time to that of the dense network; {_TIMED}",
        "throughput": f"examples in a second; {_TIMED}",
        "rounds": "turns that it was timed in",
        "device": "what it was measured on",
    },
    "theory": {
        "seed": "seed of the network",
        "group": "name of the group",
        "sparsity": "0 for what is measured at the dense network alone",
        "quantity": "its name; of a further measure with the measure before it, as spectra.largest.value",
        "value": "number; empty where it is not finite",
    },
}


def groups(results: Results) -> Iterator[Row]:
    """One row for each grouping, seed, network, split and group."""
    for grouping in results.groupings:
        view = results.by(grouping)
        for network, split, audit in audited(view.networks, view.audits):
            for r, seed in enumerate(view.seeds):
                for g, group in enumerate(view.group_names):
                    yield {
                        "grouping": grouping,
                        "seed": seed,
                        **_of_network(network, split),
                        "group": group,
                        "size": int(audit.metrics.size[r, g]),
                        "loss": audit.metrics.loss[r, g],
                        "accuracy": audit.metrics.accuracy[r, g],
                        "excessive_loss": audit.impact.excessive_loss[r, g],
                        "accuracy_drop": audit.impact.accuracy_drop[r, g],
                        "excess_accuracy_gap": audit.impact.excess_accuracy_gap[r, g],
                        "excessive_loss_own_dense": audit.own_impact.excessive_loss[r, g],
                        "excessive_loss_se": audit.sampling.excessive_loss[r, g],
                        "accuracy_drop_se": audit.sampling.accuracy_drop[r, g],
                    }


def summary(results: Results) -> Iterator[Row]:
    """One row for each grouping, network and split.

    Means over seeds with the ends of their intervals.
    """
    for grouping in results.groupings:
        view = results.by(grouping)
        for network in view.networks:
            splits = view.splits if not network.trouble else []
            for split in splits or view.splits[:1]:
                common = {"grouping": grouping, **_of_network(network, split), "seeds": len(view.seeds)}
                yield common | {"trouble": network.trouble} | _summary(view, network, split)


def _summary(results: Results, network: Network, split: str) -> Row:
    names = [name for name in COLUMNS["summary"] if COLUMNS["summary"][name].endswith(_EACH)]
    if network.trouble:
        blank = {f"{name}{end}": float("nan") for name in names for end in ("", "_low", "_high")}
        return blank | {"worst_group": "", "worst_group_in_seeds": 0, "empty_layers": ""}
    row: Row = {}
    values = figures(results, network, split)
    for name in names:
        interval = quantity_interval(results, values[name], name)
        row |= {name: float(interval.mean), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    worst, counts = np.unique(np.asarray(results.audit(network, split).metrics.worst_group), return_counts=True)
    row["worst_group"] = results.group_names[int(worst[counts.argmax()])]
    row["worst_group_in_seeds"] = int(counts.max())
    row["empty_layers"] = " ".join(network.empty_layers)
    return row


def methods(results: Results) -> Iterator[Row]:
    """One row for each reported method, sparsity, split and measure.

    The baseline has no row. Compared criteria and structures are methods too.
    """
    compared = ((c, key, network) for c in comparisons_of(results) for key, network in c.chosen.items())
    for comparison, (name, sparsity), network in compared:
        if name == comparison.baseline or (comparison.baseline, sparsity) not in comparison.chosen:
            continue
        for split in results.splits:
            for measure, how in MEASURES.items():
                difference = comparison.difference(name, sparsity, split, measure)
                key = (sparsity, name, measure)
                verdict = comparison.verdicts.get(key) if split == results.answered_split else None
                interval = verdict.change if verdict else difference.change
                cells = _of_network(network, split)
                yield {column: cells[column] for column in ("network", "sparsity", "values", "split")} | {
                    "measure": measure,
                    "baseline": comparison.baseline,
                    "change": float(interval.mean) / how.scale,
                    "low": float(interval.low) / how.scale,
                    "high": float(interval.high) / how.scale,
                    "p": difference.p,
                    "p_adjusted": verdict.adjusted_p if verdict else float("nan"),
                }


def harm(results: Results) -> Iterator[Row]:
    """One row for each test of a group against the rest."""
    for grouping in results.groupings:
        view = results.by(grouping)
        for network, split, audit in audited(view.networks, view.audits):
            for measure, tests in audit.tests.harm.items() if audit.tests else ():
                cells = _of_network(network, split)
                del cells["chosen"]
                for g, group in enumerate(view.group_names):
                    yield {
                        "grouping": grouping,
                        **cells,
                        "measure": measure,
                        "group": group,
                        "people": int(tests.people[g]),
                        "change": tests.change[g],
                        "excess": tests.excess[g],
                        "low": tests.low[g],
                        "high": tests.high[g],
                        "p_adjusted": tests.p[g],
                        "clear": bool(tests.clear(LEVEL)[g]),
                        "smallest_visible": tests.smallest_visible[g],
                    }


def costs(results: Results) -> Iterator[Row]:
    """One row for each compressed network, form and batch size.

    The dense network that was measured beside it has rows of its own.
    """
    for network in results.networks:
        measured = results.costs.get(network.key)
        for form, costs in measured.forms.items() if measured else ():
            for program in costs.programs:
                yield {
                    **{
                        name: cell for name, cell in _of_network(network, "").items() if name not in ("chosen", "split")
                    },
                    "form": form,
                    **{name: getattr(costs, name) for name in ("parameters", "nonzeros", "bytes", "flops")},
                    "batch": program.batch,
                    "memory": program.memory,
                    **_with_ends("seconds", program.seconds),
                    **_with_ends("ratio", program.ratio),
                    **_with_ends("throughput", program.throughput),
                    "rounds": program.rounds,
                    "device": measured.device if measured else "",
                }


def _with_ends(name: str, median: Median) -> Row:
    return dict(zip((name, f"{name}_low", f"{name}_high"), median, strict=True))


_DENSE = ("gradient_norm", "eigenvalue", "residual", "converged", "matvecs", "margin", "closeness")
_ALONG = ("first_order", "second_order", "observed", "bound")
_ALONG_MEASURES = ("pruned", "attribution", "sparing")  # whose values are [S, R, G]
_NOT_GROUPS = ("density", "Proposition 3")  # whose second axis is not that of the groups


def theory(results: Results) -> Iterator[Row]:
    """One row for each seed, group, sparsity and quantity of the theory.

    What speaks of pairs of groups, of layers or of examples is in `results.json` alone.
    """
    found = results.theory
    if found is None:
        return
    for name in _DENSE:
        yield from _theory_rows(results, name, [0.0], np.asarray(getattr(found, name), float)[None])
    for name in _ALONG:
        yield from _theory_rows(results, name, found.sparsities, np.asarray(getattr(found, name), float))
    lengths = np.broadcast_to(found.distance[..., None], found.observed.shape)
    yield from _theory_rows(results, "distance", found.sparsities, lengths)
    for measure, values in (results.measures or {}).items():
        for name, array in _arrays(measure, values):
            if measure in _ALONG_MEASURES and array.shape == found.observed.shape:
                yield from _theory_rows(results, name, found.sparsities, array)
            elif measure not in _ALONG_MEASURES and array.shape == found.gradient_norm.shape:
                yield from _theory_rows(results, name, [0.0], array[None])


TABLES: Mapping[str, Callable[[Results], Iterator[Row]]] = {
    "groups": groups,
    "summary": summary,
    "methods": methods,
    "harm": harm,
    "costs": costs,
    "theory": theory,
}


def write_csv(path: Path, rows: Iterable[Row]) -> bool:
    """Write rows of equal keys; nothing where there are none.

    Numbers have nine digits, and one that is not finite becomes an empty field; a name that a spreadsheet would take
    for a formula gets an apostrophe before it.

    Returns:
      Whether there were rows.
    """
    rows = list(rows)
    if not rows:
        return False
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    write_atomically(path, text.getvalue())
    return True


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return repr(float(f"{value:.9g}")) if np.isfinite(value) else ""
    return inert_cell(value) if isinstance(value, str) else value


def _of_network(network: Network, split: str) -> Row:
    return {
        "network": network.name,
        "role": network.role,
        "sparsity": network.sparsity,
        "values": " ".join(f"{name}={value:g}" for name, value in network.values.items()),
        "chosen": network.chosen,
        "split": split,
    }


def _arrays(name: str, values: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of numbers within nested values, by dotted names."""
    if any(part in name for part in _NOT_GROUPS):
        return
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from _arrays(f"{name}.{key}", value)
        return
    try:
        yield name, np.array(values, dtype=float)
    except (TypeError, ValueError):  # names, or lists of unequal lengths
        return


def _theory_rows(results: Results, quantity: str, sparsities: Any, values: np.ndarray) -> Iterator[Row]:
    """The rows of values [S, R, G]."""
    for s, r, g in np.ndindex(values.shape):
        yield {
            "seed": results.seeds[r],
            "group": results.group_names[g],
            "sparsity": float(sparsities[s]),
            "quantity": quantity,
            "value": float(values[s, r, g]),
        }

"""Results as rows: tidy by seed and group, and summed up over seeds."""

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jaxprune.files import write_atomically
from jaxprune.reporting.quantities import quantity_interval
from jaxprune.reporting.results import Results
from jaxprune.text import inert_cell

Row = dict[str, Any]


def groups_rows(results: Results) -> Iterator[Row]:
    """One row for each grouping, seed, model, sparsity, split and group.

    `excessive_loss`, `accuracy_drop` and `excess_accuracy_gap` are against the plain dense network of the same seed;
    `..._own_dense` against the network that it was pruned from; `..._se` is the standard error over people.
    """
    for grouping in results.groupings:
        for row in _groups_rows(results.by(grouping)):
            yield {"grouping": grouping} | row


def _groups_rows(results: Results) -> Iterator[Row]:
    for model, sparsity, split in results.metrics:
        audit = results.audit(model, sparsity, split)
        for r, seed in enumerate(results.seeds):
            for g, group in enumerate(results.group_names):
                yield {
                    "seed": seed,
                    "model": model,
                    "sparsity": sparsity,
                    "split": split,
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


def overall_figures(results: Results, model: str, sparsity: float, split: str) -> dict[str, np.ndarray]:
    """The figures of a model that speak of all groups together, each [R].

    `loss_gap` is max_a |J_a - J|, what the constraint of program (8) asks to be zero.
    """
    audit = results.audit(model, sparsity, split)
    return {
        "loss": audit.metrics.overall_loss,
        "accuracy": audit.metrics.overall_accuracy,
        "worst_group_accuracy": np.nanmin(audit.metrics.accuracy, -1),
        "accuracy_spread": np.asarray(audit.metrics.accuracy_spread),
        "loss_gap": np.nanmax(np.abs(audit.metrics.loss - audit.metrics.overall_loss[:, None]), -1),
        "excessive_loss_spread": np.asarray(audit.impact.excessive_loss_spread),
        "max_excessive_loss": np.nanmax(audit.impact.excessive_loss, -1),
        "max_excess_accuracy_gap": np.asarray(audit.impact.max_excess_accuracy_gap),
    }


def summary_rows(results: Results) -> Iterator[Row]:
    """One row for each grouping, model, sparsity and split: means over seeds, with the ends of their intervals.

    The ends are NaN where there are too few seeds for intervals.
    """
    for grouping in results.groupings:
        for row in _summary_rows(results.by(grouping)):
            yield {"grouping": grouping} | row


def _summary_rows(results: Results) -> Iterator[Row]:
    for model, sparsity, split in results.metrics:
        row: Row = {"model": model, "sparsity": sparsity, "split": split, "seeds": len(results.seeds)}
        for name, values in overall_figures(results, model, sparsity, split).items():
            interval = quantity_interval(results, values, name)
            row |= {
                name: float(interval.mean),
                f"{name}_low": float(interval.low),
                f"{name}_high": float(interval.high),
            }
        worst = np.asarray(results.metrics[model, sparsity, split].worst_group)
        names, counts = np.unique(worst, return_counts=True)
        row["worst_group"] = results.group_names[int(names[counts.argmax()])]
        row["worst_group_in_seeds"] = int(counts.max())
        row["empty_layers"] = " ".join(empty_layers(results, model, sparsity))
        yield row


def empty_layers(results: Results, model: str, sparsity: float) -> list[str]:
    """Layers that were cut to nothing, in any seed."""
    layers = results.layers.get((model, sparsity), [])
    return [layer["path"] for layer in layers if sparsity > 0 and min(layer["kept"]) == 0]


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write rows of equal keys.

    A number that is not finite becomes an empty field; a name that a spreadsheet would take for a formula gets an
    apostrophe before it.
    """
    rows = list(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    write_atomically(path, text.getvalue())


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return repr(round(float(value), 7)) if np.isfinite(value) else ""
    return inert_cell(value) if isinstance(value, str) else value

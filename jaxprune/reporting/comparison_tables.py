"""The trials of a comparison as rows."""

from collections.abc import Iterator
from typing import Any

from jaxprune.reporting.comparison import BASELINE, MEASURES, SPLITS, Comparison
from jaxprune.reporting.quantities import quantity_interval


def trial_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """One row for each trial and split: means over seeds with their intervals, and what was chosen.

    `..._change` is the mean difference from plain fine-tuning, seed by seed, of the chosen trials, `..._p` its p by
    itself, and `..._p_adjusted`, on the test split, after Holm's correction over its family.
    """
    for trial in comparison.trials:
        chosen = comparison.chosen.get((trial.method, trial.sparsity)) is trial
        for split in SPLITS:
            row: dict[str, Any] = {
                "method": trial.method,
                "sparsity": trial.sparsity,
                "values": " ".join(f"{name}={value:g}" for name, value in trial.values.items()),
                "chosen": chosen,
                "split": split,
                "seeds": len(comparison.seeds),
                "trouble": trial.trouble,
            }
            figures = {} if trial.trouble else comparison.figures(trial, split)
            for name in MEASURES:
                found = quantity_interval(comparison, figures[name], name) if figures else None
                against = None
                if chosen and trial.method != BASELINE:
                    against = comparison.difference(trial.method, trial.sparsity, split, name)
                key = (trial.sparsity, trial.method, name)
                verdict = comparison.verdicts.get(key) if against and split == "test" else None
                scale = MEASURES[name][2]
                row |= {
                    name: float(found.mean) if found else float("nan"),
                    f"{name}_low": float(found.low) if found else float("nan"),
                    f"{name}_high": float(found.high) if found else float("nan"),
                    f"{name}_change": float(against.change.mean) / scale if against else float("nan"),
                    f"{name}_p": against.p if against else float("nan"),
                    f"{name}_p_adjusted": verdict.adjusted_p if verdict else float("nan"),
                }
            yield row

"""jaxprune: whom pruning hurts, why, who is next, and what helps.

The map of the library (each name below is a module or a package, imported when first used):

    data         data sets with groups: bundled ones and your own arrays
    models       flax NNX networks, and adapters for anything that is a function of parameters
    training     one contract, `step(state, batch) -> (state, logs)`, and the `fit` that runs it
    pruning      criteria, masks, and the optax transformation that keeps pruned weights at zero
    mitigation   the Lagrangian constraint on group losses, as an optax transformation
    auditing     per-group metrics, the impact of pruning, intervals over seeds
    theory       group gradients, curvature, boundary distance, the bound of Theorem 1
    costs        sizes, FLOPs, memory and measured time of networks
    results      what a job measured: records, the answer, tidy tables, JSON and CSV
    reporting    results -> figures, one self-contained HTML page
    run          the main job in this process: `jaxprune.run("adult", seeds=2)`, in a notebook or a script
    compare      every way of retraining on one protocol, likewise
    export       networks for use elsewhere: sparse arrays, and programs that run without jaxprune
    export_network   a network of a finished run, written to a file

Importing `jaxprune` does not import jax; importing any of the modules above does.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "auditing",
    "checkpoints",
    "config",
    "costs",
    "data",
    "devices",
    "errors",
    "export",
    "groups",
    "jobs",
    "losses",
    "mitigation",
    "models",
    "networks",
    "pipeline",
    "pruning",
    "reporting",
    "results",
    "sharding",
    "streaming",
    "theory",
    "training",
    "types",
)

_FUNCTIONS = {"compare": "jobs", "export_network": "jobs", "run": "jobs"}  # name -> its module

__all__ = ["__version__", *_FUNCTIONS, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"jaxprune.{name}")
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(f"jaxprune.{_FUNCTIONS[name]}"), name)
    raise AttributeError(f"module 'jaxprune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

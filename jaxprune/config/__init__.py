"""The settings of a run, from TOML and overrides, and back.

Names are imported when first used: asking a command for its help needs no settings, which take most of its time.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxprune.config.loading import find, load, shipped, to_toml, validate
    from jaxprune.config.rules import added_names, check_names, names_of
    from jaxprune.config.sections import (
        SECTIONS,
        Audit,
        Choice,
        Data,
        Mitigation,
        Model,
        Prune,
        Retrain,
        Settings,
        Theory,
        Train,
        paths,
    )

_MODULES = {
    "loading": ("find", "load", "shipped", "to_toml", "validate"),
    "rules": ("added_names", "check_names", "names_of"),
    "sections": (
        "SECTIONS", "Audit", "Choice", "Data", "Mitigation", "Model", "Prune", "Retrain", "Settings", "Theory", "Train",
        "paths",
    ),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "SECTIONS",
    "Audit",
    "Choice",
    "Data",
    "Mitigation",
    "Model",
    "Prune",
    "Retrain",
    "Settings",
    "Theory",
    "Train",
    "added_names",
    "check_names",
    "find",
    "load",
    "names_of",
    "paths",
    "shipped",
    "to_toml",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    return globals()[name]

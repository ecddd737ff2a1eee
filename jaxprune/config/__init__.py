"""The settings of a run: frozen, validated, from a TOML file and overrides, and back to TOML."""

from jaxprune.config.loading import find, load, shipped, to_toml, validate
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
    "find",
    "load",
    "paths",
    "shipped",
    "to_toml",
    "validate",
]

"""The settings of a run, from TOML and overrides, and back."""

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

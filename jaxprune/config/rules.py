"""Rules for settings beyond their types and ranges."""

from collections.abc import Mapping

from jaxprune.components import (
    ALLOCATIONS,
    CONFIGURED,
    CONSTRAINTS,
    CRITERIA,
    DUALS,
    METHODS,
    NETWORKS,
    OPTIMISERS,
    PAPER_MODELS,
    SCHEDULES,
    SCHEMES,
)
from jaxprune.config.sections import Settings
from jaxprune.errors import UserError, unknown
from jaxprune.registry import Registry

# Setting -> the registry of the names that it takes.
REGISTRIES: Mapping[str, Registry] = {
    "model.name": NETWORKS,
    "train.optimizer": OPTIMISERS,
    "train.schedule": SCHEDULES,
    "prune.criterion": CRITERIA,
    "prune.allocation": ALLOCATIONS,
    "mitigation.constraint": CONSTRAINTS,
    "mitigation.dual": DUALS,
    "mitigation.scheme": SCHEMES,
    "retrain.methods": METHODS,
}
# Names outside of the registries.
_FURTHER = {"retrain.methods": dict.fromkeys(PAPER_MODELS, "") | {CONFIGURED: "the Lagrangian of [mitigation]"}}


def names_of(path: str) -> dict[str, str]:
    """Name -> description of the names that a setting takes.

    Empty for settings without a registry.

    Raises:
      UserError: Two installed packages add one name.
    """
    return _FURTHER.get(path, {}) | REGISTRIES[path].describe() if path in REGISTRIES else {}


def check_settings(settings: Settings) -> None:
    """Raise for contradicting or useless settings and unknown names.

    Raises:
      UserError: It names the setting.
    """
    check_names(settings)
    train, mitigation = settings.train, settings.mitigation
    options = {"momentum": train.momentum or None, "weight_decay": train.weight_decay or None}
    OPTIMISERS.fill(train.optimizer, options, section="train")
    CONSTRAINTS.fill(mitigation.constraint, {"tolerance": mitigation.tolerance or None}, section="mitigation")
    if (settings.data.upsample_times > 1) != bool(settings.data.upsample_group):
        raise UserError("data.upsample_group and data.upsample_times go together; give both or neither")
    if settings.model.new_head and not settings.model.weights:
        raise UserError("model.new_head: it is about the file of model.weights; give that too, or leave it out")
    _check_repeats(settings)


def check_names(settings: Settings) -> None:
    """Raise if a setting names an unknown component.

    Raises:
      UserError: It names the setting and the nearest names.
    """
    for path, registry in REGISTRIES.items():
        section, _, field = path.partition(".")
        value = getattr(getattr(settings, section), field)
        known = names_of(path)
        for name in value if isinstance(value, tuple) else (value,):
            if name not in known:
                raise unknown(registry.kind, name, known, where=path)


def _check_repeats(settings: Settings) -> None:
    for setting, values in (
        ("prune.sparsities", settings.prune.sparsities),
        ("retrain.methods", settings.retrain.methods),
        ("choice.dual_rates", settings.choice.dual_rates),
        ("choice.tolerances", settings.choice.tolerances),
        ("audit.splits", settings.audit.splits),
    ):
        repeated = [v for v in values if values.count(v) > 1]
        if repeated:
            raise UserError(f"{setting}: {repeated[0]!r} is given twice; name each value once")

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
    ONE_SHOT,
    OPTIMISERS,
    PAPER_MODELS,
    PRUNING_SCHEDULES,
    RANDOM_START,
    SCHEDULES,
    SCHEMES,
    SPARED,
    STRUCTURES,
)
from jaxprune.config.options import check_options, structure_of
from jaxprune.config.sections import Prune, Settings
from jaxprune.errors import UserError, unknown
from jaxprune.registry import Registry

# Setting -> the registry of the names that it takes.
REGISTRIES: Mapping[str, Registry] = {
    "model.name": NETWORKS,
    "train.optimizer": OPTIMISERS,
    "train.schedule": SCHEDULES,
    "prune.criterion": CRITERIA,
    "prune.criteria": CRITERIA,
    "prune.structure": STRUCTURES,
    "prune.structures": STRUCTURES,
    "prune.allocation": ALLOCATIONS,
    "prune.schedule": PRUNING_SCHEDULES,
    "mitigation.constraint": CONSTRAINTS,
    "mitigation.dual": DUALS,
    "mitigation.scheme": SCHEMES,
    "retrain.methods": METHODS,
}
# Names outside of the registries.
_FURTHER = {
    "prune.allocation": {SPARED: "levels that spare the group hurt most"},
    "retrain.methods": dict.fromkeys(PAPER_MODELS, "") | {CONFIGURED: "the Lagrangian of [mitigation]"},
}
_MAY_BE_EMPTY = {"prune.allocation"}
_WITH_OPTIONS = {"prune.structures"}  # after a colon


def names_of(path: str) -> dict[str, str]:
    """Name -> description of the names that a setting takes.

    Empty for settings without a registry.

    Raises:
      UserError: Two installed packages add one name.
    """
    return _FURTHER.get(path, {}) | REGISTRIES[path].describe() if path in REGISTRIES else {}


def added_names(path: str) -> frozenset[str]:
    """The names that other packages add to those that a setting takes."""
    return REGISTRIES[path].added() if path in REGISTRIES else frozenset()


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
    if settings.model.keep_zeros and not settings.model.weights:
        raise UserError("model.keep_zeros: it is about the file of model.weights; give that too, or leave it out")
    _check_structures(settings.prune)
    check_options(settings.prune)
    _check_rewinding(settings)
    _check_schedule(settings)
    _check_sparse_from_the_start(settings)
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
        names = value if isinstance(value, tuple) else (value,)
        for name in [entry.partition(":")[0] for entry in names] if path in _WITH_OPTIONS else names:
            if name not in known and (name or path not in _MAY_BE_EMPTY):
                raise unknown(registry.kind, name, known, where=path)


def _check_structures(prune: Prune) -> None:
    """Raise for compared structures beside what they take the place of."""
    if not prune.structures:
        return
    if prune.criteria:
        raise UserError("prune.structures: prune.criteria compares, too; give one of the two at a time")
    if prune.structure != Prune.model_fields["structure"].default:
        raise UserError("prune.structure: prune.structures names several; leave one of the two out")
    if prune.structure_options:
        raise UserError(
            "prune.structure_options: write them into prune.structures, as "
            f"{prune.structures[-1]}:{prune.structure_options[0]}"
        )
    parts = [structure_of(prune, entry) for entry in prune.structures]
    for place, part in enumerate(parts):
        if part in parts[:place]:
            raise UserError(f"prune.structures: {prune.structures[place]!r} is there already; name each structure once")


def _check_sparse_from_the_start(settings: Settings) -> None:
    prune = settings.prune
    if prune.schedule not in RANDOM_START:
        return
    for name in ("criterion", "structure"):
        default = Prune.model_fields[name].default
        if getattr(prune, name) != default:
            raise UserError(
                f"prune.{name}: {prune.schedule} begins with random masks of single weights, and drops the smallest; "
                f"leave {getattr(prune, name)} out"
            )
    if prune.criteria:
        raise UserError(f"prune.criteria: {prune.schedule} has a criterion of its own; leave one of the two out")
    if prune.structures:
        raise UserError(
            f"prune.structures: {prune.schedule} begins with random masks of single weights; leave one of the two out"
        )
    if settings.model.keep_zeros:
        raise UserError(f"model.keep_zeros: {prune.schedule} draws its masks at random; leave one of the two out")


def _check_schedule(settings: Settings) -> None:
    """Raise for schedules that cannot be had with the other axes."""
    prune, retrain = settings.prune, settings.retrain
    gradually = prune.schedule in ("gradual", "straight_through")
    if prune.allocation in ("levels", SPARED) and (gradually or prune.schedule == "iterative"):
        raise UserError(
            f"prune.allocation: {prune.allocation} is for one sparsity, and {prune.schedule} goes through several; "
            "take another allocation, or leave prune.schedule out"
        )
    names = [structure_of(prune, entry).name for entry in prune.structures or ("",)]
    if "n_m" in names and prune.schedule == "iterative":
        raise UserError(
            f"prune.structure{'s' if prune.structures else ''}: n_m has few sparsities, and iterative goes through "
            "others; take another schedule, such as gradual"
        )
    if settings.model.keep_zeros and prune.schedule in ("iterative", "straight_through", "before_training"):
        raise UserError(
            f"model.keep_zeros: {prune.schedule} does not hold the zeros of model.weights; leave one of the two out"
        )
    if prune.criteria and prune.criterion != Prune.model_fields["criterion"].default:
        raise UserError("prune.criterion: prune.criteria names several; leave one of the two out")
    if not retrain.epochs and (retrain.rewind >= 0 or prune.schedule == "iterative"):
        what = "retrain.rewind" if retrain.rewind >= 0 else "prune.schedule"
        raise UserError(f"{what}: there is no retraining, since retrain.epochs is 0; leave it out, or give epochs")


def _check_rewinding(settings: Settings) -> None:
    epoch, train = settings.retrain.rewind, settings.train
    if epoch >= train.epochs:
        raise UserError(
            f"retrain.rewind: epoch {epoch} is not before the end of the dense training; train.epochs is {train.epochs}"
        )
    if settings.retrain.rewind_learning_rate and epoch < 0:
        raise UserError("retrain.rewind_learning_rate: give the epoch in retrain.rewind as well, or leave it out")
    if epoch >= 0 and settings.prune.schedule not in (ONE_SHOT, "iterative"):
        raise UserError(
            f"retrain.rewind: the networks of {settings.prune.schedule} are trained in another way; leave one of the "
            "two out"
        )


def _check_repeats(settings: Settings) -> None:
    for setting, values in (
        ("prune.sparsities", settings.prune.sparsities),
        ("prune.criteria", settings.prune.criteria),
        ("prune.keep_dense", settings.prune.keep_dense),
        ("retrain.methods", settings.retrain.methods),
        ("choice.dual_rates", settings.choice.dual_rates),
        ("choice.tolerances", settings.choice.tolerances),
        ("audit.splits", settings.audit.splits),
    ):
        repeated = [v for v in values if values.count(v) > 1]
        if repeated:
            raise UserError(f"{setting}: {repeated[0]!r} is given twice; name each value once")

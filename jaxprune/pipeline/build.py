"""From settings to functions and arrays."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxprune import data, models, pruning, sharding
from jaxprune.config import Data, Model, Settings, check_names
from jaxprune.data import Dataset, Grouping
from jaxprune.errors import UserError
from jaxprune.groups import same_grouping
from jaxprune.networks import Network
from jaxprune.pipeline.checks import check_augmentation, check_groupings
from jaxprune.pipeline.experiment import Experiment, kernels_of
from jaxprune.pipeline.memory_limits import check_memory
from jaxprune.pipeline.parts import usual_allocation
from jaxprune.types import Params, PyTree, Stats

_NOT_OPTIONS = {"name", "weights", "new_head", "keep_zeros"}  # of [model]: all others are options of the network


def load_data(wanted: Data, groupings: Sequence[str] = ()) -> Dataset:
    """Load the data set that the settings ask for.

    A table's inputs leave out the columns of further groupings as well.
    """
    options = wanted.model_dump(exclude={"name", "label", "group"})
    options |= {"groupings": tuple(groupings)} if data.is_table_file(wanted.name) else {}
    return data.load(wanted.name, group=wanted.group or None, label=wanted.label or None, **options)


def resolve(settings: Settings) -> Experiment:
    """Loads the data and builds the network that the settings name.

    Returns:
      The experiment; its settings have every default of the data set and of the model filled in.

    Raises:
      UserError: A name is unknown, or the data is not fit for use.
    """
    check_names(settings)
    check_groupings(settings)
    model_options = models.options_of(settings.model.name, settings.model.model_dump(exclude=_NOT_OPTIONS))
    wanted = settings.data
    # Before the data, which may take long to load.
    weights = models.read_state_dict(settings.model.weights) if settings.model.weights else None
    dataset = _load_primary(settings)
    further = _further(settings, dataset)
    check_augmentation(settings, dataset)
    groups = (dataset.group_by, *(grouping.name for grouping in further)) if further else ()
    settings = settings.model_copy(
        update={
            "data": wanted.model_copy(update={"group": dataset.group_by, "label": dataset.label_by}),
            "prune": settings.prune.model_copy(update={"allocation": _allocation(settings)}),
            "audit": settings.audit.model_copy(update={"groups": groups}),
            "model": settings.model.model_copy(
                update={name: value for name, value in model_options.items() if name in Model.model_fields}
            ),
        }
    )
    inner = models.build(settings.model.name, dataset.train.x[0], dataset.num_classes, **model_options)
    network = inner.after(dataset.normalise)
    assert network.init is not None
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    check_memory(settings, dataset, params)
    fingerprint = dataset.examples_fingerprint()
    if weights is not None:
        options: Any = {"new_head": settings.model.new_head, "where": settings.model.weights}
        with models.naming_layouts(settings.model.weights):  # now rather than after training something else
            weights = models.select_entries(weights, params, stats, **options)
            models.from_state_dict(weights, params, stats, **options)
        fingerprint += "+" + models.digest(weights)
    keys = jax.vmap(jax.random.key)(np.uint32(settings.first_seed) + np.arange(settings.seeds, dtype=np.uint32))
    prunable = _prunable(settings, network, dataset, params, stats)
    mesh = sharding.make_mesh(settings.seeds)
    return Experiment(settings, dataset, network, prunable, keys, mesh, fingerprint, weights, inner, further)


def _allocation(settings: Settings) -> str:
    """The allocation that the settings mean.

    Of compared structures, each may have its own.
    """
    return settings.prune.allocation if settings.prune.structures else usual_allocation(settings.prune)


def _prunable(settings: Settings, network: Network, dataset: Dataset, params: Params, stats: Stats) -> PyTree:
    """Select the parameters that may be pruned.

    Raises:
      UserError: A pattern matches nothing, or nothing is left.
    """
    prune = settings.prune
    chosen = pruning.prunable(params, prune.include, prune.exclude, where="prune.")
    if not prune.keep_dense:
        return chosen
    order = [kernel.path for kernel in kernels_of(network, dataset, params, stats)]
    first, last = ("first" in prune.keep_dense, "last" in prune.keep_dense)
    try:
        return pruning.keep_ends(chosen, order, first=first, last=last)
    except UserError as error:
        raise UserError(f"prune.keep_dense: {str(error).removeprefix('keep_ends: ')}") from None


def _load_primary(settings: Settings) -> Dataset:
    """Load the data with the groups of its primary grouping.

    Those are data.group, or else the first of audit.groups.
    """
    wanted, audited = settings.data, settings.audit.groups
    if wanted.group or not audited:
        return load_data(wanted, audited)
    try:
        return load_data(wanted.model_copy(update={"group": audited[0]}), audited)
    except UserError as error:
        raise UserError(str(error).replace("data.group: ", "audit.groups: ", 1)) from None


def _further(settings: Settings, dataset: Dataset) -> tuple[Grouping, ...]:
    """The groupings of audit.groups other than the data set's own."""
    others = [spec for spec in settings.audit.groups if not same_grouping(spec, dataset.group_by)]
    return tuple(dataset.grouping(spec, where="audit.groups") for spec in others)

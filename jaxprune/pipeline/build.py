"""From settings to functions and arrays."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxprune import auditing, data, models, pruning, sharding, training
from jaxprune.components import OPTIMISERS, SCHEDULES
from jaxprune.config import Data, Model, Settings, check_names
from jaxprune.data import Dataset, Grouping
from jaxprune.data.streaming import blocks, num_blocks
from jaxprune.errors import UserError
from jaxprune.examples import chunk_size_for
from jaxprune.groups import same_grouping
from jaxprune.networks import Network
from jaxprune.pipeline.checks import check_augmentation, check_groupings
from jaxprune.pipeline.memory_limits import check_memory
from jaxprune.types import Array, Augment, Batch, Masks, Params, PyTree, Stats

# What each replica's key is split into; a new use gets a new number, so that the others keep their bits.
_INIT, _DENSE, _RETRAIN, _THEORY, _CRITERION, _METHOD = range(6)


_NOT_OPTIONS = {"name", "weights", "new_head"}  # of [model]: all others are options of the network


@dataclass(frozen=True, eq=False)
class Experiment:
    """The functions and arrays of a job, built once from its settings.

    Attributes:
      settings: The settings, fully resolved.
      dataset: The data.
      network: The network, which takes inputs as they are in the data set.
      prunable: Which parameters may be pruned.
      keys: [R] one key for each seed.
      mesh: The devices, or None for one.
      fingerprint: A digest of the examples without their groups, and of the weights that the networks begin with where
        a file gives them.
      weights: The state dict that the networks begin with; None for random parameters.
      inner: The network without the normalisation of its inputs, which it takes normalised.
      further: The groupings that are audited beside the data set's own, which comes first.
    """

    settings: Settings
    dataset: Dataset
    network: Network
    prunable: PyTree
    keys: jax.Array
    mesh: Mesh | None
    fingerprint: str
    weights: Mapping[str, np.ndarray] | None
    inner: Network
    further: tuple[Grouping, ...]

    @property
    def groupings(self) -> tuple[Grouping, ...]:
        """All audited groupings, the primary one first.

        Constraints and the theory are about the primary one.
        """
        return (self.dataset.primary, *self.further)

    @cached_property
    def train_data(self) -> Batch:
        """The training split, copied to every device once."""
        return sharding.place(jax.tree.map(jnp.asarray, self.dataset.train), self.mesh)

    @cached_property
    def measuring_mesh(self) -> Mesh | None:
        """The devices that networks are measured on; None for the first.

        Each has some replicas of its own.
        """
        return sharding.measuring_mesh(len(self.seeds))

    def to_measure(self, batch: Batch) -> Batch:
        """Examples on every device that networks are measured on."""
        if self.measuring_mesh is None:
            return jax.device_put(batch, jax.local_devices()[0])
        return sharding.place(batch, self.measuring_mesh)

    @cached_property
    def on_device(self) -> Callable[[str], Batch]:
        """Put a split where networks are measured, on first use."""

        def place(split: str) -> Batch:
            shared = split == "train" and self.mesh is None
            return self.train_data if shared else self.to_measure(self.dataset.split(split))

        return cache(place)

    @cached_property
    def outcomes(self) -> Callable[[Batch, Params, Stats], auditing.Outcomes]:
        """The outcomes of a batch under one network.

        One function object, so that it is compiled once for each shape.
        """

        def outcomes(batch: Batch, params: Params, stats: Stats) -> auditing.Outcomes:
            return auditing.outcomes(self.network.freeze(stats), params, batch, chunk_size=self.chunk_size(batch.x))

        return outcomes

    @cached_property
    def augment(self) -> Augment | None:
        """The random change of the inputs of a training batch, or None."""
        train, normalise = self.settings.train, self.dataset.normalise
        # Images of floats are normalised already: their mean is 0.
        fill = normalise.shift if isinstance(normalise, data.Normalise) else 0.0
        crops = [data.random_crop(train.crop, fill)] if train.crop else []
        chosen = [*crops, *([data.horizontal_flip()] if train.flip else [])]
        return data.chain(*chosen) if chosen else None

    @property
    def seeds(self) -> list[int]:
        """The R seeds."""
        first = self.settings.first_seed
        return list(range(first, first + self.settings.seeds))

    def purpose_keys(self, purpose: int) -> jax.Array:
        """[R] keys for one use of randomness."""
        return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(self.keys)

    @property
    def shuffle_keys(self) -> dict[str, jax.Array]:
        """[R] keys that order the examples, by phase."""
        return {"dense": self.purpose_keys(_DENSE), "retrain": self.purpose_keys(_RETRAIN)}

    @property
    def theory_keys(self) -> jax.Array:
        """[R] keys of the Lanczos starting vectors."""
        return self.purpose_keys(_THEORY)

    def blocks(self, split: str) -> Iterator[Batch]:
        """Read a split in blocks: one, or several where it is streamed."""
        if not self.dataset.streamed:
            return iter([self.on_device(split)])
        # On the device now, once, rather than anew for each of the networks.
        return (self.to_measure(block) for block in blocks(self.dataset.split(split)))

    def num_blocks(self, split: str) -> int:
        """The number of blocks of a split."""
        return num_blocks(self.dataset.split(split)) if self.dataset.streamed else 1

    def chunk_size(self, x: Array) -> int:
        """The number of examples to evaluate at a time.

        All replicas are evaluated at once, and share the memory.
        """
        return chunk_size_for(x, None, replicas=len(self.seeds))

    @property
    def criterion_keys(self) -> jax.Array:
        """[R] keys of criteria that draw at random."""
        return self.purpose_keys(_CRITERION)

    @property
    def method_keys(self) -> jax.Array:
        """[R] keys of what a method draws at random."""
        return self.purpose_keys(_METHOD)

    def initialise(self) -> tuple[Params, Stats]:
        """Fresh parameters and statistics of every replica, leaves [R, ...]."""
        assert self.network.init is not None
        params, stats = jax.jit(jax.vmap(self.network.init))(self.purpose_keys(_INIT))
        if self.weights is None:
            return params, stats
        model = self.settings.model
        replicas = [jax.tree.map(lambda leaf, r=r: leaf[r], (params, stats)) for r in range(len(self.seeds))]
        begun = [
            models.from_state_dict(dict(self.weights), *one, new_head=model.new_head, where=model.weights)
            for one in replicas
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)

    def all_kept(self, params: Params) -> Masks:
        """Masks that prune nothing."""
        return jax.tree.map(lambda p: np.ones(p.shape, bool), params)

    def over_replicas(self, function: Callable[..., Any], shared: PyTree, *stacked: PyTree) -> Any:
        """`function(shared, *one replica's)` for every replica, as one compiled program for each `function` object.

        On several devices each has replicas of its own (`sharding.measuring_mesh`).

        Args:
          function: A pure function.
          shared: Arrays that are the same for all replicas.
          *stacked: Arrays with a leading axis R.

        Returns:
          The results, stacked along a leading axis R, on the first device.
        """
        return sharding.over_replicas(function, self.measuring_mesh, shared, *stacked)

    def primal(self, phase: str, masks: Masks | None) -> optax.GradientTransformation:
        """The optimiser of the parameters in a phase, with the masks held."""
        return optax.chain(self._optimiser(phase), pruning.keep_masked(masks))

    def epochs(self, phase: str) -> int:
        """The epochs of a phase, "dense" or "retrain"."""
        return self.settings.train.epochs if phase == "dense" else self.settings.retrain.epochs

    def _optimiser(self, phase: str) -> optax.GradientTransformation:
        train, retrain = self.settings.train, self.settings.retrain
        rate = train.learning_rate if phase == "dense" else retrain.learning_rate
        steps = self.epochs(phase) * training.num_steps(self.dataset.train, train.batch_size)
        schedule = SCHEDULES.make(train.schedule, rate, steps)
        options = {"momentum": train.momentum or None, "weight_decay": train.weight_decay or None}
        return OPTIMISERS.make(train.optimizer, schedule, **options)


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
        weights = models.select_entries(weights, params, stats, **options)
        models.from_state_dict(weights, params, stats, **options)  # now rather than after training something else
        fingerprint += "+" + models.digest(weights)
    keys = jax.vmap(jax.random.key)(np.uint32(settings.first_seed) + np.arange(settings.seeds, dtype=np.uint32))
    prunable = pruning.prunable(params, settings.prune.include, settings.prune.exclude)
    mesh = sharding.make_mesh(settings.seeds)
    return Experiment(settings, dataset, network, prunable, keys, mesh, fingerprint, weights, inner, further)


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

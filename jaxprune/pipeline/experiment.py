"""The functions and arrays of a job."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxprune import auditing, data, models, pruning, sharding, training
from jaxprune.components import OPTIMISERS, SCHEDULES
from jaxprune.config import Settings
from jaxprune.coupling.analysis import couplings
from jaxprune.coupling.couplings import Couplings
from jaxprune.data import Dataset, Grouping
from jaxprune.data.streaming import blocks, num_blocks
from jaxprune.examples import chunk_size_for
from jaxprune.networks import Network
from jaxprune.pruning.kernel_views import Kernel
from jaxprune.pruning.layer_inputs import kernels
from jaxprune.types import Array, Augment, Batch, Masks, Params, PyTree, Stats

# What each replica's key is split into; a new use gets a new number, so that the others keep their bits.
_INIT, _DENSE, _RETRAIN, _THEORY, _CRITERION, _METHOD = range(6)


READS_BATCH = frozenset({"batch", "activations", "gradients", "groups"})  # needs of criteria


class Span(NamedTuple):
    """A part of a training phase.

    Attributes:
      phase: "dense" or "retrain", whose learning rates and order of examples it has.
      length: Epochs of the phase.
      first: The epoch of the phase that it begins with.
      epochs: Epochs of the part.
    """

    phase: str
    length: int
    first: int
    epochs: int


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

    @cached_property
    def reduction_axes(self) -> dict[str, tuple[int, ...]]:
        """Path of each kernel -> the axes that it is summed over."""
        assert self.network.init is not None
        params, stats = jax.eval_shape(self.network.init, jax.random.key(0))
        kernels = kernels_of(self.network, self.dataset, params, stats)
        return {kernel.path: kernel.reduction_axes for kernel in kernels}

    @cached_property
    def couplings(self) -> Couplings:
        """The channels that can only be cut together."""
        assert self.network.init is not None
        params, stats = jax.eval_shape(self.network.init, jax.random.key(0))
        x = self.dataset.train.x[:2]
        return couplings(self.network, params, stats, sample=jax.ShapeDtypeStruct(np.shape(x), x.dtype))

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

    def zeros_of(self, params: Params) -> Masks:
        """Masks of the kernel weights that are 0 already.

        Of all kernels, whether or not the settings prune them: the dense networks do not depend on [prune].
        """
        return jax.vmap(pruning.nonzero_masks)(params)

    def primal(self, span: Span, masks: Masks | None) -> optax.GradientTransformation:
        """The optimiser of the parameters in a training, with the masks held."""
        return optax.chain(self.optimiser(span), pruning.keep_masked(masks))

    def epochs(self, phase: str) -> int:
        """The epochs of a phase, "dense" or "retrain"."""
        return self.settings.train.epochs if phase == "dense" else self.settings.retrain.epochs

    @property
    def steps_in_epoch(self) -> int:
        """Steps in an epoch."""
        return training.num_steps(self.dataset.train, self.settings.train.batch_size)

    def span(self, phase: str, *, first: int = 0, until: int | None = None, epochs: float | None = None) -> Span:
        """A part of a phase, with the learning rates of that part.

        Args:
          phase: "dense" or "retrain".
          first: The epoch that it begins with.
          until: The epoch that it ends before; None for the end of the phase.
          epochs: The length of the phase; None for that of the settings.
        """
        length = self.epochs(phase) if epochs is None else int(epochs)
        return Span(phase, length, first, (length if until is None else until) - first)

    def optimiser(self, span: Span) -> optax.GradientTransformation:
        """The optimiser of the parameters in a training."""
        train, retrain = self.settings.train, self.settings.retrain
        rate = train.learning_rate if span.phase == "dense" else retrain.learning_rate
        schedule = SCHEDULES.make(train.schedule, rate, span.length * self.steps_in_epoch)
        if span.first:
            schedule = pruning.from_step(schedule, span.first * self.steps_in_epoch)
        options = {"momentum": train.momentum or None, "weight_decay": train.weight_decay or None}
        return OPTIMISERS.make(train.optimizer, schedule, **options)


def kernels_of(network: Network, dataset: Dataset, params: Params, stats: Stats) -> list[Kernel]:
    """The kernels of the network in the order of their use."""
    return kernels(network.freeze(stats), params, dataset.train.x[:2])

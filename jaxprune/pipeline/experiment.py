"""From settings to functions: the only place where a string becomes a function."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jaxprune import data, losses, mitigation, models, pruning, sharding, training
from jaxprune.config import Data, Settings
from jaxprune.data import Dataset
from jaxprune.errors import UserError, unknown
from jaxprune.types import Batch, Masks, Network, Params, PyTree, Stats, Step, TrainState

# What each replica's key is split into; a new use gets a new number, so that the others keep their bits.
_INIT, _DENSE, _RETRAIN, _THEORY, _CRITERION, _METHOD = range(6)


@dataclass(frozen=True, eq=False)
class Experiment:
    """The functions and arrays of a run.

    Attributes:
      settings: The settings, fully resolved.
      dataset: The data.
      network: The network.
      prunable: Which parameters may be pruned.
      keys: [R] one key for each seed.
      mesh: The devices, or None for one.
      fingerprint: A digest of the data.
    """

    settings: Settings
    dataset: Dataset
    network: Network
    prunable: PyTree
    keys: jax.Array
    mesh: Mesh | None
    fingerprint: str

    @cached_property
    def train_data(self) -> Batch:
        """The training split, copied to every device once."""
        return sharding.place(jax.tree.map(jnp.asarray, self.dataset.train), self.mesh)

    @cached_property
    def on_device(self) -> dict[str, Batch]:
        """The splits on the first device, where networks are measured."""
        return {name: jax.device_put(self.dataset.split(name), jax.devices()[0]) for name in data.SPLITS}

    @cached_property
    def steps(self) -> dict[tuple[str, bool], Step]:
        """The training step of each phase, plain and Lagrangian: one object each, so that each is compiled once."""
        return {(phase, fair): self._step(phase, fair) for phase in ("dense", "retrain") for fair in (False, True)}

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

    @property
    def method_keys(self) -> jax.Array:
        """[R] keys of what a method draws at random."""
        return self.purpose_keys(_METHOD)

    def initialise(self) -> tuple[Params, Stats]:
        """Fresh parameters and statistics of every replica, leaves [R, ...]."""
        assert self.network.init is not None
        return jax.jit(jax.vmap(self.network.init))(self.purpose_keys(_INIT))

    def prune(self, params: Params, sparsity: float) -> tuple[Params, Masks]:
        """Pruned parameters and masks of every replica, leaves [R, ...]."""
        prune = self.settings.prune
        criterion, scope = pruning.CRITERIA[prune.criterion], pruning.SCOPES[prune.scope]
        scores = jax.vmap(criterion)(params, self.purpose_keys(_CRITERION))
        masks = jax.vmap(lambda s: scope(s, sparsity, self.prunable))(scores)
        return pruning.apply_masks(params, masks), masks

    def all_kept(self, params: Params) -> Masks:
        """Masks that prune nothing."""
        return jax.tree.map(lambda p: np.ones(p.shape, bool), params)

    def over_replicas(self, function: Callable[..., Any], shared: PyTree, *stacked: PyTree) -> Any:
        """`function(shared, *one replica's)` for every replica, as one compiled program for each `function` object.

        Runs on the first device: measuring costs little beside training, and its loops, which end when the last replica
        has converged, would need a collective for each turn.

        Args:
          function: A pure function.
          shared: Arrays that are the same for all replicas.
          *stacked: Arrays with a leading axis R.

        Returns:
          The results, stacked along a leading axis R.
        """
        shared, stacked = jax.device_put((shared, stacked), jax.devices()[0])
        return _over_replicas(function, shared, *stacked)

    def _step(self, phase: str, fair: bool) -> Step:
        tx, loss = self._transformation(phase, fair, None), losses.cross_entropy
        if not fair:
            return training.make_step(self.network, loss, tx)
        return mitigation.make_lagrangian_step(self.network, loss, tx, scheme=self.settings.mitigation.scheme)

    def initial_state(self, phase: str, fair: bool, params: Params, stats: Stats, masks: Masks) -> TrainState:
        """The state before the first step of a phase, leaves [R, ...], laid over the devices."""

        def init(params: Params, stats: Stats, masks: Masks) -> TrainState:
            return training.init_state(params, self._transformation(phase, fair, masks), stats)

        return sharding.place(jax.vmap(init)(params, stats, masks), self.mesh, "replica")

    def _transformation(self, phase: str, fair: bool, masks: Masks | None) -> optax.GradientTransformation:
        tx = self.primal(phase, masks)
        if not fair:
            return tx
        mitigate = self.settings.mitigation
        constraint = mitigation.CONSTRAINTS[mitigate.constraint](self.dataset.num_groups, mitigate.tolerance)
        dual = mitigation.DUALS[mitigate.dual](mitigate.dual_rate)
        return mitigation.lagrangian(tx, constraint, dual, penalty=mitigate.penalty, memory=mitigate.memory)

    def primal(self, phase: str, masks: Masks | None) -> optax.GradientTransformation:
        """The optimiser of the parameters in a phase, with the masks held."""
        return optax.chain(self._optimiser(phase), pruning.keep_masked(masks))

    def _optimiser(self, phase: str) -> optax.GradientTransformation:
        train, retrain = self.settings.train, self.settings.retrain
        epochs = train.epochs if phase == "dense" else retrain.epochs
        rate = train.learning_rate if phase == "dense" else retrain.learning_rate
        steps = epochs * training.num_steps(self.dataset.train, train.batch_size)
        schedule = optax.cosine_decay_schedule(rate, max(steps, 1)) if train.schedule == "cosine" else rate
        if train.optimizer == "sgd":
            return optax.chain(
                optax.add_decayed_weights(train.weight_decay), optax.sgd(schedule, momentum=train.momentum or None)
            )
        if train.optimizer == "adamw":
            return optax.adamw(schedule, weight_decay=train.weight_decay)
        return optax.adam(schedule)


def load_data(wanted: Data) -> Dataset:
    """The data set that the settings ask for."""
    options = wanted.model_dump(exclude={"name", "label", "group"})
    return data.load(wanted.name, group=wanted.group or None, label=wanted.label or None, **options)


def resolve(settings: Settings) -> Experiment:
    """Loads the data and builds the network that the settings name.

    Returns:
      The experiment; its settings have every default of the data set and of the model filled in.

    Raises:
      UserError: A name is unknown, or the data is not fit for use.
    """
    for setting, name, known in (
        ("prune.criterion", settings.prune.criterion, pruning.CRITERIA),
        ("prune.scope", settings.prune.scope, pruning.SCOPES),
        ("mitigation.constraint", settings.mitigation.constraint, mitigation.CONSTRAINTS),
        ("mitigation.dual", settings.mitigation.dual, mitigation.DUALS),
        ("mitigation.scheme", settings.mitigation.scheme, mitigation.SCHEMES),
    ):
        if name not in known:
            raise unknown(setting.split(".")[1], name, known, where=setting)
    if mitigation.CONSTRAINTS[settings.mitigation.constraint](1, 0.0).needs_dense:
        raise UserError(
            f"mitigation.constraint: {settings.mitigation.constraint} compares with the dense network, which is not "
            "there while that is trained; take it to `jaxprune compare`, or use loss_gap"
        )
    model_options = models.options_of(settings.model.name, settings.model.model_dump(exclude={"name"}))
    wanted = settings.data
    dataset = load_data(wanted)
    settings = settings.model_copy(
        update={
            "data": wanted.model_copy(update={"group": dataset.group_by, "label": dataset.label_by}),
            "model": settings.model.model_copy(update=model_options),
        }
    )
    network = models.build(settings.model.name, dataset.train.x[0], dataset.num_classes, **model_options)
    assert network.init is not None
    params, _ = jax.eval_shape(network.init, jax.random.key(0))
    keys = jax.vmap(jax.random.key)(settings.first_seed + np.arange(settings.seeds))
    prunable = pruning.prunable(params, settings.prune.include, settings.prune.exclude)
    mesh = sharding.make_mesh(settings.seeds)
    return Experiment(settings, dataset, network, prunable, keys, mesh, dataset.fingerprint())


@partial(jax.jit, static_argnames=("function",))
def _over_replicas(function: Callable[..., Any], shared: PyTree, *stacked: PyTree) -> Any:
    return jax.vmap(lambda *leaves: function(shared, *leaves))(*stacked)

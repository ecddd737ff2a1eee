"""The types that every part shares, and the shape legend of the docstrings.

Shapes are written in these letters: `B` batch, `N` examples, `T` steps, `G` groups, `C` classes, `P` parameters,
`R` replicas (seeds), `S` sparsities. "mask" means a pruning mask, True where a weight is kept; examples have a
`weight`, which is 0 for padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

Array = Any  # jax.Array or numpy.ndarray: the core takes either
PyTree = Any
Params = PyTree  # arrays; what is trained and pruned
Stats = PyTree  # arrays that are neither trained nor pruned, such as BatchNorm's running moments
Masks = PyTree  # the structure of Params, bool, True = kept
Scores = PyTree  # the structure of Params, float; the lowest score is pruned first
Logs = dict[str, Array]
Apply = Callable[[Params, Array], Array]  # (params, x [B, ...]) -> logits [B, C], statistics frozen
Augment = Callable[[jax.Array, Array], Array]  # (key, x [B, H, W, channels]) -> x, random, for training alone
ExampleLoss = Callable[[Array, Array], Array]  # (logits [B, C], y [B]) -> [B]


class Batch(NamedTuple):
    """Examples with their labels, groups and weights; a whole split has the same form with N for B.

    Attributes:
      x: [B, ...] inputs.
      y: [B] int, labels in [0, C).
      group: [B] int, groups in [0, G).
      weight: [B] float, 0 marks padding; every mean is weighted by it. None, for public functions alone, means ones.
    """

    x: Array
    y: Array
    group: Array
    weight: Array = None


@dataclass(frozen=True)
class Network:
    """A network as pure functions, whatever library it was written in.

    Attributes:
      init: `key -> (params, stats)`; None when the parameters come from elsewhere.
      apply: `(params, stats, x [B, ...], train) -> (logits [B, C], stats)`; `stats` is returned changed only when
        `train` is True.
      takes_weight: Whether `apply` takes the weights [B] of the examples as a fifth argument, which training gives
        it, so that what is normalised over a batch leaves padding out.
    """

    init: Callable[[jax.Array], tuple[Params, Stats]] | None
    apply: Callable[..., tuple[Array, Stats]]
    takes_weight: bool = False

    def after(self, prepare: Callable[[Array], Array]) -> "Network":
        """The network behind a function of its inputs: what it computes at x is what it computed at prepare(x).

        So images can stay bytes up to the compiled program: `network.after(dataset.normalise)`.

        Args:
          prepare: `x [B, ...] -> x [B, ...]`, pure.
        """
        return Network(self.init, _After(self.apply, prepare), self.takes_weight)

    def train(self, params: Params, stats: Stats, batch: "Batch") -> tuple[Array, Stats]:
        """Logits [B, C] and new statistics in training mode, padding left out of what is normalised over a batch."""
        weight = (batch.weight,) if self.takes_weight else ()
        return self.apply(params, stats, batch.x, True, *weight)

    def freeze(self, stats: Stats) -> Apply:
        """The network in evaluation mode with these statistics: what auditing, theory and criteria take.

        The result is a pytree with the statistics as leaves, so that freezing again does not recompile.
        """
        return jax.tree_util.Partial(_Frozen(self.apply), stats)


@dataclass(frozen=True)
class _After:
    apply: Callable[..., tuple[Array, Stats]]
    prepare: Callable[[Array], Array]

    def __call__(self, params: Params, stats: Stats, x: Array, train: bool, *weight: Array) -> tuple[Array, Stats]:
        return self.apply(params, stats, self.prepare(x), train, *weight)


@dataclass(frozen=True)
class _Frozen:
    apply: Callable[..., tuple[Array, Stats]]

    def __call__(self, stats: Stats, params: Params, x: Array) -> Array:
        return self.apply(params, stats, x, False)[0]


def as_pytree(apply: Apply) -> Apply:
    """A function as a pytree, so that it can be an argument of a compiled one: compiled once for each function."""
    return apply if isinstance(apply, jax.tree_util.Partial) else jax.tree_util.Partial(apply)


def typed_key(key: jax.Array) -> jax.Array:
    """A key of the new style from one of either: an old one has a trailing axis, which would pass for replicas."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def as_network(network: "Network | Apply") -> Network:
    """A `Network` from itself, or from a plain function `apply(params, x) -> logits` without statistics."""
    if isinstance(network, Network):
        return network
    function = network
    return Network(init=None, apply=lambda params, stats, x, train: (function(params, x), stats))


class TrainState(NamedTuple):
    """Everything that a training step changes; a pytree, so it can be scanned, vmapped, sharded and saved.

    Attributes:
      step: [] int32, steps taken.
      params: The parameters.
      stats: The non-trained state of the network, `()` for none.
      opt_state: The state of the optax transformation: moments, masks, multipliers.
    """

    step: Array
    params: Params
    stats: Stats
    opt_state: PyTree


Step = Callable[[TrainState, Batch], tuple[TrainState, Logs]]


@runtime_checkable
class Progress(Protocol):
    """What the pipeline tells about its work; the command line draws it, the library ignores it."""

    def start(self, description: str, total: int) -> None:
        """A piece of work begins, of `total` parts."""

    def resume(self, done: int) -> None:
        """So many parts of it were done by an earlier run."""

    def advance(self, note: str = "") -> None:
        """One part of it is done."""

    def finish(self) -> None:
        """The piece of work has ended."""

    def say(self, message: str) -> None:
        """One line that stays, such as a warning."""

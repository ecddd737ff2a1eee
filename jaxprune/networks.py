"""Networks as pure functions of parameters and statistics."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from jaxprune.types import Apply, Array, Batch, Params, Stats


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
        """The network after a function of its inputs: `x -> network(prepare(x))`.

        Images can so stay bytes until they are in the compiled program: `network.after(dataset.normalise)`.

        Args:
          prepare: `x [B, ...] -> x [B, ...]`, pure.
        """
        return Network(self.init, _After(self.apply, prepare), self.takes_weight)

    def train(self, params: Params, stats: Stats, batch: Batch) -> tuple[Array, Stats]:
        """Apply in training mode: logits [B, C] and new statistics.

        Padding is left out of what is normalised over a batch.
        """
        weight = (batch.weight,) if self.takes_weight else ()
        return self.apply(params, stats, batch.x, True, *weight)

    def freeze(self, stats: Stats) -> Apply:
        """The network in evaluation mode with these statistics.

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


def as_network(network: Network | Apply) -> Network:
    """Return a `Network`, made of a function `apply(params, x)` if need be."""
    if isinstance(network, Network):
        return network
    function = network
    return Network(init=None, apply=lambda params, stats, x, train: (function(params, x), stats))


def as_pytree(apply: Apply) -> Apply:
    """Wrap a function as a pytree, to pass to compiled ones.

    It is compiled once for each function.
    """
    return apply if isinstance(apply, jax.tree_util.Partial) else jax.tree_util.Partial(apply)

"""FLOPs and memory of a network's compiled forward program."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxprune.models import plain_convolutions
from jaxprune.networks import Network, as_network
from jaxprune.types import Apply, Array, Params, PyTree, Stats


class Forward(NamedTuple):
    """A compiled forward program of one network at one batch size.

    Attributes:
      run: `(params, stats, x) -> logits [B, C]` in evaluation mode.
      memory: Bytes of its arguments, its result and its temporary values, by the compiler's account; 0 where it gives
        none.
    """

    run: Callable[[Params, Stats, Array], Array]
    memory: int


def compile_forward(network: Network | Apply, params: Params, stats: Stats, x: Array) -> Forward:
    """Compile the forward program of a network for a batch.

    Args:
      network: A network, which is taken in evaluation mode, or a function `apply(params, x)`.
      params: Of one network; arrays or their shapes.
      stats: As `params`; () for a function.
      x: [B, ...], as `params`.

    Returns:
      The program. Its memory leaves out what a library that it calls takes by itself, such as the convolution in C++.
    """
    compiled = jax.jit(_forward(network)).lower(params, stats, x).compile()
    return Forward(run=compiled, memory=_memory(compiled))


def flops_of(network: Network | Apply, params: Params, stats: Stats, x: Array) -> float:
    """Count the FLOPs of a network by XLA's analysis of its program.

    Convolutions are compiled as XLA's own for this count: of the C++ ones it knows no cost, and Winograd's do not
    multiply as often as the network is said to. A multiplication and an addition are two FLOPs; products with padding
    are left out, elementwise arithmetic is counted, and exponentials and the like are not. The body of a loop counts
    once.

    Args:
      network: A network, which is taken in evaluation mode, or a function `apply(params, x)`.
      params: Of one network; arrays or their shapes.
      stats: As `params`; () for a function.
      x: [B, ...], as `params`; give one example for the FLOPs of one.

    Returns:
      FLOPs; NaN where the backend gives none.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import costs
      >>> costs.flops_of(lambda params, x: x @ params, jnp.ones((10, 3)), (), jnp.ones((1, 10)))
      60.0
    """
    with plain_convolutions():
        compiled = jax.jit(_forward(network)).lower(params, stats, x).compile()
    return _cost(compiled, "flops")


def _forward(network: Network | Apply) -> Callable[[Params, Stats, Array], Array]:
    """The forward function in evaluation mode.

    It is a new one at each call, so that no program of another form of convolution is taken for it.
    """

    def forward(params: Params, stats: Stats, x: Array) -> Array:
        return as_network(network).apply(params, stats, x, False)[0]

    return forward


def _cost(compiled: Any, name: str) -> float:
    analysis: PyTree = compiled.cost_analysis()
    if isinstance(analysis, list | tuple):  # one for each program
        analysis = analysis[0] if analysis else None
    return float(analysis[name]) if isinstance(analysis, Mapping) and name in analysis else float("nan")


def _memory(compiled: Any) -> int:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return 0
    used = sum(getattr(analysis, f"{part}_size_in_bytes") for part in ("argument", "output", "temp"))
    return int(used - analysis.alias_size_in_bytes)

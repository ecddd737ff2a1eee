"""Smaller networks with the outputs of masked ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxprune.coupling.analysis import couplings as find_couplings
from jaxprune.coupling.analysis import from_axes, linked_to, prove_linked
from jaxprune.coupling.axes import Axis, taken_along
from jaxprune.coupling.couplings import Couplings
from jaxprune.coupling.dimensions import Leaf, leaves_of, resolve
from jaxprune.coupling.linking import Linker
from jaxprune.coupling.optimiser_state import cut_optimiser_state
from jaxprune.coupling.replay import Cut
from jaxprune.coupling.rule import LinkedProgram
from jaxprune.coupling.tracing import Mode, shapes_of, trace
from jaxprune.errors import UserError
from jaxprune.networks import Network, as_network
from jaxprune.trees import named_leaves
from jaxprune.types import Apply, Array, Masks, Params, PyTree, Stats

Kept = Mapping[str, Array]  # coupling -> [K] int, the channels kept, in order


@dataclass(frozen=True, eq=False)
class Compact:
    """A network without its pruned channels.

    Attributes:
      network: The smaller network. Its programs are those of the dense one at smaller sizes, so that constants, such as
        the number that a mean divides by, are those of the dense network.
      params: Its parameters, of the structure of the dense ones.
      stats: Its statistics.
      kept: Coupling -> [K] int, the channels kept; couplings that are kept whole are left out.
      couplings: Those of the dense network.
      opt_state: The state of the optimiser; None where none was given.
    """

    network: Network
    params: Params
    stats: Stats
    kept: dict[str, np.ndarray]
    couplings: Couplings
    opt_state: PyTree = None

    @property
    def apply(self) -> Apply:
        """`(params, x [B, ...]) -> logits [B, C]`, its statistics frozen."""
        return self.network.freeze(self.stats)


def compact(
    network: Network | Apply,
    params: Params,
    stats: Stats = (),
    masks: Masks | None = None,
    *,
    sample: Any,
    couplings: Couplings | None = None,
    tx: optax.GradientTransformation | None = None,
    opt_state: PyTree = None,
) -> Compact:
    """Remove the pruned channels of a network.

    The result has the outputs of the masked network, in evaluation and in training mode, up to rounding; dropout draws
    other random numbers. It can be trained, pruned and compacted again. In training, what masks hold at 0 is not there.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"up": jnp.ones((4, 8)), "down": jnp.ones((8, 2))}
      >>> apply = lambda params, x: jnp.maximum(x @ params["up"], 0) @ params["down"]
      >>> x = jnp.ones((1, 4))
      >>> found = pruning.couplings(apply, params, sample=x)
      >>> masks = found.masks({"up[1]": jnp.arange(8) < 3}, params)
      >>> smaller = pruning.compact(apply, params, masks=masks, sample=x, couplings=found)
      >>> smaller.params["up"].shape, smaller.apply(smaller.params, x).tolist()
      ((4, 3), [[12.0, 12.0]])

    Args:
      network: The dense network, or a function `(params, x [B, ...]) -> logits [B, C]`.
      params: Its parameters.
      stats: Its statistics.
      masks: Bools with the structure of the parameters, True = kept; None where pruned weights are exactly 0 already.
      sample: [B, ...] inputs, or their shape and type.
      couplings: Those of the network; None to find them.
      tx: The optimiser, where its state is to go on; it is needed with `opt_state`.
      opt_state: The state of the optimiser for the dense network.

    Returns:
      The smaller network.

    Raises:
      UserError: A channel is pruned in part, or none is pruned whole; or parameters, statistics, masks and couplings
        are not of one network.
    """
    whole = as_network(network)
    if couplings is None:
        couplings = find_couplings(network, params, stats, sample=sample)
    couplings.check_shapes(params, "params")
    couplings.check_shapes(stats, "stats", of="stats")
    if masks is None:
        masks = jax.tree.map(lambda leaf: leaf != 0, params)
    kept = {name: np.flatnonzero(vector) for name, vector in couplings.keep(masks).items()}
    kept = {name: indices for name, indices in kept.items() if len(indices) < couplings.sizes[name]}
    _check_kept(kept, couplings)
    masked = jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, jnp.zeros((), leaf.dtype)), params, masks)
    smaller = cut(masked, couplings.axes, kept)
    state = None
    if opt_state is not None:
        if tx is None:
            raise UserError("tx: the state of an optimiser is followed through its update; give tx as well")
        state = cut_optimiser_state(tx, opt_state, params, couplings, kept, smaller=smaller)
    return Compact(
        network=smaller_network(whole, params, stats, couplings, {name: len(k) for name, k in kept.items()}),
        params=smaller,
        stats=cut(stats, couplings.stats_axes, kept),
        kept=kept,
        couplings=couplings,
        opt_state=state,
    )


def _check_kept(kept: Mapping[str, np.ndarray], couplings: Couplings) -> None:
    if not len(couplings):
        reasons = sorted({pinned.reason for pinned in couplings.pinned}) or ["it has no parameters with axes"]
        raise UserError(f"network: nothing of it can be cut ({'; '.join(reasons)})")
    if not kept:
        raise UserError("masks: they prune no channel whole; prune with structure=channels(couplings)")
    if empty := [name for name, indices in kept.items() if not len(indices)]:
        raise UserError(f"masks: they prune every channel of {empty[0]}; keep at least one")


def kept_of_replicas(keep: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The channels that R replicas keep, as many for each.

    One program serves all replicas, so that each keeps as many channels as the replica with most; the surplus ones are
    pruned channels, whose parameters are 0.

    Args:
      keep: Coupling -> [R, size] bool, True = kept.

    Returns:
      Coupling -> [R, K] int, in order; couplings that a replica keeps whole are left out.
    """
    result = {}
    for name, of_replicas in keep.items():
        count = int(of_replicas.sum(1).max())
        if count < of_replicas.shape[1]:
            # A stable sort puts kept channels first.
            result[name] = np.sort(np.argsort(~of_replicas, axis=1, kind="stable")[:, :count], axis=1)
    return result


def cut(tree: PyTree, axes: Mapping[str, tuple[Axis, ...]], kept: Kept) -> PyTree:
    """Take the kept channels of every leaf.

    Args:
      tree: Parameters, statistics, or anything of their structure.
      axes: Path of each leaf -> its axes, from `Couplings.axes` or `Couplings.stats_axes`.
      kept: Coupling -> [K] int; may be traced.

    Returns:
      The tree with smaller leaves.
    """
    leaves = []
    for path, leaf in named_leaves(tree):
        for i, axis in enumerate(axes[path]):
            indices = taken_along(axis, kept)
            if indices.shape[-1] < axis.size:
                leaf = jnp.take(leaf, indices, axis=i)
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(tree), leaves)


def smaller_network(
    network: Network, params: PyTree, stats: PyTree, couplings: Couplings, counts: Mapping[str, int]
) -> Network:
    """The network with so many channels.

    Args:
      network: The dense network.
      params: Its parameters, or their shapes.
      stats: Its statistics, or their shapes.
      couplings: Its couplings.
      counts: Coupling -> channels kept; those that are not in it are kept whole.

    Returns:
      The network, which starts from the first channels of the dense one's initial parameters.
    """
    first = {name: np.arange(count) for name, count in counts.items()}

    def init(key: jax.Array) -> tuple[Params, Stats]:
        assert network.init is not None
        dense, fresh = network.init(key)
        return cut(dense, couplings.axes, first), cut(fresh, couplings.stats_axes, first)

    apply = CompactApply(network, shapes_of(params), shapes_of(stats), couplings, dict(counts))
    return Network(None if network.init is None else init, apply, network.takes_weight)


@dataclass(frozen=True, eq=False)
class CompactApply:
    """The function of a smaller network: the dense program at smaller sizes.

    The dense network is traced at each new shape of inputs, and what was proven is proven again for that program.

    Attributes:
      network: The dense network.
      params: The shapes of its parameters.
      stats: Those of its statistics.
      couplings: Its couplings.
      counts: Coupling -> channels kept.
    """

    network: Network
    params: PyTree
    stats: PyTree
    couplings: Couplings
    counts: dict[str, int]
    _programs: dict[Any, tuple[LinkedProgram, Cut]] = field(default_factory=dict, repr=False)

    def __call__(self, params: Params, stats: Stats, x: Array, train: bool, *weight: Array) -> tuple[Array, Stats]:
        """Apply, as the dense network's function does."""
        self.couplings.check_shapes(params, "params", self.counts)
        mode = Mode(train, str(weight[0].dtype) if weight else None)
        program, smaller = self._program(params, stats, x, mode)
        outputs = smaller.replay(program, [*jax.tree.leaves(params), *jax.tree.leaves(stats), x, *weight])
        return outputs[0], jax.tree.unflatten(jax.tree.structure(stats), outputs[1:]) if train else stats

    def _program(self, params: Params, stats: Stats, x: Array, mode: Mode) -> tuple[LinkedProgram, Cut]:
        of_params, of_stats = _with_types(self.params, params), _with_types(self.stats, stats)
        types = tuple(str(leaf.dtype) for leaf in jax.tree.leaves((of_params, of_stats)))
        config = jax.config.jax_default_matmul_precision, jax.config.jax_enable_x64  # pyright: ignore
        key = (mode, tuple(x.shape), str(x.dtype), types, config)
        if key not in self._programs:
            self._programs[key] = self._linked(of_params, of_stats, x, mode)
        return self._programs[key]

    def _linked(self, params: PyTree, stats: PyTree, x: Array, mode: Mode) -> tuple[LinkedProgram, Cut]:
        closed = trace(self.network, params, stats, x, mode)
        of_params, of_stats, leaves = from_axes(self.couplings)
        program = linked_to(Linker(), closed, of_params, of_stats, whole_batch=mode.train)
        prove_linked(program, of_params, of_stats)
        others = {part for name, leaf in leaves.items() if name not in self.counts for part in leaves_of(leaf)}
        kept: dict[Leaf, np.ndarray] = {}
        for name, count in self.counts.items():
            now = resolve(leaves[name])
            if not isinstance(now, Leaf) or now.reason is not None or now in kept or now in others:
                reason = getattr(now, "reason", None) or "it is divided, or one with another coupling"
                raise UserError(
                    f"x: for inputs of shape {list(x.shape)} the channels of {name} cannot be cut ({reason}); "
                    "find the couplings with a sample of that shape"
                )
            kept[now] = np.arange(now.size) < count
        return program, Cut(kept.get)


def _with_types(shapes: PyTree, tree: PyTree) -> PyTree:
    """Shapes, with the types of another tree."""
    return jax.tree.map(lambda shape, leaf: jax.ShapeDtypeStruct(shape.shape, leaf.dtype), shapes, tree)

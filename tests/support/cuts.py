"""Random cuts of networks, and the comparison of a masked network with the compact one."""

import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune.coupling.analysis import couplings as find_couplings
from jaxprune.coupling.compaction import compact
from jaxprune.coupling.couplings import Couplings
from jaxprune.networks import Network
from jaxprune.types import Array, Masks, Params, Stats


def random_keep(couplings: Couplings, seed: str, *, least: float = 0.3, most: float = 0.5) -> dict[str, np.ndarray]:
    """A random cut of every coupling by 30 to 50 %, at least one channel, never all."""
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    keep = {}
    for coupling in couplings:
        cut = min(coupling.size - 1, max(1, round(coupling.size * rng.uniform(least, most))))
        keep[coupling.name] = np.ones(coupling.size, bool)
        keep[coupling.name][rng.choice(coupling.size, cut, replace=False)] = False
    return keep


def cast(tree: Any, dtype: Any) -> Any:
    """Floating-point leaves as another type."""

    def one(leaf: Any) -> Any:
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


def apply_masks(params: Params, masks: Masks) -> Params:
    """Parameters with zeros where they are pruned."""
    return jax.tree.map(lambda leaf, mask: leaf * mask, params, masks)


def kept_entries(tree: Any, masks: Masks) -> list[np.ndarray]:
    """The entries of every leaf that masks keep, in order."""
    pairs = zip(jax.tree.leaves(tree), jax.tree.leaves(masks), strict=True)
    return [np.asarray(leaf)[np.asarray(mask)] for leaf, mask in pairs]


def far(a: Any, b: Any) -> float:
    """The largest difference of two arrays, relative to the largest entry of the first."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    if not a.size:
        return 0.0
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


def loss(logits: Array) -> Array:
    """A smooth function of the logits, of which none counts like another."""
    return (logits * jnp.cos(jnp.arange(logits.size, dtype=logits.dtype).reshape(logits.shape)) + logits**2 / 7).sum()


def assert_equal(
    network: Network,
    params: Params,
    stats: Stats,
    x: Array,
    keep: dict[str, Any],
    couplings: Couplings,
    *,
    within: float,
    train: bool = False,
    derivative: bool = True,
) -> None:
    """Assert that the compact network is the masked one: logits, statistics, gradients of what is kept.

    Args:
      network: The network.
      params: Its parameters.
      stats: Its statistics.
      x: Inputs [B, ...].
      keep: The channels to keep, by coupling.
      couplings: The couplings.
      within: The largest difference allowed, relative to the largest entry.
      train: Compare in training mode.
      derivative: Compare gradients as well.
    """
    masks = couplings.masks(keep, params)
    small = compact(network, params, stats, masks, sample=x, couplings=couplings)
    assert {name: size.shape for name, size in small.kept.items()} == {
        name: (int(kept.sum()),) for name, kept in keep.items()
    }
    masked = apply_masks(params, masks)
    for now, expected in zip(jax.tree.leaves(small.params), kept_entries(params, masks), strict=True):
        np.testing.assert_array_equal(np.asarray(now).ravel(), expected)

    def outcome(network: Network) -> Any:
        def of(params: Params, stats: Stats) -> Any:
            weight = (jnp.ones(len(x), jnp.float32).at[-1].set(0),) if train and network.takes_weight else ()
            logits, new = network.apply(params, stats, x, train, *weight)
            return loss(logits), (logits, new)

        if not derivative:
            return lambda params, stats: (of(params, stats), None)
        return jax.value_and_grad(of, has_aux=True)

    @jax.jit
    def both(masked: Params, small_params: Params, stats: Stats, small_stats: Stats) -> Any:
        return outcome(network)(masked, stats), outcome(small.network)(small_params, small_stats)

    (left, grads), (right, small_grads) = both(masked, small.params, stats, small.stats)
    assert far(left[1][0], right[1][0]) <= within
    if train:
        smaller = jax.tree.leaves(right[1][1])
        for new, now, old in zip(
            kept_statistics(left[1][1], couplings, keep), smaller, jax.tree.leaves(small.stats), strict=True
        ):
            assert now.shape == old.shape
            if jnp.issubdtype(now.dtype, jnp.floating):
                assert far(new, now) <= 10 * within
    if derivative:
        scale = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(grads))
        for full, now in zip(kept_entries(grads, masks), jax.tree.leaves(small_grads), strict=True):
            assert np.isfinite(full).all()
            assert float(np.abs(full - np.asarray(now).ravel()).max(initial=0)) <= 10 * within * scale


def kept_statistics(stats: Stats, couplings: Couplings, keep: dict[str, Any]) -> list[np.ndarray]:
    """The entries of statistics that a cut leaves, by the members of the couplings."""
    kept = {path: np.asarray(leaf) for path, leaf in _named(stats)}
    cut: dict[tuple[str, int], list[np.ndarray]] = {}
    for coupling in couplings:
        for member in coupling.members:
            if member.of == "stats" and coupling.name in keep:
                cut.setdefault((member.path, member.axis), []).append(member.positions[~keep[coupling.name]].ravel())
    for (path, axis), places in cut.items():
        kept[path] = np.delete(kept[path], np.unique(np.concatenate(places)), axis)
    return list(kept.values())


def _named(tree: Any) -> list[tuple[str, Any]]:
    from jaxprune.trees import named_leaves

    return named_leaves(tree)


def couplings_of(network: Network, params: Params, stats: Stats, x: Array, **options: Any) -> Couplings:
    """The couplings of a network."""
    return find_couplings(network, params, stats, sample=x, **options)

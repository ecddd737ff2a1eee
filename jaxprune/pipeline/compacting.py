"""The compact networks of a node, from which cut channels are removed."""

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxprune import checkpoints
from jaxprune.auditing import Outcomes, outcomes
from jaxprune.coupling.compaction import Compact, cut, kept_of_replicas, smaller_network
from jaxprune.coupling.couplings import Couplings
from jaxprune.errors import DamagedFile, UserError
from jaxprune.examples import map_examples
from jaxprune.files import opened
from jaxprune.networks import Network
from jaxprune.numbers import significant
from jaxprune.pipeline.addresses import compact_stage
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pipeline.networks import networks_of
from jaxprune.pipeline.nodes import Node, Train, structure_of
from jaxprune.pipeline.parts import is_coupled
from jaxprune.pipeline.store import Store
from jaxprune.pipeline.train import Networks
from jaxprune.types import Array, Batch, Params, Stats

CHECKED = "test"  # the split on which compact networks are compared with masked ones
TOLERANCE = 1e-4  # of the largest logit: rounding of float32 is below it, a wrong cut is not
_KEPT = "kept.npz"


class Equality(NamedTuple):
    """How far compact networks are from the masked ones.

    Attributes:
      people: The examples that were compared.
      difference: [R] the largest difference of a logit.
      largest: [R] the largest logit of the masked network, without its sign.
    """

    people: int
    difference: np.ndarray
    largest: np.ndarray


def compact_of(experiment: Experiment, store: Store, node: Node) -> Compact | None:
    """Return the compact networks of a node, made unless on disk.

    One network serves all replicas: of every coupling as many channels are kept as the replica with most of them needs,
    and the surplus places of others hold zeros. It is compared with the masked networks before it is used.

    Args:
      experiment: The data and the network.
      store: Where they are kept.
      node: The node.

    Returns:
      Parameters and statistics with leaves [R, ...], and the kept channels [R, K] of each coupling that is cut; None
      where the structure removes no channels, or none is cut in all replicas.

    Raises:
      UserError: The outputs differ from those of the masked networks.
    """
    found = _found(experiment, store, node)
    return None if found is None else found[0]


def equality_of(experiment: Experiment, store: Store, node: Node) -> Equality | None:
    """Return how far compact networks are from the masked ones.

    It is None where there are none.
    """
    found = _found(experiment, store, node)
    return None if found is None else found[1]


def outcomes_of_compact(experiment: Experiment, store: Store, compact: Compact) -> Any:
    """The function of `Experiment.outcomes` for compact networks.

    One object for all networks with the same numbers of channels, so that it is compiled once.
    """

    def make() -> Any:
        def of_batch(batch: Batch, params: Params, stats: Stats) -> Outcomes:
            apply = compact.network.freeze(stats)
            return outcomes(apply, params, batch, chunk_size=experiment.chunk_size(batch.x))

        return of_batch

    return store.remember(("compact outcomes", _counts(compact.kept)), make)


def _found(experiment: Experiment, store: Store, node: Node) -> tuple[Compact, Equality] | None:
    if isinstance(node, Train) or not is_coupled(structure_of(node)) or node.sparsity == 0:
        return None
    stage = compact_stage(experiment, node)

    def read_or_make() -> tuple[Compact, Equality] | None:
        found = store.read(stage, lambda folder: (_read(experiment, store, folder),))
        if found is None:
            networks = networks_of(experiment, store, node)
            with store.workspace.writing(stage) as folder:
                made = _make(experiment, store, networks)
                _save(folder, made)
            return made
        return found[0]

    return store.remember_recent(stage.address, read_or_make)


def _make(experiment: Experiment, store: Store, networks: Networks) -> tuple[Compact, Equality] | None:
    couplings = experiment.couplings
    kept = kept_places(couplings, networks.masks, len(experiment.seeds))
    if not kept:
        return None
    masked = jax.tree.map(lambda leaf, mask: jnp.where(mask, leaf, 0), networks.params, networks.masks)
    params, stats = jax.vmap(lambda *one: _cut(couplings, *one))(masked, networks.stats, kept)
    network = _network(experiment, store, couplings, kept)
    compact = Compact(network=network, params=params, stats=stats, kept=kept, couplings=couplings)
    return compact, _compared(experiment, store, networks, compact)


def kept_places(couplings: Couplings, masks: Any, replicas: int) -> dict[str, np.ndarray]:
    """The channels of every replica, as many for all of them.

    Args:
      couplings: Those of the network.
      masks: Leaves [R, ...].
      replicas: R.

    Returns:
      As `coupling.compaction.kept_of_replicas`. A channel that is pruned in part, as by zeros that the weights came
      with, is kept.
    """
    host = jax.tree.map(np.asarray, masks)
    alive = [couplings.left(jax.tree.map(lambda leaf, r=r: leaf[r], host)) for r in range(replicas)]
    return kept_of_replicas({name: np.stack([one[name] for one in alive]) for name in couplings.sizes})


def _cut(couplings: Couplings, params: Params, stats: Stats, kept: dict[str, Array]) -> tuple[Params, Stats]:
    return cut(params, couplings.axes, kept), cut(stats, couplings.stats_axes, kept)


def _network(experiment: Experiment, store: Store, couplings: Couplings, kept: dict[str, np.ndarray]) -> Network:
    """The network with so many channels; one object, which remembers its programs."""
    assert experiment.network.init is not None
    params, stats = jax.eval_shape(experiment.network.init, jax.random.key(0))
    counts = dict(_counts(kept))
    return store.remember(
        ("compact network", _counts(kept)),
        lambda: smaller_network(experiment.network, params, stats, couplings, counts),
    )


def _counts(kept: dict[str, np.ndarray]) -> tuple[tuple[str, int], ...]:
    return tuple((name, places.shape[-1]) for name, places in sorted(kept.items()))


def _compared(experiment: Experiment, store: Store, networks: Networks, compact: Compact) -> Equality:
    """Compare the logits of all people of the test split."""

    def logits_of(network: Network) -> Any:
        def logits(batch: Batch, params: Params, stats: Stats) -> Array:
            apply, size = network.freeze(stats), experiment.chunk_size(batch.x)
            with jax.default_matmul_precision("highest"):
                return map_examples(lambda x: apply(params, x), batch.x, size)

        return logits

    masked = store.remember(("logits",), lambda: logits_of(experiment.network))
    smaller = store.remember(("compact logits", _counts(compact.kept)), lambda: logits_of(compact.network))
    seeds, people = len(experiment.seeds), len(experiment.dataset.split(CHECKED).y)
    difference, largest = np.zeros(seeds), np.zeros(seeds)
    for batch in experiment.blocks(CHECKED):
        dense = np.asarray(experiment.over_replicas(masked, batch, networks.params, networks.stats), np.float64)
        other = np.asarray(experiment.over_replicas(smaller, batch, compact.params, compact.stats), np.float64)
        finite = np.isfinite(dense)  # what is not finite in both is a diverged network, which the audit reports
        gap = np.where(finite == np.isfinite(other), np.where(finite, np.abs(other - dense), 0), np.inf)
        difference = np.maximum(difference, gap.max((1, 2)))
        largest = np.maximum(largest, np.where(finite, np.abs(dense), 0).max((1, 2)))
    relative = difference / np.maximum(largest, 1)
    if not (relative <= TOLERANCE).all():
        worst = int(np.argmax(relative))
        raise UserError(
            f"the compact network of seed {experiment.seeds[worst]} differs from the masked one by "
            f"{significant(difference[worst], 2)} where the largest logit is {significant(largest[worst], 2)}: a cut "
            "is wrong; report it, and take prune.structure = weights until it is mended"
        )
    return Equality(people, difference, largest)


def _save(folder: Path, made: tuple[Compact, Equality] | None) -> None:
    """Save the networks with the indices of what they keep."""
    kept: dict[str, Any] = {} if made is None else {f"kept/{name}": places for name, places in made[0].kept.items()}
    if made is not None:
        compact, equality = made
        checkpoints.save(folder / "network", {"params": compact.params, "stats": compact.stats})
        kept |= equality._asdict()
    with opened(folder / _KEPT) as file:
        np.savez(file, **kept)


def _read(experiment: Experiment, store: Store, folder: Path) -> tuple[Compact, Equality] | None:
    try:
        with np.load(folder / _KEPT) as arrays:
            values = dict(arrays)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedFile(f"{folder / _KEPT} is truncated or altered") from error
    kept = {name.removeprefix("kept/"): places for name, places in values.items() if name.startswith("kept/")}
    if not kept:
        return None
    couplings, (params, stats) = experiment.couplings, jax.eval_shape(experiment.initialise)
    like = jax.eval_shape(jax.vmap(lambda *one: _cut(couplings, *one)), params, stats, kept)
    remedy = f"delete {folder} and run again"
    tree = checkpoints.restore(folder / "network", {"params": like[0], "stats": like[1]}, remedy=remedy)
    network = _network(experiment, store, couplings, kept)
    compact = Compact(network=network, params=tree["params"], stats=tree["stats"], kept=kept, couplings=couplings)
    return compact, Equality(int(values["people"]), values["difference"], values["largest"])

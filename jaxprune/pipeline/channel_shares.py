"""The shares of channels, parameters and FLOPs that a pruning removes."""

from typing import Any

import jax
import numpy as np

from jaxprune.config.options import Part
from jaxprune.errors import UserError
from jaxprune.numbers import percent
from jaxprune.pipeline.experiment import Experiment
from jaxprune.pruning.structures.channel_costs import COSTS, ChannelCost
from jaxprune.pruning.structures.channels import cuttable
from jaxprune.pruning.structures.pooling import channels_alive
from jaxprune.trees import named_leaves
from jaxprune.types import Masks

WORDS = {"channels": "channels", "parameters": "parameters", "flops": "FLOPs"}


def channel_shares(experiment: Experiment, part: Part, masks: Masks) -> dict[str, np.ndarray]:
    """The shares that masks remove, by what they are shares of.

    Args:
      experiment: The data and the network.
      part: The structure, whose couplings the share of channels is of.
      masks: Leaves [R, ...].

    Returns:
      Name in `COSTS` -> [R].
    """
    names = _names(experiment, part)
    left = channels_left(experiment, names, masks)
    shares = {}
    for measure in COSTS:
        cost = ChannelCost(experiment.couplings, names, measure)
        kept = [cost.known({name: int(left[name][r].sum()) for name in names}) for r in range(len(experiment.seeds))]
        shares[measure] = 1 - np.array(kept) / cost.full
    return shares


def channels_left(experiment: Experiment, names: tuple[str, ...], masks: Masks) -> dict[str, np.ndarray]:
    """The channels of which a kernel weight is left, [R, size] by coupling."""
    kernels: dict[str, Any] = {
        path: mask
        for (path, mask), prune in zip(named_leaves(masks), jax.tree.leaves(experiment.prunable), strict=True)
        if prune
    }
    chosen = [experiment.couplings[name] for name in names]
    return jax.tree.map(np.asarray, jax.vmap(lambda one: channels_alive(chosen, one))(kernels))


def check_channels_reachable(experiment: Experiment, part: Part, masks: Masks, sparsity: float) -> None:
    """Raise for a sparsity below that of what is pruned already.

    By more than a channel, as shares of parameters and FLOPs are the nearest ones.
    """
    measure = dict(part.options).get("cost", "channels")
    names = _names(experiment, part)
    if not names:
        return  # the check of the structure says so
    cost = ChannelCost(experiment.couplings, names, measure)
    sizes = {name: experiment.couplings[name].size for name in names}
    one = max(1 - cost.known(sizes | {name: size - 1}) / cost.full for name, size in sizes.items())
    removed = float(channel_shares(experiment, part, masks)[measure].max())
    if removed > sparsity + one:
        raise UserError(
            f"prune.sparsities: {sparsity:g} is below the {percent(removed, 2)} of the {WORDS[measure]} that are "
            "pruned already; give a higher one"
        )


def _names(experiment: Experiment, part: Part) -> tuple[str, ...]:
    return cuttable(experiment.couplings, part.name, experiment.prunable, experiment.prunable)

"""Refuses runs that can never fit into memory, before any work."""

import math

import jax

from jaxprune.config import Settings
from jaxprune.data import SPLITS, Dataset
from jaxprune.errors import UserError
from jaxprune.memory import check_fits
from jaxprune.training import num_steps
from jaxprune.types import PyTree

_COPIES = {"sgd": 3, "adam": 4, "adamw": 4}  # of the parameters: themselves, their gradients and moments
_MOST_STEPS = 2**31 - 1  # what the count of steps of an optimiser can hold


def check_memory(settings: Settings, dataset: Dataset, params: PyTree) -> None:
    """Raise for settings that this machine's memory can never hold.

    Args:
      settings: The settings.
      dataset: The data.
      params: The shapes of the parameters of one network.

    Raises:
      UserError: Something does not fit.
    """
    on_host = jax.default_backend() == "cpu"  # elsewhere the device's own memory is the limit, and says so
    weights = sum(4 * math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    network = weights * (_COPIES[settings.train.optimizer] if on_host else 1)
    people = sum(len(dataset.split(split).y) for split in SPLITS)
    check_fits("model", "one network", network, "make it smaller")
    check_fits("seeds", f"{settings.seeds:,} networks", settings.seeds * (network + 8 * people), "give fewer")
    if on_host:
        batch = settings.seeds * settings.train.batch_size * 4 * math.prod(dataset.train.x.shape[1:])
        check_fits("train.batch_size", "a batch", batch, "give a smaller one, or fewer seeds")
    steps = num_steps(dataset.train, settings.train.batch_size)
    for section, epochs in (("train", settings.train.epochs), ("retrain", settings.retrain.epochs)):
        if epochs * steps > _MOST_STEPS:
            raise UserError(
                f"{section}.epochs: {epochs:,} are {epochs * steps:,} steps of training, more than can be counted "
                f"({_MOST_STEPS:,}); give fewer"
            )

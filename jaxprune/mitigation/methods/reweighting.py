"""Methods that weight examples, draw groups equally often, or shift logits."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp

from jaxprune.data import indexed_batch
from jaxprune.losses import cross_entropy
from jaxprune.mitigation.methods.fine_tuning import FineTuning
from jaxprune.mitigation.methods.method import Method, Sampling
from jaxprune.mitigation.methods.objectives import Objective
from jaxprune.types import Array, Batch


def reweighted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy weighted by group, per example.

    w_a ∝ n_a^-`power`, with mean 1 over the population.

    Power 1 gives every group the same say, 0 is the plain loss.

    Args:
      logits: [B, C].
      batch: The examples.
      values: Carried values: "shares" [G] of the groups and "power".

    Returns:
      [B] nats.
    """
    weight = values["shares"] ** -values["power"]
    weight = weight / jnp.sum(values["shares"] * weight)
    return weight[batch.group] * cross_entropy(logits, batch.y)


def logit_adjusted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy of logits + τ log π_y (Menon et al. 2021), per example.

    π are the shares of the labels.

    The network itself then need not carry the shares: it leans towards rare labels, and so towards rare groups where
    groups are labels. τ = `strength`.

    Args:
      logits: [B, C].
      batch: The examples.
      values: Carried values: "label_shares" [C] and "strength".

    Returns:
      [B] nats.
    """
    return cross_entropy(logits + values["strength"] * jnp.log(values["label_shares"]), batch.y)


LOGIT_ADJUSTMENT = Objective(logit_adjusted, frozenset({"label_shares"}), ("strength",))
STRENGTHS = {"strength": (0.5, 1.0)}

REWEIGHTED = Method(
    "Reweighted",
    "Groups weigh in by their size to a power below 0.",
    FineTuning(Objective(reweighted, frozenset({"shares", "groups"}), ("power",))),
    candidates={"power": (0.25, 0.5, 1.0)},
)
BALANCED = Method(
    "Balanced batches",
    "Every batch draws all groups equally often.",
    FineTuning(),
    sampling=Sampling(partial(indexed_batch, balanced=True), frozenset({"groups", "rows"})),
)
LOGIT_ADJUSTED = Method(
    "Logit adjustment",
    "Logits are shifted by the labels' shares while training.",
    FineTuning(LOGIT_ADJUSTMENT),
    candidates=STRENGTHS,
)

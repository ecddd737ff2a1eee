"""Methods that imitate the dense network, or learn from its errors."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.losses import cross_entropy
from jaxprune.mitigation.constraints import equal_accuracy_drop
from jaxprune.mitigation.dense import dense_logits_of
from jaxprune.mitigation.methods.fine_tuning import FineTuning
from jaxprune.mitigation.methods.lagrangian import DUAL_RATES, Lagrangian
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.objectives import Objective
from jaxprune.types import Array, Batch


def distillation(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy and imitation of the dense network (Hinton et al. 2015).

    (1 - a) CE(y) + a T² KL(softmax(dense / T) || softmax(logits / T)), with the carried a = `share` and T =
    `temperature`. Where the student agrees with the dense network, nobody's prediction has changed: what pruning does
    to a small group by chance is then small too.

    Args:
      logits: [B, C].
      batch: The examples, from `data.indexed_batch`.
      values: Carried values: "dense", "share" and "temperature".

    Returns:
      [B] nats.
    """
    share, temperature = values["share"], values["temperature"]
    target = jax.nn.log_softmax(_dense(batch, values) / temperature)
    divergence = jnp.sum(jnp.exp(target) * (target - jax.nn.log_softmax(logits / temperature)), -1)
    return (1 - share) * cross_entropy(logits, batch.y) + share * temperature**2 * divergence


def performance_weighted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """The performance-weighted loss (Meyer and Wong 2022), without groups.

    Weights w + (1 - w)(1 - p_dense(y | x))^γ with w = `floor` and γ = `sharpness`: what the dense network finds hard
    counts more. Targets are the dense network's probabilities where it is right, the label where it is not.

    Args:
      logits: [B, C].
      batch: The examples, from `data.indexed_batch`.
      values: Carried values: "dense", "floor" and "sharpness".

    Returns:
      [B] nats.
    """
    dense = _dense(batch, values)
    probabilities = jax.nn.softmax(dense)
    one_hot = jax.nn.one_hot(batch.y, logits.shape[-1])
    # A power of exactly 0 has an infinite slope for γ < 1; nothing is differentiated here, but NaN must not arise.
    missing = jnp.clip(1 - jnp.sum(probabilities * one_hot, -1), 0, 1)
    weight = values["floor"] + (1 - values["floor"]) * missing ** values["sharpness"]
    right = jnp.argmax(dense, -1) == batch.y
    target = jnp.where(right[:, None], probabilities, one_hot)
    return weight * optax.softmax_cross_entropy(logits, target)


def _dense(batch: Batch, values: Mapping[str, Any]) -> Array:
    logits, _ = dense_logits_of(batch, values["dense"])
    assert logits is not None, "the objective needs the dense network's outputs by example: dense_reference(...)"
    return logits


DISTILLATION = Objective(distillation, frozenset({"dense"}), ("share", "temperature"))
IMITATION = {"share": (0.5, 1.0), "temperature": (2.0,)}

DISTILLED = Method(
    "Distilled", "The pruned network imitates the dense one.", FineTuning(DISTILLATION), candidates=IMITATION
)
DISTILLED_CEAG = Method(
    "Distilled, equal drop",
    "Imitation, with ψ_a = 0 measured on people that the parameters never see.",
    Lagrangian(equal_accuracy_drop, objective=DISTILLATION, buffer=None, held_out=True),
    candidates={**DUAL_RATES, "share": (1.0,), "temperature": (2.0,)},
)
PERFORMANCE_WEIGHTED = Method(
    "Performance-weighted",
    "What the dense network finds hard counts more; needs no groups.",
    FineTuning(Objective(performance_weighted, frozenset({"dense"}), ("floor", "sharpness"))),
    candidates={"floor": (0.25, 0.75), "sharpness": (5.0,)},
)

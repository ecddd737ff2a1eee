"""What is minimised in place of the plain loss, and the steps that minimise it: the rivals of the Lagrangian."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.groups import group_mean
from jaxprune.losses import cross_entropy, weighted_mean
from jaxprune.mitigation.holding import held, held_of
from jaxprune.mitigation.measuring import dense_logits_of
from jaxprune.mitigation.step import Objective
from jaxprune.training import make_objective_step
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, Network, PyTree, Step


def distillation(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy mixed with imitation of the dense network (Hinton et al. 2015), per example.

    (1 - a) CE(y) + a T² KL(softmax(dense / T) || softmax(logits / T)), with a = `share` and T = `temperature` among the
    held values. Where the student agrees with the dense network, nobody's prediction has changed: what pruning does to
    a small group by chance is then small too.

    Args:
      logits: [B, C].
      batch: The examples, from `data.companions`.
      values: What the optimiser state holds: "dense", "share" and "temperature".

    Returns:
      [B] nats.
    """
    share, temperature = values["share"], values["temperature"]
    target = jax.nn.log_softmax(_dense(batch, values) / temperature)
    divergence = jnp.sum(jnp.exp(target) * (target - jax.nn.log_softmax(logits / temperature)), -1)
    return (1 - share) * cross_entropy(logits, batch.y) + share * temperature**2 * divergence


def performance_weighted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """The performance-weighted loss of Meyer and Wong 2022, which needs no groups, per example.

    Weights w + (1 - w)(1 - p_dense(y | x))^γ with w = `floor` and γ = `sharpness`: what the dense network finds hard
    counts more. Targets are the dense network's probabilities where it is right, the label where it is not.

    Args:
      logits: [B, C].
      batch: The examples, from `data.companions`.
      values: What the optimiser state holds: "dense", "floor" and "sharpness".

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


def reweighted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy weighted by group, w_a ∝ n_a^-`power`, with mean 1 over the population, per example.

    Power 1 gives every group the same say, 0 is the plain loss.

    Args:
      logits: [B, C].
      batch: The examples.
      values: What the optimiser state holds: "shares" [G] of the groups and "power".

    Returns:
      [B] nats.
    """
    weight = values["shares"] ** -values["power"]
    weight = weight / jnp.sum(values["shares"] * weight)
    return weight[batch.group] * cross_entropy(logits, batch.y)


def logit_adjusted(logits: Array, batch: Batch, values: Mapping[str, Any]) -> Array:
    """Cross-entropy of logits + τ log π_y, with π the shares of the labels (Menon et al. 2021), per example.

    The network itself then need not carry the shares: it leans towards rare labels, and so towards rare groups where
    groups are labels. τ = `strength`.

    Args:
      logits: [B, C].
      batch: The examples.
      values: What the optimiser state holds: "label_shares" [C] and "strength".

    Returns:
      [B] nats.
    """
    return cross_entropy(logits + values["strength"] * jnp.log(values["label_shares"]), batch.y)


def make_objective_mean_step(
    network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation, objective: Objective
) -> Step:
    """A training step on the mean of an objective, without a constraint.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: The plain per-example loss, for the log.
      tx: A transformation that holds (see `hold`) what the objective reads.
      objective: `(logits, batch, held) -> [B]`.

    Returns:
      The step; it logs `loss`, the objective's mean, and `plain_loss`.
    """

    def mean(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Any]]:
        value = weighted_mean(objective(logits, batch, held_of(opt_state)), batch.weight)
        return value, {"loss": value, "plain_loss": weighted_mean(loss(logits, batch.y), batch.weight)}, {}

    return make_objective_step(network, mean, tx)


def make_group_dro_step(
    network: Network | Apply, loss: ExampleLoss, tx: optax.GradientTransformation, *, num_groups: int
) -> Step:
    """A step of group DRO (Sagawa et al. 2020): Σ_a q_a J_a with q_a ← q_a exp(rate J_a) / Z, the updated q.

    The groups that are absent from the batch keep their q, rather than lose it to those that are there as if their
    loss were 0: the others share what is left. The loss of an absent group counts as 0 in the sum.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss.
      tx: A transformation that holds `hold({"q": ones(G) / G, "rate": ...})`.
      num_groups: G.

    Returns:
      The step; it logs `loss`, the plain mean, and the `multipliers` q [G] that the gradient was taken at.
    """

    def worst(logits: Array, batch: Batch, opt_state: PyTree) -> tuple[Array, Logs, dict[str, Any]]:
        losses = loss(logits, batch.y)
        means, count = group_mean(losses, batch.group, num_groups, batch.weight)
        q = group_dro_weights(held(opt_state, "q"), jax.lax.stop_gradient(means), count, held(opt_state, "rate"))
        logs = {"loss": weighted_mean(losses, batch.weight), "multipliers": q}
        return jnp.sum(q * means), logs, {"held": {"q": q}}

    return make_objective_step(network, worst, tx)


def group_dro_weights(q: Array, losses: Array, count: Array, rate: Array) -> Array:
    """The weights q [G] after one exponentiated-gradient step on the losses of the groups that are present."""
    present = count > 0
    # Relative to the largest, so that no exponential overflows.
    raised = q * jnp.exp(rate * (losses - jnp.max(jnp.where(present, losses, -jnp.inf), initial=0)))
    raised = jnp.where(present, raised, 0)
    total = jnp.sum(raised)
    scale = jnp.sum(jnp.where(present, q, 0)) / jnp.where(total > 0, total, 1)
    return jnp.where(present & (total > 0), raised * scale, q)


def _dense(batch: Batch, values: Mapping[str, Any]) -> Array:
    logits, _ = dense_logits_of(batch, values["dense"])
    assert logits is not None, "the objective needs the dense network's outputs by example: dense_reference(...)"
    return logits

"""A criterion, an allocation, a structure, a constraint, a method, a data set and a network for jaxprune."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxprune.data import RawData
from jaxprune.losses import cross_entropy
from jaxprune.mitigation import Constraint, FineTuning, Method, Objective
from jaxprune.pruning import Allocation, Criterion, Structure, global_masks


def relative() -> Criterion:
    """|w|, divided by the mean |w| of its layer."""
    return Criterion(relative_scores)


def relative_scores(params, **_):
    """Scores with the structure of the parameters."""
    return jax.tree.map(lambda w: jnp.abs(w) / jnp.maximum(jnp.mean(jnp.abs(w)), 1e-30), params)


def by_rank() -> Allocation:
    """One threshold for the ranks of the scores in their layers, from 0 to 1."""
    return masks_by_rank


def masks_by_rank(scores, sparsity, prunable=None, masks=None):
    """Masks with the structure of the scores."""
    ranks = jax.tree.map(lambda s: jnp.argsort(jnp.argsort(s, None)).reshape(s.shape) / s.size, scores)
    return global_masks(ranks, sparsity, prunable, masks)


def inputs() -> Structure:
    """All weights that an input of a layer has live or die together."""
    return Structure(masks_by_input)


def masks_by_input(scores, sparsity, prunable, masks, allocation):
    """Masks of whole inputs: the last axis of a kernel [..., in, out] has one score."""
    units = jax.tree.map(lambda s: jnp.sum(s, -1), scores)
    gone = None if masks is None else jax.tree.map(lambda m: jnp.any(m, -1), masks)
    kept = allocation(units, sparsity, prunable, gone)
    whole = jax.tree.map(lambda k, s: jnp.broadcast_to(k[..., None], s.shape), kept, scores)
    return whole if masks is None else jax.tree.map(jnp.logical_and, whole, masks)


def loss_ratio(num_groups: int, *, tolerance: float = 0.0) -> Constraint:
    """J_a <= (1 + tolerance) J: no group's loss is far above the overall loss, in proportion."""
    return Constraint(num_groups, True, loss_ratio_excess, tolerance)


def loss_ratio_excess(statistics, tolerance):
    """[G] the excess of each group's loss."""
    return statistics.loss - (1 + tolerance) * statistics.overall_loss


def focal(logits, batch, values):
    """The focal loss (Lin et al. 2017), per example."""
    losses = cross_entropy(logits, batch.y)
    return (1 - jnp.exp(-losses)) ** values["gamma"] * losses


FOCAL = Method(
    "Focal loss",
    "Examples that are hard to classify count more.",
    FineTuning(Objective(focal, hyperparameters=("gamma",))),
    candidates={"gamma": (1.0, 2.0)},
)


def rings(*, noise: tuple[float, ...] = (0.1,)) -> RawData:
    """Points inside and outside of a circle, in a large and a small group."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], [900, 100])
    y = rng.integers(0, 2, 1000)
    angle, radius = rng.uniform(0, 2 * np.pi, 1000), 1 + y + rng.normal(0, noise[0], 1000)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + 3 * group[:, None]
    return RawData(
        x=x.astype(np.float32),
        labels={"side": (y, ("inside", "outside"))},
        attributes={"place": (group, ("here", "there"))},
        stratify=(group,),
        split=(np.arange(1000) % 4 == 0).astype(np.uint8),  # a quarter for the test
        standardise=np.ones(2, bool),
        provenance="made by jaxprune-example",
    )


class Quadratic(nnx.Module):
    """Logits that are quadratic in the inputs."""

    def __init__(self, sample, num_classes, *, hidden: tuple[int, ...] = (16,), rngs):
        self.inner = nnx.Linear(sample.size, hidden[0], rngs=rngs)
        self.outer = nnx.Linear(hidden[0], num_classes, rngs=rngs)

    def __call__(self, x, weight=None):
        """[B, F] -> logits [B, C]."""
        return self.outer(self.inner(x) ** 2)

"""Slow reference implementations of the theory, and networks for which statements of the paper fail."""

from functools import partial

import jax
import jax.numpy as jnp

from jaxprune.losses import cross_entropy
from jaxprune.theory import group_operator
from jaxprune.theory.derivatives.taps import find_products
from jaxprune.trees import leaf_names
from jaxprune.types import Batch


@partial(jax.jit, static_argnames=("apply", "loss"))
def reference_gradient_norms(apply, params, batch, *, loss=cross_entropy):
    """[N] norms of the examples' gradients, each of which is formed; 0 for examples of weight 0."""

    def norm(x, y):
        gradient = jax.grad(lambda p: loss(apply(p, x[None]), y[None])[0])(params)
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))

    with jax.default_matmul_precision("highest"):
        return jnp.where(batch.weight != 0, jax.lax.map(lambda example: norm(*example), (batch.x, batch.y)), 0)


def formed_per_example(apply, params, batch, *, loss=cross_entropy):
    """The names of the parameters whose gradients `example_gradient_norms` forms for each example."""
    leaves, treedef = jax.tree.flatten(params)

    def loss_of_one(leaves, x, y):
        return loss(apply(treedef.unflatten(leaves), x[None]), y[None])[0]

    program = jax.make_jaxpr(loss_of_one)(leaves, jnp.asarray(batch.x)[0], jnp.asarray(batch.y)[0])
    tapped = {product.leaf for product in find_products(program, len(leaves)).values()}
    return [name for i, name in enumerate(leaf_names(params)) if i not in tapped]


def group_hvp(apply, params, chunks, vectors, *, loss=cross_entropy):
    """[G, P] the Hessian of group a times row a, evaluated anew."""
    return group_operator(apply, params, chunks, num_groups=len(chunks.size), loss=loss, memory=0)(vectors)


def proposition_1_counter_example():
    """Three groups at a stationary point where the larger of two has the larger gradient.

    One logit z = θ of a network with two; its labels are 1 and 0 for all members of a group of 4 and of another of 4,
    half and half for a group of 2. At θ = 0 the gradients are -½, ½ and 0: the whole loss is stationary, and the
    smallest group has the smallest gradient.
    """

    def constant_logit(params, x):
        logit = params * x
        return jnp.concatenate([jnp.zeros_like(logit), logit], -1)

    y = jnp.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 1])
    group = jnp.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    return constant_logit, jnp.zeros(()), Batch(jnp.ones((10, 1)), y, group, jnp.ones(10))


def theorem_2_counter_example():
    """A network of one example for which Theorem 2 fails as printed: the case of its step (13).

    z = ½(θ₁² - 2θ₂²) at θ = 0 with label 1: p - y = -½, ∇z = 0, ∇²z = diag(1, -2). So H = diag(-½, 1) and λ_max = 1,
    while the printed right side is |p - y| λ_max(∇²z) = ½ in the logit, and ⅛ in the probability. With the spectral
    norm it is 1, which is attained.
    """

    def saddle(params, x):
        logit = (params[0] ** 2 - 2 * params[1] ** 2) / 2 * x
        return jnp.concatenate([jnp.zeros_like(logit), logit], -1)

    return saddle, jnp.zeros(2), Batch(jnp.ones((1, 1)), jnp.array([1]), jnp.array([0]), jnp.ones(1))

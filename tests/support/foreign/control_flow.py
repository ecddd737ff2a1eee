"""Branches, loops and functions within functions."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, plain


@plain(
    x=(6, 5),
    shapes={
        "stem": affine(5, 11),
        "yes": {"up": affine(11, 13), "down": affine(13, 7)},
        "no": {"up": affine(11, 17), "down": affine(17, 7)},
        "out": affine(7, 3),
    },
    couplings={11: 1, 13: 1, 17: 1, 7: 1},
)
def branch(params, x):
    """Either of two blocks, of one width outside and two inside."""
    h = jax.nn.relu(dense(params["stem"], x))

    def block(name):
        return lambda h: dense(params[name]["down"], jax.nn.gelu(dense(params[name]["up"], h)))

    h = lax.cond(x.sum() > 0, block("yes"), block("no"), h)
    return dense(params["out"], jax.nn.relu(h))


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "first": affine(11, 7), "second": affine(11, 7), "out": affine(7, 3)},
    couplings={11: 1, 7: 1},
)
def switch(params, x):
    """One of three, of which one only slices."""
    h = jax.nn.relu(dense(params["stem"], x))
    which = jnp.argmax(x.sum(0)) % 2
    h = lax.switch(which, [lambda h: dense(params["first"], h), lambda h: jnp.tanh(dense(params["second"], h))], h)
    return dense(params["out"], h)


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "loop": affine(11, 11), "out": affine(11, 3)},
    couplings={11: 1},
    differentiable=False,
)
def while_loop(params, x):
    """A layer is applied until its values are small."""

    def body(carry):
        step, h = carry
        return step + 1, h * 0.5 + jnp.tanh(dense(params["loop"], h)) * 0.25

    def condition(carry):
        step, h = carry
        return (step < 5) & (jnp.abs(h).sum() > 0.5)

    _, h = lax.while_loop(condition, body, (0, dense(params["stem"], x)))
    return dense(params["out"], h)


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "loop": affine(11, 11), "out": affine(11, 3)},
    couplings={11: 1},
)
def counted_loop(params, x):
    h = lax.fori_loop(0, 3, lambda _, h: h + jnp.tanh(dense(params["loop"], h)), dense(params["stem"], x))
    return dense(params["out"], h)


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "up": affine(11, 13), "down": affine(13, 11), "out": affine(11, 3)},
    couplings={11: 1, 13: 1},
)
def computed_again(params, x):
    """Blocks within `jax.checkpoint` with a policy, within `jax.jit`."""

    @jax.jit
    def inner(layer, h):
        return jax.nn.gelu(dense(layer, h))

    block = jax.checkpoint(
        lambda h: h + dense(params["down"], inner(params["up"], h)),
        policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    )
    return dense(params["out"], block(dense(params["stem"], x)))

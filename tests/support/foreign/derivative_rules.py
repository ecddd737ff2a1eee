"""Functions with derivative rules of their own, and networks that differentiate."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, plain


@jax.custom_jvp
def _spike(x):
    """A step, [x > 0] x, with a smooth derivative in place of its own."""
    return jnp.where(x > 0, x, 0)


@_spike.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _spike(x), dx / (1 + jnp.abs(x)) ** 2


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def custom_jvp(params, x):
    h = _spike(dense(params["first"], x))
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _leaky(x, slope):
    return jnp.maximum(x, slope * x)


@_leaky.defjvp
def _(slope, primals, tangents):
    (x,), (dx,) = primals, tangents
    return _leaky(x, slope), dx * jnp.where(x > 0, 2.0, slope).astype(x.dtype)


@plain(x=(6, 5), shapes={"stem": affine(5, 11), "out": affine(11, 3)}, couplings={11: 1})
def custom_jvp_with_an_option(params, x):
    return dense(params["out"], _leaky(dense(params["stem"], x), 0.1))


@jax.custom_vjp
def _clipped(x):
    """The identity, whose gradient is clipped to 0.01."""
    return x


_clipped.defvjp(lambda x: (x, None), lambda _, dy: (jnp.clip(dy, -0.01, 0.01),))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def custom_vjp(params, x):
    h = jax.nn.relu(_clipped(dense(params["first"], x)))
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


@jax.custom_vjp
def _product(x, kernel):
    return x @ kernel


def _product_forward(x, kernel):
    return x @ kernel, (x, kernel)


def _product_backward(kept, dy):
    x, kernel = kept
    return 0.5 * dy @ kernel.T, 2 * x.T @ dy


_product.defvjp(_product_forward, _product_backward)


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def custom_vjp_of_a_layer(params, x):
    """A product whose two derivatives are scaled, kept values included."""
    h = jax.nn.relu(dense(params["first"], x))
    h = jax.nn.relu(_product(h, params["second"]["kernel"]) + params["second"]["bias"])
    return dense(params["out"], h)


@plain(x=(6, 5), shapes={"stem": affine(5, 11), "out": affine(11, 3)}, couplings={11: 1})
def straight_through(params, x):
    """Activations are rounded to eighths, and their gradient passes as if they were not."""
    h = dense(params["stem"], x)
    return dense(params["out"], h + lax.stop_gradient(jnp.round(8 * h) / 8 - h))


@plain(x=(6, 5), shapes={"energy": affine(5, 11), "last": (11,), "out": affine(5, 3)}, couplings={11: 1})
def gradient_of_an_energy(params, x):
    """The logits are made of a gradient with respect to the inputs."""

    def energy(x):
        return (jnp.tanh(dense(params["energy"], x)) @ params["last"]).sum()

    return dense(params["out"], jax.grad(energy)(x))


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "out": affine(11, 3)},
    couplings={11: 1},
)
def relu_at_zero(params, x):
    """relu'(0) is 0 by rule; its body alone would give 0.5 in the channels where all inputs are negative."""
    h = jax.nn.relu(dense(params["stem"], x))
    return dense(params["out"], jax.nn.relu(h) + jax.nn.relu6(h))

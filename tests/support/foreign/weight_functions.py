"""Layers whose kernels are functions of the parameters."""

import jax
import jax.numpy as jnp
import numpy as np

from foreign.registry import affine, dense, plain


@plain(
    x=(6, 5),
    shapes={"stem": affine(5, 11), "left": (11, 4), "right": (4, 13), "bias": (13,), "out": affine(13, 3)},
    couplings={11: 1, 4: 1, 13: 1},
)
def low_rank(params, x):
    """The rank is cut like a width."""
    h = jax.nn.relu(dense(params["stem"], x))
    return dense(params["out"], jax.nn.relu(h @ (params["left"] @ params["right"]) + params["bias"]))


@plain(
    x=(6, 5), shapes={"stem": affine(5, 11), "mixing": (11, 11), "bias": (11,), "out": affine(11, 3)}, couplings={11: 1}
)
def symmetric_kernel(params, x):
    """Both axes of the kernel are one coupling."""
    h = dense(params["stem"], x) @ (params["mixing"] + params["mixing"].T) + params["bias"]
    return dense(params["out"], jax.nn.gelu(h))


@plain(x=(6, 5), shapes={"stem": affine(5, 11), "out": (11, 3)}, couplings={11: 1})
def cosine_head(params, x):
    h, out = jax.nn.relu(dense(params["stem"], x)), params["out"]
    h = h / jnp.sqrt((h * h).sum(-1, keepdims=True) + 1e-6)
    return 5 * h @ (out / jnp.linalg.norm(out, axis=0))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={13: 1},
    pinned=(("first/kernel", 1), ("second/kernel", 0)),
)
def weight_standardisation(params, x):
    """Zeros minus the mean over inputs are not zero: the inputs are pinned, the outputs are not."""
    h = jax.nn.relu(dense(params["first"], x))
    kernel = params["second"]["kernel"]
    kernel = (kernel - kernel.mean(0)) * jax.lax.rsqrt(kernel.var(0) + 1e-5)
    return dense(params["out"], jax.nn.relu(h @ kernel + params["second"]["bias"]))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11) | {"scale": (11,)}, "second": affine(11, 13), "out": affine(13, 3)},
    couplings={13: 1},
    pinned=(("first/kernel", 1), ("second/kernel", 0)),
)
def weight_normalisation(params, x):
    """Without epsilon: the norm of a column that is cut is 0, and the masked network says nan."""
    kernel = params["first"]["kernel"]
    kernel = params["first"]["scale"] * kernel / jnp.sqrt((kernel * kernel).sum(0))
    h = jax.nn.relu(x @ kernel + params["first"]["bias"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11) | {"scale": (11,)}, "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def weight_normalisation_with_epsilon(params, x):
    kernel = params["first"]["kernel"]
    kernel = params["first"]["scale"] * kernel / jnp.sqrt((kernel * kernel).sum(0) + 1e-5)
    h = jax.nn.relu(x @ kernel + params["first"]["bias"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={11: 1, 13: 1},
)
def spectral_scale(params, x):
    """A kernel divided by its Frobenius norm, to which what is cut adds nothing."""
    kernel = params["second"]["kernel"]
    h = jax.nn.relu(dense(params["first"], x)) @ (kernel / jnp.sqrt((kernel * kernel).sum() + 1e-6))
    return dense(params["out"], jax.nn.relu(h + params["second"]["bias"]))


@plain(
    x=(6, 5),
    shapes={"first": affine(5, 11), "mixing": (11, 11), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={13: 1},
    pinned=(("first/kernel", 1), ("mixing", 0), ("mixing", 1)),
)
def triangular_kernel(params, x):
    """Which inputs a channel sees depends on its number."""
    h = jax.nn.relu(dense(params["first"], x)) @ jnp.tril(params["mixing"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))


_CAPTURED = np.random.default_rng(2).normal(size=(5, 11)).astype(np.float32) / 2


@plain(
    x=(6, 5),
    shapes={"bias": (11,), "second": affine(11, 13), "out": affine(13, 3)},
    couplings={13: 1},
    pinned=(("bias", 0), ("second/kernel", 0)),
)
def captured_kernel(params, x):
    """A kernel that is captured by a closure is no parameter, and is never cut."""
    h = jax.nn.relu(x @ jnp.asarray(_CAPTURED, x.dtype) + params["bias"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], h)))

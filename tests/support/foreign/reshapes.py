"""Axes that are split, merged, interleaved and multiplied."""

import jax
import jax.numpy as jnp

from foreign.registry import affine, dense, plain


@plain(
    x=(7, 5),
    shapes={"hidden": affine(5, 44), "out": affine(11, 3)},
    couplings={11: 1},
)
def maxout(params, x):
    """The largest of four pieces; the number of pieces is pinned."""
    return dense(params["out"], dense(params["hidden"], x).reshape(7, 11, 4).max(-1))


@plain(
    x=(4, 5),
    shapes={"stem": affine(5, 21), "blocks": (3, 7, 11), "bias": (3, 11), "out": affine(33, 2)},
    couplings={3: 1, 7: 1, 11: 1},
)
def block_diagonal(params, x):
    h = jax.nn.relu(dense(params["stem"], x)).reshape(4, 3, 7)
    h = jax.nn.relu(jnp.einsum("bgi,gij->bgj", h, params["blocks"]) + params["bias"])
    return dense(params["out"], h.reshape(4, 33))


@plain(
    x=(4, 5),
    shapes={"left": affine(5, 7), "right": affine(5, 11), "out": affine(77, 3)},
    couplings={7: 1, 11: 1},
)
def outer_product(params, x):
    left, right = dense(params["left"], x), dense(params["right"], x)
    return dense(params["out"], jnp.einsum("bi,bj->bij", left, right).reshape(4, 77))


@plain(x=(4, 5), shapes={"stem": affine(5, 7), "out": affine(49, 3)}, couplings={7: 1})
def own_outer_product(params, x):
    """One axis of the head holds the coupling twice: channel i lies at 7 i + j and at 7 j + i."""
    h = dense(params["stem"], x)
    return dense(params["out"], (h[:, :, None] * h[:, None, :]).reshape(4, 49))


@plain(
    x=(4, 5),
    shapes={"features": affine(5, 7), "generator": affine(5, 77), "bias": (11,), "out": affine(11, 3)},
    couplings={7: 1, 11: 1},
)
def hypernetwork(params, x):
    """A layer whose kernel another layer makes."""
    kernel = dense(params["generator"], x).reshape(4, 7, 11)
    h = jnp.einsum("bi,bij->bj", dense(params["features"], x), kernel) + params["bias"]
    return dense(params["out"], jax.nn.relu(h))


@plain(
    x=(6, 5),
    shapes={"even": affine(5, 11), "odd": affine(5, 11), "out": affine(22, 3)},
    couplings={11: 1},
)
def interleaved(params, x):
    pairs = jnp.stack([jnp.tanh(dense(params["even"], x)), dense(params["odd"], x)], -1)
    return dense(params["out"], pairs.reshape(6, 22))


_TWO_SHAPES = {"stem": affine(5, 24), "rows": (4, 6), "second": affine(10, 13), "out": affine(13, 3)}


@plain(
    x=(5, 5),
    shapes=_TWO_SHAPES | {"columns": (6, 4)},
    couplings={13: 1},
    pinned=(("stem/kernel", 1), ("rows", 0), ("columns", 1)),
)
def unlike_reshapes(params, x):
    """24 channels as 4 x 6 and as 6 x 4, which have no common refinement."""
    h = jax.nn.relu(dense(params["stem"], x))
    rows = jnp.einsum("bij,ij->bi", h.reshape(5, 4, 6), params["rows"])
    columns = jnp.einsum("bij,ij->bi", h.reshape(5, 6, 4), params["columns"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], jnp.concatenate([rows, columns], -1))))


@plain(
    x=(5, 5),
    shapes=_TWO_SHAPES | {"columns": (8, 3), "second": affine(12, 13)},
    couplings={4: 1, 2: 1, 3: 1, 13: 1},
)
def refined_reshapes(params, x):
    """24 channels as 4 x 6 and as 8 x 3: both are 4 x 2 x 3."""
    h = jax.nn.relu(dense(params["stem"], x))
    rows = jnp.einsum("bij,ij->bi", h.reshape(5, 4, 6), params["rows"])
    columns = jnp.einsum("bij,ij->bi", h.reshape(5, 8, 3), params["columns"])
    return dense(params["out"], jax.nn.relu(dense(params["second"], jnp.concatenate([rows, columns], -1))))

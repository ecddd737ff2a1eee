"""Attention with heads by reshape, by einsum, fused, grouped, rotated, linear."""

import jax
import jax.numpy as jnp
from jax import lax

from foreign.registry import affine, dense, plain


def _attend(q, k, v):
    """[B, T, H, D], [B, S, H, D], [B, S, H, E] -> [B, T, H, E]."""
    weights = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k) / q.shape[-1] ** 0.5)
    return jnp.einsum("bhts,bshe->bthe", weights, v)


@plain(
    x=(2, 6, 5),
    shapes={"stem": affine(5, 11), "qkv": affine(11, 63), "project": affine(21, 11), "out": affine(11, 4)},
    couplings={11: 1, 3: 1, 7: 1},
)
def fused_attention(params, x):
    """Queries, keys and values of one layer, as 3 x heads x sizes: three heads of size 7, and sizes go together."""
    h = dense(params["stem"], x)
    qkv = dense(params["qkv"], h).reshape(2, 6, 3, 3, 7)
    attended = _attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]).reshape(2, 6, 21)
    return dense(params["out"], (h + dense(params["project"], attended)).mean(1))


@plain(
    x=(2, 6, 5),
    shapes={
        "stem": affine(5, 11),
        "query": affine(11, 21),
        "key": affine(11, 21),
        "value": affine(11, 21),
        "project": affine(21, 11),
        "out": affine(11, 4),
    },
    couplings={11: 1, 3: 1, 7: 2},
)
def reshaped_attention(params, x):
    """Kernels [F, H * D]: the size of queries and keys is another coupling than that of values."""
    h = dense(params["stem"], x)
    q, k, v = (dense(params[name], h).reshape(2, 6, 3, 7) for name in ("query", "key", "value"))
    attended = _attend(q, k, v).reshape(2, 6, 21)
    return dense(params["out"], (h + dense(params["project"], attended)).mean(1))


@plain(
    x=(3, 5, 4),
    shapes={
        "stem": affine(4, 11),
        "query": {"kernel": (11, 2, 3, 7), "bias": (2, 3, 7)},
        "key": {"kernel": (11, 2, 7), "bias": (2, 7)},
        "value": {"kernel": (11, 2, 5), "bias": (2, 5)},
        "project": (2, 3, 5, 11),
        "out": affine(11, 4),
    },
    couplings={11: 1, 2: 1, 3: 1, 7: 1, 5: 1},
)
def grouped_queries(params, x):
    """Three queries for each of two keys (GQA); batch, tokens and sizes are equal by accident."""
    h = dense(params["stem"], x)
    q = jnp.einsum("btf,fkgd->btkgd", h, params["query"]["kernel"]) + params["query"]["bias"]
    k = jnp.einsum("btf,fkd->btkd", h, params["key"]["kernel"]) + params["key"]["bias"]
    v = jnp.einsum("btf,fke->btke", h, params["value"]["kernel"]) + params["value"]["bias"]
    weights = jax.nn.softmax(jnp.einsum("btkgd,bskd->bkgts", q, k) / 7**0.5)
    attended = jnp.einsum("bkgts,bske->btkge", weights, v)
    return dense(params["out"], (h + jnp.einsum("btkge,kgef->btf", attended, params["project"])).mean(1))


def _rotate(x):
    """[B, T, H, D] -> the same, pairs of features turned by angles that depend on the place."""
    half = x.shape[-1] // 2
    frequencies = 10.0 ** (-jnp.arange(half, dtype=x.dtype) / half)
    angles = jnp.arange(x.shape[1], dtype=x.dtype)[:, None] * frequencies
    cos, sin = jnp.cos(angles)[:, None], jnp.sin(angles)[:, None]
    first, second = x[..., :half], x[..., half:]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], -1)


@plain(
    x=(2, 6, 5),
    shapes={
        "stem": affine(5, 11),
        "query": (11, 3, 10),
        "key": (11, 3, 10),
        "value": (11, 3, 7),
        "project": (3, 7, 11),
        "out": affine(11, 4),
    },
    couplings={11: 1, 3: 1, 7: 1},
    pinned=(("query", 2), ("key", 2)),
)
def rotary_attention(params, x):
    """The frequency of a feature depends on its number, which pins the size of queries and keys."""
    h = dense(params["stem"], x)
    q, k, v = (jnp.einsum("btf,fhd->bthd", h, params[name]) for name in ("query", "key", "value"))
    attended = _attend(_rotate(q), _rotate(k), v)
    return dense(params["out"], (h + jnp.einsum("bthe,hef->btf", attended, params["project"])).mean(1))


@plain(
    x=(2, 6, 5),
    shapes={
        "stem": affine(5, 11),
        "query": (11, 3, 5),
        "key": (11, 3, 5),
        "value": (11, 3, 7),
        "project": (3, 7, 11),
        "out": affine(11, 4),
    },
    couplings={11: 1, 3: 1, 7: 1},
    pinned=(("query", 2), ("key", 2)),
)
def linear_attention(params, x):
    """elu(0) + 1 is not 0, and is summed over features: the size of queries and keys is pinned."""
    h = dense(params["stem"], x)
    q, k, v = (jnp.einsum("btf,fhd->bthd", h, params[name]) for name in ("query", "key", "value"))
    q, k = jax.nn.elu(q) + 1, jax.nn.elu(k) + 1
    attended = jnp.einsum("bthd,bhde->bthe", q, jnp.einsum("bshd,bshe->bhde", k, v))
    attended = attended / jnp.einsum("bthd,bhd->bth", q, k.sum(1))[..., None]
    return dense(params["out"], (h + jnp.einsum("bthe,hef->btf", attended, params["project"])).mean(1))


_WITH_NORMS = {
    "stem": affine(5, 11),
    "query": (11, 3, 13),
    "key": (11, 3, 13),
    "value": (11, 3, 7),
    "project": (3, 7, 11),
    "out": affine(11, 4),
}


def _with_norms(params, x, epsilon):
    h = dense(params["stem"], x)
    q, k, v = (jnp.einsum("btf,fhd->bthd", h, params[name]) for name in ("query", "key", "value"))
    q, k = (a * lax.rsqrt((a * a).sum(-1, keepdims=True) + epsilon) for a in (q, k))
    attended = _attend(3 * q, k, v)
    return dense(params["out"], (h + jnp.einsum("bthe,hef->btf", attended, params["project"])).mean(1))


@plain(x=(2, 6, 5), shapes=_WITH_NORMS, couplings={11: 1, 3: 1, 13: 1, 7: 1})
def normalised_queries(params, x):
    return _with_norms(params, x, 1e-6)


@plain(x=(2, 6, 5), shapes=_WITH_NORMS, couplings={11: 1, 13: 1, 7: 1}, pinned=(("query", 1), ("value", 1)))
def normalised_queries_without_epsilon(params, x):
    """The norm of a head that is cut is 0, and the masked network says nan."""
    h = dense(params["stem"], x)
    q, k, v = (jnp.einsum("btf,fhd->bthd", h, params[name]) for name in ("query", "key", "value"))
    q, k = (a / jnp.sqrt((a * a).sum(-1, keepdims=True)) for a in (q, k))
    attended = _attend(3 * q, k, v)
    return dense(params["out"], (h + jnp.einsum("bthe,hef->btf", attended, params["project"])).mean(1))


@plain(
    x=(2, 6, 5),
    shapes={
        "stem": affine(5, 11),
        "latents": (4, 13),
        "query": affine(13, 7),
        "key": affine(11, 7),
        "value": affine(11, 17),
        "out": affine(68, 3),
    },
    couplings={11: 1, 4: 1, 13: 1, 7: 1, 17: 1},
)
def learned_queries(params, x):
    """Queries that are parameters (Perceiver); one of them is cut like a channel, as its weights in the head are."""
    h = dense(params["stem"], x)
    q = dense(params["query"], params["latents"])
    weights = jax.nn.softmax(jnp.einsum("nd,btd->bnt", q, dense(params["key"], h)))
    return dense(params["out"], jnp.einsum("bnt,bte->bne", weights, dense(params["value"], h)).reshape(2, 68))


def _rms(x, scale):
    return x * lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * scale


@plain(
    x=(2, 6, 5),
    shapes={
        "stem": affine(5, 13),
        "layers": [
            {
                "norm1": (13,),
                "query": (13, 2, 5),
                "key": (13, 2, 5),
                "value": (13, 2, 5),
                "project": (2, 5, 13),
                "norm2": (13,),
                "up": (13, 2, 17),
                "down": (17, 13),
            }
            for _ in range(2)
        ],
        "norm": (13,),
        "out": affine(13, 3),
    },
    couplings={13: 1, 2: 2, 5: 4, 17: 2},
    pinned=(("layers/0/up", 1),),
)
def rms_transformer(params, x):
    """Pre-norm layers with causal attention and SwiGLU; tokens, sizes and inputs are equal by accident."""
    h = dense(params["stem"], x)
    causal = jnp.tril(jnp.ones((6, 6), bool))
    for layer in params["layers"]:
        y = _rms(h, layer["norm1"])
        q, k, v = (jnp.einsum("btf,fhd->bthd", y, layer[name]) for name in ("query", "key", "value"))
        logits = jnp.where(causal, jnp.einsum("bthd,bshd->bhts", q, k) / 5**0.5, -1e30)
        attended = jnp.einsum("bhts,bshe->bthe", jax.nn.softmax(logits), v)
        h = h + jnp.einsum("bthe,hef->btf", attended, layer["project"])
        gate, up = jnp.moveaxis(jnp.einsum("btf,fgm->btgm", _rms(h, layer["norm2"]), layer["up"]), 2, 0)
        h = h + (jax.nn.silu(gate) * up) @ layer["down"]
    return dense(params["out"], _rms(h[:, -1], params["norm"]))

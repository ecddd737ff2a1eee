"""Operations over features that no cut can pass, each between two layers of which the second can be cut."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from foreign.registry import affine, dense, plain

_LAYERS = {"first": affine(5, 11), "second": affine(11, 13), "out": affine(13, 3)}


def _between(name, operation, *, second=11, **options):
    shapes = _LAYERS | {"second": affine(second, 13)}

    def apply(params, x):
        h = operation(dense(params["first"], x))
        return dense(params["out"], jax.nn.relu(dense(params["second"], h)))

    apply.__name__ = name
    pinned = (("first/kernel", 1),)
    return plain(x=(7, 5), shapes=shapes, couplings={13: 1}, pinned=pinned, **options)(apply)


# Elementwise in truth; jaxprune cannot know.
unknown = Primitive("foreign_double")
unknown.def_impl(lambda x: 2 * x)
unknown.def_abstract_eval(lambda x: x)
mlir.register_lowering(unknown, mlir.lower_fun(lambda x: 2 * x, multiple_results=False))
ad.deflinear2(unknown, lambda cotangent, _: [unknown.bind(cotangent)])
batching.defvectorized(unknown)

_ORDER = np.random.default_rng(0).permutation(11)


def _callback(x):
    return jax.pure_callback(lambda a: np.asarray(a) * 2, jax.ShapeDtypeStruct(x.shape, x.dtype), x)


_between("cumulative_sum", lambda h: jnp.cumsum(h, -1))
_between("sorted_features", lambda h: jnp.sort(h, -1))
_between("fourier_transform", lambda h: jnp.fft.fft(h, axis=-1).real)
_between("largest_features", lambda h: lax.top_k(h, 4)[0], second=4)
_between("reversed_features", lambda h: h[:, ::-1])
_between("permuted_features", lambda h: h[:, _ORDER])
_between("every_other_feature", lambda h: h[:, ::2], second=6)
_between("set_feature", lambda h: h.at[:, 3].set(1.0))
_between("winner_takes_all", lambda h: h * jax.nn.one_hot(jnp.argmax(h, -1), 11, dtype=h.dtype))
_between("product_of_features", lambda h: h * jnp.prod(1 + 0.1 * jnp.tanh(h), -1, keepdims=True))
_between("largest_feature", lambda h: h - h.max(-1, keepdims=True))
_between("numbered_features", lambda h: h * (1 + jnp.arange(11, dtype=h.dtype)))
_between("unknown_operation", lambda h: unknown.bind(h))
_between("callback", _callback, differentiable=False)
_between("selected_by_number", lambda h: jnp.take_along_axis(h, jnp.argsort(h, -1), -1))
_between("rolled_by_four", lambda h: h + jnp.roll(h, 4, axis=1))

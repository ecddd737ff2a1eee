"""The norms of the examples' own gradients, against the gradients themselves, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from flax import nnx
from theory_oracles import formed_per_example, reference_gradient_norms

from jaxprune import models
from jaxprune.models import from_nnx
from jaxprune.models.conv import convolve
from jaxprune.theory import (
    example_gradient_norms,
    gradient_cosines,
    group_gradients,
    norms,
)
from jaxprune.types import Batch

N, C = 13, 3


def images(shape=(8, 8, 2), dtype=np.float64):
    rng = np.random.default_rng(0)
    weight = np.ones(N, np.float32)
    weight[4] = 0
    return Batch(rng.normal(size=(N, *shape)).astype(dtype), rng.integers(0, C, N), rng.integers(0, 2, N), weight)


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1]) or 1) for name, shape in shapes.items()}


def convolution(x, kernel, stride=1, dilation=1):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@jax.custom_vjp
def own_derivative(x, kernel):
    return convolution(x, kernel)


def _forward(x, kernel):
    return own_derivative(x, kernel), (x, kernel)


def _backward(kept, slope):
    return jax.vjp(convolution, *kept)[1](slope)


own_derivative.defvjp(_forward, _backward)


def dense(p, x):
    hidden = jax.nn.relu(x.reshape(len(x), -1) @ p["w"] + p["b"])
    return jax.nn.silu(hidden) @ p["v"].T


def convolutional(p, x):
    x = jnp.tanh(convolution(x, p["k"], 2) + p["b"])
    x = jax.nn.relu(convolution(x, p["l"], 1, 2))
    return x.mean((1, 2)) @ p["v"]


def of_its_own(p, x):
    x = jnp.tanh(own_derivative(x, p["k"]))
    return jnp.einsum("bhwc,cd->bhwd", x, p["v"]).max((1, 2))


def of_the_models(p, x):
    x = jnp.tanh(convolve(x, p["k"], stride=2, padding=1))
    return jnp.tanh(convolve(x, p["l"])).mean((1, 2)) @ p["v"]


def normalised(p, x):
    hidden = x.reshape(len(x), -1) @ p["w"]
    hidden = p["scale"] * (hidden - 0.3) / 1.7 + p["shift"]
    return jnp.tanh(hidden) @ p["v"]


def shared(p, x):
    """One matrix in two places, another masked, a third inside of a loop: none of them is a product of its own."""
    hidden = jnp.tanh(x.reshape(len(x), -1) @ p["w"])
    hidden = jnp.tanh(hidden @ p["twice"]) @ p["twice"].T
    hidden, _ = jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), hidden, p["loop"])
    return hidden @ (p["v"] * (jnp.abs(p["v"]) > 0.1))


def attention(p, x):
    """Positions mix, so that the product of a sequence is over several rows of one example."""
    x = x.reshape(len(x), -1, 4)
    query, key = x @ p["q"], jax.checkpoint(lambda x: x @ p["k"])(x)
    mixed = jax.nn.softmax(query @ key.swapaxes(1, 2)) @ x
    return jnp.concatenate([mixed, x], -1).mean(1) @ p["v"].reshape(8, C)


NETWORKS = {
    "dense": (dense, {"w": (128, 6), "b": (6,), "v": (C, 6)}, {"b"}),
    "convolutional": (convolutional, {"k": (3, 3, 2, 4), "b": (4,), "l": (3, 3, 4, 5), "v": (5, C)}, {"b"}),
    "of its own": (of_its_own, {"k": (3, 3, 2, 4), "v": (4, C)}, set()),
    "of the models": (of_the_models, {"k": (3, 3, 2, 4), "l": (1, 1, 4, 5), "v": (5, C)}, set()),
    "normalised": (normalised, {"w": (128, 5), "scale": (5,), "shift": (5,), "v": (5, C)}, {"scale", "shift"}),
    "shared": (shared, {"w": (128, 5), "twice": (5, 5), "loop": (2, 5, 5), "v": (5, C)}, {"twice", "loop", "v"}),
    "attention": (attention, {"q": (4, 4), "k": (4, 4), "v": (4, 2, C)}, set()),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_are_those_of_the_gradients(x64, name):
    """And only the parameters without a product of their own have their gradients formed."""
    apply, shapes, formed = NETWORKS[name]
    params, batch = draw(shapes), images()
    found = example_gradient_norms(apply, params, batch, chunk_size=5)

    def one(x, y):
        gradient = jax.grad(lambda p: -jax.nn.log_softmax(apply(p, x[None])[0])[y])(params)
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))

    expected = np.where(batch.weight != 0, jax.jit(jax.vmap(one))(batch.x, batch.y), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    assert set(formed_per_example(apply, params, batch)) == set(formed)


def test_the_reference_agrees_and_nothing_is_compiled_twice(x64):
    apply, shapes, _ = NETWORKS["dense"]
    batch = images()
    for seed in range(2):
        params = draw(shapes, seed)
        with compiles(1 - seed, of="example_gradient_norms"):
            found = example_gradient_norms(apply, params, batch)
        np.testing.assert_allclose(found, reference_gradient_norms(apply, params, batch), rtol=1e-10)


@pytest.mark.parametrize("name", ["mlp", "convnet"])
def test_our_own_networks_form_the_gradients_of_biases_alone(name):
    batch = images(dtype=np.float32)
    network = models.build(name, batch.x[0], C, **models.options_of(name, {}))
    params, stats = network.init(jax.random.key(0))
    apply = network.freeze(stats)
    found = example_gradient_norms(apply, params, batch)
    np.testing.assert_allclose(found, reference_gradient_norms(apply, params, batch), rtol=2e-5)
    assert all("bias" in path for path in formed_per_example(apply, params, batch))


def test_networks_of_flax_with_frozen_norms():
    class Small(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(2, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.head = nnx.Linear(4, C, rngs=rngs)

        def __call__(self, x):
            return self.head(jax.nn.relu(self.norm(self.conv(x))).mean((1, 2)))

    network, params, stats = from_nnx(Small(nnx.Rngs(0)))
    apply, batch = network.freeze(stats), images(dtype=np.float32)
    found = example_gradient_norms(apply, params, batch)
    np.testing.assert_allclose(found, reference_gradient_norms(apply, params, batch), rtol=2e-5)
    assert not any("kernel" in path for path in formed_per_example(apply, params, batch))


def test_no_array_of_examples_times_parameters_is_made(x64):
    """Read off the program: nothing in it is as large as one kernel for each example of a chunk."""
    apply, shapes, _ = NETWORKS["convolutional"]
    shapes = shapes | {"k": (3, 3, 2, 64), "b": (64,), "l": (3, 3, 64, 64), "v": (64, C)}
    params, batch = draw(shapes), images()
    text = str(jax.make_jaxpr(lambda p, b: example_gradient_norms(apply, p, b, chunk_size=7))(params, batch))
    assert "7,3,3,64,64" not in text
    compiled = jax.jit(lambda p, b: example_gradient_norms(apply, p, b, chunk_size=7)).lower(params, batch).compile()
    kernels = 7 * params["l"].size * 8
    memory = compiled.memory_analysis()
    # The kernel's gradient of one layer is what a position count above half of its size asks for; never all at once.
    assert memory is None or memory.temp_size_in_bytes < 3 * kernels


def test_cosines_between_groups(x64):
    batch, params = images(), draw(NETWORKS["dense"][1])
    stacked = group_gradients(dense, params, batch._replace(group=batch.group + (np.arange(N) == 2)), num_groups=4)
    rows = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(stacked)], 1)
    found = gradient_cosines(stacked)
    length = np.asarray(norms(stacked))
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(found, rows @ rows.T / np.outer(length, length), rtol=1e-10, atol=1e-12)
    assert np.isnan(found[3]).all()

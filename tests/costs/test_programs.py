"""FLOPs and memory against closed forms."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxprune import costs, models
from jaxprune.models.conv import convolve
from jaxprune.networks import as_network


def mlp(params, x):
    hidden = jax.nn.relu(x @ params["first"] + params["bias"])
    return hidden @ params["last"] + params["end"]


def shapes(**of):
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in of.items()}


MLP = shapes(first=(10, 20), bias=(20,), last=(20, 3), end=(3,))
# Products, and one FLOP for each bias and each relu.
MLP_FLOPS = 2 * 10 * 20 + 20 + 20 + 2 * 20 * 3 + 3


@pytest.mark.parametrize("batch", [1, 8])
def test_flops_of_an_mlp(batch):
    x = jax.ShapeDtypeStruct((batch, 10), jnp.float32)
    assert costs.flops_of(mlp, MLP, (), x) == batch * MLP_FLOPS


@pytest.mark.parametrize(
    ("stride", "window", "channels"), [(1, 3, (8, 5)), (2, 3, (3, 4)), (1, 1, (6, 7)), (1, 3, (40, 33))]
)
def test_flops_of_a_convolution_whatever_form_it_runs_in(stride, window, channels):
    """Of the form in C++ nothing is known, and Winograd's multiplies less often: neither is counted."""
    x = jax.ShapeDtypeStruct((1, 10, 12, channels[0]), jnp.float32)
    params = shapes(kernel=(window, window, *channels))
    network = as_network(lambda params, x: convolve(x, params["kernel"], stride=stride).sum((1, 2)))
    height, width = (10 - window) // stride + 1, (12 - window) // stride + 1
    products = 2 * height * width * window**2 * channels[0] * channels[1]
    flops = costs.flops_of(network, params, (), x)
    assert products < flops <= products + 3 * height * width * channels[1]  # and the sums of the pixels


def test_products_with_padding_are_not_counted():
    x = jax.ShapeDtypeStruct((1, 4, 4, 8), jnp.float32)
    params = shapes(kernel=(3, 3, 8, 8))
    flops = costs.flops_of(as_network(lambda p, x: convolve(x, p["kernel"], padding=1)), params, (), x)
    inside = (4 * 3 - 2) ** 2  # pairs of a pixel and a place of the window that lies in the image, of both axes
    assert flops == 2 * inside * 8 * 8


def test_plain_convolutions_are_xla_s_own():
    x, kernel = jnp.ones((1, 6, 6, 40)), jnp.ones((3, 3, 40, 33))

    def lowered():
        return jax.jit(lambda x, kernel: convolve(x, kernel, padding=1)).lower(x, kernel).as_text()

    with models.plain_convolutions():
        assert "stablehlo.convolution" in lowered()
        assert "custom_call" not in lowered()
    if models.in_native_code():
        assert "custom_call" in lowered()


def test_a_network_is_run_and_its_memory_is_that_of_its_arrays_and_more():
    network = as_network(mlp)
    params = jax.tree.map(lambda s: jnp.full(s.shape, 0.1), MLP)
    x = jnp.ones((4, 10))
    forward = costs.compile_forward(network, params, (), x)
    assert jnp.allclose(forward.run(params, (), x), mlp(params, x))
    arrays = 4 * (10 * 20 + 20 + 20 * 3 + 3) + 4 * 40 + 4 * 4 * 3
    assert arrays <= forward.memory <= arrays + 4 * 4 * 4 * 20


def test_memory_holds_what_lies_between():
    """An array of a million numbers between two products cannot be avoided."""

    def wide(params, x):
        return lax.sort(x @ params["wide"], dimension=-1) @ params["wide"].T

    params = shapes(wide=(2, 1000))
    forward = costs.compile_forward(as_network(wide), params, (), jax.ShapeDtypeStruct((1000, 2), jnp.float32))
    assert forward.memory >= 4_000_000

"""The convolution against that of lax: in value and every derivative, over maps, in loops, in float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from jax import lax

from jaxprune import models
from jaxprune.models.conv import convolve, native, winograd

# (height, width), window, stride, padding, channels in, channels: each of the forms, and what is odd about a shape
SHAPES = {
    "same": ((5, 7), 3, 1, 1, 3, 4),
    "strided": ((9, 7), 3, 2, 1, 3, 4),
    "large stem": ((12, 11), 7, 2, 3, 3, 2),
    "pointwise": ((4, 5), 1, 1, 0, 3, 4),
    "pointwise strided": ((6, 5), 1, 2, 0, 3, 4),
    "even window": ((5, 5), 2, 1, 0, 3, 4),
    "pixels left over": ((7, 8), 3, 2, 0, 3, 4),
    "winograd": ((4, 6), 3, 1, 1, 40, 33),
}


def of_lax(x, kernel, *, stride, padding):
    return lax.conv_general_dilated(
        x, kernel, (stride,) * 2, [(padding,) * 2] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def operands(name, batch=2, dtype=np.float64):
    size, window, stride, padding, features_in, features = SHAPES[name]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batch, *size, features_in)).astype(dtype)
    kernel = rng.normal(size=(window, window, features_in, features)).astype(dtype) / window
    return x, kernel, {"stride": stride, "padding": padding}


def assert_alike(measure, x, kernel, options, tolerance=1e-9):
    """`measure(convolution)(x, kernel)` is the same for ours and for that of lax."""
    ours, theirs = (jax.jit(measure(partial(f, **options)))(x, kernel) for f in (convolve, of_lax))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs)


def gradients(convolution):
    return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolution(x, kernel))), (0, 1))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SHAPES)
def test_value_gradient_and_hessian_vector_product_are_those_of_lax(name):
    def measure(convolution):
        gradient = gradients(convolution)

        def all_of_them(x, kernel):
            along = (jnp.cos(x), kernel**2)
            return convolution(x, kernel), gradient(x, kernel), jax.jvp(gradient, (x, kernel), along)[1]

        return all_of_them

    assert_alike(measure, *operands(name))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["strided", "winograd"])
def test_reverse_over_reverse_and_linearised_gradients_are_those_of_lax(name):
    def measure(convolution):
        gradient = gradients(convolution)

        def all_of_them(x, kernel):
            norm = jax.grad(lambda x, kernel: sum(jnp.sum(g**2) for g in gradient(x, kernel)), (0, 1))
            return norm(x, kernel), jax.linearize(gradient, x, kernel)[1](x, kernel)

        return all_of_them

    assert_alike(measure, *operands(name))


# How x and the kernel are mapped: replicas, examples, perturbations of one of them, and both at once.
MAPS = {
    "replicas": lambda g: jax.vmap(g),
    "images alone": lambda g: lambda x, k: jax.vmap(g, (0, None))(x, k[0]),
    "kernels alone": lambda g: lambda x, k: jax.vmap(g, (None, 0))(x[0], k),
    "last axes": lambda g: lambda x, k: jax.vmap(g, (-1, -1))(jnp.moveaxis(x, 0, -1), jnp.moveaxis(k, 0, -1)),
    "nested": lambda g: lambda x, k: jax.vmap(lambda k: jax.vmap(g, (0, None))(x, k))(k),
    "more replicas than examples": lambda g: (
        lambda x, k: jax.vmap(g)(
            x.reshape(-1, 1, *x.shape[2:]), jnp.linspace(1, 2, 6)[:, None, None, None, None] * k[0]
        )
    ),
    "one for each example": lambda g: lambda x, k: jax.vmap(lambda x: g(x[None], k[0])[1])(x.reshape(-1, *x.shape[2:])),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mapped", MAPS)
def test_maps_give_what_those_of_lax_give(mapped):
    x, kernel, options = operands("strided", batch=6)
    x = x.reshape(2, 3, *x.shape[1:])
    assert_alike(lambda convolution: MAPS[mapped](gradients(convolution)), x, np.stack([kernel, 1 - kernel]), options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_chunks_that_do_not_divide_the_batch_change_nothing(batch, monkeypatch):
    monkeypatch.setattr(winograd, "_BYTES", 2 * 4 * 4 * 6 * (40 + 33) * 8)  # two images at a time
    assert_alike(gradients, *operands("winograd", batch=batch))


def test_the_fast_form_is_as_exact_as_float32_is():
    """Winograd's sums are rounded otherwise: the error must stay within a few times that of a plain convolution."""
    x, kernel, options = operands("winograd", batch=8)
    exact = np.asarray(of_lax_in_float64(x, kernel))
    single = x.astype(np.float32), kernel.astype(np.float32)
    errors = [np.abs(np.asarray(f(*single, **options)) - exact).max() for f in (convolve, of_lax)]
    scale = np.abs(exact).max()
    assert errors[0] < 2e-6 * scale
    assert errors[0] < 8 * errors[1]


def of_lax_in_float64(x, kernel):
    """The convolution by numpy: padded, then a sum over the window."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    return sum(padded[:, i : i + height, j : j + width] @ kernel[i, j] for i in range(3) for j in range(3))


def test_precision_that_is_asked_for_reaches_the_convolution():
    x, kernel, options = operands("strided", dtype=np.float32)
    with jax.default_matmul_precision("highest"):
        text = str(jax.make_jaxpr(partial(convolve, **options))(x, kernel))
    assert "highest" in text
    assert "highest" not in str(jax.make_jaxpr(partial(convolve, **options))(x, kernel))


def test_an_operand_of_lower_precision_is_raised_as_usual():
    x, kernel, options = operands("pointwise", dtype=np.float32)
    assert convolve(x.astype(jnp.bfloat16), kernel, **options).dtype == jnp.float32


def test_a_second_call_compiles_nothing():
    x, kernel, options = operands("strided", dtype=np.float32)
    compiled = jax.jit(gradients(partial(convolve, **options)))
    with compiles(1):
        for scale in (1, 2):
            compiled(scale * x, kernel)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_other_platforms_take_the_compilers_own_convolution(platform, monkeypatch):
    """Lowered for a platform that is not here: one convolution for each of the three, and no loop over replicas."""
    monkeypatch.setattr(native, "available", lambda: False)  # what is built for this processor cannot be exported
    x, kernel, options = operands("winograd", dtype=np.float32)
    x, kernel = np.stack([x, x]), np.stack([kernel, kernel])
    function = jax.jit(jax.vmap(jax.value_and_grad(lambda x, k: jnp.sum(convolve(x, k, **options) ** 2), (0, 1))))
    text = jax.export.export(function, platforms=[platform])(x, kernel).mlir_module()
    assert text.count("stablehlo.convolution") == 3
    assert "stablehlo.while" not in text
    assert "stablehlo.while" in jax.export.export(function, platforms=["cpu"])(x, kernel).mlir_module()


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
def test_the_networks_are_lowered_for_other_platforms(platform):
    network = models.build("mobilenet_v2", np.zeros((32, 32, 3), np.float32), 2, width=0.1)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((2, 32, 32, 3), np.float32)
    text = jax.export.export(jax.jit(network.freeze(stats).func), platforms=[platform])(stats, params, x).mlir_module()
    assert text.count("stablehlo.convolution") == 1 + 2 + 16 * 3 + 1

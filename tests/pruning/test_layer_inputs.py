"""Kernels and the moments of their inputs, against inputs written down by hand, in networks of several libraries."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from flax import nnx

from jaxprune import models
from jaxprune.pruning import input_grams, input_norms, kernels
from jaxprune.trees import leaf_names
from jaxprune.types import Batch

RNG = np.random.default_rng(0)


def batch_of(x, weight=None, group=None):
    n = len(x)
    weight = np.ones(n, np.float32) if weight is None else np.asarray(weight, np.float32)
    group = np.zeros(n, int) if group is None else np.asarray(group)
    return Batch(np.asarray(x, np.float32), np.zeros(n, int), group, weight)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def found(apply, params, x):
    return [(kernel.path, kernel.reduction_axes) for kernel in kernels(apply, params, x)]


def im2col(x, window, *, stride=1, padding=(0, 0), dilation=1):
    """Windows of [B, H, W, D] as rows, [B H' W', height width D], one pixel at a time."""
    x = np.pad(x, ((0, 0), padding, padding, (0, 0)))
    reach = [(size - 1) * dilation + 1 for size in window]
    rows = []
    for image in x:
        for i in range(0, image.shape[0] - reach[0] + 1, stride):
            for j in range(0, image.shape[1] - reach[1] + 1, stride):
                patch = image[i : i + reach[0] : dilation, j : j + reach[1] : dilation]
                rows.append(patch.reshape(-1))
    return np.array(rows)


def check_moments(apply, params, batch, expected):
    """Compare with inputs X [n, d] by path, every example weighing the same; `expected` has the columns' axes."""
    norms = dict(zip(leaf_names(params), jax.tree.leaves(input_norms(apply, params, batch, chunk_size=2)), strict=True))
    grams = input_grams(apply, params, batch, chunk_size=2)
    assert set(grams) == set(expected)
    for path, rows in expected.items():
        kernel, gram = grams[path]
        np.testing.assert_allclose(gram[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
        squares = np.broadcast_to(norms[path], kernel.shape)
        own = kernel.as_matrix(jnp.asarray(squares))[0]
        np.testing.assert_allclose(own, np.tile(np.mean(rows**2, 0)[:, None], own.shape[1]), rtol=1e-4, atol=1e-5)


def two_layers(params, x):
    return jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"]) @ params["second"].T


def dense_params():
    return {"first": {"kernel": normal(4, 5), "bias": normal(5)}, "second": normal(3, 5)}


def test_inputs_of_a_dense_network_are_those_written_down():
    params, x = dense_params(), normal(7, 4)
    assert found(two_layers, params, x) == [("first/kernel", (0,)), ("second", (1,))]
    hidden = np.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])
    check_moments(two_layers, params, batch_of(x), {"first/kernel": x, "second": hidden})
    norms = input_norms(two_layers, params, batch_of(x))
    assert norms["first"]["kernel"].shape == (4, 1)
    assert norms["second"].shape == (1, 5)
    np.testing.assert_array_equal(norms["first"]["bias"], [1.0])


def test_shapes_are_enough_to_find_kernels():
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), dense_params())
    x = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    assert found(two_layers, shapes, x) == [("first/kernel", (0,)), ("second", (1,))]


def test_examples_count_by_their_weight_and_padding_not_at_all():
    params, x, weight = dense_params(), normal(7, 4), np.array([1, 2, 0, 1, 0.5, 1, 0], np.float32)
    x[[2, 6]] = np.nan
    real = weight > 0
    norms = input_norms(two_layers, params, batch_of(x, weight), chunk_size=3)
    _, gram = input_grams(two_layers, params, batch_of(x, weight), chunk_size=3)["first/kernel"]
    w, rows = weight[real], x[real]
    np.testing.assert_allclose(norms["first"]["kernel"][:, 0], w @ rows**2 / w.sum(), rtol=1e-5)
    np.testing.assert_allclose(gram[0], (rows * w[:, None]).T @ rows / w.sum(), rtol=1e-5, atol=1e-6)


def test_groups_have_norms_of_their_own_people():
    params, x, group = dense_params(), normal(7, 4), np.array([0, 0, 2, 2, 2, 0, 0])
    norms = input_norms(two_layers, params, batch_of(x, group=group), num_groups=3, chunk_size=2)
    assert norms["first"]["bias"].shape == (3, 1)
    for g in (0, 2):
        expected = np.mean(x[group == g] ** 2, 0)
        np.testing.assert_allclose(norms["first"]["kernel"][g, :, 0], expected, rtol=1e-5)
    np.testing.assert_array_equal(norms["first"]["kernel"][1], np.zeros((4, 1)))


def test_a_kernel_that_is_used_twice_has_the_rows_of_both():
    params, x = {"k": normal(4, 4), "end": normal(4, 2)}, normal(6, 4)

    def apply(params, x):
        return jnp.tanh(x @ params["k"]) @ params["k"] @ params["end"]

    hidden = np.tanh(x @ params["k"])
    check_moments(apply, params, batch_of(x), {"k": np.concatenate([x, hidden]), "end": hidden @ params["k"]})


def test_a_kernel_and_its_transpose_have_no_input_in_common():
    params = {"k": normal(4, 5), "end": normal(4, 2)}
    assert found(lambda p, x: jnp.tanh(x @ p["k"]) @ p["k"].T @ p["end"], params, normal(1, 4)) == [("end", (0,))]


def test_lookups_sums_and_products_of_parameters_are_no_kernels():
    params = {"table": normal(9, 4), "scale": normal(4, 4), "left": normal(4, 2), "right": normal(2, 3)}

    def apply(params, x):
        h = jnp.sum(params["table"][x], 1) + jnp.sum(params["scale"], 0)
        return h @ (params["left"] @ params["right"])

    assert found(apply, params, np.zeros((2, 3), int)) == []


def test_kernels_are_found_in_calls_and_behind_reshapes():
    params = {"inner": normal(2, 2, 6), "outer": normal(3, 2, 5)}

    @jax.custom_vjp
    def product(x, k):
        return x @ k

    product.defvjp(lambda x, k: (x @ k, (x, k)), lambda kept, y: (y @ kept[1].T, kept[0].T @ y))

    @jax.checkpoint
    @jax.jit
    def inner(x, k):
        return jax.nn.relu(product(x, k.reshape(4, 6).astype(jnp.bfloat16)))

    def apply(params, x):
        return inner(x, params["inner"]) @ jnp.transpose(params["outer"], (1, 0, 2)).reshape(6, 5)

    x = normal(5, 4)
    assert found(apply, params, x) == [("inner", (0, 1)), ("outer", (0, 1))]
    hidden = np.maximum(np.asarray(x @ jnp.asarray(params["inner"].reshape(4, 6), jnp.bfloat16)), 0)
    own_order = hidden.reshape(5, 2, 3).swapaxes(1, 2).reshape(5, 6)
    check_moments(apply, params, batch_of(x), {"inner": x, "outer": own_order})


def test_a_loop_over_layers_is_not_entered():
    params = {"layers": normal(3, 4, 4), "end": normal(4, 2)}

    def apply(params, x):
        return jax.lax.scan(lambda h, k: (jnp.tanh(h @ k), None), x, params["layers"])[0] @ params["end"]

    assert found(apply, params, normal(1, 4)) == [("end", (0,))]


@pytest.mark.parametrize(
    ("window", "stride", "padding", "dilation"),
    [((3, 3), 1, (1, 1), 1), ((3, 2), 2, (0, 1), 1), ((2, 2), 1, (2, 0), 2), ((1, 1), 2, (0, 0), 1)],
)
def test_moments_of_a_convolution_are_those_of_its_windows(window, stride, padding, dilation):
    params, x = {"k": normal(3, *window, 2)}, normal(3, 6, 6, 2)

    def apply(params, x):  # OHWI, in no layout's usual order
        return jax.lax.conv_general_dilated(
            x,
            params["k"],
            (stride, stride),
            [padding, padding],
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "OHWI", "NHWC"),
        )

    rows = im2col(x, window, stride=stride, padding=padding, dilation=dilation)
    assert found(apply, params, x) == [("k", (1, 2, 3))]
    check_moments(apply, params, batch_of(x), {"k": rows})


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_convolution_has_inputs_for_each_group(groups):
    each = 4 // groups
    params, x = {"k": normal(3, 3, each, 8)}, normal(2, 5, 5, 4)

    def apply(params, x):
        return jax.lax.conv_general_dilated(
            x, params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )

    kernel, gram = input_grams(apply, params, batch_of(x))["k"]
    assert kernel.matrix_shape == (groups, 9 * each, 8 // groups)
    norms = input_norms(apply, params, batch_of(x))["k"]
    assert norms.shape == (3, 3, each, 8)
    for g in range(groups):
        rows = im2col(x[..., g * each : (g + 1) * each], (3, 3), padding=(1, 1))
        np.testing.assert_allclose(gram[g], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
        for output in range(g * 8 // groups, (g + 1) * 8 // groups):
            np.testing.assert_allclose(norms[..., output].reshape(-1), np.mean(rows**2, 0), rtol=1e-4, atol=1e-5)
    # The columns and outputs are those of the product itself.
    y = apply(params, x).reshape(-1, 8)
    matrix = np.asarray(kernel.as_matrix(jnp.asarray(params["k"])))
    rows = im2col(x[..., :each], (3, 3), padding=(1, 1))
    np.testing.assert_allclose(rows @ matrix[0], y[:, : 8 // groups], rtol=1e-4, atol=1e-5)


def test_matrices_return_to_the_shape_of_the_kernel():
    params = {"k": normal(3, 3, 2, 8)}

    def apply(params, x):
        return jax.lax.conv_general_dilated(
            x, params["k"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=2
        )

    (kernel,) = kernels(apply, params, normal(1, 5, 5, 4))
    np.testing.assert_array_equal(kernel.from_matrix(kernel.as_matrix(jnp.asarray(params["k"]))), params["k"])


def test_kernels_of_our_networks_in_the_order_of_use():
    image = np.zeros((8, 8, 2), np.float32)

    def of(name, **options):
        network, params, stats = models.create(name, jax.random.key(0), image, num_classes=3, **options)
        return found(network.freeze(stats), params, image[None])

    assert of("mlp", hidden=(5,)) == [("dense_0/kernel", (0,)), ("dense_1/kernel", (0,))]
    conv = [("conv_0/kernel", (0, 1, 2)), ("conv_1/kernel", (0, 1, 2))]
    assert of("convnet", channels=(3, 4), hidden=()) == [*conv, ("head/dense_0/kernel", (0,))]
    attention = [(f"layers/00/attention/{part}/kernel", (0,)) for part in ("query", "key", "value")]
    rest = [("layers/00/attention/out/kernel", (0, 1)), ("layers/00/fc1/kernel", (0,)), ("layers/00/fc2/kernel", (0,))]
    expected = [("embedding/kernel", (0,)), *attention, *rest, ("head/kernel", (0,))]
    assert of("vit", patch=4, features=8, depth=1, heads=2) == expected
    resnet = of("resnet20", width=0.25)
    assert len(resnet) == 20
    assert (resnet[0], resnet[-1]) == (("conv1/kernel", (0, 1, 2)), ("fc/kernel", (0,)))


def test_moments_of_our_convolutions_are_those_of_their_windows():
    x = normal(3, 6, 6, 2)
    options = {"channels": (3,), "hidden": ()}
    network, params, stats = models.create("convnet", jax.random.key(0), x[0], num_classes=3, **options)
    apply = network.freeze(stats)
    rows = im2col(x, (3, 3), padding=(1, 1))
    kernel, bias = (np.asarray(params["conv_0"][part]) for part in ("kernel", "bias"))
    y = np.maximum(rows @ kernel.reshape(-1, 3) + bias, 0).reshape(3, 3, 2, 3, 2, 3).max((2, 4)).reshape(3, -1)
    check_moments(apply, params, batch_of(x), {"conv_0/kernel": rows, "head/dense_0/kernel": y})


def test_depthwise_convolutions_are_found_though_they_are_computed_otherwise_here():
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    network = models.build("mobilenet_v2", np.zeros((32, 32, 3)), 2, width=0.1)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    by_path = {kernel.path: kernel for kernel in kernels(network.freeze(stats), params, image)}
    assert by_path["features/2/conv/1/0/kernel"].matrix_shape == (48, 9, 1)
    assert set(by_path) == {name for name in leaf_names(params) if name.endswith("kernel")}


class Linen(nn.Module):
    """A convolution, attention and a dense layer, in flax Linen."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x)).reshape(x.shape[0], -1, 4)
        x = nn.MultiHeadDotProductAttention(num_heads=2)(x, x)
        return nn.Dense(3)(x.mean(1))


def test_kernels_of_linen_and_their_inputs():
    x = normal(3, 6, 6, 2)
    params = Linen().init(jax.random.key(0), x)["params"]

    def apply(params, x):
        return Linen().apply({"params": params}, x)

    attention = "MultiHeadDotProductAttention_0"
    names = [f"{attention}/{part}/kernel" for part in ("query", "key", "value")]
    expected = [("Conv_0/kernel", (0, 1, 2)), *((name, (0,)) for name in names), (f"{attention}/out/kernel", (0, 1))]
    assert found(apply, params, x) == [*expected, ("Dense_0/kernel", (0,))]
    rows = im2col(np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0))), (3, 3), stride=2)
    _, gram = input_grams(apply, params, batch_of(x))["Conv_0/kernel"]
    np.testing.assert_allclose(gram[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)


def test_kernels_of_nnx_and_their_inputs():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.conv = nnx.Conv(2, 3, (3, 3), padding="VALID", rngs=rngs)
            self.dense = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x):
            return self.dense(jnp.tanh(self.conv(x)).mean((1, 2)))

    network, params, stats = models.from_nnx(Net(nnx.Rngs(0)))
    x = normal(3, 5, 5, 2)
    rows = im2col(x, (3, 3))
    kernel, bias = (np.asarray(params["conv"][part]) for part in ("kernel", "bias"))
    hidden = np.tanh(rows @ kernel.reshape(-1, 3) + bias).reshape(3, -1, 3).mean(1)
    check_moments(network.freeze(stats), params, batch_of(x), {"conv/kernel": rows, "dense/kernel": hidden})


def test_kernels_of_equinox_and_their_inputs():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        conv: eqx.nn.Conv2d
        dense: eqx.nn.Linear

        def __call__(self, x):
            return self.dense(jnp.tanh(self.conv(x)).mean((1, 2)))

    keys = jax.random.split(jax.random.key(0))
    net = Net(eqx.nn.Conv2d(2, 3, 3, key=keys[0]), eqx.nn.Linear(3, 2, key=keys[1]))
    network, params, stats = models.from_callable(net)
    apply, x = network.freeze(stats), normal(3, 2, 5, 5)
    assert [axes for _, axes in found(apply, params, x)] == [(1, 2, 3), (1,)]
    rows = im2col(x.transpose(0, 2, 3, 1), (3, 3)).reshape(-1, 9, 2).swapaxes(1, 2).reshape(-1, 18)  # OIHW
    weight, bias = np.asarray(net.conv.weight), np.asarray(net.conv.bias)
    hidden = np.tanh(rows @ weight.reshape(3, -1).T + bias[:, 0, 0]).reshape(3, -1, 3).mean(1)
    conv, dense = (kernel.path for kernel in kernels(apply, params, x))
    check_moments(apply, params, batch_of(x), {conv: rows, dense: hidden})


def test_replicas_have_inputs_of_their_own_and_nothing_is_compiled_twice():
    x = normal(6, 6, 6, 1)
    options = {"channels": (3,), "hidden": ()}
    keys = jax.random.split(jax.random.key(0), 2)
    network, params, stats = models.create("convnet", keys, x[0], num_classes=2, **options)
    apply, batch = network.freeze(stats), batch_of(x)

    @jax.jit
    @jax.vmap
    def both(params):
        grams = {path: gram for path, (_, gram) in input_grams(apply, params, batch).items()}
        return input_norms(apply, params, batch), grams

    norms, grams = both(params)
    for r in range(2):
        own = jax.tree.map(lambda leaf, r=r: leaf[r], params)
        alone = input_norms(apply, own, batch)
        jax.tree.map(
            lambda a, b, r=r: np.testing.assert_allclose(np.broadcast_to(a[r], b.shape), b, rtol=1e-5, atol=1e-6),
            norms,
            alone,
        )
        for path, (_, gram) in input_grams(apply, own, batch).items():
            np.testing.assert_allclose(grams[path][r], gram, rtol=1e-4, atol=1e-5)
    with compiles(0, of="moments"), compiles(0, of="means_of_squares"):
        input_norms(apply, own, batch)
        input_grams(apply, own, batch)

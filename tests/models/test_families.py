"""The networks, their layers against lax, and adapters against flax itself."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from flax import nnx

from jaxprune import auditing, losses, models, training
from jaxprune.errors import UserError
from jaxprune.models.layers import Conv, max_pool
from jaxprune.networks import Network
from jaxprune.types import Batch

IMAGES, CIFAR, IMAGENET = (8, 8, 1), (32, 32, 3), (224, 224, 3)
# Quick to compile; and one of each family, the others being longer ones of the same layers.
SMALL = {
    "mlp": {"hidden": ()},
    "convnet": {"channels": (3,), "hidden": ()},
    "resnet18": {"width": 1 / 32},
    "resnet34": {"width": 1 / 32},
    "resnet50": {"width": 1 / 32},
    "resnet20": {"width": 1 / 8},
    "resnet56": {"width": 1 / 8},
    "vgg19": {"width": 1 / 32, "dropout": 0.0},
    "mobilenet_v2": {"width": 1 / 8, "dropout": 0.0},
    "vit": {"features": 6, "depth": 1},
}
LARGER = {"vgg19": (32, 32, 1), "mobilenet_v2": (32, 32, 1)}  # where 8 pixels are too few
SLOW = ("resnet18", "resnet50", "resnet20", "vgg19", "mobilenet_v2", "vit")
LONG = ("resnet34", "resnet56")  # resnet18 and resnet20 with more of the same blocks
FAMILY = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW) + [pytest.mark.long] * (name in LONG))
    for name in models.NETWORKS
]


def count(params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def drawn(network: Network, seed=0):
    """Parameters for a network, drawn by numpy: the real start takes seconds to compile, and its biases are 0."""
    rng = np.random.default_rng(seed)
    shapes, _ = jax.eval_shape(network.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 3, leaf.dtype), shapes)


def images(n, shape=IMAGES, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)), jnp.float32)


# --- what holds for every model ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILY)
def test_every_model_keeps_the_contract(name):
    options, x = SMALL[name], images(5, LARGER.get(name, IMAGES))
    keys = jax.random.split(jax.random.key(1), 3)
    network, stacked, stats = models.create(name, keys, x[0], num_classes=4, **options)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(stacked))
    leaves = jax.tree_util.tree_leaves_with_path(stacked)
    kernels = [leaf for path, leaf in leaves if "kernel" in jax.tree_util.keystr(path)]
    assert kernels
    assert all(not np.array_equal(kernel[0], kernel[1]) for kernel in kernels), "replicas begin alike"

    # R keys give what R single creations give.
    create = jax.jit(lambda key: models.create(name, key, x[0], num_classes=4, **options)[1:])
    singles = [create(key)[0] for key in keys]
    jax.tree.map(lambda a, *b: np.testing.assert_allclose(a, np.stack(b), rtol=1e-6, atol=1e-7), stacked, *singles)

    params, stats = singles[0], jax.tree.map(lambda leaf: leaf[0], stats)
    logits, after = jax.jit(network.apply, static_argnums=3)(params, stats, x, True)
    assert logits.shape == (5, 4)
    assert logits.dtype == jnp.float32
    assert jax.tree.structure(after) == jax.tree.structure(stats)
    frozen = jax.jit(network.freeze(stats))
    logits = logits if not jax.tree.leaves(stats) else frozen(params, x)  # normalised by other moments
    np.testing.assert_allclose(frozen(params, x), logits, rtol=1e-5, atol=1e-6)
    # Each example by itself: the others in the batch are no matter.
    np.testing.assert_allclose(frozen(params, x[2:3]), logits[2:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", FAMILY)
def test_every_model_learns(name):
    size = 16 if name in LARGER else 64
    x = images(size, LARGER.get(name, IMAGES))
    y = (x.mean((1, 2, 3)) > 0).astype(jnp.int32)
    network, tx = models.build(name, x[0], 2, **SMALL[name]), optax.adam(1e-2)
    step = training.make_step(network, losses.cross_entropy, tx)
    batch = Batch(x, y, y, jnp.ones(size))
    params, stats = (drawn(network), {}) if name in ("mlp", "convnet") else jax.jit(network.init)(jax.random.key(0))
    state = training.init_state(params, tx, stats)
    _, logs = training.fit(step, state, batch, key=jax.random.key(2), epochs=60, batch_size=size)
    assert logs["loss"][-1] < 0.5 * logs["loss"][0]


@pytest.mark.parametrize(
    ("name", "sample", "classes", "options", "parameters"),
    [
        ("mlp", (100,), 2, {}, (100 * 64 + 64) + (64 * 64 + 64) + (64 * 2 + 2)),
        ("mlp", (3, 4, 2), 5, {"hidden": (7,)}, (24 * 7 + 7) + (7 * 5 + 5)),
        ("mlp", (10,), 3, {"hidden": ()}, 10 * 3 + 3),
        (
            "convnet",
            IMAGES,
            10,
            {},
            # Two convolutions of 3x3; two poolings leave 2x2 pixels of 32 channels; dense 64, 32, 10.
            (9 * 16 + 16) + (9 * 16 * 32 + 32) + (128 * 64 + 64) + (64 * 32 + 32) + (32 * 10 + 10),
        ),
        # As many as the reference networks with a thousand classes have.
        ("resnet18", IMAGENET, 1000, {}, 11_689_512),
        ("resnet34", IMAGENET, 1000, {}, 21_797_672),
        ("resnet50", IMAGENET, 1000, {}, 25_557_032),
        ("vgg19", IMAGENET, 1000, {}, 143_678_248),
        ("mobilenet_v2", IMAGENET, 1000, {}, 3_504_872),
        ("vit", IMAGENET, 1000, {"patch": 16, "depth": 12}, 5_717_416),  # DeiT-Ti
        # Table 6 of He et al. (2016) gives 0.27 M and 0.85 M.
        ("resnet20", CIFAR, 10, {}, 269_722),
        ("resnet20", CIFAR, 10, {"shortcut": "projection"}, 272_474),
        ("resnet56", CIFAR, 10, {}, 853_018),
        # 7 -> 3 and 5 -> 2 pixels.
        ("convnet", (7, 5, 2), 3, {"channels": (4,), "hidden": ()}, (9 * 2 * 4 + 4) + (3 * 2 * 4 * 3 + 3)),
    ],
)
def test_parameters_are_as_many_as_the_layers_have(name, sample, classes, options, parameters):
    network = models.build(name, np.zeros(sample), classes, **options)
    params, _ = jax.eval_shape(network.init, jax.random.key(0))
    assert count(params) == parameters


def test_an_mlp_is_products_and_relus():
    x = images(3, (6,))
    network = models.build("mlp", x[0], 2, hidden=(5, 4))
    params = drawn(network)
    expected = np.asarray(x, np.float64)
    for i in range(3):
        layer = params[f"dense_{i}"]
        expected = np.maximum(expected, 0) if i else expected
        expected = expected @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)
    np.testing.assert_allclose(jax.jit(network.freeze({}))(params, x), expected, rtol=1e-5, atol=1e-6)


def test_a_convnet_is_convolutions_poolings_and_an_mlp():
    x = images(3, (9, 6, 2))
    network = models.build("convnet", x[0], 3, channels=(3, 4), hidden=(5,))

    @jax.jit
    def expected(params, x):
        for i in range(2):
            layer = params[f"conv_{i}"]
            x = jax.nn.relu(same_convolution(x, layer["kernel"]) + layer["bias"])
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        first, second = params["head"]["dense_0"], params["head"]["dense_1"]
        x = jax.nn.relu(x.reshape(3, -1) @ first["kernel"] + first["bias"])
        return x @ second["kernel"] + second["bias"]

    params = drawn(network)
    np.testing.assert_allclose(jax.jit(network.freeze({}))(params, x), expected(params, x), rtol=1e-4, atol=1e-5)


def test_kernels_begin_with_the_variance_of_he():
    _, params, _ = models.create("mlp", jax.random.key(0), np.zeros(400), num_classes=300, hidden=())
    kernel = np.asarray(params["dense_0"]["kernel"], np.float64)
    # The sample variance of n numbers of kurtosis below 3 is right to sqrt(2 / n), here 0.4 %; five of them.
    assert kernel.var() == pytest.approx(2 / 400, rel=5 * np.sqrt(2 / kernel.size))
    np.testing.assert_array_equal(params["dense_0"]["bias"], 0)


# --- compiled once -------------------------------------------------------------------------------------------------


def test_freezing_again_compiles_nothing_again():
    x = images(4)
    network, stats, traced = models.build("mlp", x[0], 2, hidden=(3,)), {}, []
    params = drawn(network)

    @jax.jit
    def logits(apply, params, x):
        traced.append(1)
        return apply(params, x)

    for scale in (1.0, 2.0):
        logits(network.freeze(stats), jax.tree.map(lambda p, s=scale: s * p, params), x)
    assert len(traced) == 1

    labels = jnp.zeros(4, jnp.int32)
    batch = Batch(x, labels, labels, jnp.ones(4))
    auditing.evaluate(network.freeze(stats), params, batch, num_groups=1)
    with compiles(0):
        auditing.evaluate(network.freeze(stats), params, batch, num_groups=1)


def test_frozen_statistics_are_arguments_and_not_constants():
    """With other statistics the same compiled program gives another result."""
    network = Network(init=None, apply=lambda params, stats, x, train: (params * x + stats["shift"], stats))
    logits = jax.jit(lambda apply, params, x: apply(params, x))
    for shift in (0.0, 3.0):
        found = logits(network.freeze({"shift": jnp.float32(shift)}), jnp.float32(2), jnp.ones((1, 1)))
        np.testing.assert_array_equal(found, [[2 + shift]])


# --- layers --------------------------------------------------------------------------------------------------------


def same_convolution(x, kernel):
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolutions(size, window):
    """Our convolution and that of lax, as functions of kernel and image, and a kernel and an image, all float64."""
    rng = np.random.default_rng(0)
    kernel, x = (jnp.asarray(rng.normal(size=shape)) for shape in ((window, window, 3, 4), (2, *size, 3)))
    bias = jnp.asarray(rng.normal(size=4))
    graph, _ = nnx.split(nnx.eval_shape(lambda: Conv(3, 4, window, rngs=nnx.Rngs(0))))

    def ours(kernel, x):
        return nnx.merge(graph, {"kernel": kernel, "bias": bias})(x)

    def theirs(kernel, x):
        return same_convolution(x, kernel) + bias

    return (ours, theirs), kernel, x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("size", "window"), [((1, 1), 3), ((5, 7), 3), ((1, 3), 5)])
def test_a_convolution_is_that_of_lax(size, window):
    both, kernel, x = convolutions(size, window)
    np.testing.assert_allclose(*(jax.jit(f)(kernel, x) for f in both), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_gradient_and_curvature_of_a_convolution_are_those_of_lax():
    both, kernel, x = convolutions((5, 4), 3)

    @partial(jax.jit, static_argnums=0)
    def gradient_and_curvature(convolve, kernel, x):
        def smooth(kernel, x):  # of the result, and with a Hessian that is not constant
            return jnp.sum(jnp.tanh(convolve(kernel, x)) ** 2)

        return jax.jvp(jax.grad(smooth, argnums=(0, 1)), (kernel, x), (kernel**2, jnp.cos(x)))

    results = [gradient_and_curvature(convolve, kernel, x) for convolve in both]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), *results)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (8, 8), (7, 4)])
def test_max_pooling_is_that_of_lax(size):
    x = images(2, (*size, 3))
    expected = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    np.testing.assert_array_equal(max_pool(x), expected)


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "options", "said"),
    [
        ("mpl", (4,), {}, ["model.name", "'mpl'", "'mlp'"]),
        ("mlp", (4,), {"channels": (3,)}, ["model.channels", "mlp", "hidden"]),
        ("convnet", IMAGES, {"depth": 3}, ["model.depth", "convnet", "channels, hidden"]),
        ("convnet", (100,), {}, ["convnet", "[100]", "images"]),
        ("convnet", (8, 8), {}, ["convnet", "[8, 8]"]),
        ("convnet", (3, 8, 1), {}, ["convnet", "at least 4 pixels", "[3, 8, 1]"]),
        ("resnet18", (100,), {}, ["resnet", "[100]", "images"]),
        ("vgg19", (8, 8, 1), {}, ["vgg19", "at least 32 pixels"]),
        ("resnet18", IMAGES, {"norm": "bach"}, ["model.norm", "'bach'", "'batch'"]),
        ("resnet18", IMAGES, {"stem": "big"}, ["model.stem", "small"]),
        ("vit", IMAGES, {"patch": 3}, ["model.patch", "8 x 8", "divisor"]),
        ("vit", IMAGES, {"heads": 5}, ["model.heads", "192", "divisor"]),
        ("convnet", (8, 8, 1), {"channels": (1, 1, 1, 1)}, ["at least 16 pixels"]),
    ],
)
def test_wrong_models_are_errors_that_help(name, shape, options, said):
    with pytest.raises(UserError) as error:
        models.create(name, jax.random.key(0), np.zeros(shape), num_classes=2, **options)
    assert "\n" not in str(error.value)
    for words in said:
        assert words in str(error.value)


def test_an_option_that_is_none_is_the_default():
    assert models.options_of("mlp", {"hidden": None, "channels": None}) == {"hidden": (64, 64)}
    assert models.options_of("convnet", {"hidden": (5,)}) == {"channels": (16, 32), "hidden": (5,)}

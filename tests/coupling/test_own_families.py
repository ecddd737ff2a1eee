"""The library's own families of networks: couplings by hand, and the compact network is the masked one."""

import functools
from collections import Counter
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from cuts import assert_equal, cast, couplings_of, random_keep
from foreign.registry import made_inputs, randomised

from jaxprune import models
from jaxprune.compat import enable_x64

pytestmark = pytest.mark.slow  # in every run of CI


class Family(NamedTuple):
    """A network of a family, small; `sizes` has how many couplings there are of each size."""

    model: str
    options: dict[str, Any]
    shape: tuple[int, ...]
    sizes: dict[int, int]


SMALL, LARGE = (8, 8, 3), (32, 32, 3)
FAMILIES = {
    "mlp": Family("mlp", {"hidden": (11, 13)}, (5,), {11: 1, 13: 1}),
    "convnet": Family("convnet", {"channels": (5, 7), "hidden": (11, 13)}, SMALL, {5: 1, 7: 1, 11: 1, 13: 1}),
    # the stream, and for each layer: heads, sizes of queries and of values, width of the perceptron
    "vit": Family("vit", {"patch": 4, "features": 12, "depth": 2, "heads": 3}, SMALL, {12: 1, 3: 2, 4: 4, 48: 2}),
    # inside of blocks 8, 16, 32, three each; the stream of 32 is 8 + 4 + 8 + 4 + 8, of which zeros pad all but one
    "resnet20": Family("resnet20", {"width": 0.5}, SMALL, {8: 6, 16: 3, 32: 3, 4: 2}),
    # three insides and a stream in each stage
    "resnet20 projection": Family("resnet20", {"width": 0.5, "shortcut": "projection"}, SMALL, {8: 4, 16: 4, 32: 4}),
    "resnet18": Family("resnet18", {"width": 0.125}, SMALL, {8: 3, 16: 3, 32: 3, 64: 3}),
    # 64 channels are 32 groups of 2; fewer channels are groups of one
    "resnet18 group": Family("resnet18", {"width": 0.125, "norm": "group"}, SMALL, {8: 3, 16: 3, 32: 6, 2: 3}),
    "vgg19": Family("vgg19", {"width": 0.0625, "dropout": 0.0}, LARGE, {4: 2, 8: 2, 16: 4, 32: 10}),
    "vgg19 large head": Family(
        "vgg19", {"width": 0.0625, "dropout": 0.0, "head": "large"}, LARGE, {4: 2, 8: 2, 16: 4, 32: 8, 256: 2}
    ),
    # streams 8 (of the first three stages), 8, 8, 16, 24, 40; sixfold where they enter a block; 1280 at the end
    "mobilenet_v2": Family(
        "mobilenet_v2",
        {"width": 0.125, "dropout": 0.0},
        LARGE,
        {8: 3, 16: 1, 24: 1, 40: 1, 48: 10, 96: 3, 144: 3, 1280: 1},
    ),
}
LONG = pytest.mark.long
EVERY_DAY = ("mlp", "convnet", "vit", "resnet20")


def marked(*every_day: str) -> list[Any]:
    """All families, of which these are compared every day."""
    return [name if name in every_day else pytest.param(name, marks=LONG) for name in FAMILIES]


@functools.cache
def family(name: str) -> tuple[Any, ...]:
    """The network, its random parameters and statistics, and inputs."""
    model, options, shape, _ = FAMILIES[name]
    network = models.build(model, np.zeros(shape), 3, **options)
    params, stats = jax.eval_shape(network.init, jax.random.key(0))
    return network, randomised(params, name), randomised(stats, name), made_inputs(name, (3, *shape))


def compare(name: str, dtype: type, **options: Any) -> None:
    """Cut 30 to 50 % of every coupling, and compare."""
    network, *arrays = family(name)
    params, stats, x = cast(arrays, dtype)
    couplings = couplings_of(network, params, stats, x)
    assert_equal(network, params, stats, x, random_keep(couplings, name), couplings, **options)


@pytest.mark.parametrize("name", FAMILIES)
def test_couplings_are_those_by_hand(name):
    network, params, stats, x = family(name)
    couplings = couplings_of(network, params, stats, x)
    assert Counter(coupling.size for coupling in couplings) == FAMILIES[name].sizes
    assert {type(coupling.size) for coupling in couplings} == {int}
    of_heads = {coupling.size for coupling in couplings if coupling.kind == "heads"}
    assert of_heads == ({3} if name == "vit" else set())
    # What cannot be cut are the inputs, the windows and the labels alone.
    for path, axis, _ in couplings.pinned:
        shape = dict(couplings.axes)[path]
        assert axis < len(shape) - 1 or shape[axis].size in (1, 3), (path, axis)


@pytest.mark.parametrize("name", marked(*EVERY_DAY))
def test_the_compact_network_is_the_masked_one(name):
    with enable_x64(True):
        compare(name, np.float64, within=1e-12, derivative=name == "mlp")


@pytest.mark.parametrize("name", marked("convnet"))
def test_the_compact_network_is_the_masked_one_in_float32(name):
    compare(name, np.float32, within=1e-5, derivative=False)


@pytest.mark.parametrize("name", marked("resnet20 projection"))
def test_training_is_that_of_the_masked_network(name):
    """Logits, and the new statistics, of a batch whose last example is padding."""
    with enable_x64(True):
        compare(name, np.float64, within=1e-12, train=True, derivative=False)


# Not VGG-19: in float64 as tests compile, the derivative of a maximum of the dense network is nan.
@pytest.mark.parametrize("name", [pytest.param(name, marks=LONG) for name in FAMILIES if "vgg" not in name])
def test_derivatives_are_those_of_the_masked_network(name):
    with enable_x64(True):
        compare(name, np.float64, within=1e-11, train=True, derivative=True)


@LONG
@pytest.mark.parametrize("name", EVERY_DAY)
def test_every_coupling_can_be_cut_to_one_channel_by_itself(name):
    network, *arrays = family(name)
    with enable_x64(True):
        params, stats, x = cast(arrays, np.float64)
        couplings = couplings_of(network, params, stats, x)
        for coupling in couplings:
            keep = {coupling.name: np.arange(coupling.size) == coupling.size // 2}
            assert_equal(network, params, stats, x, keep, couplings, within=1e-12, derivative=False)

"""Arguments that do not belong together: one line each."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprune import pruning
from jaxprune.errors import UserError
from jaxprune.networks import Network

X = np.ones((4, 5), np.float32)
PARAMS = {"up": np.ones((5, 8), np.float32), "down": np.ones((8, 2), np.float32)}
OTHER = {"up": np.ones((5, 6), np.float32), "down": np.ones((6, 2), np.float32)}


def apply(params, x):
    return jnp.tanh(x @ params["up"]) @ params["down"]


@pytest.fixture(scope="module")
def found():
    return pruning.couplings(apply, PARAMS, sample=X)


@pytest.fixture(scope="module")
def masks(found):
    return found.masks({"up[1]": np.arange(8) < 3}, PARAMS)


@pytest.mark.parametrize(
    ("network", "params", "sample", "fault"),
    [
        (apply, PARAMS, None, "sample: NoneType is no array"),
        (apply, PARAMS, [[1.0]], "sample: list is no array"),
        (apply, PARAMS, X[:, :4], r"sample of shape \[4, 4\] \(TypeError: .*"),
        (apply, {"across": X}, X, r"these parameters and the sample of shape \[4, 5\] \(KeyError: 'up'\)"),
        (lambda params, x: (apply(params, x), x), PARAMS, X, "it returns a tuple; it must return one array"),
        (lambda params, x: apply(PARAMS, x), {}, X, "it has no parameters with axes"),
        (Network(None, lambda p, s, x, train: (apply(p, x), {"m": X}), False), PARAMS, X, "statistics of another"),
    ],
)
def test_networks_and_their_arguments(network, params, sample, fault):
    with pytest.raises(UserError, match=fault) as raised:
        pruning.compact(network, params, masks=params, sample=sample)
    assert "\n" not in str(raised.value)


def test_masks_and_parameters_of_other_networks(found, masks):
    for params, wrong, fault in (
        (PARAMS, {"up": masks["up"]}, "masks: there is nothing for array down"),
        (PARAMS, {**masks, "further": X}, "masks: the network of the couplings has no array further"),
        (
            PARAMS,
            jax.tree.map(np.transpose, masks),
            r"masks: down is of shape \[2, 8\], and in the network of \[8, 2\]",
        ),
        (OTHER, masks, r"params: down is of shape \[6, 2\]"),
        (jax.tree.map(lambda leaf: np.stack([leaf] * 2), PARAMS), masks, r"params: down is of shape \[2, 8, 2\]"),
    ):
        with pytest.raises(UserError, match=fault):
            pruning.compact(apply, params, masks=wrong, sample=X, couplings=found)


def test_a_compact_network_takes_its_own_parameters(found, masks):
    smaller = pruning.compact(apply, PARAMS, masks=masks, sample=X, couplings=found)
    with pytest.raises(UserError, match=r"params: down is of shape \[8, 2\], and in the network of \[3, 2\]"):
        smaller.network.freeze(())(PARAMS, X)

"""The state of optimisers for smaller networks, against training the masked network."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import pruning
from jaxprune.coupling.compaction import cut
from jaxprune.errors import UserError

DECAYED = {"up": True, "bias": False, "down": True}
TRANSFORMATIONS = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "adamw, clipped, scheduled": optax.chain(
        optax.clip_by_global_norm(0.5), optax.adamw(optax.cosine_decay_schedule(0.1, 10), mask=DECAYED)
    ),
    "lion": optax.lion(0.01),
    "averaged": optax.chain(optax.adam(0.01), optax.ema(0.9)),
    "several steps": optax.MultiSteps(optax.adam(0.01), 2).gradient_transformation(),
    "parts": optax.multi_transform({"a": optax.adam(0.01), "b": optax.sgd(0.1)}, {"up": "a", "bias": "b", "down": "a"}),
    "without schedule": optax.contrib.schedule_free_adamw(0.01),
    "rmsprop": optax.rmsprop(0.01, momentum=0.9, centered=True),
}


def apply(params, x):
    return jnp.tanh(x @ params["up"] + params["bias"]) @ params["down"]


@pytest.fixture(scope="module")
def setting():
    rng = np.random.default_rng(0)
    shapes = {"up": (6, 7), "bias": (7,), "down": (7, 3)}
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in shapes.items()}
    x = jnp.asarray(rng.normal(size=(4, 6)), jnp.float32)
    couplings = pruning.couplings(apply, params, sample=x)
    masks = couplings.masks({"up[1]": np.array([1, 0, 1, 1, 0, 1, 0], bool)}, params)
    return pruning.apply_masks(params, masks), masks, couplings, x


def trained(step_apply, tx, params, state, x, steps):
    def loss(params):
        return jnp.mean((step_apply(params, x) - 1) ** 2)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params, state


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_training_goes_on_as_that_of_the_masked_network(setting, name):
    params, masks, couplings, x = setting
    tx = TRANSFORMATIONS[name]
    # For the masked network, weights are held at 0; what is cut of the smaller network needs no holding.
    held = optax.chain(tx, pruning.keep_masked(masks))
    before, (state, _) = trained(apply, held, params, held.init(params), x, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        smaller = pruning.compact(apply, before, masks=masks, sample=x, couplings=couplings, tx=tx, opt_state=state)
    assert [leaf.shape for leaf in jax.tree.leaves(smaller.opt_state)] == [
        leaf.shape for leaf in jax.tree.leaves(tx.init(smaller.params))
    ]
    after, _ = trained(apply, held, before, (state, held.init(params)[1]), x, 3)
    alone, _ = trained(smaller.network.freeze(()), tx, smaller.params, smaller.opt_state, x, 3)
    expected = cut(after, couplings.axes, smaller.kept)
    for path in expected:
        np.testing.assert_allclose(alone[path], expected[path], rtol=2e-5, atol=1e-6, err_msg=path)


def test_masks_in_the_state_are_cut(setting):
    params, masks, couplings, x = setting
    tx = optax.chain(optax.adam(0.1), pruning.keep_masked(masks))
    smaller = pruning.compact(
        apply, params, masks=masks, sample=x, couplings=couplings, tx=tx, opt_state=tx.init(params)
    )
    held = smaller.opt_state[1].masks
    assert {path: mask.shape for path, mask in held.items()} == {"up": (6, 4), "bias": (4,), "down": (4, 3)}
    assert all(bool(mask.all()) for mask in held.values())


def test_a_state_that_cannot_be_followed_starts_afresh_aloud(setting):
    params, masks, couplings, x = setting
    tx = optax.adafactor(0.1, min_dim_size_to_factor=5)  # factored for 7 channels, not for 4
    with pytest.warns(UserWarning, match="opt_state.*afresh"):
        smaller = pruning.compact(
            apply, params, masks=masks, sample=x, couplings=couplings, tx=tx, opt_state=tx.init(params)
        )
    assert jax.tree.structure(smaller.opt_state) == jax.tree.structure(tx.init(smaller.params))


def test_a_state_without_its_optimiser_is_refused(setting):
    params, masks, couplings, x = setting
    with pytest.raises(UserError, match="tx"):
        pruning.compact(apply, params, masks=masks, sample=x, couplings=couplings, opt_state=())

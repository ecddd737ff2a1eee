"""Adapters: networks of flax NNX, flax Linen and Equinox, and plain functions, against their own libraries."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx
from flax.core import freeze

from jaxprune import losses, models, training
from jaxprune.errors import UserError
from jaxprune.networks import as_network
from jaxprune.types import Batch


def images(n, shape=(8, 8, 1), seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)), jnp.float32)


UNIFORM = nnx.initializers.uniform(1.0)  # quicker to compile than the default


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(4, 6, kernel_init=UNIFORM, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.8, rngs=rngs)
        self.last = nnx.Linear(6, 3, kernel_init=UNIFORM, rngs=rngs)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.norm(self.first(x))))


class Dropped(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(4, 3, kernel_init=UNIFORM, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(x))


def used(module):
    """A module whose running moments are no longer those of the start."""
    module.train()
    module(images(9, (4,), seed=4) * 2 + 1)
    return module


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_nnx_module_with_running_moments_gives_what_flax_gives(mode):
    module, x = used(Normalised(nnx.Rngs(0))), images(7, (4,))
    getattr(module, mode)()  # whatever mode it is handed over in
    network, params, stats = models.from_nnx(module)
    assert set(params) == {"first", "norm", "last"}
    assert set(stats) == {"norm"}

    reference = nnx.clone(module)
    reference.eval()
    logits, unchanged = network.apply(params, stats, x, False)
    np.testing.assert_allclose(logits, reference(x), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, unchanged, stats)

    reference.train()
    logits, changed = network.apply(params, stats, x, True)
    np.testing.assert_allclose(logits, reference(x), rtol=1e-6)
    for name, moment in (("mean", reference.norm.mean), ("var", reference.norm.var)):
        np.testing.assert_allclose(changed["norm"][name], moment[...], rtol=1e-6)
        assert not np.array_equal(changed["norm"][name], stats["norm"][name])


def test_the_module_of_the_caller_stays_as_it_is():
    module = used(Normalised(nnx.Rngs(0)))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    network, params, stats = models.from_nnx(module)
    tx = optax.sgd(0.1)
    batch = Batch(images(6, (4,)), jnp.zeros(6, jnp.int32), jnp.zeros(6, jnp.int32), jnp.ones(6))
    state = training.init_state(params, tx, stats)
    step = training.make_step(network, losses.cross_entropy, tx)
    fitted, _ = training.fit(step, state, batch, key=jax.random.key(0), epochs=2, batch_size=3)
    jax.tree.map(np.testing.assert_array_equal, nnx.to_pure_dict(nnx.state(module)), before)
    assert not module.norm.use_running_average, "it was handed over in training mode"
    # And the training did something: to the parameters, and to the moments.
    for now, then in ((fitted.params, params), (fitted.stats, stats)):
        assert all(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(now), jax.tree.leaves(then), strict=True))


def test_init_of_an_adapted_module_gives_the_parameters_it_came_with():
    module = Normalised(nnx.Rngs(3))
    network, params, stats = models.from_nnx(module)
    module.last.bias[...] = jnp.full(3, 7.0)  # and not those that the caller gives the module later
    jax.tree.map(np.testing.assert_array_equal, network.init(jax.random.key(0)), (params, stats))


def test_dropout_draws_anew_at_every_training_step_and_not_in_evaluation():
    network, params, stats = models.from_nnx(Dropped(nnx.Rngs(0)))
    x = jnp.ones((200, 4))
    frozen = network.freeze(stats)(params, x)
    np.testing.assert_allclose(frozen, np.tile(frozen[:1], (200, 1)), rtol=1e-6)
    first, later = network.apply(params, stats, x, True)
    second, _ = network.apply(params, later, x, True)
    again, _ = network.apply(params, stats, x, True)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


def test_a_plain_function_is_a_network():
    network = as_network(lambda params, x: x @ params)
    logits, stats = network.apply(jnp.full((4, 2), 2.0), (), jnp.ones((3, 4)), True)
    np.testing.assert_array_equal(logits, np.full((3, 2), 8.0))
    assert stats == ()
    assert network.init is None
    assert as_network(network) is network


def test_the_default_statistics_suit_a_network_that_has_none():
    x = images(2, (3,))
    network = models.build("mlp", x[0], 2, hidden=())
    tx = optax.sgd(0.1)
    state = training.init_state(network.init(jax.random.key(0))[0], tx)
    step = training.make_step(network, losses.cross_entropy, tx)
    step(state, Batch(x, jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32), jnp.ones(2)))


class LinenNetwork(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.Dense(6)(x)
        x = linen.BatchNorm(use_running_average=not train, momentum=0.8)(x)
        x = linen.Dropout(0.5, deterministic=not train)(jax.nn.relu(x))
        return linen.Dense(3)(x)


def test_a_linen_module_gives_what_flax_gives():
    module, x = LinenNetwork(), images(7, (4,))
    variables = module.init(jax.random.key(0), x, train=False)
    key = jax.random.key(1)
    network, params, stats = models.from_linen(module, variables, rngs={"dropout": key})
    np.testing.assert_allclose(network.freeze(stats)(params, x), module.apply(variables, x, train=False), rtol=1e-6)

    logits, changed = network.apply(params, stats, x, True)
    drawn = jax.random.split(key)[0]
    expected, moments = module.apply(variables, x, train=True, rngs={"dropout": drawn}, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, expected, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, changed["batch_stats"], moments["batch_stats"])
    assert jax.tree.structure(changed) == jax.tree.structure(stats)
    again, _ = network.apply(params, changed, x, True)
    assert not np.array_equal(again, logits), "dropout draws anew"


def test_a_linen_module_is_trained_as_any_network():
    module, x = LinenNetwork(), images(12, (4,))
    y = jnp.asarray(np.arange(12) % 3)
    variables = freeze(module.init(jax.random.key(0), x, train=False))  # as older programs keep them
    network, params, stats = models.from_linen(module, variables, rngs={"dropout": jax.random.key(1)})
    assert {type(tree) for tree in (params, params["Dense_0"], stats, stats["batch_stats"])} == {dict}
    tx = optax.adam(0.05)
    state = training.init_state(params, tx, stats)
    step = training.make_step(network, losses.cross_entropy, tx)
    _, logs = training.fit(step, state, Batch(x, y, y, jnp.ones(12)), key=jax.random.key(2), epochs=40, batch_size=12)
    assert logs["loss"][-5:].mean() < 0.7 * logs["loss"][:5].mean()


class Told(linen.Module):
    @linen.compact
    def __call__(self, x, deterministic: bool = True):
        return linen.Dense(2)(x) * (1.0 if deterministic else 0.0)


class NotTold(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x)


@pytest.mark.parametrize(("module", "silent"), [(Told(), True), (NotTold(), False)])
def test_the_argument_for_training_is_found_by_its_name(module, silent):
    x = images(3, (4,))
    network, params, stats = models.from_linen(module, module.init(jax.random.key(0), x))
    assert not np.array_equal(network.apply(params, stats, x, False)[0], np.zeros((3, 2)))
    assert np.array_equal(network.apply(params, stats, x, True)[0], np.zeros((3, 2))) == silent


def test_variables_without_parameters_are_an_error():
    with pytest.raises(UserError, match="no 'params', only \\['batch_stats'\\]"):
        models.from_linen(LinenNetwork(), {"batch_stats": {}})


def test_an_equinox_module_gives_what_equinox_gives():
    equinox = pytest.importorskip("equinox")
    module, x = equinox.nn.MLP(4, 3, width_size=5, depth=2, key=jax.random.key(0)), images(6, (4,))
    network, params, stats = models.from_callable(module)
    assert sorted(params)[0] == "layers/0/bias"
    np.testing.assert_allclose(network.freeze(stats)(params, x), jax.vmap(module)(x), rtol=1e-6)

    def loss(apply, params):
        return jnp.sum(apply(params, x) ** 2)

    found = jax.grad(lambda params: loss(network.freeze(stats), params))(params)
    expected = equinox.filter_grad(lambda module: jnp.sum(jax.vmap(module)(x) ** 2))(module)
    np.testing.assert_allclose(found["layers/1/weight"], expected.layers[1].weight, rtol=1e-5)


@jax.tree_util.register_pytree_node_class
class Affine:
    def __init__(self, weight, power):
        self.weight, self.power = weight, power

    def __call__(self, x):
        return (x @ self.weight) ** self.power

    def tree_flatten(self):
        return (self.weight, self.power), None

    @classmethod
    def tree_unflatten(cls, _, leaves):
        return cls(*leaves)


def test_a_callable_pytree_that_takes_batches_keeps_what_is_not_trained():
    x = images(6, (4,))
    weight = jnp.asarray(np.random.default_rng(1).normal(size=(4, 2)), jnp.float32)
    network, params, stats = models.from_callable(Affine(weight, 2), batched=True)
    assert list(params) == ["0"]
    np.testing.assert_allclose(network.freeze(stats)(params, x), (x @ weight) ** 2, rtol=1e-6)


def test_a_pytree_without_parameters_is_an_error():
    with pytest.raises(UserError, match="no floating-point array"):
        models.from_callable(Affine(3, 2))

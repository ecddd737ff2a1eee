"""Statistics estimated anew, against numpy, and what they repair after pruning."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compiles
from flax import linen, nnx

from jaxprune import auditing, data, models, pruning, training
from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.networks import Network
from jaxprune.types import Batch


def examples(n: int, *shape: int, seed: int = 0) -> Batch:
    x = np.random.default_rng(seed).normal(3, 2, (n, *shape)).astype(np.float32)
    return Batch(x, np.zeros(n, np.int32), np.zeros(n, np.int32), np.ones(n, np.float32))


def mean_and_variance(x: np.ndarray, num_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """The mean of the moments of batches of every T-th example, weighted by examples, in float64."""
    parts = [x[t::num_batches].astype(np.float64).reshape(-1, x.shape[-1]) for t in range(num_batches)]
    share = [len(part) / sum(len(p) for p in parts) for part in parts]
    return (
        sum(s * part.mean(0) for s, part in zip(share, parts, strict=True)),
        sum(s * part.var(0) for s, part in zip(share, parts, strict=True)),
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
@pytest.mark.parametrize(("n", "batch_size"), [(8, 8), (11, 4), (3, 100)])
def test_they_are_the_moments_of_the_batches_weighted_by_examples(momentum, n, batch_size):
    layer = models.layers.BatchNorm(5, momentum=momentum, rngs=nnx.Rngs(0))
    network, params, stats = models.from_nnx(layer)
    stats = jax.tree.map(lambda s: s + 1e4, stats)  # of which nothing is remembered
    split = examples(n, 2, 3, 5)
    new = pruning.reestimate_statistics(network, params, stats, split, batch_size=batch_size)
    mean, variance = mean_and_variance(split.x, -(-n // batch_size))
    np.testing.assert_allclose(new["mean"], mean, rtol=2e-5)
    np.testing.assert_allclose(new["var"], variance, rtol=2e-5)


def test_padding_counts_nowhere():
    network, params, stats = models.from_nnx(models.layers.BatchNorm(2, rngs=nnx.Rngs(0)))
    real = examples(10, 2)
    x = np.stack([real.x, np.full_like(real.x, 1e6)], 1).reshape(20, 2)
    padded = examples(20, 2)._replace(x=x, weight=np.tile(np.float32([1, 0]), 10))
    new = pruning.reestimate_statistics(network, params, stats, padded, batch_size=10)
    np.testing.assert_allclose(new["mean"], real.x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new["var"], real.x.var(0), rtol=1e-5)


def test_one_batch_gives_the_logits_of_training_mode():
    split = examples(16, 8, 8, 1)
    network, params, stats = models.create("resnet20", jax.random.key(0), split.x[0], num_classes=3, width=0.25)
    new = pruning.reestimate_statistics(network, params, stats, split)
    expected, _ = network.train(params, stats, split)
    np.testing.assert_allclose(network.freeze(new)(params, split.x), expected, rtol=1e-3, atol=1e-4)
    assert jax.tree.structure(new) == jax.tree.structure(stats)


class Linen(linen.Module):
    """A foreign network, which knows no weights."""

    @linen.compact
    def __call__(self, x, train: bool):
        x = linen.BatchNorm(use_running_average=not train, momentum=0.95)(x)
        x = linen.Dropout(0.5, deterministic=not train)(x)
        return linen.BatchNorm(use_running_average=not train)(linen.Dense(3)(x))


def test_a_linen_network_with_dropout():
    module, split = Linen(), examples(24, 4)
    variables = module.init(jax.random.key(0), split.x, train=False)
    network, params, stats = models.from_linen(module, variables, rngs={"dropout": jax.random.key(1)})
    new = pruning.reestimate_statistics(network, params, stats, split, batch_size=12)
    mean, variance = mean_and_variance(split.x, 2)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["BatchNorm_0"]["var"], variance, rtol=1e-5)
    assert np.isfinite(new["batch_stats"]["BatchNorm_1"]["var"]).all()
    np.testing.assert_array_equal(new["_keys"]["dropout"], stats["_keys"]["dropout"])


def test_an_nnx_network_with_its_own_dropout(x64):
    """Its statistics hold typed keys and counters; and in float64 the moments are exact."""
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs))
    network, params, stats = models.from_nnx(module)
    stats["layers"][0] = jax.tree.map(lambda s: s.astype(jnp.float64), stats["layers"][0])
    split = examples(11, 4)
    split = split._replace(x=split.x.astype(np.float64))
    new = pruning.reestimate_statistics(network, params, stats, split, batch_size=11)
    np.testing.assert_allclose(new["layers"][0]["mean"], split.x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(new["layers"][0]["var"], split.x.var(0), rtol=1e-12)
    same = jax.tree.map(lambda a, b: bool(jnp.all(a == b)), new["layers"][1], stats["layers"][1])
    assert jax.tree.all(same)


def made_network(change) -> Network:
    return Network(None, lambda params, stats, x, train: (x, change(stats, x) if train else stats))


def test_counters_and_constants_are_left_as_they_are():
    network = made_network(
        lambda s, x: {
            "n": s["n"] + 1,
            "seen": s["seen"] + len(x),
            "fixed": s["fixed"],
            "m": 0.5 * s["m"] + 0.5 * x.mean(),
        }
    )
    stats = {"n": jnp.int32(7), "seen": jnp.float32(100), "fixed": jnp.array([1.1, 0.3]), "m": jnp.float32(9)}
    split = examples(6, 2)
    new = pruning.reestimate_statistics(network, {}, stats, split, batch_size=3)
    for name in ("n", "seen", "fixed"):
        np.testing.assert_array_equal(new[name], stats[name])
    np.testing.assert_allclose(new["m"], split.x.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        lambda s, x: s["u"] / jnp.linalg.norm(s["u"]),  # as of spectral normalisation
        lambda s, x: 0.9 * s["u"] ** 2 + 0.1 * x.mean(0),
        lambda s, x: 0.9 * s["u"][::-1] + 0.1 * x.mean(0),  # of another entry than its own
        lambda s, x: 1.5 * s["u"] + x.mean(0),
        lambda s, x: s["u"] / 2 + s["v"] / 4,  # of another statistic
    ],
)
def test_statistics_that_are_no_averages_are_refused_by_name(change):
    network = made_network(lambda s, x: {"u": change(s, x), "v": 0.9 * s["v"] + 0.1 * x.mean(0)})
    stats = {"u": jnp.ones(2), "v": jnp.ones(2)}
    with pytest.raises(UserError, match="stats: u is not a finite running average"):
        pruning.reestimate_statistics(network, {}, stats, examples(4, 2))


def test_networks_without_statistics_are_returned_unchanged():
    assert pruning.reestimate_statistics(lambda params, x: x @ params, jnp.eye(2), (), examples(4, 2)) == ()
    network, params, stats = models.create("mlp", jax.random.key(0), jnp.zeros(2), num_classes=2, hidden=(3,))
    assert pruning.reestimate_statistics(network, params, stats, examples(4, 2)) is stats


def test_mistakes_are_one_line():
    network, params, stats = models.from_nnx(nnx.BatchNorm(2, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="batch_size: 0 is less than 1"):
        pruning.reestimate_statistics(network, params, stats, examples(4, 2), batch_size=0)
    with pytest.raises(UserError, match="data: there are no examples"):
        pruning.reestimate_statistics(network, params, stats, examples(0, 2))
    with pytest.raises(UserError, match="data: every example has weight 0"):
        pruning.reestimate_statistics(network, params, stats, examples(4, 2)._replace(weight=np.zeros(4)))


def test_replicas_under_jit_equal_single_networks_and_compile_once():
    norm = nnx.Sequential(nnx.Linear(4, 5, rngs=nnx.Rngs(0)), nnx.BatchNorm(5, rngs=nnx.Rngs(0)))
    network, params, stats = models.from_nnx(norm)
    split = examples(11, 4)
    many = jax.tree.map(lambda p: jnp.stack([p, p + 0.5]), params)

    @jax.jit
    def both(params, stats):
        return jax.vmap(lambda p, s: pruning.reestimate_statistics(network, p, s, split, batch_size=4))(params, stats)

    together = both(many, jax.tree.map(lambda s: jnp.stack([s, s + 1]), stats))
    for i in range(2):
        alone = pruning.reestimate_statistics(
            network, jax.tree.map(lambda p, i=i: p[i], many), stats, split, batch_size=4
        )
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5), together, alone)
    with compiles(0, of="_estimate"):
        pruning.reestimate_statistics(network, params, stats, split, batch_size=4)


@pytest.mark.slow
def test_it_repairs_much_of_what_pruning_did_to_a_small_resnet():
    digits = data.load("digits")
    split = jax.tree.map(lambda a: a[:512], digits.train)
    network, params, stats = models.create("resnet20", jax.random.key(0), split.x[0], num_classes=10, width=0.25)
    tx = optax.adam(1e-2)
    step = training.make_step(network, cross_entropy, tx)
    state, _ = training.fit(
        step, training.init_state(params, tx, stats), split, key=jax.random.key(1), epochs=8, batch_size=64
    )
    params, _ = pruning.prune(state.params, 0.7, criterion=pruning.magnitude(), allocation=pruning.layerwise_masks)

    def loss(params, stats) -> float:
        return float(auditing.evaluate(network.freeze(stats), params, digits.test, num_groups=10).overall_loss)

    new = pruning.reestimate_statistics(network, params, state.stats, split, batch_size=128)
    dense, stale, repaired = loss(state.params, state.stats), loss(params, state.stats), loss(params, new)
    assert repaired - dense < 0.5 * (stale - dense)

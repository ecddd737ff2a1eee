"""Compact networks in use: trained, explained, pruned again, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxprune import losses, models, pruning, theory, training
from jaxprune.coupling.compaction import cut, kept_of_replicas, smaller_network
from jaxprune.errors import UserError
from jaxprune.types import Batch

N = 12


@pytest.fixture(scope="module")
def convnet():
    network, params, stats = models.create(
        "convnet", jax.random.key(0), jnp.zeros((8, 8, 3)), num_classes=3, channels=(6, 8), hidden=(10,)
    )
    keys = iter(jax.random.split(jax.random.key(1), 20))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(next(keys), leaf.shape), params)
    x = jax.random.normal(jax.random.key(2), (N, 8, 8, 3))
    data = Batch(x, jnp.arange(N) % 3, jnp.arange(N) % 2, jnp.ones(N))
    couplings = pruning.couplings(network, params, stats, sample=x)
    _, masks = pruning.prune(params, 0.0, criterion=pruning.magnitude())
    keep = {coupling.name: np.arange(coupling.size) % 3 != 1 for coupling in couplings}
    masks = couplings.masks(keep, params)
    smaller = pruning.compact(network, params, stats, masks, sample=x, couplings=couplings)
    return network, pruning.apply_masks(params, masks), stats, masks, couplings, smaller, data


def test_it_is_trained_by_the_same_step(convnet):
    network, params, stats, masks, couplings, smaller, data = convnet

    def trained(network, params, stats, tx):
        step = training.make_step(network, losses.cross_entropy, tx)
        state = training.TrainState(jnp.int32(0), params, stats, tx.init(params))
        for _ in range(3):
            state, _ = jax.jit(step)(state, data)
        return state.params

    tx = optax.sgd(0.1, momentum=0.9)
    masked = trained(network, params, stats, optax.chain(tx, pruning.keep_masked(masks)))
    alone = trained(smaller.network, smaller.params, smaller.stats, tx)
    for a, b in zip(jax.tree.leaves(cut(masked, couplings.axes, smaller.kept)), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_it_is_explained(convnet):
    network, params, stats, _, _, smaller, data = convnet
    of_masked = theory.group_gradient_norms(network.freeze(stats), params, data, num_groups=2)
    of_smaller = theory.group_gradient_norms(smaller.network.freeze(smaller.stats), smaller.params, data, num_groups=2)
    # The gradient of a masked network has parts at what is cut; without them it is that of the smaller one.
    assert (np.asarray(of_smaller) <= np.asarray(of_masked) * (1 + 1e-5)).all()
    values = theory.group_top_eigenvalues(
        smaller.network.freeze(smaller.stats), smaller.params, data, num_groups=2, key=jax.random.key(0)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(values))


def test_it_is_pruned_and_compacted_again(convnet):
    *_, smaller, data = convnet
    network, params, stats = smaller.network, smaller.params, smaller.stats
    again = pruning.couplings(network, params, stats, sample=data.x)
    assert [c.name for c in again] == [c.name for c in smaller.couplings]
    assert [c.size for c in again] == [len(smaller.kept[c.name]) for c in again]
    masks = again.masks({c.name: np.arange(c.size) != 0 for c in again}, params)
    smallest = pruning.compact(network, params, stats, masks, sample=data.x, couplings=again)
    masked = network.freeze(stats)(pruning.apply_masks(params, masks), data.x)
    np.testing.assert_allclose(smallest.network.freeze(stats)(smallest.params, data.x), masked, rtol=1e-5, atol=1e-6)


def test_other_batch_sizes_and_half_precision_are_traced_anew(convnet):
    network, params, stats, _, _, smaller, data = convnet
    for x in (data.x[:1], data.x[:5]):
        expected = network.freeze(stats)(params, x)
        np.testing.assert_allclose(
            smaller.network.freeze(smaller.stats)(smaller.params, x), expected, rtol=1e-4, atol=1e-5
        )
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), (smaller.params, data.x))
    assert smaller.network.freeze(smaller.stats)(*half).dtype == jnp.bfloat16


def test_replicas_keep_other_channels_in_one_program(convnet):
    network, params, stats, _, couplings, _, data = convnet
    rng = np.random.default_rng(0)
    keep = {c.name: np.stack([rng.permutation(c.size) < n for n in (c.size // 2, c.size // 2 + 1)]) for c in couplings}
    kept = kept_of_replicas(keep)
    assert {name: places.shape for name, places in kept.items()} == {c.name: (2, c.size // 2 + 1) for c in couplings}
    masked = jax.vmap(lambda keep: pruning.apply_masks(params, couplings.masks(keep, params)))(keep)
    small = jax.vmap(lambda params, kept: cut(params, couplings.axes, kept))(masked, kept)
    counts = {name: places.shape[1] for name, places in kept.items()}
    apply = smaller_network(network, params, stats, couplings, counts).freeze(stats)
    both = jax.jit(jax.vmap(apply, (0, None)))(small, data.x)
    for r in (0, 1):
        expected = network.freeze(stats)(jax.tree.map(lambda leaf, r=r: leaf[r], masked), data.x)
        np.testing.assert_allclose(both[r], expected, rtol=1e-4, atol=1e-5)


def test_costs_are_those_of_the_smaller_arrays(convnet):
    *_, couplings, smaller, _ = convnet
    counts = {name: len(places) for name, places in smaller.kept.items()}
    assert couplings.parameters(counts) == sum(leaf.size for leaf in jax.tree.leaves(smaller.params))
    # Convolutions of 3x3 at 8x8 and 4x4 places and two dense layers, by hand: multiplications and additions.
    a, b, c = (counts[name] for name in [coupling.name for coupling in couplings])
    pixels = smaller.params["head"]["dense_0"]["kernel"].shape[0] // b
    by_hand = 2 * N * (64 * 9 * 3 * a + 16 * 9 * a * b + pixels * b * c + c * 3)
    assert couplings.flops(counts) == by_hand


def test_an_untrained_smaller_network_can_start(convnet):
    *_, smaller, data = convnet
    params, stats = smaller.network.init(jax.random.key(3))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, smaller.params)
    assert smaller.network.freeze(stats)(params, data.x).shape == (N, 3)


def test_filter_pruning_without_biases_is_refused(convnet):
    network, params, stats, masks, couplings, _, data = convnet
    kept_biases = jax.tree.map(lambda mask: mask if mask.ndim > 1 else jnp.ones_like(mask), masks)
    with pytest.raises(UserError, match=r"channel 1 of conv_0/kernel\[3\].*conv_0/bias"):
        pruning.compact(network, params, stats, kept_biases, sample=data.x, couplings=couplings)


def test_masks_without_a_whole_channel_are_refused(convnet):
    network, params, stats, _, couplings, _, data = convnet
    _, single = pruning.prune(params, 0.3, criterion=pruning.random(), key=jax.random.key(0))
    with pytest.raises(UserError, match="no channel whole"):
        pruning.compact(network, params, stats, single, sample=data.x, couplings=couplings)


def test_a_layer_that_is_pruned_whole_is_refused(convnet):
    network, params, stats, _, couplings, _, data = convnet
    first = couplings[0]
    masks = couplings.masks({first.name: np.zeros(first.size, bool)}, params)
    with pytest.raises(UserError, match=r"every channel of conv_0/kernel\[3\]"):
        pruning.compact(network, params, stats, masks, sample=data.x, couplings=couplings)


def test_unknown_couplings_list_their_neighbours(convnet):
    _, params, _, _, couplings, _, _ = convnet
    with pytest.raises(UserError, match=r"conv_0/kernel\[3\]"):
        couplings["conv_0/kernel[2]"]
    with pytest.raises(UserError, match="8 channels"):
        couplings.masks({couplings[1].name: np.ones(5, bool)}, params)


def test_what_is_excluded_stays(convnet):
    network, params, stats, *_, data = convnet
    found = pruning.couplings(network, params, stats, sample=data.x, exclude="conv_1/*")
    assert [coupling.name for coupling in found] == ["head/dense_0/kernel[1]"]
    with pytest.raises(UserError, match="conv_1/kernel"):
        pruning.couplings(network, params, stats, sample=data.x, exclude=["conv_1/kernal"])


def test_what_is_of_another_network_is_refused(convnet):
    network, params, _, masks, couplings, _, data = convnet
    with pytest.raises(UserError, match=r"counts: .*6 channels, and 7"):
        couplings.flops({"conv_0/kernel[3]": 7})
    with pytest.raises(UserError, match=r"conv_0/kernel\[3\]"):
        couplings.parameters({"conv_0/kernel": 3})
    with pytest.raises(UserError, match=r"masks: there is nothing for array conv_0/bias"):
        couplings.keep({"w": np.ones(3, bool)})
    with pytest.raises(UserError, match=r"params: there is nothing for array conv_0/bias"):
        couplings.masks({}, {"w": np.ones(3)})
    with pytest.raises(UserError, match=r"stats: .*extra"):
        pruning.compact(network, params, {"extra": jnp.ones(2)}, masks, sample=data.x, couplings=couplings)


def test_a_sample_that_is_no_batch_is_refused():
    params = {"w": jnp.ones((4, 3)), "v": jnp.ones((3, 2))}
    with pytest.raises(UserError, match=r"sample: .*not of a batch"):
        pruning.couplings(lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"], params, sample=jnp.ones(4))
    with pytest.raises(UserError, match=r"network: it fails .*\[2, 5\]") as error:
        pruning.couplings(lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"], params, sample=jnp.ones((2, 5)))
    assert "\n" not in str(error.value)


def test_a_reason_names_the_line_of_the_user():
    def normalised(params, x):
        hidden = x @ params["up"]
        hidden = hidden - hidden.mean(-1, keepdims=True)
        return (hidden / (1 + jnp.square(hidden).sum(-1, keepdims=True))) @ params["down"]

    params = {"up": jnp.ones((4, 6)), "down": jnp.ones((6, 3))}
    found = pruning.couplings(normalised, params, sample=jnp.ones((2, 4)))
    reasons = {(pinned.path, pinned.axis): pinned.reason for pinned in found.pinned}
    assert "sum at test_compaction.py:" in reasons["up", 1]
    assert "normalised)" in reasons["up", 1]


def test_shapes_that_depend_on_values_are_one_line():
    params = {"w": jnp.ones((4, 4))}
    with pytest.raises(UserError, match="cannot be traced") as error:
        pruning.couplings(lambda p, x: x[x > 0] @ p["w"], params, sample=jnp.ones((2, 4)))
    assert "\n" not in str(error.value)


def test_parameters_that_the_function_holds_are_named():
    held = jnp.arange(24.0).reshape(4, 6)
    params = {"down": jnp.ones((6, 3))}
    found = pruning.couplings(lambda p, x: (x @ held) @ p["down"], params, sample=jnp.ones((2, 4)))
    assert len(found) == 0
    assert any("holds the array" in pinned.reason for pinned in found.pinned)
    masks = {"down": jnp.ones((6, 3), bool).at[0].set(False)}
    with pytest.raises(UserError, match=r"nothing of it can be cut.*holds the array"):
        pruning.compact(lambda p, x: (x @ held) @ p["down"], params, masks=masks, sample=jnp.ones((2, 4)))

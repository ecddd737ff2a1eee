"""Networks that jaxprune has never seen: couplings by hand, pins, and the compact network is the masked one."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from cuts import apply_masks, assert_equal, cast, couplings_of, far, random_keep
from foreign import NETWORKS, Foreign

from jaxprune import pruning
from jaxprune.compat import enable_x64
from jaxprune.coupling.compaction import cut, kept_of_replicas, smaller_network
from jaxprune.errors import UserError

pytestmark = pytest.mark.slow  # in every run of CI

# Of which derivatives are compared every day: rules of their own, loops, calls and branches.
WITH_DERIVATIVES = (
    *("branch", "custom_jvp", "custom_jvp_with_an_option", "custom_vjp", "custom_vjp_of_a_layer", "computed_again"),
    *("gradient_of_an_energy", "gru", "relu_at_zero", "scanned_layers", "shared_layer", "straight_through"),
    *("depthwise_multiplied", "grouped_queries", "own_outer_product", "one_pass_layer_norm", "weight_standardisation"),
)
NOTHING_TO_CUT = "initial_state_of_ones"
TRAINING = ("linen_residual", "linen_everything", "nnx_perceptron")
CUTTABLE = [name for name in NETWORKS if name != NOTHING_TO_CUT]


def compare(made: Foreign, dtype: type, *, within: float, train: bool = False, derivative: bool) -> None:
    """Cut 30 to 50 % of every coupling, and compare."""
    params, stats, x = cast((made.params, made.stats, made.x), dtype)
    couplings = couplings_of(made.network, params, stats, x)
    keep = random_keep(couplings, made.name)
    options = {"within": within, "train": train, "derivative": derivative and made.differentiable}
    assert_equal(made.network, params, stats, x, keep, couplings, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_couplings_are_those_by_hand(name):
    made = NETWORKS[name]()
    couplings = couplings_of(made.network, made.params, made.stats, made.x)
    assert Counter(coupling.size for coupling in couplings) == made.couplings
    assert len({coupling.name for coupling in couplings}) == len(couplings)
    reasons = {(pinned.path, pinned.axis): pinned.reason for pinned in couplings.pinned}
    assert set(made.pinned) <= set(reasons)
    assert all(len(reason.split()) > 2 for reason in reasons.values())


# CI takes every third; pytest -m long takes the others.
THIRD = [
    pytest.param(name, marks=[pytest.mark.slow if i % 3 == 0 else pytest.mark.long]) for i, name in enumerate(CUTTABLE)
]


@pytest.mark.parametrize("name", THIRD)
def test_the_compact_network_is_the_masked_one(name):
    with enable_x64(True):
        compare(NETWORKS[name](), np.float64, within=1e-12, derivative=name in WITH_DERIVATIVES)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_training_is_that_of_the_masked_network(name):
    """Logits, new statistics and gradients of what is kept."""
    assert NETWORKS[name]().trains
    with enable_x64(True):
        compare(NETWORKS[name](), np.float64, within=1e-12, train=True, derivative=True)


@pytest.mark.long
@pytest.mark.parametrize("name", CUTTABLE)
def test_float32_and_derivatives(name):
    compare(NETWORKS[name](), np.float32, within=1e-5, derivative=False)
    with enable_x64(True):
        compare(NETWORKS[name](), np.float64, within=1e-12, derivative=True)


@pytest.mark.long
@pytest.mark.parametrize("name", CUTTABLE)
def test_every_coupling_can_be_cut_to_one_channel_by_itself(name):
    made = NETWORKS[name]()
    with enable_x64(True):
        params, stats, x = cast((made.params, made.stats, made.x), np.float64)
        couplings = couplings_of(made.network, params, stats, x)
        for coupling in couplings:
            keep = {coupling.name: np.arange(coupling.size) == coupling.size // 2}
            assert_equal(made.network, params, stats, x, keep, couplings, within=1e-12, derivative=False)


@pytest.mark.parametrize("name", ["branch", "switch"])
def test_every_branch_is_that_of_the_masked_network(name):
    made = NETWORKS[name]()
    with enable_x64(True):
        params, x = cast((made.params, made.x), np.float64)
        couplings = couplings_of(made.network, params, (), x)
        masks = couplings.masks(random_keep(couplings, name), params)
        small = pruning.compact(made.network, params, (), masks, sample=x, couplings=couplings)
        masked, taken = jax.jit(made.network.freeze(())), jax.jit(small.network.freeze(()))
        inputs = [x, -x, x[::-1] * jnp.arange(1, 6), 1 - x]
        for each in inputs:
            assert far(masked(apply_masks(params, masks), each), taken(small.params, each)) < 1e-12


def test_a_network_of_which_nothing_can_be_cut_is_refused_in_one_line():
    made = NETWORKS[NOTHING_TO_CUT]()
    couplings = couplings_of(made.network, made.params, made.stats, made.x)
    assert len(couplings) == 0
    masks = jax.tree.map(lambda leaf: np.ones(leaf.shape, bool), made.params)
    with pytest.raises(UserError, match="nothing of it can be cut") as raised:
        pruning.compact(made.network, made.params, made.stats, masks, sample=made.x)
    assert "\n" not in str(raised.value)


def test_shapes_that_depend_on_values_are_refused_in_one_line():
    def apply(params, x):
        h = x @ params["w"]
        return h[jnp.nonzero(h[:, 0] > 0)[0]]

    with pytest.raises(UserError, match="cannot be traced") as raised:
        pruning.couplings(apply, {"w": jnp.ones((4, 3))}, sample=jnp.ones((2, 4)))
    assert "\n" not in str(raised.value)


def test_an_unknown_operation_is_named():
    made = NETWORKS["unknown_operation"]()
    pinned = couplings_of(made.network, made.params, made.stats, made.x).pinned
    reasons = {reason for path, axis, reason in pinned if (path, axis) == ("first/kernel", 1)}
    assert len(reasons) == 1
    assert "foreign_double" in reasons.pop()


@pytest.mark.parametrize("name", ["equal_widths", "grouped_queries", "own_outer_product", "nnx_perceptron", "lstm"])
def test_replicas_are_cut_by_one_program(name):
    """Three replicas with other channels each, and not equally many."""
    made, r = NETWORKS[name](), 3
    couplings = couplings_of(made.network, made.params, made.stats, made.x)
    keeps = [random_keep(couplings, f"{name} {i}", most=0.3 + 0.2 * i) for i in range(r)]
    keep = {name: np.stack([each[name] for each in keeps]) for name in keeps[0]}
    rng = np.random.default_rng(0)
    params, stats = (
        jax.tree.map(lambda leaf: jnp.asarray(np.stack([leaf * rng.uniform(0.7, 1.3) for _ in range(r)])), tree)
        for tree in (made.params, made.stats)
    )
    masks = jax.vmap(couplings.masks, in_axes=(0, None))(keep, made.params)
    masked = apply_masks(params, masks)
    kept = kept_of_replicas(keep)
    counts = {name: indices.shape[1] for name, indices in kept.items()}
    assert counts == {name: int(each.sum(1).max()) for name, each in keep.items()}
    network = smaller_network(made.network, made.params, made.stats, couplings, counts)
    smaller = jax.vmap(lambda tree, kept: cut(tree, couplings.axes, kept))(masked, kept)
    smaller_stats = jax.vmap(lambda tree, kept: cut(tree, couplings.stats_axes, kept))(stats, kept)

    def logits(network):
        return jax.jit(jax.vmap(lambda params, stats: network.apply(params, stats, made.x, False)[0]))

    assert far(logits(made.network)(masked, stats), logits(network)(smaller, smaller_stats)) < 1e-5


def test_a_second_call_compiles_nothing():
    made = NETWORKS["linen_residual"]()
    couplings = couplings_of(made.network, made.params, made.stats, made.x)
    masks = couplings.masks(random_keep(couplings, "second"), made.params)
    small = pruning.compact(made.network, made.params, made.stats, masks, sample=made.x, couplings=couplings)
    apply = jax.jit(lambda params, stats, x: small.network.apply(params, stats, x, False)[0])
    first = apply(small.params, small.stats, jnp.asarray(made.x))
    with compiles(0):
        again = apply(small.params, small.stats, jnp.asarray(made.x))
    np.testing.assert_array_equal(first, again)
    assert apply(small.params, small.stats, jnp.asarray(made.x[:2])).shape == (2, 3)

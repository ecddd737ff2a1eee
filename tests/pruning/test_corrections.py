"""Wanda by hand; SparseGPT and WoodFisher against exact constrained solutions in float64."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles

from jaxprune.compat import enable_x64
from jaxprune.losses import cross_entropy
from jaxprune.pruning import (
    apply_masks,
    input_grams,
    kernels,
    layerwise_masks,
    prune,
    sparsegpt,
    wanda,
    woodfisher,
    worst_group_wanda,
)
from jaxprune.pruning.criteria.sparsegpt import sparsegpt_scores, sweep
from jaxprune.pruning.criteria.woodfisher import correct_block
from jaxprune.types import Batch

pytestmark = pytest.mark.usefixtures("x64")


def batch_of(x, group=None, weight=None):
    n = len(x)
    y = np.arange(n) % 3
    group = np.zeros(n, int) if group is None else np.asarray(group)
    return Batch(x, y, group, np.ones(n) if weight is None else np.asarray(weight))


def correlated(rng, n, d):
    """Inputs with the correlations of a layer's: a few directions carry most of them."""
    return rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) * np.linspace(1, 0.1, d)[:, None]) + 0.3


def network(rng, d=6, hidden=5):
    return {
        "first": {"bias": jnp.asarray(rng.normal(size=hidden)), "kernel": jnp.asarray(rng.normal(size=(d, hidden)))},
        "second": {"kernel": jnp.asarray(rng.normal(size=(hidden, 3)))},
    }


def apply(params, x):
    return jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"]) @ params["second"]["kernel"]


def linear(params, x):
    return x @ params["kernel"]


# Wanda


def test_wanda_by_hand():
    params = {"kernel": jnp.array([[3.0, -1.0], [2.0, 4.0], [1.0, 0.5]])}
    x = np.array([[1.0, 2.0, -4.0], [-1.0, 2.0, 4.0]])  # root mean squares 1, 2, 4
    scores = wanda(per_output=False).score(params, apply=linear, batch=batch_of(x))
    np.testing.assert_allclose(scores["kernel"], [[3, 1], [4, 8], [4, 2]])
    ranks = wanda().score(params, apply=linear, batch=batch_of(x))
    np.testing.assert_allclose(ranks["kernel"] * 3 - 0.5, [[0, 0], [1, 2], [2, 1]], atol=1e-6)


def test_wanda_takes_the_same_share_of_every_output_and_leaves_of_no_input_go_by_size():
    rng = np.random.default_rng(0)
    params, x = network(rng), rng.normal(size=(20, 6))
    params["first"]["kernel"] *= 10.0 ** np.arange(
        5
    )  # of unlike outputs, where a common threshold would cut some whole
    scores = wanda().score(params, apply=apply, batch=batch_of(x))
    masks = layerwise_masks(scores, 0.5)
    np.testing.assert_array_equal(masks["first"]["kernel"].sum(0), np.full(5, 3))
    assert set(np.asarray(masks["second"]["kernel"].sum(0)).tolist()) <= {2, 3}
    order = np.argsort(np.abs(params["first"]["bias"]))
    np.testing.assert_array_equal(np.argsort(scores["first"]["bias"]), order)


def test_the_worst_group_of_wanda_is_the_one_with_the_largest_input():
    params = {"kernel": jnp.array([[1.0, 2.0], [1.0, 1.0]])}
    x = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.5, 3.0]])  # group 1 is one person, group 2 nobody
    evidence = {"apply": linear, "batch": batch_of(x, [0, 0, 0, 1]), "num_groups": 3}
    scores = worst_group_wanda(per_output=False).score(params, **evidence)
    np.testing.assert_allclose(scores["kernel"], [[1, 2], [3, 3]])


# SparseGPT


def hessian_of(x, damping):
    gram = x.T @ x / len(x)
    return gram + damping * np.mean(np.diag(gram)) * np.eye(x.shape[1])


def reference_sweep(w, kept, hessian):
    """The sweep over one output, with an explicit inverse of what is left at each step."""
    w = w.copy()
    for j in range(len(w)):
        inverse = np.linalg.inv(hessian[j:, j:])
        if not kept[j]:
            w[j:] -= w[j] / inverse[0, 0] * inverse[0]
            w[j] = 0
    return w


def least_squares(w, kept, hessian):
    """The kept weights that minimise (w' - w)ᵀ H (w' - w) with the others at 0."""
    best = np.zeros_like(w)
    best[kept] = np.linalg.solve(hessian[np.ix_(kept, kept)], hessian[kept] @ w)
    return best


def problem(seed, d=12, p=7, n=50):
    rng = np.random.default_rng(seed)
    x, w = correlated(rng, n, d), rng.normal(size=(d, p))
    params = {"kernel": jnp.asarray(w)}
    kernel, gram = input_grams(linear, params, batch_of(x))["kernel"]
    return x, w, kernel, gram


def test_scores_of_sparsegpt_are_those_of_the_inputs_left():
    x, w, kernel, gram = problem(0)
    hessian = hessian_of(x, 0.01)
    scores = sparsegpt_scores(jnp.asarray(w), kernel, gram, damping=0.01)
    inverse = np.array([np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(len(w))])
    np.testing.assert_allclose(scores, w**2 / inverse[:, None], rtol=1e-8)


@pytest.mark.parametrize("d", [12, 150])  # within one block of inputs, and over two
def test_the_sweep_is_that_of_the_paper(d):
    x, w, kernel, gram = problem(1, d=d, p=3, n=2 * d)
    kept = np.random.default_rng(2).random(w.shape) < 0.5
    swept = sweep(jnp.asarray(w), jnp.asarray(kept), kernel, gram, damping=0.01)
    hessian = hessian_of(x, 0.01)
    for output in range(w.shape[1]):
        expected = reference_sweep(w[:, output], kept[:, output], hessian)
        np.testing.assert_allclose(swept[:, output], expected, rtol=1e-7, atol=1e-9)
    assert not np.asarray(swept)[~kept].any()


def test_the_sweep_is_exact_where_the_first_inputs_are_pruned():
    """All that is kept comes after all that is pruned, and makes up for it as well as it can."""
    x, w, kernel, gram = problem(3)
    hessian = hessian_of(x, 0.01)
    for pruned in (1, 5):
        kept = np.arange(len(w)) >= pruned
        mask = jnp.broadcast_to(kept[:, None], w.shape)
        swept = sweep(jnp.asarray(w), mask, kernel, gram, damping=0.01)
        for output in range(w.shape[1]):
            expected = least_squares(w[:, output], kept, hessian)
            np.testing.assert_allclose(swept[:, output], expected, rtol=1e-7, atol=1e-9)


def test_the_sweep_lies_between_no_correction_and_the_best_one():
    """Ten problems, half the weights pruned: 1.7 times the least squared error, and half of that without correction."""
    ratios, gains = [], []
    for seed in range(10):
        x, w, kernel, gram = problem(seed, d=24, p=6, n=200)
        mask = layerwise_masks({"k": sparsegpt_scores(jnp.asarray(w), kernel, gram, damping=0.01)}, 0.5)["k"]
        swept = np.asarray(sweep(jnp.asarray(w), mask, kernel, gram, damping=0.01))
        hessian, kept = hessian_of(x, 0.01), np.asarray(mask)
        best = np.stack([least_squares(w[:, o], kept[:, o], hessian) for o in range(w.shape[1])], 1)

        def error(v, hessian=hessian, w=w):
            return np.einsum("io,ij,jo->", v - w, hessian, v - w)

        assert error(best) <= error(swept) <= error(w * kept)
        ratios.append(error(swept) / error(best))
        gains.append(error(w * kept) / error(swept))
    assert np.mean(ratios) < 1.8
    assert np.mean(gains) > 1.8


def test_sparsegpt_corrects_layers_of_a_network_and_leaves_whole_ones_alone():
    rng = np.random.default_rng(4)
    params, x = network(rng), correlated(rng, 80, 6)
    batch = batch_of(x)
    chosen = {"first": {"bias": False, "kernel": True}, "second": {"kernel": False}}
    pruned, masks = prune(params, 0.5, criterion=sparsegpt(), apply=apply, batch=batch, prunable=chosen)
    np.testing.assert_array_equal(pruned["second"]["kernel"], params["second"]["kernel"])
    np.testing.assert_array_equal(pruned["first"]["bias"], params["first"]["bias"])
    kept = np.asarray(masks["first"]["kernel"])
    assert not np.asarray(pruned["first"]["kernel"])[~kept].any()
    for output in range(5):
        expected = reference_sweep(
            np.asarray(params["first"]["kernel"])[:, output], kept[:, output], hessian_of(x, 0.01)
        )
        np.testing.assert_allclose(pruned["first"]["kernel"][:, output], expected, rtol=1e-6, atol=1e-9)

    def error(params):
        return float(jnp.mean((apply(params, x) - apply(dense, x)) ** 2))

    dense = params
    assert error(pruned) < error(apply_masks(params, masks))


def test_inputs_that_are_all_0_are_no_trouble():
    params, x = {"kernel": jnp.ones((3, 2))}, np.zeros((4, 3))
    pruned, masks = prune(params, 0.5, criterion=sparsegpt(), apply=linear, batch=batch_of(x))
    np.testing.assert_array_equal(pruned["kernel"], masks["kernel"])


# WoodFisher


def fisher_of(params, batch, kernel_name="kernel"):
    """F [P, P] of a linear network's kernel, outputs first: (Σ m g gᵀ / Σ m)."""

    def of_one(x, y):
        def loss(kernel):
            return cross_entropy(linear({"kernel": kernel}, x[None]), y[None])[0]

        return jax.grad(loss)(params[kernel_name]).T.reshape(-1)

    slopes = np.asarray(jax.vmap(of_one)(jnp.asarray(batch.x), jnp.asarray(batch.y)))
    return (slopes * batch.weight[:, None]).T @ slopes / batch.weight.sum()


def by_rank_one_updates(slopes, damping):
    """F⁻¹ by the recursion of the paper, one gradient at a time."""
    inverse = np.eye(slopes.shape[1]) / damping
    for g in slopes:
        image = inverse @ g
        inverse = inverse - np.outer(image, image) / (len(slopes) + g @ image)
    return inverse


def kkt(fisher, w, pruned):
    """The minimum of ½ δᵀFδ with δ_P = -w_P, from the whole system with its multipliers."""
    count, at = len(w), np.flatnonzero(pruned)
    system = np.zeros((count + len(at),) * 2)
    system[:count, :count] = fisher
    for row, i in enumerate(at):
        system[i, count + row] = system[count + row, i] = 1
    return np.linalg.solve(system, np.concatenate([np.zeros(count), -w[at]]))[:count]


def wide_problem(seed=5, weight=None):
    rng = np.random.default_rng(seed)
    x = correlated(rng, 40, 6)
    return {"kernel": jnp.asarray(rng.normal(size=(6, 3)))}, batch_of(x, weight=weight)


def as_row(kernel):
    return np.asarray(kernel).T.reshape(-1)


@pytest.mark.parametrize("block", [5, 18, 50])
def test_scores_of_woodfisher_are_from_the_inverse_of_every_block(block):
    params, batch = wide_problem(weight=np.where(np.arange(40) % 7, 1.0, 0.0) * np.linspace(1, 2, 40))
    fisher = fisher_of(params, batch)
    scores = as_row(woodfisher(block=block, damping=1e-3).score(params, apply=linear, batch=batch)["kernel"])
    for start in range(0, 18, block):
        part = slice(start, start + block)
        inverse = np.linalg.inv(fisher[part, part] + 1e-3 * np.eye(len(scores[part])))
        expected = as_row(params["kernel"])[part] ** 2 / (2 * np.diag(inverse))
        np.testing.assert_allclose(scores[part], expected, rtol=1e-7)


def test_the_inverse_is_that_of_the_rank_one_updates():
    params, batch = wide_problem()

    def slope(x, y):
        return jax.grad(lambda k: cross_entropy(x[None] @ k, y[None])[0])(params["kernel"]).T.reshape(-1)

    slopes = np.asarray(jax.vmap(slope)(jnp.asarray(batch.x), jnp.asarray(batch.y)))
    inverse = by_rank_one_updates(slopes, 1e-3)
    scores = as_row(woodfisher(chunk_size=7).score(params, apply=linear, batch=batch)["kernel"])
    np.testing.assert_allclose(scores, as_row(params["kernel"]) ** 2 / (2 * np.diag(inverse)), rtol=1e-6)


def test_gradients_of_several_examples_are_those_of_their_mean_loss():
    params, batch = wide_problem()
    x, y = batch.x.reshape(10, 4, 6), jnp.asarray(batch.y.reshape(10, 4))

    def slope(x, y):
        return jax.grad(lambda k: jnp.mean(cross_entropy(x @ k, y)))(params["kernel"]).T.reshape(-1)

    slopes = np.asarray(jax.vmap(slope)(jnp.asarray(x), y))
    inverse = np.linalg.inv(slopes.T @ slopes / 10 + 1e-3 * np.eye(18))
    scores = woodfisher(examples_per_gradient=4).score(params, apply=linear, batch=batch)
    expected = as_row(params["kernel"]) ** 2 / (2 * np.diag(inverse))
    np.testing.assert_allclose(as_row(scores["kernel"]), expected, rtol=1e-7)


@pytest.mark.parametrize("pruned", [[], [0], [2, 3, 7], list(range(8)), [0, 9]])
def test_the_correction_of_a_block_solves_the_constrained_problem(pruned):
    rng = np.random.default_rng(6)
    root = rng.normal(size=(10, 10))
    fisher, w = root @ root.T + 0.1 * np.eye(10), rng.normal(size=10)
    kept = ~np.isin(np.arange(10), pruned)
    corrected = correct_block(jnp.asarray(fisher), jnp.asarray(w), jnp.asarray(kept))
    np.testing.assert_allclose(corrected, w + kkt(fisher, w, ~kept), rtol=1e-9, atol=1e-10)
    # The same by the formula with the inverse.
    inverse = np.linalg.inv(fisher)
    delta = -inverse[:, pruned] @ np.linalg.solve(inverse[np.ix_(pruned, pruned)], w[pruned]) if pruned else 0
    np.testing.assert_allclose(corrected, w + delta, rtol=1e-9, atol=1e-10)
    assert not np.asarray(corrected)[~kept].any()


@pytest.mark.parametrize("block", [7, 50])
def test_woodfisher_corrects_every_block_exactly(block):
    params, batch = wide_problem()
    criterion = woodfisher(block=block)
    pruned, masks = prune(params, 0.5, criterion=criterion, apply=linear, batch=batch)
    fisher, w, kept = fisher_of(params, batch), as_row(params["kernel"]), as_row(masks["kernel"])
    for start in range(0, 18, block):
        part = slice(start, start + block)
        inside = fisher[part, part] + 1e-3 * np.eye(len(w[part]))
        expected = w[part] + kkt(inside, w[part], ~kept[part])
        np.testing.assert_allclose(as_row(pruned["kernel"])[part], expected, rtol=1e-6, atol=1e-9)


def test_the_correction_of_woodfisher_lowers_the_loss_that_pruning_raised():
    """At a minimum of the loss, which the quadratic form is made for."""
    rng = np.random.default_rng(7)
    params, x = network(rng), correlated(rng, 200, 6)
    batch = batch_of(x)._replace(y=np.asarray(jnp.argmax(apply(params, x) + rng.gumbel(size=(200, 3)), -1)))

    @jax.jit
    def loss(params):
        return jnp.mean(cross_entropy(apply(params, x), jnp.asarray(batch.y)))

    pruned, masks = prune(params, 0.2, criterion=woodfisher(), apply=apply, batch=batch)
    assert float(loss(pruned)) < float(loss(apply_masks(params, masks)))
    np.testing.assert_array_equal(pruned["first"]["bias"], params["first"]["bias"])


# Both


@pytest.mark.parametrize("criterion", [sparsegpt(), woodfisher(block=8)], ids=["sparsegpt", "woodfisher"])
def test_corrections_of_replicas_are_those_of_each_and_compile_once(criterion):
    with enable_x64(False):
        rng = np.random.default_rng(8)
        networks = [jax.tree.map(lambda leaf: leaf.astype(jnp.float32), network(rng)) for _ in range(2)]
        x = correlated(rng, 30, 6).astype(np.float32)
        batch = batch_of(x, weight=np.ones(30, np.float32))
        masks = [jax.tree.map(lambda p: jnp.abs(p) > 0.5, params) for params in networks]
        stacked, kept = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (networks, masks))

        def correct(params, masks):
            return criterion.correct(params, masks, apply=apply, batch=batch)

        both, alone = jax.jit(jax.vmap(correct)), jax.jit(correct)
        together = both(stacked, kept)
        for r in range(2):
            one = alone(networks[r], masks[r])
            for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(one), strict=True):
                np.testing.assert_allclose(a[r], b, rtol=2e-3, atol=2e-4)
        with compiles(0, of="correct"):
            both(stacked, kept)
            alone(networks[1], masks[1])


@pytest.mark.parametrize("criterion", [wanda(), sparsegpt(), woodfisher(block=8)], ids=["wanda", "gpt", "woodfisher"])
def test_parameters_in_half_precision_stay_so_and_nothing_is_compiled_twice(criterion):
    with enable_x64(False):
        rng = np.random.default_rng(8)
        params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), network(rng))
        batch = batch_of(correlated(rng, 30, 6).astype(np.float32), weight=np.ones(30, np.float32))
        pruned, masks = prune(params, 0.5, criterion=criterion, apply=apply, batch=batch)
        assert {leaf.dtype for leaf in jax.tree.leaves(pruned)} == {jnp.dtype(jnp.bfloat16)}
        kernels_alone = (params["first"]["kernel"], params["second"]["kernel"])
        left = sum(int(jnp.sum(masks[layer]["kernel"])) for layer in ("first", "second"))
        assert left == sum(leaf.size for leaf in kernels_alone) - round(0.5 * 45)
        with compiles(0):
            prune(params, 0.5, criterion=criterion, apply=apply, batch=batch)


def test_corrections_of_convolutions_follow_their_windows():
    """The sweep over HWIO is the sweep over the rows of the same layer as a matrix."""
    rng = np.random.default_rng(9)
    x, w = rng.normal(size=(4, 5, 5, 2)), rng.normal(size=(3, 3, 2, 4))

    def convolution(params, x):
        return jax.lax.conv_general_dilated(
            x, params["kernel"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).mean((1, 2))

    rows = np.stack([x[:, i : i + 3, j : j + 3].reshape(4, -1) for i in range(3) for j in range(3)]).reshape(-1, 18)
    mask = rng.random(w.shape) < 0.6
    corrected = sparsegpt().correct({"kernel": jnp.asarray(w)}, {"kernel": mask}, apply=convolution, batch=batch_of(x))
    for output in range(4):
        expected = reference_sweep(w[..., output].reshape(-1), mask[..., output].reshape(-1), hessian_of(rows, 0.01))
        np.testing.assert_allclose(corrected["kernel"][..., output].reshape(-1), expected, rtol=1e-7, atol=1e-9)
    assert kernels(convolution, {"kernel": w}, x)[0].reduction_axes == (0, 1, 2)


def test_sparsegpt_compares_layers_by_their_share_of_the_outputs():
    """A ReLU network is the same with one layer times 3 and the next divided by 3, and so are its masks."""
    rng = np.random.default_rng(11)
    params = {
        "a": jnp.asarray(rng.normal(size=(6, 8)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=(8, 4)), jnp.float32),
    }
    batch = batch_of(jnp.asarray(rng.normal(size=(64, 6)), jnp.float32))

    def apply(params, x):
        return jax.nn.relu(x @ params["a"]) @ params["b"]

    scaled = {"a": 3 * params["a"], "b": params["b"] / 3}
    masks = [prune(p, 0.5, criterion=sparsegpt(), apply=apply, batch=batch)[1] for p in (params, scaled)]
    jax.tree.map(np.testing.assert_array_equal, *masks)
    assert sum(int(m.sum()) for m in masks[0].values()) == 40


def test_replicas_of_many_layers_are_factorised_on_a_pool_of_two_threads():
    """Factorisations of stacks of matrices, of several layers at once, hang for good in jaxlib 0.10."""
    rng = np.random.default_rng(3)
    sizes = (96, 112, 80, 120, 72)
    params = [jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32) for shape in pairwise(sizes)]
    batch = batch_of(jnp.asarray(rng.normal(size=(256, sizes[0])), jnp.float32))

    def apply(params, x):
        for kernel in params:
            x = jnp.tanh(x @ kernel)
        return x

    score = jax.jit(jax.vmap(lambda params: sparsegpt().score(params, apply=apply, batch=batch)))
    for _ in range(20):
        scores = jax.block_until_ready(score(params))
    alone = sparsegpt().score([kernel[1] for kernel in params], apply=apply, batch=batch)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3), scores, alone)

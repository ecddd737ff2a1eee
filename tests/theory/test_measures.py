"""Taylor terms, the bound of Theorem 1, boundary distance, rank correlation and Proposition 1."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree
from scipy import stats
from scipy.special import expit, softmax

from jaxprune.compat import enable_x64
from jaxprune.networks import Network
from jaxprune.theory import (
    bound,
    boundary_distance,
    group_gradient_norms,
    group_gradients,
    group_top_eigenvalues,
    rank_correlation,
    taylor,
)
from jaxprune.types import Batch

SIZES = (11, 7, 0, 5)
G = len(SIZES)
PRESENT = np.flatnonzero(SIZES)


def examples(seed=0, weighted=False):
    """Groups of `SIZES` in a random order; the weights are dyadic, and so exact in float32."""
    rng = np.random.default_rng(seed)
    n = sum(SIZES)
    weight = rng.choice([0.5, 1.0, 2.0, 3.25], n) if weighted else np.ones(n)
    group = rng.permutation(np.repeat(np.arange(G), SIZES))
    return Batch(rng.normal(size=(n, 4)), rng.integers(0, 3, n), group, weight.astype(np.float32))


def of_groups(values, batch):
    """Weighted means [G, ...] of what each example has, NaN for an empty group."""
    found = np.full((G, *np.shape(values)[1:]), np.nan)
    for a in PRESENT:
        found[a] = np.average(np.asarray(values)[batch.group == a], 0, batch.weight[batch.group == a])
    return found


def linear(params, x):
    return x @ params["w"] + params["b"]


def linear_weights(seed):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}


def mlp(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def mlp_weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 5)), "v": rng.normal(size=(5, 3))}


def cut(params, share=0.5):
    """The smallest weights set to 0, as pruning does."""
    threshold = np.quantile(np.abs(ravel_pytree(params)[0]), share)
    return jax.tree.map(lambda leaf: np.where(np.abs(leaf) < threshold, 0, leaf), params)


def squared(logits, y):
    """Quadratic in the logits, and so in the parameters of a linear model."""
    return 0.5 * jnp.sum((logits - jax.nn.one_hot(y, logits.shape[-1])) ** 2, -1)


# --- taylor -----------------------------------------------------------------------------------------------------------


def test_a_quadratic_loss_has_no_third_order(x64):
    batch, dense, pruned = examples(weighted=True), linear_weights(0), linear_weights(1)
    found = taylor(linear, dense, pruned, batch, num_groups=G, loss=squared)
    residual = batch.x @ dense["w"] + dense["b"] - np.eye(3)[batch.y]
    moved = batch.x @ (pruned["w"] - dense["w"]) + pruned["b"] - dense["b"]
    np.testing.assert_allclose(found.first_order, of_groups(np.sum(residual * moved, 1), batch), rtol=1e-12)
    np.testing.assert_allclose(found.second_order, of_groups(0.5 * np.sum(moved**2, 1), batch), rtol=1e-12)
    np.testing.assert_allclose(found.predicted, found.observed, rtol=1e-12)
    np.testing.assert_allclose(found.remainder, [0, 0, np.nan, 0], atol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_terms_are_those_of_dense_derivatives(x64, weighted):
    batch, dense = examples(weighted=weighted), mlp_weights()
    pruned = cut(dense)
    flat, unravel = ravel_pytree(dense)
    delta = ravel_pytree(pruned)[0] - flat

    @jax.jit
    def terms(x, y):
        def loss(v):
            return -jax.nn.log_softmax(mlp(unravel(v), x[None])[0])[y]

        quadratic = 0.5 * delta @ jax.hessian(loss)(flat) @ delta
        return jax.grad(loss)(flat) @ delta, quadratic, loss(flat + delta) - loss(flat)

    expected = [of_groups(values, batch) for values in jax.vmap(terms)(batch.x, batch.y)]
    found = taylor(mlp, dense, pruned, batch, num_groups=G)
    np.testing.assert_allclose(found.first_order, expected[0], rtol=1e-10)
    np.testing.assert_allclose(found.second_order, expected[1], rtol=1e-10)
    np.testing.assert_allclose(found.observed, expected[2], rtol=1e-10)
    assert np.isnan(found.predicted[2])
    np.testing.assert_allclose(found.predicted, expected[0] + expected[1], rtol=1e-9)
    np.testing.assert_allclose(found.remainder, expected[2] - expected[0] - expected[1], rtol=1e-8)


def test_the_remainder_is_of_third_order(x64):
    """Half the step leaves an eighth of the remainder."""
    batch, dense, other = examples(), mlp_weights(0), mlp_weights(1)

    def remainder(t):
        near = jax.tree.map(lambda p, q: p + t * (q - p), dense, other)
        return np.asarray(taylor(mlp, dense, near, batch, num_groups=G).remainder)[PRESENT]

    np.testing.assert_allclose(remainder(1e-3) / remainder(5e-4), 8, rtol=1e-2)


@pytest.mark.parametrize("chunk_size", [1, 7])
def test_terms_do_not_depend_on_chunks_or_padding(x64, chunk_size):
    batch, dense = examples(weighted=True), mlp_weights()
    whole = taylor(mlp, dense, cut(dense), batch, num_groups=G)
    order = np.random.default_rng(1).permutation(2 * 23)
    more = batch._replace(x=np.full_like(batch.x, np.nan), weight=np.zeros(23, np.float32))
    padded = Batch(*(np.concatenate(pair)[order] for pair in zip(batch, more, strict=True)))
    found = taylor(mlp, dense, cut(dense), padded, num_groups=G, chunk_size=chunk_size)
    for a, b in zip(found, whole, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11)


def test_nothing_pruned_is_nothing_lost(x64):
    dense = mlp_weights()
    for term in taylor(mlp, dense, dense, examples(), num_groups=G):
        np.testing.assert_array_equal(term, [0, 0, np.nan, 0])


def test_taylor_terms_in_float32():
    batch = examples()
    narrow = batch._replace(x=batch.x.astype(np.float32))
    dense = jax.tree.map(lambda leaf: leaf.astype(np.float32), mlp_weights())
    found = taylor(mlp, dense, cut(dense), narrow, num_groups=G)
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), dense)
        expected = taylor(mlp, wide, cut(wide), narrow._replace(x=narrow.x.astype(np.float64)), num_groups=G)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_taylor_takes_a_narrow_network():
    """bfloat16 parameters with the float32 weights of every data set; the terms are as exact as bfloat16."""
    batch = examples()
    dense = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), mlp_weights())
    found = taylor(mlp, dense, cut(dense), batch._replace(x=jnp.asarray(batch.x, jnp.bfloat16)), num_groups=G)
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), dense)
        expected = taylor(mlp, wide, cut(wide), batch, num_groups=G)
    np.testing.assert_allclose(np.asarray(found.observed, float), expected.observed, atol=0.1)


def test_replicas_have_taylor_terms_under_vmap_and_are_not_compiled_again(x64):
    network = Network(None, lambda params, stats, x, train: (mlp(params, x * stats), stats))
    batch = examples()
    each = [(mlp_weights(seed), np.full(4, 1.0 + seed)) for seed in range(2)]
    alone = []
    for count, (params, scale) in zip((1, 0), each, strict=True):
        with compiles(count, of="taylor"):
            alone.append(taylor(network.freeze(scale), params, cut(params), batch, num_groups=G))
    dense, pruned, scales = (
        jax.tree.map(lambda *leaves: np.stack(leaves), *values)
        for values in ([p for p, _ in each], [cut(p) for p, _ in each], [s for _, s in each])
    )
    found = jax.vmap(lambda p, q, s: taylor(network.freeze(s), p, q, batch, num_groups=G))(dense, pruned, scales)
    for r in range(2):
        for a, b in zip(found, alone[r], strict=True):
            np.testing.assert_allclose(a[r], b, rtol=1e-11)


# --- the bound of Theorem 1 -------------------------------------------------------------------------------------------


def test_each_taylor_term_is_below_its_term_of_the_bound(x64):
    """Cauchy-Schwarz for the first and Rayleigh for the second hold in any direction, pruned or not."""
    batch, dense = examples(weighted=True), mlp_weights()
    norms = np.asarray(group_gradient_norms(mlp, dense, batch, num_groups=G))
    top = group_top_eigenvalues(mlp, dense, batch, num_groups=G, key=jax.random.key(0), tolerance=1e-9)
    rng = np.random.default_rng(3)
    for scale in (1e-3, 0.1, 3.0):
        other = jax.tree.map(lambda leaf, s=scale: leaf + s * rng.normal(size=leaf.shape), dense)
        distance = np.sqrt(sum(np.sum((other[name] - dense[name]) ** 2) for name in dense))
        terms = jax.tree.map(np.asarray, taylor(mlp, dense, other, batch, num_groups=G))
        limits = bound(norms, np.asarray(top.value), distance, terms.observed)
        assert (np.abs(terms.first_order) <= limits.terms["gradient_term"])[PRESENT].all()
        assert (terms.second_order <= limits.terms["curvature_term"] * (1 + 1e-8))[PRESENT].all()
        assert (limits.terms["curvature_term"] >= 0)[PRESENT].all()


def test_theorem_1_is_an_equality_along_gradient_and_top_eigenvector(x64):
    """½(θᵀx - y)² with inputs along the axes: H_a is diagonal, and g_a lies along its top eigenvector, as does Δ."""

    def half_square(logits, y):
        return 0.5 * (logits[:, 0] - y) ** 2

    def scalar(theta, x):
        return (x @ theta)[:, None]

    # Group a: inputs s₁e₁, s₂e₂, s₃e₃ with labels 0, so that H_a = diag(s²)/3 and g_a = H_a θ.
    scales = np.array([[3.0, 1.0, 2.0], [6.0, 0.5, 1.0]])
    x = np.concatenate([np.diag(s) for s in scales])
    batch = Batch(x, np.zeros(6, int), np.repeat([0, 1], 3), np.ones(6, np.float32))
    theta, delta = np.array([0.5, 0.0, 0.0]), np.array([0.25, 0.0, 0.0])
    norms = group_gradient_norms(scalar, theta, batch, num_groups=2, loss=half_square)
    top = group_top_eigenvalues(
        scalar, theta, batch, num_groups=2, key=jax.random.key(0), tolerance=1e-12, loss=half_square
    )
    terms = taylor(scalar, theta, theta + delta, batch, num_groups=2, loss=half_square)
    found = bound(norms, top.value, np.linalg.norm(delta), terms.observed)
    np.testing.assert_allclose(found.terms["gradient_term"], scales[:, 0] ** 2 / 3 * 0.5 * 0.25, rtol=1e-12)
    np.testing.assert_allclose(found.terms["curvature_term"], 0.5 * scales[:, 0] ** 2 / 3 * 0.25**2, rtol=1e-12)
    np.testing.assert_allclose(found.right, found.left, rtol=1e-12)
    np.testing.assert_allclose(found.ratio, 1, rtol=1e-12)
    # Turned away from the gradient, the same step helps and the bound is loose.
    away = taylor(scalar, theta, theta - delta, batch, num_groups=2, loss=half_square)
    loose = bound(norms, top.value, np.linalg.norm(delta), away.observed)
    assert (loose.left < 0).all()
    assert loose.holds.all()
    assert np.isnan(loose.ratio).all()


def test_the_two_terms_fail_where_the_third_order_is_large(x64):
    """e^(θx) is above every one of its Taylor polynomials for θx > 0: R = e^Δ - 1 > Δ + ½Δ²."""

    def exponential(logits, y):
        return jnp.exp(logits[:, 0])

    def scalar(theta, x):
        return (x @ theta)[:, None]

    batch = Batch(np.array([[1.0], [-1.0]]), np.zeros(2, int), np.array([0, 1]), np.ones(2, np.float32))
    theta, moved = np.zeros(1), np.ones(1)
    norms = group_gradient_norms(scalar, theta, batch, num_groups=2, loss=exponential)
    top = group_top_eigenvalues(scalar, theta, batch, num_groups=2, key=jax.random.key(0), loss=exponential)
    terms = taylor(scalar, theta, moved, batch, num_groups=2, loss=exponential)
    found = bound(norms, top.value, 1.0, terms.observed)
    np.testing.assert_allclose(found.right, [1.5, 1.5], rtol=1e-9)
    np.testing.assert_allclose(found.left, [np.e - 1, 1 / np.e - 1], rtol=1e-12)
    np.testing.assert_array_equal(found.holds, [False, True])
    np.testing.assert_allclose(found.ratio, [1.5 / (np.e - 1), np.nan], rtol=1e-9)


def test_the_bound_of_given_numbers():
    found = bound(jnp.array([1.0, 2, 0, 1]), jnp.array([4.0, -2, 0, 0]), 0.5, jnp.array([1.0, 2, 0, -1]))
    np.testing.assert_array_equal(found.terms["gradient_term"], [0.5, 1, 0, 0.5])
    np.testing.assert_array_equal(found.terms["curvature_term"], [0.5, -0.25, 0, 0])
    np.testing.assert_array_equal(found.right, [1, 0.75, 0, 0.5])
    np.testing.assert_array_equal(found.ratio, [1, 0.375, np.nan, np.nan])
    np.testing.assert_array_equal(found.holds, [True, False, True, True])  # at equality it holds


def test_the_bound_broadcasts_over_leading_axes():
    """Replicas and sparsities, [S, R, G]: one gradient norm for each replica, one distance for each network."""
    rng = np.random.default_rng(0)
    norms, tops = rng.uniform(size=(2, G)), rng.normal(size=(2, G))
    distance, observed = rng.uniform(size=(3, 2, 1)), rng.normal(size=(3, 2, G))
    found = bound(norms, tops, distance, observed)
    for s, r in np.ndindex(3, 2):
        alone = bound(norms[r], tops[r], distance[s, r, 0], observed[s, r])
        for name in ("right", "ratio", "holds"):
            np.testing.assert_allclose(getattr(found, name)[s, r], getattr(alone, name), rtol=1e-6, err_msg=name)


# --- boundary ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [7, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_boundary_distance_against_numpy(x64, weighted, chunk_size):
    batch, params = examples(weighted=weighted), linear_weights(0)
    p = softmax(batch.x @ params["w"] + params["b"], 1)
    ordered = np.sort(p, 1)
    found = boundary_distance(linear, params, batch, num_groups=G, chunk_size=chunk_size)
    np.testing.assert_allclose(found.margin, of_groups(ordered[:, -1] - ordered[:, -2], batch), rtol=1e-12)
    np.testing.assert_allclose(found.closeness, of_groups(1 - np.sum(p**2, 1), batch), rtol=1e-12)


def probabilities_of(p):
    """The measures of examples with these probabilities, each one a group of its own."""
    n = len(p)
    batch = Batch(np.log(p), np.zeros(n, int), np.arange(n), np.ones(n, np.float32))
    return jax.tree.map(np.asarray, boundary_distance(lambda params, x: x, {}, batch, num_groups=n))


def test_closeness_for_two_classes_is_twice_p_times_one_minus_p(x64):
    p = np.random.default_rng(0).uniform(size=9)
    found = probabilities_of(np.stack([p, 1 - p], 1))
    np.testing.assert_allclose(found.closeness, 2 * p * (1 - p), rtol=1e-12)
    np.testing.assert_allclose(found.margin, np.abs(2 * p - 1), rtol=1e-12)


@pytest.mark.parametrize("classes", [2, 10])
def test_proposition_3(x64, classes):
    """Closeness is greatest on the boundary of all classes, 1 - 1/C, and least, 0, where the network is certain."""
    uniform, certain = np.full(classes, 1 / classes), np.where(np.arange(classes) == 1, 1.0, 1e-300)
    others = np.random.default_rng(1).dirichlet(np.ones(classes), 7)
    found = probabilities_of(np.stack([uniform, certain, *others]))
    np.testing.assert_allclose(found.closeness[:2], [1 - 1 / classes, 0], atol=1e-12)
    np.testing.assert_allclose(found.margin[:2], [0, 1], atol=1e-12)
    assert (found.closeness[2:] > found.closeness[1]).all()
    assert (found.closeness[2:] < found.closeness[0]).all()


def test_boundary_distance_of_other_networks_is_not_compiled_again(x64):
    network = Network(None, lambda params, stats, x, train: (linear(params, x - stats), stats))
    batch = examples()
    for seed in range(2):
        params = linear_weights(seed)
        with compiles(1 - seed, of="boundary_distance"):
            found = boundary_distance(network.freeze(np.full(4, float(seed))), params, batch, num_groups=G)
        p = softmax((batch.x - seed) @ params["w"] + params["b"], 1)
        np.testing.assert_allclose(found.closeness, of_groups(1 - np.sum(p**2, 1), batch), rtol=1e-12)


# --- rank correlation -------------------------------------------------------------------------------------------------


def test_rank_correlation_is_scipys():
    rng = np.random.default_rng(0)
    predictor, observed = rng.normal(size=(2, 3, 6)), rng.integers(0, 4, (2, 3, 6)).astype(float)  # with ties
    found = rank_correlation(predictor, observed)
    assert found.shape == (2, 3)
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(found[at], stats.spearmanr(predictor[at], observed[at]).statistic, rtol=1e-12)


def test_rank_correlation_sees_order_alone():
    x = np.array([1.0, 5.0, 2.0, 8.0])
    assert rank_correlation(x, np.exp(x)) == pytest.approx(1)
    assert rank_correlation(x, -(x**3)) == pytest.approx(-1)
    assert rank_correlation(x, np.exp(x)).shape == ()


@pytest.mark.parametrize(
    ("predictor", "observed"),
    [
        ([1.0, 1, 1, 1], [1.0, 2, 3, 4]),
        ([1.0, 2, 3, 4], [0.5, 0.5, 0.5, 0.5]),
        ([1.0, np.nan, 3, 4], [1.0, 2, 3, 4]),
        ([1.0, 2, 3, 4], [1.0, 2, np.inf, 4]),
        ([1.0, 2], [1.0, 2]),
        ([1.0], [1.0]),
    ],
)
def test_no_rank_correlation_without_ranks(predictor, observed):
    assert np.isnan(rank_correlation(np.array(predictor), np.array(observed)))


def test_rank_correlation_broadcasts_and_keeps_rows_apart():
    observed = np.array([[1.0, 2, 3], [3.0, 2, 1], [1.0, np.nan, 2]])
    np.testing.assert_allclose(rank_correlation(np.array([1.0, 2, 3]), observed), [1, -1, np.nan])


# --- Proposition 1 ----------------------------------------------------------------------------------------------------


def logistic(theta, x):
    z = x @ theta
    return jnp.stack([jnp.zeros_like(z), z], -1)


def minimiser(x, y):
    """The minimum of the mean logistic loss, by Newton's method in numpy."""
    theta = np.zeros(x.shape[1])
    for _ in range(30):
        p = expit(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x
        theta -= np.linalg.solve(hessian, x.T @ (p - y))
    assert np.abs(x.T @ (expit(x @ theta) - y)).max() < 1e-11
    return theta


@pytest.mark.parametrize("small", [5, 50])
def test_proposition_1_holds_for_two_groups_at_a_minimum(x64, small):
    """Opposed gradients with norms in the inverse ratio of the sizes; logistic regression, so the minimum is exact."""
    rng = np.random.default_rng(small)
    sizes = np.array([100 - small, small])
    group = np.repeat([0, 1], sizes)
    x = rng.normal(size=(100, 3)) + group[:, None]
    y = (x @ np.array([1.0, -1.0, 0.5]) * (1 - 2 * group) + 2 * rng.normal(size=100) > 0).astype(int)
    batch = Batch(x, y, group, np.ones(100, np.float32))
    theta = minimiser(x, y)
    a, b = np.asarray(group_gradients(logistic, theta, batch, num_groups=2))
    norms = np.linalg.norm(a), np.linalg.norm(b)
    assert min(norms) > 1e-2  # the groups disagree, else the angle says nothing
    np.testing.assert_allclose(a @ b / (norms[0] * norms[1]), -1, rtol=1e-10)
    np.testing.assert_allclose(norms[0] / norms[1], small / (100 - small), rtol=1e-9)
    np.testing.assert_allclose(group_gradient_norms(logistic, theta, batch, num_groups=2), norms, rtol=1e-12)


def test_proposition_1_fails_for_three_groups(x64):
    """g_b = 0 and g_c = -(n_a / n_c) g_a is a minimum too, and there the larger group a has the larger norm."""

    def half_square(logits, y):
        return 0.5 * (logits[:, 0] - y) ** 2

    sizes, labels = np.array([6, 2, 3]), np.array([-1.0, 0.0, 2.0])
    group = np.repeat([0, 1, 2], sizes)
    batch = Batch(np.ones((11, 1)), labels[group], group, np.ones(11, np.float32))
    mean = partial(group_gradients, lambda theta, x: x * theta, num_groups=3, loss=half_square)
    gradients = np.asarray(mean(np.zeros(1), batch))[:, 0]
    np.testing.assert_array_equal(sizes @ gradients, 0)  # stationary, and the loss is convex
    np.testing.assert_allclose(gradients, [1, 0, -2])
    assert sizes[0] > sizes[1]
    assert abs(gradients[0]) > abs(gradients[1])

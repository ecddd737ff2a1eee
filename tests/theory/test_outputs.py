"""Output Hessians, Jacobians, boundary distances, attribution and prediction, on closed forms in float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree
from scipy import stats

from jaxprune.compat import enable_x64
from jaxprune.errors import UserError
from jaxprune.theory import (
    Attribution,
    attribution,
    binary_logit,
    example_boundary_distances,
    example_jacobian_norms,
    example_output_eigenvalues,
    group_boundary_distances,
    leaf_names,
    refined,
    score_predictor,
    sparing_allocation,
    taylor,
    uninformative_from,
)
from jaxprune.types import Batch

N, C, G = 7, 3, 3


def examples(classes=C):
    rng = np.random.default_rng(0)
    weight = np.where(np.arange(N) == 5, 2.0, 1.0)
    return Batch(rng.normal(size=(N, 4)), rng.integers(0, classes, N), np.arange(N) % 2, weight)


def mlp(params, x):
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def mlp_weights(seed=0, classes=C):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3), "v": rng.normal(size=(3, classes))}


@pytest.fixture(scope="module")
def dense_outputs():
    """Jacobians [N, C, P] and Hessians [N, C, P, P] of the logits, written without the library."""
    with enable_x64(True):
        params, batch = mlp_weights(), examples()
        flat, unravel = ravel_pytree(params)

        def logits(v, x):
            return mlp(unravel(v), x[None])[0]

        both = (jax.jit(jax.vmap(f(logits), (None, 0)))(flat, batch.x) for f in (jax.jacobian, jax.hessian))
        return tuple(np.asarray(values) for values in both)


def test_output_eigenvalues_are_those_of_the_dense_hessians(x64, dense_outputs):
    found = example_output_eigenvalues(
        mlp, mlp_weights(), examples(), jax.random.key(0), tolerance=1e-9, max_iterations=40, chunk_size=3
    )
    expected = np.linalg.eigvalsh(dense_outputs[1])
    np.testing.assert_allclose(found.largest.value, expected[..., -1], atol=1e-9)
    np.testing.assert_allclose(found.smallest.value, expected[..., 0], atol=1e-9)
    np.testing.assert_allclose(found.spectral_norm, np.linalg.norm(dense_outputs[1], 2, (2, 3)), atol=1e-9)
    assert found.largest.converged.all()


def test_jacobian_norms_are_the_largest_singular_values(x64, dense_outputs):
    found = example_jacobian_norms(mlp, mlp_weights(), examples(), chunk_size=3)
    np.testing.assert_allclose(found, np.linalg.norm(dense_outputs[0], 2, (1, 2)), rtol=1e-10)
    binary = example_jacobian_norms(lambda p, x: mlp(p, x)[:, :2], mlp_weights(), examples(), outputs=binary_logit)
    rows = dense_outputs[0][:, 1] - dense_outputs[0][:, 0]
    np.testing.assert_allclose(binary, np.linalg.norm(rows, axis=1), rtol=1e-10)


def test_a_linear_network_does_not_bend(x64):
    found = example_output_eigenvalues(lambda p, x: x @ p, np.ones((4, C)), examples(), jax.random.key(0))
    np.testing.assert_array_equal(found.spectral_norm, 0)
    assert found.smallest.converged.all()


# --- distance to the boundary -----------------------------------------------------------------------------------------


def two_sided(params, x):
    z = x @ params
    return jnp.stack([jnp.zeros_like(z), z], -1)


def test_a_linear_boundary_lies_at_a_known_distance(x64):
    """|xᵀw| / ‖w‖: the linearised distance is exact, and Cohen's radius is the same but for the votes' noise."""
    batch, w = examples(), np.array([0.5, -1.0, 0.25, 2.0])
    found = example_boundary_distances(two_sided, w, batch, jax.random.key(0), sigma=0.5, samples=20000, chunk_size=4)
    exact = np.abs(batch.x @ w) / np.linalg.norm(w)
    np.testing.assert_allclose(found.distance, exact, rtol=1e-10)
    near = exact < 1.0  # beyond two σ hardly a vote goes the other way
    assert near.sum() >= 3
    np.testing.assert_allclose(found.radius[near], exact[near], atol=0.03)
    assert (found.radius <= 0.5 * stats.norm.ppf(1 - 0.5 / 20000) + 1e-12).all()
    p = 1 / (1 + np.exp(-(batch.x @ w)))
    np.testing.assert_allclose(found.margin, np.abs(2 * p - 1), rtol=1e-10)
    np.testing.assert_allclose(found.closeness, 2 * p * (1 - p), rtol=1e-10)


def test_groups_have_the_weighted_means_of_their_members(x64):
    batch, key = examples(), jax.random.key(1)
    each = example_boundary_distances(mlp, mlp_weights(), batch, key, samples=10)
    found = group_boundary_distances(mlp, mlp_weights(), batch, key, num_groups=G, samples=10)
    for values, means in zip(each, found, strict=True):
        for a in range(2):
            chosen = batch.group == a
            np.testing.assert_allclose(means[a], np.average(values[chosen], weights=batch.weight[chosen]), rtol=1e-10)
        assert np.isnan(means[2])


def test_outputs_that_do_not_move_are_infinitely_far_from_the_boundary(x64):
    found = example_boundary_distances(lambda p, x: jnp.zeros((len(x), 2)) + p, np.array([0.0, 1.0]), examples(),
                                       jax.random.key(0), samples=4)  # fmt: skip
    assert np.isinf(found.distance).all()


# --- attribution ------------------------------------------------------------------------------------------------------


def cut(params, share):
    threshold = np.quantile(np.abs(ravel_pytree(params)[0]), share)
    return jax.tree.map(lambda leaf: np.where(np.abs(leaf) < threshold, 0, leaf), params)


def test_the_parts_of_the_layers_sum_to_the_harm(x64):
    params, batch = mlp_weights(), examples()
    pruned = cut(params, 0.6)
    found = attribution(mlp, params, pruned, batch, num_groups=G, nodes=8, segments=4)
    whole = taylor(mlp, params, pruned, batch, num_groups=G)
    assert leaf_names(params) == ["b", "v", "w"]
    np.testing.assert_allclose(found.observed, whole.observed, rtol=1e-10)
    np.testing.assert_allclose(found.path.sum(-1), whole.observed, rtol=1e-9)
    np.testing.assert_allclose(found.quadrature_error[:2], 0, atol=1e-9)
    np.testing.assert_allclose(found.first_order.sum(-1), whole.first_order, rtol=1e-10)
    np.testing.assert_allclose(found.second_order.sum(-1), whole.second_order, rtol=1e-10)
    assert np.isnan(found.path[2]).all()


def test_the_path_integral_of_a_product_is_shared_equally(x64):
    """J = uv from (1, 1) to (0, 0): R = -1, and by symmetry -½ for each; Taylor gives -1 + ½ for each, too."""
    batch = Batch(np.ones((1, 1)), np.array([0]), np.array([0]), np.ones(1))

    def apply(p, x):
        return p["u"] * p["v"] * x

    dense, pruned = ({"u": np.array(value), "v": np.array(value)} for value in (1.0, 0.0))
    found = attribution(apply, dense, pruned, batch, num_groups=1, loss=lambda z, y: z[:, 0], nodes=2, segments=1)
    np.testing.assert_allclose(found.observed, [-1])
    np.testing.assert_allclose(found.path, [[-0.5, -0.5]], rtol=1e-12)
    np.testing.assert_allclose(found.first_order, [[-1, -1]])
    np.testing.assert_allclose(found.second_order, [[0.5, 0.5]])
    np.testing.assert_allclose(found.quadrature_error, [0], atol=1e-12)


def test_more_segments_come_closer_across_kinks_and_nothing_is_compiled_anew(x64):
    batch, params = examples(), mlp_weights()
    pruned = jax.tree.map(lambda leaf: -leaf, params)

    def relu(p, x):
        return jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]

    errors = []
    for segments in (1, 16):
        found = attribution(relu, params, pruned, batch, num_groups=G, segments=segments, tolerance=None)
        errors.append(np.abs(np.asarray(found.quadrature_error)[:2]).max())
    assert errors[1] < errors[0] / 4
    with compiles(0, of="attribution"):
        rough = attribution(relu, mlp_weights(1), pruned, batch, num_groups=G, segments=16, tolerance=None)
        fine = attribution(relu, mlp_weights(1), pruned, batch, num_groups=G, segments=16)
    short = np.abs(rough.quadrature_error / rough.observed)[:2]
    assert short.max() > 0.01, "or there is nothing to refine"
    assert np.abs(fine.quadrature_error / fine.observed)[:2].max() <= 0.01
    np.testing.assert_allclose(fine.path.sum(-1)[:2], fine.observed[:2], rtol=0.01)
    np.testing.assert_array_equal(fine.observed, rough.observed)
    np.testing.assert_array_equal(fine.first_order, rough.first_order)


def test_the_parts_of_a_line_make_up_the_whole():
    """x³ over [0, 1] by two nodes in 1, 2 and 4 parts; and refining stops at its limit."""
    for observed, calls in ((0.25, 1), (0.26, 1 + 2 + 4)):
        sizes = []

        def integrate(points, observed=observed, sizes=sizes):
            sizes.append(len(points.times))
            path = jnp.sum(points.weights * points.times**3)[None, None]
            return Attribution(path, path, path, jnp.array([observed]))

        found = refined(integrate, nodes=2, segments=3, dtype=np.float32, tolerance=0.01, most_parts=4)
        np.testing.assert_allclose(found.path, 0.25, rtol=1e-6)
        assert sizes == [6] * calls
    with pytest.raises(UserError, match="tolerance of 0 is not above 0"):
        attribution(mlp, mlp_weights(), mlp_weights(), examples(), num_groups=G, tolerance=0)


def test_the_sparing_allocation_is_the_best_of_all(x64):
    """Against every combination of levels."""
    rng = np.random.default_rng(0)
    sizes, levels = np.array([100, 300, 600]), np.array([0.0, 0.3, 0.6, 0.9])
    for _ in range(20):
        harm = np.cumsum(rng.exponential(size=(3, 4)), 1) - 1
        found = sparing_allocation(sizes, levels, harm, 0.5, resolution=1000)
        assert sizes @ found >= 0.5 * sizes.sum() - 1e-9
        options = [(q, harm[range(3), q].sum()) for q in itertools.product(range(4), repeat=3)]
        least = min(total for q, total in options if sizes @ levels[list(q)] >= 0.5 * sizes.sum() - 1e-9)
        chosen = [int(np.flatnonzero(levels == level)[0]) for level in found]
        np.testing.assert_allclose(harm[range(3), chosen].sum(), least, rtol=1e-12)
    np.testing.assert_array_equal(sparing_allocation(sizes, levels, harm, 0.95), [0.9] * 3)


# --- prediction -------------------------------------------------------------------------------------------------------


def test_scores_of_a_predictor():
    observed = np.array([[0.1, 0.4, 0.2, 0.9], [0.1, 0.4, 0.2, 0.9]])
    predictor = np.array([[1.0, 3.0, 2.0, 4.0], [4.0, 2.0, 3.0, 1.0]])
    found = score_predictor(predictor, observed)
    np.testing.assert_allclose(found.spearman, [1, -1])
    np.testing.assert_allclose(found.kendall, [1, -1])
    np.testing.assert_allclose(found.regret, [0, 0.8])
    np.testing.assert_array_equal(found.hit, [1, 0])


def test_scores_agree_with_scipy_and_leave_out_what_is_not_known():
    rng = np.random.default_rng(1)
    predictor, observed = rng.normal(size=6), rng.normal(size=6)
    found = score_predictor(np.append(predictor, np.nan), np.append(observed, 1.0))
    np.testing.assert_allclose(found.spearman, stats.spearmanr(predictor, observed).statistic)
    np.testing.assert_allclose(found.kendall, stats.kendalltau(predictor, observed).statistic)
    assert np.isnan(score_predictor(np.ones(3), np.arange(3)).regret)


def test_tied_predictions_do_not_depend_on_the_order_of_the_groups():
    predictor, observed = np.array([2.0, 2.0, 1.0, 2.0]), np.array([0.1, 0.7, 0.9, 0.4])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2]):
        found = score_predictor(predictor[order], observed[order])
        assert found.regret == pytest.approx(0.9 - (0.1 + 0.7 + 0.4) / 3)
        assert found.hit == 0
    assert score_predictor(np.array([1.0, 1, 0]), np.array([0.5, 0.2, 0.1])).hit == 0.5


def test_where_a_bound_stops_being_informative():
    sparsities = np.array([0.3, 0.5, 0.7])
    bound = np.array([[2.0, 2.0, 50.0, 2.0], [2.0, 30.0, 2.0, 0.5], [2.0, 40.0, 2.0, 2.0]])
    found = uninformative_from(sparsities, bound, np.ones((3, 4)), factor=10)
    np.testing.assert_array_equal(found, [np.nan, 0.5, np.nan, np.nan])
    np.testing.assert_array_equal(uninformative_from(sparsities, bound, -np.ones((3, 4))), [0.3] * 4)

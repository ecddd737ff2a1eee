"""Gradients and Hessians of the group losses against float64 autodiff and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from flax import nnx
from jax.flatten_util import ravel_pytree
from jax.tree_util import Partial
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.special import expit, softmax
from theory_oracles import group_hvp

from jaxprune.compat import enable_x64
from jaxprune.models import from_nnx
from jaxprune.networks import Network
from jaxprune.theory import by_group, group_gradient_norms, group_gradients, group_top_eigenvalues, norms
from jaxprune.types import Batch

SIZES = (11, 7, 0, 4, 1)  # primes, an empty group, and a group of one
G = len(SIZES)
PRESENT = np.flatnonzero(SIZES)
D, C = 4, 3


def mlp(params, x):
    return jnp.tanh(x @ params["first"]["w"] + params["first"]["b"]) @ params["last"]["w"] + params["last"]["b"]


def mlp_weights(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return {
        "first": {"w": rng.normal(size=(D, 5)).astype(dtype), "b": rng.normal(size=5).astype(dtype)},
        "last": {"w": rng.normal(size=(5, C)).astype(dtype), "b": rng.normal(size=C).astype(dtype)},
    }


def softmax_regression(params, x):
    return x @ params


def logistic_regression(params, x):
    z = x @ params
    return jnp.stack([jnp.zeros_like(z), z], -1)


def examples(seed=0, weighted=False, dtype=np.float64, classes=C):
    """Groups of `SIZES` in a random order; the weights are dyadic, and so exact in float32."""
    rng = np.random.default_rng(seed)
    n = sum(SIZES)
    group = rng.permutation(np.repeat(np.arange(G), SIZES))
    weight = rng.choice([0.5, 1.0, 2.0, 3.25], n) if weighted else np.ones(n)
    return Batch(rng.normal(size=(n, D)).astype(dtype), rng.integers(0, classes, n), group, weight.astype(np.float32))


def members(batch, a):
    return Batch(*(field[batch.group == a] for field in batch))


@jax.jit
def of_each_example(apply, params, x, y):
    """Gradients [N, P] and Hessians [N, P, P] of the loss of each example, written without the library."""
    flat, unravel = ravel_pytree(params)

    def loss(v, x, y):
        return -jax.nn.log_softmax(apply(unravel(v), x[None])[0])[y]

    return tuple(jax.vmap(f(loss), (None, 0, 0))(flat, x, y) for f in (jax.grad, jax.hessian))


def dense_derivatives(apply, params, batch):
    """The gradients [G, P] and Hessians [G, P, P] of all groups, NaN for an empty one, and those of everyone."""
    each = of_each_example(apply if isinstance(apply, Partial) else Partial(apply), params, batch.x, batch.y)
    found = []
    for values in map(np.asarray, each):
        of_groups = np.full((G, *values.shape[1:]), np.nan)
        for a in PRESENT:
            of_groups[a] = np.average(values[batch.group == a], 0, batch.weight[batch.group == a])
        found += [of_groups, np.average(values, 0, batch.weight)]
    gradients, gradient, hessians, hessian = found
    return gradients, hessians, gradient, hessian


def random_vectors(size, seed=2):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(G, size)))


def flat_rows(stacked):
    """[G, P] from a pytree with a leading axis G, in the order of `ravel_pytree`."""
    return np.concatenate([np.asarray(leaf).reshape(G, -1) for leaf in jax.tree.leaves(stacked)], 1)


# --- by_group ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
def test_chunks_hold_every_example_once_with_its_own_group(chunk_size):
    batch = examples(weighted=True)
    batch.weight[[2, 9]] = 0
    batch = batch._replace(x=np.arange(23.0)[:, None])  # the input tells the example
    chunks = by_group(batch, G, chunk_size)
    kept = chunks.weight != 0
    found = chunks.x[kept][:, 0].astype(int)
    assert sorted(found) == sorted(set(range(23)) - {2, 9})
    np.testing.assert_array_equal(np.broadcast_to(chunks.group[:, None], kept.shape)[kept], batch.group[found])
    np.testing.assert_array_equal(chunks.y[kept], batch.y[found])
    np.testing.assert_array_equal(chunks.weight[kept], batch.weight[found])
    np.testing.assert_allclose(chunks.size, [batch.weight[batch.group == a].sum() for a in range(G)])
    assert chunks.weight.shape[1] <= chunk_size
    assert kept.any(1).all()  # no chunk of padding alone


@pytest.mark.parametrize("sizes", [(1, 1, 1), (700, 3, 0), (513, 512, 511), (40_000, 2, 0), (0, 0, 1)])
def test_chunks_of_a_size_of_their_own_waste_little(sizes):
    """Whatever the sizes of the groups: at most 512 examples at a time, and no pass much longer than the data."""
    n = sum(sizes)
    group = np.repeat(np.arange(3), sizes)
    chunks = by_group(Batch(np.zeros((n, 1)), np.zeros(n, int), group, np.ones(n, np.float32)), 3)
    count, length = chunks.weight.shape
    assert length <= 512
    assert chunks.weight.sum() == n
    assert count <= -(-n // 64) + 3
    assert count * length <= 1.5 * n + 3 * 64


def test_chunks_of_images_are_hardly_padded():
    """An image costs more than a chunk does: a hundred of them in uneven groups are not to become two hundred."""
    sizes = (45, 25, 15, 10, 5)
    batch = Batch(np.zeros((100, 32, 32, 3)), np.zeros(100, int), np.repeat(np.arange(5), sizes), np.ones(100))
    assert by_group(batch, 5).weight.size <= 130


def test_chunks_of_nothing():
    batch = examples()
    chunks = by_group(batch._replace(weight=np.zeros(23, np.float32)), G)
    assert len(chunks.group) == 0
    np.testing.assert_array_equal(chunks.size, 0)


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
def test_group_gradients_are_those_of_each_groups_mean_loss(x64, chunk_size):
    params, batch = mlp_weights(), examples(weighted=True)
    found = group_gradients(mlp, params, by_group(batch, G, chunk_size), num_groups=G)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    rows = flat_rows(found)
    assert rows.dtype == np.float64
    np.testing.assert_allclose(rows[PRESENT], dense_derivatives(mlp, params, batch)[0][PRESENT], atol=1e-14)
    np.testing.assert_array_equal(rows[2], 0)


def test_group_gradients_take_a_batch_as_it_is(x64):
    params, batch = mlp_weights(), examples()
    found = group_gradients(mlp, params, batch, num_groups=G)
    rows = flat_rows(found)
    np.testing.assert_allclose(rows[PRESENT], dense_derivatives(mlp, params, batch)[0][PRESENT], atol=1e-14)
    expected = np.linalg.norm(rows, axis=1)
    assert expected[0] > 0.01
    np.testing.assert_allclose(norms(found), expected, rtol=1e-12)
    expected[2] = np.nan  # a group without examples has no gradient; it contributes 0 to sums over the groups
    np.testing.assert_allclose(group_gradient_norms(mlp, params, batch, num_groups=G), expected, rtol=1e-12)


def test_group_gradients_of_softmax_regression_have_a_closed_form(x64):
    """g_a = mean of x (p - e_y)ᵀ."""
    batch = examples(3)
    w = np.random.default_rng(1).normal(size=(D, C))
    found = group_gradients(softmax_regression, w, batch, num_groups=G)
    for a in PRESENT:
        x, y = members(batch, a).x, members(batch, a).y
        np.testing.assert_allclose(found[a], x.T @ (softmax(x @ w, 1) - np.eye(C)[y]) / len(y), atol=1e-14)


def test_group_gradients_weighted_by_their_shares_give_the_gradient_of_all(x64):
    params, batch = mlp_weights(), examples(weighted=True)
    chunks = by_group(batch, G)
    rows = flat_rows(group_gradients(mlp, params, chunks, num_groups=G))
    shares = chunks.size.astype(float) / chunks.size.sum()
    np.testing.assert_allclose(shares @ rows, dense_derivatives(mlp, params, batch)[2], atol=1e-14)


def test_an_example_of_weight_two_counts_as_two(x64):
    params, batch = mlp_weights(), examples()
    heavy = batch._replace(weight=np.where(np.arange(23) % 4 == 0, 2, 1).astype(np.float32))
    twice = Batch(*(np.concatenate([field, field[::4]]) for field in batch))
    vectors = random_vectors(43)
    for f in (
        lambda chunks: flat_rows(group_gradients(mlp, params, chunks, num_groups=G)),
        lambda chunks: group_hvp(mlp, params, chunks, vectors),
    ):
        np.testing.assert_allclose(f(by_group(heavy, G, 8)), f(by_group(twice, G, 8)), atol=1e-13)


def test_examples_without_weight_do_not_count_even_when_not_finite(x64):
    """Also where the first example is one of them: chunks are filled up with some example or other."""
    params, batch = mlp_weights(), examples()
    dropped = np.array([0, 5, 22])
    batch.weight[dropped] = 0
    kept = Batch(*(np.delete(field, dropped, 0) for field in batch))
    batch.x[dropped] = np.nan
    vectors = random_vectors(43)
    for f in (
        lambda chunks: flat_rows(group_gradients(mlp, params, chunks, num_groups=G)),
        lambda chunks: group_hvp(mlp, params, chunks, vectors),
    ):
        np.testing.assert_allclose(f(by_group(batch, G, 4)), f(by_group(kept, G, 4)), atol=1e-13)


def test_group_gradients_take_any_loss_per_example(x64):
    def squared(logits, y):
        return 0.5 * (logits[:, 0] - y) ** 2

    batch, w = examples(), np.random.default_rng(1).normal(size=(D, C))
    found = group_gradients(softmax_regression, w, batch, num_groups=G, loss=squared)
    x, y = members(batch, 0).x, members(batch, 0).y
    np.testing.assert_allclose(found[0][:, 0], x.T @ (x @ w[:, 0] - y) / len(y), atol=1e-14)
    np.testing.assert_array_equal(found[0][:, 1:], 0)


# --- Hessian-vector products ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 1000])
def test_group_hvp_multiplies_each_group_with_its_own_vector(x64, chunk_size):
    params, batch = mlp_weights(), examples(weighted=True)
    vectors = random_vectors(43)
    found = np.asarray(group_hvp(mlp, params, by_group(batch, G, chunk_size), vectors))
    expected = np.einsum("gpq,gq->gp", dense_derivatives(mlp, params, batch)[1], vectors)
    np.testing.assert_allclose(found[PRESENT], expected[PRESENT], atol=1e-13)
    np.testing.assert_array_equal(found[2], 0)


def test_group_hvp_takes_vectors_of_numpy(x64):
    params, chunks, vectors = mlp_weights(), by_group(examples(), G), random_vectors(43)
    found = group_hvp(mlp, params, chunks, np.asarray(vectors))
    np.testing.assert_array_equal(found, group_hvp(mlp, params, chunks, vectors))


def test_group_hvp_is_the_slope_of_the_group_gradients(x64):
    """Central differences share nothing with the product's own differentiation."""
    params, chunks, step = mlp_weights(), by_group(examples(), G), 1e-5
    flat, unravel = ravel_pytree(params)
    v = np.random.default_rng(2).normal(size=43)
    ahead, behind = (
        flat_rows(group_gradients(mlp, unravel(flat + sign * step * v), chunks, num_groups=G)) for sign in (1, -1)
    )
    found = group_hvp(mlp, params, chunks, jnp.broadcast_to(v, (G, 43)))
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-8)


def test_group_hessians_weighted_by_their_shares_give_the_hessian_of_all(x64):
    params, batch = mlp_weights(), examples(weighted=True)
    chunks = by_group(batch, G)
    v = np.random.default_rng(2).normal(size=43)
    found = group_hvp(mlp, params, chunks, jnp.broadcast_to(v, (G, 43)))
    shares = chunks.size.astype(float) / chunks.size.sum()
    np.testing.assert_allclose(shares @ found, dense_derivatives(mlp, params, batch)[3] @ v, atol=1e-13)


# --- top eigenvalues --------------------------------------------------------------------------------------------------


def top(apply, params, batch, tolerance=1e-9, **options):
    options = {"num_groups": G, "key": jax.random.key(0)} | options
    return jax.tree.map(np.asarray, group_top_eigenvalues(apply, params, batch, tolerance=tolerance, **options))


def test_top_eigenvalues_are_those_of_the_dense_group_hessians(x64):
    params, batch = mlp_weights(), examples(weighted=True)
    spectra = np.linalg.eigvalsh(dense_derivatives(mlp, params, batch)[1][PRESENT])
    assert (spectra[:, 0] < -0.01).all()  # indefinite, as Hessians of groups are
    found = top(mlp, params, batch)
    np.testing.assert_allclose(found.value[PRESENT], spectra[:, -1], rtol=1e-8)
    assert found.converged[PRESENT].all()
    assert (found.residual <= 1e-9 * np.abs(found.value))[PRESENT].all()
    # An absent group has no Hessian: no number, not converged, and nothing spent on it.
    assert np.isnan([found.value[2], found.residual[2]]).all()
    assert (found.converged[2], found.matvecs[2]) == (False, 1)


def test_top_eigenvalues_agree_with_arpack_on_our_product(x64):
    params, batch = mlp_weights(), examples()
    chunks = by_group(batch, G)
    product = jax.jit(lambda v: group_hvp(mlp, params, chunks, jnp.broadcast_to(v, (G, 43))))
    found = top(mlp, params, chunks)
    for a in (0, 1, 3):
        operator = LinearOperator((43, 43), matvec=lambda v, a=a: np.asarray(product(v.reshape(-1)))[a], dtype=float)
        expected = eigsh(operator, k=1, which="LA", return_eigenvectors=False, tol=1e-10, v0=np.ones(43))[0]
        np.testing.assert_allclose(found.value[a], expected, rtol=1e-8)


def softmax_hessian(w, x):
    """Mean of xxᵀ ⊗ (diag p - ppᵀ): the parameters [D, C] are row-major, features before classes."""
    p = softmax(x @ w, 1)
    return np.mean([np.kron(np.outer(v, v), np.diag(q) - np.outer(q, q)) for v, q in zip(x, p, strict=True)], 0)


def test_softmax_regression_has_a_closed_form(x64):
    """Its Hessian has rank D(C - 1) at most: Lanczos must outlive the end of the Krylov space."""
    batch = examples()
    w = np.random.default_rng(1).normal(size=(D, C))
    vectors = random_vectors(D * C)
    products = group_hvp(softmax_regression, w, by_group(batch, G), vectors)
    found = top(softmax_regression, w, batch, tolerance=0.0)
    for a in PRESENT:
        hessian = softmax_hessian(w, members(batch, a).x)
        rank = np.linalg.matrix_rank(hessian)
        assert rank <= D * (C - 1)
        np.testing.assert_allclose(products[a], hessian @ vectors[a], atol=1e-13)
        np.testing.assert_allclose(found.value[a], np.linalg.eigvalsh(hessian)[-1], rtol=1e-10)
        # With tolerance 0 the search ends at the end of the Krylov space: the rank, and one for the null space.
        assert found.converged[a]
        assert found.matvecs[a] <= rank + 1


def test_binary_logistic_regression_has_a_closed_form(x64):
    batch = examples(classes=2)
    theta = np.random.default_rng(1).normal(size=D)
    found = top(logistic_regression, theta, batch)
    for a in PRESENT:
        x = members(batch, a).x
        p = expit(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(x)
        np.testing.assert_allclose(found.value[a], np.linalg.eigvalsh(hessian)[-1], rtol=1e-8)


def test_uniform_logits_have_a_closed_form(x64):
    """At θ = 0 the Hessian is mean xxᵀ ⊗ (I/C - 11ᵀ/C²), whose top eigenvalue is λ_max(mean xxᵀ) / C."""
    batch = examples()
    found = top(softmax_regression, np.zeros((D, C)), batch)
    for a in PRESENT:
        x = members(batch, a).x
        np.testing.assert_allclose(found.value[a], np.linalg.eigvalsh(x.T @ x / len(x))[-1] / C, rtol=1e-8)


def test_top_eigenvalues_do_not_depend_on_the_key(x64):
    params, batch = mlp_weights(), examples()
    one, two = (top(mlp, params, batch, key=jax.random.key(seed)) for seed in (1, 2))
    np.testing.assert_allclose(one.value, two.value, rtol=1e-8)


def test_float32_reaches_the_default_tolerance():
    params, batch = mlp_weights(dtype=np.float32), examples(dtype=np.float32)
    found = group_top_eigenvalues(mlp, params, batch, num_groups=G, key=jax.random.key(0))
    assert found.value.dtype == jnp.float32
    assert found.converged[PRESENT].all()
    with enable_x64(True):
        wide = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
        hessians = dense_derivatives(mlp, wide, batch._replace(x=batch.x.astype(np.float64)))[1]
    expected = np.linalg.eigvalsh(hessians[PRESENT])[:, -1]
    np.testing.assert_allclose(found.value[PRESENT], expected, rtol=2e-3)


def test_too_few_products_are_owned_up_to(x64):
    found = top(logistic_regression, np.ones(D), examples(classes=2), max_iterations=2)
    # One example has a Hessian of rank one, which takes two products.
    np.testing.assert_array_equal(found.converged, [False, False, False, False, True])  # the third is empty
    np.testing.assert_array_equal(found.matvecs, [2, 2, 1, 2, 2])


# --- compilation, statistics, replicas --------------------------------------------------------------------------------


def normalised(params, stats, x, train):
    """A network with running moments, such as BatchNorm has; in training they would come from the batch."""
    hidden = x @ params["w"]
    mean, var = (hidden.mean(0), hidden.var(0)) if train else (stats["mean"], stats["var"])
    return params["scale"] * (hidden - mean) / jnp.sqrt(var + 1e-5) + params["shift"], {"mean": mean, "var": var}


def evaluated(stats, params, x):
    return params["scale"] * (x @ params["w"] - stats["mean"]) / jnp.sqrt(stats["var"] + 1e-5) + params["shift"]


def normalised_weights(seed):
    rng = np.random.default_rng(seed)
    params = {"w": rng.normal(size=(D, C)), "scale": rng.uniform(0.5, 2, C), "shift": rng.normal(size=C)}
    return params, {"mean": rng.normal(size=C), "var": rng.uniform(0.5, 2, C)}


def test_one_program_serves_all_groups_parameters_and_statistics(x64):
    network, batch = Network(None, normalised), examples()
    for seed in range(3):
        params, stats = normalised_weights(seed)
        apply = network.freeze(stats)
        with compiles(2 * (seed == 0), of="group"):
            gradients = group_gradients(apply, params, batch, num_groups=G)
            found = top(apply, params, batch)
        expected, hessians, *_ = dense_derivatives(Partial(evaluated, stats), params, batch)
        np.testing.assert_allclose(flat_rows(gradients)[PRESENT], expected[PRESENT], atol=1e-13)
        np.testing.assert_allclose(found.value[PRESENT], np.linalg.eigvalsh(hessians[PRESENT])[:, -1], rtol=1e-8)


def test_another_tolerance_or_key_is_not_compiled_again(x64):
    params, batch = mlp_weights(), examples()
    top(mlp, params, batch)
    with compiles(0, of="group"):
        top(mlp, params, batch, tolerance=1e-2, key=jax.random.key(5))


def test_batch_norm_of_flax_is_frozen():
    """In training mode the loss of a batch is no sum over its examples; frozen, the chunks cannot be told."""

    class Small(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(D, C, rngs=rngs)
            self.norm = nnx.BatchNorm(C, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.first(x))

    network, params, stats = from_nnx(Small(nnx.Rngs(0)))
    stats["norm"]["mean"] = jnp.array([0.5, -1.0, 0.25])
    stats["norm"]["var"] = jnp.array([0.5, 2.0, 1.5])
    batch = examples(dtype=np.float32)
    apply = network.freeze(stats)
    one, many = (group_gradients(apply, params, by_group(batch, G, k), num_groups=G) for k in (1, 1000))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), one, many)

    def plain(p, x):
        hidden = x @ p["first"]["kernel"] + p["first"]["bias"]
        scaled = (hidden - stats["norm"]["mean"]) / jnp.sqrt(stats["norm"]["var"] + 1e-5)
        return scaled * p["norm"]["scale"] + p["norm"]["bias"]

    expected = dense_derivatives(plain, params, batch)[0]
    np.testing.assert_allclose(flat_rows(many)[PRESENT], expected[PRESENT], atol=1e-5)


def test_replicas_are_measured_under_vmap(x64):
    chunks = by_group(examples(), G)
    each = [mlp_weights(seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    options = {"num_groups": G, "tolerance": 1e-9}
    keys = jax.random.split(jax.random.key(0), 2)
    gradients = jax.vmap(lambda p: group_gradients(mlp, p, chunks, num_groups=G))(stacked)
    found = jax.vmap(lambda p, k: group_top_eigenvalues(mlp, p, chunks, key=k, **options))(stacked, keys)
    gradients, found = jax.tree.map(np.asarray, (gradients, found))
    for r, params in enumerate(each):
        alone = top(mlp, params, chunks, key=keys[r])
        np.testing.assert_allclose(found.value[r], alone.value, rtol=1e-10)
        np.testing.assert_array_equal(found.matvecs[r], alone.matvecs)
        rows = flat_rows(group_gradients(mlp, params, chunks, num_groups=G))
        np.testing.assert_allclose(flat_rows(jax.tree.map(lambda leaf, r=r: leaf[r], gradients)), rows, atol=1e-13)

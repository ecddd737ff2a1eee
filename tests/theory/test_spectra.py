"""Both ends, restarts, Gauss-Newton, traces and spectral densities on operators of known spectrum, in float64."""

import json
import os
import subprocess
import sys
from functools import partial

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compiles
from jax.flatten_util import ravel_pytree
from locations import SUPPORT
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.special import softmax

from jaxprune.errors import UserError
from jaxprune.theory import (
    by_group,
    check_frozen,
    extreme_eigenvalues,
    group_extreme_eigenvalues,
    group_operator,
    group_spectral_densities,
    group_traces,
    hutch_plus_plus,
    hutchinson,
    xtrace,
)
from jaxprune.theory.derivatives.operators import residual_bytes
from jaxprune.types import Batch

P = 40
SIZES = (11, 7, 0, 5)
G = len(SIZES)
PRESENT = np.flatnonzero(SIZES)


def symmetric(eigenvalues, seed=0):
    eigenvalues = np.asarray(eigenvalues, float)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


def matvec_of(matrices):
    return lambda v: jnp.einsum("gpq,gq->gp", matrices, v)


@partial(jax.jit, static_argnames=("max_iterations", "max_vectors", "both"))
def ends(matrices, start, tolerance, max_iterations=200, max_vectors=None, both=True):
    return extreme_eigenvalues(
        matvec_of(matrices),
        start,
        tolerance=tolerance,
        max_iterations=max_iterations,
        max_vectors=max_vectors,
        both=both,
    )


def starts(count, size, seed=1):
    return np.random.default_rng(seed).normal(size=(count, size))


BULK = np.linspace(-1.0, 0.9, P - 2)
SPECTRA = {
    "indefinite": np.concatenate([[3.0, 2.5], BULK]),
    "largest modulus is negative": np.concatenate([[-10.0, 2.0], BULK]),
    "all negative": np.linspace(-5.0, -0.5, P),
    "all positive": np.linspace(1e-2, 1.0, P),
    "repeated at both ends": np.concatenate([[3.0, 3.0, -2.0, -2.0], BULK[2:]]),
    "twice the identity": np.full(P, 2.0),
    "rank three": np.concatenate([[4.0, -6.0, 1.0], np.zeros(P - 3)]),
    "rank three, positive": np.concatenate([[4.0, 6.0, 1.0], np.zeros(P - 3)]),
    "zero": np.zeros(P),
    "gap of a thousandth": np.concatenate([[1.001, 1.0], BULK]),
}
MATRICES = np.stack([symmetric(s) for s in SPECTRA.values()])


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("max_vectors", [None, 12])
def test_both_ends_are_those_of_the_dense_spectrum(x64, scale, max_vectors):
    """With 12 vectors in place of 40 the search is restarted many times, and finds the same."""
    found = jax.tree.map(np.asarray, ends(scale * MATRICES, starts(len(MATRICES), P), 1e-9, 400, max_vectors))
    expected = scale * np.linalg.eigvalsh(MATRICES)
    norm = np.abs(expected).max(1)
    assert found.largest.converged.all()
    assert found.smallest.converged.all()
    for end, column in ((found.largest, -1), (found.smallest, 0)):
        np.testing.assert_array_less(np.abs(end.value - expected[:, column]), 1e-8 * norm + 1e-300)
    np.testing.assert_allclose(found.spectral_norm, norm, rtol=1e-8)


def test_the_smallest_converges_by_its_own_size(x64):
    """-0.6 beside 50: a thousandth of 50 would let it be off by 8 %."""
    spectrum = np.concatenate([[-0.6], np.linspace(-0.57, 0.5, P - 4), [5.0, 20.0, 50.0]])
    matrices = np.stack([symmetric(spectrum, seed) for seed in range(10)])
    found = ends(matrices, starts(10, P), 1e-3)
    assert found.smallest.converged.all()
    assert (found.smallest.residual <= 0.6e-3).all()
    np.testing.assert_allclose(found.smallest.value, -0.6, rtol=1e-3)
    singular = np.concatenate([np.zeros(1), np.linspace(0.01, 5.0, P - 2), [50.0]])
    found = ends(symmetric(singular)[None], starts(1, P), 1e-3, 39)
    assert found.smallest.converged.all(), "an end of 0 converges by the size of the other"
    assert abs(found.smallest.value[0]) <= 1e-3 * 0.01 * 50


@pytest.mark.parametrize(("end", "which"), [("largest", "LA"), ("smallest", "SA")])
def test_ends_agree_with_arpack(x64, end, which):
    matrix = symmetric(np.concatenate([[-3.0, 2.0], np.linspace(-2.8, 1.9, 98)]), seed=4)
    operator = LinearOperator(matrix.shape, matvec=lambda v: matrix @ v, dtype=float)
    expected = eigsh(operator, k=1, which=which, return_eigenvectors=False, tol=1e-12)[0]
    found = ends(matrix[None], starts(1, 100), 1e-10, 300, 16)
    np.testing.assert_allclose(getattr(found, end).value[0], expected, rtol=1e-9)


def test_a_restarted_search_holds_no_more_vectors_than_it_may(x64):
    """The loop's state is read off the program: no array in it is longer than the budget."""

    def shapes(held):
        program = jax.make_jaxpr(lambda m, s: ends(m, s, 1e-3, 50, held))(MATRICES[:2], starts(2, P))
        return {v.aval.shape for e in _equations(program.jaxpr) for v in e.outvars if v.aval.ndim == 3}

    assert (2, 41, P) in shapes(None)  # 50 products, but no more than P = 40 directions
    assert max(shape[1] for shape in shapes(9) if shape[2] == P) == 10


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from _equations(inner)


def test_residuals_hold_after_restarts(x64):
    """Stopped early: some eigenvalue lies within the residual, which is that of a true pair."""
    rng = np.random.default_rng(2)
    matrices = np.stack([symmetric(rng.normal(size=P), seed=i) for i in range(30)])
    found = jax.tree.map(np.asarray, ends(matrices, starts(30, P), 1e-12, 13, 8))
    eigenvalues = np.linalg.eigvalsh(matrices)
    for end in found:
        assert not end.converged.any()
        assert (end.matvecs == 13).all()
        assert (np.abs(eigenvalues - end.value[:, None]).min(1) <= end.residual + 1e-12).all()
    assert (found.largest.value <= eigenvalues[:, -1] + 1e-12).all()
    assert (found.smallest.value >= eigenvalues[:, 0] - 1e-12).all()


def test_one_end_alone_takes_fewer_products(x64):
    """The bottom of this spectrum is crowded: only who asks for it pays."""
    matrix = symmetric(np.concatenate([[5.0], np.linspace(0, 1, P - 1) ** 3]))[None]
    one, both = (ends(matrix, starts(1, P), 1e-6, 200, None, both) for both in (False, True))
    assert one.largest.matvecs[0] < both.largest.matvecs[0]
    np.testing.assert_allclose(one.largest.value, 5.0, rtol=1e-6)


# --- operators of networks --------------------------------------------------------------------------------------------


def examples(seed=0):
    rng = np.random.default_rng(seed)
    n = sum(SIZES)
    group = rng.permutation(np.repeat(np.arange(G), SIZES))
    weight = rng.choice([0.5, 1.0, 2.0, 3.25], n)
    return Batch(rng.normal(size=(n, 4)), rng.integers(0, 3, n), group, weight.astype(np.float32))


def mlp(params, x):
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def mlp_weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"w": rng.normal(size=(4, 5)), "b": rng.normal(size=5), "v": rng.normal(size=(5, 3))}


@jax.jit
def of_each_example(params, x, y):
    """Hessians and Gauss-Newton matrices [N, P, P], written without the library."""
    flat, unravel = ravel_pytree(params)

    def one(x, y):
        def logits(v):
            return mlp(unravel(v), x[None])[0]

        p = jax.nn.softmax(logits(flat))
        jacobian = jax.jacobian(logits)(flat)
        hessian = jax.hessian(lambda v: -jax.nn.log_softmax(logits(v))[y])(flat)
        return hessian, jacobian.T @ (jnp.diag(p) - jnp.outer(p, p)) @ jacobian

    return jax.vmap(one)(x, y)


def dense_matrices(params, batch, curvature):
    each = np.asarray(of_each_example(params, batch.x, batch.y)[curvature == "gauss_newton"])
    found = np.zeros((G, *each.shape[1:]))
    for a in PRESENT:
        found[a] = np.average(each[batch.group == a], 0, batch.weight[batch.group == a])
    return found


@pytest.mark.parametrize(("curvature", "memory"), [("hessian", 0), ("hessian", 2**30), ("gauss_newton", 2**30)])
def test_products_are_those_of_the_dense_matrices(x64, curvature, memory):
    """Chunks of 3 are ragged in every group; linearised or evaluated anew makes no difference."""
    params, batch = mlp_weights(), examples()
    matrices = dense_matrices(params, batch, curvature)
    chunks = by_group(batch, G, 3)
    operator = group_operator(mlp, params, chunks, num_groups=G, curvature=curvature, memory=memory)
    assert (operator.maps is None) == (memory == 0)
    vectors = starts(G, operator.num_params)
    np.testing.assert_allclose(operator(vectors), np.einsum("gpq,gq->gp", matrices, vectors), atol=1e-12)
    found = group_extreme_eigenvalues(operator, jax.random.key(0), tolerance=1e-9)
    eigenvalues = np.linalg.eigvalsh(matrices)
    eigenvalues[np.array(SIZES) == 0] = np.nan  # a group without examples has no matrix
    np.testing.assert_allclose(found.largest.value, eigenvalues[:, -1], atol=1e-8)
    np.testing.assert_allclose(found.smallest.value, eigenvalues[:, 0], atol=1e-8)


def test_a_linear_network_has_the_hessian_of_its_gauss_newton_matrix(x64):
    batch, w = examples(), np.random.default_rng(1).normal(size=(4, 3))
    vectors = starts(G, w.size)
    one, other = (
        group_operator(lambda p, x: x @ p, w, batch, num_groups=G, curvature=c)(vectors)
        for c in ("hessian", "gauss_newton")
    )
    np.testing.assert_allclose(one, other, atol=1e-13)


def test_a_linearised_operator_is_compiled_once_and_its_memory_is_foretold(x64):
    batch = examples()
    for seed in range(3):
        first = seed == 0
        with compiles(int(first), of="linearised"):
            operator = group_operator(mlp, mlp_weights(seed), batch, num_groups=G)
        with compiles(2 * first, of="group"):
            group_extreme_eigenvalues(operator, jax.random.key(seed))
            group_traces(operator, jax.random.key(seed))
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(operator.maps))
        assert held == residual_bytes(group_operator(mlp, mlp_weights(seed), batch, num_groups=G, memory=0))


def test_the_network_is_not_evaluated_for_groups_whose_search_has_ended(x64):
    """Multiplying by 0 is how a finished group asks; every other group's product stays what it is."""
    seen = []

    def watched(params, x):
        jax.debug.callback(lambda first: seen.append(float(first)), x[0, 0])
        return mlp(params, x)

    chunks = by_group(examples(), G, 3)
    product = jax.jit(lambda operator, vectors: operator(vectors))
    operator = group_operator(watched, mlp_weights(), chunks, num_groups=G, memory=0)
    vectors = jnp.asarray(starts(G, operator.num_params))
    jax.effects_barrier()
    seen.clear()  # of the check that the outputs are those of single examples
    whole = product(operator, vectors)
    jax.effects_barrier()
    every = set(seen)
    seen.clear()
    some = product(operator, vectors.at[0].set(0))
    jax.effects_barrier()
    of_first = {float(x[0, 0]) for x, group in zip(chunks.x, chunks.group, strict=True) if group == 0}
    assert of_first
    assert set(seen) == every - of_first
    np.testing.assert_array_equal(some[0], 0)
    np.testing.assert_array_equal(some[1:], whole[1:])


def test_asking_for_the_memory_again_does_not_trace_the_network_again(x64):
    traced = []

    def watched(params, x):
        traced.append(1)
        return mlp(params, x)

    def ask(seed):
        return residual_bytes(group_operator(watched, mlp_weights(seed), examples(), num_groups=G, memory=0))

    first, times = ask(0), len(traced)
    assert ask(1) == first
    assert len(traced) == times > 0


def test_parameters_that_are_not_finite_are_refused(x64):
    params = mlp_weights()
    params["v"][0, 0] = np.nan
    with pytest.raises(UserError, match="parameter v holds NaN or infinite"):
        group_operator(mlp, params, examples(), num_groups=G)
    with pytest.raises(UserError, match="did you mean 'hessian'"):
        group_operator(mlp, mlp_weights(), examples(), num_groups=G, curvature="hesian")


def test_live_batch_statistics_are_refused(x64):
    x = examples().x
    check_frozen(mlp, mlp_weights(), x)

    def live(params, x):
        return mlp(params, (x - x.mean(0)) / (x.std(0) + 0.1))

    with pytest.raises(UserError, match="freeze the batch statistics"):
        check_frozen(live, mlp_weights(), x)


_SPREAD = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType
jax.config.update("jax_enable_x64", True)
sys.path[:0] = {folders!r}
from test_spectra import G, by_group, examples, group_extreme_eigenvalues, group_operator, mlp, mlp_weights
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
chunks = by_group(examples(), G, 2)
assert len(chunks.group) % 8  # so that some devices are given padding
found = []
for memory in (0, 2**30):
    for over in (None, mesh):
        o = group_operator(mlp, mlp_weights(), chunks, num_groups=G, memory=memory, mesh=over)
        if over is not None:
            leaf = o.chunks.group
            assert len(leaf.sharding.device_set) == 8
        found.append(group_extreme_eigenvalues(o, jax.random.key(0), max_iterations=6).largest.value.tolist())
print(json.dumps(found))
"""


@pytest.mark.slow
def test_eight_devices_find_what_one_finds():
    """Few steps: with larger ones eight pretended devices can starve the threads of a machine with two cores."""
    here = os.path.dirname(__file__)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", _SPREAD.format(folders=[here, str(SUPPORT)])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-12)


# --- traces -----------------------------------------------------------------------------------------------------------

METHODS = {"hutchinson": hutchinson, "hutch++": hutch_plus_plus, "xtrace": xtrace}


@partial(jax.jit, static_argnames=("method", "products"))
def traced(matrices, key, method, products):
    sizes = {"num_groups": len(matrices), "num_params": matrices.shape[-1]}
    return METHODS[method](matvec_of(matrices), key, products=products, **sizes)


def test_hutchinson_is_exact_for_diagonal_operators(x64):
    diagonals = np.random.default_rng(0).normal(size=(3, P))
    found = traced(np.stack([np.diag(d) for d in diagonals]), jax.random.key(0), "hutchinson", 3)
    np.testing.assert_allclose(found.value, diagonals.sum(1), rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)


@pytest.mark.parametrize(("method", "rank"), [("hutch++", 10), ("xtrace", 14), ("xtrace", 3), ("hutch++", 3)])
def test_low_rank_is_traced_exactly(x64, method, rank):
    """30 products. XTrace inverts a matrix that is singular where the rank is below the number of probes."""
    spectrum = np.concatenate([np.linspace(-1, 2, rank), np.zeros(P - rank)])
    found = traced(symmetric(spectrum)[None], jax.random.key(1), method, 30)
    np.testing.assert_allclose(found.value, spectrum.sum(), rtol=1e-7)
    assert found.standard_error[0] < 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_the_zero_operator_has_trace_zero(x64, method):
    found = traced(np.zeros((2, P, P)), jax.random.key(0), method, 12)
    np.testing.assert_array_equal(found.value, 0)
    np.testing.assert_array_equal(found.standard_error, 0)
    assert found.matvecs == 12


@pytest.mark.parametrize("method", METHODS)
def test_traces_are_unbiased_and_their_errors_honest(x64, method):
    """Over 400 keys: the mean is the trace, and two standard errors cover it about as often as Student's t says."""
    spectrum = np.concatenate([[10.0, -4.0, 3.0], np.linspace(-0.5, 0.6, P - 3)])
    matrix = symmetric(spectrum)[None]
    found = jax.vmap(lambda k: traced(matrix, k, method, 24))(jax.random.split(jax.random.key(3), 400))
    values, errors = np.asarray(found.value)[:, 0], np.asarray(found.standard_error)[:, 0]
    assert abs(values.mean() - spectrum.sum()) < 4 * values.std() / 20
    assert np.mean(np.abs(values - spectrum.sum()) < 2 * errors) > 0.85
    assert 0.7 < np.sqrt(np.mean(errors**2)) / values.std() < 1.4


@pytest.mark.parametrize("method", ["hutch++", "xtrace"])
@pytest.mark.parametrize("size", [1, 5, 6])
def test_few_parameters_are_traced_exactly(x64, method, size):
    matrices = np.stack([symmetric(np.arange(1.0, size + 1)), symmetric(-np.arange(2.0, size + 2))])
    found = traced(matrices, jax.random.key(0), method, 6)
    np.testing.assert_allclose(found.value, np.trace(matrices, axis1=1, axis2=2), rtol=1e-12)
    np.testing.assert_array_equal(found.standard_error, 0)
    np.testing.assert_array_equal(found.difference(0, 1)[1], 0)
    assert found.matvecs == size


def test_the_variance_of_hutchinsons_samples_is_the_one_of_the_formula(x64):
    matrix = symmetric(SPECTRA["indefinite"])
    found = traced(matrix[None], jax.random.key(0), "hutchinson", 20000)
    variance = 2 * (np.sum(matrix**2) - np.sum(np.diag(matrix) ** 2))
    np.testing.assert_allclose(np.var(found.samples[:, 0]), variance, rtol=0.05)


@pytest.mark.slow
def test_xtrace_errs_least_on_a_spectrum_with_outliers(x64):
    spectrum = np.concatenate([np.geomspace(10, 1, 8), np.linspace(-0.02, 0.02, 92)])
    matrix, keys = symmetric(spectrum)[None], jax.random.split(jax.random.key(0), 20)
    errors = {}
    for method in METHODS:
        values = [traced(matrix, k, method, 30).value for k in keys]
        errors[method] = np.sqrt(np.mean((np.asarray(values) - spectrum.sum()) ** 2))
    assert errors["xtrace"] < errors["hutch++"] < errors["hutchinson"]
    assert errors["xtrace"] < 0.05 * errors["hutchinson"]


def test_common_probes_tell_groups_apart(x64):
    """Two operators that differ by a little: the error of the difference is far below that of either trace."""
    matrix = symmetric(SPECTRA["indefinite"])
    found = traced(np.stack([matrix, matrix + 0.01 * np.eye(P)]), jax.random.key(0), "hutchinson", 10)
    value, error = found.difference(1, 0)
    np.testing.assert_allclose(value, 0.01 * P, rtol=1e-9)
    assert error < 1e-9 < found.standard_error[0]


def test_group_traces_of_a_network(x64):
    params, batch = mlp_weights(), examples()
    expected = np.trace(dense_matrices(params, batch, "hessian"), axis1=1, axis2=2)
    operator = group_operator(mlp, params, batch, num_groups=G)
    found = group_traces(operator, jax.random.key(0), products=50)  # more than there are parameters
    np.testing.assert_array_equal(found.standard_error[PRESENT], 0)
    assert found.matvecs == operator.num_params < 50
    np.testing.assert_allclose(found.value[PRESENT], expected[PRESENT], atol=1e-9)
    assert np.isnan(found.value[2]), "a group without examples has no trace"
    with pytest.raises(UserError, match="too few"):
        group_traces(group_operator(mlp, params, batch, num_groups=G), jax.random.key(0), products=3)


# --- spectral density -------------------------------------------------------------------------------------------------


def test_moments_of_the_quadrature_are_exact(x64):
    """Σ w θ^j = vᵀH^j v for j <= 2M - 1, and no longer: Golub and Meurant."""
    params, batch, steps = mlp_weights(), examples(), 4
    matrices = dense_matrices(params, batch, "hessian")
    operator, key = group_operator(mlp, params, batch, num_groups=G), jax.random.key(4)
    found = group_spectral_densities(operator, key, steps=steps, starts=3)
    size = operator.num_params
    vectors = np.stack([jax.random.rademacher(k, (size,), np.float64) for k in jax.random.split(key, 3)])
    errors = []
    for order in range(2 * steps + 1):
        powers = np.stack([np.linalg.matrix_power(m, order) for m in matrices])
        expected = np.einsum("vp,gpq,vq->vg", vectors, powers, vectors) / size
        got = np.sum(np.asarray(found.weights * found.nodes**order), -1)
        errors.append(np.abs(got - expected)[:, PRESENT].max() / np.abs(expected[:, PRESENT]).max())
    assert max(errors[:-1]) < 1e-12
    assert errors[-1] > 1e-8
    np.testing.assert_allclose(found.moment(2)[PRESENT], [
        np.mean([v @ m @ m @ v for v in vectors]) / size for m in matrices[PRESENT]
    ], rtol=1e-10)  # fmt: skip


def test_the_density_of_a_group_is_that_of_its_eigenvalues(x64):
    """As many steps as parameters: the nodes are the eigenvalues; the mass at each is a random share."""
    params, batch = mlp_weights(), examples()
    eigenvalues = np.linalg.eigvalsh(dense_matrices(params, batch, "hessian"))
    operator = group_operator(mlp, params, batch, num_groups=G)
    found = group_spectral_densities(operator, jax.random.key(0), steps=200, starts=100)
    assert found.nodes.shape == (100, G, operator.num_params)
    np.testing.assert_allclose(found.weights.sum(-1)[:, PRESENT], 1, rtol=1e-10)
    grid = np.linspace(-3, 5, 400)
    smooth = np.asarray(found.smooth(grid, jnp.full(G, 0.3)))
    bumps = np.exp(-((grid - eigenvalues[..., None]) ** 2) / (2 * 0.3**2)) / (0.3 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(smooth[PRESENT], bumps.mean(1)[PRESENT], atol=0.08 * bumps.mean(1).max())
    np.testing.assert_allclose(np.trapezoid(smooth, grid, axis=1)[PRESENT], 1, rtol=1e-3)
    assert np.isnan(smooth[2]).all()
    for a in PRESENT:
        expected = np.mean(eigenvalues[a] > 0.2)
        assert abs(float(found.share(0.2, np.inf)[a]) - expected) < 0.07


@pytest.mark.slow
def test_the_rank_of_softmax_regression_shows_in_its_density(x64):
    """θ = 0: H = (I/C - 11ᵀ/C²) ⊗ mean xxᵀ, whose null space holds a third of the mass at least."""
    batch = examples()
    operator = group_operator(lambda p, x: x @ p, np.zeros((4, 3)), batch, num_groups=G)
    found = group_spectral_densities(operator, jax.random.key(0), steps=12, starts=2000)
    expected = []
    for a in PRESENT:
        chosen = batch.group == a
        p = softmax(np.zeros(3))
        moment = np.average(np.einsum("ni,nj->nij", batch.x, batch.x)[chosen], 0, batch.weight[chosen])
        expected.append(np.mean(np.abs(np.linalg.eigvalsh(np.kron(moment, np.diag(p) - np.outer(p, p)))) < 1e-9))
    np.testing.assert_allclose(found.share(-1e-9, 1e-9)[PRESENT], expected, atol=0.02)


def test_a_density_of_nothing_is_refused(x64):
    with pytest.raises(UserError, match="take 1 or more"):
        group_spectral_densities(
            group_operator(mlp, mlp_weights(), examples(), num_groups=G), jax.random.key(0), steps=0
        )

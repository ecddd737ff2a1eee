"""The top eigenvalue on operators of known spectrum, against dense eigenvalues in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, eigsh

from jaxprune.theory import extreme_eigenvalues

P = 24


def symmetric(eigenvalues, seed=0):
    """A dense symmetric matrix of this spectrum in a random basis."""
    eigenvalues = np.asarray(eigenvalues, float)
    basis = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(eigenvalues),) * 2))[0]
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


def starts(count, size, seed=1):
    return np.random.default_rng(seed).normal(size=(count, size))


def top_eigenvalue(matvec, start, **options):
    return extreme_eigenvalues(matvec, start, both=False, **options).largest


@partial(jax.jit, static_argnames="max_iterations")
def solve(matrices, start, tolerance, max_iterations):
    """The matrices are an argument, so that one program serves every spectrum of one shape."""
    return top_eigenvalue(
        lambda v: jnp.einsum("gpq,gq->gp", matrices, v), start, tolerance=tolerance, max_iterations=max_iterations
    )


def solve_one(matrix, tolerance=1e-10, max_iterations=P, dtype=np.float64, seed=1):
    start = starts(1, len(matrix), seed).astype(dtype)
    found = solve(matrix[None].astype(dtype), start, dtype(tolerance), max_iterations)
    assert found.value.dtype == found.residual.dtype == dtype
    return jax.tree.map(lambda leaf: np.asarray(leaf)[0], found)


BULK = np.linspace(-1.0, 0.9, P - 2)
SPECTRA = {
    "indefinite": np.concatenate([[3.0, 2.5], BULK]),
    "largest modulus is negative": np.concatenate([[-10.0, 2.0], BULK]),
    "positive by a little": np.concatenate([[1e-3, 1e-4], np.linspace(-5, -1, P - 2)]),
    "all negative": np.linspace(-5.0, -0.5, P),
    "all positive": np.geomspace(1e-6, 1.0, P),
    "repeated at the top": np.concatenate([[3.0, 3.0], BULK]),
    "repeated at the bottom": np.concatenate([[3.0], np.full(P - 1, -1.0)]),
    "twice the identity": np.full(P, 2.0),
    "minus the identity": np.full(P, -1.0),
    "rank three": np.concatenate([[4.0, -6.0, 1.0], np.zeros(P - 3)]),
    "rank one": np.concatenate([[4.0], np.zeros(P - 1)]),
    "gap of a thousandth": np.concatenate([[1.001, 1.0], BULK]),
    "two clusters": np.concatenate([np.full(P // 2, 1.0), np.full(P // 2, -1.0)]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_value_is_the_largest_algebraic_eigenvalue(x64, name):
    matrix = symmetric(SPECTRA[name])
    found = solve_one(matrix)
    expected = np.linalg.eigvalsh(matrix)[-1]
    np.testing.assert_allclose(found.value, expected, rtol=1e-9)
    assert found.converged
    assert found.residual <= 1e-10 * abs(found.value)


@pytest.mark.parametrize("name", ["indefinite", "largest modulus is negative", "all negative", "gap of a thousandth"])
def test_value_agrees_with_arpack(x64, name):
    matrix = symmetric(SPECTRA[name], seed=3)
    operator = LinearOperator(matrix.shape, matvec=lambda v: matrix @ v, dtype=float)
    expected = eigsh(operator, k=1, which="LA", return_eigenvectors=False, tol=1e-12)[0]
    np.testing.assert_allclose(solve_one(matrix).value, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "distinct"),
    [
        ("twice the identity", 1),
        ("minus the identity", 1),
        ("two clusters", 2),
        ("rank one", 2),
        ("repeated at the bottom", 2),
        ("rank three", 4),
    ],
)
def test_few_distinct_eigenvalues_take_as_many_products(x64, name, distinct):
    """The Krylov space ends after as many steps as there are distinct eigenvalues, and the search with it."""
    found = solve_one(symmetric(SPECTRA[name]), tolerance=0.0)
    assert found.converged
    assert found.residual == 0
    assert found.matvecs == distinct


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_zero_operator_has_converged_at_once(x64, dtype):
    found = solve_one(np.zeros((P, P)), dtype=dtype)
    assert (found.value, found.residual, found.converged, found.matvecs) == (0, 0, True, 1)


@pytest.mark.parametrize("name", ["indefinite", "gap of a thousandth", "all positive"])
def test_the_scale_does_not_change_the_number_of_products(x64, name):
    matrix = symmetric(SPECTRA[name])
    plain = solve_one(matrix, tolerance=1e-3)
    assert plain.matvecs < P  # it stopped on the residual
    for scale in (1e-12, 1e-8, 1e-3, 1e5, 1e12):
        found = solve_one(scale * matrix, tolerance=1e-3)
        np.testing.assert_allclose(found.value, scale * plain.value, rtol=1e-9)
        np.testing.assert_allclose(found.residual, scale * plain.residual, rtol=1e-6)
        assert (found.matvecs, found.converged) == (plain.matvecs, True)


@pytest.mark.parametrize("name", SPECTRA)
def test_float32_is_as_accurate_as_its_tolerance(name):
    matrix = symmetric(SPECTRA[name])
    found = solve_one(matrix, tolerance=1e-3, dtype=np.float32)
    eigenvalues = np.linalg.eigvalsh(matrix)
    rounding = 1e-5 * np.abs(eigenvalues).max()
    assert found.converged
    assert found.value <= eigenvalues[-1] + rounding
    assert np.abs(eigenvalues - found.value).min() <= found.residual + rounding
    np.testing.assert_allclose(found.value, eigenvalues[-1], rtol=2e-3, atol=rounding)


@pytest.mark.parametrize("exponent", [-80, -40, 40, 80])
def test_the_scale_does_not_matter_in_float32(exponent):
    """Powers of two, about 1e-24, 1e-12, 1e12 and 1e24, so that not even the rounding differs.

    The squares of the outer two are beyond float32: a norm has to be taken of scaled numbers.
    """
    matrix = symmetric(SPECTRA["indefinite"]).astype(np.float32)
    plain = solve_one(matrix, tolerance=1e-3, dtype=np.float32)
    found = solve_one(2.0**exponent * matrix, tolerance=1e-3, dtype=np.float32)
    np.testing.assert_allclose(found.value, 2.0**exponent * plain.value, rtol=1e-5)
    assert (found.matvecs, found.converged) == (plain.matvecs, plain.converged)


def random_problems(count, size, seed):
    """Matrices of every kind: shifted up and down, of low rank, with clusters."""
    rng = np.random.default_rng(seed)
    spectra = rng.normal(size=(count, size)) * rng.choice([0.1, 1, 10], (count, 1)) + rng.choice([-3, 0, 3], (count, 1))
    spectra[::4, size // 2 :] = 0
    spectra[1::4] = np.round(spectra[1::4])
    return np.stack([symmetric(s, seed=i) for i, s in enumerate(spectra)])


@pytest.mark.parametrize("max_iterations", [1, 6])
def test_an_eigenvalue_lies_within_the_residual(x64, max_iterations):
    matrices = random_problems(60, 12, seed=5)
    found = jax.tree.map(np.asarray, solve(matrices, starts(60, 12), 0.05, max_iterations))
    eigenvalues = np.linalg.eigvalsh(matrices)
    rounding = 1e-12 * np.abs(eigenvalues).max(1)
    nearest = np.abs(eigenvalues - found.value[:, None]).min(1)
    assert (nearest <= found.residual + rounding).all()
    assert (found.value <= eigenvalues[:, -1] + rounding).all()
    np.testing.assert_array_equal(found.converged, found.residual <= 0.05 * np.abs(found.value))
    assert (found.matvecs <= max_iterations).all()
    assert (found.matvecs[~found.converged] == max_iterations).all()
    assert (~found.converged).any()  # the test has both kinds
    if max_iterations > 1:
        assert found.converged.any()


def test_the_residual_is_that_of_the_ritz_pair(x64):
    """‖Av - θv‖ from a Krylov space orthogonalised by numpy, in place of the recurrence's β|s|."""
    matrix, steps = symmetric(SPECTRA["indefinite"]), 5
    start = starts(1, P)
    krylov = [start[0] / np.linalg.norm(start[0])]
    for _ in range(steps - 1):
        krylov.append(matrix @ krylov[-1])
    basis = np.linalg.qr(np.stack(krylov, 1))[0]
    values, vectors = np.linalg.eigh(basis.T @ matrix @ basis)
    ritz = basis @ vectors[:, -1]
    found = solve_one(matrix, tolerance=0.0, max_iterations=steps)
    np.testing.assert_allclose(found.value, values[-1], rtol=1e-10)
    np.testing.assert_allclose(found.residual, np.linalg.norm(matrix @ ritz - values[-1] * ritz), rtol=1e-8)


def test_too_few_iterations_are_owned_up_to(x64):
    matrix = symmetric(SPECTRA["gap of a thousandth"])
    found = solve_one(matrix, tolerance=1e-6, max_iterations=3)
    assert not found.converged
    assert found.matvecs == 3
    assert found.residual > 1e-6 * abs(found.value)
    assert found.value < 1.0


def test_lockstep_gives_what_each_operator_gives_alone(x64):
    """Operators of unlike difficulty and scale: the easy ones must stay as they were when they were done.

    Nor may they feel the last one, of a network that diverged.
    """
    names = ["twice the identity", "gap of a thousandth", "indefinite", "rank three"]
    matrices = np.stack([symmetric(SPECTRA[n]) for n in names] + [np.zeros((P, P)), np.full((P, P), np.nan)])
    matrices *= np.array([1.0, 1e-6, 1e6, 1.0, 1.0, 1.0])[:, None, None]
    start = starts(6, P)
    together = jax.tree.map(np.asarray, solve(matrices, start, 1e-4, P))
    assert len(set(together.matvecs.tolist())) >= 4  # of unlike difficulty indeed
    np.testing.assert_array_equal(together.converged, [True] * 5 + [False])
    for i in range(5):
        one = jax.tree.map(np.asarray, solve(matrices[i : i + 1], start[i : i + 1], 1e-4, P))
        np.testing.assert_allclose(together.value[i], one.value[0], rtol=1e-12)
        np.testing.assert_allclose(together.residual[i], one.residual[0], rtol=1e-6, atol=1e-12 * abs(one.value[0]))
        assert together.matvecs[i] == one.matvecs[0]
        assert together.converged[i] == one.converged[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_not_converged(x64, bad):
    """A network that diverged: infinity is not small beside infinity."""
    matrix = symmetric(SPECTRA["indefinite"])
    matrix[3, 3] = bad
    found = solve_one(matrix)
    assert not found.converged
    assert found.residual != 0


@pytest.mark.parametrize("size", [1, 3])
def test_fewer_parameters_than_iterations(x64, size):
    matrix = symmetric(np.linspace(-2.0, 5.0, size), seed=2)
    found = solve_one(matrix, max_iterations=50)
    np.testing.assert_allclose(found.value, np.linalg.eigvalsh(matrix)[-1], rtol=1e-12)
    assert found.converged
    assert found.matvecs <= size


def test_counted_products_are_the_products_taken(x64):
    """Every product calls back."""
    matrices = np.stack([symmetric(np.full(6, 2.0)), symmetric([3.0, 2.0, 1.0, -0.5, -1.0, -4.0])])
    calls = []

    def matvec(v):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.einsum("gpq,gq->gp", matrices, v)

    found = jax.tree.map(np.asarray, jax.jit(lambda start: top_eigenvalue(matvec, start, tolerance=0.05))(starts(2, 6)))
    jax.effects_barrier()
    assert len(calls) == found.matvecs.max()
    assert found.matvecs[0] == 1
    assert found.matvecs[1] > 2


def test_a_hard_spectrum_takes_few_products(x64):
    """λ₂/λ₁ = 0.98 among 100: power iteration needs about 86 products to a thousandth, Lanczos a few."""
    matrix = symmetric(np.concatenate([[1.0, 0.98], np.linspace(-0.9, 0.9, 98)]))
    found = solve_one(matrix, tolerance=1e-2, max_iterations=100)
    assert found.converged
    assert found.matvecs <= 25
    np.testing.assert_allclose(found.value, 1.0, rtol=1e-3)


def test_reorthogonalisation_finds_no_ghosts(x64):
    """Long after convergence the plain recurrence loses orthogonality and its Ritz values are no longer trusted.

    With tolerance 0 the search goes on to the end; value and count must still be those of the matrix.
    """
    matrix = symmetric(np.concatenate([[1e6, 1.0], np.linspace(-1, 0.9, 98)]))
    found = solve_one(matrix, tolerance=0.0, max_iterations=100)
    np.testing.assert_allclose(found.value, 1e6, rtol=1e-12)
    assert found.residual <= 1e-9


def test_a_largest_eigenvalue_of_zero(x64):
    """A relative test of the residual never ends at 0; the end of the Krylov space must."""
    found = solve_one(symmetric(np.concatenate([[0.0], np.linspace(-5.0, -1.0, P - 1)])))
    assert found.converged
    assert abs(found.value) < 1e-12


def test_replicas_search_under_vmap(x64):
    """Each replica stops where it would have alone."""
    matrices = np.stack([symmetric(SPECTRA[n]) for n in ("twice the identity", "indefinite")])[:, None]
    start = starts(2, P)[:, None]
    found = jax.vmap(lambda a, s: solve(a, s, 1e-4, P))(matrices, start)
    found = jax.tree.map(np.asarray, found)
    for r in range(2):
        alone = solve(matrices[r], start[r], 1e-4, P)
        np.testing.assert_allclose(found.value[r], alone.value, rtol=1e-12)
        np.testing.assert_array_equal(found.matvecs[r], alone.matvecs)

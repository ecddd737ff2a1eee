"""Extreme eigenvalues of several operators at once, by thick-restart Lanczos."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.replicas import where_due
from jaxprune.theory.checks import check_products
from jaxprune.types import Array

_BLOCK = 4  # vectors of the basis that are read at a time
_LEAST = 0.01  # of the larger modulus: the tolerance of the smallest eigenvalue is relative to this share at least


class Eigenvalue(NamedTuple):
    """An eigenvalue with its error.

    Attributes:
      value: [G] the Ritz value; never beyond the eigenvalue that it stands for but for rounding.
      residual: [G] ‖Av - θv‖ of its Ritz pair: an eigenvalue lies within this distance of `value`, but for rounding.
        A small residual does not prove that none lies beyond; a tighter tolerance makes a miss less likely.
      converged: [G] bool, True where the residual met the tolerance.
      matvecs: [G] int32, the number of products.
    """

    value: Array
    residual: Array
    converged: Array
    matvecs: Array


class Extremes(NamedTuple):
    """Both ends of a spectrum, each [G].

    Attributes:
      largest: The largest algebraic eigenvalue.
      smallest: The smallest algebraic eigenvalue.
    """

    largest: Eigenvalue
    smallest: Eigenvalue

    @property
    def spectral_norm(self) -> Array:
        """The largest modulus of the two ends, ‖A‖₂ where both have converged."""
        return jnp.maximum(jnp.abs(self.largest.value), jnp.abs(self.smallest.value))


class Krylov(NamedTuple):
    """Orthonormal vectors q and the projected matrix QAQᵀ of G operators.

    Attributes:
      basis: [G, m + 1, P], orthonormal rows, 0 where not reached.
      matrix: [G, m, m], symmetric, 0 where not reached.
    """

    basis: jax.Array
    matrix: jax.Array


class _Search(NamedTuple):
    krylov: Krylov
    position: Array  # [] rows of the matrix that are filled
    taken: Array  # [] products taken
    extremes: Extremes


def extreme_eigenvalues(
    matvec: Callable[[Array], Array],
    start: Array,
    *,
    tolerance: float = 1e-3,
    max_iterations: int = 50,
    max_vectors: int | None = None,
    both: bool = True,
) -> Extremes:
    """The largest and smallest *algebraic* eigenvalues of G symmetric operators.

    Lanczos with full reorthogonalisation, done twice (twice is enough: Parlett, The Symmetric Eigenvalue Problem,
    §6.9), stopped on the residual β_m |s_m| of the Ritz pairs. Every test is relative, so that any scale of the
    operator takes the same steps; an operator that is 0, or has few distinct eigenvalues, ends early with residual 0.
    When there are `max_vectors` the search is restarted from the best half of its Ritz vectors (thick restart: Wu and
    Simon, SIAM J. Matrix Anal. Appl. 22, 2000): the memory is G * (max_vectors + 1) * P numbers for any products.

    Args:
      matvec: [G, P] -> [G, P], applying operator a to row a.
      start: [G, P] starting vectors, not 0.
      tolerance: Of the residual, relative to the value; for the smallest, which is 0 for many operators, to a hundredth
        of the larger modulus of the two ends where that is more.
      max_iterations: The largest number of products; what has not converged by then is marked.
      max_vectors: The largest number of vectors in memory, at least 4; None for as many as products.
      both: Search until both ends have converged; otherwise until the largest has, and the smallest may not have.

    Returns:
      Both ends for each operator, with residuals.

    Raises:
      UserError: `max_iterations` is below 1.
    """
    check_products(max_iterations)
    num, size = start.shape
    products = min(max_iterations, size) if max_vectors is None else max_iterations
    capacity = min(products, size, max(4, max_vectors or products))
    kept = capacity // 2  # vectors that survive a restart
    step = _stepper(matvec, tolerance, both)
    restarted = where_due(lambda krylov, _: _restart(krylov, kept, both))

    def unfinished(search: _Search) -> Array:
        done = _done(search.extremes, both)
        return (search.taken < products) & ~jnp.all(done)

    def advance(search: _Search) -> _Search:
        if capacity < products:  # a search that cannot outgrow its basis has no restart in its program
            restart = search.position == capacity
            krylov = restarted(restart, search.krylov, ())
            search = search._replace(krylov=krylov, position=jnp.where(restart, kept, search.position))
        return step(search)

    begun = _Search(
        krylov=empty_krylov(start, capacity),
        position=jnp.int32(0),
        taken=jnp.int32(0),
        extremes=_nothing(num, start.dtype),
    )
    with jax.default_matmul_precision("highest"):
        return jax.lax.while_loop(unfinished, advance, begun).extremes


def _nothing(num: int, dtype: Any) -> Extremes:
    """The ends before the first product: not converged."""
    end = Eigenvalue(
        value=jnp.zeros(num, dtype),
        residual=jnp.full(num, jnp.inf, dtype),
        converged=jnp.zeros(num, bool),
        matvecs=jnp.zeros(num, jnp.int32),
    )
    return Extremes(largest=end, smallest=end)


def empty_krylov(start: Array, capacity: int) -> Krylov:
    """Krylov spaces of the starting vectors [G, P], with room for `capacity` steps."""
    num, size = start.shape
    basis = jnp.zeros((num, capacity + 1, size), start.dtype).at[:, 0].set(unit(start))
    return Krylov(basis=basis, matrix=jnp.zeros((num, capacity, capacity), start.dtype))


def extend(krylov: Krylov, position: Array, w: Array, done: Array) -> tuple[Krylov, Array, Array]:
    """Extend the Krylov spaces by w = A q of the newest vectors q.

    Args:
      krylov: The Krylov spaces so far.
      position: [] the number of rows that are filled.
      w: [G, P] the products.
      done: [G] operators that stay as they are while the others go on.

    Returns:
      The extended spaces, β [G] (the norm of the new part of w), and exhausted [G] bool, True where nothing is new: the
      Krylov space is invariant then.
    """
    basis, matrix = krylov
    # Twice is enough: after the second pass w is orthogonal to the basis to working precision.
    along = jnp.zeros((len(w), basis.shape[1]), w.dtype)
    for _ in range(2):
        w, along = _orthogonalised(basis, position, w, along)
    # `along` is qᵢᵀAq for all i, so that the matrix is QAQᵀ also after a restart, where it is not tridiagonal.
    along = jnp.where(done[:, None], 0, along[:, :-1])
    beta = jnp.where(done, 0, _norm(w))
    matrix = matrix.at[:, position].set(along).at[:, :, position].set(along)
    scale = jnp.max(jnp.sum(jnp.abs(matrix), 2), 1) + beta
    exhausted = beta <= 64 * jnp.finfo(w.dtype).eps * scale  # <= so that the zero operator counts
    following = jnp.where((done | exhausted)[:, None], 0, w / jnp.where(beta > 0, beta, 1)[:, None])
    return Krylov(basis.at[:, position + 1].set(following), matrix), beta, exhausted


def _orthogonalised(basis: Array, position: Array, w: Array, along: Array) -> tuple[Array, Array]:
    """Subtract from w its parts along the basis, and add them to `along`.

    The basis is its rows 0 to `position`.

    Block by block, and no block that was not reached is read: a basis has room for many more vectors than most
    searches need, and reading all of it took a twentieth of the time of a search on a CPU.
    """
    rows = basis.shape[1]
    size = min(_BLOCK, rows)

    def without(block: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        w, along = carry
        first = jnp.minimum(block * size, rows - size)  # the last block may overlap with the one before it
        fresh = first + jnp.arange(size) >= block * size
        vectors = jax.lax.dynamic_slice_in_dim(basis, first, size, 1)
        part = jnp.where(fresh, jnp.einsum("gmp,gp->gm", vectors, w), 0)
        before = jax.lax.dynamic_slice_in_dim(along, first, size, 1)
        along = jax.lax.dynamic_update_slice_in_dim(along, before + part, first, 1)
        return w - jnp.einsum("gmp,gm->gp", vectors, part), along

    return jax.lax.fori_loop(0, position // size + 1, without, (w, along))


def _stepper(matvec: Callable[[Array], Array], tolerance: float, both: bool) -> Callable[[_Search], _Search]:
    def step(search: _Search) -> _Search:
        done = _done(search.extremes, both)
        newest = search.krylov.basis[:, search.position]
        product = matvec(jnp.where(done[:, None], 0, newest))  # 0 costs a group operator nothing
        krylov, beta, exhausted = extend(search.krylov, search.position, product, done)
        taken, position = search.taken + 1, search.position + 1
        values, weights = _ritz_ends(krylov.matrix, position)
        # ‖Ay - θy‖ = β_m |s_m| for a Ritz vector y = Qs: no product is needed for the residual.
        residual = jnp.where(exhausted[:, None], 0, beta[:, None] * weights)
        modulus = jnp.abs(values)
        least = _LEAST * jnp.max(modulus, 1)
        reference = jnp.stack([modulus[:, 0], jnp.maximum(modulus[:, 1], least)], 1)
        converged = exhausted[:, None] | (residual <= tolerance * reference)
        converged &= jnp.isfinite(values)  # infinity is not small beside infinity
        count = jnp.full(len(beta), taken, jnp.int32)
        now = Extremes(*(Eigenvalue(values[:, i], residual[:, i], converged[:, i], count) for i in (0, 1)))
        # An operator whose search has ended keeps its values while the others go on.
        extremes = jax.tree.map(lambda old, new: jnp.where(done, old, new), search.extremes, now)
        return _Search(krylov=krylov, position=position, taken=taken, extremes=extremes)

    return step


def _done(extremes: Extremes, both: bool) -> Array:
    largest = extremes.largest.converged
    return largest & extremes.smallest.converged if both else largest


def _restart(krylov: Krylov, kept: int, both: bool) -> Krylov:
    """The Krylov space of `kept` best Ritz vectors and the newest."""
    # A times each Ritz vector lies in its own span and that of the newest vector, so the recurrence goes on from here.
    # In the new basis the matrix is diagonal; its border with the newest vector comes with the next product.
    values, vectors = jnp.linalg.eigh(krylov.matrix)
    low = kept // 2 if both else 1
    index = jnp.concatenate([jnp.arange(low), jnp.arange(values.shape[1] - (kept - low), values.shape[1])])
    ritz = jnp.einsum("gmk,gmp->gkp", vectors[:, :, index], krylov.basis[:, :-1])
    basis = jnp.zeros_like(krylov.basis).at[:, :kept].set(ritz).at[:, kept].set(krylov.basis[:, -1])
    matrix = jnp.zeros_like(krylov.matrix).at[:, :kept, :kept].set(jax.vmap(jnp.diag)(values[:, index]))
    return Krylov(basis, matrix)


def unit(vectors: Array) -> Array:
    """Rows [G, P] of length 1; rows of 0 stay 0."""
    length = _norm(vectors)
    return vectors / jnp.where(length > 0, length, 1)[:, None]


def _norm(vectors: Array) -> Array:
    """Euclidean norms of rows, without the under- or overflow of their squares."""
    largest = jnp.max(jnp.abs(vectors), 1)
    return largest * jnp.linalg.norm(vectors / jnp.where(largest > 0, largest, 1)[:, None], axis=1)


def _ritz_ends(matrix: Array, steps: Array) -> tuple[Array, Array]:
    """Both end eigenvalues of the leading `steps` x `steps` matrix, [G, 2].

    Beside them the moduli of the last entries of their eigenvectors, [G, 2].
    """
    m = matrix.shape[1]
    # Rows not reached are moved below the whole spectrum (Gershgorin), so that they come first and are told apart.
    below = -4 * jnp.max(jnp.sum(jnp.abs(matrix), 2), 1)
    below = jnp.where(below < 0, below, -1)  # the zero matrix
    outside = jnp.arange(m) >= steps
    values, vectors = jnp.linalg.eigh(matrix + jax.vmap(jnp.diag)(below[:, None] * outside))
    last = jnp.abs(jnp.take(vectors, steps - 1, axis=1))
    ends = jnp.stack([jnp.asarray(m - 1), m - steps])
    return jnp.take(values, ends, axis=1), jnp.take(last, ends, axis=1)

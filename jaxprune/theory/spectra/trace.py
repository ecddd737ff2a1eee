"""Traces of several symmetric operators, estimated from common probes."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError, unknown
from jaxprune.states import check_key
from jaxprune.theory.derivatives.operators import GroupOperator, everywhere
from jaxprune.types import Array

Matvec = Callable[[Array], Array]


class Trace(NamedTuple):
    """Estimated traces of G operators.

    Attributes:
      value: [G] the mean of the samples; unbiased.
      standard_error: [G] of the value; 0 where the trace is exact, NaN with a single sample. That of `xtrace` is too
        small, as its samples share their products: with 30 products and 200 parameters it was 70 % to 90 % of the true
        one, and the value lay within Student's 95 % interval in 83 % to 94 % of 2,000 tries, by the spectrum (in
        93 % to 96 % for the other estimators).
      samples: [K, G] one estimate for each probe; the probes are common to the operators, so that the samples of two of
        them rise and fall together.
      matvecs: [] int32, products taken for each operator.
    """

    value: Array
    standard_error: Array
    samples: Array
    matvecs: Array

    def difference(self, a: int, b: int) -> tuple[Array, Array]:
        """tr(A_a) - tr(A_b) with its standard error.

        Common probes make the error smaller than that of either trace.
        """
        return _summary(self.samples[:, a] - self.samples[:, b])


def hutchinson(matvec: Matvec, key: jax.Array, *, num_groups: int, num_params: int, products: int) -> Trace:
    """The mean of zᵀAz over Rademacher probes z.

    Its variance is 2(‖A‖_F² - Σ A_ii²) / products.

    Hutchinson, Communications in Statistics 18, 1989.

    Args:
      matvec: [G, P] -> [G, P], applying operator a to row a.
      key: Decides the probes.
      num_groups: G.
      num_params: P.
      products: Products for each operator, one for each probe.

    Returns:
      The traces.
    """
    probes = _probes(key, products, num_params)
    samples = jnp.einsum("kp,kgp->kg", probes, _apply_shared(matvec, probes, num_groups))
    return Trace(*_summary(samples), samples, jnp.int32(products))


def hutch_plus_plus(matvec: Matvec, key: jax.Array, *, num_groups: int, num_params: int, products: int) -> Trace:
    """Hutch++: exact on a sketched range, Hutchinson's estimate on the rest.

    Meyer, Musco, Musco and Woodruff, SOSA 2021. Exact where the rank is at most a third of the products, and from P
    products on. Arguments and result as for `hutchinson`; the memory is G * products / 3 * P numbers.
    """
    if products >= num_params:
        return _exact(matvec, num_groups, num_params)
    third = max(1, products // 3)
    sketch, probes = jnp.split(_probes(key, 2 * third, num_params), 2)
    # tr(A) = tr(QᵀAQ) + tr((I - QQᵀ)A(I - QQᵀ)): the first part is exact, the second is estimated.
    basis = _orthonormal(jnp.moveaxis(_apply_shared(matvec, sketch, num_groups), 0, 2))  # [G, P, k]
    within = jnp.einsum("gpk,kgp->g", basis, jax.lax.map(matvec, jnp.moveaxis(basis, 2, 0)))
    along = jnp.einsum("gpk,jp->jgk", basis, probes)
    outside = probes[:, None] - jnp.einsum("gpk,jgk->jgp", basis, along)
    samples = within + jnp.einsum("kgp,kgp->kg", outside, jax.lax.map(matvec, outside))
    return Trace(*_summary(samples), samples, jnp.int32(3 * third))


def xtrace(matvec: Matvec, key: jax.Array, *, num_groups: int, num_params: int, products: int) -> Trace:
    """XTrace: every probe serves in the sketch for all others.

    It has the smallest error of the three for the same number of products.

    Epperly, Tropp and Webber, SIAM J. Matrix Anal. Appl. 45, 2024, with Rademacher probes. Exact from P products on.
    Arguments and result as for `hutchinson`; the memory is G * products * P numbers.
    """
    if products >= num_params:
        return _exact(matvec, num_groups, num_params)
    count = max(2, products // 2)
    probes = _probes(key, count, num_params)
    sketch = jnp.moveaxis(_apply_shared(matvec, probes, num_groups), 0, 2)  # [G, P, k]: A of every probe
    basis, upper = jnp.linalg.qr(sketch)  # AΩ = QR; R tells below what each probe added to the range
    image = jnp.moveaxis(jax.lax.map(matvec, jnp.moveaxis(basis, 2, 0)), 0, 2)
    samples = jax.vmap(partial(_leave_one_out, probes))(basis, upper, sketch, image).T
    return Trace(*_summary(samples), samples, jnp.int32(2 * count))


ESTIMATORS: Mapping[str, Callable[..., Trace]] = {
    "hutchinson": hutchinson,
    "hutch++": hutch_plus_plus,
    "xtrace": xtrace,
}


def group_traces(operator: GroupOperator, key: jax.Array, *, products: int = 30, estimator: str = "xtrace") -> Trace:
    """The trace of every group's curvature matrix, with common probes.

    Args:
      operator: The curvature, made by `group_operator`.
      key: Decides the probes.
      products: Products for each group; from P on the traces are taken exactly, by P products, with errors of 0.
      estimator: "hutchinson" (least memory), "hutch++" or "xtrace" (smallest error).

    Returns:
      The traces, NaN for a group without examples.

    Raises:
      UserError: The estimator is not known, or the products are too few for a standard error.
    """
    if estimator not in ESTIMATORS:
        raise unknown("estimator", estimator, ESTIMATORS)
    least = {"hutchinson": 2, "hutch++": 6, "xtrace": 4}[estimator]
    if products < least:
        raise UserError(f"theory: {products} products are too few for {estimator}; take {least} or more")
    check_key(key)
    return _group_traces(operator, key, products=products, estimator=estimator)


@partial(jax.jit, static_argnames=("products", "estimator"))
def _group_traces(operator: GroupOperator, key: jax.Array, *, products: int, estimator: str) -> Trace:
    def estimate(operator: GroupOperator, key: jax.Array) -> Trace:
        sizes = {"num_groups": operator.num_groups, "num_params": operator.num_params}
        with jax.default_matmul_precision("highest"):
            if products >= operator.num_params:
                return _exact(_typed(operator), **sizes)
            return ESTIMATORS[estimator](_typed(operator), key, products=products, **sizes)

    trace = everywhere(estimate, operator, key)
    missing = jnp.asarray(operator.chunks.size) <= 0  # the operator is 0 for a group without examples
    value, error, samples = (jnp.where(missing, jnp.nan, leaf) for leaf in trace[:3])
    return Trace(value=value, standard_error=error, samples=samples, matvecs=trace.matvecs)


def _exact(matvec: Matvec, num_groups: int, num_params: int) -> Trace:
    """The exact traces, by a product with every axis.

    They come as two equal samples, so that the errors are 0.
    """

    def entry(i: Array) -> Array:
        axis = jax.nn.one_hot(i, num_params, dtype=jnp.result_type(float))
        return matvec(jnp.broadcast_to(axis, (num_groups, num_params)))[:, i]

    samples = jnp.broadcast_to(jnp.sum(jax.lax.map(entry, jnp.arange(num_params)), 0), (2, num_groups))
    return Trace(*_summary(samples), samples, jnp.int32(num_params))


def _typed(operator: GroupOperator) -> Matvec:
    return lambda vectors: operator(vectors.astype(operator.dtype))


def _probes(key: jax.Array, count: int, size: int) -> Array:
    """Random probes of ±1, [K, P], in float64 where that is enabled."""
    check_key(key)
    return jax.random.rademacher(key, (count, size), jnp.result_type(float))


def _apply_shared(matvec: Matvec, vectors: Array, num_groups: int) -> Array:
    """Apply every operator to every vector, [K, P] -> [K, G, P]."""
    return jax.lax.map(lambda v: matvec(jnp.broadcast_to(v, (num_groups, len(v)))), vectors)


def _orthonormal(columns: Array) -> Array:
    """Orthonormal columns [G, P, k] whose span contains these columns."""
    return jnp.linalg.qr(columns)[0]


def _leave_one_out(probes: Array, basis: Array, upper: Array, sketch: Array, image: Array) -> Array:
    """The K estimates of one operator, [K].

    Estimate i is exact on the range that the other probes sketched, and Hutchinson's with probe i on the rest.

    QQᵀ without the direction that probe i alone gave is Q(I - s_i s_iᵀ)Qᵀ, with s_i along the i-th column of R⁻ᵀ.
    """
    diagonal = jnp.diagonal(upper)
    largest = jnp.max(jnp.abs(diagonal))
    floor = jnp.finfo(upper.dtype).eps * jnp.where(largest > 0, largest, 1)
    # Where the rank is below K, R is singular; any direction outside of the range will then do for s_i.
    safe = upper + jnp.diag(jnp.where(jnp.abs(diagonal) < floor, floor, 0))
    inverse = jax.scipy.linalg.solve_triangular(safe, jnp.eye(len(upper), dtype=upper.dtype), lower=False)
    # Column i of R⁻ᵀ is orthogonal to all columns of R but the i-th: the direction of Q that the other probes lack.
    directions = inverse.T
    scale = jnp.max(jnp.abs(directions), 0)  # squares of 1 / eps are beyond float32
    directions = directions / scale
    directions = directions / jnp.linalg.norm(directions, axis=0)
    small = basis.T @ image  # QᵀAQ
    # tr(Q_iᵀAQ_i) with Q_i the range without s_i: the trace of QᵀAQ less that along s_i.
    inside = jnp.trace(small) - jnp.einsum("ji,jk,ki->i", directions, small, directions)
    along = basis.T @ probes.T  # Qᵀ of every probe
    along = along - directions * jnp.sum(directions * along, 0)  # Q_iᵀω_i
    # ω_iᵀ(I - Q_iQ_iᵀ)A(I - Q_iQ_iᵀ)ω_i, multiplied out: all terms are in products that were taken already.
    whole = jnp.einsum("ip,pi->i", probes, sketch)
    mixed = jnp.sum(along * upper, 0)  # QᵀA of every probe is R
    return inside + whole - 2 * mixed + jnp.einsum("ji,jk,ki->i", along, small, along)


def _summary(samples: Array) -> tuple[Array, Array]:
    count = samples.shape[0]
    if count == 1:
        return samples[0], jnp.full_like(samples[0], jnp.nan)
    return jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) / count**0.5

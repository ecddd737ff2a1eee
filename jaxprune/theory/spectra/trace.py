"""Traces of several symmetric operators at once, with their standard errors, from probes that all of them share."""

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
        """tr(A_a) - tr(A_b) with its standard error, which the common probes make smaller than that of either."""
        return _summary(self.samples[:, a] - self.samples[:, b])


def hutchinson(matvec: Matvec, key: jax.Array, *, num_groups: int, num_params: int, products: int) -> Trace:
    """The mean of zᵀAz over Rademacher probes z; its variance is 2(‖A‖_F² - Σ A_ii²) / products.

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
    """Hutch++: the trace over a sketched range exactly, and Hutchinson's estimate over what is left.

    Meyer, Musco, Musco and Woodruff, SOSA 2021. Exact where the rank is at most a third of the products, and from P
    products on. Arguments and result as for `hutchinson`; the memory is G * products / 3 * P numbers.
    """
    if products >= num_params:
        return _exact(matvec, num_groups, num_params)
    third = max(1, products // 3)
    sketch, probes = jnp.split(_probes(key, 2 * third, num_params), 2)
    basis = _orthonormal(jnp.moveaxis(_apply_shared(matvec, sketch, num_groups), 0, 2))  # [G, P, k]
    within = jnp.einsum("gpk,kgp->g", basis, jax.lax.map(matvec, jnp.moveaxis(basis, 2, 0)))
    along = jnp.einsum("gpk,jp->jgk", basis, probes)
    outside = probes[:, None] - jnp.einsum("gpk,jgk->jgp", basis, along)
    samples = within + jnp.einsum("kgp,kgp->kg", outside, jax.lax.map(matvec, outside))
    return Trace(*_summary(samples), samples, jnp.int32(3 * third))


def xtrace(matvec: Matvec, key: jax.Array, *, num_groups: int, num_params: int, products: int) -> Trace:
    """XTrace: every probe serves as sketch for all the others, which gives the smallest error for the products.

    Epperly, Tropp and Webber, SIAM J. Matrix Anal. Appl. 45, 2024, with Rademacher probes. Exact from P products on.
    Arguments and result as for `hutchinson`; the memory is G * products * P numbers.
    """
    if products >= num_params:
        return _exact(matvec, num_groups, num_params)
    count = max(2, products // 2)
    probes = _probes(key, count, num_params)
    sketch = jnp.moveaxis(_apply_shared(matvec, probes, num_groups), 0, 2)  # [G, P, k]: A of every probe
    basis, upper = jnp.linalg.qr(sketch)
    image = jnp.moveaxis(jax.lax.map(matvec, jnp.moveaxis(basis, 2, 0)), 0, 2)
    samples = jax.vmap(partial(_leave_one_out, probes))(basis, upper, sketch, image).T
    return Trace(*_summary(samples), samples, jnp.int32(2 * count))


ESTIMATORS: Mapping[str, Callable[..., Trace]] = {
    "hutchinson": hutchinson,
    "hutch++": hutch_plus_plus,
    "xtrace": xtrace,
}


def group_traces(operator: GroupOperator, key: jax.Array, *, products: int = 30, estimator: str = "xtrace") -> Trace:
    """tr(H_a) of every group, with common probes, in one compiled program.

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

    found = everywhere(estimate, operator, key)
    missing = jnp.asarray(operator.chunks.size) <= 0  # the operator 0 stands in for a matrix that is not there
    value, error, samples = (jnp.where(missing, jnp.nan, leaf) for leaf in found[:3])
    return Trace(value, error, samples, found.matvecs)


def _exact(matvec: Matvec, num_groups: int, num_params: int) -> Trace:
    """The sums of the diagonals, by a product with every axis; two equal samples, so that the errors are 0."""

    def entry(i: Array) -> Array:
        axis = jax.nn.one_hot(i, num_params, dtype=jnp.result_type(float))
        return matvec(jnp.broadcast_to(axis, (num_groups, num_params)))[:, i]

    samples = jnp.broadcast_to(jnp.sum(jax.lax.map(entry, jnp.arange(num_params)), 0), (2, num_groups))
    return Trace(*_summary(samples), samples, jnp.int32(num_params))


def _typed(operator: GroupOperator) -> Matvec:
    return lambda vectors: operator(vectors.astype(operator.dtype))


def _probes(key: jax.Array, count: int, size: int) -> Array:
    """[K, P] of ±1; in float64 only where that is on, so that the operators' own type decides."""
    check_key(key)
    return jax.random.rademacher(key, (count, size), jnp.result_type(float))


def _apply_shared(matvec: Matvec, vectors: Array, num_groups: int) -> Array:
    """[K, P] -> [K, G, P], every operator applied to every vector, one vector at a time."""
    return jax.lax.map(lambda v: matvec(jnp.broadcast_to(v, (num_groups, len(v)))), vectors)


def _orthonormal(columns: Array) -> Array:
    """Orthonormal columns [G, P, k] that span those given, and more where they are dependent."""
    return jnp.linalg.qr(columns)[0]


def _leave_one_out(probes: Array, basis: Array, upper: Array, sketch: Array, image: Array) -> Array:
    """The K estimates of one operator: probe i against the range that the others sketched.

    QQᵀ without the direction that probe i alone gave is Q(I - s_i s_iᵀ)Qᵀ, with s_i along the i-th column of R⁻ᵀ.
    """
    diagonal = jnp.diagonal(upper)
    largest = jnp.max(jnp.abs(diagonal))
    floor = jnp.finfo(upper.dtype).eps * jnp.where(largest > 0, largest, 1)
    # Where the rank is below K, R is singular; any direction outside of the range will then do for s_i.
    safe = upper + jnp.diag(jnp.where(jnp.abs(diagonal) < floor, floor, 0))
    inverse = jax.scipy.linalg.solve_triangular(safe, jnp.eye(len(upper), dtype=upper.dtype), lower=False)
    directions = inverse.T
    scale = jnp.max(jnp.abs(directions), 0)  # squares of 1 / eps are beyond float32
    directions = directions / scale
    directions = directions / jnp.linalg.norm(directions, axis=0)
    small = basis.T @ image  # QᵀAQ
    inside = jnp.trace(small) - jnp.einsum("ji,jk,ki->i", directions, small, directions)
    along = basis.T @ probes.T  # Qᵀ of every probe
    along = along - directions * jnp.sum(directions * along, 0)
    whole = jnp.einsum("ip,pi->i", probes, sketch)
    mixed = jnp.sum(along * upper, 0)  # QᵀA of every probe is R
    return inside + whole - 2 * mixed + jnp.einsum("ji,jk,ki->i", along, small, along)


def _summary(samples: Array) -> tuple[Array, Array]:
    count = samples.shape[0]
    if count == 1:
        return samples[0], jnp.full_like(samples[0], jnp.nan)
    return jnp.mean(samples, 0), jnp.std(samples, 0, ddof=1) / count**0.5

"""The spectral density of each group's curvature, by stochastic Lanczos quadrature."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.states import check_key
from jaxprune.theory.derivatives.operators import GroupOperator, everywhere
from jaxprune.theory.spectra.lanczos import Krylov, empty_krylov, extend
from jaxprune.types import Array


class SpectralDensity(NamedTuple):
    """Gauss quadratures of the eigenvalue distributions, one for each starting vector.

    For a starting vector v of length √P, Σ_k weights_k nodes_k^j = vᵀA^j v / P for all j below twice the steps; its
    mean over random v is the mean of λ^j over the spectrum.

    Attributes:
      nodes: [V, G, M] places; NaN for a group without examples.
      weights: [V, G, M] masses, summing to 1 over M; 0 at nodes that were not reached.
    """

    nodes: Array
    weights: Array

    def moment(self, order: int) -> Array:
        """The estimated mean of λ^order over the spectrum, [G]."""
        return jnp.mean(jnp.sum(self.weights * self.nodes**order, -1), 0)

    def width(self, kappa: float = 2.0) -> Array:
        """A standard deviation for smoothing the nodes, [G].

        Gaussians at M evenly spaced nodes then overlap.

        σ = 2 / ((M - 1) √(8 ln κ)) on [-1, 1], scaled to the range of the nodes: Lin, Saad and Yang, SIAM Review 58,
        2016, §3.
        """
        reached = self.weights > 0
        low = jnp.min(jnp.where(reached, self.nodes, jnp.inf), (0, 2))
        high = jnp.max(jnp.where(reached, self.nodes, -jnp.inf), (0, 2))
        steps = max(2, self.nodes.shape[-1])
        spread = jnp.where(high >= low, jnp.maximum(high - low, jnp.finfo(self.nodes.dtype).tiny), jnp.nan)
        return spread / 2 * 2 / ((steps - 1) * math.sqrt(8 * math.log(kappa)))

    def smooth(self, grid: Array, width: Array) -> Array:
        """The density on a grid, with Gaussians in place of the nodes.

        Args:
          grid: [K] places.
          width: [G] standard deviations.

        Returns:
          [G, K], integrating to 1 over the line.
        """
        apart = (grid - self.nodes[..., None]) / width[:, None, None]
        bumps = jnp.exp(-(apart**2) / 2) / (width[:, None, None] * math.sqrt(2 * math.pi))
        return jnp.mean(jnp.sum(self.weights[..., None] * bumps, 2), 0)

    def share(self, low: Array | float, high: Array | float) -> Array:
        """The estimated share of the eigenvalues in (low, high), [G]."""
        inside = (self.nodes > low) & (self.nodes < high)
        inside = jnp.where(jnp.isfinite(self.nodes), inside, jnp.nan)  # what is not finite lies nowhere
        return jnp.mean(jnp.sum(inside * self.weights, -1), 0)


def group_spectral_densities(
    operator: GroupOperator, key: jax.Array, *, steps: int = 40, starts: int = 4
) -> SpectralDensity:
    """The eigenvalue distribution of every group's curvature matrix.

    Stochastic Lanczos quadrature (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 2017) with full
    reorthogonalisation; the random ±1 starting vectors are common to the groups. Memory: G * (steps + 1) * P numbers.

    Args:
      operator: The curvature, made by `group_operator`.
      key: Decides the starting vectors.
      steps: M, Lanczos steps for each starting vector.
      starts: V.

    Returns:
      The quadratures, NaN for a group without examples.

    Raises:
      UserError: `steps` or `starts` is below 1.
    """
    if steps < 1 or starts < 1:
        raise UserError(f"theory: a spectral density of {steps} steps from {starts} starts is empty; take 1 or more")
    check_key(key)
    return _group_spectral_densities(operator, key, steps=min(steps, operator.num_params), starts=starts)


@partial(jax.jit, static_argnames=("steps", "starts"))
def _group_spectral_densities(operator: GroupOperator, key: jax.Array, *, steps: int, starts: int) -> SpectralDensity:
    def quadrature(operator: GroupOperator, key: jax.Array) -> SpectralDensity:
        shape = (operator.num_groups, operator.num_params)

        def from_start(key: jax.Array) -> tuple[Array, Array]:
            start = jnp.broadcast_to(jax.random.rademacher(key, shape[1:], operator.dtype), shape)

            def step(krylov: Krylov, position: Array) -> tuple[Krylov, None]:
                product = operator(krylov.basis[:, position])
                return extend(krylov, position, product, jnp.zeros(shape[0], bool))[0], None

            krylov, _ = jax.lax.scan(step, empty_krylov(start, steps), jnp.arange(steps))
            # Golub and Welsch: eigenvalues are the nodes of the Gauss quadrature, squared first components its weights.
            # Rows that were not reached, where the space was invariant before, are 0 and so have weight 0.
            nodes, vectors = jnp.linalg.eigh(krylov.matrix)
            return nodes, vectors[:, 0] ** 2

        with jax.default_matmul_precision("highest"):
            return SpectralDensity(*jax.lax.map(from_start, jax.random.split(key, starts)))

    density = everywhere(quadrature, operator, key)
    missing = (jnp.asarray(operator.chunks.size) <= 0)[:, None]  # the operator is 0 for a group without examples
    return SpectralDensity(*(jnp.where(missing, jnp.nan, leaf) for leaf in density))

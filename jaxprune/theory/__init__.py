"""Why a group is hurt: gradients, curvature, boundary distance, and the bound of Theorem 1, all as numbers."""

from jaxprune.theory.boundary import Boundary, boundary_distance
from jaxprune.theory.bounds import Bound, bound
from jaxprune.theory.chunks import Chunks, by_group
from jaxprune.theory.curvature import group_extreme_eigenvalues, group_hvp, group_top_eigenvalues
from jaxprune.theory.density import SpectralDensity, group_spectral_densities
from jaxprune.theory.examples import example_gradient_norms, formed_per_example, reference_gradient_norms
from jaxprune.theory.gradients import gradient_cosines, group_gradient_norms, group_gradients, norms
from jaxprune.theory.lanczos import Eigenvalue, Extremes, extreme_eigenvalues, top_eigenvalue
from jaxprune.theory.operators import GroupOperator, group_operator, residual_bytes
from jaxprune.theory.prediction import rank_correlation
from jaxprune.theory.taylor import Taylor, taylor
from jaxprune.theory.trace import Trace, group_traces, hutch_plus_plus, hutchinson, xtrace

__all__ = [
    "Bound",
    "Boundary",
    "Chunks",
    "Eigenvalue",
    "Extremes",
    "GroupOperator",
    "SpectralDensity",
    "Taylor",
    "Trace",
    "bound",
    "boundary_distance",
    "by_group",
    "example_gradient_norms",
    "extreme_eigenvalues",
    "formed_per_example",
    "gradient_cosines",
    "group_extreme_eigenvalues",
    "group_gradient_norms",
    "group_gradients",
    "group_hvp",
    "group_operator",
    "group_spectral_densities",
    "group_top_eigenvalues",
    "group_traces",
    "hutch_plus_plus",
    "hutchinson",
    "norms",
    "rank_correlation",
    "reference_gradient_norms",
    "residual_bytes",
    "taylor",
    "top_eigenvalue",
    "xtrace",
]

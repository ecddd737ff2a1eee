"""Why a group is hurt: gradients, curvature, boundary distance, bounds.

The bound is that of Theorem 1; all are numbers.
"""

from jaxprune.theory.boundary import (
    Boundary,
    BoundaryDistances,
    boundary_distance,
    example_boundary_distances,
    group_boundary_distances,
)
from jaxprune.theory.checks import check_frozen, check_params
from jaxprune.theory.chunks import Chunks, by_group
from jaxprune.theory.derivatives.gradients import gradient_cosines, group_gradient_norms, group_gradients, norms
from jaxprune.theory.derivatives.operators import GroupOperator, group_operator
from jaxprune.theory.derivatives.outputs import (
    binary_logit,
    binary_probability,
    each_logit,
    example_jacobian_norms,
)
from jaxprune.theory.derivatives.per_example import example_gradient_norms
from jaxprune.theory.derivatives.taylor_terms import Taylor, taylor
from jaxprune.theory.layer_attribution import Attribution, attribution, attribution_at, sparing_allocation
from jaxprune.theory.permutation import PredictorTest, correlation_interval, permutation_test
from jaxprune.theory.prediction import PredictorScores, rank_correlation, score_predictor, uninformative_from
from jaxprune.theory.quadrature import Points, path_points, refined
from jaxprune.theory.spectra.density import SpectralDensity, group_spectral_densities
from jaxprune.theory.spectra.extremes import group_extreme_eigenvalues, group_top_eigenvalues
from jaxprune.theory.spectra.lanczos import Eigenvalue, Extremes, extreme_eigenvalues
from jaxprune.theory.spectra.output_eigenvalues import example_output_eigenvalues
from jaxprune.theory.spectra.trace import Trace, group_traces, hutch_plus_plus, hutchinson, xtrace
from jaxprune.theory.statements import bound
from jaxprune.trees import leaf_names

__all__ = [
    "Attribution",
    "Boundary",
    "BoundaryDistances",
    "Chunks",
    "Eigenvalue",
    "Extremes",
    "GroupOperator",
    "Points",
    "PredictorScores",
    "PredictorTest",
    "SpectralDensity",
    "Taylor",
    "Trace",
    "attribution",
    "attribution_at",
    "binary_logit",
    "binary_probability",
    "bound",
    "boundary_distance",
    "by_group",
    "check_frozen",
    "check_params",
    "correlation_interval",
    "each_logit",
    "example_boundary_distances",
    "example_gradient_norms",
    "example_jacobian_norms",
    "example_output_eigenvalues",
    "extreme_eigenvalues",
    "gradient_cosines",
    "group_boundary_distances",
    "group_extreme_eigenvalues",
    "group_gradient_norms",
    "group_gradients",
    "group_operator",
    "group_spectral_densities",
    "group_top_eigenvalues",
    "group_traces",
    "hutch_plus_plus",
    "hutchinson",
    "leaf_names",
    "norms",
    "path_points",
    "permutation_test",
    "rank_correlation",
    "refined",
    "score_predictor",
    "sparing_allocation",
    "taylor",
    "uninformative_from",
    "xtrace",
]

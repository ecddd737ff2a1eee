"""Why a group is hurt: gradients, curvature, boundary distance, and the bound of Theorem 1, all as numbers."""

from jaxprune.theory.boundary import Boundary, boundary_distance
from jaxprune.theory.bounds import Bound, bound
from jaxprune.theory.chunks import Chunks, by_group
from jaxprune.theory.curvature import group_hvp, group_top_eigenvalues
from jaxprune.theory.gradients import group_gradient_norms, group_gradients, norms
from jaxprune.theory.lanczos import Eigenvalue, top_eigenvalue
from jaxprune.theory.prediction import rank_correlation
from jaxprune.theory.taylor import Taylor, taylor

__all__ = [
    "Bound",
    "Boundary",
    "Chunks",
    "Eigenvalue",
    "Taylor",
    "bound",
    "boundary_distance",
    "by_group",
    "group_gradient_norms",
    "group_gradients",
    "group_hvp",
    "group_top_eigenvalues",
    "norms",
    "rank_correlation",
    "taylor",
    "top_eigenvalue",
]

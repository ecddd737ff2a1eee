"""Four measures of the distance to the decision boundary."""

from jaxprune.quantities import means_caption
from jaxprune.reporting.page import Section
from jaxprune.reporting.sections.member_gradients import table_of_groups
from jaxprune.reporting.theory_values import has, measured
from jaxprune.results import Results

# Measure -> its heading and quantity.
_DISTANCES = {
    "margin": ("margin p₁ − p₂", "margin"),
    "closeness": ("closeness 1 − ‖p‖²", "closeness"),
    "radius": ("Cohen’s radius", "distance"),
    "distance": ("linear distance", "distance"),
}


def boundary_distances(results: Results) -> Section | None:
    """The mean distance of each group's members by four measures."""
    if not has(results, "distances"):
        return None
    columns = {
        heading: (measured(results, "distances", name), quantity) for name, (heading, quantity) in _DISTANCES.items()
    }
    table = table_of_groups(
        results,
        columns,
        f"Means over members; {means_caption(len(results.seeds))}; the last two in units of the normalised inputs. The "
        "paper does not say which it used.",
    )
    return Section("Four distances to the decision boundary", (table,))

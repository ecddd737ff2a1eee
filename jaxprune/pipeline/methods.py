"""Ways of retraining by name, and the candidates for their hyperparameters."""

import itertools

from jaxprune import mitigation
from jaxprune.config import Settings
from jaxprune.errors import unknown
from jaxprune.mitigation import CONFIGURED, METHODS, Method
from jaxprune.mitigation.methods.lagrangian import USUAL


def method_of(settings: Settings, name: str) -> Method:
    """The method of a name; "configured" is the one that [mitigation] describes.

    Raises:
      UserError: There is none.
    """
    if name == CONFIGURED:
        return mitigation.configured_method(**settings.mitigation.model_dump())
    if name not in METHODS:
        raise unknown("method", name, (*METHODS, CONFIGURED), where="retrain.methods")
    return METHODS[name]


def candidates(settings: Settings, name: str) -> list[dict[str, float]]:
    """Every choice of hyperparameters of a method that is tried.

    The settings' candidates, where they name any, take the place of the method's own; what [mitigation] says is tried
    beside them, or beside the usual ones.
    """
    given = {"dual_rate": settings.choice.dual_rates, "tolerance": settings.choice.tolerances}
    own = method_of(settings, name).candidates
    if name == CONFIGURED:
        grid = {hyper: sorted({*(given.get(hyper) or USUAL[hyper]), *values}) for hyper, values in own.items()}
    else:
        grid = {hyper: given.get(hyper) or values for hyper, values in own.items()}
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]

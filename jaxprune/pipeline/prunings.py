"""The ways of pruning that a job tries beside each other."""

from typing import NamedTuple

from jaxprune.components import ALLOCATIONS, CRITERIA, STRUCTURES
from jaxprune.config import Prune
from jaxprune.config.options import Part, allocation_of, criterion_of, structure_of
from jaxprune.errors import UserError
from jaxprune.pipeline.parts import structure_for, usual_allocation

_COSTS = {"parameters": "parameters", "flops": "FLOPs"}


class Pruning(NamedTuple):
    """A way of pruning: the settings' own, or one of several.

    Attributes:
      name: Of its networks: a criterion, or an entry of `prune.structures`; "" for the only one.
      title: For readers; "" for the only one.
      about: The line that describes it; may be empty.
      criterion: What is pruned first.
      structure: What is pruned together.
      allocation: How the sparsity is shared out over the layers.
    """

    name: str
    title: str
    about: str
    criterion: Part
    structure: Part
    allocation: Part


def prunings_of(prune: Prune) -> tuple[Pruning, ...]:
    """Every criterion or structure that is compared, or the only way.

    Raises:
      UserError: A structure is defined for another allocation than the settings name, or one of its options has no
        meaning.
    """
    if prune.structures:
        return tuple(_of_structure(prune, entry) for entry in prune.structures)
    structure, allocation = structure_of(prune), Part(usual_allocation(prune), allocation_of(prune).options)
    if prune.criteria:
        about = CRITERIA.describe()
        return tuple(
            Pruning(name, name.replace("_", " "), about[name], criterion_of(prune, name), structure, allocation)
            for name in prune.criteria
        )
    return (Pruning("", "", "", criterion_of(prune, prune.criterion), structure, allocation),)


def _of_structure(prune: Prune, entry: str) -> Pruning:
    part = structure_of(prune, entry)
    try:
        structure_for(part)
    except UserError as error:
        text = str(error).removeprefix("prune.structure_options: ")
        raise UserError(f"prune.structures: {entry}: {text}") from None
    allocation = Part(usual_allocation(prune, part), allocation_of(prune).options)
    about = "; ".join(filter(None, (STRUCTURES.describe()[part.name], ALLOCATIONS.describe().get(allocation.name, ""))))
    return Pruning(entry, structure_title(part), about, criterion_of(prune, prune.criterion), part, allocation)


def structure_title(part: Part) -> str:
    """The name of a structure for readers, as "channels, at equal parameters"."""
    options = dict(part.options)
    own = {**STRUCTURES.defaults(part.name), **options}
    match part.name:
        case "n_m":
            options = {name: value for name, value in options.items() if name not in ("m", "axis")}
            title = f"N:{own['m']}"
        case "blocks":
            options = {name: value for name, value in options.items() if name not in ("height", "width")}
            title = f"{own['height']}×{own['width']} blocks"
        case name:
            title = name.replace("_", " ")
    if cost := _COSTS.get(str(options.get("cost"))):
        del options["cost"]
        title += f", at equal {cost}"
    more = ", ".join(f"{name.replace('_', ' ')} {_plain(value)}" for name, value in options.items())
    return f"{title} ({more})" if more else title


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)

"""The name of a job's pruning: schedule, allocation, structure, criterion."""

from collections.abc import Sequence
from typing import Any

from jaxprune.components import ONE_SHOT, PRUNING_SCHEDULES, RANDOM_START, STRUCTURES
from jaxprune.numbers import plain
from jaxprune.registry import Registry
from jaxprune.results import Results

BEFORE_TRAINING = "before_training"
_COSTS = {"parameters": "parameters", "flops": "FLOPs"}  # what structures of channels may share out


def pruning_name(results: Results) -> str:
    """When, where and what was pruned first, as "global magnitude pruning".

    Training from random masks is named by its schedule alone: "global rigl training".
    """
    prune = results.settings["prune"]
    schedule = prune["schedule"]
    if schedule in RANDOM_START:
        return _joined(prune["allocation"], schedule, "training")
    if schedule == BEFORE_TRAINING:
        return _joined(criterion_name(results), "pruning before training")
    return _joined("" if schedule == ONE_SHOT else schedule, criterion_name(results), "pruning")


def criterion_name(results: Results) -> str:
    """Where and what was pruned first, as "global magnitude"."""
    prune = results.settings["prune"]
    return _joined(prune["allocation"], structure_name(results), "" if prune["criteria"] else prune["criterion"])


def _joined(*parts: str) -> str:
    return " ".join(part.replace("_", " ") for part in parts if part)


def structure_name(results: Results) -> str:
    """What is pruned together, as "2:4" or "4×4-block"; empty for weights."""
    name, options = results.settings["prune"]["structure"], structure_options(results)
    match name:
        case "weights":
            return ""
        case "n_m":
            kept = {(1 - sparsity) * float(options.get("m", 4)) for sparsity in results.sparsities}
            return f"{plain(kept.pop()) if len(kept) == 1 else 'N'}:{options.get('m', 4)}"
        case "blocks":
            return f"{options.get('height', 4)}×{options.get('width', 4)}-block"
        case "channels" | "heads":
            return name.removesuffix("s")
    return name


def unit_name(results: Results) -> str:
    """What the sparsity is a share of: "weights", "channels" or "FLOPs"."""
    return _COSTS.get(str(structure_options(results).get("cost")), part_name(results))


def part_name(results: Results) -> str:
    """What goes: "weights", "channels" or "heads"."""
    return results.settings["prune"]["structure"] if "cost" in structure_options(results) else "weights"


def entry_unit(entry: str) -> str:
    """What the sparsity of one of several structures is a share of.

    Args:
      entry: Of `prune.structures`, as "channels:cost=flops".
    """
    name, *texts = entry.split(":")
    options = _options(STRUCTURES, name, texts)
    if options.get("cost") in _COSTS:
        return f"{_COSTS[options['cost']]} of the whole network"
    return f"{name} that can be cut" if "cost" in options else "prunable weights"


def structure_options(results: Results) -> dict[str, Any]:
    """The options of the structure, with its defaults.

    Where structures are compared, they are those of the first that prunes channels.
    """
    prune = results.settings["prune"]
    for entry in prune.get("structures") or ():
        name, *texts = entry.split(":")
        if "cost" in (options := _options(STRUCTURES, name, texts)):
            return options
    return _options(STRUCTURES, prune["structure"], prune["structure_options"])


def schedule_options(results: Results) -> dict[str, Any]:
    """The options of the schedule, with its defaults."""
    prune = results.settings["prune"]
    return _options(PRUNING_SCHEDULES, prune["schedule"], prune["schedule_options"])


def _options(registry: Registry, name: str, texts: Sequence[str]) -> dict[str, Any]:
    """The options of a part, written as name=value, with its defaults."""
    defaults = dict(registry.defaults(name)) if name in registry else {}
    return defaults | {name: value for name, _, value in (text.partition("=") for text in texts)}

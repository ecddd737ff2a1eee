"""Costs made by hand: a network of 1000 parameters whose program takes a millisecond for one example."""

from dataclasses import replace

import numpy as np

from jaxprune.costs import Median
from jaxprune.results import Results
from jaxprune.results.costs import FormCosts, NetworkCosts, ProgramCosts

DENSE = 1000
WITHOUT = Median(np.nan, np.nan, np.nan)


def form(parameters: int, nonzeros: int, ratio: float, *, timed: bool = True) -> FormCosts:
    """A form whose time is this share of the dense network's, each with 2 % above and below."""
    programs = []
    for batch, seconds in ((1, 0.001), (128, 0.02)):
        times = (WITHOUT, WITHOUT, 0)
        if timed:
            of_time, of_ratio = (Median(v, 0.98 * v, 1.02 * v) for v in (seconds * ratio, ratio))
            times = (of_time, of_ratio, 100)
        programs.append(ProgramCosts(batch, 4 * parameters + 400 * batch, *times))
    packed = min(4 * parameters, -(-parameters // 8) + 4 * nonzeros)
    return FormCosts(parameters, nonzeros, packed, 2.0 * parameters, tuple(programs))


def costs_of(sparsity: float, *, compact: float | None = None, masked: float = 1.0, timed: bool = True) -> NetworkCosts:
    """The costs of a network with this share pruned.

    Args:
      sparsity: The share pruned.
      compact: The time of the compact form, as a share of the dense network's; None for no such form.
      masked: That of the masked one.
      timed: Whether speed was measured.
    """
    kept = round(DENSE * (1 - sparsity))
    dense = form(DENSE, DENSE, 1.0, timed=timed)
    exact = tuple(program._replace(ratio=Median(1.0, 1.0, 1.0) if timed else WITHOUT) for program in dense.programs)
    forms = {"dense": replace(dense, programs=exact), "masked": form(DENSE, kept, masked, timed=timed)}
    if compact is not None:
        forms["compact"] = form(kept, kept, compact, timed=timed)
    return NetworkCosts("CPU, 2 cores", forms)


def with_costs(results: Results, *, compact: float | None = None, timed: bool = True) -> Results:
    """The same results with the costs of every reported compressed network.

    A compact network takes `compact` of the dense time at 90 % pruned, and in proportion at others.
    """
    costs = {}
    for network in results.reported.values():
        if network.sparsity > 0:
            ratio = None if compact is None else 1 - (1 - compact) * network.sparsity / 0.9
            costs[network.key] = costs_of(network.sparsity, compact=ratio, timed=timed)
    return replace(results, costs=costs)

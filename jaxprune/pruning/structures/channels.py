"""Channels and heads: coupled channels live or die together."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.coupling.couplings import Couplings
from jaxprune.errors import UserError, unknown
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.allocations.erk import reads_shapes
from jaxprune.pruning.finite_scores import check_finite
from jaxprune.pruning.masks import check_sparsity, global_masks
from jaxprune.pruning.matching import optional_masks
from jaxprune.pruning.selection import flags
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.structures.channel_costs import COSTS, ChannelCost
from jaxprune.pruning.structures.channel_counts import CountRule, keep_highest, kept_counts
from jaxprune.pruning.structures.pooling import NORMALISERS, POOLS, channels_alive, pooled_scores
from jaxprune.pruning.structures.width_rounding import WidthRule, width_rule
from jaxprune.trees import leaf_names, named_leaves
from jaxprune.types import Array, Masks, Params, PyTree, Scores

_HEADS = "heads"
_REMEMBERED = 64  # structures, each of which holds the couplings of a network


def channels(
    couplings: Couplings | None = None,
    *,
    pool: str = "l2",
    normalise: str = "mean",
    cost: str = "channels",
    round_to: int | str = "exact",
    at_least: int = 1,
) -> Structure:
    """Channels with everything that can only go together with them.

    A unit is one channel of a coupling, such as a channel of a residual stream: its slices of all kernels that write it
    and of all that read it, of biases, scales, the class token and positions. The masks are whole, so `compact` makes a
    smaller network of them with the same outputs. The scores of a channel's weights, of any criterion, are pooled over
    its slices of the prunable kernels; the allocation then sees one array of scores for each coupling, by its name. A
    coupling is cut where all kernels that write it are prunable.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> def apply(params, x):
      ...     return jax.nn.relu(x @ params["first"]) @ params["second"]
      >>> params = {"first": jnp.array([[1.0, 0.1, 2.0, 0.2]] * 3), "second": jnp.ones((4, 2))}
      >>> coupled = pruning.couplings(apply, params, sample=jnp.ones((1, 3)))
      >>> _, masks = pruning.prune(
      ...     params, 0.5, criterion=pruning.magnitude(), structure=pruning.channels(coupled)
      ... )
      >>> masks["first"][0].tolist(), masks["second"][:, 0].tolist()
      ([True, False, True, False], [True, False, True, False])

    Args:
      couplings: Those of the network, from `pruning.couplings`.
      pool: The score of a channel from those of its weights: "l2", "l1", "mean" or "max". The first two are the norms
        of scores that are never below 0, such as magnitudes; "l1" is the sum, right for predicted changes of the loss.
      normalise: What the scores of a coupling are divided by: their "mean" size, "max", or "none". Without it the
        residual stream, which has slices of many kernels, goes always or never.
      cost: What the sparsity is a share of: the "channels" of the couplings that may be cut, or the "parameters" or
        "flops" of the whole network.
      round_to: The widths that are kept: "exact"; "auto", those that the device at hand computes fast; or a number, of
        which they are multiples. The sparsity is then the nearest that they reach.
      at_least: Channels that stay in every coupling. Others are cut in their place where the allocation can.

    Returns:
      The structure; the same object for the same options. It raises a `UserError` where nothing can be cut, for ERK,
      which reads the shapes of layers, and for a sparsity that is out of reach.

    Raises:
      UserError: An option has no meaning.
    """
    return _coupled(couplings, "channels", _Options(pool, normalise, cost, round_to, at_least))


def heads(
    couplings: Couplings | None = None,
    *,
    pool: str = "l2",
    normalise: str = "mean",
    cost: str = "channels",
    round_to: int | str = "exact",
    at_least: int = 1,
) -> Structure:
    """Whole heads of attention.

    A unit is one head: its slices of the query, key, value and output kernels and of their biases. The sizes of heads
    and the stream between the layers stay. Options, result and errors as for `channels`; the "channels" of `cost` are
    heads here.
    """
    return _coupled(couplings, _HEADS, _Options(pool, normalise, cost, round_to, at_least))


class _Options(NamedTuple):
    pool: str
    normalise: str
    cost: str
    round_to: int | str
    at_least: int


def _coupled(couplings: Couplings | None, kind: str, options: _Options) -> Structure:
    for name, known in (("pool", POOLS), ("normalise", NORMALISERS), ("cost", COSTS)):
        if (value := getattr(options, name)) not in known:
            raise unknown(name, str(value), known, where=name, listed=True)
    if options.at_least != int(options.at_least) or options.at_least < 1:
        raise UserError(f"at_least: {options.at_least} is not a whole number of at least 1; give 1 or more")
    widths = width_rule(options.round_to)
    return _structure(couplings, kind, options._replace(round_to="", at_least=int(options.at_least)), widths)


@lru_cache(_REMEMBERED)
def _structure(couplings: Couplings | None, kind: str, options: _Options, widths: WidthRule) -> Structure:
    coupled = _Coupled(couplings, kind, options, widths)
    return Structure(masks=coupled.masks, check=coupled.check)


class _Coupled(NamedTuple):
    """Masks and checks of a structure of coupled channels."""

    couplings: Couplings | None
    kind: str
    options: _Options
    widths: WidthRule

    def masks(
        self,
        scores: Scores,
        sparsity: float | Array,
        prunable: PyTree = None,
        masks: Masks | None = None,
        allocation: Allocation | None = None,
    ) -> Masks:
        """Masks of whole channels; `Structure.masks`."""
        allocation = allocation or global_masks
        if reads_shapes(allocation):
            raise UserError(
                f"allocation: ERK goes by the shapes of layers, and {self.kind} are of several; take global, layerwise "
                "or levels"
            )
        rule = self.rule(scores, prunable, () if isinstance(sparsity, Tracer) else (float(sparsity),))
        check_finite(scores, prunable)
        before, chosen = optional_masks(masks, scores), flags(scores, prunable)
        leaves = list(zip(named_leaves(scores), before, chosen, strict=True))
        of_kernels = {path: leaf for (path, leaf), _, prune in leaves if prune}
        held = {path: mask for (path, _), mask, prune in leaves if prune and mask is not None}
        units, alive = _units(of_kernels, held, rule=rule, options=self.options)
        most = _target(rule, units, alive, sparsity, allocation)
        if alive is not None:
            _check_reachable(rule, alive, sparsity)
        keep = _keep(units, alive, most, rule=rule, allocation=allocation)
        return _expanded(keep, scores, before, rule=rule)

    def check(self, params: Params, prunable: PyTree, sparsities: Sequence[float]) -> None:
        """Raise where nothing can be cut, or not so much; `Structure.check`."""
        self.rule(params, prunable, sparsities)

    def rule(self, params: Params, prunable: PyTree, sparsities: Sequence[float]) -> CountRule:
        """The couplings that may be cut; raises as `check`."""
        for sparsity in sparsities:
            check_sparsity(sparsity)
        if self.couplings is None:
            raise UserError(
                f"couplings: {self.kind} need those of the network; give pruning.couplings(network, params, stats, x)"
            )
        shapes = {path: tuple(leaf.shape) for path, leaf in named_leaves(params)}
        _check_members(self.couplings, shapes)
        names = cuttable(self.couplings, self.kind, params, prunable)
        if not names:
            raise _nothing_to_cut(self.couplings, self.kind)
        self.widths.check(max(self.couplings[name].size for name in names))
        rule = CountRule(ChannelCost(self.couplings, names, self.options.cost), self.widths, self.options.at_least)
        most = _most_removed(rule)
        for sparsity in sparsities:
            # Half a channel of all, as shares of units are rounded.
            if sparsity > most + 0.5 / sum(self.couplings[name].size for name in names):
                raise UserError(
                    f"sparsity: {sparsity:g} of the {_WORDS[self.options.cost]} is out of reach: {most:.3g} at most is "
                    f"removed, as each of the {len(names)} couplings that may be cut keeps its fewest channels "
                    f"(at_least = {rule.at_least}); give less"
                )
        return rule


@partial(jax.jit, static_argnames=("rule", "options"))
def _units(
    scores: Mapping[str, Array], masks: Mapping[str, Array], *, rule: CountRule, options: _Options
) -> tuple[dict[str, Array], dict[str, Array] | None]:
    """The scores of channels, and which of them are left."""
    couplings = [rule.cost.couplings[name] for name in rule.cost.cuttable]
    alive = channels_alive(couplings, masks) if masks else None
    pool, normalise = options.pool, options.normalise
    return pooled_scores(couplings, scores, masks, alive or {}, pool=pool, normalise=normalise), alive


@partial(jax.jit, static_argnames=("rule", "allocation"))
def _keep(
    units: Mapping[str, Array],
    alive: Mapping[str, Array] | None,
    most: Array,
    *,
    rule: CountRule,
    allocation: Allocation,
) -> dict[str, Array]:
    """Name -> [size] bool, the channels that are kept."""
    counts = kept_counts(units, alive, most, allocation=allocation, rule=rule)
    return {name: keep_highest(unit, (alive or {}).get(name), counts[name]) for name, unit in units.items()}


@partial(jax.jit, static_argnames="rule")
def _expanded(
    keep: Mapping[str, Array], params: Params, before: Mapping[str, Array | None], *, rule: CountRule
) -> Masks:
    """The masks of whole channels, without what is pruned already."""
    masks, treedef = jax.tree.flatten(rule.cost.couplings.masks(keep, params))
    return treedef.unflatten([m if b is None else m & b for m, b in zip(masks, before, strict=True)])


_WORDS = {"channels": "channels", "parameters": "parameters", "flops": "FLOPs"}


def cuttable(couplings: Couplings, kind: str, params: Params, prunable: PyTree) -> tuple[str, ...]:
    """The names of couplings that prunable kernels alone write.

    Args:
      couplings: Those of the network.
      kind: "heads", or "channels" for all others.
      params: The parameters, or anything of their structure.
      prunable: Bools with the structure of `params`; None for all.
    """
    kernels = {path for path, prune in zip(leaf_names(params), flags(params, prunable), strict=True) if prune}
    return tuple(
        coupling.name
        for coupling in couplings
        if (coupling.kind == _HEADS) == (kind == _HEADS)
        and coupling.size > 1
        and coupling.producers
        and all(path in kernels for path in coupling.producers)
    )


def _target(
    rule: CountRule, units: Mapping[str, Array], alive: Any, sparsity: float | Array, allocation: Allocation
) -> Array:
    """[] float32, the cost that is asked for."""
    if rule.cost.measure != "channels":
        return jnp.float32(rule.cost.full) * (1 - jnp.asarray(sparsity, jnp.float32))
    # By the allocation itself, which rounds in its own way, and raises for what it cannot meet.
    kept = allocation(dict(units), sparsity, None, alive)
    return sum((jnp.sum(mask, dtype=jnp.float32) for mask in kept.values()), start=jnp.float32(0))


def _check_reachable(rule: CountRule, alive: Mapping[str, Array], sparsity: float | Array) -> None:
    """Raise where more is removed already, by a channel or more."""
    if any(isinstance(value, Tracer) for value in (sparsity, *alive.values())) or rule.cost.measure == "channels":
        return  # of channels, the allocation finds it
    sizes = {name: rule.cost.couplings[name].size for name in rule.cost.cuttable}
    left = {name: int(np.sum(np.asarray(mask))) for name, mask in alive.items()}
    full, removed = rule.cost.full, 1 - rule.cost.known(left) / rule.cost.full
    one = max(1 - rule.cost.known(sizes | {name: size - 1}) / full for name, size in sizes.items())
    if removed > sparsity + one * rule.widths.multiple:
        raise UserError(
            f"sparsity: {sparsity:g} of the {_WORDS[rule.cost.measure]} is below the {removed:.3g} that is removed "
            "already; give more"
        )


def _most_removed(rule: CountRule) -> float:
    """The share that is removed where every coupling keeps its least."""
    sizes = {name: rule.cost.couplings[name].size for name in rule.cost.cuttable}
    with jax.ensure_compile_time_eval():
        fewest = {
            name: max(int(rule.widths.round(jnp.int32(1), size)), min(rule.at_least, size))
            for name, size in sizes.items()
        }
    return 1 - rule.cost.known(fewest) / rule.cost.full


def _check_members(couplings: Couplings, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise unless the couplings are of a network of these shapes."""
    for coupling in couplings:
        for member in coupling.members:
            if member.of != "params":
                continue
            if member.path not in shapes:
                raise unknown("parameter", member.path, shapes, where="couplings")
            if shapes[member.path][member.axis] <= member.positions.max(initial=0):
                raise UserError(
                    f"couplings: {member.path} of shape {shapes[member.path]} has no channel "
                    f"{member.positions.max()} along axis {member.axis}; give the couplings of these parameters"
                )


def _nothing_to_cut(couplings: Couplings, kind: str) -> UserError:
    of_kind = [c for c in couplings if (c.kind == _HEADS) == (kind == _HEADS)]
    if of_kind:
        writers = ", ".join(dict.fromkeys(path for coupling in of_kind for path in coupling.producers))
        return UserError(
            f"couplings: no {kind} can be cut, since some kernels that write them may not be pruned; let all of these "
            f"be pruned: {writers}"
        )
    if kind == _HEADS:
        return UserError("couplings: this network has no heads of attention that can be cut; take channels instead")
    reasons = "; ".join(sorted({pin.reason for pin in couplings.pinned}))
    return UserError(f"couplings: this network has no channels that can be cut ({reasons}); take another structure")

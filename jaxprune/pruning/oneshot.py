"""One-shot pruning: scores, masks and pruned parameters in one call."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.losses import cross_entropy
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.gradients import mean_gradient
from jaxprune.pruning.kinds import check_kinds
from jaxprune.pruning.masks import apply_masks, check_sparsity, global_masks
from jaxprune.pruning.matching import matched_masks
from jaxprune.pruning.selection import flags
from jaxprune.pruning.selection import prunable as select_prunable
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.structures.weights import weights
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Masks, Params, PyTree


def prune(
    params: Params,
    sparsity: float | Array,
    *,
    criterion: Criterion,
    allocation: Allocation | None = None,
    structure: Structure | None = None,
    prunable: PyTree = None,
    masks: Masks | None = None,
    apply: Apply | None = None,
    batch: Batch | None = None,
    loss: ExampleLoss = cross_entropy,
    num_groups: int | None = None,
    key: jax.Array | None = None,
    grads: Params | None = None,
) -> tuple[Params, Masks]:
    """Prune the units of one network with the lowest scores.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]]), "bias": jnp.zeros(2)}
      >>> pruned, masks = pruning.prune(params, 0.5, criterion=pruning.magnitude())
      >>> pruned["kernel"].tolist()
      [[3.0, 0.0], [0.0, 2.0]]

    Args:
      params: The parameters.
      sparsity: The share to prune, in [0, 1); may be traced.
      criterion: The criterion, such as `magnitude()`.
      allocation: `global_masks`, `layerwise_masks` or one of your own; None for that of the criterion or the structure,
        or else `global_masks`.
      structure: What is pruned together, such as `blocks()`; None for single weights.
      prunable: Bools with the structure of `params`; None for the rule of `pruning.prunable`.
      masks: Masks of what is pruned already and stays so; it counts towards the sparsity. None for nothing.
      apply: `(params, x) -> logits [B, C]`, statistics frozen, for criteria that need a batch.
      batch: [N] examples to score on.
      loss: Per-example loss, for criteria that differentiate it.
      num_groups: G.
      key: Decides random scores.
      grads: The gradient of the mean loss, for criteria that need it; None to compute it from `apply` and `batch`.

    Returns:
      The parameters with pruned weights set to 0, and the others corrected where the criterion does so; and the masks,
      True = kept.

    Raises:
      UserError: A part is not of its kind, masks do not fit, the criterion needs an argument that is missing, its
        allocation is another one, the sparsity is outside [0, 1) or below what is pruned already, a layer does not fit
        the structure, or a score is not finite (the last three are checked outside of jit).
    """
    check_kinds(criterion, allocation, structure)
    treedef = jax.tree.structure(params)
    chosen = treedef.unflatten(flags(params, select_prunable(params) if prunable is None else prunable))
    structure = weights() if structure is None else structure
    check_sparsity(sparsity)
    if not isinstance(sparsity, Tracer):
        structure.check(params, chosen, (float(sparsity),))
    # What is pruned already is 0 for everything that looks at the network.
    masks = None if masks is None else treedef.unflatten(matched_masks(masks, params))
    left = params if masks is None else apply_masks(params, masks)
    if "gradients" in criterion.needs and grads is None and apply is not None and batch is not None:
        grads = mean_gradient(apply, left, batch, loss=loss)
    evidence: dict[str, Any] = {
        "apply": apply, "batch": batch, "loss": loss, "num_groups": num_groups, "key": key, "grads": grads,
    }  # fmt: skip
    start = jax.tree.map(lambda p: jnp.ones(p.shape, bool), params) if masks is None else masks
    criterion.check(**evidence, masks=start)
    select = partial(structure.masks, prunable=chosen, allocation=allocation_of(criterion, structure, allocation))

    def of_round(masks: Masks, target: float | Array) -> Masks:
        scores = criterion.score(apply_masks(params, masks), **evidence, masks=masks)
        return select(scores, target, masks=masks)

    if criterion.rounds > 1:
        final = _in_rounds(of_round, start, sparsity, chosen, criterion.rounds)
    else:
        final = select(criterion.score(left, **evidence, masks=start), sparsity, masks=masks)
    pruned = apply_masks(params, final)
    if criterion.correct is not None:
        pruned = criterion.correct(left, final, **evidence)
    return pruned, final


def allocation_of(criterion: Criterion, structure: Structure, allocation: Allocation | None) -> Allocation:
    """Return the allocation asked for, or the only fit one.

    Raises:
      UserError: The criterion or the structure is defined for another one.
    """
    own = [part.allocation for part in (criterion, structure) if part.allocation is not None]
    allocations = [*own, *([] if allocation is None else [allocation])]
    if any(other is not allocations[0] for other in allocations):
        raise UserError("allocation: the criterion or the structure is defined for another allocation; leave it out")
    return allocations[0] if allocations else global_masks


def _in_rounds(of_round: Any, start: Masks, sparsity: float | Array, prunable: PyTree, rounds: int) -> Masks:
    """Prune in rounds that each keep the same share."""
    leaves, treedef = jax.tree.flatten(start)
    chosen = [leaf for leaf, prune in zip(leaves, treedef.flatten_up_to(prunable), strict=True) if prune]
    density = sum(jnp.sum(leaf, dtype=jnp.float32) for leaf in chosen) / sum(leaf.size for leaf in chosen)

    # A power that is rounded up must not prune more than the sparsity does: the float32 below it never does.
    most = jnp.nextafter(jnp.float32(sparsity), jnp.float32(0))

    def body(i: Array, masks: Masks) -> Masks:
        target = 1 - density * ((1 - sparsity) / density) ** ((i + 1) / rounds)
        return of_round(masks, jnp.minimum(jnp.float32(target), most))

    # Outside of the loop the sparsity need not be a float32, whose count may be another one.
    return of_round(jax.lax.fori_loop(0, rounds - 1, body, start), sparsity)

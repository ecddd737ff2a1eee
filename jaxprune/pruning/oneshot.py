"""One-shot pruning: scores, masks and pruned parameters in one call."""

from typing import Any

import jax

from jaxprune.pruning.criterion import Allocation, Criterion
from jaxprune.pruning.masks import apply_masks, global_masks
from jaxprune.pruning.selection import prunable as select_prunable
from jaxprune.types import Apply, Batch, Masks, Params, PyTree


def prune(
    params: Params,
    sparsity: float,
    *,
    criterion: Criterion,
    allocation: Allocation = global_masks,
    prunable: PyTree = None,
    apply: Apply | None = None,
    batch: Batch | None = None,
    num_groups: int | None = None,
    key: jax.Array | None = None,
) -> tuple[Params, Masks]:
    """Prune the weights of one network with the lowest scores.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxprune import pruning
      >>> params = {"kernel": jnp.array([[3.0, -1.0], [0.5, 2.0]]), "bias": jnp.zeros(2)}
      >>> pruned, masks = pruning.prune(params, 0.5, criterion=pruning.magnitude())
      >>> pruned["kernel"].tolist()
      [[3.0, 0.0], [0.0, 2.0]]

    Args:
      params: The parameters.
      sparsity: The share to prune, in [0, 1).
      criterion: The criterion, such as `magnitude()`.
      allocation: `global_masks`, `layerwise_masks` or one of your own; a criterion that is defined for one allocation
        alone uses that one.
      prunable: Bools with the structure of `params`; None for the rule of `pruning.prunable`.
      apply: `(params, x) -> logits [B, C]`, statistics frozen, for criteria that need a batch.
      batch: [N] examples to score on.
      num_groups: G.
      key: Decides random scores.

    Returns:
      The parameters with pruned weights set to 0, and the masks, True = kept.

    Raises:
      UserError: The criterion needs an argument that is missing, the sparsity is outside [0, 1), or a score is not
        finite (checked outside of jit).
    """
    evidence: dict[str, Any] = {"apply": apply, "batch": batch, "num_groups": num_groups, "key": key}
    criterion.check(**evidence)
    chosen = select_prunable(params) if prunable is None else prunable
    masks = (criterion.allocation or allocation)(criterion.score(params, **evidence), sparsity, chosen)
    return apply_masks(params, masks), masks

"""The update of masks at a traced step, for pruning during training."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.pruning.criterion import Criterion
from jaxprune.pruning.kinds import check_kinds, check_schedule_kind
from jaxprune.pruning.oneshot import allocation_of, prune
from jaxprune.pruning.schedules import SparsitySchedule
from jaxprune.pruning.selection import prunable as select_prunable
from jaxprune.pruning.structure import Structure
from jaxprune.pruning.structures.weights import weights
from jaxprune.states import check_key, typed_key
from jaxprune.types import Array, Masks, Params, PyTree, Scores

_EVIDENCE = ("apply", "batch", "loss", "num_groups")  # what `update` may be given by name for the criterion


@dataclass(frozen=True)
class MaskUpdate:
    """What is pruned when; the attributes are the arguments of `sparsify`."""

    criterion: Criterion
    schedule: SparsitySchedule
    allocation: Allocation | None
    structure: Structure | None
    prunable: PyTree
    key: jax.Array | None

    def check(self) -> None:
        """Raise a `UserError` where the parts do not fit each other."""
        check_kinds(self.criterion, self.allocation, self.structure)
        check_schedule_kind(self.schedule)
        allocation_of(self.criterion, self.structure or weights(), self.allocation)
        if self.key is None and "key" in self.criterion.needs:
            raise UserError("key: this criterion needs it; give key=jax.random.key(0) to the transformation")
        if self.key is not None:
            check_key(self.key)

    def check_params(self, params: Params) -> None:
        """Raise a `UserError` where the structure does not fit the parameters."""
        chosen = select_prunable(params) if self.prunable is None else self.prunable
        (self.structure or weights()).check(params, chosen, (self.schedule.target,))

    def masks(
        self,
        params: Params,
        masks: Masks | None,
        *,
        step: Array,
        grads: Params,
        key_data: Array | tuple[()],
        extra: Mapping[str, Any],
    ) -> tuple[Params, Masks]:
        """Prune at the sparsity of a step, as `prune` does.

        Args:
          params: The parameters.
          masks: What is pruned already and stays so; None for nothing.
          step: [] int32.
          grads: The gradient that the optimiser was given.
          key_data: From `key_data`.
          extra: What `update` was given by name.

        Returns:
          The pruned parameters, and the masks.

        Raises:
          UserError: The criterion needs an argument that is missing.
        """
        sparsity = self.schedule(step)
        return prune(
            params,
            sparsity,
            criterion=self.criterion,
            allocation=self.allocation,
            structure=self._exact_at_the_end(step, sparsity),
            prunable=self.prunable,
            masks=masks,
            key=None if self.key is None else key_of_step(key_data, step, self.key),
            grads=grads,
            **{name: extra[name] for name in _EVIDENCE if name in extra},
        )

    def _exact_at_the_end(self, step: Array, final: Array) -> Structure:
        """The structure, with masks of the target itself at the end.

        The sparsity of a traced step, `final`, is a float32, which may round to another number of units than the target
        does.
        """
        structure = self.structure or weights()

        def masks(
            scores: Scores, sparsity: Array, prunable: PyTree, masks: Masks | None, allocation: Allocation
        ) -> Masks:
            def to(sparsity: float | Array) -> Masks:
                return structure.masks(scores, sparsity, prunable=prunable, masks=masks, allocation=allocation)

            if sparsity is not final:  # of a round before the last, which alone is for what `prune` was given
                return to(sparsity)
            return jax.lax.cond(step >= self.schedule.end, lambda: to(self.schedule.target), lambda: to(sparsity))

        return replace(structure, masks=masks)


def all_kept(params: Params) -> Masks:
    """Masks that are True everywhere."""
    return jax.tree.map(lambda p: jnp.ones(jnp.shape(p), bool), params)


def filled(masks: Masks, params: Params) -> Masks:
    """Masks that are True throughout where a leaf was None."""
    leaves, treedef = jax.tree.flatten(params)
    pairs = zip(treedef.flatten_up_to(masks), leaves, strict=True)
    return jax.tree.unflatten(treedef, [jnp.ones(jnp.shape(p), bool) if m is None else m for m, p in pairs])


def key_data(key: jax.Array | None) -> Array | tuple[()]:
    """The data of a key for an optimiser's state, () for none."""
    return () if key is None else jax.random.key_data(typed_key(key))


def key_of_step(data: Any, step: Array, like: jax.Array) -> jax.Array:
    """The key with this data, folded with a step."""
    return jax.random.fold_in(jax.random.wrap_key_data(data, impl=jax.random.key_impl(typed_key(like))), step)

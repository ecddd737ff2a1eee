"""Pruning criteria as values: a score, and what it needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxprune.errors import UserError
from jaxprune.types import Masks, PyTree, Scores

Allocation = Callable[[Scores, float, PyTree], Masks]  # (scores, sparsity, prunable) -> masks

_EVIDENCE = {"batch": ("apply", "batch"), "groups": ("num_groups",), "key": ("key",)}


@dataclass(frozen=True)
class Criterion:
    """A pruning criterion.

    Attributes:
      score: `(params, *, apply, batch, num_groups, key) -> Scores`, for one network; the lowest score is pruned first.
        It takes what it needs by name, and ignores the rest.
      needs: "batch" (`apply` and `batch`), "groups" (`num_groups`) and "key"; what is not needed may be None.
      allocation: The only allocation that the criterion is defined for; None for any.
    """

    score: Callable[..., Scores]
    needs: frozenset[str] = frozenset()
    allocation: Allocation | None = None

    def check(self, **evidence: Any) -> None:
        """Raise if the criterion needs an argument that is None or missing.

        Raises:
          UserError: It names the argument.
        """
        for need in sorted(self.needs):
            for name in _EVIDENCE[need]:
                if evidence.get(name) is None:
                    raise UserError(f"{name}: this criterion needs it ({', '.join(sorted(self.needs))}); give {name}=")

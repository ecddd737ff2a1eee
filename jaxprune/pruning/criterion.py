"""Pruning criteria as values: a score, what it needs, and a correction."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxprune.errors import UserError
from jaxprune.pruning.allocation import Allocation
from jaxprune.types import Params, Scores

# Need -> the arguments that answer it.
EVIDENCE = {
    "activations": ("apply", "batch"),
    "batch": ("apply", "batch"),
    "gradients": ("grads",),
    "groups": ("num_groups",),
    "key": ("key",),
    "masks": ("masks",),
}


@dataclass(frozen=True)
class Criterion:
    """A pruning criterion.

    Attributes:
      score: `(params, *, apply, batch, loss, num_groups, key, grads, masks) -> Scores`, for one network; the lowest
        score is pruned first. It takes what it needs by name, and ignores the rest.
      needs: What it reads beside the parameters: "batch" (`apply` and `batch`), "activations" (the inputs of the
        layers, from the same two), "gradients" (`grads`, of the mean loss), "groups" (`num_groups`), "masks" (of what
        is pruned already) and "key". What is not needed may be None.
      allocation: The only allocation that the criterion is defined for; None for any.
      correct: `(params, masks, **evidence) -> params` adjusts the kept weights to the loss of the others; None for
        none.
      rounds: The number of rounds of scoring and pruning, each of which scores what the one before left.
    """

    score: Callable[..., Scores]
    needs: frozenset[str] = frozenset()
    allocation: Allocation | None = None
    correct: Callable[..., Params] | None = None
    rounds: int = 1

    def check(self, **evidence: Any) -> None:
        """Raise if the criterion needs arguments that are None or missing.

        Raises:
          UserError: It names all that are missing.
        """
        named = dict.fromkeys(name for need in sorted(self.needs) for name in EVIDENCE[need])
        if missing := [name for name in named if evidence.get(name) is None]:
            them = "it" if len(missing) == 1 else "them"
            give = " and ".join(f"{name}=" for name in missing)
            raise UserError(f"{', '.join(missing)}: this criterion needs {them}; give {give}")

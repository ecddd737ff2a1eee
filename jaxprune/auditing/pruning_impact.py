"""Impact of pruning on each group."""

from typing import NamedTuple

from jaxprune.auditing.metrics import GroupMetrics
from jaxprune.groups import largest_over_groups, spread_over_groups
from jaxprune.losses import excessive_loss
from jaxprune.types import Array


class Impact(NamedTuple):
    """The change from the dense to the pruned network; positive means harm.

    Attributes:
      excessive_loss: [G] R(a) = J(pruned; D_a) - J(dense; D_a), eq. (2) of Tran et al. 2022, in nats.
      accuracy_drop: [G] Δ_a = accuracy_a(dense) - accuracy_a(pruned).
      excess_accuracy_gap: [G] ψ_a = Δ_a - Δ, with Δ the drop over all examples (Hashemizadeh et al. 2024).
      overall_excessive_loss: [] the same over all examples.
      overall_accuracy_drop: [] Δ.
    """

    excessive_loss: Array
    accuracy_drop: Array
    excess_accuracy_gap: Array
    overall_excessive_loss: Array
    overall_accuracy_drop: Array

    @property
    def excessive_loss_spread(self) -> Array:
        """Fairness violation ξ = max_{a,a'} |R(a) - R(a')|.

        Eq. (3) of Tran et al. 2022.
        """
        return spread_over_groups(self.excessive_loss)

    @property
    def max_excess_accuracy_gap(self) -> Array:
        """max_a ψ_a."""
        return largest_over_groups(self.excess_accuracy_gap)


def impact(dense: GroupMetrics, pruned: GroupMetrics) -> Impact:
    """Compare the metrics of a pruned network with the dense ones.

    Args:
      dense: The metrics of the network before.
      pruned: The metrics of the network after, on the same examples; leading axes broadcast.

    Returns:
      The impact; NaN for a group without examples.

    Example:
      >>> import numpy as np
      >>> size = np.array([60, 40])
      >>> dense = GroupMetrics(size, np.array([0.2, 0.4]), np.array([0.9, 0.8]), np.array(0.28), np.array(0.86))
      >>> pruned = GroupMetrics(size, np.array([0.3, 0.9]), np.array([0.88, 0.6]), np.array(0.54), np.array(0.77))
      >>> change = impact(dense, pruned)
      >>> change.excessive_loss.round(2), change.accuracy_drop.round(2)
      (array([0.1, 0.5]), array([0.02, 0.2 ]))
    """
    drop = dense.accuracy - pruned.accuracy
    overall_drop = dense.overall_accuracy - pruned.overall_accuracy
    return Impact(
        excessive_loss=excessive_loss(dense.loss, pruned.loss),
        accuracy_drop=drop,
        excess_accuracy_gap=drop - overall_drop[..., None],
        overall_excessive_loss=excessive_loss(dense.overall_loss, pruned.overall_loss),
        overall_accuracy_drop=overall_drop,
    )

"""Metrics of groups as a short text, and as rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.core import Tracer

if TYPE_CHECKING:
    from jaxprune.auditing.metrics import GroupMetrics

_MOST = 20  # groups in a text


def metrics_text(metrics: "GroupMetrics", group_names: Sequence[str] = ()) -> str:
    """Write metrics as a small table, averaged over replicas.

    Args:
      metrics: Leaves [..., G] and [...].
      group_names: The G names; numbers without them.

    Returns:
      The text; only the shapes where the values are not known, as inside of `jax.jit`.
    """
    leaves = metrics._asdict()
    if not all(_known(leaf) for leaf in leaves.values()):
        return f"GroupMetrics({', '.join(f'{name}={_shape(leaf)}' for name, leaf in leaves.items())})"
    arrays = {name: np.asarray(leaf, np.float64) for name, leaf in leaves.items()}
    lead = arrays["loss"].shape[:-1]
    with np.errstate(invalid="ignore"):
        size, loss, accuracy = (
            arrays[name].reshape(-1, arrays[name].shape[-1]).mean(0) for name in ("size", "loss", "accuracy")
        )
        everyone = f"loss {arrays['overall_loss'].mean():.4f}, accuracy {100 * arrays['overall_accuracy'].mean():.2f} %"
    over = f" (mean over {' x '.join(map(str, lead))} replicas)" if np.prod(lead) > 1 else ""
    names = list(group_names) or [str(g) for g in range(len(size))]
    width = max(5, *(len(name) for name in names[:_MOST]))
    lines = [f"GroupMetrics: {everyone}{over}", f"  {'group':<{width}} {'size':>9} {'loss':>9} {'accuracy':>10}"]
    lines += [
        f"  {name:<{width}} {n:>9,.0f} {j:>9.4f} {100 * a:>8.2f} %"
        for name, n, j, a in list(zip(names, size, loss, accuracy, strict=True))[:_MOST]
    ]
    more = len(names) - _MOST
    return "\n".join([*lines, f"  ... and {more} more"] if more > 0 else lines)


def metrics_rows(metrics: "GroupMetrics", group_names: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield one row for each group of each replica.

    Args:
      metrics: Leaves [G] or [R, G].
      group_names: The G names; numbers without them.
    """
    columns = {name: np.asarray(getattr(metrics, name)) for name in ("size", "loss", "accuracy")}
    for index in np.ndindex(columns["loss"].shape):
        *replica, group = index
        row = {"replica": replica[0]} if replica else {}
        name = group_names[group] if group_names else group
        yield row | {"group": name} | {column: values[index].item() for column, values in columns.items()}


def _known(leaf: Any) -> bool:
    return not isinstance(leaf, Tracer) and isinstance(leaf, np.ndarray | np.generic | jax.Array | float | int)


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}" if hasattr(leaf, "shape") else type(leaf).__name__

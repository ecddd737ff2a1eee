"""Checks of examples, labels, groups, weights and logits.

Every public function that takes examples calls these before it computes. Shapes and types are checked everywhere.
Values are checked where they are known: outside of `jax.jit`, or for constants of a compiled function while it is
traced. Examples of weight 0 are padding: their labels and groups count nowhere and may hold anything, such as -1.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxprune.compat import evaluate_now
from jaxprune.errors import UserError
from jaxprune.networks import as_pytree
from jaxprune.types import Apply, Array, Batch, Params, PyTree


def with_weights(batch: Any) -> Any:
    """Raise where the shapes of a batch disagree; fill in weights of 1.

    Args:
      batch: A `Batch`, or what has its fields; `weight` may be None. Lists, tables of pandas and tensors of torch are
        read as arrays.

    Returns:
      The batch of arrays, with weights [B] of a floating-point type; truth values in labels or groups are 0 and 1.

    Raises:
      UserError: The fields differ in length, groups or weights have more than one axis, or a field is no array.
    """
    x, y, group, weight = (_array(getattr(batch, n), f"batch.{n}") for n in ("x", "y", "group", "weight"))
    y, group = (codes.astype(np.int32) if codes.dtype == bool else codes for codes in (y, group))
    lengths = {"x": np.shape(x)[:1], "y": y.shape[:1]}
    n = lengths["y"][0] if y.ndim else 0
    if lengths["x"] != lengths["y"] or not y.ndim:
        raise UserError(f"batch.y: shape {y.shape} for batch.x of shape {np.shape(x)}; give one label per input")
    if weight is None:
        weight = np.ones(n, np.float32)
    for name, values in (("group", group), ("weight", weight)):
        if values.shape != (n,):
            raise UserError(f"batch.{name}: shape {values.shape} for {n} examples; give one {name} each, [{n}]")
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        weight = weight.astype(np.float32)
    fields = {"x": x, "y": y, "group": group, "weight": weight}
    changed = {name: field for name, field in fields.items() if field is not getattr(batch, name)}
    return batch._replace(**changed) if changed else batch


def check_batch(batch: Any, *, num_groups: int | None = None, num_classes: int | None = None) -> Any:
    """Raise if a label, group or weight of a batch is unusable.

    Args:
      batch: A `Batch` of [N] examples, or what has its fields; weights of None are 1.
      num_groups: G; None where it is not known, which leaves negative groups to be refused.
      num_classes: C; None where labels need not be classes: integers must then not be negative, and floats are let
        through.

    Returns:
      The batch with weights [N].

    Raises:
      UserError: Shapes disagree, a label or group is out of range or not whole, or a weight is negative or not finite.
    """
    batch = with_weights(batch)
    if num_classes is not None:
        _check_class_labels(batch.y)
    if not jnp.issubdtype(batch.group.dtype, jnp.integer):
        raise UserError(f"batch.group: {batch.group.dtype.name} values; give whole numbers, group.astype(int)")
    _check_values(batch.y, batch.group, batch.weight, num_groups, num_classes)
    return batch


def check_groups(group: Array, num_groups: int, weight: Array | None = None) -> None:
    """Raise if a group is outside [0, G).

    Unknown groups, and those of examples of weight 0, pass.

    Args:
      group: [B] int.
      num_groups: G.
      weight: [B], or None for ones.

    Raises:
      UserError: A group is out of range, or not whole.
    """
    group, blank = _array(group, "group"), np.zeros(np.shape(group), np.int32)
    if not jnp.issubdtype(group.dtype, jnp.integer):
        raise UserError(f"group: {group.dtype.name} values; give whole numbers, group.astype(int)")
    weights: Any = np.ones(blank.shape, np.float32) if weight is None else _array(weight, "weight")
    if np.shape(weights) != blank.shape:
        raise UserError(f"weight: shape {np.shape(weights)} for groups of shape {blank.shape}; give one weight each")
    _check_values(blank, group, weights, num_groups, None, where="")


def check_labels(y: Array, num_classes: int, weight: Array | None = None, *, where: str = "") -> None:
    """Raise if a label is outside [0, C).

    Unknown labels, and those of examples of weight 0, pass.

    Args:
      y: [B] int, or of more axes.
      num_classes: C.
      weight: Of the shape of `y`, or None for ones.
      where: What the labels belong to, such as "batch.".

    Raises:
      UserError: A label is out of range.
    """
    y = _array(y, f"{where}y").reshape(-1)
    blank = np.zeros(y.shape, np.int32)
    weights = np.ones(y.shape, np.float32) if weight is None else _array(weight, f"{where}weight").reshape(-1)
    _check_values(y, blank, weights, None, num_classes, where=where)


def check_logits(shape: tuple[int, ...], batch: Any) -> None:
    """Raise where logits do not fit one class label per example.

    Args:
      shape: Of the logits of some of the examples; it must be [B, C].
      batch: Of labels [N].

    Raises:
      UserError: The logits have one axis or more than two, or one column, or the labels have several axes.
    """
    if len(shape) > 2:
        raise UserError(
            f"logits: shape {shape}, not [B, C]; for segmentation make each pixel an example: logits.reshape(-1, C), "
            "and y, group and weight of one entry per pixel"
        )
    _check_class_labels(batch.y)
    if len(shape) < 2 or shape[1] == 1:
        z = "z[:, None]" if len(shape) < 2 else "z"
        raise UserError(
            f"logits: shape {shape}, one per example, of which no class is the largest; give two, "
            f"jnp.concatenate([jnp.zeros_like({z}), {z}], -1), where z is the logit of class 1"
        )


def logits_shape(apply: Apply, params: Params, x: Array, size: int) -> tuple[int, ...]:
    """The shape of a network's outputs for one chunk, from tracing alone.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      x: [N, ...] inputs.
      size: B, the examples in a chunk at most.
    """
    n = np.shape(x)[0]
    length = -(-n // max(1, -(-n // size)))
    chunk = jax.ShapeDtypeStruct((length, *np.shape(x)[1:]), jax.dtypes.canonicalize_dtype(x.dtype))
    return _outputs.eval_shape(*_shapes((as_pytree(apply), params)), chunk).shape


def check_classification(
    apply: Apply, params: Params, batch: Batch, *, num_groups: int | None = None, size: int = 256
) -> Batch:
    """Raise where a network and examples are not of a classification.

    Args:
      apply: `(params, x) -> logits [B, C]`.
      params: The parameters.
      batch: [N] examples; weights of None are 1.
      num_groups: G, or None where groups do not matter.
      size: Examples in the chunks that the network will be computed on.

    Returns:
      The batch with weights [N].

    Raises:
      UserError: As `check_logits` and `check_batch` do, or there are no examples.
    """
    batch = with_weights(batch)
    if not batch.y.shape[0]:
        raise UserError("batch: there are no examples; give one or more")
    shape = logits_shape(apply, params, batch.x, size)
    check_logits(shape, batch)
    return check_batch(batch, num_groups=num_groups, num_classes=shape[-1])


def _array(leaf: Any, where: str = "") -> Any:
    """Convert to an array; keep None and inputs read by row."""
    if leaf is None or isinstance(leaf, np.ndarray | jax.Array | jax.ShapeDtypeStruct):
        return leaf
    if isinstance(getattr(leaf, "dtype", None), np.dtype) and not hasattr(leaf, "iloc"):  # that of pandas
        return leaf
    try:
        found = np.asarray(leaf)
    except (ValueError, TypeError, RuntimeError):  # ragged lists; tensors on a device or with a gradient
        found = np.asarray(None)
    if found.dtype == object:
        kind = type(leaf).__name__
        raise UserError(
            f"{where}: this {kind} is no array of numbers; give a numpy or jax array, of one type and shape"
        )
    return found


@jax.jit
def _outputs(apply: Apply, params: Params, x: Array) -> Array:
    return apply(params, x)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tree)


def _check_class_labels(y: Array) -> None:
    if len(y.shape) > 1:
        raise UserError(
            f"batch.y: shape {y.shape}, not [N]; give y.argmax(-1) for one-hot labels, audit each label of a "
            "multi-label task on its own, and make each pixel of a segmentation an example"
        )
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise UserError(
            f"batch.y: {y.dtype.name} values, not classes; give y.astype(int), or for a regression average the errors "
            "yourself: groups.group_mean(errors, group, num_groups, weight)"
        )


def _check_values(
    y: Array, group: Array, weight: Array, num_groups: int | None, num_classes: int | None, *, where: str = "batch."
) -> None:
    """Raise for the first unusable value, after one transfer from the device.

    Values that are traced are not known.
    """
    if any(isinstance(leaf, Tracer) for leaf in (y, group, weight)):
        return
    most = np.iinfo(np.uint32).max  # as an array scalar: a Python integer would take on the type of int8 labels
    limits = tuple(np.uint32(most if count is None else min(count, most)) for count in (num_classes, num_groups))
    if any(isinstance(leaf, jax.Array) for leaf in (y, group, weight)):
        first = np.asarray(evaluate_now(_first_faults_on_device, y, group, weight, limits))
    else:
        first = _first_faults(y, group, weight, limits, np)
    label, code, share = (int(at) for at in first)
    if share >= 0:
        raise UserError(
            f"{where}weight: {_at(weight, share)} of example {share} is negative or not finite; give 0 for padding, "
            "1 for an example that counts once"
        )
    if code >= 0:
        allowed = "groups start at 0" if num_groups is None else f"num_groups = {num_groups} takes {_codes(num_groups)}"
        raise _out_of_range(f"{where}group: group", _at(group, code), code, num_groups, allowed)
    if label >= 0:
        allowed = "labels start at 0 (for a loss of your own give floats)"
        allowed = allowed if num_classes is None else f"{num_classes} logits take {_codes(num_classes)}"
        unlabelled = "; give an example without a label weight 0" if _at(y, label) < 0 else ""
        raise _out_of_range(f"{where}y: label", _at(y, label), label, num_classes, allowed + unlabelled)


def _out_of_range(what: str, value: int, example: int, count: int | None, allowed: str) -> UserError:
    hint = " (codes that start at 1? subtract 1)" if value == count else ""
    return UserError(f"{what} {value} of example {example} is out of range; {allowed}{hint}")


def _first_faults(y: Any, group: Any, weight: Any, limits: tuple[Any, ...], xp: Any) -> Any:
    """[3] int: first example with a bad label, group, weight; else -1."""
    counts = weight != 0
    bad_labels = counts & _outside(y, limits[0], xp) if _is_codes(y) else xp.zeros(weight.shape, bool)
    bad = (bad_labels, counts & _outside(group, limits[1], xp), ~((weight >= 0) & (weight < xp.inf)))
    return xp.stack([xp.where(xp.any(b), xp.argmax(b), -1) if b.size else xp.asarray(-1) for b in bad])


def _outside(codes: Any, limit: Any, xp: Any) -> Any:
    wide = codes if codes.dtype.itemsize > 4 else codes.astype(xp.uint32)
    return (codes < 0) | (wide >= limit)


@jax.jit
def _first_faults_on_device(y: Array, group: Array, weight: Array, limits: tuple[Any, ...]) -> Array:
    return _first_faults(y, group, weight, limits, jnp)


def _is_codes(y: Any) -> bool:
    """Return whether labels are one whole number each.

    The range of other labels is not known here.
    """
    return y.ndim == 1 and jnp.issubdtype(y.dtype, jnp.integer)


def _at(values: Array, index: int) -> Any:
    return np.asarray(values[index]).item()


def _codes(count: int) -> str:
    return {1: "0 alone", 2: "0 and 1"}.get(count, f"0 to {count - 1}")

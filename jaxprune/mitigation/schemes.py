"""Schemes: how parameters and multipliers take one step towards a saddle point."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.mitigation.multipliers import only_lagrangian_state
from jaxprune.types import Array, Params, PyTree

Extra = dict[str, Any]  # named arguments of the update: `violation` [G] and others
Choose = Callable[[Extra], Array]  # from the measured violation to the weights [G] of the surrogates
# (params, choose) -> (gradients, extra, rest): measures, calls choose(extra) for the weights, differentiates with them
Measure = Callable[[Params, Choose], tuple[Params, Extra, Any]]
# (measure, tx, params, opt_state) -> (params, opt_state, rest): the rest is that of the last call of `measure`
Scheme = Callable[[Measure, optax.GradientTransformationExtraArgs, Params, PyTree], tuple[Params, PyTree, Any]]


def simultaneous(
    measure: Measure, tx: optax.GradientTransformationExtraArgs, params: Params, opt_state: PyTree
) -> tuple[Params, PyTree, Any]:
    """Take the gradient and the violation at the old point.

    Args:
      measure: See `Measure`.
      tx: A transformation with one `lagrangian(...)`.
      params: The parameters.
      opt_state: Its state.

    Returns:
      The new parameters, the new state, and the rest that `measure` returned.
    """
    gradients, extra, rest = measure(params, _weights_in(opt_state))
    return *_apply(tx, gradients, opt_state, params, extra), rest


def alternating(
    measure: Measure, tx: optax.GradientTransformationExtraArgs, params: Params, opt_state: PyTree
) -> tuple[Params, PyTree, Any]:
    """Step the multipliers first, and take the gradient at the new ones.

    The violation is that at the old parameters, so that one forward pass serves both. Arguments and result as for
    `simultaneous`.
    """

    def at_new(extra: Extra) -> Array:
        # An update whose multipliers alone are used: the compiler removes the rest.
        _, ahead = tx.update(jax.tree.map(jnp.zeros_like, params), opt_state, params, **extra)
        return _weights_in(ahead)(extra)

    gradients, extra, rest = measure(params, at_new)
    return *_apply(tx, gradients, opt_state, params, extra), rest


def extragradient(
    measure: Measure, tx: optax.GradientTransformationExtraArgs, params: Params, opt_state: PyTree
) -> tuple[Params, PyTree, Any]:
    """Apply a trial step's gradient and violation to the old point.

    Korpelevich 1976.

    Twice the cost of the others. Arguments and result as for `simultaneous`.
    """
    gradients, extra, _ = measure(params, _weights_in(opt_state))
    trial, ahead = _apply(tx, gradients, opt_state, params, extra)
    gradients, extra, rest = measure(trial, _weights_in(ahead))
    return *_apply(tx, gradients, opt_state, params, extra), rest


def _weights_in(opt_state: PyTree) -> Choose:
    return lambda extra: only_lagrangian_state(opt_state).weights(extra["violation"])


def _apply(
    tx: optax.GradientTransformationExtraArgs, gradients: Params, opt_state: PyTree, params: Params, extra: Extra
) -> tuple[Params, PyTree]:
    updates, opt_state = tx.update(gradients, opt_state, params, **extra)
    return optax.apply_updates(params, updates), opt_state

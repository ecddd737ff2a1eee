"""Dual updates: optax transformations that take minus the violation.

Any optimiser of optax serves. Those here are ascent, the same over several batches, and what optax does not have. Each
takes the step sizes of the *ascent*, positive; `lagrangian` refuses a transformation that goes the other way.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from jaxprune.errors import UserError
from jaxprune.types import Array


def ascent(rate: Array | float, *, momentum: float = 0.0, decay: float = 0.0) -> optax.GradientTransformation:
    """Gradient ascent, λ + rate * (violation - decay * λ).

    The rate lies in the state, so that one compiled step serves any rate, and several train as one program. Momentum
    wants a smaller one: minimising x²/2 with x >= 1 by steps of 0.1, a momentum of 0.9 settles at a rate of 0.005, and
    swings without end at 0.05 and 0.5, at both of which plain ascent settles.

    Args:
      rate: The step size, not negative; a number, or a traced scalar.
      momentum: Of heavy-ball momentum; 0 for none. With it, an absent group's multiplier moves on.
      decay: Draws multipliers to 0; the fixed point is then λ = violation / decay, not an exactly met constraint.

    Returns:
      The transformation.

    Raises:
      UserError: The rate or the decay is negative.
    """
    _check_not_negative("rate", rate)
    _check_not_negative("decay", decay)
    steps = [optax.add_decayed_weights(decay)] if decay else []
    steps += [optax.trace(momentum)] if momentum else []
    return optax.chain(*steps, optax.inject_hyperparams(optax.scale_by_learning_rate)(learning_rate=rate))


def over_batches(
    dual_tx: optax.GradientTransformation, batches: int, *, mean: bool = False
) -> optax.GradientTransformation:
    """One dual step for several batches, such as an epoch, by `optax.MultiSteps`.

    Args:
      dual_tx: What is done with the violations of the batches together.
      batches: How many steps of training there are for each dual step.
      mean: Average the violations rather than sum them. A group that is absent from a batch counts as 0
        there.

    Returns:
      The transformation.

    Raises:
      UserError: `batches` is below 1, or the step would lower the multiplier of a violated constraint.
    """
    if batches < 1:
        raise UserError(f"batches: {batches} is below 1; give the number of batches for each dual step")
    check_ascends(optax.with_extra_args_support(dual_tx), 1)  # by itself: between its steps it only waits
    return optax.MultiSteps(dual_tx, batches, use_grad_mean=mean).gradient_transformation()


class CapState(NamedTuple):
    """The largest absolute value, []."""

    radius: Array


def cap(radius: float) -> optax.GradientTransformation:
    """Keep every multiplier within [-radius, radius]; put it last in an `optax.chain`.

    A bound on how much weight a constraint may gain when it cannot be met.

    Args:
      radius: The largest absolute value, positive.

    Returns:
      The transformation.

    Raises:
      UserError: The radius is not positive.
    """
    if not radius > 0:
        raise UserError(f"radius: {radius} is not above 0; give the largest multiplier to allow")

    def update(updates: Array, state: Any, params: Array | None = None) -> tuple[Array, Any]:
        assert params is not None
        return jnp.clip(params + updates, -state.radius, state.radius) - params, state

    return optax.GradientTransformation(lambda params: CapState(jnp.asarray(radius, jnp.result_type(float))), update)  # pyright: ignore


class NuPIState(NamedTuple):
    """ξ [G], the groups met so far [G], and the coefficients []."""

    smoothed: Array
    met: Array
    coefficients: Array


def nu_pi(
    rate: Array | float, *, nu: float = 0.0, proportional: float = 1.0, integral: float = 1.0, start: str = "sgd"
) -> optax.GradientTransformationExtraArgs:
    """νPI control of the multipliers (Sohrabi et al. 2024).

    A proportional term damps the oscillation of ascent.

        ξ_t = ν ξ_{t-1} + (1 - ν) e_t;    λ_{t+1} = λ_t + rate (integral e_t + proportional (ξ_t - ξ_{t-1}))

    with the violation e_t. This is the *documented* recursion with ξ_{-1} = e_0 (`start="sgd"`: the first step is that
    of ascent, and ξ_0 = e_0) or ξ_{-1} = 0 (`start="zeros"`); a well-known implementation has two code paths that
    begin otherwise and give other numbers. A group that is absent from the batch stands still, ξ too.

    Args:
      rate: The step size, not negative.
      nu: In [0, 1): how much ξ is smoothed.
      proportional: K_P, not negative.
      integral: K_I, not negative.
      start: "sgd" or "zeros".

    Returns:
      The transformation; `update` takes `present` [G] by name, or None for all.

    Raises:
      UserError: A coefficient is out of range.
    """
    for name, value in (("rate", rate), ("proportional", proportional), ("integral", integral)):
        _check_not_negative(name, value)
    if not 0 <= nu < 1:
        raise UserError(f"nu: {nu} is outside [0, 1); 0 does not smooth")
    if start not in ("sgd", "zeros"):
        raise UserError(f"start: {start!r} is neither 'sgd' nor 'zeros'")

    def init(params: Any) -> Any:
        met = jnp.full(jnp.shape(params), start == "zeros")
        smoothed = jnp.zeros(
            jnp.shape(params), jnp.result_type(params, jnp.float32)
        )  # whole numbers would round a rate
        return NuPIState(smoothed, met, jnp.array([rate, nu, proportional, integral], smoothed.dtype))

    def update(updates: Any, state: Any, params: Any = None, *, present: Any = None, **extra: Any) -> tuple[Any, Any]:
        rate, nu, proportional, integral = state.coefficients
        error = -updates.astype(state.smoothed.dtype)
        here = jnp.ones(error.shape, bool) if present is None else present
        before = jnp.where(state.met, state.smoothed, error)
        smoothed = nu * before + (1 - nu) * error
        change = rate * (integral * error + proportional * (smoothed - before))
        kept = NuPIState(jnp.where(here, smoothed, state.smoothed), state.met | here, state.coefficients)
        return jnp.where(here, change, 0), kept

    return optax.GradientTransformationExtraArgs(init, update)


def restart_when_feasible(
    dual_tx: optax.GradientTransformation, *, slack: float = 0.0
) -> optax.GradientTransformationExtraArgs:
    """Set a multiplier to 0 once its violation is below -slack.

    For inequalities. The weight that a constraint gained while it was violated is dropped at once instead of being
    worked off step by step; where the constraint is active at the solution, noise alone then makes it swing, and a
    slack larger than the noise helps. At large rates it swings without any noise: minimising x²/2 with x >= 1 by
    steps of 0.1, it settles at a rate of 0.005, and not at 0.05 or 0.5, as any overshoot drops the multiplier to 0.

    Args:
      dual_tx: What moves the multipliers of violated constraints.
      slack: How far below 0 a violation must be.

    Returns:
      The transformation; `update` takes `present` [G] by name, or None for all: absent groups are not restarted.
    """
    inner = optax.with_extra_args_support(dual_tx)

    def update(updates: Any, state: Any, params: Any = None, *, present: Any = None, **extra: Any) -> tuple[Any, Any]:
        assert params is not None
        changes: Any
        changes, state = inner.update(updates, state, params, present=present, **extra)
        feasible = (updates > slack) if present is None else (updates > slack) & present
        return jnp.where(feasible, -params, changes), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


def restarted_ascent(rate: Array | float) -> optax.GradientTransformationExtraArgs:
    """Ascent whose multipliers restart at 0 once their constraints hold."""
    return restart_when_feasible(ascent(rate))


def check_ascends(dual_tx: optax.GradientTransformationExtraArgs, num: int) -> None:
    """Raise if a violation lowers the multipliers.

    Raises:
      UserError: A violated constraint's multiplier would fall.
    """
    with jax.ensure_compile_time_eval():
        multipliers = jnp.zeros(num, jnp.result_type(float))
        present = jnp.ones(num, bool)
        change, _ = dual_tx.update(-jnp.ones(num), dual_tx.init(multipliers), multipliers, present=present)
        falls = False if isinstance(change, Tracer) else bool((jnp.asarray(change) < 0).any())
    if falls:
        raise UserError("the dual optimiser lowers the multiplier of a violated constraint; give it a positive rate")


def _check_not_negative(name: str, value: Any) -> None:
    if not isinstance(value, Tracer) and bool(np.any(np.asarray(value) < 0)):
        raise UserError(f"{name}: {value} is negative; multipliers of violated constraints must rise")

"""The training step of the Lagrangian: one forward and one backward pass, for any number of groups."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.batches import with_weights
from jaxprune.data import IndexedBatch
from jaxprune.errors import UserError, unknown
from jaxprune.losses import weighted_mean
from jaxprune.mitigation.holding import dense_of, held_of
from jaxprune.mitigation.lagrangian import LagrangianState, multipliers_of, only_lagrangian_state
from jaxprune.mitigation.measuring import dense_logits_of, examine, recall, remember, statistics_of
from jaxprune.states import check_stats
from jaxprune.types import (
    Apply,
    Array,
    Batch,
    ExampleLoss,
    Logs,
    Network,
    Params,
    PyTree,
    Stats,
    Step,
    TrainState,
    as_network,
)

Extra = dict[str, Any]  # what the update takes by name
Choose = Callable[[Extra], Array]  # from what was measured to the weights [G] of the surrogates
Measure = Callable[[Params, Choose], tuple[Params, Extra, Any]]  # -> gradients, extra, anything else
# (logits [B, C], batch, what is held) -> [B]: what is minimised, in place of the plain loss
Objective = Callable[[Array, Batch, Mapping[str, Any]], Array]

SCHEMES = ("simultaneous", "alternating", "extragradient")


def saddle_update(
    measure: Measure, tx: optax.GradientTransformationExtraArgs, params: Params, opt_state: PyTree, scheme: str
) -> tuple[Params, PyTree, Any]:
    """One step towards the saddle point of a Lagrangian.

    - simultaneous: gradient at the old multipliers, violation at the old parameters.
    - alternating: the multipliers step first, by the violation at the old parameters, and the gradient is taken at the
      new ones; no dearer, for it needs the same forward pass.
    - extragradient (Korpelevich 1976): a trial step of both, whose gradient and violation are then applied to the old
      point; twice the cost.

    Args:
      measure: `(params, choose) -> (gradients, extra, rest)`. It measures the violation, calls `choose(extra)` for the
        weights of the surrogates, and takes the gradient with them; `extra` holds `violation` and what else the update
        takes by name.
      tx: A transformation that holds one `lagrangian(...)`.
      params: The parameters.
      opt_state: Its state.
      scheme: One of `SCHEMES`.

    Returns:
      The new parameters, the new state, and the rest that the last call of `measure` gave.
    """

    def at_old(extra: Extra) -> Array:
        return only_lagrangian_state(opt_state).weights(extra["violation"])

    def at_new(extra: Extra) -> Array:
        # An update of which the multipliers alone are used: the compiler leaves the rest out.
        _, ahead = tx.update(jax.tree.map(jnp.zeros_like, params), opt_state, params, **extra)
        return only_lagrangian_state(ahead).weights(extra["violation"])

    gradients, extra, rest = measure(params, at_new if scheme == "alternating" else at_old)
    if scheme == "extragradient":
        updates, ahead = tx.update(gradients, opt_state, params, **extra)
        trial = optax.apply_updates(params, updates)
        gradients, extra, rest = measure(trial, lambda extra: only_lagrangian_state(ahead).weights(extra["violation"]))
    updates, opt_state = tx.update(gradients, opt_state, params, **extra)
    return optax.apply_updates(params, updates), opt_state, rest


def make_lagrangian_step(
    network: Network | Apply,
    loss: ExampleLoss,
    tx: optax.GradientTransformation,
    *,
    scheme: str = "simultaneous",
    objective: Objective | None = None,
) -> Step:
    """A training step on J + Σ_a w_a s_a(J_1, ..., J_G), with the multipliers and the constraint in the tx's state.

    Group figures are means over the members of each group in the batch; a group that is absent from it contributes
    nothing to the gradient. The violation is measured

    - on `batch.held_out`, where the data has it (`data.indexed_batch(..., held_out=...)`): examples that the parameters
      never see, evaluated without gradient and with statistics frozen, which costs a forward pass of its own. It is
      the two-data-set training of Cotter et al. 2019;
    - else on the batch itself;

    and, where `lagrangian` was given a memory, on the last examples of each group, those just seen included. Violations
    of groups that it cannot be measured for are 0, and their multipliers stand still.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss, `(logits [B, C], y [B]) -> [B]`, that the constraint speaks of.
      tx: A transformation that holds one `lagrangian(...)`: itself, or chained with others, such as
        `hold({"dense": dense_reference(...)})` for the constraints that compare with the dense network.
      scheme: One of `SCHEMES`; see `saddle_update`.
      objective: What is minimised, per example, in place of `loss`: see `mitigation.objectives`.

    Returns:
      The step; it logs `loss` [], `violation` [G], the `weights` [G] of the surrogates in the gradient, and the
      `multipliers` [G] after the step. The two differ by the update, and by `penalty` times the violation.

    Raises:
      UserError: The scheme is not known; when it is called, the constraint needs the dense network and none is held.
    """
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    network, extended = as_network(network), optax.with_extra_args_support(tx)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Logs]:
        batch, multipliers = with_weights(batch), only_lagrangian_state(state.opt_state)
        _check_dense(multipliers, state.opt_state)

        def measure(params: Params, choose: Choose) -> tuple[Params, Extra, tuple[Stats, Logs]]:
            def value(params: Params) -> tuple[Array, tuple[Stats, Logs, Extra]]:
                logits, stats = network.train(params, state.stats, batch)
                check_stats(state.stats, stats)
                overall, surrogate, extra = _measure(network, loss, objective, state, batch, params, logits)
                weights = jax.lax.stop_gradient(choose(extra))
                logs = {"loss": overall, "violation": extra["violation"], "weights": weights}
                return overall + jnp.sum(weights * surrogate), (stats, logs, extra)

            gradients, (stats, logs, extra) = jax.grad(value, has_aux=True)(params)
            return gradients, extra, (stats, logs)

        params, opt_state, (stats, logs) = saddle_update(measure, extended, state.params, state.opt_state, scheme)
        return TrainState(state.step + 1, params, stats, opt_state), logs | {"multipliers": multipliers_of(opt_state)}

    return step


def _measure(
    network: Network,
    loss: ExampleLoss,
    objective: Objective | None,
    state: TrainState,
    batch: Batch,
    params: Params,
    logits: Array,
) -> tuple[Array, Array, Extra]:
    """What is minimised [], the surrogates [G], and what the update takes by name."""
    held = only_lagrangian_state(state.opt_state)
    constraint, dense = held.constraint, dense_of(state.opt_state)
    of_batch, of_held_out = dense_logits_of(batch, dense)
    examples = examine(logits, batch, loss, dense, of_batch)
    statistics = statistics_of(examples, constraint.num_groups)
    if objective is None:
        value = statistics.overall_loss
    else:
        value = weighted_mean(objective(logits, batch, held_of(state.opt_state)), batch.weight)
    surrogate = constraint.surrogate(statistics, held.tolerance)
    beside = batch.held_out if isinstance(batch, IndexedBatch) else None
    if beside is not None:
        outputs, _ = network.apply(jax.lax.stop_gradient(params), state.stats, beside.x, False)
        examples = examine(outputs, beside, loss, dense, of_held_out)
    examples, extra = jax.lax.stop_gradient(examples), {}
    if held.memory is not None:
        extra["memory"] = remember(held.memory, examples)
        measured = recall(extra["memory"])
    else:
        measured = statistics_of(examples, constraint.num_groups) if beside is not None else statistics
    violation = jax.lax.stop_gradient(constraint.violation(measured, held.tolerance))
    return value, surrogate, extra | {"violation": violation, "present": measured.count > 0}


def _check_dense(held: LagrangianState, opt_state: PyTree) -> None:
    if held.constraint.needs_dense and dense_of(opt_state) is None:
        raise UserError(
            "the constraint compares with the dense network, which the optimiser state does not hold; chain it with "
            'hold({"dense": dense_reference(...)})'
        )

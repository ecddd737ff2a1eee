"""The training step of the Lagrangian."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxprune.batches import with_weights
from jaxprune.data import IndexedBatch
from jaxprune.errors import UserError
from jaxprune.losses import weighted_mean
from jaxprune.mitigation.buffer import recall, store
from jaxprune.mitigation.carried_values import carried, dense_of
from jaxprune.mitigation.dense import dense_logits_of
from jaxprune.mitigation.multipliers import LagrangianState, multipliers_of, only_lagrangian_state
from jaxprune.mitigation.schemes import Choose, Extra, Scheme, simultaneous
from jaxprune.mitigation.statistics import examine, statistics_of
from jaxprune.networks import Network, as_network
from jaxprune.states import check_stats
from jaxprune.types import Apply, Array, Batch, ExampleLoss, Logs, Params, PyTree, Stats, Step, TrainState

# (logits [B, C], batch, carried values) -> [B]: minimised in place of the plain loss
ExampleObjective = Callable[[Array, Batch, Mapping[str, Any]], Array]


def make_lagrangian_step(
    network: Network | Apply,
    loss: ExampleLoss,
    tx: optax.GradientTransformation,
    *,
    scheme: Scheme = simultaneous,
    objective: ExampleObjective | None = None,
) -> Step:
    """A training step on J + Σ_a w_a s_a(J_1, ..., J_G).

    Multipliers and constraint are in the state of `tx`. One forward and one backward pass serve any number of groups.

    Group figures are means over the members of each group in the batch; a group that is absent from it contributes
    nothing to the gradient. The violation is measured

    - on `batch.held_out`, where the data has it (`data.indexed_batch(..., held_out=...)`): examples that the parameters
      never see, evaluated without gradient and with statistics frozen, which costs a forward pass of its own. It is
      the two-data-set training of Cotter et al. 2019;
    - else on the batch itself;

    and, where `lagrangian` has a buffer, on the last examples of each group, those just seen included. Violations
    of groups that it cannot be measured for are 0, and their multipliers stand still.

    Args:
      network: A `Network`, or a function `apply(params, x) -> logits [B, C]`.
      loss: Per-example loss, `(logits [B, C], y [B]) -> [B]`, which the constraint is on.
      tx: A transformation that holds one `lagrangian(...)`: itself, or chained with others, such as
        `carry({"dense": dense_reference(...)})` for the constraints that compare with the dense network.
      scheme: `simultaneous`, `alternating` or `extragradient`.
      objective: Minimised in place of `loss`, per example; see `Objective`.

    Returns:
      The step; it logs `loss` [], `violation` [G], the `weights` [G] of the surrogates in the gradient, and the
      `multipliers` [G] after the step. The two differ by the update, and by `penalty` times the violation.

    Raises:
      UserError: When called, if the constraint needs the dense network and none is carried.
    """
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

        params, opt_state, (stats, logs) = scheme(measure, extended, state.params, state.opt_state)
        return TrainState(state.step + 1, params, stats, opt_state), logs | {"multipliers": multipliers_of(opt_state)}

    return step


def _measure(
    network: Network,
    loss: ExampleLoss,
    objective: ExampleObjective | None,
    state: TrainState,
    batch: Batch,
    params: Params,
    logits: Array,
) -> tuple[Array, Array, Extra]:
    """Compute the objective, the surrogates [G] and arguments of the update."""
    multipliers = only_lagrangian_state(state.opt_state)
    constraint, dense = multipliers.constraint, dense_of(state.opt_state)
    of_batch, of_held_out = dense_logits_of(batch, dense)
    examples = examine(logits, batch, loss, dense, of_batch)
    statistics = statistics_of(examples, constraint.num_groups)
    if objective is None:
        value = statistics.overall_loss
    else:
        value = weighted_mean(objective(logits, batch, carried(state.opt_state)), batch.weight)
    surrogate = constraint.surrogate(statistics, multipliers.tolerance)
    beside = batch.held_out if isinstance(batch, IndexedBatch) else None
    if beside is not None:
        outputs, _ = network.apply(jax.lax.stop_gradient(params), state.stats, beside.x, False)
        examples = examine(outputs, beside, loss, dense, of_held_out)
    examples, extra = jax.lax.stop_gradient(examples), {}
    if multipliers.buffer is not None:
        extra["buffer"] = store(multipliers.buffer, examples)
        measured = recall(extra["buffer"])
    else:
        measured = statistics_of(examples, constraint.num_groups) if beside is not None else statistics
    violation = jax.lax.stop_gradient(constraint.violation(measured, multipliers.tolerance))
    return value, surrogate, extra | {"violation": violation, "present": measured.count > 0}


def _check_dense(state: LagrangianState, opt_state: PyTree) -> None:
    if state.constraint.needs_dense and dense_of(opt_state) is None:
        raise UserError(
            "the constraint compares with the dense network, which the optimiser state does not carry; chain it with "
            'carry({"dense": dense_reference(...)})'
        )

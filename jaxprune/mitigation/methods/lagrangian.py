"""Every way of training a pruned network that is compared, by name: the constraints and their rivals."""

from collections.abc import Mapping
from functools import cache

from jaxprune.mitigation import constraints, objectives
from jaxprune.mitigation.constraints import CONSTRAINTS, Constraint
from jaxprune.mitigation.duals import DUALS
from jaxprune.mitigation.methods import Method

_RATES = (0.001, 0.01, 0.1)
USUAL: Mapping[str, tuple[float, ...]] = {"dual_rate": _RATES, "tolerance": (0.0, 0.01)}  # candidates


def _equal_loss(num_groups: int) -> Constraint:
    return constraints.equal_loss(num_groups)


def _equal_loss_signed(num_groups: int) -> Constraint:
    return constraints.equal_loss(num_groups, absolute=False)


_PENALTY = 1.0  # a group that is 1 nat worse than the whole counts once more, whatever its multiplier

_DUAL = {"dual_rate": _RATES}
_GAP = USUAL
_IMITATE = {"share": (0.5, 1.0), "temperature": (2.0,)}
_IMITATE_DUAL = {"dual_rate": _RATES, "share": (1.0,), "temperature": (2.0,)}

METHODS: Mapping[str, Method] = {
    "naive": Method("Naive fine-tuning", "The plain loss."),
    "naive_best": Method(
        "Naive, best epoch", "The plain loss; the epoch of the best validation accuracy is kept.", by_validation=True
    ),
    "equal_loss": Method(
        "Equal loss", "Program (8) of the paper, |J_a - J| = 0 on the batch.", _equal_loss,
        scheme="simultaneous", tuned=_DUAL,
    ),
    "equal_loss_buffer": Method(
        "Equal loss, buffer", "The same, the violation measured on a buffer of each group's last examples.",
        _equal_loss, scheme="simultaneous", memory=True, tuned=_DUAL,
    ),
    "equal_loss_signed": Method(
        "Equal loss, signed", "J_a - J = 0, so that multipliers fall again.", _equal_loss_signed, tuned=_DUAL
    ),
    "equal_loss_nupi": Method(
        "Equal loss, νPI", "Signed; multipliers under νPI control, whose proportional term damps their oscillation.",
        _equal_loss_signed, dual=DUALS["nu_pi"], tuned=_DUAL,
    ),
    "equal_loss_augmented": Method(
        "Equal loss, augmented", "Signed, with a quadratic penalty beside the multipliers (augmented Lagrangian).",
        _equal_loss_signed, penalty=_PENALTY, tuned=_DUAL,
    ),
    "loss_gap": Method(
        "Loss gap", "J_a - J <= ε on the batch: groups that do better than most are left alone.",
        constraints.loss_gap, tuned=_GAP,
    ),
    "equal_loss_held_out": Method(
        "Equal loss, held out", "Signed, measured in a buffer of people that the parameters never see.",
        _equal_loss_signed, memory=True, held_out=True, tuned=_DUAL,
    ),
    "equal_harm": Method(
        "Equal harm", "R(a) = R: the loss may rise, but alike for all groups.",
        constraints.equal_excessive_loss, tuned=_DUAL,
    ),
    "ceag": Method(
        "CEAG", "ψ_a <= ε, measured on accuracy in a buffer, with a loss as surrogate.",
        constraints.excess_accuracy_gap, memory=True, tuned=_GAP,
    ),
    "ceag_held_out": Method(
        "CEAG, held out", "The same, measured on people that the parameters never see.",
        constraints.excess_accuracy_gap, memory=True, held_out=True, tuned=_GAP,
    ),
    "group_dro": Method(
        "Group DRO", "The groups of the largest losses count more and more.", group_dro=True,
        tuned={"rate": (0.001, 0.01, 0.1)},
    ),
    "reweighted": Method(
        "Reweighted", "Groups weigh in by their size to a power below 0.", objective=objectives.reweighted,
        tuned={"power": (0.25, 0.5, 1.0)},
    ),
    "balanced": Method("Balanced batches", "Every batch draws all groups equally often.", balanced=True),
    "performance_weighted": Method(
        "Performance-weighted", "What the dense network finds hard counts more; needs no groups.",
        objective=objectives.performance_weighted, tuned={"floor": (0.25, 0.75), "sharpness": (5.0,)},
    ),
    "fairgrape": Method("FairGRAPE", "Masks that keep each group's share of the importance.", masks="fairgrape"),
    "fairprune": Method("FairPrune", "Masks that spare the group of the largest loss.", masks="fairprune"),
    "curvature": Method(
        "Curvature masks", "Masks by the curvature over everybody: the control for those that know of groups.",
        masks="curvature",
    ),
    "spared": Method(
        "Masks that spare all", "A weight goes only if it matters little to every group.", masks="spare_all"
    ),
    "spared_distilled": Method(
        "Spared, distilled", "Masks that spare all, then imitation of the dense network.",
        objective=objectives.distillation, masks="spare_all", tuned=_IMITATE,
    ),
    "spared_equal_loss": Method(
        "Spared, equal loss", "Masks that spare all, then equal loss, signed.", _equal_loss_signed,
        masks="spare_all", tuned=_DUAL,
    ),
    "spared_adjusted": Method(
        "Spared, adjusted", "Masks that spare all, then logits shifted by the labels' shares while training.",
        objective=objectives.logit_adjusted, masks="spare_all", tuned={"strength": (0.5, 1.0)},
    ),
    "distilled": Method(
        "Distilled", "The pruned network imitates the dense one.", objective=objectives.distillation, tuned=_IMITATE
    ),
    "distilled_ceag": Method(
        "Distilled, equal drop", "Imitation, with ψ_a = 0 measured on people that the parameters never see.",
        constraints.equal_accuracy_drop, objective=objectives.distillation, memory=True, held_out=True,
        tuned=_IMITATE_DUAL,
    ),
    "logit_adjusted": Method(
        "Logit adjustment", "Logits are shifted by the labels' shares while training.",
        objective=objectives.logit_adjusted, tuned={"strength": (0.5, 1.0)},
    ),
    "full_program": Method(
        "Full program", "Program (7) of the paper: equal gradient norms and largest eigenvalues; slow.",
        full_program=True, scheme="simultaneous", tuned={"dual_rate": (0.0001, 0.001)},
    ),
}  # fmt: skip


CONFIGURED = "configured"  # the name of the method that `configured_method` makes


@cache  # equal settings give one method, whose functions are the same objects: a step is then not compiled again
def configured_method(
    *,
    constraint: str,
    dual: str = "ascent",
    dual_rate: float = 1e-3,
    scheme: str = "simultaneous",
    penalty: float = 0.0,
    memory: int = 0,
    tolerance: float = 0.0,
) -> Method:
    """The Lagrangian method that is put together from named parts, as the settings of a run name them.

    Args:
      constraint: One of `CONSTRAINTS`, those that compare with the dense network too.
      dual: One of `DUALS`.
      dual_rate: The only candidate for the step size of the multipliers.
      scheme: One of `SCHEMES`.
      penalty: The coefficient of the augmented Lagrangian; 0 is the plain one.
      memory: Examples of each group that violations are measured on; 0 takes the batch.
      tolerance: The only candidate for what is let through, where the constraint lets anything through.

    Returns:
      The method.
    """
    make = CONSTRAINTS[constraint]
    lets_through = make(1, 0.0) != make(1, 1.0)
    parts = [constraint, dual, *([f"penalty {penalty:g}"] if penalty else []), *(["buffer"] if memory else [])]
    return Method(
        f"As configured: {', '.join(parts)}",
        f"What the settings of the run say: the constraint {constraint}, the dual update {dual}, the {scheme} scheme, "
        f"penalty {penalty:g}, measured on {f'the last {memory} examples of each group' if memory else 'the batch'}.",
        lambda num_groups: make(num_groups, 0.0),
        dual=DUALS[dual],
        scheme=scheme,
        penalty=penalty,
        memory=memory > 0,
        remembered=memory,
        tuned={"dual_rate": (dual_rate,)} | ({"tolerance": (tolerance,)} if lets_through else {}),
    )

"""Methods that replace the run's pruning criterion."""

from jaxprune.mitigation.methods.distillation import DISTILLATION, IMITATION
from jaxprune.mitigation.methods.fine_tuning import FineTuning
from jaxprune.mitigation.methods.lagrangian import DUAL_RATES, SIGNED
from jaxprune.mitigation.methods.method import Method
from jaxprune.mitigation.methods.reweighting import LOGIT_ADJUSTMENT, STRENGTHS

FAIRGRAPE = Method(
    "FairGRAPE", "Masks that keep each group's share of the importance.", FineTuning(), criterion="fairgrape"
)
FAIRPRUNE = Method("FairPrune", "Masks that spare the group of the largest loss.", FineTuning(), criterion="fairprune")
CURVATURE = Method(
    "Curvature masks",
    "Masks by the curvature over everybody: the control for those that know of groups.",
    FineTuning(),
    criterion="curvature",
)
SPARED = Method(
    "Masks that spare all",
    "A weight goes only if it matters little to every group.",
    FineTuning(),
    criterion="worst_group_curvature",
)
SPARED_DISTILLED = Method(
    "Spared, distilled",
    "Masks that spare all, then imitation of the dense network.",
    FineTuning(DISTILLATION),
    criterion="worst_group_curvature",
    candidates=IMITATION,
)
SPARED_EQUAL_LOSS = Method(
    "Spared, equal loss",
    "Masks that spare all, then equal loss, signed.",
    SIGNED,
    criterion="worst_group_curvature",
    candidates=DUAL_RATES,
)
SPARED_ADJUSTED = Method(
    "Spared, adjusted",
    "Masks that spare all, then logits shifted by the labels' shares while training.",
    FineTuning(LOGIT_ADJUSTMENT),
    criterion="worst_group_curvature",
    candidates=STRENGTHS,
)

"""The networks that candidates for hyperparameters are judged against."""

from jaxprune import config
from jaxprune.pipeline.audit import baseline_of
from jaxprune.pipeline.plan import plan_comparison, plan_run


def baseline(plan, name: str) -> str | None:
    candidate = next(entry.network for entry in plan.entries if entry.network.name == name)
    network = baseline_of(plan.entries, candidate)
    return None if network is None else network.key


def settings(**changes):
    return config.load(None, {"prune.sparsities": (0.5, 0.9)} | {k.replace("__", "."): v for k, v in changes.items()})


def test_candidates_are_judged_against_plain_retraining_of_the_same_masks() -> None:
    criteria, methods = ("magnitude", "random"), ("naive", "equal_loss")
    plan = plan_comparison(settings(prune__criteria=criteria, retrain__methods=methods))
    assert baseline(plan, "random+equal_loss") == "random+naive 0.5"
    assert baseline(plan, "magnitude+equal_loss") == "magnitude+naive 0.5"


def test_masks_without_plain_retraining_are_judged_against_the_first() -> None:
    plan = plan_comparison(settings(retrain__methods=("equal_loss", "spared_equal_loss")))
    assert baseline(plan, "spared_equal_loss") == baseline(plan, "equal_loss") == "naive 0.5"
    assert baseline(plan_run(settings(retrain__methods=("equal_loss",))), "equal_loss") is None

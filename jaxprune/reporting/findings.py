"""What the numbers say, in sentences computed from them."""

from typing import NamedTuple

import numpy as np

from jaxprune.auditing import MINIMUM_SEEDS, Interval, mean_interval
from jaxprune.reporting.results import MODEL_NAMES, Results
from jaxprune.reporting.tables import empty_layers, overall_figures

_HEADLINE_SPARSITY = 0.9
_NORMAL = 1.96  # 95 % of a normal distribution


class Headline(NamedTuple):
    """Where the answer is read off: a split and a sparsity."""

    split: str
    sparsity: float


def headline(results: Results) -> Headline:
    """The test split if it was audited, and the sparsity nearest to 90 %."""
    split = "test" if "test" in results.splits else results.splits[0]
    return Headline(split, min(results.sparsities, key=lambda s: abs(s - _HEADLINE_SPARSITY)))


def interval(results: Results, values: np.ndarray, axis: int = 0) -> Interval:
    """Mean over seeds with the interval that the settings ask for."""
    return mean_interval(values, axis, results.settings["audit"]["confidence"])


def answer(results: Results) -> str:
    """The answer in one paragraph."""
    return " ".join([who_is_hurt(results), after_retraining(results), what_helps(results)]).strip()


def who_is_hurt(results: Results) -> str:
    """Whom pruning without retraining hurts, and how sure that is."""
    split, sparsity = headline(results)
    audit = results.audit("pruned", sparsity, split)
    harm, overall = audit.impact.excessive_loss, audit.impact.overall_excessive_loss
    mean = interval(results, harm).mean
    worst, least = int(np.nanargmax(mean)), int(np.nanargmin(mean))
    name, other = results.group_names[worst], results.group_names[least]
    extra = interval(results, harm[:, worst] - overall)
    chance = _NORMAL * float(np.nanmean(audit.sampling.excessive_loss[:, worst]))
    people = results.group_sizes[split][worst]
    seeds = len(results.seeds)
    times = int(np.sum(np.nanargmax(harm, 1) == worst))
    often = f"the group hurt most in {times} of {seeds} seed{_s(seeds)}"
    text = (
        f"Pruning {sparsity:.0%} of the weights without retraining raises the loss on the {split} split by "
        f"{_with_interval(results, overall)} nats: most for {name} ({mean[worst]:+.3f}, {often}), least for {other} "
        f"({mean[least]:+.3f}). "
    )
    if seeds < MINIMUM_SEEDS:
        few = "One seed gives" if seeds == 1 else f"{seeds} seeds give"
        return text + f"{few} no interval, so nothing can be said of how sure this is."
    sure = f"{_ends(extra)} over seeds; ±{chance:.3f} for its {people:,} examples"
    text += f"{name} exceeds the average by {extra.mean:.3f} ({sure}), so the disparate impact is "
    if extra.low > 0 and extra.mean > chance:
        return text + "clear here."
    doubt = "the interval over seeds includes zero" if extra.low <= 0 else "so few examples could do that by chance"
    return text + f"weak here: {doubt}."


def after_retraining(results: Results) -> str:
    """What plain retraining leaves of the harm."""
    split, sparsity = headline(results)
    if "none" not in results.models:
        return ""
    before = overall_figures(results, "pruned", sparsity, split)["excessive_loss_spread"]
    audit = results.audit("none", sparsity, split)
    after = overall_figures(results, "none", sparsity, split)["excessive_loss_spread"]
    mean = interval(results, audit.impact.excessive_loss).mean
    epochs = results.settings["retrain"]["epochs"]
    return (
        f"Retraining for {epochs} epoch{_s(epochs)} brings the rise to "
        f"{_with_interval(results, audit.impact.overall_excessive_loss, sign=True)} and its spread over the groups (ξ) "
        f"from {np.mean(before):.3f} to {_with_interval(results, after)}; "
        f"{results.group_names[int(np.nanargmax(mean))]} is then hurt most ({np.nanmax(mean):+.3f})."
    )


def what_helps(results: Results) -> str:
    """Whether a constrained model does better than no mitigation, and at what cost."""
    split, sparsity = headline(results)
    fair = [model for model in results.models if model.startswith("fair")]
    if "none" not in results.models or not fair:
        return ""
    figures = {model: overall_figures(results, model, sparsity, split) for model in ("none", *fair)}
    measures = {
        "loss_gap": "loss gap (which the constraint asks to be zero)",
        "accuracy_spread": "accuracy spread",
        "excessive_loss_spread": "spread ξ",
    }
    if (seeds := len(results.seeds)) < MINIMUM_SEEDS:
        few = "one seed" if seeds == 1 else f"{seeds} seeds"
        return f"With {few}, the constrained models cannot be told from no mitigation: see the table."
    helped: dict[str, list[str]] = {}
    failed = []
    for measure, words in measures.items():
        means = {model: float(np.mean(figures[model][measure])) for model in figures}
        best = min(fair, key=means.__getitem__)
        change = interval(results, figures[best][measure] - figures["none"][measure])
        if change.high < 0:
            narrowed = f"the {words} from {means['none']:.3f} to {means[best]:.3f} (by {_ends(change, negate=True)})"
            helped.setdefault(best, []).append(narrowed)
        else:
            failed.append(f"the {words} ({means['none']:.3f} before, {means[best]:.3f} at best)")
    sentences = []
    for model, narrowed in helped.items():
        cost = interval(results, 100 * (figures[model]["accuracy"] - figures["none"]["accuracy"]))
        sentences.append(
            f"The constrained model “{MODEL_NAMES[model].lower()}” narrows {_list(narrowed)}; accuracy changes by "
            f"{cost.mean:+.2f} points ({cost.low:+.2f} to {cost.high:+.2f})."
        )
    if failed:
        sentences.append(f"No constrained model clearly narrows {_list(failed, 'or')}.")
    return " ".join(sentences)


def caveats(results: Results) -> list[str]:
    """What a careful reader must know of the audit; of the theory, `theory_findings.caveats` tells."""
    notes = [warning[0].upper() + warning[1:] + "." for warning in results.warnings]
    for model, sparsity in results.layers:
        for path in empty_layers(results, model, sparsity):
            notes.append(
                f"{MODEL_NAMES[model]} at {sparsity:.0%}: layer {path} was cut to nothing in some seed; the "
                "network then says the same of everyone, and equal treatment of the groups is void."
            )
    split = headline(results).split
    guess = results.majority[split]
    broken = [
        f"{MODEL_NAMES[m].lower()} at {s:.4g}"
        for m, s, at in results.metrics
        if at == split and np.mean(results.metrics[m, s, at].overall_accuracy) <= guess
    ]
    if broken:
        notes.append(
            f"These are no more accurate than always giving the commonest label ({guess:.1%}), so they are broken "
            f"networks, and harm there tells which answer they are stuck on: {', '.join(broken)}."
        )
    return notes


def _with_interval(results: Results, values: np.ndarray, sign: bool = False) -> str:
    found = interval(results, values)
    mean = f"{found.mean:+.3f}" if sign else f"{found.mean:.3f}"
    return mean if np.isnan(found.low) else f"{mean} ({_ends(found)})"


def _ends(found: Interval, negate: bool = False) -> str:
    low, high = (-found.high, -found.low) if negate else (found.low, found.high)
    return f"{low:.3f} to {high:.3f}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _list(parts: list[str], word: str = "and") -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {word} {parts[-1]}"

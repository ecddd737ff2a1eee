"""Why these groups: what the theory's numbers say of the harm, in sentences."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.numbers import count, fixed, percent
from jaxprune.quantities import few_seeds
from jaxprune.reporting.charts import draw_bars, keep_in_range, over_seeds, percent_axis
from jaxprune.reporting.group_charts import explain_marks, hatch
from jaxprune.reporting.group_display import ends_drawn, group_colours, groups_to_draw
from jaxprune.reporting.page import Figure, Paragraph, Section
from jaxprune.reporting.predictors import predictor_test, ranking_words
from jaxprune.reporting.roles import compressed, headline
from jaxprune.reporting.sections.bound import bound_figure, bound_table
from jaxprune.reporting.sections.caveats import caveats
from jaxprune.reporting.sections.dense_network import dense_table
from jaxprune.reporting.sections.predictions import correlation_table
from jaxprune.reporting.shown import drawn
from jaxprune.reporting.style import WIDTH
from jaxprune.reporting.theory_values import headline_index, shares, split_sizes, theory_of, unfinished_groups
from jaxprune.results import Results, TheoryResults

_THEOREM = (
    "Theorem 1: Tran, Fioretto, Kim and Naidu, “Pruning has a disparate impact on model accuracy”, NeurIPS 2022. It "
    "leaves a remainder of third order open, so the two terms can be exceeded when much is pruned."
)


def why(results: Results) -> Section:
    """What the theory says of the harm, with its figures and tables."""
    if results.theory is None:
        return Section("Why these groups?", (Paragraph(_THEOREM, "soft"),), anchor="theory")
    return Section(
        "Why these groups?",
        (
            *theory_sentences(results),
            _causes(results),
            dense_table(results),
            correlation_table(results),
            bound_figure(results),
            bound_table(results),
            Paragraph(_THEOREM, "soft"),
        ),
        anchor="theory",
    )


def theory_answer(results: Results) -> Section:
    """What the theory says of the harm, in sentences alone."""
    few = few_seeds(len(results.seeds))
    contents = (*theory_sentences(results), Paragraph(few, "soft") if few else None, caveats(results))
    return Section("The answer", contents, anchor="answer")


def theory_sentences(results: Results) -> list[str]:
    """What the theory says of the harm, one paragraph each."""
    theory, sentences = theory_of(results), []
    if most := results.settings.get("theory", {}).get("examples"):
        sentences.append(
            f"All of this is measured on {count(most)} examples of each group at most, chosen evenly over the labels, "
            f"the same ones for every seed; the {theory.split} split may have more."
        )
    return [*sentences, _prediction(results), _cover(theory), _miss(results)]


def _prediction(results: Results) -> str:
    """Whether any predictor ranks the groups better than chance, by loss and by accuracy."""
    theory, s = theory_of(results), headline_index(results)
    test = predictor_test(results, s)
    if not test.judged:
        reason = "with finite numbers " if len(results.group_names) >= 3 else ""
        return f"There are too few groups {reason}(fewer than three) for rank correlations."
    at = percent(headline(results).sparsity)
    sentence = f"At {at} on the {theory.split} split: {ranking_words(test, 'harm (R(a), by loss)')}"
    if theory.split not in results.splits:
        return sentence
    impact = compressed(results, float(theory.sparsities[s]), theory.split).impact
    by_accuracy = predictor_test(results, s, np.asarray(impact.accuracy_drop))
    return f"{sentence} {ranking_words(by_accuracy, 'the drop in accuracy')}" if by_accuracy.judged else sentence


def _cover(theory: TheoryResults) -> str:
    """In how many cases the bound covers the harm, how loose it is, and why it fails where it does."""
    known = np.isfinite(theory.observed) & np.isfinite(theory.bound)
    if not known.any():
        return "The bound of Theorem 1 cannot be compared with the harm: in no case are both finite."
    holds = known & (theory.observed <= theory.bound)
    hurt = known & (theory.observed > 0)
    loose = ""
    if hurt.any():
        median = np.median(theory.bound[hurt] / theory.observed[hurt])
        loose = f", and is {count(median)} times as large in the median case where pruning hurt"
    return (
        f"The bound of Theorem 1 without its remainder covers the observed excessive loss in {int(holds.sum())} of "
        f"{int(known.sum())} cases (sparsity, seed, group){loose}.{_reason(theory, known & ~holds)}"
    )


def _reason(theory: TheoryResults, fails: np.ndarray) -> str:
    """Why the bound fails in these cases, [S, R, G]: only what was measured there is named."""
    if not fails.any():
        return ""
    unfinished = fails & (theory.converged != 1)
    remainder = theory.observed - theory.first_order - theory.second_order
    third = fails & ~unfinished & (remainder > 0)
    total = int(fails.sum())
    if third.sum() == total:
        return " Where it fails, the third-order remainder that the theorem leaves open is why."
    reasons = {
        "λ(H) has not converged, so the bound may be too small": unfinished,
        "the third-order remainder that the theorem leaves open is why": third,
        "the reason is unknown: λ(H) has converged and the remainder is not positive": fails & ~unfinished & ~third,
    }
    known = [f"in {int(cases.sum())} {words}" for words, cases in reasons.items() if cases.any()]
    return f" Of the {total} where it fails, {'; '.join(known)}."


def _miss(results: Results) -> str:
    """How far the second-order value is from the harm at the headline's sparsity."""
    theory, s = theory_of(results), headline_index(results)
    error = np.abs(theory.first_order + theory.second_order - theory.observed)[s]
    error = error[np.isfinite(error)]
    at = percent(float(theory.sparsities[s]))
    if not error.size:
        return f"The second-order value gᵀΔ + ½ΔᵀHΔ, or the harm, is finite in no case at {at}."
    return (
        f"At {at}, the exact second-order value gᵀΔ + ½ΔᵀHΔ misses the observed harm by {fixed(np.median(error), 3)} "
        "nats (median over seeds and groups): it is an explanation only where that is small."
    )


def _causes(results: Results) -> Figure:
    seeds = "" if len(results.seeds) == 1 else ", small points the seeds"
    if not few_seeds(len(results.seeds)):
        seeds = ", lines their intervals"
    return Figure(
        "causes",
        partial(_draw, drawn(results)),
        "What the dense network tells of each group, beside the harm that pruning then did. Each panel sums to 100 %, "
        f"as in the figures of the paper; bars are means over seeds{seeds}.{ends_drawn(results)}",
        "Share of examples, gradient norm, top eigenvalue, closeness to the boundary and harm of each group",
    )


def _draw(results: Results) -> Drawing:
    theory = theory_of(results)
    columns = {
        "share of examples": split_sizes(results),
        "gradient norm ‖g‖": theory.gradient_norm,
        "top eigenvalue λ(H)": theory.eigenvalue,
        "closeness 1 − ‖p‖²": theory.closeness,
        f"harm R at {percent(headline(results).sparsity)}": theory.observed[headline_index(results)],
    }
    groups, colours = groups_to_draw(results), group_colours(results)
    rows = np.arange(len(groups))
    figure = Drawing((WIDTH, 1.2 + 0.34 * len(rows)))
    panels = figure.subplots(1, len(columns), sharey=True)
    for axes, (title, values) in zip(panels, columns.items(), strict=True):
        quantity = "share" if np.all(values[np.isfinite(values)] >= 0) else "signed_share"
        share = over_seeds(results, shares(values), quantity).at(groups)
        axes.barh(rows, share.mean, color=[colours[g] for g in groups], height=0.68)
        if "λ" in title:
            hatch(axes, unfinished_groups(results)[groups])
        if title != "share of examples":
            draw_bars(axes, "x", rows, share, "#222222", lw=1.1)
        keep_in_range(axes, "x", quantity)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="y", visible=False)
        percent_axis(axes.xaxis, 3)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(rows, [results.group_names[g] for g in groups])
    panels[0].invert_yaxis()
    panels[len(panels) // 2].set_xlabel(f"share of the sum over groups, {theory.split} split", color="#444444")
    explain_marks(figure, unfinished_groups(results)[groups], bars=True)
    return figure

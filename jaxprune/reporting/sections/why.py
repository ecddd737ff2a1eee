"""Why these groups: explanations from the theory's numbers."""

from functools import partial

import numpy as np
from matplotlib.figure import Figure as Drawing

from jaxprune.components import ONE_SHOT
from jaxprune.numbers import count, fixed, percent
from jaxprune.quantities import few_seeds
from jaxprune.reporting.group_charts import measure_bars
from jaxprune.reporting.group_display import ends_drawn
from jaxprune.reporting.page import Figure, Paragraph, Section
from jaxprune.reporting.predictors import predictor_test, ranking_words
from jaxprune.reporting.printable_names import drawn
from jaxprune.reporting.roles import compressed, headline
from jaxprune.reporting.sections import caveats
from jaxprune.reporting.sections.bound import bound_figure, bound_table
from jaxprune.reporting.sections.dense_network import dense_table
from jaxprune.reporting.sections.predictions import correlation_table
from jaxprune.reporting.theory_values import headline_index, shares, split_sizes, theory_of
from jaxprune.results import Results, TheoryResults

_THEOREM = (
    "Theorem 1: Tran, Fioretto, Kim and Naidu, “Pruning has a disparate impact on model accuracy”, NeurIPS 2022. It "
    "does not bound the third-order remainder, so the harm can exceed the two terms when much is pruned."
)


def section(results: Results) -> Section:
    """The theory's explanation of the harm, with figures and tables."""
    if results.theory is None:
        return Section("Why these groups?", (_not_measured(results), Paragraph(_THEOREM, "soft")), anchor="theory")
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


def _not_measured(results: Results) -> str | None:
    """Why a schedule leaves the theory out; None for another reason."""
    schedule = results.settings["prune"]["schedule"]
    if schedule == ONE_SHOT:
        return None
    return (
        f"The theory is about dense networks that are pruned at once, and prune.schedule is {schedule}: it was not "
        "measured."
    )


def theory_answer(results: Results) -> Section:
    """The theory's explanation of the harm in sentences."""
    few = few_seeds(len(results.seeds))
    contents = (*theory_sentences(results), Paragraph(few, "soft") if few else None, caveats.section(results))
    return Section("The answer", contents, anchor="answer")


def theory_sentences(results: Results) -> list[str]:
    """The theory's explanation of the harm, one paragraph each."""
    theory, sentences = theory_of(results), []
    if most := results.settings.get("theory", {}).get("examples"):
        sentences.append(
            f"All of this is measured on {count(most)} examples of each group at most, chosen evenly over the labels, "
            f"the same ones for every seed; the {theory.split} split may have more."
        )
    return [*sentences, _prediction(results), _cover(theory), _miss(results)]


def _prediction(results: Results) -> str:
    """Sentences on predictors that rank the groups beyond chance."""
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
    """Sentences on how often and how tightly the bound holds."""
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
    """Measured reasons why the bound fails in cases [S, R, G]."""
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
    """The error of the second-order value at the headline's sparsity."""
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
        "Measures of each group at the dense network, beside the harm that pruning then did. Each panel sums to 100 %, "
        f"as in the figures of the paper; bars are means over seeds{seeds}.{ends_drawn(results)}",
        "Share of examples, gradient norm, top eigenvalue, closeness to the boundary and harm of each group",
    )


def _draw(results: Results) -> Drawing:
    theory = theory_of(results)
    harm = theory.observed[headline_index(results)]
    measures = {
        "share of examples": split_sizes(results),
        "gradient norm ‖g‖": theory.gradient_norm,
        "top eigenvalue λ(H)": theory.eigenvalue,
        "closeness 1 − ‖p‖²": theory.closeness,
        f"harm R at {percent(headline(results).sparsity)}": harm,
    }
    columns = {
        words: ("signed_share" if np.any(values < 0) else "share", shares(values)) for words, values in measures.items()
    }
    figure = measure_bars(results, columns, fontsize=9)
    figure.supxlabel(f"share of the sum over groups, {theory.split} split", fontsize=9.5, color="#444444")
    return figure

"""What pruning buys: size, FLOPs, memory and measured speed."""

from collections.abc import Sequence

import numpy as np

from jaxprune.costs import MINIMUM_ROUNDS, Median, median_interval
from jaxprune.numbers import NONE, fixed, listing, percent, plural, prefix_of, scaled, significant
from jaxprune.quantities import Cell, amount
from jaxprune.reporting.cost_points import (
    CostPoint,
    by_bytes,
    by_time,
    front,
    has_compact,
    is_timed,
    measured,
    none_works,
)
from jaxprune.reporting.page import Content, Folded, Paragraph, Section, Table, rules
from jaxprune.reporting.roles import headline
from jaxprune.reporting.sections import costs_front
from jaxprune.results import Network, Results
from jaxprune.results.costs import FormCosts, ProgramCosts

_Row = tuple[str | Cell, ...]
_SIZES = {"parameters": "", "non-zeros": "", "bytes": "B", "FLOPs (XLA)": ""}


def section(results: Results) -> Section | None:
    """What every compressed network costs beside the dense one."""
    if not measured(results):
        return None
    unretrained = [network for network in measured(results) if network.role == "compressed"]
    every: Content | None = None
    if 0 < len(unretrained) < len(measured(results)):
        every = Folded("Every network", (_table(results, measured(results)),))
    first, second = masks(results), compact(results)
    if has_compact(results):
        first, second = second, first
    return Section(
        "What it buys",
        (
            Paragraph(" ".join(first), "strong"),
            " ".join([*second, *storage(results)]),
            *_front(results),
            _table(results, unretrained or measured(results)),
            every,
            Paragraph(" ".join(_protocol(results)), "soft"),
        ),
        anchor="buys",
    )


def _front(results: Results) -> tuple[Content, ...]:
    """The front with its table, or a sentence where none works."""
    if none_works(results):
        return (
            "No compressed network still works, so there is no front of cost and accuracy: prune less, or retrain for "
            "longer.",
        )
    return costs_front.figure_of(results), _front_table(results)


def masks(results: Results) -> list[str]:
    """Say that masks bring no speed, as measured."""
    program = "They run the dense network’s program, which multiplies by the zeros."
    if not is_timed(results):
        return [f"Masks bring no speed. {program} The speed was not measured (costs.speed = false)."]
    many = _timed_masks(results) >= MINIMUM_ROUNDS
    times = [_time_words(_pooled(results, place), batch) for place, batch in enumerate(_batches(results))]
    which = "masked networks" if many else f"the network with {percent(_described(results).sparsity)} pruned"
    over = f"; medians over {plural(_timed_masks(results), 'network')}" if many else ""
    where = f"measured on {listing(_devices(results))}{over}"
    program = program if many else program.replace("They run", "It runs")
    return [f"Masks bring no speed: {which} took {listing(times)}, {where}. {program}"]


def compact(results: Results) -> list[str]:
    """Say what smaller arrays bring, as measured where there are any."""
    networks = [one for one in _alike(results) if "compact" in results.costs[one.key].forms]
    if not networks:
        return ["What brings speed is smaller arrays: whole channels that are removed (prune.structure = channels)."]
    forms = [results.costs[network.key].forms for network in networks]
    flops = [percent(_flops_left(network, results), 3) for network in networks]
    if not is_timed(results):
        parts = [f"with {percent(one.sparsity)} pruned, {share}" for one, share in zip(networks, flops, strict=True)]
        return [f"Compact networks have fewer FLOPs: {listing(parts)} of the dense network’s."]
    ratios = [each["compact"].large.ratio for each in forms]
    parts = [
        f"with {percent(one.sparsity)} pruned, {share} of the FLOPs {_took(ratio)}"
        for one, share, ratio in zip(networks, flops, ratios, strict=True)
    ]
    faster = sum(ratio.high < 1 for ratio in ratios)
    what = (
        "What brings speed is the removal of whole channels"
        if faster == len(ratios)
        else "The removal of whole channels brings speed at some sparsities"
        if faster
        else "The removal of whole channels brings no clear speed here"
    )
    sentences = [
        f"{what}, measured against the dense network for {_examples(_batches(results)[-1])}: {'; '.join(parts)}."
    ]
    if any(ratio.low > 1 for ratio in ratios):
        sentences.append(
            "Odd widths can be slower than wider ones: prune.structure_options = round_to=auto keeps those that this "
            "device computes fast."
        )
    return sentences


def _flops_left(network: Network, results: Results) -> float:
    """The share of FLOPs that a compact network has.

    It is that of “What was removed”, or XLA’s where that is not known.
    """
    if network.channels is not None:
        return 1 - network.channels["removed"]["flops"][0]
    forms = results.costs[network.key].forms
    return forms["compact"].flops / forms["dense"].flops


def _took(ratio: Median) -> str:
    interval = f" ({fixed(ratio.low, 2)} to {fixed(ratio.high, 2)})" if np.isfinite(ratio.low) else ""
    return f"took {fixed(ratio.value, 2)} times as long{interval}"


def storage(results: Results) -> list[str]:
    """Sentences on bytes: what masks, and removed channels, save."""
    network = _described(results)
    forms = results.costs[network.key].forms
    dense = forms["dense"].bytes
    sizes = [
        f"those of the {name} one {scaled(form.bytes, 'B')} ({percent(form.bytes / dense, 3)})"
        for name, form in forms.items()
        if name != "dense"
    ]
    return [
        f"In a file the arrays of the dense network take {scaled(dense, 'B')}; with {percent(network.sparsity)} "
        f"pruned, {listing(sizes)}.",
        "FLOPs and memory of a masked network are those of the dense one.",
    ]


def _pooled(results: Results, place: int) -> Median:
    """The relative time of masked networks, which all run the same program.

    It is the median over networks with its interval, or that of one network where they are few.
    """
    ratios = [one.ratio for one in _masked(results, place) if one.rounds]
    if len(ratios) < MINIMUM_ROUNDS:
        return results.costs[_described(results).key].forms["masked"].programs[place].ratio
    return median_interval([ratio.value for ratio in ratios])


def _masked(results: Results, place: int) -> list[ProgramCosts]:
    return [results.costs[network.key].forms["masked"].programs[place] for network in measured(results)]


def _timed_masks(results: Results) -> int:
    """How many masked networks were timed."""
    return sum(one.rounds > 0 for one in _masked(results, 0))


def _time_words(ratio: Median, batch: int) -> str:
    interval = f" (95 % interval {fixed(ratio.low, 2)} to {fixed(ratio.high, 2)})" if np.isfinite(ratio.low) else ""
    return f"{fixed(ratio.value, 2)} times the dense network’s time for {_examples(batch)}{interval}"


def _batches(results: Results) -> list[int]:
    return [program.batch for program in results.costs[measured(results)[0].key].forms["dense"].programs]


def _devices(results: Results) -> list[str]:
    return list(dict.fromkeys(results.costs[network.key].device for network in measured(results)))


def _protocol(results: Results) -> list[str]:
    """Sentences on how it was measured."""
    sentences = [
        "Bytes: the arrays of the file that jaxprune export writes, without its header of names and shapes; those of "
        "a masked network, where that is smaller, as one bit for each number and the kept ones (--format packed).",
        "Biases and other parameters that happen to be 0 are not among the non-zeros.",
        "FLOPs (XLA): its analysis of the forward program for one example, with convolutions as XLA’s own; elementwise "
        "arithmetic counts, products with padding do not.",
        "Memory: arguments, result and temporary values of that program, by the compiler’s account.",
    ]
    if is_timed(results):
        rounds = [one.rounds for place in range(len(_batches(results))) for one in _masked(results, place)]
        many = f"{min(rounds)}" if min(rounds) == max(rounds) else f"{min(rounds)} to {max(rounds)}"
        sentences.append(
            "Times: the forward program, dense, masked and compact in turns in one process; medians of "
            f"{many} rounds with 95 % intervals of order statistics, and the ratio taken round by round. Networks were "
            "timed one after the other: compare them by the ratio, as a busy machine changes its pace."
        )
        if min(rounds) < MINIMUM_ROUNDS:
            sentences.append(f"Below {MINIMUM_ROUNDS} rounds there is no interval: raise costs.seconds.")
    if len(results.seeds) > 1:
        sentences.append("Sizes, FLOPs and times are those of the first seed; accuracy and harm are means over seeds.")
    if has_compact(results):
        sentences.append("Shares of FLOPs in the sentences are those of products, as under “What was removed”.")
    return sentences


def _table(results: Results, networks: Sequence[Network]) -> Table:
    """Sizes and speed, the dense network first."""
    dense = results.costs[_described(results).key].forms["dense"]
    units = [prefix_of(value) for value in _values(dense, is_timed(results))]
    rows: list[_Row] = [("0 %", results.dense.title, "dense", *_cells(dense, results, units))]
    for network in sorted(networks, key=lambda network: network.sparsity):
        for name, form in results.costs[network.key].forms.items():
            if name != "dense":
                rows.append((percent(network.sparsity), network.title, name, *_cells(form, results, units)))
    names, above = _headings(results, units)
    titles = dict.fromkeys(network.title for network in networks)
    named = len(titles) > 1
    return Table(
        ("pruned", *(["network"] if named else []), "form", *names),
        tuple(row if named else (row[0], *row[2:]) for row in rows),
        f"Size, work and speed{'' if named else f' ({next(iter(titles))})'}, with intervals; × dense: time relative to "
        "the dense network’s in the same rounds.",
        words=tuple(range(2 + named)),
        above=(("", 2 + named), *above),
        ruled=rules(rows),
    )


def _headings(results: Results, units: Sequence[tuple[float, str]]) -> tuple[list[str], list[tuple[str, int]]]:
    """The headings of the numbers, and those above them with their columns."""
    prefixes = iter([prefix for _, prefix in units])
    names = [f"{name}, {next(prefixes)}{unit}".removesuffix(", ") for name, unit in _SIZES.items()]
    above = [("size and work", len(names))]
    for place, batch in enumerate(_batches(results)):
        own = [f"memory, {next(prefixes)}B"]
        if is_timed(results):
            speed = "examples/s, " if place else "latency, s"
            word, _, unit = speed.partition(", ")
            own += [f"{word}, {next(prefixes)}{unit}".removesuffix(", "), "× dense time" if place else "× dense"]
        names += own
        above.append((_examples(batch), len(own)))
    return names, above


def _values(form: FormCosts, timed: bool) -> list[float]:
    """The numbers of a row that have a prefix."""
    values: list[float] = [form.parameters, form.nonzeros, form.bytes, form.flops]
    for place, program in enumerate(form.programs):
        values.append(program.memory)
        if timed:
            values.append((program.throughput if place else program.seconds).value)
    return values


def _cells(form: FormCosts, results: Results, units: Sequence[tuple[float, str]]) -> list[str | Cell]:
    factors = iter([factor for factor, _ in units])
    sizes = (form.parameters, form.nonzeros, form.bytes, form.flops)
    cells: list[str | Cell] = [significant(value / next(factors)) for value in sizes]
    for place, program in enumerate(form.programs):
        cells.append(significant(program.memory / next(factors)))
        if is_timed(results):
            cells.append(_scaled(program.throughput if place else program.seconds, next(factors)))
            cells.append(_ratio(program.ratio))
    return cells


def _scaled(median: Median, factor: float) -> Cell:
    value, low, high = (significant(part / factor) for part in median)
    return Cell(value, f"({low}–{high})" if np.isfinite(median.low) else "")


def _ratio(ratio: Median) -> Cell:
    """A relative time; blue where it is clearly below 1."""
    value, low, high = (fixed(part, 2) for part in ratio)
    if ratio == (1, 1, 1):
        return Cell("1")
    mark = "better" if ratio.high < 1 and ratio.value < 0.95 else ""
    return Cell(value, f"({low}–{high})" if np.isfinite(ratio.low) else "", mark=mark)


def _front_table(results: Results) -> Table:
    """The networks of the Pareto fronts, with their groups."""
    fronts = [front(by_bytes(results))]
    if is_timed(results) and has_compact(results):
        fronts.append(front(by_time(results)))
    rows = [_front_cells(results, point) for points in fronts for point in points]
    return Table(
        ("front by", "pruned", "network", "form", "cost", "accuracy, %", "worst group, %", "", "largest R, nats", ""),
        tuple(rows),
        "The networks on the front: no other one costs less and is at least as accurate. Costs within one per mille "
        "are equal.",
        words=(0, 1, 2, 3, 7, 9),
        ruled=rules(rows),
    )


def _front_cells(results: Results, point: CostPoint) -> _Row:
    worst, hurt = point.worst_group, point.most_hurt
    harm = (amount(point.largest_harm, "excessive_loss").removesuffix(" nats"), results.group_names[hurt])
    cost = scaled(point.cost.value, "B") if point.kind == "size" else f"{fixed(point.cost.value, 2)} × dense"
    return (
        point.kind, percent(point.network.sparsity), point.network.title, point.form, cost,
        fixed(100 * point.accuracy, 1), fixed(100 * point.groups[worst], 1), results.group_names[worst],
        *((NONE, "") if point.form == "dense" else harm),
    )  # fmt: skip


def _described(results: Results) -> Network:
    """The network of the sentences: that at the answered sparsity if measured."""
    sparsity, networks = headline(results, results.baseline).sparsity, _alike(results)
    return next((network for network in networks if network.sparsity == sparsity), networks[-1])


def _alike(results: Results) -> list[Network]:
    """The networks of one kind at every sparsity.

    They are not retrained and compact, if possible.
    """
    networks = [network for network in measured(results) if network.role == "compressed"] or measured(results)
    compact = (network for network in networks if "compact" in results.costs[network.key].forms)
    first = next(compact, networks[0])
    return sorted((one for one in networks if one.name == first.name), key=lambda network: network.sparsity)


def _examples(batch: int) -> str:
    return "one example" if batch == 1 else plural(batch, "example")

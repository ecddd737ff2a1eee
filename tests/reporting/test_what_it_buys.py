"""The section on what pruning buys: its sentences, tables and figure say what was measured."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from comparisons import LIFT, compared_results, trial
from made_costs import costs_of, with_costs
from made_results import made_results, with_tests
from sections import rows_of, texts_of, value_of

from jaxprune.reporting.cost_points import by_bytes, by_time, front
from jaxprune.reporting.page import Folded
from jaxprune.reporting.reports import COMPARE, RUN, sections_of
from jaxprune.reporting.sections import what_it_buys
from jaxprune.reporting.sections.what_it_buys import section

MADE = made_results(harm=(0.1, 0.5), theory=False)


def with_masked(results, ratios):
    """Costs whose masked networks took these shares of the dense time, in the order of the networks."""
    keys = [network.key for network in results.reported.values() if network.sparsity > 0]
    costs = {key: costs_of(0.5, masked=ratio) for key, ratio in zip(keys, ratios, strict=False)}
    return replace(results, costs=costs)


def test_older_results_have_no_such_section():
    assert section(MADE) is None
    titles = [part.title for part in sections_of(with_costs(MADE), RUN)]
    assert titles.index("What it buys") == titles.index("What helps") + 1
    assert "What it buys" in [
        part.title for part in sections_of(with_costs(compared_results([trial("m", LIFT)])), COMPARE)
    ]


def test_that_masks_bring_no_speed_is_said_with_the_measured_interval():
    """Of six networks or more over them: here the extremes of six hold the median."""
    made = with_masked(MADE, [0.97, 0.98, 1.0, 1.02, 1.03, 1.04])
    text = texts_of(section(made))
    assert "1.01 times" in text
    assert "interval 0.97 to 1.04" in text
    assert "prune.structure = channels" in text
    few = texts_of(section(with_masked(made_results(theory=False, sparsities=(0.9,)), [1.03, 1.0, 1.0])))
    assert "1.03 times" in few
    assert "interval 1.01 to 1.05" in few, "that of the network itself, 2 % above and below"


def test_what_was_not_timed_is_not_claimed():
    untimed = section(with_costs(MADE, timed=False))
    text = texts_of(untimed)
    assert "not measured" in text
    assert "times the dense" not in text
    assert not any("×" in heading for table in untimed.tables for heading in table.headings)
    [figure] = untimed.figures
    assert len(figure.draw().axes) == 2, "size alone, accuracy above harm"


def test_the_speed_of_compact_networks_is_said():
    """At 50 % it is 1 - 0.7 * 5/9 of the dense time."""
    text = texts_of(section(with_costs(MADE, compact=0.3)))
    assert "0.61 times" in text
    assert "10 % of the FLOPs took 0.30 times as long (0.29 to 0.31)" in text
    assert "What brings speed is the removal of whole channels" in text
    assert "prune.structure" not in text


@pytest.mark.parametrize(
    ("ratios", "claim", "slow"), [((1.2, 0.6), "at some sparsities", True), ((1.01, 1.3), "no clear speed", True),
                                  ((1.01, 0.99), "no clear speed", False)],
)  # fmt: skip
def test_compact_networks_that_are_not_faster_are_not_called_so(ratios, claim, slow):
    keys = [f"pruned {sparsity:g}" for sparsity in MADE.sparsities]
    costs = {key: costs_of(float(key[7:]), compact=ratio) for key, ratio in zip(keys, ratios, strict=True)}
    text = texts_of(section(replace(MADE, costs=costs)))
    assert claim in text
    assert "What brings speed is" not in text
    assert ("round_to=auto" in text) == slow


def sizes_table(results):
    return section(results).tables[1]


def test_the_table_has_each_form_beside_the_dense_network():
    rows = rows_of(sizes_table(with_costs(MADE, compact=0.3)))
    assert [(row["pruned"], row["form"]) for row in rows] == [
        ("0 %", "dense"), ("50 %", "masked"), ("50 %", "compact"), ("90 %", "masked"), ("90 %", "compact"),
    ]  # fmt: skip
    dense, *_, masked, compact = rows
    assert value_of(dense["parameters, k"]) == value_of(masked["parameters, k"]) == 1
    assert value_of(masked["non-zeros, k"]) == value_of(compact["parameters, k"]) == 0.1
    assert value_of(masked["bytes, kB"]) == pytest.approx(0.125 + 0.4)
    assert value_of(compact["bytes, kB"]) == pytest.approx(0.4)
    assert value_of(masked["FLOPs (XLA), k"]) == value_of(dense["FLOPs (XLA), k"]) == 2
    assert value_of(compact["latency, ms"]) == value_of(compact["× dense"]) == pytest.approx(0.3)
    assert value_of(compact["examples/s, k"]) == pytest.approx(6.4 / 0.3, rel=0.01)
    assert (compact["× dense"].spread, compact["× dense"].mark, masked["× dense"].mark) == ("(0.29–0.31)", "better", "")
    assert dense["× dense"].mean == "1"


def test_every_network_is_in_a_table_that_is_folded():
    [folded] = [part for part in section(with_costs(MADE)).contents if isinstance(part, Folded)]
    names = [row["network"] for row in rows_of(folded.contents[0])]
    assert names == ["Dense", *["Pruned, not retrained", "No mitigation", "Fair after pruning"] * 2]


def test_the_front_is_what_no_other_network_beats():
    made = with_costs(MADE, compact=0.3)
    points = by_bytes(made)
    assert len(points) == 1 + 6
    best = front(points)
    for point in points:
        beaten = [
            o for o in points
            if o.cost.value <= point.cost.value and o.accuracy >= point.accuracy
            and (o.cost.value < point.cost.value or o.accuracy > point.accuracy)
        ]  # fmt: skip
        assert (point in best) == (not beaten)
    assert [point.cost.value for point in best] == sorted(point.cost.value for point in best)
    assert best[-1].form == "dense"


def test_costs_within_one_per_mille_are_equal():
    """The more accurate stays, whichever is a few bytes smaller."""
    dense, *points = by_bytes(with_costs(MADE))

    def front_of(*pairs):
        made = [points[0]._replace(cost=dense.cost._replace(value=cost), accuracy=at) for cost, at in pairs]
        return [(point.cost.value, point.accuracy) for point in front(made)]

    assert front_of((33118, 0.565), (33122, 0.722)) == [(33122, 0.722)]
    assert front_of((33118, 0.722), (33122, 0.565)) == [(33118, 0.722)]
    assert front_of((33000, 0.565), (33122, 0.722)) == [(33000, 0.565), (33122, 0.722)]
    chain = [(1000 + 0.8 * i, 0.5 + 0.1 * i) for i in range(3)]
    assert front_of(*chain) == [chain[2]], "each ties with the next"


def test_nothing_is_drawn_where_no_network_works():
    made = with_costs(MADE)
    for network in made.reported.values():
        if made.tests(network.name, network.sparsity) is not None:
            working = made.audit(network, "test").tests.working
            broken = working._replace(works=np.zeros(5, bool))
            made = with_tests(made, network.name, network.sparsity, working=broken)
    kept = replace(made, costs={"pruned 0.9": costs_of(0.9)})
    assert [point.form for point in by_bytes(kept)] == ["dense"]
    assert not section(kept).figures
    assert [len(table.rows) for table in section(kept).tables] == [2], "sizes alone, no front"


def test_the_legend_names_what_occurs():
    def labels(results):
        [figure] = section(results).figures
        [legend] = figure.draw().legends
        return [text.get_text() for text in legend.get_texts()]

    both, masked = labels(with_costs(MADE, compact=0.3)), labels(with_costs(MADE))
    assert {"masked", "compact"} <= set(both)
    assert not {"masked", "compact"} & set(masked)


@pytest.mark.parametrize("compact", [None, 0.3])
def test_the_narrow_figure_has_its_panels_below_each_other(compact):
    [figure] = section(with_costs(MADE, compact=compact)).figures
    drawing = figure.narrow()
    drawing.draw_without_rendering()
    boxes = [axes.get_position() for axes in drawing.axes]
    assert len(boxes) == 4
    assert all(upper.y0 > lower.y1 for upper, lower in pairwise(boxes))
    assert drawing.get_size_inches()[0] < figure.draw().get_size_inches()[0]


def test_the_section_opens_with_what_was_pruned():
    def opening(results):
        return section(results).texts[0]

    assert opening(with_costs(MADE, compact=0.3)).startswith("What brings speed")
    assert opening(with_costs(MADE)).startswith("Masks bring no speed")


def test_masked_networks_are_on_no_front_by_time():
    """Even if one was, by chance, a little faster."""
    made = with_masked(MADE, [0.97] * 6)
    assert [point.form for point in front(by_time(made))] == ["dense"]
    assert len(by_time(made)) == 1 + 6
    compact = front(by_time(with_costs(MADE, compact=0.3)))
    assert {point.form for point in compact} == {"compact", "dense"}


def test_a_point_has_the_worst_group_and_the_one_hurt_most():
    point = next(p for p in by_bytes(with_costs(MADE)) if p.network.key == "pruned 0.9")
    audit = MADE.audit(point.network, "test")
    assert point.most_hurt == 1
    assert point.largest_harm == pytest.approx(audit.impact.excessive_loss.mean(0).max())
    assert point.worst_group == 1
    empty = point._replace(groups=np.array([np.nan, 0.5]), harm=np.array([0.2, np.nan]))
    assert (empty.worst_group, empty.most_hurt) == (1, 0)


def test_the_figure_has_the_front_and_every_group(capsys):
    made = with_costs(MADE, compact=0.3)
    [figure] = section(made).figures
    drawing = figure.draw()
    sizes_above, times_above, sizes_below, times_below = drawing.axes
    best = front(by_time(made))
    lines = {
        tuple(line.get_xdata()): line
        for line in times_above.lines
        if line.get_color() == "black" and len(line.get_xdata()) > 1
    }
    assert list(lines) == [tuple(point.cost.value for point in best)]
    groups = [line for line in times_below.lines if len(line.get_xdata()) == len(best) and line.get_marker() == "o"]
    np.testing.assert_allclose(
        sorted(tuple(line.get_ydata()) for line in groups), sorted(tuple(p.harm[g] for p in best) for g in range(2))
    )
    assert sizes_above.get_xlim()[0] == 0
    assert sizes_below.get_xlabel()


def test_networks_that_no_longer_work_are_left_out():
    made = with_costs(MADE)
    network = made.network("pruned", 0.9)
    working = made.audit(network, "test").tests.working
    broken = with_tests(made, "pruned", 0.9, working=working._replace(works=np.zeros(5, bool)))
    assert "pruned 0.9" not in {point.network.key for point in by_bytes(broken)}
    assert "pruned 0.9" in {point.network.key for point in by_bytes(made)}


def test_too_few_rounds_say_what_to_do():
    costs = costs_of(0.9)
    masked = costs.forms["masked"]
    few = replace(masked, programs=tuple(program._replace(rounds=3) for program in masked.programs))
    made = replace(MADE, costs={"pruned 0.9": replace(costs, forms=dict(costs.forms) | {"masked": few})})
    assert "raise costs.seconds" in texts_of(section(made))
    assert "raise costs.seconds" not in texts_of(section(with_costs(MADE)))


def test_the_network_described_is_at_the_answered_sparsity():
    made = with_costs(MADE, compact=0.3)
    assert "with 90 % pruned" in " ".join(what_it_buys.storage(made))

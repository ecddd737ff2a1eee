"""Costs in the results: written, read back, and as rows of a table."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from made_costs import costs_of, with_costs
from made_results import made_results

from jaxprune.results import COLUMNS, TABLES
from jaxprune.results.costs import costs_from_json, costs_to_json
from jaxprune.results.store import from_json, load, save, to_json
from jaxprune.results.tables import write_csv


def plain(costs):
    return json.loads(json.dumps(costs_to_json(costs), allow_nan=False))


@pytest.mark.parametrize("options", [{}, {"compact": 0.4}, {"timed": False}], ids=str)
def test_costs_are_read_back(options):
    costs = costs_of(0.9, **options)
    again = costs_from_json(plain(costs))
    assert again.device == costs.device
    assert plain(again) == plain(costs)
    assert again.forms["masked"].large.batch == 128
    assert again.timed == options.get("timed", True)
    assert again.best == ("compact" if "compact" in options else "masked")
    np.testing.assert_equal(again.forms["masked"].single.ratio, costs.forms["masked"].single.ratio)


def test_results_hold_them_and_older_ones_do_without(tmp_path):
    made = with_costs(made_results(theory=False), compact=0.5)
    save(tmp_path / "results.json", made)
    again = load(tmp_path)
    assert {key: plain(costs) for key, costs in again.costs.items()} == {k: plain(c) for k, c in made.costs.items()}
    older = to_json(made)
    del older["costs"]
    assert from_json(older).costs == {}
    assert again.by(again.grouping).costs.keys() == made.costs.keys()


def test_a_row_for_each_form_and_batch_size(tmp_path):
    made = with_costs(made_results(theory=False, sparsities=(0.9,)), compact=0.25)
    rows = list(TABLES["costs"](made))
    assert len(rows) == 3 * 3 * 2, "networks, forms, batch sizes"
    [row] = [r for r in rows if (r["network"], r["form"], r["batch"]) == ("none", "compact", 128)]
    assert row["ratio"] == pytest.approx(0.25)
    assert row["throughput"] == pytest.approx(128 / row["seconds"])
    assert row["throughput_low"] == pytest.approx(128 / row["seconds_high"])
    assert row["throughput_low"] < row["throughput"] < row["throughput_high"]
    write_csv(tmp_path / "costs.csv", rows)
    read = list(csv.DictReader(io.StringIO((tmp_path / "costs.csv").read_text())))
    assert [r["network"] for r in read] == [r["network"] for r in rows]


def test_every_column_is_described():
    rows = list(TABLES["costs"](with_costs(made_results(theory=False))))
    named = {name.removesuffix("_low").removesuffix("_high") for name in rows[0]}
    assert named == set(COLUMNS["costs"])


def test_without_costs_there_are_no_rows():
    assert list(TABLES["costs"](replace(made_results(theory=False), costs={}))) == []

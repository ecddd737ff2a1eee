"""The tidy tables: their columns, their values, and the CSV files."""

import csv

import numpy as np
import pytest
from comparisons import LIFT, NAIVE, SIZES, comparison, diverged, noisy, trial
from made_results import made_results, made_theory, with_further, with_nan, with_theory

from jaxprune.quantities import quantity_interval
from jaxprune.results import COLUMNS, TABLES, Results
from jaxprune.results.comparison import MEASURES
from jaxprune.results.figures import figures
from jaxprune.results.tables import write_csv


def rows_of(table: str, results: Results, **equal) -> list[dict]:
    """The rows of a table with these values."""
    rows = list(TABLES[table](results))
    return [row for row in rows if all(row[name] == value for name, value in equal.items())]


def columns_of(table: str) -> list[str]:
    """The columns as they are documented; those with an interval have two more."""
    names = []
    for name, text in COLUMNS[table].items():
        names += [name, f"{name}_low", f"{name}_high"] if "with _low and _high" in text else [name]
    return names


def compared() -> Results:
    tried = [trial("a", noisy(0.05, 0.01), {"rate": 0.1}), trial("a", NAIVE, {"rate": 0.2}, chosen=False)]
    return comparison([*tried, trial("b", LIFT), diverged("c", {"rate": 9.0})]).results


@pytest.mark.parametrize("results", [with_further(made_results()), made_theory(), compared()], ids=str)
@pytest.mark.parametrize("table", TABLES)
def test_columns_are_the_documented_ones(table, results, tmp_path) -> None:
    rows = rows_of(table, results)
    assert all(list(row) == columns_of(table) for row in rows)
    path = tmp_path / f"{table}.csv"
    assert write_csv(path, rows) == bool(rows) == path.exists()
    if rows:
        with path.open(newline="") as file:
            written = list(csv.reader(file))
        assert written[0] == columns_of(table)
        assert len(written) == len(rows) + 1


def test_every_table_is_documented_and_has_rows_somewhere() -> None:
    assert list(COLUMNS) == list(TABLES)
    assert all(rows_of(table, made_theory()) for table in TABLES if table != "methods")
    assert rows_of("methods", compared())


def test_groups_have_every_figure_of_every_seed() -> None:
    made = with_further(made_results(harm=(0.1, 0.5), seeds=2))
    rows = rows_of("groups", made)
    assert len(rows) == 7 * 2 * (2 + 3), "networks, seeds, groups of both groupings"
    audit = made.audit(made.network("none", 0.9), "test")
    [row] = rows_of("groups", made, network="none", sparsity=0.9, seed=1, group="town 1")
    assert (row["grouping"], row["role"], row["split"], row["size"]) == ("town", "retrained", "test", 100)
    assert (row["values"], row["chosen"]) == ("", True)
    assert row["loss"] == audit.metrics.loss[1, 1]
    assert row["accuracy"] == audit.metrics.accuracy[1, 1]
    for name in ("excessive_loss", "accuracy_drop", "excess_accuracy_gap"):
        assert row[name] == getattr(audit.impact, name)[1, 1]
    assert row["excessive_loss_own_dense"] == row["excessive_loss"]
    assert row["excessive_loss_se"] == row["accuracy_drop_se"] == 0.01 / 1.96
    dense = [(r["grouping"], r["group"]) for r in rows_of("groups", made, seed=0, network="dense")]
    assert dense == [("town", "town 0"), ("town", "town 1"), ("sex<>", "f"), ("sex<>", "m"), ("sex<>", "x")]


def test_candidates_and_splits_are_in_the_tables() -> None:
    made = compared()
    [row] = rows_of("summary", made, network="a", values="rate=0.2", split="validation")
    assert not row["chosen"]
    assert row["accuracy"] == pytest.approx(np.mean(NAIVE @ SIZES / 1000))
    assert {r["split"] for r in rows_of("groups", made)} == {"train", "validation", "test"}


def test_the_summary_has_the_means_of_the_figures_with_their_intervals() -> None:
    made = made_results()
    rows = rows_of("summary", made)
    assert len(rows) == 1 + 2 * 3
    found = figures(made, made.network("fair_after", 0.5), "test")
    [row] = rows_of("summary", made, network="fair_after", sparsity=0.5)
    assert (row["seeds"], row["worst_group"], row["worst_group_in_seeds"]) == (5, "town 1", 5)
    assert (row["trouble"], row["empty_layers"]) == ("", "")
    for name, values in found.items():
        interval = quantity_interval(made, values, name)
        assert (row[name], row[f"{name}_low"], row[f"{name}_high"]) == tuple(map(float, interval))
        assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row[name] == pytest.approx(values.mean())
    few = rows_of("summary", made_results(seeds=3))[0]
    assert np.isnan([few["accuracy_low"], few["accuracy_high"]]).all()
    assert [row["grouping"] for row in rows_of("summary", with_further(made))] == ["town"] * 7 + ["sex<>"] * 7


def test_a_network_that_diverged_has_one_row_with_its_trouble() -> None:
    [row] = rows_of("summary", compared(), network="c")
    assert row["trouble"] == "the loss became NaN"
    assert np.isnan([row[name] for name in ("accuracy", "loss_low", "max_excess_accuracy_gap_high")]).all()
    assert (row["worst_group"], row["worst_group_in_seeds"]) == ("", 0)
    assert rows_of("groups", compared(), network="c") == []


def test_methods_have_every_difference_from_the_baseline() -> None:
    made = compared()
    c = comparison([])
    c = type(c)(made)
    rows = rows_of("methods", made)
    assert len(rows) == 2 * 3 * len(MEASURES), "methods, splits, measures; the diverged one and the candidate have none"
    for row in rows:
        difference = c.difference(row["network"], 0.9, row["split"], row["measure"])
        scale = MEASURES[row["measure"]].scale
        assert row["baseline"] == "naive"
        np.testing.assert_allclose(row["change"], difference.change.mean / scale)
        np.testing.assert_equal(row["p"], difference.p)
        verdict = c.verdicts.get((0.9, row["network"], row["measure"])) if row["split"] == "test" else None
        change = verdict.change if verdict else difference.change
        np.testing.assert_allclose((row["low"], row["high"]), (change.low / scale, change.high / scale))
        np.testing.assert_equal(row["p_adjusted"], verdict.adjusted_p if verdict else np.nan)
    [row] = rows_of("methods", made, network="b", split="train", measure="worst_group_accuracy")
    assert row["change"] == pytest.approx(0.12)
    [row] = rows_of("methods", made, network="a", split="test", measure="accuracy")
    assert row["values"] == "rate=0.1"
    assert row["change"] == pytest.approx(np.mean((noisy(0.05, 0.01) - NAIVE) @ SIZES / 1000))


def test_every_test_is_a_row() -> None:
    made = made_results(harm=(0.1, 0.5, 0.2))
    rows = rows_of("harm", made)
    assert len(rows) == 3 * 2 * 3 * 3, "networks, sparsities, measures, groups"
    clear = {
        (row["measure"], row["group"]) for row in rows_of("harm", made, network="pruned", sparsity=0.9, clear=True)
    }
    assert ("loss", "town 1") in clear
    tests = made.tests("none", 0.5)
    assert tests is not None
    [row] = rows_of("harm", made, network="none", sparsity=0.5, measure="accuracy", group="town 2")
    for name in ("people", "change", "excess", "low", "high", "smallest_visible"):
        assert row[name] == getattr(tests.harm["accuracy"], name)[2]
    assert row["p_adjusted"] == tests.harm["accuracy"].p[2]


def test_the_theory_has_a_row_for_each_seed_group_sparsity_and_quantity() -> None:
    made = made_theory()
    assert made.theory is not None
    assert made.measures is not None
    made = with_theory(made, eigenvalue=with_nan(made.theory.eigenvalue * 1e-12, 2))
    assert made.theory is not None
    rows = rows_of("theory", made)
    keys = [(row["seed"], row["group"], row["sparsity"], row["quantity"]) for row in rows]
    assert len(set(keys)) == len(keys)
    found = {key: row["value"] for key, row in zip(keys, rows, strict=True)}
    assert found[1, "town 3", 0.0, "eigenvalue"] == pytest.approx(made.theory.eigenvalue[1, 3], rel=1e-8)
    assert np.isnan(found[1, "town 2", 0.0, "eigenvalue"])
    assert found[0, "town 1", 0.9, "bound"] == made.theory.bound[1, 0, 1]
    assert found[1, "town 0", 0.9, "distance"] == made.theory.distance[1, 1]
    norm = made.measures["pruned"]["gradient_norm"][0][1][3]
    assert found[1, "town 3", 0.5, "pruned.gradient_norm"] == norm
    assert found[0, "town 0", 0.0, "spectra.smallest.value"] == -1
    assert found[0, "town 0", 0.0, "outputs.statements.multiclass.right"] == 3
    assert not [key for key in keys if key[3].startswith(("density", "cosines"))]


def test_csv_files_have_nine_digits_and_no_formula(tmp_path) -> None:
    rows = [{"a": 1 / 3, "b": np.nan, "c": "=1+1", "d": np.float32(np.inf), "e": "x, y", "f": True, "g": 2, "h": 1e-12}]
    write_csv(tmp_path / "made.csv", rows)
    assert (tmp_path / "made.csv").read_text() == 'a,b,c,d,e,f,g,h\n0.333333333,,\'=1+1,,"x, y",True,2,1e-12\n'

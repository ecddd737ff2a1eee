"""The same networks by any groups: what is used again, what is audited, and where the reports lie."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from jaxprune import config, data
from jaxprune.cli import main
from jaxprune.errors import UserError
from jaxprune.files import safe_name
from jaxprune.pipeline.build import resolve
from jaxprune.pipeline.publishing import KINDS, place_of
from jaxprune.results import load

SMALL = {"seeds": 2, "model.hidden": (4,), "prune.sparsities": (0.5,)}


def test_the_primary_grouping_comes_first_whatever_the_order() -> None:
    first = resolve(config.load(None, SMALL | {"audit.groups": ("sex", "race*sex")}))
    assert first.dataset.group_by == "sex"
    assert first.settings.audit.groups == ("sex", "race*sex")
    given = resolve(config.load(None, SMALL | {"audit.groups": ("sex", "sex * race"), "data.group": "race*sex"}))
    assert [grouping.name for grouping in given.groupings] == ["race*sex", "sex"]
    assert resolve(config.load(None, SMALL | {"audit.groups": ("race",)})).settings.audit.groups == ()


@pytest.mark.parametrize(
    ("groups", "parts"),
    [
        (("race", "sxe"), ["audit.groups", "'sxe'", "'sex'"]),
        (("rcae",), ["audit.groups", "'rcae'", "'race'"]),
        (("sex", "sex"), ["audit.groups", "'sex' is given twice"]),
        (("sex*race", "race * sex"), ["audit.groups", "has the groups of 'sex*race'"]),
        (("race", "sex*sex"), ["audit.groups", "names an attribute twice"]),
    ],
)
def test_groupings_are_checked_before_any_work(groups, parts) -> None:
    with pytest.raises(UserError) as error:
        resolve(config.load(None, SMALL | {"audit.groups": groups}))
    for part in parts:
        assert part in str(error.value)


def test_arrays_have_their_own_groups_alone(people) -> None:
    assert people.grouping("group").group_names == ("big", "small", "rare")
    with pytest.raises(UserError, match="'town'"):
        people.grouping("town")


@pytest.fixture
def towns(tmp_path) -> str:
    """People with a town and a trade; the inputs tell both; nobody of town 2 has trade 1, and few have trade 3."""
    n = 400
    town = np.arange(n) % 3
    trade = np.where(np.arange(n) % 50 == 0, 3, np.where(town == 2, np.arange(n) % 2 * 2, np.arange(n) // 3 % 3))
    noise = np.random.default_rng(2).normal(size=(n, 2))
    y = (noise[:, 0] + 0.5 * town > 0.5).astype(int)
    x = np.stack([town, trade, *noise.T], 1).astype(np.float32)
    np.savez(tmp_path / "towns.npz", x=x, y=y, town=town, trade=trade)
    return str(tmp_path / "towns.npz")


@pytest.mark.parametrize("option", [{}, {"balance": True}, {"imbalance": 4.0}, {"min_group_size": 20}])
def test_everybody_keeps_their_attributes_however_the_examples_were_chosen(towns, option) -> None:
    dataset = data.load(towns, group="town", **option)
    for spec, columns in (("trade", (1,)), ("trade*town", (1, 0))):
        grouping = dataset.grouping(spec)
        for split in data.SPLITS:
            x = np.asarray(dataset.split(split).x)
            assert len(grouping.codes[split]) == len(x)
            # Inputs are town and trade, scaled: rows of one group have one value of each, in the order of the codes.
            for g, name in enumerate(grouping.group_names):
                mine = x[grouping.codes[split] == g][:, columns]
                assert len(np.unique(mine, axis=0)) <= 1, (spec, split, name)
        assert len(np.unique(np.concatenate(list(grouping.codes.values())))) == grouping.num_groups
    crossed = dataset.grouping("town*trade")
    assert "2, 1" not in crossed.group_names
    assert "nobody is in them" in crossed.notes[0]


def small_run(name: str, out: Path, *more: str) -> list[str]:
    return [
        "run", "--data.name", name, "--out", str(out), "--seeds", "2", "--model.hidden", "4", "--train.epochs", "1",
        "--train.batch_size", "64", "--retrain.epochs", "1", "--prune.sparsities", "0.8", "--retrain.methods",
        "none", *more,
    ]  # fmt: skip


def stages(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "stages").iterdir()}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_another_grouping_trains_nothing_and_overwrites_nothing(towns, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(small_run(towns, out, "--data.group", "town")) == 0
    before, report = stages(out), files(out)
    capsys.readouterr()
    assert main(small_run(towns, out, "--data.group", "trade")) == 0
    printed = capsys.readouterr().out
    assert not re.search(r"^ *(re)?training", printed, re.MULTILINE)
    assert "measuring 1" not in printed
    assert str(out / "by-trade" / "report.html") in printed
    after = stages(out)
    assert {name: after[name] for name in before} == before
    assert {name.rpartition("-")[0] for name in set(after) - set(before)} == {"audit", "costs", "theory", "report"}
    assert files(out) == report
    town, trade = load(out), load(out / "by-trade")
    for key, audit in town.audits.items():
        other = trade.audits[key].metrics
        np.testing.assert_allclose(other.overall_loss, audit.metrics.overall_loss, rtol=1e-12)
        assert (other.overall_accuracy == audit.metrics.overall_accuracy).all()
    # The first report is up to date, and the folder of the second leads to the same run.
    for arguments in (small_run(towns, out, "--data.group", "town"), ["run", str(out / "by-trade")]):
        assert main(arguments) == 0
        assert stages(out) == after
    assert files(out) == report
    capsys.readouterr()
    # Other settings by the same groups take the place; the earlier report stays where it was made.
    assert main(small_run(towns, out, "--data.group", "town", "--audit.confidence", "0.9")) == 0
    earlier = next(name for name in before if name.startswith("report-"))
    assert f"the earlier report, of other settings, stays in {out / 'stages' / earlier}" in capsys.readouterr().out
    assert config.load(str(out / "config.toml")).audit.confidence == 0.9


def test_several_groupings_in_one_report(towns, tmp_path) -> None:
    """Every grouping, also one with a group that a split lacks, has its rows, its section and the right figures."""
    out, groups = tmp_path / "out", ["town", "trade", "trade*town"]
    assert main(small_run(towns, out, "--audit.groups", *groups, "--quiet")) == 0
    results = load(out)
    assert results.groupings == groups
    with (out / "groups.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert next(iter(rows[0])) == "grouping"
    dataset = data.load(towns, group="town")
    assert dataset.grouping("trade*town").sizes("test").min() == 0
    for name in groups:
        grouping = dataset.grouping(name)
        for split in ("train", "test"):
            mine = [
                r for r in rows if (r["grouping"], r["split"], r["network"], r["seed"]) == (name, split, "none", "1")
            ]
            assert [r["group"] for r in mine] == list(grouping.group_names)
            assert [int(r["size"]) for r in mine] == grouping.sizes(split).tolist()
            # The groups of every grouping make up the same overall figures.
            right = sum(int(r["size"]) * float(r["accuracy"] or 0) for r in mine)
            overall = results.audit(results.network("none", 0.8), split).metrics.overall_accuracy[1]
            assert right / grouping.sizes(split).sum() == pytest.approx(overall, abs=1e-6)
    with (out / "summary.csv").open() as f:
        assert {row["grouping"] for row in csv.DictReader(f)} == set(groups)
    page = (out / "report.html").read_text()
    for name in groups[1:]:
        assert f">By {name}</h3>" in page
        assert (out / "figures" / f"{safe_name(name)}-harm.svg").is_file()
    small = [text for text in results.further["trade*town"].warnings if "fewer than 30" in text]
    assert len(small) == 3
    assert config.load(str(out / "config.toml")).audit.groups == tuple(groups)


def test_outcomes_are_those_of_the_network_that_is_kept(towns, tmp_path) -> None:
    """Evaluates the dense checkpoint in numpy and compares it with everybody's loss and label."""
    import orbax.checkpoint as ocp

    out = tmp_path / "out"
    assert main(["audit", *small_run(towns, out, "--quiet")[1:]]) == 0
    folder = next((out / "stages").glob("dense-*")) / "network" / "arrays"
    arrays = {k: np.asarray(v, float) for k, v in ocp.StandardCheckpointer().restore(folder.absolute()).items()}
    test = data.load(towns).test
    measured = next((out / "stages").glob("outcomes-dense-*"))
    loss, label = np.load(measured / "test-loss.npy"), np.load(measured / "test-label.npy")
    assert (loss.dtype, label.dtype) == (np.float32, np.uint8)
    for r in range(2):
        weights = {name.removeprefix("params/"): array[r] for name, array in arrays.items() if "params/" in name}
        hidden = np.maximum(test.x @ weights["dense_0/kernel"] + weights["dense_0/bias"], 0)
        logits = hidden @ weights["dense_1/kernel"] + weights["dense_1/bias"]
        expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(test.y)), test.y]
        np.testing.assert_allclose(loss[r], expected, atol=1e-5)
        np.testing.assert_array_equal(label[r], logits.argmax(1))


def test_names_of_files_are_safe_and_stay_apart() -> None:
    names = ["race", "race*sex", "race-sex", "attributes/Male", "attributes-Male", "a b", "../up", "…", "*"]
    safe = [safe_name(name) for name in names]
    assert safe[:2] == ["race", "race-sex"]
    assert len(set(safe)) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", name) for name in safe)


@pytest.mark.parametrize("kind", KINDS)
def test_any_report_keeps_its_place_from_those_by_other_groups(tmp_path, kind) -> None:
    own = tmp_path / KINDS[kind] if KINDS[kind] else tmp_path
    assert place_of(tmp_path, "sex", kind) == own
    own.mkdir(exist_ok=True)
    (own / "results.json").write_text(json.dumps({"settings": {"data": {"group": "race*sex"}}}))
    assert place_of(tmp_path, "race*sex", kind) == own
    assert place_of(tmp_path, "sex * race", kind) == own, "the same groups"
    assert place_of(tmp_path, "sex", "report") == tmp_path / "by-sex"
    assert place_of(tmp_path, "sex", "comparison-report") == tmp_path / "by-sex" / "compare"
    (tmp_path / ".published").write_text("half a mark")
    assert place_of(tmp_path, "sex", "report") == tmp_path / "by-sex"

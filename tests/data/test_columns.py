"""Edges of bins: one list for all columns of numbers, or a list for each."""

from pathlib import Path

import numpy as np
import pytest

from jaxprune import config, data
from jaxprune.cli import main
from jaxprune.data.columns import Bins, read_bins
from jaxprune.errors import UserError
from jaxprune.pipeline.build import load_data


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ((), Bins()),
        ((30, 60.5), Bins((30, 60.5))),
        (("age=30,60", "a/b=c=-0.7"), Bins((), {"age": (30, 60), "a/b=c": (-0.7,)})),
        ((40, "age=30, 6e1"), Bins((40,), {"age": (30, 60)})),
        ({"age": (30, 60), "dose": [0.7]}, Bins((), {"age": (30, 60), "dose": (0.7,)})),
    ],
)
def test_what_bins_may_be(given, read) -> None:
    assert read_bins(given) == read


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("thirty",), "'thirty' is neither a number nor edges of a column; give 30 60 for all columns, or age=30,60"),
        (("=30",), "'=30' is neither"),
        (("age=",), "'age=': the edges are not numbers"),
        (("age=30;60",), "the edges are not numbers"),
        (("age=30", "age=40"), "'age=40' gives edges twice"),
        (("age=60,30",), "age: 60 30 do not rise"),
        ((60, 30), "data.bins: 60 30 do not rise"),
        (("age=nan",), "age: nan are not all finite"),
    ],
)
def test_what_bins_may_not_be(given, said) -> None:
    with pytest.raises(UserError) as caught:
        read_bins(given)
    assert str(caught.value).startswith("data.bins: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def doses(tmp_path) -> str:
    """600 rows with an age, a dose and a score, each of many kinds, and a named sex."""
    rng, path = np.random.default_rng(0), tmp_path / "doses.npz"
    np.savez(
        path, x=rng.normal(size=(600, 2)), y=np.arange(600) % 3, age=rng.integers(0, 90, 600),
        dose=rng.integers(0, 50, 600) / 10, score=rng.integers(0, 100, 600), sex=np.arange(600) % 2,
        sex_names=["f", "m"],
    )  # fmt: skip
    return str(path)


def counts(loaded: data.Dataset) -> list[int]:
    return sum(loaded.group_sizes(split) for split in data.SPLITS).tolist()


def test_each_column_has_edges_of_its_own(doses) -> None:
    with np.load(doses) as raw:
        age, dose, score = raw["age"], raw["dose"], raw["score"]
    loaded = data.load(doses, group="age*dose", bins=("age=30,60", "dose=0.7"))
    assert loaded.group_names == tuple(f"{a}, {d}" for a in ("<30", "30-60", "60+") for d in ("<0.7", "0.7+"))
    cells = np.digitize(age, [30, 60]) * 2 + (dose >= np.float32(0.7))
    assert counts(loaded) == np.bincount(cells).tolist()
    mixed = data.load(doses, group="age*score", bins=(50, "age=30"))
    assert mixed.group_names == ("<30, <50", "<30, 50+", "30+, <50", "30+, 50+")
    assert counts(mixed) == np.bincount((age >= 30) * 2 + (score >= 50)).tolist()
    ages = data.load(doses, group="age", bins={"dose": (1.0,)})
    assert len(ages.group_names) == 9, "the paper's bins of ages, where it has none of its own"
    same = data.load(doses, group="age*dose", bins={"age": (30, 60), "dose": (0.7,)})
    assert same.fingerprint() == loaded.fingerprint()


def test_edges_of_its_own_cut_the_label_too(doses) -> None:
    assert data.load(doses, group="sex", bins=(1.5,)).label_names == ("0", "1", "2")
    assert data.load(doses, group="sex", bins=("y=1.5",)).label_names == ("<1.5", "1.5+")


@pytest.mark.parametrize(
    ("bins", "said"),
    [
        (("aeg=30",), r"data\.bins: unknown column 'aeg'; did you mean 'age'.*known: age, dose, score, sex, y"),
        (
            ("sex=1",),
            r"data\.bins: sex is not a column of numbers: 'f' is none; .*those that can be binned: y, age, dose, score",
        ),
    ],
)
def test_edges_that_would_do_nothing_are_refused(doses, bins, said) -> None:
    with pytest.raises(UserError, match=said):
        data.load(doses, group="age", bins=bins)


def test_a_prepared_set_takes_them_from_the_command_line_and_from_toml(tmp_path, monkeypatch, capsys) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    lines = ["file,age,dose,sex"]
    for i in range(240):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i}.png")
        lines.append(f"{i}.png,{20 + i % 60},{i % 37 / 10},{'fm'[i % 2]}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data.prepare_folder("mine", tmp_path / "photos", tmp_path / "t.csv", tmp_path)
    monkeypatch.chdir(tmp_path)
    flags = ["--data.directory", str(tmp_path), "--data.group", "age*dose", "--data.bins"]
    assert main(["datasets", "show", "mine", *flags, "age=50", "dose=1.8"]) == 0
    assert "50+, 1.8+" in capsys.readouterr().out
    assert main(["datasets", "show", "mine", *flags, "sex=1"]) == 2
    assert "sex is not a column of numbers" in capsys.readouterr().err
    Path("own.toml").write_text(
        f'[data]\nname = "mine"\ndirectory = "{tmp_path}"\ngroup = "age*dose"\nbins = ["age=50", "dose=1.8"]\n'
    )
    loaded = load_data(config.load("own.toml").data)
    assert loaded.group_names == tuple(f"{a}, {d}" for a in ("<50", "50+") for d in ("<1.8", "1.8+"))


def test_edges_that_cut_nothing_are_named_with_the_range(doses) -> None:
    said = (
        r"data\.group: score lies between 0 and 99, where none of the edges 300 600 cuts it; give edges between these"
    )
    with pytest.raises(UserError, match=said):
        data.load(doses, group="score", bins=("score=300,600",))
    with pytest.raises(UserError, match=r"age lies between 0 and 89, where none of the edges -5 cuts it"):
        data.load(doses, group="age*sex", bins=(-5,))

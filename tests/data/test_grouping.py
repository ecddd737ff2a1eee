"""Groups that are left out because few people, or nobody, are in them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxprune import config, data
from jaxprune.cli import main
from jaxprune.errors import UserError
from jaxprune.pipeline.build import resolve


def saved(path: Path, town: np.ndarray, sex: np.ndarray, **more) -> str:
    """Rows whose input is their number, so that each can be told apart."""
    n = len(town)
    np.savez(path, x=np.arange(n)[:, None] * np.ones(2), y=np.arange(n) % 2, town=town, sex=sex,
             town_names=["big", "hamlet", "farm"], **more)  # fmt: skip
    return str(path)


@pytest.fixture
def towns(tmp_path) -> str:
    """Big: 80 women and 80 men; hamlet: 20 women and 2 men, both in train; farm: 10 women."""
    town, sex = np.repeat([0, 0, 1, 1, 2], [80, 80, 20, 2, 10]), np.repeat([0, 1, 0, 1, 0], [80, 80, 20, 2, 10])
    split = np.arange(192) % 10 % 3
    split[180:182] = 0
    words = np.array(["train", "test", "validation"])[split]
    return saved(tmp_path / "towns.npz", town, sex, sex_names=["f", "m"], split=words)


def rows(dataset: data.Dataset, split: str) -> list[int]:
    """The numbers of the rows of a split: the inputs rise with them."""
    raw = np.concatenate([dataset.split(s).x[:, 0] for s in data.SPLITS])
    return np.searchsorted(np.sort(raw), dataset.split(split).x[:, 0]).tolist()


def test_crossed_groups_that_nobody_is_in_are_no_groups(towns) -> None:
    loaded = data.load(towns, group="sex*town", min_group_size=1)
    assert loaded.group_names == ("f, big", "f, hamlet", "f, farm", "m, big")
    assert loaded.notes == (
        "1 of the 6 groups of sex*town is left out: nobody is in them",
        "1 of the 6 groups of sex*town is left out with all their examples (2 of train, 0 of validation, 0 of test), "
        "fewer than 1 being in a split of each: m, hamlet (2)",
    )
    for i, name in enumerate(loaded.group_names):
        assert all(loaded.group_sizes(split)[i] for split in data.SPLITS), name


def test_the_examples_of_other_groups_stay_in_their_splits(towns) -> None:
    whole = data.load(towns, group="sex")
    kept = data.load(towns, group="sex*town", min_group_size=8)
    assert kept.group_names == ("f, big", "m, big")
    for split in data.SPLITS:
        other, labels = kept.split(split), whole.split(split)
        big = np.array(rows(whole, split)) < 160
        np.testing.assert_array_equal(other.y, labels.y[big])
        np.testing.assert_array_equal(other.group, labels.group[big])
        order = np.argsort(labels.x[big, 0])
        assert (np.diff(other.x[order, 0]) > 0).all(), "the same rows, in the same order"
    mean = np.concatenate([kept.train.x, kept.train.x]).mean(0)
    np.testing.assert_allclose(mean, 0, atol=1e-5, err_msg="normalised by what is kept")


@pytest.mark.parametrize("minimum", [0, 1, 5, 20])
def test_all_groups_are_as_large_in_every_split(minimum) -> None:
    if not minimum:
        with pytest.raises(UserError, match=r"\(0 in train, 0 in validation, 1 in test\); set data\.min_group"):
            data.load("adult", group="education*race")
        return
    loaded = data.load("adult", group="education*race", min_group_size=minimum)
    assert min(loaded.group_sizes(split).min() for split in data.SPLITS) >= minimum
    everyone = data.load("adult", group="race")
    names, left_out = loaded.group_names, loaded.notes[-1]
    for split in data.SPLITS:
        gone = len(everyone.split(split).y) - len(loaded.split(split).y)
        assert gone > 0
        assert f"{gone:,} of {split}" in left_out
    assert f"{80 - len(names)} of the 80 groups" in left_out


def test_a_single_attribute_may_lose_groups_too(towns) -> None:
    assert data.load(towns, group="town", min_group_size=5).group_names == ("big", "hamlet")
    with pytest.raises(UserError, match=r"data\.min_group_size: no group of 'town' has 900 .*; the largest has 48;"):
        data.load(towns, group="town", min_group_size=900)


def test_what_is_repeated_or_thinned_is_what_is_kept(towns) -> None:
    loaded = data.load(towns, group="sex*town", min_group_size=8, shares=(3, 1))
    np.testing.assert_array_equal(loaded.group_sizes("train") // loaded.group_sizes("train").min(), [3, 1])
    with pytest.raises(UserError, match=r"data\.upsample_group: unknown group 'm, hamlet'"):
        data.load(towns, group="sex*town", min_group_size=8, upsample_group="m, hamlet", upsample_times=2)


def test_a_streamed_set_leaves_out_what_the_set_in_memory_does(tmp_path) -> None:
    pytest.importorskip("grain")
    (tmp_path / "photos").mkdir()
    lines = ["file,tone,sex"]
    for i in range(120):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{i:03}.png")
        lines.append(f"{i:03}.png,{'abc'[(i % 3) * (i % 17 < 8)]},{'fm'[i % 2 * (i % 3 < 2)]}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    data.prepare_folder("mine", tmp_path / "photos", tmp_path / "t.csv", tmp_path / "sets")
    options = {"directory": str(tmp_path / "sets"), "group": "tone*sex", "min_group_size": 3}
    memory, streamed = data.load("mine", **options), data.load("mine", stream=True, **options)
    assert streamed.streamed
    assert 1 < len(memory.group_names) < 6
    assert (streamed.group_names, streamed.notes) == (memory.group_names, memory.notes)
    assert len(memory.notes) == 2
    for split in data.SPLITS:
        one, other = memory.split(split), streamed.split(split)
        np.testing.assert_array_equal(other.x[np.arange(len(other.y))], one.x)
        np.testing.assert_array_equal(other.y, one.y)
        np.testing.assert_array_equal(other.group, one.group)
    np.testing.assert_array_equal(memory.normalise.shift, streamed.normalise.shift)


def test_it_is_a_setting_and_another_size_is_another_data_set(towns, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    found = [
        resolve(config.load(None, {"data.name": towns, "data.group": "sex*town", "data.min_group_size": n})).fingerprint
        for n in (1, 8)
    ]
    assert found[0] != found[1]
    flags = ["--data.group", "sex*town", "--data.min_group_size"]
    assert main(["datasets", "show", towns, *flags, "8"]) == 0
    assert "warning: 3 of the 6 groups of sex*town are left out with all their examples" in capsys.readouterr().out
    assert main(["datasets", "show", towns, *flags, "-1"]) == 2
    run = ["run", "--data.name", towns, *flags, "8", "--seeds", "1", "--train.epochs", "1", "--retrain.epochs", "0"]
    run += ["--model.hidden", "4", "--prune.sparsities", "0.5", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(run) == 0
    assert "3 of the 6 groups of sex*town are left out" in (tmp_path / "out" / "report.html").read_text()

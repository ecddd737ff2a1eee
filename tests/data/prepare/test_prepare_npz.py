"""Images of an npz file prepared as array_record, so that they stream and can be resized."""

from pathlib import Path

import numpy as np
import pytest

from jaxprune import data
from jaxprune.cli import main
from jaxprune.data.prepare.build import BUILD_VERSION
from jaxprune.errors import UserError


def arrays(n: int = 120, channels: int = 3, **changed) -> dict:
    rng = np.random.default_rng(0)
    shape = (n, 6, 6, channels) if channels else (n, 6, 6)
    found = {
        "x": rng.integers(0, 256, shape, np.uint8),
        "y": np.arange(n) % 3,
        "y_names": ["no", "yes", "maybe"],
        "town": np.arange(n) // 3 % 2,
        "age": 20 + np.arange(n) // 2 % 60,
        "dose": np.arange(n) % 37 / np.float32(10),
        "provenance": "made here",
    }
    return {name: value for name, value in (found | changed).items() if value is not None}


def saved(path: Path, **given) -> Path:
    np.savez(path, **given)
    return path


def by_image(dataset: data.Dataset) -> dict[str, dict[bytes, tuple[str, str]]]:
    """For each split: image -> names of its label and group."""
    found = {}
    for split in data.SPLITS:
        x, y, group, _ = dataset.split(split)
        labels = np.array(dataset.label_names)[y], np.array(dataset.group_names)[group]
        found[split] = {i.tobytes(): pair for i, *pair in zip(x[np.arange(len(y))], *labels, strict=True)}
    return found


@pytest.mark.parametrize("channels", [3, 1, 0])
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_prepared_is_what_the_file_holds(tmp_path, channels, stream) -> None:
    """With splits of its own, it is the very data set, image by image."""
    path = saved(tmp_path / "im.npz", **arrays(channels=channels, split=np.arange(120) % 7 % 3))
    report = data.prepare_npz("mine", path, tmp_path / "sets")
    assert (report.used, report.repeats, report.converted, report.listed) == (120, 0, 0, None)
    for asked in (
        {"group": "town", "label": "y"},
        {"group": "age*town", "bins": (50.0,)},
        {"group": "dose", "bins": (2.0,)},
    ):
        own = data.load(str(path), **({"label": "y"} | asked))
        prepared = data.load("mine", directory=str(tmp_path / "sets"), stream=stream, **({"label": "y"} | asked))
        assert prepared.streamed == stream
        assert (prepared.label_names, prepared.group_names) == (own.label_names, own.group_names)
        assert by_image(prepared) == by_image(own)
        assert prepared.normalise == own.normalise
    assert "made here (prepared from im.npz, SHA-256 " in prepared.provenance


def test_it_can_be_resized_and_copies_are_on_one_side(tmp_path) -> None:
    given = arrays()
    given["x"][60:] = given["x"][:60]
    data.prepare_npz("mine", saved(tmp_path / "im.npz", **given), tmp_path)
    small = data.load("mine", directory=str(tmp_path), image_size=4)
    assert small.train.x.shape[1:] == (4, 4, 3)
    splits = by_image(data.load("mine", directory=str(tmp_path)))
    seen = [set(found) for found in splits.values()]
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert sum(map(len, seen)) == 60
    loaded = data.load("mine", directory=str(tmp_path))
    np.testing.assert_array_equal(np.bincount(loaded.test.y), [8, 8, 8], "a fifth of every label")


def test_copies_across_the_splits_of_the_file_are_left_out_and_named_by_row(tmp_path) -> None:
    given = arrays(split=np.arange(120) % 2)
    given["x"][10] = given["x"][11]
    report = data.prepare_npz("mine", saved(tmp_path / "im.npz", **given), tmp_path)
    assert (report.used, report.crossing) == (119, ["0000010.png"])


def test_codes_without_names_keep_their_numbers(tmp_path) -> None:
    n = np.arange(600)
    given = arrays(600, y_names=None, town=n % 25, age=2001 + n % 2, tall=n % 4 < 2)
    data.prepare_npz("mine", saved(tmp_path / "im.npz", **given), tmp_path)
    assert data.load("mine", directory=str(tmp_path)).label_by == "y"
    for group, names in (("town", tuple(map(str, range(25)))), ("age", ("2001", "2002")), ("tall", ("0", "1"))):
        loaded = data.load("mine", directory=str(tmp_path), group=group)
        assert loaded.label_names == ("0", "1", "2")
        assert loaded.group_names == names


def test_asking_an_npz_file_to_stream_or_resize_names_the_command_and_the_command_works(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(Path("My images.npz"), **arrays())
    for setting in (["--data.stream", "true"], ["--data.image_size", "4"]):
        assert main(["datasets", "show", "My images.npz", *setting]) == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert f"{setting[0][2:]}: My images.npz is read as it is" in printed
        assert "jaxprune datasets prepare my_images --npz 'My images.npz', and give data.name my_images" in printed
    sets = ["--data.directory", "sets"]
    assert main(["datasets", "prepare", "my_images", "--npz", "My images.npz", *sets]) == 0
    assert "120 images in" in capsys.readouterr().out
    assert main(["datasets", "show", "my_images", *sets, "--data.stream", "true", "--data.image_size", "4"]) == 0
    capsys.readouterr()
    assert main(["datasets", "prepare", "my_images", "--npz", "My images.npz", *sets]) == 2
    assert "is prepared already" in capsys.readouterr().err
    (tmp_path / "sets" / "my_images" / BUILD_VERSION / "features.json").unlink()
    assert main(["datasets", "show", "my_images", *sets]) == 2
    assert "jaxprune datasets prepare my_images --npz FILE.npz" in capsys.readouterr().err


def test_a_name_that_is_taken_is_not_proposed(tmp_path) -> None:
    path = saved(tmp_path / "mnist.npz", **arrays())
    with pytest.raises(UserError, match=r"datasets prepare my_mnist --npz .*mnist\.npz"):
        data.load(str(path), image_size=8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (arrays(x=np.zeros((120, 2))), "x is float32 of shape (120, 2); only images of bytes"),
        (arrays(x=np.zeros((120, 4, 4, 2), np.uint8)), "only images of bytes"),
        (arrays(x=np.zeros((120, 4, 4, 3))), "only images of bytes"),
        (arrays(y=None), "no array 'y'"),
        (arrays(copy_of=np.zeros(120, int)), "'copy_of' is the name of a stored feature"),
        (arrays(y_names=["no", "yes"]), "y runs from 0 to 2; the names are for 0 to 1"),
        (arrays(y_names=["no", "yes", "no"]), "has a name twice, 'no'"),
        (arrays(split=np.ones(120, int)), "the train split is empty"),
        (arrays(x=np.zeros((120, 4, 4, 3), np.uint8)), "1 distinct images are too few"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_that_are_not_fit_are_one_line_and_leave_nothing(tmp_path, capsys, given, said) -> None:
    path = saved(tmp_path / "im.npz", **given)
    command = ["datasets", "prepare", "mine", "--npz", str(path), "--data.directory", str(tmp_path / "sets")]
    assert main(command) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    assert said in printed
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--npz", "a.npz", "--directory", "."], "--directory is about a folder of images"),
        (["--npz", "a.npz", "--columns", "a"], "--columns is about a folder of images"),
        (["--npz", "a.npz"], "file a.npz does not exist"),
        ([], "--directory is missing"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, monkeypatch, capsys, flags, said) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["datasets", "prepare", "mine", *flags, "--data.directory", "sets"]) == 2
    assert said in capsys.readouterr().err
